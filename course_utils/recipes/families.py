"""All families on one table: how each is trained when every one gets the same seconds of a processor.

``FAMILIES`` holds a row for each: what it is, how it is trained in ``n_steps``, and how it draws. The numbers of steps
were fixed by a pilot so that single-thread processor seconds agree; ``course bench families`` trains at these numbers
and shows both. Conditional families are told the label and stand in a table of their own.  Taught in chapter 09.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from course_utils import training
from course_utils.data import images
from course_utils.distributions import Head
from course_utils.models import autoencoder
from course_utils.models.autoregressive.pixelcnn import PixelCNN
from course_utils.models.diffusion import flow_matching, process, samplers, schedule
from course_utils.models.flow import coupling
from course_utils.models.flow.flow import Dequantised
from course_utils.models.gan import model as gan
from course_utils.recipes import digits, latent
from course_utils.recipes.recipe import Recipe
from course_utils.recipes.recipe import train as train_recipe


@dataclass(frozen=True)
class Family:
    """One row. ``train(data, n_steps)`` gives a model; ``draw(model, n, y)`` gives images ``(n, C, H, W)`` in [0, 1].

    ``n_steps``: updates that cost what every row may cost; 0 for what is fitted by counting, or copied.
    ``told``: whether labels are given, in training and in drawing.  ``digits17``: the row of the digits with 17 levels
    that has this family's likelihood, if it has one.
    """

    title: str
    train: Callable
    draw: Callable
    n_steps: int = 0
    told: bool = False
    digits17: str = ""


# How to train ---------------------------------------------------------------------------------------------------------


def by_recipe(recipe, levels=None):
    """``train`` of a family whose training is one :class:`Recipe`. It goes on from torch's random state.

    ``levels``: pixels are rounded to that many grey values first, for models of discrete pixels.
    """
    def train(data, n_steps):
        data = images.quantised(data, levels) if levels else data
        seed = int(torch.randint(2**31, ()))
        return train_recipe(recipe, data, device=data.train.images.device, seed=seed, n_steps=n_steps)

    return train


def descend(model, batches, n_steps, lr, description, clip_norm=None):
    """AdamW along half a cosine; the running average of the weights, half-life a twelfth of the training."""
    average = training.ema_of(model, half_life=max(1, n_steps / 12))
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    training.fit(model.loss, optimizer, batches, n_steps, description=description, ema=average, clip_norm=clip_norm,
                 scheduler=training.cosine(optimizer, n_steps))
    return average.module


def train_gan(data, n_steps, told=False):
    """The DCGAN of chapter 05: non-saturating, R1 on a quarter of each batch, averaged generator."""
    model = gan.dcgan(data.shape, width=16, critic_width=16, n_classes=len(data.classes) if told else None,
                      penalty=gan.penalised(0.5, share=0.25))
    model = model.to(data.train.images.device, memory_format=torch.channels_last)
    average = training.ema_of(model, half_life=min(150, n_steps / 10), buffers=True)
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.99)) for net in (model.critic, model.generator)]
    batches = images.batches(data.train.images, 32, data.train.labels if told else None)
    training.adversarial_fit(model.critic_loss, model.generator_loss, *optimizers, batches, n_steps,
                             description="GAN", ema=average)
    return average.module


def train_diffusion(data, n_steps):
    """The U-Net on pixels of chapter 07."""
    model = process.unet_diffusion(data.shape).to(data.train.images.device)
    return descend(model, images.batches(data.train.images, 32), n_steps, 3e-3, "diffusion", clip_norm=5.0)


def train_latent(data, n_steps, told=False):
    """Chapter 07's autoencoder for a quarter of the steps, then flow matching on its codes for the others."""
    x, n_codes = images.to_float(data.train.images), max(1, n_steps // 4)
    ae = autoencoder.mlp_autoencoder(data.shape, (512, 512), 32, activation=nn.SiLU, mean_image=x.mean(0),
                                     latent_noise=0.1, penalty=autoencoder.small_codes(0.05),
                                     error=autoencoder.cross_entropy).to(x.device)
    optimizer = torch.optim.Adam(ae.parameters(), 2e-3)
    training.fit(ae.loss, optimizer, images.batches(data.train.images, 100), n_codes, description="autoencoder",
                 scheduler=training.cosine(optimizer, n_codes))
    with training.evaluating(ae):
        codes = torch.cat([ae.encoder(part) for part in x.split(1_000)])
    flow = flow_matching.vector_flow(32, 256, 3, len(data.classes) if told else 0, codes.mean(0), codes.std(0))
    batches = images.batches(codes, 128, data.train.labels if told else None)
    flow = descend(flow.to(x.device), batches, max(1, n_steps - n_codes), 2e-3, "flow on codes")
    return flow_matching.Latent(ae.encoder, ae.decoder, flow)


class Copyist(nn.Module):
    """Draws from images that it keeps, ``(N, C, H, W)`` in [0, 1], with their labels: a memoriser, or one a class."""

    def __init__(self, x, y):
        super().__init__()
        self.register_buffer("x", x)
        self.register_buffer("y", y)

    def sample(self, n, y=None):
        """``n`` of the images, each as often as the others; with labels ``y (n,)``, images of these classes."""
        if y is None:
            return self.x[torch.randint(len(self.x), (n,))]
        order = torch.stack([torch.where(self.y == label, torch.rand(len(self.y)), -1.0).argmax() for label in y])
        return self.x[order]


def copy_all(data, n_steps):
    """The training set itself."""
    return Copyist(images.to_float(data.train.images), data.train.labels)


def copy_one_of_each(data, n_steps):
    """The first training image of each class."""
    first = torch.stack([(data.train.labels == k).nonzero()[0, 0] for k in range(len(data.classes))])
    return Copyist(images.to_float(data.train.images[first]), data.train.labels[first])


# How to draw ----------------------------------------------------------------------------------------------------------


def drawn(model, n, y=None, part=250):
    """``model.sample`` in parts, clipped to [0, 1]."""
    with training.evaluating(model):
        parts = [model.sample(min(part, n - k), *(() if y is None else (y[k : k + part],))) for k in range(0, n, part)]
    return torch.cat(parts).clamp(0, 1)


def mean_pixels(model, n, y=None):
    """A VAE's usual picture: the *mean* of the decoder, without the noise of its pixels."""
    with training.evaluating(model):
        return model.decoder(model.prior().sample((n,))).mean


def twelve_calls(model, n, y=None, part=250):
    """Diffusion by DPM-Solver++ with twelve calls of the network, the guess clipped to the range of pixels."""
    times = schedule.trailing_steps(model.schedule.n_steps, 12)
    with training.evaluating(model):
        parts = [samplers.final(samplers.dpm_solver(
            samplers.clipped(model.denoise), torch.randn(min(part, n - k), *model.shape, device=model.centre.device),
            model.schedule, times)) for k in range(0, n, part)]  # fmt: skip
    return model.outside(torch.cat(parts)).clamp(0, 1)


def twenty_calls(model, n, y=None):
    """Codes by Heun's rule with twenty calls of the network, decoded."""
    with training.evaluating(model):
        return model.sample(n, y, n_steps=10).clamp(0, 1)


# The recipes ----------------------------------------------------------------------------------------------------------


def grey_pixelcnn(data, told=False):
    """Chapter 02's network for grey pixels: a mixture of five discretised logistics for each."""
    return PixelCNN(data.shape, n_blocks=4, width=24, head=Head(levels=data.levels, mixtures=5),
                    n_classes=len(data.classes) if told else 0)


def cube_flow(data):
    """Chapter 06's flow: each pixel's histogram, then four spline couplings."""
    counted = digits.independent(data).fit(images.to_float(data.train.images))
    return Dequantised(coupling.cube_flow(counted.log_p[0], n_layers=4, hidden=(128,), n_bins=4), data.levels,
                       images.dequantise)


LEVELS = digits.LEVELS  # grey values for models of discrete pixels
_pixelcnn = partial(Recipe, n_steps=1, lr=4e-3, batch_size=16, betas=(0.9, 0.99), warm_up=100, floor=0.01,
                    clip_norm=50.0, binary=False)
PIXELCNN = _pixelcnn("PixelCNN on grey pixels", grey_pixelcnn)
PIXELCNN_TOLD = _pixelcnn("PixelCNN given the class", partial(grey_pixelcnn, told=True), labels=True)
FLOW = Recipe("flow on the cube", cube_flow, 1, 3e-3, 32, clip_norm=50.0, binary=False)
VAE = latent.RECIPES["vae_784_400_20_silu"]

FAMILIES = {
    "independent": Family("independent pixels", by_recipe(digits.RECIPES["independent"], LEVELS), drawn,
                          digits17="independent"),
    "mixture": Family("class mixture of independent pixels", by_recipe(digits.RECIPES["mixture"], LEVELS), drawn,
                      digits17="mixture"),
    "copies": Family("the training set itself", copy_all, drawn),
    "one_each": Family("one image a class", copy_one_of_each, drawn),
    "autoregressive": Family("autoregressive: PixelCNN", by_recipe(PIXELCNN, LEVELS), drawn, 200, digits17="pixelcnn"),
    "vae": Family("VAE, mean pixels", by_recipe(VAE), mean_pixels, 850, digits17="vae"),
    "gan": Family("GAN: DCGAN with R1", train_gan, drawn, 400),
    "flow": Family("flow: spline couplings", by_recipe(FLOW, LEVELS), drawn, 150, digits17="flow"),
    "diffusion": Family("diffusion in pixels: U-Net", train_diffusion, twelve_calls, 205, digits17="diffusion"),
    "latent": Family("flow matching on codes", train_latent, twenty_calls, 450),
}  # fmt: skip
CONDITIONAL = {
    "mixture_told": Family("independent pixels given the class", by_recipe(digits.RECIPES["mixture"], LEVELS), drawn,
                           told=True),
    "copies_told": Family("the training set itself", copy_all, drawn, told=True),
    "one_each_told": Family("one image a class", copy_one_of_each, drawn, told=True),
    "autoregressive_told": Family("PixelCNN given the class", by_recipe(PIXELCNN_TOLD, LEVELS), drawn, 195, told=True),
    "gan_told": Family("conditional GAN", partial(train_gan, told=True), drawn, 380, told=True),
    "latent_told": Family("flow matching on codes, given the class", partial(train_latent, told=True), twenty_calls,
                          440, told=True),
}  # fmt: skip
ALL = FAMILIES | CONDITIONAL


def train(name, data, *, seed=0, n_steps=None):
    """The model of that row, trained for ``n_steps`` (None: its own). Seeds torch."""
    torch.manual_seed(seed)
    return ALL[name].train(data, n_steps or ALL[name].n_steps)


def sample(name, model, data, n, seed=0):
    """``n`` images ``(n, C, H, W)`` and, for a conditional row, the labels asked for ``(n,)``. Seeds torch."""
    torch.manual_seed(seed)
    y = torch.arange(n, device=data.train.labels.device) % len(data.classes) if ALL[name].told else None
    return ALL[name].draw(model, n, y), y
