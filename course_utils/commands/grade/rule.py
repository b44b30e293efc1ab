"""The rule that an answer is the student's own: it may not call the course's routine that does what is asked for.

Read from the syntax tree, so that nothing runs. Names are followed through imports, ``as``, assignments and attributes,
in the student's cell and in the chapter's cells before it. What the reference itself uses is allowed, and so are the
rooms of the package that hold no answers.
"""

import ast
import inspect
import textwrap
from pathlib import Path

import course_utils

PACKAGE = Path(course_utils.__file__).resolve().parent
OPEN = {
    "write": {"plots", "widgets", "chapter", "expect", "checks"},
    "build": {"plots", "widgets", "chapter", "expect", "checks", "nn", "data", "training", "metrics", "distributions"},
}
DYNAMIC = {"__import__", "importlib", "exec", "eval", "compile", "globals", "runpy", "pkgutil", "inspect", "ctypes"}
PATHS = {"sys.modules", "torch.load", "gc.get_objects", "gc.get_referrers", "sys._getframe"}


def broken(exercise, text, before=()):
    """Why an answer is not the student's own, in words; "" where it is. ``before``: texts of cells that run first."""
    known = {}
    for other in before:
        known = scope(_tree(other), known)
    tree = _tree(text)
    allowed = used_by(exercise)
    for node, path in uses(tree, known):
        if path.split(".")[0] in DYNAMIC or any(path.startswith(other) for other in PATHS):
            return f"line {node.lineno} uses {path}, with which code can be reached that you have not written"
        if not _permitted(path, exercise.kind, allowed):
            return (f"line {node.lineno} uses {path}, the course's own code. Write that part yourself; torch and NumPy "
                    "are yours to use")  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "course_utils" in node.value:
            if not _documents(tree, node):
                return f"line {node.lineno} names course_utils in a string"
    return ""


def _tree(text):
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.parse("")


SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


def inside(node):
    """The nodes below one, without what lies in functions and classes below it; these themselves are among them."""
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        child = waiting.pop(0)
        yield child
        if not isinstance(child, SCOPES):
            waiting += ast.iter_child_nodes(child)


def scope(node, known):
    """``{name: dotted path}`` as it holds inside a module, function or class, given what holds around it.

    A name that is bound here to anything else stands for nothing; one that is bound to a module anywhere here is taken
    to be that module, whichever binding comes first.
    """
    own = list(inside(node))
    plain = {child.id for child in own if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}
    arguments = getattr(node, "args", None)
    defaults = []
    if isinstance(arguments, ast.arguments):
        names = [*arguments.posonlyargs, *arguments.args]
        last = names[len(names) - len(arguments.defaults) :]
        defaults = [*zip(last, arguments.defaults, strict=True),
                    *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]  # fmt: skip
        plain |= {a.arg for a in (*names, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg) if a}
    plain |= {child.name for child in own if isinstance(child, SCOPES) and not isinstance(child, ast.Lambda)}
    around = known
    known = {name: path for name, path in known.items() if name not in plain}
    known |= {a.arg: path for a, v in defaults if v is not None and (path := dotted(v, around))}
    for child in own:
        if isinstance(child, ast.Import):
            for alias in child.names:
                known[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else (
                    alias.name.split(".")[0])  # fmt: skip
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                known[alias.asname or alias.name] = f"{'.' * child.level}{child.module or ''}.{alias.name}"
    bindings = [c for c in own if isinstance(c, ast.Assign | ast.AnnAssign | ast.NamedExpr) and c.value is not None]
    pairs = [pair for child in bindings
             for pair in _pairs(getattr(child, "targets", None) or [child.target], child.value)]  # fmt: skip
    for _ in range(4):  # an alias of an alias of an alias
        for target, value in pairs:
            path = dotted(value, known) or dotted(value, around)
            if path and isinstance(target, ast.Name):
                known[target.id] = path
    return known


def uses(tree, known):
    """``(node, path)`` of every longest chain of names that stands for something of a module, in a tree."""
    known = scope(tree, known)
    own = list(inside(tree))
    inner = {child.value for child in own if isinstance(child, ast.Attribute)}
    bound = {child.value for child in own if isinstance(child, ast.Assign | ast.AnnAssign | ast.NamedExpr)}
    for child in own:
        if isinstance(child, ast.Import | ast.ImportFrom):
            for alias in child.names:
                start = "" if isinstance(child, ast.Import) else f"{'.' * child.level}{child.module or ''}."
                path = start + alias.name
                if path.endswith(".*") or path.split(".")[0] in DYNAMIC or not _module(path):
                    yield child, path
        elif isinstance(child, ast.Name | ast.Attribute) and child not in inner and isinstance(child.ctx, ast.Load):
            path = dotted(child, known)
            if path and not (child in bound and _module(path)):  # an alias: what is done with it shows where it is used
                yield child, path
        elif isinstance(child, SCOPES):
            yield from uses(child, known)


def _pairs(targets, value):
    for target in targets:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            yield from zip(target.elts, value.elts, strict=False)
        else:
            yield target, value


def dotted(node, known):
    """The dotted path that an expression stands for, "" where it stands for none that is known."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id if node.id in DYNAMIC else "")
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, known)
        return f"{base}.{node.attr}" if base else ""
    return ""


def _module(path):
    """Whether a dotted path is a module of the course: to name one does nothing yet."""
    parts = path.split(".")
    place = PACKAGE.joinpath(*parts[1:])
    return parts[0] == "course_utils" and (place.is_dir() or place.with_suffix(".py").is_file())


def _permitted(path, kind, allowed):
    parts = path.split(".")
    if path.startswith(".") or parts[0] != "course_utils":
        return not path.startswith(".")
    if parts[-1] == "*" or any(part.startswith("__") for part in parts):
        return False
    return (len(parts) > 1 and parts[1] in OPEN[kind] and not _module(path)) or path in allowed or (
        kind == "build" and ".".join(parts[:-1]) in {a.rpartition(".")[0] for a in allowed})  # fmt: skip


def used_by(exercise):
    """Dotted paths in the package that the reference uses, by the names of its module."""
    module = inspect.getmodule(exercise.reference)
    known = scope(_tree(inspect.getsource(module)), {})
    tree = _tree(textwrap.dedent(inspect.getsource(exercise.reference)))
    return {path for _, path in uses(tree, known) if path.startswith("course_utils.")}


def _documents(tree, constant):
    """Whether a string is the docstring of something."""
    places = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)]
    return any(isinstance(node.body[0], ast.Expr) and node.body[0].value is constant for node in places if node.body)
