"""The verdict on an answer, and on an exercise. Nothing here prints or keeps anything.

An answer is called inside surroundings of its own: random numbers from a seed, gradients on, and for *write* exercises
float64 as torch's default, as the probes have it. What the answer changes of these is undone.
"""

import contextlib
import inspect
import io
import linecache
import math
import zlib
from dataclasses import dataclass
from typing import Any

import torch

from course_utils.exercises.compare import changed, copied, difference, kind_of, plain, show
from course_utils.exercises.protocol import KINDS, Verdict

ARITHMETIC = (ArithmeticError, ValueError)  # math.exp(1000) and math.log(0): there the hint of the probe helps


def judge(exercise, answer, seed=0):
    """The :class:`Verdict` on an answer, from fresh inputs drawn with ``seed``. The caller's settings are kept."""
    if not callable(answer):
        name = exercise.reference.__name__
        what = f'A function was expected, and check got {kind_of(answer)}. Write check("{exercise.id}", {name}).'
        return Verdict("failed", f"failed.\n{what}")
    judged = {"write": _write, "build": _build, "predict": _predict}[exercise.kind]
    return judged(exercise, answer, _seed(exercise, seed))


def validate(exercise, seeds=(0, 1, 2)):
    """What is wrong with the exercise itself, as a list of sentences; empty when it is sound.

    Sound means: the reference passes, a stub counts as not attempted, each of at least three wrong answers fails and
    is told so by the hint in its docstring, and an answer that equals everything and one that returns its inputs fail.
    A *write* exercise is tried with several seeds, a *build* exercise with the first of them, since it trains. No
    wrong answers are asked of a *predict* exercise, whose reference only has to be a guess that can be committed.
    """
    faults = list(_form(exercise))
    if faults:
        return faults
    for seed in seeds if exercise.kind == "write" else seeds[:1]:
        if not (verdict := judge(exercise, exercise.reference, seed)).passed:
            faults.append(f"seed {seed}: the reference itself: {verdict.message}")
        if judge(exercise, _unattempted, seed).state != "not attempted":
            faults.append(f"seed {seed}: the stub does not count as not attempted")
        for wrong in (*exercise.wrong, _equal_to_everything, _echo):
            name = getattr(wrong, "__name__", wrong)
            verdict = judge(exercise, wrong, seed)
            if verdict.state != "failed":
                faults.append(f"seed {seed}: the wrong answer {name} does not fail")
            elif wrong in exercise.wrong and exercise.kind == "write" and _doc(wrong) not in verdict.message:
                faults.append(f"seed {seed}: {name} behaves like another wrong answer and gets its hint: {verdict}")
    return faults


def _form(exercise):
    """What is wrong with an exercise before anything is tried."""
    if exercise.kind not in KINDS:
        yield f"kind must be one of {', '.join(KINDS)}, got {exercise.kind!r}"
        return
    if not inspect.getdoc(exercise.reference):
        yield "the reference has no docstring"
    if not isinstance(exercise.points, int) or exercise.points < 1:
        yield f"points must be a whole number above 0, got {exercise.points!r}"
    needed = {"write": "probes", "build": "trial", "predict": "reason"}
    if not getattr(exercise, needed[exercise.kind]):
        yield f"a {exercise.kind} exercise needs {needed[exercise.kind]}"
    for kind, name in needed.items():
        if kind != exercise.kind and getattr(exercise, name):
            yield f"{name} belongs to a {kind} exercise, and this is to {exercise.kind}"
    if exercise.kind == "predict":
        if exercise.wrong:
            yield "a predict exercise has no wrong answers: every guess that can be committed counts"
        if len({*map(_folded, exercise.options)}) != len(exercise.options) or len(exercise.options) == 1:
            yield f"options must be two or more different texts, or none for a number, got {exercise.options!r}"
        for option in exercise.options:
            if option not in _doc(exercise.reference):
                yield f"the docstring, which is the question, does not name the option {option!r}"
        return
    if len(exercise.wrong) < 3:
        yield f"at least three wrong answers are needed, got {len(exercise.wrong)}"
    for wrong in exercise.wrong:
        if not inspect.getdoc(wrong):
            yield f"the wrong answer {wrong.__name__} has no docstring: it is the hint for whoever makes this mistake"


# ---------------------------------------------------------------------------------------------------------------- write
@dataclass(frozen=True)
class _Outcome:
    """What came of calling a function on a probe: a result, or an exception; and what it printed and changed."""

    result: Any = None
    error: BaseException | None = None
    changed: bool = False
    printed: str = ""


