"""Exercises of chapter 03: autoencoders."""

import torch

from course_utils.exercises import Exercise, Probe
from course_utils.exercises.ch03_build import TRAIN_DENOISER

D = torch.float64


# --------------------------------------------------------------------------------------------------------- PCA and back
def pca_reconstruct(x, n_components):
    """Project rows onto their own first principal components and come back.

    x: (N, D), not centred.
    n_components: L, between 1 and min(N, D).
    Returns (N, D): the closest points to x in the best L-dimensional flat subspace through the
    mean of x.
    """
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[:n_components]
    return mean + (x - mean) @ directions.T @ directions


def _pca_forgets_to_centre(x, n_components):
    """Subtract the mean before you look for directions, and add it back at the end."""
    directions = torch.linalg.svd(x, full_matrices=False).Vh[:n_components]
    return x @ directions.T @ directions


def _pca_forgets_the_way_back(x, n_components):
    """Add the mean back at the end."""
    return pca_reconstruct(x, n_components) - x.mean(0)


def _pca_smallest(x, n_components):
    """These are the directions of the *smallest* variance. eigh sorts upwards, svd downwards."""
    mean = x.mean(0)
    directions = torch.linalg.eigh(torch.cov(x.T)).eigenvectors.T[:n_components]
    return mean + (x - mean) @ directions.T @ directions


def _pca_returns_codes(x, n_components):
    """These are the codes, (N, L). Come back to D pixels: multiply by the directions once more."""
    return (x - x.mean(0)) @ torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[:n_components].T


def _pca_always_two(x, n_components):
    """Keep n_components directions, whatever their number is."""
    return pca_reconstruct(x, 2)


def _pca_one_too_many(x, n_components):
    """You keep one direction too many: the first n_components are [:n_components]."""
    return pca_reconstruct(x, min(n_components + 1, *x.shape))


def _pca_standardised(x, n_components):
    """Do not divide by the standard deviations: directions of large variance shall count more."""
    scale = x.std(0) + 1e-9
    return pca_reconstruct((x - x.mean(0)) / scale, n_components) * scale + x.mean(0)


def _pca_of_the_rows(x, n_components):
    """U and V are exchanged: the directions have D entries and are the rows of Vh."""
    return pca_reconstruct(x.T, min(n_components, *x.shape)).T


def _pca_mean_of_everything(x, n_components):
    """Every pixel has a mean of its own: x.mean(0), not x.mean()."""
    mean = x.mean()
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[:n_components]
    return mean + (x - mean) @ directions.T @ directions


def _pca_projects_the_raw(x, n_components):
    """Subtract the mean from what you project as well; else it is added twice."""
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False).Vh[:n_components]
    return mean + x @ directions.T @ directions


