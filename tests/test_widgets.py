"""Widgets without a browser: the three forms, the still pictures, and JavaScript against independent numbers."""

import base64
import json
import re
import shutil
import subprocess
import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from browser.examples import EXAMPLES, blobs, log_joint
from torch import nn

from course_utils import shipped, training, widgets
from course_utils.commands.bench import latency
from course_utils.data import densities, images
from course_utils.models import autoencoder, vae
from course_utils.nn.conv import ConvDecoder
from course_utils.nn.masked import RowsAboveConv2d
from course_utils.nn.mlp import MLP
from course_utils.widgets import demo as demos
from course_utils.widgets.demo import JS, Slider, module_text, pack
from course_utils.widgets.network import pack_network
from course_utils.widgets.particles import walk

node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed: apt-get install nodejs")


@pytest.fixture(scope="module")
def examples():
    return {name: make() for name, make in EXAMPLES.items()}


@pytest.fixture
def attended(monkeypatch):
    """As in a front end where a person sits."""
    monkeypatch.setattr(demos, "get_ipython", lambda: SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=True)))


def run_node(tmp_path, module, script, given, needs=()):
    """Run ``script`` in node: ``demo`` is the module's exports, ``course`` its helpers, ``given`` a value from here."""
    shared = "course, network" if "network" in needs else "course"
    (tmp_path / "demo.mjs").write_text(module_text(module, needs) + f"\nexport {{ {shared} }};\n", encoding="utf-8")
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "run.mjs").write_text(
        "import * as demo from './demo.mjs'; import { readFileSync } from 'node:fs';\n"
        "const { course } = demo;\n"
        "globalThis.ResizeObserver = class { observe() {} disconnect() {} };\n"
        "const given = JSON.parse(readFileSync(new URL('./given.json', import.meta.url)));\n"
        "const bytes = (text) => new DataView(Uint8Array.from(Buffer.from(text, 'base64')).buffer);\n"
        "const unpack = (a) => course.array({ ...a, bytes: bytes(a.base64) });\n"
        f"process.stdout.write(JSON.stringify((() => {{ {script} }})()));\n")
    done = subprocess.run(["node", str(tmp_path / "run.mjs")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- every demo ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", EXAMPLES)
def test_unattended_bundle_has_page_and_picture_and_no_comm(examples, name):
    bundle, metadata = examples[name]._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png"}
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == examples[name].alt and len(examples[name].alt) > 20
    assert bundle["text/plain"] == repr(examples[name]) and "0x" not in bundle["text/plain"]
    assert bundle["text/html"].index("<img") < bundle["text/html"].index("<iframe")
    assert bundle["text/html"] == EXAMPLES[name]().html(), "the same demo twice gives the same page"


@pytest.mark.parametrize("name", EXAMPLES)
def test_picture_and_live_values_at_low_middle_and_high(examples, name):
    demo = EXAMPLES[name]()
    heard = []
    demo.live.observe(lambda change: heard.append(change.new), names=[s.name for s in demo.sliders])
    for values in demo.rehearsal():
        demo.picture(values).canvas.draw()
        for slider in demo.sliders:
            setattr(demo.live, slider.name, values[slider.name])
        assert demo.values == pytest.approx(values)
    assert len(heard) >= 2
    assert all(s.low <= s.value <= s.high for s in demo.sliders)


@pytest.mark.parametrize("name", EXAMPLES)
def test_attended_a_demo_is_a_widget_whose_sliders_skip_the_kernel_and_a_page(attended, monkeypatch, name):
    demo, outputs = EXAMPLES[name](), []
    monkeypatch.setattr(demos, "publish_display_data", lambda data, metadata=None: outputs.append((data, metadata)))
    demo._ipython_display_()
    [(widget, _), (still, about)] = outputs
    assert list(widget) == ["application/vnd.jupyter.widget-view+json"], "where it cannot be shown, nothing is"
    assert set(still) == {"text/plain", "text/html", "image/png"} and about["image/png"]["alt"] == demo.alt
    live, panel = demo.view.children
    for slider, knob in zip(demo.sliders, panel.children, strict=True):
        assert type(knob.link).__name__ == "Link" and knob.link.target == (live, slider.name)
        assert (knob.min, knob.max, knob.value) == (slider.low, slider.high, slider.value)


def test_the_kernel_does_not_send_slider_values_back(attended):
    """An echo of an older value would undo a newer one that the hand has set since."""
    demo = latency.bare()
    for widget, name in ((demo.live, "x"), (demo.view.children[1].children[0], "value")):
        sent = []
        widget._send = lambda message, buffers=None, sent=sent: sent.append(message)
        widget.set_state({name: 0.7})
        assert getattr(widget, name) == 0.7 and sent == []
        setattr(widget, name, 0.2)
        assert sent[-1]["state"] == {name: 0.2}, "what Python sets reaches the browser"


@pytest.mark.parametrize("path", sorted(JS.glob("*.js")), ids=lambda path: path.name)
def test_modules_import_nothing_and_know_no_address(path):
    text = path.read_text("utf-8")
    assert not re.search(r"^\s*import\b|\bimport\(|https?:|\bfetch\(|XMLHttpRequest", text, re.M)


def test_what_the_latency_benchmark_measures_can_be_made():
    names = {}
    with torch.random.fork_rng():
        exec(latency.IMPORTS, names)
        made = {case: eval(cell, names) for case, (_, cell, _) in latency.CASES.items()}
    for case, (where, _, _) in latency.CASES.items():
        layers = [model["layers"] for model in made[case].data.get("models", [])]
        assert all((each is None) == (where == "kernel") for each in layers), case
    chapter_04 = {"latent_explorer", "posterior_lab", "interpolation", "beta_shelf"}
    assert {demo.module for demo in made.values()} >= chapter_04


def test_every_module_has_an_example(examples):
    modules = {path.stem for path in JS.glob("*.js")} - {"common", "network", "page", "bare"}
    assert {demo.module for demo in examples.values()} == modules


# ---- the machinery ---------------------------------------------------------------------------------------------------
def test_a_callback_that_raises_stops_an_unattended_run(examples):
    demo, seen = examples["kl_explorer"], []
    demo.observe(seen.append)
    assert seen == demo.rehearsal()
    with pytest.raises(ZeroDivisionError):
        demo.observe(lambda values: 1 / 0)


@pytest.mark.parametrize("stdin, colab, form", [(True, False, "widgets"), (False, False, "page"), (True, True, "page")])
def test_who_gets_which_form(monkeypatch, stdin, colab, form):
    monkeypatch.setattr(demos, "get_ipython", lambda: SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=stdin)))
    monkeypatch.setitem(demos.sys.modules, "google.colab", SimpleNamespace()) if colab else None
    assert demos.front_end() == form


