"""The reports of a folder of grades: gradebooks, a page for each student, a page for the class."""

import hashlib
import hmac
import json
from pathlib import Path

from course_utils import files
from course_utils.commands.report import feedback, gradebook, summary

LINES = "records.jsonl"
rows = gradebook.rows


def read_records(path):
    """``({(id, chapter): record}, bytes)`` of a file of records: the last line of each counts.

    ``bytes``: how long the whole lines are. What a run left that was killed while it wrote is not among them.
    """
    found, whole = {}, 0
    with open(path, "rb") as file:
        for line in file:
            try:
                record = json.loads(line) if line.endswith(b"\n") else None
                found[record["id"], record["chapter"]] = record
            except (ValueError, TypeError, KeyError):
                break
            whole += len(line)
    return found, whole


def gradebooks(folder, plan, records):
    """Write ``gradebook.csv`` and ``gradebook.json``."""
    found = rows(plan, records)
    files.write_text(Path(folder) / "gradebook.csv", gradebook.as_csv(plan, found))
    files.write_json(Path(folder) / "gradebook.json", {"students": found, "exercises": gradebook.exercise_ids(plan)})


def feedback_of(folder, plan, records, student, secret):
    """Write the page of one student."""
    place = Path(folder) / "feedback" / hmac.new(secret, student.encode(), hashlib.sha256).hexdigest()[:32]
    place.mkdir(parents=True, exist_ok=True)
    mine = {c: records[student, c] for c in plan["chapters"] if (student, c) in records}
    shown = {c: files_read(Path(folder) / "shown" / f"{record['key']}.json") for c, record in mine.items()}
    path = place / f"{feedback.file_name(student)}.html"
    files.write_text(path, feedback.page(student, plan, mine, shown))
    return path


def files_read(path):
    """The JSON in a file; nothing where it is not there or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def everything(folder, plan, records, secret):
    """Write all that can be made from the records."""
    gradebooks(folder, plan, records)
    where = {}
    for student in plan["students"]:
        if any((student, c) in records for c in plan["chapters"]):
            where[student] = feedback_of(folder, plan, records, student, secret).relative_to(folder)
    lines = [[student, str(path)] for student, path in where.items()]
    files.write_text(Path(folder) / "feedback.csv", gradebook.table(["id", "page"], lines))
    files.write_text(Path(folder) / "summary.html", summary.page(plan, records))
