"""``course doctor``: what works on this machine, and for what does not, the one command that repairs it.

Nothing is taken on trust: torch multiplies, a Jupyter kernel starts and imports the course, Chromium loads a page,
bubblewrap runs a program. Each check is a function without arguments that returns a :class:`Finding`.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

PACKAGE = "deep-generative-course"
CHECKOUT = Path(__file__).resolve().parents[2]
OLDEST, NEWEST = (3, 11), (3, 13)
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    ``needed`` tells a gap in the student's path from a convenience; ``fix`` is one command, empty where nothing is
    missing.
    """

    name: str
    works: bool
    what: str
    fix: str = ""
    needed: bool = True


def install(*requirements):
    """The pip command of this very Python."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def install_course(extra=""):
    """The pip command that brings this course, with what an extra such as "lab" or "lab,instructor" declares.

    Outside a checkout it names what the extra declares, never the course: its name may be anybody's on an index.
    """
    part = f"[{extra}]" if extra else ""
    if (CHECKOUT / "pyproject.toml").exists():
        return install("-e", f"{CHECKOUT}{part}")
    try:
        declared = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        declared = []
    wanted = {line.partition(";")[0].strip(): 0 for line in declared for each in extra.split(",")
              if (f'extra == "{each}"' in line.replace("'", '"') if each else "extra ==" not in line)}
    return install(*wanted) if wanted else f"{sys.executable} -m pip install -e FOLDER, where FOLDER is the checkout"


def system_install(package):
    """The command by which this system gets a program."""
    if sys.platform == "darwin":
        return f"brew install {package}"
    for manager, command in (("apt-get", "apt-get install -y"), ("dnf", "dnf install -y"), ("pacman", "pacman -S")):
        if shutil.which(manager):
            return f"{'' if is_root() else 'sudo '}{command} {package}"
    return f"install {package} with the package manager of this system"


def is_root():
    return hasattr(os, "geteuid") and os.geteuid() == 0


def check_python():
    """The interpreter, and whether the course's packages were made for it."""
    here = sys.version_info[:2]
    what = f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}"
    if OLDEST <= here <= NEWEST:
        return Finding("Python", True, what)
    return Finding("Python", False, f"{what}; the course wants 3.11 to 3.13",
                   "rm -r .venv && PYTHON=python3.12 make setup")


def check_packages():
    """Every package that the course declares for its chapters, by version."""
    try:
        declared = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return Finding("packages", False, f"{PACKAGE} itself is not installed for this Python", install_course())
    wrong, count = [], 0
    for line in declared:
        if "extra ==" in line:
            continue
        count += 1
        name, oldest = re.fullmatch(r"([\w.-]+)(?:>=([\d.]+))?.*", line).groups()
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append((name, oldest, "missing"))
            continue
        if oldest and _numbers(installed) < _numbers(oldest):
            wrong.append((name, oldest, f"{installed} is too old"))
    if wrong:
        return Finding("packages", False, ", ".join(f"{name} {why}" for name, _, why in wrong),
                       install(*(f"{name}>={oldest}" if oldest else name for name, oldest, _ in wrong)))
    return Finding("packages", True, f"all {count} that the chapters need")


def _numbers(version):
    return tuple(int(part) for part in re.match(r"\d+(?:\.\d+)*", version).group().split("."))


def check_torch():
    """torch starts and multiplies."""
    try:
        torch = importlib.import_module("torch")
        product = (torch.ones(3, 3) @ torch.ones(3, 3)).sum().item()
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("torch", False, f"does not start: {_last_line(error)}",
                       install("--force-reinstall", "torch", "torchvision"))
    if product != 27:
        return Finding("torch", False, f"multiplies wrongly: {product} instead of 27",
                       install("--force-reinstall", "torch", "torchvision"))
    return Finding("torch", True, torch.__version__)


