r"""PixelCNN: all conditionals :math:`p(x_i\mid x_{<i})` in one pass of causal convolutions.

    h = first convolution, kind A (a pixel must not see itself) + where the pixel is
    h = h + block(h), a few times, kind B
    params = 1x1 convolutions of h
    log p(x) = sum over pixels of log p(x_i | params_i)

Sources: van den Oord, Kalchbrenner, Kavukcuoglu 2016 (arXiv:1601.06759); the gated version: van den Oord et al. 2016
(arXiv:1606.05328).  Taught in chapter 02.
"""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import Head, to_levels
from course_utils.models.autoregressive.labels import check_images, check_label
from course_utils.models.autoregressive.sampling import ConvCache, RowsAboveCache, cached_sample
from course_utils.nn.masked import MaskedConv2d, MaskedRowConv2d, RowsAboveConv2d


class ResidualBlock(nn.Module):
    """x + masked kxk(relu(x)), (B, C, H, W). It starts close to the identity, so a deep stack
    learns at once.
    """

    def __init__(self, width, size, colours=1):
        super().__init__()
        self.look = MaskedConv2d(width, width, size, "B", colours)
        with torch.no_grad():
            self.look.weight.mul_(0.1)

    def forward(self, x):
        return x + self.look(F.relu(x))


