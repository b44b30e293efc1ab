"""The self-contained form of every demo, in a real Chromium with the network cut."""

import json

import pytest
import torch
from browser.examples import EXAMPLES, decoders, digits, masked_context
from browser.pixels import is_drawn

from course_utils import widgets

pytestmark = pytest.mark.browser
SLIDE = "(input, value) => { input.step = 'any'; input.value = value; input.dispatchEvent(new Event('input')); }"


@pytest.fixture
def show(page, chromium, tmp_path):
    """``show(demo)``: the demo's frame on a page where everything but the file itself is refused."""
    asked = []
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else (
        asked.append(route.request.url), route.abort()))
    chromium.set_offline(True)

    def show(demo):
        file = tmp_path / "demo.html"
        file.write_text("<!doctype html><meta charset='utf-8'>" + demo.html(), encoding="utf-8")
        page.goto(file.as_uri())
        frame = page.locator("iframe").element_handle().content_frame()
        frame.wait_for_selector(".course-demo[data-shown]")
        return frame

    yield show
    chromium.set_offline(False)
    assert asked == [], "a demo asks for nothing from anywhere"
    assert page.troubles == []


@pytest.fixture(params=EXAMPLES)
def opened(request, page, show):
    """(demo, browser page, the demo's frame)."""
    demo = EXAMPLES[request.param]()
    return demo, page, show(demo)


def shown(frame):
    frame.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return json.loads(frame.locator(".course-demo").get_attribute("data-shown"))


def slide(frame, **values):
    for name, value in values.items():
        frame.locator(f"input[name={name}]").evaluate(SLIDE, value)
    assert shown(frame) == pytest.approx(shown(frame) | values)


def canvas(frame, k):
    return frame.locator("canvas").nth(k)


def drawn(frame):
    """Everything the canvases and the text show, as one string."""
    return frame.evaluate("() => [...document.querySelectorAll('canvas')].map((c) => c.toDataURL()).join()"
                          " + document.body.innerText")


# ---- every demo ------------------------------------------------------------------------------------------------------
def test_is_live_offline_and_follows_every_slider_and_button(opened):
    demo, page, frame = opened
    assert not page.locator("img").first.is_visible(), "the page takes the place of the picture"
    assert shown(frame) == {s.name: s.value for s in demo.sliders}
    for values in demo.rehearsal():  # every callback at its low end, its middle and its high end
        before = drawn(frame)
        slide(frame, **values)
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
        low, now, high = (float(handle.get_attribute(f"aria-value{part}")) for part in ("min", "now", "max"))
        assert (low, high) in {(s.low, s.high) for s in demo.sliders} and low <= now <= high


LETTERS = """
const fill = CanvasRenderingContext2D.prototype.fillText;
window.letters = [];
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const box = this.measureText(text), { a } = this.getTransform(), { canvas } = this;
  const left = x - box.actualBoundingBoxLeft, right = x + box.actualBoundingBoxRight - canvas.width / a;
  const top = y - box.actualBoundingBoxAscent, bottom = y + box.actualBoundingBoxDescent - canvas.height / a;
  const size = parseFloat(this.font.match(/([\\d.]+)px/)[1]);
  window.letters.push({ text: `${text}`, canvas, units: size * a, cut: Math.max(-left, right, -top, bottom) });
  fill.call(this, text, x, y);
};"""
READ = """() => window.letters.filter(({ canvas }) => canvas.isConnected).map(({ text, canvas, units, cut }) =>
  [text, units * canvas.clientWidth / canvas.width, cut])"""


