"""Exercises of chapter 04 about codes: their price, a draw, living latents, and words."""

import math

import torch
from torch import nn

from course_utils.exercises import Exercise, Probe

D = torch.float64


def gaussians(generator, n, n_latents):
    return torch.randn(2, n, n_latents, generator=generator, dtype=D).round(decimals=2)


# -------------------------------------------------------------------------------------------------- the price of a code
def kl_to_standard_normal(mu, log_var):
    """KL(N(mu, sigma^2) || N(0, I)) of each code.

    mu, log_var: (B, L); sigma^2 = exp(log_var), latents are independent.
    Returns (B,), in nats.
    """
    return (0.5 * mu.square() + 0.5 * (log_var.exp() - log_var - 1)).sum(1)


def _kl_without_half(mu, log_var):
    """The factor one half is missing: this is twice the KL. It stands before all four terms."""
    return 2 * kl_to_standard_normal(mu, log_var)


def _kl_mean(mu, log_var):
    """Sum over the latents; do not average."""
    return kl_to_standard_normal(mu, log_var) / mu.shape[1]


def _kl_log_sigma(mu, log_var):
    """log_var is the logarithm of the *variance*: σ² = exp(log_var), and log σ² = log_var."""
    return kl_to_standard_normal(mu, 2 * log_var)


def _kl_negative(mu, log_var):
    """The sign is turned: a KL is never negative."""
    return -kl_to_standard_normal(mu, log_var)


def _kl_batch_mean(mu, log_var):
    """Keep one number for each image: no mean over the batch."""
    return kl_to_standard_normal(mu, log_var).mean()


def _kl_half_a_log(mu, log_var):
    """log_var is log σ² already, without another factor: ½ (μ² + σ² − log_var − 1)."""
    return (0.5 * (mu.square() + log_var.exp() - 2 * log_var - 1)).sum(1)


def _kl_forgets_one(mu, log_var):
    """The −1 is missing: at μ = 0 and σ = 1 the KL is 0."""
    return (0.5 * (mu.square() + log_var.exp() - log_var)).sum(1)


def _kl_wrong_log_sign(mu, log_var):
    """Mind the sign of log_var: a code of small σ is expensive, so −log_var."""
    return (0.5 * (mu.square() + log_var.exp() + log_var - 1)).sum(1)


def _kl_reversed(mu, log_var):
    """The roles are exchanged: this is KL(N(0, I) ‖ q), and q comes first."""
    return (0.5 * ((1 + mu.square()) / log_var.exp() + log_var - 1)).sum(1)


def _kl_without_mean(mu, log_var):
    """The mean costs as well: ½ μ² for each latent."""
    return kl_to_standard_normal(torch.zeros_like(mu), log_var)


def _kl_of_log_var_as_variance(mu, log_var):
    """log_var is a logarithm: the variance is exp(log_var)."""
    return (0.5 * (mu.square() + log_var - log_var.abs().log() - 1)).sum(1)


