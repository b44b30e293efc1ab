"""Trains the GANs of chapter 05: the feature networks, the table of losses, and speed. ``course bench gan``.

    python -m course_utils.commands.bench.gan --dataset mnist --data-dir data --only features
"""

import datetime
import json
import platform

import click
import torch

from course_utils import metrics, shipped, training
from course_utils.commands.bench.autoregressive import clocks, since
from course_utils.data import images
from course_utils.models import classifier

COMMAND = "course_utils.commands.bench.gan"


def train_features(data, device="cpu", seed=0, n_steps=4_000):
    """The feature network of a data set and a dict of what it reached."""
    torch.manual_seed(seed)
    model = classifier.feature_network(data.shape[0], len(data.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=n_steps)
    start = clocks()
    training.fit(model.loss, optimizer, images.batches(data.train.images, 64, data.train.labels), n_steps,
                 description="feature network", scheduler=schedule)
    with training.evaluating(model):
        logits = torch.cat([model(images.to_float(part)).logits for part in data.test.images.split(1_000)])
    return model, {"test_accuracy": metrics.accuracy(logits, data.test.labels), "n_steps": n_steps, **since(start)}


def ship_features(dataset, data_dir="", device="cpu", seed=0):
    """Train the feature network on a data set and write it into data/pretrained."""
    n = 40_000 if dataset == "handwriting" else None
    model, found = train_features(images.load(dataset, n=n, seed=seed + 17, data_dir=data_dir).to(device), device, seed)
    row = found | origin(dataset, "features", seed, device) | {"n_train": n or "all"}
    training.save_weights(shipped.folder() / f"features_{dataset}.safetensors", model, row, torch.float16)
    return row


def origin(dataset, name, seed, device):
    """How a shipped result was made."""
    return {"command": f"python -m {COMMAND} --dataset {dataset} --only {name} --seed {seed}", "seed": seed,
            "dataset": dataset, "device": str(device), "torch": torch.__version__, "processor": platform.machine(),
            "threads": torch.get_num_threads(), "date": datetime.date.today().isoformat()}  # fmt: skip


JOBS = {"features": ship_features}


@click.command()
@click.option("--dataset", default="handwriting")
@click.option("--data-dir", default="")
@click.option("--only", multiple=True, type=click.Choice(list(JOBS)))
@click.option("--device", default="cpu")
@click.option("--seed", default=0)
def main(dataset, data_dir, only, device, seed):
    """Make what chapter 05 ships, into data/pretrained."""
    for name in only or JOBS:
        print(json.dumps(JOBS[name](dataset, data_dir, device, seed)), flush=True)


if __name__ == "__main__":
    main()
