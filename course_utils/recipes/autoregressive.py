"""The autoregressive models of chapter 02, on one binarised set, and their floors."""

import math
from functools import partial

import torch

from course_utils.models.autoregressive.baselines import LogisticPixels, PixelHistograms
from course_utils.models.autoregressive.made import MADE, random_orders
from course_utils.models.autoregressive.pixelcnn import GatedPixelCNN, PixelCNN
from course_utils.models.autoregressive.pixelrnn import DiagonalBiLSTM, PixelRNN, RowLSTM
from course_utils.models.autoregressive.transformer import PixelTransformer
from course_utils.recipes.recipe import Recipe

# what all trained models of this table share
_trained = partial(Recipe, betas=(0.9, 0.99), warm_up=100, floor=0.01, clip_norm=50.0)


def four_orders(shape):
    return random_orders(4, math.prod(shape), torch.Generator().manual_seed(0))


RECIPES = {
    "independent": Recipe("independent pixels", lambda data: PixelHistograms(data.shape)),
    "mixture": Recipe(
        "class mixture", lambda data: PixelHistograms(data.shape, n_classes=len(data.classes)), labels=True),
    "logistic": _trained("logistic pixels (FVSBN)", lambda data: LogisticPixels(data.shape), 4_000, 2e-3, 100),
    "made": _trained("MADE", lambda data: MADE(data.shape, hidden=(1000,)), 11_000, 1e-3, 128),
    "made_orders": _trained(
        "MADE, mixture of 4 random orders",
        lambda data: MADE(data.shape, hidden=(1000,), orders=four_orders(data.shape)), 2_500, 1e-3, 128),
    "rowlstm": _trained(
        "PixelRNN, Row LSTM", lambda data: PixelRNN(data.shape, layer=RowLSTM), 2_500, 4e-3, 16),
    "bilstm": _trained(
        "PixelRNN, Diagonal BiLSTM", lambda data: PixelRNN(data.shape, layer=DiagonalBiLSTM, width=24), 700, 4e-3, 16),
    "pixelcnn": _trained("PixelCNN", lambda data: PixelCNN(data.shape), 6_500, 4e-3, 16, ships=True),
    "gated": _trained(
        "gated PixelCNN, small", lambda data: GatedPixelCNN(data.shape, width=16), 2_000, 4e-3, 16),
    "conditional": _trained(
        "gated PixelCNN given the class",
        lambda data: GatedPixelCNN(data.shape, width=16, n_classes=len(data.classes)), 2_000, 4e-3, 16,
        labels=True, ships=True),
    "transformer": _trained(
        "pixel transformer, small",
        lambda data: PixelTransformer(data.shape, width=32, n_heads=2, n_blocks=2), 1_400, 3e-3, 8),
}  # fmt: skip
