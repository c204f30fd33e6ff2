"""Trainings alone, and in turns in one process: what each comes to."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import AnyLibrary
from dtb_builder.space import sample_uniform
from dtb_builder.training import Recipe
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.loop import train, train_in_turns
from dtb_builder.training.resident import ResidentImages

__all__ = ["alone_and_together", "facts", "together"]

SPEC = NetworkSpec(channels=4, layers=1, num_classes=4, image_size=8)


def facts(finished: FinishedEpoch) -> list[Any]:
    """All that an epoch has made, but how long it took."""
    metrics = {k: v for k, v in finished.metrics.items() if not k.endswith("seconds")}
    values = [value.numpy().tobytes() for value in finished.network.state_dict().values()]
    return [metrics, *values]


def together(trainings: list[Iterable[FinishedEpoch | None]]) -> list[list[list[Any]]]:
    """The facts of the epochs of each; a caller who draws numbers of its own stands between."""
    found: list[list[list[Any]]] = [[] for _ in trainings]
    left = dict(enumerate(map(iter, trainings)))
    while left:
        for i, turns in list(left.items()):
            try:
                turn = next(turns)
            except StopIteration:
                del left[i]
                continue
            torch.rand(3)
            if turn is not None:
                found[i].append(facts(turn))
    return found


def _network(index: int, library: AnyLibrary | None) -> nn.Module:
    torch.manual_seed(index)
    network = SPEC.build(sample_uniform(seed=7, index=index))
    network.use_kernels(library)
    return network


def alone_and_together(
    library: AnyLibrary | None, data: ResidentImages, recipe: Recipe, indices: Sequence[int]
) -> tuple[list[Any], list[Any]]:
    """The facts of some genotypes' epochs, trained one after another and in turns."""

    def trained(function: Callable[..., Any], index: int) -> Any:
        return function(_network(index, library), data, recipe, seed=5 + index % 2)

    alone = [list(map(facts, trained(train, index))) for index in indices]
    return alone, together([trained(train_in_turns, index) for index in indices])
