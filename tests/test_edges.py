"""Every public edge names what was expected and what came: all factories and public functions, given wrong inputs.

A model is found in the list of ``test_protocol``, a function by looking into the modules, and each is tried with wrong
inputs of every kind. A new model without guards, or a new function of which nothing is said here, fails.
"""

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
from test_protocol import CASES, made

from course_utils import metrics
from course_utils.data import handwriting, images
from course_utils.distributions import GaussianHead, Head
from course_utils.models import autoencoder, vae, vqvae
from course_utils.models.autoregressive import baselines, pixelcnn, sampling
from course_utils.models.autoregressive import made as made_family
from course_utils.widgets.network import pack_network

NAMES_WHAT_CAME = r"(?si)expected.*\b(got|found)\b"                # "found": torch's distributions say it so


def spoilt_floats(x):
    """Wrong versions of a tensor of floats, by kind. What a model is given instead must be refused."""
    yield "a list", x.tolist()
    yield "integers", (255 * x).clamp(0, 255).to(torch.uint8)
    yield "booleans", x > 0.5
    yield "another precision", x.to(torch.float32 if x.dtype == torch.float64 else torch.float64)
    yield "one example", x[0]
    yield "one dimension more", x.unsqueeze(1)
    yield "a size more", torch.cat([x, x[..., :1]], -1)
    yield "a size less", x[..., :-1]
    yield "no examples", x[:0]
    if x.dim() == 4:
        yield "no channel", x[:, 0]
        yield "two channels more", x.repeat(1, 3, 1, 1)
        yield "flat", x.flatten(1)
    if x.dim() == 2:
        yield "a row of numbers", x[:, 0]


def spoilt_labels(y):
    yield "a column", y[:, None]
    yield "floats", y.float()
    yield "booleans", y > 0
    yield "one too many", torch.cat([y, y[:1]])
    yield "a single one", y[:1]
    yield "out of range", torch.full_like(y, 10_000)
    yield "just out of range", torch.cat([y[:-1], y.max()[None] + 1])
    yield "negative", torch.cat([y[:-1], torch.tensor([-1])])
    yield "none", None


WRONG_COUNTS = {"none": 0, "fewer than none": -1, "a fraction": 2.5, "a word": "3", "True": True, "NaN": math.nan}

# What a model may take although the walk calls it spoilt, with the reason.
UNCONDITIONAL = "one network for both: without labels it is the unconditional model"
FINE = {
    ("diffusion given the class, U-Net", "none"): UNCONDITIONAL,
    ("flow matching of points given the class", "none"): UNCONDITIONAL,
    ("logistic regression", "no channel"): "it flattens: the same pixels, the same answer",
    ("logistic regression", "flat"): "it flattens",
    ("logistic regression", "one dimension more"): "it flattens",
    ("linear autoencoder", "one dimension more"): "a linear layer reads the last dimension: the same answer",
    ("small CNN", "a size more"): "it takes images of any size",
    ("small CNN", "a size less"): "it takes images of any size",
}


def calls(case):
    """Every public way to hand a batch to a model: name, function of (x, y)."""
    model = made(case)
    yield "the objective", lambda x, y: case.objective(model)(x if y is MISSING else (x, y))
    for method in {"log_prob", "elbo"} & set(case.has.split()):
        yield method, lambda x, y, method=method: getattr(model, method)(x, *[y] * (y is not MISSING and case.given))


MISSING = object()


def parts(case):
    batch = case.batch()
    return batch if isinstance(batch, tuple) else (batch, MISSING)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_model_refuses_what_is_no_batch_of_its_own(case):
    x, y = parts(case)
    silent = []
    for where, call in calls(case):
        call(x, y)                                                    # the right ones are taken
        for kind, wrong in spoilt_floats(x):
            if (case.name, kind) not in FINE:
                silent += refuses(f"{where} of {kind}", call, wrong, y)
        if y is not MISSING and not y.is_floating_point() and not (where == "log_prob" and not case.given):
            for kind, wrong in spoilt_labels(y):
                if (case.name, kind) in FINE:
                    continue
                silent += refuses(f"{where} of labels: {kind}", call, x, wrong)
        bad = x.clone()
        bad.view(-1)[3] = math.nan
        silent += refuses(f"{where} of NaN", call, bad, y, honest=True)
    assert not silent, "\n" + "\n".join(silent)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if "sample" in case.has])
