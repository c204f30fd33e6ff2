"""Many stored states, prefetched in the order in which they lie in their files."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.run import Run, numbered_run, own_number, spans
from dtb_builder.dataset.states import StatePlaces
from dtb_builder.dataset.store import Store
from dtb_builder.errors import StateNotKeptError
from dtb_builder.record import Moment, TrainingState, whole_number

if TYPE_CHECKING:
    from dtb_builder.network.network import Network

__all__ = ["SelectedStates", "StoredState", "selected_states"]

_READERS = 2
_AHEAD = 2 * _READERS
"""Parts that are prefetched."""

_PART_FLOATS = 2**20
"""The most floats of a part, unless a single state has more."""

_Part = list[tuple[int, StatePlaces, list[int]]]
"""Rows, the places of their states, and the positions wanted of each."""


@dataclass(frozen=True, eq=False)
class StoredState:
    """A state, with its run and its moment.

    Attributes:
        run: the run.
        moment: when the state was captured.
        values: all tensors in one vector, float32, shape (run.tensors.num_floats,).
    """

    run: Run
    moment: Moment
    values: NDArray[np.float32]

    @property
    def epoch(self) -> int | None:
        """The epoch after which it was captured, 0 for the initialisation; None within an epoch.

        >>> bench.states(epochs=[3])[0].epoch
        3
        """
        return self.moment.epoch

    @property
    def step(self) -> int:
        """Training steps before it, counted over the whole training.

        >>> bench.states(epochs=[3])[0].step
        60
        """
        return self.moment.step

    @property
    def training_state(self) -> TrainingState:
        """The state as `Run.training_state` gives it.

        >>> bench.states(epochs=[3])[0].training_state.num_batches_tracked
        60
        """
        return TrainingState(self.values, self.step)

    def named(self) -> dict[str, NDArray[np.float32]]:
        """The named arrays, views into the vector.

        >>> bench.states(epochs=[3])[0].named()["classifier.weight"].shape
        (10, 48)
        """
        return self.run.tensors.unpack(self.values)

    def network(self, *, contiguous: bool = False) -> "Network":
        """The network as `Run.network` gives it.

        >>> bench.states(epochs=[3])[0].network().training
        False
        """
        return self.run.network_of(self.training_state, contiguous=contiguous)


class SelectedStates(Sequence[StoredState]):
    """Stored states: a sequence that prefetches when it is iterated over.

    Runs come in the order in which they lie in the files; the states of a run come in time order.

    Attributes:
        rows: the row of each state's run in the benchmark's columns, shape (states,).
    """

    def __init__(self, store: Store, rows: NDArray[np.intp], positions: NDArray[np.intp]) -> None:
        self._store = store
        self.rows = rows
        self._positions = positions

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def moments(self) -> list[Moment]:
        """When each state was captured."""
        of_file = self._store.index.moments
        return [of_file[position] for position in self._positions.tolist()]

    def __reduce__(self) -> tuple[type["SelectedStates"], tuple[Store, NDArray, NDArray]]:
        """A process that unpickles the sequence opens the file itself."""
        return SelectedStates, (self._store, self.rows, self._positions)

    def reopened(self) -> "SelectedStates":
        """The same states of the file opened again, for a forked process."""
        return SelectedStates(Store(self._store.path), self.rows, self._positions)

    def __repr__(self) -> str:
        return f"<{len(self)} states of {self._store.path}>"

    @overload
    def __getitem__(self, index: int) -> StoredState: ...

    @overload
    def __getitem__(self, index: slice) -> "SelectedStates": ...

    def __getitem__(self, index: int | slice) -> "StoredState | SelectedStates":
        """One state, read now, a negative index counting from the end; or some, not yet read."""
        if isinstance(index, slice):
            return SelectedStates(self._store, self.rows[index], self._positions[index])
        row, position = int(self.rows[index]), int(self._positions[index])
        values = self._store.states.state(row, position).values
        return StoredState(Run(self._store, row), self._store.index.moments[position], values)

    def __iter__(self) -> Iterator[StoredState]:
        moments, parts = self._store.index.moments, self._parts()
        readers = ThreadPoolExecutor(_READERS, thread_name_prefix="dtb states")

        def begun(number: int) -> list[tuple[_Part, Future[list[NDArray[np.float32]]]]]:
            return [(p, readers.submit(self._vectors, p)) for p in itertools.islice(parts, number)]

        try:
            ahead = deque(begun(_AHEAD))
            while ahead:
                part, vectors = ahead.popleft()
                # If no reader has begun the part, read it here instead of waiting.
                found = iter(self._vectors(part) if vectors.cancel() else vectors.result())
                ahead.extend(begun(1))
                for row, _, positions in part:
                    run = Run(self._store, row)
                    for position in positions:
                        yield StoredState(run, moments[position], next(found))
        finally:
            readers.shutdown(cancel_futures=True)

    def places(self) -> Iterator[tuple[Run, Moment]]:
        """The run and the moment of each state; reads no state."""
        moments = self._store.index.moments
        for row, position in zip(self.rows.tolist(), self._positions.tolist(), strict=True):
            yield Run(self._store, row), moments[position]

    def _parts(self) -> Iterator[_Part]:
        """The parts, each read together and of about _PART_FLOATS floats at most."""
        pairs = zip(self.rows.tolist(), self._positions.tolist(), strict=True)
        part: _Part = []
        num_floats = 0
        for row, of_row in itertools.groupby(pairs, key=lambda pair: pair[0]):
            places = self._store.states.places(row)
            length = places.num_floats
            for _, position in of_row:
                if part and num_floats + length > _PART_FLOATS:
                    yield part
                    part, num_floats = [], 0
                if not part or part[-1][0] != row:
                    part.append((row, places, []))
                part[-1][2].append(position)
                num_floats += length
        if part:
            yield part

    def _vectors(self, part: _Part) -> list[NDArray[np.float32]]:
        """The vectors of a part; the base of several differences is decoded once."""
        of_row = itertools.starmap(self._store.states.vectors, (each[1:] for each in part))
        return list(itertools.chain.from_iterable(of_row))


def selected_states(
    store: Store,
    runs: Iterable[Run | int] | None,
    epochs: Iterable[int] | None,
    steps: Iterable[int] | None,
) -> SelectedStates:
    """The states of some runs at some moments; see `Benchmark.states`."""
    positions = _positions(store, epochs, steps)
    index = store.index
    blocks = index.streamed(["moments/length"], 2**12)
    kept = [block["moments/length"][:, positions] > 0 for block in blocks]
    there = np.concatenate([*kept, np.zeros((0, len(positions)), bool)])
    if runs is not None:
        numbers = [numbered_run(store, own_number(store, run)).number for run in runs]
        there[~np.isin(index.numbers, numbers)] = False
    order = np.lexsort((index.column("runs/tensors_offset"), index.column("runs/volume")))
    rows, columns = np.nonzero(there[order])
    return SelectedStates(store, order[rows], np.asarray(positions, np.intp)[columns])


def _positions(
    store: Store, epochs: Iterable[int] | None, steps: Iterable[int] | None
) -> list[int]:
    """The positions of the wanted moments; of all moments if none are named."""
    moments = store.index.moments
    if epochs is None and steps is None:
        return list(range(len(moments)))
    wanted_epochs = {store.epoch_row(epoch) for epoch in epochs or ()}
    wanted_steps = {whole_number("step", step) for step in steps or ()}
    for what, wanted in (("epoch", wanted_epochs), ("step", wanted_steps)):
        there = {getattr(moment, what) for moment in moments} - {None}
        if lacking := sorted(wanted - there):
            raise StateNotKeptError(
                f"{store.path}: no state of {what} {lacking[0]} was kept; "
                f"kept are {spans(sorted(there))}"
            )
    return [
        position
        for position, moment in enumerate(moments)
        if moment.epoch in wanted_epochs or moment.step in wanted_steps
    ]
