"""Answers that students might give to the exercises of chapters 01 to 04 and 08: right ones, wrong ones with a hint.

Written without looking at the wrong answers that the exercises themselves hold: other code for the same mistake, two
mistakes at once, answers of the wrong form. ``WRONG`` names what the message must say, ``RIGHT`` has to pass.
"""

import math

import numpy as np
import torch
from torch.distributions import AffineTransform, Bernoulli, Categorical, Normal, kl_divergence
from torch.nn import functional as F


# ---------------------------------------------------------------------------------------------------------------- right
def stop_by_walking(sigma, length, u):
    out = torch.full_like(u, math.inf)
    for b, wanted in enumerate((-torch.log(1 - u)).tolist()):
        for k, s in enumerate(sigma.tolist()):
            if wanted < s * length:
                out[b] = k * length + wanted / s
                break
            wanted -= s * length
    return out


def stop_by_survival(sigma, length, u):
    alive = torch.exp(-torch.cat([torch.zeros(1).to(sigma), (sigma * length).cumsum(0)]))
    k = (alive[None] > 1 - u[:, None]).sum(1) - 1
    inside = k < len(sigma)
    k = k.clamp(max=len(sigma) - 1)
    return torch.where(inside, k * length + torch.log(alive[k] / (1 - u)) / sigma[k], math.inf)


def ray_colour(sigma, delta, colours, background):
    alive = torch.exp(-torch.cat([torch.zeros(1).to(sigma), (sigma * delta).cumsum(0)]))
    return (alive[:-1] - alive[1:]) @ colours + alive[-1] * background


def gradient_by_autograd(sigma, delta, colours, background):
    return torch.autograd.functional.jacobian(lambda s: ray_colour(s, delta, colours, background), sigma).T


def gradient_by_loops(sigma, delta, colours, background, own=1.0, wall=1.0, back=0):
    rows = []
    for i in range(len(sigma)):
        alive = torch.exp(-(sigma * delta)[: i + 1 - back].sum())
        seen = background * torch.exp(-(sigma * delta).sum()) * wall
        for j in range(i + 1, len(sigma)):
            reach = torch.exp(-(sigma * delta)[:j].sum())
            seen = seen + reach * (1 - torch.exp(-sigma[j] * delta[j])) * colours[j]
        rows.append(delta[i] * (own * alive * colours[i] - seen))
    return torch.stack(rows)


def pca_by_eigenvectors(x, n_components):
    mean = x.mean(0)
    v = torch.linalg.eigh(torch.cov(x.T)).eigenvectors[:, -n_components:]
    return (x - mean) @ v @ v.T + mean


def pca_by_truncation(x, n_components):
    u, s, vh = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return (u[:, :n_components] * s[:n_components]) @ vh[:n_components] + x.mean(0)


def coins(z, target):
    return kl_divergence(Bernoulli(torch.full_like(z[0], target)), Bernoulli(z.mean(0))).sum()


def draw_by_rows(mu, log_var, eps):
    return torch.stack([m + v.exp().sqrt() * e for m, v, e in zip(mu, log_var, eps, strict=True)])


def draw_by_entries(mu, log_var, eps):
    z = torch.zeros_like(mu)
    for i in range(len(mu)):
        for j in range(mu.shape[1]):
            z[i, j] = mu[i, j] + torch.exp(0.5 * log_var[i, j]) * eps[i, j]
    return z


