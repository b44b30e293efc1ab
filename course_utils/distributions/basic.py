"""The distributions of pixels and codes, each with its event dimensions set."""

import torch
from torch import distributions as D
from torch import nn

from course_utils import expect


class Event(D.Independent):
    """``D.Independent`` that never broadcasts an event: images (B, H, W) are none of shape (B, 1, H, W)."""

    def log_prob(self, value):
        return super().log_prob(expect.floats(value, "x", ..., *self.event_shape))


def gaussian(mu, log_var):
    r"""Diagonal Gaussian with mean ``mu`` and variance ``exp(log_var)``, both ``(B, ...event)``.

    The only place where a log-variance becomes a scale. ``log_prob`` returns ``(B,)``: it sums over the event.
    """
    expect.same_shape(mu=mu, log_var=log_var)
    return Event(D.Normal(mu, (log_var / 2).exp(), validate_args=True), mu.dim() - 1)


def bernoulli(logits):
    """Independent pixels in {0, 1} with the given logits ``(B, ...event)``; ``log_prob`` returns ``(B,)``.

    A grey value raises a ValueError, also where somebody has switched torch's own checks off for the whole process.
    """
    logits = expect.floats(logits, "logits", ..., "D")
    return Event(D.Bernoulli(logits=logits, validate_args=True), logits.dim() - 1)


def standard_normal(*event, like=None):
    """N(0, I) over ``event``, on the device and in the dtype of ``like`` (a tensor) when one is given."""
    event = expect.shape(event, "event", n_dims=len(event))
    zeros = torch.zeros(*event) if like is None else expect.floats(like, "like").new_zeros(*event)
    return Event(D.Normal(zeros, torch.ones_like(zeros)), len(event))


class StandardNormal(nn.Module):
    """The prior N(0, I) over ``(latent_dim,)``, or over a tuple of sizes. Called without arguments."""

    def __init__(self, latent_dim):
        super().__init__()
        event = latent_dim if isinstance(latent_dim, tuple) else (latent_dim,)
        self.register_buffer("origin", torch.zeros(expect.shape(event, "latent_dim", n_dims=len(event))))

    def forward(self):
        return standard_normal(*self.origin.shape, like=self.origin)


class UnitCube(nn.Module):
    """The uniform distribution on [0, 1]^D over ``event``: density 1, log-density 0. Called without arguments."""

    def __init__(self, *event):
        super().__init__()
        self.register_buffer("corner", torch.zeros(expect.shape(event, "event", n_dims=len(event))))

    def forward(self):
        return Event(D.Uniform(self.corner, torch.ones_like(self.corner)), self.corner.dim())
