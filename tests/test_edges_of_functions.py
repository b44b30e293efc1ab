"""Every public function is given what it is made for, and then, one argument at a time, what it is not.

Functions are found by looking into the modules: a new one needs a line in ``CALLS``, a call that works, or the test
fails and says so. A function that returns a function, or yields, is followed to what comes of it.
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
from course_utils.distributions import BernoulliHead, Head, gaussian, standard_normal
from course_utils.models import autoencoder, classifier, energy, vae, vqvae
from course_utils.models.autoregressive import made as made_family
from course_utils.models.autoregressive import pixelcnn
from course_utils.models.diffusion import schedule
from course_utils.models.flow import autoregressive as flow_autoregressive
from course_utils.models.flow import spline
from course_utils.models.gan import theory as gan_theory
from course_utils.nn.conditioning import AdaptiveMLP
from course_utils.nn.masked import MaskedMLP
from course_utils.nn.mlp import Linear

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
    elif isinstance(value, list):                                    # times, symbols, counts
        yield from {"a number": 8, "a word": "188", "none": []}.items()
    elif callable(value) and not isinstance(value, torch.nn.Module):
        yield "no function", 3
    elif isinstance(value, float):
        yield from {"NaN": math.nan, "infinite": math.inf, "a word": "1"}.items()


def rows(*shape):
    return torch.rand(*shape).double()


def p(*shape):
    return torch.rand(*shape).double().softmax(-1)


def y(n, k=3):
    return torch.arange(n) % k


def fine(arguments, *kinds):
    return ", ".join(f"{argument}: {kind}" for argument in arguments.split() for kind in kinds)


def pixels(levels=2):
    return pixelcnn.PixelCNN((1, 3, 3), width=4, n_blocks=1, first=3, head=Head(levels)).double()


def layer(n=4):
    masks = made_family.made_masks(torch.arange(n), (6,), 2)
    return flow_autoregressive.MaskedAffine(MaskedMLP(masks, 2).double())


ANY_EVENT = fine("x", "a dimension more", "a dimension less")         # a sampler knows no event: the network refuses
LEVELS = schedule.cosine_schedule(20)
TIMES = [10, 5, 0]
CLOCK = [0.0, 0.5, 0.8]
VAE = vae.mlp_vae((1, 2, 2), (5,), 2).double()
LINEAR = torch.nn.Sequential(Linear(3, 2)).double()                   # its slope is the same everywhere, at NaN too
HALF = partial(torch.mul, 0.5)


def halved(x, t):
    return x / 2


def read_like(name, *beside):
    """Arguments of a formula of the diffusion process: all (4, 3), and a share of variance. One alone has any shape."""
    alone = fine(beside[0], "a dimension more", "a dimension less") if len(beside) == 1 else ""
    return f"models.diffusion.process.{name}", (lambda: {key: rows(4, 3) for key in beside} | {"alpha_bar": 0.4}, alone)


def loss_of(name, **more):
    return f"models.gan.objectives.{name}", (lambda: dict(real=rows(4, 3), fake=rows(4, 3), **more), "")


# name: what gives the arguments of a call that works, the kinds of wrong that are no wrong here, and what is done with
# the result, if that is a function.
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
    "coding.to_counts": (lambda: dict(probs=p(4), precision=16), "probs: a list"),
    "coding.encode": (lambda: dict(symbols=[0, 1], counts=[[1, 3], [3, 1]]), ""),
    "coding.decode": (lambda: dict(bits="01101", next_counts=lambda so_far: [1, 3], n_symbols=2), "n_symbols: 0"),
    "distributions.basic.standard_normal": (lambda: {"*event": (2, 3), "like": rows(1)}, fine(
        "like", "a dimension more", "a dimension less", "nothing", "NaN") + ", *event: none, *event: a number"),
    "distributions.heads.shape_for": (lambda: dict(head=BernoulliHead, shape=(1, 4, 4)), ""),
    "distributions.levels.inverse_cdf": (lambda: dict(
        distribution=torch.distributions.Categorical(logits=rows(3, 4)), uniforms=rows(3)), ""),
    "distributions.mixtures.narrowest": (lambda: dict(components=torch.distributions.Normal(rows(3), 1 + rows(3))), ""),
    "models.autoencoder.add_noise": (lambda: dict(scale=0.1), "", lambda corrupt: corrupt(rows(2, 3))),
    "models.autoencoder.drop_pixels": (lambda: dict(probability=0.1), "", lambda corrupt: corrupt(rows(2, 3))),
    **{f"models.autoencoder.{name}": (lambda more=more: dict(weight=0.1, **more), "",
                                      lambda penalty: penalty(rows(2, 3), rows(2, 3), torch.nn.Linear(3, 3).double()))
       for name, more in {"small_codes": {}, "sparse_l1": {}, "sparse_kl": {"target": 0.2}, "contract": {}}.items()},
    "models.autoencoder.contract_sigmoid": (lambda: dict(weight=0.1), "", lambda penalty: penalty(
        rows(2, 3), rows(2, 3), autoencoder.one_layer_autoencoder((1, 1, 3), 3).double().encoder)),
    "models.autoencoder.denoising_score": (lambda: dict(denoiser=HALF, x=rows(4, 3), scale=0.5), ANY_EVENT),
    "models.autoencoder.jacobian": (lambda: dict(encoder=LINEAR, x=rows(4, 3)), "x: NaN"),
    "models.autoencoder.jacobian_penalty": (lambda: dict(encoder=LINEAR, x=rows(4, 3)), "x: NaN"),
    "models.autoregressive.labels.check_images": (lambda: dict(model=pixels(), x=rows(2, 1, 3, 3)), ""),
    "models.autoregressive.labels.check_label": (lambda: dict(n_classes=3, y=y(4), n=4), "n: a word"),
    "models.autoregressive.pixelcnn.columns": (lambda: dict(row=rows(2, 3, 1, 4)), ""),
    "models.autoregressive.pixelcnn.gate": (lambda: dict(a=rows(2, 4, 3), colours=1),
                                            "a: a dimension more, a: a dimension less, colours: True"),
    "models.autoregressive.pixelrnn.lstm_step": (lambda: dict(gates=rows(2, 8, 3), c=rows(2, 2, 3), colours=1), ""),
    "models.autoregressive.pixelrnn.skew": (lambda: dict(x=rows(2, 1, 3, 4)), ""),
    "models.autoregressive.pixelrnn.unskew": (lambda: dict(x=rows(2, 1, 3, 6), width=4), ""),
    **{f"models.autoregressive.sampling.{name}": (lambda: dict(
        model=pixels(), n=2, uniforms=rows(2, 1, 3, 3), start=rows(2, 1, 3, 3).round(),
        known=torch.arange(9).view(1, 3, 3) < 4, temperature=0.5),
        fine("start", "a dimension less", "a dimension more"))
       for name in ("ancestral_sample", "cached_sample")},
    "models.classifier.feature_network": (lambda: dict(channels=1, n_classes=3), ""),
    "models.energy.energy_mlp": (lambda: dict(n_dims=2, hidden_dim=4, scale=1.0), ""),
    "models.diffusion.flow_matching.path_velocity": (lambda: dict(
        x_t=rows(4, 3), x0_hat=rows(4, 3), a=0.4, b=0.6, da=1.0, db=-1.0), ""),
    "models.diffusion.flow_matching.straight_path": (lambda: dict(x=rows(4, 3), eps=rows(4, 3), t=0.4), ""),
    "models.diffusion.flow_matching.data_from_velocity": (lambda: dict(
        x_t=rows(4, 3), velocity=rows(4, 3), t=0.4), ""),
    "models.diffusion.flow_matching.noise_from_velocity": (lambda: dict(
        x_t=rows(4, 3), velocity=rows(4, 3), t=0.4), ""),
    "models.diffusion.flow_matching.logit_normal_times": (lambda: dict(n=3), ""),
    "models.diffusion.flow_matching.unet_flow": (lambda: dict(shape=(1, 8, 8), widths=(4, 4), n_classes=3),
                                                 "n_classes: 0"),
    "models.diffusion.flow_matching.vector_flow": (lambda: dict(
        n_features=2, width=4, n_blocks=1, n_classes=3, centre=0.0, spread=1.0), "n_classes: 0"),
    **dict(read_like(name, *beside.split()) for name, beside in {
        "q_sample": "x_0 eps", "x0_from_eps": "x_t eps", "eps_from_x0": "x_t x_0", "v_from": "x_0 eps",
        "x0_from_v": "x_t v", "eps_from_v": "x_t v", "score_from_eps": "eps", "x0_from_score": "x_t score",
        "prior_kl": "x_0", "gaussian_evidence": "x_t", "last_step": "x_0 x_1 x0_hat"}.items()),
    "models.diffusion.process.posterior": (lambda: dict(
        x_0=rows(4, 3), x_t=rows(4, 3), alpha_bar_t=0.3, alpha_bar_s=0.6), ""),
    "models.diffusion.process.step_kl": (lambda: dict(squared_error=rows(4), snr_t=0.4, snr_s=0.9),
                                         "squared_error: a dimension more, squared_error: a dimension less"),
    "models.diffusion.process.known": (lambda: dict(y=y(4), n=4, network=AdaptiveMLP(2, 4, 1, 3)), "n: a word"),
    "models.diffusion.process.hidden": (lambda: dict(
        y=y(4), n=4, probability=0.5, network=AdaptiveMLP(2, 4, 1, 3)), "n: a word"),
    "models.diffusion.process.unet_diffusion": (lambda: dict(
        shape=(1, 8, 8), widths=(4, 4), n_classes=3, n_steps=10), "n_classes: 0"),
    "models.diffusion.process.vector_diffusion": (lambda: dict(
        n_features=2, width=4, n_blocks=1, n_classes=3, n_steps=10, centre=0.0, spread=1.0), "n_classes: 0"),
    **{f"models.diffusion.samplers.{name}": (lambda more=more: dict(
        denoise=halved, x=rows(4, 2), schedule=LEVELS, times=TIMES, **more), ANY_EVENT)
       for name, more in {"ddim": {"eta": 0.5}, "ancestral": {}, "dpm_solver": {}}.items()},
    "models.diffusion.samplers.inpaint": (lambda: dict(
        denoise=halved, x=rows(4, 2), schedule=LEVELS, times=TIMES, known=rows(4, 2),
        where=torch.tensor([True, False])), ANY_EVENT),
    "models.diffusion.samplers.clipped": (lambda: dict(denoise=halved, low=-1.0, high=1.0), "",
                                          lambda denoise: denoise(rows(4, 2), 1)),
    "models.diffusion.samplers.classifier_free": (
        lambda: dict(network=lambda x, t, y: x / 2, y=y(4), s=2.0), "y: far out of range",
        lambda towards: towards(rows(4, 2), 1)),
    "models.diffusion.samplers.classifier_guided": (
        lambda: dict(denoise=halved, log_prob=lambda x, t: -x.square().sum(1), schedule=LEVELS, s=2.0), "",
        lambda towards: towards(rows(4, 2), torch.full((4,), 3))),
    "models.diffusion.samplers.guided": (lambda: dict(unconditional=rows(4, 2), conditional=rows(4, 2), s=2.0), ""),
    "models.diffusion.samplers.final": (lambda: dict(film=[rows(2)]), "film: a word"),
    "models.diffusion.samplers.pairs": (lambda: dict(times=TIMES), "", list),
    "models.diffusion.samplers.levels": (lambda: dict(schedule=LEVELS, x=rows(4, 2), t=3, s=1), fine(
        "x", "a list", "integers", "a dimension more", "a dimension less", "nothing", "NaN") + ", s: 0"),
    "models.diffusion.samplers.answered": (lambda: dict(function=halved, x=rows(4, 2), t=3, name="f"), ANY_EVENT + ", "
                                           + fine("t", "0", "-1", "a fraction", "a word", "True")),
    **{f"models.diffusion.samplers.{name}": (lambda: dict(field=halved, x=rows(4, 2), times=CLOCK), ANY_EVENT)
       for name in ("euler", "heun")},
    "models.diffusion.samplers.stochastic": (lambda: dict(
        field=halved, score=halved, x=rows(4, 2), times=CLOCK, noise=lambda t: 0.5), ANY_EVENT),
    "models.diffusion.samplers.langevin": (lambda: dict(
        score=HALF, x=rows(4, 2), n_steps=2, step_size=0.1), ANY_EVENT),
    "models.diffusion.samplers.divergence": (lambda: dict(field=halved, x=rows(4, 2), t=0.5), "x: a dimension more"),
    "models.diffusion.samplers.ode_log_prob": (lambda: dict(
        field=halved, x=rows(4, 2), times=CLOCK, base=standard_normal(2, like=rows(1))), ""),
    "models.diffusion.schedule.linear_schedule": (lambda: dict(n_steps=5, first=0.1, last=0.2), ""),
    "models.diffusion.schedule.cosine_schedule": (lambda: dict(n_steps=5, offset=0.0, max_beta=0.9), ""),
    "models.diffusion.schedule.log_snr_schedule": (lambda: dict(n_steps=5, high=2.0, low=-2.0), ""),
    "models.diffusion.schedule.shifted": (lambda: dict(schedule=LEVELS, factor=0.5), ""),
    "models.diffusion.schedule.zero_terminal": (lambda: dict(schedule=LEVELS), ""),
    "models.diffusion.schedule.trailing_steps": (lambda: dict(n_steps=8, n=4), ""),
    "models.diffusion.schedule.leading_steps": (lambda: dict(n_steps=8, n=4), ""),
    "models.flow.autoregressive.jacobi": (lambda: dict(layer=layer(), z=rows(3, 4), start=rows(3, 4)), ""),
    "models.flow.autoregressive.jacobi_inverse": (lambda: dict(layer=layer(), z=rows(3, 4), tolerance=1e-5), ""),
    "models.flow.coupling.affine_coupling": (lambda: dict(
        x=rows(3, 4), mask=torch.arange(4) > 1, shift=rows(3, 4), log_scale=rows(3, 4)), ""),
    "models.flow.coupling.affine_coupling_inverse": (lambda: dict(
        z=rows(3, 4), mask=torch.arange(4) > 1, shift=rows(3, 4), log_scale=rows(3, 4)), ""),
    "models.flow.coupling.affine_flow": (lambda: dict(n_features=2, n_layers=1, hidden=(4,), limit=2.0),
                                         "hidden: none"),
    "models.flow.coupling.spline_flow": (lambda: dict(n_features=2, n_layers=1, hidden=(4,), n_bins=3, bound=2.0),
                                         "hidden: none"),
    "models.flow.coupling.cube_flow": (lambda: dict(log_p=p(1, 2, 2, 3).log(), n_layers=1, hidden=(4,), n_bins=3),
                                       "hidden: none"),
    "models.flow.coupling.bounded": (lambda: dict(raw=rows(3, 4), limit=2.0), fine(
        "raw", "a dimension more", "a dimension less")),
    "models.flow.coupling.half_mask": (lambda: dict(n=4, turn=1), "turn: 0"),
    "models.flow.coupling.checkerboard_mask": (lambda: dict(shape=(1, 2, 2), turn=1), "turn: 0"),
    "models.flow.coupling.channel_mask": (lambda: dict(shape=(2, 2, 2), turn=1), "turn: 0"),
    "models.flow.elementwise.inside": (lambda: dict(x=rows(3, 4)), "x: a dimension more, x: a dimension less"),
    "models.flow.elementwise.summed": (lambda: dict(log_slopes=rows(3, 4)), "log_slopes: a dimension more"),
    "models.flow.flow.change_of_variables": (lambda: dict(log_base=rows(3), log_det=rows(3)), ""),
    "models.flow.flow.tweedie": (lambda: dict(log_prob=lambda x: -x.square().sum(1), x=rows(3, 2), sigma=0.5), ""),
    "models.flow.glow.conv1x1_log_det": (lambda: dict(weight=rows(3, 3), height=2, width=2), ""),
    "models.flow.glow.glow": (lambda: dict(shape=(1, 4, 4), n_scales=2, depth=1, width=4, limit=2.0), ""),
    "models.flow.glow.glow_step": (lambda: dict(shape=(4, 2, 2), width=4, limit=2.0), ""),
    "models.flow.glow.scales": (lambda: dict(shape=(1, 4, 4), n_scales=2), ""),
    "models.flow.glow.squeeze": (lambda: dict(x=rows(2, 1, 4, 4)), ""),
    "models.flow.glow.unsqueeze": (lambda: dict(z=rows(2, 4, 2, 2)), ""),
    "models.flow.spline.knots": (lambda: dict(numbers=rows(3, 8), low=-1.0, high=1.0),
                                 "numbers: a dimension less, numbers: a dimension more"),
    **{f"models.flow.spline.{name}": (lambda value=value: {value: rows(3)} | dict(zip(
        ("knot_x", "knot_y", "slopes"), spline.knots(rows(3, 8), -1.0, 1.0), strict=True)),
        "knot_x: NaN, knot_y: NaN, slopes: NaN")                      # of a bin in which nothing lies
       
       for name, value in {"rational_quadratic": "x", "rational_quadratic_inverse": "y"}.items()},
    "models.flow.tarflow.tarflow": (lambda: dict(
        shape=(1, 4, 4), block=lambda width: torch.nn.Identity(), patch=2, n_flows=1, width=4, n_blocks=1, n_classes=3,
        limit=3.0), "n_classes: 0"),
    "models.gan.model.check_label": (lambda: dict(y=y(4), n_classes=3, n=4), "n: a word"),
    "models.gan.model.dcgan": (lambda: dict(shape=(1, 8, 8), width=4, critic_width=4, n_codes=3, n_classes=3), ""),
    "models.gan.model.dcgan_features": (lambda: dict(shape=(1, 8, 8), width=4), ""),
    "models.gan.model.dcgan_generator": (lambda: dict(n_in=3, shape=(1, 8, 8), width=4), ""),
    "models.gan.model.halvings": (lambda: dict(side=28), ""),
    "models.gan.model.penalised": (lambda: dict(gamma=0.1, gamma_fake=0.1, share=0.5), "", lambda penalty: penalty(
        lambda x: x.sum(1), rows(4, 2), rows(4, 2))),
    "models.gan.model.plane_gan": (lambda: dict(n_codes=2, width=4, n_features=2), ""),
    **dict(loss_of(name) for name in ("exponential", "hinge", "minimax", "non_saturating", "relativistic",
                                      "wasserstein")),
    **dict([loss_of("least_squares", a=0.0, b=1.0, c=1.0)]),
    "models.gan.objectives.clip_weights_": (lambda: dict(critic=torch.nn.Linear(2, 1), bound=0.1), ""),
    "models.gan.objectives.gradient_norms": (lambda: dict(critic=lambda x: x.square().sum(1), x=rows(4, 2)), ""),
    "models.gan.objectives.zero_centred": (lambda: dict(
        critic=lambda x: x.square().sum(1), x=rows(4, 2), gamma=0.1), ""),
    "models.gan.objectives.one_centred": (lambda: dict(
        critic=lambda x: x.square().sum(1), real=rows(4, 2), fake=rows(4, 2), weight=0.1), ""),
    "models.gan.theory.dirac_eigenvalues": (lambda: dict(slope_at_zero=0.5, gamma=0.1), ""),
    "models.gan.theory.dirac_field": (lambda: dict(
        theta=0.5, psi=0.5, slope=gan_theory.sigma, gamma=0.1, gamma_fake=0.1), ""),
    "models.gan.theory.dirac_path": (lambda: dict(theta=0.5, psi=0.5, step=0.1, slope=gan_theory.sigma, n_steps=3), ""),
    "models.gan.theory.expected": (lambda: dict(terms=rows(4, 3), p=p(4), q=p(3)), ""),
    "models.gan.theory.optimal_critic": (lambda: dict(p=p(4), q=p(4)), ""),
    "models.gan.theory.sigma": (lambda: dict(t=0.5), ""),
    **{f"models.vae.{name}": (lambda more=more: dict(
        x=rows(4, 1, 2, 2).round(), encoder=VAE.encoder, decoder=VAE.decoder, prior=VAE.prior, **more), "")
       for name, more in {"elbo_terms": {}, "log_weights": {"k": 3}, "importance_weighted_bound": {"k": 3}}.items()},
    **{f"models.vae.{name}": (lambda: dict(
        x=rows(4, 1, 2, 2).round(), decoder=VAE.decoder, prior=VAE.prior,
        grid=torch.cartesian_prod(*[torch.linspace(-2, 2, 3).double()] * 2)), "")
       for name in ("log_joint_on_grid", "log_evidence_on_grid")},
    "models.vae.kl_or_draw": (lambda: dict(q=VAE.encoder(rows(4, 1, 2, 2)), p=VAE.prior(), z=rows(4, 2)), "z: NaN"),
    "models.vae.linear_gaussian_elbo": (lambda: dict(
        x=rows(4, 3), q=gaussian(rows(4, 2), rows(4, 2)), weight=rows(3, 2), bias=rows(3), scale=0.5), ""),
    "models.vae.vae_784_400_2": (dict, ""),
    "models.vqvae.with_averaging": (lambda: dict(model=vqvae.conv_vqvae((1, 8, 8), 4, 4, 2)), ""),
}
def test_every_public_function_is_walked():
    found = set(public_functions())
    unknown = sorted(found - CALLS.keys())
    assert not unknown, "say in CALLS how these are called: " + ", ".join(unknown)
    assert not (gone := sorted(CALLS.keys() - found)), f"these are no more: {gone}"


def followed(call, then=lambda result: result, **given):
    """What comes of a call: a generator is run to its end. An argument ``*name`` stands for several."""
    several = [value for name, value in given.items() if name.startswith("*")]
    result = then(call(*(several[0] if several else ()), **{k: v for k, v in given.items() if k[0] != "*"}))
    return list(result) if inspect.isgenerator(result) else result


@pytest.mark.parametrize("name", CALLS)
def test_a_function_refuses_what_it_is_not_made_for(name):
    module, _, function = name.rpartition(".")
    make, allowed, *then = CALLS[name]
    call = partial(followed, getattr(importlib.import_module(f"course_utils.{module}"), function), *then)
    given, silent = make(), []
    call(**given)
    for argument, value in given.items():
        for kind, wrong in spoilt(value):
            if f"{argument}: {kind}" not in allowed:
                honest = kind == "NaN" and not name.startswith("metrics")      # NaN in, NaN out is no lie
                spoilt_call = partial(call, **{**given, argument: wrong})
                silent += refuses(f"{argument}: {kind}", spoilt_call, honest=honest)
    assert not silent, "\n" + "\n".join(silent)
