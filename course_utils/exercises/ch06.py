"""Exercises of chapter 06: normalizing flows."""

import math

import torch
from torch import nn
from torch.distributions import Normal

from course_utils import checks
from course_utils.distributions import GaussianMixture
from course_utils.exercises import Exercise, Finding, Probe
from course_utils.models.flow import coupling

D = torch.float64


def numbers(*values):
    return torch.tensor(values, dtype=D)


# ------------------------------------------------------------------------------------------------- 6.1 another unit
def other_unit():
    """Lengths are written in metres, not millimetres. Does −log p of the best Gaussian "rise",
    "fall" or "stay"?
    """
    return "fall"


# -------------------------------------------------------------------------------------------------- 6.2 find the bug
def log_prob_of_raw(x, mean, std, log_prob):
    """Log-density of raw data, from a density of standardised data.

    x: (N, D), raw. mean, std: (D,); the model was fitted to (x - mean) / std.
    log_prob: function, (N, D) -> (N,), log-density of standardised data, in nats.
    Returns (N,): log-density of x itself, in nats.
    """
    z = (x - mean) / std
    return log_prob(z) - std.log().sum()


def _raw_forgotten(x, mean, std, log_prob):
    """The log-determinant of the scaling is missing: z = (x - mean) / std has slope 1 / std in every dimension."""
    return log_prob((x - mean) / std)


def _raw_sign(x, mean, std, log_prob):
    """The sign is wrong way round: from x to z the slope is 1 / std, so its logarithm is minus log std."""
    return log_prob((x - mean) / std) + std.log().sum()


def _raw_mean(x, mean, std, log_prob):
    """The determinant of a diagonal matrix is a product, so its logarithm is a sum over the dimensions, no mean."""
    return log_prob((x - mean) / std) - std.log().mean()


def _raw_inverse(x, mean, std, log_prob):
    """z is (x - mean) / std: you undid the standardising instead of doing it."""
    return log_prob(x * std + mean) + std.log().sum()


def _raw_no_log(x, mean, std, log_prob):
    """log_prob is a logarithm: subtract the logarithm of the scale, not the scale."""
    return log_prob((x - mean) / std) - std.sum()


def _standard(z):
    return Normal(0.0, 1.0).log_prob(z).sum(1)


def _raw_probes(generator):
    x = torch.randn(4, 3, generator=generator, dtype=D).mul(10).round() / 10
    zero, one = torch.zeros(2, dtype=D), torch.ones(2, dtype=D)
    return [
        Probe("one dimension, std 2: the density is halved",
              (numbers([1.0], [3.0]), numbers(1.0), numbers(2.0), _standard),
              "Sand spread over twice the length lies half as high: subtract log 2."),
        Probe("two dimensions, std 2 and 4", (numbers([1.0, 3.0]), zero, numbers(2.0, 4.0), _standard),
              "The volume factor is the product of the scales of all dimensions."),
        Probe("nothing changes where the data were standardised before", (numbers([0.5, -1.0]), zero, one, _standard),
              "log 1 = 0."),
        Probe("three dimensions", (x, numbers(0.5, -1.0, 2.0), numbers(0.5, 3.0, 1.5), _standard),
              "Subtract the sum of log std."),
    ]


# ------------------------------------------------------------------------------------ 6.3 an affine coupling, both ways
def couple(x, shift, log_scale, backwards):
    """An affine coupling: the second half of the columns moves, the first half stays.

    x: (B, 2H). shift, log_scale: (B, H), what a network said about the first half.
    backwards: False for x to z (z_b = x_b * exp(log_scale) + shift), True for the inverse map.
    Returns (y, log_det): y (B, 2H), and log_det (B,), log |det dy/dx| of the direction that
    was asked for.
    """
    kept, moved = x.chunk(2, 1)
    if backwards:
        return torch.cat([kept, (moved - shift) * (-log_scale).exp()], 1), -log_scale.sum(1)
    return torch.cat([kept, moved * log_scale.exp() + shift], 1), log_scale.sum(1)


