r"""Discriminative classifiers p(y|x), and the generative one that gets p(y|x) from p(x|y) by Bayes' rule.

A discriminative model is a network whose outputs are read as the logits of p(y|x). A generative classifier is a
:class:`course_utils.distributions.GaussianMixture` with one component a class: :func:`fit_class_gaussians` estimates
it, its ``posterior`` labels, and its ``log_prob`` says whether there is anything worth labelling.
"""

import torch
from torch import nn
from torch.distributions import Categorical

from course_utils import expect
from course_utils.distributions import GaussianMixture
from course_utils.nn.conv import Downsample
from course_utils.nn.mlp import MLP


# ---------------------------------------------------------------------------------------------------------- formulas
def lda_logits(x, means, precision, weights):
    r"""Class scores of linear discriminant analysis: their softmax is p(y = k | x) when
    classes share one covariance.

    .. math:: a_k(x) = \mu_k^\top \Sigma^{-1} x - \tfrac12 \mu_k^\top \Sigma^{-1} \mu_k
              + \log \pi_k

    ``x (B, D)``, ``means (K, D)``, ``precision (D, D)`` the inverse covariance, ``weights
    (K,)``. Returns ``(B, K)``. The quadratic term in x is the same for every class and
    cancels. (Fisher 1936; Bishop 2006, eq. 4.68-4.70.) Taught in chapter 01.
    """
    expect.floats(means, "means", "K", "D")
    expect.floats(precision, "precision", means.shape[1], means.shape[1], like=means)
    expect.floats(weights, "weights", len(means))
    expect.floats(x, "x", "B", means.shape[1], like=means)
    slopes = means @ precision  # (K, D)
    offsets = weights.log() - (slopes * means).sum(-1) / 2  # (K,)
    return x @ slopes.T + offsets


def fit_class_gaussians(x, y, n_classes, *, shared=False, ridge=0.0):
    r"""Maximum-likelihood Gaussian for each class: counts, class means and covariances.

    ``x (N, D)`` floats, ``y (N,)`` integer labels below ``n_classes``. ``shared=True`` pools one covariance for all
    classes (linear discriminant analysis), otherwise each class has its own (quadratic). ``ridge`` is a variance added
    to every direction, the same as adding independent noise of that variance to the data: without it a pixel that
    never changes has variance zero and its density is infinite. Returns a GaussianMixture whose component k is class
    k. Raises ValueError when a class has no example. Taught in chapter 01.
    """
    expect.finite(expect.floats(x, "x", "N", "D"), "x")
    y = expect.labels(y, len(x), expect.count(n_classes, "n_classes"))
    expect.number(ridge, "ridge", low=0)
    counts = torch.bincount(y, minlength=n_classes)
    if len(counts) > n_classes or (counts == 0).any():
        raise ValueError(f"every one of the {n_classes} classes needs an example, got counts {counts.tolist()}")
    means = torch.stack([x[y == k].mean(0) for k in range(n_classes)])
    centred = x - means[y]
    if shared:
        covariances = (centred.T @ centred / len(x)).expand(n_classes, -1, -1)
    else:
        covariances = torch.stack([c.T @ c / len(c) for c in (centred[y == k] for k in range(n_classes))])
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return GaussianMixture(counts / len(x), means, covariances + ridge * eye)


def fgsm(classifier, x, y, epsilon):
    r"""One step along the sign of the loss gradient: :math:`x' = x +
    \epsilon\,\mathrm{sign}\,\nabla_x[-\log p(y|x)]`.

    ``x (B, C, H, W)`` in [0, 1], ``y (B,)``, ``epsilon`` in the same unit as a pixel. Returns
    images in [0, 1]. (Goodfellow, Shlens & Szegedy 2015, sec. 4, arXiv:1412.6572.)
    Taught in chapter 01.
    """
    expect.inside(expect.floats(x, "x", "B", "C", "H", "W"), "x", 0, 1)
    expect.number(epsilon, "epsilon")                    # below 0 it lowers the loss
    x = x.detach().clone().requires_grad_()
    p = classifier(x)
    nll = -p.log_prob(expect.labels(y, *p.logits.shape)).sum()
    (grad,) = torch.autograd.grad(nll, x)
    return (x + epsilon * grad.sign()).clamp(0, 1).detach()


# ------------------------------------------------------------------------------------------------------------- model
class Classifier(nn.Module):
    r"""p(y|x) as a distribution: ``classifier(x)`` is a Categorical with batch ``(B,)``.

    ``network`` maps ``(B, ...)`` to logits ``(B, K)``. The loss is the log-loss -log p(y|x), averaged over the batch.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        logits = self.network(expect.floats(x, "x", like=self))
        return Categorical(logits=expect.floats(logits, "logits", len(x), "K"))  # (B, K)

    def features(self, x):
        """What the last linear layer reads, ``(B, F)``: for networks that end in an MLP with a hidden layer."""
        *body, head = self.network
        for layer in [*body, *list(head)[:-1]]:
            x = layer(x)
        return x

    def loss(self, batch):
        x, y = batch
        p = self(x)
        return {"loss": -p.log_prob(expect.labels(y, *p.logits.shape)).mean()}


# --------------------------------------------------------------------------------------------------------- factories
def logistic_regression(n_pixels=784, n_classes=10):
    """One linear layer and a softmax, for images ``(B, C, H, W)`` or rows ``(B, D)``."""
    return Classifier(nn.Sequential(nn.Flatten(), MLP([n_pixels, n_classes])))


def small_cnn(channels=1, n_classes=10, width=16):
    """Two strided convolutions and two linear layers; about 40,000 parameters. Takes any size from 8 upward."""
    expect.counts((channels, n_classes, width), "(channels, n_classes, width)")
    return Classifier(
        nn.Sequential(
            Downsample(channels, width),
            nn.ReLU(),
            Downsample(width, 2 * width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            MLP([2 * width * 16, 4 * width, n_classes]),
        )
    )


def feature_network(channels=1, n_classes=10):
    """The :func:`small_cnn` whose 64 hidden units are the features of the distances between images.

    Shipped trained, one for each data set: ``features_handwriting.safetensors``, ``features_mnist.safetensors``.
    Taught in chapter 05.
    """
    return small_cnn(channels, n_classes, width=16)
