"""Fully connected networks."""

from itertools import pairwise

import torch
from torch import nn

from course_utils import expect


class Linear(nn.Linear):
    """``nn.Linear``, ``(..., n_in) -> (..., n_out)``, with a ValueError for any other width or kind of number."""

    def __call__(self, x):                               # the forward stays torch's own: a browser can run it
        return super().__call__(expect.floats(x, "x", ..., self.in_features, like=self.weight))


class MLP(nn.Sequential):
    """Linear layers with an activation between them: ``(B, sizes[0]) -> (B, sizes[-1])``.

    ``sizes`` lists the widths from input to output, so ``MLP([784, 400, 10])`` has one hidden layer. The last layer
    stays linear: what its output means (logits, a mean, a code) is for the model to decide.
    """

    def __init__(self, sizes, activation=nn.ReLU):
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs at least an input and an output width, got sizes={list(sizes)}")
        layers = []
        for n_in, n_out in pairwise(expect.shape(sizes, "sizes", n_dims=len(sizes))):
            layers += [Linear(n_in, n_out), activation()]
        super().__init__(*layers[:-1])


class FlattenImages(nn.Flatten):
    """``(B, *shape) -> (B, D)``, and a ValueError for anything else with as many pixels."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = expect.shape(shape, n_dims=len(shape))

    def __call__(self, x):
        return super().__call__(expect.floats(x, "x", "B", *self.shape))


class FourierFeatures(nn.Module):
    r"""Cosines and sines of random projections: ``(B, n_in) -> (B, 2 n_frequencies)``.

    .. math:: \gamma(x) = \bigl[\cos(2\pi B x),\, \sin(2\pi B x)\bigr],\qquad B_{ij}\sim N(0, \text{scale}^2)

    A plain network is slow to learn functions that change over short distances; on these features it is not. The
    projection is fixed. (Tancik et al. 2020, eq. 5, arXiv:2006.10739.) Taught in chapters 01 and 08.
    """

    def __init__(self, n_in, n_frequencies=32, scale=1.0):
        super().__init__()
        expect.number(scale, "scale", above=0)
        expect.shape((n_in, n_frequencies), "(n_in, n_frequencies)", 2)
        self.register_buffer("projection", 2 * torch.pi * scale * torch.randn(n_in, n_frequencies))

    def forward(self, x):
        expect.floats(x, "x", ..., len(self.projection), like=self.projection)
        angles = x @ self.projection
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


@torch.no_grad()
def start_at_zero(network):
    """Zero weights and bias in the last layer of ``network``, so that it begins by answering 0. Returns the network.

    A flow whose networks answer 0 begins as the identity, a safe place to start from.
    """
    last = [module for module in network.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
    last.weight.zero_()
    last.bias.zero_()
    return network
