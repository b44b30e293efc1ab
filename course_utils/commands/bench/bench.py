"""``course bench``: measure the course on this machine and print tables.

A benchmark is a function that takes a ``Setting`` and returns (or yields, when rows take long) its table: a dictionary
per row, column -> number or words. To add one, write the function and name it in ``BENCHMARKS``; a table of trained
models that ships is a ``tables.Table``. Seconds mean little on a busy machine, so compare things that were measured
together: ``seconds`` takes its candidates in turns.
"""

import importlib
import json
import os
import statistics
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import torch

from course_utils.commands.run.run import versions

BENCHMARKS = {
    "handwriting": "course_utils.commands.bench.house:handwriting",
    "loop": "course_utils.commands.bench.house:loop",
    "steps": "course_utils.commands.bench.house:steps_per_second",
    "autoregressive": "course_utils.commands.bench.autoregressive:TABLE",
    "digits": "course_utils.commands.bench.flows:DIGITS",
    "families": "course_utils.commands.bench.families:TABLE",
    "family_costs": "course_utils.commands.bench.families:costs",
    "flows": "course_utils.commands.bench.flows:TABLE",
    "flow_growth": "course_utils.commands.bench.flows:growth",
    "sampling": "course_utils.commands.bench.autoregressive:sampling_speed",
    "latent": "course_utils.commands.bench.latent:TABLE",
    "diffusion": "course_utils.commands.bench.diffusion:benchmark",
    "gan": "course_utils.commands.bench.gan:TABLE",
    "transfer": "course_utils.commands.bench.transfer:benchmark",
    "grade": "course_utils.commands.bench.grade:benchmark",
    "widgets": "course_utils.commands.bench.latency:benchmark",
}

TABLES = ("autoregressive", "latent", "gan", "flows", "digits", "families")  # those that ship


@dataclass(frozen=True)
class Setting:
    """What was asked for on the command line."""

    budget: str = "class"
    dataset: str = "handwriting"
    data_dir: str = ""
    device: str = "cpu"
    seed: int = 0
    only: tuple[str, ...] = ()  # names of the rows wanted; empty: those that the benchmark promises
    steps: int | None = None  # other than the recipes' own
    ship: bool = False  # write rows and weights into data/pretrained


def seconds(repeats=5, **candidates):
    """Median seconds of each callable: one call of each to warm up, then all of them in turns, ``repeats`` times."""
    taken = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, work in candidates.items():
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU's work is not done when the call returns
            if turn > 0:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in taken.items()}


def lines_of(rows):
    """The rows as aligned lines under a header; numbers to four digits, at the right."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([shown(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    right = [all(isinstance(row.get(name, 0), (int, float)) for row in rows) for name in columns]
    for line in cells:
        padded = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)]
        yield "  ".join(padded).rstrip()


def shown(value):
    return f"{value:,.4g}" if isinstance(value, float) and abs(value) < 10_000 else (
        f"{value:,.0f}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value))


def found(name):
    """The benchmark of that name."""
    module, function = BENCHMARKS[name].split(":")
    return getattr(importlib.import_module(module), function)


def refuse(names, only, steps, ship):
    """Complain about options that none of the named benchmarks, or not all of them, can keep."""
    tables = {name: getattr(found(name), "recipes", None) for name in names}
    plain = [name for name, recipes in tables.items() if recipes is None]
    if (only or steps or ship) and (plain or not names):
        raise click.UsageError("--only, --steps and --ship are for tables of trained models: "
                               f"name them, {', '.join(TABLES)}" + (f"; not {', '.join(plain)}" if plain else ""))
    known = [name for recipes in tables.values() for name in recipes or ()]
    if lost := [name for name in only if name not in known]:
        raise click.BadParameter(f"no row named {', '.join(lost)}; there are {', '.join(known)}", param_hint="--only")
    if only and len(names) > 1:
        raise click.UsageError("--only takes rows of one table: name one benchmark")


def measure(name, setting, folder):
    """Run one benchmark; print its table; write it with the machine and the versions to ``folder/NAME.json``."""
    start = time.perf_counter()
    torch.manual_seed(setting.seed)
    rows = [dict(row) for row in found(name)(setting)]
    for line in lines_of(rows):
        click.echo(f"  {line}")
    result = {
        "name": name, "rows": rows, "setting": asdict(setting), "versions": versions(),
        "threads": torch.get_num_threads(), "seconds": round(time.perf_counter() - start, 1),
        "device_name": torch.cuda.get_device_name(setting.device) if "cuda" in setting.device else "cpu",
        "platform": sys.platform, "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--budget", type=click.Choice(["smoke", "class", "full"]), default="class", show_default=True,
              help="How many steps trainings take.")
@click.option("--dataset", default="handwriting", show_default=True)
@click.option("--data-dir", default="", help="Where downloaded data lie; empty: the checkout's data/.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--only", multiple=True, metavar="NAME", help="Rows of one table, repeated for several.")
@click.option("--steps", type=click.IntRange(1), help="Steps of training, other than the recipes' own.")
@click.option("--ship", is_flag=True, help="Put rows and weights into data/pretrained.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="build/bench", show_default=True)
def main(names, out, **setting):
    """Measure the course on this machine: all benchmarks, or those NAMED."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise click.BadParameter(f"no benchmark named {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    refuse(names, setting["only"], setting["steps"], setting["ship"])
    if setting["ship"] and setting["budget"] == "smoke":
        raise click.UsageError("--ship at the smoke budget would ship models that have learned nothing")
    load, cores = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0, os.cpu_count()
    if load > cores:
        click.echo(f"this machine is busy (load {load:.0f} on {cores} cores): trust the ratios, not the seconds")
    failed = []
    for name in names or BENCHMARKS:
        click.secho(name, bold=True)
        try:
            measure(name, Setting(**setting), out)
        except Exception:
            failed.append(name)
            click.echo(traceback.format_exc(), err=True)
    click.echo(f"tables written to {out}" if len(failed) < len(names or BENCHMARKS) else "nothing was measured")
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}")
