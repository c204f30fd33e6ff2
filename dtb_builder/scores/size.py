"""The size of a network, as baseline scores."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dtb_builder.scores.graph import weights_of

__all__ = ["l2_norm", "multiply_accumulates", "num_parameters"]


def num_parameters(network: nn.Module) -> int:
    """The number of trainable parameters, including those of an auxiliary head.

    >>> num_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def l2_norm(network: nn.Module) -> float:
    """Sum over convolutions and linear layers of the Euclidean norm of a layer's weights.

    Those of an auxiliary head count, too.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, and its code,
    SamsungLabs/zero-cost-nas.
    """
    return sum(float(weight.detach().norm()) for weight in weights_of(network))


def multiply_accumulates(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image, in evaluation mode.

    Papers often call this number FLOPs; the number of torch's FlopCounterMode is twice as large. A
    copy on the meta device runs, so nothing is computed.

    Args:
        network: any module.
        image_shape: (channels, height, width).
    """
    shapes = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, *image_shape, device="meta"))
    return counter.get_total_flops() // 2
