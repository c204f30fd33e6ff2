"""On a GPU, too, a training has the same bits again, and after a resume."""

import dataclasses
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from dtb_builder.images import Images, Split
from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import find_library
from dtb_builder.network.network import Network
from dtb_builder.space import sample_uniform
from dtb_builder.training import Recipe, evaluation, loop
from dtb_builder.training.evaluation import EVALUATION_BATCH, evaluate
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.loop import train, train_in_turns
from dtb_builder.training.resident import LabelledImages, ResidentImages, make_resident
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.setup import set_up_torch
from dtb_builder.training.turns import on_own_stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(autouse=True)
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_up_torch(threads=1, deterministic=True)
    yield
    set_up_torch(threads=1, deterministic=False)


@pytest.fixture
def on_gpu(images: Images) -> ResidentImages:
    return make_resident(images, Split(train=np.arange(50), valid=np.arange(50, 60)), "cuda")


def make_network(index: int, *, kernels: bool = True) -> Network:
    torch.manual_seed(0)
    spec = NetworkSpec(channels=8, layers=3, num_classes=4, image_size=8, auxiliary=False)
    network = spec.build(sample_uniform(seed=7, index=index))
    network.use_kernels(find_library("cuda") if kernels else None)
    return network


def facts(finished: FinishedEpoch) -> list[bytes]:
    """The bits of weights, of batch norms' statistics and of losses and accuracies."""
    state = finished.network.state_dict()
    metrics = {k: v for k, v in finished.metrics.items() if not k.endswith("seconds")}
    return [*(value.cpu().numpy().tobytes() for value in state.values()), repr(metrics).encode()]


@pytest.mark.parametrize("index", [0, 3])
def test_the_same_training_has_the_same_bits_also_after_a_resume(
    index: int, on_gpu: ResidentImages, recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    epochs = train(make_network(index), on_gpu, recipe, seed=7)
    with caplog.at_level(logging.WARNING):
        expected = [(facts(finished), Checkpoint.capture(finished)) for finished in epochs]
    assert not caplog.records, "every step could be recorded"
    again = [facts(finished) for finished in train(make_network(index), on_gpu, recipe, seed=7)]
    assert again == [bits for bits, _ in expected]
    resumed = train(make_network(index), on_gpu, recipe, seed=7, resume=expected[2][1])
    assert [facts(finished) for finished in resumed] == again[3:]


def test_runs_on_streams_of_their_own_have_the_bits_that_each_has_alone(
    on_gpu: ResidentImages, recipe: Recipe
) -> None:
    alone = [
        [facts(finished) for finished in train(make_network(index), on_gpu, recipe, seed=index)]
        for index in (0, 3)
    ]
    runs = {
        index: on_own_stream(train_in_turns(make_network(index), on_gpu, recipe, seed=index))
        for index in (0, 3)
    }
    together: dict[int, list[list[bytes]]] = {index: [] for index in runs}
    while runs:
        for index, turns in list(runs.items()):
            try:
                turn = next(turns)
            except StopIteration:
                del runs[index]
                continue
            if turn is not None:
                together[index].append(facts(turn))
    assert list(together.values()) == alone


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.3])
def test_replayed_steps_have_the_bits_of_steps_one_by_one(
    mixup_alpha: float,
    on_gpu: ResidentImages,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = dataclasses.replace(recipe, mixup_alpha=mixup_alpha)
    replayed = [facts(finished) for finished in train(make_network(0), on_gpu, recipe, seed=7)]
    monkeypatch.setattr(loop, "Recorded", lambda function, _record: function)
    monkeypatch.setattr(evaluation, "Recorded", lambda function, _record: function)
    assert [facts(finished) for finished in train(make_network(0), on_gpu, recipe, seed=7)] == (
        replayed
    )


def test_a_training_by_passes_goes_as_one_by_modules(
    on_gpu: ResidentImages, recipe: Recipe
) -> None:
    recipe = dataclasses.replace(recipe, num_epochs=1)
    losses = [
        list(train(make_network(0, kernels=kernels), on_gpu, recipe, seed=7))[-1].metrics
        for kernels in (True, False)
    ]
    assert losses[0]["train_loss"] == pytest.approx(losses[1]["train_loss"], rel=1e-3)


def test_an_evaluation_by_replays_has_the_bits_of_one_batch_by_batch(
    on_gpu: ResidentImages, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    num_images = 3 * EVALUATION_BATCH + 5
    part = LabelledImages(
        torch.tensor(rng.integers(0, 256, (num_images, 3, 8, 8), np.uint8), device="cuda"),
        torch.tensor(rng.integers(0, 4, num_images), device="cuda"),
    )
    network = make_network(0).cuda()
    with caplog.at_level(logging.WARNING):
        replayed = evaluate(network, part, on_gpu)
    assert not caplog.records, "batches could be recorded"
    monkeypatch.setattr(evaluation, "Recorded", lambda function, _record: function)
    assert evaluate(network, part, on_gpu) == replayed
