# %% [markdown]
# # 5. Generative adversarial networks
#
# **One question runs through this chapter: who chose the loss that likes averages, and can a network choose a better
# one?**
#
# Chapter 04 ended on blur. A VAE is judged pixel by pixel, and the best answer to "this stroke or that one?" is then
# the grey mean of both. Nobody wanted that loss. It came with the decoder. Here a second network learns what is wrong
# with a sample, and the first learns to please it. There is no formula for the loss any more, and no $p(x)$ either. In
# exchange the samples are sharp.
#
# Two things are kept apart all the way, because most confusion about GANs comes from mixing them: what a loss is
# *worth* when the opponent is perfect, and what is actually *descended*. Both are computed and asserted.
#
# You need: KL and Jensen–Shannon divergence (chapter 01), the VAE (chapter 04). The core path takes about {minutes}
# minutes. Sections marked *Going deeper* start folded; the later chapters do not depend on them.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, mnist, fashion_mnist, kmnist
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math
import time
from copy import deepcopy
from functools import partial

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Normal

import course_utils.expect as expect
from course_utils import checks, metrics, plots, shipped, training, widgets
from course_utils.chapter import pick_budget, pick_device, record
from course_utils.data import densities, images
from course_utils.distributions import jensen_shannon, kl_divergence
from course_utils.exercises import check, reveal, score
from course_utils.models import classifier, vae
from course_utils.models.gan import model as gan
from course_utils.models.gan import objectives, theory
# for the quoted losses
from course_utils.models.gan.objectives import Terms, logsigmoid, softplus
from course_utils.nn.mlp import MLP

# %%
plots.style()
device = pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
print(f"budget {budget} on {device}")

# %% [markdown]
# ## 5.1 The game
#
# A counterfeiter prints money. A detective gets notes, some real and some forged, and says for each how likely it is to
# be real. Neither knows how money is made. The detective learns from seeing which were which. The counterfeiter learns
# from the detective: not from real money, which he never sees, but from *what would have made his note pass*.
#
# The counterfeiter is the **generator** $G_\theta$. It takes a random code $z\sim p(z)$ and returns $x=G_\theta(z)$.
# The distribution of its results is $p_g$, and nobody can write it down: it is given by drawing. The detective is the
# **critic** $D_\psi$, a classifier (papers say *discriminator*). $D(x)\in(0,1)$ is its probability that $x$ is real.
# Inside, the network gives a logit $a(x)$ and $D=\sigma(a)$.
#
# Why should that work at all? Play it by hand before any network does. First you are the counterfeiter: move $q$, and
# the best possible detective answers at once. Then you are the detective.

# %% tags=["widget"]
widgets.density_game(Normal(0.0, 1.0))

# %% [markdown]
# Now with networks, in one dimension, so that everything can be drawn. The data are $\mathcal N(1, 0.6^2)$. The codes
# are uniform on $(-1,1)$. In turns the critic takes one step and the generator takes one step. The loop is four lines,
# and it is the loop of the whole chapter.

# %% quote="course_utils.models.gan.model:GAN.critic_loss"

# %% quote="course_utils.models.gan.model:GAN.generator_loss"

# %% [markdown]
# Two details. The fakes in the critic's loss are **detached**: the critic's step must not move the generator, and
# without `detach` the generator would collect a gradient that makes its fakes *easier* to recognise. And in the
# generator's loss the gradient flows *through* the critic into the generator; the critic's own weights hold still.

# %%
truth = Normal(1.0, 0.6)
game = gan.GAN(gan.Generator(MLP([1, 24, 24, 1])), gan.Critic(MLP([1, 24, 24]), 24),
               gan.UniformCodes(1),
               penalty=gan.penalised(0.1))  # keeps the two from circling for ever: section 5.4


def play(game, batches, n_rounds, lr=2e-3, betas=(0.5, 0.9)):
    """The loop: yields after each move of either player."""
    optimizers = [torch.optim.Adam(net.parameters(), lr, betas)
                  for net in (game.critic, game.generator)]
    yield from training.adversarial_steps(game.critic_loss, game.generator_loss, *optimizers,
                                          batches, n_rounds)


def beside(z):
    """Start from fakes that are spread out, to the left of the data."""
    return (game.generator(z) - (0.8 * z - 0.3)).square().mean()


codes = iter(lambda: game.prior().sample((64,)), None)
for _ in training.steps(beside, torch.optim.Adam(game.generator.parameters(), 2e-2), codes,
                        100):
    pass

# %%
real_batches = iter(lambda: truth.sample((128, 1)), None)
panels = {}


def train_critic_alone(n_steps):
    for _ in training.steps(game.critic_loss, torch.optim.Adam(game.critic.parameters(), 5e-3),
                            real_batches, n_steps):
        pass


train_critic_alone(15)
panels["(a) a critic half trained"] = deepcopy(game)
train_critic_alone(250)
panels["(b) the critic trained alone"] = deepcopy(game)
for _ in play(game, real_batches, 40):
    pass
panels["(c) 40 rounds later"] = deepcopy(game)
game.penalty = gan.penalised(1.0)  # more friction, so that they settle
for lr in (2e-3, 1e-3, 3e-4):  # in smaller and smaller steps
    for _ in play(game, real_batches, 150 if budget == "smoke" else 400, lr):
        pass
panels["(d) much later"] = game

# %%
line = torch.linspace(-2, 4, 241)[:, None]


def draw_game(ax, game, title):
    """Data, fakes and the critic over the line; below it, where the generator sends evenly
    spaced codes."""
    with torch.no_grad():
        fakes, codes = game.sample(20_000)[:, 0], torch.linspace(-1, 1, 21)[:, None]
        sent, believed = game.generator(codes)[:, 0], game.critic(line).sigmoid()
    ax.plot(line, truth.log_prob(line).exp(), "k:", label="$p_\\mathrm{data}$")
    ax.hist(fakes, bins=80, range=(-2, 4), density=True, color=plots.PALETTE[2], alpha=0.6,
            label="$p_g$")
    ax.plot(line, believed, "--", color=plots.PALETTE[0], label="$D$")
    for code, place in zip(codes[:, 0], sent):
        ax.annotate("", (place, -0.05), (1 + 2.5 * code, -0.55),
                    arrowprops={"arrowstyle": "->", "color": "gray", "lw": 0.6})
    ax.set(title=title, xlabel="$x$  (codes $z$ below)", xlim=(-2, 4), ylim=(-0.6, 1.5))
    ax.set_yticks([0, 0.5, 1])
    return ax


# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 3.1), sharey=True)
for ax, (title, state) in zip(axes, panels.items()):
    draw_game(ax, state, title)
axes[0].set_ylabel("density, probability")
axes[0].legend(loc="upper left", fontsize=8)
plots.show(fig)
# alt: Four panels: fakes beside the data; a critic that falls between the two; fakes that have moved towards the data;
# fakes on the data, with a critic near one half.
with torch.no_grad():
    fakes = game.sample(20_000)
print(f"data: mean 1.00, sd 0.60     fakes at the end: mean {fakes.mean():.2f}, sd "
      f"{fakes.std():.2f}")
checks.close(fakes.mean(), 1.0, what="in the end the fakes have the data's mean", atol=0.25)

# %% [markdown]
# These are the four panels of the original paper, from a real training. (a) Fakes and data differ, and the critic is
# half trained. (b) The generator held still while the critic learned: now $D$ falls where fakes outnumber data. (c) The
# generator followed the slope of $D$: its fakes have moved to where $D$ was high. (d) Much
# later the fakes lie among the data, and the critic stays near ½ there. Their mean is right. Their spread, printed
# above, need not be: two players that both learn never stand quite still, and it goes on swinging. The arrows show *how* $G$ makes a density: codes are even, and where the arrows crowd,
# $p_g$ is high.
#
# The rest of the chapter asks what this game computes (5.2, 5.3), whether it converges (5.4), what happens when fakes
# and data do not overlap (5.5), why fakes may all look alike (5.6), and what it gives on images (5.7, 5.8).

# %% [markdown] defines=["5.1"]
# ## 5.2 The best critic's loss is a Bayes risk
#
# Write $p$ for the density of the data and $q$ for that of the fakes. The critic climbs, the generator descends
#
# $$ V(D, G) = \mathbb{E}_{x\sim p}[\log D(x)] + \mathbb{E}_{x\sim q}[\log(1-D(x))] . \tag{5.1} $$
#
# The first term is large when real data are called real, the second when fakes are called fake. (One of the notes
# behind this course lets the critic *minimise* the second term. Then it would call fakes real. It maximises both.) Up
# to its sign this is the cross-entropy of chapter 01's classifier, with as many fakes as data.

# %% [markdown]
# Hold the generator still. What is the best critic? *Assume* that both densities exist, and that $D$ may be any
# function (no network is that free). Then (5.1) is an integral,
#
# $$ V = \int \big[\,p(x)\log D(x) + q(x)\log(1-D(x))\,\big]\,\mathrm dx , $$
#
# and since $D$ may be chosen at each $x$ alone, the bracket may be maximised at each $x$ alone. Take one $x$ and write
# $y=D(x)$. The function $p\log y+q\log(1-y)$ has the slope $\frac py-\frac q{1-y}$, which is zero for $p(1-y)=qy$, so
# at $y=\frac p{p+q}$. Its second derivative $-\frac p{y^2}-\frac q{(1-y)^2}$ is negative: it is a maximum, and the only
# one. So
#
# $$ D^*(x) = \frac{p(x)}{p(x)+q(x)} . \tag{5.2} $$
#
# This is Bayes' rule: the probability that $x$ is real, when real and fake are equally frequent. Its logit is $\log
# p(x)-\log q(x)$. (Where both densities vanish, $D^*$ may be anything, and nobody will ever ask.) Now put it back into
# (5.1). With the middle $m=\frac12(p+q)$ we have $D^*=\frac{p}{2m}$ and $1-D^*=\frac q{2m}$:
#
# $$ \begin{aligned}
#    V(D^*, G) &= \int p\log\frac{p}{2m} + \int q\log\frac{q}{2m}
#    = \int p\log\frac pm + \int q\log\frac qm - 2\log 2 \\
#    &= \mathrm{KL}(p\,\|\,m)+\mathrm{KL}(q\,\|\,m) - 2\log2 = 2\,\mathrm{JS}(p,q) - 2\log 2 .
#    \end{aligned} \tag{5.3} $$
#
# JS is never negative, and zero only for $p=q$. So *if* every round the critic were perfect, the generator's best move
# would be $p_g=p_\text{data}$, with $D^*=\frac12$ everywhere and the value $-2\log2=-1.386$. Both densities on a grid,
# and every step of this executed:

