r"""Distributions the models share, and numbers that compare two of them.

Everything that is a probability is a :class:`torch.distributions.Distribution`, so that ``log_prob`` and ``sample``
come from one tested place and nobody writes a Gaussian constant twice.
"""

import math

import torch
from torch import distributions as D
from torch import nn


def kl_divergence(p, q):
    r"""Kullback–Leibler divergence :math:`\sum_k p_k \log(p_k / q_k)` between rows of probabilities, in nats.

    ``p, q``: ``(..., K)``, each row non-negative with sum 1. Returns ``(...,)``. An outcome with :math:`p_k = 0` costs
    nothing; one with :math:`p_k > 0 = q_k` costs infinity. Not differentiable at zeros. (Kullback & Leibler
    1951.) Taught in chapter 01.
    """
    cost = p * (p.log() - q.log())
    return torch.where(p > 0, cost, torch.zeros_like(cost)).sum(-1)


def jensen_shannon(p, q):
    r"""Jensen–Shannon divergence: the mean KL of both to their mixture :math:`m = (p+q)/2`, in nats, at most log 2.

    ``p, q``: ``(..., K)``. Returns ``(...,)``. Zeros are allowed in either. (Lin 1991, eq. 3.2.) Taught in chapter 01.
    """
    m = (p + q) / 2
    return (kl_divergence(p, m) + kl_divergence(q, m)) / 2


def gaussian(mu, log_var):
    r"""Diagonal Gaussian with mean ``mu`` and variance ``exp(log_var)``, both ``(B, ...event)``.

    The only place where a log-variance becomes a scale. ``log_prob`` returns ``(B,)``: it sums over the event.
    """
    return D.Independent(D.Normal(mu, (log_var / 2).exp()), mu.dim() - 1)


def bernoulli(logits):
    """Independent pixels in {0, 1} with the given logits ``(B, ...event)``; ``log_prob`` returns ``(B,)``."""
    return D.Independent(D.Bernoulli(logits=logits), logits.dim() - 1)


def standard_normal(*event, like=None):
    """N(0, I) over ``event``, on the device and in the dtype of ``like`` (a tensor) when one is given."""
    zeros = torch.zeros(*event) if like is None else like.new_zeros(*event)
    return D.Independent(D.Normal(zeros, torch.ones_like(zeros)), len(event))


class GaussianMixture(D.MixtureSameFamily):
    r"""Mixture :math:`\sum_k \pi_k N(x; \mu_k, \Sigma_k)` with full or diagonal covariances.

    ``weights``: ``(K,)``; ``means``: ``(K, D)``; ``covariances``: ``(K, D, D)``, or variances ``(K, D)`` if diagonal.
    Taught in chapter 01.
    """

    def __init__(self, weights, means, covariances):
        if covariances.dim() == 2:
            components = D.Independent(D.Normal(means, covariances.sqrt()), 1)
        else:
            components = D.MultivariateNormal(means, covariance_matrix=covariances)
        # PyTorch's own argument checks ask for a full covariance of a mixture, which is never formed here.
        super().__init__(D.Categorical(logits=weights.log()), components, validate_args=False)

    def joint_log_prob(self, x):
        r"""log p(x, k) for every component: ``(B, D) -> (B, K)``, in nats."""
        return self.component_distribution.log_prob(x.unsqueeze(1)) + self.mixture_distribution.logits

    def posterior(self, x):
        r"""p(k | x) by Bayes' rule: ``(B, D) -> (B, K)``, rows sum to 1."""
        return self.joint_log_prob(x).softmax(-1)

    def marginal(self, keep):
        """The mixture over the coordinates ``keep`` (a boolean mask ``(D,)`` or indices): drop rows and columns."""
        mixture, components = self.mixture_distribution, self.component_distribution
        if isinstance(components, D.MultivariateNormal):
            covariances = components.covariance_matrix[:, keep][:, :, keep]
        else:
            covariances = components.variance[:, keep]
        return GaussianMixture(mixture.probs, components.mean[:, keep], covariances)

    def conditional_mean(self, x, missing):
        r"""``x (B, D)`` with the missing coordinates, bool ``(D,)``, replaced by E[x_m | x_o]. For full covariances.

        Each component fills in its own conditional mean; p(k | x_o) weighs them. (Bishop 2006, eq. 2.81.) Chapter 01.
        """
        if not isinstance(self.component_distribution, D.MultivariateNormal):
            raise ValueError("conditional_mean needs full covariances (K, D, D); a diagonal one links no pixels")
        if missing.all():
            raise ValueError("nothing is observed: conditional_mean needs at least one False in missing")
        seen = ~missing
        weights = self.marginal(seen).posterior(x[:, seen])  # (B, K)
        means, covariances = self.component_distribution.mean, self.component_distribution.covariance_matrix
        root = torch.linalg.cholesky(covariances[:, seen][:, :, seen])
        gains = torch.cholesky_solve(covariances[:, seen][:, :, missing], root)  # (K, O, M)
        surprise = x[:, seen].unsqueeze(0) - means[:, seen].unsqueeze(1)  # (K, B, O)
        versions = means[:, missing].unsqueeze(1) + surprise @ gains  # (K, B, M)
        filled = x.clone()
        filled[:, missing] = torch.einsum("bk,kbm->bm", weights, versions)
        return filled


