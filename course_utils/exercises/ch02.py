"""Exercises of chapter 02: autoregressive models."""

import math

import torch
from torch.nn import functional as F

from course_utils.exercises import Exercise, Probe
from course_utils.exercises.ch02_build import MASKED_NETWORK
from course_utils.exercises.ch02_masks import BLIND_SPOT, CAUSAL_LOGITS, PIXEL_MASK

D = torch.float64


# --------------------------------------------------------------------------------------------------- the log-likelihood
def log_likelihood(logits, x):
    """log p(x) of binary images, from the logits of p(x_i = 1 | the pixels before i).

    logits: (B, D), any size: a very sure model has logits of a thousand.
    x: (B, D), entries 0 or 1.
    Returns (B,): nats, one number an image.
    """
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def _likelihood_mean(logits, x):
    """Sum over the pixels: a mean is the number of pixels times too small."""
    return log_likelihood(logits, x) / x.shape[1]


def _likelihood_negative(logits, x):
    """The sign is turned. log p(x) is never positive here; (2.3) is its negative."""
    return -log_likelihood(logits, x)


def _likelihood_overflows(logits, x):
    """sigmoid(1000) is exactly 1 in floating point, and log(1 − 1) is −inf. Use a function that takes logits, such as
    F.logsigmoid.
    """
    p = torch.sigmoid(logits)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1)


def _likelihood_only_ink(logits, x):
    """A white pixel counts as well: it has the probability 1 − p."""
    return (x * F.logsigmoid(logits)).sum(1)


def _likelihood_in_bits(logits, x):
    """This is in bits. Nats need the natural logarithm."""
    return log_likelihood(logits, x) / math.log(2)


def _likelihood_clamped(logits, x):
    """The clamp stops the cost of a pixel early. Use a function that takes logits; it needs no clamp."""
    p = torch.sigmoid(logits).clamp(1e-7, 1 - 1e-7)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1)


def _likelihood_of_probabilities(logits, x):
    """torch's loss of *probabilities* ends at 100 nats a pixel. Use the one that takes logits."""
    return -F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="none").sum(1)


def _likelihood_ink_exchanged(logits, x):
    """Ink and white are exchanged: sigmoid(a) is the chance that the pixel is 1."""
    return log_likelihood(-logits, x)


def _likelihood_one_number(logits, x):
    """Keep one number for each image: sum over the pixels only, sum(1)."""
    return log_likelihood(logits, x).sum()


