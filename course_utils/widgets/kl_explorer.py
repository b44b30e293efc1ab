"""Forward KL, reverse KL and Jensen–Shannon of a Gaussian forecast that the hand moves. For chapter 01."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

NAMES = ("KL(p‖q)", "KL(q‖p)", "JS(p, q)")
COLOURS = (PALETTE[0], PALETTE[3], PALETTE[2])


def kl_explorer(truth):
    r"""Drag a Gaussian q over ``truth`` and read :math:`KL(p\|q)`, :math:`KL(q\|p)` and JS live, in nats.

    ``truth``: a one-dimensional :class:`torch.distributions.Distribution` with a finite mean and variance, such as
    ``densities.two_bumps()``. The browser integrates numerically in float64, on a grid 1/81 of the standard deviation
    fine (error below 1e-6 for smooth densities). Taught in chapter 01.
    """
    x, log_p, centre, spread = _grid(truth)
    p = np.exp(log_p)
    narrow = 1 / (math.sqrt(2 * math.pi) * 2.1 * p.max())  # the narrowest q is about twice as high as p
    sliders = (Slider("mu", "centre μ", *_round(centre - 2.2 * spread, centre + 2.2 * spread, centre + 0.6 * spread)),
               Slider("sigma", "width σ", *_round(narrow, 2 * spread, 0.7 * spread)))
    best = _best(x[::4], log_p[::4], sliders)  # still exact to far more digits than the eye needs
    peak = x[p.argmax()]
    data = {"grid": [x[0], x[1] - x[0]], "log_p": log_p, "y_max": 2.3 * p.max(), "full": 3.0,
            "view": [centre - 3 * spread, centre + 3 * spread], "label_at": [peak, p.max()],
            "best": [[point for point, _ in those] for those in best], "lowest": [those[0][1] for those in best]}

    def picture(values):
        return _picture(x, log_p, data["view"], **values)

    return Demo("kl_explorer", sliders=sliders, data=data, picture=picture, height=640,
                alt="A truth p with two bumps, a Gaussian forecast q, and bars for KL(p‖q), KL(q‖p) and JS(p, q).")


def divergences(x, log_p, mu, sigma):
    """(KL(p‖q), KL(q‖p), JS) in nats for q = N(mu, sigma²): the module's quadrature again, for arrays ``mu, sigma``."""
    mu, sigma = np.asarray(mu, float)[..., None], np.asarray(sigma, float)[..., None]
    log_q = -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma) - 0.5 * math.log(2 * math.pi)
    p, q = np.exp(log_p), np.exp(log_q)
    log_m = np.logaddexp(log_p, log_q) - math.log(2)

    def integral(weight, gap):
        return np.where(weight > 0, weight * np.where(weight > 0, gap, 0), 0).sum(-1) * (x[1] - x[0])

    return (integral(p, log_p - log_q), integral(q, log_q - log_p),
            (integral(p, log_p - log_m) + integral(q, log_q - log_m)) / 2)


def _grid(truth):
    """2,601 points wide enough for every q of the sliders, and log p there."""
    if truth.batch_shape or truth.event_shape:
        raise ValueError("the truth must be one density over the real line, so batch_shape=() and event_shape=(); got "
                         f"{tuple(truth.batch_shape)} and {tuple(truth.event_shape)}")
    centre, spread = float(truth.mean), float(truth.stddev)
    x = torch.linspace(centre - 16 * spread, centre + 16 * spread, 2601, dtype=torch.float64)
    log_p = truth.log_prob(x).double()
    if not log_p.isfinite().all():
        raise ValueError("the truth must have a density above 0 everywhere; otherwise KL(q‖p) is infinite for every q")
    step = float(x[1] - x[0])
    total = step * float(log_p.exp().sum())
    if abs(total - 1) > 1e-4:
        raise ValueError(f"on the demo's grid of step {step:.2g} the truth sums to {total:.4f}, not to 1: "
                         "give it wider bumps, closer together, or lighter tails")
    return x.numpy(), log_p.numpy(), centre, spread


def _round(low, high, value):
    """Slider numbers with two decimals, so that a slider can stand on each."""
    return math.ceil(low * 100) / 100, math.floor(high * 100) / 100, round(value, 2)


def _best(x, log_p, sliders, n=25):
    """Per divergence the lowest points, each ((mu, sigma), value): local minima on a grid, then the grid made finer."""
    found = []
    for k in range(3):
        mu, sigma = (np.linspace(s.low, s.high, n) for s in sliders)
        value = divergences(x, log_p, mu[:, None], sigma)[k]
        inner = np.pad(value, 1, constant_values=np.inf)
        neighbours = [np.roll(inner, (i, j), (0, 1))[1:-1, 1:-1] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        starts = np.argwhere(value < np.min(neighbours, axis=0))
        points = [_refine(x, log_p, k, mu[i], sigma[j], mu[1] - mu[0], sigma[1] - sigma[0]) for i, j in starts]
        lowest = min(value for _, value in points)
        found.append(sorted((point for point in points if point[1] < lowest + 1e-3), key=lambda point: point[1]))
    return found


def _refine(x, log_p, k, mu, sigma, d_mu, d_sigma):
    """Look around (mu, sigma) in ever smaller steps."""
    offsets = np.linspace(-1, 1, 5)
    for _ in range(12):
        near_mu, near_sigma = mu + offsets * d_mu, np.maximum(sigma + offsets * d_sigma, 1e-3)
        value = divergences(x, log_p, near_mu[:, None], near_sigma)[k]
        i, j = np.unravel_index(value.argmin(), value.shape)
        mu, sigma, d_mu, d_sigma = near_mu[i], near_sigma[j], d_mu / 2, d_sigma / 2
    return (float(mu), float(sigma)), float(value.min())


def _picture(x, log_p, view, mu, sigma):
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    curves, bars = figure.subplots(1, 2, width_ratios=(3, 1))
    seen = (x > view[0]) & (x < view[1])
    q = np.exp(-0.5 * ((x - mu) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    forecast = f"forecast q: μ={mu:.2f}, σ={sigma:.2f}"
    for y, colour, name in ((np.exp(log_p), "#5f6b76", "truth p"), (q, PALETTE[1], forecast)):
        curves.plot(x[seen], y[seen], color=colour, label=name)
        curves.fill_between(x[seen], y[seen], color=colour, alpha=0.2)
    curves.set(title="A Gaussian forecast for a truth with two bumps", xlabel="x", ylabel="density", xlim=view,
               ylim=(0, 1.3 * max(q.max(), math.exp(log_p.max()))))
    curves.legend(frameon=False, loc="upper center", ncols=2)
    heights = [float(value) for value in divergences(x, log_p, mu, sigma)]
    drawn = bars.bar(NAMES, heights, color=COLOURS)
    bars.bar_label(drawn, [f"{value:.2f}" for value in heights])
    bars.set(title="How wrong q is", ylabel="nats", ylim=(0, 1.15 * max(heights)))
    bars.tick_params(axis="x", labelrotation=30)
    for axes in (curves, bars):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
