"""How long a demo takes to follow the hand, measured in a real browser: ``course bench widgets``.

A mouse is pressed on a handle or slider and moved 150 times at 60 Hz. For each move the page notes when the browser
received it and which slider values it asked for, and when the frame starts that shows those values: the frame that
draws them, or the next one where they are drawn between two frames, as what Python computed is. Latency is the time
between the two. Browsers hand a move to the page when a frame starts, so up to a frame of it (16.7 ms at 60 Hz) passes
before any of our code runs. Two more columns tell of the drawing: "drawn" is the time until it is done, "ours" the part
of that which follows the first event that the page got. A bare demo, which shows its number and asks the kernel for one
byte, is measured in the same run: what it takes is the machine's, and "times bare" is what a real demo adds.
"""

import statistics
import tempfile
from pathlib import Path

from matplotlib.figure import Figure

from course_utils.commands.lab import browser
from course_utils.commands.lab.lab import PROMPT
from course_utils.widgets.demo import Demo, Slider

IMPORTS = """import torch
from torch import nn
from course_utils.data import densities
from course_utils.nn.conv import ConvDecoder
from course_utils.nn.mlp import MLP
from course_utils import widgets
from course_utils.commands.bench import latency
torch.manual_seed(0)
codes, codes20, labels = torch.randn(1500, 2), torch.randn(1500, 20), torch.arange(1500) % 10
mlp, mlp20 = (nn.Sequential(MLP([n, 400, 784]), nn.Sigmoid()) for n in (2, 20))
convolutions = nn.Sequential(ConvDecoder(20, (1, 28, 28)), nn.Sigmoid())
images, zeros = torch.rand(60, 1, 28, 28), torch.zeros(6, 2)
bowl = lambda x, grid: -8 * grid.square().sum(1).expand(len(x), -1)
codes[:2] = torch.tensor([[-5.0, 0.0], [5.0, 0.0]])  # ends of a way that a hand can go along from left to right
unknown = nn.Sequential(nn.LayerNorm(2), mlp)  # not to the browser, so that Python decodes"""
# What is measured: where the picture is computed, the cell, and the bar for p95 in milliseconds.
CASES = {
    "bare": ("browser", "latency.bare(asks=False)", 17.0),
    "kl_explorer": ("browser", "widgets.kl_explorer(densities.two_bumps())", 17.0),
    "latent_explorer": ("browser", "widgets.latent_explorer({'VAE': mlp}, {'VAE': codes}, labels)", 17.0),
    "latent_explorer, 12 sliders": (
        "browser", "widgets.latent_explorer({'A': mlp20, 'VAE': mlp20}, {'A': codes20, 'VAE': codes20}, labels)", 17.0),
    "latent_explorer, convolutions": (
        "browser", "widgets.latent_explorer({'VAE': convolutions}, {'VAE': codes20}, labels)", 17.0),
    "posterior_lab": ("browser", "widgets.posterior_lab(mlp, images[:6], bowl, zeros, zeros + 0.25)", 17.0),
    "interpolation": ("browser", "widgets.interpolation(mlp, codes[:60], images, torch.arange(60))", 17.0),
    "beta_shelf": ("browser", "widgets.beta_shelf([0.1, 0.3, 1, 3, 10, 30], torch.rand(6, 11, 11, 1, 28, 28), "
                              "[60, 50, 40, 30, 20, 10], [80, 82, 86, 94, 110, 142])", 17.0),
    "bare, one byte": ("kernel", "latency.bare()", 50.0),
    "latent_explorer, LayerNorm": ("kernel", "widgets.latent_explorer({'VAE': unknown}, {'VAE': codes}, labels)", 50.0),
}
BARE = {"browser": "bare", "kernel": "bare, one byte"}
SHOWN = 0.95  # of the values asked for, where the browser computes; the kernel may leave out all but the newest
# What is dragged, and along what: in each case the first of its kind, but for those named here.
TARGETS = {"handle": (".course-demo .handle", ".course-demo .stage"),
           "ipywidgets slider": (".widget-slider .noUi-handle", ".widget-slider .noUi-target")}
INSTEAD = {("interpolation", "handle"): "[aria-label='place between A and B']",  # the others jump from dot to dot
           ("beta_shelf", "handle"): None}                                       # jumps too, between six dots