def check_device():
    """Where ``device="auto"`` will compute."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Finding("device", True, f"CUDA: {properties.name}, {properties.total_memory / 2**30:.0f} GiB; "
                                       "budget auto means full", needed=False)
    also = "; Apple's GPU is there with device='mps'" if torch.backends.mps.is_available() else ""
    return Finding("device", True, f"CPU; budget auto means class{also}", needed=False)


def check_source():
    """What the first cell of a chapter installs on Colab, as pyproject.toml says."""
    if not (CHECKOUT / "pyproject.toml").exists():
        return Finding("Colab", True, "this is no checkout: chapters are not built here", needed=False)
    said = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    source = said.get("tool", {}).get("course", {}).get("source", "")
    if source:
        return Finding("Colab", True, f"the chapters install {source} there", needed=False)
    return Finding("Colab", False, "source in pyproject.toml is empty: chapters install nothing there; the command "
                                   "makes some that carry the package", "course build --carry", needed=False)


def cores():
    """How many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads():
    """torch should use the cores there are."""
    torch = importlib.import_module("torch")
    threads, there = torch.get_num_threads(), cores()
    what = f"torch uses {threads} of {there} {'core' if there == 1 else 'cores'}"
    if threads < max(1, there // 2) and os.environ.get("OMP_NUM_THREADS"):
        return Finding("threads", False, f"{what}, because OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']}",
                       "unset OMP_NUM_THREADS", needed=False)
    return Finding("threads", True, what, needed=False)


def check_handwriting():
    """The course's own data set, which is drawn on the spot."""
    try:
        handwriting = importlib.import_module("course_utils.data.handwriting")
        handwriting.sample(2)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        return Finding("handwriting", False, f"cannot be drawn: {_last_line(error)}", install_course())
    return Finding("handwriting", True, "drawn on the spot, nothing to download")


def check_data():
    """The real images: which of them are on disk. No chapter needs one."""
    images = importlib.import_module("course_utils.data.images")
    here = [name for name in images.NAMES if name != "handwriting" and images.on_disk(name)]
    missing = [name for name in images.NAMES if not images.on_disk(name)]
    what = f"{', '.join(here)}" + (f"; not in {images.default_data_dir()}: {', '.join(missing)}" if missing else "")
    if not missing:
        return Finding("real images", True, what, needed=False)
    names = "".join(f"{name!r}, " for name in missing)
    code = f"from course_utils.data import images; [images.download(name) for name in ({names.strip()})]"
    return Finding("real images", False, what, f'{shlex.quote(sys.executable)} -c "{code}"', needed=False)


def check_kernel():
    """Start the kernel that the notebooks ask for, and import the course in it."""
    try:
        from jupyter_client.manager import start_new_kernel
    except ImportError:
        return Finding("Jupyter kernel", False, "jupyter-client is not installed", install_course("lab"))
    register = shlex.join([sys.executable, "-m", "ipykernel", "install", "--sys-prefix", "--name", "python3"])
    said = []
    try:
        manager, client = start_new_kernel(kernel_name="python3", startup_timeout=60, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL)
    except Exception as error:                      # whatever goes wrong while a foreign program starts is the finding
        return Finding("Jupyter kernel", False, f"does not start: {_last_line(error)}", register)
    try:
        reply = client.execute_interactive(
            "import sys, course_utils; print(sys.prefix, end='')", timeout=60, store_history=False,
            output_hook=lambda message: said.append(message["content"].get("text", "")))
    except TimeoutError:
        return Finding("Jupyter kernel", False, "starts, but does not answer within 60 s", register)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    if reply["content"]["status"] != "ok":
        return Finding("Jupyter kernel", False, f"starts, but: {reply['content']['evalue']}", install_course())
    kernel = "".join(said)
    if Path(kernel).resolve() != Path(sys.prefix).resolve():
        return Finding("Jupyter kernel", False, f"python3 is another Python: {kernel}", register)
    return Finding("Jupyter kernel", True, "started, imports the course")


def check_lab():
    """JupyterLab, for ``make lab``. Any other notebook front end will do, so a chapter does not need it."""
    try:
        return Finding("JupyterLab", True, metadata.version("jupyterlab"), needed=False)
    except metadata.PackageNotFoundError:
        what = "not installed; any other notebook front end will do"
        return Finding("JupyterLab", False, what, install_course("lab"), needed=False)


def check_papermill():
    """papermill, for ``course run``."""
    try:
        return Finding("papermill", True, f"{metadata.version('papermill')}: course run can execute chapters",
                       needed=False)
    except metadata.PackageNotFoundError:
        what = "not installed; course run needs it"
        return Finding("papermill", False, what, install_course("instructor"), needed=False)


def chromium():
    """Path of the system's Chromium (or of ``$CHROME``), or ``None``."""
    named = os.environ.get("CHROME")
    return named if named else next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


def check_chromium():
    """Load a page in a headless Chromium: the browser tests of the widgets drive one."""
    fix = system_install("chromium")
    browser = chromium()
    if browser is None:
        return Finding("Chromium", False, "not found; only the tests of the widgets use it", fix, needed=False)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = _output([browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}",
                        *(["--no-sandbox"] if is_root() else []), "--dump-dom", "data:text/html,<p>loaded</p>"])
    if "<p>loaded</p>" not in page:
        return Finding("Chromium", False, f"{browser} does not load a page", fix, needed=False)
    return Finding("Chromium", True, f"{browser} loads a page", needed=False)


