r"""What is known about GANs in closed form: optimal critics, Bayes risks, and a game that can be solved by hand.

Densities are given on a grid as probabilities: ``p, q``: ``(G,)``, density times the width of a cell, sums 1.
Taught in chapter 05.
"""

import math

import torch

from course_utils import expect

# What the best critic pays ------------------------------------------------------------------------------------------


def optimal_critic(p, q):
    r"""The best critic of the logistic losses, :math:`D^* = p/(p+q)`: the probability that x is real. Shapes ``(G,)``.

    Where both vanish it may be anything; 1/2 is returned. (Goodfellow et al. 2014, proposition 1, arXiv:1406.2661.)
    Taught in chapter 05.
    """
    expect.outcomes(p=p, q=q)
    total = p + q
    return torch.where(total > 0, p / total.clamp_min(torch.finfo(total.dtype).tiny), 0.5)


def expected(terms, p, q):
    r"""Mean of what a loss says of all pairs, x from ``p`` and x' from ``q``: ``(G, G), (G,), (G,) -> ()``.

    ``expected(loss(a[:, None], a[None, :]).critic, p, q)`` is the critic's loss without any sampling.
    Taught in chapter 05.
    """
    expect.probabilities(p, "p", "G")
    expect.probabilities(q, "q", "G")
    return p @ expect.floats(terms, "terms", len(p), len(q)) @ q


def squared_hellinger(p, q):
    r""":math:`H^2 = 1 - \int\sqrt{pq}`, in [0, 1]; rows ``(..., G)``. Taught in chapter 05."""
    expect.outcomes(p=p, q=q)
    return 1 - (p * q).sqrt().sum(-1)


def total_variation(p, q):
    r""":math:`\mathrm{TV} = \tfrac12\int|p-q|`, in [0, 1]; rows ``(..., G)``. Taught in chapter 05."""
    expect.outcomes(p=p, q=q)
    return (p - q).abs().sum(-1) / 2


def triangular(p, q):
    r""":math:`\int (p-q)^2/(p+q)`, in [0, 2]; rows ``(..., G)``; a point where both vanish counts 0.

    The symmetric chi-square of LSGAN. (Vajda 2009; Topsoe 2000.) Taught in chapter 05.
    """
    expect.outcomes(p=p, q=q)
    total = (p + q).clamp_min(torch.finfo(p.dtype).tiny)
    return ((p - q).square() / total).sum(-1)


# Distances that see how far apart -----------------------------------------------------------------------------------


def wasserstein_1d(x, y):
    r""":math:`W_1` of two samples of equal size on the line, ``(N,), (N,) -> ()``: the best pairing is by rank.

    .. math:: W_1 = \tfrac1N\sum_i |x_{(i)} - y_{(i)}|

    Taught in chapter 05.
    """
    expect.no_nan(expect.floats(x, "x", "N"), "x")
    expect.no_nan(expect.floats(y, "y", len(x)), "y")
    return (x.sort().values - y.sort().values).abs().mean()


# Dirac-GAN: the data are one point, 0; the generator puts one point, theta; the critic is D(x) = psi x -------------


def dirac_field(theta, psi, slope, gamma=0.0, gamma_fake=0.0):
    r"""Which way the two parameters move, each descending what its player pays: ``(theta', psi')``.

    .. math:: \dot\theta = \psi\,\ell'(\theta\psi), \qquad
        \dot\psi = -\theta\,\ell'(\theta\psi) - (\gamma + \gamma_\text{fake})\,\psi

    ``slope`` is :math:`\ell'`, the derivative of what the critic pays for a fake logit; sigma for the logistic loss.
    ``gamma, gamma_fake``: weights of R1 and R2. (Mescheder et al. 2018, section 2, arXiv:1801.04406, where the signs
    of theta and psi are swapped.) Taught in chapter 05.
    """
    expect.stretched(theta=expect.between(theta, "theta"), psi=expect.between(psi, "psi"))
    for name, weight in (("gamma", gamma), ("gamma_fake", gamma_fake)):
        expect.number(weight, name, low=0)
    pull = expect.function(slope, "slope")(theta * psi)
    return psi * pull, -theta * pull - (gamma + gamma_fake) * psi


def dirac_eigenvalues(slope_at_zero, gamma=0.0):
    r"""Eigenvalues of the field at the equilibrium, two complex numbers:
    :math:`-\tfrac\gamma2 \pm\sqrt{\gamma^2/4 - \ell'(0)^2}`.

    ``gamma``: the sum of the weights of R1 and R2. (Mescheder et al. 2018, lemma 2.3 and 4.1, arXiv:1801.04406.)
    Taught in chapter 05.
    """
    expect.number(slope_at_zero, "slope_at_zero")
    expect.number(gamma, "gamma", low=0)
    root = torch.tensor(gamma**2 / 4 - slope_at_zero**2, dtype=torch.complex128).sqrt()
    return torch.stack([-gamma / 2 + root, -gamma / 2 - root])


def dirac_path(theta, psi, step, slope, n_steps, *, alternating=False, **penalty):
    r"""``(n_steps + 1, 2)``: theta and psi under steps of size ``step``, both at once or the critic first.

    An alternating generator answers the critic that has just moved. Taught in chapter 05.
    """
    path = [(theta, psi)]
    expect.number(step, "step", above=0)
    for _ in range(expect.count(n_steps, "n_steps")):
        move_theta, move_psi = dirac_field(theta, psi, slope, **penalty)
        psi = psi + step * move_psi
        if alternating:
            move_theta, _ = dirac_field(theta, psi, slope, **penalty)
        theta = theta + step * move_theta
        path.append((theta, psi))
    return torch.tensor(path, dtype=torch.float64)


def sigma(t):
    """The logistic function of a Python number or a tensor: the slope of the logistic loss."""
    expect.between(t, "t")
    return torch.sigmoid(t) if isinstance(t, torch.Tensor) else 1 / (1 + math.exp(-t))
