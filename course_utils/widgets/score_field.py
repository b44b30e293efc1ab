"""Click a noisy point: which clean points may it have been, their mean, and the arrow of the score. For chapter 07."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

REACH = 2.4  # the maps go from -REACH to REACH


def parameters(mixture):
    """Weights (K,), means (K, 2) and variances (K, 2) of a mixture in the plane, as float64 arrays."""
    components = mixture.component_distribution
    if tuple(mixture.event_shape) != (2,) or not hasattr(components, "base_dist"):
        raise ValueError("expected a GaussianMixture in the plane with diagonal covariances, got event shape "
                         f"{tuple(mixture.event_shape)}")
    return [torch.as_tensor(a).double().numpy() for a in (mixture.mixture_distribution.probs, components.mean,
                                                          components.variance)]


def score_field(mixture):
    r"""Drag :math:`x_t` over the noisy density; beside it stands :math:`p(x_0|x_t)` with its mean.

    ``mixture``: a :class:`GaussianMixture` in the plane with diagonal covariances, about the size of a standard normal.
    The slider is the angle θ of :math:`x_t=\cos\theta\,x_0+\sin\theta\,\epsilon`. Everything is exact and computed in
    the browser. Taught in chapter 07.
    """
    weights, means, variances = parameters(mixture)
    sliders = [Slider("angle", "noise, θ in degrees", 3, 87, 40, 1), Slider("x", "x_t, first", -2.3, 2.3, 1.3, 0.02),
               Slider("y", "x_t, second", -2.3, 2.3, 0.5, 0.02)]
    data = {"weights": weights, "means": means, "variances": variances, "reach": REACH}

    def picture(values):
        return _picture(mixture, **values)

    return Demo("score_field", sliders=sliders, data=data, picture=picture, height=640,
                alt="Left: the noisy density with the point x_t and an arrow towards the shrunken mean of the clean "
                    "points. Right: the density of the clean points given x_t.")


def _picture(mixture, angle, x, y):
    cos = math.cos(math.radians(angle))
    at = torch.tensor([[x, y]], dtype=mixture.component_distribution.mean.dtype)
    posterior = mixture.clean_given(at, cos**2)
    mean = posterior.mean[0].tolist()
    axis = torch.linspace(-REACH, REACH, 90, dtype=at.dtype)
    grid = torch.cartesian_prod(axis, axis)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    maps = (mixture.noised(cos**2).log_prob(grid), posterior.log_prob(grid[:, None])[:, 0])
    titles = ("noisy density and $x_t$", "clean points, given $x_t$")
    for axes, values, title in zip((left, right), maps, titles, strict=True):
        axes.imshow(np.exp(values.numpy()).reshape(90, 90).T, origin="lower", extent=(-REACH, REACH) * 2, cmap="Blues")
        axes.set(title=title, xlabel="first coordinate")
    left.set_ylabel("second coordinate")
    left.annotate("", xytext=(x, y), xy=(cos * mean[0], cos * mean[1]),
                  arrowprops={"arrowstyle": "->", "color": PALETTE[3], "lw": 2})
    left.plot(x, y, "o", color=PALETTE[1], mec="white", ms=9)
    right.plot(*mean, "X", color=PALETTE[3], mec="white", ms=10)
    return figure
