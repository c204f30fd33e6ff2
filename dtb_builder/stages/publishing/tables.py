"""Find a benchmark's runs by what a person types, and print tables of them."""

import re
from collections.abc import Iterable

import numpy as np

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.errors import NoSuchRunError
from dtb_builder.record import METRICS
from dtb_builder.space import Genotype
from dtb_builder.space.listing import find_genotype
from dtb_builder.stages.work.text_table import print_table

__all__ = ["found_runs", "print_run", "print_runs"]

_SHOWN = ("valid_accuracy", "test_accuracy", "train_accuracy", "train_loss", "valid_loss")
_MISSING = "-"
_KEY = re.compile("[0-9a-f]{4,64}")
_BLOCK_RUNS = 4096
_NUM_COMPARED = 32
"""Genotypes with the fewest other numbers, whose edits are then counted."""


def found_runs(benchmark: Benchmark, text: str) -> tuple[Run, ...]:
    """The runs of a genotype: of its text, its name or the first digits of its key.

    Raises:
        NoSuchRunError: there is none; the message names the nearest ones.
        GenotypeError: the text is none of these.
    """
    if _KEY.fullmatch(text):
        blocks = benchmark.streamed(["runs/key"], _BLOCK_RUNS)
        mask = [key.tobytes().hex().startswith(text) for each in blocks for key in each["runs/key"]]
        if runs := benchmark.select(mask):
            return runs
        raise NoSuchRunError(f"{benchmark.path} has no genotype whose key begins with {text}")
    wanted = find_genotype(text)
    if runs := benchmark.runs_of(wanted):
        return runs
    nearest = "; the nearest are:" if len(benchmark) else ""
    lines = [f"{benchmark.path} has no run of {wanted.short_name}{nearest}"]
    lines += [
        f"  run {run.number} of {run.genotype.short_name}: "
        + (f"{edits} edits" if edits else "isomorphic")
        for run, edits in _nearest(benchmark, wanted)
    ]
    raise NoSuchRunError("\n".join(lines))


def _nearest(benchmark: Benchmark, wanted: Genotype) -> list[tuple[Run, int]]:
    """The three runs whose genotypes need the fewest edits, of those that look most alike."""
    differ = benchmark.genotypes != wanted.canonical().to_array()
    rows = np.argsort(differ.sum((1, 2, 3)), kind="stable")[:_NUM_COMPARED]
    runs = {run.genotype: run for run in (benchmark[int(row)] for row in rows[::-1])}
    compared = [(run, genotype.distance(wanted)) for genotype, run in runs.items()]
    return sorted(compared, key=lambda each: (each[1], each[0].number))[:3]


def print_runs(runs: Iterable[Run], *, epoch: int, wide: bool = False) -> None:
    """Print a line for every run, with its metrics at an epoch and its genotype.

    Args:
        runs: the runs.
        epoch: the epoch.
        wide: print genotypes whole and not by name or key, and all columns in one line.
    """
    lines = [["run", "seed", "genotype", "parameters", *_SHOWN]]
    for run in runs:
        genotype = str(run.genotype) if wide else run.genotype.short_name
        facts = [str(run.number), str(run.seed), genotype, str(run.num_parameters)]
        lines.append([*facts, *(_cell(run, name, epoch) for name in _SHOWN)])
    print_table(lines, align=str.rjust, wide=wide)


def print_run(run: Run, *, wide: bool = False) -> None:
    """Print a run's facts, and a line for every epoch with every metric.

    Args:
        run: the run.
        wide: print all columns in one line.
    """
    seeds = f"seed {run.seed}  order seed {run.order_seed}"
    print(f"run {run.number}  {seeds}  {run.num_parameters:,} parameters")
    print(run.genotype)
    lines = [["epoch", *METRICS, "state"]]
    for epoch in range(len(run.curve("valid_accuracy"))):
        state = "kept" if epoch in run.state_epochs else _MISSING
        lines.append([str(epoch), *(_cell(run, name, epoch) for name in METRICS), state])
    print_table(lines, align=str.rjust, wide=wide)


def _cell(run: Run, name: str, epoch: int) -> str:
    """A metric, or a dash where it was not measured."""
    value = run.curve(name)[epoch]
    return _MISSING if value is np.ma.masked else f"{value:.4f}"
