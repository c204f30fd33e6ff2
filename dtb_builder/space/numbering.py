"""Number all genotypes from 0 to NUM_GENOTYPES - 1."""

import math
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import GenotypeError
from dtb_builder.space.cell import NUM_EDGES, NUM_NODES, OPERATIONS, Edge
from dtb_builder.space.genotype import Genotype

__all__ = [
    "NUM_CELLS",
    "NUM_GENOTYPES",
    "genotype_of",
    "node_choices",
    "number_of",
    "numbers_of",
]

NUM_CELLS = math.prod(math.comb(2 + node, 2) for node in range(NUM_NODES)) * (
    len(OPERATIONS) ** NUM_EDGES
)
"""The number of cells: 180 wirings with 7 operations on each of 8 edges."""

NUM_GENOTYPES = NUM_CELLS**2
"""The number of genotypes, about 1.08e18; all spellings of a genotype count once."""

_SOURCES = 1 + NUM_NODES
"""The number of nodes that may be a predecessor."""


def number_of(genotype: Genotype) -> int:
    """The number of a genotype, which is the same for all its spellings.

    >>> number_of(genotype_of(2026))
    2026
    """
    return _cell_number(genotype.normal) * NUM_CELLS + _cell_number(genotype.reduce)


def genotype_of(number: int) -> Genotype:
    """The genotype with a number, in canonical spelling.

    Raises:
        GenotypeError: the number is out of range.
    """
    if not 0 <= number < NUM_GENOTYPES:
        raise GenotypeError(f"wanted a number from 0 to {NUM_GENOTYPES - 1}, got {number}")
    return Genotype(_cell(number // NUM_CELLS), _cell(number % NUM_CELLS))


def numbers_of(arrays: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers of many genotypes, shape (genotypes,).

    Args:
        arrays: `Genotype.to_array` of each, uint8, shape (genotypes, 2, 8, 2).

    Raises:
        GenotypeError: an array is not a genotype's.
    """
    if arrays.shape[1:] != (2, NUM_EDGES, 2) or arrays.dtype != np.uint8:
        raise GenotypeError(f"wanted uint8 of shape (any, 2, 8, 2), got {arrays.shape}")
    if (arrays >= np.array([len(OPERATIONS), _SOURCES], np.uint8)).any():
        raise GenotypeError("wanted operations below 7 and predecessors below 5, got a larger one")
    numbers = np.zeros(len(arrays), np.int64)
    for cell in (0, 1):
        for node in reversed(range(NUM_NODES)):
            first, second = arrays[:, cell, 2 * node], arrays[:, cell, 2 * node + 1]
            choices = _choice_table(node)[first[:, 0], first[:, 1], second[:, 0], second[:, 1]]
            if (choices < 0).any():
                raise GenotypeError(f"node {2 + node} of a cell has no such pair of predecessors")
            numbers *= _num_choices(node)
            numbers += choices
    return numbers


@cache
def node_choices() -> tuple[tuple[tuple[Edge, Edge], ...], ...]:
    """For each inner node, all pairs of edges that may feed it, lower predecessor first.

    A cell's number has a digit for each node, the index of its pair; the first node's is the
    lowest.
    """
    return tuple(
        tuple(
            (Edge(lower, i), Edge(higher, j))
            for higher in OPERATIONS
            for lower in OPERATIONS
            for i, j in combinations(range(2 + node), 2)
        )
        for node in range(NUM_NODES)
    )


def _cell_number(edges: tuple[Edge, ...]) -> int:
    number = 0
    for i, num_choices, choices in _digits():
        number = number * num_choices + choices[edges[i : i + 2]]
    return number


@cache
def _digits() -> tuple[tuple[int, int, dict[tuple[Edge, ...], int]], ...]:
    """For each node, from the last: its first edge, its number of pairs, and the index of each."""
    nodes = reversed(range(NUM_NODES))
    return tuple((2 * node, _num_choices(node), _choices(node)) for node in nodes)


def _cell(number: int) -> tuple[Edge, ...]:
    edges: list[Edge] = []
    for node in range(NUM_NODES):
        number, choice = divmod(number, _num_choices(node))
        edges += node_choices()[node][choice]
    return tuple(edges)


def _num_choices(node: int) -> int:
    return math.comb(2 + node, 2) * len(OPERATIONS) ** 2


def _choices(node: int) -> dict[tuple[Edge, ...], int]:
    """The digit of each pair of edges, in both orders."""
    pairs = node_choices()[node]
    return {pair: choice for choice, one in enumerate(pairs) for pair in (one, one[::-1])}


@cache
def _choice_table(node: int) -> NDArray[np.int16]:
    """The digits by operation and predecessor of both edges; -1 where there is no such pair."""
    table = np.full((len(OPERATIONS), _SOURCES) * 2, -1, np.int16)
    for (first, second), choice in _choices(node).items():
        place = OPERATIONS.index(first.operation), first.predecessor
        table[*place, OPERATIONS.index(second.operation), second.predecessor] = choice
    return table
