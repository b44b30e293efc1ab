r"""Energy-based models: p(x) = exp(-E(x)) / Z, and the three ways to live with Z.

Low dimensions: add Z up on a grid (:class:`GridEnergyModel`). Samples only: follow the slope of -E with noise
(:func:`langevin`), where Z drops out. A restricted Boltzmann machine: sum half of the variables in closed form, and
estimate the rest by annealed importance sampling. Taught in chapter 01.
"""

import math

import torch
from torch import nn
from torch.nn.functional import softplus

from course_utils import expect
from course_utils.nn.mlp import MLP, FourierFeatures


# ---------------------------------------------------------------------------------------------------------- formulas
def log_partition(energies, log_volume):
    r"""Midpoint rule :math:`\log Z \approx \log\sum_i e^{-E(x_i)} + \log v` for ``(N,)`` cells of volume v each."""
    expect.floats(energies, "energies", "N")
    expect.number(log_volume, "log_volume")
    return (-energies).logsumexp(0) + log_volume


def free_energy(v, weights, visible_bias, hidden_bias):
    r"""Energy of a visible vector after the hidden units are summed out:

    .. math:: F(v) = -b^\top v - \sum_j \log\bigl(1 + e^{c_j + (v W)_j}\bigr),\qquad \sum_h e^{-E(v,h)} = e^{-F(v)}

    ``v (B, V)``, ``weights (V, H)``, ``visible_bias (V,)``, ``hidden_bias (H,)``. Returns ``(B,)`` in nats.
    (Smolensky 1986; Hinton 2002, sec. 4.) Taught in chapter 01.
    """
    expect.floats(weights, "weights", "V", "H")
    expect.floats(visible_bias, "visible_bias", len(weights))
    expect.floats(hidden_bias, "hidden_bias", weights.shape[1])
    expect.floats(v, "v", "B", len(weights), like=weights)
    return -v @ visible_bias - softplus(v @ weights + hidden_bias).sum(-1)


# ------------------------------------------------------------------------------------------------------------ models
class GridEnergyModel(nn.Module):
    r"""An energy network in one or two dimensions, normalised by summing over a grid.

    ``network: (N, d) -> (N, 1)``; ``ranges``: one ``(low, high)`` a dimension, outside of which the density is zero;
    ``n_cells`` along each. The grid makes ``log_prob`` exact up to the midpoint rule, and makes the cost n_cells**d.
    """

    def __init__(self, network, ranges, n_cells=200):
        super().__init__()
        self.network = network
        expect.count(n_cells, "n_cells")
        low, high = torch.tensor(ranges, dtype=torch.get_default_dtype()).T
        if not (low < high).all():
            raise ValueError(f"expected ranges (low, high) with low < high, got {ranges}")
        steps = (high - low) / n_cells
        axes = [lo + s * (torch.arange(n_cells) + 0.5) for lo, s in zip(low, steps, strict=True)]
        self.register_buffer("cells", torch.cartesian_prod(*axes).reshape(-1, len(ranges)))  # (n_cells**d, d)
        self.register_buffer("steps", steps)
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def energy(self, x):
        """``(N, d) -> (N,)`` in nats. The input is scaled to about [-1, 1] before the network sees it."""
        expect.floats(x, "x", "N", len(self.low), like=self.low)
        scaled = 2 * (x - self.low) / (self.high - self.low) - 1
        return self.network(scaled).squeeze(-1)

    def log_partition(self):
        return log_partition(self.energy(self.cells), self.steps.log().sum())

    def log_prob(self, x):
        expect.floats(x, "x", "N", len(self.low), like=self.low)
        inside = ((x >= self.low) & (x <= self.high)).all(-1)
        log_p = -self.energy(x) - self.log_partition()
        return torch.where(inside, log_p, -torch.inf)

    def loss(self, x):
        return {"loss": -self.log_prob(x).mean()}

    @torch.no_grad()
    def sample(self, n):
        """Pick cells by their probability, then a uniform point of the cell: ``(n, d)``."""
        p = (-self.energy(self.cells)).softmax(0)
        chosen = self.cells[torch.multinomial(p, expect.count(n), replacement=True)]
        return chosen + self.steps * (torch.rand_like(chosen) - 0.5)


