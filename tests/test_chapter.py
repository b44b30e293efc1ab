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


@pytest.mark.parametrize("device", ["gpu", "meta", "warp", "", "cuda:99", "xla", "CPU", "cpu;rm", 0, 1.5, None, True,
                                    torch.device("meta")])
def test_a_device_that_cannot_hold_a_number_is_refused_in_words(device):
    with pytest.raises(ValueError, match=r"device(=| is the name)"):
        chapter.pick_device(device)


@pytest.mark.parametrize("seed, taken", [(0, 0), (7, 7), (2**32 - 1, 2**32 - 1), (3.0, 3)])
def test_seeds_that_every_library_takes(seed, taken):
    assert chapter.pick_seed(seed) == taken and type(chapter.pick_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, 1.5, float("nan"), float("inf"), True, "3", None, [1]])
def test_a_seed_that_some_library_would_refuse_later_is_refused_at_once(seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 4294967295, got"):
        chapter.pick_seed(seed)


@pytest.mark.parametrize("budget", ["tiny", "", None, 1, ["smoke"], "SMOKE"])
def test_an_unknown_budget_is_refused_in_words(budget):
    with pytest.raises(ValueError, match="use one of auto, smoke, class, full"):
        chapter.pick_budget(budget, "no device")


def test_record_shows_a_line_a_number_and_a_machine_readable_copy(monkeypatch):
    shown = []
    monkeypatch.setattr(chapter, "display", lambda data, raw: shown.append(data))
    chapter.record(nll=torch.tensor(2.5), n_modes=25, name="conv")
    [data] = shown
    assert data[chapter.METRICS_MIME] == {"nll": 2.5, "n_modes": 25, "name": "conv"}
    assert data["text/plain"].splitlines() == ["nll      2.5", "n_modes  25", "name     conv"]


@pytest.mark.parametrize("value", [float("nan"), torch.tensor(float("inf")), torch.ones(2), [1, 2], None,
                                   pytest.param(10**400, id="beyond every float"), 1j])
def test_record_refuses_what_is_no_result(value):
    with pytest.raises(ValueError, match="x (is|has)"):
        chapter.record(x=value)


def test_record_wants_a_number():
    with pytest.raises(ValueError, match="was given no number"):
        chapter.record()
