"""What scores are computed on: a copy of the network, and the probe images as a tensor."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.scores.probe import ProbeImages

__all__ = ["full_precision", "probe_tensor", "probed_copy"]


def probed_copy(network: nn.Module) -> nn.Module:
    """A deep copy in evaluation mode, but for batch norms, which use their batch's statistics.

    So drop-path, dropout and an auxiliary head that works in training only are off. At the
    initialisation a batch norm's running statistics say nothing about the network: in plain
    evaluation mode scores rank networks much worse. A copy, because batch norms move their running
    statistics as they use a batch's.

    The copy has the hooks of the network, and no gradients.
    """
    probed = copy.deepcopy(network).eval()
    for module in probed.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    probed.zero_grad(set_to_none=True)
    return probed


def probe_tensor(probe: ProbeImages, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Tensor:
    """The probe as networks see it, channels last, for the layout decides the last bits.

    Args:
        probe: the images.
        mean: of each channel with pixels scaled to [0, 1], shape (channels,).
        std: standard deviation of each channel, likewise.
    """
    normalised = torch.from_numpy(probe.normalised(mean, std))
    return normalised.contiguous(memory_format=torch.channels_last)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Autocast off, whatever surrounds it: products in bfloat16 corrupt counts and gradients."""
    with torch.autocast(device.type, enabled=False):
        yield