# %% verifies=["5.2", "5.3"] tags=["nbval-check-output"]
# p = N(0, 1), q = N(1, 1.4²): our example from here on
x = torch.linspace(-8, 10, 361, dtype=torch.float64)
p, q = (Normal(mean, sd).log_prob(x).exp() * (x[1] - x[0]) for mean,
        sd in ((0.0, 1.0), (1.0, 1.4)))
tried = torch.linspace(0.0005, 0.9995, 1_000, dtype=torch.float64)  # every y, at every x
bracket = p[:, None] * tried.log() + q[:, None] * (1 - tried).log()
best = theory.optimal_critic(p, q)
checks.close(tried[bracket.argmax(1)], best, what="(5.2): at each x the best y is p / (p + q)",
             atol=6e-4)
checks.close(best.logit(), p.log() - q.log(), what="its logit is log p − log q", rtol=1e-9)
value = p @ best.log() + q @ (1 - best).log()
js = jensen_shannon(p, q)
checks.close(value, 2 * js - 2 * math.log(2), what="(5.3): V(D*, G) = 2 JS − 2 log 2",
             rtol=1e-9)
print(f"JS = {js:.6f}    V(D*, G) = {value:.6f}    at p = q: {-2 * math.log(2):.6f}")
wiggles = torch.stack([(k * x).sin() for k in (0, 1, 2, 3)]) + 1  # any other critic is worse
for wiggle in wiggles:
    other = (best.logit() + 0.2 * wiggle).sigmoid()
    checks.true(p @ other.log() + q @ (1 - other).log() < value,
                what="another critic has a lower value")

# %% [markdown]
# ### Exercise 5.1 (1 point): the best critic
# Write `critic_probability`: from $\log p(x)$ and $\log q(x)$ to $D^*(x)$. In high dimensions log-densities are
# thousands of nats below zero, where $p$ and $q$ themselves are 0 in floating point.

# %% exercise="5.1"

# %% tags=["check"]
check("5.1", critic_probability)

# %% [markdown]
# ### One picture for all losses
# The logarithm in (5.1) is one way to score a critic, and others are in use. They all fit one frame. Real and fake come
# with probability ½ each. The critic puts out a number $a$ and pays $\ell_{+}(a)$ if the point was real and
# $\ell_{-}(a)$ if it was fake. What the best critic still pays on average is the **Bayes risk**, and it is again
# minimised at each $x$ alone:
#
# $$ R = \tfrac12\int \min_a\big[\,p(x)\,\ell_{+}(a) + q(x)\,\ell_{-}(a)\,\big]\,\mathrm dx . \tag{5.4} $$
#
# | loss | $\ell_+(a),\ \ell_-(a)$ | best $a$ | Bayes risk |
# |---|---|---|---|
# | logistic | $-\log\sigma(a),\ -\log\sigma(-a)$ | $\log\frac pq$ | $\log2-\mathrm{JS}$ |
# | square, labels 0 and 1 | $(a-1)^2,\ a^2$ | $\frac p{p+q}$ | $\frac14-\frac18\chi$ |
# | square, labels ±1 | $(a-1)^2,\ (a+1)^2$ | $\frac{p-q}{p+q}$ | $1-\frac12\chi$ |
# | exponential | $e^{-a},\ e^{a}$ | $\frac12\log\frac pq$ | $1-H^2$ |
# | hinge | $\max(0,1-a),\ \max(0,1+a)$ | $\mathrm{sign}(p-q)$ | $1-\mathrm{TV}$ |
#
# with $\chi=\int\frac{(p-q)^2}{p+q}$, the Hellinger distance $H^2=1-\int\sqrt{pq}$ and the total variation
# $\mathrm{TV}=\frac12\int|p-q|$. Every adversarial loss of this kind is one minus a distance: **the worse the best
# critic does, the closer $q$ is to $p$.** (Conventions differ by factors. LSGAN's paper works with $\frac12\chi$; with
# ½ in front of each square, as in our `least_squares`, its sum is the average above.)
#
# One loss is not of this kind. The **relativistic** loss scores *pairs*: the critic should give the real one of a pair
# the higher number, $\max_D \mathbb E[\log\sigma(D(x)-D(x'))]$ with $x\sim p$, $x'\sim q$. That is a logistic
# classifier that tells $(x,x')$ from $(x',x)$, so by the same argument its best value is $\mathrm{JS}(p\otimes
# q\,\|\,q\otimes p)-\log2$. Mind the sign: this is the *maximum of the value*, a negative number. Code minimises its
# negative. (R3GAN's paper writes a maximum over $f(t)=-\log(1+e^{-t})$; its code minimises a softplus.)

# %% [markdown]
# Losses in the package are functions of the logits that return what each player pays. They take all pairs at once, so
# on a grid with weights nothing needs to be drawn.

# %% quote="course_utils.models.gan.objectives:minimax"

# %% quote="course_utils.models.gan.objectives:non_saturating"

# %% quote="course_utils.models.gan.objectives:relativistic"

# %% verifies=["5.4"] tags=["nbval-check-output"]
def paid(loss, a):
    """What the critic with logits ``a`` pays on average, all pairs of the grid weighted."""
    return theory.expected(loss(a[:, None], a[None, :]).critic, p, q)


chi, ratio = theory.triangular(p, q), p.log() - q.log()
plus_minus = partial(objectives.least_squares, a=-1.0)  # labels −1 for fakes and 1 for data
table = {
    "logistic": (paid(objectives.minimax, ratio) / 2, math.log(2) - js, 0.59631),
    "square, 0 and 1": (paid(objectives.least_squares, best), 1 / 4 - chi / 8, 0.20700),
    "square, ±1": (paid(plus_minus, 2 * best - 1), 1 - chi / 2, 0.82802),
    "exponential": (paid(objectives.exponential, ratio / 2) / 2,
                    1 - theory.squared_hellinger(p, q), 0.89383),
    "hinge": (paid(objectives.hinge, ratio.sign()) / 2, 1 - theory.total_variation(p, q),
              0.65414),
}
for name, (by_critic, closed, known) in table.items():
    print(f"{name:<16} the best critic pays {by_critic:.5f}, in closed form {closed:.5f}")
    checks.close(by_critic, closed, what=f"(5.4): {name}", rtol=1e-6)
    checks.close(closed, known, what=f"{name}: as computed elsewhere", atol=2e-4)
pairs = (p[:, None] * q[None, :]).flatten(), (q[:, None] * p[None, :]).flatten()
relativistic = jensen_shannon(*pairs) - math.log(2)
checks.close(-paid(objectives.relativistic, ratio), relativistic,
             what="relativistic: JS of pairs − log 2", rtol=1e-6)
print(f"{'relativistic':<16} the best value is {relativistic:.5f}")

# %% [markdown]
# ### Train one, and compare with the truth
# So far the best critic was written down. Does a *trained* network get there? Two things can go wrong, and they are
# kept apart. **Capacity**: can the network bend like $D^*$ at all? For that, train without sampling, on the weighted
# grid. **Estimation**: does it find $D^*$ from samples? We ask for more than a correlation: the largest error of $D$
# wherever $p+q$ is at least 1 % of its maximum must be at most 0.05. (The hinge critic is exempt: its $D^*$ jumps. The
# relativistic one knows its logits up to a constant, which is taken off.)

# %%
seen = (p + q) >= 0.01 * (p + q).max()
as_probability = {  # how each loss's number is read as the probability "real"
    "logistic": (objectives.minimax, torch.sigmoid),
    "square": (objectives.least_squares, lambda a: a),
    "exponential": (objectives.exponential, lambda a: (2 * a).sigmoid()),
    "relativistic": (objectives.relativistic,
                     lambda a: (a - (a - ratio)[seen].mean()).sigmoid()),
    "hinge": (objectives.hinge, None),
}

# %%
def train_critic(cost, n_iterations, sizes=(1, 16, 16, 1)):
    """A small network that minimises ``cost(network)`` by L-BFGS."""
    network = MLP(sizes, nn.Tanh).double()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=n_iterations,
                                  line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = cost(network)
        value.backward()
        return value

    optimizer.step(closure)
    return network

# %%
errors, critics = {}, {}
for name, (loss, read) in as_probability.items():
    by_grid = train_critic(lambda network: paid(loss, network(x[:, None])[:, 0]), 120)
    with torch.no_grad():
        a = by_grid(x[:, None])[:, 0]
        reached = paid(loss, a)
    wanted = {"square": 1, "relativistic": 1}.get(name, 2)
    risk = table.get(name, table["square, 0 and 1"])[1] * wanted
    risk = -relativistic if name == "relativistic" else risk
    checks.close(reached, risk, what=f"{name}: the trained critic pays what (5.4) says",
                 atol=1e-2)
    if read is not None:
        errors[name] = (read(a) - best)[seen].abs().max()
        critics[name] = read(a)
        checks.true(errors[name] <= 0.05,
                    what=f"{name}: sup |D − D*| = {errors[name]:.4f} by quadrature")

# %% [markdown]
# From samples it is harder. Where $p+q$ is 1 % of its maximum, only a few hundred of 80,000 samples lie, and a network
# that is free to bend there bends with their luck. So this critic gets a hint: it sees $x^2$ beside $x$. The logit of
# $D^*$ for two Gaussians is a parabola.

# %%
n_points = {"smoke": 40_000, "class": 80_000, "full": 200_000}[budget]


def with_square(points):
    """x and x² / 4 side by side, (N,) to (N, 2)."""
    return torch.stack([points, points.square() / 4], 1)


def logits_of(network, *sets):
    return [network(with_square(points))[:, 0] for points in sets]


real, fake = torch.randn(n_points).double(), 1 + 1.4 * torch.randn(n_points).double()
by_samples = train_critic(
    lambda network: objectives.minimax(*logits_of(network, real, fake)).critic.mean(), 30,
    sizes=(2, 8, 1))
with torch.no_grad():
    estimated = logits_of(by_samples, x)[0].sigmoid()
    fresh = torch.randn(n_points).double(), 1 + 1.4 * torch.randn(n_points).double()
    held_out = -objectives.minimax(*logits_of(by_samples, *fresh)).critic

# %%
sup = (estimated - best)[seen].abs().max()
estimate = (held_out.mean() + 2 * math.log(2)) / 2
error = held_out.std() / n_points**0.5 / 2
print(f"sup |D − D*| from {n_points:,} samples each: {sup:.3f}")
print(f"JS from the critic, on samples it has not seen: {estimate:.4f} ± {error:.4f}; by "
      f"quadrature {js:.4f}")
checks.true(sup <= 0.05,
            what="a critic trained on samples is D* within 0.05 wherever there are samples")
