"""Trainings that take turns in one process have the bits that each has alone."""

import dataclasses
from collections.abc import Callable

import pytest
from torch import nn
from training.in_turns import alone_and_together, facts, together

from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels import find_library
from dtb_builder.training import Recipe
from dtb_builder.training.loop import train, train_in_turns
from dtb_builder.training.resident import ResidentImages
from dtb_builder.training.resume import Checkpoint

built = pytest.mark.skipif(passes_file() is None, reason="installed without a C++ compiler")


@pytest.mark.parametrize("passes", [False, pytest.param(True, marks=built)])
def test_runs_of_different_genotypes_do_not_change_one_anothers_bits(
    passes: bool, data: ResidentImages, recipe: Recipe
) -> None:
    recipe = dataclasses.replace(recipe, num_epochs=2)
    library = find_library() if passes else None
    alone, in_turns = alone_and_together(library, data, recipe, [0, 3, 8])
    assert in_turns == alone


def test_a_run_joins_and_resumes_beside_another(
    data: ResidentImages, recipe: Recipe, make_network: Callable[..., nn.Module]
) -> None:
    first = train(make_network(), data, recipe, seed=1)
    checkpoints = [Checkpoint.capture(finished) for finished in first]
    alone = [list(map(facts, train(make_network(), data, recipe, seed=seed))) for seed in (1, 2)]
    resumed = train_in_turns(make_network(9), data, recipe, seed=1, resume=checkpoints[2])
    other = train_in_turns(make_network(), data, recipe, seed=2)
    next(turn for turn in other if turn is not None)
    assert together([resumed, other]) == [alone[0][3:], alone[1][1:]]
