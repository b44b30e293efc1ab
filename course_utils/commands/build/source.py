"""Chapter sources: percent text read into cells, and what the cells say about themselves.

A source is ``NN_topic.py`` in jupytext's percent format. A cell carries its role in its marker line,
``# %% verifies=["1.7"] tags=["nbval-check-output"]``; :data:`KEYS` and :data:`TAGS` list all there is.
"""

import ast
import re
import symtable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise, takewhile
from pathlib import Path

import jupytext

# key of a cell -> (kinds of cell it may stand on, type of its value)
KEYS = {
    "quote": (("code",), str),  # "course_utils.models.vae:elbo_terms": filled with the package's own source
    "exercise": (("code",), str),  # "1.3": filled with the stub, or with the solution
    "verifies": (("code",), list),  # ["1.7"]: equations this cell checks numerically
    "defines": (("markdown",), list),  # ["1.1"]: equations in this cell that are definitions and need no check
    "tags": (("code", "markdown"), list),
}
# tag -> kind of cell it may stand on
TAGS = {
    "parameters": "code",  # the literals that a run may replace
    "widget": "code",  # shows something to touch
    "check": "code",  # checks the exercise above it
    "nbval-check-output": "code",  # its output must be the same, to the letter, on every run
    "fold": "markdown",  # a heading "Going deeper: …" whose section starts closed
}

ALT = "# alt:"  # begins the comment below a plots.show that says what the figure shows


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a file: which file, which cell (counted from 1, with its first line) and what."""

    file: str
    what: str
    cell: int | None = None
    first_line: str = ""
    line: int | None = None  # line of the file where the cell starts

    def __str__(self):
        place = f"{self.file}:{self.line}" if self.line else self.file
        if self.cell is None:
            return f"{place}: {self.what}"
        first = self.first_line if len(self.first_line) <= 60 else self.first_line[:57] + "…"
        return f"{place}: cell {self.cell} ({first or 'empty'}): {self.what}"


class BuildError(ValueError):
    """A chapter cannot be built. ``problems`` holds every reason, the message lists them."""

    def __init__(self, problems):
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Cell:
    """One cell of a source: ``kind`` is code or markdown, ``keys`` what its marker line says.

    ``alts``: what its figures show, in words: line of a ``plots.show`` → text (:func:`alternatives`).
    """

    kind: str
    text: str
    keys: dict = field(default_factory=dict)
    index: int = 0
    line: int | None = None
    alts: dict = field(default_factory=dict)

    @property
    def tags(self):
        return self.keys.get("tags", [])

    @cached_property
    def tree(self):
        """Syntax tree of a code cell; empty where the text is not Python (a rule of its own says so)."""
        try:
            return ast.parse(self.text)
        except SyntaxError:
            return ast.Module([], [])

    @cached_property
    def calls(self):
        """All calls in a code cell, as nodes of its tree."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]

    @cached_property
    def names(self):
        """:func:`names` of a code cell; empty where the text is not Python."""
        return names(self.text) if self.tree.body else (set(), set())


@dataclass(frozen=True)
class Chapter:
    """A source file: ``number`` is "01" for ``01_topic.py``."""

    path: Path
    cells: tuple

    @property
    def number(self):
        return self.path.name[:2]

    def problem(self, what, cell=None):
        """A :class:`Problem` of this file, at ``cell`` if one is given."""
        if cell is None:
            return Problem(str(self.path), what)
        marker = next((f"{k}={cell.keys[k]!r}" for k in ("quote", "exercise") if k in cell.keys), "")
        first = next((row.strip() for row in cell.text.splitlines() if row.strip()), marker)
        return Problem(str(self.path), what, cell.index, first, cell.line)


def sources(folder):
    """The chapter sources ``NN_topic.py`` of a folder, in order."""
    return sorted(p for p in Path(folder).glob("*.py") if re.fullmatch(r"\d\d_\w+\.py", p.name))


def select(folder, chapters=()):
    """The sources of the named chapters ("1", "01" or "01_topic"), or all. Raises ValueError for an unknown one."""
    available = sources(folder)
    if not available:
        raise ValueError(f"no chapter sources (NN_topic.py) in {folder}; run this in the course's folder or name --src")
    for path in available:
        _is_utf8(path)
    chosen = set()
    for name in chapters:
        stem = Path(name).stem
        found = [p for p in available if p.stem == stem or p.name[:2] == stem.zfill(2)]
        if not found:
            raise ValueError(f"no chapter {name!r} in {folder}; there are {', '.join(p.stem for p in available)}")
        chosen.update(found)
    chosen = [p for p in available if not chapters or p in chosen]
    for path in chosen:
        _is_closed(path)
    return chosen


def _is_utf8(path):
    """ValueError naming file and line where a source is not UTF-8 text, as an editor may save it."""
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8 text; save the file as UTF-8"
        raise ValueError(f"{path}:{line}: {what}") from None


