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
        sys.stdin.buffer.read()  # returns when the parent is gone, however it went
        processes.end_marked(job["mark"], but=os.getpid())
        shutil.rmtree(job["scratch"], ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent, which then asks us to stop
    for variable, folder in PRIVATE.items():
        os.environ[variable] = os.path.join(job["scratch"], folder)
        os.mkdir(os.environ[variable])
    os.environ.setdefault("COURSE_CACHE", os.path.join(job["scratch"], "cache"))  # a run trains, it does not remember
    os.environ.pop("MPLBACKEND", None)
    # jsonschema, which checks notebooks, would build a grammar of web addresses: a second for what no notebook uses
    sys.modules["rfc3987_syntax"] = None

    from course_utils.commands.run import engine

    result = engine.execute(job, emit)
    if result["cells"]:
        from course_utils.commands.pages import export

        try:
            result["notes"] += export.chapter(job["ipynb"], job["html"], result, base=job["cwd"])
        except Exception as error:
            message = f"the page could not be written: {type(error).__name__}: {error}"
            if result["failure"]:
                result["notes"].append(message)
            else:
                trace = traceback.format_exc()
                result |= {
                    "status": "failed",
                    "failure": {"reason": "export", "message": message, "traceback": trace},
                }
    emit("done", result=result)


if __name__ == "__main__":
    main(sys.argv[1])
