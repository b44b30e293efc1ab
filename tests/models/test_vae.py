"""Laws of the variational autoencoder. Statistical tests: fixed seeds, five standard errors (1 in 2 million)."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.distributions.kl import kl_divergence

from course_utils.distributions import (
    BernoulliHead,
    FixedGaussianHead,
    GaussianHead,
    MixturePrior,
    StandardNormal,
    gaussian,
)
from course_utils.models import vae


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def linear_model(n_features=5, latent_dim=2, scale=0.7):
    """A linear-Gaussian VAE in float64, its (W, b, scale), and data; the encoder is near the posterior, not at it."""
    model = vae.linear_gaussian_vae(n_features, latent_dim, scale).double()
    nn.init.normal_(model.decoder.network.weight)
    weight, bias = (p.detach() for p in model.decoder.network.parameters())
    code = model.encoder.network
    with torch.no_grad():
        m = weight.T @ weight + scale**2 * torch.eye(latent_dim)
        code.mean.weight.copy_(0.9 * torch.linalg.solve(m, weight.T))
        code.mean.bias.copy_(0.1 - code.mean.weight @ bias)
        code.log_var.copy_((scale**2 * torch.linalg.inv(m)).diagonal().log() + 0.5)
    x = vae.linear_gaussian_evidence(weight, bias, scale).sample((4,))
    return model, (weight, bias, scale), x


def within(samples, expected, dim=0, sigmas=5):
    """Every mean over ``dim`` lies within ``sigmas`` standard errors of ``expected``."""
    error = samples.std(dim) / math.sqrt(samples.shape[dim])
    assert ((samples.mean(dim) - expected).abs() <= sigmas * error).all()


def test_kl_of_a_gaussian_agrees_with_torch_and_with_monte_carlo():
    mu, log_var = torch.randn(3, 4).double(), torch.randn(3, 4).double()
    q = Normal(mu, (log_var / 2).exp())
    torch.testing.assert_close(vae.gaussian_kl(mu, log_var), kl_divergence(q, Normal(0.0, 1.0)))
    z = q.sample((20_000,))
    within(q.log_prob(z) - Normal(0.0, 1.0).log_prob(z), vae.gaussian_kl(mu, log_var))


class Answers(nn.Module):
    """A network that gives the same numbers whatever it is asked."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers = numbers

    def forward(self, x):
        return self.numbers


@pytest.mark.parametrize("build", [vae.mlp_vae, vae.conv_vae, partial(vae.mlp_vae, prior=MixturePrior(3, 2))])
def test_the_loss_sends_the_encoder_the_gradient_of_a_reparameterised_draw(build):
    """What arrives at the encoder's numbers is the derivative at z = μ + σε, ε fixed: of both terms, in full."""
    model, x = build(shape=(1, 8, 8), latent_dim=3, beta=2.0).double(), torch.rand(5, 1, 8, 8).double().round()
    numbers = model.encoder.network(x).detach().requires_grad_()
    model.encoder.network = Answers(numbers)
    torch.manual_seed(1)
    (by_model,) = torch.autograd.grad(model.loss(x)["loss"], numbers)
    torch.manual_seed(1)
    mu, log_var = numbers.chunk(2, dim=1)
    z = mu + (log_var / 2).exp() * torch.normal(torch.zeros_like(mu), torch.ones_like(mu))
    q, prior = Normal(mu, (log_var / 2).exp()), model.prior()
    closed = isinstance(model.prior, StandardNormal)
    kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1) if closed else q.log_prob(z).sum(1) - prior.log_prob(z)
    (by_formula,) = torch.autograd.grad((2 * kl - model.decoder(z).log_prob(x)).mean(), numbers)
    torch.testing.assert_close(by_model, by_formula)
    assert by_formula.abs().min() > 0


def test_elbo_gap_is_the_kl_to_the_posterior():
    model, (weight, bias, scale), x = linear_model()
    with torch.no_grad():
        q = model.encoder(x)
        elbo = vae.linear_gaussian_elbo(x, q, weight, bias, scale)
    evidence = vae.linear_gaussian_evidence(weight, bias, scale).log_prob(x)
    posterior = vae.linear_gaussian_posterior(x, weight, bias, scale)
    q_full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    torch.testing.assert_close(evidence - elbo, kl_divergence(q_full, posterior), atol=1e-6, rtol=1e-9)
    assert (evidence - elbo > 0.01).all()                      # the law is not checked at a trivial point


def test_posterior_and_evidence_are_bayes_rule():
    _, (weight, bias, scale), x = linear_model()
    z = torch.randn(4, 2).double()
    joint = Normal(z @ weight.T + bias, scale).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(z).sum(-1)
    posterior = vae.linear_gaussian_posterior(x, weight, bias, scale).log_prob(z)
    torch.testing.assert_close(joint - posterior, vae.linear_gaussian_evidence(weight, bias, scale).log_prob(x))


