"""The house keeps its order: who may import whom, what is declared, and what never gets committed."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import safetensors
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "course_utils"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# ---- who may import whom ---------------------------------------------------------------------------------------------
# A room is a module or folder directly under course_utils, and in the workshop wing one directly under commands. Each
# may import itself and the rooms named here. A new room needs a line, and with it a thought about what it should know.
LAW = "distributions nn expect"
MAY_IMPORT = {
    "expect": "",                                  # what an edge accepts: numbers and tensors, whatever they mean
    "nn": "expect",
    "distributions": "expect",
    "models": LAW,
    "data": LAW,
    "training": "expect fingerprint files",
    "metrics": "expect",
    "checks": "expect",
    "plots": "expect",
    "fingerprint": "",
    "files": "",
    "chapter": "",
    "coding": "expect",
    "shipped": "",
    "recipes": f"models data training metrics shipped {LAW}",
    "widgets": "plots",
    "exercises": f"data models checks metrics {LAW}",
    "commands": "",
    "commands.cli": "commands.doctor",
    "commands.doctor": "data",
    "commands.build": "exercises files commands.pages",
    "commands.run": "files shipped data commands.doctor commands.pages",
    "commands.pages": "files",
    "commands.lab": "files commands.doctor",
    "commands.bench": f"models data training metrics chapter widgets shipped coding recipes files {LAW} "
                      "commands.lab commands.run commands.build commands.doctor commands.release",
    "commands.release": "exercises files commands.build",
    "commands.grade": "exercises files shipped commands.build commands.doctor commands.release commands.report",
    "commands.report": "files",
    "__main__": "commands.cli",
    "__init__": "",
}
# What one room of the workshop may take from another: these modules, no others.
DOORS = {"commands.pages": "document export index laws mathml", "commands.run": "run", "commands.lab": "lab browser",
         "commands.build": "build bootstrap quotes source", "commands.release": "pack given",
         "commands.report": "pages"}
TOUCHES_WIDGETS = {"ipywidgets", "anywidget"}
BY_NAME = ("import_module", "find_spec", "__import__")    # functions that are given a module as a string


def imported(source, module):
    """Dotted names that a module imports anywhere in its text: at the top, in a function, relative, or by a string.

    ``from a import b`` counts as ``a.b``, so that it says which submodule is meant.
    """
    package = module.split(".")                            # where relative imports start: the folder of the module
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level] if node.level else []
            names += [".".join([*start, *filter(None, [node.module]), alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            names += [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return names


def dotted(path):
    """``course_utils/models/vae.py`` as ``course_utils.models.vae``; an ``__init__.py`` keeps its name as last part."""
    return ".".join(path.with_suffix("").parts)


def room_of(parts):
    """The room of a dotted name under course_utils; a room of the workshop is named with its wing."""
    return ".".join(parts[1:3]) if parts[1] == "commands" and parts[2:3] != ["__init__"] else parts[1]


def offences(path, source):
    """What a file of the package imports against the rules, in words. ``path`` is relative to the checkout."""
    module = dotted(path)
    room = room_of(module.split("."))
    if room not in MAY_IMPORT:
        return [f"{path}: say in tests/test_house.py what the new room {room!r} may import"]
    found = []
    for name in imported(source, module):
        parts = name.split(".")
        if parts[0] in TOUCHES_WIDGETS and room != "widgets":
            found.append(f"{path}: {parts[0]} is imported only in widgets")
        if parts[0] == "dask" and room == "commands.grade" and "cluster" not in module:
            found.append(f"{path}: the core of grading does not import dask")
        if parts[0] != "course_utils" or len(parts) == 1:
            continue
        other = room_of(parts)
        if other != room and other not in MAY_IMPORT[room].split():
            found.append(f"{path}: {room} does not import {other}")
        elif other != room and other in DOORS and (door := ".".join(parts[3:4])) not in DOORS[other].split():
            found.append(f"{path}: {door or other} is no door of {other}; its doors are {DOORS[other]}")
        if room == other == "models" and len(parts) > 2 and parts[2] != module.split(".")[2]:
            found.append(f"{path}: the family {module.split('.')[2]} does not import the family {parts[2]}")
    return found


def sources(folder=PACKAGE):
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def test_arrows_of_the_house():
    found = [line for path in sources() for line in offences(path.relative_to(ROOT), path.read_text())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("path, source, complaint", [
    ("models/vae.py", "from course_utils.training import steps", "models does not import training"),
    ("models/vae.py", "from course_utils import checks", "models does not import checks"),
    ("models/vae.py", "from ..training import steps", "models does not import training"),
    ("models/vae.py", "def f():\n    import course_utils.data.images", "models does not import data"),
    ("models/vae.py", "from course_utils.models.energy import RBM", "vae does not import the family energy"),
    ("models/vae.py", "from .energy import RBM", "vae does not import the family energy"),
    ("models/vae.py", "from . import energy", "vae does not import the family energy"),
    ("models/flow/coupling.py", "from ..energy import RBM", "flow does not import the family energy"),
    ("training.py", "from .models.vae import VAE", "training does not import models"),
    ("metrics.py", "import course_utils.models.vae", "metrics does not import models"),
    ("checks.py", "import importlib\nimportlib.import_module('course_utils.models.vae')",
     "checks does not import models"),
    ("plots.py", "from course_utils.models import vae", "plots does not import models"),
    ("widgets/demo.py", "from course_utils.training import steps", "widgets does not import training"),
    ("training.py", "import ipywidgets as widgets", "ipywidgets is imported only in widgets"),
    ("plots.py", "from anywidget import AnyWidget", "anywidget is imported only in widgets"),
    ("models/vae.py", "from course_utils.exercises.ch04 import EXERCISES", "models does not import exercises"),
    ("checks.py", "from course_utils.exercises import check", "checks does not import exercises"),
    ("exercises/ch01.py", "from course_utils.commands.grade import verdict",
     "exercises does not import commands.grade"),
    ("exercises/ch01.py", "from course_utils.widgets import demo", "exercises does not import widgets"),
    ("chapter.py", "from course_utils.commands.run.run import versions", "chapter does not import commands.run"),
    ("plots.py", "from course_utils import commands", "plots does not import commands"),
    ("__main__.py", "from course_utils.commands.doctor import main", "__main__ does not import commands.doctor"),
    ("commands/run/run.py", "from ..grade import verdict", "commands.run does not import commands.grade"),
    ("commands/run/run.py", "from ..pages.symbols import NAMES", "symbols is no door of commands.pages"),
    ("commands/bench/house.py", "from course_utils.commands.run import engine", "engine is no door of commands.run"),
    ("commands/bench/house.py", "import course_utils.commands.run", "commands.run is no door of commands.run"),
    ("commands/grade/verdict.py", "from course_utils.models import vae", "commands.grade does not import models"),
    ("commands/grade/verdict.py", "import dask.distributed", "does not import dask"),
    ("commands/new/a.py", "", "say in tests/test_house.py what the new room 'commands.new' may import"),
    ("nn/mlp.py", "from ..distributions import GaussianHead", "nn does not import distributions"),
    ("utils.py", "", "say in tests/test_house.py what the new room 'utils' may import"),
])
def test_each_arrow_is_seen_to_fail(path, source, complaint):
    found = offences(Path("course_utils", path), source)
    assert len(found) == 1 and complaint in found[0]


@pytest.mark.parametrize("path, source", [
    ("models/vae.py", "import torch\nfrom course_utils.nn.mlp import MLP\nfrom ..distributions import GaussianHead"),
    ("models/autoregressive/made.py", "from .outputs import Head\nimport course_utils.models.autoregressive.sampling"),
    ("exercises/ch01.py", "from course_utils.exercises import Exercise\nfrom course_utils.models import energy"),
    ("widgets/demo.py", "import anywidget\nfrom course_utils.plots import PALETTE"),
    ("commands/grade/cluster.py", "import dask.distributed"),
    ("commands/bench/house.py", "from course_utils.commands.run.run import versions\nfrom . import latent"),
    ("commands/__init__.py", ""),
])
def test_what_is_allowed_is_not_complained_about(path, source):
    assert offences(Path("course_utils", path), source) == []


def test_the_package_does_nothing_at_import_and_re_exports_nothing():
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr), "course_utils/__init__.py holds its docstring only"


# ---- names in strings ------------------------------------------------------------------------------------------------
# not dunder names, and not exercises/ch9*.py, which tests make for themselves
NAMED = re.compile(r"(?<![\w./])course_utils(?!\.exercises\.ch9)(?:\.(?!__)\w+)+")
LINES = {".py", ".md", ".toml", ".json", ".yml", ".ipynb", ".safetensors", ".txt", ".js", ".cfg", "", ".sh"}


def unresolved(text):
    """Dotted names under course_utils in a text that name no module, nor anything that a module holds."""
    found = []
    for name in dict.fromkeys(NAMED.findall(text)):
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            place = PACKAGE.joinpath(*parts[1:cut])
            if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
                break
        if cut < len(parts):
            file = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
            if not re.search(rf"\b{parts[cut]}\b", file.read_text(encoding="utf-8")):
                found.append(name)
    return found


def test_every_dotted_name_in_a_string_leads_somewhere():
    """Arrows show imports; a module is also named in commands, entry points, metadata, docstrings and chapters."""
    found = {}
    for path in committed():
        if path.suffix in LINES and path != Path(__file__).resolve():
            text = path.read_bytes().decode("utf-8", errors="ignore")
            if lost := unresolved(text):
                found[str(path.relative_to(ROOT))] = lost
    assert not found


@pytest.mark.parametrize("text, lost", [
    ('[sys.executable, "-m", "course_utils.notebooks.execute"]', ["course_utils.notebooks.execute"]),
    ("python -m course_utils.benchmarks.latent --seed 0", ["course_utils.benchmarks.latent"]),
    ("see :func:`course_utils.metrics.no_such_number`", ["course_utils.metrics.no_such_number"]),
    ("course_utils.commands.run.execute and course_utils.metrics.bits_per_dim, course_utils.models.vae:elbo_terms", []),
])
def test_a_name_that_leads_nowhere_is_seen(text, lost):
    assert unresolved(text) == lost


# ---- what is declared ------------------------------------------------------------------------------------------------
def lines(name):
    text = (ROOT / name).read_text().splitlines()
    return [line.strip() for line in text if line.strip() and not line.startswith("#")]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_requirements_repeat_what_pyproject_declares():
    assert lines("requirements.txt") == PROJECT["dependencies"]


def test_constraints_pin_one_version_in_range_of_everything_named_that_make_installs():
    pins = {}
    for line in lines("constraints.txt"):
        name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()       # no URLs, no local builds
        assert canonical(name) not in pins, f"{name} is pinned twice"
        pins[canonical(name)] = version
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *extras["lab"], *extras["instructor"], *extras["dev"]]:
        wanted = Requirement(text)
        assert canonical(wanted.name) in pins, f"{wanted.name}: tested in which version? make freeze"
        assert pins[canonical(wanted.name)] in wanted.specifier, f"{text} excludes the version last tested"


def test_conda_and_binder_install_through_requirements():
    text = (ROOT / "environment.yml").read_text()
    assert "- -r requirements.txt" in text and re.search(r"- -e \.(\[|$)", text, re.M)


# On a student's machine nothing but the runtime dependencies need be there; the workshop may use the extras, but for
# its door, which starts without them to say what is missing.
EVERYWHERE = ("course_utils.commands.cli", "course_utils.commands.__init__")


def undeclared(path, source, providers):
    """Third-party packages a file imports that pyproject.toml does not promise it.

    What a chapter touches must come with the runtime dependencies; the tools around it may use the extras.
    """
    module = dotted(path)
    promised = list(PROJECT["dependencies"])
    if module.split(".")[1] == "commands" and module not in EVERYWHERE:
        promised += sum(PROJECT["optional-dependencies"].values(), [])
    promised = {canonical(Requirement(text).name) for text in promised}
    tops = {name.split(".")[0] for name in imported(source, module)} - sys.stdlib_module_names - {"course_utils"}
    return sorted(top for top in tops if not promised & {canonical(name) for name in providers.get(top, [top])})


def test_every_third_party_import_is_declared():
    providers = metadata.packages_distributions()
    found = {str(path.relative_to(ROOT)): missing for path in sources()
             if (missing := undeclared(path.relative_to(ROOT), path.read_text(), providers))}
    assert not found, f"declare these in pyproject.toml: {found}"


def test_an_undeclared_import_is_seen():
    providers = {"papermill": ["papermill"], "sklearn": ["scikit-learn"]}
    text = "import json\nimport sklearn.svm\nimport papermill"
    assert undeclared(Path("course_utils/data/images.py"), text, providers) == ["papermill"]
    assert undeclared(Path("course_utils/commands/run/run.py"), text, providers) == []
    assert undeclared(Path("course_utils/commands/run/run.py"), "import einops", {}) == ["einops"]


def find_python(version):
    """The path of a Python of this version that starts, from the PATH or from pyenv, or None."""
    pyenv = sorted(map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    for program in filter(None, [shutil.which(f"python{version}"), *pyenv]):
        if subprocess.run([program, "-c", ""], capture_output=True).returncode == 0:
            return program
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_newer_pythons_read_every_file_without_a_warning(version):
    """Newer Pythons warn at what 3.11 lets pass, an invalid escape say. (ruff holds back what is too new for 3.11.)"""
    program = find_python(version)
    if program is None:
        pytest.skip(f"Python {version} is not on this machine")
    files = [*sources(), *sources(ROOT / "tests"), *sources(ROOT / "notebooks")]
    read = "import sys; [compile(open(path, encoding='utf-8').read(), path, 'exec') for path in sys.argv[1:]]"
    done = subprocess.run([program, "-W", "error", "-c", read, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- what never gets committed ---------------------------------------------------------------------------------------
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"),
                                       ("debian", "org"), ("crates", "io"), ("proxy", "golang", "org"))]
MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:home|root|work|tmp|Users)/[\w.]")
TEXT = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".ipynb", ".js", ".css", ".html", ".json", ".sh", ".cfg", ""}


def committed(*patterns):
    listed = subprocess.run(["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True,
                            check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def traces(text):
    """Names of package registries and paths of one person's machine in a text."""
    return [host for host in HOSTS if host in text] + [hit.group() for hit in MACHINE_PATH.finditer(text)]


