"""The build exercise of chapter 04: a small VAE, its bound held against the exact integral."""

import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from course_utils.exercises import Exercise, Finding
from course_utils.exercises.compare import kind_of
from course_utils.exercises.small import ink, model_findings

N_STEPS, MAX_WEIGHTS, BAR = 600, 20_000, 22.0


def small_vae():
    """A VAE of black-and-white images of 8×8 pixels, with two latents and the prior N(0, I).

    The check trains it for 600 steps on -elbo(x).mean(). Returns a torch.nn.Module with at
    most 20,000 weights and three methods, x being (B, 64), entries 0 or 1:
    encode(x) gives mu and log_var, each (B, 2);
    decode(z), from (B, 2), gives the logits of the pixels, (B, 64);
    elbo(x) gives (B,), in nats, from one draw of z for each image, anew at every call.
    """

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 4))
            self.decoder = nn.Sequential(nn.Linear(2, 100), nn.ReLU(), nn.Linear(100, 64))

        def encode(self, x):
            return self.encoder(x).chunk(2, 1)

        def decode(self, z):
            return self.decoder(z)

        def elbo(self, x):
            mu, log_var = self.encode(x)
            z = mu + (log_var / 2).exp() * torch.randn_like(mu)
            cost = nn.functional.binary_cross_entropy_with_logits(self.decode(z), x, reduction="none")
            return -cost.sum(1) - 0.5 * (mu.square() + log_var.exp() - log_var - 1).sum(1)

    return VAE()


def _log_p(logits, x):
    return (x * logits - F.softplus(logits)).sum(-1)


def _kl(mu, log_var):
    return (0.5 * (mu.square() + log_var.exp() - log_var - 1)).sum(1)


def _exact(model, x, n=161):
    """``(log p(x), KL(q || posterior), E_q[log p(x|z)])`` of each image, by sums over a grid of the latent plane."""
    mu, log_var = model.encode(x)
    reach = max(6.0, (mu.abs() + 6 * (log_var / 2).exp()).max().item())
    ticks = torch.linspace(-reach, reach, n)
    plane = torch.cartesian_prod(ticks, ticks)  # (G, 2)
    log_p_given_z = _log_p(model.decode(plane), x[:, None])  # (B, G)
    log_joint = Normal(0.0, 1.0).log_prob(plane).sum(1) + log_p_given_z
    log_p = log_joint.logsumexp(1) + 2 * (ticks[1] - ticks[0]).log()
    log_q = Normal(mu[:, None], (log_var / 2).exp().clamp_min(1e-4)[:, None]).log_prob(plane).sum(2)
    q = log_q.softmax(1)
    return log_p, (q * (log_q - log_joint + log_p[:, None])).sum(1), (q * log_p_given_z).sum(1)


def _elbo_by_grid(model, x, n=161, reach=6.0):
    """The bound of each image from encode and decode alone, (B,): the plane is decoded before the images are shown."""
    ticks = torch.linspace(-reach, reach, n)
    plane = torch.cartesian_prod(ticks, ticks)  # (G, 2)
    logits = model.decode(plane)
    log_p_given_z = x @ logits.T - F.softplus(logits).sum(1)  # (B, G)
    log_prior = Normal(0.0, 1.0).log_prob(plane).sum(1).log_softmax(0)
    mu, log_var = model.encode(x)
    scale = (log_var / 2).exp().clamp_min(1e-4)
    log_q = Normal(mu[:, None], scale[:, None]).log_prob(plane).sum(2).log_softmax(1)
    return (log_q.exp() * (log_p_given_z + log_prior - log_q)).sum(1)


