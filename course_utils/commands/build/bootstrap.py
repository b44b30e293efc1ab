"""The first code cell of a chapter, which brings the course's package in.

Where the package is installed it does nothing. On Colab it installs what ``[tool.course] source`` in ``pyproject.toml``
names: an address that pip understands. While that is empty nothing is installed from anywhere, since a name that
nobody has published belongs to whoever registers it. ``course build --carry`` then makes chapters that carry the
package with them, as a wheel written out in their first cell.
"""

import base64
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HEAD = """\
# Brings the course's package in: does nothing where it is installed{on_colab}.
import importlib.util

if importlib.util.find_spec("course_utils") is None:
"""
UNSET = '''\
    raise ModuleNotFoundError(
        "course_utils, the package of this course, is not installed here, and this cell "
        "installs nothing. In a checkout of the course{where}, run `make lab` and open the "
        "chapter there. For Colab, run `course build --carry` in the checkout and open the "
        "chapter from build/colab/: it carries the package."
    )'''
INSTALLS = '''\
    try:
        import google.colab
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "course_utils, the package of this course, is not installed here. In a checkout "
            "of the course{where}, run `make lab` and open the chapter there; elsewhere "
            "{elsewhere} and restart the kernel."
        ) from None
    import subprocess
    import sys

{source}
    command = [sys.executable, "-m", "pip", "install", "--quiet", source]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        raise RuntimeError(f"`pip install {{source}}` failed:\\n" + installed.stderr)
    importlib.invalidate_caches()'''
CARRIED = '''\
    import base64
    import pathlib
    import tempfile

    source = str(pathlib.Path(tempfile.mkdtemp()) / "{name}")
    pathlib.Path(source).write_bytes(base64.b85decode(WHEEL))'''
UNSET_NOTE = (
    "source in pyproject.toml is empty: on Colab the first cell of a chapter installs nothing. "
    "`course build --carry` writes chapters that carry the package, to build/colab/"
)


def settings(start):
    """``{"source", "repository"}`` of the pyproject.toml at or above ``start``; "" where nothing is said."""
    said = {}
    for folder in Path(start).resolve().parents:
        if (folder / "pyproject.toml").is_file():
            said = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
            said = said.get("tool", {}).get("course", {})
            break
    return {key: str(said.get(key, "")).strip() for key in ("source", "repository")}


def cells(start, wheel=None, said=None):
    """The sources of the cell or cells that bring the package in, for a chapter at ``start``.

    ``wheel``: path of a wheel that the chapter shall carry. ``said``: settings other than those of the checkout.
    """
    said = said or settings(start)
    where = f" ({said['repository']})" if said["repository"] else ""
    if wheel is not None:
        text = base64.b85encode(Path(wheel).read_bytes()).decode()  # its letters need no escape in a string
        carried = f'# The package as a wheel, for the next cell: {len(text) // 1024} KB of text.\nWHEEL = "{text}"'
        source, elsewhere = CARRIED.format(name=Path(wheel).name), "install it from there with `pip install -e .`"
        body = INSTALLS.format(where=where, elsewhere=elsewhere, source=source)
        return [carried, HEAD.format(on_colab=", installs it on Colab") + body]
    if not said["source"]:
        return [HEAD.format(on_colab="") + UNSET.format(where=where)]
    body = INSTALLS.format(
        where=where, elsewhere=f"run `pip install {said['source']}`", source=f"    source = {said['source']!r}"
    )
    return [HEAD.format(on_colab=", installs it on Colab") + body]


def make_wheel(checkout, folder):
    """The wheel of a checkout, built in ``folder`` without asking any index. Raises ValueError with pip's words."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(folder), str(checkout)], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"pip cannot build a wheel of {checkout}: {last}; it needs: pip install -e '.[instructor]'")
    [wheel] = Path(folder).glob("*.whl")
    return wheel


def carried_wheel(start):
    """The wheel of the checkout that ``start`` lies in, in a folder of its own that lives as long as this process."""
    checkout = next((f for f in Path(start).resolve().parents if (f / "pyproject.toml").is_file()), None)
    if checkout is None:
        raise ValueError(f"there is no checkout of the course around {start}: no folder above it has a pyproject.toml")
    return make_wheel(checkout, tempfile.mkdtemp(prefix="wheel-"))
