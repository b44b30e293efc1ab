"""What runs inside the sandbox. It holds no expected value and no verdict: only the student's code and what to call.

Three kinds of processes, each started by the one before with ``fork``, so that torch is loaded once:

* the *nursery* loads the libraries, then starts a cradle for each submission;
* a *cradle* has namespaces of its own (processes, files, network, users), so that submissions cannot see each other.
  In them it is process 1: when it is ended, everything that the submission started ends too;
* in a cradle run the *kernel*, for the notebook, and one *probe* for each exercise, which answers calls.

Run with one argument, the number of a file: it is a socket of packets on which the grader says what to do.
"""

import contextlib
import ctypes
import json
import linecache
import os
import resource
import socket
import sys
import types
import warnings

import torch

from course_utils.commands.grade import wire

NAMESPACES = 0x20000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000  # mount user pid net ipc uts
PRIVATE, BIND = 0x4000 | 0x40000, 0x1000
NO_SUID_DEV = 2 | 4
READ_ONLY_EXEC = 1 | 2 | 4 | 8
DROP_BOUNDING, NO_NEW_PRIVILEGES = 24, 38  # of prctl
LINES = "/run/course"  # where the sockets of kernels lie, a folder for each submission
SCRATCH = os.environ.get("TMPDIR", "")  # the only folder that a submission can write to
LIBC = ctypes.CDLL(None, use_errno=True)
TEXT = 300  # characters of an error that are told
KEPT = 256  # calls whose gradients can still be asked for


# ------------------------------------------------------------------------------------------------------------- nursery
def nursery(control):
    """Load what exercises use, then start cradles, one after the other, until the grader goes."""
    warm()
    control.send(b'{"ready": true}')
    while True:
        message, descriptors, *_ = socket.recv_fds(control, 2**16, 1)
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            control.close()
            try:
                cradle_alone(json.loads(message), socket.socket(fileno=descriptors[0]))
            except OSError as error:
                with contextlib.suppress(OSError):
                    socket.socket(fileno=os.dup(descriptors[0])).send(json.dumps({"error": str(error)}).encode())
            os._exit(0)
        os.close(descriptors[0])
        os.waitpid(pid, 0)
        control.send(b'{"gone": true}')


def warm():
    """Import, without using them, the libraries that chapters and kernels need."""
    warnings.simplefilter("ignore")
    for name in ("numpy", "scipy.stats", "sklearn.decomposition", "sklearn.linear_model", "sklearn.manifold",
                 "matplotlib.pyplot", "matplotlib_inline.backend_inline", "ipykernel.kernelapp", "psutil",
                 "course_utils.exercises", "course_utils.plots", "course_utils.training", "course_utils.widgets",
                 "course_utils.data.images", "course_utils.metrics", "course_utils.checks"):  # fmt: skip
        with contextlib.suppress(ImportError):
            __import__(name)
    torch.set_num_threads(1)
    weight = torch.nn.Parameter(torch.ones(2))  # what torch loads at the first step of an optimizer takes seconds
    for optimizer in (torch.optim.Adam([weight]), torch.optim.SGD([weight])):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()


def _checked(result, what):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source, target, kind, flags, data=None):
    _checked(LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags,
                        data.encode() if data else None), f"mount {target}")  # fmt: skip


def cradle_alone(task, sock):
    """A cradle in namespaces of its own, where the system allows that; the caller waits for its end."""
    if task["own"]:
        user, group = os.getuid(), os.getgid()
        _checked(LIBC.unshare(NAMESPACES), "unshare")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        pid = os.fork()
        if pid:
            sock.close()
            os.waitpid(pid, 0)
            return
        _mount("none", "/", None, PRIVATE)
        size = f"size={task['scratch']}m,nr_inodes=20k"
        _mount("tmpfs", SCRATCH, "tmpfs", NO_SUID_DEV, size)
        _mount("tmpfs", "/dev/shm", "tmpfs", NO_SUID_DEV, size)
        os.mkdir(f"{SCRATCH}/lines")
        _mount(f"{LINES}/{task['run']}", f"{SCRATCH}/lines", None, BIND)
        _mount("tmpfs", LINES, "tmpfs", READ_ONLY_EXEC, "size=4k")
        _mount("tmpfs", "/proc", "tmpfs", READ_ONLY_EXEC, "size=4k")  # the nursery's would show other submissions
    cradle(task, sock)


