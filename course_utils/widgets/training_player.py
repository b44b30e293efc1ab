"""A GAN in the plane that trains in the browser, one step at a time or in a film. For chapter 05."""

import math

import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider

VIEW = 2.4  # the plane from -VIEW to VIEW is shown
WIDTHS = {"generator": (2, 32, 32, 2), "critic": (2, 32, 32, 1)}


def training_player(target, n=1_000, seed=0):
    r"""Train two small networks against each other by hand: a step of D, a step of G, or both in a film.

    ``target``: a density on the plane, most of it within [-2.4, 2.4]; ``n`` points of it are the data, and the reader
    may draw others. Both networks have two hidden layers of 32 leaky units (slope 0.2 below 0), codes are uniform on
    (-1, 1)^2, the loss is the non-saturating one, R1 has the slider's weight; Adam, rate 0.002, batches of 64. All
    of it runs in JavaScript, from the first weights that ``seed`` gives. Taught in chapter 05.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        points = target.sample((n,)).float().cpu()
        if points.shape != (n, 2) or not points.isfinite().all():
            raise ValueError(f"expected a density on the plane, its sample((n,)) has shape {tuple(points.shape)}")
        weights = {name: [_layer(*sizes) for sizes in zip(widths, widths[1:], strict=False)]
                   for name, widths in WIDTHS.items()}
    sliders = (Slider("speed", "rounds a frame", 1, 10, 3, 1), Slider("gamma", "R1 weight γ", 0, 0.5, 0.1, 0.01))
    data = {"points": points, "view": VIEW, "weights": weights}

    def picture(values):
        return _picture(points, weights, values["gamma"])

    return Demo("training_player", sliders=sliders, data=data, picture=picture, height=760,
                alt="Left: data and fakes in the plane over the critic's map. Right: where the generator sends a grid.")


def _layer(n_in, n_out):
    """Uniform first weights of a layer, as torch's Linear has them."""
    bound = 1 / math.sqrt(n_in)
    weight, bias = bound * (2 * torch.rand(n_out, n_in) - 1), bound * (2 * torch.rand(n_out) - 1)
    return {"weight": weight, "bias": bias}


def run_network(layers, x):
    """What the browser's networks compute: ``(B, 2) -> (B, out)``."""
    for number, layer in enumerate(layers, 1):
        x = x @ layer["weight"].T + layer["bias"]
        x = torch.nn.functional.leaky_relu(x, 0.2) if number < len(layers) else x
    return x


def _picture(points, weights, gamma):
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    plane, warped = figure.subplots(1, 2)
    axis = torch.linspace(-VIEW, VIEW, 44)
    belief = run_network(weights["critic"], torch.cartesian_prod(axis, axis)).sigmoid().reshape(44, 44).T
    plane.imshow(belief.numpy(), origin="lower", extent=(-VIEW, VIEW, -VIEW, VIEW), cmap="RdBu", vmin=0, vmax=1,
                 alpha=0.5)
    plane.plot(*points[:400].T.numpy(), ".", ms=2, color="#5f6b76")
    codes = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plane.plot(*run_network(weights["generator"], codes).T.numpy(), ".", ms=2, color=PALETTE[1])
    plane.set(title=f"Data, fakes (orange) and D; γ = {gamma:.2f}", xlabel="$x_1$", ylabel="$x_2$",
              xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW))
    lines = torch.linspace(-1, 1, 13)
    for a in lines:
        for line in (torch.stack([a.expand(60), torch.linspace(-1, 1, 60)], 1),
                     torch.stack([torch.linspace(-1, 1, 60), a.expand(60)], 1)):
            warped.plot(*run_network(weights["generator"], line).T.numpy(), color=PALETTE[0], lw=0.7)
    warped.set(title="Where G sends a grid of codes", xlabel="$x_1$", xlim=(-VIEW, VIEW), ylim=(-VIEW, VIEW),
               aspect="equal")
    return figure
