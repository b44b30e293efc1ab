"""`course build`: what a chapter needs to be complete, each rule seen to complain."""

import pytest

from course_utils.commands.build import complete
from course_utils.commands.build.source import read

SOUND = r"""
# %% [markdown]
# # Title
# $$ a = b \tag{3.1} $$
# %%
import torch
from course_utils import plots
from course_utils.chapter import record
# %% [markdown]
# ## 3.1 First
# %% tags=["nbval-check-output"]
def later():
    return below
record(loss=1.0, error=torch.ones(()))
plots.show(plots.images(torch.zeros(1)))
# alt: A blank image.
# %% [markdown] tags=["fold"]
# ## Going deeper: more
# %% [markdown]
# ## 3.2 Second
# ### A part
# %%
below = 1
# %% [markdown]
# ## What to remember
""".lstrip()


def found(folder, *changes, name="03_codes.py"):
    text = SOUND
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    (folder / name).write_text(text)
    chapter = read(folder / name)
    return [str(problem) for rule in (*complete.RULES, complete.defined) for problem in rule(chapter)]


@pytest.fixture
def course(tmp_path):
    """A checkout with the pages in which a chapter is listed."""
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "README.md").write_text("| [3 Codes](notebooks/03_codes.ipynb) | why? |\n")
    (tmp_path / "notebooks" / "NOTATION.md").write_text("| $z$ | code | 03 |\n")
    (tmp_path / "notebooks" / "floors.toml").write_text('["03".class.handwriting]\nloss = { max = 2.0 }\n')
    return tmp_path


def test_a_complete_chapter_is_not_complained_about(tmp_path, course):
    assert found(tmp_path) == []
    assert found(course / "notebooks" / "src") == []


@pytest.mark.parametrize("changes, complaint", [
    ([("record(loss=1.0, error=torch.ones(()))", "record")], "records at least one result"),
    ([("below = 1", "below = 1\nrecord(loss=2.0)")], "loss is recorded in cell"),
    ([(' tags=["nbval-check-output"]', "")], "no cell is tagged nbval-check-output"),
    ([(r"\tag{3.1}", "")], "no numbered equation"),
    ([("plots.show(plots.images(torch.zeros(1)))\n# alt: A blank image.",
       "from matplotlib import pyplot as plt\nplt.show()")], "plt.show() has no alternative text"),
    ([("# alt: A blank image.", "")], 'plots.show needs "# alt: …" below it'),
    ([("# alt: A blank image.", "# alt: ")], 'plots.show needs "# alt: …" below it'),
    ([("below = 1", "below = 1\n# alt: A number.")], "stands right below the plots.show that it describes"),
    ([("## 3.2 Second", "## 3.3 Second")], "should be number 3.2"),
    ([("## 3.2 Second", "## 3.1 Second")], "should be number 3.2"),
    ([("## 3.2 Second", "## 4.2 Second")], "should be number 3.2"),
    ([("## 3.2 Second", "## 3.2a Second")], "only sections (##) are numbered"),
    ([("### A part", "### 3.2.1 A part")], "only sections (##) are numbered"),
    ([("## 3.2 Second", "## Second")], "has no number: 3.2 Second"),
    ([("record(loss=1.0,", "record(loss=lost,")], "refers to lost"),
    ([("return below", "return nowhere")], "refers to nowhere"),
    ([("record(loss=1.0,", "record(loss=below,")], "refers to below"),
    ([("import torch\n", "")], "refers to torch"),
])
def test_what_is_missing_is_said(tmp_path, changes, complaint):
    problems = found(tmp_path, *changes)
    assert problems and all(complaint in problem for problem in problems), problems


@pytest.mark.parametrize("file, text, complaint", [
    ("README.md", "nothing", "README.md has no row"),
    ("notebooks/NOTATION.md", "| $z$ | code | 04 |\n", "lists no symbol of chapter 03"),
    ("notebooks/floors.toml", "", "no floor for loss, error"),
    ("notebooks/floors.toml", '["03".class.handwriting]\nloss = 1\nlos = 2', "a floor for los, which"),
])
def test_what_is_not_listed_is_said(course, file, text, complaint):
    (course / file).write_text(text)
    problems = found(course / "notebooks" / "src")
    assert len(problems) == 1 and complaint in problems[0], problems
