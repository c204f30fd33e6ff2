"""The settings that change which states are stored, and their floats."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from dtb_builder import NAMED, Benchmark
from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    JournalRun,
    MomentFrames,
    append_epoch,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.shard import write_shard
from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import Moment
from dtb_builder.stages.generation.state_frames import Storing
from dtb_builder.stages.settings.states import StatesConfig

GENOTYPE = NAMED["DARTS_V2"].canonical()
SPEC = NetworkSpec(channels=2, layers=2, num_classes=3, image_size=32, auxiliary=True)
Content = Callable[[Path], dict[Any, Any]]
HEADLESS = StatesConfig(epochs="all", auxiliary_head=False)


@pytest.mark.parametrize(
    ("num_epochs", "kept"), [(1, [0, 1]), (8, [0, 1, 2, 4, 8]), (11, [0, 1, 2, 4, 8, 11])]
)
def test_logarithmic_keeps_powers_of_two_and_the_ends(num_epochs: int, kept: list[int]) -> None:
    states = StatesConfig(epochs="logarithmic")
    found = [epoch for epoch in range(num_epochs + 1) if states.keeps(epoch, num_epochs)]
    assert found == kept


def test_without_settings_a_state_is_stored_as_it_is() -> None:
    network = Network(GENOTYPE, SPEC)
    storing, state = Storing(StatesConfig(epochs="all"), tensor_table(network)), capture(network)
    assert storing.tensors == tensor_table(network)
    assert storing.stored(state).values.tobytes() == state.values.tobytes()


def test_the_auxiliary_head_is_left_out_and_nothing_else() -> None:
    network = Network(GENOTYPE, SPEC)
    storing = Storing(HEADLESS, tensor_table(network))
    stored = storing.tensors.unpack(storing.stored(capture(network)).values)
    whole = tensor_table(network).unpack(capture(network).values)
    left_out = whole.keys() - stored.keys()
    assert left_out == {name for name in whole if name.startswith("auxiliary_head.")}
    assert len(left_out) == 12
    assert all(np.array_equal(stored[name], whole[name]) for name in stored)


def test_a_network_stored_without_its_head_is_read_without_it(tmp_path: Path) -> None:
    network = Network(GENOTYPE, SPEC).eval()
    storing, path = Storing(HEADLESS, tensor_table(network)), tmp_path / "run.journal"
    open_journal(path, JournalRun(0, str(GENOTYPE), 0, 0, "plan", 9, 9, storing.tensors))
    moments = (Moment(0, 0), Moment(1, 1))
    for epoch, moment in enumerate(moments):
        frame = codec.encode(storing.stored(capture(network)).values)
        kept = [MomentFrames(moment, frame)]
        append_epoch(
            path,
            epoch=epoch,
            metrics={},
            environment={"device_name": "none"},
            state_crc32c=0,
            moments=kept,
        )
    journal = read_journal(path)
    assert journal is not None
    provenance = json.dumps({"network": asdict(SPEC)})
    options = {"provenance": provenance, "num_epochs": 1, "moments": moments}
    write_shard(tmp_path / "shard.h5", [journal], **options)
    with Benchmark(tmp_path / "shard.h5") as benchmark:
        read = benchmark.run(0).network(epoch=1)
    assert read.auxiliary_head is None
    assert read.spec == NetworkSpec(channels=2, layers=2, num_classes=3, image_size=32)
    images = torch.rand(2, 3, 32, 32)
    twin = Network(GENOTYPE, SPEC).eval()
    twin.load_state_dict(network.state_dict())
    assert torch.equal(read(images), twin(images))


def test_states_in_bfloat16_are_a_third_and_reproduce_and_evaluate(
    tmp_path: Path, generate: Callable[..., int], dtb: Callable[..., int]
) -> None:
    assert generate(tmp_path, "states.dtype=bfloat16", "space.num_genotypes=1") == 0
    assert dtb("merge", tmp_path) == 0
    assert dtb("reproduce", tmp_path / "dtb.h5", "--run", 0) == 0
    assert dtb("verify", tmp_path / "dtb.h5", "--deep") == 0
    with Benchmark(tmp_path / "dtb.h5") as benchmark:
        run = benchmark.run(0)
        for asked in ({"epoch": 0}, {"epoch": 3}, {"step": 5}):
            values = run.training_state(**asked).values
            assert (values.view("<u4") & 0xFFFF == 0).all()
            assert len(codec.encode(values)) < values.nbytes / 2.5


@pytest.mark.parametrize("kept", ["all", "logarithmic", (0, 3, 4, -1), (-1,), ()])
@pytest.mark.parametrize("key_every", [1, 2, 3, 100])
def test_every_difference_is_to_the_last_whole_end_of_an_epoch(
    kept: Literal["all", "logarithmic"] | tuple[int, ...], key_every: int
) -> None:
    states = StatesConfig(epochs=kept, key_every=key_every, steps=(1, 13))
    moments = states.moments(8, num_steps=5)
    ends = {m.epoch: m for m in moments if m.epoch is not None}
    assert list(ends) == [epoch for epoch in range(9) if states.keeps(epoch, 8)]
    whole = [epoch for epoch, moment in ends.items() if moment.base is None]
    assert whole == list(ends)[::key_every]
    for epoch, moment in ends.items():
        if moment.base is not None:
            assert moments[moment.base].epoch == max(key for key in whole if key < epoch)
    assert [m for m in moments if m.epoch is None] == [Moment(1), Moment(13)]
    assert [m.step for m in moments] == sorted({m.step for m in moments})


def test_a_step_that_ends_an_epoch_is_that_epochs_moment() -> None:
    states = StatesConfig(epochs=(0,), steps=(1, 5, 10))
    assert states.moments(2, num_steps=5) == (
        Moment(0, 0),
        Moment(1),
        Moment(5, 1),
        Moment(10, 2),
    )


def test_logarithmic_steps_are_the_powers_of_two_of_the_training() -> None:
    states = StatesConfig(epochs=(0, -1), steps="logarithmic")
    steps = [moment.step for moment in states.moments(3, num_steps=4)]
    assert steps == [0, 1, 2, 4, 8, 12]
    assert [m.epoch for m in states.moments(3, num_steps=4)] == [0, None, None, 1, 2, 3]


@pytest.mark.parametrize(
    ("momentum", "kept", "epochs"),
    [
        ("none", "all", set()),
        ("all", "all", {1, 2, 3, 4, 5}),
        ("all", (0, 2), {2}),
        ("logarithmic", "all", {1, 2, 4, 5}),
        ("logarithmic", (0, 3, 4), {4}),
        ((2, -1), "all", {2, 5}),
    ],
)
def test_momentum_is_kept_with_kept_states(momentum: Any, kept: Any, epochs: set[int]) -> None:
    states = StatesConfig(epochs=kept, momentum=momentum)
    assert states.momentum_epochs(5) == epochs
    states.moments(5, num_steps=4)


def test_momentum_without_its_state_is_refused() -> None:
    states = StatesConfig(epochs=(0, 2), momentum=(2, 3))
    with pytest.raises(ValueError, match=r"epochs whose state is kept, got \[3\]"):
        states.moments(5, num_steps=4)
    with pytest.raises(ValueError, match=r"states\.momentum needs states\.dtype=float32"):
        StatesConfig(epochs="all", momentum="all", dtype="bfloat16")


def test_differences_have_the_bits_that_whole_states_have(
    tmp_path: Path, generate: Callable[..., int], dtb: Callable[..., int], content: Content
) -> None:
    for key_every in (1, 2, 3):
        folder = tmp_path / str(key_every)
        assert generate(folder, f"states.key_every={key_every}") == 0
        assert dtb("merge", folder) == 0
    with Benchmark(tmp_path / "3" / "dtb.h5") as benchmark:
        assert benchmark.run(0).state_epochs == (0, 1, 2, 3)
        moments = benchmark.run(0).moments
        bases = {m.epoch: moments[m.base].epoch for m in moments if m.base is not None}
        assert bases == {1: 0, 2: 0}
    whole = content(tmp_path / "1" / "dtb.h5")
    assert content(tmp_path / "2" / "dtb.h5") == content(tmp_path / "3" / "dtb.h5") == whole
    assert dtb("reproduce", tmp_path / "3" / "dtb.h5", "--run", 0) == 0
    assert dtb("verify", tmp_path / "3" / "dtb.h5", "--deep") == 0


def test_a_key_is_at_least_every_state() -> None:
    with pytest.raises(ValueError, match=r"states\.key_every must be at least 1, got 0"):
        StatesConfig(epochs="all", key_every=0)
