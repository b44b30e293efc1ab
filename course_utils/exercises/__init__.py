'''Exercises: what a chapter asks for, and how an answer is checked.

Each chapter has a module ``chNN`` with ``EXERCISES``, a tuple of :class:`Exercise`. There are three kinds, and each
chapter has at least one of each. In a notebook::

    check("1.3", jensen_shannon)     # passed · not attempted yet · which property failed, on which input
    reveal("1.6", outcome)           # of a prediction: what was predicted, what came out, and why
    score()                          # the points so far

The functions behind them, :func:`judge` and :func:`validate`, print nothing and keep nothing.

**write**, the default: a function, checked by properties on fresh inputs. Every :class:`Probe` is one input with the
property it tests in plain words; the right answer is whatever the reference gives. Special probes come first. The
docstring of a wrong answer is the hint that is given to whoever makes this mistake: a student's answer that behaves
like it is told that, any other the hint of the probe. Inputs are float64, and so is torch's default during a check.
Write the numbers of a probe with few digits, so that they can be read and typed::

    def halve(x):
        """Half of x, (N,) to (N,)."""
        return x / 2

    def _halve_twice(x):
        """You divided by 4. Half of x is x / 2."""
        return x / 4

    def _halve_probes(generator):
        return [Probe("zero stays zero", (torch.zeros(2),), "0 / 2 = 0"), …]

    Exercise("1.1", 1, halve, _halve_probes, wrong=(_halve_twice, …))

**build**: 15 to 30 lines that make or train a model (a function that returns it; a class may stand inside, 25 lines at
most). ``trial(answer, generator)`` calls it, yields a :class:`Finding` for each law, then trains a little with a fixed
number of steps, and yields the number measured on held-out data. It ends at the first finding that does not hold, so
cheap and special ones come first. With float32 as the default, in at most 8 seconds on one core, training included;
wrong answers that a law catches cost nothing. Random numbers: torch's own are seeded, ``generator`` is for data::

    def masked_model(n_pixels):
        """A model … with methods … Returns an nn.Module with at most 2,000 weights."""
        …

    def _masked_trial(build, generator):
        model = build(9)
        total = model.log_prob(checks.all_binary(9)).exp().sum().item()
        yield Finding("all 512 images share one unit of probability", abs(total - 1) < 1e-4,
                      f"Their probabilities add up to {total:.4f}.", "Pixel i may see the pixels before it only.")
        …train…
        yield Finding("below 4 nats on images it has not seen", nll < 4, f"{nll:.2f} nats on held-out images.", "…")

    Exercise("1.2", 3, masked_model, kind="build", trial=_masked_trial, wrong=(…))

**predict**: a stub without arguments that returns a number, or one of ``options``. ``check`` commits it, and a later
cell, which computes the outcome, ends with ``reveal``. Points are for committing, not for being right; the reference
is a guess that an attentive reader makes. The docstring is the question, and names the options word by word::

    def brightest():
        """Which page has the higher density, "blank" or "digit"?"""
        return "digit"

    Exercise("1.3", 1, brightest, kind="predict", options=("blank", "digit"), reason="Because …")

In the chapter's source, after a heading ``### Exercise 1.3 (1 point): …``::

    # %% exercise="1.3"

    # %% tags=["check"]
    check("1.3", brightest)

    # %%
    reveal("1.3", "blank" if log_p_blank > log_p_digit else "digit")
'''

import html
import sys
from importlib import import_module

from course_utils.exercises import judging
from course_utils.exercises.judging import judge, outcome, spoken, validate
from course_utils.exercises.protocol import Exercise, Finding, Probe, Verdict

__all__ = ["Exercise", "Finding", "Probe", "Verdict", "case", "check", "find", "judge", "load", "reveal", "score",
           "validate"]  # fmt: skip

# All the state there is, by id of the exercise: the points of each that was checked in this session, the predictions
# that were committed, and the predictions whose outcome has been shown.
POINTS: dict[str, int] = {}
COMMITTED: dict = {}
REVEALED: set[str] = set()


