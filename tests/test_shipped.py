"""What comes with the course still fits the code, the data, and what its metadata says."""

import json
import shlex
from types import SimpleNamespace

import pytest
import torch

from course_utils import shipped, training
from course_utils.commands.bench import bench
from course_utils.data import images
from course_utils.recipes import autoregressive, digits, latent
from course_utils.recipes.flow import PLANE

MADE_BY = {"command", "seed", "test_nats", "n_steps", "date", "torch", "train_cpu_seconds"}
LIKE_DIGITS = SimpleNamespace(shape=(1, 28, 28), classes=range(10))  # what a recipe looks at
WEIGHTS = [f"{name}_{dataset}" for dataset in ("handwriting", "mnist") for name in ("pixelcnn", "conditional")]


@pytest.mark.parametrize("name", WEIGHTS)
def test_shipped_pixelcnns_load_and_say_how_they_were_made(name):
    model = autoregressive.RECIPES[name.split("_")[0]].make(LIKE_DIGITS)
    about = training.load_weights(shipped.path(f"{name}.safetensors"), model)
    assert set(about) >= MADE_BY
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_a_shipped_model_still_fits_its_data():
    """Test nats of 100 images against the recorded mean: they differ by less than 6 unless the images have changed."""
    model = autoregressive.RECIPES["pixelcnn"].make(LIKE_DIGITS)
    about = training.load_weights(shipped.path("pixelcnn_handwriting.safetensors"), model)
    test = images.binarised(images.load("handwriting", n=1), seed=0).test[:100]
    with training.evaluating(model), torch.random.fork_rng():
        found = -model.log_prob(images.to_float(test.images)).mean().item()
    assert abs(found - about["test_nats"]) < 6


@pytest.mark.parametrize("dataset", ["handwriting", "mnist"])
def test_tables_are_complete_and_private_to_nobody(dataset):
    rows = shipped.results(f"autoregressive_{dataset}.json")["rows"]
    assert {row["name"] for row in rows} == set(autoregressive.RECIPES)
    for row in rows:
        assert set(row) >= MADE_BY
        assert 78 < row["test_nats"] < 230                           # below: a leak, until shown otherwise
        assert row["command"].startswith("course bench autoregressive --only " + row["name"])
        assert "/" not in row["command"]
    assert json.dumps(rows).isascii()


@pytest.mark.parametrize("name", PLANE)
def test_shipped_planar_flows_are_as_near_to_their_density_as_was_recorded(name):
    """KL on 5,000 fresh points against the one on a grid: within 0.06 nats (five standard errors are less)."""
    recipe, flow = PLANE[name], PLANE[name].make()
    about = training.load_weights(shipped.path(f"flow_{name}.safetensors"), flow)
    x = recipe.density().sample((5_000,))
    with torch.no_grad():
        kl = (recipe.density().log_prob(x) - flow.log_prob(x)).mean().item()
    assert abs(kl - about["test_kl"]) < 0.06
    row = {row["name"]: row for row in shipped.results("flows_plane.json")["rows"]}[name]
    assert row["test_kl"] == about["test_kl"]
    bar = 0.35 if name == "checkerboard_affine" else 0.15 if name == "checkerboard_spline" else 0.05
    assert row["test_kl"] < bar or name.endswith("gaussians_affine") or name == "pinwheel_affine"


def test_all_families_stand_in_the_table_of_the_digits():
    rows = {row["name"]: row for row in shipped.results("digits17.json")["rows"]}
    assert set(digits.RECIPES) <= set(rows)
    bars = {"independent": 109, "mixture": 100, "pixelcnn": 82, "vae": 94, "flow": 90, "diffusion": 84}
    for name, bar in bars.items():
        assert 70 < rows[name]["test_nats"] < bar and rows[name]["kind"].startswith(("exact", "bound"))


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match="nothing named 'x.json'"):
        shipped.path("x.json")


# What the course promises of training that takes three minutes on two cores: nats, squared errors, accuracies.
PROMISED = {
    "vae_784_400_2_centred": {"test_neg_elbo": 149}, "vae_784_400_20_silu": {"test_neg_elbo": 96, "test_nll": 91},
    "ae_784_400_32": {"test_mse_per_pixel": 0.0070}, "sparse": {"test_probe_accuracy": -0.96},
    "contractive": {"test_probe_accuracy": -0.96}, "vqvae": {"test_neg_elbo": 125},
}  # fmt: skip


@pytest.mark.parametrize("dataset", ["handwriting", "mnist"])
def test_tables_of_the_latent_models_keep_what_is_promised(dataset):
    rows = {row["name"]: row for row in shipped.results(f"latent_{dataset}.json")["rows"]}
    for name, bars in PROMISED.items():
        for number, bar in bars.items():
            found = rows[name][number]
            assert found <= bar if bar > 0 else found >= -bar, f"{name}: {number} is {found}"
            assert not number.endswith(("elbo", "nll")) or found > 78, f"{name}: no honest result is below 78 nats"


@pytest.mark.parametrize("name", ["vae_784_400_2", "ae_784_400_2"])
def test_shipped_latent_models_load_and_still_fit_their_data(name):
    """The number on 500 images against the recorded mean: within 8 %, unless the images or the code have changed."""
    data = images.load("handwriting", n=1)
    model = latent.RECIPES[name].make(data)
    for part in ("encoder", "decoder"):
        about = training.load_weights(shipped.path(f"{name}_{part}.safetensors"), getattr(model, part))
    fixed = images.binarised(data, seed=0) if name.startswith("vae") else data
    x = images.to_float(fixed.test.images[:500])
    with training.evaluating(model), torch.random.fork_rng():
        if name.startswith("vae"):
            found, recorded = -model.elbo(x).mean().item(), about["test_neg_elbo"]
        else:
            found, recorded = (x - model(x)).square().mean().item(), about["test_mse_per_pixel"]
    assert found == pytest.approx(recorded, rel=0.08)


@pytest.mark.parametrize("dataset", ["handwriting", "mnist"])
def test_tables_of_the_latent_models_are_what_the_recipes_give(dataset):
    for row in shipped.results(f"latent_{dataset}.json")["rows"]:
        recipe = latent.RECIPES[row["name"]]
        assert (row["title"], row["lr"], row["batch_size"]) == (recipe.title, recipe.lr, recipe.batch_size)
        assert row["n_steps"] == recipe.n_steps or f"--steps {row['n_steps']}" in row["command"]
        assert "/" not in row["command"]


COMMANDS = sorted({(row["name"], row["command"]) for path in shipped.folder().glob("*.json")
                   for row in json.loads(path.read_text())["rows"] if "name" in row})


@pytest.mark.parametrize("name, command", COMMANDS, ids=[" ".join(pair) for pair in COMMANDS])
def test_the_command_of_every_row_is_one_that_course_bench_takes(name, command):
    course, verb, *arguments = shlex.split(command)
    context = bench.main.make_context(verb, arguments)
    (table,), only = context.params["names"], context.params["only"]
    assert (course, verb, only) == ("course", "bench", (name,)) and context.params["ship"]
    assert name in bench.found(table).recipes
    bench.refuse((table,), only, context.params["steps"], True)
