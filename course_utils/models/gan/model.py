r"""Generative adversarial networks: a generator that never sees an image, and a critic that judges what it makes.

The model in five lines::

    z ~ p(z),  x_fake = G_theta(z)              # no p(x): a GAN can draw, and nothing else
    a, b = D_psi(x_real), D_psi(x_fake)         # logits: large means "real"
    critic_loss    = mean(loss(a, b).critic) + mean(penalty)
    generator_loss = mean(loss(a, b).generator)
    each player descends its own loss, in turns

theta is the generator, psi the critic.  Taught in chapter 05.
"""

from itertools import pairwise

import torch
from torch import nn
from torch.distributions import Independent, Uniform
from torch.nn.functional import one_hot

from course_utils import expect
from course_utils.distributions import StandardNormal
from course_utils.models.gan import objectives
from course_utils.nn.conv import square
from course_utils.nn.mlp import MLP

# Model ----------------------------------------------------------------------------------------------------------------


class GAN(nn.Module):
    r"""Two networks, a distribution of codes, and a loss, each passed in. It has a ``sample`` and no ``log_prob``.

    ``generator``: codes ``(B, L)`` -> data; ``critic``: data -> logits ``(B,)``; both take the label ``y (B,)`` as a
    second argument when batches are pairs (x, y). ``prior``: called, it returns the distribution of the codes.
    ``loss``: one of :mod:`.objectives`. ``penalty``: ``(critic, real, fake) -> (B',)``, added to the critic's loss,
    such as ``lambda critic, real, fake: objectives.zero_centred(critic, real, gamma)``.  Taught in chapter 05.
    """

    def __init__(self, generator, critic, prior, loss=objectives.non_saturating, penalty=None):
        super().__init__()
        self.generator, self.critic, self.prior = generator, critic, prior
        self.objective, self.penalty = loss, penalty

    def critic_loss(self, batch):
        """``{"loss", "adversarial", "real", "fake"}`` and ``"penalty"`` if there is one: means
        over the batch.

        "real" and "fake" are the critic's mean logits. The fakes are detached: this loss
        trains the critic only.
        """
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        fake = self.draw(len(expect.floats(x, "x", like=self)), *y).detach()
        expect.same_shape(real=x, fake=fake)
        real_logits, fake_logits = self.critic(x, *y), self.critic(fake, *y)
        adversarial = self.objective(real_logits, fake_logits).critic.mean()
        terms = {"loss": adversarial, "adversarial": adversarial, "real": real_logits.mean(),
                 "fake": fake_logits.mean()}
        if self.penalty is not None:
            def critic(some):             # a penalty may look at a part of the batch
                return self.critic(some, *(label[: len(some)] for label in y))

            penalty = self.penalty(critic, x, fake).mean()
            terms |= {"loss": adversarial + penalty, "penalty": penalty}
        return terms

    def generator_loss(self, batch):
        """``{"loss"}``, the mean over the batch. The gradient flows through the critic into
        the generator.
        """
        x, *y = batch if isinstance(batch, tuple) else (batch,)
        expect.floats(x, "x", like=self)
        with torch.no_grad():
            real_logits = self.critic(x, *y)             # moves only a loss of pairs
        fake_logits = self.critic(self.draw(len(x), *y), *y)
        return {"loss": self.objective(real_logits, fake_logits).generator.mean()}

    def draw(self, n, y=None):
        """``n`` fakes through which a gradient can pass."""
        z = self.prior().sample((expect.count(n),))                    # (n, L)
        return self.generator(z) if y is None else self.generator(z, y)

    @torch.no_grad()
    def sample(self, n, y=None):
        """``(n, ...)`` draws; ``y (n,)``: their labels, for a conditional model only."""
        return self.draw(n, y)


