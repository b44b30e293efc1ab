r"""The rules of a chapter. Each takes what it needs and yields :class:`Problem` objects; none stops at the first.

Those on equations stand in :mod:`course_utils.commands.build.ledger`.

* markers: only known keys and tags, on the kinds of cell they belong to; no cell is empty without a role
* folds: a folded section says so and does not swallow what follows it
* widgets: the cells that show one are tagged, and there is such a widget
* code: at most 25 lines of code a cell, docstrings aside, and 95 characters a line
* parameters: the first code cell of a source holds annotated literals, the five standard ones among them
* exercises: each is announced as it is, has its check below it (a prediction also a cell that reveals the outcome), and
  its answer stands nowhere else in the chapter
* names: what a quoted function or a solution refers to exists when its cell runs
"""

import ast
import builtins
import io
import math
import re
import tokenize

from course_utils.commands.build import demos
from course_utils.commands.build.quotes import MAX_LINES, bodies, code_lines, solution
from course_utils.commands.build.source import KEYS, TAGS, called, names_when_defined

STANDARD_PARAMETERS = {"budget": "auto", "dataset": "handwriting", "seed": 0, "device": "auto", "data_dir": ""}
LONGEST = {"code": 95, "markdown": 200}  # characters in a line; what a page shows of code, and room for a formula
LITERALS = {"str": str, "int": int, "float": float, "bool": bool}
BUILTINS = {*dir(builtins), "__name__", "display", "get_ipython"}


def markers(chapter):
    """Keys and tags are known, well-formed and on the right kind of cell."""
    for cell in chapter.cells:
        if cell.kind not in ("code", "markdown"):
            yield chapter.problem(f"a {cell.kind} cell; chapters have code and markdown cells only", cell)
        for key, value in cell.keys.items():
            if key == "incorrectly_encoded_metadata":
                yield chapter.problem(f'cannot read the marker {value!r}; write key="value" or key=["a", "b"]', cell)
            elif key not in KEYS:
                known = ", ".join(KEYS)
                yield chapter.problem(f"unknown key {key!r} ({value!r}) in the marker line; known are {known}", cell)
            elif cell.kind not in KEYS[key][0]:
                yield chapter.problem(f"{key} belongs on a {KEYS[key][0][0]} cell", cell)
            elif not isinstance(value, KEYS[key][1]) or not all(isinstance(v, str) for v in value):
                form = "one string" if KEYS[key][1] is str else 'a list of strings, as in ["1.7"]'
                yield chapter.problem(f"{key} should be {form}, got {value!r}", cell)
        for tag in cell.tags if isinstance(cell.tags, list) else ():
            if tag not in TAGS:
                yield chapter.problem(f"unknown tag {tag!r}; known are {', '.join(TAGS)}", cell)
            elif cell.kind != TAGS[tag]:
                yield chapter.problem(f"the tag {tag} belongs on a {TAGS[tag]} cell", cell)
        if "quote" in cell.keys and ("exercise" in cell.keys or cell.text.strip()):
            yield chapter.problem("a quoted cell is empty in the source and holds nothing else", cell)
        if not cell.text.strip() and not {"quote", "exercise"} & cell.keys.keys():
            yield chapter.problem("an empty cell", cell)


def folds(chapter):
    """A folded section starts with a heading that says so, and ends before what everybody needs.

    Front ends fold up to the next heading of the same level or above; reading a source made headings begin cells.
    """
    folded = 0  # level of the open folded section, 0 outside
    for cell in chapter.cells:
        if cell.kind == "markdown":
            if heading := re.match(r"#{1,6}(?= )", cell.text):
                folded = 0 if len(heading[0]) <= folded else folded
            if "fold" in cell.tags:
                folded = len(heading[0]) if heading else folded
                if not re.match(r"#{2,5} .*going deeper", cell.text, re.IGNORECASE):
                    what = 'a cell tagged fold begins with a heading such as "### Going deeper: …"'
                    yield chapter.problem(what, cell)
        elif folded and "score" in called(cell.tree):
            yield chapter.problem("score() stands inside a folded section; end that with a heading before it", cell)


def widgets(chapter):
    """Cells that show a widget are tagged, so that tests and pages find them, and only they."""
    for cell in (c for c in chapter.cells if c.kind == "code"):
        calls = [ast.unparse(node.func) for node in cell.calls]
        if any(call.startswith("widgets.") for call in calls) != ("widget" in cell.tags):
            yield chapter.problem('a cell that calls widgets.… is tagged tags=["widget"], and no other is', cell)
        known = demos.exported()
        for call in calls:
            if call.startswith("widgets.") and call.removeprefix("widgets.") not in known:
                yield chapter.problem(f"there is no {call}; there are {', '.join(sorted(known))}", cell)


