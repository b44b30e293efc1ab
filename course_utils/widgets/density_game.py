"""Both roles of the adversarial game by hand: move the fakes, or draw the critic. For chapter 05."""

import math

import numpy as np
from matplotlib.figure import Figure
from torch.distributions import Normal

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

NAMES = ("JS(p, q)", "best V + 2 log 2", "your V + 2 log 2")
COLOURS = (PALETTE[2], PALETTE[0], PALETTE[3])


def density_game(truth):
    r"""Drag a Gaussian q over ``truth`` p while the best critic :math:`D^* = p/(p+q)` answers; then be the critic.

    ``truth``: a :class:`torch.distributions.Normal` on the line. As the critic you choose the logit
    :math:`a(x) = \text{level} + \text{tilt}\,x + \text{bend}\,x^2`, a family that holds :math:`D^*` of two Gaussians,
    and read V(D) beside V(D*). The browser integrates in float64 on a grid. Taught in chapter 05.
    """
    if not isinstance(truth, Normal) or truth.batch_shape:
        raise ValueError(f"expected one Normal on the line, with batch_shape (), got {truth}")
    mean, std = float(truth.loc), float(truth.scale)
    sliders = (Slider("mu", "q: centre", _two(mean - 3 * std), _two(mean + 3 * std), _two(mean + 1.6 * std)),
               Slider("sigma", "q: width", _two(0.4 * std), _two(2.5 * std), _two(0.6 * std)),
               Slider("level", "D: level", -4, 4, 0.0, 0.05), Slider("tilt", "D: tilt", -4, 4, -1.0, 0.05),
               Slider("bend", "D: bend", -2, 2, 0.0, 0.05))  # fmt: skip
    data = {"mean": mean, "std": std, "view": [mean - 5 * std, mean + 5 * std]}

    def picture(values):
        return _picture(mean, std, data["view"], **values)

    return Demo("density_game", sliders=sliders, data=data, picture=picture, height=700,
                alt="Data p, fakes q and a critic D over a line, with bars for JS and the values of the game.")


def _two(value):
    return round(value, 2)


def values_of_the_game(mean, std, mu, sigma, level, tilt, bend, n=1601):
    """(JS, V(D*) + 2 log 2, V(D) + 2 log 2) in nats by quadrature: what the module computes, again."""
    low, high = mean - 16 * std, mean + 16 * std
    x = np.linspace(low, high, n)
    log_p = -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))
    log_q = -0.5 * ((x - mu) / sigma) ** 2 - math.log(sigma * math.sqrt(2 * math.pi))
    u = (x - mean) / std

    def value(logit):
        real, fake = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
        return float((np.exp(log_p) * real + np.exp(log_q) * fake).sum() * (x[1] - x[0]))

    best = value(log_p - log_q) + 2 * math.log(2)
    return best / 2, best, value(level + tilt * u + bend * u**2) + 2 * math.log(2)


def _picture(mean, std, view, mu, sigma, level, tilt, bend):
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 1))
    x = np.linspace(*view, 400)
    p = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))
    q = np.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    for y, colour, name in ((p, "#5f6b76", "data p"), (q, PALETTE[1], "fakes q")):
        curves.plot(x, y, color=colour, label=name)
        curves.fill_between(x, y, color=colour, alpha=0.2)
    curves.plot(x, p / np.maximum(p + q, 1e-300), "--", color=PALETTE[0], label="best critic D*")
    curves.set(title="The best critic answers", xlabel="x", ylabel="density, probability", xlim=view,
               ylim=(0, max(1.1, 1.1 * float(max(p.max(), q.max())))))
    curves.legend(frameon=False, fontsize=8, loc="upper left")
    heights = values_of_the_game(mean, std, mu, sigma, level, tilt, bend)[:2]
    bars.bar_label(bars.bar(NAMES[:2], heights, color=COLOURS[:2]), [f"{value:.2f}" for value in heights])
    bars.set(title="The game", ylabel="nats", ylim=(0, 1.15 * 2 * math.log(2)))
    bars.tick_params(axis="x", labelrotation=30)
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
