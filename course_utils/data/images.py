"""Image data sets as tensors: ``load(name)`` gives train, valid and test, each one uint8 tensor.

Splits are fixed and disjoint.  ``n`` and ``seed`` choose among the training images only, so results on valid and test
compare across sizes and seeds.  Nothing is downloaded unless :func:`download` is called.
"""

from __future__ import annotations

import gzip
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from course_utils import expect
from course_utils.data import handwriting
from course_utils.data.names import NAMES, WITHOUT_FILES

_DIGITS = tuple("0123456789")
_IDX_SETS = {  # name -> folder that torchvision uses, classes
    "mnist": ("MNIST", _DIGITS),
    "fashion_mnist": ("FashionMNIST", ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt",
                                       "trainers", "bag", "boot")),
    "kmnist": ("KMNIST", ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")),
}  # fmt: skip
_CIFAR_FOLDER = "cifar-10-batches-py"
_CIFAR_CLASSES = ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")
HANDWRITING_SIZES = {"train": 10_000, "valid": 1_000, "test": 2_000}


class MissingData(FileNotFoundError):
    """A data set is not on disk; the message says which, where it was looked for and what to do."""


class DamagedData(OSError):
    """A file of a data set cannot be read; the message says which and how to get it again."""


@dataclass(frozen=True)
class Split:
    """``images`` uint8 (N,C,H,W), 0 to 255; ``labels`` int64 (N,); ``factors`` float32 (N,F), or None if unknown."""

    images: Tensor
    labels: Tensor
    factors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> Split:
        factors = None if self.factors is None else self.factors.to(device)
        return Split(self.images.to(device), self.labels.to(device), factors)

    def __getitem__(self, index) -> Split:
        return Split(self.images[index], self.labels[index], None if self.factors is None else self.factors[index])


@dataclass(frozen=True)
class Data:
    """A data set.  ``levels`` is how many grey values a pixel can take, evenly spaced from 0 to 255."""

    name: str
    train: Split
    valid: Split
    test: Split
    levels: int
    classes: tuple[str, ...]
    factor_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return tuple(self.train.images.shape[1:])

    def to(self, device: torch.device | str) -> Data:
        """The same data on ``device``, all three splits."""
        return replace(self, train=self.train.to(device), valid=self.valid.to(device), test=self.test.to(device))


def load(name: str, n: int | None = None, seed: int = 0, size: int | None = None, data_dir: str | Path = "") -> Data:
    """The data set ``name``, one of :data:`NAMES`.

    ``n`` training images chosen by ``seed`` (all when None; ``handwriting`` draws as many as asked for); images are
    ``size`` x ``size`` pixels when given.  ``data_dir``: where files are looked for, see :func:`default_data_dir`.
    Raises MissingData, DamagedData, or ValueError for an unknown name or an impossible ``n`` or ``size``.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(NAMES)}")
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1 (or None for all training images), got {n}")
    if size is not None and not 8 <= size <= 64:
        raise ValueError(f"size must be 8 to 64 pixels (or None for the data set's own), got {size}")
    if name == "handwriting":
        return _load_handwriting(n, seed, size or 28)
    data = _load_digits() if name == "digits" else _load_files(name, Path(data_dir or default_data_dir()))
    if n is not None:
        if n > len(data.train):
            raise ValueError(f"{name} has {len(data.train)} training images, n = {n} is too many")
        generator = torch.Generator().manual_seed(seed)
        data = replace(data, train=data.train[torch.randperm(len(data.train), generator=generator)[:n]])
    if size is not None and data.shape[1:] != (size, size):
        data = replace(data, **{part: replace(split, images=_resize(split.images, size, data.levels))
                                for part in ("train", "valid", "test") for split in [getattr(data, part)]})  # fmt: skip
    return data


def download(name: str, data_dir: str | Path = "") -> Path:
    """Fetch ``name`` from the internet through torchvision, into ``data_dir``; returns the folder."""
    if name not in (*_IDX_SETS, "cifar10"):
        raise ValueError(f"only {', '.join(_IDX_SETS)} and cifar10 can be downloaded, not {name!r}")
    import torchvision

    folder = Path(data_dir or default_data_dir())
    folder.mkdir(parents=True, exist_ok=True)
    kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10"}[name]
    try:
        getattr(torchvision.datasets, kind)(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise MissingData(f"{name} could not be downloaded into {folder} ({error}). Check the network and try again, "
                          'or use dataset = "handwriting", which needs no files') from error  # fmt: skip
    return folder


def default_data_dir() -> Path:
    """``data/`` of the checkout this package runs from, else a folder in the user's cache."""
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "pyproject.toml").is_file() and (checkout / "data").is_dir():
        return checkout / "data"
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "course_utils"
    try:
        return Path.home() / ".cache" / "course_utils"
    except RuntimeError:                                             # no HOME, and a user without an entry
        return Path(tempfile.gettempdir()) / "course_utils"


