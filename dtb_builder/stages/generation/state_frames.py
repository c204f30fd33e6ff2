"""What of a captured state is stored, and how: the settings that decide a state's bytes."""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import Journal
from dtb_builder.network.spec import AUXILIARY_HEAD
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.stages.settings.states import StatesConfig

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
        self._last_whole: NDArray[np.float32] | None = None

    def frame(self, epoch: int, values: NDArray[np.float32]) -> tuple[bytes, int | None]:
        """The frame of a kept epoch's state, and the epoch it is a difference to, or None.

        Epochs come in order, but for those that the journal has already.
        """
        key = self._keys.get(epoch)
        if key is None:
            self._last_whole = values
            return codec.encode(values), None
        if self._last_whole is None:
            self._last_whole = self._in_journal(key)
        return codec.encode_difference(values, self._last_whole), key

    def _in_journal(self, epoch: int) -> NDArray[np.float32]:
        (frame,) = self._journal.frames([self._journal.epochs[epoch]])
        return codec.decode(frame, num_floats=self._journal.run.tensors.num_floats)
