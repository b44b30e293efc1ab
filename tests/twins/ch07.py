"""Wrong twins of chapter 07: diffusion and flow matching."""

PROCESS, SAMPLERS = "course_utils.models.diffusion.process", "course_utils.models.diffusion.samplers"
FLOW, MIXTURE = "course_utils.models.diffusion.flow_matching", "course_utils.distributions.mixtures:GaussianMixture"

TWINS = {
    "7.1": [
        ("x is shrunk by 1 - β, not by its root", "cell", "(1 - short.beta[t]).sqrt() * x", "(1 - short.beta[t]) * x"),
        ("the noise has standard deviation β", "cell", "short.beta[t].sqrt() * torch", "short.beta[t] * torch"),
    ],
    "7.2": [
        ("in the end the spread is 1 - ᾱ, not its root", "cell", "(1 - short.alpha_bar[50]).sqrt())",
         "(1 - short.alpha_bar[50]))"),
        ("the noise is scaled by its variance", f"{PROCESS}:q_sample", "(1 - alpha_bar) ** 0.5 * eps",
         "(1 - alpha_bar) * eps"),
        ("the signal is scaled by its variance", f"{PROCESS}:q_sample", "alpha_bar**0.5 * x_0", "alpha_bar * x_0"),
        ("the variances do not add up", f"{PROCESS}:q_sample", "(1 - alpha_bar) ** 0.5 * eps",
         "(1 - alpha_bar**0.5) * eps"),
    ],
    "7.3": [
        ("the remainder is subtracted", "cell", "+ posterior.variance", "- posterior.variance"),
        ("the remainder is missing", "cell", " + posterior.variance", ""),
        ("the posterior variance shrinks by the root", f"{MIXTURE}.clean_given",
         "alpha_bar * covariances.square() / noisy", "alpha_bar**0.5 * covariances.square() / noisy"),
    ],
    "7.4": [
        ("divided by σ instead of σ²", "cell", "/ (1 - alpha_bar)\n", "/ (1 - alpha_bar) ** 0.5\n"),
        ("the mean is not shrunk", "cell", "(alpha_bar**0.5 * x0_hat - x)", "(x0_hat - x)"),
        ("the posterior mean forgets its cluster's pull", f"{MIXTURE}.clean_given",
         "means + alpha_bar**0.5 * covariances * pulled", "means + covariances * pulled"),
    ],
    "7.5": [
        ("the velocity has the other sign", f"{PROCESS}:v_from", "eps - (1", "eps + (1"),
        ("x₀ from v with sine and cosine swapped", f"{PROCESS}:x0_from_v",
         "alpha_bar**0.5 * x_t - (1 - alpha_bar) ** 0.5 * v", "(1 - alpha_bar) ** 0.5 * x_t - alpha_bar**0.5 * v"),
        ("the noise is divided by its variance", f"{PROCESS}:eps_from_x0", "/ (1 - alpha_bar) ** 0.5",
         "/ (1 - alpha_bar)"),
    ],
    "7.6": [
        ("the SNR upside down", "cell", "by_quadrature = a / (1 - a) *", "by_quadrature = (1 - a) / a *"),
        ("the floor of x₀ for that of the noise", "cell", "by_quadrature = a / (1 - a) *", "by_quadrature = 1 *"),
    ],
    "7.7": [
        ("the ½ before the integral is dropped", "cell", "- 0.5 * integral", "- integral"),
        ("dγ taken for d log γ", "cell", "(1 / (1 + gamma) - mmse) * gamma", "(1 / (1 + gamma) - mmse)"),
    ],
    "7.8": [
        ("the variance of the forward step", f"{PROCESS}:posterior", "before / noise * (1 - alpha)", "1 - alpha"),
        ("x_t weighted without the root", f"{PROCESS}:posterior", "alpha**0.5 * before", "alpha * before"),
        ("s and t swapped before x₀", f"{PROCESS}:posterior", "alpha_bar_s**0.5 * (1", "alpha_bar_t**0.5 * (1"),
    ],
    "7.9": [
        ("twice the KL of every step", f"{PROCESS}:Diffusion.elbo", "(high - low) * step_kl",
         "2 * (high - low) * step_kl"),
        ("the signal that is left at T costs nothing", f"{PROCESS}:Diffusion.elbo", "total = -prior_kl",
         "total = -0 * prior_kl"),
        ("the sum begins one step late", f"{PROCESS}:Diffusion.elbo", "(high - low) * step_kl",
         "(low > 0) * step_kl"),
        ("the last step as narrow as its variance", f"{PROCESS}:last_step",
         "gaussian_evidence(x_1, alpha_bar).stddev", "gaussian_evidence(x_1, alpha_bar).variance"),
    ],
    "7.10": [
        ("the ½ is dropped", f"{PROCESS}:step_kl", "0.5 * (snr_s - snr_t)", "(snr_s - snr_t)"),
        ("the SNR before the step alone", f"{PROCESS}:step_kl", "(snr_s - snr_t)", "snr_s"),
    ],
    "7.11": [
        ("mass flows the wrong way", "cell", "checks.close(change, -flux", "checks.close(change, flux"),
        ("log p grows where the field spreads", "cell", "checks.close(along, -div", "checks.close(along, div"),
    ],
    "7.12": [
        ("the noise is read without its factor", f"{FLOW}:path_velocity", "(x_t - a * x0_hat) / b",
         "(x_t - x0_hat) / b"),
        ("the speed of the noise with the other sign", f"{FLOW}:path_velocity", "+ db * (x_t", "- db * (x_t"),
    ],
    "7.13": [
        ("the target is ε - x", f"{FLOW}:FlowMatching.loss", "(x - eps - answer)", "(eps - x - answer)"),
        ("noise and data swapped on the path", f"{FLOW}:straight_path", "t * x + (1 - t) * eps",
         "t * eps + (1 - t) * x"),
    ],
    "7.14": [
        ("the ½ before g² is dropped", f"{SAMPLERS}:stochastic", "g**2 / 2 * pull", "g**2 * pull"),
        ("the score is left out", f"{SAMPLERS}:stochastic", " + step * g**2 / 2 * pull", ""),
    ],
    "7.15": [
        ("the fresh noise comes on top of all the old", f"{SAMPLERS}:ddim", "(1 - a_s - variance) ** 0.5",
         "(1 - a_s) ** 0.5"),
        ("the variance of the forward step", f"{SAMPLERS}:ddim", "eta**2 * (1 - a_s) / (1 - a_t) * (1", "eta**2 * (1"),
    ],
    "7.16": [
        ("cosines not squared", "cell", ".diff().cos().square().prod()", ".diff().cos().prod()"),
        ("N for 2N", "cell", "** (2 * n)", "** n"),
        ("the guess is not shrunk", "cell", "one.alpha_bar[t[0]].sqrt() * x", "one.alpha_bar[t[0]] * x"),
    ],
    "7.17": [
        ("pushed towards the unconditional one", f"{SAMPLERS}:guided", "(conditional - unconditional)",
         "(unconditional - conditional)"),
        ("starting from the conditional one", f"{SAMPLERS}:guided", "unconditional + s", "conditional + s"),
    ],
}
