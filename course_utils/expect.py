"""What a public edge accepts: each function gives its argument back, or raises a ValueError that says what was expected
and what came.

What the numbers of this course may be is decided here, once:

* a *count* (samples, steps, draws, bins, units) is a whole number from 1: ``sample(0)`` is a mistake everywhere
* a *number* is real and finite; True is neither a count nor a number
* a *temperature* lies in 10⁻⁶ … 10⁶; 0 would divide by zero, and below 10⁻⁶ it changes nothing in single precision
* grey *levels* are 2 to 256
* *labels* are integers (B,), each 0 … K-1; a column (B, 1) would broadcast to (B, B) without a word
* an *order* holds each of 0 … D-1 once
* *floats* have exactly the shape that is asked for, at least one row, and are no integers; images are (B, C, H, W)

Shapes are read without waiting for a device. Whoever asks about values (``finite``, ``labels``) waits for it once.
"""

import math
import numbers

import torch

# ----------------------------------------------------------------------------------------------------- single numbers


def count(value, name="n", least=1, most=math.inf):
    """A whole number from ``least`` to ``most``, as an int. 3.0 is none: no count is the result of a division."""
    whole = isinstance(value, numbers.Integral) or _is_scalar(value, floating=False)
    if not whole or isinstance(value, bool) or not least <= int(value) <= most:
        raise ValueError(f"expected {name} to be a whole number {_range(least, most)}, got {came(value)}")
    return int(value)


def number(value, name, low=-math.inf, high=math.inf, *, above=-math.inf, below=math.inf, finite=True):
    """A finite number in [low, high], more than ``above`` and less than ``below``; a 0-d tensor stays one.

    ``finite=False``: infinite ones and NaN are numbers too.
    """
    real = isinstance(value, numbers.Real) or _is_scalar(value, floating=None)
    x = float(value.detach() if isinstance(value, torch.Tensor) else value) if real else math.nan
    if real and not finite and not isinstance(value, bool):
        return value if isinstance(value, torch.Tensor) else x
    if isinstance(value, bool) or not (math.isfinite(x) and low <= x <= high and above < x < below):
        ends = _range(low, high) if max(above, -below) == -math.inf else _open_range(above, below, low, high)
        raise ValueError(f"expected {name} to be a finite number{ends and ' '}{ends}, got {came(value)}")
    return value if isinstance(value, torch.Tensor) else x


def temperature(value, name="temperature"):
    """T > 0 in p^(1/T): below 1 sharpens, above 1 blurs. For the most likely level take a small one, 1e-3 say."""
    return number(value, name, 1e-6, 1e6)


def levels(value, name="levels"):
    """How many grey levels a pixel has."""
    return count(value, name, 2, 256)


def shape(value, name="shape", n_dims=3):
    """The shape of one example as a tuple of counts: (C, H, W), or of ``n_dims`` numbers."""
    sizes = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else ()
    if len(sizes) != n_dims or not all(type(size) is int and size > 0 for size in sizes):
        letters = {1: "(D,)", 2: "(H, W)", 3: "(C, H, W)"}.get(n_dims, f"{n_dims} sizes")
        raise ValueError(f"expected {name} to be {letters}, whole numbers from 1, got {came(value)}")
    return sizes


def counts(values, name):
    """Widths, sizes: a tuple or list of counts, of any length."""
    return shape(values, name, n_dims=len(values) if isinstance(values, (tuple, list)) else 1)


# ------------------------------------------------------------------------------------------------------------ tensors


def floats(x, name, *wanted, like=None):
    """A tensor of floating-point numbers. ``wanted`` is its shape: numbers are sizes, letters any size from 1, and
    ``...`` at either end any dimensions. ``like``: a tensor, or a module with weights, whose dtype ``x`` must have."""
    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not _fits(x.shape, wanted):
        raise ValueError(f"expected {name} to be floats{_words(wanted)}, got {came(x)}")
    if like is not None:
        like = next(like.parameters(), x) if isinstance(like, torch.nn.Module) else like
        if x.dtype != like.dtype:
            raise ValueError(f"expected {name} to be {_short(like)}, as the weights are, got {came(x)}; "
                             f"use {name}.to({like.dtype})")
    return x


