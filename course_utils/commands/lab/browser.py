"""A real Jupyter server and a real Chromium, for the browser tests and for ``course bench widgets``."""

import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from course_utils.commands.doctor import chromium
from course_utils.commands.lab.lab import DEFAULTS

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")


def missing():
    """What a browser test needs and is not here, with the command that brings it; ``""`` when nothing is missing."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install -e '.[dev]'"
    if importlib.util.find_spec("jupyterlab") is None:
        return "JupyterLab is not installed: pip install -e '.[dev]'"
    if chromium() is None:
        return "no Chromium found: apt-get install chromium (or name one in the environment variable CHROME)"
    return ""


@contextlib.contextmanager
def browser(width=1100, height=1000):
    """A headless Chromium with an empty profile: yields a Playwright browser context."""
    from playwright.sync_api import sync_playwright  # only tests and benchmarks need it

    with tempfile.TemporaryDirectory(prefix="profile-") as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium(), headless=True, args=list(FLAGS),
            viewport={"width": width, "height": height})
        try:
            yield context
        finally:
            context.close()


class Jupyter:
    """A Jupyter server on ``folder``, for a user who never had one; serves JupyterLab and Notebook 7.

    A context manager with the settings that ``course lab`` gives. ``options``: further arguments of its command line.
    """

    def __init__(self, folder, *options):
        self.folder, self.options, self.token = Path(folder).resolve(), options, secrets.token_hex(16)
        self.home = Path(tempfile.mkdtemp(prefix="jupyter-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __enter__(self):
        places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
                  "IPYTHONDIR": "ipython"}
        environment = dict(os.environ, HOME=str(self.home), OMP_NUM_THREADS="1",
                           JUPYTER_CONFIG_PATH=str(DEFAULTS),
                           JUPYTERLAB_SETTINGS_DIR=str(self.home / "config" / "lab" / "user-settings"),
                           PYTHONPATH=os.pathsep.join(sys.path),  # kernels import what this process can
                           **{name: str(self.home / place) for name, place in places.items()})
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", "--allow-root",
                   f"--port={self.port}", f"--ServerApp.root_dir={self.folder}",
                   f"--IdentityProvider.token={self.token}",
                   "--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True",
                   "--ServerApp.terminals_enabled=False", *self.options]
        self.log = open(self.home / "log", "w")  # noqa: SIM115  (closed in __exit__)
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/status?token={self.token}", timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    report = (self.home / "log").read_text()
                    self.__exit__()
                    raise RuntimeError(f"the Jupyter server did not start:\n{report}") from None
                time.sleep(0.2)

    def __exit__(self, *_):
        self.process.terminate()  # the server ends its kernels first
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def url(self, notebook, app="lab"):
        """Address of a notebook in JupyterLab (``"lab"``) or Notebook 7 (``"notebook"``)."""
        path = f"lab/workspaces/w{secrets.token_hex(3)}/tree" if app == "lab" else "notebooks"
        return f"http://127.0.0.1:{self.port}/{path}/{notebook}?token={self.token}"


def write_notebook(path, *cells):
    """A notebook file with these code cells."""
    import nbformat  # not needed to look for a Chromium

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


def open_notebook(page, url):
    """Open a notebook and wait for its kernel."""
    page.goto(url)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    kernel = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
    page.wait_for_function(f"() => {kernel}?.status === 'idle'", timeout=90_000)


def run_all(page, demos=1):
    """Run every cell of the notebook, and wait until that many demos stand there."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function("(n) => document.querySelectorAll('.course-demo[data-shown]').length >= n", arg=demos,
                           timeout=90_000)
    page.wait_for_selector(".widget-slider .noUi-handle", timeout=30_000)


def drag(page, target, dx, dy=0, moves=150, hertz=60):
    """Press on the locator ``target``, move by (dx, dy) pixels in ``moves`` steps paced by the clock, let go."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    start = time.perf_counter()
    for i in range(1, moves + 1):
        page.mouse.move(x + dx * i / moves, y + dy * i / moves)
        time.sleep(max(0.0, start + i / hertz - time.perf_counter()))
    page.mouse.up()


def shown(place):
    """The slider values that the last painted frame of the first demo in ``place`` (a page or locator) shows."""
    return json.loads(place.locator(".course-demo").first.get_attribute("data-shown"))