def load(chapter):
    """The exercises of a chapter (1 or "01"), as a tuple. ValueError if there are none, or if ids do not count up."""
    number = str(chapter).zfill(2)
    name = f"{__name__}.ch{number}"
    try:
        exercises = tuple(import_module(name).EXERCISES)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"chapter {number} has no exercises: there is no module {name}") from None
    ids = [exercise.id for exercise in exercises]
    if any(exercise.chapter != number for exercise in exercises):
        raise ValueError(f"{name}: ids must start with {int(number)}., got {', '.join(ids)}")
    if ids != [f"{int(number)}.{i}" for i in range(1, len(ids) + 1)]:
        raise ValueError(f"{name}: ids must count {int(number)}.1, {int(number)}.2, …, got {', '.join(ids)}")
    return exercises


def find(exercise_id):
    """The exercise with this id, "2.1" or the number 2.1. Raises ValueError naming the ids there are."""
    wanted = str(exercise_id)
    exercises = load(wanted.split(".")[0])
    found = [exercise for exercise in exercises if exercise.id == wanted]
    if isinstance(exercise_id, float) and found and any(exercise.id == f"{wanted}0" for exercise in exercises):
        raise ValueError(f'{wanted} may be exercise "{wanted}" or "{wanted}0": write the one you mean in quotes')
    if not found:
        raise ValueError(f"no exercise {exercise_id!r}; there are {', '.join(e.id for e in exercises)}")
    return found[0]


def case(exercise_id, number):
    """The inputs of one case of an exercise, as a tuple: those that a failed check names. Counted from 0."""
    return judging.case(find(exercise_id), number)


def check(exercise_id, answer):
    """Check a student's answer, or commit a prediction, and say so in plain words. A wrong answer raises nothing."""
    exercise = find(exercise_id)
    verdict = judge(exercise, answer)
    if exercise.kind == "predict":
        verdict = _commit(exercise, verdict)
    POINTS.pop(exercise.id, None)  # the last one checked stands last
    POINTS[exercise.id] = exercise.points if verdict.passed else 0
    _display(f"Exercise {exercise.id}: {verdict.message}", verdict.state)


def _commit(exercise, verdict):
    """Keep a prediction, unless its outcome has been shown: from then on what was committed stays."""
    if exercise.id not in REVEALED:
        COMMITTED.pop(exercise.id, None)
        if verdict.passed:
            COMMITTED[exercise.id] = verdict.guess
        return verdict
    if exercise.id not in COMMITTED:
        what = "its outcome has been shown already. To predict it, restart the kernel and write your guess first."
        return Verdict("not attempted", what)
    kept = COMMITTED[exercise.id]
    if verdict.passed and verdict.guess == kept:
        return verdict
    return Verdict("passed", f"its outcome has been shown, so your prediction stays {spoken(exercise, kept)}.")


def reveal(exercise_id, result):
    """Show the outcome of a prediction beside what was committed, with the reason. Neither raises nor takes points.

    ``result``: a number, or one of the exercise's options; ValueError otherwise, for that is the chapter's error.
    """
    exercise = find(exercise_id)
    if exercise.kind != "predict":
        raise ValueError(f"exercise {exercise.id} is to {exercise.kind}: only a prediction has an outcome to reveal")
    try:
        result = outcome(exercise, result)
    except ValueError as error:
        raise ValueError(f"the outcome of exercise {exercise.id}: {error}") from None
    REVEALED.add(exercise.id)
    guess = "no prediction was committed"
    if exercise.id in COMMITTED:
        guess = f"you predicted {spoken(exercise, COMMITTED[exercise.id])}"
    text = f"Exercise {exercise.id}: {guess}. The outcome: {spoken(exercise, result)}.\n{exercise.reason}"
    _display(text, "revealed")


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


def _display(text, state):
    """Print a line; in a notebook, with a coloured edge and a mark (so that colour is not all there is)."""
    mark, colour = {
        "passed": ("✓", "#009E73"),
        "failed": ("✗", "#D55E00"),
        "not attempted": ("○", "#999999"),
        "revealed": ("→", "#0072B2"),
    }[state]
    if "IPython" not in sys.modules or sys.modules["IPython"].get_ipython() is None:
        print(f"{mark} {text}")
        return
    from IPython.display import display  # only where a notebook has loaded it already

    style = f"border-left: 4px solid {colour}; padding: 0.2em 0.8em; margin: 0.3em 0; white-space: pre-wrap"
    line = f'<div style="{style}"><b>{mark}</b> {html.escape(text)}</div>'
    display({"text/plain": f"{mark} {text}", "text/html": line}, raw=True)
