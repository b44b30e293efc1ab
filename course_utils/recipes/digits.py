"""All families on the 8×8 digits with their 17 grey levels: each scores the same discrete images."""

import math

import torch
from torch import nn

from course_utils.data import images
from course_utils.distributions import GaussianHead, Head, LevelHead, StandardNormal
from course_utils.models.autoregressive.baselines import PixelHistograms
from course_utils.models.autoregressive.pixelcnn import PixelCNN
from course_utils.models.diffusion.process import level_diffusion
from course_utils.models.flow import coupling
from course_utils.models.flow.flow import Dequantised
from course_utils.models.vae import VAE
from course_utils.nn.mlp import MLP
from course_utils.recipes.recipe import Recipe

LEVELS = 17


def independent(data, n_classes=1):
    return PixelHistograms(data.shape, levels=data.levels, n_classes=n_classes)


def pixelcnn(data):
    return PixelCNN(data.shape, n_blocks=3, first=5, head=Head(levels=data.levels, mixtures=5))


def level_vae(data, latent_dim=12, width=256):
    """A VAE whose pixels are mixtures of two discretised logistics."""
    head, n_pixels = Head(levels=data.levels, mixtures=2), math.prod(data.shape)
    encoder = nn.Sequential(nn.Flatten(), MLP([n_pixels, width, width, 2 * latent_dim], nn.SiLU))
    numbers = head.n_params * data.shape[0], *data.shape[1:]
    decoder = nn.Sequential(MLP([latent_dim, width, width, math.prod(numbers)], nn.SiLU), nn.Unflatten(1, numbers))
    return VAE(GaussianHead(encoder), LevelHead(decoder, head), StandardNormal(latent_dim))


def cube_flow(data):
    """Each pixel's histogram, then eight spline couplings on the cube."""
    counted = independent(data).fit(images.to_float(data.train.images))
    return Dequantised(coupling.cube_flow(counted.log_p[0], n_layers=6, hidden=(128,)), data.levels, images.dequantise)


RECIPES = {
    "independent": Recipe("independent pixels", independent, binary=False),
    "mixture": Recipe("class mixture of independent pixels", lambda data: independent(data, len(data.classes)),
                      labels=True, binary=False),
    "pixelcnn": Recipe("PixelCNN, mixture of 5 logistics", pixelcnn, 1_200, 4e-3, 32, betas=(0.9, 0.99), warm_up=100,
                       floor=0.01, clip_norm=50.0, weight_decay=0.3, binary=False),
    "vae": Recipe("VAE, 12 latents, mixtures of 2 logistics", level_vae, 2_500, 2e-3, 64, clip_norm=50.0,
                  weight_decay=0.3, binary=False),
    "flow": Recipe("flow: histograms, 6 spline couplings", cube_flow, 900, 3e-3, 64, clip_norm=50.0, weight_decay=0.3,
                   binary=False),
    "diffusion": Recipe("diffusion, logits beside the exact evidence",
                        lambda data: level_diffusion(data.shape, data.levels), 1_400, 4e-3, 32, betas=(0.9, 0.99),
                        warm_up=50, clip_norm=50.0, weight_decay=0.1, binary=False),
}  # fmt: skip


def class_of(name):
    """Whether the recipe's number is the probability itself, or a lower bound of it."""
    return "bound" if name in ("vae", "flow", "diffusion") else "exact"


def score(name, model, x, importance_samples=64):
    """Mean −log P in nats of images on the levels, and the one-draw bound where there is no exact number."""
    with torch.no_grad():
        if class_of(name) == "exact":
            return {"test_nats": -model.log_prob(x).mean().item(), "kind": "exact"}
        if name == "diffusion":                                      # its steps are drawn one in each part: unbiased
            bound = torch.stack([model.elbo(x, n_times=50 if importance_samples > 8 else 4).mean() for _ in range(4)])
            return {"test_nats": -bound.mean().item(), "kind": f"bound, T = {model.schedule.n_steps}"}
        bound = -torch.stack([model.elbo(x).mean() for _ in range(8)]).mean().item()
        parts = [model.importance_weighted_bound(part, importance_samples) for part in x.split(60)]
        return {"test_nats": -torch.cat(parts).mean().item(), "kind": f"bound, {importance_samples} draws",
                "test_one_draw_nats": bound}
