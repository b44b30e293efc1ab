"""What crosses the wall of the sandbox: frames of JSON and raw bytes, and nothing that is executed when it is read.

The same file is used on both sides. A frame is a JSON header and a list of byte strings; a tensor is its dtype, its
shape and its bytes. Nothing is pickled, so a frame can be wrong, too long or full of lies, but it cannot act.
"""

import json
import math
import struct

import numpy as np
import torch

PLAIN = (bool, int, float, str)
TENSORS = (torch.Tensor, torch.nn.Parameter)
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.complex128)}  # fmt: skip
MAX_FRAME = 256 * 2**20  # bytes of one frame
MAX_BLOBS = 4_096
MAX_DEPTH = 20  # tuples in tuples
LONGEST = 100_000  # characters of a text, digits of a number, entries of a tuple


class Broken(Exception):
    """What came is no frame, or no value that may cross."""


class Closed(Broken):
    """The other side has gone."""


def send(sock, header, blobs=()):
    """Write one frame."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    sock.sendall(b"".join([struct.pack(">I", len(text)), text, *blobs]))


def receive(sock, limit=MAX_FRAME):
    """``(header, blobs)`` of the next frame. :class:`Broken` for anything else, :class:`Closed` at the end."""
    (length,) = struct.unpack(">I", _exactly(sock, 4))
    if length > limit:
        raise Broken("a frame is too long")
    try:
        header = json.loads(_exactly(sock, length))
        lengths = header["blobs"]
        if not all(type(n) is int and n >= 0 for n in lengths) or len(lengths) > MAX_BLOBS or sum(lengths) > limit:
            raise Broken("a frame is too long")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Broken("a frame is no JSON object with blobs") from error
    return header, [_exactly(sock, n) for n in lengths]


def _exactly(sock, n):
    parts = []
    while n:
        part = sock.recv(min(n, 2**20))
        if not part:
            raise Closed("the other side has gone")
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def encode(value, blobs, other, depth=0):
    """A value as JSON; bytes go to the list ``blobs``; ``other(value)`` describes what is neither number nor tensor."""
    if value is None:
        return None
    if isinstance(value, np.generic) and np.issubdtype(value.dtype, np.number) or isinstance(value, np.bool_):
        value = value.item()
    if type(value) in PLAIN:
        return {"is": type(value).__name__, "value": str(value)[:LONGEST]}
    if isinstance(value, torch.Size):
        value = tuple(value)
    if type(value) in (tuple, list) and depth < MAX_DEPTH and len(value) <= LONGEST:
        parts = [encode(part, blobs, other, depth + 1) for part in value]
        return {"is": type(value).__name__, "parts": parts}
    if type(value) is np.ndarray and value.dtype.kind in "fiub" and value.dtype.isnative:
        try:
            value = torch.from_numpy(np.ascontiguousarray(value))
        except TypeError:  # a kind of number that torch lacks
            return other(value)
    if type(value) in TENSORS and value.layout is torch.strided and value.device.type == "cpu" and name_of(value):
        blobs.append(raw(value))
        return {"is": "tensor", "dtype": name_of(value), "shape": list(value.shape), "blob": len(blobs) - 1,
                "grad": value.requires_grad}  # fmt: skip
    return other(value)


def name_of(tensor):
    """The name of a tensor's dtype, "" where it may not cross."""
    name = str(tensor.dtype).removeprefix("torch.")
    return name if name in DTYPES else ""


def raw(tensor):
    """The bytes of a tensor's entries in reading order."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def tensor(described, blobs):
    """The tensor that a description and its bytes stand for. :class:`Broken` where they do not fit."""
    dtype, shape, blob = DTYPES[described["dtype"]], described["shape"], blobs[described["blob"]]
    if len(shape) > 16 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise Broken("a shape is no list of sizes")
    if math.prod(shape) * dtype.itemsize != len(blob):
        raise Broken("a tensor's bytes do not fit its shape")
    if not blob:
        return torch.empty(shape, dtype=dtype)
    if dtype is torch.bool:
        blob = bytes(map(bool, blob))  # any other byte would be no truth value
    return torch.frombuffer(bytearray(blob), dtype=dtype).reshape(shape)


def decode(described, blobs, other, depth=0):
    """The value that :func:`encode` described. ``other(described)`` makes what is neither number nor tensor."""
    try:
        if described is None:
            return None
        kind = described["is"]
        if kind == "tensor":
            return tensor(described, blobs)
        if kind in ("tuple", "list") and depth < MAX_DEPTH:
            parts = [decode(part, blobs, other, depth + 1) for part in described["parts"]]
            return tuple(parts) if kind == "tuple" else parts
        if kind in ("bool", "int", "float", "str"):
            text = described["value"]
            if type(text) is not str or len(text) > LONGEST:
                raise Broken("a number is not written as one")
            return {"bool": lambda t: t == "True", "int": _int, "float": float, "str": str}[kind](text)
        return other(described)
    except (KeyError, TypeError, IndexError, ValueError, RuntimeError, RecursionError, AttributeError) as error:
        raise Broken(f"no value: {type(error).__name__}") from error


def gradients(described):
    """Of each tensor in an encoded value, in order, whether gradients are wanted there."""
    if described is None:
        return []
    if described["is"] == "tensor":
        return [described.get("grad") is True]
    return [wanted for part in described.get("parts", ()) for wanted in gradients(part)]


def _int(text):
    if len(text) > 4_000:
        raise ValueError("a whole number of that many digits")
    return int(text)
