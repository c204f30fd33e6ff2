"""The networks of a published table as a population to rank."""

import numpy as np

from dtb_builder.stages.ranking.population import Population, scores_of
from dtb_builder.stages.scoring.table import ScoreTable
from dtb_builder.stages.scoring.table_source import TableSource
from dtb_builder.tables import TrainedGenotype

__all__ = ["table_population"]


def table_population(source: TableSource, table: ScoreTable) -> Population:
    """A table's networks with their scores at the initialisation."""
    rows = sorted(table.rows, key=lambda row: row["run"])
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
    )
