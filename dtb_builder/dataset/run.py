"""One run of a benchmark: its metrics and its training states."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.store import Store
from dtb_builder.errors import (
    DamagedFileError,
    NoSuchRunError,
    NotMeasuredError,
    StateNotKeptError,
)
from dtb_builder.record import TensorTable, TrainingState, whole_number
from dtb_builder.space import Genotype

if TYPE_CHECKING:
    from dtb_builder.network.network import Network

__all__ = ["Run", "numbered_run"]


class Run:
    """One training of one genotype: a row of an open benchmark."""

    def __init__(self, store: Store, row: int) -> None:
        self._store = store
        self._row = row

    def __eq__(self, other: object) -> bool:
        """Whether it is the same run of the same file."""
        if not isinstance(other, Run):
            return NotImplemented
        return (self._store.path, self.number) == (other._store.path, other.number)

    def __hash__(self) -> int:
        return hash((self._store.path, self.number))

    def __reduce__(self) -> tuple[Callable[[Store, int], "Run"], tuple[Store, int]]:
        """Another process opens the file for itself."""
        return numbered_run, (self._store, self.number)

    def __repr__(self) -> str:
        return f"<Run {self.number} of {self._store.path}: seed {self.seed}, {self.genotype}>"

    @property
    def number(self) -> int:
        """The run's number in the plan."""
        return int(self._column("runs/number"))

    @property
    def seed(self) -> int:
        """The seed of the initialisation and the training."""
        return int(self._column("runs/seed"))

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, auxiliary head included."""
        return int(self._column("runs/num_parameters"))

    @cached_property
    def genotype(self) -> Genotype:
        """The genotype in canonical spelling."""
        array = self._column("runs/genotype")
        with damage_is_named(self._store.path):
            return Genotype.from_array(array)

    @property
    def state_epochs(self) -> tuple[int, ...]:
        """The epochs whose training states are kept."""
        return self._store.kept(self._row)

    @property
    def state_steps(self) -> tuple[int, ...]:
        """The steps of the first epoch, from 1, after which training states are kept."""
        return self._store.steps(self._row)

    def environment(self, *, epoch: int) -> dict[str, Any]:
        """The device and software on which an epoch ran, -1 being the last.

        Raises:
            KeyError: there is no such epoch.
        """
        number = int(self._column("runs/environment")[self._store.epoch_row(epoch)])
        environments = self._store.environments
        if not 0 <= number < len(environments):
            raise DamagedFileError(
                f"{self._store.path} has {len(environments)} environments, none of number {number}"
            )
        return environments[number]

    def curve(self, metric: str) -> np.ma.MaskedArray:
        """A metric at every epoch, float64 of shape (num_epochs + 1,), masked where not measured.

        Raises:
            KeyError: there is no such metric.
        """
        values, measured = self._store.curve(metric, self._row)
        return np.ma.masked_array(values, mask=measured == 0)

    def metric(self, name: str, *, epoch: int) -> float:
        """A metric at one epoch, -1 being the last.

        Raises:
            KeyError: there is no such metric or epoch, or it was not measured there.
        """
        values, measured = self._store.curve(name, self._row)
        row = self._store.epoch_row(epoch)
        if not measured[row]:
            there = spans(np.flatnonzero(measured).tolist())
            raise NotMeasuredError(f"{name} was not measured at epoch {row}; it was at {there}")
        return float(values[row])

    @cached_property
    def tensors(self) -> TensorTable:
        """Where each named tensor lies in the vector of a state."""
        return self._store.tensors(self._row)

    def training_state(self, *, epoch: int | None = None, step: int | None = None) -> TrainingState:
        """The training state after an epoch, or after a step of the first one, as one vector.

        Args:
            epoch: -1 is the last.
            step: counted from 1; one of `state_steps`.

        Raises:
            KeyError: there is no such epoch or step, or its state was not kept.
            TypeError: neither or both are given, or it is no whole number.
            MissingVolumeError: the file with the run's states is not there.
        """
        if (epoch is None) == (step is None):
            raise TypeError(
                f"one of epoch and step must be a whole number, got epoch={epoch}, step={step}"
            )
        if step is not None:
            return self._step_state(whole_number("step", step))
        assert epoch is not None
        row = self._store.epoch_row(epoch)
        if row not in self.state_epochs:
            raise StateNotKeptError(
                f"run {self.number}: the state of epoch {row} was not kept; "
                f"kept are {spans(self.state_epochs)}"
            )
        return self._store.state(self._row, row)

    def _step_state(self, step: int) -> TrainingState:
        if step not in self.state_steps:
            raise StateNotKeptError(
                f"run {self.number}: the state of step {step} was not kept; "
                f"kept are {spans(self.state_steps)}"
            )
        return self._store.step_state(self._row, self.state_steps.index(step))

    def state(
        self, *, epoch: int | None = None, step: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """A training state as named arrays; takes and raises what `training_state` does."""
        return self.tensors.unpack(self.training_state(epoch=epoch, step=step).values)

    def network(self, *, epoch: int | None = None, step: int | None = None) -> "Network":
        """The network after an epoch or a step, as a torch module in evaluation mode.

        Takes what `training_state` does. It has no auxiliary head where none was stored.

        Raises:
            KeyError: there is no such epoch or step, or its state was not kept.
            DamagedFileError: the state does not fit the network, tensor for tensor.
        """
        from dtb_builder.network.rebuilt import rebuilt
        from dtb_builder.network.spec import AUXILIARY_HEAD, NetworkSpec

        with damage_is_named(self._store.path):
            spec = NetworkSpec(**self._store.provenance["network"])
        state = self.training_state(epoch=epoch, step=step)
        if not any(name.startswith(AUXILIARY_HEAD) for name in self.tensors.names):
            spec = replace(spec, auxiliary=False)  # it was trained with, but stored without
        try:
            return rebuilt(self.genotype, spec, self.tensors, state)
        except ValueError as error:
            where = f"run {self.number} of {self._store.path}"
            raise DamagedFileError(f"{where}: {error}") from error

    def _column(self, name: str) -> NDArray[Any]:
        return self._store.index.cell(name, self._row)


def numbered_run(store: Store, number: int) -> Run:
    """The run of this number in the plan; raises as `Benchmark.run`."""
    number = whole_number("a run's number", number)
    numbers = store.index.numbers
    row = int(np.searchsorted(numbers, number))
    if row == len(numbers) or numbers[row] != number:
        span = f", {numbers[0]} to {numbers[-1]}" if len(numbers) else ""
        raise NoSuchRunError(f"{store.path} has no run {number}; it has {len(numbers)} runs{span}")
    return Run(store, row)


def spans(numbers: tuple[int, ...] | list[int]) -> str:
    """Increasing numbers, with those that follow one another shortened.

    >>> spans([0, 2, 3, 4, 5])
    '0, 2 to 5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    texts = [str(p[0]) if len(p) == 1 else f"{p[0]} to {p[-1]}" for p in parts]
    return ", ".join(texts) or "none"