def integers(x, name, *wanted):
    """A tensor of integers, as int64; ``wanted`` as in :func:`floats`."""
    whole = isinstance(x, torch.Tensor) and not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)
    if not whole or not _fits(x.shape, wanted):
        raise ValueError(f"expected {name} to be integers{_words(wanted)}, got {came(x)}")
    return x.long()


def booleans(x, name, *wanted):
    """A tensor of True and False; ``wanted`` as in :func:`floats`."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.bool or not _fits(x.shape, wanted):
        raise ValueError(f"expected {name} to be booleans{_words(wanted)}, got {came(x)}")
    return x


def pair(batch):
    """A batch is x, or (x, y): gives (x, y), with None where there are no labels."""
    return tuple(batch) if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)


def same_shape(**tensors):
    """Floats of one shape: formulas that work entry by entry must not broadcast."""
    shapes = {name: tuple(floats(x, name).shape) for name, x in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"expected {' and '.join(shapes)} of one shape, got "
                         + " and ".join(map(str, shapes.values())))


def stretched(**values):
    """Numbers, and floats with equally many dimensions: sizes of 1 may be stretched, but no dimension is added.

    For formulas that work entry by entry, on a grid too: (G, 1) beside (1, G) means all pairs, while (B, H, W) beside
    (B, 1, H, W) is a mistake that would give (B, B, H, W).
    """
    sizes = {name: _sizes(value, name) for name, value in values.items()}
    tensors = {name: size for name, size in sizes.items() if size}
    try:
        if len(set(map(len, tensors.values()))) > 1:
            raise RuntimeError
        torch.broadcast_shapes(*tensors.values())
    except RuntimeError:
        raise ValueError(f"expected {' and '.join(tensors)} of one shape, or with sizes of 1 to be stretched, got "
                         + " and ".join(map(str, tensors.values()))) from None


def _sizes(value, name):
    """The shape of floats, () of a number."""
    if isinstance(value, torch.Tensor) and value.dim():
        return tuple(floats(value, name, ...).shape)
    number(value, name, finite=False)
    return ()


def between(value, name, low=-math.inf, high=math.inf, *, above=-math.inf, below=math.inf):
    """A number, or floats all of whose entries lie in [low, high], more than ``above`` and less than ``below``."""
    if not isinstance(value, torch.Tensor) or not value.dim():
        return number(value, name, low, high, above=above, below=below)
    least, most = (float(end) for end in torch.aminmax(floats(value, name, ...).detach()))
    if not (low <= least and most <= high and above < least and most < below):
        ends = _range(low, high) if max(above, -below) == -math.inf else _open_range(above, below, low, high)
        raise ValueError(f"expected {name} {ends}, got values from {least:.6g} to {most:.6g}")
    return value


def expands(x, name, *shape):
    """A tensor that ``expand`` brings to ``shape`` without making that larger: a mask of one example for all, say."""
    try:
        return x.expand(shape) if isinstance(x, torch.Tensor) else x.shape
    except (RuntimeError, AttributeError):
        raise ValueError(f"expected {name} of shape {shape}, or sizes of 1, got {came(x)}") from None


def function(value, name):
    """Something that can be called."""
    if not callable(value):
        raise ValueError(f"expected {name} to be a function, got {came(value)}")
    return value


def finite(x, name):
    """No NaN and no infinity among the floats ``x``."""
    if not math.isfinite(x.detach().sum()) and not x.isfinite().all():   # a sum is the cheapest look at every number
        bad = f"{int(x.isnan().sum())} NaN and {int(x.isinf().sum())} infinite"
        raise ValueError(f"expected {name} to be finite, got {bad} of {x.numel()} numbers")
    return x


def no_nan(x, name):
    """No NaN among the floats ``x``; infinities may be honest answers, such as log 0."""
    if x.isnan().any():
        raise ValueError(f"expected {name} to be numbers, got {int(x.isnan().sum())} NaN of {x.numel()}")
    return x


def inside(x, name, low=-math.inf, high=math.inf):
    """Every entry of ``x`` lies in [low, high]; NaN lies nowhere."""
    least, most = (float(end) for end in torch.aminmax(x.detach()))
    if not (low <= least and most <= high):
        raise ValueError(f"expected {name} {_range(low, high)}, got values from {least:.6g} to {most:.6g}")
    return x


def probabilities(p, name, *wanted):
    """Rows of numbers that are not negative and sum to 1."""
    inside(floats(p, name, *wanted), name, 0, 1 + 1e-4)
    sums = p.detach().sum(-1)
    if not (sums - 1).abs().max() <= 1e-3:
        raise ValueError(f"expected {name} to sum to 1 over its last dimension, got sums from {sums.min():.6g} to "
                         f"{sums.max():.6g}")
    return p


def outcomes(**tensors):
    """Rows of probabilities ``(..., K)`` of one shape; a single row ``(K,)`` may stand beside many."""
    for name, p in tensors.items():
        probabilities(p, name, ..., "K")
    shapes = {tuple(p.shape) for p in tensors.values()}
    if len({shape[-1] for shape in shapes}) > 1 or len({shape for shape in shapes if len(shape) > 1}) > 1:
        raise ValueError(f"expected {' and '.join(tensors)} of one shape (..., K), or one a single row (K,), got "
                         + " and ".join(str(tuple(p.shape)) for p in tensors.values()))


def labels(y, n, n_classes=None, name="labels y"):
    """Class numbers ``(n,)`` of integers, each 0 … n_classes-1, as int64; any class number when that is None."""
    y = integers(y, name, n)
    most = math.inf if n_classes is None else n_classes - 1
    if len(y):
        inside(y, name, 0, most)
    return y


def order(rows, n, name="order"):
    """Positions 0 … n-1, each once in every row: integers ``(..., n)``, as int64."""
    rows = integers(rows, name, ..., n)
    if not torch.equal(rows.sort(-1).values, torch.arange(n, device=rows.device).expand_as(rows)):
        raise ValueError(f"expected {name} to hold each of 0 … {n - 1} once, got {rows.flatten()[:n].tolist()[:12]}")
    return rows


def came(value):
    """What came, in words."""
    if isinstance(value, torch.Tensor):
        return f"{_short(value)} of shape {tuple(value.shape)}" if value.ndim else f"{_short(value)} {value.item()}"
    words = repr(value)
    return f"{type(value).__name__} {words if len(words) <= 60 else words[:57] + '...'}"


# ---------------------------------------------------------------------------------------------------------- the words


def _short(x):
    return str(x.dtype).removeprefix("torch.")


def _is_scalar(value, floating):
    """A number in a 0-d tensor (or a NumPy scalar, which is a number already)."""
    if not isinstance(value, torch.Tensor) or value.ndim or value.dtype == torch.bool or value.is_complex():
        return False
    return floating is None or value.is_floating_point() == floating


def _fits(have, wanted):
    if not wanted:
        return True
    if 0 in have:
        return False
    if wanted[0] is ...:
        wanted = wanted[1:]
        have = have[max(len(have) - len(wanted), 0):]
    elif wanted[-1] is ...:
        wanted = wanted[:-1]
        have = have[: len(wanted)]
    return len(have) == len(wanted) and all(size == want or isinstance(want, str)
                                            for size, want in zip(have, wanted, strict=True))


def _words(wanted):
    if not wanted:
        return ""
    names = ["..." if want is ... else str(want) for want in wanted]
    return f" of shape ({', '.join(names)}{',' if len(names) == 1 else ''})"


def _range(low, high):
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        return f"from {low:g}"
    return f"from {low:g} to {high:g}" if low > -math.inf else f"up to {high:g}"


def _open_range(above, below, low, high):
    lower = f"above {above:g}" if above > -math.inf else f"at least {low:g}" if low > -math.inf else ""
    upper = f"below {below:g}" if below < math.inf else f"at most {high:g}" if high < math.inf else ""
    return " and ".join(filter(None, [lower, upper]))