def _couple_same_sign(x, shift, log_scale, backwards):
    """Backwards the map undoes the scaling, so its log-determinant has the other sign."""
    return couple(x, shift, log_scale, backwards)[0], log_scale.sum(1)


def _couple_scale_first(x, shift, log_scale, backwards):
    """To undo "scale, then shift" take the shift off first, then the scale: (z - shift) * exp(-log_scale)."""
    kept, moved = x.chunk(2, 1)
    if backwards:
        return torch.cat([kept, moved * (-log_scale).exp() - shift], 1), -log_scale.sum(1)
    return couple(x, shift, log_scale, backwards)


def _couple_mean(x, shift, log_scale, backwards):
    """The determinant is the product of the scales, so its logarithm is the sum of log_scale over columns, no mean."""
    y, log_det = couple(x, shift, log_scale, backwards)
    return y, log_det / log_scale.shape[1]


def _couple_first_half(x, shift, log_scale, backwards):
    """The first half stays and the second half moves; you moved the first."""
    moved, kept = x.chunk(2, 1)
    if backwards:
        return torch.cat([(moved - shift) * (-log_scale).exp(), kept], 1), -log_scale.sum(1)
    return torch.cat([moved * log_scale.exp() + shift, kept], 1), log_scale.sum(1)


def _couple_plain_scale(x, shift, log_scale, backwards):
    """log_scale is the logarithm of the scale: multiply by exp(log_scale)."""
    kept, moved = x.chunk(2, 1)
    if backwards:
        return torch.cat([kept, (moved - shift) / log_scale], 1), -log_scale.abs().log().sum(1)
    return torch.cat([kept, moved * log_scale + shift], 1), log_scale.abs().log().sum(1)


def _couple_batch_sum(x, shift, log_scale, backwards):
    """Each example has its own log-determinant, (B,): sum over columns, not over the batch."""
    y, log_det = couple(x, shift, log_scale, backwards)
    return y, log_det.sum().expand(len(x))


def _couple_probes(generator):
    x, shift, scale = (torch.randn(3, n, generator=generator, dtype=D).mul(10).round() / 10 for n in (4, 2, 2))
    two = torch.full((1, 1), math.log(2.0), dtype=D)
    point, one = numbers([3.0, 5.0]), numbers([1.0])
    return [
        Probe("scale 2, shift 1, forwards: 5 becomes 11", (point, one, two, False), "2 * 5 + 1, and log|det| = log 2."),
        Probe("scale 2, shift 1, backwards: 5 becomes 2", (point, one, two, True), "(5 - 1) / 2, log|det| = -log 2."),
        Probe("three examples of four columns, forwards", (x, shift, scale, False), "Sum log_scale over the columns."),
        Probe("three examples of four columns, backwards", (x, shift, scale, True), "Minus the sum of log_scale."),
    ]


# -------------------------------------------------------------------------------------------------- 6.4 build a flow
def planar_flow():
    """A flow for points of the plane, not yet trained.

    Returns an nn.Module with at most 60,000 weights and two methods:
    log_prob(x): (B, 2) -> (B,), exact log-density in nats, differentiable.
    sample(n): (n, 2), draws from that density.
    """
    return coupling.spline_flow(n_layers=4, hidden=(48, 48), n_bins=8, bound=5.0)


def _flow_of(layers):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.flow = layers()

        def log_prob(self, x):
            return self.flow.log_prob(x)

        def sample(self, n):
            return self.flow.sample(n)

    return Model()


def _flow_without_log_det():
    """The log-determinant is missing: log p(x) = log p_Z(z) + log|det|."""
    model = _flow_of(lambda: coupling.affine_flow(n_layers=4, hidden=(16,)))
    model.log_prob = lambda x: model.flow.base().log_prob(model.flow(x)[0])
    return _shaken(model)


def _flow_wrong_sign():
    """The log-determinant has the wrong sign: f goes from x to z, and its logarithm is added."""
    model = _flow_of(lambda: coupling.affine_flow(n_layers=4, hidden=(16,)))

    def log_prob(x):
        z, log_det = model.flow(x)
        return model.flow.base().log_prob(z) - log_det

    model.log_prob = log_prob
    return _shaken(model)


