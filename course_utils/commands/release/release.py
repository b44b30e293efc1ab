"""``course release``: the notebooks that students get, from the one source, proven before they are written.

A release holds the chapters with empty exercises, each cell with the id that it has in every build, and release.json,
by which ``course grade`` knows what was asked and what it is worth. Nothing is written until the untouched notebooks
ran to their end with no points, those with solutions with all of them, and no line of a solution was found in them.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from course_utils import files
from course_utils.commands.release import given

FORMAT = 1
SHORT = 30  # letters: a shorter line is how everybody writes it
GENERIC = re.compile(r"(optimizer|loss|torch\.manual_seed|super\(\)|for _ in range|def forward|class |import |from )")
README = """\
# {title}

{table}

Open a notebook, run it from top to bottom, and write your answers into the cells that raise `NotImplementedError`. The
cell below each says whether it passed. Hand in the notebook itself: only what stands in those cells counts, and it is
run again with other inputs. Write all that an exercise needs into its own cell.

What an exercise asks you to write has to be your own code: calling the course's routine for it gives no points.
"""


@click.command(name="release")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--chapters", multiple=True, callback=given.numbers, help="As 01,04.  [default: all]")
@click.option("--repo-url", default="", metavar="URL", help="Where the course is published: an install cell for Colab, "
              "and on GitHub its badge.")
@click.option("--portable", is_flag=True, help="Each notebook carries the package: for Colab, or without a network.")
@click.option("--exercises", "pack", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="A private pack: its stubs are added, and they alone count.")
@click.option("--title", default="Deep generative models", show_default=True, help="The assignment's name.")
@click.option("--src", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of the sources.")
@click.option("--unproven", is_flag=True, help="Write without running anything. Says so in release.json.")
def main(out, chapters, repo_url, portable, pack, title, src, unproven):
    """Write the students' notebooks to OUT, which must be new or a release.

    The public references ship with the package: what counts for a grade should come from a private pack (--exercises).
    """
    if repo_url and not re.fullmatch(r"(https?|git\+https?)://[^\s\"'\\]+", repo_url):
        raise click.BadParameter(f"expected an address such as https://…, got {repo_url!r}", param_hint="--repo-url")
    if repo_url and portable:
        raise click.UsageError("--portable carries the package, --repo-url installs it: choose one")
    if out.exists() and any(out.iterdir()) and not (out / "release.json").is_file():
        raise click.UsageError(f"{out} is not empty and no release: choose a new folder")
    from course_utils.commands.release import make  # torch: only after the arguments are known to be right
    from course_utils.commands.release import pack as packs

    try:
        private = packs.load(pack) if pack else None
        made = make.chapters(src, chapters, private, repo_url, portable)
        found = [line for chapter in made for line in leaks(chapter)]
        if found:
            raise ValueError("lines of solutions stand in the notebooks:\n" + "\n".join(found))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    proof = "not run" if unproven else prove(made)
    write(out, made, private, title, proof)
    total = sum(e["points"] for chapter in made for e in chapter.entries if e["counts"])
    click.echo(f"{len(made)} chapters, {total} points: {out}" + (" (unproven)" if unproven else ""))


def write(out, made, private, title, proof):
    """The notebooks, release.json and README.md, each whole or not at all; release.json last."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "release.json").unlink(missing_ok=True)
    told, rows = {}, ["| notebook | points |", "|---|---|"]
    for chapter in made:
        content = chapter.text.encode()
        files.write_bytes(out / f"{chapter.stem}.ipynb", content)
        told[chapter.number] = {"notebook": f"{chapter.stem}.ipynb", "sha256": hashlib.sha256(content).hexdigest(),
                                "exercises": chapter.entries}  # fmt: skip
        rows.append(f"| {chapter.stem}.ipynb | {sum(e['points'] for e in chapter.entries if e['counts'])} |")
    files.write_text(out / "README.md", README.format(title=title, table="\n".join(rows)))
    name = {"name": private.name, "sha256": private.sha256} if private else None
    files.write_json(out / "release.json", {"format": FORMAT, "title": title, "chapters": told, "pack": name,
                                            "proof": proof})  # fmt: skip


def leaks(chapter):
    """Lines of solutions that stand in the released notebook, in words."""
    there = {line.strip() for cell in chapter.notebook["cells"] if cell["cell_type"] == "code"
             for line in cell["source"].splitlines() if "WHEEL = " not in line}  # fmt: skip
    for exercise, solution, stub in chapter.solutions:
        given = {line.strip() for line in stub.splitlines()}
        for line in statements(solution):
            if len(line) >= SHORT and line in there and line not in given and not GENERIC.match(line):
                yield f"{chapter.stem}: a line of the solution of {exercise} stands in the chapter: {line}"


def statements(source):
    """The lines of a function, without its signature and docstring."""
    node = ast.parse(source).body[-1]
    start = node.body[1 if ast.get_docstring(node) is not None else 0].lineno
    return [line.strip() for line in source.splitlines()[start - 1 :]]


def prove(made):
    """Run every notebook as it is and with solutions. Returns what was seen; ClickException where it is wrong."""
    seen = {}
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        for name in ("untouched", "solved"):
            click.echo(f"running the {name} notebooks at the smoke budget", err=True)
            place = Path(folder) / name
            place.mkdir()
            for chapter in made:
                (place / f"{chapter.stem}.ipynb").write_text(chapter.text if name == "untouched" else chapter.solved,
                                                             encoding="utf-8")  # fmt: skip
            command = [sys.executable, "-m", "course_utils", "run", "--budget", "smoke", "--notebooks", str(place),
                       "--out", str(Path(folder) / f"run-{name}")]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, errors="replace")
            if done.returncode:
                last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
                raise click.ClickException(f"nothing was released: the {name} notebooks do not run to the end:\n{last}")
            for chapter in made:
                got, of = score(Path(folder) / f"run-{name}" / f"{chapter.stem}.ipynb")
                wanted = 0 if name == "untouched" else of
                if got != wanted or of != chapter.public_points:
                    raise click.ClickException(f"nothing was released: {chapter.stem} {name} has {got} of {of} points, "
                                               f"expected {wanted} of {chapter.public_points}")  # fmt: skip
                seen.setdefault(chapter.number, {})[name] = f"{got} of {of}"
    return seen


def score(path):
    """``(points, of)`` that the last ``score()`` of an executed notebook showed; ``(0, 0)`` where none did."""
    found = re.findall(r"Chapter \d\d: (\d+) of (\d+) points", json.dumps(json.loads(path.read_text(encoding="utf-8"))))
    return tuple(map(int, found[-1])) if found else (0, 0)
