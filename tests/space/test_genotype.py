import hashlib
import itertools
import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.errors import GenotypeError
from dtb_builder.space import NAMED, OPERATIONS, Edge, Genotype, sample_uniform
from dtb_builder.space.cell import checked_cell, relabelled_cells
from dtb_builder.space.numbering import NUM_CELLS, NUM_GENOTYPES

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


@st.composite
def cells(draw: st.DrawFn) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    for node in range(2, 6):
        predecessors = draw(st.permutations(range(node)))[:2]
        edges += [Edge(draw(st.sampled_from(OPERATIONS)), node) for node in predecessors]
    return tuple(edges)


genotypes = st.builds(Genotype, cells(), cells())


def respelled(genotype: Genotype, swaps: tuple[bool, ...]) -> Genotype:
    """The genotype with the edges of those of its eight nodes swapped."""
    edges = [*genotype.normal, *genotype.reduce]
    for node, swap in enumerate(swaps):
        if swap:
            i = 2 * node
            edges[i], edges[i + 1] = edges[i + 1], edges[i]
    return Genotype(tuple(edges[:8]), tuple(edges[8:]))


def build(normal: Any, reduce: Any = NAMED["DARTS_V2"].reduce) -> Genotype:
    return Genotype(normal, reduce)


# --- laws ---


@given(genotypes)
def test_parsing_the_text_gives_the_same_spelling(genotype: Genotype) -> None:
    again = Genotype.parse(str(genotype))

    assert (again.normal, again.reduce) == (genotype.normal, genotype.reduce)


@given(genotypes)
def test_the_array_gives_the_same_spelling(genotype: Genotype) -> None:
    array = genotype.to_array()
    again = Genotype.from_array(array)

    assert (array.shape, array.dtype) == ((2, 8, 2), np.uint8)
    assert (again.normal, again.reduce) == (genotype.normal, genotype.reduce)


@given(genotypes, st.tuples(*[st.booleans()] * 8))
def test_every_spelling_is_the_same_genotype(genotype: Genotype, swaps: tuple[bool, ...]) -> None:
    other = respelled(genotype, swaps)

    assert other == genotype
    assert hash(other) == hash(genotype)
    assert other.key == genotype.key
    assert other.iso_key == genotype.iso_key
    assert str(other.canonical()) == str(genotype.canonical())
    assert (str(other) == str(genotype)) is not any(swaps)


@given(genotypes)
def test_the_canonical_spelling_sorts_every_pair_by_predecessor(genotype: Genotype) -> None:
    canonical = genotype.canonical()

    for cell in (canonical.normal, canonical.reduce):
        assert all(cell[i].predecessor < cell[i + 1].predecessor for i in range(0, 8, 2))
    assert str(canonical.canonical()) == str(canonical)


@given(genotypes, genotypes)
def test_keys_are_equal_just_when_the_genotypes_are(one: Genotype, other: Genotype) -> None:
    assert (one.key == other.key) is (one == other)


@given(genotypes, st.integers(0, 1), st.integers(0, 7), st.integers(1, 6))
def test_a_single_other_operation_gives_another_key(
    genotype: Genotype, cell: int, i: int, step: int
) -> None:
    array = genotype.to_array()
    array[cell, i, 0] = (array[cell, i, 0] + step) % 7
    other = Genotype.from_array(array)

    assert other != genotype
    assert other.key != genotype.key


@given(genotypes)
def test_the_key_is_the_sha256_of_the_canonical_text(genotype: Genotype) -> None:
    assert genotype.key == hashlib.sha256(str(genotype.canonical()).encode("ascii")).hexdigest()


@given(genotypes, st.data())
def test_renumbering_the_nodes_of_each_cell_keeps_the_iso_key(
    genotype: Genotype, data: st.DataObject
) -> None:
    normal = data.draw(st.sampled_from(list(relabelled_cells(genotype.normal))))
    reduce = data.draw(st.sampled_from(list(relabelled_cells(genotype.reduce))))

    assert Genotype(normal, reduce).iso_key == genotype.iso_key


