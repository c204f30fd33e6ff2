"""Reading every byte of a DTB file and reporting damaged records."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.moments import moment_columns
from dtb_builder.dataset.run import Run
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.record import METRICS

__all__ = ["Checked", "verify"]

_BLOCK_RUNS = 2**10


@dataclass(frozen=True)
class Checked:
    """One record that was read.

    Attributes:
        record: a column, or a part of a run.
        error: what is wrong with the record, or None.
    """

    record: str
    error: str | None


def verify(path: Path) -> Iterator[Checked]:
    """Check every column and every state of a benchmark or shard, one record at a time.

    States are checked only if all columns are undamaged, because the columns locate the states.

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
            for record, read in _runs(store):
                yield Checked(record, _error_of(read))


def _columns(store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    for name in schema.TEXTS:
        yield name, partial(store.index.texts, name)
    for column in schema.COLUMNS:
        yield column.name, partial(store.index.check, column.name)
    yield "order of runs/number", lambda: store.index.numbers
    yield "table of moments", lambda: store.index.moments
    yield "rows of runs/crc32c", partial(_check_rows, store)
    yield "what was measured", partial(_check_measured, store)
    yield "values", partial(_check_values, store)
    yield "provenance", partial(_check_provenance, store)
    yield "environments and origins", store.check_listed


def _runs(store: Store) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "lists of HDF5", store.states.check_lists
    are_exact = store.keeps_exact_states
    for row in range(store.index.num_runs):
        run = Run(store, row)
        number = run.number
        yield f"run {number} keys", partial(_check_keys, store, row, run)
        places = store.states.places(row)
        if places.has_table:
            yield f"run {number} tensors", partial(store.states.tensors, row)
        yield f"run {number} in HDF5", partial(store.states.check_hdf5, row, number)
        for position, moment in enumerate(store.index.moments):
            if places.length[position]:
                checking = partial(_check_state, store, row, position, are_exact)
                yield f"run {number} state of {moment.name}", checking
            if places.momentum_length[position]:
                yield (
                    f"run {number} momentum of epoch {moment.epoch}",
                    partial(store.states.momentum, row, position),
                )


def _check_rows(store: Store) -> None:
    moments = moment_columns(store.index.moments)
    names = [column.name for column in schema.ROW_COLUMNS]
    wrong: list[int] = []
    for rows in store.index.streamed([*names, "runs/number", "runs/crc32c"], _BLOCK_RUNS):
        differs = row_checksums(rows | moments) != rows["runs/crc32c"]
        wrong += rows["runs/number"][differs].tolist()
    if wrong:
        raise DamagedFileError(f"the rows of runs {wrong} do not have their recorded checksums")


def _check_measured(store: Store) -> None:
    """Check that masks are 0 or 1, and that a run has no data after its last epoch."""
    names = [f"measured/{name}" for name in METRICS]
    kept = ("moments/length", "moments/momentum_length")
    epochs = np.arange(store.index.num_epochs + 1)
    ends = np.array([-1 if m.epoch is None else m.epoch for m in store.index.moments], np.int64)
    for rows in store.index.streamed([*names, *kept, "runs/num_epochs"], _BLOCK_RUNS):
        last = rows["runs/num_epochs"][:, None]
        if (last < 0).any() or (last > store.index.num_epochs).any():
            raise DamagedFileError(f"runs should end at an epoch in 0..{store.index.num_epochs}")
        most = dict.fromkeys(names, 1.0) | dict.fromkeys(kept, np.inf)
        for name, largest in most.items():
            values, beyond = rows[name], (epochs if name in names else ends) > last
            if (values < 0).any() or (values > largest).any():
                raise DamagedFileError(f"{name} should be from 0 to {largest}")
            if (values[beyond] != 0).any():
                raise DamagedFileError(f"{name} should be 0 beyond a run's last epoch")


def _check_values(store: Store) -> None:
    """Check that what was counted or measured can be: see Metrics in data_schema.md."""
    counts = ("runs/num_parameters", "runs/multiply_accumulates")
    metrics = [f"{group}/{name}" for group in ("metrics", "measured") for name in METRICS]
    for rows in store.index.streamed([*counts, *metrics], _BLOCK_RUNS):
        for name in counts:
            if (rows[name] < 0).any():
                raise DamagedFileError(f"{name} should be at least 0")
        for name in METRICS:
            values = rows[f"metrics/{name}"][rows[f"measured/{name}"] == 1]
            if name.endswith("loss"):
                sound, most = (values >= 0) | np.isnan(values), np.inf
            else:
                most = 1.0 if name.endswith("accuracy") else np.finfo(np.float64).max
                sound = (values >= 0) & (values <= most)
            if not sound.all():
                raise DamagedFileError(f"metrics/{name} should be from 0 to {most:.3g}")


def _check_provenance(store: Store) -> None:
    if store.provenance_crc32c != crc32c(store.provenance_text.encode()):
        raise DamagedFileError(f"{schema.PROVENANCE_ATTRIBUTE} is not that of the provenance")
    store.provenance  # noqa: B018 - it checks


def _check_state(store: Store, row: int, position: int, is_as_trained: bool) -> None:
    state, moment = store.states.state(row, position), store.index.moments[position]
    if is_as_trained and moment.epoch is not None:
        expected = int(store.index.cell("runs/state_crc32c", row)[moment.epoch])
        if crc32c(state.values.tobytes()) != expected:
            raise DamagedFileError(f"the state of epoch {moment.epoch} is not the one trained")


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
