# %% [markdown]
# # 1. Discriminative and generative models
#
# **One question runs through this chapter: what does the model know about $x$?**
#
# Show a trained classifier a page of television noise. It names a digit, sometimes with 100 % confidence. Show it a
# blank page. It names a digit again. It has learned to tell digits apart, but it never learned what a digit *is*.
#
# A generative model learns that. It spreads one unit of probability over all images there could be, so it has an
# opinion about $x$ itself. With that opinion it can label, reject, repair and invent. It also makes mistakes of its
# own, and one of them will surprise you.
#
# You need: derivatives, the Gaussian density, a little PyTorch. The core path takes about {minutes} minutes. Sections marked
# *Going deeper* start folded; the later chapters do not depend on them.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, digits, mnist, fashion_mnist, kmnist, cifar10
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
import math

import matplotlib.pyplot as plt
import scipy
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE

# quoted functions check what they get with it
import course_utils.expect as expect
from course_utils import checks, distributions, metrics, plots, training, widgets
from course_utils.chapter import pick_budget, pick_device, pick_seed, record
from course_utils.data import densities, handwriting, images
from course_utils.exercises import check, reveal, score
from course_utils.models import classifier, energy

plots.style()
seed, device = pick_seed(seed), pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_train = {"smoke": 1_000, "class": 10_000, "full": None}[budget]
n_steps = {"smoke": 100, "class": 1_500, "full": 5_000}[budget]
print(f"budget {budget} on {device}: {n_steps} training steps")

# %% [markdown]
# ## 1.1 Two kinds of learning
#
# A teacher asks 100 students to write the word "hello" and collects 100 different images. What made them different?
# How hard each student pressed, how far the letters lean, how wide they are, how fast and how neatly each hand moved.
# Those causes are *hidden factors*: no image comes with them written beside it.
#
# Our data set, `handwriting`, is made that way. We choose the factors, then draw the strokes. It looks like MNIST, it
# needs no download, and, unlike with MNIST, we can look up the true factors whenever we want to check a claim.

# %%
hello = handwriting.sample_words(8, "hello", seed=seed)
plots.show(plots.images(images.to_float(hello.images), columns=4,
                        title='Eight students write "hello"'))
# alt: Eight handwritten versions of the word hello that differ in slant, width, stroke thickness and neatness.

# %%
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
n_channels, height, width = data.train.images.shape[1:]
n_pixels = n_channels * height * width
n_classes = len(data.classes)
print(f"{data.name}: {len(data.train.images)} training images of "
      f"{n_channels}×{height}×{width}, {n_classes} classes")
first = images.to_float(data.train.images[:40])
plots.show(
    plots.images(first, columns=10, title=f"The first 40 images of {data.name}"),
    alt=f"Forty training images of the data set {data.name} in a grid.",
)

# %% [markdown]
# **Supervised learning** gets pairs $(x, y)$: an image and the label a person gave it. The goal is a function
# $f: x \to y$. We train two. *Logistic regression* is one linear layer. The *convolutional network* is two
# convolutions and two linear layers. Both turn their outputs into probabilities with a softmax, so both model
# $p(y\mid x)$.
#
# Training minimises $-\log p(y\mid x)$, averaged over the examples. (Why the logarithm? Because probabilities of
# independent examples multiply, and a logarithm turns the product into a sum: section 1.7.)
# Logarithms are natural in this course, and their unit is called a *nat*: 1 nat is 1.44 bits. This is the loop,
# written out in full:

# %% quote="course_utils.training.loop:steps"

# %%
linear = classifier.logistic_regression(n_pixels, n_classes).to(device)
cnn = classifier.small_cnn(n_channels, n_classes).to(device)
curves = {}
for name, model in {"logistic regression": linear, "convolutional network": cnn}.items():
    batches = images.batches(data.train.images, batch_size=128, labels=data.train.labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    history = training.fit(model.loss, optimizer, batches, n_steps, description=name)
    curves[name] = history["loss"]

# %%
test_x, test_y = images.to_float(data.test.images), data.test.labels
with training.evaluating(cnn), training.evaluating(linear):
    # (N, K), already normalised log p(y|x)
    cnn_log_p, linear_log_p = cnn(test_x).logits, linear(test_x).logits
fig, ax = plt.subplots(figsize=(6.5, 2.8))
for name, loss in curves.items():
    ax.plot(loss, label=name, alpha=0.8)
ax.set(xlabel="training step", ylabel="−log p(y|x) on a batch [nats]",
       title="Two classifiers learn", ylim=(0, 2.5))
ax.legend()
plots.show(fig)
# alt: The training loss of both classifiers falls, fast at first and then slowly.
record(cnn_accuracy=metrics.accuracy(cnn_log_p, test_y),
       linear_accuracy=metrics.accuracy(linear_log_p, test_y))

# %% [markdown]
# **Unsupervised learning** gets the images alone. Nobody says what is right, so each method chooses something about
# $x$ to describe:
#
# * *Clustering* ($k$-means): which images belong together?
# * *Principal component analysis* (PCA): which few directions carry most of the variance?
# * *t-SNE*: where on a plane do I put the points so that neighbours stay neighbours? (Only who is near whom means
#   something; axes and distances between islands do not.)
# * *Feature learning*: which code lets me rebuild the image? Chapter 03 trains such a code.
# * *Density estimation*: how probable is this image? That is the question of this course.
#
# Here are the first three on the same digits. The colours are the labels, and the methods have not seen them.

# %%
n_points = min({"smoke": 200, "class": 1_000, "full": 2_000}[budget], len(data.train.images))
rows = images.to_float(data.train.images[:n_points]).flatten(1).cpu()
labels = data.train.labels[:n_points].cpu()
pca = PCA(n_components=2, random_state=seed).fit(rows)
kept = pca.explained_variance_ratio_.sum()
maps = {
    f"PCA keeps {kept:.0%} of the variance": pca.transform(rows),
    "t-SNE keeps neighbours": TSNE(random_state=seed, perplexity=30,
                                   max_iter=500).fit_transform(rows),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 4))
for ax, (title, points) in zip(axes, maps.items()):
    dots = ax.scatter(points[:, 0], points[:, 1], c=labels, cmap=plots.CLASSES, s=8)
    ax.set(title=title, xlabel="first coordinate", ylabel="second coordinate")
fig.colorbar(dots, ax=axes, ticks=range(n_classes), label="label (not used)")
plots.show(fig)
# alt: Two maps of the digits coloured by label: PCA mixes the classes, t-SNE separates most of them.

# %%
kmeans = KMeans(n_classes, n_init=4, random_state=seed).fit(rows)
members = torch.as_tensor(kmeans.labels_).long()
counts = torch.zeros(n_classes, n_classes).index_put_((members, labels), torch.ones(n_points),
                                                      accumulate=True)
# name each cluster after its commonest label
purity = (counts.max(1).values.sum() / n_points).item()
shuffled = labels[torch.randperm(n_points)]
chance = torch.zeros_like(counts).index_put_((members, shuffled), torch.ones(n_points),
                                             accumulate=True)
print(f"purity {purity:.0%}; with shuffled labels "
      f"{(chance.max(1).values.sum() / n_points).item():.0%}")
centres = torch.as_tensor(kmeans.cluster_centers_).reshape(-1, n_channels, height, width)
captions = [f"mostly {data.classes[k]}" for k in counts.argmax(1)]
plots.show(plots.captioned(centres, captions, columns=n_classes,
                           title=f"Centres of {n_classes} clusters", width=9))
# alt: The mean image of each k-means cluster; several look like one digit, some blend two.
record(kmeans_purity=purity)

# %% [markdown]
# Without a single label, $k$-means finds groups that agree with the labels far more often than with shuffled labels.
# It also merges digits that overlap as images, and splits one that is written in two ways. It groups by *what $x$
# looks like*, and nobody told it what we care about.

# %% [markdown]
# ## 1.2 Three distributions, one picture
#
# Write $x$ for an image and $y$ for a label. Three kinds of model differ in what they give probability to.
#
# * A **discriminative** model learns $p(y\mid x)$.
# * A **generative** model learns $p(x)$.
# * A **conditional generative** model learns $p(x\mid y)$.
#
# The bar looks harmless. It decides *who competes with whom*, because each must add up to one over what stands left
# of the bar:
#
# $$ \sum_y p(y\mid x) = 1 \;\text{ for every } x, \qquad \int p(x)\,\mathrm{d}x = 1, \qquad
#    \int p(x\mid y)\,\mathrm{d}x = 1 \;\text{ for every } y. \tag{1.1} $$
#
# In $p(y\mid x)$ the *labels* compete for one unit of probability, and every $x$ gets a whole unit of its own,
# however absurd it is. The classifier must label nonsense. In $p(x)$ all *images* compete for the same single unit.
# An image can get more only if others get less, so nonsense can be given almost nothing.
#
# The three are tied together. The joint density can be split in two ways,
#
# $$ p(x, y) = p(x\mid y)\,p(y) = p(y\mid x)\,p(x), \tag{1.2} $$
#
# and dividing by $p(y)$ gives **Bayes' rule**:
#
# $$ p(x\mid y) = \frac{p(y\mid x)\,p(x)}{p(y)}, \qquad p(y)=\int p(y\mid x)\,p(x)\,\mathrm{d}x . \tag{1.3} $$
#
# Read it as a recipe. Take a classifier $p(y\mid x)$ and a model of all images $p(x)$. Multiply and divide. You have
# built a density of the requested class. To *draw* from it, draw $x$ from $p(x)$ and keep it with probability
# $p(y\mid x)$: what is kept is distributed as $p(x)\,p(y\mid x)$ up to a constant, and that is (1.3).
#
# Let us do exactly that where we can see everything: two dimensions and three classes. We know the truth, but the
# recipe may use only the two ingredients. Each call of `checks` below is a *law*: it compares two things that were
# computed in different ways, prints one line if they agree, and stops the chapter if they do not.

# %% verifies=["1.1", "1.2", "1.3"]
truth = distributions.GaussianMixture(
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    means=torch.tensor([[-1.5, 0.0], [1.5, 1.0], [1.0, -1.5]], dtype=torch.float64),
    covariances=torch.tensor([[0.6, 0.9], [0.8, 0.3], [0.3, 0.4]], dtype=torch.float64),
)
x, cell = checks.grid((-6, 6), (-6, 6), n=240)  # the midpoints of 240 × 240 cells
p_x, p_y_given_x = truth.log_prob(x).exp(), truth.posterior(x)  # the two ingredients
p_y = (p_y_given_x * p_x[:, None]).sum(0) * cell
p_x_given_y = p_y_given_x * p_x[:, None] / p_y  # Bayes' rule (1.3)

joint = truth.joint_log_prob(x).exp()
checks.close(p_x_given_y * p_y, joint, what="p(x|y) p(y) = p(x, y)")
checks.close(p_y_given_x * p_x[:, None], joint, what="p(y|x) p(x) = p(x, y)")
checks.close(p_x_given_y, truth.component_distribution.log_prob(x[:, None]).exp(),
             what="composed p(x|y) = true p(x|y)")
checks.close(p_y, [0.5, 0.3, 0.2], what="p(y) from the two ingredients")
checks.close(p_y_given_x.sum(1), 1.0, what="labels compete: Σ p(y|x) = 1 at every x")
checks.close(p_x.sum() * cell, 1.0, what="points compete: ∫ p(x) dx = 1")
checks.close(p_x_given_y.sum(0) * cell, torch.ones(3), what="∫ p(x|y) dx = 1 for every y")

