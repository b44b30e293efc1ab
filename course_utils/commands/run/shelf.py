"""The folder of a run: what stands in it of each chapter, and a summary that never says more than that.

A chapter's new files are made in a folder of their own beside the old ones. They take their places when the chapter
has ended, in an order that may be cut off at any point, by a full disk or by ``kill -9``:

1. everything that needs room on the disk is written: the new files, and the new state beside them;
2. the summary stops saying anything good about the chapter, if it did;
3. the old state goes, then each file is replaced by renaming, and the new state comes last;
4. the summary says what the new state says.

So a state that is there belongs to the files that are there, and the summary is read from states.
"""

import hashlib
import json
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from course_utils import files
from course_utils.commands.run import report
from course_utils.commands.run.recorded import Unfit, metrics_of

STAGING = "new-"
CUT_OFF = "its files were being replaced when a run ended; run the chapter again"


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def astray(out, name, entry):
    """What of a passed chapter's files no longer stands by its entry or state, in words; empty when all of it does.

    A notebook that was saved again still counts while it holds the same numbers.
    """
    known = entry.get("files") or {f"{name}.ipynb": None, f"{name}.html": None}
    for file, digest in known.items():
        path = Path(out) / file
        try:
            same = digest in (None, digest_of(path))
            if not same and path.suffix == ".ipynb":
                same = metrics_of(json.loads(path.read_text(encoding="utf-8"))) == entry["metrics"]
        except (FileNotFoundError, IsADirectoryError):
            return f"{file} is gone"
        except (ValueError, LookupError, TypeError, AttributeError, Unfit):
            same = False
        if not same:
            return f"{file} is not the one that the run wrote"
    return ""


def nothing(status, failure=None, **more):
    """A result that holds no number."""
    result = {"status": status, "failure": failure, "metrics": {}, "notes": [], "cells": 0, "wall_seconds": 0.0}
    return result | more  # what every result has, and what only some have


