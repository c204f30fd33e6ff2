"""The tasks of a worker: score a run's states, or some genotypes of a reference; without Ray."""

import json
import time
from collections.abc import Collection, Iterable, Mapping
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
from dtb_builder.scores.own import OwnScore, score_own
from dtb_builder.scores.probed import probe_tensor
from dtb_builder.scores.reference import GENOTYPE_SEED
from dtb_builder.scores.scoring import Probe, Scored, score_network
from dtb_builder.stages.scoring.config import ScoreConfig
from dtb_builder.stages.scoring.folder import ScoreFolder
from dtb_builder.stages.scoring.own import NamedScore, load_score
from dtb_builder.stages.scoring.sources import Moment, ScoredState, Source, Unit
from dtb_builder.stages.scoring.table import seconds_name
from dtb_builder.stages.work.disk import is_storage_fault, storage_is_named
from dtb_builder.stages.work.lines import append_line, open_lines
from dtb_builder.training.environment import environment
from dtb_builder.training.machine import set_up_machine

__all__ = [
    "ScoreJob",
    "asked",
    "chosen_probe",
    "own_marks",
    "record_failure",
    "score_reference",
    "score_unit",
    "scored_rows",
]


@dataclass(frozen=True)
class ScoreJob:
    """The common arguments of all tasks of a scoring; small, since every worker gets it.

    Attributes:
        source: the networks to score.
        file: the file of scores.
        config: the settings that decide the scores.
        images: the images from which the probe is drawn.
        images_sha256: the hash that the images must have; None for any.
        own: scores of the user, besides those of the config.
    """

    source: Source
    file: Path
    config: ScoreConfig
    images: ImagesConfig
    images_sha256: str | None
    own: tuple[NamedScore, ...] = ()


def score_unit(job: ScoreJob, unit: Unit) -> int:
    """Score the states of a run that have no row yet, and return how many of its rows failed.

    Each row is on disk before the next state is scored. An error of a state is recorded in its row.

    Raises:
        StorageError: the scores cannot be written.
        ImagesError: the images are missing, or not those of the training.
        MissingVolumeError: a states file is not in the folder of the benchmark.
        ConfigError: this machine does not have the device of the config.
    """
    folder = ScoreFolder(job.file)
    lines = folder.lines_file(unit.number)
    with storage_is_named(job.file.parent), folder.unit_locked(lines):
        rows = open_lines(lines)
        scored = scored_rows(job, rows)
        left = _wanted(job, unit) - scored.keys()
        num_failed = sum(row["errors"] is not None for row in scored.values())
        if left:
            own = {score.name: load_score(score) for score in job.own}
            before = _by_state(job, rows)
            probe, chosen = _probe(job, unit.number)
            known: dict[str, Any] = {}
            with threadpool_limits(job.config.compute.threads):
                for state in job.source.states(unit.number):
                    for size in job.config.sizes:
                        if (state.moment, size) in left:
                            first = chosen.first(size)
                            earlier = before.get((state.moment, size))
                            row = _row(
                                job, unit, state, probe.first(size), first, known, own, earlier
                            )
                            append_line(lines, row)
                            num_failed += row["errors"] is not None
    return num_failed


def score_reference(job: ScoreJob, spec: NetworkSpec, size: int, numbers: range) -> None:
    """Compute the atoms of some genotypes of the reference; each is on disk before the next."""
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
    """Record the states of a run without a row as failed; return how many of its rows failed.

    Raises:
        StorageError: the scores cannot be written.
        LockedError: a worker that lives on after its cluster still scores the run.
    """
    folder = ScoreFolder(job.file)
    lines = folder.lines_file(unit.number)
    with storage_is_named(job.file.parent), folder.unit_locked(lines):
        rows = open_lines(lines)
        left, before = _wanted(job, unit) - scored_rows(job, rows).keys(), _by_state(job, rows)
        for moment in unit.moments:
            for size in job.config.sizes:
                if (moment, size) in left:
                    earlier = before.get((moment, size))
                    rows.append(_failed_row(job, unit, moment, size, reason, earlier))
                    append_line(lines, rows[-1])
        return sum(row["errors"] is not None for row in scored_rows(job, rows).values())


def chosen_probe(job: ScoreJob) -> ProbeImages:
    """The probe images of a scoring, for the largest number; smaller probes are the first of them.

    Raises:
        ImagesError: the images are missing, or not those of the training.
        ConfigError: there are too few different images.
    """
    return _images_and_probe(job.images, job.images_sha256, job.config, job.file)[1]


def error_row(
    unit: Unit, epoch: int | None, step: int | None, num_images: int, reason: str
) -> dict[str, Any]:
    """The row of a state that could not be scored."""
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


