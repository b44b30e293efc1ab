# %% [markdown]
# # 3. Autoencoders
#
# **One question runs through this chapter: what is a good code?**
#
# The models of chapter 02 gave us an exact $\log p(x)$, one pixel after the other. They know everything about the
# pixels and have no word for the whole. Ask one of them which two digits are *similar*, or to make this 7 lean a
# little more. It has no handle to turn.
#
# This chapter builds handles. We squeeze an image through a few numbers and ask for it back. Whatever survives the
# squeeze is a **code**. We will meet four ideas of what makes a code good, measure each of them, and end with a
# failure that opens chapter 04: the codes are lovely, and we still cannot draw a new one.
#
# You need: derivatives, vectors and matrices, covariance, eigenvectors and singular values, the KL divergence and the
# mixture of Gaussians of chapter 01, a small convolutional network, a little PyTorch. The chapter takes about {minutes}
# minutes. Sections marked *Going deeper* start folded.

# %% tags=["parameters"]
budget: str = "auto"  # smoke (seconds), class (minutes on a laptop), full (for a GPU), or auto
dataset: str = "handwriting"  # handwriting, digits, mnist, fashion_mnist, kmnist
seed: int = 0
device: str = "auto"  # auto, cpu, cuda
data_dir: str = ""  # empty: the data folder of the course, else your cache folder

# %%
from copy import deepcopy
from functools import partial

import matplotlib.pyplot as plt
import torch
from sklearn.mixture import GaussianMixture
from torch import nn

from course_utils import checks, distributions, metrics, plots, shipped, training, widgets
from course_utils.chapter import pick_budget, pick_device, pick_seed, record
from course_utils.data import images
from course_utils.exercises import check, reveal, score
from course_utils.models import autoencoder
# quoted: its default error
from course_utils.models.autoencoder import squared_error
from course_utils.nn.mlp import MLP

plots.style()
seed, device = pick_seed(seed), pick_device(device)
budget = pick_budget(budget, device)
torch.manual_seed(seed)
n_train = {"smoke": 500, "class": 6_000, "full": None}[budget]
n_steps = {"smoke": 60, "class": 900, "full": 20_000}[budget]
n_train = n_train if dataset != "digits" else None  # digits has only 1,197 training images
print(f"budget {budget} on {device}: {n_steps} training steps for the main models")

# %%
data = images.load(dataset, n=n_train, seed=seed, data_dir=data_dir).to(device)
shape, n_classes = data.shape, len(data.classes)
train_x, test_x = images.to_float(data.train.images), images.to_float(data.test.images)
n_pixels = train_x[0].numel()


def fit(model, n_steps, description, lr=2e-3, batch_size=128):
    """Adam with a learning rate that falls to zero along a half cosine; the recipe of every
    model in this chapter."""
    model.to(device)

    def train():
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        batches = images.batches(data.train.images, batch_size)
        return training.fit(model.loss, optimizer, batches, n_steps, description=description,
                            scheduler=schedule)

    # run the chapter again, and this is only read from disk
    return training.cached(description, model, train)


def error_per_pixel(model, x):
    """Mean squared error per pixel, the number most papers print."""
    with training.evaluating(model):
        return autoencoder.squared_error(x, model(x)).mean().item() / n_pixels


# %% [markdown]
# ## 3.1 A network can store images
#
# A network is usually introduced as a function that we approximate. It is also a *container*. Take a decoder
# $f_\theta$ and give it a **constant input**, always the number 1. Train it until the output looks like one chosen
# image. The image is now in the weights, and no longer anywhere else.
#
# What happens with eight images and the same constant input? The network has one output for all of them, so it must
# find the best compromise $c$:
#
# $$ \frac{1}{N}\sum_i \|x_i - c\|^2 = \|c-\bar x\|^2 + \frac1N\sum_i \|x_i-\bar x\|^2, \qquad \bar x = \frac1N \sum_i x_i. \tag{3.1} $$
#
# (Write $x_i - c = (x_i-\bar x) + (\bar x - c)$ and multiply out; the mixed term sums to zero.) The second term does
# not depend on $c$, so the best constant is the **mean image**. Remember this: whenever a network trained on squared
# error cannot know which image is meant, it shows the average of the candidates. Averages of images are *blurry*.
#
# Now let the input say which image is meant: a **one-hot** vector, $[1,0,0,\dots]$ for the first image,
# $[0,1,0,\dots]$ for the second. One linear layer is enough, and it stores all eight exactly.

# %% verifies=["3.1"]
eight = train_x[:8].flatten(1)
stores = {"one image": (eight[:1].expand(8, -1), torch.ones(8, 1),
                        nn.Linear(1, n_pixels, bias=False)),
          "constant": (eight, torch.ones(8, 1), nn.Linear(1, n_pixels, bias=False)),
          "one-hot": (eight, torch.eye(8), nn.Linear(8, n_pixels, bias=False))}
shown = {}
for name, (target, code, layer) in stores.items():
    code, layer = code.to(device), layer.to(device)
    # plain descent is enough: the loss is a parabola
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    for _ in range(100):
        optimizer.zero_grad()
        autoencoder.squared_error(target, layer(code)).mean().backward()
        optimizer.step()
    shown[name] = layer(code).detach()
mean_image = eight.mean(0)
checks.close(shown["one image"], eight[0], what="a constant input learns one image", atol=2e-3)
checks.close(shown["constant"], mean_image, what="a constant input learns the mean image",
             atol=2e-3)
checks.close(shown["one-hot"], eight, what="a one-hot input learns every image", atol=2e-3)
c = torch.rand_like(mean_image)
left = autoencoder.squared_error(eight, c.expand(8, -1)).mean()
inertia = autoencoder.squared_error(eight, mean_image.expand(8, -1)).mean()
right = (c - mean_image).square().sum() + inertia
checks.close(left, right, what="the split of (3.1) at a random c")

# %%
rows = torch.cat([eight, shown["one image"], shown["constant"],
                  shown["one-hot"]]).view(-1, *shape).clamp(0, 1)
plots.show(plots.images(rows, columns=8,
                        title="Eight images; stored by a constant input: one, all eight; by "
                              "one-hot inputs"))
# alt: Row 1: eight digits. Row 2: the first digit eight times. Row 3: the blurry average. Row 4: the eight digits.

# %% [markdown]
# The one-hot network is a **look-up table**: its weight matrix *is* the eight images, $8\times 784$ numbers for
# $8 \times 784$ pixels. Nothing was compressed and nothing was understood. A ninth image needs a ninth input.
#
# So give each image a short vector of real numbers instead, $[3.3, 4.5]$ for a cat and $[3.4, 2.1]$ for a dog, and
# one decoder for all. Which vectors? Random ones force the decoder to learn an arbitrary table. It is better to let
# the gradient move the vectors too, so that similar images may share what they have in common.

# %%
n_stored, code_dim = min(500, len(train_x)), 8
some = train_x[:n_stored].flatten(1)


def store(codes, n_steps):
    """Train one decoder from ``codes`` (and the codes, where they want a gradient) to give
    back ``some`` images."""
    decoder = MLP([code_dim, 128, n_pixels]).to(device)
    weights = [*decoder.parameters(), *([codes] if codes.requires_grad else [])]
    optimizer = torch.optim.Adam(weights, lr=5e-3)
    batches = iter(lambda: torch.randint(n_stored, (100,), device=device), None)
    objective = lambda i: autoencoder.squared_error(some[i], decoder(codes[i])).mean()
    return training.fit(objective, optimizer, batches, n_steps)["loss"] / n_pixels


