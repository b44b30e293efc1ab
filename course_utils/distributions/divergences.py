"""Numbers that compare two distributions over finitely many outcomes, in nats."""

import torch

from course_utils import expect


def kl_divergence(p, q):
    r"""Kullback–Leibler divergence :math:`\sum_k p_k \log(p_k / q_k)` between rows of
    probabilities, in nats.

    ``p, q``: ``(..., K)``, each row non-negative with sum 1. Returns ``(...,)``. An outcome
    with :math:`p_k = 0` costs nothing; one with :math:`p_k > 0 = q_k` costs infinity. Not
    differentiable at zeros. (Kullback & Leibler 1951.) Taught in chapter 01.
    """
    expect.outcomes(p=p, q=q)
    cost = p * (p.log() - q.log())
    return torch.where(p > 0, cost, torch.zeros_like(cost)).sum(-1)


def jensen_shannon(p, q):
    r"""Jensen–Shannon divergence: the mean KL of both to their mixture :math:`m = (p+q)/2`, in nats, at most log 2.

    ``p, q``: ``(..., K)``. Returns ``(...,)``. Zeros are allowed in either. (Lin 1991, eq. 3.2.) Taught in chapter 01.
    """
    expect.outcomes(p=p, q=q)
    m = (p + q) / 2
    return (kl_divergence(p, m) + kl_divergence(q, m)) / 2


def entropy_of(probabilities):
    r"""Shannon entropy :math:`-\sum_k p_k \log p_k` of rows ``(..., K)``, in nats; 0 log 0 is 0."""
    return torch.special.entr(expect.probabilities(probabilities, "probabilities", ..., "K")).sum(-1)
