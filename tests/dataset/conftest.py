"""Journals and shards of runs that nobody trained: three tensors, a few epochs, random floats."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

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
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.store import FailedRun
from dtb_builder.record import Moment, TensorTable
from dtb_builder.space import Genotype, sample_uniform

pytest.register_assert_rewrite("dataset.from_afar")

TABLE = TensorTable(("stem.weight", "bn.weight", "scalar"), ((4, 3, 1, 2), (5,), ()))
NUM_EPOCHS = 2
STEPS_PER_EPOCH = 10
STEPS = (2, 5)
DIFFERENCES = {1: 0}
"""Epochs whose states are differences, each with its base's, where both are kept."""
MOMENTUM = (1, 2)
PROVENANCE = '{"config": {"plan": "fake"}}'


def fake_state(number: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng([number, epoch])
    return rng.standard_normal(TABLE.num_floats).astype(np.float32)


def fake_step_state(number: int, step: int) -> np.ndarray:
    return fake_state(number, 1000 + step)


def fake_momentum(number: int, epoch: int) -> np.ndarray:
    return fake_state(number, 2000 + epoch)


def fake_moments(
    kept: Sequence[int] = (0, 1, 2),
    steps: Sequence[int] = STEPS,
    differences: Mapping[int, int] = DIFFERENCES,
) -> tuple[Moment, ...]:
    ends = [(STEPS_PER_EPOCH * epoch, epoch) for epoch in kept]
    points = sorted([*ends, *((step, None) for step in steps)])
    position = {epoch: i for i, (_, epoch) in enumerate(points) if epoch is not None}
    bases = [None if e is None else position.get(differences.get(e, -1)) for _, e in points]
    return tuple(Moment(*point, base) for point, base in zip(points, bases, strict=True))


def fake_frames(
    number: int, moments: Sequence[Moment], momentum: Sequence[int]
) -> list[tuple[int, MomentFrames]]:
    """What is kept of each moment, and the epoch in whose record it stands."""
    return [
        (-(-moment.step // STEPS_PER_EPOCH), fake_frame(number, moment, moments, momentum))
        for moment in moments
    ]


def fake_frame(
    number: int, moment: Moment, moments: Sequence[Moment], momentum: Sequence[int]
) -> MomentFrames:
    epoch = moment.epoch
    if epoch is None:
        return MomentFrames(moment, codec.encode(fake_step_state(number, moment.step)))
    values = fake_state(number, epoch)
    if moment.base is None:
        frame = codec.encode(values)
    else:
        frame = codec.encode_difference(values, fake_state(number, moments[moment.base].epoch or 0))
    moved = codec.encode(fake_momentum(number, epoch)) if epoch in momentum else b""
    return MomentFrames(moment, frame, moved)


def fake_metrics(number: int, epoch: int) -> dict[str, float]:
    metrics = {"valid_accuracy": (number + epoch) / 100, "valid_loss": 3.0 - epoch}
    return metrics if epoch == 0 else metrics | {"train_loss": 2.5 - epoch}


@pytest.fixture
def make_journal(tmp_path: Path) -> Callable[..., Journal]:
    def make(
        number: int,
        *,
        seed: int = 0,
        order_seed: int | None = None,
        genotype: Genotype | None = None,
        num_epochs: int = NUM_EPOCHS,
        kept: Sequence[int] = (0, 1, 2),
        steps: Sequence[int] = STEPS,
        differences: Mapping[int, int] = DIFFERENCES,
        momentum: Sequence[int] = MOMENTUM,
        device: str = "abacus",
        metrics: Callable[[int, int], dict[str, float]] = fake_metrics,
        ended: str | None = None,
    ) -> Journal:
        path = tmp_path / f"{number}-{seed}-{order_seed}.journal"
        genotype = genotype or sample_uniform(0, number)
        run = JournalRun(
            number=number,
            genotype=str(genotype.canonical()),
            seed=seed,
            order_seed=seed if order_seed is None else order_seed,
            plan="plan",
            num_parameters=30,
            multiply_accumulates=700,
            tensors=TABLE,
        )
        open_journal(path, run)
        frames = fake_frames(number, fake_moments(kept, steps, differences), momentum)
        for epoch in range(num_epochs + 1):
            append_epoch(
                path,
                epoch=epoch,
                metrics=metrics(number, epoch),
                environment={"device_name": device},
                state_crc32c=codec.crc32c(fake_state(number, epoch).tobytes()),
                moments=[one for at, one in frames if at == epoch],
            )
        if ended is not None:
            append_end(path, ended)
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
        diverged: Mapping[int, int] | None = None,
        **options: object,
    ) -> Path:
        path = tmp_path / f"{name}.h5"
        journals = []
        for number in numbers:
            early = {}
            if number in (diverged or {}):
                early = {"num_epochs": (diverged or {})[number], "ended": "it diverged"}
            states = {"steps": steps, "kept": kept, "differences": differences}
            journals.append(make_journal(number, **states, **options, **early))
        moments = fake_moments(kept, steps, differences)
        write_shard(
            path,
            journals,
            failures,
            provenance=provenance,
            num_epochs=NUM_EPOCHS,
            moments=moments,
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
    moments = [Moment(epoch, epoch) for epoch in range(3)]
    journals = []
    for number in (0, 1):
        path = tmp_path / f"{number}.journal"
        genotype = str(sample_uniform(0, number))
        open_journal(path, JournalRun(number, genotype, 0, 0, "p", 9, 9, table))
        for epoch in range(3):
            state = np.random.default_rng([number, epoch]).standard_normal(100_000) / 30
            append_epoch(
                path,
                epoch=epoch,
                metrics={"valid_accuracy": epoch / 9},
                environment={"device_name": "abacus"},
                state_crc32c=0,
                moments=[MomentFrames(moments[epoch], codec.encode(state.astype(np.float32)))],
            )
        journals.append(read_journal(path))
    target = tmp_path / "large.h5"
    write_shard(target, journals, provenance="{}", num_epochs=2, moments=moments)
    return target


@pytest.fixture
def failed() -> FailedRun:
    return FailedRun(4, sample_uniform(0, 4), 0, 0, 3, "Traceback ...\nRuntimeError: no luck")


@pytest.fixture
def flip() -> Callable[[Path, int], None]:
    """Flip the lowest bit of a file's byte."""

    def flipped(path: Path, position: int, bit: int = 0) -> None:
        data = bytearray(path.read_bytes())
        data[position] ^= 1 << bit
        path.write_bytes(data)

    return flipped
