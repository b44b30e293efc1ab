"""Numbers about predictions and samples: pure functions of tensors."""

import math

import torch

from course_utils import expect


def accuracy(logits, labels):
    """Share of rows of ``(B, K)`` scores whose largest entry is the label ``(B,)``; a float in [0, 1]."""
    expect.no_nan(expect.floats(logits, "logits", "B", "K"), "logits")
    labels = expect.labels(labels, *logits.shape)
    return (logits.argmax(-1) == labels).double().mean().item()


def auroc(scores_in, scores_out):
    r"""Area under the ROC curve: the probability that an inlier scores higher than an outlier, ties counted half.

    ``scores_in (N,)``, ``scores_out (M,)``, higher means "looks like the data". 1 is perfect, 0.5 is a coin, below 0.5
    means the outliers look *more* like the data than the data do. (Hanley & McNeil 1982.) Taught in chapter 01.
    """
    inside, _ = expect.no_nan(expect.floats(scores_in, "scores_in", "N"), "scores_in").double().sort()
    outside = expect.no_nan(expect.floats(scores_out, "scores_out", "M"), "scores_out").double().to(inside.device)
    below = torch.searchsorted(inside, outside, right=False)  # inliers strictly below each outlier
    not_above = torch.searchsorted(inside, outside, right=True)
    wins = (len(inside) - not_above).double() + 0.5 * (not_above - below).double()
    return (wins.sum() / (len(inside) * len(outside))).item()


def log_score(log_probs, labels):
    r"""Mean log-loss :math:`-\log p(y|x)` in nats; ``log_probs (B, K)``. A proper score: only the truth minimises it.

    (Good 1952; Gneiting & Raftery 2007.) Taught in chapter 01.
    """
    expect.probabilities(expect.floats(log_probs, "log_probs", "B", "K").exp(), "exp(log_probs)")
    labels = expect.labels(labels, *log_probs.shape)
    return -log_probs.gather(-1, labels.unsqueeze(-1)).mean().item()


def brier_score(probabilities, labels):
    r"""Mean of :math:`\sum_k (p_k - [y=k])^2`, in [0, 2]; ``probabilities (B, K)``. (Brier 1950.) Chapter 01."""
    expect.probabilities(probabilities, "probabilities", "B", "K")
    labels = expect.labels(labels, *probabilities.shape)
    target = torch.nn.functional.one_hot(labels, probabilities.shape[-1]).to(probabilities)
    return (probabilities - target).square().sum(-1).mean().item()


def calibration_curve(probabilities, labels, n_bins=10):
    """Mean confidence, accuracy and count in equal bins of confidence: three tensors ``(n_bins,)``, NaN where empty."""
    expect.probabilities(probabilities, "probabilities", "B", "K")
    labels, n_bins = expect.labels(labels, *probabilities.shape), expect.count(n_bins, "n_bins")
    confidence, predicted = probabilities.max(-1)
    correct = (predicted == labels).to(confidence)
    index = (confidence * n_bins).long().clamp_max(n_bins - 1)
    count = torch.bincount(index, minlength=n_bins).to(confidence)
    mean_confidence = torch.bincount(index, weights=confidence, minlength=n_bins) / count
    mean_correct = torch.bincount(index, weights=correct, minlength=n_bins) / count
    return mean_confidence, mean_correct, count


def bits_per_dim(log_prob, n_dims):
    r"""Bits per dimension :math:`-\log p(x) / (D \log 2)` from nats; ``log_prob (B,)``. For discrete x."""
    expect.no_nan(expect.floats(log_prob, "log_prob"), "log_prob")
    if log_prob.numel() == 0:
        raise ValueError("expected log_prob of at least one example, got none")
    return -log_prob / (expect.count(n_dims, "n_dims") * math.log(2.0))


def psnr(x, reference):
    r"""Peak signal-to-noise ratio of images in [0, 1], :math:`-10\log_{10}` of the mean squared error, in decibels.

    ``x, reference``: one shape. 10 dB more is a tenth of the squared error. It compares one picture with the truth,
    number by number, and says nothing about sets of pictures. Infinite where they agree. Taught in chapter 08.
    """
    expect.same_shape(x=x, reference=reference)
    for name, image in (("x", x), ("reference", reference)):
        expect.finite(image, name)
        if image.numel() == 0:
            raise ValueError(f"expected {name} of at least one pixel, got none")
    error = (x - reference).double().square().mean().item()
    return math.inf if error == 0 else -10 * math.log10(error)


