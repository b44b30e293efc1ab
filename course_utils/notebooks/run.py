"""`course run`: every chapter executed, its numbers collected, its page written.

The parent here never runs a notebook. It starts one process per chapter (`course_utils.notebooks.execute`), reads what
they say, writes the state of each finished chapter at once, and ends whatever a chapter leaves behind.
"""

import hashlib
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

import course_utils
from course_utils import shipped
from course_utils.doctor import cores
from course_utils.notebooks import files, processes, report

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PACKAGE = Path(course_utils.__file__).resolve().parent
VERSIONS = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "ipykernel",
    "nbclient",
    "papermill",
)
BACKSTOP = 180.0  # seconds after its deadline that a chapter's process is ended from here (its kernel starts first)
STOPPING = 30.0  # seconds that a chapter's process gets to write what it has after Ctrl-C


def notebooks_folder():
    """`notebooks/` where we stand, else the one of the checkout that the package lies in."""
    here = Path.cwd() / "notebooks"
    return here if any(here.glob("*.ipynb")) else PACKAGE.parent / "notebooks"


def select(folder, chapters):
    """Notebook paths for what was asked: all of `folder`, or by number (`1`, `01`), name (`energy`), stem or path."""
    found = {path.stem: path for path in sorted(Path(folder).glob("*.ipynb"))}
    wanted = [
        word
        for words in chapters
        for word in ([words] if words.endswith(".ipynb") else words.replace(",", " ").split())
    ]
    if not wanted:
        if not found:
            raise click.ClickException(f"no chapters in {folder}: expected *.ipynb there; `course build` writes them")
        return [path.resolve() for path in found.values()]
    chosen = {}
    for word in wanted:
        if word.endswith(".ipynb"):
            if not Path(word).is_file():
                raise click.ClickException(f"no notebook at {word}")
            hits = [Path(word).resolve()]
        else:
            number = f"{int(word):02d}_" if word.isdigit() else None
            hits = [
                path
                for stem, path in found.items()
                if (number and stem.startswith(number)) or word in (stem, stem.partition("_")[2])
            ]
        if not hits:
            raise click.ClickException(f"no chapter {word!r} in {folder}; there are: {', '.join(found) or 'none'}")
        for path in hits:
            if chosen.setdefault(path.stem, path.resolve()) != path.resolve():
                raise click.ClickException(f"two chapters are called {path.stem}: {chosen[path.stem]} and {path}")
    return list(chosen.values())


def package_hash():
    """Hash of the package's source and of what ships with it, without the code that only runs and shows notebooks."""
    digest = hashlib.sha256()
    for root in (PACKAGE, shipped.folder()):
        for path in sorted(root.rglob("*")):
            parts = path.relative_to(root).parts
            if path.is_file() and "__pycache__" not in parts and parts[0] != "notebooks":
                digest.update("/".join(parts).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def versions():
    """Versions of the libraries that results depend on, and of Python."""
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def key_of(source, parameters, package, libraries):
    """What a finished chapter is remembered by: notebook, parameters, package source, versions."""
    described = json.dumps([parameters, package, libraries], sort_keys=True)
    return hashlib.sha256(Path(source).read_bytes() + b"\0" + described.encode()).hexdigest()


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
                [sys.executable, "-m", "course_utils.notebooks.execute", str(path)],
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
    return empty("infra", message, chapter, files.strip_ansi(tail))


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


@contextmanager
def only_run(out):
    """Hold the folder `out` for one run at a time; the system lets go of it when the run ends, however it ends."""
    with open(out / "state" / "lock", "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise click.ClickException(
                    f"another run is writing to {out}: wait for it, or use another --out"
                ) from error
        yield


@click.command(name="run")
@click.argument("chapters", nargs=-1)
@click.option(
    "--budget",
    type=click.Choice(["auto", "smoke", "class", "full"]),
    default="auto",
    show_default=True,
    help="How much to train. auto: full with a GPU, else class.",
)
@click.option("--dataset", help="Data set for all chapters.  [default: each chapter's own]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps")
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where data sets lie.  [default: the checkout's data/]"
)
@click.option("--out", type=click.Path(file_okay=False), default="build/run", show_default=True)
@click.option(
    "--jobs", type=click.IntRange(1), show_default="one a core, at most 4; on a GPU 1", help="Chapters at once."
)
@click.option(
    "--resume", is_flag=True, help="Keep chapters that passed with the same notebook, parameters and package."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=7200.0,
    show_default=True,
    help="Seconds that the cells of one chapter may take.",
)
@click.option("--notebooks", type=click.Path(file_okay=False, exists=True), help="Folder of the chapters.")
def main(chapters, budget, dataset, seed, device, data_dir, out, jobs, resume, timeout, notebooks):
    """Execute CHAPTERS (all, or by number or name), collect their numbers, write their pages.

    Writes executed notebooks, pages, metrics.json and index.html to --out. Exit code 0: every chapter passed.
    """
    folder = Path(notebooks) if notebooks else notebooks_folder()
    sources = select(folder, chapters)
    out = Path(out).resolve()
    for part in (out, out / "state", out / "logs"):
        part.mkdir(parents=True, exist_ok=True)
    parameters = {"budget": budget, "seed": seed, "device": device}
    if dataset:
        parameters["dataset"] = dataset
    if data_dir:
        parameters["data_dir"] = str(Path(data_dir).resolve())
    package, libraries = package_hash(), versions()

    def plan(paths):
        return [Chapter(path, out, parameters, timeout, key_of(path, parameters, package, libraries)) for path in paths]

    with only_run(out):
        todo = plan(sources)
        for chapter in todo:
            if not (resume and chapter.keep()):
                chapter.forget()
        others = plan(path.resolve() for path in folder.glob("*.ipynb") if path.resolve() not in sources)
        others = [chapter for chapter in others if chapter.keep()]  # run before, and still what a run would give
        waiting = [chapter for chapter in todo if chapter.result is None]
        alone = jobs is not None or len(waiting) < 2
        at_once, threads = share(cores(), len(waiting), jobs, not alone and on_gpu(device))
        if budget == "smoke":  # so little work that threads would mostly wait for each other
            threads = 1
        interrupted = False
        with report.progress(todo) as show:
            try:
                supervise(waiting, at_once, threads, show)
            except KeyboardInterrupt:
                interrupted = True
        chapters = sorted(todo + others, key=lambda chapter: chapter.name)
        summary = report.write(chapters, out, folder / "floors.toml", libraries, package)
    report.show(summary, out)
    sys.exit(130 if interrupted else 0 if summary["status"] == "passed" else 1)
