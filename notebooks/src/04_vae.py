# %% [markdown]
# # 4. Variational autoencoders
#
# **One question runs through this chapter: how do we train a model whose most important variables nobody ever saw?**
#
# Chapter 03 ended with holes. An autoencoder makes codes, but nothing tells it where codes should lie, so a random
# code decodes to a scribble. Now we start from the other end. First we *decide* how codes are distributed. Then we
# ask for a decoder that turns such codes into images, and insist on an honest probability for every image. The
# integral that this needs cannot be done. What can be done instead is one of the most useful tricks of the field, and
# you will see it derived three times and executed every time.
#
# You need: the Gaussian density with its mean and covariance, matrices and their eigenvalues, KL divergence (chapter
# 01), autoencoders and mixtures fitted to their codes (chapter 03), a small convolutional network, and for section 4.11
# the PixelCNN (chapter 02). The core path takes about {minutes} minutes. Sections marked *Going deeper* start folded; the later
# chapters do not depend on them.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, digits, mnist, fashion_mnist, kmnist
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import torch
from sklearn.mixture import GaussianMixture
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

import course_utils.expect as expect
from course_utils import checks, distributions, metrics, plots, shipped, training, widgets
from course_utils.chapter import pick_budget, pick_device, pick_seed, record
from course_utils.data import handwriting, images
from course_utils.distributions import BernoulliHead, FixedGaussianHead, GaussianHead
from course_utils.exercises import check, reveal, score
from course_utils.models import autoencoder, classifier, vae, vqvae
from course_utils.models.autoregressive.pixelcnn import PixelCNN
# the quoted `elbo_terms` below uses it
from course_utils.models.vae import kl_or_draw
from course_utils.nn.mlp import MLP

# %%
plots.style()
seed, device = pick_seed(seed), pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_train = {"smoke": 400, "class": 8_000,
           "full": 60_000 if dataset == "handwriting" else None}[budget]
n_steps = {"smoke": 50, "class": 2_000, "full": 40_000}[budget]
n_train = n_train if dataset != "digits" else None  # digits has only 1,197 training images
print(f"budget {budget} on {device}: {n_steps} training steps for the main models")

# %%
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
shape, n_classes, n_pixels = data.shape, len(data.classes), math.prod(data.shape)
# for testing: one Bernoulli draw per pixel, the same in every run
fixed = images.binarised(data, seed=0)
test_x, test_y = images.to_float(fixed.test.images), data.test.labels


def fit(model, n_steps, description, lr=1e-3, batch_size=100, prepare=images.binarise,
        objective=None):
    """Adam, the learning rate falls to zero along a half cosine; images are binarised anew
    each time they are seen."""
    model.to(device)

    def train():
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        batches = map(prepare, images.batches(data.train.images, batch_size))
        return training.fit(objective or model.loss, optimizer, batches, n_steps,
                            description=description, scheduler=schedule)

    # run the chapter again, and this is only read from disk
    return training.cached(description, model, train)


# %% [markdown]
# We **binarise**: a pixel of grey value 0.7 becomes ink with probability 0.7. So every image is a pattern of zeros
# and ones, $p(x)$ is a plain probability, and $-\log p(x)$ is a code length in nats. (Putting grey values into a
# cross-entropy is common and is not the likelihood of anything.)

# %% [markdown]
# ## 4.1 Hidden causes
#
# A teacher collects the word "hello" from 100 students. All images differ. What made them differ is not written on
# the page: how hard the student pressed, how far the letters lean, how wide they are, how fast and how neatly the
# hand moved. Call these hidden factors $z$, the **latent variable**, and write down how an image comes about:
#
# 1. the factors are drawn from a **prior** $p(z)$;
# 2. a **decoder** with parameters $\theta$ turns them into a distribution over images, $p_\theta(x\mid z)$.
#
# The decoder does not put out *the* image. It puts out a distribution for every pixel: for grey pixels a mean
# $\mu_i(z)$ and a standard deviation $\sigma_i(z)$, for binary ones a probability of ink.
#
# **What if $z$ were observed?** Then there would be nothing to it: predict $x$ from $z$, which is plain supervised
# learning. Our handwriting is made from factors that we can look up. So first we do exactly that. (A sixth number,
# *variant*, says which way of writing a digit was used: an open or a closed 4, say.)

# %%
known = data if data.name == "handwriting" else images.load("handwriting", n=n_train,
                                                            seed=seed).to(device)
centre, spread = known.train.factors.mean(0), known.train.factors.std(0)


def causes(labels, factors):
    """What the teacher of this experiment gets to see: the digit and the standardised factors,
    (B, 10 + 6)."""
    return torch.cat([nn.functional.one_hot(labels, 10), (factors - centre) / spread], dim=1)


z_known = causes(known.train.labels, known.train.factors)
observed = BernoulliHead(nn.Sequential(MLP([16, 400, 784]),
                                       nn.Unflatten(1, (1, 28, 28)))).to(device)


def likelihood(batch):
    x, row = batch
    return -observed(z_known[row]).log_prob(images.binarise(x)).mean()


batches = images.batches(known.train.images, 100,
                         labels=torch.arange(len(z_known), device=device))
optimizer = torch.optim.Adam(observed.parameters(), lr=2e-3)
history = training.fit(likelihood, optimizer, batches, n_steps // 2,
                       description="z observed: p(x|z)")

# %%
def turn(digits, factor, values):
    """Render ``digits`` with one factor swept over ``values`` and the others at their mean, by
    the trained decoder."""
    column = handwriting.FACTOR_NAMES.index(factor)
    factors = centre.repeat(len(digits) * len(values), 1)
    factors[:, -1] = 0.0  # the first way to write each digit
    factors[:, column] = torch.tensor(values, device=device).repeat(len(digits))
    labels = torch.tensor(digits, device=device).repeat_interleave(len(values))
    with torch.no_grad():
        return observed(causes(labels, factors)).mean


sweeps = {"slant": [-25, -10, 5, 20, 35], "width": [0.7, 0.85, 1, 1.15, 1.3],
          "pressure": [0.1, 0.3, 0.5, 0.7, 0.9]}
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.6))
for ax, (factor, values) in zip(axes, sweeps.items(), strict=True):
    plots.draw_images(ax, turn([3, 4, 7], factor, values), columns=5,
                      title=f"{factor}: {values[0]} to {values[-1]}")
plots.show(fig)
# alt: Digits 3, 4 and 7 drawn by the decoder while slant, width and pressure are turned up.

# %% [markdown]
# With the causes in hand, generation is easy and *controllable*: each factor is a knob. Now take the causes away. All
# we have is the images. Can a model invent knobs of its own?

# %% [markdown]
# ## 4.2 The integral
#
# When $z$ is hidden, every $z$ may have made the image, each with its own probability. So add them all up. The result
# is called the **evidence**, or marginal likelihood:
#
# $$ p_\theta(x) = \int p_\theta(x\mid z)\,p(z)\,\mathrm{d}z . \tag{4.1} $$
#
# Training means making $\log p_\theta(x)$ large for the images we have. And the question "which $z$ made this $x$?"
# is Bayes' rule,
#
# $$ p_\theta(z\mid x) = \frac{p_\theta(x\mid z)\,p(z)}{p_\theta(x)} , \tag{4.2} $$
#
# the **posterior**. Its denominator is the same integral. Let us do the integral once by brute force, where it is
# possible: one latent, $z\sim\mathcal N(0,1)$, one pixel, $x\mid z\sim\mathcal N(z^2/2,\,0.3^2)$.

# %%
def toy_decoder(z):
    """p(x|z) = N(z²/2, 0.3²), for one latent and one pixel."""
    return Independent(Normal(z.square() / 2, 0.3), 1)


def toy_prior():
    return Independent(Normal(torch.zeros(1).double(), 1.0), 1)


# %% verifies=["4.1", "4.2"] tags=["nbval-check-output"]
line = torch.linspace(-7, 7, 7_001).double()[:, None]  # a grid of z, (G, 1)
x = torch.tensor([[0.0], [0.5], [1.0], [2.5]]).double()
log_p = vae.log_evidence_on_grid(x, toy_decoder, toy_prior, line)
drawn = toy_prior().sample((400_000,))  # z from the prior
draws = toy_decoder(drawn).log_prob(x[:, None]).exp().T  # p(x|z), (400,000, 4)
checks.monte_carlo(draws, log_p.exp(),
                   what="(4.1): the sum over a grid is the mean of p(x|z) over the prior")
pixels = torch.linspace(-3, 28, 3_101).double()[:, None]
coarse = line[::10]
total = vae.log_evidence_on_grid(pixels, toy_decoder, toy_prior, coarse).exp().sum() * 0.01
checks.close(total, 1.0, what="p(x) integrates to one", atol=1e-5)
# (4.2), (4, G)
log_posterior = vae.log_joint_on_grid(x, toy_decoder, toy_prior, line) - log_p[:, None]
posterior = log_posterior.exp() * 0.002
checks.close(posterior.sum(1), torch.ones(4), what="(4.2): each posterior integrates to one")
# E[z² | x] by (4.2), and by draws that count as much as they fit x
mean_square = posterior @ line[:, 0].square()
checks.monte_carlo(draws * drawn.square(), log_p.exp() * mean_square,
                   what="(4.2): E[z² | x], by draws from the prior")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 3))
axes[0].plot(pixels, vae.log_evidence_on_grid(pixels, toy_decoder, toy_prior, coarse).exp())
axes[0].set(xlim=(-1, 6), xlabel="$x$", ylabel="$p(x)$", title="The evidence: all z added up")
for value, density in zip(x[:, 0].tolist(), log_posterior.exp(), strict=True):
    axes[1].plot(line, density, label=f"$x = {value}$")
axes[1].set(xlim=(-4, 4), xlabel="$z$", ylabel="$p(z|x)$",
            title="The posterior: which z made this x?")
axes[1].legend()
plots.show(fig)
# alt: Left: the density of x. Right: posteriors; for large x they have two bumps, at plus and minus.

# %% [markdown]
# Two pixels and still one latent: now the evidence can be drawn as a map. The decoder lays the line of $z$ into the
# plane of images as a curve $f(z)$ and puts a round blob of noise on every point of it. The evidence is the sum of all
# blobs, each as heavy as the prior makes its $z$. A simple $p(z)$ and a simple $p(x\mid z)$ give a $p(x)$ that is
# neither round nor has a name.

# %%
def bow(z):
    """p(x|z) = N(f(z), 0.25² I): one latent bent into the plane of two pixels."""
    return Independent(Normal(torch.cat([1.3 * z, (2 * z).sin()], dim=1), 0.25), 1)


fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
axes[0].plot(*bow(line[2_000:-2_000]).mean.T, color="gray")
for z in torch.linspace(-2, 2, 9).double()[:, None]:
    place, depth = bow(z[None]).mean[0].tolist(), 0.9 * math.exp(-z.item() ** 2 / 2)
    axes[0].add_patch(plt.Circle(place, 0.25, color=plots.PALETTE[0], alpha=depth))
    axes[0].annotate(f"{z.item():g}", place, ha="center", va="center", fontsize=8)
axes[0].set(xlim=(-4, 4), ylim=(-2, 2), aspect="equal", xlabel="$x_1$", ylabel="$x_2$",
            title="p(x|z) for nine z, as dark as p(z)")
plots.density(axes[1], lambda x: vae.log_evidence_on_grid(x.double(), bow, toy_prior, coarse),
              -4, 4,
              n=80, title="p(x): all of them added up")
axes[1].set(ylim=(-2, 2), xlabel="$x_1$")
plots.show(fig)
# alt: Left: discs along a wave, darkest in the middle. Right: the density of two pixels, a wave-shaped ridge.

# %% [markdown]
# The grid has 7,001 points for one latent. With 100 points per axis, $L$ latents need $100^L$ decodings for *one*
# image: 2 latents are fine, 20 latents cost $10^{40}$. Drawing $z$ from the prior instead does not help: almost no
# draw explains a given image, so the average is dominated by a few lucky ones. This is **Bayes' wall**. Without
# $p_\theta(x)$ there is no posterior, and without the posterior we do not know which few $z$ are worth looking at.
#
# The way out: let a second network guess. The **encoder** $q_\phi(z\mid x)$ looks at the image and names a
# distribution over $z$, here a Gaussian with mean $\mu_\phi(x)$ and standard deviations $\sigma_\phi(x)$: a region,
# not a point. (The region is not why the method is called *variational*. The calculus of variations searches over
# functions, and here we search over distributions $q$.)
#
# Letters: $\theta$ belongs to the generative network, $\phi$ to the inference network, as in the original paper. One of
# the notes behind this course swaps the two for its networks, and swaps back in its derivation. Names are free, but
# roles are not: section 4.5 shows that the two networks need different gradients. Look at what stands left of the bar.

# %% [markdown]
# ## 4.3 A bound, derived three times

# %% [markdown]
# ### First: Jensen's inequality
# Multiply and divide by $q_\phi$, then use that the logarithm is concave, so the log of a mean is at least the mean
# of the logs:
#
# $$ \log p_\theta(x) = \log \int q_\phi(z\mid x)\,\frac{p_\theta(x, z)}{q_\phi(z\mid x)}\,\mathrm{d}z
#    \;\ge\; \int q_\phi(z\mid x) \log \frac{p_\theta(x,z)}{q_\phi(z\mid x)}\,\mathrm{d}z =: \mathrm{ELBO}(x) . \tag{4.3} $$
#
# ELBO stands for **evidence lower bound**. Short, but it does not say how much was lost.

# %% [markdown]
# ### Second: where the loss goes
# $\log p_\theta(x)$ does not depend on $z$, so its mean over $q_\phi$ is itself. Insert the chain rule of
# probability, $p_\theta(x) = p_\theta(x,z)/p_\theta(z\mid x)$, then multiply and divide by $q_\phi$:
#
# $$ \begin{aligned}
#    \log p_\theta(x) &= \mathbb{E}_{q}\Big[\log \frac{p_\theta(x,z)}{p_\theta(z\mid x)}\Big] \\
#    &= \mathbb{E}_{q}\Big[\log\frac{p_\theta(x,z)}{q_\phi(z\mid x)}\Big] + \mathbb{E}_{q}\Big[\log\frac{q_\phi(z\mid x)}{p_\theta(z\mid x)}\Big] \\
#    &= \mathrm{ELBO}(x) + \mathrm{KL}\big(q_\phi(z\mid x)\,\|\,p_\theta(z\mid x)\big) .
#    \end{aligned} \tag{4.4} $$
#
# This is an *equation*. The gap is exactly the KL divergence from the guess to the true posterior. We cannot compute
# that term, but it is never negative, so we drop it and a lower bound remains. Now put the chain rule the other way
# round, $p_\theta(x,z) = p_\theta(x\mid z)\,p(z)$, into it. The log of the product is a sum, and the mean of a sum is
# the sum of the means:
#
# $$ \begin{aligned}
#    \mathrm{ELBO}(x) &= \mathbb{E}_{q}\Big[\log \frac{p_\theta(x\mid z)\,p(z)}{q_\phi(z\mid x)}\Big]
#    = \mathbb{E}_{q}[\log p_\theta(x\mid z)] - \mathbb{E}_{q}\Big[\log \frac{q_\phi(z\mid x)}{p(z)}\Big] \\
#    &= \underbrace{\mathbb{E}_{q_\phi(z\mid x)}[\log p_\theta(x\mid z)]}_{\text{reconstruction}}
#    - \underbrace{\mathrm{KL}\big(q_\phi(z\mid x)\,\|\,p(z)\big)}_{\text{stay near the prior}} .
#    \end{aligned} \tag{4.5} $$
#
# This is the form that is trained. Both lines together, before anything was dropped, read
# $\log p_\theta(x) = \text{reconstruction} - \mathrm{KL}(q_\phi\,\|\,p(z)) + \mathrm{KL}(q_\phi\,\|\,p_\theta(z\mid x))$.

