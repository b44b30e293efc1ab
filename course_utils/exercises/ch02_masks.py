"""Exercises of chapter 02 about what a pixel may see: masks, blind spots and a leak."""

import torch
from torch.nn import functional as F

from course_utils.exercises import Exercise, Probe

D = torch.float64


# --------------------------------------------------------------------------------------------------------------- a mask
def pixel_mask(size, sees_itself):
    """The mask of a causal convolution on grey images: 1 where the kernel may look, 0
    elsewhere.

    size: odd, the side of the kernel.
    sees_itself: False for kind A, True for kind B.
    Returns (size, size), floats. The pixel that is being predicted lies under the centre.
    """
    mask = torch.zeros(size * size)
    mask[: size * size // 2 + int(sees_itself)] = 1
    return mask.view(size, size)


def _mask_other_kind(size, sees_itself):
    """A and B are exchanged: B sees the centre, A does not."""
    return pixel_mask(size, not sees_itself)


def _mask_left_half(size, sees_itself):
    """Reading order is row by row: of the rows above everything has been read, to the right as well; of the rows below
    nothing.
    """
    mask = torch.zeros(size, size)
    mask[:, : size // 2] = 1
    mask[size // 2, size // 2] = float(sees_itself)
    return mask


def _mask_only_above(size, sees_itself):
    """In its own row a pixel sees what is left of it."""
    mask = pixel_mask(size, sees_itself)
    mask[size // 2, : size // 2] = 0
    return mask


def _mask_upper_left(size, sees_itself):
    """Of the rows above everything has been read, also what lies to the right."""
    mask = torch.zeros(size, size)
    mask[: size // 2 + 1, : size // 2 + 1] = 1
    mask[size // 2, size // 2] = float(sees_itself)
    return mask


def _mask_columns_first(size, sees_itself):
    """This reads column by column. Reading order is row by row: rows above first, then what is left."""
    return pixel_mask(size, sees_itself).T


def _mask_of_the_future(size, sees_itself):
    """This is what comes later. The kernel may look at what comes *before*: above, and to the left."""
    return pixel_mask(size, sees_itself).flip(0, 1)


def _mask_always_b(size, sees_itself):
    """The centre belongs to the mask only where `sees_itself` is true."""
    return pixel_mask(size, True)


def _mask_probes(generator):
    order = torch.randperm(12, generator=generator)[:3].tolist()
    probes = [
        Probe("kind A of side 3: four ones", (3, False),
              "The three pixels above, and the one to the left."),
        Probe("kind A, where a pixel must not see itself", (5, False),
              "Rows above: everything, to the right as well. Own row: only what is left of the centre."),
        Probe("kind B, where the centre is seen", (5, True), "B is A plus the centre itself."),
        Probe("the smallest kernel", (1, True), "A kernel of side 1 sees only itself, if anything."),
        *(Probe("other sizes", (3 + 2 * k, bool(k % 2))) for k in order),
    ]  # fmt: skip
    return probes


# --------------------------------------------------------------------------------------------------------- a blind spot
def blind_spot(gradient, row, column):
    """Which pixels should a pixel see, and does not?

    gradient: (H, W), derivative of the answer for pixel (row, column) with respect to every
    input pixel.
    row, column: the pixel that is being predicted.
    Returns (H, W), booleans: true for the pixels that come earlier in reading order but have
    no influence at all.
    """
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[1] + column) & (gradient == 0)


def _blind_everything_unseen(gradient, row, column):
    """Pixels that come later, and the pixel itself, must not be seen: they are not blind spots."""
    return gradient == 0


def _blind_with_itself(gradient, row, column):
    """The pixel itself must not be seen, so it is no blind spot."""
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position <= row * gradient.shape[1] + column) & (gradient == 0)


def _blind_upper_left(gradient, row, column):
    """Rows above are read to their end before the pixel is reached: their right part counts too."""
    i, j = torch.meshgrid(*(torch.arange(n) for n in gradient.shape), indexing="ij")
    before = (i <= row) & (j <= column) & ~((i == row) & (j == column))
    return before & (gradient == 0)


def _blind_negative_too(gradient, row, column):
    """A negative derivative is influence as well. Only a derivative of exactly 0 is none."""
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[1] + column) & (gradient <= 0)


def _blind_rows_above(gradient, row, column):
    """The pixels to the left in its own row come earlier too."""
    i = torch.arange(gradient.shape[0])[:, None].expand_as(gradient)
    return (i < row) & (gradient == 0)


def _blind_with_a_threshold(gradient, row, column):
    """A small influence is influence: compare with exactly 0, without a threshold."""
    return blind_spot(torch.where(gradient.abs() < 1e-3, 0.0, gradient), row, column)


def _blind_that_see(gradient, row, column):
    """These are the pixels that *do* have an influence. A blind spot has none."""
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[1] + column) & (gradient != 0)


def _blind_later(gradient, row, column):
    """These come later in reading order, and must not be seen. A blind spot lies *before* the pixel."""
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position > row * gradient.shape[1] + column) & (gradient == 0)


def _blind_columns_first(gradient, row, column):
    """This reads column by column. Reading order is row by row, so the place of a pixel is row · W + column."""
    return blind_spot(gradient.T, column, row).T


def _blind_height_for_width(gradient, row, column):
    """A row has W pixels, gradient.shape[1]: the place of a pixel is row · W + column."""
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[0] + column) & (gradient == 0)


