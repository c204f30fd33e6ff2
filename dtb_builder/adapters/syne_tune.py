"""A benchmark as a tabular blackbox of Syne Tune."""

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
"""Measured seconds of training and evaluation since the start of the run."""


def tabular_blackbox(benchmark: Benchmark, *, metrics: tuple[str, ...]) -> "BlackboxTabular":
    """Every genotype with its metrics after epochs 1 to num_epochs; masked metrics are NaN.

    The objectives are the metrics, then ELAPSED. Syne Tune minimises an objective by default.

    Args:
        benchmark: an open benchmark in which all genotypes have the same number of runs (seeds).
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
        numbers = sorted(set(counts.tolist()))
        raise ValueError(f"wanted the same number of runs of each genotype, got {numbers}")
    order = np.lexsort((benchmark.seeds, groups.reshape(-1)))  # by genotype, then by seed
    columns = [benchmark.array(name)[:, 1:].filled(np.nan) for name in metrics]
    seconds = (benchmark.array(name)[:, 1:] for name in ("train_seconds", "evaluation_seconds"))
    columns.append(np.cumsum(sum(part.filled(np.nan) for part in seconds), axis=1))
    shape = (len(genotypes), -1, benchmark.num_epochs, len(columns))
    configurations = [configuration_of(Genotype.from_array(array)) for array in genotypes]
    return BlackboxTabular(
        hyperparameters=pandas.DataFrame(configurations),
        configuration_space={name: choice(list(values)) for name, values in CHOICES.items()},
        fidelity_space={FIDELITY: randint(1, benchmark.num_epochs)},
        objectives_evaluations=np.stack(columns, axis=-1)[order].reshape(shape),
        fidelity_values=np.arange(1, benchmark.num_epochs + 1),
        objectives_names=[*metrics, ELAPSED],
    )
