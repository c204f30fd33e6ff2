"""A bootstrap that calls the statistic for every resample: the reference of `resampling`."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.statistics import Interval

__all__ = ["Statistic", "bootstrap", "compare"]

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""A number that says how well scores, the first argument, order accuracies, the second."""


def bootstrap(
    statistic: Statistic,
    scores: ArrayLike,
    accuracies: ArrayLike,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> Interval:
    """A statistic and its percentile interval over networks drawn again with replacement."""
    x, y = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    values = [statistic(x[drawn], y[drawn]) for drawn in _resamples((x, y), rng, num_resamples)]
    return _interval(statistic(x, y), values)


def compare(
    statistic: Statistic,
    scores: ArrayLike,
    others: ArrayLike,
    accuracies: ArrayLike,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> Interval:
    """By how much one score is better than another: a paired bootstrap, on the same resamples."""
    x, z, y = (np.asarray(each, np.float64) for each in (scores, others, accuracies))
    differences = [
        statistic(x[drawn], y[drawn]) - statistic(z[drawn], y[drawn])
        for drawn in _resamples((x, y, z), rng, num_resamples)
    ]
    return _interval(statistic(x, y) - statistic(z, y), differences)


def _resamples(
    columns: tuple[NDArray[np.float64], ...], rng: np.random.Generator, number: int
) -> Iterator[NDArray[np.int64]]:
    """Indices drawn with replacement, such that no column becomes constant."""
    size = len(columns[0])
    for _ in range(number):
        drawn = rng.integers(size, size=size)
        while any((column[drawn] == column[drawn[0]]).all() for column in columns):
            drawn = rng.integers(size, size=size)
        yield drawn


def _interval(value: float, resampled: list[float]) -> Interval:
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
    return Interval(value, low, high)
