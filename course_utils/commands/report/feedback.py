"""A student's page: which property failed and how to think about it, and what the student's own cells showed.

Everything of the student's is escaped; there is no script, no link, and no input of a probe. A policy in the page
forbids to load anything.
"""

import html
import re

WORDS = {
    "passed": "passed", "failed": "not yet", "no_answer": "no answer", "bad_type": "wrong kind of result",
    "timeout": "took too long", "out_of_memory": "too much memory", "crashed": "ended the process",
    "output_limit": "too much output", "rejected": "not accepted", "infra": "not graded yet",
}  # fmt: skip
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; color: #222 }}
h1 {{ font-size: 1.5em }} h2 {{ font-size: 1.2em; margin-top: 2em }}
section {{ border-left: 4px solid #999; padding: .1em 1em; margin: 1em 0; background: #fafafa }}
section.passed {{ border-color: #009E73 }} section.failed {{ border-color: #D55E00 }}
section h3 {{ margin: .4em 0; font-size: 1em }} section p {{ margin: .4em 0 }}
pre {{ background: #f0f0f0; padding: .6em; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }}
img {{ max-width: 100% }} table {{ border-collapse: collapse; width: 100% }}
td, th {{ padding: .2em .8em .2em 0; text-align: left; vertical-align: top }} td.n, th.n {{ text-align: right }}
.bar {{ background: #0072B2; height: .9em; display: inline-block; vertical-align: middle }}
.quiet {{ color: #666 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181818; color: #ddd }}
section {{ background: #222 }} pre {{ background: #2a2a2a }} .quiet {{ color: #999 }} img {{ background: #fff }} }}
</style></head><body>
"""


def file_name(student):
    """A student's id as the name of a file: letters, digits, point, dash and underscore."""
    return re.sub(r"[^\w.-]+", "_", student, flags=re.ASCII).strip("._")[:80] or "student"


def said(text):
    return html.escape(str(text), quote=True)


def page(student, plan, mine, shown):
    """The page of a student. ``mine`` and ``shown``: record, and what the cells showed, by chapter."""
    parts = [HEAD.format(title=f"Feedback for {said(student)}"), f"<h1>Feedback for {said(student)}</h1>"]
    for chapter, about in plan["chapters"].items():
        record = mine.get(chapter)
        name = about["stem"].partition("_")[2].replace("_", " ")
        parts.append(f"<h2>Chapter {said(chapter)}: {said(name)}</h2>")
        if record is None or record["state"] == "infra":
            parts.append("<p>Not graded yet. This is not your fault, and costs nothing.</p>")
            continue
        if record["state"] == "rejected":
            parts.append(f"<p>Your notebook could not be graded: {said(record['note'])}.</p>")
            continue
        counted = [e for e in about["exercises"] if e["kind"] != "predict" and not e["practice"]]
        got = sum(record["exercises"][e["id"]]["points"] for e in counted if e["id"] in record["exercises"])
        parts.append(f"<p><b>{got} of {sum(e['points'] for e in counted)} points.</b></p>")
        parts += [_exercise(e, record, shown.get(chapter, {})) for e in about["exercises"]]
    return "\n".join([*parts, "</body></html>\n"])


def _exercise(exercise, record, shown):
    name, result = exercise["id"], record["exercises"].get(exercise["id"])
    if result is None:
        return ""
    passed = result["state"] == "passed"
    outside = "a prediction, outside the total" if exercise["kind"] == "predict" else (
        "practice, outside the total" if exercise["practice"] else f"{result['points']} of {result['of']} points")
    rows = [f'<section class="{"passed" if passed else "failed"}">',
            f"<h3>Exercise {said(name)}: {said(WORDS.get(result['state'], result['state']))} "
            f'<span class="quiet">({said(outside)})</span></h3>']  # fmt: skip
    if result["property"] and not passed:
        rows.append(f"<p>What does not hold: <b>{said(result['property'])}</b>.</p>")
    rows += [f"<p>{said(result[key])}</p>" for key in ("found", "hint") if result[key]]
    source = record.get("sources", {}).get(name)
    if source and result["state"] != "no_answer":
        rows.append(f"<details><summary>Your code</summary><pre>{said(source)}</pre></details>")
    for kind, value in shown.get(name, ()):
        if kind == "png" and re.fullmatch(r"[A-Za-z0-9+/=]+", value):
            rows.append(f'<p><img alt="A picture that your code drew" src="data:image/png;base64,{value}"></p>')
        elif kind == "text":
            rows.append(f"<p class=quiet>Your code showed:</p><pre>{said(value)}</pre>")
    return "\n".join([*rows, "</section>"])
