"""Choosing a score without fooling oneself: chosen on one half, reported on the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.metrics.ranking import Interval, Statistic, bootstrap

__all__ = ["Choice", "choose"]


@dataclass(frozen=True, eq=False)
class Choice:
    """The score that was best on one half, and how good it is on the other.

    Attributes:
        name: the chosen score's.
        on_chosen_half: its statistic where it was chosen; too high, as the largest of several.
        on_other_half: its statistic on the networks that had no part in the choice.
        chosen_half: int64 indices of the networks it was chosen on, ascending.
        other_half: the others, ascending.
    """

    name: str
    on_chosen_half: float
    on_other_half: Interval
    chosen_half: NDArray[np.int64]
    other_half: NDArray[np.int64]


def choose(
    scores: Mapping[str, ArrayLike],
    accuracies: ArrayLike,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> Choice:
    """Split the networks in halves at random, choose on one, report on the other.

    Scores that depend on which networks are ranked together see both halves' networks, but never
    an accuracy of the other half.

    Args:
        scores: candidates by name, each of shape (networks,); of equally good ones the first.
        accuracies: shape (networks,).
        statistic: what is chosen by, such as `kendall_tau`.
        rng: draws the halves and the bootstrap's resamples.
        num_resamples: of the bootstrap.
    """
    if not scores:
        raise ValueError("there must be at least one score to choose from")
    truth = np.asarray(accuracies, np.float64)
    columns = {name: np.asarray(column, np.float64) for name, column in scores.items()}
    for name, column in columns.items():
        if column.shape != truth.shape:
            raise ValueError(f"{name} must have shape {truth.shape}, got {column.shape}")
    order = rng.permutation(len(truth))
    chosen, other = np.sort(order[: len(truth) // 2]), np.sort(order[len(truth) // 2 :])
    by_name = {name: statistic(column[chosen], truth[chosen]) for name, column in columns.items()}
    best = max(by_name, key=by_name.__getitem__)
    return Choice(
        name=best,
        on_chosen_half=by_name[best],
        on_other_half=bootstrap(
            statistic, columns[best][other], truth[other], rng, num_resamples=num_resamples
        ),
        chosen_half=chosen,
        other_half=other,
    )