def _pca_probes(generator):
    mix = torch.randn(5, 5, generator=generator, dtype=D)
    x = torch.randn(40, 5, generator=generator, dtype=D) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2], dtype=D) @ mix
    line = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]], dtype=D)
    flat = torch.randn(30, 2, generator=generator, dtype=D) @ torch.randn(2, 5, generator=generator, dtype=D)
    few = torch.randn(5, 8, generator=generator, dtype=D)
    return [
        Probe("three points on a line come back as they are", (line, 1),
              "Their mean is (2, 1), and the line through it runs along the first pixel."),
        Probe("the best subspace for data around zero", (x - x.mean(0), 2),
              "Keep the directions of the largest variance: the first rows of Vh, or the last columns of eigh."),
        Probe("works when the mean is far from zero", (x + 10.0, 2),
              "Subtract the mean before you look for directions, and add it back at the end."),
        Probe("data that lie in a plane come back exactly", (flat + 3.0, 2), "Two components are enough here."),
        Probe("one component: all points on one line", (x - 2.0, 1), "Keep n_components directions, here one."),
        Probe("three components, and fewer images than pixels", (few, 3),
              "Keep n_components directions, here three. Each has D entries, however few images there are."),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- quiet units
def sparsity_penalty(z, target):
    """How far the mean activity of each unit is from the target, summed over units.

    z: (B, L), activations strictly between 0 and 1.
    target: rho, a number strictly between 0 and 1.
    Returns a scalar in nats: the sum over units of KL(rho || mean activity of that unit over
    the batch).
    """
    rho = z.mean(0)
    return (target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log()).sum()


def _sparsity_over_units(z, target):
    """You averaged over the units of an image. Average each unit over the batch: z.mean(0)."""
    return sparsity_penalty(z.T, target)


def _sparsity_reversed(z, target):
    """The roles are exchanged: the target comes first, KL(ρ ‖ ρ̂), and weighs the logarithms."""
    rho = z.mean(0)
    return (rho * (rho / target).log() + (1 - rho) * ((1 - rho) / (1 - target)).log()).sum()


def _sparsity_half(z, target):
    """A coin has two sides: the term (1 − ρ) log((1 − ρ)/(1 − ρ̂)) is missing."""
    return (target * (target / z.mean(0)).log()).sum()


def _sparsity_mean(z, target):
    """Sum over the units; do not average."""
    return sparsity_penalty(z, target) / z.shape[1]


def _sparsity_per_image(z, target):
    """Take the mean over the batch first, z.mean(0), and then the KL of that mean. Single activations may be far from
    the target.
    """
    return (target * (target / z).log() + (1 - target) * ((1 - target) / (1 - z)).log()).sum(1).mean()


def _sparsity_own_target(z, target):
    """Use the target that the function is given, in both terms."""
    return sparsity_penalty(z, 0.1)


def _sparsity_in_bits(z, target):
    """This is in bits. Nats need the natural logarithm."""
    return sparsity_penalty(z, target) / torch.tensor(2.0, dtype=z.dtype).log()


def _sparsity_one_mean(z, target):
    """Each unit has a mean of its own, over the batch: z.mean(0), not z.mean()."""
    return sparsity_penalty(z.mean().view(1, 1), target) * z.shape[1]


def _sparsity_squared(z, target):
    """This is a squared distance. The KL of two coins was asked for."""
    return (z.mean(0) - target).square().sum()


def _sparsity_minus(z, target):
    """Both terms of the KL are added."""
    rho = z.mean(0)
    return (target * (target / rho).log() - (1 - target) * ((1 - target) / (1 - rho)).log()).sum()


def _sparsity_each_unit(z, target):
    """Sum over the units: one number."""
    rho = z.mean(0)
    return target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log()


def _sparsity_probes(generator):
    z = (0.05 + 0.9 * torch.rand(7, 4, generator=generator, dtype=D)).round(decimals=2)
    switching = torch.tensor([[0.19, 0.01], [0.01, 0.19]], dtype=D)
    return [
        Probe("zero when every unit is on target on average", (switching, 0.1),
              "Take the mean over the batch first, z.mean(0); single activations may be far from the target."),
        Probe("one unit: the KL of two coins", (z[:2, :1], 0.1),
              "KL(rho || q) of a coin has two terms, heads and tails; q is the mean of the two activations."),
        Probe("adds up over units", (z.repeat(1, 3), 0.1), "Three times the units, three times the penalty."),
        Probe("four units, seven images", (z, 0.1), "The KL of each unit's mean activity, summed over the units."),
        Probe("another target", (z, 0.7), "Use the target that the function is given, in both terms."),
    ]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- contraction, tanh
def contractive_tanh(z, weight):
    """Squared Frobenius norm of the Jacobian dz/dx of one layer z = tanh(W x + b).

    z: (B, L), the layer's outputs.
    weight: (L, D), the matrix W.
    Returns (B,): the sum over j and i of (dz_j / dx_i)^2, for each row of z.
    """
    return (1 - z.square()).square() @ weight.square().sum(1)


def _tanh_like_sigmoid(z, weight):
    """That is the slope of a sigmoid. Of tanh it is 1 − z²."""
    return (z * (1 - z)).square() @ weight.square().sum(1)


def _tanh_unsquared(z, weight):
    """Square the derivative: each entry of the Jacobian is (1 − z_j²) W_ji, and all squares are summed."""
    return (1 - z.square()) @ weight.square().sum(1)


def _tanh_norm(z, weight):
    """This is the norm. Its square was asked for: no root."""
    return contractive_tanh(z, weight).sqrt()


def _tanh_mean(z, weight):
    """Return one number for each row of z."""
    return contractive_tanh(z, weight).mean()


def _tanh_sum_then_square(z, weight):
    """Square every entry of the Jacobian first, then sum: not the square of a sum."""
    return ((1 - z.square()) @ weight.sum(1)).square()


def _tanh_units_added_first(z, weight):
    """Square every entry of the Jacobian before you add up: here the units were added first."""
    return ((1 - z.square()) @ weight).square().sum(1)


def _tanh_slope_alone(z, weight):
    """The weights enter as well: dz_j/dx_i = (1 − z_j²) W_ji."""
    return (1 - z.square()).square().sum(1)


def _tanh_weight_not_squared(z, weight):
    """W_ji belongs inside the square: (1 − z_j²)² W_ji², summed."""
    return (1 - z.square()).square() @ weight.sum(1)


def _tanh_of_z(z, weight):
    """z is the *output* of tanh already: its slope there is 1 − z², without another tanh."""
    return (1 - z.tanh().square()).square() @ weight.square().sum(1)


def _tanh_one_plus(z, weight):
    """The slope of tanh is 1 *minus* z²."""
    return (1 + z.square()).square() @ weight.square().sum(1)


def _tanh_probes(generator):
    z = (torch.rand(6, 3, generator=generator, dtype=D) * 1.8 - 0.9).round(decimals=2)
    w = torch.randn(3, 5, generator=generator, dtype=D).round(decimals=2)
    half = torch.tensor([[0.5]], dtype=D)
    return [
        Probe("at z = 0 the layer is linear with slope W", (torch.zeros(2, 3, dtype=D), w), "There tanh' is 1."),
        Probe("one unit at z = 0.5 with W = 2", (half, 4 * half),
              "The derivative is (1 − 0.25) · 2 = 1.5. Square it."),
        Probe("saturated units do not move", (torch.full((2, 3), 1.0, dtype=D), w), "At z = 1 the slope is 0."),
        Probe("the sum of all squared derivatives", (z, w),
              "tanh' = 1 - tanh^2, and the derivative of z_j by x_i is tanh'(a_j) W_ji. Square it, then sum."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- noise to score
def score_from_noise(predicted_noise, scale):
    """The score at a noisy image, from a network that predicts the noise eps in x_noisy = x +
    scale * eps.

    predicted_noise: (B, ...), the network's estimate of eps.
    scale: sigma, the standard deviation of the noise, a positive number.
    Returns (B, ...): the gradient of log p_sigma at x_noisy.
    """
    return -predicted_noise / scale


def _score_sign(predicted_noise, scale):
    """The sign is turned: noise leads away from the data, the score leads back."""
    return predicted_noise / scale


def _score_square(predicted_noise, scale):
    """One factor of σ cancels: x_noisy − σ ε̂ is the repair, so (3.8) has σ ε̂ above and σ² below."""
    return -predicted_noise / scale**2


def _score_unscaled(predicted_noise, scale):
    """The noise level is missing: put the repair x_noisy − σ ε̂ into (3.8)."""
    return -predicted_noise


def _score_times(predicted_noise, scale):
    """Divide by σ: small noise makes a steep score."""
    return -predicted_noise * scale


def _score_times_variance(predicted_noise, scale):
    """Divide by σ² where you multiply: (3.8) has σ² below."""
    return -predicted_noise * scale**3


def _score_probes(generator):
    eps = torch.randn(3, 4, generator=generator, dtype=D).round(decimals=2)
    return [
        Probe("points against the noise", (eps, 1.0), "The clean image lies uphill; the noise points away from it."),
        Probe("small noise makes a steep score", (eps, 0.1),
              "The estimate of the clean image is x_noisy - scale * eps. Put that into (3.8)."),
        Probe("large noise makes a gentle score", (eps, 5.0), "One factor of sigma cancels."),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ a guess, first
def pca_behind():
    """At 2 numbers an image: the error of PCA, divided by that of the fully connected
    autoencoder.

    1 means that they are equal, 2 that PCA leaves twice the squared error. Returns a number
    from 0 to 20.
    """
    return 1.5


EXERCISES = (
    Exercise("3.1", 2, pca_reconstruct, _pca_probes,
             (_pca_forgets_to_centre, _pca_forgets_the_way_back, _pca_smallest, _pca_returns_codes,
              _pca_always_two, _pca_one_too_many, _pca_standardised, _pca_of_the_rows, _pca_mean_of_everything,
              _pca_projects_the_raw)),
    Exercise("3.2", 1, pca_behind, kind="predict", between=(0, 20),
             reason="Both have two numbers for an image. PCA lays a flat sheet through the data, the autoencoder one "
                    "that may bend, once it is trained. But two numbers stay two numbers: neither can keep much."),
    Exercise("3.3", 2, sparsity_penalty, _sparsity_probes,
             (_sparsity_over_units, _sparsity_reversed, _sparsity_half, _sparsity_mean, _sparsity_per_image,
              _sparsity_own_target, _sparsity_in_bits, _sparsity_one_mean, _sparsity_squared, _sparsity_minus,
              _sparsity_each_unit)),
    Exercise("3.4", 2, contractive_tanh, _tanh_probes,
             (_tanh_like_sigmoid, _tanh_unsquared, _tanh_norm, _tanh_mean, _tanh_sum_then_square,
              _tanh_units_added_first, _tanh_slope_alone,
              _tanh_weight_not_squared, _tanh_of_z, _tanh_one_plus)),
    Exercise("3.5", 2, score_from_noise, _score_probes,
             (_score_sign, _score_square, _score_unscaled, _score_times, _score_times_variance)),
    TRAIN_DENOISER,
)  # fmt: skip
