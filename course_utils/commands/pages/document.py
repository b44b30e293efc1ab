"""What all pages of a run share: the frame with its style and policy, the font, and how cells and numbers are named.

A page asks the network for nothing: the font is part of the file, and a content policy keeps the browser from fetching
anything for the page or for what an output brings along. Outputs stand in frames of their own (:mod:`.foreign`), since
no policy stops a script from leading the browser elsewhere. What neither can stop is a script that speaks to the
network by other ways than fetching, as video calls do.
"""

import base64
import functools
import html
import io
from importlib.util import find_spec
from pathlib import Path

from pygments.formatters import HtmlFormatter

METRICS_MIME = "application/vnd.course.metrics+json"
LAW_MIME = "application/vnd.course.law+json"
STYLE = Path(__file__).with_name("page.css")
# Inline styles, data and the scripts of widgets run; nothing is ever fetched.
POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' blob:; base-uri 'none'; form-action 'none'"
)
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")


def text_of(text):
    return text if isinstance(text, str) else "".join(text)


def anchor_of(cell, index):
    return "cell-" + html.escape(cell.get("id", str(index)))


def words(name):
    """A recorded name for readers: `cnn_accuracy` is "cnn accuracy"."""
    return name.replace("_", " ")


def shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def alt_of(data, about, kind):
    """Alternative text of a picture: from its metadata, else its plain text if that says anything."""
    given = about.get(kind, {}).get("alt") or about.get("alt") if isinstance(about.get(kind, {}), dict) else None
    plain = text_of(data.get("text/plain", ""))
    return given or ("" if plain.startswith("<") else plain)


@functools.lru_cache(maxsize=8)
def font(characters):
    """STIX Two Math, cut down to what the formulas of a page need, as a data address.

    Letters are drawn from the mathematical alphabets, and fences from larger variants that the font names: both stay.
    """
    from fontTools import subset

    package = find_spec("ziamath")  # carries the font; nothing of it is imported
    if package is None:
        raise RuntimeError("the font for formulas is missing: it comes with ziamath; pip install -e '.[instructor]'")
    path = Path(package.origin).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    italic = [*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C)]
    wanted = [ord(c) for c in set(characters + letters + "0123456789()[]{}|+−=<>/,.;:!?′″‾¯ˆ˜→⏟⏞√‖")] + italic
    options = subset.Options(
        flavor="woff", ignore_missing_unicodes=True, hinting=False, name_IDs=[], notdef_outline=True
    )
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=wanted)
    buffer = io.BytesIO()
    with subset.load_font(str(path), options) as face:
        cutter.subset(face)
        face.flavor = "woff"
        face.save(buffer)
    return "data:font/woff;base64," + base64.b64encode(buffer.getvalue()).decode()


def page(title, body, characters="", script=""):
    """A whole page around `body`."""
    face = f"@font-face{{font-family:CourseMath;src:url({font(characters)})}}" if characters else ""
    colours = HtmlFormatter(style="xcode").get_style_defs(".input")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta http-equiv="x-dns-prefetch-control" content="off">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title>\n<style>{face}\n{colours}\n{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>{body}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )
