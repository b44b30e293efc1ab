"""Grading: what hostile, broken, wrong and honest submissions come to. Everything runs in a real sandbox."""

import shutil

import pytest
from commands import grading

from course_utils.commands.grade import sandbox

pytestmark = [pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap"),
              pytest.mark.xdist_group("sandbox")]  # fmt: skip
LIMITS = sandbox.Limits(memory=3_000, write=4.0, notebook=30.0, output=200_000)


@pytest.fixture(scope="module")
def nursery():
    """A sandbox that has been proved, for all tests of this file."""
    with sandbox.Nursery(LIMITS) as found:
        sandbox.prove(found)
        yield found


@pytest.fixture(scope="module")
def hostile(nursery, tmp_path_factory):
    """The record of one submission that gives every case as the answer to an exercise of its own."""
    small = grading.chapter(grading.copies(len(grading.CASES)))
    answers = {f"1.{i}": text for i, (text, _) in enumerate(grading.CASES.values(), 1)}
    record, _ = grading.graded(small, answers, nursery, tmp_path_factory.mktemp("hostile"))
    return dict(zip(grading.CASES, record["exercises"].values(), strict=True))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", grading.CASES)
def test_a_case_ends_in_its_state_and_only_honest_work_has_points(case, hostile):
    expected = grading.CASES[case][1]
    assert hostile[case]["state"] in expected.replace(",", "").split(), hostile[case]
    assert hostile[case]["points"] == (2 if expected == "passed" else 0)
