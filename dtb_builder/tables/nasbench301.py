"""NAS-Bench-301's own runs: what its surrogates were fitted to, one JSON file for each.

Format: results_fidelity_*/results_*.json of nb_301_v13. The genotype stands in the chosen settings,
as an operation for each edge that is there. Its accuracy on valid images is that of the best
epoch, the one on test images that of the last: only the latter is read.
"""

import json
from collections.abc import Mapping
from typing import Any

from dtb_builder.errors import GenotypeError, TableError
from dtb_builder.space import Edge, Genotype
from dtb_builder.tables.trained import TrainedGenotype, accuracy_of

__all__ = ["read_run301"]

_DARTS = "NetworkSelectorDatasetInfo:darts:"
_IS_GENOTYPES = (f"{_DARTS}edge_", f"{_DARTS}inputs_node_")


def read_run301(text: str, number: int) -> tuple[TrainedGenotype, dict[str, Any]]:
    """A run's network, and the settings that it was trained with.

    Raises:
        TableError: the text is not in the format.
    """
    try:
        run = json.loads(text)
        settings = run["optimized_hyperparamater_config"]
        recipe = {
            name: value for name, value in settings.items() if not name.startswith(_IS_GENOTYPES)
        }
        accuracy = accuracy_of(run["test_accuracy"])
        trained = TrainedGenotype(
            number=number,
            genotype=Genotype(*(_cell(settings, cell) for cell in ("normal", "reduce"))),
            channels=int(settings[f"{_DARTS}init_channels"]),
            layers=int(settings[f"{_DARTS}layers"]),
            auxiliary=settings[f"{_DARTS}auxiliary"] in (True, "True"),
            test_accuracy=accuracy,
        )
    except (
        KeyError,
        TypeError,
        AttributeError,
        GenotypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise TableError(f"wanted a run of NAS-Bench-301: {error!r}") from error
    return trained, recipe | {"budget": run.get("budget")}


def _cell(settings: Mapping[str, Any], cell: str) -> tuple[Edge, ...]:
    """Edges are numbered by node, then by predecessor."""
    edges: list[Edge] = []
    number = 0
    for node in range(2, 6):
        for predecessor in range(node):
            name = f"{_DARTS}edge_{cell}_{number}"
            if name in settings:
                edges.append(Edge(settings[name], predecessor))
            number += 1
        if len(edges) != 2 * (node - 1):
            raise GenotypeError(f"{cell} cell, node {node}: wanted two edges")
    return tuple(edges)
