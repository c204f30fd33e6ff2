"""A resumed training is the uninterrupted one, bit for bit."""

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from dtb_builder.errors import DamagedFileError
from dtb_builder.training import Recipe
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.loop import train
from dtb_builder.training.resident import ResidentImages
from dtb_builder.training.resume import Checkpoint

MakeNetwork = Callable[..., nn.Module]
SECONDS = {"train_seconds", "evaluation_seconds"}


def facts(finished: FinishedEpoch) -> tuple[dict[str, bytes], dict[str, float]]:
    """Weights and metrics but times."""
    state = finished.network.state_dict()
    weights = {name: value.cpu().numpy().tobytes() for name, value in state.items()}
    return weights, {k: v for k, v in finished.metrics.items() if k not in SECONDS}


@pytest.fixture
def uninterrupted(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> list[tuple[tuple, Checkpoint]]:
    """What each epoch was, and its checkpoint."""
    epochs = train(make_network(), data, recipe, seed=7)
    return [(facts(finished), Checkpoint.capture(finished)) for finished in epochs]


@pytest.mark.parametrize("through_bytes", [False, True])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3, 4])
def test_what_follows_a_resume_is_what_would_have_followed(
    uninterrupted: list,
    make_network: MakeNetwork,
    data: ResidentImages,
    recipe: Recipe,
    epoch: int,
    through_bytes: bool,
) -> None:
    checkpoint = uninterrupted[epoch][1]
    if through_bytes:
        checkpoint = Checkpoint.from_bytes(checkpoint.to_bytes())
    other = make_network(seed=99)
    resumed = [
        (finished.epoch, facts(finished))
        for finished in train(other, data, recipe, seed=7, resume=checkpoint)
    ]
    expected = [(i, facts) for i, (facts, _) in enumerate(uninterrupted)]
    assert resumed == expected[epoch + 1 :]


def test_a_checkpoint_can_be_resumed_from_twice(
    uninterrupted: list, make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    checkpoint = uninterrupted[1][1]
    for _ in range(2):
        epochs = train(make_network(), data, recipe, seed=7, resume=checkpoint)
        assert [facts(f) for f in epochs] == [facts for facts, _ in uninterrupted[2:]]


def without_momentum(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, optimizer={**checkpoint.optimizer, "state": {}})


def without_schedule(checkpoint: Checkpoint) -> Checkpoint:
    at_the_start = {**checkpoint.scheduler, "last_epoch": 0}
    return dataclasses.replace(checkpoint, scheduler=at_the_start)


@pytest.mark.parametrize(("forget", "num_equal"), [(without_momentum, 0), (without_schedule, 1)])
def test_a_checkpoint_that_forgets_something_breaks_the_equality(
    uninterrupted: list,
    make_network: MakeNetwork,
    data: ResidentImages,
    recipe: Recipe,
    forget: Callable[[Checkpoint], Checkpoint],
    num_equal: int,
) -> None:
    checkpoint = forget(uninterrupted[1][1])
    epochs = train(make_network(), data, recipe, seed=7, resume=checkpoint)
    equal = [
        facts(f) == expected for f, (expected, _) in zip(epochs, uninterrupted[2:], strict=True)
    ]
    assert equal == num_equal * [True] + (3 - num_equal) * [False]


RESUME_IN_A_NEW_PROCESS = """
import pickle, sys
from pathlib import Path
import torch
sys.path[:0] = [sys.argv[2], str(Path(sys.argv[2]).parent)]
from conftest import SmallNetwork
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.loop import train
torch.set_num_threads(1)
folder = Path(sys.argv[1])
data, recipe = pickle.loads((folder / "data").read_bytes())
checkpoint = Checkpoint.from_bytes((folder / "checkpoint").read_bytes())
epochs = train(SmallNetwork(3, 4, auxiliary=False), data, recipe, seed=7, resume=checkpoint)
weights = [
    {k: v.numpy().tobytes() for k, v in f.network.state_dict().items()} for f in epochs
]
(folder / "weights").write_bytes(pickle.dumps(weights))
"""


def test_a_new_process_goes_on_with_the_same_bits(
    uninterrupted: list, data: ResidentImages, recipe: Recipe, tmp_path: Path
) -> None:
    (tmp_path / "data").write_bytes(pickle.dumps((data, recipe)))
    (tmp_path / "checkpoint").write_bytes(uninterrupted[1][1].to_bytes())
    script = [sys.executable, "-c", RESUME_IN_A_NEW_PROCESS]
    subprocess.run([*script, str(tmp_path), str(Path(__file__).parent)], check=True)
    weights = pickle.loads((tmp_path / "weights").read_bytes())
    assert weights == [facts[0] for facts, _ in uninterrupted[2:]]


def test_a_checkpoint_stays_as_it_is_when_training_goes_on(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    epochs = train(make_network(), data, recipe, seed=7)
    next(epochs)
    checkpoint = Checkpoint.capture(next(epochs))
    before = checkpoint.to_bytes()
    next(epochs)
    assert checkpoint.to_bytes() == before
    assert checkpoint.epoch == 1


def test_a_checkpoint_of_a_later_epoch_is_refused(
    uninterrupted: list, make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    shorter = dataclasses.replace(recipe, num_epochs=3)
    with pytest.raises(ValueError, match=r"must be of an epoch in 0\.\.3, got 4"):
        train(make_network(), data, shorter, seed=7, resume=uninterrupted[4][1])


def test_any_flipped_bit_is_found(uninterrupted: list) -> None:
    good = uninterrupted[1][1].to_bytes()
    for position in range(0, len(good), 97):
        bad = bytearray(good)
        bad[position] ^= 1
        with pytest.raises(DamagedFileError):
            Checkpoint.from_bytes(bytes(bad))


@pytest.mark.parametrize("cut", [0, 5, 17, 30, 49, 500, -1])
def test_a_cut_checkpoint_is_found(uninterrupted: list, cut: int) -> None:
    with pytest.raises(DamagedFileError, match="a checkpoint"):
        Checkpoint.from_bytes(uninterrupted[1][1].to_bytes()[:cut])


def test_a_checkpoint_runs_no_code_of_its_author(uninterrupted: list, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "touched",)

    evil = dataclasses.replace(uninterrupted[0][1], scheduler={"last_epoch": Evil()})
    with pytest.raises(DamagedFileError):
        Checkpoint.from_bytes(evil.to_bytes())
    assert not (tmp_path / "touched").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_checkpoint_of_a_gpu_is_on_the_cpu(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe
) -> None:
    parts = {
        name: dataclasses.replace(part, images=part.images.cuda(), labels=part.labels.cuda())
        for name, part in (("train", data.train), ("valid", data.valid), ("test", data.test))
    }
    data = dataclasses.replace(data, **parts, mean=data.mean.cuda(), std=data.std.cuda())
    epochs = train(make_network(), data, recipe, seed=7)
    next(epochs)
    checkpoint = Checkpoint.capture(next(epochs))
    momenta = [state["momentum_buffer"] for state in checkpoint.optimizer["state"].values()]
    tensors = [*checkpoint.network.values(), *momenta]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


def test_tensors_without_elements_keep_their_types() -> None:
    """They all lie at address 0."""
    network = {"none": torch.empty(0), "no numbers": torch.empty(0, dtype=torch.int64)}
    again = Checkpoint.from_bytes(Checkpoint(1, network, {}, {}).to_bytes())
    assert [tensor.dtype for tensor in again.network.values()] == [torch.float32, torch.int64]
