"""Pages of executed chapters in a real Chromium without a network: what is drawn, what is folded, what is asked for."""

import base64
import io
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import nbformat
import pytest
from browser import examples
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from course_utils import files
from course_utils.commands.pages import export, foreign, index

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

TEXT = r"""# 7. A chapter

A long one $\log p_\theta(x) = \mathbb{E}_q[\log p(x \mid z)] - \mathrm{KL}(q \,\|\, p(z)) +
\mathrm{KL}(q(z) \,\|\, p(z \mid x))$
stays in its paragraph, `as_a_very_long_name_in_code_that_no_line_of_a_phone_can_ever_hold`
does. An inline $p(x \mid y)$ and, see (7.1) and (9.9), a wide sum:

$$\mathrm{KL}(p\,\|\,q)=\sum_x p(x)\log\frac{p(x)}{q(x)} \ge 0 . \tag{7.1}$$

$$\begin{aligned} a &= b + c \\ d + e + f &= \underbrace{g}_{\text{small}} \end{aligned} \tag{7.2}$$

| a | b |
|---|---|
| 1 | `x` |
| a cell with many words in it | another with a_very_long_name_that_cannot_be_broken |

![a dot](dot.png) and [the next chapter](08_next.ipynb)"""
SPY = """<p id="spied">table</p><img src="{0}/a"><link rel="stylesheet" href="{0}/b"><iframe src="{0}/c"></iframe>
<style>@import url({0}/d.css); #spied {{ background: url({0}/e.png) }}</style>
<script>document.getElementById("spied").textContent = "scripted"; fetch("{0}/f").catch(() => 0)</script>
<iframe srcdoc="<img src='{0}/g'><script>fetch('{0}/h')</script>"></iframe>"""
CLICK = "<script>document.querySelector('a').click()</script>"
SUBMIT = "<script>document.querySelector('form').submit()</script>"
# What leads a browser elsewhere, or speaks to elsewhere, without a fetch that a policy sees. {0}: the address.
ESCAPES = {
    "location": "<script>location = '{0}/location'</script>",
    "location.replace": "<script>location.replace('{0}/replace')</script>",
    "meta refresh": "<meta http-equiv='refresh' content='0; url={0}/refresh'>",
    "meta refresh, written": "<script>document.write(\"<meta http-equiv=refresh content='0; url={0}/w'>\")</script>",
    "window.open": "<script>window.open('{0}/open')</script>",
    "a link clicked": "<a href='{0}/click'>x</a>{1}",
    "a link to the top": "<a target=_top href='{0}/top'>x</a>{1}",
    "a link to a new page": "<a target=_blank href='{0}/new'>x</a>{1}",
    "a link with a ping": "<a href='#x' ping='{0}/ping'>x</a>{1}",
    "top.location": "<script>top.location = '{0}/top'</script>",
    "parent.location": "<script>parent.location.href = '{0}/parent'</script>",
    "a form": "<form action='{0}/form'></form>{2}",
    "a form to the top": "<form target=_top action='{0}/f'></form>{2}",
    "base": "<base href='{0}/'><a href='based'>x</a>{1}",
    "a frame moved": "<iframe name=i></iframe><script>window.open('{0}/moved', 'i')</script>",
    "object": "<object data='{0}/object'></object><embed src='{0}/embed'>",
    "beacon": "<script>navigator.sendBeacon('{0}/beacon')</script>",
    "worker": "<script>new Worker(URL.createObjectURL(new Blob([\"fetch('{0}/worker')\"])))</script>",
    "prefetch": "<link rel=prefetch href='{0}/p'><link rel=prerender href='{0}/q'>",
    "preload": "<link rel=preload as=image href='{0}/r'><link rel=modulepreload href='{0}/s'>",
    "import": "<script type=module>import('{0}/m.js').catch(() => 0)</script>",
    "sources": "<img srcset='{0}/s 1x'><video poster='{0}/v' src='{0}/w'></video><svg><image href='{0}/x'/></svg>",
}
# The same in Markdown, where no tag is needed that does anything.
WRITTEN = {
    "script": "<script>location = '{0}/1'</script>", "inline": "text <script>location = '{0}/2'</script> text",
    "onerror": "<img src=x onerror=\"location='{0}/3'\">", "svg": "<svg onload=\"location='{0}/4'\"></svg>",
    "refresh": "<meta http-equiv='refresh' content='0; url={0}/5'>",
    "toggle": "<details open ontoggle=\"location='{0}/6'\">x</details>",
    "frame": "<iframe srcdoc=\"<script>top.location = '{0}/7'</script>\"></iframe>",
    "style": "<style>@import url({0}/8.css);</style>", "base": "<base href='{0}/'>",
    "link": "<link rel=stylesheet href={0}/9>",
    "half a tag": "<img src=x onerror=location='{0}/10' ", "picture": "![x](x\"onerror=\"location='{0}/11'\")",
    "a comment": "<!--><img src=x onerror=location='{0}/12'>-->", "case": "<ScRiPt>location = '{0}/13'</sCrIpT>",
    "formula": "$\\text{{<img src=x onerror=location='{0}/14'>}}$",
    "anchor": "<a href=\"javascript:location='{0}/15'\">x</a>",
    "markdown link": "[x](javascript:location='{0}/16')", "code": "`<script>location = '{0}/17'</script>`",
    "autofocus": "<input autofocus onfocus=\"location='{0}/18'\">", "math": "<math><mtext onclick=x>a</mtext></math>",
}


