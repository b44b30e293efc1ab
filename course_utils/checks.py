"""The laws: properties that must hold, written once and used by the chapters, by the tests and by the grader.

Each check prints one line when it holds and raises :class:`CheckFailed` when it does not, with what was expected and
what came. A law takes callables and tensors; it knows no model.

In a notebook the line carries a machine-readable record: which law, about what, and how far off it was. ``course run``
counts these, so that an equation is verified by a law that ran and not by the text of one.
"""

import contextlib
import io
import math
import sys

import torch

from course_utils import expect

RECORD_MIME = "application/vnd.course.law+json"


class CheckFailed(AssertionError):
    """A law did not hold."""


class NotANumber(CheckFailed):
    """NaN stands where numbers are compared: a law that cannot hold, and that refutes nothing."""


def say(text):
    """Print, with "ok" for ✓ and "?" for whatever else the encoding of the output cannot hold (cp1252, gbk, ascii)."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("✓", "ok").encode(encoding, "replace").decode(encoding)
    print(text)


def _passed(law, what, found=""):
    """Say that a law held. ``found``: what was measured, in words, such as "off by at most 2e-9"."""
    line = f"✓ {what}"
    if type(sys.stdout).__module__ == "ipykernel.iostream":  # what a cell prints, unless somebody holds it back
        from IPython.display import display

        display({RECORD_MIME: {"law": law, "what": what, "found": found}, "text/plain": line}, raw=True)
    else:
        say(line)


def _short(value):
    """A size in few letters: 0, 0.02, 3e-09."""
    return f"{value:.0e}" if 0 < value < 1e-3 else f"{value:.1g}"


def _count(n, thing):
    return f"{n:,} {thing}{'s' * (n != 1)}"


def _tensor(value):
    return torch.as_tensor(value).detach()


def _show(value):
    value = _tensor(value)
    return f"{value.item():.6g}" if value.numel() == 1 else f"a tensor of shape {tuple(value.shape)}"


def close(actual, expected, *, what, rtol=1e-5, atol=1e-6):
    """Every entry of ``actual`` is within ``atol + rtol·|expected|`` of ``expected``, which may broadcast."""
    expect.number(rtol, "rtol", low=0)
    expect.number(atol, "atol", low=0)
    a, e = _tensor(actual), _tensor(expected)
    dtype = torch.promote_types(a.dtype, e.dtype)
    if a.numel() == 0 or torch.broadcast_shapes(a.shape, e.shape) != a.shape:
        raise CheckFailed(f"{what}: got shape {tuple(a.shape)}, expected something of shape {tuple(e.shape)}")
    a, e = torch.broadcast_tensors(a.to(dtype), e.to(device=a.device, dtype=dtype))
    wrong = ~torch.isclose(a, e, rtol=rtol, atol=atol)
    if wrong.any():
        where = wrong.nonzero()[0].tolist()
        got, want = a[tuple(where)].item(), e[tuple(where)].item()
        place = f" at {where}" if where else ""
        failed = NotANumber if (a.isnan() | e.isnan()).any() else CheckFailed
        raise failed(f"{what}: {int(wrong.sum())} of {a.numel()} differ; got {got:.6g}, expected {want:.6g}{place}")
    allowed = atol + rtol * e.double().abs()
    distance = (a.double() - e.double()).abs()
    worst = (distance / allowed.clamp_min(1e-300)).argmax()
    off, room = distance.flatten()[worst].item(), allowed.flatten()[worst].item()
    _passed("close", what, f"off by {_short(off)}, {_short(room)} allowed; {_count(a.numel(), 'number')}")


def true(condition, *, what):
    """``condition`` (a bool or a tensor of them) holds everywhere."""
    condition = torch.as_tensor(condition)
    if condition.numel() == 0:
        raise CheckFailed(f"{what}: nothing to check, the condition is empty")
    expect.booleans(condition, "the condition")
    if not condition.all():
        raise CheckFailed(f"{what}: does not hold for {int((~condition).sum())} of {condition.numel()}")
    _passed("true", what, _count(condition.numel(), "case"))


def fails(law, *, what):
    """The claim ``what`` is false: ``law()`` returns something false or raises :class:`AssertionError`.

    It shows that a check can tell a wrong formula from the right one. ``what`` is a whole sentence, the claim itself:
    "with a plus sign the gradient is the same". A law broken by NaN alone says nothing about the formula, so that is
    a failure of this check.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # laws that hold on the way to the one that fails say nothing
            result = law()
        held = result is None or bool(expect.booleans(torch.as_tensor(result), "what the law returns").all())
    except NotANumber as error:
        raise CheckFailed(f"{what}: expected a wrong number to refute this, got NaN ({error})") from error
    except AssertionError:
        held = False
    if held:
        raise CheckFailed(f"{what}: expected this to fail, but it held")
    _passed("fails", f"refuted, as it must be: {what}")