def test_outside_jupyter_the_page_is_shown(monkeypatch):
    monkeypatch.setattr(demos, "get_ipython", lambda: None)
    assert demos.front_end() == "page"


def test_attended_callbacks_hear_settled_values_only(attended):
    demo, seen = EXAMPLES["kl_explorer"](), []
    demo.observe(seen.append)
    demo.live.mu = 0.5
    assert seen == []
    demo.live.settled = {"mu": 0.5, "sigma": 1.0}
    assert seen == [{"mu": 0.5, "sigma": 1.0}]


@pytest.mark.parametrize("step, digits", [(1, 0), (0.5, 1), (0.1, 1), (0.05, 2), (0.01, 2)])
def test_slider_digits(step, digits):
    assert Slider("a", "a", 0, 1, 0, step).digits == digits


def test_slider_stands_on_its_steps_and_in_its_range():
    assert Slider("a", "a", -0.5, 2, 0.033, 0.01).value == 0.03
    assert Slider("a", "a", 0, 1, 1, 0.3).value == 0.9
    assert Slider("a", "a", 0.12345644, 1, 0.12345644).value == 0.12345644, "six digits would lie below"
    with pytest.raises(ValueError, match="slider a: expected low"):
        Slider("a", "a", 0, 1, 1.5)


def test_pack_refuses_what_javascript_cannot_read():
    with pytest.raises(ValueError, match="int64.*convert"):
        pack(torch.arange(3))


@node
def test_arrays_arrive_unchanged(tmp_path):
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    sent = [halves, np.array([[1.5, -2.0]], np.float32), np.array([np.pi]), np.array([0, 255], np.uint8),
            np.array([-(2**31)], np.int32), np.arange(11).reshape(1, 11) % 3 == 0]
    script = "return given.map((a) => { const got = unpack(a); return [[...got], got.shape]; });"
    got = run_node(tmp_path, "kl_explorer", script, [demos._as_text(pack(array)) for array in sent])
    for array, (values, shape) in zip(sent, got, strict=True):
        assert shape == list(array.shape)
        assert np.array_equal(np.array(values, array.dtype).ravel(), array.ravel())


