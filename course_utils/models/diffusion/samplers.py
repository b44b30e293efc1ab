r"""From noise to data: free functions that *yield* x at each time, so that a list of them is a film.

Diffusion samplers take ``denoise(x_t, t) -> x0_hat`` with steps ``t (B,)``; an exact posterior mean serves as well as a
network. ``times`` are whole numbers from high to low, such as ``schedule.trailing_steps(T, n)``; the first x that is
yielded is the one that was given. Samplers of differential equations take ``field(x, t)``, t a number, and any times.
"""

import collections
import itertools

import torch

from course_utils import expect


def final(film):
    """The last x that a sampler yields; nothing else is kept."""
    last = collections.deque(film if isinstance(film, collections.abc.Iterable) else (), maxlen=1)
    if not last:
        raise ValueError("expected a film of at least one x, got none")
    return last[0]


def pairs(times):
    """Neighbouring times, as numbers. ValueError unless there are two or more."""
    times = list(times) if isinstance(times, collections.abc.Iterable) and not isinstance(times, str) else []
    if len(times) < 2:
        raise ValueError(f"expected at least two times, from the first to the last, got {times}")
    for t in times:
        expect.number(t, "a time")
    return itertools.pairwise(times)


def levels(schedule, x, t, s):
    """``t`` as a tensor ``(B,)``, and alpha_bar at t and at s < t as numbers."""
    t, s = (expect.count(step, "a step", 0) for step in (t, s))
    if not schedule.n_steps >= t > s:
        raise ValueError(f"expected steps that fall from T = {schedule.n_steps} to 0, got one from {t} to {s}")
    return torch.full((len(x),), t, device=x.device), schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()


def answered(function, x, t, name):
    """``function(x, t)``, with as many dimensions as ``x``: an answer (B,) to points (B, 1) would broadcast."""
    answer = expect.function(function, name)(expect.floats(x, "x"), t)
    expect.stretched(**{"x": x, f"what {name}(x, t) returns": expect.floats(answer, f"what {name}(x, t) returns")})
    return answer


# Diffusion ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def ddim(denoise, x, schedule, times, eta=0.0):
    r"""Keep the guess, mix it with the noise it implies, old and new:

    .. math:: x_s = \sqrt{\bar\alpha_s}\,\hat x_0
              + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\epsilon + \sigma z, \qquad
              \sigma^2 = \eta^2\,\frac{1-\bar\alpha_s}{1-\bar\alpha_t}
              \Bigl(1-\frac{\bar\alpha_t}{\bar\alpha_s}\Bigr)

    η = 0 draws no noise at all: a map from x_T to x_0. η = 1 is the posterior of DDPM. (Song,
    Meng & Ermon 2021, eqs. 12 and 16, arXiv:2010.02502.) Taught in chapter 07.
    """
    expect.number(eta, "eta, 0 (no noise) to 1 (the posterior of DDPM),", 0, 1)
    yield expect.floats(x, "x", "B", ...)
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        x_0 = answered(denoise, x, step, "denoise")
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
    yield expect.floats(x, "x", "B", ...)
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        beta, noise, before = 1 - a_t / a_s, 1 - a_t, 1 - a_s
        x_0 = answered(denoise, x, step, "denoise")
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
    yield expect.floats(x, "x", "B", ...)
    before = gap_before = None
    for t, s in pairs(times):
        step, a_t, a_s = levels(schedule, x, t, s)
        x_0 = guess = answered(denoise, x, step, "denoise")
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
    expect.function(denoise, "denoise")
    expect.number(low, "low", below=expect.number(high, "high"))
    return lambda x, t: denoise(x, t).clamp(low, high)


@torch.no_grad()
def inpaint(denoise, x, schedule, times, known, where):
    """:func:`ddim` with η = 1, and after each step the places ``where`` (bool, broadcasts) are those of ``known``,
    noised to the level that was reached: what is drawn must fit to what stands there.

    A heuristic, not the exact posterior. (Lugmayr et al. 2022, section 4.1, arXiv:2201.09865.) Taught in chapter 07.
    """
    yield expect.floats(x, "x", "B", ...)
    expect.expands(expect.floats(known, "known"), "known", *x.shape)
    expect.expands(expect.booleans(where, "where"), "where", *x.shape)
    for t, s in pairs(times):
        x = final(ddim(denoise, x, schedule, (t, s), eta=1.0))
        a_s = schedule.alpha_bar[s].item()
        x = torch.where(where, a_s**0.5 * known + (1 - a_s) ** 0.5 * torch.randn_like(x), x)
        yield x


# Guidance -------------------------------------------------------------------------------------------------------------


