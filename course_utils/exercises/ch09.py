"""Exercises of chapter 09: all families on one table."""

from functools import cache

import torch

from course_utils import metrics
from course_utils.data import handwriting
from course_utils.exercises import Exercise, Finding, Probe
from course_utils.exercises.compare import kind_of

D = torch.float64
FAMILIES = ("autoregressive", "VAE", "GAN", "flow", "diffusion", "latent")


def _tensor(*values):
    return torch.tensor(values, dtype=D)


# ------------------------------------------------------------------------------------------- 9.2 to 9.4 the whole table
def smallest_distance():
    """Which family has the smallest Fréchet distance: "autoregressive", "VAE", "GAN", "flow",
    "diffusion", "latent"?
    """
    return "latent"


def fastest_draw():
    """Which family draws fastest: "autoregressive", "VAE", "GAN", "flow", "diffusion",
    "latent"?
    """
    return "VAE"


def fewest_bits():
    """Which has the fewest bits per dimension: "autoregressive", "VAE", "flow", "diffusion"?
    """
    return "autoregressive"


# ------------------------------------------------------------------------------------------------------ 9.1 the copyist
def copying_share(d_samples, d_test):
    """How often a sample lies nearer to the training set than a test image does, ties counted
    half.

    d_samples: (N,), distance of each sample to its nearest training image.
    d_test: (M,), the same for test images.
    Returns a tensor without dimensions: the share of the N·M pairs.
    """
    nearer = (d_samples[:, None] < d_test[None, :]).to(d_samples.dtype)
    tied = (d_samples[:, None] == d_test[None, :]).to(d_samples.dtype)
    return (nearer + 0.5 * tied).mean()


def _copying_farther(d_samples, d_test):
    """You counted the pairs in which the sample is *farther* away. A copyist's samples are nearer."""
    return copying_share(-d_samples, -d_test)


def _copying_no_ties(d_samples, d_test):
    """Pairs with equal distances count half, not nothing."""
    return (d_samples[:, None] < d_test[None, :]).to(d_samples.dtype).mean()


def _copying_full_ties(d_samples, d_test):
    """Pairs with equal distances count half, not full."""
    return (d_samples[:, None] <= d_test[None, :]).to(d_samples.dtype).mean()


def _copying_in_line(d_samples, d_test):
    """You compared the first sample with the first test image, the second with the second. All pairs are asked for."""
    n = min(len(d_samples), len(d_test))
    return (d_samples[:n] < d_test[:n]).to(d_samples.dtype).mean() + 0.5 * (
        d_samples[:n] == d_test[:n]).to(d_samples.dtype).mean()


def _copying_of_means(d_samples, d_test):
    """A comparison of the two means is one bit. The share of pairs is asked for."""
    return (d_samples.mean() < d_test.mean()).to(d_samples.dtype)


def _copying_probes(generator):
    a, b = torch.rand(7, generator=generator, dtype=D), torch.rand(5, generator=generator, dtype=D)
    return [
        Probe("copies are nearer than any test image", (_tensor(0, 0, 0), _tensor(1, 2)), "All 6 pairs: 1."),
        Probe("nothing but ties", (_tensor(2, 2), _tensor(2, 2, 2)), "Each of 6 pairs counts half: 0.5."),
        Probe("one pair of four", (_tensor(1, 3), _tensor(0.5, 2)), "Only 1 < 2: 0.25."),
        Probe("seven samples, five test images", (a, b), "Compare all 35 pairs: d_samples[:, None] < d_test."),
    ]


# --------------------------------------------------------------------------------------------- 9.5 do two columns agree
def spearman(a, b):
    """Spearman's rank correlation of two columns without ties: the correlation of their ranks.

    a, b: (N,), all entries of each different.
    Returns a tensor without dimensions, from -1 to 1.
    """
    ranks = [column.argsort().argsort().to(column.dtype) for column in (a, b)]
    x, y = (rank - rank.mean() for rank in ranks)
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def _rank_of_values(a, b):
    """That is the correlation of the values. Replace each value by its rank first."""
    x, y = a - a.mean(), b - b.mean()
    return (x * y).sum() / (x.square().sum() * y.square().sum()).sqrt()


def _rank_one_sort(a, b):
    """argsort says which entry comes first, not which place an entry has. Sort twice: a.argsort().argsort()."""
    return _rank_of_values(a.argsort().to(a.dtype), b.argsort().to(b.dtype))


