r"""A flow in five lines::

    z, log_det = f(x)                        # invertible, from data to base
    log p(x) = log p_base(z) + log_det       # log_det = log |det dz/dx|
    x = f^{-1}(z),  z ~ p_base               # sampling
    loss = -mean(log p(x))

Sources: Rezende & Mohamed 2015, arXiv:1505.05770; Papamakarios et al. 2021, arXiv:1912.02762.  Taught in chapter 06.
"""

import math

import torch
from torch import nn
from torch.distributions import TransformedDistribution, constraints
from torch.distributions.transforms import Transform

from course_utils import expect
from course_utils.distributions import StandardNormal, to_levels

# Formulas -------------------------------------------------------------------------------------------------------------


def change_of_variables(log_base, log_det):
    r"""Density of x = f⁻¹(z) from that of z = f(x): :math:`\log p(x)=\log p_Z(f(x))+\log|\det\partial f/\partial x|`.

    ``log_base``: log-density of the base at z, ``(B,)`` nats. ``log_det``: ``(B,)``, of the map from x to z. The sign
    is plus because f goes from data to base: where f stretches, a little of x collects the mass of much of z.
    (Papamakarios et al. 2021, eq. 7, arXiv:1912.02762.) Taught in chapter 06.
    """
    expect.same_shape(log_base=log_base, log_det=log_det)
    return log_base + log_det


def tweedie(log_prob, x, sigma):
    r"""E[clean | noisy] from the score of the noisy density: :math:`\hat x = x + \sigma^2\,\nabla_x\log p_\sigma(x)`.

    ``log_prob: (B, …) -> (B,)`` is the log-density of data plus :math:`N(0,\sigma^2)` noise. Returns ``(B, …)``.
    (Robbins 1956; Efron 2011; used after sampling by Zhai et al. 2024, section 2.5, arXiv:2412.06329.)
    Taught in chapter 06.
    """
    expect.floats(x, "x", "B", "D", ...)
    expect.number(sigma, "sigma", above=0)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = expect.floats(expect.function(log_prob, "log_prob")(x), "what log_prob(x) returns", len(x))
        (score,) = torch.autograd.grad(log_p.sum(), x)
    return x.detach() + sigma**2 * score


# Layers in a row ------------------------------------------------------------------------------------------------------


class Chain(nn.Module):
    r"""Layers one after the other: :math:`\log|\det|` of a composition is the sum of theirs.  Taught in chapter 06."""

    def __init__(self, *transforms):
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, x, y=None):
        z, log_det = x, x.new_zeros(len(x))
        for transform in self.transforms:
            z, more = transform(z, y)
            log_det = log_det + more
        return z, log_det

    def inverse(self, z, y=None):
        for transform in reversed(self.transforms):
            z = transform.inverse(z, y)
        return z

    @torch.no_grad()
    def initialise(self, x, y=None):
        """Let each layer that looks at data once (actnorm) look at what the layers before it make of ``x``."""
        for transform in self.transforms:
            if hasattr(transform, "initialise"):
                transform.initialise(x, y)
            x, _ = transform(x, y)

    @torch.no_grad()
    def stages(self, x, y=None):
        """x, and what it is after each layer: a list of ``(points, log_det so far)``, for pictures."""
        states = [(x, x.new_zeros(len(x)))]
        for transform in self.transforms:
            z, log_det = transform(states[-1][0], y)
            states.append((z, states[-1][1] + log_det))
        return states


