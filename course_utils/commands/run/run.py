"""`course run`: every chapter executed, its numbers collected, its page written.

The parent here never runs a notebook: `course_utils.commands.run.chapters` starts one process per chapter, reads what
they say, and ends whatever a chapter leaves behind.
"""

import hashlib
import json
import os
import queue
import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

import course_utils
from course_utils import shipped
from course_utils.commands.doctor import cores
from course_utils.commands.run import given, report
from course_utils.commands.run.chapters import Chapter, asked_to_stop, on_gpu, share, supervise
from course_utils.commands.run.shelf import Shelf, nothing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PACKAGE = Path(course_utils.__file__).resolve().parent
LONGEST = 10_000_000.0  # seconds that a timeout may be; timers of the system take no more than some centuries
VERSIONS = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "ipykernel",
    "nbclient",
    "papermill",
)


def notebooks_folder():
    """`notebooks/` where we stand, else the one of the checkout that the package lies in."""
    here = Path.cwd() / "notebooks"
    return here if any(here.glob("*.ipynb")) else PACKAGE.parent / "notebooks"


def select(folder, chapters):
    """Notebook paths for what was asked: all of `folder`, or by number (`1`, `01`), name (`energy`), stem or path."""
    paths = sorted(path for path in Path(folder).glob("*.ipynb") if not path.name.startswith("."))
    found = {path.stem: absolute(path) for path in paths}
    wanted = [
        word
        for words in chapters
        for word in ([words] if words.endswith(".ipynb") else words.replace(",", " ").split())
    ]
    if not wanted:
        if not found:
            raise click.ClickException(f"no chapters in {folder}: expected *.ipynb there; `course build` writes them")
        return list(found.values())
    chosen = {}
    for word in wanted:
        if word.endswith(".ipynb"):
            if not Path(word).is_file():
                raise click.ClickException(f"no notebook at {click.format_filename(word)}")
            hits = [absolute(Path(word))]
        else:
            hits = [path for stem, path in found.items() if means(word, stem)]
        if not hits:
            unbuilt = [path.stem for path in Path(folder).glob("src/*.py") if means(word, path.stem)]
            if unbuilt:
                raise click.ClickException(
                    f"chapter {unbuilt[0]} is not built yet: run `course build` first, which writes "
                    f"{Path(folder) / unbuilt[0]}.ipynb"
                )
            raise click.ClickException(f"no chapter {word!r} in {folder}; there are: {', '.join(found) or 'none'}")
        for path in hits:
            if chosen.setdefault(path.stem, path) != path:
                raise click.ClickException(f"two chapters are called {path.stem}: {chosen[path.stem]} and {path}")
    return list(chosen.values())


def means(word, stem):
    """Whether `word` names the chapter `stem`: its number, its name or all of it."""
    by_number = word.isdecimal() and stem.startswith(f"{int(word):02d}_")
    return by_number or word in (stem, stem.partition("_")[2])


def absolute(path):
    """The path with its links followed, or as it stands where they lead in a circle."""
    return Path(os.path.realpath(path)) if path.is_file() else Path(os.path.abspath(path))


