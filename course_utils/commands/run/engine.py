"""Papermill drives the kernel of a chapter here, but its verdict is not believed.

It takes ``sys.exit(0)`` for success, and marks cells as completed that never ran. Here a chapter has passed when the
kernel answered *ok* to every code cell, and not otherwise.
"""

import ast
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert.filters import strip_ansi
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from course_utils import files
from course_utils.commands.run.recorded import Unfit, check_outputs, laws_of, metrics_of

PARAMETERS = ("budget", "dataset", "seed", "device", "data_dir")
MAX_TEXT = 1_000_000  # characters that one cell may print
MAX_OUTPUT = 100_000_000  # characters of output that one chapter may hold, pictures included
SAVE_EVERY = 5.0  # seconds of a chapter that a killed process may lose; writing a large notebook takes 0.1 s
MAX_TOLD = 4_000  # characters of a message, and of a cell's source, that a failure repeats
MAX_TRACE = 20_000  # characters of a traceback that a failure repeats: its end
GRACE = 2.0  # seconds between asking a kernel to stop and ending it

# What the chapter decided, asked of the kernel after the last cell. Only modules that the chapter loaded are looked at.
ENVIRONMENT = """
import json as _json, platform as _platform, sys as _sys
def _environment(space):
    torch = _sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    names = ("torch", "torchvision", "numpy", "scipy", "sklearn", "matplotlib")
    return _json.dumps({
        "parameters": {n: space[n] if isinstance(space[n], int | float | str) else str(space[n])
                       for n in PARAMETERS if n in space},
        "versions": {"python": _platform.python_version(),
                     **{n: str(_sys.modules[n].__version__) for n in names if n in _sys.modules}},
        "machine": {"system": _platform.system(), "processor": _platform.machine(),
                    "gpu": torch.cuda.get_device_name() if cuda else None,
                    "threads": torch.get_num_threads() if torch is not None else None},
    })
""".replace("PARAMETERS", repr(PARAMETERS))