class PixelCNN(nn.Module):
    """Masked convolutions with residual blocks. ``model(x, y)`` is the distribution of each pixel given those before.

    x: (B, C, H, W) in [0, 1] on the grid of ``head.levels`` grey levels; y: (B,) class numbers, with ``n_classes``.
    ``given``: a module for a y of any other kind, such as another image; ``given(y)`` is (B, ``width``, H, W).
    Its stack of square kernels has a blind spot to the upper right: see :class:`GatedPixelCNN`.
    """

    def __init__(self, shape, *, width=32, n_blocks=6, first=7, size=3, head=None, n_classes=0, given=None):
        super().__init__()
        shape = expect.shape(shape)
        if given is not None and (n_classes or width % shape[0]):
            raise ValueError(f"given stands in the place of n_classes, and width must be a multiple of {shape[0]}")
        self.shape, self.head, self.n_classes, self.given = tuple(shape), head or Head(), n_classes, given
        colours, n_params = shape[0], shape[0] * self.head.n_params
        width = -(-width // colours) * colours                       # a multiple of the number of colours
        self.first = MaskedConv2d(colours, width, first, "A", colours)
        self.place = nn.Parameter(torch.zeros(1, width, *shape[1:]))  # a convolution cannot know where it is
        self.label = nn.Embedding(n_classes, width) if n_classes else None
        self.blocks = nn.ModuleList(ResidualBlock(width, size, colours) for _ in range(n_blocks))
        self.mix = MaskedConv2d(width, width, 1, "B", colours)
        self.out = MaskedConv2d(width, n_params, 1, "B", colours)
        nn.init.zeros_(self.out.weight)                              # first guess: all levels alike

    def context(self, y=None, n="B"):
        """What a pixel knows besides pixels: its place and the class or ``given(y)``, if any. (1 or B, width, H, W)."""
        if self.given is not None:
            if y is None:
                raise ValueError("expected y, what this model is given; got none")
            return self.place + expect.floats(self.given(y), "given(y)", n, *self.place.shape[1:])
        y = check_label(self.n_classes, y, n)
        return self.place if y is None else self.place + self.label(y)[:, :, None, None]

    def params(self, x, y=None):
        """Numbers for the distribution of every pixel: (B, C, H, W, P)."""
        x = check_images(self, x).contiguous(memory_format=torch.channels_last)
        h = self.first(x) + self.context(y, len(x))                  # (B, width, H, W)
        for block in self.blocks:
            h = block(h)
        h = self.out(F.relu(self.mix(F.relu(h))))                    # (B, C·P, H, W)
        return h.unflatten(1, (self.shape[0], -1)).movedim(2, -1)

    def forward(self, x, y=None):
        return self.head(self.params(x, y))

    def log_prob(self, x, y=None):
        """Exact log-probability of whole images, (B,) in nats."""
        return self(x, y).log_prob(to_levels(x, self.head.levels)).flatten(1).sum(1)

    def loss(self, batch):
        """Negative log-likelihood in nats per image: {"loss"}. ``batch`` is x, or (x, y) for a conditional model."""
        return {"loss": -self.log_prob(*expect.pair(batch)).mean()}

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1], pixel by pixel, remembering what the layers have computed."""
        return cached_sample(self, n, y)

    def start_cache(self, x, y=None):
        """The memory that :func:`~course_utils.models.autoregressive.sampling.cached_sample` works with."""
        return PixelCNNCache(self, x, y)


class PixelCNNCache:
    """A :class:`PixelCNN` that computes one pixel at a time and remembers the rest."""

    def __init__(self, model, x, y):
        n, _, _, width = x.shape
        self.x, self.i = x, -1
        self.context = model.context(y, n).permute(2, 3, 0, 1).contiguous()           # (H, W, 1 or n, width)
        self.first = ConvCache(model.first, n, width)
        self.blocks = [ConvCache(block.look, n, width) for block in model.blocks]
        self.last = [ConvCache(layer, n, width) for layer in (model.mix, model.out)]
        self.colours = model.shape[0]

    def row(self, i):
        """Begin row i; the rows above are complete in x."""
        if i:                                                        # drawn after its own parameters were asked for
            self.first.put(self.x.shape[-1] - 1, self.x[:, :, i - 1, -1])
        self.i = i
        for layer in (self.first, *self.blocks):
            layer.row()

    def pixel(self, j, c):
        """Parameters of colour c of pixel (i, j), (n, P), from what comes before it in x."""
        if j:
            self.first.put(j - 1, self.x[:, :, self.i, j - 1])
        h = self.first.pixel(j, self.x[:, :, self.i, j]) + self.context[self.i, j]
        for look in self.blocks:
            h = h + look.pixel(j, h.relu())
        mix, out = self.last
        return out.pixel(j, mix.pixel(j, h.relu()).relu_()).unflatten(1, (self.colours, -1))[:, c]


class GatedLayer(nn.Module):
    """One layer of two stacks: v sees whole rows above, h the pixels to the left and what v saw. (v, h) -> (v, h).

    h + 1x1(gate(1x1(a) + row convolution of h)), with a = convolution of v over the rows above, v = gate(a) and
    gate(a) = tanh(half of a) * sigmoid(other half).  (van den Oord et al. 2016, eq. 2 and figure 2, arXiv:1606.05328.)
    """

    def __init__(self, width, size, colours=1, n_classes=0):
        super().__init__()
        self.colours = colours
        self.above = RowsAboveConv2d(width, 2 * width, size, "B")
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.beside = MaskedRowConv2d(width, 2 * width, size, "B", colours)
        self.mix = MaskedConv2d(width, width, 1, "B", colours)
        self.label = nn.Embedding(n_classes, 2 * width) if n_classes else None

    def bias(self, y):
        return 0 if y is None else self.label(y)[:, :, None, None]

    def forward(self, v, h, y=None):
        a = self.above(v)                                            # (B, 2·width, H, W)
        g = self.across(a) + self.beside(h) + self.bias(y)
        return gate(a), h + self.mix(gate(g, self.colours))


def gate(a, colours=1):
    """tanh(half of the channels) * sigmoid(the other half), colour by colour: (B, 2n, …) ->
    (B, n, …).
    """
    if expect.floats(a, "a", "B", "C", ...).shape[1] % (2 * expect.count(colours, "colours")):
        raise ValueError(f"expected channels in two halves for each of {colours} colours, "
                         f"got {a.shape[1]}")
    signal, valve = a.unflatten(1, (colours, 2, -1)).unbind(2)
    return (torch.tanh(signal) * torch.sigmoid(valve)).flatten(1, 2)


class GatedPixelCNN(PixelCNN):
    """Two stacks instead of one, so that no earlier pixel is out of sight, and gates. Used like :class:`PixelCNN`.

    The vertical stack sees everything above the row and nothing of the row itself, so it needs no mask and no pixel of
    it can leak; the horizontal stack sees the row to the left, and the vertical stack.
    """

    def __init__(self, shape, *, width=24, n_blocks=5, first=7, size=3, head=None, n_classes=0):
        nn.Module.__init__(self)
        self.shape, self.head, self.n_classes = expect.shape(shape), head or Head(), n_classes
        colours = shape[0]
        width = -(-width // colours) * colours
        self.first_above = RowsAboveConv2d(colours, width, first, "A")
        self.first = MaskedRowConv2d(colours, width, first, "A", colours)
        self.place = nn.Parameter(torch.zeros(1, width, *shape[1:]))
        self.blocks = nn.ModuleList(GatedLayer(width, size, colours, n_classes) for _ in range(n_blocks))
        self.mix = MaskedConv2d(width, width, 1, "B", colours)
        self.out = MaskedConv2d(width, colours * self.head.n_params, 1, "B", colours)
        nn.init.zeros_(self.out.weight)

    def params(self, x, y=None):
        """Numbers for the distribution of every pixel: (B, C, H, W, P)."""
        x, y = check_images(self, x), check_label(self.n_classes, y, len(x))
        x = x.contiguous(memory_format=torch.channels_last)
        v = self.first_above(x)                                      # (B, width, H, W)
        h = self.first(x) + v + self.place
        for block in self.blocks:
            v, h = block(v, h, y)
        h = self.out(F.relu(self.mix(F.relu(h))))                    # (B, C·P, H, W)
        return h.unflatten(1, (self.shape[0], -1)).movedim(2, -1)

    def start_cache(self, x, y=None):
        return GatedPixelCNNCache(self, x, check_label(self.n_classes, y, len(x)))


class GatedPixelCNNCache:
    """A :class:`GatedPixelCNN` that computes its vertical stack row by row and its horizontal stack pixel by pixel."""

    def __init__(self, model, x, y):
        n, _, _, width = x.shape
        self.model, self.x, self.colours = model, x, model.shape[0]
        self.labels = [block.bias(y) for block in model.blocks]
        self.first_above = RowsAboveCache(model.first_above, n, width)
        self.above = [RowsAboveCache(block.above, n, width) for block in model.blocks]
        self.first = ConvCache(model.first, n, width)
        self.beside = [ConvCache(block.beside, n, width) for block in model.blocks]
        self.mix = [ConvCache(block.mix, n, width) for block in model.blocks]
        self.last = [ConvCache(layer, n, width) for layer in (model.mix, model.out)]

    def row(self, i):
        """Begin row i: the whole vertical stack of this row, from the rows above it, which are complete in x."""
        self.i = i
        v = self.first_above.row(self.x[:, :, i - 1 : i] if i else torch.zeros_like(self.x[:, :, :1]))
        self.from_above = [columns(v + self.model.place[:, :, i : i + 1])]         # what each layer of h gets
        for block, cache, label in zip(self.model.blocks, self.above, self.labels, strict=True):
            a = cache.row(v)                                         # (n, 2·width, 1, W)
            self.from_above.append(columns(block.across(a) + label))
            v = gate(a)
        for layer in (self.first, *self.beside):
            layer.row()

    def pixel(self, j, c):
        """Parameters of colour c of pixel (i, j), (n, P), from what comes before it in x."""
        if j:
            self.first.put(j - 1, self.x[:, :, self.i, j - 1])
        h = self.first.pixel(j, self.x[:, :, self.i, j]) + self.from_above[0][j]
        for beside, mix, above in zip(self.beside, self.mix, self.from_above[1:], strict=True):
            h = h + mix.pixel(j, gate(beside.pixel(j, h) + above[j], self.colours))
        mix, out = self.last
        return out.pixel(j, mix.pixel(j, h.relu()).relu_()).unflatten(1, (self.colours, -1))[:, c]


def columns(row):
    """(n, channels, 1, W) -> (W, n, channels), contiguous: one column after the other."""
    return expect.floats(row, "row", "n", "C", 1, "W").squeeze(2).permute(2, 0, 1).contiguous()