# %%
drawn = truth.sample((40_000,))  # x ~ p(x)
# with probability p(y=1|x)
kept = drawn[torch.rand(len(drawn), dtype=torch.float64) < truth.posterior(drawn)[:, 1]]
requested = truth.component_distribution.mean[1]
checks.monte_carlo(kept, requested, what="what is kept has the mean of the requested class")
checks.monte_carlo((kept - requested) ** 2, truth.component_distribution.variance[1],
                   what="and its variance")
print(f"kept {len(kept) / len(drawn):.0%} of the draws; p(y=1) is {p_y[1]:.0%}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(9, 3.9))
square = dict(origin="lower", extent=(-6, 6, -6, 6))
fields = [p_y_given_x.max(1).values, p_x, p_x_given_y[:, 1]]
titles = ["largest p(y|x)", "p(x)", "p(x|y=1), composed"]
units = ["probability", "probability per unit area", "probability per unit area"]
for ax, field, title, unit in zip(axes, fields, titles, units):
    shown = ax.imshow(field.reshape(240, 240).T.numpy(), cmap="viridis", **square)
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    fig.colorbar(shown, ax=ax, location="bottom", label=unit)
corner = torch.tensor([[-6.0, 6.0]], dtype=torch.float64)
sure, rare = truth.posterior(corner).max(), truth.log_prob(corner).exp().item()
print(f"In the empty corner: largest p(y|x) = {sure:.3f}, p(x) = {rare:.1e}")
plots.show(fig)
# alt: Three maps of a plane: the classifier is confident even in empty corners, the density is not.

# %% [markdown]
# The left panel is the problem in one picture. In most of the empty plane, where no data ever was, the classifier is
# *certain*. Nothing in (1.1) forces that; it could answer 1/3 each. But the log-odds of two classes usually keep
# growing as we walk away from the data, so one class wins. What (1.1) does force: there is no "none of these". The
# middle panel knows better.
#
# What can one do with each?
#
# | model | can | cannot |
# |---|---|---|
# | $p(y\mid x)$ | label; learn features that separate the labels | say that $x$ is absurd; draw an $x$ |
# | $p(x)$ | find outliers; learn features without labels; draw new $x$ | label |
# | $p(x\mid y)$ with $p(y)$ | label by Bayes' rule, *and* reject, *and* draw a requested class | say anything without a model of every class: it has the most to learn |

# %% [markdown]
# ### Exercise 1.1 (1 point): Bayes' rule that does not underflow
# For an image, $\log p(x\mid y)$ is hundreds or thousands, of either sign, and on a computer $e^{-2000}$ is zero and
# $e^{2000}$ infinite. Write `posterior`: from `log_likelihood` `(B, K)` and `log_prior` `(K,)` to $p(y\mid x)$, `(B,
# K)`. Stay in logarithms until the end.
#
# (The check calls your function on inputs of its own, in double precision. Where an answer is wrong it shows one of
# them, and `case` gives you all of its numbers.)

# %% exercise="1.1"

# %% tags=["check"]
check("1.1", posterior)

# %% [markdown]
# ## 1.3 Two roads to the same classifier
#
# Suppose each class is a Gaussian cloud, $p(x\mid y=k)=\mathcal N(x;\mu_k,\Sigma)$, and all clouds share one
# covariance $\Sigma$. Write $\pi_k=p(y=k)$. What is $p(y\mid x)$? Start from Bayes' rule and take the logarithm of
# the numerator:
#
# $$ \log \pi_k + \log p(x\mid y=k) = \log\pi_k - \tfrac12 (x-\mu_k)^\top\Sigma^{-1}(x-\mu_k) - \tfrac12\log|2\pi\Sigma| . $$
#
# Multiply out the square:
#
# $$ -\tfrac12 (x-\mu_k)^\top\Sigma^{-1}(x-\mu_k) =
#    -\tfrac12 x^\top\Sigma^{-1}x + \mu_k^\top\Sigma^{-1}x - \tfrac12 \mu_k^\top\Sigma^{-1}\mu_k . $$
#
# Two terms, $-\tfrac12 x^\top\Sigma^{-1}x$ and the determinant, are the same for every class. A softmax does not
# change when the same number is added to all its inputs, so they cancel. What remains is *linear in $x$*:
#
# $$ p(y=k\mid x) = \operatorname{softmax}_k\Big(\mu_k^\top\Sigma^{-1}x - \tfrac12 \mu_k^\top\Sigma^{-1}\mu_k + \log\pi_k\Big). \tag{1.4} $$
#
# This is **linear discriminant analysis** (LDA). It has *the same form* as logistic regression: a linear layer and a
# softmax. The difference is where the weights come from. Logistic regression turns its weights until $p(y\mid x)$
# fits the labels. LDA measures class means and a covariance, a full story of how $x$ came about, and reads the
# weights off.
#
# The cell below also uses `checks.fails`. It names a claim that sounds right and shows that it is false: its line says
# *refuted, as it must be*, and then the claim. A law that nothing could break would prove nothing.

# %% quote="course_utils.models.classifier:lda_logits"

# %% verifies=["1.4"] tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(1)
means = torch.randn(4, 5, generator=generator, dtype=torch.float64)
root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
sigma = root @ root.T + torch.eye(5, dtype=torch.float64)
weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
x = 3 * torch.randn(1_000, 5, generator=generator, dtype=torch.float64)

clouds = distributions.GaussianMixture(weights, means, sigma.expand(4, -1, -1))
by_bayes = clouds.posterior(x)  # from the Gaussian densities
by_formula = classifier.lda_logits(x, means, sigma.inverse(), weights).softmax(-1)
checks.close(by_formula, by_bayes, what="LDA's softmax is Bayes' rule on the densities")
own = distributions.GaussianMixture(weights, means,
                                    torch.stack([(k + 1) * sigma for k in range(4)]))
checks.fails(lambda: torch.allclose(own.posterior(x), by_formula),
             what="with a covariance for each class the formula is still right")

# %% [markdown]
# Same form, different weights: which road is better? It depends on whether the story is *true*. Here are two toy
# worlds.
#
# * **World A** keeps LDA's promise: two Gaussian clouds with one covariance, in ten dimensions.
# * **World B** breaks it: in class 1, a quarter of the points sit far out. They are easy to label, but they drag the
#   class mean and the covariance with them.
#
# **Guess before you run:** who wins with 60 examples in world A? Who wins with 4,000 in world B?

# %%
def world_a(n):
    y = torch.randint(2, (n,))
    mix = torch.tril(torch.full((10, 10), 0.3)) + 0.7 * torch.eye(10)
    shift = 4 * torch.ones(10) / math.sqrt(10)  # the clouds are 4 standard deviations apart
    return (torch.randn(n, 10) + y[:, None] * shift) @ mix.T, y


def world_b(n):
    y = torch.randint(2, (n,))
    x = torch.randn(n, 10)
    far = (y == 1) & (torch.rand(n) < 0.25)
    x[:, 0] = 0.5 * x[:, 0] + torch.where(y == 1, 1.0, -1.0) + 8.0 * far
    return x, y


def errors(world, n, test):
    x, y = world(n)
    while y.unique().numel() < 2:
        x, y = world(n)
    gaussians = classifier.fit_class_gaussians(x, y, 2, shared=True, ridge=1e-3)
    # C=1e4: next to no penalty, maximum likelihood
    logistic = LogisticRegression(C=1e4, max_iter=1_000).fit(x, y)
    lda_error = 1 - metrics.accuracy(gaussians.posterior(test[0]), test[1])
    return lda_error, 1 - logistic.score(*test)


# %%
sizes = [30, 60, 120, 300, 1_000, 4_000]
repeats = {"smoke": 3, "class": 25, "full": 100}[budget]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4))
for ax, world, title in zip(axes, [world_a, world_b],
                            ["World A: LDA's story is true", "World B: it is not"]):
    test = world(5_000)
    # (repeats, sizes, 2)
    runs = torch.tensor([[errors(world, n, test) for n in sizes] for _ in range(repeats)])
    mean, spread = runs.mean(0), runs.std(0) / math.sqrt(repeats)
    for k, name in enumerate(["LDA (generative)", "logistic regression (discriminative)"]):
        ax.errorbar(sizes, mean[:, k], spread[:, k], marker="o", capsize=2, label=name)
    ax.set(xscale="log", xlabel="training examples", ylabel="test error", title=title,
           ylim=(0, None))
    ax.legend(fontsize=8)
    letter = "a" if world is world_a else "b"
    record(**{f"world_{letter}_lda_error_60": mean[1, 0],
              f"world_{letter}_logistic_error_60": mean[1, 1],
              f"world_{letter}_lda_error_4000": mean[-1, 0],
              f"world_{letter}_logistic_error_4000": mean[-1, 1]})
plots.show(fig)
# alt: Learning curves: LDA leads with few examples in world A; logistic regression wins in world B.

# %% [markdown]
# In world A the generative road is ahead while data are scarce, because a true assumption is worth data. Both roads
# meet in the end: with endless data the two sets of weights agree, *because the model is true*. In world B LDA
# settles on a wrong answer and no amount of data helps. One can predict the error: the far quarter pulls the mean of
# class 1 from 1 to $1+\tfrac14\cdot 8=3$, so LDA cuts halfway between $-1$ and $3$, at $x_1=1$, through the middle of
# the near cloud. It misses half of three quarters of half the points: 19 %. Logistic regression never made the
# promise, so it cannot be hurt by it. (Ng and Jordan, 2002, showed both effects for naive Bayes.)

# %%
def slopes(world, n=100_000):
    x, y = world(n)
    gaussians = classifier.fit_class_gaussians(x, y, 2, shared=True)
    parts = gaussians.component_distribution
    mean, precision = parts.mean, parts.precision_matrix[0]
    logistic = LogisticRegression(C=1e6, max_iter=1_000).fit(x, y)
    # logit = slope · x + offset
    return (mean[1] - mean[0]) @ precision, torch.as_tensor(logistic.coef_[0]).float()


for world in (world_a, world_b):
    by_lda, by_logistic = slopes(world)
    apart = ((by_lda - by_logistic).norm() / by_logistic.norm()).item()
    print(f"{world.__name__}, 100,000 examples: the two weight vectors differ by {apart:.0%}")
    if world is world_a:
        checks.true(apart < 0.1, what="a true model: both roads lead to the same weights")
    else:
        checks.true(apart > 0.5, what="a wrong model: they do not")

# %% [markdown]
# Real digits are not Gaussian clouds. So what happens there? We try and report, whatever it is.

