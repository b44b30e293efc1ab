"""Exercises of chapter 02: autoregressive models."""

import math

import torch
from torch.nn import functional as F

from course_utils.exercises import Exercise, Probe

D = torch.float64


# ------------------------------------------------------------------------------------------ 2.1 the log-likelihood
def log_likelihood(logits, x):
    """log p(x) of binary images, from the logits of p(x_i = 1 | the pixels before i).

    logits: (B, D), any size: a very sure model has logits of a thousand.
    x: (B, D), entries 0 or 1.
    Returns (B,): nats, one number an image.
    """
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def _likelihood_mean(logits, x):
    return log_likelihood(logits, x) / x.shape[1]


def _likelihood_negative(logits, x):
    return -log_likelihood(logits, x)


def _likelihood_overflows(logits, x):
    p = torch.sigmoid(logits)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1)


def _likelihood_only_ink(logits, x):
    return (x * F.logsigmoid(logits)).sum(1)


def _likelihood_probes(generator):
    logits = torch.randn(4, 9, generator=generator, dtype=D)
    x = torch.rand(4, 9, generator=generator).round().to(D)
    sure = torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0]], dtype=D)
    return [
        Probe("one number an image, in nats", (logits, x),
              "Sum the logarithms of the pixels. A pixel of 0 has probability 1 - p, and counts as well."),
        Probe("a logit of 0 costs log 2 a pixel", (torch.zeros(2, 5, dtype=D), x[:2, :5]),
              "At p = 1/2 every pixel costs log 2, whatever it is."),
        Probe("a sure model that is right pays nothing, one that is wrong pays its logit",
              (sure, torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=D)),
              "sigmoid(1000) is exactly 1 in floating point, and log(1 - 1) is -inf. Use logsigmoid."),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------- 2.2 an ensemble of orders
def mixture_of_orders(log_probs):
    """log of the mean over K orders of p_k(x).

    log_probs: (K, B), log p_k(x) in nats; often near -100, sometimes near -10,000.
    Returns (B,).
    """
    return torch.logsumexp(log_probs, 0) - math.log(len(log_probs))


def _mixture_mean_of_logs(log_probs):
    return log_probs.mean(0)


def _mixture_forgets_k(log_probs):
    return torch.logsumexp(log_probs, 0)


def _mixture_underflows(log_probs):
    return log_probs.exp().mean(0).log()


def _mixture_best(log_probs):
    return log_probs.max(0).values


def _mixture_wrong_axis(log_probs):
    return torch.logsumexp(log_probs, 1) - math.log(log_probs.shape[1])


