"""All families on one table, for chapter 09: ``course bench families``, and what a step of each costs.

Three seeds a row, from ``--seed`` on; each seed draws its own data. ``--ship`` writes the rows into
``data/pretrained/families_DATASET.json``. ``--only factors`` trains the reader of factors that judges them.
"""

import ctypes
import gc
import time
from dataclasses import replace
from pathlib import Path

import torch

from course_utils import shipped, training
from course_utils.commands.bench.bench import seconds
from course_utils.commands.bench.tables import clocks, keep, made_by, rounded, since, size
from course_utils.data import images
from course_utils.recipes import families
from course_utils.recipes.judge import FACTORS, FactorReader, Judge

N_SEEDS, KEY = 3, ("name", "seed", "n_steps")  # KEY: what tells rows of the table apart


class Peak:
    """The largest memory of this process inside a ``with``, in MB above what it had before; None where unknown."""

    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __enter__(self):
        gc.collect()
        try:
            ctypes.CDLL(None).malloc_trim(0)                         # give back what earlier rows left behind
            self.reset.write_text("5")                               # Linux: the high-water mark starts anew
            self.before = self.read("VmRSS")
        except (OSError, AttributeError):
            self.before = None
        return self

    def __exit__(self, *_):
        self.megabytes = None if self.before is None else round(self.read("VmHWM") - self.before, 1)

    def read(self, name):
        (line,) = (line for line in self.status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) / 1_024


def measured(name, data, judge, seed, n_steps):
    """Train one row, draw from it, judge what it drew: the numbers, and the images."""
    family = families.ALL[name]
    with Peak() as peak:
        start = clocks()
        model = families.train(name, data, seed=seed, n_steps=n_steps)
        took = since(start)
    start = time.process_time()
    x, y = families.sample(name, model, data, judge.n, seed)
    drawing = 1_000 * (time.process_time() - start) / judge.n
    row = judge(x)
    if family.told:
        row |= {"obeyed": judge.obeyed(x, y), "accuracy_score": judge.accuracy_score(x, y)}
    row |= {"floor_frechet": judge.floors["frechet"][0], "floor_frechet_spread": judge.floors["frechet"][1],
            "floor_kernel": judge.floors["kernel"][0], "floor_kernel_spread": judge.floors["kernel"][1]}
    return {**rounded(row), "n": judge.n, "parameters": size(model), "n_steps": n_steps, **took,
            "sampling_cpu_seconds_per_1000": round(drawing, 3), "peak_mb": peak.megabytes}, x


class FamiliesTable:
    """``course bench families``: every family at its number of steps (full: ten times as many), three seeds."""

    recipes = dict.fromkeys((*families.ALL, "factors"))

    def __call__(self, setting):
        brief = setting.budget == "smoke"
        if setting.only == ("factors",):
            yield self.factors(setting, brief)
            return
        n_seeds = 1 if brief or setting.only else N_SEEDS
        for seed in range(setting.seed, setting.seed + n_seeds):
            data = images.load(setting.dataset, n=500 if brief else None, seed=seed,
                               data_dir=setting.data_dir).to(setting.device)
            judge = Judge(data, n=200 if brief else 1_000, seed=seed, n_copying=100 if brief else 500)
            for name in setting.only or families.ALL:
                n_steps = families.ALL[name].n_steps * (10 if setting.budget == "full" else 1)
                n_steps = min(12, n_steps) if brief else setting.steps or n_steps
                row, _ = measured(name, data, judge, seed, n_steps)
                row = {"name": name, "title": families.ALL[name].title, "told": families.ALL[name].told, **row,
                       **made_by("families", name, replace(setting, seed=seed))}  # fmt: skip
                if setting.ship:
                    keep(f"families_{row['dataset']}.json", row, families.ALL, KEY, dataset=row["dataset"])
                yield {column: row[column] for column in (
                    "name", "seed", "frechet", "kernel", "density", "coverage", "copying", "sharpness", "factors",
                    "obeyed", "accuracy_score", "train_cpu_seconds", "sampling_cpu_seconds_per_1000", "peak_mb",
                ) if column in row}  # fmt: skip

    @staticmethod
    def factors(setting, brief):
        """Train the reader of slant, width and pressure on images whose factors are known."""
        data = images.load("handwriting", n=500 if brief else 30_000, seed=setting.seed + 29).to(setting.device)
        torch.manual_seed(setting.seed)
        model, n_steps = FactorReader(data.shape[0]).to(setting.device), 20 if brief else setting.steps or 3_000
        known = data.train.factors[:, : len(FACTORS)]
        model.centre.copy_(known.mean(0))
        model.spread.copy_(known.std(0))
        optimizer, start = torch.optim.Adam(model.parameters(), 3e-3), clocks()
        training.fit(model.loss, optimizer, images.batches(data.train.images, 64, known), n_steps,
                     description="factor reader", scheduler=training.cosine(optimizer, n_steps))
        took = since(start)
        with training.evaluating(model):
            read = torch.cat([model(images.to_float(part)) for part in data.test.images.split(500)])
        truth = (data.test.factors[:, : len(FACTORS)] - model.centre) / model.spread
        explained = 1 - (read - truth).square().mean(0) / truth.var(0)
        row = {"n_steps": n_steps, **{f"test_r2_{name}": round(value, 4) for name, value in
                                      zip(FACTORS, explained.tolist(), strict=True)}, **took}  # fmt: skip
        if setting.ship:
            about = row | made_by("families", "factors", setting)
            training.save_weights(shipped.folder() / "factors_handwriting.safetensors", model, about, torch.float16)
        return {"title": "reader of factors", **row}


TABLE = FamiliesTable()


def costs(setting):
    """Processor seconds of a step of each family, all in turns, and the steps that cost 10 seconds at that pace."""
    brief = setting.budget == "smoke"
    data = images.load(setting.dataset, n=500 if brief else 4_000, seed=setting.seed, data_dir=setting.data_dir)
    trained = {name: family for name, family in families.ALL.items() if family.n_steps}
    few = {name: max(2, family.n_steps // (400 if brief else 50)) for name, family in trained.items()}

    def train(name, factor):
        return lambda: families.train(name, data, n_steps=few[name] * factor)

    taken = seconds(1 if brief else 3, **{f"{name} {factor}": train(name, factor) for name in trained
                                          for factor in (1, 3)})  # fmt: skip
    for name, family in trained.items():
        step = max(1e-6, (taken[f"{name} 3"] - taken[f"{name} 1"]) / (2 * few[name]))
        yield {"name": name, "ms a step": 1_000 * step, "steps in 10 s": round(10 / step), "recipe": family.n_steps}
