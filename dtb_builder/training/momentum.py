"""The momentum of torch's SGD as one vector."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from dtb_builder.network.state import tensor_table

__all__ = ["capture_momentum", "restore_momentum"]

_BUFFER = "momentum_buffer"


def capture_momentum(network: nn.Module, optimizer: Optimizer) -> NDArray[np.float32]:
    """A copy of the momentum, with the layout of the network's state.

    It is 0 for tensors without momentum, such as batch-norm statistics.
    """
    parameters, tensors = dict(network.named_parameters()), network.state_dict()
    parts: list[Tensor] = []
    for name in tensor_table(network).names:
        known = optimizer.state.get(parameters[name], {}) if name in parameters else {}
        buffer = known.get(_BUFFER)
        parts.append((torch.zeros_like(tensors[name]) if buffer is None else buffer).reshape(-1))
    return torch.cat(parts).cpu().numpy()


def restore_momentum(network: nn.Module, optimizer: Optimizer, values: NDArray[np.float32]) -> None:
    """Set the momentum buffers of an optimiser to a captured vector.

    Raises:
        ValueError: the vector's length is not that of the network's state.
    """
    parameters = dict(network.named_parameters())
    for name, part in tensor_table(network).unpack(values).items():
        if name in parameters:
            buffer = torch.empty_like(parameters[name])  # in the parameter's own memory layout
            buffer.copy_(torch.from_numpy(part.copy()))
            optimizer.state[parameters[name]][_BUFFER] = buffer
