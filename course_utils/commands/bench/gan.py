"""The GANs of chapter 05: feature networks that ship, four losses in the plane, and speed. ``course bench gan``."""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch

from course_utils import metrics, shipped, training
from course_utils.commands.bench.bench import seconds
from course_utils.commands.bench.tables import clocks, keep, made_by, rounded, since
from course_utils.data import densities, images
from course_utils.models import classifier
from course_utils.models.gan import model as gan
from course_utils.models.gan import objectives


@dataclass(frozen=True)
class Game:
    """One loss with its penalty, tried on 25 Gaussians: this course's grid, or the literature's harder one."""

    title: str
    loss: object
    penalty: object = None
    n_rounds: int = 1_000
    seeds: int = 3
    grid: tuple = (1.5, 0.15)  # spacing and standard deviation


def one_centred(critic, real, fake):
    return objectives.one_centred(critic, real, fake, weight=1.0)


GAMES = {
    "non_saturating": Game("non-saturating", objectives.non_saturating),
    "least_squares": Game("least squares", objectives.least_squares),
    "wasserstein": Game("Wasserstein, one-centred penalty", objectives.wasserstein, one_centred),
    "relativistic": Game("relativistic, R1 and R2", objectives.relativistic, gan.penalised(0.02, 0.02)),
    "relativistic_long": Game("the same, 12,000 rounds", objectives.relativistic, gan.penalised(0.02, 0.02), 12_000, 1),
    "relativistic_hard": Game("the same on the harder grid", objectives.relativistic, gan.penalised(0.02, 0.02), 12_000,
                              1, (2.0, 0.05)),
}
BATCH, LR, LOOKS = 128, 1e-3, 10


def play(game, seed, n_rounds, device="cpu"):
    """Train one game on its 25 Gaussians; what came out, as numbers of a row."""
    torch.manual_seed(seed)
    target = densities.twenty_five_gaussians(*game.grid, device=device)
    centres = target.component_distribution.mean
    model = gan.plane_gan(width=64, loss=game.loss, penalty=game.penalty, waves=(1.0, 2.0, 4.0)).to(device)
    optimizers = [torch.optim.Adam(net.parameters(), LR, (0.5, 0.99)) for net in (model.critic, model.generator)]
    looks = {n_rounds - k * max(1, n_rounds // 50) for k in range(LOOKS)}        # over the last fifth
    seen, start = [], clocks()

    def look(move):
        if move.player == "generator" and move.step in looks:
            seen.append(metrics.modes_and_fit(model.sample(2_000), centres, game.grid[1])["modes"])

    training.adversarial_fit(model.critic_loss, model.generator_loss, *optimizers,
                             iter(lambda: target.sample((BATCH,)), None), n_rounds, description=game.title,
                             schedulers=[training.cosine(o, n_rounds) for o in optimizers], callback=look)
    took = since(start)
    swing = torch.tensor(seen, dtype=torch.float64).std().item() if len(seen) > 1 else 0.0
    fit = metrics.modes_and_fit(model.sample(10_000), centres, game.grid[1])
    return {f"test_{name}": value for name, value in fit.items()} | {"test_swing": swing, **took}


def features(data, n_steps, device="cpu", seed=0):
    """The feature network of a data set, and its accuracy on test images."""
    torch.manual_seed(seed)
    model = classifier.feature_network(data.shape[0], len(data.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=n_steps)
    start = clocks()
    training.fit(model.loss, optimizer, images.batches(data.train.images, 64, data.train.labels), n_steps,
                 description="feature network", scheduler=schedule)
    took = since(start)
    with training.evaluating(model):
        logits = torch.cat([model(images.to_float(part)).logits for part in data.test.images.split(1_000)])
    return model, {"test_accuracy": metrics.accuracy(logits, data.test.labels), "n_steps": n_steps, **took}


class Games:
    """``course bench gan``: the games of ``GAMES``, with seeds from ``--seed`` on, and steps a second.

    ``--only features`` trains the feature network of ``--dataset`` instead. ``--ship`` writes rows and weights.
    """

    recipes = dict.fromkeys((*GAMES, "features"))

    def __call__(self, setting):
        brief = setting.budget == "smoke"
        for name in setting.only or GAMES:
            if name == "features":
                yield self.one_reader(setting, brief)
                continue
            for seed in range(setting.seed, setting.seed + (1 if brief or setting.only else GAMES[name].seeds)):
                n_rounds = 20 if brief else setting.steps or GAMES[name].n_rounds
                row = {"name": name, "title": GAMES[name].title, "seed": seed, "n_steps": n_rounds,
                       **rounded(play(GAMES[name], seed, n_rounds, setting.device))}
                if setting.ship:
                    keep("gan_losses.json", made_by("gan", name, replace(setting, seed=seed)) | row, GAMES,
                         ("name", "seed"))
                yield row
        if not setting.only:
            yield from speed(setting.device, brief)

    @staticmethod
    def one_reader(setting, brief):
        n = 500 if brief else 40_000 if setting.dataset == "handwriting" else None
        data = images.load(setting.dataset, n=n, seed=setting.seed + 17, data_dir=setting.data_dir).to(setting.device)
        model, found = features(data, 20 if brief else setting.steps or 4_000, setting.device, setting.seed)
        if setting.ship:
            row = found | made_by("gan", "features", setting) | {"n_train": len(data.train)}
            file = shipped.folder() / f"features_{setting.dataset}.safetensors"
            training.save_weights(file, model, row, torch.float16)
        return {"title": f"feature network, {setting.dataset}", **found}


def speed(device, brief):
    """Rounds a second of the DCGAN on 28×28, by width and batch."""
    for width, batch in ((8, 32), (16, 32), (32, 32), (16, 64), (16, 128)):
        model = gan.dcgan(width=width, critic_width=16, penalty=gan.penalised(0.5, share=0.25)).to(device)
        optimizers = [torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.99)) for net in (model.critic, model.generator)]
        x = torch.rand(batch, 1, 28, 28, device=device)
        rounds = 2 if brief else 20

        def run(model, optimizers, x, rounds):
            for _ in training.adversarial_steps(model.critic_loss, model.generator_loss, *optimizers,
                                                iter(lambda: x, None), rounds):
                pass

        took = seconds(1 if brief else 3, dcgan=partial(run, model, optimizers, x, rounds))["dcgan"]
        yield {"title": f"DCGAN, width {width}, batch {batch}", "rounds_a_second": rounds / max(took, math.ulp(1.0))}


TABLE = Games()