# %%
# the first principal components, so that a covariance can be estimated from few images
n_features = 30
train_rows = images.to_float(data.train.images).flatten(1).cpu()
projection = PCA(n_components=n_features, random_state=seed).fit(train_rows)
features = torch.as_tensor(projection.transform(train_rows)).float()
test_features = torch.as_tensor(projection.transform(test_x.flatten(1).cpu())).float()
train_y, cpu_test_y = data.train.labels.cpu(), test_y.cpu()
sizes = [n for n in (100, 200, 500, 1_000, 3_000, 6_000, 20_000) if n <= len(features)]
rows_of_errors = []
for n in sizes:
    of_this_size = []
    # other images of that number
    for _ in range({"smoke": 2, "class": 4, "full": 10}[budget]):
        some = torch.randperm(len(features))[:n]
        logistic = LogisticRegression(C=1.0, max_iter=300).fit(features[some], train_y[some])
        fitted = (classifier.fit_class_gaussians(features[some], train_y[some], n_classes,
                                                 shared=shared, ridge=1e-2)
                  for shared in (True, False))
        lda, quadratic = (1 - metrics.accuracy(m.posterior(test_features), cpu_test_y)
                          for m in fitted)
        of_this_size.append([lda, quadratic, 1 - logistic.score(test_features, cpu_test_y)])
    rows_of_errors.append(torch.tensor(of_this_size))
mean = torch.stack([rows.mean(0) for rows in rows_of_errors])  # (sizes, 3)
spread = torch.stack([rows.std(0) for rows in rows_of_errors])
names = ["LDA", "Gaussian per class", "logistic regression"]

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for k, name in enumerate(names):
    ax.errorbar(sizes, mean[:, k], spread[:, k], marker="o", capsize=2, label=name)
ax.set(xscale="log", xlabel="training images", ylabel="test error", ylim=(0, None))
ax.set_title(f"{n_features} features of {data.name}; bars: one standard deviation over draws")
ax.legend()
plots.show(fig)
# alt: Test error against training images for LDA, a Gaussian per class, and logistic regression.
for n, row in zip(sizes, mean.tolist()):
    print(f"{n:>6} images: "
          + ", ".join(f"{name} {error:.3f}" for name, error in zip(names, row)))
record(digits_lda_error=mean[-1, 0], digits_class_gaussian_error=mean[-1, 1],
       digits_logistic_error=mean[-1, 2])

# %% [markdown]
# LDA is too stiff: its error stops falling early. A covariance for each class costs ten times as many parameters. To
# compare like with like, both get the same small variance added (`ridge=1e-2`), which keeps a covariance from few
# images usable. Given many images the covariance per class has the lowest error in the last line, although digits are not Gaussian. A wrong story can still be the more useful one. The lesson
# is not "one side wins". It is: **a generative model earns its extra knowledge with extra assumptions.**
#
# (The 30 coordinates are features learned without labels, from all training images. That is unsupervised learning put
# to work: every method here starts from them.)

# %% [markdown]
# ## 1.4 What each says to nonsense
#
# Now the question of the chapter, on images. We keep the convolutional network as the classifier. For $p(x)$ we take
# the simplest density that knows what a digit looks like: one Gaussian with a full covariance for each class, mixed
# by how common the classes are. We add variance $0.03$ to every pixel of the *model* (the `ridge`), as if the data
# were a little noisy: a pixel that is blank in every training image would otherwise have variance zero and infinite
# density.
#
# We ask both models about four kinds of images: digits from the test set, letters, uniform noise, and blank paper. Do
# not be alarmed when $\log p(x)$ is positive. A density is probability *per volume* and may exceed one; only its
# integral is bound. Change the unit of a pixel and all these numbers shift by one constant, so only differences
# between images mean something.

# %% [markdown]
# ### Exercise 1.2 (1 point): predict
# Commit a guess *before* you look: blank paper against the digits of the test set. The point is for committing, not for
# being right.

# %% exercise="1.2"

# %% tags=["check"]
check("1.2", blank_paper_share)

# %%
gaussians = classifier.fit_class_gaussians(
    images.to_float(data.train.images).flatten(1), data.train.labels, n_classes, ridge=0.03
)
n_shown = 500
paper = handwriting.sample(n_shown, glyphs=handwriting.LETTERS, size=height,
                           rgb=n_channels == 3, seed=seed + 1)
kinds = {
    "test images": test_x[:n_shown],
    "letters": images.to_float(paper.images).to(device),
    "noise": torch.rand(n_shown, n_channels, height, width, device=device),
    "blank paper": torch.zeros(1, n_channels, height, width, device=device).expand(n_shown, -1,
                                                                                   -1, -1),
}
confidence, log_density = {}, {}
with training.evaluating(cnn):
    for kind, x in kinds.items():
        confidence[kind] = cnn(x).probs.max(1).values.cpu()
        log_density[kind] = gaussians.log_prob(x.flatten(1)).cpu()

# %%
reveal("1.2", (log_density["test images"] < log_density["blank paper"][0]).float().mean())

# %%
fig, axes = plt.subplots(2, 4, figsize=(9, 4.6), height_ratios=[1, 1.3])
levels = log_density["test images"].sort().values
for column, (kind, x) in enumerate(kinds.items()):
    plots.draw_images(axes[0, column], x[:16].cpu(), columns=4, title=kind)
    ax = axes[1, column]
    ax.hist(confidence[kind], bins=20, range=(0, 1), color=plots.PALETTE[column])
    rank = (log_density[kind].median() > levels).float().mean()
    ax.set(xlabel="classifier's confidence", ylabel="images" if column == 0 else "",
           xlim=(0, 1))
    ax.set_title(f"mean confidence {confidence[kind].mean():.2f}\np(x) above {rank:.0%} of "
                 f"test", fontsize=9)
plots.show(fig)
# alt: The classifier's confidence on digits, letters, noise and blank paper, and the rank of p(x).

# %% [markdown]
# Look at the numbers above the histograms. On letters the classifier is often sure. On noise its confidence is an
# accident of the network and the data set: it can be 100 %. On blank paper it may be unsure, and then a threshold on
# confidence would refuse it, by luck. A flat $p(y\mid x)$ means "I cannot tell *which* label". There is no way to say
# "*none* of them".
#
# To put the comparison into one number per kind we use the **area under the ROC curve** (AUROC): the probability that
# a random test digit gets a higher score than a random outlier. One is perfect, one half is a coin, and *below* one
# half the score prefers the outliers.

# %%
outliers = [kind for kind in kinds if kind != "test images"]
table = {}
for kind in outliers:
    by_confidence = metrics.auroc(confidence["test images"], confidence[kind])
    by_density = metrics.auroc(log_density["test images"], log_density[kind])
    table[kind] = (by_confidence, by_density)
    print(f"{kind:12} AUROC by confidence {by_confidence:.2f}   by log p(x) {by_density:.2f}")
above = (log_density["blank paper"][0] > log_density["test images"]).float().mean()
print(f"blank paper has a higher density than {above:.0%} of the test images")
record(letters_auroc=table["letters"][1], noise_auroc=table["noise"][1],
       blank_auroc=table["blank paper"][1],
       letters_confidence_auroc=table["letters"][0], blank_above_share=above)

# %% [markdown]
# The density refuses noise perfectly. It ranks letters below digits far more often than chance. So far the story
# "generative models refuse what they have not seen" holds.
#
# Then look at blank paper. No digit in the data is blank, and yet the density finds it *more* probable than most real
# digits. You will often read that a generative model rejects unreasonable images. It **can**, since images compete.
# It need not. Why is an image that never occurs so probable?

# %% [markdown]
# ### Density is not typicality
#
# Take the simplest density, $x\sim\mathcal N(0, I)$ in $D$ dimensions. It is highest at $x=0$. How far from there
# does a sample fall? Each coordinate has $\mathbb E[x_i^2]=1$, so
#
# $$ \mathbb E\,\|x\|^2 = \sum_{i=1}^{D}\mathbb E[x_i^2] = D, \qquad
#    \mathbb E\big[\log p(0) - \log p(x)\big] = \tfrac12\,\mathbb E\,\|x\|^2 = \tfrac D2 . \tag{1.5} $$
#
# In 784 dimensions a typical sample lies about 28 away from the peak and its density is lower than the peak's by a
# factor of $e^{392}$. The peak has the largest *density*, yet samples never go there: the region around it has almost
# no *volume*. Probability is density times volume, and in high dimensions volume wins. The thin shell where samples
# do fall is called the **typical set**. In general it is the set of $x$ whose $\log p(x)$ is near its mean.

# %% verifies=["1.5"]
standard = distributions.standard_normal(784, like=torch.zeros(1).double())
sample = standard.sample((2_000,))
checks.monte_carlo(sample.square().sum(1), 784.0, what="E‖x‖² = D")
gap = standard.log_prob(torch.zeros_like(sample[0])) - standard.log_prob(sample)
checks.monte_carlo(gap, 392.0, what="samples lie D/2 nats below the peak")
checks.true(sample.norm(dim=1) > 20, what="not one of 2,000 samples comes near the peak")

fig, axes = plt.subplots(1, 2, figsize=(9, 3))
for D in (1, 10, 100, 784):
    distance = torch.randn(4_000, D).norm(dim=1) / math.sqrt(D)
    axes[0].hist(distance, bins=60, range=(0, 2.5), density=True, label=f"D = {D}", alpha=0.6)
axes[0].set(xlabel="distance from the peak / √D", ylabel="samples per unit",
            title="Where Gaussian samples fall")
axes[0].legend()
for kind, values in log_density.items():
    if kind == "blank paper":
        axes[1].axvline(values[0], color=plots.PALETTE[3], label=kind)
    elif kind != "noise":
        axes[1].hist(values, bins=40, density=True, alpha=0.6, label=kind)
axes[1].set(xlabel="log p(x) [nats]", ylabel="share per nat",
            title="Blank paper beats most digits")
axes[1].legend()
plots.show(fig)
# alt: Left: Gaussian samples lie at distance root D. Right: blank paper has a higher density than most.

# %% [markdown]
# How near to the peak is blank paper? Each class has a peak of its own, at its mean image. The squared distance from
# it in units of the class's own spread (the *Mahalanobis distance*) is what $\log p(x)$ falls with:

# %%
blank = kinds["blank paper"][0].flatten()
components = gaussians.component_distribution
peaks = components.log_prob(components.mean)  # log p(μ_k | y=k), for each class
# squared Mahalanobis distance from each class's mean
to_blank = 2 * (peaks - components.log_prob(blank))
# (images, classes)
typical = 2 * (peaks - components.log_prob(test_x[:n_shown].flatten(1)[:, None]))
own_class = typical[torch.arange(n_shown), test_y[:n_shown]]
print(f"log p of blank paper {log_density['blank paper'][0]:.0f}; class peaks "
      f"{peaks.min():.0f} to {peaks.max():.0f}")
print(f"squared distance from the means: blank paper {to_blank.min():.0f} to "
      f"{to_blank.max():.0f}, "
      f"a test image from its own class {own_class.median():.0f} (median)")
higher = test_y[:n_shown].cpu()[log_density["test images"] > log_density["blank paper"][0]]
print(f"{len(higher)} of {n_shown} test images lie above blank paper; their labels: "
      + (", ".join(f"{data.classes[k]} ({(higher == k).sum()})"
                   for k in higher.unique().tolist()) or "none"))

# %% [markdown]
# Blank paper is nearer to the peaks than ordinary images are. Every digit is "blank, plus ink somewhere", and the ink
# moves; *no ink* is the middle they all share. The few images that lie above it are those with the least ink. So ask a
# better question. Not "is the density high?" but "is it as high *as it should
# be*?" Measure the distance of $\log p(x)$ from its usual value, on held-out images, and reject on both sides.
#
# Now we can build what section 1.2 promised: one model that labels *and* rejects. It gives no label when $\log p(x)$
# falls outside the middle 95 % of what validation images get. The thresholds come from validation images, not from
# the model's own samples, because real images have less noise than this model expects. The test set stays untouched.

