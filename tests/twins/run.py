"""Runs a chapter at the smoke budget, and each wrong twin of its equations in a copy of the process.

    python tests/twins/run.py 04 [4.7 ...] [--json]
"""

import ast
import contextlib
import importlib
import inspect
import json
import os
import sys
import tempfile
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from traitlets.config import Config  # noqa: E402

from course_utils.commands.build import build, source, twins  # noqa: E402

RED, GREEN, BROKEN = "red", "green", "broken"


# ---- changing code ---------------------------------------------------------------------------------------------------
def replaced(text, twin):
    """``text`` with the twin's ``old`` replaced. ValueError unless it occurs exactly once."""
    if (n := text.count(twin.old)) != 1:
        raise ValueError(f"{twin.old!r} occurs {n} times in {twin.where}")
    return text.replace(twin.old, twin.new)


def codes(code):
    """Every code object in a compiled module by its qualified name."""
    found = {}
    for inner in (c for c in code.co_consts if isinstance(c, types.CodeType)):
        found[inner.co_qualname] = inner
        found |= codes(inner)
    return found


def changed(text, qualname, twin):
    """The code objects of ``qualname`` (a function, or a class: its methods) in ``text`` after the twin's change."""
    node = ast.parse(text)
    for name in qualname.split("."):
        named = [n for n in node.body if getattr(n, "name", None) == name]
        if not named:
            raise ValueError(f"{twin.where} is no function or class")
        node = named[-1]
    rows = text.splitlines(keepends=True)
    before, own, after = rows[: node.lineno - 1], rows[node.lineno - 1 : node.end_lineno], rows[node.end_lineno :]
    whole = "".join(before) + replaced("".join(own), twin) + "".join(after)
    methods = [n.name for n in getattr(node, "body", ()) if isinstance(n, ast.FunctionDef)]
    names = [f"{qualname}.{name}" for name in methods] if isinstance(node, ast.ClassDef) else [qualname]
    after = codes(compile(whole, "<twin>", "exec"))
    return {name: after[name] for name in names if name in after}


def follow(start, names):
    """The function behind ``start.a.b``: properties, static methods and decorators opened. None if there is none."""
    for name in names:
        start = inspect.getattr_static(start, name, None)
    start = getattr(start, "fget", start)
    start = inspect.unwrap(getattr(start, "__func__", start)) if start is not None else None
    return start if isinstance(start, types.FunctionType) else None


def put(function, code):
    """Give a function another body, wherever it is referred to."""
    if function.__code__.co_freevars != code.co_freevars:
        raise ValueError(f"the twin of {function.__qualname__} needs {code.co_freevars} from around it")
    function.__code__ = code


def packaged(twin):
    """The module in which a twin's function of the package is written, and its code objects after the change."""
    module, _, name = twin.where.partition(":")
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    thing = inspect.unwrap(getattr(thing, "__func__", getattr(thing, "fget", thing)))
    written = sys.modules[thing.__module__]
    return written, changed(inspect.getsource(written), thing.__qualname__, twin)


def apply(twin, space, sources):
    """Make the change of a twin that is not in the cell. ``sources``: the code cells that ran, in order."""
    module, _, name = twin.where.partition(":")
    if twin.where == twins.BEFORE:
        exec(twin.new, space)
    elif module == "chapter":
        top = name.split(".")[0]
        text = next((t for t in reversed(sources) if any(getattr(n, "name", "") == top for n in ast.parse(t).body)), "")
        for qualname, code in changed(text, name, twin).items():
            put(follow(space[top], qualname.split(".")[1:]), code)
    else:
        written, wrong = packaged(twin)
        for qualname, code in wrong.items():
            top, *rest = qualname.split(".")
            put(follow(getattr(written, top), rest), code)
            if getattr(space.get(top), "__module__", None) == space["__name__"] and (copy := follow(space[top], rest)):
                put(copy, code)  # quoted into the chapter


# ---- running ---------------------------------------------------------------------------------------------------------
def fork(work):
    """What ``work()`` returns (JSON), computed in a copy of this process that ends with it."""
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading) as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        return json.loads(answer) if answer else (BROKEN, "the process died")
    try:
        os.close(reading)
        answer = work()
    except BaseException as error:
        answer = BROKEN, f"{type(error).__name__}: {error}"
    with os.fdopen(writing, "w") as pipe:
        json.dump(answer, pipe)
    os._exit(0)


class Chapter:
    """A chapter on its way through one shell."""

    def __init__(self, path):
        self.notebook = build.assemble(path)[0]
        if self.notebook is None:
            raise ValueError(f"{path} cannot be built: run `course build {path.stem[:2]} --check`")
        config = Config({"HistoryManager": {"enabled": False}})
        self.shell = InteractiveShell.instance(config=config, colors="NoColor")
        self.ran = []

    def run(self, text):
        """Run a cell without a word. The error it ended with, or None."""
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            done = self.shell.run_cell(text)
        return done.error_before_exec or done.error_in_exec

    def become(self, twin, text):
        """Make the twin's change and run its cell: red (a law does not hold), green, or broken; and the message."""
        with tempfile.TemporaryDirectory() as cache:
            os.environ["COURSE_CACHE"] = cache
            if twin.where == twins.CELL:
                text = replaced(text, twin)
            else:
                apply(twin, self.shell.user_ns, self.ran)
            error = self.run(text)
        if error is None:
            return GREEN, ""
        return (RED if isinstance(error, AssertionError) else BROKEN), f"{type(error).__name__}: {error}"

    def judge(self, known, wanted=()):
        """``[(tag, what, result, message)]`` of all twins of the ``wanted`` equations, or of all."""
        verdicts = {}
        cells = [cell for cell in self.notebook.cells if cell.cell_type == "code"]
        last = max((i for i, cell in enumerate(cells) if wanted_in(cell, known, wanted)), default=-1)
        for cell in cells[: last + 1]:
            if {"check", "widget"} & set(cell.metadata.get("tags", ())):
                continue
            for tag in wanted_in(cell, known, wanted):
                for twin in known[tag]:
                    if verdicts.get((tag, twin), ("",))[0] == RED:
                        continue  # another cell that verifies this equation noticed
                    if twin.where == twins.CELL and twin.old not in cell.source:
                        verdicts.setdefault((tag, twin), (BROKEN, f"no cell that verifies {tag} holds {twin.old!r}"))
                    else:
                        verdicts[tag, twin] = fork(lambda twin=twin, text=cell.source: self.become(twin, text))
                    result, message = verdicts[tag, twin]
                    print(f"({tag}) {result:<6} {twin.what}: {message.splitlines()[0] if message else ''}", flush=True)
            if error := self.run(cell.source):
                raise RuntimeError(f"the chapter itself stopped at\n{cell.source}") from error
            if "parameters" in cell.metadata.get("tags", ()):
                self.run('budget = "smoke"')
            self.ran.append(cell.source)
        return [(tag, twin.what, *verdict) for (tag, twin), verdict in verdicts.items()]


def wanted_in(cell, known, wanted):
    return [tag for tag in cell.metadata.get("verifies", ()) if tag in known and (not wanted or tag in wanted)]


def main(arguments):
    number, *wanted = [a for a in arguments if not a.startswith("--")]
    [path] = source.select(ROOT / "notebooks" / "src", [number])
    known = twins.load(ROOT / "tests" / "twins", path.name[:2])
    os.chdir(path.parent)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["COURSE_CACHE"] = cache
        verdicts = Chapter(path).judge(known, wanted)
    if "--json" in arguments:
        print(json.dumps(verdicts))
    return int(any(result != RED for *_, result, _ in verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
