"""``course build``: chapter sources into notebooks, one way, the same bytes every time.

A source ``notebooks/src/NN_topic.py`` becomes ``notebooks/NN_topic.ipynb``: the cell that brings the package in is put
before the parameters, quoted cells get the package's own source, exercise cells their stub (or, with ``--solutions``,
the reference). ``--check`` builds in memory and compares. The rules that a chapter must keep are in
:mod:`course_utils.commands.build.rules`; :mod:`course_utils.commands.build.source` says what a cell's marker line may.
"""

import difflib
import functools
import hashlib
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import click
import nbformat
from nbformat import v4

from course_utils.commands.build import bootstrap, complete, demos, ledger, minutes, rules, twins
from course_utils.commands.build.quotes import quote, solution, stub
from course_utils.commands.build.source import BuildError, Cell, Chapter, Problem, read, select, slug, sources
from course_utils.files import write_bytes

SOURCE, NOTEBOOKS, SOLUTIONS = Path("notebooks/src"), Path("notebooks"), Path("build/solutions")
CARRIED = Path("build/colab")
DESCRIPTIONS = """\
# What each figure shows, in words, for readers who cannot see it.
from course_utils import plots
"""
PLUMBING = {"carried": "\nWHEEL = ", "descriptions": "plots.describe(", "bootstrap": ""}  # id → what its text holds


def build_chapter(src_path, solutions=False):
    """The notebook of a chapter source, without outputs. Raises :class:`BuildError` with all that is wrong with it."""
    notebook, problems = assemble(src_path, solutions)
    if problems:
        raise BuildError(problems)
    return notebook


def assemble(src_path, solutions=False, wheel=None):
    """``(notebook, problems)``: the notebook as far as it can be built (None if not at all) and what is wrong.

    ``wheel``: the package that the notebook shall carry, as a path.
    """
    chapter = read(src_path)
    problems = list(rules.markers(chapter))
    if problems:  # the other rules rely on well-formed markers
        return None, problems
    known, problems = _exercises(chapter)
    filled, failures = _fill(chapter, known, solutions)
    problems += failures
    for rule in (*rules.OF_CELLS, ledger.equations, ledger.formulas):
        problems += rule(chapter)
    problems += ledger.references(chapter, _numbers(chapter.path.parent))
    problems += rules.exercises(chapter, known)
    if not solutions:
        problems += rules.lines(filled)
    problems += rules.answers(filled, known)
    problems += rules.missing_names(filled)
    problems += complete.defined(filled)
    for rule in complete.RULES:
        problems += rule(chapter)
    takes = _sections(filled, known)
    problems += minutes.rule(chapter, minutes.rounded(takes))
    problems.sort(key=lambda problem: problem.cell or 0)
    return None if failures else _notebook(minutes.filled(filled, takes), wheel), problems


def _sections(filled, known):
    return minutes.by_section(filled, {number: exercise.kind for number, exercise in known.items()})


def sections(chapter):
    """``[(heading, minutes)]`` of a chapter's core path, as the build estimates them."""
    known, _ = _exercises(chapter)
    return _sections(_fill(chapter, known, False)[0], known)


def check(src=SOURCE, out=NOTEBOOKS, chapters=(), wrong=None):
    """Everything wrong with the chapters and every difference between the notebooks in ``out`` and a fresh build.

    ``wrong``: the folder with the wrong twins of the chapters' equations, ``tests/twins`` if not given.
    """
    problems, chosen = [], select(src, chapters)
    for path in chosen:
        notebook, found = assemble(path)
        solved, more = assemble(path, solutions=True)
        problems += [*found, *(p for p in more if p not in found)]
        chapter = read(path)
        problems += _kept(chapter, out, wrong)
        problems += minutes.readme(chapter, minutes.rounded(sections(chapter)))
        if notebook is not None:
            problems += _differences(Path(out) / f"{path.stem}.ipynb", notebook)
    if not chapters:
        problems += demos.problems()
        known = {path.stem for path in chosen}
        for path in sorted(Path(out).glob("*.ipynb")):
            if path.stem not in known:
                problems.append(Problem(str(path), f"there is no source {Path(src) / path.stem}.py for it"))
    return problems


def _numbers(folder):
    """The numbers of the equations of all chapters in a folder of sources."""
    found = (re.findall(r"\\tag\{([\d.]+)\}", path.read_text(encoding="utf-8")) for path in sources(folder))
    return set().union(*found)


def _kept(chapter, out, wrong):
    """What ``--check`` asks of a chapter's twins and of the ledger in ``out``."""
    try:
        known, kept = twins.load(wrong or twins.TWINS, chapter.number), ledger.load(out)
    except ValueError as error:
        return [chapter.problem(str(error))]
    fresh = ledger.entries(chapter, known)
    problems = [*ledger.wrong_twins(chapter, known), *ledger.changed(chapter, fresh, kept)]
    return problems or list(ledger.stale(chapter, fresh, kept))


