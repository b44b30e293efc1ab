"""What comes with the course: trained weights and tables of results, small enough to ship (``data/pretrained``)."""

import json
from pathlib import Path


def folder():
    """``data/pretrained`` of the checkout, or the copy inside the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent / "data" / "pretrained"
    in_checkout = checkout.is_dir() and (package.parent / "pyproject.toml").is_file()
    return checkout if in_checkout else package / "data" / "pretrained"


def path(name):
    """Path of a shipped file. Raises FileNotFoundError that lists what there is."""
    found = folder() / name
    if not found.is_file():
        there = ", ".join(sorted(p.name for p in folder().glob("*.*"))) or "nothing"
        raise FileNotFoundError(f"nothing named {name!r} comes with the course; there is {there}")
    return found


def results(name):
    """A shipped table of results: a dict with ``rows`` and how they were made (command, seed, versions, date)."""
    return json.loads(path(name).read_text(encoding="utf-8"))
