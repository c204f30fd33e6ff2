"""A fingerprint of a run's training, so that scores are not used for another training."""

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
    """The rows of a file of scores that belong to a benchmark's runs.

    Args:
        benchmark: the benchmark.
        rows: the rows of a `ScoreTable`.
        where: the file of scores, for the message.

    Raises:
        ConfigError: a row is of another training of a run, or no row is of a run.
    """
    known = {run.number: run for run in benchmark}
    own = [row for row in rows if row["run"] in known]
    for number, scored in dict.fromkeys((row["run"], row["fingerprint"]) for row in own):
        if fingerprint(known[number]) != scored:
            raise ConfigError(
                f"{where} is of another benchmark: its run {number} is not that of "
                f"{benchmark.path}; make it with dtb score"
            )
    if rows and not own:
        raise ConfigError(f"{where} has no run of {benchmark.path}; make it with dtb score")
    return own