def linear_probe(features, labels, test_features, test_labels, weight_decay=1e-4, max_iter=300):
    r"""Test accuracy of multinomial logistic regression on fixed ``features`` ``(N, D)``: can it read them?

    Features are centred and scaled by their spread over the training set; the loss is the mean cross-entropy plus
    ``weight_decay/2 · \|W\|^2``, minimised by L-BFGS from zero, until a step gains less than 1e-6 nats: the result is
    deterministic. A float in [0, 1].
    Taught in chapter 03.
    """
    expect.finite(expect.floats(features, "features", "N", "D"), "features")
    expect.finite(expect.floats(test_features, "test_features", "M", features.shape[1], like=features), "test_features")
    labels = expect.labels(labels, len(features), name="labels")
    test_labels = expect.labels(test_labels, len(test_features), int(labels.max()) + 1, "test_labels")
    expect.number(weight_decay, "weight_decay", low=0)
    expect.count(max_iter, "max_iter")
    centre, spread = features.mean(0), features.std(0).clamp(min=1e-3)
    x, x_test = (features - centre) / spread, (test_features - centre) / spread
    weight = x.new_zeros(int(labels.max()) + 1, x.shape[1], requires_grad=True)
    bias = x.new_zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=max_iter, line_search_fn="strong_wolfe",
                                  tolerance_change=1e-6)

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels)
        loss = loss + 0.5 * weight_decay * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return accuracy((x_test @ weight.T + bias).detach(), test_labels)


# ---- samples against data: distances between sets of features (N, D), taught in chapter 05 ------------------------


def frechet_distance(features, reference):
    r"""Fréchet distance of two sets ``(N, D), (M, D)``, each seen as one Gaussian: squared feature units, a float.

    .. math:: \|\mu_1-\mu_2\|^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2(\Sigma_1^{1/2}\Sigma_2\Sigma_1^{1/2})^{1/2})

    Biased upwards: two halves of one set have a distance above 0, the *floor*; quote the ratio to it (see
    :func:`half_against_half`). With Inception features and 50,000 images it is called FID; with others it is not.
    (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500.) Taught in chapter 05.
    """
    a, b = _two_sets(features, reference)
    shift = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return (shift + cov_a.trace() + cov_b.trace() - 2 * between).clamp(min=0).item()


def kernel_distance(features, reference):
    r"""Squared maximum mean discrepancy with the kernel :math:`(x^\top y/D + 1)^3`, unbiased: a float, 0 in the mean
    for equal distributions, and sometimes below.

    (Binkowski et al. 2018, eq. 4, arXiv:1801.01401.) Taught in chapter 05.
    """
    a, b = _two_sets(features, reference)
    n, m = len(a), len(b)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1).pow(3)

    within = [(kernel(x, x).sum() - (x.square().sum(1) / x.shape[1] + 1).pow(3).sum()) for x in (a, b)]
    return (within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * kernel(a, b).mean()).item()


def density_coverage(features, reference, k=5):
    r"""``(density, coverage)`` of samples ``(N, D)`` around a reference ``(M, D)``, two floats.

    Around each reference point lies the ball that reaches to its k-th neighbour *in the reference*. Density: in how
    many balls a sample lies, over k; about 1 for the truth, more when samples crowd where data are dense. Coverage:
    the share of balls with a sample in them; about :math:`1-2^{-k}` for the truth at N = M. A point on the rim is
    inside, so that copies of one image count as covered. (Naeem et al. 2020, eq. 5 and 6, arXiv:2002.09797.)
    Taught in chapter 05.
    """
    a, b = _two_sets(features, reference)
    expect.count(k, f"k, below the number of reference points {len(b)},", 1, len(b) - 1)
    inside, covered = 0, 0
    for part in b.split(512):
        radius = _distances(part, b).kthvalue(k + 1, dim=1).values       # the nearest is the point itself
        hit = _distances(part, a) <= radius[:, None]
        inside, covered = inside + hit.sum().item(), covered + hit.any(1).sum().item()
    return inside / (k * len(a)), covered / len(b)


def data_copying(features, training, test):
    r"""How often a sample lies nearer to the training set than a test point does, ties counted half: a float.

    .. math:: P(d(\text{sample}) < d(\text{test})), \qquad d(x) = \min_i\|x - x_i\| \text{ over the training set}

    1/2: samples are as far from the training data as new data are. Near 1: they are copies. Below 1/2: they are
    further away than data. (Meehan, Chaudhuri & Dasgupta 2020, section 3, arXiv:2004.05675.) Taught in chapter 05.
    """
    a, b = _two_sets(features, training)
    c, _ = _two_sets(test, training)
    return auroc(*(-nearest(part, b)[0] for part in (a, c)))