class CourseKernel(AsyncKernelManager):
    """A kernel that is always the Python running this process, whatever kernels the machine has installed."""

    @property
    def kernel_spec(self):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class Stopped(Exception):
    """The chapter was ended from here. `reason` is a status: timeout, output_limit, interrupted or exited."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


class ChapterClient(PapermillNotebookClient):
    """nbclient that keeps every reply, counts output while it comes, and can be ended at any moment."""

    def __init__(self, nb_man, *, job, emit):
        super().__init__(
            nb_man,
            on_cell_executed=self.keep_reply,
            kernel_name="python3",
            kernel_manager_class=CourseKernel,
            shutdown_kernel="immediate",
            startup_timeout=120,
            iopub_timeout=60,
        )
        self.job, self.emit = job, emit
        self.replies = {}  # cell index → content of the kernel's reply
        self.current = None  # index of the cell that is running
        self.stopped = None  # why we ended it, if we did
        self.environment = None
        self.text_seen = self.output_seen = 0
        self.saved = 0.0  # when the notebook was last written; the first cell is written at once
        late = f"the chapter took longer than its {job['timeout']:g} s and was ended in this cell"
        self.alarm = threading.Timer(job["timeout"], self.stop, ("timeout", late, GRACE))
        self.alarm.daemon = True

    def keep_reply(self, cell, cell_index, execute_reply):
        self.replies[cell_index] = execute_reply["content"]

    def papermill_execute_cells(self):
        code = [i for i, cell in enumerate(self.nb.cells) if runs(cell)]
        self.alarm.start()
        self.emit("start", cells=len(code))
        for number, index in enumerate(code, start=1):
            self.current, self.text_seen = index, 0
            cell = self.nb.cells[index]
            self.emit("cell", cell=number)
            if self.stopped:
                raise self.stopped
            self.nb_man.cell_start(cell, index)
            self.execute_cell(cell, index)
            if self.stopped:
                raise self.stopped
            self.nb_man.cell_complete(cell, index)
            if any(item.get("source") == "ask_exit" for item in self.replies[index].get("payload") or []):
                raise Stopped("exited", "the cell asked the kernel to exit, so the cells after it could not run")
            self.save_now_and_then()
        self.current = None
        self.ask_environment()

    def save_now_and_then(self):
        now = time.monotonic()
        if now - self.saved >= SAVE_EVERY:
            self.saved = now
            with suppress(OSError):  # a full disk: the last save will tell, if it still is
                save(self.nb, self.job["ipynb"])

    def ask_environment(self):
        self.kc.execute(ENVIRONMENT, silent=True, store_history=False)
        message = self.kc.execute(
            "", silent=True, store_history=False, user_expressions={"environment": "_environment(globals())"}
        )
        answer = self.wait_for_reply(message)["content"].get("user_expressions", {}).get("environment", {})
        if answer.get("status") == "ok":
            with suppress(ValueError, SyntaxError):  # a chapter may have renamed anything that the question uses
                self.environment = json.loads(ast.literal_eval(answer["data"]["text/plain"]))

    def process_message(self, msg, cell, cell_index):
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self.text_seen += len(content["text"])
            self.output_seen += len(content["text"])
        elif msg["msg_type"] in ("display_data", "execute_result"):
            self.output_seen += sum(len(str(value)) for value in content["data"].values())
        elif msg["msg_type"] == "error":
            self.text_seen += len(content["evalue"]) + sum(map(len, content["traceback"]))
        if self.text_seen > MAX_TEXT or self.output_seen > MAX_OUTPUT:
            limit = (
                f"more than {MAX_TEXT:,} characters of text in one cell"
                if self.text_seen > MAX_TEXT
                else (f"more than {MAX_OUTPUT:,} characters of output in the chapter")
            )
            if not self.stopped:
                self.stop("output_limit", f"the cell printed {limit}; it was ended there")
            return None  # what still comes is dropped, so memory stays bounded
        return super().process_message(msg, cell, cell_index)

    def stop(self, reason, message, grace=0.0):
        """End the kernel, from any thread. With `grace` it is interrupted first: a traceback shows where it was."""
        self.stopped = self.stopped or Stopped(reason, message)
        group = getattr(getattr(self.km, "provisioner", None), "pgid", None)
        if not group:
            return
        if grace:
            _signal_group(group, signal.SIGINT)
            time.sleep(grace)
        _signal_group(group, signal.SIGKILL)


def _signal_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def runs(cell):
    """Whether the kernel has to answer for this cell."""
    return cell.cell_type == "code" and cell.source.strip() and "skip-execution" not in cell.metadata.get("tags", [])


def save(nb, path):
    files.write_text(path, nbformat.writes(nb))


def failure_of(client, error):
    """What went wrong, for a reader: reason, message, the cell and the traceback it left."""
    nb, index = client.nb, client.current
    stopped = client.stopped or (error if isinstance(error, Stopped) else None)
    if stopped:
        reason, message = stopped.reason, str(stopped)
    elif isinstance(error, CellExecutionError) and error.ename == "SystemExit":
        reason, message = "exited", "the cell called sys.exit, so the cells after it never ran"
    elif isinstance(error, CellExecutionError):
        reason, message = "error", f"{error.ename}: {error.evalue}"
    elif isinstance(error, DeadKernelError):
        reason, message = "crashed", "the kernel died: it was killed, ran out of memory or ended itself"
    elif isinstance(error, CellTimeoutError):
        reason, message = "crashed", str(error).splitlines()[0]
    else:
        reason, message = "infra", f"{type(error).__name__}: {error}"
    failure = {"reason": reason, "message": message[:MAX_TOLD]}
    if index is None:
        return failure | {"traceback": "".join(traceback.format_exception(error))[-MAX_TRACE:]}
    cell = nb.cells[index]
    cell.metadata.papermill["status"], cell.metadata.papermill["exception"] = "failed", True
    errors = [output for output in cell.outputs if output.output_type == "error"]
    trace = strip_ansi("\n".join(errors[-1].traceback)) if errors else ""
    return failure | place(nb, index) | {"traceback": trace[-MAX_TRACE:]}


def place(nb, index):
    """Where in the notebook, for a reader: which of the cells that run, its id and its source."""
    code = [i for i, c in enumerate(nb.cells) if runs(c)]
    cell = nb.cells[index]
    where = {"cell": code.index(index) + 1, "cells": len(code)} if index in code else {}
    return where | {"cell_id": cell.get("id", ""), "source": cell.source[:MAX_TOLD]}


def execute(job, emit):
    """Run one chapter: the result as `course run` keeps it, with status, failure, metrics, notes and environment."""
    started = time.monotonic()
    source = Path(job["source"])
    result = {"status": "failed", "failure": None, "metrics": {}, "laws": {}, "notes": [], "cells": 0}
    try:
        nb = read(source)
        manager = prepared(nb, job["parameters"], source.name)
    except Exception as error:  # nbformat raises a dozen kinds, AttributeError among them
        message = f"{source.name} is not a readable notebook: {type(error).__name__}: {str(error)[:300]}"
        return result | {"failure": {"reason": "broken", "message": message, "traceback": ""}, "wall_seconds": 0.0}

    client = ChapterClient(manager, job=job, emit=emit)
    signal.signal(signal.SIGTERM, lambda *_: client.stop("interrupted", "the run was interrupted here"))
    error = None
    try:
        client.execute(cwd=job["cwd"])
    except Exception as caught:
        error = caught
    client.alarm.cancel()

    nb = client.nb
    code = [index for index, cell in enumerate(nb.cells) if runs(cell)]
    unanswered = [index for index in code if not answered(nb.cells[index], client.replies.get(index))]
    if error is None and unanswered:
        error, client.current = RuntimeError("the kernel never answered ok to this cell"), unanswered[0]
    if error is not None:
        result["failure"] = failure_of(client, error)
    for name, collect in (("metrics", metrics_of), ("laws", laws_of), ("shown", check_outputs)):
        try:
            result[name] = collect(nb)
        except Unfit as caught:
            failure = {"reason": caught.reason, "message": str(caught), "traceback": ""} | place(nb, caught.index)
            result["failure"] = result["failure"] or failure
    seconds = time.monotonic() - started
    nb.metadata.papermill.update(duration=seconds, exception=result["failure"] is not None)
    try:
        save(nb, job["ipynb"])
    except (OSError, ValueError) as caught:
        Path(job["ipynb"]).unlink(missing_ok=True)  # what was saved on the way is not the notebook that ended
        message = f"the executed notebook could not be written: {caught}; make room there and run the chapter again"
        first = f"{result['failure']['message']}; and " if result["failure"] else ""
        result["failure"] = (result["failure"] or {"reason": "disk", "traceback": ""}) | {"message": first + message}
    reason = result["failure"]["reason"] if result["failure"] else None
    status = {None: "passed", "interrupted": "interrupted"}.get(reason, "failed")
    environment = client.environment or {}
    return result | {"status": status, "cells": len(code), "environment": environment, "wall_seconds": seconds}


def read(source):
    """The notebook in a file. A pipe or a device that is called like one would be read for ever."""
    if not source.is_file():
        raise ValueError("a folder" if source.is_dir() else "no regular file, or a link that leads nowhere")
    nb = nbformat.reads(source.read_text(encoding="utf-8"), as_version=4)
    nbformat.validate(nb)
    return nb


def prepared(nb, parameters, name):
    """Papermill's manager of a notebook that has its parameters in and is to run on our kernel.

    Papermill's `execute_notebook` is left out on purpose: it formats paths, so that braces in a file name break it, and
    it judges the outputs afterwards.
    """
    nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb = load_notebook_node(nb)
    if parameters:
        nb = parameterize_notebook(nb, parameters, kernel_name="python3", language="python")
    nb.metadata.papermill["input_path"] = name
    manager = NotebookExecutionManager(nb, progress_bar=False, autosave_cell_every=0)
    manager.notebook_start()
    return manager


def answered(cell, reply):
    """Whether the kernel answered ok, or with the error that the cell announces by the tag `raises-exception`."""
    if reply is None:
        return False
    announced = "raises-exception" in cell.metadata.get("tags", []) and reply.get("ename") != "SystemExit"
    return reply["status"] == "ok" or (reply["status"] == "error" and announced)
