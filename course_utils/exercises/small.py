"""What build exercises share: small data that needs no download, and the first things to ask of a model.

The data are the 8×8 digits that come with scikit-learn, written by hand: 1,197 images to train on and 600 held out.
"""

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch

from course_utils.data import images
from course_utils.exercises.compare import kind_of
from course_utils.exercises.protocol import Finding


@cache
def _digits():
    data = images.load("digits")
    parts = ([data.train], [data.valid, data.test])
    return tuple(torch.cat([images.to_float(part.images) for part in split]).flatten(1) for split in parts)


SPLIT = ContextVar("the seed of another split, None for the usual one", default=None)


@contextmanager
def other_split(seed):
    """Within it the digits are split anew, and mirrored or turned, as ``seed`` says: a grader's data are its own."""
    token = SPLIT.set(seed)
    try:
        yield
    finally:
        SPLIT.reset(token)


def digits():
    """Grey digits in [0, 1], for training ``(1197, 64)`` and held out ``(600, 64)``."""
    train, held_out = _digits()
    if SPLIT.get() is None:
        return train.clone(), held_out.clone()
    generator = torch.Generator().manual_seed(SPLIT.get())
    turns, mirrored = torch.randint(4, (2,), generator=generator).tolist()
    every = torch.cat([train, held_out])[torch.randperm(len(train) + len(held_out), generator=generator)]
    squares = every.view(-1, 8, 8).rot90(turns, (1, 2))
    every = (squares.flip(2) if mirrored % 2 else squares).flatten(1)
    return every[: len(train)].clone(), every[len(train) :].clone()


def ink():
    """The same in black and white: 1 where a pixel is darker than one half."""
    return tuple((part > 0.5).float() for part in digits())


def windows():
    """All windows of 3×3 pixels in :func:`ink`, ``(43092, 9)`` and ``(21600, 9)``; rows in reading order."""
    squares = (part.view(-1, 8, 8).unfold(1, 3, 1).unfold(2, 3, 1) for part in ink())
    return tuple(square.reshape(-1, 9) for square in squares)


def n_weights(model):
    """Number of weights that training can move."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def model_findings(model, methods, x, max_weights):
    """The first findings about a model: what it is, how large, and that each method gives one number an image."""
    is_module = isinstance(model, torch.nn.Module)
    found = f"It is {kind_of(model)}."
    yield Finding("the function returns a torch.nn.Module", is_module, found, "Return the model at the end.")
    for name in methods:
        has = callable(getattr(model, name, None))
        what = f"The model has {'the' if has else 'no'} method {name}."
        yield Finding(f"the model has the method {name}", has, what, f"Define {name} inside the class.")
    total = n_weights(model)
    what = f"It has {total:,} weights."
    yield Finding(f"at most {max_weights:,} weights", total <= max_weights, what, "Fewer hidden units.")
    yield Finding("the model has weights to train", total > 0, what, "Put the layers into __init__, as self.something.")
    for name in methods:
        value = getattr(model, name)(x)
        right = isinstance(value, torch.Tensor) and value.shape == x.shape[:1]
        what = f"For {len(x)} images {name} gave {kind_of(value)}."
        hint = "One number for each image, (B,): take away a dimension of size 1 with [:, 0], and sum over no images."
        yield Finding(f"{name} gives one number for each image", right, what, hint)
