r"""TarFlow: causal attention over patches as a masked flow.

    an image is cut into patches, read as tokens
    z_t = (x_t - mu_t(x_<t)) * exp(-s_t(x_<t))           # mu and s from a causal transformer, shifted by one
    reverse the order, and again                         # a few times

The blocks of attention are passed in (chapter 02's are made for it). Source: Zhai et al. 2024, "Normalizing flows are
capable generative models", arXiv:2412.06329.  Taught in chapter 06.
"""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import StandardNormal
from course_utils.models.flow.autoregressive import MaskedAffine, Reversed
from course_utils.models.flow.flow import Flow
from course_utils.nn.mlp import start_at_zero


class Patches(nn.Module):
    """``(B, C, H, W) -> (B, T, P)``: patches of ``size`` × ``size`` pixels as tokens. log_det 0."""

    def __init__(self, shape, size):
        super().__init__()
        _, height, width = expect.shape(shape)
        if height % expect.count(size, "size") or width % size:
            raise ValueError(f"expected patches that tile an image of {height} × {width}, got {size} × {size}")
        self.size, self.grid = size, (shape[1] // size, shape[2] // size)

    def forward(self, x, y=None):
        return F.pixel_unshuffle(x, self.size).flatten(2).transpose(1, 2), x.new_zeros(len(x))

    def inverse(self, z, y=None):
        return F.pixel_shuffle(z.transpose(1, 2).unflatten(2, self.grid), self.size)


class TokenNetwork(nn.Module):
    """Tokens ``(B, T, P)`` to 2P numbers a token; what stands at t comes from tokens before t (and the class ``y``).

    ``blocks``: causal modules ``(B, T, width) -> (B, T, width)``, in which t sees t and what is before. The answer is
    moved on by one token, so that t is told by t − 1; the first token is told by the class alone, or by nothing. The
    last layer starts at zero: the flow starts as the identity.
    """

    def __init__(self, n_tokens, patch, width, blocks, n_classes=0):
        super().__init__()
        self.read = nn.Linear(patch, width)
        self.place = nn.Parameter(0.1 * torch.randn(n_tokens, width))
        self.start = nn.Parameter(0.1 * torch.randn(max(n_classes, 1), width))
        self.n_classes = n_classes
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(width)
        self.out = start_at_zero(nn.Linear(width, 2 * patch))

    def forward(self, x, y=None):
        if (y is None) != (self.n_classes == 0):
            want = "labels y, (B,) integers" if self.n_classes else "no y: this flow is not class-conditional"
            raise ValueError(f"expected {want}; got {'none' if y is None else 'labels'}")
        start = self.start.expand(len(x), -1) if y is None else self.start[y]
        before = torch.cat([start[:, None], self.read(x[:, :-1]) + start[:, None]], 1)         # shifted by one
        return self.out(self.norm(self.blocks(before + self.place)))


def tarflow(shape, block, *, patch=2, n_flows=4, width=64, n_blocks=2, n_classes=0, limit=3.0, first=()):
    """TarFlow for images of ``shape``: ``n_flows`` masked layers that read the patches in turn from both ends.

    ``block(width)`` makes one causal block of attention. ``first``: layers before the patches.
    """
    expect.counts((patch, n_flows, width, n_blocks), "(patch, n_flows, width, n_blocks)")
    expect.count(n_classes, "n_classes", 0)
    expect.function(block, "block")
    expect.shape(shape)
    n_tokens, n_values = (shape[1] // patch) * (shape[2] // patch), shape[0] * patch**2
    layers = [*first, Patches(shape, patch)]
    for _ in range(n_flows):
        blocks = [block(width) for _ in range(n_blocks)]
        network = TokenNetwork(n_tokens, n_values, width, blocks, n_classes)
        layers += [MaskedAffine(network, limit), Reversed()]
    return Flow(StandardNormal((n_tokens, n_values)), layers[:-1], shape, n_classes)
