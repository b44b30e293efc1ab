r"""Neural radiance fields: one scene as a function of place and direction, seen by integration along rays.

A density :math:`\sigma \ge 0` says how likely a ray is to stop in the next bit of its way, and a colour says what it
sees where it stops. Then where it stops is a random variable, and a picture is an expectation.

A ray is ``(..., 6)``: origin and direction of length 1. N numbers along it have a last dimension N; distances are in
units of the scene. Taught in chapter 08.
"""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.nn.mlp import MLP

# Where a ray stops ----------------------------------------------------------------------------------------------------


def survival(sigma, delta):
    r"""Probability that a ray is still on its way at each edge of its intervals: ``(..., N)`` to ``(..., N+1)``.

    .. math:: T_i = \exp\Bigl(-\sum_{j<i}\sigma_j\delta_j\Bigr),\qquad T_1 = 1,\qquad T(t) = e^{-\int^t\sigma(s)ds}

    ``sigma``: density in each interval, at least 0. ``delta``: their lengths. The last entry is the probability of
    passing through everything. (Mildenhall et al. 2020, eqs. 1 and 3, arXiv:2003.08934; Max 1995.) Taught in
    chapter 08.
    """
    expect.same_shape(sigma=sigma, delta=delta)
    expect.floats(sigma, "sigma", ..., "N")
    passed = (sigma * delta).cumsum(-1)
    return torch.exp(-torch.cat([torch.zeros_like(passed[..., :1]), passed], -1))


def stop_weights(sigma, delta):
    r"""Probability that a ray stops in each of its intervals, ``(..., N)``; what is left of 1
    goes through.

    .. math:: w_i = T_i\,(1-e^{-\sigma_i\delta_i}) = T_i - T_{i+1}

    Shapes as in :func:`survival`. (Mildenhall et al. 2020, eq. 5, arXiv:2003.08934.)
    Taught in chapter 08.
    """
    return survival(sigma, delta)[..., :-1] * -torch.expm1(-sigma * delta)


def expected_colour(weights, colours, background):
    r"""What a ray sees on average: :math:`\sum_i w_i c_i + (1-\sum_i w_i)\,c_\text{background}`, ``(..., C)``.

    ``weights``: ``(..., N)``. ``colours``: ``(..., N, C)``. ``background``: a number or ``(C,)``.
    (Mildenhall et al. 2020, eq. 3, arXiv:2003.08934.) Taught in chapter 08.
    """
    expect.floats(weights, "weights", ..., "N")
    expect.floats(colours, "colours", *weights.shape, "C")
    if isinstance(background, torch.Tensor) and background.ndim:
        expect.floats(background, "background", colours.shape[-1])
    else:
        expect.number(background, "background")
    return (weights.unsqueeze(-1) * colours).sum(-2) + (1 - weights.sum(-1, keepdim=True)) * background


# Where to look --------------------------------------------------------------------------------------------------------


def places(near, far, uniform):
    r"""One place in each of N equal intervals of [near, far], and the length of an interval: ``(..., N)`` and a float.

    ``uniform``: ``(..., N)`` in [0, 1], where in its interval each place lies. 0.5 is the midpoint rule; fresh random
    numbers are *stratified sampling*: no interval stays empty, and over many draws no place stays unseen.
    (Mildenhall et al. 2020, eq. 2, arXiv:2003.08934.) Taught in chapter 08.
    """
    expect.inside(expect.floats(uniform, "uniform", ..., "N"), "uniform", 0, 1)
    expect.number(near, "near", low=0)
    expect.number(far, "far", above=near)
    n = uniform.shape[-1]
    delta = (far - near) / n
    return near + (torch.arange(n, device=uniform.device, dtype=uniform.dtype) + uniform) * delta, delta


