"""Papermill runs the notebook; the kernel is a process in the submission's cradle.

Papermill's verdict is not asked for (it takes ``sys.exit`` for success): what ran is known from the kernel's replies.
Output is counted while it comes, so that a cell that prints for ever costs no memory.
"""

import contextlib
import json
import threading
import uuid

import nbformat
import psutil
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.provisioning import KernelProvisionerBase
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NotebookExecutionManager
from papermill.iorw import load_notebook_node

from course_utils.commands.grade.sandbox import NoSandbox

PICTURES, MAX_PICTURES = 20, 5_000_000  # how many a notebook may show, and the characters they may have together


class CradleProvisioner(KernelProvisionerBase):
    """A kernel that is not started as a program, but asked for in the sandbox."""

    cradle = None
    process = None

    @property
    def has_process(self):
        return self.process is not None

    async def poll(self):
        return None if self.process is not None and self.process.is_running() and (
            self.process.status() != psutil.STATUS_ZOMBIE) else 0  # fmt: skip

    async def wait(self):
        self.process = None
        return 0

    async def send_signal(self, signum):
        with contextlib.suppress(psutil.Error):
            self.process.send_signal(signum)

    async def kill(self, restart=False):
        with contextlib.suppress(psutil.Error):
            self.process.kill()

    async def terminate(self, restart=False):
        await self.kill(restart)

    async def launch_kernel(self, cmd, **kwargs):
        self.process = self.cradle.kernel("kernel.json")
        if self.process is None:
            raise NoSandbox("the kernel did not start", "")
        return self.parent.get_connection_info()

    async def cleanup(self, restart=False):
        pass


class CradleKernel(AsyncKernelManager):
    """Makes the files of a connection by sockets in the cradle's folder, which has another name inside."""

    cradle = None

    @property
    def kernel_spec(self):
        return KernelSpec(argv=["ipykernel_launcher"], display_name="Python 3", language="python",
                          interrupt_mode="message")  # fmt: skip

    async def _async_pre_start_kernel(self, **kwargs):
        ports = {f"{name}_port": number for number, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
        info = {"transport": "ipc", "key": uuid.uuid4().hex, "signature_scheme": "hmac-sha256", **ports}
        folder = self.cradle.lines
        inside = info | {"ip": f"{self.cradle.kernel_folder}/k", "kernel_name": "python3"}
        (folder / "kernel.json").write_text(json.dumps(inside), encoding="utf-8")
        self.connection_file = str(self.cradle.connection)
        self.transport, self.ip = "ipc", str(folder / "k")
        self.load_connection_info(info | {"ip": self.ip})
        self.provisioner = CradleProvisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        self.provisioner.cradle = self.cradle
        return [], kwargs


class Client(PapermillNotebookClient):
    """Runs the cells one after the other, keeps the replies, and stops where a limit is reached."""

    def __init__(self, manager, cradle, seconds):
        class Kernel(CradleKernel):
            pass

        Kernel.cradle = cradle
        super().__init__(manager, on_cell_executed=self.keep, kernel_name="python3", kernel_manager_class=Kernel,
                         shutdown_kernel="immediate", startup_timeout=120, iopub_timeout=10, store_widget_state=False,
                         ipython_hist_file="")  # fmt: skip
        self.cradle, self.replies, self.seen, self.pictures, self.n_pictures = cradle, {}, 0, 0, 0
        self.alarm = threading.Timer(seconds * cradle.limits.patience, cradle.exceed, ("timeout",))
        self.alarm.daemon = True

    def keep(self, cell, cell_index, execute_reply):
        self.replies[cell.id] = execute_reply["content"]["status"]

    def papermill_execute_cells(self):
        self.alarm.start()
        self.cradle.allow(self.cradle.limits.notebook)
        for index, cell in enumerate(self.nb.cells):
            if cell.cell_type == "code" and cell.source.strip():
                self.nb_man.cell_start(cell, index)
                self.execute_cell(cell, index)
                self.nb_man.cell_complete(cell, index)

    def process_message(self, msg, cell, cell_index):
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.seen += len(content["text"])
        elif kind == "error":
            self.seen += len(str(content.get("evalue", ""))) + sum(len(str(t)) for t in content.get("traceback", ()))
        elif kind in ("display_data", "execute_result", "update_display_data"):
            data = content.get("data", {})
            pictures = sum(len(str(v)) for k, v in data.items() if k.startswith("image/"))
            self.pictures, self.n_pictures = self.pictures + pictures, self.n_pictures + bool(pictures)
            self.seen += sum(len(str(v)) for k, v in data.items() if not k.startswith("image/"))
        if self.seen > self.cradle.limits.output:
            if self.cradle.exceeded is None:
                self.cradle.exceed("output_limit")
            return None
        if kind.startswith("comm") or self.n_pictures > PICTURES or self.pictures > MAX_PICTURES:
            return None  # widgets speak to nobody here, and enough is enough
        return super().process_message(msg, cell, cell_index)


def run(notebook, cradle):
    """``(executed notebook, state, exercise)``: "" and "" where every cell was answered, else how it ended, and in the
    cell of which exercise.
    """
    notebook = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        cell.setdefault("outputs", [])
    manager = NotebookExecutionManager(load_notebook_node(notebook), progress_bar=False, autosave_cell_every=0)
    manager.notebook_start()
    client = Client(manager, cradle, cradle.limits.notebook)
    state = ""
    try:
        client.execute()
    except Exception:  # papermill, nbclient and zmq raise what they like when a kernel dies
        state = cradle.exceeded or "crashed"
    finally:
        client.alarm.cancel()
        with contextlib.suppress(Exception):
            if client.kc is not None:
                client.kc.stop_channels()
    left = [cell for cell in client.nb.cells if cell.source.strip() and cell.id not in client.replies]
    if not left:
        return client.nb, "", ""
    return client.nb, state or cradle.exceeded or "crashed", left[0].metadata.get("exercise", "")

