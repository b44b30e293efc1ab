# %% [markdown]
# # 7. Diffusion and flow matching
#
# **One question runs through this chapter: must a path from noise to data be invertible layer by layer?**
#
# Chapter 06 paid for its exact density with layers that can be undone. Here we take another way round. Destroying an
# image needs no learning at all: add a little noise, again and again, until nothing is left. If each small step could be
# taken back, we would have a generator. It turns out that one network, trained by squared error, takes all of them back;
# that its best answer is known in closed form where the data are; and that the path it walks is invertible after all,
# though nobody built it so.
#
# The notes behind this course stop at the words "reverse process". Everything after them is written here, and every key
# equation is run on a density where the true answer is known.
#
# You need: Gaussians and KL divergence (chapter 01), the denoiser at the end of chapter 03, the bound of chapter 04, and
# conservation of mass from chapter 06. The core path takes about {minutes} minutes. Sections marked *Going deeper* start
# folded.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, mnist
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as kl_of

import course_utils.expect as expect
from course_utils import checks, metrics, plots, shipped, training, widgets
from course_utils.chapter import pick_budget, pick_device, record
from course_utils.data import images
from course_utils.distributions import GaussianMixture
from course_utils.exercises import check, reveal, score
from course_utils.models import autoencoder, classifier
from course_utils.models.diffusion import flow_matching, process, samplers, schedule

# %%
plots.style()
device = pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_train = {"smoke": 500, "class": 8_000, "full": None}[budget]
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
shape, n_pixels = data.shape, math.prod(data.shape)
train_x, test_x = images.to_float(data.train.images), images.to_float(data.test.images)
print(f"budget {budget} on {device}: {len(train_x):,} training images of {data.name}")

# %% [markdown]
# ## 7.1 Adding noise, by a fixed rule
#
# Take a data point $x_0$ and damage it in $T$ small steps. Step $t$ shrinks what is there and adds fresh noise. (A model
# that takes such a chain back is a *denoising diffusion probabilistic model*, or **DDPM** after the paper by Ho, Jain and
# Abbeel.)
#
# $$ q(x_t\mid x_{t-1}) = \mathcal N\big(x_t;\ \sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big) , \qquad 0<\beta_t<1 . \tag{7.1} $$
#
# The $\beta_t$ are **fixed numbers**, chosen before any training. (One of our sources calls them normally distributed.
# They are variances *of* normal noise, and nothing about them is random.) The path has the density
# $q(x_{1:T}\mid x_0)=\prod_t q(x_t\mid x_{t-1})$. Why shrink? So that the size stays put: if $x_{t-1}$ has variance 1,
# then $x_t$ has $(1-\beta_t)+\beta_t = 1$.
#
# Nobody wants to run $t$ steps to get one noisy image. Two steps can be merged. Write $\alpha_t=1-\beta_t$ and put one
# step into the next:
#
# $$ x_2=\sqrt{\alpha_2}\big(\sqrt{\alpha_1}x_0+\sqrt{1-\alpha_1}\,\epsilon_1\big)+\sqrt{1-\alpha_2}\,\epsilon_2 . $$
#
# The two noises are independent, so their sum is Gaussian again and the variances add:
# $\alpha_2(1-\alpha_1)+(1-\alpha_2)=1-\alpha_1\alpha_2$. The same happens at every later step. With
# $\bar\alpha_t=\prod_{i\le t}\alpha_i$,
#
# $$ x_t = \sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\;\epsilon, \qquad \epsilon\sim\mathcal N(0,I) . \tag{7.2} $$
#
# We index from $0$ to $T$ with $\bar\alpha_0=1$: no noise at time 0. One number says how much is left at time $t$, the
# **signal-to-noise ratio** $\mathrm{SNR}(t)=\bar\alpha_t/(1-\bar\alpha_t)$.

# %% quote="course_utils.models.diffusion.process:q_sample"

# %% [markdown]
# Our exact world is a mixture of two Gaussians on a line. Noise turns a mixture into a mixture: the means shrink, the
# variances move towards 1. So its density at every time is known. Run the steps of (7.1) one after another and compare
# with (7.2), not only in mean and variance but in the whole distribution.

# %%
weights, means, variances = torch.tensor([[0.3, 0.7], [-1.4, 0.6], [0.02, 0.05]]).double()
world = GaussianMixture(weights, means, variances)
levels = schedule.linear_schedule(1_000)  # the schedule of DDPM: beta from 0.0001 to 0.02
line = torch.linspace(-6, 6, 12_001).double()  # a fine grid, steps of 0.001
twentieths = torch.linspace(0.05, 0.95, 19).double()
fair = torch.full((20,), 0.05)  # twenty parts of equal probability


def cut(log_p):
    """The 19 places that cut a density on the line into twenty parts of equal probability."""
    return line[torch.searchsorted((log_p.exp() * 0.001).cumsum(0), twentieths)]


# %% verifies=["7.1", "7.2"]
x_0 = torch.full((20_000,), 1.3).double()
x, short = x_0, schedule.linear_schedule(50, 0.002, 0.05)
for t in range(1, 51):  # (7.1), fifty times
    x = (1 - short.beta[t]).sqrt() * x + short.beta[t].sqrt() * torch.randn_like(x)
end = Normal(short.alpha_bar[50].sqrt() * 1.3, (1 - short.alpha_bar[50]).sqrt())  # (7.2)
checks.monte_carlo(x[:, None], end.mean[None], what="(7.1) fifty times has the mean of (7.2)")
spread = (x - end.mean).square()[:, None]
checks.monte_carlo(spread, end.variance[None], what="and its variance")
parts = torch.bincount((end.cdf(x) * 20).long().clamp(0, 19), minlength=20)
checks.frequencies(parts, fair, what="its twenty equal parts are hit alike")
left = levels.alpha_bar[300]
drawn = process.q_sample(world.sample((20_000,)), left, torch.randn(20_000).double())
edges = cut(world.noised(left.item()).log_prob(line))
parts = torch.bincount(torch.bucketize(drawn, edges), minlength=20)
checks.frequencies(parts, fair, what="(7.2) on the mixture draws the noised mixture")

# %%
fig, axes = plt.subplots(1, 6, figsize=(9.6, 2.1), sharey=True)
for ax, t in zip(axes, (0, 20, 100, 250, 500, 1_000), strict=True):
    now = world.noised(levels.alpha_bar[t].item())
    ax.fill_between(line, now.log_prob(line).exp(), color=plots.PALETTE[0], alpha=0.4)
    ax.plot(line, Normal(0.0, 1.0).log_prob(line).exp(), color=plots.PALETTE[3], lw=1, ls="--")
    ax.set(title=f"$t = {t}$", xlabel="$x_t$", xlim=(-3, 3))
axes[0].set(ylabel="density", ylim=(0, 1.4))
plots.show(fig)
# alt: Two bumps melt into one bell. The dashed standard normal fits the last frame.

# %%
shown, noise = 2 * test_x[:6] - 1, torch.randn_like(test_x[:6])  # pixels from -1 to 1
times = (0, 50, 100, 200, 300, 500, 1_000)
film = [process.q_sample(shown, levels.alpha_bar[t].float(), noise) for t in times]
sheet = torch.stack(film, 1).flatten(0, 1)  # six images, seven times
title = "The same images and the same noise, at t = " + ", ".join(map(str, times))
plots.show(plots.images((0.5 + sheet / 5).clamp(0, 1), columns=7, width=5.2, title=title))
# alt: Six digits, from clean on the left to pure noise on the right.

# %% [markdown]
# ### Which schedule?
# Any falling $\bar\alpha_t$ will do, and choices differ in where they spend their steps. *Linear* takes $\beta_t$ in equal
# steps. *Cosine* moves $(\sqrt{\bar\alpha},\sqrt{1-\bar\alpha})$ along a quarter circle at constant speed. *Shifted* multiplies
# every SNR by one factor: a large image repeats itself from pixel to pixel and stays readable under noise that has long
# drowned a small one, so it needs more.
#
# **Why zero terminal SNR?** Sampling starts from pure noise, $\mathcal N(0,I)$. The linear schedule ends at
# $\sqrt{\bar\alpha_T}=0.0064$: a little of the image is still there in training and is missing in sampling. In one pixel that is
# nothing. But the mean of the noise over the 786,432 numbers of a 512×512 photograph has a standard error of 0.0011, so there
# its mean brightness still shows. A schedule that really ends at 0 cures it, and forbids predicting noise there: from $\epsilon$ one reads $x_0$ by dividing by $\sqrt{\bar\alpha_T}$, which is 0.

# %%
circle = schedule.cosine_schedule(
    1_000, offset=0.0, max_beta=1.0
)  # equal angles, ends at exactly 0
named = {
    "linear": levels,
    "cosine": circle,
    "cosine, SNR × 0.09": schedule.shifted(circle, 0.3),
}
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.9))
for (name, one), dash in zip(named.items(), ("-", "--", ":"), strict=True):
    axes[0].plot(one.alpha_bar, ls=dash, label=name)
    axes[1].plot(one.snr[1:-1].log(), ls=dash)
axes[0].set(xlabel="$t$", ylabel=r"$\bar\alpha_t$", title="What is left of the signal")
axes[1].set(xlabel="$t$", ylabel="log SNR", title="On a logarithmic scale")
axes[0].legend()
plots.show(fig)
# alt: Three falling curves of alpha-bar, and their log signal-to-noise ratios.
checks.close(levels.alpha_bar[-1].sqrt(), 0.0064, what="what linear leaves at T", atol=1e-4)
checks.true(circle.alpha_bar[-1] == 0, what="the cosine schedule ends in pure noise")

# %% [markdown]
# Slide through the times yourself. The noise is the same at every $t$; only the mix changes.

# %% tags=["widget"]
middle = (levels.alpha_bar - 0.5).abs().argmin().item()
checks.true(250 < middle < 270, what=f"the linear schedule has lost half at t = {middle}")
three = {name: one.alpha_bar for name, one in named.items()}
widgets.noise_slider(test_x[:4], torch.randn(shape), three,
                     ask="Guess first: on the linear schedule, when is half of the "
                         "signal gone?",
                     options=["near t = 100", "near t = 260", "at t = 500"], right=1,
                     answer="Half of the variance is noise at about t = 260. The betas rise, "
                            "so the later half of the steps works on what is noise already.")

# %% [markdown]
# ### Exercise 7.1 (1 point): from betas to what is left
# Write `signal_left`: from $\beta_1,\dots,\beta_T$ to $\bar\alpha_0,\dots,\bar\alpha_T$.

# %% exercise="7.1"

# %% tags=["check"]
check("7.1", signal_left)

# %% [markdown]
# ## 7.2 One lemma
#
# A network $f$ looks at the noisy $x_t$ and guesses some quantity $y$: the clean image, the noise, anything. It is
# trained on squared error. What is its best answer, and how good can that be? Both follow from one line. Write
# $m(x_t)=\mathbb E[y\mid x_t]$ for the mean of $y$ among all cases that look like $x_t$. Add and subtract it:
#
# $$ \|f-y\|^2=\|f-m\|^2+\|m-y\|^2+2\,(f-m)^\top(m-y) . $$
#
# Fix $x_t$ and average over $y$. Then $f-m$ is a constant, and $\mathbb E[m-y\mid x_t]=0$ by the definition of $m$: the
# mixed term is gone. The second term is the variance of $y$ around its mean. So
#
# $$ \mathbb E\|f(x_t)-y\|^2=\mathbb E\big\|f(x_t)-\mathbb E[y\mid x_t]\big\|^2+\mathbb E\,\mathrm{tr}\,\mathrm{Cov}(y\mid x_t) . \tag{7.3} $$
#
# The first term can be made 0, by the **conditional mean**. The second does not contain $f$. No training touches it: it is
# the **floor** of the loss. Nearly everything in this chapter is (7.3), read for one $y$ after another.

