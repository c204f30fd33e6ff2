"""The state of a network as one vector: capture it, restore it, name its tensors."""

import io
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dtb_builder.record import TensorTable, TrainingState

__all__ = ["capture", "restore", "tensor_table", "torch_file"]

COUNTER = "num_batches_tracked"


def tensor_table(network: nn.Module) -> TensorTable:
    """The names and shapes of the network's tensors, in the order of a captured state.

    >>> tensor_table(nn.Linear(3, 2)).names
    ('weight', 'bias')
    """
    tensors, _ = _tensors_and_counters(network)
    return TensorTable(tuple(tensors), tuple(tuple(tensor.shape) for tensor in tensors.values()))


def capture(network: nn.Module) -> TrainingState:
    """A copy of the network's state; every tensor is in C order, whatever its memory format.

    Raises:
        ValueError: a tensor is not float32, or the batch norms have not counted the same number of
            batches.
    """
    tensors, counters = _tensors_and_counters(network)
    # Concatenated on the device: one transfer from a GPU instead of hundreds.
    values = torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).cpu().numpy()
    counts = torch.stack(list(counters.values())).tolist() if counters else [0]
    if min(counts) != max(counts):
        fewest, most = (list(counters)[counts.index(extreme(counts))] for extreme in (min, max))
        raise ValueError(
            f"all batch norms must have counted the same number of batches, "
            f"got {min(counts)} in {fewest} and {max(counts)} in {most}"
        )
    return TrainingState(values, counts[0])


def restore(network: nn.Module, state: TrainingState) -> None:
    """Write a captured state into a network with the same tensors, in place.

    Raises:
        ValueError: the state's number of floats is not the network's, or the state counts batches
            but the network has no batch norm.
    """
    tensors, counters = _tensors_and_counters(network)
    sizes = [tensor.numel() for tensor in tensors.values()]
    if len(state.values) != sum(sizes):
        raise ValueError(f"expected a state of {sum(sizes)} floats, got {len(state.values)}")
    if state.num_batches_tracked and not counters:
        raise ValueError(
            f"a network without batch norm counts 0 batches, got {state.num_batches_tracked}"
        )
    # Copied, because torch warns about read-only arrays, such as those of a file.
    values = torch.from_numpy(state.values.copy()).to(next(iter(tensors.values())).device)
    for tensor, part in zip(tensors.values(), values.split(sizes), strict=True):
        tensor.copy_(part.view(tensor.shape))
    for counter in counters.values():
        counter.fill_(state.num_batches_tracked)


def torch_file(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The bytes of a file that ``torch.load`` reads as a state dict of the named arrays."""
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, buffer)
    return buffer.getvalue()


def _tensors_and_counters(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's float32 tensors, and the batch counters of its batch norms, by name.

    Raises:
        ValueError: a tensor is not float32, or there are no tensors.
    """
    tensors, counters = {}, {}
    for name, tensor in network.state_dict().items():
        is_counter = name.rpartition(".")[2] == COUNTER
        if not is_counter and tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32, got {tensor.dtype}")
        (counters if is_counter else tensors)[name] = tensor
    if not tensors:
        raise ValueError(f"{type(network).__name__} has no tensors, so it has no state")
    return tensors, counters
