"""The ``course`` command. Each subcommand lives beside the code it runs and is imported only when it is called."""

import atexit
import os
import shutil
import sys
import tempfile
from importlib import import_module

import click

# Threads of torch that wait for each other keep their cores busy for a while, by default so long that training becomes
# 20 times slower where another program wants a core. GNU's OpenMP, which torch uses on Linux, is told to wait briefly
# and then to sleep. It must be said before torch is imported; what a command starts inherits it.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

COMMANDS = {  # name: where it lives, and one line of help that can be shown without importing it
    "lab": ("course_utils.commands.lab.lab:main", "Open JupyterLab on your own copies of the chapters."),
    "run": ("course_utils.commands.run.run:main", "Execute chapters and collect their results and pages."),
    "verify": ("course_utils.commands.run.verify:main", "Compare the numbers of two runs."),
    "build": ("course_utils.commands.build.build:main", "Build notebooks from their sources, or check them."),
    "release": ("course_utils.commands.release.release:main", "Write the students' notebooks, proven before."),
    "grade": ("course_utils.commands.grade.grade:main", "Grade submissions, each in a sandbox."),
    "report": ("course_utils.commands.report.report:main", "Gradebook, feedback and the class's page from grades."),
    "gallery": ("course_utils.commands.pages.gallery:main", "Cut the README's picture from an executed run."),
    "bench": ("course_utils.commands.bench.bench:main", "Measure speed and the tables of results."),
    "doctor": ("course_utils.commands.doctor:main", "Say what works on this machine, and how to repair the rest."),
}


class LazyGroup(click.Group):
    """A click group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name.startswith("course_utils"):
                raise
            from course_utils.commands.doctor import install_course

            needed = error.name.partition(".")[0]
            what = f"course {name} needs {needed}, which is not installed here; run: {install_course('lab,instructor')}"
            raise click.ClickException(what) from error

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def settle():
    """Make the surroundings bearable: streams that exist and take any letter, and a home.

    A mark that the encoding of a terminal or of a file does not have is written as its code. Jupyter, which looks for
    the user's home when it is imported, gets an empty one for the time of the command where the user has none.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = tempfile.mkdtemp(prefix="course-home-")
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)


@click.command(cls=LazyGroup)
def main():
    """Build, run and check the chapters of the course."""
    settle()
