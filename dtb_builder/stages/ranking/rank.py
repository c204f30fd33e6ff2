"""How well each score orders networks by their final accuracy, at each moment of the training."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.stages.ranking.population import Population
from dtb_builder.statistics import Interval, kendall_tau, partial_tau, spearman_rho, top_overlap
from dtb_builder.statistics.resampling import (
    draw_resamples,
    interval_of,
    kendall_taus,
    spearman_rhos,
)

__all__ = ["Ranked", "Ranking", "Ratio", "ScorePair", "rank"]

TOP_SHARE = 0.1
_DEFINED = 0.95
"""Least share of resamples that must define a partial tau: where it is undefined is not random."""


@dataclass(frozen=True)
class Ranked:
    """How well a score orders networks at a moment.

    Attributes:
        score: its name.
        moment: when, as "epoch 3" or "step 10".
        step: training steps until then; None where it is not known.
        num_networks: that have the score.
        tau: Kendall's, to the final accuracy.
        rho: Spearman's.
        partial: Kendall's partial tau given the parameters; None where it is not defined.
        top: share of the 10 % most accurate networks that are among the 10 % of the highest scores.
        train_seconds: of a network's training until then, a mean; None if none was measured.
        score_seconds: of the score itself, a mean; 0 for a figure of the training curves.
    """

    score: str
    moment: str
    step: int | None
    num_networks: int
    tau: Interval
    rho: Interval
    partial: Interval | None
    top: float
    train_seconds: float | None
    score_seconds: float

    @property
    def seconds(self) -> float | None:
        """Of a network's training until then and its score; None where it is not known."""
        return None if self.train_seconds is None else self.train_seconds + self.score_seconds


@dataclass(frozen=True)
class ScorePair:
    """Two scores compared, on the same networks and resamples.

    Attributes:
        first: a score and its moment.
        second: another.
        difference: the first's tau minus the second's.
        share_better: share of the resamples in which the first's tau is larger, ties counting half.
    """

    first: tuple[str, str]
    second: tuple[str, str]
    difference: Interval
    share_better: float

    @property
    def significant(self) -> bool:
        """Whether the 95 % interval excludes 0; not adjusted for multiple comparisons."""
        return 0 not in self.difference


@dataclass(frozen=True)
class Ratio:
    """The tau of DAS as a multiple of that of WOT at a moment.

    Attributes:
        moment: when.
        ratio: with its interval, which is meaningless where the tau of WOT is near 0.
    """

    moment: str
    ratio: Interval


