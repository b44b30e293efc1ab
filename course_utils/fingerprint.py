"""A fingerprint of everything a function reads, so that a stored result is used only when nothing has changed.

``fingerprint(train)`` covers the function's own code, the values of the names it uses (numbers, tensors, networks with
their weights, data sets) and, for whatever it uses of this package, the source files with the files they import.
Two fingerprints that agree mean: same code, same inputs. Comments and line numbers of notebook code do not count.
"""

import dataclasses
import dis
import functools
import hashlib
import inspect
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.distributions import Distribution

SIMPLE = bool, int, float, complex, str, bytes, range, slice, Path, np.generic, torch.dtype, torch.device
PACKAGE = __name__.partition(".")[0]


def fingerprint(*values):
    """Hexadecimal SHA-256 of values of any kind; ValueError for one that cannot be repeated (a running generator)."""
    reader = _Reader()
    for value in values:
        reader.read(value)
    return reader.hash.hexdigest()


class _Reader:
    """Feeds values to one hash, each object once."""

    def __init__(self):
        self.hash, self.seen = hashlib.sha256(), {}

    def write(self, *words):
        for word in words:
            self.hash.update(repr(word).encode() + b"\0")

    def read(self, value, name=""):
        if id(value) in self.seen:
            return self.write("again", self.seen[id(value)][0])
        if value is None or isinstance(value, SIMPLE):
            return self.write(type(value).__name__, value)
        self.seen[id(value)] = len(self.seen), value  # held, so that its id stays its own
        self.write(type(value).__qualname__)
        match value:
            case torch.Tensor():
                self.write(tuple(value.shape), value.dtype, value.device.type)
                self.hash.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
            case np.ndarray():
                self.write(value.shape, value.dtype.str)
                self.hash.update(value.tobytes())
            case nn.Module():
                self.network(value)
            case torch.optim.Optimizer():
                self.write(repr(value))
            case types.ModuleType():
                self.source(value.__name__)
            case types.FunctionType():
                self.function(value)
            case types.MethodType():
                self.read(value.__func__)
                self.read(value.__self__)
            case functools.partial():
                self.all_of([value.func, value.args, value.keywords])
            case type():
                self.class_(value)
            case dict():
                self.all_of(item for pair in value.items() for item in pair)
            case set() | frozenset():
                self.write(sorted(map(repr, value)))
            case list() | tuple():
                self.write(len(value))
                self.all_of(value)
            case Iterator() | torch.Generator() | np.random.Generator() | np.random.RandomState():
                raise ValueError(f"{name or 'a value'} ({type(value).__name__}) moves on while it is used, which a "
                                 "cache cannot repeat: make it inside the function that trains")
            case _:
                self.object_(value)

    def all_of(self, values):
        for value in values:
            self.read(value)

    def named(self, values):
        for name, value in sorted(values.items()):
            self.write(name)
            self.read(value, name)

    def network(self, model):
        self.write(repr(model))
        for name, module in model.named_modules():
            self.write(name)
            self.read(type(module))
            self.named({key: value for key, value in vars(module).items() if not key.startswith("_")})
        self.named(dict(model.named_parameters()) | dict(model.named_buffers()))

    def object_(self, value):
        """Of a library's object its description counts; of data, distributions and our own the attributes."""
        self.read(type(value))
        if dataclasses.is_dataclass(value):
            self.named({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
        elif isinstance(value, Distribution) or not is_library(type(value).__module__):
            self.named(getattr(value, "__dict__", {}))
        else:
            words = repr(value)
            self.write(getattr(value, "__qualname__", ""), "" if " at 0x" in words else words)
            self.read(getattr(value, "__wrapped__", None))  # what functools.cache and the like stand around

    def class_(self, cls):
        self.write(cls.__module__, cls.__qualname__)
        for base in cls.__mro__:
            if of_package(base.__module__):
                self.source(base.__module__)
            elif base.__module__ == "__main__":  # a class written in the notebook
                self.all_of(member for _, member in sorted(vars(base).items()) if inspect.isfunction(member))

    def function(self, function):
        self.write(function.__module__, function.__qualname__)
        if is_library(function.__module__):
            return
        names = self.code(function.__code__)
        self.all_of([function.__defaults__, function.__kwdefaults__])
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if cell != types.CellType():  # else a variable that has no value yet
                self.read(cell.cell_contents, name)
        if of_package(function.__module__):
            self.source(function.__module__)
        else:
            self.named({name: function.__globals__[name] for name in names & function.__globals__.keys()})

    def code(self, code):
        """Write what the code does, whatever its layout; return the global names it uses, inner functions included."""
        self.write(code.co_code, code.co_names, code.co_varnames)
        names = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                names |= self.code(constant)
            else:
                self.write(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
        return names

    def source(self, module_name):
        """Write the source of a module of this package and of every module of the package that it uses."""
        if not of_package(module_name):
            return self.write(module_name)
        for name in sorted(imports(module_name)):
            if name not in self.seen:
                self.seen[name] = len(self.seen), name
                self.write(name)
                self.hash.update(Path(sys.modules[name].__file__).read_bytes())


def of_package(module_name):
    return (module_name or "").partition(".")[0] == PACKAGE


def is_library(module_name):
    """Whether a module is an installed one, whose version stands for its code, rather than the reader's own."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return module_name != "__main__" and (file is None or "site-packages" in file or file.startswith(sys.base_prefix))


def imports(module_name):
    """Names of the modules of this package that a module of it reaches through its global names, itself included."""
    reached, waiting = set(), [module_name]
    while waiting:
        name = waiting.pop()
        if name in reached or not of_package(name) or name not in sys.modules:
            continue
        reached.add(name)
        for value in vars(sys.modules[name]).values():
            if not inspect.ismodule(value):
                waiting.append(str(getattr(value, "__module__", "")))
            elif not value.__name__.startswith(name + "."):  # which submodules a package shows depends on who imported
                waiting.append(value.__name__)
    return reached