def _likelihood_probes(generator):
    logits = torch.randn(4, 9, generator=generator, dtype=D).round(decimals=2)
    x = torch.rand(4, 9, generator=generator).round().to(D)
    sure = torch.tensor([[1000.0, -1000.0], [1000.0, -1000.0]], dtype=D)
    return [
        Probe("a logit of 0 costs log 2 a pixel", (torch.zeros(2, 5, dtype=D), x[:2, :5]),
              "At p = 1/2 every pixel costs log 2, whatever it is, so five cost 5 log 2."),
        Probe("one pixel of ink, at a logit of 1", (torch.ones(1, 1, dtype=D), torch.ones(1, 1, dtype=D)),
              "The logarithm of sigmoid(1)."),
        Probe("one number an image, in nats", (logits, x),
              "Sum the logarithms of the pixels. A pixel of 0 has probability 1 - p, and counts as well."),
        Probe("a sure model that is right pays nothing, one that is wrong pays its logit",
              (sure, torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=D)),
              "sigmoid(1000) is exactly 1 in floating point, and log(1 - 1) is -inf. Use logsigmoid."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ an ensemble of orders
def mixture_of_orders(log_probs):
    """log of the mean over K orders of p_k(x).

    log_probs: (K, B), log p_k(x) in nats; often near -100, sometimes near -10,000.
    Returns (B,).
    """
    return torch.logsumexp(log_probs, 0) - math.log(len(log_probs))


def _mixture_mean_of_logs(log_probs):
    """You averaged the logarithms. Average the probabilities, and take the logarithm at the end."""
    return log_probs.mean(0)


def _mixture_forgets_k(log_probs):
    """This is the sum over the orders. Their mean is the sum divided by K: subtract log K."""
    return torch.logsumexp(log_probs, 0)


def _mixture_underflows(log_probs):
    """exp(-10000) is 0 in floating point. torch.logsumexp stays in logarithms."""
    return log_probs.exp().mean(0).log()


def _mixture_best(log_probs):
    """This is the best order alone. The mean adds up all of them, and divides by K."""
    return log_probs.max(0).values


def _mixture_wrong_axis(log_probs):
    """You averaged over the images. The orders stand in the first dimension."""
    return torch.logsumexp(log_probs, 1) - math.log(log_probs.shape[1])


def _mixture_around(log_probs, level):
    return level + (log_probs - level).exp().mean(0).log()


def _mixture_one_level(log_probs):
    """You subtract one number from all images. It must be the largest of that image's own orders: use logsumexp."""
    return _mixture_around(log_probs, log_probs.max())


def _mixture_level_too_low(log_probs):
    """What you subtract before exp must be the *largest* of that image's orders, so that nothing overflows."""
    return _mixture_around(log_probs, log_probs.amin(0))


def _mixture_probability(log_probs):
    """This is the mean probability itself. Its logarithm was asked for."""
    return mixture_of_orders(log_probs).exp()


def _mixture_adds_log_k(log_probs):
    """Dividing by K *subtracts* log K."""
    return torch.logsumexp(log_probs, 0) + math.log(len(log_probs))


def _mixture_divides_the_logarithm(log_probs):
    """K divides the sum of the probabilities, so inside the logarithm: subtract log K instead of dividing by K."""
    return torch.logsumexp(log_probs, 0) / len(log_probs)


def _mixture_probes(generator):
    scores = (3 * torch.randn(4, 6, generator=generator, dtype=D)).round(decimals=2)
    uneven = torch.tensor([[-9000.0, -100.0, 0.0], [-9001.0, -3000.0, -800.0], [-9900.0, -101.0, -2.0]], dtype=D)
    return [
        Probe("orders that agree change nothing", (scores[:1].repeat(5, 1),),
              "The mean of equal numbers is that number: divide by the number of orders."),
        Probe("the mean of the probabilities, as a logarithm", (scores - 4,),
              "Average the probabilities, not their logarithms."),
        Probe("one mean for each image", (scores[:, :2],), "Sum over orders, which stand in the first dimension."),
        Probe("survives log-probabilities near -10,000", (scores - 1e4,),
              "exp(-10000) is 0 in floating point. torch.logsumexp stays in logarithms."),
        Probe("survives orders and images that are thousands of nats apart", (uneven,),
              "What you subtract before exp must be the largest of that image's own orders: use torch.logsumexp."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ one step of cached sampling
def cached_step(above, left, x, weight):
    """One causal convolution, kind B, at one new pixel, from what is remembered.

    above: (n, n_out), what the rows above and the bias contribute; it was computed when the
    row began.
    left: (n, r, n_in), the r inputs to the left, the nearest one last.
    x: (n, n_in), the input at the new pixel.
    weight: (n_out, n_in, r + 1), the kernel's own row from left to right; the last entry
    belongs to the new pixel.
    Returns two tensors: the output (n, n_out), and the memory for the next pixel (n, r, n_in).
    """
    window = torch.cat([left, x[:, None]], 1)
    return above + torch.einsum("nri,oir->no", window, weight), window[:, 1:]


def _step_forgets_above(above, left, x, weight):
    """What the rows above contribute is missing: add `above`."""
    window = torch.cat([left, x[:, None]], 1)
    return torch.einsum("nri,oir->no", window, weight), window[:, 1:]


def _step_keeps_memory(above, left, x, weight):
    """The memory has to move on: drop the oldest input and append the new one."""
    return cached_step(above, left, x, weight)[0], left


def _step_flipped(above, left, x, weight):
    """The kernel runs the wrong way: the oldest input meets weight[:, :, 0], the new pixel weight[:, :, -1]."""
    return cached_step(above, left, x, weight.flip(2))[0], cached_step(above, left, x, weight)[1]


def _step_new_first(above, left, x, weight):
    """The nearest input stands last in the memory: append the new one at its end."""
    return cached_step(above, left, x, weight)[0], torch.cat([x[:, None], left[:, :-1]], 1)


def _step_without_itself(above, left, x, weight):
    """In a convolution of kind B the new pixel sees itself: its weight is the last of the kernel."""
    return above + torch.einsum("nri,oir->no", left, weight[:, :, :-1]), cached_step(above, left, x, weight)[1]


def _step_memory_grows(above, left, x, weight):
    """The memory keeps r inputs: drop the oldest when the new one is appended."""
    return cached_step(above, left, x, weight)[0], torch.cat([left, x[:, None]], 1)


def _step_new_pixel_alone(above, left, x, weight):
    """The remembered inputs to the left are not used: they meet the other entries of the kernel."""
    return above + x @ weight[:, :, -1].T, cached_step(above, left, x, weight)[1]


def _step_mean_for_sum(above, left, x, weight):
    """A convolution *adds up* what its window holds; it does not average."""
    output, memory = cached_step(above, left, x, weight)
    return above + (output - above) / weight.shape[2], memory


def _step_remembers_output(above, left, x, weight):
    """The memory holds *inputs*: append x, not the output."""
    output, _ = cached_step(above, left, x, weight)
    new = output[:, : x.shape[1]] if output.shape[1] >= x.shape[1] else F.pad(output, (0, x.shape[1] - output.shape[1]))
    return output, torch.cat([left[:, 1:], new[:, None]], 1)


def _step_probes(generator):
    def some(*shape):
        return torch.randn(*shape, generator=generator, dtype=D).round(decimals=2)

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


# ------------------------------------------------------------------------------------------ drawing, at any temperature
def sample_pixels(weight, bias, uniforms, temperature):
    """Draw images from logistic pixels, a_i = b_i + sum over j < i of w_ij x_j, one pixel
    after the other.

    weight: (D, D), zero on and above its diagonal.
    bias: (D,).
    uniforms: (B, D), the random numbers: pixel i is ink where uniforms[:, i] is below its
    chance of ink.
    temperature: a number T above 0; every logit is divided by it before the pixel is drawn.
    Returns (B, D), entries 0 or 1.
    """
    x = torch.zeros_like(uniforms)
    for i in range(len(bias)):
        logits = bias[i] + x @ weight[i]
        x[:, i] = (uniforms[:, i] < torch.sigmoid(logits / temperature)).to(x)
    return x


def _draw_all_at_once(weight, bias, uniforms, temperature):
    """You drew every pixel from its bias alone. Begin at pixel 0; pixel i has to see those drawn before it."""
    return (uniforms < torch.sigmoid(bias / temperature)).to(uniforms)


def _draw_feeds_chances(weight, bias, uniforms, temperature):
    """You fed the chances back in. A pixel is decided, 0 or 1, before the next one looks at it."""
    p = torch.zeros_like(uniforms)
    for i in range(len(bias)):
        p[:, i] = torch.sigmoid((bias[i] + p @ weight[i]) / temperature)
    return (uniforms < p).to(uniforms)


def _draw_without_temperature(weight, bias, uniforms, temperature):
    """The temperature is not used: divide every logit by it."""
    return sample_pixels(weight, bias, uniforms, 1.0)


def _draw_temperature_upside_down(weight, bias, uniforms, temperature):
    """You multiply by the temperature. Divide by it: a small T makes a pixel more decided."""
    return sample_pixels(weight, bias, uniforms, 1 / temperature)


def _draw_tempers_the_bias(weight, bias, uniforms, temperature):
    """Divide the *whole* logit by T, bias and weighted pixels together."""
    return sample_pixels(weight, bias / temperature, uniforms, 1.0)


def _draw_without_chance(weight, bias, uniforms, temperature):
    """A pixel is drawn, not decided: ink where its random number is below its chance, however small that is."""
    return sample_pixels(weight, bias, torch.full_like(uniforms, 0.5), temperature)


def _draw_sign(weight, bias, uniforms, temperature):
    """The sign of the logit is turned: the chance of ink is sigmoid(a), larger for a larger logit."""
    return sample_pixels(-weight, -bias, uniforms, temperature)


def _draw_cools_the_chance(weight, bias, uniforms, temperature):
    """p^(1/T) has to be normalised: for a pixel that means to divide the *logit* by T, then apply the sigmoid."""
    x = torch.zeros_like(uniforms)
    for i in range(len(bias)):
        p = torch.sigmoid(bias[i] + x @ weight[i]) ** (1 / temperature)
        x[:, i] = (uniforms[:, i] < p).to(x)
    return x


def _draw_nearest_only(weight, bias, uniforms, temperature):
    """Pixel i sees *all* pixels before it, not only the nearest."""
    return sample_pixels(weight * torch.ones_like(weight).tril(-1).triu(-1), bias, uniforms, temperature)


def _draw_white_for_ink(weight, bias, uniforms, temperature):
    """Ink is where the random number is *below* the chance of ink."""
    return sample_pixels(weight, bias, 1 - uniforms, temperature)


def _draw_probes(generator):
    weight = (2 * torch.randn(9, 9, generator=generator, dtype=D)).round(decimals=1).tril(-1)
    bias = torch.randn(9, generator=generator, dtype=D).round(decimals=1)
    uniforms = torch.rand(64, 9, generator=generator, dtype=D)
    half = torch.tensor([[0.1, 0.4, 0.6, 0.9]], dtype=D)
    chain = torch.zeros(6, 6, dtype=D)
    chain[range(1, 6), range(5)] = 80.0
    copies = torch.full((6,), -40.0, dtype=D)
    copies[0] = 0
    return [
        Probe("without weights a pixel is ink where its random number is below its chance",
              (torch.zeros(4, 4, dtype=D), torch.zeros(4, dtype=D), half, 1.0),
              "The chance of ink is sigmoid(0) = 1/2: ink where the random number is below that."),
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


# ------------------------------------------------------------------------------------------------------ a guess, first
def cost_of_half_size():
    """Digits half as large, with a wide margin: the model has never seen one. What will it say
    of them?

    On average they cost "more bits" than the digits of the test set, or "fewer bits". Returns
    one of the two texts.
    """
    return "fewer bits"


EXERCISES = (
    Exercise("2.1", 1, log_likelihood, _likelihood_probes,
             (_likelihood_mean, _likelihood_negative, _likelihood_overflows, _likelihood_only_ink, _likelihood_in_bits,
              _likelihood_clamped, _likelihood_of_probabilities, _likelihood_ink_exchanged, _likelihood_one_number)),
    Exercise("2.2", 1, mixture_of_orders, _mixture_probes,
             (_mixture_mean_of_logs, _mixture_forgets_k, _mixture_underflows, _mixture_best, _mixture_wrong_axis,
              _mixture_one_level, _mixture_level_too_low, _mixture_probability, _mixture_adds_log_k,
              _mixture_divides_the_logarithm)),
    MASKED_NETWORK,
    PIXEL_MASK,
    BLIND_SPOT,
    Exercise("2.6", 2, cached_step, _step_probes,
             (_step_forgets_above, _step_keeps_memory, _step_flipped, _step_new_first, _step_without_itself,
              _step_memory_grows, _step_new_pixel_alone, _step_mean_for_sum, _step_remembers_output)),
    Exercise("2.7", 2, sample_pixels, _draw_probes,
             (_draw_all_at_once, _draw_feeds_chances, _draw_without_temperature, _draw_temperature_upside_down,
              _draw_tempers_the_bias, _draw_white_for_ink, _draw_without_chance, _draw_cools_the_chance,
              _draw_nearest_only, _draw_sign)),
    Exercise("2.8", 1, cost_of_half_size, kind="predict", options=("more bits", "fewer bits"),
             reason="A cost is paid where something is uncertain. A small digit leaves fewer decisions to make, and "
                    "the margin, which is most of the image, is predicted for almost nothing."),
    CAUSAL_LOGITS,
)  # fmt: skip
