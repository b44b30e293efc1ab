"""One Chromium and one Jupyter server for all browser tests; skipped, with the reason, where there is none."""

import pytest
from browser.examples import EXAMPLES

from course_utils.commands.lab import browser

CELL = "demo = EXAMPLES['{name}']()\nheard['{name}'] = []\ndemo.observe(heard['{name}'].append)\ndemo"


@pytest.fixture(scope="session")
def chromium():
    if reason := browser.missing():
        pytest.skip(reason)
    with browser.browser() as context:
        yield context


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory, chromium):
    """A server with notebooks: after a cell of imports, ``all`` the demos, only the first, or one that Python draws."""
    folder = tmp_path_factory.mktemp("notebooks")
    cells = ["from browser.examples import EXAMPLES\nheard = {}", *(CELL.format(name=name) for name in EXAMPLES)]
    browser.write_notebook(folder / "all.ipynb", *cells)
    browser.write_notebook(folder / "one.ipynb", *cells[:2])
    browser.write_notebook(folder / "python.ipynb", cells[0], CELL.format(name="latent_explorer_in_python"))
    with browser.Jupyter(folder) as server:
        yield server


@pytest.fixture
def page(chromium):
    """A fresh page which collects what goes wrong on it in ``page.troubles``."""
    page = chromium.new_page()
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda message: page.troubles.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