fig, ax = plt.subplots(figsize=(6.5, 2.8))
for name, learned in {"random codes, fixed": False, "learned codes": True}.items():
    codes = torch.randn(n_stored, code_dim, device=device).requires_grad_(learned)
    errors = store(codes, n_steps)
    ax.plot(errors, label=name)
    print(f"{name:<22} squared error per pixel over the last tenth of the steps: "
          f"{errors[-(n_steps // 10):].mean():.4f}")
ax.set(xlabel="training step", ylabel="squared error per pixel", yscale="log",
       title=f"{n_stored} images in {code_dim} numbers each")
ax.legend()
plots.show(fig)
# alt: With learned codes the error falls much lower than with fixed random codes.

# %% [markdown]
# Learned codes store more in the same space, once they have had time to move. Count the space:
# $500\times784 = 392{,}000$ pixels went into $500\times 8$ code numbers and about 102,000 weights of the decoder. The
# decoder is paid for once; each further image costs eight numbers. One piece is missing: a *new* image has no code
# yet, and finding one would need an optimisation of its own. So train a second network that looks at an image and
# *proposes* its code.

# %% [markdown]
# ## 3.2 The autoencoder
#
# An **encoder** $g_\phi$ turns an image into a code, $z = g_\phi(x)$, and a **decoder** $f_\theta$ turns the code
# back into an image, $\hat x = f_\theta(z)$. Both are trained together on the squared error, summed over pixels and
# averaged over images:
#
# $$ \mathcal L(\theta,\phi) = \frac1N \sum_{i=1}^N \big\| x_i - f_\theta\big(g_\phi(x_i)\big) \big\|^2 . \tag{3.2} $$
#
# Without a restriction the identity would win: copy the image. The restriction is the **bottleneck**: $z$ has $L$
# numbers, its **latents**, with $L$ far below the number of pixels. No label is needed anywhere, the image is its own
# target, so this is unsupervised learning.
#
# Could a single number not be a serial number, and the decoder the look-up table of 3.1? In principle yes, even
# with continuous networks: a curve that winds through all training images. But networks of limited size, trained by
# gradient descent, do not find so wild a curve. It would also be useless: a new image has no serial number. So we
# measure the error on *test* images.
#
# There is also no *probability* anywhere. Nothing in (3.2) says which codes occur, so an autoencoder cannot sample.
# Our class has no `sample` method, and that is deliberate.

# %% quote="course_utils.models.autoencoder:Autoencoder"

# %% verifies=["3.2"]
# by (3.1) the best without a code: encoder and decoder start from it
average = train_x.mean(0)
ae = autoencoder.mlp_autoencoder(shape, hidden_dims=(400,), latent_dim=32, mean_image=average)
history = fit(ae, n_steps, "autoencoder, 32 latents")
with torch.no_grad():
    x = train_x[:50]
    by_hand = sum(((image - ae(image[None])[0]) ** 2).sum() for image in x) / len(x)
checks.close(ae.loss(x)["loss"], by_hand,
             what="the loss is (3.2): summed over pixels, averaged over images", rtol=1e-4)
print(f"squared error per pixel on test images: {error_per_pixel(ae, test_x):.4f}")

# %%
with training.evaluating(ae):
    pairs = torch.cat([test_x[:10], ae(test_x[:10])])
plots.show(plots.images(pairs, columns=10,
                        title=f"Test images, and what comes back through 32 of {n_pixels} "
                              f"numbers"))
# alt: Ten test digits and below them their reconstructions, nearly the same but a little soft.
record(ae32_mse=error_per_pixel(ae, test_x))

# %% [markdown]
# ### What squared error does not see
# Take one digit, move it by a pixel or two, and ask for the squared error. Nobody would call the moved digit another
# one. **Guess first:** which is further away, the moved digit or some other digit?

