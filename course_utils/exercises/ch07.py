"""Exercises of chapter 07: diffusion and flow matching."""

import torch

from course_utils.distributions import GaussianMixture
from course_utils.exercises import Exercise, Finding, Probe
from course_utils.models.diffusion import samplers, schedule

D = torch.float64


def _tensor(*values):
    return torch.tensor(values, dtype=D)


# --------------------------------------------------------------------------------- 7.1 from betas to what is left
def signal_left(beta):
    """alpha_bar_0 ... alpha_bar_T: the share of the variance that is signal after each step.

    beta: (T,), the variances beta_1 ... beta_T.
    Returns (T+1,), starting with alpha_bar_0 = 1.
    """
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


def _left_without_zero(beta):
    """Time 0, before any noise, is missing: alpha_bar_0 = 1 stands first."""
    return (1 - beta).cumprod(0)


def _left_of_betas(beta):
    """What is kept is 1 - beta, not beta."""
    return torch.cat([beta.new_ones(1), beta.cumprod(0)])


def _left_sum(beta):
    """Steps multiply, they do not add: each keeps the share 1 - beta of what the last one left."""
    return torch.cat([beta.new_ones(1), 1 - beta.cumsum(0)])


def _left_root(beta):
    """alpha_bar is the share of the variance. Its root is the factor of x_0."""
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0).sqrt()])


def _left_late(beta):
    """The first step already takes something away: alpha_bar_1 = 1 - beta_1."""
    return torch.cat([beta.new_ones(2), (1 - beta[1:]).cumprod(0)])


def _left_probes(generator):
    return [
        Probe("one step", (_tensor(0.2),), "alpha_bar_0 = 1 and alpha_bar_1 = 0.8: two numbers."),
        Probe("two steps", (_tensor(0.5, 0.2),), "0.5 · 0.8 = 0.4 is left after both."),
        Probe("the last step leaves nothing", (_tensor(0.1, 1.0),), "beta may be 1: pure noise."),
        Probe("many steps", (torch.rand(6, generator=generator, dtype=D) * 0.3,), "A running product of 1 - beta."),
    ]


