r"""Ancestral sampling: draw :math:`x_1\sim p(x_1)`, then :math:`x_2\sim p(x_2\mid x_1)`, and so on through all pixels.

The naive way runs the whole network once for each pixel and throws away all of its answer but one number. The cached
way remembers what every layer has computed for the pixels before, so that a new pixel costs one position and not N².

Source of the caching: Ramachandran et al. 2017, arXiv:1704.06001.  Taught in chapter 02.
"""

import torch
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import from_levels, inverse_cdf, tempered, to_levels


def raster_order(shape):
    """Reading order of an image (C, H, W): rows, then columns, then colours. (C·H·W,) positions in ``x.flatten(1)``."""
    channels, height, width = expect.shape(shape)
    return torch.arange(channels * height * width).view(channels, height * width).T.flatten()


@torch.no_grad()
def ancestral_sample(model, n, y=None, *, uniforms=None, start=None, known=None, temperature=1.0):
    """The naive sampler: one full forward pass for each unknown pixel. (n, C, H, W) in [0, 1].

    ``model`` has ``shape``, ``head`` and ``params(x, y)``; it may have ``order``, the positions as they are drawn.
    ``uniforms`` (n, C, H, W) are the random numbers; without them torch's own generator gives them.
    ``start`` (broadcast to n images) and ``known`` (C, H, W), true where ``start`` is to be kept, complete an image.
    Taught in chapter 02.
    """
    x, uniforms, known = _canvas(model, n, uniforms, start, known)
    flat, u, keep = x.flatten(1), uniforms.flatten(1), known.flatten()          # views: writing to flat writes to x
    order = getattr(model, "order", None)
    for position in (raster_order(model.shape) if order is None else order).tolist():
        if not keep[position]:
            params = model.params(x, y).flatten(1, 3)[:, position]              # (n, P): one pixel of the whole answer
            flat[:, position] = _draw(model.head, params, u[:, position], temperature)
    return x


@torch.no_grad()
def cached_sample(model, n, y=None, *, uniforms=None, start=None, known=None, temperature=1.0):
    """The same samples as :func:`ancestral_sample` from the same ``uniforms``, at a small part
    of the cost.

    ``model.start_cache(x, y)`` returns an object with ``row(i)``, called before row i, and
    ``pixel(j, c)``, which reads what is drawn so far from ``x`` and returns the parameters of
    colour c of pixel (i, j), (n, P).

    Taught in chapter 02.
    """
    x, uniforms, known = _canvas(model, n, uniforms, start, known)
    channels, height, width = model.shape
    keep = known.tolist()
    cache = model.start_cache(x, y)
    for i in range(height):
        cache.row(i)
        for j in range(width):
            for c in range(channels):          # a colour sees the colours before it: ask again
                params = cache.pixel(j, c)
                if not keep[c][i][j]:
                    u = uniforms[:, c, i, j]
                    x[:, c, i, j] = _draw(model.head, params, u, temperature)
    return x


def _canvas(model, n, uniforms, start, known):
    like = next(model.parameters())
    shape = (expect.count(n), *model.shape)
    if uniforms is None:
        uniforms = torch.rand(shape, device=like.device, dtype=like.dtype)
    expect.inside(expect.floats(uniforms, "uniforms, one for each pixel,", *shape), "uniforms", 0, 1)
    if (start is None) != (known is None):
        raise ValueError("to complete an image give both start (the image) and known (true where it is kept)")
    x = torch.zeros(shape, device=like.device, dtype=like.dtype)
    if known is None:
        return x, uniforms, torch.zeros(model.shape, dtype=torch.bool)
    try:
        known = expect.booleans(known, "known").expand(model.shape).cpu()
        start = expect.floats(start, "start").to(like).expand(shape)
    except RuntimeError as error:
        raise ValueError(f"expected start of shape {shape} and known of shape {model.shape}, or sizes of 1, "
                         f"got {tuple(start.shape)} and {tuple(known.shape)}") from error
    if known.any():
        x[:, known] = from_levels(to_levels(start[:, known], model.head.levels), model.head.levels)
    return x, uniforms, known


def _draw(head, params, uniforms, temperature):
    return inverse_cdf(tempered(head(params), temperature), uniforms) / (head.levels - 1)


class ConvCache:
    """The memory of one masked convolution (``course_utils.nn.masked``) while an image grows pixel by pixel.

    What a causal kernel of radius r sees splits in two: r rows above, known when a row begins, and at most r + 1 pixels
    of its own row. ``row()`` computes the first part for the whole row at once; ``pixel(j, x)`` adds the second.
    """

    def __init__(self, layer, n, width):
        self.weight_above, beside = (part.detach() for part in layer.parts())
        n_out, n_in, taps = beside.shape
        self.left = taps - 1
        self.weight_beside = beside.permute(2, 1, 0).reshape(taps * n_in, n_out)
        self.bias = layer.bias.detach()
        rows = self.weight_above.shape[2] + 1
        self.seen = beside.new_zeros(rows, n, width + 2 * self.left, n_in)         # the last rows, padded

    def row(self):
        """Begin a new row: forget the oldest and look at what is above. Before the first row everything seen is 0."""
        self.seen = torch.cat([self.seen[1:], torch.zeros_like(self.seen[:1])])
        if len(self.seen) > 1:
            rows = self.seen[:-1].permute(1, 3, 0, 2)                # (n, n_in, r, W + 2r)
            above = F.conv2d(rows, self.weight_above, self.bias)     # (n, n_out, 1, W)
            self.above = above.squeeze(2).permute(2, 0, 1).contiguous()        # (W, n, n_out)

    def pixel(self, j, x):
        """Output at column j, (n, n_out), given the input there, (n, n_in)."""
        if self.left == 0:
            return torch.addmm(self.bias, x, self.weight_beside)
        self.put(j, x)
        window = self.seen[-1][:, j : j + self.left + 1].flatten(1)  # (n, (r+1)·n_in)
        known = self.above[j] if len(self.seen) > 1 else self.bias
        return torch.addmm(known, window, self.weight_beside)

    def put(self, j, x):
        """Remember the input at column j, (n, n_in)."""
        self.seen[-1][:, j + self.left] = x


class RowsAboveCache:
    """The memory of one :class:`~course_utils.nn.masked.RowsAboveConv2d` while an image grows row by row."""

    def __init__(self, layer, n, width):
        self.layer = layer
        rows, size = layer.kernel_size
        self.pad = size // 2
        self.seen = layer.weight.new_zeros(n, layer.in_channels, rows, width + 2 * self.pad)

    def row(self, x):
        """Output row (n, n_out, 1, W), given one more input row (n, n_in, 1, W): its own (B), or the one above (A)."""
        self.seen = torch.cat([self.seen[:, :, 1:], F.pad(x, (self.pad, self.pad))], 2)
        return F.conv2d(self.seen, self.layer.weight, self.layer.bias)
