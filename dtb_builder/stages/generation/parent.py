"""The parent runs of a branch, as its run folder stores them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dtb_builder.dataset import Benchmark, Run, codec
from dtb_builder.dataset.atomic import scratch_folder
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.replay import start_of
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.stored_journal import measured
from dtb_builder.errors import DamagedFileError, PlanMismatchError
from dtb_builder.record import Moment
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.branch import BranchConfig

__all__ = [
    "append_parent",
    "check_parents",
    "origin_of",
    "parent_of",
    "parents",
    "parents_provenance",
    "runs_sha256",
    "write_parents",
]


def origin_of(run: Run, epoch: int, provenance_sha256: str) -> dict[str, Any]:
    """The origin of a branch's run, as its files have it.

    Args:
        run: the parent run.
        epoch: the epoch after which the branch continues.
        provenance_sha256: the hash of the parent's provenance text.
    """
    return {
        "kind": "branched",
        "epoch": epoch,
        "provenance_sha256": provenance_sha256,
        "run": run.number,
        "crc32c": run.crc32c,
        "state_crc32c": run.state_crc32c(epoch=epoch),
    }


def runs_sha256(origins: Sequence[dict[str, Any]]) -> str:
    """The hash of the origins, which identifies the parent runs of a branch."""
    return hashlib.sha256("\n".join(map(_text, origins)).encode()).hexdigest()


def write_parents(
    path: Path, runs: Sequence[Run], origins: Sequence[dict[str, Any]], provenance: str
) -> None:
    """Write the parent runs up to the start of the branch, as a shard with the state at its start.

    Args:
        path: the shard's path.
        runs: the parent runs, sorted by number.
        origins: the origins of the branch's runs.
        provenance: the parent's provenance text.
    """
    epoch = int(origins[0]["epoch"])
    journals: list[Journal] = []
    with scratch_folder(path) as folder:
        for run, origin in zip(runs, origins, strict=True):
            file = folder / f"run-{run.number:08d}.journal"
            about = JournalRun(
                number=run.number,
                genotype=str(run.genotype),
                seed=run.seed,
                order_seed=run.order_seed,
                plan=origin["provenance_sha256"],
                num_parameters=run.num_parameters,
                multiply_accumulates=run.multiply_accumulates,
                tensors=run.tensors,
                origin=origin,
            )
            journals.append(append_parent(open_journal(file, about), run, epoch))
        write_shard(
            path,
            journals,
            provenance=provenance,
            num_epochs=epoch,
            moments=[journals[0].moments[0].moment],
        )


def parents(path: Path, branch: BranchConfig) -> Iterator[Run]:
    """The parent runs by number; the file is open while they are read.

    Raises:
        PlanMismatchError: they are not the runs with which the branch was planned.
    """
    with Benchmark(path) as benchmark:
        if runs_sha256([run.origin for run in benchmark]) != branch.runs_sha256:
            raise PlanMismatchError(
                f"{path} does not have the runs that the branch was planned with"
            )
        yield from benchmark


def check_parents(folder: RunFolder) -> None:
    """Check that a branch has the parent runs with which it was planned.

    Raises:
        DamagedFileError: they are missing or damaged.
        PlanMismatchError: they are other runs.
    """
    if folder.config.branch is None:
        return
    if not folder.parent_file.exists():
        raise DamagedFileError(
            f"{folder.parent_file} is missing: the runs of the branch continue from it"
        )
    for _ in parents(folder.parent_file, folder.config.branch):
        pass


def parents_provenance(path: Path) -> dict[str, Any]:
    """The parent's provenance."""
    with Benchmark(path) as benchmark:
        return benchmark.provenance


@contextmanager
def parent_of(folder: RunFolder, run: PlannedRun) -> Iterator[Run | None]:
    """Within, the parent of a planned run with its file open; None if it is not a branch.

    Raises:
        PlanMismatchError: it is not the run with which the branch was planned.
    """
    branch = folder.config.branch
    if branch is None:
        yield None
        return
    num_order_seeds = len(folder.config.order_seeds or (None,))
    with Benchmark(folder.parent_file) as benchmark:
        parent = benchmark.run(int(benchmark.numbers[run.number // num_order_seeds]))
        found = (str(parent.genotype), parent.seed, parent.branch_epoch)
        if (
            found != (run.genotype, run.seed, branch.epoch)
            or parent.origin["provenance_sha256"] != branch.provenance_sha256
        ):
            raise PlanMismatchError(f"{folder.parent_file} lacks the parent of run {run.number}")
        yield parent


def append_parent(journal: Journal, run: Run, epoch: int) -> Journal:
    """Append a parent's epochs up to an epoch, with its state and momentum, to a new journal."""
    start = start_of(run, epoch)
    step = start.state.num_batches_tracked
    momentum = b"" if start.momentum is None else codec.encode(start.momentum)
    frames = MomentFrames(Moment(step, start.epoch), codec.encode(start.state.values), momentum)
    for row, metrics in enumerate(measured(run)[: epoch + 1]):
        append_epoch(
            journal.path,
            epoch=row,
            metrics=metrics,
            environment=run.environment(epoch=row),
            state_crc32c=run.state_crc32c(epoch=row),
            moments=[frames] if row == epoch else [],
        )
    found = read_journal(journal.path)
    assert found is not None, "it has just been written"
    return found


def _text(origin: dict[str, Any]) -> str:
    return json.dumps(origin, sort_keys=True)
