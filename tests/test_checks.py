"""Each law passes on a model that keeps it and fails on one that breaks it."""

import io
import math
import sys

import pytest
import torch
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from course_utils import checks
from course_utils.checks import CheckFailed


def test_close_names_the_place_and_both_values():
    with pytest.raises(CheckFailed, match=r"two tensors: 1 of 3 differ; got 2, expected 5 at \[1\]"):
        checks.close(torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 5, 3]), what="two tensors")


def test_close_wants_something_of_the_right_shape():
    one, column = torch.tensor(1.0), torch.ones(5, 1)
    for actual, expected in [(torch.empty(0), 1.0), (one, torch.ones(5)), (column, torch.ones(5))]:
        with pytest.raises(CheckFailed, match="got shape"):
            checks.close(actual, expected, what="shapes")
    with pytest.raises(CheckFailed, match="empty"):
        checks.true(torch.empty(0), what="nothing")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_close_does_not_accept_what_is_not_finite(bad):
    with pytest.raises(CheckFailed):
        checks.close(torch.tensor([1.0, bad]), torch.ones(2), what="finite")


def test_a_passing_check_prints_one_line(capsys):
    checks.close(1.0, 1.0, what="one is one")
    assert capsys.readouterr().out == "✓ one is one\n"


def test_true_counts_what_breaks():
    with pytest.raises(CheckFailed, match="2 of 3"):
        checks.true(torch.tensor([True, False, False]), what="all")


def test_fails_wants_a_failure_and_lets_errors_through():
    checks.fails(lambda: False, what="false")
    checks.fails(lambda: checks.close(1, 2, what=""), what="raises")
    with pytest.raises(CheckFailed, match="expected this to fail"):
        checks.fails(lambda: torch.tensor([True, True]), what="held")
    with pytest.raises(CheckFailed, match="expected this to fail"):
        checks.fails(lambda: checks.close(1, 1, what="inner"), what="a passing check held")
    with pytest.raises(ZeroDivisionError):
        checks.fails(lambda: 1 / 0, what="an error is not a broken law")


@pytest.mark.parametrize("law", [
    lambda: checks.close(math.nan, 1.0, what="compared"), lambda: checks.close([1.0, math.nan], [1.0, 1.0], what=""),
    lambda: checks.close(1.0, math.nan, what=""), lambda: checks.gradient(torch.sqrt, -torch.ones(2), 0.0, what=""),
])
def test_nan_refutes_nothing(law):
    with pytest.raises(CheckFailed, match="expected a wrong number to refute this, got NaN"):
        checks.fails(law, what="a claim")


def test_what_holds_on_the_way_to_a_failure_says_nothing(capsys):
    checks.fails(lambda: (checks.true(True, what="first"), checks.close(1, 2, what="second")), what="both hold")
    assert capsys.readouterr().out == "✓ refuted, as it must be: both hold\n"


def test_in_a_notebook_a_law_leaves_a_record_unless_its_line_is_held_back():
    cell = new_code_cell(
        "import contextlib, io\nfrom course_utils import checks\n"
        "checks.close(1.0, 1.1, what='near', atol=0.2)\nchecks.fails(lambda: False, what='no')\n"
        "with contextlib.redirect_stdout(io.StringIO()) as held:\n    checks.true(True, what='quiet')\n"
        "assert held.getvalue() == '✓ quiet\\n'"
    )
    NotebookClient(notebook := new_notebook(cells=[cell]), kernel_name="python3", timeout=60).execute()
    said = [output.data for output in notebook.cells[0].outputs]
    assert [data["text/plain"] for data in said] == ["✓ near", "✓ refuted, as it must be: no"]
    near, no = (data[checks.RECORD_MIME] for data in said)
    assert (near["law"], near["what"], no["law"]) == ("close", "near", "fails")
    assert near["found"] == "off by 0.1, 0.2 allowed; 1 number"


def test_monte_carlo_accepts_the_truth_and_refuses_an_error_of_a_tenth():
    samples = torch.randn(10_000, 3, dtype=torch.float64)  # false alarm: 3 · 6e-7
    checks.monte_carlo(samples, 0.0, what="mean")
    with pytest.raises(CheckFailed, match="standard errors away"):
        checks.monte_carlo(samples, torch.tensor([0.0, 0.1, 0.0]), what="mean")
    with pytest.raises(ValueError, match="scatter too much to tell"):
        checks.monte_carlo(1e6 * samples, 5.0, what="the mean, with an enormous scatter")
    with pytest.raises(ValueError, match="scatter too much to tell"):
        checks.fails(lambda: checks.monte_carlo(1e6 * samples, 5.0, what=""), what="5 is the mean")
    with pytest.raises(ValueError, match="more than the 0.01 that are to be seen"):
        checks.monte_carlo(samples, 0.0, what="mean", resolution=0.01)
    checks.monte_carlo(torch.zeros(100), 0.0, what="no scatter at all")
    with pytest.raises(ValueError, match="at least 2 samples"):
        checks.monte_carlo(samples[:1], 0.0, what="one")


