"""Merge a run folder's shards into its benchmark."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dtb_builder.dataset.copying import CopiedRun
from dtb_builder.dataset.merge import merge, remove_old_volumes
from dtb_builder.errors import MissingShardError, UnfinishedError
from dtb_builder.stages.generation.foreign import foreign_error, shards_present, why_foreign
from dtb_builder.stages.generation.outcomes import finished_and_failed, write_planned_shard
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.work.disk import storage_is_named

__all__ = ["merge_folder"]

_MOST_NAMED = 10


def merge_folder(folder: RunFolder, launch: LaunchConfig) -> Iterator[CopiedRun]:
    """Merge a run folder into its ``dtb.h5``; the same shards give the same content.

    With ``allow_missing``, finished runs of unfinished shards are merged, too, failed runs are
    listed in the benchmark, and other runs are left out.

    Raises:
        MissingShardError: shards of the plan are missing, without ``allow_missing``.
        UnfinishedError: there is nothing to merge.
        ConfigError: the folder is not planned.
        PlanMismatchError: the folder's config or plan was edited, or a shard is of another plan.
        LockedError: another process works on the folder.
        StorageError: the disk failed; an earlier benchmark is unchanged.
    """
    folder.config  # noqa: B018 - raises where there is none, or not the one that was planned
    folder.check_plan()
    with storage_is_named(folder.path), folder.locked(), contextlib.ExitStack() as stack:
        for file, runs in shards_present(folder):
            if reason := why_foreign(folder, file, runs):
                raise foreign_error(folder, file, reason)
        missing = [
            (shard, runs)
            for shard, runs in folder.shards()
            if not folder.shard_file(shard).exists()
        ]
        if missing and not launch.allow_missing:
            raise MissingShardError(_explain(folder, missing))
        shards = folder.shard_files()
        for shard, runs in missing:
            partial = folder.partial_file(shard)
            stack.callback(partial.unlink, missing_ok=True)
            if _write_partial(folder, runs, partial):
                shards.append(partial)
        if not shards:
            raise UnfinishedError(f"{folder.path} has no finished run to merge")
        yield from merge(shards, folder.benchmark_file, volume_size=launch.volume_size)
        remove_old_volumes(folder.benchmark_file)


def _write_partial(folder: RunFolder, runs: list[PlannedRun], path: Path) -> bool:
    """Write the finished and failed runs of a shard in progress; False if there are none."""
    journals, failures = finished_and_failed(folder, runs)
    if not journals and not failures:
        return False
    write_planned_shard(folder, path, journals, failures)
    return True


def _explain(folder: RunFolder, missing: list[tuple[int, list[PlannedRun]]]) -> str:
    names = [folder.shard_file(shard).name for shard, _ in missing]
    more = len(names) - _MOST_NAMED
    listed = ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    lines = [f"{folder.shards_folder} lacks {listed}"]
    retry = ""
    for _, runs in missing:
        for run in runs:
            failed = folder.failures(run)
            if failed.given_up:
                retry = " retry=failed"
                reason = failed.messages[-1].strip().rpartition("\n")[2]
                lines.append(f"run {run.number} failed {len(failed.messages)} times: {reason}")
    lines.append(f"dtb generate {folder.path}{retry} makes them; allow_missing=true merges without")
    return "\n  ".join(lines)