@given(genotypes)
def test_the_iso_key_is_the_key_of_one_of_the_class(genotype: Genotype) -> None:
    keys = {
        Genotype(normal, reduce).key
        for normal in relabelled_cells(genotype.normal)
        for reduce in relabelled_cells(genotype.reduce)
    }

    assert genotype.key in keys
    assert genotype.iso_key in keys


@given(genotypes)
def test_another_count_of_an_operation_gives_another_iso_key(genotype: Genotype) -> None:
    array = genotype.to_array()
    array[0, 0, 0] = (array[0, 0, 0] + 1) % 7

    assert Genotype.from_array(array).iso_key != genotype.iso_key


@given(genotypes)
def test_a_genotype_survives_pickling(genotype: Genotype) -> None:
    assert str(pickle.loads(pickle.dumps(genotype))) == str(genotype)


# --- counts ---


def wirings() -> list[tuple[tuple[int, int], ...]]:
    """The predecessor pairs of nodes 2 to 5, in every way."""
    return list(
        itertools.product(*[itertools.combinations(range(node), 2) for node in range(2, 6)])
    )


def cell_of(wiring: tuple[tuple[int, int], ...], operations: tuple[str, ...]) -> tuple[Edge, ...]:
    predecessors = itertools.chain(*wiring)
    return tuple(map(Edge, operations, predecessors))


def num_classes(num_operations: int) -> int:
    """Cells up to renumbering their nodes, counted by Burnside's lemma.

    All 4! renumberings act on the acyclic wirings whose nodes stand in no order; each leaves
    unchanged as many cells as it lets operations be chosen, one for every cycle of edges.
    """
    pairs = [list(itertools.combinations([0, 1, *others], 2)) for others in
             ([3, 4, 5], [2, 4, 5], [2, 3, 5], [2, 3, 4])]  # fmt: skip
    graphs = []
    for choice in itertools.product(*pairs):
        done, waiting = {0, 1}, {2, 3, 4, 5}
        while ready := {node for node in waiting if done.issuperset(choice[node - 2])}:
            done |= ready
            waiting -= ready
        if not waiting:
            graphs.append({(a, node) for node in range(2, 6) for a in choice[node - 2]})
    num_fixed = 0
    for order in itertools.permutations(range(2, 6)):
        label = [0, 1, *order]
        for graph in graphs:
            step = {(a, b): (label[a], label[b]) for a, b in graph}
            if set(step.values()) == graph:
                num_cycles, rest = 0, set(graph)
                while rest:
                    num_cycles += 1
                    edge = next(iter(rest))
                    while edge in rest:
                        rest.remove(edge)
                        edge = step[edge]
                num_fixed += num_operations**num_cycles
    return num_fixed // math.factorial(4)


def test_a_cell_has_180_wirings_and_the_space_1e18_genotypes() -> None:
    assert len(set(wirings())) == 180
    assert NUM_CELLS == 1_037_664_180
    assert NUM_GENOTYPES == 1_076_746_950_455_072_400


def test_the_iso_key_of_cells_of_one_operation_has_as_many_values_as_there_are_classes() -> None:
    reduce = NAMED["DARTS_V2"].reduce
    keys = {
        Genotype(cell_of(wiring, ("skip_connect",) * 8), reduce).iso_key for wiring in wirings()
    }

    assert len(keys) == num_classes(1)


def test_cells_of_two_operations_fall_into_as_many_classes_as_burnside_counts() -> None:
    smallest = Counter(
        min(relabelled_cells(cell_of(wiring, operations)))
        for wiring in wirings()
        for operations in itertools.product(("skip_connect", "sep_conv_3x3"), repeat=8)
    )

    assert smallest.total() == 180 * 2**8
    assert len(smallest) == num_classes(2)