class Shelf:
    """`out` with one chapter after another put into it. `results`: chapter → what stands there now."""

    def __init__(self, out, floors, libraries, package, ledger=None):
        self.out, self.floors, self.libraries, self.package = Path(out), floors, libraries, package
        self.ledger = ledger or {}  # equation → what the notebooks' ledger keeps of it
        self.results, self.absent, self.remarks = {}, {}, {}
        self.told = set()  # chapters of which the summary on the disk says that they passed
        self.trouble = None  # why the summary could not be written the last time, if it could not

    def open(self):
        """Read what earlier runs left. The folder must be ours: see `run.only_run`.

        Raises ``OSError`` for a file that is there and cannot be read: what cannot be judged is not to be replaced.
        """
        for left in (self.out / "state").glob(f"{STAGING}*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        for path in sorted((self.out / "state").glob("*.json")):
            state = self.state_of(path)
            here = [path for path in self.places(path.stem)[:2] if path.exists()]
            if state is None or (not here and state["status"] == "passed"):
                continue  # not ours, or taken away with its files
            if state["status"] == "passed" and (why := astray(self.out, path.stem, state)):
                failure = {"reason": "files", "message": f"{why}; run the chapter again", "traceback": ""}
                state |= {"status": "failed", "failure": failure, "metrics": {}}
            self.results[path.stem] = state
        for path in self.out.glob("*.ipynb"):
            if path.is_file():
                self.results.setdefault(path.stem, nothing("interrupted", _failure("interrupted", CUT_OFF)))
        with suppress(OSError, ValueError, TypeError, AttributeError):
            chapters = json.loads((self.out / "metrics.json").read_text(encoding="utf-8"))["chapters"]
            self.told = {name for name, entry in chapters.items() if entry["status"] == "passed"}
        if any(self.status(name) != "passed" for name in self.told):
            self.write()

    def state_of(self, path):
        """A state file as a result, or None when it is none of ours."""
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            whole = state.keys() >= nothing("").keys() and isinstance(state["metrics"], dict)
        except (ValueError, AttributeError, TypeError):
            return None
        return state if whole else None

    def status(self, name):
        return self.results.get(name, {}).get("status")

    def places(self, name):
        """Where the notebook, the page, the log and the state of a chapter belong."""
        return (self.out / f"{name}.ipynb", self.out / f"{name}.html", self.out / "logs" / f"{name}.txt",
                self.out / "state" / f"{name}.json")  # fmt: skip

    def stage(self):
        """A new folder for the files of a chapter that starts."""
        return Path(tempfile.mkdtemp(prefix=STAGING, dir=self.out / "state"))

    def put(self, name, staged, result):
        """Take a finished chapter in, from its folder `staged`. Returns the result, which says so if that failed.

        An interrupted chapter does not replace one that passed.
        """
        if result["status"] == "interrupted" and self.status(name) == "passed":
            self.remark(name, "a later run was interrupted in this chapter")
            return result
        try:
            result = self.replace(name, staged, result) if staged else result
        except OSError as error:
            message = f"its results could not be put in place: {error}; make room there and run the chapter again"
            result = result | {"status": "failed", "metrics": {}, "failure": _failure("disk", message)}
        self.results[name] = result
        self.write()
        return result

    def replace(self, name, staged, result):
        """The four steps of the module's text, without the last. Returns the result with its files."""
        new = [staged / f"{name}.ipynb", staged / f"{name}.html", staged / "log.txt", staged / "state.json"]
        old = self.places(name)
        pairs = list(zip(new, old, strict=True))
        if new[0].exists():
            result = result | {"files": {path.name: digest_of(path) for path in new[:2] if path.exists()}}
        else:  # nothing was run, or nothing could be written: the files of an earlier run stay
            pairs = pairs[2:]
            if old[0].exists():
                said = "its notebook and page are those of an earlier run"
                result = result | {"files": {}, "notes": [*result["notes"], said]}
        files.write_json(new[3], result)
        self.hide(name)
        old[3].unlink(missing_ok=True)
        for source, target in pairs:
            if source.exists():
                source.replace(target)
            else:
                target.unlink(missing_ok=True)
        return result

    def hide(self, name):
        """Have the summary on the disk say no longer that a chapter passed."""
        if name in self.told:
            unsure = nothing("interrupted", _failure("interrupted", CUT_OFF))
            self.write_summary(self.summary("interrupted", self.results | {name: unsure}), page_first=True)

    def remark(self, name, text):
        """Something that the next summaries say of a chapter that stands here from an earlier run."""
        self.remarks[name] = f"{text}; this is the result of {self.results[name].get('written', 'an earlier run')}"

    def summary(self, status=None, results=None):
        results = self.absent | (self.results if results is None else results)
        results = {
            name: result | {"notes": [*result["notes"], *([self.remarks[name]] if name in self.remarks else [])]}
            for name, result in sorted(results.items())
        }
        return report.summarise(results, self.floors, self.libraries, self.package, status)

    def write(self, status="interrupted"):
        """Write the summary; until the run has ended it says that it has not. A failure is kept in `trouble`."""
        summary = self.summary(status)
        try:
            self.write_summary(summary)
            self.trouble = None
        except OSError as error:
            self.trouble = error
        return summary

    def write_summary(self, summary, page_first=False):
        """`metrics.json`, `laws.html` and `index.html`. What is taken back leaves the page first; what is new comes
        there last."""
        from course_utils.commands.pages import index, laws

        steps = [
            lambda: files.write_json(self.out / "metrics.json", summary),
            lambda: files.write_text(self.out / laws.NAME, laws.page(summary, self.out, self.ledger)),
            lambda: files.write_text(self.out / "index.html", index.page(summary, self.out)),
        ]
        for step in reversed(steps) if page_first else steps:
            step()
        self.told = {name for name, entry in summary["chapters"].items() if entry["status"] == "passed"}


def _failure(reason, message):
    return {"reason": reason, "message": message, "traceback": ""}


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
