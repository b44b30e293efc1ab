"""Each line of the doctor's table, on this machine and on machines where something is missing."""

import json
import os
import shlex
import subprocess
import sys
from collections import namedtuple
from importlib import metadata

import pytest
from click.testing import CliRunner

from course_utils.commands import doctor

ROOT = str(doctor.CHECKOUT)
Version = namedtuple("Version", "major minor micro")


def test_the_student_path_works_here():
    """The real thing, in a process of its own: a kernel starts, torch multiplies."""
    done = subprocess.run([sys.executable, "-m", "course_utils", "doctor"], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("Python", "packages", "torch", "handwriting", "Jupyter kernel"):
        assert f"✓ {name}" in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("The chapters run here.")
    for line, below in zip(lines, lines[1:], strict=False):
        assert not line.startswith((" ✗", " –")) or "repair:" in below, line


@pytest.mark.parametrize("version, works", [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 4), True),
                                            ((3, 14, 0), False)])
def test_python_versions(monkeypatch, version, works):
    monkeypatch.setattr(sys, "version_info", Version(*version))
    finding = doctor.check_python()
    assert finding.works is works
    assert bool(finding.fix) is not works


def test_a_package_that_is_missing_and_one_that_is_too_old_are_named_with_one_command(monkeypatch):
    monkeypatch.setattr(metadata, "requires", lambda name: [
        "absent-one>=2.0", "click>=999.1", "tqdm", "x; extra == 'lab'"])
    finding = doctor.check_packages()
    assert not finding.works and finding.needed
    assert "absent-one missing" in finding.what and "click" in finding.what and "too old" in finding.what
    assert shlex.split(finding.fix) == [sys.executable, "-m", "pip", "install", "absent-one>=2.0", "click>=999.1"]


def test_a_course_that_is_not_installed(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    finding = doctor.check_packages()
    assert not finding.works and shlex.split(finding.fix)[-2:] == ["-e", str(doctor.CHECKOUT)]


@pytest.mark.parametrize("extra, wanted", [("", ["click>=8"]), ("lab", ["jupyterlab>=4.2"]),
                                           ("lab,scale", ["jupyterlab>=4.2", "dask[distributed]>=2"])])
def test_outside_a_checkout_what_an_extra_declares_is_named_and_never_the_course(monkeypatch, tmp_path, extra, wanted):
    """The name of the course may be anybody's on an index."""
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)
    monkeypatch.setattr(metadata, "requires", lambda name: [
        "click>=8", "jupyterlab>=4.2; extra == 'lab'", "dask[distributed]>=2 ; extra == \"scale\""])
    assert shlex.split(doctor.install_course(extra)) == [sys.executable, "-m", "pip", "install", *wanted]


@pytest.mark.parametrize("text, works", [("", False), ("[tool.course]\nsource = ''", False),
                                         ("[tool.course]\nsource = 'git+https://example.org/c'", True)])
def test_an_unset_source_is_said_with_the_command_that_helps(monkeypatch, tmp_path, text, works):
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)
    finding = doctor.check_source()
    assert finding.works is works and not finding.needed
    assert finding.fix == ("" if works else "course build --carry")


