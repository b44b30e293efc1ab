"""`course build`: what it makes of a source, and each thing it refuses."""

import ast
import importlib
import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from IPython.core.interactiveshell import InteractiveShell

from course_utils import exercises, plots
from course_utils.commands.build import build, minutes, twins
from course_utils.commands.build.build import assemble, build_chapter, check, dumps
from course_utils.commands.build.quotes import quote
from course_utils.commands.build.source import BuildError, read, select, sources

ROOT = Path(__file__).parents[2]

EXERCISES = '''
import torch
from course_utils.exercises import Exercise, Probe

@torch.no_grad()
def double(x, times=2,
           shift=0):
    """Twice x.

    x: (N,)
    """
    y = times * x  # a comment stays
    return torch.add(y, shift)

def probes(generator):
    return [Probe("one becomes two", (torch.ones(1),))]

def once(x):
    """Once is not twice."""
    return x

def thrice(x):
    """Thrice is not twice."""
    return 3 * x

def never(x):
    """Never is not twice."""
    return 0 * x

def larger():
    """Which is larger, "one" or "two"?"""
    return "two"

EXERCISES = (Exercise("97.1", 2, double, probes, wrong=(once, thrice, never)),
             Exercise("97.2", 1, larger, kind="predict", options=("one", "two"), reason="It comes later."))
'''

LIBRARY = '''
import functools
import math

SCALE = 3  # kept with its comment

def plain(x):
    """One line.

    Another.
    """
    return math.sqrt(x)

class Model:
    """A model."""

    def method(self, x):
        """What it does."""
        if x:
            return (x +
                    1)  # shape (B,)
        return 0

    @functools.cache
    def decorated(self):
        return helper(1)

def helper(x):
    return x

def uses_helper(x):
    return helper(x)

def wide(x):
    """word word word word word word word word word word word word word word word word word word it is."""
    return x


def long(x):
    """A docstring does not count.


    """
''' + "    x = x\n" * 25

TWINS = '''
TWINS = {"97.2": [("two for one", "cell", "close(one,", "close(2.0,"), ("nought for one", "cell", "1.0, w", "0.0, w")]}
'''

SOURCE = r'''
# %% [markdown]
# # Title
# This takes about {minutes} minutes.

# %% [markdown] defines=["97.1"]
# A definition
# $$ a = b \tag{97.1} $$
# and a law
# $$ b = a \tag{97.2} $$

# %% tags=["parameters"]
budget: str = "auto"  # smoke, class or full
dataset: str = "handwriting"
seed: int = 0
device: str = "auto"
data_dir: str = ""
rate: float = -0.5

# %%
import math

import torch

from course_utils import checks, plots
from course_utils.chapter import record
from course_utils.exercises import check, reveal, score

# %% [markdown]
# ## 97.1 First

# %%
record(accuracy=1.0)
plots.show(plots.images(torch.zeros(1, 1, 2, 2)), alt="A blank image.")

# %% verifies=["97.2"] tags=["nbval-check-output"]
one = 1.0
checks.close(one, 1.0, what="one")

# %% quote="quoted_library:plain"
# %% [markdown] tags=["fold"]
# ## Going deeper: more

# %% quote="quoted_library:Model.method"
# %%
x = 1
# %%
x = 1
# %% [markdown]
# ## Exercises

# %% [markdown]
# ### Exercise 97.1 (2 points): twice
# It is needed in exercise 97.2.

# %% exercise="97.1"
# %% tags=["check"]
check("97.1", double)

# %% [markdown]
# ### Exercise 97.2 (1 point): predict

# %% exercise="97.2"
# %% tags=["check"]
check("97.2", larger)

# %%
reveal("97.2", "two")

# %%
score()
'''.lstrip()


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A folder with the source of a sound chapter 97, its exercises and a library to quote; sources as a function."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "ch97.py").write_text(EXERCISES)
    (modules / "quoted_library.py").write_text(LIBRARY)
    (tmp_path / "twins").mkdir()
    (tmp_path / "twins" / "ch97.py").write_text(TWINS)
    monkeypatch.setattr(twins, "TWINS", tmp_path / "twins")
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(modules)])
    monkeypatch.syspath_prepend(modules)
    src = tmp_path / "src"
    src.mkdir()

    def write(*changes, name="97_test.py"):
        text = SOURCE
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        (src / name).write_text(text)
        return src / name

    yield write
    sys.modules.pop("course_utils.exercises.ch97", None)


def cell(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


# ----------------------------------------------------------------------------------------------------- what comes out
def test_a_sound_chapter_becomes_a_valid_notebook_without_outputs(workshop):
    notebook = build_chapter(workshop())
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)


def test_the_same_source_gives_the_same_bytes(workshop):
    assert dumps(build_chapter(workshop())) == dumps(build_chapter(workshop()))


def test_cells_have_readable_or_content_ids_all_different(workshop):
    ids = [cell.id for cell in build_chapter(workshop()).cells]
    assert {"bootstrap", "parameters", "quote-plain", "quote-Model-method", "exercise-97-1", "check-97-1"} <= set(ids)
    assert len(set(ids)) == len(ids)
    twins = [cell.id for cell in build_chapter(workshop()).cells if cell.source == "x = 1"]
    assert twins[1] == twins[0] + "-2"


def test_ids_do_not_move_when_another_cell_is_edited(workshop):
    before = [cell.id for cell in build_chapter(workshop()).cells]
    after = [cell.id for cell in build_chapter(workshop(("# # Title", "# # Another title"))).cells]
    assert before[1:] == after[1:] and before[0] != after[0]


def test_roles_are_kept_in_the_metadata(workshop):
    notebook = build_chapter(workshop())
    assert cell(notebook, "exercise-97-1").metadata == {"exercise": "97.1"}
    assert cell(notebook, "check-97-1").metadata == {"tags": ["check"]}
    laws = next(cell for cell in notebook.cells if "verifies" in cell.metadata)
    assert laws.metadata == {"verifies": ["97.2"], "tags": ["nbval-check-output"]}


def test_a_folded_section_starts_closed_in_jupyterlab_and_colab(workshop):
    notebook = build_chapter(workshop())
    heading = next(cell for cell in notebook.cells if "fold" in cell.metadata.get("tags", []))
    assert heading.metadata["jp-MarkdownHeadingCollapsed"] is True
    assert notebook.metadata.colab.collapsed_sections == [heading.id] == [heading.metadata.id]


