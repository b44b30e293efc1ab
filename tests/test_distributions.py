"""Divergences and mixtures against SciPy, scikit-learn and grids."""

import math

import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture

from course_utils import checks, distributions


def rows(n=50, k=6, zeros=False):
    p = torch.rand(n, k, dtype=torch.float64) + 1e-3
    if zeros:
        p = p * (torch.rand(n, k) > 0.5)
        p[:, 0] += 0.1
    return p / p.sum(-1, keepdim=True)


@pytest.mark.parametrize("zeros", [False, True])
def test_divergences_agree_with_scipy(zeros):
    p, q = rows(zeros=zeros), rows()
    torch.testing.assert_close(distributions.kl_divergence(p, q), torch.tensor(scipy.stats.entropy(p, q, axis=1)))
    expected = torch.tensor(scipy.spatial.distance.jensenshannon(p, q, axis=1)) ** 2
    torch.testing.assert_close(distributions.jensen_shannon(p, q), expected)


def test_kl_is_infinite_where_the_forecast_says_never():
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    assert distributions.kl_divergence(p, q) == math.inf
    assert distributions.kl_divergence(q, p).isfinite()


def test_jensen_shannon_of_disjoint_distributions_is_log_two():
    p = torch.tensor([0.5, 0.5, 0, 0])
    assert distributions.jensen_shannon(p, p.flip(0)).item() == pytest.approx(math.log(2))


def test_gaussian_scale_is_half_the_log_variance():
    mu, log_var = torch.randn(2, 4, 3, dtype=torch.float64)
    x = torch.randn(4, 3, dtype=torch.float64)
    expected = scipy.stats.norm.logpdf(x, mu, log_var.exp().sqrt()).sum(1)
    torch.testing.assert_close(distributions.gaussian(mu, log_var).log_prob(x), torch.tensor(expected))


def mixture(diagonal, k=3, d=4):
    weights = rows(1, k)[0]
    means = torch.randn(k, d, dtype=torch.float64)
    root = torch.randn(k, d, d, dtype=torch.float64)
    covariances = root @ root.mT + torch.eye(d, dtype=torch.float64)
    if diagonal:
        covariances = covariances.diagonal(dim1=-2, dim2=-1)
    return distributions.GaussianMixture(weights, means, covariances)


@pytest.mark.parametrize("diagonal", [False, True])
def test_mixture_agrees_with_scikit_learn(diagonal):
    ours = mixture(diagonal)
    theirs = SklearnMixture(3, covariance_type="diag" if diagonal else "full")
    theirs.weights_, theirs.means_ = ours.mixture_distribution.probs.numpy(), ours.component_distribution.mean.numpy()
    component = ours.component_distribution
    covariances = component.variance if diagonal else component.covariance_matrix
    theirs.covariances_ = covariances.numpy()
    theirs.precisions_cholesky_ = (covariances.rsqrt() if diagonal else
                                   torch.linalg.inv(torch.linalg.cholesky(covariances)).mT).numpy()
    x = torch.randn(20, 4, dtype=torch.float64)
    torch.testing.assert_close(ours.log_prob(x), torch.tensor(theirs.score_samples(x.numpy())))
    torch.testing.assert_close(ours.posterior(x), torch.tensor(theirs.predict_proba(x.numpy())))


@pytest.mark.parametrize("diagonal", [False, True])
def test_marginal_is_the_integral_over_the_rest(diagonal):
    whole = mixture(diagonal, d=2)
    x0 = torch.tensor([[0.3]], dtype=torch.float64)
    line, cell = checks.grid((-40, 40), n=8_000)
    joint = whole.log_prob(torch.cat([x0.expand(len(line), 1), line], 1)).exp().sum() * cell
    torch.testing.assert_close(whole.marginal([0]).log_prob(x0).exp(), joint.reshape(1), rtol=1e-6, atol=0)


def test_conditional_mean_is_the_mean_of_the_conditional_density():
    whole = mixture(False, d=3)
    x = torch.randn(4, 3, dtype=torch.float64)
    missing = torch.tensor([False, True, False])
    filled = whole.conditional_mean(x, missing)
    line, cell = checks.grid((-40, 40), n=8_000)
    for row, result in zip(x, filled, strict=True):
        points = row.expand(len(line), 3).clone()
        points[:, 1] = line[:, 0]
        p = whole.log_prob(points).exp()
        torch.testing.assert_close(result[1], (p * line[:, 0]).sum() / p.sum(), rtol=1e-6, atol=1e-8)
        assert result[0] == row[0] and result[2] == row[2]