@pytest.mark.parametrize("width", [390, 1000])
def test_on_a_phone_letters_can_be_read_and_sliders_be_moved(page, show, width):
    """The narrow screen of a phone and a wide one; no letter is cut off in the first state."""
    page.add_init_script(LETTERS)
    page.set_viewport_size({"width": width, "height": 844})
    for name, make in EXAMPLES.items():
        frame = show(make())
        settled(frame)
        frame.evaluate("() => { window.letters = []; }")
        slider = make().sliders[0]
        frame.locator(f"input[name={slider.name}]").evaluate(SLIDE, slider.value + slider.step)
        settled(frame)
        for text, pixels, cut in frame.evaluate(READ):
            assert pixels >= 9.5, f"{name}: {text!r} is {pixels:.1f} px high"
            assert cut <= 2, f"{name}: {text!r} is cut off by {cut:.1f}"
        tracks = [track.bounding_box()["width"] for track in frame.locator("#sliders input").all()]
        assert min(tracks) >= 150, f"{name}: {tracks}"
        assert frame.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def settled(frame):
    frame.page.wait_for_timeout(100)
    shown(frame)


# ---- what single demos draw ------------------------------------------------------------------------------------------
def test_interpolation_draws_what_python_computes(show):
    codes = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))  # as in the example
    frame, images = show(EXAMPLES["interpolation"]()), digits(30).float()
    with torch.no_grad():
        for a, b, t in ((2, 17, 0.25), (17, 2, 0.25), (5, 6, 1.0)):
            slide(frame, start=a, end=b, t=t)
            between = decoders()["VAE"]((1 - t) * codes[a:a + 1] + t * codes[b:b + 1])[0, 0]
            assert is_drawn(canvas(frame, 1), between, 350, 0, 20, 96)
            assert is_drawn(canvas(frame, 1), (1 - t) * images[a] + t * images[b], 350, 180, 20, 96)
            assert is_drawn(canvas(frame, 1), decoders()["VAE"](codes[a:a + 1])[0, 0], 350, 0, 138, 45)
            assert is_drawn(canvas(frame, 1), decoders()["VAE"](codes[b:b + 1])[0, 0], 350, 6 * 48, 138, 45)
            assert is_drawn(canvas(frame, 1), (5 * images[a] + images[b]) / 6, 350, 48, 207, 45)


def test_interpolation_draws_the_same_thing_the_same_way_again(show):
    frame = show(EXAMPLES["interpolation"]())
    slide(frame, start=2, end=17, t=0.25)
    first = drawn(frame)
    slide(frame, t=0.5)
    slide(frame, t=0.25)
    assert drawn(frame) == first, "what is kept for a pair is drawn on a clean sheet"
    for pair in ((3, 4), (5, 6), (2, 17)):
        slide(frame, start=pair[0], end=pair[1])
    slide(frame, t=0.5)
    slide(frame, t=0.25)
    assert drawn(frame) == first, "nothing is left of other pairs"


def test_beta_shelf_draws_the_sheet_of_the_beta(show):
    grid = torch.linspace(-1.5, 1.5, 5)
    frame, codes = show(EXAMPLES["beta_shelf"]()), torch.cartesian_prod(grid, grid)
    for log_beta, beta in ((-0.3, 0.5), (0.1, 1), (0.6, 4)):
        slide(frame, log_beta=log_beta)
        with torch.no_grad():
            images = decoders(2)["VAE"](codes / beta)[:, 0]
        sheet = torch.cat([torch.cat(list(row), 1) for row in images.view(5, 5, 16, 16)])
        assert is_drawn(canvas(frame, 0), sheet, 340, 0, 0, 340)


def test_ranking_follows_the_weights(show):
    frame = show(EXAMPLES["ranking"]())
    first = frame.locator(".course-demo")
    for weights, winner in (((1, 0, 0), "A"), ((0, 1, 0), "B"), ((0, 0, 1), "C"), ((1, 1, 0), "C")):
        slide(frame, **{f"w{k}": weight for k, weight in enumerate(weights)})
        assert first.get_attribute("data-first") == winner
        assert frame.get_by_text(f"First: {winner}").count() == 1
    slide(frame, w0=0, w1=0, w2=0)
    assert frame.get_by_text("Nothing counts").count() == 1
    frame.get_by_role("button", name="only speed").click()
    shown(frame)
    assert first.get_attribute("data-first") == "B"


