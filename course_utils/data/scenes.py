r"""Scenes of spheres and boxes whose pictures are known exactly: what chapter 08 learns to see.

A scene lies in the cube [-1, 1]³, its third axis points up, and the world behind it is white. A ray is ``(..., 6)``:
its origin and its direction, of length 1. Where a ray first hits something is a root of a quadratic (spheres) or a
largest entry over three slabs (boxes), so pictures and depths have no error. Nothing is drawn at random.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from course_utils import expect

FAR_AWAY = math.inf
STEP_BACK = 1e-4  # how far a shadow ray starts above the surface, in units of the scene


class Hit(NamedTuple):
    """Where rays first meet something: the distance ``(N,)``, infinite where they meet nothing; the outward normal and
    the colour there ``(N, 3)``; and how much that thing shines ``(N,)``."""

    depth: torch.Tensor
    normal: torch.Tensor
    colour: torch.Tensor
    shine: torch.Tensor


@dataclass(frozen=True)
class Scene:
    """Spheres (centre and radius) and boxes (low and high corner), each with a colour and a shine from 0 to 1.

    ``spheres``: rows of x, y, z, radius, red, green, blue, shine, ``(S, 8)``. ``boxes``: rows of low x, y, z, high
    x, y, z, red, green, blue, shine, ``(K, 10)``. ``light``: the direction towards the lamp ``(3,)``.
    """

    spheres: torch.Tensor
    boxes: torch.Tensor
    light: torch.Tensor

    def __post_init__(self):
        expect.floats(self.spheres, "spheres", "S", 8)
        expect.floats(self.boxes, "boxes", "K", 10, like=self.spheres)
        expect.floats(self.light, "light", 3, like=self.spheres)

    def hit(self, rays):
        """The first :class:`Hit` of each ray ``(N, 6)``."""
        expect.floats(rays, "rays", "N", 6, like=self.spheres)
        origin, direction = rays[:, None, :3], rays[:, None, 3:]
        ball = _enter_spheres(origin, direction, self.spheres[:, :3], self.spheres[:, 3])
        slab, side = _enter_boxes(origin, direction, self.boxes[:, :3], self.boxes[:, 3:6])
        depth, which = torch.cat([ball, slab], 1).min(1)                                   # (N,)
        point = rays[:, :3] + depth.nan_to_num(posinf=0.0)[:, None] * rays[:, 3:]
        sphere = which.clamp(max=len(self.spheres) - 1)
        box = (which - len(self.spheres)).clamp(min=0)
        round_ = (point - self.spheres[sphere, :3]) / self.spheres[sphere, 3:4]
        flat = side.gather(1, box[:, None, None].expand(-1, 1, 3))[:, 0]
        is_ball = (which < len(self.spheres))[:, None]
        colour = torch.where(is_ball, self.spheres[sphere, 4:7], self.boxes[box, 6:9])
        shine = torch.where(is_ball[:, 0], self.spheres[sphere, 7], self.boxes[box, 9])
        return Hit(depth, torch.where(is_ball, round_, flat), colour, shine)

    def render(self, rays):
        """What each ray ``(N, 6)`` sees: colours ``(N, 3)`` in [0, 1], and the distance to it ``(N,)``.

        Matte light falls off with the cosine to the lamp, there are hard shadows, and what shines has a highlight that
        moves with the viewer: the only part of a colour that depends on the direction of the ray.
        """
        seen = self.hit(rays)
        found = seen.depth.isfinite()
        point = rays[:, :3] + seen.depth.nan_to_num(posinf=0.0)[:, None] * rays[:, 3:]
        lamp = (self.light / self.light.norm()).expand_as(point)
        lit = (seen.normal * lamp).sum(1).clamp(min=0)
        shadow = torch.cat([point + STEP_BACK * seen.normal, lamp], 1)
        lit = lit * self.hit(shadow).depth.isinf()
        mirrored = 2 * (seen.normal * lamp).sum(1, keepdim=True) * seen.normal - lamp
        gloss = seen.shine * (-(mirrored * rays[:, 3:]).sum(1)).clamp(min=0) ** 8 * (lit > 0)
        colour = seen.colour * (0.45 + 0.55 * lit)[:, None] + gloss[:, None]
        return torch.where(found[:, None], colour.clamp(0, 1), torch.ones_like(colour)), seen.depth

    def scaled(self, factor, about):
        """The scene made ``factor`` times larger about the point ``about`` ``(3,)``; the lamp stays where it is."""
        expect.number(factor, "factor", above=0)
        expect.floats(about, "about", 3, like=self.spheres)
        spheres, boxes = self.spheres.clone(), self.boxes.clone()
        spheres[:, :3], spheres[:, 3] = about + factor * (spheres[:, :3] - about), factor * spheres[:, 3]
        for corner in (slice(0, 3), slice(3, 6)):
            boxes[:, corner] = about + factor * (boxes[:, corner] - about)
        return Scene(spheres, boxes, self.light)


def _enter_spheres(origin, direction, centre, radius):
    """Distance at which rays enter spheres, ``(N, S)``; infinite where they miss, or start inside."""
    to_centre = origin - centre
    half = (to_centre * direction).sum(-1)
    inside_root = half.square() - to_centre.square().sum(-1) + radius.square()
    distance = -half - inside_root.clamp(min=0).sqrt()
    return torch.where((inside_root > 0) & (distance > 0), distance, FAR_AWAY)


def _enter_boxes(origin, direction, low, high):
    """Distance at which rays enter boxes ``(N, K)``, and the outward normal of that side ``(N, K, 3)``."""
    slope = torch.where(direction.abs() < 1e-9, torch.full_like(direction, 1e-9), direction)
    first, second = (low - origin) / slope, (high - origin) / slope
    enter, axis = torch.minimum(first, second).max(-1)
    leave = torch.maximum(first, second).min(-1).values
    normal = torch.nn.functional.one_hot(axis, 3).to(origin) * -slope.sign()
    return torch.where((enter < leave) & (enter > 0), enter, FAR_AWAY), normal


def still_life(dtype=None):
    """Three balls and two blocks on a slab: the scene of chapter 08."""
    spheres = [(-0.40, -0.30, 0.05, 0.35, 0.84, 0.25, 0.10, 0.5),
               (0.42, 0.32, 0.15, 0.45, 0.10, 0.40, 0.75, 0.5),
               (0.32, -0.50, -0.08, 0.22, 0.95, 0.80, 0.20, 0.0)]
    boxes = [(-0.82, -0.82, -0.48, 0.82, 0.82, -0.30, 0.75, 0.72, 0.68, 0.0),
             (-0.62, 0.12, -0.30, -0.18, 0.56, 0.50, 0.10, 0.60, 0.45, 0.0)]
    return Scene(torch.tensor(spheres, dtype=dtype), torch.tensor(boxes, dtype=dtype),
                 torch.tensor((0.5, -0.6, 1.2), dtype=dtype))


def camera(azimuth, elevation, size, *, distance=3.0, view=42.0, offset=(0.5, 0.5), dtype=None):
    """Rays of a camera on a sphere around the origin that looks at its middle: ``(size², 6)``, rows from the top.

    ``azimuth, elevation``: where it stands, in degrees. ``distance``: from the middle. ``view``: the angle between
    opposite edges of the picture, in degrees. ``offset``: where in each pixel its ray passes, 0 to 1 from the upper
    left corner; the middle by default. ``dtype``: torch's default one, if none is said.
    """
    dtype = dtype or torch.get_default_dtype()
    expect.number(azimuth, "azimuth")
    expect.number(elevation, "elevation", above=-90, below=90)
    expect.count(size, "size")
    expect.number(distance, "distance", above=0)
    expect.number(view, "view", above=0, below=180)
    a, e = math.radians(azimuth), math.radians(elevation)
    backward = torch.tensor([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)], dtype=dtype)
    right = torch.tensor([-math.sin(a), math.cos(a), 0.0], dtype=dtype)
    up = torch.linalg.cross(backward, right)
    half = math.tan(math.radians(view) / 2)
    across, down = ((torch.arange(size, dtype=dtype) + o) * 2 / size - 1 for o in offset)
    plane = (half * across)[None, :, None] * right - (half * down)[:, None, None] * up - backward
    direction = torch.nn.functional.normalize(plane.reshape(-1, 3), dim=1)
    return torch.cat([(distance * backward).expand_as(direction), direction], 1)


class Views(NamedTuple):
    """Pictures of one scene: rays ``(V, size², 6)``, colours ``(V, size², 3)``, depths ``(V, size²)``, and the azimuth
    and elevation of each camera ``(V, 2)``."""

    rays: torch.Tensor
    colours: torch.Tensor
    depth: torch.Tensor
    angles: torch.Tensor

    def images(self):
        """The pictures as ``(V, 3, size, size)``."""
        return as_images(self.colours)


def as_images(colours):
    """Colours of the rays of square pictures, ``(V, size², 3)``, as images ``(V, 3, size, size)``."""
    expect.floats(colours, "colours", "V", "N", 3)
    size = math.isqrt(colours.shape[1])
    if size**2 != colours.shape[1]:
        raise ValueError(f"expected colours of square pictures, (V, size², 3), got {tuple(colours.shape)}")
    return colours.transpose(1, 2).reshape(len(colours), 3, size, size)


def picture(scene, azimuth, elevation, size, fine=3, **where):
    """What a camera sees: the colour of each pixel ``(size², 3)``, the mean over ``fine`` × ``fine`` rays through it.

    ``fine=1`` is one ray through the middle of each pixel. ``where``: ``distance`` and ``view`` of :func:`camera`.
    """
    steps = [(k + 0.5) / expect.count(fine, "fine") for k in range(fine)]
    rays = [camera(azimuth, elevation, size, offset=(across, down), dtype=scene.light.dtype, **where)
            for across in steps for down in steps]
    return torch.stack([scene.render(one)[0] for one in rays]).mean(0)


def views(scene, n, size, *, start=0, low=15.0, high=60.0, fine=3):
    """``n`` pictures from all around: cameras number ``start`` … ``start + n - 1`` of an endless list.

    Each stands 137.5° further round than the one before it, so that any run of them is spread well; heights between
    ``low`` and ``high`` degrees follow van der Corput's sequence. Pictures for training and for testing are taken from
    different parts of the list. A colour is the mean over ``fine`` × ``fine`` rays through its pixel; rays and depths
    are those of its middle.
    """
    expect.count(n, "n")
    expect.count(start, "start", least=0)
    angles = torch.tensor([(k * 137.508 % 360, low + (high - low) * _van_der_corput(k)) for k in
                           range(start, start + n)])
    rays = torch.stack([camera(a, e, size, dtype=scene.light.dtype) for a, e in angles.tolist()])
    colours = torch.stack([picture(scene, a, e, size, fine) for a, e in angles.tolist()])
    return Views(rays, colours, torch.stack([scene.hit(one).depth for one in rays]), angles)


def _van_der_corput(k):
    """The binary digits of k, mirrored at the point: 0, 1/2, 1/4, 3/4, 1/8, …"""
    value, weight = 0.0, 0.5
    while k:
        k, digit = divmod(k, 2)
        value, weight = value + weight * digit, weight / 2
    return value