def positional_encoding(x, n_frequencies, base=math.pi):
    r"""Sines and cosines of each coordinate, ``(..., D)`` to ``(..., 2·D·n_frequencies)``.

    .. math:: \gamma(x) = \bigl(\sin(2^k b x),\ \cos(2^k b x)\bigr)_{k=0}^{K-1}

    ``base`` :math:`b`: π in the paper, where places that lie 2 apart look the same; with 1 they lie :math:`2\pi` apart.
    (Mildenhall et al. 2020, eq. 4, arXiv:2003.08934.) Taught in chapter 08.
    """
    expect.floats(x, "x", ..., "D")
    expect.number(base, "base", above=0)
    scale = base * 2.0 ** torch.arange(expect.count(n_frequencies, "n_frequencies"), device=x.device, dtype=x.dtype)
    angles = (x.unsqueeze(-1) * scale).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)


# The model ------------------------------------------------------------------------------------------------------------


class Field(nn.Module):
    """Density and colour at places seen from directions: ``(B, 3), (B, 3) -> (B,), (B, 3)``.

    The density knows the place alone; the colour also knows the direction, so that highlights may move.
    ``density``: what makes a raw number a density. ``n_frequencies``: of the encoding, 0 is none.
    """

    def __init__(self, width=64, depth=3, n_frequencies=5, base=1.0, density=F.softplus):
        super().__init__()
        self.n_frequencies, self.base, self.density = n_frequencies, base, density
        n_in = 6 * n_frequencies or 3
        self.trunk = MLP([n_in] + [width] * depth + [1 + width])
        self.head = MLP([width + 3, width // 2, 3])

    def forward(self, x, direction):
        if self.n_frequencies:
            x = positional_encoding(x, self.n_frequencies, self.base)
        raw, features = self.trunk(x).split([1, self.head[0].in_features - 3], -1)
        colour = self.head(torch.cat([features.relu(), direction], -1)).sigmoid()
        return self.density(raw[..., 0]), colour


class Seen(NamedTuple):
    """What B rays see: colours ``(B, 3)``, probabilities of stopping in N intervals and their places, ``(B, N)``."""

    colours: torch.Tensor
    weights: torch.Tensor
    places: torch.Tensor

    @property
    def opacity(self):
        """Probability that a ray stops at all, ``(B,)``."""
        return self.weights.sum(-1)

    @property
    def depth(self):
        """Mean distance at which a ray stops, if it does, ``(B,)``."""
        return (self.weights * self.places).sum(-1) / self.opacity.clamp(min=1e-6)


class NeRF(nn.Module):
    """One scene: a field, seen between ``near`` and ``far`` before a background. It has no sample and no log_prob: it
    describes the pictures of one scene, and no distribution over scenes."""

    def __init__(self, field, near, far, n_places=32, background=1.0):
        super().__init__()
        self.field, self.near, self.far = field, near, far
        self.n_places, self.background = n_places, background

    def along(self, rays, uniform):
        """What stands along rays ``(B, 6)``: places, densities, lengths ``(B, N)`` and colours
        ``(B, N, 3)``.
        """
        t, delta = places(self.near, self.far, uniform)                                # (B, N)
        x = rays[:, None, :3] + t[..., None] * rays[:, None, 3:]                       # (B, N, 3)
        sigma, colours = self.field(x, rays[:, None, 3:].expand_as(x))
        return t, sigma, torch.full_like(sigma, delta), colours

    def forward(self, rays, uniform=None):
        """What rays ``(B, 6)`` see, as :class:`Seen`; ``uniform`` as in :func:`places`, without it midpoints."""
        expect.floats(rays, "rays", "B", 6, like=self)
        if uniform is None:
            uniform = rays.new_full((len(rays), self.n_places), 0.5)
        t, sigma, delta, colours = self.along(rays, uniform)
        weights = stop_weights(sigma, delta)
        return Seen(expected_colour(weights, colours, self.background), weights, t)

    def loss(self, batch):
        """Squared error of the colours of rays, summed over the channels, with places drawn by stratified sampling.

        ``batch``: rays ``(B, 6)`` and their colours ``(B, 3)``.
        """
        rays, colours = batch
        expect.floats(rays, "rays", "B", 6, like=self)
        expect.floats(colours, "colours", len(rays), 3, like=self)
        seen = self(rays, torch.rand(len(rays), self.n_places, device=rays.device, dtype=rays.dtype))
        return {"loss": (seen.colours - colours).square().sum(-1).mean()}