@pytest.fixture(scope="module")
def elsewhere():
    """A server that outputs would like to ask: its address, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def png(width, height=40):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (0, 114, 178)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture(scope="module")
def written(tmp_path_factory, elsewhere):
    """A run's folder with one chapter that has a bit of everything; the notes of its export are in `notes.json`."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "dot.png").write_bytes(base64.b64decode(png(10)))
    data = {"image/png": png(2400), "text/plain": "A wide blue strip."}
    cells = [
        new_markdown_cell(TEXT),
        new_markdown_cell("## 7.1 Pictures"),
        new_code_cell("plot()", id="wide", outputs=[new_output("display_data", data, metadata={})]),
        new_code_cell(
            "spy()",
            outputs=[new_output("display_data", {"text/html": SPY.format(elsewhere[0])})],
            metadata={"verifies": ["7.1"]},
        ),
        new_markdown_cell("## Going deeper: $\\log Z$", metadata={"tags": ["fold"]}),
        new_markdown_cell("### Inside\n\nhidden words"),
        new_code_cell(
            "f'{1}' # long " + "x" * 300,
            id="inside",
            outputs=[new_output("stream", name="stdout", text="✓ one\n50%\r100%")],
        ),
        new_markdown_cell("## 7.2 After\n\nshown words $\\unknown{x}$"),
        new_code_cell(
            "record()", outputs=[new_output("display_data", {export.document.METRICS_MIME: {"test_nll": 1.25}})]
        ),
    ]
    nbformat.write(new_notebook(cells=cells), folder / "07_a.ipynb")
    notes = export.chapter(folder / "07_a.ipynb", folder / "07_a.html", {"wall_seconds": 3.0}, base=folder)
    (folder / "notes.json").write_text(json.dumps(notes))
    entry = {
        "status": "passed",
        "metrics": {"test_nll": 1.25},
        "wall_seconds": 3.0,
        "cells": 4,
        "parameters": {"seed": 0},
        "floors": {},
        "failure": None,
        "notes": [],
        "machine": {},
    }
    summary = {"written": "now", "versions": {"python": "3"}, "chapters": {"07_a": entry}, "status": "passed"}
    files.write_text(folder / "index.html", index.page(summary, folder))
    return folder


@pytest.fixture
def opened(page, written):
    """The chapter's page, opened without a network."""
    page.context.set_offline(True)
    page.goto(f"file://{written}/07_a.html")
    yield page
    page.context.set_offline(False)


def test_nothing_is_asked_for_even_with_a_network(page, written, elsewhere):
    page.context.set_offline(False)
    page.goto(f"file://{written}/07_a.html")
    page.wait_for_timeout(300)
    frame = page.locator("iframe.foreign").first.element_handle().content_frame()
    assert frame.locator("#spied").inner_text() == "scripted"  # what an output brings along does run
    assert elsewhere[1] == []


def hostile(path, cells):
    nbformat.write(new_notebook(cells=cells), path.with_suffix(".ipynb"))
    return export.chapter(path.with_suffix(".ipynb"), path, {}, base=path.parent)


def led_away(page, path, elsewhere):
    """Whether opening the page asked anything of anybody, or led to another one."""
    before = len(page.context.pages)
    page.goto(f"file://{path}")
    page.wait_for_timeout(700)
    return elsewhere[1] != [] or page.url != f"file://{path}" or len(page.context.pages) != before


@pytest.mark.parametrize("way", ESCAPES)
def test_no_output_leads_elsewhere(page, tmp_path, elsewhere, way):
    elsewhere[1].clear()
    output = new_output("display_data", {"text/html": ESCAPES[way].format(elsewhere[0], CLICK, SUBMIT)})
    hostile(tmp_path / "a.html", [new_markdown_cell("# T"), new_code_cell("x", outputs=[output])])
    assert not led_away(page, tmp_path / "a.html", elsewhere), elsewhere[1]
    assert page.locator("h1").inner_text() == "T¶"