# %%
digit = test_x[:1]
others = test_x[1:][data.test.labels[1:] != data.test.labels[0]]
to_others = autoencoder.squared_error(digit.expand_as(others), others) / n_pixels
closest, typical = others[to_others.argmin()][None], others[
    to_others.argsort()[len(others) // 2]][None]
with training.evaluating(ae):
    rivals = {"the image": digit, "through the code": ae(digit),
              "moved by 1 pixel": digit.roll(1, 3),
              "moved by 2": digit.roll(2, 3), "nearest other digit": closest,
              "a typical other": typical}
errors = {name: autoencoder.squared_error(digit, x).item() / n_pixels for name,
          x in rivals.items()}
plots.show(plots.captioned(torch.cat([*rivals.values()]),
                           [f"{name}\n{e:.3f}" for name, e in errors.items()],
                           title="Squared error per pixel to the first image"))
# alt: A digit, its reconstruction, the digit moved by one and two pixels, and two other digits, with their errors.
moved = {n: autoencoder.squared_error(test_x, test_x.roll(n, 3)).mean().item() / n_pixels
         for n in (1, 2, 3)}
pairs = autoencoder.squared_error(test_x, test_x.flip(0)).mean().item() / n_pixels
print("mean over the test images: "
      + ", ".join(f"moved by {n}: {e:.3f}" for n, e in moved.items())
      + f"; two images taken at random: {pairs:.3f}")

# %% [markdown]
# Squared error compares pixel with pixel at the same place. Thin strokes that were moved by two pixels hardly overlap, so
# it sees two errors: ink where there should be none, and none where there should be ink. By the third pixel the digit is
# nearly as far from itself as from any other image. So a decoder that is unsure where a stroke goes does better with a
# grey smear than with a sharp stroke in the wrong place. This is the loss of this chapter and the next; chapter 05
# replaces it.

# %% [markdown]
# ## 3.3 The linear autoencoder is PCA
#
# What would a network without any nonlinearity learn? Let $g(x) = W_1x + b_1$ and $f(z) = W_2z+b_2$. Then $\hat x$
# lies in a flat subspace of dimension $L$, and for a given subspace the best reconstruction is the orthogonal
# projection onto it. Which subspace loses least? Write $\Sigma$ for the covariance of the training images,
# $\lambda_1\ge\lambda_2\ge\dots$ for its eigenvalues, $u_i$ for its orthonormal eigenvectors, and $\mathbb E$ for the
# mean over the images. For fixed directions only the part of $x$ orthogonal to the subspace is lost. The subspace
# offers one constant for that part, and by (3.1) the best constant is its mean. So the best flat subspace passes
# through the mean image. The biases can take it there, so centre the data. With an orthonormal basis $P$ ($L$ rows)
# of the subspace, Pythagoras splits every image into the part kept and the part lost:
#
# $$ \underbrace{\mathbb{E}\|x\|^2}_{\sum_i\lambda_i} = \underbrace{\mathbb{E}\|Px\|^2}_{\text{kept}} + \underbrace{\mathbb{E}\|x-P^\top Px\|^2}_{\text{lost}} . $$
#
# The total $\mathbb E\|x\|^2$ is the trace of $\Sigma$. The kept part is $\mathrm{tr}(P\,\Sigma P^\top)$. Put
# $\Sigma = \sum_i\lambda_i u_iu_i^\top$ into it:
#
# $$ \mathrm{tr}(P\,\Sigma P^\top) = \sum_i \lambda_i w_i, \qquad w_i = \|Pu_i\|^2, \qquad 0\le w_i\le 1, \qquad \sum_i w_i = \|P\|_F^2 = L . $$
#
# ($w_i$ is the squared length of a shadow of a unit vector, hence at most 1; $\|P\|_F^2$, the sum of all squared
# entries, counts $L$ unit rows. All $u_i$ together are an orthonormal basis, $\sum_i u_iu_i^\top = I$, so
# $\sum_i\|Pu_i\|^2 = \mathrm{tr}(P\sum_i u_iu_i^\top P^\top) = \mathrm{tr}(PP^\top) = \|P\|_F^2$.) So we hand out a
# total weight of $L$, at most 1 to each eigenvalue. It is best spent on the $L$ largest: $P$ holds their
# eigenvectors. That is **principal component analysis**, and what is lost is the rest:
#
# $$ \min_{\text{linear}} \mathcal L(\theta, \phi) = \sum_{i>L} \lambda_i . \tag{3.3} $$
#
# The *subspace* is the one of PCA. The *code* is not: for any invertible matrix $A$, the encoder $AP$ with the
# decoder $P^\top A^{-1}$ gives the same images. To compare subspaces we need a measure that ignores $A$. Take
# orthonormal bases of both, as the columns of $Q_1$ and $Q_2$. The **principal angles** $\vartheta_j$ come from
# singular values:
#
# $$ \cos\vartheta_j = \sigma_j(Q_1^\top Q_2), \qquad \text{all } \vartheta_j = 0 \iff \text{same subspace}. \tag{3.4} $$

# %% verifies=["3.3"]
# 7×7 averages: quick
small = torch.nn.functional.adaptive_avg_pool2d(train_x, 7).flatten(1).double().cpu()
linear = autoencoder.linear_autoencoder(small.shape[1], latent_dim=4).double()
optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=500, tolerance_change=1e-10,
                              line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = linear.loss(small)["loss"]
    loss.backward()
    return loss


optimizer.step(closure)
mean, components, variances = autoencoder.pca(small, small.shape[1])
error = linear.loss(small)["loss"].detach()
checks.close(error, variances[4:].sum(),
             what="the linear autoencoder reaches PCA's error (3.3)", rtol=1e-3)
learned = linear.decoder.weight.detach().T

# %% verifies=["3.4"]
_, components, _ = autoencoder.pca(small, small.shape[1])
angles = autoencoder.principal_angles(learned, components[:4])
checks.true(angles.rad2deg() < 2,
            what=f"same subspace: the largest angle is {angles.max().rad2deg():.3f}° (3.4)")
q1, q2 = (torch.linalg.qr(rows.T).Q for rows in (learned, components[2:6]))
cosines = torch.linalg.svdvals(q1.T @ q2).clamp(max=1)
found = autoencoder.principal_angles(learned, components[2:6])
checks.close(found.cos(), cosines, what="angles to another subspace agree with (3.4)",
             atol=1e-6)
checks.fails(lambda: found.max().rad2deg() < 2,
             what="components 3 to 6 span the same subspace")

# %%
own, theirs = linear.decoder.weight.detach().T, components[:4]
pictures = torch.cat([own / own.norm(dim=1, keepdim=True), theirs]).view(-1, 1, 7, 7)
plots.show(plots.images(0.5 + pictures, columns=4, width=4,
                        title="Top: columns of the linear decoder\nBottom: PCA"))
# alt: Four columns of the linear decoder and four principal components: different pictures, same subspace.

# %% [markdown]
# The pictures differ, and yet they span the same four-dimensional space. A linear autoencoder has no reason to sort
# its directions or make them orthogonal. PCA does that for us.

# %% [markdown]
# ### Exercise 3.1 (2 points): through the bottleneck of PCA
# Write `pca_reconstruct`: project images $(N, D)$ onto their own first $L$ principal components and come back. Do not
# forget the mean. The error you make must be the sum of the eigenvalues you dropped.

# %% exercise="3.1"

# %% tags=["check"]
check("3.1", pca_reconstruct)

# %% [markdown]
# ## 3.4 How many numbers does an image need?
#
# Now the real thing: error against the size of the code, for PCA, for the fully connected autoencoder and for a
# convolutional one. At 2 numbers, how far is PCA behind? At 32?

# %% [markdown]
# ### Exercise 3.2 (1 point): predict
# Commit your guess for 2 numbers before you run the cells below it. The point is for committing.

# %% exercise="3.2"

# %% tags=["check"]
check("3.2", pca_behind)

# %%
sizes = [2, 32] if budget == "smoke" else [2, 8, 32]
curve = {"PCA": [], "autoencoder (MLP)": [], "autoencoder (conv)": []}
rebuilt = [test_x[:10]]
flat, flat_test = train_x.flatten(1), test_x.flatten(1)
for n_latents in sizes:
    mean, components, _ = autoencoder.pca(flat, n_latents)
    back = mean + (flat_test - mean) @ components.T @ components
    curve["PCA"].append(autoencoder.squared_error(flat_test, back).mean().item() / n_pixels)
    mlp = autoencoder.mlp_autoencoder(shape, latent_dim=n_latents, mean_image=average)
    conv = autoencoder.conv_autoencoder(shape, latent_dim=n_latents, width=12,
                                        mean_image=average)
    for name, model, lr in (("autoencoder (MLP)", mlp, 2e-3),
                            ("autoencoder (conv)", conv, 6e-3)):
        fit(model, n_steps // 2, f"{name}, {n_latents} latents", lr=lr)
        curve[name].append(error_per_pixel(model, test_x))
    with training.evaluating(mlp):
        rebuilt.append(mlp(test_x[:10]))
title = "Test images, and the autoencoder (MLP) with " + ", ".join(map(str,
                                                                       sizes)) + " numbers"
plots.show(plots.images(torch.cat(rebuilt), columns=10, title=title))
# alt: Ten digits; below, rows of reconstructions that become sharper as the code grows.

# %%
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for (name, errors), marker in zip(curve.items(), "os^", strict=True):
    ax.plot(sizes, errors, marker=marker, label=name)
mean_error = autoencoder.squared_error(test_x,
                                       average.expand_as(test_x)).mean().item() / n_pixels
ax.axhline(mean_error, color="black", linestyle=":", label="mean image: no code")
ax.set(xscale="log", xlabel="latent dimensions", ylabel="squared error per test pixel",
       ylim=(0, 1.4 * mean_error), title="What a code of a given size can keep")
ax.set_xticks(sizes, [str(size) for size in sizes])
ax.set_xticks([], minor=True)
ax.legend(ncols=2, loc="upper center")
plots.show(fig)
# alt: Error by latent size, for PCA and both autoencoders, and the mean image as a dotted line.
for i, n_latents in enumerate(sizes):
    ratios = ", ".join(f"{name} {curve['PCA'][i] / curve[name][i]:.2f}" for name in curve
                       if name != "PCA")
    print(f"{n_latents:>2} latents: error of PCA divided by that of {ratios}")
error_pca, error_mlp, error_conv = curve.values()
record(mean_image_mse=mean_error, pca32_mse=error_pca[-1], mlp2_mse=error_mlp[0],
       conv2_mse=error_conv[0],
       conv32_mse=error_conv[-1])
reveal("3.2", error_pca[0] / error_mlp[0])

# %% [markdown]
# Look at the sheet first. Two numbers keep which digit it is, roughly and not always, and how much it leans. Eight get the
# strokes right, and with 32 what is missing is hard to find.
#
# Were you right? The last cell printed the ratios. A curved surface fits the images better than a flat one of the
# same dimension, once it is trained (with the smoke budget it is not, and at 32 numbers PCA, which needs no training,
# is far ahead). The dotted line is the answer without any code: the mean image, whatever comes in. These models had
# half the steps of section 3.2. The two architectures spend very different numbers of weights: with 28×28 pixels and
# 32 latents the fully connected one has 654,000, the convolutional one 82,000. It knows that pixels have neighbours,
# and uses the same small filters everywhere.

# %% [markdown]
# ## 3.5 A look at the code
#
# With two latents the whole code is a plane, and we can look at all of it. The colours are the labels. The network
# has not seen them.

# %%
ae2 = autoencoder.mlp_autoencoder(shape, hidden_dims=(400, 100), latent_dim=2,
                                  mean_image=average)
fit(ae2, n_steps, "autoencoder, 2 latents")
with training.evaluating(ae2):
    plane = ae2.encoder(test_x).cpu()
fig, ax = plt.subplots(figsize=(5.6, 4.6))
dots = ax.scatter(plane[:, 0], plane[:, 1], c=data.test.labels.cpu(), cmap=plots.CLASSES, s=6,
                  vmin=-0.5, vmax=9.5)
fig.colorbar(dots, label="label (not used)", ticks=range(n_classes),
             boundaries=torch.arange(n_classes + 1) - 0.5)
ax.set(xlabel="$z_1$", ylabel="$z_2$", title="Codes of the test images")
plots.show(fig)
# alt: A plane of dots coloured by class: most classes form a region, with empty land between them.

# %% [markdown]
# Look at three things. Classes gather, although nobody named them. The cloud has no simple outline and no agreed
# scale: some arms reach far out, nothing sits at a predictable place. And between the arms there is **empty land**.
# Keep that in mind.

# %% [markdown]
# ### Which digits are similar?
# The chapter began with a question that no model of chapter 02 could answer: which images are *similar* to this one? Now
# we have an answer: those whose codes are near. Take the 32 numbers of section 3.2 and look for the nearest training
# images of a test image, once by code and once pixel by pixel. Then move the test image by two pixels and ask again.

# %%
with training.evaluating(ae):
    train_codes = ae.encoder(train_x)


def nearest_images(x, n=5):
    """Indices of the n nearest training images, by code and by pixels: two (B, n)."""
    with training.evaluating(ae):
        by_code = torch.cdist(ae.encoder(x), train_codes)
    by_pixels = torch.cdist(x.flatten(1), train_x.flatten(1))
    return [gaps.topk(n, largest=False).indices for gaps in (by_code, by_pixels)]


asked = torch.stack([(data.test.labels == digit).nonzero()[1, 0] for digit in (2, 4, 7)])
rows = [torch.cat([test_x[i][None], train_x[a], train_x[b]])
        for i, a, b in zip(asked, *nearest_images(test_x[asked]), strict=True)]
plots.show(plots.images(torch.cat(rows), columns=11,
                        title="A test image; its five nearest by code; its five by pixels"))
# alt: Three test digits in the first column, followed by ten training digits that look much like them.

# %%
for name, step in {"as it is": 0, "moved by two pixels": 2}.items():
    found = nearest_images(test_x[:1_000].roll(step, 3))
    same = [data.train.labels[i] == data.test.labels[:1_000, None] for i in found]
    by_code, by_pixels = (hit.float().mean().item() for hit in same)
    print(f"{name:<20} of the five nearest, the same class: by code {by_code:.3f}, "
          f"by pixels {by_pixels:.3f}")
    if not step:
        record(retrieval=by_code)

# %% [markdown]
# So a code gives a notion of likeness, with 32 numbers to compare. It is not a different notion, though. The encoder was
# trained on squared error, and what squared error does not see, the code need not see either: moved by two pixels, the
# image gets other neighbours by either measure. What the code saves is the comparing: 32 numbers for an image, not 784.

# %% [markdown]
# ## 3.6 Keep the encoder
#
# After training one often throws the decoder away. The encoder has learned from *unlabelled* images, and these are
# cheap. Now suppose that only few labels are to be had. Train a linear classifier on the code, on PCA's code of the
# same size, and on the pixels, and count.

# %%
def probe(features, test_features, n_labels):
    """Test accuracy of logistic regression trained on the first ``n_labels`` feature
    vectors."""
    return metrics.linear_probe(features[:n_labels], data.train.labels[:n_labels],
                                test_features, data.test.labels)


mean, components, _ = autoencoder.pca(flat, 32)
with training.evaluating(ae):
    features = {"autoencoder code (32)": (ae.encoder(train_x), ae.encoder(test_x)),
                "PCA code (32)": ((flat - mean) @ components.T,
                                  (flat_test - mean) @ components.T),
                f"pixels ({n_pixels})": (flat, flat_test)}
counts = [n for n in (30, 100, 300, 1_000, 3_000) if n <= len(train_x)]
fig, ax = plt.subplots(figsize=(6.5, 3.2))
for (name, (a, b)), marker in zip(features.items(), "os^", strict=True):
    accuracies = [probe(a, b, n) for n in counts]
    print(f"{name:<24}" + "  ".join(f"{n:,} labels: {accuracy:.3f}" for n,
                                    accuracy in zip(counts, accuracies, strict=True)))
    ax.plot(counts, accuracies, marker=marker, label=name)
ax.set(xscale="log", xlabel="labelled training images", ylabel="test accuracy",
       title="Few labels, many images")
ax.set_xticks(counts, [f"{n:,}" for n in counts])
ax.set_xticks([], minor=True)
ax.legend()
plots.show(fig)
# alt: Test accuracy of linear classifiers on three kinds of features against the number of labels.

# %% [markdown]
# At the class budget the learned code beats PCA's code of the same size at nearly every count. Against the pixels it is
# a draw: 32 numbers do the work of 784, and no more. With few test images one or two percent are near chance.
#
# Be honest with this picture. A small code is not automatically better than the pixels: it was made to *redraw*, and
# what separates a 4 from a 9 may be a few pixels that redrawing hardly misses. So "good for reconstruction" and "good
# for a task" are two different goals. The next three ideas change the code on purpose.

# %% [markdown]
# ## 3.7 Sparse: many units, few awake
#
# A bottleneck is one way to forbid copying. Here is another. Take *more* hidden units than pixels, and demand that
# most of them are silent most of the time. Each image is then written with a few words from a large dictionary.
#
# Two penalties do this. The first is the L1 norm, $\sum_j |z_j|$. The second looks at how active unit $j$ is on
# average over the batch, $\hat\rho_j = \frac1B\sum_i z_{ij}$ for sigmoid units, and charges its divergence from a
# small target $\rho$:
#
# $$ \Omega(z) = \sum_j \mathrm{KL}(\rho\,\|\,\hat\rho_j)
#    = \sum_j \Big[ \rho\log\frac{\rho}{\hat\rho_j} + (1-\rho)\log\frac{1-\rho}{1-\hat\rho_j} \Big] . \tag{3.5} $$
#
# This is the KL divergence of chapter 01 between two coins. It is zero exactly when every unit has the mean activity
# $\rho$. A unit can reach that by shouting for a share $\rho$ of the images, or by murmuring $\rho$ at every image.
# The penalty cannot tell the two apart; the reconstruction can, because a constant murmur says nothing about the
# image. L1 charges both the same as well (the cell below prints it). The difference is another: the KL is content
# once the mean is $\rho$, while L1 never stops pulling, on every activation of every image.
#
# Either penalty is added to (3.2) with a weight: the loss is now $\mathcal L + \gamma\,\Omega$. First the KL, with
# $\gamma = 0.5$ and $\rho = 0.05$.

# %% verifies=["3.5"]
target = 0.05
z = torch.rand(100, 6)
coins = [torch.distributions.Bernoulli(p) for p in (torch.tensor(target), z.mean(0))]
checks.close(autoencoder.kl_sparsity(z, target),
             torch.distributions.kl_divergence(*coins).sum(),
             what="(3.5) is torch's KL of coins")
murmur, shout = torch.full((100, 6), target), torch.zeros(100, 6)
shout[:5] = 1.0  # awake for 5 of 100 images
for code, name in ((murmur, "a murmur at every image"), (shout, "a shout at 5 of 100 images")):
    checks.close(autoencoder.kl_sparsity(code, target), 0.0,
                 what=f"the KL charges nothing for {name}")
    checks.close(autoencoder.l1_sparsity(code).mean(), 6 * target,
                 what=f"L1 charges {6 * target:.1f} for {name}")

# %%
n_hidden = 800 if budget == "smoke" else 1_024  # more than the 784 pixels
sparse = autoencoder.one_layer_autoencoder(shape, n_hidden,
                                           penalty=autoencoder.sparse_kl(0.5, target))
plain = autoencoder.one_layer_autoencoder(shape, n_hidden)
for name, model in {"sparse": sparse, "no penalty": plain}.items():
    fit(model, n_steps, f"{n_hidden} hidden units, {name}")
with training.evaluating(sparse, plain):
    z_sparse, z_plain = sparse.encoder(test_x), plain.encoder(test_x)
near = ((z_sparse.mean(0) / target).log2().abs() < 1).double().mean()
checks.true(near > 0.8,
            what=f"{near:.0%} of the sparse units are near the target, within a factor of two")
for name, code in {"sparse": z_sparse, "no penalty": z_plain}.items():
    print(f"{name:<12} mean activity {code.mean():.3f}, awake (above one half) "
          f"{(code > 0.5).float().mean():.1%} of the time")
record(sparse_activity=z_sparse.mean(), plain_activity=z_plain.mean())

# %%
liveliest = [(model, z.var(0).argsort(descending=True)[:40]) for model,
             z in ((plain, z_plain), (sparse, z_sparse))]
weights = torch.cat([model.encoder[1].weight[order] for model, order in liveliest]).detach()
filters = 0.5 + 0.5 * weights / weights.abs().amax(1, keepdim=True)
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2))
for ax, part, name in zip(axes, filters.view(2, 40, *shape),
                          ("no penalty", f"sparse, target {target}"), strict=True):
    plots.draw_images(ax, part, columns=8, title=f"weights of the 40 liveliest units: {name}")
plots.show(fig)
# alt: Without a penalty the filters look like noise; with sparsity many show strokes and their parts.
fig, ax = plt.subplots(figsize=(6, 2.6))
for z, name in ((z_plain, "no penalty"), (z_sparse, "sparse")):
    ax.hist(z.mean(0).cpu(), bins=60, range=(0, 1), alpha=0.7, label=name)
ax.axvline(target, color="black", linestyle=":", label="target")
ax.set(xlabel="mean activity of a unit", ylabel="units", yscale="log",
       title="Mean activity of each unit")
ax.legend()
plots.show(fig)
# alt: Mean activities: spread widely without the penalty, close to the target with it.

# %% [markdown]
# Compare the two numbers printed for the sparse code. If every unit only shouted, it would be awake for a share of 5 %.
# It is awake far less, so most of its mean activity is made of values *below* one half. They are not a constant murmur,
# which would tell nothing about the image. They are answers in a low voice. The penalty sees only the mean, and this is
# one way to reach it. In the filters, the weights without a penalty look like noise. With it, many look like strokes,
# or like whole faint digits.
#
# Now L1. A sigmoid is never exactly zero, so for L1 the units are ReLUs. There is a loophole: halve the code, double
# the decoder's weights, and the penalty is halved for nothing. So encoder and decoder share one matrix (*tied*
# weights).

# %%
relu = partial(autoencoder.one_layer_autoencoder, shape, n_hidden, tied=True,
               activation=nn.ReLU)
with_l1, without = relu(penalty=autoencoder.sparse_l1(0.1)), relu()
silent = {}
for name, model in {"with L1": with_l1, "without": without}.items():
    fit(model, n_steps // 3, f"{n_hidden} ReLUs, {name}")
    with training.evaluating(model):
        code = model.encoder(test_x)
    silent[name] = (code == 0).double().mean().item()
    print(f"{name}: {silent[name]:.0%} of the code is exactly zero; on average "
          f"{(code > 0).double().sum(1).mean():.0f} of "
          f"{n_hidden} units are awake; squared error per pixel "
          f"{error_per_pixel(model, test_x):.4f}")
checks.true(silent["with L1"] > silent["without"], what="L1 silences units")
record(l1_zeros=silent["with L1"])

# %% [markdown]
# This is what the word *sparse* means elsewhere: a list of the few units that are not zero. Sparseness has a price in
# squared error, and $\gamma$ sets the rate of exchange.

# %% [markdown]
# ### Exercise 3.3 (2 points): a penalty for quiet units
# Write `sparsity_penalty`: the sum over units of $\mathrm{KL}(\rho\,\|\,\hat\rho_j)$ from a batch of activations `(B,
# L)`. Average over the *batch*, not over the units.

# %% exercise="3.3"

# %% tags=["check"]
check("3.3", sparsity_penalty)

# %% [markdown]
# ## 3.8 Contractive: small changes should not matter
#
# A good code should not jump when a pixel flickers. How far the code moves when the image moves a little is the
# Jacobian of the encoder, $J_{ji} = \partial z_j/\partial x_i$. The **contractive** autoencoder adds the sum of its
# squares, the squared *Frobenius norm*, to the loss:
#
# $$ \|J(x)\|_F^2 = \sum_{j}\sum_i \Big(\frac{\partial z_j}{\partial x_i}\Big)^2 . \tag{3.6} $$
#
# For one sigmoid layer, $z_j = s(a_j)$ with $a_j = \sum_i W_{ji}x_i + b_j$ and $s(a)=1/(1+e^{-a})$ (the sigmoid of
# chapter 02; its letter $\sigma$ will be needed for something else), the derivative is
# $\partial z_j/\partial x_i = s'(a_j)\,W_{ji}$, and $s' = s(1-s)$. So no differentiation is left to do:
#
# $$ \|J(x)\|_F^2 = \sum_j \big(z_j(1-z_j)\big)^2 \sum_i W_{ji}^2 . \tag{3.7} $$
#
# Two forces now pull at each other. Reconstruction says: different images need different codes. Contraction says:
# nothing may matter. The compromise: the code moves along the few directions in which real images differ, and stands
# still in all others.
#
# One loophole must be closed first. The encoder could shrink all its weights, which makes $J$ small, while the
# decoder grows its own and undoes it. So again the two share one matrix: the decoder uses $W^\top$. The loss is
# $\mathcal L + \gamma\,\mathbb E\|J(x)\|_F^2$ with $\gamma=2$.
#
# How do we see "few directions"? By the **singular values** of $J(x)$. They are the lengths of the axes of an
# ellipsoid: move $x$ over a tiny ball of radius $\delta$, and the code moves over an ellipsoid with half-axes
# $\delta\sigma_1\ge\delta\sigma_2\ge\dots$ Their squares add up to $\|J\|_F^2$. A steep fall means that few
# directions matter.

# %% verifies=["3.6", "3.7"] tags=["nbval-check-output"]
layer = autoencoder.one_layer_autoencoder((1, 4, 4), n_hidden=10).double()
x = torch.rand(5, 1, 4, 4, dtype=torch.float64)
closed = autoencoder.contractive_penalty(layer.encoder(x), layer.encoder[1].weight)
by_autograd = torch.stack(
    [torch.autograd.functional.jacobian(layer.encoder, one[None]).square().sum() for one in x])
checks.close(closed, by_autograd, what="the closed form (3.7) is autograd's Jacobian (3.6)",
             rtol=1e-9)
checks.close(autoencoder.jacobian_penalty(layer.encoder, x), by_autograd,
             what="and so is the general routine", rtol=1e-9)
z = layer.encoder(x)
checks.fails(lambda: torch.allclose((z * (1 - z)) @ layer.encoder[1].weight.square().sum(1),
                                    closed), what="with s' unsquared (3.7) is the same")

# %%
n_units = {"smoke": 64, "class": 256, "full": 1_024}[budget]
penalty = autoencoder.contract_sigmoid(2.0)
contractive = autoencoder.one_layer_autoencoder(shape, n_units, penalty, tied=True)
free = autoencoder.one_layer_autoencoder(shape, n_units, tied=True)
fig, ax = plt.subplots(figsize=(6.5, 3))
for name, model in {"contractive": contractive, "no penalty": free}.items():
    fit(model, n_steps, f"{n_units} hidden units, {name}")
    jacobian = autoencoder.jacobian(model.encoder, test_x[:20]).detach()  # (B, L, D)
    singular = torch.linalg.svdvals(jacobian)  # (B, min(L, D)), the largest first
    checks.close(singular.square().sum(1), jacobian.square().sum((1, 2)),
                 what=f"{name}: σ² add up to ‖J‖²", rtol=1e-3)
    print(f"{name:<12} mean ‖J‖² = {singular.square().sum(1).mean():.3f}")
    fall = (singular / singular[:, :1]).mean(0)[:60].cpu()
    ax.plot(range(1, len(fall) + 1), fall, label=name)
ax.set(xlabel="number of the singular value", ylabel="size / the largest", yscale="log",
       title="In how many directions does the code move?")
ax.legend()
plots.show(fig)
# alt: The singular values of the contractive encoder's Jacobian fall much faster than without penalty.

# %%
with training.evaluating(sparse, plain, contractive, free):
    pairs = {name: (m.encoder(train_x), m.encoder(test_x)) for name, m in
             {"sparse": sparse, "the same without penalty": plain,
              "contractive": contractive, "its twin without penalty": free}.items()}
accuracies = {name: probe(a, b, len(train_x)) for name, (a, b) in pairs.items()}
accuracies["pixels"] = probe(flat, flat_test, len(train_x))
for name, value in accuracies.items():
    print(f"linear probe on {name:<26} {value:.3f}")
record(sparse_probe=accuracies["sparse"], contractive_probe=accuracies["contractive"],
       pixel_probe=accuracies["pixels"])
print(f"\nlonger runs, all training "
      f"images:\n{'model':<40}{'data':<13}{'squared error':>14}{'probe':>8}{'steps':>8}")
for name in ("handwriting", "mnist"):
    for row in shipped.results(f"latent_{name}.json")["rows"]:
        if "test_mse_per_pixel" in row:
            known = "test_probe_accuracy" in row
            value = f"{row['test_probe_accuracy']:8.3f}" if known else f"{'–':>8}"
            print(
                f"{row['title']:<40}{name:<13}{row['test_mse_per_pixel']:14.4f}"
                f"{value}{row['n_steps']:8,}")

# %% [markdown]
# A **linear probe** is the classifier of section 3.6: linear, on a frozen code. Read the rows in pairs. At the class
# budget each penalty stands above its twin of the same width without one, and only that difference belongs to the
# *penalty*. What the twins gain over the pixels belongs to a trained layer with a bend in it. A penalty shapes the
# code (fewer units awake, fewer directions); whether this helps a task must be measured each time. With a thousand or
# two test images a difference of half a percent is within chance, and may go either way from seed to seed.

# %% [markdown]
# ### Exercise 3.4 (2 points): contraction with another activation
# The closed form (3.7) is for a sigmoid. Derive it for $z = \tanh(Wx+b)$ and write `contractive_tanh`. (What is
# $\tanh'$ in terms of $\tanh$?)

# %% exercise="3.4"

# %% tags=["check"]
check("3.4", contractive_tanh)

# %% [markdown]
# ## 3.9 Denoising: repair what was never broken
#
# The last idea changes the *question*. Damage the image, $\tilde x = x + \sigma\epsilon$ with Gaussian noise
# $\epsilon$, and ask for the clean one:
#
# $$ \mathcal L = \mathbb{E}\,\big\| x - r(\tilde x) \big\|^2, \qquad r = f_\theta\circ g_\phi . $$
#
# (From here on $\sigma$ without an index is the size of the noise, no longer a singular value.) Copying does not help
# any more, even with a wide code. To repair an image the network must know what images look
# like.

# %%
noise = 0.5
denoiser = autoencoder.mlp_autoencoder(shape, (400,), 128,
                                       corrupt=autoencoder.add_noise(noise),
                                       mean_image=average)
fit(denoiser, n_steps, "denoising autoencoder")
clean = test_x[:10]
noisy = autoencoder.add_noise(noise)(clean)
with training.evaluating(denoiser, ae):
    rows = torch.cat([noisy.clamp(0, 1), denoiser(noisy), ae(noisy), clean])
    many = test_x[:1_000]
    many_noisy = autoencoder.add_noise(noise)(many)
    left = {"nothing": many_noisy, "the plain autoencoder": ae(many_noisy),
            "the denoiser": denoiser(many_noisy)}
    left = {name: autoencoder.squared_error(many, guess).mean().item() / n_pixels for name,
            guess in left.items()}
for name, value in left.items():
    print(f"squared error per pixel after {name:<22} {value:.4f}")
plots.show(plots.images(rows, columns=10,
                        title="Noisy; repaired; through the plain autoencoder; the truth"))
# alt: Four rows: noisy digits, clean repairs, worse reconstructions of the plain autoencoder, the originals.
record(denoised_mse=left["the denoiser"], plain_denoised_mse=left["the plain autoencoder"])

# %% [markdown]
# Doing nothing leaves an error of $\sigma^2 = 0.25$ per pixel. The plain autoencoder already removes most of it, and
# nobody asked it to: 32 numbers have no room for noise. But what it draws may be the wrong strokes (third row). The
# denoiser was trained for the task, and at the class budget it halves what is left. Its code may be four times as wide
# (128 numbers), since here the bottleneck is not what forbids copying.
#
# What does the *perfect* denoiser compute? For squared error the best guess is a mean, as in (3.1), now the mean of
# all clean images that could have become this noisy one: $r^*(\tilde x) = \mathbb{E}[x\mid\tilde x]$. Let us work
# that out. The noisy images have the density
#
# $$ p_\sigma(\tilde x) = \int p(x)\,\mathcal N(\tilde x; x, \sigma^2 I)\,\mathrm{d}x . $$
#
# Differentiate under the integral. The gradient of the Gaussian is
# $\nabla_{\tilde x}\,\mathcal N(\tilde x; x,\sigma^2I) = \frac{x-\tilde x}{\sigma^2}\,\mathcal N(\tilde x;x,\sigma^2I)$,
# so
#
# $$ \nabla p_\sigma(\tilde x) = \int p(x)\,\frac{x-\tilde x}{\sigma^2}\,\mathcal N(\tilde x; x,\sigma^2I)\,\mathrm{d}x . $$
#
# Divide both sides by $p_\sigma(\tilde x)$. On the left stands the gradient of a logarithm. On the right,
# $p(x)\,\mathcal N(\tilde x;x,\sigma^2 I)/p_\sigma(\tilde x)$ is $p(x\mid\tilde x)$ by Bayes' rule, and the integral
# is a mean over it:
#
# $$ \nabla \log p_\sigma(\tilde x) = \frac{\mathbb{E}[x\mid \tilde x]-\tilde x}{\sigma^2} = \frac{r^*(\tilde x) - \tilde x}{\sigma^2}. \tag{3.8} $$
#
# This is **Tweedie's formula** (Robbins 1956 gives it to Tweedie). The arrow from a noisy image to its repair points
# *uphill in probability*. Divided by $\sigma^2$ it is
# $\nabla\log p_\sigma$, which is called the **score**. A denoiser has learned a density after all, up to its
# constant: the *blurred* one, $p_\sigma$, not $p$. Chapter 07 builds a generative model on this one line.
#
# In two dimensions we can check it: three blobs, whose blurred density is known.

# %% verifies=["3.8"]
def blobs(extra=0.0):
    """Three Gaussian blobs; ``extra`` is added to every variance, which is what blurring does
    to a Gaussian."""
    means = torch.tensor([[-1.2, -0.6], [1.2, -0.6], [0.0, 1.3]])
    return distributions.GaussianMixture(torch.full((3,), 1 / 3), means,
                                         torch.full((3, 2), 0.08 + extra))


sigma = 0.4
clean, _ = checks.grid((-4, 4), (-4, 4), n=200)
log_p = blobs().log_prob(clean)  # of 40,000 clean points


def perfect(noisy):
    """E[x | noisy]: the mean of the clean points, weighed by how likely each is and how likely
    it became this."""
    return (log_p - torch.cdist(noisy, clean).square() / (2 * sigma**2)).softmax(1) @ clean


x = blobs(sigma**2).sample((50,)).double().requires_grad_()
exact = torch.autograd.grad(blobs(sigma**2).log_prob(x).sum(), x)[0]
by_repair = autoencoder.denoising_score(perfect, x.detach(), sigma)
checks.close(by_repair, exact,
             what="(3.8) with the perfect denoiser is the score of the blurred density",
             rtol=1e-4)
by_repair = autoencoder.denoising_score(perfect, x.detach(), 1.0)
checks.fails(lambda: torch.allclose(by_repair, exact, rtol=0.1),
             what="without dividing by σ² it is the score")

# %% verifies=["3.8"]
network = MLP([2, 64, 64, 2], nn.Tanh)
repair = autoencoder.Autoencoder(nn.Identity(), network, corrupt=autoencoder.add_noise(sigma))
optimizer = torch.optim.Adam(repair.parameters(), lr=3e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
training.fit(repair.loss, optimizer, iter(lambda: blobs().sample((1_024,)), None), 400,
             scheduler=schedule)
x = blobs(sigma**2).sample((2_000,)).requires_grad_()
# the score of the blurred density
exact = torch.autograd.grad(blobs(sigma**2).log_prob(x).sum(), x)[0]
learned = autoencoder.denoising_score(network, x, sigma).detach()
relative = ((learned - exact).square().sum() / exact.square().sum()).sqrt()
# is it as long as the score, on average?
slope = (learned * exact).sum() / exact.square().sum()
checks.true(relative < 0.2,
            what=f"the learned score is that of the blurred density up to {relative:.0%}")
checks.close(slope, 1.0, what=f"(3.8): with its length, {slope:.3f} of the exact one",
             atol=0.06, rtol=0)
# the score of the density before blurring
sharp = torch.autograd.grad(blobs().log_prob(x).sum(), x)[0]
checks.fails(lambda: ((learned - sharp).square().sum() / sharp.square().sum()).sqrt() < 0.2,
             what="it is the score of the density before blurring as well")

# %%
axis = torch.linspace(-2.6, 2.6, 17)
points = torch.cartesian_prod(axis, axis).requires_grad_()
truth = torch.autograd.grad(blobs(sigma**2).log_prob(points).sum(), points)[0]
guess = autoencoder.denoising_score(network, points, sigma).detach()
fig, axes = plt.subplots(1, 2, figsize=(8.6, 4.2), sharey=True)
for ax, field, name in zip(axes, (truth, guess),
                           ("exact score", "denoiser minus input, over σ²"), strict=True):
    plots.density(ax, blobs(sigma**2).log_prob, -2.6, 2.6, title=name)
    ax.quiver(*points.detach().T, *field.T, color="white", angles="xy", scale=90, width=0.004)
plots.show(fig)
# alt: Two arrow fields over three blobs: the exact score and the learned one, nearly the same.

# %% [markdown]
# ### Exercise 3.5 (2 points): from repair to score
# Write `score_from_noise`. Here the network was trained to predict the *noise* $\epsilon$ in
# $\tilde x = x+\sigma\epsilon$ instead of the clean image. Use (3.8) to turn its prediction $\hat\epsilon(\tilde x)$
# into the score.

# %% exercise="3.5"

# %% tags=["check"]
check("3.5", score_from_noise)

# %% [markdown]
# ### Exercise 3.6 (3 points): build a denoiser
# Write `train_denoiser`, about 10 lines, on the pattern of this section: a network with a hidden layer and a loop of
# `n_steps`. In each step take about 100 clean images, add new noise to them, and compare what the network makes of the
# noisy ones with the clean ones. A learning rate near 0.005 is a good start for so few steps.
#
# The check trains it on 1,197 digits of 8×8 pixels with $\sigma=0.3$, for 600 steps, and repairs 600 other digits. Doing
# nothing leaves an error of $\sigma^2=0.09$ per pixel. The best *linear* repair leaves 0.0232. Yours passes below 0.022.

# %% exercise="3.6"

# %% tags=["check"]
check("3.6", train_denoiser)

# %% [markdown]
# ## 3.10 An autoencoder that samples, a little
#
# To draw a new image we need a new code. So fit a density to the codes we have. Chapter 01's Gaussian mixture will
# do:
#
# 1. encode the training images;
# 2. fit the mixture to their codes;
# 3. draw a code from it;
# 4. decode.

# %%
with training.evaluating(ae):
    codes = ae.encoder(train_x).cpu()
mixture = GaussianMixture(20, covariance_type="full", reg_covar=1e-3,
                          random_state=seed).fit(codes.double().numpy())
drawn = torch.as_tensor(mixture.sample(200)[0]).to(codes)
drawn = drawn[torch.randperm(200)]
box = codes.amin(0) + (codes.amax(0) - codes.amin(0)) * torch.rand(200, codes.shape[1])
sources = {"codes of test images": ae.encoder(test_x[:200]).detach().cpu(),
           "mixture of Gaussians": drawn,
           "each latent anywhere in its range": box}
fig, axes = plt.subplots(1, 3, figsize=(9.5, 3.6))
for ax, (name, z) in zip(axes, sources.items(), strict=True):
    with training.evaluating(ae):
        plots.draw_images(ax, ae.decoder(z[:36].to(device)), columns=6, title=name)
plots.show(fig)
# alt: Decoded codes: clean digits from test codes, plausible ones from the mixture, scribbles at random.

# %% [markdown]
# The mixture gives usable digits. In the third picture every latent was drawn on its own, uniformly over the range
# that it has in the training set, and the decoder gives scribbles. A number for this: how far is each picture from
# the nearest training image? Real test images are the yardstick. Careful: small is not the same as good. A blurry
# picture is near to many images, so decoded pictures can come *closer* than real ones. Only large values say
# something: this is no digit.

# %%
def nearest(x):
    """Squared distance per pixel to the nearest training image, the mean over ``x``."""
    return torch.cdist(x.flatten(1), flat).square().min(1).values.mean().item() / n_pixels


with training.evaluating(ae):
    distance = {"real test images": nearest(test_x[:200])}
    distance |= {name: nearest(ae.decoder(z.to(device))) for name, z in sources.items()}
for name, value in distance.items():
    print(f"{name:<36} {value:.4f}")
record(hole_ratio=distance["each latent anywhere in its range"]
       / distance["mixture of Gaussians"])

# %% [markdown] tags=["fold"]
# ### Going deeper: codes that are made for a density
# A density over codes is easier to fit if the codes are prepared for it. Two arguments of our class do that. `latent_noise` adds noise to
# the code in training, so the decoder learns that neighbours of a code mean the same image. `penalty=small_codes(...)` charges the
# squared length of the code; without it the encoder would escape the noise by spreading its codes ever further apart. (A third, `error`, exchanges the squared
# error for the cross-entropy.) Chapter 07 trains such an autoencoder and draws its codes by flow matching.

# %% [markdown]
# ## 3.11 The holes
#
# In the plane of section 3.5 we can see why. Decode a regular grid of codes, over the middle 98 % of the range of each
# latent, and mark how far each place is from the nearest code of a training image.
#
# **Before you run it:** what will the decoder draw in the empty land, where it was never trained?

# %%
with training.evaluating(ae2):
    plane = ae2.encoder(train_x)
    low, high = plane.quantile(0.01, dim=0), plane.quantile(0.99, dim=0)
    ticks = (torch.arange(11, device=device) + 0.5) / 11  # the centres of 11 equal cells
    grid = low + (high - low) * torch.cartesian_prod(ticks, ticks)
    sheet = ae2.decoder(grid.view(11, 11, 2).transpose(0, 1).flip(0).reshape(-1, 2))
    gap = torch.cdist(grid / (high - low), plane / (high - low)).min(1).values.view(11, 11).T
fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.5))
plots.draw_images(axes[0], sheet, columns=11, title="decoded grid of codes")
extent = (low[0].item(), high[0].item(), low[1].item(), high[1].item())
shown = axes[1].imshow(gap.cpu().numpy(), origin="lower", extent=extent, aspect="auto",
                       cmap="viridis")
axes[1].scatter(*plane[:2_000].cpu().T, s=1, color="white")
axes[1].set(xlim=extent[:2], ylim=extent[2:], xlabel="$z_1$", ylabel="$z_2$",
            title="distance to the nearest code")
fig.colorbar(shown, ax=axes[1], label="share of the region's width")
plots.show(fig)
# alt: Left: digits that melt into each other and into scribbles. Right: empty land between the codes.

# %% [markdown]
# Compare the two sheets cell by cell. In empty land (bright) the decoder does not leave the paper blank. It draws
# something dark and self-assured: sometimes nearly a digit, sometimes two digits in one. But a blend is no proof of a
# hole. In the crowded middle several classes share the same codes, and there the decoder does what (3.1) says: it
# cannot know which image is meant, and draws a pale average.

# %% [markdown]
# Walk through it yourself, from a clear 1 towards a 0. **Guess first:** what lies between them?

# %% tags=["widget"]
with training.evaluating(ae2):
    codes = ae2.encoder(test_x)
question = {"ask": "Guess first: start at a clear 1 and drag towards a 0. What lies between "
                   "them?", "right": 2,
            "options": ["blank paper", "a clear digit everywhere",
                        "other digits, and pictures that are none"],
            "answer": "The path crosses the land of other classes, and between two lands the "
                      "decoder draws blends and "
                      "strokes that belong to no digit: it was never asked about these codes."}
widgets.latent_explorer({"AE": deepcopy(ae2.decoder).cpu()}, {"AE": codes}, data.test.labels,
                        shape=shape, priors=(),
                        question=question)

# %% [markdown]
# On the way from the 1 to the 0 you cross the land of other digits, and between two lands the picture is neither: a
# blend, or strokes that belong to no digit. Nothing in the loss ever said where codes may lie or what should happen
# between them. The decoder is asked about places it has never visited, and it answers anyway, just like the
# classifier of chapter 01.

# %% [markdown]
# ## What to remember
#
# * A network can store images. A code turns storing into compression; an encoder gives a code to images it has never
#   seen.
# * A linear autoencoder finds the subspace of PCA and nothing more. Curved ones do better with the same number of
#   latents.
# * A code can be made good in other ways than by being small: few units awake (sparse), deaf to small changes
#   (contractive), able to repair (denoising). Good for redrawing and good for a task are different goals.
# * A perfect denoiser knows the score, the gradient of $\log p_\sigma$.
# * An autoencoder has no probability. It cannot sample, and a density fitted to its codes afterwards is a patch.
#
# **The question this leaves:** could the *training itself* make sure that codes fill a known region, without holes,
# so that any draw from it decodes to an image? Chapter 04 does that, and finds that the answer is a bound on
# $\log p(x)$.

# %% tags=["check"]
score()

# %% [markdown]
# ## Sources
#
# * P. Baldi, K. Hornik, *Neural networks and principal component analysis*, Neural Networks 2, 1989.
# * G. Hinton, R. Salakhutdinov, *Reducing the dimensionality of data with neural networks*, Science 313, 2006.
# * B. Olshausen, D. Field, *Emergence of simple-cell receptive field properties by learning a sparse code for natural
#   images*, Nature 381, 1996. A. Ng, *Sparse autoencoder*, lecture notes CS294A, 2011 (the KL penalty).
# * P. Vincent et al., *Stacked denoising autoencoders*, JMLR 11, 2010. P. Vincent, *A connection between score
#   matching and denoising autoencoders*, Neural Computation 23, 2011. G. Alain, Y. Bengio, arXiv:1211.4246.
# * S. Rifai et al., *Contractive auto-encoders: explicit invariance during feature extraction*, ICML 2011.
