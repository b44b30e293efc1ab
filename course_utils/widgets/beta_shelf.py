"""Several VAEs that differ only in β, side by side under one slider. For chapter 04."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider


def beta_shelf(betas, manifolds, rate, distortion):
    r"""Slide along β: the decoded latent plane, the rate :math:`KL(q\|p)` and the distortion :math:`-E_q\log p(x|z)`.

    ``betas``: B positive numbers, rising; ``manifolds``: ``(B, n, n, 1, H, W)`` images in [0, 1], decoded on an n × n
    grid of the latent plane, first row on top; ``rate, distortion``: ``(B,)`` in nats, measured on held-out images.
    Nothing is trained. Taught in chapter 04.
    """
    betas = [float(b) for b in betas]
    manifolds = torch.as_tensor(manifolds).detach().cpu().float()
    rate, distortion = (torch.as_tensor(a).detach().cpu().double().tolist() for a in (rate, distortion))
    if not len(betas) == len(manifolds) == len(rate) == len(distortion) or len(betas) < 2:
        raise ValueError(f"expected as many manifolds, rates and distortions as betas, at least 2; got {len(betas)} "
                         f"betas, {len(manifolds)}, {len(rate)}, {len(distortion)}")
    if sorted(betas) != betas or betas[0] <= 0:
        raise ValueError(f"expected positive betas in rising order, got {betas}")
    if manifolds.dim() != 6 or manifolds.shape[3] != 1:
        raise ValueError(f"expected manifolds (B, n, n, 1, H, W) of grey images, got {tuple(manifolds.shape)}")
    _, n, m, _, h, w = manifolds.shape
    sheets = manifolds[:, :, :, 0].permute(0, 1, 3, 2, 4).reshape(len(betas), n * h, m * w)  # rows of images
    sheets = (sheets.clamp(0, 1) * 255).round().to(torch.uint8)
    low, high = math.floor(100 * math.log10(betas[0])) / 100, math.ceil(100 * math.log10(betas[-1])) / 100
    start = math.log10(min(betas, key=lambda b: abs(math.log(b))))
    data = {"betas": betas, "size": [n * h, m * w], "sheets": sheets, "rate": rate, "distortion": distortion}

    def picture(values):
        k = int(np.argmin([abs(math.log10(b) - values["log_beta"]) for b in betas]))
        return _picture(betas, k, sheets[k], rate, distortion)

    return Demo("beta_shelf", sliders=[Slider("log_beta", "log₁₀ β", low, high, start, 0.01)], data=data,
                picture=picture, height=640,
                alt="Images decoded over the latent plane for one β, and rate against distortion for every β.")


def _picture(betas, k, sheet, rate, distortion):
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(sheet.numpy(), cmap="gray_r", vmin=0, vmax=255)
    left.set_title(f"Latent plane at β = {betas[k]:g}")
    left.set_axis_off()
    right.plot(rate, distortion, "o-", color=plots.PALETTE[0])
    right.plot(rate[k], distortion[k], "o", color=plots.PALETTE[1], markersize=11)
    for x, y, beta in zip(rate, distortion, betas, strict=True):
        right.annotate(f"{beta:g}", (x, y), textcoords="offset points", xytext=(6, 6), fontsize=8)
    right.set(title="Rate and distortion, by β", xlabel="rate, nats", ylabel="distortion, nats")
    right.spines[["top", "right"]].set_visible(False)
    return figure
