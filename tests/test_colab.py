"""A chapter as Colab gets it: one notebook in an empty folder, on a Python that has torch but not this course.

The stand-in for Colab is a virtual environment that borrows every installed package but the course, and has a module
``google.colab``. The chapter's own first cell then has to bring the course in with pip, from a folder that holds the
freshly built wheel, with no package index to ask. If the wheel lacked a file, if its requirements were not met by what
is there (so that pip would want another torch), or if a chapter needed the checkout, this fails.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "course_utils"
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))

pytestmark = pytest.mark.xdist_group("colab")              # one stand-in is enough


def build_wheel(checkout, folder):
    """The wheel of a tree as it stands, built offline."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(folder), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


def stand_in_for_colab(folder):
    """The Python of a new environment with all that is installed here, by links, except the course itself."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    there = Path(subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip())
    for key in ("purelib", "platlib"):
        for package in Path(sysconfig.get_path(key)).iterdir():
            link = there / package.name
            if "deep_generative_course" not in package.name and package.name != "__pycache__" and not link.exists():
                link.symlink_to(package)
    (there / "google" / "colab").mkdir(parents=True)
    (there / "google" / "colab" / "__init__.py").touch()
    return python


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """``(python, environment)`` of the stand-in; its pip knows the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("colab")
    (folder / "wheels").mkdir()
    (folder / "home").mkdir()
    build_wheel(ROOT, folder / "wheels")
    python = stand_in_for_colab(folder / "python")
    spec = folder / "jupyter" / "kernels" / "stand-in"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "stand-in", "language": "python"}))
    mine = ("PIP_", "PYTHON", "VIRTUAL_ENV", "XDG_", "JUPYTER", "IPYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    environment |= {"HOME": str(folder / "home"), "JUPYTER_PATH": str(folder / "jupyter"), "PYTHONNOUSERSITE": "1",
                    "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels"), "PIP_CONFIG_FILE": os.devnull,
                    "OMP_NUM_THREADS": "1"}
    assert imports((python, environment), "torch", folder)
    assert not imports((python, environment), "course_utils", folder), "the first chapter has to bring it in"
    return python, environment


def imports(colab, module, folder):
    python, environment = colab
    return subprocess.run([python, "-c", f"import {module}"], env=environment, cwd=folder).returncode == 0


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_alone_in_an_empty_folder_brings_the_course_in_and_runs(colab, tmp_path, chapter):
    python, environment = colab
    notebook = nbformat.read(ROOT / "notebooks" / chapter, as_version=4)
    report = "import course_utils, sys; print(course_utils.__file__, sys.prefix, sep='\\n', end='')"
    notebook.cells.append(nbformat.v4.new_code_cell(report))
    nbformat.write(notebook, tmp_path / chapter)
    done = subprocess.run(
        [sys.executable, "-m", "papermill", chapter, "out.ipynb", "-p", "budget", "smoke", "--kernel", "stand-in",
         "--cwd", str(tmp_path), "--no-progress-bar", "--execution-timeout", "120"],
        cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in nbformat.read(tmp_path / "out.ipynb", as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells if cell.source.strip())
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    package, prefix = map(Path, cells[-1].outputs[0].text.split("\n"))
    assert package.is_relative_to(prefix) and prefix.samefile(python.parents[1])


def test_the_wheel_holds_the_package_its_scripts_and_the_weights(tmp_path):
    """Built from a copy with one file more among the shipped weights, so that it does not matter what ships today."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(PACKAGE, checkout / "course_utils", ignore=shutil.ignore_patterns("__pycache__"))
    weights = checkout / "data" / "pretrained" / "x.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    for name in ("README.md", "download.bin"):             # what else lies in data/ stays behind
        (checkout / "data" / name).write_bytes(b"stays")
    with zipfile.ZipFile(build_wheel(checkout, tmp_path)) as wheel:
        names = set(wheel.namelist())
        [scripts] = [wheel.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    ours = {f"course_utils/{path.relative_to(checkout / 'course_utils')}"
            for path in (checkout / "course_utils").rglob("*") if path.suffix in (".py", ".js", ".css")}
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == ours | {"course_utils/data/pretrained/x.safetensors"}
    assert "course = course_utils.commands.cli:main" in scripts
