"""Exercises that build a model, and exercises that predict an outcome: what a student is told, and what is kept."""

import sys

import pytest
import torch
from torch import nn

from course_utils import exercises
from course_utils.exercises import Exercise, Finding, Probe, judge, validate


def line():
    """A model of y = 3 x. Returns an nn.Module with ``loss(x, y)`` and one weight."""
    model = nn.Linear(1, 1, bias=False)
    model.loss = lambda x, y: (model(x) - y).square().mean()
    return model


def trial(build, generator):
    model = build()
    n_weights = sum(p.numel() for p in model.parameters())
    yield Finding("one weight", n_weights == 1, f"It has {n_weights} weights.", "Leave out the bias.")
    x = torch.randn(64, 1, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        model.loss(x, 3 * x).backward()
        optimizer.step()
    error = (model(torch.ones(1, 1)) - 3).abs().item()
    yield Finding("within 0.1 of 3 at x = 1", error < 0.1, f"It is {error:.2f} away.", "Does a gradient arrive?")


def with_bias():
    """It has a bias."""
    model = nn.Linear(1, 1)
    model.loss = lambda x, y: (model(x) - y).square().mean()
    return model


def other_sign():
    """The target has the wrong sign."""
    model = line()
    model.loss = lambda x, y: (model(x) + y).square().mean()
    return model


def frozen():
    """Nothing is trained."""
    model = line()
    with torch.no_grad():
        model.weight.zero_()
    model.loss = lambda x, y: (model(x).detach() - y).square().mean() + 0 * model.weight.sum()
    return model


BUILD = Exercise("97.1", 3, line, kind="build", trial=trial, wrong=(with_bias, other_sign, frozen))


def brighter():
    """Which is brighter, "noon" or "midnight"?"""
    return "noon"


def height():
    """How high is a door, in metres?"""
    return 2.0


CHOICE = Exercise("97.2", 1, brighter, kind="predict", options=("noon", "midnight"), reason="The sun is up.")
NUMBER = Exercise("97.3", 1, height, kind="predict", unit="m", reason="People are shorter.")


@pytest.fixture
def told(monkeypatch):
    """The lines shown for the three exercises above, in a session that starts without points."""
    lines = []
    monkeypatch.setattr(exercises, "load", lambda chapter: (BUILD, CHOICE, NUMBER))
    monkeypatch.setattr(exercises, "_display", lambda text, state: lines.append((state, text)))
    for name, empty in (("POINTS", {}), ("COMMITTED", {}), ("REVEALED", set())):
        monkeypatch.setattr(exercises, name, empty)
    return lines


def stub():
    raise NotImplementedError


# ---------------------------------------------------------------------------------------------------------------- build
def test_a_model_that_is_right_passes_with_its_number():
    verdict = judge(BUILD, line)
    assert verdict.passed and verdict.message.startswith("passed (3 of 3 points). It is 0.00 away.")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (with_bias, "failed the test “one weight”.\nIt has 2 weights.\nHint: Leave out the bias."),
        (other_sign, "failed the test “within 0.1 of 3 at x = 1”.\nIt is 6.00 away.\nHint: Does a gradient arrive?"),
    ],
)
def test_the_first_finding_that_does_not_hold_is_told_with_what_was_measured(wrong, said):
    assert judge(BUILD, wrong).message == said


def test_code_that_stops_is_named_with_the_students_line_and_the_last_test_that_held():
    def breaks():
        model = line()
        model.loss = lambda x, y: (model(x) - y[0, 0, 0]).mean()
        return model

    said = judge(BUILD, breaks).message
    assert said.startswith("failed after the test “one weight”.\nYour code stopped with IndexError in line")
    assert "`model.loss = lambda" in said


def test_a_stub_is_not_attempted_and_giving_up_later_is_a_failure():
    def later():
        model = line()
        model.loss = lambda x, y: stub()
        return model

    assert judge(BUILD, stub).state == "not attempted"
    assert judge(BUILD, later).state == "failed"


