"""One small instance of every demo: what the widget tests and the browser tests walk through.

The numbers come from closed-form stand-ins for a trained model, so that building all of them takes seconds.
"""

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn.functional import conv2d

from course_utils import widgets
from course_utils.data import densities, handwriting
from course_utils.distributions import GaussianMixture
from course_utils.nn.conv import ConvDecoder
from course_utils.nn.mlp import MLP


def digits(n, size=16):
    """``(n, size, size)`` binary handwriting."""
    return (handwriting.sample(n, size=size, seed=1)[0][:, 0].float() / 255 > 0.5).long()


def kl_explorer():
    return widgets.kl_explorer(densities.two_bumps())


def neighbours(images):
    """p(ink) of each pixel from its four earlier neighbours: ``(N, H, W) -> (N, H, W)``."""
    kernel = torch.tensor([[0.8, 1.6, 0.8], [1.6, 0.0, 0.0], [0.0, 0.0, 0.0]])
    return torch.sigmoid(1.9 * conv2d(images[:, None].float(), kernel[None, None], padding=1)[:, 0] - 3.2)


def masked_context(size, layers, blind):
    """``(size², size²)``: what a stack of 3×3 masked convolutions looks at; all earlier pixels when not ``blind``."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row, column = rows.flatten(), columns.flatten()
    up, right = row[:, None] - row, column - column[:, None]
    before = (up > 0) | ((up == 0) & (right < 0))
    return before & (up <= layers) & (right.abs() <= layers) & (right <= (up if blind else layers))


def pixel_order():
    image = digits(1)[0]
    ink = neighbours(image[None])[0]
    probabilities = {name: torch.stack([1 - ink, ink], -1) for name in ("one stack", "two stacks")}
    contexts = {"one stack": masked_context(16, 16, True), "two stacks": masked_context(16, 16, False)}
    return widgets.pixel_order(image, probabilities, contexts)


@cache
def endings(temperatures=(0.2, 0.5, 1.0, 1.5), many=10, size=16):
    """Originals, what is known, ``(D, T, M, H, W)`` endings drawn pixel by pixel, their bits and the temperatures."""
    originals = digits(2).numpy()
    uniforms = np.random.default_rng(0).random((many, size, size))
    images = np.zeros((2, len(temperatures), many, size + 1, size + 2))            # one pixel of margin: no edge cases
    images[..., 1:size // 2 + 1, 1:-1] = originals[:, None, None, :size // 2]
    bits = np.zeros(images.shape[:3])
    for row in range(size // 2 + 1, size + 1):
        for column in range(1, size + 1):
            above, left = images[..., row - 1, column - 1:column + 2], images[..., row, column - 1]
            logit = 1.9 * (above @ [0.8, 1.6, 0.8] + 1.6 * left) - 3.2
            p = 1 / (1 + np.exp(-logit / np.array(temperatures)[None, :, None]))
            drawn = uniforms[:, row - 1, column - 1] < p
            images[..., row, column] = drawn
            bits += np.logaddexp(0, np.where(drawn, -logit, logit)) / np.log(2)
    known = np.arange(size)[:, None].repeat(size, 1) < size // 2
    return originals, known, images[..., 1:, 1:-1].astype(np.uint8), bits, temperatures


def completion():
    originals, known, images, bits, temperatures = endings()
    return widgets.completion(originals, known, images, temperatures, bits)


def decoders(latent_dim=3):
    """Untrained: the browser must only agree with torch, not draw well. One is fully connected, one convolutional."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        connected = nn.Sequential(MLP([latent_dim, 24, 256]), nn.Sigmoid(), nn.Unflatten(1, (1, 16, 16)))
        convolutional = nn.Sequential(ConvDecoder(latent_dim, (1, 16, 16), width=4), nn.Sigmoid())
        for weight in [*connected.parameters(), *convolutional.parameters()]:
            nn.init.normal_(weight, std=0.4)
    return {"AE": connected, "VAE": convolutional}


