"""What a run says: the live lines, `metrics.json`, the table of results, and the index page."""

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

from course_utils import files

SCHEMA = 1
COLOURS = {"passed": "green", "kept": "green", "failed": "red", "interrupted": "yellow", "running": "cyan"}
EVERY = 10.0  # seconds between two lines of a running chapter where there is no terminal


@contextmanager
def progress(chapters):
    """Yields `show(chapter)`: a table that stays in place on a terminal, plain lines elsewhere."""
    console = Console()
    if console.is_terminal:
        with Live(_live(chapters), console=console, refresh_per_second=4) as live:
            yield lambda chapter: live.update(_live(chapters))
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
            print(line(one), flush=True)

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
    """`floors.toml` as {chapter: {budget: {dataset: {metric: {"min": …, "max": …}}}}}; no file, no floors."""
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError:
        return {}


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


def summarise(chapters, floors, libraries, package):
    """The content of `metrics.json`."""
    entries = {}
    for chapter in chapters:
        if chapter.result is None:
            entries[chapter.name] = {
                "status": "not run",
                "metrics": {},
                "laws": {},
                "wall_seconds": 0.0,
                "cells": 0,
                "notes": [],
                "failure": None,
                "parameters": chapter.parameters,
                "floors": {},
            }
            continue
        result = dict(chapter.result)
        missed, applied = judge(chapter.name, result, floors)
        environment = result.get("environment", {})
        failure, status = result["failure"], result["status"]
        if failure is None and missed:
            status = "failed"
            said = "; ".join(
                f"{m['metric']} = {_number(m['value'])}, must be {m['bound']}"
                if m["value"] is not None
                else f"{m['metric']} was never recorded, must be {m['bound']}"
                for m in missed
            )
            failure = {"reason": "floor", "message": f"below its floor: {said}", "traceback": ""}
        entries[chapter.name] = {
            "status": status,
            "metrics": result["metrics"],
            "laws": result.get("laws", {}),
            "wall_seconds": round(result["wall_seconds"], 3),
            "cells": result["cells"],
            "parameters": chapter.parameters | environment.get("parameters", {}),
            "versions": environment.get("versions", {}),
            "machine": environment.get("machine", {}),
            "key": chapter.key,
            "floors": applied,
            "failure": failure,
            "notes": result["notes"],
        }
    statuses = {entry["status"] for entry in entries.values()}
    status = (
        "passed" if statuses == {"passed"} else "interrupted" if statuses & {"interrupted", "not run"} else "failed"
    )
    return {
        "schema": SCHEMA,
        "status": status,
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": libraries,
        "package": package,
        "chapters": entries,
    }


def write(chapters, out, floors, libraries, package):
    """Write `metrics.json` and `index.html` into `out` and return the summary."""
    from course_utils.commands.pages import index

    summary = summarise(chapters, read_floors(floors), libraries, package)
    files.write_json(Path(out) / "metrics.json", summary)
    files.write_text(Path(out) / "index.html", index.page(summary, Path(out)))
    return summary


def _number(value):
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def show(summary, out, console=None):
    """Print failures with cell and traceback, the table of all results, and the page to open."""
    console = console or Console(width=None if sys.stdout.isatty() else 120)
    for name, entry in summary["chapters"].items():
        if entry["failure"]:
            console.print(
                Panel(
                    Text(describe(entry["failure"], out, name)),
                    title=escape(f"{name}: {entry['status']}"),
                    title_align="left",
                    border_style=COLOURS.get(entry["status"], "red"),
                )
            )
        for note in entry["notes"]:
            console.print(Text(f"{name}: {note}", style="yellow"))
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
    console.print(table)
    console.print(Text(f"Open {Path(out) / 'index.html'}"), soft_wrap=True)


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
