import math

import pytest
import torch
from torch import nn

from dtb_builder import errors
from dtb_builder.scores.zen import zen


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    """A convolution of 9 weights for each value, so of a deviation of about 3, and a batch norm."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8))


def test_a_network_without_batch_norms_changes_by_its_weights_times_the_step() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(50, 400))
    score = zen(linear, (64, 2, 5, 5), generator(), features="1")
    # 400 sums of 50 products of normal numbers, 0.01 as large: a norm of 0.01 sqrt(400 * 50).
    assert score == pytest.approx(math.log(0.01 * math.sqrt(400 * 50)), abs=0.03)


def test_each_batch_norm_adds_what_it_takes_away() -> None:
    before = zen(network(), (32, 1, 16, 16), generator(), features="0")
    after = zen(network(), (32, 1, 16, 16), generator(), features="1")
    # Both have the batch norm's term; the maps after it change by a third as much.
    assert before - after == pytest.approx(math.log(3), abs=0.2)
    twice = nn.Sequential(network(), nn.BatchNorm2d(8))
    score = zen(twice, (32, 1, 16, 16), generator(), features="1")
    assert score == pytest.approx(after, abs=1e-4)


def test_trained_weights_say_nothing_and_the_generator_everything() -> None:
    scored = network()
    first = zen(scored, (8, 1, 8, 8), generator(), features="1")
    nn.init.constant_(scored.get_submodule("1").get_parameter("weight"), 7.0)
    nn.init.constant_(scored.get_submodule("0").get_parameter("weight"), 7.0)
    assert zen(scored, (8, 1, 8, 8), generator(), features="1") == first
    assert zen(scored, (8, 1, 8, 8), generator(1), features="1") != first


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(errors.DivergedError, match="a Zen score must be finite, got -inf"):
        zen(nn.Sequential(nn.Conv2d(1, 1, 1), Nothing()), (2, 1, 2, 2), generator(), features="1")


class Nothing(nn.Module):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * 0
