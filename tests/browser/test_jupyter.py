"""Every demo in a real JupyterLab and in Notebook 7: drag, press keys, and ask which values are shown."""

import json

import nbformat
import pytest
import torch
from browser.examples import EXAMPLES
from browser.pixels import is_drawn

from course_utils import exercises
from course_utils.commands.build import quotes
from course_utils.commands.lab import browser, copies

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


@pytest.mark.parametrize("app", ["lab", "notebook"])
def test_in_jupyter(jupyter, page, app):
    browser.open_notebook(page, jupyter.url("all.ipynb", app))
    page.troubles.clear()  # what the stock front end complains about while it starts
    browser.run_all(page, demos=len(EXAMPLES))
    assert page.troubles == [], "while the demos are drawn first"
    for k, name in enumerate(EXAMPLES):
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
    browser.open_notebook(page, jupyter.url("one.ipynb", "lab"))
    browser.run_all(page)
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


SHOWN = """() => [...document.querySelectorAll('.jp-OutputArea-child')].filter((e) => e.offsetHeight)
  .map((e) => e.querySelector('.course-demo') ? 'live' : e.querySelector('.course-still') ? 'page' : e.innerText)"""


def save(page):
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


def reopen(page, url):
    """Open a notebook that was run before, without a kernel if it has none; what its outputs show."""
    page.goto(url)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    page.wait_for_selector(".course-still", state="attached", timeout=30_000)
    page.wait_for_timeout(4000)                       # longer than Jupyter looks for the widget
    return page.evaluate(SHOWN)


def test_a_reopened_notebook_shows_the_demo_and_no_error(jupyter, page):
    """While the kernel lives, after it is gone, and where nobody trusts the notebook; without a click."""
    names = ("kl_explorer", "latent_explorer_in_python")
    cells = [f"print('above')\nEXAMPLES['{name}']()" for name in names]
    browser.write_notebook(jupyter.folder / "saved.ipynb", "from browser.examples import EXAMPLES", *cells)
    browser.open_notebook(page, jupyter.url("saved.ipynb", "lab"))
    browser.run_all(page, demos=2)
    page.wait_for_timeout(1500)
    assert page.evaluate(SHOWN) == ["above\n", "live"] * 2, "the page stays unseen beside the widget"
    assert page.locator(".Toastify__toast").count() == 0, "nothing lies over the page in a fresh home"
    save(page)
    for _ in range(3):
        assert reopen(page, jupyter.url("saved.ipynb", "lab")) in (
            [["above\n", a, "above\n", b] for a in ("live", "page") for b in ("live", "page")])
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    for app in ("lab", "notebook"):
        assert reopen(page, jupyter.url("saved.ipynb", app)) == ["above\n", "page"] * 2
        for still, name in zip(page.locator(".course-still").all(), names, strict=True):
            assert not still.locator("img").is_visible()
            still.scroll_into_view_if_needed()
            frame = still.locator("iframe").element_handle().content_frame()
            frame.wait_for_selector(".course-demo[data-shown]")
            demo = EXAMPLES[name]()
            assert browser.shown(frame) == {s.name: s.value for s in demo.sliders}
            before = drawn(frame)
            frame.locator("input").first.focus()
            page.keyboard.press("PageUp")             # the frames baked beforehand stand a tenth of the way apart
            settle(page)
            assert drawn(frame) != before, f"{name} is live"
    page.goto("about:blank")
    stranger = (jupyter.folder / "saved.ipynb").read_text().replace("print('above')", "print('below')")
    (jupyter.folder / "stranger.ipynb").write_text(stranger)
    page.goto(jupyter.url("stranger.ipynb", "lab"))
    page.wait_for_selector(".jp-OutputArea-output img", timeout=90_000)
    page.wait_for_timeout(3000)
    pictures = page.locator(".jp-OutputArea-output img")
    assert pictures.count() == 2 and all(picture.is_visible() for picture in pictures.all())
    assert page.locator("iframe").count() == 0 and not page.get_by_text("Error displaying").is_visible()


def drawn(frame):
    return frame.evaluate("() => [...document.querySelectorAll('canvas')].map((c) => c.toDataURL()).join()")


def test_answers_that_moved_on_pass_in_lab(jupyter, page, tmp_path):
    """A copy from an edition whose imports are gone, answered by a student: `course lab` makes one that runs."""
    exercise = {each.id: each for each in exercises.load("01")}["1.1"]
    name, answer = exercise.reference.__name__, quotes.solution(exercise.reference)
    edition = ["import torch\nfrom course_utils.{} import check", quotes.stub(exercise.reference),
               f"check('1.1', {name})"]
    for module in ("gone", "exercises"):
        path = browser.write_notebook(tmp_path / "01_x.ipynb", edition[0].format(module), *edition[1:])
        notebook = nbformat.read(path, as_version=4)
        notebook.cells[1].metadata["exercise"] = "1.1"
        nbformat.write(notebook, path)
        assert [what for _, what in copies.copy_chapters(tmp_path, jupyter.folder / "work")] != []
        if module == "gone":
            browser.open_notebook(page, jupyter.url("work/01_x.ipynb", "lab"))
            page.evaluate("""(answer) => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              notebook.widgets[1].model.sharedModel.setSource(answer);
            }""", answer)
            save(page)
    browser.open_notebook(page, jupyter.url("work/01_x.new.ipynb", "lab"))
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
    said = page.locator(".jp-CodeCell").nth(2).locator(".jp-OutputArea-output")
    said.wait_for(timeout=60_000)
    assert "passed" in said.inner_text() and page.locator(".jp-RenderedText[data-mime-type*=error]").count() == 0


def test_after_a_restart_the_nearest_frame_is_shown(jupyter, page):
    """The kernel that answered is gone: its last picture must not stay for all that follows."""
    browser.open_notebook(page, jupyter.url("python.ipynb", "lab"))
    page.troubles.clear()
    browser.run_all(page)
    cell, demo = page.locator(".jp-CodeCell").nth(1), EXAMPLES["latent_explorer_in_python"]()
    picture = cell.locator("canvas").nth(1)
    page.wait_for_selector(".course-demo[data-answered]")
    page.wait_for_timeout(1300)
    answer = demo.answer({"model": 0, "point": [*browser.shown(cell).values()]})
    assert is_drawn(picture, answer[0] / 255, 240, 0, 0, 240), "Python's picture stays where nothing moves"
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    browser.drag(page, cell.locator(".handle").first, 60, 20, moves=12)
    page.wait_for_timeout(1300)
    frames = torch.frombuffer(bytearray(demo.data["models"][0]["frames"]["bytes"]), dtype=torch.uint8)
    nearest = [int((value + 3.5) / 7 * 14 + 0.5) for value in browser.shown(cell).values()]
    frame = frames.view(15, 15, 16, 16)[tuple(nearest)]
    assert not is_drawn(picture, answer[0] / 255, 240, 0, 0, 240) and is_drawn(picture, frame / 255, 240, 0, 0, 240)
    assert page.troubles == []
