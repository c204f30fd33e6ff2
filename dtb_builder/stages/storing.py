"""What of a captured state is stored: the settings that change a state's floats."""

import numpy as np

from dtb_builder.dataset.codec import bfloat16
from dtb_builder.network.spec import AUXILIARY_HEAD
from dtb_builder.record import TensorTable, TrainingState
from dtb_builder.stages.config import StatesConfig

__all__ = ["Storing"]


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
            values = bfloat16(values)
        return TrainingState(values, state.num_batches_tracked)