def _flow_samples_the_base():
    """Your samples do not follow your density: send the noise through the inverse of all layers."""
    model = _flow_of(lambda: coupling.affine_flow(n_layers=4, hidden=(16,)))
    model.sample = lambda n: torch.randn(n, 2)
    return _shaken(model)


def _flow_is_a_gaussian():
    """A Gaussian cannot follow several bumps: stack couplings whose masks take turns."""
    class Gauss(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean, self.log_std = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

        def log_prob(self, x):
            return Normal(self.mean, self.log_std.exp()).log_prob(x).sum(1)

        def sample(self, n):
            return self.mean.detach() + self.log_std.detach().exp() * torch.randn(n, 2)

    return Gauss()


def _flow_too_large():
    """Fewer or narrower layers will do."""
    return coupling.spline_flow(n_layers=12, hidden=(256, 256))


def _shaken(model):
    """Weights that are not those of the identity, where a forgotten log-determinant would not show."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def _hidden_density(generator):
    """Three bumps of the check's own: new places each time."""
    angle = 2 * math.pi * (torch.arange(3) / 3 + torch.rand((), generator=generator))
    means = 2.2 * torch.stack([angle.cos(), angle.sin()], 1)
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), means, torch.full((3, 2), 0.5**2))


def _flow_trial(build, generator):
    model = build()
    if not isinstance(model, nn.Module):
        yield Finding("planar_flow returns an nn.Module", False, f"It returned a {type(model).__name__}.", "")
        return
    weights = sum(weight.numel() for weight in model.parameters())
    yield Finding("at most 60,000 weights", weights <= 60_000, f"It has {weights:,}.", "Use fewer or narrower layers.")
    model = _shaken(model)
    points, volume = checks.grid((-12, 12), (-12, 12), n=481, dtype=torch.float32)
    with torch.no_grad():
        total = (model.log_prob(points).double().exp().sum() * volume).item()
    yield Finding("its density integrates to 1, with random weights", abs(total - 1) < 0.02,
                  f"The integral is {total:.3f}.",
                  "log p(x) = log p_Z(z) + log|det dz/dx|. Is the log-determinant there, with a plus?")
    drawn = model.sample(4_000)
    with torch.no_grad():
        near = (points.norm(dim=1) < 1.5)
        share, mass = (drawn.norm(dim=1) < 1.5).double().mean().item(), (
            model.log_prob(points[near]).double().exp().sum() * volume).item()
    yield Finding("its samples follow its density", abs(share - mass) < 0.06,
                  f"{share:.1%} of the samples lie within 1.5 of the origin, the density says {mass:.1%}.",
                  "A sample is the inverse of all layers, in the opposite order, applied to noise from the base.")
    yield from _trained_flow(build(), _hidden_density(generator))


