"""A cell of the DARTS space: its eight edges, their checks, and its canonical spelling."""

import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dtb_builder.errors import GenotypeError

__all__ = [
    "NUM_EDGES",
    "NUM_NODES",
    "OPERATIONS",
    "Edge",
    "canonical_cell",
    "checked_cell",
    "relabelled_cells",
    "shown",
]

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations of an edge, in the order of the DARTS repository, without ``none``."""

NUM_NODES = 4
"""Intermediate nodes of a cell: nodes 2, 3, 4 and 5."""

NUM_EDGES = 2 * NUM_NODES
"""Edges of a cell: two for each intermediate node."""


class Edge(NamedTuple):
    """An operation on one of a node's two predecessors.

    Attributes:
        operation: one of OPERATIONS.
        predecessor: the node that it reads: 0 is the cell before the previous one (``c_{k-2}``), 1
            the previous cell (``c_{k-1}``), 2 to 4 are earlier intermediate nodes.
    """

    operation: str
    predecessor: int


def checked_cell(pairs: object, name: str) -> tuple[Edge, ...]:
    """The pairs as the edges of a cell; edges ``2i`` and ``2i + 1`` feed node ``i + 2``.

    They may stand node by node, as pt.darts has them: four lists of two pairs.

    Raises:
        GenotypeError: they are not a cell of the space; the message has ``name``.
    """
    if isinstance(pairs, str) or not isinstance(pairs, Sequence):
        raise GenotypeError(
            f"{name} cell: wanted a sequence of {NUM_EDGES} (operation, predecessor) pairs, "
            f"got {shown(pairs)}"
        )
    pairs = _flattened(pairs)
    if len(pairs) != NUM_EDGES:
        raise GenotypeError(
            f"{name} cell: wanted {NUM_EDGES} edges, two for each of the nodes 2 to 5, "
            f"got {len(pairs)}; cells of NASNet, AmoebaNet and ENAS are outside the DARTS space"
        )
    edges = tuple(
        _checked_edge(pair, 2 + i // 2, f"{name} cell, node {2 + i // 2}, edge {i}")
        for i, pair in enumerate(pairs)
    )
    for i in range(0, NUM_EDGES, 2):
        if edges[i].predecessor == edges[i + 1].predecessor:
            raise GenotypeError(
                f"{name} cell, node {2 + i // 2}, edges {i} and {i + 1}: wanted two different "
                f"predecessors, got {edges[i].predecessor} twice"
            )
    return edges


def canonical_cell(edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """The cell with the two edges of every node sorted by predecessor."""
    return tuple(
        edge
        for i in range(0, NUM_EDGES, 2)
        for edge in sorted(edges[i : i + 2], key=lambda edge: edge.predecessor)
    )


def relabelled_cells(edges: tuple[Edge, ...]) -> Iterator[tuple[Edge, ...]]:
    """The cell with its intermediate nodes renumbered in every order that puts predecessors first.

    All are in canonical spelling; some may be equal.
    """
    needs = [{edge.predecessor - 2 for edge in edges[i : i + 2]} for i in range(0, NUM_EDGES, 2)]
    orders: list[tuple[int, ...]] = [()]
    for _ in range(NUM_NODES):
        orders = [
            (*order, node)
            for order in orders
            for node in range(NUM_NODES)
            if node not in order and needs[node] <= {-2, -1, *order}
        ]
    for order in orders:
        label = [0, 1, *(2 + order.index(node) for node in range(NUM_NODES))]
        yield canonical_cell(
            tuple(
                Edge(operation, label[predecessor])
                for node in order
                for operation, predecessor in edges[2 * node : 2 * node + 2]
            )
        )


def shown(value: object) -> str:
    """A short text of any value, for error messages."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _flattened(pairs: Sequence[object]) -> Sequence[object]:
    """The pairs as a flat list, if they are grouped in a list for each node."""
    nodes = [
        node
        for node in pairs
        if isinstance(node, list | tuple) and len(node) == 2 and isinstance(node[0], list | tuple)
    ]
    return [pair for node in nodes for pair in node] if len(nodes) == len(pairs) else pairs


def _checked_edge(pair: object, node: int, where: str) -> Edge:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise GenotypeError(f"{where}: wanted an (operation, predecessor) pair, got {shown(pair)}")
    operation, predecessor = pair
    if not isinstance(operation, str) or operation not in OPERATIONS:
        explained = (
            " ('none' is an operation of the search only; a finished genotype does not have it)"
            if isinstance(operation, str) and operation == "none"
            else ""
        )
        raise GenotypeError(
            f"{where}: wanted one of the operations {', '.join(OPERATIONS)}, "
            f"got {shown(operation)}{explained}"
        )
    try:
        if isinstance(predecessor, bool):
            raise TypeError("a bool is not a node")
        number = operator.index(predecessor)
    except TypeError:
        raise GenotypeError(
            f"{where}: wanted an int as predecessor, got {shown(predecessor)}"
        ) from None
    if not 0 <= number < node:
        raise GenotypeError(
            f"{where}: wanted a predecessor from 0 to {node - 1}, got {shown(number)}"
        )
    return Edge(str(operation), number)
