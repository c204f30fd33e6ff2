"""Between a network's tensors and the one vector that is remembered of them."""

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
    """Where a captured state has each of the network's tensors.

    >>> tensor_table(nn.Linear(3, 2)).names
    ('weight', 'bias')
    """
    tensors, _ = _tensors_and_counters(network)
    return TensorTable(tuple(tensors), tuple(tuple(tensor.shape) for tensor in tensors.values()))


def capture(network: nn.Module) -> TrainingState:
    """A copy of the network's state, every tensor in C order whatever its memory format.

    Raises:
        ValueError: a tensor is not float32, or batch norms have seen different numbers of batches.
    """
    tensors, counters = _tensors_and_counters(network)
    # One concatenation on the device, so that a GPU makes one transfer instead of hundreds.
    values = torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).cpu().numpy()
    counts = torch.stack(list(counters.values())).tolist() if counters else [0]
    if min(counts) != max(counts):
        fewest, most = (list(counters)[counts.index(extreme(counts))] for extreme in (min, max))
        raise ValueError(
            f"all batch norms must have seen as many batches, "
            f"got {min(counts)} in {fewest} and {max(counts)} in {most}"
        )
    return TrainingState(values, counts[0])


def restore(network: nn.Module, state: TrainingState) -> None:
    """Write a captured state into a network of the same tensors, in place.

    Raises:
        ValueError: the state has not as many floats as the network, or counts batches for none.
    """
    tensors, counters = _tensors_and_counters(network)
    sizes = [tensor.numel() for tensor in tensors.values()]
    if len(state.values) != sum(sizes):
        raise ValueError(f"expected a state of {sum(sizes)} floats, got {len(state.values)}")
    if state.num_batches_tracked and not counters:
        raise ValueError(
            f"a network without batch norm has seen 0 batches, got {state.num_batches_tracked}"
        )
    # Copied, since torch warns of arrays that it may not write, such as a file's.
    values = torch.from_numpy(state.values.copy()).to(next(iter(tensors.values())).device)
    for tensor, part in zip(tensors.values(), values.split(sizes), strict=True):
        tensor.copy_(part.view(tensor.shape))
    for counter in counters.values():
        counter.fill_(state.num_batches_tracked)


def torch_file(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Named arrays as the file that ``torch.load`` reads, and ``load_state_dict`` takes."""
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(array.copy()) for name, array in tensors.items()}, buffer)
    return buffer.getvalue()


def _tensors_and_counters(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The network's own float32 tensors, and the batch counters of its batch norms, by name."""
    tensors, counters = {}, {}
    for name, tensor in network.state_dict().items():
        is_counter = name.rpartition(".")[2] == COUNTER
        if not is_counter and tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32, got {tensor.dtype}")
        (counters if is_counter else tensors)[name] = tensor
    if not tensors:
        raise ValueError(f"{type(network).__name__} has no tensors that make a state")
    return tensors, counters
