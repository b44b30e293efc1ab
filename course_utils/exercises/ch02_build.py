"""The build exercise of chapter 02: a masked network."""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import checks
from course_utils.exercises import Exercise, Finding
from course_utils.exercises.small import model_findings, windows

N_STEPS, MAX_WEIGHTS, BAR = 600, 1_500, 5.05


def masked_network():
    """A network with hidden units that gives the logit of every pixel from the pixels before
    it, as MADE does.

    It reads black-and-white images of 3×3 pixels in reading order. The check trains it for 600
    steps on (2.3).
    Returns a torch.nn.Module with at most 1,500 weights (those under a mask count). Called
    with x, (B, 9), entries 0 or 1, it gives logits (B, 9); logit i depends on x[:, 0] to x[:,
    i-1] and on no other pixel, before and after training.
    """

    class Masked(nn.Linear):
        def __init__(self, mask):
            super().__init__(mask.shape[1], mask.shape[0])
            self.register_buffer("mask", mask)

        def forward(self, x):
            return F.linear(x, self.mask * self.weight, self.bias)

    pixels, hidden = torch.arange(9), torch.arange(48) % 8  # ranks
    into = (hidden[:, None] >= pixels).float()
    out = (pixels[:, None] > hidden).float()
    return nn.Sequential(Masked(into), nn.ReLU(), Masked(out))


def _influence(model):
    """``(9, 9)``: whether flipping pixel j (column) ever changes logit i (row), over all 512 images."""
    every = checks.all_binary(9)
    with torch.no_grad():
        flipped = [model(torch.where(torch.arange(9) == j, 1 - every, every)) for j in range(9)]
        return torch.stack([(f - model(every)).abs().amax(0) > 1e-5 for f in flipped], 1)


def _causal(model, when):
    seen = _influence(model)
    leak = seen.triu().nonzero().tolist()
    found = f"Pixel {leak[0][1]} changes logit {leak[0][0]}." if leak else "No pixel changes a logit up to its own."
    if leak and all(i == j for i, j in leak):
        hint = "A pixel sees itself. A wire to output d may come only from a hidden unit of *smaller* rank: m_d > m_k."
    elif leak and seen.triu(1).sum() == 36 and seen.tril(-1).sum() == 0:
        hint = "Every logit sees the pixels *after* it: the masks are turned round. Rows are where a wire leads to."
    elif when == "after":
        hint = "The mask has to be there in every forward pass: a weight set to zero once is moved by the training."
    else:
        hint = "Keep a wire only where (2.4) says so, in every layer, and mind that a mask is (to, from)."
    return Finding(f"no logit sees its own pixel or a later one, {when} training", not leak, found, hint)


def _masked_trial(build, generator):
    images, held_out = windows()
    model = build()
    yield from model_findings(model, (), held_out[:5], MAX_WEIGHTS)
    shape = getattr(model(held_out[:5]), "shape", None)
    hint = "One logit for each pixel of each image."
    yield Finding("5 images give logits of shape (5, 9)", shape == (5, 9), f"They gave the shape {shape}.", hint)
    yield _causal(model, "before")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(N_STEPS):
        x = images[torch.randint(len(images), (200,), generator=generator)]
        optimizer.zero_grad()
        _nats(model, x).backward()
        optimizer.step()
    yield _causal(model, "after")
    with torch.no_grad():
        every = checks.all_binary(9)
        log_p = torch.distributions.Bernoulli(logits=model(every)).log_prob(every).sum(1)
        total = log_p.exp().sum().item()
        nats = -log_p[(held_out @ 2 ** torch.arange(9.0)).long()].mean().item()  # from one call for all images
    yield Finding(
        "the probabilities of all 512 images add up to 1",
        abs(total - 1) < 1e-3,
        f"They add up to {total:.4g}.",
        "With logits that see only pixels before them this holds by itself. Is the network the same at every call?",
    )
    seen = torch.stack([_influence(build()) for _ in range(5)]).any(0)  # in one of them a ReLU may sleep on every image
    blind = (~seen & torch.ones(9, 9).tril(-1).bool()).nonzero().tolist()
    yield Finding(
        "every logit sees all pixels before it",
        not blind,
        f"Pixel {blind[0][1]} never changes logit {blind[0][0]}." if blind else "All 36 paths are open.",
        "Hidden units need all ranks from 0 to 7. A wire in is kept where m_k ≥ m_d: equal ranks are allowed there.",
    )
    yield Finding(
        f"below {BAR} nats on images it has not seen, after {N_STEPS} steps",
        nats < BAR,
        f"{nats:.3f} nats per held-out image. Independent pixels need 6.12, logistic pixels 5.09.",
        "Without hidden units it ends at 5.09. Use one hidden layer of 30 to 70 units with a nonlinearity behind it.",
    )


