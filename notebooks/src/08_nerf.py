# %% [markdown]
# # 8. Neural radiance fields, an interlude
#
# **One question runs through this chapter: can a path through space lead from rays of light to a scene?**
#
# Chapter 07 followed a path from noise to an image. Here the path is a real one: the way of a ray through a room. A network
# says, for each place, how likely a ray is to stop there and what colour it then sees. From pictures alone it learns a whole
# scene, and shows it from where no camera stood.
#
# It stands in the list of our sources beside VAEs, GANs and diffusion models, so it belongs here. But it is a cousin, not a
# sibling: it represents *one scene*, and is no density over scenes. What it shares with the others is the calculus: along
# every ray there is a random variable, with a density that is learned from data.
#
# You need: probability densities (chapter 01); nothing else from the course. The core path takes about {minutes} minutes.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # not used here: the scene of this chapter is drawn by formula
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # not used here

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from course_utils import checks, metrics, plots, training, widgets
from course_utils.chapter import pick_budget, pick_device, record
from course_utils.data import scenes
from course_utils.exercises import check, reveal, score
from course_utils.models import nerf
from course_utils.nn.mlp import MLP

# %%
plots.style()
device = pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
size, n_views = {"smoke": (16, 12), "class": (24, 20), "full": (48, 24)}[budget]
near, far, n_places = 1.95, 4.15, 28  # the part of each ray that is looked at, in 28 intervals
scene = scenes.still_life()
train = scenes.views(scene, n_views, size)
test = scenes.views(scene, 6, size, start=100)  # cameras that stand elsewhere
print(f"budget {budget} on {device}: {n_views} pictures of {size} × {size} to learn from, "
      "6 held out")
print(f"{train.depth.isinf().double().mean():.0%} of the pixels see only the background")

# %% [markdown]
# ## 8.1 One scene, some pictures
#
# The scene: three balls, a block and a slab, in the cube $[-1,1]^3$, before a white background, with one lamp. Where a ray hits
# a ball is the root of a quadratic, so every picture is known exactly, and its depth too. Cameras stand on a sphere
# around it, 3 units from the middle. A pixel shows the mean colour of its little square, not of one point, as a real camera does.
#
# A **ray** is a starting point $o$ and a direction $d$ of length 1; its places are $r(t)=o+t\,d$. To us a picture is a bag
# of rays, each with its colour. The cameras and where they stand are given. (With photographs they have to be estimated first.)

# %%
shown = train.images()[:6]
captions = [f"{a:.0f}° round, {e:.0f}° up" for a, e in train.angles[:6]]
plots.show(plots.captioned(shown, captions, columns=6, width=9.0))
# alt: Six small pictures of three balls, a block and a slab, from six sides.

# %% [markdown]
# ## 8.2 Where does a ray stop?
#
# Fill space with fog of density $\sigma(r)\ge0$. It means: a ray that has come to $t$ stops within the next short step
# $\mathrm dt$ with probability $\sigma\,\mathrm dt$. What is the probability $T(t)$ that it gets to $t$ at all? It must get to
# $t$, and then not stop: $T(t+\mathrm dt)=T(t)\,(1-\sigma(t)\,\mathrm dt)$. So $T'=-\sigma T$, hence $(\log T)'=-\sigma$, and with $T=1$
# at the start
#
# $$ T(t)=\exp\Big(-\int_{t_\text{near}}^{t}\sigma(s)\,\mathrm ds\Big) . \tag{8.1} $$
#
# Statisticians know this pair under other names: $T$ is a **survival function** and $\sigma$ is its **hazard**, the rate of failing
# *now* given that one has not failed so far. Where the ray stops is a random variable. Its density is the way so far, times
# stopping now:
#
# $$ p(t)=T(t)\,\sigma(t)=-T'(t),\qquad \int_{t_\text{near}}^{t_\text{far}}p(t)\,\mathrm dt=1-T(t_\text{far}) . \tag{8.2} $$
#
# The rest, $T(t_\text{far})$, passes through everything. So $\sigma$ can be any function that is not negative, and $p$ is still a proper
# density: the constraint that chapter 01 paid for with $Z$ holds here by construction. If a ray that stops at $t$ sees the colour $c(t)$, and one that passes through
# sees the background, then a pixel is an **expectation**:
#
# $$ C=\int_{t_\text{near}}^{t_\text{far}}T(t)\,\sigma(t)\,c(t)\,\mathrm dt+T(t_\text{far})\,c_\text{back} . \tag{8.3} $$
#
# To check this we let 20,000 rays walk through a thin veil and a thick wall, in 2,000 small steps, each stopping with
# probability $\sigma\,\mathrm dt$. Nothing of (8.1) to (8.3) goes into that walk.

