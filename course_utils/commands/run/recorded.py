"""What the outputs of an executed notebook hold: its numbers, and whatever no page could show."""

import base64
import io
import math
import warnings

from course_utils.commands.pages.document import LAW_MIME, METRICS_MIME, PICTURES

TEXTS = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml")
LONGEST = 1_000  # characters of a recorded word, or of the name of a number


class Unfit(ValueError):
    """An output that cannot be kept, or one that is missing; ``index`` is that of its cell among all cells."""

    def __init__(self, index, message, reason="output"):
        super().__init__(message)
        self.index, self.reason = index, reason


def outputs(nb):
    """(index of the cell, data) of every output with data."""
    for index, cell in enumerate(nb["cells"]):
        for output in cell.get("outputs", []):
            if "data" in output:
                yield index, output["data"]


def metrics_of(nb):
    """The numbers that `record` put into the outputs of a notebook, in order. Raises :class:`Unfit` for others."""
    metrics = {}
    for index, data in outputs(nb):
        found = data.get(METRICS_MIME, {})
        if not isinstance(found, dict):
            kind = type(found).__name__
            raise Unfit(index, f"its numbers came as a {kind}, {_short(found)}; say record(name=number)")
        for name, value in found.items():
            if name in metrics:
                raise Unfit(index, f"the number {_short(name)} was recorded before; give each its own name", "error")
            if len(name) > LONGEST or not is_result(value):
                raise Unfit(index, f"{_short(name)} was recorded as {_short(value)}; record a number or a short word")
            metrics[name] = value
    return metrics


def laws_of(nb):
    """The laws that held, as their records, by the equation that they verify.

    Raises :class:`Unfit` for an equation whose verifying cells ran without one. (That a claim was refuted is a record,
    but verifies nothing by itself.)
    """
    laws, first = {}, {}
    for index, cell in enumerate(nb["cells"]):
        shown = [output.get("data", {}) for output in cell.get("outputs", [])]
        records = [data[LAW_MIME] for data in shown if LAW_MIME in data]
        for record in records:
            if not isinstance(record, dict) or not isinstance(record.get("law"), str):
                raise Unfit(index, f"a law was recorded as {_short(record)}; only course_utils.checks records laws")
        for equation in cell["metadata"].get("verifies", ()):
            laws.setdefault(equation, []).extend(records)
            first.setdefault(equation, index)
    for equation, records in laws.items():
        if all(record["law"] == "fails" for record in records):
            why = f"no law was checked for ({equation}): the cells that verify it ran without one"
            raise Unfit(first[equation], why, "error")
    return laws


def is_result(value):
    """Whether a value is a number that a float can hold, or a short word."""
    if isinstance(value, str):
        return len(value) <= LONGEST
    try:
        return isinstance(value, int | float) and not math.isnan(float(value))
    except OverflowError:
        return False


def check_outputs(nb):
    """How many outputs a page can show. Raises :class:`Unfit` for a text that is none, or a picture nobody can draw."""
    shown = list(outputs(nb))
    for index, data in shown:
        for kind in (kind for kind in (*TEXTS, *PICTURES) if kind in data):
            text = data[kind] if isinstance(data[kind], str) else "".join(_lines(index, kind, data[kind]))
            if kind in PICTURES and (why := no_picture(text)):
                raise Unfit(index, f"its {kind} is no picture ({why}); give display the bytes of an image file, or "
                                   "show a figure")  # fmt: skip
    return len(shown)


def _lines(index, kind, value):
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise Unfit(index, f"its {kind} is a {type(value).__name__}, {_short(value)}, where a text belongs")
    return value


def no_picture(text):
    """Why base64 `text` is no picture, in words; empty when it is one."""
    from PIL import Image  # only where there are pictures

    try:
        content = base64.b64decode("".join(text.split()), validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a picture too large to open is a warning first
            Image.open(io.BytesIO(content)).load()
    except Exception as error:  # decoders raise a dozen kinds, SyntaxError among them
        return f"{type(error).__name__}: {_short(str(error))}"
    return ""


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
