r"""From noise to data: free functions that *yield* x at each time, so that a list of them is a film.

Diffusion samplers take ``denoise(x_t, t) -> x0_hat`` with steps ``t (B,)``; an exact posterior mean serves as well as a
network. ``times`` are whole numbers from high to low, such as ``schedule.trailing_steps(T, n)``; the first x that is
yielded is the one that was given. Samplers of differential equations take ``field(x, t)``, t a number, and any times.
"""

import collections
import itertools

import torch


def final(film):
    """The last x that a sampler yields; nothing else is kept."""
    (last,) = collections.deque(film, maxlen=1)
    return last


def pairs(times):
    """Neighbouring times, as numbers. ValueError unless there are two or more."""
    times = list(times)
    if len(times) < 2:
        raise ValueError(f"a sampler needs at least two times, from high to low; got {times}")
    return itertools.pairwise(times)


def levels(schedule, x, t, s):
    """``t`` as a tensor ``(B,)``, and alpha_bar at t and at s < t as numbers."""
    if not schedule.n_steps >= t > s >= 0:
        raise ValueError(f"steps fall from T = {schedule.n_steps} to 0, got a step from {t} to {s}")
    return torch.full((len(x),), t, device=x.device), schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()


# Diffusion ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def ddim(denoise, x, schedule, times, eta=0.0):
    r"""Keep the guess, mix it with the noise it implies, old and new:

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\epsilon + \sigma z, \qquad
              \sigma^2 = \eta^2\,\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\Bigl(1-\frac{\bar\alpha_t}{\bar\alpha_s}\Bigr)

    η = 0 draws no noise at all: a map from x_T to x_0. η = 1 is the posterior of DDPM. (Song, Meng & Ermon 2021,
    eqs. 12 and 16, arXiv:2010.02502.) Taught in chapter 07.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies between 0 (no noise) and 1 (the posterior of DDPM), got {eta}")
    yield x
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        x_0 = denoise(x, step)
        eps = (x - a_t**0.5 * x_0) / (1 - a_t) ** 0.5
        variance = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        x = a_s**0.5 * x_0 + (1 - a_s - variance) ** 0.5 * eps
        if variance > 0:
            x = x + variance**0.5 * torch.randn_like(x)
        yield x


@torch.no_grad()
def ancestral(denoise, x, schedule, times, wide=False, noise_at_the_end=False):
    r"""DDPM: draw x_s from the posterior :math:`q(x_s|x_t, x_0 = \hat x_0)`.

    ``wide``: variance :math:`\beta = 1-\bar\alpha_t/\bar\alpha_s` in place of :math:`\tilde\beta`; then the last step
    draws no noise unless ``noise_at_the_end``. (Ho, Jain & Abbeel 2020, algorithm 2 and section 3.2, arXiv:2006.11239.)
    Taught in chapter 07.
    """
    yield x
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        beta, noise, before = 1 - a_t / a_s, 1 - a_t, 1 - a_s
        x_0 = denoise(x, step)
        x = a_s**0.5 * beta / noise * x_0 + (1 - beta) ** 0.5 * before / noise * x
        variance = beta if wide else before / noise * beta
        if variance > 0 and (s > 0 or noise_at_the_end):
            x = x + variance**0.5 * torch.randn_like(x)
        yield x


@torch.no_grad()
def dpm_solver(denoise, x, schedule, times):
    r"""DPM-Solver++(2M): second order from one call a step, by remembering the last guess.

    With :math:`\lambda = \tfrac12\log\mathrm{SNR}`, :math:`h = \lambda_s-\lambda_t` and :math:`r = h_\text{before}/h`,

    .. math:: x_s = \frac{\sigma_s}{\sigma_t}\,x_t - \sqrt{\bar\alpha_s}\,(e^{-h}-1)\,D, \qquad
              D = \Bigl(1+\frac1{2r}\Bigr)\hat x_0(t) - \frac1{2r}\,\hat x_0(\text{before})

    where :math:`\sigma^2 = 1-\bar\alpha`. The first step has no guess before it, and a step to 0 noise takes the guess
    itself: both have D = :math:`\hat x_0`, which is DDIM. (Lu et al. 2022, algorithm 2, arXiv:2211.01095.) Chapter 07.
    """
    yield x
    before = gap_before = None
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        x_0 = guess = denoise(x, step)
        shrink = (((1 - a_s) * a_t) / ((1 - a_t) * a_s)) ** 0.5      # exp(-h): 0 for a step to no noise
        gap = -torch.tensor(shrink).log().item() if a_t > 0 else float("inf")
        if before is not None and 0 < gap < float("inf") and gap_before < float("inf"):
            guess = x_0 + (x_0 - before) * gap / (2 * gap_before)
        x = ((1 - a_s) / (1 - a_t)) ** 0.5 * x - a_s**0.5 * (shrink - 1) * guess
        before, gap_before = x_0, gap
        yield x


def clipped(denoise, low=-1.0, high=1.0):
    r"""``denoise`` with its guess kept in the range of the data.

    Samplers compute the noise *from the guess*, so that the two stay consistent:
    :math:`\sqrt{\bar\alpha}\,\hat x_0 + \sqrt{1-\bar\alpha}\,\hat\epsilon` is x_t again.
    """
    return lambda x, t: denoise(x, t).clamp(low, high)


@torch.no_grad()
def inpaint(denoise, x, schedule, times, known, where):
    """:func:`ddim` with η = 1, and after each step the places ``where`` (bool, broadcasts) are those of ``known``,
    noised to the level that was reached: what is drawn must fit to what stands there.

    A heuristic, not the exact posterior. (Lugmayr et al. 2022, section 4.1, arXiv:2201.09865.) Taught in chapter 07.
    """
    yield x
    for t, s in pairs(times):
        x = final(ddim(denoise, x, schedule, (t, s), eta=1.0))
        a_s = schedule.alpha_bar[s].item()
        x = torch.where(where, a_s**0.5 * known + (1 - a_s) ** 0.5 * torch.randn_like(x), x)
        yield x


# Guidance -------------------------------------------------------------------------------------------------------------


def guided(unconditional, conditional, s):
    r"""The guess pushed away from the unconditional one: :math:`\hat x_u + s\,(\hat x_c - \hat x_u)`.

    ``s`` = 0 ignores the label, 1 is the conditional model, above 1 exaggerates. A paper's w is ours minus 1. x_0, eps,
    v, score and velocity may all be mixed so, because each is an affine function of the others. (Ho & Salimans 2022,
    eq. 6, arXiv:2207.12598.) Taught in chapter 07.
    """
    return unconditional + s * (conditional - unconditional)


def classifier_free(network, y, s=1.0):
    """``network(x, t, y)``, which also knows ``y=None``, as a function of (x, t) guided towards labels ``y (B,)``."""

    def towards(x, t):
        conditional = network(x, t, y)
        return conditional if s == 1 else guided(network(x, t, None), conditional, s)

    return towards


def classifier_guided(denoise, log_prob, schedule, s=1.0):
    r"""``denoise`` led by a classifier of *noisy* images, ``log_prob(x_t, t) -> (B,)``, the log of the wanted label.

    The score of :math:`p(x)\,p(y|x)^s` is a sum; Tweedie's formula turns it into a guess,
    :math:`\hat x_0 + s\,\frac{1-\bar\alpha}{\sqrt{\bar\alpha}}\nabla\log p(y|x_t)`. (Dhariwal & Nichol 2021, section 4,
    arXiv:2105.05233.) Taught in chapter 07.
    """

    def towards(x, t):
        with torch.enable_grad():
            moved = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(log_prob(moved, t).sum(), moved)
        alpha_bar = schedule.at(t, x)
        return denoise(x, t) + s * (1 - alpha_bar) / alpha_bar**0.5 * slope

    return towards


# Differential equations -----------------------------------------------------------------------------------------------


@torch.no_grad()
def euler(field, x, times):
    """dx/dt = field(x, t) by straight steps: first order, one call of ``field`` a step."""
    yield x
    for t, s in pairs(times):
        x = x + (s - t) * field(x, t)
        yield x


@torch.no_grad()
def heun(field, x, times):
    """dx/dt = field(x, t) by a trial step and the mean of both slopes: second order, two calls a step."""
    yield x
    for t, s in pairs(times):
        slope = field(x, t)
        x = x + (s - t) / 2 * (slope + field(x + (s - t) * slope, s))
        yield x


@torch.no_grad()
def stochastic(field, score, x, times, noise):
    r"""Euler–Maruyama on the field, plus noise, plus the score that takes it back:

    .. math:: \mathrm dx = \Bigl(\pm v + \tfrac12 g^2\,\nabla\log p_t\Bigr)|\mathrm dt| + g\,\mathrm dW

    For every ``noise`` g(t) ≥ 0 the marginals are those of dx/dt = v. (Anderson 1982; Song et al. 2021, appendix D.1,
    arXiv:2011.13456.) Taught in chapter 07.
    """
    yield x
    for t, s in pairs(times):
        g, step = noise(t), abs(s - t)
        x = x + (s - t) * field(x, t) + step * g**2 / 2 * score(x, t) + step**0.5 * g * torch.randn_like(x)
        yield x


@torch.no_grad()
def langevin(score, x, n_steps, step_size):
    r"""Climb the score and shake: :math:`x \leftarrow x + \tfrac\eta2\nabla\log p(x) + \sqrt\eta\,\epsilon`.

    At one fixed noise level; for small η it leaves p as it is. (Welling & Teh 2011.) Chapters 01 and 07.
    """
    yield x
    for _ in range(n_steps):
        x = x + step_size / 2 * score(x) + step_size**0.5 * torch.randn_like(x)
        yield x


def divergence(field, x, t, probe=None):
    r""":math:`\operatorname{div} v = \sum_i \partial v_i/\partial x_i` at each ``x (B, ...event)``: ``(v, (B,))``.

    Exact, by one backward pass a dimension. With ``probe`` (signs ±1 at random, like x) one pass estimates it without
    bias, as :math:`e^\top (\partial v/\partial x)\,e`. (Grathwohl et al. 2019, section 3.1, arXiv:1810.01367.)
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = field(x, t)
        if probe is not None:
            (pulled,) = torch.autograd.grad((v * probe).sum(), x)
            return v.detach(), (pulled * probe).flatten(1).sum(1)
        total = 0
        for i in range(x[0].numel()):
            (row,) = torch.autograd.grad(v.flatten(1)[:, i].sum(), x, retain_graph=True)
            total = total + row.flatten(1)[:, i]
    return v.detach(), total


def ode_log_prob(field, x, times, base, probe=None):
    r"""log p(x), ``(B,)`` nats, of what dx/dt = field transports from ``base`` (a distribution) to the data.

    ``times`` lead from the data to the base. Along the path :math:`\mathrm d\log p/\mathrm dt = -\operatorname{div} v`,
    so :math:`\log p(x) = \log p_\text{base}(z) + \int \operatorname{div} v\,\mathrm dt`; Heun's rule for both, so the
    result is exact up to its steps. (Chen et al. 2018, theorem 1, arXiv:1806.07366.) Taught in chapter 07.
    """
    gained = x.new_zeros(len(x))
    for t, s in pairs(times):
        slope, spread = divergence(field, x, t, probe)
        slope_there, spread_there = divergence(field, x + (s - t) * slope, s, probe)
        x = x + (s - t) / 2 * (slope + slope_there)
        gained = gained + (s - t) / 2 * (spread + spread_there)
    return base.log_prob(x) + gained
