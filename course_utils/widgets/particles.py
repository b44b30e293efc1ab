"""A crowd of particles carried from noise to a mixture by the ODE or an SDE, in few steps or many. For chapter 07."""

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.score_field import REACH, parameters

MOST = 40  # steps


def particles(mixture, n=300):
    r"""``n`` particles move by :math:`dx=(u+s(1-t)\nabla\log p_t)\,dt+\sqrt{2s(1-t)}\,dW`, with exact u and score.

    ``mixture``: as for :func:`score_field`. Sliders: the number of steps, the noise s (0 is the ODE), and the time t up
    to which the walk has gone. All draws are fixed, so that only what is moved changes. Taught in chapter 07.
    """
    weights, means, variances = parameters(mixture)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(n, 2, generator=generator)
    shakes = torch.randn(MOST, n, 2, generator=generator).half()
    sliders = [Slider("steps", "steps", 1, MOST, 8, 1), Slider("noise", "noise s", 0, 3, 0, 0.1),
               Slider("share", "share of the walk", 0, 1, 1, 0.01)]
    data = {"weights": weights, "means": means, "variances": variances, "reach": REACH, "start": start,
            "shakes": shakes, "variance": mixture.variance.sum().item()}

    def picture(values):
        return _picture(mixture, start.double(), shakes.double(), **values)

    return Demo("particles", sliders=sliders, data=data, picture=picture, height=640,
                alt="Particles over the density that they should have at the end, shares by cluster, spread.")


def walk(mixture, start, shakes, steps, noise, share):
    """The particles ``(n, 2)`` after ``share`` of ``steps`` steps (whole steps only), in float64."""
    x, steps = start, round(steps)
    parts = [torch.as_tensor(a) for a in parameters(mixture)]
    exact = type(mixture)(*parts)
    for k in range(int(round(share * steps + 1e-9 - 0.5)) if share < 1 else steps):
        t, h = k / steps, 1 / steps
        size = (t**2 + (1 - t) ** 2) ** 0.5
        clean = exact.clean_given(x / size, (t / size) ** 2).mean
        eps = (x - t * clean) / (1 - t)
        x = x + h * (clean - eps) - h * noise * eps + (2 * noise * (1 - t) * h) ** 0.5 * shakes[k]
    return x


def _picture(mixture, start, shakes, steps, noise, share):
    x = walk(mixture, start, shakes, steps, noise, share).numpy()
    axis = torch.linspace(-REACH, REACH, 90, dtype=mixture.component_distribution.mean.dtype)
    density = mixture.log_prob(torch.cartesian_prod(axis, axis)).exp().reshape(90, 90).T.numpy()
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    axes.imshow(density, origin="lower", extent=(-REACH, REACH) * 2, cmap="Blues")
    axes.plot(*x.T, ".", color=PALETTE[3], ms=3)
    axes.set(title=f"{len(x)} particles, {round(steps)} steps, noise s = {noise:g}", xlabel="first coordinate",
             ylabel="second coordinate", xlim=(-REACH, REACH), ylim=(-REACH, REACH))
    spread = x.var(0).sum() / mixture.variance.sum().item()
    bars.bar(["particles", "truth"], [spread, 1.0], color=[PALETTE[3], PALETTE[0]])
    bars.set(title="Variance, over that of the truth", ylim=(0, max(1.2, 1.1 * float(np.max(spread)))))
    bars.spines[["top", "right"]].set_visible(False)
    return figure
