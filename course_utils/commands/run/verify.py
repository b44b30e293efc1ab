"""`course verify A B`: do two runs agree?"""

import json
import math
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def load(path):
    """The summary of a run, from its folder or its `metrics.json`."""
    path = Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        summary["chapters"].items()
    except OSError as error:
        raise click.ClickException(f"no results at {path}: expected a folder that `course run` wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise click.ClickException(f"{path} is not a metrics.json of `course run`: {error}") from error
    return summary


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

    Exit code 1 on any difference, missing number, missing chapter, or chapter that did not pass.
    """
    rows, compared = differences(load(a), load(b), rtol, atol)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if not rows and not compared:
        raise click.ClickException("the two runs hold no numbers to compare")
    if not rows:
        console.print(f"{compared} numbers agree (rtol {rtol:g}, atol {atol:g}).")
        return
    table = Table(title=f"Differences (rtol {rtol:g}, atol {atol:g})", title_justify="left")
    for heading in ("chapter", "what", "A", "B", "|A − B|"):
        table.add_column(heading, justify="right" if heading in ("A", "B", "|A − B|") else "left")
    for chapter, what, left, right in rows:
        x, y = number(left), number(right)
        gap = f"{abs(x - y):.3g}" if x is not None and y is not None else ""
        table.add_row(*(Text(str(v)) for v in (chapter, what, left, right, gap)))
    console.print(table)
    console.print(f"{len(rows)} differences; {compared} numbers compared.")
    sys.exit(1)
