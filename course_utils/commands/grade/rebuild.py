"""From our own released notebook and a student's sources to the cells that are run.

All cells, metadata and tags are ours; of the submission there is only the text of exercise cells. Of the chapter, only
those cells run whose names an exercise needs, directly or through other cells: a pure function needs the imports, a
solution that uses the chapter's trained model trains it, at the smoke budget.
"""

import ast
import builtins
import copy

from IPython.core.inputtransformer2 import TransformerManager

from course_utils.commands.build.source import names

SETTINGS = 'budget, device, seed = "smoke", "cpu", 0'
SKIPPED = ("check", "reveal", "score")
KNOWN = {*dir(builtins), "__name__", "get_ipython"}


def plain(source):
    """A cell's text as Python: magic becomes calls. SyntaxError where it is no Python."""
    text = TransformerManager().transform_cell(source)
    ast.parse(text)
    return text


def changed(source, stub):
    """Whether a student's text does more than the stub, comments and spaces aside."""
    if source is None or not source.strip():
        return False
    try:
        tree = ast.parse(plain(source))
        return bool(tree.body) and ast.dump(tree) != ast.dump(ast.parse(stub))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source.strip() != stub.strip()


def own_cells(chapter):
    """``[(index, exercise id or "", text)]`` of the released notebook's code cells that may be run."""
    found = []
    for index, cell in enumerate(chapter.notebook["cells"]):
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] != "code" or "check" in tags or "widget" in tags or cell["id"] in ("bootstrap", "carried"):
            continue
        exercise = cell["metadata"].get("exercise", "")
        if not exercise and any(f"{word}(" in cell["source"] for word in SKIPPED):
            continue
        text = cell["source"] if exercise else plain(cell["source"])
        found.append((index, exercise, f"{text}\n{SETTINGS}" if "parameters" in tags else text))
    return found


def needed(chapter, sources, exercise_id):
    """``[(index, exercise id or "", text)]`` that have to run for an exercise, itself the last."""
    cells = own_cells(chapter)
    last = next(i for i, (_, exercise, _) in enumerate(cells) if exercise == exercise_id)
    text = plain(sources[exercise_id])
    chosen, wanted = [(cells[last][0], exercise_id, text)], names(text)[1] - KNOWN - _defined(text)
    for index, exercise, own in reversed(cells[:last]):
        if exercise:
            try:
                own = plain(sources.get(exercise) or "")
            except SyntaxError:
                continue
        bound, used = names(own)
        if bound & wanted:
            chosen.append((index, exercise, own))
            wanted |= used - KNOWN
    return chosen[::-1]


def _defined(text):
    """Functions and classes that a text defines: that they use their own names asks for no other cell."""
    return {node.name for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}  # fmt: skip


def probe_cells(chapter, sources, exercise_id):
    """The same as ``[(name, text)]`` for a probe; the names of exercises' cells say so."""
    return [[f"exercise {exercise}" if exercise else f"cell {index}", text]
            for index, exercise, text in needed(chapter, sources, exercise_id)]  # fmt: skip


def notebook(chapter, sources, attempted):
    """Our notebook with the cells that the attempted exercises need, and the student's text in theirs.

    An exercise's cell may fail without stopping the others, so it is tagged ``raises-exception``.
    """
    texts = {}
    for exercise_id in attempted:
        try:
            texts |= {index: exercise for index, exercise, _ in needed(chapter, sources, exercise_id)}
        except SyntaxError:
            texts[next(i for i, e, _ in own_cells(chapter) if e == exercise_id)] = exercise_id
    built = copy.deepcopy(chapter.notebook)
    built["cells"] = []
    for index in sorted(texts):
        cell = copy.deepcopy(chapter.notebook["cells"][index])
        if texts[index]:
            cell["source"] = sources[texts[index]]
            cell["metadata"]["tags"] = ["raises-exception"]
        elif "parameters" in cell["metadata"].get("tags", []):
            cell["source"] += f"\n{SETTINGS}"
        built["cells"].append(cell)
    return built