# %%
usual = gaussians.log_prob(images.to_float(data.valid.images).flatten(1)).cpu()
low, high = usual.quantile(0.025), usual.quantile(0.975)
print(f"{'kind':12} {'rejected, one side':>20} {'rejected, both sides':>22}")
rejected = {}
for kind, values in log_density.items():
    one_side, two_sides = values < usual.quantile(0.05), (values < low) | (values > high)
    rejected[kind] = two_sides.float().mean().item()
    print(f"{kind:12} {one_side.float().mean():>20.0%} {two_sides.float().mean():>22.0%}")
print(f"{(usual > log_density['blank paper'][0]).float().mean():.1%} of the validation images "
      f"are above blank paper")
kept = ~((log_density["test images"] < low) | (log_density["test images"] > high))
posterior_y = gaussians.posterior(kinds["test images"].flatten(1)).cpu()
right = posterior_y.argmax(1) == cpu_test_y[:n_shown]
print(f"\naccuracy on all test images {right.float().mean():.1%}, on those it accepts "
      f"{right[kept].float().mean():.1%}")
record(rejected_test=rejected["test images"], rejected_noise=rejected["noise"],
       rejected_letters=rejected["letters"],
       rejected_blank=rejected["blank paper"], accepted_accuracy=right[kept].float().mean())

# %% [markdown]
# Read the table soberly. Noise is always rejected. The second side is not free: half of the 5 % budget now guards the
# top, so *fewer* letters are caught. Whether a single blank page is caught depends on the upper threshold: a few thin
# digits have as little ink, and if they are more than 2.5 % of the images, blank paper passes. One value of
# $\log p(x)$ is too little evidence. Ten pages cannot hide. The mean of ten values of $\log p(x)$ varies less than
# one value, by a factor of about $\sqrt{10}$, so its usual range is narrow:

