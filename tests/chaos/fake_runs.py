"""Runs that nobody trained, with floats from their numbers, for programs that only write files."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    StepFrame,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.merge import merge, remove_old_volumes
from dtb_builder.dataset.shard import write_shard
from dtb_builder.record import TensorTable
from dtb_builder.space import sample_uniform

__all__ = [
    "DIFFERENCES",
    "NUM_EPOCHS",
    "PROVENANCE",
    "SHAPE",
    "STEPS",
    "fake_frame",
    "fake_state",
    "fake_step_state",
    "main",
    "write_journal",
    "write_shard_of",
]

TABLE = TensorTable(("weight", "bias"), ((4, 5), (10,)))
NUM_EPOCHS = 3
STEPS = (1, 2)
DIFFERENCES = {1: 0, 3: 2}
SHAPE: dict[str, Any] = {
    "num_epochs": NUM_EPOCHS,
    "steps": STEPS,
    "differences": tuple(DIFFERENCES.items()),
}
"""What all runs have in common; arguments of `write_shard`."""

VOLUME_SIZES = {"merge": None, "merge into volumes": 1, "merge into one volume": 10**9}
PROVENANCE = '{"config": {"plan": "fake"}}'


def fake_state(number: int, epoch: int) -> np.ndarray:
    """The state of a run after an epoch, float32, shape (30,)."""
    return np.random.default_rng([number, epoch]).standard_normal(30).astype(np.float32)


def fake_step_state(number: int, step: int) -> np.ndarray:
    """The state of a run after a step of its first epoch, float32, shape (30,)."""
    return np.random.default_rng([number, 1000 + step]).standard_normal(30).astype(np.float32)


def fake_frame(number: int, epoch: int) -> bytes:
    """The frame of the state of a run after an epoch, whole or as a difference."""
    if epoch in DIFFERENCES:
        key = fake_state(number, DIFFERENCES[epoch])
        return codec.encode_difference(fake_state(number, epoch), key)
    return codec.encode(fake_state(number, epoch))


def fake_run(number: int) -> JournalRun:
    """The run of this number."""
    genotype = str(sample_uniform(0, number))
    return JournalRun(number, genotype, number % 3, "plan", 30, TABLE)


def append(path: Path, number: int, epoch: int) -> None:
    """Append an epoch of a run to its journal."""
    append_epoch(
        path,
        epoch=epoch,
        metrics={"valid_accuracy": number / 100 + epoch / 10, "valid_loss": 3.0 - epoch},
        environment={"device_name": "fake"},
        num_batches_tracked=5 * epoch,
        frame=fake_frame(number, epoch),
        key=DIFFERENCES.get(epoch),
        step_frames=[
            StepFrame(step, step, codec.encode(fake_step_state(number, step)))
            for step in STEPS
            if epoch == 1
        ],
    )


def write_journal(path: Path, number: int) -> None:
    """Write the journal of a whole run."""
    open_journal(path, fake_run(number))
    for epoch in range(NUM_EPOCHS + 1):
        append(path, number, epoch)


def write_shard_of(path: Path, numbers: range) -> None:
    """Write a shard of whole runs."""
    journals: list[Journal] = []
    for number in numbers:
        journal = path.with_name(f"{number}.journal")
        write_journal(journal, number)
        journals += [read for read in (read_journal(journal),) if read is not None]
    write_shard(path, journals, provenance=PROVENANCE, **SHAPE)
    for number in numbers:
        path.with_name(f"{number}.journal").unlink()


def main(program: str, folder: Path) -> None:
    """Do one of the things that write files, in a folder that is ready for it."""
    if program == "journal":
        write_journal(folder / "run.journal", 1)
    elif program == "shard":
        journals = [read_journal(path) for path in sorted(folder.glob("*.journal"))]
        write_shard(
            folder / "shard.h5",
            [journal for journal in journals if journal is not None],
            provenance=PROVENANCE,
            **SHAPE,
        )
        for path in folder.glob("*.journal"):
            path.unlink()
    elif program in VOLUME_SIZES:
        shards = sorted(folder.glob("shard-*.h5"))
        for _ in merge(shards, folder / "dtb.h5", volume_size=VOLUME_SIZES[program]):
            pass
        remove_old_volumes(folder / "dtb.h5")
    else:
        raise ValueError(f"program must be journal, shard or a merge, got {program}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
