"""Exercises of chapter 04: variational autoencoders."""

import math

import torch
from torch import nn

from course_utils.exercises import Exercise, Probe

D = torch.float64


def _gaussians(generator, n, n_latents):
    mu = torch.randn(n, n_latents, generator=generator, dtype=D)
    return mu, torch.randn(n, n_latents, generator=generator, dtype=D)


# ------------------------------------------------------------------------------------------ 4.1 the price of a code
def kl_to_standard_normal(mu, log_var):
    """KL(N(mu, sigma^2) || N(0, I)) of each code.

    mu, log_var: (B, L); sigma^2 = exp(log_var), latents are independent.
    Returns (B,), in nats.
    """
    return (0.5 * mu.square() + 0.5 * (log_var.exp() - log_var - 1)).sum(1)


def _kl_without_half(mu, log_var):
    return 2 * kl_to_standard_normal(mu, log_var)


def _kl_mean(mu, log_var):
    return kl_to_standard_normal(mu, log_var) / mu.shape[1]


def _kl_log_sigma(mu, log_var):
    return kl_to_standard_normal(mu, 2 * log_var)


def _kl_negative(mu, log_var):
    return -kl_to_standard_normal(mu, log_var)


def _kl_batch_mean(mu, log_var):
    return kl_to_standard_normal(mu, log_var).mean()


