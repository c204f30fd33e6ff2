"""An epoch's draws visit every image and stay within their ranges."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import RECIPES

from dtb_builder.training import Recipe
from dtb_builder.training.draws import BatchDraws, draw_epoch


def drawn(num_images: int, recipe: Recipe, seed: int = 0) -> list[BatchDraws]:
    rng = np.random.default_rng(seed)
    return list(draw_epoch(num_images, recipe, size=(5, 9), rng=rng))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    return dataclasses.replace(
        RECIPES["darts"],
        batch_size=draw(st.integers(2, 8)),
        crop_padding=draw(st.integers(0, 3)),
        horizontal_flip=draw(st.booleans()),
        mixup_alpha=draw(st.sampled_from([0.0, 0.2, 1.0])),
    )


@given(st.integers(2, 40), recipes(), st.integers(0, 2**32))
def test_every_image_is_seen_once_but_a_single_last_one(
    num_images: int, recipe: Recipe, seed: int
) -> None:
    batches = drawn(num_images, recipe, seed)
    seen = torch.cat([batch.indices for batch in batches]).tolist()
    single = num_images % recipe.batch_size == 1
    assert len(seen) == len(set(seen)) == num_images - single
    assert set(seen) <= set(range(num_images))
    assert all(len(batch.indices) == recipe.batch_size for batch in batches[:-1])


@given(st.integers(2, 40), recipes(), st.integers(0, 2**32))
def test_draws_stay_within_their_ranges(num_images: int, recipe: Recipe, seed: int) -> None:
    for batch in drawn(num_images, recipe, seed):
        assert ((batch.corners >= 0) & (batch.corners <= 2 * recipe.crop_padding)).all()
        assert ((batch.centres >= 0) & (batch.centres < torch.tensor([5, 9]))).all()
        assert recipe.horizontal_flip or not batch.flips.any()
        if recipe.mixup_alpha == 0:
            assert batch.mixup is None
        else:
            assert batch.mixup is not None
            assert 0 <= batch.mixup.share <= 1
            assert sorted(batch.mixup.partners.tolist()) == list(range(len(batch.indices)))


def test_every_value_of_a_range_is_drawn() -> None:
    batch = drawn(4000, dataclasses.replace(RECIPES["darts"], batch_size=4000))[0]
    assert [set(column.tolist()) for column in batch.corners.T] == [set(range(9))] * 2
    assert [set(column.tolist()) for column in batch.centres.T] == [set(range(5)), set(range(9))]
    assert batch.flips.double().mean() == pytest.approx(0.5, abs=0.03)


def test_shares_have_the_moments_of_a_beta_distribution() -> None:
    recipe = dataclasses.replace(RECIPES["nb301"], batch_size=2)
    shares = np.array([batch.mixup.share for batch in drawn(8000, recipe) if batch.mixup])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(0.25 / (2 * 0.2 + 1), abs=0.01)
