"""Features and masks, against their formulas written out."""

import math

import pytest
import torch

from course_utils.nn.conditioning import time_features
from course_utils.nn.masked import MaskedLinear
from course_utils.nn.mlp import FourierFeatures


def test_time_features_are_cosines_and_sines_of_the_frequencies_in_the_formula():
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    found = time_features(t, 6, highest=100.0)
    for row, time in zip(found, t.tolist(), strict=True):
        angles = [100.0 ** (k / 2) * time for k in range(3)]
        expected = [*map(math.cos, angles), *map(math.sin, angles)]
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64))
    for wrong in (lambda: time_features(t, 5), lambda: time_features(t[:, None], 6)):
        with pytest.raises(ValueError, match="expected"):
            wrong()


def test_fourier_features_have_the_kernel_that_their_scale_says():
    """The mean over frequencies of cos(2π B (x - y)) tends to exp(-2 π² scale² |x - y|²); 5 standard errors."""
    torch.manual_seed(0)
    n, scale = 20_000, 0.3
    features = FourierFeatures(2, n, scale)
    x, y = torch.tensor([[0.1, 0.4]]), torch.tensor([[0.6, -0.1]])
    found = (features(x) * features(y)).sum() / n
    expected = math.exp(-2 * (math.pi * scale) ** 2 * (x - y).square().sum())
    assert abs(found - expected) < 5 / math.sqrt(n)


def test_a_masked_linear_layer_hears_only_what_its_mask_lets_through():
    mask = torch.tensor([[1, 0, 1], [0, 0, 0]])
    layer = MaskedLinear(mask).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ (layer.weight * mask).T + layer.bias)
    jacobian = torch.autograd.functional.jacobian(layer, x[:1])[0, :, 0]
    assert ((jacobian != 0) == (mask == 1)).all()