checks.close(estimate, js, what="the critic's value measures JS", atol=1e-2, rtol=0)
checks.true(estimate <= js + 5 * error,
            what="held out, it is no larger than JS, up to its standard error")
record(critic_sup=sup, critic_js=estimate)

# %%
fig, ax = plt.subplots(figsize=(7.5, 3))
ax.fill_between(x, p / (x[1] - x[0]), color="gray", alpha=0.3, label="$p$")
ax.fill_between(x, q / (x[1] - x[0]), color=plots.PALETTE[1], alpha=0.3, label="$q$")
ax.plot(x, best, "k", lw=3, alpha=0.35, label="$D^*$, exact")
ax.plot(x, estimated, color=plots.PALETTE[0], label="trained on samples")
ax.plot(x, critics["relativistic"], "--", color=plots.PALETTE[3],
        label="relativistic, by quadrature")
for edge in x[seen][[0, -1]]:
    ax.axvline(edge, color="gray", lw=0.8, ls=":")
ax.set(xlabel="$x$", ylabel="density, probability", xlim=(-5, 7), ylim=(0, 1.05),
       title="A trained critic is D* where there are data (between the dotted lines)")
ax.legend(loc="upper right", fontsize=8)
plots.show(fig)
# alt: Two densities, the exact D* and two trained critics that lie on it between two dotted lines.

# %% [markdown]
# The critic's value on samples it has *not* seen is a **lower bound** of $2\,\mathrm{JS}-2\log2$, because no critic
# beats $D^*$. On the samples it was trained on it is not: a critic that has learned them by heart tells any two finite
# samples apart. Keep this for section 5.7: "my critic's loss is flat at 1.39" only means that *this* critic cannot
# tell. Train a fresh one, and ask it on held-out data.
#
# Is $D$ a probability, then? Of $D^*$ yes: the share of real data at $x$. Not an outlier detector: far from *both*
# densities $D$ was never asked, and outside the dotted lines the networks go where they like.

# %% [markdown]
# ### Exercise 5.2 (2 points): losses that survive sure critics
# Write `gan_losses`: from logits `real` and `fake`, both `(B,)`, to the pair (loss of the critic, non-saturating loss
# of the generator), each a mean over the batch. Logits of ±800 must give neither infinity nor NaN.

# %% exercise="5.2"

# %% tags=["check"]
check("5.2", gan_losses)

# %% [markdown]
# ### Exercise 5.3 (3 points): build a critic
# Write `fitted_critic`: given samples `real` and `fake`, `(N, 1)` each, build a network, train it, and return it;
# called with `(M, 1)` it must give logits `(M,)`. It is tried on densities of our choice and compared with their exact
# $D^*$. You have about 2,000 small steps, or two hundred of L-BFGS.

# %% exercise="5.3"

# %% tags=["check"]
check("5.3", fitted_critic)

# %% [markdown]
# ## 5.3 What the generator descends
#
# Section 5.2 said what a perfect critic is *worth*. Training needs a *direction*. At every step the generator holds the
# critic fixed and descends. Are these the same thing? For one loss yes, for the usual one no.
#
# **The minimax loss.** Let $q_\theta$ depend on parameters. The value at the best critic is $W(\theta)=\max_D
# V(D,\theta)=V(D^*_\theta,\theta)$, so $\theta$ enters twice. Differentiate:
#
# $$ \nabla_\theta W = \underbrace{\frac{\partial V}{\partial D}\Big|_{D^*_\theta}}_{=\,0}\cdot\nabla_\theta D^*_\theta
#    + \nabla_\theta V(D,\theta)\Big|_{D = D^*_\theta}
#    \quad\Longrightarrow\quad
#    \nabla_\theta V(D,\theta)\big|_{D=D^*_\theta} = \nabla_\theta\, 2\,\mathrm{JS}(p, q_\theta) . \tag{5.5} $$
#
# The first term vanishes because $D^*$ is a maximum of the *same* $V$: how the critic would answer does not matter to
# first order. This is the **envelope theorem**, and it is why a held critic is enough.

# %% [markdown]
# **The non-saturating loss.** In practice the generator descends $\mathbb{E}_q[-\log D]$ instead of
# $\mathbb{E}_q[\log(1-D)]$. Look at both as functions of the logit $b$ of a fake. At the start the critic is sure, $b$
# is far below zero, and the slope of the minimax loss, $-\sigma(b)$, is nearly zero there: it **saturates**. The slope
# of the other, $-(1-\sigma(b))$, is nearly $-1$ there. Both want $b$ to grow.

# %%
b = torch.linspace(-8, 8, 201, dtype=torch.float64).requires_grad_()
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for label, loss in {"minimax, log(1 − D)": objectives.minimax,
                    "non-saturating, −log D": objectives.non_saturating}.items():
    worth = loss(b.detach() * 0, b).generator - loss(b.detach() * 0, b.detach() * 0).generator
    (slope,) = torch.autograd.grad(worth.sum(), b)
    axes[0].plot(b.detach(), worth.detach(), label=label)
    axes[1].plot(b.detach(), slope, label=label)
axes[0].set(xlabel="logit of a fake", ylabel="loss − its value at 0 [nats]",
            title="What the generator pays", ylim=(-6, 6))
axes[1].set(xlabel="logit of a fake", ylabel="slope", title="How hard it is pulled")
axes[1].legend(fontsize=8)
plots.show(fig)
# alt: Both losses fall with the logit. The slope of the minimax loss vanishes on the left, where fakes are recognised;
# the slope of the other is −1 there and vanishes on the right.

# %% [markdown]
# But this game is not zero-sum any more: the critic maximises $V$, and the generator descends something else. The
# envelope theorem does not apply, so *value* and *descent* part company. Its value with a perfect critic is
#
# $$ \mathbb E_q[-\log D^*] = \mathbb E_q\Big[\log\frac{2m}{p}\Big] = \log 2 + \mathrm{KL}(q\,\|\,p) - \mathrm{KL}(q\,\|\,m) . \tag{5.6} $$
#
# (Insert $\frac{m}{p}=\frac qp\cdot\frac mq$.) And with the critic *held* at $D^*$ the gradient is another one
# (Arjovsky & Bottou 2017, theorem 2.5):
#
# $$ \nabla_\theta\,\mathbb E_{q_\theta}[-\log D]\,\Big|_{D=D^*_\theta}
#    = \nabla_\theta\big[\mathrm{KL}(q_\theta\,\|\,p) - 2\,\mathrm{JS}(p,q_\theta)\big]
#    = \nabla_\theta\, 2\,\mathrm{KL}(m_\theta\,\|\,p) . \tag{5.7} $$
#
# *Why.* Held, $-\log D^*=\log\frac{p+q}{p}$ is a fixed function $f$. Split it: $f=\log\frac{q}{p}-\log\frac{q}{p+q}$.
# The derivative of $\mathbb E_{q_\theta}[f]$ is $\int f\,\nabla q_\theta$. For the first part, $\int\log\frac
# qp\,\nabla q_\theta$ is $\nabla\mathrm{KL}(q_\theta\|p)$, since the other piece of that derivative, $\int
# q\,\nabla\log q_\theta=\nabla\int q_\theta$, is zero. For the second, $\log\frac q{p+q}=\log(1-D^*)$, and
# $\int\log(1-D^*)\,\nabla q_\theta$ is the minimax force, by (5.5) the gradient of $2\,\mathrm{JS}$. The last equality
# is algebra: writing $2m=p+q$,
#
# $$ 2\,\mathrm{KL}(m\,\|\,p)=\int(p+q)\log\frac mp=-\mathrm{KL}(p\,\|\,m)+\mathrm{KL}(q\,\|\,p)-\mathrm{KL}(q\,\|\,m) . $$
#
# Both sides of each equation, by automatic differentiation in the mean and the standard deviation of $q$:

# %%
at = torch.tensor([1.0, 1.4], dtype=torch.float64, requires_grad=True)  # mean and sd of q
q_at = Normal(*at).log_prob(x).exp() * (x[1] - x[0])
middle = (p + q_at) / 2
answering = p.log() - q_at.log()  # the logits of D*, which follow q
held = answering.detach()  # the same numbers, held


def by_q(value):
    """Derivatives by the mean and the standard deviation of q."""
    return torch.autograd.grad(value, at, retain_graph=True)[0]


def generator_pays(loss, logits):
    return theory.expected(loss(logits[:, None], logits[None, :]).generator, p, q_at)

# %% verifies=["5.5", "5.6", "5.7"] tags=["nbval-check-output"]
js_slope = by_q(2 * jensen_shannon(p, q_at))
kl_slope = by_q(kl_divergence(q_at, p) - 2 * jensen_shannon(p, q_at))
minimax_held, minimax_answering = (by_q(generator_pays(objectives.minimax, a))
                                   for a in (held, answering))
usual_held, usual_answering = (by_q(generator_pays(objectives.non_saturating, a))
                               for a in (held, answering))
usual_value = math.log(2) + kl_divergence(q_at, p) - kl_divergence(q_at, middle)
for name, slope in {"minimax, critic held": minimax_held,
                    "minimax, critic answers": minimax_answering,
                    "non-saturating, held": usual_held,
                    "non-saturating, answers": usual_answering}.items():
    print(f"{name:<24} by the mean {slope[0]:.3f}   by the sd {slope[1]:.3f}")
checks.close(minimax_held, js_slope, what="(5.5): minimax, held, descends 2 JS", atol=1e-9)
checks.close(minimax_answering, js_slope,
             what="(5.5): and it makes no difference that D* answers", atol=1e-9)
checks.close(generator_pays(objectives.non_saturating, held), usual_value,
             what="(5.6): its value", atol=1e-6)
checks.close(by_q(usual_value), usual_answering, what="(5.6): and the slope of its value",
             atol=1e-6)
checks.close(usual_held, kl_slope, what="(5.7): held, it descends KL(q‖p) − 2 JS", atol=1e-9)
checks.close(usual_held, by_q(2 * kl_divergence(middle, p)), what="(5.7): which is 2 KL(m‖p)",
             atol=1e-9)
checks.fails(lambda: torch.allclose(usual_held, usual_answering, atol=0.02),
             what="value and descent agree")

# %% [markdown]
# Remember the pair (0.886, 0.695) and (0.733, 0.655): the *same* loss, the *same* critic, once with the gradient
# through $D^*$ and once with $D^*$ held. The second is what training does.
#
# **Why GANs are sharp and forgetful.** $\mathrm{KL}(m\,\|\,p)$ averages over $m$, half of which are the generator's own
# samples. A fake where there are no data ($p\approx0$) is expensive, without limit. A place with data and no fakes
# costs little: there $m=\frac p2$, and $\frac p2\log\frac12$ is even negative. So it pays to be always plausible, and
# not to be everywhere. A VAE descends the other direction, $\mathrm{KL}(p\,\|\,q)$, where a missed place is what is
# expensive. It covers, and blurs.

