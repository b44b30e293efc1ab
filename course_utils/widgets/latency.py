"""How long a demo takes to follow the hand, measured in a real browser: ``course bench widgets``.

A mouse is pressed on a handle or slider and moved 150 times at 60 Hz. For each move the page notes when the browser
received it and which slider values it asked for; in each frame it notes when the drawing of which values is done.
Latency is the time between the two for the same values.
"""

import statistics
import tempfile
from pathlib import Path

from course_utils.widgets import browser

BARS = {"p95_ms": 17.0, "shown": 0.95}
CELLS = ("from course_utils.data import densities\nfrom course_utils import widgets",
         "widgets.kl_explorer(densities.two_bumps())")
TARGETS = {"handle": ".course-demo .handle", "ipywidgets slider": ".widget-slider .noUi-handle"}

PROBE = """() => {
  const root = document.querySelector(".course-demo");
  const seen = window.__latency = { asked: {}, shown: {}, on: true };
  const asked = () => {
    const { model } = root;
    return JSON.stringify(Object.fromEntries(model.get("sliders").map(({ name }) => [name, model.get(name)])));
  };
  let before = asked();
  // Listeners on the window run last, after the demo's or the slider's own have set the new value. ipywidgets' slider
  // acts on mousemove, our handles on pointermove.
  for (const kind of ["pointermove", "mousemove"]) window.addEventListener(kind, (event) => {
    const now = asked();
    if (seen.on && now !== before && !(now in seen.asked)) seen.asked[now] = event.timeStamp;
    before = now;
  });
  // Told as soon as the frame's drawing is done.
  new MutationObserver(() => {
    const value = root.dataset.shown;
    if (!(value in seen.shown)) seen.shown[value] = performance.now();
  }).observe(root, { attributeFilter: ["data-shown"] });
}"""
REPORT = "() => { const seen = window.__latency; seen.on = false; return seen; }"


def measure(page, target, dx, moves=150):
    """Drag ``target`` by ``dx`` pixels: ``{"p50_ms", "p95_ms", "shown", "asked"}``, ``shown`` a share of ``asked``."""
    page.evaluate(PROBE)
    browser.drag(page, page.locator(target).first, dx, moves=moves)
    page.wait_for_timeout(500)
    seen = page.evaluate(REPORT)
    waits = sorted(seen["shown"][value] - when for value, when in seen["asked"].items() if value in seen["shown"])
    if len(waits) < 2:
        raise RuntimeError(f"the drag on {target} moved nothing: {len(seen['asked'])} values were asked for")
    return {"p50_ms": statistics.median(waits), "p95_ms": statistics.quantiles(waits, n=20, method="inclusive")[-1],
            "shown": len(waits) / len(seen["asked"]), "asked": len(seen["asked"])}


def run(apps=("lab", "notebook"), moves=150):
    """Latency rows for JupyterLab and Notebook 7, by handle and by slider: ``{(app, target): measures}``."""
    if reason := browser.missing():
        raise RuntimeError(reason)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        browser.write_notebook(Path(folder) / "latency.ipynb", *CELLS)
        with browser.Jupyter(folder) as server, browser.browser() as context:
            for app in apps:
                page = context.new_page()
                browser.run_all(page, server.url("latency.ipynb", app))
                page.wait_for_timeout(1000)  # let the first layout settle
                for name, target in TARGETS.items():
                    rows[app, name] = measure(page, target, -180, moves)
                page.close()
    return rows


def benchmark(setting):
    """The rows of ``course bench widgets``; ``setting`` changes nothing, a mouse has no budget."""
    for (app, target), row in run().items():
        good = row["p95_ms"] <= BARS["p95_ms"] and row["shown"] >= BARS["shown"]
        yield {"front end": app, "dragged": target, "p50 ms": round(row["p50_ms"], 1),
               "p95 ms": round(row["p95_ms"], 1), "values shown": f"{row['shown']:.0%} of {row['asked']}",
               "p95 ≤ 17 ms, ≥ 95 %": "yes" if good else "no"}
