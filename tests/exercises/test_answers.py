"""The exercises of the course are sound, and tell right answers from wrong ones, whoever wrote them."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from exercises.answers import RIGHT, WRONG

from course_utils import exercises
from course_utils.exercises import judge, load, validate

CHAPTERS = sorted(p.stem[2:] for p in Path(exercises.__file__).parent.glob("ch[0-9][0-9].py"))
EXERCISES = [exercise for chapter in CHAPTERS for exercise in load(chapter)]


@cache
def named(name):
    return next(exercise for exercise in EXERCISES if exercise.reference.__name__ == name)


@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.kind != "build"], ids=lambda e: e.id)
def test_the_exercises_of_the_course_are_sound(exercise):
    """The reference passes, the stub scores nothing, every wrong answer fails with its own hint; for three seeds."""
    assert validate(exercise) == []


@pytest.mark.timeout(900)  # a dozen short trainings
@pytest.mark.parametrize("exercise", [e for e in EXERCISES if e.kind == "build"], ids=lambda e: e.id)
def test_the_models_to_build_are_sound(exercise):
    """The same for those that train, with one seed; and they pass with room to spare for another."""
    assert validate(exercise) == []
    assert judge(exercise, exercise.reference, seed=1).passed


@pytest.mark.parametrize("chapter", ["01", "02", "03", "04"])
def test_a_chapter_has_exercises_of_every_kind(chapter):
    assert {exercise.kind for exercise in load(chapter)} == {"write", "build", "predict"}


@pytest.mark.parametrize(("name", "answer"), RIGHT, ids=[f"{name}-{i}" for i, (name, _) in enumerate(RIGHT)])
def test_a_right_answer_passes_however_it_is_written(name, answer):
    for seed in range(3):
        assert judge(named(name), answer, seed).message.startswith("passed")


@pytest.mark.parametrize(("name", "answer", "said"), WRONG, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(WRONG)])
def test_a_wrong_answer_is_told_what_is_wrong_with_it(name, answer, said):
    for seed in range(3):
        verdict = judge(named(name), answer, seed)
        assert verdict.state == "failed" and said in verdict.message, verdict.message


def test_every_function_to_write_is_attacked_more_than_once():
    tried = Counter(name for name, *_ in WRONG)
    assert all(tried[e.reference.__name__] >= 4 for e in EXERCISES if e.kind == "write" and e.chapter <= "04")
    assert len(WRONG) >= 100 and len(RIGHT) >= 20