def test_a_training_leaves_random_numbers_gradients_and_default_dtype_as_they_were():
    def careless():
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float16)
        torch.manual_seed(3)
        return line()

    before = torch.get_rng_state()
    with torch.no_grad():
        judge(BUILD, careless)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before)
    with torch.inference_mode():
        assert judge(BUILD, line).passed


def test_validate_trains_with_one_seed(monkeypatch):
    calls = []

    def counted():
        """A model of y = 3 x."""
        calls.append(1)
        return line()

    assert validate(Exercise("97.1", 3, counted, kind="build", trial=trial, wrong=BUILD.wrong)) == []
    assert len(calls) == 1


# -------------------------------------------------------------------------------------------------------------- predict
@pytest.mark.parametrize("guess", ["midnight", "Midnight.", " midnight "])
def test_a_guess_is_committed_whether_it_is_right_or_not(told, guess):
    exercises.check("97.2", lambda: guess)
    exercises.score()
    exercises.reveal("97.2", "noon")
    assert told == [
        ("passed", "Exercise 97.2: committed (1 of 1 point): you predict “midnight”. The outcome follows below."),
        ("not attempted", "Chapter 97: 1 of 5 points. Still open: 97.1, 97.3."),
        ("revealed", "Exercise 97.2: you predicted “midnight”. The outcome: “noon”.\nThe sun is up."),
    ]


@pytest.mark.parametrize("guess", [2, 2.0, torch.tensor(2.0), torch.tensor(2), torch.ones(()).numpy()[()] * 2])
def test_a_number_may_be_a_number_of_any_kind(told, guess):
    exercises.check("97.3", lambda: guess)
    exercises.reveal("97.3", torch.tensor(2.5))
    assert told[1] == ("revealed", "Exercise 97.3: you predicted 2 m. The outcome: 2.5 m.\nPeople are shorter.")


@pytest.mark.parametrize(
    ("exercise", "answer", "said"),
    [
        (CHOICE, lambda: "dawn", 'return "noon" or "midnight", got "dawn"'),
        (CHOICE, lambda: 1, 'return "noon" or "midnight", got an int'),
        (CHOICE, lambda: None, "got None (is a `return` missing?)"),
        (CHOICE, "noon", 'Write check("97.2", brighter).'),
        (CHOICE, lambda: nobody, "your code stopped with NameError"),  # noqa: F821
        (NUMBER, lambda: "tall", "return a number in m, got a str"),
        (NUMBER, lambda: True, "return a number in m, got True"),
        (NUMBER, lambda: float("nan"), "return a number in m, got nan"),
        (NUMBER, lambda: torch.ones(3), "got one tensor of shape (3,)"),
        (NUMBER, lambda x: x, "missing 1 required positional argument"),
    ],
)
def test_what_cannot_be_committed_is_told_what_can(exercise, answer, said):
    verdict = judge(exercise, answer)
    assert verdict.state == "failed" and said in verdict.message


def test_without_a_commitment_the_outcome_is_shown_and_nothing_is_scored(told):
    exercises.check("97.2", stub)
    exercises.reveal("97.2", "noon")
    exercises.check("97.2", lambda: "noon")
    exercises.score()
    assert told == [
        ("not attempted", "Exercise 97.2: no prediction committed yet"),
        ("revealed", "Exercise 97.2: no prediction was committed. The outcome: “noon”.\nThe sun is up."),
        (
            "not attempted",
            "Exercise 97.2: its outcome has been shown already. To predict it, restart the kernel and write your guess "
            "first.",
        ),
        ("not attempted", "Chapter 97: 0 of 5 points. Still open: 97.1, 97.2, 97.3."),
    ]


def test_a_prediction_may_change_until_its_outcome_is_shown_and_not_after(told):
    exercises.check("97.3", lambda: 1)
    exercises.check("97.3", lambda: 2)
    exercises.reveal("97.3", 2.5)
    exercises.check("97.3", lambda: 2.5)
    exercises.check("97.3", stub)
    exercises.check("97.3", lambda: 2)
    exercises.reveal("97.3", 2.5)
    stays = ("passed", "Exercise 97.3: its outcome has been shown, so your prediction stays 2 m.")
    assert told[3:5] == [stays, stays] and told[5][1].startswith("Exercise 97.3: committed")
    assert told[2] == told[6] and "you predicted 2 m" in told[2][1]
    assert exercises.POINTS == {"97.3": 1}


