"""Each density integrates to one, samples what it says, and knows its entropy."""

import math

import pytest
import torch
from scipy.stats import chi2

from course_utils.data import densities

LINE = {"exam_scores": densities.exam_scores, "two_bumps": densities.two_bumps}
ALL = {**densities.PLANAR, **LINE}


def cells(name, p, n):
    """Centres (n or n * n, ...) of a grid over all of the mass, and the size of a cell."""
    if name in LINE:
        low, high = {"exam_scores": (0.0, 130.0), "two_bumps": (-8.0, 8.0)}[name]
        step = (high - low) / n
        return low + step * (torch.arange(n, dtype=torch.float64) + 0.5), step
    step = 12.0 / n
    axis = -6 + step * (torch.arange(n, dtype=torch.float64) + 0.5)
    return torch.cartesian_prod(axis, axis), step**2


@pytest.mark.parametrize("name", ALL)
def test_integrates_to_one(name):
    p = ALL[name]()
    x, size = cells(name, p, 240)
    assert float(p.log_prob(x).exp().sum() * size) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize("name", ALL)
def test_samples_follow_the_density(name):
    """Pearson's chi-squared over cells that expect at least 10 of 20,000 samples; fails by chance once in 10^6."""
    p = ALL[name]()
    n, fine, coarse = 20_000, 240, 24
    x, size = cells(name, p, fine)
    mass = p.log_prob(x).exp() * size
    drawn = p.sample((n,)).double()
    if name in LINE:
        expected = mass.reshape(coarse, -1).sum(1)
        place = ((drawn - x[0]) / (x[1] - x[0]) + 0.5).floor() // (fine // coarse)
        inside = (place >= 0) & (place < coarse)
    else:
        block = fine // coarse
        expected = mass.reshape(coarse, block, coarse, block).sum((1, 3)).flatten()
        both = ((drawn + 6) / (12 / coarse)).floor()
        inside = ((both >= 0) & (both < coarse)).all(1)
        place = both[:, 0] * coarse + both[:, 1]
    seen = torch.bincount(place[inside].long(), minlength=len(expected)).double()
    assert inside.double().mean() > 0.999
    assert not seen[expected < 1e-9].any(), "samples where there is no density"
    used = n * expected >= 10
    statistic = ((seen - n * expected)[used] ** 2 / (n * expected[used])).sum()
    freedom = int(used.sum()) - 1
    assert chi2.sf(float(statistic), freedom) > 1e-6, f"chi-squared {statistic:.1f}, {freedom} degrees of freedom"


@pytest.mark.parametrize("name", ALL)
def test_entropy_is_minus_the_mean_log_density(name):
    """Within 5 standard errors of 20,000 samples: fails by chance less than once in 10^6."""
    p = ALL[name]()
    log_p = p.log_prob(p.sample((20_000,))).double()
    error = float(log_p.std()) / math.sqrt(len(log_p)) + 1e-5
    assert abs(float(p.entropy()) + float(log_p.mean())) < 5 * error


def test_known_entropies():
    assert float(densities.checkerboard().entropy()) == pytest.approx(math.log(32), abs=1e-6)
    apart = densities.twenty_five_gaussians(spacing=3.0, std=0.1)  # no overlap: log K + that of one Gaussian
    assert float(apart.entropy()) == pytest.approx(math.log(25) + math.log(2 * math.pi * math.e * 0.01), abs=1e-5)
    one = densities.two_bumps(distance=0.0, std=2.0)
    assert float(one.entropy()) == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 4), abs=1e-6)
    straight, turned = densities.pinwheel(rate=0.0), densities.pinwheel(rate=0.8)  # turning keeps areas
    x, size = cells("pinwheel", turned, 240)
    log_p = turned.log_prob(x)
    assert float(-(log_p.exp() * log_p).sum() * size) == pytest.approx(float(straight.entropy()), abs=1e-3)


def test_exam_scores_have_their_three_modes():
    p = densities.exam_scores()
    x = torch.arange(20.0, 110.0, 0.25)
    log_p = p.log_prob(x)
    modes = x[1:-1][(log_p[1:-1] > log_p[:-2]) & (log_p[1:-1] > log_p[2:])]
    assert modes.tolist() == pytest.approx([40, 70, 90], abs=1.0)


@pytest.mark.parametrize("name", ALL)
def test_shapes(name):
    p = ALL[name]()
    event = () if name in LINE else (2,)
    assert p.batch_shape == () and p.event_shape == event and p.entropy().shape == ()
    assert p.sample().shape == event and p.sample((2, 3)).shape == (2, 3, *event)
    assert p.log_prob(p.sample((2, 3))).shape == (2, 3)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(\.\.\., 2\)"):
        densities.rings().log_prob(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="weight"):
        densities.two_bumps(weight=1.0)
    with pytest.raises(ValueError, match="radii"):
        densities.rings(radii=())
    with pytest.raises(ValueError, match="covariances"):
        densities.GaussianMixture(torch.ones(3), torch.zeros(3, 2), torch.ones(2))