# %%
batch = 10
# the mean log-density of ten ordinary images
drawn = usual[torch.randint(len(usual), (4_000, batch))].mean(1)
batch_low, batch_high = drawn.quantile(0.025), drawn.quantile(0.975)
for kind, values in log_density.items():
    means = values[: len(values) // batch * batch].reshape(-1, batch).mean(1)
    caught = ((means < batch_low) | (means > batch_high)).float().mean()
    print(f"{kind:12} batches of {batch} rejected: {caught:.0%}")
    if kind in ("test images", "blank paper"):
        record(**{f"batches_rejected_{kind.split()[0]}": caught})

# %% [markdown]
# This is the **typicality test** of Nalisnick and others (2019): accept what is as probable as usual, no less *and no
# more*. It still looks at one number only. A density is a beginning, not a guard. Better densities follow in the next
# chapters, and chapter 02 meets this failure again in a far stronger model.

# %% [markdown]
# The third promise was to *draw* a requested class. Ask each class for three new images:

# %%
# three rows, one image per class
drawn = gaussians.component_distribution.sample((3,)).flatten(0, 1)
drawn = drawn.reshape(-1, n_channels, height, width).clamp(0, 1).cpu()
plots.show(plots.images(drawn, columns=n_classes,
                        title="drawn from p(x|y), one column per class"))
# alt: Three rows of images drawn from a Gaussian for each class: noisy but recognisable shapes.

# %% [markdown]
# One can guess the digit, and nobody would take it for handwriting. The speckle is the ridge we added. A Gaussian
# knows which pixels go together in pairs, and nothing about strokes. To do better is what the rest of the course is
# about.

# %% [markdown]
# ### Is the confidence worth anything?
#
# A probability is a promise: of all images labelled "with 90 %", nine in ten should be right. A **proper score**
# rewards keeping it. It is a loss whose mean is smallest exactly when the forecast is the truth. The log-loss is
# proper, and so is the Brier score, the squared distance between the forecast and the outcome. We check that once by
# hand, for a rain forecast, and then compare the two models that label.

# %%
rain, forecasts = 0.7, torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
# expected, when it rains with 70 %
log_loss = -(rain * forecasts.log() + (1 - rain) * (1 - forecasts).log())
brier = rain * (1 - forecasts) ** 2 + (1 - rain) * forecasts**2
absolute = rain * (1 - forecasts) + (1 - rain) * forecasts
for name, expected in {"log-loss": log_loss, "Brier score": brier}.items():
    checks.close(forecasts[expected.argmin()], rain, what=f"the {name} is least at the truth")
checks.fails(lambda: (forecasts[absolute.argmin()] - rain).abs() < 0.01,
             what="the absolute error is least at the truth")

# %%
# Bayes' rule, in logs
gaussian_log_p = gaussians.joint_log_prob(test_x.flatten(1)).log_softmax(-1)
fig, ax = plt.subplots(figsize=(4.2, 3.6))
ax.plot([0, 1], [0, 1], color="grey", linestyle=":", label="a kept promise")
for name, log_p in {"convolutional network": cnn_log_p,
                    "Gaussian per class": gaussian_log_p}.items():
    sure, correct, count = metrics.calibration_curve(log_p.exp().cpu(), cpu_test_y)
    seen = count > 5
    # the mean gap between promise and truth
    broken = (count * (sure - correct).abs()).nansum() / count.nansum()
    ax.plot(sure[seen], correct[seen], label=name)
    ax.scatter(sure[seen], correct[seen], s=4 + 160 * count[seen] / count.sum(), clip_on=False,
               zorder=3)
    print(f"{name:22} {count[-1] / count.sum():.0%} of its confidences above 0.9; promises "
          f"miss by {broken:.3f}")
    nll, brier = metrics.log_score(log_p, test_y), metrics.brier_score(log_p.exp(), test_y)
    confident, right_share = log_p.exp().max(1).values.mean(), metrics.accuracy(log_p, test_y)
    print(f"{name:22} log-loss {nll:.3f} nats, Brier {brier:.3f}, confidence {confident:.3f}, "
          f"accuracy {right_share:.3f}")
    short = "cnn" if name.startswith("conv") else "gaussian"
    record(**{f"{short}_log_loss": nll, f"{short}_brier": brier})
ax.set(xlabel="mean confidence", ylabel="share that is right", xlim=(0, 1.02), ylim=(0, 1.02))
ax.set_title("Are promises kept? (area: share of the images)")
ax.legend(fontsize=8)
plots.show(fig)
# alt: Calibration curves of both classifiers against the diagonal.

# %% [markdown]
# A verdict: "promises miss by" is the gap between confidence and truth, averaged over the images (the *expected
# calibration error*); the smaller one kept its promises better. The Gaussian model has almost all its confidences near
# 1, also where it is wrong, so its curve is a large dot in the corner, below the diagonal. It multiplies the evidence of 784 pixels through a covariance estimated from few images,
# and treats its errors as knowledge. The two scores can even disagree, although both are proper: properness says what
# the best forecast is, not how mistakes are ranked. The Brier score of one image is at most 2. The log-loss of one
# confident mistake has no limit. Knowing more about $x$ does not make every answer better.

# %% [markdown] tags=["fold"]
# ## Going deeper: an attack on the classifier
#
# A classifier compares labels at every $x$, also where no image ever was. That leaves room for **adversarial
# images**. Change every pixel by at most $\epsilon$, each in the direction that hurts the right label most:
#
# $$ x' = x + \epsilon\;\operatorname{sign}\,\nabla_x\big[-\log p(y\mid x)\big]. \tag{1.6} $$
#
# This is the fast gradient sign method. To first order it is the *worst* change of that size: the loss grows by
# $\sum_i \delta_i\, g_i$ for a small change $\delta$ and gradient $g$, and with $|\delta_i|\le\epsilon$ the sum is
# largest when every $\delta_i=\epsilon\operatorname{sign}g_i$.

# %% quote="course_utils.models.classifier:fgsm"

# %% verifies=["1.6"]
x, y = test_x[:n_shown], test_y[:n_shown]
attacked = {epsilon: classifier.fgsm(cnn, x, y, epsilon) for epsilon in (0.05, 0.1, 0.2)}
# in double precision, to see tiny changes
cnn64 = classifier.small_cnn(n_channels, n_classes).to(device).double()
cnn64.load_state_dict({name: value.double() for name, value in cnn.state_dict().items()})
# away from 0 and 1, where images are clipped
inner = (0.5 * x[:20].double() + 0.25).requires_grad_()
nll = -cnn64(inner).log_prob(y[:20])
(g,) = torch.autograd.grad(nll.sum(), inner)
tiny = 1e-9


def gained(epsilon):
    return (-cnn64(classifier.fgsm(cnn64, inner, y[:20], epsilon)).log_prob(y[:20])
            - nll).detach()


checks.close(gained(tiny), tiny * g.abs().flatten(1).sum(1),
             what="fgsm raises the loss by ε‖∇‖₁", rtol=1e-3, atol=1e-13)
signs = torch.randn(50, *g.shape, dtype=torch.float64, device=device).sign()
checks.true((signs * g).flatten(2).sum(2) <= g.abs().flatten(1).sum(1),
            what="50 random sign patterns gain less")
checks.fails(lambda: (gained(-tiny) > 0).all(), what="the opposite sign raises the loss")

# %%
with training.evaluating(cnn):
    clean_accuracy = metrics.accuracy(cnn(x).logits, y)
    accuracy = {epsilon: metrics.accuracy(cnn(images_).logits, y) for epsilon,
                images_ in attacked.items()}
    labels = cnn(attacked[0.1][:8]).probs.argmax(1).tolist()
print(f"accuracy without an attack {clean_accuracy:.1%}")
for epsilon, images_ in attacked.items():
    detected = metrics.auroc(log_density["test images"],
                             gaussians.log_prob(images_.flatten(1)).cpu())
    print(f"ε = {epsilon}: accuracy {accuracy[epsilon]:.1%}, AUROC of log p(x) for clean "
          f"against attacked {detected:.2f}")
    record(**{f"fgsm_{int(100 * epsilon)}_accuracy": accuracy[epsilon],
              f"fgsm_{int(100 * epsilon)}_auroc": detected})
captions = [f"{data.classes[a]}→{data.classes[b]}" for a, b in zip(y[:8].tolist(), labels)]
title = "Attacked with ε = 0.1: truth → what the classifier says"
plots.show(plots.captioned(attacked[0.1][:8].cpu(), captions, columns=8, title=title, width=9))
# alt: Eight digits with faint noise, captioned with the true label and the classifier's label.

# %% [markdown]
# The classifier falls while we still read the digits with ease. The smallest attack already costs it many of its
# answers, and there the density sees little: its AUROC is not far from ½. It notices reliably only when the faint
# pattern on the paper has grown strong. And even this attack did not know about the density: an attacker who follows
# the gradient of $\log p(x)$ as well can hide longer.

# %% [markdown]
# ## 1.5 Repairing an image
#
# Coffee was spilt over the middle of a page. Which digit was there? The classifier has no opinion about missing
# pixels. A generative model has: split the image into the seen part $x_o$ and the missing part $x_m$, and ask for
#
# $$ p(x_m\mid x_o) = \frac{p(x_m, x_o)}{p(x_o)}, \qquad p(x_o) = \int p(x_m, x_o)\,\mathrm{d}x_m . \tag{1.7} $$
#
# For one Gaussian the answer is known in closed form. Split mean and covariance the same way:
#
# $$ x_m \mid x_o \;\sim\; \mathcal N\big(\mu_m + \Sigma_{mo}\Sigma_{oo}^{-1}(x_o-\mu_o),\;\;
#    \Sigma_{mm}-\Sigma_{mo}\Sigma_{oo}^{-1}\Sigma_{om}\big). \tag{1.8} $$
#
# *Why?* Let $A=\Sigma_{mo}\Sigma_{oo}^{-1}$ and look at the part of $x_m$ that $x_o$ does not explain,
# $r = x_m - \mu_m - A(x_o-\mu_o)$. Its covariance with $x_o$ is $\Sigma_{mo} - A\,\Sigma_{oo} = 0$. Jointly Gaussian
# and uncorrelated means independent, so $r$ keeps its distribution when we look at $x_o$. It has mean zero and
# covariance
# $\Sigma_{mm} - A\Sigma_{om} - \Sigma_{mo}A^\top + A\Sigma_{oo}A^\top = \Sigma_{mm}-\Sigma_{mo}\Sigma_{oo}^{-1}\Sigma_{om}$.
# Add the known $\mu_m + A(x_o-\mu_o)$ back, and (1.8) stands there.
#
# In a mixture each component $k$ makes its own guess $\mu_k(x_o)$ from (1.8), and Bayes' rule on what was *seen*
# weighs the guesses:
#
# $$ \mathbb E[x_m\mid x_o]=\sum_k p(k\mid x_o)\,\mu_k(x_o), \qquad
#    p(k\mid x_o)\propto\pi_k\,\mathcal N(x_o;\mu_{k,o},\Sigma_{k,oo}). $$

# %% verifies=["1.7", "1.8"]
d, m = 5, torch.tensor([True, False, True, False, False])
root = torch.randn(d, d, dtype=torch.float64)
sigma = root @ root.T + torch.eye(d, dtype=torch.float64)
mu, point = torch.randn(d).double(), torch.randn(d).double()
a = sigma[m][:, ~m] @ sigma[~m][:, ~m].inverse()
Gaussian = torch.distributions.MultivariateNormal
# (1.8)
conditional = Gaussian(mu[m] + a @ (point - mu)[~m], sigma[m][:, m] - a @ sigma[~m][:, m])
whole, seen = Gaussian(mu, sigma), Gaussian(mu[~m], sigma[~m][:, ~m])
reach = [(x - 9 * s, x + 9 * s) for x,
         s in zip(conditional.mean.tolist(), sigma[m][:, m].diagonal().sqrt().tolist())]
missing, cell = checks.grid(*reach, n=300)  # 90,000 ways to fill in the two missing numbers
images_of_five = point.repeat(len(missing), 1)
images_of_five[:, m] = missing
joint = whole.log_prob(images_of_five)  # log p(x_m, x_o), x_o as it was seen
log_seen = joint.logsumexp(0) + math.log(cell)  # log p(x_o), the integral of (1.7)
checks.close(log_seen, seen.log_prob(point[~m]),
             what="(1.7): integrated over x_m, the joint is the Gaussian of x_o")
checks.close(joint - log_seen, conditional.log_prob(missing),
             what="(1.7), (1.8): p(x_m, x_o) / p(x_o) is the Gaussian, at 90,000 points",
             rtol=1e-4)
checks.fails(lambda: torch.isclose(Gaussian(mu[m], sigma[m][:, m]).log_prob(point[m]),
                                   conditional.log_prob(point[m])),
                                   what="the marginal of x_m is its conditional")

# %% verifies=["1.8"]
components = truth.component_distribution  # the three clouds of section 1.2, made to lean
covariances = torch.diag_embed(components.variance)
covariances[:, 0, 1] = covariances[:, 1, 0] = torch.tensor([0.5, -0.3, 0.2]).double()
mixture = distributions.GaussianMixture(truth.mixture_distribution.probs, components.mean,
                                        covariances)
line, _ = checks.grid((-9, 9), n=2_000)
for x_1 in (-1.0, 0.4, 2.0):  # what is seen
    points = torch.stack([torch.full((2_000,), x_1).double(), line.flatten()], 1)
    by_grid = (mixture.log_prob(points).softmax(0) * line.flatten()).sum()
    filled = mixture.conditional_mean(points[:1], torch.tensor([False, True]))
    checks.close(filled[0, 1], by_grid,
                 what=f"mixture, x₁ = {x_1}: E[x_m | x_o] by the formula and on a grid")

# %% [markdown]
# ### Exercise 1.3 (2 points): fill in the missing block
# Write `fill_in` for one Gaussian: keep the seen pixels and replace each missing one by its conditional mean from
# (1.8). Use `torch.linalg.solve` instead of an inverse. The cell after the check does the same with the mixture of
# ten Gaussians, on real digits.

# %% exercise="1.3"

# %% tags=["check"]
check("1.3", fill_in)

# %%
missing = torch.zeros(n_channels, height, width, dtype=torch.bool)
# a block in the upper middle
missing[:, height // 4: height // 2 + height // 8, width // 4: -(width // 4)] = True
spilt = test_x[:10].clone()
spilt[:, missing] = 0.5
repaired = gaussians.conditional_mean(spilt.flatten(1), missing.flatten().to(device))
repaired = repaired.reshape(spilt.shape).clamp(0, 1)
sheets = torch.cat([test_x[:10], spilt, repaired]).cpu()
plots.show(plots.images(sheets, columns=10, title="the page · the spill · what p(x) fills in"))
# alt: Ten digits, the same with a grey block over the middle, and the block filled in by the Gaussian mixture.
lost = missing.flatten().to(device)
truth_pixels = test_x.flatten(1)
mean_image = images.to_float(data.train.images).mean(0).flatten()
filled = gaussians.conditional_mean(truth_pixels[:200].masked_fill(lost, 0.5), lost)
error = (filled - truth_pixels[:200])[:, lost].square().mean()
baseline = (mean_image - truth_pixels[:200])[:, lost].square().mean()
unseen = ~missing.flatten().to(device)
# p(class | what was seen)
guess = gaussians.marginal(unseen).posterior(truth_pixels[:200][:, unseen])
sure, named = guess.max(1)
wrong = named != test_y[:200]
print(f"from what is seen, the model names another digit for {wrong.sum()} of 200 pages; "
      f"of {sure[wrong].median() if wrong.any() else 0:.3f} it is sure then (median)")
record(fill_in_mse=error, mean_image_mse=baseline)

# %% [markdown]
# In most columns the stroke comes back, softly: a mean over possibilities is blurred. On some pages the model takes what
# is left for *another digit*, and the line above says how sure it is of the wrong one. The two errors say that the
# model knows a lot more about the hidden block than the mean image does. A *sample* of $p(x_m\mid x_o)$ would show
# one possibility; the mean shows a compromise. Chapter 02 completes images by sampling.

# %% [markdown]
# ## 1.6 One number for "how wrong"
#
# To *train* a density model we need a number that says how far its distribution is from the truth. Suppose it rains
# on 9 days out of 10, and your forecast says 1 out of 10. Mine says 8 out of 10. Both are wrong. Yours is *more*
# wrong. How much more?
#
# A first idea is $\sum_x |p(x)-q(x)|$. Some notes reject it because the sum "explodes" when there are many outcomes.
# It does not: it is at most $\sum p + \sum q = 2$. Its real weakness is the opposite. It hardly notices when a
# forecast calls something *impossible* that then happens.
#
# So start with one outcome. Call the truth $p$ and the forecast $q$. Charge the forecast
#
# $$ \text{penalty}(x) = p(x)\,\log\frac{p(x)}{q(x)} . \tag{1.9} $$
#
# The logarithm of the ratio asks *how surprised* the forecast is compared with the truth. The factor $p(x)$ asks *how
# often* that happens: a surprise that never comes costs nothing.
#
# **Before you run the next cell:** can a penalty be negative? Can the sum of all penalties be?

# %% verifies=["1.9"] tags=["nbval-check-output"]
p = torch.tensor([0.9, 0.1], dtype=torch.float64)  # rain, dry
q = torch.tensor([0.1, 0.9], dtype=torch.float64)  # your forecast
penalty = p * (p / q).log()  # nats
for name, value in zip(["rain", "dry"], penalty):
    print(f"{name:>4}: {value:+.2f} nats")
checks.close(penalty, scipy.special.rel_entr(p.numpy(), q.numpy()),
             what="each penalty against SciPy")
mine = torch.tensor([0.8, 0.2], dtype=torch.float64)
of_mine = (p * (p / mine).log()).sum()
print(f"yours {penalty.sum():.2f} nats, mine {of_mine:.4f} nats: a ratio of "
      f"{penalty.sum() / of_mine:.1f}")
checks.close(p * (p / p).log(), 0.0, what="no penalty for an exact forecast")
# the forecast's chance of rain
epsilon = torch.tensor([1e-2, 1e-8, 1e-300], dtype=torch.float64)
absolute = 2 * (0.9 - epsilon)
sums = 0.9 * (0.9 / epsilon).log() + 0.1 * (0.1 / (1 - epsilon)).log()
for e, a, total in zip(epsilon.tolist(), absolute.tolist(), sums.tolist()):
    print(f"forecast {e:.0e} for rain: absolute difference {a:.2f}, sum of penalties "
          f"{total:.1f}")
checks.true(absolute <= 2,
            what="the absolute difference never passes 2, however absurd the forecast")

# %% [markdown]
# Rain costs $+1.98$, because the forecast called the common thing rare. Dry *earns* $0.22$: the forecast said it
# would be dry more often than it is. In sum yours costs 48 times as many nats as mine. One
# penalty may be negative. Their sum, the **Kullback–Leibler divergence**, may not, and here is why. For every $u>0$
# we have $\log u \le u-1$ (the line touches the curve at $u=1$ and stays above it). With $u=q(x)/p(x)$,
#
# $$ -\mathrm{KL}(p\,\|\,q)=\sum_x p(x)\log\frac{q(x)}{p(x)} \;\le\; \sum_x p(x)\Big(\frac{q(x)}{p(x)}-1\Big)
#    = \sum_x q(x)-\sum_x p(x) \;\le\; 0 . \tag{1.10} $$
#
# The sums run over the outcomes that $p$ can produce; on these $p$ sums to 1 and $q$ to at most 1, which is the last
# step. Where $q(x)=0<p(x)$ the divergence is $+\infty$, and the claim holds all the more. Equality needs $u=1$
# everywhere: the forecast is the truth. So we have the number we wanted: zero exactly when
# $q=p$, positive otherwise. For densities the sum becomes an integral. It is not a distance: swap $p$ and $q$ and the
# number changes.

# %% quote="course_utils.distributions.divergences:kl_divergence"

# %% verifies=["1.10"] tags=["nbval-check-output"]
# truths, forecasts
p, q = torch.distributions.Dirichlet(torch.ones(6, dtype=torch.float64)).sample((2, 1_000))
kl = kl_divergence(p, q)
checks.true(kl >= 0, what="KL is never negative")
q_0 = q * (torch.rand_like(p) < 0.7)  # some outcomes get no forecast here, and no truth below
p_0 = p * (torch.rand_like(p) < 0.7) + 1e-300
p_0 /= p_0.sum(1, keepdim=True)
# the third expression of (1.10): sums where p(x) > 0
bound = torch.where(p_0 > 1e-200, q - p_0, 0).sum(1)
checks.true((-kl_divergence(p_0, q) <= bound) & (bound <= 1e-12),
            what="−KL ≤ Σ q − Σ p ≤ 0, sums over p(x) > 0")
checks.close(kl_divergence(p, p), 0.0, what="KL of a forecast with itself is zero")
checks.close(kl, scipy.stats.entropy(p, q, axis=1), what="the same numbers as SciPy")
checks.fails(lambda: (p * (p / q).log()).min() >= 0,
             what="each single penalty is non-negative")
checks.fails(lambda: torch.allclose(kl, kl_divergence(q, p)), what="KL is symmetric")

# %% [markdown] defines=["1.11"]
# $\mathrm{KL}(p\|q)$ averages over the truth. $\mathrm{KL}(q\|p)$ averages over the forecast. The **Jensen–Shannon
# divergence** is fair to both. With the midpoint $m=\tfrac12(p+q)$,
#
# $$ \mathrm{JS}(p, q) = \tfrac12\,\mathrm{KL}(p\,\|\,m) + \tfrac12\,\mathrm{KL}(q\,\|\,m). \tag{1.11} $$
#
# The truth below has two bumps, and the forecast is a single Gaussian, which cannot have two. Drag it. Watch three
# numbers. **Guess first:** which number wants the forecast *between* the bumps, and which wants it *on* one of them?

# %% tags=["widget"]
widgets.kl_explorer(truth=densities.two_bumps())

# %% [markdown]
# $\mathrm{KL}(p\|q)$ is small only if $q$ is large *wherever $p$ is*: the forecast spreads over both bumps.
# $\mathrm{KL}(q\|p)$ is small only if $p$ is large *wherever $q$ is*: the forecast hides on one bump, and pays
# $\log 2 = 0.69$ for ignoring half of the truth. Here Jensen–Shannon sides with $\mathrm{KL}(p\|q)$. The next cell
# searches all positions and widths instead of dragging.

# %%
bumps = densities.two_bumps()
line, cell = checks.grid((-25, 25), n=2_000)
log_p = bumps.log_prob(line.reshape(-1, *bumps.event_shape)).double().reshape(-1)
# (μ, σ)
settings = torch.cartesian_prod(torch.linspace(-3, 3, 31),
                                torch.linspace(0.4, 3.5, 32)).double()
# (settings, points)
log_q = torch.distributions.Normal(settings[:, :1], settings[:, 1:]).log_prob(line.flatten())
p, q = log_p.exp() * cell, log_q.exp() * cell
entropy = distributions.entropy_of
p = p.expand_as(q)
divergences = {"KL(p‖q)": kl_divergence(p, q), "KL(q‖p)": (q * (log_q - log_p)).sum(1),
               # the same as (1.11): write it out
               "JS(p, q)": entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2}
best = {name: settings[values.argmin()] for name, values in divergences.items()}
for name, (mu, sigma) in best.items():
    print(f"{name:8} is least at |μ| = {abs(mu):.1f}, σ = {sigma:.2f}: "
          f"{divergences[name].min():.2f} nats")
checks.close(best["KL(p‖q)"][0], 0.0, what="KL(p‖q) puts the forecast between the bumps",
             atol=0.06)
checks.close(best["KL(q‖p)"][0].abs(), 2.0, what="KL(q‖p) puts it on one bump", atol=0.11)
checks.close(divergences["KL(q‖p)"].min(), math.log(2), what="and pays log 2", atol=0.02)

# %% [markdown]
# Training by maximum likelihood uses the first, as the next section shows. The VAE of chapter 04 has the second
# inside its bound, and the GAN of chapter 05 meets Jensen–Shannon.

# %% [markdown]
# ### Exercise 1.4 (2 points): a divergence that plays fair
# Write `jensen_shannon`. Input: two tensors `(..., K)`, zeros allowed. Output: `(...,)` in nats. What is the largest
# value it can take, and when? (Chapter 05 will need that number.)

# %% exercise="1.4"

# %% tags=["check"]
check("1.4", jensen_shannon)

# %% [markdown]
# ## 1.7 What training means
#
# There is an unknown distribution $p_\text{data}$. We never see it. We see $N$ samples of it, assumed independent,
# and we choose parameters $\theta$ to bring a model $p_\theta$ close. With the number from the last section "close"
# means a small $\mathrm{KL}(p_\text{data}\,\|\,p_\theta)$:
#
# $$ \mathrm{KL}(p_\text{data}\,\|\,p_\theta)
#    = \underbrace{\mathbb E_{p_\text{data}}[\log p_\text{data}(x)]}_{-H(p_\text{data}),\text{ does not depend on }\theta}
#    - \;\mathbb E_{p_\text{data}}[\log p_\theta(x)] . \tag{1.12} $$
#
# $H(p)=-\mathbb E_p[\log p(x)]$ is the **entropy**: the average surprise of one who knows the truth. (For a density the
# surprise $-\log p(x)$ can be negative, and so can its average: it depends on the unit of $x$.) We cannot compute it
# for images, and we need not: it does not move with $\theta$. Below, $x^{(n)}$ is the $n$-th sample. The
# second term is an average over the data, and an average over $N$ samples estimates it:
#
# $$ \arg\min_\theta \mathrm{KL}(p_\text{data}\,\|\,p_\theta) = \arg\max_\theta \mathbb E_{p_\text{data}}[\log p_\theta(x)]
#    \approx \arg\max_\theta \frac1N\sum_{n=1}^N \log p_\theta(x^{(n)}) . $$
#
# There is a second way to the same sum, and it gives the method its name. The samples are independent, so the model
# gives the whole data set the probability (or density)
#
# $$ \prod_{n=1}^N p_\theta(x^{(n)}), \qquad \log\prod_{n=1}^N p_\theta(x^{(n)}) = \sum_{n=1}^N \log p_\theta(x^{(n)}) . $$
#
# Read as a function of $\theta$, this is the **likelihood**, and choosing the $\theta$ that makes it largest is
# **maximum likelihood**. Probabilities of independent events multiply; surprises add. That is why the logarithm: it is
# the only way, up to a factor, to give each event a surprise such that the surprise of two independent events is the
# sum. And a product of 10,000 numbers below one would be zero on a computer.
#
# **Maximum likelihood is minimum KL**, up to the sampling error in the last step. Watch it on samples: the scores of
# an exam, with groups of students near 40, 70 and 90 points, and a model with one knob, the mean of a Gaussian.

# %% verifies=["1.12"]
exam = densities.exam_scores()
scores = exam.sample((20_000,)).double().reshape(-1)
knob = torch.linspace(50, 90, 81, dtype=torch.float64)
model_q = torch.distributions.Normal(knob, 18.0)
each = model_q.log_prob(scores[:, None])  # (20,000 samples, 81 settings of the knob)
log_likelihood = each.mean(0)
line, cell = checks.grid((-60, 200), n=4_000)
log_p = exam.log_prob(line.reshape(-1, *exam.event_shape)).double()
# exact, by quadrature
kl = (log_p.exp()[:, None] * (log_p[:, None] - model_q.log_prob(line))).sum(0) * cell
entropy = -(log_p.exp() * log_p).sum() * cell
checks.monte_carlo(each, -entropy - kl, what="mean log-likelihood = −H − KL, at every setting",
                   resolution=0.1)
checks.close(entropy, exam.entropy(), what="the entropy of the exam scores", rtol=1e-3)
checks.close(knob[kl.argmin()], knob[log_likelihood.argmax()],
             what="both choose the same knob", rtol=0, atol=1.0)
fig, ax = plt.subplots(figsize=(6.5, 2.8))
ax.plot(knob, kl, label="KL(p_data ‖ p_θ), exact")
ax.plot(knob, -entropy - log_likelihood, "--", label="−H − mean log p_θ of 20,000 samples")
ax.set(xlabel="knob: mean of the model [points]", ylabel="nats",
       title="Maximum likelihood is minimum KL")
ax.legend()
plots.show(fig)
# alt: The exact KL and minus the mean log-likelihood fall on one curve with one minimum.

# %% [markdown]
# Two goals stand behind "close". We want **realism**: samples that could be real. And we want **control**: samples
# with the properties we ask for. Maximum likelihood rewards giving probability to everything real. It does not
# measure how good a sample looks, and it offers no control: that comes from conditioning, $p(x\mid y)$, as in section
# 1.2. From a finite data set we can only get an approximation, and the chapters differ in what they approximate.

# %% [markdown]
# ## 1.8 Why an exponential, and why Z
#
# How does a network become a density? It must obey two rules: never negative, and integrate to one. A network's
# output $-E(x)$ can be any number. The exponential makes it positive. Dividing by the total makes it integrate to
# one:
#
# $$ p(x) = \frac{e^{-E(x)}}{Z}, \qquad Z = \int e^{-E(x)}\,\mathrm{d}x . \tag{1.13} $$
#
# $E$ is called the **energy**, a word from physics: a ball rests where its energy is low. Low energy means *usual*,
# high energy *unusual*. Mind the minus sign, which some notes drop: without it the unusual would be common. $Z$ is
# the **partition function**; it must be finite, so $E$ has to grow fast enough far away. A model of this kind is an
# **energy-based model**.
#
# We give each of 1,000 exam scores an energy with a small network and train it by maximum likelihood. On a line $Z$
# is easy: cut 0…100 into cells and add up.

# %% verifies=["1.13"]
scores = exam.sample((1_000,)).reshape(-1, 1)
scores = scores[(scores > 0).all(1) & (scores < 100).all(1)].float().to(device)
ebm = energy.GridEnergyModel(energy.energy_mlp(1), ranges=[(0.0, 100.0)],
                             n_cells=400).to(device)
optimizer = torch.optim.Adam(ebm.parameters(), lr=1e-2)
training.fit(ebm.loss, optimizer, iter(lambda: scores, None), 80, description="exam scores")
# other points than the model's own grid
line = torch.linspace(0.05, 99.95, 1_000, device=device).reshape(-1, 1)
with torch.no_grad():
    e, log_p = ebm.energy(line).cpu(), ebm.log_prob(line).cpu()
checks.close(log_p.exp().sum() * 0.1, 1.0,
             what="∫ exp(−E)/Z = 1, on a grid the model did not use", atol=1e-3, rtol=0)
checks.close(log_p - log_p[0], e[0] - e,
             what="low energy, high density: log p differs by minus the energy", atol=1e-3)
checks.fails(lambda: torch.isclose((-e).exp().sum() * 0.1, torch.ones(())),
             what="exp(−E) alone integrates to one")
true_log_p = exam.log_prob(line.cpu().reshape(-1, *exam.event_shape))
record(exam_kl=(true_log_p.exp() * (true_log_p - log_p)).sum() * 0.1)

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.9))
axes[0].plot(line.cpu(), e, color=plots.PALETTE[3])
axes[0].set(xlabel="exam score [points]", ylabel="energy E(x) [nats]",
            ylim=(e.min() - 0.5, e.min() + 8))
