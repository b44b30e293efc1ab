"""Laws of the autoencoders: what PCA, autograd and counting say they must do."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from course_utils import metrics
from course_utils.models import autoencoder as ae


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def stretched_data(n=400, variances=(5.0, 3.0, 1.0, 0.5, 0.2)):
    """Correlated data in float64 with well separated principal variances."""
    rotation = torch.linalg.qr(torch.randn(len(variances), len(variances)).double()).Q
    return torch.randn(n, len(variances)).double() * torch.tensor(variances).double().sqrt() @ rotation + 2.0


def test_pca_leaves_the_variance_of_the_directions_it_drops():
    x = stretched_data()
    mean, components, _ = ae.pca(x, 2)
    x_hat = mean + (x - mean) @ components.T @ components
    *_, variances = ae.pca(x, 5)
    torch.testing.assert_close(ae.squared_error(x, x_hat).mean(), variances[2:].sum())
    torch.testing.assert_close(components @ components.T, torch.eye(2).double())
    torch.testing.assert_close(variances.sum(), x.var(0, correction=0).sum())


def test_pca_refuses_more_components_than_the_data_can_have():
    with pytest.raises(ValueError, match="n_components"):
        ae.pca(torch.randn(4, 10), 5)


def test_pca_of_one_number_and_of_images():
    mean, components, variances = ae.pca(torch.tensor([[1.0], [3.0]]), 1)
    assert (mean.item(), components.abs().item(), variances.item()) == (2, 1, 1)
    with pytest.raises(ValueError, match="flatten images"):
        ae.pca(torch.rand(5, 1, 4, 4), 1)


def test_principal_angles_refuse_rows_that_span_less_than_they_are():
    with pytest.raises(ValueError, match="independent rows"):
        ae.principal_angles(torch.tensor([[1.0, 0, 0], [1, 0, 0]]), torch.eye(3)[:2])


def test_a_unit_that_sleeps_is_pulled_awake():
    logits = torch.full((5, 2), -20.0, requires_grad=True)
    ae.kl_sparsity(logits.sigmoid(), 0.1).backward()
    torch.testing.assert_close(logits.grad.sum(0), torch.tensor([-0.1, -0.1]))


def test_the_closed_contraction_is_for_one_sigmoid_layer():
    deep = ae.Autoencoder(nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 2), nn.Sigmoid()), nn.Linear(2, 4),
                          penalty=ae.contract_sigmoid(1.0))
    with pytest.raises(ValueError, match="take contract"):
        deep.loss(torch.rand(5, 4))


def test_principal_angles_know_equal_rotated_and_orthogonal_subspaces():
    basis = torch.eye(4).double()
    mixed = torch.tensor([[2.0, 1.0], [0.5, -3.0]]).double() @ basis[:2]
    torch.testing.assert_close(ae.principal_angles(basis[:2], mixed), torch.zeros(2).double(), atol=1e-12, rtol=0)
    tilted = torch.stack([basis[0], math.cos(0.3) * basis[1] + math.sin(0.3) * basis[2]])
    torch.testing.assert_close(ae.principal_angles(basis[:2], tilted), torch.tensor([0.0, 0.3]).double())
    torch.testing.assert_close(ae.principal_angles(basis[:2], basis[2:]), torch.full((2,), math.pi / 2).double())


def test_linear_autoencoder_reaches_the_error_and_the_subspace_of_pca():
    x = stretched_data()
    model = ae.linear_autoencoder(5, 2).double()
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=400, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = model.loss(x)["loss"]
        loss.backward()
        return loss

    optimiser.step(closure)
    _, components, _ = ae.pca(x, 2)
    *_, variances = ae.pca(x, 5)
    torch.testing.assert_close(model.loss(x)["loss"].detach(), variances[2:].sum(), atol=1e-5, rtol=0)
    angles = ae.principal_angles(model.decoder.weight.detach().T, components)
    assert angles.max() < 1e-3
    assert ae.principal_angles(model.encoder.weight.detach(), components).max() < 1e-3


def test_contractive_penalty_is_the_jacobian_of_autograd():
    model = ae.one_layer_autoencoder(shape=(1, 3, 3), n_hidden=12).double()
    x = torch.rand(4, 1, 3, 3).double()
    closed = ae.contractive_penalty(model.encoder(x), model.encoder[-2].weight)
    torch.testing.assert_close(ae.jacobian_penalty(model.encoder, x), closed)
    by_torch = torch.stack([torch.autograd.functional.jacobian(model.encoder, one[None]).square().sum() for one in x])
    torch.testing.assert_close(closed, by_torch)


def test_the_general_contractive_penalty_can_be_trained_on():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    ae.jacobian_penalty(encoder, torch.rand(4, 1, 3, 3).double()).mean().backward()
    assert encoder[1].weight.grad.abs().sum() > 0 and encoder[3].weight.grad.abs().sum() > 0


def test_kl_sparsity_is_zero_at_the_target_only_and_agrees_with_torch():
    at_target = torch.full((10, 3), 0.1).double()
    torch.testing.assert_close(ae.kl_sparsity(at_target, 0.1), torch.tensor(0.0).double())
    z = torch.rand(10, 3).double()
    bernoulli = torch.distributions.Bernoulli
    expected = torch.distributions.kl_divergence(bernoulli(torch.tensor(0.1).double()), bernoulli(z.mean(0))).sum()
    torch.testing.assert_close(ae.kl_sparsity(z, 0.1), expected)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ae.kl_sparsity(z, 1.0)


@pytest.mark.parametrize("penalty", [ae.sparse_l1(0.3), ae.sparse_kl(3.0, target=0.05)])
def test_training_with_a_sparsity_penalty_makes_the_code_sparse(penalty):
    x = torch.rand(64, 1, 4, 4)
    activity = []
    for p in (None, penalty):
        torch.manual_seed(0)
        model = ae.one_layer_autoencoder(shape=(1, 4, 4), n_hidden=32, penalty=p)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(150):
            optimiser.zero_grad()
            model.loss(x)["loss"].backward()
            optimiser.step()
        activity.append(model.encoder(x).mean().item())
    assert activity[1] < 0.12 < 0.3 < activity[0]


def test_denoising_hides_the_input_and_keeps_the_clean_target():
    model = ae.mlp_autoencoder(shape=(1, 4, 4), hidden_dims=(8,), latent_dim=3, corrupt=torch.zeros_like)
    x = torch.rand(5, 1, 4, 4)
    nothing = model(torch.zeros_like(x))
    torch.testing.assert_close(model.loss(x)["loss"], ae.squared_error(x, nothing).mean())


def test_corruptions_have_the_stated_strength():
    x = torch.ones(100, 1, 20, 20)
    assert abs(ae.drop_pixels(0.3)(x).mean().item() - 0.7) < 0.012           # 5 standard errors of 40,000 coins
    assert abs((ae.add_noise(0.5)(x) - x).std().item() - 0.5) < 0.01


def test_the_best_denoiser_gives_the_score():
    """For x ~ N(0, s^2) the best denoiser is linear, and Tweedie's formula is exact."""
    s, scale = 2.0, 0.5
    x = torch.randn(6, 1).double()
    score = ae.denoising_score(lambda y: y * s**2 / (s**2 + scale**2), x, scale)
    torch.testing.assert_close(score, -x / (s**2 + scale**2))


