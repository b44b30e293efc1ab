"""Exercises of chapter 04 about bounds: the ELBO from raw numbers, a tighter one, and a bug in one."""

import math

import torch
from torch import nn

from course_utils.exercises import Exercise, Probe
from course_utils.exercises.ch04_codes import gaussians, kl_to_standard_normal

D = torch.float64


# -------------------------------------------------------------------------------------------- the ELBO from raw numbers
def bernoulli_elbo(x, logits, mu, log_var):
    """One-draw ELBO of a VAE with binary pixels.

    x: (B, D), zeros and ones (as floats).
    logits: (B, D), the decoder's output for one draw of z: probability of ink =
    sigmoid(logits). May be large.
    mu, log_var: (B, L), the encoder's output.
    Returns (B,): log p(x | z) - KL(q(z|x) || N(0, I)), in nats, one per image.
    """
    reconstruction = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return reconstruction - kl_to_standard_normal(mu, log_var)


def _elbo_sign(x, logits, mu, log_var):
    """The sign is turned: this is the negative ELBO, the loss."""
    return -bernoulli_elbo(x, logits, mu, log_var)


def _elbo_pixel_mean(x, logits, mu, log_var):
    """Sum over the pixels; a mean makes the reconstruction D times too small against the KL."""
    nll = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").mean(1)
    return -nll - kl_to_standard_normal(mu, log_var)


def _elbo_plus_kl(x, logits, mu, log_var):
    """The KL is a price: subtract it."""
    return bernoulli_elbo(x, logits, mu, log_var) + 2 * kl_to_standard_normal(mu, log_var)


def _elbo_no_sigmoid(x, logits, mu, log_var):
    """logits are no probabilities yet: the chance of ink is sigmoid(logits)."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_overflow(x, logits, mu, log_var):
    """sigmoid(800) is exactly 1 in floating point, and log(0) is −inf: use a function that takes logits."""
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_of_probabilities(x, logits, mu, log_var):
    """torch's loss of *probabilities* ends at 100 nats a pixel. Use the one that takes logits."""
    nll = nn.functional.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(1)  # ends at 100 a pixel
    return -nll - kl_to_standard_normal(mu, log_var)


def _elbo_clamped_probabilities(x, logits, mu, log_var):
    """The clamp stops the cost of a pixel early. Use a function that takes logits; it needs no clamp."""
    p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_padded_log(x, logits, mu, log_var):
    """The small number inside the logarithm stops the cost of a pixel early. Use a function that takes logits."""
    p = logits.sigmoid()
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_clamped_logits(x, logits, mu, log_var):
    """The clamp stops the cost of a pixel early. A function that takes logits needs none."""
    return bernoulli_elbo(x, logits.clamp(-20, 20), mu, log_var)


def _elbo_twice_the_sigmoid(x, logits, mu, log_var):
    """The function takes *logits*: give it the logits as they are, without a sigmoid before."""
    return bernoulli_elbo(x, logits.sigmoid(), mu, log_var)


def _elbo_without_kl(x, logits, mu, log_var):
    """This is the reconstruction alone. Subtract the KL."""
    return bernoulli_elbo(x, logits, mu, log_var) + kl_to_standard_normal(mu, log_var)


def _elbo_kl_twice(x, logits, mu, log_var):
    """The KL has a factor one half."""
    return bernoulli_elbo(x, logits, mu, log_var) - kl_to_standard_normal(mu, log_var)


def _elbo_kl_mean(x, logits, mu, log_var):
    """Sum the KL over the latents; no mean anywhere."""
    n_latents = mu.shape[1]
    return bernoulli_elbo(x, logits, mu, log_var) + (1 - 1 / n_latents) * kl_to_standard_normal(mu, log_var)


def _elbo_squared_error(x, logits, mu, log_var):
    """Binary pixels pay −log p, the cross-entropy, not a squared error."""
    return -(x - logits.sigmoid()).square().sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_batch_mean(x, logits, mu, log_var):
    """Keep one number for each image: no mean over the batch."""
    return bernoulli_elbo(x, logits, mu, log_var).mean()


