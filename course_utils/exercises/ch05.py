"""Exercises of chapter 05: generative adversarial networks."""

import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.nn.functional import softplus

from course_utils.exercises import Exercise, Finding, Probe
from course_utils.nn.mlp import MLP

D = torch.float64


# ---------------------------------------------------------------------------------------------- 5.1 the best critic
def critic_probability(log_p, log_q):
    """The best critic's probability that x is real.

    log_p, log_q: (N,), log-densities of the data and of the fakes at N points, in nats; may be
    far below -1,000.
    Returns (N,): D*(x).
    """
    return torch.sigmoid(log_p - log_q)


def _critic_swapped(log_p, log_q):
    """That is the probability of fake. Real is the density of the data over the sum of both."""
    return torch.sigmoid(log_q - log_p)


def _critic_ratio(log_p, log_q):
    """p / q is the odds, not a probability: divide p by p + q."""
    return (log_p - log_q).exp()


def _critic_underflow(log_p, log_q):
    """exp(-5000) is 0 in floating point, and 0 / 0 is NaN. Divide numerator and denominator by p first."""
    return log_p.exp() / (log_p.exp() + log_q.exp())


def _critic_padded(log_p, log_q):
    """A small number below the line does not help where p and q both vanish. Only log p - log q matters."""
    return log_p.exp() / (log_p.exp() + log_q.exp() + 1e-12)


def _critic_of_logs(log_p, log_q):
    """The ratio is taken of densities, not of their logarithms."""
    return log_p / (log_p + log_q)


