from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, Genotype, sample_uniform
from dtb_builder.space.encoding import (
    NUM_PATHS,
    adjacency_one_hot,
    compact,
    from_adjacency_one_hot,
    from_compact,
    from_graph,
    graph,
    path_encoding,
    paths,
    paths_of,
)

genotypes = st.integers(0, 2**32).map(lambda seed: sample_uniform(seed, 0))
DARTS_V2 = NAMED["DARTS_V2"]


@given(genotypes)
def test_an_encoding_and_its_inverse_give_the_genotype(genotype: Genotype) -> None:
    assert from_adjacency_one_hot(*adjacency_one_hot(genotype)) == genotype
    assert str(from_compact(compact(genotype))) == str(genotype)
    assert str(from_graph(graph(genotype).edges)) == str(genotype)
    assert paths_of(path_encoding(genotype)) == paths(genotype)


def test_spellings_have_one_adjacency_and_one_path_encoding() -> None:
    for one, other in zip(
        adjacency_one_hot(DARTS_V2), adjacency_one_hot(DARTS_V2.canonical()), strict=True
    ):
        assert np.array_equal(one, other)
    assert np.array_equal(path_encoding(DARTS_V2), path_encoding(DARTS_V2.canonical()))


def test_paths_stand_where_naslib_has_them() -> None:
    """As its ``encode_paths`` has them once its loop goes over all eight edges."""
    there = [3, 4, 46, 2805, 2847, 5603, 5624, 8404, 8425]
    assert np.flatnonzero(path_encoding(DARTS_V2)).tolist() == there
    assert NUM_PATHS == 11204


ADJACENCY, OPERATIONS = adjacency_one_hot(DARTS_V2)
EDGES = graph(DARTS_V2).edges


@pytest.mark.parametrize(
    ("decode", "arguments"),
    [
        (from_adjacency_one_hot, (ADJACENCY[:1], OPERATIONS)),
        (from_adjacency_one_hot, (ADJACENCY.T, OPERATIONS)),
        (from_adjacency_one_hot, (2 * ADJACENCY, OPERATIONS)),
        (from_adjacency_one_hot, (0 * ADJACENCY, OPERATIONS)),
        (from_adjacency_one_hot, (ADJACENCY, 0 * OPERATIONS)),
        (from_compact, ([[(0, 3)]],)),
        (from_compact, ([[(0, 3), (1,)]],)),
        (from_compact, (3,)),
        (from_compact, ([[(1, 9), (0, 0)] * 4] * 2,)),
        (from_graph, (EDGES[1:],)),
        (from_graph, (EDGES[:-1],)),
        (from_graph, ([*EDGES, (0, 13, "concatenation")],)),
        (from_graph, ([*EDGES, EDGES[-1]],)),
    ],
)
def test_what_encodes_no_genotype_is_refused(decode: Any, arguments: tuple) -> None:
    with pytest.raises(GenotypeError):
        decode(*arguments)


def test_an_encoding_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a path encoding of 11204 numbers"):
        paths_of([1, 0])
