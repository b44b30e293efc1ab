"""Trains every autoregressive model on one binarised set; writes the table and the weights that chapter 02 shows.

    python -m course_utils.commands.bench.autoregressive --dataset mnist --data-dir data --only pixelcnn
"""

import datetime
import json
import math
import platform
import time
from dataclasses import dataclass

import click
import torch

from course_utils import shipped, training
from course_utils.data import images
from course_utils.distributions import Head
from course_utils.models.autoregressive.baselines import LogisticPixels, PixelHistograms
from course_utils.models.autoregressive.made import MADE, random_orders
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN
from course_utils.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from course_utils.models.autoregressive.transformer import PixelTransformer

COMMAND = "course_utils.commands.bench.autoregressive"

SHIPPED = ("pixelcnn", "conditional")  # whose weights come with the course


@dataclass(frozen=True)
class Recipe:
    """How one model of the table is trained. ``make(shape, n_classes)`` gives the model."""

    title: str
    make: object
    n_steps: int = 0
    lr: float = 3e-3
    batch_size: int = 16
    labels: bool = False


def four_orders(shape):
    return random_orders(4, math.prod(shape), torch.Generator().manual_seed(0))


RECIPES = {
    "independent": Recipe("independent pixels", lambda shape, k: PixelHistograms(shape)),
    "mixture": Recipe("class mixture", lambda shape, k: PixelHistograms(shape, n_classes=k)),
    "logistic": Recipe("logistic pixels (FVSBN)", lambda shape, k: LogisticPixels(shape), 4_000, 2e-3, 100),
    "made": Recipe("MADE", lambda shape, k: MADE(shape, hidden=(1000,)), 11_000, 1e-3, 128),
    "made_orders": Recipe("MADE, mixture of 4 random orders",
                          lambda shape, k: MADE(shape, hidden=(1000,), orders=four_orders(shape)), 2_500, 1e-3, 128),
    "rowlstm": Recipe("PixelRNN, Row LSTM", lambda shape, k: PixelRNN(shape, layer=RowLSTM), 2_500, 4e-3),
    "bilstm": Recipe("PixelRNN, Diagonal BiLSTM",
                     lambda shape, k: PixelRNN(shape, layer=DiagonalBiLSTM, width=24), 700, 4e-3),
    "pixelcnn": Recipe("PixelCNN", lambda shape, k: PixelCNN(shape), 6_500, 4e-3),
    "gated": Recipe("gated PixelCNN, small", lambda shape, k: GatedPixelCNN(shape, width=16), 2_000, 4e-3),
    "conditional": Recipe("gated PixelCNN given the class",
                          lambda shape, k: GatedPixelCNN(shape, width=16, n_classes=k), 2_000, 4e-3, labels=True),
    "transformer": Recipe("pixel transformer, small",
                          lambda shape, k: PixelTransformer(shape, width=32, n_heads=2, n_blocks=2), 1_400, 3e-3, 8),
}


def one_cycle(optimizer, n_steps, warm_up=100, floor=0.01):
    """Learning rate: up in ``warm_up`` steps, then down to ``floor`` times it along half a cosine."""
    def factor(step):
        return min(1, (step + 1) / max(1, warm_up)) * max(floor, 0.5 * (1 + math.cos(math.pi * step / n_steps)))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def clocks():
    """Seconds of all threads added up, and seconds on the wall."""
    return time.process_time(), time.perf_counter()


def since(start):
    """What a training that began at ``start`` took, as a row of a table tells it."""
    cpu, wall = (now - then for now, then in zip(clocks(), start, strict=True))
    return {"train_cpu_seconds": round(cpu, 1), "train_seconds": round(wall, 1)}


def train(recipe, data, device="cpu", seed=0, n_steps=None):
    """A trained model and what it took (``since``). Images are binarised anew at every use."""
    n_steps = n_steps or recipe.n_steps
    torch.manual_seed(seed)
    model = recipe.make(data.shape, len(data.classes)).to(device)
    start = clocks()
    if not recipe.n_steps:
        x = images.to_float(data.train.images)
        labels = data.train.labels if len(model.log_p) > 1 else None
        return model.fit(images.binarise(x), labels), since(start)
    batches = images.batches(data.train.images, recipe.batch_size, data.train.labels if recipe.labels else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), fused=True)

    def objective(batch):
        x, y = batch if recipe.labels else (batch, None)
        x = images.binarise(x)
        return model.loss((x, y) if recipe.labels else x)

    training.fit(objective, optimizer, batches, n_steps, description=recipe.title, clip_norm=50,
                 scheduler=one_cycle(optimizer, n_steps))
    return model, since(start)


def nll(model, split, labels=False):
    """Mean negative log-likelihood in nats of a binarised split."""
    with training.evaluating(model):
        parts = [model.log_prob(images.to_float(part.images), *([part.labels] if labels else []))
                 for part in (split[i : i + 200] for i in range(0, len(split), 200))]
    return -torch.cat(parts).mean().item()


def sampling_seconds(model, n=64, y=None):
    start = time.process_time()
    with training.evaluating(model):
        model.sample(n, y)
    return time.process_time() - start


