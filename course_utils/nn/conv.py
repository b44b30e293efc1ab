"""Small convolutional networks for images of any size."""

from torch import nn
from torch.nn import functional as F

from course_utils import expect
from course_utils.nn.mlp import Linear


def downsampled(size, n_halvings):
    """Side of an image after ``n_halvings`` convolutions of stride 2, kernel 3, padding 1: 28 -> 14 -> 7 -> 4."""
    for _ in range(n_halvings):
        size = (size + 1) // 2
    return size


class Downsample(nn.Conv2d):
    """Halve an image, rounding up: ``(B, C, H, W) -> (B, C', ceil(H/2), ceil(W/2))``."""

    def __init__(self, in_channels, out_channels):
        expect.shape((in_channels, out_channels), "(in_channels, out_channels)", 2)
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2, padding=1)

    def __call__(self, x):                               # the forward stays torch's own: a browser can run it
        return super().__call__(expect.floats(x, "x", "B", self.in_channels, "H", "W", like=self.weight))


class Upsample(nn.ConvTranspose2d):
    """The way back from :class:`Downsample` to a square image of side ``size``, which must halve to the input's."""

    def __init__(self, in_channels, out_channels, size):
        super().__init__(in_channels, out_channels, kernel_size=3, stride=2, padding=1, output_padding=1 - size % 2)


class ResidualBlock(nn.Module):
    """``x + conv1x1(relu(conv3x3(relu(x))))``: the block of VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937)."""

    def __init__(self, channels, hidden_channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, hidden_channels, kernel_size=3, padding=1)
        self.mix = nn.Conv2d(hidden_channels, channels, kernel_size=1)

    def forward(self, x):
        return x + self.mix(F.relu(self.conv(F.relu(x))))


class ConvStack(nn.Sequential):
    """3×3, 1×1, 3×3 convolutions, ReLU between them: ``(B, n_in, H, W) -> width channels -> (B, n_out, H, W)``."""

    def __init__(self, n_in, width, n_out):
        super().__init__(
            nn.Conv2d(n_in, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 1), nn.ReLU(),
            nn.Conv2d(width, n_out, 3, padding=1),
        )  # fmt: skip


class OnImages(nn.Sequential):
    """Layers in a row for images ``(B, *shape)``; a ValueError for any others."""

    def __init__(self, shape, *layers):
        super().__init__(*layers)
        self.shape = expect.shape(shape)

    def __call__(self, x):
        return super().__call__(expect.floats(x, "images", "B", *self.shape, like=self))


class ConvEncoder(OnImages):
    """Two halvings, then one linear layer: ``(B, C, H, W) -> (B, n_out)``."""

    def __init__(self, shape, n_out, width=16):
        channels, height, _ = square(shape)
        side = downsampled(height, 2)
        super().__init__(
            shape,
            Downsample(channels, width), nn.ReLU(),
            Downsample(width, 2 * width), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * width * side**2, expect.count(n_out, "n_out")),
        )  # fmt: skip


class ConvDecoder(nn.Sequential):
    """The mirror image of :class:`ConvEncoder`: ``(B, n_in) -> (B, C, H, W)``, the last layer linear."""

    def __init__(self, n_in, shape, width=16):
        channels, height, _ = square(shape)
        expect.shape((n_in, width), "(n_in, width)", 2)
        half, quarter = downsampled(height, 1), downsampled(height, 2)
        super().__init__(
            Linear(n_in, 2 * width * quarter**2), nn.ReLU(), nn.Unflatten(1, (2 * width, quarter, quarter)),
            Upsample(2 * width, width, half), nn.ReLU(),
            Upsample(width, channels, height),
        )  # fmt: skip


def square(shape):
    """``shape`` itself, (C, H, H); a ValueError for an image that is not square."""
    if expect.shape(shape)[1] != shape[2]:
        raise ValueError(f"expected the shape (C, H, H) of a square image, got {tuple(shape)}; pad or crop it first")
    return tuple(shape)
