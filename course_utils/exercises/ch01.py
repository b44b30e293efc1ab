"""Exercises of chapter 01: discriminative and generative models."""

import torch

from course_utils.exercises import Exercise, Probe


def _rows(generator, n, k, zeros=False):
    """Random probability vectors ``(n, k)``; with ``zeros`` some entries are exactly 0."""
    p = torch.rand(n, k, generator=generator, dtype=torch.float64) + 0.01
    if zeros:
        p = p * (torch.rand(n, k, generator=generator) > 0.4)
        p[:, 0] += 0.1
    return p / p.sum(-1, keepdim=True)


# ----------------------------------------------------------------------------------------------- 1.1 Bayes, in logs
def posterior(log_likelihood, log_prior):
    """p(y | x) by Bayes' rule, computed from logarithms.

    log_likelihood: (B, K), log p(x | y = k) for each image; may be as low as -100,000.
    log_prior: (K,), log p(y = k).
    Returns (B, K): probabilities, each row sums to 1.
    """
    return torch.softmax(log_likelihood + log_prior, dim=-1)


def _posterior_no_prior(log_likelihood, log_prior):
    return torch.softmax(log_likelihood, dim=-1)


def _posterior_underflow(log_likelihood, log_prior):
    joint = (log_likelihood + log_prior).exp()
    return joint / joint.sum(-1, keepdim=True)


def _posterior_one_level(log_likelihood, log_prior):
    joint = log_likelihood + log_prior
    scaled = (joint - joint.max()).exp()
    return scaled / scaled.sum(-1, keepdim=True)


def _posterior_wrong_axis(log_likelihood, log_prior):
    return torch.softmax(log_likelihood + log_prior, dim=0)


def _posterior_in_logs(log_likelihood, log_prior):
    return torch.log_softmax(log_likelihood + log_prior, dim=-1)


def _posterior_probes(generator):
    scores = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    prior = _rows(generator, 1, 3)[0].log()
    level = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    levels = torch.tensor([[1e5], [-1e5], [0.0], [3e4]], dtype=torch.float64)
    return [
        Probe(
            "agrees with Bayes' rule on ordinary numbers", (scores, prior), "Add the log-prior before you normalise."
        ),
        Probe(
            "equal likelihoods leave the prior",
            (torch.zeros(2, 3, dtype=torch.float64), level),
            "If x says nothing about y, the posterior is the prior.",
        ),
        Probe("survives log-likelihoods near 100,000", (scores + 1e5, prior), "exp(100000) is infinite. Stay in logs."),
        Probe("every image has its own level", (scores + levels, prior), "Normalise each row by itself."),
        Probe(
            "survives log-likelihoods near -100,000",
            (scores - 1e5, prior),
            "exp(-100000) is 0 in floating point. Normalise with softmax or logsumexp, in logs.",
        ),
    ]


# ------------------------------------------------------------------------------------------ 1.2 filling in a block
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
    return torch.where(missing, mean, x)


def _fill_forgets_to_centre(x, missing, mean, covariance):
    seen, filled = ~missing, x.clone()
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ torch.linalg.solve(
        covariance[seen][:, seen], x[seen]
    )
    return filled


def _fill_with_regression_of_diagonal(x, missing, mean, covariance):
    seen, filled = ~missing, x.clone()
    scaled = (x[seen] - mean[seen]) / covariance.diagonal()[seen]
    filled[missing] = mean[missing] + covariance[missing][:, seen] @ scaled
    return filled


def _fill_changes_input(x, missing, mean, covariance):
    x[missing] = fill_in(x, missing, mean, covariance)[missing]
    return x


def _fill_probes(generator):
    d = 6
    a = torch.randn(d, d, generator=generator, dtype=torch.float64)
    covariance = a @ a.T + torch.eye(d, dtype=torch.float64)
    mean = torch.randn(d, generator=generator, dtype=torch.float64)
    x = torch.randn(d, generator=generator, dtype=torch.float64)
    missing = torch.tensor([False, True, False, True, True, False])
    lost = torch.where(missing, torch.full_like(x, 1e3), x)
    hint = "Equation (1.8): mean of the missing, plus Σ_mo times the inverse of Σ_oo times (x_o − μ_o)."
    return [
        Probe("agrees with the conditional mean of a Gaussian", (x, missing, mean, covariance), hint),
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


# ------------------------------------------------------------------------------------------- 1.3 Jensen–Shannon
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
    m = (p + q) / 2
    return ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)) / 2


def _js_symmetrised_kl(p, q):
    p, q = p + 1e-12, q + 1e-12
    return ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2


def _js_without_half(p, q):
    return 2 * jensen_shannon(p, q)


def _js_in_bits(p, q):
    return jensen_shannon(p, q) / torch.log(torch.tensor(2.0, dtype=p.dtype))


def _js_probes(generator):
    p, q = _rows(generator, 3, 5), _rows(generator, 3, 5)
    with_zeros = _rows(generator, 3, 5, zeros=True), _rows(generator, 3, 5, zeros=True)
    left = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    return [
        Probe("agrees with the definition", (p, q), "Average KL(p‖m) and KL(q‖m), with m halfway between p and q."),
        Probe("is zero when p equals q", (p, p), "Then m = p, and a KL to itself is zero."),
        Probe("is log 2 when p and q never overlap", (left, left.flip(-1)), "0 · log 0 counts as 0: use torch.where."),
        Probe("handles zeros in either", with_zeros, "0 · log 0 counts as 0: use torch.where."),
    ]