def test_sampled_elbo_has_the_closed_mean():
    model, parameters, x = linear_model()
    with torch.no_grad():
        exact = vae.linear_gaussian_elbo(x, model.encoder(x), *parameters)
        within(torch.stack([model.elbo(x) for _ in range(3_000)]), exact)


def test_importance_bound_rises_from_the_elbo_to_the_evidence():
    model, parameters, x = linear_model()
    weight, bias, scale = parameters
    evidence = vae.linear_gaussian_evidence(weight, bias, scale).log_prob(x)
    with torch.no_grad():
        elbo = vae.linear_gaussian_elbo(x, model.encoder(x), *parameters)
        means = []
        for k in (1, 3, 10, 100):
            x_many = x.repeat(4_000, 1)
            bounds = vae.importance_weighted_bound(x_many, model.encoder, model.decoder, model.prior, k)
            means.append(bounds.view(4_000, 4).mean(0))
            if k == 1:
                within(bounds.view(4_000, 4), elbo)
        assert all((low < high).all() for low, high in zip(means, means[1:], strict=False))
        assert (means[-1] <= evidence).all() and (evidence - means[-1] < 0.05).all()


def test_importance_weights_of_the_true_posterior_are_all_the_evidence():
    model, (weight, bias, scale), x = linear_model()
    posterior = partial(vae.linear_gaussian_posterior, weight=weight, bias=bias, scale=scale)
    weights = vae.log_weights(x, posterior, model.decoder, model.prior, 7)
    evidence = vae.linear_gaussian_evidence(weight, bias, scale).log_prob(x)
    torch.testing.assert_close(weights, evidence.expand(7, -1))


def test_grid_evidence_is_the_closed_evidence():
    model, (weight, bias, scale), x = linear_model()
    axis = torch.linspace(-7, 7, 141).double()
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        on_grid = vae.log_evidence_on_grid(x, model.decoder, model.prior, grid)
    evidence = vae.linear_gaussian_evidence(weight, bias, scale).log_prob(x)
    torch.testing.assert_close(on_grid, evidence, atol=1e-6, rtol=0)


def test_grid_refuses_axes_that_are_not_regular():
    with pytest.raises(ValueError, match="regular"):
        vae.cell_volume(torch.tensor([[0.0], [1.0], [3.0]]))
    line = torch.linspace(0, 1, 5)
    with pytest.raises(ValueError, match="all combinations"):
        vae.cell_volume(torch.stack([line, line], 1))
    with pytest.raises(ValueError, match="regular"):
        vae.cell_volume(torch.cartesian_prod(line, line[:1]))


def test_water_filling_takes_a_rounding_error_below_zero_for_zero():
    rate, distortion = vae.water_filling(torch.tensor([4.0, 1.0, -1e-9]).double(), 0.5)
    assert rate.item() == pytest.approx(0.5 * math.log(8) + 0.5 * math.log(2)) and distortion.item() == 1.0


def test_water_filling_is_the_optimum_of_a_linear_vae():
    """Direction by direction, the best encoder and decoder gain nothing over the closed rate and distortion."""
    eigenvalues, beta, variance = torch.tensor([4.0, 1.5, 0.6, 0.1]).double(), 1.5, 0.5
    rate, distortion = vae.water_filling(eigenvalues, beta * variance)
    # For one direction with eigenvalue l: code z = N(a x, s), reconstruction w z. KL and squared error are closed.
    a, log_s, w = (torch.full((4,), 0.4).double().requires_grad_() for _ in range(3))
    optimiser = torch.optim.LBFGS([a, log_s, w], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def terms():
        s = log_s.exp()
        kl = 0.5 * (a.square() * eigenvalues + s - log_s - 1)
        return kl.sum(), ((1 - w * a).square() * eigenvalues + w.square() * s).sum()

    def closure():
        optimiser.zero_grad()
        kl, error = terms()
        loss = error / (2 * variance) + beta * kl
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)
    kl, error = (t.detach() for t in terms())
    torch.testing.assert_close(kl, rate, atol=1e-4, rtol=0)
    torch.testing.assert_close(error, distortion, atol=1e-4, rtol=0)
    assert a.detach()[-1].abs() < 1e-3                         # 0.1 <= beta * variance: this direction is dead


HEADS = [BernoulliHead, partial(GaussianHead, min_scale=1 / 256), partial(FixedGaussianHead, scale=0.3)]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("build", [partial(vae.mlp_vae, hidden_dims=(16,)), partial(vae.conv_vae, width=4)])
def test_likelihoods_are_interchangeable(head, build):
    model = build(shape=(1, 8, 8), latent_dim=3, head=head)
    x = torch.rand(5, 1, 8, 8).round()
    terms = model.loss(x)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(terms["loss"], terms["kl"] - terms["reconstruction"])
    assert model.elbo(x).shape == model.importance_weighted_bound(x, 4).shape == (5,)
    assert model.sample(6).shape == (6, 1, 8, 8)


