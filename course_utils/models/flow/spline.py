r"""Monotone curves that can be undone in closed form: rational-quadratic splines.

Between two knots the curve is a ratio of two parabolas that meets given heights and slopes; with positive slopes it
rises everywhere. Source: Durkan, Bekasov, Murray, Papamakarios 2019, "Neural spline flows", arXiv:1906.04032, after
Gregory & Delbourgo 1982.  Taught in chapter 06.
"""

import math

import torch
from torch.nn import functional as F

from course_utils import expect

MIN_BIN, MIN_SLOPE = 1e-3, 1e-3
UNIT = math.log(math.expm1(1 - MIN_SLOPE))                 # the raw number whose slope is 1


def knots(numbers, low, high, tails=True):
    r"""From free numbers to a spline: knots ``x``, ``y`` and slopes there, each ``(…, K + 1)``, rising.

    ``numbers``: ``(…, 3K − 1)``: K widths and K heights (through a softmax, none under 1/1000 of the box) and K − 1
    inner slopes (through a softplus); the ends get slope 1, so that the curve goes on as the identity. Without
    ``tails`` the two ends are free as well, ``(…, 3K + 1)``. All zeros give the identity. Taught in chapter 06.
    """
    expect.floats(numbers, "numbers", ..., "P")
    expect.number(low, "low", below=expect.number(high, "high"))
    n_bins = (numbers.shape[-1] + (1 if tails else -1)) // 3
    if numbers.shape[-1] != 3 * n_bins + (-1 if tails else 1) or n_bins < 2:
        raise ValueError(f"expected {'3K - 1' if tails else '3K + 1'} numbers for a spline of K bins, K at least 2; "
                         f"got {numbers.shape[-1]}")
    widths, heights, slopes = numbers.split([n_bins, n_bins, numbers.shape[-1] - 2 * n_bins], -1)
    x, y = (_places(part, low, high) for part in (widths, heights))
    slopes = MIN_SLOPE + F.softplus(slopes + UNIT)
    return x, y, F.pad(slopes, (1, 1), value=1.0) if tails else slopes


def _places(numbers, low, high):
    share = MIN_BIN + (1 - MIN_BIN * numbers.shape[-1]) * numbers.softmax(-1)
    inner = low + (high - low) * share[..., :-1].cumsum(-1)
    return torch.cat([torch.full_like(inner[..., :1], low), inner, torch.full_like(inner[..., :1], high)], -1)


def rational_quadratic(x, knot_x, knot_y, slopes):
    r"""The curve at ``x (…)`` and the logarithm of its slope there; ``knots (…, K + 1)``. Identity outside the box.

    With :math:`\xi` the place within the bin, s = height/width of the bin and :math:`\delta` the slopes at its ends,

    .. math:: g(\xi) = y_k + \frac{h\,[s\xi^2 + \delta_k\xi(1-\xi)]}{s + [\delta_{k+1}+\delta_k-2s]\,\xi(1-\xi)} .

    x is clamped *before* the branches are joined: a branch that is not taken must still have a finite gradient, or
    ``where`` turns zero times infinity into NaN. (Durkan et al. 2019, eqs. 4 and 5.) Taught in chapter 06.
    """
    _at_knots(x, "x", knot_x, knot_y, slopes)
    outside = (x < knot_x[..., 0]) | (x > knot_x[..., -1])
    clamped = x.clamp(knot_x[..., 0].detach(), knot_x[..., -1].detach())
    x0, y0, width, height, left, right = _bin(clamped, knot_x, knot_x, knot_y, slopes)
    s, xi = height / width, (clamped - x0) / width
    mixed = xi * (1 - xi)
    below = s + (left + right - 2 * s) * mixed
    y = y0 + height * (s * xi.square() + left * mixed) / below
    slope = s.square() * (right * xi.square() + 2 * s * mixed + left * (1 - xi).square()) / below.square()
    return torch.where(outside, x, y), torch.where(outside, torch.zeros_like(x), slope.log())


def rational_quadratic_inverse(y, knot_x, knot_y, slopes):
    r"""The x at which the curve is ``y``: the root of a quadratic (Durkan et al. 2019, eqs. 6 to 8).

    With :math:`\eta=y-y_k`: a = h(s − δ_k) + η(δ_{k+1} + δ_k − 2s), b = hδ_k − η(δ_{k+1} + δ_k − 2s), c = −sη, and
    :math:`\xi = 2c / (-b-\sqrt{b^2-4ac})`, the form that subtracts no two nearly equal numbers. Taught in chapter 06.
    """
    _at_knots(y, "y", knot_x, knot_y, slopes)
    outside = (y < knot_y[..., 0]) | (y > knot_y[..., -1])
    clamped = y.clamp(knot_y[..., 0].detach(), knot_y[..., -1].detach())
    x0, y0, width, height, left, right = _bin(clamped, knot_y, knot_x, knot_y, slopes)
    s, eta = height / width, clamped - y0
    bend = eta * (left + right - 2 * s)
    a, b, c = height * (s - left) + bend, height * left - bend, -s * eta
    root = (b.square() - 4 * a * c).clamp(min=torch.finfo(y.dtype).tiny).sqrt()
    return torch.where(outside, y, x0 + width * 2 * c / (-b - root))


def _at_knots(value, name, knot_x, knot_y, slopes):
    """A number for each spline: ``(…)`` beside ``(…, K + 1)``."""
    expect.same_shape(knot_x=expect.floats(knot_x, "knot_x", ..., "K"), knot_y=knot_y, slopes=slopes)
    expect.floats(value, name, *knot_x.shape[:-1])


def _bin(value, along, knot_x, knot_y, slopes):
    """Corner, size and end slopes of the bin that ``value`` lies in, looked up on the axis ``along``."""
    k = (value.unsqueeze(-1) >= along[..., 1:-1]).sum(-1, keepdim=True)
    x0, x1, y0, y1, left, right = (
        table.expand(*k.shape[:-1], -1).gather(-1, k + step).squeeze(-1)
        for table in (knot_x, knot_y, slopes) for step in (0, 1))
    return x0, y0, x1 - x0, y1 - y0, left, right