def _critic_probes(generator):
    log_p, log_q = torch.randn(2, 5, generator=generator, dtype=D)
    far = torch.tensor([-5000.0, -5003.0, -9000.0], dtype=D)
    return [
        Probe("three to one", (torch.tensor([-1.0], dtype=D), torch.tensor([-1.0], dtype=D) - torch.log(
            torch.tensor(3.0, dtype=D))), "p = 3 q, so of four such points three are real."),
        Probe("one half where both are equal", (log_p, log_p), "p / (p + q) with p = q."),
        Probe("thousands of nats below zero", (far, far + torch.tensor([0.0, 2.0, -1.0], dtype=D)),
              "Only the difference log p - log q matters: it is the logit."),
        Probe("anything in between", (log_p, log_q), "D* = p / (p + q)."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- 5.2 stable losses
def gan_losses(real, fake):
    """What the critic and the generator minimise, from logits.

    real, fake: (B,), the critic's logits on data and on fakes; the probability of "real" is
    sigmoid(logit).
    Returns (critic, generator), two numbers in nats: the critic's mean cross-entropy -log D(x)
    - log(1 - D(G(z))), and the mean non-saturating loss -log D(G(z)).
    """
    return (softplus(-real) + softplus(fake)).mean(), softplus(-fake).mean()


def _losses_overflow(real, fake):
    """sigmoid(800) is exactly 1 in floating point, so log(1 - D) is -inf. log sigmoid(a) is -softplus(-a)."""
    a, b = real.sigmoid(), fake.sigmoid()
    return (-a.log() - (1 - b).log()).mean(), -b.log().mean()


def _losses_clamped(real, fake):
    """A clamp stops the price of a sure mistake early. log sigmoid(a) is -softplus(-a), for any a."""
    a, b = real.sigmoid().clamp(1e-7, 1 - 1e-7), fake.sigmoid().clamp(1e-7, 1 - 1e-7)
    return (-a.log() - (1 - b).log()).mean(), -b.log().mean()


def _losses_saturating(real, fake):
    """That is the minimax loss log(1 - D(G(z))), which saturates. The usual generator minimises -log D(G(z))."""
    return (softplus(-real) + softplus(fake)).mean(), -softplus(fake).mean()


def _losses_signs(real, fake):
    """The critic should be cheap where real logits are high and fake ones low: look at both signs."""
    return (softplus(real) + softplus(-fake)).mean(), softplus(-fake).mean()


def _losses_printed_sign(real, fake):
    """E log D(G(z)) is what the generator wants to be large. A loss is its negative."""
    return (softplus(-real) + softplus(fake)).mean(), -softplus(-fake).mean()


def _losses_halved(real, fake):
    """Add both terms of the critic; here they are not averaged."""
    return (softplus(-real) + softplus(fake)).mean() / 2, softplus(-fake).mean()


def _losses_summed(real, fake):
    """Take means over the batch, not sums."""
    return (softplus(-real) + softplus(fake)).sum(), softplus(-fake).sum()


def _losses_probes(generator):
    real, fake = (3 * torch.randn(2, 4, generator=generator, dtype=D)).round(decimals=1)
    zero = torch.zeros(3, dtype=D)
    return [
        Probe("an undecided critic pays log 4, and the generator log 2", (zero, zero), "With D = 1/2 every term is "
              "log 2."),
        Probe("a critic that is sure and right pays nothing", (zero + 40, zero - 40), "softplus(-40) is nearly 0."),
        Probe("real and fake are not the same", (zero + 2, zero), "Data enter with -log D, fakes with -log(1 - D)."),
        Probe("any logits", (real, fake), "-log sigmoid(a) = softplus(-a), and 1 - sigmoid(b) = sigmoid(-b)."),
        Probe("sure and wrong costs the logit itself", (zero - 800, zero + 800),
              "softplus(800) is 800: no probability may be formed on the way."),
        Probe("a fake that is recognised for sure", (zero, zero - 800), "-log sigmoid(-800) is 800."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------- 5.3 build a critic
def fitted_critic(real, fake):
    """Train a critic on samples and return it.

    real, fake: (N, 1), samples of two densities on the line, N = 8,000 each.
    Returns a trained network (an nn.Module): called with (M, 1), it gives the logits (M,) of
    "real".
    """
    network = nn.Sequential(MLP([1, 16, 16, 1], nn.Tanh), nn.Flatten(0))
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = softplus(-network(real)).mean() + softplus(network(fake)).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return network


def _fitted_untrained(real, fake):
    """The network was returned as it was made: run an optimiser on the critic's loss."""
    return nn.Sequential(MLP([1, 16, 16, 1], nn.Tanh), nn.Flatten(0))


def _fitted_column(real, fake):
    """Logits of M points are (M,), not (M, 1): flatten the last axis."""
    return MLP([1, 16, 16, 1], nn.Tanh)


def _fitted_constant(real, fake):
    """The answer does not depend on x: is the network called with the points?"""
    class Constant(nn.Module):
        def forward(self, x):
            return 0 * x[:, 0]

    return Constant()


def _fitted_probability(real, fake):
    """Those are probabilities. Return logits: the number before the sigmoid."""
    return nn.Sequential(fitted_critic(real, fake), nn.Sigmoid())


def _fitted_swapped(real, fake):
    """Large logits must mean "real", and yours mean "fake"."""
    return fitted_critic(fake, real)


def _fitted_linear(real, fake):
    """The logit of D* is no straight line here: the network needs hidden units and enough steps."""
    network = nn.Sequential(nn.Linear(1, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(network.parameters(), 5e-2)
    for _ in range(300):
        optimizer.zero_grad()
        (softplus(-network(real)).mean() + softplus(network(fake)).mean()).backward()
        optimizer.step()
    return network


def _fitted_trial(build, generator):
    shift, wide = torch.rand(2, generator=generator).tolist()
    p = MixtureSameFamily(Categorical(torch.tensor([0.5, 0.5])), Normal(torch.tensor([-1.5, 1.5]), torch.tensor(0.6)))
    q = Normal(0.5 * shift, 1.3 + 0.3 * wide)
    real = 1.5 * (2 * torch.randint(2, (8_000, 1), generator=generator) - 1) + 0.6 * torch.randn(
        8_000, 1, generator=generator)
    fake = q.loc + q.scale * torch.randn(8_000, 1, generator=generator)
    x = torch.linspace(-6, 6, 241)[:, None]
    p_x, q_x = (density.log_prob(x[:, 0]).exp() for density in (p, q))
    critic = build(real, fake)
    with torch.no_grad():
        logits = critic(x)
    shape = tuple(logits.shape)
    yield Finding("(M, 1) points give (M,) logits", shape == (241,), f"241 points gave the shape {shape}.",
                  "Flatten the last axis of the network's output.")
    spread = (logits.max() - logits.min()).item()
    yield Finding("the logit depends on x", spread > 0.1, f"Its values differ by at most {spread:.2g}.",
                  "Call the network with the points, and train it.")
    yield Finding("these are logits, not probabilities", bool((logits < 0).any()), f"The lowest is {logits.min():.2f}.",
                  "Where fakes outnumber data the logit is negative.")
    seen = p_x + q_x >= 0.05 * (p_x + q_x).max()
    best = p_x / (p_x + q_x)
    alike = torch.corrcoef(torch.stack([logits.sigmoid()[seen], best[seen]]))[0, 1].item()
    yield Finding("high where data outnumber fakes", alike > 0.5, f"The correlation with D* is {alike:.2f}.",
                  "Data should cost softplus(-logit), fakes softplus(logit).")
    error = (logits.sigmoid() - best)[seen].abs().max().item()
    yield Finding("within 0.12 of D* wherever p + q is at least 5 % of its maximum", error < 0.12,
                  f"The largest error is {error:.3f}.",
                  "More hidden units, tanh in place of ReLU, more steps, or L-BFGS on all samples at once.")


# ---------------------------------------------------------------------------------------------------- 5.4 find the bug
def one_round(theta, psi, x, z):
    """One round of the game: the critic's step, then the generator's.

    theta, psi: numbers as 0-dim tensors; fakes are theta * z, logits are psi * x.
    x, z: (B,), data and codes; the same codes are used for both steps.
    Returns (theta, psi) after steps of size 0.1 down each player's mean loss: the critic's is
    the cross-entropy softplus(-real) + softplus(fake), the generator's the non-saturating
    softplus(-fake), with the critic's new psi.
    """
    theta, psi = theta.clone().requires_grad_(), psi.clone().requires_grad_()
    fake = theta.detach() * z
    critic_loss = (softplus(-psi * x) + softplus(psi * fake)).mean()
    critic_loss.backward()
    new_psi = (psi - 0.1 * psi.grad).detach()
    generator_loss = softplus(-new_psi * theta * z).mean()
    generator_loss.backward()
    return (theta - 0.1 * theta.grad).detach(), new_psi


def _round_slopes(theta, psi, x, z):
    by_psi = (-x * torch.sigmoid(-psi * x) + theta * z * torch.sigmoid(psi * theta * z)).mean()
    return by_psi, lambda psi: (-psi * z * torch.sigmoid(-psi * theta * z)).mean()


def _round_without_detach(theta, psi, x, z):
    """The generator still has a gradient from the critic's step: its fakes were not detached there."""
    by_psi, by_theta = _round_slopes(theta, psi, x, z)
    leaked = (psi * z * torch.sigmoid(psi * theta * z)).mean()
    new_psi = psi - 0.1 * by_psi
    return theta - 0.1 * (by_theta(new_psi) + leaked), new_psi


def _round_at_once(theta, psi, x, z):
    """The generator answers the critic's *new* psi, and yours answers the old one."""
    by_psi, by_theta = _round_slopes(theta, psi, x, z)
    return theta - 0.1 * by_theta(psi), psi - 0.1 * by_psi


def _round_frozen(theta, psi, x, z):
    """The generator has not moved at all: detach the fakes in the critic's loss only."""
    by_psi, _ = _round_slopes(theta, psi, x, z)
    return theta, psi - 0.1 * by_psi


def _round_saturating(theta, psi, x, z):
    """The generator descends softplus(-fake); -softplus(fake) is the loss that saturates."""
    by_psi, _ = _round_slopes(theta, psi, x, z)
    new_psi = psi - 0.1 * by_psi
    return theta + 0.1 * (new_psi * z * torch.sigmoid(new_psi * theta * z)).mean(), new_psi


def _round_uphill(theta, psi, x, z):
    """Both players descend their own loss: subtract the gradients."""
    by_psi, by_theta = _round_slopes(theta, psi, x, z)
    new_psi = psi + 0.1 * by_psi
    return theta + 0.1 * by_theta(new_psi), new_psi


def _round_probes(generator):
    x, z = torch.tensor([1.0, 2.0, 3.0], dtype=D), torch.tensor([1.0, -0.5, 2.0], dtype=D)
    theta, psi = torch.tensor(0.5, dtype=D), torch.tensor(2.0, dtype=D)
    more = torch.randn(2, 6, generator=generator, dtype=D).round(decimals=2)
    return [
        Probe("a critic with a steep slope", (theta, psi, x, z), "What is left in theta.grad when the generator's "
              "turn comes?"),
        Probe("a critic that knows nothing moves, and the generator follows", (theta, 0 * psi, x, z),
              "With psi = 0 no gradient reaches theta in the critic's step."),
        Probe("any data", (theta, -0.3 * psi, *more), "The critic's step must leave theta, and its gradient, alone."),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- 5.5 predict
def growth_of_js():
    """Data and fakes are uniform on two intervals of length 1, whose left ends are 2 apart.
    Now they are moved to a distance of 4. By how many nats does the Jensen–Shannon divergence
    grow?
    """
    return 0.0


# ---------------------------------------------------------------------------------------------------- 5.6 find the bug
def gradient_penalty(slopes):
    """The one-centred penalty (||gradient|| - 1)^2, averaged over the batch.

    slopes: (B, C, H, W), the gradient of each sample's logit by that sample.
    Returns a number: the mean over the B samples; the norm of a sample runs over all its
    numbers.
    """
    return (slopes.flatten(1).norm(dim=1) - 1).square().mean()


def _penalty_axis_one(slopes):
    """The norm runs over axis 1 only, so every pixel has a norm of its own. One norm a sample is wanted."""
    return (slopes.norm(2, dim=1) - 1).square().mean()


def _penalty_whole_batch(slopes):
    """That is one norm for the whole batch. Each sample has its own."""
    return (slopes.norm() - 1).square()


def _penalty_over_batch(slopes):
    """The norm runs over the batch; the samples are the first axis and stay apart."""
    return (slopes.flatten(1).norm(dim=0) - 1).square().mean()


def _penalty_squared(slopes):
    """The norm is the square root of the sum of squares."""
    return (slopes.flatten(1).square().sum(1) - 1).square().mean()


def _penalty_zero_centred(slopes):
    """Subtract 1: this penalty is centred at slope one."""
    return slopes.flatten(1).norm(dim=1).square().mean()


def _penalty_mean_square(slopes):
    """Sum the squares over the numbers of a sample; a mean makes the norm depend on the size of the image."""
    return (slopes.flatten(1).square().mean(1).sqrt() - 1).square().mean()


def _penalty_probes(generator):
    one = torch.zeros(2, 1, 2, 2, dtype=D)
    one[:, 0, 0, 0] = 1.0
    spread = torch.full((3, 1, 2, 2), 0.5, dtype=D)
    return [
        Probe("slope one everywhere costs nothing", (spread,), "Four slopes of 0.5 have the norm 1."),
        Probe("so does one pixel of slope 1", (one,), "The norm of (1, 0, 0, 0) is 1."),
        Probe("a flat critic costs 1", (0 * one,), "(0 - 1)^2."),
        Probe("any slopes, two channels", (torch.randn(3, 2, 2, 2, generator=generator, dtype=D).round(decimals=1),),
              "Flatten each sample, then take its norm."),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- 5.7 covered modes
def covered_modes(samples, centres, std, least):
    """How many modes have enough samples.

    samples: (N, 2); centres: (K, 2), the modes; std: the standard deviation of each.
    least: how many samples within 3 std of its centre a mode needs. Modes are more than 6 std
    apart.
    Returns a whole number.
    """
    near = torch.cdist(samples, centres) <= 3 * std
    return int((near.sum(0) >= least).sum())


def _covered_nearest(samples, centres, std, least):
    """Far samples count too: a sample belongs to a mode only within 3 std of it."""
    counts = torch.bincount(torch.cdist(samples, centres).argmin(1), minlength=len(centres))
    return int((counts >= least).sum())


def _covered_hit(samples, centres, std, least):
    """One hit is not enough: count the modes with at least ``least`` samples."""
    return int((torch.cdist(samples, centres) <= 3 * std).any(0).sum())


def _covered_one_std(samples, centres, std, least):
    """Within 3 std, not 1."""
    return int(((torch.cdist(samples, centres) <= std).sum(0) >= least).sum())


def _covered_more(samples, centres, std, least):
    """At least ``least`` samples: exactly that many are enough."""
    return int(((torch.cdist(samples, centres) <= 3 * std).sum(0) > least).sum())


def _covered_axis(samples, centres, std, least):
    """You counted samples, not modes: sum over the samples first."""
    return int(((torch.cdist(samples, centres) <= 3 * std).sum(1) >= least).sum())


def _covered_box(samples, centres, std, least):
    """3 std is a distance in the plane: a circle, not a box."""
    gap = (samples[:, None] - centres).abs().amax(2)
    return int(((gap <= 3 * std).sum(0) >= least).sum())


def _covered_probes(generator):
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=D)
    two = torch.tensor([[0.5, 0.0], [0.0, -2.0], [10.0, 1.0], [5.0, 5.0]], dtype=D)
    corner = torch.tensor([[2.5, 2.5], [-2.5, 2.5], [10.0, 2.9], [10.0, 3.1]], dtype=D)
    cloud = centres[torch.randint(3, (60,), generator=generator)] + torch.randn(60, 2, generator=generator, dtype=D)
    return [
        Probe("one mode has two samples, one has one", (two, centres, 1.0, 2), "Only the first mode has 2."),
        Probe("a sample between the modes belongs to none", (two[3:], centres, 1.0, 1), "It is 7 std from each."),
        Probe("3 std is a circle", (corner, centres, 1.0, 1), "(2.5, 2.5) is 3.5 away from the origin."),
        Probe("exactly enough", (two, centres, 1.0, 1), "A mode with as many samples as asked for is covered."),
        Probe("many samples", (cloud, centres, 1.0, 10), "Count per mode, then compare."),
    ]  # fmt: skip


EXERCISES = (
    Exercise("5.1", 1, critic_probability, _critic_probes, wrong=(
        _critic_swapped, _critic_ratio, _critic_underflow, _critic_padded, _critic_of_logs)),
    Exercise("5.2", 2, gan_losses, _losses_probes, wrong=(
        _losses_overflow, _losses_clamped, _losses_saturating, _losses_signs, _losses_printed_sign, _losses_halved,
        _losses_summed)),
    Exercise("5.3", 3, fitted_critic, kind="build", trial=_fitted_trial, wrong=(
        _fitted_untrained, _fitted_column, _fitted_constant, _fitted_probability, _fitted_swapped, _fitted_linear)),
    Exercise("5.4", 2, one_round, _round_probes, wrong=(
        _round_without_detach, _round_at_once, _round_frozen, _round_saturating, _round_uphill)),
    Exercise("5.5", 1, growth_of_js, kind="predict", unit="nats", reason="JS compares densities point by point. Where "
             "the intervals do not overlap, every point belongs to one of them only, so JS is log 2 at any distance."),
    Exercise("5.6", 2, gradient_penalty, _penalty_probes, wrong=(
        _penalty_axis_one, _penalty_whole_batch, _penalty_over_batch, _penalty_squared, _penalty_zero_centred,
        _penalty_mean_square)),
    Exercise("5.7", 1, covered_modes, _covered_probes, wrong=(
        _covered_nearest, _covered_hit, _covered_one_std, _covered_more, _covered_axis, _covered_box)),
)  # fmt: skip