# %% verifies=["7.3"]
def noisy(n, alpha_bar):
    """Clean points of the world, noise, and the two mixed at one level: three tensors (n,)."""
    clean, eps = world.sample((n,)), torch.randn(n).double()
    return clean, eps, process.q_sample(clean, alpha_bar, eps)


guesses = {"half of x": lambda x: x / 2, "a wave": lambda x: x + 0.3 * torch.sin(3 * x)}
for alpha_bar in (0.9, 0.4):
    clean, eps, x_t = noisy(400_000, alpha_bar)
    posterior = world.clean_given(x_t, alpha_bar)  # p(x_0 | x_t), a mixture for each x_t
    for name, f in guesses.items():
        left = (f(x_t) - clean).square()
        right = (f(x_t) - posterior.mean).square() + posterior.variance
        what = f"(7.3) for y = x₀, f = {name}, ᾱ = {alpha_bar}"
        checks.monte_carlo((left - right)[:, None], torch.zeros(1), what=what)
# mean and variance by Bayes' rule on a grid of clean points
x_t = torch.tensor([0.3]).double()
weight = world.log_prob(line) + Normal(0.4**0.5 * line, 0.6**0.5).log_prob(x_t)
mean = (weight.softmax(0) * line).sum()
variance = (weight.softmax(0) * (line - mean).square()).sum()
posterior = world.clean_given(x_t, 0.4)
checks.close(posterior.mean, mean[None], what="E[x₀|x_t] is that of Bayes' rule")
checks.close(posterior.variance, variance[None], what="and so is Var(x₀|x_t)")

# %% [markdown]
# ### Tweedie's formula
# Take $y=x_0$. Chapter 03 derived what the best denoiser is for $\tilde x=x+\sigma\epsilon$, by differentiating under the
# integral. Here the clean point is also shrunk, and the same three lines give the **score** of the noisy density $p_t$:
# $\nabla p_t(x_t)=\int p(x_0)\,\frac{\sqrt{\bar\alpha_t}x_0-x_t}{1-\bar\alpha_t}\,q(x_t\mid x_0)\,\mathrm dx_0$; divide by
# $p_t(x_t)$, and the integral becomes a mean over $p(x_0\mid x_t)$:
#
# $$ \nabla\log p_t(x_t)=\frac{\sqrt{\bar\alpha_t}\;\mathbb E[x_0\mid x_t]-x_t}{1-\bar\alpha_t} . \tag{7.4} $$
#
# A network that removes noise knows the slope of the log-density. Nothing else was asked of it.
#
# ### Four readings of one thing
# Given $x_t$ and the level, (7.2) ties $x_0$ and $\epsilon$ together by one linear equation: who knows one knows the other.
# The conditional mean of a linear equation is that equation for the conditional means. Besides these two, people predict the
# **velocity** $v$, the speed at which $x=\cos\theta\,x_0+\sin\theta\,\epsilon$ moves as $\theta$ grows. With hats for
# conditional means, $\sqrt{\bar\alpha}=\cos\theta$ and $\sqrt{1-\bar\alpha}=\sin\theta$:
#
# $$ \begin{aligned} \hat\epsilon&=\frac{x_t-\cos\theta\,\hat x_0}{\sin\theta}, &\qquad
#    \hat v&=\cos\theta\,\hat\epsilon-\sin\theta\,\hat x_0, \\
#    \hat x_0&=\cos\theta\,x_t-\sin\theta\,\hat v, &\qquad \nabla\log p_t&=-\frac{\hat\epsilon}{\sin\theta} . \end{aligned} \tag{7.5} $$
#
# (The first two are (7.2) solved for $\epsilon$, and the derivative in $\theta$. For the third put the first into the second:
# $\sin\theta\,\hat v=\cos\theta\,(x_t-\cos\theta\,\hat x_0)-\sin^2\theta\,\hat x_0=\cos\theta\,x_t-\hat x_0$. The last is (7.4).)

# %% verifies=["7.4", "7.5"]
alpha_bar, x = 0.4, torch.linspace(-2, 2, 9).double()
x0_hat = world.clean_given(x, alpha_bar).mean
tweedie = (alpha_bar**0.5 * x0_hat - x) / (1 - alpha_bar)
checks.gradient(
    world.noised(alpha_bar).log_prob, x, tweedie, what="(7.4): the score, by autograd"
)
clean = line[:, None]  # the mean of the noise by Bayes' rule on a grid, without (7.5)
weight = world.log_prob(clean) + Normal(
    alpha_bar**0.5 * clean, (1 - alpha_bar) ** 0.5
).log_prob(x)
eps_hat = (weight.softmax(0) * process.eps_from_x0(x[None], clean, alpha_bar)).sum(0)
angle = torch.tensor(alpha_bar).double().sqrt().arccos()
checks.close((x - angle.cos() * x0_hat) / angle.sin(), eps_hat, what="(7.5): the noise")
v_hat = angle.cos() * eps_hat - angle.sin() * x0_hat
checks.close(process.v_from(x0_hat, eps_hat, alpha_bar), v_hat, what="(7.5): the velocity")
checks.close(
    process.x0_from_v(x, v_hat, alpha_bar), x0_hat, what="(7.5): back to the clean point"
)
checks.close(-eps_hat / angle.sin(), tweedie, what="(7.5): the score is the noise, scaled")
turn = torch.autograd.functional.jacobian(
    lambda a: a.cos() * x0_hat + a.sin() * eps_hat, angle
)
checks.close(turn, v_hat, what="v is the derivative in θ")

# %% [markdown]
# Click a noisy point below. On the right you see which clean points it may have been. Then drag it from one cluster to
# another, at little noise and at much.

# %% tags=["widget"]
blobs = GaussianMixture(torch.tensor([0.2, 0.3, 0.5]),
                        torch.tensor([[-1.2, -0.7], [1.1, -0.9], [0.1, 1.1]]),
                        torch.tensor([[0.03, 0.03], [0.08, 0.03], [0.05, 0.12]]))
widgets.score_field(blobs)

# %% [markdown]
# At little noise one cluster holds nearly all the weight, and the arrow points to it; half way to another the weights change
# over within a short distance. There the mean lies where no data are: the best guess in squared error is no good image.
# At much noise all clusters count, and the arrow points to their common middle, shrunk.
#
# ### Why is the loss flat while samples improve?
# Take $y=\epsilon$ and train a network. The lemma says what it can reach *at each time*: the floor
#
# $$ \text{floor}(t)=\mathbb E\,\mathrm{tr}\,\mathrm{Cov}(\epsilon\mid x_t)=\mathrm{SNR}(t)\;\mathbb E\,\mathrm{tr}\,\mathrm{Cov}(x_0\mid x_t) . \tag{7.6} $$
#
# (For a fixed $x_t$ the noise is $-\sqrt{\bar\alpha/(1-\bar\alpha)}\,x_0$ plus a constant: its variance is that of $x_0$ times the
# square of the factor.) What lies above the floor is, by (7.3) and (7.5), the error of the score:
# $\mathbb E\|\epsilon_\theta-\hat\epsilon\|^2=(1-\bar\alpha_t)\,\mathbb E\|s_\theta-\nabla\log p_t\|^2$. So **denoising is score
# matching plus a constant**, and the constant is most of what you see.

# %% quote="course_utils.models.diffusion.process:Diffusion.loss"

# %%
n_steps = {"smoke": 150, "class": 1_200, "full": 5_000}[budget]
net = process.vector_diffusion(1, width=64, n_blocks=2)
net.schedule = levels
floor = []  # E tr Cov(eps | x_t), by quadrature over the noised density
for t in range(1, 1_001, 27):
    a = levels.alpha_bar[t].item()
    mass = world.noised(a).log_prob(line).exp() * 0.001
    floor.append((a / (1 - a) * world.clean_given(line, a).variance * mass).sum())


def loss_by_time(model, n=2_000):
    """Squared error of the noise at the times above, and its distance from the best."""
    total, above = [], []
    for t in range(1, 1_001, 27):
        a = levels.alpha_bar[t].item()
        clean, eps, x_t = noisy(n, a)
        with training.evaluating(model):
            guess = model.network(x_t[:, None].float(), torch.full((n,), t / 1_000))[:, 0]
        best = process.eps_from_x0(x_t, world.clean_given(x_t, a).mean, a)
        total.append((guess - eps).square().mean())
        above.append((guess - best).square().mean())
    return torch.stack(total), torch.stack(above)


