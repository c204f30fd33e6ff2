"""How large a network is: the baselines that every score must beat."""

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dtb_builder.scores.graph import weights_of

__all__ = ["l2_norm", "multiply_accumulates", "num_parameters"]


def num_parameters(network: nn.Module) -> int:
    """Trainable parameters, an auxiliary head's included.

    >>> num_parameters(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def l2_norm(network: nn.Module) -> float:
    """Sum over convolutions and linear layers of the Euclidean norm of a layer's weights.

    Source: Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, and its code,
    SamsungLabs/zero-cost-nas.
    """
    return sum(float(weight.detach().norm()) for weight in weights_of(network))


def multiply_accumulates(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one image, in evaluation mode.

    What papers call FLOPs is mostly this number; torch's own counter, which counts here, has twice
    as many. Nothing is computed: the copy that runs has shapes and no values.

    Args:
        network: any module; it is left as it is.
        image_shape: (channels, height, width).
    """
    shapes = copy.deepcopy(network).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, *image_shape, device="meta"))
    return counter.get_total_flops() // 2
