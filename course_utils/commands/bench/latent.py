"""Trains the autoencoders and VAEs of chapters 03 and 04; writes their table and the weights that the chapters show.

    python -m course_utils.commands.bench.latent --dataset mnist --data-dir data --only vae_784_400_20_silu
"""

import datetime
import json
import math
import platform
from dataclasses import dataclass
from functools import partial

import click
import torch
from torch import nn

from course_utils import metrics, shipped, training
from course_utils.commands.bench.autoregressive import clocks, one_cycle, since
from course_utils.data import images
from course_utils.models import autoencoder, vae, vqvae
from course_utils.models.autoregressive.pixelcnn import PixelCNN

COMMAND = "course_utils.commands.bench.latent"
N_WORDS = 16


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. ``make(data)`` gives the model, ``measure(model, data)`` a dict of test numbers.

    ``measure(model, data, brief=True)`` gives the same from a few images and steps, to see that it runs.
    """

    title: str
    make: object
    measure: object
    n_steps: int
    lr: float
    batch_size: int = 100
    binary: bool = True
    ships: bool = False
    objective: object = None  # model -> what is minimised, when it is not the model's own loss
    betas: tuple = (0.9, 0.999)
    warm_up: int = 0  # steps of a learning rate that grows


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
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    batches = iter(lambda: (codes[torch.randint(len(codes), (64,), device=codes.device)],), None)
    training.fit(prior.loss, optimizer, batches, n_steps, description="prior over words", scheduler=schedule)
    joint = vqvae.WithPrior(model, prior)
    with training.evaluating(joint):
        bound = torch.cat([joint.elbo(part) for part in images.to_float(fixed.test.images).split(500)]).mean()
    used = vqvae.perplexity(codes, N_WORDS).item()
    return {"test_neg_elbo": -bound.item(), "words_in_use": used, "prior_steps": n_steps}


def small_ae(data, latent_dim):
    return autoencoder.mlp_autoencoder(data.shape, hidden_dims=(400,), latent_dim=latent_dim)


def small_vae(data, latent_dim, centred=True, activation=nn.ReLU):
    mean_image = images.to_float(data.train.images).mean(0) if centred else None
    return vae.mlp_vae(data.shape, (400,), latent_dim, activation=activation, mean_image=mean_image)


def sigmoid(data, penalty, tied=False):
    return autoencoder.one_layer_autoencoder(data.shape, n_hidden=1_024, penalty=penalty, tied=tied)


RECIPES = {
    "vae_784_400_2": Recipe(
        "VAE 784-400-2", partial(small_vae, latent_dim=2, centred=False), bounds, 22_000, 2e-3, ships=True),
    "vae_784_400_2_centred": Recipe(
        "VAE 784-400-2 from the mean image", partial(small_vae, latent_dim=2), bounds, 32_000, 3e-3),
    "vae_784_400_20_silu": Recipe(
        "VAE 784-400-20, SiLU, from the mean image", partial(small_vae, latent_dim=20, activation=nn.SiLU),
        bounds, 34_000, 4e-3, 128, betas=(0.95, 0.99), warm_up=300),
    "ae_784_400_2": Recipe(
        "autoencoder 784-400-2", partial(small_ae, latent_dim=2), pixel_error, 10_000, 2e-3, binary=False, ships=True),
    "ae_784_400_32": Recipe(
        "autoencoder 784-400-32", partial(small_ae, latent_dim=32), pixel_error, 16_000, 2e-3, binary=False),
    "sparse": Recipe(
        "sparse autoencoder, 1024 units", partial(sigmoid, penalty=autoencoder.sparse_kl(0.5, 0.05)),
        probe, 4_000, 2e-3, binary=False),
    "contractive": Recipe(
        "contractive autoencoder, 1024 units", partial(sigmoid, penalty=autoencoder.contract_sigmoid(2.0), tied=True),
        probe, 4_000, 2e-3, binary=False),
    "vqvae": Recipe(
        "VQ-VAE with a PixelCNN over 7×7 words", lambda data: vqvae.conv_vqvae(data.shape, N_WORDS, width=24),
        words, 4_000, 3e-3, 64, objective=vqvae.with_averaging),
}  # fmt: skip


def train(recipe, data, device="cpu", seed=0, n_steps=None):
    """A trained model and what it took (``since``). Binary models see a new draw every time."""
    n_steps = n_steps or recipe.n_steps
    torch.manual_seed(seed)
    model = recipe.make(data).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=recipe.betas, fused=True)
    schedule = one_cycle(optimizer, n_steps, recipe.warm_up, floor=0.0)
    batches = images.batches(data.train.images, recipe.batch_size)
    batches = map(images.binarise, batches) if recipe.binary else batches
    start = clocks()
    objective = recipe.objective(model) if recipe.objective else model.loss
    training.fit(objective, optimizer, batches, n_steps, description=recipe.title, scheduler=schedule)
    return model, since(start)


def benchmark(setting):
    """Bounds, squared errors and probes of the autoencoders and VAEs that the course promises numbers for."""
    data = images.load(setting.dataset, seed=setting.seed, data_dir=setting.data_dir).to(setting.device)
    for recipe in RECIPES.values():
        brief = setting.budget == "smoke"
        n_steps = 20 if brief else recipe.n_steps
        model, took = train(recipe, data, setting.device, setting.seed, n_steps)
        yield {"title": recipe.title, **recipe.measure(model, data, brief), "n_steps": n_steps, **took}


@click.command()
@click.option("--dataset", default="handwriting")
@click.option("--data-dir", default="")
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="models to train; others keep their rows")
@click.option("--device", default="cpu")
@click.option("--seed", default=0)
@click.option("--steps", type=int, help="other than the recipe's number of steps")
def main(dataset, data_dir, only, device, seed, steps):
    """Train autoencoders and VAEs; write their table, and on handwriting the weights, into data/pretrained."""
    data = images.load(dataset, seed=seed, data_dir=data_dir).to(device)
    path = shipped.folder() / f"latent_{dataset}.json"
    for name in only or RECIPES:
        recipe = RECIPES[name]
        model, took = train(recipe, data, device, seed, steps)
        row = {
            "name": name, "title": recipe.title, **{k: round(v, 4) for k, v in recipe.measure(model, data).items()},
            "parameters": sum(p.numel() for p in model.parameters()), "n_steps": steps or recipe.n_steps,
            "batch_size": recipe.batch_size, "lr": recipe.lr, **took,
            "threads": torch.get_num_threads(), "device": str(device), "seed": seed, "dataset": dataset,
            "torch": torch.__version__, "processor": platform.machine(), "date": datetime.date.today().isoformat(),
            "command": f"python -m {COMMAND} --dataset {dataset} --only {name} --seed {seed}"
            + (f" --steps {steps}" if steps else "") + (f" --device {device}" if device != "cpu" else ""),
        }  # fmt: skip
        print(json.dumps(row), flush=True)
        table = json.loads(path.read_text()) if path.exists() else {"dataset": dataset, "rows": []}
        rows = {r["name"]: r for r in table["rows"]} | {name: row}
        table["rows"] = [rows[n] for n in RECIPES if n in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table, indent=1) + "\n")
        if recipe.ships and dataset == "handwriting":
            for part in ("encoder", "decoder"):
                file = path.parent / f"{name}_{part}.safetensors"
                training.save_weights(file, getattr(model, part), row, torch.float16)


if __name__ == "__main__":
    main()
