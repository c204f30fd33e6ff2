"""Estimate the cost of a plan by training three of its genotypes for two epochs."""

import itertools
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from dtb_builder.dataset.journal import read_journal
from dtb_builder.errors import ConfigError
from dtb_builder.network.network import Network
from dtb_builder.scores.size import multiply_accumulates
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.estimate import Estimate, RunSeconds
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.worker import training
from dtb_builder.stages.settings.config import deciding_settings

__all__ = ["Timing", "calibrated", "timings"]

_SAMPLE = 60
"""The number of genotypes whose multiply-accumulates are counted, to choose three of them."""

_TIMED_EPOCHS = 2

_TENSOR_BYTES = 89
"""The bytes of a tensor's row in a run's tensor table."""

_ROW_BYTES = 98
"""The bytes of an epoch's metrics, of its state's checksum and of its environment."""

_MOMENT_BYTES = 40
"""The bytes of the offsets, lengths and checksums of a moment's state and momentum."""


@dataclass(frozen=True)
class Timing:
    """The seconds and bytes of a genotype, measured as its worker would train it.

    Attributes:
        number: the number of its run.
        training: the mean seconds of an epoch's training steps.
        evaluation: the mean seconds of an evaluation.
        storing: the mean seconds of storing an epoch's state and checkpoint.
        start: the seconds until epoch 0 is stored, without its evaluation.
        table_bytes: the bytes of its tensor table.
        state_bytes: the mean bytes of a whole state.
        difference_bytes: the mean bytes of a state that is stored as a difference.
        momentum_bytes: the mean bytes of a momentum.
    """

    number: int
    training: float
    evaluation: float
    storing: float
    start: float
    table_bytes: int
    state_bytes: float
    difference_bytes: float
    momentum_bytes: float


def timings(folder: RunFolder) -> Iterator[Timing]:
    """Train and store two epochs of three genotypes in a temporary folder.

    The plan's first genotypes are sorted by their multiply-accumulates; the middle genotype of each
    third is trained. The temporary folder is removed.

    Raises:
        ConfigError: the folder is not planned or is a branch, or this machine lacks its device.
        ImagesError: the images are missing.
    """
    config = folder.config
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--calibrate times the plan's own device, and this machine has no cuda")
    if config.branch is not None:
        raise ConfigError("--calibrate times runs from their initialisation, not a branch's")
    runs = [replace(run, shard=0) for run in _representative(folder)]
    # Evaluate every epoch: the epochs that the recipe lists may come later.
    config = replace(config, recipe=replace(config.recipe, evaluate_epochs=None))
    provenance = folder.provenance_settings | {"config": deciding_settings(config)}
    scratch = Path(tempfile.mkdtemp(prefix=".calibrate-", dir=folder.path))
    try:
        copy = RunFolder(scratch)
        copy.write_plan(config, provenance, runs)
        for run in runs:
            yield _timing(copy, run)
    finally:
        shutil.rmtree(scratch)


def calibrated(folder: RunFolder, timed: Sequence[Timing]) -> Estimate:
    """The cost of a plan, from the timings of some of its genotypes."""
    config = folder.config
    num_epochs = config.recipe.num_epochs
    # The first run also starts the process: once per CPU worker, once per task of a GPU worker.
    start = mean(timing.start for timing in timed[1:]) if len(timed) > 1 else timed[0].start
    if config.compute.device == "cuda":
        start = timed[0].start
    num_differences = sum(moment.base is not None for moment in folder.moments)
    run_bytes = mean(
        t.table_bytes
        + (len(folder.moments) - num_differences) * t.state_bytes
        + num_differences * t.difference_bytes
        + len(config.momentum_epochs) * t.momentum_bytes
        for t in timed
    )
    run_bytes += _ROW_BYTES * (num_epochs + 1) + _MOMENT_BYTES * len(folder.moments)
    return Estimate(
        num_runs=folder.num_runs,
        num_shards=folder.num_shards,
        num_bytes=round(folder.num_runs * run_bytes),
        run=RunSeconds(
            training=num_epochs * mean(timing.training for timing in timed),
            evaluation=config.num_evaluations * mean(timing.evaluation for timing in timed),
            storing=num_epochs * mean(timing.storing for timing in timed) + start,
        ),
        num_evaluated=folder.num_evaluated,
        device=config.compute.device,
    )


def _representative(folder: RunFolder) -> list[PlannedRun]:
    """Up to three runs of different genotypes that represent the others."""
    spec = folder.network_spec
    shape = (spec.input_channels, spec.image_size, spec.image_size)
    runs = {run.genotype: run for run in itertools.islice(folder.plan(), _SAMPLE)}
    costs = {
        text: multiply_accumulates(Network(Genotype.parse(text), spec), shape) for text in runs
    }
    ordered = sorted(runs, key=lambda text: costs[text])
    middles = dict.fromkeys(len(ordered) * sixth // 6 for sixth in (1, 3, 5))
    return [runs[ordered[i]] for i in middles]


def _timing(folder: RunFolder, run: PlannedRun) -> Timing:
    quiet = logging.Logger("calibrate", logging.CRITICAL)
    ends = [time.perf_counter()]
    metrics: list[Mapping[str, float]] = []
    for epoch, measured in training(folder, run, quiet):
        ends.append(time.perf_counter())
        metrics.append(measured)
        if epoch == min(_TIMED_EPOCHS, folder.config.recipe.num_epochs):
            break
    journal = read_journal(folder.journal_file(run))
    assert journal is not None, "training has just written it"
    frames = [kept.frame[1] for kept in journal.moments if kept.moment.base is None]
    differences = [kept.frame[1] for kept in journal.moments if kept.moment.base is not None]
    momentum = [kept.momentum[1] for kept in journal.moments if kept.momentum[1]]
    train_seconds = mean(measured["train_seconds"] for measured in metrics[1:])
    evaluation = mean(measured["evaluation_seconds"] for measured in metrics[1:])
    return Timing(
        number=run.number,
        training=train_seconds,
        evaluation=evaluation,
        storing=(ends[-1] - ends[1]) / (len(ends) - 2) - train_seconds - evaluation,
        start=ends[1] - ends[0] - metrics[0]["evaluation_seconds"],
        table_bytes=_TENSOR_BYTES * len(journal.run.tensors.names),
        state_bytes=mean(frames) if frames else 0.0,
        difference_bytes=mean(differences or frames or [0.0]),
        momentum_bytes=mean(momentum or frames or [0.0]),
    )
