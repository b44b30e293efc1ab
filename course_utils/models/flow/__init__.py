r"""Flows: a base density, and invertible layers that carry it to the data without losing mass. Taught in chapter 06.

* ``flow``: change of variables; a chain of layers; the distribution; dequantised images; a flow as a posterior
* ``elementwise``: layers that treat every number alone: affine, logit, probit, histogram
* ``spline``: monotone rational-quadratic splines, both ways
* ``coupling``: one half of the numbers steers the other: NICE, RealNVP, splines
* ``glow``: actnorm, invertible 1×1 convolution, squeeze, split into scales
* ``autoregressive``: every number is steered by those before it (MAF), the same network the other way (IAF), and
  Jacobi iteration
* ``tarflow``: causal attention over patches as a flow

Every layer is a module with ``forward(x, y=None) -> (z, log_det)`` and ``inverse(z, y=None) -> x``: forward goes from
data to base, and ``log_det`` (B,) is the logarithm of :math:`|\det \partial z/\partial x|`. ``y`` is a label or other
context, for layers that want one.
"""