def _vae_trial(build, generator):
    images, held_out = ink()
    model = build()
    yield from model_findings(model, (), images[:5], MAX_WEIGHTS)
    for name in ("encode", "decode", "elbo"):
        has = callable(getattr(model, name, None))
        what = f"The model has {'the' if has else 'no'} method {name}."
        yield Finding(f"the model has the method {name}", has, what, f"Define {name} inside the class.")
    code = model.encode(images[:5])
    pair = isinstance(code, tuple | list) and [getattr(part, "shape", None) for part in code] == 2 * [(5, 2)]
    what = f"For 5 images encode gave {kind_of(code)}."
    yield Finding("encode gives mu and log_var, each (5, 2)", pair, what, "One output of 4 numbers, then .chunk(2, 1).")
    shape, few = (getattr(out, "shape", None) for out in (model.decode(torch.zeros(3, 2)), model.elbo(images[:5])))
    what = f"3 codes gave the shape {tuple(shape or ())}."
    yield Finding("decode gives 64 logits for each code", shape == (3, 64), what, "A network from 2 numbers to 64.")
    what = f"5 images gave the shape {tuple(few or ())}."
    hint = "Sum over pixels and latents, .sum(1), never over the images."
    yield Finding("elbo gives one number for each image", few == (5,), what, hint)
    with torch.no_grad():  # weights three times as large make codes and pixels that are not all alike
        for weight in (vivid := build()).parameters():
            weight *= 3
    yield from _bound(vivid, images, generator, "with random weights")
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(N_STEPS):
        x = images[torch.randint(len(images), (128,), generator=generator)]
        optimizer.zero_grad()
        (-model.elbo(x).mean()).backward()
        optimizer.step()
    yield from _bound(model, held_out, generator, "after training")
    with torch.no_grad():
        nats = -_elbo_by_grid(model, held_out).mean().item()
    yield Finding(
        f"−ELBO below {BAR:g} nats on images it has not seen, after {N_STEPS} steps",
        nats < BAR,
        f"{nats:.2f} nats per held-out image. Independent pixels need 25.3.",
        "Near 25 the code says nothing. Give both networks a hidden layer of 50 to 120 units, with a nonlinearity.",
    )


def _bound(model, images, generator, when):
    """The mean of elbo over many draws is log p minus the KL to the posterior, both from a grid."""
    x = images[torch.randperm(len(images), generator=generator)[:4]]
    with torch.no_grad():
        log_p, gap, reconstruction = _exact(model, x)
        drawn = torch.cat([model.elbo(x.repeat(500, 1)).view(500, -1) for _ in range(20)])
        error = drawn.std(0) / len(drawn) ** 0.5
        off = drawn.mean(0) - (log_p - gap)
        worst = off.abs().argmax()
        kl = _kl(*model.encode(x))
    moves = bool((drawn.std(0) > 1e-6).all())
    found = "Two calls differ." if moves else "Two calls give the same number."
    hint = "z = mu + (log_var / 2).exp() * torch.randn_like(mu), inside elbo."
    yield Finding(f"every call of elbo draws z anew, {when}", moves, found, hint)
    yield Finding(
        f"the mean of elbo is log p(x) minus the KL from q to the posterior, {when}",
        bool((off.abs() < 0.03 + 0.0005 * log_p.abs() + 5 * error).all()),
        f"On one image it is {drawn.mean(0)[worst]:.2f}. By a grid over z, log p(x) = {log_p[worst]:.2f}, and the KL "
        f"from q to the posterior is {gap[worst]:.2f}.",
        _bound_hint(drawn.mean(0), reconstruction, kl),
    )
    aligned = _aligned(model, images[:200], generator)
    yield Finding(
        f"the gradient passes through the draw to the encoder, {when}",
        aligned > 0.9,
        f"Its direction and that of (4.9) agree to {aligned:.2f}, where 1 is the same.",
        "Compute z from mu and log_var with torch's own operations: no detach, no no_grad, no sample().",
    )


def _bound_hint(elbo, reconstruction, kl):
    """Which of the usual formulas the mean of elbo looks like."""
    candidates = {
        "The sign is turned: elbo is the bound, and the loss its negative.": kl - reconstruction,
        "The KL is a price: subtract it.": reconstruction + kl,
        "The KL is missing: this is the reconstruction alone.": reconstruction,
        "The KL has a factor one half.": reconstruction - 2 * kl,
        "Sum the KL over the latents; do not average.": reconstruction - kl / 2,
        "Sum over the 64 pixels; a mean makes the reconstruction too small.": reconstruction / 64 - kl,
    }
    best = min(candidates, key=lambda name: (elbo - candidates[name]).abs().mean().item())
    if (elbo - candidates[best]).abs().mean() < 0.5 * (elbo - reconstruction + kl).abs().mean():
        return best
    return "Draw with the standard deviation exp(log_var / 2), take log p(x|z) of *logits*, and subtract the KL (4.7)."