# %% [markdown]
# ### Third: importance weights
# Draw $z_1,\dots,z_k$ from $q_\phi$ and weigh each with $w_i = p_\theta(x, z_i)/q_\phi(z_i\mid x)$. Then
# $\mathbb{E}[w_i] = \int q\,\frac{p(x,z)}{q}\,\mathrm{d}z = p_\theta(x)$: the weights are *unbiased*, and so is their
# average. The log of that average has, by Jensen, a mean of at most $\log p_\theta(x)$:
#
# $$ \mathcal{L}_k(x) = \mathbb{E}\Big[\log \frac1k\sum_{i=1}^k w_i\Big] \le \log p_\theta(x), \qquad
#    \mathcal L_1 = \mathrm{ELBO}, \quad \mathcal L_k \le \mathcal L_{k+1}, \quad \mathcal L_k \to \log p_\theta(x). \tag{4.6} $$
#
# Why does it only rise? The average of $k+1$ weights is also the average of the $k+1$ averages that leave one weight
# out. By Jensen its log is at least the average of *their* logs, and each of those has mean $\mathcal L_k$. Why does
# it arrive? By the law of large numbers the average tends to $p_\theta(x)$ (if $q_\phi$ reaches every $z$ that
# matters). That the *mean of its log* follows needs a little more: it is enough that the weights are bounded (Burda et
# al. 2016, theorem 1). So the ELBO is the one-sample case of a whole ladder of bounds (Burda et al. 2016).
#
# Now execute all three on the toy, where the exact value is known. Take a poor guess $q$ on purpose.

# %% verifies=["4.3", "4.4", "4.5"]
x, dz = torch.tensor([[1.0]]).double(), 0.002
log_p = vae.log_evidence_on_grid(x, toy_decoder, toy_prior, line)
log_joint = vae.log_joint_on_grid(x, toy_decoder, toy_prior, line)[0]
# covers one bump of the posterior, misses the other
q = Normal(torch.tensor(1.1).double(), 0.4)
weight, log_q = q.log_prob(line[:, 0]).exp() * dz, q.log_prob(line[:, 0])
elbo = (weight * (log_joint - log_q)).sum()
# normalised by itself: log p(x) does not come in
log_posterior = log_joint.log_softmax(0) - math.log(dz)
gap = (weight * (log_q - log_posterior)).sum()  # KL(q || posterior)
inside = (weight * (log_joint - log_q).exp()).sum().log()  # the log of the mean, before Jensen
checks.close(inside, log_p.squeeze(),
             what="(4.3): the log of the mean over q is log p, whatever q", atol=1e-6)
checks.true(elbo < inside, what=f"(4.3): ELBO {elbo:.4f} ≤ log p {log_p.item():.4f}")
checks.close(log_p - elbo, gap, what="(4.4): the gap is the KL to the posterior", atol=1e-6)
reconstruction = (weight * toy_decoder(line).log_prob(x)).sum()
to_prior = kl_divergence(q, Normal(0.0, 1.0))
checks.close(elbo, reconstruction - to_prior,
             what="(4.5): reconstruction minus KL to the prior", atol=1e-6)
checks.fails(lambda: torch.allclose(log_p - elbo, to_prior, atol=1e-3),
             what="the gap is the KL to the prior")

# %%
def below(q, k, step=0.25):
    """log p(x) − L_k by E log X = ∫ (e⁻ᵗ − E e⁻ᵗˣ) dt/t; X is the mean of k weights."""
    log_q = q.log_prob(line[:, 0])
    w = (log_joint - log_q - log_p).exp()  # weights over p(x), on the grid
    t = torch.arange(-25, 40, step).double().exp()[:, None]  # dt/t is the step of log t
    lost = (log_q.exp() * torch.expm1(-t / k * w)).sum(1) * dz  # E exp(−t w / k) − 1
    return ((k * lost.log1p()).exp() - (-t[:, 0]).exp()).sum().item() * step


def ladder(q, k):
    """4,000 estimates of L_k for the one x, each from k draws."""
    def guess(x):
        return Independent(q.expand((len(x), 1)), 1)

    return vae.importance_weighted_bound(x.expand(4_000, 1), guess, toy_decoder, toy_prior, k)


# %% verifies=["4.6"]
wide = Normal(torch.zeros(1).double(), 1.5)  # a worse ELBO, but it sees both bumps
checks.close(below(q, 1), gap, what="(4.6): at k = 1 it is the ELBO", atol=1e-4)
for name, guess, k in (("narrow", q, 1), ("narrow", q, 8), ("narrow", q, 512),
                       ("wide", wide, 8),
                       ("wide", wide, 512)):
    exact = log_p.item() - below(guess, k)
    what = f"(4.6): {name} q, k = {k}: L_k = {exact:.3f}"
    checks.monte_carlo(ladder(guess, k), exact, what=what, resolution=0.3)
ks = [10.0**n for n in range(1, 13)]
rungs = {"narrow q": [below(q, k) for k in ks], "wide q": [below(wide, k) for k in ks]}
checks.true(torch.tensor([*rungs.values()]).diff() < 1e-6,
            what="(4.6): more samples, a higher bound")
checks.close(rungs["narrow q"][-1], 0.0, what="(4.6): it arrives, also from the narrow q",
             atol=1e-3)
w = (log_joint - log_q - log_p).exp()  # the weights of q over p(x)
print(f"the largest weight is e^{w.log().max():.1f} p(x)")
print(f"E[w²] / E[w]² = {(weight * w.square()).sum():.1e}")
for k in (512, 1e4, 1e6, 1e7, 4e8, 1e10):
    print(f"narrow q, k = {k:<14,.0f} {below(q, k):.3f} nats below log p(x)")

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.7))
for name, losses in rungs.items():
    ax.plot(ks, [-loss for loss in losses], marker="o", label=name)
ax.axhline(-math.log(2), color="gray", linestyle=":", label="−log 2: one bump of two")
ax.set(xscale="log", xlabel="k, the number of draws", ylabel="$L_k$ − log p(x) [nats]",
       title="The ladder of importance weights, exactly")
ax.legend()
plots.show(fig)
# alt: Two curves that rise to zero: the wide guess within 100 draws, the narrow one climbs from −log 2 over ten powers
# of ten.

# %% [markdown]
# The gap is 1.09 nats. A $q$ that fitted one of the two equal bumps perfectly would lose $\log 2 = 0.69$: there $q$
# is twice the posterior. The other 0.4 are lost because our $q$ is too wide and sits beside the bump. The first dozen
# draws get those back. Then the ladder *seems* to stand still, and whoever stops at $k=512$ might believe that the rest
# is lost. But the weights are bounded, so the theorem holds, and the exact curve shows what it is worth: the other bump
# lies six standard deviations away. A draw that lands there is very rare and then weighs up to $e^{23}$ times $p(x)$. It takes about
# $\mathbb E[w^2]/\mathbb E[w]^2$ draws, printed above, before such draws are in the average as a rule. An estimate
# that no longer moves has not always arrived. A wide $q$ has a terrible ELBO and yet its ladder arrives within a
# hundred draws. For importance weights, too wide is better than too narrow.
#
# Notice that the check does not stop at "ELBO ≤ log p". A wrong formula may satisfy that too; the gap *being* the KL
# is the sharp test.

# %% [markdown] tags=["fold"]
# ### Going deeper: an error to look at
# One of the notes behind this course starts its derivation with
# $\log p_\theta(x) = \int q_\phi(x)\,p_\theta(z)\,\mathrm{d}z$. As it stands, $q_\phi(x)$ does not depend on $z$ and
# comes out of the integral; what is left integrates to one. So the line says $\log p_\theta(x)=q_\phi(x)$: a
# logarithm equals a density. Perhaps $q_\phi(z\mid x)$ was meant. Run that: the right side is positive whatever the
# image, it knows no $p_\theta(x\mid z)$ at all, and it has nothing to do with $\log p$. What belongs there is
# $\int q_\phi(z\mid x)\log p_\theta(x)\,\mathrm{d}z$, the first step of (4.4).

# %%
wrong = (weight * Normal(0.0, 1.0).log_prob(line[:, 0]).exp()).sum()
print(f"∫ q(z|x) p(z) dz = {wrong:.3f}     log p(x) = {log_p.item():.3f}")
checks.fails(lambda: torch.allclose(wrong, log_p, atol=0.05),
             what="∫ q(z|x) p(z) dz is log p(x)")
right = (weight * log_p).sum()
checks.close(right, log_p.squeeze(), what="∫ q(z|x) log p(x) dz is log p(x)", atol=1e-6)

# %% [markdown] tags=["fold"]
# ### Going deeper: is the best bound the best likelihood?
# A note behind this course says that maximising $\log p$ *is* maximising the bound. Only if $q$ can
# reach the posterior! Take a family of decoders with one parameter $\theta$: a straight line at $\theta=0$, the
# parabola from above at $\theta=1$. Let the data come from $\theta=1$, endlessly many, so that no luck is left. For
# every $\theta$ compute the mean $\log p_\theta(x)$, and the mean bound with the *best* Gaussian $q$ for each $x$.
# **Guess first:** which curve has its top at 1?

# %%
def bent(theta):
    """p(x|z) = N((1 − θ) z + θ z²/2, 0.3²)."""
    return lambda z: Independent(Normal((1 - theta) * z + theta * z.square() / 2, 0.3), 1)


x, z = torch.linspace(-1.5, 14, 621).double()[:, None], line[::20]  # both on a grid
# endless data from θ = 1: p(x) on the grid
share = vae.log_evidence_on_grid(x, bent(1.0), toy_prior, z).softmax(0)
middle, width = torch.cartesian_prod(torch.linspace(-6, 6, 121),
                                     torch.linspace(0.08, 1.2, 15)).double().T[..., None]
candidates = Normal(middle, width)  # 1,815 Gaussians q(z)
weight = candidates.log_prob(z[:, 0]).softmax(1)  # each one on the grid, (1,815, G)
thetas, evidence, bound = torch.linspace(0.4, 1.4, 11).double(), [], []
for theta in thetas:
    log_joint = bent(theta)(z).log_prob(x[:, None]) + toy_prior().log_prob(z)  # (621, G)
    evidence.append(share @ log_joint.logsumexp(1).add(math.log(0.04)))
    bound.append(share @ (log_joint @ weight.T + candidates.entropy().T).amax(1))
tops = [thetas[torch.stack(curve).argmax()].item() for curve in (evidence, bound)]
checks.true(torch.stack(bound) < torch.stack(evidence),
            what="the bound stays below for every θ")
checks.true(abs(tops[0] - 1) < 0.05, what="log p is highest where the data were made")
checks.true(tops[1] < 0.85, what="the bound is highest elsewhere, at a flatter decoder")
checks.true((bound[6] < bound[5]) & (bound[6] < bound[7]),
            what="at θ = 1, with two equal bumps, the bound has a dent")

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.7))
for label, curve, top in zip(("log p(x)", "bound, best Gaussian q"), (evidence, bound), tops,
                             strict=True):
    (drawn,) = ax.plot(thetas, curve, label=f"{label}: highest at θ = {top:.1f}")
    ax.plot(top, torch.stack(curve).amax(), "o", color=drawn.get_color())
ax.set(xlabel="θ, the bend of the decoder", ylabel="mean over the data [nats]",
       title="Two curves, two different tops")
ax.legend()
plots.show(fig)
# alt: The mean log-evidence and the mean bound as functions of theta; the bound has its top at a smaller theta.

# %% [markdown]
# The data were made at $\theta=1$, and there the likelihood is highest, as minimising $\mathrm{KL}$ must have it. The
# bound prefers a flatter decoder. There one of the two bumps is the lesser one, so a single Gaussian loses less; at
# $\theta=1$, where both are equal, its curve even has a dent. The bound's favourite $\theta$ is one whose posterior is
# *easy to guess*.

# %% [markdown] tags=["fold"]
# ### Going deeper: a model where everything is closed
# Let the decoder be linear, $x = Wz + b + \sigma\epsilon$. Then evidence and posterior are Gaussians that one can
# write down (this is *probabilistic PCA*, Tipping & Bishop 1999). With $M=W^\top W+\sigma^2I$,
#
# $$ p(x)=\mathcal N\big(b,\ WW^\top+\sigma^2I\big), \qquad
#    p(z\mid x)=\mathcal N\big(M^{-1}W^\top(x-b),\ \sigma^2M^{-1}\big) . $$
#
# So every law above can be checked to many digits. The best *diagonal* guess has the posterior's mean and the variances
# $1/\Lambda_{jj}$, with $\Lambda=M/\sigma^2$ the inverse of the posterior's covariance: with variances $s_j$ the KL is
# $\sum_j\big(\frac12\Lambda_{jj}s_j-\frac12\log s_j\big)$ up to a constant, and its derivative vanishes there.

# %% verifies=["4.4"] tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(3)
W, b, sigma = torch.randn(6, 2, generator=generator).double(), torch.ones(6).double(), 0.7
x = torch.randn(5, 6, generator=generator).double()
# some guess, the same for every x
q = Independent(Normal(0.3 * torch.ones(5, 2).double(), 0.5), 1)
log_p = vae.linear_gaussian_evidence(W, b, sigma).log_prob(x)
posterior = vae.linear_gaussian_posterior(x, W, b, sigma)
gap = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), posterior)
checks.close(log_p - vae.linear_gaussian_elbo(x, q, W, b, sigma), gap,
             what="gap = KL(q || posterior)", atol=1e-6, rtol=1e-9)
precision = posterior.precision_matrix.diagonal(dim1=-2, dim2=-1)
mean, scale = (v.clone().requires_grad_() for v in (posterior.mean, precision.rsqrt()))
nearest = log_p - vae.linear_gaussian_elbo(x, Independent(Normal(mean, scale), 1), W, b, sigma)
checks.true((nearest > 0) & (nearest < gap),
            what="the best diagonal q is closer, but not at the posterior")
slopes = torch.autograd.grad(nearest.sum(), (mean, scale))
checks.close(torch.cat(slopes), torch.zeros(10, 2),
             what="its gap has slope zero: no diagonal q is better", atol=1e-9)

# %% [markdown]
# The bound of a `VAE` is an estimate from one draw of $z$. Here we can hold its mean against the exact number.

# %% verifies=["4.5"]
linear = vae.VAE(lambda x: Independent(Normal(0.3 * torch.ones(len(x), 2).double(), 0.5), 1),
                 lambda z: Independent(Normal(z @ W.T + b, sigma), 1),
                 vae.StandardNormal(2).double(), beta=3.0)
rows = x.repeat(20_000, 1)
exact = vae.linear_gaussian_elbo(x, q, W, b, sigma)
checks.monte_carlo(linear.elbo(rows).view(-1, 5), exact,
                   what="the ELBO of one draw is right on average")
terms = linear.loss(rows)
price = kl_divergence(q, linear.prior())  # (5,)
checks.close(terms["kl"], price.mean(), what="(4.5): its price is the KL to the prior")
checks.close(terms["reconstruction"], (exact + price).mean(),
             what="(4.5): what is left is the reconstruction", rtol=0.02)
checks.close(terms["loss"], 3 * terms["kl"] - terms["reconstruction"],
             what="the loss is β KL − reconstruction, β = 3")

# %% [markdown]
# ## 4.4 The price of a code
#
# The second term of (4.5) compares the guess with the prior $\mathcal N(0, I)$. For a Gaussian guess it has a closed
# form. Per latent,
#
# $$ \mathrm{KL} = \mathbb{E}_q[\log q(z) - \log p(z)]
#    = \mathbb{E}_q\Big[-\tfrac12\log 2\pi\sigma^2 - \tfrac{(z-\mu)^2}{2\sigma^2} + \tfrac12\log 2\pi + \tfrac{z^2}{2}\Big] . $$
#
# Now use $\mathbb{E}_q[(z-\mu)^2] = \sigma^2$ and $\mathbb{E}_q[z^2] = \mu^2+\sigma^2$. The constants $\log 2\pi$
# cancel:
#
# $$ \mathrm{KL}\big(\mathcal N(\mu,\sigma^2)\,\|\,\mathcal N(0,1)\big) = \tfrac12\,\mu^2 + \tfrac12\,(\sigma^2 - \log\sigma^2 - 1) . \tag{4.7} $$
#
# Two terms, two punishments. $\tfrac12\mu^2$: do not go far from the origin. The other: $\sigma^2$ too large is
# punished because the code becomes vague, $-\log\sigma^2$ too small because it becomes too specific; it vanishes at
# $\sigma=1$ only. (The factor $\tfrac12$ is missing in some notes. That silently doubles the KL: a $\beta$ of 2, see
# section 4.9.)

