"""A benchmark's states as torch's DataLoader expects them."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.dataset.selection import SelectedStates
from dtb_builder.extras import extras_are_named

with extras_are_named("torch_states"):
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset

__all__ = ["PaddedStates", "StateDataset", "StateItem", "padded"]


class StateItem(NamedTuple):
    """A state, and what is to be predicted from it.

    Attributes:
        state: float32, shape (floats,), or tensors by their names.
        targets: float32, shape (targets,).
        run: the run's number.
        step: training steps before the state.
    """

    state: Tensor | dict[str, Tensor]
    targets: Tensor
    run: int
    step: int


class PaddedStates(NamedTuple):
    """States of several lengths in one batch.

    Attributes:
        states: float32, shape (batch, floats of the longest), zero beyond a state's end.
        lengths: floats of each, int64, shape (batch,).
        targets: float32, shape (batch, targets).
        runs: int64, shape (batch,).
        steps: likewise.
    """

    states: Tensor
    lengths: Tensor
    targets: Tensor
    runs: Tensor
    steps: Tensor


class StateDataset(Dataset[StateItem]):
    """Stored states with metrics of their runs; worker processes may be forked or spawned.

    Args:
        bench: an open benchmark; each process opens its file for itself.
        runs: as `Benchmark.states`.
        epochs: likewise.
        steps: likewise.
        targets: metrics.
        target_epoch: the epoch of the metrics; None takes each state's own. A state is left out if
            one of its metrics was not measured.
        named: whether an item's state is a dictionary of named tensors instead of a vector.

    Raises:
        KeyError: there is no such run, epoch or metric, or its states were not kept.

    >>> dataset = StateDataset(Benchmark.example(), epochs=[0, 1], targets=("valid_loss",))
    >>> len(dataset), dataset[0].targets.shape
    (24, torch.Size([1]))
    """

    def __init__(
        self,
        bench: Benchmark,
        *,
        runs: Iterable[Run | int] | None = None,
        epochs: Iterable[int] | None = None,
        steps: Iterable[int] | None = None,
        targets: Sequence[str] = ("test_accuracy",),
        target_epoch: int | None = -1,
        named: bool = False,
    ) -> None:
        self._named = named
        self._states = bench.states(runs=runs, epochs=epochs, steps=steps)
        self._process = os.getpid()
        curves = np.stack([bench.array(name).filled(np.nan) for name in targets], axis=-1)
        rows = self._states.rows
        if target_epoch is None:
            ends = [moment.epoch for moment in self._states.moments]
            of_states = curves[rows, [0 if end is None else end for end in ends]]
            of_states[[end is None for end in ends]] = np.nan
        else:
            of_states = curves[rows, bench.epoch_row(target_epoch)]
        self._there = np.flatnonzero(~np.isnan(of_states).any(axis=1))
        self._targets = of_states[self._there].astype(np.float32)

    def __len__(self) -> int:
        return len(self._there)

    def __getitem__(self, index: int) -> StateItem:
        state = self._own_states[int(self._there[index])]
        values = torch.from_numpy(state.values)
        if self._named:
            tensors = state.run.tensors
            sizes = np.diff(tensors.offsets).tolist()
            parts = zip(tensors.names, tensors.shapes, values.split(sizes), strict=True)
            found: Tensor | dict[str, Tensor] = {n: part.view(shape) for n, shape, part in parts}
        else:
            found = values
        targets = torch.from_numpy(self._targets[index])
        return StateItem(found, targets, state.run.number, state.step)

    @property
    def _own_states(self) -> SelectedStates:
        """The states as this process reads them: a forked one opens the file anew."""
        if self._process != os.getpid():
            self._states, self._process = self._states.reopened(), os.getpid()
        return self._states


def padded(items: Sequence[StateItem]) -> PaddedStates:
    """Items with vectors as one batch: ``DataLoader(dataset, collate_fn=padded, ...)``.

    >>> dataset = StateDataset(Benchmark.example(), epochs=[0, 1])
    >>> batch = padded([dataset[0], dataset[-1]])
    >>> batch.states.shape[1] == batch.lengths.max()
    tensor(True)
    """
    vectors = [item.state for item in items]
    if not all(isinstance(vector, Tensor) for vector in vectors):
        raise TypeError("named tensors cannot be padded: use StateDataset(..., named=False)")
    return PaddedStates(
        torch.nn.utils.rnn.pad_sequence(vectors, batch_first=True),  # pyright: ignore[reportArgumentType]
        torch.tensor([len(vector) for vector in vectors]),
        torch.stack([item.targets for item in items]),
        torch.tensor([item.run for item in items]),
        torch.tensor([item.step for item in items]),
    )
