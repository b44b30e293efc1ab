"""`course run` on small notebooks, with real kernels: what passes, what fails, what is left, what is repeated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import course_utils
from course_utils.commands.run import processes
from course_utils.commands.run.chapters import share

PARAMETERS = new_code_cell(
    'budget: str = "auto"\ndataset: str = "toy"\nseed: int = 0\ndevice: str = "auto"\ndata_dir: str = ""',
    metadata={"tags": ["parameters"]},
)
RECORD = "from IPython.display import display\ndisplay({'application/vnd.course.metrics+json': %r}, raw=True)"


def write(folder, name, *cells, **metadata):
    """A notebook of the given cells; a string is a code cell."""
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    folder.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")


def command(tmp_path, *options):
    return [
        sys.executable,
        "-m",
        "course_utils",
        "run",
        "--notebooks",
        str(tmp_path / "notebooks"),
        "--out",
        str(tmp_path / "out"),
        *options,
    ]


def run(tmp_path, *options, environment=None):
    """Run the command to its end: (exit code, what it printed, metrics.json)."""
    done = subprocess.run(
        command(tmp_path, *options), cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment
    )
    return done.returncode, done.stdout + done.stderr, json.loads((tmp_path / "out" / "metrics.json").read_text())


def wait_for(condition, seconds=40):
    """Poll until `condition()` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


# one run of everything that can go wrong, shared by the tests below it


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Chapters that misbehave, each in its own way, run together: exit code, output, entries, folder."""
    folder = tmp_path_factory.mktemp("zoo")
    books, left = folder / "notebooks", folder / "left.pid"
    write(
        books,
        "01_good",
        new_markdown_cell("# Good\n\n$x$"),
        PARAMETERS,
        "y = seed * 2",
        RECORD % {"twice": 14, "share": 0.25},
        "assert y == 14",
        new_code_cell("1/0", metadata={"tags": ["raises-exception"]}),
        new_code_cell("raise SystemExit", metadata={"tags": ["skip-execution"]}),
        "",
        kernelspec={"name": "ir", "language": "R", "display_name": "R"},
    )
    write(books, "02_exit_zero", "1", "import sys; sys.exit(0)", "2")
    write(books, "03_dies", "1", "import os; os._exit(0)", "2")
    write(books, "04_raises", "def inner():\n    return [][3]", "inner()", "2")
    write(books, "06_prints", "while True: print('x' * 1000)", "2")
    write(
        books,
        "07_leaves",
        f"""import subprocess, sys
