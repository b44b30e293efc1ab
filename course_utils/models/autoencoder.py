r"""Autoencoders: a network that must pass an image through a code, and ways to make that code a good one.

The model in four lines::

    z = g_phi(x)                             # encoder
    x_hat = f_theta(z)                       # decoder
    loss = mean ||x - x_hat||^2              # summed over pixels
         + penalty(x, z)                     # sparse, contractive; or corrupt x before encoding: denoising

There is no probability here, so there is no ``sample`` and no ``elbo``.  Taught in chapter 03.
"""

import math

import torch
from torch import nn

from course_utils import expect
from course_utils.nn.centre import Minus, start_at
from course_utils.nn.conv import ConvDecoder, ConvEncoder
from course_utils.nn.mlp import MLP, FlattenImages, Linear

# Formulas ---------------------------------------------------------------------------------------------------------


def squared_error(x, x_hat):
    r""":math:`\|x - \hat x\|^2`, *summed* over all but the batch: ``(B, ...event) -> (B,)``.  Taught in chapter 03."""
    expect.same_shape(x=x, x_hat=x_hat)
    expect.floats(x, "x", "B", "D", ...)
    return (x - x_hat).square().flatten(1).sum(1)


def cross_entropy(x, x_hat):
    r""":math:`-\sum_i x_i\log\hat x_i + (1-x_i)\log(1-\hat x_i)`, both in [0, 1]: ``(B, ...event) -> (B,)``.

    Least at :math:`\hat x = x`, like the squared error, and steeper where a sigmoid is flat. On grey images it is a
    loss and the likelihood of nothing.  Taught in chapter 03.
    """
    expect.same_shape(x=x, x_hat=x_hat)
    expect.inside(expect.floats(x, "x", "B", "D", ...), "x", 0, 1)
    expect.inside(x_hat, "x_hat", 0, 1)
    return nn.functional.binary_cross_entropy(x_hat, x, reduction="none").flatten(1).sum(1)


def pca(x, n_components):
    r"""Principal components of ``x`` ``(N, D)``: mean ``(D,)``, components ``(n, D)``, variances ``(n,)``.

    The components are orthonormal rows, sorted by variance; the code of x is :math:`(x - m)P^\top`. The mean squared
    error that n components leave is the sum of the remaining variances. (Pearson 1901.) Taught in chapter 03.
    """
    if torch.is_tensor(x) and x.dim() > 2:
        raise ValueError(f"expected data (N, D), got {tuple(x.shape)}: flatten images first")
    expect.finite(expect.floats(x, "data", "N", "D"), "data")
    expect.count(n_components, f"n_components of data {tuple(x.shape)}", 1, min(x.shape))
    mean = x.mean(0)
    variances, directions = torch.linalg.eigh(torch.atleast_2d(torch.cov(x.T, correction=0)))  # ascending
    return mean, directions.T.flip(0)[:n_components], variances.flip(0)[:n_components]


def principal_angles(a, b):
    r"""Angles between the row spaces of ``a`` and ``b`` (both ``(n, D)``), in radians, ``(n,)``, smallest first.

    All zero exactly when the two span the same subspace; the rows of each must be independent. Computed from sines,
    which stay exact near zero. (Björck & Golub 1973.) Taught in chapter 03.
    """
    expect.finite(expect.floats(a, "a", "n", "D"), "a")
    expect.finite(expect.floats(b, "b", *a.shape, like=a), "b")
    if any(torch.linalg.matrix_rank(rows) < len(rows) for rows in (a, b)):
        raise ValueError("expected independent rows: some are combinations of others")
    q_a, q_b = (torch.linalg.qr(rows.T).Q for rows in (a, b))                    # (D, n), orthonormal columns
    sines = torch.linalg.svdvals(q_b - q_a @ (q_a.T @ q_b))
    return sines.clamp(max=1).asin().flip(0)


def l1_sparsity(z):
    r""":math:`\sum_j |z_j|` of each code: ``(B, L) -> (B,)``.  Taught in chapter 03."""
    return expect.floats(z, "z", "B", "L").abs().sum(-1)


def kl_sparsity(z, target):
    r"""How far the mean activity of each unit is from ``target``: :math:`\sum_j \mathrm{KL}(\rho\|\hat\rho_j)`, nats.

    ``z``: ``(B, L)`` in (0, 1), as a sigmoid gives; the mean :math:`\hat\rho_j` is over the batch, so this is one
    number for the batch. (Ng 2011, lecture notes CS294A, "Sparse autoencoder".) Taught in chapter 03.
    """
    expect.floats(z, "z", "B", "L")
    expect.number(target, "target, a mean activity between 0 and 1,", above=0, below=1)
    limits = torch.finfo(z.dtype)                        # a unit that sleeps must still feel the pull to wake
    rho = z.mean(0).clamp(limits.tiny, 1 - limits.eps)                           # (L,)
    return (target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log()).sum()


