"""From the alphabet to the path of a pen: smooth curves through the points of a glyph, bent by a hand.

Everything here is float64 and in units of :mod:`course_utils.data.glyphs`. What turns a path into ink is in
:mod:`course_utils.data.handwriting`.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.data import glyphs as alphabet

_SPEEDS = 5  # smoothing is tabulated at this many speeds and interpolated between them


class Pens(NamedTuple):
    """V ways to write some glyphs: K control points each, and the weights that make P path points of them."""

    points: Tensor  # (V, K, 2)     control points of each variant, padded with zeros
    basis: Tensor  # (S, V, P, K)   path = basis @ points, at each of S speeds
    stroke: Tensor  # (V, P)        which stroke a path point belongs to
    first: Tensor  # (G,)           row of a glyph's variant 0


@functools.lru_cache(maxsize=16)
def pens_of(glyphs: str, n_path: int) -> Pens:
    """Every variant of each of ``glyphs``, in order, as a path of ``n_path`` points. Computed once, then remembered."""
    variants = [alphabet.parse(text) for glyph in glyphs for text in alphabet.STROKES[glyph]]
    n_points = max(sum(len(points) for points, _ in strokes) for strokes in variants)
    control = torch.zeros(len(variants), n_points, 2, dtype=torch.float64)
    basis = torch.zeros(_SPEEDS, len(variants), n_path, n_points, dtype=torch.float64)
    stroke = torch.zeros(len(variants), n_path, dtype=torch.int64)
    for v, strokes in enumerate(variants):
        xy = torch.tensor([point for points, _ in strokes for point in points], dtype=torch.float64)
        control[v, : len(xy)] = xy
        dense, start = [], 0
        for points, corners in strokes:
            weights = torch.zeros(0, len(xy), dtype=torch.float64)
            for first, last in _smooth_pieces(corners):
                piece = _catmull_rom(last - first + 1)
                rows = torch.zeros(len(piece), len(xy), dtype=torch.float64)
                rows[:, start + first : start + last + 1] = piece
                weights = torch.cat([weights, rows])
            dense.append(weights)
            start += len(points)
        lengths = torch.tensor([float((w @ xy).diff(dim=0).norm(dim=1).sum()) for w in dense])
        share = _split(n_path, lengths)
        row = 0
        for s, (weights, count) in enumerate(zip(dense, share, strict=True)):
            even = _even_steps(weights, xy, count)
            spacing = float(lengths[s]) / max(count - 1, 1)
            for level in range(_SPEEDS):
                blur = _blur(count, sigma=11.0 * level / (_SPEEDS - 1) / spacing)
                basis[level, v, row : row + count, : len(xy)] = blur @ even
            stroke[v, row : row + count] = s
            row += count
    counts = torch.tensor([0] + [len(alphabet.STROKES[glyph]) for glyph in glyphs])
    return Pens(control, basis, stroke, counts.cumsum(0)[:-1])


def _smooth_pieces(corners: list[bool]) -> list[tuple[int, int]]:
    stops = [0] + [i for i in range(1, len(corners) - 1) if corners[i]] + [len(corners) - 1]
    return list(zip(stops[:-1], stops[1:], strict=True))


def _catmull_rom(n_points: int, per_segment: int = 40) -> Tensor:
    """Weights (M, n_points) of a Catmull-Rom spline through its points, ends mirrored so that they stay put."""
    padded = torch.zeros(n_points + 2, n_points, dtype=torch.float64)
    padded[1:-1] = torch.eye(n_points, dtype=torch.float64)
    padded[0, 0], padded[0, 1] = 2.0, -1.0
    padded[-1, -1], padded[-1, -2] = 2.0, -1.0
    t = torch.linspace(0, 1, per_segment, dtype=torch.float64)[:, None]
    a = (-t + 2 * t**2 - t**3) / 2
    b = (2 - 5 * t**2 + 3 * t**3) / 2
    c = (t + 4 * t**2 - 3 * t**3) / 2
    d = (-(t**2) + t**3) / 2
    return torch.cat([a * padded[i] + b * padded[i + 1] + c * padded[i + 2] + d * padded[i + 3]
                      for i in range(n_points - 1)])  # fmt: skip


def _split(total: int, lengths: Tensor) -> list[int]:
    """Share ``total`` path points among strokes by length, at least two each."""
    share = [max(2, int(total * float(length) / float(lengths.sum()))) for length in lengths]
    share[int(lengths.argmax())] += total - sum(share)
    return share


def _even_steps(weights: Tensor, xy: Tensor, count: int) -> Tensor:
    """Rows of ``weights`` interpolated so that the path advances by equal lengths."""
    steps = (weights @ xy).diff(dim=0).norm(dim=1)
    along = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
    target = torch.linspace(0, float(along[-1]), count, dtype=torch.float64)
    right = torch.searchsorted(along, target).clamp(1, len(along) - 1)
    gap = (along[right] - along[right - 1]).clamp_min(1e-12)
    t = ((target - along[right - 1]) / gap)[:, None]
    return (1 - t) * weights[right - 1] + t * weights[right]


def _blur(count: int, sigma: float) -> Tensor:
    """Gaussian average along a stroke, (count, count).  Odd mirroring at the ends keeps the end points in place."""
    if sigma == 0:
        return torch.eye(count, dtype=torch.float64)
    reach = min(math.ceil(3 * sigma), count - 1)
    here = torch.arange(count)[:, None]
    there = torch.arange(-reach, count + reach)
    kernel = torch.exp(-0.5 * ((there - here) / sigma).double() ** 2) * ((there - here).abs() <= reach)
    kernel = kernel / kernel.sum(1, keepdim=True)
    before, inside, after = kernel.split([reach, count, reach], dim=1)
    matrix = inside.clone()  # a point mirrored beyond the start at a is 2 * first - point(a), likewise at the end
    matrix[:, 1 : reach + 1] -= before.flip(1)
    matrix[:, 0] += 2 * before.sum(1)
    matrix[:, count - 1 - reach : count - 1] -= after.flip(1)
    matrix[:, -1] += 2 * after.sum(1)
    return matrix


def hand_size(pens: Pens) -> int:
    """How many normal numbers bend one path."""
    return 2 * pens.points.shape[1] + 2 * (int(pens.stroke.max()) + 1) + 10


def bent_path(pens: Pens, rows: Tensor, factors: Tensor, hand: Tensor) -> Tensor:
    """The pen's way through the glyph (B, P, 2) in units of the alphabet, y measured from the middle of a capital.

    ``hand`` (B, hand_size) standard normal: what the factors do not fix.
    """
    _, width, _, speed, neatness, _ = factors.unbind(1)
    n_points, n_strokes = pens.points.shape[1], int(pens.stroke.max()) + 1
    miss, gap, waves, phase, amount = hand.split([2 * n_points, 2 * n_strokes, 4, 2, 4], dim=1)

    mess = (1 - neatness)[:, None, None]
    points = pens.points[rows] + 4.5 * mess * miss.unflatten(1, (n_points, 2))
    level = (speed * (_SPEEDS - 1)).clamp(0, _SPEEDS - 1 - 1e-9)
    low, part = level.floor().long(), (level - level.floor())[:, None, None]
    path = (1 - part) * (pens.basis[low, rows] @ points) + part * (pens.basis[low + 1, rows] @ points)  # (B, P, 2)

    shift = 3.0 * mess * gap.unflatten(1, (n_strokes, 2))  # strokes that do not quite meet
    path = path + shift.gather(1, pens.stroke[rows][..., None].expand(-1, -1, 2))
    path = path - torch.tensor([40.0, 50.0], dtype=torch.float64)

    # a smooth random field bends the plane: two slow waves in random directions
    angle = 0.035 * path @ waves.unflatten(1, (2, 2)) + 2 * math.pi * phase[:, None]  # (B, P, 2)
    path = path + 6.0 * mess * (torch.sin(angle) @ amount.unflatten(1, (2, 2)))
    return path * torch.stack([width, torch.ones_like(width)], 1)[:, None]
