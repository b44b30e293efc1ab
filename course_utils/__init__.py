r"""Models, laws and tools behind the chapters of the course.

Conventions that hold everywhere:

* **Shapes** are ``(B, ...event)``: B batch, C,H,W image, D features, L latents, T steps, K classes or components.
* **Images** are stored as uint8 on the device and handed out as floats in [0, 1]. A model that wants [-1, 1] or
  integers converts inside, visibly.
* **Reductions** sum over the event and average over the batch. Nothing averages over pixels.
* **Units** are nats. Bits per dimension exist only in :func:`course_utils.metrics.bits_per_dim`.
* **Signs**: ``log_prob`` and ``elbo`` up is good; ``loss``, ``nll``, ``kl`` and ``energy`` down is good.
  A name never holds its negative.
* **Parameters**: theta is the generative network, phi the inference network.
* **Gaussian heads** return ``mu, log_var``; the scale is ``exp(log_var / 2)``.
* **Randomness**: nothing here seeds. A notebook calls ``torch.manual_seed(seed)`` once.
* **Budgets** count steps, never seconds, so that the same seed gives the same figures.

Nothing is imported here and nothing is re-exported: ``from course_utils.models import energy`` says where code lives.
"""
