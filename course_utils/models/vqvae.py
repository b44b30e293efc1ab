r"""VQ-VAE: an autoencoder whose code is a small grid of words from a learned codebook.

The model in five lines::

    z_e = encoder(x)                         # (B, D, h, w)
    k = argmin_k ||z_e - e_k||^2             # one word per place, (B, h, w) integers
    z_q = e_k                                # forward; backward the gradient passes straight through to z_e
    loss = -log p(x | z_q) + weight * ||z_e - sg(z_q)||^2
    p(k)                                     # a prior over the words, learned afterwards and passed in

With two levels (VQ-VAE-2) a small top grid holds what is global and a larger bottom grid, given the top, the rest.
van den Oord, Vinyals & Kavukcuoglu 2017, arXiv:1711.00937; Razavi, van den Oord & Vinyals 2019, arXiv:1906.00446.
Taught in chapter 04.
"""

import torch
from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.distributions import BernoulliHead, entropy_of, shape_for
from course_utils.nn.conv import Downsample, OnImages, ResidualBlock, Upsample, downsampled, square

# Formulas -----------------------------------------------------------------------------------------------------------


def nearest_word(z_e, words):
    r"""Index of the word closest to each vector: ``(N, D), (K, D) -> (N,)`` int64.

    :math:`\arg\min_k \|z - e_k\|^2`; the term :math:`\|z\|^2` is the same for every k and is left out.
    (van den Oord et al. 2017, eq. 1, arXiv:1711.00937.) Taught in chapter 04.
    """
    expect.floats(words, "words", "K", "D")
    expect.floats(z_e, "z_e", "N", words.shape[1], like=words)
    expect.finite(words, "words")
    expect.finite(z_e, "z_e")                            # argmin would call NaN the nearest
    return (words.square().sum(1) - 2 * z_e @ words.T).argmin(1)


def straight_through(z_e, z_q):
    """The value of ``z_q`` with the gradient of ``z_e``: rounding that pretends to be the
    identity on the way back.

    Same shapes in and out. (Bengio, Léonard & Courville 2013, arXiv:1308.3432.)
    Taught in chapter 04.
    """
    expect.same_shape(z_e=z_e, z_q=z_q)
    return z_e + (z_q - z_e).detach()


def commitment(z_e, z_q):
    r""":math:`\|z_e - \mathrm{sg}(z_q)\|^2` summed over the event, ``(B,)``: keeps the encoder near its word.

    (van den Oord et al. 2017, third term of eq. 3.) Taught in chapter 04.
    """
    expect.same_shape(z_e=z_e, z_q=z_q)
    return (z_e - z_q.detach()).square().flatten(1).sum(1)


def perplexity(indices, n_words):
    r"""Effective number of words in use, :math:`\exp(-\sum_k f_k\log f_k)`: 1 is collapse, ``n_words`` the most."""
    indices = expect.labels(indices.flatten(), indices.numel(), expect.count(n_words, "n_words"), "indices")
    frequencies = torch.bincount(indices.flatten(), minlength=n_words).double() / indices.numel()
    return entropy_of(frequencies).exp()


# Codebook -------------------------------------------------------------------------------------------------------------