def _kl_probes(generator):
    mu, log_var = _gaussians(generator, 4, 3)
    zero = torch.zeros(2, 3, dtype=D)
    return [
        Probe("zero when the code is the prior", (zero, zero), "mu = 0 and sigma = 1 cost nothing."),
        Probe("one latent, mu = 2, sigma = 1: 2 nats", (torch.full((1, 1), 2.0, dtype=D), zero[:1, :1]),
              "The mean costs mu^2 / 2."),
        Probe("one latent, mu = 0, sigma = e: (e^2 - 3) / 2 nats", (zero[:1, :1], torch.full((1, 1), 2.0, dtype=D)),
              "log_var is the logarithm of the variance, so sigma^2 = exp(log_var)."),
        Probe("adds up over latents", (mu, log_var), "Sum over the last dimension; keep one number per image."),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------------- 4.2 a differentiable draw
def draw(mu, log_var, eps):
    """A draw from N(mu, sigma^2) that a gradient can pass through.

    mu, log_var: (B, L); sigma^2 = exp(log_var).
    eps: (B, L), standard normal noise, given.
    Returns z: (B, L).
    """
    return mu + (log_var / 2).exp() * eps


def _draw_variance(mu, log_var, eps):
    return mu + log_var.exp() * eps


def _draw_log(mu, log_var, eps):
    return mu + log_var * eps


def _draw_own_noise(mu, log_var, eps):
    return mu + (log_var / 2).exp() * torch.randn_like(mu)


def _draw_mean(mu, log_var, eps):
    return mu


def _draw_detached(mu, log_var, eps):
    return mu + (log_var / 2).exp().detach() * eps


@torch.no_grad()
def _draw_without_graph(mu, log_var, eps):
    return mu + (log_var / 2).exp() * eps


def _draw_new_leaf(mu, log_var, eps):
    return (mu + (log_var / 2).exp() * eps).detach().requires_grad_()


def _draw_probes(generator):
    mu, log_var = _gaussians(generator, 3, 4)
    eps = torch.randn(3, 4, generator=generator, dtype=D)
    m, v, e = mu[:1, :2], log_var[:1, :2], eps[:1, :2]
    return [
        Probe("no noise gives the mean", (mu, log_var, torch.zeros_like(mu)), "With eps = 0, z = mu."),
        Probe("log_var = 0 is a standard deviation of 1", (mu, torch.zeros_like(mu), eps), "exp(0) = 1."),
        Probe("the noise is scaled by the standard deviation", (mu, log_var, eps),
              "The standard deviation is the square root of exp(log_var). Use the eps you were given."),
        Probe("a gradient can pass to mu", (m.clone().requires_grad_(), v, e),
              "Compute z from mu with torch's own operations: no detach, no no_grad, no NumPy, no new tensor."),
        Probe("a gradient can pass to log_var", (m, v.clone().requires_grad_(), e),
              "Compute z from log_var with torch's own operations: no detach, no no_grad, no NumPy, no new tensor."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------- 4.3 the ELBO from raw numbers
def bernoulli_elbo(x, logits, mu, log_var):
    """One-draw ELBO of a VAE with binary pixels.

    x: (B, D), zeros and ones (as floats).
    logits: (B, D), the decoder's output for one draw of z: probability of ink = sigmoid(logits). May be large.
    mu, log_var: (B, L), the encoder's output.
    Returns (B,): log p(x | z) - KL(q(z|x) || N(0, I)), in nats, one per image.
    """
    reconstruction = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    return reconstruction - kl_to_standard_normal(mu, log_var)


def _elbo_sign(x, logits, mu, log_var):
    return -bernoulli_elbo(x, logits, mu, log_var)


def _elbo_pixel_mean(x, logits, mu, log_var):
    nll = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").mean(1)
    return -nll - kl_to_standard_normal(mu, log_var)


def _elbo_plus_kl(x, logits, mu, log_var):
    return bernoulli_elbo(x, logits, mu, log_var) + 2 * kl_to_standard_normal(mu, log_var)


def _elbo_no_sigmoid(x, logits, mu, log_var):
    p = logits.clamp(1e-6, 1 - 1e-6)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_overflow(x, logits, mu, log_var):
    p = logits.sigmoid()
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_of_probabilities(x, logits, mu, log_var):
    nll = nn.functional.binary_cross_entropy(logits.sigmoid(), x, reduction="none").sum(1)  # ends at 100 a pixel
    return -nll - kl_to_standard_normal(mu, log_var)


def _elbo_clamped_probabilities(x, logits, mu, log_var):
    p = logits.sigmoid().clamp(1e-7, 1 - 1e-7)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_padded_log(x, logits, mu, log_var):
    p = logits.sigmoid()
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(1) - kl_to_standard_normal(mu, log_var)


def _elbo_clamped_logits(x, logits, mu, log_var):
    return bernoulli_elbo(x, logits.clamp(-20, 20), mu, log_var)


def _elbo_probes(generator):
    x = (torch.rand(3, 6, generator=generator) < 0.5).to(D)
    logits = torch.randn(3, 6, generator=generator, dtype=D)
    mu, log_var = _gaussians(generator, 3, 2)
    zero = torch.zeros(3, 2, dtype=D)
    sure = (2 * x - 1) * 800.0
    one_wrong = torch.cat([-sure[:, :1], sure[:, 1:]], 1)
    return [
        Probe("undecided pixels cost log 2 each", (x, torch.zeros_like(x), zero, zero),
              "With logits 0 every pixel has probability 1/2, and the KL is zero: the answer is -6 log 2."),
        Probe("reconstruction minus the price of the code", (x, logits, mu, log_var),
              "log p(x|z) sums x log p + (1 - x) log(1 - p) over pixels; subtract the KL."),
        Probe("survives very sure pixels", (x, sure, mu, log_var),
              "sigmoid(800) is exactly 1 in floating point and log(0) is -inf: use a function that takes logits."),
        Probe("one pixel is sure and wrong: it costs its logit, 800 nats", (x, one_wrong, mu, log_var),
              "A clamp, a small number inside the log, or a loss that takes probabilities stops the cost early: use a "
              "function that takes logits."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------- 4.4 a tighter bound
def iwae_bound(log_weights):
    """The importance-weighted bound from logarithms of weights.

    log_weights: (k, B), log of p(x, z_i) / q(z_i | x) for k draws; may be far below -1,000.
    Returns (B,): log of the mean weight over the k draws, in nats.
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def _iwae_elbo(log_weights):
    return log_weights.mean(0)


def _iwae_forgets_k(log_weights):
    return log_weights.logsumexp(0)


def _iwae_underflow(log_weights):
    return log_weights.exp().mean(0).log()


def _iwae_wrong_axis(log_weights):
    return log_weights.logsumexp(1) - math.log(log_weights.shape[1])


def _iwae_max(log_weights):
    return log_weights.amax(0)


def _iwae_shifted(log_weights, shift):
    return shift + (log_weights - shift).exp().mean(0).log()


def _iwae_global_max(log_weights):
    return _iwae_shifted(log_weights, log_weights.max())


def _iwae_minus_min(log_weights):
    return _iwae_shifted(log_weights, log_weights.amin(0))


def _iwae_minus_mean(log_weights):
    return _iwae_shifted(log_weights, log_weights.mean(0))


def _iwae_probes(generator):
    logs = torch.randn(5, 3, generator=generator, dtype=D)
    uneven = torch.tensor([[-4100.0, -9000.0], [-100.0, -3000.0], [-101.0, -3001.0]], dtype=D)
    return [
        Probe("equal weights: the bound is that weight", (torch.full((4, 3), -2.0, dtype=D),), "Divide by k."),
        Probe("the logarithm of the mean, not the mean of logarithms", (3 * logs,),
              "Average the weights, then take the log."),
        Probe("survives weights of e^-5000", (logs - 5_000.0,), "exp(-5000) is 0 in floating point: use logsumexp."),
        Probe("survives draws and images that are thousands of nats apart", (uneven,),
              "What you subtract before exp must be the largest log-weight of that image's own draws: use logsumexp."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ 4.5 find the bug
def negative_elbo(x, x_hat, mu, log_var, scale):
    """Negative ELBO of a VAE with decoder N(x_hat, scale^2) per pixel, up to the constant D/2 log(2 pi scale^2).

    x, x_hat: (B, D); mu, log_var: (B, L), the encoder's output.
    scale: the decoder's standard deviation, a positive number.
    Returns a scalar: summed over pixels and latents, averaged over the batch, in nats.
    """
    reconstruction = (x - x_hat).square().sum(1) / (2 * scale**2)
    kl = 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return (reconstruction + kl).mean()


def _bug_as_printed(x, x_hat, mu, log_var, scale):
    return ((x - x_hat).square().mean() + (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_pixels_only(x, x_hat, mu, log_var, scale):
    return ((x - x_hat).square().sum(1) / (2 * scale**2) + (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_half_only(x, x_hat, mu, log_var, scale):
    return ((x - x_hat).square().mean() + 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_no_scale(x, x_hat, mu, log_var, scale):
    return ((x - x_hat).square().sum(1) + 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)).mean()


def _bug_sums_batch(x, x_hat, mu, log_var, scale):
    return negative_elbo(x, x_hat, mu, log_var, scale) * len(x)


def _bug_keeps_constant(x, x_hat, mu, log_var, scale):
    return negative_elbo(x, x_hat, mu, log_var, scale) + x.shape[1] / 2 * math.log(2 * math.pi * scale**2)


def _bug_probes(generator):
    x, x_hat = torch.rand(2, 3, 8, generator=generator, dtype=D)
    mu, log_var = _gaussians(generator, 3, 2)
    zero = torch.zeros(3, 2, dtype=D)
    return [
        Probe("a perfect picture from a code equal to the prior costs nothing", (x[:1], x[:1], zero[:1], zero[:1], 0.5),
              "Every term is 0 here. Leave out the constant D/2 log(2 pi scale^2)."),
        Probe("the reconstruction alone, sigma = 1", (x, x_hat, zero, zero, 1.0),
              "A Gaussian charges (x - x_hat)^2 / (2 sigma^2) for each pixel. Sum over the pixels."),
        Probe("the price of the code alone", (x, x, mu, log_var, 1.0), "The KL of (4.7) has a factor one half."),
        Probe("a small sigma makes errors expensive", (x, x_hat, mu, log_var, 0.1), "Divide by 2 scale^2."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------- 4.6 living latents
def n_active(eigenvalues, beta, scale):
    """How many directions a linear VAE with enough latents uses.

    eigenvalues: (D,), of the data covariance.
    beta: weight of the KL; scale: standard deviation sigma of the decoder.
    Returns an integer: the number of directions that do not die.
    """
    return int((eigenvalues > beta * scale**2).sum())


def _active_sigma(eigenvalues, beta, scale):
    return int((eigenvalues > beta * scale).sum())


def _active_no_beta(eigenvalues, beta, scale):
    return int((eigenvalues > scale**2).sum())


def _active_dead(eigenvalues, beta, scale):
    return int((eigenvalues <= beta * scale**2).sum())


def _active_all(eigenvalues, beta, scale):
    return len(eigenvalues)


def _active_at_the_level(eigenvalues, beta, scale):
    return int((eigenvalues >= beta * scale**2).sum())


def _active_probes(generator):
    values = torch.tensor([5.0, 2.0, 0.9, 0.4, 0.2, 0.05, 0.01], dtype=D)
    shuffled = values[torch.randperm(7, generator=generator)]
    return [
        Probe("beta = 1, sigma = 0.5", (values, 1.0, 0.5), "The water level is beta sigma^2 = 0.25."),
        Probe("a larger beta kills more", (values, 4.0, 0.5), "The water level is beta sigma^2 = 1."),
        Probe("any order, small noise", (shuffled, 1.0, 0.15),
              "Count eigenvalues above the level; the order is irrelevant."),
        Probe("a mean over 784 pixels kills everything", (values, 1.0, math.sqrt(392)), "The water level is 392."),
        Probe("a direction exactly at the level dies", (torch.tensor([1.0, 0.25, 0.0625], dtype=D), 4.0, 0.25),
              "The water level is 4 / 16 = 0.25. A direction lives only above it."),
    ]  # fmt: skip


# ----------------------------------------------------------------------------------- 4.7 forward and backward, by hand
def quantise(z_e, words, decoder_gradient):
    """Forward and backward of vector quantisation with the straight-through estimator.

    z_e: (N, D), the encoder's vectors; words: (K, D), the codebook.
    decoder_gradient: (N, D), derivative of the decoder's loss by the word it was given.
    Returns (z_q, gradient): z_q (N, D), the nearest word of each vector; gradient (N, D), derivative by z_e of
    the decoder's loss (straight through) plus the commitment 1/4 ||z_e - sg(z_q)||^2.
    """
    z_q = words[torch.cdist(z_e, words).argmin(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_no_commitment(z_e, words, decoder_gradient):
    return quantise(z_e, words, decoder_gradient)[0], decoder_gradient


def _quantise_zero_gradient(z_e, words, decoder_gradient):
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, 0.5 * (z_e - z_q)


def _quantise_sign(z_e, words, decoder_gradient):
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, decoder_gradient + 0.5 * (z_q - z_e)


def _quantise_inner_product(z_e, words, decoder_gradient):
    z_q = words[(z_e @ words.T).argmax(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_absolute(z_e, words, decoder_gradient):
    z_q = words[torch.cdist(z_e, words, p=1).argmin(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_cosine(z_e, words, decoder_gradient):
    z_q = words[nn.functional.cosine_similarity(z_e[:, None], words, dim=2).argmax(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_quarter(z_e, words, decoder_gradient):
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, decoder_gradient + 0.25 * (z_e - z_q)


def _quantise_probes(generator):
    z, slope = torch.randn(2, 6, 3, generator=generator, dtype=D)
    words = torch.randn(4, 3, generator=generator, dtype=D) * torch.tensor([[0.2], [1.0], [1.0], [4.0]], dtype=D)
    near = words[[2, 0, 1]] + 0.02 * z[:3]
    # nearest to (3, 3) by inner product, by L1, by L2, by cosine
    rivals = torch.tensor([[9.0, 2.0], [1.2, 3.0], [2.0, 4.0], [0.5, 0.5]], dtype=D)
    zero = torch.zeros(3, 3, dtype=D)
    return [
        Probe("vectors that are words already stay, and the gradient passes", (words[[2, 0, 1]], words, slope[:3]),
              "A word is nearest to itself. There the commitment is zero, so the gradient at z_e is the decoder's."),
        Probe("no decoder gradient: only the commitment pulls", (near, words, zero),
              "The derivative of 1/4 ||z_e - z_q||^2 by z_e, with z_q held fixed, is 1/2 (z_e - z_q)."),
        Probe("nearest means the smallest Euclidean distance",
              (torch.full((1, 2), 3.0, dtype=D), rivals, torch.zeros(1, 2, dtype=D)),
              "The nearest word is (2, 4). By absolute differences, angle or inner product it is another one."),
        Probe("the nearest word and both gradients", (z, words, slope),
              "The gradient is the decoder's plus the commitment's, with the word nearest in Euclidean distance."),
    ]  # fmt: skip


EXERCISES = (
    Exercise("4.1", 1, kl_to_standard_normal, _kl_probes,
             (_kl_without_half, _kl_mean, _kl_log_sigma, _kl_negative, _kl_batch_mean)),
    Exercise("4.2", 1, draw, _draw_probes,
             (_draw_variance, _draw_log, _draw_own_noise, _draw_mean, _draw_detached, _draw_without_graph,
              _draw_new_leaf)),
    Exercise("4.3", 2, bernoulli_elbo, _elbo_probes,
             (_elbo_sign, _elbo_pixel_mean, _elbo_plus_kl, _elbo_no_sigmoid, _elbo_overflow,
              _elbo_of_probabilities, _elbo_clamped_probabilities, _elbo_padded_log, _elbo_clamped_logits)),
    Exercise("4.4", 2, iwae_bound, _iwae_probes,
             (_iwae_elbo, _iwae_forgets_k, _iwae_underflow, _iwae_wrong_axis, _iwae_max,
              _iwae_global_max, _iwae_minus_min, _iwae_minus_mean)),
    Exercise("4.5", 2, negative_elbo, _bug_probes,
             (_bug_as_printed, _bug_pixels_only, _bug_half_only, _bug_no_scale, _bug_sums_batch,
              _bug_keeps_constant)),
    Exercise("4.6", 1, n_active, _active_probes,
             (_active_sigma, _active_no_beta, _active_dead, _active_all, _active_at_the_level)),
    Exercise("4.7", 2, quantise, _quantise_probes,
             (_quantise_no_commitment, _quantise_zero_gradient, _quantise_sign, _quantise_inner_product,
              _quantise_quarter, _quantise_absolute, _quantise_cosine)),
)  # fmt: skip
