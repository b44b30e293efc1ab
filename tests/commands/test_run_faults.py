"""`course run` when things go wrong at any moment: afterwards the summary says no more than the files do.

The folder of a run is looked at from outside, as a reader would: `metrics.json` and `index.html` on one side, the
executed notebooks and pages on the other.
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_notebook

from course_utils.commands.run import recorded, run, verify
from course_utils.commands.run.shelf import Shelf

ROOT = Path(__file__).resolve().parents[2]
MIME = "application/vnd.course.metrics+json"
RECORD = f"from IPython.display import display\ndisplay({{'{MIME}': %s}}, raw=True)"
PARAMETERS = (
    'budget: str = "auto"\ndataset: str = "toy"\nseed: int = 0\ndevice: str = "auto"\ndata_dir: str = ""\n'
    "lr: float = 0.1\nn_steps: int = 60\nfast: bool = False"
)


def write(folder, name, *sources, parameters=PARAMETERS):
    cells = [new_code_cell(source) for source in sources]
    if parameters:
        cells.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    folder.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")


def command(folder, *options):
    return [sys.executable, "-m", "course_utils", "run", "--notebooks", str(folder / "notebooks"), "--out",
            str(folder / "out"), *options]  # fmt: skip


def environment(**more):
    """This one, with the package that is being tested, and one thread a chapter."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def numbers_in(notebook):
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", []) if "data" in out]
    return {name: value for out in outputs for name, value in out["data"].get(MIME, {}).items()}


def agrees(out):
    """Hold the summary of a folder against its files. Returns {chapter: status}."""
    summary = json.loads((out / "metrics.json").read_text())
    statuses = {name: entry["status"] for name, entry in summary["chapters"].items()}
    for name, entry in summary["chapters"].items():
        if entry["status"] == "passed":
            notebook = json.loads((out / f"{name}.ipynb").read_text())
            assert numbers_in(notebook) == entry["metrics"], name
            assert all(cell["metadata"]["papermill"]["status"] == "completed" for cell in notebook["cells"]), name
            run_of = re.search(r"run (\w+)", "".join(notebook["cells"][-1]["source"]))
            assert run_of is None or run_of[0] in (out / f"{name}.html").read_text(), "files of two runs"
            assert (out / f"{name}.html").stat().st_size
        else:
            assert entry["failure"] or entry["status"] == "not run"
    if summary["status"] == "passed":
        assert set(statuses.values()) == {"passed"}
    claimed = re.search(r"(\d+) of (\d+) chapters passed", (out / "index.html").read_text())
    assert int(claimed[1]) <= list(statuses.values()).count("passed")
    return statuses


# ---- killed, or without room on the disk, at every step of taking a chapter in ---------------------------------------
# A process of its own forks once for each step: the fault comes at the n-th time that the child touches the disk.

