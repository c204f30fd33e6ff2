"""Search the space for the genotype that is best by a rule."""

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
from dtb_builder.stages.search.worker import Candidate, epoch_steps, steps_of, try_candidate
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.plain import check_settings, plain, settings_that_differ
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.stages.work.engine import Engine
from dtb_builder.stages.work.engines import open_engine
from dtb_builder.stages.work.lines import append_line, open_lines, read_lines
from dtb_builder.stages.work.locking import held
from dtb_builder.stages.work.tasks import Ended, Failed, Started, Task, Waited, run_tasks
from dtb_builder.training.kernels import with_kernels_settled

__all__ = ["SearchFolder", "SearchProgress", "SearchResult", "search"]

_logger = logging.getLogger(__name__)

_LOCK_SECONDS = 2
_OWN_FILES = ("search.json", "candidates.lines", "winner.txt")
_MOST_MUTATIONS = 1000


@dataclass(frozen=True)
class SearchFolder:
    """Paths of a search.

    ====================  ==================================================================
    ``search.json``       the settings, and the rule that follows from them
    ``candidates.lines``  every tried candidate, one per line
    ``winner.txt``        the winner's genotype
    ``winner/``           the winner's training, a run folder
    ``ray.log``           Ray's log
    ====================  ==================================================================
    """

    path: Path

    @property
    def settings_file(self) -> Path:
        """The settings, and the rule."""
        return self.path / "search.json"

    @property
    def candidates_file(self) -> Path:
        """The tried candidates."""
        return self.path / "candidates.lines"

    @property
    def winner_file(self) -> Path:
        """The winner's genotype."""
        return self.path / "winner.txt"

    @property
    def ray_log_file(self) -> Path:
        """Ray's log."""
        return self.path / "ray.log"

    @property
    def run_folder(self) -> Path:
        """The run folder of the winner's training."""
        return self.path / "winner"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder.

        Raises:
            LockedError: another process searches in it.
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
    """The progress of a search.

    Attributes:
        rule: the rule by which candidates are compared.
        num_candidates: the number of tried candidates.
        num_failed: how many of these have no score.
        seconds: the seconds spent on them, summed over workers.
        steps: the training steps spent on them.
    """

    rule: SearchRule
    num_candidates: int
    num_failed: int
    seconds: float
    steps: int


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        rule: the rule by which candidates were compared.
        candidate: the winner.
        score: its score by that rule.
        num_candidates: the number of tried candidates, including the winner.
        seconds: the seconds that the search took, summed over workers.
        steps: the training steps that it took.
    """

    rule: SearchRule
    candidate: Candidate
    score: float
    num_candidates: int
    seconds: float
    steps: int


def search(
    folder: SearchFolder, config: SearchConfig, cluster: ClusterConfig
) -> Iterator[SearchProgress | SearchResult]:
    """Try candidates until the budget is spent; yield the progress, and the result at the end.

    The candidates depend on the seed and on scores, not on the workers. With a budget in seconds,
    their number depends on the machine.

    Raises:
        LockedError: another process searches in the folder.
        PlanMismatchError: the folder's search was begun with other settings.
        ConfigError: there is no such rule, the budget allows no rule, or a machine lacks the
            device.
        UnfinishedError: no candidate has a score.
        ImagesError: the images are missing.
        StorageError: the folder cannot be written to; tried candidates are safe.
    """
    if cluster.shards is not None:
        raise ConfigError("cluster.shards has no effect on a search: set it to null")
    if RunFolder(folder.path).is_planned:
        raise ConfigError(f"{folder.path} is the run folder of a generation: use another folder")
    with storage_is_named(folder.path), folder.locked():
        rule, kernels = _settled(folder, config)
        config = replace(config, compute=replace(config.compute, kernels=kernels))
        yield from _Search(folder, config, rule, cluster).progress()


def _settled(
    folder: SearchFolder, config: SearchConfig
) -> tuple[SearchRule, Literal["auto", "on", "off"]]:
    """The rule and compute.kernels, as they were decided when the search began."""
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
                instead="use these settings, or another folder",
            )
            # Searches of older versions stored no kernels and used none.
            return SearchRule(**stored["rule"]), stored.get("kernels", "off")
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise DamagedFileError(f"{folder.settings_file}: {error!r}") from error
    if config.ranking is None:
        rule = named_rule(config)
    else:
        rule = affordable_rule(read_ranking(Path(config.ranking)), config, epoch_steps(config))
        trained = ranked_training(Path(config.ranking))
        here = {
            part: {name: settings[part].get(name) for name in values}
            for part, values in trained.items()
        }
        for text in settings_that_differ(trained, here, then="where it was ranked"):
            _logger.warning("%s is of another training: %s", config.ranking, text)
    kernels = with_kernels_settled(
        config.compute, config.recipe, channels=config.network.channels
    ).kernels
    stored = {"settings": settings, "rule": asdict(rule), "kernels": kernels}
    text = json.dumps(stored, sort_keys=True, indent=1)
    write_whole(folder.settings_file, text.encode())
    return rule, kernels


class _Search:
    """The state of a search: its tried candidates, and the next ones."""

    def __init__(
        self, folder: SearchFolder, config: SearchConfig, rule: SearchRule, cluster: ClusterConfig
    ) -> None:
        self._folder = folder
        self._config = config
        self._rule = rule
        self._cluster = cluster
        self._lines: dict[int, dict[str, Any]] = {}

    def progress(self) -> Iterator[SearchProgress | SearchResult]:
        """Search, and yield the progress and then the result."""
        self._lines = {line["index"]: line for line in open_lines(self._folder.candidates_file)}
        yield self._progress()
        if not self._folder.winner_file.exists():
            with open_engine(
                self._cluster, self._config.compute, self._folder.ray_log_file
            ) as engine:
                for batch in self._batches():
                    yield from self._tried(engine, batch)
        yield self._result()

    def _batches(self) -> Iterator[list[Candidate]]:
        """Batches of candidates to try; each depends on the scores of earlier candidates.

        They end when the budget is spent, or when no parent has an unseen mutation.
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
        """The number of candidates that the budget allows, estimated from those tried so far."""
        config = self._config
        limits = [config.num_candidates]
        if config.budget_steps is not None and steps:
            limits.append(config.budget_steps // steps)
        if config.budget_seconds is not None and self._lines:
            spent = self._seconds()
            left = max(0.0, config.budget_seconds - spent)
            limits.append(len(self._lines) + int(left / (spent / len(self._lines))))
        elif config.budget_seconds is not None:
            limits.append(1)  # to measure the seconds of a candidate
        return min(limits)

    def _best(self, stop: int) -> list[tuple[int, float]]:
        """The indices and scores of candidates before an index, best first, then by index.

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
        """Try candidates; the line of each is on disk when it ends."""
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
            if isinstance(event, Failed):  # a worker that died returned no seconds
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

    def _result(self) -> SearchResult:
        self._lines = {line["index"]: line for line in read_lines(self._folder.candidates_file)}
        index, score = self._best(len(self._lines))[0]
        line = self._lines[index]
        write_whole(self._folder.winner_file, f"{line['genotype']}\n".encode())
        return SearchResult(
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
    """The candidates of a search in order: random ones, then mutations of the best."""

    def __init__(self, config: SearchConfig) -> None:
        self._config = config
        self._seen: set[str] = set()
        self._used_up: set[int] = set()
        self.candidates: list[Candidate] = []

    def generation(self, start: int, stop: int, ranked: Sequence[int]) -> list[Candidate]:
        """The candidates of a range of indices; fewer if no parent has an unseen mutation.

        Args:
            start: the first index.
            stop: the index after the last.
            ranked: the indices of earlier candidates with a score, best first.
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
        """An unseen mutation of a parent; None if no parent has one."""
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
    """The indices of the candidates that have a score, with their score by the rule.

    The random candidates fix the scale of DAS, z(D / n) + z(A). The scale of z(I), which the rule
    das3 adds, is that of the whole space.
    """
    scored = [line for line in lines if line["error"] is None]
    if rule.score not in COMBINED:
        return [(line["index"], line["scores"][rule.score]) for line in scored]
    random = [line for line in scored if line["index"] < config.num_random]
    if len(random) < 2:
        return []
    try:
        scale = Scale.of(_atoms(random, config.num_images))
    except ValueError:  # all have the same atoms
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
