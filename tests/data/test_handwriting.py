"""Handwriting: bytes from a seed, factors that do what they say, errors that help."""

import hashlib

import pytest
import torch

from course_utils.data import glyphs, handwriting

PLAIN = [0.0, 1.0, 0.3, 0.0, 1.0, 0.0]  # upright, normal, thin, slow, perfectly neat, first variant


def draw(label=1, **changes):
    row = dict(zip(handwriting.FACTOR_NAMES, PLAIN, strict=True)) | changes
    return handwriting.render([label], torch.tensor([list(row.values())]))[0, 0].double()


def test_shapes_types_and_ranges():
    images, labels, factors = handwriting.sample(40, seed=3)
    assert images.shape == (40, 1, 28, 28) and images.dtype == torch.uint8
    assert labels.shape == (40,) and labels.dtype == torch.int64 and 0 <= labels.min() and labels.max() <= 9
    assert factors.shape == (40, len(handwriting.FACTOR_NAMES)) and factors.dtype == torch.float32
    for column, name in enumerate(handwriting.FACTOR_NAMES[:-1]):
        low, high = handwriting.FACTOR_RANGES[name]
        assert ((factors[:, column] >= low) & (factors[:, column] <= high)).all(), name
    assert images.amax((1, 2, 3)).min() > 120, "an image without ink"
    assert images[:, :, 0].float().mean() < 1, "ink at the edge"


@pytest.mark.parametrize("size", [8, 19, 28, 64])
@pytest.mark.parametrize("rgb", [False, True])
def test_any_size_and_colour(size, rgb):
    images, labels, factors = handwriting.sample(3, size=size, rgb=rgb)
    assert images.shape == (3, 3 if rgb else 1, size, size)
    small = handwriting.sample(3, size=28, rgb=False)
    assert torch.equal(labels, small.labels) and torch.equal(factors, small.factors), "size must not change the digit"
    corner = images[:, :, 0, 0].min()
    assert corner > 200 if rgb else corner == 0, "coloured ink stands on light paper, grey ink is bright on black"


def test_same_digit_at_every_size():
    large = handwriting.sample(20, size=56, seed=5).images.float()
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (halved - handwriting.sample(20, size=28, seed=5).images).abs().mean() < 4


def test_a_seed_gives_the_same_bytes_on_every_machine():
    # paths are rounded to 1/64 pixel and distances are integers: AVX-512, AVX2 and plain kernels gave this digest
    images, labels, factors = handwriting.sample(300, glyphs="0123456789AKW", seed=11)
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()
    assert digest == "c6fb79e4f5c9d82cceff90e02b41e5982ac98a61cc330941fba076b4ef503344"


def test_global_random_state_and_threads_are_left_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        one = handwriting.sample(5, seed=1).images
        assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    torch.rand(3)
    assert torch.equal(one, handwriting.sample(5, seed=1).images)
    assert not torch.equal(one, handwriting.sample(5, seed=2).images)


def test_render_from_true_factors_repeats_itself():
    _, labels, factors = handwriting.sample(10, seed=4)
    assert torch.equal(handwriting.render(labels, factors), handwriting.render(labels, factors))
    neat = factors.clone()
    neat[:, 4] = 1.0
    other_hand = torch.Generator().manual_seed(9)
    assert torch.equal(handwriting.render(labels, neat), handwriting.render(labels, neat, generator=other_hand))
    messy = torch.Generator().manual_seed(9)
    assert not torch.equal(handwriting.render(labels, factors), handwriting.render(labels, factors, generator=messy))


def test_slant_leans_to_the_right():
    def lean(image):  # covariance of x and height (upwards), of the ink
        weight = image / image.sum()
        y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
        x, y = x - (weight * x).sum(), y - (weight * y).sum()
        return float(-(weight * x * y).sum() / (weight * y * y).sum())

    for degrees in (-20.0, 0.0, 30.0):
        expected = torch.tan(torch.deg2rad(torch.tensor(degrees)))
        assert abs(lean(draw(1, slant=degrees)) - expected) < 0.03


