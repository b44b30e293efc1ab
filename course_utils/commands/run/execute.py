"""One chapter, executed in a process of its own: ``python -m course_utils.commands.run.execute JOB.json``.

`course run` starts one such process per chapter, in its own session, and reads its standard output: one JSON object
per line, ``start``, ``cell`` and ``done``. A process, because papermill changes the directory of the whole process; a
session, because a chapter that misbehaves must be ended with everything it started.
"""

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from pathlib import Path

from course_utils.commands.run import processes

# a student's own start-up files change no result, and what a chapter forgets in a temporary folder is removed
PRIVATE = {
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTER_CONFIG_DIR": "config",
    "IPYTHONDIR": "ipython",
    "TMPDIR": "tmp",
}


def main(path):
    """The process: read the job, run it, export the page, say what came of it. Ends when the parent ends."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    # what libraries and the kernel print goes to the log; this copy of standard output is ours alone
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event, **fields):
        lines.write(json.dumps({"event": event, **fields}) + "\n")
        lines.flush()

    def watch_parent():
        # os.read and not sys.stdin, whose lock a thread may not hold while Python shuts down: it aborts
        while os.read(0, 1024):  # empty when the parent is gone, however it went
            pass
        processes.end_marked(job["mark"], but=os.getpid())
        shutil.rmtree(job["scratch"], ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent, which then asks us to stop
    try:
        result = executed(job, emit)
    except Exception as error:
        message = f"the chapter could not be run: {type(error).__name__}: {error}"
        failure = {"reason": "infra", "message": message, "traceback": traceback.format_exc()}
        result = {"status": "failed", "failure": failure, "metrics": {}, "notes": [], "cells": 0, "wall_seconds": 0.0}
    emit("done", result=result)


def executed(job, emit):
    """The result of the chapter, with its notebook and its page written where the job says."""
    surroundings(job["scratch"])
    from course_utils.commands.run import engine

    result = engine.execute(job, emit)
    if not os.path.exists(job["ipynb"]):  # not a notebook, or a disk that had no room for it
        return result
    try:
        from course_utils.commands.pages import export

        result["notes"] += export.chapter(job["ipynb"], job["html"], result, base=job["cwd"])
    except Exception as error:
        message = f"the page could not be written: {type(error).__name__}: {error}"
        if result["failure"]:
            result["notes"].append(message)
        else:
            failure = {"reason": "export", "message": message, "traceback": traceback.format_exc()}
            result |= {"status": "failed", "failure": failure}
    return result


def surroundings(scratch):
    """The environment of the chapter: its own folders, and a home where the user has none."""
    for variable, folder in PRIVATE.items():
        os.environ[variable] = os.path.join(scratch, folder)
        os.mkdir(os.environ[variable])
    if not os.access(os.path.expanduser("~"), os.W_OK):
        os.environ["HOME"] = scratch
    os.environ.setdefault("COURSE_CACHE", os.path.join(scratch, "cache"))  # a run trains, it does not remember
    os.environ.pop("MPLBACKEND", None)
    # jsonschema, which checks notebooks, would build a grammar of web addresses: a second for what no notebook uses
    sys.modules["rfc3987_syntax"] = None


if __name__ == "__main__":
    main(sys.argv[1])
