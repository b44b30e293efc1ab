"""What a run writes: text and JSON files, whole or absent."""

import json
import math
import re

from course_utils.files import write_bytes

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def write_text(path, text):
    """Write `text` to `path` so that a reader sees the old file or the new one, never half of one."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path, value):
    """Strict JSON: a number that is not finite becomes the string "nan", "inf" or "-inf"."""
    write_text(path, json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def strip_ansi(text):
    """`text` without the colour codes of a terminal."""
    return _ANSI.sub("", text)
