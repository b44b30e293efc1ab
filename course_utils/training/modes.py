"""Evaluation mode for a while, and running averages of weights."""

import contextlib

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from course_utils import expect


@contextlib.contextmanager
def evaluating(*models):
    """Evaluation mode and no gradients inside; afterwards every submodule has the mode it had, also after an error."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


class Ema(AveragedModel):
    """torch's averaged model that remembers whom it follows."""

    def __init__(self, model, decay, buffers=False):
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=buffers)
        self.followed = (model,)  # in a tuple, so that its weights are not registered as ours

    def update(self):
        self.update_parameters(self.followed[0])


def ema_of(model, decay=None, *, half_life=None, buffers=False):
    r"""A copy of the model whose weights are the running average of the model's own.

    $$\bar\theta_1 = \theta_1, \qquad \bar\theta_k = d\,\bar\theta_{k-1} + (1-d)\,\theta_k$$

    Say either the decay d in [0, 1), 0.999 when left out, or the ``half_life`` in updates after which a weight of the
    past counts half: d = 2^(-1 / half_life).  buffers: average these too, such as the running statistics of batch
    norm; otherwise they are the model's newest. Give it to ``fit(..., ema=...)``; ``ema_of(model).module`` is the
    averaged model.
    """
    if decay is not None and half_life is not None:
        raise ValueError(f"give a decay or a half_life, not both; got {decay} and {half_life}")
    if half_life is not None:
        decay = 0.5 ** (1 / expect.number(half_life, "half_life, a number of updates,", above=0))
    decay = 0.999 if decay is None else expect.number(decay, "decay", low=0, below=1)
    return Ema(model, decay, buffers)
