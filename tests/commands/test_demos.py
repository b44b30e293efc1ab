"""What a new demo lacks is said at once, with the file that lacks it."""

import shutil

import pytest

from course_utils.commands.build import build, demos

JS = 'function render({ model, el }) {\n  root.append(course.button("reset", () => course.reset(model)));\n}\n'
PY = 'def new_one(x):\n    return Demo("new_one", sliders=[], data={}, picture=None, alt="")\n'


@pytest.fixture
def house(tmp_path):
    """A copy of the widgets and the examples with one demo more, complete."""
    widgets, examples = tmp_path / "widgets", tmp_path / "examples.py"
    shutil.copytree(demos.WIDGETS, widgets, ignore=shutil.ignore_patterns("__pycache__"))
    (widgets / "js" / "new_one.js").write_text(JS)
    (widgets / "new_one.py").write_text(PY)
    with open(widgets / "__init__.py", "a") as names:
        names.write("from .new_one import new_one\n")
    examples.write_text(demos.EXAMPLES.read_text() + "\ndef new_one():\n    return widgets.new_one(3)\n")
    assert list(demos.problems(widgets, examples)) == []
    return widgets, examples


def lacks(house, path, old, new, words):
    path.write_text(path.read_text().replace(old, new))
    [problem] = demos.problems(*house)
    assert "js/new_one.js" in str(problem) and words in str(problem)


@pytest.mark.parametrize("button", ["", 'course.button("again", f)', "course.reset(model)", '// button "reset"'])
def test_a_demo_without_a_reset_button(house, button):
    lacks(house, house[0] / "js" / "new_one.js", 'course.button("reset", () => course.reset(model))', button,
          "a demo has a reset button")


OTHERS = ['course.button("Reset all", f)', "button('reset', f)", 'course.button(\n  "reset",']


@pytest.mark.parametrize("button", OTHERS)
def test_a_reset_button_by_another_spelling_will_do(house, button):
    path = house[0] / "js" / "new_one.js"
    path.write_text(path.read_text().replace('course.button("reset", () => course.reset(model))', button))
    assert list(demos.problems(*house)) == []


def test_a_demo_without_an_example(house):
    lacks(house, house[1], "return widgets.new_one(3)", "return 3", "add it to EXAMPLES there")


def test_a_demo_that_no_chapter_can_call(house):
    lacks(house, house[0] / "__init__.py", "from .new_one import new_one\n", "", "is not named in")


def test_a_module_that_no_function_shows(house):
    lacks(house, house[0] / "new_one.py", 'Demo("new_one"', 'Demo("another"', 'returns Demo("new_one"')


def test_the_build_asks_for_all_of_it(house, tmp_path, monkeypatch):
    monkeypatch.setattr(demos, "problems", lambda: ["a demo lacks something"])
    monkeypatch.setattr(build, "assemble", lambda path, solutions=False: (None, []))
    (tmp_path / "01_x.py").write_text("")
    assert build.check(tmp_path, tmp_path, wrong=tmp_path) == ["a demo lacks something"]
