r"""Flow matching: the conditional mean again, of a velocity, along straight lines from noise to data.

Here the clock runs the other way: t = 0 is noise, t = 1 is data (Lipman et al. 2023).
"""

import torch
from torch import nn

from course_utils import expect
from course_utils.distributions import standard_normal
from course_utils.models.diffusion import samplers
from course_utils.models.diffusion.process import hidden, known
from course_utils.nn.conditioning import AdaptiveMLP
from course_utils.nn.unet import UNet

# Formulas -------------------------------------------------------------------------------------------------------------


def path_velocity(x_t, x0_hat, a, b, da, db):
    r"""Mean velocity of all paths :math:`x_t = a(t)\,x + b(t)\,\epsilon` through x_t, from the mean of x there:

    .. math:: u(x_t) = \mathbb E[\dot a\,x + \dot b\,\epsilon\,|\,x_t]
              = \dot a\,\hat x + \dot b\,\frac{x_t - a\,\hat x}{b}

    Any clock: (cos θ, sin θ) is diffusion's and gives v, (t, 1 - t) is flow matching's. (Albergo, Boffi &
    Vanden-Eijnden 2023, section 2, arXiv:2303.08797.) Taught in chapter 07.
    """
    expect.stretched(x_t=x_t, x0_hat=x0_hat)
    for name, rate in (("a", a), ("da", da), ("db", db)):
        expect.between(rate, name)
    expect.between(b, "b, the share of the noise,", above=0)
    return da * x0_hat + db * (x_t - a * x0_hat) / b


def straight_path(x, eps, t):
    r""":math:`x_t = t\,x + (1-t)\,\epsilon`: noise at t = 0, data at t = 1. (Lipman et al. 2023, eq. 20 with
    :math:`\sigma_\min = 0`, arXiv:2210.02747; Liu, Gong & Liu 2023, arXiv:2209.03003.) Taught in chapter 07."""
    _at(t, x=x, eps=eps)
    return t * x + (1 - t) * eps


def data_from_velocity(x_t, velocity, t):
    r""":math:`\hat x = x_t + (1-t)\,u`: follow the line to its end."""
    _at(t, x_t=x_t, velocity=velocity)
    return x_t + (1 - t) * velocity


def noise_from_velocity(x_t, velocity, t):
    r""":math:`\hat\epsilon = x_t - t\,u`: follow it back to its start. The score is :math:`-\hat\epsilon/(1-t)`."""
    _at(t, x_t=x_t, velocity=velocity)
    return x_t - t * velocity


def _at(t, **beside):
    """t lies in [0, 1], and what stands beside it fits entry by entry."""
    expect.between(t, "t", 0, 1)
    expect.stretched(**beside, t=t)


def logit_normal_times(n, device=None):
    """Times whose logit is standard normal: most work in the middle, where it is hardest. (Esser et al. 2024, section
    3.1, arXiv:2403.03206.)"""
    return torch.randn(expect.count(n), device=device).sigmoid()


# Model ----------------------------------------------------------------------------------------------------------------


class FlowMatching(nn.Module):
    """A network that predicts the velocity x - eps from (x_t, t, y). ``centre, spread, drop_label`` as in
    :class:`~course_utils.models.diffusion.process.Diffusion`; ``times(n, device)`` draws the times of a batch."""

    def __init__(self, network, shape, centre=0.0, spread=1.0, drop_label=0.1, times=logit_normal_times):
        super().__init__()
        self.network, self.shape, self.times = network, tuple(shape), times
        self.drop_label = expect.number(drop_label, "drop_label", 0, 1)
        expect.between(centre, "centre")
        expect.between(spread, "spread", above=0)
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.get_default_dtype()))
        self.register_buffer("spread", torch.as_tensor(spread, dtype=torch.get_default_dtype()))

    def velocity(self, x_t, t, y=None):
        """The field at ``x_t (B, ...event)``; ``t`` a number, or ``(B,)``."""
        t = torch.as_tensor(t, dtype=x_t.dtype, device=x_t.device).expand(len(x_t))
        return self.network(x_t, t, y)

    def loss(self, batch):
        r""":math:`\mathbb E\|(x-\epsilon) - u_\theta(x_t, t)\|^2`, summed over the event;
        ``batch`` is x or (x, y).
        """
        x, y = expect.pair(batch)
        expect.floats(x, "x", "B", *self.shape, like=self)
        x, eps = (x - self.centre) / self.spread, torch.randn_like(x)
        t = self.times(len(x), x.device)
        x_t = straight_path(x, eps, t.view(-1, *[1] * (x.dim() - 1)))
        answer = self.network(x_t, t, hidden(y, len(x), self.drop_label, self.network))
        return {"loss": (x - eps - answer).square().flatten(1).sum(1).mean()}

    @torch.no_grad()
    def sample(self, n, y=None, n_steps=20, s=1.0, solver=samplers.heun):
        """``(n, ...event)`` along the learned field from noise, in equal steps; labels ``y`` with guidance ``s``."""
        x = standard_normal(*self.shape, like=self.centre).sample((expect.count(n),))
        y = known(y, n, self.network)
        expect.count(n_steps, "n_steps")
        field = self.velocity if y is None else samplers.classifier_free(self.velocity, y, s)
        x = samplers.final(solver(field, x, torch.linspace(0, 1, n_steps + 1).tolist()))
        return self.centre + self.spread * x


class Latent(nn.Module):
    """Generate codes, decode them: ``prior`` is a model of ``encoder(x)``, both trained one
    after the other.

    The autoencoder is passed in and stays as it is. (Rombach et al. 2022, arXiv:2112.10752.)
    Taught in chapter 07.
    """

    def __init__(self, encoder, decoder, prior):
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.decoder = decoder.requires_grad_(False)
        self.prior = prior

    def sample(self, n, y=None, **how):
        """``(n, C, H, W)``; ``how`` is handed to the prior's sampler."""
        with torch.no_grad():
            return self.decoder(self.prior.sample(n, y, **how))


# Factories ------------------------------------------------------------------------------------------------------------


def unet_flow(shape=(1, 28, 28), widths=(24, 48), n_classes=0):
    """A small U-Net on images in [0, 1]."""
    return FlowMatching(UNet(shape, widths, n_classes), shape, centre=0.5, spread=0.5)


def vector_flow(n_features, width=384, n_blocks=3, n_classes=0, centre=0.0, spread=1.0):
    """A residual MLP on vectors ``(B, D)``; for the codes of an autoencoder give their mean and spread, ``(D,)``."""
    return FlowMatching(AdaptiveMLP(n_features, width, n_blocks, n_classes), (n_features,), centre, spread)
