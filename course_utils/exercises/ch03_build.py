"""The build exercise of chapter 03: a denoiser, trained from scratch."""

import torch
from torch import nn

from course_utils.exercises import Exercise, Finding
from course_utils.exercises.small import digits, model_findings

N_STEPS, NOISE, MAX_WEIGHTS, BAR = 600, 0.3, 40_000, 0.022


def train_denoiser(images, noise, n_steps):
    """A network that takes Gaussian noise of a known size out of small images.

    images: (N, 64), clean images in [0, 1], what to learn from.
    noise: sigma, the standard deviation of the noise; the check asks for 0.3.
    n_steps: how many steps of your optimizer to take; the check asks for 600.
    Returns a torch.nn.Module with at most 40,000 weights: called with noisy images (B, 64) it
    gives clean ones (B, 64).
    """
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(n_steps):
        clean = images[torch.randint(len(images), (128,))]
        noisy = clean + noise * torch.randn_like(clean)  # new noise at every step
        loss = (network(noisy) - clean).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def _denoiser_trial(train, generator):
    images, held_out = digits()
    before = images.clone()
    model = train(images, NOISE, 2)
    yield from model_findings(model, (), held_out[:5], MAX_WEIGHTS)
    shape = getattr(model(held_out[:5]), "shape", None)
    hint = "As many pixels come out as went in."
    yield Finding("5 noisy images give 5 images of 64 pixels", shape == (5, 64), f"They gave the shape {shape}.", hint)
    same = torch.equal(images, before)
    found = "They are as they were." if same else "They are not what they were."
    yield Finding("the training images are left as they are", same, found, "Add noise to a copy, not in place with +=.")
    model = train(images, NOISE, N_STEPS)
    noisy = held_out + NOISE * torch.randn(held_out.shape, generator=generator)
    with torch.no_grad():
        error = (model(noisy) - held_out).square().mean().item()
        on_clean = (model(held_out) - held_out).square().mean().item()
    yield Finding(
        f"squared error per pixel below {BAR} on noisy images it has not seen, after {N_STEPS} steps",
        error < BAR,
        f"{error:.4f} is left. Doing nothing leaves {NOISE**2:.2f}, the mean image 0.0737, the best linear map 0.0232.",
        _denoiser_hint(error, on_clean),
    )


def _denoiser_hint(error, on_clean):
    """What to look at, from the error on noisy images and on clean ones."""
    if not error < 0.5:
        return "That is worse than doing nothing. The target is the clean image, not the noise."
    if error > 0.15:
        return "It has not learned. Does the optimizer hold the network's weights, and does it step?"
    if error > 0.085:
        return "It copies the noise. Give it the noisy image, and compare what comes out with the *clean* one."
    if on_clean < 0.001:
        return "It never saw noise in training: it is very good on clean images. Give it clean + noise * randn."
    if on_clean < 0.005:
        return "It is used to too little noise. Scale by sigma itself, and add the noise to the input, not the target."
    if error < 0.0245:
        return "The best *linear* map leaves 0.0232. Use a hidden layer with a nonlinearity, and a rate around 0.005."
    if on_clean > 0.025:
        return "It is used to more noise than it gets, or it is too narrow. Scale by sigma; use 100 hidden units."
    if error < 0.03:
        return "Good on what it saw, less so on new noise. Draw the noise anew at every step; try a rate around 0.005."
    return "Is the noise Gaussian, randn and not rand? The check adds sigma * randn."


def _denoiser_with(images, n_steps, pair, width=128):
    """A network trained to turn the first of ``pair(batch, indices)`` into the second."""
    network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 64))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(n_steps):
        indices = torch.randint(len(images), (128,))
        given, wanted = pair(images[indices], indices)
        loss = (network(given) - wanted).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def _noisy(x, noise):
    return x + noise * torch.randn_like(x)


def _denoiser_never_noisy(images, noise, n_steps):
    """A plain autoencoder: clean in, clean out."""
    return _denoiser_with(images, n_steps, lambda x, i: (x, x))


def _denoiser_copies(images, noise, n_steps):
    """The noisy image is the target as well."""
    return _denoiser_with(images, n_steps, lambda x, i: 2 * (_noisy(x, noise),))


def _denoiser_noise_on_the_target(images, noise, n_steps):
    """Clean in, noisy out."""
    return _denoiser_with(images, n_steps, lambda x, i: (x, _noisy(x, noise)))


def _denoiser_predicts_noise(images, noise, n_steps):
    """It gives the noise instead of the clean image."""

    def pair(x, i):
        noisy = _noisy(x, noise)
        return noisy, (noisy - x) / noise

    return _denoiser_with(images, n_steps, pair)


def _denoiser_same_noise(images, noise, n_steps):
    """The noise is drawn once and used at every step."""
    fixed = _noisy(images, noise)
    return _denoiser_with(images, n_steps, lambda x, i: (fixed[i], x))


def _denoiser_variance(images, noise, n_steps):
    """The noise is scaled by sigma squared."""
    return _denoiser_with(images, n_steps, lambda x, i: (_noisy(x, noise**2), x))


def _denoiser_unit_noise(images, noise, n_steps):
    """The noise is not scaled at all."""
    return _denoiser_with(images, n_steps, lambda x, i: (_noisy(x, 1.0), x))


def _denoiser_uniform(images, noise, n_steps):
    """rand for randn: noise between 0 and sigma."""
    return _denoiser_with(images, n_steps, lambda x, i: (x + noise * torch.rand_like(x), x))


def _denoiser_untrained(images, noise, n_steps):
    """Nothing is trained."""
    return train_denoiser(images, noise, 0)


def _denoiser_narrow(images, noise, n_steps):
    """Ten hidden units."""
    return _denoiser_with(images, n_steps, lambda x, i: (_noisy(x, noise), x), width=10)


def _denoiser_linear(images, noise, n_steps):
    """No hidden layer."""
    network = nn.Linear(64, 64)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(n_steps):
        x = images[torch.randint(len(images), (128,))]
        loss = (network(_noisy(x, noise)) - x).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def _denoiser_in_place(images, noise, n_steps):
    """Noise is added to the training images themselves."""
    images += noise * torch.randn_like(images)
    return train_denoiser(images, noise, n_steps)


def _denoiser_too_wide(images, noise, n_steps):
    """It has more weights than are allowed."""
    return _denoiser_with(images, n_steps, lambda x, i: (_noisy(x, noise), x), width=500)


TRAIN_DENOISER = Exercise(
    "3.6", 3, train_denoiser, kind="build", trial=_denoiser_trial,
    wrong=(_denoiser_never_noisy, _denoiser_copies, _denoiser_noise_on_the_target, _denoiser_predicts_noise,
           _denoiser_same_noise, _denoiser_variance, _denoiser_unit_noise, _denoiser_uniform, _denoiser_untrained,
           _denoiser_narrow, _denoiser_linear, _denoiser_in_place, _denoiser_too_wide),
)  # fmt: skip
