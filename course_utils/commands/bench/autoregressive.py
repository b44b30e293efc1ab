"""The autoregressive models of chapter 02: their table, and how fast they draw."""

import time

import torch

from course_utils import training
from course_utils.commands.bench.tables import Table
from course_utils.data import images
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN
from course_utils.models.autoregressive.transformer import PixelTransformer
from course_utils.recipes.autoregressive import RECIPES


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


def measure(name, model, data, brief=False):
    """Test and validation nats of one fixed binarisation, and seconds to draw 64 images."""
    recipe, fixed = RECIPES[name], images.binarised(data, seed=0)    # one draw, once and for all
    test, valid = (split[:100] if brief else split for split in (fixed.test, fixed.valid))
    given = recipe.labels and recipe.n_steps > 0                     # the class mixture sums over the labels itself
    y = torch.arange(64, device=data.train.labels.device) % len(data.classes) if given else None
    return {"test_nats": nll(model, test, given), "valid_nats": nll(model, valid, given),
            "sample_64_cpu_seconds": round(sampling_seconds(model, y=y), 2)}


TABLE = Table(
    "autoregressive", RECIPES, measure,
    columns=("title", "test_nats", "parameters", "n_steps", "train_cpu_seconds", "train_seconds",
             "sample_64_cpu_seconds"),
    promised=("independent", "mixture", "logistic", "made", "rowlstm", "pixelcnn"),
)  # fmt: skip


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
