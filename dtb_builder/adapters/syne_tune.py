"""A benchmark as a blackbox of Syne Tune, which simulates tuning by table look-up."""

from typing import TYPE_CHECKING

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.space import Genotype
from dtb_builder.space.configuration import CHOICES, configuration_of

if TYPE_CHECKING:
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular  # pyright: ignore[reportMissingImports]

__all__ = ["ELAPSED", "FIDELITY", "tabular_blackbox"]

FIDELITY = "epoch"
ELAPSED = "elapsed_seconds"
"""Seconds of training and evaluation since the run began, as they were measured."""


def tabular_blackbox(benchmark: Benchmark, *, metrics: tuple[str, ...]) -> "BlackboxTabular":
    """Every genotype with its metrics after the epochs at which runs have all of them.

    What a run alone lacks, as one that diverged, is NaN.
    Objectives are the metrics and, at the end, ELAPSED. Syne Tune minimises unless told otherwise.

    Args:
        benchmark: an open benchmark in which every genotype has as many runs, its seeds.
        metrics: names of `dtb_builder.record.METRICS`.

    Raises:
        KeyError: there is no such metric.
        ValueError: genotypes have different numbers of runs.
    """
    import pandas
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular  # pyright: ignore[reportMissingImports]
    from syne_tune.config_space import choice, randint  # pyright: ignore[reportMissingImports]

    genotypes, groups, counts = np.unique(
        benchmark.genotypes, axis=0, return_inverse=True, return_counts=True
    )
    if len(set(counts.tolist())) > 1:
        found = sorted(set(counts.tolist()))
        raise ValueError(f"wanted as many runs of each genotype, got {found}")
    order = np.lexsort((benchmark.seeds, groups.reshape(-1)))  # by genotype, then by seed
    curves = [benchmark.array(name)[:, 1:] for name in metrics]
    measured = ~np.any([np.ma.getmaskarray(curve) for curve in curves], axis=0)
    epochs = np.flatnonzero(measured.any(axis=0))
    training, evaluation = (
        benchmark.array(name)[:, 1:].filled(missing)
        for name, missing in (("train_seconds", np.nan), ("evaluation_seconds", 0.0))
    )
    columns = [curve.filled(np.nan) for curve in curves]
    columns.append(np.cumsum(training + evaluation, axis=1))
    objectives = np.stack(columns, axis=-1)[order][:, epochs]
    configurations = [configuration_of(Genotype.from_array(array)) for array in genotypes]
    return BlackboxTabular(
        hyperparameters=pandas.DataFrame(configurations),
        configuration_space={name: choice(list(values)) for name, values in CHOICES.items()},
        fidelity_space={FIDELITY: randint(1, benchmark.num_epochs)},
        objectives_evaluations=objectives.reshape(len(genotypes), -1, *objectives.shape[1:]),
        fidelity_values=epochs + 1,
        objectives_names=[*metrics, ELAPSED],
    )