APPARMOR = """\
abi <abi/4.0>,
include <tunables/global>
profile bwrap /usr/bin/bwrap flags=(unconfined) {
  userns,
}"""
CAUSES = (  # (what bubblewrap says, what it means, what repairs it)
    ("not found", "bubblewrap is not installed", "install it: apt-get install bubblewrap (or dnf, pacman)"),
    ("RTM_NEWADDR", "the system lets programs make a network of their own, but not configure it (AppArmor of Ubuntu "
     "24.04, or Docker)", None),
    ("uid map", "ordinary users may not make namespaces (AppArmor of Ubuntu 24.04, or Docker)", None),
    ("No permissions to create new namespace", "the system forbids namespaces to ordinary users",
     "sysctl -w kernel.unprivileged_userns_clone=1 (as root)"),
    ("Creating new namespace failed", "the system forbids new namespaces", None),
    ("Can't mount proc", "the container around us hides parts of /proc", None),
)  # fmt: skip
REPAIR = f"""\
on Ubuntu, as root: write this to /etc/apparmor.d/bwrap and run apparmor_parser -r /etc/apparmor.d/bwrap

{APPARMOR}

in Docker: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined \
--security-opt systempaths=unconfined …
in Podman: podman run --security-opt unmask=ALL --security-opt label=disable …"""


def cause(said):
    """``(what is wrong, what repairs it)`` for what bubblewrap said."""
    for words, meaning, repair in CAUSES:
        if words.lower() in said.lower():
            return f"{meaning}. It said: {said.splitlines()[-1][:300]}", repair or REPAIR
    return f"the sandbox does not start. It said: {(said.splitlines() or ['nothing'])[-1][:300]}", REPAIR


def check_bubblewrap():
    """Run a program inside bubblewrap, cut off from the network and other processes, as grading does."""
    fix = system_install("bubblewrap")
    if shutil.which("bwrap") is None:
        return Finding("bubblewrap", False, "not found; only grading needs it (Linux)", fix, needed=False)
    said = _output(["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--ro-bind", "/", "/",
                    "--proc", "/proc", "--dev", "/dev", "--", "echo", "inside"])
    if said.strip() != "inside":
        why, repair = cause(said)
        return Finding("bubblewrap", False, f"cannot make a sandbox here: {why}", repair, needed=False)
    return Finding("bubblewrap", True, "ran a program in a sandbox", needed=False)


def _output(command, seconds=60):
    """What a program says, errors included; empty when it does not come back."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=seconds).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _last_line(error):
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else ""


CHECKS = (check_python, check_packages, check_torch, check_device, check_threads, check_handwriting, check_data,
          check_kernel, check_lab, check_papermill, check_source, check_chromium, check_bubblewrap)


NEEDED = (check_python, check_packages, check_torch, check_handwriting, check_kernel)  # by a student


def examine(checks=CHECKS):
    """Run the checks in order; those that need torch are left out when torch does not start."""
    findings = []
    for check in checks:
        if check in (check_device, check_threads, check_handwriting, check_data) and \
                any(finding.name == "torch" and not finding.works for finding in findings):
            continue
        findings.append(surely(check))
        yield findings[-1]


def surely(check):
    """The finding of a check; that it came to no end is one too, so that the other checks still speak."""
    try:
        return check()
    except Exception as error:  # whatever is wrong with this machine is what we are asked for
        name = check.__name__.removeprefix("check_").replace("_", " ")
        what = f"could not be examined: {type(error).__name__}: {_last_line(error)}"
        return Finding(name, False, what, install_course(), needed=check in NEEDED)


def marks(encoding):
    """What stands before a line: it works, it is missing, one can do without. In ASCII where the encoding has no ✓."""
    try:
        "✓✗–".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "+x-"
    return "✓✗–"


def row(finding, width=14):
    """One line of the table, and beneath it the repair where there is one."""
    good, bad, open_ = marks(getattr(sys.stdout, "encoding", None))
    mark, colour = (good, "green") if finding.works else (bad, "red") if finding.needed else (open_, "yellow")
    text = f" {click.style(mark, fg=colour)} {finding.name:<{width}}  {finding.what}"
    return text if finding.works else f"{text}\n   {'':<{width}}  repair: {click.style(finding.fix, bold=True)}"


@click.command()
def main():
    """Say what works on this machine, and the command that repairs the rest.

    Ends with code 0 when a student can work through the chapters, else with 1.
    """
    findings = []
    for finding in examine():
        click.echo(row(finding))
        findings.append(finding)
    broken = [finding.name for finding in findings if finding.needed and not finding.works]
    if broken:
        click.echo(f"\nThe chapters do not run here yet: {', '.join(broken)}. Repair them from the top.")
        sys.exit(1)
    without = marks(getattr(sys.stdout, "encoding", None))[2]
    click.echo("\nThe chapters run here." + ("" if all(finding.works for finding in findings) else
                                             f" They do without what is marked {without}."))
