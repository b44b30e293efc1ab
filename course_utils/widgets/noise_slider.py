"""One image and one noise under a time slider, with cursors on alpha-bar and the signal-to-noise ratio. Chapter 07."""

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils.plots import PALETTE
from course_utils.widgets.demo import Demo, Slider


def noise_slider(images, noise, schedules, *, ask, options, right, answer):
    r"""Slide t from 0 to T: :math:`x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon`, the noise held fixed.

    ``images``: ``(N, 1, H, W)`` in [0, 1]; ``noise``: ``(1, H, W)``; ``schedules``: name → alpha_bar ``(T+1,)``, each
    with the same T. Inside, pixels are brought to [-1, 1]. ``ask, options, right, answer``: a question before the drag.
    Taught in chapter 07.
    """
    images, noise = (torch.as_tensor(a).detach().cpu().float() for a in (images, noise))
    curves = {name: np.asarray(torch.as_tensor(a).detach().cpu().double()) for name, a in schedules.items()}
    lengths = {len(a) for a in curves.values()}
    if images.dim() != 4 or images.shape[1] != 1 or noise.shape != images.shape[1:] or len(lengths) != 1:
        raise ValueError(f"expected images (N, 1, H, W), noise (1, H, W) and schedules of one length, got "
                         f"{tuple(images.shape)}, {tuple(noise.shape)} and lengths {sorted(lengths)}")
    last = lengths.pop() - 1
    data = {"images": (2 * images[:, 0] - 1).half(), "noise": noise[0].half(), "names": list(curves),
            "curves": np.stack(list(curves.values())),
            "question": {"ask": ask, "options": list(options), "right": right, "answer": answer}}

    def picture(values):
        return _picture(2 * images[0, 0] - 1, noise[0], curves, round(values["t"]))

    return Demo("noise_slider", sliders=[Slider("t", "time t", 0, last, round(0.3 * last), max(1, last // 200))],
                data=data, picture=picture, height=520,
                alt="An image under noise, and curves of alpha-bar with a cursor at the time shown.")


def _picture(image, noise, curves, t):
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    a = next(iter(curves.values()))[t]
    left.imshow((a**0.5 * image + (1 - a) ** 0.5 * noise).numpy(), cmap="gray_r", vmin=-2.5, vmax=2.5)
    left.set_title(f"t = {t}, share of signal {a:.3f}")
    left.set_axis_off()
    for (name, curve), colour in zip(curves.items(), PALETTE, strict=False):
        right.plot(curve, color=colour, label=name)
        right.plot(t, curve[t], "o", color=colour)
    right.axvline(t, color="#5f6b76", lw=1)
    right.set(xlabel="t", ylabel="alpha-bar", title="What is left of the signal")
    right.legend(frameon=False)
    right.spines[["top", "right"]].set_visible(False)
    return figure
