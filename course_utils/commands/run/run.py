"""`course run`: every chapter executed, its numbers collected, its page written.

The parent here never runs a notebook: `course_utils.commands.run.chapters` starts one process per chapter, reads what
they say, and ends whatever a chapter leaves behind.
"""

import hashlib
import json
import sys
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

import course_utils
from course_utils import shipped
from course_utils.commands.doctor import cores
from course_utils.commands.run import report
from course_utils.commands.run.chapters import Chapter, on_gpu, share, supervise

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PACKAGE = Path(course_utils.__file__).resolve().parent
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
    found = {path.stem: path for path in sorted(Path(folder).glob("*.ipynb"))}
    wanted = [
        word
        for words in chapters
        for word in ([words] if words.endswith(".ipynb") else words.replace(",", " ").split())
    ]
    if not wanted:
        if not found:
            raise click.ClickException(f"no chapters in {folder}: expected *.ipynb there; `course build` writes them")
        return [path.resolve() for path in found.values()]
    chosen = {}
    for word in wanted:
        if word.endswith(".ipynb"):
            if not Path(word).is_file():
                raise click.ClickException(f"no notebook at {word}")
            hits = [Path(word).resolve()]
        else:
            number = f"{int(word):02d}_" if word.isdigit() else None
            hits = [
                path
                for stem, path in found.items()
                if (number and stem.startswith(number)) or word in (stem, stem.partition("_")[2])
            ]
        if not hits:
            raise click.ClickException(f"no chapter {word!r} in {folder}; there are: {', '.join(found) or 'none'}")
        for path in hits:
            if chosen.setdefault(path.stem, path.resolve()) != path.resolve():
                raise click.ClickException(f"two chapters are called {path.stem}: {chosen[path.stem]} and {path}")
    return list(chosen.values())


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
    with open(out / "state" / "lock", "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise click.ClickException(
                    f"another run is writing to {out}: wait for it, or use another --out"
                ) from error
        yield


@click.command(name="run")
@click.argument("chapters", nargs=-1)
@click.option(
    "--budget",
    type=click.Choice(["auto", "smoke", "class", "full"]),
    default="auto",
    show_default=True,
    help="How much to train. auto: full with a GPU, else class.",
)
@click.option("--dataset", help="Data set for all chapters.  [default: each chapter's own]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps")
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where data sets lie.  [default: the checkout's data/]"
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
    default=7200.0,
    show_default=True,
    help="Seconds that the cells of one chapter may take.",
)
@click.option("--notebooks", type=click.Path(file_okay=False, exists=True), help="Folder of the chapters.")
def main(chapters, budget, dataset, seed, device, data_dir, out, jobs, resume, timeout, notebooks):
    """Execute CHAPTERS (all, or by number or name), collect their numbers, write their pages.

    Writes executed notebooks, pages, metrics.json and index.html to --out. Exit code 0: every chapter passed.
    """
    folder = Path(notebooks) if notebooks else notebooks_folder()
    sources = select(folder, chapters)
    out = Path(out).resolve()
    for part in (out, out / "state", out / "logs"):
        part.mkdir(parents=True, exist_ok=True)
    parameters = {"budget": budget, "seed": seed, "device": device}
    if dataset:
        parameters["dataset"] = dataset
    if data_dir:
        parameters["data_dir"] = str(Path(data_dir).resolve())
    package, libraries = package_hash(), versions()

    def plan(paths):
        return [Chapter(path, out, parameters, timeout, key_of(path, parameters, package, libraries)) for path in paths]

    with only_run(out):
        todo = plan(sources)
        for chapter in todo:
            if not (resume and chapter.keep()):
                chapter.forget()
        others = plan(path.resolve() for path in folder.glob("*.ipynb") if path.resolve() not in sources)
        others = [chapter for chapter in others if chapter.keep()]  # run before, and still what a run would give
        waiting = [chapter for chapter in todo if chapter.result is None]
        alone = jobs is not None or len(waiting) < 2
        at_once, threads = share(cores(), len(waiting), jobs, not alone and on_gpu(device))
        if budget == "smoke":  # so little work that threads would mostly wait for each other
            threads = 1
        interrupted = False
        with report.progress(todo) as show:
            try:
                supervise(waiting, at_once, threads, show)
            except KeyboardInterrupt:
                interrupted = True
        chapters = sorted(todo + others, key=lambda chapter: chapter.name)
        summary = report.write(chapters, out, folder / "floors.toml", libraries, package)
    report.show(summary, out)
    sys.exit(130 if interrupted else 0 if summary["status"] == "passed" else 1)