def case(exercise, number, seed=0):
    """The inputs of one probe (counted from 0) as :func:`judge` draws them, to repeat what failed."""
    with _surroundings(_seed(exercise, seed)):
        probes = exercise.probes(torch.Generator().manual_seed(_seed(exercise, seed)))
    if not 0 <= number < len(probes):
        raise ValueError(f"exercise {exercise.id} has the cases 0 to {len(probes) - 1}, got {number}")
    return copied(probes[number].args)


def _write(exercise, answer, seed):
    with _surroundings(seed):
        probes = exercise.probes(torch.Generator().manual_seed(seed))
    for number, probe in enumerate(probes):
        outcome = _outcome(answer, probe, seed)
        error = outcome.error
        if number == 0 and isinstance(error, NotImplementedError) and not error.args:
            return Verdict("not attempted", "not attempted yet")
        expected = _outcome(exercise.reference, probe, seed)
        if expected.error is not None:
            raise expected.error
        found = None
        if error is not None:
            found = f"your code stopped with {_describe(error, answer)}"
        elif outcome.changed:
            found = "your function changed its input in place. Work on a copy, or use operations that make new tensors."
        else:
            with _surroundings(seed):
                found = difference(outcome.result, expected.result, exercise.tolerance)
        if found is not None:
            hint = _mistake(exercise, answer, probes, number, seed) or _general_hint(exercise, probe, outcome, found)
            return _failed(exercise, number, probe, found, hint, outcome.printed)
    return Verdict("passed", f"passed ({exercise.points} of {_points(exercise.points)})")


def _outcome(function, probe, seed):
    printed = io.StringIO()
    with _surroundings(seed), contextlib.redirect_stdout(printed):
        given = copied(probe.args)  # here, where gradients are on: they go on to the probe's own inputs
        try:
            result = function(*given)
        except (Exception, SystemExit) as error:
            return _Outcome(error=error, printed=printed.getvalue())
    return _Outcome(result, None, changed(given, probe.args), printed.getvalue())


def _mistake(exercise, answer, probes, failed, seed):
    """The hint of the known mistake that the answer makes, or "".

    It is the wrong answer that gives the same on the probe that failed and, among those, on most of the others.
    """
    given = [_outcome(answer, probe, seed) for probe in probes]
    best, most = "", 0
    for wrong in exercise.wrong:
        known = [_outcome(wrong, probe, seed) for probe in probes]
        alike = [_alike(a, b, exercise.tolerance) for a, b in zip(known, given, strict=True)]
        if alike[failed] and sum(alike) > most:
            best, most = _doc(wrong), sum(alike)
    return best


def _alike(a, b, tolerance):
    """Whether two outcomes are the same: an error of one type, or equal results that gradients pass alike."""
    if a.error is not None or b.error is not None or a.changed != b.changed:
        return type(a.error) is type(b.error) and a.changed == b.changed
    try:
        with _surroundings(0):
            one_way, back = difference(a.result, b.result, tolerance), difference(b.result, a.result, tolerance)
    except Exception:  # results of any kind stand on both sides here, and some cannot be compared
        return False
    return one_way is None and back is None


def _general_hint(exercise, probe, outcome, found):
    """The hint for an answer that makes no known mistake."""
    if outcome.error is not None:
        if "dtype" in str(outcome.error) or "scalar type" in str(outcome.error):
            return "the inputs are float64. Make new tensors like them: torch.zeros_like(x), or dtype=x.dtype."
        return probe.hint if isinstance(outcome.error, ARITHMETIC) else ""
    if isinstance(found, str):
        return ""
    if found.form:
        returns = [p for p in (inspect.getdoc(exercise.reference) or "").split("\n") if p.startswith("Returns")]
        return " ".join([found.form, *(f"The docstring says: {row}" for row in returns[:1])]).strip()
    return probe.hint