def _keep(chapter, out, wrong, accepted):
    """Bring the ledger in ``out`` up to date with a chapter. Returns the problems that stop that."""
    try:
        known, kept = twins.load(wrong or twins.TWINS, chapter.number), ledger.load(out)
    except ValueError as error:
        return [chapter.problem(str(error))]
    fresh = ledger.entries(chapter, known)
    problems = list(ledger.changed(chapter, fresh, kept, accepted))
    if not problems:
        ledger.save(out, ledger.updated(chapter, fresh, kept))
    return problems


def dumps(notebook):
    """The text of a notebook file: one form, with sorted keys."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def _exercises(chapter):
    """The exercises that the chapter's module holds, by id, and the problems with finding them."""
    wanted = [cell for cell in chapter.cells if "exercise" in cell.keys]
    from course_utils import exercises  # imports torch: only where there may be exercises

    try:
        known = {exercise.id: exercise for exercise in exercises.load(chapter.number)}
    except ValueError as error:
        return {}, [chapter.problem(str(error), cell) for cell in wanted]
    problems = [
        chapter.problem(f"there is no exercise {cell.keys['exercise']}; there are {', '.join(known)}", cell)
        for cell in wanted
        if cell.keys["exercise"] not in known
    ]
    for number, exercise in list(known.items()):
        cell = next((cell for cell in wanted if cell.keys["exercise"] == number), None)
        try:
            stub(exercise.reference)
        except ValueError as error:
            problems.append(chapter.problem(f"exercise {number}: {error}", cell))
            del known[number]
            continue
        problems += [chapter.problem(f"exercise {number}: {fault}", cell) for fault in _faults(exercise)]
    return known, problems


@functools.cache
def _faults(exercise):
    """What is unsound about an exercise, from one seed; one that trains is tried by the tests, not at every build."""
    from course_utils.exercises import validate

    return validate(exercise, seeds=() if exercise.kind == "build" else (0,))


def _fill(chapter, known, solutions):
    """The chapter with the text of quoted and exercise cells filled in, and the problems met."""
    cells, problems = [], []
    for cell in chapter.cells:
        try:
            cells.append(replace(cell, text=_text(cell, known, solutions)))
        except ValueError as error:
            problems.append(chapter.problem(str(error), cell))
            cells.append(cell)
    return Chapter(chapter.path, tuple(cells)), problems


def _text(cell, known, solutions):
    if "quote" in cell.keys:
        return quote(cell.keys["quote"])
    exercise = known.get(cell.keys.get("exercise"))
    if exercise is None:
        return cell.text
    if solutions:
        return solution(exercise.reference)
    return cell.text if cell.text.strip() else stub(exercise.reference)


def _notebook(chapter, wheel):
    cells, ids = [], set()
    for cell in _with_plumbing(chapter, wheel):
        name = _free(_id(cell), ids)
        ids.add(name)
        make = v4.new_code_cell if cell.kind == "code" else v4.new_markdown_cell
        metadata = dict(cell.keys)
        if name in PLUMBING:  # plumbing: JupyterLab shows its first line only
            metadata["jupyter"] = {"source_hidden": True}
        if "fold" in cell.tags:  # JupyterLab and Notebook 7 read the first; Colab finds the section by the second
            metadata |= {"jp-MarkdownHeadingCollapsed": True, "id": name}
        cells.append(make(cell.text, id=name, metadata=metadata))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    folded = [cell.id for cell in cells if "jp-MarkdownHeadingCollapsed" in cell.metadata]
    if folded:
        metadata["colab"] = {"collapsed_sections": folded}
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _with_plumbing(chapter, wheel):
    """The cells with what brings the package in, and what the figures show, before the first code cell."""
    texts = [*bootstrap.cells(chapter.path, wheel), *_descriptions(chapter)]
    plumbing = [Cell("code", text) for text in texts]
    first = next((i for i, cell in enumerate(chapter.cells) if cell.kind == "code"), len(chapter.cells))
    return [*chapter.cells[:first], *plumbing, *chapter.cells[first:]]


def _descriptions(chapter):
    """The cell that knows what each figure shows, if a figure is described."""
    described = {_id(cell): cell.alts for cell in chapter.cells if cell.alts}
    if not described:
        return []
    rows = []
    for name, alts in described.items():
        rows.append(f"    {name!r}: {{")
        for line, words in alts.items():
            parts = textwrap.wrap(words, 70, drop_whitespace=False)
            rows.append(f"        {line}: " + "\n            ".join(map(repr, parts)) + ",")
        rows.append("    },")
    return ["\n".join([DESCRIPTIONS, "plots.describe({", *rows, "})"])]


