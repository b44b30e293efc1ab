r"""The diffusion process: what noise does in closed form, what can be read from it, the bound, and the model.

In every formula ``alpha_bar`` is a number, or a tensor that broadcasts with ``x``; ``Schedule.at(t, x)`` gives it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import Normal

from course_utils import expect
from course_utils.distributions import standard_normal
from course_utils.distributions.levels import to_levels
from course_utils.models.diffusion import samplers
from course_utils.models.diffusion.schedule import cosine_schedule, log_snr_schedule
from course_utils.nn.conditioning import AdaptiveMLP
from course_utils.nn.unet import ConvStack, UNet

# Forward and back -----------------------------------------------------------------------------------------------------


def q_sample(x_0, alpha_bar, eps):
    r"""A draw of :math:`q(x_t|x_0)` at once, :math:`x_t = \sqrt{\bar\alpha_t}\,x_0 +
    \sqrt{1-\bar\alpha_t}\,\epsilon`.

    ``eps``: standard normal, shaped like ``x_0``. (Ho, Jain & Abbeel 2020, eq. 4,
    arXiv:2006.11239.) Taught in chapter 07.
    """
    expect.between(alpha_bar, "alpha_bar", 0, 1)
    expect.stretched(x_0=x_0, eps=eps, alpha_bar=alpha_bar)
    return alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * eps


def posterior(x_0, x_t, alpha_bar_t, alpha_bar_s):
    r"""Mean and variance of :math:`q(x_s|x_t,x_0)` for an earlier time s < t; with s = t-1 the
    paper's

    .. math:: \tilde\mu = \frac{\sqrt{\bar\alpha_s}\,\beta}{1-\bar\alpha_t}\,x_0
              + \frac{\sqrt\alpha\,(1-\bar\alpha_s)}{1-\bar\alpha_t}\,x_t, \qquad
              \tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\,\beta, \qquad
              \alpha = \bar\alpha_t/\bar\alpha_s = 1-\beta .

    (Ho, Jain & Abbeel 2020, eqs. 6 and 7, arXiv:2006.11239.) Taught in chapter 07.
    """
    expect.between(alpha_bar_t, "alpha_bar_t", 0, below=1)
    expect.between(alpha_bar_s, "alpha_bar_s, of an earlier time,", above=0, high=1)
    expect.stretched(x_0=x_0, x_t=x_t, alpha_bar_t=alpha_bar_t, alpha_bar_s=alpha_bar_s)
    alpha = expect.between(alpha_bar_t / alpha_bar_s, "alpha_bar_t / alpha_bar_s", 0, 1)
    noise, before = 1 - alpha_bar_t, 1 - alpha_bar_s
    mean = alpha_bar_s**0.5 * (1 - alpha) / noise * x_0 + alpha**0.5 * before / noise * x_t
    return mean, before / noise * (1 - alpha)


# Four readings of one thing -------------------------------------------------------------------------------------------


def x0_from_eps(x_t, eps, alpha_bar):
    r""":math:`x_0 = (x_t - \sqrt{1-\bar\alpha}\,\epsilon)/\sqrt{\bar\alpha}`; not defined where alpha_bar is 0."""
    _share(alpha_bar, above=0, x_t=x_t, eps=eps)
    return (x_t - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5


def eps_from_x0(x_t, x_0, alpha_bar):
    r""":math:`\epsilon = (x_t - \sqrt{\bar\alpha}\,x_0)/\sqrt{1-\bar\alpha}`; not defined where alpha_bar is 1."""
    _share(alpha_bar, below=1, x_t=x_t, x_0=x_0)
    return (x_t - alpha_bar**0.5 * x_0) / (1 - alpha_bar) ** 0.5


def v_from(x_0, eps, alpha_bar):
    r"""The velocity of :math:`x = \cos\theta\,x_0 + \sin\theta\,\epsilon` in θ:
    :math:`v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0`.

    (Salimans & Ho 2022, appendix D, arXiv:2202.00512.) Taught in chapter 07.
    """
    _share(alpha_bar, x_0=x_0, eps=eps)
    return alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x_0


def x0_from_v(x_t, v, alpha_bar):
    r""":math:`x_0 = \sqrt{\bar\alpha}\,x_t - \sqrt{1-\bar\alpha}\,v`, defined everywhere."""
    _share(alpha_bar, x_t=x_t, v=v)
    return alpha_bar**0.5 * x_t - (1 - alpha_bar) ** 0.5 * v


def eps_from_v(x_t, v, alpha_bar):
    r""":math:`\epsilon = \sqrt{1-\bar\alpha}\,x_t + \sqrt{\bar\alpha}\,v`, defined everywhere."""
    _share(alpha_bar, x_t=x_t, v=v)
    return (1 - alpha_bar) ** 0.5 * x_t + alpha_bar**0.5 * v


def score_from_eps(eps, alpha_bar):
    r""":math:`\nabla\log p_t(x_t) = -\mathbb E[\epsilon|x_t]/\sqrt{1-\bar\alpha}`. Taught in chapter 07."""
    _share(alpha_bar, below=1, eps=eps)
    return -eps / (1 - alpha_bar) ** 0.5


def x0_from_score(x_t, score, alpha_bar):
    r"""Tweedie's formula: :math:`\mathbb E[x_0|x_t] = (x_t + (1-\bar\alpha)\nabla\log p_t(x_t))/\sqrt{\bar\alpha}`.

    (Efron 2011, eq. 1.4, for the Gaussian without scaling.) Taught in chapters 03 and 07.
    """
    _share(alpha_bar, above=0, x_t=x_t, score=score)
    return (x_t + (1 - alpha_bar) * score) / alpha_bar**0.5


def _share(alpha_bar, name="alpha_bar", above=-math.inf, below=math.inf, **beside):
    """alpha_bar is a share of variance, in [0, 1], and what stands beside it fits entry by entry."""
    expect.between(alpha_bar, name, 0, 1, above=above, below=below)
    expect.stretched(**beside, **{name: alpha_bar})


class Reading(NamedTuple):
    """What a network is asked for, ``target(x_0, eps, alpha_bar)``, and how x_0 is read from its answer,
    ``x_0(x_t, answer, alpha_bar)``."""

    target: Callable
    x_0: Callable


EPS = Reading(lambda x_0, eps, alpha_bar: eps, x0_from_eps)
X_0 = Reading(lambda x_0, eps, alpha_bar: x_0, lambda x_t, answer, alpha_bar: answer)
V = Reading(v_from, x0_from_v)

# The bound ------------------------------------------------------------------------------------------------------------


def step_kl(squared_error, snr_t, snr_s):
    r"""KL from the posterior at the true x_0 to the one at a guess, in nats:
    :math:`\tfrac12(\mathrm{SNR}_s-\mathrm{SNR}_t)\|x_0-\hat x_0\|^2`.

    Two Gaussians with the same variance :math:`\tilde\beta`, whose means differ by the error of the guess.
    (Kingma et al. 2021, eqs. 13 and 14, arXiv:2107.00630.) Taught in chapter 07.
    """
    for name, snr in (("snr_t", snr_t), ("snr_s", snr_s)):
        expect.between(snr, name, 0)
    expect.stretched(squared_error=squared_error, snr_t=snr_t, snr_s=snr_s)
    return 0.5 * (snr_s - snr_t) * squared_error


def prior_kl(x_0, alpha_bar):
    r"""KL(q(x_T|x_0) || N(0, I)), ``(B,)`` nats: what the bound pays for the signal that is left at T."""
    expect.floats(x_0, "x_0", "B", "D", ...)
    expect.number(alpha_bar, "alpha_bar", low=0, below=1)
    left = (alpha_bar * x_0.square()).flatten(1).sum(1)
    n_dims = x_0[0].numel()
    return 0.5 * (left - n_dims * (alpha_bar + math.log1p(-alpha_bar)))


def gaussian_evidence(x_t, alpha_bar):
    r"""The law of x_0 that x_t alone suggests, without any knowledge of the data:
    :math:`N(x_t/\sqrt{\bar\alpha}, (1-\bar\alpha)/\bar\alpha)`, each dimension on its own."""
    _share(alpha_bar, above=0, below=1, x_t=expect.no_nan(expect.floats(x_t, "x_t"), "x_t"))
    return Normal(x_t / alpha_bar**0.5, ((1 - alpha_bar) / alpha_bar) ** 0.5)


def last_step(x_0, x_1, x0_hat, alpha_bar):
    r"""log p(x_0|x_1), ``(B,)`` nats, for continuous data: a Gaussian around the guess as wide as the evidence."""
    expect.same_shape(x_0=x_0, x_1=x_1, x0_hat=x0_hat)
    return Normal(x0_hat, gaussian_evidence(x_1, alpha_bar).stddev).log_prob(x_0).flatten(1).sum(1)


# Model ----------------------------------------------------------------------------------------------------------------


class Diffusion(nn.Module):
    r"""A network that hears (x_t, t/T, y), a schedule, and a reading of the network's answer.

    ``shape``: the event. ``centre, spread``: the data are brought to :math:`(x - \text{centre})/\text{spread}` inside,
    which should have about unit variance; images in [0, 1] take 0.5 and 0.5. ``reading``: ``EPS``, ``X_0`` or ``V``.
    ``drop_label``: how often training hides the label, so that one network learns with and without it.
    ``last(x_0, x_1, x0_hat, alpha_bar)``: log p(x_0|x_1) of discrete data; without it the data have a density.
    """

    def __init__(self, network, schedule, shape, reading=EPS, centre=0.0, spread=1.0, drop_label=0.1, last=None):
        super().__init__()
        self.network, self.schedule, self.shape, self.reading = network, schedule, tuple(shape), reading
        expect.between(centre, "centre")
        expect.between(spread, "spread", above=0)
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.get_default_dtype()))
        self.register_buffer("spread", torch.as_tensor(spread, dtype=torch.get_default_dtype()))
        self.drop_label, self.last = expect.number(drop_label, "drop_label", 0, 1), last

    def inside(self, x):
        return (x - self.centre) / self.spread

    def outside(self, x):
        return self.centre + self.spread * x

    def denoise(self, x_t, t, y=None):
        r"""The guess :math:`\hat x_0 \approx \mathbb E[x_0|x_t]` (inside): ``x_t (B, ...event)``, steps ``t (B,)``."""
        answer = self.network(x_t, (t / self.schedule.n_steps).to(x_t.dtype), y)
        return self.reading.x_0(x_t, answer, self.schedule.at(t, x_t))

    def loss(self, batch):
        r"""The simplified loss :math:`\mathbb E_{t,\epsilon}\|\text{target} -
        \text{answer}\|^2`, t uniform in 1…T.

        Summed over the event, averaged over the batch; ``batch`` is x or (x, y). (Ho, Jain &
        Abbeel 2020, eq. 14.)
        """
        x, y = expect.pair(batch)
        expect.floats(x, "x", "B", *self.shape, like=self)
        x_0, eps = self.inside(x), torch.randn_like(x)
        t = torch.randint(1, self.schedule.n_steps + 1, (len(x),), device=x.device)  # 1…T
        alpha_bar = self.schedule.at(t, x)
        x_t = q_sample(x_0, alpha_bar, eps)
        y = hidden(y, len(x), self.drop_label, self.network)
        answer = self.network(x_t, (t / self.schedule.n_steps).to(x.dtype), y)
        off = self.reading.target(x_0, eps, alpha_bar) - answer
        return {"loss": off.square().flatten(1).sum(1).mean()}

    def elbo(self, x, y=None, n_times=None):
        r"""A lower bound on log p(x), ``(B,)`` nats, from one draw of noise at each of T steps.

        .. math:: \log p(x_0|x_1) - \mathrm{KL}(q(x_T|x_0)\|N) - \sum_{t=2}^T \mathrm{KL}(q(x_{t-1}|x_t,x_0)\|p_\theta)

        ``n_times``: take that many steps t at random, one in each equal part of 2…T, instead of all: unbiased.
        (Ho, Jain & Abbeel 2020, eq. 5.)
        """
        expect.floats(x, "x", "B", *self.shape, like=self)
        y = known(y, len(x), self.network)
        x_0, schedule = self.inside(x), self.schedule
        total = -prior_kl(x_0, schedule.alpha_bar[-1].item())
        if self.last is None:                                        # the density of x, not that of x_0
            total = total - self.spread.log().expand(x.shape[1:]).sum()
        one = torch.ones(len(x), dtype=torch.long, device=x.device)
        x_1 = q_sample(x_0, schedule.at(one, x), torch.randn_like(x))
        total = total + (self.last or last_step)(x_0, x_1, self.denoise(x_1, one, y), schedule.at(one, x))
        n_later = schedule.n_steps - 1
        parts = torch.linspace(0, n_later, (n_times or n_later) + 1, device=x.device).round()
        for low, high in zip(parts[:-1], parts[1:], strict=True):
            t = 2 + (low + (high - low) * torch.rand(len(x), device=x.device)).floor().long().clamp(max=n_later - 1)
            x_t = q_sample(x_0, schedule.at(t, x), torch.randn_like(x))
            error = (x_0 - self.denoise(x_t, t, y)).square().flatten(1).sum(1)
            total = total - (high - low) * step_kl(error, schedule.snr[t], schedule.snr[t - 1]).to(x.dtype)
        return total

    @torch.no_grad()
    def sample(self, n, y=None, times=None, s=1.0):
        """``(n, ...event)`` by the posterior of each step, all T unless ``times`` says which; guided by ``s``."""
        x = standard_normal(*self.shape, like=self.centre).sample((expect.count(n),))
        y = known(y, n, self.network)
        denoise = self.denoise if y is None else samplers.classifier_free(self.denoise, y, s)
        times = range(self.schedule.n_steps, -1, -1) if times is None else times
        return self.outside(samplers.final(samplers.ancestral(denoise, x, self.schedule, times)))


def known(y, n, network):
    """Labels ``(n,)`` that ``network`` knows, as they are, or None: it was made with ``n_classes``, or takes none."""
    if y is not None and not network.condition.n_classes:
        raise ValueError("expected no labels, since the network was made without n_classes; got some")
    return None if y is None else expect.labels(y, n, network.condition.n_classes)


def hidden(y, n, probability, network):
    """Labels ``(B,)`` of which a share is replaced by the one that means "none given"."""
    if y is None:
        return None
    y = known(y, n, network)
    expect.number(probability, "probability", 0, 1)
    return torch.where(torch.rand(len(y), device=y.device) < probability, network.condition.n_classes, y)


class LevelNoise(nn.Module):
    r"""A network for images of few grey levels: it answers with the noise, and never leaves the levels behind it.

    ``network(x_t, t)`` gives logits, ``(B, C·K, H, W)``. The exact law of what x_t alone says about a pixel is added,

    .. math:: \log p(x_0 = g_k\,|\,x_t) = \text{logits}_k - \frac{(x_t - \sqrt{\bar\alpha_t}\,g_k)^2}
              {2(1-\bar\alpha_t)} + \text{const},

    with levels :math:`g_k` from -1 to 1: the network has to learn only what the *other* pixels say. The answer is the
    noise that goes with the mean of this law. (Kingma et al. 2021, appendix on the model, arXiv:2107.00630.)
    """

    def __init__(self, network, schedule, levels):
        super().__init__()
        self.network, self.schedule, self.condition = network, schedule, network.condition
        self.register_buffer("grid", torch.linspace(-1, 1, expect.levels(levels)))

    def logits(self, x_t, t, y=None):
        """Logits of the levels of every pixel, ``(B, C, H, W, K)``; ``t (B,)`` in [0, 1]."""
        step = (t * self.schedule.n_steps).round().long()
        alpha_bar = self.schedule.at(step, x_t)
        learned = self.network(x_t, t, y).unflatten(1, (x_t.shape[1], -1)).movedim(2, -1)
        alpha_bar = alpha_bar[..., None]
        return learned - (x_t[..., None] - alpha_bar.sqrt() * self.grid).square() / (2 * (1 - alpha_bar))

    def forward(self, x_t, t, y=None):
        x0_hat = self.logits(x_t, t, y).softmax(-1) @ self.grid
        return eps_from_x0(x_t, x0_hat, self.schedule.at((t * self.schedule.n_steps).round().long(), x_t))

    def last(self, x_0, x_1, x0_hat, alpha_bar):
        """log P(x_0|x_1) of the levels, ``(B,)`` nats, for :class:`Diffusion`'s ``last``."""
        t = torch.full((len(x_1),), 1 / self.schedule.n_steps, device=x_1.device, dtype=x_1.dtype)
        which = to_levels((x_0 + 1) / 2, len(self.grid)).long()[..., None]
        return self.logits(x_1, t).log_softmax(-1).gather(-1, which).flatten(1).sum(1)


