"""What a worker does: score the states of one run, or a few genotypes of a reference; no Ray."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from dtb_builder.errors import ConfigError, ImagesError, MissingVolumeError, SingularKernelError
from dtb_builder.images.image_set import Images, check_images
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import ProbeImages, choose_probe
from dtb_builder.scores.drawing import draw_atoms
from dtb_builder.scores.names import ARCHITECTURE_SCORES
from dtb_builder.scores.probed import probe_tensor
from dtb_builder.scores.reference import GENOTYPE_SEED
from dtb_builder.scores.scoring import Probe, Scored, score_network
from dtb_builder.stages.scoring.config import ScoreConfig
from dtb_builder.stages.scoring.folder import ScoreFolder
from dtb_builder.stages.scoring.sources import Moment, ScoredState, Source, Unit
from dtb_builder.stages.scoring.table import seconds_name
from dtb_builder.stages.work.disk import is_storage_fault, storage_is_named
from dtb_builder.stages.work.lines import append_line, open_lines
from dtb_builder.training.environment import environment
from dtb_builder.training.machine import set_up_machine

__all__ = ["ScoreJob", "asked", "chosen_probe", "record_failure", "score_reference", "score_unit"]


@dataclass(frozen=True)
class ScoreJob:
    """What all tasks of a scoring have in common; small, for it goes to every worker.

    Attributes:
        source: what is scored.
        file: where the scores go.
        config: what decides them.
        images: which images the probe is drawn from, and where they are here.
        images_sha256: which they must be, None for any.
    """

    source: Source
    file: Path
    config: ScoreConfig
    images: ImagesConfig
    images_sha256: str | None


def score_unit(job: ScoreJob, unit: Unit) -> int:
    """Score what is left of a run's states, each safe on disk as it ends; how many have failed.

    What goes wrong with a state is recorded as its row, so that it stops nothing else.

    Raises:
        StorageError: the scores cannot be written. That is no fault of the run.
        ImagesError: the images are not here, or not those of the training. Nor is that.
        MissingVolumeError: a file of states is not beside the benchmark. Nor is that.
        ConfigError: this machine cannot do what the config asks for. Nor is that.
    """
    folder = ScoreFolder(job.file)
    lines = folder.lines_file(unit.number)
    with storage_is_named(job.file.parent), folder.unit_locked(lines):
        rows = open_lines(lines)
        left = _left(job, unit, rows)
        num_failed = sum(row["errors"] is not None for row in rows)
        if left:
            probe, chosen = _probe(job, unit.number)
            known: dict[str, Any] = {}
            with threadpool_limits(job.config.compute.threads):
                for state in job.source.states(unit.number):
                    for size in job.config.sizes:
                        if (state.moment, size) in left:
                            first = chosen.first(size)
                            row = _row(job, unit, state, probe.first(size), first, known)
                            append_line(lines, row)
                            num_failed += row["errors"] is not None
    return num_failed


def score_reference(job: ScoreJob, spec: NetworkSpec, size: int, numbers: range) -> None:
    """Find the atoms of some genotypes of the reference, each safe on disk as it ends."""
    folder = ScoreFolder(job.file)
    lines = folder.reference_file(size, numbers.start)
    with storage_is_named(job.file.parent), folder.unit_locked(lines):
        done = len(open_lines(lines))
        if done == len(numbers):
            return
        probe, _ = _probe(job, 0)
        with threadpool_limits(job.config.compute.threads):
            for number in numbers[done:]:
                line: dict[str, Any] = {"number": number, "ability": None, "units": None}
                try:
                    images = probe.first(size).images
                    ability, units = draw_atoms(spec, images, number, seed=GENOTYPE_SEED)
                    line |= {"ability": ability, "units": units}
                except SingularKernelError as error:
                    line["error"] = str(error)
                append_line(lines, line)


def record_failure(job: ScoreJob, unit: Unit, reason: str) -> int:
    """Record every state of a run that has no row yet as failed; how many have failed.

    Raises:
        StorageError: the scores cannot be written.
        LockedError: a worker that its cluster has given up is still at them.
    """
    folder = ScoreFolder(job.file)
    lines = folder.lines_file(unit.number)
    with storage_is_named(job.file.parent), folder.unit_locked(lines):
        rows = open_lines(lines)
        left = _left(job, unit, rows)
        for moment in unit.moments:
            for size in job.config.sizes:
                if (moment, size) in left:
                    rows.append(error_row(unit, moment.epoch, moment.step, size, reason))
                    append_line(lines, rows[-1])
        return sum(row["errors"] is not None for row in rows)


def chosen_probe(job: ScoreJob) -> ProbeImages:
    """The probe images of a scoring; of several numbers the most, of which others are the first.

    Raises:
        ImagesError: the images are not here, or not those of the training.
        ConfigError: there are not as many different ones.
    """
    return _images_and_probe(job.images, job.images_sha256, job.config, job.file)[1]


def error_row(
    unit: Unit, epoch: int | None, step: int | None, num_images: int, reason: str
) -> dict[str, Any]:
    """The row of a state that could not be scored at all."""
    return {
        "asked_epoch": epoch,
        "asked_step": step,
        "num_images": num_images,
        "run": unit.number,
        "seed": unit.seed,
        "genotype": unit.genotype,
        "fingerprint": unit.fingerprint,
        "epoch": epoch,
        "step": step,
        "errors": json.dumps({"state": reason}),
    }


def _left(job: ScoreJob, unit: Unit, rows: Sequence[Mapping[str, Any]]) -> set[tuple[Moment, int]]:
    """The states, and the numbers of probe images, that have no row yet."""
    done = {asked(row, job.config) for row in rows}
    return {(moment, size) for moment in unit.moments for size in job.config.sizes} - done


def asked(row: Mapping[str, Any], config: ScoreConfig) -> tuple[Moment, int]:
    """Of which state and with how many probe images a line is."""
    moment = Moment(epoch=row["asked_epoch"], step=row["asked_step"])
    # An older version's lines of what could not be scored do not say how many.
    return moment, row.get("num_images") or config.sizes[-1]


def _row(
    job: ScoreJob,
    unit: Unit,
    state: ScoredState,
    probe: Probe,
    chosen: ProbeImages,
    known: dict[str, Any],
) -> dict[str, Any]:
    """A state's row; scores that training does not change are remembered in ``known``."""
    epoch, step = state.moment.epoch, state.moment.step
    begin = time.perf_counter()
    try:
        network, num_steps = state.load()
        network = network.to(job.config.compute.device)
        seconds = time.perf_counter() - begin
        names: Collection[str] = [name for name in job.config.scores if name not in known]
        scored = score_network(network, probe, names, activation_units=state.activation_units)
    except Exception as error:
        if is_storage_fault(error, job.file.parent) or isinstance(
            error, ImagesError | MissingVolumeError
        ):
            raise
        return error_row(unit, epoch, step, len(chosen), f"{type(error).__name__}: {error}")
    values = _columns(scored)
    for name in ARCHITECTURE_SCORES & values.keys():
        known |= {name: values[name], seconds_name(name): values[seconds_name(name)]}
    return {
        **error_row(unit, epoch, num_steps, len(chosen), ""),
        **known,
        **values,
        "asked_step": step,
        "probe_sha256": chosen.sha256,
        "singular": scored.singular,
        "smallest_eigenvalue": scored.smallest_eigenvalue,
        "state_seconds": seconds,
        "environment": json.dumps(environment(job.config.compute.device), sort_keys=True),
        "errors": json.dumps(scored.errors, sort_keys=True) if scored.errors else None,
    }


