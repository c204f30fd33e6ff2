"""Rank correlations between scores and accuracies."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

__all__ = [
    "Interval",
    "checked",
    "kendall_tau",
    "partial_tau",
    "spearman_rho",
]


@dataclass(frozen=True)
class Interval:
    """A statistic with its bootstrap interval.

    Attributes:
        value: the statistic of the networks themselves.
        low: the lower end of the interval.
        high: its upper end.
    """

    value: float
    low: float
    high: float

    def __contains__(self, number: float) -> bool:
        return self.low <= number <= self.high


def kendall_tau(scores: ArrayLike, accuracies: ArrayLike) -> float:
    """Kendall's tau-b, in [-1, 1]; a tied pair counts neither as concordant nor as discordant.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).

    Raises:
        ValueError: shapes differ, there are fewer than 2 networks, a number is masked or not
            finite, or all numbers are the same.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.667
    """
    x, y = checked(scores, accuracies)
    result: Any = stats.kendalltau(x, y)
    return float(result.statistic)


def spearman_rho(scores: ArrayLike, accuracies: ArrayLike) -> float:
    """Spearman's rho, the correlation of ranks, in [-1, 1]; see `kendall_tau`.

    >>> round(spearman_rho([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.8
    """
    x, y = checked(scores, accuracies)
    result: Any = stats.spearmanr(x, y)
    return float(result.statistic)


def partial_tau(scores: ArrayLike, accuracies: ArrayLike, given: ArrayLike) -> float:
    """Kendall's partial tau, which controls for a third number, such as the number of parameters.

    Args:
        scores: shape (networks,).
        accuracies: shape (networks,).
        given: shape (networks,).

    Raises:
        ValueError: as `kendall_tau`, or ``given`` has the same order as scores or accuracies.

    >>> round(partial_tau([1, 2, 3, 4], [1, 3, 2, 4], given=[2, 1, 3, 4]), 3)
    0.632
    """
    with_given = kendall_tau(scores, given), kendall_tau(given, accuracies)
    remaining = (1 - with_given[0] ** 2) * (1 - with_given[1] ** 2)
    if remaining <= 1e-9:  # equal orders have a tau of nearly 1
        raise ValueError("no partial tau: given has the same order as scores or accuracies")
    return (kendall_tau(scores, accuracies) - with_given[0] * with_given[1]) / math.sqrt(remaining)


def checked(
    scores: ArrayLike, accuracies: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64, shape (networks,); raises as `kendall_tau`."""
    if np.ma.is_masked(scores) or np.ma.is_masked(accuracies):
        raise ValueError(
            "wanted numbers of all networks, got masked ones: leave these networks out"
        )
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
