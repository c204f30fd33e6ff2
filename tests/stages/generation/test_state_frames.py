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
from dtb_builder.dataset.journal import JournalRun, append_epoch, open_journal, read_journal
from dtb_builder.dataset.shard import write_shard
from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
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
    open_journal(path, JournalRun(0, str(GENOTYPE), 0, "plan", 9, storing.tensors))
    for epoch in (0, 1):
        frame = codec.encode(storing.stored(capture(network)).values)
        append_epoch(
            path, epoch=epoch, metrics={}, environment={}, num_batches_tracked=0, frame=frame
        )
    journal = read_journal(path)
    assert journal is not None
    provenance = json.dumps({"network": asdict(SPEC)})
    write_shard(tmp_path / "shard.h5", [journal], provenance=provenance, num_epochs=1)
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
        for asked in ({"epoch": 0}, {"epoch": 3}, {"step": 3}):
            values = run.training_state(**asked).values
            assert (values.view("<u4") & 0xFFFF == 0).all()
            assert len(codec.encode(values)) < values.nbytes / 2.5


@pytest.mark.parametrize("kept", ["all", "logarithmic", (0, 3, 4, -1), (-1,), ()])
@pytest.mark.parametrize("key_every", [1, 2, 3, 100])
def test_every_difference_is_to_an_earlier_kept_epoch_that_is_none(
    kept: Literal["all", "logarithmic"] | tuple[int, ...], key_every: int
) -> None:
    states = StatesConfig(epochs=kept, key_every=key_every)
    epochs = [epoch for epoch in range(9) if states.keeps(epoch, 8)]
    differences = states.differences(8)
    whole = [epoch for epoch in epochs if epoch not in differences]
    assert whole == epochs[::key_every]
    assert differences == {
        epoch: max(key for key in whole if key < epoch) for epoch in epochs if epoch not in whole
    }


def test_differences_have_the_bits_that_whole_states_have(
    tmp_path: Path, generate: Callable[..., int], dtb: Callable[..., int], content: Content
) -> None:
    for key_every in (1, 2, 3):
        folder = tmp_path / str(key_every)
        assert generate(folder, f"states.key_every={key_every}") == 0
        assert dtb("merge", folder) == 0
    with Benchmark(tmp_path / "3" / "dtb.h5") as benchmark:
        assert benchmark.run(0).state_epochs == (0, 1, 2, 3)
        assert benchmark._store.differences(0) == {1: 0, 2: 0}
    whole = content(tmp_path / "1" / "dtb.h5")
    assert content(tmp_path / "2" / "dtb.h5") == content(tmp_path / "3" / "dtb.h5") == whole
    assert dtb("reproduce", tmp_path / "3" / "dtb.h5", "--run", 0) == 0
    assert dtb("verify", tmp_path / "3" / "dtb.h5", "--deep") == 0


def test_a_key_is_at_least_every_state() -> None:
    with pytest.raises(ValueError, match=r"states\.key_every must be at least 1, got 0"):
        StatesConfig(epochs="all", key_every=0)
