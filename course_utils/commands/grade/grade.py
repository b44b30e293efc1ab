"""``course grade``: submissions into a gradebook, each one in a sandbox, with verdicts that are made outside of it.

Nothing of a submission runs in this process, and torch is not even loaded here: workers do that, each with a sandbox.
What they find is written down at once, and the reports are made anew while results come.
"""

import dataclasses
import os
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import click

from course_utils import files
from course_utils.commands.doctor import cores
from course_utils.commands.grade import crew, intake, record, released, sandbox
from course_utils.commands.release import given
from course_utils.commands.report import pages

try:
    import fcntl
except ImportError:  # Windows, where there is no sandbox either
    fcntl = None

REPORT_EVERY = 3.0  # seconds between two gradebooks


@click.command(name="grade")
@click.argument("release", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("submissions", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", "graded", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Where records, gradebook and feedback go.")
@click.option("--roster", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A CSV with a column id; further columns are for Canvas and Moodle.")
@click.option("--chapters", multiple=True, callback=given.numbers,
              help="Only these, as 01,04.  [default: the release's]")
@click.option("--exercises", "pack", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="The private pack that the release was made with.")
@click.option("--jobs", type=click.IntRange(1, 256), show_default="one a core", help="Submissions at once.")
@click.option("--scheduler", metavar="ADDRESS", help="Grade on the workers of a Dask scheduler, such as tcp://host:8786.")
@click.option("--resume", is_flag=True, help="Go on: keep the verdicts on what is still the same.")
@click.option("--only", multiple=True, metavar="ID", help="Grade this student alone, again; repeated for several.")
@click.option("--memory", type=click.IntRange(512), default=4096, show_default=True,
              help="Megabytes that one submission may use.")
@click.option("--unsafe-no-sandbox", "unsafe", is_flag=True, help="For files that you trust: run them unprotected.")
def main(release, submissions, graded, roster, chapters, pack, jobs, scheduler, resume, only, memory, unsafe):
    """Grade SUBMISSIONS against RELEASE: each one in a sandbox, with fresh inputs, compared outside of it.

    SUBMISSIONS/<id>/NN_topic.ipynb, or SUBMISSIONS/<id>.ipynb where one chapter is graded. Without a roster the name of
    the folder is the id. Exit code 0: every student has a row with a verdict.
    """
    try:
        told, release_hash = released.read(release)
        missing = [number for number in chapters if number not in told["chapters"]]
        if missing:
            raise ValueError(f"{release} has no chapter {', '.join(missing)}; it has {', '.join(told['chapters'])}")
        people = intake.read_roster(roster) if roster else None
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if (told.get("pack") is None) != (pack is None):
        what = "names no pack" if told.get("pack") is None else f"was made with the pack {told['pack']['name']}"
        raise click.UsageError(f"{release} {what}: say --exercises FOLDER exactly where it was made with one")
    if graded.resolve() in (release.resolve(), submissions.resolve()) or graded.resolve().is_relative_to(
        submissions.resolve()
    ):
        raise click.UsageError("-o must lie outside of RELEASE and SUBMISSIONS, which stay as they are")
    wanted = {n: entry for n, entry in told["chapters"].items() if not chapters or n in chapters}
    found, strangers = intake.students(submissions, {n: Path(e["notebook"]).stem for n, e in wanted.items()}, people)
    found = unique(found)
    unknown = [student for student in only if student not in found]
    if unknown:
        raise click.UsageError(f"--only {', '.join(unknown)}: nobody has this id")
    if not found:
        raise click.ClickException(f"{submissions} holds no submission: expected <id>/NN_topic.ipynb in it")
    if strangers:
        click.echo(f"not on the roster, and left out: {', '.join(map(intake.shown_id, strangers[:20]))}", err=True)
    if unsafe:
        click.secho("WITHOUT A SANDBOX: whatever these notebooks contain runs with your rights. It can read and delete "
                    "your files, use the network, and read other submissions. Only for files that you trust.",
                    fg="red", err=True)  # fmt: skip
    try:
        graded.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"-o {graded} cannot be written to: {error}") from error
    with only_one(graded), record.Book(graded, resume or bool(only)) as book:
        plan = plan_of(wanted, found, people, told)
        files.write_json(book.state / "plan.json", plan)
        job = {"release": str(release.resolve()), "submissions": str(submissions.resolve()),
               "out": str(graded.resolve()), "pack": str(pack.resolve()) if pack else None, "unsafe": unsafe,
               "chapters": list(wanted), "secret": book.secret.hex(),
               "limits": dataclasses.asdict(sandbox.Limits(memory=memory))}  # fmt: skip
        (graded / "shown").mkdir(exist_ok=True)
        tasks = tasks_of(found, submissions, wanted, only)
        hashes = (release_hash, record.package_hash(crew.PACKAGE), told.get("pack"), unsafe)
        add_keys(tasks, submissions, hashes)
        kept = [task for task in tasks if not only and book.has(task["id"], task["chapter"], task["key"])]
        todo = [task for task in tasks if task not in kept]
        sys.exit(work(todo, len(kept), job, book, plan, jobs or cores(), scheduler))


def unique(found):
    """Students by their shown id; two names that look the same get a number."""
    named = {}
    for student in found:
        name, number = intake.shown_id(student.id), 1
        while name in named:
            number += 1
            name = f"{intake.shown_id(student.id)} ({number})"
        named[name] = student
    return named


def tasks_of(found, submissions, wanted, only):
    return [{"number": number, "id": name, "chapter": chapter, "path": str(path.absolute()) if path else None}
            for number, (name, chapter, path) in enumerate(
                (name, chapter, student.paths[chapter]) for name, student in found.items() for chapter in wanted
                if not only or name in only)]  # fmt: skip


def add_keys(tasks, submissions, hashes):
    """Give each task the key that its verdict is remembered by."""
    for task in tasks:
        try:
            content = intake.read(Path(task["path"]) if task["path"] else None, submissions)
        except intake.Unreadable as error:
            content = str(error).encode()
        task["key"] = record.key_of(content, task["id"], task["chapter"], *hashes)


def plan_of(wanted, found, people, told):
    """What is graded, for the reports: students in order, exercises by chapter, the roster's other columns."""
    known = {intake.shown_id(row["id"]): row for row in people or ()}
    return {"students": list(found), "title": told.get("title", "Deep generative models"), "roster": known,
            "chapters": {number: {"stem": Path(entry["notebook"]).stem, "exercises": entry["exercises"]}
                         for number, entry in wanted.items()}}  # fmt: skip


@contextmanager
def only_one(folder):
    """Hold the folder for one run at a time."""
    with open(folder / ".lock", "w") as lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise click.ClickException(f"another run is writing to {folder}: wait for it") from error
            except OSError:  # a file system without locks
                pass
        yield


def work(todo, n_kept, job, book, plan, jobs, scheduler):
    """Grade what is to do, write reports as results come, and return the exit code."""
    stop, progress = threading.Event(), Progress(len(todo), n_kept)
    last = [time.monotonic()]

    def done(task, found):
        book.add(found)
        progress.done(task, found)
        pages.feedback_of(book.folder, plan, book.records, found["id"], book.secret)
        if time.monotonic() - last[0] > REPORT_EVERY:
            pages.gradebooks(book.folder, plan, book.records)
            last[0] = time.monotonic()

    job_file = book.state / "job.json"
    files.write_json(job_file, job)
    os.chmod(job_file, 0o600)
    with asked_to_stop(stop):
        try:
            if not todo:
                whole = True
            elif scheduler:
                from course_utils.commands.grade import cluster

                whole = cluster.run(todo, job_file, scheduler, stop, progress.begin, done)
            else:
                whole = crew.run(todo, job_file, jobs, book.state / "log.txt", stop, progress.begin, done)
        except crew.Refused as error:
            why, repair = error.args
            raise click.ClickException(f"nothing was graded: {why}" + (f"\n{repair}" if repair else "")) from error
    pages.everything(book.folder, plan, book.records, book.secret)
    rows = pages.rows(plan, book.records)
    counts = Counter(row["state"] for row in rows)
    click.echo(f"{len(rows)} of {len(plan['students'])} students have a row: "
               + ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
               + f"; {book.folder / 'gradebook.csv'}")  # fmt: skip
    if not whole:
        click.echo("stopped; say the same with --resume to go on")
        return 130
    return 0 if len(rows) == len(plan["students"]) and not counts["infra"] else 1


@contextmanager
def asked_to_stop(stop):
    """Ctrl-C, SIGTERM and SIGHUP set the event ``stop``, so that none hits a moment between two files."""
    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """A line for each submission that starts and for each that ends, with counts by state and the time left."""

    def __init__(self, total, kept):
        self.total, self.counts, self.start, self.n = total, Counter(), time.monotonic(), 0
        self.lock = threading.Lock()
        if kept:
            click.echo(f"{kept} verdicts are kept from before")

    def begin(self, task):
        with self.lock:
            click.echo(f"  …        {task['id']}  {task['chapter']}", err=True)

    def done(self, task, found):
        with self.lock:
            self.n += 1
            self.counts[found["state"]] += 1
            left = (time.monotonic() - self.start) / self.n * (self.total - self.n)
            points = sum(e["points"] for e in found["exercises"].values())
            counts = ", ".join(f"{n} {state}" for state, n in sorted(self.counts.items()))
            what = found["note"] if found["state"] != "graded" else f"{points} points in {found['seconds']:.1f} s"
            click.echo(f"  {self.n:>4}/{self.total}  {task['id']}  {task['chapter']}  {what}   "
                       f"[{counts}; {spoken(left)} left]", err=True)  # fmt: skip


def spoken(seconds):
    """A stretch of time in one unit."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
