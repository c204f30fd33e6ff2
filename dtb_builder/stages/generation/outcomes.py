"""Decide which runs are finished, and write shards of finished runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtb_builder.dataset.journal import Journal, peek_journal, read_journal
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.work.disk import storage_is_named

__all__ = [
    "UnfinishedRuns",
    "close_shard",
    "finished_and_failed",
    "is_finished",
    "write_planned_shard",
]


@dataclass(frozen=True)
class UnfinishedRuns:
    """The runs of a shard, and those of them that are not finished after all."""

    runs: list[PlannedRun]
    unfinished: list[PlannedRun]


def is_finished(folder: RunFolder, run: PlannedRun) -> bool:
    """Whether the journal of a run is complete, whatever else its files say."""
    peek = peek_journal(folder.journal_file(run))
    return peek.is_finished(folder.config.recipe.num_epochs)


def close_shard(path: Path, runs: list[PlannedRun]) -> Path | UnfinishedRuns:
    """Write the shard of these finished runs, and remove their files in progress.

    Where a journal is damaged, nothing is written: its run must be trained again.
    """
    with storage_is_named(path):
        return _close_shard(RunFolder(path), runs)


def _close_shard(folder: RunFolder, runs: list[PlannedRun]) -> Path | UnfinishedRuns:
    shard = runs[0].shard
    journals, _ = finished_and_failed(folder, runs)
    if len(journals) < len(runs):
        finished = {journal.run.number for journal in journals}
        return UnfinishedRuns(runs, [run for run in runs if run.number not in finished])
    file = folder.shard_file(shard)
    file.parent.mkdir(exist_ok=True)
    write_planned_shard(folder, file, journals)
    folder.clear_working_folder(shard)
    return file


def write_planned_shard(
    folder: RunFolder,
    path: Path,
    journals: Sequence[Journal],
    failures: Sequence[FailedRun] = (),
) -> None:
    """Write a shard of a folder's plan; arguments and errors as in `write_shard`."""
    write_shard(
        path,
        journals,
        failures,
        provenance=folder.provenance,
        num_epochs=folder.config.recipe.num_epochs,
        moments=folder.moments,
    )


def finished_and_failed(
    folder: RunFolder, runs: list[PlannedRun]
) -> tuple[list[Journal], list[FailedRun]]:
    """The journals of the finished runs of a shard in progress, and its runs that were given up."""
    journals: list[Journal] = []
    failures: list[FailedRun] = []
    for run in runs:
        file = folder.journal_file(run)
        journal = read_journal(file) if file.exists() else None
        failed = folder.failures(run)
        if journal is not None and journal.is_finished(folder.config.recipe.num_epochs):
            journals.append(journal)
        elif failed.given_up:
            failures.append(
                FailedRun(
                    number=run.number,
                    genotype=Genotype.parse(run.genotype),
                    seed=run.seed,
                    order_seed=run.order_seed,
                    attempts=len(failed.messages),
                    message=failed.messages[-1],
                )
            )
    return journals, failures
