"""From the numbers that a network puts out to a distribution over images or codes."""

import math

import torch
from torch import nn

from course_utils import expect
from course_utils.distributions.basic import bernoulli, gaussian
from course_utils.distributions.levels import LevelImages


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
        self.network, self.min_scale = network, expect.number(min_scale, "min_scale", low=0)

    def forward(self, x):
        numbers = expect.floats(self.network(x), "what the network puts out")
        if numbers.dim() < 2 or numbers.shape[1] % 2:
            raise ValueError(f"expected as many log-variances as means along dimension 1, got {tuple(numbers.shape)}")
        mu, log_var = numbers.chunk(2, dim=1)
        log_var = log_var.clamp(max=self.max_log_var).detach() + (log_var - log_var.detach())
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
        self.network, self.scale = network, expect.number(scale, "the standard deviation scale", above=0)

    def forward(self, z):
        mu = self.network(z)
        return gaussian(mu, torch.full_like(mu, 2 * math.log(self.scale)))


class LevelHead(nn.Module):
    """Independent grey levels: ``head`` (a :class:`.levels.Head`) turns the network's numbers into probabilities.

    The network gives ``(B, C·P, H, W)``, P = ``head.n_params``. Images are in [0, 1], on the levels.
    Taught in chapter 06, where a VAE scores the same 17 grey levels as its rivals.
    """

    def __init__(self, network, head):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, z):
        numbers = self.network(z)
        numbers = numbers.unflatten(1, (-1, self.head.n_params)).movedim(2, -1)       # (B, C, H, W, P)
        return LevelImages(self.head(numbers), self.head.levels)


def shape_for(head, shape):
    """Shape of what a network must put out so that ``head`` (or a ``partial`` of one) is about images of ``shape``."""
    shape = expect.shape(shape)
    head = getattr(head, "func", head)
    if not hasattr(head, "numbers_per_value"):
        raise ValueError(f"expected a head, such as BernoulliHead or a partial of one, got {expect.came(head)}")
    return head.numbers_per_value * shape[0], *shape[1:]
