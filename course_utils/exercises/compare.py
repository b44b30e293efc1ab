"""Comparing an answer with the expected one, and saying how they differ in plain words.

Answers are tensors, numbers, or tuples of them, and nothing else: an object that claims to equal everything is of the
wrong type. Where an input asks for a gradient (``requires_grad``), the derivatives by it are compared as well.
"""

from dataclasses import dataclass

import numpy as np
import torch

TENSORS = (torch.Tensor, torch.nn.Parameter)
NUMBERS = (bool, int, float)
SHOWN = 12  # a tensor with more entries is described, not written out


@dataclass(frozen=True)
class Difference:
    """How an answer differs: a sentence that follows "For p = … ".

    Where single entries are wrong, ``index`` is the first of them in an answer of this ``shape``, and ``entry`` the
    same sentence about that entry alone. Where type or shape are wrong, ``form`` says what helps.
    """

    text: str
    entry: str = ""
    index: tuple = ()
    shape: tuple = ()
    form: str = ""


def plain(value):
    """A number in Python's own type where NumPy or torch hold a single one; anything else as it is."""
    if isinstance(value, np.generic) or (type(value) in TENSORS and value.ndim == 0):
        return value.item()
    return value


def copied(value):
    """A copy that can be changed and leaves ``value`` as it is; looks into tuples, lists and dicts.

    A gradient that reaches the copy goes on to ``value``: there the answer's and the expected one can be compared.
    """
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, tuple | list):
        return type(value)(copied(v) for v in value)
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return value


def changed(value, original):
    """Whether a tensor, list or dict inside ``value`` no longer equals ``original``."""
    if isinstance(original, torch.Tensor):
        same = isinstance(value, torch.Tensor) and value.shape == original.shape and value.dtype == original.dtype
        return not (same and torch.equal(torch.nan_to_num(value.detach()), torch.nan_to_num(original.detach())))
    if isinstance(original, tuple | list):
        return len(value) != len(original) or any(changed(v, o) for v, o in zip(value, original, strict=True))
    if isinstance(original, dict):
        return value.keys() != original.keys() or any(changed(value[k], original[k]) for k in original)
    return False


def difference(answer, expected, tolerance, what="the answer"):
    """``None`` if the answer is within ``tolerance * (1 + |expected|)``, else a :class:`Difference`."""
    if isinstance(expected, tuple | list):
        if type(answer) not in (tuple, list) or len(answer) != len(expected):
            form = f"Return {len(expected)} values, separated by a comma."
            return Difference(f"{what} was {kind_of(answer)}, expected {len(expected)} values.", form=form)
        parts = (
            difference(a, e, tolerance, f"value {i} of {len(expected)} in {what}")
            for i, (a, e) in enumerate(zip(answer, expected, strict=True), 1)
        )
        return next((part for part in parts if part is not None), None)
    if not isinstance(expected, torch.Tensor):
        expected = torch.tensor(expected, dtype=torch.float64 if isinstance(expected, float) else None)
    if isinstance(answer, np.generic):
        answer = answer.item()
    if type(answer) in NUMBERS and expected.ndim == 0:  # 6 stands for 6.0, True for neither
        as_float = type(answer) is float or (type(answer) is int and expected.is_floating_point())
        answer = torch.tensor(answer, dtype=torch.float64 if as_float else None)
    if type(answer) not in TENSORS or answer.layout is not torch.strided:
        wanted = "a number" if expected.ndim == 0 else "a torch.Tensor"
        return Difference(f"{what} was {kind_of(answer)}, expected {wanted}.", form=_way_to_tensor(answer))
    found = _tensor_difference(answer.detach(), expected.detach(), tolerance, what)
    return found or _gradient_difference(answer, expected, tolerance, what)


