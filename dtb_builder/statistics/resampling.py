"""The bootstrap of rank correlations, for many resamples at once.

A resample is a count of how often each network was drawn. Copies of a network are tied, so both
correlations of a resample follow from the counts and from the pairs of networks, as matrix
products. That is hundreds of times faster than to call `kendall_tau` and `spearman_rho` with the
repeated networks, and gives the same values.
"""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.statistics.ranking import Interval

__all__ = ["draw_resamples", "interval_of", "kendall_taus", "spearman_rhos"]


def draw_resamples(
    num_networks: int, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each network is drawn, with replacement, shape (resamples, networks)."""
    if num_networks < 2 or num_resamples < 1:
        raise ValueError(
            f"wanted at least 2 networks and 1 resample, got {num_networks} and {num_resamples}"
        )
    drawn = rng.integers(num_networks, size=(num_resamples, num_networks))
    drawn += np.arange(num_resamples)[:, None] * num_networks
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_networks)
    return counts.reshape(num_resamples, num_networks).astype(np.float64)


def kendall_taus(
    scores: NDArray[np.float64], accuracies: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Kendall's tau-b of each resample, shape (resamples,); NaN where all numbers are tied.

    Args:
        scores: finite, shape (networks,).
        accuracies: finite, shape (networks,).
        counts: how often each network was drawn, shape (resamples, networks).
    """
    x, y = (np.sign(values[:, None] - values[None, :]) for values in (scores, accuracies))
    agreeing, first, second = (
        np.einsum("ri,ri->r", counts @ matrix, counts) for matrix in (x * y, np.abs(x), np.abs(y))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return agreeing / np.sqrt(first * second)


def spearman_rhos(
    scores: NDArray[np.float64], accuracies: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Spearman's rho of each resample; arguments and result are those of `kendall_taus`."""
    x, y = (_centred_ranks(values, counts) for values in (scores, accuracies))
    together, first, second = (
        (counts * left * right).sum(1) for left, right in ((x, y), (x, x), (y, y))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return together / np.sqrt(first * second)


def interval_of(value: float, resampled: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """A statistic with the percentile interval of its resamples, without those that are NaN.

    Raises:
        ValueError: no resample has a value.
    """
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        raise ValueError("no resample has a value: there are too few different networks")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)


def _centred_ranks(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in each resample minus their mean; ties have their mean rank. (resamples, networks)."""
    below = (values[:, None] < values[None, :]) + 0.5 * (values[:, None] == values[None, :])
    return counts @ below - counts.sum(1, keepdims=True) / 2
