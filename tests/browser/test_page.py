"""The self-contained form of every demo, in a real Chromium with the network cut."""

import json

import pytest
from browser.examples import EXAMPLES

pytestmark = pytest.mark.browser
SLIDE = "(input, value) => { input.step = 'any'; input.value = value; input.dispatchEvent(new Event('input')); }"


@pytest.fixture(params=EXAMPLES)
def opened(request, page, chromium, tmp_path):
    """(demo, browser page, the demo's frame) with everything but the file itself refused."""
    demo = EXAMPLES[request.param]()
    asked = []
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else (
        asked.append(route.request.url), route.abort()))
    chromium.set_offline(True)
    file = tmp_path / "demo.html"
    file.write_text("<!doctype html><meta charset='utf-8'>" + demo.html(), encoding="utf-8")
    page.goto(file.as_uri())
    frame = page.locator("iframe").element_handle().content_frame()
    frame.wait_for_selector(".course-demo[data-shown]")
    yield demo, page, frame
    chromium.set_offline(False)
    assert asked == [], "a demo asks for nothing from anywhere"
    assert page.troubles == []


def shown(frame):
    frame.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return json.loads(frame.locator(".course-demo").get_attribute("data-shown"))


def drawn(frame):
    """Everything the canvases and the text show, as one string."""
    return frame.evaluate("() => [...document.querySelectorAll('canvas')].map((c) => c.toDataURL()).join()"
                          " + document.body.innerText")


def test_is_live_offline_and_follows_every_slider_and_button(opened):
    demo, page, frame = opened
    assert not page.locator("img").first.is_visible(), "the page takes the place of the picture"
    assert shown(frame) == {s.name: s.value for s in demo.sliders}
    for values in demo.rehearsal():  # every callback at its low end, its middle and its high end
        before = drawn(frame)
        for name, value in values.items():
            frame.locator(f"input[name={name}]").evaluate(SLIDE, value)
        assert shown(frame) == pytest.approx(values)
        assert drawn(frame) != before, f"{values} look like other values"
    for button in frame.locator("button").all():
        if button.is_visible():
            button.click()
    frame.locator("button", has_text="reset").click()
    assert shown(frame) == {s.name: s.value for s in demo.sliders}
    sideways = frame.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert sideways <= 0, "the page is wider than its frame"
    height = frame.evaluate("document.body.getBoundingClientRect().height")
    assert page.locator("iframe").bounding_box()["height"] == pytest.approx(height, abs=2), "the frame fits its page"


def test_handles_answer_mouse_and_keys(opened):
    demo, page, frame = opened
    for handle in frame.locator(".handle").all():
        label = handle.get_attribute("aria-label")
        start = shown(frame)
        for dx, dy in ((-60, 40), (90, -60)):  # a handle that snaps to places may have none on one side
            box = handle.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + dx, y + dy, steps=5)
            page.mouse.up()
            dragged = shown(frame)
            if dragged != start:
                break
        assert dragged != start, f"{label}: a drag changes nothing"
        handle.focus()
        page.keyboard.press("ArrowRight")
        assert shown(frame) != dragged, f"{label}: the arrow keys change nothing"
        assert handle.get_attribute("aria-valuetext") and handle.get_attribute("role") == "slider"