# %% verifies=["4.7"] tags=["nbval-check-output"]
mu, log_var = torch.randn(4, 3).double(), torch.randn(4, 3).double()
q = Normal(mu, (log_var / 2).exp())
# (4.7), one number per latent; you write it yourself in exercise 4.1
closed = vae.gaussian_kl(mu, log_var)
checks.close(closed, kl_divergence(q, Normal(0.0, 1.0)), what="(4.7) is torch's KL", rtol=1e-9)
z = q.sample((50_000,))
checks.monte_carlo(q.log_prob(z) - Normal(0.0, 1.0).log_prob(z), closed,
                   what="and Monte Carlo's")
checks.fails(lambda: torch.allclose(2 * closed, kl_divergence(q, Normal(0.0, 1.0))),
             what="without the ½ it is torch's KL")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True)
m, s = torch.linspace(-3, 3, 200), torch.linspace(0.05, 2.6, 200)
axes[0].plot(m, m**2 / 2)
axes[0].set(xlabel="μ", ylabel="nats", title="½ μ²: far from the origin costs", ylim=(0, 4.5))
axes[1].plot(s, (s**2 - 2 * s.log() - 1) / 2)
axes[1].axvline(1, color="gray", linestyle=":")
axes[1].set(xlabel="σ", title="½ (σ² − log σ² − 1): too vague and too precise cost")
plots.show(fig)
# alt: A parabola in mu, and a curve in sigma with its minimum, zero, at sigma equal to one.

# %% [markdown]
# ### Exercise 4.1 (1 point): the KL of a Gaussian
# Write `kl_to_standard_normal` from `mu` and `log_var`, both `(B, L)`, to the KL of the whole code, `(B,)`.

# %% exercise="4.1"

# %% tags=["check"]
check("4.1", kl_to_standard_normal)

# %% [markdown] tags=["fold"]
# ### Going deeper: apples and bananas
# Here is what that price buys. Suppose names are numbers in $[0, 10]$: 5.43 means *apple*, 5.44 means *banana*. With
# exact numbers there is room for endlessly many names. Now every number reaches you with Gaussian noise of
# $\sigma = 1$. You read 5.43. Was it apple? It may have been anything from 4.4 to 6.4. A noisy number carries little
# information. The **capacity**, the most that one noisy number can carry on average, is for a signal of variance
# $s^2$
#
# $$ I = \tfrac12\log\Big(1+\frac{s^2}{\sigma^2}\Big) \text{ nats}. \tag{4.8} $$
#
# Why: what arrives has variance $s^2+\sigma^2$, so its entropy is at most $\frac12\log2\pi e(s^2+\sigma^2)$, which a
# Gaussian reaches. The noise alone has $\frac12\log2\pi e\sigma^2$. The difference is what the signal added.
#
# A VAE's latent is such a channel: the signal is $\mu(x)$, the noise $\sigma$ (say, the same for all images). The
# average of $\mu^2$ is $s^2$, so the average of (4.7) is $\frac12(s^2+\sigma^2-1)-\frac12\log\sigma^2$. If all codes
# together fill the prior, then $s^2 + \sigma^2 = 1$: the bracket is zero, and
# $-\frac12\log\sigma^2=\frac12\log\frac{s^2+\sigma^2}{\sigma^2}$ *is* (4.8). So the KL is a bill for information, in
# nats.
#
# One source says that an efficient code has $\sigma\to1$ and is then *more* informative. It is the other way round:
# at $\sigma = 1$ there is no room left for a signal, and the code says nothing.

# %% verifies=["4.8"]
capacity = lambda s, noise: 0.5 * math.log(1 + s**2 / noise**2)
# what z tells about the signal: E log q(z|x)/q(z)
for s, noise in ((1.0, 0.5), (2.0, 1.0), (0.5, 2.0), (3.0, 0.2)):
    signal = Normal(0.0, s).sample((200_000,)).double()
    z = Normal(signal, noise).sample()
    told = Normal(signal, noise).log_prob(z) - Normal(0.0, math.hypot(s, noise)).log_prob(z)
    checks.monte_carlo(told, capacity(s, noise),
                       what=f"s = {s}, σ = {noise}: {capacity(s, noise):.3f} nats are told")
# with s² + σ² = 1 all codes together are N(0, 1), and the price is what is told
for noise in (0.1, 0.5, 0.9):
    s = math.sqrt(1 - noise**2)
    signal = Normal(0.0, s).sample((200_000, 1)).double()
    price = vae.gaussian_kl(signal, torch.full_like(signal, 2 * math.log(noise))).squeeze(1)
    checks.monte_carlo(price, capacity(s, noise),
                       what=f"σ = {noise}: the mean KL is {capacity(s, noise):.3f} nats too")
checks.close(vae.gaussian_kl(torch.zeros(1), torch.zeros(1)), 0.0,
             what="σ = 1 and no signal: no price, no information")
names, noise = torch.arange(0, 10.01, 0.01), 1.0
heard = names + noise * torch.randn(2_000, len(names))
right = ((heard - names).abs() < 0.005).double().mean()
print(f"1,001 names, noise 1: the nearest name is right in {right:.2%} of the cases")
print(f"the channel has room for at most about exp(I) = "
      f"{math.exp(capacity(names.std(), noise)):.1f} names")

# %% [markdown]
# ## 4.5 Gradients through a draw
#
# The reconstruction term is a mean over $z\sim q_\phi$ of $\log p_\theta(x\mid z)$, and we need two gradients. The
# one for $\theta$ is easy. $\theta$ sits *inside* the mean, so draw some $z$ and differentiate. Does that work for
# $\phi$ too? Take $q_\phi=\mathcal N(\phi, 0.8^2)$ and $p_\theta(x\mid z)=\mathcal N(\theta z, 1)$ with $x=2$. There
# $\mathbb{E}_q[\log p_\theta(x\mid z)]=-\frac12\big((2-\theta\phi)^2+0.64\,\theta^2\big)+\text{const}$.

# %%
x, theta, phi = torch.tensor([2.0, 1.3, 0.5]).double().requires_grad_().unbind()
z = Normal(phi, 0.8).sample((100_000,))  # a draw: from here on z is a number
by_theta, by_phi = torch.autograd.grad(Normal(theta * z, 1.0).log_prob(x).mean(), (theta, phi),
                                       materialize_grads=True)
true_theta, true_phi = torch.autograd.grad(-((x - theta * phi) ** 2 + 0.64 * theta**2) / 2,
                                           (theta, phi))
print(f"θ: {by_theta:.2f}, in truth {true_theta:.2f}      φ: {by_phi:.2f}, in truth "
      f"{true_phi:.2f}")
checks.close(by_theta, true_theta, what="for θ: draw, then differentiate", atol=0.05)
checks.fails(lambda: torch.allclose(by_phi, true_phi, atol=0.05),
             what="for φ, draw, then differentiate, is right as well")

# %% [markdown]
# This is why it matters which letter belongs to which network. For $\theta$ nothing special is needed. For $\phi$ the
# draw is the obstacle: $\phi$ sits in the *distribution*, and a number that has been drawn has no derivative. Unless
# the randomness comes from outside:
#
# $$ z = \mu + \sigma\,\epsilon,\quad \epsilon\sim\mathcal N(0,1)
#    \quad\Longrightarrow\quad \nabla_{\mu,\sigma}\,\mathbb{E}_q[f(z)] = \mathbb{E}_\epsilon\big[f'(z)\,(1,\ \epsilon)\big] . \tag{4.9} $$
#
# This is the **reparameterisation trick**. There is an older way that needs no derivative of $f$. From
# $\nabla q = q\,\nabla\log q$,
#
# $$ \nabla_\phi\,\mathbb{E}_q[f(z)] = \mathbb{E}_q\big[f(z)\,\nabla_\phi\log q_\phi(z)\big] , \tag{4.10} $$
#
# the **score-function** gradient (REINFORCE). Both are right on average. Look at how they scatter.

# %% verifies=["4.9", "4.10"]
mu, sigma = torch.tensor(0.5).double(), torch.tensor(0.8).double()
eps = torch.randn(100_000).double()
z = mu + sigma * eps
value, slope = (z - 2) ** 2, 2 * (z - 2)  # f and f'; E f = (mu - 2)² + sigma²
pathwise = torch.stack([slope, slope * eps], dim=1)
score_fn = value[:, None] * torch.stack([(z - mu) / sigma**2,
                                         ((z - mu) ** 2 - sigma**2) / sigma**3], dim=1)
exact = torch.stack([2 * (mu - 2), 2 * sigma])
checks.monte_carlo(pathwise, exact, what="(4.9): reparameterised gradient, d/dμ and d/dσ")
checks.monte_carlo(score_fn, exact, what="(4.10): score-function gradient, the same mean")
ratio = (score_fn.var(0) / pathwise.var(0)).tolist()
print(f"variance, score function over reparameterised: {ratio[0]:.1f} times for μ, "
      f"{ratio[1]:.1f} times for σ")
checks.true(min(ratio) > 5, what="the score function scatters more than five times as much")

# %%
fig, ax = plt.subplots(figsize=(6.5, 2.7))
for name, g in {"score function": score_fn, "reparameterised": pathwise}.items():
    ax.hist(g[:, 0], bins=120, range=(-16, 4), alpha=0.65, label=name, density=True)
ax.axvline(exact[0], color="black", linestyle=":", label="true gradient")
ax.set(xlabel="one-draw estimate of the gradient by μ", ylabel="density",
       title="Same mean, different scatter")
ax.legend()
plots.show(fig)
# alt: Histograms of single-draw gradients: a hill around −3, and a peak just above 0 with a long flat tail to the left.

# %% [markdown]
# The tall peak is the score function: half of its draws are positive, although the true gradient is −3. Rare, hugely
# negative draws repair the mean, and 5 % of the draws do not even fit into the picture. That tail is the variance.
#
# Why so different? The score function sees only *how large* $f$ is at each draw, and must find the slope by comparing
# many draws; add 1,000 to $f$ and the true gradient stays, but its scatter explodes. The reparameterised gradient
# sees the slope of $f$ at the draw itself. It is so calm that **one** draw per image is enough for training: the
# estimate is right on average, and the batch and the many steps do the averaging.

# %% [markdown] tags=["fold"]
# ### Going deeper: the gradient of the loss that is trained
# Does the VAE use (4.9)? `rsample` promises it. We hold the gradient that its loss sends to an encoder against the
# derivative of the exact ELBO of the linear model of section 4.3.

# %% verifies=["4.9"]
# μ and log σ² of the encoder
numbers = torch.tensor([[0.3, -0.6], [-1.4, 0.2]]).double().requires_grad_()
encode = lambda x: Independent(Normal(numbers[0].expand(len(x), 2), (numbers[1] / 2).exp()), 1)
five = torch.randn(5, 6).double()
loss = vae.VAE(encode, linear.decoder, linear.prior).loss(five.repeat(20_000, 1))["loss"]
elbo = vae.linear_gaussian_elbo(five, encode(five), W, b, sigma).mean()
by_draws, by_hand = (torch.autograd.grad(target, numbers)[0] for target in (loss, -elbo))
checks.close(by_draws, by_hand,
             what="the loss sends the encoder the gradient of the exact ELBO", rtol=0.05,
             atol=0.1)

# %% [markdown] tags=["fold"]
# ### Going deeper: calming the score function
# The score-function gradient works where nothing can be reparameterised: words, moves in a game. So it is worth
# knowing what makes it loud, and what calms it. Two facts follow from (4.10).
#
# * $\mathbb{E}_q[\nabla_\phi\log q_\phi(z)]=\nabla_\phi\int q_\phi(z)\,\mathrm dz=\nabla_\phi 1=0$. So any
#   number $b$ that does not depend on the draw, a **baseline**, may be taken off $f$ without a bias. The mean of $f$
#   over *other* draws is a good one.
# * With $L$ latents $f$ collects noise from all of them, and the gradient of *one* latent is multiplied by all of it.
#
# Watch the gradient by the first $\mu$ for $f(z)=\sum_j(z_j-2)^2$.

# %%
def gradients(n_latents, n=20_000, group=4):
    """One-draw gradients by μ₁, ``(n,)`` each, for q = N(½, 0.8²) in every latent."""
    z = 0.5 + 0.8 * torch.randn(n, n_latents).double()
    f, score = (z - 2).square().sum(1), (z[:, 0] - 0.5) / 0.64
    groups = f.view(-1, group)
    others = ((groups.sum(1, keepdim=True) - groups) / (group - 1)).flatten()
    everyone = groups.mean(1, keepdim=True).expand(-1, group).flatten()
    return {"score function": f * score,
            "score function − baseline of 3 other draws": (f - others) * score,
            "reparameterised": 2 * (z[:, 0] - 2),
            "own draw in the baseline": (f - everyone) * score}


# %%
sizes = (1, 2, 4, 8, 16, 32, 64)
drawn = [gradients(n_latents) for n_latents in sizes]
biased = [row.pop("own draw in the baseline") for row in drawn]
scatter = {name: [row[name].var().item() for row in drawn] for name in drawn[0]}
# with more latents it scatters too much
every = torch.stack([g for row in drawn[:3] for g in row.values()], dim=1)
checks.monte_carlo(every, -3.0,
                   what=f"(4.9), (4.10): all {every.shape[1]} means are 2 (μ − 2) = −3",
                   resolution=2.5)
checks.fails(lambda: checks.monte_carlo(biased[0], -3.0, what=""),
             what="with its own draw in the baseline the mean is right too")
# from 32 latents to 64
plain, calmed, slopes = (values[-1] / values[-2] for values in scatter.values())
checks.true(plain > 3.3,
            what=f"score function: twice the latents, {plain:.1f} times the variance")
checks.true(1.6 < calmed < 2.5, what=f"with a baseline: {calmed:.1f} times")
checks.true(0.9 < slopes < 1.1, what=f"reparameterised: {slopes:.1f} times")

# %%
fig, ax = plt.subplots(figsize=(6.5, 3))
for name, values in scatter.items():
    ax.loglog(sizes, values, marker="o", label=name)
ax.set(xlabel="number of latents", ylabel="variance of one draw",
       title="The price of not knowing the slope of f")
ax.set_xticks(sizes, sizes)
ax.legend(fontsize=8)
plots.show(fig)
# alt: Variance against latents: the plain score function grows with the square, with a baseline linearly, the other is
# flat.

# %% [markdown]
# Plainly, the scatter grows with the *square* of the number of latents, because $f$ itself grows with it. A baseline
# takes off the mean of $f$, and what is left grows only linearly. The reparameterised gradient does not notice the
# other latents at all. A baseline made of the draw itself would be wrong: then $b$ depends on $z$, and part of the
# gradient is taken off with it (a quarter, for groups of four).

# %% [markdown]
# ### Exercise 4.2 (1 point): a differentiable draw
# Write `draw`: from `mu, log_var` and given noise `eps`, all `(B, L)`, to `z`. Mind that the network gives the
# *logarithm of the variance*.

# %% exercise="4.2"

# %% tags=["check"]
check("4.2", draw)

# %% [markdown]
# ## 4.6 The model
#
# Everything is on the table, and it fits into three lines: encode, draw, decode. `decoder(z)` returns a distribution,
# so the reconstruction term is just its `log_prob`. For zeros and ones $-\log p(x\mid z)$ is exactly the *binary
# cross-entropy* (BCE), summed over the pixels: what other texts call "BCE + KL" is the loss below.

# %% quote="course_utils.models.vae:elbo_terms"

# %% quote="course_utils.models.vae:VAE.loss"

# %% [markdown]
# **Drag before you train.** This is where we are going: decoders of an autoencoder and of a VAE, both 784-400-2,
# trained on `handwriting` by the authors and shipped with the course. They run in your browser. Your own come below.
# (The pad ends at 3.5 standard deviations. Some codes lie outside; a line below it says how many.)

# %% tags=["widget"]
finished = {"AE": autoencoder.mlp_autoencoder((1, 28, 28), (400,), latent_dim=2),
            "VAE": vae.vae_784_400_2()}
for name, model in finished.items():
    for part in ("encoder", "decoder"):
        training.load_weights(shipped.path(f"{name.lower()}_784_400_2_{part}.safetensors"),
                              getattr(model, part))


