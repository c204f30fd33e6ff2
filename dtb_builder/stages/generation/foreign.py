"""Shards that are not of the plan whose folder they lie in, such as those of another study."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.store import Store
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder

__all__ = ["NO_SUCH_SHARD", "foreign_shards", "why_foreign"]

NO_SUCH_SHARD = "the plan has no such shard"


def foreign_shards(folder: RunFolder) -> Iterator[tuple[Path, str]]:
    """Each file of a folder's ``shards/`` that the plan did not make, with the reason.

    Raises:
        DamagedFileError: a shard is damaged, so that it cannot be told; as are other DTBErrors.
    """
    surplus = set(folder.shard_files())
    for shard, runs in folder.shards():
        file = folder.shard_file(shard)
        if file in surplus:
            surplus.remove(file)
            if reason := why_foreign(folder, file, runs):
                yield file, reason
    yield from ((file, NO_SUCH_SHARD) for file in sorted(surplus))


def why_foreign(folder: RunFolder, file: Path, runs: list[PlannedRun]) -> str | None:
    """Why a file is not the shard of these planned runs; None where it is.

    Raises:
        DTBError: the file cannot be read.
    """
    with contextlib.closing(Store(file)) as store:
        if store.index.texts(schema.PROVENANCE)[0] != folder.provenance:
            return "it was made from another plan"
        numbers = store.index.column("runs/number").tolist()
        seeds = store.index.column("runs/seed").tolist()
        order_seeds = store.index.column("runs/order_seed").tolist()
        keys = [np.asarray(key, np.uint8).tobytes() for key in store.index.column("runs/key")]
    planned = {run.number: (run.seed, run.order_seed, run.key) for run in runs}
    for number, *facts in zip(numbers, seeds, order_seeds, keys, strict=True):
        if planned.pop(number, None) != tuple(facts):
            return f"its run {number} is not planned for this shard"
    return f"it lacks run {min(planned)}" if planned else None
