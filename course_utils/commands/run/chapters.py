"""The chapters of one run on their way: a process for each, several at a time, stopped together, cleaned up after.

The processes are `course_utils.commands.run.execute`; nothing here runs a notebook. The state of a finished chapter is
written at once.
"""

import json
import os
import queue
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import course_utils
from course_utils import files
from course_utils.commands.run import processes

PACKAGE = Path(course_utils.__file__).resolve().parent
BACKSTOP = 180.0  # seconds after its deadline that a chapter's process is ended from here (its kernel starts first)
STOPPING = 30.0  # seconds that a chapter's process gets to write what it has after Ctrl-C


class Chapter:
    """One chapter on its way: where its files go, its process, and how far it is."""

    def __init__(self, source, out, parameters, timeout, key):
        self.source, self.name, self.key = source.resolve(), source.stem, key
        self.parameters, self.timeout, self.out = parameters, timeout, out
        self.ipynb, self.html = out / f"{self.name}.ipynb", out / f"{self.name}.html"
        self.state, self.log = out / "state" / f"{self.name}.json", out / "logs" / f"{self.name}.txt"
        self.process = self.result = self.started = self.scratch = None
        self.status, self.cell, self.cells, self.seconds = "waiting", 0, 0, 0.0
        self.mark = uuid.uuid4().hex

    def finished_before(self):
        """The result of an earlier run of exactly this, or None."""
        try:
            state = json.loads(self.state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(state, dict) and state.get("key") == self.key and self.ipynb.exists() and self.html.exists()
        return state if whole and state.get("status") == "passed" else None

    def keep(self):
        """Take over the result of an earlier run of exactly this. Whether there was one."""
        self.result = self.finished_before()
        if self.result is None:
            return False
        self.status, self.seconds = "kept", self.result["wall_seconds"]
        self.cell = self.cells = self.result["cells"]
        return True

    def forget(self):
        """Remove what earlier runs left of this chapter."""
        for path in (self.state, self.ipynb, self.html, self.log):
            path.unlink(missing_ok=True)

    def start(self, threads):
        self.scratch = tempfile.mkdtemp(prefix="course-")
        job = {
            "source": str(self.source),
            "ipynb": str(self.ipynb),
            "html": str(self.html),
            "mark": self.mark,
            "parameters": self.parameters,
            "timeout": self.timeout,
            "scratch": self.scratch,
            "cwd": str(self.source.parent),
        }
        path = self.out / "state" / f"{self.name}.job"
        files.write_json(path, job)
        environment = os.environ | {processes.VARIABLE: self.mark}
        if str(PACKAGE.parent) not in map(str, site.getsitepackages()):  # the kernel imports the package we are
            environment["PYTHONPATH"] = os.pathsep.join(
                part for part in (str(PACKAGE.parent), os.environ.get("PYTHONPATH")) if part
            )
        if threads:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "course_utils.commands.run.execute", str(path)],
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=self.out,
            )
        self.started, self.status = time.monotonic(), "running"

    def end(self):
        """Stop the chapter's process and everything it started. Returns what was still running."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()
            self.process.stdin.close()
        left = processes.end_marked(self.mark, patience=1.0 if self.result else 0.0)
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return left

    def finish(self, result):
        """Take the result, clean up, and write the state: from here on a resumed run will not repeat it."""
        self.result = result | {"key": self.key, "given": self.parameters}
        left = self.end()
        if left:
            self.result["notes"] = [*result["notes"], "left running, and ended: " + "; ".join(left)]
        self.status, self.seconds = result["status"], result["wall_seconds"]
        (self.out / "state" / f"{self.name}.job").unlink(missing_ok=True)
        files.write_json(self.state, self.result)


def lost(chapter):
    """The result of a chapter whose process ended without a word."""
    code = chapter.process.returncode
    tail = chapter.log.read_text(encoding="utf-8", errors="replace")[-3000:]
    message = f"the process that ran the chapter ended with code {code} before it could report"
    from nbconvert.filters import strip_ansi  # slow to import, and rarely needed

    return empty("infra", message, chapter, strip_ansi(tail))


def empty(reason, message, chapter, trace=""):
    status = "interrupted" if reason == "interrupted" else "failed"
    return {
        "status": status,
        "failure": {"reason": reason, "message": message, "traceback": trace},
        "metrics": {},
        "notes": [],
        "cells": chapter.cells,
        "wall_seconds": time.monotonic() - (chapter.started or time.monotonic()),
    }


def listen(chapter, events):
    """Put what the chapter's process says on the queue; the last word is None."""
    for line in chapter.process.stdout:
        try:
            events.put((chapter, json.loads(line)))
        except ValueError:
            continue
    chapter.process.stdout.close()
    chapter.process.wait()
    events.put((chapter, None))


def share(n_cores, n_waiting, jobs=None, gpu=False):
    """How many chapters run at once, and how many threads each may use (None: as many as torch likes).

    Without ``jobs`` one chapter a core, at most 4, and on a GPU one at a time.
    """
    at_once = max(1, min(jobs or (1 if gpu else min(n_cores, 4)), n_waiting))
    return at_once, max(1, n_cores // at_once) if at_once > 1 else None


def on_gpu(device):
    """Whether chapters would share a GPU."""
    if device != "auto":
        return not device.startswith("cpu")
    import torch  # seconds that only this question needs

    return torch.cuda.is_available()


def supervise(waiting, jobs, threads, show):
    """Run chapters, `jobs` at a time, until all are finished. Ctrl-C stops them and is raised again."""
    events, running = queue.Queue(), []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                chapter = waiting.pop(0)
                chapter.start(threads)
                running.append(chapter)
                threading.Thread(target=listen, args=(chapter, events), daemon=True).start()
                show(chapter)
            try:
                chapter, event = events.get(timeout=0.25)
            except queue.Empty:
                chapter = event = None
            for other in running:
                other.seconds = time.monotonic() - other.started
                if other.seconds > other.timeout + BACKSTOP:
                    os.killpg(other.process.pid, signal.SIGKILL)
            if chapter is None:
                show(None)
            elif event is None:
                if chapter.result is None:
                    chapter.finish(lost(chapter))
                running.remove(chapter)
                show(chapter)
            elif event["event"] == "done":
                chapter.result = event["result"]
                chapter.finish(chapter.result)
            else:
                chapter.cell, chapter.cells = event.get("cell", chapter.cell), event.get("cells", chapter.cells)
                show(chapter)
    except KeyboardInterrupt:
        stop(running, events)
        raise


def stop(running, events):
    """After Ctrl-C: each chapter writes what it has and says so, then everything ends. A second Ctrl-C ends it now."""
    try:
        for chapter in running:
            if chapter.process.poll() is None:
                chapter.process.terminate()
        ended, deadline = set(), time.monotonic() + STOPPING
        while len(ended) < len(running) and time.monotonic() < deadline:
            try:
                chapter, event = events.get(timeout=0.25)
            except queue.Empty:
                continue
            if event is None:
                ended.add(chapter.name)
            elif event["event"] == "done" and chapter.result is None:
                chapter.finish(event["result"])
    finally:
        for chapter in running:
            if chapter.result is None:
                chapter.finish(empty("interrupted", "the run was interrupted here", chapter))