class RBM(nn.Module):
    r"""Restricted Boltzmann machine: binary v and h with :math:`E(v,h) = -b^\top v - c^\top h - v^\top W h`.

    No connection inside a layer, so each layer is independent given the other. (Smolensky 1986; Hinton 2002.)
    """

    def __init__(self, n_visible, n_hidden, visible_mean=None, weight_scale=0.01):
        super().__init__()
        expect.shape((n_visible, n_hidden), "(n_visible, n_hidden)", 2)
        self.weights = nn.Parameter(weight_scale * torch.randn(n_visible, n_hidden))
        mean = torch.full((n_visible,), 0.5) if visible_mean is None else visible_mean.clamp(0.01, 0.99)
        self.visible_bias = nn.Parameter(torch.logit(mean))  # starts as the independent-pixel model of the data
        self.hidden_bias = nn.Parameter(torch.zeros(n_hidden))

    def free_energy(self, v):
        return free_energy(v, self.weights, self.visible_bias, self.hidden_bias)

    def hidden_given(self, v):
        """p(h_j = 1 | v): ``(B, V) -> (B, H)``."""
        expect.floats(v, "v", "B", len(self.visible_bias), like=self.weights)
        return torch.sigmoid(v @ self.weights + self.hidden_bias)

    def visible_given(self, h):
        """p(v_i = 1 | h): ``(B, H) -> (B, V)``."""
        expect.floats(h, "h", "B", len(self.hidden_bias), like=self.weights)
        return torch.sigmoid(h @ self.weights.T + self.visible_bias)

    @torch.no_grad()
    def gibbs(self, v, n_steps=1):
        """``n_steps`` rounds of block Gibbs sampling, v → h → v: ``(B, V) -> (B, V)``."""
        for _ in range(expect.count(n_steps, "n_steps")):
            v = self.visible_given(self.hidden_given(v).bernoulli()).bernoulli()
        return v

    def log_partition(self):
        r"""log Z exactly, by listing the 2^H hidden states and summing the visible units in closed form. H ≤ 16."""
        n_hidden = len(self.hidden_bias)
        if n_hidden > 16:
            raise ValueError(
                f"{n_hidden} hidden units have 2^{n_hidden} states; enumeration is for at most 16. "
                "Use annealed_importance_sampling for more"
            )
        codes = torch.arange(2**n_hidden, device=self.weights.device)
        h = ((codes.unsqueeze(1) >> torch.arange(n_hidden, device=codes.device)) & 1).to(self.weights)  # (2^H, H)
        return (-free_energy(h, self.weights.T, self.hidden_bias, self.visible_bias)).logsumexp(0)

    @torch.no_grad()
    def sample(self, n, n_steps=1000):
        """``(n, V)`` after ``n_steps`` of Gibbs sampling from independent pixels: close to the model, not exact."""
        return self.gibbs(torch.sigmoid(self.visible_bias).expand(expect.count(n), -1).bernoulli(), n_steps)


class PersistentChains:
    r"""The objective of an RBM: data pull free energy down, a set of running Gibbs chains pushes it up.

    The gradient of mean F(data) - mean F(chains) estimates that of the negative log-likelihood, because
    :math:`-\nabla\log Z = E_p[\nabla F]`. The chains are kept from one step to the next. The value is no
    likelihood. (Tieleman 2008.) Taught in chapter 01.
    """

    def __init__(self, rbm, chains, n_steps=1):
        self.rbm, self.chains, self.n_steps = rbm, chains, n_steps

    def __call__(self, v):
        self.chains = self.rbm.gibbs(self.chains, self.n_steps)
        data, model = self.rbm.free_energy(v).mean(), self.rbm.free_energy(self.chains).mean()
        return {"loss": data - model, "data": data, "model": model}


# ---------------------------------------------------------------------------------------------------------- samplers
def langevin(energy, x, n_steps, step_size):
    r"""Unadjusted Langevin dynamics: :math:`x \leftarrow x - \tfrac{\eta}{2}\nabla E(x) +
    \sqrt{\eta}\,\epsilon`.

    ``energy: (B, d) -> (B,)``; start ``x (B, d)``. Needs the slope of E only, never Z. The
    samples are biased by order of the step size η. (Roberts & Tweedie 1996; Welling & Teh
    2011.) Taught in chapter 01, again in chapter 07.
    """
    expect.floats(x, "x", "B", "d")
    expect.function(energy, "energy")
    expect.number(step_size, "step_size", above=0)
    for _ in range(expect.count(n_steps, "n_steps")):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x = x - step_size / 2 * slope + math.sqrt(step_size) * torch.randn_like(x)
    return x.detach()


@torch.no_grad()
def annealed_importance_sampling(rbm, n_runs=256, n_temperatures=1000):
    r"""Estimate log Z of an RBM, from independent pixels to the model through growing inverse temperatures.

    Intermediate k has free energy :math:`F_\beta(v) = -b^\top v - \sum_j \log(1 + e^{\beta(c_j + (vW)_j)})`. At β = 0
    the log-partition is :math:`\sum_i \log(1+e^{b_i}) + H\log 2`. Each run multiplies the ratios of neighbours along a
    Gibbs chain. Returns ``(log Z, its standard error)``, both scalars in nats. The mean of the weights is unbiased for
    Z, so by Jensen the estimate of log Z is low on average. (Neal 2001; Salakhutdinov & Murray 2008.) Chapter 01.
    """
    expect.count(n_runs, "n_runs", 2)                                # one run has no standard error
    expect.count(n_temperatures, "n_temperatures")
    w, b, c = rbm.weights, rbm.visible_bias, rbm.hidden_bias
    betas = torch.linspace(0, 1, n_temperatures + 1, dtype=w.dtype, device=w.device)
    log_z = softplus(b).sum() + len(c) * math.log(2.0)
    v = torch.sigmoid(b).expand(n_runs, -1).bernoulli()
    log_weight = w.new_zeros(n_runs)
    for low, high in zip(betas[:-1], betas[1:], strict=True):
        activation = v @ w + c
        log_weight += (softplus(high * activation) - softplus(low * activation)).sum(-1)
        h = torch.sigmoid(high * activation).bernoulli()
        v = torch.sigmoid(high * (h @ w.T) + b).bernoulli()
    log_mean = log_weight.logsumexp(0) - math.log(n_runs)
    relative = (log_weight - log_weight.max()).exp()
    error = relative.std() / relative.mean() / math.sqrt(n_runs)  # delta method
    return log_z + log_mean, error


# --------------------------------------------------------------------------------------------------------- factories
def energy_mlp(n_dims=1, hidden_dim=64, scale=1.0):
    """The energy network of the chapters, ``(N, n_dims) -> (N, 1)``; a larger ``scale`` allows finer detail."""
    expect.count(hidden_dim, "hidden_dim")
    return nn.Sequential(
        FourierFeatures(n_dims, 32, scale),
        MLP([64, hidden_dim, hidden_dim], activation=nn.SiLU),
        nn.SiLU(),
        nn.Linear(hidden_dim, 1, bias=False),  # a constant added to every energy cancels in Z
    )