def test_no_registry_and_no_machine_is_named():
    found = {}
    for path in committed():
        if path.suffix in TEXT:
            if hits := traces(path.read_text(encoding="utf-8")):
                found[str(path.relative_to(ROOT))] = hits
    assert not found


@pytest.mark.parametrize("text, hits", [
    ("pip install -i https://" + HOSTS[0] + "/simple x", 1),
    ("cache = '/" + "home/ada/cache'", 1),
    ("see /" + "root/x and /" + "tmp/y", 2),
    ("your copies are in work/01.ipynb, course/work/02.ipynb, $HOME/work/x and ~/work/x", 0),
    ("https://arxiv.org/abs/1312.6114", 0),
])
def test_a_trace_is_seen(text, hits):
    assert len(traces(text)) == hits


def leftovers(notebook):
    """Cells of a notebook, as parsed JSON, that carry what a run left in them."""
    return [number for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code"
            and (cell.get("outputs") or cell.get("execution_count") is not None)]


def test_committed_notebooks_carry_no_outputs():
    for path in committed("*.ipynb"):
        assert leftovers(json.loads(path.read_text())) == [], f"{path.name} was committed with outputs"


def test_a_leftover_is_seen():
    ran = {"cell_type": "code", "outputs": [{"output_type": "stream"}], "execution_count": None}
    counted = {"cell_type": "code", "outputs": [], "execution_count": 3}
    clean = {"cell_type": "code", "outputs": [], "execution_count": None}
    assert leftovers({"cells": [{"cell_type": "markdown"}, clean, ran, counted]}) == [2, 3]