def test_quotes_are_the_package_source_dedented(workshop):
    notebook = build_chapter(workshop())
    assert cell(notebook, "quote-plain").source == (
        'def plain(x):\n    """One line.\n\n    Another.\n    """\n    return math.sqrt(x)'
    )
    assert cell(notebook, "quote-Model-method").source == (
        'def method(self, x):\n    """What it does."""\n    if x:\n        return (x +\n'
        "                1)  # shape (B,)\n    return 0"
    )
    assert quote("quoted_library:SCALE") == "SCALE = 3  # kept with its comment"
    assert quote("quoted_library:Model.decorated").startswith("@functools.cache\ndef decorated(self):")
    assert "quoted_library" not in sys.modules  # read, not imported


def test_a_stub_is_signature_docstring_and_not_implemented(workshop):
    assert cell(build_chapter(workshop()), "exercise-97-1").source == (
        'def double(x, times=2,\n           shift=0):\n    """Twice x.\n\n    x: (N,)\n    """\n'
        "    raise NotImplementedError"
    )


def test_solutions_hold_the_reference_and_differ_in_nothing_else(workshop):
    student, solved = build_chapter(workshop()), build_chapter(workshop(), solutions=True)
    body = cell(solved, "exercise-97-1").source
    assert body.startswith("@torch.no_grad()\ndef double(") and body.endswith("return torch.add(y, shift)")
    for number in ("exercise-97-1", "exercise-97-2"):
        cell(solved, number).source = cell(student, number).source
    assert dumps(student) == dumps(solved)


def test_starting_code_is_kept_for_the_student_and_replaced_in_the_solutions(workshop):
    code = 'def double(x, times=2, shift=0):\n    """Find the bug."""\n    return x'
    path = workshop(('# %% exercise="97.1"\n', f'# %% exercise="97.1"\n{code}\n'))
    assert cell(build_chapter(path), "exercise-97-1").source == code
    assert "torch.add" in cell(build_chapter(path, solutions=True), "exercise-97-1").source


# -------------------------------------------------------------------------------------------------- the first code cell
def first_cell(workshop):
    code = [cell for cell in build_chapter(workshop()).cells if cell.cell_type == "code"]
    assert (code[0].id, code[1].id) == ("bootstrap", "parameters")
    return code[0].source


def test_the_bootstrap_does_nothing_where_the_package_is(workshop, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: pytest.fail("it installed something"))
    exec(first_cell(workshop), {})


def test_the_bootstrap_says_what_to_do_where_the_package_is_not(workshop, monkeypatch):
    source = first_cell(workshop)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="installs nothing.*make lab.*course build --carry"):
        exec(source, {})


@pytest.mark.parametrize("code", [0, 1])
def test_the_bootstrap_installs_on_colab_from_what_the_project_names(workshop, monkeypatch, tmp_path, code):
    commands = []

    def run(command, **kwargs):
        commands.append(command)
        return type("Done", (), {"returncode": code, "stderr": "no network"})

    (tmp_path / "pyproject.toml").write_text('[tool.course]\nsource = "git+https://example.org/course"\n')
    source = first_cell(workshop)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "google", type(sys)("google"))
    monkeypatch.setitem(sys.modules, "google.colab", type(sys)("google.colab"))
    monkeypatch.setattr("subprocess.run", run)
    if code:
        with pytest.raises(RuntimeError, match="no network"):
            exec(source, {})
    else:
        exec(source, {})
    assert commands == [[sys.executable, "-m", "pip", "install", "--quiet", "git+https://example.org/course"]]


def test_building_says_that_no_source_is_named(workshop, tmp_path):
    path = workshop()
    (tmp_path / "pyproject.toml").write_text('[tool.course]\nsource = "git+https://example.org/course"\n')
    assert "note:" not in course_build(path, tmp_path / "97_test.ipynb").output
    (tmp_path / "pyproject.toml").write_text("[tool.course]\nsource = ''\n")
    for option in ((), ("--check",)):
        said = course_build(path, tmp_path / "97_test.ipynb", *option)
        assert said.exit_code == 0 and "note: source in pyproject.toml is empty" in said.output, said.output


