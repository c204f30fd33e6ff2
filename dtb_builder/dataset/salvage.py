"""Recovering the undamaged runs of a damaged DTB file, each verified by its checksums."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.journal import (
    EpochRecord,
    JournalRun,
    MomentFrames,
    write_journal,
)
from dtb_builder.dataset.moments import by_record, moments_from
from dtb_builder.dataset.run import made_table
from dtb_builder.dataset.states import PLACES, StatePlaces, frame_rows, table_from_bytes
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.record import METRICS, Moment, TensorTable
from dtb_builder.space import Genotype

__all__ = ["LostRun", "SavedRun", "salvage"]

_COVERED = (*schema.MOMENTS, *schema.ROW_COLUMNS)
_KEYS = ("runs/key", "runs/iso_key")


@dataclass(frozen=True)
class SavedRun:
    """A run that was recovered into a journal."""

    number: int
    journal: Path


@dataclass(frozen=True)
class LostRun:
    """A run that could not be recovered.

    Attributes:
        number: the run's number, or None if that is also damaged.
        reason: what is damaged or missing.
    """

    number: int | None
    reason: str


def salvage(path: Path, folder: Path, *, plan: str) -> Iterator[SavedRun | LostRun]:
    """Write a journal for every undamaged run of a damaged file, one run at a time.

    A run is undamaged if its number can be read, its row of the index has the recorded checksum,
    and the frame of each of its states has the checksum in that row. If the index's offsets of
    frames are damaged, HDF5's are used. Keys are computed again from the genotype.

    Args:
        path: a shard or benchmark.
        folder: where the journals go, named by run number.
        plan: SHA-256 that identifies the plan of the journals.

    Raises:
        DTBError: the file cannot be opened at all.
        SchemaVersionError: the file's schema is newer.
    """
    with contextlib.closing(Store(path)) as store:
        store.check_known()
        try:
            columns = _columns(store)
            moments = moments_from(columns, store.index.num_epochs)
            numbers = store.index.numbers
        except DamagedFileError as error:
            yield from (LostRun(None, str(error)) for _ in range(store.index.num_runs))
            return
        sound = _sound_rows(store, columns)
        environments = _listed(store, "environment", store.index.num_epochs + 1)
        origins = _listed(store, "origin", 1)
        for row, number in enumerate(numbers.tolist()):
            if not sound[row]:
                yield LostRun(number, "its row of the index is damaged")
                continue
            if environments is None or origins is None:
                yield LostRun(number, "its environments or its origin are damaged")
                continue
            try:
                about, kept = _whole(store, columns, moments, row, number, plan, origins[row][0])
            except DTBError as error:
                yield LostRun(number, str(error))
                continue
            journal = folder / f"run-{number:08d}.journal"
            last = int(columns["runs/num_epochs"][row])
            at = by_record([frames.moment for frames in kept], last)
            epochs = [
                EpochRecord(
                    epoch,
                    _metrics(columns, row, epoch),
                    environments[row][epoch],
                    int(columns["runs/state_crc32c"][row, epoch]),
                    [kept[i] for i in at[epoch]],
                )
                for epoch in range(last + 1)
            ]
            write_journal(journal, about, epochs, ended_early=last < store.index.num_epochs)
            yield SavedRun(number, journal)


def _columns(store: Store) -> dict[str, NDArray[Any]]:
    """The columns that row checksums cover; their block checksums are ignored.

    Raises:
        DamagedFileError: a column is missing.
    """
    columns: dict[str, NDArray[Any]] = {}
    for column in _COVERED:
        values = store.index.salvaged(column.name)
        if values is None and column.name in _KEYS:
            values = np.zeros((store.index.num_runs, 32), np.uint8)
        if values is None:
            raise DamagedFileError(f"the column {column.name} is missing")
        columns[column.name] = values.copy()
    for row, genotype in enumerate(columns["runs/genotype"]):
        # A damaged genotype gets no keys; its row's checksum will show the damage.
        with contextlib.suppress(DTBError):
            known = Genotype.from_array(genotype)
            for name, key in zip(_KEYS, (known.key, known.iso_key), strict=True):
                columns[name][row] = np.frombuffer(bytes.fromhex(key), np.uint8)
    return columns


def _sound_rows(store: Store, columns: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Which rows are undamaged, shape (runs,)."""
    last = columns["runs/num_epochs"]
    possible = (last >= 0) & (last <= store.index.num_epochs)
    if _all_sound(store, [column.name for column in _COVERED]):
        return possible  # only the column of row checksums is damaged
    recorded = store.index.salvaged("runs/crc32c")
    if recorded is None:
        return np.zeros(store.index.num_runs, bool)
    return (row_checksums(columns) == recorded) & possible


