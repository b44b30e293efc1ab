"""Fully connected networks."""

from itertools import pairwise

from torch import nn


class MLP(nn.Sequential):
    """Linear layers with an activation between them: ``(B, sizes[0]) -> (B, sizes[-1])``.

    ``sizes`` lists the widths from input to output, so ``MLP([784, 400, 10])`` has one hidden layer. The last layer
    stays linear: what its output means (logits, a mean, a code) is for the model to decide.
    """

    def __init__(self, sizes, activation=nn.ReLU):
        if len(sizes) < 2:
            raise ValueError(f"an MLP needs at least an input and an output width, got sizes={list(sizes)}")
        layers = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), activation()]
        super().__init__(*layers[:-1])
