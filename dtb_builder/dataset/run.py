"""One run of a benchmark: its metrics and its training states."""

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.reevaluation import reevaluate_state
from dtb_builder.dataset.replay import Replayed, replay
from dtb_builder.dataset.source import Location
from dtb_builder.dataset.states import StatePlaces, table_to_array
from dtb_builder.dataset.store import Store, metric_columns
from dtb_builder.dataset.weights import write_weights
from dtb_builder.errors import (
    DamagedFileError,
    NoSuchRunError,
    NotMeasuredError,
    StateNotKeptError,
)
from dtb_builder.extras import extras_are_named
from dtb_builder.record import Moment, TensorTable, TrainingState, whole_number
from dtb_builder.space import Genotype

if TYPE_CHECKING:
    from dtb_builder.network.network import Network
    from dtb_builder.training.evaluation import LossAndAccuracy

__all__ = ["Run", "made_table", "numbered_run", "own_number"]


class Run:
    """One training of one genotype: a row of an open benchmark.

    In the examples, ``run`` is the first run of ``bench``, which is ``Benchmark.example()``.
    """

    def __init__(self, store: Store, row: int) -> None:
        self._store = store
        self._row = row
        self._genotype: Genotype | None = None
        self._tensors: TensorTable | None = None

    def __eq__(self, other: object) -> bool:
        """Whether both are the same run of the same file."""
        if not isinstance(other, Run):
            return NotImplemented
        return (self._store.path, self.number) == (other._store.path, other.number)

    def __hash__(self) -> int:
        return hash((self._store.path, self.number))

    def __reduce__(self) -> tuple[Callable[[Store, int], "Run"], tuple[Store, int]]:
        """A process that unpickles the run opens the file itself."""
        return numbered_run, (self._store, self.number)

    def __repr__(self) -> str:
        name = self.genotype.short_name
        return f"<Run {self.number} of {self._store.path}: {name}, seed {self.seed}>"

    @property
    def number(self) -> int:
        """The run's number in the plan.

        >>> bench[3].number
        3
        """
        return int(self._column("runs/number"))

    @property
    def seed(self) -> int:
        """The seed of the initialisation.

        >>> bench[3].seed
        1
        """
        return int(self._column("runs/seed"))

    @property
    def order_seed(self) -> int:
        """The seed of the data order, augmentation and drop-path.

        >>> bench[3].order_seed
        1
        """
        return int(self._column("runs/order_seed"))

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, auxiliary head included.

        >>> run.num_parameters
        5191
        """
        return int(self._column("runs/num_parameters"))

    @property
    def multiply_accumulates(self) -> int:
        """Multiply-accumulates of convolutions and matrix products for one image.

        Those of the auxiliary head are not counted.

        >>> run.multiply_accumulates
        71184
        """
        return int(self._column("runs/multiply_accumulates"))

    @property
    def genotype(self) -> Genotype:
        """The genotype in canonical spelling.

        >>> run.genotype
        <Genotype f9a0494a>
        """
        if self._genotype is None:
            array = self._column("runs/genotype")
            with damage_is_named(self._store.path):
                self._genotype = Genotype.from_array(array)
        return self._genotype

    @property
    def num_epochs(self) -> int:
        """The run's last epoch: the benchmark's last, or an earlier one if the run diverged.

        >>> run.num_epochs
        5
        """
        last = int(self._column("runs/num_epochs"))
        if not 0 <= last <= self._store.index.num_epochs:
            raise DamagedFileError(f"{self._store.path}: a run ends at epoch {last}")
        return last

    @property
    def origin(self) -> dict[str, Any]:
        """Where the run comes from: trained here, or branched from a run of another benchmark.

        >>> run.origin
        {'kind': 'trained'}
        """
        return self._listed(self._store.origins, "origin", int(self._column("runs/origin")))

    @property
    def branch_epoch(self) -> int | None:
        """The epoch of the parent run at which this run branched off; None if it has no parent.

        >>> run.branch_epoch is None
        True
        """
        origin = self.origin
        if origin.get("kind") != "branched":
            return None
        with damage_is_named(self.file):
            return int(origin["epoch"])

    @property
    def crc32c(self) -> int:
        """The run's checksum, which stays the same when shards are merged.

        >>> run.crc32c == bench[0].crc32c
        True
        """
        return int(self._column("runs/crc32c"))

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments at which the run's state is kept, in order.

        >>> run.moments[1]
        Moment(step=10, epoch=None, base=None)
        """
        return tuple(self._store.index.moments[i] for i in self._kept("length"))

    @property
    def state_epochs(self) -> tuple[int, ...]:
        """The epochs after which the run's state is kept; 0 is the initialisation.

        >>> run.state_epochs
        (0, 1, 3, 4, 5)
        """
        return tuple(moment.epoch for moment in self.moments if moment.epoch is not None)

    @property
    def state_steps(self) -> tuple[int, ...]:
        """The training steps within an epoch after which the run's state is kept.

        >>> run.state_steps
        (10,)
        """
        return tuple(moment.step for moment in self.moments if moment.epoch is None)

    @property
    def momentum_epochs(self) -> tuple[int, ...]:
        """The epochs after which the run's momentum is kept.

        >>> run.momentum_epochs
        (1,)
        """
        epochs = (self._store.index.moments[i].epoch for i in self._kept("momentum_length"))
        return tuple(epoch for epoch in epochs if epoch is not None)

    @property
    def checkpoint_epochs(self) -> tuple[int, ...]:
        """The epochs after which a training can resume: see `replay` and ``dtb branch``.

        The exact state is kept there, and the momentum if the recipe uses momentum.

        >>> run.checkpoint_epochs
        (0, 1)
        """
        if not self._store.keeps_exact_states:
            return ()
        with damage_is_named(self.file):
            without = self.provenance["config"]["recipe"]["momentum"] == 0
        known = {*self.momentum_epochs, self.branch_epoch or 0}
        return tuple(epoch for epoch in self.state_epochs if without or epoch in known)

    @extras_are_named("replay")
    def replay(self, *, epoch: int, root: str | os.PathLike[str] | None = None) -> Replayed:
        """Compute a state that was not kept, by training from the nearest earlier checkpoint.

        The state is bitwise equal to the original on the same class of device with the same
        software. If it differs, a warning names both environments.

        Args:
            epoch: -1 is the benchmark's last.
            root: the folder of the images, or None for the default.

        Raises:
            KeyError: there is no such epoch, the run diverged earlier, or the epoch belongs to the
                parent run in another benchmark.
            ImagesError: the images here are not those of the training.
            ConfigError: the training's device or compiled passes are not available here.

        >>> with warnings.catch_warnings(action="ignore"):  # another processor has other last bits
        ...     replayed = run.replay(epoch=2)
        >>> replayed.start, replayed.state.num_batches_tracked
        (1, 40)
        """
        found = replay(self, epoch=epoch, root=None if root is None else Path(root))
        if not found.is_same:
            warnings.warn(found.verdict, stacklevel=2)
        return found

    @property
    def provenance(self) -> dict[str, Any]:
        """How the run's file was made.

        >>> run.provenance["network"]["layers"]
        3
        """
        return self._store.provenance

    @property
    def provenance_sha256(self) -> str:
        """SHA-256 of the provenance text; branches and copies use it to name the file.

        >>> len(run.provenance_sha256)
        64
        """
        return self._store.provenance_sha256

    @property
    def file(self) -> Location:
        """The file that contains the run.

        >>> run.file == bench.path
        True
        """
        return self._store.path

    def _kept(self, column: str) -> list[int]:
        """The positions of moments whose ``length`` or ``momentum_length`` is not 0."""
        length = self._store.states.length(self._row, column)
        if (length < 0).any():
            raise DamagedFileError(f"{self._store.path}: moments/{column} should be at least 0")
        return np.flatnonzero(length).tolist()

    def state_crc32c(self, *, epoch: int) -> int:
        """The CRC-32C of the state after an epoch, as trained; also if the state is not kept.

        The checksum is of the little-endian float32 vector of all tensors, before any rounding and
        before any tensor was left out.

        Raises:
            KeyError: there is no such epoch, or the run diverged earlier.

        >>> run.state_crc32c(epoch=2) == run.state_crc32c(epoch=3)
        False
        """
        return int(self._column("runs/state_crc32c")[self._epoch_row(epoch)])

    def _epoch_row(self, epoch: int) -> int:
        row = self._store.epoch_row(epoch)
        if row > self.num_epochs:
            raise NotMeasuredError(
                f"run {self.number} has no epoch {row}: it ended at {self.num_epochs}"
            )
        return row

    def environment(self, *, epoch: int) -> dict[str, Any]:
        """The device and software that an epoch ran on; -1 is the last epoch.

        Raises:
            KeyError: there is no such epoch, or the run diverged earlier.

        >>> "torch" in run.environment(epoch=-1)
        True
        """
        number = int(self._column("runs/environment")[self._epoch_row(epoch)])
        return self._listed(self._store.environments, "environment", number)

    def _listed(self, texts: tuple[dict[str, Any], ...], what: str, number: int) -> dict[str, Any]:
        if not 0 <= number < len(texts):
            raise DamagedFileError(
                f"{self._store.path} has {len(texts)} {what}s, none of number {number}"
            )
        return dict(texts[number])

    def curve(self, metric: str) -> np.ma.MaskedArray:
        """A metric at every epoch, float64 of shape (num_epochs + 1,), masked where not measured.

        Raises:
            KeyError: there is no such metric.

        >>> run.curve("train_loss").mask.tolist()           # nothing is trained at epoch 0
        [True, False, False, False, False, False]
        """
        values, measured = self._store.index.cells(metric_columns(metric), self._row).values()
        return np.ma.masked_array(values, mask=measured == 0)

    def metric(self, name: str, *, epoch: int) -> float:
        """A metric at one epoch; -1 is the last epoch.

        Raises:
            KeyError: there is no such metric or epoch, or the metric was not measured there.

        >>> round(run.metric("test_accuracy", epoch=-1), 3)
        0.911
        """
        values, measured = self._store.index.cells(metric_columns(name), self._row).values()
        row = self._store.epoch_row(epoch)
        if not measured[row]:
            there = spans(np.flatnonzero(measured).tolist())
            raise NotMeasuredError(f"{name} was not measured at epoch {row}; it was at {there}")
        return float(values[row])

    @property
    def tensors(self) -> TensorTable:
        """Where each named tensor lies in the vector of a state.

        If the file has no states, it is made from the genotype, which needs torch.

        >>> run.tensors.names[0], run.tensors.shapes[0]
        ('stem.0.weight', (9, 1, 3, 3))
        """
        if self._tensors is None:
            places = self._store.states.places(self._row)
            self._tensors = (
                self._store.states.tensors(self._row)
                if places.has_table
                else made_table(self._store, self.genotype, places)
            )
        return self._tensors

    def training_state(self, *, epoch: int | None = None, step: int | None = None) -> TrainingState:
        """The training state after an epoch or a training step, as one vector.

        Args:
            epoch: -1 is the benchmark's last.
            step: counted over the whole training; 0 is the initialisation.

        Raises:
            KeyError: there is no such epoch or step, or its state was not kept.
            TypeError: neither or both are given, or the number is not whole.
            MissingVolumeError: the file with the run's states is missing.

        >>> run.training_state(step=10).values.dtype
        dtype('float32')
        """
        if (epoch is None) == (step is None):
            raise TypeError(
                f"one of epoch and step must be a whole number, got epoch={epoch}, step={step}"
            )
        if step is not None:
            wanted, what = whole_number("step", step), "step"
        else:
            assert epoch is not None
            wanted, what = self._store.epoch_row(epoch), "epoch"
        return self._store.states.state(self._row, self._position(what, wanted, "length"))

    def _position(self, what: str, wanted: int, column: str) -> int:
        """The position of the kept moment with this epoch or step."""
        moments, kept = self._store.index.moments, self._kept(column)
        for position in kept:
            if getattr(moments[position], what) == wanted:
                return position
        there = [at for i in kept if (at := getattr(moments[i], what)) is not None]
        kind = "state" if column == "length" else "momentum"
        raise StateNotKeptError(
            f"run {self.number}: the {kind} of {what} {wanted} was not kept; "
            f"kept are {spans(there)}"
        )

    def state(
        self, *, epoch: int | None = None, step: int | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """A training state as named arrays; arguments and errors as in `training_state`.

        >>> run.state(epoch=5)["classifier.weight"].shape
        (10, 48)
        """
        values = self.training_state(epoch=epoch, step=step).values
        return self.tensors.unpack(values)

    def momentum(self, *, epoch: int) -> dict[str, NDArray[np.float32]]:
        """The optimiser's momentum after an epoch, by tensor; zeros for tensors without momentum.

        Raises:
            KeyError: there is no such epoch, or its momentum was not kept: see `momentum_epochs`.
            MissingVolumeError: the file with the run's states is missing.

        >>> run.momentum(epoch=1)["classifier.bias"].shape
        (10,)
        """
        position = self._position("epoch", self._store.epoch_row(epoch), "momentum_length")
        values = self._store.states.momentum(self._row, position)
        return self.tensors.unpack(values)

    def export(
        self, path: str | os.PathLike[str], *, epoch: int | None = None, step: int | None = None
    ) -> None:
        """Write a state to a file for other tools: ``.safetensors``, or ``.pt`` for torch.

        The metadata of a safetensors file name the run and the step; a torch file holds only the
        named tensors. The file is whole or absent.

        Raises:
            ValueError: the file name has another ending.
            MissingPackageError: the package safetensors, or torch, is not installed.
            KeyError: and TypeError: as `training_state`.

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     run.export(f"{folder}/state.safetensors", epoch=-1)
        """
        state = self.training_state(epoch=epoch, step=step)
        about = {
            "genotype": str(self.genotype),
            "run": str(self.number),
            "seed": str(self.seed),
            "order_seed": str(self.order_seed),
            "step": str(state.num_batches_tracked),
        }
        write_weights(Path(path), self.tensors.unpack(state.values), about)

    @extras_are_named("network")
    def network(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        state: Mapping[str, ArrayLike] | NDArray[np.float32] | None = None,
        contiguous: bool = False,
    ) -> "Network":
        """The network after an epoch or a step, as a torch module in evaluation mode.

        It has no auxiliary head if none was stored.

        Args:
            epoch: as in `training_state`.
            step: as in `training_state`.
            state: your own state instead, such as an average of several: named tensors as `state`
                gives, or one vector as `training_state` gives. Its batch norms may need
                `dtb_builder.network.recalibration`.
            contiguous: store the weights in torch's default memory format instead of the training's
                channels last, for hooks that flatten maps by ``view``. The last bits of the outputs
                then differ.

        Raises:
            KeyError: there is no such epoch or step, or its state was not kept.
            ValueError: your state has other tensors than the run's.
            TypeError: not exactly one of epoch, step and state is given.
            DamagedFileError: the state does not fit the network, tensor for tensor.

        >>> own = {name: 0.9 * weights for name, weights in run.state(epoch=5).items()}
        >>> type(run.network(epoch=5)) == type(run.network(state=own))
        True
        """
        if state is None:
            weights = self.training_state(epoch=epoch, step=step)
        elif epoch is None and step is None:
            named = state if isinstance(state, Mapping) else self.tensors.unpack(state)
            weights = TrainingState(self.tensors.pack(named), 0)
        else:
            raise TypeError("give a state of your own without epoch= and step=")
        return self.network_of(weights, contiguous=contiguous)

    @extras_are_named("network")
    def network_of(self, weights: TrainingState, *, contiguous: bool = False) -> "Network":
        """The network with the weights of a state of this run; otherwise as `network`.

        >>> run.network_of(run.training_state(step=10)).training
        False
        """
        from dtb_builder.network.layout import make_contiguous
        from dtb_builder.network.rebuilt import rebuilt
        from dtb_builder.network.spec import AUXILIARY_HEAD, NetworkSpec

        with damage_is_named(self._store.path):
            spec = NetworkSpec(**self._store.provenance["network"])
        if not any(name.startswith(AUXILIARY_HEAD) for name in self.tensors.names):
            spec = replace(spec, auxiliary=False)  # trained with it, but stored without it
        try:
            network = rebuilt(self.genotype, spec, self.tensors, weights)
        except ValueError as error:
            where = f"run {self.number} of {self._store.path}"
            raise DamagedFileError(f"{where}: {error}") from error
        if contiguous:
            make_contiguous(network)
        return network

    @extras_are_named("evaluate")
    def evaluate(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        split: Literal["train", "valid", "test"],
        root: str | os.PathLike[str] | None = None,
    ) -> "LossAndAccuracy":
        """Evaluate the state after an epoch or a step again, on images without augmentation.

        On the class of device and the software of the training, a float32 state gives exactly its
        stored loss and accuracy; elsewhere the difference is within what ``dtb reproduce``
        tolerates. If there is no GPU, the CPU also evaluates runs that were trained on a GPU.

        Args:
            epoch: as in `training_state`.
            step: as in `training_state`.
            split: which images.
            root: the folder of the images, or None for the default.

        Raises:
            KeyError: there is no such epoch or step, or its state was not kept.
            ImagesError: the images here are not those of the training.

        >>> run.evaluate(epoch=5, split="test").accuracy > 0.8
        True
        """
        root = None if root is None else Path(root)
        return reevaluate_state(self, epoch=epoch, step=step, split=split, root=root)

    def _column(self, name: str) -> NDArray[Any]:
        return self._store.index.cell(name, self._row)


def numbered_run(store: Store, number: int) -> Run:
    """The run of this number in the plan; raises what `Benchmark.run` raises."""
    number = whole_number("a run's number", number)
    numbers = store.index.numbers
    row = int(np.searchsorted(numbers, number))
    if row == len(numbers) or numbers[row] != number:
        span = f", {numbers[0]} to {numbers[-1]}" if len(numbers) else ""
        raise NoSuchRunError(f"{store.path} has no run {number}; it has {len(numbers)} runs{span}")
    return Run(store, row)


def own_number(store: Store, run: Run | int) -> int:
    """The number of a run of a file, which is given as such or by its number.

    Raises:
        ValueError: it is a run of another file, where the number may stand for another run.
        TypeError: the number is not whole.
    """
    if not isinstance(run, Run):
        return whole_number("a run's number", run)
    if run.file != store.path:
        raise ValueError(f"{run!r} is not of {store.path}: give the run's number there")
    return run.number


@extras_are_named("the tensor table of a run without states")
def made_table(store: Store, genotype: Genotype, places: StatePlaces) -> TensorTable:
    """The tensor table that a file without states leaves out: that of the genotype's network.

    Raises:
        DamagedFileError: the table does not have the checksum in the run's row.
        MissingPackageError: torch is not installed.
    """
    from dtb_builder.network.rebuilt import table_without_states
    from dtb_builder.network.spec import NetworkSpec

    with damage_is_named(store.path):
        provenance = store.provenance
        spec = NetworkSpec(**provenance["network"])
        if not provenance["config"]["states"]["auxiliary_head"]:
            spec = replace(spec, auxiliary=False)
        table = table_without_states(genotype, spec, places.num_floats)
        if crc32c(table_to_array(table).tobytes()) != places.tensors_crc32c:
            raise DamagedFileError(f"the tensor table of {genotype!r} is that of another network")
    return table


def spans(numbers: tuple[int, ...] | list[int]) -> str:
    """Increasing numbers as text; consecutive numbers become ranges.

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
