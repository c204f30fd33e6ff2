"""SynFlow: how much of an input of ones passes the absolute weights; needs no images."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.scores.graph import weights_of
from dtb_builder.scores.probed import copied, full_precision

__all__ = ["synflow"]


def synflow(network: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Sum of w dR/dw over absolute weights w; R is the sum of the logits for an image of ones.

    The weights are those of convolutions and linear layers. Batch norms are removed, and the
    precision is float64, since the sum grows with the product of all layers' weights.

    Source: Tanaka et al., Pruning neural networks without any data by iteratively conserving
    synaptic flow, NeurIPS 2020; Abdelfattah et al., ICLR 2021, for its sum as a score of a network
    without batch norms. Some published tables have its logarithm.

    Args:
        network: maps images to logits; a copy of it runs.
        image_shape: (channels, height, width).
    """
    flow = copied(network).eval().double()
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