def monte_carlo(samples, expected, *, what, sigmas=5.0, resolution=None):
    r"""The mean of ``samples`` ``(N, ...)`` lies within ``sigmas`` standard errors of ``expected``.

    For independent samples of finite variance this fails by bad luck with probability about 6e-7 per entry at the
    default of 5 standard errors. Samples that scatter too much would agree with anything: raises ValueError where an
    error of the size ``resolution`` could not be seen, because ``sigmas`` standard errors are more. Without one it must
    see half of the largest ``|expected|``, or of the scatter of one sample where 0 is expected.
    """
    samples, expected = expect.floats(_tensor(samples), "samples"), _tensor(expected)
    expect.number(sigmas, "sigmas", above=0)
    if samples.ndim == 0 or samples.shape[0] < 2:
        raise ValueError(f"expected at least 2 samples for a Monte Carlo check, got {expect.came(samples)}")
    if expected.shape not in (samples.shape[1:], ()):
        raise CheckFailed(f"{what}: samples have shape {tuple(samples.shape)}, so one has {tuple(samples.shape[1:])}; "
                          f"what was expected has {tuple(expected.shape)}")
    if not samples.isfinite().all():
        raise CheckFailed(f"{what}: {int((~samples.isfinite()).sum())} of {samples.numel()} numbers are not finite")
    spread, size = samples.std(0), expected.abs().max().item()
    error = spread / samples.shape[0] ** 0.5
    distance = (samples.mean(0) - expected).abs()
    worst = (distance / error.clamp_min(torch.finfo(error.dtype).tiny)).max()
    if not (distance <= sigmas * error).all():
        raise CheckFailed(
            f"{what}: {worst:.1f} standard errors away, more than {sigmas:g}; "
            f"mean {_show(samples.mean(0))}, expected {_show(expected)}"
        )
    if resolution is None:
        resolution = 0.5 * (size or spread.max().item())
    expect.number(resolution, "resolution", low=0)
    if (seen := sigmas * error.max().item()) > resolution > 0:
        raise ValueError(f"{what}: the samples scatter too much to tell: {sigmas:g} standard errors are {seen:.2g}, "
                         f"more than the {resolution:.2g} that are to be seen; take more samples")
    found = f"off by {worst:.1f} standard errors, {sigmas:g} allowed"
    _passed("monte_carlo", what, f"{found}; {_count(len(samples), 'sample')}, an error of {seen:.1g} would be seen")


def grid(*ranges, n=201, dtype=torch.float64):
    """Midpoints of ``n`` cells along each ``(low, high)``: points ``(n**d, d)`` and the volume of one cell."""
    axes, volume = [], 1.0
    expect.count(n, "n")
    for low, high in ranges:
        expect.number(high, "the upper end of a range", above=expect.number(low, "the lower end of a range"))
        step = (high - low) / n
        axes.append(low + step * (torch.arange(n, dtype=dtype) + 0.5))
        volume *= step
    return torch.cartesian_prod(*axes).reshape(-1, len(ranges)), volume


def integrates_to_one(log_prob, *ranges, what, n=201, atol=1e-3):
    r""":math:`\int \exp(\log p) = 1` by the midpoint rule on a grid; ``log_prob: (N, d) -> (N,)``. Use for d ≤ 2."""
    points, volume = grid(*ranges, n=n)
    log_p = expect.floats(log_prob(points), "log_prob(points)", len(points))
    total = log_p.double().logsumexp(0).exp() * volume
    close(total, 1.0, what=what, rtol=0.0, atol=atol)


def all_binary(*shape, dtype=torch.float32):
    """All 2^d binary arrays of a shape: ``(2**d, *shape)``. For d up to about 20."""
    d = math.prod(expect.shape(shape, n_dims=len(shape)))
    if d > 20:
        raise ValueError(f"{d} binary variables have 2^{d} states: too many to list; use at most 20")
    codes = torch.arange(2**d)
    bits = (codes.unsqueeze(1) >> torch.arange(d)) & 1
    return bits.to(dtype).reshape(-1, *shape)


def sums_to_one(log_prob, states, *, what, atol=1e-5):
    r""":math:`\sum_x p(x) = 1` over every state; ``log_prob: (N, ...) -> (N,)`` in nats."""
    with torch.no_grad():
        log_p = expect.floats(log_prob(states), "log_prob(states)", len(states))
    total = log_p.double().logsumexp(0).exp()
    close(total, 1.0, what=what, rtol=0.0, atol=atol)


def gradient(function, x, expected, *, what, rtol=1e-4, atol=1e-5):
    """``expected`` is the gradient of ``function(x).sum()`` with respect to ``x``, by autograd."""
    x = x.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(function(x).sum(), x)
    close(grad, expected, what=what, rtol=rtol, atol=atol)


