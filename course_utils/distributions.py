r"""Distributions the models share, and numbers that compare two of them.

Everything that is a probability is a :class:`torch.distributions.Distribution`, so that ``log_prob`` and ``sample`` come
from one tested place and nobody writes a Gaussian constant twice.
"""

import math

import torch
from torch import distributions as D


def kl_divergence(p, q):
    r"""Kullback–Leibler divergence :math:`\sum_k p_k \log(p_k / q_k)` between rows of probabilities, in nats.

    ``p, q``: ``(..., K)``, each row non-negative with sum 1. Returns ``(...,)``. An outcome with :math:`p_k = 0` costs
    nothing; one with :math:`p_k > 0 = q_k` costs infinity. (Kullback & Leibler 1951.) Taught in chapter 01.
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

    ``weights``: ``(K,)``; ``means``: ``(K, D)``; ``covariances``: ``(K, D, D)``, or variances ``(K, D)`` for a diagonal.
    ``components`` and ``weights`` stay readable because Bayes' rule needs them: :meth:`posterior`. Taught in chapter 01.
    """

    def __init__(self, weights, means, covariances):
        if covariances.dim() == 2:
            components = D.Independent(D.Normal(means, covariances.sqrt()), 1)
        else:
            components = D.MultivariateNormal(means, covariance_matrix=covariances)
        # PyTorch's own argument checks ask for a full covariance of a mixture, which is never formed here.
        super().__init__(D.Categorical(probs=weights), components, validate_args=False)

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


def entropy_of(probabilities):
    r"""Shannon entropy :math:`-\sum_k p_k \log p_k` of rows ``(..., K)``, in nats; 0 log 0 is 0."""
    return torch.special.entr(probabilities).sum(-1)


LOG_2 = math.log(2.0)