def test_cells_of_seven_operations_have_the_known_number_of_classes() -> None:
    assert num_classes(7) == 382_128_166


# --- examples ---


def test_the_published_text_comes_back_as_it_was() -> None:
    assert str(Genotype.parse(DARTS_V2)) == DARTS_V2


def test_keys_do_not_drift() -> None:
    genotype = Genotype.parse(DARTS_V2)

    assert genotype.key == "74c3ae1b21286f8000c2f4c69b01ff22167b529c24f9ce231ede282fc1505b25"
    assert genotype.iso_key == "54397275ea293b582a496d9807a5625a3c4f48a922c7a27925fefe78c08d0ed0"


def test_two_nodes_that_swap_places_are_isomorphic_but_not_equal() -> None:
    cell = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 1)]
    rest = [("max_pool_3x3", 0), ("avg_pool_3x3", 2), ("max_pool_3x3", 0), ("avg_pool_3x3", 3)]
    turned = [("max_pool_3x3", 0), ("avg_pool_3x3", 3), ("max_pool_3x3", 0), ("avg_pool_3x3", 2)]
    wrong = [("max_pool_3x3", 0), ("avg_pool_3x3", 3), ("max_pool_3x3", 0), ("avg_pool_3x3", 3)]
    one = build(cell + rest)

    assert one != build([*cell[2:], *cell[:2], *turned])
    assert one.iso_key == build([*cell[2:], *cell[:2], *turned]).iso_key
    assert one.iso_key != build([*cell[2:], *cell[:2], *wrong]).iso_key


def test_the_cells_are_not_interchangeable() -> None:
    genotype = NAMED["DARTS_V2"]
    turned = Genotype(genotype.reduce, genotype.normal)

    assert turned != genotype
    assert turned.iso_key != genotype.iso_key


def test_a_genotype_is_no_text() -> None:
    assert NAMED["DARTS_V2"] != DARTS_V2


def test_lists_of_lists_and_numpy_ints_become_edges_of_plain_values() -> None:
    genotype = build([[np.str_(edge.operation), np.int64(edge.predecessor)]
                      for edge in NAMED["DARTS_V2"].normal])  # fmt: skip

    assert str(genotype) == DARTS_V2


def test_a_genotype_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        NAMED["DARTS_V2"].normal = ()  # pyright: ignore[reportAttributeAccessIssue]


GOOD = list(NAMED["DARTS_V2"].normal)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            [("sep_conv_7x7", 0), *GOOD[1:]],
            (
                "normal cell, node 2, edge 0: wanted one of the operations max_pool_3x3, "
                "avg_pool_3x3, skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, "
                "dil_conv_5x5, got 'sep_conv_7x7'"
            ),
        ),
        (
            [*GOOD[:4], ("none", 0), *GOOD[5:]],
            (
                "normal cell, node 4, edge 4: wanted one of the operations max_pool_3x3, "
                "avg_pool_3x3, skip_connect, sep_conv_3x3, sep_conv_5x5, dil_conv_3x3, "
                "dil_conv_5x5, got 'none' ('none' is an operation of the search only; a finished "
                "genotype does not have it)"
            ),
        ),
        (
            [*GOOD[:3], ("skip_connect", 3), *GOOD[4:]],
            "normal cell, node 3, edge 3: wanted a predecessor from 0 to 2, got 3",
        ),
        (
            [("skip_connect", -1), *GOOD[1:]],
            "normal cell, node 2, edge 0: wanted a predecessor from 0 to 1, got -1",
        ),
        (
            [*GOOD[:6], ("skip_connect", 2), ("sep_conv_3x3", 2)],
            "normal cell, node 5, edges 6 and 7: wanted two different predecessors, got 2 twice",
        ),
        (
            [*GOOD, *GOOD[:2]],
            (
                "normal cell: wanted 8 edges, two for each of the nodes 2 to 5, got 10; "
                "cells of NASNet, AmoebaNet and ENAS are outside the DARTS space"
            ),
        ),
        (
            [("skip_connect", 1.0), *GOOD[1:]],
            "normal cell, node 2, edge 0: wanted an int as predecessor, got 1.0",
        ),
        (
            [("skip_connect", True), *GOOD[1:]],
            "normal cell, node 2, edge 0: wanted an int as predecessor, got True",
        ),
        (
            [("skip_connect", 10**5000), *GOOD[1:]],
            "normal cell, node 2, edge 0: wanted a predecessor from 0 to 1, got a huge int",
        ),
        (
            ["skip_connect", *GOOD[1:]],
            (
                "normal cell, node 2, edge 0: wanted an (operation, predecessor) pair, "
                "got 'skip_connect'"
            ),
        ),
        (
            [("skip_connect", 0, 0), *GOOD[1:]],
            (
                "normal cell, node 2, edge 0: wanted an (operation, predecessor) pair, "
                "got ('skip_connect', 0, 0)"
            ),
        ),
        (
            "skip_connect",
            (
                "normal cell: wanted a sequence of 8 (operation, predecessor) pairs, "
                "got 'skip_connect'"
            ),
        ),
        (None, "normal cell: wanted a sequence of 8 (operation, predecessor) pairs, got None"),
    ],
)
def test_a_cell_outside_the_space_is_refused_with_what_was_wanted_what_came_and_where(
    cell: Any, message: str
) -> None:
    with pytest.raises(GenotypeError) as caught:
        build(cell)

    assert str(caught.value) == message


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(GenotypeError, match=r"got 'xxx.*\.\.\. \(1000002 characters\)$"):
        build([("x" * 10**6, 0), *GOOD[1:]])