# ---------------------------------------------------------------------------------------------------- what is refused
NO_LAW = "verifies an equation without calling a law of course_utils.checks on something computed here"
LAW = 'checks.close(one, 1.0, what="one")'
ONE = "# %%\nx = 1\n# %%\nx = 1\n"
EXERCISE_2 = "# %% [markdown]\n# ### Exercise 97.2 (1 point): predict\n"
REFUSED = {
    # markers
    "unknown key": (('# %% verifies=["97.2"]', '# %% verify=["97.2"]'), "unknown key 'verify'"),
    "unreadable key": (("# %% [markdown]\n# ###", "# %% [markdown] tags=[fold]\n# ###"), "cannot read the marker"),
    "title": ((ONE, "# %% a title\nx = 1\n"), "unknown key 'title'"),
    "string for list": (('verifies=["97.2"]', 'verifies="97.2"'), "verifies should be a list of strings, as in"),
    "list for string": (('exercise="97.1"', 'exercise=["97.1"]'), "exercise should be one string"),
    "numbers": (('verifies=["97.2"]', "verifies=[97.2]"), "verifies should be a list of strings"),
    "unknown tag": (('tags=["nbval-check-output"]', 'tags=["nbval-check"]'), "unknown tag 'nbval-check'"),
    "tag on wrong kind": (("# %%\nx = 1\n# %%", '# %% tags=["fold"]\nx = 1\n# %%'), "fold belongs on a markdown"),
    "key on wrong kind": (('defines=["97.1"]', 'verifies=["97.1"]'), "verifies belongs on a code cell"),
    "raw cell": ((ONE, "# %% [raw]\n# x\n"), "a raw cell"),
    "empty cell": ((ONE, "# %%\n"), "an empty cell"),
    "text in a quote": (('"quoted_library:plain"\n', '"quoted_library:plain"\nx = 1\n'), "a quoted cell is empty"),
    # quotes
    "unknown module": (("quoted_library:plain", "quoted.library:plain"), "there is no module quoted.library"),
    "unknown object": (("quoted_library:plain", "quoted_library:plane"), "quoted_library has no plane"),
    "unknown method": (("Model.method", "Model.nothing"), "quoted_library has no Model.nothing"),
    "inside a function": (("Model.method", "plain.method"), "quoted_library has no plain.method"),
    "no colon": (("quoted_library:plain", "quoted_library.plain"), 'should read "module:object"'),
    "long quote": (("quoted_library:plain", "quoted_library:long"), "long has 26 lines without its docstring"),
    "decorator's name": (("Model.method", "Model.decorated"), "refers to functools, which no cell above"),
    "name of a called quote": (
        (f'quote="quoted_library:plain"\n{""}', 'quote="quoted_library:uses_helper"\n# %%\nuses_helper(1)\n\n'),
        "refers to helper, which no cell above imports or defines",
    ),
    # code
    "nbval comment": ((LAW, f"{LAW}  # NBVAL_CHECK_OUTPUT"), "in a comment does nothing; put tags="),
    "nbval comment with dashes": ((LAW, f"{LAW}  # nbval-check-output"), "in a comment does nothing; put tags="),
    "long cell": ((ONE, "# %%\n" + "x = 1\n" * 26), "26 lines; a cell holds at most 25"),
    "long line": ((ONE, f"# %%\nx = {'1 + ' * 24}1\n"), "a line of 101 characters, may have 95: x = 1 + 1"),
    "long line in a quote": (("quoted_library:plain", "quoted_library:wide"), "a line of 106 characters, may have 95"),
    "long line of text": (("# It is needed", f"# {'no ' * 70} It is needed"), "a line of 241 characters, may have 200"),
    "linter's mark": ((LAW, f"{LAW}  # noqa: E501"), "is for a linter, not for readers"),
    "formatter's mark": ((LAW, f"{LAW}  # fmt: skip"), "is for a linter, not for readers"),
    "not python": ((ONE, "# %%\nx = = 1\n"), "not Python: invalid syntax (line 1 of the cell)"),
    "magic": ((ONE, "# %%\n!ls\n"), "not Python"),
    "star": ((LAW, f"from math import *\n{LAW}"), "from math import *"),
    "fold without heading": (("# ## Going deeper: more", "# More"), "begins with a heading such as"),
    "score in a fold": (("# ## Exercises", "# ### Exercises"), "score() stands inside a folded section"),
    "widget without tag": ((LAW, f"{LAW}\nwidgets.explorer(1)"), "a cell that calls widgets.… is tagged"),
    "tag without widget": ((ONE, '# %% tags=["widget"]\nx = 1\n'), "a cell that calls widgets.… is tagged"),
    # parameters
    "no parameters": (('# %% tags=["parameters"]', "# %%"), "the first code cell must hold the parameters"),
    "parameters late": (('# %% tags=["parameters"]', '# %%\nx = 1\n\n# %% tags=["parameters"]'), "the first code cell"),
    "parameters twice": ((ONE, '# %% tags=["parameters"]\nx: int = 1\n'), "a second cell tagged parameters"),
    "no annotation": (("seed: int = 0", "seed = 0"), "`seed = 0` is not an annotated literal"),
    "no literal": (("seed: int = 0", "seed: int = int(0)"), "is not an annotated literal"),
    "other type": (("rate: float = -0.5", "rate: float = 1"), "`rate: float = 1` is not an annotated literal"),
    "one missing": (("seed: int = 0\n", ""), "must hold `seed: int = 0`"),
    "other default": (('device: str = "auto"', 'device: str = "cuda"'), 'must hold `device: str = "auto"`'),
    # ledger
    "tag of another chapter": ((r"\tag{97.2}", r"\tag{9.2}"), "\\tag{9.2}: numbers here are 97.1"),
    "tag without a number": ((r"\tag{97.2}", r"\tag{here}"), "\\tag{here}: numbers here are 97.1"),
    "duplicate tag": ((r"\tag{97.2}", r"\tag{97.1}"), "\\tag{97.1} stands already in cell 2"),
    "unknown equation": (('verifies=["97.2"]', 'verifies=["97.2", "97.3"]'), "no equation here has \\tag{97.3}"),
    "unsettled": (('verifies=["97.2"] ', ""), "\\tag{97.2} is neither defined here (defines) nor verified"),
    "defined elsewhere": (("# %% [markdown]\n# ###", '# %% [markdown] defines=["97.2"]\n# ###'), "defines 97.2, but"),
    "verifies without a law": ((LAW, "assert True"), NO_LAW),
    "law in a comment": ((LAW, f"x = 1  # {LAW}"), NO_LAW),
    "law under if False": ((LAW, f"if False:\n    {LAW}"), NO_LAW),
    "law in a function": ((LAW, f"def later():\n    {LAW}"), NO_LAW),
    "law of a constant": ((LAW, 'checks.true(True, what="x")'), NO_LAW),
    "law of constants of modules": ((LAW, 'checks.close(math.pi, torch.pi, what="x")'), NO_LAW),
    "the same twice": ((LAW, 'checks.close(one, one, what="x")'), NO_LAW),
    "only a refutation": ((LAW, 'checks.fails(lambda: one > 2, what="x")'), NO_LAW),
    "only definitions": (
        ('defines=["97.1"]\n', 'defines=["97.1", "97.3"]\n# $$ c = d \\tag{97.3} $$\n'),
        "2 of 3 numbered equations are definitions; at least half are to be verified",
    ),
    # formulas
    "space in a tag": ((r"\tag{97.2}", r"\tag {97.2}"), "\\tag {97.2}: write \\tag{97.2}"),
    "starred tag": ((r"\tag{97.2}", r"\tag*{97.2}"), "\\tag*{97.2}: write \\tag{97.2}"),
    "tag in a line": ((r"$$ b = a \tag{97.2} $$", r"$b = a \tag{97.2}$"), "stands outside of a displayed formula"),
    "tag in the text": ((r"$$ b = a \tag{97.2} $$", r"$$ b = a $$ \tag{97.2}"), "outside of a displayed formula"),
    "unknown command": (("$$ b = a", r"$$ \bee = a"), "\\bee"),
    "unknown command in a line": (("and a law", r"and $\bee$"), "\\bee"),
    "missing dollar": (("and a law", "and $a law"), "a dollar without a partner near"),
    "missing display dollars": ((r"\tag{97.2} $$", r"\tag{97.2}"), "a dollar without a partner near"),
    "dollars over a paragraph": (("# and a law\n", "# and $a\n#\n# law$\n"), "goes over an empty line"),
    "reference in prose": (("and a law", "and a law, by (97.3)"), "(97.3) is mentioned, but no equation"),
    "reference in a string": ((LAW, LAW.replace('"one"', '"(97.12)"')), "(97.12) is mentioned, but no equation"),
    "reference in a comment": ((ONE, "# %%\nx = 1  # by (97.12)\n"), "(97.12) is mentioned, but no equation"),
    # exercises
    "unknown exercise": (('exercise="97.1"', 'exercise="97.3"'), "there is no exercise 97.3; there are 97.1"),
    "exercise without a cell": (('# %% exercise="97.1"\n', ""), "exercise 97.1 has no cell"),
    "exercise twice": (('# %% exercise="97.1"\n', '# %% exercise="97.1"\n' * 2), "97.1 stands already in cell"),
    "no check": (('check("97.1", double)', "print()"), 'must be # %% tags=["check"] with check("97.1", double)'),
    "other check": (('check("97.1"', 'check("97.2"'), 'with check("97.1", double)'),
    "check without tag": (('# %% tags=["check"]', "# %%"), 'must be # %% tags=["check"]'),
    "no score": (("score()\n", "print()\n"), "ends with a call of score()"),
    "starting code of another name": (
        ('# %% exercise="97.1"\n', '# %% exercise="97.1"\ndef twice(x):\n    return x\n'),
        "the starting code must define double",
    ),
    "answer imported": ((LAW, f"from anywhere import double\n{LAW}"), "97.1, double, is imported here"),
    "answer imported as": (("import torch\n", "import torch\nfrom a import double as d\n"), "double, is imported here"),
    "answer reached": ((ONE, "# %%\ny = checks.double(1)\n"), "97.1, double, is imported here"),
    "answer reached by path": (
        ("import torch\n", "import torch\nimport course_utils.checks as c\ny = c.double(1)\n"),
        "97.1, double, is imported here",
    ),
    "answer written": ((ONE, "# %%\ndef double(x):\n    return x + x\n"), "is the answer to exercise 97.1"),
    "answer under another name": (
        (ONE, "# %%\ndef other(x, times, shift):\n    y = times*x\n    return torch.add(y, shift)\n"),
        "this code is the answer to exercise 97.1",
    ),
    "answer replaced": ((ONE, "# %%\ndouble = 1\n"), "this cell replaces double"),
    "answer needed": ((ONE, "# %%\ny = double(1)\n"), "stops the chapter where exercise 97.1 is not done"),
    "points": (("97.1 (2 points)", "97.1 (7 points)"), 'begins with "### Exercise 97.1 (2 points): …"'),
    "a point": (("97.2 (1 point)", "97.2 (1 points)"), 'begins with "### Exercise 97.2 (1 point): …"'),
    "number": (("Exercise 97.2 (1", "Exercise 97.1 (1"), 'begins with "### Exercise 97.2 (1 point): …"'),
    "not announced": (("# ### Exercise 97.2 (1 point): predict", "# Guess."), 'begins with "### Exercise 97.2'),
    "code above": ((EXERCISE_2, f"{EXERCISE_2}\n# %%\nx = 1\n"), 'begins with "### Exercise 97.2 (1 point): …"'),
    "exercise that is not there": (("in exercise 97.2", "in exercise 97.9"), "there is no exercise 97.9; there are"),
    "exercise with a letter": (("in exercise 97.2", "in exercises 97.1a"), "there is no exercise 97.1a"),
    "no outcome": (('reveal("97.2", "two")', "x = 1"), "a prediction needs one cell below its check that ends with"),
    "two outcomes": ((ONE, '# %%\nreveal("97.2", "two")\n'), "a prediction needs one cell below its check"),
    "outcome of a function": ((ONE, '# %%\nreveal("97.1", 2)\n'), "reveals exercise 97.1, which is no prediction"),
    "solution's names": (("import torch\n", ""), "refers to torch, which no cell above imports or defines"),
}