axes[0].set_title("Low energy where scores are common")
axes[1].hist(scores.cpu().flatten(), bins=50, range=(0, 100), density=True, alpha=0.35,
             label="1,000 students")
axes[1].plot(line.cpu(), log_p.exp(), label="exp(−E)/Z")
axes[1].plot(line.cpu(), true_log_p.exp(), "--", color="black", label="truth")
axes[1].set(xlabel="exam score [points]", ylabel="density [1/point]",
            title="Three groups of students")
axes[1].legend()
plots.show(fig)
# alt: The learned energy has three valleys near 40, 70 and 90; the density follows the histogram.

# %% [markdown]
# ### Exercise 1.5 (1 point): the logarithm of Z, safely
# Energies can be thousands of nats, and $e^{5000}$ is infinite on a computer. Write `log_partition`: from the
# energies at the midpoints of the cells and the width of a cell to $\log Z$.

# %% exercise="1.5"

# %% tags=["check"]
check("1.5", log_partition)

# %% [markdown]
# ### Exercise 1.6 (3 points): build an energy-based model
# Images of 3×3 black-and-white pixels are so small that $Z$ can be summed: there are $2^9=512$ of them, and
# `checks.all_binary(9)` lists them, `(512, 9)`. Write `train_energy_model`, about 20 lines, in three steps.
#
# 1. A class that is a `torch.nn.Module`. Its network takes 9 pixels to one number. `energy(x)` returns that number for
#    each image, `log_prob(x)` is $-E(x)-\log Z$ of (1.13), where $Z$ sums over the list.
# 2. A loop of `n_steps`: take about 200 images at random, let the optimizer descend on their mean $-\log p(x)$.
# 3. Return the model.
#
# The check tries the laws of this section on it. Then it trains for 400 steps on windows of 3×3 pixels, cut from
# handwritten digits, and measures windows of other digits: below 5.05 nats passes. (A coin for each pixel costs
# $9\log 2=6.24$.) It takes a few seconds.

