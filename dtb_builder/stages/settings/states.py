"""Which training states are kept, as checked settings."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["StatesConfig"]


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """Which training states are kept.

    Attributes:
        epochs: those after which a state is kept, -1 being the last; or "all"; or "logarithmic":
            0, 1, 2, 4, 8 and so on, and the last.
        steps: those of the first epoch after which a state is kept, too; counted from 1.
        auxiliary_head: whether the auxiliary head's tensors are kept.
        dtype: what the floats are rounded to; as float32 they are stored in either case.
        key_every: of so many kept epochs one, the first, has its state stored as it is, and the
            others as differences to it; 1 stores every state as it is.
    """

    epochs: Literal["all", "logarithmic"] | tuple[int, ...]
    steps: tuple[int, ...] = ()
    auxiliary_head: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    key_every: int = 1

    def __post_init__(self) -> None:
        if self.key_every < 1:
            raise ValueError(f"states.key_every must be at least 1, got {self.key_every}")
        if list(self.steps) != sorted(set(self.steps)) or min(self.steps, default=1) < 1:
            raise ValueError(f"states.steps must increase from at least 1, got {list(self.steps)}")

    def keeps(self, epoch: int, num_epochs: int) -> bool:
        """Whether the state after an epoch is kept, of a run of so many epochs."""
        if self.epochs == "all":
            return True
        if self.epochs == "logarithmic":
            return epoch.bit_count() <= 1 or epoch == num_epochs
        return epoch in {num_epochs if kept == -1 else kept for kept in self.epochs}

    def differences(self, num_epochs: int) -> dict[int, int]:
        """The epochs whose states are stored as differences, in order, each with its key's epoch.

        >>> StatesConfig(epochs="all", key_every=3).differences(5)
        {1: 0, 2: 0, 4: 3, 5: 3}
        """
        kept = [epoch for epoch in range(num_epochs + 1) if self.keeps(epoch, num_epochs)]
        keys = (kept[i - i % self.key_every] for i in range(len(kept)))
        return {epoch: key for epoch, key in zip(kept, keys, strict=True) if epoch != key}
