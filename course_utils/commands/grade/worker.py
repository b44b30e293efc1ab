"""A process that grades: ``python -m course_utils.commands.grade.worker JOB.json``.

Tasks come on standard input, a line of JSON each, and records go out in the same way. It has a nursery of its own,
which it proves before it says that it is ready. It ends when its input ends.
"""

import base64
import contextlib
import io
import json
import os
import re
import sys
import traceback
import warnings
from pathlib import Path

from course_utils import files
from course_utils.commands.grade.sandbox import Limits, NoSandbox, Nursery, prove

MAX_TEXT = 4_000  # characters of a cell's output that feedback repeats


def main(path):
    """Say ``ready`` or why not, then answer task by task."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no record
    sys.modules["rfc3987_syntax"] = None  # jsonschema would build a grammar of web addresses: a second for nothing

    def say(**told):
        lines.write(json.dumps(told) + "\n")
        lines.flush()

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    with Nursery(Limits(**job["limits"]), job["unsafe"]) as nursery:
        try:
            nursery.start() if job["unsafe"] else prove(nursery)
            chapters = _chapters(job)
        except NoSandbox as error:
            return say(refused=[*map(str, error.args), ""][:2])
        except ValueError as error:
            return say(refused=[str(error), ""])
        say(ready=True, own=nursery.own, why=nursery.why)
        for line in sys.stdin:
            task = json.loads(line)
            say(number=task["number"], record=graded(task, job, chapters, nursery))


def _chapters(job):
    from course_utils.commands.grade import released
    from course_utils.commands.release import pack

    private = pack.load(job["pack"]) if job["pack"] else None
    return released.chapters(job["release"], released.read(job["release"])[0], private, job["chapters"])


def graded(task, job, chapters, nursery):
    """The record of a task; what went wrong on our side is one too, and says ``infra``."""
    from course_utils.commands.grade import verdict

    path = Path(task["path"]) if task["path"] else None
    chapter = chapters[task["chapter"]]
    asked = verdict.Task(task["id"], task["chapter"], path, Path(job["submissions"]), bytes.fromhex(job["secret"]))
    try:
        record, executed = verdict.grade(asked, chapter, nursery)
        files.write_json(Path(job["out"]) / "shown" / f"{task['key']}.json", figures(executed))
        return record | {"key": task["key"]}
    except Exception as error:
        nursery.stop()
        note = f"{type(error).__name__}: {error}"[:500]
        sys.stderr.write(traceback.format_exc())
        empty = {i: verdict.empty(chapter, i, "infra") for i in chapter.exercises}
        return {"id": task["id"], "chapter": task["chapter"], "state": "infra", "note": note, "exercises": empty,
                "seconds": 0.0, "key": task["key"]}  # fmt: skip


def figures(notebook):
    """``{exercise id: [["text", …] or ["png", base64]]}``: what the student's own cells showed, in two plain forms."""
    found = {}
    for cell in notebook.cells if notebook is not None else ():
        exercise = cell.metadata.get("exercise")
        if exercise and cell.get("outputs"):
            found[exercise] = list(_shown(cell.outputs))[:20]
    return found


def _shown(outputs):
    for output in outputs:
        if output.output_type == "stream":
            yield ["text", output.text[:MAX_TEXT]]
        elif output.output_type == "error":
            yield ["text", f"{output.ename}: {output.evalue}"[:MAX_TEXT]]
        elif png := output.get("data", {}).get("image/png"):
            with contextlib.suppress(ValueError):
                yield ["png", picture("".join(png) if isinstance(png, list) else png)]
        elif text := output.get("data", {}).get("text/plain"):
            yield ["text", "".join(text)[:MAX_TEXT]]


def picture(text):
    """Base64 of a picture that really is one, drawn anew so that nothing hides in it. ValueError otherwise."""
    from PIL import Image  # only where there are pictures

    content = base64.b64decode(re.sub(r"\s", "", text), validate=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture too large to open is a warning first
            image = Image.open(io.BytesIO(content), formats=["PNG"])
            image.load()
            if image.width * image.height > 10_000_000:
                raise ValueError("too large")
            image.thumbnail((1_600, 1_600))
            fresh = io.BytesIO()
            image.convert("RGBA").save(fresh, "PNG")
    except Exception as error:  # decoders raise a dozen kinds, SyntaxError among them
        raise ValueError("no picture") from error
    return base64.b64encode(fresh.getvalue()).decode()


if __name__ == "__main__":
    main(sys.argv[1])
