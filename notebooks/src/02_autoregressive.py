# %% [markdown]
# # 2. Autoregressive models
#
# **Can $Z$ be 1 by construction?**
#
# Chapter 01 ended with a bill. An energy can be any function we like, but to make it a probability we must divide by
# $Z$, a sum over *all images there could be*. That sum has $2^{784}$ terms for a small black-and-white picture. Can we
# build a model whose probabilities add up to 1 without anybody adding them up?
#
# Models whose density can be computed are called *explicit* and *tractable* (chapter 01): there is a function
# $p(x)=f(x;\theta)$ that we can evaluate, so training can be plain maximum likelihood. The idea is old: do not ask for
# the probability of an image. Ask for the probability of the *next pixel*. This chapter builds that model four times:
# with one matrix, with a masked network, with masked convolutions and with recurrent networks. All of them give
# $\log p(x)$ **exactly**. You will feel what "exact" means when we turn a digit into a file of about 15 bytes and read
# it back. You will also meet the price: drawing one sample takes 784 steps, one after the other.
#
# You need chapter 01 (maximum likelihood, nats, KL, Bayes' rule), matrices as linear maps, what a convolution and a
# layer of hidden units do, and a little PyTorch. The core path takes about {minutes} minutes. Sections marked *Going
# deeper* start folded; three of them hold an exercise.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, digits, mnist, fashion_mnist, kmnist, cifar10
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math
import time
import zlib

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import course_utils.expect as expect
from course_utils import checks, coding, distributions, metrics, plots, shipped, training
from course_utils import widgets
from course_utils.chapter import pick_budget, pick_device, pick_seed, record
from course_utils.data import handwriting, images
from course_utils.exercises import check, reveal, score
from course_utils.models import classifier
from course_utils.models.autoregressive import baselines, made, pixelcnn, pixelrnn, sampling
from course_utils.models.autoregressive import transformer
from course_utils.nn.masked import causal_mask

# %%
plots.style()
seed, device = pick_seed(seed), pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_train = {"smoke": 1_000, "class": None, "full": None}[budget]
n_test = {"smoke": 60, "class": 500, "full": 2_000}[budget]
n_steps = {"smoke": 50, "class": 900, "full": 20_000}[budget]
print(f"budget {budget} on {device}: {n_steps} training steps for the main model")

# %% [markdown]
# ## 2.1 Cut a strip of paper
#
# Take images of three pixels, each white (0) or ink (1). There are eight such images, and we want eight probabilities
# that add up to 1.
#
# Take a strip of paper of length 1. Cut it in two: the left piece for images whose first pixel is white, the right
# piece for those whose first pixel is ink. Cut each piece in two again, according to the second pixel. The place of
# *this* cut may depend on the first pixel. Cut again for the third pixel, looking at the first two. Nothing was lost
# and nothing was added: the eight pieces still make up one strip.

# %%
def chance_of_ink(before):  # a rule out of thin air: ink likes company
    return 0.3 + 0.5 * sum(before) / len(before) if before else 0.6


pieces = [((), 0.0, 1.0)]  # pixels so far, where the piece begins, how long it is
fig, ax = plt.subplots(figsize=(9, 2.6))
for level in range(3):
    cut = []
    for pixels, left, length in pieces:
        p = chance_of_ink(pixels)
        white = length * (1 - p)
        cut += [((*pixels, 0), left, white), ((*pixels, 1), left + white, length - white)]
    pieces = cut
    for pixels, left, length in pieces:
        paint, word = (plots.PALETTE[0], "white") if pixels[-1] else ("#dde3ea", "black")
        ax.barh(2 - level, length, 0.9, left, color=paint, edgecolor="white")
        ax.text(left + length / 2, 2 - level, "".join(map(str, pixels)), ha="center",
                va="center", color=word)
ax.set(xlabel="share of the strip", xlim=(0, 1))
ax.set_yticks([2, 1, 0], ["pixel 1", "pixels 1–2", "pixels 1–3"])
ax.set_title("One strip, cut pixel by pixel (blue: the new pixel is ink)")
plots.show(fig)
# alt: A strip of length one, cut in two by the first pixel, in 4 by the second, in 8 by the third.

# %% [markdown]
# The length of a piece is a product: the share at the first cut, times the share at the second, times the share at the
# third. In symbols, with $x=(x_1,\dots,x_D)$, with $x_{<i}$ for all pixels before pixel $i$, and $x_{\le i}$ for those
# pixels and pixel $i$ itself,
#
# $$ p(x) = p(x_1)\,p(x_2\mid x_1)\,p(x_3\mid x_1,x_2)\cdots = \prod_{i=1}^{D} p(x_i\mid x_{<i}) . \tag{2.1} $$
#
# This is the **chain rule of probability**. It is not an approximation. *Every* distribution can be written this way,
# in any order of the pixels: each factor is a ratio, $p(x_i\mid x_{<i}) = p(x_{\le i})/p(x_{<i})$, and in the product
# all but the last numerator cancel. (Where the past itself is impossible, $p(x_{<i})=0$, the factor may be anything.)
# A model that is built from such factors is called **autoregressive**: each part is predicted from the parts before. A
# language model that predicts the next *token* (a piece of a word) is the same thing with other parts.
#
# And the sum over all images? Sum over the last pixel first. Only the last factor contains it, and a factor is a
# probability, so it sums to 1. It is gone. Now the last but one is the last. Go on to the front:
#
# $$ \sum_{x_1}\cdots\sum_{x_D}\prod_{i=1}^{D} p(x_i\mid x_{<i})
#    = \sum_{x_1} p(x_1)\cdots\sum_{x_{D-1}} p(x_{D-1}\mid x_{<D-1})\underbrace{\sum_{x_D}p(x_D\mid x_{<D})}_{=\,1}
#    = 1 . \tag{2.2} $$
#
# So $Z=1$, **whatever** the factors are, as long as each is a probability over its own pixel and sees only pixels
# before it, in one fixed order. Let us be unkind to both equations. For (2.1) we take a random distribution over all
# 512 binary images of $3\times3$ pixels, and read the pixels in a random order. For (2.2) we take a network with random
# weights that nobody ever trained.

# %% verifies=["2.1"] tags=["nbval-check-output"]
# (512, 9): every image of 3×3 binary pixels
states = checks.all_binary(9, dtype=torch.float64)
# any distribution at all
joint = torch.distributions.Dirichlet(torch.ones(512, dtype=torch.float64)).sample()
product, independent_pixels = torch.ones(2, 512).double()
before, group = torch.ones(1).double(), torch.zeros(512).long()
for i, pixel in enumerate(torch.randperm(9).tolist()):
    # images that agree in all pixels read so far share a number
    longer = group + (2**i * states[:, pixel]).long()
    # p(x_≤i)
    upto = torch.zeros(2 ** (i + 1), dtype=torch.float64).index_add(0, longer, joint)
    factor = upto / before.repeat(2)
    # one, over its own pixel, for any past
    assert torch.allclose(factor.view(2, -1).sum(0), torch.ones(2**i).double())
    product *= factor[longer]
    ink = (joint * states[:, pixel]).sum()
    independent_pixels *= torch.where(states[:, pixel] == 1, ink, 1 - ink)
    before, group = upto, longer
checks.close(product, joint,
             what="the product of conditionals is the joint: random joint, random order")
checks.fails(lambda: torch.allclose(independent_pixels, joint, rtol=1e-2),
             what="the product of the p(x_i) is the joint too")

# %% verifies=["2.2"] tags=["nbval-check-output"]
# of section 2.3; here only its random weights matter
nobody_trained_it = made.MADE((1, 3, 3), hidden=(50,)).double()
for weight in nobody_trained_it.parameters():
    nn.init.normal_(weight)
checks.sums_to_one(nobody_trained_it.log_prob, states.view(-1, 1, 3, 3),
                   what="a random network: 512 numbers sum to 1")
p = torch.sigmoid(6 * states - 3)  # a pixel that sees itself, and copies what it sees
total = torch.where(states == 1, p, 1 - p).prod(1).sum()
print(f"pixels that see themselves: the 512 products sum to {total:.0f}")
checks.fails(lambda: abs(total - 1) < 0.1, what="where pixels see themselves the sum is 1 too")

# %% [markdown]
# The last two lines are worth a pause. A network in which a pixel sees itself, or a later pixel, still puts out
# numbers between 0 and 1. You can still multiply them, and the product *looks* like a wonderful probability: here
# *every* image gets 0.65. It is not one. All the craft of this chapter goes into one thing: **letting a network see
# everything before a pixel and nothing else**.
#
# One warning about what (2.1) does *not* do. It does not save work by itself. A table of $p(x)$ for binary images of
# $28\times28$ needs $2^{784}\approx10^{236}$ numbers. Tables of all the conditionals need as many: pixel $i$ has
# $2^{i-1}$ possible pasts and needs one number for each, and $1+2+4+\dots+2^{D-1}=2^D-1$. What saves us is that a
# *function* with a small number of weights takes the place of the tables, and that the pixels share it.
#
# ## 2.2 Likelihood, and what training means here
#
# We use black-and-white images: each grey value between 0 and 1 is the chance of ink, and we draw. Training images are
# drawn anew every time they are used. Test images are drawn once, so that everybody is measured on the same ones. (Both
# habits are customary; the likelihood of *grey* values under a binary model would be no likelihood at all.)

# %%
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
shape, n_classes = data.shape, len(data.classes)
n_channels, height, width = shape
n_pixels = math.prod(shape)
# validation and test images: one draw, once and for all
fixed = images.binarised(data, seed=0)
test = fixed.test[:n_test]
test_x, test_y = images.to_float(test.images), test.labels
grey = images.to_float(data.train.images[:10])
print(f"{data.name}: {len(data.train)} training images of {n_channels}×{height}×{width}, "
      f"{len(test)} test images used")
plots.show(plots.images(torch.cat([grey, images.binarise(grey), images.binarise(grey)]),
                        title="Rows, from the top: ten grey images, a first draw of each, a "
                              "second draw"))
# alt: Ten grey images above two random black-and-white versions of each.

# %% [markdown]
# Training is maximum likelihood, as in chapter 01, and here nothing stands in the way of it. Say the network puts out
# a logit $a_i$ for each pixel, so that $p(x_i=1\mid x_{<i})=\sigma(a_i)=1/(1+e^{-a_i})$. The logarithm turns the
# product into a sum,
#
# $$ -\log p(x) = -\sum_{i=1}^{D}\Big[x_i\log\sigma(a_i) + (1-x_i)\log\big(1-\sigma(a_i)\big)\Big] , \tag{2.3} $$
#
# the **negative log-likelihood** (NLL). It is the cross-entropy of $D$ small classification problems, "ink or white?",
# added up.
#
# Where do the $x_{<i}$ come from? In training we *have* the image, so every factor is given the true pixels before it,
# not the model's own guesses. That is called **teacher forcing**. All $D$ problems can then be solved at the same
# time. When we draw a new image there is no teacher, and that has two prices. Pixel 2 has to wait for pixel 1: we
# shall pay with time. And the past is now the model's own work: after one slip it faces a past that no training image
# ever had.

# %% [markdown]
# ### Exercise 2.1 (1 point): one number for an image
# Write `log_likelihood`, the negative of (2.3), from logits and binary images, both `(B, D)`. Return `(B,)`, in nats.
# It must survive logits of a thousand.

# %% exercise="2.1"

# %% tags=["check"]
check("2.1", log_likelihood)

# %% verifies=["2.3"]
logits = 3 * torch.randn(5, n_pixels, dtype=torch.float64)
x = torch.rand(5, n_pixels, dtype=torch.float64).round()
p = torch.sigmoid(logits)
by_formula = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
by_torch = -torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(1)
checks.close(by_torch, by_formula, what="(2.3) is the Bernoulli likelihood")
checks.fails(lambda: torch.allclose(-(x * p.log()).sum(1), by_formula),
             what="counting only the ink gives the same")

# the third model below, with random weights
one_layer = baselines.LogisticPixels(shape).double()
nn.init.normal_(one_layer.linear.weight, std=0.1)
noise = x.view(-1, *shape)
p = torch.sigmoid(one_layer.params(noise).flatten(1))
costs = -(x * p.log() + (1 - x) * (1 - p).log()).sum(1)
checks.close(one_layer.log_prob(noise), -costs,
             what="a model's log p is (2.3), with its own logits")
checks.close(one_layer.loss(noise)["loss"], costs.mean(),
             what="its loss is the mean of (2.3) over the images")

# %% [markdown]
# **Three models to beat.** Never look at a number without one beside it.
#
# * *Independent pixels.* Every pixel has its own histogram, $p(x)=\prod_i p(x_i)$: the chain rule with all memory cut
#   off.
# * *Class mixture.* Ten such models, one a class, mixed: $p(x)=\sum_y p(y)\prod_i p(x_i\mid y)$. A little more honest,
#   since pixels of one digit go together.
# * *Logistic pixels.* One logistic regression a pixel: $a_i=b_i+\sum_{j<i}w_{ij}\,x_j$. It is called a fully visible
#   sigmoid belief network (Neal 1992). All the weights together make one matrix with nothing on or above its diagonal.
#
# The first two are fitted by counting. The third is the smallest autoregressive model there is, and here is all of it:

# %% quote="course_utils.models.autoregressive.baselines:LogisticPixels.__init__"

# %% quote="course_utils.models.autoregressive.baselines:LogisticPixels.params"

# %% quote="course_utils.models.autoregressive.baselines:LogisticPixels.log_prob"

# %% [markdown]
# (`MaskedLinear` multiplies its weights by a mask of zeros and ones; `raster_order` is reading order; `head` turns a
# logit into a Bernoulli distribution.)
#
# The training loop is the one of chapter 01. The learning rate rises for a moment, then falls to zero. That helps when
# training is short. How high it rises was chosen on the *validation* images, which are neither trained on nor used for
# the numbers that we report.

