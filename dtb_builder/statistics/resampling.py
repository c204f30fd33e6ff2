"""The bootstrap of rank correlations, many resamples at once.

A resample is how often each network was drawn. Copies of a network are tied in everything, so both
correlations of a resample follow from those counts: ranks and ties from sums of counts in the order
of the scores, agreeing pairs from one matrix product, in float32, where these integers are exact.
The values are those that `kendall_tau` and `spearman_rho` have of the repeated networks.
"""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.statistics.ranking import Interval

__all__ = ["above_and_tied", "draw_resamples", "interval_of", "kendall_taus", "spearman_rhos"]

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
    """Kendall's tau-b of each resample, shape (resamples,); NaN where all of one are tied.

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


def interval_of(value: float, resampled: NDArray[np.float64], *, level: float = 0.95) -> Interval:
    """A statistic with the percentile interval of its resamples, those that are NaN left out.

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
    """In each resample how many networks are above each, and as many as it.

    Both of shape (resamples, networks); a network that was not drawn may be tied with none.
    """
    tied, group = _group_counts(values, counts)
    above = counts.sum(1) - np.cumsum(tied, axis=0)
    return above[group].T, tied[group].T


def _group_counts(
    values: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """How often each value was drawn, and which value each network has.

    The former has shape (values, resamples), values ascending, the latter (networks,).
    """
    order = np.argsort(values)
    _, starts = np.unique(values[order], return_index=True)
    group = np.empty(len(values), np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    drawn = counts.T[order]
    return drawn if len(starts) == len(values) else np.add.reduceat(drawn, starts), group


def _centred_ranks(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks in each resample less their mean, ties sharing theirs, shape (resamples, networks)."""
    above, tied = above_and_tied(values, counts)
    return (counts.sum(1, keepdims=True) - tied) / 2 - above


def _untied_pairs(values: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ordered pairs of drawn networks of different values, shape (resamples,)."""
    tied, _ = _group_counts(values, counts)
    return counts.sum(1) ** 2 - (tied**2).sum(0)


def _agreement(
    first: NDArray[np.float64], second: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Ordered pairs that both order alike less those that they order differently, (resamples,)."""
    drawn = counts.astype(np.float32)
    total = np.zeros(len(counts))
    for begin in range(0, len(first), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        signs = [
            np.sign(values[: block.stop, None] - values[None, block]) for values in (first, second)
        ]
        pairs = (signs[0] * signs[1]).astype(np.float32)
        pairs[:begin] *= 2  # each of these pairs stands in one block only
        total += np.einsum("ri,ri->r", drawn[:, : block.stop] @ pairs, counts[:, block])
    return total
