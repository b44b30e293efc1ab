"""An executed chapter as one HTML page that needs nothing else: no server, no script, no font from anywhere.

What outputs bring along as HTML stands in frames that cannot touch the page (:mod:`.foreign`). Formulas become MathML,
pictures are part of the file, and a section whose heading is tagged `fold` starts closed.
"""

import base64
import html
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

from course_utils import files
from course_utils.commands.pages import document, foreign, mathml

# an inline formula and the marks that touch it: no line breaks between them
_WITH_PUNCTUATION = re.compile(
    r"""[(“"]*<math>(?:(?!</math>).)*</math>[-.,;:!?)”’"%]+|[(“"]+<math>(?:(?!</math>).)*</math>""", re.S
)
LARGEST = 8_000_000  # letters of a page: more takes a phone seconds to open
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
        if not foreign.leads(url):
            self.page.notes.append(f"the link {url} leads nowhere; it is shown without")
            return text
        if re.fullmatch(r"[^/:]+\.ipynb(#.*)?", url):  # another chapter lies beside this page
            url = url.replace(".ipynb", ".html", 1)
        return super().link(text, url, title)

    def block_html(self, html):
        return self.inline_html(html)

    def inline_html(self, html):
        shown, refused = foreign.harmless(html)
        for what in refused:
            self.page.notes.append(f"{what} in the text is shown as it is written: text needs no more than mark-up")
        return shown

    def image(self, text, url, title=None):
        source = self.page.embed(url, self.attachments)
        if source is None:
            self.page.notes.append(f"the picture {url} is not in the page: give a file beside the notebook")
            return f"<em>[picture: {text}]</em>"
        hover = f' title="{html.escape(title)}"' if title else ""
        return f'<img src="{source}" alt="{html.escape(text)}"{hover}>'


class Page:
    """What is collected while a chapter is rendered: headings, the characters of its formulas, notes for the author."""

    def __init__(self, nb, base):
        self.nb, self.base = nb, Path(base)
        self.headings, self.notes, self.characters, self.anchors = [], [], set(), {}
        self.frames = foreign.Frames()
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
            return next((html.escape(f"data:{kind};base64,{document.text_of(data)}") for kind, data in bundle.items()
                         if kind.startswith("image/")), None)
        path = self.base / unquote(url)
        kind = mimetypes.guess_type(path.name)[0]
        if "://" in url or kind is None or not kind.startswith("image/") or not path.is_file():
            return None
        return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

    def markdown(self, source, attachments=None):
        rendered = MarkdownWithMath(renderer=Renderer(self, attachments or {})).render(source)
        return _WITH_PUNCTUATION.sub(r'<span class="whole">\g<0></span>', rendered)

    def cells(self):
        """All cells as HTML. A section whose heading cell is tagged `fold` becomes a closed <details>."""
        parts, open_levels = [], []
        for index, cell in enumerate(self.nb.cells):
            level = heading_level(cell)
            while level and open_levels and level <= open_levels[-1]:
                open_levels.pop()
                parts.append("</div></details>")
            name = document.anchor_of(cell, index)
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
        about, notes = cell.metadata, []
        if "injected-parameters" in about.get("tags", []):
            notes.append("the parameters of this run")
        if about.get("quote"):
            notes.append(f"from the package: <code>{html.escape(str(about['quote']))}</code>")
        if about.get("exercise"):
            notes.append(f"exercise {html.escape(str(about['exercise']))}")
        if about.get("verifies"):
            names = [html.escape(tag) for tag in about["verifies"]]
            notes.append("checks " + ", ".join(f'<a href="#eq-{name}">({name})</a>' for name in names))
        note = f'<div class="note">{" · ".join(notes)}</div>' if notes else ""
        source = python(cell.source) if cell.source.strip() else ""
        if about.get("jupyter", {}).get("source_hidden"):
            first = cell.source.strip().splitlines()[0].lstrip("# ")
            source = f'<details class="hidden"><summary>{html.escape(first)}</summary>{source}</details>'
        return note + source + "".join(self.output(out) for out in merged(cell.outputs))

    def output(self, output):
        if output.output_type == "stream":
            kind = "stderr" if output.name == "stderr" else "text"
            return f'<pre class="output {kind}">{terminal(output.text)}</pre>'
        if output.output_type == "error":
            return f'<pre class="output error">{ansi2html(chr(10).join(output.traceback))}</pre>'
        data, about = output.data, output.get("metadata", {})
        if document.METRICS_MIME in data:
            rows = "".join(
                f"<tr><th>{html.escape(document.words(name))}</th><td>{html.escape(document.shown(value))}</td></tr>"
                for name, value in data[document.METRICS_MIME].items()
            )
            return f'<table class="output metrics">{rows}</table>'
        if "text/html" in data:
            text = document.text_of(data["text/html"])
            self.notes += [f"the page stays closed to the network and does not show {link}" for link in fetched(text)]
            return f'<div class="output html">{self.frames.frame(text)}</div>'
        if "image/svg+xml" in data:
            encoded = base64.b64encode(document.text_of(data["image/svg+xml"]).encode()).decode()
            return picture("image/svg+xml", encoded, document.alt_of(data, about, "image/svg+xml"))
        for kind in document.PICTURES:
            if kind in data:
                return picture(kind, document.text_of(data[kind]), document.alt_of(data, about, kind))
        if "text/markdown" in data or "text/latex" in data:
            source = document.text_of(data.get("text/markdown", data.get("text/latex")))
            return f'<div class="output">{self.markdown(source)}</div>'
        plain = document.text_of(data.get("text/plain", ""))  # nothing where only a kernel could have drawn it
        return f'<pre class="output text">{terminal(plain)}</pre>' if plain else ""

    def contents(self):
        items = "".join(
            f'<li><a href="#{html.escape(anchor)}">{unlinked(text)}</a></li>'
            for level, anchor, text in self.headings
            if level == 2
        )
        return f'<nav aria-label="Contents"><ol>{items}</ol></nav>' if items else ""


