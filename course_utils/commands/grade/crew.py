"""The workers of this machine: a process each, given one submission after the other, replaced when one dies."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import course_utils

TRIES = 3  # how often a submission is graded again after a failure that is not the student's
PACKAGE = Path(course_utils.__file__).resolve().parent


class Refused(Exception):
    """The workers cannot grade here: why, and what repairs it."""


class Worker:
    """One process, and the thread that speaks with it."""

    def __init__(self, job, log):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        parts = (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))
        environment["PYTHONPATH"] = os.pathsep.join(part for part in parts if part)
        self.log = open(log, "ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "course_utils.commands.grade.worker", str(job)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.log, env=environment, start_new_session=True)  # fmt: skip
        self.first = self.hear()

    def hear(self):
        """The next thing it says; None when it has gone."""
        try:
            line = self.process.stdout.readline()
            return json.loads(line) if line else None
        except (ValueError, OSError):
            return None

    def ask(self, task):
        """The record of a task, None where the worker died over it."""
        try:
            self.process.stdin.write(json.dumps(task).encode() + b"\n")
            self.process.stdin.flush()
        except (OSError, ValueError):
            return None
        return (self.hear() or {}).get("record")

    def end(self):
        """End the process and what it started; bubblewrap ends with it."""
        for action in (self.process.stdin.close, lambda: os.killpg(self.process.pid, signal.SIGKILL)):
            try:
                action()
            except OSError:
                pass
        self.process.wait()
        self.process.stdout.close()
        self.log.close()


def run(tasks, job, n_jobs, log, stop, begin, done):
    """Grade tasks with ``n_jobs`` workers until all have a record or the event ``stop`` is set.

    ``begin(task)`` is called when one starts, ``done(task, record)`` in this thread when one is finished. Raises
    :class:`Refused` where no worker can start.
    """
    todo, answers, workers = queue.SimpleQueue(), queue.SimpleQueue(), []
    for task in tasks:
        todo.put((task, 1))
    lock = threading.Lock()

    def work():
        worker = None
        while not stop.is_set():
            try:
                task, turn = todo.get_nowait()
            except queue.Empty:
                break
            if worker is None or worker.process.poll() is not None:
                worker = Worker(job, log)
                with lock:
                    workers.append(worker)
                if stop.is_set():
                    break
                if worker.first is None or "refused" in worker.first:
                    told = (worker.first or {}).get("refused") or [f"a worker ended at once; see {log}", ""]
                    answers.put(("refused", told))
                    return
            begin(task)
            record = worker.ask(task)
            if stop.is_set():
                break
            if (record is None or record["state"] == "infra") and turn < TRIES:
                worker.end()
                todo.put((task, turn + 1))
                continue
            answers.put((task, record or lost(task)))
        answers.put((None, None))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(max(1, min(n_jobs, len(tasks))))]
    for thread in threads:
        thread.start()
    left, missing = len(threads), len(tasks)
    try:
        while missing and left and not stop.is_set():
            try:
                task, record = answers.get(timeout=0.25)
            except queue.Empty:
                continue
            if task == "refused":
                raise Refused(*record)
            if task is None:
                left -= 1
                if not left and missing and not stop.is_set() and not todo.empty():  # one came back after the last look
                    thread = threading.Thread(target=work, daemon=True)
                    thread.start()
                    left = 1
                continue
            missing -= 1
            done(task, record)
    finally:
        if missing:
            stop.set()
        with lock:
            for worker in workers:
                worker.end()
        deadline = time.monotonic() + 5
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    return not missing


def lost(task):
    """The record of a task over which workers died again and again."""
    note = f"the grader's own process ended {TRIES} times over this submission"
    return {"id": task["id"], "chapter": task["chapter"], "state": "infra", "note": note, "exercises": {},
            "seconds": 0.0, "key": task["key"]}  # fmt: skip