def test_latent_explorer_decodes_the_point_under_its_handle(show):
    demo = EXAMPLES["latent_explorer"]()
    frame = show(demo)
    slide(frame, z1=0.3, z2=0.7, z3=-1.1)
    for about in demo.data["models"]:
        frame.get_by_role("button", name=about["name"], exact=True).last.click()  # the first answers the question
        shown(frame)
        shift, scale = (torch.frombuffer(bytearray(about[key]["bytes"]), dtype=torch.float32)
                        for key in ("shift", "scale"))
        with torch.no_grad():
            image = decoders()[about["name"]](shift + scale * torch.tensor([[0.3, 0.7, -1.1]]))[0, 0]
        assert is_drawn(canvas(frame, 1), image, 240, 0, 0, 240), about["name"]


@pytest.mark.parametrize("drawn", [(), ("VAE",)])
def test_latent_explorer_speaks_of_encodings_only_where_there_is_an_encoder(show, drawn):
    codes = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    said = show(widgets.latent_explorer({"VAE": decoders()["VAE"]}, {"VAE": codes}, torch.arange(60) % 3,
                                        shape=(1, 16, 16), drawn=drawn)).locator("body").inner_text()
    assert ("Nearest encoded image" in said, "Go to an encoded" in said) == (not drawn, not drawn)
    assert ("there is no encoder" in said, "Go to a code that gives" in said) == (bool(drawn), bool(drawn))


def test_posterior_lab_decodes_the_mean(show):
    frame = show(EXAMPLES["posterior_lab"]())
    slide(frame, mu1=0.3, mu2=-0.7)
    assert is_drawn(canvas(frame, 1), digits(2)[0].float(), 306, 0, 20, 92)
    with torch.no_grad():
        assert is_drawn(canvas(frame, 1), decoders(2)["AE"](torch.tensor([[0.3, -0.7]]))[0, 0], 306, 104, 20, 92)


def test_pixel_order_counts_earlier_pixels_only_and_names_a_leak(show, page):
    image, context = digits(1)[0], masked_context(16, 16, False)
    p, leak = torch.full((16, 16, 2), 0.5), context.clone()
    leak[16, 16:18] = True  # the first pixel of the second row looks at itself and at the next
    frame = show(widgets.pixel_order(image, {"good": p, "bad": p}, {"good": context, "bad": leak}))
    assert frame.locator(".legend", has_text="a leak: not earlier").count() == 1
    slide(frame, painted=16)
    assert "It looks at 16 of the 16 earlier pixels." in drawn(frame)
    frame.locator("button", has_text="bad").click()
    shown(frame)
    assert "It looks at 16 of the 16 earlier pixels, and at itself and 1 later: a leak." in drawn(frame)
    strip = frame.locator("canvas").last
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] / 2 + 1, "y": box["height"] / 2})
    assert shown(frame) == {"painted": 128}, "a click on the strip goes there"
    frame = show(widgets.pixel_order(image, {"good": p}, {"good": context}))
    assert frame.locator(".legend", has_text="leak").count() == 0


def test_completion_with_one_ending_has_nothing_to_compare(show):
    known = torch.arange(16)[:, None].expand(16, 16) < 8
    frame = show(widgets.completion(digits(1), known, torch.zeros(1, 2, 1, 16, 16), [0.5, 1]))
    assert frame.locator(".number").first.inner_text() == "–"
    assert frame.locator(".fill").first.evaluate("(fill) => fill.style.width") == "0%"


@pytest.mark.parametrize("log_evidence, told", [(-90, "0.09"), (-90.1, "0.00"), (-91.09, "-1.00")])
def test_posterior_lab_hides_no_violation_of_the_bound(show, log_evidence, told):
    """At the best q the gap is log(1.2) / 2 = 0.09; with a log p(x) that is too low it must show."""
    demo = EXAMPLES["posterior_lab"]()
    demo.data["windows"][0]["log_evidence"] = log_evidence
    frame = show(demo)
    slide(frame, mu1=0.6, mu2=-0.4, s1=0.5, s2=0.408)
    assert frame.locator(".number").nth(3).inner_text() == told
