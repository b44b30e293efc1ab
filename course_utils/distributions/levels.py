"""Distributions over grey levels: from a network's numbers to one, and back to images."""

from dataclasses import dataclass

import torch
from torch.distributions import Bernoulli, Categorical, Distribution, constraints
from torch.nn import functional as F

from course_utils import expect


def to_levels(x, levels):
    """Images in [0, 1] to integers 0 … levels-1. Raises when x is not on the grid of that many grey levels."""
    scaled = expect.floats(x, "images", ..., "W") * (expect.levels(levels) - 1)
    integers = scaled.round()
    off, (low, high) = (scaled - integers).abs().max(), integers.aminmax()
    if not (off <= 0.05 and low >= 0 and high <= levels - 1):            # comparisons with NaN are False
        raise ValueError(
            f"expected images in [0, 1] with {levels} grey levels, got values between them (range "
            f"{x.min():.3g} to {x.max():.3g}): binarise or quantise the images, or build the model with other levels"
        )
    return integers


def from_levels(integers, levels):
    """Integers 0 … levels-1, of any dtype, to images in [0, 1]."""
    expect.inside(integers, "levels of pixels", 0, expect.levels(levels) - 1)
    return integers / (levels - 1)


@dataclass(frozen=True)
class Head:
    """Turns the numbers a network puts out for one pixel into a distribution over that pixel's grey levels.

    ``levels=2`` gives a Bernoulli from one logit. More levels give a Categorical from ``levels`` logits, or with
    ``mixtures=M`` a mixture of M discretised logistics from 3M numbers, which knows that level 100 is next to 101.
    ``head(params)`` maps ``(…, n_params)`` to a distribution of batch shape ``(…)`` over 0 … levels-1.
    """

    levels: int = 2
    mixtures: int = 0

    def __post_init__(self):
        expect.levels(self.levels)
        expect.count(self.mixtures, "mixtures", least=0)

    @property
    def n_params(self):
        if self.mixtures:
            return 3 * self.mixtures
        return 1 if self.levels == 2 else self.levels

    def __call__(self, params):
        expect.floats(params, "params", ..., self.n_params)
        if self.mixtures:
            weight, mu, log_scale = params.unflatten(-1, (3, -1)).unbind(-2)
            return DiscretisedLogisticMixture(weight, mu, log_scale, self.levels)
        if self.levels == 2:
            return Bernoulli(logits=params.squeeze(-1))
        return Categorical(logits=params)


class DiscretisedLogisticMixture(Distribution):
    r"""A mixture of logistics, cut into grey levels.

    .. math:: p(x_i) = \sum_k w_k\,[\sigma((x_i+½-\mu_k)/s_k) - \sigma((x_i-½-\mu_k)/s_k)]

    The lowest level also takes the whole left tail and the highest the right one, so the levels sum to 1. ``weight``
    are logits. The axis of grey is scaled to [-1, 1]; ``mu`` and ``log_scale`` live there. All three are ``(…, M)``.

    Source: Salimans, Karpathy, Chen, Kingma 2017, section 2.1, arXiv:1701.05517.  Taught in chapter 02.
    """

    arg_constraints = {}
    has_enumerate_support = True

    def __init__(self, weight, mu, log_scale, levels):
        expect.same_shape(weight=weight, mu=mu, log_scale=log_scale)
        self.log_weight, self.mu, self.levels = weight.log_softmax(-1), mu, expect.levels(levels)
        self.inverse_scale = torch.exp(-log_scale.clamp(min=-7))
        super().__init__(mu.shape[:-1], validate_args=False)

    @constraints.dependent_property
    def support(self):
        return constraints.integer_interval(0, self.levels - 1)

    def enumerate_support(self, expand=True):
        values = torch.arange(self.levels, device=self.mu.device, dtype=self.mu.dtype)
        values = values.view(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    def log_prob(self, value):
        """Log-probability of an integer level, ``(…)`` in nats."""
        if value.shape[value.dim() - len(self.batch_shape):] != self.batch_shape:
            raise ValueError(f"expected levels of shape (..., *{tuple(self.batch_shape)}), got {expect.came(value)}")
        expect.inside(value, "levels of pixels", 0, self.levels - 1)
        half = 1 / (self.levels - 1)                                 # half a level, on the axis from -1 to 1
        centre = value.to(self.mu).unsqueeze(-1) * 2 * half - 1 - self.mu          # (…, M)
        upper, lower = (centre + half) * self.inverse_scale, (centre - half) * self.inverse_scale
        # log(σ(u) - σ(l)) = log σ(u) + log σ(-l) + log(1 - e^(l-u)): no difference of two nearly equal numbers
        inside = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper))
        is_first, is_last = (value == 0).unsqueeze(-1), (value == self.levels - 1).unsqueeze(-1)
        log_p = torch.where(is_first, F.logsigmoid(upper), torch.where(is_last, F.logsigmoid(-lower), inside))
        return torch.logsumexp(self.log_weight + log_p, -1)

    def sample(self, sample_shape=()):
        shape = torch.Size(sample_shape) + self.batch_shape
        with torch.no_grad():
            return inverse_cdf(self, torch.rand(shape, device=self.mu.device, dtype=self.mu.dtype))


def inverse_cdf(distribution, uniforms):
    """The level at which the running sum of probabilities first exceeds ``uniforms``: a sample, if they are uniform.

    One uniform number decides one pixel, so two samplers that are given the same numbers must give the same images.
    ``uniforms`` has the batch shape of ``distribution``, and so has the answer.
    """
    expect.inside(expect.floats(uniforms, "uniforms", *distribution.batch_shape), "uniforms", 0, 1)
    if isinstance(distribution, Bernoulli):
        return (uniforms >= torch.sigmoid(-distribution.logits)).to(uniforms)        # u < P(0): level 0
    probs = distribution.log_prob(distribution.enumerate_support()).exp()            # (K, …)
    return (uniforms >= probs.cumsum(0)[:-1]).sum(0).to(uniforms)


def tempered(distribution, temperature):
    r"""The distribution proportional to :math:`p^{1/T}`: T < 1 sharpens every pixel, T > 1 blurs it."""
    temperature = expect.temperature(temperature)
    if temperature == 1:
        return distribution
    if isinstance(distribution, Bernoulli):
        return Bernoulli(logits=distribution.logits / temperature)
    log_p = distribution.log_prob(distribution.enumerate_support()).movedim(0, -1)
    return Categorical(logits=log_p / temperature)


class LevelImages(Distribution):
    """Images in [0, 1] with independent pixels; ``pixels`` is their distribution over integer levels."""

    arg_constraints = {}

    def __init__(self, pixels, levels):
        self.pixels, self.levels = pixels, levels
        super().__init__(pixels.batch_shape[:1], pixels.batch_shape[1:], validate_args=False)

    def log_prob(self, x):
        """``(B, C, H, W)`` images on the levels to ``(B,)`` nats."""
        return self.pixels.log_prob(to_levels(x, self.levels)).flatten(1).sum(1)

    def sample(self, sample_shape=()):
        return from_levels(self.pixels.sample(sample_shape), self.levels)
