# ruff: noqa: E501  (a case is a line)
"""A small chapter to grade, with as many exercises as wanted, and answers to them: hostile, broken, wrong and honest."""

import json
from dataclasses import replace

import torch
from nbformat import v4

from course_utils.commands.build.quotes import stub
from course_utils.commands.grade import intake, released, verdict
from course_utils.exercises import Exercise, Probe

D = torch.float64
SETUP = """import math
import os
import numpy as np
import torch
from torch import nn
import course_utils.models.vae
from course_utils import distributions
from course_utils.models import vae
from course_utils.training import steps"""


def entropy(p):
    """Entropy of each row in nats.

    p: (B, K), probabilities; entries may be zero.
    Returns (B,).
    """
    return -torch.special.xlogy(p, p).sum(1)


def in_bits(p):
    """These are bits."""
    return entropy(p) / torch.log(torch.tensor(2.0, dtype=D))


def negative(p):
    """Minus is missing."""
    return -entropy(p)


def not_a_number(p):
    """0 log 0 is 0."""
    return -(p * p.log()).sum(1)


def probes(generator):
    rows = torch.rand(5, 4, generator=generator, dtype=D)
    return [
        Probe("a fair coin has log 2", (torch.full((1, 2), 0.5, dtype=D),), "one half each"),
        Probe("an impossible outcome", (torch.tensor([[1.0, 0.0]], dtype=D),), "0 log 0 = 0"),
        Probe("any rows", (rows / rows.sum(1, keepdim=True),), "-sum p log p"),
    ]


ENTROPY = Exercise("1.1", 2, entropy, probes, wrong=(in_bits, negative, not_a_number))


def chapter(exercises):
    """A released chapter of these exercises, which have ids of their own."""
    cells = [v4.new_code_cell(SETUP, id="setup")]
    for exercise in exercises:
        metadata = {"exercise": exercise.id}
        cells.append(v4.new_code_cell(stub(exercise.reference), id=intake.cell_id(exercise.id), metadata=metadata))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    return released.Chapter("01", "01_small", notebook, {e.id: e for e in exercises})


def copies(n, exercise=ENTROPY):
    return [replace(exercise, id=f"1.{i}") for i in range(1, n + 1)]


def handed_in(small, answers):
    """The text of a submission: our notebook with these answers, by id."""
    notebook = json.loads(json.dumps(small.notebook))
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["metadata"].get("exercise"), cell["source"])
    return json.dumps(notebook)


def graded(small, answers, nursery, folder, show=False):
    """The record of a submission with these answers."""
    path = folder / "ada" / "01_small.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(answers if isinstance(answers, str) else handed_in(small, answers), encoding="utf-8")
    task = verdict.Task("ada", "01", path, folder, b"secret")
    return verdict.grade(task, small, nursery, show)


RIGHT = "    return -torch.special.xlogy(p, p).sum(1)\n"
HEAD = "def entropy(p):\n"

