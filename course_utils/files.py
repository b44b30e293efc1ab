"""Files that are whole or absent: what is written survives being killed at any moment."""

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
