"""Searching the space for the genotype that a rule takes for the best, and training it."""

import contextlib
import itertools
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dtb_builder.dataset.atomic import remove_unfinished, write_whole
from dtb_builder.dataset.json_object import json_object
from dtb_builder.errors import ConfigError, DamagedFileError, UnfinishedError
from dtb_builder.scores import Atoms, Scale, input_edges, standardised_input_edges, z_sum
from dtb_builder.space import Genotype, mutate, sample_uniform
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.ranking.report import ranked_training, read_ranking
from dtb_builder.stages.search.config import (
    COMBINED,
    SearchConfig,
    SearchRule,
    affordable_rule,
    named_rule,
)
from dtb_builder.stages.search.worker import Candidate, steps_of, try_candidate
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.plain import check_settings, plain, settings_that_differ
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.stages.work.engine import Engine
from dtb_builder.stages.work.engines import open_engine
from dtb_builder.stages.work.lines import append_line, open_lines, read_lines
from dtb_builder.stages.work.locking import held
from dtb_builder.stages.work.tasks import Ended, Failed, Started, Task, Waited, run_tasks
from dtb_builder.training.kernels import with_kernels_settled

__all__ = ["Found", "SearchFolder", "SearchProgress", "search"]

_logger = logging.getLogger(__name__)

_LOCK_SECONDS = 2
_OWN_FILES = ("search.json", "candidates.lines", "winner.txt")
_MOST_MUTATIONS = 1000


@dataclass(frozen=True)
class SearchFolder:
    """Paths of a search.

    ====================  ==================================================================
    ``search.json``       the settings, and the rule that they came to
    ``candidates.lines``  every candidate that was tried, one line each
    ``winner.txt``        the genotype that won
    ``winner/``           its training: a run folder
    ``ray.log``           what Ray itself says meanwhile
    ====================  ==================================================================
    """

    path: Path

    @property
    def settings_file(self) -> Path:
        """The settings, and the rule."""
        return self.path / "search.json"

    @property
    def candidates_file(self) -> Path:
        """What was tried."""
        return self.path / "candidates.lines"

    @property
    def winner_file(self) -> Path:
        """The genotype that won."""
        return self.path / "winner.txt"

    @property
    def ray_log_file(self) -> Path:
        """What Ray itself says meanwhile."""
        return self.path / "ray.log"

    @property
    def run_folder(self) -> Path:
        """The winner's training."""
        return self.path / "winner"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder.

        Raises:
            LockedError: somebody else searches in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with held(
            self.path / ".lock",
            seconds=_LOCK_SECONDS,
            otherwise=lambda: f"another process searches in {self.path}",
        ):
            remove_unfinished(self.path, _OWN_FILES)
            yield


@dataclass(frozen=True)
class SearchProgress:
    """How far a search is.

    Attributes:
        rule: what candidates are compared by.
        num_candidates: tried.
        num_failed: of those, the ones without a score.
        seconds: spent on them.
        steps: of training spent on them.
    """

    rule: SearchRule
    num_candidates: int
    num_failed: int
    seconds: float
    steps: int


@dataclass(frozen=True)
class Found:
    """What won.

    Attributes:
        rule: by which rule.
        candidate: the winner.
        score: its score by that rule.
        num_candidates: that it won against, itself counted in.
        seconds: that the search took, all workers together.
        steps: of training that it took.
    """

    rule: SearchRule
    candidate: Candidate
    score: float
    num_candidates: int
    seconds: float
    steps: int


def search(
    folder: SearchFolder, config: SearchConfig, cluster: ClusterConfig
) -> Iterator[SearchProgress | Found]:
    """Try candidates until the budget is spent; the last thing it yields is what was found.

    Which candidates there are follows from the seed and from scores, not from the workers; with a
    budget in seconds, how many there are depends on the machine.

    Raises:
        LockedError: somebody else searches in the folder.
        PlanMismatchError: it was begun with other settings.
        ConfigError: there is no such rule, none that the budget affords, or a machine of the
            cluster lacks the device.
        UnfinishedError: no candidate has a score.
        ImagesError: the images are not here.
        StorageError: the folder cannot be written to; what was tried is safe.
    """
    if cluster.shards is not None:
        raise ConfigError("cluster.shards means nothing for a search: leave it null")
    if RunFolder(folder.path).is_planned:
        raise ConfigError(f"{folder.path} is the folder of a generation: search in another one")
    with storage_is_named(folder.path), folder.locked():
        rule, kernels = _settled(folder, config)
        config = replace(config, compute=replace(config.compute, kernels=kernels))
        yield from _Search(folder, config, rule, cluster).progress()


