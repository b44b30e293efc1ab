"""The package's own source, cut out for a chapter: quoted objects, exercise stubs and solutions.

Text is found through the syntax tree, so that quoting a module does not import it.
"""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

MAX_LINES = 25


def quote(target):
    """Source text of ``"module:object"`` or ``"module:Class.method"``, dedented.

    Raises ValueError naming what is unknown, or when the text has more than 25 lines without its docstrings.
    """
    module, colon, dotted = target.partition(":")
    if not (module and colon and dotted):
        raise ValueError(f'quote="{target}" should read "module:object" or "module:Class.method"')
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(f"quote: there is no module {module}")
    text = Path(spec.origin).read_text(encoding="utf-8")
    node = ast.parse(text)
    for depth, name in enumerate(dotted.split(".")):
        found = [child for child in node.body if name in _names_of(child)]
        if not found or (depth and not isinstance(node, ast.ClassDef)):
            raise ValueError(f"quote: {module} has no {dotted}")
        node = found[-1]
    start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return limited(_dedent(text.splitlines()[start - 1 : node.end_lineno]), f"the source of {dotted}")


def _names_of(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {t.id for t in targets if isinstance(t, ast.Name)}


def _dedent(rows):
    """The rows as a cell holds them: moved left, and without what a linter was told."""
    indent = len(rows[0]) - len(rows[0].lstrip())
    rows = (row[min(indent, len(row) - len(row.lstrip())) :] for row in rows)
    return "\n".join(re.sub(r"\s*# (noqa|fmt: skip)\b.*$", "", row) for row in rows)


def limited(text, what, limit=MAX_LINES):
    """The text itself if it has at most ``limit`` lines, docstrings aside; ValueError otherwise."""
    lines = code_lines(text)
    if lines > limit:
        raise ValueError(f"{what} has {lines} lines without its docstring; a cell holds at most {limit}")
    return text


def code_lines(text):
    """Number of lines of a piece of code, docstrings of functions and classes left out."""
    return len(text.splitlines()) - sum(d.end_lineno - d.lineno + 1 for d in _docstrings(ast.parse(text)))


def _docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if ast.get_docstring(node, clean=False) is not None:
                yield node.body[0]


def solution(function):
    """Source text of a reference function, as a notebook cell would define it. ValueError if that is impossible."""
    if not (inspect.isfunction(function) and function.__name__.isidentifier()):
        raise ValueError(f"the reference must be a function made with def, got {function!r}")
    return limited(_dedent(inspect.getsource(function).rstrip().splitlines()), f"the reference {function.__name__}")


def stub(function):
    """Signature and docstring of a reference function, with ``raise NotImplementedError`` for a body."""
    rows = solution(function).splitlines()
    node = ast.parse("\n".join(rows)).body[0]
    doc = next(_docstrings(node), None)
    if doc is None or doc.lineno == node.lineno:
        raise ValueError(f"the reference {function.__name__} needs a docstring: it is all that a student is told")
    return "\n".join([*rows[node.lineno - 1 : doc.end_lineno], "    raise NotImplementedError"])


def bodies(tree):
    """``{function name: its body in a normal form}`` for every function in a syntax tree, docstrings left out."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            found[node.name] = "\n".join(map(ast.unparse, body))
    return found
