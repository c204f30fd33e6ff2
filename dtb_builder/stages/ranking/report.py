"""Print a ranking as tables of text, and read and write it as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.json_object import check_shape, json_object
from dtb_builder.errors import DamagedFileError
from dtb_builder.shown import shown
from dtb_builder.stages.ranking.choice import ChosenRule
from dtb_builder.stages.ranking.population import EARLY_FIGURES
from dtb_builder.stages.ranking.rank import Ranked, Ranking, Ratio
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.work.text_table import print_table
from dtb_builder.statistics import Interval

__all__ = [
    "FIGURES",
    "SHOWN",
    "print_choices",
    "print_ranking",
    "ranked_training",
    "ratio_text",
    "read_ranking",
    "write_ranking",
]

_MOST_BYTES = 2**28

_BASELINES = ("das", "wot", "distinguishing_ability", "num_parameters")
FIGURES = {
    "tau": "tau",
    "rho": "rho",
    "partial": "tau | parameters",
    "partial_inputs": "tau | I",
    "precision": "precision",
    "ndcg": "nDCG",
}
"""The statistics of a row, with their column headings."""

SHOWN = ("das", "das3", "wot", "distinguishing_ability", "activation_units", "num_parameters")
SHOWN += ("training_speed", "valid_accuracy")


def print_ranking(ranking: Ranking, *, every: bool) -> None:
    """Print the taus of all scores at all moments, then intervals of all or selected scores."""
    moments = list(dict.fromkeys(row.moment for row in ranking.ranked))
    scores = list(dict.fromkeys(row.score for row in ranking.ranked))
    at = {(row.score, row.moment): row for row in ranking.ranked}
    lines = [["Kendall tau", *moments]]
    one = [
        max((row for row in ranking.ranked if row.moment == moment), key=attrgetter("num_networks"))
        for moment in moments
    ]
    lines.append(["networks", *(str(row.num_networks) for row in one)])
    lines.append(["steps", *("-" if row.step is None else str(row.step) for row in one)])
    seconds = (row.train_seconds for row in one)
    lines.append(["training s", *("-" if each is None else f"{each:.3g}" for each in seconds)])
    for score in sorted(scores, key=lambda score: -_mean(ranking.ranked, score)):
        cells = [at.get((score, moment)) for moment in moments]
        lines.append([score, *("-" if row is None else f"{row.tau.value:+.3f}" for row in cells)])
    print_table(lines)
    lines = [["moment", "score", "n", *FIGURES.values(), "score s"]]
    for moment in moments:
        rows = [row for row in ranking.ranked if row.moment == moment]
        chosen = rows if every else [r for i, r in enumerate(rows) if i < 3 or r.score in SHOWN]
        lines += [_cells(row) for row in chosen]
    print("\nprecision and nDCG are of the best 10 %; tau | I is Kendall's partial tau given I")
    print_table(lines, num_keys=2)
    if any(row.conditional for row in ranking.ranked):
        print("* depends on which networks are ranked: its intervals hold for their scale")
    _print_costs(ranking.ranked, moments)
    _print_differences(ranking, moments)
    for reason in ranking.left_out:
        print(f"left out: {shown(reason)}")


def print_choices(choices: Sequence[ChosenRule]) -> None:
    """Print the rule chosen at each moment and split, with its tau on the other half."""
    lines = [["moment", "split", "chosen rule, number of rules", "validated", "on the other half"]]
    for choice in choices:
        lines.append(
            [
                choice.moment,
                str(choice.split),
                f"{choice.rule}, {choice.num_rules}",
                f"{choice.validated:+.3f}",
                _text(choice.on_other_half),
            ]
        )
        for name, interval in choice.others.items():
            gain = _text(choice.gains[name])
            lines.append(["", "", f"  {name}", "", f"{_text(interval)}  gain {gain}"])
    print("\nchosen on one half, reported on the other")
    print_table(lines, num_keys=2)


def write_ranking(
    path: Path, ranking: Ranking, choices: Sequence[ChosenRule], about: Mapping[str, Any]
) -> None:
    """Write everything as JSON, atomically."""
    content = {"about": dict(about), **asdict(ranking), "choices": [asdict(c) for c in choices]}
    for entry, compared in zip(content["compared"], ranking.compared, strict=True):
        entry["significant"] = compared.significant
    write_whole(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_ranking(path: Path) -> tuple[Ranked, ...]:
    """Read the ranked scores of a file of `write_ranking`.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it is damaged or not a ranking.
    """
    try:
        return tuple(_ranked(entry) for entry in _content(path)["ranked"])
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} is not a ranking: {error!r}") from error


def ranked_training(path: Path) -> dict[str, Any]:
    """The training settings of a ranking's networks; empty if the file does not have them."""
    content = _content(path)
    check_shape(content, {"about": {"trained": {"*": dict}}}, f"{path}")
    return content.get("about", {}).get("trained", {})