def on_disk(name: str, data_dir: str | Path = "") -> bool:
    """Whether ``load(name)`` would find its files (always, for sets that need none)."""
    folder = Path(data_dir or default_data_dir())
    if name in _IDX_SETS:
        return all(_find_idx(folder, name, file) is not None for file in _idx_files())
    return name in WITHOUT_FILES or (name == "cifar10" and (folder / _CIFAR_FOLDER).is_dir())


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 as floats in [0, 1], in torch's default dtype, as new weights are."""
    if images.dtype != torch.uint8:
        raise ValueError(f"expected uint8 images as stored in a Split, got {images.dtype}")
    return images.to(torch.get_default_dtype()) / 255


def to_levels(images: Tensor, levels: int) -> Tensor:
    """Pixels as integers 0 .. levels - 1 (int64): from uint8 images or from floats in [0, 1]."""
    unit = to_float(images) if images.dtype == torch.uint8 else images
    return torch.round(unit * (levels - 1)).long()


def binarise(x: Tensor) -> Tensor:
    """One Bernoulli draw per pixel with probability x in [0, 1] (Salakhutdinov & Murray 2008): floats 0 or 1."""
    return torch.bernoulli(expect.inside(expect.floats(x, "x", "B", ...), "x", 0, 1))


def dequantise(x: Tensor, levels: int = 256) -> Tensor:
    """Grey level k of K, k/(K − 1) in ``x``, spread evenly over its bin [k/K, (k + 1)/K): then a density makes sense.

    The bin has the full width 1/K: 1/256 for 256 levels, 1/17 for the 17 of the digits.
    (Uria, Murray & Larochelle 2013, arXiv:1306.0186; Theis et al. 2016, section 3.1, arXiv:1511.01844.)
    """
    return (torch.round((levels - 1) * x) + torch.rand_like(x)) / levels


def binarised(data: Data, seed: int = 0) -> Data:
    """``data`` with each pixel drawn once and for all to 0 or 255: a data set of 2 levels."""
    generator = torch.Generator().manual_seed(seed)

    def draw(split: Split) -> Split:
        ink = torch.bernoulli(to_float(split.images.cpu()), generator=generator)
        return replace(split, images=(255 * ink).to(torch.uint8).to(split.images.device))

    return replace(data, train=draw(data.train), valid=draw(data.valid), test=draw(data.test), levels=2)


def quantised(data: Data, levels: int) -> Data:
    """``data`` with each pixel rounded to the nearest of ``levels`` evenly spaced grey values."""
    if not 2 <= levels <= 256:
        raise ValueError(f"levels must lie between 2 and 256, got {levels}")

    def rounded(split: Split) -> Split:
        grey = torch.round(to_levels(split.images, levels) * (255 / (levels - 1)))
        return replace(split, images=grey.to(torch.uint8))

    return replace(data, train=rounded(data.train), valid=rounded(data.valid), test=rounded(data.test), levels=levels)


def batches(images: Tensor, batch_size: int, labels: Tensor | None = None) -> Iterator:
    """Endless batches of float images in [0, 1], or of (images, labels): each pass visits all in a new random order.

    uint8 ``images`` (N,C,H,W) are converted, floats are passed on.  A last incomplete batch is dropped.  The
    order comes from the global random state of the CPU, so that a seed gives the same batches on every device.
    """
    if not 1 <= batch_size <= len(images):
        raise ValueError(f"batch_size must lie between 1 and the {len(images)} images, got {batch_size}")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    return _endless(images, batch_size, labels)


def _endless(images, batch_size, labels):
    while True:
        order = torch.randperm(len(images)).to(images.device)
        for start in range(0, len(images) - batch_size + 1, batch_size):
            index = order[start : start + batch_size]
            x = to_float(images[index]) if images.dtype == torch.uint8 else images[index]
            yield x if labels is None else (x, labels[index])


# --- where each set comes from --------------------------------------------------------------------------------------


def _load_handwriting(n: int | None, seed: int, size: int) -> Data:
    seeds = {"train": 1_000_003 * (seed + 1), "valid": 1, "test": 2}
    counts = {**HANDWRITING_SIZES, "train": n or HANDWRITING_SIZES["train"]}
    splits = {part: Split(*handwriting.sample(counts[part], size=size, seed=seeds[part])) for part in seeds}
    return Data("handwriting", **splits, levels=256, classes=_DIGITS, factor_names=handwriting.FACTOR_NAMES)


def _load_digits() -> Data:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).reshape(-1, 1, 8, 8)  # 0..16
    images = torch.round(grey * 255 / 16).to(torch.uint8)
    whole = Split(images, torch.from_numpy(bunch.target).long())
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    train, valid, test = order[:1197], order[1197:1437], order[1437:]
    return Data("digits", whole[train], whole[valid], whole[test], levels=17, classes=_DIGITS)


