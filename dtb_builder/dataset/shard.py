"""Turning the journals of finished runs into a shard: a whole, checksummed DTB file."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import schema
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.index import IndexWriter, row_checksums
from dtb_builder.dataset.journal import Journal
from dtb_builder.dataset.opening import create
from dtb_builder.dataset.states import Frames, StatePlaces, table_to_array, write_states
from dtb_builder.dataset.store import FailedRun
from dtb_builder.errors import DuplicateRunError, UnfinishedError
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype

__all__ = ["failure_columns", "place_columns", "write_shard"]


def write_shard(
    path: Path,
    journals: Sequence[Journal],
    failures: Sequence[FailedRun] = (),
    *,
    provenance: str,
    num_epochs: int,
    steps: Sequence[int] = (),
    differences: Sequence[tuple[int, int]] = (),
) -> None:
    """Write the shard of these runs under its final name, or nothing.

    Args:
        path: the shard's final name.
        journals: of finished runs, in any order.
        failures: the runs of the shard that failed for good.
        provenance: JSON text that all shards of a plan share.
        num_epochs: of every run.
        steps: of the first epoch, after which every run has a state, increasing.
        differences: the epoch of every state that each run keeps as a difference, increasing, and
            the epoch of the state it is a difference to.

    Raises:
        UnfinishedError: a journal lacks epochs, the state after a step, or a difference.
        DuplicateRunError: a run comes twice.
    """
    journals = sorted(journals, key=lambda journal: journal.run.number)
    failures = sorted(failures, key=lambda failure: failure.number)
    numbers = [journal.run.number for journal in journals]
    if repeated := {number for number, times in Counter(numbers).items() if times > 1}:
        raise DuplicateRunError(f"runs {sorted(repeated)} come twice in {path}")
    for journal in journals:
        if journal.last_epoch != num_epochs:
            raise UnfinishedError(f"{journal.path} ends at epoch {journal.last_epoch}/{num_epochs}")
        if (found := [step.step for step in journal.steps]) != list(steps):
            raise UnfinishedError(
                f"{journal.path} has states after steps {found}, not {list(steps)}"
            )
        if list(journal.keys) != list(differences):
            raise UnfinishedError(
                f"{journal.path} has differences (of epoch, to epoch) {list(journal.keys)}, "
                f"not {list(differences)}"
            )
    environments = sorted({_text(epoch.environment) for j in journals for epoch in j.epochs})
    with (
        whole_file(path) as temporary,
        create(
            temporary, kind=schema.FileKind.SHARD, provenance_crc32c=crc32c(provenance.encode())
        ) as file,
    ):
        index = IndexWriter(
            file,
            num_runs=len(journals),
            num_failures=len(failures),
            num_epochs=num_epochs,
            num_steps=len(steps),
            num_differences=len(differences),
        )
        for row, journal in enumerate(journals):
            run = journal.run
            places = write_states(
                file,
                run.number,
                table_to_array(run.tensors),
                epochs=Frames(len(journal.whole), journal.frames(journal.whole)),
                steps=Frames(len(steps), journal.step_frames()),
                differences=Frames(len(differences), journal.frames(journal.differences)),
                num_floats=run.tensors.num_floats,
            )
            columns = _run_columns(journal, environments)
            columns |= place_columns(places, np.array(columns["state_index/kept"]))
            arrays = {name: np.asarray(value)[None] for name, value in columns.items()}
            for checksum, covered in schema.ROW_CHECKSUMS.items():
                arrays[checksum] = row_checksums(arrays, covered)
            index.put(arrays, slice(row, row + 1))
        if failures:
            index.put(failure_columns(failures))
        index.finish(
            {
                schema.PROVENANCE: [provenance],
                schema.ENVIRONMENTS: environments,
                schema.VOLUMES: [""],
                schema.FAILURE_MESSAGES: [failure.message for failure in failures],
            }
        )


def place_columns(places: StatePlaces, kept: NDArray[np.bool_]) -> dict[str, Any]:
    """The columns that say where one run's states lie, from where they were put.

    Args:
        places: of the states.
        kept: after which epochs there is a whole one, shape (num_epochs + 1,).
    """

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        row = np.zeros(kept.shape, values.dtype)
        row[kept] = values
        return row

    return {
        "state_index/volume": 0,
        "state_index/tensors_offset": places.tensors_offset,
        "state_index/tensors_crc32c": places.tensors_crc32c,
        "state_index/offset": spread(places.epochs.offset),
        "state_index/length": spread(places.epochs.length),
        "state_index/crc32c": spread(places.epochs.crc32c),
        "step_index/offset": places.steps.offset,
        "step_index/length": places.steps.length,
        "step_index/crc32c": places.steps.crc32c,
        "difference_index/offset": places.differences.offset,
        "difference_index/length": places.differences.length,
        "difference_index/crc32c": places.differences.crc32c,
    }


def _run_columns(journal: Journal, environments: Sequence[str]) -> dict[str, Any]:
    """One row of every column that a journal decides by itself."""
    run = journal.run
    genotype = Genotype.parse(run.genotype)
    whole = {epoch.epoch: epoch.num_batches_tracked for epoch in journal.whole}
    columns: dict[str, Any] = {
        "runs/number": run.number,
        "runs/seed": run.seed,
        "runs/genotype": genotype.canonical().to_array(),
        "runs/key": np.frombuffer(bytes.fromhex(genotype.key), np.uint8),
        "runs/iso_key": np.frombuffer(bytes.fromhex(genotype.iso_key), np.uint8),
        "runs/num_parameters": run.num_parameters,
        "runs/environment": [environments.index(_text(e.environment)) for e in journal.epochs],
        "state_index/num_floats": run.tensors.num_floats,
        "state_index/num_tensors": len(run.tensors.names),
        "state_index/kept": [e.epoch in whole for e in journal.epochs],
        "state_index/num_batches_tracked": [whole.get(e.epoch, 0) for e in journal.epochs],
        "step_index/step": [step.step for step in journal.steps],
        "step_index/num_batches_tracked": [step.num_batches_tracked for step in journal.steps],
        "difference_index/epoch": [epoch for epoch, _ in journal.keys],
        "difference_index/key": [key for _, key in journal.keys],
        "difference_index/num_batches_tracked": [
            epoch.num_batches_tracked for epoch in journal.differences
        ],
    }
    for name in METRICS:
        # NaN, lest somebody who overlooks the mask averages over zeros.
        values = [epoch.metrics.get(name, math.nan) for epoch in journal.epochs]
        columns[f"metrics/{name}"] = values
        columns[f"measured/{name}"] = [name in epoch.metrics for epoch in journal.epochs]
    return columns


def failure_columns(failures: Sequence[FailedRun]) -> dict[str, NDArray[Any]]:
    """The columns of an index that say which runs failed, but for their messages."""
    return {
        "failures/number": np.array([failure.number for failure in failures]),
        "failures/seed": np.array([failure.seed for failure in failures]),
        "failures/genotype": np.array([f.genotype.canonical().to_array() for f in failures]),
        "failures/attempts": np.array([failure.attempts for failure in failures]),
    }


def _text(environment: Any) -> str:
    return json.dumps(environment, sort_keys=True)
