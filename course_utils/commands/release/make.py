"""The notebooks of a release, made from the chapters' sources."""

import copy
import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import v4

from course_utils.commands.build import bootstrap, build, quotes, source
from course_utils.commands.release import pack as packs
from course_utils.commands.release import portable as carrying

BADGE = ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
         "(https://colab.research.google.com/github/{place}/blob/main/notebooks/{stem}.ipynb)")  # fmt: skip
SECTION = """## For points

These exercises count for your grade. There is no check below them: the cells above show how such a check speaks. Your
function is called with inputs of many kinds, also the special ones that the text names."""


@dataclass(frozen=True)
class Made:
    """One chapter of a release: notebook, text, text with solutions, entries of release.json, and the solutions."""

    number: str
    stem: str
    notebook: dict
    text: str
    solved: str
    entries: list
    solutions: list
    public_points: int


def chapters(src, numbers, private, repo_url="", portable=False):
    """The chapters asked for, in order. Raises ValueError naming what is wrong with one."""
    folder = Path(src) if src else build.SOURCE
    if not folder.is_dir():
        folder = Path(build.__file__).resolve().parents[3] / build.SOURCE
    paths = build.select(folder, numbers)
    if private and (lost := set(private.chapters) - {path.name[:2] for path in paths}):
        if not numbers:
            raise ValueError(f"the pack has exercises for chapter {', '.join(sorted(lost))}, which does not exist")
    wheel = bootstrap.carried_wheel(folder) if portable else None
    return [_chapter(path, private, repo_url, wheel) for path in paths]


def _chapter(path, private, repo_url, wheel):
    number = path.name[:2]
    try:
        plain, solved = build.build_chapter(path), build.build_chapter(path, solutions=True)
    except build.BuildError as error:
        raise ValueError(f"chapter {number} cannot be built: {error}") from error
    counted, practice = packs.of_chapter(number, private)
    everything = [*practice, *counted] if practice else list(counted)
    for notebook, with_solutions in ((plain, False), (solved, True)):
        if practice:
            _add(notebook, counted, with_solutions)
        _address(notebook, path, repo_url, carrying.cells(carrying.slim(wheel, plain)) if wheel else None)
        _for_nbgrader(notebook, {e.id: e for e in everything})
    stubs = {c["metadata"]["exercise"]: c["source"] for c in plain["cells"] if "exercise" in c["metadata"]}
    counts = {e.id for e in counted}
    entries = [{"id": e.id, "kind": e.kind, "points": e.points, "name": e.reference.__name__,
                "counts": e.id in counts and e.kind != "predict", "practice": e.id not in counts,
                "given": stubs.get(e.id, "")} for e in everything]  # fmt: skip
    solutions = [(e.id, quotes.solution(e.reference), stubs.get(e.id, "")) for e in everything if e.kind != "predict"]
    own = practice or counted
    return Made(number, path.stem, plain, build.dumps(plain), build.dumps(solved), entries, solutions,
                sum(e.points for e in own))  # fmt: skip


def _add(notebook, exercises, with_solutions):
    """Put a section with the pack's exercises at the end."""
    notebook["cells"].append(v4.new_markdown_cell(SECTION, id="for-points"))
    for exercise in exercises:
        points = f"{exercise.points} point" + ("s" if exercise.points > 1 else "")
        head = f"### Exercise {exercise.id} ({points}): {exercise.reference.__name__.replace('_', ' ')}"
        text = quotes.solution(exercise.reference) if with_solutions else quotes.stub(exercise.reference)
        notebook["cells"].append(v4.new_markdown_cell(head, id=source.slug(f"about-{exercise.id}")))
        name, metadata = source.slug(f"exercise-{exercise.id}"), {"exercise": exercise.id}
        notebook["cells"].append(v4.new_code_cell(text, id=name, metadata=metadata))


def _address(notebook, path, repo_url, carried):
    """Bring the package in as asked for: from an address, from the notebook itself, or as `course build` says."""
    place = next(i for i, cell in enumerate(notebook["cells"]) if cell["id"] == "bootstrap")
    if carried:
        hidden = {"jupyter": {"source_hidden": True}}
        notebook["cells"][place : place + 1] = [
            v4.new_code_cell(text, id=name, metadata=copy.deepcopy(hidden))
            for text, name in zip(carried, ("carried", "bootstrap"), strict=True)
        ]
    elif repo_url:
        source = repo_url if repo_url.startswith("git+") or repo_url.endswith(".whl") else f"git+{repo_url}"
        said = {"source": source, "repository": repo_url.removeprefix("git+")}
        [notebook["cells"][place]["source"]] = bootstrap.cells(path, said=said)
        found = re.match(r"(?:git\+)?https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?:@.*)?/?$", repo_url)
        if found:
            badge = BADGE.format(place=found.group(1), stem=path.stem)
            notebook["cells"].insert(0, v4.new_markdown_cell(badge, id="badge"))


def _for_nbgrader(notebook, exercises):
    """Say in nbgrader's terms, schema 3, what a cell is: a solution, graded by hand there, or one to leave alone."""
    for cell in notebook["cells"]:
        exercise = exercises.get(cell["metadata"].get("exercise"))
        if exercise is not None:
            cell["metadata"]["nbgrader"] = {
                "schema_version": 3, "grade": True, "solution": True, "locked": False, "task": False,
                "grade_id": cell["id"], "points": exercise.points, "cell_type": "code"}  # fmt: skip
        elif "check" in cell["metadata"].get("tags", []):
            cell["metadata"]["nbgrader"] = {"schema_version": 3, "grade": False, "solution": False, "locked": True,
                                            "task": False, "grade_id": cell["id"], "cell_type": "code"}  # fmt: skip
