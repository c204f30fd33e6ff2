"""Shards that are not of the plan whose folder they lie in, such as those of another study."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.store import Store
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder

__all__ = ["shards_present", "why_foreign"]


def shards_present(folder: RunFolder) -> Iterator[tuple[Path, list[PlannedRun]]]:
    """Each file in ``shards/`` with the runs planned for it: none where the plan lacks it."""
    surplus = set(folder.shard_files())
    for shard, runs in folder.shards():
        file = folder.shard_file(shard)
        if file in surplus:
            surplus.remove(file)
            yield file, runs
    yield from ((file, []) for file in sorted(surplus))


def why_foreign(folder: RunFolder, file: Path, runs: list[PlannedRun]) -> str | None:
    """Why a file is not the shard of these planned runs; None where it is.

    Raises:
        DTBError: the file cannot be read.
    """
    if not runs:
        return "the plan has no such shard"
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
