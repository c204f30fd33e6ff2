"""What is recorded does the same: it reads each batch anew, and gives way where it must."""

import dataclasses
import logging
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from dtb_builder.training import Recipe
from dtb_builder.training.draws import draw_epoch
from dtb_builder.training.recorded import Recorded, Recorder
from dtb_builder.training.resident import LabelledImages, ResidentImages
from dtb_builder.training.step import train_on_batch

MakeNetwork = Callable[..., nn.Module]
Function = Callable[[], Tensor]


def trained(
    network: nn.Module, data: ResidentImages, recipe: Recipe, record: Recorder | None
) -> tuple[list[Tensor], list[Tensor]]:
    """The totals of an epoch's steps, and the weights after it."""
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9)
    step = partial(train_on_batch, network, data, recipe, optimizer)
    chosen = step if record is None else Recorded(step, record)
    torch.manual_seed(0)
    draws = draw_epoch(len(data.train), recipe, size=(8, 8), rng=np.random.default_rng(0))
    totals = [chosen(batch).clone() for batch in draws]
    return totals, [value.clone() for value in network.state_dict().values()]


def recorder(recorded: list[Function]) -> Recorder:
    """As a CUDA graph does: nothing happens when it is recorded, all of it when it is replayed."""

    def record(function: Function) -> Function:
        recorded.append(function)
        return function

    return record


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.3])
def test_an_epoch_of_replays_is_an_epoch(
    make_network: MakeNetwork, data: ResidentImages, recipe: Recipe, mixup_alpha: float
) -> None:
    recipe = dataclasses.replace(recipe, mixup_alpha=mixup_alpha)
    recorded: list[Function] = []
    totals, weights = trained(make_network(), data, recipe, recorder(recorded))
    expected_totals, expected_weights = trained(make_network(), data, recipe, None)
    assert len(recorded) == 1
    assert all(map(torch.equal, totals + weights, expected_totals + expected_weights))


def test_a_replay_reads_the_images_of_its_own_batch(data: ResidentImages) -> None:
    def classified(batch: LabelledImages) -> Tensor:
        return torch.stack([batch.images.double().sum(), batch.labels.double().sum()])

    recorded: list[Function] = []
    replayed = Recorded(classified, recorder(recorded))
    pairs = zip(data.train.images.split(16), data.train.labels.split(16), strict=True)
    batches = [LabelledImages(*pair) for pair in pairs]
    assert [len(batch) for batch in batches] == [16, 16, 16, 2]
    assert all(torch.equal(replayed(batch), classified(batch)) for batch in batches)
    assert len(recorded) == 1


def test_where_recording_fails_every_batch_is_trained_on_as_usual(
    make_network: MakeNetwork,
    data: ResidentImages,
    recipe: Recipe,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_function: Function) -> Function:
        raise RuntimeError("operation not permitted when stream is capturing")

    with caplog.at_level(logging.WARNING):
        totals, weights = trained(make_network(), data, recipe, refuse)
    expected_totals, expected_weights = trained(make_network(), data, recipe, None)
    assert all(map(torch.equal, totals + weights, expected_totals + expected_weights))
    (warning,) = caplog.records
    assert warning.message.startswith("recording failed, so training is slower: operation not")