# %% tags=["nbval-check-output"]
two = densities.two_bumps(6.0, 0.7)
wide = torch.linspace(-24, 26, 1_001, dtype=torch.float64)  # room for wide q
p_two = two.log_prob(wide.float()).double().exp() * (wide[1] - wide[0])
places, widths = torch.linspace(-4, 4, 41).double(), torch.linspace(0.3, 4.0, 38).double()
means, sds = (grid.reshape(-1, 1) for grid in torch.meshgrid(places, widths, indexing="ij"))
# every Gaussian q at once
q_all = Normal(means, sds).log_prob(wide).exp() * (wide[1] - wide[0])
m_all = (p_two + q_all) / 2
for name, cost in {"KL(p‖q), the VAE's direction": kl_divergence(p_two.expand_as(q_all),
                                                                 q_all),
                   "2 KL(m‖p), non-saturating": 2
                   * kl_divergence(m_all, p_two.expand_as(q_all)),
                   "2 JS, minimax": 2 * jensen_shannon(p_two.expand_as(q_all), q_all)}.items():
    k = cost.argmin()
    print(f"{name:<29} is least at mean {means[k].item():+.1f}, sd {sds[k].item():.2f}")
    if name.startswith("KL"):
        checks.true((means[k].abs() < 0.15) & (sds[k] > 2.5), what="covers both bumps")
    else:
        checks.true((means[k].abs() > 2.5) & (sds[k] < 1),
                    what="sits on one of two equal bumps")

# %% [markdown] tags=["fold"]
# ### Going deeper: labels for the square
# Least squares (LSGAN) has three labels: $a$ for fakes, $b$ for data, and $c$, what the generator wants $D$ to say.
# With $a=-1$, $b=1$ and $c=0$ the paper shows that the *value* is a $\chi^2$ divergence. But look at the *force*. At
# the optimum $D^*=\frac{p-q}{p+q}$ is zero. With $c=0$ the generator pays $\frac12D^{*2}$, whose derivative vanishes
# there as well: near the optimum the held critic hardly pulls. With $c=1$ it pays $\frac12(D^*-1)^2\approx\frac12-D^*$,
# and pulls. Take $q=\mathcal N(0.1, 1)$, nearly right:

# %% tags=["nbval-check-output"]
near = torch.tensor([0.1, 1.0], dtype=torch.float64, requires_grad=True)
q_near = Normal(*near).log_prob(x).exp() * (x[1] - x[0])
labels_best = (p - q_near) / (p + q_near)
value = theory.triangular(p, q_near) / 2
print(f"slope of the value by the mean: "
      f"{torch.autograd.grad(value, near, retain_graph=True)[0][0]:.4f}")
pulls = {}
for c in (0.0, 1.0):
    held_labels = labels_best.detach()
    terms = objectives.least_squares(held_labels[:, None], held_labels[None, :], a=-1.0, c=c)
    pulls[c] = torch.autograd.grad(theory.expected(terms.generator, p, q_near), near,
                                   retain_graph=True)[0][0].item()
    print(f"force with c = {c:.0f} by the mean:       {pulls[c]:.4f}")
checks.true(abs(pulls[0.0]) < 1e-3, what="with c = 0 the force vanishes near the optimum")
checks.close(pulls[1.0], 0.05, what="with c = 1 it is the distance / 2", atol=1e-3)

# %% [markdown] tags=["fold"]
# ### Going deeper: signs in print
# One of the notes prints $L_G=\mathbb E[\log D(G(z))]$ and calls it a loss. What is minimised must then be its
# negative. Another has the critic minimise $\mathbb E[\log(1-D(G(z)))]$. Signs are easily lost, so run both. The
# generator is a Gaussian whose mean we move; the critic answers perfectly.

# %%
def walk(sign, n_steps=60):
    """The mean of q = N(mean, 1) under steps down sign · E_q[log D*], D* held; the data are
    N(0, 1)."""
    mean, path = torch.tensor(1.0).double(), []
    for _ in range(n_steps):
        mean = mean.detach().requires_grad_()
        q_mean = Normal(mean, 1.0).log_prob(x).exp()
        log_d = nn.functional.logsigmoid(p.log() - (q_mean * (x[1] - x[0])).log()).detach()
        (slope,) = torch.autograd.grad(sign * (q_mean * (x[1] - x[0])) @ log_d, mean)
        mean = mean.detach() - 0.1 * slope
        path.append(mean.item())
    return path


as_printed, negated = walk(+1), walk(-1)
print(f"descending E log D(G(z)), as printed: the mean goes from 1 to {as_printed[-1]:.1f}")
print(f"descending −E log D(G(z)):            the mean goes from 1 to {negated[-1]:.2f}, "
      f"where the data are")
checks.true(as_printed[-1] > 2 and abs(negated[-1]) < 0.1,
            what="the printed sign drives fakes away from the data")

# %%
agreeable = torch.zeros_like(x, requires_grad=True)  # one free logit for each x
for _ in range(100):  # climbs E log D(x), and goes down E log(1 − D(G(z)))
    score_p, score_q = (nn.functional.logsigmoid(v) for v in (agreeable, -agreeable))
    (up,) = torch.autograd.grad((score_p * p - score_q * q).sum() / (p + q).max(), agreeable)
    agreeable = (agreeable + 20 * up).detach().requires_grad_()
everywhere = agreeable.detach().sigmoid()[seen].min()
print(f"a critic that climbs E log D(x) and minimises E log(1 − D(G(z))) says at least "
      f"{everywhere:.3f} everywhere")
checks.true(everywhere > 0.9, what="that critic calls everything real")

# %% [markdown]
# ### Exercise 5.4 (2 points): find the bug
# One round of a tiny GAN: $G(z)=\theta z$, $D(x)=\sigma(\psi x)$, gradient steps of size 0.1, first the critic, then
# the generator. The round below runs, and the generator gets worse. Find what is wrong.

# %% exercise="5.4"
def one_round(theta, psi, x, z):
    """One round of the game: the critic's step, then the generator's.

    theta, psi: numbers as 0-dim tensors; fakes are theta * z, logits are psi * x.
    x, z: (B,), data and codes; the same codes are used for both steps.
    Returns (theta, psi) after steps of size 0.1 down each player's mean loss: the critic's is
    the cross-entropy softplus(-real) + softplus(fake), the generator's the non-saturating
    softplus(-fake), with the critic's new psi.
    """
    theta, psi = theta.clone().requires_grad_(), psi.clone().requires_grad_()
    critic_loss = (nn.functional.softplus(-psi * x)
                   + nn.functional.softplus(psi * theta * z)).mean()
    critic_loss.backward()
    new_psi = (psi - 0.1 * psi.grad).detach()
    generator_loss = nn.functional.softplus(-new_psi * theta * z).mean()
    generator_loss.backward()
    return (theta - 0.1 * theta.grad).detach(), new_psi


# %% tags=["check"]
check("5.4", one_round)

# %% [markdown] defines=["5.8"]
# ## 5.4 Does it converge?
#
# A minimum is something one rolls into. An equilibrium of two players is not. The smallest example says most of it
# (Mescheder et al. 2018). The data are a single point, 0. The generator puts a single point, $\theta$. The critic is a
# straight line through the origin, $D(x)=\psi x$ as a logit. With $\ell$ the price of a fake logit (for the logistic
# loss $\ell(t)=\log(1+e^t)$, $\ell'=\sigma$), each player follows its own slope:
#
# $$ \dot\theta = \psi\,\ell'(\theta\psi), \qquad \dot\psi = -\theta\,\ell'(\theta\psi) - \gamma\,\psi . \tag{5.8} $$
#
# The last term belongs to the penalty **R1**, $\frac\gamma2\,\mathbb E_p\|\nabla_x D\|^2=\frac\gamma2\psi^2$; take
# $\gamma=0$ first. The equilibrium is $\theta=\psi=0$. Two things follow.
#
# *Exactly.* Without a penalty the step $(\dot\theta,\dot\psi)$ stands at a right angle to $(\theta,\psi)$:
# $\theta\dot\theta+\psi\dot\psi=0$. So steps of both players *at once*, of size $\eta$, never come closer. By
# Pythagoras the radius $r=\sqrt{\theta^2+\psi^2}$ grows,
#
# $$ r_{k+1} = r_k\,\sqrt{1+\eta^2\,\ell'(\theta_k\psi_k)^2} . \tag{5.9} $$
#
# *Near the equilibrium.* There (5.8) is linear with the matrix
# $\begin{pmatrix}0&\ell'(0)\\-\ell'(0)&-\gamma\end{pmatrix}$, whose eigenvalues solve
# $\lambda(\lambda+\gamma)+\ell'(0)^2=0$:
#
# $$ \lambda = -\tfrac\gamma2\pm\sqrt{\tfrac{\gamma^2}4-\ell'(0)^2} . \tag{5.10} $$
#
# Without a penalty $\lambda=\pm i\,\ell'(0)$: circles. With R1 the real part is $-\frac\gamma2$: spirals inwards,
# fastest at $\gamma=2\,\ell'(0)$, where the root vanishes (critical damping). R1 *and* R2 (the same penalty on fakes)
# act as $2\gamma$, so the best $\gamma$ is then $\ell'(0)$. And with steps of finite size, both at once, a penalty is
# needed that beats the growth: the step matrix has the determinant $1-\eta\gamma+\eta^2\ell'(0)^2$, so for small $\eta$
# it shrinks exactly if
#
# $$ \gamma > \eta\,\ell'(0)^2 . \tag{5.11} $$

# %%
slope_at_zero = 0.5  # sigma(0)


def jacobian(gamma, gamma_fake=0.0):
    """Of the field (5.8) at the equilibrium, by autograd."""
    def field(point):
        return torch.stack(theory.dirac_field(*point, torch.sigmoid, gamma, gamma_fake))

    return torch.autograd.functional.jacobian(field, torch.zeros(2).double())

# %% verifies=["5.9", "5.10", "5.11"] tags=["nbval-check-output"]
for gamma, gamma_fake in ((0.0, 0.0), (0.4, 0.0), (1.0, 0.0), (0.5, 0.5), (2.0, 0.0)):
    found = torch.linalg.eigvals(jacobian(gamma, gamma_fake))
    wanted = theory.dirac_eigenvalues(slope_at_zero, gamma + gamma_fake)
    distance = (found[:, None] - wanted[None, :]).abs().amin(1).max()
    checks.close(distance, 0.0,
                 what=f"(5.10): R1 {gamma}, R2 {gamma_fake}: slowest {found.real.max():+.2f}",
                 atol=1e-6)
