import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dtb_builder.scores import (
    Atoms,
    Scale,
    das,
    linear,
    log_rank,
    rank_sum,
    shipped_references,
    z_sum,
)

MANY = st.lists(
    st.tuples(st.floats(-200, -80), st.integers(1, 10**7)), min_size=2, max_size=30
).map(lambda pairs: atoms([d for d, _ in pairs], [a for _, a in pairs]))


def atoms(abilities: list[float], units: list[int], num_images: int = 128) -> Atoms:
    return Atoms(np.array(abilities), np.array(units), num_images)


@given(MANY)
def test_linear_with_weight_one_is_wot_by_image(given: Atoms) -> None:
    wot = given.abilities + given.num_images * np.log(given.units)
    assert linear(given, 1) == pytest.approx(wot / given.num_images)


@given(MANY)
def test_linear_with_weight_zero_is_the_ability(given: Atoms) -> None:
    assert np.array_equal(linear(given, 0), given.abilities / given.num_images)


@given(MANY)
def test_the_z_sum_of_a_population_with_its_own_moments_has_the_mean_zero(given: Atoms) -> None:
    assume(given.abilities.std() > 1e-3 and np.log(given.units).std() > 1e-3)
    assert z_sum(given, Scale.of(given)).mean() == pytest.approx(0, abs=1e-6)


@given(MANY)
def test_ranks_ignore_any_rescaling(given: Atoms) -> None:
    rescaled = Atoms(given.abilities * 0.5 - 3, given.units * 7, given.num_images)
    assume(len(set(rescaled.abilities)) == len(set(given.abilities)))
    for rule in (rank_sum, log_rank):
        assert np.array_equal(rule(rescaled), rule(given))


@pytest.mark.parametrize(
    "rule", [lambda a: linear(a, 0.3), rank_sum, log_rank, lambda a: z_sum(a, Scale.of(a))]
)
def test_more_of_both_atoms_is_a_higher_score(
    rule: Callable[[Atoms], NDArray[np.float64]],
) -> None:
    scores = rule(atoms([-150, -140, -130], [10, 100, 1000]))
    assert scores[0] < scores[1] < scores[2]


def test_rules_by_hand() -> None:
    three = atoms([-256, -128, -128], [100, 10, 1000])
    assert rank_sum(three) == pytest.approx([1 + 2, 2.5 + 1, 2.5 + 3])
    assert log_rank(three) == pytest.approx([math.log(2), math.log(2.5), math.log(7.5)])
    assert linear(three, 2) == pytest.approx(
        [-2 + 2 * math.log(100), -1 + 2 * math.log(10), -1 + 2 * math.log(1000)]
    )
    moments = Scale(
        ability_mean=-1, ability_deviation=0.5, units_mean=math.log(10), units_deviation=2
    )
    assert z_sum(three, moments) == pytest.approx([-2 + math.log(10) / 2, 0, math.log(100) / 2])


def test_das_of_the_reference_itself_has_the_mean_zero_and_does_not_depend_on_its_company() -> None:
    reference = shipped_references()["quickstart"]
    sample = Atoms(
        np.array(reference.abilities), np.array(reference.activation_units), reference.num_images
    )
    scores = das(sample, reference)
    assert scores.mean() == pytest.approx(0, abs=1e-9)
    alone = das(atoms([reference.abilities[3]], [reference.activation_units[3]]), reference)
    assert alone[0] == scores[3]


def test_das_needs_a_reference_of_as_many_images() -> None:
    reference = shipped_references()["quickstart"]
    with pytest.raises(
        ValueError, match="scores on 64 images need a reference on as many images, got"
    ):
        das(atoms([-1, -2], [3, 4], num_images=64), reference)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(
        ValueError, match="must be finite: leave out networks with singular kernels"
    ):
        atoms([-1, float("-inf")], [1, 1])
    with pytest.raises(ValueError, match="units must be at least 1, got 0"):
        atoms([-1, -2], [0, 1])
    with pytest.raises(ValueError, match=r"got \(2,\) and \(1,\)"):
        atoms([-1, -2], [1])
    with pytest.raises(ValueError, match="num_images must be at least 2, got 1"):
        atoms([-1], [1], num_images=1)
    with pytest.raises(ValueError, match="deviations must be above 0"):
        Scale.of(atoms([-1, -1], [1, 2]))
    with pytest.raises(ValueError, match="means and deviations must be finite"):
        Scale(float("nan"), 1, 0, 1)
