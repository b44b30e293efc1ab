"""A chapter that carries the package: one notebook that runs in Colab, or without a network from an empty folder.

The package travels as a wheel in the text of a cell, with the trained weights that this chapter opens and no others.
The cell unpacks it into a temporary folder; torch and the other libraries have to be there, as they are in Colab.
"""

import ast
import base64
import fnmatch
import io
import zipfile
from pathlib import Path

MOST = 6_000_000  # bytes of weights that a chapter may carry
CARRIED = '''# The course's package as a wheel, for the next cell: {size} KB of text.
WHEEL = "{text}"'''
UNPACK = '''# Brings the course's package in: does nothing where it is installed, else unpacks the one above.
import base64
import importlib.util
import io
import sys
import tempfile
import zipfile

if importlib.util.find_spec("course_utils") is None:
    folder = tempfile.mkdtemp(prefix="course-")
    zipfile.ZipFile(io.BytesIO(base64.b85decode(WHEEL))).extractall(folder)
    sys.path.insert(0, folder)
    if importlib.util.find_spec("anywidget") is None:  # Colab has all the rest
        import subprocess

        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "anywidget"], check=False)
    importlib.invalidate_caches()'''


def opened(notebook, there):
    """Names among ``there`` that the text of a notebook's code can open: literal strings, with gaps where they vary."""
    patterns = set()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse(cell["source"])):
                if isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "*" for p in node.values)
                    patterns.add("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    patterns.add(node.value)
    patterns = {p for p in patterns if p.endswith((".safetensors", ".json")) and p.strip("*") not in (".json", "")}
    return {name for name in there if any(fnmatch.fnmatch(name, p) for p in patterns)}


def slim(wheel, notebook):
    """The bytes of a wheel with the weights of one chapter, without the workshop. ValueError above 6 MB of weights."""
    out, total = io.BytesIO(), 0
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        shipped = [name for name in source.namelist() if "/pretrained/" in name]
        keep = opened(notebook, {Path(name).name for name in shipped})
        for name in source.namelist():
            if name in shipped and Path(name).name not in keep or "/commands/" in name or name.endswith("RECORD"):
                continue
            content = source.read(name)
            total += len(content) if name in shipped else 0
            target.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    if total > MOST:
        raise ValueError(f"its weights have {total:,} bytes, more than the {MOST:,} that a chapter may carry")
    return out.getvalue()


def cells(wheel_bytes):
    """The texts of the two cells that carry the package and bring it in."""
    text = base64.b85encode(wheel_bytes).decode()  # its letters need no escape in a string
    return [CARRIED.format(size=len(text) // 1024, text=text), UNPACK]

