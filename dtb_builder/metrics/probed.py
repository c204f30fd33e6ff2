"""The copy of a network on which scores are computed."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["full_precision", "probed_copy"]


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


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Autocast off, whatever surrounds it: products in bfloat16 corrupt counts and gradients."""
    with torch.autocast(device.type, enabled=False):
        yield