def test_pressure_is_the_stroke_thickness():
    row = [float(draw(1, pressure=pressure)[14].sum() / 255) for pressure in (0.2, 0.5, 0.8)]  # a vertical bar
    expected = [2 * (0.55 + 1.65 * pressure) for pressure in (0.2, 0.5, 0.8)]  # plus what fades over a pixel
    assert row == pytest.approx(expected, abs=0.1)


def test_width_changes_the_proportions():
    def aspect(image):
        ink = image > 60
        return float(ink.any(0).sum() / ink.any(1).sum())

    ratio = aspect(draw(0, width=1.2, pressure=0.1)) / aspect(draw(0, width=0.8, pressure=0.1))
    assert ratio == pytest.approx(1.5, abs=0.2)


def test_speed_rounds_corners_and_neatness_steadies():
    assert (draw(7, speed=1.0, variant=1.0) - draw(7, variant=1.0)).abs().mean() > 1.5
    assert torch.equal(draw(1, speed=1.0), draw(1, speed=0.0)), "a straight line has nothing to round"
    neat = [float((draw(3, neatness=neatness) - draw(3)).abs().mean()) for neatness in (0.0, 0.5, 0.9, 1.0)]
    assert neat[0] > neat[1] > neat[2] > neat[3] == 0


def test_every_variant_is_a_different_drawing():
    for label, glyph in enumerate(glyphs.DIGITS):
        n = handwriting.n_variants(glyph)
        assert n >= 3
        rows = torch.tensor([PLAIN]).repeat(n, 1)
        rows[:, 5] = torch.arange(n)
        drawn = handwriting.render(torch.full((n,), label), rows).double()
        distance = torch.cdist(drawn.flatten(1), drawn.flatten(1)) + 1e9 * torch.eye(n)
        assert distance.min() > 250, f"two variants of {glyph} look alike"


def test_centred_by_mass_in_a_box_of_twenty_pixels():
    images = handwriting.sample(200, seed=6).images[:, 0].double()
    weight = images / images.sum((1, 2), keepdim=True)
    places = torch.arange(28.0, dtype=torch.float64) + 0.5
    centre = torch.stack([(weight.sum(1) * places).sum(1), (weight.sum(2) * places).sum(1)])
    assert (centre - 14).abs().max() < 2.5 and (centre - 14).abs().mean() < 0.5
    ink = images > 60
    longest = torch.maximum(ink.any(1).sum(1), ink.any(2).sum(1))
    assert longest.min() >= 19 and longest.max() <= 22


def test_letters_and_words():
    assert len(handwriting.LETTERS) >= 10 and not set(handwriting.LETTERS) & set("0123456789BDGIJLOQSUYZ")
    assert handwriting.sample(12, glyphs=handwriting.LETTERS).images.shape == (12, 1, 28, 28)
    images, labels, factors = handwriting.sample_words(4, "hello", rgb=True)
    assert images.shape == (4, 3, 28, 84) and factors.shape == (4, 6) and not labels.any()
    assert torch.equal(images, handwriting.sample_words(4, "hello", rgb=True).images)
    ink = handwriting.sample_words(30, seed=1).images[:, 0].amax(1) > 60  # (N, 84)
    assert (ink.sum(1) > 24).all() and not ink[:, :2].any() and not ink[:, -2:].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: handwriting.sample(0), "n must be at least 1"),
        (lambda: handwriting.sample(3, glyphs="0?"), "'0\\?'"),
        (lambda: handwriting.sample(3, glyphs=""), "glyphs must be"),
        (lambda: handwriting.sample(3, glyphs="00"), "different"),
        (lambda: handwriting.sample(3, size=7), "8 to 64"),
        (lambda: handwriting.sample_words(3, "hey"), "'hey'"),
        (lambda: handwriting.render([1], torch.zeros(1, 5)), "\\(1, 6\\)"),
        (lambda: handwriting.render([10], torch.tensor([PLAIN])), "0 to 9"),
        (lambda: handwriting.render([1.0], torch.tensor([PLAIN])), "integers"),
        (lambda: draw(1, slant=80.0), "slant"),
        (lambda: draw(1, pressure=float("nan")), "pressure"),
        (lambda: draw(1, variant=99.0), "variants 0 to"),
        (lambda: draw(1, variant=0.5), "variants 0 to"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
