"""Wrong twins of the equations of chapter 05; the format stands in ``tests/twins/__init__.py``."""

THEORY = "course_utils.models.gan.theory:"
LOSSES = "course_utils.models.gan.objectives:"
DIVERGENCES = "course_utils.distributions:"

TWINS = {
    "5.2": [
        ("the share of the fakes", THEORY + "optimal_critic", "p / total.clamp_min", "q / total.clamp_min"),
        ("the odds p / q for the probability", THEORY + "optimal_critic", "p / total.clamp_min", "p / q.clamp_min"),
    ],
    "5.3": [
        ("JS without its ½", DIVERGENCES + "jensen_shannon", "kl_divergence(q, m)) / 2", "kl_divergence(q, m))"),
        ("one log 2 for two", "cell", "2 * js - 2 * math.log(2)", "2 * js - math.log(2)"),
        ("the same sign in both terms", "cell", "(1 - best).log()\njs", "best.log()\njs"),
    ],
    "5.4": [
        ("χ without its square", THEORY + "triangular", "(p - q).square()", "(p - q).abs()"),
        ("TV without its ½", THEORY + "total_variation", ".sum(-1) / 2", ".sum(-1)"),
        ("H² from the product, without the root", THEORY + "squared_hellinger", "(p * q).sqrt()", "(p * q)"),
        ("squares without ½ in the critic's loss", LOSSES + "least_squares", "(real - b).square() / 2",
         "(real - b).square()"),
        ("the margin of the hinge is 0", LOSSES + "hinge", "relu(1 - real) + relu(1 + fake)",
         "relu(-real) + relu(fake)"),
        ("the relativistic sign flipped", LOSSES + "relativistic", "Terms(softplus(fake - real)",
         "Terms(softplus(real - fake)"),
    ],
    "5.5": [
        ("the generator's sign", LOSSES + "minimax", "Terms(-value, value)", "Terms(-value, -value)"),
        ("JS for 2 JS", "cell", "js_slope = by_q(2 * jensen_shannon", "js_slope = by_q(jensen_shannon"),
        ("D* with p and q swapped", "before", "", "held = -held"),
    ],
    "5.6": [
        ("the generator descends log D", LOSSES + "non_saturating", "softplus(-fake)", "-softplus(-fake)"),
        ("log 2 is forgotten", "cell", "math.log(2) + kl_divergence(q_at, p)", "kl_divergence(q_at, p)"),
        ("KL(m‖q) for KL(q‖m)", "cell", "kl_divergence(q_at, middle)", "kl_divergence(middle, q_at)"),
    ],
    "5.7": [
        ("the gradient passes through D*", "before", "", "held = answering"),
        ("JS added", "cell", "kl_divergence(q_at, p) - 2 * jensen_shannon(p, q_at)",
         "kl_divergence(q_at, p) + 2 * jensen_shannon(p, q_at)"),
        ("KL(p‖m) for KL(m‖p)", "cell", "2 * kl_divergence(middle, p)", "2 * kl_divergence(p, middle)"),
        ("the saturating loss", LOSSES + "non_saturating", "softplus(-fake)", "-softplus(fake)"),
    ],
    "5.9": [
        ("the generator steps the wrong way", THEORY + "dirac_field", "return psi * pull,", "return -psi * pull,"),
        ("the step is not squared", "cell", "1 + 0.3**2", "1 + 0.3"),
        ("the slope at zero for that at the point", "cell", "torch.sigmoid(path.prod(1)).square()",
         "torch.full_like(radius, 0.25)"),
    ],
    "5.10": [
        ("γ²/2 for γ²/4", THEORY + "dirac_eigenvalues", "gamma**2 / 4", "gamma**2 / 2"),
        ("R2 is forgotten", THEORY + "dirac_field", "(gamma + gamma_fake) * psi", "gamma * psi"),
        ("the penalty pushes instead of slowing", THEORY + "dirac_field", "pull - (gamma", "pull + (gamma"),
        ("the root has the other sign inside", THEORY + "dirac_eigenvalues", "- slope_at_zero**2",
         "+ slope_at_zero**2"),
    ],
    "5.11": [
        ("the border without the square", "cell", "gamma > eta * 0.25", "gamma > eta * 0.5"),
        ("the critic moves first", THEORY + "dirac_path", "if alternating:", "if not alternating:"),
    ],
    "5.12": [
        ("the prices of the other side", "cell", "plan.eqlin.marginals[14:]", "plan.eqlin.marginals[:14]"),
        ("squared distances", "cell", "cost = torch.cdist(here, there)", "cost = torch.cdist(here, there).square()"),
        ("pairs without sorting", THEORY + "wasserstein_1d", "x.sort().values - y.sort().values", "x - y"),
    ],
}
