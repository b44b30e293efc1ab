"""The student's function as the judge sees it: called here, computed in the sandbox, compared here.

:func:`course_utils.exercises.judge` gets a :class:`Function`. Its arguments cross the wall as raw bytes, its result
comes back so, and a gradient that the judge asks for is fetched in the same way. A model that a student built stands
here as a :class:`Model`: its weights are ours, its methods run over there with the weights as they are now, so that a
trial trains and measures it as it does any other model. What comes back may be a lie, but it is only numbers.
"""

import builtins
import socket
import time

import torch

from course_utils.commands.grade import wire

NAMES = {name: kind for name, kind in vars(builtins).items()
         if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)}  # fmt: skip
SIMPLE = ("NotImplementedError", "ArithmeticError", "ZeroDivisionError", "OverflowError", "FloatingPointError",
          "ValueError", "TypeError", "RuntimeError", "IndexError", "KeyError", "AttributeError", "NameError",
          "SyntaxError", "ImportError", "ModuleNotFoundError", "AssertionError", "RecursionError", "MemoryError",
          "OSError", "StopIteration")  # fmt: skip


class Ended(BaseException):
    """The probe came to no end of its own: ``state`` says how. No ``Exception``: the judge must not take it for one."""

    def __init__(self, state, note=""):
        super().__init__(state)
        self.state, self.note = state, note


class Other:
    """Something that stayed in the sandbox because it is neither number, tensor, function nor model."""


class Peer:
    """The conversation with one probe, until ``deadline`` (of ``time.monotonic``)."""

    def __init__(self, sock, deadline, seed=None):
        self.sock, self.deadline, self.seed = sock, deadline, seed
        self.number, self.functions, self.error, self.odd = 0, [], None, False

    def load(self, cells, seed):
        """Run cells there, as ``(name, source)``. Raises what the student's code raised."""
        self.exchange({"op": "load", "cells": cells, "seed": seed}, [])

    def exchange(self, header, blobs):
        """Send a request, serve what the other side asks meanwhile, and return its reply."""
        try:
            self.sock.settimeout(max(0.01, self.deadline - time.monotonic()))
            wire.send(self.sock, header, blobs)
            while True:
                self.sock.settimeout(max(0.01, self.deadline - time.monotonic()))
                reply, came = wire.receive(self.sock)
                if "callback" not in reply:
                    break
                self.answer(reply, came)
        except TimeoutError:
            raise Ended("timeout") from None
        except (wire.Closed, OSError):
            raise Ended("crashed") from None
        except wire.Broken as error:
            raise Ended("bad_type", str(error)) from None
        if "error" in reply:
            self.error = told(reply["error"])
            raise as_exception(self.error)
        return reply, came

    def answer(self, reply, came):
        """Call a function of ours that the student's code calls."""
        try:
            function = self.functions[reply["callback"]]
        except (IndexError, TypeError):
            raise wire.Broken("no such function") from None
        args = wire.decode(reply["args"], came, self.theirs)
        if type(args) is not tuple:
            raise wire.Broken("arguments are no tuple")
        blobs = []
        try:
            value = wire.encode(function(*args), blobs, self.ours)
        except (Exception, SystemExit) as error:  # odd arguments: to the student's code the function gave nothing
            value, blobs = None, []
            self.error = {"type": type(error).__name__, "line": 0, "cell": "", "bare": False, "text": ""}
        wire.send(self.sock, {"value": value}, blobs)

    def ours(self, value):
        """How something of ours that is neither number nor tensor is named over there."""
        if isinstance(value, Function | Model):
            return {"is": "back", "handle": value.target["handle"]}
        if not callable(value):
            raise ValueError(f"a {type(value).__name__} cannot be sent to a student's function")
        self.functions.append(value)
        return {"is": "theirs", "handle": len(self.functions) - 1}

    def theirs(self, described):
        """Something that stayed over there, as we see it."""
        if described["is"] == "module":
            return Model(self, described)
        if described["is"] == "function":
            return Function(self, {"handle": int(described["handle"])})
        self.odd = True
        name = str(described.get("type", ""))
        return type(name if name.isidentifier() else "object", (Other,), {})()

    def call(self, target, args, model=None, write_back=False):
        """Call something over there with these arguments. Gradients reach them, and the weights of ``model``."""
        self.number += 1
        number, blobs = self.number, []
        weights = [] if model is None else list(model.weights)
        graph = torch.is_grad_enabled()
        inputs = [t for t in [*tensors(args), *weights] if t.requires_grad] if graph else []
        header = {"op": "call", "number": number, "gradients": graph, "args": wire.encode(args, blobs, self.ours),
                  "default": str(torch.get_default_dtype()).removeprefix("torch.")}  # fmt: skip
        header["target"] = dict(target) if model is None else target | model.state(blobs)
        if self.seed is None:  # of a function that draws, the judge's own random numbers are wanted
            header["random"] = wire.encode(torch.get_rng_state(), blobs, self.ours)
        reply, came = self.exchange(header, blobs)
        try:
            if write_back:
                for place, value in reply.get("changed", ()):
                    _write_back(tensors(args)[place], wire.decode(value, came, self.theirs))
            if "random" in reply and self.seed is None:
                _take_random(wire.decode(reply["random"], came, self.theirs))
            result = wire.decode(reply["result"], came, self.theirs)
            sent = wire.gradients(reply["result"])
        except (wire.Broken, KeyError, TypeError, IndexError) as error:
            raise Ended("bad_type", str(error)) from None
        if not (inputs and any(sent)):
            return result
        outputs = [t for t, grad in zip(tensors(result), sent, strict=True) if grad]
        if any(not (o.is_floating_point() or o.is_complex()) for o in outputs):
            raise Ended("bad_type", "a gradient through whole numbers")
        return _replaced(result, iter(_Through.apply(self, number, len(inputs), *inputs, *outputs)), iter(sent))

    def slope(self, number, weights, inputs):
        """Gradients by the inputs of an earlier call; None where it does not depend on one."""
        blobs = []
        header = {"op": "slope", "number": number, "weights": [wire.encode(w, blobs, self.ours) for w in weights]}
        reply, came = self.exchange(header, blobs)
        try:
            slopes = [wire.decode(part, came, self.theirs) for part in reply["result"]]
            for slope, shape in zip(slopes, inputs, strict=True):
                if slope is not None and (type(slope) not in wire.TENSORS or tuple(slope.shape) != shape):
                    raise wire.Broken("a gradient has another shape than its input")
            return slopes
        except (wire.Broken, KeyError, TypeError, ValueError) as error:
            raise Ended("bad_type", str(error)) from None