def test_no_text_leads_elsewhere(page, tmp_path, elsewhere):
    """In a cell of text, and as the Markdown output of a cell; attributes that are data too."""
    elsewhere[1].clear()
    address = elsewhere[0]
    cells = [new_markdown_cell("# T")]
    for text in WRITTEN.values():
        text = text.format(address)
        cells += [new_markdown_cell(text), new_code_cell("x", outputs=[
            new_output("display_data", {"text/markdown": text}), new_output("stream", text=text),
            new_output("display_data", {"image/png": f"x\" onerror=\"location='{address}/png'", "text/plain": text}),
            new_output("execute_result", {"text/plain": text})])]
    cells.append(new_markdown_cell("![a](attachment:a.png)", attachments={
        "a.png": {"image/png": f"x\" onerror=\"location='{address}/attached'"}}))
    notes = hostile(tmp_path / "a.html", cells)
    assert not led_away(page, tmp_path / "a.html", elsewhere), elsewhere[1]
    for link in page.locator("main a").all():
        assert "javascript" not in (link.get_attribute("href") or "")
    assert any("<script>" in note and "shown as it is written" in note for note in notes)
    assert page.get_by_text("location = ").first.is_visible(), "what is refused stands there as text"


def test_mark_up_in_text_stays():
    given = 'H<sub>2</sub>O &amp; <b title="x">bold</b><br>a &lt; b <a href="https://example.org/x?a=1&amp;b">x</a>'
    assert foreign.harmless(given) == (given, [])
    for bad in ("javascript:x", " JavaScript:x", "java\nscript:x", "data:text/html,x", "vb:x", "\x01javascript:x"):
        assert not foreign.leads(bad), bad
    for good in ("x.html", "#a", "a/b.html#c:d", "https://example.org", "mailto:a@example.org", "?a=b:c"):
        assert foreign.leads(good), good
    assert foreign.harmless("<div align=center><table><tr><td colspan=2>") == (
        '<div align="center"><table><tr><td colspan="2">', [])


def test_demos_that_share_a_network_carry_it_once_and_are_live(page, tmp_path):
    with_network = [examples.EXAMPLES[name]() for name in ("latent_explorer", "interpolation")]
    outputs = [new_output("display_data", {"text/html": demo.html()}) for demo in (*with_network, with_network[0])]
    cells = [new_markdown_cell("# T"), *(new_code_cell("demo", outputs=[output]) for output in outputs)]
    notes = hostile(tmp_path / "a.html", cells)
    text = (tmp_path / "a.html").read_text()
    stored = re.search(r'"arrays": \{(.*?)\}', text)[1]
    assert stored.count("base64") == 0 and notes == []
    largest = max(re.findall(r"[A-Za-z0-9+/=]{4000,}", stored), key=len)
    assert text.count(largest) == 1
    page.goto(f"file://{tmp_path}/a.html")
    for place in page.locator(".output.html").all():
        place.scroll_into_view_if_needed()
        frame = place.locator("iframe").element_handle().content_frame()
        frame.wait_for_selector(".course-demo[data-shown]")
        page.wait_for_timeout(300)
        assert not place.locator("img.still").is_visible()
        height = frame.evaluate("document.body.getBoundingClientRect().height")
        assert place.locator("iframe").bounding_box()["height"] == pytest.approx(height, abs=2)
        before = frame.evaluate(DRAWN)
        frame.locator("input").first.focus()
        page.keyboard.press("PageUp")
        page.wait_for_timeout(200)
        assert frame.evaluate(DRAWN) != before
    assert page.troubles == []


DRAWN = "() => [...document.querySelectorAll('canvas')].map((c) => c.toDataURL()).join()"


def test_a_page_that_is_too_large_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 1_000)
    notes = hostile(tmp_path / "a.html", [new_markdown_cell("# T")])
    assert any("keep it below" in note for note in notes)


def test_formulas_are_drawn_in_the_font_of_the_page(opened):
    assert opened.evaluate(
        "document.fonts.ready.then(() => [...document.fonts].map(f => f.family + ' ' + f.status))"
    ) == ["CourseMath loaded"]
    equation = opened.locator("[id='eq-7.1']")
    assert equation.locator("math").bounding_box()["height"] > 30  # the fraction and the sum with its limit stand apart
    assert equation.locator("a.tag").inner_text() == "(7.1)"
    text = opened.locator("main").inner_text()
    assert "$" not in text and "\\frac" not in text


SCRIPTED = [r"\Big({}\Big)^2", r"\bigl[{}\bigr]_i", r"\Bigg\{{{}\Bigg\}}_a^b", r"\Big|{}\Big|^2", r"\big({}\big)'",
            r"\frac{{1}}{{2}}\Bigl({}\Bigr)^{{\frac12}}"]


