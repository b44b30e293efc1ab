"""``course lab``: the student's own copies of the chapters, in a JupyterLab.

The chapters in ``notebooks/`` belong to the course and change with it. A student works on copies in ``work/``, which
git ignores, so an update of the course never meets a student's answer. Beside the copies, ``.copied.json`` keeps the
fingerprint of each chapter as it was when it was copied; that is how a changed chapter is told from a changed copy.
"""

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from course_utils.commands.doctor import CHECKOUT, install_course
from course_utils.files import write_bytes

LEDGER = ".copied.json"
# a server that holds no message back; the class says what for
PROMPT = "--ServerApp.kernel_websocket_connection_class=course_utils.commands.lab.websocket.PromptConnection"


def copy_chapters(source, target):
    """Bring the chapters of ``source`` into ``target`` without ever losing a student's work.

    A chapter that is missing is copied. A copy that nobody touched follows the course. A copy that was worked on stays
    as it is, and the newer chapter is laid beside it as ``NN_topic.new.ipynb`` (``.new2`` if that name is taken too).

    Returns a list of ``(file name, what happened)``, with nothing for a chapter that has not changed. Raises
    ``ValueError`` where ``source`` holds no chapter.
    """
    source, target = Path(source), Path(target)
    chapters = sorted(source.glob("[0-9][0-9]_*.ipynb"))
    if not chapters:
        raise ValueError(f"expected chapters such as 01_*.ipynb in {source}, found none; run this in a checkout of the "
                         "course, or build them with: course build")
    target.mkdir(parents=True, exist_ok=True)
    copied = _read_ledger(target)
    news = []
    for chapter in chapters:
        text = chapter.read_bytes()
        mine = target / chapter.name
        if not mine.exists():
            news.append((mine.name, "new"))
            write_bytes(mine, text)
        elif copied.get(chapter.name) == _fingerprint(text) or mine.read_bytes() == text:
            pass                                          # the course has nothing newer than what was copied
        elif copied.get(chapter.name) == _fingerprint(mine.read_bytes()):
            news.append((mine.name, "updated: the course changed it, you had not"))
            write_bytes(mine, text)
        else:
            beside = _free_name(mine)
            news.append((beside.name, f"the course changed this chapter: yours stays {mine.name}, here is the newer"))
            write_bytes(beside, text)
        copied[chapter.name] = _fingerprint(text)
    write_bytes(target / LEDGER, json.dumps(copied, indent=1).encode())
    return news


def _fingerprint(text):
    return hashlib.sha256(text).hexdigest()


def _read_ledger(target):
    """Fingerprints of the chapters as copied; an unreadable ledger means that every copy counts as worked on."""
    try:
        copied = json.loads((target / LEDGER).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return copied if isinstance(copied, dict) else {}


def _free_name(mine):
    names = (mine.with_name(f"{mine.stem}.new{n}{mine.suffix}") for n in ("", *range(2, 1000)))
    return next(name for name in names if not name.exists())


def server_command(folder, arguments=()):
    """The command that starts JupyterLab on ``folder``: this Python's own, prompt, quiet about news and updates."""
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", PROMPT,
               "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")             # a container often has no other user; only this machine is served
    return [*command, *arguments]


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
    sys.exit(subprocess.call(server_command(folder, jupyter_arguments)))
