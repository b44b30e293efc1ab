"""A small U-Net: an image in, an image of the same size out, and wires across for what need not be squeezed."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.nn.conditioning import Condition
from course_utils.nn.conv import Downsample, Upsample, square


class ConditionedBlock(nn.Module):
    """Two convolutions with a way around them; the condition scales and shifts what lies between, per channel."""

    def __init__(self, n_in, n_out, condition_width):
        super().__init__()
        self.norm_in, self.conv_in = nn.GroupNorm(math.gcd(8, n_in), n_in), nn.Conv2d(n_in, n_out, 3, padding=1)
        self.norm_out, self.conv_out = nn.GroupNorm(math.gcd(8, n_out), n_out), nn.Conv2d(n_out, n_out, 3, padding=1)
        self.listen = nn.Linear(condition_width, 2 * n_out)
        self.around = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x, condition):
        scale, shift = self.listen(F.silu(condition))[:, :, None, None].chunk(2, dim=1)  # (B, C, 1, 1)
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = self.conv_out(F.silu((1 + scale) * self.norm_out(h) + shift))
        return self.around(x) + h


class UNet(nn.Module):
    r"""``x (B, C, H, H), t (B,), y (B,) or None -> (B, C, H, H)``; H must be even.

    Each 2×2 square of pixels first becomes one place with four times the channels: a quarter of the places, and nothing
    is lost. Then one block a level on the way down and one on the way up, halving the side between them; the way up
    sees what the way down saw at its level. A learned map tells each place where it is. The output starts at zero.
    (Ronneberger, Fischer & Brox 2015, arXiv:1505.04597; with time, Ho, Jain & Abbeel 2020, arXiv:2006.11239.)
    Taught in chapter 07.
    """

    def __init__(self, shape, widths=(24, 48), n_classes=0, condition_width=96):
        super().__init__()
        channels, side, _ = square(shape)
        if side % 2:
            raise ValueError(f"expected an even side, got an image of {tuple(shape)}: pad it first")
        if not expect.counts(widths, "widths"):
            raise ValueError(f"expected widths of one level or more, got {widths!r}")
        sides = [side // 2]
        for _ in widths[1:]:
            sides.append((sides[-1] + 1) // 2)                                   # 14 -> 7 -> 4
        self.condition = Condition(condition_width, n_classes)
        self.enter = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.places = nn.Parameter(torch.zeros(widths[0], sides[0], sides[0]))
        self.down = nn.ModuleList(ConditionedBlock(w, w, condition_width) for w in widths[:-1])
        self.halve = nn.ModuleList(map(Downsample, widths[:-1], widths[1:]))
        self.middle = ConditionedBlock(widths[-1], widths[-1], condition_width)
        self.enlarge = nn.ModuleList(map(Upsample, widths[1:], widths[:-1], sides[:-1]))
        self.up = nn.ModuleList(ConditionedBlock(2 * w, w, condition_width) for w in widths[:-1])
        self.leave = nn.Sequential(nn.GroupNorm(math.gcd(8, widths[0]), widths[0]), nn.SiLU(),
                                   nn.Conv2d(widths[0], 4 * channels, 3, padding=1))
        nn.init.zeros_(self.leave[2].weight)
        nn.init.zeros_(self.leave[2].bias)

    def forward(self, x, t, y=None):
        condition, across = self.condition(t, y), []
        h = self.enter(F.pixel_unshuffle(x, 2)) + self.places
        for block, halve in zip(self.down, self.halve, strict=True):
            across.append(block(h, condition))
            h = halve(across[-1])
        h = self.middle(h, condition)
        for block, enlarge in zip(reversed(self.up), reversed(self.enlarge), strict=True):
            h = block(torch.cat([enlarge(h), across.pop()], dim=1), condition)
        return F.pixel_shuffle(self.leave(h), 2)


class ConvStack(nn.Module):
    """``x (B, C, H, W), t (B,), y -> (B, n_out, H, W)``: blocks at full size, for small images.

    A learned map tells each place where it is; the output starts at zero.  Taught in chapter 07.
    """

    def __init__(self, shape, n_out, width=32, n_blocks=4, n_classes=0, condition_width=64):
        super().__init__()
        self.condition = Condition(condition_width, n_classes)
        self.enter = nn.Conv2d(shape[0], width, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(width, *shape[1:]))
        self.blocks = nn.ModuleList(ConditionedBlock(width, width, condition_width) for _ in range(n_blocks))
        self.leave = nn.Sequential(nn.GroupNorm(math.gcd(8, width), width), nn.SiLU(), nn.Conv2d(width, n_out, 1))
        nn.init.zeros_(self.leave[2].weight)
        nn.init.zeros_(self.leave[2].bias)

    def forward(self, x, t, y=None):
        condition, h = self.condition(t, y), self.enter(x) + self.places
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(h)
