"""What the caller gave, checked before anything is touched: parameters against the chapters, names, and places.

Nothing here runs a notebook, and torch is only asked about a GPU or about files of a data set.
"""

import ast
import difflib
import json
import math
import os
import re
import tempfile
from pathlib import Path

import click

from course_utils.data import names

BUDGETS = ("auto", "smoke", "class", "full")
SEEDS = 2**32  # as in `course_utils.chapter`, which imports torch
DEVICES = re.compile(r"auto|(cpu|cuda|mps|xpu)(:\d+)?")
TAKEN = {"index": "its page would be index.html, which is the page of the run"}


def parameters_of(path):
    """The parameters that a notebook declares, {name: default}: those of its cell tagged `parameters`.

    Empty without such a cell; None for a notebook that cannot be read, which the run itself will report. A default that
    is no literal is None.
    """
    try:
        if not path.is_file():
            return None
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        tagged = [cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        source = "".join(tagged[0]) if tagged else ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return {}
    found = {}
    for statement in statements:
        targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    found[target.id] = ast.literal_eval(statement.value)
                except (ValueError, TypeError):
                    found[target.id] = None
    return found


def parameters(sources, asked, budget="auto"):
    """Parameters and notes of every chapter: {path: (parameters, notes)}.

    `asked`: {name: (value, how it was asked for)}; a value that came as text of ``-p`` is `Text`. A parameter that no
    chapter has is refused, one that only some have is noted for the others.
    """
    declared = {path: parameters_of(path) for path in sources}
    there = {path: found for path, found in declared.items() if found is not None}
    for name, (_, how) in asked.items():
        if name == "budget":  # a chapter may well take the same time at any budget
            continue
        if there and not any(name in found for found in there.values()):
            known = sorted({name for found in there.values() for name in found})
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            lead = f"chapter {next(iter(there)).stem} has no" if len(there) == 1 else "no chapter of this run has a"
            have = f"the parameters are: {', '.join(known)}" if known else "there is no cell tagged `parameters`"
            raise click.UsageError(f"{how}: {lead} parameter {name!r}{meant} ({have})")
    plans = {}
    for path in sources:
        found = declared[path] or {}
        given, notes = {"budget": budget, "seed": 0, "device": "auto"}, []
        for name, (value, how) in asked.items():
            if name in found or name in given:
                default = found.get(name, given.get(name))
                given[name] = convert(value, default, how, path.stem) if isinstance(value, Text) else value
            if name not in found and declared[path] is not None:
                notes.append(f"{how} changes nothing here: the chapter has no parameter {name!r}")
        check(given, found, asked, path.stem)
        plans[path] = (given, notes)
    return plans


class Text(str):
    """A value as it was typed after ``-p NAME``, still without a type."""


def convert(text, default, how, chapter):
    """`text` as a value of the same kind as the `default` of a chapter's parameter."""
    if isinstance(default, str):
        return str(text)
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise click.UsageError(f"{how}: expected True or False, as the default {default} of {chapter}")
    if isinstance(default, int | float):
        kind = type(default)
        try:
            value = kind(text)
        except ValueError as error:
            want = "a whole number" if kind is int else "a number"
            raise click.UsageError(f"{how}: expected {want}, as the default {default} of {chapter}") from error
        if not math.isfinite(value):
            raise click.UsageError(f"{how}: expected a finite number, as the default {default} of {chapter}")
        return value
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return str(text)


def check(given, found, asked, chapter):
    """Refuse what the first cells of a chapter would refuse later, and a data set that is not there."""

    def refuse(name, why):
        raise click.UsageError(f"{asked[name][1] if name in asked else name}: {why}")

    seed = given["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < SEEDS:
        refuse("seed", f"a seed is a whole number from 0 to {SEEDS - 1}")
    if given["budget"] not in BUDGETS:
        refuse("budget", f"a budget is one of {', '.join(BUDGETS)}")
    device = str(given["device"])
    if not DEVICES.fullmatch(device):
        refuse("device", "a device is auto, cpu, cuda, cuda:1 or mps")
    if device != "auto" and not device.startswith("cpu") and (why := no_gpu(device)):
        refuse("device", f"{why}; use cpu or auto")
    ours = found.get("dataset") in names.NAMES  # a chapter of somebody else has data sets of its own
    dataset = given.get("dataset")
    if ours and dataset is not None and dataset not in names.NAMES:
        refuse("dataset", f"no data set is called so; there are {', '.join(names.NAMES)}")
    if ours and dataset is not None and dataset not in names.WITHOUT_FILES:
        from course_utils.data import images  # imports torch

        folder = given.get("data_dir") or found.get("data_dir") or ""
        if not images.on_disk(dataset, folder):
            where = folder or images.default_data_dir()
            refuse("dataset", f"{dataset} is not in {where}, so {chapter} could not load it; say with --data-dir "
                              f"where it is, or fetch it once: python -c \"from course_utils.data import images; "
                              f"images.download('{dataset}')\"")  # fmt: skip


def no_gpu(device):
    """Why a GPU cannot be used, in words; empty when it can. Nothing is put on it, so that its memory stays free."""
    import torch  # seconds that only this question needs

    kind, _, number = device.partition(":")
    there = {
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
        "xpu": lambda: torch.xpu.device_count(),
    }[kind]()
    if there == 0:
        return f"this machine has no {kind} device that torch can use"
    return f"this machine has only {there}, counted from {kind}:0" if int(number or 0) >= there else ""


def folder(out, sources):
    """`out` as a folder that can be written to, with its `state` and `logs`. Refuses one that cannot."""
    shown = click.format_filename(out)
    try:
        str(out).encode("utf-8")
    except UnicodeEncodeError as error:
        raise click.UsageError(
            f"--out {shown}: the name holds a byte that is no UTF-8, and the files of a run could not say where they "
            "are; choose another name"
        ) from error
    out = Path(os.path.abspath(out))
    for source in sources:
        if os.path.realpath(source.parent) == os.path.realpath(out):
            raise click.UsageError(
                f"--out {shown} is the folder of {source.name} itself, which the executed copy would overwrite; "
                "choose another"
            )
    try:
        for part in (out, out / "state", out / "logs"):
            part.mkdir(parents=True, exist_ok=True)
        for part in (out, out / "state", out / "logs"):
            with tempfile.TemporaryFile(dir=part) as trial:
                trial.write(b"room for a summary" * 1000)
                trial.flush()
        for name in ("metrics.json", "index.html"):
            if (out / name).is_dir():
                raise IsADirectoryError(f"{name} in it is a folder, where a file is to be written")
    except (OSError, RuntimeError) as error:
        raise click.UsageError(f"--out {shown} cannot be written to: {error}; choose another folder") from error
    return out


def unusable(source):
    """Why a file that is called like a notebook cannot be run at all, in words; empty when it may be tried."""
    try:
        source.name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name holds a byte that is no UTF-8: rename it"
    if source.stem in TAKEN:
        return f"{TAKEN[source.stem]}: rename it"
    try:
        if source.is_dir():
            return "it is a folder: rename it, or move it elsewhere"
        if not source.is_file():
            return "it is no file, or a link that leads nowhere or in a circle: remove it"
        with open(source, "rb"):
            return ""
    except OSError as error:
        return f"it cannot be read: {error}"