# %% exercise="1.6"

# %% tags=["check"]
check("1.6", train_energy_model)

# %% [markdown]
# The same model in two dimensions needs the same code and a grid of 64 × 64 cells. Autograd runs through the sum, so
# the slope of $\log Z$ is taken into account:

# %%
spirals = densities.spirals()
bound = 4.0
points = spirals.sample((4_000,)).float()
points = points[(points.abs() < bound).all(1)].to(device)
plane = energy.GridEnergyModel(energy.energy_mlp(2), [(-bound, bound)] * 2,
                               n_cells=64).to(device)
optimizer = torch.optim.Adam(plane.parameters(), lr=5e-3)
batches = iter(lambda: points[torch.randint(len(points), (500,))], None)
training.fit(plane.loss, optimizer, batches,
             {"smoke": 60, "class": 800, "full": 3_000}[budget], description="spirals")
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.2))
plots.density(axes[0], spirals.log_prob, -bound, bound, title="truth")
plots.density(axes[1], lambda x: plane.log_prob(x.to(device)).cpu(), -bound, bound,
              title="exp(−E)/Z on a grid")
drawn = plane.sample(1_500).cpu()
axes[2].scatter(drawn[:, 0], drawn[:, 1], s=2)
axes[2].set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xlim=(-bound, bound),
            ylim=(-bound, bound))
axes[2].set_title("samples of the model")
plots.show(fig)
# alt: A spiral density, the density of the trained energy model, and samples drawn from its grid.

# %% [markdown]
# And now an image? Count the cells.

# %% tags=["nbval-check-output"]
grids = [("exam score", 1, 400), ("plane", 2, 64), ("binary image 8×8", 64, 2),
         ("binary image 28×28", 784, 2)]
for name, n_dims, n_levels in grids:
    digits = n_dims * math.log10(n_levels)
    print(f"{name:20} {n_levels}^{n_dims} cells = 10^{digits:.1f}")
seconds = math.log10(2) * 784 - 15  # at a million billion cells a second
print(f"adding up the last one: 10^{seconds:.0f} seconds; the universe is 10^17.6 seconds old")

# %% [markdown]
# That is the wall. Not a lack of data: with endless data $Z$ would be just as hard. $Z$ sums over **all possible
# $x$**, also those that nobody has ever drawn. Every family of deep generative models is a way around this sum.

# %% [markdown] tags=["fold"]
# ## Going deeper: sampling without Z
#
# To draw samples one need not know $Z$. The gradient of $\log p$ does not contain it:
# $\nabla\log p(x) = -\nabla E(x) - \nabla\log Z$, and $Z$ does not depend on $x$. **Langevin dynamics** walks
# downhill in energy and adds noise so that it does not stop at the bottom:
#
# $$ x_{t+1} = x_t - \tfrac{\eta}{2}\,\nabla E(x_t) + \sqrt{\eta}\;\epsilon_t, \qquad \epsilon_t\sim\mathcal N(0, I). \tag{1.14} $$
#
# As $\eta$ goes to zero and the total time $\eta t$ to infinity, $x_t$ is distributed as $p$. With a finite step
# there is a bias, and the check shows how large it is where we can compute it. For $E(x)=x^2/2$ the update is
# $x_{t+1}=(1-\eta/2)x_t+\sqrt\eta\,\epsilon_t$. A variance $v$ that stays the same must obey $v=(1-\eta/2)^2v+\eta$,
# so $v = 1/(1-\eta/4)$ instead of 1.

# %% quote="course_utils.models.energy:langevin"

# %% verifies=["1.14"]
eta = 1.2
start = torch.randn(20_000, 1, dtype=torch.float64)
noise = torch.random.get_rng_state()
# E(x) = x⁴/4, its slope is x³
one_step = energy.langevin(lambda x: x.pow(4).sum(1) / 4, start, 1, eta)
torch.random.set_rng_state(noise)
by_formula = start - eta / 2 * start**3 + math.sqrt(eta) * torch.randn_like(start)
checks.close(one_step, by_formula, what="one step is (1.14), with the same noise", rtol=1e-12)
walkers = energy.langevin(lambda x: x.square().sum(1) / 2, start, 200, eta)  # E(x) = x²/2
checks.monte_carlo(walkers.square(), 1 / (1 - eta / 4),
                   what="variance 1/(1 − η/4), as predicted")
for other in (1.0, 1 + eta / 4):
    checks.fails(lambda: checks.monte_carlo(walkers.square(), other, what=""),
                 what=f"at η = {eta} the variance is {other:g}")

# %%
eight = densities.eight_gaussians()
n_langevin = {"smoke": 200, "class": 2_000, "full": 10_000}[budget]
start = 4 * torch.rand(2_000, 2) - 2
start[:, 0] = -start[:, 0].abs()  # all on the left
walked = energy.langevin(lambda x: -eight.log_prob(x), start, n_langevin, step_size=0.01)
fig, axes = plt.subplots(1, 2, figsize=(7, 3.3))
reach = 1.3 * eight.sample((1_000,)).abs().max().item()
plots.density(axes[0], eight.log_prob, -reach, reach, title="exact density")
axes[1].scatter(walked[:, 0], walked[:, 1], s=2)
axes[1].set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="$x_1$",
            ylabel="$x_2$",
            title=f"Langevin, {n_langevin} steps")
share, fair = (walked[:, 0] > 0.5).float().mean(), (eight.sample((20_000,))[:, 0]
                                                    > 0.5).float().mean()
print(f"share of points on the right: exact density {fair:.2f}, Langevin from the left "
      f"{share:.2f}")
plots.show(fig)
# alt: The exact density of eight Gaussians, and Langevin walks that stay on the left half.

# %% [markdown]
# The walkers find bumps quickly. They do not find the *share* of each bump: all started on the left, and between two
# bumps lies a wall of energy that small steps hardly ever climb. Chapter 07 will lower the walls with noise, and
# Langevin's idea will return there.

# %% [markdown] tags=["fold"] defines=["1.15"]
# ## Going deeper: the restricted Boltzmann machine
#
# Here is a classic energy-based model of binary images. It has visible units $v\in\{0,1\}^V$, the pixels, and hidden
# units $h\in\{0,1\}^H$, with
#
# $$ E(v, h) = -b^\top v - c^\top h - v^\top W h . \tag{1.15} $$
#
# "Restricted" means that no unit talks to another of its own layer. Therefore the sum over all $2^H$ hidden vectors
# splits into $H$ small sums:
#
# $$ \sum_h e^{-E(v,h)} = e^{b^\top v}\sum_h\prod_j e^{h_j (c_j + (vW)_j)}
#    = e^{b^\top v}\prod_j \big(1+e^{c_j+(vW)_j}\big) = e^{-F(v)} . \tag{1.16} $$
#
# $F$ is the **free energy**, and $p(v) = e^{-F(v)}/Z$. With at most 16 hidden units we can list all $h$ and get $Z$
# *exactly*, by the same trick with the layers swapped.

# %% [markdown]
# ### Exercise 1.7 (2 points): free energy
# Write `free_energy` from (1.16). Remember the minus sign, and that $\log(1+e^a)$ has a safe form.

# %% exercise="1.7"

# %% tags=["check"]
check("1.7", free_energy)

# %% verifies=["1.16"]
small = energy.RBM(6, 4, weight_scale=1.0).double()
for bias in (small.visible_bias, small.hidden_bias):
    torch.nn.init.normal_(bias)  # they start at zero, where a wrong sign would pass
states = checks.all_binary(6, dtype=torch.float64)
hidden = checks.all_binary(4, dtype=torch.float64)
with torch.no_grad():
    energies = (-(states @ small.visible_bias)[:, None] - (hidden @ small.hidden_bias)[None]
                - states @ small.weights @ hidden.T)  # E(v, h) for all 64 × 16 pairs
    checks.close(-(-energies).logsumexp(1), small.free_energy(states),
                 what="F(v) = −log Σ_h exp(−E(v, h))")
    checks.close((-energies).flatten().logsumexp(0), small.log_partition(),
                 what="log Z = log Σ_v Σ_h exp(−E)")
checks.sums_to_one(lambda v: -small.free_energy(v) - small.log_partition(), states,
                   what="Σ_v exp(−F(v))/Z = 1")

# %% [markdown]
# **Training.** The gradient of the negative log-likelihood of a data point $v$ has two parts:
#
# $$ \nabla_\theta\big[-\log p(v)\big] = \nabla_\theta F(v) + \nabla_\theta\log Z
#    = \nabla_\theta F(v) - \mathbb E_{v'\sim p}\big[\nabla_\theta F(v')\big]. \tag{1.17} $$
#
# The last step is two lines:
# $\nabla\log Z = \frac1Z\sum_{v'}\nabla e^{-F(v')} = \sum_{v'}\frac{e^{-F(v')}}{Z}\big(-\nabla F(v')\big)$. Push the
# free energy of the data down, push that of the model's own samples up. Given $v$, the energy is a sum of one term
# per hidden unit, so the units are independent, and by symmetry the same holds the other way round ($\sigma$ is the
# logistic function):
#
# $$ p(h_j{=}1\mid v)=\sigma\big(c_j+(vW)_j\big), \qquad p(v_i{=}1\mid h)=\sigma\big(b_i+(Wh)_i\big). $$
#
# Drawing $h$ given $v$, then $v$ given $h$, and so on, is *Gibbs sampling*. *Persistent contrastive divergence* (PCD)
# keeps a set of such chains as the model's samples and moves them one step per update.

