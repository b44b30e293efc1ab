r"""Variational autoencoders: a latent variable, a bound on log p(x), and a network that guesses the posterior.

The model in five lines::

    z ~ p(z)                                 # prior, chosen
    x ~ p_theta(x | z)                       # decoder
    q_phi(z | x)                             # encoder, stands in for the posterior p(z | x)
    elbo = E_q[log p(x | z)] - KL(q(z | x) || p(z))   <=   log p(x)
    loss = -mean(elbo)

theta is the decoder, phi the encoder.  Taught in chapter 04.
"""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.distributions.kl import kl_divergence

from course_utils import expect
from course_utils.distributions import (
    BernoulliHead,
    FixedGaussianHead,
    GaussianHead,
    StandardNormal,
    shape_for,
    standard_normal,
)
from course_utils.nn.centre import Minus, start_at
from course_utils.nn.conv import ConvDecoder, ConvEncoder
from course_utils.nn.mlp import MLP, FlattenImages, Linear

# Formulas ---------------------------------------------------------------------------------------------------------


def gaussian_kl(mu, log_var):
    r"""KL(N(mu, sigma^2) || N(0, 1)) of every latent: :math:`\tfrac12\mu^2 + \tfrac12(\sigma^2 - \log\sigma^2 - 1)`.

    ``mu, log_var``: ``(B, L)``. Returns ``(B, L)`` nats: sum over the last dimension for the KL of the whole code.
    (Kingma & Welling 2014, appendix B, arXiv:1312.6114.) Taught in chapter 04.
    """
    expect.same_shape(mu=mu, log_var=log_var)
    return 0.5 * mu.square() + 0.5 * (log_var.exp() - log_var - 1)


def elbo_terms(x, encoder, decoder, prior):
    r"""Reconstruction E_q[log p(x|z)] (one draw) and KL(q(z|x) || p(z)), each ``(B,)``, in
    nats.

    ELBO = reconstruction - KL  (Kingma & Welling 2014, eq. 3, arXiv:1312.6114).
    Taught in chapter 04.
    """
    expect.floats(x, "x", "B", ...)
    q = encoder(x)                                       # q(z|x): batch (B,), event (L,)
    z = q.rsample()                                      # reparameterised, (B, L)
    reconstruction = expect.floats(decoder(z).log_prob(x), "log p(x|z)", len(x))
    return reconstruction, kl_or_draw(q, prior(), z)


def kl_or_draw(q, p, z):
    """KL(q || p), ``(B,)``: closed where PyTorch knows it; otherwise one unbiased draw, log q(z) - log p(z)."""
    expect.floats(z, "z", *q.batch_shape, *q.event_shape)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)


def log_weights(x, encoder, decoder, prior, k):
    r"""Logarithms of the importance weights :math:`w_i = p(x|z_i)\,p(z_i)/q(z_i|x)`, for k draws each: ``(k, B)``.

    Their mean estimates p(x) without bias. The ELBO is the mean of the logarithms.  Taught in chapter 04.
    """
    q = encoder(expect.floats(x, "x", "B", ...))
    z = q.rsample((expect.count(k, "k"),))               # (k, B, L)
    repeated = x.expand(k, *x.shape).flatten(0, 1)       # (k*B, ...)
    log_likelihood = decoder(z.flatten(0, 1)).log_prob(repeated).unflatten(0, (k, -1))
    return log_likelihood + prior().log_prob(z) - q.log_prob(z)


def importance_weighted_bound(x, encoder, decoder, prior, k):
    r"""The IWAE bound :math:`\log \tfrac1k \sum_i w_i`, ``(B,)`` nats: the ELBO at k=1, log p(x) as k grows.

    It is a lower bound *in expectation*. (Burda, Grosse & Salakhutdinov 2016, eq. 8, arXiv:1509.00519.)
    Taught in chapter 04.
    """
    return log_weights(x, encoder, decoder, prior, k).logsumexp(0) - math.log(k)


def log_evidence_on_grid(x, decoder, prior, grid):
    r"""log p(x) by brute force, ``(B,)`` nats: :math:`\log\sum_g p(x|z_g)\,p(z_g)\,\Delta` over a regular ``grid``
    ``(G, L)``.

    Possible only for one or two latents: with 100 points per axis, L latents cost 100^L decodings.
    Taught in chapter 04.
    """
    return log_joint_on_grid(x, decoder, prior, grid).logsumexp(1) + cell_volume(grid).log()


def log_joint_on_grid(x, decoder, prior, grid):
    """log p(x | z_g) + log p(z_g) for every image and grid point: ``(B, ...), (G, L) -> (B, G)`` nats."""
    expect.floats(x, "x", "B", ...)
    likelihood = decoder(expect.floats(grid, "grid", "G", "L"))                    # batch (G,)
    rows = [likelihood.log_prob(image.expand(len(grid), *image.shape)) for image in x]
    return torch.stack(rows) + prior().log_prob(grid)


