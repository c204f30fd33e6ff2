"""The scores of copied runs, for the file of scores beside a union or a subset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.errors import PlanMismatchError
from dtb_builder.stages.scoring.driver import references_of, with_das
from dtb_builder.stages.scoring.fingerprint import fingerprint
from dtb_builder.stages.scoring.folder import compared
from dtb_builder.stages.scoring.sources import BenchmarkSource
from dtb_builder.stages.scoring.table import ScoreTable, moment_of, read_scores, write_scores
from dtb_builder.stages.settings.plain import check_settings

__all__ = ["copy_scores"]


def copy_scores(originals: Sequence[Path], copy: Path, into: Path) -> int:
    """Write the scores that files of scores have for the runs of a copy, under their numbers there.

    All DAS have the scale of the first file's reference sample. If there are no scores of these
    runs, no file is written.

    Args:
        originals: the files of scores; a state that several have is taken from the first in which
            it has all its scores, if there is one.
        copy: the benchmark with the copied runs.
        into: the file of scores to write.

    Returns:
        the number of rows written.

    Raises:
        PlanMismatchError: the files have other settings or probes, or own scores of other code.
        DamagedFileError: one of the files is damaged.
    """
    tables = [read_scores(original) for original in originals]
    own: dict[str, Any] = {}
    references = []
    for original, table in zip(originals, tables, strict=True):
        what = f"{original} has other scores than {originals[0]}"
        check_settings(
            compared({**table.about, "source": None}),
            compared({**tables[0].about, "source": None}),
            what=what,
            instead="score both with the same settings",
            then="in it",
            now="in the other",
        )
        for name, about in table.about.get("own", {}).items():
            if own.setdefault(name, about) != about:
                raise PlanMismatchError(f"{what}: {name} is of other code")
        with damage_is_named(original):
            references.append(references_of(table.about))
    with Benchmark(copy) as benchmark:
        numbers = {fingerprint(run): run.number for run in benchmark}
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for table, reference in zip(tables, references, strict=True):
        for row in table.rows:
            number = numbers.get(row["fingerprint"])
            key = number, moment_of(row), row["num_images"]
            if number is None or (key in found and (row["errors"] or not found[key]["errors"])):
                continue
            found[key] = {**row, "run": number}
            if reference != references[0]:
                sample = references[0].get(row["num_images"])
                found[key] = with_das({**found[key], "das": None}, sample)
    if not found:
        return 0
    about = {**tables[0].about, "source": BenchmarkSource(copy).about(), "own": own}
    rows = sorted(found.values(), key=lambda row: row["run"])
    write_scores(into, ScoreTable(about, rows))
    return len(rows)
