"""Metrics against scikit-learn and against values worked out by hand."""

import math

import pytest
import sklearn.metrics
import torch

from course_utils import metrics


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_agrees_with_scikit_learn(ties):
    inside, outside = torch.randn(200) + 1, torch.randn(150)
    if ties:
        inside, outside = inside.round(), outside.round()
    labels = torch.cat([torch.ones(200), torch.zeros(150)])
    expected = sklearn.metrics.roc_auc_score(labels, torch.cat([inside, outside]))
    assert metrics.auroc(inside, outside) == pytest.approx(expected)


def test_auroc_of_the_same_scores_is_a_coin_and_of_none_an_error():
    assert metrics.auroc(torch.ones(3), torch.ones(4)) == 0.5
    with pytest.raises(ValueError, match=r"scores_out to be floats of shape \(M,\)"):
        metrics.auroc(torch.ones(3), torch.ones(0))


def test_auroc_does_not_rank_what_is_not_a_number():
    with pytest.raises(ValueError, match="scores_in to be numbers, got 2 NaN"):
        metrics.auroc(torch.tensor([math.nan, math.nan, 1.0]), torch.zeros(3))
    assert metrics.auroc(torch.tensor([0.0, 1.0]), torch.tensor([-math.inf])) == 1


def test_proper_scores_agree_with_scikit_learn_and_are_proper():
    truth = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(torch.tensor([200, 500, 300]))

    def scores(p):
        p = p.expand(1000, 3)
        return metrics.log_score(p.log(), labels), metrics.brier_score(p, labels)

    log_loss, brier = scores(truth)
    assert log_loss == pytest.approx(sklearn.metrics.log_loss(labels, truth.expand(1000, 3).numpy()))
    assert brier == pytest.approx(1 - truth.square().sum().item())
    for shift in torch.tensor([[0.05, -0.05, 0.0], [0.0, 0.05, -0.05], [-0.1, 0.2, -0.1]], dtype=torch.float64):
        worse = scores(truth + shift)
        assert worse[0] > log_loss and worse[1] > brier


def test_calibration_curve_of_a_known_forecast():
    p = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.45, 0.55], [0.35, 0.65]])
    sure, correct, count = metrics.calibration_curve(p, torch.tensor([0, 1, 1, 1]))
    assert count.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 2]
    assert sure[9].item() == pytest.approx(0.95) and correct[9].item() == 0.5 and correct[5].item() == 1
    assert sure[0].isnan()


def test_bits_per_dim_of_a_fair_coin_is_one():
    assert metrics.bits_per_dim(torch.tensor([-784 * math.log(2)]), 784).item() == pytest.approx(1)


def test_accuracy():
    assert metrics.accuracy(torch.tensor([[1.0, 2], [3, 0]]), torch.tensor([1, 1])) == 0.5


def test_psnr_counts_tenths_of_the_squared_error_in_decibels():
    x = torch.rand(2, 3, 4, 4)
    assert metrics.psnr(x + 0.1, x) == pytest.approx(20, abs=1e-4)
    assert metrics.psnr(x + 0.1 * 10**0.5, x) == pytest.approx(10, abs=1e-4)
    assert metrics.psnr(x, x) == math.inf
    with pytest.raises(ValueError, match="of one shape"):
        metrics.psnr(x, x[:1])