def test_conditional_mean_says_what_it_cannot_do():
    x, missing = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([True, False])
    with pytest.raises(ValueError, match="needs full covariances"):
        mixture(True, d=2).conditional_mean(x, missing)
    with pytest.raises(ValueError, match="nothing is observed"):
        mixture(False, d=2).conditional_mean(x, torch.tensor([True, True]))


@pytest.mark.parametrize("diagonal", [False, True])
def test_score_is_the_gradient_of_log_p(diagonal):
    whole = mixture(diagonal)
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(whole.log_prob(x).sum(), x)
    torch.testing.assert_close(whole.score(x.detach()), slope)


@pytest.mark.parametrize("diagonal", [False, True])
def test_noised_is_the_law_of_signal_plus_noise(diagonal):
    """By quadrature over the clean x; the characteristic of a wrong one (noise not squared, mean not scaled) shows."""
    whole, alpha_bar = mixture(diagonal, d=1), 0.7
    line, cell = checks.grid((-40, 40), n=40_000)
    x_t = torch.tensor([[-1.3], [0.4], [2.0]], dtype=torch.float64)
    kernel = torch.distributions.Normal(alpha_bar**0.5 * line[:, 0], (1 - alpha_bar) ** 0.5)
    direct = (whole.log_prob(line).exp() * kernel.log_prob(x_t).exp()).sum(1) * cell
    torch.testing.assert_close(whole.noised(alpha_bar).log_prob(x_t).exp(), direct, rtol=1e-6, atol=0)


@pytest.mark.parametrize("diagonal", [False, True])
def test_clean_given_noisy_is_bayes_rule(diagonal):
    whole, alpha_bar = mixture(diagonal, d=3), 0.6
    x_t, x = torch.randn(2, 5, 3, dtype=torch.float64)
    kernel = torch.distributions.Normal(alpha_bar**0.5 * x, (1 - alpha_bar) ** 0.5)
    joint = whole.log_prob(x) + kernel.log_prob(x_t).sum(1)
    posterior = whole.clean_given(x_t, alpha_bar)
    assert posterior.batch_shape == (5,) and posterior.mean.shape == (5, 3)
    torch.testing.assert_close(posterior.log_prob(x), joint - whole.noised(alpha_bar).log_prob(x_t))
    tweedie = (x_t + (1 - alpha_bar) * whole.noised(alpha_bar).score(x_t)) / alpha_bar**0.5
    torch.testing.assert_close(posterior.mean, tweedie)


def test_a_mixture_on_the_line_gives_what_the_same_one_over_one_dimension_gives():
    weights, means, variances = torch.tensor([[0.3, 0.7], [-1.0, 1.0], [0.2, 0.5]], dtype=torch.float64)
    line = distributions.GaussianMixture(weights, means, variances)
    column = distributions.GaussianMixture(weights, means[:, None], variances[:, None])
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)
    torch.testing.assert_close(line.score(x)[:, None], column.score(x[:, None]))
    there, here = line.noised(0.4).clean_given(x, 0.4), column.noised(0.4).clean_given(x[:, None], 0.4)
    torch.testing.assert_close(there.mean[:, None], here.mean)
    torch.testing.assert_close(there.variance[:, None], here.variance)


def test_a_share_of_the_signal_outside_zero_and_one_is_refused():
    whole = mixture(True, d=2)
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        whole.noised(1.2)
    with pytest.raises(ValueError, match="in \\[0, 1\\)"):
        whole.clean_given(torch.zeros(1, 2, dtype=torch.float64), 1.0)


def test_entropy_of_counts_zero_times_log_zero_as_zero():
    assert distributions.entropy_of(torch.tensor([1.0, 0.0])).item() == 0
    p = rows()
    torch.testing.assert_close(distributions.entropy_of(p), torch.tensor(scipy.stats.entropy(p, axis=1)))


