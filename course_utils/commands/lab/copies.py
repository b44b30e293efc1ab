"""A student's own copies of the chapters: what was written is never lost, and answers move on to a newer edition.

The chapters in ``notebooks/`` belong to the course and change with it. A student works on copies in ``work/``, which
git ignores, so an update of the course never meets a student's answer. Beside the copies, ``.copied.json`` keeps for
each chapter the fingerprint of the edition that was copied last, and those of its exercises as they were handed out:
that is how a changed chapter is told from a changed copy, and an answer from an exercise nobody touched.
"""

import ast
import hashlib
import json
from pathlib import Path

import course_utils
from course_utils.files import write_bytes

LEDGER = ".copied.json"
PACKAGE = Path(course_utils.__file__).parent


def copy_chapters(source, target):
    """Bring the chapters of ``source`` into ``target`` without ever losing a student's work.

    A chapter that is missing is copied. A copy that nobody touched follows the course. A copy that was worked on stays
    as it is, and the newer chapter is laid beside it as ``NN_topic.new.ipynb`` (``.new2`` if that name is taken too),
    with the answers that were given to its exercises. So is a chapter whose only copy imports what the package no
    longer has.

    Returns a list of ``(file name, what happened)``, with nothing for a chapter that has not changed. Raises
    ``ValueError`` where ``source`` holds no chapter.
    """
    source, target = Path(source), Path(target)
    chapters = sorted(source.glob("[0-9][0-9]_*.ipynb"))
    if not chapters:
        raise ValueError(f"expected chapters such as 01_*.ipynb in {source}, found none; run this in a checkout of the "
                         "course, or build them with: course build")
    target.mkdir(parents=True, exist_ok=True)
    ledger = _read_ledger(target)
    news = []
    for chapter in chapters:
        text, mine = chapter.read_bytes(), target / chapter.name
        entry = _entry(ledger.get(chapter.name))
        known = entry["chapter"] == _fingerprint(text)
        if not mine.exists():
            news.append((mine.name, "new"))
            write_bytes(mine, text)
        elif mine.read_bytes() == text:
            pass
        elif not known and entry["chapter"] == _fingerprint(mine.read_bytes()):
            news.append((mine.name, "updated: the course changed it, you had not"))
            write_bytes(mine, text)
        else:
            news += _beside(mine, text, entry["exercises"], anew=not known)
        for number, stub in _exercises(text):
            handed_out = entry["exercises"].setdefault(number, [])
            if _fingerprint(stub) not in handed_out:
                handed_out.append(_fingerprint(stub))
        ledger[chapter.name] = {"chapter": _fingerprint(text), "exercises": entry["exercises"]}
    write_bytes(target / LEDGER, json.dumps(ledger, indent=1).encode())
    return news


def _beside(mine, text, handed_out, anew):
    """Lay the newer chapter beside a copy that was worked on; news of that, or of a copy that no longer runs."""
    copies = [mine, *(path for path in _names_beside(mine) if path.exists())]
    gone = missing_imports(mine.read_bytes())
    if not anew and not gone:
        return []                                        # nothing newer than what was copied
    if not anew and len(copies) > 1:                     # laid beside before
        why = f"imports {', '.join(gone)}, which the course no longer has"
        return [(mine.name, f"{why}: go on in {copies[-1].name}")]
    answers = {}
    for copy in copies:                                  # the newest edition that has an answer gives it
        answers |= {number: (source, copy.name) for number, source in answered(copy.read_bytes(), handed_out).items()}
    fresh, taken = with_answers(text, {number: source for number, (source, _) in answers.items()})
    place = next(path for path in _names_beside(mine) if not path.exists())
    write_bytes(place, fresh)
    what = f"the course changed this chapter: yours stays {mine.name}, here is the newer"
    what += f", with your answers to {', '.join(taken)}" if taken else ""
    left = [f"{number} (in {copy})" for number, (_, copy) in answers.items() if number not in taken]
    if left:
        what += f". These exercises ask for something else now, your answers stay where they are: {', '.join(left)}"
    return [(place.name, what)]