PROBE = """(root, attribute) => {
  const seen = window.__latency = { asked: {}, shown: {}, on: true };
  const asked = () => {
    const { model } = root;
    return JSON.stringify(Object.fromEntries(model.get("sliders").map(({ name }) => [name, model.get(name)])));
  };
  let before = asked();
  // Listeners on the window run last, after the demo's or the slider's own have set the new value. ipywidgets' slider
  // acts on mousemove, our handles on pointermove.
  for (const kind of ["pointermove", "mousemove"]) window.addEventListener(kind, (event) => {
    if (!seen.on) return;
    const now = asked();
    if (now !== before && !(now in seen.asked)) seen.asked[now] = [event.timeStamp, performance.now()];
    before = now;
  });
  // Told as soon as the drawing is done. A demo draws at the start of a frame, and an answer of the kernel at any time:
  // then the next frame is the first that shows it.
  new MutationObserver(() => {
    const value = root.getAttribute(attribute), drawn = performance.now();
    if (value in seen.shown) return;
    seen.shown[value] = [document.timeline.currentTime, drawn];
    if (attribute === "data-answered") requestAnimationFrame((frame) => { seen.shown[value][0] = frame; });
  }).observe(root, { attributeFilter: [attribute] });
}"""
REPORT = "() => { const seen = window.__latency; seen.on = false; return seen; }"


def bare(asks=True):
    """A demo that does nothing but show a number and, if it ``asks``, get one byte from the kernel."""
    return Demo("bare", sliders=[Slider("x", "x", 0, 1, 0.5, 0.0025)], data={"asks": asks},
                picture=lambda values: Figure(figsize=(3, 0.6)), answer=lambda question: bytearray(1),
                alt="A handle and nothing else.")


def measure(page, cell, target, track, where="browser", dx=-150, moves=150):
    """Drag ``target`` in ``cell`` by ``dx`` pixels; a dictionary of the times above, ``shown`` and ``asked``.

    ``asked`` counts the values the drag asked for, ``shown`` is the share of them that a frame showed.
    """
    knob = cell.locator(target).first
    knob.scroll_into_view_if_needed()
    box, track = knob.bounding_box(), cell.locator(track).first.bounding_box()
    if box["x"] + box["width"] / 2 < track["x"] + track["width"] / 2:
        dx = -dx  # there is more room on the other side
    cell.locator(".course-demo").evaluate(PROBE, "data-shown" if where == "browser" else "data-answered")
    browser.drag(page, knob, dx, moves=moves)
    page.wait_for_timeout(500)
    seen = page.evaluate(REPORT)
    both = [(frame - moved, drawn - moved, drawn - handled) for (moved, handled), (frame, drawn) in
            ((asked, seen["shown"][value]) for value, asked in seen["asked"].items() if value in seen["shown"])]
    if len(both) < 2:
        raise RuntimeError(f"the drag on {target} moved nothing: {len(seen['asked'])} values were asked for, "
                           f"{len(both)} of them shown")
    waits, drawn, ours = zip(*both, strict=True)
    return {"p50_ms": statistics.median(waits), "p95_ms": _p95(waits), "drawn_p95_ms": _p95(drawn),
            "ours_p95_ms": _p95(ours), "shown": len(both) / len(seen["asked"]), "asked": len(seen["asked"])}


def _p95(values):
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def run(apps=("lab", "notebook"), moves=150):
    """Measures of every case in JupyterLab and Notebook 7, handle and slider: ``{(app, case, target): measures}``."""
    if reason := browser.missing():
        raise RuntimeError(reason)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        browser.write_notebook(Path(folder) / "latency.ipynb", IMPORTS, *(cell for _, cell, _ in CASES.values()))
        with browser.Jupyter(folder, PROMPT) as server, browser.browser() as context:
            for app in apps:
                page = context.new_page()
                browser.open_notebook(page, server.url("latency.ipynb", app))
                browser.run_all(page, demos=len(CASES))
                page.wait_for_timeout(1000)  # let the first layout settle
                for k, (case, (where, _, _)) in enumerate(CASES.items()):
                    cell = page.locator(".jp-CodeCell").nth(k + 1)
                    for name, (target, track) in TARGETS.items():
                        if target := INSTEAD.get((case, name), target):
                            rows[app, case, name] = measure(page, cell, target, track, where, moves=moves)
                page.close()
    return rows


def benchmark(setting):
    """The rows of ``course bench widgets``; ``setting`` changes nothing, a mouse has no budget."""
    rows = run()
    for (app, case, target), row in rows.items():
        where, _, bar = CASES[case]
        floor = rows[app, BARE[where], target]["p95_ms"]
        good = row["p95_ms"] <= bar and (row["shown"] >= SHOWN or where == "kernel")
        yield {"front end": app, "demo": case, "dragged": target, "computed in": where,
               "p50 ms": round(row["p50_ms"], 1), "p95 ms": round(row["p95_ms"], 1), "bar ms": bar,
               "times bare": round(row["p95_ms"] / floor, 2),
               "drawn, p95 ms": round(row["drawn_p95_ms"], 1), "ours, p95 ms": round(row["ours_p95_ms"], 1),
               "shown": f"{row['shown']:.0%} of {row['asked']}", "met": "yes" if good else "no"}
