"""One submission of one chapter: read, rebuilt, run, probed, compared. Whatever happens, a record comes of it."""

import hashlib
import hmac
import time
from dataclasses import dataclass
from pathlib import Path

from course_utils.commands.grade import intake, kernel, rebuild, remote, rule
from course_utils.exercises import judge
from course_utils.exercises.judging import outcome
from course_utils.exercises.small import other_split

ROUNDS = 2  # how often a function is probed, each time with other inputs
WORDS = {
    "timeout": "It took longer than it may.",
    "out_of_memory": "It used more memory than it may.",
    "crashed": "It ended the process it ran in.",
    "output_limit": "It printed more than it may.",
    "bad_type": "It returned something that is neither a number nor a tensor of the kind that was asked for.",
}


@dataclass(frozen=True)
class Task:
    """What to grade: a path below the folder of submissions, and the secret from which inputs are drawn."""

    id: str
    chapter: str
    path: Path | None
    root: Path
    secret: bytes


def seed_of(secret, *words):
    """A seed that nobody knows who has not the secret, and that is the same whenever it is asked for."""
    text = "\0".join(map(str, words)).encode()
    return int.from_bytes(hmac.new(secret, text, hashlib.sha256).digest()[:4], "big")


def grade(task, chapter, nursery, show=True):
    """``(record, executed notebook or None)``. ``show``: whether the notebook is run for what it shows."""
    start = time.monotonic()
    record = {"id": task.id, "chapter": task.chapter, "state": "graded", "note": "", "exercises": {}}
    try:
        content = intake.read(task.path, task.root)
        sources = intake.sources(content, set(chapter.exercises))
    except intake.Unreadable as error:
        record |= {"state": "rejected", "note": str(error)}
        record["exercises"] = {i: empty(chapter, i, "rejected") for i in chapter.exercises}
        return record | {"seconds": time.monotonic() - start}, None
    executed = None
    plans = {i: plan(chapter, sources, i) for i in chapter.exercises}
    attempted = [i for i, found in plans.items() if found is None]
    if attempted and show:
        executed, state, ended = shown(chapter, sources, attempted, nursery)
        record["note"] = f"the notebook itself: {state}" if state else ""
        if ended in attempted:  # the cell alone is too much: its function need not be called
            plans[ended] = empty(chapter, ended, state, WORDS[state], "its cell comes to an end")
    with _Cradles(nursery) as cradles:
        for i in chapter.exercises:
            record["exercises"][i] = plans[i] or probed(chapter, sources, i, cradles, task.secret)
    given = {i: sources[i] for i in chapter.exercises if sources.get(i)}
    return record | {"seconds": time.monotonic() - start, "peak": cradles.peak, "sources": given}, executed


def empty(chapter, i, state, hint="", failed_on=""):
    """The record of an exercise without points."""
    exercise = chapter.exercises[i]
    return {"state": state, "points": 0, "of": exercise.points, "kind": exercise.kind,
            "practice": i in chapter.practice, "property": failed_on, "hint": hint, "found": "",
            "seconds": 0.0}  # fmt: skip


def plan(chapter, sources, i):
    """The record of an exercise that need not be run; None for one that must."""
    exercise = chapter.exercises[i]
    given = chapter.cell_of(i)["source"]
    if i not in sources or (sources[i] is not None and not rebuild.changed(sources[i], given)):
        return empty(chapter, i, "no_answer")
    if sources[i] is None:
        return empty(chapter, i, "rejected", f"A cell may have {intake.MAX_SOURCE:,} characters.", "it is a text")
    try:
        cells = rebuild.needed(chapter, sources, i)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
        return empty(chapter, i, "failed", f"Python cannot read it: {type(error).__name__}{where}.", "it is Python")
    if exercise.kind == "predict":
        return None
    foreign = [text for _, e, text in cells[:-1] if e]  # the student's own other cells, under the same rule
    before = [text for _, e, text in cells[:-1] if not e]
    why = next(filter(None, (rule.broken(exercise, text, before) for text in (*foreign, cells[-1][2]))), "")
    return empty(chapter, i, "rejected", f"{why[0].upper()}{why[1:]}.", "it is your own code") if why else None


