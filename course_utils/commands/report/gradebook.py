"""The gradebook: a row a student, made from records; as CSV that no spreadsheet takes for formulas, and as JSON."""

import csv
import io

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
STATES = ("graded", "rejected", "infra")


def rows(plan, records):
    """A row for each student: id, state, points, of, a column an exercise, predictions, notes.

    ``plan``: what is graded, as ``course grade`` writes it: students in order, and the exercises of each chapter.
    A student without a record yet has no row.
    """
    found = []
    for student in plan["students"]:
        mine = {c: records[student, c] for c in plan["chapters"] if (student, c) in records}
        if mine:
            found.append(row(student, mine, plan))
    return found


def row(student, mine, plan):
    """One row, from the student's records by chapter."""
    states = [record["state"] for record in mine.values()]
    complete = len(mine) == len(plan["chapters"])
    state = "infra" if "infra" in states or not complete else "graded" if "graded" in states else "rejected"
    points, of, exercises, guesses = 0, 0, {}, {}
    for chapter, about in plan["chapters"].items():
        results = mine.get(chapter, {}).get("exercises", {})
        for exercise in about["exercises"]:
            result = results.get(exercise["id"], {"state": "infra", "points": 0})
            if exercise["kind"] == "predict":
                guesses[exercise["id"]] = result["state"]
            elif exercise["practice"]:
                continue
            else:
                points, of = points + result["points"], of + exercise["points"]
                exercises[exercise["id"]] = result["points"] if result["state"] not in ("infra",) else ""
    notes = [f"{chapter}: {record['note']}" for chapter, record in mine.items() if record["note"]]
    return {"id": student, "state": state, "points": points, "of": of, "exercises": exercises,
            "predictions": sum(guess == "passed" for guess in guesses.values()), "notes": "; ".join(notes)}  # fmt: skip


def exercise_ids(plan):
    """The exercises that have a column, in order."""
    return [e["id"] for about in plan["chapters"].values() for e in about["exercises"]
            if e["kind"] != "predict" and not e["practice"]]  # fmt: skip


def safe(value):
    """A cell of a CSV: a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    if isinstance(value, str):
        value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return f"'{value}" if value.lstrip(" ").startswith(FORMULA) else value
    return value


def table(columns, lines):
    """CSV text with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([safe(column) for column in columns])
    writer.writerows([safe(value) for value in line] for line in lines)
    return out.getvalue()


def as_csv(plan, found):
    """``gradebook.csv``: id, state, points, of, a column an exercise, predictions (outside the total), notes."""
    ids = exercise_ids(plan)
    columns = ["id", "state", "points", "of", *ids, "predictions", "notes"]
    lines = [[r["id"], r["state"], r["points"], r["of"], *(r["exercises"].get(i, "") for i in ids),
              r["predictions"], r["notes"]] for r in found]  # fmt: skip
    return table(columns, lines)


def as_canvas(plan, found):
    """Canvas's import: its five columns for the student, one for the assignment, and a row of points possible.

    What the roster says in columns of these names is used; a student without a verdict has an empty cell.
    """
    name = f"{plan['title']} ({plan['canvas_id']})" if plan.get("canvas_id") else plan["title"]
    columns = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", name]
    of = max((r["of"] for r in found), default=0)
    lines = [["    Points Possible", "", "", "", "", of]]
    for r in found:
        known = plan["roster"].get(r["id"], {})
        lines.append([known.get("student", known.get("name", r["id"])), known.get("canvas id", ""),
                      known.get("sis user id", r["id"]), known.get("sis login id", ""), known.get("section", ""),
                      "" if r["state"] == "infra" else r["points"]])  # fmt: skip
    return table(columns, lines)


def as_moodle(plan, found):
    """Moodle's import: id number, grade, feedback."""
    lines = []
    for r in found:
        known = plan["roster"].get(r["id"], {})
        told = f"{r['points']} of {r['of']} points" if r["state"] == "graded" else f"{r['state']}: {r['notes']}"
        lines.append([known.get("id number", known.get("idnumber", r["id"])),
                      "" if r["state"] == "infra" else r["points"], told])  # fmt: skip
    return table(["ID number", plan["title"], "Feedback comments"], lines)