def _rank_reversed(a, b):
    """One of the two is ranked from the largest down: the sign is wrong."""
    return -spearman(a, b)


def _rank_without_six(a, b):
    """In 1 - 6 Σd² / (N (N² - 1)) the 6 is missing."""
    d = (a.argsort().argsort() - b.argsort().argsort()).to(a.dtype)
    return 1 - d.square().sum() / (len(a) * (len(a) ** 2 - 1))


def _rank_probes(generator):
    a, b = torch.randn(2, 6, generator=generator, dtype=D)
    return [
        Probe("equal order, wild values", (_tensor(1, 2, 3, 4), _tensor(-5, 0, 0.1, 900)), "The ranks are equal: 1."),
        Probe("opposite order", (_tensor(1, 2, 3), _tensor(9, 4, 1)), "-1."),
        Probe("one exchange", (_tensor(1, 2, 3, 4), _tensor(1, 2, 4, 3)), "1 - 6 · 2 / (4 · 15) = 0.8."),
        Probe("a cycle of three", (_tensor(1, 2, 3), _tensor(2, 3, 1)), "1 - 6 · 6 / (3 · 8) = -0.5."),
        Probe("six of each", (a, b), "Centre the ranks, multiply, divide by the roots of the sums of squares."),
    ]


# -------------------------------------------------------------------------------------------------- 9.6 the frontier
def frontier(cost):
    """Which rows no other row beats: at least as good in every column, and better in one.

    cost: (N, K), every column such that less is better.
    Returns (N,) booleans.
    """
    as_good = (cost[:, None] <= cost[None, :]).all(-1)                 # row i against row j
    better = (cost[:, None] < cost[None, :]).any(-1)
    return ~(as_good & better).any(0)


def _unbeaten_everywhere(cost):
    """You let a row be beaten only by one that is *strictly* better in all columns. A tie in one column is enough."""
    return ~(cost[:, None] < cost[None, :]).all(-1).any(0)


def _unbeaten_best_of_columns(cost):
    """You kept the best of each column. A row that is second in both may be beaten by nobody."""
    return (cost == cost.min(0).values).any(1)


def _unbeaten_by_sum(cost):
    """The sum of the columns weighs seconds against distances. Nobody said how much one is worth in the other."""
    return cost.sum(1) == cost.sum(1).min()


def _unbeaten_largest(cost):
    """Less is better in every column; you kept the rows that are large."""
    return frontier(-cost)


def _unbeaten_no_equals(cost):
    """A row is beaten by its equal, or by itself. The other must be better in at least one column."""
    as_good = (cost[:, None] <= cost[None, :]).all(-1)
    return as_good.sum(0) == 1


def _unbeaten_probes(generator):
    return [
        Probe("one row beats the other in both", (_tensor(1, 1, 2, 2).view(2, 2),), "Only the first stays."),
        Probe("a tie in one column", (_tensor(1, 3, 1, 2).view(2, 2),), "The second is as good and once better."),
        Probe("second in both columns", (_tensor(1, 9, 2, 2, 9, 1).view(3, 2),), "Nobody is at least as good in both."),
        Probe("two equal rows", (_tensor(1, 1, 1, 1, 3, 0).view(3, 2),), "Neither of two equal rows beats the other."),
        Probe("nine rows, three columns", (torch.rand(9, 3, generator=generator, dtype=D),), "Compare all pairs."),
    ]


# ---------------------------------------------------------------------------------------------- 9.7 a row of your own
def new_row(x):
    """Learn from images and return a function that draws new ones.

    x: (N, 1, 14, 14), pixels in [0, 1].
    Returns draw(n): (n, 1, 14, 14), pixels in [0, 1], new at every call. No copies of x.
    """
    flat = x.flatten(1)
    mean, cov = flat.mean(0), torch.cov(flat.T)
    root = torch.linalg.cholesky(cov + 1e-3 * torch.eye(len(cov)))

    def draw(n):
        return (mean + torch.randn(n, len(mean)) @ root.T).clamp(0, 1).view(n, *x.shape[1:])

    return draw


@cache
def _small_handwriting():
    return tuple(handwriting.sample(2_000, size=14, seed=seed).images.float() / 255 for seed in (31, 32))