STEPS = """
import errno, json, os, shutil, signal, sys
from pathlib import Path
from course_utils.commands.pages import index
from course_utils.commands.run import shelf

folder, fault = Path(sys.argv[1]), sys.argv[2]
os.fsync = lambda handle: None  # the machine itself does not go down here
CHANGES = {"os.rename", "os.remove", "os.mkdir"}

def counts(event, args):
    # whether a fault is to come here: where the folder changes, only where room is needed, or anywhere
    if event not in CHANGES | {"open"} or str(out) not in str(args[0]):
        return False
    new = event == "os.mkdir" or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return {"kill": event in CHANGES or new, "full": new, "once": True}[fault]

def notebook(run, number, failed=False):
    about = {"papermill": {"status": "failed" if failed else "completed"}}
    shown = [{"output_type": "display_data", "metadata": {}, "data": {"MIME": {"x": number}}}]
    return json.dumps({"cells": [{"cell_type": "code", "id": "a", "metadata": about, "source": "run " + run,
                                  "outputs": shown}]})

def result(status, number):
    failure = None if status == "passed" else {"reason": "error", "message": "no", "traceback": ""}
    metrics = {"x": number} if status == "passed" else {}
    return shelf.nothing(status, failure, metrics=metrics, key=str(number), given={"seed": number})

def stage(it, name, run, number, status, page=True, book=True):
    staged = it.stage()
    if book:
        (staged / f"{name}.ipynb").write_text(notebook(run, number, status != "passed"))
    if page:
        (staged / f"{name}.html").write_text("<html>run " + run + "</html>")
    (staged / "log.txt").write_text(run)
    return staged, result(status, number)

def opened(out):
    it = shelf.Shelf(out, {}, {}, "")
    it.open()
    return it

def prepared(out, before):
    shutil.rmtree(out, ignore_errors=True)
    (out / "state").mkdir(parents=True)
    (out / "logs").mkdir()
    it = opened(out)
    for name, status in (("01_a", "passed"), ("02_b", before)):
        if status:
            it.put(name, *stage(it, name, "old", 1, status))
    it.write(None)

def change(out, after):
    it = opened(out)
    it.put("02_b", *stage(it, "02_b", "new", after.pop("number", 2), **after))
    it.write(None)

CASES = {
    "passed, passed": ("passed", {"status": "passed"}),
    "the same number": ("passed", {"status": "passed", "number": 1}),
    "fails after its last number": ("passed", {"status": "failed", "number": 1}),
    "no page": ("passed", {"status": "failed", "page": False}),
    "not even a notebook": ("passed", {"status": "failed", "page": False, "book": False}),
    "interrupted": ("passed", {"status": "interrupted"}),
    "failed, passed": ("failed", {"status": "passed"}),
    "first time": (None, {"status": "passed"}),
}
for case, (before, after) in CASES.items():
    start = folder / case
    prepared(start, before)
    for step in range(1, 400):
        out = folder / f"{case} {step}"
        shutil.copytree(start, out)
        child = os.fork()
        if child == 0:
            seen = 0
            def hook(event, args):
                global seen
                if not counts(event, args):
                    return
                seen += 1
                if seen == step and fault == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if seen >= step and fault == "full":
                    raise OSError(errno.ENOSPC, "No space left on device")
                if seen == step and fault == "once":
                    raise OSError(errno.EIO, "Input/output error")
            sys.addaudithook(hook)
            code = 0
            try:
                change(out, dict(after))
            except OSError:
                code = 3
            os._exit(code if seen >= step else 7)
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        assert ended in (0, 3, 7, -9), (case, step, ended)
        print(json.dumps([case, step, ended, str(out)]), flush=True)
        if ended == 7:
            break
    else:
        raise AssertionError("no end")
""".replace("MIME", MIME)


