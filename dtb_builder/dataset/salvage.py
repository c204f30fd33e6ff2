"""What can still be read of a damaged DTB file: whole runs, each proved by its checksums."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.journal import JournalRun, StepFrame, append_epoch, open_journal
from dtb_builder.dataset.states import table_from_bytes
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["LostRun", "SavedRun", "salvage"]

_STEP_COLUMNS = tuple(c for c in schema.STEP_ROW_COLUMNS if c.name != "runs/crc32c")


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

    A run is whole when its row of the index has its checksums, and the frame of each of its states
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
                about, frames, step_frames = _whole(store, columns, row, plan)
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
                    step_frames=step_frames if epoch == 1 else (),
                )
            yield SavedRun(number, journal)


def _columns(store: Store) -> dict[str, NDArray[Any]] | str:
    """The columns that row checksums cover, as far as they are there; or what is missing."""
    columns: dict[str, NDArray[Any]] = {}
    for column in (*schema.ROW_COLUMNS, *_STEP_COLUMNS):
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
    main = row_checksums(columns)
    # The checksum with the states of steps covers the other one, so that it proves the whole row.
    whole = row_checksums(columns | {"runs/crc32c": main}, schema.STEP_ROW_COLUMNS)
    steps_sound = _all_sound(store, _STEP_COLUMNS)
    sound = whole == _checksums(store, "step_index/row_crc32c")
    sound |= (main == _checksums(store, "runs/crc32c")) & steps_sound
    if not sound.all() and steps_sound and _all_sound(store, schema.ROW_COLUMNS):
        sound[:] = True  # it was the columns of row checksums that were damaged
    return sound


def _checksums(store: Store, name: str) -> NDArray[np.uint32]:
    """A column of row checksums, or zeros where it is gone."""
    found = store.index.salvaged(name)
    return np.zeros(store.index.num_runs, np.uint32) if found is None else found


def _all_sound(store: Store, columns: Iterable[schema.Column]) -> bool:
    try:
        for column in columns:
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
) -> tuple[JournalRun, dict[int, bytes], list[StepFrame]]:
    """A run, the frame of each kept epoch, and those of steps.

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
    step_frames: list[StepFrame] = []
    for position in range(store.index.num_steps):
        step, length, checksum, tracked = (
            int(columns[f"step_index/{name}"][row, position])
            for name in ("step", "length", "crc32c", "num_batches_tracked")
        )
        frame = store.salvaged_step_frame(row, number, position, length=length, checksum=checksum)
        codec.decode(frame, num_floats=num_floats)
        step_frames.append(StepFrame(step, tracked, frame))
    genotype = Genotype.from_array(columns["runs/genotype"][row])
    about = JournalRun(
        number=number,
        genotype=str(genotype),
        seed=int(columns["runs/seed"][row]),
        plan=plan,
        num_parameters=int(columns["runs/num_parameters"][row]),
        tensors=table_from_bytes(table),
    )
    return about, frames, step_frames


def _metrics(columns: dict[str, NDArray[Any]], row: int, epoch: int) -> dict[str, float]:
    return {
        name: float(columns[f"metrics/{name}"][row, epoch])
        for name in METRICS
        if columns[f"measured/{name}"][row, epoch]
    }
