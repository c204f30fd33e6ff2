"""SynFlow: how much of a flow of ones passes the network's weights, no images needed."""

import copy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.scores.graph import weights_of
from dtb_builder.scores.probed import full_precision

__all__ = ["synflow"]


def synflow(network: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Sum over weights w of w dR/dw, R the summed logits of an image of ones with |w| for w.

    Batch norms are left out and float64 is computed in, for the sum grows with the product of all
    layers' weights. The weights are those of convolutions and linear layers.

    Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving
    synaptic flow, NeurIPS 2020; Abdelfattah et al., ICLR 2021, for its sum as a score of a network
    without batch norms. Some published tables have its logarithm.

    Args:
        network: maps images to logits; it is left as it is.
        image_shape: (channels, height, width).
    """
    flow = copy.deepcopy(network).eval().double()
    for name, module in list(flow.named_modules()):
        if isinstance(module, _BatchNorm):
            flow.set_submodule(name, nn.Identity())
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.abs_()
    weights = [weight.requires_grad_() for weight in weights_of(flow)]
    ones = torch.ones(1, *image_shape, dtype=torch.float64, device=weights[0].device)
    with torch.enable_grad(), full_precision(ones.device):
        gradients = torch.autograd.grad(flow(ones).sum(), weights, allow_unused=True)
    return sum(
        float((weight.detach() * gradient).sum())
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    )
