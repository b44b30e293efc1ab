"""Samples of an image flow under two knobs: temperature, and a direction of the latent space. For chapter 06."""

import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider


def flow_images(frames, temperatures, strengths, names):
    r"""Slide the temperature of the noise, and how far it is pushed along a direction; the images are baked.

    ``frames``: ``(F, T, S, M, 1, H, W)`` images in [0, 1]: for each of F directions called ``names``, each of T
    ``temperatures`` and each of S ``strengths``, the same M draws of noise, z = T ε + s · direction, decoded. Both
    lists rise. The frame nearest to the sliders is shown. Taught in chapter 06.
    """
    frames = torch.as_tensor(frames).detach().cpu().float()
    temperatures, strengths = [float(t) for t in temperatures], [float(s) for s in strengths]
    if frames.dim() != 7 or frames.shape[:3] != (len(names), len(temperatures), len(strengths)) or frames.shape[4] != 1:
        raise ValueError(f"expected frames ({len(names)}, {len(temperatures)}, {len(strengths)}, M, 1, H, W), got "
                         f"{tuple(frames.shape)}")
    for what, values in (("temperatures", temperatures), ("strengths", strengths)):
        if len(values) < 2 or sorted(set(values)) != values:
            raise ValueError(f"expected two or more {what} that rise, got {values}")
    frames = (frames[:, :, :, :, 0].clamp(0, 1) * 255).round().to(torch.uint8)
    start = min(temperatures, key=lambda t: abs(t - 0.8)), min(strengths, key=abs)
    sliders = [Slider("temperature", "temperature T", temperatures[0], temperatures[-1], start[0], 0.01),
               Slider("strength", "along the direction", strengths[0], strengths[-1], start[1], 0.01),
               *([Slider("direction", "direction", 0, len(names) - 1, 0, 1)] if len(names) > 1 else [])]
    data = {"frames": frames, "size": list(frames.shape[-2:]), "many": frames.shape[3], "temperatures": temperatures,
            "strengths": strengths, "names": list(names)}

    def picture(values):
        t, s = nearest(temperatures, values["temperature"]), nearest(strengths, values["strength"])
        f = round(values.get("direction", 0))
        figure = Figure(figsize=(7, 2.3), layout="constrained")
        plots.draw_images(figure.subplots(), frames[f, t, s, :, None].float() / 255, frames.shape[3],
                          title=f"T = {temperatures[t]:.1f}, {strengths[s]:+.1f} along “{names[f]}”")
        return figure

    return Demo("flow_images", sliders=sliders, data=data, picture=picture, height=420,
                alt="A row of images drawn by a flow; a slider scales their noise, another pushes it in a direction.")


def nearest(values, wanted):
    """Index of the number nearest to ``wanted``."""
    return min(range(len(values)), key=lambda i: abs(values[i] - wanted))