# %%
def train(model, n_steps, batch_size, lr, labels=None):
    stream = images.batches(data.train.images, batch_size, labels)
    optimizer = torch.optim.Adam(model.parameters(), lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, n_steps, pct_start=0.1,
                                                   cycle_momentum=False)

    def objective(batch):
        x, *y = (batch,) if labels is None else batch
        return model.loss((images.binarise(x), *y) if y else images.binarise(x))

    return training.fit(objective, optimizer, stream, n_steps,
                        description=type(model).__name__, clip_norm=50,
                        scheduler=schedule)


def log_probs(model, x, *y):
    with training.evaluating(model):
        return torch.cat([model.log_prob(*part)
                          for part in zip(x.split(100), *(each.split(100) for each in y))])


# %%
nats = {}  # test NLL of every model of this chapter
ink = images.binarise(images.to_float(data.train.images))
independent = baselines.PixelHistograms(shape).to(device).fit(ink)
mixture = baselines.PixelHistograms(shape,
                                    n_classes=n_classes).to(device).fit(ink, data.train.labels)
log_odds = (independent.log_p[0, ..., 1] - independent.log_p[0, ..., 0]).flatten()
logistic = baselines.LogisticPixels(shape).to(device)
logistic.linear.bias.data = log_odds.clone()  # start where the independent pixels end
train(logistic, n_steps, batch_size=32, lr=2e-2)  # rates: chosen on validation images
for name, model in {"independent pixels": independent, "class mixture": mixture,
                    "logistic pixels": logistic}.items():
    nats[name] = -log_probs(model, test_x).mean().item()
    print(f"{name:20} {nats[name]:6.1f} nats per test image")

# %%
rows = torch.cat([model.sample(10) for model in (independent, mixture, logistic)])
plots.show(plots.images(rows,
                        title="Samples, rows from the top: independent pixels, class mixture, "
                              "logistic pixels"))
# alt: Three rows of samples: shapeless dust, dusty digits, and clumps of ink that are not quite digits.
record(independent_nats=nats["independent pixels"], mixture_nats=nats["class mixture"],
       logistic_nats=nats["logistic pixels"])

# %% [markdown]
# Even one matrix learns that ink keeps company: its row shows clumps where the others show dust. What it cannot do is
# *combine* evidence: each pixel before adds or subtracts its vote, and no two pixels can mean something together that
# they do not mean alone. For that we need hidden units.

# %% [markdown] tags=["fold"]
# ### Going deeper: NADE, one pixel after the other
#
# The first network of this kind with hidden units was **NADE** (neural autoregressive distribution estimation;
# Larochelle and Murray 2011). Every pixel has hidden units of its own, but all of them share one matrix $W$:
# $h_i=\sigma(c+\sum_{j<i}W_{\cdot j}\,x_j)$, and the logit of pixel $i$ is $b_i+v_i\cdot h_i$. Go from pixel $i$ to
# pixel $i+1$ and only one term is added inside the bracket. So all $D$ logits cost $D\cdot H$ operations instead of
# $D^2\cdot H$, but they must be computed one after the other. EoNADE (Uria and others 2014) trains one such network for
# many orders at once. The next model keeps the hidden units and computes all logits in one pass.

# %% [markdown]
# ## 2.3 MADE: cut the right wires
#
# Take an ordinary network: pixels in, hidden units, one logit a pixel out. Its output $i$ sees all inputs. We need an
# output that sees only the inputs before $i$, and we want all outputs from *one* pass. The **masked autoencoder for
# distribution estimation** (MADE; Germain and others, 2015) cuts wires. Give each pixel $d$ a rank $m_d$, its place in
# the reading order, from 0 to $D-1$. Give each hidden unit $k$ a rank $m_k$ as well, any number from 0 to $D-2$. Then
# keep a wire only if
#
# $$ \begin{aligned}
#    M^{\text{in}}_{kd} &= [\,m_k \ge m_d\,], &\qquad M^{\text{hidden}}_{kl} &= [\,m_k\ge m_l\,], \\
#    M^{\text{out}}_{dk} &= [\,m_d > m_k\,], &\qquad M^{\text{direct}}_{dd'} &= [\,m_d > m_{d'}\,] ,
#    \end{aligned} \tag{2.4} $$
#
# where $[\cdot]$ is 1 if true and 0 if not. A mask's first index is the unit that the wire leads *to*. The last mask
# is for wires straight from inputs to outputs: the logistic pixels of section 2.2, kept as a part of the new model.
#
# Follow a path from an input $d'$ through hidden units $l$ and $k$ to an output $d$. The masks demand
# $m_{d'}\le m_l\le m_k<m_d$, so $d'$ comes before $d$. No path leads from a pixel to itself or to an earlier one. That
# is the whole proof that $Z=1$.
#
# It does not say that every earlier pixel *has* a path. Through the hidden units alone a few have none: where no unit
# has the rank $d'$, pixel $d'$ cannot reach pixel $d'+1$. The direct wires close these gaps.

# %% quote="course_utils.models.autoregressive.made:made_masks"

# %% [markdown]
# A product of masks counts paths: entry $(d, d')$ of $M^{\text{out}}M^{\text{hidden}}M^{\text{in}}$ says in how many
# ways input $d'$ reaches output $d$.

# %% verifies=["2.4"]
ranks, hidden = torch.arange(9), torch.linspace(0, 7, 12).round()
into, between, out, direct = (mask.double()
                              for mask in made.made_masks(ranks, widths=(12, 12)))
paths = out @ between @ into
earlier = ranks[:, None] > ranks  # what we want, from the reading order alone
checks.true((paths > 0) == earlier, what="a path from every earlier pixel, and from no other")
formulas = {"in": (into, hidden[:, None] >= ranks),
            "hidden": (between, hidden[:, None] >= hidden),
            "out": (out, ranks[:, None] > hidden), "direct": (direct, ranks[:, None] > ranks)}
for name, (mask, formula) in formulas.items():
    checks.true(mask.bool() == formula, what=f"the mask “{name}” is (2.4)")
careless = (ranks[:, None] >= hidden).double() @ between @ into
checks.fails(lambda: careless.triu() == 0,
             what="with ≥ at the last step as well nothing leaks")
sparse = out @ (hidden[:, None] == hidden).double() @ into
checks.fails(lambda: sparse == paths,
             what="wires between equal ranks alone give as many paths")

# %%
panels = {"inputs → hidden": (into, ranks, hidden),
          "hidden → hidden": (between, hidden, hidden),
          "hidden → outputs": (out, hidden, ranks),
          "paths, input → output": (paths > 0, ranks, ranks)}
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.9))
for ax, (title, (mask, source, goal)) in zip(axes, panels.items()):
    ax.imshow(mask.numpy(), cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="from (rank)", ylabel="to (rank)")
    ax.set_xticks(range(len(source)), [int(m) for m in source], fontsize=8)
    ax.set_yticks(range(len(goal)), [int(m) for m in goal], fontsize=8)
plots.show(fig)
# alt: Three masks of a small MADE and their product, which has nothing on or above the diagonal.

# %% [markdown]
# We test the real model as well, after training: flip one pixel, and see whose logits move. Only those of *later*
# pixels may. (With derivatives in place of flips: the Jacobian $\partial a_i/\partial x_j$ must be zero on and above
# its diagonal.) This is the law of the chapter. Every model here passes it in the course's test suite.

# %%
model = made.MADE(shape, hidden=(500,)).to(device)
model.out.bias.data = log_odds.clone()
train(model, n_steps, batch_size=32, lr=1e-2)
order = sampling.raster_order(shape).to(device)
x = test_x[0].flatten()
# row j: pixel j is flipped
flipped = torch.where(torch.eye(n_pixels, device=device).bool(), 1 - x, x)
with training.evaluating(model):
    change = (model.params(flipped.view(-1, *shape))
              - model.params(x.view(1, *shape))).flatten(1).abs()
# row: the flipped pixel, column: the logit, both in reading order
change = change[order][:, order]
checks.true(change.tril() < 1e-4, what="a flipped pixel changes no logit up to its own")
checks.true((change.triu(1) > 1e-4).any(), what="but it does change later ones")
nats["MADE"] = -log_probs(model, test_x).mean().item()
record(made_nats=nats["MADE"])
plots.show(plots.images(model.sample(10 if budget == "smoke" else 20),
                        title="Samples of MADE"))
# alt: Samples of MADE.

# %% [markdown] tags=["fold"]
# ### Going deeper: pairs without a path
#
# How many pairs of pixels need the direct wires?

# %% tags=["nbval-check-output"]
# the MADE above: 784 pixels, 500 hidden units, so not every rank has a unit
big_into, big_out, big_direct = made.made_masks(torch.arange(784), widths=(500,))
through = (big_out.double() @ big_into.double()) > 0
lost = (big_direct > 0) & ~through
print(f"{int(lost.sum())} of {int(big_direct.sum()):,} pairs have no path through a "
      "hidden unit")
checks.true((through | (big_direct > 0)) == (big_direct > 0), what="no path leads back")
checks.fails(lambda: through == (big_direct > 0), what="hidden units alone reach every pair")

# %% [markdown] tags=["fold"]
# ### Going deeper: several orders at once
#
# The order is ours to choose. (2.1) holds for every order, so a MADE can read the pixels shuffled, and with other
# masks the same weights can serve several orders. That invites an ensemble: ask $K$ orders and combine. There is a
# right way and a tempting way. The right way is to treat it as a *mixture*,
#
# $$ p(x) = \frac1K\sum_{k=1}^K p_k(x), \tag{2.5} $$
#
# which sums to 1 because each $p_k$ does. Why would one want it? The logarithm is concave (its curve lies above each of
# its chords), so the logarithm of a mean is at least the mean of the logarithms. This is Jensen's inequality:
# $-\log\frac1K\sum_k p_k\le\frac1K\sum_k(-\log p_k)$: the mixture costs at most as many nats as its orders cost on
# average.
#
# The tempting way is to average the logits of each pixel over the orders and to multiply the results. Take two pixels
# that like to agree. Read 1→2: pixel 1 is a coin, and pixel 2 follows it. Read 2→1: pixel 2 is a coin, and pixel 1
# follows it. Average the logits, and *each follows the other*. Nobody decides. No order is left in which every pixel
# sees only earlier ones, and the product is not a distribution.

# %% verifies=["2.5"]
several = made.MADE((1, 3, 3), hidden=(50,), orders=made.random_orders(4, 9)).double()
for weight in several.parameters():
    nn.init.normal_(weight)
all_images = states.view(-1, 1, 3, 3)
with torch.no_grad():
    # (4, 512): log p_k
    each = torch.stack([several.log_prob_in_order(all_images, k) for k in range(4)])
    mixed = several.log_prob(all_images)
checks.sums_to_one(several.log_prob, all_images, what="a mixture of 4 orders")
checks.close(mixed.exp(), each.exp().mean(0), what="(2.5): the mean of the four probabilities")
checks.fails(lambda: torch.allclose(mixed, each.mean(0)),
             what="the mean of the four logarithms is the same")
checks.true(-mixed <= -each.mean(0) + 1e-12,
            what="no image costs more than its orders cost on average")

# %% tags=["nbval-check-output"]
pairs = checks.all_binary(2)  # 00, 10, 01, 11
# a logit of ±4: what pixel 1 says of pixel 2, and pixel 2 of pixel 1
follow = 4 * (2 * pairs.flip(1) - 1)
# in the other order each is a coin: logit 0
averaged = torch.distributions.Bernoulli(logits=(0 + follow) / 2)
total = averaged.log_prob(pairs).sum(1).exp().sum()
print(f"averaged logits, two pixels: the four products sum to {total:.2f}")
checks.fails(lambda: abs(total - 1) < 0.1,
             what="with averaged logits the four products sum to 1")

# %% [markdown]
# A MADE of several orders is trained with one order at a time, drawn by lot for each batch. We do not train one here.
# The table of section 2.11 holds one with four random orders.

# %% [markdown]
# #### Exercise 2.2 (1 point): the right ensemble
# Write `mixture_of_orders`: from $\log p_k(x)$, `(K, B)`, to $\log p(x)$ of (2.5), `(B,)`. The numbers are often near
# $-100$, sometimes near $-10{,}000$, and $e^{-10000}$ is zero in floating point.

# %% exercise="2.2"

# %% tags=["check"]
check("2.2", mixture_of_orders)

# %% [markdown]
# ### Exercise 2.3 (3 points): cut the wires yourself
# Write `masked_network`, about 15 lines: a network with one layer of hidden units whose logit $i$ sees only pixels
# before $i$. Two masked linear layers with a nonlinearity between them are enough.
#
# 1. Give the pixels the ranks 0 to 8, and each hidden unit a rank from 0 to 7; every rank should occur.
# 2. Write both masks from (2.4). `F.linear(x, mask * weight, bias)` is a linear layer with wires cut.
# 3. Keep the masks in the module, so that they are there in *every* forward pass.
#
# The check flips pixels to see what each logit depends on, and adds up all 512 images. Then it trains your network for
# 600 steps on windows of 3×3 pixels, cut from handwritten digits. On windows of other digits it must need less than
# 5.05 nats with at most 1,500 weights. Logistic pixels, without hidden units, end at 5.09.

# %% exercise="2.3"

# %% tags=["check"]
check("2.3", masked_network)

