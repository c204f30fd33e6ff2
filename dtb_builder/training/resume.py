"""Checkpoints: all that a training needs to continue after an epoch, to the same bits."""

import hashlib
import io
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dtb_builder.errors import DamagedFileError
from dtb_builder.training.finished import FinishedEpoch

__all__ = ["Checkpoint"]

_MAGIC = b"DTB checkpoint 2\n"
_NUM_HEADER = len(_MAGIC) + hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state dicts after an epoch, on the CPU; random generators have no state (see seeds).

    Attributes:
        epoch: the last finished epoch.
        network: parameters and buffers.
        optimizer: the momentum and the next epoch's learning rate.
        scheduler: the state of the learning rate schedule.
    """

    epoch: int
    network: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    @classmethod
    def capture(cls, finished: FinishedEpoch) -> Self:
        """A checkpoint with copies of all tensors, which further training does not change."""
        parts = (finished.network, finished.optimizer, finished.scheduler)
        return cls(finished.epoch, *_copied([part.state_dict() for part in parts]))

    def restore(self, network: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Load the state dicts into a network, its optimiser and its scheduler."""
        network.load_state_dict(self.network)
        # Copies, because the optimiser uses the tensors that it loads and changes them in place.
        optimizer.load_state_dict(_mapped(self.optimizer, Tensor.clone))
        scheduler.load_state_dict(_mapped(self.scheduler, Tensor.clone))

    def to_bytes(self) -> bytes:
        """The checkpoint with a checksum in front."""
        buffer = io.BytesIO()
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        torch.save(_packed(parts), buffer)
        payload = buffer.getbuffer()
        return b"".join((_MAGIC, hashlib.sha256(payload).digest(), payload))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of to_bytes.

        Raises:
            DamagedFileError: the bytes are not a whole checkpoint.
        """
        if not data.startswith(_MAGIC):
            raise DamagedFileError(f"a checkpoint begins with {_MAGIC!r}, got {data[:17]!r}")
        digest, payload = data[len(_MAGIC) : _NUM_HEADER], memoryview(data)[_NUM_HEADER:]
        if hashlib.sha256(payload).digest() != digest:
            raise DamagedFileError(
                f"a checkpoint of {len(data)} bytes does not have the checksum in its header"
            )
        try:
            content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            return cls(**_unpacked(content["parts"], content["memories"]))
        except (pickle.UnpicklingError, LookupError, RuntimeError, TypeError, EOFError) as error:
            raise DamagedFileError(f"a checkpoint of {len(data)} bytes: {error}") from error


_PLACE = "place of a tensor"


def _packed(parts: Mapping[str, Any]) -> dict[str, Any]:
    """State dicts with places instead of tensors, and the memories that these are views of.

    torch.save is slow for hundreds of views.
    """
    memories: list[Tensor] = []
    numbers: dict[tuple[int, torch.dtype], int] = {}

    def place(tensor: Tensor) -> dict[str, Any]:
        storage = tensor.untyped_storage()
        number = numbers.setdefault((storage.data_ptr(), tensor.dtype), len(memories))
        if number == len(memories):
            memories.append(torch.empty(0, dtype=tensor.dtype).set_(storage))
        return {_PLACE: (number, tuple(tensor.shape), tensor.stride(), tensor.storage_offset())}

    return {"parts": _mapped(parts, place), "memories": memories}


def _unpacked(value: Any, memories: list[Tensor]) -> Any:
    """The state dicts of _packed, with views of the memories as tensors."""
    if isinstance(value, Mapping):
        if _PLACE in value:
            number, shape, stride, offset = value[_PLACE]
            return memories[number].as_strided(shape, stride, offset)
        return {key: _unpacked(item, memories) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_unpacked(item, memories) for item in value)
    return value


def _copied(value: Any) -> Any:
    """A deep copy on the CPU that takes no lasting memory on a GPU, as copy.deepcopy would.

    All tensors of a dtype are concatenated first, since a network has hundreds of small ones: one
    transfer copies them from a GPU, and torch.save writes them as one memory.
    """
    tensors: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
    _mapped(value, lambda tensor: tensors[tensor.dtype, tensor.device].append(_dense(tensor)))
    copies = {kind: _copied_together(same) for kind, same in tensors.items()}
    return _mapped(value, lambda tensor: next(copies[tensor.dtype, tensor.device]))


def _copied_together(tensors: list[Tensor]) -> Iterator[Tensor]:
    """CPU copies of dense tensors of one dtype and device, each with its memory layout."""
    flat = torch.cat([t.as_strided((t.numel(),), (1,)) for t in tensors]).cpu()
    offset = 0
    for tensor in tensors:
        yield flat.as_strided(tensor.shape, tensor.stride(), offset)
        offset += tensor.numel()


def _dense(tensor: Tensor) -> Tensor:
    """The tensor without gaps in memory: as it is if channels last, else contiguous."""
    tensor = tensor.detach()
    is_dense = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor if is_dense else tensor.contiguous()


def _mapped(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """A state dict with a function applied to each tensor, in order."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(item, function) for item in value)
    return value