# ---- networks in the browser -----------------------------------------------------------------------------------------
def same_as_in_python(tmp_path, network, codes):
    """Largest difference between torch and JavaScript over all outputs for these codes ``(B, L)``."""
    script = """const layers = given.layers.map((l) => ({ ...l, weight: l.weight && packed(l.weight),
          bias: l.bias && packed(l.bias) }));
        const run = demo.network(layers);
        return given.codes.map((z) => [...run(z)]);"""
    script = "const packed = (a) => ({ ...a, bytes: bytes(a.base64) });" + script
    layers = demos._as_text(demos._packed(pack_network(network)))
    got = run_node(tmp_path, "kl_explorer", script, {"layers": layers, "codes": codes.tolist()}, needs=("network",))
    with torch.no_grad():
        return (torch.tensor(got) - network(codes).flatten(1)).abs().max().item()


NETWORKS = {
    "mlp": lambda: nn.Sequential(MLP([2, 400, 784]), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))),
    "conv decoder, odd sizes": lambda: nn.Sequential(ConvDecoder(20, (1, 28, 28)), nn.Sigmoid()),
    "colours": lambda: nn.Sequential(ConvDecoder(5, (3, 14, 14), width=8), nn.Sigmoid()),
    "every other layer": lambda: nn.Sequential(
        nn.Linear(4, 24, bias=False), nn.Tanh(), nn.Unflatten(1, (2, 4, 3)), nn.Upsample(scale_factor=2),
        nn.Conv2d(2, 3, (3, 5), stride=(2, 1), padding=(1, 2)), nn.LeakyReLU(0.2), nn.Dropout(), nn.ELU(),
        nn.ConvTranspose2d(3, 4, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(4, 2, 1), nn.Softplus(), nn.Flatten(),
        nn.Linear(192, 30), nn.Sigmoid()),
}