def test_shipped_weights_are_small_and_say_how_they_were_made():
    for path in committed("data/pretrained"):
        assert path.stat().st_size <= 2**20, f"{path.name} is larger than 1 MB"
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
            complete = {"command", "seed", "date"} <= set(told) and any(name.startswith("test_") for name in told)
            assert complete and "--dataset" in told["command"], f"{path.name} tells only {sorted(told)}"
            assert not traces(json.dumps(told)), path.name


PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "notebooks/NOTATION.md"]


@pytest.mark.parametrize("page", PAGES)
def test_links_in_the_pages_lead_to_committed_files(page):
    here = committed()
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).resolve() in here, f"{page} links to {target}"


def test_contributing_names_every_room():
    """The page that says where a line goes knows each room of the library, and each module of the workshop."""
    words = {word.removesuffix(".py") for word in re.findall(r"[\w.]+", (ROOT / "CONTRIBUTING.md").read_text())}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    modules = {path.stem for path in sources(PACKAGE / "commands")}
    assert sorted((rooms | modules) - words - {"__init__", "__main__"}) == []


# ---- what is taught is tested ----------------------------------------------------------------------------------------
def untested(source, words):
    """Public functions whose docstring names the chapter that teaches them, and that no test names."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            if re.search(r"[Cc]hapters? \d\d", ast.get_docstring(node) or "") and node.name not in words:
                yield node.name


def test_what_a_chapter_teaches_is_named_in_a_test():
    words = set(re.findall(r"\w+", "\n".join(path.read_text() for path in sources(ROOT / "tests"))))
    found = {str(path.relative_to(ROOT)): lost for path in sources()
             if not {"commands", "exercises"} & set(path.parts) and (lost := [*untested(path.read_text(), words)])}
    assert not found, f"give each of these a test that names it: {found}"


def test_an_untested_formula_is_seen():
    text = 'def law():\n    """A law.  Taught in chapter 05."""\n\ndef helper():\n    """Helps."""\n'
    assert [*untested(text, {"helper"})] == ["law"] and [*untested(text, {"law"})] == []
