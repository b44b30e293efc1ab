"""HTML that a page did not write itself: what an output shows, and tags in Markdown.

An output may be anything, and no content policy keeps a script from leading the reader to another page. So every HTML
output stands in a frame of its own, whose scripts run, but can neither navigate the page, nor open windows, nor read
what is around them; the policy of the page, which a frame inherits, keeps it from fetching. In Markdown no script is
needed: harmless tags stay, all others are shown as the text they are.
"""

import hashlib
import html
import json
import re
from html.parser import HTMLParser

LARGE = 4000  # letters of a packed array that is worth storing apart
# A demo, as course_utils.widgets.demo writes it, alone or behind the widget of a kernel that is gone.
DEMO = re.compile(
    r'(?:<style>[^<]*</style>\s*<div class="course-still" id="[^"]*">)?<div style="max-width:700px">'
    r'<img alt="(?P<alt>[^"]*)" style="max-width:100%" src="(?P<still>data:image/png;base64,[A-Za-z0-9+/=]+)">'
    r'<iframe title="[^"]*" loading="lazy" style="width:100%;height:(?P<height>\d+)px;border:0" '
    r'srcdoc="(?P<page>[^"]*)"></iframe></div>(?:</div>)?\s*'
)
AROUND = (
    "<!doctype html><meta charset='utf-8'><style>body{{margin:0;background:#fff;color:#1c2330;font:15px/1.5 system-ui,"
    "'DejaVu Sans',sans-serif}}img,svg{{max-width:100%}}table{{border-collapse:collapse;font-size:.92em}}"
    "th,td{{padding:.35em .8em;border-bottom:1px solid #dfe3e8;text-align:left}}</style>{}<script>new ResizeObserver("
    "() => parent.postMessage({{ height: document.documentElement.offsetHeight }}, '*'))"
    ".observe(document.documentElement)</script>"
)
FRAME = (
    '<iframe class="foreign" sandbox="allow-scripts" loading="lazy" title="{title}" style="height:{height}px" {what}>'
    "</iframe>"
)
# Fills the frames of demos when they come near, gives every frame the height it asks for, and hides the picture then.
SCRIPT = """
const stored = JSON.parse(document.querySelector("script#stored").textContent);
const near = new IntersectionObserver((seen) => seen.forEach(({ target: frame, isIntersecting }) => {
  if (!isIntersecting) return;
  near.unobserve(frame);
  frame.srcdoc = stored.pages[frame.dataset.page].replace(/"@([0-9a-f]{16})"/g, (_, key) => `"${stored.arrays[key]}"`);
}), { rootMargin: "800px" });
document.querySelectorAll("iframe[data-page]").forEach((frame) => near.observe(frame));
addEventListener("message", ({ data, source }) => {
  const frame = [...document.querySelectorAll("iframe.foreign")].find((one) => one.contentWindow === source);
  if (!frame || !Number.isFinite(data?.height)) return;
  frame.style.height = `${Math.min(Math.max(data.height, 20), 5000)}px`;
  frame.parentElement.classList.add("live");
});
"""


class Frames:
    """The frames of one page. Arrays that several demos share are stored once."""

    def __init__(self):
        self.pages, self.arrays = [], {}

    def frame(self, text):
        """The HTML of an output, inside a frame."""
        demo = DEMO.fullmatch(text)
        if demo is None:
            inside = html.escape(AROUND.format(text), quote=True)
            return FRAME.format(title="output", height=60, what=f'srcdoc="{inside}"')
        packed = rf'"base64": "([A-Za-z0-9+/=]{{{LARGE},}})"'
        self.pages.append(re.sub(packed, self._apart, html.unescape(demo["page"])))
        frame = FRAME.format(title=demo["alt"], height=demo["height"], what=f'data-page="{len(self.pages) - 1}"')
        return f'<img class="still" alt="{demo["alt"]}" src="{demo["still"]}">{frame}'

    def _apart(self, match):
        key = hashlib.sha256(match[1].encode()).hexdigest()[:16]
        self.arrays[key] = match[1]
        return f'"base64": "@{key}"'

    def stored(self):
        """What the script needs, as an element of the page."""
        text = json.dumps({"pages": self.pages, "arrays": self.arrays}).replace("<", "\\u003c")
        return f'<script type="application/json" id="stored">{text}</script>'


# ---- tags in Markdown ------------------------------------------------------------------------------------------------
TAGS = set(
    "a abbr b blockquote br center cite code dd del details dfn div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i "
    "img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead tr u ul "
    "var".split()
)
ATTRIBUTES = {"alt", "title", "width", "height", "align", "colspan", "rowspan", "open", "id", "start", "href", "src"}


def leads(url):
    """Whether an address leads a reader somewhere, rather than running a script. Browsers pass over control signs."""
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", re.sub(r"[\x00-\x20]", "", url), re.IGNORECASE)
    return scheme is None or scheme[1].lower() in ("http", "https", "mailto")


def is_picture(url):
    return url.strip().lower().startswith("data:image/")


ADDRESSES = {"href": leads, "src": is_picture}


class _Harmless(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=False)
        self.parts, self.refused = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in TAGS:
            self.refused.append(f"<{tag}>")
            self.parts.append(html.escape(self.get_starttag_text()))
            return
        kept = ""
        for name, value in attrs:
            if name not in ATTRIBUTES or not ADDRESSES.get(name, bool)(value or " "):
                self.refused.append(f"{name} of <{tag}>")
            else:
                kept += f' {name}="{html.escape(value or "", quote=True)}"'
        self.parts.append(f"<{tag}{kept}>")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        self.parts.append(f"</{tag}>" if tag in TAGS else html.escape(f"</{tag}>"))

    def handle_data(self, data):
        self.parts.append(html.escape(data, quote=False))

    def handle_entityref(self, name):
        self.parts.append(f"&{name};")

    def handle_charref(self, name):
        self.parts.append(f"&#{name};")


def harmless(text):
    """``(HTML, refused)``: the tags of Markdown that only mark text up; others as text, and what they were."""
    parser = _Harmless()
    parser.feed(text)
    rest = parser.rawdata
    parser.close()
    unread = "" if "".join(parser.parts).endswith(html.escape(rest, quote=False)) else html.escape(rest)
    return "".join(parser.parts) + unread, parser.refused
