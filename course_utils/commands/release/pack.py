"""A private exercise pack: a folder with a module ``chNN.py`` for each chapter, in the same form as the course's own.

Each holds ``EXERCISES``, with ids of its own such as "1.p1". A release puts their stubs at the end of the chapter; the
references, probes and wrong answers stay in the folder, which students never see. Where a pack has exercises for a
chapter, these alone count for points there, and the chapter's own are practice.
"""

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from course_utils import exercises


@dataclass(frozen=True)
class Pack:
    """The exercises of a pack by chapter, ``{"01": (Exercise, …)}``, with the pack's name and the hash of its files."""

    name: str
    sha256: str
    chapters: dict


def load(folder):
    """The :class:`Pack` in a folder. Raises ValueError naming what is wrong with it."""
    folder = Path(folder)
    files = sorted(folder.glob("ch[0-9][0-9].py"))
    if not files:
        raise ValueError(f"{folder} is no exercise pack: it has no file chNN.py, such as ch01.py")
    chapters = {path.stem[2:]: _exercises(path) for path in files}
    digest = hashlib.sha256(b"\0".join(path.name.encode() + path.read_bytes() for path in sorted(folder.glob("*.py"))))
    return Pack(folder.resolve().name, digest.hexdigest(), chapters)


def _exercises(path):
    number = path.stem[2:]
    name = f"course_pack_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        found = tuple(module.EXERCISES)
    except Exception as error:  # a pack is somebody's program: it can fail in any way
        del sys.modules[name]
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    ids = [exercise.id for exercise in found]
    public = {exercise.id for exercise in own(number)}
    if len(set(ids)) != len(ids) or public & set(ids) or any(exercise.chapter != number for exercise in found):
        raise ValueError(f"{path}: ids must start with {int(number)}., be different, and not those of the chapter's "
                         f"own exercises; got {', '.join(ids)}")  # fmt: skip
    return found


def own(number):
    """The chapter's own exercises; none where it has none."""
    try:
        return exercises.load(number)
    except ValueError:
        return ()


def of_chapter(number, pack=None):
    """``(those that count, those that are practice)`` of a chapter."""
    private = pack.chapters.get(number, ()) if pack else ()
    return (private, own(number)) if private else (own(number), ())