def _content(path: Path) -> dict[str, Any]:
    try:
        return json_object(path.read_bytes(), path, most=_MOST_BYTES)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: make it with dtb rank") from None


def _ranked(entry: Mapping[str, Any]) -> Ranked:
    """A row; rows of older versions may lack statistics, and may have others."""
    kept = {each.name: entry.get(each.name) for each in fields(Ranked)}
    return parse(Ranked, {**kept, "conditional": bool(kept["conditional"])})


def _print_costs(ranked: Sequence[Ranked], moments: Sequence[str]) -> None:
    """Print the best score and the best early figure at each moment, with their costs."""
    whole = max((row.train_seconds or 0.0) for row in ranked)
    lines = [["fast training", "best", "tau", "seconds per network", "of the longest training"]]
    for moment in moments:
        rows = [row for row in ranked if row.moment == moment]
        for kind in (_is_early, lambda row: not _is_early(row)):
            if best := max(filter(kind, rows), key=lambda row: row.tau.value, default=None):
                seconds = best.seconds
                cost = "-" if seconds is None else f"{seconds:.3g}"
                share = "-" if seconds is None or not whole else f"{100 * seconds / whole:.1f} %"
                lines.append([moment, best.score, _text(best.tau), cost, share])
    print()
    print_table(lines)


def _is_early(row: Ranked) -> bool:
    """Whether the row is of a value of the training curves."""
    return row.score in EARLY_FIGURES


def _print_differences(ranking: Ranking, moments: Sequence[str]) -> None:
    for ratio in ranking.ratios:
        print(f"DAS / WOT at {ratio.moment}: {ratio_text(ratio)}")
    for moment in moments:
        pairs = [c for c in ranking.compared if c.first[1] == c.second[1] == moment]
        num = sum(c.significant for c in pairs)
        print(
            f"{moment}: {num} of {len(pairs)} differences are significant at 95 % each, "
            f"not adjusted; chance alone would give about {len(pairs) / 20:.0f}"
        )
    lines = [["difference of tau", "", "", ""]]
    for compared in ranking.compared:
        names = (compared.first[0], compared.second[0])
        later = compared.first[1] != compared.second[1]
        if (later and names[0] in _BASELINES) or set(names) <= set(_BASELINES):
            first, second = (" at ".join(each) for each in (compared.first, compared.second))
            verdict = "significant" if compared.significant else "not significant"
            lines.append([first, f"minus {second}", _text(compared.difference), verdict])
    print_table(lines)


def _cells(row: Ranked) -> list[str]:
    return [
        row.moment,
        f"{row.score} *" if row.conditional else row.score,
        str(row.num_networks),
        *("-" if (each := getattr(row, name)) is None else _text(each) for name in FIGURES),
        f"{row.score_seconds:.3f}",
    ]


def ratio_text(ratio: Ratio) -> str:
    """The ratio with its interval, or why there is no ratio."""
    if ratio.ratio is None:
        return f"no ratio; {ratio.reason}"
    infinite = f", {ratio.num_infinite} resamples infinite" if ratio.num_infinite else ""
    between = f"tau between them {ratio.agreement:.3f}"
    return f"{_text(ratio.ratio, sign='')}{infinite}; {between}"


def _text(interval: Interval, sign: str = "+") -> str:
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _mean(rows: Sequence[Ranked], score: str) -> float:
    values = [row.tau.value for row in rows if row.score == score]
    return sum(values) / len(values)
