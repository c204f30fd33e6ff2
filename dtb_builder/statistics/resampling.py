"""The bootstrap of rank correlations, for many resamples at once.

A resample is a count of how often each network was drawn. Copies of a network are tied, so both
correlations of a resample follow from the counts: ranks and ties from sums of counts in the order
of the scores, concordant pairs from one matrix product in float32, in which these integers are
exact. The values are those of `kendall_tau` and `spearman_rho` for the repeated networks.
"""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.statistics.ranking import Interval, kendall_tau

__all__ = [
    "above_and_tied",
    "draw_resamples",
    "interval_of",
    "kendall_taus",
    "resampled_tau",
    "spearman_rhos",
]

_BLOCK = 512
"""Networks whose pairs with all others are in memory at once."""


def draw_resamples(
    num_networks: int, num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each network is drawn, with replacement, shape (resamples, networks).

    A network's counts are contiguous in memory, so that they are gathered and added fast.
    """
    if num_networks < 2 or num_resamples < 1:
        raise ValueError(
            f"wanted at least 2 networks and 1 resample, got {num_networks} and {num_resamples}"
        )
    drawn = rng.integers(num_networks, size=(num_resamples, num_networks))
    drawn += np.arange(num_resamples)[:, None] * num_networks
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_networks)
    return counts.reshape(num_resamples, num_networks).astype(np.float64, order="F")


def kendall_taus(
    scores: NDArray[np.float64], accuracies: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Kendall's tau-b of each resample, shape (resamples,); NaN where all numbers are tied.

    Args:
        scores: finite, shape (networks,).
        accuracies: finite, shape (networks,).
        counts: how often each network was drawn, shape (resamples, networks).
    """
    untied = [_untied_pairs(values, counts) for values in (scores, accuracies)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return _agreement(scores, accuracies, counts) / np.sqrt(untied[0] * untied[1])


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


def resampled_tau(
    one: NDArray[np.float64], other: NDArray[np.float64], *, seed: int, num_resamples: int
) -> tuple[Interval, NDArray[np.float64]]:
    """Kendall's tau with its interval, and the tau of each resample.

    Raises:
        ValueError: there are too few networks, or all numbers are the same.
    """
    tau = kendall_tau(one, other)
    counts = draw_resamples(len(one), num_resamples, np.random.default_rng(seed))
    taus = kendall_taus(one, other, counts)
    return interval_of(tau, taus), taus


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


def above_and_tied(
    values: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In each resample, how many networks have a larger value than each, and how many the same.

    Both have the shape (resamples, networks); the second is 0 if none of these was drawn.
    """
    tied, group = _group_counts(values, counts)
    above = counts.sum(1) - np.cumsum(tied, axis=0)
    return above[group].T, tied[group].T


def _group_counts(
    values: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """How often each value was drawn, and the index of each network's value.

    The first has the shape (values, resamples) with ascending values, the second (networks,).
    """
    order = np.argsort(values)
    _, starts = np.unique(values[order], return_index=True)
    group = np.empty(len(values), np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    drawn = counts.T[order]
    return drawn if len(starts) == len(values) else np.add.reduceat(drawn, starts), group


def _centred_ranks(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in each resample minus their mean; ties have their mean rank. (resamples, networks)."""
    above, tied = above_and_tied(values, counts)
    return (counts.sum(1, keepdims=True) - tied) / 2 - above


def _untied_pairs(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The number of ordered pairs of drawn networks with different values, shape (resamples,)."""
    tied, _ = _group_counts(values, counts)
    return counts.sum(1) ** 2 - (tied**2).sum(0)


def _agreement(
    first: NDArray[np.float64], second: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ordered pairs that are concordant minus those that are discordant, shape (resamples,)."""
    drawn = counts.astype(np.float32)
    total = np.zeros(len(counts))
    for begin in range(0, len(first), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        signs = [
            np.sign(values[: block.stop, None] - values[None, block]) for values in (first, second)
        ]
        pairs = (signs[0] * signs[1]).astype(np.float32)
        pairs[:begin] *= 2  # each of these pairs is in one block only
        total += np.einsum("ri,ri->r", drawn[:, : block.stop] @ pairs, counts[:, block])
    return total
