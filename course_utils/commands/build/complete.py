r"""What makes a chapter complete, beyond each cell being right (:mod:`course_utils.commands.build.rules`).

* results: a chapter records numbers, each name once, and each has a floor in ``floors.toml``
* repeats: at least one cell must give the same output on every run (``nbval-check-output``)
* equations: it displays and numbers at least one
* pictures: what a figure shows is said in words, in a comment ``# alt:`` below its ``plots.show``
* headings: sections are numbered N.1, N.2, … without gaps; what is folded or closes the chapter has no number
* defined: every name that a code cell uses is built in, or bound by a cell; what runs at once, by a cell above
* listed: README has its row, NOTATION.md its symbols
"""

import ast
import re
import tomllib
from pathlib import Path

from course_utils.commands.build.rules import BUILTINS
from course_utils.commands.build.source import ALT, names_when_defined

NO_ALT = 'plots.show needs "# alt: …" below it: one sentence that says what the figure shows'
CLOSING = ("What to remember", "Sources", "Exercises", "Answers")


def checkout(chapter):
    """The folder of the course that a source lies in, or None for a source that stands alone."""
    folders = Path(chapter.path).resolve().parents
    return next((folder for folder in folders if (folder / "notebooks" / "floors.toml").is_file()), None)


def results(chapter):
    """A chapter records numbers, each name once, and each has a floor at the class budget."""
    names = {}
    for cell, node in calls(chapter, "record"):
        for keyword in node.keywords:
            if keyword.arg in names:
                yield chapter.problem(f"{keyword.arg} is recorded in cell {names[keyword.arg].index} already", cell)
            elif keyword.arg:
                names[keyword.arg] = cell
    if not any(True for _ in calls(chapter, "record")):
        yield chapter.problem("a chapter records at least one result: record(nll=...), in the cell that measures it")
    root = checkout(chapter)
    if root is None or not names:
        return
    floors = tomllib.loads((root / "notebooks" / "floors.toml").read_text(encoding="utf-8")).get(chapter.number, {})
    held = {name for per_budget in floors.values() for per_dataset in per_budget.values() for name in per_dataset}
    if not held & set(names):
        what = f'notebooks/floors.toml has no floor for {", ".join(names)}: add ["{chapter.number}".class.handwriting]'
        yield chapter.problem(what, next(iter(names.values())))
    dynamic = any(keyword.arg is None for _, node in calls(chapter, "record") for keyword in node.keywords)
    for name in sorted(held - set(names)) if not dynamic else ():
        yield chapter.problem(f"notebooks/floors.toml has a floor for {name}, which this chapter never records")


def repeats(chapter):
    """At least one cell is held to the same output on every run."""
    if not any("nbval-check-output" in cell.tags for cell in chapter.cells):
        what = "no cell is tagged nbval-check-output; tag one that prints the same on every run, to the letter"
        yield chapter.problem(what)


def equations(chapter):
    r"""At least one displayed equation is numbered."""
    if not any(re.search(r"\$\$.*?\\tag\{", cell.text, re.S) for cell in chapter.cells if cell.kind == "markdown"):
        yield chapter.problem(r"no numbered equation: display one as $$ … \tag{N.1} $$, and define or verify it")


def pictures(chapter):
    """Figures are shown with alternative text, and none by matplotlib's own show."""
    for cell, node in calls(chapter, "show"):
        where = ast.unparse(node.func)
        if where == "plt.show":
            yield chapter.problem('plt.show() has no alternative text; use plots.show(figure)', cell)
        elif where == "plots.show":
            alt = next((keyword.value for keyword in node.keywords if keyword.arg == "alt"), None)
            alt = node.args[1] if alt is None and len(node.args) > 1 else alt
            if isinstance(alt, ast.Constant) and not str(alt.value).strip():
                alt = None
            if alt is None and not cell.alts.get(node.lineno, "").strip():
                yield chapter.problem(NO_ALT, cell)
    for cell in (c for c in chapter.cells if c.kind == "code"):
        if any(row.strip().startswith(ALT) for row in cell.text.splitlines()):
            yield chapter.problem(f"a comment {ALT!r} stands right below the plots.show that it describes", cell)


def headings(chapter):
    """Sections count N.1, N.2, …; folded and closing ones carry no number, or the next one."""
    number, last = int(chapter.number), 0
    for cell in (c for c in chapter.cells if c.kind == "markdown"):
        heading = re.match(r"(#{2,6}) +(.*)", cell.text)
        if heading is None:
            continue
        level, words = heading.groups()
        if counted := re.match(r"(\d+)\.(\d+)(\S*)", words):
            section, sub, rest = counted.groups()
            if len(level) != 2 or rest:
                what = f"the heading {words!r}: only sections (##) are numbered, {number}.1, {number}.2, …"
                yield chapter.problem(what, cell)
            elif int(section) != number or int(sub) != last + 1:
                yield chapter.problem(f"the heading {words!r} should be number {number}.{last + 1}", cell)
            last = int(sub) if int(section) == number else last
        elif len(level) == 2 and "fold" not in cell.tags and not words.startswith(CLOSING):
            yield chapter.problem(f"the section {words!r} has no number: {number}.{last + 1} {words}", cell)


def defined(chapter):
    """Every name a code cell uses exists: at once, from a cell above; in a function's body, from any cell.

    ``chapter`` has its quoted and exercise cells filled in; those have a rule of their own.
    """
    cells = [cell for cell in chapter.cells if cell.kind == "code" and cell.tree.body]
    anywhere = BUILTINS.union(*(cell.names[0] for cell in cells))
    so_far = set(BUILTINS)
    for cell in cells:
        bound, used = cell.names
        if not {"quote", "exercise"} & cell.keys.keys():
            at_once = names_when_defined(cell.text) - bound - so_far
            missing = sorted(at_once | (used - anywhere))
            if missing:
                yield chapter.problem(f"refers to {', '.join(missing)}, which no cell above imports or defines", cell)
        so_far |= bound


def listed(chapter):
    """README's table and NOTATION.md know the chapter."""
    root = checkout(chapter)
    if root is None:
        return
    name = chapter.path.stem
    if f"(notebooks/{name}.ipynb)" not in (root / "README.md").read_text(encoding="utf-8"):
        yield chapter.problem(f"README.md has no row for it: | [title](notebooks/{name}.ipynb) | … |")
    rows = re.findall(r"^\|.*\| *(\d\d) *\|$", (root / "notebooks" / "NOTATION.md").read_text(encoding="utf-8"), re.M)
    if chapter.number not in rows:
        yield chapter.problem(f"notebooks/NOTATION.md lists no symbol of chapter {chapter.number} (its last column)")


def calls(chapter, name):
    """``(cell, call)`` of every call of ``name`` or ``something.name`` in the code cells."""
    for cell in (c for c in chapter.cells if c.kind == "code"):
        for node in cell.calls:
            if name in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")):
                yield cell, node


RULES = (results, repeats, equations, pictures, headings, listed)
