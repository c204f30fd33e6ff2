"""Genotypes as configurations of named choices, for general search methods."""

from collections.abc import Mapping
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING

from dtb_builder.errors import GenotypeError
from dtb_builder.extras import extras_are_named
from dtb_builder.space.cell import NUM_EDGES, NUM_NODES, OPERATIONS, Edge, shown
from dtb_builder.space.genotype import Genotype

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

__all__ = ["CHOICES", "config_space", "configuration_of", "genotype_from"]

_CELLS = ("normal", "reduce")


def _operation_name(cell: str, edge: int) -> str:
    return f"{cell}_edge_{edge}"


def _pair_name(cell: str, node: int) -> str:
    return f"{cell}_node_{2 + node}"


def _pairs(node: int) -> tuple[str, ...]:
    return tuple(f"{i} and {j}" for i, j in combinations(range(2 + node), 2))


CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: choices
        for cell in _CELLS
        for name, choices in (
            # Node 2 has no choice of predecessors: it reads both inputs.
            *((_pair_name(cell, node), _pairs(node)) for node in range(1, NUM_NODES)),
            *((_operation_name(cell, edge), OPERATIONS) for edge in range(NUM_EDGES)),
        )
    }
)
"""Every choice with its values: the two predecessors of a node, and the operation of an edge.

Edges 2i and 2i + 1 feed node i + 2, the lower predecessor first. Each genotype is exactly one
combination of choices.
"""


def configuration_of(genotype: Genotype) -> dict[str, str]:
    """The choices of a genotype, which are the same for all its spellings.

    >>> from dtb_builder.space import NAMED
    >>> configuration_of(NAMED["DARTS_V2"])["reduce_node_3"]
    '1 and 2'
    """
    canonical = genotype.canonical()
    configuration: dict[str, str] = {}
    for cell, edges in zip(_CELLS, (canonical.normal, canonical.reduce), strict=True):
        for node in range(1, NUM_NODES):
            first, second = edges[2 * node : 2 * node + 2]
            configuration[_pair_name(cell, node)] = f"{first.predecessor} and {second.predecessor}"
        for i, edge in enumerate(edges):
            configuration[_operation_name(cell, i)] = edge.operation
    return configuration


def genotype_from(configuration: Mapping[str, object]) -> Genotype:
    """The genotype of some choices, in canonical spelling.

    Args:
        configuration: a value for each name in CHOICES, such as a ConfigSpace configuration.

    Raises:
        GenotypeError: a choice is missing or unknown, or its value is not one of CHOICES.

    >>> from dtb_builder.space import NAMED
    >>> genotype_from(configuration_of(NAMED["DARTS_V2"]))
    <Genotype DARTS_V2>
    """
    names = set(configuration)
    if names != set(CHOICES):
        raise GenotypeError(
            f"wanted the names of CHOICES: {sorted(names - set(CHOICES))} are unknown and "
            f"{sorted(set(CHOICES) - names)} are missing"
        )
    for name, choices in CHOICES.items():
        if configuration[name] not in choices:
            got = shown(configuration[name])
            raise GenotypeError(f"{name}: wanted one of {', '.join(choices)}, got {got}")
    return Genotype(*(_edges(configuration, cell) for cell in _CELLS))


def _edges(configuration: Mapping[str, object], cell: str) -> tuple[Edge, ...]:
    pairs = ["0 and 1"]
    pairs += [str(configuration[_pair_name(cell, node)]) for node in range(1, NUM_NODES)]
    predecessors = [int(number) for pair in pairs for number in pair.split(" and ")]
    return tuple(
        Edge(str(configuration[_operation_name(cell, edge)]), predecessor)
        for edge, predecessor in enumerate(predecessors)
    )


@extras_are_named("config_space")
def config_space(seed: int) -> "ConfigurationSpace":
    """The DARTS space as a ConfigSpace of 22 categorical choices, all equally likely.

    Needs the extra ``[search]``.

    >>> space = config_space(seed=0)
    >>> genotype = genotype_from(dict(space.sample_configuration()))
    >>> len(space), len(genotype.normal)
    (22, 8)
    """
    from ConfigSpace import Categorical, ConfigurationSpace

    space = ConfigurationSpace(name="DARTS", seed=seed)
    space.add([Categorical(name, list(choices)) for name, choices in CHOICES.items()])
    return space