def entropy_of(probabilities):
    r"""Shannon entropy :math:`-\sum_k p_k \log p_k` of rows ``(..., K)``, in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities).sum(-1)


class BernoulliHead(nn.Module):
    """p(pixels in {0, 1} | z): the network's output are logits.  Taught in chapter 04.

    A grey image is no outcome of this distribution: its ``log_prob`` raises a ValueError, so binarise first.
    """

    numbers_per_value = 1

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, z):
        return bernoulli(self.network(z))


class GaussianHead(nn.Module):
    r"""N(mu, sigma^2) with both learned: the network gives ``mu, log_var`` stacked along dimension 1.

    ``(B, n_in) -> (B, 2L)`` makes an encoder over ``(B, L)``, ``-> (B, 2C, H, W)`` a decoder over images.
    ``min_scale`` is a soft floor, :math:`\sigma^2 = e^{\text{log var}} + \text{min scale}^2`: without one the density
    of a pixel that never changes grows without limit. With 256 grey levels nothing finer than 1/256 exists.
    The log-variance ends at ``max_log_var``: on inputs unlike its data a network extrapolates, and a draw of scale e^50
    would make the decoder overflow. Gradients pass the end as if it were not there, so training can lead back.
    Taught in chapter 04.
    """

    numbers_per_value = 2
    max_log_var = 10.0

    def __init__(self, network, min_scale=0.0):
        super().__init__()
        self.network, self.min_scale = network, min_scale

    def forward(self, x):
        numbers = self.network(x)
        if numbers.shape[1] % 2:
            raise ValueError(f"expected as many log-variances as means along dimension 1, got {tuple(numbers.shape)}")
        mu, log_var = numbers.chunk(2, dim=1)
        log_var = log_var - (log_var - self.max_log_var).clamp(min=0).detach()
        if self.min_scale > 0:
            log_var = torch.logaddexp(log_var, log_var.new_tensor(2 * math.log(self.min_scale)))
        return gaussian(mu, log_var)


class FixedGaussianHead(nn.Module):
    r"""N(mu, sigma^2) with one fixed ``scale`` sigma for every pixel; the network gives ``mu``.

    Its log-density is :math:`-\|x - \mu\|^2 / 2\sigma^2` plus a constant: the squared error, *summed*.
    Taught in chapter 04.
    """

    numbers_per_value = 1

    def __init__(self, network, scale):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale is a standard deviation above 0, got {scale}")
        self.network, self.scale = network, scale

    def forward(self, z):
        mu = self.network(z)
        return gaussian(mu, torch.full_like(mu, 2 * math.log(self.scale)))


def shape_for(head, shape):
    """Shape of what a network must put out so that ``head`` (or a ``partial`` of one) is about images of ``shape``."""
    head = getattr(head, "func", head)
    return head.numbers_per_value * shape[0], *shape[1:]


class StandardNormal(nn.Module):
    """The prior N(0, I) over ``(latent_dim,)``. Called without arguments, it returns the distribution."""

    def __init__(self, latent_dim):
        super().__init__()
        self.register_buffer("origin", torch.zeros(latent_dim))

    def forward(self):
        return standard_normal(*self.origin.shape, like=self.origin)


class MixturePrior(nn.Module):
    """A learned mixture of ``n_components`` diagonal Gaussians over ``(latent_dim,)``: it can follow the codes."""

    def __init__(self, latent_dim, n_components):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(torch.randn(n_components, latent_dim))
        self.log_vars = nn.Parameter(torch.zeros(n_components, latent_dim))

    def forward(self):
        return GaussianMixture(self.logits.softmax(-1), self.means, self.log_vars.exp())