@pytest.mark.parametrize("fault", ["kill", "once", "full"])
def test_a_fault_at_any_step_of_taking_a_chapter_in(tmp_path, fault, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    done = subprocess.run([sys.executable, "-c", STEPS, str(tmp_path), fault], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 40
    for case, step, ended, out in lines:
        out = Path(out)
        try:
            found = agrees(out)
            assert found["01_a"] == "passed", "the other chapter stays"
            again = looked_at_again(out)
            assert again["01_a"] == "passed"
            if case == "interrupted":  # an old result that passed stays, whatever happens
                assert again["02_b"] == "passed" and "old" in (out / "02_b.html").read_text()
            if ended == 7 and case in ("passed, passed", "the same number", "failed, passed", "first time"):
                assert found["02_b"] == "passed" and "run new" in (out / "02_b.html").read_text()
            if ended == 7 and case.startswith(("fails", "no", "not")):
                assert found["02_b"] == "failed"
            if case == "not even a notebook":
                assert "run old" in (out / "02_b.html").read_text(), "what nothing new replaces stays"
        except (AssertionError, LookupError, OSError, ValueError) as error:
            raise AssertionError(f"{fault} at step {step} of {case!r} (ended with {ended}): {error}") from error


def looked_at_again(out):
    """What the next run finds in the folder, held against the files once more."""
    shelf = Shelf(out, {}, {}, "")
    shelf.open()
    shelf.write(None)
    return agrees(out)


# ---- refused before anything is touched ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf_of_two(tmp_path_factory):
    """A folder with two chapters that passed: the second waits while there is no file called `go`."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "go").touch()
    write(folder / "notebooks", "01_a", "a = 1", RECORD % "{'x': seed}")
    write(folder / "notebooks", "02_b", f"import os, time\nopen({str(folder / 'log')!r}, 'a').write('r')",
          f"while not os.path.exists({str(folder / 'go')!r}): time.sleep(.05)", RECORD % "{'y': seed}")  # fmt: skip
    write(folder / "notebooks", "03_c", "1", RECORD % "{'z': 1}", parameters="")
    write(folder / "ours", "01_ours", "1", parameters=PARAMETERS.replace("toy", "handwriting"))
    (folder / "notebooks" / "src").mkdir()
    (folder / "notebooks" / "src" / "05_later.py").write_text("# %%\n")
    done = subprocess.run(command(folder, "1", "2", "--budget", "smoke"), capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert agrees(folder / "out") == {"01_a": "passed", "02_b": "passed"}
    return folder


in_two = pytest.mark.xdist_group("two")  # one worker, so that the run is made once


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}


REFUSED = {
    "--seed=-1": "0<=x<=4294967295",
    "--seed=4294967296": "0<=x<=4294967295",
    "--seed=1.5": "not a valid integer",
    "-p seed -1": "whole number from 0 to 4294967295",
    "-p seed 1.5": "expected a whole number",
    "-p seed 99999999999999999999": "whole number from 0 to 4294967295",
    "--seed 1 -p seed 2": "seed was given before",
    "-p sede 3": "did you mean seed?",
    "-p budgets smoke": "did you mean budget?",
    "-p lr fast": "expected a number",
    "-p lr nan": "expected a finite number",
    "-p lr inf": "expected a finite number",
    "-p n_steps 2.5": "expected a whole number",
    "-p fast maybe": "expected True or False",
    "-p budget tiny": "a budget is one of",
    "--budget tiny": "is not one of",
    "--device warp": "a device is auto, cpu, cuda",
    "--device gpu": "a device is auto, cpu, cuda",
    "--device meta": "a device is auto, cpu, cuda",
    "-p device cuda:x": "a device is auto, cpu, cuda",
    "--device=": "a device is auto, cpu, cuda",
    "--device cuda:99": "use cpu or auto",
    "--device xpu": "use cpu or auto",
    "--timeout nan": "at most 10,000,000",
    "--timeout inf": "at most 10,000,000",
    "--timeout 1e300": "at most 10,000,000",
    "--timeout 0": "x>0",
    "--jobs 0": "x>=1",
    "--data-dir /no/such/folder": "does not exist",
    "3 --dataset mnist": "chapter 03_c has no parameter 'dataset'",
    "3 --seed 4": "no cell tagged `parameters`",
    "3 -p lr 1": "chapter 03_c has no parameter 'lr'",
    "--notebooks OURS --dataset nope": "there are handwriting, digits, mnist",
    "--notebooks OURS --dataset Handwriting": "there are handwriting, digits, mnist",
    "--notebooks OURS -p dataset nope": "there are handwriting, digits, mnist",
    "--notebooks OURS --dataset mnist --data-dir OURS": "mnist is not in",
    "--notebooks OURS --dataset cifar10 --data-dir OURS": "cifar10 is not in",
    "5": "05_later is not built yet: run `course build` first",
    "later": "05_later is not built yet: run `course build` first",
    "7": "no chapter '7'",
    "²": "no chapter '²'",
    "OURS/none.ipynb": "no notebook at",
    "OURS/folder.ipynb": "no notebook at",
    "--out OURS/01_ours.ipynb": "is a file",
    "--out OURS/01_ours.ipynb/x": "cannot be written to",
    "--out /proc/none": "cannot be written to",
    "--out /dev/null/x": "cannot be written to",
    "--out " + "x" * 300: "cannot be written to",
    "--out NOTEBOOKS": "which the executed copy would overwrite",
    "--out bad\udcff": "a byte that is no UTF-8",
    "--out TAKEN": "metrics.json in it is a folder",
}  # fmt: skip


@in_two
@pytest.mark.parametrize("line", REFUSED, ids=lambda line: line.encode("ascii", "replace").decode()[:60])
def test_what_cannot_work_is_refused_before_anything_is_touched(shelf_of_two, line, monkeypatch):
    folder = shelf_of_two
    (folder / "ours" / "folder.ipynb").mkdir(exist_ok=True)
    (folder / "taken" / "metrics.json").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(run, "supervise", lambda *_: pytest.fail("a chapter was started"))
    places = {"OURS": folder / "ours", "NOTEBOOKS": folder / "notebooks", "TAKEN": folder / "taken"}
    options = line
    for word, place in places.items():
        options = options.replace(word, str(place))
    given = [] if "--notebooks" in options else ["--notebooks", str(folder / "notebooks")]
    given += [] if "--out" in options else ["--out", str(folder / "out")]
    before = contents(folder)
    done = CliRunner().invoke(run.main, [*options.split(" "), *given])
    assert done.exit_code in (1, 2) and isinstance(done.exception, SystemExit), (done.output, done.exception)
    assert REFUSED[line] in " ".join(done.output.replace("│", " ").split()), done.output
    (folder / "taken" / "state").exists() and shutil.rmtree(folder / "taken")
    after = contents(folder)
    assert {path for path in before if before[path] != after.get(path, before[path]) and path.is_file()} == set()


@in_two
@pytest.mark.parametrize("options", ["--dataset nope", "--device warp", "--seed -1", "-p sede 1"])
def test_what_needs_no_torch_is_refused_without_it(shelf_of_two, options):
    code = (
        "import sys; sys.modules['torch'] = None\n"  # an import of torch would fail
        "from course_utils.commands.cli import main; main()"
    )
    where = ["--notebooks", str(shelf_of_two / "ours"), "--out", str(shelf_of_two / "out")]
    done = subprocess.run([sys.executable, "-c", code, "run", *where, *options.split()], capture_output=True, text=True,
                          env=environment())  # fmt: skip
    assert done.returncode == 2 and "Error: " in done.stderr and "Traceback" not in done.stderr


def floors_file(folder, text):
    write(folder / "notebooks", "01_a", "1")
    (folder / "notebooks" / "floors.toml").write_bytes(text)
    return CliRunner().invoke(run.main, command(folder)[4:])


@pytest.mark.parametrize("text", [b"[", b"\xff", b"a = 1", b"[01.smoke.toy]\nx = 1", b"[01.smoke]\nx = {min = 1}",
                                  b'[01.smoke.toy]\nx = {min = "1"}', b"[01.smoke.toy]\nx = {least = 1}"])  # fmt: skip
def test_floors_that_cannot_be_read_are_refused_at_once(tmp_path, text):
    done = floors_file(tmp_path, text)
    assert done.exit_code == 1 and "floors.toml" in done.output and not (tmp_path / "out").exists()


@in_two
def test_values_reach_the_chapter_with_the_type_of_its_default(shelf_of_two):
    from course_utils.commands.run import given

    path = shelf_of_two / "notebooks" / "01_a.ipynb"
    bare = shelf_of_two / "notebooks" / "03_c.ipynb"
    typed = {"lr": "1", "n_steps": "7", "fast": "True", "dataset": "0", "seed": "4294967295"}
    asked = {name: (given.Text(value), f"-p {name} {value}") for name, value in typed.items()}
    plans = given.parameters([path, bare], asked)
    values = {"lr": 1.0, "n_steps": 7, "fast": True, "dataset": "0", "seed": 2**32 - 1}
    assert plans[path] == ({"budget": "auto", "device": "auto"} | values, [])
    assert type(plans[path][0]["lr"]) is float
    assert "lr" not in plans[bare][0]
    assert "-p lr 1 changes nothing here: the chapter has no parameter 'lr'" in plans[bare][1]


# ---- runs that are ended from outside --------------------------------------------------------------------------------


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@in_two
def test_a_rerun_that_is_ended_leaves_the_old_result_until_a_new_one_is_there(shelf_of_two):
    """SIGTERM and SIGHUP are Ctrl-C; `kill -9` of the run, or of a chapter's process, leaves a folder in order."""
    folder = shelf_of_two
    (folder / "go").unlink()
    started = {}
    try:
        for how in ("SIGTERM", "SIGHUP", "SIGKILL", "the chapter"):
            shutil.copytree(folder / "out", folder / how, dirs_exist_ok=True)
            arguments = command(folder, "--seed", "1", "1", "2", "--jobs", "1")
            arguments[arguments.index("--out") + 1] = str(folder / how)
            (folder / "log").unlink(missing_ok=True)
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                       env=environment(), start_new_session=True)  # fmt: skip
            wait_for(lambda: (folder / "log").exists())
            started[how] = process
            assert agrees(folder / how) == {"01_a": "passed", "02_b": "passed"}
            if how == "the chapter":
                children = psutil.Process(process.pid).children()
                [job] = [child for child in children if "execute" in " ".join(child.cmdline())]
                job.kill()
            else:
                process.send_signal(getattr(signal, how))
        for how, process in started.items():
            output, _ = process.communicate(timeout=60)
            statuses = agrees(folder / how)
            entries = json.loads((folder / how / "metrics.json").read_text())["chapters"]
            assert statuses["01_a"] == "passed" and entries["01_a"]["metrics"] == {"x": 1}, "the new result is there"
            assert not list((folder / how / "state").glob("new-*")) or how == "SIGKILL"
            if how == "the chapter":
                assert process.returncode == 1 and statuses["02_b"] == "failed"
                assert "ended by signal 9" in entries["02_b"]["failure"]["message"] and "--jobs 1" in output
                assert not (folder / how / "02_b.html").exists(), "a page of another run beside this notebook"
            else:
                assert statuses["02_b"] == "passed" and entries["02_b"]["metrics"] == {"y": 0}, "the old result stays"
                assert process.returncode == (-9 if how == "SIGKILL" else 130)
            if how in ("SIGTERM", "SIGHUP"):
                assert "a later run was interrupted in this chapter" in " ".join(entries["02_b"]["notes"])
                assert json.loads((folder / how / "metrics.json").read_text())["status"] == "interrupted"
    finally:
        (folder / "go").touch()
        for process in started.values():
            process.poll() is None and process.kill()
    # the next run of one chapter finds the others, sweeps up, and counts them
    arguments = command(folder, "1")
    arguments[arguments.index("--out") + 1] = str(folder / "SIGKILL")
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and agrees(folder / "SIGKILL") == {"01_a": "passed", "02_b": "passed"}
    assert not list((folder / "SIGKILL" / "state").glob("new-*"))


@in_two
def test_verify_does_not_confirm_a_summary_whose_files_are_gone_or_others(shelf_of_two, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for copy in (first, second):
        shutil.copytree(shelf_of_two / "out", copy)

    def said():
        return CliRunner().invoke(verify.main, [str(first), str(second)])

    assert said().exit_code == 0
    book = second / "01_a.ipynb"
    saved_again = json.dumps(json.loads(book.read_text()), indent=3)
    book.write_text(saved_again)
    assert said().exit_code == 0, "the same numbers, saved by a notebook editor"
    for path, text in ((book, saved_again.replace('"x": 0', '"x": 3')), (book, ""), (book, None),
                       (second / "02_b.html", "<html>"), (second / "02_b.html", None)):  # fmt: skip
        kept = path.read_bytes()
        path.unlink() if text is None else path.write_text(text)
        done = said()
        assert done.exit_code == 1 and path.name in done.output, (path, text, done.output)
        path.write_bytes(kept)
    assert said().exit_code == 0
    shutil.rmtree(second / "state")  # a summary that was taken out of its folder stands for itself
    book.unlink()
    assert said().exit_code == 0


# ---- chapters and surroundings that are hostile ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    books = folder / "notebooks"
    show = "from IPython.display import display\ndisplay(%s, raw=True)"
    write(books, "01_good", "1", RECORD % "{'x': 1}")
    write(books, "02_word", "1", RECORD % "'accuracy 0.9'")
    write(books, "03_picture", "1", show % {"image/png": "notbase64!!", "text/plain": "a picture"}, RECORD % "{'x': 1}")
    write(books, "04_patricide", "1", "import os; os.kill(os.getppid(), 9)")
    write(books, "05_long", "raise ValueError('x' * 300_000)")
    for name, make in (
        ("10_folder", Path.mkdir),
        ("11_circle", lambda path: path.symlink_to(path)),
        ("12_nowhere", lambda path: path.symlink_to("/no/such/file")),
        ("13_pipe", os.mkfifo),
        ("14_zero", lambda path: path.symlink_to("/dev/zero")),
        ("15_empty", Path.touch),
        ("16_latin", lambda path: path.write_bytes(b"\xff\xfe{}")),
        ("17_deep", lambda path: path.write_text("[" * 100_000)),
        ("18_metadata", lambda path: path.write_text('{"cells": [], "metadata": {"papermill": 3}, "nbformat": 4, '
                                                     '"nbformat_minor": 5}')),
        ("index", lambda path: shutil.copy(books / "01_good.ipynb", path)),
    ):  # fmt: skip
        make(books / f"{name}.ipynb")
    shutil.copy(books / "01_good.ipynb", os.fsencode(books) + b"/19_\xff.ipynb")
    (books / ".#01_good.ipynb").symlink_to("somebody@some.machine")  # what an editor leaves while it is open
    done = subprocess.run(command(folder, "--budget", "smoke", "--jobs", "3"), capture_output=True, text=True,
                          env=environment(), timeout=300)  # fmt: skip
    return folder, done, json.loads((folder / "out" / "metrics.json").read_text())["chapters"]


in_hostile = pytest.mark.xdist_group("hostile")


@in_hostile
def test_every_hostile_chapter_fails_alone_and_says_why(hostile):
    folder, done, entries = hostile
    assert done.returncode == 1 and "Traceback" not in done.stderr
    statuses = agrees(folder / "out")
    assert [name for name, status in statuses.items() if status == "passed"] == ["01_good"]
    assert len(entries) == 16 and not any(name.startswith(".") for name in entries)
    said = {name: entry["failure"]["message"] for name, entry in entries.items() if entry["failure"]}
    assert "came as a str, 'accuracy 0.9'; say record(name=number)" in said["02_word"]
    assert "its image/png is no picture" in said["03_picture"] and "give display the bytes" in said["03_picture"]
    for name in ("02_word", "03_picture"):  # with the cell
        failure = entries[name]["failure"]
        assert failure["reason"] == "output" and "display(" in failure["source"] and failure["cell"] in (3, 4)
        assert f"in code cell {failure['cell']} of" in done.stdout
    assert "ended by signal 9" in said["04_patricide"]
    assert len(said["05_long"]) < 5_000 and entries["05_long"]["failure"]["cell"] == 3
    for name, why in {"10_folder": "it is a folder", "11_circle": "a link that leads nowhere or in a circle",
                      "12_nowhere": "a link that leads nowhere", "13_pipe": "it is no file", "14_zero": "it is no file",
                      "15_empty": "not a readable notebook", "16_latin": "not a readable notebook",
                      "17_deep": "not a readable notebook", "18_metadata": "not a readable notebook",
                      "index": "which is the page of the run: rename it",
                      "19_\ufffd": "no UTF-8: rename it"}.items():  # fmt: skip
        assert entries[name]["failure"]["reason"] == "broken" and why in said[name], (name, said[name])


@in_hostile
def test_the_index_links_pages_and_logs_and_shows_no_broken_picture(hostile):
    page = (hostile[0] / "out" / "index.html").read_text()
    links = re.findall(r'href="([^"#]*)', page)
    assert "logs/01_good.txt" in links and "logs/03_picture.txt" in links and "notbase64" not in page
    written = {path.relative_to(hostile[0] / "out").as_posix() for path in (hostile[0] / "out").rglob("*")}
    assert {link for link in links if link.startswith("logs/")} <= written


def test_a_chapter_that_the_disk_has_no_room_for_fails_alone(tmp_path):
    """The limit of a file's size stands for a full disk: what is larger cannot be written, by nobody in the run."""
    write(tmp_path / "notebooks", "01_small", "1", RECORD % "{'x': seed}")
    write(tmp_path / "notebooks", "02_large", "print(seed * 'x' * 900_000)", RECORD % "{'y': seed}")
    first = subprocess.run(command(tmp_path), capture_output=True, text=True, env=environment())
    assert first.returncode == 0, first.stdout
    closed, pipe = os.pipe()
    os.close(closed)  # nobody reads what this run says, as after `| head -1`
    done = subprocess.run(
        command(tmp_path, "--seed", "1", "--jobs", "2"), stdout=pipe, stderr=subprocess.PIPE, text=True,
        env=environment(), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000,) * 2))  # fmt: skip
    os.close(pipe)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert agrees(tmp_path / "out") == {"01_small": "passed", "02_large": "failed"}
    entries = json.loads((tmp_path / "out" / "metrics.json").read_text())["chapters"]
    assert entries["01_small"]["metrics"] == {"x": 1}
    found = entries["02_large"]["failure"]
    assert found["reason"] == "disk" and "make room there and run the chapter again" in found["message"]
    assert numbers_in(json.loads((tmp_path / "out" / "02_large.ipynb").read_text())) == {"y": 0}, "the old files stay"
    assert "those of an earlier run" in " ".join(entries["02_large"]["notes"])