def problems_of(path):
    """What `--check` says of a source: the student's chapter and the solutions."""
    return [str(p) for solutions in (False, True) for p in assemble(path, solutions)[1]]


def test_the_sound_chapter_has_no_problems(workshop):
    assert problems_of(workshop()) == []


@pytest.mark.parametrize("case", REFUSED)
def test_refused(workshop, case):
    change, said = REFUSED[case]
    path = workshop(change)
    found = problems_of(path)
    assert any(said in line for line in found), "\n".join(found) or "nothing was found"
    assert all(line.startswith(str(path)) for line in found)
    with pytest.raises(BuildError):
        build_chapter(path), build_chapter(path, solutions=True)


def test_a_problem_names_file_line_cell_and_first_line(workshop):
    path = workshop(("Model.method", "Model.nothing"))
    with pytest.raises(BuildError) as caught:
        build_chapter(path)
    line = path.read_text().splitlines().index('# %% quote="quoted_library:Model.nothing"') + 1
    assert str(caught.value) == (
        f"{path}:{line}: cell 10 (quote='quoted_library:Model.nothing'): quote: quoted_library has no Model.nothing"
    )


def test_all_problems_are_listed(workshop):
    path = workshop(("seed: int = 0", "seed = 0"), ("score()\n", "print()\n"), ('verifies=["97.2"] ', ""))
    said = "\n".join(problems_of(path))
    assert "annotated literal" in said and "score()" in said and "\\tag{97.2}" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    """Twice x.\n\n    x: (N,)\n    """\n', "", "exercise 97.1: the reference double needs a docstring"),
        ("    return torch.add", "    x = x\n" * 24 + "    return torch.add", "double has 29 lines without"),
        ("2, double, probes", "2, lambda x: x, probes", "the reference must be a function made with def"),
        ("EXERCISES = (", "EXERCISES = 2 * (", "ids must count 97.1, 97.2, …, got 97.1, 97.2, 97.1"),
    ],
)
def test_an_exercise_that_gives_no_stub_is_refused(workshop, tmp_path, old, new, said):
    text = EXERCISES.replace(old, new)
    assert text != EXERCISES
    (tmp_path / "modules" / "ch97.py").write_text(text)
    assert any(said in line for line in problems_of(workshop())), problems_of(workshop())


def test_exercises_out_of_order_and_an_outcome_before_its_prediction_are_refused(workshop):
    text = workshop().read_text()
    first, second = (text.index(f"# ### Exercise 97.{i}") for i in (1, 2))
    end = text.index("# %%\nreveal")
    one, two = text[first:second].rsplit("# %%", 1)[0], text[second:end]
    swapped = text[:first] + two + "\n# %% [markdown]\n" + one + text[end:]
    said = "\n".join(problems_of(workshop((text, swapped))))
    assert "exercise 97.1 comes after 97.2; number them as they follow" in said
    reveal = '# %%\nreveal("97.2", "two")\n'
    said = "\n".join(problems_of(workshop((reveal, ""), (ONE, reveal))))
    assert "a prediction needs one cell below its check" in said