def test_integrates_to_one_sees_a_missing_constant():
    normal = torch.distributions.Normal(0.0, 1.0)

    def log_prob(x):
        return normal.log_prob(x).sum(-1)

    checks.integrates_to_one(log_prob, (-7, 7), (-7, 7), what="a normal density")
    with pytest.raises(CheckFailed):
        checks.integrates_to_one(lambda x: log_prob(x) + 0.1, (-7, 7), (-7, 7), what="off by a factor")


def test_all_binary_lists_every_state_once():
    states = checks.all_binary(1, 2, 2)
    assert states.shape == (16, 1, 2, 2) and len(states.flatten(1).unique(dim=0)) == 16
    with pytest.raises(ValueError, match="too many to list"):
        checks.all_binary(28, 28)


def test_sums_to_one_sees_a_missing_state():
    states = checks.all_binary(3)
    checks.sums_to_one(lambda v: torch.full((len(v),), -math.log(8)), states, what="uniform")
    with pytest.raises(CheckFailed):
        checks.sums_to_one(lambda v: torch.full((len(v),), -math.log(8)), states[1:], what="one missing")


def test_gradient_sees_a_wrong_sign():
    x = torch.randn(5, dtype=torch.float64)
    checks.gradient(lambda v: v**2, x, 2 * x, what="2x")
    with pytest.raises(CheckFailed):
        checks.gradient(lambda v: v**2, x, -2 * x, what="-2x")


def test_frequencies_fit_their_own_distribution_only():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05])
    counts = torch.bincount(torch.multinomial(p, 20_000, replacement=True), minlength=4)
    checks.frequencies(counts, p, what="own")  # false alarm: 1e-6
    with pytest.raises(CheckFailed, match="χ²"):
        checks.frequencies(counts, torch.tensor([0.45, 0.35, 0.15, 0.05]), what="another")


def test_frequencies_see_the_impossible_and_refuse_one_outcome():
    with pytest.raises(CheckFailed, match="probability 0 was drawn"):
        checks.frequencies(torch.tensor([1000, 3, 1]), torch.tensor([0.997, 0.003, 0.0]), what="impossible")
    with pytest.raises(ValueError, match="at least 2"):
        checks.frequencies(torch.tensor([5]), torch.tensor([1.0]), what="one")


def test_causal_sees_a_leak_and_a_constant():
    weights = torch.tril(torch.randn(5, 5, dtype=torch.float64), diagonal=-1)
    x = torch.randn(1, 5, dtype=torch.float64)
    checks.causal(lambda v: v @ weights.T, x, what="strictly lower triangular")
    order = torch.tensor([4, 3, 2, 1, 0])
    checks.causal(lambda v: v @ weights, x, order, what="the other way round")
    with pytest.raises(CheckFailed, match="not before it"):
        checks.causal(lambda v: v @ weights, x, what="upper")
    with pytest.raises(CheckFailed, match="output 0 depends on input 0"):
        checks.causal(lambda v: v, x, what="sees itself")
    checks.causal(lambda v: v, x, what="may see itself", strict=False)
    with pytest.raises(CheckFailed, match="no output depends"):
        checks.causal(lambda v: v * 0, x, what="constant")


NAN, NANS = float("nan"), torch.tensor([0.0, float("nan"), 1.0])


