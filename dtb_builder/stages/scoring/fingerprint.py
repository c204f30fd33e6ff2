"""Which training a run is of, so that scores of one are not taken for those of another."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.errors import ConfigError
from dtb_builder.record import METRICS

__all__ = ["fingerprint", "rows_of"]


def fingerprint(run: Run) -> str:
    """A hash of the run's curves."""
    digest = hashlib.sha256()
    for name in METRICS:
        digest.update(run.curve(name).filled(-1.0).tobytes())
    return digest.hexdigest()[:16]


def rows_of(
    benchmark: Benchmark, rows: Sequence[Mapping[str, Any]], where: Path | str
) -> list[Mapping[str, Any]]:
    """The rows of a file of scores that are of a benchmark's runs; the file may hold others, too.

    Args:
        benchmark: the benchmark.
        rows: of a `ScoreTable`.
        where: they stand.

    Raises:
        ConfigError: one is of another training of such a run, or none is of any.
    """
    known = {run.number: run for run in benchmark}
    found = [row for row in rows if row["run"] in known]
    for number, scored in dict.fromkeys((row["run"], row["fingerprint"]) for row in found):
        if fingerprint(known[number]) != scored:
            raise ConfigError(
                f"{where} is of another benchmark: its run {number} is not that of "
                f"{benchmark.path}; dtb score makes one"
            )
    if rows and not found:
        raise ConfigError(f"{where} has no run of {benchmark.path}; dtb score makes one")
    return found
