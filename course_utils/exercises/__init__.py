"""Exercises: what a chapter asks for, and how an answer is checked.

Each chapter has a module ``chNN`` with ``EXERCISES``. An exercise is checked by *properties on fresh inputs*: every
:class:`Probe` is one input with the property it tests in plain words, and the right answer is whatever the reference
gives. In a notebook::

    check("1.3", jensen_shannon)     # passed · not attempted yet · which property failed, on which input
    score()                          # the points so far

The functions behind them, :func:`judge` and :func:`validate`, print nothing and keep nothing.
"""

import contextlib
import html
import inspect
import io
import linecache
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch

from course_utils.exercises.compare import changed, copied, difference, kind_of, show

# The points of every exercise checked in this session, by id: what `score` adds up. The only state there is.
POINTS: dict[str, int] = {}


@dataclass(frozen=True)
class Probe:
    """One input, and the property that it tests in plain words: ``"zero when p equals q"``."""

    property: str
    args: tuple
    hint: str = ""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    reference: the right answer, a function whose signature and docstring the student gets; it returns a tensor, a
        number, or a tuple of them, and draws random numbers, if any, from torch's CPU generator.
    probes: maps a seeded ``torch.Generator`` to a list of :class:`Probe`.
    wrong: functions a student might plausibly write. Tests see each of them fail.
    tolerance: an answer may differ by ``tolerance * (1 + |expected|)``.
    """

    id: str
    points: int
    reference: Callable
    probes: Callable
    wrong: tuple = ()
    tolerance: float = 1e-5

    @property
    def chapter(self):
        """Number of the chapter, "01" for exercise "1.3"."""
        return self.id.split(".")[0].zfill(2)


@dataclass(frozen=True)
class Verdict:
    """What :func:`judge` found. ``state`` is "passed", "failed" or "not attempted"; ``failed_on`` is the property."""

    state: str
    message: str
    failed_on: str = ""

    @property
    def passed(self):
        return self.state == "passed"


def load(chapter):
    """The exercises of a chapter (1 or "01"), as a tuple. Raises ValueError if there are none or two share an id."""
    number = str(chapter).zfill(2)
    name = f"{__name__}.ch{number}"
    try:
        exercises = tuple(import_module(name).EXERCISES)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"chapter {number} has no exercises: there is no module {name}") from None
    ids = [exercise.id for exercise in exercises]
    if len(set(ids)) != len(ids) or any(exercise.chapter != number for exercise in exercises):
        raise ValueError(f"{name}: ids must be different and start with {int(number)}., got {', '.join(ids)}")
    return exercises


def find(exercise_id):
    """The exercise with this id. Raises ValueError naming the ids there are."""
    exercises = load(str(exercise_id).split(".")[0])
    for exercise in exercises:
        if exercise.id == exercise_id:
            return exercise
    raise ValueError(f"no exercise {exercise_id!r}; there are {', '.join(e.id for e in exercises)}")


def check(exercise_id, answer):
    """Check a student's function and show the result in plain words. A wrong answer raises nothing."""
    exercise = find(exercise_id)
    verdict = judge(exercise, answer)
    POINTS.pop(exercise.id, None)  # the last one checked stands last
    POINTS[exercise.id] = exercise.points if verdict.passed else 0
    _display(f"Exercise {exercise.id}: {verdict.message}", verdict.state)


def score():
    """Show the points so far in the chapter whose exercises were checked in this session."""
    if not POINTS:
        return _display("No exercise has been checked yet.", "not attempted")
    exercises = load(next(reversed(POINTS)).split(".")[0])
    total = sum(e.points for e in exercises)
    got = sum(POINTS.get(e.id, 0) for e in exercises)
    still = [e.id for e in exercises if POINTS.get(e.id, 0) < e.points]
    rest = f"Still open: {', '.join(still)}." if still else "All exercises passed."
    state = "passed" if not still else "not attempted"
    return _display(f"Chapter {exercises[0].chapter}: {got} of {total} points. {rest}", state)


def judge(exercise, answer, seed=0):
    """The :class:`Verdict` on a function, from fresh inputs drawn with ``seed``. The caller's random state is kept."""
    seed = zlib.crc32(exercise.id.encode()) + seed
    with torch.random.fork_rng(devices=[]):
        for number, probe in enumerate(exercise.probes(torch.Generator().manual_seed(seed))):
            verdict = _judge_probe(exercise, probe, answer, seed)
            if verdict.state == "not attempted" and number:  # it answered before: giving up here is a wrong answer
                verdict = _failed(exercise, probe, "your function raised NotImplementedError.")
            if not verdict.passed:
                return verdict
    return Verdict("passed", f"passed ({exercise.points} of {_points(exercise.points)})")


