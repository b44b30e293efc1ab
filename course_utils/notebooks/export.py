"""An executed chapter as one HTML page that needs nothing else: no server, no script, no font from anywhere.

Formulas become MathML, pictures and the mathematical font are part of the file, and a content policy in the page keeps
the browser from asking the network for anything, whatever an output contains.
"""

import base64
import functools
import html
import io
import mimetypes
import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from course_utils.notebooks import files, mathml

METRICS_MIME = "application/vnd.course.metrics+json"
STYLE = Path(__file__).with_name("page.css")
# Inline styles, data and the scripts of widgets run; nothing is ever fetched.
POLICY = (
    "default-src 'none'; img-src data: blob:; media-src data: blob:; font-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' blob:; base-uri 'none'; form-action 'none'"
)
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
OPEN_TARGET = """
function opened() {
  let e = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let d = e; d; d = d.parentElement) if (d.tagName === "DETAILS") d.open = true;
  if (e) e.scrollIntoView();
}
addEventListener("hashchange", opened); opened();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
"""


class Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, headings with ids, pictures inside the page."""

    def __init__(self, page, attachments):
        super().__init__(escape=False, attachments=attachments)
        self.page = page

    def formula(self, tex, display):
        try:
            if not display:
                return self.page.seen(mathml.convert(tex))
            element, tag = mathml.equation(tex)
        except mathml.MathError as error:
            self.page.notes.append(str(error))
            return f'<code class="tex">{html.escape(tex)}</code>'
        self.page.seen(element)
        if tag is None:
            return f'<span class="equation">{element}</span>'
        link = f'<a class="tag" href="#eq-{html.escape(tag)}">({html.escape(tag)})</a>'
        return f'<span class="equation" id="eq-{html.escape(tag)}">{element}{link}</span>'

    def block_math(self, body):
        return self.formula(body, display=True)

    def inline_math(self, body):
        return self.formula(body, display=False)

    def latex_environment(self, name, body):
        return self.formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)

    def text(self, text):
        """Plain text; a mention of a numbered equation, as in (1.7), leads to it."""

        def link(match):
            number = match[1]
            return f'(<a href="#eq-{number}">{number}</a>)' if number in self.page.tags else match[0]

        return re.sub(r"\((\d+\.\d+[a-z]?)\)", link, super().text(text))

    def heading(self, text, level, **attrs):
        anchor = self.page.anchor(text)
        self.page.headings.append((level, anchor, text))
        name = html.escape(anchor)
        return f'<h{level} id="{name}">{text}<a class="here" href="#{name}">¶</a></h{level}>\n'

    def link(self, text, url, title=None):
        if re.fullmatch(r"[^/:]+\.ipynb(#.*)?", url):  # another chapter lies beside this page
            url = url.replace(".ipynb", ".html", 1)
        return super().link(text, url, title)

    def image(self, text, url, title=None):
        source = self.page.embed(url, self.attachments)
        if source is None:
            self.page.notes.append(f"the picture {url} is not in the page: give a file beside the notebook")
            return f"<em>[picture: {text}]</em>"
        words = f' title="{html.escape(title)}"' if title else ""
        return f'<img src="{source}" alt="{html.escape(text)}"{words}>'


class Page:
    """What is collected while a chapter is rendered: headings, the characters of its formulas, notes for the author."""

    def __init__(self, nb, base):
        self.nb, self.base = nb, Path(base)
        self.headings, self.notes, self.characters, self.anchors = [], [], set(), {}
        self.tags = {
            tag
            for cell in nb.cells
            if cell.cell_type == "markdown"
            for tag in re.findall(r"\\tag\*?\{([^{}]*)\}", cell.source)
        }

    def seen(self, element):
        self.characters |= set(
            html.unescape(re.sub(r"<annotation.*?</annotation>|<[^>]*>", "", element, flags=re.DOTALL))
        )
        return element

    def anchor(self, text):
        """The id of a heading, as Jupyter makes it, so that links inside a chapter work in both."""
        plain = html.unescape(re.sub(r"<annotation.*?</annotation>|<[^>]*>", "", text, flags=re.DOTALL))
        name = re.sub(r"\s", "-", plain.strip())
        self.anchors[name] = self.anchors.get(name, 0) + 1
        return name if self.anchors[name] == 1 else f"{name}-{self.anchors[name]}"

    def embed(self, url, attachments):
        """A picture as a data address, or None where it would have to be fetched."""
        if url.startswith("data:image/"):
            return html.escape(url)
        if url.startswith("attachment:"):
            bundle = attachments.get(unquote(url.removeprefix("attachment:")), {})
            return next((f"data:{kind};base64,{text_of(data)}" for kind, data in bundle.items()), None)
        path = self.base / unquote(url)
        kind = mimetypes.guess_type(path.name)[0]
        if "://" in url or kind is None or not kind.startswith("image/") or not path.is_file():
            return None
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

    def markdown(self, source, attachments=None):
        return MarkdownWithMath(renderer=Renderer(self, attachments or {})).render(source)

    def cells(self):
        """All cells as HTML. A section whose heading cell is tagged `fold` becomes a closed <details>."""
        parts, open_levels = [], []
        for index, cell in enumerate(self.nb.cells):
            level = heading_level(cell)
            while level and open_levels and level <= open_levels[-1]:
                open_levels.pop()
                parts.append("</div></details>")
            name = anchor_of(cell, index)
            if cell.cell_type == "markdown":
                body = self.markdown(cell.source, cell.get("attachments"))
                if level and "fold" in cell.metadata.get("tags", []):
                    head, _, rest = body.partition(f"</h{level}>")
                    parts.append(
                        f'<details id="{name}"><summary>{head}</h{level}></summary><div class="folded">'
                        f'<div class="cell markdown">{rest}</div>'
                    )
                    open_levels.append(level)
                else:
                    parts.append(f'<div class="cell markdown" id="{name}">{body}</div>')
            elif cell.cell_type == "code" and (cell.source.strip() or cell.outputs):
                parts.append(f'<div class="cell code{failed(cell)}" id="{name}">{self.code(cell)}</div>')
        return "\n".join(parts + ["</div></details>"] * len(open_levels))

    def code(self, cell):
        notes = []
        if "injected-parameters" in cell.metadata.get("tags", []):
            notes.append("parameters of this run")
        notes += [
            f'checks <a href="#eq-{html.escape(t)}">({html.escape(t)})</a>' for t in cell.metadata.get("verifies", [])
        ]
        note = f'<div class="note">{", ".join(notes)}</div>' if notes else ""
        return note + python(cell.source) + "".join(self.output(out) for out in merged(cell.outputs))

    def output(self, output):
        if output.output_type == "stream":
            kind = "stderr" if output.name == "stderr" else "text"
            return f'<pre class="output {kind}">{terminal(output.text)}</pre>'
        if output.output_type == "error":
            return f'<pre class="output error">{ansi2html(chr(10).join(output.traceback))}</pre>'
        data, about = output.data, output.get("metadata", {})
        if METRICS_MIME in data:
            rows = "".join(
                f"<tr><th>{html.escape(words(name))}</th><td>{html.escape(shown(value))}</td></tr>"
                for name, value in data[METRICS_MIME].items()
            )
            return f'<table class="output metrics">{rows}</table>'
        if "text/html" in data:
            return f'<div class="output html">{text_of(data["text/html"])}</div>'
        if "image/svg+xml" in data:
            encoded = base64.b64encode(text_of(data["image/svg+xml"]).encode()).decode()
            return picture("image/svg+xml", encoded, alt_of(data, about, "image/svg+xml"))
        for kind in PICTURES:
            if kind in data:
                return picture(kind, text_of(data[kind]).replace("\n", ""), alt_of(data, about, kind))
        if "text/markdown" in data or "text/latex" in data:
            return (
                f'<div class="output">{self.markdown(text_of(data.get("text/markdown", data.get("text/latex"))))}</div>'
            )
        return f'<pre class="output text">{terminal(text_of(data.get("text/plain", "")))}</pre>'

    def contents(self):
        items = "".join(
            f'<li><a href="#{html.escape(anchor)}">{unlinked(text)}</a></li>'
            for level, anchor, text in self.headings
            if level == 2
        )
        return f'<nav aria-label="Contents"><ol>{items}</ol></nav>' if items else ""


def text_of(text):
    return text if isinstance(text, str) else "".join(text)


def unlinked(text):
    """Inline HTML without its links, for use inside a link."""
    return re.sub(r"</?a\b[^>]*>", "", text)


def heading_level(cell):
    """Level of the heading that a markdown cell starts with, or 0."""
    match = re.match(r"\s*(#{1,6})\s", cell.source) if cell.cell_type == "markdown" else None
    return len(match[1]) if match else 0


def anchor_of(cell, index):
    return "cell-" + html.escape(cell.get("id", str(index)))


def failed(cell):
    return " failed" if cell.metadata.get("papermill", {}).get("status") == "failed" else ""


def words(name):
    """A recorded name for readers: `cnn_accuracy` is "cnn accuracy"."""
    return name.replace("_", " ")


def shown(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def python(source):
    """Python source as highlighted HTML."""
    return highlight(source, get_lexer_by_name("python"), HtmlFormatter(cssclass="input", wrapcode=True))


def terminal(text):
    """Text as a terminal would leave it: carriage returns overwrite, colours stay, passed checks are green."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.rstrip("\n").split("\n")]
    rendered = str(ansi2html("\n".join(lines)))
    return re.sub(r"(?m)^(\s*✓.*)$", r'<span class="passed">\1</span>', rendered)