# Factories ------------------------------------------------------------------------------------------------------------


def unet_diffusion(shape=(1, 28, 28), widths=(24, 48), n_classes=0, n_steps=1_000, reading=V):
    """A small U-Net on images in [0, 1], cosine schedule."""
    return Diffusion(UNet(shape, widths, n_classes), cosine_schedule(n_steps), shape, reading, centre=0.5, spread=0.5)


def vector_diffusion(n_features, width=128, n_blocks=3, n_classes=0, n_steps=1_000, reading=EPS, centre=0.0,
                     spread=1.0):
    """A residual MLP on vectors ``(B, D)``: points of the plane, codes of an autoencoder."""
    network = AdaptiveMLP(n_features, width, n_blocks, n_classes)
    return Diffusion(network, cosine_schedule(n_steps), (n_features,), reading, centre, spread)


def level_diffusion(shape, levels, width=24, n_blocks=3, n_steps=1_000):
    """Convolutions on small images of few grey levels in [0, 1]; the simplified loss *is* the bound, up to constants.

    The schedule takes equal steps of log SNR, so every step of the bound weighs the noise's error alike.
    """
    shape, schedule = expect.shape(shape), log_snr_schedule(expect.count(n_steps, "n_steps", least=2))
    stack = ConvStack(shape, shape[0] * expect.levels(levels), expect.count(width, "width"),
                      expect.count(n_blocks, "n_blocks"))
    network = LevelNoise(stack, schedule, levels)
    return Diffusion(network, schedule, shape, EPS, centre=0.5, spread=0.5, last=network.last)
