"""Genotypes by chance: drawn from the whole space, or one change away from another."""

import numpy as np

from dtb_builder.space.cell import NUM_EDGES, OPERATIONS
from dtb_builder.space.genotype import Genotype
from dtb_builder.space.numbering import NUM_GENOTYPES, genotype_of

__all__ = ["mutate", "sample_uniform"]


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
    _check_not_negative(seed, index)
    number = int(np.random.default_rng([seed, index]).integers(NUM_GENOTYPES))
    return genotype_of(number)


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


def _check_not_negative(seed: int, index: int) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got seed {seed}, index {index}")