path = theory.dirac_path(0.8, 0.0, 0.3, theory.sigma, 200)
radius = path.norm(dim=1)
growth = (1 + 0.3**2 * torch.sigmoid(path.prod(1)).square()).sqrt()
checks.close(radius[1:], radius[:-1] * growth[:-1],
             what="(5.9): the radius grows by this factor, to the last digit")
eta = 0.2
for gamma in (0.9 * eta * 0.25, 1.1 * eta * 0.25):
    end = theory.dirac_path(1e-3, 0.0, eta, theory.sigma, 2_000, gamma=gamma)[-1].norm() / 1e-3
    checks.true((end < 1) == (gamma > eta * 0.25),
                what=f"(5.11): γ = {gamma:.3f}: the radius becomes {end:.2g} times")
turns = theory.dirac_path(0.8, 0.0, eta, theory.sigma, 4_000, alternating=True).norm(dim=1)
checks.true((turns.max() < 1.3 * turns[0]) & (turns[2_000:].max() > 0.9 * turns[:2_000].max()),
            what="alternating steps neither grow nor converge")

# %%
def one_centred_path(theta, psi, step, n_steps, weight=0.1):
    """Dirac-GAN with the Wasserstein loss and WGAN-GP's penalty 0.1 (|psi| − 1)²: steps in
    turns."""
    path = [(theta, psi)]
    for _ in range(n_steps):
        psi = psi + step * (-theta - 2 * weight * (abs(psi) - 1) * math.copysign(1, psi))
        theta = theta + step * psi
        path.append((theta, psi))
    return torch.tensor(path)


start, eta, n = (1.2, 0.0), 0.2, 400
paths = {
    "at once: growing": theory.dirac_path(*start, eta, theory.sigma, n),
    "in turns: circling": theory.dirac_path(*start, eta, theory.sigma, n, alternating=True),
    "R1, γ = 1: arriving": theory.dirac_path(*start, eta, theory.sigma, n, gamma=1.0),
    "WGAN-GP: cycling": one_centred_path(*start, 0.05, 4 * n),
}
axis = torch.linspace(-2.5, 2.5, 21)
theta_grid, psi_grid = torch.meshgrid(axis, axis, indexing="xy")
fields = {name: theory.dirac_field(theta_grid, psi_grid, torch.sigmoid,
                                   1.0 if "R1" in name else 0.0) for name in paths}
fields["WGAN-GP: cycling"] = (psi_grid,
                              -theta_grid - 0.2 * (psi_grid.abs() - 1) * psi_grid.sign())

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 3.3), sharey=True)
for ax, (name, path) in zip(axes, paths.items()):
    ax.streamplot(axis.numpy(), axis.numpy(), *(part.numpy() for part in fields[name]),
                  color="lightgray", density=0.8)
    ax.plot(*path.T, color=plots.PALETTE[0], lw=1)
    ax.plot(*path[-1], "o", color=plots.PALETTE[3])
    ax.plot(0, 0, "k+", ms=10)
    ax.set(title=name, xlabel="θ, the fake", xlim=(-2.5, 2.5), ylim=(-2.5, 2.5),
           aspect="equal")
axes[0].set_ylabel("ψ, slope of the critic")
plots.show(fig)
# alt: Four vector fields with the path of both players: a growing spiral, a circle, a path into the middle, and a cycle
# that does not come to rest. Red dots are the ends.
late = {name: path[-100:].norm(dim=1) for name, path in paths.items()}
checks.true(late["at once: growing"].min() > 1.2,
            what="at once: further away than at the start")
checks.true(late["R1, γ = 1: arriving"].max() < 1e-3, what="R1 arrives")
checks.true(late["WGAN-GP: cycling"].max() > 0.3,
            what="the one-centred penalty does not come to rest")

# %% [markdown]
# So a GAN does not fail to converge because of a bug. Without a penalty it *circles*, in the smallest case there is.
# The critic's loss then goes up and down for ever, and a falling or rising loss says nothing about quality. R1 is
# friction on the critic's slope **at the data**. At the equilibrium that slope should be zero anyway, so R1 does not
# move the equilibrium. The one-centred penalty asks for slope 1 even there, and keeps pushing.
#
# *Which γ?* The formula says $2\,\ell'(0)$, which is 1 for the logistic loss, *if* data are one point. In the plane and
# on images the scale of $x$ enters (γ has the unit of length squared), so the right value is found by trying: too small
# circles, too large makes a critic too flat to see detail.

# %% [markdown]
# ## 5.5 When fakes and data do not overlap
#
# Images of digits fill a tiny part of all images, and the images that a fresh generator makes fill another. Do two such
# sets overlap? Hardly. Then all of 5.2 still holds, and helps little. Here is the smallest case.

# %% [markdown]
# ### Exercise 5.5 (1 point): predict
# Data and fakes are spread evenly over two intervals of length 1. Commit a number before you go on.

# %% exercise="5.5"

# %% tags=["check"]
check("5.5", growth_of_js)

# %%
apart = torch.linspace(0, 4, 81, dtype=torch.float64)
cells = torch.linspace(0, 5, 2_001, dtype=torch.float64)[:-1] + 0.00125  # midpoints
left = ((cells < 1).double() / 400)[None, :]
right = ((cells >= apart[:, None]) & (cells < apart[:, None] + 1)).double()
right = right / right.sum(1, keepdim=True)
js_apart = jensen_shannon(left.expand_as(right), right)
u = torch.rand(5_000).double()
w_apart = torch.stack([theory.wasserstein_1d(u, torch.rand(5_000).double() + d)
                       for d in apart])
reveal("5.5", (js_apart[80] - js_apart[40]).item())

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8))
axes[0].plot(apart, js_apart, color=plots.PALETTE[2])
axes[0].axhline(math.log(2), color="gray", ls=":", label="log 2")
axes[0].set(xlabel="distance of the left ends", ylabel="nats",
            title="JS: flat as soon as they part", ylim=(0, 0.8))
axes[0].legend()
axes[1].plot(apart, w_apart, color=plots.PALETTE[3])
axes[1].set(xlabel="distance of the left ends", ylabel="distance",
            title="$W_1$: how far mass must travel")
plots.show(fig)
# alt: Left: JS rises to log 2 at distance 1 and stays. Right: the Wasserstein distance is a straight line.
checks.close(js_apart[apart >= 1], math.log(2),
             what="JS is log 2 wherever they do not overlap", rtol=1e-6)
checks.close(w_apart, apart, what="W₁ is the distance", atol=0.05)

# %% [markdown]
# A perfect critic is then *certain*: its value is 0, its loss is 0, and its slope at the fakes says nothing about where
# the data are. Is a critic loss of 0 a failure, then? It says that this critic tells fakes from data without error. The
# minimax generator gets no gradient from it. Any other loss of 5.2 has the same ceiling, because all of them compare
# $p$ and $q$ point by point.
#
# The **Wasserstein distance** compares *places*. It is the least work to carry the mass of $q$ to where $p$ is, with
# the distance as the price. For samples on a line the best plan is to sort both and pair them by rank. By the theorem
# of Kantorovich and Rubinstein (not proved here) it is also a *critic's* value, with critics that are not too steep,
# $|f(x)-f(y)|\le\|x-y\|$ (called **1-Lipschitz**):
#
# $$ W_1(p,q) = \min_{\text{plans}}\ \mathbb E\|x-y\| \;=\; \max_{\|f\|_L\le1}\ \mathbb E_p[f(x)]-\mathbb E_q[f(x)] . \tag{5.12} $$
#
# Such an $f$ is not a probability. It is a slope to slide down, and it has the same steepness at any distance. The plan
# on the left is a linear programme; solve it in the plane, take the prices it comes with, and check that they make a
# legal critic of exactly this value.

# %% verifies=["5.12"] tags=["nbval-check-output"]
from scipy.optimize import linprog

generator = torch.Generator().manual_seed(4)
here, there = torch.randn(2, 14, 2, generator=generator).double()
there = there + 1.5
cost = torch.cdist(here, there)  # (14, 14)
eye, ones = torch.eye(14), torch.ones(1, 14)
sums = torch.cat([torch.kron(eye, ones), torch.kron(ones, eye)]).numpy()
plan = linprog(cost.flatten().numpy(), A_eq=sums, b_eq=[1 / 14] * 28)
w1 = plan.fun
price = torch.tensor(plan.eqlin.marginals[14:]).double()  # of a place in `there`


def potential(points):
    """A critic made of the prices: f(x) = min over y of ‖x − y‖ − price(y). A minimum of cones
    is 1-Lipschitz."""
    return (torch.cdist(points, there) - price).amin(1)


checks.close(potential(here).mean() - potential(there).mean(), w1,
             what=f"(5.12): plan and critic agree: {w1:.4f}", rtol=1e-6)
anywhere = 4 * torch.rand(400, 2, generator=generator).double() - 1
rise = (potential(anywhere)[:, None] - potential(anywhere)[None, :]).abs()
steep = rise / torch.cdist(anywhere, anywhere).clamp(min=1e-9)
checks.true(steep <= 1 + 1e-6, what="the critic is nowhere steeper than 1")

# %% verifies=["5.12"] tags=["nbval-check-output"]
line_here, line_there = here[:, :1], there[:, :1]
on_line = linprog(torch.cdist(line_here, line_there).flatten().numpy(),
                  A_eq=sums, b_eq=[1 / 14] * 28)
checks.close(theory.wasserstein_1d(line_here[:, 0], line_there[:, 0]), on_line.fun,
             what="on a line: pairs by rank", rtol=1e-6)

# %% [markdown]
# **How to keep a network from being steep?** *Clipping* its weights (the first WGAN) bounds the steepness by *some*
# $K$, so the critic's value is at most $K\cdot W_1$ with a $K$ that nobody knows. It ranks distances, and does not
# measure them. A *penalty* $\lambda(\|\nabla f\|-1)^2$ at points between data and fakes (WGAN-GP) aims at slope 1.
# *Spectral normalisation* divides every layer by its largest singular value. Watch what the first two measure, on two
# narrow heaps $d$ apart, where $W_1=d$.

# %%
def measured(distance, clip=None, n_steps=200):
    """The value E f(real) − E f(fake) of a critic trained on two heaps ``distance`` apart."""
    torch.manual_seed(seed + 1)
    critic = gan.Critic(MLP([1, 32, 32]), 32)
    optimizer = torch.optim.Adam(critic.parameters(), 5e-3)

    def loss(batch):
        heap, other = batch
        terms = objectives.wasserstein(critic(heap), critic(other)).critic.mean()
        penalty = 0 if clip else objectives.one_centred(critic, heap, other).mean()
        return {"loss": terms + penalty, "value": -terms}

    draw = iter(lambda: (0.05 * torch.randn(64, 1), distance + 0.05 * torch.randn(64, 1)),
                None)
    values = []
    for step in training.steps(loss, optimizer, draw, n_steps):
        if clip:
            objectives.clip_weights_(critic, clip)
        values.append(step.terms["value"])
    return torch.stack(values[-50:]).mean().item()

