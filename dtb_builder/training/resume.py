"""What a training needs to go on after an epoch as if it had never stopped."""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from dtb_builder.errors import DamagedFileError
from dtb_builder.training.finished import FinishedEpoch

__all__ = ["Checkpoint"]

_MAGIC = b"DTB checkpoint 1\n"
_NUM_HEADER = len(_MAGIC) + hashlib.sha256().digest_size


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state dicts after an epoch, on the CPU; randomness needs no state (see seeds).

    Attributes:
        epoch: the last finished one.
        network: parameters and buffers.
        optimizer: momentum, and the next epoch's learning rate.
        scheduler: where the schedule stands.
    """

    epoch: int
    network: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    scheduler: Mapping[str, Any]

    @classmethod
    def capture(cls, finished: FinishedEpoch) -> Self:
        """A copy, which stays as it is when the training goes on."""
        return cls(
            epoch=finished.epoch,
            network=_copied(finished.network.state_dict()),
            optimizer=_copied(finished.optimizer.state_dict()),
            scheduler=_copied(finished.scheduler.state_dict()),
        )

    def restore(self, network: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Bring a network, its optimiser and its scheduler to where they were."""
        network.load_state_dict(self.network)
        # A copy: the optimiser keeps the very tensors that it loads and trains on in them.
        optimizer.load_state_dict(_copied(self.optimizer))
        scheduler.load_state_dict(_copied(self.scheduler))

    def to_bytes(self) -> bytes:
        """The checkpoint with a checksum in front."""
        buffer = io.BytesIO()
        torch.save({field.name: getattr(self, field.name) for field in fields(self)}, buffer)
        payload = buffer.getbuffer()
        return b"".join((_MAGIC, hashlib.sha256(payload).digest(), payload))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what to_bytes has written; anything else raises DamagedFileError."""
        if not data.startswith(_MAGIC):
            raise DamagedFileError(f"a checkpoint begins with {_MAGIC!r}, got {data[:17]!r}")
        digest, payload = data[len(_MAGIC) : _NUM_HEADER], memoryview(data)[_NUM_HEADER:]
        if hashlib.sha256(payload).digest() != digest:
            raise DamagedFileError(
                f"a checkpoint of {len(data)} bytes does not have the checksum in its header"
            )
        try:
            content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            return cls(**content)
        except (pickle.UnpicklingError, RuntimeError, TypeError, EOFError) as error:
            raise DamagedFileError(f"a checkpoint of {len(data)} bytes: {error}") from error


def _copied(value: Any) -> Any:
    """A deep copy on the CPU; unlike deepcopy it takes no memory on a GPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return value