def _settled(
    folder: SearchFolder, config: SearchConfig
) -> tuple[SearchRule, Literal["auto", "on", "off"]]:
    """The rule and compute.kernels, as they were settled when the search began."""
    settings = plain(config)
    if config.ranking is not None:
        try:
            settings["ranking_sha256"] = sha256(Path(config.ranking).read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"ranking {config.ranking} cannot be read: {error}") from error
    if folder.settings_file.exists():
        try:
            stored = json_object(folder.settings_file.read_bytes(), folder.settings_file)
            check_settings(
                stored["settings"],
                settings,
                what=f"{folder.path} was begun with other settings",
                instead="use those, or another folder",
            )
            # Searches that were begun before it was stored had none.
            return SearchRule(**stored["rule"]), stored.get("kernels", "off")
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(f"{folder.settings_file}: {error!r}") from error
    if config.ranking is None:
        rule = named_rule(config)
    else:
        rule = affordable_rule(read_ranking(Path(config.ranking)), config)
        trained = ranked_training(Path(config.ranking))
        here = {
            part: {name: settings[part].get(name) for name in values}
            for part, values in trained.items()
        }
        for found in settings_that_differ(trained, here, then="where it was ranked"):
            _logger.warning("%s is of another training: %s", config.ranking, found)
    kernels = with_kernels_settled(
        config.compute, config.recipe, channels=config.network.channels
    ).kernels
    stored = {"settings": settings, "rule": asdict(rule), "kernels": kernels}
    text = json.dumps(stored, sort_keys=True, indent=1)
    write_whole(folder.settings_file, text.encode())
    return rule, kernels


