"""A training that nobody waits for: it sleeps, and writes a real journal."""

import time
from pathlib import Path

import numpy as np

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import JournalRun, MomentFrames, append_epoch, open_journal
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
        about = JournalRun(
            number=run.number,
            genotype=run.genotype,
            seed=run.seed,
            order_seed=run.order_seed,
            plan="stand-in",
            num_parameters=NUM_FLOATS,
            multiply_accumulates=NUM_FLOATS,
            tensors=table,
        )
        done = open_journal(journal, about).last_epoch
        for epoch in range(0 if done is None else done + 1, NUM_EPOCHS + 1):
            begin = time.perf_counter()
            time.sleep(RUN_SECONDS / (NUM_EPOCHS + 1))
            seconds = time.perf_counter() - begin
            floats = np.random.default_rng([run.number, epoch]).standard_normal(NUM_FLOATS)
            values = floats.astype(np.float32)
            ends = (moment for moment in folder.moments if moment.epoch == epoch)
            append_epoch(
                journal,
                epoch=epoch,
                metrics={"valid_accuracy": run.number / 1e6, "train_seconds": seconds},
                environment={"device_name": "stand-in"},
                state_crc32c=codec.crc32c(values.data),
                moments=[MomentFrames(moment, codec.encode(values)) for moment in ends],
            )
