"""Networks of NAS-Bench-101, for comparing scores with a published table of accuracies.

Source: Ying et al., NAS-Bench-101: Towards Reproducible Neural Architecture Search, ICML 2019,
and the description of its networks in google-research/nasbench.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["OPERATIONS_101", "Cell101", "Network101"]

OPERATIONS_101 = ("conv1x1-bn-relu", "conv3x3-bn-relu", "maxpool3x3")
"""The operations of an inner vertex, as the published table names them."""

_MAX_VERTICES = 7
_MAX_EDGES = 9
_NUM_STACKS = 3
_CELLS_PER_STACK = 3


@dataclass(frozen=True)
class Cell101:
    """A cell: a directed graph whose first vertex is its input and whose last is its output.

    Vertices on no path from input to output are left out, for they compute nothing.

    Attributes:
        edges: (from, to) pairs of vertices, ascending, with from < to.
        operations: those of the vertices between input and output, by name.

    Raises:
        ValueError: this is no cell of NAS-Bench-101.
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
        if len(useful) > _MAX_VERTICES or len(edges) > _MAX_EDGES:
            raise ValueError(
                f"a cell has at most {_MAX_VERTICES} vertices and {_MAX_EDGES} edges, "
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
            operations: of the vertices between the first and the last.
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
        """How many channels each inner vertex has.

        Those that the output reads share its channels, the first ones taking what is left over;
        any other has as many as the largest vertex that reads it.
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


class Network101(nn.Module):
    """A stem, three stacks of three cells with the maps halved between stacks, a classifier."""

    def __init__(self, cell: Cell101, *, channels: int = 128, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(3, channels, 3)]
        channels_in = channels
        for i in range(_NUM_STACKS):
            if i:
                layers.append(nn.MaxPool2d(2))
                channels *= 2
            for _ in range(_CELLS_PER_STACK):
                layers.append(_CellModule(cell, channels_in, channels))
                channels_in = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of shape (images, num_classes), for images of shape (images, 3, size, size)."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class _CellModule(nn.Module):
    def __init__(self, cell: Cell101, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self._cell = cell
        self._channels = cell.channels(channels_out)
        self.operations = nn.ModuleList(
            _operation(name, self._channels[vertex])
            for vertex, name in enumerate(cell.operations, start=1)
        )
        widths = {**self._channels, cell.output: channels_out}
        self.projections = nn.ModuleDict(
            {str(end): _convolution(channels_in, widths[end], 1) for i, end in cell.edges if i == 0}
        )

    def forward(self, maps: Tensor) -> Tensor:
        values: dict[int, Tensor] = {}
        for vertex, operation in enumerate(self.operations, start=1):
            width = self._channels[vertex]
            inner = [values[i][:, :width] for i in self._cell.predecessors(vertex) if i]
            values[vertex] = operation(self._with_input(inner, maps, vertex))
        output = self._cell.output
        read = [values[i] for i in self._cell.predecessors(output) if i]
        joined = [torch.cat(read, dim=1)] if read else []
        return self._with_input(joined, maps, output)

    def _with_input(self, terms: list[Tensor], maps: Tensor, vertex: int) -> Tensor:
        """The sum of terms and, if the vertex reads it, of the cell's input in its width."""
        name = str(vertex)
        if name in self.projections:
            terms = [self.projections[name](maps), *terms]
        return functools.reduce(torch.add, terms)


def _operation(name: str, channels: int) -> nn.Module:
    match name:
        case "conv1x1-bn-relu":
            return _convolution(channels, channels, 1)
        case "conv3x3-bn-relu":
            return _convolution(channels, channels, 3)
    return nn.MaxPool2d(3, stride=1, padding=1)


def _convolution(channels_in: int, channels_out: int, kernel_size: int) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


def _reached(edges: Sequence[tuple[int, int]], start: int) -> set[int]:
    """The vertices on a path that begins at one."""
    reached, waiting = set[int](), [start]
    while waiting:
        vertex = waiting.pop()
        if vertex not in reached:
            reached.add(vertex)
            waiting.extend(end for begin, end in edges if begin == vertex)
    return reached
