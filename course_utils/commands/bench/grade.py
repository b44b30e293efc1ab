"""How fast submissions are graded, beside nbgrader and otter: ``course bench grade``.

The same ten answers, each with ``import torch`` at its top, are graded by each tool in its own way, one after the
other on this machine: nbgrader's ``autograde``, ``otter run`` for each notebook, and ``course grade`` with one worker
and with one a core. The two others live in an environment of their own, build/bench/graders, which borrows torch from
ours; where they cannot be installed their rows say so. Then comes a class of 300, a tenth of it hostile, with the most
memory that the grader's own processes held, and what 100,000 students would take at that rate.
"""

import csv
import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import psutil
from nbformat import v4

from course_utils.commands.build.quotes import stub
from course_utils.commands.doctor import cores
from course_utils.commands.release import pack as packs

RIVALS = ("nbgrader==0.9.6", "otter-grader==7.0.0")
TEN, CLASS = 10, 300
PACK = '''"""One exercise, for measuring."""

import torch

from course_utils.exercises import Exercise, Probe


def entropy(p):
    """Entropy of each row in nats, (B, K) to (B,); entries may be zero."""
    return -torch.special.xlogy(p, p).sum(1)


def _probes(generator):
    p = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    return [Probe("any rows", (p / p.sum(1, keepdim=True),), "-sum p log p")]


EXERCISES = (Exercise("1.b1", 1, entropy, _probes),)
'''
SOLVED = "import torch\n\ndef entropy(p):\n    return -torch.special.xlogy(p, p).sum(1)"
TEST = "p = torch.full((1, 2), 0.5)\nassert torch.isclose(entropy(p), torch.tensor([0.6931472])).all()"
HOSTILE = ("while True:\n    print('x' * 9_999)", "import os\nos._exit(0)",
           "def entropy(p):\n    return torch.ones(10**11)",
           "import sys\nsys.exit(0)", None)  # fmt: skip