def painter(model):
    """The decoder as a network from codes to grey values, which is what a widget wants."""
    network = model.decoder
    if not isinstance(network, nn.Sequential):
        network = nn.Sequential(network.network, nn.Sigmoid())
    return deepcopy(network).cpu()


known_x, known_y = images.to_float(known.test.images).cpu(), known.test.labels.cpu()
with torch.no_grad():
    codes = {"AE": finished["AE"].encoder(known_x),
             "VAE": finished["VAE"].encoder(images.binarise(known_x)).mean}
widgets.latent_explorer({name: painter(model) for name, model in finished.items()}, codes,
                        known_y)

# %% [markdown]
# The network is the one of the notes: 784 pixels, 400 hidden units, **four** outputs (two means, two log-variances),
# and back from 2 latents over 400 to 784 logits. We start it from the mean image: the encoder sees the difference to
# it, and the untrained decoder draws it. So training need not find it first. Watch the two terms while it trains. Which
# one wins at first?

# %% [markdown]
# ### Exercise 4.3 (1 point): predict
# Commit a guess before the model is trained: what will its code cost? The point is for committing.

# %% exercise="4.3"

# %% tags=["check"]
check("4.3", price_of_two_latents)

# %%
mean_image = images.to_float(data.train.images).mean(0)
vae2 = vae.mlp_vae(shape, hidden_dims=(400,), latent_dim=2, mean_image=mean_image)
history = fit(vae2, n_steps, "VAE, 2 latents", lr=4e-3, batch_size=128)

# %%
def smooth(curve, width=25):
    return curve.unfold(0, min(width, len(curve)), 1).mean(1)


fig, axes = plt.subplots(1, 2, figsize=(9, 2.9))
axes[0].plot(smooth(-history["reconstruction"]), label="−reconstruction")
axes[0].plot(smooth(history["loss"]), label="−ELBO")
axes[0].set(xlabel="training step", ylabel="nats per image",
            title="Reconstruction and the whole bound")
axes[0].legend()
axes[1].plot(smooth(history["kl"]), color=plots.PALETTE[2])
axes[1].set(xlabel="training step", ylabel="nats per image", title="KL: the price of the code",
            ylim=(0, None))
plots.show(fig)
# alt: Left: −reconstruction and −ELBO fall, the KL is the distance between them. Right: the KL during training.
reveal("4.3", history["kl"][-25:].mean())

# %% [markdown]
# The reconstruction wins at first: it improves by dozens of nats, while the whole KL is a handful. When that is used
# up, the KL decides which details are worth their price. The two terms **fight**: reconstruction wants every image to
# have its own precise place, the KL wants all codes to look like the prior. Some call this adversarial. It is not:
# both networks climb *one* objective, hand in hand. A real opponent comes in chapter 05.

# %% [markdown]
# ### Is the bound any good?
# With two latents we can still do the integral (4.1), on a grid over the plane. Keep it as the judge.

# %%
def evaluate(model, x, k=100):
    """Mean −ELBO and mean importance-weighted −log p of the first images of ``x``, in nats."""
    x = x[:n_judged]
    with training.evaluating(model):
        elbo = torch.cat([model.elbo(part) for part in x.split(500)]).mean()
        tight = torch.cat([model.importance_weighted_bound(part, k)
                           for part in x.split(10)]).mean()
    return -elbo.item(), -tight.item()


n_judged = {"smoke": 20, "class": 300, "full": 10_000}[budget]
elbo2, nll2 = evaluate(vae2, test_x)

# %%
n_ticks, n_exact = {"smoke": (81, 4), "class": (181, 20), "full": (401, 50)}[budget]
with training.evaluating(vae2):
    some = test_x[:n_exact]
    q = vae2.encoder(some)
    reach = (q.mean.abs() + 5 * q.stddev).max().item()  # wide enough for these posteriors
    ticks = torch.linspace(-reach, reach, n_ticks, device=device)
    plane = torch.cartesian_prod(ticks, ticks)  # (G, 2)
    log_joint = vae.log_joint_on_grid(some, vae2.decoder, vae2.prior, plane)
    exact = log_joint.logsumexp(1) + vae.cell_volume(plane).log()  # (4.1)
    draws = torch.stack([vae2.elbo(some.repeat(20, 1, 1, 1)).view(20, -1) for _ in range(50)])
    draws = draws.flatten(0, 1)  # (1,000, n): the bound of each image, a thousand times
    tight = vae2.importance_weighted_bound(some, 1_000)
    guess = q.log_prob(plane[:, None]).T  # log q(z|x) on the grid, (n, G)
    inside = guess.logsumexp(1) + vae.cell_volume(plane).log()
    # KL(q || posterior)
    to_posterior = (guess.softmax(1) * (guess - log_joint + exact[:, None])).sum(1)

# %%
bound, gaps = draws.mean(0), to_posterior.sort().values
print(f"{n_exact} test images: ELBO {bound.mean():.2f} ≤ k = 1,000: {tight.mean():.2f} "
      f"≈ grid: {exact.mean():.2f} nats")
print(f"the gap, image by image: from {gaps[0]:.2f} over {gaps.median():.2f} to "
      f"{gaps[-1]:.2f} nats, mean {gaps.mean():.2f}")
checks.close(inside, torch.zeros(n_exact),
             what="the grid is fine enough: every q(z|x) sums to one", atol=0.01)
what = f"(4.4), trained: the gap is the KL to the posterior, {to_posterior.mean():.2f} nats"
checks.monte_carlo(exact.mean() - draws.mean(1), to_posterior.mean(), what=what,
                   resolution=0.3)
# not the mean: the encoder may miss the posterior of an image altogether
missing = (exact - tight).median()
checks.close(missing, 0.0, what="for the median image 1,000 weights reach the integral",
             atol=0.5, rtol=0)
record(vae2_elbo=elbo2, vae2_nll=nll2, vae2_gap=to_posterior.median())

# %% [markdown]
# These are *true* gaps of a trained network: the distance of the encoder's guess from the posterior, summed over the
# grid. For most images it is about a nat. But look at the largest. Where the encoder puts an image beside its
# posterior, one image can lose dozens of nats, and then a thousand importance weights do not find the place either: the
# ladder of section 4.3, on a real image. So the importance-weighted numbers of this chapter are bounds too, and the
# mean over a few images says little about the model's average.

# %%
with training.evaluating(vae2):
    codes = vae2.encoder(test_x).mean.cpu()
    quantiles = Normal(0.0, 1.0).icdf(torch.linspace(0.02, 0.98, 17)).to(device)
    # rows top to bottom: z2 falls
    sheet = vae2.decoder(torch.cartesian_prod(-quantiles, quantiles).flip(1)).mean
fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.6))
dots = axes[0].scatter(codes[:, 0], codes[:, 1], c=test_y.cpu(), cmap=plots.CLASSES, s=5,
                       vmin=-0.5, vmax=9.5)
for radius in (1, 2, 3):
    axes[0].add_patch(plt.Circle((0, 0), radius, fill=False, color="black", linestyle=":"))
axes[0].set(xlim=(-4.8, 4.8), ylim=(-4.8, 4.8), aspect="equal", xlabel="$z_1$", ylabel="$z_2$",
            title="posterior means; rings: the prior at 1, 2, 3 σ")
fig.colorbar(dots, ax=axes[0], shrink=0.7, label="label (not used)", ticks=range(n_classes),
             boundaries=torch.arange(n_classes + 1) - 0.5)
plots.draw_images(axes[1], sheet, columns=17, title="decoded quantiles of the prior")
plots.show(fig)
# alt: Left: codes around the origin, coloured by class, some outside the third ring. Right: a sheet of digits that
# morph.

# %% [markdown]
# Compare with the plane of chapter 03. The codes now lie around the origin, as the prior asks, and near each other.
# They do not obey exactly: the prior puts 1 % of its draws outside the third ring, the codes far more (section 4.10
# prices that). Between the clear digits the decoder draws blends. We *chose* $\mathcal N(0,I)$; it is not a fact
# about handwriting. The training bent the code to fit it.

# %% [markdown]
# Put yourself in the encoder's place: choose a digit, drag $\mu$ and $\sigma$ of $q(z\mid x)$ over the exact
# posterior, and make the gap to $\log p(x)$ small. Then look at what the encoder says. (Ten other images than above, so
# ten other gaps.) **Guess first:** is the best ellipse larger or smaller than the
# prior's circle?

# %% tags=["widget"]
with training.evaluating(vae2):
    digits = range(2 if budget == "smoke" else n_classes)
    candidates = [test_x[test_y == digit][:50] for digit in digits]
    spots = [vae2.encoder(x).mean for x in candidates]
    few = torch.stack([x[(z - z.median(0).values).norm(dim=1).argmin()] for x,
                       z in zip(candidates, spots, strict=True)])
    q = vae2.encoder(few)  # of each digit one that lies in the middle of its class
log_joint = lambda x, grid: vae.log_joint_on_grid(x, vae2.decoder, vae2.prior, grid.to(device))
widgets.posterior_lab(painter(vae2), few, log_joint, q.mean, q.stddev, labels=digits)

# %% [markdown]
# Much smaller, once the network is trained. The posterior of one image is a small spot: a few nats of KL mean that
# its code says clearly *where* in the plane the image belongs. Only together do the spots cover the circle.

# %% [markdown]
# ### Exercise 4.4 (2 points): the ELBO from raw numbers
# Write `bernoulli_elbo`: from binary images `x` `(B, D)`, the decoder's `logits` `(B, D)` for one draw of $z$, and
# `mu, log_var` `(B, L)` to the ELBO `(B,)` in nats. Sum over pixels and latents. No mean anywhere.

# %% exercise="4.4"

# %% tags=["check"]
check("4.4", bernoulli_elbo)

# %% [markdown] tags=["fold"]
# ### Going deeper: the ladder, by hand
# The importance-weighted numbers of this chapter come from one line in logarithms. Here it is yours.

# %% [markdown]
# #### Exercise 4.5 (2 points): a tighter bound
# Write `iwae_bound` from logarithms of importance weights `(k, B)` to $\log\frac1k\sum_i w_i$, `(B,)`. The weights of
# images are numbers like $e^{-150}$: stay in logarithms.

# %% exercise="4.5"

# %% tags=["check"]
check("4.5", iwae_bound)

# %% [markdown]
# ### Exercise 4.6 (3 points): build a VAE
# Write `small_vae`, about 20 lines: a class with three methods, and return one of it. No formula is new.
#
# 1. `encode(x)`: a network from 64 pixels to 4 numbers, cut into `mu` and `log_var` of two latents.
# 2. `decode(z)`: a network from 2 latents to 64 logits.
# 3. `elbo(x)`: encode, draw $z$ as in (4.9), decode, and put exercises 4.1, 4.2 and 4.4 together.
#
# The check does what section 4.6 did: it integrates over the latent plane, so it knows $\log p(x)$ and the KL from $q$
# to the posterior, and your ELBO must be the one minus the other. Then it trains your model for 600 steps on digits of
# 8×8 black-and-white pixels. On other digits $-\text{ELBO}$ must fall below 22 nats, with at most 20,000 weights.
# Independent pixels need 25.3.

# %% exercise="4.6"

# %% tags=["check"]
check("4.6", small_vae)

# %% [markdown]
# ## 4.7 Twenty latents
#
# Two numbers are few. With twenty the reconstructions become crisp and the bound improves by dozens of nats
# (the next cell prints by how many). The plane is gone, but what a latent means can be asked in other ways. The hidden units are SiLU, $a\,\sigma(a)$ with the
# logistic function $\sigma$: a ReLU without the kink, which ends a little lower after a long training.

# %%
vae20 = vae.mlp_vae(shape, hidden_dims=(400,), latent_dim=20, activation=nn.SiLU,
                    mean_image=mean_image)
fit(vae20, n_steps, "VAE, 20 latents", lr=4e-3, batch_size=128)
ae20 = autoencoder.mlp_autoencoder(shape, hidden_dims=(400,), latent_dim=20,
                                   mean_image=mean_image)