def scored_rows(
    job: ScoreJob, rows: Iterable[Mapping[str, Any]]
) -> dict[tuple[Moment, int], Mapping[str, Any]]:
    """The last row of each state and number of probe images that has all scores of a job."""
    wanted = _marks(job).items()
    return {asked(row, job.config): row for row in rows if wanted <= row.get("own", {}).items()}


def _by_state(
    job: ScoreJob, rows: Iterable[Mapping[str, Any]]
) -> dict[tuple[Moment, int], Mapping[str, Any]]:
    """The last row of each state that was scored, whatever own scores it has."""
    return {asked(row, job.config): row for row in rows if "state" not in _errors(row)}


def _wanted(job: ScoreJob, unit: Unit) -> set[tuple[Moment, int]]:
    return {(moment, size) for moment in unit.moments for size in job.config.sizes}


def _marks(job: ScoreJob) -> dict[str, str]:
    """What a row says of own scores: by which code each was computed."""
    return {score.name: score.sha256 for score in job.own}


def own_marks(row: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, str]:
    """By which code each own score of a row in a file was computed, failed ones included.

    The row may lack some that the file has: it may come from a union, or from a later scoring.
    """
    failed = _errors(row).keys()
    return {
        name: each["sha256"]
        for name, each in about.items()
        if row[name] is not None or failed & {name, "state"}
    }


def asked(row: Mapping[str, Any], config: ScoreConfig) -> tuple[Moment, int]:
    """The state and the number of probe images of a row."""
    moment = Moment(epoch=row["asked_epoch"], step=row["asked_step"])
    # An error row of an older version does not have the number.
    return moment, row.get("num_images") or config.sizes[-1]


def _row(
    job: ScoreJob,
    unit: Unit,
    state: ScoredState,
    probe: Probe,
    chosen: ProbeImages,
    known: dict[str, Any],
    own: Mapping[str, OwnScore],
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A state's row; scores that training does not change are cached in ``known``.

    An earlier row that lacks only own scores keeps its other scores.
    """
    epoch, step = state.moment.epoch, state.moment.step
    marks: dict[str, str] = {} if earlier is None else earlier.get("own", {})
    new = {name: own[name] for name, mark in _marks(job).items() if marks.get(name) != mark}
    marks = marks | _marks(job)
    begin = time.perf_counter()
    try:
        network, num_steps = state.load()
        network = network.to(job.config.compute.device)
        seconds = time.perf_counter() - begin
        scored = Scored()
        if earlier is None:
            names: Collection[str] = [name for name in job.config.scores if name not in known]
            units = state.activation_units
            scored = score_network(network, probe, names, activation_units=units)
        score_own(scored, network, probe, new)
    except Exception as error:
        if is_storage_fault(error, job.file.parent) or isinstance(
            error, ImagesError | MissingVolumeError
        ):
            raise
        reason = f"{type(error).__name__}: {error}"
        return _failed_row(job, unit, state.moment, len(chosen), reason, earlier)
    values = _columns(scored)
    if earlier is not None:
        errors = _errors(earlier, without=new) | scored.errors
        return {**earlier, **_no_values(new), **values, "own": marks, "errors": _text(errors)}
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
        "own": marks,
        "errors": _text(scored.errors),
    }


def _failed_row(
    job: ScoreJob,
    unit: Unit,
    moment: Moment,
    size: int,
    reason: str,
    earlier: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The row of a state of which nothing more is known; it keeps what an earlier row has.

    Its reason names no folder, since the file may be published.
    """
    reason = reason.replace(f"{job.file.parent}/", "")
    if earlier is None:
        failed = error_row(unit, moment.epoch, moment.step, size, reason)
        return failed | {"own": _marks(job)}
    marks = earlier.get("own", {})
    new = [name for name, mark in _marks(job).items() if marks.get(name) != mark]
    errors = _errors(earlier, without=new) | {"state": reason}
    marks = marks | _marks(job)
    return {**earlier, **_no_values(new), "own": marks, "errors": _text(errors)}


def _no_values(names: Iterable[str]) -> dict[str, None]:
    return {column: None for name in names for column in (name, seconds_name(name))}


def _errors(row: Mapping[str, Any], *, without: Collection[str] = ()) -> dict[str, str]:
    errors = json.loads(row["errors"] or "{}")
    return {name: reason for name, reason in errors.items() if name not in without}


def _text(errors: Mapping[str, str]) -> str | None:
    return json.dumps(errors, sort_keys=True) if errors else None


def _columns(scored: Scored) -> dict[str, float]:
    seconds = {seconds_name(name): value for name, value in scored.seconds.items()}
    return scored.values | seconds


def _probe(job: ScoreJob, number: int) -> tuple[Probe, ProbeImages]:
    """Set up torch, and return the probe of a unit on the device."""
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
    """Cached, since a CPU worker scores one run after the other."""
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
