r"""The ledger of equations: each ``\tag{c.n}`` of a chapter is defined or verified, and stays as it was derived.

The rules take a chapter and yield :class:`Problem` objects; the file ``notebooks/ledger.json`` keeps, for every
equation, a fingerprint of its formula, of the unnumbered formulas beside it, of the cells that verify it and of its
twins. A changed formula stops the build until somebody has derived it again and says so by name: ``course build
--accept 4.3``. Spaces, fences' sizes and the final dot do not count, nor does a formula that only got another number.
"""

import ast
import hashlib
import io
import json
import re
import tokenize
from pathlib import Path

from course_utils.commands.build.source import Problem
from course_utils.commands.build.twins import out_of_place
from course_utils.commands.pages import mathml
from course_utils.files import write_bytes

LEDGER = "ledger.json"
MIN_TWINS = 2
TAG = re.compile(r"\\tag\*?\s*\{[^}]*\}")
CODE = re.compile(r"^```.*?^```|(`+)(?!`).+?(?<!`)\1(?!`)", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"(?<!\\)\$\$(?P<display>.+?)(?<!\\)\$\$|(?<![\\$])\$(?P<inline>[^$]+?)(?<!\\)\$", re.DOTALL)
REFERENCE = re.compile(r"\(([1-9]\d?\.[1-9]\d*)\)")
LOOK = re.compile(  # of a formula, not its meaning: spaces, sizes of fences, columns of an alignment
    r"\\[,;:!> ]|&|\s+|"
    r"\\(?:quad|qquad|thinspace|enspace|left|right|middle|displaystyle|textstyle|[bB]igg?[lrm]?)(?![a-zA-Z])"
)


# ---- rules -----------------------------------------------------------------------------------------------------------
def equations(chapter):
    r"""Every ``\tag{c.n}`` is defined or verified by a law, once, and belongs to this chapter."""
    tagged, problems = _tagged(chapter)
    yield from problems
    defined, checked = set(), set(verified(chapter))
    modules = _modules(chapter)
    for cell in chapter.cells:
        for number in cell.keys.get("defines", ()):
            if tagged.get(number) is not cell:
                yield chapter.problem(f"defines {number}, but \\tag{{{number}}} does not stand in this cell", cell)
            defined.add(number)
        for number in cell.keys.get("verifies", ()):
            if number not in tagged:
                yield chapter.problem(f"verifies {number}, but no equation here has \\tag{{{number}}}", cell)
        if "verifies" in cell.keys and not any(_says_something(call, modules) for call in laws(cell.tree.body)):
            what = "verifies an equation without calling a law of course_utils.checks on something computed here"
            yield chapter.problem(f"{what}; checks.fails alone verifies nothing", cell)
    for number, cell in tagged.items():
        if number not in checked | defined:
            what = f"\\tag{{{number}}} is neither defined here (defines) nor verified by any code cell (verifies)"
            yield chapter.problem(what, cell)
    if 2 * len(defined - checked) > len(tagged):
        how_many = f"{len(defined - checked)} of {len(tagged)} numbered equations are definitions"
        yield chapter.problem(f"{how_many}; at least half are to be verified")


def _tagged(chapter):
    """The markdown cell of each number, and the tags that are not of the form ``\\tag{4.3}``, of this chapter, once."""
    tagged, problems = {}, []
    for cell in (c for c in chapter.cells if c.kind == "markdown"):
        for tag in TAG.findall(cell.text):
            number = tag.partition("{")[2][:-1]
            if not re.fullmatch(rf"{int(chapter.number)}\.[1-9]\d*", number):
                problems.append(chapter.problem(f"{tag}: numbers here are {int(chapter.number)}.1, …", cell))
            elif tag != f"\\tag{{{number}}}":
                problems.append(chapter.problem(f"{tag}: write \\tag{{{number}}}", cell))
            elif number in tagged:
                problems.append(chapter.problem(f"{tag} stands already in cell {tagged[number].index}", cell))
            else:
                tagged[number] = cell
    return tagged, problems


def laws(statements):
    """The calls ``checks.law(…)`` that run when these statements do, ``checks.fails`` left out.

    What stands in a comment, in a function's body or under ``if False`` does not run.
    """
    for node in statements:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.If | ast.While) and isinstance(node.test, ast.Constant):
            yield from laws(node.body if node.test.value else node.orelse)
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if ast.unparse(node.func.value) == "checks" and node.func.attr != "fails":
                yield node
        yield from laws(ast.iter_child_nodes(node))


