"""What the first cells of a chapter call: where to compute, how long, and how results are written down."""

import math

import torch
from IPython.display import display

BUDGETS = ("smoke", "class", "full")
SEEDS = 2**32  # how many there are: scikit-learn takes no larger ones
METRICS_MIME = "application/vnd.course.metrics+json"


def pick_device(device="auto"):
    """``"auto"`` is CUDA where there is one, else the CPU. Any other name is tried: a number is put there and read.

    Raises ``ValueError`` for a name that torch does not know (``"gpu"``), for a device that this machine has not, and
    for one that keeps no numbers (``"meta"``).
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(device, str | torch.device):
        raise ValueError(f"device is the name of a device, such as 'auto', 'cpu' or 'cuda:1', not {device!r}")
    try:
        chosen = torch.device(device)
        torch.ones(1, device=chosen).item()
    except Exception as error:  # torch raises a dozen kinds, from AssertionError to ModuleNotFoundError
        why = str(error).strip().partition("\n")[0][:200]
        raise ValueError(
            f"device={str(device)!r} cannot be used on this machine ({why}); use device='cpu' or 'auto', or a GPU that "
            "torch finds: 'cuda', 'cuda:1', 'mps'"
        ) from error
    return chosen


def pick_budget(budget="auto", device="cpu"):
    """``"auto"`` is ``"full"`` on CUDA and ``"class"`` elsewhere; the others are smoke, class and full themselves."""
    if budget == "auto":
        return "full" if str(device).partition(":")[0] == "cuda" else "class"
    if budget not in BUDGETS:
        raise ValueError(f"budget={budget!r} is not known; use one of auto, {', '.join(BUDGETS)}")
    return budget


def pick_seed(seed=0):
    """A whole number from 0 to 2³² − 1: what torch, NumPy and scikit-learn all take. ``ValueError`` for any other."""
    whole = int(seed) if isinstance(seed, float) and seed.is_integer() else seed
    if isinstance(whole, bool) or not isinstance(whole, int) or not 0 <= whole < SEEDS:
        raise ValueError(f"seed must be a whole number from 0 to {SEEDS - 1}, got {seed!r}")
    return whole


def record(**numbers):
    """Write results into the cell's output: a line each for the reader, and a machine-readable copy for ``course run``.

    Values are numbers (tensors with one entry are fine) or short strings. Raises ``ValueError`` for anything else and
    for a number that is not finite: a result that is NaN is a broken experiment, not a result.
    """
    if not numbers:
        raise ValueError("record() was given no number: say record(nll=...)")
    values = {}
    for name, value in numbers.items():
        if isinstance(value, torch.Tensor):
            if value.numel() != 1:
                raise ValueError(f"{name} has shape {tuple(value.shape)}; record one number at a time")
            value = value.item()
        if not isinstance(value, (str, bool)):
            if not isinstance(value, (int, float)):
                try:
                    value = value.item()  # a NumPy scalar
                except (AttributeError, ValueError) as error:
                    raise ValueError(f"{name} is a {type(value).__name__}; record takes numbers and strings") from error
            try:
                finite = math.isfinite(value)
            except (TypeError, OverflowError) as error:  # complex, or a whole number beyond every float
                raise ValueError(f"{name} is a {type(value).__name__} that is no finite float") from error
            if not finite:
                raise ValueError(f"{name} is {value}: not a finite number")
        values[name] = value
    width = max(map(len, values))
    lines = [
        f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}"
        for name, value in values.items()
    ]
    display({METRICS_MIME: values, "text/plain": "\n".join(lines)}, raw=True)
