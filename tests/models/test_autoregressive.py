"""Laws of the autoregressive family: what a pixel may see, probabilities that sum to 1, samples that follow them."""

import pytest
import torch
from torch.nn import functional as F

from course_utils import checks
from course_utils.distributions import DiscretisedLogisticMixture, Head, tempered
from course_utils.models.autoregressive.baselines import LogisticPixels, PixelHistograms
from course_utils.models.autoregressive.made import MADE, random_orders
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN
from course_utils.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM, skew, unskew
from course_utils.models.autoregressive.sampling import ancestral_sample, cached_sample, raster_order
from course_utils.models.autoregressive.transformer import PixelTransformer
from course_utils.nn.masked import MaskedConv2d, MaskedRowConv2d, RowsAboveConv2d, causal_mask

SMALL = (1, 3, 3)


def random_order(shape):
    return random_orders(1, torch.Size(shape).numel())


MODELS = {
    "made": lambda shape, head: MADE(shape, hidden=(20, 20), head=head),
    "made in random order": lambda shape, head: MADE(shape, hidden=(20,), head=head, orders=random_order(shape)),
    "pixelcnn": lambda shape, head: PixelCNN(shape, width=6, n_blocks=2, first=3, head=head),
    "gated pixelcnn": lambda shape, head: GatedPixelCNN(shape, width=12, n_blocks=2, first=3, head=head),
    "row lstm": lambda shape, head: PixelRNN(shape, layer=RowLSTM, width=12, first=3, head=head),
    "diagonal bilstm": lambda shape, head: PixelRNN(shape, layer=DiagonalBiLSTM, width=12, first=3, head=head),
    "transformer": lambda shape, head: PixelTransformer(shape, width=8, n_heads=2, n_blocks=2, head=head),
    "logistic": lambda shape, head: LogisticPixels(shape, head=head),
}
COMPLETE = ["made", "made in random order", "gated pixelcnn", "logistic", "transformer"]      # see every earlier pixel
CACHED = ["pixelcnn", "gated pixelcnn", "transformer"]