def contractive_penalty(z, weight):
    r"""Squared Frobenius norm of the Jacobian of one sigmoid layer, in closed form: ``(B, L), (L, D) -> (B,)``.

    With :math:`z = \mathrm{sigmoid}(Wx + b)`: :math:`\|J\|_F^2 = \sum_j (z_j(1-z_j))^2 \sum_i W_{ji}^2`.
    (Rifai et al. 2011, "Contractive auto-encoders", eq. 6.) Taught in chapter 03.
    """
    expect.floats(weight, "weight", "L", "D")
    expect.floats(z, "z", "B", len(weight), like=weight)
    return (z * (1 - z)).square() @ weight.square().sum(1)


def jacobian_penalty(encoder, x):
    r"""Squared Frobenius norm of the Jacobian of any ``encoder`` at each ``x``, by automatic differentiation: ``(B,)``.

    One backward pass per latent; differentiable, so it can be trained on.  Taught in chapter 03.
    """
    return jacobian(encoder, x).square().sum((1, 2))


def jacobian(encoder, x):
    """Derivative of every latent by every pixel: ``(B, ...event) -> (B, L, D)``."""
    expect.floats(x, "x", "B", "D", ...)
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().clone().requires_grad_()
        z = expect.floats(encoder(x), "what the encoder returns", len(x), "L")
        rows = [torch.autograd.grad(z[:, j].sum(), x, create_graph=True)[0].flatten(1) for j in range(z.shape[1])]
    return torch.stack(rows, dim=1)


def denoising_score(denoiser, x, scale):
    r"""Estimate of the score :math:`\nabla_x \log p_\sigma(x)` from a network r that removes Gaussian noise.

    It is :math:`(r(x) - x)/\sigma^2`, of the shape of ``x``; :math:`p_\sigma` is the data blurred by the noise.
    (Miyasawa 1961; Vincent 2011.) Taught in chapter 03, used again in chapter 07.
    """
    expect.number(scale, "scale", above=0)
    expect.floats(x, "x", "B", ...)
    repaired = expect.floats(expect.function(denoiser, "denoiser")(x), "what the denoiser returns", *x.shape)
    return (repaired - x) / scale**2


# Model ----------------------------------------------------------------------------------------------------------------


class Autoencoder(nn.Module):
    """Encoder and decoder, an error, and at most one idea to make the code better.

    ``corrupt(x)`` is applied before encoding while the clean x stays the target (denoising).
    ``penalty(x, z, encoder)`` returns ``(B,)`` or a scalar and is added to the loss, already
    weighted (sparse, contractive). ``latent_noise``: in training the decoder sees the code
    plus noise of that standard deviation, so that neighbours of a code decode alike.
    ``error(x, x_hat)``: ``(B,)``, :func:`squared_error` or :func:`cross_entropy`.
    Taught in chapter 03.
    """

    def __init__(self, encoder, decoder, corrupt=None, penalty=None, latent_noise=0.0,
                 error=squared_error):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.corrupt, self.penalty = corrupt, penalty
        self.latent_noise, self.error = latent_noise, error

    def forward(self, x):
        """Reconstruction, same shape as ``x``."""
        x_hat = self.decoder(self.encoder(x))
        expect.same_shape(x=x, x_hat=x_hat)
        return x_hat

    def loss(self, x):
        """``{"loss", "penalty"}`` and the error by its name: summed over pixels, averaged over
        the batch.
        """
        seen = x if self.corrupt is None else self.corrupt(x)
        z = self.encoder(seen)
        shaken = z + self.latent_noise * torch.randn_like(z) if self.latent_noise else z
        error = self.error(x, self.decoder(shaken)).mean()
        penalty = x.new_zeros(())
        if self.penalty is not None:
            penalty = self.penalty(seen, z, self.encoder).mean()
        return {"loss": error + penalty, self.error.__name__: error, "penalty": penalty}


# Ways to change the code: pass one of these to Autoencoder --------------------------------------------------------


def add_noise(scale):
    """Corruption by Gaussian noise of standard deviation ``scale`` (Vincent et al. 2010)."""
    expect.number(scale, "scale", low=0)
    return lambda x: x + scale * torch.randn_like(expect.floats(x, "x"))


def drop_pixels(probability):
    """Corruption by setting each pixel to zero with the given ``probability`` (Vincent et al. 2008)."""
    expect.number(probability, "probability", 0, 1)
    return lambda x: x * (torch.rand_like(expect.floats(x, "x")) >= probability)


def small_codes(weight):
    """``weight`` times the squared length of the code: against latent noise it cannot grow without limit."""
    expect.number(weight, "weight", low=0)
    return lambda x, z, encoder: weight * expect.floats(z, "z", "B", "L").square().sum(1)


def sparse_l1(weight):
    """``weight`` times the L1 norm of the code."""
    expect.number(weight, "weight", low=0)
    return lambda x, z, encoder: weight * l1_sparsity(z)