def shown(chapter, sources, attempted, nursery):
    """``(executed notebook, state, exercise)``: what the student's cells show, and which of them came to no end."""
    with nursery.cradle() as cradle:
        return kernel.run(rebuild.notebook(chapter, sources, attempted), cradle)


class _Cradles:
    """A cradle for the probes of a submission, made anew when one was ended."""

    def __init__(self, nursery):
        self.nursery, self.cradle, self.peak = nursery, None, 0

    def __enter__(self):
        return self

    def get(self):
        if self.cradle is not None and not self.cradle.alive():
            self.__exit__()
        if self.cradle is None:
            self.cradle = self.nursery.cradle()
        return self.cradle

    def __exit__(self, *_):
        if self.cradle is not None:
            self.peak = max(self.peak, self.cradle.peak)
            self.cradle.end()
            self.cradle = None


def probed(chapter, sources, i, cradles, secret):
    """The record of an exercise, from calls into the sandbox and comparisons here."""
    exercise, start = chapter.exercises[i], time.monotonic()
    cradle = cradles.get()
    seconds = cradle.limits.build if exercise.kind == "build" else cradle.limits.write
    drawn = None if exercise.kind == "write" else seed_of(secret, "inside", i)
    cradle.allow(seconds)
    peer = remote.Peer(cradle.probe(), time.monotonic() + seconds * cradle.limits.patience, drawn)
    found = empty(chapter, i, "failed")
    try:
        found |= judged(exercise, rebuild.probe_cells(chapter, sources, i), peer, secret)
    except remote.Ended as error:
        peer.sock.close()
        code = cradle.ended()
        state = cradle.exceeded or error.state
        if state == "crashed" and code == -9 and cradle.peak > 0.8 * cradle.limits.memory * 2**20:
            state = "out_of_memory"
        found |= {"state": state, "hint": WORDS.get(state, ""), "property": "it comes to an end"}
    else:
        peer.sock.close()
        cradle.ended()
    if found["state"] == "passed":
        found["points"] = exercise.points
    return found | {"seconds": round(time.monotonic() - start, 3)}


def judged(exercise, cells, peer, secret):
    """State, property and hint of what one probe answers."""
    name = exercise.reference.__name__
    try:
        peer.load(cells, seed_of(secret, "cells", exercise.id))
    except Exception:
        if peer.error is None:  # not raised in the student's cell, of which the probe tells: it is ours
            raise
        return stopped(peer.error)
    answer = remote.Function(peer, {"name": name}, write_back=True)
    if exercise.kind == "predict":
        return predicted(exercise, answer, peer)
    verdict = None
    for turn in range(ROUNDS if exercise.kind == "write" else 1):
        peer.error, peer.odd = None, False
        with other_split(seed_of(secret, "data", exercise.id)):
            verdict = judge(exercise, answer, seed_of(secret, "probes", exercise.id, turn))
        if not verdict.passed:
            break
    told = {"property": verdict.failed_on, "hint": verdict.hint, "found": verdict.found}
    if verdict.passed:
        return {"state": "passed", "found": verdict.found}
    if verdict.state == "not attempted":
        return {"state": "no_answer"}
    if peer.error is not None and not verdict.hint:
        return told | stopped(peer.error) | {"property": verdict.failed_on}
    return told | {"state": "bad_type" if peer.odd else "failed"}


def predicted(exercise, answer, peer):
    try:
        guess = outcome(exercise, answer())
    except Exception as error:
        if isinstance(error, NotImplementedError) and not error.args:
            return {"state": "no_answer"}
        return {"state": "failed", "property": "a guess that can be committed"}
    return {"state": "passed", "found": f"Committed: {guess}"}


def stopped(error):
    """A failure by an exception. Its text may repeat inputs, so only type and line are told."""
    kind = (error or {}).get("type", "Exception")
    if kind == "MemoryError" or "DefaultCPUAllocator" in (error or {}).get("text", ""):
        return {"state": "out_of_memory", "hint": WORDS["out_of_memory"], "property": "it runs"}
    where = f" in line {error['line']}" if error and error["line"] else ""
    return {"state": "failed", "hint": f"Your code stopped with {kind}{where}.", "property": "it runs"}

