"""The small protocol every model keeps, walked over one list. A new model is one line of ``CASES``.

Absence counts too: a model that has ``log_prob``, ``elbo`` or ``sample`` without saying so in its line fails, because a
method that the mathematics does not grant must not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn

from course_utils import training
from course_utils.data import images, scenes
from course_utils.distributions import GaussianHead, Head, MixturePrior, StandardNormal
from course_utils.models import autoencoder, classifier, energy, nerf, vae, vqvae
from course_utils.models.autoregressive import baselines, pixelcnn, pixelrnn, transformer
from course_utils.models.autoregressive import made as made_family
from course_utils.models.diffusion import flow_matching, process
from course_utils.models.flow import coupling, glow, tarflow
from course_utils.models.flow.autoregressive import MaskedAffine, Reversed
from course_utils.models.flow.flow import Dequantised, Flow, FlowEncoder
from course_utils.models.gan import model as gan
from course_utils.nn.masked import MaskedMLP
from course_utils.nn.mlp import FlattenImages
from course_utils.training.loop import terms_of

B, K = 6, 3  # batch, classes


def binary_images(side=8):
    return torch.rand(B, 1, side, side).round()


def grey_images(side=8):
    return torch.rand(B, 1, side, side)


def points():
    return torch.randn(B, 2)


def with_labels(x):
    return x, torch.arange(B) % K


def binary(x):
    return bool(((x == 0) | (x == 1)).all())


def unit(x):
    return bool(((x >= 0) & (x <= 1)).all())


def finite(x):
    return bool(x.isfinite().all())


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable  # () -> a small model with fresh weights
    batch: Callable  # () -> what the objective takes: x, or (x, y)
    has: str = ""  # of log_prob, elbo, sample: the methods its mathematics grants
    range: Callable = finite  # a law for the values of a sample
    objective: Callable = lambda model: model.loss
    descends: bool = True  # whether its loss measures progress
    trains_elbo: bool = True  # whether its loss is minus its bound, where it has one
    given: bool = False  # whether it models x given y, so that scores and samples want y too


def both_players(model):
    """What the two players of a GAN pay, added up: enough to see that both are finite and reach their weights."""
    return lambda batch: {"loss": model.critic_loss(batch)["loss"] + model.generator_loss(batch)["loss"]}


def masked_network(n, n_context=0):
    return MaskedMLP(made_family.made_masks(torch.arange(n), (12,), 2), 2, n_context)


def masked_flow():
    return Flow(StandardNormal(2), [MaskedAffine(masked_network(2)), Reversed(), MaskedAffine(masked_network(2))])


def cube_flow():
    log_p = torch.randn(1, 4, 4, 5).log_softmax(-1)
    flow = coupling.cube_flow(log_p, 2, (8,), 4)
    return Dequantised(flow, 5, images.dequantise)


def iaf_vae():
    model = vae.mlp_vae((1, 8, 8), (10,), 3)
    head = GaussianHead(nn.Sequential(FlattenImages(1, 8, 8), nn.Linear(64, 6)))
    context = nn.Sequential(FlattenImages(1, 8, 8), nn.Linear(64, 4))
    model.encoder = FlowEncoder(head, context, [MaskedAffine(masked_network(3, 4))])
    return model


CASES = [
    Case("logistic regression", lambda: classifier.logistic_regression(64, K), lambda: with_labels(grey_images())),
    Case("small CNN", lambda: classifier.small_cnn(1, K, width=4), lambda: with_labels(grey_images())),
    Case("energy on a grid",
         lambda: energy.GridEnergyModel(energy.energy_mlp(2, 8), [(-9.0, 9.0), (-9.0, 9.0)], n_cells=20),
         points, "log_prob sample"),
    Case("RBM", lambda: energy.RBM(64, 5), lambda: binary_images().flatten(1), "sample", binary,
         lambda model: energy.PersistentChains(model, binary_images().flatten(1)), descends=False),
    Case("autoencoder", lambda: autoencoder.mlp_autoencoder((1, 8, 8), (10,), 3), grey_images),
    Case("convolutional autoencoder", lambda: autoencoder.conv_autoencoder((1, 8, 8), 3, width=4), grey_images),
    Case("autoencoder for latent models",
         lambda: autoencoder.mlp_autoencoder((1, 8, 8), (10,), 3, latent_noise=0.1, error=autoencoder.cross_entropy,
                                             penalty=autoencoder.small_codes(0.05)), grey_images),
    Case("linear autoencoder", lambda: autoencoder.linear_autoencoder(2, 1), points),
    Case("sparse autoencoder",
         lambda: autoencoder.one_layer_autoencoder((1, 8, 8), 20, autoencoder.sparse_kl(0.1, 0.2)), grey_images),
    Case("contractive autoencoder, tied",
         lambda: autoencoder.one_layer_autoencoder((1, 8, 8), 20, autoencoder.contract_sigmoid(0.1), tied=True),
         grey_images),
    Case("VAE", lambda: vae.mlp_vae((1, 8, 8), (10,), 3), binary_images, "elbo sample", binary),
    Case("VAE, learned prior, learned scale",
         lambda: vae.mlp_vae((1, 8, 8), (10,), 3, partial(GaussianHead, min_scale=0.1), prior=MixturePrior(3, 2)),
         grey_images, "elbo sample"),
    Case("linear Gaussian VAE", lambda: vae.linear_gaussian_vae(2, 1, 0.5), points, "elbo sample"),
    Case("convolutional VAE", lambda: vae.conv_vae((1, 8, 8), 3, width=4), binary_images, "elbo sample", binary),
    Case("logistic pixels", lambda: baselines.LogisticPixels((1, 8, 8)), binary_images, "log_prob sample", binary),
    Case("MADE", lambda: made_family.MADE((1, 8, 8), hidden=(20,)), binary_images, "log_prob sample", binary),
    Case("PixelCNN", lambda: pixelcnn.PixelCNN((1, 8, 8), width=8, n_blocks=2), binary_images,
         "log_prob sample", binary),
    Case("gated PixelCNN, 17 levels", lambda: pixelcnn.GatedPixelCNN((1, 8, 8), width=8, n_blocks=2, head=Head(17)),
         lambda: (16 * grey_images()).round() / 16, "log_prob sample", unit),
    Case("PixelRNN", lambda: pixelrnn.PixelRNN((1, 8, 8), width=8), binary_images, "log_prob sample", binary),
    Case("PixelRNN, diagonal", lambda: pixelrnn.PixelRNN((1, 8, 8), layer=pixelrnn.DiagonalBiLSTM, width=8),
         binary_images, "log_prob sample", binary),
    Case("gated PixelCNN given the class", lambda: pixelcnn.GatedPixelCNN((1, 8, 8), width=8, n_blocks=2, n_classes=K),
         lambda: with_labels(binary_images()), "log_prob sample", binary, given=True),
    Case("pixel transformer", lambda: transformer.PixelTransformer((1, 8, 8), width=16, n_blocks=1), binary_images,
         "log_prob sample", binary),
    Case("affine couplings", lambda: coupling.affine_flow(2, 3, (8,)), points, "log_prob sample"),
    Case("spline couplings", lambda: coupling.spline_flow(2, 3, (8,)), points, "log_prob sample"),
    Case("masked flow", masked_flow, points, "log_prob sample"),
    Case("Glow", lambda: glow.glow((1, 8, 8), 2, 2, 6), grey_images, "log_prob sample"),
    Case("Glow, LU", lambda: glow.glow((1, 8, 8), 1, 2, 6, conv=glow.InvertibleConvLU), grey_images, "log_prob sample"),
    Case("TarFlow given the class",
         lambda: tarflow.tarflow((1, 8, 8), lambda width: transformer.TransformerBlock(width, 2), width=8, n_flows=2,
                                 n_blocks=1, patch=4, n_classes=K),
         lambda: with_labels(grey_images()), "log_prob sample", given=True),
    Case("dequantised flow on the cube", cube_flow, lambda: (4 * grey_images(4)).round() / 4, "elbo sample", unit),
    Case("VAE with an IAF posterior", iaf_vae, binary_images, "elbo sample", binary),
    Case("VQ-VAE", lambda: vqvae.conv_vqvae((1, 8, 8), 6, width=8, word_width=4), binary_images),
    Case("VQ-VAE, learned scale",
         lambda: vqvae.conv_vqvae((2, 8, 8), 6, width=8, word_width=4, head=partial(GaussianHead, min_scale=0.1)),
         lambda: torch.rand(6, 2, 8, 8)),
    Case("GAN in the plane", lambda: gan.plane_gan(width=8, penalty=gan.penalised(0.1, 0.1)), points, "sample",
         objective=both_players, descends=False),
    Case("DCGAN", lambda: gan.dcgan((1, 8, 8), width=4, critic_width=4, n_codes=5), grey_images, "sample", unit,
         objective=both_players, descends=False),
    Case("conditional DCGAN", lambda: gan.dcgan((1, 8, 8), width=4, critic_width=4, n_codes=5, n_classes=K),
         lambda: with_labels(grey_images()), "sample", unit, objective=both_players, descends=False, given=True),
    Case("diffusion of points", lambda: process.vector_diffusion(2, width=16, n_blocks=2, n_steps=20), points,
         "elbo sample", trains_elbo=False),
    Case("diffusion given the class, U-Net",
         lambda: process.unet_diffusion((1, 8, 8), (8, 8), n_classes=K, n_steps=20),
         lambda: with_labels(grey_images()), "elbo sample", given=True, trains_elbo=False),
    Case("diffusion of grey levels",
         lambda: process.level_diffusion((1, 4, 4), 3, width=8, n_blocks=1, n_steps=20),
         lambda: torch.randint(3, (6, 1, 4, 4)) / 2, "elbo sample", trains_elbo=False),
    Case("flow matching of points given the class",
         lambda: flow_matching.vector_flow(2, width=16, n_blocks=2, n_classes=K),
         lambda: with_labels(points()), "sample", given=True),
    Case("flow matching, U-Net", lambda: flow_matching.unet_flow((1, 8, 8), (8, 8)), grey_images, "sample"),
    Case("radiance field: one scene, no distribution", lambda: nerf.NeRF(nerf.Field(width=16), 2.0, 4.0, 12),
         lambda: (scenes.camera(0.0, 30.0, 8)[24 : 24 + B], torch.rand(B, 3))),
    Case("VQ-VAE, two levels", lambda: vqvae.two_level_vqvae((1, 8, 8), 6, width=8, word_width=4), binary_images),
]
METHODS = {"log_prob", "elbo", "sample"}


def walk(cases):
    """Give the test each of these cases in turn."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])