def _kl_probes(generator):
    mu, log_var = gaussians(generator, 4, 3)
    zero = torch.zeros(2, 3, dtype=D)
    return [
        Probe("zero when the code is the prior", (zero, zero), "mu = 0 and sigma = 1 cost nothing."),
        Probe("one latent, mu = 2, sigma = 1: 2 nats", (torch.full((1, 1), 2.0, dtype=D), zero[:1, :1]),
              "The mean costs mu^2 / 2."),
        Probe("one latent, mu = 0, sigma = e: (e^2 - 3) / 2 nats", (zero[:1, :1], torch.full((1, 1), 2.0, dtype=D)),
              "log_var is the logarithm of the variance, so sigma^2 = exp(log_var)."),
        Probe("adds up over latents", (mu, log_var), "Sum over the last dimension; keep one number per image."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ a differentiable draw
def draw(mu, log_var, eps):
    """A draw from N(mu, sigma^2) that a gradient can pass through.

    mu, log_var: (B, L); sigma^2 = exp(log_var).
    eps: (B, L), standard normal noise, given.
    Returns z: (B, L).
    """
    return mu + (log_var / 2).exp() * eps


def _draw_variance(mu, log_var, eps):
    """exp(log_var) is the variance. The noise is scaled by the standard deviation, its square root: exp(log_var / 2).
    """
    return mu + log_var.exp() * eps


def _draw_log(mu, log_var, eps):
    """log_var is a logarithm. The standard deviation is exp(log_var / 2)."""
    return mu + log_var * eps


def _draw_own_noise(mu, log_var, eps):
    """You drew noise of your own. Use the eps that you were given."""
    return mu + (log_var / 2).exp() * torch.randn_like(mu)


def _draw_mean(mu, log_var, eps):
    """The noise is missing: z = μ + σ ε."""
    return mu


def _draw_detached(mu, log_var, eps):
    """No gradient passes to log_var: compute z from it with torch's own operations, without detach."""
    return mu + (log_var / 2).exp().detach() * eps


@torch.no_grad()
def _draw_without_graph(mu, log_var, eps):
    """No gradient passes to mu: compute z with torch's own operations, no detach, no no_grad, no NumPy."""
    return mu + (log_var / 2).exp() * eps


def _draw_root_of_log(mu, log_var, eps):
    """log_var is the *logarithm* of the variance: take exp before the root, or exp(log_var / 2)."""
    return mu + log_var.sqrt() * eps


def _draw_minus(mu, log_var, eps):
    """z = μ + σ ε, with a plus, so that the answer is the same for everybody."""
    return mu - (log_var / 2).exp() * eps


def _draw_doubled(mu, log_var, eps):
    """The standard deviation is exp(log_var / 2): half the logarithm, not twice."""
    return mu + (2 * log_var).exp() * eps


def _draw_scales_the_mean(mu, log_var, eps):
    """Only the noise is scaled: μ + σ ε, not σ (μ + ε)."""
    return (log_var / 2).exp() * (mu + eps)


def _draw_probes(generator):
    mu, log_var = gaussians(generator, 3, 4)
    eps = torch.randn(3, 4, generator=generator, dtype=D)
    m, v, e = mu[:1, :2], log_var[:1, :2], eps[:1, :2]
    return [
        Probe("no noise gives the mean", (mu, log_var, torch.zeros_like(mu)), "With eps = 0, z = mu."),
        Probe("one latent: mu = 1, sigma = e, eps = 0.5", (m[:, :1] * 0 + 1, m[:, :1] * 0 + 2, m[:, :1] * 0 + 0.5),
              "log_var = 2, so the variance is e² and the standard deviation e: z = 1 + 0.5 e."),
        Probe("log_var = 0 is a standard deviation of 1", (mu, torch.zeros_like(mu), eps), "exp(0) = 1."),
        Probe("the noise is scaled by the standard deviation", (mu, log_var, eps),
              "The standard deviation is the square root of exp(log_var). Use the eps you were given."),
        Probe("a gradient can pass to mu", (m.clone().requires_grad_(), v, e),
              "Compute z from mu with torch's own operations: no detach, no no_grad, no NumPy, no new tensor."),
        Probe("a gradient can pass to log_var", (m, v.clone().requires_grad_(), e),
              "Compute z from log_var with torch's own operations: no detach, no no_grad, no NumPy, no new tensor."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- living latents
def n_active(eigenvalues, beta, scale):
    """How many directions a linear VAE with enough latents uses.

    eigenvalues: (D,), of the data covariance.
    beta: weight of the KL; scale: standard deviation sigma of the decoder.
    Returns an integer: the number of directions that do not die.
    """
    return int((eigenvalues > beta * scale**2).sum())


def _active_sigma(eigenvalues, beta, scale):
    """The water level is beta times the *variance* of the decoder, scale²."""
    return int((eigenvalues > beta * scale).sum())


def _active_no_beta(eigenvalues, beta, scale):
    """beta is missing: the water level is beta · scale²."""
    return int((eigenvalues > scale**2).sum())


def _active_dead(eigenvalues, beta, scale):
    """These are the directions that die. Count the others."""
    return int((eigenvalues <= beta * scale**2).sum())


def _active_all(eigenvalues, beta, scale):
    """Every direction at or below the water level beta · scale² dies."""
    return len(eigenvalues)


def _active_at_the_level(eigenvalues, beta, scale):
    """A direction exactly at the level dies: it lives only *above* it."""
    return int((eigenvalues >= beta * scale**2).sum())


def _active_twice_the_scale(eigenvalues, beta, scale):
    """The water level is beta · scale², the square, not twice the scale."""
    return int((eigenvalues > beta * 2 * scale).sum())


def _active_square_everything(eigenvalues, beta, scale):
    """Only the scale is squared: beta · scale²."""
    return int((eigenvalues > (beta * scale) ** 2).sum())


def _active_roots(eigenvalues, beta, scale):
    """Eigenvalues of the covariance are variances already: compare them as they are."""
    return int((eigenvalues.sqrt() > beta * scale**2).sum())


def _active_beta_below(eigenvalues, beta, scale):
    """beta multiplies the level: a larger beta kills more."""
    return int((eigenvalues > scale**2 / beta).sum())


def _active_what_sticks_out(eigenvalues, beta, scale):
    """Count the directions above the level; do not add up how far they stick out."""
    return (eigenvalues - beta * scale**2).clamp_min(0).sum()


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


# ---------------------------------------------------------------------------------------- forward and backward, by hand
def quantise(z_e, words, decoder_gradient):
    """Forward and backward of vector quantisation with the straight-through estimator.

    z_e: (N, D), the encoder's vectors; words: (K, D), the codebook.
    decoder_gradient: (N, D), derivative of the decoder's loss by the word it was given.
    Returns (z_q, gradient): z_q (N, D), the nearest word of each vector; gradient (N, D),
    derivative by z_e of the decoder's loss (straight through) plus the commitment 1/4 ||z_e -
    sg(z_q)||^2.
    """
    z_q = words[torch.cdist(z_e, words).argmin(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_no_commitment(z_e, words, decoder_gradient):
    """The commitment is missing: it adds the derivative of 1/4 ||z_e − z_q||² by z_e."""
    return quantise(z_e, words, decoder_gradient)[0], decoder_gradient


def _quantise_zero_gradient(z_e, words, decoder_gradient):
    """The decoder's gradient goes straight through: add it."""
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, 0.5 * (z_e - z_q)


def _quantise_sign(z_e, words, decoder_gradient):
    """The commitment pulls z_e towards its word; its derivative by z_e is ½ (z_e − z_q)."""
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, decoder_gradient + 0.5 * (z_q - z_e)


def _quantise_inner_product(z_e, words, decoder_gradient):
    """The nearest word has the smallest *distance*, not the largest inner product."""
    z_q = words[(z_e @ words.T).argmax(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_absolute(z_e, words, decoder_gradient):
    """Nearest means the smallest Euclidean distance, not the smallest sum of absolute differences."""
    z_q = words[torch.cdist(z_e, words, p=1).argmin(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_cosine(z_e, words, decoder_gradient):
    """Nearest means the smallest Euclidean distance, not the smallest angle."""
    z_q = words[nn.functional.cosine_similarity(z_e[:, None], words, dim=2).argmax(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_quarter(z_e, words, decoder_gradient):
    """The derivative of ¼ u² is ½ u: the commitment's gradient is ½ (z_e − z_q), with z_q held fixed."""
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, decoder_gradient + 0.25 * (z_e - z_q)


def _quantise_farthest(z_e, words, decoder_gradient):
    """This is the *farthest* word: argmin of the distances, not argmax."""
    z_q = words[torch.cdist(z_e, words).argmax(1)]
    return z_q, decoder_gradient + 0.5 * (z_e - z_q)


def _quantise_full_commitment(z_e, words, decoder_gradient):
    """The commitment counts a quarter: the derivative of ¼ ||z_e − z_q||² is ½ (z_e − z_q)."""
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, decoder_gradient + 2 * (z_e - z_q)


def _quantise_straight_through_value(z_e, words, decoder_gradient):
    """z_q is the word itself. Straight through means only that the *gradient* passes as if z_q were z_e."""
    return z_e, quantise(z_e, words, decoder_gradient)[1]


def _quantise_halves_the_decoder(z_e, words, decoder_gradient):
    """Only the commitment has the factor ½; the decoder's gradient passes as it is."""
    z_q, _ = quantise(z_e, words, decoder_gradient)
    return z_q, 0.5 * (decoder_gradient + z_e - z_q)


def _quantise_probes(generator):
    z, slope = torch.randn(2, 6, 3, generator=generator, dtype=D).round(decimals=2)
    words = torch.randn(4, 3, generator=generator, dtype=D) * torch.tensor([[0.2], [1.0], [1.0], [4.0]], dtype=D)
    words = words.round(decimals=2)
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


KL = Exercise(
    "4.1", 1, kl_to_standard_normal, _kl_probes,
    (_kl_without_half, _kl_mean, _kl_log_sigma, _kl_negative, _kl_batch_mean, _kl_half_a_log, _kl_forgets_one,
     _kl_wrong_log_sign, _kl_reversed, _kl_without_mean, _kl_of_log_var_as_variance),
)  # fmt: skip
DRAW = Exercise(
    "4.2", 1, draw, _draw_probes,
    (_draw_variance, _draw_log, _draw_own_noise, _draw_mean, _draw_detached, _draw_without_graph, _draw_root_of_log,
     _draw_minus, _draw_doubled, _draw_scales_the_mean),
)  # fmt: skip
N_ACTIVE = Exercise(
    "4.8", 1, n_active, _active_probes,
    (_active_sigma, _active_no_beta, _active_dead, _active_all, _active_at_the_level, _active_twice_the_scale,
     _active_square_everything, _active_roots, _active_beta_below, _active_what_sticks_out),
)  # fmt: skip
QUANTISE = Exercise(
    "4.9", 2, quantise, _quantise_probes,
    (_quantise_no_commitment, _quantise_zero_gradient, _quantise_sign, _quantise_inner_product, _quantise_quarter,
     _quantise_absolute, _quantise_cosine, _quantise_farthest, _quantise_full_commitment,
     _quantise_straight_through_value, _quantise_halves_the_decoder),
)  # fmt: skip