def latent_explorer():
    labels = torch.arange(200) % 4
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    places = torch.stack([labels % 2, labels // 2, labels - labels], 1) * 2 - 1.0 + 0.3 * noise
    return widgets.latent_explorer(decoders(), {"AE": 5 * places + 2, "VAE": places}, labels, shape=(1, 16, 16))


def log_joint(images, z):
    """Posteriors known in closed form, ``(N, G)``: one tilted Gaussian with log p(x) = -90, one with two bumps."""
    tilted = torch.distributions.MultivariateNormal(torch.tensor([0.6, -0.4]), torch.tensor([[0.3, 0.1], [0.1, 0.2]]))
    bumps = torch.stack([-(z - centre).square().sum(1) * 4 for centre in (0.8, -0.9)]).logsumexp(0)
    first = digits(2)[0].float()
    return torch.stack([tilted.log_prob(z) - 90 if torch.equal(image[0], first) else bumps - 110 for image in images])


def posterior_lab():
    mu, sigma = torch.tensor([[0.5, -0.3], [0.7, 0.7]]), torch.tensor([[0.4, 0.4], [0.5, 0.5]])
    return widgets.posterior_lab(decoders(2)["AE"], digits(2)[:, None].float(), log_joint, mu, sigma, [1, 4])


def beta_shelf():
    grid = torch.linspace(-1.5, 1.5, 5)
    z = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        sheets = torch.stack([decoders(2)["VAE"](z / beta).reshape(5, 5, 1, 16, 16) for beta in (0.5, 1, 4)])
    return widgets.beta_shelf([0.5, 1, 4], sheets, rate=[9.0, 6.5, 2.0], distortion=[120.0, 124.0, 141.0])


def interpolation():
    codes = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    return widgets.interpolation(decoders()["VAE"], codes, digits(30)[:, None].float(), torch.arange(30) % 4)


def blobs():
    """Three Gaussians in the plane, unequal in weight and width."""
    return GaussianMixture(torch.tensor([0.2, 0.3, 0.5]), torch.tensor([[-1.2, -0.7], [1.1, -0.9], [0.1, 1.1]]),
                           torch.tensor([[0.03, 0.03], [0.08, 0.03], [0.05, 0.12]]))


def score_field():
    return widgets.score_field(blobs())


def particles():
    return widgets.particles(blobs(), n=60)


def film():
    frames = torch.rand(4, 2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return widgets.film(frames, values=[0.0, 0.5, 1.0, 2.0], axis="s", names=["one", "other"], columns=3, start=1,
                        ask="Which?", options=["left", "right"], right=1, answer="The right one.")


def film_in_colour():
    frames = torch.rand(3, 3, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return widgets.film(frames, values=[0, 120, 240], axis="azimuth in degrees", columns=1, start=1,
                        names=["scene", "field", "depth"])


def noise_slider():
    angle = torch.linspace(0, 1, 201, dtype=torch.float64) * torch.pi / 2
    noise = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    return widgets.noise_slider(digits(3)[:, None].float(), noise,
                                {"cosine": angle.cos() ** 2, "straight": torch.linspace(1, 0, 201)},
                                ask="When?", options=["early", "late"], right=0, answer="Early.")


def latent_explorer_in_python():
    """A decoder with a layer that the browser does not know."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(2, 256), nn.LayerNorm(256), nn.Sigmoid(), nn.Unflatten(1, (1, 16, 16)))
    codes = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    return widgets.latent_explorer({"VAE": network}, {"VAE": codes}, torch.arange(60) % 3, shape=(1, 16, 16))


def density_game():
    return widgets.density_game(torch.distributions.Normal(0.0, 1.0))


def sliding_densities():
    return widgets.sliding_densities()


def training_player():
    return widgets.training_player(densities.eight_gaussians(1.5, 0.12), n=400)


def spline_flow():
    return widgets.spline_flow()


def bent_lattice(n_layers, side=15):
    """Stages of a lattice that turns and shrinks a little in each layer, with the log_det of that."""
    axis = torch.linspace(-4, 4, side)
    stages = [(torch.cartesian_prod(axis, axis), torch.zeros(side**2))]
    for _ in range(n_layers):
        points, log_det = stages[-1]
        bent = points @ torch.tensor([[0.8, 0.3], [-0.3, 0.9]]) + 0.1 * points.roll(1, 1).sin()
        stages.append((bent, log_det + torch.log(torch.tensor(0.81)) + 0.2 * points[:, 0].sin()))
    return stages


def layer_morph():
    return widgets.layer_morph({"three layers": bent_lattice(3), "five layers": bent_lattice(5)}, side=15)


def flow_images():
    """Digits that fade with the temperature and shift with the strength: no two frames alike."""
    ink = digits(4).float()
    frames = torch.stack([torch.stack([torch.stack([(0.2 + 0.8 * t) * ink.roll(s if f else -s, 2) for s in range(4)])
                                       for t in torch.linspace(0, 1, 3)]) for f in range(2)])
    return widgets.flow_images(frames[:, :, :, :, None], [0.0, 0.5, 1.0], [-1.0, -0.5, 0.5, 1.0], ["right", "left"])


def ranking():
    question = {"ask": "Who wins when only speed counts?", "options": ["A", "B", "C"], "right": 1,
                "answer": "B is fast."}
    scores = [[1.0, 0.0, 0.5], [0.1, 1.0, 0.1], [0.6, 0.6, 1.0]]
    return widgets.ranking(["A", "B", "C"], ["quality", "speed", "coverage"], scores, question)


EXAMPLES = {
    "spline_flow": spline_flow,
    "layer_morph": layer_morph,
    "flow_images": flow_images,
    "kl_explorer": kl_explorer,
    "pixel_order": pixel_order,
    "completion": completion,
    "latent_explorer": latent_explorer,
    "latent_explorer_in_python": latent_explorer_in_python,
    "posterior_lab": posterior_lab,
    "beta_shelf": beta_shelf,
    "interpolation": interpolation,
    "score_field": score_field,
    "particles": particles,
    "film": film,
    "film_in_colour": film_in_colour,
    "noise_slider": noise_slider,
    "ranking": ranking,
    "density_game": density_game,
    "sliding_densities": sliding_densities,
    "training_player": training_player,
}
