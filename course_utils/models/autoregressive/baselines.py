r"""Models to beat, all with exact likelihoods.

* independent pixels: :math:`p(x)=\prod_i p(x_i)`, fitted by counting
* their class mixture: :math:`p(x)=\sum_y p(y)\prod_i p(x_i\mid y)`, fitted by counting
* one logistic regression per pixel: :math:`p(x)=\prod_i \sigma(b_i+\sum_{j<i} w_{ij}x_j)`, a fully visible sigmoid
  belief network (FVSBN; Neal 1992, Frey 1998)

Taught in chapter 02.
"""

import torch
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import Head, to_levels
from course_utils.models.autoregressive.labels import check_images, check_label
from course_utils.models.autoregressive.sampling import ancestral_sample, raster_order
from course_utils.nn.masked import MaskedLinear


class PixelHistograms(nn.Module):
    """Every pixel has its own histogram, and with ``n_classes`` one for each class: the floor that a model must beat.

    ``fit(images, labels)`` counts, with ``smoothing`` added to every bin so that no level is impossible.
    """

    def __init__(self, shape, *, levels=2, n_classes=1):
        super().__init__()
        self.shape, self.levels = expect.shape(shape), expect.levels(levels)
        expect.count(n_classes, "n_classes")
        self.register_buffer("log_p", torch.zeros(n_classes, *shape, levels).log_softmax(-1))
        self.register_buffer("log_p_class", torch.zeros(n_classes).log_softmax(0))

    def fit(self, images, labels=None, smoothing=0.5):
        """Count (N, C, H, W) images in [0, 1]; ``labels`` (N,) are needed for a class mixture. Returns the model."""
        n_classes = len(self.log_p)
        if labels is None and n_classes > 1:
            raise ValueError(f"a mixture of {n_classes} classes is fitted with labels; got none")
        expect.floats(images, "images", "N", *self.shape)
        expect.number(smoothing, "smoothing", above=0)
        labels = torch.zeros(len(images), dtype=torch.long, device=images.device) if labels is None else labels
        labels = expect.labels(labels, len(images), n_classes, "labels")
        values = to_levels(images, self.levels)
        for y in range(n_classes):
            of_class = values[labels == y]                           # (N_y, C, H, W)
            counts = torch.stack([(of_class == level).sum(0) for level in range(self.levels)], -1) + smoothing
            self.log_p[y] = (counts / counts.sum(-1, keepdim=True)).log()
            self.log_p_class[y] = (len(of_class) + smoothing) / (len(images) + smoothing * n_classes)
        self.log_p_class = self.log_p_class.log_softmax(0) if n_classes == 1 else self.log_p_class.log()
        return self

    def log_prob(self, x, y=None):
        """(B,) nats: log p(x), or log p(x | y) if labels are given."""
        expect.floats(x, "images", "B", *self.shape)
        one_hot = F.one_hot(to_levels(x, self.levels).long(), self.levels).to(self.log_p)        # (B, C, H, W, K)
        log_p = one_hot.flatten(1) @ self.log_p.flatten(1).T                                     # (B, n_classes)
        if y is not None:
            return log_p.gather(1, expect.labels(y, *log_p.shape)[:, None]).squeeze(1)
        return torch.logsumexp(log_p + self.log_p_class, 1)

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1]; labels are drawn first where none are given."""
        y = Categorical(logits=self.log_p_class).sample((expect.count(n),)) if y is None else y
        y = expect.labels(y, expect.count(n), len(self.log_p))
        return Categorical(logits=self.log_p[y]).sample() / (self.levels - 1)


class LogisticPixels(nn.Module):
    """FVSBN: the parameters of pixel i are a linear function of the pixels before it. One triangular matrix."""

    def __init__(self, shape, *, head=None):
        super().__init__()
        self.shape, self.head = expect.shape(shape), head or Head()
        rank = raster_order(shape).argsort()                         # (D,) when each pixel is read
        out = rank.repeat_interleave(self.head.n_params)
        self.linear = MaskedLinear(out[:, None] > rank)
        nn.init.zeros_(self.linear.weight)

    def params(self, x, y=None):
        """Numbers for the distribution of every pixel: (B, C, H, W, P)."""
        check_label(0, y)
        check_images(self, x)
        return self.linear(x.flatten(1)).view(-1, *self.shape, self.head.n_params)

    def forward(self, x, y=None):
        return self.head(self.params(x, y))

    def log_prob(self, x, y=None):
        """Exact log-probability of whole images, (B,) in nats."""
        return self(x, y).log_prob(to_levels(x, self.head.levels)).flatten(1).sum(1)

    def loss(self, batch):
        """Negative log-likelihood in nats per image."""
        return {"loss": -self.log_prob(batch).mean()}

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1], drawn pixel by pixel."""
        return ancestral_sample(self, n, y)
