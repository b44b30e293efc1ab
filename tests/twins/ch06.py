"""Wrong twins of the equations of chapter 06; the format stands in ``tests/twins/__init__.py``."""

FLOW = "course_utils.models.flow"

TWINS = {
    "6.1": [
        ("the sign of the log-slope", f"{FLOW}.flow:change_of_variables", "log_base + log_det", "log_base - log_det"),
        ("the slope is forgotten", f"{FLOW}.flow:change_of_variables", "log_base + log_det", "log_base"),
    ],
    "6.2": [
        ("the bound without the density of the base", "cell", "math.log(steps.min()) + Normal(0.0, 1.0).log_prob(",
         "math.log(steps.min()) + 0 * Normal(0.0, 1.0).log_prob("),
        ("the largest slope for the smallest", "cell", "bound = math.log(steps.min())",
         "bound = math.log(steps.max())"),
    ],
    "6.3": [
        ("the sign of the log-determinant", f"{FLOW}.flow:change_of_variables", "log_base + log_det",
         "log_base - log_det"),
        ("the log-determinant is forgotten", f"{FLOW}.flow:change_of_variables", "log_base + log_det", "log_base"),
    ],
    "6.4": [
        ("only the last layer counts", f"{FLOW}.flow:Chain.forward", "log_det = log_det + more", "log_det = more"),
        ("layers are subtracted", f"{FLOW}.flow:Chain.forward", "log_det + more", "log_det - more"),
    ],
    "6.5": [
        ("the sum also runs over the half that stays", f"{FLOW}.coupling:affine_coupling",
         "torch.where(mask, torch.zeros_like(x), log_scale.expand_as(x))", "log_scale.expand_as(x)"),
        ("the shift is scaled too", f"{FLOW}.coupling:affine_coupling", "x * log_scale.exp() + shift",
         "(x + shift) * log_scale.exp() ** 2"),
    ],
    "6.6": [
        ("scale undone before the shift", f"{FLOW}.coupling:affine_coupling_inverse",
         "(z - shift) * (-log_scale).exp()", "z * (-log_scale).exp() - shift"),
        ("the sign of the log-scale", f"{FLOW}.coupling:affine_coupling_inverse", "(-log_scale).exp()",
         "log_scale.exp()"),
    ],
    "6.7": [
        ("the 2 before s is dropped from the slope", f"{FLOW}.spline:rational_quadratic", "2 * s * mixed + left",
         "s * mixed + left"),
        ("slopes at the two ends exchanged in the curve", f"{FLOW}.spline:rational_quadratic",
         "s * xi.square() + left * mixed) / below", "s * xi.square() + right * mixed) / below"),
    ],
    "6.8": [
        ("the sign of the log-determinant", f"{FLOW}.autoregressive:MaskedAffine.forward", "-summed(log_scale)",
         "summed(log_scale)"),
        ("scaled up instead of down", f"{FLOW}.autoregressive:MaskedAffine.forward", "(-log_scale).exp()",
         "log_scale.exp()"),
    ],
    "6.9": [
        ("the mean is taken off after the scaling", f"{FLOW}.autoregressive:MaskedAffine.forward",
         "(x - mu) * (-log_scale).exp()", "x * (-log_scale).exp() - mu"),
        ("a scale twice as sharp in the head", "chapter:GaussianConditionals.__call__",
         "coupling.bounded(raw, 3.0).exp()", "(2 * coupling.bounded(raw, 3.0)).exp()"),
    ],
    "6.10": [
        ("the scale is left out", f"{FLOW}.autoregressive:jacobi", "z * log_scale.exp() + mu", "z + mu"),
        ("the inverse of the scale", f"{FLOW}.autoregressive:jacobi", "log_scale.exp()", "(-log_scale).exp()"),
    ],
    "6.11": [
        ("the width of a bin is forgotten", f"{FLOW}.flow:Dequantised.log_weights",
         "- x[0].numel() * math.log(self.levels)", "- 0 * math.log(self.levels)"),
        ("one level too few", f"{FLOW}.flow:Dequantised.log_weights", "math.log(self.levels)",
         "math.log(self.levels - 1)"),
        ("noise of half the width", "course_utils.data.images:dequantise", "torch.rand_like(x)",
         "torch.rand_like(x) / 2"),
    ],
    "6.12": [
        ("nats called bits", "course_utils.metrics:bits_per_dim", " * math.log(2.0)", " * 1.0"),
        ("the bin is counted once for all pixels", "cell", "bits_per_dim(on_cube - n_pixels * math.log(K), n_pixels)",
         "bits_per_dim(on_cube - math.log(K), n_pixels)"),
    ],
    "6.13": [
        ("the number of bins is left out", f"{FLOW}.elementwise:HistogramCDF.forward", "log_p + math.log(n_bins)",
         "log_p"),
        ("a bin lower", f"{FLOW}.elementwise:HistogramCDF.forward", "(x * n_bins).floor().clamp(0, n_bins - 1)",
         "((x * n_bins).floor() - 1).clamp(0, n_bins - 1)"),
    ],
    "6.14": [
        ("the variance for the standard deviation", f"{FLOW}.glow:Actnorm.initialise",
         "values.std(1, correction=0)", "values.var(1, correction=0)"),
        ("the pixels are not counted", f"{FLOW}.glow:Actnorm.forward", "* math.prod(x.shape[2:])", "* 1"),
    ],
    "6.15": [
        ("one pixel instead of all", f"{FLOW}.glow:conv1x1_log_det", "height * width *", "1 *"),
        ("sides added instead of multiplied", f"{FLOW}.glow:conv1x1_log_det", "height * width", "(height + width)"),
    ],
    "6.16": [
        ("the sign of the scale", f"{FLOW}.glow:Split.forward", "log_det - summed(log_sigma)",
         "log_det + summed(log_sigma)"),
        ("the scale is forgotten", f"{FLOW}.glow:Split.forward", "log_det - summed(log_sigma)", "log_det"),
    ],
    "6.17": [
        ("σ for σ²", f"{FLOW}.flow:tweedie", "sigma**2 * score", "sigma * score"),
        ("away from the data", f"{FLOW}.flow:tweedie", "+ sigma**2 * score", "- sigma**2 * score"),
    ],
    "6.18": [
        ("the entropy of p is left out", "cell", "p.entropy() + kl - q.entropy()", "kl - q.entropy()"),
        ("the other KL", "cell", "kl_divergence(p, q)", "kl_divergence(q, p)"),
    ],
}
