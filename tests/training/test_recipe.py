"""Recipes hold only what can be trained."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import RECIPES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_epochs", 0),
        ("num_epochs", 2.0),
        ("batch_size", 1),
        ("batch_size", True),
        ("learning_rate", 0.0),
        ("learning_rate", math.nan),
        ("min_learning_rate", -1e-3),
        ("min_learning_rate", 1.0),
        ("momentum", 1.0),
        ("nesterov", 1),
        ("weight_decay", math.inf),
        ("gradient_clip", 0.0),
        ("gradient_clip", math.nan),
        ("auxiliary_weight", -0.4),
        ("drop_path_probability", 1.0),
        ("drop_path_ramp", "false"),
        ("crop_padding", -1),
        ("horizontal_flip", "no"),
        ("cutout_length", -2),
        ("mixup_alpha", math.nan),
        ("precision", "float16"),
        ("evaluate_epochs", (-1,)),
        ("evaluate_epochs", (601,)),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}.*got") as caught:
        dataclasses.replace(RECIPES["darts"], **{name: value})
    assert str(value) in str(caught.value)


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum > 0, got 0"):
        dataclasses.replace(RECIPES["darts"], nesterov=True, momentum=0.0)


def test_the_gradient_may_be_left_unclipped() -> None:
    assert dataclasses.replace(RECIPES["darts"], gradient_clip=None).gradient_clip is None


@given(st.integers(1, 600))
def test_a_ramped_drop_path_starts_at_zero_and_stays_below_its_probability(epoch: int) -> None:
    recipe = RECIPES["darts"]
    assert recipe.drop_path_at(epoch) == pytest.approx(0.2 * (epoch - 1) / 600)
    assert 0 <= recipe.drop_path_at(epoch) < 0.2


def test_a_drop_path_that_is_not_ramped_is_constant() -> None:
    assert {RECIPES["nb301"].drop_path_at(epoch) for epoch in range(1, 101)} == {0.2}
