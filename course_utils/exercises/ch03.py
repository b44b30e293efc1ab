"""Exercises of chapter 03: autoencoders."""

import torch

from course_utils.exercises import Exercise, Probe

D = torch.float64


# ------------------------------------------------------------------------------------------------- 3.1 PCA and back
def pca_reconstruct(x, n_components):
    """Project rows onto their own first principal components and come back.

    x: (N, D), not centred.
    n_components: L, between 1 and min(N, D).
    Returns (N, D): the closest points to x in the best L-dimensional flat subspace through the mean of x.
    """
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[:n_components]
    return mean + (x - mean) @ directions.T @ directions


def _pca_forgets_to_centre(x, n_components):
    directions = torch.linalg.svd(x, full_matrices=False).Vh[:n_components]
    return x @ directions.T @ directions


def _pca_forgets_the_way_back(x, n_components):
    return pca_reconstruct(x, n_components) - x.mean(0)


def _pca_smallest(x, n_components):
    mean = x.mean(0)
    directions = torch.linalg.eigh(torch.cov(x.T)).eigenvectors.T[:n_components]
    return mean + (x - mean) @ directions.T @ directions


def _pca_returns_codes(x, n_components):
    return (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:n_components].T


def _pca_always_two(x, n_components):
    return pca_reconstruct(x, 2)


