r"""Coupling layers: one half of the numbers stays, and steers what happens to the other half.

    z_a = x_a
    z_b = g(x_b; network(x_a))               # g rises in x_b, for any parameters

The Jacobian is triangular, so its determinant is the product of the slopes of g. The network is never inverted, so it
may be any network. Sources: NICE (Dinh, Krueger, Bengio 2015, arXiv:1410.8516), RealNVP (Dinh, Sohl-Dickstein, Bengio
2017, arXiv:1605.08803), neural spline flows (Durkan et al. 2019, arXiv:1906.04032).  Taught in chapter 06.
"""

import torch
from torch import nn

from course_utils import expect
from course_utils.distributions import StandardNormal, UnitCube
from course_utils.models.flow.elementwise import HistogramCDF, inside, summed
from course_utils.models.flow.flow import Flow
from course_utils.models.flow.spline import knots, rational_quadratic, rational_quadratic_inverse
from course_utils.nn.mlp import MLP, start_at_zero

# Masks: 1 where a number stays and is seen by the network -------------------------------------------------------------


def half_mask(n, turn=0):
    """``(n,)``: ones at every other coordinate; ``turn=1`` swaps the halves."""
    return (torch.arange(expect.count(n)) + expect.count(turn, "turn", 0, 1)) % 2 == 0


def checkerboard_mask(shape, turn=0):
    """``(1, H, W)`` for images ``(C, H, W)``: the black squares of a board. (Dinh et al. 2017, section 3.4.)"""
    expect.shape(shape)
    expect.count(turn, "turn", 0, 1)
    rows, columns = torch.meshgrid(torch.arange(shape[1]), torch.arange(shape[2]), indexing="ij")
    return ((rows + columns + turn) % 2 == 0)[None]


def channel_mask(shape, turn=0):
    """``(C, 1, 1)``: the first half of the channels, or with ``turn=1`` the second."""
    first = torch.arange(expect.shape(shape)[0]) < shape[0] // 2
    expect.count(turn, "turn", 0, 1)
    return (first if turn == 0 else ~first)[:, None, None]


# Formulas -------------------------------------------------------------------------------------------------------------


def bounded(raw, limit):
    r"""A log-scale that cannot run away: :math:`s = \ell\tanh(\text{raw}/\ell)`; small ones stay as they are.

    ``limit=None`` leaves it free: then one point far from the data can be scaled by e^50. Taught in chapter 06.
    """
    expect.floats(raw, "raw", ...)
    return raw if limit is None else expect.number(limit, "limit", above=0) * torch.tanh(raw / limit)


def affine_coupling(x, mask, shift, log_scale):
    r"""RealNVP: :math:`z = m\odot x + (1-m)\odot(x\odot e^{s} + t)`, :math:`\log|\det| =
    \sum(1-m)\odot s`.

    ``x, shift, log_scale``: ``(B, …event)``; ``mask``: booleans that broadcast to it. Returns
    ``z, log_det (B,)``. (Dinh, Sohl-Dickstein & Bengio 2017, eqs. 6 and 9, arXiv:1605.08803.)
    Taught in chapter 06.
    """
    expect.same_shape(x=x, shift=shift, log_scale=log_scale)
    expect.expands(expect.booleans(mask, "mask"), "mask", *x.shape)
    z = torch.where(mask, x, x * log_scale.exp() + shift)
    return z, summed(torch.where(mask, torch.zeros_like(x), log_scale.expand_as(x)))


def affine_coupling_inverse(z, mask, shift, log_scale):
    r""":math:`x = m\odot z + (1-m)\odot(z - t)\odot e^{-s}` (Dinh et al. 2017, eq. 8). Taught in chapter 06."""
    expect.same_shape(z=z, shift=shift, log_scale=log_scale)
    expect.expands(expect.booleans(mask, "mask"), "mask", *z.shape)
    return torch.where(mask, z, (z - shift) * (-log_scale).exp())


# Layers ---------------------------------------------------------------------------------------------------------------


class AffineCoupling(nn.Module):
    """``network``: what stays ``(B, C, …)``, zeros elsewhere, to shifts and raw log-scales ``(B, 2C, …)``.

    ``limit``: bound of the log-scale. ``additive``: no scale at all (NICE), the network gives ``(B, C, …)``.
    """

    def __init__(self, mask, network, limit=2.0, additive=False):
        super().__init__()
        self.register_buffer("mask", mask.bool(), persistent=False)
        if limit is not None:
            expect.number(limit, "limit", above=0)
        self.network, self.limit, self.additive = network, limit, additive

    def numbers(self, x):
        """Shift and log-scale for every number, ``(B, C, …)`` each."""
        raw = self.network(torch.where(self.mask, x, torch.zeros_like(x)))
        if self.additive:
            return raw, torch.zeros_like(raw)
        shift, raw = raw.chunk(2, 1)
        return shift, bounded(raw, self.limit)

    def forward(self, x, y=None):
        return affine_coupling(x, self.mask, *self.numbers(x))

    def inverse(self, z, y=None):
        return affine_coupling_inverse(z, self.mask, *self.numbers(z))