# %% verifies=["1.17"]
# not the zero vector: there ∂F/∂W = 0, and the check would see only half of the formula
v = states[37:38]
parameters = list(small.parameters())
exact = torch.autograd.grad((small.free_energy(v) + small.log_partition()).sum(), parameters)
weights_of_states = (-small.free_energy(states)).softmax(0).detach()  # p(v') for every state
expected = torch.autograd.grad((weights_of_states * small.free_energy(states)).sum(),
                               parameters)
data_part = torch.autograd.grad(small.free_energy(v).sum(), parameters)
for name, whole, up, down in zip(["W", "b", "c"], exact, data_part, expected):
    checks.close(whole, up - down, what=f"∇[−log p(v)] = ∇F(v) − E[∇F], for {name}")
checks.fails(lambda: torch.allclose(exact[0], data_part[0] + expected[0]),
             what="a plus gives the same gradient")
# chains that have arrived
drawn = states[torch.multinomial(weights_of_states, 100_000, replacement=True)]
trained = torch.autograd.grad(energy.PersistentChains(small, drawn)(v)["loss"], parameters)
for name, whole, step in zip(["W", "b", "c"], exact, trained):
    checks.close(step, whole,
                 what=f"the objective that is trained goes the same way, for {name}",
                 atol=0.01)

# %%
ink = images.load("digits", seed=seed, data_dir=data_dir)
rbm_data, rbm_test = (images.binarise(images.to_float(part.images)).flatten(1)
                      for part in (ink.train, ink.test))
rbm = energy.RBM(64, 14, visible_mean=rbm_data.mean(0))
objective = energy.PersistentChains(rbm,
                                    rbm_data[torch.randint(len(rbm_data), (100,))].clone())
rbm_steps = {"smoke": 200, "class": 5_000, "full": 20_000}[budget]
optimizer = torch.optim.Adam(rbm.parameters(), lr=1e-2)
decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, rbm_steps)
batches = iter(lambda: rbm_data[torch.randint(len(rbm_data), (100,))], None)
training.fit(objective, optimizer, batches, rbm_steps, scheduler=decay,
             description="RBM by PCD")
with torch.no_grad():
    log_z = rbm.log_partition()
    rbm_nll = (rbm.free_energy(rbm_test) + log_z).mean()
pixel_model = distributions.bernoulli(
    torch.logit(rbm_data.mean(0).clamp(0.01, 0.99)).expand(len(rbm_test), -1))
record(rbm_nll=rbm_nll, independent_pixels_nll=-pixel_model.log_prob(rbm_test).mean())

# %% [markdown]
# The "loss" beside the bar, $F(\text{data})-F(\text{chains})$, is no likelihood and may be negative. The exact test
# value is `rbm_nll`: compare it with that of independent pixels.
#
# With more hidden units $Z$ cannot be listed. **Annealed importance sampling** (AIS) estimates it. It starts from a
# model whose $Z$ is known (independent pixels), turns the weights up in small steps of an inverse temperature
# $0=\beta_0<\dots<\beta_K=1$, and multiplies the ratios that a Gibbs chain sees on the way. At inverse temperature
# $\beta$ let $F_\beta(v)=-b^\top v-\sum_j\log(1+e^{\beta(c_j+(vW)_j)})$. At $\beta=0$ we know
# $\log Z_0=\sum_i\log(1+e^{b_i})+H\log 2$, and
#
# $$ \frac{Z}{Z_0} = \mathbb E\Big[\prod_{k=1}^{K} e^{-F_{\beta_k}(v_{k-1}) + F_{\beta_{k-1}}(v_{k-1})}\Big]. \tag{1.18} $$
#
# Why? Take one factor. If $v$ is a sample of $p_{k-1}=e^{-F_{\beta_{k-1}}}/Z_{k-1}$, then its mean is
# $\sum_v p_{k-1}(v)\,e^{-F_{\beta_k}(v)+F_{\beta_{k-1}}(v)}=\sum_v e^{-F_{\beta_k}(v)}/Z_{k-1}=Z_k/Z_{k-1}$, and the
# product of these ratios telescopes to $Z/Z_0$. That the chain never quite reaches equilibrium costs variance, not
# bias in $Z$ (Neal, 2001, which we take as given). Here we can judge the estimate by the exact value.

# %% verifies=["1.18"]
n_temperatures = {"smoke": 500, "class": 1_000, "full": 10_000}[budget]
log_z_ais, error = energy.annealed_importance_sampling(rbm, n_runs=200,
                                                       n_temperatures=n_temperatures)
print(f"log Z exact {log_z:.3f}, annealed {log_z_ais:.3f} ± {error:.3f} nats")
checks.close(log_z_ais, log_z, what="AIS is within 0.1 nat of the exact log Z", rtol=0,
             atol=0.1)
few, stray = energy.annealed_importance_sampling(small, n_runs=100_000, n_temperatures=3)
off = (few - small.log_partition()).abs().item()
checks.true(off < 5 * stray,
            what=f"the mean is right after 3 temperatures too: {off:.4f} off, standard error "
                 f"{stray:.4f}")
checks.true(stray < 0.01, what="and the standard error is small enough to tell")
stiff = energy.RBM(60, 10, weight_scale=1.0)  # far from independent pixels
many, one = (energy.annealed_importance_sampling(stiff, 200, n)[0] - stiff.log_partition()
             for n in (500, 1))
checks.true(many.abs() < 0.3,
            what=f"500 small steps: {many.abs():.2f} nats off where pixels depend strongly on "
                 f"each other")
checks.fails(lambda: one.abs() < 0.3, what="one jump comes as near")
record(ais_error=(log_z_ais - log_z).abs())
dreams = rbm.sample(20, n_steps=300).reshape(-1, 1, 8, 8)
sheets = torch.cat([rbm_data[:20].reshape(-1, 1, 8, 8), dreams])
plots.show(plots.images(sheets, columns=20,
                        title="binarised digits 8×8 · Gibbs samples of the RBM", width=9))
# alt: A row of small binary digits from the data above a row of samples of the restricted Boltzmann machine.

# %% [markdown]
# ## 1.9 The family tree
#
# Each family answers the question "what do you do about $Z$?" in its own way, and gives something up for it.

# %%
leaves = [
    ("explicit density", "tractable", "autoregressive models, ch. 02",
     "fast sampling, a code"),
    ("explicit density", "tractable", "normalising flows, ch. 06", "free choice of network"),
    ("explicit density", "approximate", "energy-based models, ch. 01",
     "a known Z, direct sampling"),
    ("explicit density", "approximate", "variational autoencoders, ch. 04",
     "the exact likelihood (a bound)"),
    ("explicit density", "approximate", "diffusion models, ch. 07",
     "exact likelihood, fast sampling"),
    ("implicit density", "samples only", "GANs, ch. 05", "any likelihood, stable training"),
    ("no density", "codes or scenes", "autoencoders, ch. 03 · NeRF, ch. 08",
     "probability itself"),
]


def height_of(column, name):
    heights = [len(leaves) - 1 - i for i, leaf in enumerate(leaves) if leaf[column] == name]
    return sum(heights) / len(heights)


# %%
fig, ax = plt.subplots(figsize=(9.5, 4.2))
ax.set(xlim=(0, 10), ylim=(-0.6, len(leaves)))
ax.set_axis_off()
ax.set_title("Families of generative models, and what each gives up", loc="left")
for i, (kind, how, family, price) in enumerate(leaves):
    y, y_kind, y_how = len(leaves) - 1 - i, height_of(0, kind), height_of(1, how)
    branches = [((0.45, 3), (0.75, y_kind)), ((2.15, y_kind), (2.45, y_how)),
                ((3.75, y_how), (4.05, y))]
    for (x0, y0), (x1, y1) in branches:
        ax.plot([x0, x1], [y0, y1], color="grey", lw=1, zorder=0)
    if kind not in leaves[i - 1][:1] or i == 0:
        ax.text(0.8, y_kind, kind, va="center", fontsize=9, color=plots.PALETTE[0])
    if how not in leaves[i - 1][1:2] or i == 0:
        ax.text(2.5, y_how, how, va="center", fontsize=9, color=plots.PALETTE[2])
    ax.text(4.1, y, family, va="center", fontsize=9, weight="bold")
    ax.text(7.2, y, f"gives up: {price}", va="center", fontsize=8.5, color=plots.PALETTE[3])
ax.text(0.1, 3, "p(x)", va="center", fontsize=11)
plots.show(fig)
# alt: A tree of model families: explicit tractable, explicit approximate, implicit, none; and their price.

# %% [markdown]
# **Explicit tractable** families give you $p(x)$ exactly. **Explicit approximate** ones give a bound or an estimate.
# **Implicit** ones give samples and no number at all. (Autoencoders and NeRF are no densities over images; they stand
# here because the other families grow out of them, or are often listed beside them.)

# %% [markdown]
# ## What to remember
#
# * $p(y\mid x)$: labels compete. $p(x)$: images compete. A classifier must share out its unit even over nonsense.
# * $p(y\mid x)$ with $p(x)$, and $p(x\mid y)$ with $p(y)$, are the same knowledge: the joint $p(x,y)$.
# * True assumptions are worth data; false ones *can* cost accuracy that no data buys back.
# * High density is not the same as typical. Blank paper is probable and never happens.
# * KL is the expected extra surprise. Maximum likelihood minimises $\mathrm{KL}(p_\text{data}\|p_\theta)$.
# * A density is $e^{-E}/Z$. $Z$ sums over all possible $x$, and every family is a way around it.
#
# **The question for chapter 02:** could we build $p(x)$ from pieces so small that each can be normalised by hand, so
# that $Z = 1$ *by construction*?
#
# | symbol | meaning |
# |---|---|
# | $x$, $y$ | an image, its label |
# | $p_\text{data}$, $p_\theta$ | the unknown truth, the model with parameters $\theta$ |
# | $\pi_k, \mu_k, \Sigma$ | probability, mean and covariance of class $k$ |
# | $E(x)$, $Z$ | energy, partition function |
# | $v, h$; $F(v)$ | visible and hidden units; free energy |
# | $H$, KL, JS | entropy, Kullback–Leibler and Jensen–Shannon divergence |
#
# The whole notation of the course is in `notebooks/NOTATION.md`.

# %%
score()

# %% [markdown]
# **Sources.** R. A. Fisher (1936), The use of multiple measurements in taxonomic problems. S. Kullback and R. Leibler
# (1951), On information and sufficiency. J. Lin (1991), Divergence measures based on the Shannon entropy. P.
# Smolensky (1986), Information processing in dynamical systems. G. Hinton (2002), Training products of experts by
# minimizing contrastive divergence. T. Tieleman (2008), Training restricted Boltzmann machines using approximations
# to the likelihood gradient. R. Neal (2001), Annealed importance sampling. R. Salakhutdinov and I. Murray (2008), On
# the quantitative analysis of deep belief networks. A. Ng and M. Jordan (2002), On discriminative vs. generative
# classifiers. I. Goodfellow, J. Shlens and C. Szegedy (2015), Explaining and harnessing adversarial examples,
# arXiv:1412.6572. M. Welling and Y. W. Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics. E.
# Nalisnick et al. (2019), Do deep generative models know what they don't know?, arXiv:1810.09136, and Detecting
# out-of-distribution inputs to deep generative models using typicality, arXiv:1906.02994. L. van der Maaten and G. Hinton (2008),
# Visualizing data using t-SNE.
