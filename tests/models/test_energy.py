"""Energies on grids, Langevin walks and restricted Boltzmann machines, judged by exact values."""

import math

import pytest
import torch

from course_utils import checks
from course_utils.models import energy


def test_log_partition_of_a_gaussian():
    x, cell = checks.grid((-10, 10), n=2_000)
    log_z = energy.log_partition((x**2 / 2).flatten(), math.log(cell))
    assert log_z.item() == pytest.approx(math.log(2 * math.pi) / 2, abs=1e-9)


@pytest.mark.parametrize("n_dims", [1, 2])
def test_grid_model_is_a_density_on_points_it_did_not_sum(n_dims):
    model = energy.GridEnergyModel(energy.energy_mlp(n_dims), [(-2.0, 3.0)] * n_dims, n_cells=100)
    checks.integrates_to_one(lambda x: model.log_prob(x.float()), *[(-2, 3)] * n_dims, what="the model", n=173)
    outside = torch.full((1, n_dims), 3.5)
    assert model.log_prob(outside).item() == -math.inf


def test_grid_model_samples_follow_its_density():
    model = energy.GridEnergyModel(energy.energy_mlp(1, scale=2.0), [(0.0, 1.0)], n_cells=20)
    for parameter in model.parameters():
        parameter.data *= 3  # far from uniform
    counts = torch.histc(model.sample(20_000), bins=20, min=0, max=1)
    checks.frequencies(counts, (-model.energy(model.cells)).softmax(0), what="samples")  # false alarm: 1e-6


def test_langevin_has_the_predicted_bias():
    eta = 0.5
    x = energy.langevin(lambda v: v.square().sum(1) / 2, torch.randn(20_000, 1, dtype=torch.float64), 100, eta)
    checks.monte_carlo(x.square(), 1 / (1 - eta / 4), what="variance")  # false alarm: 6e-7
    checks.monte_carlo(x, 0.0, what="mean")


@pytest.fixture
def rbm():
    return energy.RBM(6, 4, weight_scale=1.5).double()


def all_energies(rbm):
    v, h = checks.all_binary(6, dtype=torch.float64), checks.all_binary(4, dtype=torch.float64)
    return v, h, -(v @ rbm.visible_bias)[:, None] - (h @ rbm.hidden_bias)[None] - v @ rbm.weights @ h.T


def test_free_energy_and_partition_are_sums_over_all_states(rbm):
    rbm.hidden_bias.data.normal_()
    rbm.visible_bias.data.normal_()
    with torch.no_grad():
        v, _, energies = all_energies(rbm)
        torch.testing.assert_close(rbm.free_energy(v), -(-energies).logsumexp(1))
        torch.testing.assert_close(rbm.log_partition(), (-energies).flatten().logsumexp(0))


def test_conditionals_agree_with_the_joint(rbm):
    with torch.no_grad():
        v, h, energies = all_energies(rbm)
        joint = (-energies).flatten().softmax(0).reshape(64, 16)
        torch.testing.assert_close(rbm.hidden_given(v), joint @ h / joint.sum(1, keepdim=True))
        torch.testing.assert_close(rbm.visible_given(h), joint.T @ v / joint.sum(0).unsqueeze(1))


def test_gibbs_samples_have_the_exact_frequencies(rbm):
    with torch.no_grad():
        v, _, _ = all_energies(rbm)
        p = (-rbm.free_energy(v)).softmax(0)
    samples = rbm.sample(20_000, n_steps=60)
    codes = (samples * 2 ** torch.arange(6)).sum(1).long()
    checks.frequencies(torch.bincount(codes, minlength=64), p, what="Gibbs")  # false alarm: 1e-6


def test_persistent_chains_follow_the_gradient_of_the_likelihood(rbm):
    data = checks.all_binary(6, dtype=torch.float64)[:5]
    objective = energy.PersistentChains(rbm, rbm.sample(20_000, n_steps=60))
    objective(data)["loss"].backward()
    estimate = rbm.weights.grad.clone()
    rbm.weights.grad = None
    (rbm.free_energy(data).mean() + rbm.log_partition()).backward()
    assert (estimate - rbm.weights.grad).abs().max() < 0.03  # standard error of each entry at most 0.0036
    assert rbm.weights.grad.abs().max() > 0.1


def test_annealed_importance_sampling_is_near_the_exact_value_and_one_jump_is_not():
    stiff = energy.RBM(20, 10, weight_scale=2.0).double()
    exact = stiff.log_partition().item()
    many, error = energy.annealed_importance_sampling(stiff, n_runs=200, n_temperatures=2_000)
    one, _ = energy.annealed_importance_sampling(stiff, n_runs=200, n_temperatures=1)
    assert abs(many.item() - exact) < 0.1 and error < 0.1
    assert abs(one.item() - exact) > 1


def test_too_many_hidden_units_to_list():
    with pytest.raises(ValueError, match="Use annealed_importance_sampling"):
        energy.RBM(4, 17).log_partition()