def frequencies(counts, probabilities, *, what, failure_rate=1e-6):
    r"""Counts of sampled outcomes fit the probabilities: Pearson's χ² test at a stated rate of false alarms.

    ``counts, probabilities``: ``(K,)``. Outcomes expected fewer than 5 times are pooled. Taught in chapter 02.
    """
    from scipy import special  # scipy.stats has the same tail, and takes a second to import

    counts, probabilities = _tensor(counts).double().flatten(), _tensor(probabilities).double().flatten()
    if len(counts) < 2 or len(counts) != len(probabilities):
        raise ValueError(f"counts and probabilities need one entry an outcome, at least 2; got {len(counts)} and "
                         f"{len(probabilities)}")
    expect.inside(counts, "counts", 0)
    expect.probabilities(probabilities, "probabilities")
    expect.number(failure_rate, "failure_rate", above=0, below=1)
    if not counts.sum() > 0:
        raise ValueError("expected counts of at least one draw, got none")
    if counts[probabilities == 0].any():
        raise CheckFailed(f"{what}: an outcome of probability 0 was drawn")
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any() and not rare.all():
        counts = torch.cat([counts[~rare], counts[rare].sum().reshape(1)])
        expected = torch.cat([expected[~rare], expected[rare].sum().reshape(1)])
    chi2 = ((counts - expected) ** 2 / expected.clamp_min(1e-300)).sum().item()
    p_value = special.chdtrc(len(counts) - 1, chi2)  # how often a fair draw would be further off
    if p_value < failure_rate:
        raise CheckFailed(f"{what}: χ² = {chi2:.1f} with {len(counts) - 1} degrees of freedom, p = {p_value:.1e}")
    _passed("frequencies", what, f"p = {p_value:.1g}; {_count(int(counts.sum()), 'draw')}")


def causal(function, x, order=None, *, what, strict=True):
    r"""Output ``i`` depends only on inputs that come before ``i`` in ``order``: the Jacobian's zero pattern.

    ``function: (1, D) -> (1, D)`` (flattened event; with several outputs a dimension, sum them first); ``order``:
    ``(D,)``, the positions in the sequence they are drawn (default raster). ``strict=False`` lets output
    ``i`` see input ``i``.
    Also requires that *some* earlier input matters, so that a constant function does not pass. Taught in chapter 02.
    """
    x = x.detach().reshape(1, -1)
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v).sum(0), x).reshape(x.shape[1], x.shape[1])
    order = torch.arange(x.shape[1]) if order is None else expect.order(order, x.shape[1])
    order = order.to(x.device)
    if jacobian.isnan().any():
        raise CheckFailed(f"{what}: {int(jacobian.isnan().sum())} of {jacobian.numel()} derivatives are NaN")
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=x.device)
    later = rank.unsqueeze(0) >= rank.unsqueeze(1) if strict else rank.unsqueeze(0) > rank.unsqueeze(1)
    leak = (jacobian != 0) & later
    if leak.any():
        i, j = leak.nonzero()[0].tolist()
        raise CheckFailed(
            f"{what}: output {i} depends on input {j}, which is not before it ({int(leak.sum())} such pairs)"
        )
    if x.shape[1] > 1 and not (jacobian != 0).any():
        raise CheckFailed(f"{what}: no output depends on any input")
    _passed("causal", what, _count(jacobian.numel(), "derivative"))


def log_det(transform, x, *, what, rtol=1e-4, atol=1e-5):
    r"""The declared log_det is :math:`\log|\det\partial z/\partial x|` by autograd, at every point of ``x``.

    ``transform: (B, …) -> (z, log_det)``, one example apart from the others; the event is small, since the whole
    Jacobian is formed. A log_det that is 0 everywhere is refused: a formula that forgets it would pass. Taught in
    chapter 06.
    """
    declared = transform(x)[1]
    if declared.shape != x.shape[:1]:
        raise CheckFailed(f"{what}: log_det has shape {tuple(declared.shape)}, expected one number a point, "
                          f"({x.shape[0]},)")
    true_ones = []
    for point in x:
        jacobian = torch.autograd.functional.jacobian(lambda v: transform(v[None])[0][0].flatten(), point)
        true_ones.append(torch.linalg.slogdet(jacobian.reshape(point.numel(), point.numel())).logabsdet)
    true_ones = torch.stack(true_ones)
    if (true_ones.abs() < 1e-6).all():
        raise CheckFailed(f"{what}: log|det| is 0 at every point, so nothing is tested; use weights that are not the "
                          "identity")
    close(declared, true_ones, what=what, rtol=rtol, atol=atol)


def inverse(forward, backward, x, *, what, rtol=1e-4, atol=1e-5):
    """``backward`` undoes ``forward`` at ``x``, and ``forward`` undoes ``backward`` at what ``x`` becomes.

    A map that leaves ``x`` as it is is refused: it cannot tell an inverse from no inverse. Taught in chapter 06.
    """
    z = forward(x)
    if z.shape == x.shape and torch.allclose(z, x, rtol=1e-6, atol=1e-6):
        raise CheckFailed(f"{what}: the map is the identity at these points, so nothing is tested")
    back = backward(z)
    close(back, x, what=f"{what}: back to x", rtol=rtol, atol=atol)
    between = (z + z.roll(1, 0)) / 2                            # other points, inside whatever box z lives in
    close(forward(backward(between)), between, what=f"{what}: back to z", rtol=rtol, atol=atol)
