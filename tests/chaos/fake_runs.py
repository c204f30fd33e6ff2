"""Runs that nobody trained, with floats from their numbers, for programs that only write files."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    MomentFrames,
    append_end,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.merge import merge, remove_old_volumes
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import Store
from dtb_builder.dataset.stored_journal import write_stored
from dtb_builder.record import Moment, TensorTable
from dtb_builder.space import sample_uniform

__all__ = [
    "MOMENTS",
    "MOMENTUM",
    "NUM_EPOCHS",
    "PROVENANCE",
    "SHAPE",
    "fake_frames",
    "fake_momentum",
    "fake_state",
    "last_epoch",
    "main",
    "write_journal",
    "write_shard_of",
]

TABLE = TensorTable(("weight", "bias"), ((4, 5), (10,)))
NUM_EPOCHS = 3
MOMENTS = (
    Moment(0, 0),
    Moment(1),
    Moment(2),
    Moment(5, 1, 0),
    Moment(10, 2),
    Moment(15, 3, 4),
)
MOMENTUM = (1, 3)
"""The epochs whose momentum is kept."""

SHAPE: dict[str, Any] = {"num_epochs": NUM_EPOCHS, "moments": MOMENTS}
"""What all runs have in common; arguments of `write_shard`."""

VOLUME_SIZES = {"merge": None, "merge into volumes": 1, "merge into one volume": 10**9}
PROVENANCE = '{"config": {"plan": "fake"}}'


def last_epoch(number: int) -> int:
    """The last epoch of a run: some diverged."""
    return 2 if number % 4 == 3 else NUM_EPOCHS


def fake_state(number: int, step: int) -> np.ndarray:
    """The state of a run after a training step, float32, shape (30,)."""
    return np.random.default_rng([number, step]).standard_normal(30).astype(np.float32)


def fake_momentum(number: int, step: int) -> np.ndarray:
    """The momentum of a run after a training step, float32, shape (30,)."""
    return fake_state(number, 1000 + step)


def fake_frames(number: int, moment: Moment) -> MomentFrames:
    """What is kept of a run at a moment."""
    state = fake_state(number, moment.step)
    if moment.base is None:
        frame = codec.encode(state)
    else:
        frame = codec.encode_difference(state, fake_state(number, MOMENTS[moment.base].step))
    if moment.epoch not in MOMENTUM:
        return MomentFrames(moment, frame)
    return MomentFrames(moment, frame, codec.encode(fake_momentum(number, moment.step)))


def fake_run(number: int) -> JournalRun:
    """The run of this number."""
    genotype = str(sample_uniform(0, number))
    return JournalRun(number, genotype, number % 3, number % 2, "plan", 30, 40, TABLE)


def append(path: Path, number: int, epoch: int) -> None:
    """Append an epoch of a run to its journal."""
    append_epoch(
        path,
        epoch=epoch,
        metrics={"valid_accuracy": number / 100 + epoch / 10, "valid_loss": 3.0 - epoch},
        environment={"device_name": "fake"},
        state_crc32c=codec.crc32c(fake_state(number, 5 * epoch).tobytes()),
        moments=[fake_frames(number, m) for m in MOMENTS if -(-m.step // 5) == epoch],
    )


def write_journal(path: Path, number: int) -> None:
    """Write the journal of a whole run."""
    open_journal(path, fake_run(number))
    for epoch in range(last_epoch(number) + 1):
        append(path, number, epoch)
    if last_epoch(number) < NUM_EPOCHS:
        append_end(path, "it diverged")


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
        write_journal(folder / "run.journal", 3)
    elif program == "adopt":
        with contextlib.closing(Store(folder / "shard-00000.h5")) as store:
            for row in range(4):
                journal = folder / f"{row}.journal"
                write_stored(journal, store, row, Kept(MOMENTS, MOMENTS), number=row, plan="other")
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
        raise ValueError(f"program must be journal, adopt, shard or a merge, got {program}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
