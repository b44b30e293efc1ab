"""A student's copy is never lost, whatever the course does to the chapter meanwhile; JupyterLab really serves it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from tornado.websocket import websocket_connect

from course_utils.commands.lab import copies, lab


@pytest.fixture
def course(tmp_path):
    """A folder with one chapter, and an empty one for the student."""
    chapters = tmp_path / "notebooks"
    chapters.mkdir()
    (chapters / "01_x.ipynb").write_text("as published")
    (chapters / "README.md").write_text("not a chapter")
    return chapters, tmp_path / "work"


def files(folder):
    return {path.name: path.read_text() for path in folder.glob("*.ipynb")}


def test_a_missing_chapter_is_copied_and_a_second_call_does_nothing(course):
    chapters, work = course
    assert copies.copy_chapters(chapters, work) == [("01_x.ipynb", "new")]
    before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.ipynb")}
    assert copies.copy_chapters(chapters, work) == []
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("*.ipynb")} == before
    assert files(work) == {"01_x.ipynb": "as published"}


def test_a_copy_that_was_worked_on_stays_and_the_newer_chapter_lies_beside_it(course):
    chapters, work = course
    copies.copy_chapters(chapters, work)
    (work / "01_x.ipynb").write_text("my answers")
    assert copies.copy_chapters(chapters, work) == []                              # the course did not change: no news
    (chapters / "01_x.ipynb").write_text("second edition")
    [(name, what)] = copies.copy_chapters(chapters, work)
    assert name == "01_x.new.ipynb" and "yours stays 01_x.ipynb" in what
    assert copies.copy_chapters(chapters, work) == []                              # said once
    (work / "01_x.new.ipynb").write_text("worked on as well")
    (chapters / "01_x.ipynb").write_text("third edition")
    copies.copy_chapters(chapters, work)
    assert files(work) == {"01_x.ipynb": "my answers", "01_x.new.ipynb": "worked on as well",
                           "01_x.new2.ipynb": "third edition"}


def test_an_untouched_copy_follows_the_course(course):
    chapters, work = course
    copies.copy_chapters(chapters, work)
    (chapters / "01_x.ipynb").write_text("second edition")
    [(name, what)] = copies.copy_chapters(chapters, work)
    assert name == "01_x.ipynb" and what.startswith("updated")
    assert files(work) == {"01_x.ipynb": "second edition"}


@pytest.mark.parametrize("ledger", [None, "", "{broken", "[]"])
def test_without_a_readable_ledger_every_copy_counts_as_worked_on(course, ledger):
    chapters, work = course
    work.mkdir()
    (work / "01_x.ipynb").write_text("my answers")
    if ledger is not None:
        (work / copies.LEDGER).write_text(ledger)
    copies.copy_chapters(chapters, work)
    assert files(work) == {"01_x.ipynb": "my answers", "01_x.new.ipynb": "as published"}


# ---- answers move on -------------------------------------------------------------------------------------------------
STUB = 'def f(x):\n    """Twice x."""\n    raise NotImplementedError\n'
BUGGY = "def g(x):\n    return x + 1  # find the bug\n"


def edition(*exercises, imports="from course_utils import checks"):
    """A chapter: a cell of imports, one of prose, then exercises given as (number, source)."""
    cells = [new_code_cell(imports, id="imports"), new_markdown_cell("Prose.", id="prose")]
    cells += [new_code_cell(source, id=f"exercise-{number.replace('.', '-')}", metadata={"exercise": number})
              for number, source in exercises]
    return nbformat.writes(new_notebook(cells=cells))


def write_into(path, **sources):
    """As a student does in Lab: new sources for some cells, by id; the file is written in the front end's form."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = sources.get(cell.id.replace("-", "_"), cell.source)
    notebook.cells[0].update(outputs=[nbformat.v4.new_output("stream", text="ran")], execution_count=3)
    nbformat.write(notebook, path)


def sources(path):
    return {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}


@pytest.fixture
def worked_on(course):
    """A copy with 1.1 answered, 1.2 half written, 1.3 (a bug to find) and 1.4 untouched."""
    chapters, work = course
    (chapters / "01_x.ipynb").write_text(edition(("1.1", STUB), ("1.2", STUB), ("1.3", BUGGY), ("1.4", STUB)))
    copies.copy_chapters(chapters, work)
    write_into(work / "01_x.ipynb", exercise_1_1=STUB.replace("raise NotImplementedError", "return 2 * x"),
               exercise_1_2="def f(x):\n    return (x +", prose="My notes.")
    return chapters, work


