# ruff: noqa: E501  (tables of cases are long lines)
"""``course release``: what students get, and what it must not hold."""

import base64
import copy
import io
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from course_utils.commands.build import build
from course_utils.commands.grade import intake, released
from course_utils.commands.release import make, pack, portable, release
from course_utils.exercises import validate

ROOT = Path(__file__).resolve().parents[2]
# What nbgrader 0.9 asks of a cell, written down from its documentation: schema version 3.
FIELDS = {"schema_version": {"const": 3}, "grade": {"type": "boolean"}, "solution": {"type": "boolean"},
          "locked": {"type": "boolean"}, "task": {"type": "boolean"}, "cell_type": {"enum": ["code", "markdown"]},
          "grade_id": {"type": "string", "pattern": r"^[a-zA-Z0-9_\-]+$"}, "points": {"type": "number", "minimum": 0}}  # fmt: skip
NBGRADER = {"type": "object", "properties": FIELDS, "additionalProperties": False,
            "required": ["schema_version", "grade", "solution", "locked", "task", "grade_id"],
            "if": {"properties": {"grade": {"const": True}}}, "then": {"required": ["points", "cell_type"]}}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    """Chapter 03, carrying the package."""
    [chapter] = make.chapters(ROOT / "notebooks/src", ("03",), None, portable=True)
    return chapter


def test_ids_and_metadata_are_those_of_the_build_and_fit_nbgrader(made):
    known = {cell["id"]: cell for cell in json.loads((ROOT / "notebooks/03_autoencoders.ipynb").read_text())["cells"]}
    told, solved = [], json.loads(made.solved)
    for cell in made.notebook["cells"]:
        if cell["id"] in known and cell["id"] != "bootstrap":
            expected = known[cell["id"]]
            assert cell["source"] == "".join(expected["source"])
            assert {k: v for k, v in cell["metadata"].items() if k != "nbgrader"} == expected["metadata"]
        if "nbgrader" in cell["metadata"]:
            jsonschema.validate(dict(cell["metadata"]["nbgrader"]), NBGRADER)
            told.append(cell["metadata"]["nbgrader"]["grade_id"])
    assert len(set(told)) == len(told)
    assert {f"{kind}-3-{i}" for kind in ("exercise", "check") for i in range(1, 7)} <= set(told)
    assert [e["id"] for e in made.entries if not e["counts"]] == ["3.2"]  # the prediction
    assert [c["id"] for c in solved["cells"]] == [c["id"] for c in made.notebook["cells"]]
    assert all(intake.cell_id(e["id"]) in {c["id"] for c in solved["cells"]} for e in made.entries)


def test_no_line_of_a_solution_stands_in_it_and_one_that_did_is_seen(made):
    assert list(release.leaks(made)) == []
    cells = copy.deepcopy(made.notebook)
    line = next(line for line in release.statements(made.solutions[0][1]) if len(line) >= release.SHORT)
    cells["cells"][-2] = {"cell_type": "code", "source": f"x = 1\n{line}", "metadata": {}}
    assert "3.1" in next(release.leaks(replace(made, notebook=cells)))


def test_it_carries_the_package_with_its_own_weights_and_nothing_of_the_workshop(made, tmp_path):
    carried = next(cell for cell in made.notebook["cells"] if cell["id"] == "carried")
    space = {}
    exec(carried["source"], space)
    with zipfile.ZipFile(io.BytesIO(base64.b85decode(space["WHEEL"]))) as wheel:
        names = wheel.namelist()
    shipped = {Path(name).name for name in names if "/pretrained/" in name}
    assert shipped == {"latent_handwriting.json", "latent_mnist.json"} and not any("/commands/" in n for n in names)
    cells = [cell["source"] for cell in made.notebook["cells"] if cell["id"] in ("carried", "bootstrap")]
    code = "import sys; sys.path = [p for p in sys.path if p and 'course' not in p.rpartition('/')[2]]\n" \
           "sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"  # fmt: skip
    code += "\n".join(cells) + "\nimport course_utils; print(course_utils.__file__)"
    (tmp_path / "first.py").write_text(code)
    done = subprocess.run([sys.executable, "-P", str(tmp_path / "first.py")], capture_output=True, text=True, cwd=tmp_path,
                          env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    heavy = {"metadata": {}, "cells": [{"cell_type": "code", "source": "'big.safetensors'"}]}
    with zipfile.ZipFile(tmp_path / "big.whl", "w") as wheel:
        wheel.writestr("course_utils/data/pretrained/big.safetensors", b"\0" * 6_000_001)
    with pytest.raises(ValueError, match="more than the 6,000,000"):
        portable.slim(tmp_path / "big.whl", heavy)


def test_what_is_written_is_what_the_grader_reads(made, tmp_path):
    release.write(tmp_path / "out", [made], None, "Homework", "not run")
    told, _ = released.read(tmp_path / "out")
    [chapter] = released.chapters(tmp_path / "out", told).values()
    assert list(chapter.exercises) == [e["id"] for e in made.entries]
    (tmp_path / "out" / "03_autoencoders.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="not as it was released"):
        released.read(tmp_path / "out")
    with pytest.raises(ValueError, match="no release"):
        released.read(tmp_path)


def test_the_example_pack_is_sound_and_a_broken_one_is_named(tmp_path):
    found = pack.load(ROOT / "notebooks/packs/example")
    assert [fault for exercise in found.chapters["01"] for fault in validate(exercise)] == []
    assert pack.of_chapter("01", found)[0] == found.chapters["01"] and pack.of_chapter("03", found)[1] == ()
    with pytest.raises(ValueError, match="no file chNN.py"):
        pack.load(tmp_path)
    (tmp_path / "ch01.py").write_text("1 / 0")
    with pytest.raises(ValueError, match="ZeroDivisionError"):
        pack.load(tmp_path)
    text = (ROOT / "notebooks/packs/example/ch01.py").read_text()
    (tmp_path / "ch01.py").write_text(text.replace('"1.p1"', '"1.1"'))
    with pytest.raises(ValueError, match="not those of the chapter"):
        pack.load(tmp_path)


def test_an_address_becomes_an_install_cell_and_a_badge():
    notebook = build.build_chapter(ROOT / "notebooks/src/03_autoencoders.py")
    make._address(notebook, ROOT / "notebooks/src/03_autoencoders.py", "https://github.com/ada/course", None)
    assert "github/ada/course/blob/main/notebooks/03_autoencoders.ipynb" in notebook["cells"][0]["source"]
    [cell] = [cell for cell in notebook["cells"] if cell["id"] == "bootstrap"]
    assert "'git+https://github.com/ada/course'" in cell["source"]


def test_what_cannot_be_released_is_refused_at_once(tmp_path):
    run = CliRunner().invoke
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    for words, why in ((["full"], "not empty"), (["new", "--repo-url", "x"], "an address"), (["new", "--chapters", "x"], "numbers"),
                       (["new", "--portable", "--repo-url", "https://a.b"], "choose one")):  # fmt: skip
        done = run(release.main, [str(tmp_path / words[0]), *words[1:]])
        assert done.exit_code == 2 and why in done.output, done.output
    assert not (tmp_path / "new").exists()


def test_the_score_of_an_executed_notebook_is_the_last_that_it_showed(tmp_path):
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": [{"outputs": ["○ Chapter 03: 0 of 11 points", "✓ Chapter 03: 11 of 11 points. All"]}]}))
    assert release.score(path) == (11, 11)
