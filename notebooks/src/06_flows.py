# %% [markdown]
# # 6. Normalizing flows
#
# **One question runs through this chapter: can a model be sharp *and* know $p(x)$?**
#
# The GAN of chapter 05 draws sharp images and cannot say how probable any of them is. The VAE of chapter 04 says it
# with a bound. The autoregressive models of chapter 02 say it exactly and draw one pixel at a time. A **flow** takes
# noise whose density we know and bends space until the noise looks like data. If the bending can be undone, and if we
# keep count of how much it stretches, then $p(x)$ is exact, and a sample is one pass through a network.
#
# You need: densities and KL divergence (chapter 01), MADE and causal masks (chapter 02), determinants. The core path
# takes about {minutes} minutes. Sections marked *Going deeper* start folded; the later chapters do not depend on them.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, digits, mnist, fashion_mnist, kmnist
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Normal

import course_utils.expect as expect
from course_utils import checks, metrics, plots, shipped, training, widgets
from course_utils.chapter import pick_budget, pick_device, pick_seed, record
from course_utils.data import densities, images
from course_utils.distributions import StandardNormal
from course_utils.exercises import check, reveal, score
from course_utils.models.autoregressive.baselines import PixelHistograms
from course_utils.models.autoregressive.made import MADE
from course_utils.models.autoregressive.transformer import TransformerBlock
from course_utils.models.flow import autoregressive, coupling, elementwise, flow, glow, spline
from course_utils.models.flow import tarflow as tarflow_family
from course_utils.nn.mlp import MLP
from course_utils.recipes import digits as digits_recipes
from course_utils.recipes.flow import PLANE, TARGETS

# %%
plots.style()
seed, device = pick_seed(seed), pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_steps = {"smoke": 15, "class": 450, "full": 10_000}[budget]
print(f"budget {budget} on {device}: {n_steps} training steps for the main models")

# %%
def fit(model, batches, n_steps, description, lr=3e-3, objective=None):
    """Adam; the learning rate falls to zero along half a cosine; trained once, then read from
    disk."""
    model.to(device)

    def train():
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = training.cosine(optimizer, n_steps)
        return training.fit(objective or model.loss, optimizer, batches(), n_steps,
                            description=description, scheduler=schedule, clip_norm=50.0)

    training.cached(description, model, train)


# %% [markdown]
# ## 6.1 One dimension: sand on a rubber band
#
# Lay sand on a rubber band: much in the middle, little at the ends, a Gaussian. Now stretch the band here and squeeze
# it there. No grain is lost. Where the band was stretched the sand lies thinner, where it was squeezed it lies higher.
# That is all there is to a flow, and it is also its formula.
#
# Let $f$ map a data point $x$ to a point $z$ of the band, rising everywhere. The sand between $x$ and
# $x+\mathrm dx$ is the sand between $z$ and $z+\mathrm dz$:
#
# $$ p_X(x)\,\mathrm dx = p_Z(z)\,\mathrm dz, \qquad z=f(x) . $$
#
# Divide by $\mathrm dx$. The ratio $\mathrm dz/\mathrm dx$ is the slope of $f$:
#
# $$ p_X(x) = p_Z\big(f(x)\big)\,\Big|\frac{\mathrm df}{\mathrm dx}(x)\Big| . \tag{6.1} $$
#
# (The bars allow $f$ to fall as well: lengths have no sign.) Take $f(x)=x-\tfrac{8}{15}\sin\tfrac{3x}{2}$. Its slope is
# $1-0.8\cos\tfrac{3x}{2}$, which is never below $0.2$, so $f$ can be undone.

# %%
def bend(x):
    """z = f(x) and the slope of f, for points on a line."""
    return x - 0.8 / 1.5 * torch.sin(1.5 * x), 1 - 0.8 * torch.cos(1.5 * x)


def unbend(z):
    """f⁻¹ by halving an interval 60 times: f rises, so one look says which half to keep."""
    low, high = torch.full_like(z, -20.0), torch.full_like(z, 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        left = bend(middle)[0] < z
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return low


def log_p(x):
    """Log-density of the sand after bending, by (6.1); x (N, 1)."""
    z, slope = bend(x[:, 0])
    return flow.change_of_variables(Normal(0.0, 1.0).log_prob(z), slope.abs().log())


# %%
# 14 strips of equal mass
edges = Normal(0.0, 1.0).icdf(torch.linspace(0.001, 0.999, 15).double())
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
sides = ((axes[0], edges, Normal(0.0, 1.0).log_prob, "z"),
         (axes[1], unbend(edges), lambda v: log_p(v[:, None]), "x"))
for ax, points, density, letter in sides:
    for i in range(14):
        inside = torch.linspace(points[i], points[i + 1], 40).double()
        ax.fill_between(inside, density(inside).exp(), color=plots.PALETTE[i % 2 * 5],
                        alpha=0.8)
    ax.set(xlabel=f"${letter}$", ylabel="density")
axes[0].set_title("The base: 14 strips of equal area")
axes[1].set_title("The same strips after $x = f^{-1}(z)$")
plots.show(fig)
# alt: Strips under a Gaussian, and the same strips, moved: wide and low or narrow and high.

# %% [markdown]
# Each strip on the right has the area of its partner on the left: where it became wider it became lower. Three tests:
# the total is 1, samples made by $x=f^{-1}(z)$ follow the formula, and the formula with the slope turned round does
# neither.

# %% verifies=["6.1"]
checks.integrates_to_one(log_p, (-9.0, 9.0), n=2_000, what="(6.1): no sand is lost")
drawn = unbend(torch.randn(20_000).double())
fine, width = checks.grid((-4.5, 4.5), n=6_000)
# the mass of 60 bins, and of the rest
shares = (log_p(fine).exp() * width).view(60, 100).sum(1)
counts = torch.histc(drawn, 60, -4.5, 4.5)
checks.frequencies(torch.cat([counts, 20_000 - counts.sum(0, keepdim=True)]),
                   torch.cat([shares, 1 - shares.sum(0, keepdim=True)]),
                   what="(6.1): samples fit")
turned = (2 * Normal(0.0, 1.0).log_prob(bend(fine[:, 0])[0]) - log_p(fine)).exp().sum() * width
print(f"with the slope turned round the total is {turned:.2f}")
checks.fails(lambda: abs(turned - 1) < 0.05, what="dividing by the slope of f keeps the mass")

# %% [markdown]
# ### Which way, which sign
# In logarithms, $\log p_X(x)=\log p_Z(f(x))+\log|f'(x)|$. The sign is **plus** because our $f$ goes *from data to
# noise*: `forward: x → z`. Many texts name the other direction, $x=g(z)$, and write
# $\log p_X(x)=\log p_Z(z)-\log|g'(z)|$. Since $g'(z)=1/f'(x)$, both are one number. What breaks a program is one
# direction's map with the other's sign.
#
# ### A density above 1, a negative loss
# A density is not a probability. It is probability *per length*, and depends on the unit. Let a length have a
# standard deviation of 10 mm, and write it down in millimetres, then in metres.
#
# ### Exercise 6.1 (1 point): another unit
# Predict before you run on: when the same lengths are written in metres (numbers 1,000 times smaller), does the
# negative log-likelihood of the best Gaussian *rise*, *fall*, or *stay*?

# %% exercise="6.1"

# %% tags=["check"]
check("6.1", other_unit)

# %%
millimetres = 10 * torch.randn(10_000, generator=torch.Generator().manual_seed(seed)).double()
nll = {}
for unit, values in (("mm", millimetres), ("m", millimetres / 1_000)):
    best = Normal(values.mean(), values.std())
    nll[unit] = -best.log_prob(values).mean()
    print(f"in {unit:<2}: highest density {best.log_prob(best.mean).exp():.4g} per {unit}, "
          f"−log p {nll[unit]:+.3f} nats")
checks.close(nll["mm"] - nll["m"], math.log(1_000), what="they differ by log 1000, the slope")
reveal("6.1", "fall" if nll["m"] < nll["mm"] - 1 else "rise")

# %% [markdown]
# So a negative loss is no error, and losses compare only in one unit. (Section 6.5 meets this again: pixels in
# $[0,1]$ or in $[0,256]$ differ by $\log 256$ each.)
#
# ### Exercise 6.2 (2 points): find the bug
# Somebody standardises the data and then fits a density to them. The code below gives log-densities of the *raw* data
# that do not integrate to 1. Repair it.

# %% exercise="6.2"
def log_prob_of_raw(x, mean, std, log_prob):
    """Log-density of raw data, from a density of standardised data.

    x: (N, D), raw. mean, std: (D,); the model was fitted to (x - mean) / std.
    log_prob: function, (N, D) -> (N,), log-density of standardised data, in nats.
    Returns (N,): log-density of x itself, in nats.
    """
    z = (x - mean) / std
    return log_prob(z)

# %% tags=["check"]
check("6.2", log_prob_of_raw)

# %% [markdown]
# ### Touch: a curve with five knots
# Below, $f$ is a curve through knots that you drag. **Guess first:** make the curve flat in the middle. What happens
# to the sand there?

# %% tags=["widget"]
widgets.spline_flow()

# %% [markdown]
# ## 6.2 What bending can do, and what it cannot
#
# One of the sources of this course gives a picture: a ball and a crumpled sheet. A flow *stretches and bends* one into
# the other, and never *tears or glues*. In the words of mathematics: $f$ is one-to-one, and it and its inverse are
# continuous. So what is in one piece stays in one piece.
#
# A Gaussian is in one piece. Data often are not: two kinds of digits, with nothing between them. Then a flow must
# leave a thread of probability between the two, as a glass blower does. How thin can it be? Suppose that nowhere $f$
# shrinks distances by more than a factor $m$: $|f(x)-f(x')|\ge m\,|x-x'|$. Then every slope is at least $m$, and in
# $D$ dimensions the volume factor is at least $m^D$, so
#
# $$ p_X(x) \ge m^D\, p_Z\big(f(x)\big) . \tag{6.2} $$
#
# (The proof of "volume at least $m^D$": the singular values of the Jacobian are the factors by which it stretches, each
# is at least $m$, and $|\det|$ is their product. A map whose inverse cannot shrink without limit either is called
# *bi-Lipschitz*; networks made of bounded layers are.) To make a real gap, $m$ must be tiny. On the line we can say how
# tiny. The map that turns *any* density with cumulative function $F$ into $\mathcal N(0,1)$ is
# $f=\Phi^{-1}\circ F$, where $\Phi$ is the cumulative function of $\mathcal N(0,1)$. Between two equal bumps,
# $f(0)=0$ by symmetry, and (6.1) gives its slope there, $p_X(0)/p_Z(0)$.

# %% verifies=["6.2"] tags=["nbval-check-output"]
# the volume: three dimensions, slopes of at least 0.1 in every direction
matrix = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0], [0.7, 1.0, 0.1]]).double()
directions, stretch, turn = torch.linalg.svd(matrix)
for factors in (stretch.clamp(min=0.1), torch.full((3,), 0.1).double()):
    volume = (directions @ factors.diag() @ turn).det().abs()
    checks.true(volume >= 0.1**3 - 1e-12, what="(6.2): the volume factor is at least m^D")
