"""A recipe, and the training that follows it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from course_utils import training
from course_utils.data import images


@dataclass(frozen=True)
class Recipe:
    """How one model is made and trained. ``make(data)`` gives the model for a data set.

    ``n_steps=0``: the model is fitted in closed form by its own ``fit(images, labels)``.  ``objective(model)``: what is
    minimised, when it is not the model's own loss.  ``labels``: batches are ``(x, y)``.  ``binary``: images are
    binarised anew at every use.  ``warm_up``: steps of a learning rate that grows; afterwards it falls along half a
    cosine to ``floor`` times ``lr``.  ``ships``: the weights come with the course.
    """

    title: str
    make: Callable[..., nn.Module]
    n_steps: int = 0
    lr: float = 1e-3
    batch_size: int = 100
    betas: tuple[float, float] = (0.9, 0.999)
    warm_up: int = 0
    floor: float = 0.0
    clip_norm: float | None = None
    weight_decay: float = 0.0
    objective: Callable | None = None
    labels: bool = False
    binary: bool = True
    ships: bool = False


def train(recipe, data, *, device="cpu", seed=0, n_steps=None):
    """The model of ``recipe`` for ``data``, trained with Adam for ``n_steps`` (None: the recipe's own). Seeds torch."""
    n_steps = n_steps or recipe.n_steps
    torch.manual_seed(seed)
    model = recipe.make(data).to(device)
    if not recipe.n_steps:
        x = images.to_float(data.train.images)
        return model.fit(images.binarise(x) if recipe.binary else x, data.train.labels if recipe.labels else None)
    batches = images.batches(data.train.images, recipe.batch_size, data.train.labels if recipe.labels else None)
    if recipe.binary:
        batches = map(binarised, batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=recipe.betas, fused=True,
                                  weight_decay=recipe.weight_decay)
    schedule = training.cosine(optimizer, n_steps, warm_up=recipe.warm_up, floor=recipe.floor)
    objective = recipe.objective(model) if recipe.objective else model.loss
    training.fit(objective, optimizer, batches, n_steps, description=recipe.title, clip_norm=recipe.clip_norm,
                 scheduler=schedule)
    return model


def binarised(batch):
    """Each pixel of a batch x, or (x, y), is drawn anew."""
    return (images.binarise(batch[0]), batch[1]) if isinstance(batch, (tuple, list)) else images.binarise(batch)
