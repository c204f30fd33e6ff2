"""Random genotypes: drawn uniformly from the space, or as a mutation of another."""

from functools import cache

import numpy as np

from dtb_builder.space.cell import NUM_EDGES, OPERATIONS
from dtb_builder.space.genotype import Genotype
from dtb_builder.space.numbering import NUM_CELLS, NUM_GENOTYPES, genotype_of, node_choices

__all__ = ["mutate", "sample_uniform", "uniform_text"]


def sample_uniform(seed: int, index: int) -> Genotype:
    """Draw a genotype uniformly: the one at ``index`` in the random sequence of ``seed``.

    It depends only on these two numbers, so any number of workers can draw the same genotypes.

    Returns:
        The genotype in canonical spelling.

    Raises:
        ValueError: ``seed`` or ``index`` is negative.

    >>> sample_uniform(0, 7) == sample_uniform(0, 7)
    True
    """
    return genotype_of(_drawn(seed, index))


def uniform_text(seed: int, index: int) -> str:
    """The text of ``sample_uniform(seed, index)``, faster; for plans of a million genotypes.

    >>> uniform_text(0, 7) == str(sample_uniform(0, 7))
    True
    """
    normal, reduce = (_cell_text(number) for number in divmod(_drawn(seed, index), NUM_CELLS))
    return (
        f"Genotype(normal=[{normal}], normal_concat=[2, 3, 4, 5], "
        f"reduce=[{reduce}], reduce_concat=[2, 3, 4, 5])"
    )


def mutate(parent: Genotype, seed: int, index: int) -> Genotype:
    """Change a random edge's operation or, equally likely, its predecessor.

    The edges of node 2 keep their predecessors, since node 2 has only two. The child does not
    depend on the parent's spelling.

    Returns:
        A genotype that differs from the parent, in canonical spelling.

    Raises:
        ValueError: ``seed`` or ``index`` is negative.

    >>> from dtb_builder.space import NAMED
    >>> mutate(NAMED["DARTS_V2"], seed=0, index=0).distance(NAMED["DARTS_V2"])
    1
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


def _drawn(seed: int, index: int) -> int:
    """The number of a drawn genotype."""
    _check_not_negative(seed, index)
    return int(np.random.default_rng([seed, index]).integers(NUM_GENOTYPES))


def _cell_text(number: int) -> str:
    texts: list[str] = []
    for choices in _node_texts():
        number, choice = divmod(number, len(choices))
        texts.append(choices[choice])
    return ", ".join(texts)


@cache
def _node_texts() -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(", ".join(str(tuple(edge)) for edge in edges) for edges in node)
        for node in node_choices()
    )


def _check_not_negative(seed: int, index: int) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got seed {seed}, index {index}")
