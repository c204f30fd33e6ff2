"""How wide or deep the normal cell of a genotype is; needs no torch.

Wide, shallow cells train fast: Shu et al., Understanding Architectures Learnt by Cell-based Neural
Architecture Search, ICLR 2020 (arXiv:1909.09569). In the DARTS space they are also more accurate,
but not in every space: in NAS-Bench-101, deeper cells are more accurate.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.space import Genotype

__all__ = ["cell_depth", "input_edges", "standardised_input_edges"]

_MEAN = 77 / 15
_DEVIATION = math.sqrt(206 / 225)


def input_edges(genotype: Genotype) -> int:
    """I, the number of the normal cell's 8 edges that read one of the cell's inputs, in 2..8.

    >>> from dtb_builder.space import NAMED
    >>> input_edges(NAMED["DARTS_V2"])
    7
    """
    return sum(edge.predecessor < 2 for edge in genotype.normal)


def cell_depth(genotype: Genotype) -> int:
    """The number of edges on the longest path from an input of the normal cell to a node, in 1..4.

    >>> from dtb_builder.space import NAMED
    >>> cell_depth(NAMED["DARTS_V2"])
    2
    """
    depths = [0, 0]
    edges = [edge.predecessor for edge in genotype.normal]
    for i in range(0, len(edges), 2):
        depths.append(1 + max(depths[node] for node in edges[i : i + 2]))
    return max(depths)


def standardised_input_edges(edges: ArrayLike) -> NDArray[np.float64]:
    """z(I): `input_edges` standardised over all genotypes of the space, shape (networks,).

    Mean and standard deviation are exact, since each pair of predecessors of a node is equally
    likely: an edge of the four nodes reads an input with the probability 1, 2/3, 1/2 and 2/5.
    """
    return (np.asarray(edges, np.float64) - _MEAN) / _DEVIATION
