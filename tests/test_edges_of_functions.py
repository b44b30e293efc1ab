"""Every public function is given what it is made for, and then, one argument at a time, what it is not.

Functions are found by looking into the modules: a new one needs a line in ``CALLS``, a call that works, or the test
fails and says so. ``LATER`` holds those whose edges nobody has walked yet; none may be added to it.
"""

import importlib
import inspect
import math
import pkgutil
from functools import partial

import pytest
import torch
from test_edges import refuses

import course_utils
from course_utils import metrics
from course_utils.models import classifier, energy

pytestmark = pytest.mark.usefixtures("torch_checks")
ROOMS = ("metrics", "distributions", "models", "coding")


def public_functions():
    """Dotted names, without ``course_utils.``, of the public functions of the rooms walked here."""
    modules = [name for _, name, _ in pkgutil.walk_packages(course_utils.__path__, "course_utils.")
               if name.split(".")[1] in ROOMS]
    for name in modules:
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == name and not attribute.startswith("_"):
                yield f"{name.partition('.')[2]}.{attribute}"


def spoilt(value):
    """Wrong versions of an argument, by kind."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        yield "a list", value.tolist()
        yield "integers", value.round().long()
        if value.dim():
            yield "a dimension more", value.unsqueeze(-1)
            yield "a dimension less", value[..., 0]
            yield "nothing", value[:0]
            yield "NaN", value.reshape(-1).index_fill(0, torch.tensor([0]), math.nan).view(value.shape)
    elif isinstance(value, torch.Tensor) and value.dtype == torch.bool:
        yield "floats", value.double()
    elif isinstance(value, torch.Tensor):
        yield "floats", value.double()
        yield "a column", value.unsqueeze(-1)
        yield "negative", torch.cat([value.reshape(-1)[:-1], value.new_tensor([-1])]).view(value.shape)
        yield "far out of range", torch.full_like(value, 100_000)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield from {"0": 0, "-1": -1, "a fraction": 2.5, "a word": "3", "True": True}.items()
    elif isinstance(value, tuple):                                   # a shape, or widths
        yield from {"a zero": (0, *value[1:]), "a fraction": (*value[:-1], 2.5), "a number": 8, "a word": "188"}.items()
        yield "none", ()
    elif isinstance(value, float):
        yield from {"NaN": math.nan, "infinite": math.inf, "a word": "1"}.items()


def rows(*shape):
    return torch.rand(*shape).double()


def p(*shape):
    return torch.rand(*shape).double().softmax(-1)


def y(n, k=3):
    return torch.arange(n) % k


# name: what gives the arguments of a call that works, and the kinds of wrong that are no wrong here.
CALLS = {
    "metrics.accuracy": (lambda: dict(logits=rows(6, 3), labels=y(6)), ""),
    "metrics.auroc": (lambda: dict(scores_in=rows(6), scores_out=rows(5)), ""),
    "metrics.log_score": (lambda: dict(log_probs=p(6, 3).log(), labels=y(6)), ""),
    "metrics.brier_score": (lambda: dict(probabilities=p(6, 3), labels=y(6)), ""),
    "metrics.calibration_curve": (lambda: dict(probabilities=p(6, 3), labels=y(6), n_bins=4), ""),
    "metrics.bits_per_dim": (lambda: dict(log_prob=-rows(6), n_dims=4),
                             "log_prob: a dimension more, log_prob: a dimension less"),
    "metrics.linear_probe": (lambda: dict(features=rows(9, 2), labels=y(9), test_features=rows(6, 2), test_labels=y(6),
                                          weight_decay=1e-3, max_iter=5), "labels: far out of range"),
    "metrics.rank_correlation": (lambda: dict(a=rows(5), b=rows(5)), ""),
    "metrics.unbeaten": (lambda: dict(cost=rows(5, 2)), ""),
    "metrics.frechet_distance": (lambda: dict(features=rows(9, 2), reference=rows(8, 2)), ""),
    "metrics.kernel_distance": (lambda: dict(features=rows(9, 2), reference=rows(8, 2)), ""),
    "metrics.density_coverage": (lambda: dict(features=rows(9, 2), reference=rows(8, 2), k=3), ""),
    "metrics.data_copying": (lambda: dict(features=rows(9, 2), training=rows(8, 2), test=rows(7, 2)), ""),
    "metrics.nearest": (lambda: dict(features=rows(9, 2), reference=rows(8, 2)), ""),
    "metrics.half_against_half": (lambda: dict(distance=metrics.frechet_distance, reference=rows(20, 2), n=5,
                                               generator=torch.Generator(), repeats=2), ""),
    "metrics.modes_and_fit": (lambda: dict(samples=rows(9, 2), centres=rows(3, 2), std=0.3, least=0.1), ""),
    "metrics.sharpness": (lambda: dict(images=rows(2, 1, 5, 5)), ""),
    "distributions.basic.gaussian": (lambda: dict(mu=rows(4, 2), log_var=rows(4, 2)), ""),
    "distributions.basic.bernoulli": (lambda: dict(logits=rows(4, 2)),
                                      "logits: a dimension more, logits: a dimension less"),
    "distributions.divergences.kl_divergence": (lambda: dict(p=p(4, 3), q=p(4, 3)), ""),
    "distributions.divergences.jensen_shannon": (lambda: dict(p=p(4, 3), q=p(4, 3)), ""),
    "distributions.divergences.entropy_of": (lambda: dict(probabilities=p(4, 3)), ""),
    "distributions.levels.to_levels": (lambda: dict(x=rows(2, 1, 3, 3).round(), levels=2),
                                       "x: a dimension more, x: a dimension less"),
    "distributions.levels.from_levels": (lambda: dict(integers=y(6), levels=3),
                                         "integers: floats, integers: a column, levels: a fraction"),
    "distributions.levels.tempered": (lambda: dict(
        distribution=torch.distributions.Categorical(logits=rows(3, 4)), temperature=0.5), ""),
    "models.autoencoder.squared_error": (lambda: dict(x=rows(4, 3), x_hat=rows(4, 3)), ""),
    "models.autoencoder.cross_entropy": (lambda: dict(x=rows(4, 3), x_hat=rows(4, 3)), ""),
    "models.autoencoder.pca": (lambda: dict(x=rows(9, 3), n_components=2), ""),
    "models.autoencoder.principal_angles": (lambda: dict(a=torch.eye(4)[:2].double(), b=rows(2, 4)), ""),
    "models.autoencoder.l1_sparsity": (lambda: dict(z=rows(4, 3)), ""),
    "models.autoencoder.kl_sparsity": (lambda: dict(z=rows(4, 3), target=0.2), ""),
    "models.autoencoder.contractive_penalty": (lambda: dict(z=rows(4, 3), weight=rows(3, 5)), ""),
    "models.classifier.lda_logits": (lambda: dict(x=rows(5, 2), means=rows(3, 2), precision=torch.eye(2).double(),
                                                  weights=p(3)), ""),
    "models.classifier.fit_class_gaussians": (lambda: dict(x=rows(9, 2), y=y(9), n_classes=3, ridge=0.1), ""),
    "models.energy.log_partition": (lambda: dict(energies=rows(7), log_volume=0.1), ""),
    "models.energy.free_energy": (lambda: dict(v=rows(4, 3).round(), weights=rows(3, 2), visible_bias=rows(3),
                                               hidden_bias=rows(2)), ""),
    "models.energy.langevin": (lambda: dict(energy=lambda x: x.square().sum(1), x=rows(5, 2), n_steps=2,
                                            step_size=0.1), ""),
    "models.energy.annealed_importance_sampling": (lambda: dict(rbm=energy.RBM(4, 3), n_runs=4, n_temperatures=3), ""),
    "models.classifier.fgsm": (lambda: dict(classifier=classifier.logistic_regression(9, 3).double(),
                                            x=rows(4, 1, 3, 3), y=y(4), epsilon=0.1), ""),
    "models.classifier.logistic_regression": (lambda: dict(n_pixels=9, n_classes=3), ""),
    "models.classifier.small_cnn": (lambda: dict(channels=1, n_classes=3, width=4), ""),
    **{f"models.gan.theory.{divergence}": (lambda: dict(p=p(4), q=p(4)), "")
       for divergence in ("squared_hellinger", "total_variation", "triangular")},
    "models.gan.theory.wasserstein_1d": (lambda: dict(x=rows(6), y=rows(6)), ""),
    "models.autoregressive.sampling.raster_order": (lambda: dict(shape=(1, 3, 3)), ""),
    "models.autoencoder.linear_autoencoder": (lambda: dict(n_features=3, latent_dim=2), ""),
    "models.autoencoder.mlp_autoencoder": (lambda: dict(shape=(1, 8, 8), hidden_dims=(5,), latent_dim=2),
                                           "hidden_dims: none"),
    "models.autoencoder.conv_autoencoder": (lambda: dict(shape=(1, 8, 8), latent_dim=2, width=4), ""),
    "models.autoencoder.one_layer_autoencoder": (lambda: dict(shape=(1, 8, 8), n_hidden=4), ""),
    "models.vae.mlp_vae": (lambda: dict(shape=(1, 8, 8), hidden_dims=(5,), latent_dim=2, beta=1.0),
                            "hidden_dims: none"),
    "models.vae.conv_vae": (lambda: dict(shape=(1, 8, 8), latent_dim=2, width=4, beta=1.0), ""),
    "models.vae.linear_gaussian_vae": (lambda: dict(n_features=3, latent_dim=2, scale=0.5, beta=1.0), ""),
    "models.vqvae.conv_vqvae": (lambda: dict(shape=(1, 8, 8), n_words=4, width=4, word_width=2, n_halvings=2), ""),
    "models.vqvae.two_level_vqvae": (lambda: dict(shape=(1, 8, 8), n_words=4, width=4, word_width=2), ""),
    "models.vae.gaussian_kl": (lambda: dict(mu=rows(4, 2), log_var=rows(4, 2)), ""),
    "models.vae.cell_volume": (lambda: dict(grid=torch.cartesian_prod(torch.arange(3.0), torch.arange(4.0))), ""),
    "models.vae.linear_gaussian_evidence": (lambda: dict(weight=rows(3, 2), bias=rows(3), scale=0.5), ""),
    "models.vae.linear_gaussian_posterior": (lambda: dict(x=rows(4, 3), weight=rows(3, 2), bias=rows(3), scale=0.5),
                                             ""),
    "models.vae.water_filling": (lambda: dict(eigenvalues=rows(4), beta_variance=0.3), ""),
    "models.diffusion.process.level_diffusion": (lambda: dict(shape=(1, 4, 4), levels=3, width=8, n_blocks=1,
                                                              n_steps=10), ""),
    "models.vqvae.nearest_word": (lambda: dict(z_e=rows(5, 2), words=rows(3, 2)), ""),
    "models.vqvae.straight_through": (lambda: dict(z_e=rows(5, 2), z_q=rows(5, 2)), ""),
    "models.vqvae.commitment": (lambda: dict(z_e=rows(5, 2), z_q=rows(5, 2)), ""),
    "models.vqvae.perplexity": (lambda: dict(indices=y(6), n_words=3), "indices: a column"),
    "models.autoregressive.made.made_masks": (lambda: dict(ranks=torch.arange(4), widths=(5,), n_params=1),
                                              "widths: none"),
    "metrics.psnr": (lambda: dict(x=rows(2, 3), reference=rows(2, 3)), ""),
    "models.nerf.survival": (lambda: dict(sigma=rows(4, 5), delta=rows(4, 5)), ""),
    "models.nerf.stop_weights": (lambda: dict(sigma=rows(4, 5), delta=rows(4, 5)), ""),
    "models.nerf.expected_colour": (lambda: dict(weights=rows(4, 5) / 5, colours=rows(4, 5, 3), background=0.7), ""),
    "models.nerf.places": (lambda: dict(near=0.5, far=1.5, uniform=rows(4, 5)),
                           "uniform: a dimension more, uniform: a dimension less"),
    "models.nerf.positional_encoding": (lambda: dict(x=rows(4, 3), n_frequencies=2, base=1.0),
                                        "x: a dimension more, x: a dimension less"),
    "models.autoregressive.made.random_orders": (lambda: dict(n=2, n_pixels=3), ""),
}
LATER = {f"{module}.{name}" for module, names in {
    "coding": "decode encode to_counts",
    "distributions.basic": "standard_normal",
    "distributions.heads": "shape_for",
    "distributions.levels": "inverse_cdf",
    "distributions.mixtures": "narrowest",
    "models.autoencoder": (
        "add_noise contract contract_sigmoid denoising_score drop_pixels jacobian jacobian_penalty "
        "small_codes sparse_kl sparse_l1 "
    ),
    "models.autoregressive.labels": "check_images check_label",
    "models.autoregressive.pixelcnn": "columns gate",
    "models.autoregressive.pixelrnn": "lstm_step skew unskew",
    "models.autoregressive.sampling": "ancestral_sample cached_sample",
    "models.classifier": "feature_network",
    "models.diffusion.flow_matching": (
        "data_from_velocity logit_normal_times noise_from_velocity path_velocity straight_path unet_flow "
        "vector_flow "
    ),
    "models.diffusion.process": (
        "eps_from_v eps_from_x0 gaussian_evidence hidden known last_step posterior prior_kl q_sample "
        "score_from_eps step_kl unet_diffusion v_from vector_diffusion x0_from_eps x0_from_score x0_from_v "
    ),
    "models.diffusion.samplers": (
        "ancestral classifier_free classifier_guided clipped ddim divergence dpm_solver euler final guided "
        "heun inpaint langevin levels ode_log_prob pairs stochastic "
    ),
    "models.diffusion.schedule": (
        "cosine_schedule leading_steps linear_schedule log_snr_schedule shifted trailing_steps zero_terminal "
    ),
    "models.energy": "energy_mlp",
    "models.flow.autoregressive": "jacobi jacobi_inverse",
    "models.flow.coupling": (
        "affine_coupling affine_coupling_inverse affine_flow bounded channel_mask checkerboard_mask cube_flow "
        "half_mask spline_flow "
    ),
    "models.flow.elementwise": "inside summed",
    "models.flow.flow": "change_of_variables tweedie",
    "models.flow.glow": "conv1x1_log_det glow glow_step scales squeeze unsqueeze",
    "models.flow.spline": "knots rational_quadratic rational_quadratic_inverse",
    "models.flow.tarflow": "tarflow",
    "models.gan.model": "check_label dcgan dcgan_features dcgan_generator halvings penalised plane_gan",
    "models.gan.objectives": (                           # losses of pairs broadcast: every real with every fake
        "clip_weights_ exponential gradient_norms hinge least_squares minimax non_saturating one_centred relativistic "
        "wasserstein zero_centred "
    ),
    "models.gan.theory": "dirac_eigenvalues dirac_field dirac_path expected optimal_critic sigma",
    "models.vae": (
        "elbo_terms importance_weighted_bound kl_or_draw linear_gaussian_elbo log_evidence_on_grid "
        "log_joint_on_grid log_weights vae_784_400_2 "
    ),
    "models.vqvae": "with_averaging",
}.items() for name in names.split()}


def test_every_public_function_is_walked():
    found = set(public_functions())
    unknown = sorted(found - CALLS.keys() - LATER)
    assert not unknown, "say in CALLS how these are called: " + ", ".join(unknown)
    assert not (gone := sorted((CALLS.keys() | LATER) - found)), f"these are no more: {gone}"
    assert not CALLS.keys() & LATER


@pytest.mark.parametrize("name", CALLS)
def test_a_function_refuses_what_it_is_not_made_for(name):
    module, _, function = name.rpartition(".")
    call = getattr(importlib.import_module(f"course_utils.{module}"), function)
    make, fine = CALLS[name]
    given, silent = make(), []
    call(**given)
    for argument, value in given.items():
        for kind, wrong in spoilt(value):
            if f"{argument}: {kind}" not in fine:
                honest = kind == "NaN" and not name.startswith("metrics")      # NaN in, NaN out is no lie
                spoilt_call = partial(call, **{**given, argument: wrong})
                silent += refuses(f"{argument}: {kind}", spoilt_call, honest=honest)
    assert not silent, "\n" + "\n".join(silent)
