"""A cell of NAS-Bench-101, as a value; needs no torch.

Source: Ying et al., NAS-Bench-101: Towards Reproducible Neural Architecture Search, ICML 2019,
and the description of its networks in google-research/nasbench.
"""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["MAX_VERTICES", "OPERATIONS_101", "Cell101"]

OPERATIONS_101 = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
"""The operations of an inner vertex, as the published table names them."""

MAX_VERTICES = 7
_MAX_EDGES = 9


@dataclass(frozen=True)
class Cell101:
    """A cell: a directed graph whose first vertex is its input and whose last is its output.

    Vertices that are on no path from input to output are removed, since they do not matter.

    Attributes:
        edges: (from, to) pairs of vertices, ascending, with from < to.
        operations: the names of the operations of the vertices between input and output.

    Raises:
        ValueError: NAS-Bench-101 has no such cell.
    """

    edges: tuple[tuple[int, int], ...]
    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        last = len(self.operations) + 1
        unknown = set(self.operations) - set(OPERATIONS_101)
        if unknown:
            raise ValueError(f"operations must be of {OPERATIONS_101}, got {sorted(unknown)}")
        if not all(0 <= start < end <= last for start, end in self.edges):
            raise ValueError(f"edges must go from a vertex of 0..{last} to a later one")
        useful = _reached(self.edges, 0) & _reached([(j, i) for i, j in self.edges], last)
        if last not in useful:
            raise ValueError("a cell must have a path from its input to its output")
        number = {vertex: i for i, vertex in enumerate(sorted(useful))}
        edges = {(number[i], number[j]) for i, j in self.edges if {i, j} <= useful}
        if len(useful) > MAX_VERTICES or len(edges) > _MAX_EDGES:
            raise ValueError(
                f"a cell has at most {MAX_VERTICES} vertices and {_MAX_EDGES} edges, "
                f"got {len(useful)} and {len(edges)}"
            )
        operations = tuple(self.operations[i - 1] for i in sorted(useful - {0, last}))
        object.__setattr__(self, "edges", tuple(sorted(edges)))
        object.__setattr__(self, "operations", operations)

    @classmethod
    def from_matrix(cls, matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> "Cell101":
        """The cell of an upper-triangular adjacency matrix, shape (vertices, vertices).

        Args:
            matrix: 1 for an edge from the row's vertex to the column's.
            operations: the operations of the vertices between the first and the last.

        Raises:
            ValueError: the shapes differ, or NAS-Bench-101 has no such cell.
        """
        num_vertices = len(operations) + 2
        if [len(row) for row in matrix] != [num_vertices] * num_vertices:
            raise ValueError(
                f"the matrix of {len(operations)} operations must have shape "
                f"({num_vertices}, {num_vertices})"
            )
        edges = tuple((i, j) for i, row in enumerate(matrix) for j, one in enumerate(row) if one)
        return cls(edges, tuple(operations))

    @property
    def output(self) -> int:
        """The number of the last vertex."""
        return len(self.operations) + 1

    def predecessors(self, vertex: int) -> tuple[int, ...]:
        """The vertices that a vertex reads, ascending."""
        return tuple(start for start, end in self.edges if end == vertex)

    def channels(self, channels_out: int) -> dict[int, int]:
        """The number of channels of each inner vertex.

        The channels of the output are divided among the vertices that it reads, and the first ones
        get the remainder. Any other vertex has as many channels as the largest vertex that reads
        it.
        """
        read = [vertex for vertex in self.predecessors(self.output) if vertex]
        share, rest = divmod(channels_out, len(read)) if read else (0, 0)
        channels = {vertex: share + (i < rest) for i, vertex in enumerate(read)}
        for vertex in range(self.output - 1, 0, -1):
            if vertex not in channels:
                channels[vertex] = max(
                    channels[end] for start, end in self.edges if start == vertex
                )
        return channels


def _reached(edges: Sequence[tuple[int, int]], start: int) -> set[int]:
    """The vertices that can be reached from a vertex."""
    reached, waiting = set[int](), [start]
    while waiting:
        vertex = waiting.pop()
        if vertex not in reached:
            reached.add(vertex)
            waiting.extend(end for begin, end in edges if begin == vertex)
    return reached
