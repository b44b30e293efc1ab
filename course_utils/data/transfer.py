"""Does procedural handwriting resemble the real thing?  A small network learns it and then reads MNIST.

    python -m course_utils.data.transfer --mnist DIR        (DIR holds MNIST/raw)

It never sees an MNIST image before the test.  Chapter 01 quotes the result.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

from course_utils.data import handwriting, images


def accuracy(real: images.Split, n_train: int = 20_000, n_steps: int = 800, seed: int = 0) -> tuple[float, Tensor]:
    """Fraction of ``real`` digits read correctly by a CNN trained on handwriting, and its confusion counts (10, 10)."""
    drawn = handwriting.sample(n_train, seed=seed + 100)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.4), nn.Linear(32 * 49, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=n_steps)
        batches = images.batches(drawn.images, 64, drawn.labels)
        for _ in range(n_steps):
            x, y = next(batches)
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        read = torch.cat([net(images.to_float(part)).argmax(1) for part in real.images.split(1_000)])
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    confusion.index_put_((real.labels, read), torch.ones_like(read), accumulate=True)
    return float((read == real.labels).float().mean()), confusion


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", default="", help="folder that holds MNIST/raw (default: the course's data folder)")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.perf_counter()
    result, confusion = accuracy(images.load("mnist", data_dir=arguments.mnist).test, n_steps=arguments.steps,
                                 seed=arguments.seed)  # fmt: skip
    print(f"trained on handwriting, read {result:.1%} of the 10,000 MNIST test digits "
          f"({time.perf_counter() - start:.0f} s)")  # fmt: skip
    print("rows: what it is, columns: what was read")
    print("\n".join(" ".join(f"{count:5d}" for count in row) for row in confusion.tolist()))


if __name__ == "__main__":
    main()
