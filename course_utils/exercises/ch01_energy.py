"""Exercises of chapter 01 about energies: log Z on a line, and free energy."""

import math

import torch

from course_utils.exercises import Exercise, Probe


# -------------------------------------------------------------------------------------------------------- log-partition
def log_partition(energy, step):
    """log Z on a line by the midpoint rule, safe for energies of any size.

    energy: (N,), the energy at the midpoint of each of N cells; values may be in the
    thousands.
    step: the width of one cell, a float.
    Returns a scalar tensor, in nats.
    """
    return torch.logsumexp(-energy, dim=0) + torch.log(torch.tensor(step, dtype=energy.dtype))


def _z_overflow(energy, step):
    """exp(5000) is infinite and exp(-5000) is 0 on a computer. Use torch.logsumexp, which stays in logarithms."""
    return (torch.exp(-energy) * step).sum().log()


def _z_sign(energy, step):
    """Mind the minus sign: a state of high energy counts little, exp(-E)."""
    return torch.logsumexp(energy, dim=0) + torch.log(torch.tensor(step, dtype=energy.dtype))


def _z_no_step(energy, step):
    """The sum stands for an integral: every term counts times the width of a cell."""
    return torch.logsumexp(-energy, dim=0)


def _z_mean(energy, step):
    """The mean of exp(-E) is not Z: multiply by the width of a cell, do not divide by the number of cells."""
    return torch.logsumexp(-energy, dim=0) - torch.log(torch.tensor(len(energy) * 1.0, dtype=energy.dtype))


def _z_itself(energy, step):
    """This is Z. Its logarithm was asked for."""
    return torch.logsumexp(-energy, dim=0).exp() * step


def _z_times_step(energy, step):
    """The width multiplies Z, so in the logarithm it is *added*: log Σ exp(−E) + log(step)."""
    return torch.logsumexp(-energy, dim=0) * step


def _z_around_the_mean(energy, step):
    """What you take off before exp must be the *lowest* energy. Where energies are spread wide, exp still overflows."""
    return (energy.mean() - energy).exp().sum().log() - energy.mean() + math.log(step)


def _z_forgets_the_level(energy, step):
    """What you took off the energies before exp has to be put back at the end."""
    return (energy.min() - energy).exp().sum().log() + math.log(step)


def _z_lowest_energy(energy, step):
    """This is the lowest energy alone. The others count too: log of the *sum* of exp(−E)."""
    return -energy.min() + math.log(step)


def _z_probes(generator):
    energy = (torch.rand(50, generator=generator, dtype=torch.float64) * 4).round(decimals=2)
    few = torch.tensor([-900.0, 0.0, 3.0, 1200.0], dtype=torch.float64)
    x = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    return [
        Probe(
            "two cells of energy 0 and width 0.5: Z = 1",
            (torch.zeros(2, dtype=torch.float64), 0.5),
            "Z = Σ exp(−E) · step, here 1 · 0.5 + 1 · 0.5, and log 1 = 0.",
        ),
        Probe("a sum over 50 cells", (energy, 0.1), "log Σ exp(−E) + log(step)."),
        Probe(
            "gives ½ log 2π for E(x) = x²/2",
            (x**2 / 2, 0.01),
            "The sum needs the width of a cell: it stands for an integral.",
        ),
        Probe("survives energies of 5,000", (energy + 5000, 0.1), "exp(-5000) is 0. Use torch.logsumexp."),
        Probe("survives energies of -5,000", (energy - 5000, 0.1), "exp(5000) is infinite. Use torch.logsumexp."),
        Probe("survives energies that are thousands apart", (few, 0.1), "Use torch.logsumexp of minus the energies."),
    ]


LOG_PARTITION = Exercise(
    "1.5", 1, log_partition, _z_probes,
    (_z_overflow, _z_sign, _z_no_step, _z_mean, _z_itself, _z_times_step, _z_around_the_mean,
     _z_forgets_the_level, _z_lowest_energy),
)  # fmt: skip


# ------------------------------------------------------------------------------------------------ free energy of an RBM
def free_energy(v, weights, visible_bias, hidden_bias):
    """Free energy of visible vectors: minus the log of the sum of exp(-E(v, h)) over all
    binary h.

    v: (B, V) of 0 and 1; weights: (V, H); visible_bias: (V,); hidden_bias: (H,).
    Here E(v, h) = - v·visible_bias - h·hidden_bias - v·weights·h.
    Returns (B,), in nats. The sum over the 2**H vectors h must not be written out: it splits
    into H factors.
    """
    activation = v @ weights + hidden_bias  # (B, H)
    return -v @ visible_bias - torch.nn.functional.softplus(activation).sum(-1)