# %% [markdown]
# ## 2.4 PixelCNN: the same weights everywhere
#
# MADE learns separate weights for every place, yet a stroke looks the same wherever it runs. A **convolution** uses one
# small set of weights at every place. To make it causal, blank out the part of its kernel that lies ahead in reading
# order. With $o$ running over the offsets inside the kernel,
#
# $$ h_i = b + \sum_{o} M_o\,w_o\,x_{i+o}, \qquad
#    M^{A}_o = [\,i+o \text{ is read before } i\,], \quad M^{B}_o = M^{A}_o + [\,o = 0\,] . \tag{2.6} $$
#
# Here $i$ and $o$ are pairs (row, column), and $o=0$ is the centre of the kernel. Mask **A** excludes the centre: a
# pixel must not see itself. It is used once, in the first layer. From then on, what stands at place $i$ is a feature
# that already *excludes* pixel $i$, so the later layers may look at their own place: mask **B**. Using B first
# is the bug from section 2.1.

# %% [markdown]
# ### Exercise 2.4 (1 point): draw the mask yourself
# The next picture shows the answer for one size, so try it before you look. Write `pixel_mask(size, sees_itself)`: the
# full `(size, size)` mask of kind A (`sees_itself=False`) or B (`True`), for any odd size.

# %% exercise="2.4"

# %% tags=["check"]
check("2.4", pixel_mask)

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.3))
for ax, kind in zip(axes, "AB"):
    mask = F.pad(causal_mask(5, kind)[0, 0], (0, 0, 0, 2))  # the two rows below are all zero
    ax.imshow(mask.numpy(), cmap="Blues", vmin=0, vmax=1.4)
    for i in range(5):
        for j in range(5):
            ax.text(j, i, f"{int(mask[i, j])}", ha="center", va="center",
                    color="white" if mask[i, j] else "black")
    ax.add_patch(plt.Rectangle((1.5, 1.5), 1, 1, fill=False, edgecolor=plots.PALETTE[3],
                               linewidth=2))
    ax.set(title=f"mask {kind}", xlabel="offset to the right", ylabel="offset down")
    ax.set_xticks(range(5), range(-2, 3))
    ax.set_yticks(range(5), range(-2, 3))
plots.show(fig)
# alt: Masks A and B for a 5 by 5 kernel: ones above and to the left; B has a one at the centre as well.

# %% [markdown]
# The rows below the centre are zero anyway, so the course's layer does not even store them. That saves 3 of 9
# multiplications for a $3\times3$ kernel, and 21 of 49 for a $7\times7$ one. Here is the layer. It must equal a full
# convolution with the masked kernel of (2.6), and no output may see what it must not. `checks.causal` tests the
# second: it computes the whole Jacobian, the derivative of every output with respect to every input, and wants a zero
# wherever the input is not read before the output.

# %% quote="course_utils.nn.masked:MaskedConv2d.forward"

# %% verifies=["2.6"]
# the offset o
down, right = torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij")
before, centre = (down < 0) | ((down == 0) & (right < 0)), (down == 0) & (right == 0)
for kind in "AB":
    layer = pixelcnn.MaskedConv2d(1, 1, 5, kind).double()
    # weights under the mask's zeros as well: the mask has to remove them
    nn.init.normal_(layer.weight)
    # the M_o of (2.6)
    full = F.pad(layer.weight, (0, 0, 0, 2)) * (before | centre if kind == "B" else before)
    x = torch.randn(1, 1, 6, 7, dtype=torch.float64)
    checks.close(layer(x), F.conv2d(x, full, layer.bias, padding=2),
                 what=f"kind {kind}: trimmed = masked kernel")
    see = lambda x: layer(x.view(1, 1, 6, 7)).flatten(1)
    checks.causal(see, x.flatten(), what=f"kind {kind} is causal", strict=kind == "A")
leak = lambda: checks.causal(see, x.flatten(), what="", strict=True)
checks.fails(leak, what="a first layer of kind B hides its own pixel")
only_above = F.conv2d(x, full * (down < 0), layer.bias, padding=2)
checks.fails(lambda: torch.allclose(layer(x), only_above),
             what="the rows above alone give the same")


# %% [markdown] tags=["fold"]
# ### Going deeper: why not mask A everywhere?
#
# It would leak nothing. But each further A forces one more step, and a step within a row can only go left. With
# $3\times3$ kernels a pixel loses its left and its upper right neighbour after two of them, and the one straight above
# after three.

# %%
def sees_left(kinds):
    """After masked convolutions of these kinds, does a pixel see the one to its left? Ask the
    gradient."""
    x = torch.randn(1, 1, 5, 5, requires_grad=True)
    h = x
    for kind in kinds:
        h = pixelcnn.MaskedConv2d(1, 1, 3, kind)(h)
    return torch.autograd.grad(h[0, 0, 2, 2], x)[0][0, 0, 2, 1] != 0


checks.true(sees_left("AB"), what="A, then B: a pixel sees the one to its left")
checks.fails(lambda: sees_left("AA"), what="after A twice it still sees the one to its left")

# %% [markdown]
# ### What does a pixel see? Ask the gradient
#
# The pixels that can influence one output are its **receptive field**. Each layer widens it by the radius of its
# kernel. Do the masks of many layers together see *everything* above and to the left? A gradient can tell: take the
# features of one pixel after a layer, differentiate them with respect to the input, and mark every pixel with a
# gradient that is not zero.

# %%
def seen_from(layers, centre=(8, 8), size=17, repeats=4):
    """After each layer: which input pixels influence the features at the centre? List of
    (size, size) booleans."""
    seen = [torch.zeros(size, size, dtype=torch.bool) for _ in layers]
    for _ in range(repeats):  # several inputs, since a ReLU may be asleep on one
        x = torch.randn(1, 1, size, size, requires_grad=True)
        state = x
        for k, layer in enumerate(layers):
            state = layer(state)
            features = state[-1] if isinstance(state, tuple) else state
            (gradient,) = torch.autograd.grad(features[0, :, *centre].sum(), x,
                                              retain_graph=True)
            seen[k] |= gradient[0, 0] != 0
    return seen


# %%
plain = pixelcnn.PixelCNN((1, 17, 17), width=16, n_blocks=6, first=3)
seen = seen_from([plain.first, *plain.blocks])
legend = "blue: seen · red: earlier, but not seen · grey: later · black: the pixel itself"
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.9))
for ax, k in zip(axes, (0, 1, 3, 6)):
    plots.draw_seen(ax, seen[k], f"first layer + {k} block{'s' * (k != 1)}")
fig.suptitle(legend, fontsize=10)
plots.show(fig)
# alt: The view grows layer by layer, but a wedge above and to the right stays unseen: the blind spot.
# as seen from the pixel
up, right = torch.meshgrid(8 - torch.arange(17), torch.arange(17) - 8, indexing="ij")
reach = (up >= 0) & (up <= 7) & (right >= -7) & (right <= up) & ~((up == 0) & (right == 0))
checks.true(seen[6] == reach, what="k rows up the view ends k pixels to the right")
checks.fails(lambda: seen[6][(up > 0) & (up <= 7) & (right.abs() <= 7)],
             what="seven layers see the whole box above")

# %% [markdown]
# The view grows by one row up and one column to each side in every block. There is red for two reasons. At the far
# left, at the far right and at the top it is only the limited receptive field: more layers would get there. But look
# at the wedge to the right. It stays red however deep the network gets. This is the **blind spot**. In the row above,
# a kernel reaches one pixel to the right. From there, mask B forbids any step to the right *in the same row*, and one
# row further up gives one more. So $k$ rows up, only $k$ pixels to the right can ever be reached (for kernels of side
# 3). The rest is lost: the wedge between 0° and 45°, out of the 180° that lie above, a quarter.

# %% [markdown] tags=["fold"]
# ### Going deeper: test for a blind spot yourself
#
# The gradient above says what *is* seen. The exercise asks for what is missed.

# %% [markdown]
# #### Exercise 2.5 (2 points): a test for blind spots
# Write `blind_spot(gradient, row, column)`. From the derivative of the answer for one pixel with respect to all input
# pixels, `(H, W)`, mark the pixels that come *earlier in reading order* and have no influence at all.

# %% exercise="2.5"

# %% tags=["check"]
check("2.5", blind_spot)

# %% [markdown]
# ### The cure: two stacks
#
# The trouble comes from one kernel doing two jobs. Separate them (van den Oord and others, 2016b):
#
# * A **vertical stack** $v$ sees only the rows *above*, to both sides alike. Nothing in those rows lies ahead, so it
#   needs no mask: a box that ends above the pixel's row, and boxes of boxes.
# * A **horizontal stack** $h$ sees the pixels to the left in its own row, *and* is given the vertical stack's features
#   at each layer.
#
# The paper also replaces the ReLU by a **gate**. Half of the channels are a signal $s$; the other half, $t$, decide
# how much of it passes. gate($a$) means: split the channels of $a$ into $s$ and $t$.
#
# $$ \begin{aligned}
#    a &= W_0 * v, \qquad v \leftarrow \operatorname{gate}(a), \qquad
#    \operatorname{gate}(s, t) = \tanh(s)\odot\sigma(t) , \\
#    h &\leftarrow h + W_3\operatorname{gate}\big(W_1 * h + W_2\,a + W_y\,y\big) .
#    \end{aligned} \tag{2.7} $$
#
# The first $v$ is a convolution over the pixel rows *strictly above*. The first $h$ is one over the pixels *strictly
# to the left*, plus this $v$: mask A. From then on $v$ in a row knows only rows above, so $W_0 *$ may cover its own
# row and the rows above. $W_1 *$ covers the own place and the places to its left: mask B. $\odot$ multiplies entry by
# entry. The horizontal stack is given $a$ as it is *before* its gate. The label $y$, if we want one, is a vector with
# a single 1, and $W_y\,y$ is one learned vector for each class. $*$ is a convolution. $W_2$ and $W_3$ are $1\times1$
# convolutions: the same linear layer at every place. Biases are left out. In the code $W_0,\dots,W_3$ are called
# `above`, `beside`, `across` and `mix`.

# %% quote="course_utils.models.autoregressive.pixelcnn:GatedLayer.forward"

# %% quote="course_utils.models.autoregressive.pixelcnn:gate"

# %% verifies=["2.7"]
layer = pixelcnn.GatedLayer(4, 3, n_classes=3).double()
v, h = torch.randn(2, 1, 4, 5, 5, dtype=torch.float64)
y = torch.tensor([1])
a = layer.above(v)  # W_0 * v: 8 channels, 4 of s and 4 of t
s, t = (layer.beside(h) + layer.across(a) + layer.label(y)[:, :, None, None]).chunk(2, 1)
new_v, new_h = layer(v, h, y)
checks.close(new_v, a[:, :4].tanh() / (1 + (-a[:, 4:]).exp()),
             what="the vertical stack of (2.7)")
checks.close(new_h, h + layer.mix(s.tanh() / (1 + (-t).exp())),
             what="the horizontal stack of (2.7)")
s, t = (layer.beside(h) + layer.label(y)[:, :, None, None]).chunk(2, 1)
without_v = h + layer.mix(s.tanh() * t.sigmoid())
checks.fails(lambda: torch.allclose(new_h, without_v),
             what="the horizontal stack can do without the vertical one")

by_hand = F.conv2d(F.pad(v, (1, 1, 1, 0)), layer.above.weight, layer.above.bias)
checks.close(a, by_hand, what="W_0 sees its own row of v and the row above")
by_hand = F.conv2d(F.pad(h, (1, 0)), layer.beside.weight, layer.beside.bias)
checks.close(layer.beside(h), by_hand, what="W_1 sees its own place and the one to the left")
above_only = F.conv2d(F.pad(v, (1, 1, 2, -1)), layer.above.weight, layer.above.bias)
checks.fails(lambda: torch.allclose(a, above_only), what="W_0 skips its own row of v")

# %%
gated = pixelcnn.GatedPixelCNN((1, 17, 17), width=16, n_blocks=6, first=3)
first_layer = lambda x: (gated.first_above(x), gated.first(x) + gated.first_above(x))
seen_gated = seen_from([first_layer,
                        *[lambda state, block=block: block(*state) for block in gated.blocks]])
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.9))
for ax, k in zip(axes, (0, 1, 3, 6)):
    plots.draw_seen(ax, seen_gated[k], f"first + {k} gated layer{'s' * (k != 1)}")
fig.suptitle(legend, fontsize=10)
plots.show(fig)
# alt: The two stacks see a full rectangle above and everything to the left: there is no blind spot.
box = torch.zeros(17, 17, dtype=torch.bool)
box[1:8, 1:16], box[8, 1:8] = True, True  # seven rows up and seven columns to each side
checks.true(seen_gated[6] == box, what="seven layers see the full box above and to the left")
checks.fails(lambda: seen[6] == box, what="the plain stack sees the full box as well")

# %% [markdown]
# Both networks have to obey the law of the chapter: random weights, and a sum over all small images.

# %%
for build in (pixelcnn.PixelCNN, pixelcnn.GatedPixelCNN):
    network = build((1, 3, 3), width=8, n_blocks=2, first=3).double()
    for weight in network.parameters():
        nn.init.normal_(weight)
    checks.sums_to_one(network.log_prob, all_images,
                       what=f"{build.__name__}, random weights: the sum is 1")

# %% [markdown]
# ## 2.5 Train one, and read the result in bytes
#
# We train the plain PixelCNN: a first layer of kind A with a $7\times7$ kernel, six residual blocks (each *adds* a
# masked convolution to what comes in), and two $1\times1$ convolutions (the same linear layer at every place) that
# turn features into logits. The large first kernel pushes the blind spot two pixels away: $k$ rows up, the view ends
# $k+2$ pixels to the right, not $k$. A small gated PixelCNN stands in the table of section 2.11.
# One addition matters: a convolution does not know *where* it is, so every place has a learned vector of its own,
# `place`. This is the whole network:

# %% quote="course_utils.models.autoregressive.pixelcnn:PixelCNN.params"