def cell_volume(grid):
    """Volume of one cell of a regular grid ``(G, L)`` (each axis equally spaced): a scalar tensor."""
    expect.finite(expect.floats(grid, "grid", "G", "L"), "grid")
    axes = [axis.unique() for axis in grid.T]
    steps = [axis.diff() for axis in axes]
    whole = len(grid) == math.prod(map(len, axes)) and all(map(len, steps))
    if not whole or any(not torch.allclose(step, step.mean(), rtol=1e-3) for step in steps):
        raise ValueError("expected a regular grid: all combinations of axes of equally spaced points, as "
                         "torch.cartesian_prod of torch.linspace gives")
    return torch.stack([step.mean() for step in steps]).prod()


# The linear-Gaussian model: everything is known -----------------------------------------------------------------------


def linear_gaussian_evidence(weight, bias, scale):
    r"""p(x) of x = W z + b + sigma eps, z ~ N(0, I): the Gaussian :math:`N(b, WW^\top + \sigma^2 I)` over ``(D,)``.

    ``weight``: ``(D, L)``, ``bias``: ``(D,)``. (Tipping & Bishop 1999, "Probabilistic PCA", eq. 6.)
    Taught in chapter 04.
    """
    expect.floats(weight, "weight", "D", "L")
    expect.floats(bias, "bias", len(weight))
    expect.number(scale, "scale", above=0)
    covariance = weight @ weight.T + scale**2 * torch.eye(len(bias)).to(bias)
    return MultivariateNormal(bias, covariance, validate_args=True)


def linear_gaussian_posterior(x, weight, bias, scale):
    r"""p(z | x) of the same model: :math:`N(M^{-1}W^\top(x-b),\; \sigma^2 M^{-1})` with :math:`M = W^\top W +
    \sigma^2 I`.

    ``x``: ``(B, D)``. Batch ``(B,)``, event ``(L,)``. (Tipping & Bishop 1999, eq. 7.) Taught in chapter 04.
    """
    expect.floats(weight, "weight", "D", "L")
    expect.floats(bias, "bias", len(weight))
    expect.floats(x, "x", "B", len(weight))
    expect.number(scale, "scale", above=0)
    m = weight.T @ weight + scale**2 * torch.eye(weight.shape[1]).to(weight)
    mean = torch.linalg.solve(m, weight.T @ (x - bias).T).T                        # (B, L)
    return MultivariateNormal(mean, scale**2 * torch.linalg.inv(m), validate_args=True)


def linear_gaussian_elbo(x, q, weight, bias, scale):
    r"""The ELBO without sampling, ``(B,)`` nats: E_q[log p(x|z)] is :math:`\log N(x; W\mu+b) -
    \mathrm{tr}(WSW^\top)/2\sigma^2`.

    ``q``: diagonal Gaussian over ``(B, L)`` with mean mu and variances S.  Taught in chapter 04.
    """
    expect.floats(weight, "weight", "D", q.mean.shape[-1])
    expect.floats(bias, "bias", len(weight))
    expect.floats(x, "x", len(q.mean), len(bias))
    expect.number(scale, "scale", above=0)
    mean = q.mean @ weight.T + bias                                                # (B, D)
    spread = (q.variance @ weight.square().T).sum(-1) / (2 * scale**2)
    at_mean = torch.distributions.Normal(mean, scale).log_prob(x).sum(-1)
    return at_mean - spread - kl_divergence(q, standard_normal(*q.mean.shape[1:], like=q.mean))


def water_filling(eigenvalues, beta_variance):
    r"""Rate and distortion of the best linear VAE: :math:`R=\sum\tfrac12\log(\lambda/v)_+,\; D=\sum\min(\lambda, v)`.

    ``eigenvalues``: ``(D,)`` of the data covariance; ``beta_variance`` is v = beta * sigma^2. Directions with
    lambda <= v carry nothing: their posterior collapses. R in nats, D in squared data units, for one image. An
    eigenvalue that rounding has put below zero counts as zero.
    (Shannon 1959; Lucas et al. 2019, arXiv:1911.02469.) Taught in chapter 04.
    """
    expect.finite(expect.floats(eigenvalues, "eigenvalues", "D"), "eigenvalues")
    v = torch.as_tensor(expect.number(beta_variance, "beta_variance", above=0), dtype=eigenvalues.dtype)
    rate = 0.5 * (eigenvalues.clamp(min=v) / v).log().sum()
    return rate, torch.minimum(eigenvalues.clamp(min=0), v).sum()


# Model ----------------------------------------------------------------------------------------------------------------