# %%
def until(model, n, lr):
    """n more steps of training on fresh points of the world."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    batches = iter(lambda: world.sample((512, 1)).float(), None)
    return training.fit(
        model.loss,
        optimizer,
        batches,
        n,
        description=f"{n} steps",
        scheduler=training.cosine(optimizer, n),
    )["loss"]


early = until(net, n_steps // 6, 4e-3)
first_total, first_above = loss_by_time(net)
late = until(net, n_steps - n_steps // 6, 4e-3)
total, above = loss_by_time(net)
mean_floor = torch.stack(floor).mean()
print(f"floor, averaged over t: {mean_floor:.3f}")
for name, (whole, rest) in {
    "early": (first_total, first_above),
    "late": (total, above),
}.items():
    print(f"{name:<6} loss {whole.mean():.3f}, of which above the floor {rest.mean():.4f}")
record(score_error_early=first_above.mean(), score_error=above.mean())

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3))
axes[0].plot(torch.cat([early, late]), lw=0.6, color=plots.PALETTE[5], label="training loss")
axes[0].axhline(mean_floor, color=plots.PALETTE[3], label="floor, mean over $t$")
axes[0].set(xlabel="training step", ylabel="squared error of the noise", ylim=(0, 1.2),
            title="The loss falls at once and then lies flat")
times = range(1, 1_001, 27)
axes[1].plot(times, floor, color=plots.PALETTE[3], label="floor")
for curve, dash, name in ((first_above, ":", "early"), (above, "-", "late")):
    name = f"above the floor, {name}"
    axes[1].plot(times, curve, color=plots.PALETTE[0], ls=dash, label=name)
axes[1].set(xlabel="$t$", ylabel="squared error of the noise", yscale="log",
            title="What can still be learned, by time")
for ax in axes:
    ax.legend(fontsize=8)
plots.show(fig)
# alt: Left: the loss falls to near its floor and stays. Right: the floor by time, and the part above it, early and late
# in training.

# %% [markdown]
# The rest above the floor is the only part that training can move. Averaged over the times it soon is a small part of the loss, so a
# curve of the loss cannot show it; only its difference to the floor can, and on real data nobody knows the floor. Read samples,
# or held-out bounds, not the wiggles of the loss.

# %% [markdown] tags=["fold"]
# ### Going deeper: the floor, checked, and the entropy
# First (7.6) itself, by draws.

# %% verifies=["7.6"]
a = 0.4
clean, eps, x_t = noisy(400_000, a)
best = process.eps_from_x0(x_t, world.clean_given(x_t, a).mean, a)
mass = world.noised(a).log_prob(line).exp() * 0.001
by_quadrature = a / (1 - a) * (world.clean_given(line, a).variance * mass).sum()
checks.monte_carlo((best - eps).square()[:, None], by_quadrature[None],
                   what="(7.6): the best predictor of the noise still loses the floor")

# %% [markdown]
# The floor knows more. Write $\gamma$ for the SNR and $\mathrm{mmse}(\gamma)=\mathbb E\,\mathrm{Var}(x\mid\sqrt\gamma\,x+\epsilon)$ for
# the least possible squared error. For one dimension (Guo, Shamai and Verdú 2005)
#
# $$ h(x)=\tfrac12\log 2\pi e-\tfrac12\int_0^\infty\Big(\frac1{1+\gamma}-\mathrm{mmse}(\gamma)\Big)\,\mathrm d\gamma . \tag{7.7} $$
#
# How hard a density is to denoise, added up over all noise levels, *is* its entropy. For $\mathcal N(0,1)$ the bracket is
# zero, and $h=\tfrac12\log2\pi e$. The bound of the next section is the same integral, cut into steps.

# %% verifies=["7.7"] tags=["nbval-check-output"]
log_snr = torch.linspace(-16, 16, 401).double()
wide = torch.linspace(-9, 9, 3_001).double()
mmse = torch.stack([(world.clean_given(wide, a).variance
                     * world.noised(a).log_prob(wide).exp()).sum() * 0.006
                    for a in log_snr.sigmoid().tolist()])
gamma = log_snr.exp()
integral = torch.trapezoid((1 / (1 + gamma) - mmse) * gamma, log_snr)  # dγ = γ d log γ
h = 0.5 * math.log(2 * math.pi * math.e) - 0.5 * integral
fine = torch.linspace(-4, 4, 400_001).double()
direct = -(world.log_prob(fine).exp() * world.log_prob(fine)).sum() * 2e-5
print(f"entropy from the floors {h:.5f}, from the density {direct:.5f} nats")
checks.close(h, direct, what="(7.7): the floors add up to the entropy", rtol=1e-4)

# %% [markdown]
# ## 7.3 The reverse step, and the bound
#
# Now the step that the notes left empty. Going back means $q(x_{t-1}\mid x_t)$, and that depends on the data: which images
# could have led here? But if we *knew* $x_0$, it would be an easy Gaussian. By Bayes' rule,
# $q(x_{t-1}\mid x_t,x_0)\propto q(x_t\mid x_{t-1})\,q(x_{t-1}\mid x_0)$, and minus twice the logarithm of the right side is,
# as a function of $x_{t-1}$,
#
# $$ \begin{aligned} &\frac{\|x_t-\sqrt{\alpha_t}x_{t-1}\|^2}{\beta_t}+\frac{\|x_{t-1}-\sqrt{\bar\alpha_{t-1}}x_0\|^2}{1-\bar\alpha_{t-1}} \\
#    &\quad=\underbrace{\Big(\frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}}\Big)}_{1/\tilde\beta_t}\|x_{t-1}\|^2
#    -2\Big(\frac{\sqrt{\alpha_t}\,x_t}{\beta_t}+\frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}}\Big)^{\!\top}\!x_{t-1}+\dots \end{aligned} $$
#
# (The dots do not contain $x_{t-1}$.)
#
# A square plus a line is a Gaussian: its variance is one over the factor of the square, its mean is the variance times
# the bracket of the line. The factor is
# $\frac{\alpha_t(1-\bar\alpha_{t-1})+\beta_t}{\beta_t(1-\bar\alpha_{t-1})}=\frac{1-\bar\alpha_t}{\beta_t(1-\bar\alpha_{t-1})}$,
# because $\alpha_t\bar\alpha_{t-1}=\bar\alpha_t$ and $\alpha_t+\beta_t=1$. Hence
#
# $$ \begin{aligned} q(x_{t-1}\mid x_t,x_0)&=\mathcal N(x_{t-1};\ \tilde\mu_t,\tilde\beta_tI),\qquad
#    \tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t, \\
#    \tilde\mu_t&=\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0+\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t . \end{aligned} \tag{7.8} $$

# %% quote="course_utils.models.diffusion.process:posterior"

# %% verifies=["7.8"]
for t, s in ((600, 599), (600, 350), (2, 1)):  # the same formula jumps over many steps at once
    a_t, a_s = levels.alpha_bar[t], levels.alpha_bar[s]
    mean, variance = process.posterior(0.8, -0.3, a_t, a_s)
    fine = mean + variance.sqrt() * torch.linspace(-9, 9, 20_001).double()  # a grid of x_s
    log_q = Normal((a_t / a_s).sqrt() * fine, (1 - a_t / a_s).sqrt()).log_prob(
        torch.tensor(-0.3)
    )
    log_q = log_q + Normal(a_s.sqrt() * 0.8, (1 - a_s).sqrt()).log_prob(fine)
    weight = log_q.softmax(0)  # Bayes' rule, normalised by brute force
    checks.close((weight * fine).sum(), mean, what=f"(7.8): mean of step {t} → {s}", rtol=1e-6)
    measured = (weight * (fine - mean).square()).sum()
    checks.close(measured, variance, what=f"(7.8): variance of step {t} → {s}", rtol=1e-4)

# %% [markdown]
# The model takes this step with its guess in place of the unknown: $p_\theta(x_{t-1}\mid x_t)=q(x_{t-1}\mid x_t,\ x_0=\hat x_0(x_t,t))$.
# (Ho, Jain and Abbeel 2020.) At $t=1$ the variance $\tilde\beta_1$ is 0, so the last step, to the data, needs a density of its
# own. Here it is a Gaussian around $\hat x_0$, as wide as what $x_1$ leaves open: variance $(1-\bar\alpha_1)/\bar\alpha_1$.
#
# Why may it be Gaussian at all? The true $q(x_{t-1}\mid x_t)$ is not, but for small $\beta_t$ it
# is close to one. That is the reason for many small steps.
#
# ### The bound, term by term
# This is a latent-variable model: the latents are $x_1,\dots,x_T$, and the encoder $q(x_{1:T}\mid x_0)$ is *fixed*. So chapter
# 04's bound holds as it stands, $\log p(x_0)\ge\mathbb E_q[\log p(x_{0:T})-\log q(x_{1:T}\mid x_0)]$. Write the encoder
# backwards. By Bayes' rule each forward step is
# $q(x_t\mid x_{t-1})=q(x_{t-1}\mid x_t,x_0)\,q(x_t\mid x_0)/q(x_{t-1}\mid x_0)$. In the product over $t=2,\dots,T$ the ratios telescope to
# $q(x_T\mid x_0)/q(x_1\mid x_0)$, and the step $t=1$ cancels the denominator:
# $q(x_{1:T}\mid x_0)=q(x_T\mid x_0)\prod_{t\ge2}q(x_{t-1}\mid x_t,x_0)$. Now both products run the same way, and pair up into KL divergences:
#
# $$ \begin{aligned} \log p(x_0)\ \ge\ \mathbb E_q\Big[&\log p_\theta(x_0\mid x_1)-\mathrm{KL}\big(q(x_T\mid x_0)\,\|\,\mathcal N(0,I)\big) \\
#    &-\sum_{t=2}^T \mathrm{KL}\big(q(x_{t-1}\mid x_t,x_0)\,\|\,p_\theta(x_{t-1}\mid x_t)\big)\Big] . \end{aligned} \tag{7.9} $$
#
# Read it as code lengths: a little for the signal left at $T$, a correction at every step, and the last detail. Each
# correction compares two Gaussians with the *same* variance $\tilde\beta_t$, so only the means count:
# $\|\tilde\mu-\tilde\mu_\theta\|^2/2\tilde\beta_t$. By (7.8) the means differ by
# $\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}(x_0-\hat x_0)$. Square, divide by $2\tilde\beta_t$, and use
# $\beta_t=1-\bar\alpha_t/\bar\alpha_{t-1}$:
#
# $$ L_t=\frac12\,\frac{\bar\alpha_{t-1}\beta_t}{(1-\bar\alpha_t)(1-\bar\alpha_{t-1})}\,\|x_0-\hat x_0\|^2
#    =\tfrac12\big(\mathrm{SNR}(t-1)-\mathrm{SNR}(t)\big)\,\|x_0-\hat x_0\|^2 . \tag{7.10} $$
#
# (The last step: $\frac{\bar\alpha_{t-1}}{1-\bar\alpha_{t-1}}-\frac{\bar\alpha_t}{1-\bar\alpha_t}=\frac{\bar\alpha_{t-1}-\bar\alpha_t}{(1-\bar\alpha_{t-1})(1-\bar\alpha_t)}$.)
# Everything has become a weighted denoising error.

# %% verifies=["7.10"]
x_0, x0_hat, x_t = torch.randn(3, 50).double()
for t in (2, 300, 1_000):
    a_t, a_s = levels.alpha_bar[t], levels.alpha_bar[t - 1]
    true, variance = process.posterior(x_0, x_t, a_t, a_s)
    guess, _ = process.posterior(x0_hat, x_t, a_t, a_s)
    kl = kl_of(
        Normal(true, variance.sqrt()), Normal(guess, variance.sqrt())
    )  # by torch, not by (7.10)
    ours = process.step_kl((x_0 - x0_hat).square(), levels.snr[t], levels.snr[t - 1])
    checks.close(ours, kl, what=f"(7.10) at t = {t}")

# %% [markdown]
# To test (7.9) we need two ways to the same number. One adds up its KL terms. The other takes the definition: walk the
# noisy path, and average $\log p_\theta(x_{0:T})-\log q(x_{1:T}\mid x_0)$ from the densities of all steps. As denoiser we take the exact
# one, so the true $\log p(x_0)$ is known too.

# %%
def log_ratio(levels, x_0):
    """log p(x_0, …, x_T) - log q(x_1, …, x_T | x_0) along one noisy path each: (B,) nats."""
    x, total = x_0, 0
    for t in range(1, levels.n_steps + 1):
        a, before = levels.alpha_bar[t], levels.alpha_bar[t - 1]
        forward = Normal((a / before).sqrt() * x, (1 - a / before).sqrt())
        x_t = forward.sample()
        guess = world.clean_given(x_t, a.item()).mean
        if t > 1:
            mean, variance = process.posterior(guess, x_t, a, before)
        else:  # the last step back, to the data: as wide as what x_1 leaves open
            mean, variance = guess, (1 - a) / a
        total = total + Normal(mean, variance.sqrt()).log_prob(x) - forward.log_prob(x_t)
        x = x_t
    return total + Normal(0.0, 1.0).log_prob(x)


class Exact(nn.Module):
    """Answers as the best denoiser does."""

    def __init__(self, levels):
        super().__init__()
        self.levels = levels

    def forward(self, x, t, y=None):
        a = self.levels.alpha_bar[round(t[0].item() * self.levels.n_steps)].item()
        return world.clean_given(x[:, 0], a).mean[:, None]


# %% verifies=["7.9"]
few = schedule.log_snr_schedule(12, 8.0, -1.0)
x_0 = torch.tensor([-1.4, -0.8, 0.7]).double().repeat(20_000)
path = log_ratio(few, x_0).view(-1, 3)
model = process.Diffusion(Exact(few), few, (1,), process.X_0)
terms = model.elbo(x_0[:, None]).view(-1, 3)
checks.monte_carlo(
    path - terms.mean(0), torch.zeros(3), what="(7.9): sum of KL terms = path", sigmas=7
)  # both sides are estimates: √2 of 5 standard errors
gap = world.log_prob(x_0[:3]) - terms.mean(0)
checks.true(
    gap.mean() > 0, what=f"(7.9) is a lower bound: {gap.mean():.3f} nats below log p here"
)

# %% [markdown]
# Where does the bound lose, with a perfect denoiser? Only in the size of the steps: within one step the true reverse law is no
# Gaussian of width $\tilde\beta$. What a step costs too much grows with the *ratio* of its two SNRs. Equal steps in log SNR make all
# ratios equal, and the gap closes as $T$ grows. The cosine schedule, which was made for sampling, has $\mathrm{SNR}(1)/\mathrm{SNR}(2)\approx4$ however
# large $T$ is: near the data $\mathrm{SNR}(t)\propto 1/t^2$. Its gap does not close. It even grows: longer chains begin at a finer level, and each adds costly first steps.

# %%
print(
    f"{'steps T':>8}{'equal log SNR':>16}{'cosine':>10}   gap to log p, nats, exact denoiser"
)
gaps = {}
for n in (10, 40, 160) if budget != "smoke" else (10, 40):
    row = []
    for one in (
        schedule.log_snr_schedule(n, 9.0, -9.0),
        schedule.cosine_schedule(n, 0.0, 1.0),
    ):
        model = process.Diffusion(Exact(one), one, (1,), process.X_0)
        x_0 = world.sample((8_000,))
        row.append((world.log_prob(x_0) - model.elbo(x_0[:, None])).mean().item())
    gaps[n] = row
    print(f"{n:>8}{row[0]:>16.3f}{row[1]:>10.3f}")
checks.true(
    gaps[10][0] > 2 * gaps[40][0],
    what="equal log SNR: four times the steps, less than half the gap",
)
checks.true(gaps[40][1] > gaps[10][1] > 0.3, what="cosine: more steps do not close the gap")
ratio = circle.snr[1] / circle.snr[2]
checks.close(ratio, 4.0, what="cosine: its first two SNRs differ by a factor 4", rtol=1e-3)

# %% [markdown] tags=["fold"]
# ### Going deeper: the simplified loss is another weight
# In terms of the noise, $\|x_0-\hat x_0\|^2=\|\epsilon-\hat\epsilon\|^2/\mathrm{SNR}(t)$, so the bound weighs the error of the noise with
# $\tfrac12(\mathrm{SNR}(t-1)/\mathrm{SNR}(t)-1)$. DDPM sets this weight to 1, its *simplified loss*. Per time, the best answer is the same
# conditional mean whatever the weight. The weight only says where a network of limited size should spend its effort: the bound cares
# most for the last faint traces of noise, which decide bits and which no eye sees.

# %%
weight = 0.5 * (levels.snr[1:-1] / levels.snr[2:] - 1)
fig, ax = plt.subplots(figsize=(6, 2.6))
ax.plot(range(2, 1_001), weight, label="bound, (7.10)")
ax.axhline(1, color=plots.PALETTE[1], ls="--", label="simplified loss")
ax.set(
    xlabel="$t$",
    ylabel=r"weight of $\|\epsilon-\hat\epsilon\|^2$",
    yscale="log",
    title="The linear schedule: what the two losses care for",
)
ax.legend()
plots.show(fig)
# alt: The bound's weight is highest at the smallest t; the simplified weight is constant.

# %% [markdown] tags=["fold"]
# ### Going deeper: two variances, which is which
# Papers offer $\beta_t$ and $\tilde\beta_t$ for the step back. Each is exact for one kind of data. If the data are **one point**, $x_0$ is
# known and the reverse step *is* (7.8): $\tilde\beta_t$. If the data are $\mathcal N(0,1)$, every $x_t$ is too, the chain looks the
# same in both directions, and the variance of the step back is that of the step forward: $\beta_t$. Real data lie between; for long chains
# the two agree except at the very first steps.

# %%
t = 40
a_t, a_s, beta = levels.alpha_bar[t], levels.alpha_bar[t - 1], levels.beta[t]
before = torch.randn(400_000).double()  # x_{t-1} of data that are N(0, 1)
after = (1 - beta).sqrt() * before + beta.sqrt() * torch.randn(400_000).double()
slope_back = (before * after).mean() / after.square().mean()
left = (before - slope_back * after).square().mean()  # Var(x_{t-1} | x_t): a line fits
_, small = process.posterior(0.0, 0.0, a_t, a_s)
print(f"step {t} back: beta {beta:.6f}, beta tilde {small:.6f}, measured {left:.6f}")
checks.close(left, beta, what="for N(0, 1) the step back has variance β", rtol=0.02)
checks.true(small < beta, what="beta tilde is smaller: knowing x₀ helps")
for t in (2, 10, 100, 1_000):
    _, small = process.posterior(0.0, 0.0, levels.alpha_bar[t], levels.alpha_bar[t - 1])
    print(f"t = {t:<5} beta tilde / beta = {small / levels.beta[t]:.3f}")

# %% [markdown]
# ### Exercise 7.2 (2 points): the step back, from predicted noise
# DDPM's paper writes the mean of the step with $\hat\epsilon$. Put $\hat x_0$ of (7.5) into (7.8) and write `reverse_mean`.

# %% exercise="7.2"

# %% tags=["check"]
check("7.2", reverse_mean)

# %% [markdown]
# ## 7.4 Mass is conserved
#
# Chapter 06 cut a density into strips of equal area and watched them move. Let now every point $x$ drift with a velocity
# $v(x,t)$: its path solves the *ordinary differential equation* (**ODE**) $\mathrm dx/\mathrm dt=v(x,t)$.
#
# A narrow strip $[x, x+\mathrm dx]$ gains what flows in on the left and loses what flows out on the right: per unit of
# time $p(x)v(x)-p(x+\mathrm dx)v(x+\mathrm dx)$. Divide by $\mathrm dx$. In several dimensions the same count over the faces of a small box
# gives the **continuity equation**; and along a moving point the chain rule,
# $\frac{\mathrm d}{\mathrm dt}\log p=\frac{\partial_tp+v\cdot\nabla p}{p}$, turns it into a rule for $\log p$:
#
# $$ \frac{\partial p_t}{\partial t}=-\nabla\cdot(p_t\,v), \qquad \frac{\mathrm d}{\mathrm dt}\log p_t\big(x(t)\big)=-\nabla\cdot v . \tag{7.11} $$
#
# Chapter 06 added up log-determinants of layers. Here infinitely many thin layers add up to an integral of the divergence
# $\nabla\cdot v=\sum_i\partial v_i/\partial x_i$. No layer needs to be invertible by design: following a smooth field backwards *is* the inverse.
#
# **Which field carries noise to data?** Join every data point $x$ to every noise $\epsilon$ by a path $x_t=a(t)x+b(t)\epsilon$.
# Each path has its own velocity $\dot x_t=\dot a\,x+\dot b\,\epsilon$. Many paths cross at the same point, so they cannot all be followed. Take
# their **mean**:
#
# $$ u(x_t,t)=\mathbb E\big[\dot a\,x+\dot b\,\epsilon\mid x_t\big] . \tag{7.12} $$
#
# *Theorem: moving with $u$ gives the points at time $t$ the density $p_t$ of $x_t$.* Three lines. Take any smooth test function $\phi$.
# Its mean changes as $\frac{\mathrm d}{\mathrm dt}\mathbb E\,\phi(x_t)=\mathbb E[\nabla\phi(x_t)\cdot\dot x_t]$, by the chain rule along each path. The
# gradient depends on $x_t$ alone, so by averaging first within equal $x_t$ this is $\mathbb E[\nabla\phi(x_t)\cdot u(x_t)]=\int\nabla\phi\cdot u\,p_t\,\mathrm dx$.
# Integrate by parts: $-\int\phi\,\nabla\cdot(p_tu)\,\mathrm dx$. This holds for every $\phi$, so $\partial_tp_t=-\nabla\cdot(p_tu)$, which is (7.11). ∎
#
# And (7.12) is a conditional mean. By the lemma (7.3) it is learned by squared error against single paths, which are easy to draw.
# That is **flow matching**. The plainest choice is the straight line,
#
# $$ x_t=t\,x+(1-t)\,\epsilon, \qquad \mathcal L=\mathbb E\big\|(x-\epsilon)-u_\theta(x_t,t)\big\|^2 . \tag{7.13} $$

# %% quote="course_utils.models.diffusion.flow_matching:FlowMatching.loss"

# %%
def clean_mean(x, t):
    """E[x | x_t] on the straight path: divided by its size, x_t is a diffusion's."""
    size = math.hypot(t, 1 - t)
    return world.clean_given(x / size, (t / size) ** 2).mean


