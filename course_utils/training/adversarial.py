"""Training two networks against each other: the visible loop, and the same behind a progress bar."""

import contextlib
from itertools import islice
from typing import NamedTuple

import torch

from course_utils import expect
from course_utils.training.bar import Bar
from course_utils.training.loop import History, tame_gradient, terms_of


class Move(NamedTuple):
    """What ``adversarial_steps`` yields after an update of one player. The numbers are scalar tensors."""

    step: int  # 1 for the first round
    player: str  # "critic" or "generator"
    loss: torch.Tensor
    terms: dict[str, torch.Tensor]  # everything the player's objective returned, "loss" included


def adversarial_steps(critic_objective, generator_objective, critic_optimizer, generator_optimizer, batches, n_steps, *,
                      critic_updates=1, schedulers=()):
    """Train two players in turns for ``n_steps`` rounds; yield a ``Move`` after each update of either.

    A round is ``critic_updates`` updates of the critic and then one of the generator, each on a batch of its own. An
    objective maps a batch to a scalar loss, or to a dict of scalars with ``"loss"``; each player descends its own. The
    critic's weights hold still while the generator moves: its gradient passes through them and leaves nothing there.
    schedulers: stepped once a round.  Stop early by leaving the ``for`` loop.  Taught in chapter 05.
    Errors: FloatingPointError when a loss or its gradient is not finite (the weights stay as they were before it);
    ValueError when an objective returns something else, or batches run out.
    """
    expect.count(n_steps, "n_steps", least=0)
    expect.count(critic_updates, "critic_updates, how often the critic moves in a round,")
    batches = iter(batches)
    for step in range(1, n_steps + 1):
        drawn = list(islice(batches, critic_updates + 1))
        if len(drawn) <= critic_updates:
            raise ValueError(f"batches ended in round {step} of {n_steps}: give an endless iterable, or fewer steps")
        for batch in drawn[:-1]:
            yield Move(step, "critic", *update(critic_objective, critic_optimizer, batch, step))
        with held(critic_optimizer):
            moved = update(generator_objective, generator_optimizer, drawn[-1], step)
        for scheduler in schedulers:
            scheduler.step()
        yield Move(step, "generator", *moved)


def update(objective, optimizer, batch, step):
    """One step of ``optimizer`` down ``objective(batch)``; the loss and all terms, detached."""
    terms = terms_of(objective(batch))
    optimizer.zero_grad()
    terms["loss"].backward()
    tame_gradient(optimizer, terms["loss"], step)
    optimizer.step()
    terms = {name: value.detach() for name, value in terms.items()}
    return terms["loss"], terms


@contextlib.contextmanager
def held(optimizer):
    """The weights of ``optimizer`` want no gradient inside; afterwards each is as it was."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    wanted = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight, flag in zip(weights, wanted, strict=True):
            weight.requires_grad_(flag)


def adversarial_fit(critic_objective, generator_objective, critic_optimizer, generator_optimizer, batches, n_steps, *,
                    critic_updates=1, schedulers=(), description="training", ema=None, callback=None):
    """Run ``adversarial_steps`` to the end behind a progress bar; return a ``History``, (n_steps,) float32 curves.

    A curve is called by player and term, ``"critic_loss"`` and ``"generator_loss"`` among them; of several updates of
    the critic in a round the last is kept.  ema: what ``ema_of`` made; it follows its model after each round.
    callback: called with each ``Move``.  Ctrl-C stops the training, says at which round, and returns the history so
    far; both players keep what they learned.  Taught in chapter 05.
    """
    curves, done, stopped_at = {}, 0, None

    def recent():
        loss = [curves[f"{player}_loss"][max(0, done - 50) : done].mean() for player in ("critic", "generator")]
        return f"critic {loss[0]:.4g}, generator {loss[1]:.4g}"

    moves = adversarial_steps(critic_objective, generator_objective, critic_optimizer, generator_optimizer, batches,
                              n_steps, critic_updates=critic_updates, schedulers=schedulers)
    with Bar(n_steps, description) as bar:
        try:
            for move in moves:
                for name, value in move.terms.items():
                    curve = curves.setdefault(f"{move.player}_{name}", torch.full((n_steps,), torch.nan))
                    curve[move.step - 1] = value
                if callback is not None:
                    callback(move)
                if move.player == "generator":
                    done = move.step
                    if ema is not None:
                        ema.update()
                    bar.update(done, recent)
        except KeyboardInterrupt:
            stopped_at = done
            bar.stop("stopped by you; both players keep what they learned")
    return History({name: curve[:done].clone() for name, curve in curves.items()}, stopped_at)
