"""Files that are whole or absent: what is written survives being killed at any moment."""

import json
import math
import os
import tempfile
from pathlib import Path


def write_bytes(path, content):
    """Write ``content`` so that a reader sees the old file or the new one, never half of one.

    A full disk or a Ctrl-C leaves the old file. The folder must exist.
    """
    path = Path(path)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def write_text(path, text):
    """``write_bytes`` of ``text`` in UTF-8. Half a surrogate pair, which UTF-8 lacks, is written as JSON writes it."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


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