class VAE(nn.Module):
    r"""Encoder, decoder and prior are passed in; each returns a distribution when called.

    ``beta`` weighs the KL in :meth:`loss` (Higgins et al. 2017); the bounds below always use 1.  Taught in chapter 04.
    """

    def __init__(self, encoder, decoder, prior, beta=1.0):
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.beta = expect.number(beta, "beta", low=0)

    def loss(self, x):
        """``{"loss", "reconstruction", "kl"}``, means over the batch in nats; loss = beta * kl
        - reconstruction.
        """
        expect.floats(x, "x", like=self)
        terms = elbo_terms(x, self.encoder, self.decoder, self.prior)
        reconstruction, kl = (term.mean() for term in terms)
        loss = self.beta * kl - reconstruction
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl}

    def elbo(self, x):
        """One-draw estimate of the lower bound on log p(x): ``(B,)`` nats, higher is better."""
        expect.floats(x, "x", like=self)
        reconstruction, kl = elbo_terms(x, self.encoder, self.decoder, self.prior)
        return reconstruction - kl

    def importance_weighted_bound(self, x, k):
        """The k-draw bound, ``(B,)`` nats; memory grows with k times B."""
        expect.floats(x, "x", like=self)
        return importance_weighted_bound(x, self.encoder, self.decoder, self.prior, k)

    def sample(self, n, y=None):
        """``(n, ...)`` draws from p(x): a code from the prior, then pixels from the decoder (noise included)."""
        _no_labels(y)
        return self.decoder(self.prior().sample((expect.count(n),))).sample()


def _no_labels(y):
    if y is not None:
        raise ValueError("expected no labels, this model knows no classes; got some: call sample(n) without y")


# Factories --------------------------------------------------------------------------------------------------------


def vae_784_400_2():
    """The network of the sources: 784-400-4 (two means, two log-variances) and 2-400-784, ReLU, Bernoulli pixels."""
    return mlp_vae(hidden_dims=(400,), latent_dim=2)


def mlp_vae(
    shape=(1, 28, 28),
    hidden_dims=(400,),
    latent_dim=20,
    head=BernoulliHead,
    beta=1.0,
    activation=nn.ReLU,
    mean_image=None,
    prior=None,
):
    """Fully connected VAE for images of ``shape``; the decoder mirrors the encoder.

    ``head`` turns the decoder's network into a likelihood: ``BernoulliHead``, ``GaussianHead`` (learned mean and scale;
    use ``partial(GaussianHead, min_scale=1/256)``) or ``partial(FixedGaussianHead, scale=...)``. With ``mean_image``
    (of ``shape``, the mean over the training set) the encoder sees the difference to it, and a Bernoulli decoder
    starts from it, so that training need not find it first. ``prior``: a module that returns a distribution over
    ``(latent_dim,)``, such as ``MixturePrior(latent_dim, 10)``; N(0, I) when left out.
    """
    n_pixels = math.prod(expect.shape(shape))
    expect.counts(hidden_dims, "hidden_dims")
    out_shape = shape_for(head, shape)
    encoder = nn.Sequential(FlattenImages(*shape), MLP([n_pixels, *hidden_dims, 2 * latent_dim], activation))
    widths = [latent_dim, *reversed(hidden_dims), math.prod(out_shape)]
    decoder = nn.Sequential(MLP(widths, activation), nn.Unflatten(1, out_shape))
    if mean_image is not None:
        encoder.insert(0, Minus(mean_image))
        if head is BernoulliHead:
            start_at(decoder[0][-1], mean_image)
    return VAE(GaussianHead(encoder), head(decoder), prior or StandardNormal(latent_dim), beta)


def conv_vae(shape=(1, 28, 28), latent_dim=20, width=16, head=BernoulliHead, beta=1.0, prior=None):
    """Convolutional VAE: two halvings down, two doublings up; ``width`` channels at half size, twice that below.

    ``head`` and ``prior`` as in :func:`mlp_vae`.
    """
    encoder = ConvEncoder(shape, 2 * latent_dim, width)
    decoder = ConvDecoder(latent_dim, shape_for(head, shape), width)
    return VAE(GaussianHead(encoder), head(decoder), prior or StandardNormal(latent_dim), beta)


def linear_gaussian_vae(n_features, latent_dim, scale, beta=1.0):
    """Linear decoder with fixed noise, linear encoder with one variance per latent: posterior and p(x) are closed."""
    expect.counts((n_features, latent_dim), "(n_features, latent_dim)")
    decoder = FixedGaussianHead(Linear(latent_dim, n_features), scale)
    return VAE(GaussianHead(LinearCode(n_features, latent_dim)), decoder, StandardNormal(latent_dim), beta)


class LinearCode(nn.Module):
    """``(B, D) -> (B, 2L)``: a linear mean and one log-variance for every x, as the true posterior has."""

    def __init__(self, n_features, latent_dim):
        super().__init__()
        expect.shape((n_features, latent_dim), "(n_features, latent_dim)", 2)
        self.mean = Linear(n_features, latent_dim)
        self.log_var = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x):
        expect.floats(x, "x", "B", self.mean.in_features)
        return torch.cat([self.mean(x), self.log_var.expand(len(x), -1)], dim=1)
