r"""Diffusion and flow matching: noise is added by a fixed rule, a network learns to take it back.

The model in five lines::

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps       # fixed: image and noise, mixed
    x0_hat = denoise(x_t, t)                                      # learned by squared error: E[x_0 | x_t]
    x_{t-1} ~ N(posterior mean at x0_hat, posterior variance)     # one step back; from x_T ~ N(0, I), T of them
    loss = mean weight_t ||x_0 - x0_hat||^2                       # weight (SNR(t-1) - SNR(t)) / 2: a bound on log p
    flow matching: x_t = t x + (1 - t) eps, learn E[x - eps | x_t]; the same lemma with another clock

``schedule`` (how much noise, and which steps) → ``process`` (formulas, the model) → ``samplers`` (free functions that
yield x_t) → ``flow_matching``.  Taught in chapter 07.
"""
