"""Laws of the numbers about sets of samples: closed forms, oracles, ties, degenerate sets, copyists and collapsers.

Statistical tests use fixed seeds; the thresholds are at least five standard errors away.
"""

import math

import pytest
import torch
from torch import nn

from course_utils import metrics
from course_utils.data import densities


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def exact(mean, root, n=200):
    """A set whose sample mean and covariance are exactly ``mean`` and ``root @ root.T``."""
    x = torch.randn(n, len(mean)).double()
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return mean + x @ root.T


def test_frechet_distance_is_the_closed_form_of_two_gaussians():
    mean, scale = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 1.0, 3.0]).double()
    a, b = exact(0 * mean, torch.eye(3).double()), exact(mean, scale.diag())
    expected = mean.square().sum() + (scale - 1).square().sum()               # commuting covariances
    assert metrics.frechet_distance(a, b) == pytest.approx(expected.item(), rel=1e-9)
    turn, _ = torch.linalg.qr(torch.randn(3, 3).double())
    assert metrics.frechet_distance(a @ turn, b @ turn) == pytest.approx(expected.item(), rel=1e-9)
    first, second = exact(mean, torch.randn(3, 3).double()), exact(0 * mean, torch.randn(3, 3).double())
    root = torch.linalg.eigvals(torch.cov(first.T) @ torch.cov(second.T)).real.clamp(min=0).sqrt().sum()
    expected = mean.square().sum() + torch.cov(first.T).trace() + torch.cov(second.T).trace() - 2 * root
    assert metrics.frechet_distance(first, second) == pytest.approx(expected.item(), rel=1e-9)


def test_frechet_and_kernel_distance_agree_with_torchmetrics():
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    a, b = torch.randn(300, 4).double(), 1.5 * torch.randn(250, 4).double() + 0.3
    oracle = _compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert metrics.frechet_distance(a, b) == pytest.approx(float(oracle), rel=1e-6)
    b = b.repeat(2, 1)[:300]                                                  # the oracle wants sets of one size
    assert metrics.kernel_distance(a, b) == pytest.approx(float(poly_mmd(a, b)), rel=1e-6)


def test_equal_sets_have_distance_zero_and_equal_distributions_nearly():
    a, b = torch.randn(2, 2_000, 8)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    floor, spread = metrics.half_against_half(metrics.frechet_distance, torch.cat([a, b]), 1_000,
                                              torch.Generator().manual_seed(0))
    assert abs(metrics.frechet_distance(a[:1_000], b[:1_000]) - floor) < 5 * spread
    kernel, scatter = metrics.half_against_half(metrics.kernel_distance, torch.cat([a, b]), 1_000,
                                                torch.Generator().manual_seed(0))
    assert abs(kernel) < 5 * scatter and abs(metrics.kernel_distance(a, b)) < 5 * scatter
    density, coverage = metrics.density_coverage(a, b)
    assert density == pytest.approx(1, abs=0.1) and coverage == pytest.approx(1 - 2**-5, abs=0.03)
    assert metrics.data_copying(a[:500], b, a[500:1_000]) == pytest.approx(0.5, abs=0.1)


def test_distances_grow_when_the_sets_move_apart():
    a, b = torch.randn(2, 500, 4)
    for distance in (metrics.frechet_distance, metrics.kernel_distance):
        values = [distance(a, b + shift) for shift in (0.3, 0.6, 1.2)]
        assert values == sorted(values)


@pytest.mark.parametrize("degenerate", ["one point", "few points", "a line"])
def test_degenerate_sets_give_numbers(degenerate):
    real = torch.randn(400, 5)
    fake = {"one point": real[:1].expand(400, 5), "few points": real[:4].repeat(100, 1),
            "a line": torch.linspace(-2, 2, 400)[:, None].expand(400, 5)}[degenerate]
    for a, b in ((fake, real), (real, fake), (fake, fake)):
        density, coverage = metrics.density_coverage(a, b)
        numbers = [metrics.frechet_distance(a, b), metrics.kernel_distance(a, b), density, coverage,
                   metrics.data_copying(a, b, real)]
        assert all(math.isfinite(number) for number in numbers)
    density, coverage = metrics.density_coverage(fake, fake)
    assert density > 0 and coverage == 1, "a set covers itself, whatever its ties"
    assert metrics.data_copying(fake, fake, fake) == 0.5


def test_a_copyist_and_a_collapser_each_lose_somewhere():
    train, test, fresh = torch.randn(3, 1_000, 6)
    judged = {"honest": fresh, "copyist": train, "collapser": fresh[:5].repeat(200, 1) + 0.01 * torch.randn(1_000, 6)}
    rows = {name: (metrics.frechet_distance(x, test), *metrics.density_coverage(x, test),
                   metrics.data_copying(x, train, test)) for name, x in judged.items()}
    assert rows["copyist"][0] == pytest.approx(rows["honest"][0], rel=0.6)      # Fréchet does not see copies
    assert rows["copyist"][3] == 1.0 and abs(rows["honest"][3] - 0.5) < 0.1
    assert rows["collapser"][2] < 0.1 < 0.9 < rows["honest"][2]
    assert rows["collapser"][0] > 10 * rows["honest"][0]