def _free_no_bias(v, weights, visible_bias, hidden_bias):
    """The visible bias is missing: every visible unit that is 1 adds its bias to −F."""
    return -torch.nn.functional.softplus(v @ weights + hidden_bias).sum(-1)


def _free_sign(v, weights, visible_bias, hidden_bias):
    """The sign is turned: F is *minus* the logarithm of the sum, so that low F means probable."""
    return -free_energy(v, weights, visible_bias, hidden_bias)


def _free_mean_field(v, weights, visible_bias, hidden_bias):
    """You put the mean of h into the energy. The sum over h = 0 and h = 1 gives log(1 + exp(a)) for each hidden unit.
    """
    activation = v @ weights + hidden_bias
    return -v @ visible_bias - (activation.sigmoid() * activation).sum(-1)


def _free_overflow(v, weights, visible_bias, hidden_bias):
    """exp(1000) is infinite on a computer. torch.nn.functional.softplus computes log(1 + exp(a)) safely."""
    return -v @ visible_bias - (1 + (v @ weights + hidden_bias).exp()).log().sum(-1)


def _free_no_hidden_bias(v, weights, visible_bias, hidden_bias):
    """The hidden bias is missing: the input of hidden unit j is c_j + (v W)_j."""
    return -v @ visible_bias - torch.nn.functional.softplus(v @ weights).sum(-1)


def _free_symmetric_units(v, weights, visible_bias, hidden_bias):
    """Hidden units are 0 or 1, not −1 or 1: each gives a factor exp(0) + exp(a) = 1 + exp(a)."""
    activation = v @ weights + hidden_bias
    return -v @ visible_bias - torch.logaddexp(activation, -activation).sum(-1)


def _free_visible_sign(v, weights, visible_bias, hidden_bias):
    """Mind the sign of the visible bias: E holds −v·b, and so does F."""
    return v @ visible_bias - torch.nn.functional.softplus(v @ weights + hidden_bias).sum(-1)


def _free_hidden_sign(v, weights, visible_bias, hidden_bias):
    """Mind the sign inside: exp(−E) holds exp(+a h), so each hidden unit gives 1 + exp(a)."""
    return -v @ visible_bias - torch.nn.functional.softplus(-v @ weights - hidden_bias).sum(-1)


def _free_best_hidden(v, weights, visible_bias, hidden_bias):
    """This is the energy of the best h alone. All 2^H of them count: log(1 + exp(a)) for each unit, not max(0, a)."""
    return -v @ visible_bias - (v @ weights + hidden_bias).clamp_min(0).sum(-1)


def _free_mean(v, weights, visible_bias, hidden_bias):
    """A product over hidden units becomes a *sum* of logarithms, not a mean."""
    return -v @ visible_bias - torch.nn.functional.softplus(v @ weights + hidden_bias).mean(-1)


def _free_probes(generator):
    def draw(*shape, scale=1.0):
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64).round(decimals=2)

    v = (torch.rand(3, 5, generator=generator) > 0.5).double()
    v[0] = 1.0
    zero = torch.zeros(5, 4, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    return [
        Probe(
            "without weights and biases it is -H log 2",
            (v, zero, torch.zeros(5, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)),
            "All 2^H hidden vectors then have energy 0.",
        ),
        Probe(
            "one visible and one hidden unit: the sum over h has two terms",
            (one, 0.5 * one, one[0] * 0.25, one[0] * -2.0),
            "E = −0.25 for h = 0 and −0.25 + 2 − 0.5 for h = 1. Add exp(−E) of both, take the log, turn the sign.",
        ),
        Probe(
            "the sum over all hidden vectors",
            (v, draw(5, 4), draw(5), draw(4)),
            "Each hidden unit contributes a factor 1 + exp(its input): take the log, and mind the sign.",
        ),
        Probe(
            "survives large inputs",
            (v, draw(5, 4).abs() * 400, draw(5), draw(4)),
            "exp(1000) overflows: torch.nn.functional.softplus computes log(1 + exp(a)) safely.",
        ),
    ]


FREE_ENERGY = Exercise(
    "1.7", 2, free_energy, _free_probes,
    (_free_no_bias, _free_sign, _free_mean_field, _free_overflow, _free_no_hidden_bias, _free_symmetric_units,
     _free_visible_sign, _free_hidden_sign, _free_best_hidden, _free_mean),
)  # fmt: skip
