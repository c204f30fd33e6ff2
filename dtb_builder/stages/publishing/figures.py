"""The numbers that a benchmark's report draws, sampled where there are many, as JSON takes them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.grouping import ByGenotype
from dtb_builder.record import HIGHER_IS_BETTER
from dtb_builder.space import OPERATIONS
from dtb_builder.stages.scoring.fingerprint import rows_of
from dtb_builder.stages.work.html_page import evenly, series_colours

__all__ = ["ACCURACY", "MOST_CURVES", "MOST_RUNS", "benchmark_figures", "score_figures"]

ACCURACY = "valid_accuracy"
MOST_RUNS = 20_000
"""More runs are sampled, evenly by their accuracy, so that a page stays under 15 MB."""

MOST_CURVES = 200
_MOST_EPOCHS = 100
_MOST_GENOTYPES = 300
_MOST_SCORED = 1000
_SHOWN = ("das", "wot", "distinguishing_ability", "activation_units", "num_parameters")


def benchmark_figures(benchmark: Benchmark) -> dict[str, Any]:
    """What the page needs to know of the runs, and of each metric that was measured."""
    order = np.argsort(-benchmark.array(ACCURACY, epoch=-1).filled(-np.inf), kind="stable")
    rows = order[evenly(len(order), MOST_RUNS)]
    grouped = benchmark.by_genotype()
    metrics = {
        name: _metric(_so_far(benchmark, name), rows, grouped) for name in _measured(benchmark)
    }
    return {
        "metrics": metrics,
        "num_epochs": benchmark.num_epochs,
        "kept": _kept(benchmark),
        "operations": OPERATIONS,
        "drawn": evenly(len(rows), MOST_CURVES),
        "number": benchmark.numbers[rows].tolist(),
        "seed": benchmark.seeds[rows].tolist(),
        "parameters": benchmark.num_parameters[rows].tolist(),
        "genotype": [_code(cells) for cells in benchmark.genotypes[rows]],
        "sizes": _histogram(benchmark.num_parameters),
    }


def score_figures(benchmark: Benchmark, file: Path) -> dict[str, Any] | None:
    """Each score's values and its tau at each moment, of the largest probe; None without scores.

    Raises:
        ConfigError: the scores are of another benchmark.
    """
    from dtb_builder.stages.scoring.table import read_scores, score_names  # here: needs pyarrow

    rows = rows_of(benchmark, read_scores(file).rows, file)
    if not rows:
        return None
    last = benchmark.array(ACCURACY, epoch=-1).filled(np.nan)
    place = {number: row for row, number in enumerate(benchmark.numbers.tolist())}
    most = max(row["num_images"] or 0 for row in rows)
    moments: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        # A run that diverged has no accuracy.
        if (row["num_images"] or most) == most and np.isfinite(last[place[row["run"]]]):
            label = f"step {row['step']}" if row["epoch"] is None else f"epoch {row['epoch']}"
            moments.setdefault(label, []).append(row)
    moments = dict(sorted(moments.items(), key=lambda each: _last_of(each[1])))
    runs = [np.array([place[row["run"]] for row in at]) for at in moments.values()]
    scores = {
        name: [_column(at, name) for at in moments.values()]
        for name in ("das", *score_names(rows[0]))
    }
    taus = {
        name: [_tau(values, last[at]) for values, at in zip(columns, runs, strict=True)]
        for name, columns in scores.items()
    }
    defined = [name for name, values in taus.items() if set(values) != {None}]
    shown = [name for name in _SHOWN if name in defined]
    names = list(dict.fromkeys([*shown, *defined]))
    drawn = [evenly(len(at), _MOST_SCORED) for at in runs]
    return {
        "moments": list(moments),
        "taus": {name: taus[name] for name in names},
        "colours": series_colours(names),
        "shown": shown or names[:5],
        "points": [
            {
                "genotype": [_code(cells) for cells in benchmark.genotypes[at[those]]],
                "accuracy": _numbers(last[at[those]]),
                "values": {name: _numbers(scores[name][i][those]) for name in names},
            }
            for i, (at, those) in enumerate(zip(runs, drawn, strict=True))
        ],
    }


def _measured(benchmark: Benchmark) -> list[str]:
    """The metrics with a value: accuracies, losses, seconds, those of validation images first."""
    names = [
        name for name in HIGHER_IS_BETTER if not np.ma.getmaskarray(benchmark.array(name)).all()
    ]
    kinds, splits = ("accuracy", "loss", "seconds"), ("valid", "test", "train")

    def place(name: str) -> tuple[int, int]:
        split, _, kind = name.rpartition("_")
        return kinds.index(kind), splits.index(split) if split in splits else len(splits)

    return sorted(names, key=place)


def _so_far(benchmark: Benchmark, name: str) -> np.ma.MaskedArray:
    """A metric of all runs; seconds are summed from the start, shape (runs, epochs)."""
    values = benchmark.array(name)
    return values.cumsum(axis=1) if name.endswith("seconds") else values


def _metric(
    values: np.ma.MaskedArray, rows: NDArray[np.intp], grouped: ByGenotype
) -> dict[str, Any]:
    there = np.flatnonzero(~np.ma.getmaskarray(values).all(axis=0))
    epochs = there[evenly(len(there), _MOST_EPOCHS)]
    last = values[:, -1]
    curves = values[rows[evenly(len(rows), MOST_CURVES)]][:, epochs]
    columns = [_finite(values[:, epoch]) for epoch in epochs]
    spread = [np.quantile(each, [0.1, 0.5, 0.9]) if len(each) else [np.nan] * 3 for each in columns]
    return {
        "epochs": epochs.tolist(),
        "curves": [_numbers(curve.filled(np.nan)) for curve in curves],
        "spread": [_numbers(each) for each in np.array(spread).T],
        "last": _numbers(last[rows].filled(np.nan)),
        "histogram": _histogram(_finite(last)),
        "seeds": _seeds(last, grouped),
    }


def _seeds(last: np.ma.MaskedArray, grouped: ByGenotype) -> dict[str, Any] | None:
    """The range over the runs of each genotype that has several, sorted by their mean."""
    values = last[grouped.positions.filled(0)]
    values = np.ma.masked_invalid(np.ma.masked_where(np.ma.getmaskarray(grouped.positions), values))
    values = values[values.count(axis=1) > 1]
    if not len(values):
        return None
    means = values.mean(axis=1).filled(np.nan)
    order = np.argsort(means)
    drawn = values[order[evenly(len(order), _MOST_GENOTYPES)]]
    within = np.sqrt(values.var(axis=1, ddof=1).mean())
    return {
        "genotypes": len(values),
        "within": _numbers([within])[0],
        "between": _numbers([means.std(ddof=1)])[0] if len(means) > 1 else None,
        "mean": _numbers(drawn.mean(axis=1).filled(np.nan)),
        "low": _numbers(drawn.min(axis=1).filled(np.nan)),
        "high": _numbers(drawn.max(axis=1).filled(np.nan)),
    }


def _kept(benchmark: Benchmark) -> list[float]:
    """The epochs at which states are kept; steps within an epoch as a part of it."""
    ends = [moment for moment in benchmark.moments if moment.epoch]
    if not ends:
        return [0.0 for moment in benchmark.moments if moment.epoch == 0]
    steps = ends[0].step / (ends[0].epoch or 1)
    return [round(moment.step / steps, 4) for moment in benchmark.moments]


def _histogram(values: NDArray[Any]) -> dict[str, Any]:
    """Counts of equal bins, with the lower end of the first and their width."""
    num_bins = int(np.clip(np.ceil(np.sqrt(len(values))), 5, 60))
    counts, edges = np.histogram(values, num_bins)
    return {"from": float(edges[0]), "width": float(edges[1] - edges[0]), "counts": counts.tolist()}


def _last_of(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Sorts moments: by their steps, which a row that failed may lack."""
    return max((row["step"] or 0, row["epoch"] or 0) for row in rows)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)


def _tau(values: NDArray[np.float64], accuracies: NDArray[np.float64]) -> float | None:
    """Kendall's tau; None where it is undefined, as for constant scores."""
    from dtb_builder.statistics import kendall_tau  # here: it needs scipy

    there = np.isfinite(values)
    try:
        return _numbers([kendall_tau(values[there], accuracies[there])])[0]
    except ValueError:
        return None


def _code(cells: NDArray[np.uint8]) -> str:
    """A genotype as two digits for each edge: the operation and the predecessor."""
    return "".join(map(str, cells.ravel().tolist()))


def _finite(values: np.ma.MaskedArray) -> NDArray[np.float64]:
    there = values.compressed()
    return there[np.isfinite(there)]


def _numbers(values: ArrayLike) -> list[float | None]:
    """Rounded to five digits; None for what JSON cannot say."""
    array = np.asarray(values, dtype=np.float64)
    return [float(f"{x:.5g}") if x - x == 0 else None for x in array.tolist()]
