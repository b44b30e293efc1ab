"""Laws of the adversarial losses, their penalties, what is known in closed form, and the models."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from course_utils.distributions import jensen_shannon, kl_divergence
from course_utils.models.gan import model as gan
from course_utils.models.gan import objectives, theory

LOSSES = {
    "minimax": objectives.minimax, "non-saturating": objectives.non_saturating,
    "least squares": objectives.least_squares, "wasserstein": objectives.wasserstein, "hinge": objectives.hinge,
    "exponential": objectives.exponential, "relativistic": objectives.relativistic,
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def two_densities(n=2_401):
    """p = N(0, 1) and q = N(1, 1.4^2) on a grid, as probabilities. Sums of what is smooth are exact to 1e-8."""
    x = torch.linspace(-16, 18, n, dtype=torch.float64)
    return x, *(Normal(m, s).log_prob(x).exp() * (x[1] - x[0]) for m, s in ((0.0, 1.0), (1.0, 1.4)))


def risk(loss, logits, p, q):
    return theory.expected(loss(logits[:, None], logits[None, :]).critic, p, q).item()


# ---- losses --------------------------------------------------------------------------------------------------------
def test_logistic_losses_are_the_cross_entropy_of_a_classifier():
    real, fake = torch.randn(2, 50).double()
    by_hand = (binary_cross_entropy_with_logits(real, torch.ones_like(real), reduction="none")
               + binary_cross_entropy_with_logits(fake, torch.zeros_like(fake), reduction="none"))
    for loss in (objectives.minimax, objectives.non_saturating):
        torch.testing.assert_close(loss(real, fake).critic, by_hand)
    fooled = binary_cross_entropy_with_logits(fake, torch.ones_like(fake), reduction="none")
    torch.testing.assert_close(objectives.non_saturating(real, fake).generator, fooled)


@pytest.mark.parametrize("name", LOSSES)
def test_terms_have_the_shape_of_the_pairs_and_both_players_slopes_their_signs(name):
    real, fake = torch.randn(5, 1).double().requires_grad_(), torch.randn(1, 4).double().requires_grad_()
    terms = LOSSES[name](real, fake)
    assert terms.critic.shape == terms.generator.shape == (5, 4)
    small = 0.3 * real.detach().tanh(), 0.3 * fake.detach().tanh()              # inside the hinges and the labels
    a, b = (value.clone().requires_grad_() for value in small)
    terms = LOSSES[name](a, b)
    by_real, by_fake = torch.autograd.grad(terms.critic.sum(), (a, b), retain_graph=True)
    assert (by_real < 0).all(), "a higher logit on real data must cost the critic less"
    assert (by_fake > 0).all() or name == "least squares", "a higher logit on a fake must cost the critic more"
    (by_fake,) = torch.autograd.grad(terms.generator.sum(), b)
    assert (by_fake < 0).all(), "a higher logit on a fake must cost the generator less"


@pytest.mark.parametrize("loss", [objectives.minimax, objectives.wasserstein])
def test_zero_sum_where_it_is_claimed(loss):
    real, fake = torch.randn(2, 9).double().requires_grad_().unbind()
    terms = loss(real, fake)
    by_critic, by_generator = (torch.autograd.grad(t.sum(), fake, retain_graph=True)[0] for t in terms)
    torch.testing.assert_close(by_critic, -by_generator)
    with pytest.raises(AssertionError):                                        # the usual loss is not
        terms = objectives.non_saturating(real, fake)
        by_critic, by_generator = (torch.autograd.grad(t.sum(), fake, retain_graph=True)[0] for t in terms)
        torch.testing.assert_close(by_critic, -by_generator)


def test_saturation_is_where_the_critic_is_sure_of_a_fake():
    fake = torch.tensor([-8.0, 0.0, 8.0]).double().requires_grad_()
    slopes = [torch.autograd.grad(loss(fake.detach(), fake).generator.sum(), fake)[0].abs()
              for loss in (objectives.minimax, objectives.non_saturating)]
    assert slopes[0][0] < 1e-3 < 0.99 < slopes[1][0]
    torch.testing.assert_close(slopes[0][1], slopes[1][1])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_survive_sure_critics(name):
    far = torch.tensor([-500.0, 500.0]).double().requires_grad_()
    terms = LOSSES[name](far[:, None], far[None, :])
    if name != "exponential":
        assert torch.stack(terms).isfinite().all()
        assert torch.autograd.grad(torch.stack(terms).sum(), far)[0].isfinite().all()


# ---- the best critic -----------------------------------------------------------------------------------------------
def test_bayes_risks_of_two_gaussians():
    """Each risk twice, the best critic put into the loss and the closed form, and the numbers known from quadrature."""
    _, p, q = two_densities()
    a, best = (p / q).log(), theory.optimal_critic(p, q)
    js, chi = jensen_shannon(p, q), theory.triangular(p, q)
    rows = [
        (risk(objectives.minimax, a, p, q) / 2, math.log(2) - js, 0.59631),
        (risk(objectives.least_squares, best, p, q), 1 / 4 - chi / 8, 0.20700),
        (risk(partial(objectives.least_squares, a=-1.0), 2 * best - 1, p, q), 1 - chi / 2, 0.82802),
        (risk(objectives.exponential, a / 2, p, q) / 2, 1 - theory.squared_hellinger(p, q), 0.89383),
        (risk(objectives.hinge, a.sign(), p, q) / 2, 1 - theory.total_variation(p, q), 0.65414),
    ]
    for value, closed, known in rows:
        assert value == pytest.approx(float(closed), abs=1e-7) and value == pytest.approx(known, abs=2e-5)
    pairs = p[:, None] * q[None, :]
    between = jensen_shannon(pairs.flatten(), pairs.T.flatten())
    value = -risk(objectives.relativistic, a, p, q)
    assert value == pytest.approx(float(between) - math.log(2), abs=1e-8)
    assert value == pytest.approx(-0.516083, abs=1e-5)


@pytest.mark.parametrize("name", ["minimax", "least squares", "exponential", "hinge", "relativistic"])
def test_no_other_critic_pays_less(name):
    x, p, q = two_densities(401)
    a = (p / q).log()
    best = {"least squares": theory.optimal_critic(p, q), "exponential": a / 2, "hinge": a.sign()}.get(name, a)
    lowest = risk(LOSSES[name], best, p, q)
    for _ in range(10):
        other = best + 0.3 * torch.randn(3).double() @ torch.stack([torch.ones_like(x), x.sin(), (2 * x).cos()])
        assert risk(LOSSES[name], other, p, q) > lowest - 1e-12


def test_optimal_critic_where_nothing_lives():
    p, q = torch.tensor([0.0, 0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 0.5, 0.5])
    assert theory.optimal_critic(p, q).tolist() == [0.5, 1.0, 0.5, 0.0]
    assert theory.triangular(p, q).item() == 1.0 and theory.total_variation(p, q).item() == 0.5
    assert theory.squared_hellinger(p, q).item() == 0.5


def test_minimax_at_the_best_critic_descends_twice_js_and_the_other_does_not():
    """The envelope theorem, and theorem 2.5 of Arjovsky & Bottou: gradients by (mean, sd), both sides by autograd."""
    x, p, _ = two_densities()

    def density(mean, sd):
        return Normal(mean, sd).log_prob(x).exp() * (x[1] - x[0])

    at = torch.tensor([1.0, 1.4]).double().requires_grad_()
    q = density(*at)
    logit = (p / q).log().detach()
    for loss, side in ((objectives.minimax, 2 * jensen_shannon(p, q)),
                       (objectives.non_saturating, kl_divergence(q, p) - 2 * jensen_shannon(p, q))):
        step = theory.expected(loss(logit[:, None], logit[None, :]).generator, p, q)
        torch.testing.assert_close(*(torch.autograd.grad(f, at, retain_graph=True)[0] for f in (step, side)),
                                   atol=1e-7, rtol=0)


# ---- penalties -----------------------------------------------------------------------------------------------------
class Quadratic(nn.Module):
    """D(x) = w |x|^2 / 2, whose gradient is w x."""

    def __init__(self, weight=3.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight).double())

    def forward(self, x):
        return self.weight * x.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize("event", [(2,), (1, 4, 4)])
def test_penalties_are_per_sample_and_differentiable_in_the_weights(event):
    critic, x = Quadratic(), torch.randn(5, *event).double()
    squares = x.flatten(1).square().sum(1)
    torch.testing.assert_close(objectives.gradient_norms(critic, x), 3 * squares.sqrt())
    penalty = objectives.zero_centred(critic, x, gamma=0.7)
    torch.testing.assert_close(penalty, 0.35 * 9 * squares)
    (by_weight,) = torch.autograd.grad(penalty.sum(), critic.weight)
    torch.testing.assert_close(by_weight, 0.7 * 3 * squares.sum())
    same = objectives.one_centred(critic, x, x, weight=2.0)                     # between x and x there is x
    torch.testing.assert_close(same, 2 * (3 * squares.sqrt() - 1).square())
    with pytest.raises(AssertionError):                                        # a norm over the batch is none of one
        torch.testing.assert_close(objectives.zero_centred(critic, x[:1], 0.7).expand(5), penalty)


def test_one_centred_points_lie_between_real_and_fake():
    seen = []

    def critic(x):
        seen.append(x.detach())
        return x.sum(1)

    real, fake = torch.zeros(200, 2), torch.tensor([1.0, 3.0]).expand(200, 2)
    assert objectives.one_centred(critic, real, fake).shape == (200,)
    between = seen[0]
    torch.testing.assert_close(between[:, 1], 3 * between[:, 0])                # one share for all axes of a sample
    assert between[:, 0].min() < 0.1 and between[:, 0].max() > 0.9


def test_a_flat_critic_has_a_finite_penalty_gradient():
    critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double()
    nn.init.zeros_(critic[0].weight)
    objectives.zero_centred(critic, torch.randn(4, 2).double(), 1.0).sum().backward()
    assert critic[0].weight.grad.isfinite().all()


def test_clipping_clips():
    critic = nn.Linear(10, 1)
    nn.init.normal_(critic.weight)
    objectives.clip_weights_(critic, 0.1)
    assert critic.weight.abs().max() <= 0.1 and critic.weight.requires_grad


# ---- a game solved by hand -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("gamma, gamma_fake", [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0), (2.0, 0.0), (0.3, 0.2), (0.5, 0.0)])
def test_dirac_eigenvalues_are_those_of_the_fields_jacobian(gamma, gamma_fake):
    def field(point):
        return torch.stack(theory.dirac_field(*point, torch.sigmoid, gamma=gamma, gamma_fake=gamma_fake))

    jacobian = torch.autograd.functional.jacobian(field, torch.zeros(2).double())
    found = torch.linalg.eigvals(jacobian)
    wanted = theory.dirac_eigenvalues(0.5, gamma + gamma_fake)
    distance = (found[:, None] - wanted[None, :]).abs().min(1).values
    assert distance.max() < 1e-6


def test_the_dirac_field_is_what_the_players_descend():
    """theta descends and psi ascends log sigma(D(0)) + log(1 - sigma(D(theta))) - gamma/2 psi^2, D(x) = psi x."""
    theta, psi = torch.tensor(0.7).double().requires_grad_(), torch.tensor(-0.4).double().requires_grad_()
    terms = objectives.minimax(0 * psi, psi * theta)
    critic = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(critic.weight, -0.4)
    r1 = objectives.zero_centred(lambda x: critic(x).squeeze(1), torch.zeros(1, 1).double(), 0.3)
    by_theta = -torch.autograd.grad(terms.generator, theta, retain_graph=True)[0]
    by_psi = -torch.autograd.grad(terms.critic, psi)[0] - torch.autograd.grad(r1.sum(), critic.weight)[0].squeeze()
    moved = theory.dirac_field(theta.detach(), psi.detach(), torch.sigmoid, gamma=0.3)
    torch.testing.assert_close(torch.stack([by_theta, by_psi]), torch.stack(moved))


def test_dirac_paths_grow_circle_or_arrive():
    radius = lambda path: path.norm(dim=1)                                       # noqa: E731
    path = theory.dirac_path(0.6, 0.0, 0.2, theory.sigma, 300)
    factor = (1 + 0.04 * torch.sigmoid(path[:, 0] * path[:, 1]).square()).sqrt()
    torch.testing.assert_close(radius(path)[1:], radius(path)[:-1] * factor[:-1])
    around = radius(theory.dirac_path(0.6, 0.0, 0.2, theory.sigma, 3_000, alternating=True))
    assert around[1000:].max() < 1.2 * around[:1000].max() and around[1000:].min() > 0.8 * around[:1000].min()
    for gamma, arrives in ((0.06, True), (0.04, False)):                         # the border is step * l'(0)^2 = 0.05
        end = radius(theory.dirac_path(1e-3, 0.0, 0.2, theory.sigma, 3_000, gamma=gamma))
        assert (end[-1] < end[0]) == arrives
    assert radius(theory.dirac_path(0.6, 0.0, 0.2, theory.sigma, 1_000, gamma=1.0))[-1] < 1e-6


def test_wasserstein_on_the_line_against_shifts_and_scipy():
    from scipy.stats import wasserstein_distance

    x, y = torch.randn(300).double(), 2 * torch.randn(300).double() + 1
    assert theory.wasserstein_1d(x, x + 3).item() == pytest.approx(3)
    assert theory.wasserstein_1d(x, y).item() == pytest.approx(wasserstein_distance(x, y))
    with pytest.raises(ValueError, match="expected y to be floats of shape"):
        theory.wasserstein_1d(x, y[:7])


# ---- models --------------------------------------------------------------------------------------------------------
def test_the_critics_loss_trains_the_critic_only_and_the_generators_reaches_the_generator():
    model = gan.plane_gan(penalty=gan.penalised(0.5, 0.5))
    x = torch.randn(16, 2)
    model.critic_loss(x)["loss"].backward()
    assert all(weight.grad is None for weight in model.generator.parameters())
    assert all(weight.grad is not None for weight in model.critic.parameters())
    model.zero_grad()
    model.generator_loss(x)["loss"].backward()
    assert all(weight.grad.abs().max() > 0 for weight in model.generator.parameters())


@pytest.mark.parametrize("name", LOSSES)
def test_a_models_losses_are_the_formulas(name):
    model = gan.plane_gan(loss=LOSSES[name], penalty=gan.penalised(0.5))
    x, state = torch.randn(16, 2), torch.get_rng_state()
    found = model.critic_loss(x)
    torch.set_rng_state(state)
    fake = model.sample(16)
    terms = LOSSES[name](model.critic(x), model.critic(fake))
    penalty = objectives.zero_centred(model.critic, x, 0.5).mean()
    torch.testing.assert_close(found["loss"], terms.critic.mean() + penalty)
    torch.testing.assert_close(found["penalty"], penalty)
    torch.set_rng_state(state)
    torch.testing.assert_close(model.generator_loss(x)["loss"], terms.generator.mean())


def test_dcgan_shapes_and_the_range_of_codes_and_pixels():
    for shape in ((1, 28, 28), (3, 64, 64), (1, 8, 8)):
        model = gan.dcgan(shape, width=4, critic_width=4, n_codes=100)
        drawn = model.sample(3)
        assert drawn.shape == (3, *shape) and drawn.min() >= 0 and drawn.max() <= 1
        assert model.critic(drawn).shape == (3,)
        layers = [type(layer) for layer in model.generator.modules()]
        assert nn.ConvTranspose2d in layers and nn.BatchNorm2d in layers
    z = model.prior().sample((10_000,))
    assert z.shape == (10_000, 100) and z.abs().max() <= 1
    assert (z.mean(0).abs() < 5 / math.sqrt(3 * 10_000)).all()                  # five standard errors, 100 means
    with pytest.raises(ValueError, match="halves evenly"):
        gan.dcgan((1, 30, 30))


def test_a_conditional_gan_needs_labels_and_uses_them():
    model = gan.dcgan(width=4, critic_width=4, n_classes=10)
    z, x = model.prior().sample((4,)), torch.rand(4, 1, 28, 28)
    y = torch.tensor([0, 1, 2, 3])
    assert not torch.allclose(model.eval().generator(z, y), model.generator(z, y.flip(0)))
    assert not torch.allclose(model.critic(x, y), model.critic(x, y.flip(0)))
    with pytest.raises(ValueError, match="expected a label"):
        model.sample(4)
    with pytest.raises(ValueError, match="expected no label"):
        gan.dcgan(width=4).sample(4, y)


def test_a_spectral_critic_is_lipschitz():
    model = gan.plane_gan(spectral=True)
    for _ in range(50):                                                         # the power iteration settles
        model.critic(torch.randn(8, 2))
    model.eval()
    assert objectives.gradient_norms(model.critic, 3 * torch.randn(500, 2)).max() <= 1.02


def test_a_share_of_the_batch_has_the_penalty_of_the_batch_on_average():
    critic, x = Quadratic(), torch.randn(64, 2).double()
    whole = objectives.zero_centred(critic, x, 2.0)
    part = gan.penalised(2.0, share=0.25)(critic, x, x)
    assert part.shape == (16,)
    torch.testing.assert_close(part, whole[:16])
