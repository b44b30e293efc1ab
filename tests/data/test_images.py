"""Splits are fixed and disjoint, batches visit everything, missing and damaged files are explained."""

import gzip

import pytest
import torch

from course_utils.data import images
from course_utils.training import cache


def write_idx(path, tensor, compress):
    header = bytes([0, 0, 8, tensor.ndim]) + b"".join(length.to_bytes(4, "big") for length in tensor.shape)
    content = header + tensor.numpy().tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if compress:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


@pytest.fixture
def mnist_dir(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for part, n in (("train", 60), ("t10k", 20)):
        pixels = torch.randint(256, (n, 28, 28), generator=generator, dtype=torch.uint8)
        raw = tmp_path / "MNIST" / "raw"
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels, compress=part == "train")
        write_idx(raw / f"{part}-labels-idx1-ubyte", torch.arange(n, dtype=torch.uint8) % 10, compress=False)
    return tmp_path


def rows(split):
    return {image.numpy().tobytes() for image in split.images}


@pytest.mark.parametrize("name", ["handwriting", "digits"])
def test_splits_are_fixed_and_disjoint(name):
    few, other = images.load(name, n=50, seed=0), images.load(name, n=50, seed=1)
    assert len(few.train) == 50 and few.train.images.dtype == torch.uint8 and few.train.labels.dtype == torch.int64
    for part in ("valid", "test"):
        assert torch.equal(getattr(few, part).images, getattr(other, part).images), "n and seed touch training only"
    assert not torch.equal(few.train.images, other.train.images)
    assert torch.equal(few.train.images, images.load(name, n=50, seed=0).train.images)
    assert not rows(few.train) & rows(few.test) and not rows(few.train) & rows(few.valid)
    assert not rows(few.valid) & rows(few.test)
    assert len(few.classes) == 10


def test_digits_have_seventeen_levels_also_when_resized():
    for size in (None, 12):
        data = images.load("digits", size=size)
        assert data.levels == 17 and data.shape == (1, size or 8, size or 8)
        codes = images.to_levels(data.train.images, data.levels)
        assert codes.min() == 0 and codes.max() == 16
        assert len(data.train.images.unique()) <= 17
    total = [len(split) for split in (data.train, data.valid, data.test)]
    assert sum(total) == 1797


def test_handwriting_has_factors_and_any_size():
    data = images.load("handwriting", n=30, size=16)
    assert data.shape == (1, 16, 16) and data.train.factors.shape == (30, len(data.factor_names)) and data.levels == 256
    assert images.load("digits").train.factors is None


def test_files_are_read_compressed_or_not(mnist_dir):
    data = images.load("mnist", data_dir=mnist_dir)
    assert (len(data.train), len(data.valid), len(data.test)) == (30, 30, 20)
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]
    assert not rows(data.train) & rows(data.valid)
    assert images.on_disk("mnist", mnist_dir) and not images.on_disk("kmnist", mnist_dir)
    resized = images.load("mnist", n=7, size=14, data_dir=mnist_dir)
    assert resized.train.images.shape == (7, 1, 14, 14) and resized.train.images.dtype == torch.uint8
    with pytest.raises(ValueError, match="30 training images"):
        images.load("mnist", n=31, data_dir=mnist_dir)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist", "cifar10"])
def test_missing_files_are_explained(name, tmp_path):
    with pytest.raises(images.MissingData) as caught:
        images.load(name, data_dir=tmp_path)
    message = str(caught.value)
    assert name in message and str(tmp_path) in message and "handwriting" in message and "images.download(" in message


def damage_gzip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("train-images-idx3-ubyte.gz", damage_gzip),
        ("train-images-idx3-ubyte.gz", lambda path: path.write_bytes(path.read_bytes()[:-30])),
        ("t10k-images-idx3-ubyte", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("t10k-images-idx3-ubyte", lambda path: path.write_bytes(b"<html>not found</html>")),
        ("t10k-labels-idx1-ubyte", lambda path: path.write_bytes(b"")),
    ],
)
def test_damaged_files_are_named(file, harm, mnist_dir):
    path = mnist_dir / "MNIST" / "raw" / file
    harm(path)
    with pytest.raises(images.DamagedData) as caught:
        images.load("mnist", data_dir=mnist_dir)
    assert str(path) in str(caught.value) and "images.download('mnist'" in str(caught.value)


