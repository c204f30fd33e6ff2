"""Journals and shards of runs that nobody trained: three tensors, a few epochs, random floats."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    StepFrame,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.record import TensorTable
from dtb_builder.space import Genotype, sample_uniform

pytest.register_assert_rewrite("dataset.from_afar")

TABLE = TensorTable(("stem.weight", "bn.weight", "scalar"), ((4, 3, 1, 2), (5,), ()))
NUM_EPOCHS = 2
STEPS = (2, 5)
DIFFERENCES = {1: 0}
"""Epochs whose states are differences, each with its key's, where both are kept."""
PROVENANCE = '{"config": {"plan": "fake"}}'


def fake_state(number: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([number, epoch])
    return rng.standard_normal(TABLE.num_floats).astype(np.float32)


def fake_frame(number: int, epoch: int, key: int | None) -> bytes:
    if key is None:
        return codec.encode(fake_state(number, epoch))
    return codec.encode_difference(fake_state(number, epoch), fake_state(number, key))


def fake_step_state(number: int, step: int) -> np.ndarray:
    rng = np.random.default_rng([number, 1000 + step])
    return rng.standard_normal(TABLE.num_floats).astype(np.float32)


def fake_metrics(number: int, epoch: int) -> dict[str, float]:
    metrics = {"valid_accuracy": (number + epoch) / 100, "valid_loss": 3.0 - epoch}
    return metrics if epoch == 0 else metrics | {"train_loss": 2.5 - epoch}


@pytest.fixture
def make_journal(tmp_path: Path) -> Callable[..., Journal]:
    def make(
        number: int,
        *,
        seed: int = 0,
        genotype: Genotype | None = None,
        num_epochs: int = NUM_EPOCHS,
        kept: Sequence[int] = (0, 1, 2),
        steps: Sequence[int] = STEPS,
        differences: Mapping[int, int] = DIFFERENCES,
        device: str = "abacus",
        metrics: Callable[[int, int], dict[str, float]] = fake_metrics,
    ) -> Journal:
        path = tmp_path / f"{number}-{seed}.journal"
        genotype = genotype or sample_uniform(0, number)
        run = JournalRun(number, str(genotype.canonical()), seed, "plan", 30, TABLE)
        open_journal(path, run)
        for epoch in range(num_epochs + 1):
            key = differences.get(epoch) if epoch in kept else None
            append_epoch(
                path,
                epoch=epoch,
                metrics=metrics(number, epoch),
                environment={"device_name": device},
                num_batches_tracked=10 * epoch if epoch in kept else None,
                frame=fake_frame(number, epoch, key) if epoch in kept else b"",
                key=key,
                step_frames=[
                    StepFrame(step, step, codec.encode(fake_step_state(number, step)))
                    for step in steps
                    if epoch == 1
                ],
            )
        journal = read_journal(path)
        assert journal is not None
        return journal

    return make


@pytest.fixture
def make_shard(tmp_path: Path, make_journal: Callable[..., Journal]) -> Callable[..., Path]:
    def make(
        name: str,
        numbers: Sequence[int],
        failures: Sequence[FailedRun] = (),
        *,
        provenance: str = PROVENANCE,
        steps: Sequence[int] = STEPS,
        kept: Sequence[int] = (0, 1, 2),
        differences: Mapping[int, int] = DIFFERENCES,
        **options: object,
    ) -> Path:
        path = tmp_path / f"{name}.h5"
        states = {"steps": steps, "kept": kept, "differences": differences}
        journals = [make_journal(number, **states, **options) for number in numbers]
        write_shard(
            path,
            journals,
            failures,
            provenance=provenance,
            num_epochs=NUM_EPOCHS,
            steps=steps,
            differences=[(epoch, key) for epoch, key in differences.items() if epoch in kept],
        )
        return path

    return make


@pytest.fixture
def shard(make_shard: Callable[..., Path]) -> Path:
    """A shard of runs 3 and 5."""
    return make_shard("shard", [5, 3])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A shard of two runs with states of 0.4 MB in 250 tensors, as a small network's."""
    sizes = np.random.default_rng(0).multinomial(100_000, np.full(250, 1 / 250)).tolist()
    table = TensorTable(tuple(f"cells.{i}.weight" for i in range(250)), tuple((n,) for n in sizes))
    journals = []
    for number in (0, 1):
        path = tmp_path / f"{number}.journal"
        open_journal(path, JournalRun(number, str(sample_uniform(0, number)), 0, "p", 9, table))
        for epoch in range(3):
            state = np.random.default_rng([number, epoch]).standard_normal(100_000) / 30
            append_epoch(
                path,
                epoch=epoch,
                metrics={"valid_accuracy": epoch / 9},
                environment={"device_name": "abacus"},
                num_batches_tracked=epoch,
                frame=codec.encode(state.astype(np.float32)),
            )
        journals.append(read_journal(path))
    write_shard(tmp_path / "large.h5", journals, provenance="{}", num_epochs=2)
    return tmp_path / "large.h5"


@pytest.fixture
def failed() -> FailedRun:
    return FailedRun(4, sample_uniform(0, 4), 0, 3, "Traceback ...\nRuntimeError: no luck")


@pytest.fixture
def flip() -> Callable[[Path, int], None]:
    """Flip the lowest bit of a file's byte."""

    def flipped(path: Path, position: int, bit: int = 0) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1 << bit
        path.write_bytes(data)

    return flipped
