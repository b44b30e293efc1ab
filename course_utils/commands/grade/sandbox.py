"""The sandbox: bubblewrap around a nursery, a cradle for each submission, limits that are watched from outside.

No network, a read-only system, a scratch folder in memory, and of the grader nothing: not its files, not its
environment, not its processes. The package lies there without exercises (whose references would be answers) and
without the workshop. :func:`prove` tries to get out before anything is graded; there is no way to grade without it
but by saying so.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

import course_utils
from course_utils import shipped
from course_utils.commands.doctor import REPAIR, cause

PACKAGE = Path(course_utils.__file__).resolve().parent
HERE = Path(__file__).resolve().parent
WATCH = 0.1  # seconds between two looks at a submission's processes
START = 180.0  # seconds that a nursery may take to load its libraries on a very busy machine
SCRATCH = "/run/scratch"  # the only folder that a submission can write to
LEFT_OUT = ("commands", "__pycache__", "pretrained")


@dataclass(frozen=True)
class Limits:
    """What a submission may use. Megabytes, seconds, and numbers of processes."""

    memory: int = 4_096  # of all its processes together
    scratch: int = 256
    file: int = 64
    cpu: int = 600  # of one process
    processes: int = 64
    output: int = 2_000_000  # characters of text that its notebook may print
    notebook: float = 120.0  # of processors, for its cells
    write: float = 30.0  # of processors, for the probes of one exercise
    build: float = 120.0  # the same where something is trained
    patience: float = 4.0  # how many times longer by the clock, on a busy machine or asleep


class NoSandbox(Exception):
    """The sandbox cannot be made here: why, and what repairs it."""


class Nursery:
    """One bubblewrap with a process that has the libraries loaded. Used by one submission at a time."""

    def __init__(self, limits=None, unsafe=False):
        self.limits, self.unsafe = limits or Limits(), unsafe
        self.folder = Path(tempfile.mkdtemp(prefix="course-"))
        self.lines = self.folder / "lines"
        self.lines.mkdir()
        self.process = self.control = self.before = None
        self.own = not unsafe  # whether each submission gets namespaces of its own in there: then it serves many
        self.why = ""  # if not, why
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        """Start bubblewrap, and in it the nursery. Raises :class:`NoSandbox`."""
        self.stop()
        course = self.folder / "course"
        if not course.exists():
            _copy_course(course)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-s", "-m", "course_utils.commands.grade.inside", str(theirs.fileno())]
        if not self.unsafe:
            command = [*bubblewrap(course, self.lines), "--", *command]
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        environment = variables(str(course), str(scratch)) if self.unsafe else None
        try:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
        except FileNotFoundError as error:
            raise NoSandbox(*cause("bwrap: not found")) from error
        theirs.close()
        self.control = ours
        ours.settimeout(START)
        try:
            ready = ours.recv(2**12)
        except TimeoutError:
            ready = b""
        if not ready:
            self.process.kill()
            said = self.process.stderr.read(4_000).decode(errors="replace").strip()
            raise NoSandbox(*cause(said))
        self.before = {process.pid for process in self._all()}

    def _all(self):
        """Every process below bubblewrap, as psutil.Process."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.Error:
            return []

    def cradle(self):
        """A place for one submission, as a context. The nursery is started if it does not live, or has been used."""
        if self.process is None or self.process.poll() is not None or (self.count and not self.own):
            self.start()
        self.count += 1
        return Cradle(self)

    def stop(self):
        """End the nursery and everything in it."""
        if self.control is not None:
            self.control.close()
            self.control = None
        if self.process is not None:
            for process in self._all() if self.unsafe else ():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stderr.close()
            self.process = None

    def close(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cradle:
    """The place of one submission: asks for its kernel and its probes, watches what it uses, and ends it all."""

    def __init__(self, nursery):
        self.nursery, self.limits = nursery, nursery.limits
        self.name = uuid.uuid4().hex[:12]
        self.lines = nursery.lines / self.name
        self.lines.mkdir(mode=0o700)
        self.connection = nursery.folder / f"{self.name}.json"  # our copy of how to reach its kernel
        self.exceeded = None  # the state that a limit ended it with
        self.peak = 0  # bytes that its processes used at most
        self._allowed = None  # seconds of processors, counted as _used counts, after which it is ended
        self._done, self._watcher = threading.Event(), None
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        limits = {name: value for name, value in asdict(self.limits).items() if type(value) is int}
        task = {"run": self.name, "own": nursery.own, **limits}
        socket.send_fds(nursery.control, [json.dumps(task).encode()], [theirs.fileno()])
        theirs.close()
        self.sock.settimeout(60)
        reply = self._hear()
        if "ready" not in reply:
            self.end()
            raise NoSandbox(*cause(reply.get("error", "the sandbox gives no answer")))
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def _hear(self):
        try:
            said = self.sock.recv(2**12)
            return json.loads(said) if said else {}
        except (OSError, ValueError):
            return {}

    @property
    def kernel_folder(self):
        """Where its kernel's sockets lie, as the kernel sees it."""
        return f"{SCRATCH}/lines" if self.nursery.own else (
            str(self.lines) if self.nursery.unsafe else f"/run/course/{self.name}")  # fmt: skip

    def processes(self):
        """The submission's processes, as psutil.Process; the nursery, and the helpers that wait, are not among them."""
        return [process for process in self.nursery._all() if process.pid not in self.nursery.before]

    def kernel(self, connection):
        """Start its kernel with the connection file of that name in ``kernel_folder``. Returns the new process."""
        before = {process.pid for process in self.processes()}
        self.sock.send(json.dumps({"kernel": f"{self.kernel_folder}/{connection}"}).encode())
        if "started" not in self._hear():
            raise NoSandbox("the sandbox started no kernel", "")
        found = [process for process in self.processes() if process.pid not in before]
        return found[0] if found else None

    def probe(self):
        """A socket to a new probe; :meth:`ended` says how it ended after the socket was closed."""
        ours, theirs = socket.socketpair()
        try:
            socket.send_fds(self.sock, [b'{"probe": true}'], [theirs.fileno()])
        except OSError:
            self.exceeded = self.exceeded or "crashed"
        theirs.close()
        return ours

    def ended(self, patience=2.0):
        """The exit code of the probe, None where it had to be ended, or where nobody is left to say."""
        self.sock.settimeout(patience)
        code = self._hear().get("ended")
        if code is None and not self.exceeded:
            self.kill(but_first=True)
            self.sock.settimeout(5)
            self._hear()
        return code

    def alive(self):
        return self.exceeded is None and self.nursery.process.poll() is None and bool(self.processes())

    def kill(self, but_first=False):
        """End the submission's processes; with ``but_first`` the cradle itself lives on."""
        found = _oldest_first(self.processes())
        keep = 2 if self.nursery.own else 1  # the cradle, and who waits for it
        for process in reversed(found[keep:]) if but_first else [*found[keep - 1 :], *found[: keep - 1]]:
            with contextlib.suppress(psutil.Error):  # with the cradle, process 1 of its namespace, all others end
                process.kill()

    def allow(self, seconds):
        """From now on its processes may use this much time of processors."""
        self._allowed = _used(self.processes()) + seconds

    def _watch(self):
        while not self._done.wait(WATCH):
            processes = self.processes()
            if len(processes) > self.limits.processes:
                self.exceed("crashed")
                continue
            used = _memory(processes)
            if used > self.limits.memory * 2**20:  # pages that a fork shares count twice there; now they are told apart
                used = _memory(processes, exact=True)
            self.peak = max(self.peak, used)
            if used > self.limits.memory * 2**20:
                self.exceed("out_of_memory")
            elif self._allowed is not None and _used(processes) > self._allowed:
                self.exceed("timeout")
            elif _overfull(self.lines):
                self.exceed("output_limit")

    def exceed(self, state):
        """End everything at once, for this reason."""
        if not self._done.is_set():
            self.exceeded = self.exceeded or state
            self.kill()

    def end(self):
        """End everything that the submission started, and wait until it is gone."""
        self._done.set()
        if self._watcher is not None:
            self._watcher.join()  # it must not end what comes after
        nursery = self.nursery
        deadline = time.monotonic() + 10
        self.sock.close()
        self.kill()
        if nursery.process is not None and nursery.control is not None:
            nursery.control.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                if not nursery.control.recv(2**12):
                    raise OSError("the nursery has gone")
            except OSError:
                nursery.stop()
        while nursery.process is not None and (left := self.processes()):
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if time.monotonic() > deadline:
                nursery.stop()  # something outlives its cradle: it ends with the nursery
            time.sleep(0.02)
        shutil.rmtree(self.lines, ignore_errors=True)
        self.connection.unlink(missing_ok=True)


def _oldest_first(processes):
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.append((process.create_time(), process.pid, process))
    return [process for *_, process in sorted(found, key=lambda entry: entry[:2])]


def _memory(processes, exact=False):
    """Bytes of memory that processes use beyond files; ``exact``: a page that some share is counted once."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if exact:
                total += process.memory_full_info().pss
            else:
                told = process.memory_info()
                total += told.rss - getattr(told, "shared", 0)
    return total


def _used(processes):
    """Seconds of processors that processes, and those that they outlived, have used."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def _overfull(folder):
    """Whether a folder that should hold a few sockets holds files."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.stat(follow_symlinks=False).st_size for entry, _ in zip(entries, range(100), strict=False)]
    except OSError:
        return False
    return len(found) > 50 or sum(found) > 2**20


def _copy_course(course):
    """The package as students may see it: no exercises, no workshop; with the weights that ship."""
    def unwanted(folder, names):
        inside = Path(folder).name == "exercises"
        return {n for n in names if n in LEFT_OUT or (inside and n.startswith("ch"))}

    target = course / "course_utils"
    shutil.copytree(PACKAGE, target, ignore=unwanted)
    shutil.copytree(shipped.folder(), target / "data" / "pretrained")
    inside = target / "commands" / "grade"
    inside.mkdir(parents=True)
    (target / "commands" / "__init__.py").touch()
    for name in ("__init__.py", "inside.py", "wire.py"):
        shutil.copy(HERE / name, inside / name)


def variables(course, scratch=SCRATCH):
    """The whole environment of what runs in the sandbox."""
    home = f"{scratch}/home"
    return {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": scratch, "USER": "student", "LANG": "C.UTF-8",
            "PYTHONPATH": course, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "MPLCONFIGDIR": home, "IPYTHONDIR": f"{home}/ipython",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline", "JUPYTER_RUNTIME_DIR": home,
            "COURSE_CACHE": f"{home}/cache", "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip


def bubblewrap(course, lines):
    """The command line of bubblewrap: what the sandbox sees, and nothing else."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL",
               "--uid", "1000", "--gid", "1000", "--proc", "/proc", "--dev", "/dev",
               "--dir", "/run/course", "--tmpfs", SCRATCH]  # fmt: skip
    for name, value in variables("/course").items():
        command += ["--setenv", name, value]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32"):
        if os.path.islink(name):
            command += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            command += ["--ro-bind", name, name]
    for name in ("/etc/ld.so.cache", "/etc/fonts", "/etc/localtime", "/etc/alternatives"):
        if os.path.exists(name):
            command += ["--ro-bind", name, name]
    for folder in python_folders():
        command += ["--ro-bind", folder, folder]
    with tempfile.NamedTemporaryFile(dir=course, prefix="empty-", delete=False) as empty:
        pass
    for answer in known_data():
        command += ["--ro-bind", empty.name, answer]
    if not any(folder.startswith("/tmp/") for folder in python_folders()):
        command += ["--symlink", SCRATCH, "/tmp"]
    return [*command, "--ro-bind", str(course), "/course", "--bind", str(lines), "/run/course",
            "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH]  # fmt: skip


def python_folders():
    """The folders of this Python and of its packages, beyond those of the system; parents before what lies in them."""
    paths = sysconfig.get_paths()
    wanted = {sys.prefix, sys.base_prefix, paths["purelib"], paths["platlib"], paths["stdlib"], paths["platstdlib"]}
    wanted |= {os.path.realpath(folder) for folder in wanted}
    wanted |= {os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))}
    outside = sorted(folder for folder in wanted if not folder.startswith("/usr/") and folder not in ("/usr", "/"))
    return [f for f in outside if not any(f.startswith(other + "/") for other in outside)]


