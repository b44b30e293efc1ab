"""The page of the class: how the points are spread, which exercises are hard, what fails, how long grading took."""

from collections import Counter

from course_utils.commands.report import gradebook, similarity
from course_utils.commands.report.feedback import HEAD, WORDS, said

BINS = 10


def page(plan, records):
    """``summary.html``: numbers about everybody, and a list of similar answers without a verdict."""
    rows = gradebook.rows(plan, records)
    of = max((row["of"] for row in rows), default=0)
    points = [row["points"] for row in rows if row["state"] == "graded"]
    counts = Counter(row["state"] for row in rows)
    parts = [HEAD.format(title="The class"), "<h1>The class</h1>",
             "<p>" + ", ".join(f"{counts[state]} {state}" for state in gradebook.STATES if counts[state])
             + f" of {len(plan['students'])} students.</p>"]  # fmt: skip
    if points:
        middle = sorted(points)[len(points) // 2]
        parts.append(f"<h2>Points</h2><p>Mean {sum(points) / len(points):.1f}, median {middle} of {of}.</p>")
        parts.append(_bars(_histogram(points, of), ("points", "students")))
    results = [(record["chapter"], i, e) for record in records.values() if record["state"] == "graded"
               for i, e in record["exercises"].items()]  # fmt: skip
    parts += ["<h2>Exercises, hardest first</h2>", _hardest(results), "<h2>Common failures</h2>", _failures(results)]
    seconds = sorted(record["seconds"] for record in records.values())
    if seconds:
        parts.append(f"<h2>Time</h2><p>Grading one notebook took {sum(seconds) / len(seconds):.1f} s on average, "
                     f"{seconds[-1]:.1f} s at most; together {sum(seconds) / 60:.0f} min of workers' time.</p>")
    parts += ["<h2>Similar answers</h2>", _similar(similarity.pairs(plan, records))]
    return "\n".join([*parts, "</body></html>\n"])


def _histogram(points, of):
    width = max(1, -(-(of + 1) // BINS))
    counts = Counter(p // width for p in points)
    last = of // width
    names = [f"{i * width}–{min(of, i * width + width - 1)}" if width > 1 else f"{i}" for i in range(last + 1)]
    return [(name, counts[i]) for i, name in enumerate(names)]


def _bars(lines, heads):
    most = max((n for _, n in lines), default=0) or 1
    rows = [f"<tr><th>{said(heads[0])}</th><th class=n>{said(heads[1])}</th><th></th></tr>"]
    rows += [f"<tr><td>{said(name)}</td><td class=n>{n}</td><td style='width:70%'>"
             f"<span class=bar style='width:{100 * n / most:.0f}%'></span></td></tr>" for name, n in lines]  # fmt: skip
    return f"<table>{''.join(rows)}</table>"


def _hardest(results):
    tried = {}
    for _, name, result in results:
        tried.setdefault(name, []).append(result["state"])
    lines = []
    for name, states in tried.items():
        share = states.count("passed") / len(states)
        lines.append((share, name, len(states), states.count("no_answer")))
    rows = ["<tr><th>exercise</th><th class=n>passed</th><th class=n>no answer</th><th class=n>students</th></tr>"]
    rows += [f"<tr><td>{said(name)}</td><td class=n>{share:.0%}</td><td class=n>{none}</td><td class=n>{n}</td></tr>"
             for share, name, n, none in sorted(lines)]  # fmt: skip
    return f"<table>{''.join(rows)}</table>"


def _failures(results):
    counts = Counter((name, r["state"], r["property"]) for _, name, r in results
                     if r["state"] not in ("passed", "no_answer"))  # fmt: skip
    if not counts:
        return "<p>None.</p>"
    rows = ["<tr><th class=n>students</th><th>exercise</th><th>how</th><th>what does not hold</th></tr>"]
    rows += [f"<tr><td class=n>{n}</td><td>{said(name)}</td><td>{said(WORDS.get(state, state))}</td>"
             f"<td>{said(what)}</td></tr>" for (name, state, what), n in counts.most_common(15)]  # fmt: skip
    return f"<table>{''.join(rows)}</table>"


def _similar(found):
    if not found:
        return "<p>No two answers share more than is usual.</p>"
    rows = ["<tr><th class=n>shared</th><th>exercise</th><th>students</th></tr>"]
    rows += [f"<tr><td class=n>{share:.0%}</td><td>{said(name)}</td><td>{said(a)}, {said(b)}</td></tr>"
             for share, name, a, b in found]  # fmt: skip
    text = ("<p>A list, not a verdict: short answers are alike because there are few ways to write them. Names of "
            "variables, comments and spaces do not count, nor does what was given.</p>")  # fmt: skip
    return f"{text}<table>{''.join(rows)}</table>"
