"""Score every stored state that has no scores yet, and write the file of scores."""

from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.errors import ConfigError
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import Atoms, ReferenceSample, das, find_reference
from dtb_builder.scores.reference import GENOTYPE_SEED, MIN_GENOTYPES, from_json
from dtb_builder.stages.scoring.config import ScoreConfig, ScoreLaunch
from dtb_builder.stages.scoring.folder import ScoreFolder, compared
from dtb_builder.stages.scoring.own import NamedScore
from dtb_builder.stages.scoring.sources import Moment, Source, Unit
from dtb_builder.stages.scoring.table import ScoreTable, moment_of, read_scores, write_scores
from dtb_builder.stages.scoring.worker import (
    ScoreJob,
    chosen_probe,
    own_marks,
    record_failure,
    score_reference,
    score_unit,
    scored_rows,
)
from dtb_builder.stages.settings.plain import check_settings
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.stages.work.engines import open_engine
from dtb_builder.stages.work.lines import read_lines, write_lines
from dtb_builder.stages.work.tasks import (
    Ended,
    Event,
    Failed,
    Postponed,
    Started,
    Task,
    Waited,
    run_tasks,
)

__all__ = ["ScoreProgress", "references_of", "score", "with_das"]

_REFERENCE_CHUNK = 20
"""The number of genotypes of a reference sample that a task draws."""

_OF_LINES = ("asked_epoch", "asked_step", "own")
"""The fields of a line that the file does not have."""


@dataclass(frozen=True)
class ScoreProgress:
    """The progress of a scoring.

    Attributes:
        num_states: the number of states that are scored or recorded as failed.
        num_failed: how many of these lack a score.
        num_wanted: the number of states of the whole file.
        message: a message for the user, or None.
    """

    num_states: int
    num_failed: int
    num_wanted: int
    message: str | None = None


def score(
    source: Source,
    file: Path,
    config: ScoreConfig,
    launch: ScoreLaunch,
    *,
    images_sha256: str | None,
    own: Sequence[NamedScore] = (),
) -> Iterator[ScoreProgress]:
    """Score the states of a source that have no scores yet, and then write the file of scores.

    The same source and config give the same scores, however often the scoring was stopped.

    Args:
        source: the networks to score.
        file: the file of scores.
        config: the settings that decide the scores.
        launch: where the work is done.
        images_sha256: the hash of the images of the training; None if the source does not have it.
        own: scores of the user. A file without their columns gets them, and keeps its other scores.

    Raises:
        LockedError: another process scores into this file.
        PlanMismatchError: the file is of another source, or was begun with other settings.
        ConfigError: there is no state to score, the cluster is too small for a task, a machine
            lacks the device, or there are too few different images for the probe.
        ImagesError: a worker does not have the images of the training.
        MissingVolumeError: a states file is not in the folder of the benchmark.
        StorageError: the scores cannot be written; those already written are safe.
        DamagedFileError: the source or the file of scores is damaged.
    """
    folder = ScoreFolder(file)
    images = source.images(launch.images_root)
    job = ScoreJob(source, file, config, images, images_sha256, tuple(own))
    with storage_is_named(file.parent), folder.locked():
        yield from _Scoring(folder, job, launch).progress()


@dataclass(frozen=True)
class _Recorded:
    """The key of a task that records the failure of a run."""

    number: int