def _blind_probes(generator):
    def some(height, width, share):
        gradient = torch.randn(height, width, generator=generator, dtype=D).round(decimals=2)
        gradient = torch.where(gradient == 0, 0.01, gradient)
        return gradient * (torch.rand(height, width, generator=generator) < share)

    return [
        Probe("nothing is blind when everything is seen", (some(4, 4, 2.0) + 10, 2, 2), "A zero gradient is the sign."),
        Probe("the pixel itself is not expected to be seen", (torch.zeros(3, 4, dtype=D), 1, 1),
              "The pixel itself, and all that come after it, must not be seen, so they are not blind spots."),
        Probe("a negative derivative is influence too", (-some(4, 5, 2.0).abs() - 0.1, 2, 3), "Compare with zero."),
        Probe("a tiny derivative is influence too", (torch.full((3, 4), 1e-6, dtype=D), 2, 1),
              "Only a derivative of exactly zero is no influence: no threshold."),
        Probe("the upper right counts", (torch.zeros(4, 6, dtype=D), 3, 1),
              "Rows above are read to their end before the pixel is reached."),
        Probe("earlier pixels without influence", (some(5, 6, 0.5), 3, 2),
              "Earlier means: any row above, or the same row and further left."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the leak
def causal_logits(x, weight, bias):
    """Logits of every pixel from the k pixels before it: a one-dimensional PixelCNN of kind A.

    x: (B, D), pixels in reading order.
    weight: (k,), from the oldest of the k pixels to the nearest.
    bias: a number.
    Returns (B, D).
    """
    before = F.pad(x, (len(weight), 0))[:, :-1]
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_starting_code(x, weight, bias):
    """The last pixel in the window of output i is still x_i itself. Shift the window by one more."""
    before = F.pad(x, (len(weight) - 1, 0))
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_centred(x, weight, bias):
    """This window reaches to both sides, and so looks ahead. It must end at pixel i − 1."""
    k = len(weight)
    before = F.pad(x, (k // 2, k - 1 - k // 2))
    return before.unfold(1, k, 1) @ weight + bias


def _leak_two_back(x, weight, bias):
    """Now the window ends at i − 2. The nearest pixel, i − 1, may be seen."""
    before = F.pad(x, (len(weight) + 1, 0))[:, :-2]
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_wraps_around(x, weight, bias):
    """Before the image has begun there are zeros, not its last pixels."""
    before = torch.cat([x[:, -len(weight) :], x], 1)[:, :-1]
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_kernel_reversed(x, weight, bias):
    """The kernel runs the wrong way: weight[0] belongs to the oldest of the k pixels, the last one to x[i − 1]."""
    return causal_logits(x, weight.flip(0), bias)


def _leak_looks_ahead(x, weight, bias):
    """This window holds the pixels *after* i. It must end at pixel i − 1."""
    after = F.pad(x, (0, len(weight)))[:, 1:]
    return after.unfold(1, len(weight), 1) @ weight + bias


def _leak_without_bias(x, weight, bias):
    """The bias is missing."""
    return causal_logits(x, weight, 0.0)


def _leak_zero_for_itself(x, weight, bias):
    """Taking x_i out of the window leaves only k − 1 pixels before it. Shift the window instead."""
    before = F.pad(x, (len(weight) - 1, 0))
    kept = weight * torch.cat([torch.ones_like(weight[1:]), torch.zeros_like(weight[:1])])
    return before.unfold(1, len(weight), 1) @ kept + bias


def _leak_probes(generator):
    x = torch.rand(3, 8, generator=generator).round().to(D)
    weight = torch.tensor([0.5, -1.0, 2.0], dtype=D)
    last = torch.zeros(1, 6, dtype=D)
    last[0, -1] = 1
    return [
        Probe("the last pixel influences nothing", (last, torch.ones(2, dtype=D), -1.0),
              "Nobody comes after the last pixel, so changing it must change no logit."),
        Probe("one pixel back", (x, torch.tensor([2.0], dtype=D), 0.0),
              "With k = 1 and weight 2, output i is 2 x[i-1], and 0 at first."),
        Probe("three pixels back, weighted from the oldest to the nearest", (x, weight, 0.5),
              "Output i may see x[i-3] to x[i-1]. Which pixel stands last in its window now?"),
    ]  # fmt: skip


PIXEL_MASK = Exercise(
    "2.4", 1, pixel_mask, _mask_probes,
    (_mask_other_kind, _mask_left_half, _mask_only_above, _mask_upper_left, _mask_columns_first, _mask_of_the_future,
     _mask_always_b),
)  # fmt: skip
BLIND_SPOT = Exercise(
    "2.5", 2, blind_spot, _blind_probes,
    (_blind_everything_unseen, _blind_with_itself, _blind_upper_left, _blind_negative_too, _blind_rows_above,
     _blind_with_a_threshold, _blind_that_see, _blind_later, _blind_columns_first, _blind_height_for_width),
)  # fmt: skip
CAUSAL_LOGITS = Exercise(
    "2.9", 2, causal_logits, _leak_probes,
    (_leak_starting_code, _leak_centred, _leak_two_back, _leak_wraps_around, _leak_kernel_reversed, _leak_looks_ahead,
     _leak_without_bias, _leak_zero_for_itself),
)  # fmt: skip
