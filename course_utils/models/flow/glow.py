r"""Glow: a step is actnorm, an invertible 1×1 convolution, an affine coupling; many steps at several scales.

    squeeze: (C, H, W) -> (4C, H/2, W/2)     # neighbours become channels
    K steps of  actnorm, 1x1 convolution, affine coupling on half of the channels
    split: half of the channels is done, judged by a Gaussian that the other half predicts; go on with the other half

Source: Kingma & Dhariwal 2018, "Glow: generative flow with invertible 1x1 convolutions", arXiv:1807.03039; squeeze and
split are RealNVP's (Dinh, Sohl-Dickstein, Bengio 2017, section 3.6, arXiv:1605.08803).  Taught in chapter 06.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import StandardNormal
from course_utils.models.flow.coupling import AffineCoupling, bounded, channel_mask
from course_utils.models.flow.elementwise import summed
from course_utils.models.flow.flow import Chain, Flow
from course_utils.nn.conv import ConvStack
from course_utils.nn.mlp import start_at_zero

# Formulas -------------------------------------------------------------------------------------------------------------


def squeeze(x):
    """Neighbours become channels: ``(B, C, H, W) -> (B, 4C, H/2, W/2)``; volumes stay. (Dinh et al. 2017, 3.6.)"""
    expect.floats(x, "x", "B", "C", "H", "W")
    if x.shape[-1] % 2 or x.shape[-2] % 2:
        raise ValueError(f"expected even sides, which squeeze can halve, got {tuple(x.shape[-2:])}: pad the image")
    return F.pixel_unshuffle(x, 2)


def unsqueeze(z):
    """The way back from :func:`squeeze`."""
    if expect.floats(z, "z", "B", "C", "H", "W").shape[1] % 4:
        raise ValueError(f"expected a multiple of four channels, got {z.shape[1]}")
    return F.pixel_shuffle(z, 2)


def conv1x1_log_det(weight, height, width):
    r""":math:`H\,W\,\log|\det W|`: the same matrix acts at each of H × W pixels. ``weight (C, C)``; returns a scalar.

    (Kingma & Dhariwal 2018, eq. 9, arXiv:1807.03039.) Taught in chapter 06.
    """
    expect.floats(weight, "weight", len(expect.floats(weight, "weight", "C", "C")), len(weight))
    expect.counts((height, width), "(height, width)")
    return height * width * torch.linalg.slogdet(weight).logabsdet


# Layers ---------------------------------------------------------------------------------------------------------------


class Actnorm(nn.Module):
    r"""Scale and shift of each channel, z = x · exp(log_scale) + shift, chosen so that the first batch comes out with
    mean 0 and variance 1; from then on they are ordinary weights.

    ``initialised`` is a buffer: it is saved with the weights, so a loaded layer does not start again from whatever it
    sees first. (Kingma & Dhariwal 2018, section 3.1.)  Taught in chapter 06.
    """

    def __init__(self, n_channels):
        super().__init__()
        self.log_scale, self.shift = nn.Parameter(torch.zeros(n_channels)), nn.Parameter(torch.zeros(n_channels))
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x, y=None):
        """Look at ``x`` (B, C, …) once; later calls change nothing."""
        if self.initialised:
            return
        values = x.transpose(0, 1).flatten(1)                                       # (C, everything)
        std = values.std(1, correction=0).clamp(min=1e-6)
        self.log_scale.copy_(-std.log())
        self.shift.copy_(-values.mean(1) / std)
        self.initialised.fill_(True)

    def per_channel(self, numbers, x):
        return numbers.view(-1, *[1] * (x.dim() - 2))

    def forward(self, x, y=None):
        z = x * self.per_channel(self.log_scale.exp(), x) + self.per_channel(self.shift, x)
        return z, (self.log_scale.sum() * math.prod(x.shape[2:])).expand(len(x))

    def inverse(self, z, y=None):
        return (z - self.per_channel(self.shift, z)) * self.per_channel((-self.log_scale).exp(), z)


class InvertibleConv(nn.Module):
    """A learned mixing of the channels, the same at every pixel: a permutation that can be trained.

    It starts as a random rotation (log-determinant 0).
    """

    def __init__(self, n_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(n_channels, n_channels))[0])

    def matrix(self):
        return self.weight

    def log_det(self, height, width):
        return conv1x1_log_det(self.matrix(), height, width)

    def forward(self, x, y=None):
        z = F.conv2d(x, self.matrix()[..., None, None])
        return z, self.log_det(*x.shape[2:]).expand(len(x))

    def inverse(self, z, y=None):
        return F.conv2d(z, torch.linalg.inv(self.matrix())[..., None, None])


class InvertibleConvLU(InvertibleConv):
    r"""The same with W = P L (U + diag(sign · e^{log_s})): the log-determinant is HW times the sum of ``log_s``.

    P is fixed; L has ones on its diagonal, U zeros. (Kingma & Dhariwal 2018, eqs. 10 and 11.)  Taught in chapter 06.
    """

    def __init__(self, n_channels):
        super().__init__(n_channels)
        permutation, lower, upper = torch.linalg.lu(self.weight.detach())
        del self.weight
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", upper.diagonal().sign())
        self.lower, self.upper = nn.Parameter(lower.tril(-1)), nn.Parameter(upper.triu(1))
        self.log_s = nn.Parameter(upper.diagonal().abs().log())

    def matrix(self):
        lower = self.lower.tril(-1) + torch.eye(len(self.lower)).to(self.lower)
        upper = self.upper.triu(1) + torch.diag(self.sign * self.log_s.exp())
        return self.permutation @ lower @ upper

    def log_det(self, height, width):
        return height * width * self.log_s.sum()


class Squeeze(nn.Module):
    """:func:`squeeze` as a layer; it moves numbers and changes none, so its log-determinant is 0."""

    def forward(self, x, y=None):
        return squeeze(x), x.new_zeros(len(x))

    def inverse(self, z, y=None):
        return unsqueeze(z)


class Split(nn.Module):
    r"""The last half of the channels is done: z = (x_out − μ(x_keep)) / σ(x_keep), and ``rest`` goes on with x_keep.

    Judging x_out by N(μ, σ²) is the same as this affine layer under N(0, I), so log_det is −Σ log σ. ``shape``:
    (C, H, W) of what comes in; ``prior``: network ``(B, C/2, H, W) -> (B, C, H, W)``, means and raw log-scales.
    Returns ``z (B, C·H·W)``: the finished half first, then what ``rest`` makes of the other.
    It must be x_keep that predicts x_out: a Gaussian told about the number that it judges is no density.
    """

    def __init__(self, shape, prior, rest, limit=2.0):
        super().__init__()
        self.keep, self.prior, self.rest, self.limit = (shape[0] // 2, *shape[1:]), prior, rest, limit
        self.out = (shape[0] - shape[0] // 2, *shape[1:])

    def numbers(self, keep):
        mu, raw = self.prior(keep).chunk(2, 1)
        return mu, bounded(raw, self.limit)

    def forward(self, x, y=None):
        keep, out = x.split([self.keep[0], self.out[0]], 1)
        mu, log_sigma = self.numbers(keep)
        z, log_det = self.rest(keep, y)
        finished = (out - mu) * (-log_sigma).exp()
        return torch.cat([finished.flatten(1), z.flatten(1)], 1), log_det - summed(log_sigma)

    def inverse(self, z, y=None):
        finished, z = z.split([math.prod(self.out), z.shape[1] - math.prod(self.out)], 1)
        keep = self.rest.inverse(z, y)
        mu, log_sigma = self.numbers(keep)
        return torch.cat([keep, finished.unflatten(1, self.out) * log_sigma.exp() + mu], 1)

    def initialise(self, x, y=None):
        self.rest.initialise(x[:, : self.keep[0]], y)


class Flat(nn.Module):
    """The end of the last scale: ``(B, C, H, W) -> (B, C·H·W)``. ``shape``: (C, H, W)."""

    def __init__(self, shape):
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x, y=None):
        return x.flatten(1), x.new_zeros(len(x))

    def inverse(self, z, y=None):
        return z.unflatten(1, self.shape)


# Factory --------------------------------------------------------------------------------------------------------------


def glow_step(shape, width, limit, conv=InvertibleConv):
    """Actnorm, 1×1 convolution, affine coupling for maps of ``shape``: a list of three layers."""
    channels = expect.shape(shape)[0]
    expect.count(width, "width")
    expect.number(limit, "limit", above=0)
    network = start_at_zero(ConvStack(channels, width, 2 * channels))
    return [Actnorm(channels), conv(channels), AffineCoupling(channel_mask(shape), network, limit)]


def glow(shape=(1, 28, 28), n_scales=2, depth=4, width=32, limit=2.0, first=(), conv=InvertibleConv):
    """Glow for images of ``shape``; z is one vector, N(0, I), finest scale first (:func:`scales` says where each ends).

    ``first``: layers before the first squeeze, such as ``[Logit(0.05)]``. Both sides must halve ``n_scales`` times.
    """
    expect.counts((n_scales, depth, width), "(n_scales, depth, width)")
    if any(side % 2**n_scales for side in expect.shape(shape)[1:]):
        raise ValueError(f"expected sides that halve {n_scales} times without a remainder, got {tuple(shape)}")
    return Flow(StandardNormal(math.prod(shape)), [*first, _scale(shape, n_scales, depth, width, limit, conv)],
                shape)


def _scale(shape, n_scales, depth, width, limit, conv):
    shape = (4 * shape[0], shape[1] // 2, shape[2] // 2)
    steps = [layer for _ in range(depth) for layer in glow_step(shape, width, limit, conv)]
    if n_scales == 1:
        return Chain(Squeeze(), *steps, Flat(shape))
    kept = (shape[0] // 2, *shape[1:])
    prior = start_at_zero(ConvStack(kept[0], width, shape[0]))
    rest = _scale(kept, n_scales - 1, depth, width, limit, conv)
    return Chain(Squeeze(), *steps, Split(shape, prior, rest, limit))


def scales(shape, n_scales):
    """Where in z each scale of :func:`glow` lies: slices, finest first. Each split finishes half of what is left."""
    left, start, found = math.prod(expect.shape(shape)), 0, []
    for level in range(expect.count(n_scales, "n_scales")):
        size = left if level == n_scales - 1 else left // 2
        found.append(slice(start, start + size))
        start, left = start + size, left - size
    return found
