# ruff: noqa: E501  (tables of cases are long lines)
"""What is handed in, what is kept, and what is reported: without a sandbox."""

import csv
import io
import json
import os

import pytest
from click.testing import CliRunner
from commands import grading
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils import exercises
from course_utils.commands.grade import grade, intake, record, rule, verdict, wire
from course_utils.commands.report import feedback, gradebook, report, similarity

IDS = {"1.1", "1.2"}
PLAN = {
    "students": ["ada", "=1+1", "bob"], "title": "Homework 1", "roster": {"ada": {"id": "ada", "student": "Lovelace, Ada",
                                                                                  "canvas id": "7"}},
    "chapters": {"01": {"stem": "01_small", "exercises": [
        {"id": "1.1", "kind": "write", "points": 2, "practice": False, "given": ""},
        {"id": "1.2", "kind": "predict", "points": 1, "practice": False, "given": ""}]}},
}  # fmt: skip


def result(state="passed", points=2, kind="write", **more):
    return {"state": state, "points": points, "of": 2, "kind": kind, "practice": False, "property": "", "hint": "",
            "found": "", "seconds": 1.0} | more  # fmt: skip


def a_record(student="ada", state="graded", **exercises):
    found = {"1.1": result(), "1.2": result(kind="predict", points=1)} | exercises
    return {"id": student, "chapter": "01", "state": state, "note": "", "exercises": found, "seconds": 2.0, "key": student}


# ---- intake ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content, why", [
    (b"", "no JSON"), (b"[]", "no object"), (b'{"cells": [', "no JSON"), (b"\xff\xfe", "UTF-8"), (b"null", "no object"),
    (b'{"nbformat": 3, "worksheets": []}', "version 4"), (b'{"nbformat": true, "cells": []}', "version 4"),
    (b'{"nbformat": 4}', "no list of cells"), (b'{"nbformat": 4, "cells": {}}', "no list of cells"),
    (b"[" * 10_000 + b"]" * 10_000, "deep"), (b'{"nbformat": 4, "cells": ' + b"[" * 200 + b"]" * 200 + b"}", "deep"),
    (b'{"nbformat": ' + b"9" * 5_000 + b"}", "no JSON"),
])  # fmt: skip
def test_a_file_that_is_no_notebook_is_named_with_the_reason(content, why):
    with pytest.raises(intake.Unreadable, match=why):
        intake.sources(content, IDS)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4), max_leaves=20)
CELLS = st.fixed_dictionaries({"cell_type": st.sampled_from(["code", "markdown", 3]), "source": JSON, "metadata": JSON | (
    st.fixed_dictionaries({"exercise": st.sampled_from(["1.1", "1.2", "9.9", None])}))}, optional={"id": JSON})


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda v: json.dumps(v).encode())
       | st.lists(CELLS | JSON, max_size=5).map(lambda c: json.dumps({"nbformat": 4, "cells": c}).encode()))
def test_whatever_is_handed_in_becomes_sources_or_a_reason(content):
    try:
        found = intake.sources(content, IDS)
    except intake.Unreadable as error:
        assert str(error)
    else:
        assert found.keys() <= IDS and all(text is None or isinstance(text, str) for text in found.values())


def test_files_that_are_no_files_are_refused(tmp_path):
    place = tmp_path / "ada"
    place.mkdir()
    (place / "link.ipynb").symlink_to("/etc/passwd")
    os.mkfifo(place / "pipe.ipynb")
    (place / "folder.ipynb").mkdir()
    (place / "empty.ipynb").touch()
    for name in ("link", "pipe", "folder", "empty", "missing"):
        with pytest.raises(intake.Unreadable):
            intake.read(place / f"{name}.ipynb", tmp_path)
    with pytest.raises(intake.Unreadable, match="nothing was handed in"):
        intake.read(None, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.symlink_to("/etc")
    with pytest.raises(intake.Unreadable, match="link"):
        intake.read(elsewhere / "passwd", tmp_path)


def test_a_cell_that_kept_its_id_wins_over_copies_of_it():
    cell = {"cell_type": "code", "metadata": {"exercise": "1.1"}}
    cells = [cell | {"id": "exercise-1-1", "source": ["a\n", "b"]}, cell | {"id": "x", "source": "copy"},
             cell | {"metadata": {"exercise": "1.2"}, "source": "y" * 60_000}]  # fmt: skip
    content = json.dumps({"nbformat": 4, "cells": cells}).encode()
    assert intake.sources(content, IDS) == {"1.1": "a\nb", "1.2": None}


def test_students_come_from_folders_or_from_the_roster(tmp_path):
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "01_small.ipynb").touch()
    (tmp_path / "bob.ipynb").touch()
    found, strangers = intake.students(tmp_path, {"01": "01_small"})
    assert [s.id for s in found] == ["ada", "bob"] and not strangers and all(s.paths["01"] for s in found)
    roster = tmp_path / "roster.csv"
    roster.write_text("\ufeffID,Student\nada,Ada\ncy,Cy\n", encoding="utf-8")
    rows = intake.read_roster(roster)
    found, strangers = intake.students(tmp_path, {"01": "01_small"}, rows)
    assert [s.id for s in found] == ["ada", "cy"] and found[1].paths["01"] is None and strangers == ["bob"]
    for text, why in (("name\nx\n", "column called id"), ("id\na\na\n", "twice"), ("id\n", "nobody")):
        roster.write_text(text)
        with pytest.raises(ValueError, match=why):
            intake.read_roster(roster)
    assert list(grade.unique([intake.Handed("a\x07", {}), intake.Handed("a\x08", {})])) == ["a\ufffd", "a\ufffd (2)"]