p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
open({str(left)!r}, 'w').write(str(p.pid))""",
    )
    write(books, "08_a{b} & <c>", new_markdown_cell("# Odd"), "1")
    (books / "09_list.ipynb").write_text("[]")
    (books / "10_cut.ipynb").write_text('{"cells": [')
    write(books, "11_quits", "quit()", "2")
    write(books, "12_twice", RECORD % {"a": 1}, RECORD % {"a": 2})
    write(books, "13_low", PARAMETERS, RECORD % {"accuracy": 0.5, "loss": 2.0})
    law = "from course_utils import checks\nif {}: checks.{}"
    for name, when, held in [("14_law", "True", "true(y < 1, what='small')"),
                             ("15_law", "False", "true(y < 1, what='')"),
                             ("16_law", "True", "fails(lambda: y > 1, what='y is large')")]:  # fmt: skip
        write(books, name, "y = 0", new_code_cell(law.format(when, held), metadata={"verifies": ["14.1"]}))
    (books / "floors.toml").write_text(
        '["13".smoke.toy]\naccuracy = {min = 0.8}\nloss = {max = 3}\nmissing = {min = 0}\n'
        '["13".full.toy]\nloss = {max = 0}\n'
    )
    code, output, summary = run(folder, "--seed", "7", "--budget", "smoke", "--timeout", "60", "--jobs", "3")
    return code, output, summary, folder


in_zoo = pytest.mark.xdist_group("zoo")  # one worker, so that the run is made once


def failure(zoo, name):
    entry = zoo[2]["chapters"][name]
    assert entry["status"] == "failed", entry
    return entry["failure"]


@in_zoo
def test_a_failing_chapter_stops_no_other_and_the_exit_code_tells(zoo):
    code, output, summary, folder = zoo
    assert code == 1 and summary["status"] == "failed"
    passed = [name for name, entry in summary["chapters"].items() if entry["status"] == "passed"]
    assert passed == ["01_good", "07_leaves", "08_a{b} & <c>", "14_law"]
    assert str(folder / "out" / "index.html") in output


@in_zoo
def test_parameters_numbers_and_surroundings_are_recorded(zoo):
    entry = zoo[2]["chapters"]["01_good"]
    assert entry["metrics"] == {"twice": 14, "share": 0.25}
    assert entry["parameters"] == {"budget": "smoke", "dataset": "toy", "seed": 7, "device": "auto", "data_dir": ""}
    assert entry["versions"]["python"] == sys.version.split()[0] and zoo[2]["versions"]["torch"]
    assert 0 < entry["wall_seconds"] < 60 and entry["machine"]["system"] and entry["failure"] is None


@in_zoo
def test_an_equation_is_verified_by_a_law_that_ran(zoo):
    said = {"law": "true", "what": "small", "found": "1 case"}
    assert zoo[2]["chapters"]["14_law"]["laws"] == {"14.1": [said]}
    for name in ("15_law", "16_law"):  # one that did not run, and one that only refuted something
        assert failure(zoo, name)["message"].startswith("no law was checked for (14.1)")


@in_zoo
def test_the_kernel_is_this_python_whatever_the_notebook_names(zoo):
    book = nbformat.read(zoo[3] / "out" / "01_good.ipynb", as_version=4)
    assert book.metadata.kernelspec.name == "python3"
    assert book.metadata.language_info.version == sys.version.split()[0]


@in_zoo
def test_exit_with_zero_is_a_failure_with_its_cell(zoo):
    found = failure(zoo, "02_exit_zero")
    assert found["reason"] == "exited" and (found["cell"], found["cells"]) == (
        3,
        4,
    )  # the injected parameters are cell 1
    assert "sys.exit(0)" in found["source"] and "SystemExit" in found["traceback"]


@in_zoo
def test_a_dead_kernel_is_a_failure_and_unrun_cells_stay_unrun(zoo):
    found = failure(zoo, "03_dies")
    assert found["reason"] == "crashed" and found["cell"] == 3
    book = nbformat.read(zoo[3] / "out" / "03_dies.ipynb", as_version=4)
    assert [cell.metadata.papermill.status for cell in book.cells] == ["completed", "completed", "failed", "pending"]


@in_zoo
def test_an_error_is_reported_with_cell_and_traceback(zoo):
    found = failure(zoo, "04_raises")
    assert found["reason"] == "error" and found["message"] == "IndexError: list index out of range"
    assert "return [][3]" in found["traceback"] and "\x1b" not in found["traceback"]
    assert "in code cell 3 of 4" in zoo[1] and "return [][3]" in zoo[1]


def test_a_loop_that_swallows_interrupts_is_ended(tmp_path):
    loop = "n = 0\nwhile True:\n    try:\n        while True: n += 1\n    except KeyboardInterrupt: pass"
    write(tmp_path / "notebooks", "01_loops", "1", loop, "2")
    code, _, summary = run(tmp_path, "--timeout", "2")
    entry = summary["chapters"]["01_loops"]
    assert code == 1 and entry["failure"]["reason"] == "timeout" and entry["failure"]["cell"] == 3
    assert "longer than its 2 s" in entry["failure"]["message"] and entry["wall_seconds"] < 2 + 20


def test_a_timeout_shows_where_the_chapter_was(tmp_path):
    write(tmp_path / "notebooks", "01_sleeps", "import time\ndef nap(): time.sleep(600)", "nap()")
    found = run(tmp_path, "--timeout", "1")[2]["chapters"]["01_sleeps"]["failure"]
    assert found["reason"] == "timeout" and "KeyboardInterrupt" in found["traceback"] and "nap()" in found["traceback"]


@in_zoo
def test_endless_printing_is_capped(zoo):
    assert failure(zoo, "06_prints")["reason"] == "output_limit"
    assert (zoo[3] / "out" / "06_prints.ipynb").stat().st_size < 3_000_000


@in_zoo
def test_a_process_left_behind_in_its_own_session_is_ended_and_named(zoo):
    pid = int((zoo[3] / "left.pid").read_text())
    assert not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read()
    assert "time.sleep(600)" in " ".join(zoo[2]["chapters"]["07_leaves"]["notes"])


@in_zoo
def test_odd_names_and_broken_files_are_chapters_like_others(zoo):
    assert (zoo[3] / "out" / "08_a{b} & <c>.html").exists()
    for name in ("09_list", "10_cut"):
        found = failure(zoo, name)
        assert found["reason"] == "broken" and f"{name}.ipynb is not a readable notebook" in found["message"]


@in_zoo
def test_asking_the_kernel_to_quit_is_a_failure(zoo):
    found = failure(zoo, "11_quits")
    assert found["reason"] == "exited" and found["cell"] == 2


@in_zoo
def test_a_number_recorded_twice_is_a_failure(zoo):
    assert "'a' was recorded before" in failure(zoo, "12_twice")["message"]


@in_zoo
def test_floors_fail_a_chapter_whose_numbers_miss_them(zoo):
    message = failure(zoo, "13_low")["message"]
    assert "accuracy = 0.5, must be min 0.8" in message and "missing was never recorded" in message
    assert "loss" not in message  # 2.0 is allowed, and the table of another budget does not count


@in_zoo
def test_the_index_lists_every_chapter(zoo):
    page = (zoo[3] / "out" / "index.html").read_text()
    assert "08_a%7Bb%7D%20%26%20%3Cc%3E.html" in page and "0.25" in page and "list index out of range" in page


@pytest.fixture
def own_package(tmp_path):
    """An environment in which the package is a copy, so that no edit of the checkout counts as a change."""
    source = Path(course_utils.__file__).parent
    shutil.copytree(source, tmp_path / "copy" / "course_utils", ignore=shutil.ignore_patterns("__pycache__"))
    return os.environ | {"PYTHONPATH": str(tmp_path / "copy")}


# interruption ----------------------------------------------------------------------------------------------------


def count(path):
    return path.read_text().count("ran") if path.exists() else 0


def two_chapters(tmp_path):
    """A quick chapter and one that waits for a file called `go`; each writes a line when it runs."""
    book, log = tmp_path / "notebooks", tmp_path
    for name, then in (
        ("01_quick", "1"),
        ("02_slow", f"import os, time\nwhile not os.path.exists({str(log / 'go')!r}): time.sleep(.05)"),
    ):
        write(book, name, f"open({str(log / name)!r}, 'a').write('ran\\n')", then, RECORD % {"x": 1.5})
    return log / "01_quick", log / "02_slow"


def leftovers(tmp_path):
    """Processes that mention this test's folder on their command line."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if processes.VARIABLE in process.environ() and process.status() != psutil.STATUS_ZOMBIE:
                if str(tmp_path) in process.cwd():
                    found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def test_killed_in_the_middle_then_resumed_repeats_nothing_finished(tmp_path, own_package):
    quick, slow = two_chapters(tmp_path)
    one_by_one = command(tmp_path, "--jobs", "1")
    first = subprocess.Popen(
        one_by_one, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True, env=own_package
    )
    wait_for(lambda: count(slow))
    second = subprocess.run(one_by_one, cwd=tmp_path, capture_output=True, text=True, env=own_package)
    assert second.returncode == 1 and "another run is writing to" in second.stderr
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_for(lambda: not leftovers(tmp_path))  # the chapter ends with the run, though nobody could tell it to
    (tmp_path / "go").touch()
    code, output, summary = run(tmp_path, "--resume", environment=own_package)
    assert code == 0 and (count(quick), count(slow)) == (1, 2)
    assert {name: entry["metrics"] for name, entry in summary["chapters"].items()} == {
        "01_quick": {"x": 1.5},
        "02_slow": {"x": 1.5},
    }
    assert "01_quick  kept" in output


