"""Rank correlations of each score with the final accuracy, at each moment of the training."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.stages.ranking.population import CONDITIONAL, Population
from dtb_builder.statistics import (
    Interval,
    kendall_tau,
    ndcg,
    partial_tau,
    spearman_rho,
    top_overlap,
)
from dtb_builder.statistics.best import ndcgs, top_overlaps
from dtb_builder.statistics.resampling import (
    draw_resamples,
    interval_of,
    kendall_taus,
    spearman_rhos,
)

__all__ = ["Ranked", "Ranking", "Ratio", "ScorePair", "rank"]

TOP_SHARE = 0.1
SAME_RANKING = 0.9
"""If tau between WOT and DAS is larger, the two are the same ranking and their ratio is useless."""

_DEFINED = 0.95
"""The smallest share of resamples with a defined partial tau: the others are not random ones."""


@dataclass(frozen=True)
class Ranked:
    """How well a score orders networks at a moment.

    Attributes:
        score: the score's name.
        moment: the moment's label, such as "epoch 3" or "step 10".
        step: the number of training steps so far; None if unknown.
        num_networks: the number of networks that have the score.
        tau: Kendall's tau with the final accuracy.
        rho: Spearman's rho, likewise.
        partial: Kendall's partial tau given the parameters; None if undefined.
        partial_inputs: Kendall's partial tau given I, the edges that read the normal cell's own
            inputs; None if undefined.
        precision: the share of the 10 % most accurate networks that are among the 10 % with the
            highest scores; None in a ranking of an older version.
        ndcg: normalised discounted cumulative gain of the 10 % with the highest scores; likewise.
        conditional: whether the score depends on which networks are ranked. Its intervals then hold
            for the scale, or the ranks, of these networks.
        train_seconds: the mean seconds of a network's training so far; None if not measured.
        score_seconds: the mean seconds of the score; 0 for a value of the training curves.
    """

    score: str
    moment: str
    step: int | None
    num_networks: int
    tau: Interval
    rho: Interval
    partial: Interval | None
    partial_inputs: Interval | None
    precision: Interval | None
    ndcg: Interval | None
    conditional: bool
    train_seconds: float | None
    score_seconds: float

    @property
    def seconds(self) -> float | None:
        """The mean seconds of a network's training so far plus its score; None if unknown."""
        return None if self.train_seconds is None else self.train_seconds + self.score_seconds