@pytest.mark.parametrize("part, images_of, labels_of, said", [
    ("t10k", torch.zeros(0, 28, 28), torch.zeros(0), r"shape \(0, 28, 28\)"),
    ("train", torch.zeros(60, 0, 28), torch.zeros(60), r"shape \(60, 0, 28\)"),
    ("t10k", torch.zeros(20, 28, 28), torch.full((20,), 200), "a label 200, where there are 10 classes"),
    ("train", torch.zeros(60, 28, 28), torch.full((60,), 10), "a label 10, where there are 10 classes"),
    ("t10k", torch.zeros(20, 32, 32), torch.zeros(20), r"of \(28, 28\) but test images of \(32, 32\)"),
    ("t10k", torch.zeros(20, 28, 28), torch.zeros(19), "20 images but 19 labels"),
])
def test_whole_files_that_tell_nonsense_are_damaged_too(part, images_of, labels_of, said, mnist_dir):
    raw = mnist_dir / "MNIST" / "raw"
    for file in (f"{part}-images-idx3-ubyte", f"{part}-images-idx3-ubyte.gz"):
        (raw / file).unlink(missing_ok=True)
    write_idx(raw / f"{part}-images-idx3-ubyte", images_of.to(torch.uint8), compress=False)
    write_idx(raw / f"{part}-labels-idx1-ubyte", labels_of.to(torch.uint8), compress=False)
    with pytest.raises(images.DamagedData, match=said):
        images.load("mnist", data_dir=mnist_dir)


def test_folders_are_found_without_a_home(monkeypatch, tmp_path):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(images.Path, "home", no_home)
    monkeypatch.setattr(images, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert images.default_data_dir().name == "course_utils" and not images.on_disk("mnist")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "a" / "b" / "c.py"))
    monkeypatch.delenv("COURSE_CACHE", raising=False)
    assert cache.cache_folder().name == "deep-generative-course"


@pytest.mark.parametrize("x", [torch.tensor([1.5]), torch.tensor([-0.1]), torch.tensor([float("nan")]),
                               torch.tensor([1])])
def test_only_probabilities_are_drawn_from(x):
    with pytest.raises(ValueError, match="expected x.*got"):
        images.binarise(x)


def test_damaged_cifar10_is_named(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"nonsense")
    with pytest.raises(images.DamagedData, match="cifar10.*cifar-10-batches-py"):
        images.load("cifar10", data_dir=tmp_path)


def test_batches_visit_every_image_once_per_pass():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1)
    endless = images.batches(pixels, 4, torch.arange(12))
    for _ in range(2):
        passes = [next(endless) for _ in range(3)]
        seen = torch.cat([y for _, y in passes])
        assert sorted(seen.tolist()) == list(range(12)) and seen.tolist() != list(range(12))
        x = torch.cat([x for x, _ in passes])
        assert x.dtype == torch.float32 and torch.allclose(x[:, 0, 0, 0] * 255, seen.float())


def test_batches_follow_the_global_seed():
    pixels = torch.rand(12, 1, 8, 8)
    torch.manual_seed(1)
    one = next(images.batches(pixels, 4))
    torch.manual_seed(1)
    assert torch.equal(one, next(images.batches(pixels, 4)))
    assert not torch.equal(one, next(images.batches(pixels, 4)))


def test_binarising():
    data = images.load("digits", n=40)
    drawn = images.binarised(data)
    assert drawn.levels == 2 and set(drawn.train.images.unique().tolist()) == {0, 255}
    assert torch.equal(drawn.test.images, images.binarised(data).test.images)
    draws = images.binarise(torch.full((40_000,), 0.3))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert abs(float(draws.mean()) - 0.3) < 5 * (0.3 * 0.7 / 40_000) ** 0.5  # fails once in 10^6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images.load("imagenet"), "choose one of handwriting"),
        (lambda: images.load("digits", n=0), "n must be at least 1"),
        (lambda: images.load("digits", size=4), "8 to 64"),
        (lambda: images.download("digits"), "can be downloaded"),
        (lambda: images.to_float(torch.zeros(3)), "uint8"),
        (lambda: images.batches(torch.zeros(3, 1, 8, 8), 4), "between 1 and the 3 images"),
        (lambda: images.batches(torch.zeros(3, 1, 8, 8), 2, torch.zeros(2)), "3 images but 2 labels"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_default_folder_is_the_checkouts(monkeypatch, tmp_path):
    assert images.default_data_dir().name == "data"
    monkeypatch.setattr(images, "__file__", str(tmp_path / "a" / "b" / "c" / "images.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert images.default_data_dir() == tmp_path / "course_utils"


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_dequantised_levels_fill_their_bins_and_only_them(levels):
    x = (torch.arange(levels) / (levels - 1)).repeat(2_000, 1)
    y = images.dequantise(x, levels) * levels - torch.arange(levels)     # the place in the bin, which has width 1
    assert y.min() > -1e-4 and y.max() < 1 + 1e-4
    assert y.min() < 0.01 and y.max() > 0.99                             # the whole width (missed with p < e^-40)


def test_quantised_pixels_are_the_nearest_of_the_levels():
    data = images.load("handwriting", n=20)
    grey = images.quantised(data, 17)
    assert grey.levels == 17 and len(grey.train.images.unique()) <= 17
    error = images.to_float(grey.train.images) - images.to_float(data.train.images)
    assert error.abs().max() <= 1 / 32 + 1 / 255
    assert torch.equal(images.quantised(grey, 17).train.images, grey.train.images)
    with pytest.raises(ValueError, match="levels must lie between 2 and 256, got 1"):
        images.quantised(data, 1)
