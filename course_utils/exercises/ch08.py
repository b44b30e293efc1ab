"""Exercises of chapter 08: neural radiance fields."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import metrics
from course_utils.data import scenes
from course_utils.exercises import Exercise, Finding, Probe
from course_utils.exercises.compare import kind_of
from course_utils.exercises.small import n_weights
from course_utils.nn.mlp import MLP

D = torch.float64


def _tensor(*values):
    return torch.tensor(values, dtype=D)


# ------------------------------------------------------------------------------------------- 8.1 draw where rays stop
def stopping_place(sigma, length, u):
    """Where rays stop, drawn by inverting their distribution function, F(t) = 1 - T(t) = u.

    sigma: (N,), the density in N intervals that follow each other, the first from 0. It is
    constant in each.
    length: the length of every interval.
    u: (B,), numbers in [0, 1).
    Returns (B,): the t at which 1 - T(t) = u, and infinity where the ray passes through all N
    intervals.
    """
    edges = torch.cat([sigma.new_zeros(1), (sigma * length).cumsum(0)])  # the integral of the density up to each edge
    wanted = -torch.log1p(-u)
    k = (torch.searchsorted(edges, wanted) - 1).clamp(0, len(sigma) - 1)
    t = k * length + (wanted - edges[k]) / sigma[k].clamp(min=1e-12)
    return torch.where(wanted < edges[-1], t, math.inf)


def _stop_at_edge(sigma, length, u):
    """You stop at the edge of an interval. Inside it the integral grows in proportion to the way."""
    edges = torch.cat([sigma.new_zeros(1), (sigma * length).cumsum(0)])
    wanted = -torch.log1p(-u)
    k = (torch.searchsorted(edges, wanted) - 1).clamp(0, len(sigma) - 1)
    return torch.where(wanted < edges[-1], k * length, math.inf)


def _stop_without_log(sigma, length, u):
    """You compare u itself with the integral. T = exp(-integral), so the integral at the stop is -log(1 - u)."""
    return stopping_place(sigma, length, -torch.expm1(-u))


def _stop_log_u(sigma, length, u):
    """You took -log(u). That has the same distribution, but 1 - T(t) = u asks for -log(1 - u)."""
    return stopping_place(sigma, length, 1 - u)


def _stop_always(sigma, length, u):
    """Your rays always stop. Where u is above 1 - T at the end, the ray passes through: infinity."""
    total = -torch.expm1(-(sigma * length).sum())
    return stopping_place(sigma, length, u.clamp(max=total * (1 - 1e-12)))


def _stop_linear(sigma, length, u):
    """You drew from the density sigma, made to sum to 1. Rays that stopped early are no longer there: T comes first."""
    edges = torch.cat([sigma.new_zeros(1), (sigma * length).cumsum(0)])
    return stopping_place(sigma, length, -torch.expm1(-u * edges[-1]))


def _stop_length(sigma, length, u):
    """The lengths of the intervals are missing: the integral adds sigma times length."""
    return stopping_place(sigma, torch.ones(()).to(sigma), u)


def _stop_probes(generator):
    sigma = torch.rand(5, generator=generator, dtype=D) * 3
    return [
        Probe("in dense fog half of the rays stop within log 2 / sigma", (_tensor(2.0), 1.0, _tensor(0.5)),
              "exp(-2t) = 0.5 at t = log(2) / 2 = 0.347."),
        Probe("thin fog lets some through", (_tensor(0.5), 1.0, _tensor(0.2, 0.9)),
              "1 - exp(-0.5) = 0.393: u = 0.9 is beyond it, infinity."),
        Probe("nothing stops in an empty interval", (_tensor(0.0, 3.0), 0.5, _tensor(0.1, 0.6)),
              "The fog begins at 0.5."),
        Probe("many intervals", (sigma, 0.4, torch.rand(6, generator=generator, dtype=D)),
              "Find the interval in which the integral reaches -log(1 - u), then the place in it."),
    ]


# -------------------------------------------------------------------------------- 8.2 what a little more density does
def density_gradient(sigma, delta, colours, background):
    """How the colour of one ray changes with the density in each of its intervals, (8.6),
    without autograd.

    sigma, delta: (N,), the density and the length of each interval.
    colours: (N, C), the colour in each.
    background: (C,).
    Returns (N, C): the derivative of the expected colour by sigma_i.
    """
    passed = torch.cat([sigma.new_zeros(1), (sigma * delta).cumsum(0)])
    alive = torch.exp(-passed)  # T_1 … T_{N+1}
    weights = alive[:-1] - alive[1:]
    seen = weights[:, None] * colours
    behind = seen.sum(0) - seen.cumsum(0) + alive[-1] * background
    return delta[:, None] * (alive[1:, None] * colours - behind)


def _gradient_own_only(sigma, delta, colours, background):
    """You count what is gained, the own colour. Also something is lost: less of what lies behind is seen."""
    alive = torch.exp(-(sigma * delta).cumsum(0))
    return delta[:, None] * alive[:, None] * colours


def _gradient_early(sigma, delta, colours, background):
    """Take T behind the interval, T_{i+1}: the derivative of 1 - exp(-sigma delta) brings its exp(-sigma delta)."""
    passed = torch.cat([sigma.new_zeros(1), (sigma * delta).cumsum(0)])
    before = torch.exp(-passed[:-1])
    return density_gradient(sigma, delta, colours, background) + delta[:, None] * (
        before * -torch.expm1(-sigma * delta))[:, None] * colours


def _gradient_without_wall(sigma, delta, colours, background):
    """The background lies behind, too: it is seen with probability T_{N+1}."""
    return density_gradient(sigma, delta, colours, 0 * background)


def _gradient_without_length(sigma, delta, colours, background):
    """The length of the interval is missing: sigma enters as sigma times delta."""
    return density_gradient(sigma, delta, colours, background) / delta[:, None]


def _gradient_sign(sigma, delta, colours, background):
    """The sign is turned: more density adds the own colour and takes away what lies behind."""
    return -density_gradient(sigma, delta, colours, background)


def _gradient_with_own(sigma, delta, colours, background):
    """Behind interval i lie i + 1 and later. You also took away what interval i itself shows."""
    passed = torch.cat([sigma.new_zeros(1), (sigma * delta).cumsum(0)])
    own = (torch.exp(-passed[:-1]) - torch.exp(-passed[1:]))[:, None] * colours
    return density_gradient(sigma, delta, colours, background) - delta[:, None] * own


def _gradient_probes(generator):
    sigma, delta = torch.rand(2, 4, generator=generator, dtype=D) + 0.1
    colours = torch.rand(4, 3, generator=generator, dtype=D)
    white = torch.ones(3, dtype=D)
    return [
        Probe("red fog in empty space before a white wall",
              (_tensor(0.0), _tensor(0.5), _tensor(1.0, 0.0, 0.0)[None], white),
              "0.5 · (red - white) = (0, -0.5, -0.5)."),
        Probe("two intervals before a black wall", (_tensor(0.0, 1.0), _tensor(1.0, 2.0), _tensor(1.0, 1.0)[:, None],
                                                    _tensor(0.0)), "Behind the first one lies 1 - exp(-2)."),
        Probe("four intervals", (sigma, delta, colours, white), "delta_i · (T_{i+1} c_i - what is seen behind i)."),
    ]


# ------------------------------------------------------------------------------------------------ 8.3 three pictures
def three_pictures():
    """A second network gets 3 of the training pictures, and as many steps. How well will it
    show *those three*, compared with the first network, which had to learn all of its
    pictures? "better" or "worse"
    """
    return "better"


# ------------------------------------------------------------------------------------ 8.4 build a field for flatland
def flatland_model(near, far):
    """A model that sees rays of a flat world (z = 0), with at most 20,000 weights and 48
    places on each ray.

    near, far: all that can be seen lies between these distances. The background is white, 1.
    Returns an nn.Module with two methods:
    stops(rays): from rays (B, 6), origin and direction, to the probabilities (B, N) of
    stopping in N intervals; forward(rays): from rays (B, 6) to expected colours (B, 3).
    Everything that can be seen lies in [-1, 1]².
    """

    class Flatland(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = MLP([2 + 16, 64, 64, 4])

        def look(self, rays):
            delta = (far - near) / 48
            t = near + (torch.arange(48) + 0.5) * delta
            x = (rays[:, None, :3] + t[:, None] * rays[:, None, 3:])[..., :2]
            angles = torch.cat([x * 2**k for k in range(4)], -1)
            raw = self.network(torch.cat([x, angles.sin(), angles.cos()], -1))
            passed = (F.softplus(raw[..., 0]) * delta).cumsum(-1)
            alive = torch.exp(-torch.cat([torch.zeros(len(rays), 1), passed], -1))
            return alive[:, :-1] - alive[:, 1:], raw[..., 1:].sigmoid()

        def stops(self, rays):
            return self.look(rays)[0]

        def forward(self, rays):
            stops, colours = self.look(rays)
            return (stops[..., None] * colours).sum(1) + 1 - stops.sum(1, keepdim=True)

    return Flatland()


def _flat_pictures(angles, size=33):
    """Rays and colours of pictures of one row: what flat cameras see of two discs and a block."""
    balls = torch.tensor([(-0.4, -0.2, 0.0, 0.35, 0.9, 0.2, 0.1, 0.0), (0.45, 0.3, 0.0, 0.3, 0.1, 0.3, 0.9, 0.0)])
    block = torch.tensor([(-0.2, 0.4, -1.0, 0.15, 0.75, 1.0, 0.1, 0.7, 0.3, 0.0)])
    world = scenes.Scene(balls, block, torch.tensor((0.0, 0.0, 1.0)))
    middle = slice(size * (size // 2), size * (size // 2 + 1))
    rays = torch.cat([scenes.camera(a, 0.0, size)[middle] for a in angles])
    fine = [torch.cat([scenes.camera(a, 0.0, size, offset=(o, 0.5))[middle] for a in angles]) for o in (0.2, 0.5, 0.8)]
    return rays, torch.stack([world.render(one)[0] for one in fine]).mean(0)


def _flat_trial(build, generator):
    near, far = 1.9, 4.1
    model = build(near, far)
    yield Finding("the function returns a torch.nn.Module", isinstance(model, nn.Module), f"It is {kind_of(model)}.",
                  "Return the model at the end.")
    yield Finding("the model has the method stops", callable(getattr(model, "stops", None)),
                  f"Its type is {type(model).__name__}.", "Define stops(self, rays) inside the class.")
    total = n_weights(model)
    yield Finding("at most 20,000 weights, and some", 0 < total <= 20_000, f"It has {total:,}.", "Narrower layers.")
    rays, colours = _flat_pictures(range(0, 360, 30))
    stops = model.stops(rays[:50])
    right = isinstance(stops, torch.Tensor) and stops.ndim == 2 and stops.shape[0] == 50 and 8 <= stops.shape[1] <= 48
    yield Finding("stops gives 8 to 48 numbers for each ray", right, f"It gave {kind_of(stops)}.", "(B, N), N to 48.")
    low, high = stops.min().item(), stops.sum(1).max().item()
    yield Finding("they are no less than 0 and sum to 1 at most", low >= 0 and high <= 1 + 1e-5,
                  f"The smallest is {low:.4f}, the largest sum {high:.4f}.",
                  "T_i - T_{i+1}, where T starts at 1 and never grows: a density is not negative.")
    seen = model(rays[:50])
    yield Finding("forward gives a colour for each ray", getattr(seen, "shape", None) == (50, 3),
                  f"It gave {kind_of(seen)}.", "Sum over the intervals: (B, N, 3) to (B, 3).")
    thin = build(near, near + 1e-4)(rays[:50])
    white = bool((thin - 1).abs().max() < 0.01)
    yield Finding("where there is no way to go, white is seen", white,
                  f"On a way of 0.0001 colours range from {thin.min():.3f} to {thin.max():.3f}.",
                  "Add the background, times the probability of passing: 1 - stops.sum(1).")
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(250):
        rows = torch.randint(len(rays), (128,), generator=generator)
        loss = (model(rays[rows]) - colours[rows]).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    silent = [name for name, weight in model.named_parameters() if weight.grad is None]
    yield Finding("every weight gets a gradient", not silent, f"Without one: {', '.join(silent) or 'none'}.",
                  "Use every layer in forward, without detach.")
    held_out, truth = _flat_pictures(range(15, 360, 30))
    with torch.no_grad():
        quality = metrics.psnr(model(held_out), truth)
    yield Finding("above 20 dB from where no picture was taken", quality > 20, f"{quality:.1f} dB.",
                  "Encode the places with sines and cosines, and take a density that always has a slope: softplus.")


def _flat_module(act, encode=True, white=True, normal=True):
    """A Flatland with mistakes to choose: the same rendering, other parts."""

    def build(near, far):
        model = flatland_model(near, far)
        if not encode:
            model.network = MLP([2, 64, 64, 4])
        kind = type(model)

        class Wrong(kind):
            def look(self, rays):
                delta = (far - near) / 48
                t = near + (torch.arange(48) + 0.5) * delta
                x = (rays[:, None, :3] + t[:, None] * rays[:, None, 3:])[..., :2]
                angles = torch.cat([x * 2**k for k in range(4)], -1)
                raw = self.network(torch.cat([x, angles.sin(), angles.cos()], -1) if encode else x)
                sigma = act(raw[..., 0])
                if not normal:
                    return -torch.expm1(-sigma * delta), raw[..., 1:].sigmoid()
                alive = torch.exp(-torch.cat([torch.zeros(len(rays), 1), (sigma * delta).cumsum(-1)], -1))
                return alive[:, :-1] - alive[:, 1:], raw[..., 1:].sigmoid()

            def forward(self, rays):
                stops, colours = self.look(rays)
                return (stops[..., None] * colours).sum(1) + (1 - stops.sum(1, keepdim=True)) * white

        model.__class__ = Wrong
        return model

    return build


def _flat_signed(near, far):
    """Your density can be negative: then T grows along the way. Use softplus."""
    return _flat_module(lambda raw: raw)(near, far)


def _flat_plain(near, far):
    """The network gets the bare coordinates. It is slow to learn edges from them: give it sines and cosines as well."""
    return _flat_module(F.softplus, encode=False)(near, far)


def _flat_black(near, far):
    """Rays that pass through see black in your model. Add the white background, times 1 - stops.sum(1)."""
    return _flat_module(F.softplus, white=False)(near, far)


def _flat_no_survival(near, far):
    """Your probabilities forget T_i: to stop in interval i, a ray must have come through all before it."""
    return _flat_module(F.softplus, normal=False)(near, far)


EXERCISES = (
    Exercise("8.1", 2, stopping_place, _stop_probes,
             (_stop_at_edge, _stop_without_log, _stop_log_u, _stop_always, _stop_linear, _stop_length)),
    Exercise("8.2", 2, density_gradient, _gradient_probes,
             (_gradient_own_only, _gradient_early, _gradient_without_wall, _gradient_without_length, _gradient_sign,
              _gradient_with_own)),
    Exercise("8.3", 1, three_pictures, kind="predict", options=("better", "worse"),
             reason="Three pictures are fewer demands on the same network, so it can meet each of them more closely. "
                    "Seeing what it was shown says nothing about what it was not shown."),
    Exercise("8.4", 4, flatland_model, kind="build", trial=_flat_trial,
             wrong=(_flat_signed, _flat_plain, _flat_black, _flat_no_survival)),
)