class _Scoring:
    """The state of a scoring: its units, and the number of scored states."""

    def __init__(self, folder: ScoreFolder, job: ScoreJob, launch: ScoreLaunch) -> None:
        self._folder = folder
        self._job = job
        self._launch = launch
        self._units = {unit.number: unit for unit in job.source.units()}
        self._num_wanted = sum(map(self._rows_of, self._units.values()))
        self._running: set[int] = set()
        self._to_record: deque[Task] = deque()
        self._left: set[Hashable] = set()
        self._finished: dict[int, tuple[int, int]] = {}
        self._num_states = self._num_failed = 0
        self._elsewhere: list[Mapping[str, Any]] = []
        self._known: dict[int, ReferenceSample] = {}
        self._own = {score.name: score.about() for score in job.own}

    def progress(self) -> Iterator[ScoreProgress]:
        """Score, and yield the progress at least once a second."""
        about = self._about()
        rows = self._complete_rows(about)
        if rows is not None:
            self._folder.clear()
            failed = sum(row["errors"] is not None for row in rows)
            yield ScoreProgress(len(rows), failed, self._num_wanted)
            return
        todo = list(self._todo())
        yield self._progress()
        if todo:
            with open_engine(
                self._launch.cluster, self._job.config.compute, self._folder.ray_log_file
            ) as engine:
                attempts = self._launch.cluster.max_attempts
                for event in run_tasks(engine, self._batches(todo), max_attempts=attempts):
                    message = self._message(event)
                    if message is not None or isinstance(event, Waited):
                        yield replace(self._progress(), message=message)
        references = {size: self._reference(size) for size in self._job.config.sizes}
        self._write(about, references)
        yield replace(self._progress(), message=self._why_no_das(references))

    def _batches(self, todo: Sequence[Task]) -> Iterator[Sequence[Task]]:
        """The tasks that are left, and tasks that write rows for runs that were given up."""
        self._left = {task.key for task in todo}
        for task in todo:
            while self._to_record:
                yield [self._to_record.popleft()]
            yield [task]
        while self._left or self._to_record:
            yield [self._to_record.popleft()] if self._to_record else []

    def _message(self, event: Event) -> str | None:
        """Count the outcome of an event; return a message for the user, or None."""
        if isinstance(event, Waited | Postponed):
            return None
        key = event.task.key
        if isinstance(event, Started):
            if isinstance(key, int):
                self._running.add(key)
            return None
        if isinstance(key, _Recorded):
            if isinstance(event, Ended):
                self._count(key.number, self._rows_of(self._units[key.number]), event.result)
            elif isinstance(event, Failed) and event.given_up:
                raise event.error
            return None
        if isinstance(key, int):
            self._running.discard(key)
        if isinstance(event, Ended):
            self._left.discard(key)
            if isinstance(key, int):
                self._count(key, self._rows_of(self._units[key]), event.result)
            return None
        if not event.given_up:
            return f"{_name(key)} failed, will be tried again: {event.reason}"
        if not isinstance(key, int):
            raise event.error  # without the reference there would silently be no DAS
        self._left.discard(key)
        arguments = (self._job, self._units[key], event.reason)
        self._to_record.append(Task(_Recorded(key), record_failure, arguments, on_device=False))
        return f"{_name(key)} failed, given up: {event.reason}"

    def _count(self, number: int, num_states: int, num_failed: int) -> None:
        """Set the number of scored states of a unit, and how many of them failed."""
        states, failed = self._finished.get(number, (0, 0))
        self._finished[number] = (num_states, num_failed)
        self._num_states += num_states - states
        self._num_failed += num_failed - failed

    def _rows_of(self, unit: Unit) -> int:
        """The number of rows of a unit: one for each state and each number of probe images."""
        return len(unit.moments) * len(self._job.config.sizes)

    def _about(self) -> dict[str, Any]:
        """The source, settings and probe, as they are written to the file."""
        chosen = chosen_probe(self._job)
        return {
            "source": self._job.source.about(),
            "settings": asdict(self._job.config),
            "probe": {
                "images": self._job.images.name,
                "indices": chosen.indices.tolist(),
                "sha256": chosen.sha256,
            },
            "own": self._own,
        }

    def _complete_rows(self, about: dict[str, Any]) -> list[Mapping[str, Any]] | None:
        """The rows of a complete file of scores; None if work is left, after preparing for it.

        The rows of an incomplete file, to which runs or own scores were added later, become lines
        again. The file keeps the own scores that it has.
        """
        made: list[Mapping[str, Any]] = []
        by_run: dict[int, list[dict[str, Any]]] = {}
        if self._folder.file.exists():
            table = read_scores(self._folder.file)
            check_settings(
                compared(table.about),
                compared(about),
                what=f"{self._folder.file} holds other scores",
                instead="use those settings, or score --into another file",
            )
            known = table.about.get("own", {})
            for row in table.rows:
                unit = self._units.get(row["run"])
                if unit is not None and row["fingerprint"] != unit.fingerprint:
                    continue  # of another training
                epoch, step = moment_of(row)
                if unit is None or Moment(epoch, step) not in unit.moments:
                    self._elsewhere.append(row)
                    continue
                made.append(row)
                line = {**row, "asked_epoch": epoch, "asked_step": step}
                line["own"] = own_marks(row, known)
                by_run.setdefault(row["run"], []).append(line)
            num_made = sum(len(scored_rows(self._job, rows)) for rows in by_run.values())
            if num_made == self._num_wanted and not (self._launch.retry and _failed(made)):
                return made
            about["own"] = known | self._own
            with damage_is_named(str(self._folder.file)):
                self._known = references_of(table.about)
        if not self._units:
            raise ConfigError(f"there is no state to score: {self._folder.file} is not made")
        self._folder.begin(about)
        for number, unit in self._units.items():
            lines = self._folder.lines_file(number)
            kept = read_lines(lines) if lines.exists() else by_run.get(number, [])
            kept = [row for row in kept if row["fingerprint"] == unit.fingerprint]
            if self._launch.retry == "failed":
                kept = [row for row in kept if row["errors"] is None]
            if len(kept) != len(read_lines(lines)):
                write_lines(lines, kept)
            scored = scored_rows(self._job, kept)
            self._count(number, len(scored), len(_failed(scored.values())))
        return None

    def _todo(self) -> Iterator[Task]:
        """The tasks: one for each unit with states left and for each part of the reference."""
        number = self._job.config.num_reference
        for size, spec in self._specs_of_references().items():
            assert number is not None
            for start in range(0, number, _REFERENCE_CHUNK):
                numbers = range(start, min(start + _REFERENCE_CHUNK, number))
                if len(read_lines(self._folder.reference_file(size, start))) < len(numbers):
                    arguments = (self._job, spec, size, numbers)
                    key = ("reference", size, start)
                    yield Task(key, score_reference, arguments, on_device=True)
        for unit in self._units.values():
            if self._finished[unit.number][0] < self._rows_of(unit):
                yield Task(unit.number, score_unit, (self._job, unit), on_device=True)

    def _specs_of_references(self) -> dict[int, NetworkSpec]:
        """The spec of the reference samples to draw, by their number of probe images."""
        spec = self._job.source.spec
        config = self._job.config
        if spec is None or not config.wants_das or config.num_reference is None:
            return {}
        wanted: dict[int, NetworkSpec] = {}
        for size in (each for each in config.sizes if each not in self._known):
            try:
                find_reference(spec, chosen_probe(self._job).first(size).sha256)
            except KeyError:
                wanted[size] = replace(spec, auxiliary=False)
        return wanted

    def _progress(self) -> ScoreProgress:
        states, failed = self._num_states, self._num_failed
        for number in self._running:
            rows = scored_rows(self._job, read_lines(self._folder.lines_file(number))).values()
            known_states, known_failed = self._finished[number]
            states += len(rows) - known_states
            failed += len(_failed(rows)) - known_failed
        return ScoreProgress(states, failed, self._num_wanted)

    def _why_no_das(self, references: Mapping[int, ReferenceSample | None]) -> str | None:
        """Why a reference sample that was drawn cannot be used; None if all can."""
        config, spec = self._job.config, self._job.source.spec
        lacking = [str(size) for size, found in references.items() if found is None]
        if not lacking or not config.wants_das or config.num_reference is None or spec is None:
            return None
        return (
            f"no das for num_images={','.join(lacking)}: fewer than {MIN_GENOTYPES} of the "
            f"{config.num_reference} genotypes of the reference sample tell all images apart; a "
            "larger num_reference, with --into another file, makes one"
        )

    def _write(
        self, about: dict[str, Any], references: Mapping[int, ReferenceSample | None]
    ) -> None:
        rows: list[Mapping[str, Any]] = [
            with_das(row, references.get(row.get("num_images", 0)))
            for unit in self._units.values()
            for row in self._in_order(unit)
        ]
        rows += self._elsewhere  # rows of states that this source does not have
        *others, entry = (
            None if reference is None else asdict(reference) for reference in references.values()
        )
        about |= {"reference": entry} | ({"smaller_references": others} if others else {})
        write_scores(self._folder.file, ScoreTable(about, rows))
        self._folder.clear()

    def _reference(self, size: int) -> ReferenceSample | None:
        """The known, shipped or drawn reference sample for a number of images, or None."""
        if size in self._known:
            return self._known[size]
        spec = self._job.source.spec
        if spec is None or not self._job.config.wants_das:
            return None
        chosen = chosen_probe(self._job).first(size)
        try:
            return find_reference(spec, chosen.sha256)
        except KeyError:
            if self._job.config.num_reference is None:
                return None
        lines = [
            line
            for start in range(0, self._job.config.num_reference, _REFERENCE_CHUNK)
            for line in read_lines(self._folder.reference_file(size, start))
        ]
        regular = [line for line in lines if line["ability"] is not None]
        if len(regular) < MIN_GENOTYPES:
            return None
        return ReferenceSample(
            spec=replace(spec, auxiliary=False),
            probe_sha256=chosen.sha256,
            num_images=len(chosen),
            seed=GENOTYPE_SEED,
            abilities=tuple(line["ability"] for line in regular),
            activation_units=tuple(line["units"] for line in regular),
        )

    def _in_order(self, unit: Unit) -> list[Mapping[str, Any]]:
        """A unit's rows in the order of its moments."""
        rows = scored_rows(self._job, read_lines(self._folder.lines_file(unit.number)))
        place = {moment: i for i, moment in enumerate(unit.moments)}
        return [rows[key] for key in sorted(rows, key=lambda key: (place[key[0]], key[1]))]


def with_das(row: Mapping[str, Any], reference: ReferenceSample | None) -> dict[str, Any]:
    """A row of the file, with DAS if it has both atoms."""
    kept = {key: value for key, value in row.items() if key not in _OF_LINES}
    ability, units = kept.get("distinguishing_ability"), kept.get("activation_units")
    if reference is None or ability is None or units is None:
        return kept
    atoms = Atoms(np.array([ability]), np.array([int(units)]), kept["num_images"])
    return kept | {"das": float(das(atoms, reference)[0])}


def references_of(about: Mapping[str, Any]) -> dict[int, ReferenceSample]:
    """The reference samples that a file of scores has, by their number of probe images."""
    entries = (about.get("reference"), *about.get("smaller_references", ()))
    return {entry["num_images"]: from_json(entry) for entry in entries if entry is not None}


def _failed(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["errors"] is not None]


def _name(key: object) -> str:
    return f"run {key}" if isinstance(key, int) else "the reference sample"
