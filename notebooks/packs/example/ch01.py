"""An example of a private pack: two exercises on chapter 01. Being public, it is good for trying, not for grading."""

import torch

from course_utils.exercises import Exercise, Probe

D = torch.float64


# ------------------------------------------------------------------------------------------------- entropy from logits
def entropy(logits):
    """Entropy in nats of the distribution softmax(logits).

    logits: (..., K), any real numbers; entries may be -inf, for outcomes that are impossible, and in the thousands.
    Returns (...,).
    """
    log_p = logits.log_softmax(-1)
    return -torch.where(log_p == -torch.inf, torch.zeros_like(log_p), log_p.exp() * log_p).sum(-1)


def _entropy_in_bits(logits):
    """These are bits. In nats the logarithm is the natural one."""
    return entropy(logits) / torch.log(torch.tensor(2.0, dtype=logits.dtype))


def _entropy_negative(logits):
    """An entropy is not negative: minus the sum of p log p."""
    return -entropy(logits)


def _entropy_of_logits(logits):
    """Logits are no logarithms of probabilities until they are normalised."""
    p = logits.softmax(-1)
    return -torch.where(p > 0, p * logits, torch.zeros_like(p)).sum(-1)


def _entropy_nan(logits):
    """0 · log 0 counts as 0, and in floating point it is NaN: leave impossible outcomes out."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def _entropy_probes(generator):
    logits = torch.randn(3, 4, generator=generator, dtype=D).mul(10).round() / 10
    impossible = torch.cat([logits[:1], torch.full((1, 1), -torch.inf, dtype=D)], 1)
    return [
        Probe("a fair coin has log 2", (torch.zeros(1, 2, dtype=D),), "Two outcomes with probability one half each."),
        Probe("adding a number to all logits changes nothing", (logits + 7,), "Normalise the logits first."),
        Probe("an impossible outcome costs nothing", (impossible,), "p log p goes to 0 as p does."),
        Probe("sure outcomes, thousands of nats apart", (2_000 * logits,), "Work with log_softmax."),
        Probe("any logits", (logits,), "H = -sum p log p."),
    ]


# --------------------------------------------------------------------------------------- the price of the best decision
def bayes_error(joint):
    """The smallest probability of a wrong decision about y when x is seen.

    joint: (X, K), p(x, y), entries sum to 1.
    Returns a number: the probability that the decision with the highest p(y | x) is wrong.
    """
    return 1 - joint.max(1).values.sum()


def _error_of_prior(joint):
    """That is the error without looking at x. For each x there is a best decision of its own."""
    return 1 - joint.sum(0).max()


def _error_unweighted(joint):
    """Each x counts with its probability p(x): take the largest joint probability, not the largest posterior."""
    return 1 - (joint / joint.sum(1, keepdim=True)).max(1).values.mean()


def _error_is_accuracy(joint):
    """That is the probability of being right."""
    return joint.max(1).values.sum()


def _error_probes(generator):
    joint = torch.rand(4, 3, generator=generator, dtype=D)
    return [
        Probe("x that tells all: no errors", (torch.eye(3, dtype=D) / 3,), "Each x has one y."),
        Probe("x that tells nothing: one half", (torch.full((2, 2), 0.25, dtype=D),), "All four cases are alike."),
        Probe("a common x and a rare one", (torch.tensor([[0.6, 0.3], [0.02, 0.08]], dtype=D),), "p(x) differs."),
        Probe("any joint distribution", (joint / joint.sum(),), "1 - sum over x of the largest p(x, y)."),
    ]


EXERCISES = (
    Exercise("1.p1", 2, entropy, _entropy_probes,
             wrong=(_entropy_in_bits, _entropy_negative, _entropy_of_logits, _entropy_nan)),
    Exercise("1.p2", 2, bayes_error, _error_probes, wrong=(_error_of_prior, _error_unweighted, _error_is_accuracy)),
)  # fmt: skip