# %% quote="course_utils.models.autoregressive.pixelcnn:ResidualBlock"

# %%
model = pixelcnn.PixelCNN(shape).to(device)
n_parameters = sum(weight.numel() for weight in model.parameters())
started = time.perf_counter()
history = train(model, n_steps, batch_size=8 if budget == "smoke" else 16, lr=4e-3)
train_seconds = time.perf_counter() - started
test_log_p = log_probs(model, test_x)  # (n_test,), exact
nats["PixelCNN"] = -test_log_p.mean().item()
print(f"{n_parameters:,} parameters, {train_seconds:.0f} s, {nats['PixelCNN']:.1f} nats per "
      f"test image")
record(pixelcnn_nats=nats["PixelCNN"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), width_ratios=[1.2, 1])
axes[0].plot(history["loss"], alpha=0.7, label="training batch")
for k, name in enumerate(("class mixture", "logistic pixels", "MADE")):
    axes[0].axhline(nats[name], color=plots.PALETTE[k + 1], linestyle="--", label=name)
axes[0].set(xlabel="training step", ylabel="NLL [nats per image]",
            title="PixelCNN against the others",
            ylim=(0.5 * nats["PixelCNN"], 260))
axes[0].legend(fontsize=8)
plots.draw_images(axes[1], model.sample(24), columns=6, title="24 samples of the PixelCNN")
plots.show(fig)
# alt: The training loss falls below the lines of the other models; next to it a grid of sampled digits.

# %% [markdown]
# Nats are natural for derivatives. For storage we count in **bits**: one bit is the information in one fair yes-or-no
# question, and one nat is $1/\log 2\approx1.44$ bits. To compare images of different sizes people divide by the number
# of values $D$:
#
# $$ \text{bits per dimension} = \frac{-\log p(x)}{D\,\log 2} . \tag{2.8} $$

# %% verifies=["2.8"] tags=["nbval-check-output"]
fair_coin = baselines.PixelHistograms((1, 28, 28))  # every pixel 50:50
coin_log_p = fair_coin.log_prob(torch.ones(1, 1, 28, 28))
checks.close(metrics.bits_per_dim(coin_log_p, 784), 1.0,
             what="a fair coin for each pixel costs one bit per dimension")
checks.fails(lambda: torch.allclose(-coin_log_p / 784, torch.ones(1)),
             what="without dividing by log 2 it costs one bit as well")

# %%
bits = metrics.bits_per_dim(test_log_p, n_pixels).mean().item()
whole = nats["PixelCNN"] / math.log(2)
print(f"PixelCNN: {nats['PixelCNN']:.1f} nats = {whole:.1f} bits = {whole / 8:.1f} bytes "
      f"per image, {bits:.3f} bits per dimension")
print(f"stored pixel by pixel: {n_pixels} bits = {n_pixels / 8:.0f} bytes, "
      "1 bit per dimension")
record(bits_per_dim=bits)

# %% [markdown]
# ### Is that number real? Write the file
#
# A claim of "so many bytes" can be tested: make the file. Go back to the strip of section 2.1. Every image owns a
# piece of $[0, 1)$ of length $p(x)$. To name the image, name *any number inside its piece*. A short piece needs a
# number with many binary digits, a long piece only few. This is **arithmetic coding** (Rissanen 1976).
#
# The computer must cut the strip without rounding errors, so each probability is first rounded to a multiple of
# $2^{-16}$; call the product of the rounded ones $\hat p(x)$. From there on everything is exact whole numbers.
#
# How many digits does it take? A file of $L$ binary digits is a multiple of $2^{-L}$. Read on with any digits behind
# it, and you stay within the stretch of length $2^{-L}$ that begins there. We want the *whole stretch* inside the
# piece, so that the file stays right whatever bits follow it. The first multiple of $2^{-L}$ at or after the piece's
# left end is less than $2^{-L}$ away from it. So the gap and the stretch both fit if $2\cdot2^{-L}\le\hat p(x)$, that
# is, if $L\ge-\log_2\hat p(x)+1$. The smallest such whole number is
#
# $$ L = \lceil -\log_2 \hat p(x)\rceil + 1 . \tag{2.9} $$

# %% quote="course_utils.coding:encode"

# %% [markdown]
# In whole numbers the piece is `width` / 2^`n_bits` long, and that is $\hat p$. `bit_length` is
# $\lfloor\log_2\text{width}\rfloor+1$, so `length` is exactly (2.9). `-(-low >> shift)` divides by 2^`shift` and rounds
# up.

# %% [markdown]
# The decoder has the file and the model but no image. It asks the model for the first pixel's probability, sees in
# which part the number lies, and so knows the first pixel. With that it asks for the second. It is *sampling, with the
# file in place of chance*.
#
# The cell asks for one pixel at a time, in reading order. `start_cache` gives a helper that remembers what the network
# has computed (section 2.8 builds it): `row(i)` begins a row, `pixel(j, colour)` returns the next logit. `to_counts`
# rounds the two probabilities to whole numbers that sum to $2^{16}$.

