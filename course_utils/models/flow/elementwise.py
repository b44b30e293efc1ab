r"""Layers that treat every number alone: the Jacobian is diagonal, so :math:`\log|\det|` is a sum of log-slopes.

Taught in chapter 06.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect


def summed(log_slopes):
    """Sum over the event: ``(B, …) -> (B,)``."""
    return expect.floats(log_slopes, "log_slopes", "B", "D", ...).flatten(1).sum(1)


class Affine(nn.Module):
    r"""z = x · exp(log_scale) + shift, one scale and shift for each number of ``event``."""

    def __init__(self, *event):
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(event)), nn.Parameter(torch.zeros(event))

    def forward(self, x, y=None):
        return x * self.log_scale.exp() + self.shift, self.log_scale.sum().expand(len(x))

    def inverse(self, z, y=None):
        return (z - self.shift) * (-self.log_scale).exp()


class Logit(nn.Module):
    r"""From [0, 1] to the line: z = logit(a + (1 − 2a) x). The margin ``a`` keeps 0 and 1 at a finite place.

    :math:`\log\frac{dz}{dx} = \log(1-2a) - \log p - \log(1-p)` with p = a + (1 − 2a) x. (Dinh, Sohl-Dickstein & Bengio
    2017, section 4.1, arXiv:1605.08803; there the margin is on one side.)  Taught in chapter 06.
    """

    def __init__(self, margin=1e-6):
        super().__init__()
        if not 0 < margin < 0.5:
            raise ValueError(f"expected a margin between 0 and 0.5, got {margin}")
        self.margin = margin

    def forward(self, x, y=None):
        p = self.margin + (1 - 2 * self.margin) * x
        return p.logit(), summed(math.log(1 - 2 * self.margin) - p.log() - torch.log1p(-p))

    def inverse(self, z, y=None):
        return ((z.sigmoid() - self.margin) / (1 - 2 * self.margin)).clamp(0, 1)


class Probit(nn.Module):
    r"""From (0, 1) to the line by the quantiles of N(0, 1): a uniform number becomes a Gaussian one.

    :math:`\log\frac{dz}{dx} = \tfrac12\log 2\pi + \tfrac12 z^2`. Numbers are kept ``margin`` away from 0 and 1.
    Taught in chapter 06.
    """

    def __init__(self, margin=1e-6):
        super().__init__()
        self.margin = margin

    def forward(self, x, y=None):
        z = torch.special.ndtri(x.clamp(self.margin, 1 - self.margin))
        return z, summed(0.5 * math.log(2 * math.pi) + 0.5 * z.square())

    def inverse(self, z, y=None):
        return torch.special.ndtr(z)


class HistogramCDF(nn.Module):
    r"""Each number through the piecewise-linear CDF of its own histogram over ``K`` equal bins of [0, 1].

    In bin k, :math:`z = \sum_{j<k} p_j + p_k\,(Kx - k)`, so :math:`dz/dx = K p_k`. Under a uniform base this one layer
    *is* the model of independent pixels, :math:`\log p(x)=\sum_i\log p_{i,k_i} + D\log K`.
    ``log_p``: ``(…event, K)``, each row the logarithms of probabilities that sum to 1, none of them 0.
    Taught in chapter 06.
    """

    def __init__(self, log_p):
        super().__init__()
        p = expect.floats(log_p, "log_p", ..., "K").exp()
        if not torch.allclose(p.sum(-1), torch.ones_like(p[..., 0]), atol=1e-4) or not log_p.isfinite().all():
            raise ValueError("expected logarithms of probabilities that sum to 1 over the last dimension, none empty; "
                             f"got sums from {p.sum(-1).min():.4g} to {p.sum(-1).max():.4g}: smooth the counts")
        self.register_buffer("log_p", log_p.detach().clone())

    def edges(self):
        """The CDF at the edges of the bins, ``(…event, K + 1)``."""
        return F.pad(self.log_p.exp().cumsum(-1), (1, 0)).clamp(max=1)

    def forward(self, x, y=None):
        n_bins = self.log_p.shape[-1]
        k = (x * n_bins).floor().clamp(0, n_bins - 1).long()                        # (B, …event)
        log_p, start = self.pick(self.log_p, k), self.pick(self.edges(), k)
        return inside(start + log_p.exp() * (x * n_bins - k)), summed(log_p + math.log(n_bins))

    def inverse(self, z, y=None):
        n_bins = self.log_p.shape[-1]
        edges = self.edges()
        k = (z.unsqueeze(-1) >= edges[..., 1:-1]).sum(-1)
        log_p, start = self.pick(self.log_p, k), self.pick(edges, k)
        return inside((k + ((z - start) / log_p.exp()).clamp(0, 1)) / n_bins)

    @staticmethod
    def pick(table, k):
        return table.expand(len(k), *table.shape).gather(-1, k.unsqueeze(-1)).squeeze(-1)


def inside(x):
    """Keep rounding from leaving [0, 1): the last number below 1 is 1 − 2⁻²⁴ in single precision."""
    return expect.floats(x, "x", ...).clamp(0, 1 - torch.finfo(x.dtype).eps / 2)