# --------------------------------------------------------------------------------------------- 1.4 log-partition
def log_partition(energy, step):
    """log Z on a line by the midpoint rule, safe for energies of any size.

    energy: (N,), the energy at the midpoint of each of N cells; values may be in the thousands.
    step: the width of one cell, a float.
    Returns a scalar tensor, in nats.
    """
    return torch.logsumexp(-energy, dim=0) + torch.log(torch.tensor(step, dtype=energy.dtype))


def _z_overflow(energy, step):
    return (torch.exp(-energy) * step).sum().log()


def _z_sign(energy, step):
    return torch.logsumexp(energy, dim=0) + torch.log(torch.tensor(step, dtype=energy.dtype))


def _z_no_step(energy, step):
    return torch.logsumexp(-energy, dim=0)


def _z_mean(energy, step):
    return torch.logsumexp(-energy, dim=0) - torch.log(torch.tensor(len(energy) * 1.0, dtype=energy.dtype))


def _z_probes(generator):
    energy = torch.rand(50, generator=generator, dtype=torch.float64) * 4
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    return [
        Probe("agrees with a direct sum where that is safe", (energy, 0.1), "log Σ exp(-E) + log(step)."),
        Probe(
            "gives ½ log 2π for E(x) = x²/2",
            (x**2 / 2, 0.01),
            "The sum needs the width of a cell: it stands for an integral.",
        ),
        Probe("survives energies of 5,000", (energy + 5000, 0.1), "exp(-5000) is 0. Use torch.logsumexp."),
        Probe("survives energies of -5,000", (energy - 5000, 0.1), "exp(5000) is infinite. Use torch.logsumexp."),
    ]


# ---------------------------------------------------------------------------------------- 1.5 free energy of an RBM
def free_energy(v, weights, visible_bias, hidden_bias):
    """Free energy of visible vectors: minus the log of the sum of exp(-E(v, h)) over all binary h.

    v: (B, V) of 0 and 1; weights: (V, H); visible_bias: (V,); hidden_bias: (H,).
    Here E(v, h) = - v·visible_bias - h·hidden_bias - v·weights·h.
    Returns (B,), in nats. The sum over the 2**H vectors h must not be written out: it splits into H factors.
    """
    activation = v @ weights + hidden_bias  # (B, H)
    return -v @ visible_bias - torch.nn.functional.softplus(activation).sum(-1)


def _free_no_bias(v, weights, visible_bias, hidden_bias):
    return -torch.nn.functional.softplus(v @ weights + hidden_bias).sum(-1)


def _free_sign(v, weights, visible_bias, hidden_bias):
    return -free_energy(v, weights, visible_bias, hidden_bias)


def _free_mean_field(v, weights, visible_bias, hidden_bias):
    activation = v @ weights + hidden_bias
    return -v @ visible_bias - (activation.sigmoid() * activation).sum(-1)


def _free_overflow(v, weights, visible_bias, hidden_bias):
    return -v @ visible_bias - (1 + (v @ weights + hidden_bias).exp()).log().sum(-1)


def _free_probes(generator):
    def draw(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    v = (torch.rand(3, 5, generator=generator) > 0.5).double()
    v[0] = 1.0
    zero = torch.zeros(5, 4, dtype=torch.float64)
    return [
        Probe(
            "agrees with the sum over all hidden vectors",
            (v, draw(5, 4), draw(5), draw(4)),
            "Each hidden unit contributes a factor 1 + exp(its input): take the log, and mind the sign.",
        ),
        Probe(
            "without weights and biases it is -H log 2",
            (v, zero, torch.zeros(5, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)),
            "All 2^H hidden vectors then have energy 0.",
        ),
        Probe(
            "survives large inputs",
            (v, draw(5, 4).abs() * 400, draw(5), draw(4)),
            "exp(1000) overflows: torch.nn.functional.softplus computes log(1 + exp(a)) safely.",
        ),
    ]


EXERCISES = (
    Exercise(
        id="1.1",
        points=1,
        reference=posterior,
        probes=_posterior_probes,
        wrong=(
            _posterior_no_prior,
            _posterior_underflow,
            _posterior_one_level,
            _posterior_wrong_axis,
            _posterior_in_logs,
        ),
    ),
    Exercise(
        id="1.2",
        points=2,
        reference=fill_in,
        probes=_fill_probes,
        wrong=(_fill_with_mean, _fill_forgets_to_centre, _fill_with_regression_of_diagonal, _fill_changes_input),
    ),
    Exercise(
        id="1.3",
        points=2,
        reference=jensen_shannon,
        probes=_js_probes,
        wrong=(_js_no_zeros, _js_symmetrised_kl, _js_without_half, _js_in_bits),
    ),
    Exercise(
        id="1.4", points=1, reference=log_partition, probes=_z_probes, wrong=(_z_overflow, _z_sign, _z_no_step, _z_mean)
    ),
    Exercise(
        id="1.5",
        points=2,
        reference=free_energy,
        probes=_free_probes,
        wrong=(_free_no_bias, _free_sign, _free_mean_field, _free_overflow),
    ),
)