def sparse_kl(weight, target):
    """``weight`` times the divergence of each unit's mean activity from ``target``."""
    expect.number(weight, "weight", low=0)
    expect.number(target, "target, a mean activity between 0 and 1,", above=0, below=1)
    return lambda x, z, encoder: weight * kl_sparsity(z, target)


def contract_sigmoid(weight):
    """``weight`` times the closed-form Jacobian norm, for an encoder ``Flatten, Linear, Sigmoid``."""
    expect.number(weight, "weight", low=0)

    def penalty(x, z, encoder):
        kinds = [type(layer).__name__ for layer in encoder]
        if len(kinds) != 3 or not all(map(isinstance, encoder, (nn.Flatten, nn.Linear, nn.Sigmoid))):
            raise ValueError(f"expected an encoder Flatten, Linear, Sigmoid, for which the closed form is; got "
                             f"{', '.join(kinds)}: take contract()")
        return weight * contractive_penalty(z, encoder[1].weight)

    return penalty


def contract(weight):
    """``weight`` times the Jacobian norm of any encoder."""
    expect.number(weight, "weight", low=0)
    return lambda x, z, encoder: weight * jacobian_penalty(encoder, x)


# Factories --------------------------------------------------------------------------------------------------------


def linear_autoencoder(n_features, latent_dim):
    """No activation anywhere, for ``(B, D)``: at its optimum it spans the subspace of PCA (Baldi & Hornik 1989)."""
    expect.shape((n_features, latent_dim), "(n_features, latent_dim)", 2)
    return Autoencoder(Linear(n_features, latent_dim), Linear(latent_dim, n_features))


def mlp_autoencoder(
    shape=(1, 28, 28), hidden_dims=(400,), latent_dim=32, corrupt=None, activation=nn.ReLU, mean_image=None,
    penalty=None, latent_noise=0.0, error=squared_error
):
    """Fully connected; the decoder mirrors the encoder and ends in a sigmoid, because pixels live in [0, 1].

    With ``mean_image`` (of ``shape``, the mean over the training set) the encoder sees the difference to it and the
    decoder starts from it, so training need not find it first.
    """
    n_pixels = math.prod(expect.shape(shape))
    expect.counts(hidden_dims, "hidden_dims")
    encoder = nn.Sequential(FlattenImages(*shape), MLP([n_pixels, *hidden_dims, latent_dim], activation))
    widths = [latent_dim, *reversed(hidden_dims), n_pixels]
    decoder = nn.Sequential(MLP(widths, activation), nn.Sigmoid(), nn.Unflatten(1, shape))
    if mean_image is not None:
        encoder.insert(0, Minus(mean_image))
        start_at(decoder[0][-1], mean_image)
    return Autoencoder(encoder, decoder, corrupt, penalty, latent_noise, error)


def conv_autoencoder(shape=(1, 28, 28), latent_dim=32, width=16, corrupt=None, mean_image=None):
    """Convolutional: two halvings down to the code and two doublings back.

    ``mean_image`` as in :func:`mlp_autoencoder`; the last convolution has one bias a channel, so the decoder starts
    from the mean brightness.
    """
    encoder = ConvEncoder(shape, latent_dim, width)
    decoder = nn.Sequential(ConvDecoder(latent_dim, shape, width), nn.Sigmoid())
    if mean_image is not None:
        encoder = nn.Sequential(Minus(mean_image), encoder)
        start_at(decoder[0][-1], mean_image.mean((1, 2)))
    return Autoencoder(encoder, decoder, corrupt)


def one_layer_autoencoder(
    shape=(1, 28, 28), n_hidden=1024, penalty=None, corrupt=None, tied=False, activation=nn.Sigmoid
):
    """One hidden layer, often wider than the image, and a linear way back; see ``sparse_*`` and ``contract_sigmoid``.

    ``tied``: the decoder uses the encoder's weights, transposed. A contractive autoencoder needs that: otherwise the
    encoder escapes the penalty by shrinking its weights while the decoder grows its own. L1 needs it for that reason
    too, and ReLU as ``activation``, which can be exactly zero.
    """
    n_pixels = math.prod(expect.shape(shape))
    layer = Linear(n_pixels, expect.count(n_hidden, "n_hidden"))
    encoder = nn.Sequential(FlattenImages(*shape), layer, activation())
    back = Transposed(layer) if tied else nn.Linear(n_hidden, n_pixels)
    return Autoencoder(encoder, nn.Sequential(back, nn.Unflatten(1, shape)), corrupt, penalty)


class Transposed(nn.Module):
    """The linear layer with the transposed weights of ``layer`` (shared, not copied) and a bias of its own."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.bias = layer, nn.Parameter(torch.zeros(layer.in_features))

    def forward(self, z):
        return z @ self.layer.weight + self.bias
