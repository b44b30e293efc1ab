"""Exercises of chapter 04: variational autoencoders."""

from course_utils.exercises import Exercise
from course_utils.exercises.ch04_bounds import BERNOULLI_ELBO, IWAE_BOUND, NEGATIVE_ELBO
from course_utils.exercises.ch04_build import SMALL_VAE
from course_utils.exercises.ch04_codes import DRAW, KL, N_ACTIVE, QUANTISE


def price_of_two_latents():
    """After training, how many nats does the code of one image cost, its KL, in the model with
    two latents?

    Returns a number of nats from 0 to 200.
    """
    return 6.0


PRICE_OF_TWO_LATENTS = Exercise(
    "4.3", 1, price_of_two_latents, kind="predict", unit="nats", between=(0, 200),
    reason="A latent is a noisy number, and by (4.8) its price is what it can carry: halving its noise costs only "
           "log 2 = 0.69 nats more. Two such numbers cannot say much, and need not pay much.",
)  # fmt: skip

EXERCISES = (
    KL,
    DRAW,
    PRICE_OF_TWO_LATENTS,
    BERNOULLI_ELBO,
    IWAE_BOUND,
    SMALL_VAE,
    NEGATIVE_ELBO,
    N_ACTIVE,
    QUANTISE,
)
