"""A lattice of the plane on its way through the layers of a flow. For chapter 06."""

import torch
from matplotlib.figure import Figure

from course_utils.widgets.demo import Demo, Slider


def layer_morph(flows, side):
    r"""Slide from data to noise through the layers; colour is log|det| so far; pick a point and see its whole way.

    ``flows``: name -> list of ``(points (N, 2), log_det (N,))``, the lattice and what it is after each layer, as
    ``flow.chain.stages(lattice)`` gives it; ``side``: N is side², rows of ``torch.cartesian_prod``. Between two layers
    points move on straight lines. Taught in chapter 06.
    """
    if not flows:
        raise ValueError("expected at least one flow, name -> stages")
    packed, first = [], None
    for name, stages in flows.items():
        points = torch.stack([torch.as_tensor(part).detach().cpu().float() for part, _ in stages])     # (K + 1, N, 2)
        log_det = torch.stack([torch.as_tensor(part).detach().cpu().float() for _, part in stages])
        if points.shape[1:] != (side**2, 2) or log_det.shape != points.shape[:2] or len(points) < 2:
            raise ValueError(f"{name}: expected stages of {side**2} points (N, 2) with log_det (N,), got "
                             f"{tuple(points.shape)} and {tuple(log_det.shape)}")
        points, log_det = points.clamp(-30, 30), log_det.clamp(-30, 30)
        packed.append({"name": name, "layers": len(points) - 1, "points": points.half(), "log_det": log_det.half()})
        first = first or (points, log_det)
    middle = side**2 // 2 + side // 5
    sliders = [Slider("way", "data → noise", 0, 1, 0.5, 0.01), Slider("picked", "point", 0, side**2 - 1, middle, 1)]

    def picture(values):
        return _picture(next(iter(flows)), *first, values["way"], round(values["picked"]))

    return Demo("layer_morph", sliders=sliders, data={"flows": packed, "side": side}, picture=picture, height=640,
                alt="A lattice of points bent by the layers of a flow, coloured by how much it was stretched.")


def between(points, log_det, way):
    """Points and log_det at a share ``way`` of the layers, on straight lines between two of them."""
    place = way * (len(points) - 1)
    k = min(int(place), len(points) - 2)
    part = place - k
    return (1 - part) * points[k] + part * points[k + 1], (1 - part) * log_det[k] + part * log_det[k + 1]


def _picture(name, points, log_det, way, picked):
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    now, colour = between(points, log_det, way)
    shown = axes.scatter(*now.T, c=colour, s=4, cmap="coolwarm", vmin=-3, vmax=3)
    axes.plot(*points[:, picked].T, color="black", linewidth=1, marker=".")
    axes.set(aspect="equal", xlim=(-5, 5), ylim=(-5, 5), xlabel="$h_1$", ylabel="$h_2$",
             title=f"{name}: after {way * (len(points) - 1):.1f} of {len(points) - 1} layers")
    figure.colorbar(shown, ax=axes, label="log|det| so far [nats]")
    return figure