def _nats(model, x):
    return F.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / len(x)


class _Masked(nn.Module):
    """Two layers with the given masks, (48, 9) and (9, 48); ``once``: applied to the weights at the start only."""

    def __init__(self, into, out, once=False, activation=F.relu):
        super().__init__()
        self.first, self.last = nn.Linear(9, len(into)), nn.Linear(len(into), 9)
        self.masks = [into.float(), out.float()]
        self.once, self.activation = once, activation
        if once:
            self.first.weight.data *= self.masks[0]
            self.last.weight.data *= self.masks[1]

    def forward(self, x):
        into, out = (torch.ones(()), torch.ones(())) if self.once else self.masks
        h = self.activation(F.linear(x, into * self.first.weight, self.first.bias))
        return F.linear(h, out * self.last.weight, self.last.bias)


PIXELS, HIDDEN = torch.arange(9), torch.arange(48) % 8


def _masked_not_at_all():
    """No mask."""
    return _Masked(torch.ones(48, 9), torch.ones(9, 48))


def _masked_sees_itself():
    """≥ at the last layer too."""
    return _Masked(HIDDEN[:, None] >= PIXELS, PIXELS[:, None] >= HIDDEN)


def _masked_once():
    """Weights are set to zero at the start and move in training."""
    return _Masked(HIDDEN[:, None] >= PIXELS, PIXELS[:, None] > HIDDEN, once=True)


def _masked_strict():
    """> at the first layer too: the nearest pixel is never seen."""
    return _Masked(HIDDEN[:, None] > PIXELS, PIXELS[:, None] > HIDDEN)


def _masked_backwards():
    """Every logit sees the pixels after it."""
    return _Masked(HIDDEN[:, None] < PIXELS, PIXELS[:, None] <= HIDDEN)


def _masked_one_rank():
    """All hidden units have the rank 3."""
    hidden = torch.full((48,), 3)
    return _Masked(hidden[:, None] >= PIXELS, PIXELS[:, None] > hidden)


def _masked_without_hidden_units():
    """Logistic pixels: one masked layer."""
    return _Masked(torch.eye(9), torch.ones(9, 9).tril(-1), activation=lambda h: h)


def _masked_too_wide():
    """More weights than are allowed."""
    hidden = torch.arange(200) % 8
    return _Masked(hidden[:, None] >= PIXELS, PIXELS[:, None] > hidden)


def _masked_constant():
    """The logits do not depend on the image: independent pixels."""
    return _Masked(torch.zeros(48, 9), torch.ones(9, 48))


def _masked_only_inside():
    """The first layer is masked, the second is not."""
    return _Masked(HIDDEN[:, None] >= PIXELS, torch.ones(9, 48))


MASKED_NETWORK = Exercise(
    "2.3", 3, masked_network, kind="build", trial=_masked_trial,
    wrong=(_masked_not_at_all, _masked_sees_itself, _masked_once, _masked_strict, _masked_backwards, _masked_one_rank,
           _masked_without_hidden_units, _masked_too_wide, _masked_constant, _masked_only_inside),
)  # fmt: skip
