"""How long the core path of a chapter takes a student, estimated from its source: words, code, exercises, widgets.

What stands in a folded section does not count. The rates below are guesses for somebody who meets the idea for the
first time; what matters is that every chapter is measured by the same ones. The build prints the minutes section by
section, puts them below the sections' headings and the sum (to five minutes) where a source says ``{minutes}``, and
refuses a chapter that takes too long.
"""

import re
from dataclasses import replace

from course_utils.commands.build import complete
from course_utils.commands.build.ledger import CODE, FORMULA
from course_utils.commands.build.quotes import code_lines
from course_utils.files import write_bytes

WORDS = 1 / 200  # minutes a word of prose takes
EQUATION = 0.5  # a displayed equation
LINE = 1 / 28  # a line of code, of at most 95 characters
WIDGET = 2.0
EXERCISE = {"write": 4.0, "build": 10.0, "predict": 1.0}
MOST, MOST_OF = 90, {"08": 45}
KNOWN_TOO_LONG = ()  # chapters whose core paths wait to be folded
PLACE = "{minutes}"


def by_section(chapter, kinds):
    """``[(heading, minutes)]`` of the core path. ``kinds``: exercise id → kind."""
    sections, folded = [], 0
    for cell in chapter.cells:
        heading = re.match(r"(#{1,6}) +(.*)", cell.text) if cell.kind == "markdown" else None
        if heading:
            level = len(heading[1])
            folded = 0 if level <= folded else folded
            folded = folded or (level if "fold" in cell.tags else 0)
            if level <= 2:
                sections.append([heading[2], 0.0])
        if not sections:
            sections.append(["", 0.0])
        if not folded and sections[-1][0] != "Sources":  # nobody reads those to the end
            sections[-1][1] += _cell(cell, kinds)
    return [(heading, minutes) for heading, minutes in sections]


def _cell(cell, kinds):
    if cell.kind == "markdown":
        text = CODE.sub(" code ", cell.text)
        displayed = sum(found["display"] is not None for found in FORMULA.finditer(text))
        words = len(re.findall(r"\w+(?:['’-]\w+)*", FORMULA.sub(" formula ", text)))
        return words * WORDS + displayed * EQUATION
    if "exercise" in cell.keys:
        return EXERCISE[kinds.get(cell.keys["exercise"], "write")]
    if {"parameters", "check"} & set(cell.tags):
        return 0.0
    try:
        lines = code_lines(cell.text)
    except SyntaxError:
        return 0.0
    return lines * LINE + (WIDGET if "widget" in cell.tags else 0.0)


def rounded(sections):
    """The sum, to five minutes."""
    return 5 * round(sum(minutes for _, minutes in sections) / 5)


def line(chapter, sections):
    """The minutes of a chapter and of its sections on one line."""
    parts = " · ".join(f"{heading.split(' ')[0]} {minutes:.0f}" for heading, minutes in sections if minutes >= 0.5)
    return f"{chapter.path.stem}: about {rounded(sections)} minutes ({parts})"


def row(chapter):
    """``(README.md, its text, the match of the chapter's minutes in it)``; the last None where it has no such row."""
    root = complete.checkout(chapter)
    if root is None:
        return None, "", None
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    return path, text, re.search(rf"(?m)^\|.*\(notebooks/{chapter.path.stem}\.ipynb\).*\| (\d+) min \|$", text)


def readme(chapter, minutes):
    """README's table says the minutes that the build estimates."""
    path, _, found = row(chapter)
    if path is not None and (found is None or int(found[1]) != minutes):
        said = f"says {found[1]} minutes" if found else "does not say the minutes"
        yield chapter.problem(f"README.md {said}, the estimate is {minutes}; run `course build`")


def write(chapter, minutes):
    """Put the minutes into README's table."""
    path, text, found = row(chapter)
    if found is not None and int(found[1]) != minutes:
        write_bytes(path, (text[: found.start(1)] + str(minutes) + text[found.end(1) :]).encode("utf-8"))


def filled(chapter, sections):
    """The chapter with the number of minutes where its source asks for it, and below the heading of each section."""
    takes, total = dict(sections), str(rounded(sections))
    return replace(chapter, cells=tuple(
        replace(cell, text=_timed(cell.text, takes).replace(PLACE, total)) if cell.kind == "markdown" else cell
        for cell in chapter.cells))  # fmt: skip


def _timed(text, takes):
    """The text of a cell, the minutes of its section (``## 4.2 …``) below its heading."""
    first, _, rest = text.partition("\n")
    if not re.match(r"## \d+\.\d+ ", first):
        return text
    minutes = max(1, round(takes[first.removeprefix("## ").strip()]))
    return f"{first}\n*about {minutes} minute{'s' * (minutes > 1)}*\n\n{rest.lstrip()}".rstrip()


def rule(chapter, minutes):
    """The chapter names its minutes in the cell of its title, and takes no more than it may."""
    title = next((cell for cell in chapter.cells if cell.kind == "markdown"), None)
    if title is None or f"about {PLACE} minutes" not in title.text.replace("\n", " "):
        yield chapter.problem(f'the cell of the title says how long it takes: "about {PLACE} minutes"', title)
    most = MOST_OF.get(chapter.number, MOST)
    if minutes > most and chapter.number not in KNOWN_TOO_LONG:
        yield chapter.problem(f"the core path takes about {minutes} minutes, may take {most}: fold what can wait")
