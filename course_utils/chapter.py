"""What the first cells of a chapter call: where to compute, how long, and how results are written down."""

import math

import torch
from IPython.display import display

BUDGETS = ("smoke", "class", "full")
METRICS_MIME = "application/vnd.course.metrics+json"


def pick_device(device="auto"):
    """``"auto"`` is CUDA where there is one, else the CPU; any other name is taken as it is.

    Raises ``ValueError`` for a CUDA device on a machine without one.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r} was asked for, but this machine has no CUDA device; use device='cpu' or 'auto'"
        )
    return chosen


def pick_budget(budget="auto", device="cpu"):
    """``"auto"`` is ``"full"`` on a GPU and ``"class"`` on a CPU; the others are smoke, class and full themselves."""
    if budget == "auto":
        return "full" if torch.device(device).type == "cuda" else "class"
    if budget not in BUDGETS:
        raise ValueError(f"budget={budget!r} is not known; use one of auto, {', '.join(BUDGETS)}")
    return budget


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
            if not math.isfinite(value):
                raise ValueError(f"{name} is {value}: not a finite number")
        values[name] = value
    width = max(map(len, values))
    lines = [
        f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}"
        for name, value in values.items()
    ]
    display({METRICS_MIME: values, "text/plain": "\n".join(lines)}, raw=True)