def _pca_probes(generator):
    mix = torch.randn(5, 5, generator=generator, dtype=D)
    x = torch.randn(40, 5, generator=generator, dtype=D) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2], dtype=D) @ mix
    flat = torch.randn(30, 2, generator=generator, dtype=D) @ torch.randn(2, 5, generator=generator, dtype=D)
    few = torch.randn(5, 8, generator=generator, dtype=D)
    return [
        Probe("the best subspace for data around zero", (x - x.mean(0), 2),
              "Keep the directions of the largest variance: the first rows of Vh, or the last columns of eigh."),
        Probe("works when the mean is far from zero", (x + 10.0, 2),
              "Subtract the mean before you look for directions, and add it back at the end."),
        Probe("data that lie in a plane come back exactly", (flat + 3.0, 2), "Two components are enough here."),
        Probe("one component: all points on one line", (x - 2.0, 1), "Keep n_components directions, here one."),
        Probe("three components, and fewer images than pixels", (few, 3),
              "Keep n_components directions, here three. Each has D entries, however few images there are."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------- 3.2 quiet units
def sparsity_penalty(z, target):
    """How far the mean activity of each unit is from the target, summed over units.

    z: (B, L), activations strictly between 0 and 1.
    target: rho, a number strictly between 0 and 1.
    Returns a scalar in nats: the sum over units of KL(rho || mean activity of that unit over the batch).
    """
    rho = z.mean(0)
    return (target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log()).sum()


def _sparsity_over_units(z, target):
    return sparsity_penalty(z.T, target)


def _sparsity_reversed(z, target):
    rho = z.mean(0)
    return (rho * (rho / target).log() + (1 - rho) * ((1 - rho) / (1 - target)).log()).sum()


def _sparsity_half(z, target):
    return (target * (target / z.mean(0)).log()).sum()


def _sparsity_mean(z, target):
    return sparsity_penalty(z, target) / z.shape[1]


def _sparsity_per_image(z, target):
    return (target * (target / z).log() + (1 - target) * ((1 - target) / (1 - z)).log()).sum(1).mean()


def _sparsity_own_target(z, target):
    return sparsity_penalty(z, 0.1)


def _sparsity_probes(generator):
    z = 0.05 + 0.9 * torch.rand(7, 4, generator=generator, dtype=D)
    switching = torch.tensor([[0.19, 0.01], [0.01, 0.19]], dtype=D)
    return [
        Probe("agrees with the KL of two coins, unit by unit", (z, 0.1),
              "KL(rho || q) of a coin has two terms: heads and tails."),
        Probe("zero when every unit is on target on average", (switching, 0.1),
              "Take the mean over the batch first, z.mean(0); single activations may be far from the target."),
        Probe("adds up over units", (z.repeat(1, 3), 0.1), "Three times the units, three times the penalty."),
        Probe("another target", (z, 0.7), "Use the target that the function is given, in both terms."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------ 3.3 contraction, tanh
def contractive_tanh(z, weight):
    """Squared Frobenius norm of the Jacobian dz/dx of one layer z = tanh(W x + b).

    z: (B, L), the layer's outputs.
    weight: (L, D), the matrix W.
    Returns (B,): the sum over j and i of (dz_j / dx_i)^2, for each row of z.
    """
    return (1 - z.square()).square() @ weight.square().sum(1)


def _tanh_like_sigmoid(z, weight):
    return (z * (1 - z)).square() @ weight.square().sum(1)


def _tanh_unsquared(z, weight):
    return (1 - z.square()) @ weight.square().sum(1)


def _tanh_norm(z, weight):
    return contractive_tanh(z, weight).sqrt()


def _tanh_mean(z, weight):
    return contractive_tanh(z, weight).mean()


def _tanh_probes(generator):
    z = torch.rand(6, 3, generator=generator, dtype=D) * 1.8 - 0.9
    w = torch.randn(3, 5, generator=generator, dtype=D)
    return [
        Probe("at z = 0 the layer is linear with slope W", (torch.zeros(2, 3, dtype=D), w), "There tanh' is 1."),
        Probe("agrees with automatic differentiation", (z, w),
              "tanh' = 1 - tanh^2, and the derivative of z_j by x_i is tanh'(a_j) W_ji. Square it, then sum."),
        Probe("saturated units do not move", (torch.full((2, 3), 1.0, dtype=D), w), "At z = 1 the slope is 0."),
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------- 3.4 noise to score
def score_from_noise(predicted_noise, scale):
    """The score at a noisy image, from a network that predicts the noise eps in x_noisy = x + scale * eps.

    predicted_noise: (B, ...), the network's estimate of eps.
    scale: sigma, the standard deviation of the noise, a positive number.
    Returns (B, ...): the gradient of log p_sigma at x_noisy.
    """
    return -predicted_noise / scale


def _score_sign(predicted_noise, scale):
    return predicted_noise / scale


def _score_square(predicted_noise, scale):
    return -predicted_noise / scale**2


def _score_unscaled(predicted_noise, scale):
    return -predicted_noise


def _score_times(predicted_noise, scale):
    return -predicted_noise * scale


def _score_probes(generator):
    eps = torch.randn(3, 4, generator=generator, dtype=D)
    return [
        Probe("points against the noise", (eps, 1.0), "The clean image lies uphill; the noise points away from it."),
        Probe("small noise makes a steep score", (eps, 0.1),
              "The estimate of the clean image is x_noisy - scale * eps. Put that into (3.8)."),
        Probe("large noise makes a gentle score", (eps, 5.0), "One factor of sigma cancels."),
    ]  # fmt: skip


EXERCISES = (
    Exercise("3.1", 2, pca_reconstruct, _pca_probes,
             (_pca_forgets_to_centre, _pca_forgets_the_way_back, _pca_smallest, _pca_returns_codes,
              _pca_always_two)),
    Exercise("3.2", 2, sparsity_penalty, _sparsity_probes,
             (_sparsity_over_units, _sparsity_reversed, _sparsity_half, _sparsity_mean, _sparsity_per_image,
              _sparsity_own_target)),
    Exercise("3.3", 2, contractive_tanh, _tanh_probes, (_tanh_like_sigmoid, _tanh_unsquared, _tanh_norm, _tanh_mean)),
    Exercise("3.4", 2, score_from_noise, _score_probes, (_score_sign, _score_square, _score_unscaled, _score_times)),
)  # fmt: skip