class _Through(torch.autograd.Function):
    """Lets gradients pass from what came back to what was sent, by asking the sandbox for them."""

    @staticmethod
    def forward(ctx, peer, number, n_inputs, *both):
        ctx.peer, ctx.number = peer, number
        ctx.inputs = [(tuple(t.shape), t.dtype) for t in both[:n_inputs]]
        ctx.n_outputs = len(both) - n_inputs
        return tuple(t.clone() for t in both[n_inputs:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads):
        slopes = ctx.peer.slope(ctx.number, grads, [shape for shape, _ in ctx.inputs])
        slopes = [s if s is None else s.to(dtype) for s, (_, dtype) in zip(slopes, ctx.inputs, strict=True)]
        return None, None, None, *slopes, *([None] * ctx.n_outputs)


class Function:
    """A function that lives in the sandbox."""

    def __init__(self, peer, target, write_back=False):
        self.peer, self.target, self.write_back = peer, target, write_back

    def __call__(self, *args):
        return self.peer.call(self.target, args, write_back=self.write_back)


class Model(torch.nn.Module):
    """A model that lives in the sandbox. Its weights stand here; a call sends those that have changed."""

    def __init__(self, peer, described):
        super().__init__()
        self._peer, self.target, self._sent = peer, {"handle": int(described["handle"])}, []
        self._methods = [name for name in described["methods"] if type(name) is str and name.isidentifier()]
        total = 0
        for i, (dtype, shape, grad, blob) in enumerate(described["weights"]):
            value = wire.tensor({"dtype": dtype, "shape": shape, "blob": 0}, [bytes.fromhex(blob)])
            total += value.numel()
            self.register_parameter(f"weight_{i}", torch.nn.Parameter(value, requires_grad=grad is True))
            self._sent.append(wire.raw(value))
        if total > 50_000_000:
            raise wire.Broken("a model of that many weights")
        self.training = described["training"] is not False

    @property
    def weights(self):
        return list(self._parameters.values())

    def state(self, blobs):
        """The weights that changed since they were last sent, and the mode, as part of a request."""
        changed = []
        for i, weight in enumerate(self.weights):
            now = wire.raw(weight)
            changed.append(None if now == self._sent[i] else wire.encode(weight.detach(), blobs, None))
            self._sent[i] = now
        return {"weights": changed, "training": self.training}

    def forward(self, *args):
        return self._peer.call(self.target, args, model=self)

    def __getattr__(self, name):
        if name in self.__dict__.get("_methods", ()):
            return lambda *args: self._peer.call(self.target | {"method": name}, args, model=self)
        return super().__getattr__(name)


def tensors(value):
    """The tensors in nested tuples and lists, in order."""
    if type(value) in wire.TENSORS:
        return [value]
    return [t for part in value for t in tensors(part)] if type(value) in (tuple, list) else []


def _replaced(value, new, grads):
    """The value with the tensors that gradients pass replaced, in order."""
    if type(value) in wire.TENSORS:
        return next(new) if next(grads) else value
    if type(value) in (tuple, list):
        return type(value)(_replaced(part, new, grads) for part in value)
    return value


def _write_back(mine, theirs):
    """Show the judge that an input was changed in place."""
    if type(theirs) in wire.TENSORS and theirs.shape == mine.shape and theirs.dtype == mine.dtype:
        with torch.no_grad():
            mine.detach().copy_(theirs)
    elif mine.numel() and mine.is_floating_point():
        mine.detach().fill_(float("nan"))


def _take_random(state):
    """Go on with the random numbers where the student's function left off."""
    try:
        torch.set_rng_state(state)
    except (RuntimeError, TypeError):
        raise wire.Broken("no state of random numbers") from None


def told(described):
    """What the sandbox says about an exception, in a form that can be relied on."""
    described = described if isinstance(described, dict) else {}
    line = described.get("line")
    return {"type": _word(described.get("type")), "base": _word(described.get("base")),
            "text": str(described.get("text", ""))[:300], "bare": described.get("bare") is True,
            "cell": str(described.get("cell", ""))[:80], "line": line if type(line) is int else 0}  # fmt: skip


def _word(text):
    return text if isinstance(text, str) and text.isidentifier() and len(text) <= 80 else "Exception"


def as_exception(error):
    """An exception of ours that stands for one that was raised over there."""
    kind = NAMES[error["base"]] if error["base"] in SIMPLE else RuntimeError
    named = type(error["type"], (kind,), {}) if error["type"] != kind.__name__ else kind
    return named() if error["bare"] else named(error["text"])


def pair(kind=socket.SOCK_STREAM):
    """Two ends of a line, for us and for the sandbox."""
    return socket.socketpair(socket.AF_UNIX, kind)