def fetched(text):
    """The addresses that a piece of HTML would fetch."""
    return dict.fromkeys(
        re.findall(r"""<(?:img|script|iframe|link|video|audio)\b[^>]*?(?:src|href)=["']?(https?:[^"'\s>]+)""", text)
    )


def unlinked(text):
    """Inline HTML without its links, for use inside a link."""
    return re.sub(r"</?a\b[^>]*>", "", text)


def heading_level(cell):
    """Level of the heading that a markdown cell starts with, or 0."""
    match = re.match(r"\s*(#{1,6})\s", cell.source) if cell.cell_type == "markdown" else None
    return len(match[1]) if match else 0


def failed(cell):
    return " failed" if cell.metadata.get("papermill", {}).get("status") == "failed" else ""


def python(source):
    """Python source as highlighted HTML."""
    return highlight(source, get_lexer_by_name("python"), HtmlFormatter(cssclass="input", wrapcode=True))


def terminal(text):
    """Text as a terminal would leave it: carriage returns overwrite, colours stay, passed checks are green."""
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.rstrip("\n").split("\n")]
    rendered = str(ansi2html("\n".join(lines)))
    return re.sub(r"(?m)^(\s*✓.*)$", r'<span class="passed">\1</span>', rendered)


def merged(outputs):
    """Outputs with neighbouring pieces of one stream joined, as they were printed. Laws that held are printed lines."""
    joined = []
    for output in outputs:
        if document.LAW_MIME in output.get("data", {}):
            text = document.text_of(output.data["text/plain"]) + "\n"
            output = nbformat.v4.new_output("stream", name="stdout", text=text)
        last = joined[-1] if joined else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last["text"] += output.text
        else:
            joined.append(nbformat.from_dict(output))
    return joined


def picture(kind, encoded, alt):
    source = f"data:{kind};base64,{re.sub('[^A-Za-z0-9+/=]', '', encoded)}"
    return f'<figure class="output"><img src="{source}" alt="{html.escape(alt)}" loading="lazy"></figure>'


def header(nb, result):
    """Where this copy comes from: the run's parameters, machine and verdict, with a link to the cell that failed."""
    environment = result.get("environment") or {}
    used = environment.get("parameters") or nb.metadata.get("papermill", {}).get("parameters", {})
    facts = [f"{document.words(k)} {v}" for k, v in used.items() if v != "" and k != "data_dir"]
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
    """Write the page of an executed notebook. Returns notes for the author: what could not be document.shown.

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
    whole = document.page(html.unescape(title), main + work.frames.stored(), characters, OPEN_TARGET + foreign.SCRIPT)
    files.write_text(page, whole)
    if len(whole) > LARGEST:
        size = f"the page has {len(whole) / 1e6:.1f} MB; keep it below {LARGEST / 1e6:.0f}"
        work.notes.append(f"{size}: smaller pictures, fewer demos, or demos that share a network")
    return work.notes