def _is_closed(path):
    """ValueError naming file and line where a triple-quoted string swallows the cells below it."""
    rows = path.read_text(encoding="utf-8").splitlines()
    starts = [0, *(i for i, row in enumerate(rows) if row.startswith("# %%")), len(rows)]
    for start, end in pairwise(starts):
        try:
            ast.parse("\n".join(rows[start:end]))
        except SyntaxError as error:
            if error.msg.startswith("unterminated triple-quoted string"):
                row = start + error.lineno
                what = f"the string that begins here is not closed in its cell: {rows[row - 1].strip()}"
                raise ValueError(f"{path}:{row}: {what}") from None


def read(path):
    """The :class:`Chapter` in a source file. Magics stay the comments that they are in the text."""
    path = Path(path)
    return _parsed(path, path.read_text(encoding="utf-8"))


@lru_cache(maxsize=32)
def _parsed(path, text):
    notebook = jupytext.reads(text, {"extension": ".py", "format_name": "percent", "comment_magics": False})
    starts = [i for i, row in enumerate(text.splitlines(), 1) if re.match(r"# %%", row)]
    if len(starts) == len(notebook.cells) - 1:  # text before the first marker is a cell too
        starts.insert(0, 1)
    if len(starts) != len(notebook.cells):
        starts = [None] * len(notebook.cells)
    cells = []
    for cell, line in zip(notebook.cells, starts, strict=True):
        keys = {k: v for k, v in cell.metadata.items() if k != "lines_to_next_cell"}
        text, alts = (cell.source, {}) if cell.cell_type != "code" else alternatives(cell.source)
        for part in _parts(Cell(cell.cell_type, text, keys, line=line, alts=alts)):
            cells.append(replace(part, index=len(cells) + 1))
    return Chapter(path, tuple(cells))


def alternatives(code):
    """``(code without them, {line of a plots.show: its alternative text})``.

    The text stands in comment lines right below the call, ``# alt: A grid of …``; readers of a notebook need not
    see it. Lines are counted in the code that is left. Comments elsewhere stay, and a rule refuses them.
    """
    rows, shows = code.split("\n"), _shows(code)
    kept, alts, end = [], {}, 0
    for i, row in enumerate(rows, 1):
        if i <= end:
            continue
        kept.append(row)
        below = [r.strip().removeprefix("# ") for r in takewhile(lambda r: r.lstrip().startswith("# "), rows[i:])]
        if i in shows and below and f"# {below[0]}".startswith(ALT):
            alts[len(kept) - (i - shows[i])] = " ".join(below).removeprefix(ALT[2:]).strip()
            end = i + len(below)
    return "\n".join(kept), alts


def _shows(code):
    """``{last line: first line}`` of each ``plots.show`` in a piece of code."""
    try:
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return {}
    return {node.end_lineno: node.lineno for node in calls if ast.unparse(node.func) == "plots.show"}


def _parts(cell):
    """A markdown cell cut before each heading in its middle, since sections fold and are listed by whole cells."""
    rows = cell.text.split("\n")
    fences = accumulate(row.startswith("```") for row in rows)
    cuts = [i for i, (row, n) in enumerate(zip(rows, fences, strict=True)) if re.match("#{1,6} ", row) and n % 2 == 0]
    cuts = [i for i in cuts if any(rows[:i])] if cell.kind == "markdown" else []
    if not cuts:
        return [cell]
    texts = ["\n".join(rows[a:b]).strip("\n") for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    defines = cell.keys.get("defines", [])
    later = [[number for number in defines if f"tag{{{number}}}" in text] for text in texts[1:]]
    first = [number for number in defines if not any(number in numbers for numbers in later)]
    keys = [{k: v for k, v in cell.keys.items() if k != "defines"}, *({} for _ in cuts)]
    keys = [own | ({"defines": n} if n else {}) for own, n in zip(keys, [first, *later], strict=True)]
    lines = [cell.line and cell.line + cut for cut in [0, *cuts]]
    return [replace(cell, text=t, keys=k, line=i) for t, k, i in zip(texts, keys, lines, strict=True)]


def names(code):
    """``(bound, used)``: names that a piece of code binds at its top level, and global names it refers to anywhere."""
    table = symtable.symtable(code, "<cell>", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    return bound, _used(table)


def names_when_defined(code):
    """Global names that running the code refers to, leaving out the bodies of its functions."""
    return {s.get_name() for s in symtable.symtable(code, "<cell>", "exec").get_symbols() if s.is_referenced()}


def _used(table):
    top = table.get_type() == "module"
    used = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return used.union(*map(_used, table.get_children()))


def called(tree):
    """Names of the functions called in a syntax tree: "close" for ``checks.close(...)``."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f.id if isinstance(f, ast.Name) else f.attr for f in calls if isinstance(f, ast.Name | ast.Attribute)}


def slug(text):
    """A text as part of a cell's id: letters and digits, with dashes between them."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", text)[:58].strip("-")
