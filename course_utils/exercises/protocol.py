"""What an exercise is made of: the exercise itself, its probes or findings, and the verdict on an answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

KINDS = ("write", "build", "predict")


@dataclass(frozen=True)
class Probe:
    """One input of a *write* exercise, and the property that it tests in plain words: ``"zero when p equals q"``.

    hint: what helps a student who fails here and made none of the known mistakes.
    """

    property: str
    args: tuple
    hint: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing that the trial of a *build* exercise looked at.

    property: what must hold, in plain words: ``"the probabilities of all 512 images add up to 1"``.
    holds: whether it does.
    found: what was measured, as a sentence that is true either way: ``"They add up to 0.93."``.
    hint: what helps where it does not hold.
    """

    property: str
    holds: bool
    found: str
    hint: str = ""


@dataclass(frozen=True)
class Exercise:
    """One exercise. ``kind`` is "write", "build" or "predict"; the docstring of the package shows one of each.

    reference: the right answer, a function whose signature and docstring the student gets. Of a *write* exercise it
        returns a tensor, a number, or a tuple of them, and draws random numbers, if any, from torch's CPU generator.
        Of a *predict* exercise it takes nothing and returns a good guess.
    wrong: functions that a student might plausibly write, for *write* and *build*. The docstring of each is the hint
        that whoever makes this mistake is given. Tests see each of them fail.
    probes (write): maps a seeded ``torch.Generator`` to a list of :class:`Probe`.
    tolerance (write): an answer may differ by ``tolerance * (1 + |expected|)``.
    trial (build): a generator function; ``trial(answer, generator)`` builds, trains, measures and yields a
        :class:`Finding` for each thing it looks at. The last one is the measured number. Laws come first, training
        after them: the trial ends at the first finding that does not hold. At most 8 seconds on one core.
    options (predict): what may be guessed; empty where a number is asked for.
    unit, between (predict): the unit of that number, such as "nats", and its smallest and largest value.
    reason (predict): why the outcome is what it is, shown with it. It is true on every data set.
    """

    id: str
    points: int
    reference: Callable
    probes: Callable | None = None
    wrong: tuple = ()
    tolerance: float = 1e-5
    kind: str = "write"
    trial: Callable | None = None
    options: tuple = ()
    unit: str = ""
    between: tuple = ()
    reason: str = ""

    @property
    def chapter(self):
        """Number of the chapter, "01" for exercise "1.3"."""
        return self.id.split(".")[0].zfill(2)


@dataclass(frozen=True)
class Verdict:
    """What :func:`course_utils.exercises.judge` found.

    ``state`` is "passed", "failed" or "not attempted"; ``failed_on`` the property, ``hint`` how to think about it, and
    ``found`` what a trial measured, both part of the message; ``guess`` what was predicted.
    """

    state: str
    message: str
    failed_on: str = ""
    guess: Any = None
    hint: str = ""
    found: str = ""

    @property
    def passed(self):
        return self.state == "passed"
