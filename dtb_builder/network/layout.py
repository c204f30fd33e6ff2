"""How a network's weights lie in memory, which its maps follow."""

import torch
from torch import nn

from dtb_builder.network.operations import ChannelsLastConvolution

__all__ = ["make_contiguous"]


def make_contiguous(network: nn.Module) -> None:
    """Have weights lie as torch has them by default, not channels last; in place.

    Cloned, since torch takes a weight of one input channel for contiguous in either layout, yet a
    convolution takes its own from the strides.
    """
    for module in network.modules():
        if isinstance(module, ChannelsLastConvolution):
            module.contiguous_maps = True
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