# %%
ways, distances = {"clipped at 0.1": 0.1, "clipped at 0.2": 0.2,
                   "one-centred penalty": None}, torch.tensor([1.0, 4.0])
told = {name: torch.tensor([measured(distance, clip) for distance in distances]) for name,
        clip in ways.items()}
for name, values in told.items():
    print(f"{name:<20} says {values[0]:.2f} and {values[1]:.2f} for the distances 1 and 4")
ratios = {name: values / distances for name, values in told.items()}
checks.true(ratios["clipped at 0.2"] > 3 * ratios["clipped at 0.1"],
            what="clipping measures K · W₁, and K depends on the clip")
slack = 1 + distances / 20  # the slope s that is best for d · s − 10 (s − 1)²
checks.close(ratios["one-centred penalty"], slack,
             what="the penalty measures W₁ · (1 + W₁ / 20)", atol=0.06)

# %% [markdown]
# The penalty is close, and a little too large: it lets the slope exceed 1 where that pays. With $\lambda=10$ the best
# slope for a distance $d$ maximises $d\,s-10(s-1)^2$, so it is $1+d/20$. What does the sign of a WGAN critic mean,
# then? $\mathbb E f(\text{real})-\mathbb E f(\text{fake})$ is the estimated distance and positive; code that
# *minimises* prints its negative.

# %% tags=["widget"]
widgets.sliding_densities()

# %% [markdown]
# **The baseline of today** avoids the ceiling in another way. It keeps the logistic loss, in its relativistic form, and
# smooths the critic with R1 on the data *and* R2 on the fakes. A critic that is not steep cannot be certain, so there
# is always a slope (Huang et al. 2024). Section 5.6 uses it.

# %% [markdown]
# ### Exercise 5.6 (2 points): find the bug
# This penalty is from real code, for images. It runs, the loss falls, and the critic is not what it should be.

# %% exercise="5.6"
def gradient_penalty(slopes):
    """The one-centred penalty (||gradient|| - 1)^2, averaged over the batch.

    slopes: (B, C, H, W), the gradient of each sample's logit by that sample.
    Returns a number: the mean over the B samples; the norm of a sample runs over all its
    numbers.
    """
    return ((slopes.norm(2, dim=1) - 1) ** 2).mean()


# %% tags=["check"]
check("5.6", gradient_penalty)

# %% [markdown]
# ## 5.6 Why all samples look alike: collapse
#
# The generator wants to please the critic. If one kind of fake pleases it most, why make others? The critic catches up,
# says "that kind is fake", the generator moves on to another kind, and so on: **mode collapse**. It is the circling of
# 5.4 in more dimensions. Cause it, and cure it, in the plane, where one can see it.

# %% tags=["widget"]
widgets.training_player(densities.eight_gaussians(1.5, 0.12))

# %% [markdown]
# Now measure it. Twenty-five equal Gaussians on a grid, spacing 1.5, $\sigma=0.15$. A *mode* is a centre. Draw 10,000
# samples. One lies **on mode** if it is within $3\sigma$ of a centre; of the truth 98.9 % do. A mode counts as
# **covered** with at least 40 samples, a tenth of its fair share ("hit once" would mean nothing: spread samples evenly
# over the square, and every mode is hit). Both numbers are needed. A collapsed generator has a high second number and a
# low first one, a smeared one the opposite.
#
# The critic is a small MLP that sees $\sin$ and $\cos$ of its input as well, so that it *can* see detail. First the
# plain non-saturating game. Then the baseline: relativistic loss, R1 on data, R2 on fakes, $\gamma=0.02$.

# %%
grid = densities.twenty_five_gaussians()
centres = grid.component_distribution.mean
names = {"plain": (objectives.non_saturating, None),
         "baseline": (objectives.relativistic, gan.penalised(0.02, 0.02))}
n_rounds = {"smoke": 60, "class": 1_500, "full": 20_000}[budget]
players, films = {}, {}