def _columns(scored: Scored) -> dict[str, float]:
    seconds = {seconds_name(name): value for name, value in scored.seconds.items()}
    return scored.values | seconds


def _probe(job: ScoreJob, number: int) -> tuple[Probe, ProbeImages]:
    """The probe of a unit on the device, with torch set up."""
    compute = job.config.compute
    set_up_machine(compute)
    images, chosen = _images_and_probe(job.images, job.images_sha256, job.config, job.file)
    labels = torch.from_numpy(images.train_labels[chosen.indices])
    probe = Probe(
        images=job.source.adapted(probe_tensor(chosen, images.mean, images.std)).to(compute.device),
        labels=labels.to(compute.device),
        features=job.source.features(number),
    )
    return probe, chosen


@lru_cache(maxsize=1)
def _images_and_probe(
    config: ImagesConfig, sha256: str | None, scoring: ScoreConfig, user: Path
) -> tuple[Images, ProbeImages]:
    """Remembered, since a CPU worker scores one run after the other."""
    images, split = load_split_images(config)
    if sha256 is not None:
        check_images(images, sha256, user=user)
    try:
        probe = choose_probe(
            images.train_images, split.train, scoring.sizes[-1], seed=scoring.probe_seed
        )
    except ValueError as error:
        raise ConfigError(f"num_images, of {images.name}: {error}") from error
    return images, probe
