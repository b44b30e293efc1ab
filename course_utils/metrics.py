"""Numbers about predictions and samples: pure functions of tensors."""

import math

import torch


def accuracy(logits, labels):
    """Share of rows of ``(B, K)`` scores whose largest entry is the label ``(B,)``; a float in [0, 1]."""
    return (logits.argmax(-1) == labels).double().mean().item()


def auroc(scores_in, scores_out):
    r"""Area under the ROC curve: the probability that an inlier scores higher than an outlier, ties counted half.

    ``scores_in (N,)``, ``scores_out (M,)``, higher means "looks like the data". 1 is perfect, 0.5 is a coin, below 0.5
    means the outliers look *more* like the data than the data do. (Hanley & McNeil 1982.) Taught in chapter 01.
    """
    if len(scores_in) == 0 or len(scores_out) == 0:
        raise ValueError(f"auroc needs both kinds, got {len(scores_in)} inliers and {len(scores_out)} outliers")
    inside, _ = torch.as_tensor(scores_in).double().sort()
    outside = torch.as_tensor(scores_out).double().to(inside.device)
    if inside.isnan().any() or outside.isnan().any():
        bad = int(inside.isnan().sum()), int(outside.isnan().sum())
        raise ValueError(f"auroc got NaN scores: {bad[0]} among the inliers, {bad[1]} among the outliers")
    below = torch.searchsorted(inside, outside, right=False)  # inliers strictly below each outlier
    not_above = torch.searchsorted(inside, outside, right=True)
    wins = (len(inside) - not_above).double() + 0.5 * (not_above - below).double()
    return (wins.sum() / (len(inside) * len(outside))).item()


def log_score(log_probs, labels):
    r"""Mean log-loss :math:`-\log p(y|x)` in nats; ``log_probs (B, K)``. A proper score: only the truth minimises it.

    (Good 1952; Gneiting & Raftery 2007.) Taught in chapter 01.
    """
    return -log_probs.gather(-1, labels.unsqueeze(-1)).mean().item()


def brier_score(probabilities, labels):
    r"""Mean of :math:`\sum_k (p_k - [y=k])^2`, in [0, 2]; ``probabilities (B, K)``. (Brier 1950.) Chapter 01."""
    target = torch.nn.functional.one_hot(labels, probabilities.shape[-1]).to(probabilities)
    return (probabilities - target).square().sum(-1).mean().item()


def calibration_curve(probabilities, labels, n_bins=10):
    """Mean confidence, accuracy and count in equal bins of confidence: three tensors ``(n_bins,)``, NaN where empty."""
    confidence, predicted = probabilities.max(-1)
    correct = (predicted == labels).to(confidence)
    index = (confidence * n_bins).long().clamp_max(n_bins - 1)
    count = torch.bincount(index, minlength=n_bins).to(confidence)
    mean_confidence = torch.bincount(index, weights=confidence, minlength=n_bins) / count
    mean_correct = torch.bincount(index, weights=correct, minlength=n_bins) / count
    return mean_confidence, mean_correct, count


def bits_per_dim(log_prob, n_dims):
    r"""Bits per dimension :math:`-\log p(x) / (D \log 2)` from nats; ``log_prob (B,)``. For discrete x."""
    return -log_prob / (n_dims * math.log(2.0))


def linear_probe(features, labels, test_features, test_labels, weight_decay=1e-4, max_iter=300):
    r"""Test accuracy of multinomial logistic regression on fixed ``features`` ``(N, D)``: can it read them?

    Features are centred and scaled by their spread over the training set; the loss is the mean cross-entropy plus
    ``weight_decay/2 · \|W\|^2``, minimised by L-BFGS from zero, until a step gains less than 1e-6 nats: the result is
    deterministic. A float in [0, 1].
    Taught in chapter 03.
    """
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