# %%
def ask_pixel_by_pixel(model):
    """A function from the pixels so far to the integer shares of the next pixel's two
    values."""
    x = torch.zeros(1, *shape, device=device)
    with torch.no_grad():
        cache = model.start_cache(x)
    order = sampling.raster_order(shape).tolist()

    @torch.no_grad()
    def shares(so_far):
        t = len(so_far)
        if t:
            x.view(-1)[order[t - 1]] = so_far[-1]
        colour, place = t % n_channels, t // n_channels
        if colour == 0 and place % width == 0:
            cache.row(place // width)
        p = torch.sigmoid(cache.pixel(place % width, colour)).item()
        return coding.to_counts([1 - p, p])

    return shares


# %% verifies=["2.9"] tags=["nbval-check-output"]
for k in range(1 if budget == "smoke" else 3):
    pixels = test_x[k].flatten()[sampling.raster_order(shape)].long().tolist()
    ask = ask_pixel_by_pixel(model)
    counts = [ask(pixels[:t]) for t in range(n_pixels)]
    file = coding.encode(pixels, counts)
    decoded = coding.decode(file, ask_pixel_by_pixel(model), n_pixels)
    # −log2 p̂
    ideal = -sum(math.log2(shares[pixel] / sum(shares)) for pixel,
                 shares in zip(pixels, counts))
    checks.true(decoded == pixels, what=f"image {k}: decoded without an error")
    checks.true(len(file) == math.ceil(ideal) + 1, what=f"image {k}: ⌈−log₂ p̂⌉ + 1 bits")
    checks.close(ideal, -test_log_p[k] / math.log(2),
                 what=f"image {k}: rounding costs next to nothing", atol=0.5)
# along the true image the model's answers are known
asked_before = lambda so_far: counts[len(so_far)]
followed = [coding.decode(file + more, asked_before, n_pixels)
            for more in ("0" * 99, "1" * 99, "01" * 50)]
checks.true(all(image == pixels for image in followed),
            what="whatever bits follow the file, the digit is the same")

# %%
packed = bytes(int("".join(map(str, (pixels + [0] * 7)[i : i + 8])), 2)
               for i in range(0, n_pixels, 8))
print(f"the last of them: {n_pixels} pixels, {len(packed)} bytes as they are, "
      f"{len(zlib.compress(packed, 9))} bytes with zip, {-(-len(file) // 8)} bytes "
      "with the PixelCNN")
print("the file:", file)
print("without its last byte it gives the digit:",
      coding.decode(file[:-8], asked_before, n_pixels) == pixels)
record(file_bits=len(file), ideal_bits=ideal)

one_bit = len(file) // 3
damaged = file[:one_bit] + str(1 - int(file[one_bit])) + file[one_bit + 1 :]
wrong = coding.decode(damaged, ask_pixel_by_pixel(model), n_pixels)
checks.fails(lambda: wrong == pixels, what="a file with one flipped bit still gives the digit")
place = sampling.raster_order(shape)
pair = torch.stack([torch.zeros(n_pixels).index_put_((place,), 1.0 * torch.tensor(p))
                    for p in (decoded, wrong)])
captions = ["read back from the file", f"after bit {one_bit} was flipped"]
plots.show(plots.captioned(pair.view(2, *shape), captions, columns=2, width=4))
# alt: The digit read back from its file, and what comes out when one bit of the file is flipped: another image.

# %% [markdown]
# That string is the digit. Read it with the model and you get every pixel back. Flip one bit of it, and from some
# pixel on the decoder follows another branch of the strip. What comes out is what the model would have *drawn* if
# chance had thrown these bits. So a number of nats is no figure of speech: **a likelihood is a file size**, and a
# better model makes a smaller file. (The model itself must be shipped once, of course.)
#
# ### Where do the bits go?
#
# Because the likelihood is a sum over pixels, we can see what each pixel costs. On the left a test digit; in the middle
# what the model expected at each pixel *before* it saw it; on the right what the surprise cost.

# %%
k = 0
with training.evaluating(model):
    # the distribution of all pixels, each given the true ones before it
    answer = model(test_x[k : k + 1])
    expected = answer.mean[0].mean(0).cpu()
    cost = -answer.log_prob(test_x[k : k + 1])[0].sum(0).cpu() / math.log(2)
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.3))
axes[0].imshow(test_x[k].mean(0).cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
axes[0].set_title(f"the digit, {cost.sum():.0f} bits in all")
axes[1].imshow(expected.numpy(), cmap="gray_r", vmin=0, vmax=1)
axes[1].set_title("chance of ink, given the pixels before")
shown = axes[2].imshow(cost.numpy(), cmap="magma")
axes[2].set_title("cost of each pixel")
fig.colorbar(shown, ax=axes[2], label="bits")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plots.show(fig)
# alt: A digit, the predicted chance of ink at each pixel, and a map of bits.
share = cost.flatten().sort(descending=True).values.cumsum(0)[n_pixels // n_channels // 10
                                                              - 1] / cost.sum()
print(f"a tenth of the pixels carries {share:.0%} of the bits")

# %% [markdown]
# The inside of a stroke and the empty margin cost almost nothing. The model pays along the edges of the strokes.

# %% [markdown] tags=["fold"]
# ### Going deeper: whose bits are they?
#
# Many are our own. At an edge the grey image has a value $g$ between 0 and 1, and a coin made it
# black or white. Nobody can foresee a coin. A model pays $H(x)+\mathrm{KL}(p_\text{data}\,\|\,p_\theta)$ on average
# (chapter 01), so at least $H(x)$. With $H(x\mid g)$ for the entropy of all the coins of an image,
# $H(x)\ge H(x\mid g)$: to be told $g$ can only help. This is a floor that no model can beat, except by luck on a few
# images.

# %%
g = images.to_float(data.test.images)  # the grey values behind the test images
coins = (torch.special.entr(g) + torch.special.entr(1 - g)).flatten(1).sum(1)  # nats per image
coin_bits = coins[:n_test].mean().item() / math.log(2)
with training.evaluating(model):
    costs = torch.cat([-model(x).log_prob(x) for x in test_x.split(100)])
edge = (g[:n_test] > 0.1) & (g[:n_test] < 0.9)
print(f"{coin_bits:.0f} of {whole:.0f} bits per image are our own coins")
print(f"{edge.float().mean():.0%} of the pixels are grey (0.1 to 0.9); "
      f"they carry {costs[edge].sum() / costs.sum():.0%} of the bits")
checks.true(coin_bits < whole, what="an image costs more than its coins")

# %% [markdown]
# On `handwriting`, at the class budget, more than half of the bits are coins. One pixel in ten is grey, and these few
# carry two thirds of the bits. So two good models can only differ in what lies above the floor. The bar chart of
# section 2.11 shows the floor as a dashed line.
#
# ## 2.6 Better models that somebody trained for longer
#
# Your model learned for a short time. From here on we use models of the same kind that were trained for longer; they
# come with the course as files of about 100 kilobytes. (With a data set that has no such file we go on with yours.)
# The second one is a gated PixelCNN that is told the class $y$: it learned $p(x\mid y)$.

# %%
longer = pixelcnn.PixelCNN(shape).to(device)
told = pixelcnn.GatedPixelCNN(shape, width=16, n_classes=n_classes).to(device)
comes_with_the_course = dataset in ("handwriting", "mnist")
if comes_with_the_course:
    about = training.load_weights(shipped.path(f"pixelcnn_{dataset}.safetensors"), longer)
    about_told = training.load_weights(shipped.path(f"conditional_{dataset}.safetensors"),
                                       told)
    print(f"PixelCNN: {about['n_steps']:,} steps, {about['train_cpu_seconds']:.0f} seconds of "
          f"one processor core")
    print(f"gated PixelCNN given the class: {about_told['n_steps']:,} steps")
else:
    longer = model
    train(told, n_steps // 2, 16, 4e-3, data.train.labels)
longer_log_p = log_probs(longer, test_x)
print(f"on the same {len(test_x)} test images: yours {nats['PixelCNN']:.1f} nats, "
      f"trained for longer {-longer_log_p.mean():.1f} nats")
record(longer_nats=-longer_log_p.mean())

# %%
samples = sampling.cached_sample(longer, 30)
plots.show(plots.images(torch.cat([samples, test_x[:10]]),
                        title="Rows, from the top: three of samples, one of test images"))
# alt: Thirty sampled images above ten real ones; some samples could pass for digits.

# %% [markdown]
# Go through them one by one: which could be real? Others are strokes that lead nowhere. The model decides one pixel at
# a time and never plans the whole digit, and no teacher brings it back after a slip.
#
# **Touch it.** Click or hover on a pixel to see which earlier pixels it looks at, with one stack and with two (the
# second model is told the class as well). Move the slider to paint the pixels in order and watch the chance of ink
# before each is drawn.

# %%
def context_of(layers):
    """For every pixel, which pixels it may see: (H·W, H·W) booleans, from the view of one
    pixel moved about."""
    centre, size = (height, width), 2 * max(height, width) + 1
    seen = seen_from(layers, centre, size, repeats=2)[-1]
    views = [seen[height - i : 2 * height - i, width - j : 2 * width - j]
             for i in range(height) for j in range(width)]
    return torch.stack(views).flatten(1)


one = pixelcnn.PixelCNN((1, 9, 9))  # only the reach of the layers matters, not their weights
two = pixelcnn.GatedPixelCNN((1, 9, 9))
start_two = lambda x: (two.first_above(x), two.first(x) + two.first_above(x))
contexts = {
    "one stack": context_of([one.first, *one.blocks]),
    "two stacks": context_of(
        [start_two, *[lambda state, block=block: block(*state) for block in two.blocks]]),
}
shown = test_x[:1]
with training.evaluating(longer, told):
    chance = {"one stack": longer(shown).mean[0, 0],
              "two stacks": told(shown, test_y[:1]).mean[0, 0]}

# %% tags=["widget"]
widgets.pixel_order(
    shown[0, 0].cpu().int(),
    {name: torch.stack([1 - p, p], -1).cpu() for name, p in chance.items()}, contexts
)

# %% [markdown]
# ## 2.7 PixelRNN: remember instead of look back
#
# A PixelCNN sees a window. A **recurrent** network (RNN) carries a memory along, so that what it read long ago can
# still matter. PixelRNN and the plain PixelCNN come from one paper (van den Oord and others, 2016a), and there the
# PixelRNN was the better one. It starts in the top left corner. Its memory is an LSTM (long short-term memory): each
# pixel $i$ has a **cell** $c_i$, partly kept from a neighbour that was read before and partly rewritten, and a
# **state** $h_i$, the part of the cell that others hear:
#
# $$ c_i = \sigma(a^f)\odot c_{\text{before}} + \sigma(a^r)\odot\tanh(a^u), \qquad
#    h_i = \sigma(a^o)\odot\tanh(c_i) . \tag{2.10} $$
#
# Read the four letters as questions. $\sigma(a^f)$: how much is kept (the forget gate)? $a^u$: what is new?
# $\sigma(a^r)$: how much of it is written (the input gate)? $\sigma(a^o)$: how much is shown (the output gate)? All
# four are computed from the pixels read so far and from the states before. There are three layouts, and they differ in
# who is "before":
#
# * **Row LSTM**: one step handles a *whole row*. Each state hears three states of the row above, and
#   $c_{\text{before}}$ is the cell straight above. So what reaches a pixel through the states is a *triangle*. Of its
#   own row it sees only what the masked convolution of the input covers.
# * **Diagonal LSTM**: one step handles a *whole diagonal*. Each state depends *explicitly* on two others, the one to
#   its left and the one above, and through them, *implicitly*, on the whole upper left. $c_{\text{before}}$ is the
#   cell to the left.
# * **Diagonal BiLSTM**: a second Diagonal LSTM comes from the top *right* corner, since the first one never hears what
#   lies to the upper right. Its states are moved down by one row before they are added. Otherwise they would bring
#   news of pixels to the right in the same row, which come later.
#
# **Guess first:** what shape does one layer of each hear? Ask the gradient again.

# %%
def heard(layer, size=9, centre=(5, 4)):
    """Which places of its input does one layer hear at the centre? (size, size) booleans."""
    seen = torch.zeros(size, size, dtype=torch.bool)
    for _ in range(4):
        x = torch.randn(1, 4, size, size, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0, :, *centre].sum(), x)
        seen |= (gradient[0] != 0).any(0)
    return seen


# as seen from the pixel
up, right = torch.meshgrid(5 - torch.arange(9), torch.arange(9) - 4, indexing="ij")
layouts = {
    "Row LSTM: a triangle": (pixelrnn.RowLSTM, (up >= 0) & (right <= up) & (right >= -1 - up)),
    "Diagonal LSTM: the upper left": (pixelrnn.DiagonalLSTM, (up >= 0) & (right <= 0)),
    "Diagonal BiLSTM: every place before": (pixelrnn.DiagonalBiLSTM,
                                            (up > 0) | ((up == 0) & (right <= 0))),
}
fig, axes = plt.subplots(1, 3, figsize=(8.5, 3.1))
for ax, (title, (layer, expected)) in zip(axes, layouts.items()):
    found = heard(layer(4, 4))
    plots.draw_seen(ax, found, title, centre=(5, 4))
    checks.true(found == expected, what=title)
fig.suptitle(legend.replace("seen", "heard"), fontsize=10)
plots.show(fig)
# alt: What one layer hears: a triangle above, the upper left, and every place before the pixel.

# %% [markdown]
# These pictures are of one layer, which may hear its own place too, like a mask B. What it reads has passed a
# convolution of kind A. Does (2.10) hold in the code, and does the law of the chapter: random weights, and a sum over
# all small images?

# %% verifies=["2.10"]
gates, c = torch.randn(3, 8, 5, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
# (the library calls the last two i and g, as the paper does)
a_o, a_f, a_r, a_u = gates.split(2, 1)
new_c, new_h = pixelrnn.lstm_step(gates, c)
checks.close(new_c, torch.sigmoid(a_f) * c + torch.sigmoid(a_r) * a_u.tanh(),
             what="the cell of (2.10)")
checks.close(new_h, torch.sigmoid(a_o) * new_c.tanh(), what="the state of (2.10)")
checks.fails(lambda: torch.allclose(new_c, c + torch.sigmoid(a_r) * a_u.tanh()),
             what="the cell forgets nothing")


# %%
def sums_to_one(layer):
    network = pixelrnn.PixelRNN((1, 3, 3), layer=layer, width=8, first=3).double()
    for weight in network.parameters():
        nn.init.normal_(weight)
    checks.sums_to_one(network.log_prob, all_images,
                       what=f"{layer.__name__}, random weights: the sum is 1")


sums_to_one(pixelrnn.RowLSTM)
sums_to_one(pixelrnn.DiagonalBiLSTM)

# %% [markdown]
# ### Who has to wait for whom?
#
# Here is the number of the step in which each pixel is handled:

# %%
N = 6
i, j = torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
panels = {"training a PixelCNN": 0 * i + 1, "training a Row LSTM": i + 1,
          "training a Diagonal BiLSTM": i + j + 1,
          "sampling from any of them": i * N + j + 1}
fig, axes = plt.subplots(1, 4, figsize=(9.5, 2.8))
for ax, (title, step) in zip(axes, panels.items()):
    ax.imshow(step.numpy(), cmap="Blues", vmax=1.6 * step.max())
    for a in range(N):
        for b in range(N):
            ax.text(b, a, int(step[a, b]), ha="center", va="center", fontsize=8)
    ax.set_title(f"{title}:\n{step.max()} step{'s' * (step.max() > 1)}", fontsize=9)
    ax.set(xticks=[], yticks=[])
plots.show(fig)
# alt: Step numbers on a 6 by 6 grid: all 1; the row number; the diagonal number up to 11; and 1 to 36.

# %% [markdown]
# You will often read "PixelRNN needs $2N-1$ sequential steps". *Of what?* Of **training**, and for the Diagonal
# BiLSTM. There all pixels are known (teacher forcing), and only the states must wait for each other: $N$ steps for a
# Row LSTM, $2N-1$ for a Diagonal BiLSTM (its two halves could run side by side; our code runs one after the other),
# **1** for a PixelCNN. **Sampling takes
# $N^2$ steps for all of them**, since each pixel must be drawn before the next can be asked for. (Could the diagonals
# be drawn all at once? With states that hear only left and above, pixels on one diagonal do not hear each other, so it
# is possible. The price is that a pixel ignores everything to its upper right: a factor $p(x_i\mid \text{upper left})$
# instead of $p(x_i\mid x_{<i})$. It is a valid but weaker model.)

# %% [markdown] tags=["fold"]
# ### Going deeper: count the steps, and time them
#
# How often does each network call the part that makes one step? (The transformer in the count is the one at the end of
# the chapter.)

# %%
def times_called(part, run):
    calls = []
    hook = part.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        run()
    hook.remove()
    return len(calls)


N, x = 6, torch.rand(1, 1, 6, 6).round()
cnn = pixelcnn.PixelCNN((1, N, N), width=8)
words = transformer.PixelTransformer((1, N, N), width=8, n_blocks=1)
row = pixelrnn.PixelRNN((1, N, N), layer=pixelrnn.RowLSTM, width=8)
diagonal = pixelrnn.PixelRNN((1, N, N), layer=pixelrnn.DiagonalBiLSTM, width=8)
# the part of each network that runs once in a step, and the number of steps that we expect
one_step = {
    "PixelCNN": (cnn, cnn.first, 1), "transformer": (words, words.blocks[0], 1),
    "Row LSTM": (row, row.layers[0].from_state, N),
    "Diagonal BiLSTM": (diagonal, diagonal.layers[0].left.from_state, 2 * N - 1),
}
for name, (network, part, expected) in one_step.items():
    steps = times_called(part, lambda: network.log_prob(x))
    passes = times_called(network.out, lambda: sampling.ancestral_sample(network, 1))
    checks.true((steps, passes) == (expected, N**2),
                what=f"{name}, N = {N}: {steps} in training, {passes} in sampling")


# %%
def seconds(run, repeats=3):
    """The fastest of a few runs: other programs on the machine can only make it slower."""
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


# %%
sizes = (8, 16) if budget == "smoke" else (8, 16, 28, 48)
networks = {
    "PixelCNN, 1 step": lambda n: pixelcnn.PixelCNN((1, n, n), width=16, n_blocks=1),
    "Row LSTM, N steps": lambda n: pixelrnn.PixelRNN((1, n, n), width=16),
    "Diagonal BiLSTM, 2N−1 steps": lambda n: pixelrnn.PixelRNN((1, n, n),
                                                               layer=pixelrnn.DiagonalBiLSTM,
                                                               width=16),
}
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for name, build in networks.items():
    taken = []
    for n in sizes:
        network, x = build(n), torch.rand(8, 1, n, n).round()
        taken.append(seconds(lambda: network.loss(x)["loss"].backward()))
    ax.plot(sizes, [1000 * t for t in taken], marker="o", label=name)
ax.set(xscale="log", yscale="log", title="Training: who has to wait?")
ax.set(xlabel="side N of the image [pixels]", ylabel="one training step [ms]")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_yticks([1, 10, 100, 1000], [1, 10, 100, 1000])
ax.legend(fontsize=8)
plots.show(fig)
# alt: Time of a training step against image size: the PixelCNN is fastest, the Diagonal BiLSTM slowest.

# %% [markdown]
# The PixelCNN hardly notices the size until the images are large: it never waits. The time of the other two grows with
# their steps. The Diagonal BiLSTM takes more than twice as long as the Row LSTM: it has twice the steps, and our code
# runs its two halves one after the other.

# %% [markdown] tags=["fold"]
# ### Going deeper: the one pixel that a Diagonal BiLSTM misses
#
# "Every place" in the picture above is not yet "every pixel". A whole network of Diagonal BiLSTMs misses one: the last
# of the row above, unless the first convolution reaches it. And its second LSTM may not stay where it is.

# %%
network = pixelrnn.PixelRNN((1, 9, 9), layer=pixelrnn.DiagonalBiLSTM, width=8, first=3)
nn.init.normal_(network.out.weight)
seen_by_all = torch.zeros(9, 9, dtype=torch.bool)
for _ in range(4):
    x = torch.randn(1, 1, 9, 9, requires_grad=True)
    seen_by_all |= torch.autograd.grad(network.params(x)[0, 0, 5, 4].sum(), x)[0][0, 0] != 0
missed = (torch.arange(81).view(9, 9) < 5 * 9 + 4) & ~seen_by_all
checks.true(missed.nonzero().tolist() == [[4, 8]],
            what="one earlier pixel is missed: the last of the row above")


# %%
class NotMovedDown(pixelrnn.DiagonalBiLSTM):
    def forward(self, x):
        return self.left(x) + self.right(x.flip(3)).flip(3)  # the move by one row is missing


checks.fails(lambda: sums_to_one(NotMovedDown), what="the second LSTM may stay where it is")

# %% [markdown] tags=["fold"]
# ### Going deeper: how the Diagonal BiLSTM walks along diagonals
#
# A network likes to work on columns. So the image is **skewed**: row $i$ is shifted to the right by $i$ places, and
# every diagonal becomes a column. The LSTM then runs from left to right over $2N-1$ columns, with a convolution of
# size 2 that hears row $i$ of the last column (the left neighbour) and row $i-1$ (the upper one).

# %% quote="course_utils.models.autoregressive.pixelrnn:skew"

# %% quote="course_utils.models.autoregressive.pixelrnn:DiagonalLSTM.forward"

# %%
x = torch.arange(16.0).view(1, 1, 4, 4)
skewed = pixelrnn.skew(x)
checks.close(pixelrnn.unskew(skewed, 4), x, what="skewing can be undone")
checks.true(skewed[0, 0, :, 3] == torch.tensor([3.0, 6.0, 9.0, 12.0]),
            what="column 3 holds the diagonal 3, 6, 9, 12")

# %% [markdown]
# The second pass, from the right, would hear pixels to the right *in the same row*, which come later. So its states are
# moved down by one row before they are added; the cell above saw what happens otherwise. One detail the paper does not
# mention: a feature at a place excludes that place's own pixel, so after the move the *last* pixel of the row above is
# heard only as far as the first convolution reaches.

# %% [markdown]
# ## 2.8 The price: one pixel at a time
#
# To draw an image we follow (2.1): draw pixel 1, feed it in, draw pixel 2, and so on. This is **ancestral sampling**.
# The naive way runs the whole network for each of the $N^2$ pixels, and each run computes the answers at all $N^2$
# places, of which we use *one*:
#
# $$ \text{work}_\text{naive} \propto \underbrace{N^2}_{\text{passes}}\cdot\underbrace{N^2}_{\text{places each}} = N^4,
#    \qquad \text{work}_\text{cached} \propto N^2 . \tag{2.11} $$
#
# The second figure is what a little memory buys. When pixel $i$ is drawn, nothing that the layers computed for the
# pixels before it changes: that is what *causal* means. So keep it. For each new pixel, every layer computes *one*
# place. A causal kernel splits in two: the rows above are complete when a row begins, and can be done for the whole
# row at once; then each pixel adds the few places to its left.

# %% [markdown]
# Both samplers take the random numbers as an argument: one uniform number decides one pixel. Given *the same* numbers
# they must draw *the same* images. That is a law we can check to the last pixel.

# %%
N = 10
small = pixelcnn.PixelCNN((1, N, N), width=8, n_blocks=2).double()
nn.init.normal_(small.out.weight)
uniforms = torch.rand(4, 1, N, N, dtype=torch.float64)
naive, cached = (draw(small, 4, uniforms=uniforms)
                 for draw in (sampling.ancestral_sample, sampling.cached_sample))
checks.true(cached == naive, what="the cached sampler draws the same images")

# %%
def measure(n, batch):
    """Seconds of naive and of cached sampling of a batch of n×n images: one naive pass is
    timed, times n²."""
    network, x = pixelcnn.PixelCNN((1, n, n)).to(device), torch.rand(batch, 1, n, n,
                                                                     device=device).round()
    repeats = 1 if budget == "smoke" else 2
    with training.evaluating(network):
        one_pass = seconds(lambda: network.params(x), repeats + 1)
    return n * n * one_pass, seconds(lambda: sampling.cached_sample(network, batch), repeats)


sizes = (7, 14, 28) if budget == "smoke" else (7, 10, 14, 20, 28, 40)
times = torch.tensor([measure(n, 64) for n in sizes])  # (sizes, 2)
naive_1, cached_1 = measure(28, 1)
at_28 = times[sizes.index(28)]
for batch, slow, fast in ((64, *at_28.tolist()), (1, naive_1, cached_1)):
    print(f"28×28, batch of {batch:2}: naive {slow:6.1f} s, cached {fast:5.2f} s, "
          f"{slow / fast:4.0f} times faster")
record(speedup_batch_64=at_28[0] / at_28[1], speedup_batch_1=naive_1 / cached_1)

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.4))
n = torch.tensor(sizes, dtype=torch.float32)
for k, (name, slope) in enumerate((("naive: one pass × N²", 4), ("cached", 2))):
    ax.plot(n, times[:, k], marker="o", color=plots.PALETTE[k], label=name)
    predicted = times[-1, k] * (n / n[-1]) ** slope
    ax.plot(n, predicted, linestyle=":", color=plots.PALETTE[k],
            label=f"predicted slope {slope}")
