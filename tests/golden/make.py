"""Makes the file of this schema through the real writer; run once, when its version is new."""

import tempfile
from pathlib import Path

import numpy as np

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_end,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.record import Moment, TensorTable
from dtb_builder.space import NAMED, sample_uniform

TABLE = TensorTable(("stem.0.weight", "classifier.bias"), ((2, 1, 1, 1), (3,)))
PROVENANCE = '{"config": {"note": "golden"}}'
MOMENTS = (Moment(0, 0), Moment(1), Moment(2), Moment(3, 1), Moment(6, 2, base=3))


def state(number: int, step: int) -> np.ndarray:
    """Of a run after a step."""
    return np.arange(5, dtype=np.float32) + 10 * step + np.float32(number / 2)


def frames(number: int, moment: Moment) -> MomentFrames:
    """What is kept at a moment: momentum only after epoch 2."""
    values = state(number, moment.step)
    if moment.base is None:
        return MomentFrames(moment, codec.encode(values))
    difference = codec.encode_difference(values, state(number, MOMENTS[moment.base].step))
    return MomentFrames(moment, difference, codec.encode(-values))


def main() -> None:
    """Write the golden file beside this script: two runs of three, of which one diverged."""
    target = Path(__file__).with_name(f"schema-{schema.SCHEMA_VERSION}.h5")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journals = []
        genotypes = (NAMED["DARTS_V2"], sample_uniform(0, 0), sample_uniform(0, 1))
        for number, genotype in enumerate(genotypes):
            path = folder / f"{number}.journal"
            text = str(genotype.canonical())
            open_journal(path, JournalRun(number, text, 7, 8, "golden", 5, 6, TABLE))
            for epoch in range(2 if number == 2 else 3):
                metrics = {"valid_accuracy": 0.25 * epoch + number / 8}
                append_epoch(
                    path,
                    epoch=epoch,
                    metrics=metrics | ({"train_seconds": 1.5} if epoch else {}),
                    environment={"device_name": "golden"},
                    state_crc32c=codec.crc32c(state(number, 3 * epoch).tobytes()),
                    moments=[frames(number, m) for m in MOMENTS if -(-m.step // 3) == epoch],
                )
            if number == 2:
                append_end(path, "golden")
            journals.append(read_journal(path))
        failure = FailedRun(3, sample_uniform(0, 2), 7, 8, 3, "RuntimeError: golden")
        shard = folder / "shard.h5"
        about = {"provenance": PROVENANCE, "num_epochs": 2, "moments": MOMENTS}
        write_shard(shard, journals, [failure], **about)
        for _ in merge([shard], target):
            pass


if __name__ == "__main__":
    main()
