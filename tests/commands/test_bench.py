"""``course bench``: measures in turns, prints tables, writes them, and goes on past a benchmark that fails."""

import json
from dataclasses import asdict
from importlib import import_module

import pytest
from click.testing import CliRunner

from course_utils.commands.bench import bench


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
    assert written["setting"] == {**asdict(bench.Setting()), "budget": "smoke", "seed": 3}
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