fit(ae20, n_steps // 2, "autoencoder, 20 latents", lr=2e-3)
elbo20, nll20 = evaluate(vae20, test_x)
# Bayes' wall, measured: 1,000 codes drawn blindly from the prior, as in section 4.2
with training.evaluating(vae20):
    blind = vae.importance_weighted_bound(test_x[:10],
                                          lambda x: vae20.prior().expand((len(x),)),
                                          vae20.decoder, vae20.prior, 1_000).mean().item()
    guided = vae20.importance_weighted_bound(test_x[:10], 1_000).mean().item()
print(f"log p(x) estimated with 1,000 draws: from the prior {blind:.0f}, from the encoder "
      f"{guided:.0f} nats")
print(f"−ELBO: 2 latents {elbo2:.1f}, 20 latents {elbo20:.1f} nats: {elbo2 - elbo20:.1f} "
      f"better")
record(vae20_elbo=elbo20, vae20_nll=nll20)

# %% [markdown] tags=["fold"]
# ### Going deeper: longer runs
# Longer runs, made with `course bench latent`, and yours in the last rows. The ELBO is a bound,
# so the importance-weighted number stands beside it ($k=200$; in your rows $k=100$, over the first test images only).
# A VQ-VAE (section 4.11) has no such number. For comparison: Burda et al. (2016) report 86.8 nats on MNIST for a VAE
# with 50 latents, after far more training. Never compare numbers from two data sets.

# %%
print(f"{'model':<43}{'data':<13}{'−ELBO':>8}{'−log p':>8}{'steps':>8}")
for name in ("handwriting", "mnist"):
    for row in shipped.results(f"latent_{name}.json")["rows"]:
        if "test_neg_elbo" in row:
            nll = f"{row['test_nll']:8.1f}" if "test_nll" in row else f"{'–':>8}"
            print(
                f"{row['title']:<43}{name:<13}{row['test_neg_elbo']:8.1f}{nll}"
                f"{row['n_steps']:8,}")
print(f"{'yours, 2 latents':<43}{data.name:<13}{elbo2:8.1f}{nll2:8.1f}{n_steps:8,}")
print(f"{'yours, 20 latents':<43}{data.name:<13}{elbo20:8.1f}{nll20:8.1f}{n_steps:8,}")

# %% [markdown]
# ### Samples, and two numbers for them
# A rival deserves its best known version. Chapter 03 drew an autoencoder's codes from a mixture of Gaussians that was
# fitted to them afterwards. So that is what the VAE with its prior $\mathcal N(0,I)$ has to beat. **Guess first:** does
# it?

# %%
def mixture_of(codes, n_components=50):
    """A mixture of full Gaussians fitted to codes (N, L), as in chapter 03."""
    n_components = min(n_components, len(codes) // 40)
    found = GaussianMixture(n_components, reg_covar=1e-3,
                            random_state=seed).fit(codes.double().cpu())
    parts = found.weights_, found.means_, found.covariances_
    return distributions.GaussianMixture(*(torch.as_tensor(part).to(codes) for part in parts))


n_drawn = {"smoke": 100, "class": 1_000, "full": 5_000}[budget]
with training.evaluating(vae20, ae20, vae2):
    x = test_x[:24]
    back = [model.decoder(model.encoder(x).mean).mean for model in (vae2, vae20)]
    fitted = mixture_of(ae20.encoder(images.to_float(data.train.images)))
    normal = vae20.decoder(vae20.prior().sample((n_drawn,)))
    drawn = {"autoencoder + mixture": ae20.decoder(fitted.sample((n_drawn,))).clamp(0, 1),
             "VAE, z from N(0, I)": normal.mean}
fig, axes = plt.subplots(2, 3, figsize=(9.6, 5.0))
sheets = {"test images": x, "back from 2 latents": back[0], "back from 20 latents": back[1],
          **drawn,
          "the same, pixels drawn": normal.sample()}
for ax, (title, sheet) in zip(axes.flat, sheets.items(), strict=True):
    plots.draw_images(ax, sheet[:24], columns=6, title=title)
plots.show(fig)
# alt: Reconstructions sharpen from 2 to 20 latents; samples of the autoencoder look like digits, many of the VAE do
# not.

# %%
# its last layer describes an image by 64 numbers: chapter 05 uses it too
reader = classifier.feature_network()
known_features = dataset if dataset == "mnist" else "handwriting"
training.load_weights(shipped.path(f"features_{known_features}.safetensors"),
                      reader.to(device))
train_grey, test_grey = (images.to_float(part.images) for part in (data.train, data.test))
real, other = test_grey[::2], test_grey[1::2]


def features(x):
    """(n, 64) features of 28×28 images; of any others, their pixels."""
    with training.evaluating(reader):
        return reader.features(x) if shape[-1] == 28 else x.flatten(1)


def judge(x):
    """Mean square to the nearest training image per pixel, Fréchet distance, coverage."""
    gaps = torch.cdist(x.flatten(1), train_grey.flatten(1)).square().amin(1) / n_pixels
    x, truth = features(x), features(real[:n_drawn])
    coverage = metrics.density_coverage(x, truth)[1]
    return gaps.mean().item(), metrics.frechet_distance(x, truth), coverage


# %%
def compare(samples):
    """Print what ``judge`` says of real images and of each; return the Fréchet distances."""
    print(f"{'':<24}{'nearest':>9}{'Fréchet':>9}{'coverage':>10}")
    found = {name: judge(x) for name,
             x in {"other real images": other[:n_drawn], **samples}.items()}
    for name, (near, frechet, covered) in found.items():
        print(f"{name:<24}{near:9.4f}{frechet:9.1f}{covered:10.2f}")
    return {name: frechet for name, (_, frechet, _) in found.items()}


compare(drawn)

# %% [markdown]
# *Nearest* is chapter 03's distance to the nearest training image. It is one-sided: a model that always draws the same
# good digit does well. So two numbers look the other way as well. Both compare sets of *features*, 64 numbers that a
# trained classifier computes from an image (chapter 05 explains them). The *Fréchet* distance compares mean and
# covariance of the samples' features with those of real images. *Coverage* is the share of real images that have a
# sample among what is close to them. The first row says what perfect samples would get.
#
# At the class budget the autoencoder with its mixture wins clearly. So what is the VAE good for? It has a number,
# $-\log p(x)$, that says how far it still has to go. And that number can be split into what is information and what is
# a *mismatch* between the codes and the prior. Twenty latents drawn independently often meet in places where no image
# ever was. Section 4.10 finds the mismatch and cures it, and the same table will look different.
#
# Papers usually print decoder *means*. The last panel shows real draws from $p_\theta(x)$: independent pixel noise on
# top.

# %% [markdown]
# Both trained models, in your hands. There are twenty latents; the sliders move the twelve whose codes vary most.
# **Guess first:** will a slider have a name, such as "slant"?

# %% tags=["widget"]
with training.evaluating(vae20, ae20):
    codes = {"VAE": vae20.encoder(test_x).mean, "AE": ae20.encoder(test_x)}
question = {"ask": "Guess first: what does one of the sliders of the VAE change?", "right": 2,
            "options": ["one pixel", "one property, such as slant",
                        "the whole shape, several properties at once"],
            "answer": "Every slider bends the whole image. The next figure measures which "
                      "properties it moves."}
widgets.latent_explorer({"VAE": painter(vae20), "AE": painter(ae20)}, codes, test_y,
                        shape=shape, question=question)

# %% [markdown]
# ### Which latent found which factor?
# Two of the notes disagree. One says that a VAE's $z$ carries no high-level meaning; the other, that moving $z$
# changes expression and pose. On MNIST this could be argued for ever. Here the true factors are known, so let us
# measure: the correlation of every latent with every factor, over the test images.

# %%
def correlations(z, factors):
    """Correlation of each column of z (N, L) with each column of factors (N, F): (L, F)."""
    z, factors = ((t - t.mean(0)) / t.std(0).clamp(min=1e-6) for t in (z, factors))
    return z.T @ factors / len(z)


if data.test.factors is None:
    print(f"{data.name} does not know its factors; this section needs dataset = 'handwriting'")
else:
    with training.evaluating(vae20):
        q = vae20.encoder(test_x)
        kl_each = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0)  # (L,) nats
    order = kl_each.argsort(descending=True)
    r = correlations(q.mean[:, order], data.test.factors[:, :5]).abs().cpu()
    fig, ax = plt.subplots(figsize=(8, 2.8))
    shown = ax.imshow(r.T.numpy(), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    ax.set_yticks(range(5), data.factor_names[:5])
    # the numbers of the sliders above
    ticks = [f"z{k + 1}\n{kl_each[k]:.1f}" for k in order.tolist()]
    ax.set_xticks(range(20), ticks, fontsize=8)
    ax.set(xlabel="latents, sorted by their mean KL [nats], below",
           title="Correlation |r| of latents and true factors")
    fig.colorbar(shown, label="|r|")
    plots.show(fig)
    # alt: Heat map of correlations: a few latents follow slant and pressure, most mix several factors.

# %%
if data.test.factors is not None:
    with training.evaluating(vae20):
        z = vae20.encoder(images.to_float(fixed.train.images)).mean
    # the map is fitted on the training images
    centre_z, centre_f = z.mean(0), data.train.factors[:, :5].mean(0)
    # (20, 5)
    linear_map = torch.linalg.pinv(z - centre_z,
                                   rtol=1e-4) @ (data.train.factors[:, :5] - centre_f)
    factors = data.test.factors[:, :5] - centre_f
    left = (factors - (q.mean - centre_z)
            @ linear_map).square().sum(0) / factors.square().sum(0)
    explained = {f"linear_{name}": 1 - value for name,
                 value in zip(data.factor_names, left.tolist(), strict=False)}
    record(best_slant_correlation=r[:, 0].max(), **explained)

# %% [markdown]
# Both notes are half right. The factors *are* in the code: a linear map reads slant and pressure from $z$ quite well
# (the recorded `linear_…` numbers are the shares of the test images' variance that it explains; zero or less means
# nothing). Of speed and neatness a linear map reads next to nothing. But the factors are not sorted into one latent
# each. Why not? Rotate $z$: the prior $\mathcal N(0, I)$ does not change, and a decoder that rotates back has the same
# evidence. So $\log p$ prefers no axes. The *bound* does, because our $q$ is diagonal: its axes are those of $z$. But what
# it prefers are directions in which the images vary with different strength, not slant or pressure as such (turned and
# measured below, under *Going deeper*; Rolínek et al. 2019). Whether a latent comes to mean a factor depends on whether
# the factor happens to lie along such a direction. Here mostly it does not.
#
# So a factor is a *direction* of its own. Find it with a few labelled images, and walk along it.

# %%
if data.test.factors is not None:
    with training.evaluating(vae20):
        z = vae20.encoder(images.to_float(fixed.train.images)).mean
        slant = data.train.factors[:, 0]
        # change of z per degree
        direction = ((z - z.mean(0)) * (slant - slant.mean())[:, None]).mean(0) / slant.var()
        chosen = torch.stack([vae20.encoder(test_x).mean[(test_y == digit).nonzero()[0, 0]]
                              for digit in (1, 4, 7)])
        steps = torch.tensor([-36.0, -24, -12, 0, 12, 24, 36], device=device)
        moved = chosen[:, None] + steps[:, None] * direction  # (3, 7, 20)
        sheet = vae20.decoder(moved.flatten(0, 1)).mean
    plots.show(plots.images(sheet, columns=7,
                            title="z moved by what −36° … +36° of slant mean on average",
                            width=5.5))
    # alt: Three digits, each leaning progressively further from left to right.

# %% [markdown]
# The digits lean, but by less than was asked. The direction is an average over all digits, and far from the codes the
# decoder does not continue the line. Slant is only roughly a straight direction: the linear map explains about two
# thirds of it.

# %% [markdown] tags=["fold"]
# ### Going deeper: which axes does the bound prefer?
# With a linear decoder the posterior is Gaussian and known (section 4.3), and so is the best diagonal $q$. So we can turn
# $z$ and look at $\log p$ and at the best bound.

# %%
def best_diagonal_elbo(x, W, b, sigma):
    """The ELBO of the best diagonal q: the posterior's mean, variances 1 / precision."""
    posterior = vae.linear_gaussian_posterior(x, W, b, sigma)
    precision = posterior.precision_matrix.diagonal(dim1=-2, dim2=-1)
    q = Independent(Normal(posterior.mean, precision.rsqrt()), 1)
    return vae.linear_gaussian_elbo(x, q, W, b, sigma).mean()


def turned(W):
    """W with its two latents turned by 0, 15, 30 and 45 degrees."""
    for a in torch.deg2rad(torch.tensor([0.0, 15, 30, 45])).tolist():
        turn = [[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]
        yield W @ torch.tensor(turn).double()


# %%
columns, b = torch.linalg.qr(torch.randn(6, 2).double()).Q, torch.zeros(6).double()
for lengths in ((3.0, 1.0), (2.0, 2.0)):  # of the two orthogonal columns
    W = columns * torch.tensor(lengths).double()
    x = vae.linear_gaussian_evidence(W, b, 0.7).sample((500,))
    bounds = torch.stack([best_diagonal_elbo(x, W, b, 0.7) for W in turned(W)])
    log_p = torch.stack([vae.linear_gaussian_evidence(W, b, 0.7).log_prob(x).mean()
                         for W in turned(W)])
    print(f"columns of length {lengths}: log p {log_p[0]:.3f}; best diagonal ELBO, turned by "
          "0°, 15°, 30°, 45°: " + ", ".join(f"{bound:.3f}" for bound in bounds))
    checks.close(log_p, log_p[:1].expand(4), what="log p does not notice the turn", rtol=1e-9)
    checks.close(bounds[0], log_p[0], what="along the columns a diagonal q is exact")
    if lengths[0] == lengths[1]:
        checks.close(bounds, log_p, what="equal lengths: no turn costs anything", rtol=1e-9)
    else:
        checks.true(bounds.diff() < 0, what="unequal lengths: each turn costs ELBO")

# %% [markdown]
# Along the columns of $W$ the posterior is diagonal, and a diagonal $q$ loses nothing. Every turn makes the latents of
# the posterior depend on each other, which a diagonal $q$ cannot say. $\log p$ does not notice. And where both columns
# have the same length there is nothing to prefer. So the axes that a diagonal encoder prefers are the *principal
# directions* of the decoder.

# %% [markdown] tags=["fold"]
# ### Going deeper: between two images
# A straight line in pixel space is a cross-fade: two half-transparent digits. A straight line in $z$ passes through
# images.

# %%
with training.evaluating(vae20):
    first, last = test_x[(test_y == 4).nonzero()[0]], test_x[(test_y == 9).nonzero()[0]]
    t = torch.linspace(0, 1, 9, device=device).view(-1, 1)
    z = (1 - t) * vae20.encoder(first).mean + t * vae20.encoder(last).mean
    t = t.view(-1, 1, 1, 1)
    sheet = torch.cat([(1 - t) * first + t * last, vae20.decoder(z).mean])
plots.show(plots.images(sheet, columns=9,
                        title="From a 4 to a 9: through pixels, and through z"))
# alt: Top: one digit fades while the other appears. Bottom: the digit changes its shape step by step.

# %% [markdown]
# Take the two handles yourself, in the plane of the two-latent model. **Guess first:** which pairs of digits have a
# third digit on the way?

# %% tags=["widget"]
with training.evaluating(vae2):
    codes = vae2.encoder(test_x).mean
    rows = [(test_y == digit).nonzero()[:, 0] for digit in range(n_classes)]
    off_centre = [(codes[row] - codes[row].median(0).values).norm(dim=1) for row in rows]
    central = [row[far.argsort()[:6]] for row, far in zip(rows, off_centre, strict=True)]
    chosen = torch.cat(central)  # of each class the six that lie in its middle
    codes = codes[chosen]
widgets.interpolation(painter(vae2), codes, test_x[chosen], test_y[chosen])

# %% [markdown]
# Those whose regions are not neighbours on the map of section 4.6: whatever lies between them, the straight line has
# to cross.

# %% [markdown] tags=["fold"]
# ### Going deeper: does it know what it does not know?
# The ELBO is a score for "does this look like the data". Give it things that are not digits: letters by the same
# hand, digits upside down, noise, blank paper. The number is the chance that a digit scores higher than the outsider
# (1 is perfect, ½ is a coin).

# %%
def elbo_of(x):
    with training.evaluating(vae20):
        return torch.stack([vae20.elbo(x) for _ in range(10)]).mean(0)


letters = handwriting.sample(500, glyphs="AEFHKMNRTWX", size=shape[-1], seed=seed + 1).images
outsiders = {"letters": images.binarise(images.to_float(letters)).to(device),
             "digits upside down": test_x[:500].flip(2),
             "noise": torch.rand(500, *shape, device=device).less(test_x.mean()).to(test_x),
             "blank paper": torch.zeros(500, *shape, device=device)}
inside = elbo_of(test_x[:500])
areas = {name: metrics.auroc(inside, elbo_of(x.expand(-1, *shape))) for name,
         x in outsiders.items()}
for name, value in areas.items():
    print(f"{name:<20} {value:.3f}")
record(outlier_auroc=areas["letters"])

# %% [markdown]
# Blank paper beats nearly every digit, as in chapter 01: it is not typical, but as a single image it is very
# probable. The ELBO bounds the log-probability of *one* image, and probable is not the same as typical.

# %% [markdown]
# ## 4.8 Which likelihood?
#
# For grey images take a Gaussian, $p(x\mid z) = \prod_i\mathcal N(x_i;\mu_i(z),\sigma_i^2)$. With one *fixed*
# $\sigma$ for all pixels,
#
# $$ -\log p(x\mid z) = \frac{1}{2\sigma^2}\,\|x-\mu(z)\|^2 + \frac D2\log 2\pi\sigma^2 , \tag{4.11} $$
#
# so the squared error of an autoencoder *is* a Gaussian likelihood with a hidden choice of $\sigma$. The choice
# matters: it sets the exchange rate between reconstruction and KL.
#
# **The bug of this chapter.** One of the sources prints as its loss the *mean* squared error over the pixels plus the
# KL summed over latents. Looks harmless. Compare with (4.11): $\frac1D\|x-\hat x\|^2$ is
# $\frac{1}{2\sigma^2}\|x-\hat x\|^2$ with $\sigma^2 = D/2 = 392$. The model believes that every pixel has noise of
# standard deviation 20, on a scale from 0 to 1. Nothing in an image is worth a single nat under such noise.

# %% verifies=["4.11"]
x, mean = torch.rand(3, 5).double(), torch.rand(3, 5).double()
direct = -FixedGaussianHead(nn.Identity(), 0.3)(mean).log_prob(x)
by_hand = (x - mean).square().sum(1) / (2 * 0.09) + 2.5 * math.log(2 * math.pi * 0.09)
checks.close(direct, by_hand, what="(4.11)")
believed = math.sqrt(n_pixels / 2)  # the sigma that a mean over the pixels implies
bug = vae.mlp_vae(shape, (400,), latent_dim=2, head=partial(FixedGaussianHead, scale=believed))
sane = vae.mlp_vae(shape, (400,), latent_dim=2, head=partial(FixedGaussianHead, scale=0.25))
grey = lambda x: x  # grey images go in as they are
curves = {name: fit(model, n_steps // 4, name, prepare=grey) for name, model in
          {"mean over pixels: σ² = D/2": bug, "σ = 0.25": sane}.items()}
grey_x = images.to_float(data.test.images)
with training.evaluating(bug, sane):
    sheet = torch.cat([grey_x[:10], bug.decoder(bug.encoder(grey_x[:10]).mean).mean,
                       sane.decoder(sane.encoder(grey_x[:10]).mean).mean])
plots.show(plots.images(sheet.clamp(0, 1), columns=10,
                        title="Images; with the bug; with σ = 0.25"))
# alt: The model with the bug shows the same blurry average for all digits; the other draws different blurred digits.
bug_kl, sane_kl = (curves[name]["kl"][-20:].mean()
                   for name in ("mean over pixels: σ² = D/2", "σ = 0.25"))
checks.true(bug_kl < 0.2, what=f"with the bug the code says nothing: KL {bug_kl:.3f} nats, "
                               f"against {sane_kl:.1f} with σ = 0.25")
record(bug_kl=bug_kl, sane_kl=sane_kl)

# %% [markdown]
# The KL of the buggy model is zero: the code says nothing, and every image gets the average. That is **posterior
# collapse**, and section 4.9 will predict it from a formula.

# %% [markdown]
# ### Exercise 4.7 (2 points): find the bug
# Here is that loss, with the missing $\frac12$ of another source on top. The mean over the pixels makes it an
# *unannounced* $\beta$: nobody decided how much a code may cost. Correct it: the negative ELBO of a Gaussian decoder
# with fixed `scale`, without the constant $\frac D2\log2\pi\sigma^2$, summed over pixels and latents, averaged over the
# batch. (Three things are wrong, and no line is right as it stands except the last.)

# %% exercise="4.7"
def negative_elbo(x, x_hat, mu, log_var, scale):
    reconstruction = (x - x_hat).square().mean()
    kl = (mu.square() + log_var.exp() - log_var - 1).sum(1)
    return (reconstruction + kl).mean()

# %% tags=["check"]
check("4.7", negative_elbo)

# %% [markdown] tags=["fold"]
# ### Going deeper: learned σ, and how it runs away
# Why not let the decoder learn a $\sigma_i(z)$ for every pixel? Some pixels are blank in *every* image. There the
# best $\sigma$ is zero, and the density $1/\sqrt{2\pi\sigma^2}$ grows without limit: the loss runs to $-\infty$ while
# nothing improves. There are two cures. Grey values come in 256 steps, so give each step a width of 1/256
# and add uniform noise of that width (**dequantise**): then no pixel is constant. And keep $\sigma\ge1/256$, because
# nothing finer exists.

# %%
def climb(head, draw):
    """Gradient ascent on log p of one pixel: its log-density after every step."""
    n_steps = 60 if budget == "smoke" else 600
    numbers = torch.zeros(1, 2, requires_grad=True)  # mu and log-variance
    optimizer = torch.optim.Adam([numbers], lr=0.05)
    # the pixel is blank in every image
    batches = iter(lambda: draw(torch.zeros(100, 1)), None)
    loss = lambda x: -head(numbers).log_prob(x).mean()
    return [-step.loss.item() for step in training.steps(loss, optimizer, batches, n_steps)]


# %%
free, floored = GaussianHead(nn.Identity()), GaussianHead(nn.Identity(), min_scale=1 / 256)
climbs = {"no cure": climb(free, lambda x: x), "dequantised": climb(free, images.dequantise),
          "σ ≥ 1/256": climb(floored, lambda x: x), "both": climb(floored, images.dequantise)}
fig, ax = plt.subplots(figsize=(6.5, 2.9))
for name, curve in climbs.items():
    ax.plot(curve, label=name)
ax.axhline(math.log(256), color="black", linestyle=":", label="log 256: a uniform bin")
ax.set(xlabel="training step", ylabel="log-density of the pixel [nats]",
       title="A density without a floor has no ceiling")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(fig)
# alt: The log-density of a blank pixel: without a cure a straight line upwards; with either or both it levels off.
checks.true(climbs["no cure"][-1] - climbs["no cure"][-41] > 0.8,
            what="no cure: at the end still 0.02 nats and more a step")
for name in ("dequantised", "σ ≥ 1/256", "both"):
    checks.true(sum(climbs[name][-50:]) / 50 < math.log(256),
                what=f"{name}: the mean stays below log 256")

# %% [markdown]
# Either cure stops the climb. Take both. Dequantising makes the number *mean* something: by Jensen, the mean of
# $\log p$ over the noise is at most the log of the mean of $p$ over the bin, which is the probability of the grey
# values, times 256 for each pixel (Theis et al. 2016). The floor keeps the climb calm. Without it $\sigma$ may become
# narrower than the bin, and then a draw beside it costs many nats at once: those are the spikes.

# %%
kept = vae.mlp_vae(shape, (100,), latent_dim=5, head=partial(GaussianHead, min_scale=1 / 256),
                   mean_image=mean_image)
firm = fit(kept, max(n_steps // 5, 60), "Gaussian pixels, learned σ",
           prepare=images.dequantise, lr=3e-3)
with training.evaluating(kept):
    likelihood_of = kept.decoder(kept.encoder(images.to_float(data.test.images[:5])).mean)
    sheet = torch.cat([images.to_float(data.test.images[:5]), likelihood_of.mean.clamp(0, 1),
                       likelihood_of.stddev / likelihood_of.stddev.max()])
plots.show(plots.images(sheet, columns=5, width=4,
                        title="Images; learned means; learned σ (dark is large)"))
# alt: Three rows: digits, blurred means, and the learned sigma: large wherever ink is possible.

# %% [markdown]
# ### Why are the samples blurry?
# Ask for the best Gaussian mean at a given $z$. The loss at that $z$ is a mean of $\|x-\mu\|^2$ over all images whose
# code may be $z$, and the best $\mu$ is their average, as with the constant input of chapter 03:
#
# $$ \mu^*(z) = \mathbb{E}_{q(x\mid z)}[x] , \qquad q(x\mid z)\propto q_\phi(z\mid x)\,p_{\text{data}}(x) . \tag{4.12} $$
#
# Images that share a code are averaged, and an average of sharp strokes is a blur. The same holds for a Bernoulli
# decoder. Let us compute (4.12) directly, without any decoder, and compare.

# %% verifies=["4.12"]
with training.evaluating(vae2):
    train_x = images.to_float(data.train.images)
    q_all = vae2.encoder(images.to_float(fixed.train.images))
    z = q_all.mean[:8]  # eight codes
    # q(x|z) over the training images, (8, N)
    responsibility = q_all.log_prob(z[:, None]).softmax(1)
    average = torch.einsum("bn,nchw->bchw", responsibility, train_x)
    decoded = vae2.decoder(z).mean
# 50 images, not equally frequent
toy_x, p_data = torch.randn(50, 4).double(), torch.rand(50).double().softmax(0)
q_toy = torch.rand(50, 3).double().softmax(1)  # q(z|x) over three codes
best = torch.zeros(3, 4).double().requires_grad_()  # μ(z): find the decoder by its loss alone
# E over x and z
lost = (p_data[:, None] * q_toy * (toy_x[:, None] - best).square().sum(2)).sum()
slope, = torch.autograd.grad(lost, best)
weight = p_data[:, None] * q_toy / (p_data @ q_toy)  # (4.12), a column for each z
# the loss is a parabola: one step ends at its bottom
newton = best.detach() - slope / (2 * (p_data @ q_toy))[:, None]
checks.close(newton, weight.T @ toy_x, what="(4.12): the best μ(z) is the mean over q(x|z)")
checks.fails(lambda: torch.allclose(newton, (q_toy / q_toy.sum(0)).T @ toy_x),
             what="weights that forget p_data(x) give the same")
rows = torch.cat([train_x[:8], average, decoded])
plots.show(plots.images(rows, columns=8,
                        title="An image; the mean of images that share its code; the decoder"))
# alt: Rows: sharp digits, averages over similar digits, and decoder outputs that mostly look like the averages.

# %% [markdown]
# Mostly the two lower rows agree. Where they do not, few images share the code: their average is sharp, but the decoder
# is a smooth network, trained for a short time, and draws what the neighbours need. (4.12) says what the *best*
# decoder draws.

# %% [markdown]
# ## 4.9 β: how much may a code cost?
#
# Multiply the KL by a number $\beta$ (Higgins et al. 2017). With $\beta>1$ information is expensive and the code
# keeps less; with $\beta<1$ it is cheap. The **rate** $R$ is the mean KL, in nats. The **distortion** $D$ (no longer
# the number of pixels) is the reconstruction error: the mean squared error in (4.13), the negative reconstruction
# term in nats further below. Each $\beta$ picks one point of the trade-off.
#
# For a *linear* VAE with fixed $\sigma^2$ the whole curve is known. Along each principal direction with eigenvalue
# $\lambda$ of the data covariance, the best code gives (write $v=\beta\sigma^2$)
#
# $$ R = \sum_i \tfrac12\Big(\log\frac{\lambda_i}{v}\Big)_{+} , \qquad D = \sum_i \min(\lambda_i, v), \qquad (a)_+ = \max(a, 0) . \tag{4.13} $$
#
# This picture is older than neural networks: *reverse water-filling* (Kolmogorov 1956; McDonald & Schultheiss 1964). Pour
# water to level $v$; what sticks out is coded. A direction with $\lambda_i\le v$ lies under water: **it dies**, its
# posterior is the prior.

# %%
# 6×6 pixels
small = nn.functional.adaptive_avg_pool2d(images.to_float(data.train.images[:2_000]), 6)
small = small.flatten(1).double().cpu()
*_, eigenvalues = autoencoder.pca(small, small.shape[1])
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.1))
level, n_bars = eigenvalues[4].item() * 0.9, 20
axes[0].bar(range(1, n_bars + 1), eigenvalues[:n_bars].tolist(), label="eigenvalue λ")
axes[0].bar(range(1, n_bars + 1), eigenvalues[:n_bars].clamp(max=level).tolist(),
            label="distortion min(λ, v)")
axes[0].axhline(level, color="black", linestyle=":", label="water level v = βσ²")
axes[0].set(xlabel="principal direction", ylabel="variance", title="Reverse water-filling",
            xticks=range(1, n_bars + 1, 3))
axes[0].legend()
levels = torch.logspace(math.log10(eigenvalues[0]), math.log10(eigenvalues[30]), 60).double()
R, D = torch.tensor([vae.water_filling(eigenvalues, v) for v in levels]).T
axes[1].plot(R, D)
axes[1].set(xlabel="rate R [nats]", ylabel="distortion D",
            title="Rate–distortion curve of a linear VAE")
plots.show(fig)
# alt: Left: eigenvalues as bars, filled with water to a level. Right: distortion falls as the rate grows.

# %% [markdown] tags=["fold"]
# ### Going deeper: where the water level comes from
# (There must be at least as many latents as directions with $\lambda_i>v$.) Why may each direction be treated alone?
# Rotate the images onto their principal directions. Squared error does not change, it is a sum over directions, and
# the directions are uncorrelated, which is all that a linear model can notice. That the best linear code then spends
# each latent on one direction, without mixing them, we take from Lucas et al. (2019); the check below trains all
# weights together and would see it if mixing paid.
#
# So take one direction, a number $x$ with variance $\lambda$. With code $z=ax+\tau\,\epsilon$ and decoder $wz$,
# minimise $\frac{1}{2\sigma^2}\mathbb{E}(x-wz)^2+\beta\,\mathrm{KL}$ over $a, \tau, w$. ($\sigma$ is the *decoder's*
# noise here, as in (4.11). The code's own noise, the $\sigma$ of section 4.4, is called $\tau$.) Divided by $\beta$
# this is $\frac{1}{2v}\mathbb{E}(x-wz)^2+\mathrm{KL}$: only the product $v=\beta\sigma^2$ matters.
#
# 1. The best $w$ is the regression slope $\mathbb{E}[xz]/\mathbb{E}[z^2]=a\lambda/(a^2\lambda+\tau^2)$. It
#   leaves the error $\lambda(1-\rho)$ with $\rho = a^2\lambda/(a^2\lambda+\tau^2)$, the share that the code explains.
# 2. Scale the code: multiply $a$ and $\tau$ by $c$. Then $\rho$ stays, and with $t=a^2\lambda+\tau^2$ the mean of
#   (4.7) is $\frac12(t-\log\tau^2-1)$, where $\tau^2=t(1-\rho)$. This is smallest at $t=1$: the codes together fill the prior
#   exactly. Its value there is $-\frac12\log(1-\rho)$.
# 3. So minimise $\frac{\lambda(1-\rho)}{2\sigma^2}-\frac\beta2\log(1-\rho)$ over $\rho$: the derivative vanishes at
#   $\lambda(1-\rho)=\beta\sigma^2=v$. That is the error, and the rate is
#   $-\frac12\log(1-\rho)=\frac12\log\frac\lambda v$.
#
# If $\lambda\le v$ that would need $\rho<0$: the best is $\rho=0$ and the direction dies.

# %%
def linear_vae_at(beta, variance, n_latents=7):
    """Train a linear VAE with this beta and sigma², without sampling; return its rate,
    distortion, living latents."""
    model = vae.linear_gaussian_vae(small.shape[1], n_latents, variance**0.5).double()
    encoder, decoder = model.encoder, model.decoder.network
    # many steps: a direction just below the level dies slowly
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300 if budget == "smoke" else 1_000,
        tolerance_change=1e-10, line_search_fn="strong_wolfe")

    def terms():
        q = encoder(small)
        noise = (q.variance @ decoder.weight.square().sum(0)).mean()
        rate = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0)
        return rate, autoencoder.squared_error(small, decoder(q.mean)).mean() + noise

    def closure():
        optimizer.zero_grad()
        rate, distortion = terms()
        loss = distortion / (2 * variance) + beta * rate.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    rate, distortion = terms()
    return rate.sum().item(), distortion.item(), (rate > 0.01).sum().item()


# %% verifies=["4.13"]
# set the level where a large step is
drops = (eigenvalues[:6] / eigenvalues[1:7]).argsort(descending=True)
drops = drops[: 1 if budget == "smoke" else 2]
for v in (eigenvalues[drops] * eigenvalues[drops + 1]).sqrt().tolist():
    rate, distortion, alive = linear_vae_at(2.0, v / 2)  # β = 2
    R, D = vae.water_filling(eigenvalues, v)
    checks.close(rate, R, what=f"v = {v:.3f}: rate {rate:.3f} nats as (4.13) predicts",
                 atol=0.02)
    checks.close(distortion, D, what=f"v = {v:.3f}: distortion {distortion:.3f} as predicted",
                 atol=0.02)
    checks.true(alive == (eigenvalues > v).sum(),
                what=f"{alive} directions live, the others died, as predicted")
(R, D), (R2, D2) = (vae.water_filling(eigenvalues, level) for level in (v, v * (1 + 1e-6)))
checks.close((D2 - D) / (R2 - R), -2 * v, what="(4.13): the slope of the curve is −2βσ²",
             rtol=1e-3)
*_, pixel_eigenvalues = autoencoder.pca(images.to_float(data.train.images).flatten(1),
                                        min(n_pixels, len(data.train)))
largest = pixel_eigenvalues[0].item()
checks.true(largest < n_pixels / 2,
            what=f"the bug of section 4.8: v = {n_pixels / 2:.0f}, the largest eigenvalue is "
            f"{largest:.1f}: every direction is dead")

# %% [markdown]
# #### Exercise 4.8 (1 point): how many latents survive?
# Write `n_active`: from eigenvalues `(D,)`, `beta` and the decoder's `scale` σ to the number of directions that a
# linear VAE with enough latents uses.

# %% exercise="4.8"

# %% tags=["check"]
check("4.8", n_active)

# %% [markdown]
# ### β on images
# Now the real, nonlinear thing: the same small network trained with several β.

# %%
betas = {"smoke": (1, 10), "class": (0.1, 0.3, 1, 3, 10, 30),
         "full": (0.1, 0.3, 1, 3, 10, 30)}[budget]
shelf = {}
for beta in betas:
    shelf[beta] = vae.mlp_vae(shape, (200,), latent_dim=2, beta=float(beta),
                              mean_image=mean_image)
    fit(shelf[beta], n_steps // 4, f"β = {beta}", lr=3e-3)
quantiles = Normal(0.0, 1.0).icdf(torch.linspace(0.03, 0.97, 11)).to(device)
plane = torch.cartesian_prod(-quantiles, quantiles).flip(1)
rates, distortions, manifolds = [], [], []
with training.evaluating(*shelf.values()):
    for model in shelf.values():
        reconstruction, kl = vae.elbo_terms(test_x, model.encoder, model.decoder, model.prior)
        rates.append(kl.mean().item())
        distortions.append(-reconstruction.mean().item())
        manifolds.append(model.decoder(plane).mean.view(11, 11, *shape))

# %%
fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.3), width_ratios=(1.25, 1, 1))
axes[0].plot(rates, distortions, marker="o")
for beta, *point in zip(betas, rates, distortions, strict=True):
    axes[0].annotate(f"β = {beta}", point, textcoords="offset points", xytext=(5, 5),
                     fontsize=8)