BUILDERS = [
    partial(ae.mlp_autoencoder, hidden_dims=(16,), latent_dim=3),
    partial(ae.conv_autoencoder, latent_dim=3, width=4),
    partial(ae.one_layer_autoencoder, n_hidden=80, penalty=ae.contract_sigmoid(0.1)),
    partial(ae.one_layer_autoencoder, n_hidden=80, tied=True),
]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("size", [7, 8])
def test_shapes_gradients_and_terms(build, size):
    model = build(shape=(1, size, size))
    x = torch.rand(5, 1, size, size)
    terms = model.loss(x)
    terms["loss"].backward()
    assert model(x).shape == x.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(terms["loss"], terms["squared_error"] + terms["penalty"])


def test_general_contraction_is_the_sigmoid_one():
    model = ae.one_layer_autoencoder(shape=(1, 4, 4), n_hidden=6, penalty=ae.contract_sigmoid(0.7)).double()
    x = torch.rand(3, 1, 4, 4).double()
    general = ae.Autoencoder(model.encoder, model.decoder, penalty=ae.contract(0.7))
    torch.testing.assert_close(model.loss(x)["loss"], general.loss(x)["loss"])


def test_tied_weights_are_one_matrix():
    model = ae.one_layer_autoencoder(shape=(1, 4, 4), n_hidden=6, tied=True)
    z = torch.rand(3, 6)
    weight = model.encoder[1].weight
    torch.testing.assert_close(model.decoder(z).flatten(1), z @ weight + model.decoder[0].bias)
    assert sum(p.dim() == 2 for p in model.parameters()) == 1


