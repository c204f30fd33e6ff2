"""Choose among rules by cross-validation on one half of the networks; report on the other half."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.statistics.ranking import Interval
from dtb_builder.statistics.resampling import draw_resamples, interval_of, kendall_taus

__all__ = ["Rule", "RuleChoice", "check_enough", "choose_rule", "fixed", "weighted"]

Rule = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Takes the indices of networks whose accuracies it may fit to; returns all networks' scores."""

_WEIGHTS = (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 10.0)
_NUM_FOLDS = 3
_NUM_REPEATS = 5
"""How often the chosen half is divided into folds."""


@dataclass(frozen=True, eq=False)
class RuleChoice:
    """The rule that was best on one half, and how good it is on the other.

    Attributes:
        name: the chosen rule.
        validated: by name, the rule's mean Kendall's tau on held-out folds of the chosen half;
            biased upwards for the chosen rule, since it is the largest.
        on_other_half: by name, Kendall's tau on the other half, of the rule fitted to the chosen
            half; 0 where all its scores there are the same.
        gains: by name, how much larger the chosen rule's tau is there, on the same resamples.
        chosen_half: the indices of the networks it was chosen on, int64, ascending.
        other_half: the indices of the other networks, int64, ascending.
    """

    name: str
    validated: Mapping[str, float]
    on_other_half: Mapping[str, Interval]
    gains: Mapping[str, Interval]
    chosen_half: NDArray[np.int64]
    other_half: NDArray[np.int64]


def choose_rule(
    rules: Mapping[str, Rule],
    accuracies: ArrayLike,
    rng: np.random.Generator,
    *,
    num_resamples: int = 1000,
) -> RuleChoice:
    """Choose a rule by cross-validated Kendall's tau on one half of the networks.

    A rule has the scores of all networks, but accuracies only of those that it may fit to: in the
    cross-validation all folds but one, and then the whole chosen half.

    Args:
        rules: by name; of equally good rules, the first is chosen.
        accuracies: shape (networks,).
        rng: draws the halves, the folds and the resamples.
        num_resamples: resamples of the bootstrap on the other half.

    Raises:
        ValueError: there is no rule, or a fold would have fewer than 3 networks.
    """
    truth = np.asarray(accuracies, np.float64)
    if not rules:
        raise ValueError("there must be at least one rule to choose from")
    check_enough(len(truth))
    order = rng.permutation(len(truth))
    chosen, other = np.sort(order[: len(truth) // 2]), np.sort(order[len(truth) // 2 :])
    divisions = [np.array_split(rng.permutation(chosen), _NUM_FOLDS) for _ in range(_NUM_REPEATS)]
    validated = {name: _validated(rule, truth, divisions) for name, rule in rules.items()}
    best = max(validated, key=validated.__getitem__)
    counts = draw_resamples(len(other), num_resamples, rng)
    values = {name: rule(chosen)[other] for name, rule in rules.items()}
    taus = {
        name: np.nan_to_num(kendall_taus(each, truth[other], counts))
        for name, each in values.items()
    }
    points = {name: _tau(each, truth[other]) for name, each in values.items()}
    return RuleChoice(
        name=best,
        validated=validated,
        on_other_half={name: interval_of(points[name], taus[name]) for name in rules},
        gains={
            name: interval_of(points[best] - points[name], taus[best] - taus[name])
            for name in rules
        },
        chosen_half=chosen,
        other_half=other,
    )


def check_enough(num_networks: int) -> None:
    """Check that a rule can be chosen among so many networks.

    Raises:
        ValueError: a fold of half of them would have fewer than 3.
    """
    if num_networks // 2 < 3 * _NUM_FOLDS:
        raise ValueError(
            f"{_NUM_FOLDS} folds of half the networks need at least {6 * _NUM_FOLDS} networks, "
            f"got {num_networks}"
        )


def fixed(scores: ArrayLike) -> Rule:
    """The rule that returns these scores, shape (networks,), and fits nothing."""
    column = np.asarray(scores, np.float64)
    return lambda _: column


def weighted(first: ArrayLike, second: ArrayLike, accuracies: ArrayLike) -> Rule:
    """The rule of one score's z-score plus a fitted weight times another's.

    The weight is the one of 11, from 0.1 to 10, with the largest Kendall's tau.

    Args:
        first: shape (networks,).
        second: shape (networks,).
        accuracies: shape (networks,); the rule uses only those that it may fit to.

    Raises:
        ValueError: one of the scores is the same for all networks.
    """
    truth = np.asarray(accuracies, np.float64)
    one, other = (_standardised(np.asarray(each, np.float64)) for each in (first, second))
    candidates = np.stack([one + weight * other for weight in _WEIGHTS])

    def fit(learned_from: NDArray[np.int64]) -> NDArray[np.float64]:
        values, known = candidates[:, learned_from], truth[learned_from]
        pairs = np.sign(values[:, :, None] - values[:, None, :])
        agreeing = (pairs * np.sign(known[:, None] - known[None, :])).sum(axis=(1, 2))
        untied = np.maximum(np.abs(pairs).sum(axis=(1, 2)), 1)
        return candidates[np.argmax(agreeing / np.sqrt(untied))]

    return fit


def _validated(
    rule: Rule,
    truth: NDArray[np.float64],
    divisions: Sequence[Sequence[NDArray[np.int64]]],
) -> float:
    """The rule's mean Kendall's tau on held-out folds."""
    taus: list[float] = []
    for folds in divisions:
        for i, held_out in enumerate(folds):
            others = np.concatenate([fold for j, fold in enumerate(folds) if j != i])
            taus.append(_tau(rule(np.sort(others))[held_out], truth[held_out]))
    return float(np.mean(taus))


def _tau(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Kendall's tau-b; 0 where all scores or all accuracies are the same."""
    (tau,) = kendall_taus(scores, truth, np.ones((1, len(scores))))
    return float(np.nan_to_num(tau))


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    deviation = values.std()
    if not deviation > 0:
        raise ValueError(f"scores must differ to be weighted, got {values[0]} for all networks")
    return (values - values.mean()) / deviation
