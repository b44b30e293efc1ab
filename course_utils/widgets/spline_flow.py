"""Sand on a rubber band: drag the knots of a rising curve and see what it does to a density. For chapter 06."""

import math

import numpy as np
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

END, GAP, N_STRIPS = 3.2, 0.04, 16
PLACES = (-2.0, -1.0, 0.0, 1.0, 2.0)
START = (-1.35, -0.9, 0.1, 0.75, 1.6)


def spline_flow():
    r"""Drag five knots of z = f(x), a monotone rational-quadratic spline; see p(x) = N(f(x)) f′(x) in equal strips.

    Outside [−3.2, 3.2] the curve is the identity. The slopes at the knots follow from the heights (harmonic means, as
    Gregory & Delbourgo 1982), so every rising set of knots gives a rising curve. Taught in chapter 06.
    """
    sliders = [Slider(f"y{i}", f"f({x:.0f})", -2.9, 2.9, y, 0.01)
               for i, (x, y) in enumerate(zip(PLACES, START, strict=True), 1)]
    data = {"places": list(PLACES), "end": END, "gap": GAP, "strips": N_STRIPS}
    return Demo("spline_flow", sliders=sliders, data=data, height=720,
                picture=lambda values: _picture([*values.values()]),
                alt="A rising curve through knots, the Gaussian it starts from, and the density it makes, in strips.")


def knots_of(heights):
    """Knots ``(x, y, slope)`` with both ends; heights that do not rise are pushed up to rise by the least gap."""
    x = np.array([-END, *PLACES, END])
    y = [-END]
    for i, height in enumerate(heights):
        room = END - GAP * (len(heights) - i)
        y.append(min(max(height, y[-1] + GAP), room))
    y = np.array([*y, END])
    steep = np.diff(y) / np.diff(x)
    slopes = np.ones_like(x)
    slopes[1:-1] = 2 * steep[1:] * steep[:-1] / (steep[1:] + steep[:-1])
    return x, y, slopes


def curve(at, heights):
    """f and f′ at the points ``at``, (Durkan et al. 2019, eqs. 4 and 5), as the module computes them."""
    x, y, slopes = knots_of(heights)
    at = np.asarray(at, float)
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    width, height = x[k + 1] - x[k], y[k + 1] - y[k]
    s, xi = height / width, (at - x[k]) / width
    mixed, left, right = xi * (1 - xi), slopes[k], slopes[k + 1]
    below = s + (left + right - 2 * s) * mixed
    f = y[k] + height * (s * xi**2 + left * mixed) / below
    slope = s**2 * (right * xi**2 + 2 * s * mixed + left * (1 - xi) ** 2) / below**2
    outside = np.abs(at) > END
    return np.where(outside, at, f), np.where(outside, 1.0, slope)


def _picture(heights):
    figure = Figure(figsize=(7, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.linspace(-4, 4, 1_601)
    f, slope = curve(at, heights)
    x, y, _ = knots_of(heights)
    left.plot(at, f, color=PALETTE[0])
    left.plot(x[1:-1], y[1:-1], "o", color=PALETTE[3])
    left.set(title="z = f(x), through five knots", xlabel="x", ylabel="z")
    p = np.exp(-0.5 * f**2) / math.sqrt(2 * math.pi) * slope
    strip = strip_of(f)
    for k in range(N_STRIPS):
        own = strip == k
        right.fill_between(at[own], p[own], color=PALETTE[0 if k % 2 else 5], alpha=0.8, linewidth=0)
    right.set(title="p(x): strips of equal area, 1/16 each", xlabel="x", ylabel="density")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def strip_of(z):
    """Which of the strips of equal mass under N(0, 1) a point z lies in."""
    mass = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in z])
    return np.minimum((N_STRIPS * mass).astype(int), N_STRIPS - 1)
