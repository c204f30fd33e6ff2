"""How well scores find the best networks: precision and nDCG at the top.

Both are the mean over all ways to break ties, so the order of the networks does not matter. Each
has a second function that computes it for many resamples at once.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.statistics.ranking import checked
from dtb_builder.statistics.resampling import above_and_tied

__all__ = ["ndcg", "ndcgs", "top_overlap", "top_overlaps"]


def top_overlap(scores: ArrayLike, accuracies: ArrayLike, *, share: float) -> float:
    """The share of the most accurate networks that are also among those with the highest scores.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).
        share: the share of networks that are the top, in (0, 1]; rounded up to whole networks.

    Raises:
        ValueError: as `kendall_tau`, or ``share`` is out of range.

    >>> top_overlap([1, 2, 3, 4], [1, 3, 2, 4], share=0.5)
    0.5
    >>> round(top_overlap([1, 1, 1, 2], [1, 3, 2, 4], share=0.5), 3)  # three share the second place
    0.667
    """
    x, y = checked(scores, accuracies)
    return float(top_overlaps(x, y, np.ones((1, len(x))), share=share)[0])


def top_overlaps(
    scores: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    share: float,
) -> NDArray[np.float64]:
    """`top_overlap` of each resample, shape (resamples,).

    Args:
        scores: finite, shape (networks,).
        accuracies: finite, shape (networks,).
        counts: how often each network was drawn, shape (resamples, networks).
        share: see `top_overlap`.
    """
    size = _size(counts, share)
    memberships: list[NDArray[np.float64]] = []
    alone = np.ones(counts.shape, np.bool_)
    for values in (scores, accuracies):
        above, tied = above_and_tied(values, counts)
        memberships.append(np.clip((size - above) / np.maximum(tied, 1), 0, 1))
        alone &= tied == counts
    first, second = memberships
    # Copies of one network do not compete: as many are in both tops as in the smaller of the two.
    both = np.where(alone, np.minimum(first, second), first * second)
    return (counts * both).sum(axis=1) / size[:, 0]


def ndcg(scores: ArrayLike, accuracies: ArrayLike, *, share: float) -> float:
    """Normalised discounted cumulative gain of the networks with the highest scores, in [0, 1].

    A network's gain is its accuracy minus the lowest one, and rank i has the weight 1 / log2(i +
    1). The weighted sum over the top by scores is divided by the sum over the top by accuracies.

    Source: Jaervelin and Kekaelaeinen, Cumulated gain-based evaluation of IR techniques, ACM
    Transactions on Information Systems, 2002. Arguments and errors are those of `top_overlap`.

    >>> ndcg([1, 2, 3, 4], [10, 20, 30, 40], share=0.5)
    1.0
    """
    x, y = checked(scores, accuracies)
    return float(ndcgs(x, y, np.ones((1, len(x))), share=share)[0])


def ndcgs(
    scores: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    counts: NDArray[np.float64],
    *,
    share: float,
) -> NDArray[np.float64]:
    """`ndcg` of each resample, shape (resamples,); NaN where all gains are 0.

    Gains are relative to the lowest accuracy of all networks. Arguments are those of
    `top_overlaps`.
    """
    size = _size(counts, share)
    places = np.arange(counts.sum(axis=1).max())
    sums = np.concatenate([[0], np.cumsum(1 / np.log2(places + 2))])
    gains = accuracies - accuracies.min()

    def gained(values: NDArray[np.float64]) -> NDArray[np.float64]:
        above, tied = above_and_tied(values, counts)
        tied = np.maximum(tied, 1)  # of networks that were not drawn, whose count is 0
        ends = (np.minimum(places, size).astype(np.int64) for places in (above, above + tied))
        start, end = (sums[each] for each in ends)
        return (counts * gains * (end - start) / tied).sum(axis=1)

    with np.errstate(invalid="ignore"):
        return gained(scores) / gained(accuracies)


def _size(counts: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The number of networks in the top of each resample, shape (resamples, 1)."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    # 0.1 of 30 networks are 3, although 0.1 * 30 is slightly more in floating point.
    return np.ceil(share * counts.sum(axis=1, keepdims=True) - 1e-9)
