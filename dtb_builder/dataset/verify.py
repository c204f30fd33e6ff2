"""Reading every byte of a DTB file and saying which records are damaged."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.query import Benchmark
from dtb_builder.dataset.run import Run
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError

__all__ = ["Checked", "verify"]


@dataclass(frozen=True)
class Checked:
    """One record that was read.

    Attributes:
        record: a column, or a run and what of it.
        error: what is wrong with it, or None.
    """

    record: str
    error: str | None


def verify(path: Path) -> Iterator[Checked]:
    """Check every column and every state of a benchmark or shard, one record at a time.

    States are checked once the columns that say where they lie are known to be sound.

    Raises:
        DTBError: the file cannot be opened at all.
    """
    with contextlib.closing(Store(path)) as store:
        sound = True
        for record, read in _columns(store):
            checked = Checked(record, _error_of(read))
            sound &= checked.error is None
            yield checked
        if sound:
            with Benchmark(path) as benchmark:
                for record, read in _runs(benchmark, store):
                    yield Checked(record, _error_of(read))


def _columns(store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    for name in schema.TEXTS:
        yield name, partial(store.index.texts, name)
    for column in schema.COLUMNS:
        yield column.name, partial(store.index.column, column.name)
    yield "order of runs/number", lambda: store.index.numbers
    yield "rows of runs/crc32c", partial(_check_rows, store)
    yield "provenance", lambda: store.provenance
    yield "environments of runs/environment", store.check_environments
    yield "order of step_index/step", store.index.check_steps
    yield "keys of difference_index", store.index.check_differences


def _runs(benchmark: Benchmark, store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "lists of HDF5", store.check_lists
    for row, run in enumerate(benchmark):
        yield f"run {run.number} keys", partial(_check_keys, store, row, run)
        yield f"run {run.number} tensors", partial(store.tensors, row)
        yield f"run {run.number} in HDF5", partial(store.check_hdf5, row, run.number)
        for epoch in run.state_epochs:
            name = f"run {run.number} state of epoch {epoch}"
            yield name, partial(run.training_state, epoch=epoch)
        for step in run.state_steps:
            yield f"run {run.number} state of step {step}", partial(run.training_state, step=step)


def _check_rows(store: Store) -> None:
    wrong = np.zeros(store.index.num_runs, bool)
    for checksum, covered in schema.ROW_CHECKSUMS.items():
        columns = {column.name: store.index.column(column.name) for column in covered}
        wrong |= row_checksums(columns, covered) != store.index.column(checksum)
    if wrong.any():
        numbers = store.index.column("runs/number")[wrong].tolist()
        raise DamagedFileError(f"the rows of runs {numbers} are not those that were recorded")


def _check_keys(store: Store, row: int, run: Run) -> None:
    keys = {"key": run.genotype.key, "iso_key": run.genotype.iso_key}
    for name, key in keys.items():
        if store.index.cell(f"runs/{name}", row).tobytes() != bytes.fromhex(key):
            raise DamagedFileError(f"the {name} of run {run.number} is not that of its genotype")


def _error_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except DTBError as error:
        return " ".join((str(error), *getattr(error, "__notes__", ())))
    return None