def _mixture_probes(generator):
    scores = 3 * torch.randn(4, 6, generator=generator, dtype=D)
    return [
        Probe("the mean of the probabilities, as a logarithm", (scores - 4,),
              "Average the probabilities, not their logarithms."),
        Probe("orders that agree change nothing", (scores[:1].repeat(5, 1),), "Divide by the number of orders."),
        Probe("survives log-probabilities near -10,000", (scores - 1e4,),
              "exp(-10000) is 0 in floating point. torch.logsumexp stays in logarithms."),
        Probe("one mean for each image", (scores[:, :2],), "Sum over orders, which stand in the first dimension."),
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------------- 2.3 a mask
def pixel_mask(size, sees_itself):
    """The mask of a causal convolution on grey images: 1 where the kernel may look, 0 elsewhere.

    size: odd, the side of the kernel.
    sees_itself: False for kind A, True for kind B.
    Returns (size, size), floats. The pixel that is being predicted lies under the centre.
    """
    mask = torch.zeros(size * size)
    mask[: size * size // 2 + int(sees_itself)] = 1
    return mask.view(size, size)


def _mask_other_kind(size, sees_itself):
    return pixel_mask(size, not sees_itself)


def _mask_left_half(size, sees_itself):
    mask = torch.zeros(size, size)
    mask[:, : size // 2] = 1
    mask[size // 2, size // 2] = float(sees_itself)
    return mask


def _mask_only_above(size, sees_itself):
    mask = pixel_mask(size, sees_itself)
    mask[size // 2, : size // 2] = 0
    return mask


def _mask_upper_left(size, sees_itself):
    mask = torch.zeros(size, size)
    mask[: size // 2 + 1, : size // 2 + 1] = 1
    mask[size // 2, size // 2] = float(sees_itself)
    return mask


def _mask_probes(generator):
    order = torch.randperm(3, generator=generator).tolist()
    probes = [
        Probe("kind A, where a pixel must not see itself", (5, False),
              "Rows above: everything, to the right as well. Own row: only what is left of the centre."),
        Probe("kind B, where the centre is seen", (5, True), "B is A plus the centre itself."),
        Probe("the smallest kernel", (1, True), "A kernel of side 1 sees only itself, if anything."),
        *(Probe("other sizes", (3 + 2 * k, bool(k % 2))) for k in order),
    ]  # fmt: skip
    return probes


# -------------------------------------------------------------------------------------------------- 2.4 a blind spot
def blind_spot(gradient, row, column):
    """Which pixels should a pixel see, and does not?

    gradient: (H, W), derivative of the answer for pixel (row, column) with respect to every input pixel.
    row, column: the pixel that is being predicted.
    Returns (H, W), booleans: true for the pixels that come earlier in reading order but have no influence at all.
    """
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[1] + column) & (gradient == 0)


def _blind_everything_unseen(gradient, row, column):
    return gradient == 0


def _blind_with_itself(gradient, row, column):
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position <= row * gradient.shape[1] + column) & (gradient == 0)


def _blind_upper_left(gradient, row, column):
    i, j = torch.meshgrid(*(torch.arange(n) for n in gradient.shape), indexing="ij")
    before = (i <= row) & (j <= column) & ~((i == row) & (j == column))
    return before & (gradient == 0)


def _blind_negative_too(gradient, row, column):
    position = torch.arange(gradient.numel()).view_as(gradient)
    return (position < row * gradient.shape[1] + column) & (gradient <= 0)


def _blind_rows_above(gradient, row, column):
    i = torch.arange(gradient.shape[0])[:, None].expand_as(gradient)
    return (i < row) & (gradient == 0)


def _blind_probes(generator):
    def some(height, width, share):
        gradient = torch.randn(height, width, generator=generator, dtype=D)
        return gradient * (torch.rand(height, width, generator=generator) < share)

    return [
        Probe("earlier pixels without influence", (some(5, 6, 0.5), 3, 2),
              "Earlier means: any row above, or the same row and further left."),
        Probe("nothing is blind when everything is seen", (some(4, 4, 2.0) + 10, 2, 2), "A zero gradient is the sign."),
        Probe("the pixel itself is not expected to be seen", (torch.zeros(3, 4, dtype=D), 1, 1),
              "The pixel itself, and all that come after it, must not be seen, so they are not blind spots."),
        Probe("a negative derivative is influence too", (-some(4, 5, 2.0).abs() - 0.1, 2, 3), "Compare with zero."),
        Probe("the upper right counts", (torch.zeros(4, 6, dtype=D), 3, 1),
              "Rows above are read to their end before the pixel is reached."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------ 2.5 one step of cached sampling
def cached_step(above, left, x, weight):
    """One causal convolution, kind B, at one new pixel, from what is remembered.

    above: (n, n_out), what the rows above and the bias contribute; it was computed when the row began.
    left: (n, r, n_in), the r inputs to the left, the nearest one last.
    x: (n, n_in), the input at the new pixel.
    weight: (n_out, n_in, r + 1), the kernel's own row from left to right; the last entry belongs to the new pixel.
    Returns two tensors: the output (n, n_out), and the memory for the next pixel (n, r, n_in).
    """
    window = torch.cat([left, x[:, None]], 1)
    return above + torch.einsum("nri,oir->no", window, weight), window[:, 1:]


def _step_forgets_above(above, left, x, weight):
    window = torch.cat([left, x[:, None]], 1)
    return torch.einsum("nri,oir->no", window, weight), window[:, 1:]


def _step_keeps_memory(above, left, x, weight):
    return cached_step(above, left, x, weight)[0], left


def _step_flipped(above, left, x, weight):
    return cached_step(above, left, x, weight.flip(2))[0], cached_step(above, left, x, weight)[1]


def _step_new_first(above, left, x, weight):
    return cached_step(above, left, x, weight)[0], torch.cat([x[:, None], left[:, :-1]], 1)


def _step_without_itself(above, left, x, weight):
    return above + torch.einsum("nri,oir->no", left, weight[:, :, :-1]), cached_step(above, left, x, weight)[1]


def _step_probes(generator):
    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=D)

    return [
        Probe("output and memory for a kernel that reaches one pixel back",
              (some(3, 4), some(3, 1, 2), some(3, 2), some(4, 2, 2)),
              "Put the new pixel behind the remembered ones; the result is your window."),
        Probe("a longer memory, in the right order", (some(2, 3), some(2, 3, 2), some(2, 2), some(3, 2, 4)),
              "The oldest input meets weight[:, :, 0], the new pixel weight[:, :, -1]."),
        Probe("the first pixel of a row: nothing to the left",
              (some(2, 3), torch.zeros(2, 2, 1, dtype=D), some(2, 1), some(3, 1, 3)),
              "Drop the oldest input and append the newest."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------- 2.6 drawing, at any temperature
def sample_pixels(weight, bias, uniforms, temperature):
    """Draw images from logistic pixels, a_i = b_i + sum over j < i of w_ij x_j, one pixel after the other.

    weight: (D, D), zero on and above its diagonal.
    bias: (D,).
    uniforms: (B, D), the random numbers: pixel i is ink where uniforms[:, i] is below its chance of ink.
    temperature: a number T above 0; every logit is divided by it before the pixel is drawn.
    Returns (B, D), entries 0 or 1.
    """
    x = torch.zeros_like(uniforms)
    for i in range(len(bias)):
        logits = bias[i] + x @ weight[i]
        x[:, i] = (uniforms[:, i] < torch.sigmoid(logits / temperature)).to(x)
    return x


def _draw_all_at_once(weight, bias, uniforms, temperature):
    return (uniforms < torch.sigmoid(bias / temperature)).to(uniforms)


def _draw_feeds_chances(weight, bias, uniforms, temperature):
    p = torch.zeros_like(uniforms)
    for i in range(len(bias)):
        p[:, i] = torch.sigmoid((bias[i] + p @ weight[i]) / temperature)
    return (uniforms < p).to(uniforms)


def _draw_without_temperature(weight, bias, uniforms, temperature):
    return sample_pixels(weight, bias, uniforms, 1.0)


def _draw_temperature_upside_down(weight, bias, uniforms, temperature):
    return sample_pixels(weight, bias, uniforms, 1 / temperature)


def _draw_tempers_the_bias(weight, bias, uniforms, temperature):
    return sample_pixels(weight, bias / temperature, uniforms, 1.0)


def _draw_from_its_end(weight, bias, uniforms, temperature):
    x = torch.zeros_like(uniforms)
    for i in reversed(range(len(bias))):
        x[:, i] = (uniforms[:, i] < torch.sigmoid((bias[i] + x @ weight[i]) / temperature)).to(x)
    return x


def _draw_white_for_ink(weight, bias, uniforms, temperature):
    return sample_pixels(weight, bias, 1 - uniforms, temperature)


def _draw_probes(generator):
    weight = 2 * torch.randn(9, 9, generator=generator, dtype=D).tril(-1)
    bias = torch.randn(9, generator=generator, dtype=D)
    uniforms = torch.rand(64, 9, generator=generator, dtype=D)
    chain = torch.zeros(6, 6, dtype=D)
    chain[range(1, 6), range(5)] = 80.0
    copies = torch.full((6,), -40.0, dtype=D)
    copies[0] = 0
    return [
        Probe("each pixel copies the one before it, so an image is all ink or all white",
              (chain, copies, torch.rand(8, 6, generator=generator, dtype=D), 1.0),
              "Pixel i has to see the pixels that were drawn before it: as 0 or 1, not as chances."),
        Probe("the images that these random numbers give at T = 1", (weight, bias, uniforms, 1.0),
              "Ink where the random number is below the chance of ink, from the first pixel to the last."),
        Probe("T = 1/2 makes every pixel more decided", (weight, bias, uniforms, 0.5),
              "Divide the whole logit by T, then apply the sigmoid."),
        Probe("T = 3 makes every pixel less decided", (weight, bias, uniforms, 3.0),
              "Divide the whole logit by T, then apply the sigmoid."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------- 2.7 the leak
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
    before = F.pad(x, (len(weight) - 1, 0))
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_centred(x, weight, bias):
    k = len(weight)
    before = F.pad(x, (k // 2, k - 1 - k // 2))
    return before.unfold(1, k, 1) @ weight + bias


def _leak_two_back(x, weight, bias):
    before = F.pad(x, (len(weight) + 1, 0))[:, :-2]
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_wraps_around(x, weight, bias):
    before = torch.cat([x[:, -len(weight) :], x], 1)[:, :-1]
    return before.unfold(1, len(weight), 1) @ weight + bias


def _leak_probes(generator):
    x = torch.rand(3, 8, generator=generator).round().to(D)
    weight = torch.randn(3, generator=generator, dtype=D)
    last = torch.zeros(1, 6, dtype=D)
    last[0, -1] = 1
    return [
        Probe("agrees with the definition", (x, weight, 0.5),
              "Output i may see x[i-k] to x[i-1]. Which pixel stands last in its window now?"),
        Probe("the last pixel influences nothing", (last, torch.ones(2, dtype=D), -1.0),
              "Nobody comes after the last pixel, so changing it must change no logit."),
        Probe("one pixel back", (x, torch.tensor([2.0], dtype=D), 0.0),
              "With k = 1 and weight 2, output i is 2 x[i-1], and 0 at first."),
    ]  # fmt: skip


EXERCISES = (
    Exercise("2.1", 1, log_likelihood, _likelihood_probes,
             (_likelihood_mean, _likelihood_negative, _likelihood_overflows, _likelihood_only_ink)),
    Exercise("2.2", 1, mixture_of_orders, _mixture_probes,
             (_mixture_mean_of_logs, _mixture_forgets_k, _mixture_underflows, _mixture_best, _mixture_wrong_axis)),
    Exercise("2.3", 1, pixel_mask, _mask_probes,
             (_mask_other_kind, _mask_left_half, _mask_only_above, _mask_upper_left)),
    Exercise("2.4", 2, blind_spot, _blind_probes,
             (_blind_everything_unseen, _blind_with_itself, _blind_upper_left, _blind_negative_too, _blind_rows_above)),
    Exercise("2.5", 2, cached_step, _step_probes,
             (_step_forgets_above, _step_keeps_memory, _step_flipped, _step_new_first, _step_without_itself)),
    Exercise("2.6", 2, sample_pixels, _draw_probes,
             (_draw_all_at_once, _draw_feeds_chances, _draw_without_temperature, _draw_temperature_upside_down,
              _draw_tempers_the_bias, _draw_from_its_end, _draw_white_for_ink)),
    Exercise("2.7", 2, causal_logits, _leak_probes,
             (_leak_starting_code, _leak_centred, _leak_two_back, _leak_wraps_around)),
)  # fmt: skip