ax.set(xscale="log", yscale="log", title="What a sample costs")
ax.set(xlabel="side N of the image [pixels]", ylabel="64 images [s]")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend(fontsize=8)
plots.show(fig)
# alt: Sampling time against image side, logarithmic axes: naive rises with slope 4, cached with 2.

for k, name in enumerate(("naive", "cached")):
    ratio = (times[0, k] / (times[-1, k] * (n[0] / n[-1]) ** (4, 2)[k])).item()
    print(f"{name:6} at N = {sizes[0]}: {ratio:.2f} times what the dotted line says")

# %% [markdown]
# (The naive time is one measured pass times $N^2$; nobody wants to wait for the rest.) The dotted lines go through the
# last point with the slopes of (2.11). A ratio above 1 means that on small images *starting* an operation costs more
# than doing it; a ratio below 1 that large images are dear, since they no longer fit into the processor's fast memory.
# With 64 images at a time the cache wins by far. With a single image the gain is much smaller, since small operations are dominated by the cost of
# *starting* them. Either way $N^2$ steps must follow one another, and no cache removes that. It is the weakness of
# this family: **exact to evaluate, slow to draw**. (The idea is Fast PixelCNN++, Ramachandran and others 2017. Chat
# programs keep the keys and values of a transformer in the same way.)

# %% [markdown] tags=["fold"]
# ### Going deeper: how the cache works
#
# Two functions hold it: what one causal convolution does at one new pixel, and the sampler around it. An exercise follows.

# %% quote="course_utils.models.autoregressive.sampling:ConvCache.pixel"

# %% quote="course_utils.models.autoregressive.sampling:cached_sample"

# %%
cache, params, apart = small.start_cache(naive), small.params(naive).detach(), 0.0
with torch.no_grad():
    for i in range(N):
        cache.row(i)
        for j in range(N):
            apart = max(apart, (cache.pixel(j, 0) - params[:, 0, i, j]).abs().max().item())
checks.true(apart < 1e-10, what="the cache's logits are those of the full network, to 1e-10")

# %% [markdown]
# Now we count the multiplications of both samplers. If the side $N$ doubles, the work of the naive sampler should grow by $2^4=16$,
# that of the cache by $2^2=4$. And a whole cached image should cost no more than a single pass of the network.


# %% verifies=["2.11"]
def multiplications(run):
    # it counts a multiplication and its addition as two
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 2


work = {}
for n in (4, 8):
    network = pixelcnn.PixelCNN((1, n, n), width=8, n_blocks=2)
    for draw in (sampling.ancestral_sample, sampling.cached_sample):
        work[draw, n] = multiplications(lambda: draw(network, 1))
        print(f"N = {n}, {draw.__name__:16} {work[draw, n]:11,.0f} multiplications")
for draw, power in ((sampling.ancestral_sample, 4), (sampling.cached_sample, 2)):
    what = f"{draw.__name__}: twice the side, {2**power} times the work"
    checks.close(work[draw, 8] / work[draw, 4], 2.0**power, what=what)
one_pass = multiplications(lambda: network.params(torch.zeros(1, 1, 8, 8)))
checks.true(work[sampling.cached_sample, 8] <= one_pass,
            what="a whole cached image costs no more than one pass")

# %% [markdown]
# The $N^2$ of the cache belongs to convolutions, which look at a few places only. With the attention at the end of the
# chapter each new place still looks at all earlier ones. So its cached work grows like $N^4$ too.

# %% [markdown]
# #### Exercise 2.6 (2 points): one step of the cache
# Write `cached_step`: one causal convolution of kind B at one new pixel, from what is remembered. `above` holds what
# the rows above contribute, `left` the last few inputs of the row. Return the output and the memory for the next
# pixel.

# %% exercise="2.6"

# %% tags=["check"]
check("2.6", cached_step)

# %% [markdown] tags=["fold"]
# ### Going deeper: is what they draw right?
#
# A sampler is right if each image comes as often as $p(x)$ says. With 512 images we can count.
# Pearson's $\chi^2$ compares the counts with the probabilities; as set here, a right sampler fails once in a million.

# %%
tiny = made.MADE((1, 3, 3), hidden=(50,)).double()
for weight in tiny.parameters():
    nn.init.normal_(weight, std=0.5)
drawn = tiny.sample(20_000).flatten(1)
# as much ink, but no pixel knows another
independently = torch.bernoulli(drawn.mean(0).expand(20_000, 9))
p_tiny = tiny.log_prob(all_images).exp()
number = 2.0 ** torch.arange(9, dtype=torch.float64)  # pixels to the number of the image
counts, wrong = ((x @ number).long().bincount(minlength=512) for x in (drawn, independently))
checks.frequencies(counts, p_tiny, what="20,000 samples of 512 images: as often as p says")
checks.fails(lambda: checks.frequencies(wrong, p_tiny, what=""),
             what="pixels drawn independently fit p as well")

# %% [markdown]
# ## 2.9 What an exact model can do
#
# **Finish what somebody began.** Keep the upper half of a digit and let the model draw the rest. Nothing new is
# needed: the factors are already conditioned on the pixels before. Each row below has one beginning and several
# endings, all from the same model.

