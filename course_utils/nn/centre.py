"""Start from the mean image: networks that need not learn what all images have in common."""

import torch
from torch import nn


class Minus(nn.Module):
    """``x - constant``; the constant is stored with the weights."""

    def __init__(self, constant):
        super().__init__()
        self.register_buffer("constant", constant.detach().clone())

    def forward(self, x):
        return x - self.constant


@torch.no_grad()
def start_at(layer, mean_image):
    """Set the bias of the last ``layer`` so that sigmoid(bias) is ``mean_image`` (in [0, 1]). In place.

    A linear layer has one bias a pixel; a convolution has one a channel: give it the mean of each channel.
    """
    layer.bias.copy_(mean_image.flatten().clamp(0.002, 0.998).logit())
