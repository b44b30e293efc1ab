"""Every chapter, executed for real at the smoke budget; then executed again, and the marked outputs compared."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_utils.commands.lab import browser

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": ""}  # the kernel chooses how it draws
ENVIRONMENT.pop("MPLBACKEND")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem[:2])
def test_a_chapter_runs_and_its_marked_cells_repeat(chapter, tmp_path):
    command = [sys.executable, "-m", "course_utils", "run", str(chapter), "--budget", "smoke", "--out", str(tmp_path)]
    environment = ENVIRONMENT | {"COURSE_CACHE": str(tmp_path / "cache")}  # empty now; what repeats is read from it
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

    [entry] = json.loads((tmp_path / "metrics.json").read_text())["chapters"].values()
    assert entry["metrics"], "a chapter records results"

    executed = next(tmp_path.rglob(chapter.name))
    marked = [
        cell
        for cell in json.loads(executed.read_text())["cells"]
        if "nbval-check-output" in cell["metadata"].get("tags", [])
    ]
    assert marked, "a chapter marks at least one cell whose output must repeat"
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:timeout", "-q",
         "-c", os.devnull, "--rootdir", str(tmp_path), "--nbval-lax", "--nbval-current-env",
         "--nbval-cell-timeout", "300", str(executed)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 0, again.stdout[-4000:]

    if not browser.missing():
        page = (tmp_path / f"{chapter.stem}.html").as_uri()
        cut = subprocess.run([sys.executable, "-c", CUT, page], capture_output=True, text=True, check=True).stdout
        assert json.loads(cut) == [], "formulas that do not fit into their line, number and all"


# In a process of its own, since a worker may hold another browser already.
CUT = """
import json, sys
from course_utils.commands.lab import browser

with browser.browser(width=1000) as context:
    tab = context.new_page()
    tab.goto(sys.argv[1])
    tab.evaluate("() => document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    lines = tab.locator(".equation").evaluate_all(
        "(lines) => lines.filter((line) => line.scrollWidth > line.clientWidth + 1).map((line) => line.textContent)")
    assert tab.locator(".equation").count() > 0
    print(json.dumps(lines))
"""