def known_data():
    """Files of the data that exercises are measured on: a student's code must learn, not look up."""
    folder = Path(sysconfig.get_paths()["purelib"]) / "sklearn" / "datasets" / "data" / "digits.csv.gz"
    return [str(folder)] if folder.is_file() else []


# ------------------------------------------------------------------------------------------------------------ self-test
ATTEMPTS = """
import os, socket
def _works(action):
    try:
        action()
        return True
    except Exception:
        return False
def _network():
    with socket.create_connection(("127.0.0.1", PORT), timeout=2):
        pass
def _resolves():
    socket.getaddrinfo("example.org", 80)
def _writes():
    open(os.path.join(OUTSIDE, "written"), "w").close()
def _system():
    open("/usr/written", "w").close()
def _home():
    os.listdir(OUTSIDE)
def _others():
    found = [name for name in os.listdir("/proc") if name.isdigit()]
    if not found:
        raise OSError("nothing seen")
def _left():
    places = ["/tmp", "/dev", "/dev/shm", "/run", "/run/scratch", "/course", os.getcwd(), "/run/course"]
    found = [place for place in places if os.path.exists(place + "/left-" + TOKEN)]
    for place in places:
        try:
            open(place + "/left-" + TOKEN, "w").close()
        except OSError:
            pass
    if not found:
        raise OSError("nothing found")
def attempts(x):
    tries = [_network, _resolves, _writes, _system, _home] + ([_others, _left] if OWN else [])
    return [_works(action) for action in tries]
"""
GOALS = ("reach the network of this machine", "resolve a name on the internet", "write into a folder of the grader",
         "write into the system", "list a folder of the grader", "see processes of others",
         "find what an earlier submission left")  # fmt: skip


