"""How many parameters the networks of the space have: mean and variance over all genotypes."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.scores.size import num_parameters
from dtb_builder.space import Edge, Genotype
from dtb_builder.space.cell import NUM_NODES, OPERATIONS

__all__ = ["parameters_of_space"]

_POOLS = (Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)) * NUM_NODES
_SKIP = OPERATIONS.index("skip_connect")


@lru_cache(maxsize=16)
def parameters_of_space(spec: NetworkSpec) -> tuple[float, float]:
    """The mean and the variance of `num_parameters` over all genotypes, exactly.

    Genotypes are equally likely, and networks have no auxiliary head. The parameters of a network
    are a sum over edges. Only a skip connection's depend on the predecessor: it has some where it
    halves the maps, from one of a reduction cell's inputs. So only the two edges of a node of the
    reduction cell are dependent.
    """
    spec = replace(spec, auxiliary=False)
    least = _count(Genotype(normal=_POOLS, reduce=_POOLS), spec)
    normal, reduce = (
        np.array([_count(_with(operation, cell), spec) - least for operation in OPERATIONS], float)
        for cell in (0, 1)
    )
    mean = least + 2 * NUM_NODES * normal.mean()
    variance = 2 * NUM_NODES * normal.var()
    skip = reduce[_SKIP] / len(OPERATIONS)
    others, squares = (
        np.delete(each, _SKIP).sum() / len(OPERATIONS) for each in (reduce, reduce**2)
    )
    for num_before in range(2, 2 + NUM_NODES):
        halves, both = 2 / num_before, 2 / (num_before * (num_before - 1))
        expected = others + skip * halves
        mean += 2 * expected
        variance += 2 * (squares + skip * reduce[_SKIP] * halves - expected**2)
        variance += 2 * skip**2 * (both - halves**2)
    return float(mean), float(variance)


def _with(operation: str, cell: int) -> Genotype:
    """The genotype of pools but for the first edge of its normal cell, 0, or reduction cell, 1."""
    changed = (Edge(operation, 0), *_POOLS[1:])
    return Genotype(normal=_POOLS if cell else changed, reduce=changed if cell else _POOLS)


def _count(genotype: Genotype, spec: NetworkSpec) -> int:
    with torch.device("meta"):  # tensors without memory
        return num_parameters(Network(genotype, spec))