def guided(unconditional, conditional, s):
    r"""The guess pushed away from the unconditional one: :math:`\hat x_u + s\,(\hat x_c - \hat
    x_u)`.

    ``s`` = 0 ignores the label, 1 is the conditional model, above 1 exaggerates. A paper's w
    is ours minus 1. x_0, eps, v, score and velocity may all be mixed so, because each is an
    affine function of the others. (Ho & Salimans 2022, eq. 6, arXiv:2207.12598.)
    Taught in chapter 07.
    """
    expect.same_shape(unconditional=unconditional, conditional=conditional)
    expect.number(s, "s")
    return unconditional + s * (conditional - unconditional)


def classifier_free(network, y, s=1.0):
    """``network(x, t, y)``, which also knows ``y=None``, as a function of (x, t) guided towards labels ``y (B,)``."""
    expect.function(network, "network")
    expect.number(s, "s")
    y = expect.labels(y, "B")

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
    expect.function(denoise, "denoise")
    expect.function(log_prob, "log_prob")
    expect.number(s, "s")

    def towards(x, t):
        with torch.enable_grad():
            moved = x.detach().requires_grad_()
            log_p = expect.floats(log_prob(moved, t), "what log_prob(x, t) returns", len(x))
            (slope,) = torch.autograd.grad(log_p.sum(), moved)
        alpha_bar = schedule.at(t, x)
        return denoise(x, t) + s * (1 - alpha_bar) / alpha_bar**0.5 * slope

    return towards


# Differential equations -----------------------------------------------------------------------------------------------


@torch.no_grad()
def euler(field, x, times):
    """dx/dt = field(x, t) by straight steps: first order, one call of ``field`` a step."""
    yield expect.floats(x, "x", "B", ...)
    for t, s in pairs(times):
        x = x + (s - t) * answered(field, x, t, "field")
        yield x


@torch.no_grad()
def heun(field, x, times):
    """dx/dt = field(x, t) by a trial step and the mean of both slopes: second order, two calls a step."""
    yield expect.floats(x, "x", "B", ...)
    for t, s in pairs(times):
        slope = answered(field, x, t, "field")
        x = x + (s - t) / 2 * (slope + field(x + (s - t) * slope, s))
        yield x


@torch.no_grad()
def stochastic(field, score, x, times, noise):
    r"""Euler–Maruyama on the field, plus noise, plus the score that takes it back:

    .. math:: \mathrm dx = \Bigl(\pm v + \tfrac12 g^2\,\nabla\log p_t\Bigr)|\mathrm dt| + g\,\mathrm dW

    For every ``noise`` g(t) ≥ 0 the marginals are those of dx/dt = v. (Anderson 1982; Song et al. 2021, appendix D.1,
    arXiv:2011.13456.) Taught in chapter 07.
    """
    yield expect.floats(x, "x", "B", ...)
    for t, s in pairs(times):
        g, step = expect.number(expect.function(noise, "noise")(t), "what noise(t) returns", low=0), abs(s - t)
        slope, pull = answered(field, x, t, "field"), answered(score, x, t, "score")
        x = x + (s - t) * slope + step * g**2 / 2 * pull + step**0.5 * g * torch.randn_like(x)
        yield x


@torch.no_grad()
def langevin(score, x, n_steps, step_size):
    r"""Climb the score and shake: :math:`x \leftarrow x + \tfrac\eta2\nabla\log p(x) + \sqrt\eta\,\epsilon`.

    At one fixed noise level; for small η it leaves p as it is. (Welling & Teh 2011.) Chapters 01 and 07.
    """
    expect.number(step_size, "step_size", above=0)
    expect.function(score, "score")
    yield expect.floats(x, "x", "B", ...)
    for _ in range(expect.count(n_steps, "n_steps")):
        x = x + step_size / 2 * answered(lambda x, t: score(x), x, None, "score") + step_size**0.5 * torch.randn_like(x)
        yield x


def divergence(field, x, t, probe=None):
    r""":math:`\operatorname{div} v = \sum_i \partial v_i/\partial x_i` at each ``x (B, ...event)``: ``(v, (B,))``.

    Exact, by one backward pass a dimension. With ``probe`` (signs ±1 at random, like x) one pass estimates it without
    bias, as :math:`e^\top (\partial v/\partial x)\,e`. (Grathwohl et al. 2019, section 3.1, arXiv:1810.01367.)
    """
    expect.floats(x, "x", "B", "D", ...)
    expect.between(t, "t")
    if probe is not None:
        expect.same_shape(x=x, probe=probe)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = answered(field, x, t, "field")
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
    gained = expect.floats(x, "x", "B", "D", ...).new_zeros(len(x))
    for t, s in pairs(times):
        slope, spread = divergence(field, x, t, probe)
        slope_there, spread_there = divergence(field, x + (s - t) * slope, s, probe)
        x = x + (s - t) / 2 * (slope + slope_there)
        gained = gained + (s - t) / 2 * (spread + spread_there)
    return expect.floats(base.log_prob(x), "log p of the base", len(x)) + gained
