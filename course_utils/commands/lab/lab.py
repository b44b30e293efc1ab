"""``course lab``: the student's own copies of the chapters, in a JupyterLab."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from course_utils.commands.doctor import CHECKOUT, install_course
from course_utils.commands.lab.copies import copy_chapters

# a server that holds no message back; the class says what for
PROMPT = "--ServerApp.kernel_websocket_connection_class=course_utils.commands.lab.websocket.PromptConnection"
# Settings that hold until the student chooses others. Asking about news would lie over the page.
DEFAULTS = Path(__file__).with_name("config")


def server_command(folder, arguments=()):
    """The command that starts JupyterLab on ``folder``: this Python's own, prompt, quiet about news and updates."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", PROMPT,
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")             # a container often has no other user; only this machine is served
    return [*command, *arguments]


def server_environment():
    """The environment of that command: it finds our defaults for settings first, then everybody else's."""
    others = os.environ.get("JUPYTER_CONFIG_PATH")
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join([str(DEFAULTS), *([others] if others else [])])}


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=CHECKOUT / "work",
              show_default="work/ in the checkout", help="Where your copies live.")
@click.option("--chapters", type=click.Path(file_okay=False, path_type=Path), default=CHECKOUT / "notebooks",
              show_default="notebooks/ in the checkout", help="Where the course's chapters are.")
@click.option("--copy-only", is_flag=True, help="Bring the copies up to date and stop.")
@click.argument("jupyter_arguments", nargs=-1, type=click.UNPROCESSED)
def main(folder, chapters, copy_only, jupyter_arguments):
    """Open JupyterLab on your own copies of the chapters.

    What follows the options goes to JupyterLab: course lab --no-browser --port 8890
    """
    folder = folder.resolve()
    try:
        news = copy_chapters(chapters, folder)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for name, what in news:
        click.echo(f"  {name}: {what}")
    click.echo(f"Your chapters are in {folder}" + ("" if news else "; the course has nothing new"))
    if copy_only:
        return
    if find_spec("jupyterlab") is None:
        raise click.ClickException(f"JupyterLab is not installed here; install it with: {install_course('lab')}")
    click.echo("Opening JupyterLab. Ctrl-C here ends it.")
    sys.stdout.flush()
    command, environment = server_command(folder, jupyter_arguments), server_environment()
    if os.name == "nt":                            # Windows cannot do what comes next
        sys.exit(subprocess.call(command, env=environment))
    os.execve(command[0], command, environment)    # this process becomes the server: whoever ends it ends the kernels