checks.close(volume, 0.1**3, what="(6.2): and is m^D if all directions shrink by m")
slopes = {}
for distance in (2.0, 4.0, 6.0, 8.0, 10.0):
    bumps = densities.two_bumps(distance=distance, std=0.7)
    x = torch.linspace(-distance / 2 - 1.5, distance / 2 + 1.5, 2_001).double()
    f = Normal(0.0, 1.0).icdf((Normal(-distance / 2, 0.7).cdf(x)
                               + Normal(distance / 2, 0.7).cdf(x)) / 2)
    steps = f.diff() / x.diff()
    slopes[distance] = steps.min().item()
    print(f"bumps {distance:4.0f} apart: smallest slope {slopes[distance]:.1e}, and p there "
          f"{bumps.log_prob(torch.tensor(0.0)).exp():.1e}")
    at = (x[1:] + x[:-1]) / 2
    bound = math.log(steps.min()) + Normal(0.0, 1.0).log_prob((f[1:] + f[:-1]) / 2)
    checks.true(bumps.log_prob(at.float()) >= bound - 1e-3,
                what="(6.2): p is nowhere below the bound")
    exact = bumps.log_prob(torch.tensor(0.0)) - Normal(0.0, 1.0).log_prob(torch.tensor(0.0))
    checks.close(steps.min().log(), exact, what="(6.2): in the gap it is reached", rtol=0.02,
                 atol=0.02)

# %% [markdown]
# Doubling the distance does not double the difficulty: the slope falls as $e^{-d^2/8\sigma^2}$. A network whose layers
# shrink by bounded factors needs many layers to get there, and until then a filament joins the bumps. You will see
# filaments in section 6.3. (Cures: a base of several pieces, or giving up invertibility, which is chapter 07's way.)
#
# ### From slopes to volumes
# In $D$ dimensions the slope becomes the **Jacobian**, the matrix $\partial f/\partial x$ of all derivatives. Near a
# point, $f$ is this matrix, and a matrix multiplies volumes by the absolute value of its determinant. In the plane:
# a unit square becomes a parallelogram of area $|\det|$.

# %%
A = torch.tensor([[1.4, 0.6], [-0.3, 0.8]])
square = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
fig, ax = plt.subplots(figsize=(4.6, 2.7))
for corners, label, colour in ((square, "unit square", 1),
                               (square @ A.T, f"its image, area {A.det():.2f}", 0)):
    ax.fill(*corners.T, alpha=0.5, color=plots.PALETTE[colour], label=label)
ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", title="The determinant is an area")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(fig)
# alt: A unit square and the parallelogram that a matrix makes of it.
# throw darts at a box of area 25: what share lands in the image?
cloud = 5 * torch.rand(200_000, 2) - 2.5
hits = ((cloud @ torch.linalg.inv(A).T >= 0) & (cloud @ torch.linalg.inv(A).T <= 1)).all(1)
checks.monte_carlo(25 * hits.double(), A.det(), what="darts in the parallelogram")

# %% [markdown]
# So (6.1) becomes, with the same argument about sand,
#
# $$ \log p_X(x) = \log p_Z\big(f(x)\big) + \log\Big|\det\frac{\partial f}{\partial x}(x)\Big| . \tag{6.3} $$
#
# We are free to put $f$ together from simple layers, $x \to h_1 \to h_2 \to\dots\to z$. The Jacobian of a chain is the
# product of the Jacobians, the determinant of a product is the product of determinants, and the logarithm makes a sum:
#
# $$ \log\Big|\det\frac{\partial z}{\partial x}\Big| = \sum_{k=1}^{K} \log\Big|\det\frac{\partial h_k}{\partial h_{k-1}}\Big| ,
#    \qquad h_0=x,\ h_K=z . \tag{6.4} $$
#
# **Why not any network?** Two reasons. It need not be invertible. And a determinant of a full $D\times D$ matrix costs
# about $D^3$ operations, for every image and every step. The designs of this chapter all make the matrix
# **triangular**: then the determinant is the product of the diagonal, $D$ numbers.
#
# ### Is the learned base allowed?
# People ask whether a *learned* prior is still normalised. A flow's base may have any parameters, as long as it is a
# density for each value of them and does not look at the $x$ that it is about to judge. Section 6.5 shows a base that
# is learned, and what becomes of one that looks.

# %% [markdown] tags=["fold"]
# ### Going deeper: Gaussianisation by hand
# A flow without any training. On one axis, $\Phi^{-1}\circ F$ makes the data exactly Gaussian. So: do that on each
# axis, turn the plane, repeat (Chen & Gopinath 2001). Each round removes what the axes show of non-Gaussianity; the
# turn brings new directions onto the axes.

# %%
def to_gaussian(column):
    """The ranks of a column of numbers, as quantiles of N(0, 1)."""
    return Normal(0.0, 1.0).icdf((column.argsort().argsort().double() + 0.5) / len(column))


cloud = densities.pinwheel().sample((4_000,)).double()
stages = [cloud]
for turn in range(24):
    cloud = torch.stack([to_gaussian(column) for column in cloud.T], 1)
    angle = torch.tensor(0.4 + turn)  # any turn will do
    cloud = cloud @ torch.tensor([[angle.cos(), -angle.sin()],
                                  [angle.sin(), angle.cos()]]).double()
    stages.append(cloud)
# of N(0, I) in the plane: P(r ≤ t) = 1 − exp(−t²/2)
radius = stages[-1].norm(dim=1).sort().values
worst = (1 - (-radius.square() / 2).exp() - (torch.arange(4_000) + 0.5) / 4_000).abs().max()
checks.true(worst < 0.03,
            what=f"after 24 rounds the radii are a Gaussian's within {worst:.3f}")
fig, axes = plt.subplots(1, 4, figsize=(9, 2.6), sharex=True, sharey=True)
for ax, k in zip(axes, (0, 1, 4, 24)):
    ax.plot(*stages[k].T, ".", markersize=1, alpha=0.4)
    ax.set(aspect="equal", xlabel="$h_1$", title=f"after {k} rounds", xlim=(-4, 4),
           ylim=(-4, 4))
axes[0].set_ylabel("$h_2$")
plots.show(fig)
# alt: A pinwheel of points becomes a cloud with the radii of a Gaussian; faint rays remain.

# %% [markdown]
# ## 6.3 Coupling: let one half steer the other
#
# Here is the trick that made flows practical. Split the numbers of $x$ into two halves, $a$ and $b$. Leave $a$ alone.
# Let any network look at $x_a$ and decide how to shift and scale $x_b$:
#
# $$ z_a = x_a, \qquad z_b = x_b\odot e^{s(x_a)} + t(x_a), \qquad
#    \log\Big|\det\frac{\partial z}{\partial x}\Big| = \sum_{i\in b} s_i(x_a) . \tag{6.5} $$
#
# ($\odot$ multiplies number by number.) Why is that the determinant? Order the numbers with $a$ first. Then the
# Jacobian is $\begin{pmatrix} I & 0\\ \ast & \mathrm{diag}(e^{s})\end{pmatrix}$, triangular, and the starred block,
# which holds all the derivatives of the network, does not enter. The inverse needs no inverse of the network either,
# because $x_a=z_a$ is known:
#
# $$ x_a = z_a, \qquad x_b = \big(z_b - t(z_a)\big)\odot e^{-s(z_a)} . \tag{6.6} $$
#
# With $s=0$ this is NICE (Dinh et al. 2015): volumes never change. With $s$ it is **RealNVP** (Dinh et al. 2017).

# %% quote="course_utils.models.flow.coupling:affine_coupling"

# %% verifies=["6.3", "6.4", "6.5", "6.6"]
def shaken(layer):
    """The layer with random weights, none of them special, in double precision."""
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return layer.double()


x = torch.randn(5, 4).double()
one = shaken(coupling.affine_flow(4, n_layers=1, hidden=(8,)))
checks.log_det(one, x, what="(6.5): the sum of s is the log-determinant, by autograd")
checks.inverse(lambda v: one(v)[0], one.inverse, x, what="(6.6): undone, both ways")
a = coupling.half_mask(4)
by_hand = torch.where(a, x, x * math.exp(0.5) + 2)  # s = 0.5 and t = 2 everywhere
moved = coupling.affine_coupling(x, a, torch.full_like(x, 2.0), torch.full_like(x, 0.5))[0]
checks.close(moved, by_hand, what="(6.5): scaled first, then shifted")
chain = shaken(coupling.affine_flow(4, n_layers=3, hidden=(8,)))
checks.log_det(chain, x, what="(6.4): three layers, one sum")
plane = shaken(coupling.affine_flow(2, n_layers=3, hidden=(8,)))
with torch.no_grad():
    checks.integrates_to_one(plane.log_prob, (-20, 20), (-20, 20), n=401,
                             what="(6.3): ∫ p = 1")
checks.fails(lambda: checks.log_det(lambda v: (chain(v)[0], -chain(v)[1]), x, what="turned"),
             what="with the wrong sign it is the log-determinant too")

# %% [markdown]
# A warning about such tests. With fresh weights a flow is the identity, and $\log|\det|=0$ is right even for a program
# that forgot it. So the weights were shaken first, and the law `checks.log_det` refuses a map whose log-determinant
# is 0 everywhere.
#
# **The trap of the fixed half.** Stack ten couplings, all with the same half $a$. How much of $x$ ever changes?

# %%
same = shaken(flow.Chain(*[coupling.AffineCoupling(coupling.half_mask(4), MLP([4, 8, 8]))
                           for _ in range(10)]))
z = same(x)[0]
kept = (z == x).all(0)
print(f"coordinates that ten couplings left untouched, bit for bit: {kept.tolist()}")
checks.true(kept == coupling.half_mask(4), what="half of the coordinates never move")
checks.true(chain(x)[0] != x, what="with masks that alternate, all of them move")

