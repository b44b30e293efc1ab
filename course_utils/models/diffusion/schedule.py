r"""How much of the image is left at step t: ``alpha_bar``, a tensor with T + 1 entries, ``alpha_bar[0] = 1``."""

import math

import torch
from torch import nn

from course_utils import expect


class Schedule(nn.Module):
    r"""The noise levels of T steps. All tensors are indexed 0…T, so the papers' formulas hold literally.

    ``alpha_bar``: ``(T+1,)``, from 1 down to 0 or above, strictly falling. It is kept in float64 and handed out in the
    type of what it multiplies. ``beta[t] = 1 - alpha_bar[t] / alpha_bar[t-1]`` is the variance of the noise that step t
    adds (``beta[0] = 0``: no such step), ``snr = alpha_bar / (1 - alpha_bar)``. (Ho, Jain & Abbeel 2020, eqs. 2 and 4,
    arXiv:2006.11239.) Taught in chapter 07.
    """

    def __init__(self, alpha_bar):
        super().__init__()
        alpha_bar = torch.as_tensor(alpha_bar).double()
        if alpha_bar.dim() != 1 or len(alpha_bar) < 2 or alpha_bar[0] != 1:
            first = f"{alpha_bar[0]:.4g}" if alpha_bar.dim() == 1 and len(alpha_bar) else "nothing"
            raise ValueError(f"expected alpha_bar (T+1,) that starts at 1 (no noise), got shape "
                             f"{tuple(alpha_bar.shape)} starting at {first}")
        if not (alpha_bar.diff() < 0).all() or not alpha_bar[-1] >= 0:
            raise ValueError("expected alpha_bar to fall from 1 to 0 or above: every step adds noise")
        self.register_buffer("alpha_bar", alpha_bar)

    @property
    def n_steps(self):
        """T."""
        return len(self.alpha_bar) - 1

    @property
    def beta(self):
        return torch.cat([self.alpha_bar.new_zeros(1), 1 - self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @property
    def snr(self):
        """Signal-to-noise ratio, infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def at(self, t, x):
        """``alpha_bar[t]`` for steps ``t (B,)``, shaped and typed to multiply ``x (B, ...event)``."""
        return self.alpha_bar[t].to(x.dtype).view(-1, *[1] * (x.dim() - 1))


def linear_schedule(n_steps=1_000, first=1e-4, last=0.02):
    r""":math:`\beta_t` in equal steps from ``first`` to ``last``.  (Ho, Jain & Abbeel 2020, section 4.)"""
    expect.number(last, "last", low=expect.number(first, "first", above=0, below=1), below=1)
    beta = torch.linspace(first, last, expect.count(n_steps, "n_steps"), dtype=torch.float64)
    return Schedule(torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)]))


def cosine_schedule(n_steps=1_000, offset=0.008, max_beta=0.999):
    r""":math:`\bar\alpha_t = f(t)/f(0)`, :math:`f(t)=\cos^2\bigl(\tfrac{t/T+s}{1+s}\tfrac\pi2\bigr)`, betas cut at
    ``max_beta``.

    ``offset=0, max_beta=1`` gives equal angles, :math:`\sqrt{\bar\alpha_t}=\cos(\tfrac{t}{T}\tfrac\pi2)`, which ends in
    pure noise. (Nichol & Dhariwal 2021, eq. 17, arXiv:2102.09672.)
    """
    expect.number(offset, "offset", low=0)
    expect.number(max_beta, "max_beta", above=0, high=1)
    time = torch.linspace(0, 1, expect.count(n_steps, "n_steps") + 1, dtype=torch.float64)
    f = ((time + offset) / (1 + offset) * math.pi / 2).cos().square()
    alpha_bar = ((f[1:] / f[:-1]).clamp(min=1 - max_beta)).cumprod(0)
    alpha_bar[alpha_bar < 1e-30] = 0.0                              # the cosine of pi/2 is 6e-17 in floating point
    return Schedule(torch.cat([f.new_ones(1), alpha_bar]))


def log_snr_schedule(n_steps=1_000, high=7.0, low=-5.0):
    r""":math:`\log\mathrm{SNR}_t` in equal steps from ``high`` at t = 1 to ``low`` at T.

    The steps for which the *bound* is tight: what a step costs too much grows with the square of its ratio of SNRs, and
    here all ratios are equal. (Kingma et al. 2021, section 4.1 and appendix, arXiv:2107.00630, whose ends are learned.)
    """
    expect.number(low, "low", below=expect.number(high, "high"))
    log_snr = torch.linspace(high, low, expect.count(n_steps, "n_steps"), dtype=torch.float64)
    return Schedule(torch.cat([log_snr.new_ones(1), log_snr.sigmoid()]))


def shifted(schedule, factor):
    r"""The same steps with every signal-to-noise ratio multiplied by ``factor``² (below 1: more noise everywhere).

    Large images need more noise than small ones before their content is gone, because neighbouring pixels repeat each
    other. (Hoogeboom, Heek & Salimans 2023, section 3.1, arXiv:2301.11093.)
    """
    expect.number(factor, "factor, which multiplies standard deviations,", above=0)
    signal = schedule.alpha_bar * factor**2
    return Schedule(signal / (signal + (1 - schedule.alpha_bar)))


def zero_terminal(schedule):
    r"""Stretch :math:`\sqrt{\bar\alpha_t}` so that it ends at exactly 0 and step 1 stays as it is.

    Then x_T really is pure noise, as sampling assumes. The noise says nothing about x_0 there, so such a network must
    predict x_0 or v: from a predicted eps, x_0 would be 0/0. (Lin et al. 2024, algorithm 1, arXiv:2305.08891.)
    """
    root = schedule.alpha_bar.sqrt()
    stretched = (root - root[-1]) * root[1] / (root[1] - root[-1])
    return Schedule(torch.cat([root.new_ones(1), stretched[1:].square()]))


# Which steps a sampler takes: whole numbers from high to 0 ------------------------------------------------------------


def trailing_steps(n_steps, n):
    """``n`` equal steps from T = ``n_steps`` to 0, both ends included: ``n + 1`` times."""
    _check_steps(n_steps, n)
    return torch.linspace(n_steps, 0, n + 1, dtype=torch.float64).round().long().tolist()


def leading_steps(n_steps, n):
    """Equal steps that begin below T: ``1 + k·(T // n)``, downwards, then 0. At its first time some signal is left, but
    the sampler starts from pure noise: what that loses is a matter of chapter 07."""
    _check_steps(n_steps, n)
    return [1 + k * (n_steps // n) for k in reversed(range(n))] + [0]


def _check_steps(n_steps, n):
    expect.count(n, f"n, steps out of the schedule's T = {n_steps},", 1, expect.count(n_steps, "n_steps"))
