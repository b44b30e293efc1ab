r"""Densities whose answers are known: exact ``log_prob``, exact ``sample``, ``entropy()`` in nats.

Each function returns a :class:`torch.distributions.Distribution` without batch shape: event ``(2,)`` for the planar
ones, ``()`` for the scores on a line.  A model trained on their samples can be compared with the truth:
the best possible mean log-likelihood is ``-entropy()``.  Taught in chapters 01, 05, 06 and 07.

The entropy is a closed form for :func:`checkerboard`; elsewhere it is quadrature by the trapezoid rule, whose error is
far below 1e-6 because the integrands are smooth and vanish at the ends (:func:`rings` and :func:`pinwheel` say
which integral).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

from course_utils.distributions import GaussianMixture


def _isotropic(means: Tensor, stds: Tensor, weights: Tensor | None = None) -> GaussianMixture:
    """A mixture with one standard deviation a component, equal weights unless given. On the line or in the plane."""
    return GaussianMixture(torch.ones_like(stds) if weights is None else weights, means, stds**2)


class _Planar(Distribution):
    """A density on the plane that is no textbook family."""

    arg_constraints: dict = {}
    support = constraints.real_vector

    def __init__(self, device: torch.device | str | None):
        super().__init__(torch.Size(), torch.Size([2]), validate_args=False)
        self.device = torch.device(device or "cpu")

    def _check(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (2,):
            raise ValueError(f"a point of the plane has shape (..., 2), got {tuple(x.shape)}")
        return x


class Checkerboard(_Planar):
    """Uniform on every other one of 4 x 4 squares that tile [-4, 4] x [-4, 4]; p = 1/32 there and 0 elsewhere."""

    def sample(self, sample_shape=()) -> Tensor:
        shape = torch.Size(sample_shape)
        row = torch.randint(4, shape, device=self.device)
        column = 2 * torch.randint(2, shape, device=self.device) + row % 2
        corner = 2.0 * torch.stack([column, row], -1) - 4
        return corner + 2 * torch.rand(*shape, 2, device=self.device)

    def log_prob(self, x: Tensor) -> Tensor:
        column, row = torch.floor((self._check(x) + 4) / 2).unbind(-1)
        inside = (x.abs() <= 4).all(-1) & ((column + row) % 2 == 0)
        return torch.where(inside, -math.log(32.0), -math.inf).to(x.dtype)

    def entropy(self) -> Tensor:
        """log 32: the logarithm of the area."""
        return torch.tensor(math.log(32.0), device=self.device)


class Rings(_Planar):
    r"""Concentric circles with Gaussian radius: p(x) = sum_k w_k [N(r; R_k, s) + N(-r; R_k, s)] / (2 pi r), r = |x|."""

    def __init__(self, radii: tuple[float, ...], std: float, device=None):
        super().__init__(device)
        self.radii = torch.tensor(radii, device=self.device)
        self.radius = _isotropic(self.radii, torch.full_like(self.radii, std), self.radii)  # equal ink per length
        self.std = std

    def sample(self, sample_shape=()) -> Tensor:
        r = self.radius.sample(sample_shape).abs()
        angle = 2 * math.pi * torch.rand_like(r)
        return r[..., None] * torch.stack([angle.cos(), angle.sin()], -1)

    def log_prob(self, x: Tensor) -> Tensor:
        r = self._check(x).norm(dim=-1).clamp_min(1e-12)
        return torch.logaddexp(self.radius.log_prob(r), self.radius.log_prob(-r)) - torch.log(2 * math.pi * r)

    def entropy(self) -> Tensor:
        """-integral of g(r) log(g(r) / (2 pi r)) dr, where g is the density of the radius."""
        end = float(self.radii.max()) + 9 * self.std
        r = torch.linspace(1e-9, end, 20_001, dtype=torch.float64, device=self.device)
        on_axis = torch.stack([r, torch.zeros_like(r)], -1)
        log_p = self.log_prob(on_axis)
        return -torch.trapezoid(2 * math.pi * r * log_p.exp() * log_p, r).float()


class Pinwheel(_Planar):
    r"""Gaussian arms turned by an angle that grows with the radius.

    x = R(rate |u|) u with u from a mixture of ``arms`` Gaussians, each long radially and thin across.  Turning each
    circle by its own angle keeps areas, so log p(x) = log p_u(u), and the entropy is that of the straight arms.
    """

    def __init__(self, arms: int, radial_std: float, tangential_std: float, rate: float, device=None):
        super().__init__(device)
        turn = 2 * math.pi * torch.arange(arms, device=self.device) / arms
        self.axes = torch.stack([turn.cos(), turn.sin()], -1)  # (K, 2) direction of each arm
        self.scales = torch.tensor([radial_std, tangential_std], device=self.device)
        self.centre, self.rate = 2.0, rate

    def sample(self, sample_shape=()) -> Tensor:
        shape = torch.Size(sample_shape)
        arm = self.axes[torch.randint(len(self.axes), shape, device=self.device)]
        along, across = (torch.randn(*shape, 2, device=self.device) * self.scales).unbind(-1)
        normal = torch.stack([-arm[..., 1], arm[..., 0]], -1)
        return self._turn((self.centre + along)[..., None] * arm + across[..., None] * normal, self.rate)

    def log_prob(self, x: Tensor) -> Tensor:
        return self._straight_log_prob(self._turn(self._check(x), -self.rate))

    def entropy(self) -> Tensor:
        """That of the straight arms, by the trapezoid rule in the plane."""
        step = float(self.scales.min()) / 4
        end = self.centre + 9 * float(self.scales.max())
        axis = torch.arange(-end, end, step, dtype=torch.float64, device=self.device)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for rows in axis.split(64):
            log_p = self._straight_log_prob(torch.cartesian_prod(rows, axis))
            total = total - (log_p.exp() * log_p).sum() * step**2
        return total.float()

    def _straight_log_prob(self, u: Tensor) -> Tensor:
        axes, scales = self.axes.to(u.dtype), self.scales.to(u.dtype)
        along = u @ axes.T - self.centre
        across = u[..., 1:] * axes[:, 0] - u[..., :1] * axes[:, 1]
        parts = Normal(0.0, scales[0]).log_prob(along) + Normal(0.0, scales[1]).log_prob(across)  # (..., K)
        return parts.logsumexp(-1) - math.log(len(axes))

    @staticmethod
    def _turn(u: Tensor, rate: float) -> Tensor:
        angle = rate * u.norm(dim=-1)
        x, y = u.unbind(-1)
        return torch.stack([angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y], -1)


def eight_gaussians(radius: float = 3.0, std: float = 0.3, device=None) -> GaussianMixture:
    """Eight equal Gaussians on a circle."""
    angle = 2 * math.pi * torch.arange(8, device=device) / 8
    return _isotropic(radius * torch.stack([angle.cos(), angle.sin()], -1), torch.full((8,), std, device=device))


def twenty_five_gaussians(spacing: float = 1.5, std: float = 0.15, device=None) -> GaussianMixture:
    """Twenty-five equal Gaussians on a 5 x 5 grid, the usual test for dropped modes."""
    axis = spacing * torch.arange(-2, 3, device=device, dtype=torch.float32)
    return _isotropic(torch.cartesian_prod(axis, axis), torch.full((25,), std, device=device))


def spirals(arms: int = 2, turns: float = 1.25, std: float = 0.15, device=None) -> GaussianMixture:
    """Spiral arms, each a chain of 60 Gaussians laid along r = angle, at equal distances and scaled to |x| < 4."""
    if arms < 1:
        raise ValueError(f"arms must be at least 1, got {arms}")
    angle = 2 * math.pi * turns * torch.linspace(0.05, 1, 60, device=device).sqrt()
    radius = 3.5 * angle / angle[-1]
    turn = angle + 2 * math.pi * torch.arange(arms, device=device)[:, None] / arms  # (arms, 60)
    means = torch.stack([radius * turn.cos(), radius * turn.sin()], -1).reshape(-1, 2)
    return _isotropic(means, torch.full((len(means),), std, device=device))


def rings(radii: tuple[float, ...] = (1.0, 2.0, 3.0), std: float = 0.1, device=None) -> Rings:
    """Concentric rings; longer rings are drawn more often, so that ink per length is equal."""
    if not radii or min(radii) <= 0 or std <= 0:
        raise ValueError(f"radii and std must be positive, got {radii} and {std}")
    return Rings(tuple(radii), std, device)


def pinwheel(arms: int = 5, radial_std: float = 0.5, tangential_std: float = 0.15, rate: float = 0.8, device=None):
    """A :class:`Pinwheel` with ``arms`` blades; ``rate`` is the turn in radians per unit of radius."""
    if arms < 1 or radial_std <= 0 or tangential_std <= 0:
        raise ValueError(f"arms and stds must be positive, got {arms}, {radial_std}, {tangential_std}")
    return Pinwheel(arms, radial_std, tangential_std, rate, device)


def checkerboard(device=None) -> Checkerboard:
    """A :class:`Checkerboard`: sharp edges, which smooth models blur."""
    return Checkerboard(device)


def exam_scores(device=None) -> GaussianMixture:
    """Scores of an exam in points: three groups of students, around 40, 70 and 90."""
    return _on_line((40.0, 70.0, 90.0), (7.0, 6.0, 3.5), (0.25, 0.5, 0.25), device)


def two_bumps(distance: float = 4.0, std: float = 0.7, weight: float = 0.5, device=None) -> GaussianMixture:
    """Two Gaussians on the line, ``distance`` apart, the left one with probability ``weight``."""
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie strictly between 0 and 1, got {weight}")
    return _on_line((-distance / 2, distance / 2), (std, std), (weight, 1 - weight), device)


def _on_line(means, stds, weights, device) -> GaussianMixture:
    return _isotropic(*(torch.tensor(values, device=device) for values in (means, stds, weights)))


PLANAR = {  # name -> factory, for chapters that let the reader choose
    "eight_gaussians": eight_gaussians,
    "twenty_five_gaussians": twenty_five_gaussians,
    "pinwheel": pinwheel,
    "rings": rings,
    "checkerboard": checkerboard,
    "spirals": spirals,
}