# %% [markdown]
# So masks take turns. From now on odd layers move one half, even layers the other.
#
# ### Exercise 6.3 (3 points): an affine coupling, both ways
# Write `couple(x, shift, log_scale, backwards)`: the second half of the columns moves, the first half stays. Forwards
# it returns $z$ and the log-determinant, backwards the inverse and *its* log-determinant.

# %% exercise="6.3"

# %% tags=["check"]
check("6.3", couple)

# %% [markdown]
# ### Why the scale needs a bound
# $e^{s}$ is a dangerous function to give to a network. Far from the data a network extrapolates, and if it says
# $s=50$ the number is multiplied by $10^{21}$. The next layer reads that number. One unusual test image is enough to
# turn the whole test likelihood into infinity. The cure is a bound: $s=\ell\tanh(\text{raw}/\ell)$, which is the raw
# number when it is small and never passes $\ell$.

# %%
bold = MLP([2, 8, 4])
with torch.no_grad():
    for weight in bold.parameters():
        weight.copy_(weight.abs() + 0.3)  # a network that has learned to say large things
far = torch.tensor([[0.5, 1.0], [60.0, 1.0]])  # a usual point, and one far away
for limit in (None, 2.0):
    layer = coupling.AffineCoupling(coupling.half_mask(2), bold, limit)
    moved, log_det = layer(far)
    print(f"limit {limit}: z = {[f'{v:.3g}' for v in moved[:, 1].tolist()]}, "
          f"log|det| = {[f'{v:.3g}' for v in log_det.tolist()]}")
    finite = moved.isfinite().all().item()
    checks.true(finite == (limit is not None),
                what=f"{'finite' if finite else 'infinite far away'} with limit {limit}")

# %% [markdown]
# ### Splines: a curve instead of a line
# A coupling may put $x_b$ through *any* rising curve that the network chooses. Shift and scale is a straight line. A
# **rational-quadratic spline** (Durkan et al. 2019) is a curve through $K+1$ knots with chosen slopes. In a bin of
# width $w$ and height $h$, with $\xi=(x-x_k)/w$, $s=h/w$, and slopes $\delta_k,\delta_{k+1}$ at the ends,
#
# $$ \begin{aligned}
#    g(x) &= y_k + \frac{h\,[s\,\xi^2+\delta_k\,\xi(1-\xi)]}{s+[\delta_{k+1}+\delta_k-2s]\,\xi(1-\xi)}, \\
#    g'(x) &= \frac{s^2[\delta_{k+1}\xi^2+2s\,\xi(1-\xi)+\delta_k(1-\xi)^2]}{(s+[\delta_{k+1}+\delta_k-2s]\,\xi(1-\xi))^2} .
#    \end{aligned} \tag{6.7} $$
#
# ($s$ is the mean slope of the bin here, not the log-scale of (6.5).)
#
# You need not like the formula. What matters: at $\xi=0$ and $1$ it meets the knots and their slopes; for positive
# slopes $g'$ is positive everywhere; and $g(x)=y$ is a quadratic equation, so the inverse is closed too.
#
# **What happens outside the box?** There the spline goes on as the identity, slope 1. A detail that costs people days:
# the formula is evaluated outside too, before the answer is thrown away, and the gradient of a thrown-away NaN is
# NaN. So $x$ is clamped into the box *first*.

# %% verifies=["6.7"]
# K = 8: 8 widths, 8 heights, 7 inner slopes
numbers = torch.randn(200, 23, dtype=torch.double)
knots = spline.knots(numbers, -3.0, 3.0)
x = torch.linspace(-4, 4, 200).double()
y, log_slope = spline.rational_quadratic(x, *knots)
checks.gradient(lambda v: spline.rational_quadratic(v, *knots)[0], x, log_slope.exp(),
                what="(6.7): g′ by autograd")
checks.close(spline.rational_quadratic_inverse(y, *knots), x,
             what="(6.7): the quadratic gives x back", rtol=1e-6)
at_knots = spline.rational_quadratic(knots[0][0], *(part[0].expand(9, -1) for part in knots))
checks.close(at_knots[0], knots[1][0], what="(6.7): the curve meets its knots")
checks.close(at_knots[1].exp(), knots[2][0], what="(6.7): and their slopes", rtol=1e-6)
wide = torch.tensor([-1e6, 1e6]).double().requires_grad_()
spline.rational_quadratic(wide, *(part[:2] for part in knots))[0].sum().backward()
checks.close(wide.grad, torch.ones(2),
             what="outside the box: the identity, and a finite gradient")

# %% [markdown]
# ### Train one
# The checkerboard has sharp edges and holes: hard for a bender. Its entropy is $\log 32$, the logarithm of its area,
# so the best possible loss is known: $-\mathbb E_p\log q = H(p)+\mathrm{KL}(p\,\|\,q)$.

# %%
target = densities.checkerboard(device=device)
board = PLANE["checkerboard_spline"].make()


def fresh():
    """Endless batches of new points."""
    return iter(lambda: target.sample((256,)), None)


fit(board, fresh, n_steps, "splines on a checkerboard", lr=4e-3)


# %%
def kl_on_grid(density, q, end=5.0, n=160):
    """KL(p ‖ q) in nats by the midpoint rule; with n = 160 no cell straddles an edge of the
    board."""
    points, volume = checks.grid((-end, end), (-end, end), n=n, dtype=torch.float32)
    with torch.no_grad():
        log_p = density.log_prob(points.to(device)).double()
        log_q = torch.cat([q.log_prob(part)
                           for part in points.to(device).split(30_000)]).double()
    seen = log_p > -80
    return (log_p[seen].exp() * (log_p[seen] - log_q[seen])).sum().item() * volume


own_kl = kl_on_grid(target, board)
entropy = target.entropy().item()
with training.evaluating(board):
    loss = board.loss(target.sample((20_000,)))["loss"].item()
print(f"H(p) = {entropy:.3f}, KL(p‖q) = {own_kl:.3f}; loss on 20,000 new points {loss:.3f} "
      f"nats")
checks.close(loss, entropy + own_kl, atol=0.06, rtol=0.0,
             what="the loss is the entropy plus the KL")
record(checkerboard_kl=own_kl)

# %%
axis = torch.linspace(-4.4, 4.4, 45, device=device)
lattice = torch.cartesian_prod(axis, axis)
states = board.chain.stages(lattice)
fig, axes = plt.subplots(1, 4, figsize=(10, 2.9))
for ax, k in zip(axes, (0, 2, 4, 6)):
    points, log_det = (part.cpu() for part in states[k])
    shown = ax.scatter(*points.T, c=log_det, s=2, cmap="coolwarm", vmin=-3, vmax=3)
    ax.set(aspect="equal", title=f"after {k} layers", xlim=(-5, 5), ylim=(-5, 5),
           xlabel="$h_1$")
axes[0].set_ylabel("$h_2$")
fig.colorbar(shown, ax=axes, label="log|det| so far [nats]")
plots.show(fig)
# alt: A square lattice of points is moved by two, four and six couplings; red stretched, blue squeezed.
with torch.no_grad():
    found, on_board = board.log_prob(lattice), target.log_prob(lattice) > -80
print(f"mean log q: on the squares {found[on_board].mean():.2f}, in the holes "
      f"{found[~on_board].mean():.2f}")
checks.true(found[on_board].mean() > found[~on_board].mean(), what="holes were squeezed more")

# %% [markdown]
# Read it from left to right, from data to noise. By (6.3) the final colour is $\log p(x)-\log p_Z(z)$. So of two points
# that end equally far from the centre, the one from a hole of the board is bluer: it was squeezed more. Nothing is
# torn, so the holes become thin seams between the squares. (Squares near the centre are bluish too: there the Gaussian
# is denser than the board.)
#
# The same pictures for trained flows that come with the course: four densities, twelve affine couplings against six
# spline couplings. The numbers are the entropy of the truth, and the KL from it, on a grid, when they were trained.

# %%
kl = {row["name"]: row["test_kl"] for row in shipped.results("flows_plane.json")["rows"]}
trained, n = {}, 60 if budget == "smoke" else 120
for name, recipe in PLANE.items():
    trained[name] = recipe.make().to(device)
    training.load_weights(shipped.path(f"flow_{name}.safetensors"), trained[name])
again = kl_on_grid(PLANE["pinwheel_spline"].density(device=device), trained["pinwheel_spline"])
checks.close(again, kl["pinwheel_spline"],
             what="the KL that came with the pinwheel, computed again", atol=0.05)

