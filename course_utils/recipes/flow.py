"""The flows of chapter 06: over the plane, and over the digits with 17 grey levels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from course_utils import training
from course_utils.data import densities
from course_utils.models.flow import coupling


@dataclass(frozen=True)
class PlaneRecipe:
    """A flow for a density of the plane, trained on fresh samples of it at every step."""

    title: str
    density: Callable[..., torch.distributions.Distribution]
    make: Callable[..., torch.nn.Module]
    n_steps: int = 1_500
    lr: float = 4e-3
    batch_size: int = 256
    ships: bool = False  # its weights come with the course, but in a file that `course bench flows` names


KINDS = {
    "affine": partial(coupling.affine_flow, n_layers=12, hidden=(64, 64)),
    "spline": partial(coupling.spline_flow, n_layers=6, hidden=(64, 64), n_bins=12, bound=5.0),
}
TARGETS = ("eight_gaussians", "twenty_five_gaussians", "pinwheel", "checkerboard")
PLANE = {f"{name}_{kind}": PlaneRecipe(f"{name.replace('_', ' ')}, {kind} couplings", densities.PLANAR[name], make)
         for name in TARGETS for kind, make in KINDS.items()}  # fmt: skip


def train_plane(recipe, *, device="cpu", seed=0, n_steps=None):
    """The flow of ``recipe``, trained with Adam; the rate falls along half a cosine. Seeds torch."""
    n_steps = n_steps or recipe.n_steps
    torch.manual_seed(seed)
    flow, density = recipe.make().to(device), recipe.density(device=device)
    optimizer = torch.optim.Adam(flow.parameters(), lr=recipe.lr)
    batches = iter(lambda: density.sample((recipe.batch_size,)), None)
    training.fit(flow.loss, optimizer, batches, n_steps, description=recipe.title, clip_norm=5.0,
                 scheduler=training.cosine(optimizer, n_steps))
    return flow
