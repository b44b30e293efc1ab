"""What has been graded, kept so that nothing is lost: a line of JSON for each submission, on disk before it counts.

A line is known by its key, a hash of the submission, the release and the package. A run that goes on reads the lines,
leaves out one that was cut off in the middle, and repeats only what is not there, or ended for reasons of ours.
"""

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path

from course_utils import files
from course_utils.commands.report.pages import LINES, read_records

SECRET = "secret"


class Book:
    """The records of a folder, by ``(id, chapter)``: the last line of each counts."""

    def __init__(self, folder, resume=False):
        self.folder = Path(folder)
        self.state = self.folder / "state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.path = self.state / LINES
        self.records = {}
        if resume:
            self._read()
        else:
            self._aside()
        self.secret = self._secret(resume)
        self._file = open(self.path, "ab")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def _read(self):
        with contextlib.suppress(FileNotFoundError):
            self.records, whole = read_records(self.path)
            if self.path.stat().st_size > whole:
                os.truncate(self.path, whole)

    def _aside(self):
        """Keep the lines of an earlier run under another name."""
        number = 1
        if self.path.exists() and self.path.stat().st_size:
            while (old := self.path.with_name(f"records-{number}.jsonl")).exists():
                number += 1
            os.replace(self.path, old)

    def _secret(self, resume):
        """Random bytes that decide the inputs of probes and the names of feedback; the same when a run goes on."""
        path = self.state / SECRET
        if resume and path.is_file():
            with contextlib.suppress(ValueError):
                return bytes.fromhex(path.read_text())
        fresh = secrets.token_bytes(32)
        files.write_text(path, fresh.hex())
        os.chmod(path, 0o600)
        return fresh

    def add(self, record):
        """Write a record; when this returns it is on the disk."""
        text = json.dumps(record, ensure_ascii=True, allow_nan=False)
        self._file.write(text.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records[record["id"], record["chapter"]] = record

    def has(self, student, chapter, key):
        """Whether this very submission has a verdict already."""
        record = self.records.get((student, chapter))
        return record is not None and record["key"] == key and record["state"] != "infra"


def key_of(content, *words):
    """What a verdict is remembered by: the bytes that were handed in, and hashes of all that judged them."""
    digest = hashlib.sha256(b"none" if content is None else b"file" + content)
    for word in words:
        digest.update(b"\0" + str(word).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


def package_hash(package):
    """Hash of the Python files that decide a verdict: the library and the grader."""
    digest = hashlib.sha256()
    for path in sorted(Path(package).rglob("*.py")):
        parts = path.relative_to(package).parts
        if parts[0] != "commands" or parts[1] in ("grade", "build"):
            digest.update("/".join(parts).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