def code(chapter):
    """Code cells are Python, short, and carry no nbval comment."""
    for cell in chapter.cells:
        if cell.kind != "code":
            continue
        try:
            lines = code_lines(cell.text)
        except SyntaxError as error:
            yield chapter.problem(f"not Python: {error.msg} (line {error.lineno} of the cell)", cell)
            continue
        if lines > MAX_LINES:
            yield chapter.problem(f"{lines} lines; a cell holds at most {MAX_LINES}", cell)
        for token in tokenize.generate_tokens(io.StringIO(cell.text + "\n").readline):
            if token.type == tokenize.COMMENT and re.search(r"nbval[-_]", token.string, re.IGNORECASE):
                tag = 'tags=["nbval-check-output"]'
                what = f"{token.string!r} in a comment does nothing; put {tag} on the marker line"
                yield chapter.problem(what, cell)
            if token.type == tokenize.COMMENT and re.search(r"#\s*(noqa|fmt:|ruff:)", token.string):
                yield chapter.problem(f"{token.string!r} is for a linter, not for readers", cell)
        for node in ast.walk(cell.tree):
            if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
                what = f"from {node.module} import *: a reader sees no names; import them one by one"
                yield chapter.problem(what, cell)


def lines(chapter):
    """No line is longer than a page is wide, in what a quote or an exercise fills in no more than in the source."""
    for cell in chapter.cells:
        most = LONGEST.get(cell.kind, math.inf)
        for row in cell.text.splitlines():
            if len(row) > most:
                yield chapter.problem(f"a line of {len(row)} characters, may have {most}: {row.strip()[:40]}…", cell)


def parameters(chapter):
    """The first code cell holds the parameters: annotated literals, with the standard five and their defaults."""
    tagged = [cell for cell in chapter.cells if "parameters" in cell.tags]
    first = next((cell for cell in chapter.cells if cell.kind == "code"), None)
    if first is None or first not in tagged:
        yield chapter.problem('the first code cell must hold the parameters: # %% tags=["parameters"]', first)
    for cell in tagged[1:]:
        yield chapter.problem("a second cell tagged parameters", cell)
    if not tagged:
        return
    found = {}
    for node in tagged[0].tree.body:
        literal = _literal(node)
        if literal is None:
            what = f"`{ast.unparse(node)}` is not an annotated literal such as `n_steps: int = 100`"
            yield chapter.problem(what, tagged[0])
        else:
            found[literal[0]] = literal[1]
    for name, default in STANDARD_PARAMETERS.items():
        if name not in found or found[name] != default:
            want = f"{name}: {type(default).__name__} = {default!r}"
            yield chapter.problem(f"the parameters must hold `{want}`".replace("'", '"'), tagged[0])


def _literal(node):
    """``(name, value)`` of an annotated literal whose value has the annotated type, else None."""
    if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None):
        return None
    try:
        value = ast.literal_eval(node.value)
    except ValueError:
        return None
    return (node.target.id, value) if type(value) is LITERALS.get(ast.unparse(node.annotation)) else None


def exercises(chapter, known):
    """Every exercise of the chapter stands in it once, in order, announced as it is, with its check below it.

    ``known`` maps ids to exercises. A prediction is committed by its check, and a later cell reveals the outcome.
    """
    seen = {}
    for position, cell in enumerate(chapter.cells):
        number = cell.keys.get("exercise")
        if number is None or number not in known:
            continue
        if number in seen:
            yield chapter.problem(f"exercise {number} stands already in cell {seen[number].index}", cell)
        elif later := [n for n in seen if _order(n) > _order(number)]:
            yield chapter.problem(f"exercise {number} comes after {later[0]}; number them as they follow", cell)
        seen[number] = cell
        name = known[number].reference.__name__
        below = chapter.cells[position + 1] if position + 1 < len(chapter.cells) else None
        if below is None or below.kind != "code" or checked(below) != (number, name) or "check" not in below.tags:
            what = f'the cell after an exercise must be # %% tags=["check"] with check("{number}", {name})'
            yield chapter.problem(what, cell)
        if cell.text.strip() and name not in bodies(cell.tree):
            yield chapter.problem(f"the starting code must define {name}, as the reference is called", cell)
        yield from _announced(chapter, position, known[number])
        yield from _revealed(chapter, position, known[number])
    for number in (n for n in known if n not in seen):
        yield chapter.problem(f'exercise {number} has no cell # %% exercise="{number}"')
    if seen and not any("score" in called(cell.tree) for cell in chapter.cells if cell.kind == "code"):
        yield chapter.problem("a chapter with exercises ends with a call of score()")
    for cell in (c for c in chapter.cells if c.kind == "markdown" and known):
        for number in re.findall(r"\b[Ee]xercises? (\d+\.\d+\w*)", cell.text):
            if number.startswith(f"{int(chapter.number)}.") and number not in known:
                yield chapter.problem(f"there is no exercise {number}; there are {', '.join(known)}", cell)


