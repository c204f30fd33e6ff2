"""Writing the journals of finished runs as a shard: a complete DTB file with checksums."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.failures import FailedRun
from dtb_builder.dataset.index import IndexWriter, row_checksums
from dtb_builder.dataset.journal import Journal, JournalMoment
from dtb_builder.dataset.moments import moment_columns
from dtb_builder.dataset.opening import create
from dtb_builder.dataset.states import table_to_array, write_states
from dtb_builder.errors import DuplicateRunError, UnfinishedError
from dtb_builder.record import METRICS, Moment
from dtb_builder.space import Genotype

__all__ = ["text_places", "write_shard"]


def write_shard(
    path: Path,
    journals: Sequence[Journal],
    failures: Sequence[FailedRun] = (),
    *,
    provenance: str,
    num_epochs: int,
    moments: Sequence[Moment] = (),
) -> None:
    """Write the shard of these runs; the file is whole or absent.

    Args:
        path: the shard's final name.
        journals: the journals of finished runs, in any order.
        failures: the runs of the shard that failed for good.
        provenance: JSON text that all shards of a plan share.
        num_epochs: epochs of every run that did not end early.
        moments: the moments at which every run's state is kept.

    Raises:
        UnfinishedError: a journal lacks epochs, or the state at a moment.
        DuplicateRunError: a run occurs twice.
    """
    journals = sorted(journals, key=lambda journal: journal.run.number)
    failures = sorted(failures, key=lambda failure: failure.number)
    numbers = [journal.run.number for journal in journals]
    if repeated := {number for number, times in Counter(numbers).items() if times > 1}:
        raise DuplicateRunError(f"runs {sorted(repeated)} occur twice in {path}")
    for journal in journals:
        _check_whole(journal, num_epochs, moments)
    environments = text_places(_text(epoch.environment) for j in journals for epoch in j.epochs)
    origins = text_places(_text(journal.run.origin) for journal in journals)
    with (
        whole_file(path) as temporary,
        create(
            temporary, kind=schema.FileKind.SHARD, provenance_crc32c=crc32c(provenance.encode())
        ) as file,
    ):
        index = IndexWriter(
            file,
            num_runs=len(journals),
            num_epochs=num_epochs,
            moments=moments,
            failures=failures,
        )
        if journals:
            rows = [
                _about_run(journal, environments, origins, num_epochs)
                | _written_states(file, journal, moments)
                for journal in journals
            ]
            columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
            columns["runs/crc32c"] = row_checksums(columns | moment_columns(moments))
            index.put(columns)
        index.finish(provenance, list(environments), list(origins), [""])


def _check_whole(journal: Journal, num_epochs: int, moments: Sequence[Moment]) -> None:
    last = journal.last_epoch
    if last is None or not journal.is_finished(num_epochs):
        raise UnfinishedError(f"{journal.path} ends at epoch {last}/{num_epochs}")
    found = [kept.moment for kept in journal.moments]
    missing = moments[len(found) :]
    is_whole = found == list(moments[: len(found)]) and (
        not missing
        or (journal.ended is not None and all((m.epoch or num_epochs) > last for m in missing))
    )
    if not is_whole:
        wanted = {moment.step for moment in moments} - {moment.step for moment in found}
        raise UnfinishedError(
            f"{journal.path} does not keep the planned moments: "
            + (f"it lacks steps {sorted(wanted)}" if wanted else f"{found}, not {list(moments)}")
        )


def _written_states(file: h5py.File, journal: Journal, moments: Sequence[Moment]) -> dict[str, Any]:
    """Write a run's states; returns its entries in the columns that locate them."""
    kept = journal.moments
    lengths = np.array([(moment.frame[1], moment.momentum[1]) for moment in kept], np.int64)
    length, momentum_length = lengths.reshape(-1, 2).T
    with journal.path.open("rb") as opened:
        cells = write_states(
            file,
            journal.run.number,
            table_to_array(journal.run.tensors),
            moments,
            (length, momentum_length),
            lambda name, position: _read(opened, kept[position], name),
            num_floats=journal.run.tensors.num_floats,
        )
    return cells | {"runs/volume": 0}


def _read(file: BinaryIO, kept: JournalMoment, name: str) -> bytes:
    offset, length = kept.momentum if name == schema.MOMENTUM else kept.frame
    file.seek(offset)
    return file.read(length)


def _about_run(
    journal: Journal, environments: Mapping[str, int], origins: Mapping[str, int], num_epochs: int
) -> dict[str, Any]:
    """A run's entries in the other columns, except its checksum."""
    run, epochs = journal.run, journal.epochs
    genotype = Genotype.parse(run.genotype)

    def padded(values: Sequence[Any], dtype: str, missing: float = 0) -> NDArray[Any]:
        entries = np.full(num_epochs + 1, missing, dtype)
        entries[: len(values)] = values
        return entries

    facts = ("number", "seed", "order_seed", "num_parameters", "multiply_accumulates")
    places = [environments[_text(epoch.environment)] for epoch in epochs]
    cells: dict[str, Any] = {f"runs/{name}": getattr(run, name) for name in facts} | {
        "runs/genotype": genotype.canonical().to_array(),
        "runs/key": np.frombuffer(bytes.fromhex(genotype.key), np.uint8),
        "runs/iso_key": np.frombuffer(bytes.fromhex(genotype.iso_key), np.uint8),
        "runs/num_epochs": journal.last_epoch,
        "runs/state_crc32c": padded([epoch.state_crc32c for epoch in epochs], "<u4"),
        "runs/environment": padded(places, "<i4"),
        "runs/origin": origins[_text(run.origin)],
    }
    for name in METRICS:
        # NaN, so that code that ignores the mask does not average over zeros.
        values = [epoch.metrics.get(name, math.nan) for epoch in epochs]
        cells[f"metrics/{name}"] = padded(values, "<f8", math.nan)
        cells[f"measured/{name}"] = padded([name in epoch.metrics for epoch in epochs], "|u1")
    return cells


def text_places(texts: Iterable[str]) -> dict[str, int]:
    """The position of each text in the file's sorted list of texts."""
    return {text: i for i, text in enumerate(sorted(set(texts)))}


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), sort_keys=True)
