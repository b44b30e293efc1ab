"""The table of chapters 03 and 04: autoencoders and VAEs, bounds, squared errors and probes."""

import math

import torch

from course_utils import metrics, training
from course_utils.commands.bench.tables import Table
from course_utils.data import images
from course_utils.models import autoencoder, vqvae
from course_utils.models.autoregressive.pixelcnn import PixelCNN
from course_utils.recipes.latent import N_WORDS, RECIPES


def bounds(model, data, brief=False):
    """Mean -ELBO and mean importance-weighted -log p of the test images, in nats."""
    x = images.to_float(images.binarised(data, seed=0).test.images)              # one draw, once and for all
    x, k = (x[:100], 10) if brief else (x, 200)
    with training.evaluating(model):
        elbo = torch.cat([model.elbo(part) for part in x.split(500)]).mean()
        tight = torch.cat([model.importance_weighted_bound(part, k) for part in x.split(20)]).mean()
    return {"test_neg_elbo": -elbo.item(), "test_nll": -tight.item(), "importance_samples": k}


def pixel_error(model, data, brief=False):
    """Squared error per pixel on grey test images."""
    x = images.to_float(data.test.images[: 100 if brief else None])
    with training.evaluating(model):
        error = torch.cat([autoencoder.squared_error(part, model(part)) for part in x.split(500)]).mean()
    return {"test_mse_per_pixel": error.item() / math.prod(data.shape)}


def probe(model, data, brief=False):
    """Accuracy of a linear classifier on the hidden units, trained on all training images."""
    n = 300 if brief else None
    with training.evaluating(model):
        codes = [torch.cat([model.encoder(images.to_float(part)) for part in split.images[:n].split(2_000)])
                 for split in (data.train, data.test)]  # fmt: skip
    accuracy = metrics.linear_probe(codes[0], data.train.labels[:n], codes[1], data.test.labels[:n])
    return {"test_probe_accuracy": accuracy, "mean_activity": codes[1].mean().item(), **pixel_error(model, data, brief)}


def words(model, data, brief=False):
    """Bound of a VQ-VAE with a PixelCNN over its words, trained here, in nats."""
    n_steps = 20 if brief else 6_000
    fixed = images.binarised(data, seed=0)
    with training.evaluating(model):
        codes = torch.cat([model.encode(part)[0] for part in images.to_float(fixed.train.images).split(500)])
    pixelcnn = PixelCNN(vqvae.WordsAsBits.image_shape(N_WORDS, codes.shape[1:]), width=48, n_blocks=3, first=5)
    prior = vqvae.WordsAsBits(pixelcnn, N_WORDS).to(codes.device)
    optimizer = torch.optim.Adam(prior.parameters(), lr=4e-3)
    batches = iter(lambda: (codes[torch.randint(len(codes), (64,), device=codes.device)],), None)
    training.fit(prior.loss, optimizer, batches, n_steps, description="prior over words",
                 scheduler=training.cosine(optimizer, n_steps))
    joint = vqvae.WithPrior(model, prior)
    with training.evaluating(joint):
        bound = torch.cat([joint.elbo(part) for part in images.to_float(fixed.test.images).split(500)]).mean()
    used = vqvae.perplexity(codes, N_WORDS).item()
    return {"test_neg_elbo": -bound.item(), "words_in_use": used, "prior_steps": n_steps}


MEASURES = {
    "vae_784_400_2": bounds, "vae_784_400_2_centred": bounds, "vae_784_400_20_silu": bounds,
    "ae_784_400_2": pixel_error, "ae_784_400_32": pixel_error, "sparse": probe, "contractive": probe, "vqvae": words,
}  # fmt: skip


def measure(name, model, data, brief=False):
    """The numbers of one row; ``brief``: from a few images and steps, to see that it runs."""
    return MEASURES[name](model, data, brief)


TABLE = Table(
    "latent", RECIPES, measure,
    columns=("title", "test_neg_elbo", "test_nll", "test_mse_per_pixel", "test_probe_accuracy", "mean_activity",
             "words_in_use", "n_steps", "train_cpu_seconds", "train_seconds"),
    parts=("encoder", "decoder"), ships_on=("handwriting",),
)  # fmt: skip
