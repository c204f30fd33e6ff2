"""The edit distance of two cells."""

from itertools import permutations

from dtb_builder.space.cell import NUM_NODES, Edge

__all__ = ["num_edits"]


def num_edits(cell: tuple[Edge, ...], other: tuple[Edge, ...]) -> int:
    """The smallest number of operations and predecessors that change one cell into the other.

    The numbering of the inner nodes and the order of a node's two edges do not matter. It is a
    metric; isomorphic cells have the distance 0.
    """
    return min(
        _edits(cell, other, (0, 1, *order)) for order in permutations(range(2, 2 + NUM_NODES))
    )


def _edits(cell: tuple[Edge, ...], other: tuple[Edge, ...], label: tuple[int, ...]) -> int:
    """The number of edits if node i of the cell corresponds to node label[i] of the other."""
    total = 0
    for node in range(2, 2 + NUM_NODES):
        first, second = (
            (name, label[source]) for name, source in cell[2 * node - 4 : 2 * node - 2]
        )
        one, two = other[2 * label[node] - 4 : 2 * label[node] - 2]
        straight = _differ(first, one) + _differ(second, two)
        total += min(straight, _differ(first, two) + _differ(second, one))
    return total


def _differ(edge: tuple[str, int], other: tuple[str, int]) -> int:
    return (edge[0] != other[0]) + (edge[1] != other[1])
