"""States made again by training, of runs that take a second."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.dataset.run import Run
from dtb_builder.dataset.subset import subset
from dtb_builder.errors import DamagedFileError, ImagesError, NotFoundError, NotMeasuredError
from dtb_builder.images import Images
from dtb_builder.record import TrainingState
from dtb_builder.training.setup import torch_as_it_was

TINY = (
    *("images=digits", "images.num_valid=1300", "network.channels=2", "network.layers=2"),
    *("recipe.num_epochs=5", "recipe.drop_path_probability=0.3", "recipe.drop_path_ramp=true"),
    *("recipe.horizontal_flip=true", "space.num_genotypes=1", "order_seeds=[5]", "cluster=serial"),
)


def trained(folder: Path, *settings: str) -> Path:
    assert main(["generate", str(folder), *TINY, *settings]) == 0
    return folder / "shards" / "shard-00000.h5"


@pytest.fixture(autouse=True)
def torch_set_as_it_was() -> Iterator[None]:
    with torch_as_it_was():
        yield


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with states after epochs 0, 2 and 4, and the momentum of epoch 2."""
    folder = tmp_path_factory.mktemp("replayed")
    return trained(folder, "states.epochs=[0,2,4]", "states.momentum=[2]")


@pytest.mark.parametrize(("epoch", "start"), [(0, 0), (1, 0), (2, 0), (3, 2), (4, 2), (-1, 2)])
def test_every_state_is_made_again_to_the_bits_of_the_training(
    shard: Path, epoch: int, start: int
) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(0)
        assert run.checkpoint_epochs == (0, 2)
        found = run.replay(epoch=epoch)
        assert found.is_same
        assert found.start == start
        assert found.tensors == run.tensors
        if epoch in run.state_epochs:
            assert np.array_equal(found.state.values, run.training_state(epoch=epoch).values)


def test_a_file_without_states_is_replayed_too_as_its_network_is_known(
    shard: Path, tmp_path: Path
) -> None:
    subset(shard, into=tmp_path / "cut.h5", states="none")
    with Benchmark(shard) as whole, Benchmark(tmp_path / "cut.h5") as cut:
        assert cut.run(0).tensors == whole.run(0).tensors
        assert cut.run(0).replay(epoch=1).is_same


def test_torch_is_afterwards_set_as_before(shard: Path) -> None:
    torch.set_num_threads(2)
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = True
    with Benchmark(shard) as benchmark:
        benchmark.run(0).replay(epoch=1)
    assert torch.get_num_threads() == 2
    assert torch.get_deterministic_debug_mode() == 1
    assert torch.backends.cudnn.benchmark


def test_without_momentum_in_the_recipe_every_state_is_a_start(tmp_path: Path) -> None:
    with Benchmark(trained(tmp_path, "recipe.momentum=0", "states.key_every=2")) as benchmark:
        run = benchmark.run(0)
        assert run.checkpoint_epochs == (0, 1, 2, 3, 4, 5)
        found = run.replay(epoch=4)
        assert (found.start, found.is_same) == (3, True)


def test_a_benchmark_of_rounded_states_is_replayed_from_its_initialisation(tmp_path: Path) -> None:
    with Benchmark(trained(tmp_path, "states.dtype=bfloat16")) as benchmark:
        run = benchmark.run(0)
        assert run.checkpoint_epochs == ()
        found = run.replay(epoch=2)
        assert (found.start, found.is_same) == (0, True)
        assert not np.array_equal(found.state.values, run.training_state(epoch=2).values)


def test_a_state_of_other_bits_is_told_with_both_environments(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "order_seed", 6)
    with Benchmark(shard) as benchmark, pytest.warns(UserWarning, match="DIFFERS") as warned:
        assert not benchmark.run(0).replay(epoch=3).is_same
    text = str(warned[0].message)
    assert "\ntrained on cpu_capability=" in text
    assert "\nreplayed on cpu_capability=" in text


def test_the_command_writes_the_state_and_says_whose_bits_it_has(
    shard: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["replay", str(shard), "--run", "0", "--epoch", "4", "--into"]
    assert main([*command, str(tmp_path / "x.pt")]) == 0
    assert "trained from epoch 2: the same bits as in the training" in capsys.readouterr().out
    with Benchmark(shard) as benchmark:
        stored = benchmark.run(0).state(epoch=4)
    written = torch.load(tmp_path / "x.pt", weights_only=True)
    assert written.keys() == stored.keys()
    assert all(np.array_equal(written[name].numpy(), stored[name]) for name in stored)
    assert main([*command, str(tmp_path / "x.npz")]) == 2
    assert "ends in .safetensors or .pt" in capsys.readouterr().err
    monkeypatch.setattr(Run, "order_seed", 6)
    assert main([*command, str(tmp_path / "y.safetensors")]) == 1
    assert "DIFFERS" in capsys.readouterr().out
    assert (tmp_path / "y.safetensors").exists()


def test_an_epoch_that_is_not_there_and_other_images_are_refused(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(0)
        with pytest.raises(NotFoundError, match="no epoch 6"):
            run.replay(epoch=6)
        monkeypatch.setattr(Images, "sha256", "0" * 64)
        with pytest.raises(ImagesError, match="is not what"):
            run.replay(epoch=3)
        monkeypatch.setattr(Run, "num_epochs", 2)
        with pytest.raises(NotMeasuredError, match="it ended at 2"):
            run.replay(epoch=3)


def test_a_start_that_is_not_the_state_trained_is_damage(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Run.training_state

    def shifted(self: Run, *, epoch: int) -> TrainingState:
        state = read(self, epoch=epoch)
        return TrainingState(state.values * 2, state.num_batches_tracked)

    monkeypatch.setattr(Run, "training_state", shifted)
    with Benchmark(shard) as benchmark, pytest.raises(DamagedFileError, match="not the one"):
        benchmark.run(0).replay(epoch=3)