def _tensor_difference(answer, expected, tolerance, what):
    if answer.shape != expected.shape:
        said = f"{what} had the shape {tuple(answer.shape)}, expected {tuple(expected.shape)}."
        return Difference(said, form=_way_to_shape(answer.shape, expected.shape))
    if _kind(answer.dtype) != _kind(expected.dtype):
        said = f"{what} held {_kind(answer.dtype)} ({answer.dtype}), expected {_kind(expected.dtype)}."
        return Difference(said, form="A comparison gives True/False, .to(x) makes it numbers of the kind of x.")
    if answer.device != expected.device:
        said = f"{what} was on the device {answer.device}, expected {expected.device} as the input is."
        return Difference(said, form="Make new tensors where the input is: torch.zeros_like(x), or device=x.device.")
    dtype = torch.promote_types(answer.dtype, expected.dtype)
    a, e = answer.to(dtype), expected.to(dtype)
    wrong = ~torch.isclose(a, e, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    place = f"entry [{', '.join(map(str, index))}] of {what}"
    entry = f"{place} was {_pair(a[index], e[index])} ({int(wrong.sum())} of {a.numel()} wrong)."
    whole = f"{what} was {_pair(a, e)}." if expected.numel() <= SHOWN // 2 else entry
    return Difference(whole, entry, index, tuple(expected.shape))


def _way_to_tensor(answer):
    if isinstance(answer, np.ndarray):
        return "Stay with torch's own operations; torch.from_numpy(...) turns an array back into a tensor."
    if isinstance(answer, list | tuple):
        return "Put them together with torch.stack(...) or torch.tensor(...)."
    return "Add a `return`." if answer is None else "Return the tensor itself."


def _way_to_shape(shape, expected):
    if not shape and expected:
        return "Something was summed or averaged over every dimension. Name the one that should go, as in .sum(1)."
    if len(shape) > len(expected):
        return "A dimension is left over: sum over it, or take it away with .squeeze(...)."
    return "Look at the shapes along the way: print(x.shape)."


def _gradient_difference(answer, expected, tolerance, what):
    """The same for the derivatives of the sum of all entries by the inputs that ask for a gradient."""
    inputs = _inputs_behind(expected)
    if not inputs:
        return None
    wanted = torch.autograd.grad(expected.sum(), inputs, retain_graph=True)
    try:
        sent = torch.autograd.grad(answer.sum(), inputs, retain_graph=True, allow_unused=True)
    except RuntimeError:  # no graph at all, or one that was used up or overwritten
        sent = [None]
    if any(s is None for s in sent):
        return Difference(f"{what} had the right values, but no gradient can pass back through it to the input.")
    parts = zip(sent, wanted, strict=True)
    found = (_tensor_difference(s, w, tolerance, f"the derivative of the sum of {what}") for s, w in parts)
    return next((part for part in found if part is not None), None)


def _inputs_behind(tensor):
    """The tensors that ask for a gradient and from which ``tensor`` was computed."""
    nodes = [tensor.grad_fn] if tensor.grad_fn is not None else []
    for node in nodes:  # the list grows until the graph has been walked to its ends
        nodes += [n for n, _ in node.next_functions if n is not None and n not in nodes]
    return list(dict.fromkeys(node.variable for node in nodes if hasattr(node, "variable")))


def _pair(answer, expected):
    digits = next((d for d in (5, 9) if _text(answer, d) != _text(expected, d)), 17)
    return f"{_text(answer, digits)}, expected {_text(expected, digits)}"


def show(value, name, difference=None):
    """``"p = [0.1, 0.9]"``: an input as a student can read and type it, with all digits that make it this number.

    Of a long tensor only the row that belongs to the first wrong entry: its leading axes are those of the answer.
    """
    if isinstance(value, torch.Tensor) and value.numel() > SHOWN:
        rows = difference.index[: value.ndim - 1] if difference else ()
        if rows and value.shape[: len(rows)] == difference.shape[: len(rows)] and value[rows].numel() <= SHOWN:
            return f"{name}[{', '.join(map(str, rows))}] = {_text(value[rows])}"
        return f"{name} of shape {tuple(value.shape)}"
    if isinstance(value, torch.Tensor | bool | int | float):
        return f"{name} = {_text(value)}"
    if value is None or isinstance(value, str):
        return f"{name} = {value!r}"
    if isinstance(value, tuple | list) and all(isinstance(v, bool | int | float) for v in value):
        return f"{name} = {list(value)}"
    return f"{name} (a {type(value).__name__})"


def _text(value, digits=None):
    """A number or a nested list of them; without ``digits`` as many as it takes to tell it from its neighbours."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, list | np.ndarray):
        return f"[{', '.join(_text(v, digits) for v in value)}]"
    if isinstance(value, float | np.floating):
        text = str(value) if digits is None else f"{value:.{digits}g}"
        return f"{text}.0" if text.lstrip("-").isdigit() else text
    return str(value)


def _kind(dtype):
    if dtype == torch.bool:
        return "True/False values"
    if dtype.is_complex:
        return "complex numbers"
    return "floating-point numbers" if dtype.is_floating_point else "whole numbers"


def kind_of(value):
    """What something is, in words, without trusting its ``repr``."""
    if value is None:
        return "None (is a `return` missing?)"
    if type(value) in (tuple, list):
        return f"{len(value)} values in a {type(value).__name__}"
    if type(value) in TENSORS and value.layout is not torch.strided:
        return f"a tensor stored as {value.layout}"
    if type(value) in TENSORS:
        return f"one tensor of shape {tuple(value.shape)}"
    article = "an" if type(value).__name__[:1].lower() in "aeiou" else "a"
    return f"{article} {type(value).__name__}"