def train_in_plane(name, loss, penalty, n_rounds, n_pictures=4):
    """Both players, and samples at a few moments."""
    model = gan.plane_gan(width=64, loss=loss, penalty=penalty, waves=(1.0, 2.0, 4.0))
    optimizers = [torch.optim.Adam(net.parameters(), 1e-3, (0.5, 0.99))
                  for net in (model.critic, model.generator)]
    moments = [n_rounds * (k + 1) // n_pictures for k in range(n_pictures)]
    film = []
    training.adversarial_fit(
        model.critic_loss, model.generator_loss, *optimizers,
        iter(lambda: grid.sample((128,)), None), n_rounds,
        schedulers=[torch.optim.lr_scheduler.CosineAnnealingLR(o, n_rounds)
                    for o in optimizers], description=name,
        callback=lambda m: film.append(model.sample(1_500)) if m.player == "generator"
        and m.step in moments else None)
    return model, film

# %%
for name, (loss, penalty) in names.items():
    players[name], films[name] = train_in_plane(name, loss, penalty, n_rounds)
fits = {name: metrics.modes_and_fit(model.sample(10_000), centres, 0.15) for name,
        model in players.items()}
fits["the truth itself"] = metrics.modes_and_fit(grid.sample((10_000,)), centres, 0.15)
fits["a uniform square"] = metrics.modes_and_fit(7.5 * torch.rand(10_000, 2) - 3.75, centres,
                                                 0.15)
for name, fit in fits.items():
    print(f"{name:<24} modes {fit['modes']:2d}   on mode {fit['on_mode']:.3f}   KL "
          f"{fit['kl']:.2f}   width {fit['width']:.2f}")
checks.close(fits["the truth itself"]["on_mode"], 1 - math.exp(-4.5),
             what="of the truth 98.9 % are on mode", atol=0.006)
record(plain_modes=fits["plain"]["modes"], cured_modes=fits["baseline"]["modes"],
       cured_on_mode=fits["baseline"]["on_mode"])

# %%
fig, axes = plt.subplots(2, 4, figsize=(10, 5.2), sharex=True, sharey=True)
for row, (name, film) in zip(axes, films.items()):
    for ax, points, k in zip(row, film, range(1, 5)):
        ax.plot(*centres.T, "+", color="gray", ms=4)
        ax.plot(*points.T, ".", ms=1, color=plots.PALETTE[0 if name == "plain" else 2])
        ax.set(xlim=(-4.2, 4.2), ylim=(-4.2, 4.2), aspect="equal",
               title=f"{name}, round {n_rounds * k // 4:,}")
        ax.title.set_fontsize(9)
for ax in axes[-1]:
    ax.set_xlabel("$x_1$")
for ax in axes[:, 0]:
    ax.set_ylabel("$x_2$")
plots.show(fig)
# alt: Samples at four moments of two trainings, grey crosses at the 25 centres: the plain game above, the game with
# both penalties below.

# %% [markdown]
# Sources name three marks of a good GAN: *stable* training, *diverse* samples, *sharp* samples. Each is a number here.
# Stability: by how much the number of covered modes swings over the last fifth of the rounds, and how the seeds differ.
# Diversity: the covered modes. Sharpness: the share on mode, and the width of the modes. Four losses, three seeds each,
# 1,000 rounds, and one of them twelve times as long (made by `course bench gan --ship`, and shipped); your two runs
# stand below. Read the columns together: a row can cover every mode and still have half of its samples between them.
# Patience then moves the samples onto the modes.

# %%
print(f"{'':<34}{'seed':>5}{'swing':>7}{'modes':>7}{'on mode':>9}{'width':>7}")
shelf = shipped.results("gan_losses.json")["rows"]
for row in [row for row in shelf if row["name"] != "relativistic_hard"]:
    print(f"{row['title']:<34}{row['seed']:5d}{row['test_swing']:7.1f}{row['test_modes']:7d}"
          f"{row['test_on_mode']:9.2f}{row['test_width']:7.2f}")
for name, fit in ((name, fits[name]) for name in names):
    print(f"{'yours, ' + name:<34}{seed:5d}{'':>7}{fit['modes']:7d}{fit['on_mode']:9.2f}"
          f"{fit['width']:7.2f}")

# %% [markdown]
# **Two grids, never on one line.** The literature often uses another grid, spacing 2 and $\sigma=0.05$, where a mode is
# a far smaller target. A share on mode means nothing without its grid:

# %%
hard = densities.twenty_five_gaussians(2.0, 0.05)
for name, target, sd, half in (("this chapter's", grid, 0.15, 3.75),
                               ("the literature's", hard, 0.05, 5.0)):
    spread_out = metrics.modes_and_fit(2 * half * torch.rand(10_000, 2) - half,
                                       target.component_distribution.mean, sd)
    itself = metrics.modes_and_fit(target.sample((10_000,)),
                                   target.component_distribution.mean, sd)
    print(f"{name} grid: on mode, the truth {itself['on_mode']:.3f}, a uniform square "
          f"{spread_out['on_mode']:.3f}")
for row in [row for row in shelf if row["name"] == "relativistic_hard"]:
    print(f"the long game on the literature's grid: {row['test_modes']} modes, on mode "
          f"{row['test_on_mode']:.3f}, width {row['test_width']:.2f}")

# %% [markdown] tags=["fold"]
# ### Going deeper: count them yourself
# #### Exercise 5.7 (1 point): covered modes
# Write `covered_modes`, the count above.

# %% exercise="5.7"

# %% tags=["check"]
check("5.7", covered_modes)

# %% [markdown]
# ## 5.7 Images
#
# The **DCGAN** (Radford et al. 2016) is the generator of the notes: 100 numbers, each uniform on $(-1,1)$, a linear
# layer, then transposed convolutions that double the side until the image is there. Its critic is the mirror image:
# convolutions that halve the side. Ours are narrow, since a laptop's minute is short: many small steps beat few large
# ones.

# %% quote="course_utils.models.gan.model:dcgan_generator"

# %% [markdown]
# Three practical points.
#
# * **Batch norm** in the generator, none in the critic. Batch norm mixes the samples of a batch. R1 asks for the
#   gradient of the logit of *one* sample, and with batch norm there is no such thing.
# * **An average of the weights.** Both players circle a little for ever. The mean over the last rounds sits in the
#   middle of the circle. We say the average as a half-life in rounds, and average the running statistics of batch norm
#   as well.
# * **R1 on a quarter of each batch**, since a gradient of a gradient is expensive. The mean is the same.

# %%
n_train = {"smoke": 400, "class": 8_000,
           "full": 60_000 if dataset == "handwriting" else None}[budget]
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
n_gan = {"smoke": 12, "class": 1_500, "full": 40_000}[budget]


fixed_codes = gan.UniformCodes(100)().sample((10,)).to(device)
film, moments, seconds = [], [n_gan * k // 64 for k in (1, 2, 4, 8, 16, 64)], {}


def train_gan(name, model, batches, n_rounds, callback=None, lr=1e-3):
    """Train both players; the running average of the model (half-life a tenth of the training)
    and the curves."""
    model = model.to(device, memory_format=torch.channels_last)
    average = training.ema_of(model, half_life=min(150, n_rounds / 10), buffers=True)
    optimizers = [torch.optim.Adam(net.parameters(), lr, (0.5, 0.99))
                  for net in (model.critic, model.generator)]
    start = time.process_time()
    history = training.adversarial_fit(model.critic_loss, model.generator_loss, *optimizers,
                                       batches, n_rounds,
                                       description=name, ema=average, callback=callback)
    seconds[name] = time.process_time() - start
    return average.module, history

# %%
dcgan = gan.dcgan(data.shape, width=16, critic_width=16,
                  penalty=gan.penalised(0.5, share=0.25))


def remember(move):
    """The same ten codes, and 500 new samples, at a few moments."""
    if move.player == "generator" and move.step in moments:
        with training.evaluating(dcgan):
            some = torch.cat([dcgan.sample(250) for _ in range(2)]).cpu()
            film.append((move.step, dcgan.generator(fixed_codes).cpu(), some))


batches = images.batches(data.train.images, 32)
average, history = train_gan("DCGAN", dcgan, batches, n_gan, remember)

# %%
sheet = torch.cat([pictures for _, pictures, _ in film])
rounds = ", ".join(f"{step:,}" for step, _, _ in film)
plots.show(plots.images(sheet, columns=10, title=f"The same ten codes after {rounds} rounds"))
# alt: Rows of ten images, each column one code, from the first rounds above to the last below.

# %% [markdown] tags=["fold"]
# ### Going deeper: 64×64 in colour
# The notes describe the generator for 64×64×3 images. It is the same function with two doublings more. Here is what
# becomes of the shape of one code. (Untrained: on a laptop a useful training takes too long.)

# %%
large = gan.dcgan((3, 64, 64), width=16, critic_width=8)
step_by_step = gan.UniformCodes(100)().sample((1,))
with training.evaluating(large):
    for layer in large.generator.network:
        step_by_step = layer(step_by_step)
        if isinstance(layer, (nn.Linear, nn.Unflatten, nn.ConvTranspose2d)):
            print(f"{type(layer).__name__:<16} {tuple(step_by_step.shape[1:])}")

# %% [markdown]
# ### How good is it?
# The losses do not say. So compare *sets* of images. A small classifier reads each image; the 64 numbers before its
# last layer are the image's **features**. (It is shipped, trained on the same kind of data.) See both sets of features
# as Gaussians and take the **Fréchet distance** between these,
#
# $$ F = \|\mu_1-\mu_2\|^2 + \mathrm{tr}\big(\Sigma_1+\Sigma_2-2(\Sigma_1^{1/2}\Sigma_2\Sigma_1^{1/2})^{1/2}\big) . $$
#
# With Inception features it is called FID; with ours it is not. Two sets of *real* images also have a distance above
# zero, the **floor**, which falls as $1/n$. So only the ratio to the floor at the same $n$ means something: 1 is "as
# far apart as two halves of the truth". One split scatters by a third, so the floor is the mean of eight.
#
# The Gaussians keep two moments of the features only. The **kernel distance** compares more: it is the squared distance
# between the means of all (weighted) monomials up to degree three, without bias: zero in the mean for equal sets, at any
# $n$, so it needs no floor.
#
# Beside them stand **density** (do samples lie where data are dense?), **coverage** (does every datum have a sample near
# it?), and **copying**: how often a sample lies nearer to the training set than a test image does. Half is right, 1 is
# a copyist, and near 0 the samples lie far from all real images.

# %%
from course_utils.data import handwriting

# feature networks that are shipped
known = dataset if dataset in ("handwriting", "mnist") else "handwriting"
reader = classifier.feature_network()
training.load_weights(shipped.path(f"features_{known}.safetensors"), reader)
reader = reader.to(device)
n_judged = {"smoke": 500, "class": 2_000, "full": 5_000}[budget]


def features_of(x):
    """(n, 64) features of images with pixels in [0, 1]."""
    with training.evaluating(reader):
        return torch.cat([reader.features(part) for part in x.to(device).split(500)])


if dataset == "handwriting":  # drawn with a seed of its own
    reference = images.to_float(handwriting.sample(2 * n_judged, seed=777).images)
else:
    reference = images.to_float(data.test.images[: 2 * n_judged])
reference_features = features_of(reference)
floor, spread = metrics.half_against_half(metrics.frechet_distance, reference_features,
                                          n_judged,
                                          torch.Generator().manual_seed(0))
train_features = features_of(images.to_float(data.train.images[:8_000]))
print(f"floor at n = {n_judged:,}: {floor:.2f} ± {spread:.2f} from split to split")

# %%
def judge(x):
    """Both distances, density, coverage and copying of images ``x`` (n, C, H, W)."""
    found, real = features_of(x[:n_judged]), reference_features[:n_judged]
    density, coverage = metrics.density_coverage(found, real)
    return {"ratio": metrics.frechet_distance(found, real) / floor,
            "kernel": metrics.kernel_distance(found, real),
            "density": density, "coverage": coverage,
            "copying": metrics.data_copying(found[:500], train_features,
                                            reference_features[n_judged:][:500])}


def show_table(rows):
    """One line a set of images, one column a number."""
    print(" " * 24 + "".join(f"{column:>10}" for column in next(iter(rows.values()))))
    for name, row in rows.items():
        print(f"{name:<24}" + "".join(f"{value:10.2f}" for value in row.values()))


def draw(model, n=None, y=None):
    """``n`` images by a trained model, in parts."""
    with training.evaluating(model):
        parts = range(0, n or n_judged, 250)
        return torch.cat([model.sample(250, *(() if y is None else (y[k : k + 250],)))
                          for k in parts]).cpu()

# %%
real = images.to_float(data.train.images[:n_judged]).cpu()
real = real.repeat(-(-n_judged // len(real)), 1, 1, 1)[:n_judged]
spoiled = {
    "other real images": reference[n_judged:],
    "one pixel shifted": reference[n_judged:].roll(1, 3),
    "noise of 0.05": (reference[n_judged:] + 0.05
                      * torch.randn_like(reference[n_judged:])).clamp(0, 1),
    "3×3 blur": nn.functional.avg_pool2d(reference[n_judged:], 3, 1, 1),
    "training images, copied": real,
    "50 images, copied": real[:50].repeat(n_judged // 50, 1, 1, 1),
}
samples = draw(average)
rows = {name: judge(x) for name, x in spoiled.items()} | {"DCGAN": judge(samples)}
show_table(rows)
checks.true(rows["training images, copied"]["copying"] > 0.9,
            what="a copyist is found out by one column")
checks.true(rows["50 images, copied"]["coverage"] < rows["other real images"]["coverage"],
            what="a collapser by another")
record(gan_ratio=rows["DCGAN"]["ratio"], gan_coverage=rows["DCGAN"]["coverage"], floor=floor)

# %% [markdown]
# Read the table from the top before you read its last row. A ratio has a meaning only beside these. Copies of the
# training set have a small ratio, and only the last column finds them out. No single number can be trusted.

# %%
with training.evaluating(reader):
    _, which = metrics.nearest(features_of(samples[:12]), train_features)
pairs = torch.cat([samples[:12], images.to_float(data.train.images[which.cpu()]).cpu()])
plots.show(plots.images(pairs, columns=12,
                        title="Samples, and below each the nearest training image "
                              "(in features)"))
# alt: Twelve generated images above the twelve training images whose features are nearest.

# %% [markdown] tags=["fold"]
# ### Going deeper: what the losses say
# The dotted lines are what a critic pays that cannot tell at all: $\log4=1.39$ for both its terms, and $\log2=0.69$ for
# the generator. They hold for the logistic losses only (a hinge critic that cannot tell pays 2).

# %%
def smooth(curve):
    return curve.unfold(0, max(1, min(50, len(curve) // 5)), 1).mean(1)


some_real = reference_features[:500]
floor_500, _ = metrics.half_against_half(metrics.frechet_distance, reference_features, 500,
                                         torch.Generator().manual_seed(0))
ratios = [metrics.frechet_distance(features_of(x), some_real) / floor_500 for *_, x in film]
fig, axes = plt.subplots(1, 2, figsize=(11, 2.8))
for player, line_at, colour in (("critic_adversarial", math.log(4), 0),
                                ("generator_loss", math.log(2), 3)):
    axes[0].plot(smooth(history[player]), color=plots.PALETTE[colour],
                 label=player.split("_")[0])
    axes[0].axhline(line_at, color=plots.PALETTE[colour], ls=":")
axes[0].set(xlabel="round", ylabel="nats", title="Losses of both players", ylim=(0, None))
axes[0].legend()
axes[1].plot([step for step, *_ in film], ratios, "o-", color=plots.PALETTE[2])
axes[1].set(xlabel="round", ylabel="Fréchet distance over floor", yscale="log",
            title="What the losses do not show (500 samples)")
print("Fréchet over floor, 500 samples:",
      ", ".join(f"{r:.1f} after {step:,}" for (step, *_), r in zip(film, ratios)))
plots.show(fig)
# alt: Left the losses of critic and generator over the rounds, with dotted lines at log 4 and log 2; right the Fréchet
# distance of 500 samples over its floor at six moments of the same training.

# %% [markdown]
# Should the generator's loss fall? It is measured by an opponent that learns as well, so it may stay or rise while the
# samples improve. The right panel measures the samples themselves at six moments of the same training, by the current
# weights. (The floor is another one at 500 samples: do not compare with the table above.) When to stop,
# then? When this ratio no longer falls. And a critic's loss flat at 1.39 means only that *this* critic cannot tell
# (5.2): train a fresh one and ask it on held-out data.

# %% [markdown] tags=["fold"]
# ### Going deeper: real and fake in one batch
# Papers with batch norm in the critic feed real and fake images in *separate* batches. Why? Put both in one batch, and
# the normalisation compares them: it takes off the mean of *both* and so tells each image how many of the others are
# like it. Here is one critic with batch norm, and the same real images, alone and together with noise.

# %%
normalised = gan.dcgan(data.shape, width=8, critic_width=8,
                       normalise_critic=True).critic.to(device).train()
with torch.no_grad():
    some, noise = images.to_float(data.train.images[:64]), torch.rand(64, *data.shape,
                                                                      device=device)
    alone = normalised.features(some)
    mixed = normalised.features(torch.cat([some, noise]))[:64]
change = ((alone - mixed).square().mean() / alone.var(0).mean()).sqrt()
print(f"the features of the same real images change by {change:.2f} of their spread with the "
      f"company they are in")
checks.true(change > 0.3, what="with batch norm an image is not judged by itself")

# %% [markdown]
# ### Walk through the codes
# A GAN gives no code for a given image. But it has codes, and nearby codes give similar images. Below is a plane
# through the 100-dimensional cube of codes. Each dot is a code, its colour the digit that the classifier reads in its
# image.

# %% tags=["widget"]
def plane_of_codes(model, reach=3.5):
    """The generator on a plane through the codes, (B, 2) -> images: two directions at right
    angles inside the cube."""
    directions, _ = torch.linalg.qr(torch.randn(100, 2))
    across = nn.Linear(2, 100, bias=False)
    with torch.no_grad():
        across.weight.copy_(directions / directions.abs().amax() / reach)
    return nn.Sequential(across, *deepcopy(model.generator.network).cpu()).eval()


walk_codes = plane_of_codes(average)
dots = 7 * torch.rand(400, 2) - 3.5
with training.evaluating(reader):
    read_as = reader(walk_codes(dots).detach().to(device)).logits.argmax(1).cpu()
widgets.latent_explorer({"GAN": walk_codes}, {"GAN": dots}, read_as,
                        priors=("GAN",), drawn=("GAN",), question={
    "ask": "Guess first: between two codes that give different digits, what do you see "
           "on the way?",
    "options": ["a cross-fade of both", "one shape that bends into the other"], "right": 1,
    "answer": "The generator is a continuous map, so the image changes in small steps, and "
              "the critic saw to it that "
              "each step looks like ink on paper. Whether it passes another digit depends on "
              "the two codes."})

# %% [markdown] tags=["fold"]
# ### Going deeper: say which digit
# In a **conditional GAN** both players are told the label: $G(z,y)$, and $D(x,y)$ judges whether $x$ is a real image
# *of class $y$*. Our critic takes the label by projection (see the package): its logit is $w^\top f(x)+v_y^\top f(x)$.
# Why are labels sometimes ignored? If the critic cannot use them, the generator has no reason to. So measure it: draw
# each digit, let the classifier read it, and compare with its own accuracy on real images (the ceiling) and with
# permuted labels (the control).

# %%
conditional = gan.dcgan(data.shape, width=16, critic_width=16, n_classes=len(data.classes),
                        penalty=gan.penalised(0.5, share=0.25))
pairs_of = images.batches(data.train.images, 32, data.train.labels)
n_conditional = {"smoke": 12, "class": 1_200, "full": 40_000}[budget]
told_average, _ = train_gan("conditional GAN", conditional, pairs_of, n_conditional)
wanted = torch.arange(n_judged, device=device) % len(data.classes)
drawn = draw(told_average, y=wanted)
with training.evaluating(reader):
    read = torch.cat([reader(part.to(device)).logits for part in drawn.split(500)])
    ceiling = metrics.accuracy(
        torch.cat([reader(images.to_float(p)).logits for p in data.test.images.split(500)]),
                               data.test.labels)
obeyed, permuted = (metrics.accuracy(read, y)
                    for y in (wanted, wanted[torch.randperm(len(wanted))]))
conditional_row = judge(drawn)
print(f"label obeyed {obeyed:.3f}; ceiling {ceiling:.3f}; permuted labels {permuted:.3f}")
print(f"Fréchet over floor {conditional_row['ratio']:.1f}, coverage "
      f"{conditional_row['coverage']:.2f}")
record(cgan_accuracy=obeyed, cgan_ratio=conditional_row["ratio"])
plots.show(plots.images(drawn[:40], columns=10,
                        title="Conditional GAN: each column was asked for one digit"))
# alt: Four rows of ten images; in each column the digit that was asked for.

# %% [markdown]
# ## 5.8 VAE and GAN on equal terms
#
# The same images, a decoder of the same shape as the generator, and the same time of training (the VAE's steps are
# fewer pieces of work, so it takes more of them). What does each do better?

# %%
def likelihood_of(network):
    """The DCGAN's generator as a decoder: its sigmoid is left out, since Bernoulli pixels take
    logits."""
    return vae.BernoulliHead(nn.Sequential(*list(network)[:-1]))


seen_by_encoder, n_seen = gan.dcgan_features(data.shape, 16)
encoder = vae.GaussianHead(nn.Sequential(seen_by_encoder, nn.Linear(n_seen, 40)))
rival = vae.VAE(encoder, likelihood_of(gan.dcgan_generator(20, data.shape, 16)),
                vae.StandardNormal(20)).to(device)
n_vae = {"smoke": 28, "class": 3_500, "full": 94_000}[budget]
optimizer = torch.optim.Adam(rival.parameters(), 2e-3)
grey_or_ink = map(images.binarise, images.batches(data.train.images, 32))
start = time.process_time()
training.fit(rival.loss, optimizer, grey_or_ink, n_vae,
             description="VAE with the same decoder")
print(f"processor seconds: GAN {seconds['DCGAN']:.0f}, VAE {time.process_time() - start:.0f}")
with training.evaluating(rival):
    vae_means = torch.cat([rival.decoder(rival.prior().sample((250,))).mean
                           for _ in range(n_judged // 250)]).cpu()

# %%
shown = {"VAE": vae_means, "GAN": samples, "test images": reference[n_judged:]}
sharp = metrics.sharpness(reference[:n_judged])
compared = {name: {"sharpness": metrics.sharpness(x) / sharp} | judge(x)
            for name, x in shown.items()}
show_table(compared)
record(vae_sharpness=compared["VAE"]["sharpness"], gan_sharpness=compared["GAN"]["sharpness"],
       vae_ratio=compared["VAE"]["ratio"])
both = torch.cat([vae_means[:20], samples[:20]])
plots.show(plots.images(both, columns=20,
                        title="Samples: VAE (above, mean pixels), GAN (below)"))
# alt: Twenty samples of the VAE above twenty samples of the GAN.

# %% [markdown]
# What only one of them can do: the VAE has a code for a given image, its encoder's, and a bound on $\log p(x)$. The GAN
# has neither. (One can search for a code by descending $\|G(z)-x\|^2$, image by image.)
#
# **Likelihood is not quality, both ways.** Mix a perfect model with noise: with probability 0.99 draw noise, else from
# $p$. Then $\log(0.01\,p(x)+0.99\,\text{noise}(x))\ge\log p(x)-\log100$: at most 4.6 nats worse, out of hundreds,
# though 99 of 100 samples are rubbish. The other way round: a copyist of the training set draws perfect images and
# gives every test image the probability 0. So neither number stands for the other.

# %% tags=["nbval-check-output"]
clean, rubbish = Normal(0.0, 1.0), Normal(0.0, 50.0)
points = torch.linspace(-4, 4, 1_001).double()
mixed = torch.logaddexp(clean.log_prob(points) + math.log(0.01),
                        rubbish.log_prob(points) + math.log(0.99))
worst = (clean.log_prob(points) - mixed).max()
print(f"the mixture with 99 % rubbish loses at most {worst:.2f} nats; log 100 = "
      f"{math.log(100):.2f}")
checks.true(worst <= math.log(100), what="at most log 100")

# %% [markdown]
# **Where GANs live on.** As a family of models for images they gave way to diffusion (chapter 07). As a *loss* they are
# everywhere: the decoders of the autoencoders behind latent diffusion models are trained with an adversarial term,
# which is what keeps them sharp, and so are the students that draw in one step what a diffusion model draws in many.

# %% [markdown]
# ## What to remember
#
# * A critic is a classifier. The best one is $p/(p+q)$, and what it still pays measures a distance: JS for the logistic
#   loss, others for others.
# * What a loss is *worth* and what is *descended* are the same for the zero-sum game only. The usual generator descends
#   $2\,\mathrm{KL}(m\,\|\,p)$: sharp, and forgetful.
# * Two players circle. A penalty on the critic's slope at the data (R1) is friction.
# * Where fakes and data do not overlap, JS is flat. Penalised or Wasserstein critics still have a slope.
# * Collapse is measured by two numbers, coverage and fit. On images: Fréchet over its floor, density, coverage,
#   copying; no single one.
# * A GAN draws. It has no $p(x)$ and no code for an image.
#
# **The question this leaves:** the samples are sharp, but what is $p(x)$? Chapter 06 builds a model that draws in one
# step *and* knows the density of what it draws.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * I. Goodfellow et al., *Generative adversarial nets*, 2014, arXiv:1406.2661. A. Radford, L. Metz, S. Chintala,
#   *DCGAN*, 2016, arXiv:1511.06434. M. Mirza, S. Osindero, *Conditional GAN*, 2014, arXiv:1411.1784.
# * M. Arjovsky, L. Bottou, *Towards principled methods for training GANs*, 2017, arXiv:1701.04862. M. Shannon et al.,
#   *Non-saturating GAN training as divergence minimization*, 2020, arXiv:2010.08029.
# * X. Mao et al., *LSGAN*, 2017, arXiv:1611.04076. M. Arjovsky, S. Chintala, L. Bottou, *Wasserstein GAN*, 2017,
#   arXiv:1701.07875. I. Gulrajani et al., *WGAN-GP*, 2017, arXiv:1704.00028. T. Miyato et al., *Spectral
#   normalization*, 2018, arXiv:1802.05957; T. Miyato, M. Koyama, *Projection discriminator*, 2018, arXiv:1802.05637.
# * L. Mescheder, A. Geiger, S. Nowozin, *Which training methods for GANs do actually converge?*, 2018,
#   arXiv:1801.04406. A. Jolicoeur-Martineau, *The relativistic discriminator*, 2018, arXiv:1807.00734. N. Huang et al.,
#   *The GAN is dead; long live the GAN!* (R3GAN), 2024, arXiv:2501.05441.
# * M. Heusel et al., *TTUR* (Fréchet distance), 2017, arXiv:1706.08500. M. Naeem et al., *Density and coverage*, 2020,
#   arXiv:2002.09797. C. Meehan, K. Chaudhuri, S. Dasgupta, *Data copying*, 2020, arXiv:2004.05675. L. Theis, A. van den
#   Oord, M. Bethge, 2016, arXiv:1511.01844 (likelihood and quality).