# what was written, how it ends, and whether points are due
CASES = {
    # honest
    "another way": (HEAD + "    return torch.distributions.Categorical(p).entropy()", "passed"),
    "float32": (HEAD + "    p = p.float()\n" + RIGHT, "passed"),
    "numpy": (HEAD + "    p = p.numpy()\n    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1)", "passed"),
    "warnings": (HEAD + "    import warnings\n    warnings.warn('careful')\n" + RIGHT, "passed"),
    "prints": ("print('hello')\n" + HEAD + "    print(p)\n" + RIGHT, "passed"),
    "a helper of one's own": ("def part(x):\n    return torch.special.xlogy(x, x)\n" + HEAD + "    return -part(p).sum(1)", "passed"),
    "slow but fine": (HEAD + "    import time\n    time.sleep(0.3)\n" + RIGHT, "passed"),
    "magic": ("%matplotlib inline\n!ls\n" + HEAD + RIGHT, "passed"),
    "a loop": (HEAD + "    return torch.stack([-sum(x * x.log() if x > 0 else 0 * x for x in row) for row in p])", "passed"),
    # wrong or unfinished
    "in bits": (HEAD + "    return -torch.special.xlogy(p, p).sum(1) / math.log(2)", "failed"),
    "nan": (HEAD + "    return -(p * p.log()).sum(1)", "failed"),
    "wrong shape": (HEAD + "    return -torch.special.xlogy(p, p).sum(1, keepdim=True)", "failed"),
    "in place": (HEAD + "    q = p.clone()\n    p.zero_()\n    return -torch.special.xlogy(q, q).sum(1)", "failed"),
    "no return": (HEAD + "    -torch.special.xlogy(p, p).sum(1)", "failed"),
    "raises": (HEAD + "    raise ValueError('no')", "failed"),
    "no python": ("def entropy(p:\n    return", "failed"),
    "renamed": ("def entropie(p):\n" + RIGHT, "failed"),
    "no function": ("entropy = 3", "failed"),
    "only a comment": ("# I do not know", "no_answer"),
    "not implemented": ("x = 1\n" + HEAD + "    raise NotImplementedError", "no_answer"),
    "raises in the cell": ("1 / 0\n" + HEAD + RIGHT, "failed"),
    "lambda that asks for nothing": ("entropy = lambda: 0", "failed"),
    # objects that lie
    "equal to everything": ("class E:\n    def __eq__(self, o):\n        return True\n" + HEAD + "    return E()", "bad_type"),
    "a tensor that lies": ("class T(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, *a, **k):\n"
                           "        return torch.tensor(True)\n" + HEAD + "    return torch.zeros(len(p)).as_subclass(T)", "bad_type"),
    "a string": (HEAD + "    return 'right'", "failed"),
    "a generator": (HEAD + "    yield 1", "bad_type"),
    "a huge shape": (HEAD + "    return torch.zeros(1).expand(10**12)", "out_of_memory"),
    "a sparse tensor": (HEAD + "    return (-torch.special.xlogy(p, p).sum(1)).to_sparse()", "bad_type"),
    "deep lists": (HEAD + "    x = []\n    for _ in range(10**5):\n        x = [x]\n    return x", "bad_type"),
    # cheats
    "answers learned by heart": (HEAD + "    return torch.full((len(p),), math.log(2), dtype=p.dtype)", "failed"),
    "remembers the first call": ("seen = []\n" + HEAD + "    seen.append(-torch.special.xlogy(p, p).sum(1))\n    return seen[0]",
                                 "failed"),
    "the caller's frame": ("import sys\n" + HEAD + "    frame = sys._getframe(1)\n    while frame:\n"
                           "        for v in frame.f_locals.values():\n            if isinstance(v, torch.Tensor) and v.shape == (len(p),):\n"
                           "                return v\n        frame = frame.f_back", "rejected"),
    "the garbage": ("import gc\n" + HEAD + "    for v in gc.get_objects():\n"
                    "        if isinstance(v, torch.Tensor) and v.shape == (len(p),):\n            return v", "rejected"),
    "the traceback's frame": (HEAD + "    try:\n        1 / 0\n    except ZeroDivisionError as e:\n        f = e.__traceback__.tb_frame\n"
                              "    found = []\n    while f:\n        found += [v for v in f.f_locals.values() if isinstance(v, torch.Tensor)"
                              " and v.shape == (len(p),)]\n        f = f.f_back\n    return found[0] if found else torch.zeros(len(p))", "failed"),
    "patches isclose": ("torch.isclose = lambda a, b, **k: torch.ones_like(a, dtype=torch.bool)\ntorch.equal = lambda a, b: True\n"
                        + HEAD + "    return torch.zeros(len(p), dtype=p.dtype)", "failed"),
    "patches the checker": ("from course_utils import exercises\nexercises.judge = lambda *a: True\n" + HEAD
                            + "    return p", "failed"),
    "the reference": ("from course_utils.exercises import ch01\n" + HEAD + "    return ch01.jensen_shannon(p, p)", "rejected"),
    "the reference by a string": ("m = __import__('course_' + 'utils.exercises.ch01')\n" + HEAD + RIGHT, "rejected"),
    "the routine": (HEAD + "    return vae.bernoulli_log_prob(p, p)", "rejected"),
    "the routine by an alias": ("v = vae\nf = v.kl\n" + HEAD + "    return f(p)", "rejected"),
    "the routine as a default": ("def entropy(p, f=course_utils.models.vae.elbo_terms):\n    return f(p)", "rejected"),
    "the routine by getattr": (HEAD + "    return getattr(vae, 'k' + 'l')(p)", "rejected"),
    "the module handed on": ("things = [vae]\n" + HEAD + "    return things[0].kl(p)", "rejected"),
    "eval": (HEAD + "    return eval('vae.kl')(p)", "rejected"),
    "a star": ("from course_utils.models.vae import *\n" + HEAD + RIGHT, "rejected"),
    # ends
    "loops for ever": (HEAD + "    while True:\n        pass", "timeout"),
    "swallows interrupts": (HEAD + "    while True:\n        try:\n            while True: pass\n        except BaseException:\n            pass",
                            "timeout"),
    "exits": (HEAD + "    raise SystemExit(0)", "failed"),
    "exits at once": (HEAD + "    os._exit(0)", "crashed"),
    "kills its parent": (HEAD + "    os.kill(os.getppid(), 9)\n    os.kill(os.getpid(), 9)", "crashed"),
    "a segmentation fault": (HEAD + "    os.kill(os.getpid(), 11)", "crashed"),
    "too much memory": (HEAD + "    return torch.ones(10**10)", "out_of_memory"),
    "recursion": (HEAD + "    return entropy(p)", "failed"),
    "a fork bomb": (HEAD + "    while True:\n        try:\n            os.fork()\n        except OSError:\n            pass", "crashed, timeout or out_of_memory"),
    "a daemon": (HEAD + "    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            import time\n            time.sleep(999)\n"
                 "        os._exit(0)\n" + RIGHT, "passed"),
    "a full disk": (HEAD + "    with open('x', 'wb') as f:\n        while True:\n            f.write(b'0' * 2**20)", "failed"),
    # leaks from one exercise into others: the last one must not feel it
    "default dtype": ("torch.set_default_dtype(torch.float16)\ntorch.set_grad_enabled(False)\ntorch.manual_seed(0)\n"
                      + HEAD + RIGHT, "passed"),
    "breaks torch for all": ("torch.special.xlogy = None\ntorch.Tensor.sum = None\n" + HEAD + RIGHT, "failed"),
    "after all that": (HEAD + RIGHT, "passed"),
}  # fmt: skip