@pytest.mark.parametrize("law", [
    lambda: checks.close(NANS, NANS, what="x"),
    lambda: checks.close(1.0, 2.0, rtol=float("inf"), what="x"),
    lambda: checks.close(1.0, 2.0, atol=NAN, what="x"),
    lambda: checks.true(NAN, what="x"),
    lambda: checks.true(NANS, what="x"),
    lambda: checks.true(torch.ones(3), what="a tensor of numbers says nothing about what holds"),
    lambda: checks.fails(lambda: NAN, what="x"),
    lambda: checks.monte_carlo(torch.cat([NANS, torch.zeros(100)]), 0.0, what="x"),
    lambda: checks.monte_carlo(torch.zeros(100, 2), torch.zeros(100, 1), what="x"),
    lambda: checks.monte_carlo(torch.randn(100) + 5, 0.0, sigmas=float("inf"), what="x"),
    lambda: checks.monte_carlo(torch.zeros(100), NAN, what="x"),
    lambda: checks.integrates_to_one(lambda x: x.sum(1) * NAN, (0.0, 1.0), what="x"),
    lambda: checks.integrates_to_one(lambda x: torch.zeros(len(x), 1), (0.0, 1.0), what="a column is no (N,)"),
    lambda: checks.integrates_to_one(lambda x: x.sum(1) * 0, (1.0, 1.0), what="x"),
    lambda: checks.sums_to_one(lambda x: x.sum(1) * NAN, checks.all_binary(3), what="x"),
    lambda: checks.gradient(lambda x: x * NAN, torch.ones(3), torch.ones(3), what="x"),
    lambda: checks.frequencies(torch.tensor([NAN, 50.0]), torch.tensor([0.5, 0.5]), what="x"),
    lambda: checks.frequencies(torch.tensor([50, 50]), torch.tensor([NAN, 0.5]), what="x"),
    lambda: checks.frequencies(torch.tensor([50, 50]), torch.tensor([5.0, 5.0]), what="probabilities sum to 10"),
    lambda: checks.frequencies(torch.tensor([0, 0]), torch.tensor([0.5, 0.5]), what="x"),
    lambda: checks.causal(lambda x: x.cumsum(1) * NAN, torch.zeros(1, 3), strict=False, what="x"),
    lambda: checks.causal(lambda x: x.cumsum(1) - x, torch.zeros(1, 3), torch.tensor([0, 0, 1]), what="no order"),
])
def test_no_law_passes_on_what_is_no_number(law):
    with pytest.raises((ValueError, checks.CheckFailed)):
        law()


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "cp950", "ascii", "utf-8", "latin-1", "shift_jis"])
def test_a_law_that_holds_passes_under_any_encoding_of_the_output(encoding, monkeypatch):
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding=encoding, write_through=True))
    checks.true(True, what="ELBO ≤ log p: 3 σ, Δ, π₀ and χ²")
    checks.close(1.0, 1.0, what="plain")
    lines = output.getvalue().decode(encoding).splitlines()
    assert lines[1] in ("✓ plain", "ok plain") and "ELBO" in lines[0] and lines[0].endswith(("χ²", "?", "χ?", "?²"))


# ---- laws of invertible maps -----------------------------------------------------------------------------------------
MATRIX = torch.tensor([[2.0, 1.0], [0.5, 1.5]]).double()


def linear_map(x):
    return x @ MATRIX.T, torch.linalg.slogdet(MATRIX).logabsdet.expand(len(x))


def test_log_det_accepts_the_true_one_and_names_a_wrong_one():
    x = torch.randn(4, 2).double()
    checks.log_det(linear_map, x, what="linear")
    with pytest.raises(CheckFailed, match="linear: 4 of 4 differ"):
        checks.log_det(lambda x: (linear_map(x)[0], -linear_map(x)[1]), x, what="linear")
    with pytest.raises(CheckFailed, match="expected one number a point"):
        checks.log_det(lambda x: (linear_map(x)[0], linear_map(x)[1].sum()), x, what="linear")


def test_log_det_refuses_a_map_whose_log_det_is_always_zero():
    with pytest.raises(CheckFailed, match="nothing is tested"):
        checks.log_det(lambda x: (x + 1, x.new_zeros(len(x))), torch.randn(3, 2).double(), what="shift")


def test_inverse_wants_both_ways_and_a_map_that_moves():
    x = torch.randn(4, 2).double()
    forward, back = lambda x: linear_map(x)[0], torch.linalg.inv(MATRIX).T
    checks.inverse(forward, lambda z: z @ back, x, what="linear")
    with pytest.raises(CheckFailed, match="back to x"):
        checks.inverse(forward, lambda z: 1.01 * z @ back, x, what="linear")
    table = {tuple(z.tolist()): point for z, point in zip(forward(x), x, strict=True)}
    with pytest.raises(CheckFailed, match="back to z"):      # right at the images of x, nowhere else
        checks.inverse(forward, lambda z: torch.stack([table.get(tuple(p.tolist()), p) for p in z]), x, what="table")
    with pytest.raises(CheckFailed, match="the map is the identity"):
        checks.inverse(lambda x: x, lambda z: z, x, what="identity")