def test_a_model_draws_a_whole_number_of_samples_from_one(case):
    model, silent = made(case), []
    _, y = parts(case)
    for kind, n in WRONG_COUNTS.items():
        silent += refuses(f"sample({n!r}), {kind}", model.sample, n, *[y] * case.given)
    if case.given:
        for kind, wrong in spoilt_labels(y):
            if (case.name, kind) in FINE:
                continue
            silent += refuses(f"sample with labels: {kind}", model.sample, len(y), wrong)
    elif "y" in inspect.signature(model.sample).parameters:
        silent += refuses("sample with labels it cannot use", model.sample, 3, torch.zeros(3).long())
    assert not silent, "\n" + "\n".join(silent)


def refuses(what, call, *given, honest=False):
    """[] if ``call(*given)`` raises a ValueError that names both sides, else what happened. honest: NaN may answer."""
    try:
        result = call(*given)
    except ValueError as error:
        return [] if re.search(NAMES_WHAT_CAME, str(error)) else [f"{what}: says only {str(error)[:150]}"]
    except Exception as error:
        return [f"{what}: {type(error).__name__}: {str(error)[:150]}"]
    if honest and not finite(result):
        return []
    return [f"{what}: nothing was said"]


def finite(result):
    if isinstance(result, dict):
        return all(finite(value) for value in result.values())
    if isinstance(result, (tuple, list)):
        return all(finite(value) for value in result)
    return not torch.is_tensor(result) or bool(result.isfinite().all())


@pytest.mark.parametrize("network", [
    lambda: vae.mlp_vae((1, 8, 8), (10,), 2).encoder.network, lambda: vae.mlp_vae((1, 8, 8), (10,), 2).decoder.network,
    lambda: vae.conv_vae((1, 8, 8), 2, width=4).decoder.network,
    lambda: autoencoder.conv_autoencoder((1, 8, 8), 2, width=4).encoder,
    lambda: autoencoder.conv_autoencoder((1, 8, 8), 2, width=4).decoder,
])
def test_a_guarded_network_still_runs_in_the_browser(network):
    assert any(layer["kind"] == "linear" for layer in pack_network(network()))


IMAGES = torch.arange(128).view(2, 1, 8, 8) % 2 / 1.0
SAMPLER = pixelcnn.PixelCNN((1, 8, 8), width=4, n_blocks=1, head=Head(5))
KNOWN = torch.ones(1, 8, 8, dtype=torch.bool)