class UniformCodes(nn.Module):
    """The prior of the sources: each of ``latent_dim`` numbers uniform on (-1, 1). Called, it gives the distribution.

    (Radford, Metz & Chintala 2016, arXiv:1511.06434.)  Taught in chapter 05.
    """

    def __init__(self, latent_dim):
        super().__init__()
        self.register_buffer("low", -torch.ones(latent_dim))

    def forward(self):
        return Independent(Uniform(self.low, -self.low, validate_args=False), 1)


# Networks ---------------------------------------------------------------------------------------------------------


class Generator(nn.Module):
    """``network`` on codes ``(B, L)``; with ``n_classes`` a one-hot label is put beside the code: ``(B, L + K)``."""

    def __init__(self, network, n_classes=None):
        super().__init__()
        self.network, self.n_classes = network, n_classes

    def forward(self, z, y=None):
        check_label(y, self.n_classes, len(z))
        return self.network(z if y is None else torch.cat([z, one_hot(y, self.n_classes).to(z)], dim=1))


class Critic(nn.Module):
    r"""Logits ``(B,)`` from ``features``, a network ``(B, ...) -> (B, F)``; with ``n_classes`` from the label too.

    .. math:: D(x, y) = w^\top f(x) + b + v_y^\top f(x)

    The last term is the *projection* of the features onto what is looked for in class y. (Miyato & Koyama 2018, eq. 7,
    arXiv:1802.05637.)  Taught in chapter 05.
    """

    def __init__(self, features, n_features, n_classes=None):
        super().__init__()
        self.features, self.head = features, nn.Linear(n_features, 1)
        self.n_classes = n_classes
        if n_classes is not None:
            self.looked_for = nn.Embedding(n_classes, n_features)
            nn.init.normal_(self.looked_for.weight, std=n_features**-0.5)

    def forward(self, x, y=None):
        check_label(y, self.n_classes, len(x))
        f = self.features(x)                             # (B, F)
        logits = self.head(f).squeeze(1)
        return logits if y is None else logits + (self.looked_for(y) * f).sum(1)


def check_label(y, n_classes, n):
    """A label where there must be one, and none where there must be none."""
    if n_classes is not None:
        expect.count(n_classes, "n_classes")
    if (y is None) != (n_classes is None):
        wanted = "no label" if n_classes is None else f"a label y below {n_classes}"
        raise ValueError(f"expected {wanted}, got {'none' if y is None else 'one'}")
    if y is not None:
        expect.labels(y, n, n_classes)


class Waves(nn.Module):
    """``(B, D)`` -> the point itself, and sine and cosine of ``k x`` for each k: ``(B, D (1 + 2 K))``."""

    def __init__(self, frequencies=(1.0, 2.0, 4.0)):
        super().__init__()
        self.frequencies = tuple(frequencies)

    def forward(self, x):
        return torch.cat([x, *(wave(k * x) for k in self.frequencies for wave in (torch.sin, torch.cos))], dim=1)