@dataclass(frozen=True)
class Ranking:
    """How well every score orders networks at every moment.

    Attributes:
        ranked: sorted by moment, then by tau, the best first.
        compared: each pair of scores at each moment, and each score with itself at first.
        ratios: of DAS to WOT.
        left_out: scores without a tau, with the reason.
    """

    ranked: tuple[Ranked, ...]
    compared: tuple[ScorePair, ...]
    ratios: tuple[Ratio, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Column:
    """A score at a moment, with its tau in every resample."""

    name: str
    population: Population
    values: NDArray[np.float64]
    taus: NDArray[np.float64]

    @property
    def where(self) -> tuple[str, str]:
        return self.name, self.population.label

    @property
    def there(self) -> NDArray[np.bool_]:
        return np.isfinite(self.values)


def rank(populations: Sequence[Population], *, seed: int, num_resamples: int) -> Ranking:
    """Correlate every score at every moment with the final accuracy.

    All scores are resampled together, so that comparisons of two scores are paired.

    Args:
        populations: the same networks at several moments.
        seed: of the resamples.
        num_resamples: of the bootstrap.
    """
    ranked: list[Ranked] = []
    compared: list[ScorePair] = []
    ratios: list[Ratio] = []
    left_out: list[str] = []
    first: dict[str, _Column] = {}
    counts: dict[int, NDArray[np.float64]] = {}
    for population in populations:
        size = len(population.accuracies)
        if size not in counts:
            rng = np.random.default_rng(seed)
            counts[size] = draw_resamples(size, num_resamples, rng)
        columns: list[_Column] = []
        at: list[Ranked] = []
        for name, values in population.scores.items():
            try:
                row, taus = _ranked(population, name, values, counts[size])
            except ValueError as error:
                left_out.append(f"{name} at {population.label}: {error}")
                continue
            at.append(row)
            columns.append(_Column(name, population, values, taus))
        ranked += sorted(at, key=lambda row: -row.tau.value)
        compared += _pairs(columns, counts[size])
        compared += _since(columns, first, counts[size])
        ratios += _ratios(columns, counts[size])
        for column in columns:
            first.setdefault(column.name, column)
    return Ranking(tuple(ranked), tuple(compared), tuple(ratios), tuple(left_out))


def _ranked(
    population: Population, name: str, values: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[Ranked, NDArray[np.float64]]:
    """A score's row, and its tau in every resample."""
    there = np.isfinite(values)
    scores, accuracies = values[there], population.accuracies[there]
    parameters, drawn = population.num_parameters[there], counts[:, there]
    taus = kendall_taus(scores, accuracies, drawn)
    row = Ranked(
        score=name,
        moment=population.label,
        step=population.step,
        num_networks=int(there.sum()),
        tau=interval_of(kendall_tau(scores, accuracies), taus),
        rho=interval_of(spearman_rho(scores, accuracies), spearman_rhos(scores, accuracies, drawn)),
        partial=_partial(scores, accuracies, parameters, taus, drawn),
        top=top_overlap(scores, accuracies, share=TOP_SHARE),
        train_seconds=population.train_seconds,
        score_seconds=population.score_seconds.get(name, 0.0),
    )
    return row, taus


def _partial(
    scores: NDArray[np.float64],
    accuracies: NDArray[np.float64],
    given: NDArray[np.float64],
    taus: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> Interval | None:
    """The partial tau with its interval, computed from the three taus of each resample.

    None where the number of parameters orders the networks exactly as the scores or the accuracies
    do, or does so in too many resamples: the partial tau is undefined there.
    """
    try:
        value = partial_tau(scores, accuracies, given)
    except ValueError:
        return None
    with_scores = kendall_taus(scores, given, counts)
    with_accuracies = kendall_taus(given, accuracies, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt((1 - with_scores**2) * (1 - with_accuracies**2))
        resampled = (taus - with_scores * with_accuracies) / scale
    if np.isfinite(resampled).mean() < _DEFINED:
        return None
    return interval_of(value, resampled)


def _pairs(columns: Sequence[_Column], counts: NDArray[np.float64]) -> Iterator[ScorePair]:
    for one, other in itertools.combinations(columns, 2):
        yield from _compared(one, other, counts)


def _since(
    columns: Iterable[_Column], first: dict[str, _Column], counts: NDArray[np.float64]
) -> Iterator[ScorePair]:
    """Each score compared with the same score at the first moment that has it."""
    for column in columns:
        if column.name in first and (column.values != first[column.name].values).any():
            yield from _compared(column, first[column.name], counts)


def _compared(one: _Column, other: _Column, counts: NDArray[np.float64]) -> Iterator[ScorePair]:
    """The paired comparison on the networks that have both scores; nothing if it is undefined."""
    accuracies = one.population.accuracies
    if one.population.networks != other.population.networks:
        return
    both = one.there & other.there
    try:
        values, taus = zip(
            *(_on(column, both, accuracies, counts) for column in (one, other)), strict=True
        )
        differences = taus[0] - taus[1]
        difference = interval_of(values[0] - values[1], differences)
    except ValueError:
        return
    finite = differences[np.isfinite(differences)]
    share = float((finite > 0).mean() + (finite == 0).mean() / 2)
    yield ScorePair(one.where, other.where, difference, share)


def _on(
    column: _Column,
    both: NDArray[np.bool_],
    accuracies: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """A score's tau on some of the networks, and in every resample of them."""
    value = kendall_tau(column.values[both], accuracies[both])
    if (both == column.there).all():
        return value, column.taus
    return value, kendall_taus(column.values[both], accuracies[both], counts[:, both])


def _ratios(columns: Iterable[_Column], counts: NDArray[np.float64]) -> Iterator[Ratio]:
    """DAS / WOT; z_sum replaces DAS where no reference sample fits."""
    by_name = {column.name: column for column in columns}
    das = by_name.get("das") or by_name.get("z_sum")
    wot = by_name.get("wot")
    if das is None or wot is None:
        return
    both = das.there & wot.there
    accuracies = das.population.accuracies
    (top, tops), (bottom, bottoms) = (
        _on(column, both, accuracies, counts) for column in (das, wot)
    )
    if bottom != 0:
        with np.errstate(invalid="ignore", divide="ignore"):
            yield Ratio(das.population.label, interval_of(top / bottom, tops / bottoms))
