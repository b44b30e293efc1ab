"""Laws of the fingerprint: it stays when nothing that matters changes, and moves when anything does."""

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from course_utils import distributions, metrics
from course_utils.fingerprint import fingerprint, imports
from course_utils.models import energy, vae

HEADER = {"torch": torch, "nn": nn, "vae": vae, "range": range}


def written(source, **values):
    """The functions and values of a notebook cell: run apart from this module, under the notebook's own name."""
    cell = {"__name__": "__main__", **HEADER, **values}
    exec(source, cell)
    return cell


BASE = """
scale = 2.0
def loss(x):
    return scale * x.square().mean()
def train():
    return [loss(torch.ones(3)) for _ in range(5)]
"""


@pytest.mark.parametrize("new", [
    BASE + "\nunused = 3",
    "# a comment\n\n" + BASE.replace("    return scale", "    # why\n    return scale"),
    BASE.replace("scale * x.square().mean()", "(scale *\n        x.square().mean())"),
])
def test_what_does_not_matter_does_not_count(new):
    assert fingerprint(written(new)["train"]) == fingerprint(written(BASE)["train"])


@pytest.mark.parametrize("old, new", [
    ("scale = 2.0", "scale = 2.5"),
    ("scale = 2.0", "scale = 2"),
    ("range(5)", "range(6)"),
    (".mean()", ".sum()"),
    ("scale * x", "scale + x"),
    ("torch.ones(3)", "torch.zeros(3)"),
    ("for _ in", "for scale in"),
])
def test_numbers_and_code_that_training_reaches_count(old, new):
    assert old in BASE
    assert fingerprint(written(BASE.replace(old, new))["train"]) != fingerprint(written(BASE)["train"])


def test_running_a_function_does_not_change_it():
    train = written(BASE)["train"]
    before = fingerprint(train)
    for _ in range(50):  # enough for Python to specialise the code
        train()
    assert fingerprint(train) == before


@dataclass
class Data:
    images: torch.Tensor
    name: str = "digits"


class Plain:
    def __init__(self, beta):
        self.beta = beta


class Scaled(nn.Module):
    def __init__(self, beta):
        super().__init__()
        self.beta = beta  # in neither repr nor state


def close_over(value):
    return lambda: value


@pytest.mark.parametrize("make", [lambda value: value, close_over, functools.partial(functools.partial, dict),
                                  lambda value: [value], lambda value: {"key": value}])
@pytest.mark.parametrize("a, b", [
    (1, 2), (1, 1.0), ("a", "b"), (None, False), ((1, 2), (2, 1)), ({"a", "b"}, {"a", "c"}),
    (torch.zeros(3), torch.tensor([0.0, 0.0, 1e-30])), (torch.zeros(3), torch.zeros(3, 1)),
    (torch.zeros(3), torch.zeros(3, dtype=torch.float64)), (torch.zeros(2).numpy(), torch.ones(2).numpy()),
    (Data(torch.zeros(3)), Data(torch.ones(3))), (Data(torch.zeros(3)), Data(torch.zeros(3), "letters")),
    (Plain(1.0), Plain(2.0)), (Scaled(1.0), Scaled(2.0)), (torch.relu, torch.sigmoid),
    (torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 2.0)),
    (nn.Sequential(nn.ReLU()), nn.Sequential(nn.GELU())), (metrics, distributions), (dict, list),
    (range(3), range(4)), (np.float64(1.0), np.float64(2.0)), (PCA(2), PCA(3)), (np.exp, np.log),
    (functools.cache(close_over(1)), functools.cache(close_over(2))),
])
def test_values_of_every_kind_count(make, a, b):
    assert fingerprint(make(a)) == fingerprint(make(a))
    assert fingerprint(make(a)) != fingerprint(make(b))


def test_weights_and_optimisers_count():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
    before = fingerprint(model)
    slow, fast = torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(model.parameters(), 0.2)
    assert fingerprint(slow) != fingerprint(fast)
    with torch.no_grad():
        model.weight[0, 0] += 1e-6
    assert fingerprint(model) != before


def test_the_source_of_the_package_counts_where_it_is_used(tmp_path, monkeypatch):
    cell = written("def train():\n    return model.loss(torch.ones(1, 1, 4, 4))", model=vae.mlp_vae((1, 4, 4), (5,), 2))
    before, of_module = fingerprint(cell["train"]), fingerprint(vae)
    assert {"course_utils.models.vae", "course_utils.distributions.basic"} <= imports("course_utils.models.vae")

    def edit(module):
        copy = tmp_path / Path(module.__file__).name
        copy.write_text(Path(module.__file__).read_text() + "# changed\n")
        monkeypatch.setattr(module, "__file__", str(copy))

    edit(energy)  # not used here
    assert fingerprint(cell["train"]) == before
    edit(distributions.basic)
    assert fingerprint(cell["train"]) != before
    assert fingerprint(vae) != of_module  # which reaches distributions only through its imports


@pytest.mark.parametrize("moving", [(x for x in "ab"), itertools.cycle("ab"), torch.Generator()])
def test_what_moves_on_while_used_is_refused_by_name(moving):
    cell = written("def train():\n    return next(batches)", batches=moving)
    with pytest.raises(ValueError, match="batches .* inside the function that trains"):
        fingerprint(cell["train"])
