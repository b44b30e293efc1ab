r"""MADE: an ordinary network with connections cut so that output i is a function of the inputs before i.

    every input and output has a rank in the order, every hidden unit a rank between
    a hidden unit sees inputs of rank <= its own; an output sees hidden units of rank < its own
    log p(x) = sum over pixels of log p(x_i | x_<i)

Source: Germain, Gregor, Murray, Larochelle 2015, arXiv:1502.03509.  Taught in chapter 02.
"""

import math
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import Head, to_levels
from course_utils.models.autoregressive.labels import check_images, check_label
from course_utils.models.autoregressive.sampling import ancestral_sample, raster_order
from course_utils.nn.masked import MaskedLinear


def made_masks(ranks, widths, n_params=1):
    """Masks of all layers for inputs of the given ``ranks`` (D,), a permutation of 0 … D-1.
    List of (n_out, n_in).

    Hidden units get ranks spread evenly over 0 … D-2. The last two masks lead to the outputs,
    ``n_params`` for each input: from the last hidden layer, and directly from the inputs.
    (Germain et al. 2015, eqs. 8 and 9.)
    """
    expect.order(ranks, len(ranks), "ranks")
    expect.counts((n_params, *expect.counts(widths, "widths")), "(n_params, *widths)")
    hidden = [torch.linspace(0, len(ranks) - 2, width, device=ranks.device).round()
              for width in widths]
    below = [ranks, *hidden]
    masks = [after[:, None] >= before for before, after in zip(below, hidden, strict=False)]
    out = ranks.repeat_interleave(n_params)[:, None]
    return [*masks, out > below[-1], out > ranks]


def random_orders(n, n_pixels, generator=None):
    """n random reading orders, (n, n_pixels): each row lists positions in the order in which they are drawn."""
    expect.shape((n, n_pixels), "(n, n_pixels)", 2)
    return torch.stack([torch.randperm(n_pixels, generator=generator) for _ in range(n)])


class MADE(nn.Module):
    """A masked network for images of ``shape`` (C, H, W). ``orders`` (K, C·H·W): its reading orders, else raster.

    With K > 1 the same weights serve all orders, each through its own masks, and the model is their *mixture*:
    p(x) = mean over k of p_k(x), which is normalised because each p_k is. (Averaging logits instead is not: see
    :meth:`averaged_logits`.)
    """

    def __init__(self, shape, *, hidden=(1024,), head=None, orders=None):
        super().__init__()
        self.shape, self.head = expect.shape(shape), head or Head()
        orders = raster_order(shape)[None] if orders is None else expect.integers(orders, "orders", "K", "D")
        orders = expect.order(orders, math.prod(self.shape), "orders")
        self.widths = expect.shape(hidden, "hidden", n_dims=len(hidden))
        self.register_buffer("orders", orders)
        self.register_buffer("ranks", orders.argsort(1), persistent=False)
        *masks, last, direct = self.masks(0)
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        self.out, self.direct = MaskedLinear(last), MaskedLinear(direct)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.direct.weight)

    def masks(self, k):
        """The masks of all layers under order k."""
        expect.count(k, "order", 0, len(self.orders) - 1)
        return made_masks(self.ranks[k], self.widths, self.head.n_params)

    def cut(self, k):
        """Weights and biases of all layers with the wires cut that order k forbids."""
        layers = [*self.layers, self.out, self.direct]
        expect.count(k, "order", 0, len(self.orders) - 1)
        masks = self.masks(k) if k else [layer.mask for layer in layers]           # those of the first order are kept
        return [(layer.weight * mask, layer.bias) for layer, mask in zip(layers, masks, strict=True)]

    def run(self, x, layers):
        *hidden, out, direct = layers
        h = x = x.flatten(1)                                         # (B, D)
        for weight, bias in hidden:
            h = F.relu(F.linear(h, weight, bias))
        return (F.linear(h, *out) + F.linear(x, *direct)).view(-1, *self.shape, self.head.n_params)

    def params(self, x, y=None, *, order=0):
        """Numbers for the distribution of every pixel under one order: (B, C, H, W, P). Images, or rows (B, C·H·W)."""
        check_label(0, y)
        if not (torch.is_tensor(x) and x.dim() == 2):
            check_images(self, x)
        expect.floats(x.flatten(1), "x", "B", math.prod(self.shape), like=self)
        return self.run(x, self.cut(order))

    def forward(self, x, y=None, *, order=0):
        return self.head(self.params(x, y, order=order))

    def log_prob_in_order(self, x, order=0):
        """log p_k(x), (B,) in nats."""
        check_images(self, x)
        return self(x, order=order).log_prob(to_levels(x, self.head.levels)).flatten(1).sum(1)

    def log_prob(self, x, y=None):
        """Exact log-probability of whole images, (B,) in nats: of the mixture, when there are several orders."""
        check_label(0, y)
        each = torch.stack([self.log_prob_in_order(x, k) for k in range(len(self.orders))])        # (K, B)
        return torch.logsumexp(each, 0) - math.log(len(each))

    def averaged_logits(self, x):
        """The tempting ensemble that is *not* a joint distribution: params averaged over the orders.

        No order remains in which each pixel sees only earlier ones, so the product of its factors need not sum to 1.
        """
        return self.head(torch.stack([self.params(x, order=k) for k in range(len(self.orders))]).mean(0))

    def loss(self, batch):
        """Negative log-likelihood in nats per image under one order, picked at random if there are several."""
        order = 0 if len(self.orders) == 1 else int(torch.randint(len(self.orders), ()))
        return {"loss": -self.log_prob_in_order(batch, order).mean()}

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1]: pick an order for each image, then draw its pixels in that order."""
        check_label(0, y)
        counts = torch.randint(len(self.orders), (expect.count(n),)).bincount(minlength=len(self.orders)).tolist()
        drawn = [ancestral_sample(self.in_order(k), count) for k, count in enumerate(counts) if count]
        return torch.cat(drawn)[torch.randperm(n)]

    def in_order(self, k):
        """This model read in its k-th order only, in the form that the samplers take."""
        layers = self.cut(k)
        return SimpleNamespace(
            shape=self.shape, head=self.head, order=self.orders[k], parameters=self.parameters,
            params=lambda x, y=None: self.run(x, layers),
        )  # fmt: skip