def _load_files(name: str, folder: Path) -> Data:
    if name == "cifar10":
        train, test, classes, n_valid = *_read_cifar(folder), _CIFAR_CLASSES, 5_000
    else:
        train, test, classes, n_valid = *_read_idx_set(folder, name), _IDX_SETS[name][1], 5_000
    n_valid = min(n_valid, len(train) // 2)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    return Data(name, train[order[n_valid:]], train[order[:n_valid]], test, levels=256, classes=classes)


def _idx_files() -> tuple[str, ...]:
    return tuple(f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))


def _find_idx(folder: Path, name: str, file: str) -> Path | None:
    raw = folder / _IDX_SETS[name][0] / "raw"
    return next((path for path in (raw / file, raw / f"{file}.gz") if path.is_file()), None)


def _read_idx_set(folder: Path, name: str) -> tuple[Split, Split]:
    parts = []
    for file in _idx_files():
        path = _find_idx(folder, name, file)
        if path is None:
            raise _missing(name, folder, f"{_IDX_SETS[name][0]}/raw/{file}[.gz]")
        parts.append(_read_idx(path, name, folder))
    for images, labels in (parts[:2], parts[2:]):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise _damaged(name, folder / _IDX_SETS[name][0] / "raw", folder,
                           f"{len(images)} images but {len(labels)} labels")  # fmt: skip
        if labels.max() >= (n_classes := len(_IDX_SETS[name][1])):
            raise _damaged(name, folder / _IDX_SETS[name][0] / "raw", folder,
                           f"a label {int(labels.max())}, where there are {n_classes} classes")  # fmt: skip
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise _damaged(name, folder / _IDX_SETS[name][0] / "raw", folder,
                       f"training images of {tuple(parts[0].shape[1:])} but test images of {tuple(parts[2].shape[1:])}")
    return Split(parts[0][:, None], parts[1].long()), Split(parts[2][:, None], parts[3].long())


def _read_idx(path: Path, name: str, folder: Path) -> Tensor:
    """The IDX format: two zero bytes, type 8 (unsigned byte), number of dimensions, each as 4 bytes, then the data."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(name, path, folder, str(error)) from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise _damaged(name, path, folder, "it does not start as an IDX file of bytes")
    n_dims = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(n_dims)]
    if n_dims == 0 or 0 in shape:
        raise _damaged(name, path, folder, f"its header announces nothing: shape {tuple(shape)}")
    wanted = 4 + 4 * n_dims + torch.Size(shape).numel()
    if len(content) != wanted:
        raise _damaged(name, path, folder, f"{len(content)} bytes where its header announces {wanted}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * n_dims).reshape(shape)


def _read_cifar(folder: Path) -> tuple[Split, Split]:
    if not (folder / _CIFAR_FOLDER).is_dir():
        raise _missing("cifar10", folder, _CIFAR_FOLDER)
    import torchvision

    splits = []
    for train in (True, False):
        try:
            with warnings.catch_warnings():  # torchvision unpickles with an option that newer numpy deprecates
                warnings.simplefilter("ignore")
                raw = torchvision.datasets.CIFAR10(str(folder), train=train, download=False)
        except (RuntimeError, OSError, EOFError) as error:  # torchvision compares checksums
            raise _damaged("cifar10", folder / _CIFAR_FOLDER, folder, str(error)) from error
        images = torch.from_numpy(raw.data).permute(0, 3, 1, 2).contiguous()
        splits.append(Split(images, torch.tensor(raw.targets)))
    return splits[0], splits[1]


def _missing(name: str, folder: Path, file: str) -> MissingData:
    return MissingData(
        f"{name} is not on disk: no {file} in {folder}. Either use another data set (handwriting and digits need no "
        f"files), or fetch it once with  from course_utils.data import images; "
        f"images.download({name!r}, {str(folder)!r}),  or give the data_dir that has it"
    )


def _damaged(name: str, path: Path, folder: Path, why: str) -> DamagedData:
    return DamagedData(
        f"{name}: {path} is damaged ({why}). Delete it and get it again with  from course_utils.data import images; "
        f"images.download({name!r}, {str(folder)!r})"
    )


def _resize(images: Tensor, size: int, levels: int) -> Tensor:
    scaled = torch.cat([
        torch.nn.functional.interpolate(part.float(), (size, size), mode="bilinear", antialias=True)
        for part in images.split(5_000)
    ])  # fmt: skip
    step = 255 / (levels - 1)  # stay on the grey values the data set has
    return torch.round(torch.round(scaled / step) * step).clamp(0, 255).to(torch.uint8)