def test_an_unsound_exercise_is_refused(workshop, tmp_path):
    module = tmp_path / "modules" / "ch97.py"
    for old, new, said in (
        ("wrong=(once, thrice, never)", "wrong=(once, thrice)", "at least three wrong answers are needed, got 2"),
        ("return 3 * x", "return 2 * x", "seed 0: the wrong answer thrice does not fail"),
        ('reason="It comes later."', 'reason=""', "exercise 97.2: a predict exercise needs reason"),
    ):
        module.write_text(EXERCISES.replace(old, new))
        sys.modules.pop("course_utils.exercises.ch97", None)
        importlib.invalidate_caches()
        assert any(said in line for line in problems_of(workshop())), said


def test_a_source_that_is_not_utf8_is_named_with_its_line(workshop):
    path = workshop()
    path.write_bytes(path.read_bytes().replace(b"# # Title", "# # Titel, gew\xf6hnlich".encode("latin-1")))
    result = CliRunner().invoke(build.main, ["97", "--check", "--src", str(path.parent), "--out", str(path.parent)])
    assert result.exit_code == 1 and "the byte 0xf6 is not UTF-8 text; save the file as UTF-8" in result.output
    assert f"{path.name}:2:" in result.output.replace("\n", "")


def test_a_string_that_is_not_closed_is_one_message_with_file_and_line(workshop):
    path = workshop((ONE, '# %%\ndef f():\n    """It says nothing.\n    return 1\n\n# %%\nx = 1\n'))
    line = path.read_text().splitlines().index('    """It says nothing.') + 1
    result = CliRunner().invoke(build.main, ["97", "--check", "--src", str(path.parent), "--out", str(path.parent)])
    assert result.exit_code == 1 and "is not closed in its cell" in result.output
    assert f"{path.name}:{line}:" in result.output.replace("\n", "") and len(result.output.splitlines()) <= 2


def test_what_a_figure_shows_reaches_its_output_and_not_its_cell(workshop, monkeypatch):
    """By the cell's id, as JupyterLab tells it, else by its text; the nearest of two, where a line is new."""
    two = "fig = plots.images(torch.zeros(1, 1, 2, 2))\nplots.show(\n    fig)\n# alt: A blank\n# image.\n"
    notebook = build_chapter(workshop((ONE, f"# %%\n{two}x = 2\nplots.show(fig)\n# alt: It says 'no'.\n")))
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code[:3]] == ["bootstrap", "descriptions", "parameters"]
    assert code[1].metadata.jupyter.source_hidden and max(map(len, code[1].source.splitlines())) <= 95
    [figures] = [cell for cell in code[2:] if "fig =" in cell.source]
    assert "alt" not in figures.source and "blank" not in figures.source

    shell, said = InteractiveShell(), []
    monkeypatch.setattr(plots, "get_ipython", lambda: shell)
    monkeypatch.setattr(plots, "_described", {})
    monkeypatch.setattr(plots, "display", lambda data, raw, metadata: said.append(metadata["image/png"]["alt"]))
    sources = [code[1].source, "import torch\nfrom course_utils import plots", figures.source]
    for source in sources:
        shell.run_cell(source, store_history=True).raise_error()
    assert said == ["A blank image.", "It says 'no'."]
    shell.run_cell(f"# mine\n{figures.source}", store_history=True).raise_error()
    assert said[2:] == ["A figure, drawn by the code above it."] * 2
    shell.get_parent = lambda: {"metadata": {"cellId": figures.id}}
    shell.run_cell(f"# mine\n{figures.source}", store_history=True).raise_error()
    assert said[4:] == ["A blank image.", "It says 'no'."]


def test_a_quoted_answer_is_refused(workshop, tmp_path):
    """Also under another name, inside a class, and with other spacing."""
    library = tmp_path / "modules" / "quoted_library.py"
    body = "y = times*x\n{0}return torch.add(y,shift)\n"
    library.write_text(LIBRARY + "\ndef twice(x, times, shift):\n    " + body.format("    "))
    found = problems_of(workshop(("quoted_library:plain", "quoted_library:twice")))
    assert any("this code is the answer to exercise 97.1 (double)" in line for line in found)
    library.write_text(LIBRARY + "\nclass Sums:\n    def double(self, x):\n        return x\n")
    found = problems_of(workshop(("quoted_library:plain", "quoted_library:Sums")))
    assert any("this code is the answer to exercise 97.1 (double)" in line for line in found)


def test_a_quote_that_is_only_read_needs_none_of_its_names(workshop):
    assert problems_of(workshop(("quoted_library:plain", "quoted_library:uses_helper"))) == []


def test_an_answer_may_be_tried_where_its_absence_is_caught(workshop):
    tried = "# %%\ntry:\n    y = double(torch.ones(1))\nexcept NotImplementedError:\n    y = None\n"
    assert problems_of(workshop(('# %%\nreveal("97.2"', tried + '# %%\nreveal("97.2"'))) == []


def test_a_chapter_without_exercises_needs_no_module(workshop):
    start = SOURCE.index("# %% [markdown]\n# ## Exercises")
    text = SOURCE[:start].replace("97.", "96.").replace('quote="quoted_library:Model.method"', "\ny = 1")
    path = workshop().with_name("96_test.py")
    path.write_text(text)
    assert problems_of(path) == []
    path.write_text(text + '# %% exercise="96.1"\n# %% tags=["check"]\ncheck("96.1", f)\n')
    assert "chapter 96 has no exercises" in "\n".join(problems_of(path))


# ------------------------------------------------------------------------------------------------------- --check, files
@pytest.fixture
def built(workshop, tmp_path):
    """The source of chapter 97, and its notebook as `course build` wrote it."""
    path = workshop()
    target = tmp_path / "out" / "97_test.ipynb"
    result = course_build(path, target)
    assert result.exit_code == 0, result.output
    return path, target


def course_build(path, target, *options):
    return CliRunner().invoke(build.main, ["--src", str(path.parent), "--out", str(target.parent), *options])