@dataclass(frozen=True)
class ScorePair:
    """The comparison of two scores on the same networks and resamples.

    Attributes:
        first: a score and its moment.
        second: another score and its moment.
        difference: the first's tau minus the second's.
        share_better: the share of resamples in which the first's tau is larger; ties count half.
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
    """The tau of DAS divided by the tau of WOT at a moment.

    Attributes:
        moment: the moment's label.
        agreement: tau between DAS and WOT.
        ratio: the ratio with its interval; None if it is meaningless.
        reason: why it is meaningless, or None.
        num_infinite: the number of resamples in which the tau of WOT is 0; these are at the ends of
            the interval.
    """

    moment: str
    agreement: float
    ratio: Interval | None
    reason: str | None
    num_infinite: int


@dataclass(frozen=True)
class Ranking:
    """How well every score orders networks at every moment.

    Attributes:
        ranked: sorted by moment, then by tau with the best first.
        compared: each pair of scores at each moment, and each score with its own first moment.
        ratios: the ratios of DAS to WOT.
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
        seed: draws the resamples.
        num_resamples: the number of resamples of the bootstrap.
    """
    ranked: list[Ranked] = []
    compared: list[ScorePair] = []
    ratios: list[Ratio] = []
    left_out: list[str] = []
    first: dict[int | None, dict[str, _Column]] = {}
    counts: dict[int, NDArray[np.float64]] = {}
    for population in populations:
        size = len(population.accuracies)
        if size not in counts:
            rng = np.random.default_rng(seed)
            counts[size] = draw_resamples(size, num_resamples, rng)
        columns: list[_Column] = []
        at: list[Ranked] = []
        known: dict[bytes, NDArray[np.float64]] = {}
        for name, values in population.scores.items():
            try:
                row, taus = _ranked(population, name, values, counts[size], known)
            except ValueError as error:
                left_out.append(f"{name} at {population.label}: {error}")
                continue
            at.append(row)
            columns.append(_Column(name, population, values, taus))
        ranked += sorted(at, key=lambda row: -row.tau.value)
        compared += _pairs(columns, counts[size])
        earliest = first.setdefault(population.num_images, {})
        before = {each.population.label: each.population.networks for each in earliest.values()}
        left_out += [
            f"differences between {population.label} and {label}: their networks are not the same, "
            "as after a training has diverged"
            for label, networks in before.items()
            if networks != population.networks
        ]
        compared += _since(columns, earliest, counts[size])
        ratios += _ratios(columns, counts[size])
        for column in columns:
            earliest.setdefault(column.name, column)
    return Ranking(tuple(ranked), tuple(compared), tuple(ratios), tuple(left_out))


def _ranked(
    population: Population,
    name: str,
    values: NDArray[np.float64],
    counts: NDArray[np.float64],
    known: dict[bytes, NDArray[np.float64]],
) -> tuple[Ranked, NDArray[np.float64]]:
    """A score's row, and its tau in every resample.

    ``known`` caches the taus between accuracies and the number that a partial tau is given, since
    these are the same for all scores of the same networks.
    """
    there = np.isfinite(values)
    scores, accuracies = values[there], population.accuracies[there]
    drawn = counts.T[there].T
    taus = kendall_taus(scores, accuracies, drawn)
    row = Ranked(
        score=name,
        moment=population.label,
        step=population.step,
        num_networks=int(there.sum()),
        tau=interval_of(kendall_tau(scores, accuracies), taus),
        rho=interval_of(spearman_rho(scores, accuracies), spearman_rhos(scores, accuracies, drawn)),
        partial=_partial(scores, accuracies, population.num_parameters[there], taus, drawn, known),
        partial_inputs=_partial(
            scores, accuracies, population.input_edges[there], taus, drawn, known
        ),
        precision=interval_of(
            top_overlap(scores, accuracies, share=TOP_SHARE),
            top_overlaps(scores, accuracies, drawn, share=TOP_SHARE),
        ),
        ndcg=interval_of(
            ndcg(scores, accuracies, share=TOP_SHARE),
            ndcgs(scores, accuracies, drawn, share=TOP_SHARE),
        ),
        conditional=name in CONDITIONAL,
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
    known: dict[bytes, NDArray[np.float64]],
) -> Interval | None:
    """The partial tau with its interval, computed from the three taus of each resample.

    None if it is undefined, because `given` has the same order as the scores or the accuracies, for
    the networks themselves or in too many resamples.
    """
    try:
        value = partial_tau(scores, accuracies, given)
    except ValueError:
        return None
    with_scores = kendall_taus(scores, given, counts)
    networks = np.concatenate([given, accuracies]).tobytes()
    if networks not in known:
        known[networks] = kendall_taus(given, accuracies, counts)
    with_accuracies = known[networks]
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
    """Comparisons of each score with the same score at its first moment."""
    for column in columns:
        earliest = first.get(column.name)
        if earliest is not None and not np.array_equal(
            column.values, earliest.values, equal_nan=True
        ):
            yield from _compared(column, earliest, counts)


def _compared(one: _Column, other: _Column, counts: NDArray[np.float64]) -> Iterator[ScorePair]:
    """The paired comparison of two scores, on the networks that have both; none if undefined."""
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
    return value, kendall_taus(column.values[both], accuracies[both], counts.T[both].T)


def _ratios(columns: Iterable[_Column], counts: NDArray[np.float64]) -> Iterator[Ratio]:
    """The ratio of DAS to WOT; z_sum replaces DAS if there is no reference sample."""
    by_name = {column.name: column for column in columns}
    das = by_name.get("das") or by_name.get("z_sum")
    wot = by_name.get("wot")
    if das is None or wot is None:
        return
    both = das.there & wot.there
    accuracies = das.population.accuracies
    try:
        agreement = kendall_tau(das.values[both], wot.values[both])
        (top, tops), (bottom, bottoms) = (
            _on(column, both, accuracies, counts) for column in (das, wot)
        )
    except ValueError:
        return
    of_wot = interval_of(bottom, bottoms)
    ratio, num_infinite = ratio_of((top, tops), (bottom, bottoms))
    reason = None
    if agreement > SAME_RANKING:
        reason = f"DAS and WOT are the same ranking here: tau between them is {agreement:.3f}"
    elif 0 in of_wot:
        reason = f"tau of WOT may be 0: {of_wot.low:+.3f} to {of_wot.high:+.3f}"
    elif not np.isfinite([ratio.low, ratio.high]).all():
        reason = f"tau of WOT is 0 in {num_infinite} resamples"
    yield Ratio(
        moment=das.population.label,
        agreement=agreement,
        ratio=ratio if reason is None else None,
        reason=reason,
        num_infinite=num_infinite,
    )


def ratio_of(
    first: tuple[float, NDArray[np.float64]], second: tuple[float, NDArray[np.float64]]
) -> tuple[Interval, int]:
    """The ratio of two taus with its interval, and how many of its resamples are infinite.

    Infinite resamples count, with the sign of the first tau: the interval would be too narrow
    without them.

    Args:
        first: a tau and its resamples.
        second: the tau by which it is divided, and the same resamples.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value, resampled = np.divide(first[0], second[0]), first[1] / second[1]
    known = resampled[~np.isnan(resampled)]
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf").tolist()
    return Interval(float(value), low, high), int(np.isinf(known).sum())
