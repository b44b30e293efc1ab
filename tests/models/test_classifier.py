"""Bayes' rule, linear discriminants and adversarial steps."""

import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from course_utils.models import classifier


def clouds(n=400, k=3, d=4):
    y = torch.arange(n) % k
    x = torch.randn(k, d, dtype=torch.float64)[y] * 2 + torch.randn(n, d, dtype=torch.float64)
    return x, y


def test_lda_posterior_agrees_with_scikit_learn():
    x, y = clouds()
    ours = classifier.fit_class_gaussians(x, y, 3, shared=True)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(x, y)
    torch.testing.assert_close(ours.posterior(x), torch.tensor(theirs.predict_proba(x.numpy())))


def test_own_covariances_agree_with_scikit_learn_up_to_its_n_minus_one():
    x, y = clouds(4_000)
    ours = classifier.fit_class_gaussians(x, y, 3)
    theirs = QuadraticDiscriminantAnalysis().fit(x, y)
    torch.testing.assert_close(ours.posterior(x), torch.tensor(theirs.predict_proba(x.numpy())), atol=5e-3, rtol=0)


def test_lda_logits_are_bayes_only_with_one_covariance():
    x, y = clouds()
    shared = classifier.fit_class_gaussians(x, y, 3, shared=True)
    covariance = shared.component_distribution.covariance_matrix
    arguments = (x, shared.component_distribution.mean, covariance[0].inverse(), shared.mixture_distribution.probs)
    torch.testing.assert_close(classifier.lda_logits(*arguments).softmax(-1), shared.posterior(x))
    own = classifier.fit_class_gaussians(x, y, 3)
    assert not torch.allclose(classifier.lda_logits(*arguments).softmax(-1), own.posterior(x), atol=1e-3)


def test_ridge_is_independent_noise():
    x, y = clouds()
    plain, ridged = (classifier.fit_class_gaussians(x, y, 3, ridge=r) for r in (0.0, 0.5))
    difference = ridged.component_distribution.covariance_matrix - plain.component_distribution.covariance_matrix
    torch.testing.assert_close(difference, 0.5 * torch.eye(4, dtype=torch.float64).expand(3, -1, -1))


def test_a_class_without_examples_is_an_error():
    x, y = clouds()
    with pytest.raises(
        ValueError, match=r"every one of the 4 classes needs an example, got counts \[134, 133, 133, 0\]"
    ):
        classifier.fit_class_gaussians(x, y, 4)
    with pytest.raises(ValueError, match="labels y from 0 to 1, got values from 0 to 2"):
        classifier.fit_class_gaussians(x, y, 2)


def test_fgsm_is_the_worst_small_step_and_stays_in_range():
    model = classifier.small_cnn(1, 3, width=4).double()
    x, y = torch.rand(8, 1, 12, 12, dtype=torch.float64), torch.arange(8) % 3

    def loss(images):
        with torch.no_grad():
            return -model(images).log_prob(y)

    epsilon = 1e-7
    attacked = classifier.fgsm(model, x, y, epsilon)
    assert (attacked - x).abs().max() <= epsilon * 1.0001
    for _ in range(20):
        other = (x + epsilon * torch.randn_like(x).sign()).clamp(0, 1)
        assert (loss(attacked) >= loss(other)).all()
    far = classifier.fgsm(model, x, y, 5.0)
    assert far.min() >= 0 and far.max() <= 1
    assert all(p.grad is None for p in model.parameters())


def test_features_are_what_the_last_layer_reads():
    network, x = classifier.feature_network(), torch.rand(3, 1, 28, 28)
    features = network.features(x)
    assert features.shape == (3, 64) and features.min() >= 0
    last = network.network[-1][-1]
    torch.testing.assert_close(last(features).log_softmax(1), network(x).logits)