def test_ctrl_c_leaves_a_folder_one_can_use(tmp_path, own_package):
    quick, slow = two_chapters(tmp_path)
    first = subprocess.Popen(
        command(tmp_path, "--jobs", "1"), stdout=subprocess.PIPE, text=True, start_new_session=True, env=own_package
    )
    wait_for(lambda: count(slow))
    time.sleep(0.5)
    first.send_signal(signal.SIGINT)
    output, _ = first.communicate(timeout=30)
    assert first.returncode == 130 and "interrupted" in output and not leftovers(tmp_path)
    summary = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert summary["status"] == "interrupted"
    assert [entry["status"] for entry in summary["chapters"].values()] == ["passed", "interrupted"]
    found = summary["chapters"]["02_slow"]["failure"]
    assert found["reason"] == "interrupted" and (found["cell"], found["cells"]) == (3, 4)
    book = nbformat.read(tmp_path / "out" / "02_slow.ipynb", as_version=4)
    assert book.cells[1].metadata.papermill.status == "completed"
    assert (tmp_path / "out" / "index.html").exists() and (tmp_path / "out" / "02_slow.html").exists()
    (tmp_path / "go").touch()
    write(tmp_path / "notebooks", "01_quick", "1")  # another notebook is another result
    (tmp_path / "out" / "01_quick.html").write_text("old")
    assert run(tmp_path, "--resume", environment=own_package)[0] == 0 and (count(quick), count(slow)) == (1, 2)
    assert (tmp_path / "out" / "01_quick.html").read_text() != "old"
    # the other chapter's result still stands beside a later run of one chapter
    assert set(run(tmp_path, "01", environment=own_package)[2]["chapters"]) == {"01_quick", "02_slow"}


