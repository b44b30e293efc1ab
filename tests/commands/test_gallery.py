"""The README's picture is cut from an executed run."""

import base64
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from course_utils.commands.pages import gallery


def executed(folder, number, alt):
    buffer = io.BytesIO()
    Image.new("RGB", (300, 100), "red").save(buffer, format="png")
    picture = {"output_type": "display_data", "data": {"image/png": base64.b64encode(buffer.getvalue()).decode()},
               "metadata": {"image/png": {"alt": alt}}}  # fmt: skip
    cells = [{"cell_type": "markdown", "source": ""}, {"cell_type": "code", "outputs": [picture]}]
    (folder / f"{number}_x.ipynb").write_text(json.dumps({"cells": cells}))


def test_one_figure_of_each_chapter_side_by_side(tmp_path):
    for number, alt in gallery.FIGURES.items():
        executed(tmp_path, number, alt + " and more")
    out = tmp_path / "gallery.png"
    result = CliRunner().invoke(gallery.main, ["--run", str(tmp_path), "--out", str(out)])
    assert result.exit_code == 0, result.output
    page = Image.open(out).convert("RGB")
    assert page.width == 2 * gallery.WIDTH + gallery.GAP and page.getpixel((10, 10)) == (255, 0, 0)
    assert page.getpixel((gallery.WIDTH + gallery.GAP // 2, 10)) == (255, 255, 255)


@pytest.mark.parametrize("alt, message", [("another", "has no figure"), (None, "no executed chapter 01")])
def test_a_missing_figure_or_chapter_is_named(tmp_path, alt, message):
    if alt:
        executed(tmp_path, "01", alt)
    result = CliRunner().invoke(gallery.main, ["--run", str(tmp_path), "--out", str(tmp_path / "g.png")])
    assert result.exit_code == 1 and message in result.output


def test_every_figure_of_the_picture_stands_in_its_chapter():
    sources = Path(__file__).resolve().parents[2] / "notebooks" / "src"
    for number, alt in gallery.FIGURES.items():
        [source] = sources.glob(f"{number}_*.py")
        assert f"# alt: {alt}" in source.read_text(encoding="utf-8"), f"{source.name} has no figure {alt!r}"
