"""The networks of a published table as a population to rank."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtb_builder.stages.ranking.population import Population, by_probe, scores_of
from dtb_builder.stages.scoring.table import ScoreTable
from dtb_builder.stages.scoring.table_source import TableSource
from dtb_builder.tables import TrainedGenotype

__all__ = ["table_populations"]


def table_populations(source: TableSource, table: ScoreTable) -> list[Population]:
    """A table's networks with their scores at initialisation, for each number of probe images."""
    probes = by_probe(sorted(table.rows, key=lambda row: row["run"]))
    return [_population(source, rows, num_images) for num_images, rows in probes.items()]


def _population(
    source: TableSource, rows: Sequence[Mapping[str, Any]], num_images: int | None
) -> Population:
    architectures = [network.architecture for network in source.networks]
    genotypes = [
        each.genotype if isinstance(each, TrainedGenotype) else None for each in architectures
    ]
    columns, seconds = scores_of(rows, genotypes)
    unknown = np.full(len(rows), np.nan)
    return Population(
        networks=tuple(network.name for network in source.networks),
        epoch=0,
        step=0,
        accuracies=np.array([network.accuracy for network in source.networks]),
        num_parameters=columns.get("num_parameters", unknown),
        input_edges=columns.get("input_edges", unknown),
        scores=columns,
        train_seconds=0.0,
        score_seconds=seconds,
        num_singular=sum(bool(row["singular"]) for row in rows),
        num_images=num_images,
    )