# %%
grid = torch.linspace(0, 1, 2_001).double()
middle, step = (grid[1:] + grid[:-1]) / 2, 1 / 2_000


def fog(t):
    """A thin veil at 0.3 and a wall at 0.7: the density at t."""
    return 6 * torch.exp(-((t - 0.3) ** 2) / 0.005) + 25 * torch.exp(-((t - 0.7) ** 2) / 0.002)


def hue(t):
    """The colour at t, as one number: dark in front, light behind."""
    return 0.1 + 0.8 * t


thick = torch.cat([torch.zeros(1).double(), (fog(middle) * step).cumsum(0)])  # the integral
T = torch.exp(-thick)  # (8.1)
p = T * fog(grid)  # (8.2)

# %%
way = torch.full((20_000,), 2_000)  # the step in which each ray stops; 2,000: it passes
for k in range(2_000):
    stops = (torch.rand(20_000) < fog(middle[k]) * step) & (way == 2_000)
    way[stops] = k

# %% verifies=["8.1", "8.2", "8.3"]
for k in (500, 700, 1_300, 1_400, 2_000):
    alive = (way >= k).double()[:, None]
    checks.monte_carlo(alive, T[k : k + 1], what=f"(8.1): rays that reach t = {grid[k]:.2f}")
tenths = torch.bincount(way.clamp(max=1_999) // 200 + (way == 2_000), minlength=11)
parts = [slice(200 * k, 200 * k + 201) for k in range(10)]  # ten parts of the way
mass = torch.stack([*(torch.trapezoid(p[part], grid[part]) for part in parts), T[-1]])
checks.frequencies(tenths, mass / mass.sum(), what="(8.2): where they stop")
checks.close(mass.sum(), 1.0, what="(8.2): stopping and passing add up to 1", rtol=1e-4)
looks = torch.where(way < 2_000, hue(middle[way.clamp(max=1_999)]), 1.0)  # white behind
pixel = torch.trapezoid(p * hue(grid), grid) + T[-1] * 1.0
checks.monte_carlo(looks[:, None], pixel[None], what="(8.3): the mean colour they see")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8))
axes[0].plot(grid, fog(grid) / 25, label=r"density $\sigma(t)$, divided by 25")
axes[0].plot(grid, T, ls="--", label="survival $T(t)$")
axes[0].set(title="The hazard, and who survives it", ylim=(0, 1.65))
axes[0].legend(fontsize=8, loc="upper right")
share = torch.bincount(way[way < 2_000] // 40, minlength=50) / 20_000
axes[1].bar((torch.arange(50) + 0.5) / 50, 50 * share, 0.02, color=plots.PALETTE[5],
            label="20,000 walks")
axes[1].plot(grid, p, color=plots.PALETTE[3], label=r"$p(t)=T\sigma$")
axes[1].set(ylabel="density of the stop", title="Where rays stop")
axes[1].legend(fontsize=8)
for ax in axes:
    ax.set(xlabel="distance $t$ along the ray")
plots.show(fig)
# alt: Left: a low and a high bump of density, and survival falling at both. Right: the histogram of stops follows the
# curve; the bump of the wall sits on its front.
print(f"{T[-1]:.1%} of the rays pass through everything; of those that come to the wall, "
      f"{1 - T[1_400] / T[1_200]:.0%} stop before its middle")

# %% [markdown]
# Read the right picture: within the wall the density of stops peaks before the wall's densest place, $t=0.7$. Most rays that came to the wall have stopped by then. That is how a
# solid looks: a ray sees its front.
#
# ### Exercise 8.1 (2 points): draw where rays stop
# A density from which one can draw is worth more. Write `stopping_place`: it turns uniform numbers into stops.

# %% exercise="8.1"

# %% tags=["check"]
check("8.1", stopping_place)

# %% [markdown]
# ## 8.3 From the integral to a sum
#
# A computer looks at $N$ places. Cut the way into intervals of length $\delta_i$ and take one density $\sigma_i$ and one colour $c_i$ in
# each. Then the integral in the exponent is a sum. A ray that comes to interval $i$ survives it with probability
# $e^{-\sigma_i\delta_i}$, so it stops there with probability $w_i$:
#
# $$ w_i=T_i\,\big(1-e^{-\sigma_i\delta_i}\big),\quad T_i=\exp\Big(-\sum_{j<i}\sigma_j\delta_j\Big),\quad
#    \hat C=\sum_{i=1}^N w_i\,c_i+\Big(1-\sum_{i=1}^N w_i\Big)\,c_\text{back} . \tag{8.4} $$
#
# **Why not simply $w_i=T_i\sigma_i\delta_i$?** That may exceed 1. In (8.4) the $w_i=T_i-T_{i+1}$ telescope: they are never negative,
# and their sum is $1-T_{N+1}\le1$, whatever the network answers. Where the fog is constant within each interval, (8.4) has no error at
# all. So a test on constant fog says nothing about accuracy; only fog that *varies* does.

# %% quote="course_utils.models.nerf:stop_weights"

# %% verifies=["8.4"]
sigma, delta = 9 * torch.rand(50, 12).double() ** 3, 0.1 + torch.rand(50, 12).double()
w = nerf.stop_weights(sigma, delta)
checks.true(w >= 0, what="no weight is negative")
checks.true(w.sum(1) < 1 + 1e-12, what="the weights of a ray sum to 1 at most")
checks.close(1 - w.sum(1), torch.exp(-(sigma * delta).sum(1)), what="(8.4): the rest passes")
fine = 400  # the integral of (8.2) on each interval, in 400 pieces
u = (torch.arange(fine).double() + 0.5) / fine * delta[..., None]  # (50, 12, 400)
before = (sigma * delta).cumsum(1) - sigma * delta
density = sigma[..., None] * torch.exp(-before[..., None] - sigma[..., None] * u)
checks.close(w, (density * delta[..., None] / fine).sum(2), what="(8.4): each weight is the "
             "integral of Tσ over its interval", rtol=1e-3)
tint = torch.rand(50, 12, 3).double()
by_hand = torch.exp(-(sigma * delta).sum(1, keepdim=True)) * 0.7  # what passes sees 0.7
for i in range(12):
    by_hand = by_hand + w[:, i, None] * tint[:, i]
checks.close(nerf.expected_colour(w, tint, 0.7), by_hand, what="(8.4): the colour")

# %% [markdown]
# ### How many places?
# For fog that varies, the error depends on where in its interval each place lies. Three rules: its left end; its middle; a random
# place, drawn anew each time. The last is called **stratified sampling**: one place in each interval, so that none stays empty. We take the fog above as far as
# $t=0.68$, where the wall rises, and compare with 100,000 places.

# %%
def colour_of(n, uniform):
    """(8.4) for the fog up to 0.68: places in n intervals (B, n) to colours (B,)."""
    t, delta = nerf.places(0, 0.68, uniform)
    w = nerf.stop_weights(fog(t), torch.full_like(t, delta))
    return nerf.expected_colour(w, hue(t)[..., None], 1.0)[:, 0]


numbers = (32, 64, 128, 256)
rules = {"left end": lambda n: torch.zeros(1, n), "middle": lambda n: torch.full((1, n), 0.5),
         "random": lambda n: torch.rand(400, n)}
precise = colour_of(100_000, torch.full((1, 100_000), 0.5).double())
errors = {name: [(colour_of(n, rule(n).double()) - precise).square().mean().sqrt().item()
                 for n in numbers] for name, rule in rules.items()}
orders = {name: math.log2(e[-2] / e[-1]) for name, e in errors.items()}
for name, e in errors.items():
    print(f"{name:<9} error at {numbers[-1]} places {e[-1]:.1e}, order {orders[name]:.1f}")
checks.true(0.8 < orders["left end"] < 1.2, what="the left end is of first order")
checks.true(1.8 < orders["middle"] < 2.2, what="the middle is of second order")
record(order_of_midpoints=orders["middle"])

# %% [markdown]
# Midpoints win on a smooth fog. Why then does training draw its places at random? Because a network that is always asked at the same
# places learns nothing between them. Put up a wall that is thinner than an interval, and ask whether it is seen:

# %% tags=["nbval-check-output"]
inside = torch.Generator().manual_seed(0)
rules = {"middle": torch.full((4_000, 16), 0.5),
         "random": torch.rand(4_000, 16, generator=inside)}
print("a wall 0.01 thick, 16 intervals, 4,000 rays")
for name, uniform in rules.items():
    t, delta = nerf.places(0.0, 1.0, uniform)
    wall = 1_000.0 * ((t - 0.495).abs() < 0.005).float()
    w = nerf.stop_weights(wall, torch.full_like(t, delta))
    print(f"{name}: found by {(w.sum(1) > 0.5).float().mean():.0%}")

# %% [markdown]
# Sixteen midpoints never find it; a random place finds it as often as the wall fills its interval. To show the finished scene we take
# midpoints, so that a picture is the same each time.
#
# **The last interval.** The paper lets $\delta_i$ run from one place to the next, and the last one to infinity. Then whatever fog is at the last
# place stops everything, and no ray ever passes. Before a wall that is harmless. Before a white background it paints the network's last colour
# onto the sky. Our intervals end at $t_\text{far}$, and what is left sees white.
#
# ## 8.4 A network that knows places
#
# The field is a small network: from a place to a density and some features; from the features *and the direction* to a colour. The density
# must not know the direction, since a solid is where it is. The colour may: the highlights on two of the balls move with the viewer.

# %% quote="course_utils.models.nerf:Field.forward"

# %% [markdown]
# **Why the encoding?** Networks are slow to learn functions that change over short distances (chapter 01 met this). An edge of a ball does. So each
# coordinate is given as sines and cosines of doubling frequency,
#
# $$ \gamma(x)=\big(\sin 2^k b\,x,\ \cos 2^k b\,x\big)_{k=0,\dots,K-1} . \tag{8.5} $$
#
# The paper takes $b=\pi$. Then every entry repeats when $x$ grows by 2: **the world wraps around.** With all of the scene in $[-1,1]$ that seems safe. But
# our rays leave the cube, and at $x=1.3$ the network sees just what it sees at $x=-0.7$. With $b=1$ the world repeats after $2\pi$, and no ray goes
# that far. So an encoding makes sense only together with the size of the scene.

# %% verifies=["8.5"]
x = torch.linspace(-1, 1, 21)[:, None].double()
for base, period in ((math.pi, 2.0), (1.0, 2 * math.pi)):
    here, there = (nerf.positional_encoding(x + s, 4, base) for s in (0.0, period))
    checks.close(there, here, what=f"b = {base:.3g}: the world repeats after {period:.3g}")
    half = nerf.positional_encoding(x + period / 2, 4, base)
    checks.true((half - here).abs().max(1).values > 0.01, what="and not after half of that")
angle = torch.cat([2.0**k * math.pi * x for k in range(4)], 1)
by_hand = torch.cat([angle.sin(), angle.cos()], 1)
checks.close(nerf.positional_encoding(x, 4), by_hand, what="(8.5), written out")

# %% [markdown]
# The loss is the squared error of the colours of a few hundred rays, drawn from all pictures. That is all: no depth, no shape is given.

# %% quote="course_utils.models.nerf:NeRF.along"

# %%
def learn(views, n_steps, title, density=F.softplus, start=None, **parts):
    """A new network after n_steps of training on these pictures, 256 rays a step."""
    torch.manual_seed(seed if start is None else start)
    model = nerf.NeRF(nerf.Field(density=density, **parts), near, far, n_places).to(device)
    rays, colours = views.rays.flatten(0, 1).to(device), views.colours.flatten(0, 1).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    drawn = (torch.randint(len(rays), (256,), device=device) for _ in iter(int, 1))
    training.fit(model.loss, optimizer, ((rays[k], colours[k]) for k in drawn), n_steps,
                 scheduler=training.cosine(optimizer, n_steps, floor=0.01), description=title)
    return model.eval()


@torch.no_grad()
def look(model, rays):
    """Colours (V, size², 3), depths and opacities (V, size²) of whole pictures."""
    seen = [model(one.to(device)) for one in rays]
    return tuple(torch.stack(part).cpu() for part in
                 zip(*((s.colours, s.depth, s.opacity) for s in seen), strict=True))


# %%
n_short = {"smoke": 30, "class": 250, "full": 2_000}[budget]
kinds = {"places as they are": {"n_frequencies": 0}, "encoded, b = π": {"base": math.pi},
         "encoded, b = π/2": {"base": math.pi / 2}, "encoded, b = 1": {}}
trials = {name: learn(train, n_short, name, **parts) for name, parts in kinds.items()}
pictures = {name: look(model, test.rays)[0] for name, model in trials.items()}
quality = {name: metrics.psnr(colours, test.colours) for name, colours in pictures.items()}
record(psnr_plain=quality["places as they are"], psnr_encoded=quality["encoded, b = 1"])
if budget != "smoke":
    checks.true(quality["encoded, b = 1"] > 1 + quality["places as they are"],
                what="the encoding is worth more than a decibel")

# %%
rows = [scenes.as_images(colours)[0] for colours in [*pictures.values(), test.colours]]
captions = [f"{name}\n{value:.1f} dB" for name, value in quality.items()] + ["the truth"]
title = f"A held-out view after {n_short} steps each"
plots.show(plots.captioned(torch.stack(rows), captions, columns=5, width=9.4, title=title))
# alt: Without encoding the balls melt into the slab; with b = 1 and π/2 their edges appear; with b = π hardly anything.
here = torch.rand(200, 3, device=device) * 2 - 1
beyond = here + torch.tensor([2.0, 0.0, 0.0], device=device)
for name, trial in trials.items():
    with torch.no_grad():
        one, other = (trial.field(x, here)[0] for x in (here, beyond))
    print(f"{name:<18} 2 units to the side the density differs by "
          f"{(one - other).abs().mean():.3f}")
furthest = (train.rays[..., :3] + far * train.rays[..., 3:]).abs().max()
print(f"places on rays have coordinates up to {furthest:.1f}")

# %% [markdown]
# PSNR, the peak signal-to-noise ratio, is $-10\log_{10}$ of the mean squared error: 10 dB more is a tenth of the error. It compares a picture with the
# truth pixel by pixel; there is one right picture here, so unlike in chapter 05 that is a fair question. The lines below the picture show the wrap-around: with $b=\pi$ the
# density is *the same* 2 units further on. The empty air beside the scene must be full where the scene is full, and no field can do both. $b=\pi/2$ is
# the paper's encoding in a world of half the size, and it is cured.
#
# ## 8.5 Train, and look around

# %%
n_steps = {"smoke": 120, "class": 1_800, "full": 10_000}[budget]
model = learn(train, n_steps, "the scene")
colours, depth, opacity = look(model, test.rays)
trained = look(model, train.rays)[0]
nearest = torch.cdist(test.rays[:, 0, :3], train.rays[:, 0, :3]).argmin(1)
found = {"white paper": torch.ones_like(test.colours),
         "the mean picture": train.colours.mean(0).expand_as(test.colours),
         "the nearest training picture": train.colours[nearest], "the field": colours}
for name, guess in found.items():
    print(f"{name:<30}{metrics.psnr(guess, test.colours):>6.1f} dB on held-out views")
psnr, psnr_train = metrics.psnr(colours, test.colours), metrics.psnr(trained, train.colours)
print(f"{'the field, on training views':<30}{psnr_train:>6.1f} dB")
solid = test.depth.isfinite()
depth_error = (depth - test.depth)[solid].abs().median()
record(psnr=psnr, psnr_train=psnr_train, depth_error=depth_error)

# %%
def distances(depth, seen):
    """Depth maps (V, size²) as grey images, near dark; white where less than half stops."""
    grey = ((depth - near) / (far - near)).clamp(0, 1) * 0.9
    grey = torch.where(seen, grey, torch.ones_like(grey))
    return scenes.as_images(grey[..., None].expand(*grey.shape, 3))


sheet = torch.cat([test.images(), scenes.as_images(colours), distances(test.depth, solid),
                   distances(depth, opacity > 0.5)])
title = "Held-out views: truth, field; depth of the truth, of the field"
plots.show(plots.images(sheet, columns=6, width=7.0, title=title))
# alt: Four rows: pictures from new sides, the same by the field, and two rows of depths, near dark and far light.
print(f"median error of the depth: {depth_error:.3f} units, an interval is "
      f"{(far - near) / n_places:.3f} long")

# %% [markdown]
# No picture told the network any distance. It had to find the shapes, because only the true ones explain all pictures at once. The **depth map** shows
# $\mathbb E[t\mid\text{stopped}]=\sum_iw_it_i/\sum_iw_i$ for each pixel: a mean of the stop density that the network learned. And that density is there to be seen:

# %%
pixel = (test.depth[0] - 2.6).abs().argmin()  # one that sees something 2.6 units away
ray = test.rays[0, pixel : pixel + 1].to(device)
with torch.no_grad():
    seen = model(ray, torch.full((1, 112), 0.5, device=device))
density = seen.weights[0].cpu() * 112 / (far - near)
fig, ax = plt.subplots(figsize=(6.4, 2.5))
ax.step(seen.places[0].cpu(), density, where="mid", label=r"the field's $p(t)=T\sigma$")
ax.axvline(test.depth[0, pixel], color=plots.PALETTE[3], ls="--", label="the true surface")
ax.set(xlabel="distance $t$ along the ray", ylabel="density of the stop",
       title="Where one ray stops")
ax.legend(fontsize=8)
plots.show(fig)
# alt: The learned density of the stop is a narrow peak near the dashed true surface.

# %% [markdown]
# Turn the camera once around. **Guess first:** what does the map of distances look like, for a network that was never told a distance?

# %% tags=["widget"]
frames = []
turn = range(0, 360, {"smoke": 45, "class": 15, "full": 10}[budget])
for azimuth in turn:
    rays = scenes.camera(azimuth, 30.0, 32)[None]
    painted, far_off, stopped = look(model, rays)
    truth = scenes.as_images(scenes.picture(scene, azimuth, 30.0, 32)[None])
    frames.append(torch.stack([truth, scenes.as_images(painted),
                               distances(far_off, stopped > 0.5)]))
widgets.film(torch.stack(frames), values=list(turn), axis="azimuth in degrees", columns=1,
             names=["the scene", "the field", "depth of the field (near is dark)"],
             ask="Guess first: what does the map of distances look like?",
             options=["flat, as a poster", "like the shapes of the scene", "noise"], right=1,
             answer="Like the shapes: only they explain the pictures from all sides at once. "
                    "Above stands by how much the distances err.")

# %% [markdown]
# ### Why does a ReLU render blank?
# A density must not be negative. ReLU is the usual way to cut off what is negative, and here it is a trap. To see why, ask what a little more density in
# interval $i$ does to a pixel. It makes more rays stop there, with colour $c_i$; and these rays are missing behind. In symbols, $\partial T_j/\partial\sigma_i=-\delta_iT_j$ for
# all $j>i$, and 0 for the others. Put that into $\hat C=\sum_jw_jc_j+T_{N+1}c_\text{back}$ with $w_j=T_j-T_{j+1}$:
#
# $$ \frac{\partial\hat C}{\partial\sigma_i}=\delta_i\Big(T_{i+1}\,c_i-\sum_{j>i}w_j\,c_j-T_{N+1}\,c_\text{back}\Big) . \tag{8.6} $$
#
# *The own colour, minus what would be seen instead.* At the start the field's colours are a middling grey. About half of all pixels show white (section 8.1), and each of them
# pulls the densities along its ray down. If that pushes every raw output below zero, ReLU answers 0 everywhere, and its slope is 0: (8.6) is multiplied by nothing. The densities stay 0,
# for ever: a blank page. Softplus, $\log(1+e^a)$, always has a slope. Whether a ReLU dies depends on its first weights, so here are three fixed seeds:

# %% verifies=["8.6"]
sigma, delta = torch.rand(12).double(), 0.05 + torch.rand(12).double()
tint = torch.rand(12, 3).double()
by_autograd = torch.autograd.functional.jacobian(
    lambda s: nerf.expected_colour(nerf.stop_weights(s, delta), tint, 0.9), sigma).T
so_far = torch.cat([torch.zeros(1).double(), (sigma * delta).cumsum(0)])
passed = torch.exp(-so_far)  # T_1 … T_13
shown = (passed[:-1] - passed[1:])[:, None] * tint
behind = [shown[i + 1 :].sum(0) + passed[-1] * 0.9 for i in range(12)]
by_formula = [delta[i] * (passed[i + 1] * tint[i] - behind[i]) for i in range(12)]
by_formula = torch.stack(by_formula)
checks.close(by_autograd, by_formula, what="(8.6): the derivative, by autograd")
checks.true(by_autograd.abs().sum(1) > 0, what="a gradient reaches every interval")

# %%
n_relu = {"smoke": 30, "class": 150, "full": 300}[budget]
deaths, sheets = {}, []
for name, act in (("ReLU", F.relu), ("softplus", F.softplus)):
    for start in (0, 1, 2):
        one = learn(train, n_relu, f"{name}, seed {start}", density=act, start=start)
        colours_, _, stopped = look(one, test.rays[:1])
        deaths[name, start] = stopped.max().item() < 1e-3
        sheets.append(scenes.as_images(colours_)[0])
titles = [f"{name}, seed {start}" + ": blank" * dead for (name, start), dead in deaths.items()]
title = f"After {n_relu} steps"
plots.show(plots.captioned(torch.stack(sheets), titles, columns=3, width=6.0, title=title))
# alt: Upper row, ReLU: a picture is white. Lower row, softplus: all three show the scene.
blank = {name: sum(dead for (kind, _), dead in deaths.items() if kind == name)
         for name in ("ReLU", "softplus")}
print(f"blank: {blank['ReLU']} of 3 with ReLU, {blank['softplus']} of 3 with softplus")
checks.true(blank["ReLU"] > blank["softplus"] == 0, what="ReLU can die here, softplus lives")
record(blank_relu=blank["ReLU"])

# %% [markdown]
# ### Exercise 8.2 (2 points): what a little more density does
# Write `density_gradient`: (8.6) for one ray, without a loop over pairs if you can.

# %% exercise="8.2"

# %% tags=["check"]
check("8.2", density_gradient)

# %% [markdown]
# ## 8.6 What pictures do not tell
#
# **One eye sees no size.** Make everything twice as large *and* twice as far from the camera: the picture is the same, ray by ray. So one picture never settles a
# scene. A field could even paint the picture on a board in front of the lens. Only other cameras disagree:

# %%
eye = scenes.camera(20.0, 30.0, size)
giant = scene.scaled(2.0, eye[0, :3])  # twice as large about the first camera
for name, azimuth in (("the first camera", 20.0), ("another camera", 65.0)):
    rays = scenes.camera(azimuth, 30.0, size)
    small, large = scene.render(rays)[0], giant.render(rays)[0]
    print(f"{name}: the two scenes differ by {(small - large).abs().max():.4f}")
    if azimuth == 20.0:
        checks.close(large, small, what="two scenes, one picture", atol=1e-3)

# %% [markdown]
# ### Exercise 8.3 (1 point): three pictures
# A second network now gets three pictures instead of all. Predict how it shows those three.

# %% exercise="8.3"

# %% tags=["check"]
check("8.3", three_pictures)

# %%
few = scenes.Views(*(part[:3] for part in train))
n_few = {"smoke": 40, "class": 600, "full": 3_000}[budget]
poor = learn(few, n_few, "three pictures")
same = learn(train, n_few, "all pictures, as many steps")
rows = {}
for name, one, own in (("three pictures", poor, few), ("all pictures", same, train)):
    rows[name] = [metrics.psnr(look(one, views.rays)[0], views.colours)
                  for views in (few, own, test)]
    print(f"{name:<16} those three {rows[name][0]:.1f} dB, all it was given "
          f"{rows[name][1]:.1f} dB, held out {rows[name][2]:.1f} dB")
record(psnr_three_own=rows["three pictures"][0], psnr_three=rows["three pictures"][2])

# %%
gain = rows["three pictures"][0] - rows["all pictures"][0]
reveal("8.3", "better" if gain > 0 else "worse")

# %%
six = torch.cat([few.rays, test.rays[:3]])
painted, far_off, stopped = look(poor, six)
sheet = torch.cat([scenes.as_images(painted), distances(far_off, stopped > 0.5)])
title = "From three pictures: these three, and three new views; below their depths"
plots.show(plots.images(sheet, columns=6, width=7.0, title=title))
# alt: Left: three clean pictures. Right: three smeared ones. Below: their depths.

# %% [markdown]
# It explains what it was shown, and invents the rest. Nothing in the loss says which of the many scenes that fit is likely. That is a *prior over scenes*, and
# this model has none.
#
# **Aliasing.** The field gives a colour to a ray, and a ray has no width. A pixel has. Show the scene smaller, with one ray for each pixel, and what falls between the rays is
# lost: edges turn into stairs. It is no fault of training, for the exact scene does the same. The cure is many rays a pixel, or a field that knows the width
# of a cone (Barron et al. 2021). Each number below is the PSNR against the mean of 144 rays a pixel.

# %%
rays = scenes.camera(20.0, 30.0, 10)  # a picture of 10 × 10
offsets = [((a + 0.5) / 4, (b + 0.5) / 4) for a in range(4) for b in range(4)]
many = torch.stack([scenes.camera(20.0, 30.0, 10, offset=offset) for offset in offsets])
pairs = {"scene, one ray": scene.render(rays)[0],
         "scene, 16 rays": scenes.picture(scene, 20.0, 30.0, 10, fine=4),
         "field, one ray": look(model, rays[None])[0][0],
         "field, 16 rays": look(model, many)[0].mean(0)}
mean = scenes.picture(scene, 20.0, 30.0, 10, fine=12)
quality = {name: metrics.psnr(guess, mean) for name, guess in pairs.items()}
captions = [f"{name}\n{value:.1f} dB" for name, value in quality.items()] + ["144 rays"]
sheet = scenes.as_images(torch.stack([*pairs.values(), mean]))
plots.show(plots.captioned(sheet, captions, columns=5, width=9.4))
# alt: Five small pictures: with one ray a pixel the edges are stairs, with 16 they are smooth.
checks.true(quality["scene, 16 rays"] > quality["scene, one ray"],
            what="aliasing, without any network")
record(psnr_one_ray=quality["field, one ray"], psnr_many_rays=quality["field, 16 rays"])

# %% [markdown]
# ### Exercise 8.4 (4 points): a field for flatland
# Flat creatures live in the plane $z=0$, and their pictures have one row. Build `flatland_model`: a field, an encoding, the rendering. The check trains it for 250 steps on 12 such
# pictures, and asks for 20 dB from where no camera stood.

# %% exercise="8.4"

# %% tags=["check"]
check("8.4", flatland_model)

# %% [markdown]
# ## 8.7 What it is not
#
# A trained field is a **representation of one scene**: its weights *are* the scene, written as a function. Ask it for $p(\text{scene})$, and there is no answer. Ask for
# another scene, and it has none: no latent, no noise goes in, and the same camera gives the same picture twice. Compare the list of chapter 01: density, sample, condition.

# %%
again = look(model, test.rays[:1])[0]
print("has log_prob:", hasattr(model, "log_prob"), " has sample:", hasattr(model, "sample"))
checks.true(again == colours[:1], what="the same camera sees the same picture")

# %% [markdown]
# What is random is only *where a ray stops*, given the scene. That is a density, learned by (8.3), and the only one here. To get a generative model, put it together with
# the earlier chapters: make the field depend on a code $z$ and learn $p(z)$ (chapters 04, 05), or ask a diffusion model which renderings look likely and
# descend to them (chapter 07; Poole et al. 2022). Then rendering is the decoder.
#
# ## What to remember
#
# * Density is a hazard, $T$ is survival, and $T\sigma$ is the density of where a ray stops. A pixel is an expectation under it.
# * The sum (8.4) keeps this: weights are probabilities, exact for fog that is constant in pieces. Midpoints are of second order; training draws places at random.
# * An encoding gives the network short distances. It repeats: state the size of the scene.
# * More density adds its own colour and takes away what lies behind. ReLU can cut that signal off for good; softplus cannot.
# * Few pictures fit many scenes. A ray has no width, a pixel has.
# * It is one scene, learned. It is no density over scenes.
#
# **The question this leaves:** many families and a cousin. On the same data, with the same compute, which one when? Chapter 09 puts them on one table.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * B. Mildenhall et al., *NeRF: representing scenes as neural radiance fields for view synthesis*, 2020, arXiv:2003.08934.
# * J. Kajiya, B. Von Herzen, *Ray tracing volume densities*, 1984. N. Max, *Optical models for direct volume rendering*, 1995.
# * M. Tancik et al., *Fourier features let networks learn high frequency functions in low dimensional domains*, 2020, arXiv:2006.10739.
# * J. Barron et al., *Mip-NeRF*, 2021, arXiv:2103.13415. Softplus in place of ReLU is proposed there.
# * K. Zhang et al., *NeRF++: analyzing and improving neural radiance fields*, 2020, arXiv:2010.07492 (shape and radiance are ambiguous).
# * B. Poole et al., *DreamFusion: text-to-3D using 2D diffusion*, 2022, arXiv:2209.14988.