def test_check_passes_on_what_build_wrote_and_writes_nothing(built):
    path, target = built
    before = os.stat(target).st_mtime_ns
    assert check(path.parent, target.parent) == []
    assert course_build(path, target, "--check").exit_code == 0
    assert "up to date" in course_build(path, target).output
    assert os.stat(target).st_mtime_ns == before
    assert sorted(path.name for path in target.parent.iterdir()) == ["97_test.ipynb", "ledger.json"]


def edited(target, change):
    notebook = json.loads(target.read_text())
    change(notebook)
    target.write_text(json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


DRIFT = {
    "source": (lambda nb: nb["cells"][3]["source"].append("# x"), "cell 4 (", "in its source"),
    "metadata": (lambda nb: nb["cells"][3]["metadata"].update(x=1), "cell 4 (", "in its metadata"),
    "output": (
        lambda nb: nb["cells"][4].update(outputs=[{"name": "stdout", "output_type": "stream", "text": ["x"]}]),
        "cell 5 (",
        "outputs (none are committed)",
    ),
    "executed": (lambda nb: nb["cells"][4].update(execution_count=1), "cell 5 (", "outputs (none are committed)"),
    "removed": (lambda nb: nb["cells"].pop(3), "cell 4 (budget", "missing in the notebook"),
    "added": (lambda nb: nb["cells"].insert(3, nb["cells"][0] | {"id": "x"}), "cell 4 (# Title", "not what the source"),
    "notebook metadata": (lambda nb: nb["metadata"].update(x=1), "97_test.ipynb: ", "metadata or formatting differs"),
}


@pytest.mark.parametrize("case", DRIFT)
def test_check_finds_every_difference(built, case):
    path, target = built
    change, place, said = DRIFT[case]
    edited(target, change)
    found = [str(p) for p in check(path.parent, target.parent)]
    assert len(found) == 1 and place in found[0] and said in found[0] and str(target) in found[0], found
    result = course_build(path, target, "--check")
    assert result.exit_code == 1 and "1 problem found" in result.output


def test_check_finds_a_changed_source_all_its_cells(built):
    path, target = built
    path.write_text(path.read_text().replace("# # Title", "# # T").replace("# %%\nx = 1", "# %%\nx = 2"))
    found = "\n".join(str(p) for p in check(path.parent, target.parent))
    assert found.count("(# Title): not what the source says") == 1
    assert found.count("(x = 1): not what the source says") == 2 and len(found.splitlines()) == 3
    path.write_text(path.read_text().replace("# %%\nx = 2", "# %%\nx = 1\n# %%\nx = 3", 1))
    found = "\n".join(str(p) for p in check(path.parent, target.parent))
    assert "in the source, missing in the notebook" in found


def test_check_finds_changed_package_source(built, tmp_path):
    path, target = built
    library = tmp_path / "modules" / "quoted_library.py"
    library.write_text(library.read_text().replace("math.sqrt(x)", "math.sqrt(x + 0)"))
    (problem,) = check(path.parent, target.parent)
    assert "def plain(x):" in str(problem) and "differs from a fresh build in its source" in str(problem)


@pytest.mark.parametrize("old, new, said", [
    (', ("nought for one", "cell", "1.0, w", "0.0, w")', "", "(97.2) has 1 wrong twin, needs 2"),
    ('"97.2"', '"97.3"', "(97.2) has 0 wrong twins, needs 2"),
    ('{"97.2"', '{"97.1": [], "97.2"', "there are wrong twins for (97.1), but no cell verifies it"),
    ("TWINS = {", "OTHER = {", "should hold TWINS, a dict"),
    (', "close(2.0,"', "", "97.2: expected (what, where, old, new), four strings"),
    ('"close(2.0,"', '"close(one,"', "changes nothing"),
    ('"two for one"', '""', "changes nothing, or does not say what"),
    ('"two for one", "cell"', '"two for one", "before"', "`old` is empty for"),
    ('"two for one", "cell"', '"two for one", "course_utils.checks"', "where should be"),
    ('"close(one,"', '"near(one,"', "'near(one,' stands 0 times in cell, expected once"),
    ('"two for one", "cell"', '"two for one", "course_utils.checks:close"', "0 times in course_utils.checks:close"),
    ('"two for one", "cell"', '"two for one", "course_utils.distributions:kl_divergence"', "0 times in course_utils"),
    ('"two for one", "cell"', '"two for one", "json:closer"', "there is no function or class"),
    ('"two for one", "cell"', '"two for one", "nowhere:close"', "there is no function or class"),
])  # fmt: skip
def test_check_wants_two_wrong_twins_of_every_verified_equation(built, old, new, said):
    path, target = built
    file = twins.TWINS / "ch97.py"
    assert old in TWINS
    file.write_text(TWINS.replace(old, new))
    assert said in "\n".join(str(p) for p in check(path.parent, target.parent))
    if "97." in said and "expected" not in said:
        assert course_build(path, target).exit_code == 0, "a chapter that is being written may be built"
    file.unlink()
    assert "(97.2) has 0 wrong twins" in course_build(path, target, "--check").output


FOLDED = '# %% [markdown] tags=["fold"]\n# ## Going deeper: more\n'


def takes(path):
    return minutes.rounded(build.sections(read(path)))


def test_the_head_of_a_chapter_says_how_long_its_core_path_takes(built):
    path, target = built
    assert f"This takes about {takes(path)} minutes." in target.read_text() and takes(path) == 5  # an exercise, a law


@pytest.mark.parametrize("more, expected", [
    ("# %% [markdown]\n# " + "word " * 4_000, 25),  # 20 minutes of prose
    ("# %% [markdown]\n# " + "$$ a = b $$ " * 40, 25),
    ("# %% [markdown]\n# " + "$a + b + c$ and " * 1_000, 15),  # a formula in a line is read like a word
    ("# %%\nx = 1\n# %% [markdown]\n# ```\n# " + "word " * 4_000 + "\n# ```\n", 5),
    ("# %%\n" + "x = 1\n" * 24 + "# %%\n" + "x = 1\n" * 24 + "# %%\n" + "x = 1\n" * 24 + "# %%\n" + "x = 1\n" * 24, 10),
    ('# %% tags=["widget"]\nwidgets.show()\n' * 10, 25),
    (FOLDED + "# %% [markdown]\n# " + "word " * 4_000, 5),
    (FOLDED + "# %% [markdown]\n# ### Inside\n# " + "word " * 4_000, 5),
    (FOLDED + "# %% [markdown]\n# ## After\n# " + "word " * 4_000, 25),
])  # fmt: skip
def test_the_minutes_count_words_equations_code_and_widgets_outside_of_folds(workshop, more, expected):
    assert takes(workshop((FOLDED, more + "\n# %% [markdown]\n# ## Last\n"))) == expected


def test_the_minutes_of_a_section_stand_below_its_heading_and_sources_take_none(workshop):
    prose = "# %% [markdown]\n" + ("# " + "word " * 14 + "\n") * 100
    after = prose + "# %% [markdown]\n# ## 97.2 Second\n# Next.\n# %% [markdown]\n# ## Sources\n" + prose
    path = workshop((FOLDED, after + FOLDED))
    text = [cell.source for cell in build_chapter(path).cells]
    assert "## 97.1 First\n*about 7 minutes*" in text and "## 97.2 Second\n*about 1 minute*\n\nNext." in text
    long = takes(path)
    assert "## Sources" in text and takes(workshop((FOLDED, after.removesuffix(prose) + FOLDED))) == long


def test_a_chapter_that_takes_too_long_or_does_not_say_is_refused(workshop):
    words = "# %% [markdown]\n# " + "word " * 18_000 + "\n"
    found = "\n".join(problems_of(workshop((FOLDED, words + FOLDED))))
    assert "the core path takes about 95 minutes, may take 90" in found
    found = "\n".join(problems_of(workshop(("{minutes}", "75"))))
    assert 'says how long it takes: "about {minutes} minutes"' in found


def test_readme_says_the_minutes_that_the_build_estimates(built, tmp_path):
    path, target = built
    chapter, readme = read(path), tmp_path / "README.md"
    assert not list(minutes.readme(chapter, 5)), "a source outside of the course has no README"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "floors.toml").write_text("")
    row = "| [97 Test](notebooks/97_test.ipynb) | Why? | 01 | {} min |\n"
    for said, problems in (("75", 1), ("5", 0)):
        readme.write_text("# Course\n" + row.format(said) + row.format(75).replace("97", "98"))
        assert len(list(minutes.readme(chapter, 5))) == problems
    readme.write_text("# Course\n" + row.format(75) + row.format(75).replace("97", "98"))
    minutes.write(chapter, 5)
    assert readme.read_text() == "# Course\n" + row.format(5) + row.format(75).replace("97", "98")
    readme.write_text("# Course\n")
    assert "does not say the minutes" in str(next(minutes.readme(chapter, 5)))


