"""A benchmark as a tabular blackbox of Syne Tune."""

from typing import TYPE_CHECKING

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.extras import extras_are_named
from dtb_builder.space.configuration import CHOICES, configuration_of

if TYPE_CHECKING:
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular  # pyright: ignore[reportMissingImports]

__all__ = ["ELAPSED", "FIDELITY", "tabular_blackbox"]

FIDELITY = "epoch"
ELAPSED = "elapsed_seconds"
"""Measured seconds of training and evaluation since the start of the run."""


@extras_are_named("tabular_blackbox")
def tabular_blackbox(benchmark: Benchmark, *, metrics: tuple[str, ...]) -> "BlackboxTabular":
    """Every genotype with its metrics after the epochs at which runs have all of them, by seed.

    NaN stands for a run that a genotype lacks, and for epochs after a run diverged. The objectives
    are the metrics, then ELAPSED. Syne Tune minimises an objective by default.

    Args:
        benchmark: an open benchmark; its seeds are those of `Benchmark.by_genotype`, in that order.
        metrics: names of `dtb_builder.record.METRICS`.

    Raises:
        KeyError: there is no such metric.
    """
    import pandas
    from syne_tune.blackbox_repository.blackbox_tabular import BlackboxTabular  # pyright: ignore[reportMissingImports]
    from syne_tune.config_space import choice, randint  # pyright: ignore[reportMissingImports]

    groups = benchmark.by_genotype()
    curves = [groups.array(name)[..., 1:] for name in metrics]
    measured = ~np.any([np.ma.getmaskarray(curve) for curve in curves], axis=0)
    epochs = np.flatnonzero(measured.any(axis=(0, 1)))
    training, evaluation = (
        groups.array(name)[..., 1:].filled(missing)
        for name, missing in (("train_seconds", np.nan), ("evaluation_seconds", 0.0))
    )
    columns = [curve.filled(np.nan) for curve in curves]
    columns.append(np.cumsum(training + evaluation, axis=-1))
    return BlackboxTabular(
        hyperparameters=pandas.DataFrame(map(configuration_of, groups.genotypes)),
        configuration_space={name: choice(list(values)) for name, values in CHOICES.items()},
        fidelity_space={FIDELITY: randint(1, benchmark.num_epochs)},
        objectives_evaluations=np.stack(columns, axis=-1)[:, :, epochs],
        fidelity_values=epochs + 1,
        objectives_names=[*metrics, ELAPSED],
    )
