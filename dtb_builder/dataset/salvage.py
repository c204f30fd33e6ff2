"""What can still be read of a damaged DTB file: whole runs, each proved by its checksums."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.journal import JournalRun, append_epoch, open_journal
from dtb_builder.dataset.states import table_from_bytes
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["LostRun", "SavedRun", "salvage"]


@dataclass(frozen=True)
class SavedRun:
    """A run that was read whole and now stands in a journal."""

    number: int
    journal: Path


@dataclass(frozen=True)
class LostRun:
    """A row that could not be read whole.

    Attributes:
        number: the run's, or None where that is lost too.
        reason: what is missing.
    """

    number: int | None
    reason: str


def salvage(path: Path, folder: Path, *, plan: str) -> Iterator[SavedRun | LostRun]:
    """Write a journal for every run of a damaged file that is whole, one run at a time.

    A run is whole when its row of the index has its checksum, and the frame of each of its states
    has the checksum that the row says. Where the file's own index of places is damaged, HDF5's is
    used; keys are made again from the genotype.

    Args:
        path: a shard or benchmark.
        folder: where the journals go, by run number.
        plan: the identity of the plan that the journals are for.

    Raises:
        DTBError: the file cannot be opened at all.
    """
    with contextlib.closing(Store(path)) as store:
        columns = _columns(store)
        if isinstance(columns, str):
            yield from (LostRun(None, columns) for _ in range(store.index.num_runs))
            return
        sound = _sound_rows(store, columns)
        environments = _environments(store)
        for row in range(store.index.num_runs):
            number = int(columns["runs/number"][row]) if sound[row] else None
            if number is None:
                yield LostRun(None, "its row of the index is damaged")
                continue
            if environments is None:
                yield LostRun(number, "where it ran is damaged")
                continue
            try:
                about, frames = _whole(store, columns, row, plan)
            except DTBError as error:
                yield LostRun(number, str(error))
                continue
            journal = folder / f"run-{number:08d}.journal"
            journal.unlink(missing_ok=True)
            open_journal(journal, about)
            for epoch in range(store.index.num_epochs + 1):
                frame = frames.get(epoch, b"")
                tracked = int(columns["state_index/num_batches_tracked"][row, epoch])
                append_epoch(
                    journal,
                    epoch=epoch,
                    metrics=_metrics(columns, row, epoch),
                    environment=environments[row][epoch],
                    num_batches_tracked=tracked if frame else None,
                    frame=frame,
                )
            yield SavedRun(number, journal)


def _columns(store: Store) -> dict[str, NDArray[Any]] | str:
    """The columns that row checksums cover, as far as they are there; or what is missing."""
    columns: dict[str, NDArray[Any]] = {}
    for column in schema.ROW_COLUMNS:
        values = store.index.salvaged(column.name)
        if values is None:
            if column.name not in ("runs/key", "runs/iso_key"):
                return f"the column {column.name} is gone"
            values = np.zeros((store.index.num_runs, 32), np.uint8)
        columns[column.name] = values.copy()
    for row, genotype in enumerate(columns["runs/genotype"]):
        # A damaged genotype gets no keys; its row's checksum will tell.
        with contextlib.suppress(DTBError):
            known = Genotype.from_array(genotype)
            for name, key in (("runs/key", known.key), ("runs/iso_key", known.iso_key)):
                columns[name][row] = np.frombuffer(bytes.fromhex(key), np.uint8)
    return columns


def _sound_rows(store: Store, columns: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which rows are as they were written, shape (runs,)."""
    checksums = store.index.salvaged("runs/crc32c")
    if checksums is None:
        checksums = np.zeros(store.index.num_runs, np.uint32)
    sound = row_checksums(columns) == checksums
    if not sound.all() and _all_sound(store):
        sound[:] = True  # it was the column of row checksums that was damaged
    return sound


def _all_sound(store: Store) -> bool:
    try:
        for column in schema.ROW_COLUMNS:
            store.index.column(column.name)
    except DamagedFileError:
        return False
    return True


def _environments(store: Store) -> list[list[dict[str, Any]]] | None:
    """Each run's environment at each epoch, or None where that cannot be told."""
    try:
        texts = [json.loads(text) for text in store.index.texts(schema.ENVIRONMENTS)]
    except (DamagedFileError, ValueError):
        return None
    try:
        column = store.index.column("runs/environment")
    except DamagedFileError:
        if len(texts) != 1:
            return None
        column = np.zeros((store.index.num_runs, store.index.num_epochs + 1), np.int32)
    return [[texts[i] for i in row] for row in column.tolist()]


def _whole(
    store: Store, columns: dict[str, NDArray[Any]], row: int, plan: str
) -> tuple[JournalRun, dict[int, bytes]]:
    """A run, and the frame of each kept epoch.

    Raises:
        DamagedFileError: something of it is not as it was written.
    """
    number = int(columns["runs/number"][row])
    kept = np.flatnonzero(columns["state_index/kept"][row]).tolist()
    table = store.salvaged_table(
        row,
        number,
        num_tensors=int(columns["state_index/num_tensors"][row]),
        checksum=int(columns["state_index/tensors_crc32c"][row]),
    )
    num_floats = int(columns["state_index/num_floats"][row])
    frames: dict[int, bytes] = {}
    for position, epoch in enumerate(kept):
        frame = store.salvaged_frame(
            row,
            number,
            epoch,
            position,
            length=int(columns["state_index/length"][row, epoch]),
            checksum=int(columns["state_index/crc32c"][row, epoch]),
        )
        codec.decode(frame, num_floats=num_floats)
        frames[epoch] = frame
    genotype = Genotype.from_array(columns["runs/genotype"][row])
    about = JournalRun(
        number=number,
        genotype=str(genotype),
        seed=int(columns["runs/seed"][row]),
        plan=plan,
        num_parameters=int(columns["runs/num_parameters"][row]),
        tensors=table_from_bytes(table),
    )
    return about, frames


def _metrics(columns: dict[str, NDArray[Any]], row: int, epoch: int) -> dict[str, float]:
    return {
        name: float(columns[f"metrics/{name}"][row, epoch])
        for name in METRICS
        if columns[f"measured/{name}"][row, epoch]
    }
