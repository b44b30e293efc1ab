"""A chapter as Colab gets it: one notebook in an empty folder, on a Python that has torch but not this course.

The stand-in for Colab is a virtual environment that borrows every installed package but the course, and has a module
``google.colab``. The chapter, made by ``course build --carry``, then has to bring the course in with pip, from the
wheel that it carries, with no package index to ask. If the wheel lacked a file, if its requirements were not met by
what is there (so that pip would want another torch), or if a chapter needed the checkout, this fails.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

from course_utils.commands.build import bootstrap, build

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "course_utils"
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))

pytestmark = [pytest.mark.xdist_group("colab"), pytest.mark.timeout(400)]    # one stand-in is enough


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
    """``(python, environment)`` of the stand-in; its pip knows of nothing."""
    folder = tmp_path_factory.mktemp("colab")
    (folder / "home").mkdir()
    python = stand_in_for_colab(folder / "python")
    spec = folder / "jupyter" / "kernels" / "stand-in"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "stand-in", "language": "python"}))
    mine = ("PIP_", "PYTHON", "VIRTUAL_ENV", "XDG_", "JUPYTER", "IPYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    environment |= {"HOME": str(folder / "home"), "JUPYTER_PATH": str(folder / "jupyter"), "PYTHONNOUSERSITE": "1",
                    "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "OMP_NUM_THREADS": "1"}
    assert imports((python, environment), "torch", folder)
    assert not imports((python, environment), "course_utils", folder), "the first chapter has to bring it in"
    return python, environment


def imports(colab, module, folder):
    python, environment = colab
    return subprocess.run([python, "-c", f"import {module}"], env=environment, cwd=folder).returncode == 0


def test_all_chapters_carry_the_same_package(carrying):
    """What is tried below with one chapter holds for all: each begins with the same cell and can be opened there."""
    first = {tuple(c.source for c in nbformat.read(carrying / name, as_version=4).cells if c.cell_type == "code")[:2]
             for name in CHAPTERS}
    [(wheel, bootstrap_cell)] = first
    assert wheel.startswith("# The package as a wheel") and "importlib" in bootstrap_cell
    assert all((carrying / name).stat().st_size < 15e6 for name in CHAPTERS), "Colab opens notebooks of at most 20 MB"


@pytest.fixture(scope="module")
def carrying(tmp_path_factory):
    """A folder with every chapter, each carrying the package."""
    folder = tmp_path_factory.mktemp("carrying")
    done = CliRunner().invoke(build.main, ["--carry", "--src", str(ROOT / "notebooks" / "src"), "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def run_code(colab, folder, code):
    python, environment = colab
    return subprocess.run([python, "-c", code], env=environment, cwd=folder, capture_output=True, text=True)


def test_while_no_source_is_named_a_chapter_installs_nothing_and_says_what_does(colab, tmp_path):
    """Whoever registers the course's name on an index must not reach a student's machine."""
    (tmp_path / "pyproject.toml").write_text('[tool.course]\nsource = ""\nrepository = "https://example.org/c"\n')
    [cell] = bootstrap.cells(tmp_path / "notebooks" / "01.py")
    spy = "import subprocess\nsubprocess.run = subprocess.Popen = lambda *a, **k: exit('it called ' + str(a))\n"
    done = run_code(colab, tmp_path, spy + cell)
    assert done.returncode == 1 and "ModuleNotFoundError" in done.stderr and "it called" not in done.stderr
    assert "installs nothing" in done.stderr and "build --carry" in done.stderr and "example.org/c" in done.stderr
    assert not imports(colab, "course_utils", tmp_path)


def test_nothing_tells_anybody_to_install_a_name_that_nobody_has_published():
    """Not a chapter, not a message, not a page; keys without a value cannot be told from forgotten ones by a reader."""
    listed = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z"], text=True).split("\0")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in listed
             if Path(name).suffix in (".py", ".md", ".toml", ".ipynb", ".yml", ".txt", "") and (ROOT / name).is_file()}
    name = "deep-generative-course"
    told = re.compile(rf"""pip[^\n]*install[^\n]*["' ]{name}|requirement[^\n]*{name}|source *= *["']{name}""")
    assert [path for path, text in texts.items() if told.search(text) and path != "tests/test_colab.py"] == []


@pytest.mark.parametrize("chapter", CHAPTERS[-1:])       # the last one asks for most; its first cell is that of all
def test_a_chapter_alone_in_an_empty_folder_brings_the_course_in_and_runs(colab, carrying, tmp_path, chapter):
    python, environment = colab
    notebook = nbformat.read(carrying / chapter, as_version=4)
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
    with zipfile.ZipFile(bootstrap.make_wheel(checkout, tmp_path)) as wheel:
        names = set(wheel.namelist())
        [scripts] = [wheel.read(name).decode() for name in names if name.endswith("entry_points.txt")]
    ours = {f"course_utils/{path.relative_to(checkout / 'course_utils')}"
            for path in (checkout / "course_utils").rglob("*") if path.suffix in (".py", ".js", ".css", ".json")}
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == ours | {"course_utils/data/pretrained/x.safetensors"}
    assert "course = course_utils.commands.cli:main" in scripts
