# ruff: noqa: E501  (tables of cases are long lines)
"""``course grade`` from the outside: faults, a kill in the middle, a roster, a scheduler with workers that die."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import grading
from nbformat import v4

from course_utils.commands import doctor
from course_utils.commands.build.quotes import solution, stub
from course_utils.commands.grade import grade, intake, sandbox
from course_utils.commands.release import pack as packs

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "notebooks" / "packs" / "example"

SETUP = "import math\nimport os\nimport matplotlib.pyplot as plt\nimport torch"


def release(folder):
    """A small release by hand: the example pack's exercises count, the chapter's own are practice."""
    counted, practice = packs.of_chapter("01", packs.load(PACK))
    cells = [v4.new_code_cell(SETUP, id="setup")]
    for e in (*practice, *counted):
        cells.append(v4.new_code_cell(stub(e.reference), id=intake.cell_id(e.id), metadata={"exercise": e.id}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    text = json.dumps(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}))
    folder.mkdir()
    (folder / "01_small.ipynb").write_text(text)
    entries = [{"id": e.id, "kind": e.kind, "points": e.points, "name": e.reference.__name__, "given": stub(e.reference),
                "counts": e in counted, "practice": e in practice} for e in (*practice, *counted)]  # fmt: skip
    told = {"format": 1, "title": "T", "pack": {"name": "example"}, "chapters": {"01": {
        "notebook": "01_small.ipynb", "sha256": hashlib.sha256(text.encode()).hexdigest(), "exercises": entries}}}  # fmt: skip
    (folder / "release.json").write_text(json.dumps(told))
    return text, {e.id: solution(e.reference) for e in counted}


def filled(text, answers):
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["metadata"].get("exercise"), cell["source"])
    return json.dumps(notebook)


def faults(folder, n_more=12):
    """Submissions, and the state and points that each must have: 30 of them, a third of which does real work."""
    text, right = release(folder / "release")
    half = right | {"1.p2": "def bayes_error(joint):\n    return joint.max()"}
    cell = {"cell_type": "code", "id": "mine", "metadata": {"tags": ["parameters"]}, "source": "raise SystemExit", "outputs": [],
            "execution_count": None}  # fmt: skip
    with_cells = json.loads(filled(text, right))
    with_cells["cells"].insert(0, cell)
    with_cells["metadata"]["kernelspec"]["name"] = "no_such_kernel"
    files = {
        "right": (filled(text, right), "graded", "4"),
        "half": (filled(text, half), "graded", "2"),
        "nothing": (text, "graded", "0"),
        "other cells and another kernel": (json.dumps(with_cells), "graded", "4"),
        "a{b}": (filled(text, right), "graded", "4"),
        "exits": (filled(text, right | {"1.p1": "import sys\nsys.exit(0)"}), "graded", "2"),
        "kills its kernel": (filled(text, half | {"1.p2": "os._exit(0)"}), "graded", "2"),
        "prints for ever": (filled(text, right | {"1.p2": "while True:\n    print('x' * 10_000)"}), "graded", "2"),
        "truncated": (text[: len(text) // 2], "rejected", "0"), "a list": ("[]", "rejected", "0"), "empty": ("", "rejected", "0"),
        "old": (json.dumps({"nbformat": 3, "worksheets": []}), "rejected", "0"), "=cmd()": ("{}", "rejected", "0"),
        "deep": ("[" * 5_000 + "]" * 5_000, "rejected", "0"), "no text": ("\0\1\2", "rejected", "0"),
    }  # fmt: skip
    files |= {f"more {i}": (text, "graded", "0") for i in range(n_more)}
    for name, (content, *_) in files.items():
        (folder / "submissions" / name).mkdir(parents=True)
        (folder / "submissions" / name / "01_small.ipynb").write_text(content)
    (folder / "submissions" / "a folder" / "01_small.ipynb").mkdir(parents=True)
    (folder / "submissions" / "a link").mkdir()
    (folder / "submissions" / "a link" / "01_small.ipynb").symlink_to("/etc/passwd")
    (folder / "submissions" / "nobody").mkdir()
    expected = {name: rest for name, (_, *rest) in files.items()}
    return expected | dict.fromkeys(("a folder", "a link", "nobody"), ["rejected", "0"])


def command(folder, *more):
    return [sys.executable, "-m", "course_utils", "grade", str(folder / "release"), str(folder / "submissions"), "-o",
            str(folder / "graded"), "--exercises", str(PACK), *more]  # fmt: skip


def table(folder):
    with open(folder / "graded" / "gradebook.csv", newline="", encoding="utf-8") as file:
        return {row["id"].removeprefix("'"): [row["state"], row["points"]] for row in csv.DictReader(file)}


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.xdist_group("sandbox")
@pytest.mark.timeout(900)
def test_thirty_submissions_with_faults_survive_a_kill_and_none_is_lost_or_counted_twice(tmp_path):
    expected = faults(tmp_path)
    assert len(expected) == 30
    process = subprocess.Popen(command(tmp_path, "--jobs", "1"), start_new_session=True, stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    records = tmp_path / "graded" / "state" / "records.jsonl"
    while process.poll() is None and (not records.exists() or records.read_bytes().count(b"\n") < 6):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = records.read_bytes()
    done = subprocess.run(command(tmp_path, "--jobs", "1", "--resume"), capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verdicts are kept" in done.stdout and records.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    assert table(tmp_path) == expected
    assert len({json.loads(line)["id"] for line in records.read_bytes().splitlines()}) == 30 == records.read_bytes().count(b"\n")
    again = subprocess.run(command(tmp_path, "--resume"), capture_output=True, text=True, errors="replace")
    assert "30 verdicts are kept" in again.stdout and records.read_bytes().count(b"\n") == 30
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("graded/feedback/*/*.html")}
    assert len(pages) == 30 and "2 of 4 points" in pages["half"] and "no regular file" in pages["a_link"]
    assert not any("<script" in page or "root:" in page for page in pages.values())


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.xdist_group("sandbox")
@pytest.mark.timeout(900)
def test_a_scheduler_with_two_workers_of_which_one_dies_grades_everybody_once(tmp_path):
    pytest.importorskip("dask.distributed", reason="the extra called scale is not installed")
    expected = faults(tmp_path, n_more=0)
    address = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

    def dask(*words):
        return subprocess.Popen([sys.executable, "-m", "dask", *words, "--scheduler-file", str(address), "--no-dashboard"],
                                cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    started = [dask("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        while not address.exists():
            time.sleep(0.1)
        started += [dask("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1") for _ in range(2)]
        where = json.loads(address.read_text())["address"]
        grading_run = subprocess.Popen(command(tmp_path, "--scheduler", where), stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True, env=environment)  # fmt: skip
        shown = tmp_path / "graded" / "shown"
        while grading_run.poll() is None and not (shown.is_dir() and any(shown.iterdir())):
            time.sleep(0.05)
        started[1].kill()
        said, _ = grading_run.communicate()
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert grading_run.returncode == 0, said
    assert table(tmp_path) == expected
    lines = (tmp_path / "graded" / "state" / "records.jsonl").read_bytes().splitlines()
    assert len(lines) == len(expected)


def test_what_cannot_work_is_refused_at_once(tmp_path):
    release(tmp_path / "release")
    (tmp_path / "submissions").mkdir()
    run = CliRunner().invoke
    base = [str(tmp_path / "release"), str(tmp_path / "submissions"), "-o", str(tmp_path / "graded")]
    for more, why in (([], "was made with the pack"), (["--exercises", str(PACK)], "holds no submission"),
                      (["--exercises", str(PACK), "--chapters", "07"], "no chapter 07"),
                      (["--exercises", str(PACK), "--chapters", "x"], "numbers of chapters")):  # fmt: skip
        done = run(grade.main, [*base, *more])
        assert done.exit_code and why in done.output, done.output
    (tmp_path / "submissions" / "ada").mkdir()
    done = run(grade.main, [*base[:3], str(tmp_path / "submissions" / "x"), "--exercises", str(PACK)])
    assert done.exit_code and "outside" in done.output
    done = run(grade.main, [*base, "--exercises", str(PACK), "--only", "bob"])
    assert done.exit_code and "nobody has this id" in done.output
    notebook = tmp_path / "release" / "01_small.ipynb"
    notebook.write_text(notebook.read_text() + " ")
    done = run(grade.main, [*base, "--exercises", str(PACK)])
    assert done.exit_code and "not as it was released" in done.output
    assert not (tmp_path / "graded" / "gradebook.csv").exists()


@pytest.mark.parametrize("said, words", [
    ("bwrap: setting up uid map: Permission denied", "AppArmor"), ("bwrap: loopback: Failed RTM_NEWADDR: …", "AppArmor"),
    ("bwrap: not found", "not installed"), ("bwrap: Can't mount proc on /newroot/proc: …", "/proc"), ("", "does not start"),
])  # fmt: skip
def test_a_sandbox_that_does_not_start_is_explained(said, words):
    why, repair = sandbox.cause(said)
    assert words in why and repair


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")
@pytest.mark.xdist_group("sandbox")
def test_without_a_sandbox_nothing_is_graded(tmp_path):
    faults(tmp_path, 0)
    broken = tmp_path / "bin" / "bwrap"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    broken.chmod(0o755)
    environment = {**os.environ, "PATH": f"{broken.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command(tmp_path, "--jobs", "1"), capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "nothing was graded" in done.stderr and "apparmor_parser" in done.stderr
    assert not (tmp_path / "graded" / "gradebook.csv").exists()
    assert grading.ENTROPY.points == 2 and doctor.check_bubblewrap().name == "bubblewrap"
