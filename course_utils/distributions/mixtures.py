"""Mixtures of Gaussians, fixed and learned."""

import torch
from torch import distributions as D
from torch import nn

from course_utils import expect


class GaussianMixture(D.MixtureSameFamily):
    r"""Mixture :math:`\sum_k \pi_k N(x; \mu_k, \Sigma_k)` over the line or over ``D`` dimensions.

    ``weights`` ``(K,)``: not negative, normalised here.  ``means``: ``(K, D)``, or ``(K,)`` for a mixture on the line,
    whose event is a number.  ``covariances``: full ``(K, D, D)``, diagonal variances ``(K, D)``, or one variance a
    component ``(K,)``. Raises ValueError for any other shape.  Taught in chapter 01.
    """

    def __init__(self, weights, means, covariances):
        for name, x in (("weights", weights), ("means", means), ("covariances", covariances)):
            expect.finite(expect.floats(x, name), name)
        expect.inside(weights, "weights", 0)
        if means.dim() not in (1, 2) or weights.shape != means.shape[:1]:
            raise ValueError(f"expected weights (K,) and means (K,) or (K, D), got {tuple(weights.shape)} and "
                             f"{tuple(means.shape)}")
        k, *d = means.shape
        if tuple(covariances.shape) not in {(k,), (k, *d), (k, *d, *d)}:
            raise ValueError(f"expected covariances ({k},)" + (f", ({k}, {d[0]}) or ({k}, {d[0]}, {d[0]})" if d else "")
                             + f" for means {tuple(means.shape)}, got {tuple(covariances.shape)}")
        if not d:
            components = D.Normal(means, covariances.sqrt())
        elif covariances.dim() < 3:
            scale = covariances.sqrt().reshape(k, -1).expand_as(means)
            components = D.Independent(D.Normal(means, scale), 1)
        else:
            components = D.MultivariateNormal(means, covariance_matrix=covariances)
        # PyTorch's own argument checks ask for a full covariance of a mixture, which is never formed here.
        super().__init__(D.Categorical(logits=weights.log()), components, validate_args=False)

    def expand(self, batch_shape, _instance=None):
        return super().expand(batch_shape, _instance=self._get_checked_instance(GaussianMixture, _instance))

    def entropy(self):
        r"""-E log p in nats by quadrature, for a mixture on the line or in the plane.

        The trapezoid rule on a grid four times finer than the narrowest component: its error is far below 1e-6.
        """
        components = self.component_distribution
        means, variances = components.mean.double(), components.variance.double()
        means, variances = means.reshape(len(means), -1), variances.reshape(len(means), -1)
        if means.shape[1] > 2:
            raise ValueError(f"the entropy is summed on a grid, for at most 2 dimensions; this mixture has "
                             f"{means.shape[1]}: average -log_prob over samples instead")
        step, margin = float(narrowest(components)) / 4, 9 * float(variances.max().sqrt())
        axes = [torch.arange(float(m.min()) - margin, float(m.max()) + margin, step, dtype=torch.float64)
                for m in means.T]  # fmt: skip
        total = 0.0
        for rows in axes[0].split(64):  # in strips, so that a wide mixture fits into memory
            grid = torch.cartesian_prod(rows, *axes[1:]).reshape(-1, *self.event_shape).to(means.device)
            log_p = self.log_prob(grid)
            total = total - (log_p.exp() * log_p).sum() * step ** len(axes)
        return total.to(components.mean.dtype)

    def log_prob(self, x):
        """log p(x) in nats, ``(..., D) -> (...)``; on the line ``(...) -> (...)``."""
        return super().log_prob(expect.floats(x, "x", ..., *self.event_shape))

    def joint_log_prob(self, x):
        r"""log p(x, k) for every component: ``(B, D) -> (B, K)``, on the line ``(B,) -> (B, K)``, in nats."""
        expect.floats(x, "x", "B", *self.event_shape)
        return self.component_distribution.log_prob(x.unsqueeze(1)) + self.mixture_distribution.logits

    def posterior(self, x):
        r"""p(k | x) by Bayes' rule: ``(B, D) -> (B, K)``, rows sum to 1."""
        return self.joint_log_prob(x).softmax(-1)

    def marginal(self, keep):
        """The mixture over the coordinates ``keep`` (a boolean mask ``(D,)`` or indices): drop rows and columns."""
        mixture, components = self.mixture_distribution, self.component_distribution
        if isinstance(components, D.MultivariateNormal):
            covariances = components.covariance_matrix[:, keep][:, :, keep]
        else:
            covariances = components.variance[:, keep]
        return GaussianMixture(mixture.probs, components.mean[:, keep], covariances)

    def conditional_mean(self, x, missing):
        r"""``x (B, D)`` with the missing coordinates, bool ``(D,)``, replaced by E[x_m | x_o]. For full covariances.

        Each component fills in its own conditional mean; p(k | x_o) weighs them. (Bishop 2006, eq. 2.81.) Chapter 01.
        """
        if not isinstance(self.component_distribution, D.MultivariateNormal):
            raise ValueError("conditional_mean needs full covariances (K, D, D); a diagonal one links no pixels")
        expect.floats(x, "x", "B", *self.event_shape)
        expect.booleans(missing, "missing", *self.event_shape)
        if missing.all():
            raise ValueError("nothing is observed: conditional_mean needs at least one False in missing")
        seen = ~missing
        weights = self.marginal(seen).posterior(x[:, seen])  # (B, K)
        means, covariances = self.component_distribution.mean, self.component_distribution.covariance_matrix
        root = torch.linalg.cholesky(covariances[:, seen][:, :, seen])
        gains = torch.cholesky_solve(covariances[:, seen][:, :, missing], root)  # (K, O, M)
        surprise = x[:, seen].unsqueeze(0) - means[:, seen].unsqueeze(1)  # (K, B, O)
        versions = means[:, missing].unsqueeze(1) + surprise @ gains  # (K, B, M)
        filled = x.clone()
        filled[:, missing] = torch.einsum("bk,kbm->bm", weights, versions)
        return filled

    def score(self, x):
        r""":math:`\nabla\log p(x) = \sum_k p(k|x)\,\Sigma_k^{-1}(\mu_k - x)`, shaped like ``x``.  Chapter 07."""
        pulls = self._divided(self.component_distribution.mean - x.unsqueeze(1))  # (B, K, ...event)
        weights = self.posterior(x)
        return (weights.reshape(weights.shape + (1,) * len(self.event_shape)) * pulls).sum(1)

    def noised(self, alpha_bar):
        r"""The law of :math:`\sqrt{\bar\alpha}\,x + \sqrt{1-\bar\alpha}\,\epsilon`, with ε standard normal.

        ``alpha_bar``: a number in [0, 1]. A mixture again, with means :math:`\sqrt{\bar\alpha}\mu_k` and covariances
        :math:`\bar\alpha\Sigma_k + (1-\bar\alpha)I`. Taught in chapter 07.
        """
        if not 0 <= alpha_bar <= 1:
            raise ValueError(f"alpha_bar is the share of the signal, a number in [0, 1]; got {alpha_bar}")
        means, covariances = self.component_distribution.mean, self._covariances()
        noise = torch.eye(means.shape[1]).to(means) if covariances.dim() == 3 else torch.ones_like(covariances)
        return GaussianMixture(self.mixture_distribution.probs, alpha_bar**0.5 * means,
                               alpha_bar * covariances + (1 - alpha_bar) * noise)

    def clean_given(self, x_t, alpha_bar):
        r"""The law of the clean x given its noisy version ``x_t (B, ...event)``: a mixture for each, batch ``(B,)``.

        Component k has mean :math:`\mu_k + \sqrt{\bar\alpha}\,\Sigma_k C_k^{-1}(x_t - \sqrt{\bar\alpha}\mu_k)` and
        covariance :math:`\Sigma_k - \bar\alpha\,\Sigma_k C_k^{-1}\Sigma_k` with :math:`C_k` that of the noised one, and
        weight p(k | x_t). Its ``mean`` is the best denoiser, its ``variance`` what that must leave. ``alpha_bar`` in
        [0, 1): at 1 nothing is left to be known. (Bishop 2006, eqs. 2.116 and 2.117.) Taught in chapter 07.
        """
        if not 0 <= alpha_bar < 1:
            raise ValueError(f"x_t is noisy, so alpha_bar lies in [0, 1); got {alpha_bar}")
        noisy, means, covariances = self.noised(alpha_bar), self.component_distribution.mean, self._covariances()
        pulled = noisy._divided(x_t.unsqueeze(1) - alpha_bar**0.5 * means)  # (B, K, ...event)
        if covariances.dim() == 3:
            centres = means + alpha_bar**0.5 * torch.einsum("kij,bkj->bki", covariances, pulled)
            left = covariances - alpha_bar * covariances @ torch.linalg.solve(noisy._covariances(), covariances)
            parts = D.MultivariateNormal(centres, left.expand(len(x_t), -1, -1, -1), validate_args=False)
        else:
            centres = means + alpha_bar**0.5 * covariances * pulled
            left = covariances - alpha_bar * covariances.square() / noisy._covariances()
            parts = D.Normal(centres, left.sqrt().expand_as(centres), validate_args=False)
            if self.event_shape:
                parts = D.Independent(parts, 1, validate_args=False)
        weights = D.Categorical(noisy.posterior(x_t), validate_args=False)
        return D.MixtureSameFamily(weights, parts, validate_args=False)

    def _covariances(self):
        full = isinstance(self.component_distribution, D.MultivariateNormal)
        return self.component_distribution.covariance_matrix if full else self.component_distribution.variance

    def _divided(self, x):
        """:math:`\\Sigma_k^{-1} x_k` for ``x (B, K, ...event)``."""
        covariances = self._covariances()
        if covariances.dim() == 3:
            return torch.linalg.solve(covariances, x.unsqueeze(-1)).squeeze(-1)
        return x / covariances


def narrowest(components):
    """The smallest standard deviation of any component in any direction."""
    if isinstance(components, D.MultivariateNormal):
        return torch.linalg.eigvalsh(components.covariance_matrix).min().sqrt()
    return components.stddev.min()


class MixturePrior(nn.Module):
    """A learned mixture of ``n_components`` diagonal Gaussians over ``(latent_dim,)``: it can follow the codes."""

    def __init__(self, latent_dim, n_components):
        super().__init__()
        expect.count(latent_dim, "latent_dim")
        self.logits = nn.Parameter(torch.zeros(expect.count(n_components, "n_components")))
        self.means = nn.Parameter(torch.randn(n_components, latent_dim))
        self.log_vars = nn.Parameter(torch.zeros(n_components, latent_dim))

    def forward(self):
        return GaussianMixture(self.logits.softmax(-1), self.means, self.log_vars.exp())