# choosing chapters -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, chosen",
    [
        ("1", "01_energy"),
        ("01", "01_energy"),
        ("energy", "01_energy"),
        ("10_flows", "10_flows"),
        ("flows,1", "10_flows 01_energy"),
    ],
)
def test_chapters_are_chosen_by_number_name_or_stem(tmp_path, word, chosen):
    from course_utils.commands.run.run import select

    write(tmp_path / "n", "01_energy", "1")
    write(tmp_path / "n", "10_flows", "1")
    assert [path.stem for path in select(tmp_path / "n", [word])] == chosen.split()


def test_what_a_finished_chapter_is_remembered_by(tmp_path, monkeypatch):
    from course_utils.commands.run import run as module

    write(tmp_path / "n", "01_energy", "1")
    path = tmp_path / "n" / "01_energy.ipynb"
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "package")
    (tmp_path / "package" / "commands").mkdir(parents=True)
    (tmp_path / "package" / "energy.py").write_text("a = 1")

    def key(seed=0, torch="2.6"):
        return module.key_of(path, {"seed": seed}, module.package_hash(), {"torch": torch})

    first = key()
    assert key() == first and len({first, key(seed=1), key(torch="2.7")}) == 3
    (tmp_path / "package" / "commands" / "run.py").write_text("the code that runs chapters changes no result")
    assert key() == first
    (tmp_path / "package" / "energy.py").write_text("a = 2")
    second = key()
    path.write_text(path.read_text().replace('"1"', '"2"'))
    assert len({first, second, key()}) == 3


def test_an_unknown_chapter_is_named_with_those_there_are(tmp_path):
    import click

    from course_utils.commands.run.run import select

    write(tmp_path / "n", "01_energy", "1")
    with pytest.raises(click.ClickException, match="no chapter '7' .* there are: 01_energy"):
        select(tmp_path / "n", ["7"])


@pytest.mark.parametrize(
    ("n_cores", "n_waiting", "jobs", "gpu", "expected"),
    [
        (2, 4, None, False, (2, 1)),
        (16, 9, None, False, (4, 4)),
        (8, 1, None, False, (1, None)),
        (1, 4, None, False, (1, None)),
        (16, 9, None, True, (1, None)),
        (2, 4, 3, True, (3, 1)),
        (2, 0, None, False, (1, None)),
    ],
)
def test_cores_are_shared_among_chapters(n_cores, n_waiting, jobs, gpu, expected):
    assert share(n_cores, n_waiting, jobs, gpu) == expected
