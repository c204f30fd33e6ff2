"""What a plan will cost, from two real epochs of three of its genotypes on this machine."""

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
"""Genotypes whose multiply-accumulates are counted, to choose a light, a middle and a heavy one."""

_TIMED_EPOCHS = 2

_TENSOR_BYTES = 89
"""Of a tensor's row in a run's tensor table."""

_ROW_BYTES = 98
"""Of an epoch's metrics, its state's checksum and its environment."""

_MOMENT_BYTES = 40
"""Of where a moment's state and momentum lie."""


@dataclass(frozen=True)
class _Timing:
    """What one genotype took, as its worker would.

    Attributes:
        begin: seconds until epoch 0 was stored: images and network made, evaluated and captured.
        epoch: seconds of a later epoch, on average.
        table_bytes: of its tensor table.
        state_bytes: of a state that is stored as it is, on average.
        difference_bytes: of one that is stored as a difference, on average.
        momentum_bytes: of a state's momentum, on average.
    """

    begin: float
    epoch: float
    table_bytes: int
    state_bytes: float
    difference_bytes: float
    momentum_bytes: float


def calibrate(folder: RunFolder) -> Estimate:
    """Train and store two epochs of three genotypes, beside the run folder, and scale them up.

    The three are the light, the middle and the heavy third's middle, by their multiply-accumulates,
    of the plan's first genotypes; so that they stand for all of them. Nothing is left behind.

    Raises:
        ConfigError: the folder is not planned or a branch, or its device is not here.
        ImagesError: the images are not here.
    """
    config = folder.config
    if config.compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--calibrate times the plan's own device, and this machine has no cuda")
    if config.branch is not None:
        raise ConfigError("--calibrate times runs from their initialisation, not a branch's")
    num_epochs = config.recipe.num_epochs
    timings = _timings(folder, _representative(folder))
    # What only the first one does, a worker on the CPU does once, and one on a GPU for every task.
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
    """Up to three runs of different genotypes that stand for the others."""
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
    """Train each for two epochs, where what is stored goes to the run folder's own disk."""
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