OK_TEST = """OK_FORMAT = True
test = {"name": "q1", "points": 1, "suites": [
    {"type": "doctest", "scored": True, "setup": "", "teardown": "", "cases": [
    {"code": ">>> round(float(entropy(torch.full((1, 2), 0.5))[0]), 4)\\n0.6931", "hidden": False, "locked": False}]}]}
"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def benchmark(setting):
    """Rows: the tool, seconds a submission of ten, how many times longer than ours; then the class of 300."""
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        folder = Path(folder)
        ours = {f"course grade --jobs {n}": lambda n=n: _ours(folder / f"ours{n}", TEN, n)[0] for n in (1, cores())}
        seconds = {name: work() for name, work in ours.items()}
        programs = _rivals()
        for name, work in (("nbgrader autograde 0.9.6", _nbgrader), ("otter run 7.0.0", _otter)):
            seconds[name] = work(folder, programs) if programs else None
        best = seconds[f"course grade --jobs {cores()}"]
        for name, taken in seconds.items():
            words = "not installed" if taken is None else taken / TEN
            yield {"what": name, "seconds each": words, "times ours": "" if taken is None else taken / best}
        taken, memory, right = _ours(folder / "class", CLASS, cores(), hostile=True)
        yield {"what": f"{CLASS} submissions, a tenth hostile", "seconds each": taken / CLASS,
               "times ours": "", "grader's memory, MB": memory, "right rows": right}  # fmt: skip
        hours = taken / CLASS * 100_000 * cores() / 3600
        yield {"what": "100,000 students, hours of one core", "seconds each": hours}


def _ours(folder, n, jobs, hostile=False):
    """``(seconds, MB of memory, rows as expected)`` of ``course grade`` on n submissions."""
    folder.mkdir()
    (folder / "pack").mkdir()
    (folder / "pack" / "ch01.py").write_text(PACK, encoding="utf-8")
    private, practice = packs.of_chapter("01", packs.load(folder / "pack"))
    cells = [v4.new_code_cell(stub(e.reference), id=f"exercise-{e.id.replace('.', '-')}", metadata={"exercise": e.id})
             for e in (*practice, *private)]  # fmt: skip
    text = json.dumps(v4.new_notebook(cells=cells, metadata=KERNEL))
    entries = [{"id": e.id, "kind": e.kind, "points": e.points, "name": e.reference.__name__, "given": "",
                "counts": e in private, "practice": e in practice} for e in (*practice, *private)]  # fmt: skip
    (folder / "release").mkdir()
    (folder / "release" / "01_bench.ipynb").write_text(text, encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    told = {"format": 1, "title": "bench", "pack": {"name": "pack"}, "chapters": {"01": {
        "notebook": "01_bench.ipynb", "sha256": digest, "exercises": entries}}}  # fmt: skip
    (folder / "release" / "release.json").write_text(json.dumps(told), encoding="utf-8")
    expected = {}
    for i in range(n):
        answer = HOSTILE[i // 10 % len(HOSTILE)] if hostile and i % 10 == 0 else SOLVED
        place = folder / "submissions" / f"s{i}"
        place.mkdir(parents=True)
        cells[-1]["source"] = answer or ""
        content = "[]" if answer is None else json.dumps(v4.new_notebook(cells=cells, metadata=KERNEL))
        (place / "01_bench.ipynb").write_text(content, encoding="utf-8")
        expected[f"s{i}"] = ("rejected" if answer is None else "graded", "1" if answer == SOLVED else "0")
    command = [sys.executable, "-m", "course_utils", "grade", str(folder / "release"), str(folder / "submissions"),
               "-o", str(folder / "graded"), "--exercises", str(folder / "pack"), "--jobs", str(jobs)]  # fmt: skip
    start, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, _held(process.pid))
            time.sleep(0.5)
    taken = time.perf_counter() - start
    with open(folder / "graded" / "gradebook.csv", encoding="utf-8", newline="") as file:
        rows = {row["id"]: (row["state"], row["points"]) for row in csv.DictReader(file)}
    return taken, most / 2**20, sum(rows.get(name) == row for name, row in expected.items())


def _held(pid):
    """Bytes that the command and its workers hold, pages that some share counted once; without what is in sandboxes."""
    total, waiting = 0, [pid]
    while waiting:
        try:
            process = psutil.Process(waiting.pop())
            if process.name() != "bwrap":
                total += process.memory_full_info().pss
                waiting += [child.pid for child in process.children()]
        except psutil.Error:
            continue
    return total


def _rivals():
    """The folder of programs of an environment with the two other graders, None where they cannot be installed."""
    folder = Path("build/bench/graders")
    programs = folder / "bin"
    if not (programs / "otter").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        [site] = folder.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
        done = subprocess.run([str(programs / "python"), "-m", "pip", "install", "--quiet", *RIVALS])
        if done.returncode:
            return None
    return programs.absolute()


def _run(command, folder, programs):
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")


def _nbgrader(folder, programs):
    """Seconds of ``nbgrader autograde`` for ten submissions of one assignment."""
    folder = folder / "nbgrader"
    source = folder / "source" / "ps1"
    source.mkdir(parents=True)
    about = {"schema_version": 3, "locked": False, "task": False, "cell_type": "code"}
    answer = about | {"grade": False, "solution": True, "grade_id": "answer"}
    test = about | {"grade": True, "solution": False, "locked": True, "grade_id": "test", "points": 1}
    solved = SOLVED.replace("    return", "    ### BEGIN SOLUTION\n    return") + "\n    ### END SOLUTION"
    pairs = ((solved, answer), (TEST, test))
    cells = [v4.new_code_cell(text, metadata={"nbgrader": told}) for text, told in pairs]
    (source / "p.ipynb").write_text(json.dumps(v4.new_notebook(cells=cells, metadata=KERNEL)), encoding="utf-8")
    (folder / "nbgrader_config.py").write_text('c = get_config()\nc.CourseDirectory.course_id = "bench"\n')
    _run(["nbgrader", "generate_assignment", "ps1"], folder, programs)
    released = json.loads((folder / "release" / "ps1" / "p.ipynb").read_text(encoding="utf-8"))
    released["cells"][0]["source"] = SOLVED
    for i in range(TEN):
        place = folder / "submitted" / f"s{i}" / "ps1"
        place.mkdir(parents=True)
        (place / "p.ipynb").write_text(json.dumps(released), encoding="utf-8")
    start = time.perf_counter()
    _run(["nbgrader", "autograde", "ps1"], folder, programs)
    return time.perf_counter() - start


def _otter(folder, programs):
    """Seconds of ``otter run`` on ten notebooks, one after the other."""
    folder = folder / "otter"
    (folder / "tests").mkdir(parents=True)
    (folder / "tests" / "q1.py").write_text(OK_TEST, encoding="utf-8")
    _run(["otter", "generate", "-t", "tests", "-o", "autograder.zip", "--no-environment"], folder, programs)
    cells = [v4.new_code_cell(SOLVED)]
    for i in range(TEN):
        (folder / f"out{i}").mkdir()
        (folder / f"s{i}.ipynb").write_text(json.dumps(v4.new_notebook(cells=cells, metadata=KERNEL)), encoding="utf-8")
    start = time.perf_counter()
    for i in range(TEN):
        _run(["otter", "run", f"s{i}.ipynb", "-a", "autograder.zip", "-o", f"out{i}"], folder, programs)
    return time.perf_counter() - start
