"""The visible loop, and the same loop behind a progress bar."""

import math
from typing import NamedTuple

import torch
from torch import nn

from course_utils import expect
from course_utils.training.bar import Bar


class Record(NamedTuple):
    """What ``steps`` yields after an update. The numbers are scalar tensors: ``float(record.loss)`` reads one."""

    step: int  # 1 for the first update
    loss: torch.Tensor
    terms: dict[str, torch.Tensor]  # everything the objective returned, "loss" included


def terms_of(output):
    """The objective's output as a dictionary of scalars with a differentiable ``"loss"``, or a clear error."""
    terms = output if isinstance(output, dict) else {"loss": output}
    if "loss" not in terms:
        raise ValueError(f'the objective returned {sorted(terms)} without a "loss": call what is minimised "loss"')
    for name, value in terms.items():
        if not isinstance(value, torch.Tensor) or value.ndim:
            shape = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f'the objective\'s "{name}" must be a scalar tensor, got {shape}: average over the batch')
    if not terms["loss"].requires_grad:
        raise ValueError("the loss depends on no parameter that wants a gradient: was it detached, or under no_grad?")
    return terms


def tame_gradient(optimizer, loss, step, clip_norm=None):
    """Clip the gradient to the norm ``clip_norm``, if given. FloatingPointError where it or the loss is not finite.

    A loss can be finite while its gradient is not: the slope of a square root at 0, or of a branch of ``torch.where``
    that was not taken. One step with it would make every weight NaN.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"] if weight.grad is not None]
    gradients = [weight.grad for weight in weights]
    norm = nn.utils.get_total_norm(gradients)
    if not torch.isfinite(loss.detach().to(norm.device) + norm):     # one wait for the device per step
        loss = loss.item()
        bad = [tuple(gradient.shape) for gradient in gradients if not gradient.isfinite().all()]
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {step}; the weights are those before it")
        if bad:
            raise FloatingPointError(f"the loss is {loss:.6g} at step {step}, but its gradient is not finite for "
                                     f"{len(bad)} of {len(gradients)} weights, the first of shape {bad[0]}; the "
                                     "weights are those before it")
    if clip_norm is not None:
        nn.utils.clip_grads_with_norm_(weights, expect.number(clip_norm, "clip_norm", above=0), norm)


def steps(objective, optimizer, batches, n_steps, *, clip_norm=None, scheduler=None):
    """Minimise ``objective(batch)`` for ``n_steps`` updates; yield a ``Record`` after each
    one.  Taught in chapter 01.

    objective: callable, batch -> scalar tensor, or dict of scalar tensors with ``"loss"``.
    batches: any iterable that gives at least ``n_steps`` batches.  clip_norm: largest norm of
    the whole gradient.
    scheduler: stepped once per update.  Stop early by leaving the ``for`` loop.
    Errors: FloatingPointError when the loss or its gradient is not finite (the weights stay as
    they were before that step; looking costs one wait for the device per step); ValueError
    when the objective returns something else, or batches run out.
    """
    step = 0
    expect.count(n_steps, "n_steps", least=0)
    for step, batch in zip(range(1, n_steps + 1), batches, strict=False):
        terms = terms_of(objective(batch))
        optimizer.zero_grad()
        terms["loss"].backward()
        tame_gradient(optimizer, terms["loss"], step, clip_norm)  # stops where not finite
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        terms = {name: value.detach() for name, value in terms.items()}
        yield Record(step, terms["loss"], terms)
    if step < n_steps:
        raise ValueError(f"batches ended after {step} of {n_steps} steps: "
                         "give an endless iterable, or fewer steps")


class History(dict):
    """The curves of a training, name -> (n_steps,) float tensor; ``stopped_at`` is the step of a Ctrl-C, else None."""

    def __init__(self, curves=(), stopped_at=None):
        super().__init__(curves)
        self.stopped_at = stopped_at


def fit(objective, optimizer, batches, n_steps, *, description="training", ema=None, callback=None, clip_norm=None,
        scheduler=None):
    """Run ``steps`` to the end behind a progress bar; return a ``History``: each term as (n_steps,) float32, CPU.

    ema: what ``ema_of`` made; it follows the model after each update.  callback: called with each ``Record``.
    Ctrl-C stops the training, says at which step, and returns the history so far; the model keeps what it learned.
    """
    curves, stopped_at, step = {}, None, 0

    def recent():
        return f"loss {curves['loss'][max(0, step - 50) : step].mean():.4g}"

    with Bar(n_steps, description) as bar:
        try:
            for record in steps(objective, optimizer, batches, n_steps, clip_norm=clip_norm, scheduler=scheduler):
                # One long tensor a curve. A list of small ones would lie between the batches of later steps in memory,
                # and keep the room around them from being used again: gigabytes after some ten thousand steps.
                step = record.step
                if not curves:
                    curves = {name: torch.empty(n_steps, dtype=torch.float32, device=term.device)
                              for name, term in record.terms.items()}
                if set(record.terms) != set(curves):
                    raise ValueError("the objective must return the same terms at every step: first "
                                     f"{list(curves)}, at step {step} {list(record.terms)}")
                for name, term in record.terms.items():
                    curves[name][step - 1] = term
                if ema is not None:
                    ema.update()
                bar.update(step, recent)
                if callback is not None:
                    callback(record)
        except KeyboardInterrupt:
            stopped_at = step
            bar.stop("stopped by you; the model keeps what it learned")
    return History({name: curve[:step].cpu().clone() for name, curve in curves.items()}, stopped_at)