def test_a_prior_without_closed_kl_gives_an_unbiased_bound():
    """A mixture with two equal components *is* the standard normal, so both priors must give the same mean ELBO."""
    model, parameters, x = linear_model()
    mixture = MixturePrior(2, 2).double()
    nn.init.zeros_(mixture.means)
    with torch.no_grad():
        exact = vae.linear_gaussian_elbo(x, model.encoder(x), *parameters)
        model.prior = mixture
        within(torch.stack([model.elbo(x) for _ in range(3_000)]), exact)


@pytest.mark.parametrize("checked", [True, False])
def test_a_grey_image_is_not_a_bernoulli_outcome(checked, monkeypatch):
    """Also where a library has switched off torch's checks for the whole process, as some do when imported."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", checked)
    with pytest.raises(ValueError, match="support"):
        vae.vae_784_400_2().loss(torch.full((2, 1, 28, 28), 0.5))


def test_the_floor_of_the_scale_stops_the_density_of_a_constant_pixel():
    runaway, floored = GaussianHead(nn.Identity()), GaussianHead(nn.Identity(), min_scale=1 / 256)
    parameters = torch.tensor([[0.0, -60.0]])                  # mu = 0, log_var = -60 for a pixel that is always 0
    x = torch.zeros(1, 1)
    assert runaway(parameters).log_prob(x) > 25
    best = Normal(0.0, 1 / 256).log_prob(torch.tensor(0.0))
    torch.testing.assert_close(floored(parameters).log_prob(x), best.expand(1))


def test_beta_weighs_only_the_loss():
    model = vae.mlp_vae(shape=(1, 8, 8), hidden_dims=(16,), latent_dim=3, beta=4.0)
    x = torch.rand(5, 1, 8, 8).round()
    terms = model.loss(x)
    torch.testing.assert_close(terms["loss"], 4 * terms["kl"] - terms["reconstruction"])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        elbo = model.elbo(x)
    model.beta = 1.0
    torch.manual_seed(3)
    torch.testing.assert_close(model.elbo(x), elbo)


def test_the_network_of_the_sources():
    model = vae.vae_784_400_2()
    shapes = [tuple(p.shape) for p in model.parameters() if p.dim() == 2]
    assert shapes == [(400, 784), (4, 400), (400, 2), (784, 400)]


def test_unknown_labels_are_refused():
    with pytest.raises(ValueError, match="classes"):
        vae.vae_784_400_2().sample(2, y=torch.tensor([1, 2]))


def test_gaussian_head_gives_batch_and_event():
    q = GaussianHead(nn.Linear(3, 8))(torch.zeros(5, 3))
    assert isinstance(q, Independent) and q.batch_shape == (5,) and q.event_shape == (4,)
    assert StandardNormal(4)().log_prob(q.sample()).shape == (5,)
    assert gaussian(torch.zeros(5, 4), torch.zeros(5, 4)).log_prob(torch.zeros(5, 4)).shape == (5,)


def test_a_mean_image_is_where_encoder_and_decoder_start():
    mean_image = torch.rand(1, 8, 8)
    model = vae.mlp_vae(shape=(1, 8, 8), hidden_dims=(16,), latent_dim=3, mean_image=mean_image)
    plain = nn.Sequential(*list(model.encoder.network)[1:])
    x = torch.rand(5, 1, 8, 8).round()
    torch.testing.assert_close(model.encoder(x).mean, plain(x - mean_image).chunk(2, 1)[0])
    with torch.no_grad():
        model.decoder.network[0][-1].weight.zero_()
    torch.testing.assert_close(model.decoder(torch.randn(1, 3)).mean[0], mean_image.clamp(0.002, 0.998))


def test_an_image_unlike_the_data_gets_a_finite_bound():
    """A trained encoder extrapolates to log-variances of a hundred and more, and the decoder meets what is drawn."""
    model = vae.mlp_vae(shape=(1, 8, 8), hidden_dims=(16,), latent_dim=3)
    with torch.no_grad():
        model.encoder.network[-1][-1].bias[3:] = 300.0
    x = torch.rand(5, 1, 8, 8).round()
    assert model.encoder(x).stddev.max().item() == pytest.approx(math.exp(5))
    assert model.elbo(x).isfinite().all()
    vae.kl_divergence(model.encoder(x), model.prior()).mean().backward()
    assert (model.encoder.network[-1][-1].bias.grad[3:] > 1_000).all(), "the KL pulls it back"
