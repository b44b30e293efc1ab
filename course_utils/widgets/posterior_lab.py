"""A Gaussian q(z|x) moved by hand over the exact posterior of a two-dimensional latent. For chapter 04."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.network import Decoder, pack_network

REACH = 4.0  # half the side of the part of the latent plane where the mean of q may be
WIDEST = 1.5  # largest standard deviation of q


@torch.no_grad()
def posterior_lab(decoder, images, log_joint, mu, sigma, labels=None):
    r"""Drag :math:`q(z|x) = N(\mu, \sigma^2)` and watch reconstruction, KL and the gap to log p(x).

    ``decoder``: network ``(B, 2) -> pixels`` in [0, 1] (layers as in :func:`.network.pack_network`); ``images``:
    ``(K, C, H, W)``; ``mu, sigma``: ``(K, 2)`` of the encoder; ``log_joint``: a function of images ``(N, C, H, W)`` and
    a regular grid ``(G, 2)`` that returns log p(x, z) as ``(N, G)``, such as ``lambda x, grid:
    vae.log_joint_on_grid(x, model.decoder, model.prior, grid)``. ``labels``: ``(K,)``, written on the buttons.

    It begins with a q beside the posterior; a button goes to the encoder's. Everything is a sum over a grid: a fine
    one around each posterior, which gives log p(x), and a coarse one over all that q can reach, which takes over where
    q leaves the fine one. Taught in chapter 04.
    """
    images = torch.as_tensor(images).detach()
    mu, sigma = (torch.as_tensor(a).detach().cpu().float() for a in (mu, sigma))
    if images.dim() != 4 or mu.shape != (len(images), 2) or sigma.shape != mu.shape:
        raise ValueError("expected images (K, C, H, W) and mu, sigma (K, 2), got "
                         f"{tuple(images.shape)}, {tuple(mu.shape)}, {tuple(sigma.shape)}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"expected a label for each of the {len(images)} images, got {len(labels)}")
    names = [f"image {k + 1}" for k in range(len(images))] if labels is None else [str(int(y)) for y in labels]
    coarse, reach = _squares(log_joint, images, (0, 0), REACH, 101), REACH + 4.6 * WIDEST
    planes = _squares(log_joint, images, (0, 0), reach, round(2 * reach / 0.2) + 1)
    windows = [_squares(log_joint, images[k : k + 1], *_around(coarse[k].log_joint, mu[k], sigma[k]), 81)[0]
               for k in range(len(images))]
    images = images.cpu().float()
    paint = Decoder(decoder, images.shape[1:])
    paint(mu[:1])                                                                   # does it fit mu and the images?
    guess = torch.cat([mu.clamp(-REACH, REACH), sigma.clamp(0.01, WIDEST)], 1)
    start = torch.tensor([_beside(window) for window in windows])
    bounds = [(-REACH, REACH)] * 2 + [(0.01, WIDEST)] * 2
    sliders = [Slider(name, label, *bound, round(value, 3), 0.001) for name, label, bound, value in zip(
        ("mu1", "mu2", "s1", "s2"), ("mean μ1", "mean μ2", "width σ1", "width σ2"), bounds, start[0].tolist(),
        strict=True)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    data = {"shape": list(images.shape[1:]), "guess": guess, "start": start, "layers": pack_network(decoder),
            "images": images.half(),
            "names": names, "windows": [w.data() | {"log_evidence": w.log_evidence()} for w in windows],
            "planes": [plane.data() for plane in planes],
            "reach": REACH, "nodes": nodes.tolist(), "weights": (weights / math.sqrt(2 * math.pi)).tolist()}

    def picture(values):
        return _picture(paint, images[:1], windows[0], values)

    return Demo("posterior_lab", needs=["network"], sliders=sliders, data=data, picture=picture, height=720,
                alt="The exact posterior of an image over the latent plane, the ellipse of q, and the decoded mean.")


class _Square:
    """log p(x, z) of one image on a regular grid over a square of the plane: (size, size), first index along z1."""

    def __init__(self, centre, half, log_joint):
        self.centre, self.half, self.size, self.log_joint = list(centre), half, len(log_joint), log_joint
        self.step = 2 * half / (self.size - 1)

    def data(self):
        return {"centre": self.centre, "half": self.half, "step": self.step, "size": self.size,
                "log_joint": self.log_joint}

    def log_evidence(self):
        return float(self.log_joint.double().logsumexp((0, 1))) + 2 * math.log(self.step)


def _squares(log_joint, images, centre, half, size):
    """The same square of the plane for each image."""
    axis = torch.linspace(-half, half, size)
    values = log_joint(images, torch.cartesian_prod(axis + centre[0], axis + centre[1])).detach().cpu().float()
    if values.shape != (len(images), size**2):
        raise ValueError(f"log_joint gives {tuple(values.shape)} for {len(images)} images and {size**2} places: "
                         f"expected {(len(images), size**2)}")
    return [_Square(centre, half, row) for row in values.reshape(-1, size, size)]


def _around(coarse, mu, sigma):
    """Centre and half side of a square around what a coarse grid finds above 1e-4, and three of the encoder's σ."""
    axis = torch.linspace(-REACH, REACH, len(coarse))
    inside = (coarse - coarse.max() > math.log(1e-4)).nonzero()
    low = torch.minimum(axis[inside.amin(0)], mu - 3 * sigma) - 0.08
    high = torch.maximum(axis[inside.amax(0)], mu + 3 * sigma) + 0.08
    return ((low + high) / 2).tolist(), float((high - low).max() / 2)


def _beside(window):
    """``[μ1, μ2, σ1, σ2]`` to begin with: a q that is seen whole, beside the posterior and wider than it."""
    (x, y), half = window.centre, window.half
    return [max(-REACH, min(REACH, x - 0.4 * half)), max(-REACH, min(REACH, y + 0.4 * half)),
            *[max(0.01, min(WIDEST, 0.22 * half))] * 2]


def _picture(paint, image, window, values):
    mu, sigma = (values["mu1"], values["mu2"]), (values["s1"], values["s2"])
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    plane, left, right = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
    (x, y), half = window.centre, window.half
    posterior = (window.log_joint - window.log_joint.max()).exp().T.numpy()
    plane.imshow(posterior, origin="lower", extent=(x - half, x + half, y - half, y + half), cmap="Blues")
    for r in (1, 2):
        plane.add_patch(Ellipse(mu, 2 * r * sigma[0], 2 * r * sigma[1], facecolor="none", edgecolor="#b37a00", lw=2))
    plane.set(title="Posterior of x (blue) and q (orange)", xlabel="$z_1$", ylabel="$z_2$")
    plots.draw_images(left, image, 1, title="x", background=0.85)
    plots.draw_images(right, paint(torch.tensor([mu])), 1, title="decoded at μ", background=0.85)
    return figure