def field(x, t):
    """The exact marginal velocity of the world, (N,) at time t."""
    return flow_matching.path_velocity(x, clean_mean(x, t), t, 1 - t, 1.0, -1.0)


def log_p(x, t):
    """log p_t(x) on the straight path."""
    size = math.hypot(t, 1 - t)
    return world.noised((t / size) ** 2).log_prob(x / size) - math.log(size)


# %% verifies=["7.11", "7.12"]
x, t, h = torch.linspace(-2, 1.5, 15).double(), 0.6, 1e-4
# u by Bayes' rule on a grid of clean points, without path_velocity:
weight = world.log_prob(line[:, None]) + Normal(t * line[:, None], 1 - t).log_prob(x)
speed = line[:, None] - (x - t * line[:, None]) / (1 - t)  # x - eps for a path through x_t
checks.close(
    field(x, t), (weight.softmax(0) * speed).sum(0), what="(7.12): the mean of all paths"
)
change = (log_p(x, t + h).exp() - log_p(x, t - h).exp()) / (2 * h)
flux = (log_p(x + h, t).exp() * field(x + h, t) - log_p(x - h, t).exp() * field(x - h, t)) / (
    2 * h
)
checks.close(change, -flux, what="(7.11): p changes by what flows in", rtol=1e-4, atol=1e-6)
step = x + h * field(x, t)
along = (log_p(step, t + h) - log_p(x - h * field(x, t), t - h)) / (2 * h)
_, div = samplers.divergence(lambda x, t: field(x[:, 0], t)[:, None], x[:, None], t)
checks.close(along, -div, what="(7.11): log p along a moving point", rtol=1e-3, atol=1e-3)

# %% verifies=["7.13"]
flow = flow_matching.vector_flow(1, width=64, n_blocks=2)
until(flow, n_steps, 4e-3)
x = world.sample((4_000,))
gained = []
for t in (0.2, 0.5, 0.8):
    eps = torch.randn(4_000).double()
    x_t = flow_matching.straight_path(x, eps, t)
    with training.evaluating(flow):
        guess = flow.velocity(x_t[:, None].float(), t)[:, 0]
    best = field(x_t, t)
    gained.append((guess - best).square().mean() / (x - eps).square().mean())
    single, network = (x - eps - best).square().mean(), (guess - best).square().mean()
    print(
        f"t = {t}: mean square distance from the mean field: single paths {single:.3f}, "
        f"network {network:.4f}"
    )
limit = {"smoke": 0.2, "class": 0.02, "full": 0.01}[budget]
checks.true(
    torch.stack(gained).max() < limit,
    what="(7.13), trained on single paths, finds the mean field",
)

# %% [markdown]
# ### Crossing paths, and paths that do not cross
# The single paths of (7.13) are straight and cross everywhere. The paths of the *mean* field bend, and never cross: through one point at
# one time goes one velocity. Both have the same density at every time. This picture is the key to flow matching.

# %%
clock = torch.linspace(0, 0.999, 200).tolist()
starts = Normal(0.0, 1.0).icdf((torch.arange(24).double() + 0.5) / 24)
moved = torch.stack(list(samplers.heun(field, starts, clock)))
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3.4), sharey=True)
x, eps = world.sample((40,)), torch.randn(40).double()
for ax, paths, name in (
    (
        axes[0],
        torch.stack([flow_matching.straight_path(x, eps, t) for t in clock]),
        "single paths: straight, crossing",
    ),
    (axes[1], moved, "paths of the mean field: bent, never crossing"),
):
    heat = torch.stack([log_p(torch.linspace(-3, 3, 200).double(), t).exp() for t in clock], 1)
    ax.imshow(heat.numpy(), origin="lower", extent=(0, 1, -3, 3), aspect="auto", cmap="Greys",
              vmax=1)
    ax.plot(clock, paths, lw=0.8, color=plots.PALETTE[0])
    ax.set(title=name, xlabel="$t$: noise at 0, data at 1", ylim=(-3, 3))
axes[0].set_ylabel("$x_t$")
plots.show(fig)
# alt: Left: straight lines that cross. Right: bent lines that part and never cross.
checks.true(
    moved.diff(dim=1) > 0, what="24 paths of the mean field keep their order: none cross"
)