# -------------------------------------------------------------------------------------------------------------- cradle
def cradle(task, sock):
    """Start the kernel and the probes that the grader asks for, and say how each ended."""
    limit(task)
    os.makedirs(os.environ["HOME"], exist_ok=True)
    os.chdir(os.environ["HOME"])
    sock.send(b'{"ready": true}')
    while True:
        try:
            message, descriptors, *_ = socket.recv_fds(sock, 2**16, 1)
        except OSError:
            return
        if not message:
            return
        asked = json.loads(message)
        pid = os.fork()
        if pid == 0:
            sock.close()
            harmless()
            quiet = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(quiet, stream)
            if "kernel" in asked:
                kernel(asked["kernel"])
            else:
                Probe(socket.socket(fileno=descriptors[0])).serve()
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        if "kernel" in asked:
            sock.send(b'{"started": true}')
            continue
        status = _wait(pid)
        sock.send(json.dumps({"ended": os.waitstatus_to_exitcode(status)}).encode())


def _wait(pid):
    """The status of this child; others that end meanwhile, orphans of student's processes among them, are cleared."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            return status


def limit(task):
    """The system's own limits, for every process of a submission. What is shared among processes is watched outside."""
    memory, processes = task["memory"] * 2**20, task["processes"]
    for what, value in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_FSIZE, task["file"] * 2**20),
                        (resource.RLIMIT_CPU, task["cpu"]), (resource.RLIMIT_CORE, 0),
                        (resource.RLIMIT_NOFILE, 512), (resource.RLIMIT_NPROC, processes)):  # fmt: skip
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def harmless():
    """Give away, for good, the rights that a process has over the namespaces it made."""
    LIBC.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for number in range(64):
        LIBC.prctl(DROP_BOUNDING, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _checked(LIBC.capset(header, (ctypes.c_uint32 * 6)(0, 0, 0, 0, 0, 0)), "capset")


def kernel(connection):
    """A Jupyter kernel, as ipykernel starts one; figures are shown inline."""
    from ipykernel.kernelapp import IPKernelApp

    sys.argv = ["kernel"]
    app = IPKernelApp.instance(connection_file=connection, exec_lines=["%matplotlib inline"], parent_handle=0)
    app.initialize([])
    app.start()


# --------------------------------------------------------------------------------------------------------------- probe
class Theirs:
    """A function of the grader's: to call it is to ask the grader."""

    def __init__(self, probe, handle):
        self._probe, self._handle = probe, handle

    def __call__(self, *args):
        return self._probe.ask_back(self._handle, args)


class Probe:
    """Runs the cells that an exercise needs, then calls the student's function, and what it returned, when asked."""

    def __init__(self, sock):
        self.sock, self.space, self.objects, self.graphs = sock, {}, [], {}

    def serve(self):
        while True:
            try:
                header, blobs = wire.receive(self.sock)
            except wire.Closed:
                return
            self.answer(header, blobs)

    def answer(self, header, blobs):
        sent = []
        try:
            reply = {"load": self.load, "call": self.call, "slope": self.slope}[header["op"]](header, blobs, sent)
        except BaseException as error:  # whatever the student's code raises is the answer
            reply, sent = {"error": described(error)}, []
        wire.send(self.sock, reply, sent)

    def load(self, header, blobs, sent):
        """Run cells, in a module that is called ``__main__``. The last one is the exercise."""
        module = types.ModuleType("__main__")
        sys.modules["__main__"], self.space = module, module.__dict__
        torch.manual_seed(header["seed"])
        self.space["get_ipython"] = lambda: _Shell()
        for name, source in header["cells"]:
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            exec(compile(source, name, "exec"), self.space)
        return {"ok": True}

    def call(self, header, blobs, sent):
        target = header["target"]
        if "name" in target and target["name"] not in self.space:
            raise NameError(f"name {target['name']!r} is not defined")
        thing = self.space[target["name"]] if "name" in target else self.objects[target["handle"]]
        if "weights" in target:
            weights = [weight for weight in thing.parameters()]
            with torch.no_grad():
                for weight, value in zip(weights, target["weights"], strict=True):
                    if value is not None:
                        weight.copy_(self.value(value, blobs))
            if thing.training != target["training"]:
                thing.train(target["training"])
        else:
            weights = []
        function = getattr(thing, target["method"]) if target.get("method") else thing
        torch.set_default_dtype(wire.DTYPES[header["default"]])
        args, before = (wire.decode(header["args"], blobs, self.mine) for _ in range(2))
        leaves = [t for t, wanted in zip(tensors(args), wire.gradients(header["args"]), strict=True) if wanted]
        for leaf in leaves:
            leaf.requires_grad_()
        if "random" in header:
            torch.set_rng_state(self.value(header["random"], blobs))
        with torch.set_grad_enabled(header["gradients"]):
            result = function(*[part.clone() if type(part) in wire.TENSORS and part.requires_grad else part
                                for part in args])  # fmt: skip
        reply = {"result": wire.encode(result, sent, self.other)}
        if header["gradients"]:
            outputs = [t for t in tensors(result) if t.requires_grad]
            if outputs:
                self.graphs[header["number"]] = (outputs, [*leaves, *(w for w in weights if w.requires_grad)])
                self.graphs.pop(header["number"] - KEPT, None)
        places = [i for i, (a, b) in enumerate(zip(tensors(args), tensors(before), strict=True)) if differ(a, b)]
        reply["changed"] = [[i, wire.encode(tensors(args)[i].detach(), sent, self.other)] for i in places]
        if "random" in header:
            reply["random"] = wire.encode(torch.get_rng_state(), sent, self.other)
        return reply

    def slope(self, header, blobs, sent):
        """Gradients of the outputs of an earlier call by its inputs, weighted as the grader says."""
        outputs, inputs = self.graphs[header["number"]]
        weights = [None if w is None else self.value(w, blobs) for w in header["weights"]]
        chosen = [(o, w) for o, w in zip(outputs, weights, strict=True) if w is not None]
        found = torch.autograd.grad([o for o, _ in chosen], inputs, [w for _, w in chosen], retain_graph=True,
                                    allow_unused=True)  # fmt: skip
        return {"result": [wire.encode(slope, sent, self.other) for slope in found]}

    def value(self, described, blobs):
        return wire.decode(described, blobs, self.mine).detach()

    def mine(self, described):
        """What the grader sends beside numbers and tensors: its functions, and things of ours that it hands back."""
        return Theirs(self, described["handle"]) if described["is"] == "theirs" else self.objects[described["handle"]]

    def other(self, value):
        """A description of something that stays here: a model, a function, or a thing of the wrong kind."""
        described = {"is": "other", "type": type(value).__name__[:80]}
        if isinstance(value, torch.nn.Module):
            weights = []
            for weight in value.parameters():
                blobs = []
                entry = wire.encode(weight, blobs, lambda v: {"is": "other"})
                weights.append([entry.get("dtype"), entry.get("shape"), weight.requires_grad,
                                blobs[0].hex() if blobs else ""])  # fmt: skip
            methods = [name for name in dir(value) if not name.startswith("_") and _callable(value, name)
                       and not hasattr(torch.nn.Module, name)]  # fmt: skip
            described |= {"is": "module", "weights": weights, "methods": methods[:200], "training": value.training}
        elif callable(value):
            described["is"] = "function"
        self.objects.append(value)
        return described | {"handle": len(self.objects) - 1}

    def ask_back(self, handle, args):
        sent = []
        wire.send(self.sock, {"callback": handle, "args": wire.encode(args, sent, self.other)}, sent)
        header, blobs = wire.receive(self.sock)
        return wire.decode(header["value"], blobs, self.mine)


class _Shell:
    """Stands in for IPython while an exercise is probed: magic does nothing here."""

    def __getattr__(self, name):
        return lambda *args, **keywords: None


def _callable(value, name):
    try:
        return callable(getattr(value, name))
    except Exception:
        return False


def tensors(value, depth=0):
    """The tensors in nested tuples and lists, in order, as deep as a value may cross."""
    if type(value) in wire.TENSORS:
        return [value]
    if type(value) not in (tuple, list) or depth >= wire.MAX_DEPTH:
        return []
    return [t for part in value for t in tensors(part, depth + 1)]


def differ(a, b):
    """Whether an input is no longer what it was."""
    return a.shape != b.shape or a.dtype != b.dtype or wire.raw(a) != wire.raw(b)


def described(error):
    """An exception in plain words: its type, the built-in type it comes from, its text, and the line it arose in."""
    frames = [(frame.f_code.co_filename, line) for frame, line in _frames(error.__traceback__)]
    own = [(name, line) for name, line in frames if name.startswith("exercise")]
    base = next((c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins"), "Exception")
    try:
        text, bare = str(error)[:TEXT], not error.args
    except Exception:
        text, bare = "", False
    if isinstance(error, SyntaxError) and str(error.filename).startswith("exercise"):
        own = [(error.filename, error.lineno)]
    return {"type": type(error).__name__[:80], "base": base, "text": text, "bare": bare,
            "cell": own[-1][0] if own else "", "line": own[-1][1] if own else 0}  # fmt: skip


def _frames(traceback):
    found = []
    while traceback is not None and len(found) < 1_000:
        found.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return found


if __name__ == "__main__":
    nursery(socket.socket(fileno=int(sys.argv[1])))