def test_answers_move_on_into_the_newer_chapter_and_nothing_else_does(worked_on):
    chapters, work = worked_on
    bug = BUGGY.replace("+ 1", "- 1")
    (chapters / "01_x.ipynb").write_text(edition(("1.1", STUB + "# clearer now"), ("1.2", STUB), ("1.3", bug),
                                                 ("1.4", STUB), ("1.5", STUB), imports="from course_utils import nn"))
    before = (work / "01_x.ipynb").read_bytes()
    [(name, what)] = copies.copy_chapters(chapters, work)
    assert name == "01_x.new.ipynb" and "with your answers to 1.1" in what and "1.2 (in 01_x.ipynb)" in what
    new = sources(work / "01_x.new.ipynb")
    assert new["exercise-1-1"].endswith("return 2 * x\n"), "the answer is carried over"
    assert new["exercise-1-2"] == STUB, "what defines nothing that can be checked stays in the old copy"
    assert new["exercise-1-3"] == bug, "an untouched exercise is the new one, starting code too"
    assert new["imports"] == "from course_utils import nn" and new["prose"] == "Prose."
    assert (work / "01_x.ipynb").read_bytes() == before, "the old copy is as it was"
    nbformat.validate(nbformat.read(work / "01_x.new.ipynb", as_version=4))


def test_the_latest_answer_to_each_exercise_moves_on(worked_on):
    chapters, work = worked_on
    again = edition(("1.1", STUB), ("1.2", STUB), ("1.3", BUGGY), ("1.4", STUB), imports="import torch")
    (chapters / "01_x.ipynb").write_text(again)
    copies.copy_chapters(chapters, work)
    write_into(work / "01_x.new.ipynb", exercise_1_3="def g(x):\n    return x", exercise_1_4="def f(x):\n    return 4")
    (chapters / "01_x.ipynb").write_text(again.replace("import torch", "import torch, math"))
    [(name, what)] = copies.copy_chapters(chapters, work)
    assert name == "01_x.new2.ipynb" and "answers to 1.1, 1.3, 1.4" in what
    assert sources(work / name)["exercise-1-4"] == "def f(x):\n    return 4"


def test_an_answer_to_what_is_no_longer_asked_stays_and_is_named(worked_on):
    chapters, work = worked_on
    (chapters / "01_x.ipynb").write_text(edition(("1.1", STUB.replace("f(x)", "f(x, y)"))))
    [(_, what)] = copies.copy_chapters(chapters, work)
    assert "ask for something else now" in what and "1.1 (in 01_x.ipynb)" in what
    assert "y" in sources(work / "01_x.new.ipynb")["exercise-1-1"]


def test_a_ledger_of_an_earlier_edition_still_tells_answers_from_stubs(worked_on):
    chapters, work = worked_on
    ledger = json.loads((work / copies.LEDGER).read_text())
    (work / copies.LEDGER).write_text(json.dumps({name: entry["chapter"] for name, entry in ledger.items()}))
    (chapters / "01_x.ipynb").write_text(edition(("1.1", STUB), ("1.4", STUB + "# clearer now")))
    [(_, what)] = copies.copy_chapters(chapters, work)
    assert "with your answers to 1.1" in what and "1.4" not in what


OLD_IMPORTS = ["import OURS.gone", "from OURS.commands.gone import x", "from OURS import gone",
               "from OURS.checks import gone", "import torch, OURS.gone as x",
               "%matplotlib inline", "from OURS.models import vae", "from OURS.exercises import check",
               "from OURS.data.images import load", "import gone", "def f(:", "from . import gone"]


@pytest.mark.parametrize("line", OLD_IMPORTS)
def test_a_copy_that_imports_what_is_gone_is_told_every_time_and_gets_a_newer_one(worked_on, line):
    """Also where the ledger knows of nothing newer, as after a chapter was laid beside and thrown away."""
    chapters, work = worked_on
    outdated = "OURS" in line and "gone" in line
    write_into(work / "01_x.ipynb", imports=line.replace("OURS", "course_utils"))
    news = copies.copy_chapters(chapters, work)
    if not outdated:
        assert news == []
        return
    assert [name for name, _ in news] == ["01_x.new.ipynb"] and "with your answers to 1.1" in news[0][1]
    [(name, what)] = copies.copy_chapters(chapters, work)
    assert name == "01_x.ipynb" and what.endswith("which the course no longer has: go on in 01_x.new.ipynb")


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(course, monkeypatch):
    chapters, work = course
    copies.copy_chapters(chapters, work)
    (chapters / "01_x.ipynb").write_text("second edition")

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        copies.copy_chapters(chapters, work)
    assert sorted(path.name for path in work.iterdir()) == [copies.LEDGER, "01_x.ipynb"]
    assert files(work) == {"01_x.ipynb": "as published"}


