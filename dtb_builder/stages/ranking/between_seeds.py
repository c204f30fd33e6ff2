"""How well the order of the networks repeats when they are trained again with another seed."""

import math
from dataclasses import dataclass

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.stages.ranking.population import DIVERGED
from dtb_builder.statistics import Interval
from dtb_builder.statistics.resampling import resampled_tau

__all__ = ["BetweenSeeds", "between_seeds", "ceiling"]


@dataclass(frozen=True)
class BetweenSeeds:
    """The agreement of two trainings of the same networks.

    Attributes:
        num_networks: the number of genotypes with two seeds or more.
        tau: Kendall's tau between the final accuracies of their first two seeds.
    """

    num_networks: int
    tau: Interval

    def __str__(self) -> str:
        tau = self.tau
        text = (
            f"{self.num_networks} networks have two seeds; the final accuracies of the two have a "
            f"tau of {tau.value:.3f} [{tau.low:.3f}, {tau.high:.3f}]"
        )
        if (most := ceiling(tau.value)) is None:
            return text
        return (
            f"{text}; the mean accuracy of many seeds would have a tau of about {most:.2f} with "
            "that of one seed"
        )


def ceiling(tau: float) -> float | None:
    """The tau of the true means with the accuracies of one training; None if tau is not positive.

    It assumes that means and the noise of seeds are normal. Then tau is 2/pi arcsin(rho) (Greiner),
    and the rho of two trainings is the square of the rho of the mean and one training.

    Args:
        tau: Kendall's tau between the accuracies of two trainings.
    """
    if not tau > 0:
        return None
    return 2 / math.pi * math.asin(math.sqrt(math.sin(math.pi / 2 * tau)))


def between_seeds(
    benchmark: Benchmark, *, accuracy: str, seed: int = 0, num_resamples: int = 1000
) -> BetweenSeeds | None:
    """Compare two seeds of each network; None if fewer than three networks have two.

    A training that diverged comes last.

    Args:
        benchmark: the benchmark.
        accuracy: the metric.
        seed: draws the resamples.
        num_resamples: the number of resamples of the bootstrap.
    """
    groups = benchmark.by_genotype()
    # Branches have the seeds of their parents, in later columns.
    columns = [i for i, seeds in enumerate(groups.seeds) if seeds not in groups.seeds[:i]]
    rows = groups.array(accuracy, epoch=-1)
    diverged = (benchmark.last_epochs < benchmark.num_epochs)[groups.positions.filled(0)]
    rows[diverged & ~np.ma.getmaskarray(groups.positions)] = DIVERGED
    rows = rows[:, columns]
    pairs = np.array([row.compressed()[:2] for row in rows if row.count() > 1])
    if len(pairs) < 3:
        return None
    try:
        interval, _ = resampled_tau(*pairs.T, seed=seed, num_resamples=num_resamples)
    except ValueError:  # all the same
        return None
    return BetweenSeeds(len(pairs), interval)
