"""How well scores order networks, and how sure that is."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Comparison",
    "Interval",
    "Statistic",
    "bootstrap",
    "compare",
    "kendall_tau",
    "partial_tau",
    "spearman_rho",
    "top_overlap",
]

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""A number that says how well scores, the first argument, order accuracies, the second."""


@dataclass(frozen=True)
class Interval:
    """A statistic with its bootstrap interval.

    Attributes:
        value: on the networks themselves.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


@dataclass(frozen=True)
class Comparison:
    """By how much one score orders the same networks better than another.

    Attributes:
        difference: the first score's statistic less the second's, with its interval.
        share_better: in which share of the resamples the first was better, ties counting half.
    """

    difference: Interval
    share_better: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out."""
        return 0 not in self.difference


def kendall_tau(scores: ArrayLike, accuracies: ArrayLike) -> float:
    """Kendall's tau-b, in [-1, 1]; a pair that is tied in one of the two counts for neither side.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).

    Raises:
        ValueError: shapes differ, a number is masked or not finite, or all are the same.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.667
    """
    x, y = _checked(scores, accuracies)
    result: Any = stats.kendalltau(x, y)
    return float(result.statistic)


def spearman_rho(scores: ArrayLike, accuracies: ArrayLike) -> float:
    """Spearman's rho, in [-1, 1]: the correlation of ranks. Arguments as those of `kendall_tau`."""
    x, y = _checked(scores, accuracies)
    result: Any = stats.spearmanr(x, y)
    return float(result.statistic)


def partial_tau(scores: ArrayLike, accuracies: ArrayLike, given: ArrayLike) -> float:
    """Kendall's partial tau: what scores tell beyond a third number, such as parameters.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).
        given: shape (networks,).

    Raises:
        ValueError: as `kendall_tau`, or ``given`` orders networks just as one of the others does.
    """
    with_given = kendall_tau(scores, given), kendall_tau(given, accuracies)
    remaining = (1 - with_given[0] ** 2) * (1 - with_given[1] ** 2)
    if remaining <= 1e-9:  # equal orders have a tau of nearly 1
        raise ValueError("no partial tau: given orders networks as the scores or accuracies do")
    return (kendall_tau(scores, accuracies) - with_given[0] * with_given[1]) / math.sqrt(remaining)


def top_overlap(scores: ArrayLike, accuracies: ArrayLike, *, share: float) -> float:
    """Share of the most accurate networks that are among those of the highest scores.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).
        share: which part of the networks is the top, in (0, 1]; rounded up to whole networks. Of
            equal ones those that come first are in it.

    >>> top_overlap([1, 2, 3, 4], [1, 3, 2, 4], share=0.5)
    0.5
    """
    x, y = _checked(scores, accuracies)
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    # Of 30 networks 0.1 is 3, although 0.1 * 30 is a little more.
    count = math.ceil(share * len(x) - 1e-9)
    best, found = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (y, x))
    return len(best & found) / count


def bootstrap(
    statistic: Statistic,
    scores: ArrayLike,
    accuracies: ArrayLike,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """A statistic and its percentile interval over networks drawn again with replacement.

    Resamples in which all scores or all accuracies are the same are drawn anew.

    Args:
        statistic: such as `kendall_tau`.
        scores: shape (networks,).
        accuracies: shape (networks,).
        rng: draws the networks.
        num_resamples: how often.
        level: share of the resamples that the interval holds.
    """
    x, y = _checked(scores, accuracies)
    _check_resampling(num_resamples, level)
    values = np.array(
        [statistic(x[drawn], y[drawn]) for drawn in _resamples((x, y), rng, num_resamples)]
    )
    return _interval(statistic(x, y), values, level)


def compare(
    statistic: Statistic,
    scores: ArrayLike,
    others: ArrayLike,
    accuracies: ArrayLike,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
) -> Comparison:
    """Is one score better than another? A paired bootstrap: both see the same resamples.

    Arguments are those of `bootstrap`, and ``others`` is the second score, shape (networks,).
    """
    x, y = _checked(scores, accuracies)
    z, _ = _checked(others, accuracies)
    _check_resampling(num_resamples, level)
    differences = np.array(
        [
            statistic(x[drawn], y[drawn]) - statistic(z[drawn], y[drawn])
            for drawn in _resamples((x, y, z), rng, num_resamples)
        ]
    )
    share = float((differences > 0).mean() + (differences == 0).mean() / 2)
    return Comparison(_interval(statistic(x, y) - statistic(z, y), differences, level), share)


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


def _interval(value: float, resampled: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)


def _check_resampling(num_resamples: int, level: float) -> None:
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")


def _checked(
    scores: ArrayLike, accuracies: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if np.ma.is_masked(scores) or np.ma.is_masked(accuracies):
        raise ValueError("wanted numbers of all networks, got masked ones: leave those out")
    x, y = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(
            "scores and accuracies must have the same shape (networks,), at least 2 networks, "
            f"got {x.shape} and {y.shape}"
        )
    for name, values in (("scores", x), ("accuracies", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
        if (values == values[0]).all():
            raise ValueError(f"{name} must differ to be ranked, got {values[0]} for all networks")
    return x, y