@node
@pytest.mark.parametrize("name", NETWORKS)
def test_javascript_decodes_like_torch(tmp_path, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, codes = NETWORKS[name]().eval(), torch.randn(5, 20)
    codes = codes[:, :next(network.parameters()).shape[1]]
    assert same_as_in_python(tmp_path, network, codes) < 1 / 255, "more than one grey level apart"


def finished(name, model):
    """``model`` with the weights that come with the course, and the decoder that paints grey values."""
    for part in ("encoder", "decoder"):
        training.load_weights(shipped.path(f"{name}_784_400_2_{part}.safetensors"), getattr(model, part))
    painter = model.decoder if name == "ae" else nn.Sequential(model.decoder.network, nn.Sigmoid())
    return model.eval(), painter.eval()


@node
@pytest.mark.parametrize("name", ["ae", "vae"])
def test_javascript_decodes_like_torch_what_comes_with_the_course(tmp_path, name):
    make = {"ae": lambda: autoencoder.mlp_autoencoder(latent_dim=2), "vae": vae.vae_784_400_2}[name]
    model, painter = finished(name, make())
    x = images.to_float(images.load("handwriting", n=1).test.images[:20])
    with torch.no_grad():
        codes = model.encoder(x) if name == "ae" else model.encoder(x).mean
    assert same_as_in_python(tmp_path, painter, codes) < 1 / 255, "more than one grey level apart"


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


REFUSED = [nn.BatchNorm2d(2), nn.ELU(0.3), nn.Softplus(beta=5), nn.Softplus(threshold=1), Twice(2, 2),
           Residual(nn.Linear(2, 2)), RowsAboveConv2d(1, 2, 3, "B"), nn.Upsample(size=4),
           nn.Upsample(scale_factor=(2, 2)), nn.Upsample(scale_factor=1.5), nn.Flatten(2), nn.Unflatten(2, (1, 2, 2))]


@pytest.mark.parametrize("layer", REFUSED, ids=repr)
def test_a_layer_the_browser_cannot_run_is_refused_by_name(layer):
    with pytest.raises(ValueError, match=f"cannot run {type(layer).__name__}"):
        pack_network(nn.Sequential(nn.Linear(2, 2), layer))


def test_decoders_draw_in_evaluation_mode_and_stay_as_they_were(examples):
    network = nn.Sequential(nn.Linear(2, 256), nn.BatchNorm1d(256), nn.Dropout(0.9), nn.Sigmoid())
    codes, sheets, before = torch.randn(9, 2), torch.rand(9, 1, 16, 16), deepcopy(network.state_dict())
    explorer = widgets.latent_explorer({"A": network}, {"A": codes}, torch.arange(9), shape=(1, 16, 16), priors="A")
    frames = explorer.data["models"][0]["frames"]
    with torch.no_grad():
        expected = deepcopy(network).eval()(torch.tensor([[-3.5, -3.5]]))[0]
    assert np.abs(np.frombuffer(frames["bytes"], np.uint8)[:256] / 255 - expected.numpy()).max() < 0.51 / 255
    assert network.training and all(network.state_dict()[name].equal(value) for name, value in before.items())
    del network[1]                                             # what is left can be packed
    way = widgets.interpolation(network, codes, sheets, torch.arange(9))
    lab = widgets.posterior_lab(network, sheets[:1], log_joint, codes[:1], codes[:1].exp())
    for demo in (explorer, way, lab):
        assert demo.png() == demo.png(), "no dropout"
    first = way.png()
    with torch.no_grad():
        network[0].bias += 5                                   # as when training goes on
    assert way.png() == first, "the picture is that of the weights which the browser has"


@node
def test_of_the_questions_that_wait_the_newest_wins_and_late_answers_are_dropped(tmp_path):
    script = """const sent = [], heard = [];
        let listen;
        const model = { send: (message) => sent.push(message), on: (event, listener) => { listen = listener; } };
        const ask = course.asker(model, (bytes, question) => heard.push([bytes, question]));
        const answer = (number) => listen({ answer: sent[number - 1].ask, question: sent[number - 1].question },
          [`bytes ${number}`]);
        for (let k = 1; k <= 6; k++) ask(`q${k}`);
        const before = sent.map((message) => message.question);
        answer(2); answer(1); answer(3); answer(4); answer(4);
        return [before, sent.map((message) => message.question), heard, course.asker({}, () => 0)];"""
    before, after, heard, none = run_node(tmp_path, "kl_explorer", script, None)
    assert before == ["q1", "q2", "q3"], "three under way"
    assert after == ["q1", "q2", "q3", "q6"], "of q4, q5 and q6 only the newest is asked"
    assert heard == [["bytes 2", "q2"], ["bytes 3", "q3"], ["bytes 4", "q6"]], "q1 came late, 4 twice"
    assert none is None, "no kernel, no asker"


@node
def test_each_view_hears_its_own_answers_until_it_is_gone(tmp_path):
    script = """const sent = [], heard = [], listeners = new Set();
        const model = { send: (message) => sent.push(message), on: (_, listener) => listeners.add(listener),
          off: (_, listener) => listeners.delete(listener) };
        const ask = [0, 1].map((view) => course.asker(model, (bytes, question) => heard.push([view, question])));
        const answer = ({ ask, question }) => listeners.forEach((listener) => listener({ answer: ask, question }, [0]));
        ask[0]("a"); ask[1]("b");
        answer(sent[1]); answer(sent[0]);
        ask[0].stop();
        return [heard, listeners.size];"""
    assert run_node(tmp_path, "kl_explorer", script, None) == [[[1, "b"], [0, "a"]], 1]


@node
def test_a_painter_that_was_stopped_paints_no_more(tmp_path):
    script = """let asked = 0, drawn = 0;
        globalThis.requestAnimationFrame = () => ++asked;
        globalThis.cancelAnimationFrame = () => {};
        const model = { get: (name) => (name === "sliders" ? [] : undefined), on() {}, off() {} };
        const paint = course.painter(model, { dataset: {} }, () => { drawn++; });
        paint.stop(); paint.again();
        return [drawn, asked];"""
    assert run_node(tmp_path, "kl_explorer", script, None) == [1, 0]


# ---- KL explorer -----------------------------------------------------------------------------------------------------
def integral(f, mu, sigma):
    """Gauss–Legendre on many short pieces: another rule on other points than the demo's."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = np.unique(np.concatenate([np.linspace(-40, 40, 161), mu + sigma * np.linspace(-9, 9, 73)]))
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    return float((half[:, None] * weights * f(middle[:, None] + half[:, None] * nodes)).sum())


@node
def test_kl_explorer_in_javascript_is_exact(tmp_path, examples):
    demo, truth = examples["kl_explorer"], densities.two_bumps()
    mus, sigmas = ((s.low, s.low + 0.6 * (s.high - s.low), s.high) for s in demo.sliders)
    places = [(mu, sigma) for mu in mus for sigma in sigmas]
    script = """const logP = unpack(given.log_p);
        return given.places.map(([mu, sigma]) =>
          demo.divergences({ low: given.grid[0], step: given.grid[1], logP }, mu, sigma));"""
    got = run_node(tmp_path, "kl_explorer", script,
                   {"log_p": demos._as_text(demo.data["log_p"]), "grid": demo.data["grid"], "places": places})

    def log_p(x):
        return truth.log_prob(torch.tensor(x)).numpy()

    for (mu, sigma), numbers in zip(places, got, strict=True):
        def log_q(x, mu=mu, sigma=sigma):
            return -0.5 * ((x - mu) / sigma) ** 2 - np.log(sigma * np.sqrt(2 * np.pi))

        def log_m(x, log_q=log_q):
            return np.logaddexp(log_p(x), log_q(x)) - np.log(2)

        def kl(log_a, log_b, mu=mu, sigma=sigma):
            return integral(lambda x: np.exp(log_a(x)) * (log_a(x) - log_b(x)), mu, sigma)

        expected = [kl(log_p, log_q), kl(log_q, log_p), (kl(log_p, log_m) + kl(log_q, log_m)) / 2]
        assert numbers == pytest.approx(expected, abs=1e-6)


def test_kl_explorer_marks_the_best_forecasts(examples):
    data = examples["kl_explorer"].data
    forward, backward, _ = data["best"]
    truth = densities.two_bumps()
    assert forward[0] == pytest.approx((truth.mean.item(), truth.stddev.item()), abs=1e-3), "moment matching"
    assert sorted(round(mu) for mu, _ in backward) == [-2, 2], "one bump or the other"


def test_kl_explorer_wants_one_density_over_the_line():
    with pytest.raises(ValueError, match="one density over the real line"):
        widgets.kl_explorer(densities.eight_gaussians())
    with pytest.raises(ValueError, match="above 0 everywhere"):
        widgets.kl_explorer(torch.distributions.Uniform(0.0, 1.0, validate_args=False))
    either = torch.distributions.Categorical(torch.ones(2))
    bumps = torch.distributions.Normal(torch.tensor([-2.0, 2.0]), 0.005)
    with pytest.raises(ValueError, match="step 0.025 the truth sums to 0.*wider bumps"):
        widgets.kl_explorer(torch.distributions.MixtureSameFamily(either, bumps))


# ---- chapter 02 ------------------------------------------------------------------------------------------------------
def test_pixel_order_names_what_does_not_fit():
    image, p = torch.zeros(4, 4), torch.full((4, 4, 2), 0.5)
    context, order = torch.zeros(16, 16, dtype=torch.bool), torch.arange(16)
    widgets.pixel_order(image, {"m": p}, {"m": context}, {"m": order.flip(0)})
    with pytest.raises(ValueError, match=r"m: expected probabilities \(H, W, K\)"):
        widgets.pixel_order(image, {"m": p[:3]}, {"m": context})
    with pytest.raises(ValueError, match="m: expected a context of shape"):
        widgets.pixel_order(image, {"m": p}, {"m": context[:3]})
    with pytest.raises(ValueError, match="names each of the 16 pixels once"):
        widgets.pixel_order(image, {"m": p}, {"m": context}, {"m": order * 0})
    with pytest.raises(ValueError, match="levels 0, 1"):
        widgets.pixel_order(image + 0.5, {"m": p}, {"m": context})
    with pytest.raises(ValueError, match=r"must name the same models, got \['m', 'n'\], \['m'\] and \[\]"):
        widgets.pixel_order(image, {"m": p, "n": p}, {"m": context})
    with pytest.raises(ValueError, match="must name the same models"):
        widgets.pixel_order(image, {"m": p}, {"m": context}, {"raster": order})
    with pytest.raises(ValueError, match="share a number K of levels, got {'m': 2, 'n': 3}"):
        widgets.pixel_order(image, {"m": p, "n": torch.ones(4, 4, 3) / 3}, {"m": context, "n": context})


def test_pixel_order_starts_at_the_same_pixel_in_every_order():
    image, p, context = torch.zeros(4, 4), torch.full((4, 4, 2), 0.5), torch.zeros(16, 16, dtype=torch.bool)
    raster, backwards = (widgets.pixel_order(image, {"m": p}, {"m": context}, {"m": order}).sliders[0].value
                         for order in (torch.arange(16), torch.arange(16).flip(0)))
    assert (raster, backwards) == (10, 5)


def test_completion_names_what_does_not_fit():
    originals, known = torch.zeros(2, 4, 4), torch.zeros(4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"expected endings \(2, 2, 'M', 4, 4\)"):
        widgets.completion(originals, known, torch.zeros(2, 3, 5, 4, 4), [0.5, 1])
    with pytest.raises(ValueError, match="rising order"):
        widgets.completion(originals, known, torch.zeros(2, 2, 5, 4, 4), [1, 0.5])
    endings = torch.zeros(2, 2, 5, 4, 4)
    with pytest.raises(ValueError, match=r"bits for each ending, \(2, 2, 5\), got \(2, 2\)"):
        widgets.completion(originals, known, endings, [0.5, 1], bits=torch.zeros(2, 2))
    known[:2] = True
    for order in (torch.arange(15), torch.arange(16).clamp(9), torch.arange(17)):
        with pytest.raises(ValueError, match="names each of the 8 hidden pixels once"):
            widgets.completion(originals, known, endings, [0.5, 1], order=order)


@pytest.mark.parametrize("order", [None, range(16), range(8, 16)])
def test_completion_takes_known_as_integers_and_any_full_order(order):
    known = (torch.arange(16).view(4, 4) < 8).int()
    demo = widgets.completion(torch.zeros(2, 4, 4), known, torch.zeros(2, 2, 5, 4, 4), [0.5, 1], order=order)
    assert np.frombuffer(demo.data["order"]["bytes"], np.int32).tolist() == list(range(8, 16))
    assert demo.data["known"]["dtype"] == "bool"


# ---- chapters 03 and 04: what does not fit is named ------------------------------------------------------------------
def test_latent_demos_name_what_does_not_fit():
    network, codes, labels = nn.Linear(3, 16), torch.randn(9, 3), torch.arange(9)
    shape, images = (1, 4, 4), torch.zeros(9, 1, 4, 4)
    with pytest.raises(ValueError, match="name the same models"):
        widgets.latent_explorer({"A": network}, {"B": codes}, labels, shape=shape)
    with pytest.raises(ValueError, match=r"drawn to name some of \['A'\], got \['B'\]"):
        widgets.latent_explorer({"A": network}, {"A": codes}, labels, shape=shape, drawn=("B",))
    with pytest.raises(ValueError, match="share a number of latents"):
        widgets.latent_explorer({"A": network, "B": network}, {"A": codes, "B": codes[:, :2]}, labels, shape=shape)
    with pytest.raises(ValueError, match=r"got codes {'A': \(9, 3\), 'B': \(8, 3\)} and labels \(9,\)"):
        widgets.latent_explorer({"A": network, "B": network}, {"A": codes, "B": codes[:8]}, labels, shape=shape)
    for latents in ([0], [0, 3], [-1, 0], [1, 1], range(13)):
        with pytest.raises(ValueError, match="expected 2 to 12 different latents from 0 to 2"):
            widgets.latent_explorer({"A": network}, {"A": codes}, labels, shape=shape, latents=latents)
    with pytest.raises(ValueError, match=r"the shape \(1, H, W\) or \(3, H, W\) of an image, got \(4, 4\)"):
        widgets.latent_explorer({"A": network}, {"A": codes}, labels, shape=(4, 4))
    with pytest.raises(ValueError, match=r"an image \(1, 5, 5\) has 25 numbers, the decoder gives 16"):
        widgets.latent_explorer({"A": network}, {"A": codes}, labels, shape=(1, 5, 5))
    with pytest.raises(ValueError, match=r"2 or more latents .* got \(9, 1\)"):
        widgets.interpolation(nn.Linear(1, 16), codes[:, :1], images, labels)
    with pytest.raises(ValueError, match="same 3 or more images, got 9, 2, 9"):
        widgets.interpolation(network, codes, images[:2], labels)
    with pytest.raises(ValueError, match=r"mu, sigma \(K, 2\), got"):
        widgets.posterior_lab(network, images, log_joint, codes, codes)
    with pytest.raises(ValueError, match=r"log_joint gives \(1, 10201\) for 9 images"):
        widgets.posterior_lab(network, images, lambda x, z: z[None, :, 0], codes[:, :2], codes[:, :2].exp())
    sheets = torch.zeros(2, 3, 3, 1, 4, 4)
    with pytest.raises(ValueError, match="as many manifolds"):
        widgets.beta_shelf([1, 2, 3], sheets, [1, 2], [3, 4])
    with pytest.raises(ValueError, match="positive betas in rising order"):
        widgets.beta_shelf([2, 1], sheets, [1, 2], [3, 4])
    with pytest.raises(ValueError, match=r"grey images, got \(2, 3, 3, 3, 4, 4\)"):
        widgets.beta_shelf([1, 2], sheets.expand(2, 3, 3, 3, 4, 4), [1, 2], [3, 4])
    with pytest.raises(ValueError, match=r"scores \(N, K\) for 2 names and 2 criteria"):
        widgets.ranking(["a", "b"], ["c", "d"], torch.zeros(2, 3), {})
    with pytest.raises(ValueError, match="scores from 0 to 1"):
        widgets.ranking(["a", "b"], ["c", "d"], [[0, 1], [2, 0]], {})


# ---- posterior lab ---------------------------------------------------------------------------------------------------
def terms_in_javascript(tmp_path, data, places):
    """Reconstruction and KL of the first image for each (mu, sigma)."""
    script = """const grids = given.squares.map((w) => ({ step: w.step, size: w.size,
          low: w.centre.map((c) => c - w.half), values: unpack(w.log_joint) }));
        return given.places.map(([mu, sigma]) => demo.terms(grids, given.nodes, given.weights, mu, sigma));"""
    return run_node(tmp_path, "posterior_lab", script, {
        "squares": demos._as_text([data["windows"][0], data["planes"][0]]), "places": places,
        "nodes": data["nodes"], "weights": data["weights"]})


@node
def test_posterior_lab_in_javascript_follows_a_trained_decoder(tmp_path):
    """Against a fine grid around each q. −150 to −900 nats agree to 0.02 inside the window, to 0.1 outside."""
    model, painter = finished("vae", vae.vae_784_400_2())
    x = images.to_float(images.binarised(images.load("handwriting", n=1), seed=0).test.images[:1])
    with torch.no_grad():
        q = model.encoder(x)
        log_joint = lambda x, grid: vae.log_joint_on_grid(x, model.decoder, model.prior, grid)  # noqa: E731
        demo = widgets.posterior_lab(painter, x, log_joint, q.mean, q.stddev, [0])
    mean, spread = q.mean[0], q.stddev[0]
    inside = [(mean, spread), (mean + spread, spread / 2), (mean - spread, 0.1 * spread)]
    outside = [([0.0, 0.0], [1.0, 1.0]), ([4.0, 4.0], [0.3, 0.3]), ([-4.0, 2.0], [1.5, 0.05]),
               ([3.0, -4.0], [1.5, 1.5])]
    outside = [(torch.tensor(mu), torch.tensor(sigma)) for mu, sigma in outside]
    places = [(mu.tolist(), sigma.tolist()) for mu, sigma in inside + outside]
    got = terms_in_javascript(tmp_path, demo.data, places)
    for k, ((mu, sigma), numbers) in enumerate(zip(inside + outside, got, strict=True)):
        steps = torch.linspace(-5, 5, 81)
        weight = (-steps.square() / 2).softmax(0)
        grid = torch.cartesian_prod(mu[0] + sigma[0] * steps, mu[1] + sigma[1] * steps)
        with torch.no_grad():
            likelihood = model.decoder(grid).log_prob(x.expand(len(grid), *x.shape[1:])).view(81, 81)
        expected = (weight @ likelihood @ weight).item()
        assert numbers["reconstruction"] == pytest.approx(expected, abs=0.02 if k < len(inside) else 0.1)


@node
def test_posterior_lab_in_javascript_is_exact(tmp_path, examples):
    """The first example's posterior is a Gaussian, log p(x) is -90: ELBO = -90 - KL(q || posterior) in closed form."""
    data = examples["posterior_lab"].data
    assert data["windows"][0]["log_evidence"] == pytest.approx(-90, abs=1e-3)
    assert data["names"] == ["1", "4"]
    places = [([0.6, -0.4], [0.5, 0.3]), ([0.2, 0.1], [0.2, 0.1]), ([0.8, -0.8], [0.05, 0.35]),
              ([0.6, -0.4], [0.01, 0.01]), ([0.0, 0.0], [1.0, 1.0]), ([4.0, 4.0], [0.3, 0.3]),
              ([-4.0, 4.0], [1.5, 1.5]), ([4.0, -4.0], [0.01, 1.5])]
    got = terms_in_javascript(tmp_path, data, places)
    posterior = torch.distributions.MultivariateNormal(
        torch.tensor([0.6, -0.4]), torch.tensor([[0.3, 0.1], [0.1, 0.2]]))
    prior = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    for (mu, sigma), numbers in zip(places, got, strict=True):
        q = torch.distributions.MultivariateNormal(torch.tensor(mu), torch.tensor(sigma).square().diag())
        assert numbers["kl"] == pytest.approx(torch.distributions.kl_divergence(q, prior).item(), abs=1e-4)
        elbo = numbers["reconstruction"] - numbers["kl"]
        expected = -90 - torch.distributions.kl_divergence(q, posterior).item()
        assert elbo == pytest.approx(expected, abs=2e-3)


@node
def test_spline_flow_in_javascript_is_pythons(tmp_path):
    """f and f' at 200 points, for knots that rise and for knots that have to be pushed up; and mass 1 of p(x)."""
    family = sys.modules["course_utils.widgets.spline_flow"]

    at = np.linspace(-3.6, 3.6, 200)
    for heights in (family.START, (2.9, -2.9, 0.0, 0.0, 2.0), (-2.9,) * 5, (2.9,) * 5):
        data = {"places": family.PLACES, "end": family.END, "gap": family.GAP}
        script = "return given.at.map((v) => demo.spline.at(demo.spline.knots(given.data, given.heights), v))"
        got = np.array(run_node(tmp_path, "spline_flow", script, {"at": at.tolist(), "data": data, "heights": heights}))
        f, slope = family.curve(at, heights)
        np.testing.assert_allclose(got, np.stack([f, slope], 1), atol=1e-9)
        assert (slope > 0).all(), "the curve rises"
        fine = np.linspace(-9, 9, 40_001)
        f, slope = family.curve(fine, heights)
        mass = (np.exp(-0.5 * f**2) / np.sqrt(2 * np.pi) * slope).sum() * (fine[1] - fine[0])
        assert abs(mass - 1) < 2e-3


def test_flow_demos_name_what_does_not_fit():
    stages = [(torch.zeros(9, 2), torch.zeros(9))] * 3
    with pytest.raises(ValueError, match="at least one flow"):
        widgets.layer_morph({}, side=3)
    with pytest.raises(ValueError, match=r"bent: expected stages of 16 points"):
        widgets.layer_morph({"bent": stages}, side=4)
    frames = torch.rand(1, 2, 3, 4, 1, 5, 5)
    with pytest.raises(ValueError, match=r"expected frames \(2, 2, 3, M, 1, H, W\)"):
        widgets.flow_images(frames, [0.0, 1.0], [-1.0, 0.0, 1.0], ["one", "two"])
    with pytest.raises(ValueError, match="two or more strengths that rise"):
        widgets.flow_images(frames, [0.0, 1.0], [1.0, 0.0, -1.0], ["one"])


# ---- diffusion -------------------------------------------------------------------------------------------------------
def plain(demo):
    """The mixture of a demo as JavaScript gets it, in lists."""
    return {name: demos._as_text(demo.data[name]) for name in ("weights", "means", "variances")}


@node
def test_score_field_in_javascript_is_exact(tmp_path, examples):
    places = [[0.2, -0.1], [-2.0, 1.5], [1.1, -0.9]]
    script = """const world = Object.fromEntries(Object.entries(given.world).map(([k, v]) => [k, unpack(v)]));
        return given.angles.map((a) => given.places.map((p) => demo.inspect(world, p, Math.cos(a), Math.sin(a))));"""
    angles = [0.1, 0.8, 1.5]
    got = run_node(tmp_path, "score_field", script,
                   {"world": plain(examples["score_field"]), "places": places, "angles": angles})
    x, mixture = torch.tensor(places, dtype=torch.float64), blobs()
    for angle, row in zip(angles, got, strict=True):
        alpha_bar = np.cos(angle) ** 2
        clean = mixture.clean_given(x, alpha_bar)
        means = torch.tensor([one["mean"] for one in row]).double()
        torch.testing.assert_close(means, clean.mean, rtol=1e-5, atol=1e-6)
        found = torch.tensor([[one["logp"], one["variance"]] for one in row]).double()
        expected = torch.stack([mixture.noised(alpha_bar).log_prob(x), clean.variance.sum(1)], 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@node
@pytest.mark.parametrize("steps, noise, share", [(1, 0, 1), (8, 0, 1), (8, 1.5, 0.5), (40, 3, 1)])
def test_particles_in_javascript_walk_as_in_torch(tmp_path, examples, steps, noise, share):
    demo = examples["particles"]
    script = """const world = Object.fromEntries(Object.entries(given.world).map(([k, v]) => [k, unpack(v)]));
        const { start, shakes, steps, noise, share } = given;
        return Array.from(demo.walk(world, unpack(start), unpack(shakes), steps, noise, share));"""
    start, shakes = (demos._as_text(demo.data[name]) for name in ("start", "shakes"))
    got = run_node(tmp_path, "particles", script, {"world": plain(demo), "start": start, "shakes": shakes,
                                                   "steps": steps, "noise": noise, "share": share})
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(60, 2, generator=generator)
    noises = torch.randn(40, 60, 2, generator=generator).half()
    expected = walk(blobs(), first.double(), noises.double(), steps, noise, share)
    torch.testing.assert_close(torch.tensor(got).double().view(-1, 2), expected, rtol=1e-5, atol=1e-5)


def test_diffusion_demos_name_what_does_not_fit():
    with pytest.raises(ValueError, match="in the plane"):
        widgets.score_field(densities.two_bumps())
    with pytest.raises(ValueError, match="F values and P names"):
        widgets.film(torch.zeros(3, 1, 2, 1, 4, 4), values=[0, 1], axis="t", names=["x"])
    with pytest.raises(ValueError, match="of 1 or 3 channels"):
        widgets.film(torch.zeros(3, 1, 2, 2, 4, 4), values=[0, 1, 2], axis="t", names=["x"])
    with pytest.raises(ValueError, match="start among them"):
        widgets.film(torch.zeros(3, 1, 2, 1, 4, 4), values=[0, 1, 2], axis="t", names=["x"], start=3)
    with pytest.raises(ValueError, match="schedules of one length"):
        widgets.noise_slider(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4), {"a": torch.ones(3), "b": torch.ones(4)},
                             ask="", options=[], right=0, answer="")
