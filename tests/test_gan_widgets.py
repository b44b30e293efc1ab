"""The demos of chapter 05: what JavaScript computes, against Python and against automatic differentiation."""

import math
from importlib import import_module

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from test_widgets import node, run_node
from torch.distributions import Normal
from torch.nn.functional import softplus

from course_utils import widgets
from course_utils.data import densities
from course_utils.distributions import jensen_shannon
from course_utils.models.gan import objectives
from course_utils.widgets.demo import _as_text, pack

# the names are taken by the functions
density_game, sliding_densities, training_player = (
    import_module(f"course_utils.widgets.{name}") for name in ("density_game", "sliding_densities", "training_player"))
CASES = [
    {"mu": 1.6, "sigma": 0.6, "level": 0.0, "tilt": -1.0, "bend": 0.0},
    {"mu": 0.0, "sigma": 1.0, "level": 0.0, "tilt": 0.0, "bend": 0.0},
    {"mu": -3.0, "sigma": 2.5, "level": 1.5, "tilt": 4.0, "bend": -2.0},
]


def test_values_of_the_game_are_those_of_the_package():
    for case in CASES:
        js, best, mine = density_game.values_of_the_game(0.0, 1.0, **case)
        x = torch.linspace(-16, 16, 4_001, dtype=torch.float64)
        p, q = (Normal(m, s).log_prob(x).exp() * (x[1] - x[0]) for m, s in ((0.0, 1.0), (case["mu"], case["sigma"])))
        assert js == pytest.approx(float(jensen_shannon(p, q)), abs=1e-6) and best == pytest.approx(2 * js)
        a = case["level"] + case["tilt"] * x + case["bend"] * x.square()
        expected = float(p @ -softplus(-a) + q @ -softplus(a)) + 2 * math.log(2)
        assert mine == pytest.approx(expected, abs=1e-5) and mine <= best + 1e-9
    assert density_game.values_of_the_game(0.0, 1.0, **CASES[1]) == pytest.approx((0, 0, 0), abs=1e-9)


def test_the_critics_parabola_holds_the_best_critic():
    """D* of N(0, 1) against N(1.6, 0.6²) is a parabola in the logit: with it, yours is as good as the best."""
    level = math.log(0.6) + 0.5 * (1.6 / 0.6) ** 2
    _, best, mine = density_game.values_of_the_game(0.0, 1.0, 1.6, 0.6, level, -1.6 / 0.36, 0.5 / 0.36 - 0.5)
    assert mine == pytest.approx(best, abs=1e-9)


@node
def test_density_game_in_javascript(tmp_path):
    got = run_node(tmp_path, "density_game", "return given.map((c) => demo.game({ mean: 0, std: 1 }, c));", CASES)
    np.testing.assert_allclose(got, [density_game.values_of_the_game(0.0, 1.0, **case) for case in CASES], atol=1e-9)


@node
def test_sliding_densities_in_javascript(tmp_path):
    cases = [[shift, blur] for shift in (-4.0, -0.3, 0.0, 0.7, 1.0, 3.2) for blur in (0.02, 0.3, 1.5)]
    got = run_node(tmp_path, "sliding_densities", "return given.map((c) => demo.jensenShannon(...c));", cases)
    np.testing.assert_allclose(got, [sliding_densities.jensen_shannon(*case) for case in cases], atol=1e-9)
    assert max(got) <= math.log(2) + 1e-9 and got[-3] == pytest.approx(math.log(2), abs=1e-6)
    places = list(np.linspace(-9, 9, 61))
    cdf = run_node(tmp_path, "sliding_densities", "return given.map(demo.normalCdf);", places)
    np.testing.assert_allclose(cdf, ndtr(places), atol=1e-12)