def _row_trial(build, generator):
    train, test = (part.clone() for part in _small_handwriting())
    draw = build(train)
    yield Finding("the function returns a function", callable(draw), f"It returned {kind_of(draw)}.",
                  "Define draw(n) inside, and return it.")
    found = draw(1_000)
    right = isinstance(found, torch.Tensor) and found.shape == (1_000, *train.shape[1:])
    yield Finding("draw(1000) gives 1,000 images (1, 14, 14)", right, f"It gave {kind_of(found)}.",
                  "Bring the rows back to the shape of an image at the end.")
    inside = bool(((found >= 0) & (found <= 1)).all())
    yield Finding("pixels lie in [0, 1]", inside, "Some do not, or are not numbers.", "Clip with clamp(0, 1).")
    again = draw(1_000)
    yield Finding("a second call draws other images", not torch.equal(found, again), "Both calls gave the same.",
                  "Draw fresh random numbers inside draw.")
    axes = torch.linalg.eigh(torch.cov(train.flatten(1).T)).eigenvectors[:, -20:]

    def features(images):
        return images.flatten(1) @ axes

    copying = metrics.data_copying(features(found[:400]), features(train), features(test[:400]))
    yield Finding("it is no copyist: data copying below 0.9", copying < 0.9, f"Data copying is {copying:.2f}.",
                  "A new image is not a training image, also not with a little noise on it.")
    _, coverage = metrics.density_coverage(features(found), features(test[:1_000]))
    yield Finding("it has not collapsed: coverage above 0.1", coverage > 0.1, f"Coverage is {coverage:.2f}.",
                  "Samples must be as different as data are.")
    floor = (train.mean(0) + train.std(0) * torch.randn(1_000, *train.shape[1:], generator=generator)).clamp(0, 1)
    ratio = (metrics.frechet_distance(features(found), features(test))
             / metrics.frechet_distance(features(floor), features(test)))
    yield Finding("its Fréchet distance is at most half that of independent pixels", ratio <= 0.5,
                  f"It is {ratio:.2f} times that of independent pixels.",
                  "Neighbouring pixels go together: learn at least their covariance.")


def _row_copyist(x):
    """These are training images. The Fréchet distance likes that, and data copying does not."""
    return lambda n: x[torch.randint(len(x), (n,))]


def _row_noisy_copyist(x):
    """A training image with a little noise on it is a copy all the same."""
    return lambda n: (x[torch.randint(len(x), (n,))] + 0.02 * torch.randn(n, *x.shape[1:])).clamp(0, 1)


def _row_independent(x):
    """Pixels drawn one by one are the baseline that is to be beaten."""
    return lambda n: (x.mean(0) + x.std(0) * torch.randn(n, *x.shape[1:])).clamp(0, 1)


def _row_mean(x):
    """The mean image with a little noise: one picture, again and again."""
    return lambda n: (x.mean(0) + 0.05 * torch.randn(n, *x.shape[1:])).clamp(0, 1)


def _row_frozen(x):
    """The images are drawn once, when the row is built. Every call must draw new ones."""
    once = new_row(x)(1_000)
    return lambda n: once[:n]


EXERCISES = (
    Exercise("9.1", 2, copying_share, _copying_probes,
             (_copying_farther, _copying_no_ties, _copying_full_ties, _copying_in_line, _copying_of_means)),
    Exercise("9.2", 1, smallest_distance, kind="predict", options=FAMILIES,
             reason="In a minute's training a small problem is learned best: 32 numbers instead of 784 pixels."),
    Exercise("9.3", 1, fastest_draw, kind="predict", options=FAMILIES,
             reason="One pass through a small decoder is all it takes; a GAN's convolutions cost a little more."),
    Exercise("9.4", 1, fewest_bits, kind="predict", options=("autoregressive", "VAE", "flow", "diffusion"),
             reason="It is trained on exactly this number, with no bound in between."),
    Exercise("9.5", 2, spearman, _rank_probes,
             (_rank_of_values, _rank_one_sort, _rank_reversed, _rank_without_six)),
    Exercise("9.6", 2, frontier, _unbeaten_probes,
             (_unbeaten_everywhere, _unbeaten_best_of_columns, _unbeaten_by_sum, _unbeaten_largest,
              _unbeaten_no_equals)),
    Exercise("9.7", 4, new_row, kind="build", trial=_row_trial,
             wrong=(_row_copyist, _row_noisy_copyist, _row_independent, _row_mean, _row_frozen)),
)
