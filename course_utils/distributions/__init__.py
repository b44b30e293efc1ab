r"""Distributions the models share, and numbers that compare two of them.

Everything that is a probability is a :class:`torch.distributions.Distribution`, so that ``log_prob`` and ``sample``
come from one tested place and nobody writes a Gaussian constant twice.

* ``divergences``: KL, Jensen-Shannon and entropy of finitely many outcomes
* ``basic``: diagonal Gaussians, independent Bernoulli pixels, N(0, I), the uniform cube
* ``mixtures``: mixtures of Gaussians, fixed and learned
* ``heads``: from a network's numbers to a distribution over images or codes
* ``levels``: distributions over grey levels
"""

from course_utils.distributions.basic import StandardNormal, UnitCube, bernoulli, gaussian, standard_normal
from course_utils.distributions.divergences import entropy_of, jensen_shannon, kl_divergence
from course_utils.distributions.heads import BernoulliHead, FixedGaussianHead, GaussianHead, LevelHead, shape_for
from course_utils.distributions.levels import (
    DiscretisedLogisticMixture,
    Head,
    from_levels,
    inverse_cdf,
    tempered,
    to_levels,
)
from course_utils.distributions.mixtures import GaussianMixture, MixturePrior

__all__ = ["BernoulliHead", "DiscretisedLogisticMixture", "FixedGaussianHead", "GaussianHead", "GaussianMixture",
           "Head", "LevelHead", "MixturePrior", "StandardNormal", "UnitCube", "bernoulli", "entropy_of",
           "from_levels", "gaussian", "inverse_cdf", "jensen_shannon", "kl_divergence", "shape_for",
           "standard_normal", "tempered", "to_levels"]