def _aligned(model, x, generator, rounds=20):
    """Cosine between the encoder's gradient of elbo and that of the reparameterised bound, both over many draws."""
    code = model.encode(x)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    reached = torch.autograd.grad(sum(part.sum() for part in code), weights, allow_unused=True)
    weights = [weight for weight, slope in zip(weights, reached, strict=True) if slope is not None]
    mu, log_var = model.encode(x)
    z = mu + (log_var / 2).exp() * torch.randn(rounds, *mu.shape, generator=generator)
    bound = _log_p(model.decode(z.flatten(0, 1)), x.repeat(rounds, 1)).mean() - _kl(mu, log_var).mean()
    value = torch.stack([model.elbo(x).mean() for _ in range(rounds)]).mean()
    if not value.requires_grad:
        return 0.0
    pairs = [torch.autograd.grad(v, weights, allow_unused=True, materialize_grads=True) for v in (value, bound)]
    theirs, ours = (torch.cat([slope.flatten() for slope in slopes]) for slopes in pairs)
    return F.cosine_similarity(theirs, ours, dim=0).item()


class _VAE(nn.Module):
    """The reference with its elbo put together from parts that may be wrong."""

    def __init__(self, elbo, hidden=100):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 4))
        self.decoder = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, 64))
        self.formula = elbo

    def encode(self, x):
        return self.encoder(x).chunk(2, 1)

    def decode(self, z):
        return self.decoder(z)

    def elbo(self, x):
        return self.formula(self, x, *self.encode(x))


def _draw(mu, log_var):
    return mu + (log_var / 2).exp() * torch.randn_like(mu)


def _vae_plus_kl():
    """The KL is added."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x) + _kl(mu, v))


def _vae_loss():
    """elbo returns the loss."""
    return _VAE(lambda m, x, mu, v: -_log_p(m.decode(_draw(mu, v)), x) + _kl(mu, v))


def _vae_without_kl():
    """An autoencoder with noise."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x))


def _vae_kl_twice():
    """The one half of the KL is missing."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x) - 2 * _kl(mu, v))


def _vae_pixel_mean():
    """The reconstruction is a mean over the pixels."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x) / 64 - _kl(mu, v))


def _vae_variance_for_sigma():
    """The noise is scaled by the variance."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(mu + v.exp() * torch.randn_like(mu)), x) - _kl(mu, v))


def _vae_without_draw():
    """The mean of the code is decoded."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(mu), x) - _kl(mu, v))


def _vae_detached():
    """The draw is cut off."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v).detach()), x) - _kl(mu, v))


def _vae_squared_error():
    """Squared error for binary pixels."""
    return _VAE(lambda m, x, mu, v: -(m.decode(_draw(mu, v)).sigmoid() - x).square().sum(1) - _kl(mu, v))


def _vae_batch_mean():
    """One number for the whole batch."""
    return _VAE(lambda m, x, mu, v: (_log_p(m.decode(_draw(mu, v)), x) - _kl(mu, v)).mean())


def _vae_too_large():
    """More weights than are allowed."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x) - _kl(mu, v), hidden=400)


def _vae_narrow():
    """Two hidden units."""
    return _VAE(lambda m, x, mu, v: _log_p(m.decode(_draw(mu, v)), x) - _kl(mu, v), hidden=2)


SMALL_VAE = Exercise(
    "4.6", 3, small_vae, kind="build", trial=_vae_trial,
    wrong=(_vae_plus_kl, _vae_loss, _vae_without_kl, _vae_kl_twice, _vae_pixel_mean, _vae_variance_for_sigma,
           _vae_without_draw, _vae_detached, _vae_squared_error, _vae_batch_mean, _vae_too_large, _vae_narrow),
)  # fmt: skip