def prove(nursery):
    """Start the nursery and try to get out of it. Raises :class:`NoSandbox` naming what succeeded.

    Where submissions cannot get namespaces of their own inside the sandbox, each gets a sandbox of its own instead.
    """
    nursery.start()
    try:
        nursery.cradle().end()
    except NoSandbox as error:
        nursery.own, nursery.why = False, str(error)
        nursery.start()
    token = uuid.uuid4().hex
    out = [*escapes(nursery, token), *escapes(nursery, token)]
    if out:
        raise NoSandbox(f"the sandbox leaks: a program inside could {', '.join(out)}", REPAIR)


def escapes(nursery, token=""):
    """What a program in the sandbox manages to do that it must not."""
    from course_utils.commands.grade import remote

    with socket.create_server(("127.0.0.1", 0)) as server, tempfile.TemporaryDirectory(prefix="course-") as outside:
        known = f"PORT, OUTSIDE, OWN, TOKEN = {server.getsockname()[1]}, {outside!r}, {nursery.own}, {token!r}\n"
        with nursery.cradle() as cradle:
            peer = remote.Peer(cradle.probe(), time.monotonic() + 60, seed=0)
            try:
                peer.load([["test", known + ATTEMPTS]], 0)
                succeeded = remote.Function(peer, {"name": "attempts"})(0)
            except remote.Ended as error:
                raise NoSandbox(f"the sandbox does not answer: {error.state}", REPAIR) from None
            finally:
                peer.sock.close()
        return [goal for goal, done in zip(GOALS, succeeded, strict=False) if done]
