r"""Handwriting whose causes are known: p(x, z) that we wrote ourselves, so a model of it can be marked.

An image is drawn from a label and six factors (:data:`FACTOR_NAMES`), plus a hand that is not perfectly steady:

=========  ==============  ==================================================================================
slant      degrees         0 upright, positive leans right as most people do
width      ratio           1 as in the model alphabet, below 1 narrow, above 1 broad
pressure   0 to 1          stroke thickness, from a hard pencil to a felt pen
speed      0 to 1          a fast pen rounds corners, shrinks hooks and loops
neatness   0 to 1          1 repeats the skeleton exactly; 0 wobbles, tilts and misses
variant    0, 1, ...       which of the ways to write this glyph (a four may be open or closed)
=========  ==============  ==================================================================================

How: a pen path passes through the points of :mod:`course_utils.data.glyphs`; smooth random fields bend it; each pixel
takes its ink from its distance to the path.  Distances are computed on integers, and everything before them in float64,
so a seed gives the same bytes on every machine.  Taught in chapters 01 and 04.
"""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.data import glyphs as alphabet
from course_utils.data import pen_paths

DIGITS = alphabet.DIGITS
LETTERS = alphabet.LETTERS
FACTOR_NAMES = ("slant", "width", "pressure", "speed", "neatness", "variant")
FACTOR_RANGES = {  # what sample() draws from; variant is drawn uniformly among those of the glyph
    "slant": (-30.0, 50.0),
    "width": (0.5, 1.7),
    "pressure": (0.0, 1.0),
    "speed": (0.0, 1.0),
    "neatness": (0.0, 1.0),
}

_UNIT = 64  # path coordinates are integers in 1/64 of a pixel: squared distances stay exact in int32 up to size 64


class Glyphs(NamedTuple):
    """``images`` uint8 (N,C,H,W), ``labels`` int64 (N,) index into the glyphs asked for, ``factors`` float32 (N,6)."""

    images: Tensor
    labels: Tensor
    factors: Tensor


def n_variants(glyph: str) -> int:
    """How many ways of writing ``glyph`` there are."""
    _check_glyphs(glyph)
    return len(alphabet.STROKES[glyph])


def sample(n: int, glyphs: str = DIGITS, size: int = 28, rgb: bool = False, seed: int = 0) -> Glyphs:
    """Draw ``n`` glyphs with random labels, factors and hands.  The global random state is not touched.

    ``glyphs`` are the characters to draw from, uniformly; ``size`` is 8 to 64 pixels; ``rgb`` gives coloured ink on
    light paper (3 channels) instead of white ink on black (1 channel, as MNIST is stored).
    """
    _check_count(n)
    _check_glyphs(glyphs)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(len(glyphs), (n,), generator=generator)
    factors = sample_factors(labels, glyphs, generator)
    images = render(labels, factors, glyphs=glyphs, size=size, rgb=rgb, generator=generator)
    return Glyphs(images, labels, factors)


def sample_factors(labels: Tensor, glyphs: str = DIGITS, generator: torch.Generator | None = None) -> Tensor:
    """p(z | label): random factors (N, 6) float32 for ``labels`` (N,)."""
    bell = torch.randn(len(labels), 4, generator=generator, dtype=torch.float64)
    slant = (9 + 15 * bell[:, 0]).clamp(*FACTOR_RANGES["slant"])
    width = torch.exp(0.22 * bell[:, 1]).clamp(*FACTOR_RANGES["width"])
    pressure = (0.48 + 0.24 * bell[:, 2]).clamp(0, 1)
    speed, neatness, which = torch.rand(3, len(labels), generator=generator, dtype=torch.float64)
    counts = torch.tensor([len(alphabet.STROKES[glyph]) for glyph in glyphs])
    variant = torch.floor(which * counts[labels])
    factors = torch.stack([slant, width, pressure, speed, neatness, variant], 1).float()
    return factors.to(torch.get_default_dtype())                     # the same numbers whatever the default


