from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, NUM_GENOTYPES, Genotype, sample_uniform
from dtb_builder.space.numbering import genotype_of, number_of, numbers_of

numbers = st.integers(0, NUM_GENOTYPES - 1)


@given(numbers)
def test_a_number_is_that_of_its_genotype(number: int) -> None:
    assert number_of(genotype_of(number)) == number


@given(numbers)
def test_the_genotype_of_a_number_is_in_canonical_spelling(number: int) -> None:
    assert str(genotype_of(number)) == str(genotype_of(number).canonical())


@given(numbers, st.integers(0, 255))
def test_all_spellings_have_one_number(number: int, swaps: int) -> None:
    cells = genotype_of(number).to_array().reshape(8, 2, 2)
    for node in range(8):
        if swaps >> node & 1:
            cells[node] = cells[node, ::-1]
    respelled = Genotype.from_array(cells.reshape(2, 8, 2))
    assert number_of(respelled) == number
    assert numbers_of(respelled.to_array()[None]).tolist() == [number]


@given(st.lists(numbers))
def test_many_are_numbered_as_one(many: list[int]) -> None:
    arrays = [genotype_of(number).to_array() for number in many]
    stacked = np.array(arrays, np.uint8).reshape(-1, 2, 8, 2)
    assert numbers_of(stacked).tolist() == many


@pytest.mark.parametrize("number", [-1, NUM_GENOTYPES])
def test_there_is_no_genotype_beyond_the_last(number: int) -> None:
    with pytest.raises(GenotypeError, match=f"wanted a number from 0 to .*, got {number}"):
        genotype_of(number)


@pytest.mark.parametrize(
    ("edge", "value"),
    [((0, 0, 0), 7), ((1, 7, 1), 5), ((0, 0, 1), 2), ((0, 0, 1), 1), ((0, 3, 0), 255)],
)
def test_what_is_no_genotype_has_no_number(edge: tuple[int, ...], value: int) -> None:
    array = NAMED["DARTS_V2"].canonical().to_array()
    array[edge] = value
    with pytest.raises(GenotypeError):
        numbers_of(np.stack([sample_uniform(0, 0).to_array(), array]))


def test_numbers_are_of_bytes_in_the_shape_of_genotypes() -> None:
    wrong: tuple[Any, ...] = (np.zeros((1, 2, 8), np.uint8), np.zeros((1, 2, 8, 2), np.int64))
    for arrays in wrong:
        with pytest.raises(GenotypeError, match="wanted uint8 of shape"):
            numbers_of(arrays)