def test_a_prediction_taken_back_before_the_outcome_scores_nothing(told):
    exercises.check("97.3", lambda: 1)
    exercises.check("97.3", stub)
    exercises.reveal("97.3", 2.5)
    assert exercises.POINTS == {"97.3": 0} and "no prediction was committed" in told[2][1]


def test_an_outcome_that_is_none_of_the_options_is_the_chapters_error(told):
    with pytest.raises(ValueError, match='the outcome of exercise 97.2: return "noon" or "midnight", got "dawn"'):
        exercises.reveal("97.2", "dawn")
    with pytest.raises(ValueError, match="exercise 97.1 is to build: only a prediction has an outcome"):
        exercises.reveal("97.1", 1.0)


# ------------------------------------------------------------------------------------------------------------- validate
@pytest.mark.parametrize("exercise", [BUILD, CHOICE, NUMBER], ids=lambda e: e.id)
def test_sound_exercises_have_no_faults(exercise):
    assert validate(exercise) == []


def no_options():
    """Which is brighter?"""
    return "noon"


def no_option():
    """Which is brighter, "noon" or "midnight"?"""
    return "dawn"


@pytest.mark.parametrize(
    ("base", "change", "fault"),
    [
        (BUILD, {"kind": "guess"}, "kind must be one of write, build, predict, got 'guess'"),
        (BUILD, {"trial": None}, "a build exercise needs trial"),
        (BUILD, {"kind": "write"}, "a write exercise needs probes"),
        (BUILD, {"reason": "x"}, "reason belongs to a predict exercise, and this is to build"),
        (BUILD, {"wrong": BUILD.wrong[:2]}, "at least three wrong answers are needed, got 2"),
        (BUILD, {"wrong": (*BUILD.wrong, line)}, "the wrong answer line does not fail"),
        (CHOICE, {"reason": ""}, "a predict exercise needs reason"),
        (CHOICE, {"options": ("noon",)}, "options must be two or more different texts"),
        (CHOICE, {"options": ("noon", "Noon.")}, "options must be two or more different texts"),
        (CHOICE, {"reference": no_options}, "does not name the option 'noon'"),
        (CHOICE, {"reference": no_option}, "the reference itself: no prediction"),
        (CHOICE, {"wrong": (brighter,)}, "a predict exercise has no wrong answers"),
        (CHOICE, {"probes": lambda g: [Probe("p", ())]}, "probes belongs to a write exercise"),
    ],
)
def test_validate_finds_what_is_unsound(base, change, fault):
    assert any(fault in line for line in validate(Exercise(**(vars(base) | change))))


def test_ids_count_up_without_a_gap(monkeypatch, tmp_path):
    text = "from tests.exercises.test_kinds import CHOICE, NUMBER\nEXERCISES = (NUMBER, CHOICE)\n"
    (tmp_path / "ch97.py").write_text(text.replace("tests.exercises.", ""))
    monkeypatch.setitem(sys.modules, "test_kinds", sys.modules[__name__])
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"ids must count 97.1, 97.2, …, got 97.3, 97.2"):
        exercises.load(97)
    sys.modules.pop("course_utils.exercises.ch97", None)


def test_an_id_may_be_written_as_a_number(told, monkeypatch):
    exercises.check(97.2, lambda: "noon")
    assert "committed" in told[0][1]
    many = tuple(Exercise(f"97.{i}", 1, height, kind="predict", reason="r") for i in range(1, 11))
    monkeypatch.setattr(exercises, "load", lambda chapter: many)
    assert exercises.find(97.2).id == "97.2" and exercises.find("97.10").id == "97.10"
    with pytest.raises(ValueError, match='97.1 may be exercise "97.1" or "97.10": write the one you mean in quotes'):
        exercises.find(97.10)
