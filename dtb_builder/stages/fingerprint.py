"""Which training a run is of, so that scores of one are not taken for those of another."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.errors import ConfigError
from dtb_builder.record import METRICS

__all__ = ["check_scores", "fingerprint"]


def fingerprint(run: Run) -> str:
    """A hash of the run's curves."""
    digest = hashlib.sha256()
    for name in METRICS:
        digest.update(run.curve(name).filled(-1.0).tobytes())
    return digest.hexdigest()[:16]


def check_scores(
    rows: Iterable[tuple[int, str]], benchmark: Benchmark, file: Path | None = None
) -> None:
    """Refuse scores of other trainings than a benchmark's.

    Args:
        rows: the run's number and fingerprint of each row.
        benchmark: the benchmark.
        file: where the rows stand.

    Raises:
        ConfigError: there is such a row.
    """
    known = {run.number: run for run in benchmark}
    for number, scored in dict.fromkeys(rows):
        if number not in known or fingerprint(known[number]) != scored:
            raise ConfigError(
                f"{file or 'the file of scores'} is of another benchmark: its run {number} is not "
                f"that of {benchmark.path}; dtb score makes one"
            )