def halvings(side):
    """Sides of an image that is halved down to 7 or less: 28 -> (28, 14, 7), 64 -> (64, 32, 16, 8, 4)."""
    sides = [expect.count(side, "side")]
    while sides[-1] > 7:
        if sides[-1] % 2:
            raise ValueError(f"expected a side that halves evenly down to 7 or less, such as 28, 32 or 64; got {side}")
        sides.append(sides[-1] // 2)
    return tuple(sides)


def dcgan_generator(n_in, shape, width, normalise=True):
    """Codes ``(B, n_in)`` -> images ``(B, C, H, H)`` in (0, 1): transposed convolutions that
    double the side.

    The last hidden layer has ``width`` channels, each one before it twice as many.
    ``normalise``: batch norm.
    """
    expect.counts((n_in, width), "(n_in, width)")
    sides = halvings(square(shape)[1])[::-1]
    channels = [width * 2**k for k in reversed(range(len(sides) - 1))] + [shape[0]]
    layers = [nn.Linear(n_in, channels[0] * sides[0] ** 2),
              nn.Unflatten(1, (channels[0], sides[0], sides[0]))]
    for n_from, n_to in pairwise(channels):
        layers += [nn.BatchNorm2d(n_from)] if normalise else []
        layers += [nn.ReLU(),
                   nn.ConvTranspose2d(n_from, n_to, kernel_size=4, stride=2, padding=1)]
    return nn.Sequential(*layers, nn.Sigmoid())


def dcgan_features(shape, width, normalise=False):
    """``(features, n_features)``: images -> numbers, by convolutions that halve the side, the mirror of the generator.

    ``normalise``: batch norm after each convolution but the first, as in the paper. It mixes the samples of a batch,
    so leave it out where a penalty asks for the gradient of *one* sample.
    """
    sides = halvings(square(shape)[1])
    expect.count(width, "width")
    channels = [shape[0]] + [width * 2**k for k in range(len(sides) - 1)]
    layers = []
    for k, (n_from, n_to) in enumerate(pairwise(channels)):
        layers += [nn.Conv2d(n_from, n_to, kernel_size=4, stride=2, padding=1)]
        layers += [nn.BatchNorm2d(n_to)] if normalise and k else []
        layers += [nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten()), channels[-1] * sides[-1] ** 2


# Factories --------------------------------------------------------------------------------------------------------


def penalised(gamma, gamma_fake=0.0, share=1.0):
    """R1 with weight ``gamma`` on the real data, and R2 with ``gamma_fake`` on the fakes, as a penalty for a GAN.

    ``share`` of each batch is looked at: the mean is the same, and the cost that much smaller.
    """
    expect.number(gamma, "gamma", low=0)
    expect.number(gamma_fake, "gamma_fake", low=0)
    expect.number(share, "share", above=0, high=1)

    def penalty(critic, real, fake):
        n = max(1, round(share * len(real)))
        total = objectives.zero_centred(critic, real[:n], gamma)
        return total + objectives.zero_centred(critic, fake[:n], gamma_fake) if gamma_fake else total

    return penalty


def plane_gan(n_codes=2, width=64, loss=objectives.non_saturating, penalty=None, waves=(), spectral=False,
              n_features=2):
    """Two MLPs for points ``(B, n_features)``, with two hidden layers each; codes from N(0, I).

    ``waves``: frequencies whose sine and cosine the critic sees besides the point, so that it can tell fine detail.
    ``spectral``: keep every layer of the critic at spectral norm 1, which makes it 1-Lipschitz (Miyato et al. 2018,
    arXiv:1802.05957; torch's own).
    """
    expect.counts((n_codes, width, n_features), "(n_codes, width, n_features)")
    generator = Generator(MLP([n_codes, width, width, n_features]))
    features = nn.Sequential(Waves(waves), MLP([n_features * (1 + 2 * len(waves)), width, width], nn.LeakyReLU),
                             nn.LeakyReLU(0.2))
    critic = Critic(features, width)
    if spectral:
        for layer in [layer for layer in critic.modules() if isinstance(layer, nn.Linear)]:
            nn.utils.parametrizations.spectral_norm(layer)
    return GAN(generator, critic, StandardNormal(n_codes), loss, penalty)


def dcgan(shape=(1, 28, 28), width=32, critic_width=16, n_codes=100, n_classes=None, loss=objectives.non_saturating,
          penalty=None, normalise_critic=False):
    """A deep convolutional GAN: 100 uniform codes, a generator of transposed convolutions, a critic of convolutions.

    With ``n_classes`` both networks are told the label: a conditional GAN (Mirza & Osindero 2014, arXiv:1411.1784).
    Works for square images whose side halves evenly down to 7 or less: 28, 32 or 64.
    (Radford, Metz & Chintala 2016, arXiv:1511.06434.)
    """
    expect.count(n_codes, "n_codes")
    expect.count(1 if n_classes is None else n_classes, "n_classes")
    generator = Generator(dcgan_generator(n_codes + (n_classes or 0), shape, width), n_classes)
    critic = Critic(*dcgan_features(shape, critic_width, normalise_critic), n_classes)
    return GAN(generator, critic, UniformCodes(n_codes), loss, penalty)
