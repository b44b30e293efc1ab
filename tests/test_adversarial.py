"""Laws of the loop with two players: turns, whose weights move, what is seen after each move, and how it ends."""

from itertools import count, repeat

import pytest
import torch
from torch import nn

from course_utils import training
from course_utils.training import adversarial


class Bilinear(nn.Module):
    """V = theta psi: the critic climbs, the generator descends. Steps have a closed form."""

    def __init__(self, theta=1.0, psi=0.5):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))
        self.psi = nn.Parameter(torch.tensor(psi, dtype=torch.float64))
        self.seen = []

    def critic_loss(self, batch):
        self.seen.append(("critic", float(batch)))
        return {"loss": -self.theta.detach() * self.psi, "value": self.theta * self.psi}

    def generator_loss(self, batch):
        self.seen.append(("generator", float(batch)))
        return self.theta * self.psi

    def players(self, lr=0.1):
        return (self.critic_loss, self.generator_loss, torch.optim.SGD([self.psi], lr),
                torch.optim.SGD([self.theta], lr))


def test_moves_alternate_and_are_seen_after_the_update():
    game, theta, psi = Bilinear(), 1.0, 0.5
    for move in adversarial.adversarial_steps(*game.players(), repeat(torch.tensor(0.0)), 5):
        if move.player == "critic":
            psi += 0.1 * theta
        else:
            theta -= 0.1 * psi  # the critic has moved already
        assert game.theta.item() == pytest.approx(theta, abs=1e-12)
        assert game.psi.item() == pytest.approx(psi, abs=1e-12)
        assert not move.loss.requires_grad and not any(term.requires_grad for term in move.terms.values())
    assert move.step == 5 and move.player == "generator"


def test_the_critic_moves_as_often_as_asked_each_time_on_a_new_batch():
    game = Bilinear()
    players = [(m.step, m.player) for m in adversarial.adversarial_steps(
        *game.players(), map(torch.tensor, count(0.0)), 2, critic_updates=3)]
    assert players == [(1, "critic")] * 3 + [(1, "generator")] + [(2, "critic")] * 3 + [(2, "generator")]
    assert [batch for _, batch in game.seen] == list(range(8))


def test_the_generators_move_leaves_no_gradient_at_the_critic():
    game = Bilinear()
    for move in adversarial.adversarial_steps(*game.players(), repeat(torch.tensor(0.0)), 2):
        if move.player == "critic":
            left = game.psi.grad.clone()
        else:
            assert torch.equal(game.psi.grad, left) and game.psi.requires_grad
    assert game.theta.grad is not None


def test_a_failing_generator_gives_the_critic_its_gradients_back():
    game = Bilinear()

    def fails(batch):
        raise RuntimeError("the generator is ill")

    critic, _, *optimizers = game.players()
    with pytest.raises(RuntimeError, match="ill"):
        list(adversarial.adversarial_steps(critic, fails, *optimizers, repeat(torch.tensor(0.0)), 2))
    assert game.psi.requires_grad


def test_a_loss_that_is_not_finite_stops_before_the_weights_move():
    game = Bilinear()

    def breaks(batch):
        return game.theta / 0

    critic, _, *optimizers = game.players()
    with pytest.raises(FloatingPointError, match="step 1"):
        list(adversarial.adversarial_steps(critic, breaks, *optimizers, repeat(torch.tensor(0.0)), 3))
    assert game.theta.item() == 1.0 and game.psi.item() == pytest.approx(0.6)


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move():
    game = Bilinear()
    critic, _, *optimizers = game.players()
    with pytest.raises(FloatingPointError, match="step 1, but its gradient is not finite"):
        list(adversarial.adversarial_steps(critic, lambda _: (game.theta * 0).sqrt(), *optimizers,
                                           repeat(torch.tensor(0.0)), 3))
    assert game.theta.item() == 1.0


def test_too_few_batches_and_no_critic_are_named():
    game = Bilinear()
    with pytest.raises(ValueError, match="round 2 of 4"):
        list(adversarial.adversarial_steps(*game.players(), [torch.tensor(0.0)] * 3, 4))
    with pytest.raises(ValueError, match="whole number from 1, got int 0"):
        list(adversarial.adversarial_steps(*game.players(), repeat(torch.tensor(0.0)), 4, critic_updates=0))


def test_fit_returns_every_curve_and_follows_with_the_average():
    game = Bilinear()
    average = training.ema_of(game, 0.5)
    moves = []
    history = adversarial.adversarial_fit(*game.players(), repeat(torch.tensor(0.0)), 6, ema=average,
                                          callback=moves.append)
    assert set(history) == {"critic_loss", "critic_value", "generator_loss"}
    assert all(curve.shape == (6,) and curve.isfinite().all() for curve in history.values())
    torch.testing.assert_close(history["critic_loss"], -history["critic_value"])
    assert len(moves) == 12 and history.stopped_at is None
    assert average.n_averaged == 6 and average.module.theta.item() != game.theta.item()


def test_ctrl_c_keeps_whole_rounds():
    game = Bilinear()

    def stop(move):
        if (move.step, move.player) == (4, "critic"):
            raise KeyboardInterrupt

    history = adversarial.adversarial_fit(*game.players(), repeat(torch.tensor(0.0)), 10, callback=stop)
    assert history.stopped_at == 3 and all(len(curve) == 3 for curve in history.values())


def test_a_cached_game_is_read_back_with_its_average_and_its_random_state(tmp_path):
    def play(n_steps):
        torch.manual_seed(0)
        game = nn.Linear(2, 1)
        average = training.ema_of(game, half_life=3)
        both = nn.ModuleList([game, average])

        def train():
            optimizers = [torch.optim.SGD([weight], 0.1) for weight in (game.weight, game.bias)]
            batches = iter(lambda: torch.randn(4, 2), None)
            return adversarial.adversarial_fit(lambda x: game(x).square().mean(), lambda x: game(x).mean(),
                                               *optimizers, batches, n_steps, ema=average)

        history = training.cached("game", both, train, folder=tmp_path)
        return [*both.state_dict().values(), history["generator_loss"], torch.randn(2)]

    first, again = play(5), play(5)
    assert len(list(tmp_path.iterdir())) == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
