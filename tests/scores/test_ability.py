import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dtb_builder import errors
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import (
    Agreement,
    agreement,
    distinguishing_ability,
    max_distinguishing_ability,
    mean_hamming_distance,
    wot,
)
from dtb_builder.scores.activations import network_agreement
from dtb_builder.space import sample_uniform

codes_of_any_shape = arrays(
    np.bool_, st.tuples(st.integers(2, 6), st.integers(6, 60)), elements=st.booleans()
)
SPEC = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=12)


def regular(codes: NDArray[np.bool_]) -> Agreement:
    kernel = agreement(codes)
    assume(not kernel.singular)
    return kernel


@given(codes_of_any_shape)
def test_wot_is_made_of_its_two_atoms(codes: NDArray[np.bool_]) -> None:
    kernel = regular(codes)
    atoms = distinguishing_ability(kernel) + kernel.num_images * math.log(kernel.activation_units)
    # To the error of a determinant, which grows as images come to look alike.
    error = 1e-12 + 1e-15 / kernel.smallest_eigenvalue
    assert wot(kernel) == pytest.approx(atoms, rel=1e-12, abs=100 * error)


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_wot_of_a_network_is_made_of_its_two_atoms_to_twelve_digits(index: int) -> None:
    network = SPEC.build(sample_uniform(0, index))
    kernel = network_agreement(network, torch.randn(16, 3, 12, 12))
    atoms = distinguishing_ability(kernel) + 16 * math.log(kernel.activation_units)
    assert wot(kernel) == pytest.approx(atoms, rel=1e-12)


@given(codes_of_any_shape)
def test_no_ability_is_above_its_bound(codes: NDArray[np.bool_]) -> None:
    kernel = regular(codes)
    bound = max_distinguishing_ability(kernel.num_images)
    assert distinguishing_ability(kernel) <= bound + 1e-12


@pytest.mark.parametrize("num_images", [2, 4, 6])
def test_units_of_all_balanced_patterns_reach_the_bound(num_images: int) -> None:
    patterns = np.array(list(np.ndindex(*[2] * num_images)), np.bool_)
    balanced = patterns[patterns.sum(axis=1) == num_images // 2]
    ability = distinguishing_ability(agreement(balanced.T))
    assert ability == pytest.approx(max_distinguishing_ability(num_images), abs=1e-12)


@given(codes_of_any_shape)
def test_the_order_of_images_says_nothing(codes: NDArray[np.bool_]) -> None:
    kernel = regular(codes)
    other = agreement(codes[::-1])
    error = 1e-13 / kernel.smallest_eigenvalue
    assert distinguishing_ability(other) == pytest.approx(
        distinguishing_ability(kernel), rel=1e-12, abs=error
    )
    assert mean_hamming_distance(other) == mean_hamming_distance(kernel)


@given(codes_of_any_shape)
def test_the_mean_hamming_distance_is_over_pairs_of_different_images(
    codes: NDArray[np.bool_],
) -> None:
    pairs = [(codes[i] != codes[j]).mean() for i in range(len(codes)) for j in range(i)]
    assert mean_hamming_distance(agreement(codes)) == pytest.approx(np.mean(pairs))


def test_a_probe_image_that_is_there_twice_has_no_score() -> None:
    images = torch.randn(8, 3, 12, 12)
    kernel = network_agreement(SPEC.build(sample_uniform(0, 0)), torch.cat([images, images[:1]]))
    assert kernel.singular
    for score in (wot, distinguishing_ability):
        with pytest.raises(
            errors.SingularKernelError,
            match=r"wanted 9 images that \d+ units tell apart, got",
        ):
            score(kernel)
    assert 0 < mean_hamming_distance(kernel) < 1


def test_a_kernel_by_hand() -> None:
    kernel = Agreement(np.array([[4, 1], [1, 4]]))
    assert wot(kernel) == pytest.approx(math.log(15))
    assert distinguishing_ability(kernel) == pytest.approx(math.log(15 / 16))
    assert mean_hamming_distance(kernel) == 0.75


def test_one_image_has_no_bound() -> None:
    with pytest.raises(ValueError, match="num_images must be at least 2, got 1"):
        max_distinguishing_ability(1)
