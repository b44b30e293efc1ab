"""Exercises of chapter 01: discriminative and generative models."""

import torch

from course_utils.exercises import Exercise, Probe
from course_utils.exercises.ch01_build import TRAIN_ENERGY_MODEL
from course_utils.exercises.ch01_energy import FREE_ENERGY, LOG_PARTITION


def _rows(generator, n, k, zeros=False):
    """Random probability vectors ``(n, k)``; with ``zeros`` some entries are exactly 0."""
    p = torch.rand(n, k, generator=generator, dtype=torch.float64) + 0.01
    if zeros:
        p = p * (torch.rand(n, k, generator=generator) > 0.4)
        p[:, 0] += 0.1
    return p / p.sum(-1, keepdim=True)


# ------------------------------------------------------------------------------------------------------- Bayes, in logs
def posterior(log_likelihood, log_prior):
    """p(y | x) by Bayes' rule, computed from logarithms.

    log_likelihood: (B, K), log p(x | y = k) for each image; may be as low as -100,000.
    log_prior: (K,), log p(y = k).
    Returns (B, K): probabilities, each row sums to 1.
    """
    return torch.softmax(log_likelihood + log_prior, dim=-1)


def _posterior_no_prior(log_likelihood, log_prior):
    """The prior is missing: add log_prior to every row before you normalise."""
    return torch.softmax(log_likelihood, dim=-1)


def _posterior_underflow(log_likelihood, log_prior):
    """exp(2000) is infinite and exp(-2000) is 0 on a computer. Stay in logarithms: torch.softmax or torch.logsumexp.
    """
    joint = (log_likelihood + log_prior).exp()
    return joint / joint.sum(-1, keepdim=True)


def _posterior_one_level(log_likelihood, log_prior):
    """You subtract one number from the whole batch. Every image has a level of its own: subtract the largest value of
    its row, or use torch.softmax.
    """
    joint = log_likelihood + log_prior
    scaled = (joint - joint.max()).exp()
    return scaled / scaled.sum(-1, keepdim=True)


def _posterior_wrong_axis(log_likelihood, log_prior):
    """The labels compete, not the images: normalise each row, over the last dimension."""
    return torch.softmax(log_likelihood + log_prior, dim=0)


def _posterior_in_logs(log_likelihood, log_prior):
    """These are logarithms of probabilities. Take exp at the very end."""
    return torch.log_softmax(log_likelihood + log_prior, dim=-1)


def _posterior_least_first(log_likelihood, log_prior):
    """What you subtract before exp must be the *largest* value of the row, so that nothing overflows."""
    joint = log_likelihood + log_prior
    scaled = (joint - joint.amin(-1, keepdim=True)).exp()
    return scaled / scaled.sum(-1, keepdim=True)


def _posterior_around_the_mean(log_likelihood, log_prior):
    """You subtract the mean of a row. Where a row is spread wide, exp still overflows: subtract its largest value."""
    joint = log_likelihood + log_prior
    scaled = (joint - joint.mean(-1, keepdim=True)).exp()
    return scaled / scaled.sum(-1, keepdim=True)


def _posterior_prior_as_it_is(log_likelihood, log_prior):
    """log_prior is a logarithm already: add it as it is, without exp."""
    return torch.softmax(log_likelihood + log_prior.exp(), dim=-1)


def _posterior_joint(log_likelihood, log_prior):
    """This is the joint p(x, y). Divide by its sum over the labels."""
    return (log_likelihood + log_prior).exp()


def _posterior_probes(generator):
    scores = torch.randn(4, 3, generator=generator, dtype=torch.float64).round(decimals=2)
    uneven = torch.tensor([[0.0, -900.0, -1.0], [-2000.0, -1999.0, 0.5], [-3.0, 1.0, -600.0]], dtype=torch.float64)
    prior = _rows(generator, 1, 3)[0].log()
    level = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    levels = torch.tensor([[1e5], [-1e5], [0.0], [3e4]], dtype=torch.float64)
    return [
        Probe(
            "equal likelihoods leave the prior",
            (torch.zeros(2, 3, dtype=torch.float64), level),
            "If x says nothing about y, the posterior is the prior. Each row sums to 1.",
        ),
        Probe(
            "Bayes' rule on ordinary numbers",
            (scores, prior),
            "Likelihood times prior, divided by its sum over the labels. In logarithms a product is a sum.",
        ),
        Probe("survives log-likelihoods near 100,000", (scores + 1e5, prior), "exp(100000) is infinite. Stay in logs."),
        Probe("every image has its own level", (scores + levels, prior), "Normalise each row by itself."),
        Probe(
            "survives labels that are thousands of nats apart",
            (uneven, prior),
            "What you subtract before exp must be the largest value of that row: use torch.softmax.",
        ),
        Probe(
            "survives log-likelihoods near -100,000",
            (scores - 1e5, prior),
            "exp(-100000) is 0 in floating point. Normalise with softmax or logsumexp, in logs.",
        ),
    ]


