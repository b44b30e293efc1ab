"""What a run says: the live lines, `metrics.json`, the table of results, and the index page."""

import json
import os
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

SCHEMA = 1
COLOURS = {"passed": "green", "kept": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}
EVERY = 10.0  # seconds between two lines of a running chapter where there is no terminal


class Steady:
    """A stream that falls silent when it cannot be written to: a run goes on when its terminal or its pipe is gone."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        return self._unless_gone(self.stream.write, text)

    def flush(self):
        return self._unless_gone(self.stream.flush)

    def _unless_gone(self, action, *args):
        try:
            return action(*args)
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # what is buffered, and what is still said, goes there
            os.close(nowhere)


def console():
    """Standard output for rich: as wide as the terminal, 120 characters where there is none."""
    out = Steady(sys.stdout)
    return Console(file=out, width=None if out.isatty() else 120)


@contextmanager
def progress(chapters):
    """Yields `show(chapter)`: a table that stays in place on a terminal, plain lines elsewhere."""
    out = console()
    if out.is_terminal:
        with Live(_live(chapters), console=out, auto_refresh=False) as live:
            yield lambda chapter: live.update(_live(chapters), refresh=True)
        return
    spoken = {}

    def show(chapter):
        now = time.monotonic()
        for one in chapters if chapter is None else [chapter]:
            if one.status == "waiting" or (one.status, None) == spoken.get(one.name):
                continue
            if one.status == "running" and now - spoken.get(one.name, ("", -EVERY))[1] < EVERY:
                continue
            spoken[one.name] = (one.status, now if one.status == "running" else None)
            print(line(one), file=out.file, flush=True)

    for chapter in chapters:
        show(chapter)
    yield show


def line(chapter):
    """A chapter on one line, as in `01_intro  running  cell 3/12  4.1 s`."""
    cells = f"cell {chapter.cell}/{chapter.cells}" if chapter.cells else "starting"
    return f"{chapter.name}  {chapter.status}  {cells}  {chapter.seconds:.1f} s"


def _live(chapters):
    table = Table.grid(padding=(0, 2))
    for chapter in chapters:
        cells = f"cell {chapter.cell}/{chapter.cells}" if chapter.cells else ""
        table.add_row(
            Text(chapter.name),
            Text(chapter.status, style=COLOURS.get(chapter.status, "dim")),
            cells,
            f"{chapter.seconds:.1f} s" if chapter.seconds else "",
        )
    return table


def read_floors(path):
    """`floors.toml` as {chapter: {budget: {dataset: {metric: {"min": …, "max": …}}}}}; no file, no floors.

    Raises ``ValueError`` that says where the file is not like this.
    """
    try:
        with open(path, "rb") as stream:
            floors = tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error

    def check(table, where, depth):
        if not isinstance(table, dict):
            raise ValueError(f"{path}: expected a table at {where or 'the top'}, got {table!r}")
        for key, value in table.items():
            place = f"{where}.{key}" if where else key
            if depth:
                check(value, place, depth - 1)
            elif key not in ("min", "max") or isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{path}: expected min or max with a number, got {place} = {value!r}")

    check(floors, "", 4)
    return floors


def read_ledger(path):
    """`ledger.json` as {equation: what is kept of it}; `course build` judges it, here an unreadable one is empty."""
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def judge(name, result, floors):
    """Which recorded numbers miss their floor: a list of {metric, value, bound} and the table that applied."""
    parameters = result.get("given", {}) | result.get("environment", {}).get("parameters", {})
    table = floors
    for step in (name.partition("_")[0], parameters.get("budget", ""), parameters.get("dataset", "")):
        table = table.get(step, {}) if isinstance(table, dict) else {}
    missed = []
    for metric, bounds in table.items():
        value = result["metrics"].get(metric)
        number = float(value) if isinstance(value, int | float) or value in ("nan", "inf", "-inf") else None
        for kind, holds in (("min", lambda v, b: v >= b), ("max", lambda v, b: v <= b)):
            if kind in bounds and (number is None or not holds(number, bounds[kind])):
                missed.append({"metric": metric, "value": value, "bound": f"{kind} {bounds[kind]:g}"})
    return missed, table


def summarise(results, floors, libraries, package, status=None):
    """The content of `metrics.json`, from {chapter: result}. `status` that of the run, where it did not reach its end.

    `passed` needs every chapter to have passed, whatever `status` says.
    """
    entries = {name: entry_of(name, result, floors) for name, result in results.items()}
    statuses = {entry["status"] for entry in entries.values()}
    reached = (
        "passed" if statuses == {"passed"} else "interrupted" if statuses & {"interrupted", "not run"} else "failed"
    )
    return {
        "schema": SCHEMA,
        "status": status or reached,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": libraries,
        "package": package,
        "chapters": entries,
    }


def entry_of(name, result, floors):
    """What `metrics.json` says of a chapter: its result, held against its floors."""
    missed, applied = judge(name, result, floors)
    environment = result.get("environment", {})
    failure, status = result["failure"], result["status"]
    if status == "passed" and missed:
        status = "failed"
        said = "; ".join(
            f"{m['metric']} = {_number(m['value'])}, must be {m['bound']}"
            if m["value"] is not None
            else f"{m['metric']} was never recorded, must be {m['bound']}"
            for m in missed
        )
        failure = {"reason": "floor", "message": f"below its floor: {said}", "traceback": ""}
    return {
        "status": status,
        "metrics": result["metrics"],
        "laws": result.get("laws", {}),
        "written": result.get("written", ""),
        "wall_seconds": round(result["wall_seconds"], 3),
        "cells": result["cells"],
        "parameters": result.get("given", {}) | environment.get("parameters", {}),
        "versions": environment.get("versions", {}),
        "machine": environment.get("machine", {}),
        "key": result.get("key", ""),
        "files": result.get("files", {}),
        "floors": applied if status in ("passed", "failed") else {},
        "failure": failure,
        "notes": result["notes"],
    }


def _number(value):
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def show(summary, out):
    """Print failures with cell and traceback, the table of all results, and the page to open."""
    said = console()
    for name, entry in summary["chapters"].items():
        if entry["failure"]:
            said.print(
                Panel(
                    Text(describe(entry["failure"], out, name)),
                    title=escape(f"{name}: {entry['status']}"),
                    title_align="left",
                    border_style=COLOURS.get(entry["status"], "red"),
                )
            )
        for note in entry["notes"]:
            said.print(Text(f"{name}: {note}", style="yellow"))
    table = Table(title="Results", title_justify="left")
    for heading in ("chapter", "status", "seconds", "number", "value", "floor"):
        table.add_column(heading, justify="right" if heading in ("seconds", "value") else "left")
    for name, entry in summary["chapters"].items():
        status = Text(entry["status"], style=COLOURS.get(entry["status"], "dim"))
        first = (Text(name), status, f"{entry['wall_seconds']:.1f}")
        for metric, value in (entry["metrics"] or {"": ""}).items():
            bounds = entry["floors"].get(metric, {})
            table.add_row(*first, Text(metric), Text(_number(value)), " ".join(f"{k} {v:g}" for k, v in bounds.items()))
            first = ("", "", "")
        table.add_section()
    said.print(table)
    said.print(Text(f"Open {Path(out) / 'index.html'}"), soft_wrap=True)


def describe(failure, out, name):
    """A failure in words: where, what, the cell's first lines, the end of its traceback, the log."""
    lines = []
    if "cell" in failure:
        lines.append(
            f"in code cell {failure['cell']} of {failure['cells']} ({failure['cell_id']}): {failure['message']}"
        )
        source = failure["source"].splitlines()
        lines += ["", *("    " + text for text in source[:6]), *(["    …"] if len(source) > 6 else [])]
    else:
        lines.append(failure["message"])
    if failure["traceback"]:
        lines += ["", *failure["traceback"].rstrip().splitlines()[-25:]]
    return "\n".join([*lines, "", f"log: {Path(out) / 'logs' / (name + '.txt')}"])
