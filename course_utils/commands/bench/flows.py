"""The flows of chapter 06 over the plane, and the digits with 17 grey levels on which families compare."""

import time
from dataclasses import replace

import torch

from course_utils import metrics, shipped, training
from course_utils.commands.bench.tables import Table, clocks, made_by, rounded, since, size
from course_utils.data import images
from course_utils.models.flow import coupling
from course_utils.recipes import digits
from course_utils.recipes.flow import PLANE, train_plane


def kl_on_grid(density, log_prob, end=5.5, n=500):
    r"""KL(p ‖ q) of two densities of the plane in nats, by the midpoint rule, and how much of q the grid covers."""
    axis, volume = (torch.arange(n) + 0.5) / n * 2 * end - end, (2 * end / n) ** 2
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_p = density.log_prob(points).double()
        log_q = torch.cat([log_prob(part) for part in points.split(50_000)]).double()
    p, seen = log_p.exp() * volume, log_p > -100
    return (p[seen] * (log_p - log_q)[seen]).sum().item(), log_q.exp().sum().item() * volume


class PlaneTable(Table):
    """``course bench flows``: each recipe over the plane, KL(p ‖ q) beside the exact entropy of p."""

    def __call__(self, setting):
        setting = replace(setting, dataset="plane")
        for name in setting.only or (PLANE if setting.budget == "full" else self.promised):
            recipe = PLANE[name]
            n_steps = min(20, recipe.n_steps) if setting.budget == "smoke" else setting.steps or recipe.n_steps
            start = clocks()
            flow = train_plane(recipe, device=setting.device, seed=setting.seed, n_steps=n_steps)
            took = since(start)
            density = recipe.density(device=setting.device)
            kl, covered = kl_on_grid(density, flow.log_prob)
            row = {"name": name, "title": recipe.title, **rounded({"test_kl": kl, "mass_on_grid": covered,
                   "entropy": density.entropy().item()}), "parameters": size(flow), "n_steps": n_steps,
                   "batch_size": recipe.batch_size, "lr": recipe.lr, **took,
                   **made_by(self.name, name, setting)}  # fmt: skip
            if setting.ship:
                self.ship(name, flow, row, "plane")
                training.save_weights(shipped.folder() / f"flow_{name}.safetensors", flow, row, torch.float16)
            yield {column: row[column] for column in self.columns}


def measure_digits(name, model, data, brief=False):
    """Nats of the test images, exact or by a bound, and seconds to draw 64 images."""
    x = images.to_float(data.test.images[: 40 if brief else None])
    numbers = digits.score(name, model, x, 4 if brief else 64)
    start = time.process_time()
    with training.evaluating(model):
        model.sample(64)
    nats = torch.tensor(numbers["test_nats"])
    return {**numbers, "bits_per_dim": metrics.bits_per_dim(-nats, x[0].numel()).item(),
            "sample_64_cpu_seconds": round(time.process_time() - start, 3)}


class DigitsTable(Table):
    """``course bench digits``: one data set, 17 levels, all families; the rows lie in ``digits17.json``."""

    def __call__(self, setting):
        return super().__call__(replace(setting, dataset="digits"))


DIGITS = DigitsTable(
    "digits", digits.RECIPES, measure_digits, file="digits17.json",
    columns=("title", "test_nats", "kind", "bits_per_dim", "parameters", "n_steps", "train_cpu_seconds",
             "sample_64_cpu_seconds"),
)  # fmt: skip


def growth(setting):
    """Seconds of one training step of spline couplings over D numbers, as D and the number of layers grow."""
    repeats = 1 if setting.budget == "smoke" else 5
    for n_features, n_layers in ((2, 4), (2, 8), (2, 16), (16, 8), (64, 8), (256, 8)):
        flow = coupling.spline_flow(n_features, n_layers).to(setting.device)
        x = torch.randn(128, n_features, device=setting.device)
        with torch.no_grad():
            z, _ = flow(x)

        def step(flow=flow, x=x):
            flow.loss(x)["loss"].backward()

        def draw(flow=flow, z=z):
            with torch.no_grad():
                flow.inverse(z)

        yield {"D": n_features, "layers": n_layers, "parameters": size(flow), "step s": timed(step, repeats),
               "draw 128 s": timed(draw, repeats)}


def timed(work, repeats):
    """The least CPU seconds of ``repeats`` calls after one to warm up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


TABLE = PlaneTable(
    "flows", PLANE, measure=None,
    columns=("title", "test_kl", "entropy", "parameters", "n_steps", "train_cpu_seconds"),
    promised=("checkerboard_affine", "checkerboard_spline", "pinwheel_affine", "pinwheel_spline"),
)  # fmt: skip