def _all_sound(store: Store, names: Sequence[str]) -> bool:
    try:
        for name in names:
            store.index.column(name)
    except DamagedFileError:
        return False
    return True


def _listed(store: Store, name: str, num_entries: int) -> list[list[dict[str, Any]]] | None:
    """Each run's environments or origins, looked up in the file's list; None if unknown."""
    try:
        texts = {"environment": store.environments, "origin": store.origins}[name]
    except DamagedFileError:
        return None
    try:
        column = store.index.column(f"runs/{name}").reshape(store.index.num_runs, num_entries)
    except DamagedFileError:
        if len(texts) != 1:
            return None
        column = np.zeros((store.index.num_runs, num_entries), np.int32)
    if ((column < 0) | (column >= len(texts))).any():
        return None
    return [[texts[i] for i in row] for row in column.tolist()]


def _whole(
    store: Store,
    columns: dict[str, NDArray[Any]],
    moments: Sequence[Moment],
    row: int,
    number: int,
    plan: str,
    origin: dict[str, Any],
) -> tuple[JournalRun, list[MomentFrames]]:
    """A run and its frames.

    Raises:
        DamagedFileError: a part of the run is damaged.
    """
    cells = {name: columns[name][row] for name in PLACES if name in columns}
    for name in schema.POINTERS:
        values = store.index.salvaged(name)
        shape = (len(moments),) if name.startswith("moments/") else ()
        cells[name] = np.full(shape, -1) if values is None else values[row]
    places = StatePlaces.of(cells)
    frames: dict[tuple[str, int], bytes] = {}
    rows = frame_rows(moments, places.length, places.momentum_length)
    for name, positions in rows.items():
        for i, position in enumerate(positions):
            frame = store.states.salvaged(number, places, name, (i, position))
            codec.decode(frame, num_floats=places.num_floats)
            frames[name, position] = frame
    if gone := [p for p in rows[schema.DIFFERENCES] if moments[p].base not in rows[schema.WHOLE]]:
        raise DamagedFileError(
            f"differences {gone} of run {number} refer to states that are missing"
        )
    facts = {
        name: int(columns[f"runs/{name}"][row])
        for name in ("seed", "order_seed", "num_parameters", "multiply_accumulates")
    }
    genotype = Genotype.from_array(columns["runs/genotype"][row])
    about = JournalRun(
        number=number,
        genotype=str(genotype),
        plan=plan,
        tensors=_tensors(store, number, genotype, places),
        origin=origin,
        **facts,
    )
    kept = [
        MomentFrames(
            moments[position], frames[name, position], frames.get((schema.MOMENTUM, position), b"")
        )
        for name, position in sorted(frames, key=lambda key: key[1])
        if name != schema.MOMENTUM
    ]
    return about, kept


def _tensors(store: Store, number: int, genotype: Genotype, places: StatePlaces) -> TensorTable:
    """A run's tensor table; if the file keeps no states, it may be made from the genotype."""
    try:
        return table_from_bytes(store.states.salvaged(number, places, schema.TENSORS))
    except DamagedFileError:
        if len(places.length):
            raise
    return made_table(store, genotype, places)


def _metrics(columns: dict[str, NDArray[Any]], row: int, epoch: int) -> dict[str, float]:
    return {
        name: float(columns[f"metrics/{name}"][row, epoch])
        for name in METRICS
        if columns[f"measured/{name}"][row, epoch]
    }