axes[0].set(xlabel="rate: mean KL [nats]", ylabel="distortion: −reconstruction [nats]",
            title="Rate and distortion")
axes[0].margins(0.25)
for ax, k in zip(axes[1:], (0, -1), strict=True):
    plots.draw_images(ax, manifolds[k].flatten(0, 1), columns=11,
                      title=f"the latent plane at β = {betas[k]}")
plots.show(fig)
# alt: Distortion falls steeply, then hardly, as the rate rises; at the largest beta the plane shows one blur
# everywhere.
for beta, rate, distortion in zip(betas, rates, distortions, strict=True):
    print(f"β = {beta:<5} rate {rate:6.2f}   distortion {distortion:7.2f}   sum, −ELBO "
          f"{rate + distortion:7.2f} nats")
record(shelf_low_rate=rates[-1], shelf_high_rate=rates[0])

# %% tags=["widget"]
widgets.beta_shelf(betas, torch.stack(manifolds), torch.tensor(rates),
                   torch.tensor(distortions))

# %% [markdown]
# Training minimises $D+\beta R$ (both in nats). At the best point a small step along the curve changes nothing,
# $\mathrm dD+\beta\,\mathrm dR=0$: so $\beta$ *is* the slope of the curve, with its sign turned. At $\beta=1$ one
# more nat of rate buys one nat less of distortion. And the bound? For $\beta\ge1$ we subtract more than the ELBO
# does, so the objective still lies below $\log p(x)$, only further below. For $\beta<1$ it bounds nothing. Large β
# gives smooth and poor samples. Small β lets codes cost more, but they leave the prior, and samples fall into holes
# again: the plane, which shows only the prior's region, then misses whole digits. On the true curve $D$ never rises
# with $R$. Where it does in your table (compare the two smallest β), the networks are not trained to the end.