def nearest(features, reference):
    """Distance to the nearest point of ``reference``, and which it is: ``(N, D), (M, D) -> (N,), (N,)``."""
    expect.finite(expect.floats(reference, "reference", "M", "D"), "reference")
    expect.finite(expect.floats(features, "features", "N", reference.shape[1], like=reference), "features")
    found = [_distances(part, reference).min(1) for part in features.split(512)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def half_against_half(distance, reference, n, generator, repeats=8):
    """Mean and standard deviation of ``distance`` between two disjoint random parts of ``reference``, n points each.

    What a perfect model would score: the *floor* that other distances are divided by. One split alone scatters by a
    third. Taught in chapter 05.
    """
    expect.count(n)
    expect.function(distance, "distance")
    expect.floats(reference, "reference", "M", ...)
    expect.count(repeats, "repeats", 2)                              # one has no standard deviation
    if len(reference) < 2 * n:
        raise ValueError(f"expected at least {2 * n} reference points, for two disjoint parts of {n}; got "
                         f"{len(reference)}")
    orders = [torch.randperm(len(reference), generator=generator).to(reference.device) for _ in range(repeats)]
    found = torch.tensor([distance(reference[order[:n]], reference[order[n : 2 * n]]) for order in orders])
    return found.mean().item(), found.std().item()


def modes_and_fit(samples, centres, std, least=0.1):
    r"""How samples ``(N, D)`` sit on a mixture of equal round Gaussians with these ``centres`` ``(K, D)`` and ``std``.

    A dict of floats. ``on_mode``: share within 3 std of a centre. ``modes``: how many centres have at least ``least``
    of their fair share N/K within 3 std: 40 of 10,000 for 25 modes. ``kl``: from the shares of the K modes and of
    "elsewhere" to those of the truth, in nats. ``width``: standard deviation of a coordinate around the centre, of the
    samples on modes, over that of the truth seen through the same window; below 1 the modes are too narrow.
    The truth itself is on mode with probability 0.989 in the plane. Taught in chapter 05.
    """
    samples, centres = _two_sets(samples, centres)
    expect.number(std, "std", above=0)
    expect.number(least, "least", above=0, high=1)
    n, (k, dims) = len(samples), centres.shape
    distance, which = nearest(samples, centres)
    on = distance <= 3 * std
    counts = torch.bincount(which[on], minlength=k).double()
    true_on, true_width = _window(dims)
    shares = torch.cat([counts, (~on).sum().double()[None]]) / n
    truth = torch.full_like(shares, true_on / k)
    truth[-1] = 1 - true_on
    width = (distance[on].square().mean() / dims).sqrt().item() / (std * true_width) if on.any() else 0.0
    return {"modes": int((counts >= least * n / k).sum()), "on_mode": on.double().mean().item(),
            "kl": (torch.special.xlogy(shares, shares) - torch.special.xlogy(shares, truth)).sum().item(),
            "width": width}  # fmt: skip


def _window(dims, reach=3.0):
    """Probability that a standard normal in ``dims`` dimensions has a norm below ``reach``, and its std per coordinate
    then."""
    half, end = torch.tensor([dims / 2, dims / 2 + 1], dtype=torch.float64), torch.tensor(reach**2 / 2).double()
    inside, second = torch.special.gammainc(half, end.expand(2)).tolist()  # E[|x|^2; inside] = dims * second
    return inside, math.sqrt(second / inside)


def rank_correlation(a, b):
    r"""Spearman's correlation of two columns ``(N,)``: that of their ranks, ties sharing the mean of their ranks.

    A float from -1 to 1; without ties :math:`1 - 6\sum d^2/(N(N^2-1))` with the differences d of the ranks. 0 where a
    column is constant. (Spearman 1904.) Taught in chapter 09.
    """
    a = expect.no_nan(expect.floats(a, "a", "N"), "a")
    b = expect.no_nan(expect.floats(b, "b", len(a)), "b")
    if len(a) < 2:
        raise ValueError(f"expected two or more entries, got {len(a)}")
    x, y = ((c[:, None] > c).sum(1) + ((c[:, None] == c).sum(1) - 1) / 2 for c in (a, b))  # ranks from 0
    x, y = (ranks.double() - ranks.double().mean() for ranks in (x, y))
    size = (x.square().sum() * y.square().sum()).sqrt()
    return ((x * y).sum() / size).item() if size > 0 else 0.0


def unbeaten(cost):
    """Which rows of ``(N, K)`` costs no other row beats, by being at least as low everywhere and lower once: booleans.

    The *Pareto frontier*: the rows somebody could want, whatever a second is worth in the other columns.
    Taught in chapter 09.
    """
    expect.no_nan(expect.floats(cost, "cost", "N", "K"), "cost")
    as_low, lower = (cost[:, None] <= cost).all(-1), (cost[:, None] < cost).any(-1)
    return ~(as_low & lower).any(0)


def sharpness(images):
    r"""Mean squared response of the Laplacian, per pixel, of images ``(N, C, H, W)`` in [0, 1]: a float.

    High where neighbouring pixels differ: strokes with hard edges, and noise as well. Quote it over that of test
    images. Taught in chapter 05.
    """
    x = expect.finite(expect.floats(images, "images", "N", "C", "H", "W"), "images")
    inner = 4 * x[..., 1:-1, 1:-1] - x[..., :-2, 1:-1] - x[..., 2:, 1:-1] - x[..., 1:-1, :-2] - x[..., 1:-1, 2:]
    return inner.double().square().mean().item()


def _distances(a, b):
    """Euclidean distances ``(N, M)``, exactly 0 between equal points."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _two_sets(features, reference):
    """Both as finite float64 matrices with the same number of columns."""
    for name, value in (("features", features), ("reference", reference)):
        if len(expect.finite(expect.floats(value, name, "N", "D"), name)) < 2:
            raise ValueError(f"expected {name} (N, D) with N at least 2, got {tuple(value.shape)}")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"expected both sets to have the same number of columns, got {tuple(features.shape)} and "
                         f"{tuple(reference.shape)}")
    return features.detach().double(), reference.detach().double()
