"""Tables of results that come with the course: a row for each recipe, and how it was made.

``course bench latent`` trains the models of a table and prints their rows; ``--only NAME`` picks some, and ``--ship``
puts what was made into ``data/pretrained``: the rows into ``latent_DATASET.json``, where other rows stay as they are,
and the weights of recipes that ship beside it.
"""

import datetime
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from course_utils import recipes, shipped, training
from course_utils.data import images
from course_utils.files import write_text


def clocks():
    """Seconds of all threads added up, and seconds on the wall."""
    return time.process_time(), time.perf_counter()


def since(start):
    """What a training that began at ``start`` took, as a row of a table tells it."""
    cpu, wall = (now - then for now, then in zip(clocks(), start, strict=True))
    return {"train_cpu_seconds": round(cpu, 1), "train_seconds": round(wall, 1)}


@dataclass(frozen=True)
class Table:
    """A benchmark that trains recipes. ``measure(name, model, data, brief)`` gives the numbers of one row.

    ``columns``: what is printed of a row.  ``promised``: the names trained when none are named, below the full budget.
    ``parts``: the parts of a model whose weights ship, each in a file of its own; empty: the whole model in one.
    """

    name: str
    recipes: dict
    measure: Callable
    columns: tuple
    promised: tuple = ()
    parts: tuple = ()
    ships_on: tuple = ("handwriting", "mnist")
    file: str = ""  # of the rows, when it is not NAME_DATASET.json

    def __call__(self, setting):
        data = images.load(setting.dataset, seed=setting.seed, data_dir=setting.data_dir).to(setting.device)
        names = self.recipes if setting.budget == "full" or not self.promised else self.promised
        brief = setting.budget == "smoke"
        for name in setting.only or names:
            recipe = self.recipes[name]
            n_steps = min(20, recipe.n_steps) if brief else setting.steps or recipe.n_steps
            start = clocks()
            model = recipes.train(recipe, data, device=setting.device, seed=setting.seed, n_steps=n_steps)
            took = since(start)
            numbers = self.measure(name, model, data, brief)
            row = {"name": name, "title": recipe.title, **rounded(numbers), "parameters": size(model),
                   "n_steps": n_steps, "batch_size": recipe.batch_size, "lr": recipe.lr, **took,
                   **made_by(self.name, name, setting)}  # fmt: skip
            if setting.ship:
                self.ship(name, model, row, setting.dataset)
            yield {column: row[column] for column in self.columns if column in row}

    def ship(self, name, model, row, dataset):
        """Put one row, and the weights if they come with the course, into ``data/pretrained``."""
        path = keep(self.file or f"{self.name}_{dataset}.json", row, self.recipes, dataset=dataset)
        if self.recipes[name].ships and dataset in self.ships_on:
            for part in self.parts or ("",):
                file = path.with_name("_".join(filter(None, [name, part or dataset])) + ".safetensors")
                training.save_weights(file, getattr(model, part) if part else model, row, torch.float16)


def keep(file, row, names, key=("name",), **head):
    """Put one row into a file of rows in ``data/pretrained``: in place of the one with its ``key``, else beside them.

    Rows stand in the order of ``names``, then of the other parts of their key; those of other names go. Returns the
    path. ``head``: what a new file says before its rows.
    """
    path, order = shipped.folder() / file, list(names)
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {**head, "rows": []}
    rows = {tuple(r[part] for part in key): r for r in [*table["rows"], row] if r["name"] in order}
    table["rows"] = [rows[k] for k in sorted(rows, key=lambda k: (order.index(k[0]), *k[1:]))]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(table, indent=1) + "\n")
    return path


def rounded(numbers):
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in numbers.items()}


def size(model):
    """Number of weights, or of numbers that were counted."""
    return sum(p.numel() for p in model.parameters()) or max(b.numel() for b in model.buffers())


def made_by(table, name, setting):
    """How a row came about, as its reader needs it to make it again."""
    command = f"course bench {table} --only {name} --dataset {setting.dataset} --seed {setting.seed}"
    command += (f" --steps {setting.steps}" if setting.steps else "") + (
        f" --device {setting.device}" if setting.device != "cpu" else "")
    return {
        "threads": torch.get_num_threads(), "device": setting.device, "seed": setting.seed,
        "dataset": setting.dataset, "torch": torch.__version__, "processor": platform.machine(),
        "date": datetime.date.today().isoformat(), "command": f"{command} --ship",
    }  # fmt: skip