class Inverted(nn.Module):
    """A layer used the other way round: its ``inverse`` becomes ``forward``.  Taught in chapter 06."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, x, y=None):
        z = self.transform.inverse(x, y)
        return z, -self.transform(z, y)[1]

    def inverse(self, z, y=None):
        return self.transform(z, y)[0]


# The distribution -----------------------------------------------------------------------------------------------------


class Flow(nn.Module):
    """A base distribution and a list of layers. ``base``: a module that returns the distribution of z when called.

    ``shape``: that of one example, if it is not the base's. With ``n_classes`` the batch is ``(x, y)``, and scores and
    samples want the labels ``y`` too.
    """

    def __init__(self, base, transforms, shape=None, n_classes=0):
        super().__init__()
        self.base, self.chain = base, Chain(*transforms)
        self.shape, self.n_classes = tuple(base().event_shape if shape is None else shape), n_classes

    def check_label(self, y, n):
        """``y``, or a ValueError: a flow with classes needs labels ``(n,)``, one without takes none."""
        if (y is None) != (self.n_classes == 0):
            want = "labels y, (B,) integers" if self.n_classes else "no y: this flow is not class-conditional"
            raise ValueError(f"expected {want}; got {'none' if y is None else 'labels'}")
        return None if y is None else expect.labels(y, n, self.n_classes)

    def forward(self, x, y=None):
        """(z, log_det) of points or images x."""
        return self.chain(x, y)

    def inverse(self, z, y=None):
        return self.chain.inverse(z, y)

    def initialise(self, x, y=None):
        self.chain.initialise(x, y)

    def log_prob(self, x, y=None):
        """Exact log-density, ``(B,)`` nats."""
        expect.floats(x, "x", "B", *self.shape, *[1] * (x.dim() - 1 - len(self.shape) if torch.is_tensor(x) else 0),
                      like=self)
        z, log_det = self.chain(x, self.check_label(y, len(x)))
        return change_of_variables(self.base().log_prob(z), log_det)

    def loss(self, batch):
        """Negative log-likelihood in nats, averaged over the batch."""
        return {"loss": -self.log_prob(*expect.pair(batch)).mean()}

    @torch.no_grad()
    def sample(self, n, y=None, temperature=1.0):
        r"""``n`` draws. ``temperature`` T scales the noise of a Gaussian base: z = mean + T ε."""
        base, y = self.base(), self.check_label(y, expect.count(n))
        z = base.sample((n,))
        if temperature != 1:
            if not isinstance(self.base, StandardNormal):
                raise ValueError(f"temperature scales a Gaussian base; this one is a {type(self.base).__name__}")
            z = base.mean + expect.number(temperature, "temperature", low=0) * (z - base.mean)
        return self.chain.inverse(z, y)


class Dequantised(nn.Module):
    r"""Images with few grey levels under a flow over [0, 1]^D: each level k becomes its bin, [k/K, (k+1)/K).

    ``flow``: density of y = (k + u)/K with u uniform on [0, 1). ``dequantise(x, levels)`` draws y from an image x (the
    course's ``data.images.dequantise``). The probability of x is the mass of its bins,

    .. math:: P(x) = \int p\big((k+u)/K\big)\,K^{-D}\,du = E_u\,[\,p(y)\,]\,K^{-D},

    an integral; the mean of the logarithm, :math:`E_u\log p(y) - D\log K`, is a lower bound (Theis, van den Oord &
    Bethge 2016, section 3.1, arXiv:1511.01844).  Taught in chapter 06.
    """

    def __init__(self, flow, levels, dequantise):
        super().__init__()
        self.flow, self.levels, self.dequantise = flow, levels, dequantise

    def log_weights(self, x, k):
        """log of :math:`p(y_i) K^{-D}` for k draws of the noise, ``(k, B)`` nats: the mean of exp is P(x)."""
        expect.floats(x, "images", "B", *self.flow.shape, like=self.flow)
        to_levels(x, self.levels)                                    # refuses what lies between the levels
        y = self.dequantise(x.expand(expect.count(k, "k"), *x.shape).flatten(0, 1), self.levels)
        return (self.flow.log_prob(y) - x[0].numel() * math.log(self.levels)).unflatten(0, (k, -1))

    def elbo(self, x):
        """One-draw estimate of the lower bound on log P(x), ``(B,)`` nats."""
        return self.log_weights(x, 1)[0]

    def importance_weighted_bound(self, x, k):
        """The k-draw bound :math:`\\log\\frac1k\\sum_i w_i`, ``(B,)`` nats: tighter, and log P(x) in the limit."""
        return self.log_weights(x, k).logsumexp(0) - math.log(k)

    def loss(self, x):
        """Minus the bound, averaged over the batch, in nats per image of discrete levels."""
        return {"loss": -self.elbo(x).mean()}

    def initialise(self, x):
        self.flow.initialise(self.dequantise(x, self.levels))

    def sample(self, n, y=None, temperature=1.0):
        """``n`` images in [0, 1] on their grey levels: draw y and cut it down to the bin it lies in."""
        drawn = self.flow.sample(n, y, temperature)
        return (drawn * self.levels).floor().clamp(0, self.levels - 1) / (self.levels - 1)


# A flow as a posterior ------------------------------------------------------------------------------------------------


class Pushed(Transform):
    """A layer as torch's own kind of transform, from noise to latent by its ``forward``; the last pair is remembered.

    Remembering makes the log-density of a draw cheap where the inverse is slow: that is what an IAF lives on.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, transform, context=None):
        super().__init__(cache_size=1)
        self.transform, self.context = transform, context

    def _call(self, eps):
        z, self.log_det = self.through(self.transform, eps)
        return z

    def _inverse(self, z):
        eps, _ = self.through(lambda z, y: (self.transform.inverse(z, y), z), z)
        self.log_det = self.through(self.transform, eps)[1]
        return eps

    def log_abs_det_jacobian(self, eps, z):
        return self.log_det

    def through(self, function, points):
        """Layers take one batch dimension: many draws (k, B, L) go through as k·B rows, each with its own context."""
        rows = points.reshape(-1, points.shape[-1])
        context = self.context
        if context is not None:
            context = context.expand(*points.shape[:-1], -1).reshape(len(rows), -1)
        first, second = function(rows, context)
        return first.view_as(points), second.reshape(*points.shape[:-1], *second.shape[1:])


class FlowEncoder(nn.Module):
    r"""q(z | x): a Gaussian with learned mean and scale, and layers on top. An encoder for chapter 04's VAE.

    ``head``: x -> Gaussian over ``(B, L)``; ``context``: x -> ``(B, H)``, what the layers are told of x.
    (Kingma et al. 2016, section 4, arXiv:1606.04934.)  Taught in chapter 06.
    """

    def __init__(self, head, context, transforms):
        super().__init__()
        self.head, self.context, self.chain = head, context, Chain(*transforms)

    def forward(self, x):
        return TransformedDistribution(self.head(x), [Pushed(self.chain, self.context(x))], validate_args=False)