def render(
    labels: Tensor,
    factors: Tensor,
    *,
    glyphs: str = DIGITS,
    size: int = 28,
    rgb: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """p(x | label, z): uint8 images (N, 1 or 3, size, size) of ``labels`` (N,) int64 with ``factors`` (N, 6).

    ``generator`` (on the CPU) moves the hand; where it is None the hand is drawn from a fixed seed, so that equal
    arguments give equal images.  With neatness 1 the hand is perfectly steady.
    """
    _check_glyphs(glyphs)
    _check_size(size)
    labels, factors = _check_factors(labels, factors, glyphs)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    with _one_thread():
        pens = pen_paths.pens_of(glyphs, 4 * size)
        rows = pens.first[labels] + factors[:, 5].long()
        hand = torch.randn(len(labels), pen_paths.hand_size(pens) + 3, generator=generator, dtype=torch.float64)
        ink = torch.empty(len(labels), size, size, dtype=torch.uint8)
        for chunk in _chunks(len(labels), size**2):
            z = factors[chunk]
            bend, tilt, swell = hand[chunk].split([hand.shape[1] - 3, 1, 2], dim=1)
            path = _slanted(pen_paths.bent_path(pens, rows[chunk], z, bend), z, tilt[:, 0])
            radius = _thickness(z, swell, path.shape[1], size)
            # as MNIST: the glyph fills a box of 20 of the 28 pixels, its centre of mass lies in the middle
            path = _placed(path, (20 / 28 * size, 20 / 28 * size), radius.mean(1))
            path = path - path.mean(1, keepdim=True) + size / 2
            ink[chunk] = _ink(path, radius, size, size)
    return _colour(ink, generator) if rgb else ink[:, None]


def sample_words(n: int, text: str = "hello", size: int = 28, rgb: bool = False, seed: int = 0) -> Glyphs:
    """``n`` times the word ``text`` by different hands: images (n, C, size, 3 * size), labels all 0, factors (n, 6).

    The variant of a word is 0 for printed and 1 for joined letters.
    """
    _check_count(n)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(n, dtype=torch.int64)
    factors = sample_factors(labels, "h", generator)
    return Glyphs(render_words(factors, text=text, size=size, rgb=rgb, generator=generator), labels, factors)


def render_words(
    factors: Tensor,
    *,
    text: str = "hello",
    size: int = 28,
    rgb: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The word ``text`` with ``factors`` (N, 6), uint8 images (N, 1 or 3, size, 3 * size); arguments as :func:`render`.

    All letters share slant, width, pressure, speed and neatness; a messy hand leaves the baseline.
    """
    _check_glyphs("".join(dict.fromkeys(text)))
    _check_size(size)
    _, factors = _check_factors(torch.zeros(len(factors), dtype=torch.int64), factors, "h")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    with _one_thread():
        letters = [pen_paths.pens_of(letter, 2 * size) for letter in text]
        hands = [torch.randn(len(factors), pen_paths.hand_size(pens) + 1, generator=generator, dtype=torch.float64)
                 for pens in letters]  # fmt: skip
        common = torch.randn(len(factors), 3, generator=generator, dtype=torch.float64)
        ink = torch.empty(len(factors), size, 3 * size, dtype=torch.uint8)
        for chunk in _chunks(len(factors), 3 * size**2):
            z, end, paths = factors[chunk], torch.zeros(1, dtype=torch.float64), []
            for letter, pens, hand in zip(text, letters, hands, strict=True):
                row = z[:, 5].long().clamp_max(n_variants(letter) - 1)
                path = pen_paths.bent_path(pens, row, z, hand[chunk, :-1])
                lift = 5.0 * (1 - z[:, 4]) * hand[chunk, -1]  # off the baseline
                move = torch.stack([end + 14 * (1 - row) - path[..., 0].amin(1), lift], 1)
                path = path + move[:, None]
                end = path[..., 0].amax(1)
                paths.append(path)
            path = _slanted(torch.cat(paths, 1), z, 0.4 * common[chunk, 0])
            radius = _thickness(z, common[chunk, 1:], path.shape[1], size) * 0.65
            path = _placed(path, (76 / 28 * size, 22 / 28 * size), radius.mean(1))
            middle = (path.amax(1, keepdim=True) + path.amin(1, keepdim=True)) / 2
            path = path - middle + torch.tensor([1.5 * size, 0.5 * size], dtype=torch.float64)
            ink[chunk] = _ink(path, radius, size, 3 * size)
    return _colour(ink, generator) if rgb else ink[:, None]


def _chunks(n: int, n_pixels: int) -> list[slice]:
    few = max(1, 40_000 // n_pixels)  # what is worked on stays in the processor's cache
    return [slice(start, start + few) for start in range(0, n, few)]


# --- from a path to ink --------------------------------------------------------------------------------------------


def _slanted(path: Tensor, factors: Tensor, tilt: Tensor) -> Tensor:
    """``path`` (B, P, 2) sheared by the slant, then turned by a messy hand; ``tilt`` (B,) standard normal."""
    slant, neatness = factors[:, 0], factors[:, 4]
    x, y = path.unbind(2)
    x = x - torch.tan(torch.deg2rad(slant))[:, None] * y
    turn = (math.radians(7) * (1 - neatness) * tilt)[:, None]
    return torch.stack([torch.cos(turn) * x - torch.sin(turn) * y, torch.sin(turn) * x + torch.cos(turn) * y], 2)


def _thickness(factors: Tensor, swell: Tensor, n_path: int, size: int) -> Tensor:
    """Radius of the ink (B, P) in pixels; a messy hand presses unevenly.  ``swell`` (B, 2) standard normal."""
    pressure, neatness = factors[:, 2:3], factors[:, 4:5]
    along = torch.linspace(0, 1, n_path, dtype=torch.float64)
    swing = torch.sin(2 * math.pi * (along * (0.5 + swell[:, :1].abs()) + swell[:, 1:]))
    return (0.55 + 1.65 * pressure) * size / 28 * (1 + 0.22 * (1 - neatness) * swing)


def _placed(path: Tensor, box: tuple[float, float], margin: Tensor) -> Tensor:
    """``path`` scaled so that it fills ``box`` (width, height) with ``margin`` (B,) on each side, shape kept."""
    span = path.amax(1) - path.amin(1)  # (B, 2)
    room = torch.tensor(box, dtype=torch.float64) - 2 * margin[:, None]
    return path * (room / span.clamp_min(1e-6)).amin(1)[:, None, None]


def _ink(path: Tensor, radius: Tensor, height: int, width: int) -> Tensor:
    """Ink 0..255 (B, height, width) uint8: full inside the stroke, fading over one pixel at its edge.

    ``path`` (B, P, 2) and ``radius`` (B, P) in pixels.  A path point of radius r covers a pixel at distance d as far as
    r - d; with one thickness R per image the same edge is R - sqrt(d^2 + R^2 - r^2), so one minimum over the path
    serves all thicknesses.
    """
    path = torch.round(path * _UNIT).to(torch.int32)
    thickest = radius.amax(1, keepdim=True)
    handicap = torch.round((thickest**2 - radius**2) * _UNIT**2).to(torch.int32)  # (B, P)
    across, down = path.permute(2, 1, 0).contiguous()  # (P, B) each
    dx = ((_centres(width) - across[..., None]) ** 2)[:, :, None, :]  # (P, B, 1, W)
    dy = ((_centres(height) - down[..., None]) ** 2 + handicap.T[..., None])[..., None]  # (P, B, H, 1)
    nearest = dx[0] + dy[0]  # (B, H, W)
    candidate = torch.empty_like(nearest)
    for p in range(1, len(dx)):
        torch.minimum(nearest, torch.add(dx[p], dy[p], out=candidate), out=nearest)
    distance = torch.sqrt(nearest.double()) / _UNIT
    return torch.round(255 * (thickest[:, :, None] - distance + 0.5).clamp(0, 1)).to(torch.uint8)


def _centres(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.int32) * _UNIT + _UNIT // 2


def _colour(ink: Tensor, generator: torch.Generator) -> Tensor:
    """Coloured ink on light paper: (B, 3, H, W) uint8."""
    n = len(ink)
    paper = 225 + torch.randint(31, (n, 3, 1, 1), generator=generator)
    pen = torch.randint(160, (n, 3, 1, 1), generator=generator)
    return ((paper * (255 - ink[:, None].long()) + pen * ink[:, None].long()) // 255).to(torch.uint8)


@contextlib.contextmanager
def _one_thread():
    """Thousands of small operations: threads would mostly wait for each other, on a busy machine for seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# --- what callers may get wrong -------------------------------------------------------------------------------------


def _check_glyphs(glyphs: str) -> None:
    unknown = sorted(set(glyphs) - set(alphabet.STROKES))
    if not glyphs or unknown or len(set(glyphs)) != len(glyphs):
        known = "".join(alphabet.STROKES)
        raise ValueError(f"glyphs must be different characters out of {known!r}, got {glyphs!r}")


def _check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}: ask for a positive number of images")


def _check_size(size: int) -> None:
    if not 8 <= size <= 64:
        raise ValueError(f"size must be 8 to 64 pixels, got {size}")


def _check_factors(labels: Tensor, factors: Tensor, glyphs: str) -> tuple[Tensor, Tensor]:
    labels = torch.as_tensor(labels)
    factors = torch.as_tensor(factors).detach().cpu().double()
    if labels.ndim != 1 or labels.is_floating_point() or len(labels) == 0:
        raise ValueError(f"labels must be integers of shape (N,) with N >= 1, got {labels.dtype} {tuple(labels.shape)}")
    labels = labels.cpu().long()
    if factors.shape != (len(labels), len(FACTOR_NAMES)):
        raise ValueError(f"factors must have shape ({len(labels)}, {len(FACTOR_NAMES)}), one column for each of "
                         f"{', '.join(FACTOR_NAMES)}, got {tuple(factors.shape)}")  # fmt: skip
    if labels.min() < 0 or labels.max() >= len(glyphs):
        raise ValueError(f"labels must index glyphs {glyphs!r}, 0 to {len(glyphs) - 1}, got {int(labels.min())} to "
                         f"{int(labels.max())}")  # fmt: skip
    limits = {"slant": (-60, 60), "width": (0.2, 3), "pressure": (0, 1), "speed": (0, 1), "neatness": (0, 1)}
    for column, (name, (low, high)) in enumerate(limits.items()):
        values = factors[:, column]
        if not bool(((values >= low) & (values <= high)).all()):
            raise ValueError(f"{name} must lie in [{low}, {high}], got {values.min():g} to {values.max():g}")
    counts = torch.tensor([len(alphabet.STROKES[glyph]) for glyph in glyphs])[labels]
    variant = factors[:, 5]
    wrong = (variant < 0) | (variant >= counts) | (variant != variant.floor())
    if bool(wrong.any()):
        i = int(wrong.nonzero()[0])
        raise ValueError(f"glyph {glyphs[int(labels[i])]!r} has variants 0 to {int(counts[i]) - 1}, got {variant[i]:g}")
    return labels, factors