def row_of(name, dataset, data, fixed, device="cpu", seed=0, n_steps=None):
    """Train one model of the table: the model, and its row."""
    recipe = RECIPES[name]
    model, took = train(recipe, data, device, seed, n_steps)
    y = torch.arange(64, device=device) % len(data.classes) if recipe.labels else None
    return model, {
        "name": name, "title": recipe.title,
        "test_nats": round(nll(model, fixed.test, recipe.labels), 3),
        "valid_nats": round(nll(model, fixed.valid, recipe.labels), 3),
        "parameters": sum(p.numel() for p in model.parameters()) or model.log_p.numel(),
        "n_steps": n_steps or recipe.n_steps, "batch_size": recipe.batch_size,
        **took, "sample_64_cpu_seconds": round(sampling_seconds(model, y=y), 2),
        "threads": torch.get_num_threads(), "device": str(device), "seed": seed, "torch": torch.__version__,
        "processor": platform.machine(), "date": datetime.date.today().isoformat(),
        "command": f"python -m {COMMAND} --dataset {dataset} --only {name} --seed {seed}"
        + (f" --steps {n_steps}" if n_steps else "") + (f" --device {device}" if str(device) != "cpu" else ""),
    }  # fmt: skip


def benchmark(setting):
    """Test nats of the models that the course promises numbers for; all models at the full budget."""
    data = images.load(setting.dataset, seed=setting.seed, data_dir=setting.data_dir).to(setting.device)
    fixed = images.binarised(data, seed=0)
    promised = ("independent", "mixture", "logistic", "made", "rowlstm", "pixelcnn")
    names = RECIPES if setting.budget == "full" else promised
    for name in names:
        n_steps = 20 if setting.budget == "smoke" and RECIPES[name].n_steps else None
        _, row = row_of(name, setting.dataset, data, fixed, setting.device, setting.seed, n_steps)
        columns = ("title", "test_nats", "parameters", "n_steps", "train_cpu_seconds", "train_seconds",
                   "sample_64_cpu_seconds")
        yield {column: row[column] for column in columns}


def small_digits(setting):
    """The 8x8 digits of scikit-learn with all their 17 grey levels: nats that compare with other families."""
    data = images.load("digits", seed=setting.seed)
    train_x, test_x = (images.to_levels(split.images, 17).float() / 16 for split in (data.train, data.test))
    torch.manual_seed(setting.seed)
    model = PixelCNN(data.shape, n_blocks=3, first=5, head=Head(levels=17, mixtures=5))
    n_steps = 20 if setting.budget == "smoke" else 1_200
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.99), weight_decay=0.3)
    start = time.process_time()
    training.fit(model.loss, optimizer, images.batches(train_x, 32), n_steps, description="PixelCNN, 17 levels",
                 clip_norm=50, scheduler=one_cycle(optimizer, n_steps))
    seconds = time.process_time() - start
    with training.evaluating(model):
        yield {"model": "PixelCNN, mixture of 5 logistics", "test nats": -model.log_prob(test_x).mean().item(),
               "train nats": -model.log_prob(train_x).mean().item(), "n_steps": n_steps,
               "CPU seconds": seconds}  # fmt: skip


def sampling_speed(setting):
    """Naive sampling (one timed pass, times the number of pixels) against cached sampling, 28x28."""
    shape, steps = (1, 28, 28), 1 if setting.budget == "smoke" else 3
    for model in (PixelCNN(shape), GatedPixelCNN(shape), PixelTransformer(shape)):
        model.to(setting.device)
        for n in (64, 1):
            x = torch.rand(n, *shape, device=setting.device).round()
            with training.evaluating(model):
                naive = 28 * 28 * min(timed(lambda m=model, x=x: m.params(x)) for _ in range(steps))
                cached = min(timed(lambda m=model, n=n: m.sample(n)) for _ in range(steps))
            yield {"model": type(model).__name__, "batch": n, "naive s": naive, "cached s": cached,
                   "times faster": naive / cached}  # fmt: skip


def timed(work):
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@click.command()
@click.option("--dataset", default="mnist")
@click.option("--data-dir", default="")
@click.option("--only", multiple=True, type=click.Choice(list(RECIPES)), help="models to train; others keep their rows")
@click.option("--device", default="cpu")
@click.option("--seed", default=0)
@click.option("--steps", type=int, help="other than the recipe's number of steps")
def main(dataset, data_dir, only, device, seed, steps):
    """Train the autoregressive models; write their table and weights into data/pretrained."""
    data = images.load(dataset, seed=seed, data_dir=data_dir).to(device)
    fixed = images.binarised(data, seed=0)                           # validation and test: one draw, once and for all
    path = shipped.folder() / f"autoregressive_{dataset}.json"
    for name in only or RECIPES:
        model, row = row_of(name, dataset, data, fixed, device, seed, steps)
        print(json.dumps(row), flush=True)
        table = json.loads(path.read_text()) if path.exists() else {"dataset": dataset, "rows": []}
        rows = {r["name"]: r for r in table["rows"]} | {name: row}
        table["rows"] = [rows[n] for n in RECIPES if n in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(table, indent=1) + "\n")
        if name in SHIPPED:
            training.save_weights(path.parent / f"{name}_{dataset}.safetensors", model, row, torch.float16)


if __name__ == "__main__":
    main()