@pytest.mark.parametrize("call", [
    *[lambda t=t: sampling.cached_sample(SAMPLER, 2, temperature=t)
      for t in (0, -1.0, 1e-30, math.inf, math.nan, "1", True)],
    lambda: sampling.cached_sample(SAMPLER, 2, uniforms=torch.rand(2, 8, 8)),
    lambda: sampling.cached_sample(SAMPLER, 2, uniforms=torch.full((2, 1, 8, 8), math.nan)),
    lambda: sampling.cached_sample(SAMPLER, 2, start=torch.full((1, 8, 8), 0.4), known=KNOWN),
    lambda: sampling.cached_sample(SAMPLER, 2, start=torch.full((1, 8, 8), math.nan), known=KNOWN),
    lambda: sampling.cached_sample(SAMPLER, 2, start=torch.zeros(1, 8, 8), known=KNOWN.float()),
    lambda: sampling.cached_sample(SAMPLER, 2, start=torch.zeros(1, 7, 8), known=KNOWN),
    lambda: vae.mlp_vae((1, 8, 8), (10,), 2).importance_weighted_bound(IMAGES, 0),
    lambda: vae.water_filling(torch.tensor([3, 2, 1]), 1.0),
    lambda: vae.water_filling(torch.tensor([3.0, math.nan]), 1.0),
    lambda: vae.water_filling(torch.tensor([3.0, 1.0]), 0),
    lambda: made_family.MADE((1, 8, 8), orders=torch.zeros(2, 64).long()),
    lambda: made_family.MADE((1, 8, 8), orders=torch.arange(64)),
    lambda: made_family.MADE((1, 8, 8)).log_prob_in_order(IMAGES, 1),
    lambda: baselines.PixelHistograms((1, 8, 8), n_classes=2).fit(IMAGES, torch.tensor([0, 7])),
    lambda: baselines.PixelHistograms((1, 8, 8), levels=1),
    lambda: Head(1), lambda: Head(2.0), lambda: Head(2, -1),
    lambda: GaussianHead(torch.nn.Identity(), min_scale=math.nan),
    lambda: metrics.accuracy(torch.eye(3), torch.arange(3)[:, None]),
    lambda: metrics.brier_score(torch.eye(3), torch.arange(3)[:, None]),
    lambda: metrics.accuracy(torch.eye(3), torch.tensor([0, 1, 200])),
    lambda: metrics.log_score(torch.eye(3), torch.arange(3)),
])
def test_a_value_out_of_range_is_named(call):
    assert not refuses("it", call)


def test_the_scale_of_a_gaussian_head_ends_where_it_says_however_far_the_network_goes():
    numbers = torch.tensor([[0.0, 9.0], [0.0, 11.0], [0.0, 1e4], [0.0, 1e38]], requires_grad=True)
    variance = GaussianHead(torch.nn.Identity())(numbers).variance
    torch.testing.assert_close(variance.log()[:, 0], torch.tensor([9.0, 10.0, 10.0, 10.0]))
    variance.log().sum().backward()
    torch.testing.assert_close(numbers.grad[:, 1], torch.ones(4))    # the end does not stop what leads back


# ---- the user's own dtype, and what a newer NumPy warns of ----------------------------------------------------------


@pytest.fixture
def in_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_a_model_made_in_double_precision_takes_and_gives_doubles(case, in_double):
    model, batch = made(case), case.batch()
    assert {weight.dtype for weight in model.parameters()} == {torch.float64}
    assert case.objective(model)(batch)["loss"].dtype == torch.float64
    if "sample" in case.has:
        y = [parts(case)[1]] * case.given
        assert model.sample(len(y[0]) if y else 3, *y).dtype == torch.float64


def test_data_come_in_the_default_dtype_with_the_same_numbers(in_double):
    double = images.to_float(torch.arange(256, dtype=torch.uint8)), handwriting.sample(20).factors
    words = vqvae.WordsAsBits(None, 4).to_image(torch.arange(4).view(1, 2, 2))
    assert {x.dtype for x in (*double, words)} == {torch.float64}
    torch.set_default_dtype(torch.float32)
    single = images.to_float(torch.arange(256, dtype=torch.uint8)), handwriting.sample(20).factors
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32 and torch.equal(a, b.float())


def test_chapters_hand_arrays_to_functions_that_ask_numpy_for_a_copy():
    """A tensor's ``__array__`` knows no ``copy``, of which NumPy 2 warns: pictures are drawn from arrays."""
    found = [f"{path.name}: {call}" for path in sorted(Path(__file__).parents[1].glob("notebooks/src/*.py"))
             for call in re.findall(r"\.imshow\((.*)", path.read_text(encoding="utf-8"))
             if ".numpy()" not in call.partition(", ")[0] + call.partition(", ")[2].split("=")[0]]
    assert not found, "say .numpy(): " + "; ".join(found)
