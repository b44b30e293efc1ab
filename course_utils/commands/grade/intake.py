"""What was handed in: files of strangers, read without trust. Every one becomes sources or a reason, never a traceback.

Only the text of exercise cells is taken. Names and ids come from the roster or from the name of the folder, never from
inside a file.
"""

import csv
import json
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from course_utils.commands.build.source import slug

MAX_FILE = 50_000_000  # bytes; a chapter with all its figures has about 5 MB
MAX_CELLS = 5_000
MAX_SOURCE = 50_000  # characters of one exercise
MAX_DEPTH = 100
LONGEST_ID = 100


class Unreadable(Exception):
    """Why a notebook cannot be graded, in words."""


@dataclass(frozen=True)
class Handed:
    """One student: the id of the row, and the path of each chapter's notebook, None where there is none."""

    id: str
    paths: dict


def students(folder, stems, roster=None):
    """Who is graded: everybody on the roster, else every folder (or, for one chapter, every notebook) there is.

    ``stems``: ``{number: stem}`` of the chapters. Returns ``(list of Handed, names there that belong to nobody)``.
    """
    folder = Path(folder)
    entries = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir(follow_symlinks=False):
            entries[entry.name] = {n: Path(entry.path) / f"{stem}.ipynb" for n, stem in stems.items()}
        elif len(stems) == 1 and entry.name.endswith(".ipynb"):
            name = entry.name.removesuffix(".ipynb")
            entries.setdefault(name, {n: Path(entry.path) for n in stems})
    ids = list(entries) if roster is None else [row["id"] for row in roster]
    strangers = [name for name in entries if name not in set(ids)]
    nothing = dict.fromkeys(stems)
    found = [Handed(name, {n: p if p is not None and os.path.lexists(p) else None
                           for n, p in entries.get(name, nothing).items()}) for name in ids]  # fmt: skip
    return found, strangers


def read_roster(path):
    """The rows of a roster: a CSV with a column ``id``; the others are kept for Canvas and Moodle. ValueError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = {name.strip().lower(): name for name in reader.fieldnames or () if name}
            if "id" not in names:
                raise ValueError(f"{path} needs a column called id; it has {', '.join(names) or 'none'}")
            rows = []
            for row in reader:
                if (student := (row[names["id"]] or "").strip()):
                    rows.append({"id": student} | {k: (row[v] or "").strip() for k, v in names.items() if k != "id"})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a CSV in UTF-8: {error}") from None
    ids = [row["id"] for row in rows]
    if twice := {student for student in ids if ids.count(student) > 1}:
        raise ValueError(f"{path} names some ids twice: {', '.join(sorted(twice)[:5])}")
    if not ids:
        raise ValueError(f"{path} names nobody")
    return rows


def shown_id(text):
    """An id as it may be written into reports: one line, no control characters, at most 100 letters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return kept[:LONGEST_ID].strip() or "(no id)"


def read(path, root):
    """The bytes of a submitted file below the folder ``root``. :class:`Unreadable` for whatever is no plain file."""
    if path is None:
        raise Unreadable("nothing was handed in")
    try:
        if Path(os.path.realpath(path.parent)) not in (Path(os.path.realpath(root)),
                                                       Path(os.path.realpath(root)) / path.parent.name):  # fmt: skip
            raise Unreadable("its folder is a link to elsewhere")
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Unreadable(f"it is no regular file, or cannot be opened ({type(error).__name__})") from None
    told = os.fstat(handle)
    if not stat.S_ISREG(told.st_mode):
        os.close(handle)
        raise Unreadable("it is no regular file")
    with os.fdopen(handle, "rb") as file:
        if told.st_size > MAX_FILE:
            raise Unreadable(f"it has {told.st_size:,} bytes, more than {MAX_FILE:,}")
        content = file.read(MAX_FILE + 1)
    if not content.strip():
        raise Unreadable("the file is empty")
    return content


def sources(content, exercise_ids):
    """``{exercise id: source}`` of the exercise cells in a notebook's bytes, those that are there."""
    try:
        _shallow(content)
        notebook = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8 text") from None
    except (ValueError, RecursionError):
        raise Unreadable("it is no JSON: the file is damaged or cut off") from None
    if not isinstance(notebook, dict):
        raise Unreadable("it is no notebook: its JSON is no object")
    version = notebook.get("nbformat")
    if type(version) is not int or version != 4:
        raise Unreadable(f"it is no notebook of version 4 (nbformat is {str(version)[:20]!r})")
    cells = notebook.get("cells")
    if not isinstance(cells, list) or len(cells) > MAX_CELLS:
        raise Unreadable("it has no list of cells, or too long a one")
    found = {}
    for by_id in (False, True):  # a cell that kept its id wins over copies of it
        for cell in cells:
            name = _exercise(cell, by_id, exercise_ids)
            if name is not None:
                found[name] = _source(cell)
    return found


def _shallow(content):
    """Refuse brackets in brackets before a parser sees them."""
    depth = most = 0
    for piece in re.findall(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', content, re.S):
        if piece in (b"[", b"{"):
            depth += 1
            most = max(most, depth)
        elif piece in (b"]", b"}"):
            depth -= 1
    if most > MAX_DEPTH:
        raise Unreadable(f"its JSON is nested more than {MAX_DEPTH} deep")


def _exercise(cell, by_id, exercise_ids):
    if not isinstance(cell, dict) or cell.get("cell_type") != "code":
        return None
    if by_id:
        return next((i for i in exercise_ids if cell.get("id") == cell_id(i)), None)
    metadata = cell.get("metadata")
    name = metadata.get("exercise") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name in exercise_ids else None


def cell_id(exercise_id):
    """The id that an exercise's cell has in every release."""
    return slug(f"exercise-{exercise_id}")


def _source(cell):
    """The text of a cell; None for one that is no text, or too long."""
    source = cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str) or len(source) > MAX_SOURCE:
        return None
    return source.encode("utf-8", "replace").decode()