@pytest.mark.parametrize("error", [ImportError("no module"), OSError("libcuda.so: cannot open")])
def test_a_torch_that_does_not_start(monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    finding = doctor.check_torch()
    assert not finding.works and str(error) in finding.what and "torch" in finding.fix


def test_what_needs_torch_is_left_out_where_torch_does_not_start(monkeypatch):
    def no_torch():
        return doctor.Finding("torch", False, "gone", "bring it")

    asked = []
    monkeypatch.setattr(doctor, "check_device", lambda: asked.append("device"))
    assert [f.name for f in doctor.examine((no_torch, doctor.check_device))] == ["torch"] and asked == []


def test_real_images_that_are_not_on_disk_are_a_convenience_with_a_command(monkeypatch):
    from course_utils.data import images

    monkeypatch.setattr(images, "on_disk", lambda name: name in ("handwriting", "digits", "mnist"))
    finding = doctor.check_data()
    assert not finding.works and not finding.needed
    assert finding.what.startswith("digits, mnist; not in ") and finding.what.endswith("fashion_mnist, kmnist, cifar10")
    asked = []
    monkeypatch.setattr(images, "download", asked.append)
    exec(shlex.split(finding.fix)[-1], {})                      # the repair is a line of Python that runs
    assert asked == ["fashion_mnist", "kmnist", "cifar10"]


def test_a_kernel_of_another_python_is_noticed(monkeypatch, tmp_path):
    """The kernel starts and works, but it is not this Python: what a student installs would not arrive there."""
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(json.dumps({"display_name": "x", "language": "python", "argv": [
        sys.executable, "-c", "import sys; sys.prefix = '/elsewhere/python'; from ipykernel import kernelapp; "
        "kernelapp.launch_new_instance()", "-f", "{connection_file}"]}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    finding = doctor.check_kernel()
    assert not finding.works and "another Python: /elsewhere/python" in finding.what
    assert "ipykernel install" in finding.fix


def test_a_kernel_that_is_not_there(monkeypatch):
    import jupyter_client.manager

    def absent(**_):
        raise RuntimeError("No such kernel named python3")

    monkeypatch.setattr(jupyter_client.manager, "start_new_kernel", absent)
    finding = doctor.check_kernel()
    assert not finding.works and finding.needed and "No such kernel" in finding.what


@pytest.mark.parametrize("check, program", [(doctor.check_chromium, "chromium"),
                                            (doctor.check_bubblewrap, "bubblewrap")])
def test_a_missing_program_is_a_convenience_with_a_command(monkeypatch, tmp_path, check, program):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME", raising=False)
    finding = check()
    assert not finding.works and not finding.needed and program in finding.fix


@pytest.mark.parametrize("check, program", [(doctor.check_chromium, "chromium"), (doctor.check_bubblewrap, "bwrap")])
def test_a_program_that_is_there_but_does_not_work_is_not_believed(monkeypatch, tmp_path, check, program):
    fake = tmp_path / program
    fake.write_text("#!/bin/sh\necho not permitted\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CHROME", raising=False)
    finding = check()
    assert not finding.works and finding.fix


def test_idle_cores_are_mentioned(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: range(8), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    finding = doctor.check_threads()
    assert not finding.works and finding.fix == "unset OMP_NUM_THREADS"


@pytest.mark.parametrize("needed, code", [(True, 1), (False, 0)])
def test_the_exit_code_says_whether_the_student_path_works(monkeypatch, needed, code):
    broken = doctor.Finding("thing", False, "gone", "repair it", needed)
    monkeypatch.setattr(doctor, "examine", lambda: iter([doctor.Finding("other", True, "fine"), broken]))
    result = CliRunner().invoke(doctor.main)
    assert result.exit_code == code
    assert "repair: repair it" in result.output



@pytest.mark.parametrize("encoding", ["latin-1", "cp437", "cp1252", "gbk", "cp950", "utf-8"])
def test_any_encoding_of_a_terminal_or_a_file_will_do(tmp_path, encoding):
    """The table, the marks included, and every other letter that a command says."""
    code = (
        "import sys\nfrom course_utils.commands import doctor\n"
        "what = '\u2713 \u03b8 \U0001f600'\n"
        "doctor.examine.__defaults__ = ([lambda: doctor.Finding('thing', True, what),"
        " lambda: doctor.Finding('thing', False, what)],)\n"
        "from course_utils.commands.cli import main; main(['doctor'])"
    )
    with open(tmp_path / "said", "wb") as said:
        done = subprocess.run([sys.executable, "-c", code], stdout=said, stderr=subprocess.PIPE, text=True,
                              env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": ROOT})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    good, bad = ("\u2713", "\u2717") if encoding == "utf-8" else ("+", "x")
    lines = (tmp_path / "said").read_text(encoding).splitlines()
    assert lines[0].startswith(f" {good} thing") and lines[1].startswith(f" {bad} thing")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed_or_full_do_not_hide_the_verdict(closed):
    code = "import sys; from course_utils.commands.cli import main; main(['verify', '/no/such', '/no/such'])"
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": ROOT})
    assert done.returncode == 1 and "Traceback" not in done.stderr


def test_a_user_without_a_home_gets_an_empty_one_for_the_time_of_the_command(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import pwd\ndef nobody(*_):\n    raise KeyError\npwd.getpwuid = nobody")
    code = (
        "import os\nfrom course_utils.commands import cli, doctor\ncli.settle()\n"
        "home = os.environ['HOME']\nassert os.listdir(home) == []\nprint(home)\nfrom jupyter_core import paths\n"
        "paths.jupyter_data_dir(); assert doctor.check_data().name == 'real images'"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    environment.pop("HOME", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(done.stdout.strip()), "it is gone afterwards"


def test_a_check_that_breaks_is_a_finding_and_the_others_still_speak():
    def check_thing():
        raise RuntimeError("no idea")

    found = list(doctor.examine((check_thing, lambda: doctor.Finding("other", True, "fine"))))
    assert [finding.works for finding in found] == [False, True]
    assert found[0].name == "thing" and "RuntimeError: no idea" in found[0].what and found[0].fix


def test_a_system_that_forbids_sandboxes_is_named_with_its_repair(monkeypatch, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied'\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    finding = doctor.check_bubblewrap()
    assert not finding.works and "AppArmor" in finding.what and "apparmor_parser" in finding.fix
