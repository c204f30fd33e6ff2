"""Print tables of a benchmark's runs."""

from collections.abc import Iterable

import numpy as np

from dtb_builder.dataset import Run
from dtb_builder.record import METRICS
from dtb_builder.stages.work.text_table import print_table

__all__ = ["print_run", "print_runs"]

_SHOWN = ("train_accuracy", "valid_accuracy", "test_accuracy", "train_loss", "valid_loss")
_MISSING = "-"


def print_runs(runs: Iterable[Run], *, epoch: int) -> None:
    """Print a line for every run, with its metrics at an epoch and its genotype."""
    lines = [["run", "seed", "parameters", *_SHOWN, "genotype"]]
    for run in runs:
        facts = [str(run.number), str(run.seed), str(run.num_parameters)]
        lines.append([*facts, *(_cell(run, name, epoch) for name in _SHOWN), str(run.genotype)])
    print_table(lines, align=str.rjust)


def print_run(run: Run) -> None:
    """Print a run's facts, and a line for every epoch with every metric."""
    seeds = f"seed {run.seed}  order seed {run.order_seed}"
    print(f"run {run.number}  {seeds}  {run.num_parameters:,} parameters")
    print(run.genotype)
    lines = [["epoch", *METRICS, "state"]]
    for epoch in range(len(run.curve("valid_accuracy"))):
        state = "kept" if epoch in run.state_epochs else _MISSING
        lines.append([str(epoch), *(_cell(run, name, epoch) for name in METRICS), state])
    print_table(lines, align=str.rjust)


def _cell(run: Run, name: str, epoch: int) -> str:
    """A metric, or a dash where it was not measured."""
    value = run.curve(name)[epoch]
    return _MISSING if value is np.ma.masked else f"{value:.4f}"
