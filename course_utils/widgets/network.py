"""A small torch network as data for ``js/network.js``, which runs it in the browser for one code at a time."""

import torch
from torch import nn

ACTIVATIONS = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu", nn.Softplus: "softplus",
               nn.LeakyReLU: "leaky_relu", nn.ELU: "elu"}
PASSED_OVER = (nn.Identity, nn.Dropout, nn.Flatten)


def pack_network(network):
    """The layers of ``network`` (nested ``nn.Sequential``) with float16 weights, in the order they run.

    Linear, Conv2d, ConvTranspose2d, nearest Upsample, Unflatten and common activations are known. Float16 moves a pixel
    by less than one grey level of 256. Raises ``ValueError`` for anything else: bake frames in Python instead.
    """
    return [packed for layer in _leaves(network) for packed in _pack(layer)]


def _leaves(network):
    if isinstance(network, nn.Sequential):
        for child in network:
            yield from _leaves(child)
    else:
        yield network


def _pack(layer):
    if isinstance(layer, PASSED_OVER):
        return []
    if type(layer) in ACTIVATIONS:
        extra = {"slope": layer.negative_slope} if isinstance(layer, nn.LeakyReLU) else {}
        return [{"kind": ACTIVATIONS[type(layer)], **extra}]
    if isinstance(layer, nn.Linear):
        return [{"kind": "linear", **_weights(layer)}]
    if isinstance(layer, nn.Unflatten) and len(layer.unflattened_size) == 3:
        return [{"kind": "shape", "shape": list(layer.unflattened_size)}]
    if isinstance(layer, nn.Upsample) and layer.mode == "nearest" and float(layer.scale_factor).is_integer():
        return [{"kind": "upsample", "factor": int(layer.scale_factor)}]
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and _plain(layer):
        kind, more = ("conv", (0, 0)) if isinstance(layer, nn.Conv2d) else ("conv_transpose", layer.output_padding)
        return [{"kind": kind, "stride": list(layer.stride), "padding": list(layer.padding), "more": list(more),
                 **_weights(layer)}]
    raise ValueError(f"the browser cannot run {layer}: expected Linear, Conv2d or ConvTranspose2d without groups and "
                     f"dilation, nearest Upsample, Unflatten to (C, H, W) or one of {', '.join(ACTIVATIONS.values())}")


def _plain(layer):
    return (layer.groups == 1 and tuple(layer.dilation) == (1, 1) and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str))


def _weights(layer):
    bias = layer.bias if layer.bias is not None else torch.zeros(1)
    return {"weight": layer.weight.detach().half(), "bias": bias.detach().half(), "biased": layer.bias is not None}