def random_weights(model, seed=0):
    """float64, and no weight left at zero or at the identity: a law must not hold only where nothing happens."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model.double()
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * (0.5 if parameter.dim() > 1 else 0.3)
    return model.eval()


def make(name, shape=SMALL, head=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return random_weights(MODELS[name](shape, head or Head()), seed)


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 1, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize("name", MODELS)
def test_probabilities_of_all_images_sum_to_one(name, shape):
    model = make(name, shape)
    checks.sums_to_one(model.log_prob, checks.all_binary(*shape, dtype=torch.float64), what=name, atol=1e-10)


def test_a_leak_is_seen_by_both_laws():
    model = PixelCNN(SMALL, width=6, n_blocks=1, first=3)
    model.first = MaskedConv2d(1, 6, 3, "B")                         # the bug: a pixel sees itself
    model = random_weights(model)
    with pytest.raises(checks.CheckFailed):
        checks.sums_to_one(model.log_prob, checks.all_binary(*SMALL, dtype=torch.float64), what="leak")
    with pytest.raises(checks.CheckFailed):
        checks.causal(lambda x: model.params(x.view(1, *SMALL)).sum(-1).flatten(1), torch.rand(9).double(), what="leak")


@pytest.mark.parametrize("name", MODELS)
def test_samples_follow_the_probabilities(name):
    """A chi-square test on the 16 images of 2x2 pixels; a correct sampler fails with probability 1e-6 a model."""
    model = make(name, (1, 2, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = model.sample(6_000).flatten(1)
    counts = (drawn @ torch.tensor([1.0, 2.0, 4.0, 8.0]).double()).long().bincount(minlength=16)
    p = model.log_prob(checks.all_binary(1, 2, 2, dtype=torch.float64)).exp()
    checks.frequencies(counts, p, what=name)
    with pytest.raises(checks.CheckFailed):                          # the same samples against another model
        checks.frequencies(counts, p.roll(1), what=name)


def test_mixture_of_orders_is_normalised_and_averaged_logits_are_not():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = random_weights(MADE(SMALL, hidden=(20,), orders=random_orders(4, 9)))
        states = checks.all_binary(*SMALL, dtype=torch.float64)
        checks.sums_to_one(model.log_prob, states, what="mixture", atol=1e-10)
        total = model.averaged_logits(states).log_prob(states).flatten(1).sum(1).exp().sum()
        assert abs(total - 1) > 0.01
        seen = torch.zeros(512)
        for image in model.sample(4_000):
            seen[int((image.flatten() * 2 ** torch.arange(9)).sum())] += 1
        checks.frequencies(seen, model.log_prob(states).exp(), what="samples of the mixture")


@pytest.mark.parametrize("kind", "AB")
@pytest.mark.parametrize("colours", [1, 3])
def test_trimmed_convolution_is_the_full_masked_one(kind, colours):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = MaskedConv2d(3, 6, 5, kind, colours).double()
        x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    full = torch.zeros(6, 3, 5, 5, dtype=torch.float64)
    full[:, :, :3] = layer.weight * layer.mask
    torch.testing.assert_close(layer(x), F.conv2d(x, full, layer.bias, padding=2))
    assert full[0, 0, 2, 2] == 0 if kind == "A" else full[0, 0, 2, 2] != 0


@pytest.mark.parametrize("kind", "AB")
@pytest.mark.parametrize("layer", [MaskedConv2d, MaskedRowConv2d, RowsAboveConv2d])
def test_masked_layers_see_nothing_later(layer, kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = layer(1, 1, 5, kind).double()
        conv.weight.data.normal_()
        x = torch.randn(20, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: conv(x.view(1, 1, 4, 5)).flatten(), x) != 0
    if layer is RowsAboveConv2d:                                     # rows: strictly above, or also the pixel's own
        row, strict = torch.arange(20) // 5, int(kind == "A")
        assert not (jacobian & (row > row[:, None] - strict)).any()
        assert (jacobian & (row == row[:, None] - strict)).any()
    else:
        assert not jacobian.triu(int(kind == "B")).any()
        assert jacobian.diagonal().all() == (kind == "B")
    assert jacobian.any()


def test_colours_see_the_colours_before_them():
    for kind, expected in (("A", [[0, 0, 0], [1, 0, 0], [1, 1, 0]]), ("B", [[1, 0, 0], [1, 1, 0], [1, 1, 1]])):
        mask = causal_mask(3, kind, n_in=6, n_out=3, colours=3)
        assert mask[:, ::2, 1, 1].tolist() == expected == mask[:, 1::2, 1, 1].tolist()
        assert (mask[:, :, 1, 2] == 0).all() and (mask[:, :, 0] == 1).all() and (mask[:, :, 1, 0] == 1).all()


def test_skewing_is_undone_and_puts_diagonals_into_columns():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    skewed = skew(x)
    assert torch.equal(unskew(skewed, 4), x)
    for i in range(3):
        for j in range(4):
            assert (skewed[0, :, i, i + j] == x[0, :, i, j]).all()
    assert skewed.shape == (1, 2, 3, 6)


def test_logistic_mixture_sums_to_one_and_agrees_with_the_formula():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight, mu, log_scale = torch.randn(3, 7, 2, dtype=torch.float64)
    p = DiscretisedLogisticMixture(weight, mu, log_scale * 2, levels=17)
    probs = p.log_prob(p.enumerate_support()).exp()                  # (17, 7)
    torch.testing.assert_close(probs.sum(0), torch.ones(7, dtype=torch.float64))
    edge = (torch.arange(17.0).double() - 0.5)[1:, None, None] / 8 - 1
    cdf = torch.sigmoid((edge - mu) / (log_scale * 2).exp())         # (16, 7, 2)
    cdf = torch.cat([torch.zeros(1, 7, 2), cdf, torch.ones(1, 7, 2)])
    torch.testing.assert_close(probs, (weight.softmax(-1) * cdf.diff(dim=0)).sum(-1))


def test_logistic_mixture_stays_finite_far_out():
    mu = torch.tensor([[-50.0], [0.0], [50.0]], requires_grad=True)
    log_p = DiscretisedLogisticMixture(torch.zeros(3, 1), mu, torch.full((3, 1), -20.0), levels=256).log_prob(
        torch.tensor([255.0, 13.0, 0.0])
    )
    log_p.sum().backward()
    assert log_p.isfinite().all() and mu.grad.isfinite().all()


def test_histograms_are_counts():
    x = torch.tensor([0.0, 1.0, 1.0, 1.0]).view(4, 1, 1, 1)
    p = PixelHistograms((1, 1, 1)).fit(x, smoothing=1.0).log_prob(torch.ones(1, 1, 1, 1)).exp()
    assert p.item() == pytest.approx(4 / 6)
    mixture = PixelHistograms((1, 1, 1), n_classes=2).fit(x, torch.tensor([0, 0, 1, 1]), smoothing=1.0)
    states = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(mixture.log_prob(states).exp(), torch.tensor([3 / 8, 5 / 8]))
    checks.sums_to_one(mixture.log_prob, states, what="mixture")
    checks.frequencies(mixture.sample(4_000).long().flatten().bincount(), [3 / 8, 5 / 8], what="samples")


@pytest.mark.parametrize("name", CACHED)
def test_known_pixels_are_kept_and_the_rest_is_as_if_drawn_after_them(name):
    model, shape = make(name, (1, 4, 4)), (1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(3, *shape, dtype=torch.float64, generator=generator)
    start = torch.rand(shape, generator=generator).round()
    known = torch.zeros(shape, dtype=torch.bool)
    known[:, :2] = True
    for sampler in (ancestral_sample, cached_sample):
        drawn = sampler(model, 3, uniforms=u, start=start, known=known)
        assert (drawn[:, :, :2] == start[:, :2]).all()
    torch.testing.assert_close(drawn, ancestral_sample(model, 3, uniforms=u, start=start, known=known))
    with pytest.raises(ValueError, match="both start"):
        cached_sample(model, 3, known=known)


def test_labels_change_the_answer_and_are_asked_for():
    for name, build in (("gated", GatedPixelCNN), ("plain", PixelCNN), ("transformer", PixelTransformer)):
        model = random_weights(build((1, 4, 4), n_classes=3, **({"n_heads": 2} if name == "transformer" else {})))
        x, y = torch.ones(3, 1, 4, 4).double(), torch.arange(3)
        p = model.log_prob(x, y)
        assert len(p.unique()) == 3
        assert {"loss"} == set(model.loss((x, y)))
        assert model.sample(3, y).shape == x.shape
        with pytest.raises(ValueError, match="labels y"):
            model.log_prob(x)
    with pytest.raises(ValueError, match="not class-conditional"):
        make("pixelcnn").log_prob(torch.ones(1, *SMALL).double(), y[:1])


def test_conditional_cache_agrees_too():
    model = random_weights(GatedPixelCNN((1, 4, 4), width=6, n_blocks=2, first=3, n_classes=3))
    y, generator = torch.tensor([0, 1, 2]), torch.Generator().manual_seed(0)
    u = torch.rand(3, 1, 4, 4, dtype=torch.float64, generator=generator)
    assert torch.equal(cached_sample(model, 3, y, uniforms=u), ancestral_sample(model, 3, y, uniforms=u))


def test_grey_images_are_refused_by_a_binary_model():
    with pytest.raises(ValueError, match="binarise"):
        make("made").log_prob(torch.full((1, *SMALL), 0.4).double())


def test_temperature_sharpens():
    p = Head(levels=5)(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)))
    for head_p in (p, Head()(torch.randn(6, 1, generator=torch.Generator().manual_seed(0)))):
        entropies = [tempered(head_p, t).entropy() for t in (0.3, 1, 3)]
        assert (entropies[0] < entropies[1]).all() and (entropies[1] < entropies[2]).all()
    torch.testing.assert_close(tempered(p, 0.5).probs, p.probs**2 / (p.probs**2).sum(-1, keepdim=True))


def what_changes(params, x, levels):
    """(D, D) booleans: row i, column j: does the answer for pixel i change, on any image, when pixel j does?"""
    base, changes = params(x), []
    for j in range(x[0].numel()):
        other = x.flatten(1).clone()
        other[:, j] = (other[:, j] + 1 / (levels - 1)) % (1 + 1e-9 + 1 / (levels - 1))       # another grey level
        other = (other * (levels - 1)).round().clamp(0, levels - 1) / (levels - 1)
        changes.append((params(other.view_as(x)) != base).any(-1).any(0).flatten())
    return torch.stack(changes, 1)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_a_pixel_depends_on_earlier_pixels_and_on_no_other(name, shape):
    model = make(name, shape, Head(levels=4))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (6, *shape), generator=generator).double() / 3
    order = getattr(model, "orders", raster_order(shape)[None])[0]
    seen = what_changes(model.params, x, 4)[order][:, order]
    assert not seen.triu().any(), "a pixel sees itself or a later one"
    if name in COMPLETE:
        assert (seen == torch.ones_like(seen).tril(-1)).all(), "an earlier pixel is not seen"
    if name == "diagonal bilstm":                                    # its one gap: the last pixels of the rows above
        missed = (~seen).tril(-1).nonzero()
        assert (missed[:, 1] // shape[0] % shape[2] == shape[2] - 1).all()
    if name != "transformer":                                        # the same by autograd; tokens have no gradient
        jacobian = torch.autograd.functional.jacobian(lambda x: model.params(x).abs().sum((0, -1)).flatten(), x)
        assert not jacobian.abs().sum(1).flatten(1)[order][:, order].triu().any()


@pytest.mark.parametrize(
    "shape, head", [((1, 5, 4), Head()), ((3, 3, 4), Head(levels=5)), ((1, 4, 5), Head(levels=5, mixtures=2))], ids=str
)
@pytest.mark.parametrize("name", CACHED)
def test_cached_sampling_draws_what_naive_sampling_draws(name, shape, head):
    model = make(name, shape, head)
    u = torch.rand(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cached_sample(model, 4, uniforms=u), ancestral_sample(model, 4, uniforms=u))


@pytest.mark.parametrize("name", CACHED)
def test_cached_params_are_those_of_the_full_network(name):
    shape = (3, 5, 4)
    model = make(name, shape)
    x = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).round()
    cache, full = model.start_cache(x, None), model.params(x)
    for i in range(5):
        cache.row(i)
        for j in range(4):
            for c in range(3):
                torch.testing.assert_close(cache.pixel(j, c), full[:, c, i, j], rtol=0, atol=1e-10)
