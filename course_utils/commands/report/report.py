"""``course report``: the reports of a folder of grades, from its records, in the form that is asked for."""

import json
from pathlib import Path

import click

from course_utils import files
from course_utils.commands.report import gradebook, pages

FORMS = {"csv": ("gradebook.csv", gradebook.as_csv), "canvas": ("canvas.csv", gradebook.as_canvas),
         "moodle": ("moodle.csv", gradebook.as_moodle)}  # fmt: skip


def read(folder):
    """``(plan, records, secret)`` of a folder that ``course grade`` wrote. ValueError where it did not."""
    state = Path(folder) / "state"
    try:
        plan = json.loads((state / "plan.json").read_text(encoding="utf-8"))
        secret = bytes.fromhex((state / "secret").read_text(encoding="utf-8"))
        records, _ = pages.read_records(state / pages.LINES)
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} holds no grades: {error}; `course grade … -o {folder}` makes some") from None
    return plan, records, secret


@click.command(name="report")
@click.argument("graded", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--format", "form", type=click.Choice(list(FORMS)), default="csv", show_default=True)
@click.option("--canvas-id", default="", help="The assignment's number in Canvas, where it exists already.")
def main(graded, form, canvas_id):
    """Write gradebook, feedback and the class's page from the records in GRADED, and say where they are."""
    if canvas_id and not canvas_id.isdecimal():
        raise click.BadParameter(f"expected a number, got {canvas_id!r}", param_hint="--canvas-id")
    try:
        plan, records, secret = read(graded)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    pages.everything(graded, plan, records, secret)
    name, write = FORMS[form]
    files.write_text(graded / name, write(plan | {"canvas_id": canvas_id}, pages.rows(plan, records)))
    for path in dict.fromkeys((name, "gradebook.csv", "gradebook.json", "feedback.csv", "summary.html")):
        click.echo(graded / path)
