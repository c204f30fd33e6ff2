"""What can still be read of a damaged DTB file: whole runs, each proved by its checksums."""

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.index import check_differences, row_checksums
from dtb_builder.dataset.journal import JournalRun, StepFrame, append_epoch, open_journal
from dtb_builder.dataset.states import table_from_bytes
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["LostRun", "SavedRun", "salvage"]

_COVERED = {
    checksum: tuple(column for column in covered if column.name not in schema.ROW_CHECKSUMS)
    for checksum, covered in schema.ROW_CHECKSUMS.items()
}
"""What each column of row checksums covers, but for other such columns."""

_NUMBER = "runs/number"


class _Kept(NamedTuple):
    """What a journal says of an epoch's state; arguments of `append_epoch`."""

    num_batches_tracked: int | None
    frame: bytes
    key: int | None


_NOTHING = _Kept(None, b"", None)


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
        SchemaVersionError: it is of a newer version.
    """
    with contextlib.closing(Store(path)) as store:
        store.check_known()
        columns = _columns(store)
        if isinstance(columns, str):
            yield from (LostRun(None, columns) for _ in range(store.index.num_runs))
            return
        sound = _sound_rows(store, columns)
        environments = _environments(store)
        known = _all_sound(store, [column for column in schema.COLUMNS if column.name == _NUMBER])
        for row, number in enumerate(columns[_NUMBER].tolist()):
            if not sound[row]:
                yield LostRun(number if known else None, "its row of the index is damaged")
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
                kept = frames.get(epoch, _NOTHING)
                append_epoch(
                    journal,
                    epoch=epoch,
                    metrics=_metrics(columns, row, epoch),
                    environment=environments[row][epoch],
                    num_batches_tracked=kept.num_batches_tracked,
                    frame=kept.frame,
                    key=kept.key,
                    step_frames=step_frames if epoch == 1 else (),
                )
            yield SavedRun(number, journal)


def _columns(store: Store) -> dict[str, NDArray[Any]] | str:
    """The columns that row checksums cover, as far as they are there; or what is missing."""
    columns: dict[str, NDArray[Any]] = {}
    for column in itertools.chain(*_COVERED.values()):
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
    # Each checksum covers the one before it: it proves a row as far as the columns of its own.
    computed = dict(columns)
    for checksum, covered in schema.ROW_CHECKSUMS.items():
        computed[checksum] = row_checksums(computed, covered)
    sound = np.zeros(store.index.num_runs, bool)
    rest_is_sound = True
    for checksum in reversed(list(schema.ROW_CHECKSUMS)):
        sound |= (computed[checksum] == _checksums(store, checksum)) & rest_is_sound
        rest_is_sound &= _all_sound(store, _COVERED[checksum])
    return sound | rest_is_sound  # then it is the columns of row checksums that are damaged


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
    if ((column < 0) | (column >= len(texts))).any():
        return None
    return [[texts[i] for i in row] for row in column.tolist()]


def _whole(
    store: Store, columns: dict[str, NDArray[Any]], row: int, plan: str
) -> tuple[JournalRun, dict[int, _Kept], list[StepFrame]]:
    """A run, what is kept of each epoch, and of steps.

    Raises:
        DamagedFileError: something of it is not as it was written.
    """
    number = int(columns["runs/number"][row])
    table = store.salvaged_table(
        row,
        number,
        num_tensors=int(columns["state_index/num_tensors"][row]),
        checksum=int(columns["state_index/tensors_crc32c"][row]),
    )
    num_floats = int(columns["state_index/num_floats"][row])

    def state(group: str, entry: int, position: int, moment: str) -> tuple[int, bytes]:
        length, checksum, tracked = (
            int(columns[f"{group}/{name}"][row, entry])
            for name in ("length", "crc32c", "num_batches_tracked")
        )
        frame = store.salvaged_frame(
            row,
            number,
            group,
            entry,
            position,
            length=length,
            checksum=checksum,
            what=f"state of run {number} after {moment}",
        )
        codec.decode(frame, num_floats=num_floats)
        return tracked, frame

    whole = np.flatnonzero(columns["state_index/kept"][row]).tolist()
    kept = {e: _Kept(*state("state_index", e, i, f"epoch {e}"), None) for i, e in enumerate(whole)}
    differences, keys = (columns[f"difference_index/{name}"][row] for name in ("epoch", "key"))
    check_differences(differences, keys, columns["state_index/kept"][row] != 0, where=store.path)
    for i, (epoch, key) in enumerate(zip(differences.tolist(), keys.tolist(), strict=True)):
        kept[epoch] = _Kept(*state("difference_index", i, i, f"epoch {epoch}"), key)
    steps = columns["step_index/step"][row].tolist()
    step_frames = [
        StepFrame(step, *state("step_index", i, i, f"step {step}")) for i, step in enumerate(steps)
    ]
    genotype = Genotype.from_array(columns["runs/genotype"][row])
    about = JournalRun(
        number=number,
        genotype=str(genotype),
        seed=int(columns["runs/seed"][row]),
        plan=plan,
        num_parameters=int(columns["runs/num_parameters"][row]),
        tensors=table_from_bytes(table),
    )
    return about, kept, step_frames


def _metrics(columns: dict[str, NDArray[Any]], row: int, epoch: int) -> dict[str, float]:
    return {
        name: float(columns[f"metrics/{name}"][row, epoch])
        for name in METRICS
        if columns[f"measured/{name}"][row, epoch]
    }
