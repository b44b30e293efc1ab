"""A student's copy is never lost, whatever the course does to the chapter meanwhile; JupyterLab really serves it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from tornado.websocket import websocket_connect

from course_utils.commands.lab import lab


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
    assert lab.copy_chapters(chapters, work) == [("01_x.ipynb", "new")]
    before = {path.name: path.stat().st_mtime_ns for path in work.glob("*.ipynb")}
    assert lab.copy_chapters(chapters, work) == []
    assert {path.name: path.stat().st_mtime_ns for path in work.glob("*.ipynb")} == before
    assert files(work) == {"01_x.ipynb": "as published"}


def test_a_copy_that_was_worked_on_stays_and_the_newer_chapter_lies_beside_it(course):
    chapters, work = course
    lab.copy_chapters(chapters, work)
    (work / "01_x.ipynb").write_text("my answers")
    assert lab.copy_chapters(chapters, work) == []                              # the course did not change: no news
    (chapters / "01_x.ipynb").write_text("second edition")
    [(name, what)] = lab.copy_chapters(chapters, work)
    assert name == "01_x.new.ipynb" and "yours stays 01_x.ipynb" in what
    assert lab.copy_chapters(chapters, work) == []                              # said once
    (work / "01_x.new.ipynb").write_text("worked on as well")
    (chapters / "01_x.ipynb").write_text("third edition")
    lab.copy_chapters(chapters, work)
    assert files(work) == {"01_x.ipynb": "my answers", "01_x.new.ipynb": "worked on as well",
                           "01_x.new2.ipynb": "third edition"}


def test_an_untouched_copy_follows_the_course(course):
    chapters, work = course
    lab.copy_chapters(chapters, work)
    (chapters / "01_x.ipynb").write_text("second edition")
    [(name, what)] = lab.copy_chapters(chapters, work)
    assert name == "01_x.ipynb" and what.startswith("updated")
    assert files(work) == {"01_x.ipynb": "second edition"}


@pytest.mark.parametrize("ledger", [None, "", "{broken", "[]"])
def test_without_a_readable_ledger_every_copy_counts_as_worked_on(course, ledger):
    chapters, work = course
    work.mkdir()
    (work / "01_x.ipynb").write_text("my answers")
    if ledger is not None:
        (work / lab.LEDGER).write_text(ledger)
    lab.copy_chapters(chapters, work)
    assert files(work) == {"01_x.ipynb": "my answers", "01_x.new.ipynb": "as published"}


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(course, monkeypatch):
    chapters, work = course
    lab.copy_chapters(chapters, work)
    (chapters / "01_x.ipynb").write_text("second edition")

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        lab.copy_chapters(chapters, work)
    assert sorted(path.name for path in work.iterdir()) == [lab.LEDGER, "01_x.ipynb"]
    assert files(work) == {"01_x.ipynb": "as published"}


def test_a_folder_without_chapters_is_named(tmp_path):
    result = CliRunner().invoke(lab.main, ["--chapters", str(tmp_path), "--folder", str(tmp_path / "work")])
    assert result.exit_code == 1
    assert str(tmp_path) in result.output and "course build" in result.output


def test_jupyterlab_serves_the_copies(course, tmp_path):
    """The real server: it starts on the student's folder, lists the chapter, and ends when told."""
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
        finally:
            os.killpg(server.pid, signal.SIGTERM)             # its own session: the command and its server
            server.wait(timeout=20)
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
