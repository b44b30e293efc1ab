"""How all families are judged alike: one set of numbers about sets of images, the same for every row of a table.

``Judge(data)`` holds what images are compared with: features of real images by a classifier that ships, the floors
(what two sets of real images give), and a reader of the factors behind handwriting.  Taught in chapter 09.
"""

import torch

from course_utils import metrics, shipped, training
from course_utils.data import images
from course_utils.models import classifier
from course_utils.models.gan.theory import wasserstein_1d

FACTORS = ("slant", "width", "pressure")  # those that can be read from an image
COLUMNS = {  # column -> (what is better: -1 lower, +1 higher, or the value that the truth has; how it is read)
    "frechet": (-1, "Fréchet distance over the floor"),
    "kernel": (-1, "kernel distance over the floor"),
    "density": (1.0, "density"),
    "coverage": (+1, "coverage"),
    "copying": (0.5, "data copying"),
    "sharpness": (1.0, "sharpness over that of test images"),
    "factors": (-1, "shift of the factors, in standard deviations"),
}


class Judge:
    """Numbers about ``n`` images against ``n`` real ones, features by the shipped classifier.

    ``n_splits`` pairs of disjoint real sets give each floor; ``floors`` holds mean and spread. ``n_copying``: how many
    samples and test images are looked up in the training set.
    """

    def __init__(self, data, n=1_000, seed=0, n_splits=8, n_copying=500):
        self.data, self.device, self.n = data, data.train.images.device, n
        self.reader = classifier.feature_network(data.shape[0], len(data.classes)).to(self.device)
        training.load_weights(shipped.path(f"features_{data.name}.safetensors"), self.reader)
        test = data.test
        if data.name == "handwriting":                               # as much as is wanted, with a seed of its own
            test = images.load("handwriting", n=2 * n, seed=seed + 1_000).train.to(self.device)
        self.n = min(n, len(test) // 2)
        self.real_x = images.to_float(test.images[: 2 * self.n])
        self.real = self.features(self.real_x)
        halves, self.floors = torch.Generator().manual_seed(seed), {}
        for name, distance in (("frechet", metrics.frechet_distance), ("kernel", size_of(metrics.kernel_distance))):
            self.floors[name] = metrics.half_against_half(distance, self.real, self.n, halves, n_splits)
        self.trained_on, self.n_copying = self.features(images.to_float(data.train.images)), n_copying
        self.sharp = metrics.sharpness(self.real_x)
        self.factor_reader = self.real_factors = None
        if data.name == "handwriting":
            self.factor_reader = FactorReader(data.shape[0]).to(self.device)
            training.load_weights(shipped.path("factors_handwriting.safetensors"), self.factor_reader)
            self.real_factors = self.factors(self.real_x)

    @torch.no_grad()
    def features(self, x):
        """``(N, 64)`` of images in [0, 1]."""
        return torch.cat([self.reader.features(part) for part in x.to(self.device).split(500)])

    @torch.no_grad()
    def factors(self, x):
        """Slant, width and pressure read from images, ``(N, 3)``, in standard deviations of the training set."""
        return torch.cat([self.factor_reader(part) for part in x.to(self.device).split(500)])

    def factor_shifts(self, x):
        """How far each factor of the samples must be moved to be distributed as in real images: name -> a float.

        The 1-Wasserstein distance in standard deviations of the factor, both read by the same network.
        """
        found, real = self.factors(x), self.real_factors[: len(x)]
        return {name: wasserstein_1d(found[:, k], real[:, k]).item() for k, name in enumerate(FACTORS)}

    def __call__(self, x):
        """The numbers of one set of images ``(N, C, H, W)``, at most ``n`` of them, as a dict of floats."""
        x = x[: self.n].to(self.device)
        found, real = self.features(x), self.real[: self.n]
        density, coverage = metrics.density_coverage(found, real)
        row = {"frechet": metrics.frechet_distance(found, real) / self.floors["frechet"][0],
               "kernel": metrics.kernel_distance(found, real) / self.floors["kernel"][0],
               "density": density, "coverage": coverage,
               "copying": metrics.data_copying(found[: self.n_copying], self.trained_on,
                                               self.real[self.n :][: self.n_copying]),
               "sharpness": metrics.sharpness(x) / self.sharp}
        if self.real_factors is not None:
            row["factors"] = sum(self.factor_shifts(x).values()) / len(FACTORS)
        return row

    def obeyed(self, x, y):
        """Share of images in which the classifier reads the label that was asked for."""
        with torch.no_grad():
            read = torch.cat([self.reader(part).logits for part in x.to(self.device).split(500)])
        return metrics.accuracy(read, y)

    def accuracy_score(self, x, y, n_steps=150):
        """Accuracy on real test images of a small classifier that has seen only these samples. Moves torch's seed.

        (Ravuri & Vinyals 2019, arXiv:1905.10887.)
        """
        model = classifier.small_cnn(self.data.shape[0], len(self.data.classes), width=8).to(self.device)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        batches = images.batches(x.to(self.device), min(64, len(x)), y)
        training.fit(model.loss, optimizer, batches, n_steps, description="accuracy score",
                     scheduler=training.cosine(optimizer, n_steps))
        test = self.data.test
        with training.evaluating(model):
            logits = torch.cat([model(images.to_float(part)).logits for part in test.images.split(500)])
        return metrics.accuracy(logits, test.labels)


def size_of(distance):
    """A distance that may fall below zero by chance, without its sign: what its floor is made of."""
    return lambda a, b: abs(distance(a, b))


class FactorReader(torch.nn.Module):
    """A small convolutional network from images to slant, width and pressure ``(B, 3)``, in standard deviations."""

    def __init__(self, channels=1):
        super().__init__()
        self.network = classifier.small_cnn(channels, len(FACTORS), width=16).network
        self.register_buffer("centre", torch.zeros(len(FACTORS)))
        self.register_buffer("spread", torch.ones(len(FACTORS)))

    def forward(self, x):
        return self.network(x)

    def loss(self, batch):
        """Squared error, averaged over factors; ``batch`` is images and factors ``(B, 3)`` as the data have them."""
        x, factors = batch
        return {"loss": (self(x) - (factors - self.centre) / self.spread).square().mean()}