# %%
known = torch.zeros(shape, dtype=torch.bool)
known[:, : height // 2] = True
n_endings = 9
truth = test_x[:4]
begun = torch.where(known.to(device), truth, torch.full_like(truth, 0.35))
endings = sampling.cached_sample(longer, 4 * n_endings,
                                 start=truth.repeat_interleave(n_endings, 0), known=known)
# (4, 11, C, H, W)
rows = torch.cat([begun[:, None], endings.unflatten(0, (4, n_endings)), truth[:, None]], 1)
title = "columns, from the left: given · nine endings · the truth"
plots.show(plots.images(rows.flatten(0, 1), columns=n_endings + 2, title=title, width=9))
# alt: Four half-hidden digits, each with nine different completions and the true digit at the end of the row.

# %% [markdown]
# Where the beginning leaves a choice, the endings differ: the same hook may become a 7 or a 2. They are *different
# digits*, not a blur of them. A model trained to minimise squared error would paint the average of all endings instead:
# grey fog. This is what it means to model a distribution.
#
# **Temperature.** Divide every logit by $T$ before drawing:
#
# $$ p_T(x_i\mid x_{<i}) \propto p(x_i\mid x_{<i})^{1/T} . \tag{2.12} $$
#
# For $T<1$ every choice becomes more decided, for $T>1$ more random. Beware: this sharpens each *step*, which is not
# the same as sharpening the distribution of whole images, $p(x)^{1/T}/Z_T$. That would need a $Z$ again.

# %% verifies=["2.12"]
with torch.no_grad():
    steps_log_p = distributions.tempered(tiny(all_images),
                                         0.5).log_prob(all_images).flatten(1).sum(1)
    p = tiny(all_images).probs
    squared = p**2 / (p**2 + (1 - p) ** 2)
    whole_log_p = (2 * tiny.log_prob(all_images)).log_softmax(0)
checks.close(distributions.tempered(tiny(all_images), 0.5).probs, squared,
             what="T = ½ squares each factor and normalises it")
checks.close(steps_log_p.exp().sum(), 1.0, what="tempered step by step, the sum is still 1")
checks.fails(lambda: torch.allclose(steps_log_p, whole_log_p, atol=0.1),
             what="tempering every step tempers whole images")
# seven pixels of four levels
grey = torch.distributions.Categorical(logits=torch.randn(7, 4).double())
cooled = distributions.tempered(grey, 0.5).probs
checks.close(cooled, grey.probs**2 / (grey.probs**2).sum(1, keepdim=True),
             what="(2.12) for more than two levels")

# %% [markdown]
# ### Exercise 2.7 (2 points): draw, one pixel after the other
# The whole of ancestral sampling fits into a few lines when the model is small. Take the logistic pixels of section
# 2.2. Write `sample_pixels(weight, bias, uniforms, temperature)`: draw pixel 1, feed it in, draw pixel 2, and so on,
# every logit divided by $T$ as in (2.12).

# %% exercise="2.7"

# %% tags=["check"]
check("2.7", sample_pixels)

# %%
temperatures = (0.4, 1.0) if budget == "smoke" else (0.4, 0.7, 1.0, 1.3)
uniforms = torch.rand(9, *shape, device=device)  # the same chance for all
grids = [sampling.cached_sample(longer, 9, uniforms=uniforms, temperature=T)
         for T in temperatures]
fig, axes = plt.subplots(1, len(temperatures), figsize=(9.5, 2.9))
for ax, T, grid in zip(axes, temperatures, grids):
    plots.draw_images(ax, grid, columns=3, title=f"T = {T}")
plots.show(fig)
# alt: Samples at four temperatures: mostly blank when cold, strokes and digits up to one, tangles when hot.

# %% [markdown]
# Look at the coldest sheet. It is mostly blank. Pixel after pixel the likeliest choice is "no ink", and a cold model
# nearly always takes the likeliest choice. On most images it never dares to begin. Of all the images we try in
# section 2.10, blank paper is the most probable. On the hottest sheet the strokes grow branches and loose pieces that
# belong to no digit. A pixel drawn too boldly gives the next one a past that the model has never seen, and errors do
# not average out.
#
# Both at once, for your hand: pick a beginning, move the temperature, and let the endings be painted pixel by pixel.
# All endings are drawn with the same random numbers, so that only the temperature changes. **Guess first:** does a low
# temperature give the *right* ending more often? A folded section below counts.

# %%
choices = [0.4, 1.0] if budget == "smoke" else [0.4, 0.6, 0.8, 1.0, 1.2, 1.5]
uniforms = torch.rand(5, *shape, device=device)
drawn = [
    sampling.cached_sample(longer, 15, start=test_x[:3].repeat_interleave(5, 0), known=known,
                           uniforms=uniforms.repeat(3, 1, 1, 1), temperature=T)
    for T in choices
]
drawn = torch.stack(drawn).unflatten(1, (3, 5)).transpose(0, 1)  # (3, T, 5, C, H, W)
cost = -log_probs(longer, drawn.flatten(0, 2)).view(drawn.shape[:3]) / math.log(2)

# %% tags=["widget"]
widgets.completion(test_x[:3, 0].cpu().int(), known[0], drawn[:, :, :, 0].cpu().int(), choices,
                   cost.cpu())

# %% [markdown]
# **Ask for a class, and get a classifier for nothing.** The gated model knows $p(x\mid y)$: each column below was
# asked for one class. With a probability $p(y)$ for each class, Bayes' rule (1.3) turns it round, and it labels:
#
# $$ p(y\mid x) = \frac{p(x\mid y)\,p(y)}{\sum_{y'}p(x\mid y')\,p(y')} . \tag{2.13} $$

# %%
asked = torch.arange(n_classes, device=device).repeat(3)
drawn = sampling.cached_sample(told, len(asked), asked)
plots.show(plots.images(drawn, columns=n_classes,
                        title="Asked for " + ", ".join(data.classes)))
# alt: Three rows of samples; in each column the class that was asked for.


def log_p_given_each(x):
    """log p(x | y) for every class y: (B, K)."""
    return torch.stack([log_probs(told, x, torch.full((len(x),), y, device=device))
                        for y in range(n_classes)], 1)


# %%
few = min(len(test_x), {"smoke": 20, "class": 200, "full": 2_000}[budget])
log_p = log_p_given_each(test_x[:few])  # (few, K)
right = (log_p.argmax(1) == test_y[:few]).float().mean()  # with the same p(y) for all classes
print(f"labels by Bayes' rule: {right:.1%} of {few} test images right")
record(bayes_accuracy=right)

# %% [markdown]
# Nobody trained it to classify. It learned to *draw* each class, and labels come out as a by-product, at the price of
# ten passes an image. (Chapter 01 at its class budget, on grey digits: logistic regression 96 %, a small convolutional
# network 97 to 98 %. These two were trained to label and can do nothing else. But one Gaussian a class, with Bayes'
# rule, got 98 % as well.)

# %% [markdown] tags=["fold"]
# ### Going deeper: (2.13), checked and counted
#
# First with a $p(y)$ that matters. Then on 512 images, where we can count: draw a class,
# draw an image of it, and look at which classes made the images that speak for the last one.

# %% verifies=["2.13"]
# p(y) ∝ 1, 2, 3, …: so that it matters
log_p_y = torch.arange(1.0, n_classes + 1, device=device).log().log_softmax(0)
# a common factor cancels
by_rule = (log_p - log_p.max(1, keepdim=True).values).double().exp() * log_p_y.double().exp()
total = by_rule.sum(1, keepdim=True)
log_posterior, without = (log_p + log_p_y).log_softmax(1), log_p.log_softmax(1)
checks.close(log_posterior.double().exp(), by_rule / total,
             what="(2.13), with logarithms and without", atol=1e-4)
checks.fails(lambda: torch.allclose(total, torch.ones_like(total)),
             what="without its denominator (2.13) sums to 1")
checks.fails(lambda: torch.allclose(log_posterior, without, atol=0.01),
             what="p(y) makes no difference")

# %% verifies=["2.13"]
told_3 = pixelcnn.GatedPixelCNN((1, 3, 3), width=8, n_blocks=1, first=3, n_classes=3).double()
for name, weight in told_3.named_parameters():
    nn.init.normal_(weight, std=2.0 if "label" in name else 0.5)  # the label has to matter
log_p_y = torch.tensor([0.2, 0.3, 0.5]).double().log()
# draw a class, then an image of it
y = torch.multinomial(log_p_y.exp(), 20_000, replacement=True)
number = (told_3.sample(len(y), y).flatten(1) @ 2.0 ** torch.arange(9).double()).long()
with torch.no_grad():
    each = torch.stack([told_3.log_prob(all_images, torch.full((512,), k))
                        for k in range(3)], 1)
posterior = (each + log_p_y).log_softmax(1).exp()[number]  # (2.13), for every draw
# the half of the draws whose images speak for the last class
chosen = posterior[:, 2] >= posterior[:, 2].median()
counts, expected = y[chosen].bincount(minlength=3), posterior[chosen].mean(0)
checks.frequencies(counts, expected, what="(2.13) says how often each class made these images")
checks.fails(lambda: checks.frequencies(counts, log_p_y.exp(), what=""),
             what="the images say nothing of their class")

# %% [markdown] tags=["fold"]
# ### Going deeper: does a low temperature give the right ending more often?
#
# The gated model can be a judge. We take one beginning from each of many test digits, let the unconditional model finish
# it at several temperatures, twice each, and ask the judge: does the ending make the digit that it was? And do both
# endings make the same digit, whichever it is?

# %%
n_judged = {"smoke": 5, "class": 120, "full": 500}[budget]
truth = test_x[:n_judged]
uniforms = torch.rand(2 * n_judged, *shape, device=device)  # two endings of each beginning
print(f"{n_judged} digits, 2 endings each"
      f"{'right':>8}{'standard error':>18}{'both alike':>13}{'ink, lower half':>18}")
# for each temperature, of the two endings of each beginning: how many are right, 0, ½ or 1
rights = {}
for T in (None, *temperatures):
    endings = truth.repeat(2, 1, 1, 1)
    if T:
        endings = sampling.cached_sample(longer, 2 * n_judged, start=endings, known=known,
                                         uniforms=uniforms,
                                         temperature=T)
    labels = log_p_given_each(endings).argmax(1).view(2, -1)
    rights[T] = right = (labels == test_y[:n_judged]).float().mean(0)
    error, alike = right.std() / n_judged**0.5, (labels[0] == labels[1]).float().mean()
    ink = endings[:, :, height // 2 :].sum() / len(endings)
    print(f"{f'T = {T}' if T else 'the truth':27}{right.mean():6.0%}{error:14.0%}{alike:17.0%}"
          f"{ink:11.0f} pixels")
for T in (T for T in temperatures if T != 1):
    gain = 100 * (rights[T] - rights[1.0])  # the same beginnings, with the same random numbers
    print(f"T = {T} against T = 1: {gain.mean():+.1f} points right, standard error "
          f"{gain.std() / n_judged**0.5:.1f}")

# %% [markdown]
# The guess has a sober answer: a little, perhaps. Cooling makes the two endings agree more often, with less ink.
# If the model's doubt is honest, the popular answer should then also be *right* more often. To see whether it is,
# compare the same beginnings with the same random numbers, and look at the error. (The **standard error** of a mean is
# how far it would typically move if we took other digits.) With 120 beginnings one error is
# three to four points: too coarse to say whether cooling helps, or whether right answers grow less than the agreement.
# The full budget judges more. If they do grow less, one reason may be that (2.12) sharpens steps, not answers. Heating
# is the safe result: at $T=1.3$ fewer endings are right. And the model's own frequencies, with its honest doubt, are
# found at $T=1$ only. (The first row is the ceiling: how often the judge is right about the true digits. Its two
# "endings" are the same image, so they always agree.)

# %% [markdown]
# ## 2.10 A high likelihood is not a seal of approval
#
# Exact likelihoods invite a simple alarm: an image with a low $p(x)$ must be foreign. Chapter 01 showed this failing
# for a Gaussian, where blank paper beat real digits. Surely a model as good as this one does better? We ask about
# digits of the test set, letters, noise, digits *half as large*, and blank paper.

# %% [markdown]
# ### Exercise 2.8 (1 point): predict
# Commit a guess about the half-size digits before you run the cell below it. The point is for committing.

# %% exercise="2.8"

# %% tags=["check"]
check("2.8", cost_of_half_size)

# %%
n_asked = {"smoke": 20, "class": 200, "full": 500}[budget]
letters = handwriting.sample(n_asked, glyphs=handwriting.LETTERS, size=height,
                             rgb=n_channels == 3, seed=seed + 1)
shrunk = F.avg_pool2d(images.to_float(data.test.images[:n_asked]), 2)
simple = F.pad(shrunk, [(width - shrunk.shape[3]) // 2, (width - shrunk.shape[3] + 1) // 2,
                        (height - shrunk.shape[2]) // 2, (height - shrunk.shape[2] + 1) // 2])
torch.manual_seed(seed + 1)
kinds = {
    "test digits": test_x[:n_asked],
    "letters": images.binarise(images.to_float(letters.images).to(device)),
    "noise": torch.rand(n_asked, *shape, device=device).round(),
    "half-size digits": images.binarise(simple),
    "blank paper": torch.zeros(n_asked, *shape, device=device),
}
cost_of = {kind: -log_probs(longer, x).cpu() / math.log(2) for kind, x in kinds.items()}
fig, axes = plt.subplots(2, 5, figsize=(9.5, 4), height_ratios=[1, 1.2])
for column, (kind, x) in enumerate(kinds.items()):
    plots.draw_images(axes[0, column], x[:9].cpu(), columns=3)
    axes[0, column].set_title(kind, fontsize=10)
    span = (1_000, 1_500) if kind == "noise" else (0, 300)
    axes[1, column].hist(cost_of[kind], bins=30, range=span, color=plots.PALETTE[column])
    axes[1, column].set(xlabel="bits per image", ylabel="images" if column == 0 else "")
plots.show(fig)
# alt: Five kinds of images and their cost in bits: half-size digits and blank paper less than digits.
reveal("2.8", "fewer bits" if cost_of["half-size digits"].mean()
       < cost_of["test digits"].mean() else "more bits")

# %% [markdown]
# We measure two alarms. One rings when the cost is *high*. The other is the remedy of chapter 01: it rings when the
# cost is not *usual*, that is, far from the median cost of validation digits, on either side.

# %%
usual = (-log_probs(longer, images.to_float(fixed.valid.images[:n_asked])).cpu()
         / math.log(2)).median()
alarms = {}
print(f"usual: {usual:.0f} bits      "
      f"{'bits':>7}{'AUROC, cost is high':>22}{'AUROC, cost is unusual':>25}")
for kind, bits in cost_of.items():
    if kind == "test digits":
        print(f"{kind:17} {bits.mean():7.1f}")
        continue
    high = metrics.auroc(-cost_of["test digits"], -bits)
    unusual = metrics.auroc(-(cost_of["test digits"] - usual).abs(), -(bits - usual).abs())
    print(f"{kind:17} {bits.mean():7.1f}{high:22.2f}{unusual:25.2f}")
    alarms["auroc_" + kind.replace(" ", "_").replace("-", "_")] = high
seen_ink = images.binarise(images.to_float(data.train.images)).flatten(1).double()
gaussians = classifier.fit_class_gaussians(seen_ink, data.train.labels, n_classes, ridge=1e-2)
as_density = {kind: gaussians.log_prob(kinds[kind].flatten(1).double()).cpu()
              for kind in ("test digits", "letters")}
gaussian_auroc = metrics.auroc(as_density["test digits"], as_density["letters"])
print(f"letters by class Gaussians on the same binary images: AUROC {gaussian_auroc:.2f}")
record(**alarms, auroc_letters_gaussians=gaussian_auroc)

# %% [markdown]
# The AUROC is the chance that the alarm ranks a foreign image above a digit: 1 is perfect, ½ is a coin (chapter 01).
# Noise is found at once, letters more often than not. The last line asks the class Gaussians of chapter 01 about the
# very same binary images. They draw far worse, and at the class budget they find the letters better: **the better
# painter is not the better alarm**. And the half-size
# digits, which the model has **never** seen, get a *higher* likelihood than the test digits (AUROC below one half), and
# blank paper the highest of all. Nalisnick and others (2019) found the same in models of photographs.
#
# The reason is in the bits. A cost is paid where something is *uncertain*. A small digit leaves fewer decisions to
# make (its strokes are also thinner), and most of the image is margin, which the model predicts for free. A likelihood
# measures **how much there is to say**, not how usual it is. "Simple" and "typical" are different things. The second
# alarm knows the difference: what is too cheap is as suspicious as what is too dear. It pays with the letters. Most
# of them lie on the dear side, and for those the second alarm gains nothing. But digits that are unusually cheap ring
# now too. So there it is weaker than the first.
#
# A likelihood that is *too* good is suspicious for another reason as well: it may not be one. Here are two tiny models,
# one masked convolution each, trained for a moment on the same hundred images. One has a mask of kind A. The other has
# a mask of kind B, so each pixel sees itself.

# %%
x = images.binarise(images.to_float(data.train.images[:100]))
for kind in "AB":
    layer = pixelcnn.MaskedConv2d(n_channels, n_channels, 7, kind, n_channels).to(device)
    optimizer = torch.optim.Adam(layer.parameters(), 0.3)
    for _ in range({"smoke": 60, "class": 200, "full": 200}[budget]):
        loss = F.binary_cross_entropy_with_logits(layer(x), x, reduction="sum") / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"one layer of kind {kind}: {loss.item():8.3f} nats per training image")

# %% [markdown]
# ### Exercise 2.9 (2 points): too good to be true
# A colleague trained a one-dimensional PixelCNN and reports 0.02 nats per image. No model can do that: it is 0.03 bits
# for a whole digit. A pixel sees *itself*, so copying is enough, and the number is no likelihood. Here is the code.
# **Find the leak and repair it.** Output $i$ may see the $k$ pixels before $i$, and zeros where the image has not
# begun.

# %% exercise="2.9"
def causal_logits(x, weight, bias):
    before = F.pad(x, (len(weight) - 1, 0))
    return before.unfold(1, len(weight), 1) @ weight + bias


# %% tags=["check"]
check("2.9", causal_logits)

# %% [markdown]
# How would you have known? Three alarms, and this chapter used all of them. A likelihood that beats every honest model
# (the best published ones stand near 77 to 79 nats on binarised MNIST, for example Sinha and Dieng 2021). A Jacobian
# that is not zero on its diagonal. A sum over all small images that is not 1.
#
# ## 2.11 All models, one table
#
# Each row below was made by one command, `course bench autoregressive --only NAME`, most of them with longer training,
# on the same binarised test set. Yours join them.

# %%
rows = []
if comes_with_the_course:
    rows = shipped.results(f"autoregressive_{dataset}.json")["rows"]
yours = [{"title": f"{name} (yours, {budget})", "test_nats": nats[name]}
         for name in ("MADE", "PixelCNN")]
lines = sorted([*rows, *yours], key=lambda row: -row["test_nats"])
if rows:
    told_nats, not_told = (next(r["test_nats"] for r in rows if r["name"] == n)
                           for n in ("conditional", "gated"))
    print(f"gated PixelCNN: {told_nats:.1f} nats given the class, so at most "
          f"{told_nats + math.log(10):.1f} as a mixture; {not_told:.1f} without labels\n")
print(f"{'model':34}{'test nats':>10}{'bits/dim':>10}{'parameters':>12}"
      f"{'steps':>8}{'training':>11}{'64 samples':>12}")
for row in lines:
    more = (f"{row['parameters']:>11,} {row['n_steps']:>7,} "
            f"{row['train_cpu_seconds']:>8.0f} s "
            f"{row['sample_64_cpu_seconds']:>9.1f} s" if "parameters" in row else "")
    print(f"{row['title']:34} {row['test_nats']:9.1f} "
          f"{row['test_nats'] / n_pixels / math.log(2):9.3f} {more}")

# %%
fig, ax = plt.subplots(figsize=(8, 0.33 * len(lines) + 1))
colours = [plots.PALETTE[1] if "yours" in row["title"] else plots.PALETTE[0] for row in lines]
bars = ax.barh([row["title"] for row in lines], [row["test_nats"] for row in lines],
               color=colours)
ax.bar_label(bars, fmt="%.1f", padding=3, fontsize=9)
floor = ax.axvline(coins.mean().item(), linestyle="--", color="black",
                   label="our own coins: the floor of section 2.5")
ax.legend(handles=[floor], fontsize=8)
ax.set(xlabel="NLL on the test set [nats per image], lower is better",
       title=f"Binarised {dataset}: orange is yours")
plots.show(fig)
# alt: Bars of test NLL for all models, the student's own in orange; a dashed line is the floor.

# %% [markdown]
# *Seconds are of one processor core. Parameters that a mask deletes are counted too. Batches differ from row to row, so
# steps do not compare. Your rows are measured on fewer test images, so they may differ by a few nats for
# that reason alone. "Given the class" is the cost of $x$ when $y$ is known; whoever stores the label as well pays
# $\log 10 = 2.3$ nats more.*
#
# What can one read off the table of `handwriting`? No ranking of architectures: the longest row had 161 seconds. But
# some differences are large.
#
# * The two PixelRNNs come close, but they draw with the naive sampler: one minute for 64 images with the Row LSTM, five
#   with the Diagonal BiLSTM. The PixelCNN's cache takes a third of a second.
# * Knowing the class saves the gated PixelCNN 3.4 nats. For a perfect model it would be 2.3 at most, since ten equally
#   likely labels say no more than $\log 10$. So the label has also made the learning easier. And one can do without
#   the label again: $p(x)=\sum_y p(y)\,p(x\mid y)\ge p(y)\,p(x\mid y)$ for every $y$. So the mixture of all ten costs
#   at most $\log 10$ more than the row given the class. Compare this with the row without labels, above the table.

# %% [markdown] tags=["fold"]
# ### Going deeper: more from the table
#
# * MADE has thirty times the parameters of the PixelCNN (half of them are wires that the masks cut) and stays ten nats
#   behind. It has seen more images, 320,000 against 48,000, since its batches hold 128 and those of the PixelCNN 16.
#   But it had less computing time, 66 seconds against 161. On `mnist`, with 267 seconds, only two nats are left.
# * Four random orders on one set of weights are two nats behind a single order, after as many steps. The mixture is an
#   honest model. It is not a free one.
# * The gated PixelCNN is small: 40,705 weights and 2,000 steps, against 64,161 and 3,000 of the plain one. It comes to
#   87.1 nats, the plain one to 86.6. This is no clean test of the blind spot.
# * The small transformer is behind the other networks of the command. Few images alone are no excuse: the Diagonal
#   BiLSTM has seen as few, with a quarter more weights. One reason may be that no window tells it what is near.

# %% [markdown] tags=["fold"]
# ## Going deeper: pixels as tokens
#
# A language model predicts the next token with **attention**. Each position sends out a *question* $q$ (the query),
# and holds a *key* $k$ and a *value* $v$, all linear functions of its features. It takes a mean of the values,
# weighted by how well the keys fit its question, over positions up to its own:
#
# $$ \operatorname{attention}_i = \sum_{j\le i} \alpha_{ij}\,v_j, \qquad
#    \alpha_{ij} = \frac{e^{q_i\cdot k_j/\sqrt{d_k}}}{\sum_{l\le i}e^{q_i\cdot k_l/\sqrt{d_k}}} , \tag{2.14} $$
#
# with $d_k$ the length of $q$ and $k$. The restriction $j\le i$ is mask B once more. The A is in the input, which is
# shifted by one: position $i$ *reads* pixel $i-1$ and *predicts* pixel $i$. No window, no blind spot: every pixel sees
# all before it, at the price of $N^2\cdot N^2$ pairs.

# %% quote="course_utils.models.autoregressive.transformer:CausalAttention.forward"

# %% verifies=["2.14"]
attention = transformer.CausalAttention(8, n_heads=1).double()
h = torch.randn(1, 6, 8, dtype=torch.float64)
q, k, v = (part[0, 0] for part in attention.split(h))  # each (T, width)
scores = (q @ k.T / math.sqrt(8)).masked_fill(torch.ones(6, 6).triu(1).bool(), -math.inf)
by_formula = attention.out(scores.softmax(1) @ v)
checks.close(attention(h)[0], by_formula, what="causal attention is (2.14)")
without = attention.out((q @ k.T / math.sqrt(8)).softmax(1) @ v)
checks.fails(lambda: torch.allclose(attention(h)[0], without),
             what="attention is the same without the mask")

# %% [markdown]
# The law of the chapter once more: random weights, a sum over all small images, and who hears whom. Tokens are whole
# numbers, so there is no gradient to ask. We flip each pixel in turn and see whose logit moves.

# %%
words = transformer.PixelTransformer((1, 3, 3), width=16, n_blocks=2).double()
for weight in words.parameters():
    nn.init.normal_(weight, std=0.5)
checks.sums_to_one(words.log_prob, all_images,
                   what="a causal transformer over pixels, random weights")
x = torch.rand(9, dtype=torch.float64).round()
flipped = torch.where(torch.eye(9).bool(), 1 - x, x)  # row j: pixel j is flipped
with torch.no_grad():
    moved = (words.params(flipped.view(9, 1, 3, 3))
             - words.params(x.view(1, 1, 3, 3))).flatten(1).abs() > 1e-9
checks.true(moved.T == earlier, what="every logit hears all earlier pixels, and no other")

# %% [markdown] tags=["fold"]
# ## Going deeper: 256 grey levels
#
# With more than two levels each pixel needs a distribution over all its levels. A softmax over 256 logits works, but it
# does not know that level 100 is next to level 101: it has to learn each separately. Salimans and others (2017) use a
# mixture of **logistic** distributions. A logistic distribution is a bump with the convenient cumulative function
# $\sigma\big((x-\mu)/s\big)$, so the mass between two grey levels is a difference of two sigmoids:
#
# $$ p(x_i) = \sum_{k} \pi_k\Big[\sigma\Big(\frac{x_i+\tfrac12-\mu_k}{s_k}\Big)
#    - \sigma\Big(\frac{x_i-\tfrac12-\mu_k}{s_k}\Big)\Big] , \tag{2.15} $$
#
# and the lowest and the highest level also take the tails. Three numbers a component in place of 256 logits. (The code
# first maps 0…255 to −1…1, so that the ½ becomes 1/255.)

# %% verifies=["2.15"]
weight, mu, log_scale = torch.tensor([[0.0, 0.6, -0.4], [-0.9, -0.1, 0.5], [-3.2, -2.6, -3.0]],
                                     dtype=torch.float64)
mix = distributions.DiscretisedLogisticMixture(weight, mu, log_scale, levels=256)
p = mix.log_prob(mix.enumerate_support()).exp()
checks.close(p.sum(), 1.0, what="256 levels sum to 1")
# between two levels, on the axis from −1 to 1
edges = (torch.arange(1, 256).double()[:, None] - 0.5) / 127.5 - 1
cdf = torch.sigmoid((edges - mu) / log_scale.exp()) @ weight.softmax(0)
checks.close(p, torch.cat([cdf[:1], cdf.diff(), 1 - cdf[-1:]]),
             what="(2.15), with the tails in the outer levels")
checks.fails(lambda: abs(cdf.diff().sum() - 1) < 1e-4,
             what="without the two tails the sum is 1 too")
fig, ax = plt.subplots(figsize=(6.5, 2.6))
ax.stairs(p, torch.arange(257) - 0.5, fill=True)
ax.set(xlabel="grey level", ylabel="probability",
       title="One pixel: a mixture of three discretised logistics")
plots.show(fig)
# alt: Three smooth bumps of probability over the 256 grey levels, and a spike at level 0.

# %% [markdown]
# The spike at level 0 is no mistake: that bar holds the whole lower tail of the first bump. Black and white are common
# in pictures, and this is how they get their share.

# %% [markdown] tags=["fold"]
# ## Going deeper: colour
#
# A colour pixel is three numbers, read red, green, blue. Green may see red of its own pixel, blue may see both. The
# channels of every layer are split into three groups, and the masks are decided at the centre of the kernel: in A a
# group sees the groups *before* it, in B also its own.

# %%
fig, axes = plt.subplots(1, 2, figsize=(6, 2.9))
for ax, kind in zip(axes, "AB"):
    centre = causal_mask(3, kind, n_in=3, n_out=3, colours=3)[:, :, 1, 1]
    ax.imshow(centre.numpy(), cmap="Blues", vmin=0, vmax=1.4)
    ax.set(title=f"centre of mask {kind}", xlabel="input colour", ylabel="output colour")
    ax.set_xticks(range(3), ["red", "green", "blue"])
    ax.set_yticks(range(3), ["red", "green", "blue"])
plots.show(fig)
# alt: Which colours see which at the centre of masks A and B: strictly below the diagonal, and with it.
colourful = pixelcnn.GatedPixelCNN((3, 1, 3), width=12, n_blocks=1, first=3).double()
for weight in colourful.parameters():
    nn.init.normal_(weight)
three_pixels = checks.all_binary(3, 1, 3, dtype=torch.float64)
checks.sums_to_one(colourful.log_prob, three_pixels,
                   what="all 512 images of three colour pixels")

# %% [markdown]
# ## 2.12 What to remember
#
# * **The chain rule turns one impossible distribution into many easy ones**, and $Z=1$ by construction: each factor
#   sums to 1 and sees only what came before.
# * The whole craft is *masking*. MADE cuts wires, PixelCNN cuts kernels (A first, then B), attention cuts pairs. A leak
#   shows as a likelihood too good to be true; a Jacobian and a sum over small images prove it.
# * One stack of masked convolutions has a **blind spot**; two stacks do not.
# * **A likelihood is a file size.** Arithmetic coding reaches $-\log_2 \hat p(x)$ within two bits.
# * Training is parallel (1, $N$ or $2N-1$ steps). **Sampling is not**: $N^2$ steps. A cache saves the work, not the
#   waiting.
# * A mixture of orders is a distribution, averaged logits are not. Temperature sharpens steps, not images.
# * A high likelihood means "little to say", not "typical".
#
# | | |
# |---|---|
# | strength | exact $\log p(x)$; plain maximum likelihood, so training is simple; very good likelihoods |
# | weakness | sampling is slow; the order is arbitrary; no description of an image whose parts mean something |
#
# The last point leads on. Our model can say *how probable* an image is to the last bit, and it can store one in a
# file. But open that file: its bits mean nothing. We changed one, and what came after was another image. There is no
# place in the model where "slant" or "thickness" is written down, nothing that could be turned like a knob. It is
# **exact, but without a code**. Can a network find a short description of an image in which every number means
# something? Chapter 03 begins with the most direct attempt: squeeze the image through a bottleneck and ask for it
# back.

# %%
score()

# %% [markdown]
# ## Sources
#
# * R. Neal, *Connectionist learning of belief networks*, Artificial Intelligence 56, 1992. B. Frey, *Graphical models
#   for machine learning and digital communication*, MIT Press 1998 (logistic pixels).
# * H. Larochelle, I. Murray, *The neural autoregressive distribution estimator*, AISTATS 2011 (NADE). B. Uria, I.
#   Murray, H. Larochelle, *A deep and tractable density estimator*, 2014, arXiv:1310.1757 (EoNADE).
# * M. Germain, K. Gregor, I. Murray, H. Larochelle, *MADE: masked autoencoder for distribution estimation*, 2015,
#   arXiv:1502.03509.
# * A. van den Oord, N. Kalchbrenner, K. Kavukcuoglu, *Pixel recurrent neural networks*, 2016a, arXiv:1601.06759.
# * A. van den Oord, N. Kalchbrenner, O. Vinyals, L. Espeholt, A. Graves, K. Kavukcuoglu, *Conditional image generation
#   with PixelCNN decoders*, 2016b, arXiv:1606.05328.
# * T. Salimans, A. Karpathy, X. Chen, D. Kingma, *PixelCNN++*, 2017, arXiv:1701.05517.
# * P. Ramachandran and others, *Fast generation for convolutional autoregressive models*, 2017, arXiv:1704.06001.
# * J. Rissanen, *Generalized Kraft inequality and arithmetic coding*, IBM Journal 20, 1976. I. Witten, R. Neal, J.
#   Cleary, *Arithmetic coding for data compression*, CACM 30, 1987.
# * E. Nalisnick, A. Matsukawa, Y. W. Teh, D. Gorur, B. Lakshminarayanan, *Do deep generative models know what they
#   don't know?*, 2019, arXiv:1810.09136.
# * S. Sinha, A. Dieng, *Consistency regularization for variational auto-encoders*, 2021, arXiv:2105.14859.
# * A. Vaswani and others, *Attention is all you need*, 2017, arXiv:1706.03762. N. Parmar and others, *Image
#   transformer*, 2018, arXiv:1802.05751.
