"""Genotypes by chance: drawn from the whole space, or one change away from another."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product
from typing import TypeVar

import numpy as np

from dtb_builder.space.cell import NUM_EDGES, NUM_NODES, OPERATIONS, Edge
from dtb_builder.space.genotype import Genotype

__all__ = ["NUM_CELLS", "NUM_GENOTYPES", "mutate", "sample_uniform", "uniform_text"]

T = TypeVar("T")

NUM_CELLS = math.prod(math.comb(2 + node, 2) for node in range(NUM_NODES)) * (
    len(OPERATIONS) ** NUM_EDGES
)
"""How many cells there are: 180 wirings with 7 operations on each of 8 edges."""

NUM_GENOTYPES = NUM_CELLS**2
"""How many genotypes there are, all spellings of one counted once: about 1.08e18."""


def sample_uniform(seed: int, index: int) -> Genotype:
    """Draw number ``index`` of the sequence ``seed``: every genotype is equally likely.

    It depends on the two numbers alone, so any number of workers draws the same genotypes.

    Returns:
        The genotype in canonical spelling.

    Raises:
        ValueError: ``seed`` or ``index`` is negative.

    >>> sample_uniform(0, 7) == sample_uniform(0, 7)
    True
    """
    normal, reduce = _drawn_cells(seed, index)
    return Genotype(_cell(normal), _cell(reduce))


def uniform_text(seed: int, index: int) -> str:
    """The text of ``sample_uniform(seed, index)``, without making it: for plans of a million.

    >>> uniform_text(0, 7) == str(sample_uniform(0, 7))
    True
    """
    normal, reduce = (_cell_text(number) for number in _drawn_cells(seed, index))
    return (
        f"Genotype(normal=[{normal}], normal_concat=[2, 3, 4, 5], "
        f"reduce=[{reduce}], reduce_concat=[2, 3, 4, 5])"
    )


def mutate(parent: Genotype, seed: int, index: int) -> Genotype:
    """Change one operation or, equally likely, one predecessor of a random edge to another.

    The edges of node 2 keep their predecessors, for it has no others to choose from. The child
    does not depend on the parent's spelling.

    Returns:
        A genotype other than the parent, in canonical spelling.

    Raises:
        ValueError: ``seed`` or ``index`` is negative.
    """
    _check_not_negative(seed, index)
    rng = np.random.default_rng([seed, index, 1])  # not the stream that sample_uniform draws from
    canonical = parent.canonical()
    cells = [list(canonical.normal), list(canonical.reduce)]
    cell = cells[rng.integers(2)]
    if rng.integers(2):
        i = rng.integers(NUM_EDGES)
        others = [operation for operation in OPERATIONS if operation != cell[i].operation]
        cell[i] = cell[i]._replace(operation=others[rng.integers(len(others))])
    else:
        i = rng.integers(2, NUM_EDGES)
        taken = {cell[i].predecessor, cell[i ^ 1].predecessor}
        free = [node for node in range(2 + i // 2) if node not in taken]
        cell[i] = cell[i]._replace(predecessor=free[rng.integers(len(free))])
    return Genotype(tuple(cells[0]), tuple(cells[1])).canonical()


def _drawn_cells(seed: int, index: int) -> tuple[int, int]:
    """The numbers of the two cells of a draw."""
    _check_not_negative(seed, index)
    return divmod(int(np.random.default_rng([seed, index]).integers(NUM_GENOTYPES)), NUM_CELLS)


def _cell(number: int) -> tuple[Edge, ...]:
    """The cell of that number below NUM_CELLS."""
    return tuple(edge for edges in _nodes(number, _node_edges()) for edge in edges)


def _cell_text(number: int) -> str:
    return ", ".join(_nodes(number, _node_texts()))


def _nodes(number: int, choices: Sequence[Sequence[T]]) -> Iterator[T]:
    """What a number chooses at each node: its digits, from the last."""
    for node in choices:
        number, choice = divmod(number, len(node))
        yield node[choice]


@cache
def _node_edges() -> tuple[tuple[tuple[Edge, Edge], ...], ...]:
    """For each node, every choice of its two edges; a wiring is the last digit of its number."""
    return tuple(
        tuple(
            (Edge(first, pair[0]), Edge(second, pair[1]))
            for second, first, pair in product(
                OPERATIONS, OPERATIONS, tuple(combinations(range(node), 2))
            )
        )
        for node in range(2, 2 + NUM_NODES)
    )


@cache
def _node_texts() -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(", ".join(str(tuple(edge)) for edge in edges) for edges in node)
        for node in _node_edges()
    )


def _check_not_negative(seed: int, index: int) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got seed {seed}, index {index}")