def _id(cell):
    """A readable id for a cell with a role, a hash of the content for any other."""
    if "quote" in cell.keys:
        return slug("quote-" + cell.keys["quote"].partition(":")[2])
    if "exercise" in cell.keys:
        return slug("exercise-" + cell.keys["exercise"])
    if "parameters" in cell.tags:
        return "parameters"
    if cell.kind == "code" and rules.checked(cell):
        return slug(f"check-{rules.checked(cell)[0]}")
    if not cell.index:
        return next(name for name, mark in PLUMBING.items() if mark in cell.text)
    return hashlib.sha256(f"{cell.kind}\n{cell.text}".encode()).hexdigest()[:12]  # `plots.show` knows it as well


def _free(name, taken):
    number = 1
    while (candidate := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return candidate


def _differences(path, notebook):
    """How a committed notebook differs from a fresh build, cell by cell."""
    again = "run `course build`; edit the source, not the notebook"
    if not path.is_file():
        yield Problem(str(path), "missing; run `course build`")
        return
    text = path.read_text(encoding="utf-8")
    if text == dumps(notebook):
        return
    try:
        committed = nbformat.reads(text, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a damaged file
        yield Problem(str(path), f"not a notebook ({type(error).__name__}: {error}); {again}")
        return
    found = False
    for index, cell, what in _cell_differences(committed.cells, notebook.cells):
        found = True
        yield Problem(str(path), f"{what}; {again}", index + 1, next(iter(cell.source.splitlines()), ""))
    if not found:
        yield Problem(str(path), f"its metadata or formatting differs from a fresh build; {again}")


def _cell_differences(there, fresh):
    """``(index, cell, what differs)``, cells matched by their ids."""
    ids = [[cell.get("id", str(index)) for index, cell in enumerate(cells)] for cells in (there, fresh)]
    for same, a, b, c, d in difflib.SequenceMatcher(None, *ids, autojunk=False).get_opcodes():
        if same != "equal":  # cells edited in the source have new ids: pair them up as far as they go
            edited = min(b - a, d - c)
            yield from ((i, there[i], "not what the source says") for i in range(a, b))
            yield from ((i, fresh[i], "in the source, missing in the notebook") for i in range(c + edited, d))
            continue
        for i, j in zip(range(a, b), range(c, d), strict=True):
            parts = [key for key in ("source", "metadata", "cell_type") if there[i][key] != fresh[j][key]]
            if there[i].get("outputs") or there[i].get("execution_count"):
                parts.append("outputs (none are committed)")
            if parts:
                yield i, there[i], f"differs from a fresh build in its {', '.join(parts)}"


def _write(path, text):
    """Write a file whole or not at all. Returns whether that changed anything."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode("utf-8"))
    return True


@click.command(name="build")
@click.argument("chapters", nargs=-1)
@click.option("--check", "checking", is_flag=True, help="Write nothing; fail on any difference and any broken rule.")
@click.option("--solutions", is_flag=True, help="Fill the exercises in; goes to build/solutions unless --out is given.")
@click.option("--carry", is_flag=True, help="Chapters that carry the package, for Colab; goes to build/colab/.")
@click.option("--draft", is_flag=True, help="Write a chapter although it breaks a rule. The exit code still says so.")
@click.option("--accept", multiple=True, metavar="N.M", help="A changed formula that was derived again.")
@click.option("--src", default=SOURCE, type=click.Path(path_type=Path), show_default=True, help="The sources' folder.")
@click.option("--twins", "wrong", type=click.Path(path_type=Path), help="Folder of wrong twins.  [tests/twins]")
@click.option("--out", default=None, type=click.Path(path_type=Path), help="Folder of the notebooks.  [notebooks]")
def main(chapters, checking, solutions, carry, draft, accept, src, wrong, out):
    """Build notebooks from their sources: CHAPTERS (01 02 …) or all.

    A chapter that breaks a rule is not written; everything wrong is listed.
    """
    try:
        paths = select(src, chapters)
        wheel = bootstrap.carried_wheel(paths[0]) if carry and not checking else None
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if checking:
        problems = check(src, out or NOTEBOOKS, chapters, wrong)
    else:
        problems = []
        for path in paths:
            notebook, found = assemble(path, solutions, wheel)
            folder = out or (SOLUTIONS if solutions else CARRIED if carry else NOTEBOOKS)
            if not (found or solutions or carry):
                found = _keep(read(path), folder, wrong, accept)
            problems += found
            if notebook is not None and (draft or not found):
                target = folder / f"{path.stem}.ipynb"
                click.echo(f"{target}: {'written' if _write(target, dumps(notebook)) else 'up to date'}")
                chapter = read(path)
                takes = sections(chapter)
                click.echo(minutes.line(chapter, takes))
                minutes.write(chapter, minutes.rounded(takes))
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        click.echo(f"{len(problems)} problem{'s' * (len(problems) > 1)} found", err=True)
        sys.exit(1)
    if checking:
        click.echo(f"notebooks equal their sources and keep the rules: {', '.join(path.stem for path in paths)}")
    if not carry and not bootstrap.settings(paths[0])["source"]:
        click.echo(f"note: {bootstrap.UNSET_NOTE}")