# %% [markdown]
# > **Two clocks.** Diffusion's $t$ counts noise: data at $0$, noise at $T$. Flow matching's $t$ counts data: noise at $0$, data at
# > $1$. Some codes run it backwards. The two are the same process: divide $x_t=t\,x+(1-t)\,\epsilon$ by its size $\sqrt{t^2+(1-t)^2}$, and it
# > is (7.2) with $\bar\alpha=t^2/(t^2+(1-t)^2)$. Networks, losses and samplers of one kind can be rewritten for the other. What
# > differs is which times are visited often, and how errors are weighted.
#
# ### Add noise, take it back
# The field has no noise in it, while DDPM's steps do. Both are right. Add noise of strength $g$ to a moving point. Alone it would
# blur the density, by $\partial_tp=\tfrac12g^2\,\nabla\cdot\nabla p$ (that is what heat does). Now
# $\nabla p=p\,\nabla\log p$, so the blur is a flow as well, with velocity $-\tfrac12g^2\nabla\log p$. Add the opposite velocity, and nothing has
# happened to the density:
#
# $$ \mathrm dx=\Big(u+\tfrac12g^2\,\nabla\log p_t\Big)\mathrm dt+g\,\mathrm dW \qquad\text{has the marginals } p_t \text{ for every } g(t)\ge0 . \tag{7.14} $$
#
# Here $\mathrm dW$ is Gaussian noise of variance $\mathrm dt$, drawn anew in every instant: a *stochastic* differential equation, an
# **SDE**. "Marginals" are the densities at single times, whatever the paths between them.
# $g=0$ is the **probability-flow ODE**; another choice is the time-reversed diffusion (Anderson 1982; Song et al. 2021). Single paths
# look entirely different. The crowd looks the same.

# %% verifies=["7.14"]
def slope(x, t):
    """The score of p_t on the straight path, from the velocity."""
    return -flow_matching.noise_from_velocity(x, field(x, t), t) / (1 - t)


def crowd(g, score):
    """Particles up to t = 0.9 with noise g, and how many end in each twentieth of p_t."""
    start, strength = torch.randn(n).double(), lambda t: g
    film = list(samplers.stochastic(field, score, start, times, strength))
    counts = torch.bincount(torch.bucketize(film[-1], cut(log_p(line, 0.9))), minlength=20)
    return torch.stack(film[::4]), counts


n = {"smoke": 2_000, "class": 6_000, "full": 50_000}[budget]
times = torch.linspace(0, 0.9, 181).tolist()
crowds = {g: crowd(g, slope) for g in (0.0, 1.0)}
for g, (_, counts) in crowds.items():
    checks.frequencies(counts, fair, what=f"(7.14) with g = {g}: the crowd has the law p_t")
_, blurred = crowd(1.0, lambda x, t: 0 * x)
checks.fails(lambda: checks.frequencies(blurred, fair, what="without the score"),
             what="noise without the score that takes it back has the same law")

# %%
fig, axes = plt.subplots(1, 2, figsize=(9.2, 3), sharey=True)
for ax, (g, (film, _)), hue in zip(axes, crowds.items(), (0, 3), strict=True):
    ax.plot(torch.linspace(0, 0.9, len(film)), film[:, :25], lw=0.7, color=plots.PALETTE[hue])
    ax.set(xlabel="$t$: noise at 0, data at 1", ylim=(-3, 3),
           title=f"g = {g:g}: " + ("the ODE" if g == 0 else "an SDE"))
axes[0].set_ylabel("$x_t$")
plots.show(fig)
# alt: Left: 25 smooth paths. Right: 25 jagged ones. Both gather in two bumps.

# %% [markdown]
# Move the particles yourself, in the plane, with the exact score. **Guess first:** how many steps does the ODE need before the clusters
# look right, and does the noise of the SDE help or hurt when there are few steps?

# %% tags=["widget"]
widgets.particles(blobs)

# %% [markdown]
# A little noise heals: each step draws anew what the last one got wrong, and at four steps the variance with $s=1$ is nearer to the truth
# than without noise. Much noise with few steps overshoots: try $s=3$ and four steps.

# %% [markdown] tags=["fold"]
# ### Going deeper: the answer to chapter 06
# Follow the ODE from a data point back to noise, add up the divergence, and you have an exact likelihood, up to the size of
# the steps, from a network that was trained by squared error and never promised to be invertible:
# $\log p(x)=\log\mathcal N(x_{t=0};0,I)+\int_1^0\nabla\cdot u\,\mathrm dt$, by (7.11). Must a path be invertible? An ODE is, without being built so.

# %%
x = torch.tensor([-1.4, -1.0, 0.2, 0.6, 1.1]).double()[:, None]
base = Independent(Normal(torch.zeros(1).double(), 1.0), 1)
times = (1 - torch.linspace(1e-2, 1, 201).double() ** 2).tolist()  # short steps near the data
found = samplers.ode_log_prob(lambda x, t: field(x[:, 0], t)[:, None], x, times, base)
checks.close(
    found, world.log_prob(x[:, 0]), what="the ODE's log p is the mixture's, in nats", atol=0.02
)

# %% [markdown]
# ## 7.5 Samplers
#
# A sampler is a way to walk the path with as few calls of the network as possible. All of ours take a denoiser
# $\hat x_0(x_t,t)$ and a list of times. DDPM draws from (7.8). **DDIM** keeps the guess, and mixes it with the noise that the
# guess implies, old and new, for a jump from $t$ to any earlier $s$:
#
# $$ x_s=\sqrt{\bar\alpha_s}\,\hat x_0+\sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\epsilon+\sigma z, \qquad
#    \sigma^2=\eta^2\,\frac{1-\bar\alpha_s}{1-\bar\alpha_t}\Big(1-\frac{\bar\alpha_t}{\bar\alpha_s}\Big), \quad z\sim\mathcal N(0,I) . \tag{7.15} $$
#
# $\eta=0$ draws no noise: it is a rule for the ODE. $\eta=1$ is DDPM. **Are the two update formulas equal?** Yes: put
# $\hat\epsilon=(x_t-\sqrt{\bar\alpha_t}\hat x_0)/\sqrt{1-\bar\alpha_t}$ into (7.15) with $\eta=1$, collect $\hat x_0$ and $x_t$, and (7.8) stands there.

# %% quote="course_utils.models.diffusion.samplers:ddim"

# %% verifies=["7.15"]
def best(x, t):
    """The exact denoiser on the steps of the linear schedule."""
    return world.clean_given(x, levels.alpha_bar[t[0]].item()).mean


x = torch.linspace(-2, 2, 9).double()
a_t, a_s = levels.alpha_bar[700], levels.alpha_bar[500]
guess = best(x, torch.tensor([700]))
mean, variance = process.posterior(guess, x, a_t, a_s)
many = x.repeat(20_000, 1)
jump = samplers.final(
    samplers.ddim(lambda x, t: guess.expand_as(x), many, levels, (700, 500), eta=1.0)
)
checks.monte_carlo(jump, mean, what="(7.15) with η = 1 has the mean of DDPM's posterior")
checks.monte_carlo((jump - mean).square(), variance.expand(9), what="and its variance")
still = samplers.final(samplers.ddim(best, x, levels, (700, 500)))
eps = process.eps_from_x0(x, guess, a_t)
by_hand = (
    a_s.sqrt() * guess + (1 - a_s).sqrt() * eps
)  # η = 0: the same guess, the same noise, less of it
checks.close(still, by_hand, what="(7.15) with η = 0 only changes the mix")

# %% [markdown]
# ### A trap that shrinks everything
# Data that are $\mathcal N(0,1)$ from the start need no denoising: every $p_t$ is $\mathcal N(0,1)$, the exact ODE stands still, and a
# sampler should return what it was given. With $\sqrt{\bar\alpha_t}=\cos\theta_t$ the best guess is $\hat x_0=\cos\theta_t\,x_t$, the noise it implies is
# $\sin\theta_t\,x_t$, and one DDIM step gives $x_s=(\cos\theta_s\cos\theta_t+\sin\theta_s\sin\theta_t)\,x_t=\cos(\theta_t-\theta_s)\,x_t$. So a chain keeps
#
# $$ \frac{\mathrm{Var}(x_0)}{\mathrm{Var}(x_T)}=\prod_{\text{steps}}\cos^2\Delta\theta \ \le\ \cos^{2N}\frac{\pi}{2N}\ \to\ 1 . \tag{7.16} $$
#
# Equal angles are best (log cos is concave, so for a given total the product is largest when all are equal). Few steps *shrink variance*:
# samples look cleaner and less varied than data, and a distance that rewards clean pictures may even prefer them.
#
# **Before you run it**, commit to a number.

# %% [markdown]
# ### Exercise 7.3 (1 point): ten steps
# What share of the variance of $\mathcal N(0,1)$ do ten equal steps of a *linear* schedule keep ($T=1000$, at $t=1000,900,\dots,0$)?

# %% exercise="7.3"

# %% tags=["check"]
check("7.3", kept_by_ten_steps)

# %% verifies=["7.16"]
print(f"{'N':>6}{'equal angles':>15}{'linear':>10}   share of the variance of N(0, 1) kept")
kept = {}
for n in (2, 10, 50, 1_000):
    steps, row = schedule.trailing_steps(1_000, n), []
    for one in (circle, levels):
        def alone(x, t, one=one):
            return one.alpha_bar[t[0]].sqrt() * x

        end = samplers.final(samplers.ddim(alone, torch.ones(1).double(), one, steps)).item()
        product = one.alpha_bar[steps].sqrt().arccos().diff().cos().square().prod()
        checks.close(end**2, product, what=f"(7.16) for N = {n}", rtol=1e-6)
        row.append(end**2)
    kept[n] = row
    limit = math.cos(math.pi / 2 / n) ** (2 * n)
    checks.close(row[0], limit, what="equal angles keep the most", rtol=1e-6)
    print(f"{n:>6}{row[0]:>15.3f}{row[1]:>10.3f}")

# %%
reveal("7.3", kept[10][1])

# %% [markdown] tags=["fold"]
# ### Going deeper: noise at the last step: a bug?
# DDPM's code draws no noise in the step from $x_1$ to $x_0$. With the variance $\tilde\beta_1=0$ this follows from the formula; with $\beta_t$ it is
# a decision. For data with fine detail it is right: the last noise would stay on the picture. For $\mathcal N(0,1)$ leaving it out *loses*
# variance, as (7.16) would have it. Both, side by side, with ten steps:

# %%
tens = schedule.trailing_steps(1_000, 10)


def point(x, t):
    """The denoiser of data that are one point."""
    return torch.full_like(x, 0.7)


def bell(x, t):
    """That of data that are N(0, 1)."""
    return levels.alpha_bar[t[0]].sqrt() * x


for name, denoiser, truth in (("one point", point, 0), ("N(0, 1)", bell, 1)):
    for last in (False, True):
        noise = torch.randn(20_000).double()
        drawn = samplers.final(samplers.ancestral(denoiser, noise, levels, tens, wide=True,
                                                  noise_at_the_end=last))
        print(f"data {name:<10} {'with' if last else 'without':>8} the last noise: variance "
              f"{drawn.var():.3f}, truth {truth}")

# %% [markdown]
# **Which timesteps does DDIM take?** Any falling list. Three habits, for $N$ of $T$ steps: *trailing*, $T,\dots,T/N,0$, both ends included
# (ours); *leading*, $T-T/N+1,\dots,1,0$; *even*, from $T$ to $1$, then $0$. Leading starts below $T$, where some signal is left, but the sampler
# hands it pure noise. How much that matters depends on the schedule: with one that has reached $\bar\alpha\approx0$ long before $T$ it is
# harmless. Data that are $\mathcal N(1,0.5^2)$ show it: what comes out must have the mean 1.

