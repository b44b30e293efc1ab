r"""Layers whose weights are cut so that output i cannot see input j: the whole trick of chapter 02.

Pixels are read like text: row by row, and inside a row from left to right. A *causal* layer lets an output see only
inputs that come earlier in that order (kind ``"A"``), or earlier ones and the one in its own place (kind ``"B"``). The
first layer of a network must be A, since a pixel must not see itself; the ones after it may be B, since what stands in
their own place no longer knows the pixel itself.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect


def causal_mask(size, kind, n_in=1, n_out=1, colours=1):
    """Ones where a ``size x size`` kernel may look, without rows below its centre: ``(n_out, n_in, size//2+1, size)``.

    Everything above the centre row and left of the centre is seen. At the centre, an image with several ``colours`` is
    read red, green, blue: channels are split into that many equal groups, and an output group sees the input groups
    before it (A), or up to its own (B).

    Source: van den Oord, Kalchbrenner, Kavukcuoglu 2016, section 3.4, arXiv:1601.06759.  Taught in chapter 02.
    """
    if size % 2 == 0 or kind not in ("A", "B"):
        raise ValueError(f'expected an odd size and kind "A" or "B", got size={size} and kind={kind!r}')
    if n_in % colours or n_out % colours:
        raise ValueError(f"channels must split into {colours} colours: got {n_in} in and {n_out} out")
    radius = size // 2
    mask = torch.zeros(n_out, n_in, radius + 1, size)
    mask[:, :, :radius] = 1                                          # rows above
    mask[:, :, radius, :radius] = 1                                  # same row, to the left
    colour_in = torch.arange(n_in) * colours // n_in
    colour_out = torch.arange(n_out)[:, None] * colours // n_out
    mask[:, :, radius, radius] = (colour_in < colour_out if kind == "A" else colour_in <= colour_out).float()
    return mask


class MaskedConv2d(nn.Module):
    """A causal convolution, ``(B, n_in, H, W) -> (B, n_out, H, W)``: a kernel without its lower half, times a mask.

    The rows of the kernel below the centre would all be zero, so they are not there. That saves 3 of 9
    multiplications for a 3x3 kernel and 21 of 49 for a 7x7 one. ``weight`` has shape ``(n_out, n_in, size//2 + 1,
    size)``. Its first values have the scale of He et al. (2015, arXiv:1502.01852), counting only the inputs that an
    output can see.  Taught in chapter 02.
    """

    def __init__(self, n_in, n_out, size, kind, colours=1):
        super().__init__()
        self.set_weights(causal_mask(size, kind, n_in, n_out, colours))

    def set_weights(self, mask):
        fan_in = mask.sum((1, 2, 3)).clamp(min=1).view(-1, 1, 1, 1)
        self.register_buffer("mask", mask, persistent=False)
        self.weight = nn.Parameter(torch.randn_like(mask) * (2 / fan_in).sqrt() * mask)
        self.bias = nn.Parameter(torch.zeros(len(mask)))

    def forward(self, x):
        radius = self.mask.shape[-1] // 2
        x = F.pad(x, (radius, radius, radius, 0)) if radius else x   # zeros, none below
        return F.conv2d(x, self.weight * self.mask, self.bias)

    def parts(self):
        """The kernel in two: ``(n_out, n_in, r, 2r+1)`` for the rows above, ``(n_out, n_in, r+1)`` for its own row."""
        weight, radius = self.weight * self.mask, self.mask.shape[-1] // 2
        return weight[:, :, :radius], weight[:, :, radius, : radius + 1]


class MaskedRowConv2d(MaskedConv2d):
    """The lowest row of :class:`MaskedConv2d` alone: an output sees the pixels to its left (A), or also its place (B).

    ``weight`` has shape ``(n_out, n_in, 1, size//2 + 1)``.  Taught in chapter 02.
    """

    def __init__(self, n_in, n_out, size, kind, colours=1):
        nn.Module.__init__(self)
        self.set_weights(causal_mask(size, kind, n_in, n_out, colours)[:, :, -1:, : size // 2 + 1])

    def forward(self, x):
        return F.conv2d(F.pad(x, (self.mask.shape[-1] - 1, 0)), self.weight * self.mask, self.bias)

    def parts(self):
        """No rows above, and ``(n_out, n_in, r+1)``."""
        weight = self.weight * self.mask
        return weight[:, :, :0], weight[:, :, 0]


class RowsAboveConv2d(nn.Conv2d):
    """A convolution over whole rows, ``(B, n_in, H, W) -> (B, n_out, H, W)``: the rows above (A), or also its own (B).

    It needs no mask: it looks upwards in a box ``size`` wide, to both sides alike. Kind A looks ``size//2`` rows up.
    Taught in chapter 02.
    """

    def __init__(self, n_in, n_out, size, kind):
        if size % 2 == 0 or (size, kind) == (1, "A") or kind not in ("A", "B"):
            raise ValueError(f'expected an odd size and kind "A" (size 3 or more) or "B", got {size} and {kind!r}')
        self.below = int(kind == "A")                                # rows by which the box ends above the pixel
        super().__init__(n_in, n_out, (size // 2 + 1 - self.below, size))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        nn.init.zeros_(self.bias)

    def forward(self, x):
        rows, size = self.kernel_size
        x = F.pad(x, (size // 2, size // 2, rows - 1 + self.below, -self.below))
        return super().forward(x)


class MaskedLinear(nn.Module):
    """A linear layer times a mask, ``(B, n_in) -> (B, n_out)``; ``mask`` is ``(n_out, n_in)``, 1 where an output sees.

    Taught in chapter 02.
    """

    def __init__(self, mask):
        super().__init__()
        self.register_buffer("mask", mask.float(), persistent=False)
        n_out, n_in = mask.shape
        self.weight = nn.Parameter(torch.empty(n_out, n_in).uniform_(-1, 1) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


class MaskedMLP(nn.Module):
    """A fully connected network with given masks, ``(B, D) -> (B, D, n_outputs)``: MADE's wiring for any purpose.

    ``masks``: those of ``made_masks`` (chapter 02): one for each hidden layer, then two that lead to the outputs, from
    the last hidden layer and directly from the inputs. With ``n_context`` the network is also told a vector
    ``(B, n_context)``, which every unit may see. It starts by answering 0.
    """

    def __init__(self, masks, n_outputs, n_context=0, activation=F.relu):
        super().__init__()
        *hidden, last, direct = masks
        self.n_outputs, self.activation = n_outputs, activation
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in hidden)
        self.out, self.direct = MaskedLinear(last), MaskedLinear(direct)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.direct.weight)
        if n_context:
            self.context = nn.ModuleList(nn.Linear(n_context, len(mask), bias=False) for mask in (*hidden, last))
            nn.init.zeros_(self.context[-1].weight)
        else:
            self.context = None

    def forward(self, x, context=None):
        expect.floats(x, "x", "B", self.direct.mask.shape[1], like=self)
        told = [0.0] * (len(self.layers) + 1) if self.context is None else [layer(context) for layer in self.context]
        h = x
        for layer, more in zip(self.layers, told, strict=False):
            h = self.activation(layer(h) + more)
        return (self.out(h) + self.direct(x) + told[-1]).unflatten(1, (-1, self.n_outputs))
