"""Writing a stored run as the journal of a finished run of another plan."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.identity import adopted
from dtb_builder.dataset.index import row_checksums
from dtb_builder.dataset.journal import EpochRecord, JournalRun, MomentFrames, write_journal
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.moments import by_record, moment_columns
from dtb_builder.dataset.run import Run
from dtb_builder.dataset.store import Store
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import METRICS

__all__ = ["adopted_from", "measured", "write_stored"]


def write_stored(path: Path, store: Store, row: int, kept: Kept, *, number: int, plan: str) -> None:
    """Write a run's metrics and frames as a journal of another plan; the file is whole or absent.

    Args:
        path: the journal's path.
        store: the file that holds the run.
        row: the run's row.
        kept: the states that the other plan keeps.
        number: the run's number in the other plan.
        plan: the other plan's identity.

    Raises:
        DamagedFileError: the run is damaged.
    """
    check_row(store, row)
    run = Run(store, row)
    about = JournalRun(
        number=number,
        genotype=str(run.genotype),
        seed=run.seed,
        order_seed=run.order_seed,
        plan=plan,
        num_parameters=run.num_parameters,
        multiply_accumulates=run.multiply_accumulates,
        tensors=run.tensors,
        origin=adopted_from(run),
    )
    ended_early = run.num_epochs < store.index.num_epochs
    write_journal(path, about, _epochs(store, row, run, kept), ended_early=ended_early)


def check_row(store: Store, row: int) -> None:
    """Check a row of the index by the run's checksum, which was computed where it was trained.

    Raises:
        DamagedFileError: the checksum is wrong.
    """
    cells = store.index.cells([column.name for column in schema.ROW_COLUMNS], row)
    columns = {name: cell[None] for name, cell in cells.items()}
    (found,) = row_checksums(columns | moment_columns(store.index.moments))
    if found != store.index.cell("runs/crc32c", row):
        raise DamagedFileError(f"{store.path}: the checksum of the run in row {row} is wrong")


def adopted_from(run: Run) -> dict[str, Any]:
    """The origin that a copy of a run has."""
    return adopted(run.origin, run.provenance_sha256)


def measured(run: Run) -> list[dict[str, float]]:
    """The measured metrics of each epoch of a run, from epoch 0 on."""
    curves = {name: run.curve(name) for name in METRICS}
    return [
        {
            name: float(curve[epoch])
            for name, curve in curves.items()
            if not np.ma.getmaskarray(curve)[epoch]
        }
        for epoch in range(run.num_epochs + 1)
    ]


def _epochs(store: Store, row: int, run: Run, kept: Kept) -> Iterator[EpochRecord]:
    places = store.states.places(row)
    rows = kept.rows(places)
    with_state = sorted([*rows[schema.WHOLE], *rows[schema.DIFFERENCES]])
    at = by_record([kept.moments[position] for position in with_state], run.num_epochs)

    def frames(position: int) -> MomentFrames:
        moment = kept.moments[position]
        name = schema.WHOLE if moment.base is None else schema.DIFFERENCES
        momentum = b""
        if position in rows[schema.MOMENTUM]:
            momentum = kept.frame(store, row, places, schema.MOMENTUM, position)
        return MomentFrames(moment, kept.frame(store, row, places, name, position), momentum)

    for epoch, metrics in enumerate(measured(run)):
        yield EpochRecord(
            epoch,
            metrics,
            run.environment(epoch=epoch),
            run.state_crc32c(epoch=epoch),
            [frames(with_state[i]) for i in at[epoch]],
        )
