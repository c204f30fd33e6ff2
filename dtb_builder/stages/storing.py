"""What of a captured state is stored, and how: the settings that decide a state's bytes."""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import Journal
from dtb_builder.network.spec import AUXILIARY_HEAD
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.stages.config import StatesConfig

__all__ = ["StateEncoder", "Storing"]


class Storing:
    """How the states of a network are stored.

    Args:
        states: the settings.
        tensors: of the network.

    Attributes:
        tensors: those that are stored.
    """

    def __init__(self, states: StatesConfig, tensors: TensorTable) -> None:
        kept = [
            states.auxiliary_head or not name.startswith(AUXILIARY_HEAD) for name in tensors.names
        ]
        self.tensors = TensorTable(
            tuple(name for name, keep in zip(tensors.names, kept, strict=True) if keep),
            tuple(shape for shape, keep in zip(tensors.shapes, kept, strict=True) if keep),
        )
        self._kept = None if all(kept) else np.repeat(kept, np.diff(tensors.offsets))
        self._rounds = states.dtype == "bfloat16"

    def stored(self, state: TrainingState) -> TrainingState:
        """What is stored of a captured state."""
        values = state.values if self._kept is None else state.values[self._kept]
        if self._rounds:
            values = codec.bfloat16(values)
        return TrainingState(values, state.num_batches_tracked)


class StateEncoder:
    """Makes the frames of a run's states, whole or as differences to those before.

    Args:
        states: the settings.
        num_epochs: of the run.
        journal: of the run, as far as it has come.
    """

    def __init__(self, states: StatesConfig, num_epochs: int, journal: Journal) -> None:
        self._keys = states.differences(num_epochs)
        self._journal = journal
        self._last: tuple[int, NDArray[np.float32]] | None = None

    def frame(self, epoch: int, values: NDArray[np.float32]) -> tuple[bytes, int | None]:
        """The frame of a kept epoch's state, and the epoch it is a difference to, or None.

        Epochs come in order, those in the journal left out.
        """
        key = self._keys.get(epoch)
        if key is not None:
            return codec.encode_difference(values, self._values(key)), key
        if epoch in self._keys.values():
            self._last = epoch, values
        return codec.encode(values), None

    def _values(self, epoch: int) -> NDArray[np.float32]:
        """Of a key state: the last one, or that of before a resume."""
        if self._last is None or self._last[0] != epoch:
            (frame,) = self._journal.frames([self._journal.epochs[epoch]])
            num_floats = self._journal.run.tensors.num_floats
            self._last = epoch, codec.decode(frame, num_floats=num_floats)
        return self._last[1]
