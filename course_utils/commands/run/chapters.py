"""The chapters of one run on their way: a process for each, several at a time, stopped together, cleaned up after.

The processes are `course_utils.commands.run.execute`; nothing here runs a notebook. What a finished chapter leaves is
put into the folder of the run at once, by `shelf`.
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
from contextlib import contextmanager
from pathlib import Path

import course_utils
from course_utils.commands.run import processes, shelf

PACKAGE = Path(course_utils.__file__).resolve().parent
BACKSTOP = 180.0  # seconds after its deadline that a chapter's process is ended from here (its kernel starts first)
STOPPING = 30.0  # seconds that a chapter's process gets to write what it has after Ctrl-C


class Chapter:
    """One chapter on its way: its process, how far it is, and the folder where its new files are made."""

    def __init__(self, source, parameters, timeout, key, notes=()):
        self.source, self.name, self.key = source, source.stem, key
        self.parameters, self.timeout, self.notes = parameters, timeout, list(notes)
        self.process = self.result = self.started = self.scratch = self.staged = None
        self.status, self.cell, self.cells, self.seconds = "waiting", 0, 0, 0.0
        self.mark = uuid.uuid4().hex

    def keep(self, result):
        """Take over the result of an earlier run of exactly this, if `result` is one. Whether it is."""
        if result is None or result["status"] != "passed" or result.get("key") != self.key:
            return False
        self.result, self.status, self.seconds = result, "kept", result["wall_seconds"]
        self.cell = self.cells = result["cells"]
        return True

    def start(self, staged, threads):
        """Start the process, which writes into the folder `staged`."""
        self.started, self.status, self.staged = time.monotonic(), "running", staged
        self.scratch = tempfile.mkdtemp(prefix="course-")
        job = {
            "source": str(self.source),
            "ipynb": str(staged / f"{self.name}.ipynb"),
            "html": str(staged / f"{self.name}.html"),
            "mark": self.mark,
            "parameters": self.parameters,
            "timeout": self.timeout,
            "scratch": self.scratch,
            "cwd": str(self.source.parent),
        }
        path = staged / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        environment = os.environ | {processes.VARIABLE: self.mark}
        if str(PACKAGE.parent) not in map(str, site.getsitepackages()):  # the kernel imports the package we are
            environment["PYTHONPATH"] = os.pathsep.join(
                part for part in (str(PACKAGE.parent), os.environ.get("PYTHONPATH")) if part
            )
        if threads:
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        with open(staged / "log.txt", "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "course_utils.commands.run.execute", str(path)],
                start_new_session=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=staged,
            )

    def end(self):
        """Stop the chapter's process and everything it started. Returns what was still running."""
        left = []
        if self.process:
            kill(self.process)
            self.process.wait()
            self.process.stdin.close()
            left = processes.end_marked(self.mark, patience=1.0 if self.result else 0.0)
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return left

    def finish(self, result, folder):
        """Take the result, clean up, and put it into the folder: from here on a resumed run will not repeat it."""
        self.result = result | {"key": self.key, "given": self.parameters, "written": shelf.now()}
        left = self.end()
        ended = ["left running, and ended: " + "; ".join(left)] if left else []
        self.result["notes"] = [*self.notes, *result["notes"], *ended]
        self.result = folder.put(self.name, self.staged, self.result)
        self.status, self.seconds = self.result["status"], self.result["wall_seconds"]
        shutil.rmtree(self.staged, ignore_errors=True)


def kill(process):
    """End a chapter's process, if it still runs, with whatever is left in its session."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended just now
            pass


def lost(chapter):
    """The result of a chapter whose process ended without a word."""
    code = chapter.process.returncode
    try:
        tail = (chapter.staged / "log.txt").read_text(encoding="utf-8", errors="replace")[-3000:]
    except OSError as error:
        tail = f"its log cannot be read: {error}"
    how = f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with code {code}"
    hint = "; a machine that runs out of memory ends processes like this: try --jobs 1" if code == -9 else ""
    return empty("infra", f"the process that ran the chapter {how} before it could report{hint}", chapter, tail)


def empty(reason, message, chapter, trace=""):
    status = "interrupted" if reason == "interrupted" else "failed"
    seconds = time.monotonic() - chapter.started if chapter.started else 0.0
    failure = {"reason": reason, "message": message, "traceback": trace}
    return shelf.nothing(status, failure, cells=chapter.cells, wall_seconds=seconds)


def listen(chapter, events):
    """Put what the chapter's process says on the queue; the last word is None."""
    for line in chapter.process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        events.put((chapter, event))
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


@contextmanager
def asked_to_stop(events):
    """Ctrl-C, SIGTERM and SIGHUP become the word ``(None, "stop")`` on the queue, so that none of them hits a moment
    between two files. What was ignored when we were started (nohup, a shell's background job) stays ignored.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, lambda *_: events.put((None, "stop")))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def supervise(waiting, jobs, threads, folder, events, show):
    """Run chapters, `jobs` at a time, until all are finished or a stop is asked for. Whether all are finished."""
    running = []
    while waiting or running:
        while waiting and len(running) < jobs:
            chapter = waiting.pop(0)
            if begin(chapter, folder, threads):
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
                kill(other.process)
        if event == "stop":
            stop(running, folder, events)
            return False
        if chapter is None:
            show(None)
        elif event is None:
            if chapter.result is None:
                chapter.finish(lost(chapter), folder)
            running.remove(chapter)
            show(chapter)
        elif event["event"] == "done":
            chapter.finish(event["result"], folder)
        else:
            chapter.cell, chapter.cells = event.get("cell", chapter.cell), event.get("cells", chapter.cells)
            show(chapter)
    return True


def begin(chapter, folder, threads):
    """Start a chapter; one that cannot be started has failed, alone. Whether it runs."""
    try:
        chapter.start(folder.stage(), threads)
    except (OSError, ValueError) as error:
        message = f"the chapter could not be started: {error}; make room there and run the chapter again"
        chapter.finish(empty("infra", message, chapter), folder)
        return False
    return True


def stop(running, folder, events):
    """Each chapter writes what it has and says so, then everything ends. Asked a second time, everything ends now."""
    for chapter in running:
        if chapter.process.poll() is None:
            chapter.process.terminate()
    ended, deadline = set(), time.monotonic() + STOPPING
    while len(ended) < len(running) and time.monotonic() < deadline:
        try:
            chapter, event = events.get(timeout=0.25)
        except queue.Empty:
            continue
        if event == "stop":
            break
        if event is None:
            ended.add(chapter.name)
        elif event["event"] == "done" and chapter.result is None:
            chapter.finish(event["result"], folder)
    for chapter in running:
        if chapter.result is None:
            chapter.finish(empty("interrupted", "the run was interrupted here", chapter), folder)
