"""Wrong twins of the equations of chapter 03; the format stands in ``tests/twins/__init__.py``."""

AE = "course_utils.models.autoencoder"

TWINS = {
    "3.1": [
        ("a mean over pixels for the sum", f"{AE}:squared_error", ".sum(1)", ".mean(1)"),
        ("the best constant is a median", "cell", "mean_image = eight.mean(0)", "mean_image = eight.median(0).values"),
        ("the distance to the mean is not squared", "cell", "(c - mean_image).square().sum()",
         "(c - mean_image).abs().sum()"),
    ],
    "3.2": [
        ("a mean over pixels for the sum", f"{AE}:squared_error", ".sum(1)", ".mean(1)"),
        ("a sum over images for the mean", f"{AE}:Autoencoder.loss", "self.error(x, self.decoder(shaken)).mean()",
         "self.error(x, self.decoder(shaken)).sum()"),
        ("the absolute error", f"{AE}:squared_error", ".square()", ".abs()"),
    ],
    "3.3": [
        ("variances divided by N − 1", f"{AE}:pca", "correction=0", "correction=1"),
        ("the smallest variances first", f"{AE}:pca", "variances.flip(0)", "variances"),
        ("the variances that are kept, not those that are lost", "cell", "variances[4:].sum()", "variances[:4].sum()"),
        ("trained on twice the error", f"{AE}:Autoencoder.loss", '"loss": error + penalty', '"loss": 2 * error'),
    ],
    "3.4": [
        ("the cosine for the sine", f"{AE}:principal_angles", "q_b - q_a @ (q_a.T @ q_b)", "q_a.T @ q_b"),
        ("bases that are not orthonormal", f"{AE}:principal_angles", "torch.linalg.qr(rows.T).Q for", "rows.T for"),
        ("the directions of the least variance", f"{AE}:pca", "directions.T.flip(0)", "directions.T"),
    ],
    "3.5": [
        ("the wrong direction", f"{AE}:kl_sparsity",
         "(target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log())",
         "(rho * (rho / target).log() + (1 - rho) * ((1 - rho) / (1 - target)).log())"),
        ("the silent half is forgotten", f"{AE}:kl_sparsity", " + (1 - target) * ((1 - target) / (1 - rho)).log()", ""),
        ("a mean over units for the sum", f"{AE}:kl_sparsity", "(1 - rho)).log()).sum()", "(1 - rho)).log()).mean()"),
        ("one activity for all units", f"{AE}:kl_sparsity", "z.mean(0)", "z.mean().expand(z.shape[1])"),
    ],
    "3.6": [
        ("absolute values for squares", f"{AE}:jacobian_penalty", ".square().sum", ".abs().sum"),
        ("a mean for the sum", f"{AE}:jacobian_penalty", ".sum((1, 2))", ".mean((1, 2))"),
        ("the norm of the derivative by the first pixel", f"{AE}:jacobian_penalty", ".square().sum((1, 2))",
         "[:, :, 0].square().sum(1)"),
    ],
    "3.7": [
        ("s' is not squared", f"{AE}:contractive_penalty", "(z * (1 - z)).square()", "(z * (1 - z))"),
        ("the weights are not squared", f"{AE}:contractive_penalty", "weight.square()", "weight.abs()"),
        ("s' = z", f"{AE}:contractive_penalty", "(z * (1 - z))", "z"),
    ],
    "3.8": [
        ("divided by σ", f"{AE}:denoising_score", "/ scale**2", "/ scale"),
        ("not divided", f"{AE}:denoising_score", " / scale**2", ""),
        ("downhill", f"{AE}:denoising_score", "repaired - x", "x - repaired"),
        ("0.93 of its length", f"{AE}:denoising_score", "/ scale**2", "/ scale**2 * 0.93"),
        ("trained to repeat the noisy image", f"{AE}:Autoencoder.loss", "self.error(x, self.decoder",
         "self.error(seen, self.decoder"),
    ],
}