class SplineCoupling(nn.Module):
    """Each number of the moving half goes through a spline of its own, whose knots the network chooses.

    ``network``: ``(B, C, …) -> (B, C·P, …)``, P = 3K − 1 with tails and 3K + 1 without; or ``(B, M, P)`` for the M
    numbers that move, in the order of the flattened event. The box is ``[low, high]``. With ``tails`` the spline is
    the identity outside; without, numbers live in the box (the cube [0, 1]^D).
    """

    def __init__(self, mask, network, low=-4.0, high=4.0, tails=True):
        super().__init__()
        self.register_buffer("mask", mask.bool(), persistent=False)
        self.network, self.low, self.high, self.tails = network, low, high, tails

    def moving(self, x):
        """Where the numbers that move stand in the flattened event, and the knots of their splines."""
        raw = self.network(torch.where(self.mask, x, torch.zeros_like(x)))
        where = (~self.mask).expand(x.shape[1:]).flatten().nonzero()[:, 0]
        if raw.dim() != 3:
            raw = raw.unflatten(1, (x.shape[1], -1)).movedim(2, -1).flatten(1, -2)[:, where]       # (B, M, P)
        return where, knots(raw, self.low, self.high, self.tails)

    def forward(self, x, y=None):
        where, curve = self.moving(x)
        moved, log_slope = rational_quadratic(x.flatten(1)[:, where], *curve)
        return self.put(x, where, moved), log_slope.sum(1)

    def inverse(self, z, y=None):
        where, curve = self.moving(z)
        return self.put(z, where, rational_quadratic_inverse(z.flatten(1)[:, where], *curve))

    def put(self, x, where, values):
        """``x`` with ``values`` in the places ``where``; the other half bit for bit as it was."""
        values = values if self.tails else inside(values)
        return x.flatten(1).index_copy(1, where, values).view_as(x)


# Factories ------------------------------------------------------------------------------------------------------------


def affine_flow(n_features=2, n_layers=12, hidden=(64, 64), limit=2.0, activation=nn.ReLU):
    """RealNVP for points ``(B, D)``: affine couplings with masks that alternate, over N(0, I)."""
    expect.count(n_layers, "n_layers")
    expect.counts(hidden, "hidden")
    return Flow(StandardNormal(n_features), [
        AffineCoupling(half_mask(n_features, turn % 2),
                       start_at_zero(MLP([n_features, *hidden, 2 * n_features], activation)), limit)
        for turn in range(n_layers)])


def spline_flow(n_features=2, n_layers=6, hidden=(64, 64), n_bins=8, bound=4.5, activation=nn.ReLU):
    """Spline couplings for points ``(B, D)`` over N(0, I); outside ``[-bound, bound]`` a layer is the identity."""
    expect.count(n_layers, "n_layers")
    expect.counts(hidden, "hidden")
    expect.count(n_bins, "n_bins", 2)
    expect.number(bound, "bound", above=0)
    return Flow(StandardNormal(n_features), [
        SplineCoupling(half_mask(n_features, turn % 2),
                       start_at_zero(MLP([n_features, *hidden, n_features * (3 * n_bins - 1)], activation)),
                       -bound, bound)
        for turn in range(n_layers)])


def cube_flow(log_p, n_layers=8, hidden=(256,), n_bins=8, network=None):
    """Images on the cube [0, 1]^D under a uniform base: each pixel's histogram first, then spline couplings.

    ``log_p``: ``(C, H, W, K)``, logarithms of each pixel's histogram (:class:`.elementwise.HistogramCDF`). Before it is
    trained the flow *is* the model of independent pixels. The masks are checkerboards that alternate; the networks are
    fully connected, or what ``network(n_outputs)`` makes: ``(B, C, H, W) -> (B, C·n_outputs, H, W)``.
    """
    shape = expect.floats(log_p, "log_p", "C", "H", "W", "K").shape[:-1]
    n_outputs = 3 * expect.count(n_bins, "n_bins", 2) + 1
    expect.counts(hidden, "hidden")
    layers = [HistogramCDF(log_p)]
    for turn in range(expect.count(n_layers, "n_layers")):
        mask = checkerboard_mask(shape, turn % 2)
        n_moving = int((~mask).expand(shape).sum())
        made = network(n_outputs) if network else nn.Sequential(
            nn.Flatten(), MLP([log_p[..., 0].numel(), *hidden, n_moving * n_outputs]),
            nn.Unflatten(1, (n_moving, n_outputs)))  # fmt: skip
        layers.append(SplineCoupling(mask, start_at_zero(made), 0.0, 1.0, tails=False))
    return Flow(UnitCube(*shape), layers)
