"""What a chapter's first cells call."""

import pytest
import torch

from course_utils import chapter


def test_budgets():
    assert chapter.pick_budget("auto", "cpu") == "class"
    assert chapter.pick_budget("auto", "cuda:0") == "full"
    assert chapter.pick_budget("smoke", "cuda") == "smoke"
    with pytest.raises(ValueError, match="use one of auto, smoke, class, full"):
        chapter.pick_budget("tiny")


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert chapter.pick_device("auto").type == expected
    assert chapter.pick_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="use device='cpu' or 'auto'"):
            chapter.pick_device("cuda")


def test_record_shows_a_line_a_number_and_a_machine_readable_copy(monkeypatch):
    shown = []
    monkeypatch.setattr(chapter, "display", lambda data, raw: shown.append(data))
    chapter.record(nll=torch.tensor(2.5), n_modes=25, name="conv")
    [data] = shown
    assert data[chapter.METRICS_MIME] == {"nll": 2.5, "n_modes": 25, "name": "conv"}
    assert data["text/plain"].splitlines() == ["nll      2.5", "n_modes  25", "name     conv"]


@pytest.mark.parametrize("value", [float("nan"), torch.tensor(float("inf")), torch.ones(2), [1, 2], None])
def test_record_refuses_what_is_no_result(value):
    with pytest.raises(ValueError, match="x (is|has)"):
        chapter.record(x=value)


def test_record_wants_a_number():
    with pytest.raises(ValueError, match="was given no number"):
        chapter.record()
