"""Reading a benchmark: finding its runs, and their metrics side by side."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dtb_builder.dataset.evaluation import Evaluation, evaluate_run
from dtb_builder.dataset.facts import facts_html, facts_of
from dtb_builder.dataset.grouping import ByGenotype, Means, grouped
from dtb_builder.dataset.run import Run, numbered_run, spans
from dtb_builder.dataset.schema import COLUMNS, VOLUMES
from dtb_builder.dataset.selection import SelectedStates, selected_states
from dtb_builder.dataset.states import check_plain
from dtb_builder.dataset.store import FailedRun, Store, metric_columns
from dtb_builder.dataset.trained_images import TrainedImages, images_of, parts_of
from dtb_builder.errors import (
    DamagedFileError,
    GenotypeError,
    MissingVolumeError,
    NoSuchRunError,
    NotFoundError,
)
from dtb_builder.extras import extras_are_named
from dtb_builder.record import HIGHER_IS_BETTER, Moment, whole_number
from dtb_builder.space.listing import GenotypeLike, find_genotype
from dtb_builder.space.numbering import number_of, numbers_of

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import xarray

__all__ = ["Benchmark"]

Wanted = GenotypeLike | tuple[GenotypeLike, int] | tuple[GenotypeLike, int, int]


class Benchmark:
    """A published benchmark, or a single shard, open for reading.

    Nothing is drawn at random, nothing has a hidden default, and reading changes nothing. Arrays
    are read when first used, verified by their checksums, and cached. In the examples, ``bench`` is
    ``Benchmark.example()``.

    Args:
        path: the index file, commonly ``dtb.h5``, or a shard. A URL that fsspec supports, such as
            ``https://...``, ``s3://...`` or ``hf://...``, is read in parts from the server.

    Raises:
        FileNotFoundError: there is no such file.
        RemoteError: here or in any method: a request to the server failed.
        NotDTBFileError: the file is not a DTB file.
        SchemaVersionError: the file needs another version of this package.
        DamagedFileError: here or in any method: the bytes are not those that were written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._store = Store(path)
        self._orders: dict[str, tuple[NDArray[Any], NDArray[np.intp]]] = {}
        try:
            self._store.index.check_start()
        except BaseException:
            self._store.close()
            raise

    @classmethod
    def example(cls) -> Self:
        """The small benchmark inside the package: 6 genotypes from 2 seeds, trained on digits.

        >>> bench = Benchmark.example()
        >>> bench.run(0).state(epoch=5)["classifier.weight"].shape
        (10, 48)
        """
        return cls(Path(__file__).parents[1] / "example.h5")

    def __reduce__(self) -> tuple[type["Benchmark"], tuple[Path | str]]:
        """A process that unpickles the benchmark opens the file itself."""
        return Benchmark, (self.path,)

    def close(self) -> None:
        """Close the files; columns that were read stay usable.

        >>> with Benchmark.example() as closed:
        ...     losses = closed.array("valid_loss")
        >>> losses.shape
        (12, 6)
        """
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Benchmark {self._store.path}: {len(self)} runs of {self.num_epochs} epochs>"

    def _repr_html_(self) -> str:
        """The HTML that notebooks show."""
        kept = spans([moment.epoch for moment in self.moments if moment.epoch is not None])
        facts = {
            "runs": f"{len(self)} of {self.num_epochs} epochs",
            "states": f"at {len(self.moments)} moments of a run, after epochs {kept}",
            **facts_of(self.provenance),
        }
        return facts_html(f"Benchmark {self.file_name}", facts)

    # The whole.

    @property
    def path(self) -> Path | str:
        """The file, or its full URL, credentials and query included.

        >>> bench.path.name
        'example.h5'
        """
        path = self._store.path
        return path if isinstance(path, Path) else path.raw

    @property
    def file_name(self) -> str:
        """The file's name without its folder.

        >>> bench.file_name
        'example.h5'
        """
        path = self._store.path
        return (
            path.name if isinstance(path, Path) else path.raw.partition("?")[0].rpartition("/")[2]
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The local file, and the volumes in the same folder that hold its states.

        Raises:
            ValueError: the benchmark is on a server.

        >>> len(bench.files)
        1
        """
        path = self._store.path
        if not isinstance(path, Path):
            raise ValueError(f"{path} is on a server, not a file here")
        names = [name for name in self._store.index.texts(VOLUMES) if name]
        for name in names:
            check_plain(name, path)
        return path, *(path.with_name(name) for name in names)

    def check_files(self) -> None:
        """Check that all files exist.

        Raises:
            MissingVolumeError: one is missing.

        >>> bench.check_files()
        """
        for file in self.files:
            if not file.exists():
                raise MissingVolumeError(f"{file} is missing; it holds states of {self.path}")

    @property
    def schema_version(self) -> str:
        """The schema version of the file.

        >>> bench.schema_version
        '2.0'
        """
        return self._store.schema_version

    @property
    def num_epochs(self) -> int:
        """Epochs of every run; a run has one row more, for epoch 0, the initialisation.

        >>> bench.num_epochs
        5
        """
        return self._store.index.num_epochs

    @property
    def provenance(self) -> dict[str, Any]:
        """How the benchmark was made: config, network, images and splits.

        >>> bench.provenance["images"]["name"]
        'digits'
        """
        return self._store.provenance

    @property
    def provenance_text(self) -> str:
        """The provenance as the file's JSON text.

        >>> bench.provenance_text[0]
        '{'
        """
        return self._store.provenance_text

    @property
    def environments(self) -> tuple[dict[str, Any], ...]:
        """The devices and software that epochs ran on.

        >>> "device_name" in bench.environments[0]
        True
        """
        return self._store.environments

    @property
    def failures(self) -> tuple[FailedRun, ...]:
        """The runs of the plan that failed for good, with their last error.

        >>> bench.failures
        ()
        """
        return self._store.failures

    # Its runs.

    def __len__(self) -> int:
        return self._store.index.num_runs

    def __iter__(self) -> Iterator[Run]:
        return (Run(self._store, row) for row in range(len(self)))

    def run(self, number: int) -> Run:
        """The run of this number in the plan.

        Raises:
            KeyError: the benchmark has no such run.
            TypeError: the number is not whole.

        >>> bench.run(3).number
        3
        """
        return numbered_run(self._store, number)

    def runs_of(self, genotype: GenotypeLike) -> tuple[Run, ...]:
        """All runs of a genotype, given in any spelling or by name; empty if there are none.

        >>> [run.seed for run in bench.runs_of(bench[0].genotype)]
        [0, 1]
        """
        numbers, order = self._ordered("runs/genotype", _numbers, np.int64)
        return self._runs(_found(numbers, order, number_of(find_genotype(genotype))))

    def isomorphic_to(self, genotype: GenotypeLike) -> tuple[Run, ...]:
        """All runs of genotypes that differ only in the names of their nodes, by number.

        >>> [run.number for run in bench.isomorphic_to(bench[0].genotype)]
        [0, 1]
        """
        prefixes, order = self._ordered("runs/iso_key", _prefixes, np.uint64)
        wanted = np.frombuffer(bytes.fromhex(find_genotype(genotype).iso_key), np.uint8)
        rows = _found(prefixes, order, _prefixes(wanted[None])[0])
        keys = [self._store.index.cell("runs/iso_key", row) for row in rows]
        return self._runs(row for row, key in zip(rows, keys, strict=True) if (key == wanted).all())

    def __contains__(self, wanted: Run | Wanted) -> bool:
        """Whether a run, or a run of this genotype and these seeds, is in the benchmark.

        Raises:
            GenotypeError: and TypeError: as `run_of`.
        """
        if isinstance(wanted, Run):
            return wanted.file == self.path and wanted.number in self.numbers
        genotype, seeds = _parts(wanted)
        return bool(_of_seeds(self.runs_of(genotype), seeds))

    @overload
    def __getitem__(self, wanted: SupportsIndex | Wanted) -> Run: ...

    @overload
    def __getitem__(self, wanted: slice) -> tuple[Run, ...]: ...

    def __getitem__(self, wanted: SupportsIndex | slice | Wanted) -> Run | tuple[Run, ...]:
        """The run at a position, those of a slice, or the one run of a genotype and its seeds.

        ``[genotype]``, ``[genotype, seed]`` and ``[genotype, seed, order_seed]`` behave as
        `run_of`. A position counts from 0, or backwards from -1; use `run` for a run's number in
        its plan.

        Raises:
            IndexError: there is no such position.

        >>> bench[-1].number, bench[bench[0].genotype, 1].number, len(bench[:3])
        (11, 1, 3)
        """
        if isinstance(wanted, slice):
            return self._runs(range(len(self))[wanted])
        if isinstance(wanted, SupportsIndex) and not isinstance(wanted, bool):
            at = whole_number("a position", wanted)
            if not -len(self) <= at < len(self):
                raise IndexError(f"no position {at} among {len(self)} runs; run() takes numbers")
            return Run(self._store, at % len(self))
        genotype, seeds = _parts(wanted)
        return self.run_of(genotype, **seeds)

    def run_of(
        self, genotype: GenotypeLike, *, seed: int | None = None, order_seed: int | None = None
    ) -> Run:
        """The one run of a genotype, given in any spelling or by the name of a published one.

        Args:
            genotype: the genotype.
            seed: seed of the initialisation, if there are several runs.
            order_seed: seed of the data order and augmentation, if there are several runs.

        Raises:
            KeyError: there is no such run, or several: `runs_of` gives them all.
            GenotypeError: the text is neither a genotype nor a name in NAMED.
            TypeError: a seed is not a whole number.

        >>> bench.run_of(bench[0].genotype, seed=1).number
        1
        """
        wanted = find_genotype(genotype)
        seeds = _whole({"seed": seed, "order_seed": order_seed})
        every = self.runs_of(wanted)
        runs = _of_seeds(every, seeds)
        if len(runs) == 1:
            return runs[0]
        there = ", ".join(f"{run.seed}/{run.order_seed}" for run in runs or every)
        if runs:
            raise NoSuchRunError(
                f"{len(runs)} runs of this genotype, of seed/order seed {there}: "
                "use runs_of, or run_of with seed= and order_seed="
            )
        if every:
            given = " and ".join(f"{name} {value}" for name, value in seeds.items())
            raise NoSuchRunError(f"no run of {given} among those of seed/order seed {there}")
        others = [run.number for run in self.isomorphic_to(wanted)]
        hint = f"; runs {others} are of isomorphic genotypes" if others else ""
        raise NoSuchRunError(
            f"none of the {len(self)} runs of {self._store.path} is of {wanted.short_name}{hint}"
        )

    def top(self, k: int, *, by: str, epoch: int) -> tuple[Run, ...]:
        """The k best runs by a metric at an epoch, best first; ties go by number.

        The highest accuracy is best; the lowest loss or time is best. A run is left out if its
        metric was not measured at this epoch, or is NaN.

        Raises:
            KeyError: there is no such metric or epoch.
            ValueError: k is negative, or the metric has no better or worse.

        >>> [run.number for run in bench.top(2, by="valid_accuracy", epoch=-1)]
        [9, 10]
        """
        k = whole_number("k", k)
        if k < 0:
            raise ValueError(f"k must be at least 0, got {k}")
        values = self.array(by, epoch=self.epoch_row(epoch)).filled(np.nan)
        if by not in HIGHER_IS_BETTER:
            raise ValueError(f"{by} has no better or worse; sort array({by!r}) instead")
        usable = np.flatnonzero(~np.isnan(values))
        ascending = -values[usable] if HIGHER_IS_BETTER[by] else values[usable]
        if 0 < k < len(usable):  # sort only the values at least as good as the k-th
            close = np.flatnonzero(ascending <= np.partition(ascending, k - 1)[k - 1])
            usable, ascending = usable[close], ascending[close]
        best = usable[np.argsort(ascending, kind="stable")[:k]]
        return self._runs(best.tolist())

    def select(self, mask: ArrayLike) -> tuple[Run, ...]:
        """The runs for which a mask is True, by number.

        Args:
            mask: bool, shape (runs,), such as a comparison of the columns below; a run whose entry
                is masked is left out.

        Raises:
            ValueError: the mask has another type or shape.

        >>> len(bench.select(bench.array("test_accuracy", epoch=-1) > 0.9))
        9
        """
        given: np.ma.MaskedArray = np.ma.asarray(mask)
        if given.dtype != np.bool_ or given.shape != (len(self),):
            raise ValueError(
                f"expected a mask of {len(self)} truth values, got {given.dtype} of {given.shape}"
            )
        return self._runs(np.flatnonzero(given.filled(False)).tolist())

    # Their columns.

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Every run's number in the plan, shape (runs,).

        >>> bench.numbers[:3].tolist()
        [0, 1, 2]
        """
        return self._store.index.numbers

    @property
    def seeds(self) -> NDArray[np.int64]:
        """The seed of every run's initialisation, shape (runs,).

        >>> bench.seeds[:3].tolist()
        [0, 1, 0]
        """
        return self._store.index.column("runs/seed")

    @property
    def order_seeds(self) -> NDArray[np.int64]:
        """The seed of every run's data order and augmentation, shape (runs,).

        >>> bench.order_seeds[:3].tolist()
        [0, 1, 0]
        """
        return self._store.index.column("runs/order_seed")

    @property
    def last_epochs(self) -> NDArray[np.int32]:
        """Every run's last epoch: num_epochs, or less if the run diverged; shape (runs,).

        >>> set(bench.last_epochs.tolist())
        {5}
        """
        return self._store.index.column("runs/num_epochs")

    @property
    def num_parameters(self) -> NDArray[np.int64]:
        """Every run's trainable parameters, auxiliary head included, shape (runs,).

        >>> bench.num_parameters[:2].tolist()
        [5191, 5191]
        """
        return self._store.index.column("runs/num_parameters")

    @property
    def multiply_accumulates(self) -> NDArray[np.int64]:
        """Every run's multiply-accumulates for one image, shape (runs,).

        >>> bench.multiply_accumulates[:2].tolist()
        [71184, 71184]
        """
        return self._store.index.column("runs/multiply_accumulates")

    @property
    def num_states(self) -> int:
        """The number of stored training states, of all runs.

        >>> bench.num_states
        72
        """
        lengths = self._store.index.reduced("moments/length", _count, np.int64)
        return int(lengths.sum())

    @property
    def moments(self) -> tuple[Moment, ...]:
        """The moments at which states are kept; a run that diverged lacks the later ones.

        >>> [moment.step for moment in bench.moments]
        [0, 10, 20, 60, 80, 100]
        """
        return self._store.index.moments

    @property
    def genotypes(self) -> NDArray[np.uint8]:
        """Every run's `Genotype.to_array`: uint8, shape (runs, 2, 8, 2).

        The axes are run, cell, edge, (operation, predecessor).

        >>> bench.genotypes.shape
        (12, 2, 8, 2)
        """
        return self._store.index.column("runs/genotype")

    def array(self, metric: str, *, epoch: int | None = None) -> np.ma.MaskedArray:
        """A metric of all runs, masked where it was not measured.

        Args:
            metric: a name of `dtb_builder.record.METRICS`.
            epoch: 0 to num_epochs, or -1 for the last; None for all.

        Returns:
            float64, shape (runs,), or (runs, num_epochs + 1) for all epochs.

        Raises:
            KeyError: there is no such metric or epoch.

        >>> bench.array("test_accuracy").shape, bench.array("test_accuracy", epoch=-1).shape
        ((12, 6), (12,))
        """
        index, names = self._store.index, metric_columns(metric)
        if epoch is None:
            values, measured = (index.column(name) for name in names)
        else:
            row = self.epoch_row(epoch)
            values, measured = (
                index.reduced(name, lambda rows: rows[:, row], kind)
                for name, kind in zip(names, (np.float64, np.uint8), strict=True)
            )
        return np.ma.masked_array(values, mask=measured == 0)

    def epoch_row(self, epoch: int) -> int:
        """The row of an epoch in a curve; -1 is the last epoch.

        Raises:
            KeyError: there is no such epoch.

        >>> bench.epoch_row(-1)
        5
        """
        return self._store.epoch_row(epoch)

    def evaluate(
        self,
        genotype: GenotypeLike | Run,
        *,
        epochs: int,
        seed: int | None = None,
        order_seed: int | None = None,
    ) -> Evaluation:
        """The metrics and the cost of training a genotype for ``epochs`` epochs.

        Args:
            genotype: in any spelling, or its name; or one of the runs.
            epochs: 0 to num_epochs; 0 is the initialisation.
            seed: selects one of several runs of the genotype.
            order_seed: selects one of several runs of the genotype.

        Raises:
            KeyError: there is no such run, or several, or no such epoch, or no times were measured.

        >>> bench.evaluate(bench[0], epochs=3).epochs
        3
        """
        if not isinstance(genotype, Run):
            run = self.run_of(genotype, seed=seed, order_seed=order_seed)
        elif seed is None and order_seed is None:
            run = genotype
        else:
            raise TypeError("a run has its own seeds: leave out seed= and order_seed=")
        if not 0 <= whole_number("epochs", epochs) <= run.num_epochs:
            raise NotFoundError(f"run {run.number} has 0 to {run.num_epochs} epochs, not {epochs}")
        return evaluate_run(run, epochs)

    def images(self, root: str | os.PathLike[str] | None = None) -> TrainedImages:
        """The training, validation and test images of the runs, as the networks see them.

        ``dtb generate`` finds images in the same way; their hashes must match those in the file.

        Args:
            root: the folder of the images, or None for the default.

        Raises:
            ImagesError: the images are missing, or are not those of the training.

        >>> test = Benchmark.example().images().test
        >>> test.images.shape, test.labels.shape
        ((359, 1, 8, 8), (359,))
        """
        root = None if root is None else Path(root)
        return parts_of(*images_of(self.provenance, root, user=self._store.path))

    def states(
        self,
        *,
        runs: Iterable[Run | int] | None = None,
        epochs: Iterable[int] | None = None,
        steps: Iterable[int] | None = None,
    ) -> SelectedStates:
        """Stored states of many runs: a sequence that prefetches when it is iterated over.

        Args:
            runs: the runs, or their numbers; None for all.
            epochs: states after these epochs; -1 is the last. Without epochs and steps, all states.
            steps: states after these training steps, counted over the whole training.

        Returns:
            the states that exist: a run that diverged before an epoch has none for it.

        Raises:
            StateNotKeptError: no run has a state of one of the epochs or steps.
            KeyError: there is no such run or epoch.
            ValueError: a run is of another file.

        >>> states = Benchmark.example().states(epochs=[0, -1])
        >>> len(states), states[0].epoch, states[-1].values.dtype
        (24, 0, dtype('float32'))
        >>> sum(state.run.seed for state in states)
        12
        """
        return selected_states(self._store, runs, epochs, steps)

    def streamed(self, names: Sequence[str], num_runs: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Columns of the schema, such as ``metrics/valid_loss``, for ``num_runs`` runs at a time.

        Raises:
            KeyError: the schema has no such column of runs.
            ValueError: num_runs is not at least 1.

        >>> [len(part["runs/seed"]) for part in bench.streamed(["runs/seed"], 5)]
        [5, 5, 2]
        """
        names = list(names)
        if whole_number("num_runs", num_runs) < 1:
            raise ValueError(f"num_runs must be at least 1, got {num_runs}")
        if unknown := sorted(
            set(names) - {column.name for column in COLUMNS if column.counts_runs}
        ):
            raise NotFoundError(f"no column {unknown[0]!r} in the schema")
        return self._store.index.streamed(names, num_runs)

    @extras_are_named("to_dataframe")
    def to_dataframe(self) -> "pandas.DataFrame":
        """One row per run and epoch; a metric that was not measured is NaN.

        >>> len(bench.to_dataframe())
        72
        """
        return self.to_arrow().to_pandas()

    @extras_are_named("to_arrow")
    def to_arrow(self) -> "pyarrow.Table":
        """One row per run and epoch; a metric that was not measured is null.

        >>> bench.to_arrow().num_rows
        72
        """
        from dtb_builder.dataset.export import table  # here: reading needs no pyarrow

        return table(self)

    @extras_are_named("to_xarray")
    def to_xarray(self) -> "xarray.Dataset":
        """Metrics by run and epoch, NaN where not measured; facts about runs are coordinates.

        >>> dict(bench.to_xarray().sizes)
        {'run': 12, 'epoch': 6}
        """
        from dtb_builder.dataset.labelled import labelled  # here: reading needs no xarray

        return labelled(self)

    def by_genotype(self) -> ByGenotype:
        """The runs by genotype and seeds: metrics of shape (genotypes, seeds, epochs).

        >>> bench.by_genotype().array("test_accuracy").shape
        (6, 2, 6)
        """
        seeds = np.column_stack([self.seeds, self.order_seeds])
        numbers = self._store.index.reduced("runs/genotype", _numbers, np.int64)
        return grouped(self.genotypes, numbers, seeds, self.array)

    def mean(self, metric: str, *, epoch: int | None = None) -> Means:
        """A metric's mean over the seeds of each genotype, with deviations and counts.

        Arguments and errors as in `array`.

        >>> bench.mean("test_accuracy", epoch=-1).count.tolist()
        [2, 2, 2, 2, 2, 2]
        """
        return self.by_genotype().mean(metric, epoch=epoch)

    def _runs(self, rows: Iterable[int]) -> tuple[Run, ...]:
        return tuple(Run(self._store, row) for row in rows)

    def _ordered(
        self, name: str, reduce: Callable[[NDArray[Any]], NDArray[Any]], dtype: DTypeLike
    ) -> tuple[NDArray[Any], NDArray[np.intp]]:
        """A column reduced to one number per run: sorted values, and their rows; cached."""
        if name not in self._orders:
            values = self._store.index.reduced(name, reduce, dtype)
            order = np.argsort(values)
            self._orders[name] = values[order], order
        return self._orders[name]


def _count(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.count_nonzero(lengths, axis=1)


def _numbers(genotypes: NDArray[np.uint8]) -> NDArray[np.int64]:
    try:
        return numbers_of(genotypes)
    except GenotypeError as error:
        raise DamagedFileError(f"runs/genotype: {error}") from error


def _found(ordered: NDArray[Any], order: NDArray[np.intp], wanted: int) -> list[int]:
    """The rows, in order, that have the wanted value."""
    first = stop = int(ordered.searchsorted(wanted))
    while stop < len(ordered) and ordered[stop] == wanted:
        stop += 1
    return sorted(order[first:stop].tolist())


def _prefixes(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 8 bytes of each key as a number that numpy can search for; shape (keys,)."""
    return np.ascontiguousarray(keys[:, :8]).view("<u8").reshape(-1)


def _parts(wanted: Any) -> tuple[Any, dict[str, int]]:
    """A genotype and the seeds given with it, by name."""
    if not isinstance(wanted, tuple) or hasattr(wanted, "normal"):  # a namedtuple of cells
        return wanted, {}
    if not 1 <= len(wanted) <= 3:
        raise TypeError(f"expected a genotype, a seed and an order seed, got {wanted!r}")
    return wanted[0], _whole(dict(zip(("seed", "order_seed"), wanted[1:], strict=False)))


def _whole(seeds: dict[str, int | None]) -> dict[str, int]:
    return {name: whole_number(name, seed) for name, seed in seeds.items() if seed is not None}


def _of_seeds(runs: Iterable[Run], seeds: dict[str, int]) -> list[Run]:
    return [run for run in runs if all(getattr(run, name) == s for name, s in seeds.items())]
