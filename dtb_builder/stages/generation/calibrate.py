"""Estimate the cost of a plan by training three of its genotypes for two epochs."""

import itertools
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from dtb_builder.dataset.journal import read_journal
from dtb_builder.errors import ConfigError
from dtb_builder.images.settings import load_split_images
from dtb_builder.network.network import Network
from dtb_builder.scores.size import multiply_accumulates
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.estimate import Estimate
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.worker import training
from dtb_builder.stages.settings.network import network_spec

__all__ = ["calibrate"]

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
class _Timing:
    """The seconds and bytes of a genotype, measured as its worker would train it.

    Attributes:
        begin: the seconds until epoch 0 is stored, with loading images, evaluating and capturing.
        epoch: the mean seconds of a later epoch.
        table_bytes: the bytes of its tensor table.
        state_bytes: the mean bytes of a whole state.
        difference_bytes: the mean bytes of a state that is stored as a difference.
        momentum_bytes: the mean bytes of a momentum.
    """

    begin: float
    epoch: float
    table_bytes: int
    state_bytes: float
    difference_bytes: float
    momentum_bytes: float


def calibrate(folder: RunFolder) -> Estimate:
    """Train and store two epochs of three genotypes in a temporary folder, and extrapolate.

    The plan's first genotypes are sorted by their multiply-accumulates; the three are the middle
    ones of the lower, middle and upper third. The temporary folder is removed.

    Raises:
        ConfigError: the folder is not planned or is a branch, or this machine lacks its device.
        ImagesError: the images are missing.
    """
    config = folder.config
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--calibrate times the plan's own device, and this machine has no cuda")
    if config.branch is not None:
        raise ConfigError("--calibrate times runs from their initialisation, not a branch's")
    num_epochs = config.recipe.num_epochs
    timings = _timings(folder, _representative(folder))
    # The first run also starts the process: a CPU worker does so once, a GPU worker for every task.
    begin = mean(timing.begin for timing in timings[1:]) if len(timings) > 1 else timings[0].begin
    if config.compute.device == "cuda":
        begin = timings[0].begin
    seconds = begin + num_epochs * mean(timing.epoch for timing in timings)
    num_differences = sum(moment.base is not None for moment in folder.moments)
    run_bytes = mean(
        t.table_bytes
        + (len(folder.moments) - num_differences) * t.state_bytes
        + num_differences * t.difference_bytes
        + len(config.momentum_epochs) * t.momentum_bytes
        for t in timings
    )
    run_bytes += _ROW_BYTES * (num_epochs + 1) + _MOMENT_BYTES * len(folder.moments)
    return Estimate(
        num_runs=folder.num_runs,
        num_shards=folder.num_shards,
        num_bytes=round(folder.num_runs * run_bytes),
        hours=folder.num_runs * seconds / 3600,
        device=config.compute.device,
    )


def _representative(folder: RunFolder) -> list[PlannedRun]:
    """Up to three runs of different genotypes that represent the others."""
    images, _ = load_split_images(folder.config.images)
    spec = network_spec(folder.config.network, images)
    shape = images.train_images.shape[1:]
    runs = {run.genotype: run for run in itertools.islice(folder.plan(), _SAMPLE)}
    costs = {
        text: multiply_accumulates(Network(Genotype.parse(text), spec), shape) for text in runs
    }
    ordered = sorted(runs, key=lambda text: costs[text])
    middles = dict.fromkeys(len(ordered) * sixth // 6 for sixth in (1, 3, 5))
    return [runs[ordered[i]] for i in middles]


def _timings(folder: RunFolder, runs: Sequence[PlannedRun]) -> list[_Timing]:
    """Train each run for two epochs, storing on the run folder's disk."""
    scratch = Path(tempfile.mkdtemp(prefix=".calibrate-", dir=folder.path))
    try:
        copy = RunFolder(scratch)
        for file in (folder.config_file, folder.provenance_file, folder.plan_file):
            (scratch / file.name).symlink_to(file.absolute())
        return [_timing(copy, replace(run, shard=0)) for run in runs]
    finally:
        shutil.rmtree(scratch)


def _timing(folder: RunFolder, run: PlannedRun) -> _Timing:
    quiet = logging.Logger("calibrate", logging.CRITICAL)
    moments = [time.perf_counter()]
    for epoch, _ in training(folder, run, quiet):
        moments.append(time.perf_counter())
        if epoch == min(_TIMED_EPOCHS, folder.config.recipe.num_epochs):
            break
    journal = read_journal(folder.journal_file(run))
    assert journal is not None, "training has just written it"
    frames = [kept.frame[1] for kept in journal.moments if kept.moment.base is None]
    differences = [kept.frame[1] for kept in journal.moments if kept.moment.base is not None]
    momentum = [kept.momentum[1] for kept in journal.moments if kept.momentum[1]]
    return _Timing(
        begin=moments[1] - moments[0],
        epoch=(moments[-1] - moments[1]) / (len(moments) - 2),
        table_bytes=_TENSOR_BYTES * len(journal.run.tensors.names),
        state_bytes=mean(frames) if frames else 0.0,
        difference_bytes=mean(differences or frames or [0.0]),
        momentum_bytes=mean(momentum or frames or [0.0]),
    )
