r"""Pixels as tokens: a small causal transformer that predicts the next one.

    tokens = start, x_1, ..., x_{D-1}          shifted by one: position i reads x_{i-1} and predicts x_i
    h = embedding of the token + embedding of its position
    h = h + attention(h), h = h + MLP(h), a few times; position i attends to positions <= i only
    log p(x) = sum over i of log p(x_i | h_i)

Sources: Vaswani et al. 2017 (arXiv:1706.03762); pixels as tokens: Parmar et al. 2018 (arXiv:1802.05751),
Child et al. 2019 (arXiv:1904.10509).  Taught in chapter 02.
"""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import Head, to_levels
from course_utils.models.autoregressive.labels import check_images, check_label
from course_utils.models.autoregressive.sampling import cached_sample, raster_order
from course_utils.nn.mlp import MLP


class CausalAttention(nn.Module):
    """Each position asks (query) the positions up to its own (keys) and takes a mean of their values. (B, T, width)."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.n_heads = n_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def split(self, h):
        """Queries, keys and values of each head: three of (B, heads, T, width / heads)."""
        return self.query_key_value(h).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def forward(self, h):
        mean = F.scaled_dot_product_attention(*self.split(h), is_causal=True)
        return self.out(mean.transpose(1, 2).flatten(2))

    def step(self, h, keys, values, t):
        """The same for position t alone, (B, 1, width), with the keys and values of the earlier ones in a cache."""
        query, keys[:, :, t : t + 1], values[:, :, t : t + 1] = self.split(h)
        mean = F.scaled_dot_product_attention(query, keys[:, :, : t + 1], values[:, :, : t + 1])
        return self.out(mean.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """h + attention(norm(h)), then h + MLP(norm(h)). (B, T, width)."""

    def __init__(self, width, n_heads):
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CausalAttention(width, n_heads)
        self.mlp = MLP([width, 4 * width, width], nn.GELU)

    def forward(self, h):
        h = h + self.attention(self.norm_attention(h))
        return h + self.mlp(self.norm_mlp(h))

    def step(self, h, keys, values, t):
        h = h + self.attention.step(self.norm_attention(h), keys, values, t)
        return h + self.mlp(self.norm_mlp(h))


class PixelTransformer(nn.Module):
    """A causal transformer over the D = C·H·W pixels in reading order. Same interface as a PixelCNN."""

    def __init__(self, shape, *, width=64, n_heads=4, n_blocks=3, head=None, n_classes=0):
        super().__init__()
        self.shape, self.head, self.n_classes = expect.shape(shape), head or Head(), n_classes
        channels, rows, columns = shape
        self.token = nn.Embedding(self.head.levels, width)
        self.start = nn.Embedding(max(n_classes, 1), width)          # the first token: "begin", or "begin a 7"
        self.row, self.column = nn.Embedding(rows, width), nn.Embedding(columns, width)
        self.colour = nn.Embedding(channels, width)
        for embedding in (self.token, self.start, self.row, self.column, self.colour):
            nn.init.normal_(embedding.weight, std=0.1)
        self.blocks = nn.ModuleList(TransformerBlock(width, n_heads) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, self.head.n_params)
        nn.init.zeros_(self.out.weight)
        self.register_buffer("order", raster_order(shape), persistent=False)

    def places(self):
        """One vector for each position in reading order, (D, width): row + column + colour of the pixel to predict."""
        place = self.row.weight[:, None, None] + self.column.weight[:, None] + self.colour.weight        # (H, W, C, ·)
        return place.flatten(0, 2)

    def first_token(self, n, y=None):
        """(n, width)"""
        y = check_label(self.n_classes, y, n)
        return self.start.weight.expand(n, -1) if y is None else self.start(y)

    def params(self, x, y=None):
        """Numbers for the distribution of every pixel: (B, C, H, W, P)."""
        check_images(self, x)
        tokens = to_levels(x, self.head.levels).long().flatten(1)[:, self.order]   # (B, D) in reading order
        before = torch.cat([self.first_token(len(x), y)[:, None], self.token(tokens[:, :-1])], 1)
        h = before + self.places()                                   # (B, D, width)
        for block in self.blocks:
            h = block(h)
        params = self.out(self.norm(h))                              # (B, D, P)
        return params[:, self.order.argsort()].unflatten(1, self.shape)

    def forward(self, x, y=None):
        return self.head(self.params(x, y))

    def log_prob(self, x, y=None):
        """Exact log-probability of whole images, (B,) in nats."""
        return self(x, y).log_prob(to_levels(x, self.head.levels)).flatten(1).sum(1)

    def loss(self, batch):
        """Negative log-likelihood in nats per image. ``batch`` is x, or (x, y) for a conditional model."""
        return {"loss": -self.log_prob(*expect.pair(batch)).mean()}

    def sample(self, n, y=None):
        """(n, C, H, W) images in [0, 1], token by token, with the keys and values of earlier tokens remembered."""
        return cached_sample(self, n, y)

    def start_cache(self, x, y=None):
        """The memory that :func:`~course_utils.models.autoregressive.sampling.cached_sample` works with."""
        return TransformerCache(self, x, y)


class TransformerCache:
    """A :class:`PixelTransformer` that runs one token at a time: keys and values of earlier tokens are kept."""

    def __init__(self, model, x, y):
        self.model, self.x, self.t, self.i = model, x, 0, 0
        self.places, self.begin = model.places(), model.first_token(len(x), y)
        self.order = model.order.tolist()
        n_heads = model.blocks[0].attention.n_heads
        size = (len(x), n_heads, len(self.order), self.places.shape[1] // n_heads)
        self.memory = [(self.places.new_zeros(size), self.places.new_zeros(size)) for _ in model.blocks]

    def row(self, i):
        """Nothing to prepare: a transformer does not know about rows."""

    def pixel(self, j, c):
        """Parameters of the next token, (n, P). Call once for each token, in reading order."""
        t, self.t = self.t, self.t + 1
        before = self.x.flatten(1)[:, self.order[t - 1]] * (self.model.head.levels - 1)
        h = self.begin if t == 0 else self.model.token(before.round().long())
        h = (h + self.places[t])[:, None]                            # (n, 1, width)
        for block, (keys, values) in zip(self.model.blocks, self.memory, strict=True):
            h = block.step(h, keys, values, t)
        return self.model.out(self.model.norm(h))[:, 0]