def kl(mu, log_var):
    return kl_divergence(Normal(mu, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(1)


def elbo_in_two_parts(x, logits, mu, log_var):
    return (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(1) - kl(mu, log_var)


def by_the_largest(log_weights):
    top = log_weights.max(0).values
    return (log_weights - top).exp().mean(0).log() + top


def gaussian_loss(x, x_hat, mu, log_var, scale):
    constant = x.shape[1] / 2 * math.log(2 * math.pi * scale**2)
    return (kl(mu, log_var) - Normal(x_hat, scale).log_prob(x).sum(1) - constant).mean()


def quantise_by_autograd(z_e, words, decoder_gradient):
    z = z_e.clone().requires_grad_()
    z_q = words[(z[:, None] - words).square().sum(2).argmin(1)].detach()
    straight = z + (z_q - z).detach()
    ((straight * decoder_gradient).sum() + 0.25 * (z - z_q).square().sum()).backward()
    return z_q, z.grad


def fill_by_precision(x, missing, mean, covariance):
    precision, filled = torch.linalg.inv(covariance), x.clone()
    m, o = missing, ~missing
    if m.any():
        filled[m] = mean[m] - torch.linalg.solve(precision[m][:, m], precision[m][:, o] @ (x[o] - mean[o]))
    return filled


def js_by_entropies(p, q):
    entropy = lambda r: -torch.special.xlogy(r, r).sum(-1)  # noqa: E731
    return entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2


def log_z_in_numpy(energy, step):
    lowest = energy.min().item()
    return np.log(np.sum(np.exp(lowest - energy.numpy())) * step) - lowest


def free_energy_listed(v, weights, visible_bias, hidden_bias):
    h = torch.cartesian_prod(*len(hidden_bias) * [torch.tensor([0.0, 1.0])]).view(-1, len(hidden_bias))
    energy = -(v @ visible_bias)[:, None] - h @ hidden_bias - v @ weights @ h.T
    return -(-energy).logsumexp(1)


def draw_in_new_tensor(weight, bias, uniforms, temperature):
    x = torch.zeros(uniforms.shape)  # of torch's default dtype
    for i in range(bias.numel()):
        p = 1 / (1 + torch.exp(-(bias[i] + (x * weight[i]).sum(1)) / temperature))
        x[:, i] = torch.where(uniforms[:, i] < p, 1.0, 0.0)
    return x


def mask_by_loop(size, sees_itself):
    mask = torch.zeros(size, size)
    for i in range(size):
        for j in range(size):
            mask[i, j] = float((i, j) < (size // 2, size // 2) or (sees_itself and i == j == size // 2))
    return mask


def blind_by_loop(gradient, row, column):
    height, width = gradient.shape
    rows = [[(i, j) < (row, column) and gradient[i, j].item() == 0 for j in range(width)] for i in range(height)]
    return torch.tensor(rows)


def step_by_loop(above, left, x, weight):
    window = torch.cat((left, x.unsqueeze(1)), dim=1)
    return above + sum(window[:, k] @ weight[:, :, k].T for k in range(weight.shape[2])), window[:, 1:]


def causal_by_convolution(x, weight, bias):
    return F.conv1d(F.pad(x, (len(weight), 0))[:, None, :-1], weight.view(1, 1, -1))[:, 0] + bias


RIGHT = [
    ("stopping_place", stop_by_walking),
    ("stopping_place", stop_by_survival),
    ("density_gradient", gradient_by_autograd),
    ("density_gradient", gradient_by_loops),
    ("posterior", lambda ll, lp: (ll + lp - (ll + lp).logsumexp(1, keepdim=True)).exp()),
    ("posterior", lambda ll, lp: Categorical(logits=ll + lp).probs),
    ("posterior", lambda ll, lp: torch.stack([torch.softmax(row + lp, 0) for row in ll])),
    ("fill_in", fill_by_precision),
    ("fill_in", lambda x, m, mu, s: torch.where(m, mu + s[:, ~m] @ torch.inverse(s[~m][:, ~m]) @ (x - mu)[~m], x)),
    ("jensen_shannon", js_by_entropies),
    ("jensen_shannon", lambda p, q: sum(torch.xlogy(a, 2 * a / (p + q).clamp_min(1e-300)).sum(-1) for a in (p, q)) / 2),
    ("jensen_shannon", lambda p, q: ((p * ((2 * p + 1e-30) / (p + q + 1e-30)).log()).sum(-1)
                                     + (q * ((2 * q + 1e-30) / (p + q + 1e-30)).log()).sum(-1)) / 2),
    ("log_partition", log_z_in_numpy),
    ("log_partition", lambda energy, step: torch.logsumexp(-energy, 0).item() + math.log(step)),
    ("log_partition", lambda energy, step: (math.log(step) - energy).logsumexp(0)),
    ("free_energy", free_energy_listed),
    ("free_energy", lambda v, w, b, c: -(v * b).sum(1) - torch.logaddexp(torch.zeros(()), v @ w + c).sum(1)),
    ("log_likelihood", lambda a, x: (x * a - F.softplus(a)).sum(1)),
    ("log_likelihood", lambda a, x: Bernoulli(logits=a).log_prob(x).sum(-1)),
    ("mixture_of_orders", by_the_largest),
    ("mixture_of_orders", lambda log_p: torch.logsumexp(log_p - math.log(log_p.shape[0]), dim=0)),
    ("pixel_mask", mask_by_loop),
    ("blind_spot", blind_by_loop),
    ("cached_step", step_by_loop),
    ("sample_pixels", draw_in_new_tensor),
    ("causal_logits", causal_by_convolution),
    ("pca_reconstruct", pca_by_eigenvectors),
    ("pca_reconstruct", pca_by_truncation),
    ("sparsity_penalty", coins),
    ("sparsity_penalty", lambda z, t: np.float64(coins(z, t).item())),
    ("contractive_tanh", lambda z, w: ((1 - z**2)[:, :, None] * w).pow(2).sum((1, 2))),
    ("score_from_noise", lambda e, s: ((0 - s * e) - 0) / s**2),
    ("kl_to_standard_normal", kl),
    ("draw", lambda mu, log_var, eps: eps * log_var.exp().sqrt() + mu),
    ("draw", lambda mu, log_var, eps: AffineTransform(mu, torch.exp(0.5 * log_var))(eps)),
    ("draw", lambda mu, log_var, eps: torch.addcmul(mu, (log_var / 2).exp(), eps)),
    ("draw", draw_by_rows),
    ("draw", draw_by_entries),
    ("bernoulli_elbo", elbo_in_two_parts),
    ("bernoulli_elbo", lambda x, a, mu, v: Bernoulli(logits=a).log_prob(x).sum(1) - kl(mu, v)),
    ("bernoulli_elbo", lambda x, a, mu, v: (x * a - F.softplus(a)).sum(1) - kl(mu, v)),
    ("iwae_bound", by_the_largest),
    ("negative_elbo", gaussian_loss),
    ("n_active", lambda eigenvalues, beta, scale: (1 - beta * scale**2 / eigenvalues > 0).sum()),
    ("n_active", lambda eigenvalues, beta, scale: sum(1 for v in eigenvalues.tolist() if v / scale**2 > beta)),
    ("n_active", lambda eigenvalues, beta, scale: np.sum(eigenvalues.numpy() > beta * scale**2)),
    ("quantise", quantise_by_autograd),
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- wrong
def draw_backwards(weight, bias, uniforms, temperature):
    x = torch.zeros_like(uniforms)
    for i in range(len(bias) - 1, -1, -1):
        x[:, i] = (uniforms[:, i] < torch.sigmoid((bias[i] + x @ weight[i]) / temperature)).double()
    return x


def draw_pixels(chance, feed=lambda x, p: x):
    def answer(weight, bias, uniforms, temperature):
        x = torch.zeros_like(uniforms)
        for i in range(len(bias)):
            p = chance(bias[i] + x @ weight[i], temperature)
            x[:, i] = feed((uniforms[:, i] < p).double(), p)
        return x

    return answer


def fill_without_copy(x, missing, mean, covariance):
    o = ~missing
    x[missing] = mean[missing] + covariance[missing][:, o] @ torch.linalg.solve(covariance[o][:, o], x[o] - mean[o])
    return x


def gauss(x, missing, mean, covariance, use=lambda s: torch.linalg.inv(s), centre=True, start=True):
    o, filled = ~missing, x.clone()
    filled[missing] = (mean[missing] if start else 0) + covariance[missing][:, o] @ use(covariance[o][:, o]) @ (
        x[o] - (mean[o] if centre else 0)
    )
    return filled


def step(above, left, x, weight, window=None, memory=None):
    window = torch.cat([left, x[:, None]], 1) if window is None else window
    return above + torch.einsum("nri,oir->no", window, weight), window[:, 1:] if memory is None else memory


def causal(x, weight, left, keep):
    return F.pad(x, (left, 0)).unfold(1, len(weight), 1)[:, keep] @ weight


def through_numpy(mu, log_var, eps):
    return torch.from_numpy(mu.detach().numpy() + np.exp(log_var.detach().numpy() / 2) * eps.numpy())


def pca(x, n, mean=None, rows=slice(None), back=True):
    m = x.mean(0) if mean is None else mean
    v = torch.linalg.svd(x - m, full_matrices=False).Vh[rows][:n]
    return (x - m) @ v.T @ v + (m if back else 0)


def words_by(distance, pull=0.5):
    def answer(z_e, words, decoder_gradient):
        z_q = words[distance(z_e, words).argmin(1)]
        return z_q, decoder_gradient + pull * (z_e - z_q)

    return answer


def euclid(z, words):
    return (z[:, None] - words).norm(dim=2)


def nll(x, a):
    return F.softplus(a) - x * a


def terms(x, x_hat, mu, log_var, scale, square="sum", price="sum", half=0.5, divide=None):
    error = getattr((x - x_hat) ** 2, square)(1) / (2 * scale**2 if divide is None else divide(scale))
    return (error + half * getattr(mu**2 + log_var.exp() - log_var - 1, price)(1)).mean()


def coin_terms(r, t):
    return t * (t / r).log(), (1 - t) * ((1 - t) / (1 - r)).log()


def position(gradient):
    return torch.arange(gradient.numel()).reshape(gradient.shape)


WRONG = [
    # posterior
    ("posterior", lambda ll, lp: F.softmax(ll, 1), "The prior is missing"),
    ("posterior", lambda ll, lp: F.softmax(ll + lp, 0), "The labels compete, not the images"),
    ("posterior", lambda ll, lp: (ll + lp).exp() / (ll + lp).exp().sum(1, keepdim=True), "Stay in logarithms"),
    ("posterior", lambda ll, lp: (ll.exp() * lp.exp()) / (ll.exp() * lp.exp()).sum(1, keepdim=True), "Stay in log"),
    ("posterior", lambda ll, lp: F.log_softmax(ll + lp, 1), "Take exp at the very end"),
    ("posterior", lambda ll, lp: F.softmax(ll + torch.exp(lp), 1), "add it as it is, without exp"),
    ("posterior", lambda ll, lp: torch.exp(ll + lp - torch.max(ll)), "Likelihood times prior, divided by its sum"),
    ("posterior", lambda ll, lp: (lambda a: a / a.sum(1, keepdim=True))((ll + lp - ll.max() - lp.max()).exp()),
     "Every image has a level of its own"),
    ("posterior", lambda ll, lp: (ll + lp).argmax(1), "The docstring says: Returns (B, K)"),
    ("posterior", lambda ll, lp: F.softmax(ll - lp, 1), "the posterior is the prior"),
    # fill_in
    ("fill_in", lambda x, m, mu, s: torch.where(m, mu, x), "This is the mean before anything was seen"),
    ("fill_in", fill_without_copy, "changed its input in place"),
    ("fill_in", lambda x, m, mu, s: gauss(x, m, mu, s, centre=False), "use x_o − μ_o, not x_o"),
    ("fill_in", lambda x, m, mu, s: gauss(x, m, mu, s, use=lambda a: torch.diag(1 / a.diagonal())), "whole matrix"),
    ("fill_in", lambda x, m, mu, s: gauss(x, m, mu, s, use=lambda a: torch.eye(len(a))), "is missing: without it"),
    ("fill_in", lambda x, m, mu, s: gauss(x, m, mu, s, start=False), "Add the mean of the missing pixels"),
    ("fill_in", lambda x, m, mu, s: gauss(x, ~m, mu, s), "`missing` is True where a pixel is lost"),
    ("fill_in", lambda x, m, mu, s: gauss(x, m, mu, s)[m], "The docstring says: Returns (D,)"),
    ("fill_in", lambda x, m, mu, s: mu[m] + s[m][:, m] @ (x - mu)[~m], "had the shape"),
    # jensen_shannon
    ("jensen_shannon", lambda p, q: (p * (2 * p / (p + q)).log() + q * (2 * q / (p + q)).log()).sum(-1) / 2, "0 · log"),
    ("jensen_shannon", lambda p, q: js_by_entropies(p, q) / math.log(2), "This is in bits"),
    ("jensen_shannon", lambda p, q: js_by_entropies(p, q) * 2, "Each of the two KLs counts one half"),
    ("jensen_shannon", lambda p, q: js_by_entropies(p, q).clamp_min(0) ** 0.5, "This is the root"),
    ("jensen_shannon", lambda p, q: torch.xlogy(p, 2 * p / (p + q)).sum(-1), "Average it with KL(q ‖ m)"),
    ("jensen_shannon", lambda p, q: js_by_entropies(p, q).sum(), "Name the one that should go"),
    ("jensen_shannon", lambda p, q: (p - q).abs().sum(-1) / 2, "Average KL(p‖m) and KL(q‖m)"),
    # log_partition
    ("log_partition", lambda e, s: torch.log(torch.sum(torch.exp(-e)) * s), "Use torch.logsumexp"),
    ("log_partition", lambda e, s: e.logsumexp(0) + math.log(s), "Mind the minus sign"),
    ("log_partition", lambda e, s: (-e).logsumexp(0), "times the width of a cell"),
    ("log_partition", lambda e, s: (-e).logsumexp(0) - math.log(len(e)), "do not divide by the number of cells"),
    ("log_partition", lambda e, s: s * (-e).logsumexp(0), "in the logarithm it is *added*"),
    ("log_partition", lambda e, s: (e.min() - e).exp().sum().log() - e.max() + math.log(s), "log Σ exp(−E)"),
    ("log_partition", lambda e, s: (e.mean() - e).exp().sum().log() - e.mean() + math.log(s), "must be the *lowest*"),
    ("log_partition", lambda e, s: sum(math.exp(-v) for v in e.tolist()) * s, "Its logarithm was asked for"),
    ("log_partition", lambda e, s: math.log(sum(math.exp(-v) for v in e.tolist()) * s), "exp(-5000) is 0"),
    ("log_partition", lambda e, s: F.log_softmax(-e, 0), "The docstring says: Returns a scalar"),
    # free_energy
    ("free_energy", lambda v, w, b, c: -v @ b - torch.log(1 + torch.exp(v @ w + c)).sum(1), "infinite on a computer"),
    ("free_energy", lambda v, w, b, c: v @ b + F.softplus(v @ w + c).sum(1), "The sign is turned"),
    ("free_energy", lambda v, w, b, c: -v @ b - F.softplus(v @ w).sum(1), "The hidden bias is missing"),
    ("free_energy", lambda v, w, b, c: -F.softplus(v @ w + c).sum(1), "The visible bias is missing"),
    ("free_energy", lambda v, w, b, c: -v @ b - (2 * torch.cosh(v @ w + c)).log().sum(1), "Hidden units are 0 or 1"),
    ("free_energy", lambda v, w, b, c: -v @ b - torch.relu(v @ w + c).sum(1), "the best h alone"),
    ("free_energy", lambda v, w, b, c: -v @ b - F.softplus(v @ w + c), "A dimension is left over"),
    # log_likelihood
    ("log_likelihood", lambda a, x: -nll(x, a).mean(1), "Sum over the pixels"),
    ("log_likelihood", lambda a, x: nll(x, a).sum(1), "The sign is turned"),
    ("log_likelihood", lambda a, x: -nll(x, a).sum(), "Keep one number for each image"),
    ("log_likelihood", lambda a, x: -nll(x, a).sum(0), "The docstring says: Returns (B,)"),
    ("log_likelihood", lambda a, x: -nll(x, a).sum(1) / math.log(2), "This is in bits"),
    ("log_likelihood", lambda a, x: torch.log(torch.where(x == 1, a.sigmoid(), 1 - a.sigmoid())).sum(1), "logsigmoid"),
    ("log_likelihood", lambda a, x: Bernoulli(probs=a.sigmoid().clamp(1e-7, 1 - 1e-7)).log_prob(x).sum(1), "clamp"),
    ("log_likelihood", lambda a, x: (x * a.sigmoid().log()).sum(1), "A white pixel counts as well"),
    ("log_likelihood", lambda a, x: -F.binary_cross_entropy(a.sigmoid(), x, reduction="none").sum(1), "ends at 100"),
    ("log_likelihood", lambda a, x: -F.binary_cross_entropy_with_logits(a, x), "Name the one that should go"),
    # mixture_of_orders
    ("mixture_of_orders", lambda p: p.sum(0) / len(p), "You averaged the logarithms"),
    ("mixture_of_orders", lambda p: p.logsumexp(0), "subtract log K"),
    ("mixture_of_orders", lambda p: torch.log(torch.exp(p).mean(0)), "stays in logarithms"),
    ("mixture_of_orders", lambda p: (p - p.max()).exp().mean(0).log() + p.max(), "You subtract one number"),
    ("mixture_of_orders", lambda p: (p - p.amin(0)).exp().mean(0).log() + p.amin(0), "must be the *largest*"),
    ("mixture_of_orders", lambda p: p.amax(0), "This is the best order alone"),
    ("mixture_of_orders", lambda p: p.logsumexp(0) / len(p), "instead of dividing by K"),
    ("mixture_of_orders", lambda p: p.logsumexp(1) - math.log(p.shape[1]), "You averaged over the images"),
    # pixel_mask
    ("pixel_mask", lambda n, s: torch.ones(n, n).tril(0 if s else -1), "The three pixels above"),
    ("pixel_mask", lambda n, s: (torch.arange(n * n) < n * n // 2 + s).view(n, n), "True/False"),
    ("pixel_mask", lambda n, s: mask_by_loop(n, not s), "A and B are exchanged"),
    ("pixel_mask", lambda n, s: mask_by_loop(n, s).T.contiguous(), "Reading order is row by row"),
    ("pixel_mask", lambda n, s: mask_by_loop(n, True), "only where `sees_itself` is true"),
    ("pixel_mask", lambda n, s: 1 - mask_by_loop(n, not s), "what comes *before*"),
    # blind_spot
    ("blind_spot", lambda g, r, c: (position(g) < r * g.shape[1] + c) & (g <= 0), "A negative derivative"),
    ("blind_spot", lambda g, r, c: (position(g) < r * g.shape[1] + c) & (g.abs() < 1e-3), "without a threshold"),
    ("blind_spot", lambda g, r, c: (position(g) <= r * g.shape[1] + c) & (g == 0), "no blind spot"),
    ("blind_spot", lambda g, r, c: g == 0, "Pixels that come later"),
    ("blind_spot", lambda g, r, c: (position(g) < r * g.shape[1] + c) & (g != 0), "*do* have an influence"),
    ("blind_spot", lambda g, r, c: (position(g) < r * g.shape[0] + c) & (g == 0), "A row has W pixels"),
    ("blind_spot", lambda g, r, c: ((position(g) < r * g.shape[1] + c) & (g == 0)).double(), "True/False values"),
    # cached_step
    ("cached_step", lambda a, m, x, w: step(0 * a, m, x, w), "add `above`"),
    ("cached_step", lambda a, m, x, w: step(a, m, x, w, memory=m), "The memory has to move on"),
    ("cached_step", lambda a, m, x, w: step(a, m, x, w, memory=torch.cat([m, x[:, None]], 1)), "keeps r inputs"),
    ("cached_step", lambda a, m, x, w: step(a, m, x, w.flip(-1)), "The kernel runs the wrong way"),
    ("cached_step", lambda a, m, x, w: (a + x @ w[:, :, -1].T, step(a, m, x, w)[1]), "inputs to the left are not used"),
    ("cached_step", lambda a, m, x, w: step(a, m, x, w)[0], "separated by a comma"),
    ("cached_step", lambda a, m, x, w: step(a, m, x, w, torch.cat([m, x], 1)), "your code stopped with"),
    # sample_pixels
    ("sample_pixels", draw_backwards, "Begin at pixel 0"),
    ("sample_pixels", draw_pixels(lambda a, t: torch.sigmoid(a * t)), "Divide by it"),
    ("sample_pixels", draw_pixels(lambda a, t: torch.sigmoid(a)), "The temperature is not used"),
    ("sample_pixels", draw_pixels(lambda a, t: torch.sigmoid(a) ** (1 / t)), "divide the *logit* by T"),
    ("sample_pixels", draw_pixels(lambda a, t: torch.sigmoid(-a / t)), "The sign of the logit is turned"),
    ("sample_pixels", draw_pixels(lambda a, t: torch.sigmoid(a / t), lambda x, p: p), "below its chance"),
    ("sample_pixels", lambda w, b, u, t: (u < torch.sigmoid((b + torch.zeros_like(u) @ w.T) / t)).double(), "Begin at"),
    ("sample_pixels", lambda w, b, u, t: draw_in_new_tensor(w, b, 1 - u, t), "*below* the chance of ink"),
    ("sample_pixels", lambda w, b, u, t: draw_in_new_tensor(w, b, torch.rand_like(u), t), "below its chance"),
    ("sample_pixels", lambda w, b, u, t: draw_in_new_tensor(w.float(), b, u, t.float()), "your code stopped with"),
    ("sample_pixels", lambda w, b, u, t: u.float() @ w, "inputs are float64"),
    # causal_logits
    ("causal_logits", lambda x, w, b: causal(x, w, len(w) - 1, slice(None)) + b, "still x_i itself"),
    ("causal_logits", lambda x, w, b: causal(x, w, len(w), slice(1, None)) + b, "still x_i itself"),
    ("causal_logits", lambda x, w, b: causal(x, w, len(w) + 1, slice(0, -2)) + b, "window ends at i − 2"),
    ("causal_logits", lambda x, w, b: causal(x, w.flip(0), len(w), slice(0, -1)) + b, "The kernel runs the wrong way"),
    ("causal_logits", lambda x, w, b: causal(x, w, len(w), slice(0, -1)), "The bias is missing"),
    ("causal_logits", lambda x, w, b: causal(x, w, len(w), slice(None)) + b, "had the shape"),
    # pca_reconstruct
    ("pca_reconstruct", lambda x, n: pca(x, n, mean=torch.zeros_like(x[0])), "Subtract the mean before"),
    ("pca_reconstruct", lambda x, n: pca(x, n, back=False), "Add the mean back"),
    ("pca_reconstruct", lambda x, n: pca(x, n, rows=slice(None, None, 1))[:, :n], "The docstring says: Returns (N, D)"),
    ("pca_reconstruct", lambda x, n: pca_by_eigenvectors(x, n).numpy(), "torch.from_numpy(...) turns an array back"),
    ("pca_reconstruct", lambda x, n: pca(x, 2), "Keep n_components directions"),
    ("pca_reconstruct", lambda x, n: pca(x, n + 1), "one direction too many"),
    ("pca_reconstruct", lambda x, n: pca(x, n, mean=x.mean()), "Every pixel has a mean of its own"),
    # sparsity_penalty
    ("sparsity_penalty", lambda z, t: sum(coin_terms(z, t)).sum(1).mean(), "Take the mean over the batch first"),
    ("sparsity_penalty", lambda z, t: coin_terms(z.mean(0), t)[0].sum(), "A coin has two sides"),
    ("sparsity_penalty", lambda z, t: sum(coin_terms(z.mean(0), t)).mean(), "Sum over the units; do not average"),
    ("sparsity_penalty", lambda z, t: sum(coin_terms(z.mean(1), t)).sum(), "Average each unit over the batch"),
    ("sparsity_penalty", lambda z, t: sum(coin_terms(z.mean(0), 0.05)).sum(), "For z"),
    ("sparsity_penalty", lambda z, t: sum(coin_terms(z.mean(0), t)), "Sum over the units: one number"),
    # contractive_tanh
    ("contractive_tanh", lambda z, w: ((z * (1 - z)) ** 2 @ (w**2).sum(1)), "slope of a sigmoid"),
    ("contractive_tanh", lambda z, w: ((1 - z**2) @ (w**2).sum(1)), "Square the derivative"),
    ("contractive_tanh", lambda z, w: ((1 - z**2) ** 2 @ w**2), "A dimension is left over"),
    ("contractive_tanh", lambda z, w: (1 - z**2) ** 2 @ (w**2).sum(0), "your code stopped with"),
    ("contractive_tanh", lambda z, w: ((1 - z**2) ** 2 @ (w**2).sum(1)).sum(), "Name the one that should go"),
    ("contractive_tanh", lambda z, w: ((1 - z**2) ** 2 @ (w**2).sum(1)) ** 0.5, "no root"),
    ("contractive_tanh", lambda z, w: (((1 - z**2) @ w) ** 2).sum(1), "before you add up"),
    # score_from_noise
    ("score_from_noise", lambda e, s: e / s, "The sign is turned"),
    ("score_from_noise", lambda e, s: -e / s**2, "One factor of σ cancels"),
    ("score_from_noise", lambda e, s: -e * s, "Divide by σ"),
    ("score_from_noise", lambda e, s: -e, "The noise level is missing"),
    # kl_to_standard_normal
    ("kl_to_standard_normal", lambda m, v: (m**2 + v.exp() - v - 1).sum(1), "one half is missing"),
    ("kl_to_standard_normal", lambda m, v: -0.5 * (1 + v - m**2 - v.exp()).mean(1), "Sum over the latents"),
    ("kl_to_standard_normal", lambda m, v: 0.5 * (1 + v - m**2 - v.exp()).sum(1), "a KL is never negative"),
    ("kl_to_standard_normal", lambda m, v: kl_divergence(Normal(m, v.exp()), Normal(0.0, 1.0)).sum(1), "*variance*"),
    ("kl_to_standard_normal", lambda m, v: kl_divergence(Normal(0, 1), Normal(m, (v / 2).exp())).sum(1), "exchanged"),
    ("kl_to_standard_normal", lambda m, v: kl(m, v).mean(), "Keep one number for each image"),
    ("kl_to_standard_normal", lambda m, v: 0.5 * (m**2 + v.exp() - v - 1), "A dimension is left over"),
    # draw
    ("draw", lambda mu, v, e: mu + v.exp() * e, "exp(log_var) is the variance"),
    ("draw", lambda mu, v, e: mu + torch.sqrt(v) * e, "take exp before the root"),
    ("draw", lambda mu, v, e: mu + (v / 2).exp() * torch.randn(mu.shape), "Use the eps that you were given"),
    ("draw", lambda mu, v, e: Normal(mu, (v / 2).exp()).rsample(), "Use the eps that you were given"),
    ("draw", through_numpy, "no NumPy"),
    ("draw", lambda mu, v, e: mu + torch.exp(v.detach() / 2) * e, "without detach"),
    ("draw", lambda mu, v, e: torch.tensor((mu + (v / 2).exp() * e).tolist(), requires_grad=True), "no NumPy"),
    ("draw", torch.no_grad()(lambda mu, v, e: mu + (v / 2).exp() * e), "No gradient passes to mu"),
    # bernoulli_elbo
    ("bernoulli_elbo", lambda x, a, m, v: -(-nll(x, a).sum(1) - kl(m, v)), "The sign is turned"),
    ("bernoulli_elbo", lambda x, a, m, v: -nll(x, a).sum(1) + kl(m, v), "The KL is a price: subtract it"),
    ("bernoulli_elbo", lambda x, a, m, v: -nll(x, a).mean(1) - kl(m, v), "Sum over the pixels"),
    ("bernoulli_elbo", lambda x, a, m, v: -nll(x, a.sigmoid()).sum(1) - kl(m, v), "without a sigmoid before"),
    ("bernoulli_elbo", lambda x, a, m, v: Bernoulli(a.sigmoid()).log_prob(x).sum(1) - kl(m, v), "stops the cost"),
    ("bernoulli_elbo", lambda x, a, m, v: -nll(x, a).sum(1), "This is the reconstruction alone"),
    ("bernoulli_elbo", lambda x, a, m, v: -nll(x, a).sum(1) - 2 * kl(m, v), "a factor one half"),
    ("bernoulli_elbo", lambda x, a, m, v: (-nll(x, a).sum(1) - kl(m, v)).sum(), "Name the one that should go"),
    # iwae_bound
    ("iwae_bound", lambda w: w.mean(0), "that is the ELBO"),
    ("iwae_bound", lambda w: w.logsumexp(0), "subtract log k"),
    ("iwae_bound", lambda w: torch.log(w.exp().mean(0)), "use torch.logsumexp"),
    ("iwae_bound", lambda w: (w - w.max()).exp().mean(0).log() + w.max(), "You subtract one number"),
    ("iwae_bound", lambda w: w.logsumexp(1) - math.log(w.shape[1]), "You averaged over the images"),
    ("iwae_bound", lambda w: w.logsumexp(0) - math.log(w.shape[1]), "Divide by k"),
    # negative_elbo
    ("negative_elbo", lambda *a: terms(*a, square="mean"), "Sum the squared error over the pixels"),
    ("negative_elbo", lambda *a: terms(*a, price="mean"), "Sum the KL over the latents"),
    ("negative_elbo", lambda *a: terms(*a, half=1), "a factor one half"),
    ("negative_elbo", lambda *a: terms(*a, divide=lambda s: 1), "the decoder's scale is missing"),
    ("negative_elbo", lambda *a: terms(*a, divide=lambda s: s**2), "the 2 is missing"),
    ("negative_elbo", lambda *a: terms(*a, divide=lambda s: 2 * s), "The square of the scale divides"),
    ("negative_elbo", lambda *a: -terms(*a), "The sign is turned"),
    # n_active
    ("n_active", lambda e, b, s: int((e > b * s).sum()), "the *variance* of the decoder"),
    ("n_active", lambda e, b, s: int((e > s**2).sum()), "beta is missing"),
    ("n_active", lambda e, b, s: sum(v >= b * s**2 for v in e.tolist()), "only *above* it"),
    ("n_active", lambda e, b, s: e > b * s**2, "The docstring says: Returns an integer"),
    ("n_active", lambda e, b, s: float((e > b * s**2).sum()), "whole numbers"),
    # quantise
    ("quantise", words_by(lambda z, w: -(z @ w.T)), "the smallest *distance*"),
    ("quantise", words_by(lambda z, w: (z[:, None] - w).abs().sum(2)), "smallest sum of absolute differences"),
    ("quantise", words_by(euclid, 0.25), "The derivative of ¼ u²"),
    ("quantise", words_by(euclid, -0.5), "The commitment pulls z_e towards its word"),
    ("quantise", words_by(euclid, 0.0), "The commitment is missing"),
    ("quantise", lambda z, w, g: (euclid(z, w).argmin(1), g), "value 1 of 2"),
    ("quantise", lambda z, w, g: words_by(euclid)(z, w, 0 * g), "goes straight through"),
    # stopping_place
    ("stopping_place", lambda s, n, u: stop_by_walking(s, n, 1 - u), "1 - T(t) = u asks for -log(1 - u)"),
    ("stopping_place", lambda s, n, u: stop_by_walking(s, 1.0, u), "lengths of the intervals are missing"),
    ("stopping_place", lambda s, n, u: (stop_by_walking(s, n, u) / n).floor() * n, "You stop at the edge"),
    ("stopping_place", lambda s, n, u: stop_by_walking(s, n, u).clamp(max=len(s) * n), "infinity"),
    ("stopping_place", lambda s, n, u: (s * n).cumsum(0), "log(2) / 2 = 0.347"),
    # density_gradient
    ("density_gradient", lambda *a: gradient_by_loops(*a, wall=0), "The background lies behind, too"),
    ("density_gradient", lambda *a: gradient_by_loops(*a, back=1), "T_{i+1}"),
    ("density_gradient", lambda *a: -gradient_by_loops(*a), "The sign is turned"),
    ("density_gradient", lambda *a: gradient_by_loops(*a) / a[1][:, None], "The length of the interval is missing"),
    ("density_gradient", lambda *a: gradient_by_loops(*a).sum(1), "shape"),
]  # fmt: skip
