r"""Masked flows: every number is shifted and scaled by what the numbers before it say.

    z_i = (x_i - mu_i(x_<i)) * exp(-s_i(x_<i))           # all i at once: density is fast
    x_i = z_i * exp(s_i(x_<i)) + mu_i(x_<i)              # one after the other: sampling is slow

The network is passed in: any network whose output i sees only inputs before i. Sources: MAF (Papamakarios, Pavlakou,
Murray 2017, arXiv:1705.07057), IAF (Kingma et al. 2016, arXiv:1606.04934), Jacobi iteration (Song, Meng, Liao, Ermon
2021, arXiv:2002.03629).  Taught in chapter 06.
"""

import torch
from torch import nn

from course_utils import expect
from course_utils.models.flow.coupling import bounded
from course_utils.models.flow.elementwise import summed


class Reversed(nn.Module):
    """Reverse the order of dimension 1, so that the next masked layer reads from the other end. log_det 0."""

    def forward(self, x, y=None):
        return x.flip(1), x.new_zeros(len(x))

    def inverse(self, z, y=None):
        return z.flip(1)


class MaskedAffine(nn.Module):
    r"""One layer of a masked autoregressive flow over ``(B, T)`` numbers or ``(B, T, P)`` tokens of P numbers.

    ``network``: x (and y, where one is given) to ``(B, T, 2)``, or ``(B, T, 2P)``: means, then raw log-scales; what
    stands at position t may depend on positions before t only. ``limit`` bounds the log-scales.
    (Papamakarios et al. 2017, eqs. 3 and 4.)  Taught in chapter 06.
    """

    def __init__(self, network, limit=3.0):
        super().__init__()
        if limit is not None:
            expect.number(limit, "limit", above=0)
        self.network, self.limit = network, limit

    def numbers(self, x, y=None):
        """Mean and log-scale for every number, each of the shape of x."""
        raw = self.network(x) if y is None else self.network(x, y)
        mu, raw = raw.chunk(2, -1)
        return mu.reshape(x.shape), bounded(raw.reshape(x.shape), self.limit)

    def forward(self, x, y=None):
        mu, log_scale = self.numbers(x, y)
        return (x - mu) * (-log_scale).exp(), -summed(log_scale)

    def inverse(self, z, y=None):
        """Position by position: T passes of the network, each of which is used at one position."""
        x = torch.zeros_like(z)
        for t in range(z.shape[1]):
            mu, log_scale = self.numbers(x, y)
            new = z[:, t] * log_scale[:, t].exp() + mu[:, t]
            x = torch.cat([x[:, :t], new[:, None], x[:, t + 1 :]], 1)
        return x


def jacobi(layer, z, y=None, start=None):
    r"""Guesses of :math:`x = z\,e^{s(x)}+\mu(x)`, each made from the last one, all positions
    at once: a generator.

    ``layer``: a :class:`MaskedAffine`; ``z (B, T, …)``; ``start``: the first guess, zeros if
    none. After k guesses the first k positions are exact, since they depend on nothing but
    exact ones; so the T-th guess *is* the inverse. Leave the loop when a guess stops changing.
    (Song et al. 2021, algorithm 1, arXiv:2002.03629.)  Taught in chapter 06.
    """
    expect.floats(z, "z", "B", "T", ...)
    x = torch.zeros_like(z) if start is None else expect.floats(start, "start", *z.shape)
    for _ in range(z.shape[1]):
        mu, log_scale = layer.numbers(x, y)
        x = z * log_scale.exp() + mu
        yield x


def jacobi_inverse(layer, z, y=None, tolerance=1e-5):
    """``(x, passes)``: :func:`jacobi` until no number changes by more than ``tolerance``, at most T passes."""
    expect.number(tolerance, "tolerance", low=0)
    x, passes = torch.zeros_like(expect.floats(z, "z", "B", "T", ...)), 0
    for guess in jacobi(layer, z, y):
        x, before, passes = guess, x, passes + 1
        if (x - before).abs().max() <= tolerance:
            break
    return x, passes