LAW_OF_TWO = r"$$ b = a \tag{97.2} $$"


def kept(target):
    return json.loads((target.parent / "ledger.json").read_text())


def test_the_ledger_keeps_each_formula_its_law_and_its_twins(built):
    path, target = built
    entries = kept(target)
    assert list(entries) == ["97.1", "97.2"] and set(entries["97.1"]) == {"formula"}
    assert set(entries["97.2"]) == {"formula", "law", "twins", "caught"}
    assert entries["97.2"]["caught"] == ["two for one", "nought for one"]


@pytest.mark.parametrize("formula", [
    r"$$ b = 2a \tag{97.2} $$", r"$$ b = -a \tag{97.2} $$", r"$$ a = b \tag{97.2} $$", r"$$ b = A \tag{97.2} $$",
    r"$$ b = a_i \tag{97.2} $$", r"$$ b \le a \tag{97.2} $$", r"$$ b = \tfrac12 a \tag{97.2} $$",
])  # fmt: skip
def test_a_changed_formula_stops_the_build_until_it_is_accepted_by_name(built, formula):
    path, target = built
    before = kept(target)
    path.write_text(SOURCE.replace(LAW_OF_TWO, formula))
    for options in ([], ["--check"], ["--accept", "97.1"]):
        result = course_build(path, target, *options)
        assert result.exit_code == 1 and "the formula (97.2) is not the one that was verified" in result.output
    assert kept(target) == before and formula not in target.read_text()
    assert course_build(path, target, "--accept", "97.2").exit_code == 0
    assert kept(target)["97.2"]["formula"] != before["97.2"]["formula"]
    assert course_build(path, target, "--check").exit_code == 0


def test_a_changed_step_of_a_derivation_stops_the_build_too(built):
    path, target = built
    step = LAW_OF_TWO + "\n#\n# $$ a + 1 = b + 1 $$"
    path.write_text(SOURCE.replace(LAW_OF_TWO, step))
    assert course_build(path, target).exit_code == 0, "a step that is new"
    path.write_text(SOURCE.replace(LAW_OF_TWO, step.replace("b + 1", "b - 1")))
    for options in ([], ["--check"]):
        assert "a formula without a number beside (97.2) is not the one" in course_build(path, target, *options).output
    assert course_build(path, target, "--accept", "97.2").exit_code == 0
    path.write_text(SOURCE.replace(LAW_OF_TWO, step.replace("b + 1", r"b \; - 1 .")))
    assert course_build(path, target).exit_code == 0, "it only looks different"
    path.write_text(SOURCE)
    assert course_build(path, target).exit_code == 0, "a step that is no longer there"


@pytest.mark.parametrize("formula", [
    r"$$  b=a ,\tag{97.2} $$", r"$$ b \;=\; a . \tag{97.2} $$", r"$$ b \quad = \displaystyle a; \tag{97.2} $$",
])  # fmt: skip
def test_what_changes_the_look_of_a_formula_changes_nothing(built, formula):
    path, target = built
    path.write_text(SOURCE.replace(LAW_OF_TWO, formula))
    assert course_build(path, target).exit_code == 0


def test_a_formula_may_get_another_number_and_two_may_not_become_one(built):
    path, target = built
    moved = SOURCE.replace(LAW_OF_TWO, r"$$ c = d \tag{97.2} $$" + "\n# " + LAW_OF_TWO.replace("97.2", "97.3"))
    path.write_text(moved.replace('verifies=["97.2"]', 'verifies=["97.2", "97.3"]'))
    assert "the formula (97.2) is not" in course_build(path, target).output  # b = a is (97.3) now, c = d is new
    assert course_build(path, target, "--accept", "97.2").exit_code == 0
    path.write_text(SOURCE.replace("$$ a = b", "$$ x").replace("$$ b = a", "$$ a = b").replace("$$ x", "$$ b = a"))
    assert course_build(path, target).exit_code == 0, "the two changed places"
    path.write_text(SOURCE.replace("$$ b = a", "$$ a = b"))
    assert "the formula (97.1) is not" in course_build(path, target).output, "(97.1) repeats (97.2)"


