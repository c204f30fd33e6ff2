"""A training that nobody waits for: it sleeps, and writes a real journal."""

import time
from pathlib import Path

import numpy as np

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import JournalRun, append_epoch, open_journal
from dtb_builder.record import TensorTable
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder

__all__ = ["NUM_EPOCHS", "RUN_SECONDS", "pretend"]

NUM_EPOCHS = 1
RUN_SECONDS = 0.05
NUM_FLOATS = 1000


def pretend(path: Path, run: PlannedRun, _limit: float | None) -> None:
    """Journal a run of `NUM_EPOCHS` epochs that takes `RUN_SECONDS`, journalling apart."""
    folder = RunFolder(path)
    with folder.run_locked(run):
        journal = folder.journal_file(run)
        table = TensorTable(("weight",), ((NUM_FLOATS,),))
        about = JournalRun(run.number, run.genotype, run.seed, "stand-in", NUM_FLOATS, table)
        done = open_journal(journal, about).last_epoch
        for epoch in range(0 if done is None else done + 1, NUM_EPOCHS + 1):
            begin = time.perf_counter()
            time.sleep(RUN_SECONDS / (NUM_EPOCHS + 1))
            seconds = time.perf_counter() - begin
            floats = np.random.default_rng([run.number, epoch]).standard_normal(NUM_FLOATS)
            append_epoch(
                journal,
                epoch=epoch,
                metrics={"valid_accuracy": run.number / 1e6, "train_seconds": seconds},
                environment={"device_name": "stand-in"},
                num_batches_tracked=epoch,
                frame=codec.encode(floats.astype(np.float32)),
            )