# ---- the wall --------------------------------------------------------------------------------------------------------
@settings(max_examples=150, deadline=None)
@given(JSON, st.lists(st.binary(max_size=20), max_size=3))
def test_what_comes_through_the_wall_is_a_value_or_broken(described, blobs):
    try:
        wire.decode(described, blobs, lambda d: None)
    except wire.Broken:
        pass


@pytest.mark.parametrize("described", [
    {"is": "tensor", "dtype": "float64", "shape": [2], "blob": 0}, {"is": "tensor", "dtype": "object", "shape": [], "blob": 0},
    {"is": "tensor", "dtype": "float64", "shape": [-1], "blob": 0}, {"is": "tensor", "dtype": "float64", "shape": [1], "blob": 9},
    {"is": "int", "value": "9" * 5_000}, {"is": "float", "value": "x"}, {"is": "tuple", "parts": 3}, 7,
])  # fmt: skip
def test_a_description_that_lies_is_broken(described):
    with pytest.raises(wire.Broken):
        wire.decode(described, [b"12345678"], None)


# ---- the rule --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [
    "def entropy(p):\n    vae = 3\n    return vae", "def entropy(p, distributions):\n    return distributions.kl(p)",
    "def entropy(p):\n    from course_utils import checks\n    return checks.all_binary(3)",
    "def entropy(p):\n    return [steps for steps in p]",
])  # fmt: skip
def test_names_that_only_look_like_the_courses_are_no_offence(text):
    assert rule.broken(grading.ENTROPY, text, [grading.SETUP]) == ""


# ---- records ---------------------------------------------------------------------------------------------------------
def test_a_line_that_was_cut_off_is_left_out_and_nothing_else(tmp_path):
    with record.Book(tmp_path) as book:
        book.add(a_record("ada"))
        book.add(a_record("bob"))
        secret, path = book.secret, book.path
    whole = path.read_bytes()
    for cut in (1, 10, len(whole.splitlines(True)[1]) - 1):
        path.write_bytes(whole[:-cut])
        with record.Book(tmp_path, resume=True) as book:
            assert set(book.records) == {("ada", "01")} and book.secret == secret
            assert book.has("ada", "01", "ada") and not book.has("ada", "01", "other") and not book.has("bob", "01", "bob")
            book.add(a_record("bob"))
        assert path.read_bytes() == whole
    with record.Book(tmp_path) as book:
        assert not book.records and book.secret != secret
    assert (path.with_name("records-1.jsonl")).read_bytes() == whole


def test_infra_is_graded_again(tmp_path):
    with record.Book(tmp_path) as book:
        book.add(a_record("ada", "infra"))
        assert not book.has("ada", "01", "ada")