# ---- answers ---------------------------------------------------------------------------------------------------------
def answered(notebook, handed_out):
    """The answers in a notebook's bytes: exercise -> source. ``handed_out``: fingerprints of untouched exercises."""
    found = {}
    for number, source in _exercises(notebook):
        if _fingerprint(source) not in handed_out.get(number, ()) and not _is_stub(source):
            found[number] = source
    return found


def with_answers(chapter, answers):
    """``(bytes, numbers)``: a chapter with answers in its exercise cells, and the exercises that took one.

    An exercise takes an answer that defines what the exercise defines now: the same name with the same arguments.
    """
    if not answers:
        return chapter, []
    content, taken = json.loads(chapter), []
    for cell in content["cells"]:
        number = _number(cell)
        if number in answers and number not in taken and _defines(answers[number]) >= _defines(_source(cell)):
            cell["source"] = answers[number].splitlines(keepends=True)
            taken.append(number)
    if not taken:
        return chapter, []
    return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode(), taken


def _exercises(notebook):
    """``(number, source)`` of every exercise cell, the one that the course made last of several with one number."""
    try:
        cells = json.loads(notebook)["cells"]
        found = [(cell.get("id", "").startswith("exercise-"), _number(cell), _source(cell)) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []                                        # no notebook, so there is nothing to carry over
    return [(number, source) for _, number, source in sorted(found, key=lambda each: each[0]) if number]


def _number(cell):
    return cell.get("metadata", {}).get("exercise") if cell.get("cell_type") == "code" else None


def _source(cell):
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def _is_stub(source):
    """Whether every function of the cell only says that it is not implemented."""
    try:
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        return not source.strip()                        # half written: it is the student's work
    bodies = [[node for node in f.body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
              for f in functions]
    return all(len(body) == 1 and ast.unparse(body[0]).startswith("raise NotImplementedError") for body in bodies) \
        if bodies else not source.strip()


def _defines(source):
    """The functions and classes at the top of a cell, each with the names of its arguments."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    return {(node.name, *(a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)))
            for node in body if isinstance(node, ast.FunctionDef)} | {
            (node.name,) for node in body if isinstance(node, ast.ClassDef)}


# ---- imports ---------------------------------------------------------------------------------------------------------
def missing_imports(notebook):
    """What the code of a notebook imports from this package and the package does not have, in order."""
    try:
        sources = [_source(cell) for cell in json.loads(notebook)["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError):
        return []
    missing = {}
    for source in sources:
        try:
            nodes = list(ast.walk(ast.parse(source)))
        except SyntaxError:
            continue                                     # a magic, or half written
        for node in nodes:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                missing |= {name: 0 for name in names if _is_ours(name) and _module(name) is None}
            elif isinstance(node, ast.ImportFrom) and _is_ours(node.module or "") and not node.level:
                missing |= {f"{node.module}.{name}": 0 for name in names if not _importable(node.module, name)}
    return list(missing)


def _is_ours(name):
    return name.split(".")[0] == PACKAGE.name


def _module(name):
    """The file of a module of this package, or None. Nothing is imported."""
    place = PACKAGE.joinpath(*name.split(".")[1:])
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()), None)


def _importable(module, name):
    path = _module(module)
    if path is None or _module(f"{module}.{name}") is not None:
        return path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    bound |= {a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names}
    return name == "*" or name in bound


# ---- files -----------------------------------------------------------------------------------------------------------
def _fingerprint(text):
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()


def _entry(known):
    """A chapter's line of the ledger. Earlier ledgers held the fingerprint of the chapter alone."""
    if isinstance(known, dict) and isinstance(known.get("exercises"), dict):
        return {"chapter": known.get("chapter"), "exercises": {n: list(them) for n, them in known["exercises"].items()}}
    return {"chapter": known, "exercises": {}}


def _read_ledger(target):
    """What was copied; an unreadable ledger means that every copy counts as worked on."""
    try:
        copied = json.loads((target / LEDGER).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return copied if isinstance(copied, dict) else {}


def _names_beside(mine):
    return [mine.with_name(f"{mine.stem}.new{n}{mine.suffix}") for n in ("", *range(2, 100))]
