"""What a new demo needs besides its module, said by ``course build`` before a browser test waits for it in vain.

A demo is ``widgets/js/<name>.js``, a function in ``widgets/`` that returns ``Demo("<name>", …)``, that function's name
in ``widgets/__init__.py``, and one small instance in ``tests/browser/examples.py``, which the browser tests walk
through: they drag, press keys, and go back with the reset button.
"""

import ast
import re
from pathlib import Path

import course_utils
from course_utils.commands.build.source import Problem

WIDGETS = Path(course_utils.__file__).parent / "widgets"
EXAMPLES = WIDGETS.parents[1] / "tests" / "browser" / "examples.py"
MEASURED_ONLY = {"bare"}  # what the latency benchmark measures beside the demos; nobody sees it


def exported(widgets=WIDGETS):
    """The functions that chapters may call as ``widgets.…``."""
    tree = ast.parse((widgets / "__init__.py").read_text(encoding="utf-8"))
    return {alias.asname or alias.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}


def problems(widgets=WIDGETS, examples=EXAMPLES):
    """What is missing around the demos of the package, each as a :class:`Problem`."""
    functions = _functions(widgets)
    tried = examples.read_text(encoding="utf-8") if examples.is_file() else None
    for path in sorted((widgets / "js").glob("*.js")):
        text, name = path.read_text(encoding="utf-8"), path.stem
        if not re.search(r"\bfunction render\(", text) or name in MEASURED_ONLY:
            continue  # a helper
        place = f"{widgets.name}/js/{path.name}"
        if not re.search(r"""button\(\s*["'`][^"'`]*reset""", text, re.IGNORECASE):
            yield Problem(place, 'a demo has a reset button: course.button("reset", () => { course.reset(model); … })')
        mine = functions.get(name, [])
        if not mine:
            yield Problem(place, f'no function in {widgets.name}/ returns Demo("{name}", …)')
        for function in mine:
            if function not in exported(widgets):
                yield Problem(place, f"{function} is not named in {widgets.name}/__init__.py")
        if tried is not None and mine and not any(f"widgets.{function}(" in tried for function in mine):
            what = f"a small instance of it that calls widgets.{mine[0]}(…) is missing in tests/browser/examples.py"
            yield Problem(place, f"{what}; add it to EXAMPLES there")


def _functions(widgets):
    """JavaScript module -> names of the public functions of the package that make a ``Demo`` of it."""
    found = {}
    for path in sorted(widgets.glob("*.py")):
        for function in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(function, ast.FunctionDef) or function.name.startswith("_"):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Demo" and node.args:
                    found.setdefault(getattr(node.args[0], "value", None), []).append(function.name)
    return found
