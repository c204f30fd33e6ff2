"""Encode captured states as frames, by the settings of a plan."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import Journal, MomentFrames
from dtb_builder.network.spec import AUXILIARY_HEAD
from dtb_builder.record import Moment, TensorTable, TrainingState
from dtb_builder.stages.settings.states import StatesConfig

__all__ = ["StateEncoder", "Storing"]


class Storing:
    """Selects and rounds the values of a network's states that are stored.

    Args:
        states: the settings.
        tensors: the network's tensors.

    Attributes:
        tensors: the stored tensors.
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
        """The stored part of a captured state, rounded."""
        values = state.values if self._kept is None else state.values[self._kept]
        if self._rounds:
            values = codec.bfloat16(values)
        return TrainingState(values, state.num_batches_tracked)


class StateEncoder:
    """Makes the frames of a run's states, whole or as differences to an earlier state.

    Args:
        moments: the moments at which states are stored.
        journal: the run's journal so far.
    """

    def __init__(self, moments: Sequence[Moment], journal: Journal) -> None:
        self._moments = {moment.step: moment for moment in moments}
        self._steps = [moment.step for moment in moments]
        self._journal = journal
        self._base: tuple[int, NDArray[np.float32]] | None = None

    def keeps(self, step: int) -> bool:
        """Whether the state after a training step is stored."""
        return step in self._moments

    def frames(
        self, state: TrainingState, momentum: NDArray[np.float32] | None = None
    ) -> MomentFrames:
        """The frames of a state, which must be given in order after those of the journal."""
        moment = self._moments[state.num_batches_tracked]
        moved = b"" if momentum is None else codec.encode(momentum)
        if moment.base is None:
            if moment.epoch is not None:
                self._base = moment.step, state.values
            return MomentFrames(moment, codec.encode(state.values), moved)
        base_step = self._steps[moment.base]
        if self._base is None or self._base[0] != base_step:
            self._base = base_step, self._in_journal(base_step)
        return MomentFrames(moment, codec.encode_difference(state.values, self._base[1]), moved)

    def _in_journal(self, step: int) -> NDArray[np.float32]:
        (kept,) = (kept for kept in self._journal.moments if kept.moment.step == step)
        (frame,) = self._journal.read([kept.frame])
        return codec.decode(frame, num_floats=self._journal.run.tensors.num_floats)