def test_density_and_coverage_by_hand():
    reference = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    # radii to the nearest neighbour: 1, 1, 1, 8; the sample 0.5 lies in two balls, 9.0 in one, 1.0 in three (two rims)
    assert metrics.density_coverage(torch.tensor([[0.5], [9.0]]), reference, k=1) == (3 / 2, 3 / 4)
    assert metrics.density_coverage(torch.tensor([[1.0], [1.0]]), reference, k=1) == (3.0, 3 / 4)


def test_nearest_finds_the_point_and_its_distance():
    a, b = torch.randn(700, 3), torch.randn(50, 3)
    distance, which = metrics.nearest(a, b)
    torch.testing.assert_close(distance, (a - b[which]).norm(dim=1))
    assert ((a[:, None] - b[None]).norm(dim=2) >= distance[:, None] - 1e-5).all()


def test_modes_and_fit_of_the_truth_and_of_three_failures():
    truth = densities.twenty_five_gaussians()
    centres = truth.component_distribution.mean
    told = metrics.modes_and_fit(truth.sample((10_000,)), centres, 0.15)
    assert told["modes"] == 25 and told["on_mode"] == pytest.approx(1 - math.exp(-4.5), abs=0.006)
    assert told["kl"] < 0.01 and told["width"] == pytest.approx(1, abs=0.03)
    narrow = centres.repeat(400, 1) + 0.05 * torch.randn(10_000, 2)
    told = metrics.modes_and_fit(narrow, centres, 0.15)
    assert told["on_mode"] == 1 and told["width"] == pytest.approx(1 / 3 / 0.972, abs=0.02)
    few = centres[:6].repeat(1_667, 1) + 0.15 * torch.randn(10_002, 2)
    told = metrics.modes_and_fit(few, centres, 0.15)
    assert told["modes"] == 6 and told["kl"] == pytest.approx(math.log(25 / 6), abs=0.03)
    square = 7.5 * torch.rand(10_000, 2) - 3.75                                # every mode is hit, few are on one
    told = metrics.modes_and_fit(square, centres, 0.15)
    assert told["modes"] == 25 and told["on_mode"] == pytest.approx(25 * math.pi * 0.45**2 / 7.5**2, abs=0.03)
    assert told["width"] > 1.15
    assert metrics.modes_and_fit(square + 100, centres, 0.15)["modes"] == 0


def test_a_mode_that_is_hit_once_does_not_count():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0]])
    samples = torch.cat([0.1 * torch.randn(999, 2), centres[1:]])
    assert metrics.modes_and_fit(samples, centres, 0.1)["modes"] == 1


def test_blur_is_less_sharp_and_noise_is_sharper():
    x = (torch.rand(20, 1, 12, 12) < 0.2).float()
    blurred = nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    assert metrics.sharpness(blurred) < 0.2 * metrics.sharpness(x)
    assert metrics.sharpness(x + 0.2 * torch.randn_like(x)) > metrics.sharpness(x)
    assert metrics.sharpness(torch.ones(2, 1, 8, 8)) == 0


@pytest.mark.parametrize("a, b, complaint", [
    (torch.zeros(5), torch.zeros(5, 2), "features to be floats of shape"),
    (torch.zeros(5, 3), torch.zeros(5, 2), "same number of columns"),
    (torch.full((5, 2), torch.nan), torch.zeros(5, 2), "finite"),
    (torch.zeros(1, 2), torch.zeros(5, 2), "at least 2"),
])
def test_wrong_sets_are_named(a, b, complaint):
    for number in (metrics.frechet_distance, metrics.kernel_distance, metrics.density_coverage):
        with pytest.raises(ValueError, match=complaint):
            number(a, b)


def test_too_few_reference_points_are_named():
    with pytest.raises(ValueError, match="at least 20"):
        metrics.half_against_half(metrics.frechet_distance, torch.zeros(19, 2), 10, torch.Generator())
    with pytest.raises(ValueError, match="expected k, below"):
        metrics.density_coverage(torch.zeros(5, 2), torch.zeros(5, 2), k=5)


def test_rank_correlation_is_scipys_with_and_without_ties():
    from scipy.stats import spearmanr

    a, b = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    for x, y in ((a, b), (a.round(), b.round()), (a, a.exp()), (a, -a)):
        assert metrics.rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert metrics.rank_correlation(a, torch.ones(9)) == 0


def test_unbeaten_rows_are_those_that_no_row_dominates():
    cost = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    cost[7] = cost[3]
    kept = metrics.unbeaten(cost)
    for i, row in enumerate(cost):
        beaten = any((other <= row).all() and (other < row).any() for other in cost)
        assert kept[i] == (not beaten)
    assert kept[7] == kept[3] and 0 < kept.sum() < 40