# %%
def gaussian(mu, sigma, levels):
    """The exact denoiser of N(mu, sigma²) on this schedule."""

    def denoise(x, t):
        a = levels.alpha_bar[t[0]]
        return mu + a.sqrt() * sigma**2 / (a * sigma**2 + 1 - a) * (x - a.sqrt() * mu)

    return denoise


grids = {"trailing": tens, "leading": schedule.leading_steps(1_000, 10),
         "even": [*torch.linspace(1_000, 1, 10).round().long().tolist(), 0]}
came_out = {}
for name, one in (("linear", levels), ("cosine", circle)):
    for grid, steps in grids.items():
        centre = torch.zeros(1).double()  # the steps are affine: the mean walks as a point
        end = samplers.final(samplers.ddim(gaussian(1.0, 0.5, one), centre, one, steps))
        came_out[name, grid] = end.item()
        print(f"{name:<7} {grid:<9} starts with sqrt(alpha_bar) = "
              f"{one.alpha_bar[steps[0]].sqrt():.3f}, mean of the samples {end.item():.3f}")
checks.true(came_out["cosine", "leading"] < 0.95 < came_out["linear", "leading"],
            what="a leading grid misses the mean where signal is left, and only there")

# %% [markdown]
# **Why clip $\hat x_0$?** A guess read from predicted noise divides by $\sqrt{\bar\alpha_t}$, which is small early on, and may leave the range of pixels; clipping pulls them back. Then
# recompute $\hat\epsilon$ from the clipped guess. Otherwise the two no longer add up to $x_t$, and the step mixes images of two different worlds.
#
# Can fewer calls do? Solvers of second order lose less a step; the folded section measures how much less.

# %% [markdown] tags=["fold"]
# ### Going deeper: second order
# DDIM follows the ODE by straight pieces (in the right coordinates). Its error falls like $1/N$. Two ways to $1/N^2$: **Heun** tries
# the step, looks at the slope at its end, and takes the mean of both (two calls); **DPM-Solver++(2M)** remembers the last guess and extrapolates
# (one call). Measure the error at the end against a very fine solution *from the same noise*. That is a fair comparison: a distance between
# *sets* of samples can reward a crude solver for shrinking them.

# %%
fine = schedule.cosine_schedule(3_200, offset=0.0, max_beta=1.0)
start = torch.linspace(-1.8, 1.8, 61).double()
walk = list(range(3_040, 159, -1))  # between two levels; 2,880 steps


def guess(x, t):
    """The exact denoiser on the steps of the fine schedule."""
    return world.clean_given(x, fine.alpha_bar[t[0]].item()).mean


def turning(x, angle):
    """dx/dθ on the circle: the exact v."""
    a, b = math.cos(angle), math.sin(angle)
    return flow_matching.path_velocity(x, world.clean_given(x, a * a).mean, a, b, -b, a)