def _order(number):
    return [int(part) for part in number.split(".")]


def _announced(chapter, position, exercise):
    """The heading above an exercise says its number and its points as its module does."""
    points = f"{exercise.points} point{'s' * (exercise.points != 1)}"
    above = chapter.cells[position - 1] if position else None
    if above is None or above.kind != "markdown" or f"### Exercise {exercise.id} ({points}): " not in above.text:
        what = f'the cell above an exercise begins with "### Exercise {exercise.id} ({points}): …"'
        yield chapter.problem(what, chapter.cells[position])


def _revealed(chapter, position, exercise):
    """One cell reveals the outcome of a prediction, after its check; no other exercise has an outcome."""
    cells = [(i, cell) for i, cell in enumerate(chapter.cells) if cell.kind == "code" and revealed(cell) == exercise.id]
    if exercise.kind != "predict":
        for _, cell in cells:
            yield chapter.problem(f"reveals exercise {exercise.id}, which is no prediction", cell)
    elif len(cells) != 1 or cells[0][0] <= position + 1:
        what = f'a prediction needs one cell below its check that ends with reveal("{exercise.id}", outcome)'
        yield chapter.problem(what, chapter.cells[position])


def checked(cell):
    """``(id, function name)`` of the ``check("1.3", f)`` in a cell, or None."""
    for node in _calls(cell, "check"):
        if len(node.args) == 2 and isinstance(node.args[0], ast.Constant) and isinstance(node.args[1], ast.Name):
            return node.args[0].value, node.args[1].id
    return None


def revealed(cell):
    """The id of the ``reveal("1.6", outcome)`` in a cell, or None."""
    for node in _calls(cell, "reveal"):
        if len(node.args) == 2 and isinstance(node.args[0], ast.Constant):
            return node.args[0].value
    return None


def _calls(cell, name):
    return [node for node in cell.calls if isinstance(node.func, ast.Name) and node.func.id == name]


def answers(chapter, known):
    """No answer to an exercise is quoted, imported or written in the chapter; none is needed for the rest to run.

    ``chapter`` has its quoted cells filled in.
    """
    modules = _modules(chapter)
    named = {number: exercise.reference.__name__ for number, exercise in known.items()}
    wanted = {number: bodies(ast.parse(solution(known[number].reference)))[name] for number, name in named.items()}
    for cell in chapter.cells:
        if cell.kind != "code" or "exercise" in cell.keys:
            continue
        written, reached, (bound, used) = bodies(cell.tree), _reached(cell, modules), cell.names
        for number, name in named.items():
            same = known[number].kind != "predict" and wanted[number] in written.values()
            if name in written or same:
                yield chapter.problem(f"this code is the answer to exercise {number} ({name})", cell)
            elif name in reached:
                yield chapter.problem(f"the answer to exercise {number}, {name}, is imported here", cell)
            elif checked(cell) is None and name in bound:
                yield chapter.problem(f"this cell replaces {name}, the student's answer to exercise {number}", cell)
            elif checked(cell) is None and name in used and "NotImplementedError" not in used:
                what = f"uses {name}, which stops the chapter where exercise {number} is not done; catch that"
                yield chapter.problem(what, cell)


def _modules(chapter):
    """Names by which the chapter may reach modules of the package."""
    modules = {"course_utils"}
    for node in (n for c in chapter.cells if c.kind == "code" for n in ast.walk(c.tree)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "course_utils":
            modules |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            modules |= {a.asname for a in node.names if a.asname and a.name.split(".")[0] == "course_utils"}
    return modules


def _reached(cell, modules):
    """The names that a cell imports from anywhere, or takes from one of the package's ``modules``."""
    names = set()
    for node in ast.walk(cell.tree):
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[0] in modules:
            names.add(node.attr)
    return names


def missing_names(chapter):
    """Quoted code and exercises refer only to names that an earlier cell, or they themselves, bring in.

    The body of a quoted function matters only if the chapter goes on to call it by its bare name: then it is the
    quoted one that runs. Otherwise it is there to be read, as methods always are.
    """
    cells = [cell for cell in chapter.cells if cell.kind == "code" and cell.tree.body]
    so_far = set(BUILTINS)
    for position, cell in enumerate(cells):
        bound, used = cell.names
        if {"quote", "exercise"} & cell.keys.keys():
            method = "." in cell.keys.get("quote", "").partition(":")[2]
            later = set().union(*(c.names[1] for c in cells[position + 1 :]))
            if "quote" in cell.keys and (method or not bound & later):
                used = names_when_defined(cell.text)
            if missing := sorted(used - bound - so_far):
                yield chapter.problem(f"refers to {', '.join(missing)}, which no cell above imports or defines", cell)
        so_far |= bound


OF_CELLS = (folds, widgets, code, parameters)  # each takes the chapter alone