# %% [markdown]
# ## 4.10 Where the bound leaks
#
# Two things keep the bound low. One is a $q$ that is not the posterior. The other is a prior that is not where the
# codes are. Call the mixture of all individual posteriors the **aggregate posterior**,
# $q(z)=\frac1N\sum_i q_\phi(z\mid x_i)$: where the codes of all images together lie. The mean KL pays for two things,
# for what the code says about $x$, and for the *mismatch* $\mathrm{KL}(q(z)\,\|\,p(z))$. The first is useful, the second
# pure waste. Both causes can be measured (under *Going deeper*), and the second has a cure.

# %% [markdown] tags=["fold"]
# ### Going deeper: two causes of the gap
# The gap $\mathrm{KL}(q\,\|\,p(z\mid x))$ has two causes. A Gaussian may be the wrong shape. And one network must
# guess for *all* images at once, which is called **amortisation**; for a single image one could do better. So take
# one image at a time and climb the ELBO in $\mu$ and $\log\sigma^2$ directly, with the decoder frozen.

# %%
def refine(model, x, n_steps=150):
    """The best Gaussian q for each image, found by gradient ascent from the encoder's
    guess."""
    with torch.no_grad():
        q = model.encoder(x)
    parameters = [q.mean.clone().requires_grad_(), q.variance.log().clone().requires_grad_()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)

    def objective(_):
        better = Independent(Normal(parameters[0], (parameters[1] / 2).exp()), 1)
        z = better.rsample((8,))
        log_p = model.decoder(z.flatten(0, 1)).log_prob(x.repeat(8, *[1] * (x.dim() - 1)))
        return kl_divergence(better.base_dist, Normal(0.0, 1.0)).sum(1).mean() - log_p.mean()

    for _ in training.steps(objective, optimizer, iter(int, 1), n_steps):
        pass
    return Independent(Normal(parameters[0].detach(), (parameters[1].detach() / 2).exp()), 1)


# %%
some = test_x[:n_exact]
better = refine(vae2, some)
with training.evaluating(vae2):
    refined = torch.stack([torch.sub(*vae.elbo_terms(some, lambda x: better, vae2.decoder,
                                                     vae2.prior)) for _ in range(200)])
refined = refined.mean(0)
gaps = {"amortisation: encoder → best Gaussian": refined - bound,
        "shape: best Gaussian → exact": exact - refined}
for name, values in gaps.items():
    print(f"{name:<40} median {values.median():5.2f}, mean {values.mean():5.2f}, largest "
          f"{values.max():5.2f} nats")
record(amortisation_gap=gaps["amortisation: encoder → best Gaussian"].median())

# %% [markdown]
# These are the images of section 4.6. The first line could be saved without touching the model: by more work per image,
# or a better encoder. The second cannot, whatever the encoder: it needs a richer family of $q$ (or a decoder whose
# posteriors are rounder, and training already pushes it there). Read it with care, though. The ascent starts from the
# encoder's guess. Where that guess sits beside the posterior, the ascent may end on a lower hill, and the largest
# number of the second line is then no matter of shape.

# %% [markdown] tags=["fold"]
# ### Going deeper: what the KL pays for
# Individual posteriors should *together* cover the prior. The mean KL splits into two parts with different meanings:
# insert $\log q(z)-\log q(z)$ under the mean,
#
# $$ \frac1N\sum_i\mathrm{KL}\big(q(z\mid x_i)\,\|\,p(z)\big)
#    = \underbrace{\mathbb{E}\Big[\log\frac{q(z\mid x)}{q(z)}\Big]}_{\text{information about } x} + \underbrace{\mathrm{KL}\big(q(z)\,\|\,p(z)\big)}_{\text{mismatch}} . \tag{4.14} $$
#
# The first part is useful. The second is pure waste: places where codes pile up, or where the prior promises images
# and no code ever goes.

# %% verifies=["4.14"]
mus = torch.tensor([-1.5, -0.4, 0.3, 2.0]).double()  # four posteriors
sds = torch.tensor([0.3, 0.5, 0.2, 0.6]).double()
axis = torch.linspace(-9, 9, 9_001).double()  # steps of 0.002
each = Normal(mus[:, None], sds[:, None]).log_prob(axis)  # log q(z|x_i), (4, G)


def split(log_aggregate):
    told = (each.exp() * (each - log_aggregate)).sum(1).mean() * 0.002
    to_prior = log_aggregate - Normal(0.0, 1.0).log_prob(axis)
    return told, (log_aggregate.exp() * to_prior).sum() * 0.002


whole = kl_divergence(Normal(mus, sds), Normal(0.0, 1.0)).mean()
told, waste = split(each.logsumexp(0) - math.log(4))
checks.close(told + waste, whole, what="(4.14), each part an integral of its own")
checks.true((0 < told) & (told < math.log(4)),
            what=f"four images: information {told:.2f} nats, at most log 4")
checks.fails(lambda: torch.allclose(sum(split(each.logsumexp(0))), whole),
             what="not divided by N, the parts make the KL too")

# %%
with training.evaluating(vae20, vae2):
    mismatch = {}
    for name, model in {"2 latents": vae2, "20 latents": vae20}.items():
        q = model.encoder(test_x[:500])
        z = q.rsample((4,))  # (4, N, L)
        log_q_x, log_prior = q.log_prob(z), model.prior().log_prob(z)
        pairs = q.log_prob(z.unsqueeze(2))  # log q(z of image i | x of image j), (4, N, N)
        log_q = pairs.logsumexp(2) - math.log(len(q.mean))
        information, waste = (log_q_x - log_q).mean().item(), (log_q - log_prior).mean().item()
        exact_kl = kl_divergence(q, model.prior()).mean()
        what = f"{name}: the draws' mean of log q(z|x) − log p(z) is the exact KL"
        checks.monte_carlo((log_q_x - log_prior).flatten(), exact_kl, what=what,
                           resolution=2.0)
        print(f"{name}: KL {exact_kl:.2f} ≈ information {information:.2f} + mismatch "
              f"{waste:.2f} nats "
              f"(information is at most log N = {math.log(len(q.mean)):.2f})")
        mismatch[name] = waste
record(aggregate_mismatch=mismatch["2 latents"])

# %% [markdown]
# With two latents most of the price is information and about a nat is waste: the codes reach clearly further out than
# the prior says (see the rings in section 4.6). The left side of each line is exact and the right side comes from
# four draws per image, so they agree only nearly. With twenty latents the split is at its limit: 500 images can
# differ by at most $\log 500 = 6.2$ nats, so what the line calls mismatch is only an upper bound there.

# %% [markdown]
# ### The cure: a prior that follows the codes
# The mismatch is a choice: we *chose*
# $p(z)=\mathcal N(0,I)$. Choose $p(z)=q(z)$ and it is gone. The aggregate posterior itself is a mixture of as many
# Gaussians as there are images. Fifty will do: draw one code from $q(z\mid x)$ for each *training* image and fit a
# mixture, as for the autoencoder. It becomes the prior; encoder and decoder stay as they are. (Its KL has no closed form
# any more, so `elbo_terms` takes $\log q(z\mid x)-\log p(z)$ at the draw, which is right on average.)

# %%
with training.evaluating(vae20):
    learned = mixture_of(vae20.encoder(images.to_float(fixed.train.images)).sample())
    # a prior is whatever returns p(z)
    cured = vae.VAE(vae20.encoder, vae20.decoder, lambda: learned)
    drawn["VAE, z from a mixture"] = cured.decoder(learned.sample((n_drawn,))).mean
cured_elbo, cured_nll = evaluate(cured, test_x)
print(f"prior N(0, I):     −ELBO {elbo20:6.2f}   −log p {nll20:6.2f} nats")
print(f"prior a mixture:   −ELBO {cured_elbo:6.2f}   −log p {cured_nll:6.2f} nats\n")
frechet = compare(drawn)
sheets = {name: drawn[name][:24] for name in ("VAE, z from N(0, I)", "VAE, z from a mixture")}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.7))
for ax, (title, sheet) in zip(axes, sheets.items(), strict=True):
    plots.draw_images(ax, sheet, columns=6, title=title)
plots.show(fig)
# alt: With codes from the normal prior many samples are no digits, with codes from the mixture nearly all are.
record(cured_elbo=cured_elbo, cured_nll=cured_nll,
       normal_frechet=frechet["VAE, z from N(0, I)"],
       cured_frechet=frechet["VAE, z from a mixture"])

# %% [markdown]
# The same decoder, with codes from where it was trained. The ELBO gains several nats, and as a bound on held-out images
# it is as honest as before: the mixture saw training images only. (The gain is at most the mismatch, so it also
# says how much of the KL at least was waste.) The samples improve with it.
#
# Is this not chapter 03's patch? The recipe is the same, the meaning is not. The autoencoder's mixture can be judged by
# its pictures only. Here it is one factor of $p_\theta(x)=\int p_\theta(x\mid z)\,p(z)\,\mathrm dz$, so $-\log p$ says
# in nats what it is worth. The prior may also be trained together with the rest, as the ELBO is a function of it too
# (Tomczak & Welling 2018; our `MixturePrior` is passed to `mlp_vae` for that). Then the posteriors and the prior
# meet half way.

# %% [markdown] tags=["fold"]
# ### Going deeper: holes
# The mismatch is a mean over *codes*. It sees codes that lie where the prior expects none. For holes one must ask the
# other way round: of what the *prior* draws, how much falls where hardly a code ever goes? Call a place a hole when
# $q(z)<p(z)/10$. In the plane the share of the prior's mass in holes can be measured, and drawn.

# %%
with training.evaluating(vae2):
    q = vae2.encoder(images.to_float(fixed.train.images[:5_000]))
    ticks = torch.linspace(-3.5, 3.5, 71, device=device)
    plane = torch.cartesian_prod(ticks, ticks)
    rows = [q.log_prob(part[:, None]).logsumexp(1) - math.log(len(q.mean))
            for part in plane.split(500)]
    log_p_z = vae2.prior().log_prob(plane)
    # log10 of q(z) / p(z)
    ratio = (torch.cat(rows) - log_p_z).div(math.log(10)).cpu().view(71, 71)
    mass = log_p_z.softmax(0).cpu().view(71, 71)
holes = mass[ratio < -1].sum().item()
fig, ax = plt.subplots(figsize=(5.4, 4))
shown = ax.imshow(ratio.T.clamp(-2, 2).numpy(), origin="lower", extent=(-3.55, 3.55) * 2,
                  cmap="RdBu", vmin=-2, vmax=2)
ax.contour(ticks.cpu(), ticks.cpu(), ratio.T.numpy(), levels=[-1], colors="black",
           linewidths=0.8)
for radius in (1, 2, 3):
    ax.add_patch(plt.Circle((0, 0), radius, fill=False, color="black", linestyle=":"))
ax.set(xlabel="$z_1$", ylabel="$z_2$",
       title=f"Holes (inside the lines, red): {holes:.1%} of the prior's draws")
fig.colorbar(shown, ax=ax, label="$\\log_{10}\\, q(z)/p(z)$")
plots.show(fig)
# alt: The plane, blue where codes are denser than the prior, red where hardly any code goes; black lines around holes.
record(prior_in_holes=holes)

# %% [markdown]
# Most of the mismatch is *blue*: codes that lie further out than the prior expects. Holes in the middle of the plane
# lie between the regions of the classes. A draw from the prior meets one rarely, with two latents. With twenty there
# is far more room for them, and no picture of it.

# %% [markdown] tags=["fold"]
# ### Going deeper: importance-weighted training
# Why not train on a tighter bound? The IWAE does: its loss is $-\mathcal L_k$. It costs $k$ decodings per step, so at
# equal *cost* it starts with a handicap, and with a short budget it loses. Given time it wins: Burda et al. (2016)
# report 1.6 nats with 50 draws.

# %%
k = 50 if budget == "full" and device.type == "cuda" else 5
iwae = vae.mlp_vae(shape, (200,), latent_dim=10)
n_iwae = {"smoke": 10, "class": 200, "full": 20_000}[budget]
fit(iwae, n_iwae, f"IWAE, k = {k}", lr=2e-3,
    objective=lambda x: -iwae.importance_weighted_bound(x, k).mean())