def _trained_flow(model, density, side=400, reach=12.0):
    """The integral and the KL after 150 steps of Adam on fresh samples: of one call, in which 4,000 held-out points
    stand among one point at random from each of side × side cells.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        loss = -model.log_prob(density.sample((256,))).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
    x, width = density.sample((4_000,)), 2 * reach / side
    corners = torch.cartesian_prod(*2 * [torch.arange(side)]) * width - reach
    points = torch.cat([x, corners + width * torch.rand(side**2, 2)])
    order = torch.randperm(len(points))
    with torch.no_grad():
        log_q = torch.empty(len(points))
        log_q[order] = model.log_prob(points[order]).float()
        kl = (density.log_prob(x) - log_q[: len(x)]).mean().item()
        total = (log_q[len(x) :].double().exp().sum() * width**2).item()
    yield Finding("its density integrates to 1, after training as well", abs(total - 1) < 0.05,
                  f"The integral is {total:.3f}.", "log_prob has to be the same function for all points and calls.")
    yield Finding("KL(p ‖ q) below 0.25 nats after 150 steps", kl < 0.25, f"{kl:.3f} nats on held-out samples.",
                   "Masks that take turns, several layers, a hidden layer in each network, a last layer of zeros.")


# -------------------------------------------------------------------------------------------------- 6.5 one Jacobi pass
def jacobi_pass(z, guess, weight, bias):
    """All numbers of x improved at once, for a masked flow with a linear mean and scale 1.

    z: (B, D). guess: (B, D), the last guess of x. weight: (D, D), strictly lower triangular.
    bias: (D,). mu(x) = weight @ x + bias, and x = z + mu(x) is wanted.
    Returns the next guess: (B, D).
    """
    return z + guess @ weight.T + bias


def _jacobi_transposed(z, guess, weight, bias):
    """For rows, weight @ x is x @ weight.T: entry i of mu uses row i of the weights."""
    return z + guess @ weight + bias


def _jacobi_from_z(z, guess, weight, bias):
    """The mean is a function of the last guess of x, not of z."""
    return z + z @ weight.T + bias


def _jacobi_sign(z, guess, weight, bias):
    """You made z out of x. Here z is known: x = z + mu(x)."""
    return z - guess @ weight.T - bias


def _jacobi_solved(z, guess, weight, bias):
    """That is x itself, the end of the iteration (or one number after the other): improve all numbers at once."""
    eye = torch.eye(len(weight), dtype=weight.dtype)
    return torch.linalg.solve(eye - weight, (z + bias).T).T


def _jacobi_probes(generator):
    z, guess = (torch.randn(2, 3, generator=generator, dtype=D).mul(10).round() / 10 for _ in range(2))
    weight = numbers([0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, -1.0, 0.0])
    zero = torch.zeros(1, 3, dtype=D)
    return [
        Probe("from the guess 0 it gives z plus the bias",
              (numbers([1.0, 2.0, 3.0]), zero, weight, numbers(0.5, 0.0, -1.0)), "mu(0) is the bias."),
        Probe("one number: the weights are 0, x is exact at once",
              (numbers([3.0]), numbers([7.0]), numbers([0.0]).view(1, 1), numbers(1.0)),
              "x_1 depends on nothing before it."),
        Probe("three numbers", (z, guess, weight, numbers(0.1, 0.2, 0.3)), "z + W guess + b, row by row."),
    ]


# ----------------------------------------------------------------------------------------------- 6.6 bits per dimension
def bits_from_density(log_prob, n_dims, levels):
    """Bits per dimension of images with integer levels, from a density of dequantised pixels.

    log_prob: (B,), log p(y) in nats, y = (k + u) / levels in [0, 1).
    n_dims: number of pixels. levels: number of grey levels.
    Returns (B,): bits per dimension.
    """
    return (n_dims * math.log(levels) - log_prob) / (n_dims * math.log(2.0))


def _bits_nats(log_prob, n_dims, levels):
    """These are nats per dimension: divide by log 2."""
    return (n_dims * math.log(levels) - log_prob) / n_dims


def _bits_no_bin(log_prob, n_dims, levels):
    """The width of the bins is missing: each pixel costs log2(levels) more, since its bin has the width 1/levels."""
    return -log_prob / (n_dims * math.log(2.0))


def _bits_one_less(log_prob, n_dims, levels):
    """A bin has the width 1/levels, not 1/(levels - 1)."""
    return bits_from_density(log_prob, n_dims, levels - 1)


def _bits_bin_once(log_prob, n_dims, levels):
    """Every pixel has a bin, so log(levels) comes n_dims times before it is shared among n_dims pixels."""
    return (math.log(levels) - log_prob) / (n_dims * math.log(2.0))


def _bits_minus(log_prob, n_dims, levels):
    """A narrow bin holds little mass, so its logarithm makes the code longer: plus log2(levels)."""
    return (-n_dims * math.log(levels) - log_prob) / (n_dims * math.log(2.0))


def _bits_sign(log_prob, n_dims, levels):
    """A code length is minus a logarithm: less bits for a higher density."""
    return -bits_from_density(log_prob, n_dims, levels)


def _bits_probes(generator):
    log_p = torch.randn(3, generator=generator, dtype=D).mul(100).round() / 10
    return [
        Probe("density 1 on the cube and 256 levels: 8 bits", (numbers(0.0), 10, 256), "log2(256) = 8."),
        Probe("density 1 on the cube and 2 levels: 1 bit", (numbers(0.0), 3, 2), "log2(2) = 1."),
        Probe("a density of e^(10 log 2) over 10 pixels saves a bit each", (numbers(10 * math.log(2.0)), 10, 256),
              "8 - 1 = 7."),
        Probe("17 levels", (log_p, 64, 17), "(n_dims log(levels) - log_prob) / (n_dims log 2)."),
    ]


# --------------------------------------------------------------------------------------------- 6.7 actnorm's first look
def first_look(x):
    """Scale and shift of each channel from a first batch.

    x: (B, C, H, W). Returns (log_scale, shift), each (C,): x * exp(log_scale) + shift has mean
    0 and variance 1 in every channel, over the batch and all pixels (divide by the number of
    values, no correction).
    """
    std = x.std((0, 2, 3), correction=0)
    return -std.log(), -x.mean((0, 2, 3)) / std


def _look_shift_unscaled(x):
    """The shift is added after the scaling: it must be -mean / std."""
    return first_look(x)[0], -x.mean((0, 2, 3))


def _look_scale_up(x):
    """To bring a channel of standard deviation std to 1, divide by it: log_scale is minus log std."""
    return -first_look(x)[0], first_look(x)[1]


def _look_variance(x):
    """Divide by the standard deviation, the root of the variance."""
    variance = x.var((0, 2, 3), correction=0)
    return -variance.log(), -x.mean((0, 2, 3)) / variance


def _look_one_for_all(x):
    """Each channel has its own scale and shift."""
    std, ones = x.std(correction=0), torch.ones(x.shape[1], dtype=x.dtype)
    return -std.log() * ones, -x.mean() / std * ones


def _look_over_batch_only(x):
    """All pixels of a channel share one scale: take mean and spread over batch, height and width together."""
    std = x.std(0, correction=0).mean((1, 2))
    return -std.log(), -x.mean((0, 2, 3)) / std


def _look_probes(generator):
    x = torch.randn(3, 2, 2, 2, generator=generator, dtype=D).mul(10).round() / 10
    flat = numbers(-1.0, 1.0, -1.0, 1.0).view(2, 1, 1, 2)
    return [
        Probe("mean 0 and variance 1 need nothing", (flat,), "log 1 = 0."),
        Probe("10 + 2x of that: scale one half, shift -5", (10 + 2 * flat,), "(10 + 2x) / 2 - 5 = x."),
        Probe("two channels, each its own", (torch.cat([flat, 4 * flat + 1], 1),), "One scale and shift a channel."),
        Probe("a batch of three", (x,), "Mean and standard deviation over batch, height and width."),
    ]


# --------------------------------------------------------------------------------------------- 6.8 a mixing of channels
def mixing_log_det(weight, height, width):
    """log |det| of a 1x1 convolution as a map of whole images.

    weight: (C, C). The images have height * width pixels, each of which is multiplied by
    weight.
    Returns a number or a scalar tensor, in nats.
    """
    return height * width * torch.linalg.slogdet(weight).logabsdet


def _mixing_one_pixel(weight, height, width):
    """The same matrix acts at each of height * width pixels: the determinant is a power."""
    return torch.linalg.slogdet(weight).logabsdet


def _mixing_sides(weight, height, width):
    """There are height times width pixels."""
    return (height + width) * torch.linalg.slogdet(weight).logabsdet


def _mixing_overflow(weight, height, width):
    """A determinant of many channels overflows or underflows: use torch.linalg.slogdet."""
    return height * width * torch.linalg.det(weight).abs().log()


def _mixing_no_abs(weight, height, width):
    """A mirror has a negative determinant, and volumes have no sign: take the absolute value."""
    return height * width * torch.linalg.det(weight).log()


def _mixing_power(weight, height, width):
    """The determinant is raised to the power height * width, so its logarithm is multiplied; no logarithm of that."""
    return torch.linalg.slogdet(weight).logabsdet + math.log(height * width)


def _mixing_probes(generator):
    weight = torch.randn(3, 3, generator=generator, dtype=D).mul(10).round() / 10 + 2 * torch.eye(3, dtype=D)
    return [
        Probe("one channel, weight 2, four pixels: 4 log 2", (numbers([2.0]).view(1, 1), 2, 2),
              "Each pixel is doubled."),
        Probe("a mirror keeps volumes", (numbers([0.0, 1.0], [1.0, 0.0]), 3, 2), "|det| = 1."),
        Probe("200 channels of weight 0.01 do not underflow", (0.01 * torch.eye(200, dtype=D), 1, 2),
              "torch.linalg.slogdet never forms the determinant itself."),
        Probe("three channels", (weight, 2, 5), "height * width * log|det|."),
    ]


# ------------------------------------------------------------------------------------------------ 6.9 which is likelier
def likelier():
    """Over which is the mean of log q higher, the model's own "samples" or the "data", or is
    it the "same"?
    """
    return "data"


# ------------------------------------------------------------------------------------------- 6.10 actnorm that forgets
def remembering_norm(n_channels):
    """Actnorm that looks at its first batch, once, and remembers that when saved and loaded.

    n_channels: C. Returns an nn.Module: x (B, C, H, W) -> (z, log_det), log_det (B,).
    """
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(n_channels))
            self.shift = nn.Parameter(torch.zeros(n_channels))
            self.register_buffer("looked", torch.tensor(False))

        def forward(self, x):
            if not self.looked:
                with torch.no_grad():
                    std = x.std((0, 2, 3), correction=0)
                    self.log_scale.copy_(-std.log())
                    self.shift.copy_(-x.mean((0, 2, 3)) / std)
                    self.looked.fill_(True)
            z = x * self.log_scale.exp().view(-1, 1, 1) + self.shift.view(-1, 1, 1)
            return z, (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(len(x))

    return Norm()


class _Norm(nn.Module):
    """What the wrong answers share: which batches are looked at, where the numbers live, how pixels are counted."""

    def __init__(self, n_channels, again=False, weights=True, pixels=True, saved=False):
        super().__init__()
        self.again, self.weights, self.pixels, self.saved, self.looked = again, weights, pixels, saved, False
        first = torch.zeros(n_channels), torch.zeros(n_channels)
        self.log_scale, self.shift = (nn.Parameter(part) for part in first) if weights else first
        if saved:
            self.register_buffer("mark", torch.tensor(False))

    def forward(self, x):
        known = self.mark.item() if self.saved else self.looked
        if self.again or not known:
            with torch.no_grad():
                std = x.std((0, 2, 3), correction=0)
                self.log_scale.copy_(-std.log())
                self.shift.copy_(-x.mean((0, 2, 3)) / std)
            self.looked = True
            if self.saved:
                self.mark.fill_(True)
        z = x * self.log_scale.exp().view(-1, 1, 1) + self.shift.view(-1, 1, 1)
        n_pixels = x.shape[2] * x.shape[3] if self.pixels else 1
        return z, (n_pixels * self.log_scale.sum()).expand(len(x))


def _norm_forgets(n_channels):
    """A plain attribute is not saved with the weights. Make it a buffer: self.register_buffer("looked", …)."""
    return _Norm(n_channels)


def _norm_looks_again(n_channels):
    """It looks at every batch, as batch norm does: then z of an image depends on its neighbours. Look once."""
    return _Norm(n_channels, again=True)


def _norm_saves_nothing(n_channels):
    """Scale and shift are weights: make them nn.Parameter, or they are neither trained nor saved."""
    return _Norm(n_channels, weights=False, saved=True)


def _norm_one_pixel(n_channels):
    """The same scale acts at each of H × W pixels: multiply the sum of log_scale by their number."""
    return _Norm(n_channels, pixels=False, saved=True)


def _norm_trial(build, generator):
    norm = build(2)
    if not isinstance(norm, nn.Module):
        yield Finding("it returns an nn.Module", False, f"It returned a {type(norm).__name__}.", "")
        return
    first, second = (shift + 3 * torch.randn(8, 2, 3, 3, generator=generator) for shift in (5.0, -1.0))
    with torch.no_grad():
        z, log_det = norm(first)
    off = max(z.mean((0, 2, 3)).abs().max().item(), (z.var((0, 2, 3), correction=0) - 1).abs().max().item())
    yield Finding("the first batch comes out with mean 0 and variance 1", off < 1e-3, f"It is off by {off:.3g}.",
                  "log_scale is minus log std, shift is minus mean / std, for each channel.")
    with torch.no_grad():
        kept = norm(second)[0]
        norm(first)
        same = (norm(second)[0] - kept).abs().max().item() + (norm(second[:2])[0] - kept[:2]).abs().max().item()
    yield Finding("later batches change nothing", same < 1e-4, f"The same images came out {same:.3g} apart.",
                  _norm_looks_again.__doc__)
    jacobian = torch.autograd.functional.jacobian(lambda v: norm(v[None])[0].flatten(), first[0])
    exact = torch.linalg.slogdet(jacobian.reshape(18, 18)).logabsdet.item()
    yield Finding("log_det is that of whole images", abs(exact - log_det[0].item()) < 1e-2,
                  f"It says {log_det[0].item():.2f}, autograd {exact:.2f}.",
                  _norm_one_pixel.__doc__)
    names = [name for name, _ in norm.named_parameters()]
    yield Finding("scale and shift are weights that can be trained", len(names) >= 2, f"Its weights: {names}.",
                  _norm_saves_nothing.__doc__)
    loaded = build(2)
    loaded.load_state_dict(norm.state_dict())
    with torch.no_grad():
        apart = (loaded(second)[0] - kept).abs().max().item()
    yield Finding("saved and loaded, it answers as before", apart < 1e-4,
                  f"After loading, the same images came out {apart:.3g} apart.", _norm_forgets.__doc__)


EXERCISES = (
    Exercise("6.1", 1, other_unit, kind="predict", options=("rise", "fall", "stay"),
             reason="A density is probability per length. The numbers shrink by 1,000, so all the mass lies within a "
                    "thousandth of the length, and the density grows by 1,000: −log p falls by log 1000 = 6.9 nats."),
    Exercise("6.2", 2, log_prob_of_raw, _raw_probes,
             wrong=(_raw_forgotten, _raw_sign, _raw_mean, _raw_inverse, _raw_no_log)),
    Exercise("6.3", 3, couple, _couple_probes,
             wrong=(_couple_same_sign, _couple_scale_first, _couple_mean, _couple_first_half, _couple_plain_scale,
                    _couple_batch_sum)),
    Exercise("6.4", 4, planar_flow, kind="build", trial=_flow_trial,
             wrong=(_flow_without_log_det, _flow_wrong_sign, _flow_samples_the_base, _flow_is_a_gaussian,
                    _flow_too_large)),
    Exercise("6.5", 2, jacobi_pass, _jacobi_probes,
             wrong=(_jacobi_transposed, _jacobi_from_z, _jacobi_sign, _jacobi_solved)),
    Exercise("6.6", 2, bits_from_density, _bits_probes,
             wrong=(_bits_nats, _bits_no_bin, _bits_one_less, _bits_bin_once, _bits_minus, _bits_sign)),
    Exercise("6.7", 2, first_look, _look_probes,
             wrong=(_look_shift_unscaled, _look_scale_up, _look_variance, _look_one_for_all, _look_over_batch_only)),
    Exercise("6.8", 1, mixing_log_det, _mixing_probes,
             wrong=(_mixing_one_pixel, _mixing_sides, _mixing_overflow, _mixing_no_abs, _mixing_power)),
    Exercise("6.9", 1, likelier, kind="predict", options=("samples", "data", "same"),
             reason="The difference is H(p) + KL(p‖q) − H(q). The broad model has so much entropy of its own that its "
                    "samples lie where its density is low, while the data sit at its top."),
    Exercise("6.10", 2, remembering_norm, kind="build", trial=_norm_trial,
             wrong=(_norm_forgets, _norm_looks_again, _norm_saves_nothing, _norm_one_pixel)),
)
