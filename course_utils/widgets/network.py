"""A small torch network as data for ``js/network.js``, which runs it in the browser for one code at a time."""

from copy import deepcopy
from math import prod

import torch
from torch import nn

ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.Softplus: "softplus",
               nn.LeakyReLU: "leaky_relu", nn.ELU: "elu"}
PASSED_OVER = (nn.Identity, nn.Dropout)


class Decoder:
    """What ``network`` makes of codes ``(B, L)``: the first C·H·W numbers of its output, as pixels ``(B, C, H, W)``.

    It keeps a copy in evaluation mode, as the browser does: what becomes of the network later changes no picture.
    """

    def __init__(self, network, shape):
        self.network, self.shape = deepcopy(network).eval(), tuple(shape)

    @torch.no_grad()
    def __call__(self, codes):
        x = self.network(codes.to(next(self.network.parameters()))).float().cpu().flatten(1)
        if x.shape[1] < prod(self.shape):
            raise ValueError(f"an image {self.shape} has {prod(self.shape)} numbers, the decoder gives {x.shape[1]}")
        return x[:, :prod(self.shape)].reshape(-1, *self.shape).clamp(0, 1)


def pack_network(network):
    """The layers of ``network`` (nested ``nn.Sequential``) with float16 weights, in the order they run.

    Linear, Conv2d, ConvTranspose2d, nearest Upsample, Unflatten and common activations are known. Float16 moves a pixel
    by less than one grey level of 256. Raises ``ValueError`` for anything else: bake frames in Python instead.
    """
    return [packed for layer in _leaves(network) for packed in _pack(layer)]


def _leaves(network):
    if _is(network, nn.Sequential):
        for child in network:
            yield from _leaves(child)
    else:
        yield network


def _is(layer, kind):
    """Whether ``layer`` computes what ``kind`` does: a subclass may choose sizes, not what happens to an input."""
    methods = [name for name in ("forward", "_conv_forward") if hasattr(kind, name)]
    return isinstance(layer, kind) and all(getattr(type(layer), name) is getattr(kind, name) for name in methods)


def _pack(layer):
    if type(layer) in PASSED_OVER or _is(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
        return []
    if type(layer) in ACTIVATIONS and _usual(layer):
        extra = {"slope": layer.negative_slope} if isinstance(layer, nn.LeakyReLU) else {}
        return [{"kind": ACTIVATIONS[type(layer)], **extra}]
    if _is(layer, nn.Linear):
        return [{"kind": "linear", **_weights(layer)}]
    if _is(layer, nn.Unflatten) and layer.dim == 1 and len(layer.unflattened_size) == 3:
        return [{"kind": "shape", "shape": list(layer.unflattened_size)}]
    if _is(layer, nn.Upsample) and layer.mode == "nearest" and _whole(layer.scale_factor):
        return [{"kind": "upsample", "factor": int(layer.scale_factor)}]
    if (_is(layer, nn.Conv2d) or _is(layer, nn.ConvTranspose2d)) and _plain(layer):
        kind, more = ("conv", (0, 0)) if isinstance(layer, nn.Conv2d) else ("conv_transpose", layer.output_padding)
        return [{"kind": kind, "stride": list(layer.stride), "padding": list(layer.padding), "more": list(more),
                 **_weights(layer)}]
    raise ValueError(f"the browser cannot run {layer}: expected Linear, Conv2d or ConvTranspose2d without groups and "
                     "dilation, nearest Upsample by one whole scale_factor, Flatten(), Unflatten(1, (C, H, W)) or one "
                     f"of {', '.join(ACTIVATIONS.values())} (elu and softplus with torch's defaults)")


def _usual(layer):
    """The browser knows one ELU and one Softplus."""
    return getattr(layer, "alpha", 1) == 1 and (getattr(layer, "beta", 1), getattr(layer, "threshold", 20)) == (1, 20)


def _whole(factor):
    return isinstance(factor, float) and factor.is_integer()     # None where Upsample has a size, a tuple for two sides


def _plain(layer):
    return (layer.groups == 1 and tuple(layer.dilation) == (1, 1) and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str))


def _weights(layer):
    bias = layer.bias if layer.bias is not None else torch.zeros(1)
    return {"weight": layer.weight.detach().half(), "bias": bias.detach().half(), "biased": layer.bias is not None}