same_cost = vae.mlp_vae(shape, (200,), latent_dim=10)
# half: IWAE's k draws share one encoding
fit(same_cost, n_iwae * k // 2, "VAE, about the same cost", lr=2e-3)
judged = {"IWAE": evaluate(iwae, test_x), "VAE": evaluate(same_cost, test_x)}
for name, (minus_elbo, nll) in judged.items():
    print(f"{name:<5} −ELBO {minus_elbo:7.2f}   −log p, importance weighted {nll:7.2f} nats")
record(iwae_nll=judged["IWAE"][1], iwae_rival_nll=judged["VAE"][1])

# %% [markdown]
# ## 4.11 A code made of words: VQ-VAE
#
# So far a code was a vector of real numbers. Language has words instead. The **VQ-VAE** keeps a *codebook* of $K$
# vectors $e_1,\dots,e_K$. The encoder gives a small grid of vectors, each is replaced by the nearest word, and the
# decoder sees only words. The code of an image is a grid of integers, and over *integers* we have an excellent family
# of models: the PixelCNN of chapter 02. It becomes the prior.
#
# Rounding to the nearest word has derivative zero almost everywhere. The **straight-through** estimator looks away:
# forward it gives the word, backward it passes the gradient on as if nothing had happened. With $\mathrm{sg}$ for
# "stop gradient",
#
# $$ \begin{aligned}
#    z_q &= z_e + \mathrm{sg}(e_k - z_e), \qquad k=\arg\min_j\|z_e-e_j\|^2 , \\
#    \text{loss} &= -\log p(x\mid z_q) + \tfrac14\|z_e-\mathrm{sg}(e_k)\|^2 .
#    \end{aligned} \tag{4.15} $$
#
# ($k$ is a word here, no longer a number of draws.) The last term, *commitment*, keeps the encoder near its words.
# The words follow as running averages of the vectors that chose them, and a word that nobody chooses is moved onto a
# random vector.
#
# And the bound? The posterior is a single point: $q(k\mid x)=1$ for the words chosen. Its entropy is zero, so (4.5)
# becomes
#
# $$ \log p(x) \ge \log p(x\mid k) + \log p(k), \qquad k = \text{words of } x . \tag{4.16} $$
#
# Indeed $\mathrm{KL}(q\,\|\,p)=1\cdot\log\frac{1}{p(k)}=-\log p(k)$: the KL has become the code length of the words
# under the prior.
#
# Why might this help against blur? The factorised prior $\mathcal N(0,I)$ forces codes to be cheap, so images must
# share them and are averaged. A grid of words may cost many nats and leave little to average, *if* the prior is
# strong enough to know which grids occur. Watch the random words below: without that prior the code is worth nothing.

# %% quote="course_utils.models.vqvae:straight_through"

# %%
n_words = 16
vq = vqvae.conv_vqvae(shape, n_words=n_words, width=24, word_width=16)
vq_history = fit(vq, {"smoke": 40, "class": 500, "full": 20_000}[budget], "VQ-VAE", lr=3e-3,
                 batch_size=64,
                 objective=vqvae.with_averaging(vq))
with training.evaluating(vq):
    train_codes = torch.cat([vq.encode(part)[0]
                             for part in images.to_float(fixed.train.images).split(500)])
    x = test_x[:10]
    sheet = torch.cat([x, vq.decode(vq.encode(x)).mean])
    rebuilt = {"VQ-VAE": vq.decode(vq.encode(test_x[:500])).mean,
               "VAE, 20 latents": vae20.decoder(vae20.encoder(test_x[:500]).mean).mean}
grid = tuple(train_codes.shape[1:])
use = vqvae.perplexity(train_codes, n_words)
print(f"{grid[0]}×{grid[1]} words out of {n_words} for an image; effective number in use: "
      f"{use:.0f}")
sharp = {name: metrics.sharpness(x) / metrics.sharpness(test_grey[:500]) for name,
         x in rebuilt.items()}
for name, value in sharp.items():
    print(f"sharpness of reconstructions over that of grey test images: {name:<16}{value:.2f}")
plots.show(plots.images(sheet, columns=10,
                        title=f"Images, and what {grid[0] * grid[1]} words say about them"))
# alt: Ten black-and-white digits and below them their reconstructions from a grid of words.

# %% [markdown]
# Now the prior. A word number below 16 is four bits, so a grid of words is a small *binary image with four channels*,
# and chapter 02's PixelCNN takes it as it is.

# %%
def pixelcnn_over(grid, n_words, given=None):
    """A PixelCNN that takes a grid of words as a small binary image."""
    shape = vqvae.WordsAsBits.image_shape(n_words, grid)
    return vqvae.WordsAsBits(PixelCNN(shape, width=48, n_blocks=3, first=5, given=given),
                             n_words)


def fit_prior(prior, codes, description):
    """Train a prior on the words of the training images, a tuple of grids."""
    n_prior = {"smoke": 20, "class": 500, "full": 10_000}[budget]
    prior.to(device)

    def train():
        optimizer = torch.optim.Adam(prior.parameters(), lr=4e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_prior)
        rows = iter(lambda: torch.randint(len(codes[0]), (32,), device=device), None)
        batches = ([grid[row] for grid in codes] for row in rows)
        return training.fit(prior.loss, optimizer, batches, n_prior, description=description,
                            scheduler=schedule)

    training.cached(description, prior, train)


# %%
prior = pixelcnn_over(grid, n_words)
fit_prior(prior, (train_codes,), "PixelCNN over words")
joint = vqvae.WithPrior(vq, prior)
with training.evaluating(joint):
    vq_elbo = torch.cat([joint.elbo(part) for part in test_x[:500].split(100)]).mean()
    some_words = vq.encode(test_x[:500])
    parts = vq.decode(some_words).log_prob(test_x[:500]), prior.log_prob(some_words)
    parts = [part.mean() for part in parts]
    from_prior, uniform = prior.sample(20), (torch.randint(n_words, (20, *grid),
                                                           device=device),)
    sheets = [vq.decode(codes).mean for codes in (uniform, from_prior)]
print(f"bound in nats: {vq_elbo:.1f} = reconstruction {parts[0]:.1f} + words {parts[1]:.1f};  "
      f" VAE with 20 latents: {-elbo20:.1f}")
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
for ax, sheet, title in zip(axes, sheets, ("random words", "words from the PixelCNN"),
                            strict=True):
    plots.draw_images(ax, sheet, columns=5, title=title)
plots.show(fig)
# alt: Random words decode to rubble; words from the PixelCNN prior decode to connected strokes, some of them digits.
record(vq_elbo=-vq_elbo, vq_words_in_use=use)

# %% [markdown]
# As a bound the VQ-VAE loses here: a posterior of one point pays for every word in full. What does it buy? Compare the
# two lines of sharpness (how much neighbouring pixels differ, 1 for the grey test images) and the two terms of the
# bound. On images this small and after so short a training the words give somewhat harder edges, for a code that costs
# far more than the twenty latents. So this page does not show that words cure blur. It shows where the work goes: to
# the prior. A weak prior is seen at once, its samples are strokes, but few are digits. The famous sharp pictures come
# from photographs of many more words, and a prior trained far longer (Razavi et al. 2019).

# %% [markdown] tags=["fold"]
# ### Going deeper: the quantiser, checked
# The gradient of a rounding is a convention, so all the more reason to check that the loss does what (4.15) says, and
# that (4.16) is a bound. Then write the rounding yourself.

# %% verifies=["4.15"]
z_e, words = torch.randn(6, 3).double().requires_grad_(), torch.randn(5, 3).double()
z_q = words[vqvae.nearest_word(z_e, words)]
slope = torch.randn(6, 3).double()
loss = (vqvae.straight_through(z_e, z_q) * slope).sum()
(loss + 0.25 * vqvae.commitment(z_e, z_q).sum()).backward()
checks.close(z_q, words[torch.cdist(z_e.detach(), words).argmin(1)],
             what="(4.15): the nearest word")
checks.close(vqvae.straight_through(z_e, z_q), z_q, what="(4.15): forward, it is the word")
checks.close(z_e.grad, slope + 0.5 * (z_e.detach() - z_q),
             what="(4.15): the gradient passes, plus the commitment", rtol=1e-9)

# %% verifies=["4.15"]
# a small model, its decoder N(z_q, ½): does its loss do the same?
encoder = nn.Conv2d(2, 3, 1).double()
model = vqvae.VQVAE(encoder, FixedGaussianHead(nn.Conv2d(3, 2, 1).double(), 0.5**0.5),
                    vqvae.Codebook(4, 3).double())
x = torch.rand(6, 2, 2, 2).double()
got = torch.autograd.grad(model.loss(x)["loss"], list(encoder.parameters()))
z_e = encoder(x)
z_q = model.codebook(z_e)[0].detach().requires_grad_()
near = torch.cdist(z_e.movedim(1, -1).flatten(0, 2), model.codebook.words).amin(1)
checks.close((z_e - z_q).square().sum(1).flatten(), near.square(),
             what="(4.15): the codebook gives the nearest word")
# what the decoder sends to its input
(slope,) = torch.autograd.grad(-model.decoder(z_q).log_prob(x).mean(), z_q)
stand_in = (slope * z_e).sum() + 0.25 * (z_e - z_q.detach()).square().sum() / len(x)
for ours, theirs in zip(got, torch.autograd.grad(stand_in, list(encoder.parameters())),
                        strict=True):
    checks.close(ours, theirs, what="(4.15): so it is in the loss that is trained", rtol=1e-9)

# %% verifies=["4.16"]
# 4×4 pixels: one word an image
few = vqvae.conv_vqvae((1, 4, 4), n_words=8, width=4, word_width=3).double()
nn.init.normal_(few.codebook.words)
for weight in few.parameters():
    nn.init.normal_(weight)
log_p_word = torch.randn(8).double().log_softmax(0)
word_prior = SimpleNamespace(log_prob=lambda codes: log_p_word[codes[0].flatten(1)].sum(1))
x, every = torch.rand(20, 1, 4, 4).double().round(), torch.arange(8).view(8, 1, 1)
few.codebook.words.copy_(few.encoder(x[:8]).detach().flatten(1))  # so images choose many words
with torch.no_grad():
    bound_vq = vqvae.WithPrior(few, word_prior).elbo(x)
    chosen = few.encode(x)[0].flatten()
    # (20, 8)
    table = torch.stack([few.decode((every,)).log_prob(one.expand(8, 1, 4, 4))
                         for one in x]) + log_p_word
checks.true(bound_vq <= table.logsumexp(1),
            what="(4.16) is a lower bound: p(x) is a sum over eight words")
log_posterior = table.log_softmax(1)[torch.arange(20), chosen]
checks.close(table.logsumexp(1) - bound_vq, -log_posterior,
             what="its gap is −log p(k|x), the KL from a point", rtol=1e-9)

# %% [markdown]
# #### Exercise 4.9 (2 points): forward and backward of a quantiser
# Write `quantise`: given encoder outputs `z_e` `(N, D)`, the words `(K, D)`, and the gradient that the decoder sends
# back for each word, `(N, D)`, return `(z_q, gradient at z_e)` of (4.15), with commitment weight ¼.

# %% exercise="4.9"

# %% tags=["check"]
check("4.9", quantise)

# %% [markdown] tags=["fold"]
# ### Going deeper: two levels
# VQ-VAE-2 uses two grids. A small *top* grid for what is global, and a larger *bottom* grid, encoded given the top,
# for the detail. The prior follows: $p(\text{top})\,p(\text{bottom}\mid\text{top})$, a PixelCNN for each. The second
# one is *given* the top words: they are embedded, enlarged to the size of the bottom grid, and added to the features
# at every place. Nothing there needs a mask, since the top grid is drawn before.

# %%
n_few = 8  # with more words the bottom grid could say everything alone
two = vqvae.two_level_vqvae(shape, n_words=n_few, width=24)
fit(two, {"smoke": 10, "class": 400, "full": 20_000}[budget], "VQ-VAE, two levels", lr=3e-3,
    batch_size=64,
    objective=vqvae.with_averaging(two))
with training.evaluating(two):
    top, bottom = two.encode(test_x[:10])
    other_top = top.roll(1, 0)
    both_grids, wrong_top = two.decode((top, bottom)), two.decode((other_top, bottom))
    cost = (both_grids.log_prob(test_x[:10]) - wrong_top.log_prob(test_x[:10])).mean().item()
    sheet = torch.cat([test_x[:10], both_grids.mean, wrong_top.mean])
grids = [tuple(top.shape[1:]), tuple(bottom.shape[1:])]
with training.evaluating(two):
    parts = zip(*[two.encode(part) for part in images.to_float(fixed.train.images).split(500)],
                strict=True)
    two_codes = tuple(torch.cat(part) for part in parts)
for name, words, size in zip(("top", "bottom"), two_codes, grids, strict=True):
    used = vqvae.perplexity(words, n_few)
    print(f"{name:<7}{size[0]}×{size[1]} words out of {n_few}; effective number of words in "
          f"use: {used:.1f}")
print(f"the top words of another image cost {cost:.0f} nats of reconstruction")
plots.show(plots.images(sheet, columns=10,
                        title="Images; both grids; the bottom grid with another image's top"))
# alt: Row 2 reconstructs row 1; row 3 shows what changes when only the top words are exchanged.

# %%
given_top = vqvae.WordsFromAbove(n_few, 48, grids[1][0])
two_prior = vqvae.TopThenBottom(pixelcnn_over(grids[0], n_few),
                                pixelcnn_over(grids[1], n_few, given=given_top))
fit_prior(two_prior, two_codes, "PixelCNNs over two grids")
both = vqvae.WithPrior(two, two_prior)
with training.evaluating(both):
    two_elbo = torch.cat([both.elbo(part) for part in test_x[:500].split(100)]).mean()
    some_words = two.encode(test_x[:500])
    seen = two_prior.bottom.log_prob(some_words[1:], y=some_words[0]).mean()
    blind = two_prior.bottom.log_prob(some_words[1:], y=some_words[0].roll(1, 0)).mean()
    sheet = two.decode(two_prior.sample(20)).mean
print(f"bound in nats: two levels {two_elbo:.1f}, one level {vq_elbo:.1f}")
print(f"the bottom words cost {-seen:.1f} nats given their own top words, {-blind:.1f} given "
      f"those of another image")
plots.show(plots.images(sheet, columns=10,
                        title=f"Two levels: samples; bound {two_elbo:.1f} nats"))
# alt: Twenty samples of the two-level VQ-VAE with its PixelCNN prior.
record(two_level_elbo=-two_elbo)

# %% [markdown]
# Three numbers say how the work is shared. The top words of another image cost some nats of reconstruction: that much
# the decoder learns from the top alone. The bottom words cost more nats under another image's top: that much of the
# bottom is foretold by the top. And the two bounds, side by side. (Not quite a fair race: one level has 16 words for
# each place, two levels 8.) VQ-VAE-2 was made for large photographs, where much more is only global than on 28×28
# pixels.

# %% [markdown]
# ## What to remember
#
# * A latent-variable model needs $\int p(x\mid z)p(z)\,dz$. It can be done for one or two latents, for linear
#   models, and for a discrete $z$ with few values. Otherwise it must be bounded or estimated.
# * $\log p(x) = \mathrm{ELBO} + \mathrm{KL}(q\,\|\,p(z\mid x))$. The ELBO is reconstruction minus the price of the
#   code, and more samples tighten it.
# * Reparameterise: put the randomness outside, and gradients flow through the draw.
# * Sum over pixels and latents. A mean in one place and a sum in the other is an unannounced β, and can kill the
#   code.
# * A latent dies when what it could say is worth less than it costs: $\lambda\le\beta\sigma^2$, with the
#   decoder's $\sigma$.
# * Factors become *directions* in $z$, seldom single latents. $\log p$ prefers no axes. A diagonal $q$ does: principal
#   directions, which need not be factors.
# * The prior is a choice too. A mixture fitted to the codes takes nats off the bound and mends the samples.
# * Averages are blurry. A code that may cost more leaves less to average, if a strong prior knows which codes occur
#   (VQ-VAE).
#
# **The question this leaves:** who chose a pixel-by-pixel loss, the one that likes averages? Chapter 05 lets a second
# network *learn* the loss.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * D. P. Kingma, M. Welling, *Auto-encoding variational Bayes*, 2014, arXiv:1312.6114. D. J. Rezende, S. Mohamed, D.
#   Wierstra, *Stochastic backpropagation and approximate inference in deep generative models*, 2014, arXiv:1401.4082.
# * R. Williams, *Simple statistical gradient-following algorithms for connectionist reinforcement learning*, Machine
#   Learning 8, 1992 (the score-function gradient, REINFORCE).
# * M. Tipping, C. Bishop, *Probabilistic principal component analysis*, JRSS B 61, 1999.
# * Y. Burda, R. Grosse, R. Salakhutdinov, *Importance weighted autoencoders*, 2016, arXiv:1509.00519.
# * I. Higgins et al., *β-VAE*, ICLR 2017. A. Alemi et al., *Fixing a broken ELBO*, 2018, arXiv:1711.00464. J. Lucas
#   et al., *Don't blame the ELBO!*, 2019, arXiv:1911.02469. A. Kolmogorov, *On the Shannon theory of information
#   transmission in the case of continuous signals*, IRE Trans. Inf. Theory 2, 1956. R. McDonald, P. Schultheiss,
#   *Information rates of Gaussian signals under criteria constraining the error spectrum*, Proc. IEEE 52, 1964.
# * M. Hoffman, M. Johnson, *ELBO surgery*, 2016. C. Cremer, X. Li, D. Duvenaud, *Inference suboptimality in VAEs*,
#   2018, arXiv:1801.03558. J. Tomczak, M. Welling, *VAE with a VampPrior*, 2018, arXiv:1705.07120. M. Rolínek, D.
#   Zietlow, G. Martius, *Variational autoencoders pursue PCA directions (by accident)*, 2019, arXiv:1812.06775.
# * B. Uria, I. Murray, H. Larochelle, *RNADE*, 2013, arXiv:1306.0186, and L. Theis, A. van den Oord, M. Bethge, *A note
#   on the evaluation of generative models*, 2016, arXiv:1511.01844 (dequantisation).
# * A. van den Oord, O. Vinyals, K. Kavukcuoglu, *Neural discrete representation learning*, 2017, arXiv:1711.00937.
#   A. Razavi, A. van den Oord, O. Vinyals, *Generating diverse high-fidelity images with VQ-VAE-2*, 2019,
#   arXiv:1906.00446. Y. Bengio, N. Léonard, A. Courville, *Estimating or propagating gradients through stochastic
#   neurons*, 2013, arXiv:1308.3432 (straight-through).