# ------------------------------------------------------------------------ 7.2 the step back, from predicted noise
def reverse_mean(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """Mean of q(x_s | x_t, x_0 = the guess), for a network that predicts noise.

    x_t, eps_hat: (B, D).
    alpha_bar_t, alpha_bar_s: numbers, alpha_bar at t and at the earlier time s (s = t - 1 in
    the paper).
    Returns (B, D).
    """
    alpha = alpha_bar_t / alpha_bar_s
    return (x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha**0.5


def _mean_is_guess(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """That is the guess of x_0. The step goes only to x_s: a weighted mean of the guess and of x_t, (7.8)."""
    return (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5


def _mean_without_scale(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """Going back also undoes the shrinking: divide by the root of alpha = alpha_bar_t / alpha_bar_s."""
    alpha = alpha_bar_t / alpha_bar_s
    return x_t - (1 - alpha) / (1 - alpha_bar_t) ** 0.5 * eps_hat


def _mean_all_noise(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """You take out the root of beta times the noise. The noise that one step back removes in the mean is less."""
    alpha = alpha_bar_t / alpha_bar_s
    return (x_t - (1 - alpha) ** 0.5 * eps_hat) / alpha**0.5


def _mean_ddim(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """That is DDIM with eta = 0: it keeps all of the predicted noise. The posterior keeps less, and draws the rest."""
    x_0 = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    return alpha_bar_s**0.5 * x_0 + (1 - alpha_bar_s) ** 0.5 * eps_hat


def _mean_no_root(x_t, eps_hat, alpha_bar_t, alpha_bar_s):
    """Below the noise stands the standard deviation, the root of 1 - alpha_bar_t."""
    alpha = alpha_bar_t / alpha_bar_s
    return (x_t - (1 - alpha) / (1 - alpha_bar_t) * eps_hat) / alpha**0.5


def _mean_probes(generator):
    x_t, eps = torch.randn(2, 3, 2, generator=generator, dtype=D)
    zero = torch.zeros(1, 1, dtype=D)
    return [
        Probe("no noise predicted: only the shrinking is undone", (zero + 1, zero, 0.32, 0.5),
              "x_t / sqrt(0.64) = 1.25."),
        Probe("a step to s = 0 ends at the guess", (zero + 1, zero + 1, 0.64, 1.0),
              "(1 - 0.36 / 0.6 · 1) / 0.8 = 0.5."),
        Probe("a step from t to t - 1", (x_t, eps, 0.5, 0.55),
              "(x_t - beta / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha)."),
        Probe("a jump over many steps", (x_t, eps, 0.1, 0.8), "alpha = alpha_bar_t / alpha_bar_s, not alpha_bar_t."),
    ]


# --------------------------------------------------------------------------------------------------- 7.3 ten steps
def kept_by_ten_steps():
    """What share of the variance of N(0, 1) do ten equal DDIM steps of a linear schedule keep?
    A number from 0 to 1.
    """
    return 0.7


# ---------------------------------------------------------------------------------------------- 7.4 one step of DDIM
def ddim_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """One step of DDIM from t to the earlier time s, for a network that predicts noise.

    x_t, eps_hat, z: (B, D); z is standard normal noise, given.
    alpha_bar_t, alpha_bar_s: numbers.  eta: a number, 0 draws no noise and 1 is DDPM.
    Returns x_s: (B, D).
    """
    x_0 = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5
    return alpha_bar_s**0.5 * x_0 + (1 - alpha_bar_s - sigma**2) ** 0.5 * eps_hat + sigma * z


def _ddim_no_room(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """Fresh noise comes on top of all the old noise. Take its variance away from the old: 1 - alpha_bar_s - sigma²."""
    sigma = eta * ((1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)) ** 0.5
    return ddim_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, 0.0, z) + sigma * z


def _ddim_variance(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """The noise is scaled by its standard deviation; you used the variance."""
    variance = eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)
    still = ddim_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, 0.0, z)
    return still + ((1 - alpha_bar_s - variance) ** 0.5 - (1 - alpha_bar_s) ** 0.5) * eps_hat + variance * z


def _ddim_swapped(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """t and s are swapped: the guess of x_0 is read at t, where you are; the new mix is made for s."""
    return ddim_step(x_t, eps_hat, alpha_bar_s, alpha_bar_t, 0.0, z)


def _ddim_always(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """eta is ignored: with eta = 0 no fresh noise is drawn."""
    return ddim_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, 1.0, z)


def _ddim_never(x_t, eps_hat, alpha_bar_t, alpha_bar_s, eta, z):
    """eta is ignored: with eta = 1 the step is DDPM's, with fresh noise."""
    return ddim_step(x_t, eps_hat, alpha_bar_t, alpha_bar_s, 0.0, z)


def _ddim_probes(generator):
    x_t, eps, z = torch.randn(3, 3, 2, generator=generator, dtype=D)
    one = torch.ones(1, 1, dtype=D)
    return [
        Probe("eta = 0: the same guess and the same noise, mixed anew", (one, 0 * one, 0.25, 0.64, 0.0, one),
              "x_0 = 1 / 0.5 = 2, and x_s = 0.8 · 2."),
        Probe("a step to no noise is the guess", (x_t, eps, 0.5, 1.0, 1.0, z), "With alpha_bar_s = 1, sigma is 0."),
        Probe("eta = 0 looks at no fresh noise", (x_t, eps, 0.3, 0.6, 0.0, z), "sigma = eta · …"),
        Probe("eta = 1 is DDPM", (x_t, eps, 0.3, 0.6, 1.0, z), "sigma² is the posterior variance of (7.8)."),
        Probe("eta in between", (x_t, eps, 0.3, 0.6, 0.5, z), "sigma is proportional to eta, sigma² to eta²."),
    ]


# ------------------------------------------------------------------------------------------------- 7.5 find the bug
def training_pair(x_0, eps, uniform, alpha_bar):
    """What the network is shown, and the step: (x_t, t), for training with predicted noise.

    x_0, eps: (B, D), clean data and standard normal noise.
    uniform: (B,), numbers in [0, 1).
    alpha_bar: (T+1,), alpha_bar[0] = 1.
    Returns x_t (B, D) and t (B,), whole numbers, each of 1 … T equally often.
    """
    t = 1 + (uniform * (len(alpha_bar) - 1)).long()
    left = alpha_bar[t][:, None]
    return left.sqrt() * x_0 + (1 - left).sqrt() * eps, t


def _pair_never_last(x_0, eps, uniform, alpha_bar):
    """The times run from 0 to T - 1: step T, where sampling starts, is never trained, and step 0 is no step."""
    t = (uniform * (len(alpha_bar) - 1)).long()
    left = alpha_bar[t][:, None]
    return left.sqrt() * x_0 + (1 - left).sqrt() * eps, t


def _pair_first_level(x_0, eps, uniform, alpha_bar):
    """The network is always shown x_1, whatever t it is told. Each example needs alpha_bar of its own t."""
    t = 1 + (uniform * (len(alpha_bar) - 1)).long()
    return alpha_bar[1].sqrt() * x_0 + (1 - alpha_bar[1]).sqrt() * eps, t


def _pair_all_times(x_0, eps, uniform, alpha_bar):
    """You draw from 0 … T. Step 0 is no step: there is no noise to predict."""
    t = (uniform * len(alpha_bar)).long()
    left = alpha_bar[t][:, None]
    return left.sqrt() * x_0 + (1 - left).sqrt() * eps, t


def _pair_as_given(x_0, eps, uniform, alpha_bar):
    """That is the code as it was given. What is x_t at t, and which times occur?"""
    t = (uniform * (len(alpha_bar) - 1)).long()
    return alpha_bar[1].sqrt() * x_0 + (1 - alpha_bar[1]).sqrt() * eps, t


def _pair_without_roots(x_0, eps, uniform, alpha_bar):
    """alpha_bar and 1 - alpha_bar are variances; signal and noise are multiplied by their roots."""
    t = 1 + (uniform * (len(alpha_bar) - 1)).long()
    left = alpha_bar[t][:, None]
    return left * x_0 + (1 - left) * eps, t


def _pair_probes(generator):
    alpha_bar = _tensor(1.0, 0.81, 0.49, 0.0)
    one = torch.ones(1, 1, dtype=D)
    x_0, eps = torch.randn(2, 4, 2, generator=generator, dtype=D)
    return [
        Probe("the largest numbers give step T, which is pure noise", (one, 2 * one, _tensor(0.99), alpha_bar),
              "T = 3 here, and x_3 is the noise."),
        Probe("the smallest give step 1", (one, 0 * one, _tensor(0.0), alpha_bar), "x_1 = 0.9 · x_0 and t = 1."),
        Probe("each example has its own level", (x_0, eps, _tensor(0.1, 0.4, 0.5, 0.9), alpha_bar),
              "alpha_bar[t] is (B,): give it a second dimension."),
    ]


# ----------------------------------------------------------------------------------------------- 7.6 build a sampler
def build_sampler(denoise, alpha_bar):
    """A sampler that follows the probability-flow ODE with at most 24 calls of ``denoise``.

    denoise(x_t, t): from x_t (B, 1) and a whole number t in 1 … T to the guess of x_0, (B, 1).
    alpha_bar: (T+1,), T = 960, from 1 down to nearly 0.
    Returns a function from noise (B, 1) at T to samples (B, 1) at 0. The same noise gives the
    same samples.
    """

    def sample(x):
        times = torch.linspace(len(alpha_bar) - 1, 0, 25).round().long().tolist()
        before = gap_before = None
        for t, s in zip(times[:-1], times[1:], strict=True):
            a_t, a_s = alpha_bar[t], alpha_bar[s]
            guess = denoise(x, t)
            if s == 0:
                return guess  # no noise is left: the guess itself
            shrink = ((1 - a_s) * a_t / ((1 - a_t) * a_s)).sqrt()
            gap = -shrink.log()  # the step in log SNR / 2
            better = guess if before is None else guess + (guess - before) * gap / (2 * gap_before)
            x = ((1 - a_s) / (1 - a_t)).sqrt() * x - a_s.sqrt() * (shrink - 1) * better
            before, gap_before = guess, gap

    return sample


def _sampler_trial(build, generator):
    levels = schedule.cosine_schedule(960)
    means = _tensor(-1.1, 0.8) + 0.2 * torch.rand(2, generator=generator, dtype=D)
    hidden = GaussianMixture(_tensor(0.4, 0.6), means[:, None], _tensor(0.08, 0.1)[:, None])
    calls = []

    def denoise(x, t):
        calls.append(t)
        return hidden.clean_given(x.double(), levels.alpha_bar[int(t)].item()).mean.to(x.dtype)

    noise = torch.randn(200, 1, generator=generator, dtype=D)
    sample = build(denoise, levels.alpha_bar)
    found = sample(noise.clone())
    yield Finding("samples have the shape of the noise", getattr(found, "shape", None) == noise.shape,
                  f"The shape is {tuple(getattr(found, 'shape', ()))}, of the noise {tuple(noise.shape)}.",
                  "Return a tensor (B, 1).")
    yield Finding("at most 24 calls of denoise", 0 < len(calls) <= 24, f"It called denoise {len(calls)} times.",
                  "Heun's rule needs two calls a step: then take 12 steps.")
    yield Finding("the walk starts at T", calls[0] == 960, f"The first call was at t = {int(calls[0])}.",
                  "The noise that comes is that of step T.")
    again = sample(noise.clone())
    yield Finding("the same noise gives the same samples", torch.equal(found, again),
                  f"Two runs differ by up to {(found - again).abs().max():.3f}.", "The ODE draws no fresh noise.")
    fine = samplers.final(samplers.dpm_solver(lambda x, t: denoise(x, t[0]), noise, levels, range(960, -1, -3)))
    error = (found - fine).abs().mean().item()
    yield Finding("within 0.012 of the fine solution from the same noise", error < 0.012,
                  f"The mean distance is {error:.4f}.",
                  "A first-order rule is not enough with 24 calls. Remember the last guess, or try a step and average.")


def _sampler_ddim(denoise, alpha_bar):
    """That is DDIM, a first-order rule: half the error costs twice the calls. Use the guess before, too."""

    def sample(x):
        times = torch.linspace(len(alpha_bar) - 1, 0, 25).round().long().tolist()
        for t, s in zip(times[:-1], times[1:], strict=True):
            guess = denoise(x, t)
            eps = (x - alpha_bar[t].sqrt() * guess) / (1 - alpha_bar[t]).sqrt()
            x = alpha_bar[s].sqrt() * guess + (1 - alpha_bar[s]).sqrt() * eps
        return x

    return sample


def _sampler_fine(denoise, alpha_bar):
    """That is exact enough, and takes far more than 24 calls."""
    levels = schedule.Schedule(alpha_bar)
    return lambda x: samplers.final(samplers.ddim(lambda x, t: denoise(x, int(t[0])), x, levels, range(960, -1, -2)))


def _sampler_random(denoise, alpha_bar):
    """Fresh noise is drawn in every step: that is DDPM, not the ODE."""
    levels, times = schedule.Schedule(alpha_bar), schedule.trailing_steps(960, 24)
    return lambda x: samplers.final(samplers.ddim(lambda x, t: denoise(x, int(t[0])), x, levels, times, eta=1.0))


def _sampler_late(denoise, alpha_bar):
    """Your walk begins below T, but the noise that comes is that of step T."""
    levels, times = schedule.Schedule(alpha_bar), schedule.leading_steps(960, 24)
    return lambda x: samplers.final(samplers.dpm_solver(lambda x, t: denoise(x, int(t[0])), x, levels, times))


# ----------------------------------------------------------------------------------------- 7.7 the papers' guidance
def guided_x0(x_t, eps_unconditional, eps_conditional, w, alpha_bar):
    """The guess of x_0 under classifier-free guidance, in the convention of Ho & Salimans.

    x_t, eps_unconditional, eps_conditional: (B, D), the network's two predictions of the
    noise.
    w: a number; w = 0 is the conditional model, w = -1 the unconditional one.
    alpha_bar: a number.
    Returns (B, D).
    """
    eps = (1 + w) * eps_conditional - w * eps_unconditional
    return (x_t - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def _guided_s(x_t, eps_unconditional, eps_conditional, w, alpha_bar):
    """You took w for our s. The papers' w is s - 1: w = 0 is the conditional model."""
    return guided_x0(x_t, eps_unconditional, eps_conditional, w - 1, alpha_bar)


def _guided_swapped(x_t, eps_unconditional, eps_conditional, w, alpha_bar):
    """The two predictions are swapped: guidance pushes away from the unconditional one."""
    return guided_x0(x_t, eps_conditional, eps_unconditional, w, alpha_bar)


def _guided_sum(x_t, eps_unconditional, eps_conditional, w, alpha_bar):
    """The weights must add up to 1: take w times the unconditional prediction away, do not add it."""
    return guided_x0(x_t, -eps_unconditional, eps_conditional, w, alpha_bar)


def _guided_eps(x_t, eps_unconditional, eps_conditional, w, alpha_bar):
    """That is the guided noise. The guess of x_0 is asked for."""
    return (1 + w) * eps_conditional - w * eps_unconditional


def _guided_probes(generator):
    x_t, u, c = torch.randn(3, 3, 2, generator=generator, dtype=D)
    one = torch.ones(1, 1, dtype=D)
    return [
        Probe("w = 0 is the conditional model", (one, 5 * one, one, 0.0, 0.64), "(1 - 0.6 · 1) / 0.8 = 0.5."),
        Probe("w = -1 is the unconditional model", (one, one, 5 * one, -1.0, 0.64), "(1 - 0.6 · 1) / 0.8 = 0.5."),
        Probe("w = 2 exaggerates", (x_t, u, c, 2.0, 0.36), "3 eps_c - 2 eps_u, then (7.5)."),
    ]


EXERCISES = (
    Exercise("7.1", 1, signal_left, _left_probes,
             (_left_without_zero, _left_of_betas, _left_sum, _left_root, _left_late)),
    Exercise("7.2", 2, reverse_mean, _mean_probes,
             (_mean_is_guess, _mean_without_scale, _mean_all_noise, _mean_ddim, _mean_no_root)),
    Exercise("7.3", 1, kept_by_ten_steps, kind="predict", unit="of the variance",
             reason="Each step multiplies x by the cosine of its angle. The linear schedule turns unequally: "
                    "a few steps turn far, and each of those loses much."),
    Exercise("7.4", 2, ddim_step, _ddim_probes,
             (_ddim_no_room, _ddim_variance, _ddim_swapped, _ddim_always, _ddim_never)),
    Exercise("7.5", 2, training_pair, _pair_probes,
             (_pair_never_last, _pair_first_level, _pair_all_times, _pair_as_given, _pair_without_roots)),
    Exercise("7.6", 4, build_sampler, kind="build", trial=_sampler_trial,
             wrong=(_sampler_ddim, _sampler_fine, _sampler_random, _sampler_late)),
    Exercise("7.7", 1, guided_x0, _guided_probes, (_guided_s, _guided_swapped, _guided_sum, _guided_eps)),
)
