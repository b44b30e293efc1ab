"""The wrong twins of a chapter's equations, read from ``tests/twins/chNN.py``; what they are stands there too."""

import ast
import importlib.util
import runpy
from pathlib import Path
from typing import NamedTuple

TWINS = Path("tests/twins")
CELL, BEFORE = "cell", "before"


class Twin(NamedTuple):
    """A wrong version of an equation: in the text at ``where``, ``old`` is replaced by ``new``."""

    what: str  # the mistake, for a reader: "the ½ is dropped"
    where: str  # "module:name", "chapter:name", "cell" or "before"
    old: str
    new: str


def load(folder, number):
    """The twins of chapter ``number`` ("04"): equation → list of :class:`Twin`; ``{}`` where there is no file.

    Raises ValueError naming the file and the entry that is not of the documented form.
    """
    path = Path(folder) / f"ch{number}.py"
    if not path.is_file():
        return {}
    found = runpy.run_path(str(path)).get("TWINS")
    if not isinstance(found, dict):
        raise ValueError(f"{path} should hold TWINS, a dict from an equation's number to its wrong twins")
    return {tag: [_twin(path, tag, entry) for entry in entries] for tag, entries in found.items()}


def _twin(path, tag, entry):
    if not (isinstance(entry, tuple) and len(entry) == 4 and all(isinstance(part, str) for part in entry)):
        raise ValueError(f"{path}: {tag}: expected (what, where, old, new), four strings; got {entry!r}")
    twin = Twin(*entry)
    if twin.where not in (CELL, BEFORE) and ":" not in twin.where:
        raise ValueError(f'{path}: {tag}: where should be "module:name", "chapter:name", "cell" or "before", '
                         f"got {twin.where!r}")  # fmt: skip
    if not twin.what.strip() or twin.old == twin.new or (twin.where == BEFORE) != (not twin.old):
        raise ValueError(f"{path}: {tag}: {entry!r} changes nothing, or does not say what; `old` is empty for "
                         '"before" and for nothing else')  # fmt: skip
    return twin


def out_of_place(twin, cells):
    """What is wrong with where a twin changes something, in words, or None. ``cells``: the texts that verify its
    equation. Modules are read, not imported."""
    module, colon, name = twin.where.partition(":")
    if twin.where == BEFORE or module == "chapter":
        return None
    if not colon:
        times = [text.count(twin.old) for text in cells]
    elif (text := _source_at(module, name.split("."))) is None:
        return f"there is no function or class {twin.where}"
    else:
        times = [text.count(twin.old)]
    return None if 1 in times else f"{twin.old!r} stands {max(times, default=0)} times in {twin.where}, expected once"


def _source_at(module, names):
    """The text of a function, class or method. A name that a folder re-exports is looked for in the folder."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.origin:
        return None
    file = Path(spec.origin)
    for path in [file, *(sorted(file.parent.glob("*.py")) if file.name == "__init__.py" else ())]:
        text = path.read_text(encoding="utf-8")
        node = ast.parse(text)
        for name in names:
            node = next((n for n in reversed(getattr(node, "body", ())) if getattr(n, "name", None) == name), None)
        if node is not None:
            return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
    return None