NOBODY = """
import os, pwd, sys
def nobody(*_):
    raise KeyError("getpwuid(): uid not found")
pwd.getpwuid = nobody
if "execute" in " ".join(sys.orig_argv):
    sys.modules[os.environ.get("NO_SUCH_MODULE", "?")] = None
"""


def test_without_a_home_a_chapter_runs_and_without_a_page_it_is_not_lost(tmp_path):
    """HOME unset, a user without an entry, and the encodings of old terminals; then an export that fails."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOBODY)
    write(tmp_path / "notebooks", "03_c", "print('\u2713 held')", RECORD % "{'z': 1}")
    nobody = environment(PYTHONIOENCODING="cp1252", PYTHONPATH=f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    nobody = {name: value for name, value in nobody.items() if name != "HOME"}
    done = subprocess.run(command(tmp_path, "03"), capture_output=True, env=nobody)
    assert done.returncode == 0, done.stdout + done.stderr
    assert agrees(tmp_path / "out") == {"03_c": "passed"}
    nobody["NO_SUCH_MODULE"] = "course_utils.commands.pages.export"
    done = subprocess.run(command(tmp_path, "03"), capture_output=True, env=nobody)
    entry = json.loads((tmp_path / "out" / "metrics.json").read_text())["chapters"]["03_c"]
    assert done.returncode == 1 and agrees(tmp_path / "out") == {"03_c": "failed"}
    assert entry["failure"]["reason"] == "export" and entry["metrics"] == {"z": 1}
    assert numbers_in(json.loads((tmp_path / "out" / "03_c.ipynb").read_text())) == {"z": 1}
    assert not (tmp_path / "out" / "03_c.html").exists()


# ---- outputs, without a kernel ---------------------------------------------------------------------------------------

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def outputs(data):
    return {"cells": [{"outputs": []}, {"outputs": [{"text": "x"}, {"data": data}]}]}


@pytest.mark.parametrize("value", ["text", ["a"], 3, None, {"x": None}, {"x": [1]}, {"x": {"y": 1}}, {"x": 10**400},
                                   {"x": "w" * 1001}, {"n" * 1001: 1}], ids=lambda value: repr(value)[:20])  # fmt: skip
def test_numbers_that_are_none_are_refused_with_their_cell(value):
    with pytest.raises(recorded.Unfit, match="say record|record a number") as caught:
        recorded.metrics_of(outputs({MIME: value}))
    assert caught.value.index == 1 and len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [
    {"image/png": "notbase64!!"}, {"image/png": ""}, {"image/png": PNG[:40]}, {"image/png": "aGVsbG8="},
    {"image/jpeg": PNG[:60]}, {"image/png": 7}, {"image/png": [1]}, {"image/gif": None}, {"text/html": {"a": 1}},
    {"text/plain": 3}, {"image/svg+xml": [None]}, {"text/markdown": [["x"]]},
], ids=lambda data: repr(data)[:30])  # fmt: skip
def test_outputs_that_no_page_could_show_are_refused_with_their_cell(data):
    with pytest.raises(recorded.Unfit, match="is no picture|where a text belongs") as caught:
        recorded.check_outputs(outputs(data))
    assert caught.value.index == 1


def test_outputs_that_a_page_can_show_pass():
    pictures = {"image/png": PNG}, {"image/png": PNG + "\n"}, {"image/png": [PNG]}
    for data in (*pictures, {"text/html": ["<b>", "</b>"]}, {}):
        recorded.check_outputs(outputs(data))
    assert recorded.metrics_of(outputs({MIME: {"a": 1, "b": 0.5, "c": "nan", "d": True}})) == {
        "a": 1, "b": 0.5, "c": "nan", "d": True}  # fmt: skip
