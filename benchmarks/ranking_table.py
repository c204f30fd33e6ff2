"""Tables of a ranking in Markdown, from the rank.json that `dtb rank` writes.

    python benchmarks/ranking_table.py runs/mine/rank.json [--scores wot das jacob_cov]

The first table has a row per score and moment: Kendall's tau for each number of probe images, and
for the largest also the partial taus given the parameters and given I. The second has differences
of two scores' taus at the same moment, and the third the tau between WOT and DAS.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCORES = ("wot", "das", "das3", "distinguishing_ability", "activation_units", "input_edges")
SCORES += ("num_parameters", "params_I", "D_params", "jacob_cov", "epe_nas", "snip", "synflow")
SCORES += ("zico", "swap_regularised", "train_loss", "valid_accuracy")
PAIRS = (("das", "wot"), ("das3", "das"), ("das3", "wot"), ("das3", "num_parameters"))
PAIRS += (("jacob_cov", "wot"), ("jacob_cov", "train_loss"), ("train_loss", "valid_accuracy"))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--scores", nargs="+", default=SCORES)
    given = parser.parse_args()
    ranking = json.loads(given.file.read_text())
    for table in (taus(ranking, given.scores), differences(ranking), agreements(ranking)):
        print("\n".join(table), end="\n\n")


def taus(ranking: dict[str, Any], scores: list[str]) -> Iterator[str]:
    """The first table's lines; a score that is the same at all moments has one row."""
    at = {(row["score"], *place(row["moment"])): row for row in ranking["ranked"]}
    sizes = sorted({size for _, _, size in at})
    moments = list(dict.fromkeys(moment for _, moment, _ in at))
    heads = [f"n = {size}" if size else "tau" for size in sizes] + ["given parameters", "given I"]
    yield f"| score | t | {' | '.join(heads)} |"
    yield "|---|---|" + "---|" * len(heads)
    for score in scores:
        known: set[tuple[str, ...]] = set()
        for moment in moments:
            rows = [at.get((score, moment, size)) for size in sizes]
            last = rows[-1] or {}
            cells = [interval(row and row["tau"]) for row in rows]
            cells += [interval(last.get(name)) for name in ("partial", "partial_inputs")]
            if any(rows) and tuple(cells) not in known:
                yield f"| `{score}` | {moment} | {' | '.join(cells)} |"
            known.add(tuple(cells))


def differences(ranking: dict[str, Any]) -> Iterator[str]:
    """The second table's lines; bold where the 95 % interval does not contain 0."""
    at = {(tuple(p["first"]), tuple(p["second"])): p["difference"] for p in ranking["compared"]}
    moments = list(dict.fromkeys(row["moment"] for row in ranking["ranked"]))
    yield "| t | " + " | ".join(f"{one} - {other}" for one, other in PAIRS) + " |"
    yield "|---|" + "---|" * len(PAIRS)
    for moment in moments:
        cells: list[str] = []
        for one, other in PAIRS:
            found = at.get(((one, moment), (other, moment)))
            if found is None and (turned := at.get(((other, moment), (one, moment)))) is not None:
                found = {"value": -turned["value"], "low": -turned["high"], "high": -turned["low"]}
            text = interval(found)
            is_clear = found is not None and not found["low"] <= 0 <= found["high"]
            cells.append(f"**{text}**" if is_clear else text)
        yield f"| {moment} | {' | '.join(cells)} |"


def agreements(ranking: dict[str, Any]) -> Iterator[str]:
    """The third table's lines."""
    yield "| t | tau(WOT, DAS) |"
    yield "|---|---|"
    for ratio in ranking["ratios"]:
        yield f"| {ratio['moment']} | {ratio['agreement']:.3f} |"


def place(moment: str) -> tuple[str, int]:
    """A moment and its number of probe images, 0 if the ranking has only one."""
    found = re.fullmatch(r"(.*), n = (\d+)", moment)
    return (found[1], int(found[2])) if found else (moment, 0)


def interval(found: dict[str, float] | None) -> str:
    """A value with its interval, without leading zeros."""
    if found is None:
        return "-"
    value, low, high = (
        f"{found[key]:+.3f}".replace("0.", ".", 1) for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()
