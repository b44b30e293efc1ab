r"""The page of laws: every numbered equation of a run's chapters, what was checked, and which mistakes that notices.

A reader sees the formula, the laws that held in this run with the error that was found, and the wrong versions of the
formula that the same laws are known to refuse.
"""

import html
import json
import re

from course_utils.commands.pages import document, mathml

NAME = "laws.html"
_DISPLAYED = re.compile(r"(?<!\\)\$\$(.+?)(?<!\\)\$\$", re.DOTALL)


def page(summary, out, kept):
    """``laws.html`` of the run in folder ``out``, from ``metrics.json`` and the notebooks' ledger ``kept``."""
    drawn, sections = [], []
    for name, entry in summary["chapters"].items():
        heading, formulas = read(out / f"{name}.ipynb", name)
        rows = [row(name, number, tex, entry.get("laws", {}).get(number), kept.get(number, {}), drawn)
                for number, tex in formulas]  # fmt: skip
        if rows:
            sections.append(f"<h2>{html.escape(heading)}</h2>{''.join(rows)}")
    top = ('<h1>The laws</h1><p>Every numbered equation of the course is run. Each line below is a law that compared '
           'two things computed in different ways, in the run that this page belongs to. Beside them stand mistakes '
           'that people make with the formula; a test puts each one in and demands that a law of that equation fails. '
           '<a href="index.html">All results of this run</a></p>')  # fmt: skip
    characters = re.sub(r"<annotation.*?</annotation>|<[^>]*>", "", "".join(drawn), flags=re.DOTALL)
    return document.page("The laws", f"<main>{top}{''.join(sections)}</main>", html.unescape(characters))


def read(path, name):
    """``(title, [(number, LaTeX)])`` of an executed chapter; of one that is not there, its name and nothing."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return name, []
    texts = [document.text_of(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    title = next((line.lstrip("# ") for text in texts for line in text.splitlines() if line.startswith("# ")), name)
    displayed = [tex for text in texts for tex in _DISPLAYED.findall(text)]
    return title, [(number, tex) for tex in displayed for number in re.findall(r"\\tag\{([^{}]*)\}", tex)]


def row(name, number, tex, laws, entry, drawn):
    """One equation. ``laws``: its records, None where the run has none. ``drawn`` collects the MathML."""
    try:
        element, _ = mathml.equation(tex)
        drawn.append(element)
    except mathml.MathError:
        element = f'<code class="tex">{html.escape(tex)}</code>'
    place = f"{html.escape(name)}.html#eq-{html.escape(number)}"
    formula = f'<div class="equation">{element}<a class="tag" href="{place}">({html.escape(number)})</a></div>'
    if laws is None:
        held = "<p>A definition: there is nothing to check.</p>" if "law" not in entry else "<p>Not run.</p>"
    else:
        held = f"<div><h3>Laws that held</h3><ul>{''.join(map(law, laws))}</ul></div>"
    caught = "".join(f"<li>{html.escape(what)}</li>" for what in entry.get("caught", ()))
    caught = f"<div><h3>Mistakes that they refuse</h3><ul>{caught}</ul></div>" if caught else ""
    return f'<article class="law" id="law-{html.escape(number)}">{formula}{held}{caught}</article>'


def law(record):
    """A law that held, as an item of a list: its line, and what was measured in small print."""
    what, found = html.escape(record["what"]), html.escape(record.get("found", ""))
    if record["law"] == "fails":
        what = f"<s>{what.removeprefix('refuted, as it must be: ')}</s> <small>refuted</small>"
    return f"<li>{what}{f' <small>{found}</small>' if found else ''}</li>"