def _elbo_only_ink(x, logits, mu, log_var):
    """A white pixel counts as well: it has the probability 1 − p."""
    return (x * nn.functional.logsigmoid(logits)).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_probes(generator):
    x = (torch.rand(3, 6, generator=generator) < 0.5).to(D)
    logits = torch.randn(3, 6, generator=generator, dtype=D).round(decimals=2)
    mu, log_var = gaussians(generator, 3, 2)
    zero = torch.zeros(3, 2, dtype=D)
    sure = (2 * x - 1) * 800.0
    one_wrong = torch.cat([-sure[:, :1], sure[:, 1:]], 1)
    return [
        Probe("undecided pixels cost log 2 each", (x, torch.zeros_like(x), zero, zero),
              "With logits 0 every pixel has probability 1/2, and the KL is zero: the answer is -6 log 2."),
        Probe("only the code costs where every pixel is sure and right", (x, sure, mu, log_var),
              "The reconstruction is 0, so minus the KL is left. sigmoid(800) is exactly 1 in floating point: use a "
              "function that takes logits."),
        Probe("reconstruction minus the price of the code", (x, logits, mu, log_var),
              "log p(x|z) sums x log p + (1 - x) log(1 - p) over pixels; subtract the KL."),
        Probe("one pixel is sure and wrong: it costs its logit, 800 nats", (x, one_wrong, mu, log_var),
              "A clamp, a small number inside the log, or a loss that takes probabilities stops the cost early: use a "
              "function that takes logits."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ a tighter bound
def iwae_bound(log_weights):
    """The importance-weighted bound from logarithms of weights.

    log_weights: (k, B), log of p(x, z_i) / q(z_i | x) for k draws; may be far below -1,000.
    Returns (B,): log of the mean weight over the k draws, in nats.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def _iwae_elbo(log_weights):
    """You averaged the logarithms: that is the ELBO. Average the weights, then take the logarithm."""
    return log_weights.mean(0)


def _iwae_forgets_k(log_weights):
    """This is the sum of the weights. Their mean is the sum divided by k: subtract log k."""
    return log_weights.logsumexp(0)


def _iwae_underflow(log_weights):
    """exp(-5000) is 0 in floating point: use torch.logsumexp."""
    return log_weights.exp().mean(0).log()


def _iwae_wrong_axis(log_weights):
    """You averaged over the images. The draws stand in the first dimension."""
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def _iwae_max(log_weights):
    """This is the largest weight alone. The mean adds up all of them, and divides by k."""
    return log_weights.amax(0)


def _iwae_shifted(log_weights, shift):
    return shift + (log_weights - shift).exp().mean(0).log()


def _iwae_global_max(log_weights):
    """You subtract one number from all images. It must be the largest log-weight of that image's own draws: use
    logsumexp.
    """
    return _iwae_shifted(log_weights, log_weights.max())


def _iwae_minus_min(log_weights):
    """What you subtract before exp is too small, and exp overflows. It must be the largest log-weight of that image's
    own draws: use logsumexp.
    """
    return _iwae_shifted(log_weights, log_weights.amin(0))


def _iwae_weight(log_weights):
    """This is the mean weight itself. Its logarithm was asked for."""
    return iwae_bound(log_weights).exp()


def _iwae_adds_log_k(log_weights):
    """Dividing by k *subtracts* log k."""
    return log_weights.logsumexp(0) + math.log(len(log_weights))


def _iwae_divides_the_logarithm(log_weights):
    """k divides the sum of the weights, so inside the logarithm: subtract log k instead of dividing by k."""
    return log_weights.logsumexp(0) / len(log_weights)


def _iwae_one_number(log_weights):
    """Keep one bound for each image: the logarithm of a mean over the k draws, no mean over the images."""
    return iwae_bound(log_weights).mean()


def _iwae_softmax_weighted(log_weights):
    """These are log-weights averaged with their own shares. The bound is the logarithm of the plain mean weight."""
    return (log_weights.softmax(0) * log_weights).sum(0)


def _iwae_probes(generator):
    logs = torch.randn(5, 3, generator=generator, dtype=D).round(decimals=2)
    uneven = torch.tensor([[-4100.0, -9000.0], [-100.0, -3000.0], [-101.0, -3001.0]], dtype=D)
    return [
        Probe("equal weights: the bound is that weight", (torch.full((4, 3), -2.0, dtype=D),), "Divide by k."),
        Probe("the logarithm of the mean, not the mean of logarithms", (3 * logs,),
              "Average the weights, then take the log."),
        Probe("survives weights of e^-5000", (logs - 5_000.0,), "exp(-5000) is 0 in floating point: use logsumexp."),
        Probe("survives draws and images that are thousands of nats apart", (uneven,),
              "What you subtract before exp must be the largest log-weight of that image's own draws: use logsumexp."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- find the bug
def negative_elbo(x, x_hat, mu, log_var, scale):
    """Negative ELBO of a VAE with decoder N(x_hat, scale^2) per pixel, up to the constant D/2
    log(2 pi scale^2).

    x, x_hat: (B, D); mu, log_var: (B, L), the encoder's output.
    scale: the decoder's standard deviation, a positive number.
    Returns a scalar: summed over pixels and latents, averaged over the batch, in nats.
    """
    reconstruction = (x - x_hat).square().sum(1) / (2 * scale**2)
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return (reconstruction + kl).mean()


def _bug_as_printed(x, x_hat, mu, log_var, scale):
    """This is the code as it was printed. Look at three things: what is averaged over the pixels, which factor is
    missing, and where the decoder's scale enters.
    """
    return ((x - x_hat).square().mean() + (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_pixels_only(x, x_hat, mu, log_var, scale):
    """The KL of (4.7) has a factor one half."""
    return ((x - x_hat).square().sum(1) / (2 * scale**2) + (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_half_only(x, x_hat, mu, log_var, scale):
    """The reconstruction is averaged over pixels and images. Sum over the pixels, and divide by 2 scale²."""
    return ((x - x_hat).square().mean() + 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_no_scale(x, x_hat, mu, log_var, scale):
    """A Gaussian charges (x − x_hat)² / (2 scale²): the decoder's scale is missing."""
    return ((x - x_hat).square().sum(1) + 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_sums_batch(x, x_hat, mu, log_var, scale):
    """Average over the batch; sum only over pixels and latents."""
    return negative_elbo(x, x_hat, mu, log_var, scale) * len(x)


def _bug_keeps_constant(x, x_hat, mu, log_var, scale):
    """Leave out the constant D/2 log(2π scale²), as the docstring says."""
    return negative_elbo(x, x_hat, mu, log_var, scale) + x.shape[1] / 2 * math.log(2 * math.pi * scale**2)


def _bug_scale_not_squared(x, x_hat, mu, log_var, scale):
    """The square of the scale divides: 2 scale², not 2 scale."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return ((x - x_hat).square().sum(1) / (2 * scale) + kl).mean()


def _bug_forgets_two(x, x_hat, mu, log_var, scale):
    """A Gaussian charges (x − x_hat)² / (2 scale²): the 2 is missing."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return ((x - x_hat).square().sum(1) / scale**2 + kl).mean()


def _bug_positive(x, x_hat, mu, log_var, scale):
    """The sign is turned: the *negative* ELBO is a loss, and positive."""
    return -negative_elbo(x, x_hat, mu, log_var, scale)


def _bug_subtracts_the_kl(x, x_hat, mu, log_var, scale):
    """In the negative ELBO the KL is added: both terms are costs."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return ((x - x_hat).square().sum(1) / (2 * scale**2) - kl).mean()


def _bug_mean_over_latents(x, x_hat, mu, log_var, scale):
    """Sum the KL over the latents; do not average."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).mean(1)
    return ((x - x_hat).square().sum(1) / (2 * scale**2) + kl).mean()


def _bug_mean_over_pixels(x, x_hat, mu, log_var, scale):
    """The KL and the scale are right. Sum the squared error over the pixels; do not average."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return ((x - x_hat).square().mean(1) / (2 * scale**2) + kl).mean()


def _bug_each_image(x, x_hat, mu, log_var, scale):
    """Average over the batch at the end: one number."""
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return (x - x_hat).square().sum(1) / (2 * scale**2) + kl


def _bug_probes(generator):
    x, x_hat = torch.rand(2, 3, 8, generator=generator, dtype=D).round(decimals=2)
    mu, log_var = gaussians(generator, 3, 2)
    zero = torch.zeros(3, 2, dtype=D)
    return [
        Probe("a perfect picture from a code equal to the prior costs nothing", (x[:1], x[:1], zero[:1], zero[:1], 0.5),
              "Every term is 0 here. Leave out the constant D/2 log(2 pi scale^2)."),
        Probe("the reconstruction alone, sigma = 1", (x, x_hat, zero, zero, 1.0),
              "A Gaussian charges (x - x_hat)^2 / (2 sigma^2) for each pixel. Sum over the pixels."),
        Probe("the price of the code alone", (x, x, mu, log_var, 1.0), "The KL of (4.7) has a factor one half."),
        Probe("a small sigma makes errors expensive", (x, x_hat, mu, log_var, 0.1), "Divide by 2 scale^2."),
    ]  # fmt: skip


BERNOULLI_ELBO = Exercise(
    "4.4", 2, bernoulli_elbo, _elbo_probes,
    (_elbo_sign, _elbo_pixel_mean, _elbo_plus_kl, _elbo_no_sigmoid, _elbo_overflow, _elbo_of_probabilities,
     _elbo_clamped_probabilities, _elbo_padded_log, _elbo_clamped_logits, _elbo_twice_the_sigmoid, _elbo_without_kl,
     _elbo_kl_twice, _elbo_kl_mean, _elbo_squared_error, _elbo_batch_mean, _elbo_only_ink),
)  # fmt: skip
IWAE_BOUND = Exercise(
    "4.5", 2, iwae_bound, _iwae_probes,
    (_iwae_elbo, _iwae_forgets_k, _iwae_underflow, _iwae_wrong_axis, _iwae_max, _iwae_global_max, _iwae_minus_min,
     _iwae_weight, _iwae_adds_log_k, _iwae_divides_the_logarithm, _iwae_one_number, _iwae_softmax_weighted),
)  # fmt: skip
NEGATIVE_ELBO = Exercise(
    "4.7", 2, negative_elbo, _bug_probes,
    (_bug_as_printed, _bug_pixels_only, _bug_half_only, _bug_no_scale, _bug_sums_batch, _bug_keeps_constant,
     _bug_scale_not_squared, _bug_forgets_two, _bug_positive, _bug_subtracts_the_kl, _bug_mean_over_latents,
     _bug_mean_over_pixels, _bug_each_image),
)  # fmt: skip
