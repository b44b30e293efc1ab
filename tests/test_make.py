"""The Makefile's promises about the environment, with a stand-in for Python that writes down what it is asked."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# keeps a diary, runs the Makefile's own lines as if it were another version, and makes environments that hold itself
STAND_IN = """#!/bin/sh
echo "$@" >> "{diary}"
case "$*" in
  -V) echo "Python {version}" ;;
  "-c import sys"*) exec "{real}" -SEc "import sys; sys.version_info = {parts}; exec(sys.argv[1])" "$2" ;;
  "-m venv --clear --without-pip "*) mkdir -p "$5/bin" && cp "$0" "$5/bin/python" ;;
  "-m venv "*) {venv_fails} && exit 1; mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """``make`` in a copy of the files it looks at, with Pythons on the PATH as asked for; returns output and diary."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "touch", "mkdir", "cp", "rm", "sed", "expand", "find", "mv", "grep"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    diary = tmp_path / "diary"
    make = shutil.which("make")

    def python(name, version, venv_fails=False):
        program = tmp_path / "bin" / name
        parts = (*map(int, version.split(".")), 0)
        program.write_text(STAND_IN.format(diary=diary, version=version, parts=parts, real=sys.executable,
                                           venv_fails=str(venv_fails).lower()))
        program.chmod(0o755)

    def run(*arguments):
        diary.write_text("")
        environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
        done = subprocess.run([make, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr, diary.read_text()

    run.folder, run.python = folder, python
    return run


def test_the_first_call_installs_the_second_does_not_a_changed_declaration_does(checkout):
    checkout.python("python3", "3.11")
    code, said, asked = checkout("setup")
    assert code == 0 and "making .venv with python3" in said and "installing the course" in said
    assert asked.count("-m pip install") == 1 and "-c constraints.txt -e .[lab,instructor,dev]" in asked
    code, said, asked = checkout("setup")
    assert code == 0 and "installing" not in said and "pip" not in asked
    for name in ("pyproject.toml", "requirements.txt", "constraints.txt"):
        stamp = (checkout.folder / ".venv" / ".installed").stat().st_mtime
        os.utime(checkout.folder / name, (stamp + 5, stamp + 5))
        code, said, asked = checkout("setup")
        assert code == 0 and asked.count("-m pip install") == 1 and "-m venv" not in asked
        os.utime(checkout.folder / name, (stamp - 5, stamp - 5))


def test_the_first_python_in_range_is_taken(checkout):
    checkout.python("python3", "3.10")
    checkout.python("python3.12", "3.12")
    code, said, _ = checkout("setup")
    assert code == 0 and "making .venv with python3.12" in said


def test_no_python_in_range_says_what_to_do(checkout):
    checkout.python("python3", "3.10")
    checkout.python("python", "3.14")
    code, said, _ = checkout("setup")
    assert code != 0 and "No Python from 3.11 to 3.13" in said and "PYTHON=" in said
    assert not (checkout.folder / ".venv").exists()


def test_a_python_that_is_named_is_the_one_taken(checkout):
    checkout.python("python3", "3.11")
    checkout.python("python3.12", "3.12")
    code, said, _ = checkout("setup", "PYTHON=python3.12")
    assert code == 0 and "making .venv with python3.12" in said
    code, said, _ = checkout("setup", "PYTHON=python3")                         # another one than .venv was made with
    assert code != 0 and "VENV=.venv-3.11" in said
    code, said, _ = checkout("setup", "PYTHON=python3", "VENV=.venv-3.11")
    assert code == 0 and "making .venv-3.11 with python3" in said


def test_a_python_without_its_venv_parts_fills_the_environment_with_its_own_pip(checkout):
    checkout.python("python3", "3.11", venv_fails=True)
    code, said, asked = checkout("setup")
    assert code == 0
    assert "-m pip --python .venv/bin/python install -q pip" in asked


BROKEN = {"exits with 1": "#!/bin/sh\nexit 1\n", "says why and exits": "#!/bin/sh\necho broken >&2\nexit 3\n",
          "is killed": "#!/bin/sh\nkill -9 $$\n", "is for another machine": "\x7fELF",
          "an interpreter that went": "#!/gone\n", "is silent": "#!/bin/sh\n"}


@pytest.mark.parametrize("why", BROKEN)
@pytest.mark.parametrize("target", ["run", "setup", "lab"])
def test_an_environment_whose_python_does_not_start_is_named_with_what_repairs_it(checkout, why, target):
    checkout.python("python3", "3.11")
    assert checkout("setup")[0] == 0
    python = checkout.folder / ".venv" / "bin" / "python"
    python.write_text(BROKEN[why])
    for arguments in ((), ("PYTHON=python3",)):
        code, said, _ = checkout(target, *arguments)
        assert code != 0 and ".venv/bin/python does not start" in said and 'rm -r .venv' in said, said
    assert checkout("help")[0] == checkout()[0] == 0 and "removing" in checkout("clean")[1]
    shutil.rmtree(checkout.folder / ".venv")
    assert checkout("setup")[0] == 0, "what it says does repair it"


def test_clean_keeps_the_environment_and_the_student_s_files(checkout):
    checkout.python("python3", "3.11")
    checkout("setup")
    for name in ("build/run/x", "work/01.ipynb", "data/mnist", "course_utils/__pycache__/x.pyc", "tests/x",
                 "notebooks/x"):
        (checkout.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout.folder / name).touch()
    code, said, _ = checkout("clean")
    assert code == 0 and "removing" in said
    left = {str(path.relative_to(checkout.folder)) for path in checkout.folder.rglob("*") if path.is_file()}
    assert {"work/01.ipynb", "data/mnist", ".venv/.installed", "tests/x", "notebooks/x"} <= left
    assert not left & {"build/run/x", "course_utils/__pycache__/x.pyc"}


def test_help_names_every_target(checkout):
    code, said, _ = checkout()
    assert code == 0
    for target in ("setup", "run", "test", "lab", "bench", "doctor", "build", "clean"):
        assert f"\n  {target} " in said