def test_linear_probe_reads_what_is_linear_and_nothing_else():
    """A label that is a linear function is read perfectly; exclusive-or is not, until the product is a feature."""
    signs = torch.randn(400, 2).sign()
    jitter = 0.1 * torch.randn(400, 2)
    exclusive = (signs.prod(1) > 0).long()
    x = 3.0 + signs + jitter
    assert metrics.linear_probe(x[:300], (signs[:300, 0] > 0).long(), x[300:], (signs[300:, 0] > 0).long()) == 1.0
    assert metrics.linear_probe(x[:300], exclusive[:300], x[300:], exclusive[300:]) < 0.8
    z = torch.cat([x, signs.prod(1, keepdim=True)], 1)
    assert metrics.linear_probe(z[:300], exclusive[:300], z[300:], exclusive[300:]) == 1.0


def test_a_mean_image_is_where_training_starts():
    mean_image = torch.rand(1, 4, 4) * 0.9 + 0.05
    model = ae.mlp_autoencoder(shape=(1, 4, 4), hidden_dims=(8,), latent_dim=3, mean_image=mean_image)
    x = torch.rand(5, 1, 4, 4)
    torch.testing.assert_close(model.encoder(x), model.encoder[1:](x - mean_image))
    torch.nn.init.zeros_(model.decoder[0][-1].weight)
    torch.testing.assert_close(model(x), mean_image.expand(5, -1, -1, -1))

    mean_image = torch.rand(2, 8, 8) * 0.9 + 0.05
    model = ae.conv_autoencoder(shape=(2, 8, 8), latent_dim=3, width=4, mean_image=mean_image)
    x = torch.rand(5, 2, 8, 8)
    torch.testing.assert_close(model.encoder(x), model.encoder[1:](x - mean_image))
    torch.nn.init.zeros_(model.decoder[0][-1].weight)
    torch.testing.assert_close(model(x), mean_image.mean((1, 2), keepdim=True).expand(5, -1, 8, 8))


def test_cross_entropy_is_that_of_the_bernoulli_and_least_at_the_image():
    x, x_hat = torch.rand(2, 5, 1, 4, 4, dtype=torch.float64)
    expected = -(x * x_hat.log() + (1 - x) * (1 - x_hat).log()).flatten(1).sum(1)
    torch.testing.assert_close(ae.cross_entropy(x, x_hat), expected)
    assert (ae.cross_entropy(x, x) < ae.cross_entropy(x, x_hat)).all()


def test_an_autoencoder_for_latent_models_adds_noise_to_codes_and_keeps_them_short():
    x = torch.rand(4_000, 1, 2, 2)
    model = ae.Autoencoder(torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 2, 2)), latent_noise=0.3,
                                    penalty=ae.small_codes(0.05))
    terms = model.loss(x)
    assert terms["squared_error"] == pytest.approx(4 * 0.09, rel=0.05)          # the noise, and nothing else
    assert terms["penalty"] == pytest.approx(0.05 * x.square().flatten(1).sum(1).mean().item(), rel=1e-5)
    assert torch.equal(model(x), x)                                             # none when it is used
    made = ae.mlp_autoencoder((1, 4, 4), (8,), 2, error=ae.cross_entropy, latent_noise=0.1)
    assert made.loss(torch.rand(3, 1, 4, 4)).keys() == {"loss", "cross_entropy", "penalty"}


def test_l1_sparsity_adds_up_the_sizes_of_a_code():
    z = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(ae.l1_sparsity(z), torch.tensor([3.5, 0.0]))