def test_both_fences_of_a_size_stand_side_by_side(page, tmp_path):
    """Also where the closing one carries a script; whatever lies between them."""
    insides = ("x", r"\mu-\frac{a}{b}", r"\sum_i")
    cells = [new_markdown_cell(f"$${form.format(inner)}$$") for form in SCRIPTED for inner in insides]
    assert hostile(tmp_path / "a.html", cells) == []
    page.goto(f"file://{tmp_path}/a.html")
    for formula in page.locator(".equation").all():
        first, last = (formula.locator("mo[minsize]").nth(k).bounding_box() for k in (0, 1))
        words = formula.locator("annotation").text_content()
        assert first["height"] == pytest.approx(last["height"], abs=1), words
        assert first["y"] == pytest.approx(last["y"], abs=1), words


def test_columns_of_an_alignment_meet(opened):
    rows = opened.locator("[id='eq-7.2'] mtr")
    left = [rows.nth(i).locator("mtd").nth(0).locator("> *").bounding_box() for i in (0, 1)]
    assert left[0]["x"] > left[1]["x"] + 10  # right-aligned: the shorter side starts later
    assert abs(sum(left[0][k] for k in ("x", "width")) - sum(left[1][k] for k in ("x", "width"))) < 1


def test_mentions_and_contents_lead_somewhere(opened):
    hrefs = opened.eval_on_selector_all("a[href^='#']", "links => links.map(a => decodeURIComponent(a.hash.slice(1)))")
    missing = [name for name in hrefs if opened.evaluate("name => document.getElementById(name) === null", name)]
    assert missing == [] and "eq-7.1" in hrefs and "eq-9.9" not in hrefs
    assert opened.locator("nav li").all_inner_texts()[::2] == ["7.1 Pictures", "7.2 After"]
    assert opened.locator("a:text('the next chapter')").get_attribute("href") == "08_next.html"


def test_a_folded_section_ends_where_the_next_begins_and_opens_for_a_link(opened, written):
    assert not opened.get_by_text("hidden words").is_visible() and opened.get_by_text("shown words").is_visible()
    opened.goto(f"file://{written}/07_a.html#cell-inside")
    assert opened.get_by_text("hidden words").is_visible()


@pytest.mark.parametrize("width", [1280, 900, 420, 390])
def test_the_page_is_never_wider_than_the_window(opened, width):
    opened.set_viewport_size({"width": width, "height": 800})
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    box = opened.locator("#cell-wide img").bounding_box()
    assert 300 < box["width"] <= width and box["height"] < 40


CONTRAST = """() => {
  const light = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    const part = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    return [0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b), a]; };
  const behind = (e) => { for (; e; e = e.parentElement) { const [l, a] = light(getComputedStyle(e).backgroundColor);
    if (a > 0.5) return l; } return 1; };
  const worst = [];
  for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.getClientRects().length || e.closest("script, annotation, .here")) continue;
    const [front] = light(getComputedStyle(e).color), back = behind(e);
    worst.push([(Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05), walk.currentNode.data.slice(0, 30)]);
  }
  return worst.sort((a, b) => a[0] - b[0])[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_follow_a_dark_preference_and_can_be_read(opened, written, scheme):
    opened.emulate_media(color_scheme=scheme)
    for name in ("07_a.html", "index.html"):
        opened.goto(f"file://{written}/{name}")
        paper = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        contrast, text = opened.evaluate(CONTRAST)
        assert contrast >= 4.0, f"{name}: {text!r} has a contrast of {contrast:.1f}"
    opened.emulate_media(color_scheme="light")


def test_pictures_have_words_and_output_reads_as_printed(opened, written):
    assert opened.locator("#cell-wide img").get_attribute("alt") == "A wide blue strip."
    assert opened.locator("img[alt='a dot']").get_attribute("src").startswith("data:image/png")
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.locator("#cell-inside pre.output").inner_text() == "✓ one\n100%"
    assert opened.locator("table.metrics").inner_text().split() == ["test", "nll", "1.25"]
    notes = json.loads((written / "notes.json").read_text())
    assert any("\\unknown is not known" in note for note in notes)
    assert [note.rpartition("/")[2] for note in notes if "does not show http://127.0.0.1" in note] == list("abcg")


def test_the_index_shows_numbers_and_pictures_and_leads_to_them(page, written):
    page.goto(f"file://{written}/index.html")
    assert page.locator("table.results").inner_text().split() == [
        "07_a",
        "passed",
        "·",
        "3.0",
        "s",
        "test",
        "nll",
        "1.25",
    ]
    thumbnail = page.locator(".thumbnails img")
    assert thumbnail.count() == 1 and thumbnail.evaluate("i => i.naturalWidth") <= index.WIDEST
    page.locator(".thumbnails a").click()
    assert page.url.endswith("07_a.html#cell-wide")