class Codebook(nn.Module):
    r"""``n_words`` vectors, moved by averages instead of gradients.

    :meth:`forward` only reads. :meth:`update` makes each word the exponential average of the vectors that chose it,
    :math:`N_k \leftarrow \gamma N_k + (1-\gamma) n_k,\; m_k \leftarrow \gamma m_k + (1-\gamma)\sum z`, word
    :math:`e_k = m_k/N_k` (van den Oord et al. 2017, appendix A.1). A word is *dead* when fewer than ``dead_below``
    vectors a batch choose it on average; it is put onto a random vector of the batch. The averages start at zero, so
    at first nearly all words count as dead: that is how they get onto the data.  Taught in chapter 04.
    """

    def __init__(self, n_words, width, decay=0.99, dead_below=0.2):
        super().__init__()
        self.decay = expect.number(decay, "decay", low=0, below=1)
        self.dead_below = expect.number(dead_below, "dead_below", low=0)
        expect.shape((n_words, width), "(n_words, width)", 2)
        words = torch.randn(n_words, width)
        self.register_buffer("words", words)
        self.register_buffer("counts", torch.zeros(n_words))
        self.register_buffer("sums", torch.zeros_like(words))

    def forward(self, z_e):
        """``(B, D, h, w) -> z_q (B, D, h, w), indices (B, h, w)``."""
        expect.floats(z_e, "z_e", "B", self.words.shape[1], "H", "W", like=self.words)
        flat = z_e.movedim(1, -1)                                      # (B, h, w, D)
        indices = nearest_word(flat.flatten(0, 2), self.words).view(flat.shape[:3])
        return self.look_up(indices), indices

    def look_up(self, indices):
        """``(B, h, w)`` integers to ``(B, D, h, w)`` words."""
        indices = expect.inside(expect.integers(indices, "words", "B", "H", "W"), "words", 0, len(self.words) - 1)
        return F.embedding(indices, self.words).movedim(-1, 1)

    @torch.no_grad()
    def update(self, z_e, indices):
        """One averaging step from a batch: ``z_e (B, D, h, w)`` and the ``indices (B, h, w)`` it chose. In place."""
        vectors = z_e.movedim(1, -1).flatten(0, 2)                     # (N, D)
        chosen = F.one_hot(indices.flatten(), len(self.words)).to(vectors.dtype)
        self.counts.lerp_(chosen.sum(0), 1 - self.decay)
        self.sums.lerp_(chosen.T @ vectors, 1 - self.decay)
        known = self.counts.unsqueeze(1) > 0                           # a word that never was chosen stays
        self.words.copy_(torch.where(known, self.sums / self.counts.unsqueeze(1), self.words))
        self._revive(vectors)

    def _revive(self, vectors):
        dead = self.counts < self.dead_below
        if dead.any():
            fresh = vectors[torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)]
            self.words[dead], self.sums[dead], self.counts[dead] = fresh, fresh, 1.0


# Model ----------------------------------------------------------------------------------------------------------------


class VQVAE(nn.Module):
    """One grid of words. ``decoder(z_q)`` returns a distribution over images.  Taught in chapter 04."""

    def __init__(self, encoder, decoder, codebook, commitment_weight=0.25):
        super().__init__()
        self.encoder, self.decoder, self.codebook = encoder, decoder, codebook
        self.commitment_weight = commitment_weight

    def encode(self, x):
        """Images to words: a tuple with one ``(B, h, w)`` grid of indices."""
        return (self.codebook(self.encoder(x))[1],)

    def decode(self, codes):
        """p(x | words) for a tuple as :meth:`encode` returns it."""
        return self.decoder(self.codebook.look_up(codes[0]))

    def terms(self, x):
        """``(loss dict, trace)``: the trace lists ``(codebook, z_e, indices)`` for the averaging step."""
        z_e = self.encoder(x)
        z_q, indices = self.codebook(z_e)
        reconstruction = self.decoder(straight_through(z_e, z_q)).log_prob(x).mean()
        gap = commitment(z_e, z_q).mean()
        return _losses(reconstruction, gap, self.commitment_weight), [(self.codebook, z_e, indices)]

    def loss(self, x):
        """``{"loss", "reconstruction", "commitment"}``; trains encoder and decoder. See :func:`with_averaging`."""
        return self.terms(x)[0]


class TwoLevelVQVAE(nn.Module):
    """A top grid of words for the whole, a bottom grid, encoded *given* the top, for the detail (VQ-VAE-2).

    ``lower`` maps images to bottom features, ``upper`` those to top features; ``from_top`` brings top words to the
    bottom grid; ``to_bottom`` reads ``[lower features, from_top(top words)]``; the decoder sees both grids.
    Taught in chapter 04.
    """

    def __init__(self, lower, upper, from_top, to_bottom, decoder, top, bottom, commitment_weight=0.25):
        super().__init__()
        self.lower, self.upper, self.from_top, self.to_bottom = lower, upper, from_top, to_bottom
        self.decoder, self.top, self.bottom, self.commitment_weight = decoder, top, bottom, commitment_weight

    def encode(self, x):
        """Images to words: ``(top (B, h, w), bottom (B, H, W))``."""
        (_, _, _, top), (_, _, _, bottom) = self._encode(x)
        return top, bottom

    def _encode(self, x):
        """For the top and for the bottom: ``(codebook, z_e, z_q, indices)``."""
        features = self.lower(x)
        top_e = self.upper(features)
        top_q, top = self.top(top_e)
        bottom_e = self.to_bottom(torch.cat([features, self.from_top(straight_through(top_e, top_q))], dim=1))
        bottom_q, bottom = self.bottom(bottom_e)
        return (self.top, top_e, top_q, top), (self.bottom, bottom_e, bottom_q, bottom)

    def decode(self, codes):
        """p(x | words) for ``(top, bottom)``."""
        top, bottom = codes
        return self._decode(self.top.look_up(top), self.bottom.look_up(bottom))

    def _decode(self, top_words, bottom_words):
        return self.decoder(torch.cat([bottom_words, self.from_top(top_words)], dim=1))

    def terms(self, x):
        """``(loss dict, trace)`` as in :meth:`VQVAE.terms`, the top first."""
        levels = self._encode(x)
        decoded = self._decode(*(straight_through(z_e, z_q) for _, z_e, z_q, _ in levels))
        gap = sum(commitment(z_e, z_q) for _, z_e, z_q, _ in levels).mean()
        trace = [(codebook, z_e, indices) for codebook, z_e, _, indices in levels]
        return _losses(decoded.log_prob(x).mean(), gap, self.commitment_weight), trace

    def loss(self, x):
        """``{"loss", "reconstruction", "commitment"}``; trains everything but the codebooks."""
        return self.terms(x)[0]