def package_hash():
    """Hash of the package's source and of what ships with it, without the workshop that only runs and shows it."""
    digest = hashlib.sha256()
    for root in (PACKAGE, shipped.folder()):
        for path in sorted(root.rglob("*")):
            parts = path.relative_to(root).parts
            if path.is_file() and "__pycache__" not in parts and parts[0] != "commands":
                digest.update("/".join(parts).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def versions():
    """Versions of the libraries that results depend on, and of Python."""
    found = {"python": sys.version.split()[0]}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def key_of(source, parameters, package, libraries):
    """What a finished chapter is remembered by: notebook, parameters, package source, versions."""
    described = json.dumps([parameters, package, libraries], sort_keys=True)
    return hashlib.sha256(Path(source).read_bytes() + b"\0" + described.encode()).hexdigest()


@contextmanager
def only_run(out):
    """Hold the folder `out` for one run at a time; the system lets go of it when the run ends, however it ends."""
    try:
        lock = open(out / "state" / "lock", "w")
    except OSError as error:
        raise click.ClickException(f"{out} cannot be held for this run: {error}") from error
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise click.ClickException(
                    f"another run is writing to {out}: wait for it, or use another --out"
                ) from error
            except OSError:  # a file system without locks
                pass
        yield


def asked_for(context, values, extra):
    """The parameters that the command line names, {name: (value, how)}: by an option of their own or by ``-p``."""
    asked = {}
    for name in ("budget", "dataset", "seed", "device", "data_dir"):
        named = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if named and (name, values[name]) != ("budget", "auto"):
            value = os.path.abspath(values[name]) if name == "data_dir" else values[name]
            asked[name] = (value, f"--{name.replace('_', '-')} {values[name]}")
    for name, text in extra:
        if name in asked:
            raise click.UsageError(f"-p {name} {text}: {name} was given before, as {asked[name][1]}")
        asked[name] = (given.Text(text), f"-p {name} {text}")
    for _, how in asked.values():
        try:
            how.encode("utf-8")
        except UnicodeEncodeError as error:
            raise click.UsageError(f"{click.format_filename(how)}: holds a byte that is no UTF-8") from error
    return asked


def finite(context, option, value):
    if value != value or value > LONGEST:
        raise click.BadParameter(f"expected seconds, at most {LONGEST:,}, got {value}")
    return value


@click.command(name="run")
@click.argument("chapters", nargs=-1)
@click.option(
    "--budget",
    type=click.Choice(given.BUDGETS),
    default="auto",
    show_default=True,
    help="How much to train. auto: full with a GPU, else class.",
)
@click.option("--dataset", help="Data set for all chapters.  [default: each chapter's own]")
@click.option("--seed", type=click.IntRange(0, given.SEEDS - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, exists=True),
    help="Where data sets lie.  [default: the checkout's data/]",
)
@click.option(
    "-p",
    "extra",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Any parameter of the chapters, as often as needed. A name that no chapter has is refused.",
)
@click.option("--out", type=click.Path(file_okay=False), default="build/run", show_default=True)
@click.option(
    "--jobs", type=click.IntRange(1), show_default="one a core, at most 4; on a GPU 1", help="Chapters at once."
)
@click.option(
    "--resume", is_flag=True, help="Keep chapters that passed with the same notebook, parameters and package."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    callback=finite,
    default=7200.0,
    show_default=True,
    help="Seconds that the cells of one chapter may take.",
)
@click.option("--notebooks", type=click.Path(file_okay=False, exists=True), help="Folder of the chapters.")
@click.pass_context
def main(context, chapters, extra, out, jobs, resume, timeout, notebooks, **values):
    """Execute CHAPTERS (all, or by number or name), collect their numbers, write their pages.

    Writes executed notebooks, pages, metrics.json and index.html to --out. Exit code 0: every chapter there passed.
    Results of earlier runs stay until new ones take their place; an interrupted chapter replaces none that passed.
    A run has the rights of whoever starts it: execute only notebooks whose code you would run yourself.
    """
    folder = Path(notebooks) if notebooks else notebooks_folder()
    sources = select(folder, chapters)
    plans = given.parameters(sources, asked_for(context, values, extra), values["budget"])
    try:
        floors = report.read_floors(folder / "floors.toml")
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    out = given.folder(out, sources)
    package, libraries = package_hash(), versions()
    events = queue.SimpleQueue()
    with only_run(out), asked_to_stop(events):
        shelf = Shelf(out, floors, libraries, package, report.read_ledger(folder / "ledger.json"))
        try:
            shelf.open()
        except OSError as error:
            raise click.ClickException(f"what stands in {out} cannot be read: {error}") from error
        todo, waiting = [], []
        for source, (parameters, notes) in plans.items():
            if why := given.unusable(source):
                todo.append(refused(source, parameters, why, shelf))
                continue
            chapter = Chapter(source, parameters, timeout, key_of(source, parameters, package, libraries), notes)
            todo.append(chapter)
            if not (resume and chapter.keep(shelf.results.get(chapter.name))):
                waiting.append(chapter)
                shelf.absent[chapter.name] = nothing("not run", given=parameters, key=chapter.key)
        alone = jobs is not None or len(waiting) < 2
        devices = {parameters["device"] for parameters, _ in plans.values()}
        at_once, threads = share(cores(), len(waiting), jobs, not alone and any(map(on_gpu, devices)))
        if values["budget"] == "smoke":  # so little work that threads would mostly wait for each other
            threads = 1
        with report.progress(todo) as show:
            ended = supervise(waiting[:], at_once, threads, shelf, events, show)
        for chapter in waiting:
            if chapter.result is None and chapter.name in shelf.results:
                shelf.remark(chapter.name, "a later run was interrupted before this chapter")
        summary = shelf.write(None if ended else "interrupted")
    report.show(summary, out)
    if shelf.trouble:
        click.echo(f"Error: the summary in {out} could not be written, and is an older one: {shelf.trouble}", err=True)
    sys.exit(130 if not ended else 0 if summary["status"] == "passed" and not shelf.trouble else 1)


def refused(source, parameters, why, shelf):
    """A chapter that is not even started, as the others of the run see it: failed, with the reason."""
    shown = Path(click.format_filename(source.name))  # a name that can be written down
    chapter = Chapter(shown, parameters, 0, "")
    failure = {"reason": "broken", "message": f"{shown} is not a readable notebook: {why}", "traceback": ""}
    chapter.status, chapter.result = "failed", nothing("failed", failure, given=parameters)
    shelf.results[chapter.name] = chapter.result
    return chapter