# %%
exact_end = samplers.final(samplers.dpm_solver(guess, start, fine, walk[::4]))
errors = {"DDIM": [], "DPM-Solver++(2M)": [], "Heun": []}
calls = (12, 24, 48, 96)
for n in calls:
    steps = walk[:: 2_880 // n]
    angles = torch.linspace(0.95, 0.05, n // 2 + 1).double() * math.pi / 2
    ends = (samplers.final(samplers.ddim(guess, start, fine, steps)),
            samplers.final(samplers.dpm_solver(guess, start, fine, steps)),
            samplers.final(samplers.heun(turning, start, angles.tolist())))
    for curve, end in zip(errors.values(), ends, strict=True):
        curve.append((end - exact_end).abs().mean())

# %%
orders = {name: math.log2(curve[-2] / curve[-1]) for name, curve in errors.items()}
fig, ax = plt.subplots(figsize=(5.6, 3.2))
for (name, curve), mark in zip(errors.items(), "os^", strict=True):
    ax.plot(calls, curve, f"{mark}-", label=name)
    print(f"{name:<18} error at {calls[-1]} calls {curve[-1]:.5f}, order {orders[name]:.2f}")
ax.set(xscale="log", yscale="log", xlabel="calls of the denoiser", ylabel="mean error",
       title="Against the fine solution from the same noise", xticks=calls, xticklabels=calls)
ax.minorticks_off()
ax.legend()
plots.show(fig)
# alt: Three falling lines; those of the two second-order solvers are steeper.
checks.true(0.8 < orders["DDIM"] < 1.3, what="DDIM is of first order")
second = min(orders["Heun"], orders["DPM-Solver++(2M)"])
checks.true(second > 1.6, what="the other two are of second order")
record(ddim_order=orders["DDIM"], dpm_order=orders["DPM-Solver++(2M)"])

# %% [markdown]
# ### Exercise 7.4 (2 points): one step of DDIM
# Your network predicts noise. Write `ddim_step`: from $x_t$ and $\hat\epsilon$ to $x_s$, with $\eta$ and given noise $z$.

# %% exercise="7.4"

# %% tags=["check"]
check("7.4", ddim_step)

# %% [markdown]
# ### Exercise 7.5 (2 points): find the bug
# A student's training loop makes its pairs like this. The loss falls, and samples are bad. There are two mistakes: one in what the
# network is shown, one in the times. Repair `training_pair`.

# %% exercise="7.5"
def training_pair(x_0, eps, uniform, alpha_bar):
    """What the network is shown, and the step: (x_t, t), for training with predicted noise.

    x_0, eps: (B, D), clean data and standard normal noise.
    uniform: (B,), numbers in [0, 1).
    alpha_bar: (T+1,), alpha_bar[0] = 1.
    Returns x_t (B, D) and t (B,), whole numbers, each of 1 … T equally often.
    """
    t = (uniform * (len(alpha_bar) - 1)).long()
    x_t = alpha_bar[1].sqrt() * x_0 + (1 - alpha_bar[1]).sqrt() * eps
    return x_t, t

# %% tags=["check"]
check("7.5", training_pair)

# %% [markdown]
# ### Exercise 7.6 (4 points): build a sampler
# Write `build_sampler`: it gets a denoiser, a schedule and at most 24 calls, and returns a function from noise to samples. The check
# counts the calls and compares with the fine ODE solution from the same noise, on a mixture that it keeps to itself.

# %% exercise="7.6"

# %% tags=["check"]
check("7.6", build_sampler)

# %% [markdown]
# ## 7.6 Images
#
# Nothing changes but the network. For pixels we take a small **U-Net**: an image goes down through a coarser level and up again,
# with wires across that carry fine detail past the narrow part. It predicts $v$, and the time enters every block. A CPU's minute is
# short, so it is narrow: 24 and 48 channels.

# %% quote="course_utils.nn.unet:UNet.forward"

# %%
n_pixel = {"smoke": 12, "class": 400, "full": 20_000}[budget]
unet = process.unet_diffusion(shape).to(device)
unet_ema = training.ema_of(unet, half_life=max(1, n_pixel / 12)).to(device)


def train_unet():
    optimizer = torch.optim.AdamW(unet.parameters(), 3e-3)
    batches = images.batches(data.train.images, 32)
    falling = training.cosine(optimizer, n_pixel)
    return training.fit(unet.loss, optimizer, batches, n_pixel, ema=unet_ema, clip_norm=5.0,
                        scheduler=falling, description="U-Net on pixels")


history = train_unet()
pixels = unet_ema.module.eval()

# %%
denoise = samplers.clipped(pixels.denoise)
noise = torch.randn(4, *shape, device=device)
film = list(samplers.ddim(denoise, noise, pixels.schedule, schedule.trailing_steps(1_000, 20)))
moments = (0, 8, 12, 14, 16, 18, 20)
frames = torch.stack([pixels.outside(film[k]) for k in moments], 1).flatten(0, 1).clamp(0, 1)
title = "Twenty DDIM steps in pixels: after " + ", ".join(map(str, moments))
plots.show(plots.images(frames, columns=7, width=5.2, title=title))
# alt: Four rows, from noise on the left to strokes of ink on the right.

# %% [markdown]
# Scrub through the walk: what there is, what the network takes for noise, and what it takes for the image. **Guess first:** what does the guess of the
# image look like at the very start, where there is only noise?

# %% tags=["widget"]
scrub = []
for x_t, t in zip(film[:-1], schedule.trailing_steps(1_000, 20), strict=False):
    with torch.no_grad():
        x_0 = denoise(x_t, torch.full((len(x_t),), t, device=device))
    eps = process.eps_from_x0(x_t, x_0, pixels.schedule.alpha_bar[t].item())
    scrub.append(torch.stack([0.5 + x_t / 5, 0.5 + eps / 5, pixels.outside(x_0)]).clamp(0, 1))
widgets.film(torch.stack(scrub), columns=2, axis="t", start=0,
             values=schedule.trailing_steps(1_000, 20)[:-1],
             names=["x_t", "predicted noise", "predicted image"],
             ask="Guess first: what is the predicted image at t = 1000?",
             options=["nearly the mean image", "a sharp digit", "noise"], right=0,
             answer="Pure noise says nothing, so the best guess is the mean of all images. It "
                    "sharpens only as the noise falls.")

# %% [markdown]
# Watch the order in which things are decided: first where ink lies, then the shape, at the very end the edges. That is the SNR again: at high noise only
# what is large can be told.
#
# ### In a latent space
# Most of those 784 numbers are not worth a network's effort. Chapter 03's autoencoder squeezes an image into 32 numbers and lost only detail,
# but its codes lay anywhere: it could not sample. Now we own a tool that learns any density of 32 numbers. So: train the autoencoder, freeze it,
# and learn the density of its *codes* by flow matching. This is **latent diffusion** (Rombach et al. 2022), and on a laptop it is the best use
# of a minute that we found. Two small changes make the codes easier: noise on them in training, so that neighbours decode alike, and a penalty on their
# length, so that they cannot run from the noise by growing. One network learns with labels and without: a tenth of the labels are hidden.

# %% quote="course_utils.models.diffusion.flow_matching:Latent"

# %%
n_ae = {"smoke": 60, "class": 500, "full": 10_000}[budget]
ae = autoencoder.mlp_autoencoder(
    shape,
    (512, 512),
    32,
    activation=nn.SiLU,
    mean_image=train_x.mean(0),
    latent_noise=0.1,
    penalty=autoencoder.small_codes(0.05),
    error=autoencoder.cross_entropy,
).to(device)
optimizer = torch.optim.Adam(ae.parameters(), 2e-3)
training.fit(
    ae.loss,
    optimizer,
    images.batches(data.train.images, 100),
    n_ae,
    description="autoencoder",
    scheduler=training.cosine(optimizer, n_ae),
)
with training.evaluating(ae):
    codes = torch.cat([ae.encoder(part) for part in train_x.split(1_000)])

# %%
n_latent = {"smoke": 80, "class": 1_000, "full": 20_000}[budget]
prior = flow_matching.vector_flow(32, 256, 3, 10, codes.mean(0), codes.std(0)).to(device)
prior_ema = training.ema_of(prior, half_life=max(1, n_latent / 12)).to(device)
optimizer = torch.optim.AdamW(prior.parameters(), 2e-3)
training.fit(
    prior.loss,
    optimizer,
    images.batches(codes, 128, data.train.labels),
    n_latent,
    description="flow matching on codes",
    ema=prior_ema,
    scheduler=training.cosine(optimizer, n_latent),
)
latent = flow_matching.Latent(ae.encoder, ae.decoder, prior_ema.module.eval())
labels = torch.arange(10, device=device).repeat_interleave(4)
drawn = latent.sample(40, labels, n_steps=10)
plots.show(plots.images(
    drawn.view(10, 4, *shape).transpose(0, 1).flatten(0, 1),
    columns=10,
    title="Drawn codes, decoded: four of each class, 20 calls of the network",
))
# alt: Four rows of the ten digits, most of them clean.

# %% [markdown]
# ### How good, and at how many calls?
# The Fréchet distance of chapter 05, over its *floor*: the distance between two halves of the real test images. A ratio of 1 would be perfect;
# density and coverage (chapter 05) say whether samples lie where data lie, and whether all data are reached. Beside it stands the
# *kernel distance*, also from chapter 05: it is unbiased, so it does not grow when samples are few. The autoencoder costs something,
# too: the first row has real images, sent through it. That is what a perfect density of its codes would score.

# %%
judge = classifier.feature_network(shape[0], len(data.classes)).to(device)
training.load_weights(shipped.path(f"features_{data.name}.safetensors"), judge)


def look(x):
    """Features (N, 64) and labels (N,) that a classifier trained on real images sees."""
    parts = [part.clamp(0, 1) for part in x.split(500)]
    with training.evaluating(judge):
        return (torch.cat([judge.features(part) for part in parts]),
                torch.cat([judge(part).logits.argmax(1) for part in parts]))


n_judged = {"smoke": 250, "class": 1_000, "full": 5_000}[budget]
real, _ = look(test_x[: 2 * n_judged])
n_judged = len(real) // 2  # the test set of handwriting holds 2,000
wanted = torch.arange(n_judged, device=device) % 10
halves = torch.Generator().manual_seed(seed)
floor, spread = metrics.half_against_half(metrics.frechet_distance, real, n_judged, halves)
print(f"two halves of the test images: Fréchet distance {floor:.2f} ± {spread:.2f}")


# %%
def measure(x):
    """Fréchet over the floor, density, coverage, how often the wanted label is seen."""
    seen, guess = look(x)
    density, coverage = metrics.density_coverage(seen, real[:n_judged])
    ratio = metrics.frechet_distance(seen, real) / floor
    kernel = metrics.kernel_distance(seen, real)
    accuracy = (guess == wanted[: len(x)]).double().mean().item()
    return {"ratio": ratio, "kernel": kernel, "density": density, "coverage": coverage,
            "accuracy": accuracy}


rows = {}
with training.evaluating(ae):
    rows["test images, reconstructed"] = measure(ae(test_x[:n_judged]))
for solver, n_calls in ((samplers.euler, 3), (samplers.euler, 20), (samplers.heun, 6),
                        (samplers.heun, 20), (samplers.heun, 60)):
    n_solver = n_calls // (2 if solver is samplers.heun else 1)
    torch.manual_seed(seed)  # the same noise for every row
    x = latent.sample(n_judged, wanted, n_steps=n_solver, solver=solver)
    rows[f"latent, {solver.__name__}, {n_calls} calls"] = measure(x)
print(f"{'':<30}{'Fréchet / floor':>17}{'kernel':>9}{'density':>9}{'coverage':>10}")
for name, row in rows.items():
    print(f"{name:<30}{row['ratio']:>17.1f}{row['kernel']:>9.3f}{row['density']:>9.2f}"
          f"{row['coverage']:>10.2f}")
best = rows["latent, heun, 20 calls"]
record(latent_ratio=best["ratio"], latent_coverage=best["coverage"])

# %%
n_unet = {"smoke": 50, "class": 200, "full": n_judged}[budget]
noise, few = torch.randn(n_unet, *shape, device=device), schedule.trailing_steps(1_000, 12)
drawn = samplers.final(samplers.dpm_solver(denoise, noise, pixels.schedule, few))
unet_row = measure(pixels.outside(drawn))
print(f"U-Net on pixels, no labels, 12 calls, {n_unet} images: Fréchet / floor "
      f"{unet_row['ratio']:.0f}, kernel {unet_row['kernel']:.3f}")
plots.show(plots.images(pixels.outside(drawn[:20]).clamp(0, 1), columns=10,
                        title=f"The U-Net after {n_pixel:,} steps, 12 calls"))
# alt: Twenty samples of the pixel model: strokes, some of which form digits.


# %% [markdown]
# The pixel model is far behind: it had to learn strokes from nothing, in fewer steps. (Its Fréchet distance comes from fewer images,
# which makes it larger; the kernel distance does not mind.)
#
# A trap: at the class budget on handwriting, three calls of Euler score no worse than sixty of Heun. That is no praise for three steps. Look at the density: it
# is well above that of the fine walks. Few steps shrink variance, as (7.16) said, samples crowd where data are dense, and a distance between sets may
# forgive that. Solvers are compared from the same noise, as in the last section.

# %% [markdown] tags=["fold"]
# ### Going deeper: inpainting
# The same network fills in what is missing, without new training. Walk the noisy path; after each step overwrite the known pixels with
# the known image, noised to the level reached. What is drawn must fit to what stands there. (It is a heuristic: each step sees the known part, but only through the noise.)

# %%
given = pixels.inside(test_x[:8])
where = torch.zeros(shape, dtype=torch.bool, device=device)
where[:, : shape[1] // 2] = True  # the upper half is known
steps40 = schedule.trailing_steps(1_000, {"smoke": 10, "class": 40, "full": 200}[budget])
filled = samplers.final(
    samplers.inpaint(denoise, torch.randn_like(given), pixels.schedule, steps40, given, where)
)
known = torch.where(where, test_x[:8], torch.full_like(test_x[:8], 0.5))
rows_shown = torch.cat([test_x[:8], known, pixels.outside(filled).clamp(0, 1)])
plots.show(plots.images(
    rows_shown,
    columns=8,
    width=6,
    title="Test images; their upper half; filled in by the U-Net",
))
# alt: Three rows: digits, the same with a grey lower half, and completions by the U-Net.
checks.close(torch.where(where, filled, given), given, what="the known half is untouched")

# %% [markdown] tags=["fold"]
# ### Going deeper: does it memorise?
# Suppose the network were perfect *on the training set*. Then $p(x_0)$ is $n$ points, $\hat x_0$ is an average of them with Bayes' weights, and
# at small noise one weight takes all: the sampler returns a training image, always. So a perfect fit to the training loss is a perfect
# memoriser, and every model that invents something does so because its network *cannot* fit that well. With more data the memoriser is harder to reach: networks
# learn to generate after a number of steps that hardly depends on $n$, and begin to memorise later, in proportion to $n$ (arXiv:2505.17638).

# %%
def empirical(bank):
    """The exact denoiser of a data set of these images alone, inside the model's range."""
    flat = bank.flatten(1)

    def guess(x, t):
        a = circle.alpha_bar[t[0]].item()
        square = torch.cdist(x.flatten(1), a**0.5 * flat).square()
        return ((-square / (2 * (1 - a))).softmax(1) @ flat).view_as(x)

    return guess


def nearest(x, others):
    """Root mean square distance of each image to the nearest of the others, per pixel."""
    return torch.cdist(x.flatten(1), others.flatten(1)).min(1).values / n_pixels**0.5


# %%
bank, fifty = pixels.inside(train_x[:200]), schedule.trailing_steps(1_000, 50)
noise = torch.randn(60, *shape, device=device)
copies = samplers.final(samplers.dpm_solver(empirical(bank), noise, circle, fifty))
invented = latent.sample(n_judged, wanted)
far = nearest(pixels.inside(invented[:60]), pixels.inside(train_x)).median()
usual = nearest(pixels.inside(test_x[:60]), pixels.inside(train_x)).median()
print(f"distance to the nearest training image: perfect fit {nearest(copies, bank).max():.4f} "
      f"(largest of 60), latent flow {far:.3f}, test images {usual:.3f} (medians)")
checks.true(nearest(copies, bank) < 0.02, what="the exact score of a training set returns it")
copying = metrics.data_copying(look(invented)[0], look(train_x)[0], real)
print(f"a sample is nearer to the training set than a test image is in {copying:.0%} of pairs")
record(data_copying=copying)

# %% [markdown] tags=["fold"]
# ### Going deeper: more data, later copies
# A network trained on few images comes near the memoriser by degrees. Train a small flow on the codes of 10, of 40 and of 160 images, always with the same
# number of steps and the same batch. Call a draw a *copy* if its nearest training code is three times nearer than the second nearest. **Guess first:** what
# happens to the copies when there are four times as many images?

# %%
marks = {"smoke": (20, 40), "class": (200, 400, 800), "full": (200, 400, 800, 1_600)}[budget]


def copied(x, n):
    """The share that lies three times nearer to one of n training codes than to any other."""
    near = torch.cdist(x, codes[:n]).topk(2, largest=False).values
    return (near[:, 0] < near[:, 1] / 3).double().mean().item()


def copies_by_step(n):
    """Train on n codes alone; the share of copies in 200 draws, after so many steps."""
    torch.manual_seed(seed)
    small = flow_matching.vector_flow(32, 128, 2, 0, codes.mean(0), codes.std(0)).to(device)
    optimizer, done, shares = torch.optim.AdamW(small.parameters(), 2e-3), 0, []
    batches = iter(lambda: codes[torch.randint(n, (64,), device=device)], None)
    for mark in marks:
        training.fit(small.loss, optimizer, batches, mark - done, description=f"{n} images")
        shares.append(copied(small.sample(200, n_steps=10), n))
        done = mark
    return shares


# %%
by_size = {n: copies_by_step(n) for n in (10, 40, 160)}
with training.evaluating(ae):
    unseen = ae.encoder(test_x[:200])
print("share of copies after " + ", ".join(f"{mark:,}" for mark in marks) + " steps")
for n, shares in by_size.items():
    print(f"{n:>4} images: " + "  ".join(f"{share:.2f}" for share in shares)
          + f"   (test images, as if drawn: {copied(unseen, n):.2f})")
if budget != "smoke":
    checks.true(by_size[10][-1] > by_size[40][-1] > by_size[160][-1],
                what="the fewer images, the more copies after the same steps")

# %% [markdown]
# The loss never says so: a model that copies has the lower one. What protects from copying is more data, a smaller network, or to stop in time.

# %% [markdown] tags=["fold"]
# ### Going deeper: why predict noise, and when not to
# Data of $D$ pixels often lie near a sheet of few dimensions. The noise does not: it fills all $D$. A network that must answer with the noise has to carry $D$
# random numbers from input to output. If it is narrower than $D$, it cannot, whatever it knows about the data. Answering with $x_0$ is easy: the sheet is thin. Try it: a
# closed curve, put into $D$ dimensions by a random rotation, a network with 64 hidden units, one step from moderate noise to the guess. (Li and He 2025, arXiv:2511.13720.)

# %%
def off_curve(n_dims, reading, n=300):
    """Train a narrow network with one reading; distance of x̂₀ from the curve's plane."""
    torch.manual_seed(seed)
    plane = torch.linalg.qr(torch.randn(n_dims, 2)).Q.T  # two orthonormal rows

    def curve(n):
        turn = 2 * math.pi * torch.rand(n)
        return n_dims**0.5 * torch.stack([turn.cos(), (2 * turn).sin()], 1) @ plane

    network = process.AdaptiveMLP(n_dims, 64, 2)
    model = process.Diffusion(network, circle, (n_dims,), reading)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    training.fit(
        model.loss, optimizer, iter(lambda: curve(256), None), n, description=f"D = {n_dims}"
    )
    with training.evaluating(model):
        t = torch.full((500,), 400)
        x_t = process.q_sample(
            curve(500), circle.at(t[:1], torch.ones(1, 1)), torch.randn(500, n_dims)
        )
        guess = model.denoise(x_t, t)
    return ((guess - guess @ plane.T @ plane).square().sum(1).mean() / n_dims).sqrt().item()


# %%
readings = {"x₀": process.X_0, "v": process.V, "ε": process.EPS}
n_curve = {"smoke": 30, "class": 200, "full": 1_000}[budget]
dims = (2, 256)
off = {
    name: [off_curve(d, reading, n_curve) for d in dims] for name, reading in readings.items()
}
for name, values in off.items():
    print(
        f"predict {name:<3} distance off the plane: {values[0]:.3f} in D = {dims[0]}, "
        f"{values[1]:.3f} in D = {dims[1]}"
    )
checks.true(
    off["x₀"][1] < off["ε"][1],
    what="narrow network, many dimensions: predicting x₀ stays nearer to the plane",
)

# %% [markdown]
# A U-Net does not suffer so: its wires across carry the noise from input to output untouched. That is why DDPM could predict $\epsilon$ in pixels, and why
# our MLP on 32 codes predicts a velocity without trouble: it is wider than its space.

# %% [markdown]
# ## 7.7 Guidance
#
# We asked for a class, and got it most of the time. How to ask louder? By Bayes' rule
# $\nabla\log p(x_t\mid y)=\nabla\log p(x_t)+\nabla\log p(y\mid x_t)$. **Classifier guidance** (Dhariwal and Nichol 2021, the paper that our notes cite) trains a
# classifier on *noisy* images and multiplies its slope by $s$. **Classifier-free guidance** (Ho and Salimans 2022) needs no classifier: the slope is the difference of
# two scores that one network gives, with the label and without:
#
# $$ \tilde\epsilon=\hat\epsilon_u+s\,(\hat\epsilon_c-\hat\epsilon_u), \qquad s=0 \text{ unconditional},\quad s=1 \text{ conditional},\quad s>1 \text{ louder}. \tag{7.17} $$
#
# $\hat x_0$, $v$, the score and flow matching's $u$ may be mixed in the same way: by (7.5) each is an affine function of $\hat\epsilon$, and the weights $1-s$ and $s$ add up to 1.
# **$w$ or $1+w$?** The paper writes $(1+w)\hat\epsilon_c-w\,\hat\epsilon_u$: its $w$ is our $s-1$.
#
# *What does it sample?* At each time, (7.17) is the score of $p_t(x_t\mid y)^s\,p_t(x_t)^{1-s}$. It is tempting to say: so we sample from the **tilted**
# density $p(x\mid y)^sp(x)^{1-s}$. We do not. Noising and taking powers do not commute, so these are not the noised versions of any one density. Where everything is Gaussian, both can
# be computed: $p_c=\mathcal N(1,0.5^2)$, $p_u=\mathcal N(0,1.5^2)$. Measure noise by its variance $\tau$ and leave the signal unshrunk. Then the ODE is
# $\mathrm dx/\mathrm d\tau=-\tfrac12\times$ the score (chapter 03's $\tilde x=x+\sqrt\tau\,\epsilon$; the blur of 7.4 with $g=1$, as a flow). The guided score,
# $\sum_iw_i(\mu_i-x)/(\sigma_i^2+\tau)$ with weights $w_u=1-s$ and $w_c=s$, is a straight line in $x$. So the distance of two particles grows
# like $\prod_i(\sigma_i^2+\tau)^{w_i/2}$: from $\sqrt\tau$ at the noisy end it comes down to
# $\sigma_c^{\,s}\,\sigma_u^{\,1-s}$, which is the standard deviation of guided samples. The tilted density adds up precisions instead,
# $1/\sigma^2=s/\sigma_c^2+(1-s)/\sigma_u^2$.

# %% quote="course_utils.models.diffusion.samplers:guided"

# %%
conditional, unconditional = gaussian(1.0, 0.5, circle), gaussian(0.0, 1.5, circle)


def guided_law(s):
    """(mean, standard deviation) of guided samples; each step is affine: two points do."""
    def towards(x, t):
        return samplers.guided(unconditional(x, t), conditional(x, t), s)

    start, every = torch.tensor([0.0, 1.0]).double(), range(1_000, -1, -1)
    low, high = samplers.final(samplers.ddim(towards, start, circle, every)).tolist()
    return torch.tensor([low, high - low])


# %% verifies=["7.17"]
eps_u, eps_c, w = *torch.randn(2, 4).double(), 1.5
paper = (1 + w) * eps_c - w * eps_u
mixed = samplers.guided(eps_u, eps_c, w + 1)
checks.close(mixed, paper, what="(7.17): the papers' w is our s minus 1")
x, a = torch.linspace(-2, 2, 9).double(), 0.4  # guidance by a classifier, the exact one
x_u = world.clean_given(x, a).mean
left = GaussianMixture(torch.ones(1).double(), means[:1], variances[:1])  # one cluster
x_c = left.clean_given(x, a).mean


def sure(x, t):
    """log p(left cluster | x_t), by Bayes' rule on the noised world."""
    return world.noised(a).posterior(x).log()[:, 0]


even = schedule.Schedule(torch.tensor([1.0, a]).double())
led = samplers.classifier_guided(lambda x, t: x_u, sure, even, 2.5)(x, torch.ones(9).long())
checks.close(led, samplers.guided(x_u, x_c, 2.5), what="a classifier guides like (7.17)")

print(f"{'s':>4}{'guided':>18}{'tilted':>18}   (mean, standard deviation)")
for s in (0.0, 1.0, 2.0, 4.0):
    found, precision = guided_law(s), s / 0.25 + (1 - s) / 2.25  # the two exponents, added up
    tilted = s / 0.25 / precision, precision**-0.5
    alike = 0.5**s * 1.5 ** (1 - s)
    checks.close(found[1], alike, what=f"guided with s = {s:g}: σ_c^s σ_u^(1-s)", atol=3e-3)
    print(f"{s:>4}{found[0]:>11.3f}{found[1]:>7.3f}{tilted[0]:>11.3f}{tilted[1]:>7.3f}")

# %% [markdown]
# Guided samples lie further out and are far more alike than the tilted density would have them. That is what guidance is used for, and what it costs. The same on images,
# beside how often the classifier sees the right label on test images:

# %%
n_heun, loud = {"smoke": 4, "class": 10, "full": 20}[budget], {}
for s in (0.5, 1.0, 1.5, 2.0, 3.0, 5.0):
    torch.manual_seed(seed)
    loud[s] = measure(latent.sample(n_judged, wanted, n_steps=n_heun, s=s))
own = (look(test_x)[1] == data.test.labels).double().mean()
print(f"label seen by the classifier on test images: {own:.3f}")
print(f"{'s':>4}{'label seen':>12}{'coverage':>10}{'density':>9}{'Fréchet / floor':>17}")
for s, row in loud.items():
    print(f"{s:>4}{row['accuracy']:>12.3f}{row['coverage']:>10.2f}{row['density']:>9.2f}"
          f"{row['ratio']:>17.1f}")
if budget != "smoke":
    checks.true(loud[3.0]["accuracy"] > loud[0.5]["accuracy"], what="louder: labels are surer")
    checks.true(loud[5.0]["coverage"] < loud[1.0]["coverage"], what="and less is covered")
record(guided_accuracy=loud[1.5]["accuracy"], guided_coverage=loud[1.5]["coverage"])

# %% [markdown]
# A little louder than $s=1$, labels become surer at hardly any cost: at the class budget on handwriting $s=1.5$ has even the best distance, below that of reconstructed
# test images. (No contradiction: the distance sees only the mean and covariance of features, and can be low for a law that is not the data's.) Then coverage falls.
#
# **Guess first:** at which $s$ does variety become visibly smaller?

# %% tags=["widget"]
strengths, sheets = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0), []
for s in strengths:
    torch.manual_seed(seed + 1)  # the same noise at every strength
    of_each = torch.arange(10, device=device).repeat(6)
    sheets.append(latent.sample(60, of_each, n_steps=n_heun, s=s))
widgets.film(torch.stack(sheets)[:, None], columns=10, axis="guidance s", values=strengths,
             names=["six draws of each class"], start=2,
             ask="Guess first: what happens to the six rows as s grows?",
             options=["they become blurred", "they become alike", "nothing"], right=1,
             answer="Louder guidance makes labels surer and pictures of a class more alike: "
                    "in the table above coverage falls as s grows.")

# %% [markdown] tags=["fold"]
# ### Going deeper: the papers' letter
# #### Exercise 7.7 (1 point): the papers' guidance
# Write `guided_x0` in the papers' convention $w$, for a network that predicts *noise*, and return the guided guess $\hat x_0$.

# %% exercise="7.7"

# %% tags=["check"]
check("7.7", guided_x0)

# %% [markdown]
# ## What to remember
#
# * Noise is added by a fixed rule, in closed form. One number says how much is left: the SNR.
# * One lemma: squared error finds the conditional mean, and its floor is the conditional variance. Noise, clean image, velocity and score are one
#   thing, read four ways. A flat loss says that the floor dominates, not that nothing is learned.
# * Knowing $x_0$, the step back is a Gaussian. The bound is a sum of weighted denoising errors; the simplified loss has another weight.
# * Mass is conserved. The mean velocity carries the whole density; noise may be added if the score takes it back. An ODE is invertible without being built so.
# * Few steps shrink variance. Compare solvers from the same noise, not by a distance between sets.
# * In a latent space the same method works with a small network. A perfect fit to the training set would be a memoriser.
# * Guidance trades variety for certainty, and it is not the tilted density.
#
# **The question this leaves:** a path led from noise to an image. Can a path through *space* lead from rays of light to a scene? Chapter 08 integrates
# along rays.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * J. Sohl-Dickstein et al., *Deep unsupervised learning using nonequilibrium thermodynamics*, 2015, arXiv:1503.03585.
# * J. Ho, A. Jain, P. Abbeel, *Denoising diffusion probabilistic models*, 2020, arXiv:2006.11239.
# * A. Nichol, P. Dhariwal, *Improved denoising diffusion probabilistic models*, 2021, arXiv:2102.09672. E. Hoogeboom, J. Heek, T. Salimans, *Simple
#   diffusion*, 2023, arXiv:2301.11093. S. Lin et al., *Common diffusion noise schedules and sample steps are flawed*, 2024, arXiv:2305.08891.
# * B. Efron, *Tweedie's formula and selection bias*, 2011. P. Vincent, *A connection between score matching and denoising autoencoders*, 2011.
# * D. Guo, S. Shamai, S. Verdú, *Mutual information and minimum mean-square error in Gaussian channels*, 2005.
# * D. Kingma et al., *Variational diffusion models*, 2021, arXiv:2107.00630. T. Salimans, J. Ho, *Progressive distillation*, 2022, arXiv:2202.00512.
# * B. Anderson, *Reverse-time diffusion equation models*, 1982. Y. Song et al., *Score-based generative modeling through stochastic differential
#   equations*, 2021, arXiv:2011.13456. R. Chen et al., *Neural ordinary differential equations*, 2018, arXiv:1806.07366.
# * Y. Lipman et al., *Flow matching for generative modeling*, 2023, arXiv:2210.02747. X. Liu, C. Gong, Q. Liu, *Flow straight and fast*, 2023,
#   arXiv:2209.03003. M. Albergo, N. Boffi, E. Vanden-Eijnden, *Stochastic interpolants*, 2023, arXiv:2303.08797.
# * J. Song, C. Meng, S. Ermon, *Denoising diffusion implicit models*, 2021, arXiv:2010.02502. C. Lu et al., *DPM-Solver++*, 2022, arXiv:2211.01095.
# * O. Ronneberger, P. Fischer, T. Brox, *U-Net*, 2015, arXiv:1505.04597. R. Rombach et al., *High-resolution image synthesis with latent diffusion
#   models*, 2022, arXiv:2112.10752. A. Lugmayr et al., *RePaint*, 2022, arXiv:2201.09865.
# * P. Dhariwal, A. Nichol, *Diffusion models beat GANs on image synthesis*, 2021, arXiv:2105.05233. J. Ho, T. Salimans, *Classifier-free diffusion
#   guidance*, 2022, arXiv:2207.12598.
# * T. Bonnaire et al., *Why diffusion models don't memorize*, 2025, arXiv:2505.17638. T. Li, K. He, *Back to basics: let denoising generative models
#   denoise*, 2025, arXiv:2511.13720.
