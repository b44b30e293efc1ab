"""Laws of the autoregressive family: what a pixel may see, probabilities that sum to 1, samples that follow them."""

import itertools

import pytest
import torch

from course_utils.models.autoregressive.baselines import LogisticPixels
from course_utils.models.autoregressive.made import MADE, random_orders
from course_utils.models.autoregressive.outputs import Head
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN
from course_utils.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from course_utils.models.autoregressive.sampling import ancestral_sample, cached_sample, raster_order
from course_utils.models.autoregressive.transformer import PixelTransformer

SMALL = (1, 3, 3)
MODELS = {
    "made": lambda shape, head: MADE(shape, hidden=(20, 20), head=head),
    "made in random order": lambda shape, head: MADE(shape, hidden=(20,), head=head, orders=random_orders(1, 9 * shape[0])),
    "pixelcnn": lambda shape, head: PixelCNN(shape, width=6, n_blocks=2, first=3, head=head),
    "gated pixelcnn": lambda shape, head: GatedPixelCNN(shape, width=12, n_blocks=2, first=3, head=head),
    "row lstm": lambda shape, head: PixelRNN(shape, layer=RowLSTM, width=12, first=3, head=head),
    "diagonal bilstm": lambda shape, head: PixelRNN(shape, layer=DiagonalBiLSTM, width=12, first=3, head=head),
    "transformer": lambda shape, head: PixelTransformer(shape, width=8, n_heads=2, n_blocks=2, head=head),
    "logistic": lambda shape, head: LogisticPixels(shape, head=head),
}
COMPLETE = ["made", "made in random order", "gated pixelcnn", "logistic", "transformer"]                 # see every earlier pixel
CACHED = ["pixelcnn", "gated pixelcnn", "transformer"]


def random_weights(model, seed=0):
    """float64, and no weight left at zero or at the identity: a law must not hold only where nothing happens."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model.double()
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * (0.5 if parameter.dim() > 1 else 0.3)
    return model.eval()


def make(name, shape=SMALL, head=None, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return random_weights(MODELS[name](shape, head or Head()), seed)


def all_binary_images():
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=9)), dtype=torch.float64).view(-1, 1, 3, 3)


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_of_all_images_sum_to_one(name):
    total = make(name).log_prob(all_binary_images()).exp().sum()
    torch.testing.assert_close(total, torch.ones_like(total))


def what_changes(params, x, levels):
    """(D, D) booleans: row i, column j: does the answer for pixel i change, on any image, when pixel j does?"""
    base, changes = params(x), []
    for j in range(x[0].numel()):
        other = x.flatten(1).clone()
        other[:, j] = (other[:, j] + 1 / (levels - 1)) % (1 + 1e-9 + 1 / (levels - 1))       # another grey level
        other = (other * (levels - 1)).round().clamp(0, levels - 1) / (levels - 1)
        changes.append((params(other.view_as(x)) != base).any(-1).any(0).flatten())
    return torch.stack(changes, 1)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_a_pixel_depends_on_earlier_pixels_and_on_no_other(name, shape):
    if name == "made in random order":
        shape = (1, 3, 3)
    model = make(name, shape, Head(levels=4))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (6, *shape), generator=generator).double() / 3
    order = getattr(model, "orders", raster_order(shape)[None])[0]
    seen = what_changes(model.params, x, 4)[order][:, order]
    assert not seen.triu().any(), "a pixel sees itself or a later one"
    if name in COMPLETE:
        assert (seen == torch.ones_like(seen).tril(-1)).all(), "an earlier pixel is not seen"
    if name == "diagonal bilstm":                                    # its one gap: the last pixels of the rows above
        missed = (~seen).tril(-1).nonzero()
        assert (missed[:, 1] // shape[0] % shape[2] == shape[2] - 1).all()
    if name != "transformer":                                        # the same by autograd; tokens have no gradient
        jacobian = torch.autograd.functional.jacobian(lambda x: model.params(x).abs().sum((0, -1)).flatten(), x)
        assert not jacobian.abs().sum(1).flatten(1)[order][:, order].triu().any()


@pytest.mark.parametrize(
    "shape, head", [((1, 5, 4), Head()), ((3, 3, 4), Head(levels=5)), ((1, 4, 5), Head(levels=5, mixtures=2))], ids=str
)
@pytest.mark.parametrize("name", CACHED)
def test_cached_sampling_draws_what_naive_sampling_draws(name, shape, head):
    model = make(name, shape, head)
    u = torch.rand(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(cached_sample(model, 4, uniforms=u), ancestral_sample(model, 4, uniforms=u), rtol=0, atol=0)


@pytest.mark.parametrize("name", CACHED)
def test_cached_params_are_those_of_the_full_network(name):
    shape = (3, 5, 4)
    model = make(name, shape)
    x = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).round()
    cache, full = model.start_cache(x, None), model.params(x)
    for i in range(5):
        cache.row(i)
        for j in range(4):
            for c in range(3):
                torch.testing.assert_close(cache.pixel(j, c), full[:, c, i, j], rtol=0, atol=1e-10)
