"""Batches are augmented exactly as one image at a time would be."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from recipes import RECIPES

from dtb_builder.network.kernels import Library, find_library
from dtb_builder.training import Recipe
from dtb_builder.training.augmentation import (
    augment,
    augment_compiled,
    crop_and_flip,
    cut_out,
    mix,
    normalise,
)
from dtb_builder.training.draws import Mixup, draw_epoch
from dtb_builder.training.resident import LabelledImages, ResidentImages

MEAN, STD = torch.tensor([0.49, 0.48, 0.44]), torch.tensor([0.25, 0.24, 0.26])


@dataclasses.dataclass
class Batch:
    pixels: np.ndarray
    rng: np.random.Generator


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = [draw(st.integers(1, 7)) for _ in range(4)]
    return Batch(rng.integers(0, 256, shape).astype(np.uint8), rng)


@given(batches(), st.integers(0, 4))
def test_crops_and_flips_are_those_of_single_images(batch: Batch, padding: int) -> None:
    num_images, _, height, width = batch.pixels.shape
    corners = batch.rng.integers(0, 2 * padding + 1, (num_images, 2))
    flips = batch.rng.random(num_images) < 0.5
    expected = []
    for pixels, (row, column), flip in zip(batch.pixels, corners, flips, strict=True):
        padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding)))
        crop = padded[:, row : row + height, column : column + width]
        expected.append(crop[:, :, ::-1] if flip else crop)

    crops = crop_and_flip(
        torch.tensor(batch.pixels), torch.tensor(corners), torch.tensor(flips), padding=padding
    )

    assert np.array_equal(crops.numpy(), np.stack(expected))


@given(batches(), st.integers(0, 9))
def test_cutouts_are_those_of_single_images(batch: Batch, length: int) -> None:
    num_images, _, height, width = batch.pixels.shape
    centres = batch.rng.integers(0, (height, width), (num_images, 2))
    images = batch.pixels.astype(np.float32) + 1
    expected = images.copy()
    for image, (y, x) in zip(expected, centres, strict=True):
        top, left = y - length // 2, x - length // 2
        image[:, max(top, 0) : max(top + length, 0), max(left, 0) : max(left + length, 0)] = 0

    cut = cut_out(torch.tensor(images), torch.tensor(centres), length=length)

    assert np.array_equal(cut.numpy(), expected)


def test_an_even_cutout_reaches_half_its_length_to_both_sides_of_its_centre() -> None:
    cut = cut_out(torch.ones(1, 1, 8, 8), torch.tensor([[4, 1]]), length=4)
    assert torch.nonzero(cut[0, 0] == 0).unique(dim=0)[[0, -1]].tolist() == [[2, 0], [5, 2]]


@given(batches())
def test_normalised_pixels_are_those_of_numpy(batch: Batch) -> None:
    num_channels = batch.pixels.shape[1]
    mean, std = batch.rng.random(num_channels), 0.1 + batch.rng.random(num_channels)
    expected = (batch.pixels / 255 - mean[:, None, None]) / std[:, None, None]
    floats = normalise(
        torch.tensor(batch.pixels), mean=torch.tensor(mean).float(), std=torch.tensor(std).float()
    )
    assert floats.dtype == torch.float32
    np.testing.assert_allclose(floats.numpy(), expected, atol=1e-5)


def test_mixed_images_lie_between_an_image_and_its_partner() -> None:
    images = torch.randn(3, 2, 4, 4)
    mixed = mix(images, Mixup(partners=torch.tensor([2, 0, 1]), share=0.75))
    torch.testing.assert_close(mixed[1], 0.75 * images[1] + 0.25 * images[0])


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_augmented_images_are_floats_of_the_same_shape(recipe: Recipe) -> None:
    pixels = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    for draws in draw_epoch(50, recipe, size=(32, 32), rng=np.random.default_rng(0)):
        batch = augment(pixels[draws.indices], draws, recipe, mean=MEAN, std=STD)
        assert batch.dtype == torch.float32
        assert batch.shape == (len(draws.indices), 3, 32, 32)


def test_a_recipe_without_augmentation_only_normalises() -> None:
    recipe = dataclasses.replace(RECIPES["smoke"], crop_padding=0)
    pixels = torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8)
    draws = next(draw_epoch(50, recipe, size=(8, 8), rng=np.random.default_rng(0)))
    batch = augment(pixels, draws, recipe, mean=MEAN, std=STD)
    assert torch.equal(batch, normalise(pixels, mean=MEAN, std=STD))


def test_steps_are_taken_in_the_order_of_the_reference() -> None:
    recipe = RECIPES["nb301"]
    pixels = torch.randint(0, 256, (50, 3, 32, 32), dtype=torch.uint8)
    draws = next(draw_epoch(50, recipe, size=(32, 32), rng=np.random.default_rng(0)))
    assert draws.mixup is not None
    expected = crop_and_flip(pixels, draws.corners, draws.flips, padding=4)
    expected = cut_out(normalise(expected, mean=MEAN, std=STD), draws.centres, length=16)
    expected = mix(expected, draws.mixup)
    assert torch.equal(augment(pixels, draws, recipe, mean=MEAN, std=STD), expected)


@given(
    batches(),
    st.integers(0, 4),
    st.integers(0, 9),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
)
def test_a_compiled_batch_has_the_same_bits(
    batch: Batch, padding: int, length: int, flip: bool, alpha: float
) -> None:
    kernels = find_library()
    if not isinstance(kernels, Library):
        pytest.skip("the package was installed without a C++ compiler")
    recipe = dataclasses.replace(
        RECIPES["smoke"],
        batch_size=3,
        crop_padding=padding,
        cutout_length=length,
        horizontal_flip=flip,
        mixup_alpha=alpha,
    )
    num_images, channels, *size = batch.pixels.shape
    pool = torch.tensor(batch.pixels)
    mean = torch.tensor(batch.rng.random(channels)).float()
    std = torch.tensor(0.1 + batch.rng.random(channels)).float()
    part = LabelledImages(pool, torch.zeros(num_images, dtype=torch.int64))
    levels = ResidentImages(part, part, part, mean, std).levels
    height, width = size
    for draws in draw_epoch(num_images, recipe, size=(height, width), rng=batch.rng):
        expected = augment(pool[draws.indices], draws, recipe, mean=mean, std=std)
        compiled = augment_compiled(kernels, pool, draws, recipe, levels=levels)
        assert compiled.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(compiled, expected)