def those_with(*methods):
    return [case for case in CASES if set(methods) & set(case.has.split())]


def made(case):
    """A model whose weights are none of the special ones it starts with (zeros, the identity)."""
    model = case.make()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def image_part(batch):
    return batch[0] if isinstance(batch, tuple) else batch


def modes(model):
    return [module.training for module in model.modules()]


@walk(CASES)
def test_loss_is_finite_and_its_gradient_reaches_every_parameter(case):
    model, batch = made(case), case.batch()
    x = image_part(batch).clone()
    terms = terms_of(case.objective(model)(batch))  # raises for anything but scalars and "loss"
    terms["loss"].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, f"no gradient at {name}"
        assert weight.grad.isfinite().all(), f"gradient at {name} is not finite"
        assert weight.grad.abs().max() > 0, f"gradient at {name} is zero"
    assert torch.equal(x, image_part(batch)), "the loss changed its input"


@walk(those_with("log_prob"))
def test_the_loss_of_an_exact_model_is_minus_its_mean_log_prob(case):
    """Summed over the event, averaged over the batch: nothing else is trained."""
    model, batch = made(case).eval(), case.batch()
    scores = model.log_prob(*batch) if case.given else model.log_prob(image_part(batch))
    torch.testing.assert_close(case.objective(model)(batch)["loss"], -scores.mean())