def _losses(reconstruction, gap, weight):
    return {"loss": weight * gap - reconstruction, "reconstruction": reconstruction, "commitment": gap}


def with_averaging(model):
    """An objective for the training loop: ``model``'s loss, followed by one averaging step of its codebooks.

    This is the only place where the words move, so an evaluation never changes them. A batch whose loss is not finite
    moves nothing.  Taught in chapter 04.
    """

    expect.function(getattr(model, "terms", None), "model.terms, as a VQVAE has it,")

    def objective(x):
        terms, trace = model.terms(x)
        if terms["loss"].isfinite():
            for codebook, z_e, indices in trace:
                codebook.update(z_e, indices)
        return terms

    return objective


class WithPrior(nn.Module):
    r"""A trained VQ-VAE and a prior over its words: a generative model with a bound.

    The posterior over words is a single point, q(k|x) = 1 at the nearest words, so
    :math:`\log p(x) \ge \log p(x|k) + \log p(k)`: the KL is the code length :math:`-\log p(k)`.
    ``prior`` offers ``log_prob(codes) -> (B,)`` nats and ``sample(n) -> codes``, where codes is the tuple that
    ``autoencoder.encode`` returns. Any family may supply it.  Taught in chapter 04.
    """

    def __init__(self, autoencoder, prior):
        super().__init__()
        self.autoencoder, self.prior = autoencoder, prior

    def elbo(self, x):
        """Lower bound on log p(x), ``(B,)`` nats."""
        codes = self.autoencoder.encode(x)
        return self.autoencoder.decode(codes).log_prob(x) + self.prior.log_prob(codes)

    def sample(self, n, y=None):
        """``(n, ...)`` draws from p(x): words from the prior, pixels from the decoder."""
        if y is not None:
            raise ValueError("expected no labels, this model knows no classes; got some: call sample(n) without y")
        return self.autoencoder.decode(self.prior.sample(expect.count(n))).sample()


