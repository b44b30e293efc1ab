"""Wrong twins of the equations of chapter 01; the format stands in ``tests/twins/__init__.py``."""

MIXTURE = "course_utils.distributions:GaussianMixture"
ENERGY = "course_utils.models.energy"

TWINS = {
    "1.1": [
        ("labels compete across points", f"{MIXTURE}.posterior", ".softmax(-1)", ".softmax(0)"),
        ("p(y|x) is the joint, not normalised", f"{MIXTURE}.posterior", ".softmax(-1)", ".exp()"),
        ("a sum over the grid without the size of a cell", "cell", "p_x.sum() * cell, 1.0", "p_x.sum(), 1.0"),
    ],
    "1.2": [
        ("the joint without the weight of the class", f"{MIXTURE}.joint_log_prob",
         " + self.mixture_distribution.logits", ""),
        ("p(y|x) alone is taken for the joint", "cell", "p_y_given_x * p_x[:, None], joint", "p_y_given_x, joint"),
    ],
    "1.3": [
        ("Bayes' rule without its denominator", "cell", "p_x[:, None] / p_y  #", "p_x[:, None]  #"),
        ("divided by p(x) instead of p(y)", "cell", "p_x[:, None] / p_y  #", "p_x[:, None] / p_x[:, None]  #"),
        ("p(y) as a mean over the grid instead of an integral", "cell", "p_x[:, None]).sum(0) * cell",
         "p_x[:, None]).mean(0)"),
    ],
    "1.4": [
        ("the ½ is dropped", "course_utils.models.classifier:lda_logits", "means).sum(-1) / 2", "means).sum(-1)"),
        ("the prior is dropped", "course_utils.models.classifier:lda_logits", "weights.log() - (", "-("),
        ("the quadratic term has the other sign", "course_utils.models.classifier:lda_logits", "weights.log() - (",
         "weights.log() + ("),
    ],
    "1.5": [
        ("a Gaussian of standard deviation 2", "course_utils.distributions:standard_normal", "torch.ones_like(zeros)",
         "2 * torch.ones_like(zeros)"),
        ("the norm for its square", "cell", "sample.square().sum(1), 784.0", "sample.norm(dim=1), 784.0"),
        ("the ½ is dropped", "cell", "(gap, 392.0", "(gap, 784.0"),
    ],
    "1.6": [
        ("the gradient itself instead of its sign", "course_utils.models.classifier:fgsm", "grad.sign()", "grad"),
        ("a step down instead of up", "course_utils.models.classifier:fgsm", "x + epsilon", "x - epsilon"),
        ("the gradient of log p(y|x)", "course_utils.models.classifier:fgsm", "nll = -p.log_prob", "nll = p.log_prob"),
    ],
    "1.7": [
        ("the integral without the size of a cell", "cell", " + math.log(cell)", ""),
        ("not divided by p(x_o)", "cell", "joint - log_seen, cond", "joint, cond"),
        ("divided by p(x_m)", "cell", "joint - log_seen, cond",
         "joint - Gaussian(mu[m], sigma[m][:, m]).log_prob(missing), cond"),
    ],
    "1.8": [
        ("every component weighs as before anything was seen", f"{MIXTURE}.conditional_mean",
         "self.marginal(seen).posterior(x[:, seen])", "self.mixture_distribution.probs.expand(len(x), -1)"),
        ("the surprise is subtracted", f"{MIXTURE}.conditional_mean", ".unsqueeze(1) + surprise",
         ".unsqueeze(1) - surprise"),
        ("the surprise is ignored", f"{MIXTURE}.conditional_mean", ".unsqueeze(1) + surprise @ gains",
         ".unsqueeze(1) + 0 * (surprise @ gains)"),
        ("the variance grows by what is seen", "cell", "sigma[m][:, m] - a @", "sigma[m][:, m] + a @"),
        ("the mean of x_o is not subtracted", "cell", "a @ (point - mu)[~m]", "a @ point[~m]"),
    ],
    "1.9": [
        ("weighed by the forecast", "cell", "penalty = p * (p / q)", "penalty = q * (p / q)"),
        ("the ratio upside down", "cell", "penalty = p * (p / q)", "penalty = p * (q / p)"),
        ("not weighed at all", "cell", "penalty = p * (p / q)", "penalty = (p / q)"),
    ],
    "1.10": [
        ("the wrong direction", "course_utils.distributions:kl_divergence", "p * (p.log() - q.log())",
         "q * (q.log() - p.log())"),
        ("the sign", "course_utils.distributions:kl_divergence", "p.log() - q.log()", "q.log() - p.log()"),
        ("a mean over outcomes for the sum", "course_utils.distributions:kl_divergence", ").sum(-1)", ").mean(-1)"),
        ("the bound sums over all outcomes", "cell", "torch.where(p_0 > 1e-200, q - p_0, 0).sum(1)",
         "(2 * q - p_0).sum(1)"),
    ],
    "1.12": [
        ("the wrong direction", "cell", "(log_p.exp()[:, None] * (log_p[:, None] - model_q.log_prob(line)))",
         "(model_q.log_prob(line).exp() * (model_q.log_prob(line) - log_p[:, None]))"),
        ("the entropy with the other sign", "cell", "-entropy - kl", "entropy - kl"),
        ("the entropy is forgotten", "cell", "-entropy - kl", "-kl"),
    ],
    "1.13": [
        ("not normalised", f"{ENERGY}:GridEnergyModel.log_prob", " - self.log_partition()", ""),
        ("high energy, high density", f"{ENERGY}:GridEnergyModel.log_prob", "-self.energy(x)", "self.energy(x)"),
        ("Z without the size of a cell", f"{ENERGY}:log_partition", " + log_volume", ""),
        ("Z of exp(+E)", f"{ENERGY}:log_partition", "(-energies)", "energies"),
    ],
    "1.14": [
        ("the ½ is dropped", f"{ENERGY}:langevin", "step_size / 2 * slope", "step_size * slope"),
        ("noise of size η", f"{ENERGY}:langevin", "math.sqrt(step_size)", "step_size"),
        ("uphill", f"{ENERGY}:langevin", "x - step_size", "x + step_size"),
        ("a mean over the walkers for the sum", f"{ENERGY}:langevin", "energy(x).sum()", "energy(x).mean()"),
    ],
    "1.16": [
        ("the visible bias has the other sign", f"{ENERGY}:free_energy", "-v @ visible_bias", "v @ visible_bias"),
        ("the hidden bias is forgotten", f"{ENERGY}:free_energy", "v @ weights + hidden_bias", "v @ weights"),
        ("a sum over h that takes the better state only", f"{ENERGY}:free_energy",
         "softplus(v @ weights + hidden_bias)", "(v @ weights + hidden_bias).relu()"),
    ],
    "1.17": [
        ("a plus for the minus", "cell", "up - down, what", "up + down, what"),
        ("the model's own samples do not push back", f"{ENERGY}:PersistentChains.__call__", "data - model,",
         "data,"),
        ("trained in the other direction", f"{ENERGY}:PersistentChains.__call__", "data - model,", "model - data,"),
        ("the chains forget the hidden bias", f"{ENERGY}:RBM.hidden_given", " + self.hidden_bias", ""),
    ],
    "1.18": [
        ("a mean of logarithms for the logarithm of the mean", f"{ENERGY}:annealed_importance_sampling",
         "log_weight.logsumexp(0) - math.log(n_runs)", "log_weight.mean(0)"),
        ("Gibbs steps at the temperature before", f"{ENERGY}:annealed_importance_sampling",
         "h = torch.sigmoid(high", "h = torch.sigmoid(low"),
        ("no Gibbs steps", f"{ENERGY}:annealed_importance_sampling",
         "v = torch.sigmoid(high * (h @ w.T) + b).bernoulli()", "pass"),
        ("Z₀ without the hidden units", f"{ENERGY}:annealed_importance_sampling", " + len(c) * math.log(2.0)", ""),
        ("the sign of the ratio", f"{ENERGY}:annealed_importance_sampling",
         "(softplus(high * activation) - softplus(low * activation))",
         "(softplus(low * activation) - softplus(high * activation))"),
    ],
}