@walk([case for case in those_with("elbo") if case.trains_elbo])
def test_the_loss_of_a_bounded_model_is_minus_its_mean_elbo(case):
    model, batch = made(case).eval(), case.batch()
    assert getattr(model, "beta", 1.0) == 1.0
    losses = []
    for score in (lambda: case.objective(model)(batch)["loss"], lambda: -model.elbo(image_part(batch)).mean()):
        torch.manual_seed(1)  # the same draws
        losses.append(score())
    torch.testing.assert_close(*losses)


@walk([case for case in CASES if case.descends])
def test_a_few_steps_lower_the_loss(case):
    model, batch = made(case), case.batch()
    objective = case.objective(model)
    history = training.fit(objective, torch.optim.Adam(model.parameters(), 1e-2), [batch] * 25, 25)
    assert history["loss"][-5:].mean() < history["loss"][:5].mean()


@walk(CASES)
def test_has_exactly_the_methods_its_mathematics_grants(case):
    model = case.make()
    assert {name for name in METHODS if hasattr(model, name)} == set(case.has.split())


@walk(those_with("log_prob", "elbo"))
def test_scores_are_one_number_an_example(case):
    model, batch = made(case).eval(), case.batch()
    batch, before = batch if case.given else (image_part(batch),), modes(model)
    for method in {"log_prob", "elbo"} & set(case.has.split()):
        score = getattr(model, method)(*batch)
        assert score.shape == (B,)
        assert score.isfinite().all()
    assert modes(model) == before
    if "log_prob" in case.has.split():  # an example's score does not depend on its neighbours
        torch.testing.assert_close(model.log_prob(*batch)[2:4], model.log_prob(*(part[2:4] for part in batch)))


@walk(those_with("sample"))
def test_samples_look_like_data(case):
    model, x = made(case), image_part(case.batch())
    what, before = (4, torch.arange(4) % K) if case.given else (4,), modes(model)
    drawn = model.sample(*what)
    assert drawn.shape == (4, *x.shape[1:])
    assert drawn.dtype == x.dtype
    assert case.range(drawn), f"values from {drawn.min()} to {drawn.max()}"
    assert not drawn.requires_grad
    assert modes(model) == before, "sampling changed train or eval modes"
    assert not torch.equal(drawn, model.sample(*what)), "two draws are the same"


@walk(CASES)
def test_state_survives_a_file(case, tmp_path):
    model, twin, batch = made(case), made(case), case.batch()
    training.save_weights(tmp_path / "model.safetensors", model, {"seed": 0})
    assert training.load_weights(tmp_path / "model.safetensors", twin) == {"seed": 0}
    assert model.state_dict().keys() == twin.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name
    losses = []
    for one in (model, twin):
        torch.manual_seed(1)
        losses.append(case.objective(one.eval())(batch)["loss"])
    assert torch.equal(*losses), "something that matters is not in the state"
