"""What was released: the notebooks that students got, and the exercises that are graded in them."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

NAME, FORMAT = "release.json", 1


@dataclass(frozen=True)
class Chapter:
    """A released chapter: its notebook, and its exercises by id, in order. ``practice``: ids that give no points."""

    number: str
    stem: str
    notebook: dict
    exercises: dict
    practice: frozenset = field(default_factory=frozenset)

    def cell_of(self, exercise_id):
        """The cell of an exercise in our own notebook."""
        return next(cell for cell in self.notebook["cells"] if cell["metadata"].get("exercise") == exercise_id)


def read(folder):
    """``(what release.json says, hash of the release)``. ValueError where the folder is no release, or was changed."""
    folder = Path(folder)
    try:
        text = (folder / NAME).read_bytes()
        told = json.loads(text)
        chapters = {number: (str(c["notebook"]), str(c["sha256"])) for number, c in told["chapters"].items()}
    except FileNotFoundError:
        raise ValueError(f"{folder} is no release: it has no {NAME}; `course release` makes one") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / NAME} cannot be read: {type(error).__name__}: {error}") from None
    if told.get("format") != FORMAT:
        raise ValueError(f"{folder / NAME} has the format {told.get('format')!r}, expected {FORMAT}")
    for name, digest in chapters.values():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path} is not as it was released: take a fresh copy of the release")
    return told, hashlib.sha256(text).hexdigest()


def chapters(folder, told, pack=None, wanted=()):
    """The released chapters as ``{number: Chapter}``. Imports torch. ValueError where the exercises are others now."""
    from course_utils.commands.release import pack as packs

    found = {}
    for number, entry in told["chapters"].items():
        if wanted and number not in wanted:
            continue
        counted, practice = packs.of_chapter(number, pack)
        known = {exercise.id: exercise for exercise in (*counted, *practice)}
        released = {e["id"]: (e["kind"], e["points"]) for e in entry["exercises"]}
        here = {e.id: (e.kind, e.points) for e in known.values()}
        if released != here:
            raise ValueError(f"chapter {number} was released with other exercises ({', '.join(released)}) than are "
                             f"here ({', '.join(here)}): grade with the package and pack of the release")
        notebook = nbformat.read(Path(folder) / entry["notebook"], as_version=4)
        order = [e["id"] for e in entry["exercises"]]
        found[number] = Chapter(number, Path(entry["notebook"]).stem, notebook, {i: known[i] for i in order},
                                frozenset(e.id for e in practice))  # fmt: skip
    return found
