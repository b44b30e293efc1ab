"""The ``course`` command: what it lists, and what it says when a part is not installed."""

import os
import subprocess
import sys

from click.testing import CliRunner

from course_utils.commands import cli


def test_every_command_of_the_list_loads_and_has_help():
    result = CliRunner().invoke(cli.main, ["--help"])
    assert result.exit_code == 0 and all(name in result.output for name in cli.COMMANDS)
    for name in cli.COMMANDS:
        assert CliRunner().invoke(cli.main, [name, "--help"]).exit_code == 0, name


def test_an_unknown_command_is_an_error():
    result = CliRunner().invoke(cli.main, ["buidl"])
    assert result.exit_code == 2 and "No such command 'buidl'" in result.output


def test_a_missing_part_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "build", ("no_such_package.module:main", ""))
    result = CliRunner().invoke(cli.main, ["build"])
    assert result.exit_code == 1
    assert "course build needs no_such_package" in result.output and "[lab,instructor]" in result.output


def test_help_needs_neither_torch_nor_the_instructor_part():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'rich', 'papermill', 'jupytext']))\n"  # not importable
        "from course_utils.commands.cli import main; main(['--help'], standalone_mode=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "verify" in done.stdout, done.stderr


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "course_utils", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("Usage: course ")


def test_threads_are_told_to_wait_only_briefly():
    code = "import course_utils.commands.cli, os; print(os.environ['GOMP_SPINCOUNT'])"
    free = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for environment, expected in ((free, "2000"), (free | {"GOMP_SPINCOUNT": "7"}, "7")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == expected
