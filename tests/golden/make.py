"""Makes the file of this schema through the real writer; run once, when its version is new."""

import tempfile
from pathlib import Path

import numpy as np

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.journal import (
    JournalRun,
    StepFrame,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.record import TensorTable
from dtb_builder.space import NAMED, sample_uniform

TABLE = TensorTable(("stem.0.weight", "classifier.bias"), ((2, 1, 1, 1), (3,)))
PROVENANCE = '{"config": {"note": "golden"}}'


def main() -> None:
    """Write the golden file beside this script."""
    target = Path(__file__).with_name(f"schema-{schema.SCHEMA_VERSION}.h5")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journals = []
        for number, genotype in enumerate((NAMED["DARTS_V2"], sample_uniform(0, 0))):
            path = folder / f"{number}.journal"
            run = JournalRun(number, str(genotype.canonical()), 7, "golden", 5, TABLE)
            open_journal(path, run)
            for epoch in range(3):
                steps = (1, 2) if epoch == 1 else ()
                state = np.arange(5, dtype=np.float32) + 10 * epoch + number / 2
                key = state - 10 if epoch == 2 else None
                metrics = {"valid_accuracy": 0.25 * epoch + number / 8}
                append_epoch(
                    path,
                    epoch=epoch,
                    metrics=metrics | ({"train_seconds": 1.5} if epoch else {}),
                    environment={"device_name": "golden"},
                    num_batches_tracked=3 * epoch,
                    frame=codec.encode(state)
                    if key is None
                    else codec.encode_difference(state, key),
                    key=None if key is None else 1,
                    step_frames=[
                        StepFrame(step, step, codec.encode(state + 90 * step)) for step in steps
                    ],
                )
            journals.append(read_journal(path))
        failure = FailedRun(2, sample_uniform(0, 1), 7, 3, "RuntimeError: golden")
        shard = folder / "shard.h5"
        write_shard(
            shard,
            journals,
            [failure],
            provenance=PROVENANCE,
            num_epochs=2,
            steps=(1, 2),
            differences=[(2, 1)],
        )
        for _ in merge([shard], target):
            pass


if __name__ == "__main__":
    main()