@pytest.mark.parametrize("change", [
    lambda path: path.write_text(SOURCE.replace(LAW, LAW.replace('"one"', '"one!"'))),
    lambda path: (twins.TWINS / "ch97.py").write_text(TWINS.replace('"0.0, w")', '"0.5, w")')),
])  # fmt: skip
def test_check_wants_the_ledger_of_today(built, change):
    path, target = built
    change(path)
    found = "\n".join(map(str, check(path.parent, target.parent)))
    assert "ledger.json: does not say what chapter 97 says of (97.2); run `course build`" in found
    assert course_build(path, target).exit_code == 0 and check(path.parent, target.parent) == []


def test_a_damaged_ledger_is_named_and_chapters_keep_out_of_each_others_way(built):
    path, target = built
    ledger = target.parent / "ledger.json"
    ledger.write_text(ledger.read_text().replace("{\n", '{\n"4.10": {"formula": "a"},\n"4.9": {"formula": "b"},\n', 1))
    path.write_text(SOURCE.replace(LAW, LAW.replace("1.0", "1")))
    assert course_build(path, target).exit_code == 0
    assert list(kept(target)) == ["4.9", "4.10", "97.1", "97.2"]
    for damaged in ("{", "[]", '{"4.9": 1}'):
        ledger.write_text(damaged)
        assert "is no ledger of equations" in course_build(path, target).output
        assert "is no ledger of equations" in course_build(path, target, "--check").output


def test_check_builds_the_solutions_too(workshop):
    """Starting code may need less than the reference does."""
    start = '# %% exercise="97.1"\ndef double(x, times=2, shift=0):\n    return x\n'
    path = workshop(('# %% exercise="97.1"\n', start), ("import torch\n", ""), ("torch.zeros(1, 1, 2, 2)", "[]"))
    assert assemble(path)[1] == []
    assert "refers to torch" in str(check(path.parent, path.parent)[0])


def test_check_finds_missing_stray_and_damaged_notebooks(built):
    path, target = built
    target.rename(target.with_name("42_old.ipynb"))
    found = [str(p) for p in check(path.parent, target.parent)]
    assert "missing; run `course build`" in found[0] and "there is no source" in found[1] and len(found) == 2
    assert len(check(path.parent, target.parent, ["97"])) == 1  # asked about one chapter, silent about the others
    target.with_name("42_old.ipynb").rename(target)
    for text in ("", "[]", '{"cells": [', "{}"):
        target.write_text(text)
        assert "97_test.ipynb" in str(check(path.parent, target.parent)[0])


def test_a_chapter_with_a_problem_is_not_written_unless_it_is_a_draft(built):
    path, target = built
    before = target.read_text()
    path.write_text(path.read_text().replace("score()\n", "print()\n"))
    result = course_build(path, target)
    assert result.exit_code == 1 and "score()" in result.output and target.read_text() == before
    result = course_build(path, target, "--draft")
    assert result.exit_code == 1 and target.read_text() != before


def test_a_failed_write_leaves_the_old_file(built, monkeypatch):
    path, target = built
    before = target.read_text()
    path.write_text(path.read_text().replace("# # Title", "# # Another"))

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    assert isinstance(course_build(path, target).exception, OSError)
    assert target.read_text() == before


def test_solutions_go_to_a_folder_of_their_own(built, tmp_path, monkeypatch):
    path, target = built
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build.main, ["97", "--solutions", "--src", str(path.parent)])
    assert result.exit_code == 0, result.output
    assert "torch.add" in (tmp_path / "build/solutions/97_test.ipynb").read_text()
    assert "torch.add" not in target.read_text()


def test_chapters_are_chosen_by_number_or_name(workshop):
    one, two = workshop(), workshop(name="03_other.py")
    assert select(one.parent) == [two, one]
    assert select(one.parent, ["3"]) == select(one.parent, ["03"]) == select(one.parent, ["03_other"]) == [two]
    with pytest.raises(ValueError, match="no chapter '5'.*03_other, 97_test"):
        select(one.parent, ["5"])
    with pytest.raises(ValueError, match="no chapter sources"):
        select(one.parent.parent)
    result = CliRunner().invoke(build.main, ["5", "--src", str(one.parent)])
    assert result.exit_code == 1 and "no chapter '5'" in result.output


def test_a_heading_begins_a_cell_of_its_own_with_what_it_defines(workshop):
    text = "# and a law\n#\n# ### Law\n# ```\n# # no heading\n# ```\n"
    path = workshop(('defines=["97.1"]', 'defines=["97.2", "97.1"]'), ("# and a law\n", text))
    assert problems_of(path) == []
    _, first, second, *_ = read(path).cells
    assert first.text.startswith("A definition") and first.text.endswith("and a law")
    assert second.text.startswith("### Law\n```\n# no heading\n```\n$$")
    assert (first.keys, second.keys) == ({"defines": ["97.1"]}, {"defines": ["97.2"]})
    assert path.read_text().splitlines()[second.line].endswith("### Law")
    assert [cell.index for cell in read(path).cells] == list(range(1, len(read(path).cells) + 1))


def test_comments_that_look_like_magics_stay_comments(workshop):
    path = workshop((ONE, "# %%\n# %matplotlib inline\nx = 1  # !ls\n"))
    assert any("# %matplotlib inline" in cell.text for cell in read(path).cells)
    assert problems_of(path) == []


# ------------------------------------------------------------------------------------------------------- this course
def test_the_notebooks_of_the_course_equal_their_sources_and_keep_the_rules():
    problems = check(ROOT / "notebooks" / "src", ROOT / "notebooks", wrong=ROOT / "tests" / "twins")
    assert not problems, "\n".join(map(str, problems))


@pytest.mark.parametrize("path", sources(ROOT / "notebooks" / "src"), ids=lambda path: path.stem)
def test_solutions_pass_and_stubs_score_nothing_as_the_notebook_defines_them(path):
    """The exercise cells run with nothing but the chapter's own imports and functions around them."""
    for solutions in (False, True):
        space = {}
        for made in assemble(path, solutions)[0].cells:
            if made.cell_type != "code" or made.id == "bootstrap":
                continue
            tree = ast.parse(made.source)
            tree.body = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom | ast.FunctionDef)]
            exec(compile(tree, made.id, "exec"), space)
            if exercise := made.metadata.get("exercise"):
                exercise = exercises.find(exercise)
                verdict = exercises.judge(exercise, space[exercise.reference.__name__])
                assert verdict.passed == solutions, f"exercise {exercise.id}: {verdict.message}"
