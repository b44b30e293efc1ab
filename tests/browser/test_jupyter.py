"""Every demo in a real JupyterLab, the first also in Notebook 7: drag, press keys, and ask which values are shown."""

import json

import pytest
from browser.examples import EXAMPLES

from course_utils.widgets import browser

# one group: tests that run in parallel share the server
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.xdist_group("jupyter")]
ASKED = "(root) => Object.fromEntries(root.model.get('sliders').map((s) => [s.name, root.model.get(s.name)]))"
TELL = """async (name) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const run = kernel.requestExecute({ code: `import json; print(json.dumps(heard["${name}"][-1]))` });
  let text = "";
  run.onIOPub = (message) => { if (message.header.msg_type === "stream") text += message.content.text; };
  await run.done;
  return text;
}"""


def settle(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def knobs(cell, demo):
    """The first handle and the first slider, and how far to drag them: (locator, pixels to the right)."""
    for handle in cell.locator(".course-demo .handle").all()[:1]:
        yield handle, -20
    for slider, knob in list(zip(demo.sliders, cell.locator(".widget-slider .noUi-handle").all(), strict=True))[:1]:
        yield knob, 60 if slider.value < (slider.low + slider.high) / 2 else -60


def exercise(page, cell, demo):
    """Drag and press keys on the demo in ``cell``; the values asked for last are the values shown last."""
    root = cell.locator(".course-demo")
    assert browser.shown(cell) == pytest.approx({s.name: s.value for s in demo.sliders})
    for knob, dx in knobs(cell, demo):
        before = browser.shown(cell)
        for way in (dx, -6 * dx):  # a handle that snaps to places may have none on one side
            browser.drag(page, knob, way, dy=way / 3 if abs(dx) < 60 else 0, moves=12)
            settle(page)
            after = browser.shown(cell)
            if after != before:
                break
        name = f"{demo} {knob}"
        assert after != before, f"dragging {name} changes nothing"
        assert after == root.evaluate(ASKED), f"{name}: the last value is not the one shown"
        knob.focus()
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        settle(page)
        pressed = browser.shown(cell)
        assert pressed != after, f"keys on {name} change nothing"
        assert pressed == root.evaluate(ASKED)
    readouts = [float(text.replace("−", "-")) for text in cell.locator(".widget-readout").all_inner_texts()]
    for slider, readout in zip(demo.sliders, readouts, strict=True):
        value = browser.shown(cell)[slider.name]
        assert readout == pytest.approx(value, abs=0.51 * 10**-slider.digits + 1e-9), "slider and picture disagree"


@pytest.mark.parametrize("app, notebook, names",
                         [("lab", "all", list(EXAMPLES)), ("notebook", "one", list(EXAMPLES)[:1])])
def test_in_jupyter(jupyter, page, app, notebook, names):
    browser.run_all(page, jupyter.url(f"{notebook}.ipynb", app), demos=len(names))
    page.troubles.clear()  # what the stock front end complains about while it starts
    for k, name in enumerate(names):
        cell = page.locator(".jp-CodeCell").nth(k + 1)
        exercise(page, cell, EXAMPLES[name]())
        page.wait_for_timeout(400)
        answered = cell.locator(".course-demo").get_attribute("data-answered")
        assert (answered is not None) == name.endswith("_in_python")
        if answered:
            assert json.loads(answered) == browser.shown(cell), "Python's last picture is that of the last value"
        settled = json.loads(page.evaluate(TELL, name))
        assert settled == pytest.approx(browser.shown(cell)), "Python hears the values at which the hand rested"
        assert page.troubles == [], name


def test_a_drag_leaves_the_kernel_in_peace(jupyter, page):
    """Messages of slider values would stand in the queue before the pictures that Python draws."""
    browser.run_all(page, jupyter.url("one.ipynb", "lab"))
    page.evaluate("""() => {
      window.told = [];
      const { kernel } = window.jupyterapp.shell.currentWidget.sessionContext.session;
      kernel.anyMessage.connect((_, { msg, direction }) => {
        if (direction === "send" && msg.header.msg_type === "comm_msg") window.told.push(msg.content.data.state);
      });
    }""")
    cell = page.locator(".jp-CodeCell").nth(1)
    for target in (".course-demo .handle", ".widget-slider .noUi-handle"):
        page.evaluate("() => { window.told = []; }")
        browser.drag(page, cell.locator(target).first, 40, moves=12)
        page.wait_for_timeout(400)
        told, now = page.evaluate("() => window.told"), browser.shown(cell)
        rests = [state["settled"] for state in told if "settled" in state]
        assert rests[-1] == now and len(rests) <= 3, f"{target}: heard when the hand rests"
        assert len(told) <= len(rests) * (1 + len(now)), f"{target}: each slider tells its value once a rest"