def test_an_operation_that_is_no_text_is_refused() -> None:
    with pytest.raises(GenotypeError, match=r"got array\(\[1, 2\]\)$"):
        build([(np.array([1, 2]), 0), *GOOD[1:]])


def test_a_fault_of_the_reduction_cell_is_said_to_be_there() -> None:
    with pytest.raises(GenotypeError, match=r"^reduce cell, node 2, edge 1: .* got 2$"):
        build(GOOD, [GOOD[0], ("skip_connect", 2), *GOOD[2:]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 2)), "wanted an integer array of shape (2, 8, 2), got float64 of shape"),
        (np.zeros((8, 2), int), "wanted an integer array of shape (2, 8, 2), got int64 of shape"),
        (np.zeros((2, 8, 2), bool), "wanted an integer array of shape (2, 8, 2), got bool of"),
        ([[0, 1], [2]], "wanted an array of genotypes: "),
        ([[0, 1]], "wanted an integer array of shape (2, 8, 2), got int64 of shape (1, 2)"),
        (np.zeros((2, 8, 2), int), "normal cell, node 2, edges 0 and 1: wanted two different"),
        (np.full((2, 8, 2), 7), "normal cell, node 2, edge 0: wanted an operation from 0 to 6"),
        (np.full((2, 8, 2), -1), "normal cell, node 2, edge 0: wanted an operation from 0 to 6"),
        (np.full((2, 8, 2), 6), "normal cell, node 2, edge 0: wanted a predecessor from 0 to 1"),
    ],
)
def test_an_array_outside_the_space_is_refused(array: Any, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        Genotype.from_array(array)

    assert str(caught.value).startswith(message)


def test_the_array_holds_operations_by_their_number_and_the_normal_cell_first() -> None:
    array = NAMED["DARTS_V2"].to_array()

    assert array[0].tolist() == [[3, 0], [3, 1], [3, 0], [3, 1], [3, 1], [2, 0], [2, 0], [5, 2]]
    assert array[1].tolist() == [[0, 0], [0, 1], [2, 2], [0, 1], [0, 0], [2, 2], [2, 2], [0, 1]]


def test_the_check_of_a_cell_is_the_identity_on_cells() -> None:
    cell = sample_uniform(0, 0).normal

    assert checked_cell(cell, "normal") == cell
