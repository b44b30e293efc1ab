"""What tells a network the time and the label: features of t, an embedding of y, and layers that listen to both."""

import math

import torch
from torch import nn

from course_utils import expect


def time_features(t, n_features, highest=1_000.0):
    r"""Cosines and sines of t in [0, 1] at ``n_features / 2`` frequencies from 1 to ``highest``, equal steps of their
    logarithm: ``(B,) -> (B, n_features)``.

    .. math:: \bigl[\cos(\omega_k t),\, \sin(\omega_k t)\bigr],\qquad \omega_k = \text{highest}^{k/(n/2-1)}

    Slow ones tell early from late, fast ones tell neighbours apart. (Vaswani et al. 2017, section 3.5,
    arXiv:1706.03762, for positions.) Taught in chapter 07.
    """
    if n_features < 4 or n_features % 2:
        raise ValueError(f"expected an even number of features, at least 4, got {n_features}")
    if t.dim() != 1:
        raise ValueError(f"expected one time for each example, (B,), got {tuple(t.shape)}")
    steps = torch.linspace(0, 1, n_features // 2, device=t.device, dtype=t.dtype)
    angles = t[:, None] * (math.log(highest) * steps).exp()                      # (B, n/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Condition(nn.Module):
    """Time and, with ``n_classes``, label as one vector: ``t (B,), y (B,) or None -> (B, width)``.

    The label ``n_classes`` means "none given", and so does ``y=None``: guidance asks the same network both ways.
    """

    def __init__(self, width, n_classes=0, n_features=32):
        super().__init__()
        expect.count(width, "width")
        self.n_classes, self.n_features = expect.count(n_classes, "n_classes", 0), n_features
        self.time = nn.Sequential(nn.Linear(n_features, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(n_classes + 1, width) if n_classes else None

    def forward(self, t, y=None):
        told = self.time(time_features(t, self.n_features))
        if self.label is None:
            if y is not None:
                raise ValueError("expected no labels, since this network was made without n_classes; got some")
            return told
        if y is not None:                                            # n_classes itself stands for "none given"
            y = expect.labels(y, len(t), self.n_classes + 1)
        return told + self.label(torch.full_like(t, self.n_classes, dtype=torch.long) if y is None else y)


class AdaptiveBlock(nn.Module):
    r"""``h + gate · f((1 + scale) · norm(h) + shift)``: the condition sets scale, shift and gate, ``(B, width)``.

    (Peebles & Xie 2023, section 3.2, arXiv:2212.09748, where f is attention or an MLP.)
    """

    def __init__(self, width, condition_width):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.listen = nn.Sequential(nn.SiLU(), nn.Linear(condition_width, 3 * width))
        self.f = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.listen[1].weight)                                    # the block starts as the identity
        nn.init.zeros_(self.listen[1].bias)

    def forward(self, h, condition):
        scale, shift, gate = self.listen(condition).chunk(3, dim=1)
        return h + gate * self.f((1 + scale) * self.norm(h) + shift)


class AdaptiveMLP(nn.Module):
    """A residual network for vectors that knows time and label: ``x (B, D), t (B,), y -> (B, D)``.

    The output starts at zero. Made for codes of an autoencoder and points of the plane.
    """

    def __init__(self, n_features, width=384, n_blocks=3, n_classes=0):
        super().__init__()
        expect.counts((n_features, width, n_blocks), "(n_features, width, n_blocks)")
        self.condition = Condition(width, n_classes)
        self.enter = nn.Linear(n_features, width)
        self.blocks = nn.ModuleList(AdaptiveBlock(width, width) for _ in range(n_blocks))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_features))
        nn.init.zeros_(self.leave[1].weight)
        nn.init.zeros_(self.leave[1].bias)

    def forward(self, x, t, y=None):
        condition, h = self.condition(t, y), self.enter(x)
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(h)
