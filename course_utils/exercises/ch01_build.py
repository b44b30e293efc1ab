"""The build exercise of chapter 01: an energy-based model, trained by maximum likelihood."""

import math

import torch

from course_utils import checks
from course_utils.exercises import Exercise, Finding
from course_utils.exercises.small import model_findings, windows

# ------------------------------------------------------------------------------- an energy model, trained from scratch
N_STEPS, MAX_WEIGHTS, BAR = 400, 1_000, 5.05


def train_energy_model(images, n_steps):
    """An energy-based model of black-and-white images of 3×3 pixels, trained by maximum
    likelihood.

    images: (N, 9), entries 0 or 1, what to learn from.
    n_steps: how many steps of your optimizer to take; the check asks for 400.
    Returns a torch.nn.Module with at most 1,000 weights and two methods: energy(x), from (B,
    9) to (B,), and log_prob(x), from (B, 9) to (B,), the logarithm of (1.13) in nats, with Z
    summed over all 512 images.
    """

    class EnergyModel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.Sequential(torch.nn.Linear(9, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

        def energy(self, x):
            return self.network(x)[:, 0]

        def log_prob(self, x):
            every = checks.all_binary(9)  # (512, 9)
            return -self.energy(x) - torch.logsumexp(-self.energy(every), 0)

    model = EnergyModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(n_steps):
        batch = images[torch.randint(len(images), (200,))]
        loss = -model.log_prob(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def _energy_trial(train, generator):
    images, held_out = windows()
    model = train(images[:1_000].clone(), 2)
    some = held_out[torch.randperm(len(held_out), generator=generator)[:50]]
    yield from model_findings(model, ("energy", "log_prob"), some, MAX_WEIGHTS)
    with torch.no_grad():
        every = checks.all_binary(9)
        energy, log_p = model.energy(every), torch.cat([model.log_prob(part) for part in every.split(7)])
        together, total = model.log_prob(some), log_p.exp().sum().item()
    alone = log_p[(some @ 2 ** torch.arange(9.0)).long()]
    yield Finding(
        "an image has the same probability whichever images stand beside it",
        torch.allclose(alone, together, atol=1e-4),
        f"Among 50 others one image got log p = {together[0]:.3f}, in a batch of seven {alone[0]:.3f}.",
        "Z is one number for the model: sum exp(−E) over all 512 images, checks.all_binary(9), not over the batch.",
    )
    agree = torch.allclose(log_p - log_p[0], energy[0] - energy, atol=1e-4)
    yield Finding(
        "low energy means probable: log p(a) − log p(b) = E(b) − E(a)",
        agree,
        "The two sides differ." if not agree else "The two sides agree.",
        "p(x) is exp(−E(x)) / Z: mind the minus signs, and keep Z the same for all images.",
    )
    yield Finding(
        "all 512 images share one unit of probability",
        abs(total - 1) < 1e-3,
        f"Their probabilities add up to {total:.4g}.",
        "Subtract log Z, the logsumexp of −E over all 512 images, in the same sign and with nothing left out.",
    )
    weights = list(model.parameters())
    slopes = torch.autograd.grad((log_p.exp() * model.log_prob(every)).sum(), weights, allow_unused=True)
    largest = max((slope.abs().max().item() for slope in slopes if slope is not None), default=0.0)
    yield Finding(
        "a gradient passes through Z: the mean of ∇ log p under p is 0",
        largest < 1e-3,
        f"Its largest entry is {largest:.2g}.",
        "Σ p ∇ log p = ∇ Σ p = ∇ 1 = 0. Where it is not, log Z is cut off: no detach, no no_grad, no item().",
    )
    model = train(images.clone(), N_STEPS)
    with torch.no_grad():
        log_p = model.log_prob(every)  # held-out images are looked up here, where all were asked for at once
        total = log_p.exp().sum().item()
        nats = -log_p[(held_out @ 2 ** torch.arange(9.0)).long()].mean().item()
    yield Finding(
        "all 512 images share one unit of probability, after training as well",
        abs(total - 1) < 1e-3,
        f"Their probabilities add up to {total:.4g}.",
        "log_prob has to be the same function at every call, whatever n_steps is.",
    )
    yield Finding(
        f"below {BAR} nats on images it has not seen, after {N_STEPS} steps",
        nats < BAR,
        f"{nats:.3f} nats per held-out image. Independent pixels need 6.12, the best there could be 4.91.",
        _energy_hint(nats),
    )


def _energy_hint(nats):
    """What to look at, from how far a trained model is."""
    if not nats < 20:
        return "It gets worse the longer it trains. Descend on −log p, and let the gradient run through Z as well."
    if nats > 6.0:
        return "It has not learned. Is the loss −log p with Z in it, does the optimizer hold the weights, does it step?"
    return "It learns, too little. Give the network a hidden layer of 16 to 50 units; try a learning rate around 0.01."


def _energy_unnormalised(images, n_steps):
    """Z is left out."""
    model = train_energy_model(images, n_steps)
    model.log_prob = lambda x: -model.energy(x)
    return model


def _energy_z_of_the_batch(images, n_steps):
    """Z is summed over the batch."""
    model = train_energy_model(images, n_steps)
    model.log_prob = lambda x: -model.energy(x) - torch.logsumexp(-model.energy(x), 0)
    return model


def _energy_upside_down(images, n_steps):
    """The minus is lost: high energy is made probable."""
    model = train_energy_model(images, n_steps)
    model.log_prob = lambda x: model.energy(x) - torch.logsumexp(model.energy(checks.all_binary(9)), 0)
    return model


def _energy_mean_for_sum(images, n_steps):
    """Z is a mean over the 512 images."""
    model = train_energy_model(images, n_steps)
    every = checks.all_binary(9)
    model.log_prob = lambda x: -model.energy(x) - torch.logsumexp(-model.energy(every), 0) + math.log(512)
    return model


def _energy_z_cut_off(images, n_steps):
    """Z is detached."""
    model = train_energy_model(images, n_steps)
    every = checks.all_binary(9)
    model.log_prob = lambda x: -model.energy(x) - torch.logsumexp(-model.energy(every), 0).detach()
    return model


def _energy_with(images, n_steps, loss_of, width=32):
    """A sound model, trained on ``loss_of(model, batch)``."""
    model = train_energy_model(images, 0)
    model.network = torch.nn.Sequential(torch.nn.Linear(9, width), torch.nn.Tanh(), torch.nn.Linear(width, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(n_steps):
        loss = loss_of(model, images[torch.randint(len(images), (200,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def _energy_z_without_gradient(images, n_steps):
    """The loss is the energy of the data alone, so it pushes energies down everywhere."""
    return _energy_with(images, n_steps, lambda model, batch: model.energy(batch).mean())


def _energy_ascends(images, n_steps):
    """It climbs where it should descend."""
    return _energy_with(images, n_steps, lambda model, batch: model.log_prob(batch).mean())


def _energy_untrained(images, n_steps):
    """Nothing is trained."""
    return train_energy_model(images, 0)


def _energy_too_wide(images, n_steps):
    """It has more weights than are allowed."""
    return _energy_with(images, 0, None, width=200)


TRAIN_ENERGY_MODEL = Exercise(
    "1.6", 3, train_energy_model, kind="build", trial=_energy_trial,
    wrong=(_energy_unnormalised, _energy_z_of_the_batch, _energy_upside_down, _energy_mean_for_sum, _energy_z_cut_off,
           _energy_z_without_gradient, _energy_ascends, _energy_untrained, _energy_too_wide),
)  # fmt: skip