# ---- reports ---------------------------------------------------------------------------------------------------------
def test_the_gradebook_has_a_row_a_student_and_no_formula():
    records = {("ada", "01"): a_record(), ("=1+1", "01"): a_record("=1+1", **{"1.1": result("failed", 0)}),
               ("bob", "01"): {**a_record("bob", "rejected"), "note": "@it is empty", "exercises": {}}}  # fmt: skip
    found = gradebook.rows(PLAN, records)
    rows = list(csv.DictReader(io.StringIO(gradebook.as_csv(PLAN, found))))
    assert [list(row.values())[:5] for row in rows] == [
        ["ada", "graded", "2", "2", "2"], ["'=1+1", "graded", "0", "2", "0"], ["bob", "rejected", "0", "2", ""]]
    assert rows[0]["predictions"] == "1"  # outside the total
    assert [gradebook.safe(text) for text in ("=x", " +1", "-", "@a", "\tx", "a=b", 3)] == [
        "'=x", "' +1", "'-", "'@a", "'\tx", "a=b", 3]  # fmt: skip
    canvas = list(csv.reader(io.StringIO(gradebook.as_canvas(PLAN | {"canvas_id": "12"}, found))))
    assert canvas[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Homework 1 (12)"]
    assert canvas[1][0].strip() == "Points Possible" and canvas[1][5] == "2" and canvas[2][:2] == ["Lovelace, Ada", "7"]
    assert gradebook.as_moodle(PLAN, found).splitlines()[1] == "ada,2,2 of 2 points"


def test_infra_is_never_a_zero():
    records = {("ada", "01"): a_record("ada", "infra", **{"1.1": result("infra", 0)})}
    [row] = gradebook.rows(PLAN, records)
    assert row["state"] == "infra" and row["exercises"]["1.1"] == ""
    assert gradebook.as_canvas(PLAN, [row]).splitlines()[-1].endswith(",")


def test_feedback_escapes_what_a_student_wrote_and_allows_nothing_to_load():
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    mine = {"01": a_record(**{"1.1": result("failed", 0, property="a <b> property", hint="think")}) | {"sources": {"1.1": evil}}}
    shown = {"01": {"1.1": [["text", evil], ["png", "AAAA"], ["png", '"><script>']]}}
    page = feedback.page(evil, PLAN, mine, shown)
    assert "<script" not in page and "onerror=alert(1)>" not in page and page.count("data:image/png") == 1
    assert "a &lt;b&gt; property" in page and "default-src 'none'" in page and "href" not in page
    assert feedback.file_name("../../" + evil).count("/") == 0 and feedback.file_name("…") == "student"


def test_similar_answers_are_listed_without_what_everybody_was_given():
    given_text = "def f(x):\n    '''Doc.'''\n    raise NotImplementedError"
    one = "def f(x):\n    total = 0\n    for i in range(3):\n        total += x[i] ** 2 - 3 * x[i] / (1 + i)\n    return total"
    other = "def f(x):\n    return (x ** 2 - 3 * x / torch.arange(1, 4)).sum() + 0 * x.mean() - x.max() + x.max()"
    plan = {"chapters": {"01": {"exercises": [{"id": "1.1", "given": given_text}]}}}
    sources = {"a": one, "b": one.replace("total", "t"), "c": other, "d": given_text}
    records = {(s, "01"): {"sources": {"1.1": text}} for s, text in sources.items()}
    assert [(name, *who) for _, name, *who in similarity.pairs(plan, records)] == [("1.1", "a", "b")]


def test_report_writes_every_form_from_the_records_alone(tmp_path):
    with record.Book(tmp_path) as book:
        book.add(a_record())
        (book.state / "plan.json").write_text(json.dumps(PLAN))
    run = CliRunner().invoke
    for form, name in (("csv", "gradebook.csv"), ("canvas", "canvas.csv"), ("moodle", "moodle.csv")):
        done = run(report.main, [str(tmp_path), "--format", form])
        assert done.exit_code == 0 and (tmp_path / name).is_file(), done.output
    [page] = tmp_path.glob("feedback/*/ada.html")
    assert len(page.parent.name) == 32 and "2 of 2 points" in page.read_text()
    assert "hardest first" in (tmp_path / "summary.html").read_text()
    assert run(report.main, [str(tmp_path / "state")]).exit_code == 1


def test_a_fault_of_ours_while_an_answer_is_loaded_is_no_verdict(monkeypatch):
    """What the probe tells of is the student's; any other exception goes on, and ends as ``infra``."""
    class Broken:
        error = None

        def load(self, cells, seed):
            raise KeyError("ours")

    exercise = exercises.find("1.1")
    with pytest.raises(KeyError, match="ours"):
        verdict.judged(exercise, [], Broken(), b"secret")
    Broken.error = {"type": "ZeroDivisionError", "line": 3, "text": "", "cell": "", "bare": False}
    assert verdict.judged(exercise, [], Broken(), b"secret")["state"] == "failed"
