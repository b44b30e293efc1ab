"""Every law goes red at the wrong twins of its equation. What the twins are stands in ``tests/twins/__init__.py``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from twins.run import packaged

from course_utils.commands.build import twins
from course_utils.commands.build.source import sources

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = [path.name[:2] for path in sources(ROOT / "notebooks" / "src")]


def verdicts(number, *tags):
    """What became of the twins of a chapter: a list of ``[tag, what, result, message]``."""
    command = [sys.executable, str(ROOT / "tests" / "twins" / "run.py"), number, *tags, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip(), done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("number", CHAPTERS)
def test_every_twin_finds_what_it_changes(number):
    """Code that moved on leaves its twins behind: said here in seconds, before the chapters run."""
    lost = []
    for tag, known in twins.load(ROOT / "tests" / "twins", number).items():
        for twin in known:
            if twin.where.startswith("course_utils"):
                try:
                    assert packaged(twin)[1]
                except (ValueError, AttributeError, ImportError) as error:
                    lost.append(f"({tag}) {twin.what}: {error}")
    assert not lost, "\n" + "\n".join(lost)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="copies of a process need fork")
@pytest.mark.parametrize("number", CHAPTERS)
def test_every_law_goes_red_at_the_wrong_twins_of_its_equation(number):
    found = verdicts(number)
    listed = {(tag, twin.what) for tag, known in twins.load(ROOT / "tests" / "twins", number).items() for twin in known}
    assert {(tag, what) for tag, what, *_ in found} == listed, "a twin whose equation no cell verifies"
    missed = [f"({tag}) {what}: {result} {message}" for tag, what, result, message in found if result != "red"]
    assert not missed, "\n" + "\n".join(missed)
