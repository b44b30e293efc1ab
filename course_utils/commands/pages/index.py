"""The page that opens a run: what was run, with what, every number, and a thumbnail of every picture."""

import base64
import functools
import html
import io
import json
from urllib.parse import quote

from course_utils.commands.pages import document, laws

WIDEST = 360  # pixels of a thumbnail
MOST = 24  # thumbnails of one chapter


def page(summary, out):
    """`index.html` of the run in folder `out`, from the content of its `metrics.json`."""
    chapters = summary["chapters"]
    passed = sum(entry["status"] == "passed" for entry in chapters.values())
    versions = " · ".join(f"{name} {number}" for name, number in summary["versions"].items())
    body = "".join(section(name, entry, out) for name, entry in chapters.items())
    top = (
        f'<h1>Results of the course</h1><p class="facts">{passed} of {len(chapters)} chapters passed · '
        f"{html.escape(summary['written'])}<br>{html.escape(versions)}</p>"
    )
    n_laws = sum(len(records) for entry in chapters.values() for records in entry.get("laws", {}).values())
    if n_laws:
        top += f'<p><a href="{laws.NAME}">The laws: {n_laws} checks, equation by equation</a></p>'
    return document.page("Results of the course", f"<main>{top}{table(chapters)}{body}</main>")


def link(name):
    return quote(f"{name}.html", safe="")


def table(chapters):
    """Every recorded number of every chapter, with the floor it had to keep, in one table."""
    rows = []
    for name, entry in chapters.items():
        numbers = []
        for metric, value in entry["metrics"].items():
            floor = " ".join(f"{kind} {bound:g}" for kind, bound in entry["floors"].get(metric, {}).items())
            floor = f"<small>{floor}</small>" if floor else ""
            shown = html.escape(document.shown(value))
            numbers.append(f"<div><span>{html.escape(document.words(metric))} {floor}</span><b>{shown}</b></div>")
        breakable = html.escape(name).replace("_", "_<wbr>")
        rows.append(
            f'<tr><th><a href="{link(name)}">{breakable}</a><br><small>{entry["status"]} · '
            f'{entry["wall_seconds"]:.1f} s</small></th><td><div class="numbers">{"".join(numbers)}</div></td></tr>'
        )
    return f'<table class="results"><tbody>{"".join(rows)}</tbody></table>'


def section(name, entry, out):
    """One chapter: link, verdict, parameters, failure, pictures."""
    heading, pictures = seen(out / f"{name}.ipynb", name)
    heading = html.escape(heading or name)
    if (out / f"{name}.html").exists():
        heading = f'<a href="{link(name)}">{heading}</a>'
    facts = [f"{key} {value}" for key, value in entry["parameters"].items() if value != "" and key != "data_dir"]
    facts += [f"{entry['cells']} cells", f"{entry['wall_seconds']:.1f} s"]
    if entry.get("machine"):
        facts.append(entry["machine"].get("gpu") or entry["machine"].get("processor") or "")
    parts = [
        f'<h2>{heading}</h2><span class="status is-{entry["status"].replace(" ", "-")}">{entry["status"]}</span>',
        f'<p class="facts">{html.escape(" · ".join(filter(None, facts)))}</p>',
    ]
    failure = entry["failure"]
    if failure:
        place = f"code cell {failure['cell']} of {failure['cells']}: " if "cell" in failure else ""
        parts.append(f'<p class="failure">{html.escape(place + failure["message"])}</p>')
        if failure["traceback"]:
            tail = "\n".join(failure["traceback"].rstrip().splitlines()[-15:])
            parts.append(f'<pre class="trace">{html.escape(tail)}</pre>')
    parts += [f'<p class="facts">{html.escape(note)}</p>' for note in entry["notes"]]
    if (out / "logs" / f"{name}.txt").exists():
        parts.append(f'<p class="facts"><a href="logs/{quote(name, safe="")}.txt">log</a></p>')
    if pictures:
        parts.append(f'<div class="thumbnails">{pictures}</div>')
    return f'<section class="chapter">{"".join(parts)}</section>'


def seen(path, name):
    """Title and thumbnails of an executed notebook; empty where it is missing, or is none that can be shown."""
    try:
        about = path.stat()
        return _seen(path, name, about.st_mtime_ns, about.st_size)
    except Exception:  # a notebook may hold anything at all; the page of all the others must still be written
        return None, ""


@functools.lru_cache(maxsize=256)  # a run writes this page after every chapter, and most have not changed
def _seen(path, name, _time, _size):
    nb = json.loads(path.read_text(encoding="utf-8"))
    return title(nb), "".join(thumbnails(nb, name))


def title(nb):
    """The first heading of a notebook, or None."""
    texts = [document.text_of(cell["source"]) for cell in nb["cells"] if cell["cell_type"] == "markdown"]
    lines = [line for text in texts for line in text.splitlines()]
    return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), None)


def thumbnails(nb, name):
    """Small copies of the pictures of a chapter, each a link to the cell that drew it."""
    found = []
    for index, cell in enumerate(nb["cells"]):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            kind = next((kind for kind in (*document.PICTURES, "image/svg+xml") if kind in data), None)
            if kind is None or len(found) == MOST:
                continue
            try:
                address = small(kind, data[kind])
                alt = html.escape(document.alt_of(data, output.get("metadata", {}), kind))
            except Exception:  # no picture, whatever its label says; the chapter's own page shows what there is
                continue
            found.append(
                f'<a href="{link(name)}#{document.anchor_of(cell, index)}" title="{alt}">'
                f'<img src="{address}" alt="{alt}"></a>'
            )
    return found


def small(kind, data):
    """A picture as a data address, at most `WIDEST` pixels wide."""
    if kind == "image/svg+xml":
        return "data:image/svg+xml;base64," + base64.b64encode(document.text_of(data).encode()).decode()
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(document.text_of(data))))
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.convert("RGB" if picture.mode in ("RGB", "L", "P") else "RGBA").save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
