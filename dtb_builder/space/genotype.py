"""A genotype, a point of the DARTS space, as a value with a text and keys."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.errors import GenotypeError
from dtb_builder.remembered import remembered
from dtb_builder.space.cell import (
    NUM_EDGES,
    OPERATIONS,
    Edge,
    canonical_cell,
    checked_cell,
    relabelled_cells,
    shown,
)
from dtb_builder.space.drawing import cells_svg
from dtb_builder.space.edits import num_edits
from dtb_builder.space.published import read_cells

__all__ = ["OPERATIONS", "Edge", "Genotype"]


@dataclass(frozen=True, eq=False, repr=False)
class Genotype:
    """A normal and a reduction cell of eight edges each; edges 2i and 2i+1 feed node i+2.

    The order of a node's two edges does not change the network's function, but it decides the names
    of the network's tensors, so published weights need the published spelling. A genotype keeps the
    spelling that it was made with; all 256 spellings are equal and have the same hash. A cell's
    output is always the concatenation of the nodes 2 to 5.

    Attributes:
        normal: the edges of the normal cell; any sequence of (operation, predecessor) pairs is
            accepted.
        reduce: the edges of the reduction cell, likewise.

    Raises:
        GenotypeError: the cells are outside the space; the message says where.

    >>> from dtb_builder.space import NAMED
    >>> genotype = NAMED["DARTS_V1"]
    >>> genotype.normal[0]
    Edge(operation='sep_conv_3x3', predecessor=1)
    >>> genotype.canonical().normal[0]
    Edge(operation='sep_conv_3x3', predecessor=0)
    >>> genotype == genotype.canonical() == Genotype.parse(str(genotype))
    True
    """

    normal: tuple[Edge, ...]
    reduce: tuple[Edge, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "normal", checked_cell(self.normal, "normal"))
        object.__setattr__(self, "reduce", checked_cell(self.reduce, "reduce"))

    @classmethod
    def parse(cls, text: str) -> "Genotype":
        """Read the text that DARTS repositories publish, without evaluating it.

        Lists and tuples, ``range(2, 6)`` as concat, positional arguments and a leading ``NAME =``
        are accepted.

        Raises:
            GenotypeError: the text is not a genotype, or the genotype is outside the space.
        """
        normal, reduce = read_cells(text)
        return cls(checked_cell(normal, "normal"), checked_cell(reduce, "reduce"))

    @classmethod
    def from_array(cls, array: ArrayLike) -> "Genotype":
        """The genotype whose ``to_array`` is ``array``, which may be a list or a tensor.

        Raises:
            GenotypeError: the array's shape, dtype or values are not those of a genotype.
        """
        try:
            array = np.asarray(array)
        except ValueError as error:  # lists of different lengths
            raise GenotypeError(f"wanted an array of genotypes: {error}") from None
        if array.shape != (2, NUM_EDGES, 2) or not np.issubdtype(array.dtype, np.integer):
            raise GenotypeError(
                f"wanted an integer array of shape (2, {NUM_EDGES}, 2), "
                f"got {array.dtype} of shape {array.shape}"
            )
        normal, reduce = (
            _edges(cell.tolist(), name)
            for cell, name in zip(array, ("normal", "reduce"), strict=True)
        )
        return cls(normal, reduce)

    def to_array(self) -> NDArray[np.uint8]:
        """The spelling as numbers, shape (2, 8, 2): cell, edge, (operation, predecessor).

        The normal cell comes first; an operation is its index in OPERATIONS.
        """
        return np.array(
            [
                [(OPERATIONS.index(operation), predecessor) for operation, predecessor in cell]
                for cell in (self.normal, self.reduce)
            ],
            dtype=np.uint8,
        )

    def canonical(self) -> "Genotype":
        """The same genotype with every node's edges sorted by predecessor."""
        return Genotype(*self._canonical_cells)

    @remembered
    def key(self) -> str:
        """The SHA-256 of the canonical text, in hexadecimal; it is the same for all spellings."""
        return hashlib.sha256(_text(*self._canonical_cells).encode()).hexdigest()

    @remembered
    def iso_key(self) -> str:
        """The ``key`` of the smallest isomorphic genotype.

        Two genotypes have the same iso_key if and only if they differ only in spelling and in the
        numbering of each cell's intermediate nodes. Their networks have the same function, but not
        the same trained weights: the numbering decides the order of a cell's output channels and
        the order in which weights are drawn.
        """
        cells = [min(relabelled_cells(cell)) for cell in self._canonical_cells]
        return hashlib.sha256(_text(*cells).encode()).hexdigest()

    @remembered
    def short_name(self) -> str:
        """The name of a published genotype, or the first eight digits of another's ``key``.

        >>> from dtb_builder.space import sample_uniform
        >>> sample_uniform(0, 0).short_name
        'f9a0494a'
        """
        from dtb_builder.space.named import NAMED  # here, because that module imports this one

        names = (name for name, genotype in NAMED.items() if genotype == self)
        return next(names, self.key[:8])

    def operation_counts(self, cell: Literal["normal", "reduce"] | None = None) -> dict[str, int]:
        """How many edges have each of OPERATIONS, in one cell or in both.

        >>> from dtb_builder.space import NAMED
        >>> NAMED["DARTS_V2"].operation_counts("reduce")["max_pool_3x3"]
        5
        """
        edges = {"normal": self.normal, "reduce": self.reduce, None: self.normal + self.reduce}[
            cell
        ]
        return {name: sum(edge.operation == name for edge in edges) for name in OPERATIONS}

    def distance(self, other: "Genotype") -> int:
        """The smallest number of operations and predecessors that change one into the other.

        The numbering of each cell's inner nodes and the order of a node's edges do not matter. It
        is a metric; isomorphic genotypes have the distance 0.

        >>> from dtb_builder.space import NAMED
        >>> NAMED["DARTS_V1"].distance(NAMED["DARTS_V2"])
        6
        """
        return num_edits(self.normal, other.normal) + num_edits(self.reduce, other.reduce)

    def to_svg(self) -> str:
        """A picture of both cells, which notebooks show.

        >>> from dtb_builder.space import NAMED
        >>> NAMED["DARTS_V2"].to_svg()[:4]
        '<svg'
        """
        return cells_svg(self.normal, self.reduce, title=str(self))

    _repr_html_ = to_svg

    def __repr__(self) -> str:
        return f"<Genotype {self.short_name}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Genotype):
            return NotImplemented
        return self._canonical_cells == other._canonical_cells

    def __hash__(self) -> int:
        return hash(self._canonical_cells)

    def __str__(self) -> str:
        return _text(self.normal, self.reduce)

    @remembered
    def _canonical_cells(self) -> tuple[tuple[Edge, ...], tuple[Edge, ...]]:
        return canonical_cell(self.normal), canonical_cell(self.reduce)


def _edges(pairs: list[list[int]], name: str) -> tuple[Edge, ...]:
    for i, (operation, _) in enumerate(pairs):
        if not 0 <= operation < len(OPERATIONS):
            raise GenotypeError(
                f"{name} cell, node {2 + i // 2}, edge {i}: wanted an operation from 0 to "
                f"{len(OPERATIONS) - 1}, got {shown(operation)}"
            )
    return tuple(Edge(OPERATIONS[operation], predecessor) for operation, predecessor in pairs)


def _text(normal: tuple[Edge, ...], reduce: tuple[Edge, ...]) -> str:
    return (
        f"Genotype(normal={[tuple(edge) for edge in normal]}, normal_concat=[2, 3, 4, 5], "
        f"reduce={[tuple(edge) for edge in reduce]}, reduce_concat=[2, 3, 4, 5])"
    )