def first_networks():
    """The demo's first weights as float64 leaves, and the same as JavaScript gets them."""
    demo = widgets.training_player(densities.eight_gaussians(1.5, 0.12), n=200)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = {name: [training_player._layer(*s) for s in zip(w, w[1:], strict=False)]
                  for name, w in training_player.WIDTHS.items()}
    sent = _as_text({name: [{k: pack(v) for k, v in layer.items()} for layer in own] for name, own in layers.items()})
    leaves = {name: [{k: v.double().requires_grad_() for k, v in layer.items()} for layer in own]
              for name, own in layers.items()}
    return demo, leaves, sent


@node
def test_the_players_gradients_are_those_of_automatic_differentiation(tmp_path):
    _, leaves, sent = first_networks()
    n, gamma = 16, 0.3
    real, codes = torch.randn(n, 2).double(), 2 * torch.rand(n, 2).double() - 1
    run = training_player.run_network
    script = """
      const layers = (own) => own.map((l) => ({ weight: unpack(l.weight), bias: unpack(l.bias) }));
      const g = demo.net(layers(given.sent.generator)), d = demo.net(layers(given.sent.critic));
      const [real, codes] = [given.real, given.codes].map((a) => Float64Array.from(a));
      const told = demo.criticGradients(g, d, real, codes, 16, given.gamma);
      const flat = (network) => network.layers.map((l) => [[...l.gw], [...l.gb]]);
      const critic = flat(d);
      const loss = demo.generatorGradients(g, d, Float64Array.from(given.codes), 16);
      return { told, critic, generator: flat(g), loss };"""
    got = run_node(tmp_path, "training_player", script, {
        "sent": sent, "real": real.flatten().tolist(), "codes": codes.flatten().tolist(), "gamma": gamma})

    def critic(x):
        return run(leaves["critic"], x)[:, 0]

    fakes = run(leaves["generator"], codes)
    terms = objectives.non_saturating(critic(real), critic(fakes.detach()))
    penalty = objectives.zero_centred(critic, real, gamma).mean()
    assert got["told"]["loss"] == pytest.approx(terms.critic.mean().item(), abs=1e-9)
    assert got["told"]["penalty"] == pytest.approx(penalty.item(), abs=1e-9)
    fooled = objectives.non_saturating(torch.zeros(n), critic(fakes)).generator.mean()
    pays = {"critic": terms.critic.mean() + penalty, "generator": fooled}
    assert got["loss"] == pytest.approx(pays["generator"].item(), abs=1e-9)
    for name, loss in pays.items():
        weights = [layer[key] for layer in leaves[name] for key in ("weight", "bias")]
        wanted = torch.autograd.grad(loss, weights, allow_unused=True)
        found = [part for layer in got[name] for part in layer]
        for w, f, weight in zip(wanted, found, weights, strict=True):
            expected = torch.zeros_like(weight) if w is None else w
            np.testing.assert_allclose(f, expected.flatten(), atol=1e-9)


@node
def test_the_players_optimiser_is_adam(tmp_path):
    _, leaves, sent = first_networks()
    layer = leaves["critic"][0]
    optimizer = torch.optim.Adam([layer["weight"]], 0.002, (0.5, 0.9))
    for k in range(3):
        layer["weight"].grad = torch.full_like(layer["weight"], 0.1 * (k + 1))
        optimizer.step()
    script = """const d = demo.net(given.map((l) => ({ weight: unpack(l.weight), bias: unpack(l.bias) })));
      for (let k = 1; k < 4; k++) { d.layers[0].gw.fill(0.1 * k); demo.adam(d, 0.002); }
      return [...d.layers[0].w];"""
    got = run_node(tmp_path, "training_player", script, sent["critic"])
    np.testing.assert_allclose(got, layer["weight"].detach().flatten(), atol=1e-7)


@pytest.mark.parametrize("call, complaint", [
    (lambda: widgets.density_game(densities.two_bumps()), "one Normal"),
    (lambda: widgets.density_game(Normal(torch.zeros(2), 1.0)), "one Normal"),
    (lambda: widgets.training_player(Normal(0.0, 1.0)), "on the plane"),
])
def test_wrong_inputs_are_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