class _Search:
    """One generation of candidates after another, each tried and written down."""

    def __init__(
        self, folder: SearchFolder, config: SearchConfig, rule: SearchRule, cluster: ClusterConfig
    ) -> None:
        self._folder = folder
        self._config = config
        self._rule = rule
        self._cluster = cluster
        self._lines: dict[int, dict[str, Any]] = {}

    def progress(self) -> Iterator[SearchProgress | Found]:
        """How far it is, and at last what was found."""
        self._lines = {line["index"]: line for line in open_lines(self._folder.candidates_file)}
        yield self._progress()
        if not self._folder.winner_file.exists():
            with open_engine(
                self._cluster, self._config.compute, self._folder.ray_log_file
            ) as engine:
                for batch in self._batches():
                    yield from self._tried(engine, batch)
        yield self._found()

    def _batches(self) -> Iterator[list[Candidate]]:
        """The candidates to try next, each batch by what was tried before it.

        It ends when the budget is spent, or when no parent has a mutation that was not seen.
        """
        config, steps = self._config, steps_of(self._config, self._rule)
        drawn = _Draws(config)
        while len(drawn.candidates) < config.num_candidates:
            start = len(drawn.candidates)
            stop = min(
                start + (config.num_children if start else config.num_random), config.num_candidates
            )
            parents = self._best(start) if start >= config.num_random else []
            generation = drawn.generation(start, stop, [index for index, _ in parents])
            if not generation:
                return
            while left := [each for each in generation if each.index not in self._lines]:
                affordable = [each for each in left if each.index < self._affordable(steps)]
                if not affordable:
                    return
                yield affordable

    def _affordable(self, steps: int) -> int:
        """How many candidates the budget allows, as far as is known by now."""
        config = self._config
        limits = [config.num_candidates]
        if config.budget_steps is not None and steps:
            limits.append(config.budget_steps // steps)
        if config.budget_seconds is not None and self._lines:
            spent = self._seconds()
            left = max(0.0, config.budget_seconds - spent)
            limits.append(len(self._lines) + int(left / (spent / len(self._lines))))
        elif config.budget_seconds is not None:
            limits.append(1)  # to see what a candidate takes
        return min(limits)

    def _best(self, stop: int) -> list[tuple[int, float]]:
        """Candidates before an index with their scores, the best first; ties go by index.

        Raises:
            UnfinishedError: none of them has a score.
        """
        lines = [self._lines[i] for i in range(stop) if i in self._lines]
        scores = _compared(self._rule, lines, self._config)
        if not scores:
            errors = {line["error"] for line in lines}
            raise UnfinishedError(f"no candidate of {len(lines)} has a score: {errors}")
        return sorted(scores, key=lambda each: (-each[1], each[0]))

    def _tried(self, engine: Engine, batch: Sequence[Candidate]) -> Iterator[SearchProgress]:
        """Try candidates, each safe on disk as it ends."""
        begun: dict[int, float] = {}
        spent: defaultdict[int, float] = defaultdict(float)
        batches = (
            [Task(each.index, try_candidate, (self._config, self._rule, each), on_device=True)]
            for each in batch
        )
        by_index = {candidate.index: candidate for candidate in batch}
        for event in run_tasks(engine, batches, max_attempts=self._cluster.max_attempts):
            if isinstance(event, Waited):
                yield self._progress()
                continue
            index = event.task.key
            assert isinstance(index, int)
            if isinstance(event, Started):
                begun[index] = time.monotonic()
                continue
            if isinstance(event, Failed):  # a worker that died could not say what it took
                spent[index] += time.monotonic() - begun[index]
                if event.given_up:
                    self._write(_failed_line(by_index[index], spent[index], event.reason))
            elif isinstance(event, Ended):
                self._write(event.result)

    def _write(self, line: dict[str, Any]) -> None:
        append_line(self._folder.candidates_file, line)
        self._lines[line["index"]] = line

    def _progress(self) -> SearchProgress:
        failed = sum(line["error"] is not None for line in self._lines.values())
        return SearchProgress(self._rule, len(self._lines), failed, self._seconds(), self._steps())

    def _found(self) -> Found:
        self._lines = {line["index"]: line for line in read_lines(self._folder.candidates_file)}
        index, score = self._best(len(self._lines))[0]
        line = self._lines[index]
        write_whole(self._folder.winner_file, f"{line['genotype']}\n".encode())
        return Found(
            self._rule,
            Candidate(index, line["genotype"], line["parent"]),
            score,
            len(self._lines),
            self._seconds(),
            self._steps(),
        )

    def _seconds(self) -> float:
        return sum(line["seconds"] for line in self._lines.values())

    def _steps(self) -> int:
        return sum(line["steps"] for line in self._lines.values())


class _Draws:
    """The candidates that a search may try, in order: random ones, then mutations of the best."""

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        self._seen: set[str] = set()
        self._used_up: set[int] = set()
        self.candidates: list[Candidate] = []

    def generation(self, start: int, stop: int, ranked: Sequence[int]) -> list[Candidate]:
        """Candidates from one index to another; fewer where no parent has an unseen mutation.

        Args:
            start: the first one's index.
            stop: the index after the last one's.
            ranked: candidates before them that have a score, the best first.
        """
        config = self._config
        first = len(self.candidates)
        for index in range(start, stop):
            if start < config.num_random:
                candidate = Candidate(index, str(sample_uniform(config.seed, index)), None)
            elif (candidate := self._child(index, ranked)) is None:
                break
            self._seen.add(candidate.genotype)
            self.candidates.append(candidate)
        return self.candidates[first:]

    def _child(self, index: int, ranked: Sequence[int]) -> Candidate | None:
        """A mutation that was not seen; the next best parent takes over where one has none."""
        config = self._config
        while parents := self._parents(ranked):
            parent = parents[index % len(parents)]
            genotype = Genotype.parse(self.candidates[parent].genotype)
            for i in range(_MOST_MUTATIONS):
                text = str(mutate(genotype, config.seed, index * _MOST_MUTATIONS + i))
                if text not in self._seen:
                    return Candidate(index, text, parent)
            self._used_up.add(parent)
        return None

    def _parents(self, ranked: Sequence[int]) -> list[int]:
        fresh = (index for index in ranked if index not in self._used_up)
        return list(itertools.islice(fresh, self._config.num_parents))


def _failed_line(candidate: Candidate, seconds: float, reason: str) -> dict[str, Any]:
    return {**asdict(candidate), "scores": {}, "steps": 0, "seconds": seconds, "error": reason}


def _compared(
    rule: SearchRule, lines: Sequence[Mapping[str, Any]], config: SearchConfig
) -> list[tuple[int, float]]:
    """Candidates with their score by the rule; those without one are left out.

    The scale of DAS is frozen by the random candidates: z(D / n) + z(A) of them all. That of z(I),
    which the rule das3 adds, is the whole space's.
    """
    scored = [line for line in lines if line["error"] is None]
    if rule.score not in COMBINED:
        return [(line["index"], line["scores"][rule.score]) for line in scored]
    frozen = [line for line in scored if line["index"] < config.num_random]
    if len(frozen) < 2:
        return []
    try:
        scale = Scale.of(_atoms(frozen, config.num_images))
    except ValueError:  # all of them are alike
        return []
    scores = z_sum(_atoms(scored, config.num_images), scale)
    if rule.score == "das3":
        genotypes = [Genotype.parse(line["genotype"]) for line in scored]
        scores += standardised_input_edges([input_edges(each) for each in genotypes])
    return [(line["index"], float(value)) for line, value in zip(scored, scores, strict=True)]


def _atoms(lines: Sequence[Mapping[str, Any]], num_images: int) -> Atoms:
    return Atoms(
        np.array([line["scores"]["distinguishing_ability"] for line in lines], np.float64),
        np.array([line["scores"]["activation_units"] for line in lines]).astype(np.int64),
        num_images,
    )
