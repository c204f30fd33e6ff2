"""Convert genotypes to encodings for predictors and graph libraries, and back."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.errors import GenotypeError
from dtb_builder.space.cell import NUM_EDGES, NUM_NODES, OPERATIONS, Edge, shown
from dtb_builder.space.genotype import Genotype

__all__ = [
    "CONCATENATION",
    "NUM_PATHS",
    "CellGraph",
    "Path",
    "adjacency_one_hot",
    "compact",
    "from_adjacency_one_hot",
    "from_compact",
    "from_graph",
    "graph",
    "path_encoding",
    "paths",
    "paths_of",
]

Compact = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]
Path = tuple[int, int, tuple[str, ...]]
"""The cell (0 is the normal cell), the cell's input, and the operations in order."""

CONCATENATION = "concatenation"
"""The operation of an edge to a cell's output in a graph."""

_CELL_NODES = NUM_NODES + 3
_OUTPUT = _CELL_NODES - 1
_FIRST_OF_LENGTH = tuple(
    accumulate((len(OPERATIONS) ** i for i in range(NUM_NODES + 1)), initial=0)
)
NUM_PATHS = 4 * _FIRST_OF_LENGTH[-1]
"""The length of a path encoding: paths of 0 to 4 operations from two inputs of two cells."""


def adjacency_one_hot(genotype: Genotype) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The adjacency matrices of both cells, and the one-hot operations of their edges.

    Returns:
        The adjacency matrices, uint8, shape (2, 7, 7): 1 where the column's node reads the row's
        node; the last node is the output. The operations, uint8, shape (2, 8, 7), one-hot in the
        order of OPERATIONS: edges 2i and 2i + 1 feed node i + 2, the lower predecessor first.

    >>> from dtb_builder.space import NAMED
    >>> adjacency, operations = adjacency_one_hot(NAMED["DARTS_V2"])
    >>> from_adjacency_one_hot(adjacency, operations) == NAMED["DARTS_V2"]
    True
    """
    array = genotype.canonical().to_array()
    adjacency = np.zeros((2, _CELL_NODES, _CELL_NODES), np.uint8)
    for cell in (0, 1):
        adjacency[cell, array[cell, :, 1], 2 + np.arange(NUM_EDGES) // 2] = 1
    adjacency[:, 2:_OUTPUT, _OUTPUT] = 1
    return adjacency, np.eye(len(OPERATIONS), dtype=np.uint8)[array[..., 0]]


def from_adjacency_one_hot(adjacency: ArrayLike, operations: ArrayLike) -> Genotype:
    """The genotype of an `adjacency_one_hot`, in canonical spelling.

    Raises:
        GenotypeError: the arrays are not those of a genotype.

    >>> from dtb_builder.space import NAMED
    >>> from_adjacency_one_hot(*adjacency_one_hot(NAMED["DARTS_V1"]))
    <Genotype DARTS_V1>
    """
    nodes, chosen = np.asarray(adjacency), np.asarray(operations)
    sources = np.nonzero(np.moveaxis(nodes[..., 2:_OUTPUT], -1, 1))[-1] if nodes.ndim == 3 else []
    if len(sources) != 2 * NUM_EDGES or chosen.shape != (2, NUM_EDGES, len(OPERATIONS)):
        raise GenotypeError(
            "wanted adjacency matrices of two cells with two edges to each inner node, and one-hot "
            f"operations of these edges, got shapes {nodes.shape} and {chosen.shape}"
        )
    pairs = np.stack([chosen.argmax(-1), np.reshape(sources, (2, NUM_EDGES))], axis=-1)
    genotype = Genotype.from_array(pairs)
    for given, right in zip((nodes, chosen), adjacency_one_hot(genotype), strict=True):
        if not np.array_equal(given, right):
            raise GenotypeError("wanted only the zeros and ones of a genotype's edges")
    return genotype


def compact(genotype: Genotype) -> Compact:
    """NASLib's compact form: for each edge of both cells, (predecessor, index of its operation).

    >>> from dtb_builder.space import NAMED
    >>> compact(NAMED["DARTS_V1"])[0][:2]
    ((1, 3), (0, 3))
    """
    normal, reduce = genotype.to_array()[..., ::-1].tolist()
    return tuple(map(tuple, normal)), tuple(map(tuple, reduce))


def from_compact(cells: Sequence[Sequence[Sequence[int]]]) -> Genotype:
    """The genotype of a compact form, in the form's spelling.

    Raises:
        GenotypeError: it is not the compact form of a genotype.

    >>> from dtb_builder.space import NAMED
    >>> from_compact(compact(NAMED["DARTS_V1"]))
    <Genotype DARTS_V1>
    """
    try:
        array = np.array(cells)[..., ::-1]
    except (ValueError, IndexError):  # lists of different lengths, or a number
        raise GenotypeError(f"wanted NASLib's compact form, got {shown(cells)}") from None
    return Genotype.from_array(array)


class CellGraph(NamedTuple):
    """Both cells as a graph with two components.

    Attributes:
        nodes: the nodes' names. Nodes 0 to 6 are the normal cell's, with its inputs first and its
            output last; 7 to 13 are the reduction cell's.
        edges: source, target and operation of each edge; CONCATENATION for edges to an output.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[int, int, str], ...]