def _says_something(call, modules):
    """Whether a law is given anything computed: a name that is no module; and not the same thing twice."""
    names = {n.id for argument in call.args for n in ast.walk(argument) if isinstance(n, ast.Name)}
    twice = len(call.args) > 1 and ast.dump(call.args[0]) == ast.dump(call.args[1])
    return bool(names - modules) and not twice


def _modules(chapter):
    nodes = [n for cell in chapter.cells if cell.kind == "code" for n in ast.walk(cell.tree)]
    names = {a.asname or a.name.split(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
    from_package = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "course_utils"]
    return names | {a.asname or a.name for n in from_package for a in n.names}


def formulas(chapter):
    """Every formula between dollars can be drawn, and every dollar has its partner."""
    for cell in (c for c in chapter.cells if c.kind == "markdown"):
        text = CODE.sub("", cell.text)
        for found in FORMULA.finditer(text):
            try:
                if found["display"]:
                    mathml.equation(found["display"])
                else:
                    mathml.convert(found["inline"])
            except mathml.MathError as error:
                yield chapter.problem(str(error), cell)
            if re.search(r"\n\s*\n", found[0]):
                start = found[0][:40].replace("\n", " ")
                yield chapter.problem(f"a formula goes over an empty line, so a dollar has no partner: {start}…", cell)
        shown = "".join(found["display"] or "" for found in FORMULA.finditer(text))
        if len(TAG.findall(cell.text)) != len(TAG.findall(shown)):
            yield chapter.problem("a number (\\tag) stands outside of a displayed formula, $$ … $$", cell)
        if (at := re.search(r"(?<!\\)\$", left := FORMULA.sub("", text))) is not None:
            near = left[max(0, at.start() - 20) : at.start() + 20].replace("\n", " ")
            yield chapter.problem(f"a dollar without a partner near “{near}”; write \\$ for money", cell)


def references(chapter, known):
    """A number in parentheses, as in (4.3), in prose, in strings and in comments, is that of an equation. ``known``:
    the numbers of all chapters."""
    for cell in chapter.cells:
        texts = [FORMULA.sub("", CODE.sub("", cell.text))] if cell.kind == "markdown" else _told(cell.text)
        for number in dict.fromkeys(n for text in texts for n in REFERENCE.findall(text)):
            if number not in known:
                yield chapter.problem(f"({number}) is mentioned, but no equation has this number", cell)


def _told(code):
    """The strings and comments of a piece of code."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", -1)}
    try:
        return [token.string for token in tokenize.generate_tokens(io.StringIO(code + "\n").readline)
                if token.type in kinds]  # fmt: skip
    except (tokenize.TokenError, SyntaxError):
        return []  # no Python: a rule of its own says so


def numbers(chapter):
    """The numbers of the equations of a chapter, in order."""
    return list(_tagged(chapter)[0])


def verified(chapter):
    """The numbers of the equations that a cell of the chapter verifies, in order."""
    return list(dict.fromkeys(number for cell in chapter.cells for number in cell.keys.get("verifies", ())))


def wrong_twins(chapter, known):
    """Every verified equation has at least two wrong twins, whose text stands where they say. ``known``: equation →
    its twins."""
    for number in verified(chapter):
        cells = [cell for cell in chapter.cells if number in cell.keys.get("verifies", ())]
        for twin in known.get(number, ()):
            if what := out_of_place(twin, [cell.text for cell in cells]):
                yield chapter.problem(f"wrong twin of ({number}), “{twin.what}”: {what}", cells[0])
        if (n := len(known.get(number, ()))) < MIN_TWINS:
            what = f"({number}) has {n} wrong twin{'s' * (n != 1)}, needs {MIN_TWINS}: see tests/twins/__init__.py"
            yield chapter.problem(what, next(c for c in chapter.cells if number in c.keys.get("verifies", ())))
    for number in known.keys() - set(verified(chapter)):
        yield chapter.problem(f"there are wrong twins for ({number}), but no cell verifies it")


# ---- the file --------------------------------------------------------------------------------------------------------
def load(folder):
    """The ledger in a folder of notebooks, ``{}`` where there is none. Raises ValueError for another kind of file."""
    path = Path(folder) / LEDGER
    if not path.is_file():
        return {}
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and all(isinstance(entry, dict) for entry in kept.values()):
            return kept
    except ValueError:
        pass
    raise ValueError(f"{path} is no ledger of equations; take it from the last commit")


def dumps(entries):
    """The text of the file: one line an equation, in order, so that two people who change two equations do not meet."""
    ordered = sorted(entries, key=lambda number: [int(part) for part in number.split(".")])
    lines = [f"{json.dumps(n)}: {json.dumps(entries[n], ensure_ascii=False, sort_keys=True)}" for n in ordered]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def save(folder, entries):
    """Write the ledger, whole or not at all. Returns whether that changed anything."""
    path = Path(folder) / LEDGER
    text = dumps(entries)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode("utf-8"))
    return True


def normalised(tex):
    """A formula without what changes its look alone: spaces, sizes of fences, its number, the mark at its end."""
    return re.sub(r"[.,;]$", "", LOOK.sub("", TAG.sub("", tex)))


def entries(chapter, known):
    """What the ledger keeps of a chapter's equations, by number. ``known``: equation → its wrong twins."""
    kept = {}
    for number, cell in _tagged(chapter)[0].items():
        tex, steps = _derived(cell.text, number)
        kept[number] = {"formula": _digest(normalised(tex))} | ({"steps": _digest(*steps)} if steps else {})
        checked = [c.text for c in chapter.cells if number in c.keys.get("verifies", ())]
        if checked:
            wrong = known.get(number, [])
            kept[number] |= {"law": _digest(*checked), "twins": _digest(*map(str, wrong)),
                             "caught": [twin.what for twin in wrong]}  # fmt: skip
    return kept


def _derived(text, number):
    """The formula with this number, and the unnumbered ones before it, back to the number before; after the last
    number those that follow it too."""
    displayed = [found["display"] for found in FORMULA.finditer(CODE.sub("", text)) if found["display"]]
    steps = []
    for place, tex in enumerate(displayed):
        if f"\\tag{{{number}}}" in tex:
            after = displayed[place + 1 :]
            last = not any("\\tag{" in step for step in after)
            return tex, [normalised(step) for step in [*steps, *(after if last else ())]]
        steps = [] if "\\tag{" in tex else [*steps, tex]
    return "", []


def _digest(*texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def changed(chapter, fresh, kept, accepted=()):
    """A problem for each formula that is not the one in the ledger. ``accepted``: numbers of those derived again."""
    own = _own(chapter, kept)
    now = {number: entry["formula"] for number, entry in fresh.items()}
    gone = {entry.get("formula") for number, entry in own.items() if now.get(number) != entry.get("formula")}
    cells = _tagged(chapter)[0]
    for number, entry in fresh.items():
        if number not in own or number in accepted:
            continue
        same = own[number].get("formula") == entry["formula"]
        steps = [part.get("steps") for part in (own[number], entry)]
        if same and None not in steps and steps[0] != steps[1]:
            what = f"a formula without a number beside ({number}) is not the one that was derived"
            yield chapter.problem(f"{what}: derive it again, then run `course build --accept {number}`", cells[number])
        if not same and entry["formula"] not in gone:
            what = f"the formula ({number}) is not the one that was verified"
            todo = f"derive it again, look at its law and its twins, then run `course build --accept {number}`"
            yield chapter.problem(f"{what}: {todo}", cells[number])


def updated(chapter, fresh, kept):
    """The ledger with a chapter's equations as they are now."""
    own = _own(chapter, kept)
    return {number: entry for number, entry in kept.items() if number not in own} | fresh


def _own(chapter, kept):
    return {number: entry for number, entry in kept.items() if number.split(".")[0] == str(int(chapter.number))}


def stale(chapter, fresh, kept):
    """Problems for what the ledger does not say as the sources do. (A changed formula has its own.)"""
    own = _own(chapter, kept)
    differ = [n for n in {**own, **fresh} if own.get(n) != fresh.get(n)]
    if differ:
        listed = ", ".join(f"({number})" for number in differ)
        yield Problem(LEDGER, f"does not say what chapter {chapter.number} says of {listed}; run `course build`")