class WordsAsBits(nn.Module):
    r"""A prior over one grid of words, made from any model of *binary images* with ``log_prob(x)`` and ``sample(n)``.

    A word number below K is log2(K) bits, so a grid of words is a small image with log2(K) channels.
    A ``y`` is handed on to the model: what the words are given.  Taught in chapter 04.
    """

    def __init__(self, model, n_words):
        super().__init__()
        self.model, self.n_words = model, n_words

    @staticmethod
    def image_shape(n_words, grid):
        """``(log2 K, height, width)``: the shape of the binary images that stand for a ``grid`` (height, width)."""
        n_bits = expect.count(n_words, "n_words", 2).bit_length() - 1
        if 2**n_bits != n_words or n_bits < 1:
            raise ValueError(f"the number of words must be a power of two, got {n_words}")
        return n_bits, *grid

    def to_image(self, words):
        """Words ``(B, h, w)`` to a binary image ``(B, bits, h, w)``."""
        words = expect.inside(expect.integers(words, "words", "B", "H", "W"), "words", 0, self.n_words - 1)
        n_bits, *_ = self.image_shape(self.n_words, words.shape[1:])
        return (words.unsqueeze(1) // self._powers(n_bits, words.device) % 2).to(torch.get_default_dtype())

    def from_image(self, image):
        """The inverse of :meth:`to_image`."""
        return (image.long() * self._powers(image.shape[1], image.device)).sum(1)

    @staticmethod
    def _powers(n_bits, device):
        return 2 ** torch.arange(n_bits, device=device).view(-1, 1, 1)

    def log_prob(self, codes, y=None):
        """log p(words) of a tuple with one grid, or log p(words | y): ``(B,)`` nats."""
        x = self.to_image(codes[0])
        return self.model.log_prob(x) if y is None else self.model.log_prob(x, y)

    def loss(self, codes):
        """``{"loss"}``: mean code length in nats per image."""
        return {"loss": -self.log_prob(codes).mean()}

    def sample(self, n, y=None):
        """``n`` draws of the grid, as the tuple that ``decode`` takes."""
        return (self.from_image(self.model.sample(n) if y is None else self.model.sample(n, y)),)


class TopThenBottom(nn.Module):
    """The prior of VQ-VAE-2: p(top) p(bottom | top), from two priors over one grid each.

    ``bottom`` is asked for ``log_prob(codes, y=top words)``.  (Razavi et al. 2019, section 3.2.)  Taught in chapter 04.
    """

    def __init__(self, top, bottom):
        super().__init__()
        self.top, self.bottom = top, bottom

    def log_prob(self, codes):
        """log p(top, bottom), ``(B,)`` nats."""
        top, bottom = codes
        return self.top.log_prob((top,)) + self.bottom.log_prob((bottom,), y=top)

    def loss(self, codes):
        """``{"loss"}``: mean code length of both grids in nats per image."""
        return {"loss": -self.log_prob(codes).mean()}

    def sample(self, n):
        """``n`` draws of ``(top, bottom)``."""
        (top,) = self.top.sample(n)
        return top, *self.bottom.sample(n, y=top)


class WordsFromAbove(nn.Module):
    """Top words ``(B, h, w)`` to features ``(B, width, side, side)`` at each place of the bottom grid."""

    def __init__(self, n_words, width, side):
        super().__init__()
        self.embed = nn.Embedding(n_words, width)
        self.bring = nn.Sequential(Upsample(width, width, side), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, words):
        return self.bring(self.embed(words).movedim(-1, 1))


# Factories ------------------------------------------------------------------------------------------------------------


def conv_vqvae(shape=(1, 28, 28), n_words=64, width=32, word_width=16, head=BernoulliHead, n_halvings=2):
    """One level: 28 -> 7×7 words after two halvings, 4×4 after three."""
    channels, height, _ = square(shape)
    expect.counts((n_words, width, word_width), "(n_words, width, word_width)")
    if expect.count(n_halvings, "n_halvings") < 2:
        raise ValueError(f"expected at least two halvings, got {n_halvings}")
    layers = [Downsample(channels, width // 2), nn.ReLU(), Downsample(width // 2, width)]
    for _ in range(n_halvings - 2):
        layers += [nn.ReLU(), Downsample(width, width)]
    encoder = OnImages(shape, *layers, ResidualBlock(width, width), nn.ReLU(), nn.Conv2d(width, word_width, 1))
    decoder = _picture(word_width, width, shape_for(head, shape), n_halvings)
    return VQVAE(encoder, head(decoder), Codebook(n_words, word_width))


def two_level_vqvae(shape=(1, 28, 28), n_words=64, width=32, word_width=16, head=BernoulliHead):
    """Bottom words at a quarter of the side, top words at an eighth (28 -> 7×7 and 4×4)."""
    channels, height, _ = square(shape)
    expect.counts((n_words, width, word_width), "(n_words, width, word_width)")
    quarter = downsampled(height, 2)
    lower = OnImages(
        shape,
        Downsample(channels, width // 2), nn.ReLU(),
        Downsample(width // 2, width), ResidualBlock(width, width), nn.ReLU(),
    )  # fmt: skip
    upper = nn.Sequential(
        Downsample(width, width), ResidualBlock(width, width), nn.ReLU(), nn.Conv2d(width, word_width, 1)
    )
    from_top = Upsample(word_width, word_width, quarter)
    to_bottom = nn.Conv2d(width + word_width, word_width, 1)
    decoder = head(_picture(2 * word_width, width, shape_for(head, shape)))
    top, bottom = Codebook(n_words, word_width), Codebook(n_words, word_width)
    return TwoLevelVQVAE(lower, upper, from_top, to_bottom, decoder, top, bottom)


def _picture(in_channels, width, shape, n_halvings=2):
    channels, height, _ = shape
    layers = [nn.Conv2d(in_channels, width, 3, padding=1), ResidualBlock(width, width), nn.ReLU()]
    for n in range(n_halvings - 1, 1, -1):
        layers += [Upsample(width, width, downsampled(height, n)), nn.ReLU()]
    layers += [Upsample(width, width // 2, downsampled(height, 1)), nn.ReLU(), Upsample(width // 2, channels, height)]
    return nn.Sequential(*layers)
