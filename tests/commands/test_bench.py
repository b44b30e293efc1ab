"""``course bench``: measures in turns, prints tables, writes them, and goes on past a benchmark that fails."""

import json
from dataclasses import asdict
from importlib import import_module
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from course_utils import training
from course_utils.commands.bench import bench, tables
from course_utils.data import images
from course_utils.recipes.autoregressive import RECIPES


def two_rows(setting):
    yield {"model": "small", "nats": 81.25, "steps": 1_000}
    yield {"model": "larger", "nats": 9.5, "seed": setting.seed}


def broken(setting):
    raise RuntimeError("no such luck")


@pytest.fixture
def own_benchmarks(monkeypatch):
    names = {"two": f"{__name__}:two_rows", "broken": f"{__name__}:broken"}
    monkeypatch.setattr(bench, "BENCHMARKS", names)
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(**globals()))


def call(tmp_path, *arguments):
    return CliRunner().invoke(bench.main, [*arguments, "--out", str(tmp_path)])


def test_prints_and_writes_a_table(own_benchmarks, tmp_path):
    result = call(tmp_path, "two", "--seed", "3", "--budget", "smoke")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-4:-1] == [
        "  model    nats  steps  seed",
        "  small   81.25  1,000",
        "  larger    9.5            3",
    ]
    written = json.loads((tmp_path / "two.json").read_text())
    assert [row["model"] for row in written["rows"]] == ["small", "larger"]
    assert written["setting"] == {**asdict(bench.Setting()), "budget": "smoke", "seed": 3, "only": []}
    assert {"python", "torch"} <= written["versions"].keys() and written["threads"] >= 1


def test_a_failing_benchmark_is_named_and_the_others_run(own_benchmarks, tmp_path):
    result = call(tmp_path, "broken", "two")
    assert result.exit_code == 1
    assert "no such luck" in result.output and "failed: broken" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["two.json"]


def test_an_unknown_name_lists_what_there_is(tmp_path):
    result = call(tmp_path, "nothing")
    assert result.exit_code == 2
    assert "handwriting" in result.output


@pytest.mark.parametrize("place", bench.BENCHMARKS.values(), ids=bench.BENCHMARKS)
def test_every_benchmark_is_where_the_list_says(place):
    module, function = place.split(":")
    assert callable(getattr(import_module(module), function))


def test_candidates_are_taken_in_turns():
    order = []
    taken = bench.seconds(2, a=lambda: order.append("a"), b=lambda: order.append("b"))
    assert order == ["a", "b"] * 3  # the first turn warms up
    assert taken.keys() == {"a", "b"} and min(taken.values()) >= 0


@pytest.fixture
def shipping(monkeypatch, tmp_path):
    """A place of its own for what ships, and a data set of a few images."""
    data = images.load("handwriting", n=200, seed=0)
    fixed = images.binarised(data, seed=0)
    fixed = SimpleNamespace(valid=fixed.valid[:50], test=fixed.test[:50])
    monkeypatch.setattr(tables.shipped, "folder", lambda: tmp_path / "shipped")
    monkeypatch.setattr(tables.images, "load", lambda *_, **__: data)
    monkeypatch.setattr(tables.images, "binarised", lambda *_, **__: fixed)
    return tmp_path / "shipped"


def test_a_row_that_ships_leaves_the_others_as_they_are(shipping, tmp_path):
    shipping.mkdir()
    other = {"name": "independent", "title": "kept", "test_nats": 1.0}
    (shipping / "autoregressive_handwriting.json").write_text(json.dumps({"dataset": "handwriting", "rows": [other]}))
    result = call(tmp_path, "autoregressive", "--only", "pixelcnn", "--steps", "2", "--ship")
    assert result.exit_code == 0, result.output
    rows = json.loads((shipping / "autoregressive_handwriting.json").read_text())["rows"]
    assert rows[0] == other and (rows[1]["name"], rows[1]["n_steps"]) == ("pixelcnn", 2)
    assert rows[1]["command"] == (
        "course bench autoregressive --only pixelcnn --dataset handwriting --seed 0 --steps 2 --ship")
    about = training.load_weights(shipping / "pixelcnn_handwriting.safetensors",
                                  RECIPES["pixelcnn"].make(SimpleNamespace(shape=(1, 28, 28), classes=range(10))))
    assert about["command"] == rows[1]["command"]


def test_rows_that_have_more_than_a_name_stand_in_order(shipping):
    for name, seed, value in (("b", 1, 1), ("a", 2, 2), ("b", 0, 3), ("b", 1, 4)):
        row = {"name": name, "seed": seed, "value": value}
        path = tables.keep("x.json", row, ("a", "b"), ("name", "seed"), dataset="d")
    table = json.loads(path.read_text())
    assert table["dataset"] == "d" and [row["value"] for row in table["rows"]] == [2, 3, 4]
    tables.keep("x.json", {"name": "c", "seed": 0, "value": 5}, ("b", "c"), ("name", "seed"))
    assert [row["name"] for row in json.loads(path.read_text())["rows"]] == ["b", "b", "c"], "a recipe that is gone"


def test_without_ship_nothing_ships(shipping, tmp_path):
    assert call(tmp_path, "autoregressive", "--only", "independent").exit_code == 0
    assert not shipping.exists()


@pytest.mark.parametrize("arguments, says", [
    (["latent", "--only", "nothing"], "no row named nothing; there are vae_784_400_2"),
    (["loop", "--only", "made"], "not loop"),
    (["--ship"], "name them"),
    (["latent", "autoregressive", "--only", "made"], "name one benchmark"),
    (["latent", "--ship", "--budget", "smoke"], "learned nothing"),
    (["latent", "--steps", "0"], "--steps"),
])
def test_options_that_cannot_be_kept_are_refused_before_anything_is_trained(arguments, says, tmp_path):
    result = call(tmp_path, *arguments)
    assert result.exit_code == 2 and says in result.output and list(tmp_path.iterdir()) == []


def test_tables_are_the_benchmarks_that_ship():
    ships = {name for name in bench.BENCHMARKS if hasattr(bench.found(name), "recipes")}
    assert ships == set(bench.TABLES)
