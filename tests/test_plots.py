"""Figures: layout of sheets and the text that stands for a picture."""

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from course_utils import plots, widgets


def test_tile_puts_each_image_in_its_place():
    images = torch.arange(6).float().reshape(6, 1, 1, 1).expand(6, 1, 2, 3) / 10
    sheet = plots.tile(images, columns=4, pad=1)
    assert sheet.shape == (2 * 3 + 1, 4 * 4 + 1, 1)
    assert torch.allclose(sheet[1:3, 5:8, 0], torch.tensor(0.1))  # the second image
    assert torch.allclose(sheet[4:6, 5:8, 0], torch.tensor(0.5))  # the sixth
    assert (sheet[4:6, 9:12, 0] == 1).all()  # no seventh


def test_show_displays_a_png_with_alternative_text_and_closes_the_figure(monkeypatch):
    shown = {}
    monkeypatch.setattr(plots, "display", lambda data, raw, metadata: shown.update(data=data, metadata=metadata))
    figure = plots.images(torch.rand(7, 3, 8, 8), columns=4, title="seven")
    plots.show(figure, alt="Seven small colour images.")
    picture = Image.open(io.BytesIO(shown["data"]["image/png"]))
    assert min(picture.size) > 100 and shown["metadata"]["image/png"]["alt"] == "Seven small colour images."
    assert not plt.fignum_exists(figure.number)


def test_a_figure_without_alternative_text_is_an_error():
    with pytest.raises(ValueError, match="alternative text"):
        plots.show(plt.figure(), alt=" ")
    plt.close("all")


def test_draw_seen_paints_later_seen_missed_and_the_pixel_itself():
    figure, ax = plt.subplots()
    seen = torch.zeros(3, 3, dtype=torch.bool)
    seen[0, 1] = seen[2, 2] = True  # (2, 2) comes later, so it must stay grey
    plots.draw_seen(ax, seen, "view", centre=(1, 1))
    picture = torch.as_tensor(ax.images[0].get_array())
    plt.close(figure)
    later, blue, red = picture[1, 2], picture[0, 1], picture[0, 0]
    assert (picture[1, 1] == 0).all() and ax.get_title() == "view"
    assert torch.equal(picture[2, 2], later) and torch.equal(picture[1, 0], red)
    assert blue[2] > blue[0] and red[0] > red[2] and len({tuple(c.tolist()) for c in (later, blue, red)}) == 3


def test_javascript_has_the_colours_of_python():
    text = (Path(widgets.__file__).parent / "js" / "common.js").read_text()
    named = dict(re.findall(r"(\w+): \"(#[0-9A-F]{6})\"", text))
    assert [named[name] for name in ("blue", "orange", "green", "red", "pink", "sky")] == plots.PALETTE[:6]


@pytest.mark.parametrize("settings", [
    "dark_background", {"text.usetex": True}, {"axes.facecolor": "black", "xtick.color": "white"}, {"font.size": 30},
    {"image.origin": "lower"}, {"axes.grid": True}])
def test_the_look_of_the_course_does_not_depend_on_the_users_own_settings(settings):
    backend = plt.get_backend()
    with plt.rc_context():
        plots.style()
        ours = dict(plt.rcParams)
        plt.style.use(settings)
        plots.style()
        assert dict(plt.rcParams) == ours and plt.get_backend() == backend
