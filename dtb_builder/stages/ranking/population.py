"""The networks of a benchmark, with their scores at a moment and their final accuracies."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.errors import ConfigError
from dtb_builder.meant import did_you_mean
from dtb_builder.record import METRICS
from dtb_builder.scores import (
    Atoms,
    cell_depth,
    input_edges,
    linear,
    log_rank,
    rank_sum,
    standardised_input_edges,
    training_speed,
)
from dtb_builder.scores.combining import log_rank_sum
from dtb_builder.space import Genotype
from dtb_builder.stages.scoring.fingerprint import rows_of
from dtb_builder.stages.scoring.table import ScoreTable, moment_of, score_names, seconds_name
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.training.recipe import Recipe

__all__ = [
    "CONDITIONAL",
    "DIVERGED",
    "EARLY_FIGURES",
    "LINEAR_WEIGHTS",
    "Population",
    "combined",
    "populations_of",
    "scores_of",
]

LINEAR_WEIGHTS = (0.03, 0.1, 0.3)
"""The weights of A in the sums D / n + weight A; 0 would be D / n, and 1 WOT / n."""

CONDITIONAL = ("rank_sum", "log_rank", "z_sum", "z_sum3", "D_params", "params_I")
CONDITIONAL += ("az_nas", "te_nas")
"""Combinations that depend on which networks are ranked; resampling does not change them."""

EARLY_FIGURES = ("training_speed", "train_loss", "valid_accuracy", "valid_loss")
"""Values of the training curves, as baselines for scores."""

DIVERGED = -1.0
"""Less than any accuracy, so that networks whose training diverged come last."""

_CURVES = {
    "valid_accuracy": ("valid_accuracy", 1.0),
    "valid_loss": ("valid_loss", -1.0),
    "train_loss": ("train_loss", -1.0),
}
"""The metric of each early figure, and the sign that makes larger better."""


@dataclass(frozen=True, eq=False)
class Population:
    """All networks at one moment of their training.

    Attributes:
        epoch: the epoch that has just ended; None within an epoch.
        step: the number of training steps so far; None if unknown.
        networks: a name for each network, such as its genotype.
        accuracies: at the end of the training, shape (networks,); -1 where a training diverged.
        num_parameters: shape (networks,).
        input_edges: I, shape (networks,), NaN outside the DARTS space.
        scores: by name, float64, shape (networks,), NaN where a network has no score.
        train_seconds: the mean seconds of a network's training so far; None if not measured.
        score_seconds: by name, the mean seconds that a score takes; early figures have none.
        num_singular: the number of rows with a singular kernel.
        num_diverged: the number of networks with a diverged training.
        num_images: the number of probe images if there are scores for several numbers, else None.
    """

    epoch: int | None
    step: int | None
    networks: tuple[str, ...]
    accuracies: NDArray[np.float64]
    num_parameters: NDArray[np.float64]
    input_edges: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float64]]
    train_seconds: float | None
    score_seconds: Mapping[str, float] = field(default_factory=dict)
    num_singular: int = 0
    num_diverged: int = 0
    num_images: int | None = None

    @property
    def label(self) -> str:
        """The moment as text: "epoch 3", "step 10" or, with several probes, "epoch 3, n = 16"."""
        when = f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"
        return when if self.num_images is None else f"{when}, n = {self.num_images}"


def populations_of(benchmark: Benchmark, table: ScoreTable, *, accuracy: str) -> list[Population]:
    """The networks of a benchmark at every scored moment, earliest first.

    A genotype with several seeds is one network, with the means of its scores and accuracies.

    Args:
        benchmark: the benchmark.
        table: its scores.
        accuracy: the metric whose value after the last epoch the scores should predict.

    Raises:
        ConfigError: the scores are of another benchmark, the metric is not an accuracy, or there
            are fewer than 2 networks.
    """
    if accuracy not in METRICS or not accuracy.endswith("accuracy"):
        known = [name for name in METRICS if name.endswith("accuracy")]
        hint = did_you_mean(accuracy, known)
        raise ConfigError(f"--by must be one of {', '.join(known)}, got {accuracy!r}{hint}")
    populations: list[Population] = []
    for num_images, rows in by_probe(rows_of(benchmark, table.rows, "the file of scores")).items():
        by_moment: dict[tuple[int | None, int | None], list[Mapping[str, Any]]] = {}
        for row in rows:
            by_moment.setdefault(moment_of(row), []).append(row)
        for when in sorted(by_moment, key=lambda when: _order(when, by_moment[when])):
            population = _population(benchmark, by_moment[when], *when, accuracy)
            populations.append(replace(population, num_images=num_images))
    ranked = [population for population in populations if len(population.accuracies) > 1]
    if not ranked:
        raise ConfigError(f"{benchmark.path}: fewer than 2 networks with scores cannot be ranked")
    return ranked


def by_probe(
    rows: Sequence[Mapping[str, Any]],
) -> dict[int | None, list[Mapping[str, Any]]]:
    """Rows by the number of probe images; all rows under None if they have the same number."""
    sizes = sorted({row["num_images"] for row in rows} - {None})
    if len(sizes) < 2:
        return {None: list(rows)}
    return {size: [row for row in rows if row["num_images"] == size] for size in sizes}


def training_of(benchmark: Benchmark) -> dict[str, Any]:
    """The settings that a ranking depends on: network, recipe and images."""
    config = whole_provenance(benchmark)["config"]
    names = ("name", "num_valid", "num_train", "pool")
    images = {name: config["images"].get(name) for name in names}
    return {"network": config["network"], "recipe": config["recipe"], "images": images}


def combined(
    columns: Mapping[str, NDArray[np.float64]], num_images: int
) -> dict[str, NDArray[np.float64]]:
    """The combinations of scores, shape (networks,), NaN where a part is missing.

    Args:
        columns: scores by name, including the atoms; combinations with I or with the parameters
            exist only if these are given.
        num_images: the number of probe images.
    """
    abilities, units = columns["distinguishing_ability"], columns["activation_units"]
    there = np.isfinite(abilities) & np.isfinite(units)
    if there.sum() < 2:
        return {}
    atoms = Atoms(abilities[there], units[there].astype(np.int64), num_images)
    rules = {f"linear_{weight:g}": linear(atoms, weight) for weight in LINEAR_WEIGHTS}
    rules |= {"rank_sum": rank_sum(atoms), "log_rank": log_rank(atoms)}
    whole: dict[str, NDArray[np.float64]] = {}
    for name, values in rules.items():
        whole[name] = np.full(len(abilities), np.nan)
        whole[name][there] = values
    ability, size, inputs = abilities / num_images, np.log(units), columns.get("input_edges")
    parameters = columns.get("num_parameters")
    parts = {"z_sum": (ability, size), "z_sum3": (ability, size, inputs)}
    if parameters is not None:
        parameters = np.log(parameters)
        parts |= {"D_params": (ability, parameters), "params_I": (parameters, inputs)}
    for name, each in parts.items():
        if (values := _z_sum(each)) is not None:
            whole[name] = values
    if "das" in columns and inputs is not None:
        whole["das3"] = columns["das"] + standardised_input_edges(inputs)
    return whole


def aggregates(columns: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """AZ-NAS and TE-NAS, which combine the ranks of their parts; shape (networks,)."""
    scores: dict[str, NDArray[np.float64]] = {}
    for name, (parts, rule) in _AGGREGATES.items():
        if set(parts) <= columns.keys():
            values = np.stack([columns[part] for part in parts])
            there = np.isfinite(values).all(axis=0)
            scores[name] = np.full(values.shape[1], np.nan)
            scores[name][there] = rule(values[:, there])
    return scores


_AZ_PARTS = ("az_expressivity", "az_progressivity", "az_trainability", "multiply_accumulates")
_AGGREGATES: Mapping[str, tuple[tuple[str, ...], Callable[..., NDArray[np.float64]]]] = {
    "az_nas": (_AZ_PARTS, log_rank_sum),
    "te_nas": (
        ("ntk_condition", "linear_regions"),
        lambda parts: stats.rankdata(parts, axis=1).sum(axis=0),
    ),
}

_COSTS = {
    "az_nas": ("az_trainability", "multiply_accumulates"),
    "te_nas": ("ntk_condition", "linear_regions"),
}
"""The parts whose seconds are summed; az_trainability has those of all parts between cells."""


def _z_sum(parts: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    """The sum of standardised parts; NaN for networks that lack a part.

    None if a whole part is missing, or is the same for all networks.
    """
    columns = [part for part in parts if part is not None]
    there = np.isfinite(np.stack(columns)).all(axis=0)
    if len(columns) < len(parts) or there.sum() < 2:
        return None
    total = np.where(there, 0.0, np.nan)
    for column in columns:
        deviation = column[there].std()
        if not deviation > 0:
            return None
        total[there] += (column[there] - column[there].mean()) / deviation
    return total


def _order(
    when: tuple[int | None, int | None], rows: Sequence[Mapping[str, Any]]
) -> tuple[float, int]:
    """Sorts moments by their steps, or by their epoch if no row has the steps."""
    steps = [row["step"] for row in rows if row["step"] is not None]
    return (float(np.median(steps)) if steps else math.inf, when[0] or 0)


def _population(
    benchmark: Benchmark,
    rows: Sequence[Mapping[str, Any]],
    epoch: int | None,
    step: int | None,
    accuracy: str,
) -> Population:
    diverged = benchmark.last_epochs < benchmark.num_epochs
    measured = benchmark.array(accuracy, epoch=-1).filled(np.nan)
    last = np.where(diverged, DIVERGED, measured)
    place = {number: i for i, number in enumerate(benchmark.numbers.tolist())}
    rows = [row for row in rows if not np.isnan(last[place[row["run"]]])]
    at = [place[row["run"]] for row in rows]
    genotypes = [row["genotype"] for row in rows]
    accuracies = _by_genotype(last[at], genotypes)
    # Of a run that has no state any more, too: a network has the same accuracy at every moment.
    gone = {str(benchmark.run(number).genotype) for number in benchmark.numbers[diverged].tolist()}
    has_diverged = np.array([text in gone for text in dict.fromkeys(genotypes)], np.bool_)
    accuracies[has_diverged] = DIVERGED
    parameters = _by_genotype(benchmark.num_parameters[at].astype(float), genotypes)
    columns, seconds = scores_of(
        rows,
        [benchmark.run(row["run"]).genotype for row in rows],
        early=_early(benchmark, epoch, at),
        networks=genotypes,
        num_parameters=parameters,
    )
    seconds |= _validation_seconds(benchmark, epoch, at)
    steps = [row["step"] for row in rows if row["step"] is not None]
    return Population(
        epoch=epoch,
        step=step if step is not None else (int(np.median(steps)) if steps else None),
        networks=tuple(dict.fromkeys(genotypes)),
        accuracies=accuracies,
        num_parameters=parameters,
        input_edges=columns.get("input_edges", np.full(len(parameters), np.nan)),
        scores=columns,
        train_seconds=_train_seconds(benchmark, epoch, step, at),
        score_seconds=seconds,
        num_singular=sum(bool(row["singular"]) for row in rows),
        num_diverged=int(has_diverged.sum()),
    )


def scores_of(
    rows: Sequence[Mapping[str, Any]],
    genotypes: Sequence[Genotype | None],
    *,
    early: Mapping[str, NDArray[np.float64]] | None = None,
    networks: Sequence[str] | None = None,
    num_parameters: NDArray[np.float64] | None = None,
) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """All scores of some rows by name, including combinations, and the mean seconds of each.

    Args:
        rows: the rows of a `ScoreTable` at one moment.
        genotypes: the genotype of each row; None for a network of another space.
        early: early figures, by name, with a value per row.
        networks: the network of each row; rows of the same network are averaged. None if all
            networks differ.
        num_parameters: the parameters of the networks, for combinations; None to use the score.
    """
    names = (*score_names(rows[0]), "das")
    columns = {name: _column(rows, name) for name in names} | dict(early or {})
    for name, of_genotype in (("input_edges", input_edges), ("cell_depth", cell_depth)):
        values = [np.nan if each is None else of_genotype(each) for each in genotypes]
        columns[name] = np.array(values, np.float64)
    if networks is not None:
        columns = {name: _by_genotype(values, networks) for name, values in columns.items()}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).sum() > 1}
    seconds = _mean_seconds(rows)
    ranked = aggregates(columns)
    seconds |= {name: sum(seconds.get(part, 0.0) for part in _COSTS[name]) for name in ranked}
    columns |= ranked
    if {"distinguishing_ability", "activation_units"} <= columns.keys():
        num_images = next(row["num_images"] for row in rows if row["num_images"])
        known = {} if num_parameters is None else {"num_parameters": num_parameters}
        rules = combined(columns | known, num_images)
        columns |= rules
        cost = seconds.get("distinguishing_ability", 0.0)
        made = [name for name in (*rules, "das") if name in columns and name != "params_I"]
        seconds |= dict.fromkeys(made, cost)
    return columns, seconds


def _column(rows: Iterable[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)


def _early(
    benchmark: Benchmark, epoch: int | None, at: list[int]
) -> dict[str, NDArray[np.float64]]:
    """The early figures at an epoch, as far as they were measured."""
    if epoch is None:
        return {}
    figures = {
        name: sign * benchmark.array(metric, epoch=epoch).filled(np.nan)[at]
        for name, (metric, sign) in _CURVES.items()
    }
    if epoch > 0:
        speed = training_speed(benchmark.array("train_loss"), epoch=epoch)
        figures["training_speed"] = speed.filled(np.nan)[at]
    return figures


def _by_genotype(values: NDArray[np.float64], genotypes: Sequence[str]) -> NDArray[np.float64]:
    """The mean of each genotype's values, in the order in which genotypes first appear."""
    places = {text: i for i, text in enumerate(dict.fromkeys(genotypes))}
    index = np.array([places[text] for text in genotypes], np.int64)
    return np.bincount(index, values, len(places)) / np.bincount(index, minlength=len(places))