def validate(exercise, seeds=(0, 1, 2)):
    """What is wrong with the exercise itself, as a list of sentences; empty when it is sound.

    Sound means: the reference passes, a stub counts as not attempted, each of at least three wrong answers fails, and
    so do an answer that equals everything and one that returns its inputs; all of that for several seeds.
    """
    faults = []
    if not inspect.getdoc(exercise.reference):
        faults.append("the reference has no docstring")
    if not isinstance(exercise.points, int) or exercise.points < 1:
        faults.append(f"points must be a whole number above 0, got {exercise.points!r}")
    if len(exercise.wrong) < 3:
        faults.append(f"at least three wrong answers are needed, got {len(exercise.wrong)}")
    for seed in seeds:
        if not (verdict := judge(exercise, exercise.reference, seed)).passed:
            faults.append(f"seed {seed}: the reference itself: {verdict.message}")
        if judge(exercise, _unattempted, seed).state != "not attempted":
            faults.append(f"seed {seed}: the stub does not count as not attempted")
        for wrong in (*exercise.wrong, _equal_to_everything, _echo):
            if judge(exercise, wrong, seed).state != "failed":
                faults.append(f"seed {seed}: the wrong answer {getattr(wrong, '__name__', wrong)} does not fail")
    return faults


def _judge_probe(exercise, probe, answer, seed):
    torch.default_generator.manual_seed(seed)
    expected = exercise.reference(*copied(probe.args))
    given = copied(probe.args)
    printed = io.StringIO()
    torch.default_generator.manual_seed(seed)
    if not callable(answer):
        return _failed(exercise, probe, f"a function was expected, and check got {kind_of(answer)}.")
    try:
        with contextlib.redirect_stdout(printed):
            result = answer(*given)
    except (Exception, SystemExit) as error:
        if isinstance(error, NotImplementedError) and not error.args:
            return Verdict("not attempted", "not attempted yet")
        return _failed(exercise, probe, f"your code stopped with {_describe(error, answer)}", printed.getvalue())
    if changed(given, probe.args):
        what = "your function changed its input in place. Work on a copy, or use operations that make a new tensor."
        return _failed(exercise, probe, what, printed.getvalue())
    found = difference(result, expected, exercise.tolerance)
    if found is None:
        return Verdict("passed", "passed")
    return _failed(exercise, probe, found, printed.getvalue())


def _failed(exercise, probe, what, printed=""):
    """The verdict for a probe that failed. ``what``: a sentence that follows the inputs, or a Difference."""
    found = None if isinstance(what, str) else what
    names = list(inspect.signature(exercise.reference).parameters)
    names += [f"input {i + 1}" for i in range(len(names), len(probe.args))]
    shown = [show(value, name, found) for name, value in zip(names, probe.args, strict=False)]
    if found is not None:  # where rows of the inputs are shown, speak of their entry of the answer
        what = found.entry if any("] = " in text for text in shown) and found.entry else found.text
    parts = [f"failed: {probe.property}.", f"For {', '.join(shown)} {what}" if shown else what[0].upper() + what[1:]]
    if probe.hint:
        parts.append(f"Hint: {probe.hint}")
    if printed.strip():
        parts.append(f"Your function printed: {printed.strip()[:300]}")
    return Verdict("failed", "\n".join(parts), probe.property)


def _describe(error, answer):
    """Type, place in the student's own code, and message of an exception."""
    code = getattr(inspect.unwrap(answer), "__code__", None)
    place, traceback = "", error.__traceback__
    while traceback is not None:
        if code is not None and traceback.tb_frame.f_code.co_filename == code.co_filename:
            row = linecache.getline(code.co_filename, traceback.tb_lineno).strip()
            place = f" in line {traceback.tb_lineno}" + (f" (`{row}`)" if row else "")
        traceback = traceback.tb_next
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{place}: {message[:300]}" if message else f"{type(error).__name__}{place}."


def _points(n):
    return f"{n} point" if n == 1 else f"{n} points"


def _display(text, state):
    """Print a line; in a notebook, with a coloured edge and a mark (so that colour is not all there is)."""
    mark, colour = {"passed": ("✓", "#009E73"), "failed": ("✗", "#D55E00"), "not attempted": ("○", "#999999")}[state]
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(f"{mark} {text}")
        return
    from IPython.display import display  # only where a notebook has loaded it already

    style = f"border-left: 4px solid {colour}; padding: 0.2em 0.8em; margin: 0.3em 0; white-space: pre-wrap"
    line = f'<div style="{style}"><b>{mark}</b> {html.escape(text)}</div>'
    display({"text/plain": f"{mark} {text}", "text/html": line}, raw=True)


def _unattempted(*args):
    raise NotImplementedError


def _echo(*args):
    return args


class _Everything:
    def __eq__(self, other):
        return True

    __hash__ = None


def _equal_to_everything(*args):
    return _Everything()
