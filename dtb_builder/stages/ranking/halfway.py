"""How well the order of the networks at half of the training agrees with that at its end."""

from dataclasses import dataclass

import numpy as np

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.statistics import Interval
from dtb_builder.statistics.resampling import resampled_tau
from dtb_builder.training.recipe import Recipe

__all__ = ["Halfway", "halfway"]


@dataclass(frozen=True)
class Halfway:
    """Shows whether the training was long enough to rank networks.

    After few epochs, small networks are ahead, since they converge sooner; scores that prefer large
    ones then look worse than they are. In a training that is too short, the order of the networks
    still changes in its second half.

    Attributes:
        num_epochs: the number of epochs of the training.
        epoch: half of it, rounded down, or the nearest epoch that was evaluated.
        tau: Kendall's tau between the accuracies after `epoch` and after the last epoch: the median
            of the resamples, with its interval.
    """

    num_epochs: int
    epoch: int
    tau: Interval

    def __str__(self) -> str:
        return (
            f"{self.num_epochs} epochs; the order of the networks at epoch {self.epoch} has a "
            f"median tau of {self.tau.value:.3f} [{self.tau.low:.3f}, {self.tau.high:.3f}] with "
            "the final order"
        )


def halfway(
    benchmark: Benchmark, *, accuracy: str, seed: int = 0, num_resamples: int = 1000
) -> Halfway | None:
    """Compare half of the training with its end; None if there are too few networks.

    A genotype with several seeds is one network, with the mean of its accuracies.

    Args:
        benchmark: the benchmark.
        accuracy: the metric.
        seed: draws the resamples.
        num_resamples: the number of resamples of the bootstrap.
    """
    recipe = parse(Recipe, whole_provenance(benchmark)["config"]["recipe"])
    epochs = [epoch for epoch in range(benchmark.num_epochs) if recipe.evaluates(epoch)]
    if not epochs:
        return None
    epoch = min(epochs, key=lambda each: abs(each - benchmark.num_epochs // 2))
    seeds = benchmark.by_genotype()
    columns = [seeds.mean(accuracy, epoch=each).mean.filled(np.nan) for each in (epoch, -1)]
    there = np.isfinite(columns).all(axis=0)
    half, last = (column[there] for column in columns)
    try:
        interval, taus = resampled_tau(half, last, seed=seed, num_resamples=num_resamples)
    except ValueError:  # too few networks, or all the same
        return None
    median = float(np.nanmedian(taus))
    return Halfway(benchmark.num_epochs, epoch, Interval(median, interval.low, interval.high))