def _failed(exercise, number, probe, what, hint, printed):
    """The verdict for a probe that failed. ``what``: a sentence that follows the inputs, or a Difference."""
    found = None if isinstance(what, str) else what
    names = list(inspect.signature(exercise.reference).parameters)
    names += [f"input {i + 1}" for i in range(len(names), len(probe.args))]
    shown = [show(value, name, found) for name, value in zip(names, probe.args, strict=False)]
    if found is not None:  # where rows of the inputs are shown, speak of their entry of the answer
        what = found.entry if any("] = " in text for text in shown) and found.entry else found.text
    parts = [
        f"failed the test “{probe.property}”.",
        f"For {', '.join(shown)} {what}" if shown else what[0].upper() + what[1:],
        f"Hint: {hint}" if hint else "",
        f"Your function printed: {printed.strip()[:300]}" if printed.strip() else "",
        f'To repeat it: from course_utils.exercises import case; args = case("{exercise.id}", {number})',
    ]
    return Verdict("failed", "\n".join(filter(None, parts)), probe.property, hint=hint)


# ---------------------------------------------------------------------------------------------------------------- build
def _build(exercise, answer, seed):
    printed, found = io.StringIO(), []
    generator = torch.Generator().manual_seed(seed)
    with _surroundings(seed, torch.float32), contextlib.redirect_stdout(printed):
        try:
            for finding in exercise.trial(answer, generator):
                found.append(finding)
                if not finding.holds:
                    break
        except (Exception, SystemExit) as error:
            if not found and isinstance(error, NotImplementedError) and not error.args:
                return Verdict("not attempted", "not attempted yet")
            where = f" after the test “{found[-1].property}”" if found else ""
            return Verdict("failed", f"failed{where}.\nYour code stopped with {_describe(error, answer)}", "it runs")
    if not found:
        raise ValueError(f"exercise {exercise.id}: the trial yielded no finding")
    last = found[-1]
    if last.holds:
        told = f"passed ({exercise.points} of {_points(exercise.points)}). {last.found}"
        return Verdict("passed", told, found=last.found)
    text = printed.getvalue().strip()
    parts = [
        f"failed the test “{last.property}”.",
        last.found,
        f"Hint: {last.hint}" if last.hint else "",
        f"Your code printed: {text[:300]}" if text else "",
    ]
    return Verdict("failed", "\n".join(filter(None, parts)), last.property, hint=last.hint, found=last.found)


# -------------------------------------------------------------------------------------------------------------- predict
def _predict(exercise, answer, seed):
    with _surroundings(seed), contextlib.redirect_stdout(io.StringIO()):
        try:
            guess = plain(answer())
        except (Exception, SystemExit) as error:
            if isinstance(error, NotImplementedError) and not error.args:
                return Verdict("not attempted", "no prediction committed yet")
            return Verdict("failed", f"no prediction: your code stopped with {_describe(error, answer)}", "a guess")
    try:
        guess = outcome(exercise, guess)
    except ValueError as error:
        return Verdict("failed", f"no prediction: {error}", "a guess")
    told = f"you predict {spoken(exercise, guess)}. The outcome follows below."
    return Verdict("passed", f"committed ({exercise.points} of {_points(exercise.points)}): {told}", guess=guess)


def outcome(exercise, value):
    """A guess or an outcome of a *predict* exercise in its plain form. ValueError saying what may be returned."""
    value = plain(value)
    if exercise.options:
        found = [o for o in exercise.options if isinstance(value, str) and _folded(o) == _folded(value)]
        if not found:
            options = " or ".join(f'"{option}"' for option in exercise.options)
            what = f'"{value}"' if isinstance(value, str) else kind_of(value)
            raise ValueError(f"return {options}, got {what}")
        return found[0]
    low, high = exercise.between or (-math.inf, math.inf)
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        what = value if isinstance(value, int | float) else kind_of(value)
        wanted = "a number" + (f" in {exercise.unit}" if exercise.unit else "")
        wanted += f" from {low} to {high}" if exercise.between else ""
        raise ValueError(f"return {wanted}, got {what}")
    return value


def spoken(exercise, value):
    """A guess or an outcome in words: ``“blank paper”`` or ``12.5 nats``."""
    return f"“{value}”" if exercise.options else f"{value:.4g} {exercise.unit}".strip()


def _folded(text):
    return " ".join(text.split()).casefold().rstrip(".")


# -------------------------------------------------------------------------------------------------------------- helpers
@contextlib.contextmanager
def _surroundings(seed, dtype=torch.float64):
    """Random numbers from ``seed``, a default dtype and gradients on; everything is put back afterwards."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.set_default_dtype(dtype)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def _seed(exercise, seed):
    return zlib.crc32(exercise.id.encode()) + seed


def _doc(function):
    return " ".join((inspect.getdoc(function) or "").split())


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
