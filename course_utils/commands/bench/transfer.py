"""Does procedural handwriting resemble the real thing? A small network learns it, and then reads MNIST."""

import torch
from torch import nn

from course_utils import metrics, training
from course_utils.data import handwriting, images
from course_utils.models.classifier import Classifier


def network():
    """Two convolutions and a linear layer, ``(B, 1, 28, 28) -> (B, 10)``."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.4), nn.Linear(32 * 49, 10),
    )  # fmt: skip


def benchmark(setting):
    """Accuracy on the 10,000 MNIST test digits of a network that has seen handwriting only; needs MNIST on disk."""
    n_images, n_steps = (2_000, 100) if setting.budget == "smoke" else (20_000, 800)
    drawn = handwriting.sample(n_images, seed=setting.seed + 100)
    model = Classifier(network()).to(setting.device)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=n_steps)
    batches = images.batches(drawn.images.to(setting.device), 64, drawn.labels.to(setting.device))
    training.fit(model.loss, optimizer, batches, n_steps, scheduler=schedule, description="reads handwriting")
    for name in ("handwriting", "mnist"):
        test = images.load(name, data_dir=setting.data_dir).test.to(setting.device)
        with training.evaluating(model):
            logits = torch.cat([model(images.to_float(part)).logits for part in test.images.split(1_000)])
        yield {"trained on": "handwriting", "tested on": name, "images": len(logits),
               "accuracy": metrics.accuracy(logits, test.labels)}  # fmt: skip