def test_a_folder_without_chapters_is_named(tmp_path):
    result = CliRunner().invoke(lab.main, ["--chapters", str(tmp_path), "--folder", str(tmp_path / "work")])
    assert result.exit_code == 1
    assert str(tmp_path) in result.output and "course build" in result.output


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_jupyterlab_serves_the_copies_and_ends_with_its_kernels(course, tmp_path, how):
    """The real server: it starts on the student's folder, lists the chapter, and ends when told, kernels included."""
    chapters, work = course
    (chapters / "01_x.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    home = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = [sys.executable, "-m", "course_utils", "lab", "--chapters", str(chapters), "--folder", str(work),
               "--no-browser", "--port=0", "--IdentityProvider.token=secret"]
    log = tmp_path / "log"
    with open(log, "w") as out:
        server = subprocess.Popen(command, env={**os.environ, **home}, stdout=out, stderr=subprocess.STDOUT,
                                  start_new_session=True)
        try:
            address = wait_for_address(server, tmp_path / "JUPYTER_RUNTIME_DIR", log)
            request = urllib.request.Request(address + "api/contents", headers={"Authorization": "token secret"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                names = [entry["name"] for entry in json.load(answer)["content"]]
            request = urllib.request.Request(address + "api/kernels", data=b"{}", method="POST",
                                             headers={"Authorization": "token secret"})
            urllib.request.urlopen(request, timeout=30).close()
            kernels = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])
                       and "ipykernel_launcher" in p.info["cmdline"]]
            assert len(kernels) == 1
            server.send_signal(how)                           # to this one process, as a service manager does
            server.wait(timeout=20)
            assert psutil.wait_procs(kernels, timeout=10)[1] == [], "the kernel lives on"
            with pytest.raises(OSError):
                urllib.request.urlopen(address + "api", timeout=2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)         # its own session: whatever is left of it
    assert names == ["01_x.ipynb"]
    assert "01_x.ipynb: new" in log.read_text()


WITNESS = """import socket, sys
from course_utils.commands.lab.websocket import PromptConnection
connect = PromptConnection.connect
def witnessed(self):
    answer, stream = connect(self), self.websocket_handler.ws_connection.stream
    print("nodelay", stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)
    return answer
PromptConnection.connect = witnessed
from jupyterlab.labapp import main
main(sys.argv[1:])
"""


def test_the_server_passes_messages_on_at_once(tmp_path):
    """The real server and a real websocket to a kernel: the server's end of it does not wait for acknowledgements."""
    home = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")}
    command = lab.server_command(tmp_path, ["--no-browser", "--port=0", "--IdentityProvider.token=secret"])
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    log = tmp_path / "log"
    with open(log, "w") as out:
        server = subprocess.Popen([sys.executable, "-c", WITNESS, *command[3:]], env={**os.environ, **home}, stdout=out,
                                  stderr=subprocess.STDOUT, start_new_session=True)
        try:
            address = wait_for_address(server, tmp_path / "JUPYTER_RUNTIME_DIR", log)
            request = urllib.request.Request(address + "api/kernels", data=b"{}", method="POST",
                                             headers={"Authorization": "token secret"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                kernel = json.load(answer)["id"]
            place = f"{address.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?token=secret"
            with ThreadPoolExecutor(1) as own:  # this thread may hold the event loop of a browser test
                own.submit(asyncio.run, connect_until(place, log, "nodelay")).result()
            assert "nodelay 1" in log.read_text()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)


async def connect_until(place, log, text):
    """Open the websocket at ``place`` and wait until ``log`` holds ``text``, or 20 seconds have passed."""
    connection = await asyncio.wait_for(websocket_connect(place), timeout=30)
    end = time.monotonic() + 20
    while text not in log.read_text() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    connection.close()
    await connection.read_message()


def wait_for_address(server, runtime, log, seconds=60):
    """The address in the file that a Jupyter server writes when it listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for path in runtime.glob("jpserver-*.json"):
            try:
                address = json.loads(path.read_text())["url"]
                urllib.request.urlopen(address + "api", timeout=2).close()
                return address
            except (ValueError, OSError):
                pass                                                            # half written, or not yet listening
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError("no server: " + log.read_text())
