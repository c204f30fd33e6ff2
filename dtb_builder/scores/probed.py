"""The copy of a network on which scores are computed, and the probe images as a tensor."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dtb_builder.scores.probe import ProbeImages

__all__ = ["copied", "full_precision", "probe_tensor", "probed_copy"]


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """What copy.deepcopy gives, in a third of its time, most of which it takes for empty tables.

    Every module has about ten empty tables of hooks, and hundreds of modules are copied for a score
    that takes a forward pass.
    """
    memo = {} if memo is None else memo
    if id(module) in memo:
        return memo[id(module)]
    twin = memo[id(module)] = module.__new__(type(module))
    for name, value in vars(module).items():
        if name == "_modules":
            twin.__dict__[name] = {
                n: None if each is None else copied(each, memo) for n, each in value.items()
            }
        elif isinstance(value, dict | set) and not value:
            twin.__dict__[name] = type(value)()
        else:
            twin.__dict__[name] = copy.deepcopy(value, memo)
    return twin


def probed_copy(network: nn.Module) -> nn.Module:
    """A deep copy in evaluation mode, but its batch norms use the statistics of the batch.

    So drop-path, dropout and the auxiliary head are off. Running statistics have no meaning at
    initialisation: in plain evaluation mode, scores rank networks much worse. The network is copied
    because batch norms in training mode update their running statistics.

    The copy has the hooks of the network, and no gradients.
    """
    probed = copied(network).eval()
    for module in probed.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    probed.zero_grad(set_to_none=True)
    return probed


def probe_tensor(probe: ProbeImages, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Tensor:
    """The probe as input of a network, float32, shape (images, channels, height, width).

    It is channels last in memory, since the layout decides the last bits.

    Args:
        probe: the images.
        mean: mean of each channel with pixels scaled to [0, 1], shape (channels,).
        std: standard deviation of each channel, likewise.
    """
    normalised = torch.from_numpy(probe.normalised(mean, std))
    return normalised.contiguous(memory_format=torch.channels_last)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Within, autocast is off: products in bfloat16 would corrupt counts and gradients."""
    with torch.autocast(device.type, enabled=False):
        yield
