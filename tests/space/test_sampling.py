from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.space import NAMED, OPERATIONS, Genotype, mutate, sample_uniform

numbers = st.integers(0, 2**64)
genotypes = st.builds(sample_uniform, numbers, numbers)


def num_changes(parent: Genotype, child: Genotype) -> tuple[int, int]:
    """How many edges of the child the parent lacks, and at how many nodes."""
    lacking = [
        len(set(after[i : i + 2]) - set(before[i : i + 2]))
        for before, after in ((parent.normal, child.normal), (parent.reduce, child.reduce))
        for i in range(0, 8, 2)
    ]
    return sum(lacking), sum(count > 0 for count in lacking)


@given(numbers, numbers)
def test_a_draw_depends_on_its_two_numbers_alone(seed: int, index: int) -> None:
    assert str(sample_uniform(seed, index)) == str(sample_uniform(seed, index))


@given(genotypes)
def test_a_draw_is_in_canonical_spelling(genotype: Genotype) -> None:
    assert str(genotype) == str(genotype.canonical())


@given(genotypes, numbers, numbers)
def test_a_child_is_one_change_away_and_in_canonical_spelling(
    parent: Genotype, seed: int, index: int
) -> None:
    child = mutate(parent, seed, index)

    assert child != parent
    assert num_changes(parent, child) == (1, 1)
    assert str(child) == str(child.canonical())


@given(numbers, numbers)
def test_a_child_does_not_depend_on_its_parents_spelling(seed: int, index: int) -> None:
    parent = NAMED["DARTS_V1"]

    assert str(mutate(parent, seed, index)) == str(mutate(parent.canonical(), seed, index))


def test_draws_do_not_drift() -> None:
    assert [sample_uniform(0, index).key[:16] for index in range(3)] == [
        "f9a0494acd2cf577",
        "e55304ec19906718",
        "d0ef3a8fe669d1e4",
    ]
    assert [mutate(NAMED["DARTS_V2"], 0, index).key[:16] for index in range(3)] == [
        "0448f5cde77d22a6",
        "83ffef50b3d73750",
        "5bc6c8b33d1885b7",
    ]


def test_different_draws_differ() -> None:
    draws = {sample_uniform(seed, index) for seed in range(10) for index in range(10)}

    assert len(draws) == 100


def chi_square(counts: Counter[object], num_values: int) -> float:
    """The statistic of a uniform distribution, less its mean, in standard deviations."""
    expected = counts.total() / num_values
    missing = num_values - len(counts)
    statistic = (
        sum((count - expected) ** 2 for count in counts.values()) / expected + missing * expected
    )
    degrees = num_values - 1
    return (statistic - degrees) / np.sqrt(2 * degrees)


def test_draws_are_uniform_over_wirings_and_operations() -> None:
    draws = [sample_uniform(1, index) for index in range(3000)]

    for cell in ("normal", "reduce"):
        edges = [getattr(draw, cell) for draw in draws]
        wirings = Counter[object](tuple(edge.predecessor for edge in cell) for cell in edges)
        assert chi_square(wirings, 180) < 4
        for i in range(8):
            assert chi_square(Counter(cell[i].operation for cell in edges), 7) < 4
            pairs = Counter[object]((cell[i].operation, cell[i - 1].operation) for cell in edges)
            assert chi_square(pairs, 49) < 4


def test_mutations_are_uniform_over_their_kinds_edges_and_values() -> None:
    parent = NAMED["DARTS_V2"].canonical()
    before = [*parent.normal, *parent.reduce]
    wired, operated = Counter[object](), Counter[object]()
    operations: set[str] = set()
    for index in range(6000):
        child = mutate(parent, 0, index)
        after = [*child.normal, *child.reduce]
        node = next(i for i in range(0, 16, 2) if before[i : i + 2] != after[i : i + 2])
        lost = set(before[node : node + 2]) - set(after[node : node + 2])
        gained = set(after[node : node + 2]) - set(before[node : node + 2])
        (old,), (new,) = lost, gained
        if old.predecessor == new.predecessor:
            operated[node, old] += 1
            operations.add(new.operation)
        else:
            wired[node, old] += 1

    assert wired.total() == pytest.approx(3000, abs=4 * np.sqrt(1500))
    assert chi_square(operated, 16) < 4
    assert chi_square(wired, 12) < 4
    assert operations == set(OPERATIONS)


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (0, -1)])
def test_a_negative_number_is_refused(seed: int, index: int) -> None:
    message = rf"^seed and index must not be negative, got seed {seed}, index {index}$"

    with pytest.raises(ValueError, match=message):
        sample_uniform(seed, index)
    with pytest.raises(ValueError, match=message):
        mutate(NAMED["PDARTS"], seed, index)
