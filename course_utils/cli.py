"""The ``course`` command. Each subcommand lives beside the code it runs and is imported only when it is called."""

from importlib import import_module

import click

COMMANDS = {
    "build": "course_utils.notebooks.build:main",
    "run": "course_utils.notebooks.run:main",
    "verify": "course_utils.notebooks.verify:main",
    "gallery": "course_utils.notebooks.gallery:main",
    "lab": "course_utils.lab:main",
    "bench": "course_utils.bench:main",
    "doctor": "course_utils.doctor:main",
}


class LazyGroup(click.Group):
    """A click group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name].split(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name.startswith("course_utils"):
                raise
            raise click.ClickException(
                f"course {name} needs {error.name}, which is not installed here; "
                "run: pip install 'deep-generative-course[lab,instructor]'"
            ) from error


@click.command(cls=LazyGroup)
def main():
    """Build, run and check the chapters of the course."""