def graph(genotype: Genotype) -> CellGraph:
    """A genotype for graph libraries.

    >>> import networkx
    >>> from dtb_builder.space import NAMED
    >>> nodes, edges = graph(NAMED["DARTS_V2"])
    >>> cells = networkx.DiGraph()
    >>> cells.add_nodes_from(enumerate({"name": name} for name in nodes))
    >>> cells.add_weighted_edges_from(edges, weight="operation")
    >>> networkx.number_weakly_connected_components(cells)
    2
    """
    names, edges = [], []
    for offset, cell in zip((0, _CELL_NODES), ("normal", "reduce"), strict=True):
        inner = (f"node {node}" for node in range(2, _OUTPUT))
        names += [f"{cell} {name}" for name in ("c_{k-2}", "c_{k-1}", *inner, "c_{k}")]
        for i, (operation, predecessor) in enumerate(getattr(genotype, cell)):
            edges.append((offset + predecessor, offset + 2 + i // 2, operation))
        edges += [(offset + i, offset + _OUTPUT, CONCATENATION) for i in range(2, _OUTPUT)]
    return CellGraph(tuple(names), tuple(edges))


def from_graph(edges: Iterable[tuple[int, int, Any]]) -> Genotype:
    """The genotype of a graph's edges; a node's two edges keep their order.

    Args:
        edges: source, target and operation of each edge, as in `CellGraph`.

    Raises:
        GenotypeError: they are not the edges of a genotype.

    >>> from dtb_builder.space import NAMED
    >>> from_graph(graph(NAMED["DARTS_V1"]).edges)
    <Genotype DARTS_V1>
    """
    cells: tuple[dict[int, list[Edge]], ...] = ({}, {})
    outputs: list[tuple[int, int]] = []
    for source, target, operation in edges:
        cell, node = divmod(target, _CELL_NODES)
        if cell not in (0, 1) or not 0 <= source - cell * _CELL_NODES < node:
            raise GenotypeError(f"an edge from node {source} to node {target} is in neither cell")
        if node == _OUTPUT:
            outputs.append((source, target))
        else:
            edge = Edge(operation, source - cell * _CELL_NODES)
            cells[cell].setdefault(node, []).append(edge)
    genotype = Genotype(*(_in_order(nodes) for nodes in cells))
    right = {edge[:2] for edge in graph(genotype).edges if edge[2] == CONCATENATION}
    if len(outputs) != len(right) or set(outputs) != right:
        raise GenotypeError("wanted an edge from each inner node to the output of its cell")
    return genotype


def _in_order(nodes: dict[int, list[Edge]]) -> tuple[Edge, ...]:
    if wrong := [node for node, edges in nodes.items() if len(edges) != 2]:
        raise GenotypeError(f"wanted two edges to each inner node, got others to {sorted(wrong)}")
    return tuple(edge for node in sorted(nodes) for edge in nodes[node])


def path_encoding(genotype: Genotype) -> NDArray[np.uint8]:
    """1 for each path from a cell's input to an inner node, in NASLib's order; shape (NUM_PATHS,).

    NASLib itself omits the paths through a cell's last edge, since its loop ends after seven edges.
    Isomorphic genotypes have the same encoding, and so do some others, because equal paths count
    once: the genotype cannot be recovered, only its paths (`paths_of`).

    >>> from dtb_builder.space import NAMED
    >>> encoding = path_encoding(NAMED["DARTS_V1"])
    >>> int(encoding.sum()), len(paths_of(encoding))
    (10, 10)
    """
    encoding = np.zeros(NUM_PATHS, np.uint8)
    encoding[[_place(path) for path in paths(genotype)]] = 1
    return encoding


def paths(genotype: Genotype) -> frozenset[Path]:
    """Every path from an input of a cell to one of its inner nodes."""
    every: set[Path] = set()
    for number, cell in enumerate((genotype.normal, genotype.reduce)):
        to_node: dict[int, list[Path]] = {i: [(number, i, ())] for i in (0, 1)}
        for i, (operation, predecessor) in enumerate(cell):
            longer = ((*path[:2], (*path[2], operation)) for path in to_node[predecessor])
            to_node.setdefault(2 + i // 2, []).extend(longer)
        every |= {path for node in range(2, _OUTPUT) for path in to_node[node]}
    return frozenset(every)


def paths_of(encoding: ArrayLike) -> frozenset[Path]:
    """The paths of a `path_encoding`.

    Raises:
        ValueError: the encoding has another shape.

    >>> from dtb_builder.space import NAMED
    >>> paths_of(path_encoding(NAMED["DARTS_V1"])) == paths(NAMED["DARTS_V1"])
    True
    """
    given = np.asarray(encoding)
    if given.shape != (NUM_PATHS,):
        raise ValueError(f"expected a path encoding of {NUM_PATHS} numbers, got {given.shape}")
    return frozenset(map(_path, np.flatnonzero(given).tolist()))


def _place(path: Path) -> int:
    cell, source, operations = path
    digits = (OPERATIONS.index(name) * len(OPERATIONS) ** i for i, name in enumerate(operations))
    return (
        (2 * cell + source) * _FIRST_OF_LENGTH[-1] + _FIRST_OF_LENGTH[len(operations)] + sum(digits)
    )


def _path(place: int) -> Path:
    where, number = divmod(place, _FIRST_OF_LENGTH[-1])
    length = sum(number >= first for first in _FIRST_OF_LENGTH[1:])
    return where // 2, where % 2, tuple(_names(number - _FIRST_OF_LENGTH[length], length))


def _names(number: int, length: int) -> Iterator[str]:
    for _ in range(length):
        number, digit = divmod(number, len(OPERATIONS))
        yield OPERATIONS[digit]
