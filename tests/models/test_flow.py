"""Laws of the flows, in float64 and with weights that are not the identity.

Statistical tests: fixed seeds; goodness of fit at a failure rate of 1e-6, means at five standard errors.
"""

import math
from functools import partial

import pytest
import torch
import zuko
from torch import nn
from torch.distributions import AffineTransform, IndependentTransform, Normal

from course_utils import checks, training
from course_utils.checks import CheckFailed
from course_utils.data import images
from course_utils.distributions import GaussianHead, StandardNormal, UnitCube
from course_utils.models import vae
from course_utils.models.autoregressive.baselines import PixelHistograms
from course_utils.models.autoregressive.made import MADE, made_masks
from course_utils.models.autoregressive.transformer import TransformerBlock
from course_utils.models.flow import autoregressive, coupling, elementwise, glow, spline, tarflow
from course_utils.models.flow.flow import Chain, Dequantised, Flow, FlowEncoder, Inverted, change_of_variables, tweedie
from course_utils.nn.masked import MaskedMLP
from course_utils.nn.mlp import MLP


def shaken(module, scale=0.3):
    """The module with weights none of which is special, in double precision."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(scale * torch.randn_like(weight))
    return module.double()


def masked(n, n_context=0, limit=3.0, width=24):
    masks = made_masks(torch.arange(n), (width,), 2)
    return autoregressive.MaskedAffine(MaskedMLP(masks, 2, n_context), limit)


def attention(width):
    return TransformerBlock(width, 2)


def pixels(n_outputs, shape=(1, 4, 4)):
    return nn.Sequential(nn.Conv2d(shape[0], 6, 3, padding=1), nn.ReLU(),
                         nn.Conv2d(6, shape[0] * n_outputs, 3, padding=1))


def points(n=5, d=4):
    return 2 * torch.randn(n, d).double()


def small_images(n=3):
    return torch.rand(n, 1, 4, 4).double()


LAYERS = {
    "affine": (lambda: elementwise.Affine(4), points),
    "logit": (lambda: elementwise.Logit(0.05), small_images),
    "probit": (lambda: elementwise.Probit(), small_images),
    "histogram": (lambda: elementwise.HistogramCDF(torch.randn(1, 4, 4, 5).double().log_softmax(-1)), small_images),
    "affine couplings": (lambda: coupling.affine_flow(4, 3, (8,)), points),
    "spline couplings": (lambda: coupling.spline_flow(4, 3, (8,), bound=3.0), points),
    "spline couplings on the cube": (
        lambda: coupling.cube_flow(torch.randn(1, 4, 4, 3).double().log_softmax(-1), 2, n_bins=4, network=pixels),
        small_images),
    "masked affine": (lambda: masked(4), points),
    "inverse masked affine": (lambda: Inverted(masked(4)), points),
    "chain": (lambda: Chain(masked(4), autoregressive.Reversed(), masked(4)), points),
    "actnorm": (lambda: glow.Actnorm(4), points),
    "1x1 convolution": (lambda: glow.InvertibleConv(4), lambda: glow.squeeze(small_images())),
    "1x1 convolution by LU": (lambda: glow.InvertibleConvLU(4), lambda: glow.squeeze(small_images())),
    "glow": (lambda: glow.glow((1, 4, 4), 2, 2, 6), small_images),
    "tarflow": (lambda: tarflow.tarflow((1, 4, 4), attention, width=8, n_flows=2, n_blocks=1), small_images),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


@each_layer
def test_log_det_is_that_of_the_jacobian(name):
    make, data = LAYERS[name]
    checks.log_det(shaken(make()), data(), what=name)


@each_layer
def test_inverse_undoes_forward_and_forward_undoes_inverse(name):
    make, data = LAYERS[name]
    layer = shaken(make())
    checks.inverse(lambda x: layer(x)[0], layer.inverse, data(), what=name)


BROKEN = {
    "the sign": lambda log_det, x: -log_det,
    "forgotten": lambda log_det, x: torch.zeros_like(log_det),
    "a mean for the sum": lambda log_det, x: log_det / x[0].numel(),
    "off by a constant": lambda log_det, x: log_det + 0.01,
}


@pytest.mark.parametrize("how", BROKEN)
@each_layer
def test_a_broken_log_det_is_seen(name, how):
    make, data = LAYERS[name]
    layer = shaken(make())

    def broken(x):
        z, log_det = layer(x)
        return z, BROKEN[how](log_det, x)

    with pytest.raises(CheckFailed):
        checks.log_det(broken, data(), what=name)


def test_what_only_moves_numbers_has_log_det_zero():
    x = small_images()
    for layer in (glow.Squeeze(), tarflow.Patches((1, 4, 4), 2), autoregressive.Reversed(), glow.Flat((1, 4, 4))):
        z, log_det = layer(x)
        assert torch.equal(log_det, torch.zeros(3).double()) and torch.equal(layer.inverse(z), x)
        assert torch.equal(z.flatten(1).sort(1).values, x.flatten(1).sort(1).values)


# ---- the distribution ------------------------------------------------------------------------------------------------
PLANE = {
    "affine couplings": lambda: coupling.affine_flow(2, 4, (8,)),
    "spline couplings": lambda: coupling.spline_flow(2, 3, (8,), bound=3.0),
    "masked": lambda: Flow(StandardNormal(2), [masked(2), autoregressive.Reversed(), masked(2)]),
    "inverse masked": lambda: Flow(StandardNormal(2), [Inverted(masked(2))]),
    "affine": lambda: Flow(StandardNormal(2), [elementwise.Affine(2)]),
}
on_the_plane = pytest.mark.parametrize("name", PLANE)


@on_the_plane
def test_density_integrates_to_one(name):
    flow, end = shaken(PLANE[name]()), 8 if "spline" in name else 25     # a spline's density has edges, its tails none
    with torch.no_grad():
        checks.integrates_to_one(flow.log_prob, (-end, end), (-end, end), n=801, what=name)


@on_the_plane
def test_samples_fit_the_density(name):
    """Counts in 100 cells of the plane against the integral over each; false alarm 1e-6."""
    flow = shaken(PLANE[name]())
    x = flow.sample(20_000)
    low, high = x.quantile(0.02, 0), x.quantile(0.98, 0)
    n, fine = 10, 12
    cells, volume = checks.grid(*zip(low.tolist(), high.tolist(), strict=True), n=n * fine)
    with torch.no_grad():
        mass = flow.log_prob(cells).exp().view(n, fine, n, fine).sum((1, 3)).flatten() * volume
    place = ((x - low) / (high - low) * n).floor().long()
    inside = ((place >= 0) & (place < n)).all(1)
    counts = torch.bincount(place[inside] @ torch.tensor([n, 1]), minlength=n * n)
    outside = torch.tensor([(~inside).sum()])
    checks.frequencies(torch.cat([counts, outside]), torch.cat([mass, 1 - mass.sum(0, keepdim=True)]), what=name)


def test_loss_is_minus_the_mean_log_prob():
    flow, x = shaken(coupling.affine_flow(4, 3, (8,))), points()
    torch.testing.assert_close(flow.loss(x)["loss"], -flow.log_prob(x).mean())


def test_stages_lead_from_data_to_base_and_add_up():
    flow, x = shaken(coupling.affine_flow(4, 3, (8,))), points()
    states = flow.chain.stages(x)
    z, log_det = flow(x)
    assert len(states) == 4 and torch.equal(states[0][0], x)
    torch.testing.assert_close(states[-1], (z, log_det))
    torch.testing.assert_close(states[2][1], sum(layer(states[i][0])[1] for i, layer in
                                                 enumerate(flow.chain.transforms[:2])))


def test_temperature_scales_the_noise_and_wants_a_gaussian_base():
    flow = Flow(StandardNormal(2), [elementwise.Affine(2)])
    with torch.no_grad():
        flow.chain.transforms[0].shift.copy_(torch.tensor([1.0, -2.0]))
    checks.monte_carlo((flow.sample(20_000, temperature=0.5) + torch.tensor([1.0, -2.0])).square(),
                       torch.tensor([0.25, 0.25]), what="half the spread around the mean")
    assert torch.equal(flow.sample(3, temperature=0.0), torch.tensor([[-1.0, 2.0]] * 3))
    cube = Flow(UnitCube(2), [elementwise.HistogramCDF(torch.zeros(2, 4).log_softmax(-1))])
    assert cube.sample(3).shape == (3, 2)
    with pytest.raises(ValueError, match="temperature scales a Gaussian base; this one is a UnitCube"):
        cube.sample(3, temperature=0.7)


def test_tweedie_takes_one_step_to_the_clean_mean():
    clean, sigma = Normal(torch.tensor([1.0]).double(), 2.0), 0.5
    noisy = Normal(1.0, math.hypot(2.0, sigma))
    x = points(6, 1)
    expected = (x * clean.variance + 1.0 * sigma**2) / (clean.variance + sigma**2)      # the Gaussian posterior's mean
    torch.testing.assert_close(tweedie(lambda x: noisy.log_prob(x).sum(1), x, sigma), expected)


# ---- coupling --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [coupling.AffineCoupling, partial(coupling.SplineCoupling)], ids=["affine", "spline"])
def test_under_one_fixed_mask_half_of_the_numbers_stay_bit_for_bit(make):
    n_out = {coupling.AffineCoupling: 8}.get(make, 4 * 11)
    mask = coupling.half_mask(4)
    chain = shaken(Chain(*[make(mask, MLP([4, 8, n_out])) for _ in range(5)]))
    x = points().clamp(-2, 2)
    z = chain(x)[0]
    assert torch.equal(z[:, mask], x[:, mask])
    assert (z[:, ~mask] != x[:, ~mask]).all()
    turned = shaken(Chain(*[make(coupling.half_mask(4, turn % 2), MLP([4, 8, n_out])) for turn in range(2)]))
    assert (turned(x)[0] != x).all()


def test_masks_split_in_half_and_turn():
    shape = (4, 6, 6)
    for mask in (partial(coupling.half_mask, 8), partial(coupling.checkerboard_mask, shape),
                 partial(coupling.channel_mask, shape)):
        assert mask().float().mean() == 0.5
        assert torch.equal(mask(turn=1), ~mask())


def test_a_nice_layer_changes_no_volume():
    layer = shaken(coupling.AffineCoupling(coupling.half_mask(4), MLP([4, 8, 4]), additive=True))
    z, log_det = layer(points())
    assert torch.equal(log_det, torch.zeros(5).double())
    torch.testing.assert_close(layer.inverse(z), layer.inverse(z.clone()))
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0][0], points(1)[0])
    torch.testing.assert_close(torch.linalg.det(jacobian).abs(), torch.tensor(1.0).double())


def test_a_bounded_log_scale_keeps_a_far_point_finite():
    """The point that explodes without the bound: far from the data the network extrapolates, and exp does the rest."""
    network = MLP([2, 8, 4])
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(weight.abs() + 0.3)
    far = torch.tensor([[60.0, 1.0]])
    free, held = (Chain(*[coupling.AffineCoupling(coupling.half_mask(2), network, limit)]) for limit in (None, 2.0))
    assert not free(far)[0].isfinite().all()
    z, log_det = held(far)
    assert z.isfinite().all() and log_det.abs() <= 2.0
    torch.testing.assert_close(coupling.bounded(torch.tensor([1e-3, 50.0]), 2.0), torch.tensor([1e-3, 2.0]),
                               atol=1e-6, rtol=0)


# ---- splines ---------------------------------------------------------------------------------------------------------
def test_spline_is_zukos():
    torch.manual_seed(1)
    numbers = [torch.randn(5, 7).double(), torch.randn(5, 7).double(), torch.randn(5, 6).double()]
    theirs = zuko.transforms.MonotonicRQSTransform(*numbers, bound=3.0)
    x = torch.linspace(-4, 4, 5).double()
    ours, log_slope = spline.rational_quadratic(x, theirs.horizontal, theirs.vertical, theirs.derivatives)
    expected = theirs(x)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(log_slope, theirs.log_abs_det_jacobian(x, expected))
    torch.testing.assert_close(
        spline.rational_quadratic_inverse(ours, theirs.horizontal, theirs.vertical, theirs.derivatives), x)


@pytest.mark.parametrize("tails", [True, False])
def test_zero_numbers_are_the_identity(tails):
    n = 3 * 8 + (-1 if tails else 1)
    x = torch.rand(50, 4).double()
    y, log_slope = spline.rational_quadratic(x, *spline.knots(torch.zeros(50, 4, n).double(), 0.0, 1.0, tails))
    torch.testing.assert_close(y, x)
    torch.testing.assert_close(log_slope, torch.zeros_like(x))


def test_knots_count_their_numbers():
    for n, tails in ((22, True), (24, False), (2, True)):
        with pytest.raises(ValueError, match=f"got {n}"):
            spline.knots(torch.zeros(3, n), 0.0, 1.0, tails)


def test_gradients_are_finite_outside_the_box_and_on_the_knots():
    numbers = torch.randn(6, 23).double().requires_grad_()
    x = torch.tensor([-1e6, -4.0, 0.0, 4.0, 4.0001, 1e6]).double().requires_grad_()
    y, log_slope = spline.rational_quadratic(x, *spline.knots(numbers, -4.0, 4.0))
    (y.sum() + log_slope.sum()).backward()
    assert x.grad.isfinite().all() and numbers.grad.isfinite().all()
    torch.testing.assert_close(x.grad[[0, -1]], torch.ones(2).double())
    numbers, y = numbers.detach().requires_grad_(), y.detach().requires_grad_()
    spline.rational_quadratic_inverse(y, *spline.knots(numbers, -4.0, 4.0)).sum().backward()
    assert y.grad.isfinite().all() and numbers.grad.isfinite().all()


def test_a_spline_without_the_clamp_has_nan_gradients():
    """The twin of the test above: the branches joined without clamping first."""
    x = torch.tensor([9.0]).double().requires_grad_()
    root = (16 - x.square()).sqrt()                          # fine inside (-4, 4); a NaN outside that nobody asked for
    torch.where(x.abs() < 4, root, torch.zeros_like(x)).sum().backward()
    assert x.grad.isnan().any()


# ---- glow ------------------------------------------------------------------------------------------------------------
def test_actnorm_starts_from_its_first_batch_and_remembers_that_it_did(tmp_path):
    first, later = 5 + 3 * torch.randn(64, 4, 6, 6), torch.randn(64, 4, 6, 6)
    layer = glow.Actnorm(4)
    layer.initialise(first)
    z = layer(first)[0]
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var((0, 2, 3), correction=0), torch.ones(4), atol=1e-5, rtol=0)
    before = layer(later)[0]
    layer.initialise(later)
    assert torch.equal(layer(later)[0], before), "it started again"
    training.save_weights(tmp_path / "a.safetensors", layer, {})
    loaded = glow.Actnorm(4)
    training.load_weights(tmp_path / "a.safetensors", loaded)
    loaded.initialise(later)
    assert torch.equal(loaded(later)[0], before), "the flag was not in the file"


def test_every_actnorm_of_a_glow_sees_what_reaches_it():
    flow, x = glow.glow((1, 8, 8), 2, 2, 6), torch.rand(64, 1, 8, 8)
    flow.initialise(x)
    seen = []
    for module in flow.modules():
        if isinstance(module, glow.Actnorm):
            assert module.initialised
            module.register_forward_hook(lambda module, inputs, output: seen.append(output[0]))
    flow(x)
    assert len(seen) == 4
    for z in seen:
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(z.shape[1]), atol=1e-4, rtol=0)


def test_lu_starts_as_a_rotation_and_agrees_with_slogdet():
    conv = glow.InvertibleConvLU(6).double()
    torch.testing.assert_close(conv.matrix() @ conv.matrix().T, torch.eye(6).double(), atol=1e-5, rtol=0)
    conv = shaken(conv)
    torch.testing.assert_close(conv.log_det(3, 5), glow.conv1x1_log_det(conv.matrix(), 3, 5))
    torch.testing.assert_close(glow.conv1x1_log_det(2 * torch.eye(3), 4, 5), torch.tensor(60 * math.log(2)))


def test_scales_tell_where_z_comes_from():
    flow, shape = glow.glow((1, 8, 8), 3, 1, 6), (1, 8, 8)
    parts = glow.scales(shape, 3)
    assert [part.stop - part.start for part in parts] == [32, 16, 16] and parts[-1].stop == 64
    z = torch.randn(2, 64)
    z[1] = z[0]
    z[1, parts[0]] = 0.0                                     # only the finest scale differs: half of the channels
    split = flow.chain.transforms[0].transforms[-1]
    squeezed = split.inverse(z)
    keep = split.keep[0]
    assert torch.equal(squeezed[0, :keep], squeezed[1, :keep]) and not torch.equal(*squeezed)


def test_a_split_prior_told_about_the_number_it_judges_is_no_density():
    prior = shaken(nn.Conv2d(1, 2, 1), 1.0)
    right = Flow(StandardNormal(2), [glow.Split((2, 1, 1), prior, glow.Flat((1, 1, 1)))]).double()

    class Wrong(glow.Split):
        def forward(self, x, y=None):
            keep, out = x.chunk(2, 1)
            mu, log_sigma = self.numbers(out)                # the wrong half
            return torch.cat([(out - mu) * (-log_sigma).exp(), keep], 1).flatten(1), -log_sigma.flatten(1).sum(1)

    wrong = Flow(StandardNormal(2), [Wrong((2, 1, 1), prior, glow.Flat((1, 1, 1)))]).double()
    for flow, normalised in ((right, True), (wrong, False)):
        def log_prob(x, flow=flow):
            with torch.no_grad():
                return flow.log_prob(x[..., None, None])
        points, volume = checks.grid((-20, 20), (-20, 20), n=401)
        total = log_prob(points).exp().sum() * volume
        assert (abs(total - 1) < 1e-3) == normalised, total


def test_squeeze_and_patches_want_sides_that_divide():
    with pytest.raises(ValueError, match=r"\(7, 8\)"):
        glow.squeeze(torch.rand(1, 1, 7, 8))
    with pytest.raises(ValueError, match="patches that tile an image of 8 × 8, got 3 × 3"):
        tarflow.Patches((1, 8, 8), 3)


# ---- masked flows ----------------------------------------------------------------------------------------------------
class GaussianConditionals:
    """What MADE needs to model real numbers: two numbers a value, a Gaussian out of them."""

    n_params = 2

    def __call__(self, params):
        mu, log_scale = params.unbind(-1)
        return Normal(mu, coupling.bounded(log_scale, 3.0).exp())


class NumbersOf(nn.Module):
    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made.params(x).flatten(1, 3)


def test_a_masked_flow_is_made_with_gaussian_conditionals():
    made = shaken(MADE((1, 1, 5), hidden=(20,), head=GaussianConditionals()))
    flow = Flow(StandardNormal(5), [autoregressive.MaskedAffine(NumbersOf(made), 3.0)]).double()
    x = points(6, 5)
    torch.testing.assert_close(flow.log_prob(x), made(x).log_prob(x.view(6, 1, 1, 5)).flatten(1).sum(1))


def test_one_pass_gives_all_z_and_the_masks_are_causal():
    layer = shaken(masked(6))
    checks.causal(lambda x: sum(layer.numbers(x)), points(1, 6), what="masked network")
    token_layer = shaken(tarflow.tarflow((1, 4, 4), attention, width=8, n_flows=1, n_blocks=1)).chain.transforms[1]
    x = torch.randn(1, 4, 4).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: sum(token_layer.numbers(v)), x)[0, :, :, 0]
    seen = jacobian.abs().sum((1, 3)) > 0                    # (token out, token in)
    assert torch.equal(seen, torch.ones(4, 4).tril(-1).bool())


def test_masked_affine_is_zukos():
    layer = shaken(masked(4))

    def meta(x):
        mu, log_scale = layer.numbers(x)
        scale = (-log_scale).exp()
        return IndependentTransform(AffineTransform(-mu * scale, scale), 1)

    theirs, x = zuko.transforms.AutoregressiveTransform(meta, passes=4), points()
    z, log_det = layer(x)
    torch.testing.assert_close(z, theirs(x))
    torch.testing.assert_close(log_det, theirs.log_abs_det_jacobian(x, z))
    torch.testing.assert_close(layer.inverse(z), theirs.inv(z))


def test_jacobi_makes_one_more_position_exact_at_each_pass():
    layer, x = shaken(masked(6)), points(5, 6)
    z = layer(x)[0]
    guesses = list(autoregressive.jacobi(layer, z))
    assert len(guesses) == 6
    for k, guess in enumerate(guesses, start=1):
        torch.testing.assert_close(guess[:, :k], x[:, :k])
    assert not torch.allclose(guesses[0], x)
    near, passes = autoregressive.jacobi_inverse(layer, z)
    assert passes <= 6
    torch.testing.assert_close(near, x, atol=1e-4, rtol=0)
    torch.testing.assert_close(layer.inverse(z), x)


def test_jacobi_with_unbounded_scales_runs_into_nan():
    held, free = shaken(masked(8, limit=3.0), 3.0), None
    free = autoregressive.MaskedAffine(held.network, limit=None)
    z = 3 * torch.randn(64, 8).double()
    assert all(guess.isfinite().all() for guess in autoregressive.jacobi(held, z))
    assert any(guess.isnan().any() or guess.isinf().any() for guess in autoregressive.jacobi(free, z.float().double()))


def test_context_reaches_a_masked_network():
    layer = shaken(masked(3, n_context=2))
    x, context = points(5, 3), points(5, 2)
    z, log_det = layer(x, context)
    assert not torch.allclose(z, layer(x, context + 1)[0])
    torch.testing.assert_close(layer.inverse(z, context), x)
    checks.log_det(lambda v: layer(v, context[:1].expand(len(v), -1)), x, what="with context")


def test_a_label_is_wanted_where_the_flow_has_classes():
    flow = tarflow.tarflow((1, 4, 4), attention, width=8, n_flows=1, n_blocks=1, n_classes=3)
    x = torch.rand(2, 1, 4, 4)
    assert flow.log_prob(x, torch.tensor([0, 2])).shape == (2,)
    with pytest.raises(ValueError, match="labels y, .* got none"):
        flow.log_prob(x)
    plain = tarflow.tarflow((1, 4, 4), attention, width=8, n_flows=1, n_blocks=1)
    with pytest.raises(ValueError, match="no y"):
        plain.log_prob(x, torch.tensor([0, 2]))


# ---- a flow as a posterior -------------------------------------------------------------------------------------------
def iaf_encoder(latent_dim=2, n_context=3):
    head = GaussianHead(nn.Sequential(nn.Flatten(), MLP([64, 8, 2 * latent_dim])))
    context = nn.Sequential(nn.Flatten(), MLP([64, n_context]))
    layers = [masked(latent_dim, n_context), autoregressive.Reversed(), masked(latent_dim, n_context)]
    return shaken(FlowEncoder(head, context, layers), 0.1)


def test_iaf_posterior_is_a_density_and_scores_its_own_draws_without_inverting():
    encoder, x = iaf_encoder(), torch.rand(1, 1, 8, 8).double()
    q = encoder(x)
    z = q.rsample()
    own = q.log_prob(z)
    torch.testing.assert_close(encoder(x).log_prob(z.detach().clone()), own)           # the slow way, by inversion
    with torch.no_grad():
        checks.integrates_to_one(lambda v: encoder(x.expand(len(v), -1, -1, -1)).log_prob(v), (-20, 20), (-20, 20),
                                 n=301, what="IAF posterior")


def test_iaf_posterior_serves_the_vae_and_gradients_reach_all_of_it():
    model = vae.mlp_vae((1, 8, 8), (10,), 2)
    model.encoder = iaf_encoder().float()
    terms = model.loss(torch.rand(6, 1, 8, 8).round())
    terms["loss"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all() and weight.grad.abs().max() > 0, name
    assert model.importance_weighted_bound(torch.rand(6, 1, 8, 8).round(), 4).shape == (6,)


# ---- images ----------------------------------------------------------------------------------------------------------
def test_the_histogram_layer_is_the_model_of_independent_pixels():
    x = (16 * torch.rand(200, 1, 4, 4).square()).round() / 16
    counted = PixelHistograms((1, 4, 4), levels=17).fit(x)
    flow = coupling.cube_flow(counted.log_p[0], 2, (8,), 4)
    model = Dequantised(flow, 17, images.dequantise)
    torch.testing.assert_close(model.elbo(x), counted.log_prob(x), atol=1e-3, rtol=1e-5)
    with pytest.raises(ValueError, match="smooth the counts"):
        elementwise.HistogramCDF(torch.tensor([[0.5, 0.5, 0.0]]).log())


def test_dequantised_bound_importance_weights_and_the_exact_mass():
    """Two pixels of three levels: P(x) of all nine images by quadrature over the bins, and they sum to 1."""
    flow = shaken(coupling.cube_flow(torch.zeros(1, 1, 2, 3).log_softmax(-1), 3, (8,), 4), 0.4).float()
    model = Dequantised(flow, 3, images.dequantise)
    x = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2) / 2
    n = 100
    noise = torch.cartesian_prod(*[(torch.arange(n) + 0.5) / n] * 2).view(-1, 1, 1, 2)
    with torch.no_grad():
        exact = torch.stack([flow.log_prob((2 * image + noise) / 3).logsumexp(0) for image in x])
        exact = exact - math.log(9 * n * n)
        bounds = torch.stack([model.elbo(x) for _ in range(400)])
        tighter = torch.stack([model.importance_weighted_bound(x, 400) for _ in range(40)])
    checks.close(exact.exp().sum(), 1.0, what="nine images, one mass", atol=5e-3)
    assert (bounds.mean(0) < tighter.mean(0)).all() and (tighter.mean(0) < exact + 0.02).all()
    assert (tighter.mean(0) - exact).abs().max() < 0.05 and (exact - bounds.mean(0)).max() > 0.05
    weights = torch.cat([model.log_weights(x, 500) for _ in range(4)]).detach().exp()
    checks.monte_carlo(weights, exact.exp(), what="the weights' mean is the mass of the bins")
    frequencies = model.sample(30_000).mul(2).round().long().flatten(1) @ torch.tensor([3, 1])
    checks.frequencies(torch.bincount(frequencies, minlength=9), exact.exp(), what="samples fall into the bins")


def test_a_narrower_noise_is_no_bound():
    """Half the width: the number beats log P(x) itself. The twin of full-width dequantisation."""
    flow = Flow(UnitCube(1, 1, 1), [elementwise.HistogramCDF(torch.tensor([[[[0.25, 0.05, 0.1, 0.6]]]]).log())])
    model = Dequantised(flow, 2, images.dequantise)
    narrow = Dequantised(flow, 2, lambda x, levels: ((levels - 1) * x + 0.5 + torch.rand_like(x) / 2) / levels)
    x = torch.ones(400, 1, 1, 1)
    exact = math.log(0.1 + 0.6)
    assert model.elbo(x).mean() < exact < narrow.elbo(x).mean()


def test_the_formulas_of_a_coupling_on_numbers_worked_out_by_hand():
    """x = (1, 2), the first stays; log-scale log 3 and shift 5 take 2 to 11, and log|det| is log 3."""
    x, mask = torch.tensor([[1.0, 2.0]]), torch.tensor([True, False])
    shift, log_scale = torch.full_like(x, 5.0), torch.full_like(x, math.log(3.0))
    z, log_det = coupling.affine_coupling(x, mask, shift, log_scale)
    torch.testing.assert_close(z, torch.tensor([[1.0, 11.0]]))
    torch.testing.assert_close(log_det, torch.tensor([math.log(3.0)]))
    torch.testing.assert_close(coupling.affine_coupling_inverse(z, mask, shift, log_scale), x)


def test_the_density_grows_where_the_map_to_the_base_stretches():
    """z = 2 x of x ~ N(0, 1/4): the base is standard, and the factor 2 is what makes p the density of N(0, 1/4)."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    base = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    narrow = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 0.5)
    found = change_of_variables(base.log_prob(2 * x), torch.full_like(x, math.log(2)))
    torch.testing.assert_close(found, narrow.log_prob(x))
