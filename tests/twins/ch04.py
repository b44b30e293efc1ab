"""Wrong twins of the equations of chapter 04; the format stands in ``tests/twins/__init__.py``."""

TWINS = {
    "4.7": [
        ("the ½ before μ² is dropped", "course_utils.models.vae:gaussian_kl", "0.5 * mu.square()", "mu.square()"),
        ("σ is taken for σ²", "course_utils.models.vae:gaussian_kl", "(log_var.exp()", "((log_var / 2).exp()"),
    ],
}
