r"""PixelRNN: recurrent networks that carry what they have read through the image, Row LSTM and Diagonal BiLSTM.

    features = first convolution, kind A + where the pixel is
    gates = (input-to-state convolution of all features at once) + (state-to-state convolution of the last state)
    c, h  = one LSTM step of a whole row (Row LSTM) or a whole diagonal (Diagonal BiLSTM)
    log p(x) = sum over pixels of log p(x_i | h_i)

In training all pixels are known, and the steps that must wait for each other are N rows, or 2N - 1 diagonals.
Source: van den Oord, Kalchbrenner, Kavukcuoglu 2016, sections 3.1 and 3.2, arXiv:1601.06759.  Taught in chapter 02.
"""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import Head, to_levels
from course_utils.models.autoregressive.labels import check_images, check_label
from course_utils.models.autoregressive.sampling import ancestral_sample
from course_utils.nn.masked import MaskedConv2d, MaskedRowConv2d


def lstm_step(gates, c, colours=1):
    """c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c'). gates (B, 4n, L), c (B, n, L) -> (c', h')."""
    expect.floats(c, "c", "B", "n", "L")
    expect.floats(gates, "gates", len(c), 4 * c.shape[1], c.shape[2], like=c)
    if c.shape[1] % expect.count(colours, "colours"):
        raise ValueError(f"expected a multiple of {colours} units, as many for each colour, got {c.shape[1]}")
    o, f, i, g = (part.flatten(1, 2) for part in gates.unflatten(1, (colours, 4, -1)).unbind(2))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return c, torch.sigmoid(o) * torch.tanh(c)


def skew(x):
    """Shift row i to the right by i places: each diagonal becomes a column. (B, C, H, W) ->
    (B, C, H, H + W - 1).
    """
    _, _, height, width = expect.floats(x, "x", "B", "C", "H", "W").shape
    x = F.pad(x, (0, height))                                        # (B, C, H, W + H)
    diagonals = width + height - 1
    return x.flatten(2)[..., : height * diagonals].unflatten(2, (height, diagonals))


def unskew(x, width):
    """The inverse of :func:`skew`: (B, C, H, H + W - 1) -> (B, C, H, W)."""
    height = expect.floats(x, "x", "B", "C", "H", "W").shape[2]
    if x.shape[3] != height + expect.count(width, "width") - 1:
        raise ValueError(f"expected {height + width - 1} columns, H + W - 1, got {x.shape[3]}")
    return F.pad(x.flatten(2), (0, height)).unflatten(2, (height, width + height))[..., :width]


class RowLSTM(nn.Module):
    """An LSTM that reads one row per step, (B, n_in, H, W) -> (B, n_out, H, W) in H steps.

    The state of pixel j hears the states j-1, j, j+1 of the row above: what reaches a pixel is a triangle above it.
    """

    def __init__(self, n_in, n_out, size=3, colours=1):
        super().__init__()
        self.colours = colours
        self.from_input = MaskedRowConv2d(n_in, 4 * n_out, size, "B", colours)
        self.from_state = nn.Conv1d(n_out, 4 * n_out, size, padding=size // 2)

    def forward(self, x):
        gates = self.from_input(x)                                   # (B, 4·n_out, H, W), all rows at once
        c = h = torch.zeros_like(gates[:, : gates.shape[1] // 4, 0])  # (B, n_out, W)
        rows = []
        for of_row in gates.unbind(2):
            c, h = lstm_step(of_row + self.from_state(h), c, self.colours)
            rows.append(h)
        return torch.stack(rows, 2)


class DiagonalLSTM(nn.Module):
    """An LSTM that reads one diagonal per step, from the top left corner: H + W - 1 steps.

    The state of a pixel hears the states to its left and above it, and through them its whole upper left.
    """

    def __init__(self, n_in, n_out, size=3, colours=1):
        super().__init__()
        self.colours = colours
        self.from_input = MaskedConv2d(n_in, 4 * n_out, 1, "B", colours)
        self.from_state = nn.Conv1d(n_out, 4 * n_out, 2)

    def forward(self, x):
        gates = skew(self.from_input(x))                             # (B, 4·n_out, H, H + W - 1)
        c = h = torch.zeros_like(gates[:, : gates.shape[1] // 4, :, 0])           # (B, n_out, H)
        diagonals = []
        for of_diagonal in gates.unbind(3):
            left_and_above = self.from_state(F.pad(h, (1, 0)))       # row i hears rows i-1 and i
            c, h = lstm_step(of_diagonal + left_and_above, c, self.colours)
            diagonals.append(h)
        return unskew(torch.stack(diagonals, 3), x.shape[3])


class DiagonalBiLSTM(nn.Module):
    """Two Diagonal LSTMs, from the top left and from the top right corner: a pixel hears (almost) everything before it.

    The second one would hear pixels to the right in the same row, which come later: its states are moved down one row.
    What the paper does not say: a feature does not know its own pixel, so the last pixel of the row above is heard only
    as far as the first convolution reaches.
    """

    def __init__(self, n_in, n_out, size=3, colours=1):
        super().__init__()
        self.left = DiagonalLSTM(n_in, n_out, size, colours)
        self.right = DiagonalLSTM(n_in, n_out, size, colours)

    def forward(self, x):
        from_right = self.right(x.flip(3)).flip(3)
        return self.left(x) + F.pad(from_right, (0, 0, 1, -1))       # row i gets row i-1


class PixelRNN(nn.Module):
    """A stack of recurrent layers, :class:`RowLSTM` or :class:`DiagonalBiLSTM`; otherwise like a PixelCNN."""

    def __init__(self, shape, *, layer=RowLSTM, width=32, n_layers=1, first=7, head=None):
        super().__init__()
        self.shape, self.head = expect.shape(shape), head or Head()
        colours = shape[0]
        width = -(-width // colours) * colours                       # a multiple of the number of colours
        self.first = MaskedConv2d(colours, width, first, "A", colours)
        self.place = nn.Parameter(torch.zeros(1, width, *shape[1:]))
        self.layers = nn.ModuleList(layer(width, width, colours=colours) for _ in range(n_layers))
        self.mix = MaskedConv2d(width, width, 1, "B", colours)
        self.out = MaskedConv2d(width, colours * self.head.n_params, 1, "B", colours)
        nn.init.zeros_(self.out.weight)

    def params(self, x, y=None):
        """Numbers for the distribution of every pixel: (B, C, H, W, P)."""
        check_label(0, y)
        check_images(self, x)
        h = self.first(x) + self.place                               # (B, width, H, W)
        for layer in self.layers:
            h = h + layer(h)
        h = self.out(F.relu(self.mix(F.relu(h))))                    # (B, C·P, H, W)
        return h.unflatten(1, (self.shape[0], -1)).movedim(2, -1)

    def forward(self, x, y=None):
        return self.head(self.params(x, y))

    def log_prob(self, x, y=None):
        """Exact log-probability of whole images, (B,) in nats."""
        return self(x, y).log_prob(to_levels(x, self.head.levels)).flatten(1).sum(1)

    def loss(self, batch):
        """Negative log-likelihood in nats per image."""
        return {"loss": -self.log_prob(batch).mean()}

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1], pixel by pixel: however it was trained, N² steps."""
        return ancestral_sample(self, n, y)
