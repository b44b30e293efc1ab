"""`course verify A B`: do two runs agree?"""

import json
import math
import sys
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from course_utils.commands.run.report import console
from course_utils.commands.run.shelf import astray

SETTINGS = ("seed", "budget", "dataset")
OTHER_SEED = 0.1  # relative tolerance that fits two seeds: what a chapter's numbers vary by


def load(path):
    """The summary of a run, from its folder or its `metrics.json`."""
    path = Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        for name, entry in summary["chapters"].items():
            if not isinstance(entry["status"], str) or not isinstance(entry["metrics"], dict):
                raise ValueError(f"{name} has no status with numbers")
    except OSError as error:
        raise click.ClickException(f"no results at {path}: expected a folder that `course run` wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise click.ClickException(f"{path} is not a metrics.json of `course run`: {error}") from error
    return summary


def unfounded(path, summary):
    """Chapters that a summary calls passed though the files beside it say otherwise: {chapter: what is wrong}.

    A `metrics.json` that was taken out of its folder stands for itself.
    """
    folder = Path(path)
    if not (folder / "state").is_dir():
        return {}
    found = {}
    for name, entry in summary["chapters"].items():
        if entry["status"] == "passed":
            try:
                found[name] = astray(folder, name, entry)
            except OSError as error:
                found[name] = str(error)
    return {name: why for name, why in found.items() if why}


def settings(a, b):
    """What two runs were asked differently, one line each, and the tolerance that fits."""
    lines, apart = [], set()
    for name in SETTINGS:
        pairs = {
            (str(left["parameters"][name]), str(right["parameters"][name]))
            for chapter, left in a["chapters"].items()
            if (right := b["chapters"].get(chapter))
            and name in left.get("parameters", {})
            and name in right.get("parameters", {})
        }
        unequal = sorted(pair for pair in pairs if pair[0] != pair[1])
        if unequal:
            apart.add(name)
            lines.append(f"The {name} differs: " + ", ".join(f"{x} in A, {y} in B" for x, y in unequal) + ".")
    for name, words in (("versions", "The versions of the libraries differ"), ("package", "The package differs")):
        if a.get(name) and b.get(name) and a[name] != b[name]:
            lines.append(f"{words}: small differences are to be expected.")
    if apart & {"budget", "dataset"}:
        lines.append("These are different experiments: no tolerance makes their numbers the same.")
    elif apart:
        lines.append(f"Another seed gives other numbers: --rtol {OTHER_SEED:g} fits, the default is for the same seed.")
    return lines


def number(value):
    """`value` as float where it is one; strings for numbers that JSON cannot hold included."""
    if isinstance(value, str) and value in ("nan", "inf", "-inf"):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def agree(a, b, rtol, atol):
    """Two recorded values: integers and words exactly, other numbers within atol + rtol·max(|a|, |b|)."""
    if type(a) is int and type(b) is int:
        return a == b
    x, y = number(a), number(b)
    if x is None or y is None:
        return a == b
    if not (math.isfinite(x) and math.isfinite(y)):
        return x == y or (math.isnan(x) and math.isnan(y))
    return abs(x - y) <= atol + rtol * max(abs(x), abs(y))


def differences(a, b, rtol, atol):
    """Rows (chapter, what, value in A, value in B) where two runs do not agree, and how many numbers were compared."""
    rows, compared = [], 0
    for chapter in dict.fromkeys([*a["chapters"], *b["chapters"]]):
        left, right = a["chapters"].get(chapter), b["chapters"].get(chapter)
        if left is None or right is None:
            rows.append(
                (
                    chapter,
                    "chapter",
                    "missing" if left is None else "present",
                    "missing" if right is None else "present",
                )
            )
            continue
        if left["status"] != "passed" or right["status"] != "passed":
            rows.append((chapter, "status", left["status"], right["status"]))
        for name in dict.fromkeys([*left["metrics"], *right["metrics"]]):
            compared += 1
            values = [side["metrics"].get(name, "missing") for side in (left, right)]
            if "missing" in values or not agree(*values, rtol, atol):
                rows.append((chapter, name, *values))
    return rows, compared


@click.command(name="verify")
@click.argument("a", type=click.Path())
@click.argument("b", type=click.Path())
@click.option("--rtol", type=click.FloatRange(0), default=1e-3, show_default=True, help="Relative tolerance.")
@click.option("--atol", type=click.FloatRange(0), default=1e-6, show_default=True, help="Absolute tolerance.")
def main(a, b, rtol, atol):
    """Compare the numbers of two runs, A and B (folders of `course run`). Wall times do not count.

    The default tolerance is for the same seed; numbers of another seed want --rtol 0.1. A budget or a data set that
    differs is said. Exit code 1 on any difference, missing number, missing chapter, chapter that did not pass, or
    chapter whose files do not bear out what the summary says.
    """
    left, right = load(a), load(b)
    rows, compared = differences(left, right, rtol, atol)
    for side, path, summary in (("A", a, left), ("B", b, right)):
        rows += [(name, f"files of {side}", why, "") for name, why in unfounded(path, summary).items()]
    said = console()
    if not rows and not compared:
        raise click.ClickException("the two runs hold no numbers to compare")
    for line in settings(left, right):
        said.print(Text(line, style="yellow"))
    if not rows:
        said.print(f"{compared} numbers agree (rtol {rtol:g}, atol {atol:g}).")
        return
    table = Table(title=f"Differences (rtol {rtol:g}, atol {atol:g})", title_justify="left")
    for heading in ("chapter", "what", "A", "B", "|A − B|"):
        table.add_column(heading, justify="right" if heading in ("A", "B", "|A − B|") else "left")
    for chapter, what, left, right in rows:
        x, y = number(left), number(right)
        gap = f"{abs(x - y):.3g}" if x is not None and y is not None else ""
        table.add_row(*(Text(str(v)) for v in (chapter, what, left, right, gap)))
    said.print(table)
    said.print(f"{len(rows)} differences; {compared} numbers compared.")
    sys.exit(1)
