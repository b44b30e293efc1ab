"""Laws of the autoregressive family: what a pixel may see, probabilities that sum to 1, samples that follow them."""

import itertools

import pytest
import torch

from course_utils.models.autoregressive.made import MADE, random_orders
from course_utils.models.autoregressive.outputs import Head
from course_utils.models.autoregressive.pixelcnn import PixelCNN
from course_utils.models.autoregressive.sampling import ancestral_sample, cached_sample, raster_order

SMALL = (1, 3, 3)
MODELS = {
    "made": lambda shape, head: MADE(shape, hidden=(20, 20), head=head),
    "made in random order": lambda shape, head: MADE(shape, hidden=(20,), head=head, orders=random_orders(1, 9 * shape[0])),
    "pixelcnn": lambda shape, head: PixelCNN(shape, width=6, n_blocks=2, first=3, head=head),
}
CACHED = ["pixelcnn"]


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


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 3, 3)])
@pytest.mark.parametrize("name", MODELS)
def test_a_pixel_depends_on_all_earlier_pixels_and_on_no_other(name, shape):
    if name == "made in random order" and shape != (3, 3, 3):
        shape = (1, 3, 3)
    model = make(name, shape, Head(levels=4))
    x = torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    jacobian = torch.autograd.functional.jacobian(lambda x: model.params(x).flatten(1, 3).abs().sum((0, 2)), x)
    jacobian = jacobian.flatten(1).abs() > 0
    order = getattr(model, "orders", raster_order(shape)[None])[0]
    seen = jacobian[order][:, order]
    assert not seen.triu().any(), "a pixel sees itself or a later one"
    if "made" in name:
        assert (seen == torch.ones_like(seen).tril(-1)).all(), "an earlier pixel is not seen"


@pytest.mark.parametrize("head", [Head(), Head(levels=5), Head(levels=5, mixtures=2)], ids=str)
@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 3)])
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
            torch.testing.assert_close(cache.pixel(j), full[:, :, i, j], rtol=0, atol=1e-10)
