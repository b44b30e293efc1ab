"""A Gaussian q(z|x) moved by hand over the exact posterior of a two-dimensional latent. For chapter 04."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from course_utils import plots
from course_utils.widgets.demo import Demo, Slider
from course_utils.widgets.network import pack_network

REACH = 4.0  # half the side of the latent plane


@torch.no_grad()
def posterior_lab(decoder, images, log_joint, mu, sigma):
    r"""Drag :math:`q(z|x) = N(\mu, \sigma^2)` and watch reconstruction, KL and the gap to log p(x), all exact.

    ``decoder``: network ``(B, 2) -> pixels`` in [0, 1] (layers as in :func:`.network.pack_network`); ``images``:
    ``(K, C, H, W)``; ``mu, sigma``: ``(K, 2)`` of the encoder; ``log_joint``: a function of a regular grid ``(G, 2)``
    that returns log p(x, z) as ``(K, G)``, such as ``lambda grid: vae.log_joint_on_grid(x, model.decoder, model.prior,
    grid)``. It is called once on the whole plane and once around each posterior; log p(x) is the sum over the latter.
    Taught in chapter 04.
    """
    images, mu, sigma = (torch.as_tensor(a).detach().cpu().float() for a in (images, mu, sigma))
    if images.dim() != 4 or mu.shape != (len(images), 2) or sigma.shape != mu.shape:
        raise ValueError("expected images (K, C, H, W) and mu, sigma (K, 2), got "
                         f"{tuple(images.shape)}, {tuple(mu.shape)}, {tuple(sigma.shape)}")
    windows = [_Window(log_joint, k, row, mu[k], sigma[k]) for k, row in enumerate(_on(log_joint, 0, 0, REACH, 101))]
    guess = torch.cat([mu.clamp(-REACH, REACH), sigma.clamp(0.01, 1.5)], 1)
    bounds = [(-REACH, REACH)] * 2 + [(0.01, 1.5)] * 2
    sliders = [Slider(name, label, *bound, round(value, 3), 0.001) for name, label, bound, value in zip(
        ("mu1", "mu2", "s1", "s2"), ("mean μ1", "mean μ2", "width σ1", "width σ2"), bounds, guess[0].tolist(),
        strict=True)]
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    data = {"shape": list(images.shape[1:]), "guess": guess, "layers": pack_network(decoder), "images": images.half(),
            "windows": [window.data for window in windows], "reach": REACH,
            "nodes": nodes.tolist(), "weights": (weights / math.sqrt(2 * math.pi)).tolist()}

    def picture(values):
        return _picture(decoder, images[:1], windows[0], values)

    return Demo("posterior_lab", needs=["network"], sliders=sliders, data=data, picture=picture, height=720,
                alt="The exact posterior of an image over the latent plane, the ellipse of q, and the decoded mean.")


class _Window:
    """log p(x, z) on a fine grid around the posterior of image k: everything the coarse grid finds above 1e-4."""

    def __init__(self, log_joint, k, coarse, mu, sigma, size=81):
        axis = torch.linspace(-REACH, REACH, len(coarse))
        inside = (coarse - coarse.max() > math.log(1e-4)).nonzero()
        low = torch.minimum(axis[inside.amin(0)], mu - 3 * sigma) - 0.08
        high = torch.maximum(axis[inside.amax(0)], mu + 3 * sigma) + 0.08
        self.half = float((high - low).max() / 2)
        self.centre = ((low + high) / 2).tolist()
        self.log_joint = _on(log_joint, *self.centre, self.half, size)[k]                # (size, size)
        step = 2 * self.half / (size - 1)
        log_evidence = float(self.log_joint.double().logsumexp((0, 1))) + 2 * math.log(step)
        self.data = {"centre": self.centre, "half": self.half, "step": step, "size": size,
                     "log_joint": self.log_joint, "log_evidence": log_evidence}


def _on(log_joint, x, y, half, size):
    """log p(x, z) on a square of the plane: ``(K, size, size)``, first index along z1."""
    axis = torch.linspace(-half, half, size)
    values = log_joint(torch.cartesian_prod(axis + x, axis + y)).detach().cpu().float()
    return values.reshape(-1, size, size)


@torch.no_grad()
def _picture(decoder, image, window, values):
    mu, sigma = (values["mu1"], values["mu2"]), (values["s1"], values["s2"])
    parameter = next(decoder.parameters())
    decoded = decoder(torch.tensor([mu]).to(parameter)).float().cpu().flatten()[:image.numel()].reshape(image.shape)
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    plane, left, right = figure.subplots(1, 3, width_ratios=(2.2, 1, 1))
    (x, y), half = window.centre, window.half
    posterior = (window.log_joint - window.log_joint.max()).exp().T.numpy()
    plane.imshow(posterior, origin="lower", extent=(x - half, x + half, y - half, y + half), cmap="Blues")
    for r in (1, 2):
        plane.add_patch(Ellipse(mu, 2 * r * sigma[0], 2 * r * sigma[1], facecolor="none", edgecolor="#b37a00", lw=2))
    plane.set(title="Posterior of x (blue) and q (orange)", xlabel="$z_1$", ylabel="$z_2$")
    plots.draw_images(left, image, 1, title="x", background=0.85)
    plots.draw_images(right, decoded.clamp(0, 1), 1, title="decoded at μ", background=0.85)
    return figure