def merged(outputs):
    """Outputs with neighbouring pieces of one stream joined, as they were printed."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last["text"] += output.text
        else:
            joined.append(nbformat.from_dict(output))
    return joined


def alt_of(data, about, kind):
    """Alternative text of a picture: from its metadata, else its plain text if that says anything."""
    given = about.get(kind, {}).get("alt") or about.get("alt") if isinstance(about.get(kind, {}), dict) else None
    plain = text_of(data.get("text/plain", ""))
    return given or ("" if plain.startswith("<") else plain)


def picture(kind, encoded, alt):
    source = f"data:{kind};base64,{encoded}"
    return f'<figure class="output"><img src="{source}" alt="{html.escape(alt)}" loading="lazy"></figure>'


@functools.lru_cache(maxsize=8)
def font(characters):
    """STIX Two Math, cut down to what the formulas of a page need, as a data address.

    Letters are drawn from the mathematical alphabets, and fences from larger variants that the font names: both stay.
    """
    import ziamath
    from fontTools import subset

    path = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    italic = [*range(0x1D434, 0x1D468), 0x210E, *range(0x1D6E2, 0x1D71C)]
    wanted = [ord(c) for c in set(characters + letters + "0123456789()[]{}|+−=<>/,.;:!?′″‾¯ˆ˜→⏟⏞√‖")] + italic
    options = subset.Options(
        flavor="woff", ignore_missing_unicodes=True, hinting=False, name_IDs=[], notdef_outline=True
    )
    face = subset.load_font(str(path), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=wanted)
    cutter.subset(face)
    buffer = io.BytesIO()
    face.flavor = "woff"
    face.save(buffer)
    return "data:font/woff;base64," + base64.b64encode(buffer.getvalue()).decode()


def document(title, body, characters="", script=""):
    """A whole page around `body`."""
    face = f"@font-face{{font-family:CourseMath;src:url({font(characters)})}}" if characters else ""
    colours = HtmlFormatter(style="xcode").get_style_defs(".input")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title>\n<style>{face}\n{colours}\n{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>{body}{f'<script>{script}</script>' if script else ''}</body></html>\n"
    )


def header(nb, result):
    """Where this copy comes from: the run's parameters, machine and verdict, with a link to the cell that failed."""
    environment = result.get("environment") or {}
    facts = [f"{words(k)} {v}" for k, v in environment.get("parameters", {}).items() if v != "" and k != "data_dir"]
    facts += [
        f"{name} {number}" for name, number in environment.get("versions", {}).items() if name in ("python", "torch")
    ]
    facts += [f"{result.get('wall_seconds', 0):.0f} s"]
    lines = [f'<p class="facts"><a href="index.html">All chapters</a> · {html.escape(" · ".join(facts))}</p>']
    failure = result.get("failure")
    if failure:
        place = (
            f'<a href="#cell-{html.escape(failure["cell_id"])}">Code cell {failure["cell"]} of {failure["cells"]}</a>: '
            if failure.get("cell_id")
            else ""
        )
        lines.append(f'<p class="failure">{place}{html.escape(failure["message"])}</p>')
    return "".join(lines)


def chapter(ipynb, page, result, base):
    """Write the page of an executed notebook. Returns notes for the author: what could not be shown.

    `base` is the folder that pictures in the text are relative to.
    """
    nb = nbformat.read(ipynb, as_version=4)
    work = Page(nb, base)
    body = work.cells()
    first, _, rest = body.partition("</h1>") if "</h1>" in body else ("", "", body)
    title = next((re.sub(r"<[^>]*>", "", text) for level, _, text in work.headings if level == 1), Path(ipynb).stem)
    top = first + "</h1>" if first else f"<h1>{html.escape(title)}</h1>"
    main = f"<main>{top}{header(nb, result)}{work.contents()}{rest}</main>"
    characters = "".join(sorted(work.characters))
    files.write_text(page, document(html.unescape(title), main, characters, OPEN_TARGET))
    return work.notes