# --------------------------------------------------------------------------------------------------- filling in a block
def fill_in(x, missing, mean, covariance):
    """The most probable values of the missing pixels, given the others, under one Gaussian.

    x: (D,), an image in a row; what stands at the missing places must not matter.
    missing: (D,) of bool, True where the pixel is lost.
    mean: (D,); covariance: (D, D), positive definite.
    Returns (D,): x with the missing entries replaced by their conditional mean.
    """
    seen = ~missing
    k = covariance[missing][:, seen]  # how missing pixels vary with seen ones
    s = covariance[seen][:, seen]
    filled = x.clone()
    filled[missing] = mean[missing] + k @ torch.linalg.solve(s, x[seen] - mean[seen])
    return filled


def _fill_with_mean(x, missing, mean, covariance):
    """This is the mean before anything was seen. The seen pixels change it: add Σ_mo Σ_oo⁻¹ (x_o − μ_o)."""
    return torch.where(missing, mean, x)


def _fill_forgets_to_centre(x, missing, mean, covariance):
    """What counts is how far the seen pixels are from *their* mean: use x_o − μ_o, not x_o."""
    seen, filled = ~missing, x.clone()
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ torch.linalg.solve(
        covariance[seen][:, seen], x[seen]
    )
    return filled


def _fill_with_regression_of_diagonal(x, missing, mean, covariance):
    """You divide by the variances alone. The seen pixels vary together: solve with the whole matrix Σ_oo."""
    seen, filled = ~missing, x.clone()
    scaled = (x[seen] - mean[seen]) / covariance.diagonal()[seen]
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ scaled
    return filled


def _fill_changes_input(x, missing, mean, covariance):
    """You write into x, which belongs to the caller. Work on x.clone()."""
    x[missing] = fill_in(x, missing, mean, covariance)[missing]
    return x


def _fill_without_inverse(x, missing, mean, covariance):
    """Σ_oo⁻¹ is missing: without it seen pixels that say the same are counted twice."""
    seen, filled = ~missing, x.clone()
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ (x[seen] - mean[seen])
    return filled


def _fill_deviation(x, missing, mean, covariance):
    """Add the mean of the missing pixels: what you have is how far they are from it."""
    seen, filled = ~missing, x.clone()
    filled[missing] = covariance[missing][:, seen] @ torch.linalg.solve(covariance[seen][:, seen], x[seen] - mean[seen])
    return filled


def _fill_the_seen(x, missing, mean, covariance):
    """`missing` is True where a pixel is lost: those are to be filled in, the others stay."""
    return fill_in(x, ~missing, mean, covariance)


def _fill_by_precision(x, missing, mean, covariance):
    """The blocks are those of Σ, not of its inverse: invert Σ_oo alone, after cutting it out."""
    seen, filled, inverse = ~missing, x.clone(), covariance.inverse()
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ inverse[seen][:, seen] @ (x[seen] - mean[seen])
    return filled


def _fill_probes(generator):
    d = 6
    a = torch.randn(d, d, generator=generator, dtype=torch.float64).round(decimals=1)
    covariance = a @ a.T + torch.eye(d, dtype=torch.float64)
    mean = torch.randn(d, generator=generator, dtype=torch.float64).round(decimals=1)
    x = torch.randn(d, generator=generator, dtype=torch.float64).round(decimals=1)
    missing = torch.tensor([False, True, False, True, True, False])
    lost = torch.where(missing, torch.full_like(x, 1e3), x)
    hint = "Equation (1.8): mean of the missing, plus Σ_mo times the inverse of Σ_oo times (x_o − μ_o)."
    return [
        Probe("the conditional mean of a Gaussian", (x, missing, mean, covariance), hint),
        Probe(
            "ignores what stands at the missing places",
            (lost, missing, mean, covariance),
            "Only the seen entries of x may enter the formula.",
        ),
        Probe(
            "independent pixels are filled in with their mean",
            (x, missing, mean, torch.eye(d, dtype=torch.float64)),
            "With no covariance the seen pixels say nothing.",
        ),
        Probe(
            "nothing missing, nothing changed",
            (x, torch.zeros(d, dtype=torch.bool), mean, covariance),
            "Empty index sets are fine in PyTorch; no special case is needed.",
        ),
    ]


# ------------------------------------------------------------------------------------------------------- Jensen–Shannon
def jensen_shannon(p, q):
    """Jensen–Shannon divergence in nats.

    p, q: (..., K), rows of probabilities; entries may be zero.
    Returns (...,).
    """
    m = (p + q) / 2

    def kl(a, b):
        return torch.where(a > 0, a * (a / b).log(), torch.zeros_like(a)).sum(-1)

    return (kl(p, m) + kl(q, m)) / 2


def _js_no_zeros(p, q):
    """0 · log 0 is NaN on a computer and counts as 0 here: use torch.where, or torch.xlogy."""
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2


def _js_symmetrised_kl(p, q):
    """This compares p with q directly, and is infinite where one of them is 0. Compare each with the midpoint m = (p +
    q) / 2.
    """
    p, q = p + 1e-12, q + 1e-12
    return ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2


def _js_without_half(p, q):
    """Each of the two KLs counts one half: this is twice the divergence."""
    return 2 * jensen_shannon(p, q)


def _js_in_bits(p, q):
    """This is in bits. Nats need the natural logarithm, torch.log."""
    return jensen_shannon(p, q) / torch.log(torch.tensor(2.0, dtype=p.dtype))


def _js_one_side(p, q):
    """This is KL(p ‖ m) alone. Average it with KL(q ‖ m)."""
    m = (p + q) / 2
    return torch.special.xlogy(p, p / m).sum(-1)


def _js_distance(p, q):
    """This is the root. The divergence itself was asked for."""
    return jensen_shannon(p, q).clamp_min(0).sqrt()


def _js_midpoint_first(p, q):
    """The midpoint comes second in each KL: KL(p ‖ m), which averages over p, not KL(m ‖ p)."""
    m = (p + q) / 2
    return (torch.special.xlogy(m, m / p).sum(-1) + torch.special.xlogy(m, m / q).sum(-1)) / 2


def _js_sum_as_midpoint(p, q):
    """The midpoint is (p + q) / 2, a distribution that sums to 1; p + q sums to 2."""
    return (torch.special.xlogy(p, p / (p + q)).sum(-1) + torch.special.xlogy(q, q / (p + q)).sum(-1)) / 2


def _js_mean_over_outcomes(p, q):
    """Sum over the outcomes; a mean is K times too small."""
    return jensen_shannon(p, q) / p.shape[-1]


def _js_probes(generator):
    p, q = _rows(generator, 3, 5), _rows(generator, 3, 5)
    with_zeros = _rows(generator, 3, 5, zeros=True), _rows(generator, 3, 5, zeros=True)
    left = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    return [
        Probe(
            "one number for each pair, in nats",
            (p, q),
            "Average KL(p‖m) and KL(q‖m), with m halfway between p and q. Each KL is a sum of p log(p/m).",
        ),
        Probe("is zero when p equals q", (p, p), "Then m = p, and a KL to itself is zero."),
        Probe("is log 2 when p and q never overlap", (left, left.flip(-1)), "0 · log 0 counts as 0: use torch.where."),
        Probe("handles zeros in either", with_zeros, "0 · log 0 counts as 0: use torch.where."),
        Probe("takes a single pair as well", (p[0], q[0]), "The outcomes stand in the *last* dimension, sum(-1)."),
    ]


# ----------------------------------------------------------------------------------------------------- a guess, first
def blank_paper_share():
    """What share of the test images has a *lower* density p(x) than a blank page, under one
    Gaussian for each digit?

    Returns a number from 0 (none: blank paper is rejected) to 1 (all of them: it is the most
    probable page).
    """
    return 0.9


EXERCISES = (
    Exercise("1.1", 1, posterior, _posterior_probes,
             (_posterior_no_prior, _posterior_underflow, _posterior_one_level, _posterior_wrong_axis,
              _posterior_in_logs, _posterior_least_first, _posterior_around_the_mean,
              _posterior_prior_as_it_is, _posterior_joint)),
    Exercise("1.2", 1, blank_paper_share, kind="predict", between=(0, 1),
             reason="A Gaussian is highest in the middle of the data, whether or not an image ever falls there. A "
                    "digit is a blank page plus ink somewhere, and the ink moves: no ink at all is what they share."),
    Exercise("1.3", 2, fill_in, _fill_probes,
             (_fill_with_mean, _fill_forgets_to_centre, _fill_with_regression_of_diagonal, _fill_changes_input,
              _fill_without_inverse, _fill_deviation, _fill_the_seen, _fill_by_precision)),
    Exercise("1.4", 2, jensen_shannon, _js_probes,
             (_js_no_zeros, _js_symmetrised_kl, _js_without_half, _js_in_bits, _js_one_side, _js_distance,
              _js_midpoint_first, _js_sum_as_midpoint, _js_mean_over_outcomes)),
    LOG_PARTITION,
    TRAIN_ENERGY_MODEL,
    FREE_ENERGY,
)  # fmt: skip
