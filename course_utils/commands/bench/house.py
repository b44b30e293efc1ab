"""How fast the house itself is: drawing data, the training loop, and one step of each kind of model."""

import itertools

import torch
from torch import nn

from course_utils import training
from course_utils.commands.bench.bench import seconds
from course_utils.data import handwriting as hand
from course_utils.data import images
from course_utils.models import autoencoder, classifier, vae
from course_utils.models.autoregressive.made import MADE
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN


def handwriting(setting):
    """Seconds to draw images; 10,000 digits of 28×28 should take at most 3 on two cores."""
    n = 1_000 if setting.budget == "smoke" else 10_000
    kinds = {"28×28": {}, "8×8": {"size": 8}, "28×28 colour": {"rgb": True}, "64×64": {"size": 64}}
    for title, options in kinds.items():
        taken = seconds(1, draw=lambda options=options: hand.sample(n, seed=setting.seed, **options))["draw"]
        yield {"digits": title, "n": n, "seconds": taken, "images/s": n / taken}


def loop(setting):
    """What the loop adds to a bare one, on a network so small that the loop shows."""
    n_steps = 200 if setting.budget == "smoke" else 1_000
    model, x = nn.Linear(64, 10).to(setting.device), torch.randn(64, 64, device=setting.device)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)

    def objective(batch):
        return model(batch).square().mean()

    def bare():
        for _ in range(n_steps):
            optimizer.zero_grad()
            objective(x).backward()
            optimizer.step()

    def steps():
        for _ in training.steps(objective, optimizer, itertools.repeat(x), n_steps):
            pass

    def fit():
        training.fit(objective, optimizer, itertools.repeat(x), n_steps)

    taken = seconds(bare=bare, steps=steps, fit=fit)
    for name, t in taken.items():
        yield {"loop": name, "µs a step": 1e6 * t / n_steps, "against bare": t / taken["bare"]}


def steps_per_second(setting):
    """Training steps a second of each kind of model, batches of 64 images of 28×28 as the chapters take them."""
    n_steps = 3 if setting.budget == "smoke" else 20
    drawn = hand.sample(2_000, seed=setting.seed)
    x, y = drawn.images.to(setting.device), drawn.labels.to(setting.device)
    shape = x.shape[1:]
    for title, model, labelled in [
        ("logistic regression", classifier.logistic_regression(), True),
        ("small CNN", classifier.small_cnn(), True),
        ("autoencoder, 32 latents", autoencoder.mlp_autoencoder(shape), False),
        ("VAE 784-400-2", vae.vae_784_400_2(), False),
        ("VAE, convolutional", vae.conv_vae(shape), False),
        ("MADE, 1,000 hidden", MADE(shape, hidden=(1_000,)), False),
        ("PixelCNN", PixelCNN(shape), False),
        ("gated PixelCNN", GatedPixelCNN(shape), False),
    ]:
        model.to(setting.device)
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        batches = images.batches(x, 64, y if labelled else None)
        binary = batches if labelled else map(images.binarise, batches)

        def run(model=model, optimizer=optimizer, batches=binary):
            for _ in training.steps(model.loss, optimizer, batches, n_steps):
                pass

        taken = seconds(3, run=run)["run"]
        yield {"model": title, "parameters": sum(weight.numel() for weight in model.parameters()),
               "ms a step": 1e3 * taken / n_steps, "steps/s": n_steps / taken}
