"""Two densities that slide apart: Jensen–Shannon gives up, the Wasserstein distance does not. For chapter 05."""

import math

import numpy as np
from matplotlib.figure import Figure
from scipy.special import ndtr

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

REACH = 4.0


def sliding_densities():
    r"""Slide fakes q over data p, both even on an interval of length 1 and blurred a little; read JS and W1 live.

    Blur adds Gaussian noise of that scale to both. :math:`W_1` is the distance at any blur; JS sees only overlap.
    Taught in chapter 05.
    """
    sliders = (Slider("shift", "place of q", -REACH, REACH, 1.6), Slider("blur", "blur", 0.02, 1.5, 0.05))

    def picture(values):
        return _picture(**values)

    return Demo("sliding_densities", sliders=sliders, data={"reach": REACH}, picture=picture, height=620,
                alt="Two blurred intervals on a line with the best critic; below, JS and W1 as functions of the place.")


def interval(x, centre, blur):
    """Density of a uniform interval of length 1 around ``centre`` plus Gaussian noise of scale ``blur``."""
    away = -np.abs(np.asarray(x) - centre)  # to the left of the centre: no difference of two numbers near 1
    return ndtr((away + 0.5) / blur) - ndtr((away - 0.5) / blur)


def jensen_shannon(shift, blur, n=1601):
    """JS of the two in nats, by quadrature."""
    x = np.linspace(min(0, shift) - 8, max(0, shift) + 8, n)
    p, q = interval(x, 0.0, blur), interval(x, shift, blur)
    m = (p + q) / 2

    def kl(a):
        there = a > 0
        return (a[there] * (np.log(a[there]) - np.log(m[there]))).sum() * (x[1] - x[0])

    return float(kl(p) + kl(q)) / 2


def _picture(shift, blur):
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    curves, trace = figure.subplots(1, 2)
    x = np.linspace(-REACH - 1.5, REACH + 1.5, 600)
    p, q = interval(x, 0.0, blur), interval(x, shift, blur)
    for y, colour, name in ((p, "#5f6b76", "data p"), (q, PALETTE[1], "fakes q")):
        curves.plot(x, y, color=colour, label=name)
        curves.fill_between(x, y, color=colour, alpha=0.2)
    curves.set(title="Data and fakes", xlabel="x", ylabel="density", ylim=(0, 1.3))
    curves.legend(frameon=False, fontsize=8, loc="upper left")
    places = np.linspace(-REACH, REACH, 81)
    trace.plot(places, [jensen_shannon(place, blur) for place in places], color=PALETTE[2], label="JS [nats]")
    trace.plot(places, abs(places) / REACH * math.log(2), color=PALETTE[3], label="W₁, scaled")
    trace.plot(shift, jensen_shannon(shift, blur), "o", color=PALETTE[2])
    trace.set(title="Which of them shows the way?", xlabel="place of q", ylim=(0, 0.8))
    trace.legend(frameon=False, fontsize=8)
    for axes in (curves, trace):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
