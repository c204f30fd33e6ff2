import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.scores import ProbeImages, choose_probe

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 1, 3, 3), np.uint8)
ALL = np.arange(40)


@given(st.integers(0, 2**32), st.integers(2, 40))
def test_a_probe_is_drawn_from_the_candidates_without_repetition(seed: int, size: int) -> None:
    probe = choose_probe(IMAGES, ALL, size, seed=seed)
    assert len(probe) == len(set(probe.indices.tolist())) == size
    assert np.array_equal(probe.pixels, IMAGES[probe.indices])


def test_an_image_that_repeats_another_is_passed_over() -> None:
    doubled = np.concatenate([IMAGES[:5], IMAGES[:5]])
    probe = choose_probe(doubled, np.arange(10), 5, seed=3)
    assert len(np.unique(probe.pixels, axis=0)) == 5
    with pytest.raises(ValueError, match="wanted 6 different images, got 5 among 10"):
        choose_probe(doubled, np.arange(10), 6, seed=3)


def test_only_candidates_are_drawn() -> None:
    probe = choose_probe(IMAGES, np.array([3, 30, 7]), 3, seed=0)
    assert sorted(probe.indices.tolist()) == [3, 7, 30]


def test_a_smaller_probe_begins_a_larger_one() -> None:
    small, large = (choose_probe(IMAGES, ALL, size, seed=1).indices for size in (4, 9))
    assert np.array_equal(small, large[:4])


def test_draws_do_not_drift() -> None:
    probe = choose_probe(IMAGES, ALL, 4, seed=0)
    assert probe.indices.tolist() == [11, 3, 20, 13]
    assert probe.sha256[:16] == "10c8a61306a7e418"


def test_the_hash_is_of_pixels_in_their_order_and_shape() -> None:
    probe = ProbeImages(IMAGES[:4], ALL[:4])
    same = ProbeImages(np.asfortranarray(IMAGES[:4]), ALL[10:14])
    assert same.sha256 == probe.sha256
    assert ProbeImages(IMAGES[3::-1], ALL[:4]).sha256 != probe.sha256
    assert ProbeImages(IMAGES[:4].reshape(4, 1, 9, 1), ALL[:4]).sha256 != probe.sha256


def test_images_are_normalised_by_channel() -> None:
    pixels = np.stack([np.zeros((2, 2, 2), np.uint8), np.full((2, 2, 2), 255, np.uint8)])
    probe = ProbeImages(pixels, np.array([0, 1]))
    values = probe.normalised(np.array([0.0, 0.5]), np.array([1.0, 0.25]))
    assert values.dtype == np.float32
    assert values[:, :, 0, 0].tolist() == [[0, -2], [1, 2]]


def test_equal_images_are_refused() -> None:
    with pytest.raises(ValueError, match="must all differ, got 4 different ones in 5"):
        ProbeImages(IMAGES[[0, 1, 2, 3, 1]], ALL[:5])


def test_other_types_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="probe pixels must be uint8 of shape"):
        ProbeImages(IMAGES.astype(np.float32), ALL)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="at least 2 images, got uint8 of shape \\(1,"):
        ProbeImages(IMAGES[:1], ALL[:1])
    with pytest.raises(ValueError, match=r"probe indices must be int64 of shape \(40,\)"):
        ProbeImages(IMAGES, ALL[:3])
    with pytest.raises(ValueError, match="num_images must be at least 2, got 1"):
        choose_probe(IMAGES, ALL, 1, seed=0)


def test_the_first_images_of_a_probe_are_those_of_a_smaller_one() -> None:
    images = np.random.default_rng(0).integers(0, 255, (50, 1, 2, 2), dtype=np.uint8)
    many, few = (choose_probe(images, np.arange(50), number, seed=3) for number in (20, 7))
    assert many.first(7).sha256 == few.sha256
    assert many.first(7).indices.tolist() == few.indices.tolist()