# %%
fig, axes = plt.subplots(3, 4, figsize=(9, 6.9))
for column, name in zip(axes.T, TARGETS):
    p = PLANE[f"{name}_affine"].density()
    plots.density(column[0], p.log_prob, -4.5, 4.5, n=n,
                  title=f"{name.replace('_', ' ')}\nH = {p.entropy():.2f}")
    for ax, kind in zip(column[1:], ("affine", "spline")):
        model = trained[f"{name}_{kind}"].cpu()
        plots.density(ax, model.log_prob, -4.5, 4.5, n=n,
                      title=f"KL {kl[f'{name}_{kind}']:.2f}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
for ax, label in zip(axes[:, 0], ("truth", "affine", "splines")):
    ax.set_ylabel(label)
plots.show(fig)
# alt: Four densities: the truth, twelve affine couplings with filaments, six spline couplings.
sums = {kind: sum(kl[f"{name}_{kind}"] for name in TARGETS) / 4
        for kind in ("affine", "spline")}
print(f"mean KL over the four: affine {sums['affine']:.3f}, splines {sums['spline']:.3f} nats")
checks.true(sums["spline"] < sums["affine"],
            what="on average the splines are closer to the truth")
record(plane_kl_affine=sums["affine"], plane_kl_spline=sums["spline"])

# %%
# the filaments as a number
points, volume = checks.grid((-4.5, 4.5), (-4.5, 4.5), n=n, dtype=torch.float32)
between = {}
for name in ("eight_gaussians", "twenty_five_gaussians"):
    log_p = PLANE[f"{name}_affine"].density().log_prob(points)
    empty = log_p < -6
    between[name, "truth"] = log_p[empty].exp().sum().item() * volume
    for kind in ("affine", "spline"):
        with torch.no_grad():
            q = trained[f"{name}_{kind}"].log_prob(points[empty]).exp()
        between[name, kind] = q.sum().item() * volume
    print(f"{name.replace('_', ' ')}, mass where p < e⁻⁶: truth {between[name, 'truth']:.1%}, "
          f"affine {between[name, 'affine']:.1%}, splines {between[name, 'spline']:.1%}")
    checks.true(between[name, "spline"] < between[name, "affine"], what="thinner bridges")

# %% [markdown]
# Look for the filaments of section 6.2 in the middle row: bridges between the eight Gaussians, and a web of them between
# the twenty-five. A spline can have a very small slope in one bin and a large one in the next, so its bridges are
# thinner, and the two lines above say by how much.

# %% tags=["widget"]
axis = torch.linspace(-4.4, 4.4, 37)
ways = {"checkerboard, splines": "checkerboard_spline",
        "eight Gaussians, affine": "eight_gaussians_affine"}
widgets.layer_morph({title: trained[name].cpu().chain.stages(torch.cartesian_prod(axis, axis))
                     for title, name in ways.items()}, side=37)

# %% [markdown]
# ### Exercise 6.4 (4 points): build a flow
# Write `planar_flow()`: an `nn.Module` for points of the plane with `log_prob(x)`, `(B, 2) → (B,)`, and `sample(n)`.
# The check trains it for 150 steps on samples of a density that it keeps to itself, and asks for a small KL. At most
# 60,000 weights. You may use this chapter's layers, or write your own.

# %% exercise="6.4"

# %% tags=["check"]
check("6.4", planar_flow)

# %% [markdown]
# ## 6.4 Chapter 02 was a flow all along
#
# Coupling conditions one half on the other. Go to the end of that road: condition every number on *all* numbers before
# it. Let a network with causal masks give a mean and a scale for each number from those before:
#
# $$ z_i = \frac{x_i-\mu_i(x_{<i})}{\sigma_i(x_{<i})}, \qquad
#    \log\Big|\det\frac{\partial z}{\partial x}\Big| = -\sum_{i=1}^D \log\sigma_i(x_{<i}) . \tag{6.8} $$
#
# $z_i$ depends on $x_1,\dots,x_i$ only, so the Jacobian is triangular with $1/\sigma_i$ on its diagonal. This is the
# **masked autoregressive flow**, MAF (Papamakarios et al. 2017). Put $\mathcal N(0,I)$ at its end and collect terms:
#
# $$ \log p(x) = \sum_i \Big[\log\mathcal N\Big(\frac{x_i-\mu_i}{\sigma_i};\,0,1\Big) - \log\sigma_i\Big]
#    = \sum_i \log\mathcal N\big(x_i;\ \mu_i(x_{<i}),\ \sigma_i^2(x_{<i})\big) . \tag{6.9} $$
#
# The right side is the chain rule of probability with Gaussian conditionals: **MADE** of chapter 02, with two numbers a
# pixel instead of one logit. Not "similar to". Equal. We take chapter 02's class as it is, give it a Gaussian head, and
# compare.

# %%
class GaussianConditionals:
    """A head for MADE: from two numbers a value to N(μ, σ²)."""

    n_params = 2

    def __call__(self, numbers):
        mu, raw = numbers.unbind(-1)
        return Normal(mu, coupling.bounded(raw, 3.0).exp())


class NumbersOf(nn.Module):
    """MADE's numbers (B, D, 2) as a network, in the form that a masked flow takes."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, x):
        return self.made.params(x).flatten(1, 3)


# %% verifies=["6.8", "6.9"]
D = 64
made = shaken(MADE((1, 8, 8), hidden=(100,), head=GaussianConditionals()))
maf = autoregressive.MaskedAffine(NumbersOf(made), limit=3.0)
masked = flow.Flow(StandardNormal(D), [maf]).double()
x = torch.randn(6, D).double()
as_made = made(x).log_prob(x.view(6, 1, 8, 8)).flatten(1).sum(1)
checks.close(masked.log_prob(x), as_made, what="(6.9): the flow's density is MADE's",
             rtol=1e-9)
checks.log_det(maf, x[:2], what="(6.8): minus the sum of log σ, by autograd")
checks.causal(lambda v: sum(maf.numbers(v)), x[:1], what="(6.8): μ and σ look backwards only")

# %% [markdown]
# ### Fast one way, slow the other
# From $x$ to $z$ everything on the right of (6.8) is known: **one** pass of the network gives all $D$ numbers. From $z$
# to $x$, $x_i=z_i\sigma_i(x_{<i})+\mu_i(x_{<i})$ needs $x_{<i}$: one number after the other, $D$ passes. So a MAF has a
# fast density and slow samples. Turn the same layer round, call $x$ what was $z$, and you have an **inverse
# autoregressive flow**, IAF (Kingma et al. 2016): fast samples, and a slow density for points it did not draw itself.
#
# **MAF or IAF?** Training by maximum likelihood needs the density of *data*: MAF. A posterior inside a VAE needs the
# density of *its own draws*: IAF.
#
# ### Guessing all numbers at once
# There is a way between. The equation for $x$ is a fixed point. Start with any guess and improve all numbers at once:
#
# $$ x^{(k+1)}_i = z_i\,\sigma_i\big(x^{(k)}_{<i}\big)+\mu_i\big(x^{(k)}_{<i}\big), \qquad x^{(0)}=0 . \tag{6.10} $$
#
# After one pass $x_1$ is right, because it depends on nothing. After two, $x_2$, because it depends on $x_1$. After $k$
# passes the first $k$ numbers are exact, so **after $D$ passes everything is** (Song et al. 2021 call this Jacobi
# iteration). The hope: where numbers hardly depend on each other it ends much earlier. **Guess first:** for 64 numbers,
# how many passes until no number is wrong by more than $10^{-5}$, if they depend weakly on each other, and if strongly?

# %% quote="course_utils.models.flow.autoregressive:jacobi"

# %% verifies=["6.10"]
small = autoregressive.MaskedAffine(NumbersOf(shaken(MADE((1, 1, 6), hidden=(20,),
                                                          head=GaussianConditionals()))),
                                                          limit=3.0)
x = torch.randn(4, 6).double()
guesses = list(autoregressive.jacobi(small, small(x)[0]))
for k, guess in enumerate(guesses, start=1):
    checks.close(guess[:, :k], x[:, :k],
                 what=f"(6.10): after {k} passes the first {k} numbers are exact", atol=1e-7)
checks.true(len(guesses) == 6, what="(6.10): six numbers, six passes")
checks.true((guesses[0] - x).abs().max() > 1e-3, what="one pass alone does not do it")

# %%
x = torch.randn(16, D).double()
weak = MADE((1, 8, 8), hidden=(100,), head=GaussianConditionals()).double()
with torch.no_grad():
    for own, strong in zip(weak.parameters(), made.parameters()):
        own.copy_(strong / 4)  # the same network, every weight a quarter
layers = {"weak dependence": autoregressive.MaskedAffine(NumbersOf(weak)),
          "strong dependence": maf}
fig, ax = plt.subplots(figsize=(6, 2.7))
passes = {}
for name, layer in layers.items():
    with torch.no_grad():
        z = layer(x)[0]
        errors = [(guess - x).abs().max().item() for guess in autoregressive.jacobi(layer, z)]
        passes[name] = autoregressive.jacobi_inverse(layer, z)[1]
    ax.semilogy(range(1, D + 1), torch.tensor(errors).clamp(min=1e-16), marker=".", label=name)
    print(f"{name:<18} {passes[name]:>3} of {D} passes")
ax.axhline(1e-5, color="gray", linestyle=":")
ax.set(xlabel="passes of the network", ylabel="largest error",
       title="Jacobi iteration on 64 numbers")
ax.legend()
plots.show(fig)
# alt: The largest error against the number of passes: it falls early where dependence is weak.

# %%
with torch.no_grad():
    seconds, weak_layer = {}, layers["weak dependence"]
    z_weak = weak_layer(x)[0]
    for name, work in (("density, 1 pass", lambda: maf(x)),
                       ("naive inverse", lambda: maf.inverse(z)),
                       ("Jacobi, strong", lambda: autoregressive.jacobi_inverse(maf, z)),
                       ("Jacobi, weak",
                        lambda: autoregressive.jacobi_inverse(weak_layer, z_weak))):
        times = []
        for _ in range(5):  # the least of five: what else the machine does costs time too
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
counts = (1, D, passes["strong dependence"], passes["weak dependence"])
for name, used in zip(seconds, counts):
    print(f"{name:<16} {used:>3} passes of the network, {1_000 * seconds[name]:7.1f} ms for "
          f"16 points")
checks.true(max(passes.values()) <= D, what="Jacobi iteration ends within D passes")
checks.true(passes["weak dependence"] < D / 2,
            what="and with weak dependence in less than half of them")
record(jacobi_passes=passes["weak dependence"])

# %% [markdown]
# The bound on the scale matters here too. A wrong early guess is fed back into $e^{s}$; without a bound it can
# overflow, and infinity minus infinity is not a number. The theorem of "$D$ passes" holds in exact arithmetic, for
# finite numbers.

# %%
wild = shaken(MADE((1, 1, 8), hidden=(20,), head=GaussianConditionals()))
with torch.no_grad():
    for weight in wild.parameters():
        weight.mul_(8)
start = 3 * torch.randn(64, 8).double()
outcomes = {}
for limit in (3.0, None):
    layer = autoregressive.MaskedAffine(NumbersOf(wild), limit)
    with torch.no_grad():
        outcomes[limit] = all(guess.isfinite().all()
                              for guess in autoregressive.jacobi(layer, start))
    print(f"log-scales bounded by {limit}: all guesses finite? {outcomes[limit]}")
checks.true(outcomes[3.0] and not outcomes[None], what="only the bounded layer stays finite")

# %% [markdown]
# ### Exercise 6.5 (2 points): one Jacobi pass
# Write `jacobi_pass(z, guess, weight, bias)` for a layer whose mean is linear: $\mu(x) = Wx+b$ with a strictly lower
# triangular $W$, and $\sigma=1$.

# %% exercise="6.5"

# %% tags=["check"]
check("6.5", jacobi_pass)

# %% [markdown] tags=["fold"]
# ### Going deeper: IAF as the posterior of a VAE
# Chapter 04's encoder names a *diagonal* Gaussian, and the true posterior is not one. An IAF bends that Gaussian, told
# by a context vector what the image was. The VAE class of chapter 04 takes it as it is: an encoder is anything that
# returns a distribution. Its KL has no closed form now, so it is estimated from the draw. Equal compute: the IAF's
# steps cost more, so it gets fewer.

# %%
from course_utils.models import vae
from course_utils.models.autoregressive.made import made_masks
from course_utils.nn.masked import MaskedMLP

tiny = images.load("digits")
ink = images.binarised(tiny, seed=0)
train_ink = images.to_float(ink.train.images).to(device)
test_ink = images.to_float(ink.test.images).to(device)


def iaf_layer(n_context=16):
    masks = made_masks(torch.arange(8), (64,), 2)
    return autoregressive.MaskedAffine(MaskedMLP(masks, 2, n_context), limit=2.0)


# %%
plain = vae.mlp_vae((1, 8, 8), (100,), latent_dim=8)
bent = vae.mlp_vae((1, 8, 8), (100,), latent_dim=8)
context = nn.Sequential(nn.Flatten(), MLP([64, 64, 16]))
bent.encoder = flow.FlowEncoder(bent.encoder, context,
                                [iaf_layer(), autoregressive.Reversed(), iaf_layer()])
n_vae = {"smoke": 8, "class": 400, "full": 10_000}[budget]
compared = {}
for name, model, steps in (("diagonal", plain, 2 * n_vae), ("IAF", bent, n_vae)):
    start = time.process_time()
    fit(model, lambda: images.batches(train_ink, 64), steps, f"VAE, {name} posterior", lr=2e-3)
    used = time.process_time() - start
    with training.evaluating(model):
        minus_elbo = -torch.stack([model.elbo(test_ink).mean()
                                   for _ in range(20)]).mean().item()
        nll = -model.importance_weighted_bound(test_ink, 50).mean().item()
    compared[name] = minus_elbo
    print(f"{name:<9}{steps:>6} steps, {used:5.1f} CPU s: −ELBO {minus_elbo:.2f}, "
          f"importance-weighted {nll:.2f}, gap {minus_elbo - nll:.2f} nats")
record(vae_diagonal=compared["diagonal"], vae_iaf=compared["IAF"])

# %% [markdown]
# Read the gaps first: between the ELBO and the (nearly exact) importance-weighted number lies the KL from the guess to
# the true posterior, and that is the part an IAF can remove. Then read the totals: steps not taken cost too. These are
# short trainings of one seed; run this section with `budget="full"` to see which of the two ends lower.

# %% [markdown]
# ## 6.5 Images
#
# ### Integers have no density
# A grey level is one of $K$ integers. A density over integers is a trap: put a needle on every level, make the needles
# thinner, and the likelihood grows without end, while nothing is learned. Watch it happen on one pixel that is 0, 1 or 2
# with equal probability. (Here the needles end at a thousandth of the box, the least bin of our spline.)

# %%
levels3 = torch.arange(3.0).repeat(50)[:, None]  # the three levels, equally often


def one_pixel(noise):
    """−log p, in nats, of a spline flow on one pixel while it trains; the noise is drawn anew
    at every step."""
    numbers = torch.zeros(3 * 24 + 1, requires_grad=True)
    optimizer = torch.optim.Adam([numbers], lr=0.03)
    curve = []
    for _ in range(120):
        y = (levels3 + noise(levels3))[:, 0] / 3
        knots = spline.knots(numbers.expand(len(y), -1), 0.0, 1.0, tails=False)
        loss = -spline.rational_quadratic(y, *knots)[1].mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        curve.append(loss.item() + math.log(3))  # in units of one level
    return curve


# %%
curves = {"integers as they are": one_pixel(lambda v: torch.full_like(v, 0.5)),
          "noise of half a level": one_pixel(lambda v: 0.25 + 0.5 * torch.rand_like(v)),
          "noise of a full level": one_pixel(torch.rand_like)}
fig, ax = plt.subplots(figsize=(6, 2.7))
for name, curve in curves.items():
    ax.plot(curve, label=f"{name}: {curve[-1]:.2f}")
ax.axhline(math.log(3), color="gray", linestyle=":", label="true entropy, log 3")
ax.set(xlabel="step", ylabel="−log p [nats]", title="One pixel of three levels")
ax.legend()
plots.show(fig)
# alt: Without noise the loss falls and falls; half-width noise ends below log 3; full width at log 3.
checks.true(curves["integers as they are"][-1] < 0,
            what="without noise the loss passes below 0: runaway")
checks.true(curves["noise of half a level"][-1] < math.log(3) - 0.3,
            what="half the width cheats too")
checks.true(curves["noise of a full level"][-1] > math.log(3) - 0.05,
            what="the full width does not")

# %% [markdown]
# The cure is **dequantisation**: spread level $k$ evenly over a bin of *full* width, $y=(k+u)/K$ with $u$ uniform on
# $[0,1)$ (half the width is a bug one finds in well-known courses). Then the probability of an image is the
# *mass* of its bin, an integral over the noise. In the variables $u$, volumes shrink by $1/K$ a pixel:
#
# $$ \log P(x) = \log\int_{[0,1)^D} p\Big(\frac{x+u}{K}\Big)\frac{\mathrm du}{K^D}
#    \;\ge\; \mathbb E_u\Big[\log p\Big(\frac{x+u}{K}\Big)\Big] - D\log K . \tag{6.11} $$
#
# The step is Jensen's inequality, as for the ELBO of chapter 04. So what a flow trains is a **bound**, unless its
# density is flat inside every bin. Averaging inside the logarithm over several draws of the noise gives a tighter one,
# with the same argument as for importance weights there.

# %% verifies=["6.11"]
pair = flow.Dequantised(coupling.cube_flow(torch.zeros(1, 1, 2, 3).log_softmax(-1), 2, (8,),
                                           4), 3, images.dequantise)
with torch.no_grad():
    for weight in pair.parameters():
        weight.add_(0.5 * torch.randn_like(weight))
# every image of two pixels
nine = torch.cartesian_prod(torch.arange(3), torch.arange(3)).view(9, 1, 1, 2) / 2
offsets = torch.cartesian_prod(*[(torch.arange(50) + 0.5) / 50] * 2).view(-1, 1, 1, 2)
with torch.no_grad():
    inside = torch.stack([pair.flow.log_prob((2 * image + offsets) / 3) for image in nine])
    mass = inside.exp().mean(1) / 3**2
    # 2,000 draws of the one-draw bound
    bound = torch.cat([pair.log_weights(nine, 500) for _ in range(4)])
    # twenty draws inside the logarithm
    tighter = bound.view(100, 20, 9).logsumexp(1).mean(0) - math.log(20)
checks.close(mass.sum(), 1.0, what="(6.11): the masses of all nine images add up to 1",
             atol=0.01)
checks.monte_carlo(bound.exp(), mass,
                   what="(6.11): the mean over the noise is the mass of the bin")
checks.monte_carlo(bound, inside.mean(1) - 2 * math.log(3),
                   what="(6.11): the bound's mean, by quadrature")
checks.true(bound.mean(0) < mass.log(), what="(6.11): a lower bound")
checks.true((tighter > bound.mean(0)) & (tighter < mass.log() + 0.1),
            what="and twenty draws are tighter")

# %% [markdown]
# ### Bits per dimension, in three terms
# Papers report bits per dimension. Three constants come in, and each is a step you can see. With $y\in[0,1]^D$:
#
# $$ \text{bits/dim} = \frac{1}{D\log 2}\Big(\underbrace{-\log p(y)}_{\text{density on the cube}} +
#    \underbrace{D\log K}_{\text{width of a bin}}\Big) = -\frac{\log_2 p(y)}{D} + \log_2 K . \tag{6.12} $$
#
# The division by $\log 2$ turns nats into bits, $D$ shares them among the pixels, and $\log_2 K$ is the bin: $+8$ for
# 256 levels, $+4.09$ for 17. (Someone who works on $[0,256]$ has the bin width 1 and no such term; his $\log p$ is
# smaller by $D\log 256$. And scaling by 255 instead of 256 leaves gaps between the bins.) The test of all constants at
# once: $2^{-D\,\text{bits/dim}}$ is the probability of an image, so over all images it must add up to 1.

# %% verifies=["6.12"]
# two pixels of three levels; the density on the square is flat inside every bin
mass_of = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]).double()
nine = torch.cartesian_prod(torch.arange(3), torch.arange(3))
log_p_y = (3 * mass_of[0][nine[:, 0]]).log() + (3 * mass_of[1][nine[:, 1]]).log()
bits = -log_p_y / (2 * math.log(2)) + math.log2(3)
checks.close((2.0 ** (-2 * bits)).sum(), 1.0, what="(6.12): all nine images have the mass 1")
for levels in (256, 17):
    flat = torch.tensor(-100 * math.log(levels))  # density 1 on the cube of 100 pixels
    print(f"{levels:>3} levels, bins of width 1/{levels}: density 1 costs "
          f"{metrics.bits_per_dim(flat, 100):.2f} bits per dimension")

# %%
size = {"digits": None}.get(dataset, 12)  # small images: what a laptop's minute is enough for
n_train = {"smoke": 600, "class": 8_000, "full": None}[budget]
data = images.load(dataset, n=None if dataset == "digits" else n_train, seed=seed, size=size,
                   data_dir=data_dir)
data = data.to(device)
shape, K, n_pixels = data.shape, data.levels, math.prod(data.shape)
test = data.test[: 100 if budget == "smoke" else 500]
test_x = images.to_float(test.images)
# a little in every bin: none is impossible
train_x, smoothing = images.to_float(data.train.images), 4 / K
counted = PixelHistograms(shape, levels=K).to(device).fit(train_x, smoothing=smoothing)
mixture = PixelHistograms(shape, levels=K, n_classes=len(data.classes)).to(device).fit(
    train_x, data.train.labels, smoothing)
with torch.no_grad():
    floors = {"independent pixels": counted, "class mixture": mixture}
    floors = {name: torch.cat([model.log_prob(part) for part in test_x.split(100)]) for name,
              model in floors.items()}
for name, nats in floors.items():
    print(f"{name:<19}{-nats.mean():8.1f} nats "
          f"{metrics.bits_per_dim(nats, n_pixels).mean():7.3f} bits per dimension")

# %% [markdown]
# Those are floors, to be beaten. (Where the class mixture is the worse one: it fills ten times as many histograms with a
# tenth of the images each, and the smoothing weighs more.) Can a flow *start* there? Yes. Send each pixel through the cumulative function of its
# own histogram, a broken line. In bin $k$ its slope is $K p_k$, so under a *uniform* base, whose density is 1,
#
# $$ \log p(y) = \sum_{i=1}^D \log\big(K\,p_{i,k_i}\big) = \sum_{i=1}^D\log p_{i,k_i} + D\log K . \tag{6.13} $$
#
# Subtract the $D\log K$ of (6.11), and what is left is chapter 02's model of independent pixels, exactly. The density is
# flat inside each bin, so here the bound is no bound but the number itself. Now put spline couplings on top, which start
# as the identity, and training begins where counting ended.

# %% verifies=["6.12", "6.13"]
first = elementwise.HistogramCDF(counted.log_p[0])
network = lambda n_outputs: nn.Sequential(
    nn.Conv2d(shape[0], 32, 3, padding=1), nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
    nn.Conv2d(32, shape[0] * n_outputs, 3, padding=1))
cube = coupling.cube_flow(counted.log_p[0], n_layers=6, n_bins=8, network=network)
model = flow.Dequantised(cube, K, images.dequantise).to(device)
y = images.dequantise(test_x[:50], K)
with torch.no_grad():
    checks.close(first(y)[1], floors["independent pixels"][:50] + n_pixels * math.log(K),
                 rtol=1e-3,
                 what="(6.13): the log-slopes of the first layer add up to that")
    checks.close(first.inverse(first(y)[0]), y, what="its inverse gives the pixels back",
                 atol=1e-3)
    checks.close(model.elbo(test_x[:50]), floors["independent pixels"][:50], atol=0.1,
                 rtol=1e-3,
                 what="(6.13): before training the flow is the model of independent pixels")
    on_cube = cube.log_prob(y)
three_terms = -on_cube / (n_pixels * math.log(2)) + math.log2(K)
checks.close(metrics.bits_per_dim(on_cube - n_pixels * math.log(K), n_pixels), three_terms,
             what="(6.12): three terms")
on_256 = on_cube - n_pixels * math.log(256)  # the same density for pixels in [0, 256]
checks.close(-on_256 / (n_pixels * math.log(2)), -on_cube / (n_pixels * math.log(2)) + 8,
             what="log₂ 256 is +8")

# %%
fit(model, lambda: images.batches(data.train.images, 32), n_steps, "flow on the cube")
with training.evaluating(model):
    cube_bound = torch.cat([model.elbo(part) for part in test_x.split(100)])
    tight = torch.cat([model.importance_weighted_bound(part, 8) for part in test_x.split(25)])
    drawn = model.sample(30)
bpd = {name: metrics.bits_per_dim(nats, n_pixels).mean().item() for name, nats in
       (*floors.items(), ("flow, bound", cube_bound), ("flow, 8 draws", tight))}
print("   ".join(f"{name} {value:.3f}" for name, value in bpd.items()), " bits per dimension")
with torch.no_grad():
    sheet = torch.cat([test_x[:10], counted.sample(10), drawn[:30]])
plots.show(plots.images(sheet, columns=10,
                        title="Row 1: data. Row 2: independent pixels. Below: the flow"))
# alt: Ten test images, ten samples of independent pixels, and thirty samples of the trained flow.
checks.true(bpd["flow, bound"] < bpd["independent pixels"],
            what="below the floor of independent pixels")
record(flow_bits_per_dim=bpd["flow, bound"], floor_bits_per_dim=bpd["independent pixels"])

# %% [markdown]
# ### Exercise 6.6 (2 points): bits per dimension
# A friend reports $\log p$ of a density on pixels in $[0, 1]$ and asks what that is in bits per dimension. Write
# `bits_from_density`.

# %% exercise="6.6"

# %% tags=["check"]
check("6.6", bits_from_density)

# %% [markdown]
# ### Glow, piece by piece
# Glow (Kingma & Dhariwal 2018) is the flow that first drew convincing faces. One step has three layers.
#
# **Actnorm.** Scale and shift of each channel $c$. They are set so that the *first batch* comes out with mean 0 and
# variance 1, and from then on they are ordinary weights:
#
# $$ z_c = \frac{x_c-\text{mean}_c}{\text{std}_c}, \qquad \log|\det| = -HW\sum_c\log\text{std}_c . \tag{6.14} $$
#
# *Why does actnorm forget after loading?* Because "I have seen my first batch" is knowledge, and if it is not saved with
# the weights a loaded model starts again from whatever it sees first. Ours is a buffer: it is in the file.
#
# **Invertible 1×1 convolution.** Instead of swapping halves, mix the channels with a learned matrix $W$, the same at each
# of the $H\times W$ pixels: a permutation that can be trained. Its Jacobian is $W$ repeated $HW$ times along the diagonal:
#
# $$ \log|\det| = H\,W\,\log|\det W| . \tag{6.15} $$
#
# **Affine coupling** on half of the channels, (6.5). To get channels, an image is *squeezed*: each $2\times2$ block of
# pixels becomes four channels.
#
# **Split.** After some steps half of the channels is declared finished, and the rest goes on at half the size. The
# finished half is judged by a Gaussian whose mean and scale a network predicts from the half that *stays*:
#
# $$ z_\text{out} = \frac{x_\text{out}-\mu(x_\text{keep})}{\sigma(x_\text{keep})}, \qquad \log|\det|=-\sum\log\sigma(x_\text{keep}) . \tag{6.16} $$
#
# Here is the learned prior that people ask about. It is normalised because it does not see the number it judges. Feed
# it the wrong half, and it can widen where it looks: $\int p\ne1$.
#
# One more layer comes *before* all steps. Pixels live in $[0,1]$, Glow's base on the whole line. The **logit**
# $\log\frac{y}{1-y}$ leads from one to the other; its slope is $\frac1{y(1-y)}$, so it adds $-\sum_i\log y_i(1-y_i)$
# to the log-determinant. (A small margin, $a+(1-2a)y$ for $y$, keeps 0 and 1 at finite places and adds
# $D\log(1-2a)$.) Forget this term, and the bits are those of another scale, as in Exercise 6.2.

# %% verifies=["6.14", "6.15"]
x = torch.randn(3, 4, 2, 3).double()
norm = glow.Actnorm(4).double()
norm.initialise(5 + 3 * x)
checks.close(norm(5 + 3 * x)[0].mean((0, 2, 3)), torch.zeros(4), what="(6.14): mean 0",
             atol=1e-9)
checks.close(norm(5 + 3 * x)[0].var((0, 2, 3), correction=0), torch.ones(4),
             what="(6.14): variance 1")
checks.log_det(norm, x[:2], what="(6.14): log-determinant of actnorm")
again = glow.Actnorm(4).double()
again.load_state_dict(norm.state_dict())
again.initialise(x)
checks.close(again(x)[0], norm(x)[0], what="after loading it remembers that it has started")
conv = shaken(glow.InvertibleConv(4))
checks.log_det(conv, x[:2], what="(6.15): H·W·log|det W|")
y = torch.rand(2, 1, 2, 2).double()
logit, inner = elementwise.Logit(0.02), 0.02 + 0.96 * y
checks.log_det(logit, y, what="the logit and its margin")
term = (math.log(0.96) - (inner * (1 - inner)).log()).flatten(1).sum(1)
checks.close(logit(y)[1], term, what="their term, as above")

# %% verifies=["6.16"]
prior = nn.Conv2d(1, 2, 1).double()  # the mean is 0.5 x + 0.1, the raw log-scale 0.7 x + 0.2
with torch.no_grad():
    prior.weight[:, 0, 0, 0] = torch.tensor([0.5, 0.7])
    prior.bias[:] = torch.tensor([0.1, 0.2])
split = glow.Split((2, 1, 1), prior, glow.Flat((1, 1, 1)))
checks.log_det(split, torch.randn(3, 2, 1, 1).double(),
               what="(6.16): a split is an affine coupling")
two = torch.tensor([1.0, -2.0]).double().view(1, 2, 1, 1)  # keep 1, judge −2
sigma = coupling.bounded(torch.tensor(0.7 + 0.2).double(), 2.0).exp()
checks.close(split(two)[0][0, 0], (-2 - (0.5 + 0.1)) / sigma, what="(6.16): by hand")

# %% verifies=["6.16"]
points, volume = checks.grid((-25, 25), (-25, 25), n=401)
with torch.no_grad():
    whole = flow.Flow(StandardNormal(2), [split]).double()
    checks.integrates_to_one(lambda v: whole.log_prob(v[..., None, None]),
                             (-25, 25), (-25, 25), n=401,
                             what="(6.16): ∫ p = 1 with the prior told by what stays")
    # the wrong half: told by the number it judges
    mu, raw = prior(points[:, 1:, None, None]).flatten(1).T
    cheat = Normal(mu, coupling.bounded(raw, 2.0).exp()).log_prob(points[:, 1])
    cheat = cheat + Normal(0.0, 1.0).log_prob(points[:, 0])
print(f"told by the number that it judges, the 'density' integrates to "
      f"{cheat.exp().sum() * volume:.2f}")
checks.fails(lambda: abs(cheat.exp().sum() * volume - 1) < 0.02,
             what="with the prior on the wrong half the integral is 1")

# %%
small_glow = glow.glow(shape, n_scales=2, depth=4, width=32, first=[elementwise.Logit(0.02)])
glow_model = flow.Dequantised(small_glow, K, images.dequantise).to(device)
with torch.no_grad():
    glow_model.initialise(images.to_float(data.train.images[:256]))
    glow_before = metrics.bits_per_dim(glow_model.elbo(test_x), n_pixels).mean().item()
fit(glow_model, lambda: images.batches(data.train.images, 32), n_steps, "Glow", lr=2e-3)
with training.evaluating(glow_model):
    glow_bpd = metrics.bits_per_dim(glow_model.elbo(test_x), n_pixels).mean().item()
print(f"Glow, {n_steps} steps: {glow_before:.3f} → {glow_bpd:.3f} bits per dimension; flow on "
      f"the cube {bpd['flow, bound']:.3f}")
record(glow_bits_per_dim=glow_bpd)

# %% [markdown]
# Paper against short training: on small grey images with many pure white pixels an affine Glow first has to learn what
# the histograms know for nothing. Which one is ahead after the same number of steps, the line above says.

# %% [markdown]
# ### Exercise 6.7 (2 points): actnorm's first look
# Write `first_look(x)`: from a first batch `(B, C, H, W)` the `log_scale` and `shift` of each channel, so that
# `x * exp(log_scale) + shift` has mean 0 and variance 1 a channel.

# %% exercise="6.7"

# %% tags=["check"]
check("6.7", first_look)

# %% [markdown]
# ### Exercise 6.8 (1 point): a mixing of channels
# Write `mixing_log_det(weight, height, width)`, the logarithm of $|\det|$ of a 1×1 convolution on whole images. It must
# not overflow for 200 channels.

# %% exercise="6.8"

# %% tags=["check"]
check("6.8", mixing_log_det)

# %% [markdown] tags=["fold"]
# ### Going deeper: temperature, and the way between two images
# Draw $z=T\epsilon$ instead of $\epsilon$: below $T=1$ samples stay near the middle of the base, so there is less variety
# and fewer accidents. (This is $p_Z^{1/T^2}$ on the *noise*. For a flow whose volume factor varies it is not
# $p_X^{1/T^2}$.) A uniform base has no such knob, but a uniform number is a Gaussian one in disguise: $\Phi^{-1}$ at the
# end turns the cube flow into the same model over $\mathcal N(0,I)$.

# %%
gauss = flow.Flow(StandardNormal(shape),
                  [*cube.chain.transforms, elementwise.Probit()]).to(device)
with training.evaluating(gauss):
    noise = torch.randn(10, *shape, device=device)
    rows = [gauss.inverse(T * noise) for T in (0.0, 0.5, 0.8, 1.0)]
    pair = images.dequantise(test_x[:2], K)
    ends = gauss(pair)[0]
    way = torch.linspace(0, 1, 10, device=device).view(-1, 1, 1, 1)
    rows.append(gauss.inverse((1 - way) * ends[:1] + way * ends[1:]))
    checks.close(rows[-1][[0, -1]], pair, atol=0.02, rtol=0.0,
                 what="the ends of the way are the images")
plots.show(plots.images(torch.cat(rows).clamp(0, 1), columns=10,
                        title="Temperature 0, 0.5, 0.8, 1; last row: from one image to "
                              "another"))
# alt: Four rows of samples, the same noise scaled up; the last row walks between two test images.

# %% [markdown]
# Directions in $z$ work as in chapter 04: the mean $z$ of the images with much ink, minus the mean of those with little.
# The slant is read off an image too: how far the ink of the upper rows lies to the right of the ink below.

# %%
with training.evaluating(gauss):
    known = images.to_float(data.train.images[:500])
    z_known = gauss(images.dequantise(known, K))[0]
rows, columns = torch.meshgrid(*(torch.arange(n, device=device).float() for n in shape[1:]),
                               indexing="ij")
ink = known.mean(1) + 1e-6  # (N, H, W), colours averaged
weight = ink / ink.sum((1, 2), keepdim=True)
centre_r, centre_c = ((weight * place).sum((1, 2), keepdim=True) for place in (rows, columns))
signs = {"more ink": ink.mean((1, 2)),
         "leaning right": -(weight * (rows - centre_r) * (columns - centre_c)).sum((1, 2))}
directions = []
for values in signs.values():
    much = values > values.median()
    directions.append(z_known[much].mean(0) - z_known[~much].mean(0))
temperatures, strengths = [0.0, 0.4, 0.7, 1.0], [-2.0, -1.0, 0.0, 1.0, 2.0]
with training.evaluating(gauss):
    few = torch.randn(5, *shape, device=device)
    z = torch.stack([T * few + s * way for way in directions for T in temperatures
                     for s in strengths])
    frames = gauss.inverse(z.flatten(0, 1)).mean(1, keepdim=True)
frames = frames.view(len(signs), len(temperatures), len(strengths), 5, 1, *shape[1:])

# %% tags=["widget"]
widgets.flow_images(frames, temperatures, strengths, list(signs))

# %% [markdown]
# **Is $z$ Gaussian?** Training pushes that way; it does not promise it. So test instead of assuming. For held-out images
# every number of $z$ should be $\mathcal N(0,1)$, and the numbers should not know of each other.

# %%
with training.evaluating(gauss):
    z = gauss(images.dequantise(test_x, K))[0].flatten(1).cpu()
n = len(z)
ranks = (torch.arange(n) + 0.5) / n
# Kolmogorov–Smirnov
distance = (Normal(0.0, 1.0).cdf(z.sort(0).values) - ranks[:, None]).abs().amax(0)
limit = 1.36 / math.sqrt(n)  # a true Gaussian lies further off 1 time in 20
varied = z.std(0) > 1e-3
off = torch.corrcoef(z[:, varied].T).triu(1).abs()
print(f"numbers of z that fail the test at 5 %: {(distance > limit).float().mean():.0%}; "
      f"mean std {z.std(0).mean():.3f}; strongest correlation of two of them {off.max():.2f}")
chance = math.sqrt(2 * math.log(varied.sum() ** 2 / 2) / n)
print(f"a perfect flow: about 5 %, 1, about {chance:.2f}, the largest of so many by chance")

# %% [markdown]
# The distance between the two lines is what this training has left undone: whoever *assumes* a Gaussian $z$, to call an
# image an outlier, assumes that it is zero.

# %% [markdown] tags=["fold"]
# ### Going deeper: are later latents "more semantic"?
# One of the sources says that the deeper latents of a flow carry higher meaning. That can be tested: train a linear
# classifier on the latents of each scale of the Glow, as many numbers from each, and for comparison on all pixels.

# %%
parts = glow.scales(shape, 2)
with training.evaluating(glow_model):
    train_part = data.train[:2_000]
    z_train = small_glow(images.dequantise(images.to_float(train_part.images), K))[0]
    z_test = small_glow(images.dequantise(test_x, K))[0]
for name, part in zip(("finished early (fine scale)", "finished last (coarse scale)"), parts):
    accuracy = metrics.linear_probe(z_train[:, part], train_part.labels, z_test[:, part],
                                    test.labels)
    print(f"{name:<30}{part.stop - part.start:>5} numbers, linear probe {accuracy:.1%}")
pixels_probe = metrics.linear_probe(images.to_float(train_part.images).flatten(1),
                                    train_part.labels,
                                    test_x.flatten(1), test.labels)
print(f"{'all pixels':<30}{n_pixels:>5} numbers, linear probe {pixels_probe:.1%}")

# %% [markdown]
# The probe answers for this model and this data, no more. A flow keeps *all* information by construction, so "where is
# the meaning" is a question of what is easy to read where, not of what is there.

# %% [markdown]
# ### TarFlow: attention as a flow
# MAF conditions pixel on pixel with a masked MLP. Take patches for pixels and causal attention (chapter 02's
# transformer block, as it is) for the masks, and (6.8) is a modern flow: TarFlow (Zhai et al. 2024). Layers read the
# patches in turn from both ends, so that every patch is conditioned on every other. Three habits make it work: the
# network's last layer starts at zero (the flow starts as the identity), its answer is shifted by one patch (so that a
# patch is told only by those before), and the training images get *Gaussian noise*.
#
# We train it given the class, $p(x\mid y)$. Then chapter 01's promise comes due: Bayes' rule turns a generative model
# into a classifier, $p(y\mid x)\propto p(x\mid y)\,p(y)$, with no classifier trained. (The images to be judged get
# the same noise, for it is noisy images whose density the flow knows.)

# %%
sigma = 0.1
patch = 2 if shape[1] == 8 else 3
tarflow = tarflow_family.tarflow(shape, lambda width: TransformerBlock(width, 4), patch=patch,
                                 n_flows=4, width=48,
                                 n_blocks=2, n_classes=len(data.classes)).to(device)
with torch.no_grad():
    checks.true(tarflow(test_x[:4], test.labels[:4])[1] == 0,
                what="untrained it stretches nothing: log|det| = 0")


def noisy(x):
    return x + sigma * torch.randn_like(x)


def labelled():
    return ((noisy(x), y) for x, y in images.batches(data.train.images, 64, data.train.labels))


fit(tarflow, labelled, n_steps, "TarFlow given the class", lr=2e-3)

# %%
k = min(len(test), {"smoke": 100, "class": 300, "full": 500}[budget])
with training.evaluating(tarflow):
    probe_x = noisy(test_x[:k])
    per_class = torch.stack([tarflow.log_prob(probe_x, torch.full((k,), c, device=device))
                             for c in range(len(data.classes))], 1)
    guess = per_class.argmax(1)  # equal priors
bayes = (guess == test.labels[:k]).double().mean().item()
print(f"class read off by Bayes' rule: {bayes:.1%} of {k} test images right (chance "
      f"{1 / len(data.classes):.0%})")
checks.true(bayes > 3 / len(data.classes) or budget == "smoke",
            what="it knows more than chance of the class")
record(bayes_accuracy=bayes)

# %% [markdown] tags=["fold"]
# ### Going deeper: one step back to clean images
# Trained on noisy images, the flow draws noisy images. The noise can be taken off in one step, if we know the *score* of
# the noisy density, and a flow does. For $x=\text{clean}+\sigma\epsilon$ (Tweedie's formula),
#
# $$ \mathbb E[\text{clean}\mid x] = x + \sigma^2\,\nabla_x\log p_\sigma(x) . \tag{6.17} $$
#
# In two lines: $p_\sigma(x)=\int p(c)\,\mathcal N(x;c,\sigma^2)\,\mathrm dc$, and the gradient of the Gaussian is
# $\mathcal N\cdot(c-x)/\sigma^2$. Divide by $p_\sigma(x)$: since $p(c)\,\mathcal N/p_\sigma(x)$ is $p(c\mid x)$,
# this is $\nabla\log p_\sigma(x)=\big(\mathbb E[c\mid x]-x\big)/\sigma^2$. Chapter 07 builds a whole model on this line.
# A TarFlow's likelihood is that of *noisy* images: it never shares a column with discrete bits.

# %% verifies=["6.17"]
# clean: one of three points; noisy: three bumps of width 0.7
centres = torch.tensor([-2.0, 0.5, 3.0]).double()
x = torch.linspace(-4, 5, 50).double()[:, None]
weights = Normal(centres, 0.7).log_prob(x).softmax(1)  # p(clean | x), by Bayes
mean = (weights * centres).sum(1, keepdim=True)
found = flow.tweedie(lambda v: Normal(centres, 0.7).log_prob(v).logsumexp(1), x, 0.7)
checks.close(found, mean, what="(6.17): the step ends at E[clean | x]", rtol=1e-6)

# %%
y = torch.arange(20, device=device) % len(data.classes)
with training.evaluating(tarflow):
    raw = tarflow.sample(20, y, temperature=0.9)
clean = flow.tweedie(lambda v: tarflow.log_prob(v, y), raw, sigma)
plots.show(plots.images(torch.cat([raw, clean]).clamp(0, 1), columns=10,
                        title="TarFlow, two samples a class: as drawn, and after one Tweedie "
                              "step"))
# alt: Noisy samples of all classes, and the same with their noise removed in one step.

# %% [markdown]
# ### Can samples be likelier than the data?
# People who train flows report a strange thing: the flow's own samples get a *higher* average $\log q$ than the data it
# was trained on. Is that a bug? Write both averages with the entropies $H$. By definition $\mathbb E_q\log q=-H(q)$, and
# $\mathbb E_p\log q=-H(p)-\mathrm{KL}(p\,\|\,q)$. Subtract:
#
# $$ \mathbb E_q\log q-\mathbb E_p\log q = H(p)+\mathrm{KL}(p\,\|\,q)-H(q) . \tag{6.18} $$
#
# So samples are likelier than data exactly if $H(q)<H(p)+\mathrm{KL}(p\,\|\,q)$. A perfect model has a difference of 0.
# A model that misses ($\mathrm{KL}>0$) without being more spread out than the data must have likelier samples. Likelihood
# of samples is no measure of quality.
#
# ### Exercise 6.9 (1 point): which is likelier?
# Fit a *broad* Gaussian $q=\mathcal N(0,3^2)$ to data from $p=\mathcal N(0,1)$. Predict: is the mean of $\log q$ higher
# over the model's own *samples*, over the *data*, or is it the *same*?

# %% exercise="6.9"

# %% tags=["check"]
check("6.9", likelier)

# %% verifies=["6.18"]
points, cell = checks.grid((-30.0, 30.0), n=6_000)
p = Normal(0.0, 1.0)
for spread in (0.6, 1.0, 3.0):
    q = Normal(0.0, spread)
    own = (q.log_prob(points).exp() * q.log_prob(points)).sum() * cell
    on_data = (p.log_prob(points).exp() * q.log_prob(points)).sum() * cell
    kl = torch.distributions.kl_divergence(p, q)
    print(f"q with spread {spread}: samples {own:+.3f}, data {on_data:+.3f}, difference "
          f"{own - on_data:+.3f} nats")
    checks.close(own - on_data, p.entropy() + kl - q.entropy(), what="(6.18), by quadrature",
                 atol=1e-4)
reveal("6.9", "data" if own < on_data - 0.01 else "samples")
with training.evaluating(board):
    own = board.log_prob(board.sample(4_000)).mean().item()
    on_data = board.log_prob(target.sample((4_000,))).mean().item()
    own_images = cube.log_prob(cube.sample(200)).mean().item()
    test_images = cube.log_prob(images.dequantise(test_x, K)).mean().item()
for name, a, b in (("checkerboard", own, on_data),
                   ("images on the cube", own_images, test_images)):
    print(f"{name:<19}samples {a:9.3f}, new data {b:9.3f}, difference {a - b:+.3f} nats")

# %% [markdown]
# **Typicality.** The likeliest point of $\mathcal N(0,I)$ is the origin, and no sample ever lies there: in $D$ dimensions
# the norm of a sample is close to $\sqrt D$, because it is the root of a sum of $D$ squares of mean 1. High density times
# no volume is no probability. So an image can be *likelier than any sample* and yet be nothing that the model would
# draw. For independent pixels we can name it: every pixel at its own commonest level, which is (nearly) blank paper.
# Judge outliers by whether $\log p$ is *typical*, not by whether it is high.

# %%
for n_dims in (1, 10, 100, 10_000):
    norms = torch.randn(1_000, n_dims).norm(dim=1) / math.sqrt(n_dims)
    print(f"D = {n_dims:>6}: norm of a sample / √D = {norms.mean():.3f} ± {norms.std():.3f}")
checks.close(norms.mean(), 1.0, what="in 10,000 dimensions samples lie on a shell", atol=0.01)

# %%
commonest = (counted.log_p[0].argmax(-1) / (K - 1))[None]
with training.evaluating(model):
    that = {"independent pixels": counted.log_prob(commonest).item(),
            "flow, bound": model.elbo(commonest).item()}
    print(f"{(commonest == 0).float().mean():.0%} of the pixels of that image are paper")
    for name, tested in (("independent pixels", floors["independent pixels"]),
                         ("flow, bound", cube_bound)):
        print(f"{name:<19}that image {that[name]:.0f} nats, test images {tested.mean():.0f}, "
              f"the likeliest of {len(tested)} {tested.max():.0f}")
    checks.true(that["independent pixels"] > floors["independent pixels"].max(),
                what="under independent pixels no image is likelier")

# %% [markdown] tags=["fold"]
# ### Going deeper: an actnorm that forgets
# A bug that no training curve shows: while the notebook is open all is well. The weights are saved, loaded on another day,
# and the first batch of *test* images sets scale and shift anew.
#
# #### Exercise 6.10 (2 points): find the bug
# The layer below forgets. Repair it, so that it looks at its first batch, once, and still knows that after its weights
# were saved and loaded.

# %% exercise="6.10"
def remembering_norm(n_channels):
    """Actnorm that looks at its first batch, once, and remembers that when saved and loaded.

    n_channels: C. Returns an nn.Module: x (B, C, H, W) -> (z, log_det), log_det (B,).
    """
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(n_channels))
            self.shift = nn.Parameter(torch.zeros(n_channels))
            self.looked = False

        def forward(self, x):
            if not self.looked:
                with torch.no_grad():
                    std = x.std((0, 2, 3), correction=0)
                    self.log_scale.copy_(-std.log())
                    self.shift.copy_(-x.mean((0, 2, 3)) / std)
                    self.looked = True
            z = x * self.log_scale.exp().view(-1, 1, 1) + self.shift.view(-1, 1, 1)
            return z, (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(len(x))

    return Norm()

# %% tags=["check"]
check("6.10", remembering_norm)

# %% [markdown]
# ## 6.6 All families on one table
#
# Binary pixels (chapters 02 and 04), 256 levels and densities on the cube never share a column. One data set lets all
# families speak of the *same* discrete images: the digits of $8\times8$ pixels with 17 levels. The rows come with the
# course, made by `course bench digits`; the last line is the flow that you train now, with fewer steps.

# %%
small_digits = images.load("digits").to(device)
own = digits_recipes.RECIPES["flow"].make(small_digits)
n_own = {"smoke": 6, "class": 300, "full": 900}[budget]
fit(own, lambda: images.batches(small_digits.train.images, 64), n_own, "flow on 17 levels")
with training.evaluating(own):
    numbers = digits_recipes.score("flow", own, images.to_float(small_digits.test.images), 16)
rows = shipped.results("digits17.json")["rows"]
print(f"{'model':<43}{'nats':>7}{'bits/dim':>9}  {'what it is':<15}{'weights':>8}"
      f"{'train s':>8}{'draw s':>7}")
for row in rows:
    print(f"{row['title']:<43}{row['test_nats']:7.2f}{row['bits_per_dim']:9.3f}  "
          f"{row['kind']:<15}{row['parameters']:>8,}{row['train_cpu_seconds']:>8.0f}"
          f"{row['sample_64_cpu_seconds']:>7.2f}")
print(f"{'your flow, ' + str(n_own) + ' steps':<43}{numbers['test_nats']:7.2f}"
      f"{numbers['test_nats'] / (64 * math.log(2)):9.3f}  {numbers['kind']:<15}")
named = {row["name"]: row["test_nats"] for row in rows}
checks.true(named["flow"] < named["mixture"] < named["independent"],
            what="in the table the flow beats both floors")
checks.true(numbers["test_nats"] < named["independent"] + 0.5,
            what="yours does not end above independent pixels")
record(digits_flow_nats=numbers["test_nats"])

# %% [markdown]
# *Exact* means the probability itself. *Bound, k draws* is an upper bound on $-\log P$ in expectation: the truth is lower,
# by an unknown amount that shrinks with $k$; diffusion's bound is that of chapter 07, over $T$ steps. Seconds are CPU
# seconds of the machine that made the table: to train, and to draw 64 images.
#
# ## What to remember
#
# * A flow moves mass and loses none: $\log p_X(x)=\log p_Z(f(x))+\log|\det\partial f/\partial x|$, plus because $f$ goes
#   from data to noise. Log-determinants of layers add up.
# * It bends and never tears. Separate modes are joined by filaments, and a deep gap needs slopes near 0.
# * Make the Jacobian triangular. Couplings are fast both ways; masks must take turns. Scales need a bound.
# * MAF is MADE with Gaussian conditionals: density in one pass, samples in $D$. IAF is the other way round, and Jacobi
#   iteration is in between.
# * Integers have no density: dequantise with the full width, and call the result a bound.
# * Test log-determinants with weights that are not the identity.
# * High density is not typicality, and likelier samples are no better samples.
#
# **The question this leaves:** every layer of this chapter had to be built so that it can be undone, and that cost us: half
# of the numbers stand still, matrices are triangular, nothing tears. Must a path be invertible *by construction*? Chapter
# 07 takes a path that is only followed, step by step, and finds that it can be walked back.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * D. Rezende, S. Mohamed, *Variational inference with normalizing flows*, 2015, arXiv:1505.05770. G. Papamakarios et
#   al., *Normalizing flows for probabilistic modeling and inference*, 2021, arXiv:1912.02762.
# * L. Dinh, D. Krueger, Y. Bengio, *NICE*, 2015, arXiv:1410.8516. L. Dinh, J. Sohl-Dickstein, S. Bengio, *Density
#   estimation using Real NVP*, 2017, arXiv:1605.08803.
# * C. Durkan, A. Bekasov, I. Murray, G. Papamakarios, *Neural spline flows*, 2019, arXiv:1906.04032.
# * D. P. Kingma, P. Dhariwal, *Glow: generative flow with invertible 1×1 convolutions*, 2018, arXiv:1807.03039.
# * D. P. Kingma et al., *Improving variational inference with inverse autoregressive flow*, 2016, arXiv:1606.04934. G.
#   Papamakarios, T. Pavlakou, I. Murray, *Masked autoregressive flow for density estimation*, 2017, arXiv:1705.07057.
#   M. Germain et al., *MADE*, 2015, arXiv:1502.03509.
# * Y. Song, C. Meng, R. Liao, S. Ermon, *Accelerating feedforward computation via parallel nonlinear equation solving*,
#   2021, arXiv:2002.03629.
# * S. Zhai et al., *Normalizing flows are capable generative models*, 2024, arXiv:2412.06329.
# * S. Chen, R. Gopinath, *Gaussianization*, 2001. B. Uria, I. Murray, H. Larochelle, *RNADE*, 2013, arXiv:1306.0186. L.
#   Theis, A. van den Oord, M. Bethge, *A note on the evaluation of generative models*, 2016, arXiv:1511.01844.
# * B. Efron, *Tweedie's formula and selection bias*, 2011. E. Nalisnick et al., *Do deep generative models know what they
#   don't know?*, 2019, arXiv:1810.09136 (typicality).