def test_a_component_of_tiny_weight_keeps_its_weight_and_its_gradient():
    logits = torch.tensor([0.0, -30.0], requires_grad=True)
    mixture = distributions.GaussianMixture(logits.softmax(0), torch.tensor([[-50.0], [50.0]]), torch.ones(2, 1))
    found = mixture.log_prob(torch.tensor([[50.0]]))
    assert found.item() == pytest.approx(-30 - 0.5 * math.log(2 * math.pi), abs=1e-4)
    found.sum().backward()
    assert logits.grad[1].item() == pytest.approx(1, abs=1e-4)


def test_heads_name_what_does_not_fit():
    with pytest.raises(ValueError, match="as many log-variances"):
        distributions.GaussianHead(torch.nn.Linear(2, 3))(torch.zeros(1, 2))
    with pytest.raises(ValueError, match="above 0"):
        distributions.FixedGaussianHead(torch.nn.Identity(), 0)


@pytest.mark.parametrize("shape, covariances", [((3,), torch.tensor([0.5, 1.0, 2.0])),
                                                ((3, 2), torch.tensor([0.5, 1.0, 2.0])),
                                                ((3, 2), torch.tensor([[0.5, 1.0], [2.0, 1.0], [1.0, 3.0]]))])
def test_a_mixture_of_any_kind_of_covariance_is_the_one_with_full_covariances(shape, covariances):
    torch.manual_seed(0)
    weights, means = torch.tensor([1.0, 2.0, 5.0]), torch.randn(shape)
    mixture = distributions.GaussianMixture(weights, means, covariances)
    d = means[0].numel()
    full = torch.diag_embed(covariances.reshape(3, -1).expand(3, d))
    same = distributions.GaussianMixture(weights / 8, means.reshape(3, d), full)
    x = mixture.sample((7,))
    assert x.shape == (7, *shape[1:])
    points = x.reshape(7, d)
    torch.testing.assert_close(mixture.log_prob(x), same.log_prob(points))
    torch.testing.assert_close(mixture.posterior(x), same.posterior(points))
    torch.testing.assert_close(mixture.entropy(), same.entropy())
    torch.testing.assert_close(mixture.expand((7,)).log_prob(x), mixture.log_prob(x))


def test_the_entropy_of_one_gaussian_is_its_closed_form():
    covariance = torch.tensor([[[1.0, 0.6], [0.6, 0.5]]])
    one = distributions.GaussianMixture(torch.ones(1), torch.zeros(1, 2), covariance)
    torch.testing.assert_close(one.entropy(), one.component_distribution.entropy()[0], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="at most 2 dimensions"):
        distributions.GaussianMixture(torch.ones(1), torch.zeros(1, 3), torch.ones(1, 3)).entropy()


@pytest.mark.parametrize("arguments", [
    (torch.ones(3), torch.zeros(2, 2), torch.ones(2)), (torch.ones(2), torch.zeros(2), torch.ones(2, 2)),
    (torch.ones(2), torch.zeros(2, 3), torch.ones(2, 2)), (torch.ones(2, 1), torch.zeros(2, 3), torch.ones(2)),
])
def test_a_mixture_says_which_shapes_it_expected(arguments):
    with pytest.raises(ValueError, match="expected"):
        distributions.GaussianMixture(*arguments)


def test_images_on_levels_are_a_distribution_over_all_of_them():
    """Two pixels of three levels: nine probabilities with sum 1, and samples that follow them (false alarm 1e-6)."""
    head = distributions.LevelHead(torch.nn.Unflatten(1, (6, 1, 2)), distributions.Head(levels=3, mixtures=2))
    numbers = torch.randn(1, 12).double()
    images = head(numbers)
    nine = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2).double() / 2
    log_p = torch.stack([images.log_prob(one[None])[0] for one in nine])
    checks.close(log_p.exp().sum(), 1.0, what="nine images")
    drawn = head(numbers.expand(20_000, 12)).sample().view(-1, 2).mul(2).round().long() @ torch.tensor([3, 1])
    checks.frequencies(torch.bincount(drawn, minlength=9), log_p.exp(), what="samples")


def test_the_unit_cube_has_density_one():
    cube = distributions.UnitCube(1, 2, 3)()
    x = cube.sample((50,))
    assert x.shape == (50, 1, 2, 3) and ((x >= 0) & (x < 1)).all()
    assert torch.equal(cube.log_prob(x), torch.zeros(50))
