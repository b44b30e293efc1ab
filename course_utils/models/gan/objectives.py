r"""What the two players of a GAN pay: one function a loss, and the penalties apart.

A loss maps the critic's outputs on real and fake data, its *logits* a = D(x) and b = D(G(z)), to what each player pays
for each pair::

    minimax(real, fake)                      # Terms(critic, generator), each as large as real and fake broadcast
    minimax(real, fake).critic.mean()        # what the critic descends
    minimax(real, fake).generator.mean()     # what the generator descends

Smaller is better for the player who pays. The probability "real" is sigma(logit), wherever a loss speaks of one. On a
grid of points with weights, ``loss(a[:, None], a[None, :])`` holds all pairs: see :func:`.theory.expected`.
Taught in chapter 05.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import logsigmoid, relu, softplus

from course_utils import expect


class Terms(NamedTuple):
    """What the critic and the generator pay for each pair of a real and a fake."""

    critic: torch.Tensor
    generator: torch.Tensor


# Losses -----------------------------------------------------------------------------------------------------------


def minimax(real, fake):
    r"""The game as it was defined: the critic maximises, the generator minimises one and the
    same value.

    .. math:: V = \log\sigma(a) + \log(1-\sigma(b))

    Zero-sum: the terms add up to 0. (Goodfellow et al. 2014, eq. 1, arXiv:1406.2661.)
    Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    value = logsigmoid(real) + logsigmoid(-fake)          # 1 - sigma(b) = sigma(-b)
    return Terms(-value, value)


def non_saturating(real, fake):
    r"""The critic of :func:`minimax`; the generator descends :math:`-\log\sigma(b)`: no longer
    zero-sum.

    Its gradient is large where the critic is sure of a fake. (Goodfellow et al. 2014, section
    3, arXiv:1406.2661.) Taught in chapter 05.
    """
    return Terms(minimax(real, fake).critic, softplus(-fake) + 0 * real)


def least_squares(real, fake, a=0.0, b=1.0, c=1.0):
    r"""Squared distance of the logits from labels: ``a`` for fakes, ``b`` for reals, ``c`` what the generator wants.

    .. math:: \tfrac12(D(x)-b)^2 + \tfrac12(D(G(z))-a)^2, \qquad \tfrac12(D(G(z))-c)^2

    b - c = 1 and b - a = 2 give Pearson's chi-square; a = 0, b = c = 1 is what most code uses.
    (Mao et al. 2017, eq. 2 and 8, arXiv:1611.04076.) Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    for name, label in (("a", a), ("b", b), ("c", c)):
        expect.number(label, name)
    return Terms((real - b).square() / 2 + (fake - a).square() / 2, (fake - c).square() / 2 + 0 * real)


def wasserstein(real, fake):
    r"""The critic maximises :math:`D(x) - D(G(z))`, the generator :math:`D(G(z))`; D must be Lipschitz, see below.

    (Arjovsky, Chintala & Bottou 2017, eq. 3, arXiv:1701.07875.) Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    return Terms(fake - real, -fake + 0 * real)


def hinge(real, fake):
    r"""The critic pays :math:`\max(0, 1-D(x)) + \max(0, 1+D(G(z)))`, the generator :math:`-D(G(z))`.

    (Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, eq. 16 and 17, arXiv:1802.05957.) Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    return Terms(relu(1 - real) + relu(1 + fake), -fake + 0 * real)


def exponential(real, fake):
    r"""The critic pays :math:`e^{-a} + e^{b}`, the loss of boosting; the generator the opposite of its own part.

    Its smallest value is 2 (1 - H^2), with H the Hellinger distance. (Nguyen, Wainwright & Jordan 2009,
    arXiv:math/0510521.) Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    return Terms((-real).exp() + fake.exp(), -fake.exp() + 0 * real)


def relativistic(real, fake):
    r"""Pairs: the critic maximises :math:`\log\sigma(D(x) - D(G(z)))`, the generator the same
    with the roles swapped.

    The value of the game is at most 0, and the loss minus it. (Jolicoeur-Martineau 2018,
    arXiv:1807.00734; Huang et al. 2024, "R3GAN", arXiv:2501.05441, where f(t) = -log(1 +
    e^{-t}) is maximised.) Taught in chapter 05.
    """
    expect.stretched(real=real, fake=fake)
    return Terms(softplus(fake - real), softplus(real - fake))


# Penalties: one number a sample, to be added to what the critic pays -----------------------------------------------


def gradient_norms(critic, x):
    r""":math:`\|\nabla_x D(x)\|` of every sample: ``(B, ...) -> (B,)``, itself differentiable in the critic's weights.

    The norm runs over *all* axes of one sample. A critic whose output for one sample depends on the others, as with
    batch normalisation, has no such gradient. Taught in chapter 05.
    """
    return _slope(critic, x).norm(dim=1)                  # of samples flattened to rows


def _slope(critic, x):
    """The gradient of the critic at every sample, ``(B, D)``."""
    x = expect.floats(x, "x", "B", "D", ...).detach().requires_grad_()
    with torch.enable_grad():
        logits = expect.floats(expect.function(critic, "critic")(x), "the critic's logits", len(x))
        (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.flatten(1)


def zero_centred(critic, x, gamma):
    r""":math:`\tfrac\gamma2\|\nabla_x D(x)\|^2`, ``(B,)``: R1 when ``x`` are real data, R2 when they are fakes.

    (Mescheder, Geiger & Nowozin 2018, eq. 9 and 10, arXiv:1801.04406.) Taught in chapter 05.
    """
    expect.number(gamma, "gamma", low=0)
    return gamma / 2 * _slope(critic, x).square().sum(1)  # the square itself: a norm has no derivative at 0


def one_centred(critic, real, fake, weight=10.0):
    r""":math:`\lambda\,(\|\nabla_{\hat x} D(\hat x)\| - 1)^2`, ``(B,)``, at random points between real and fake.

    (Gulrajani et al. 2017, eq. 3, arXiv:1704.00028: WGAN-GP.) Taught in chapter 05.
    """
    expect.same_shape(real=expect.floats(real, "real", "B", "D", ...), fake=fake)
    expect.number(weight, "weight", low=0)
    share = torch.rand(len(real), *[1] * (real.dim() - 1), dtype=real.dtype, device=real.device)
    between = share * real.detach() + (1 - share) * fake.detach()
    return weight * (gradient_norms(critic, between) - 1).square()


@torch.no_grad()
def clip_weights_(critic, bound):
    """Put every weight back into [-bound, bound], in place, after an update of the critic.

    It keeps D Lipschitz with *some* constant. (Arjovsky et al. 2017, algorithm 1, arXiv:1701.07875.) Chapter 05.
    """
    expect.number(bound, "bound", above=0)
    for weight in critic.parameters():
        weight.clamp_(-bound, bound)