def _mean_seconds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for name in score_names(rows[0]):
        values = _column(rows, seconds_name(name))
        if np.isfinite(values).any():
            seconds[name] = float(np.nanmean(values))
    return seconds


def _validation_seconds(benchmark: Benchmark, epoch: int | None, at: list[int]) -> dict[str, float]:
    """Seconds of validation loss and accuracy: the validation images' share of an evaluation."""
    if epoch is None:
        return {}
    sizes = {name: split["size"] for name, split in whole_provenance(benchmark)["splits"].items()}
    evaluation = benchmark.array("evaluation_seconds", epoch=epoch).filled(np.nan)[at]
    if not np.isfinite(evaluation).any():
        return {}
    share = sizes["valid"] / (sizes["valid"] + sizes["test"])
    seconds = float(np.nanmean(evaluation)) * share
    return {"valid_loss": seconds, "valid_accuracy": seconds}


def _train_seconds(
    benchmark: Benchmark, epoch: int | None, step: int | None, at: list[int]
) -> float | None:
    """The mean seconds of training up to a moment; within an epoch, in proportion to its steps."""
    seconds = benchmark.array("train_seconds").filled(np.nan)[at]
    if epoch is not None:
        sums = seconds[:, 1 : epoch + 1].sum(axis=1)
        return float(sums[np.isfinite(sums)].mean()) if np.isfinite(sums).any() else None
    if seconds.shape[1] < 2 or step is None:
        return 0.0
    size = whole_provenance(benchmark)["splits"]["train"]["size"]
    steps = parse(Recipe, whole_provenance(benchmark)["config"]["recipe"]).num_steps(size)
    before = min(step // steps, benchmark.num_epochs - 1)
    share = min(1.0, step / steps - before)
    sums = seconds[:, 1 : before + 1].sum(axis=1) + share * seconds[:, before + 1]
    return float(np.nanmean(sums)) if np.isfinite(sums).any() else None
