"""Image sets are checked where they are made, and told apart by their hash."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dtb_builder.images import Images
from dtb_builder.images.image_set import channel_statistics


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("train_images", np.zeros((60, 3, 8, 8)), "train images must be uint8"),
        ("train_images", np.zeros((0, 3, 8, 8), np.uint8), "not empty"),
        ("train_labels", np.zeros(59, np.int64), r"train labels must be int64 of shape \(60,\)"),
        ("train_labels", np.zeros(60, np.int32), "got int32"),
        ("test_labels", np.full(20, 4), r"test labels must be in 0\.\.3, got 4\.\.4"),
        ("test_labels", np.full(20, -1), r"got -1\.\.-1"),
        ("test_images", np.zeros((20, 1, 8, 8), np.uint8), r"train images' shape \(3, 8, 8\)"),
        ("mean", np.zeros(1), r"mean and std must have shape \(3,\)"),
        ("mean", np.full(3, np.nan), "mean must be finite"),
        ("std", np.zeros(3), "std must be finite and > 0"),
    ],
)
def test_a_wrong_array_is_refused(images: Images, name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(images, **{name: value})


def test_equal_images_have_equal_hashes(images: Images) -> None:
    twin = dataclasses.replace(images, name="twin", train_images=images.train_images.copy())
    assert twin.sha256 == images.sha256


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
def test_one_other_value_gives_another_hash(images: Images, name: str) -> None:
    values = getattr(images, name).copy()
    values.flat[-1] = (values.flat[-1] + 1) % 4
    assert dataclasses.replace(images, **{name: values}).sha256 != images.sha256


def test_the_hash_does_not_depend_on_the_memory_layout(images: Images) -> None:
    turned = np.asfortranarray(images.train_images)
    assert dataclasses.replace(images, train_images=turned).sha256 == images.sha256


@given(arrays(np.uint8, array_shapes(min_dims=4, max_dims=4, max_side=4)))
def test_channel_statistics_are_those_of_numpy(pixels: np.ndarray) -> None:
    mean, std = channel_statistics(pixels)
    np.testing.assert_allclose(mean, (pixels / 255).mean((0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(std, (pixels / 255).std((0, 2, 3)), atol=1e-8)


@given(st.integers(0, 255))
def test_images_of_one_grey_level_have_no_deviation(level: int) -> None:
    assert channel_statistics(np.full((2, 1, 3, 3), level, np.uint8))[1] == 0


@pytest.mark.parametrize("side", [2, 4])
def test_a_pooled_pixel_is_the_rounded_mean_of_its_square(images: Images, side: int) -> None:
    pooled = images.pooled(side)
    for small, large in (
        (pooled.train_images, images.train_images),
        (pooled.test_images, images.test_images),
    ):
        squares = large.reshape(len(large), 3, 8 // side, side, 8 // side, side)
        assert np.array_equal(small, np.floor(squares.mean((3, 5)) + 0.5))
    mean, std = channel_statistics(pooled.train_images)
    assert np.array_equal(pooled.mean, mean)
    assert np.array_equal(pooled.std, std)
    assert pooled.train_labels is images.train_labels
    assert pooled.sha256 != images.sha256


@pytest.mark.parametrize("side", [1, 3])
def test_images_are_pooled_by_squares_that_fit(images: Images, side: int) -> None:
    with pytest.raises(ValueError, match=f"divide 8 x 8 pixels, got {side}"):
        images.pooled(side)
