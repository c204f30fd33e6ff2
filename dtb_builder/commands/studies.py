"""Commands that make a benchmark of others: unite several, or take a subset of one."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtb_builder.commands.adding import add_command, benchmark, here, numbers, target
from dtb_builder.commands.progress import progress
from dtb_builder.errors import ConfigError, DTBError
from dtb_builder.extras import extras_are_named
from dtb_builder.shown import shown_lines

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add them to the command line."""
    unite = add_command(
        commands,
        "unite",
        _unite,
        "Unite benchmarks with the same recipe into one benchmark.",
        "runs/first runs/second --into both.h5",
    )
    unite.add_argument("files", metavar="FILE_OR_FOLDER", type=benchmark, nargs="+")
    unite.add_argument(
        "--keep", choices=["first"], help="if bits of a run differ, keep the first file's run"
    )
    subset = add_command(
        commands,
        "subset",
        _subset,
        "Write a benchmark with fewer runs or fewer states.",
        "runs/quickstart --runs 0-3 --states ends --into small.h5",
    )
    subset.add_argument("file", metavar="FILE_OR_FOLDER", type=benchmark)
    subset.add_argument("--runs", metavar="FIRST-LAST", help="their numbers, such as 0-9 or 0,4")
    subset.add_argument(
        "--genotypes", metavar="LIST", type=here, help="a file with a genotype on each line"
    )
    subset.add_argument(
        "--states",
        choices=["all", "ends", "logarithmic", "none"],
        default="all",
        help="ends: the first and the last epoch; logarithmic: epochs 0, 1, 2, 4, 8 ...",
    )
    for command in (unite, subset):
        command.add_argument("--into", metavar="NEW_FILE", type=target, required=True)
        command.add_argument(
            "--volume-size", metavar="BYTES", type=float, help="write states to files of this size"
        )


def _unite(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.generation.unite import unite

    files: list[Path] = given.files
    copied = unite(
        files, given.into, keep_first=given.keep == "first", volume_size=_size(given.volume_size)
    )
    _show(given.into, copied, "unite")
    num_runs = 0
    for file in files:
        with Benchmark(file) as benchmark:
            num_runs += len(benchmark)
    with Benchmark(given.into) as benchmark:
        print(f"{len(benchmark)} of {num_runs} runs in {len(files)} files are different")
    _copy_scores(files, given.into)
    return 0


def _subset(given: argparse.Namespace) -> int:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.dataset.subset import copied_subset
    from dtb_builder.space import read_genotypes

    with Benchmark(given.file) as benchmark:
        runs: set[int] | None = None
        if given.runs is not None:
            last = int(
                max([*benchmark.numbers, *(f.number for f in benchmark.failures)], default=0)
            )
            runs = {number for number in numbers(given.runs) if number <= last}
        if given.genotypes is not None:
            genotypes = read_genotypes(given.genotypes)
            of = [benchmark.runs_of(genotype) for genotype in genotypes]
            listed = {run.number for runs_of in of for run in runs_of}
            print(f"{sum(map(bool, of))} of the {len(of)} genotypes of {given.genotypes} are there")
            runs = listed if runs is None else runs & listed
        if runs is not None and not runs:
            raise ConfigError(f"{given.file} has none of these runs")
        copied = copied_subset(
            benchmark,
            runs,
            into=given.into,
            states=given.states,
            volume_size=_size(given.volume_size),
        )
        _show(given.into, copied, "subset")
    _copy_scores([given.file], given.into)
    return 0


def _copy_scores(files: Sequence[Path], copy: Path) -> None:
    """Write the files' scores beside the copy, which is whole without them too."""
    originals = [file.with_name("scores.parquet") for file in files]
    originals = [original for original in originals if original.exists()]
    into = copy.with_name("scores.parquet")
    if not originals:
        return
    if into.exists():
        print(f"the scores are not copied: {into} exists")
        return
    try:
        with extras_are_named("copying scores"):
            from dtb_builder.stages.scoring.copied import copy_scores

            num_rows = copy_scores(originals, copy, into)
    except (DTBError, OSError) as error:
        print(f"the scores are not copied: {shown_lines(str(error))}")
    else:
        print(
            f"{into}: {num_rows} scored states" if num_rows else "its runs have no scores to copy"
        )


def _show(into: Path, copied: Any, title: str) -> None:
    from dtb_builder.dataset import Benchmark
    from dtb_builder.stages.work.disk import storage_is_named

    with (
        storage_is_named(into.absolute().parent),
        progress(unit="B", unit_scale=True, desc=title) as bar,
    ):
        for run in copied:
            bar.update(run.num_bytes)
    with Benchmark(into) as benchmark:
        print(
            f"{into}: {len(benchmark)} runs of {benchmark.num_epochs} epochs, "
            f"{benchmark.num_states} states"
        )


def _size(given: float | None) -> int | None:
    if given is not None and not 1 <= given < math.inf:
        raise ConfigError(f"--volume-size must be a number of bytes, at least 1, got {given}")
    return None if given is None else int(given)
