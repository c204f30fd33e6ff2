"""The task of a worker: train a run to its end, and store each epoch; without Ray."""

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from dtb_builder.dataset import Run, codec
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    append_end,
    append_epoch,
    cut_journal,
    open_journal,
    read_journal,
)
from dtb_builder.dataset.replay import start_of
from dtb_builder.dataset.stored_journal import adopted_from, measured
from dtb_builder.errors import ContradictionError, DamagedFileError, DivergedError, TimeLimitError
from dtb_builder.images.image_set import Images, check_images
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.network.initial import initial_network
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import TRAINED_HERE
from dtb_builder.scores.size import multiply_accumulates, num_parameters
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.adopt import FinishedRuns
from dtb_builder.stages.generation.kernels_check import check_kernels
from dtb_builder.stages.generation.parent import append_parent, parent_of
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.state_frames import StateEncoder, Storing
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.network import network_spec
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.training.environment import environment
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.kernels import kernels_name, library_of
from dtb_builder.training.loop import StartingPoint, train
from dtb_builder.training.machine import set_up_machine
from dtb_builder.training.momentum import capture_momentum
from dtb_builder.training.resident import ResidentImages, make_resident, without_evaluation
from dtb_builder.training.resume import Checkpoint

__all__ = ["train_run", "training"]


def train_run(
    path: Path, run: PlannedRun, time_limit: float | None, studies: tuple[Path, ...] = ()
) -> str | None:
    """Train a run from its last finished epoch to its end; each epoch is on disk before the next.

    Errors are written to the run's log and raised.

    Args:
        path: the run folder.
        run: the run.
        time_limit: the seconds that it may take, or None.
        studies: run folders or benchmarks; a run that one of them has is compared with it.

    Returns:
        how the run diverged, or None if it has all its epochs.

    Raises:
        ContradictionError: the run has other bits than it has there.
        StorageError: the run folder cannot be written to.
        ImagesError: the images are missing, or not those of the plan.
        ConfigError: this machine does not have the device of the plan.
        LockedError: another process trains the run.
        DivergedError: its loss is not finite at initialisation.
        TimeLimitError: it took longer than the time limit.
    """
    folder = RunFolder(path)
    with storage_is_named(path), _log(folder.log_file(run)) as log:
        try:
            with folder.run_locked(run):
                _make_ready(folder.config)  # does not count for the run's time limit
                check_kernels(folder.config.compute, folder.kernels_folder)
                found = _finished(studies).find(folder, run) if studies else None
                known = None if found is None else Run(*found)
                with _limited(time_limit):
                    for epoch, metrics in training(folder, run, log, known):
                        line = "  ".join(f"{name}={value:.4g}" for name, value in metrics.items())
                        log.info("epoch %d: %s", epoch, line)
                journal = read_journal(folder.journal_file(run))
                return None if journal is None else journal.ended
        except Exception:
            log.exception("failed")
            raise


def training(
    folder: RunFolder, run: PlannedRun, log: logging.Logger, known: Run | None = None
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Train a run and store it; yield each epoch with its metrics once it is on disk.

    The caller holds the run's lock. Errors are raised, but not recorded.

    Args:
        folder: the run folder.
        run: which run.
        log: of the run.
        known: the run as another file has it: it is not evaluated again, since each epoch's state
            is proved by its checksum, and has the metrics of there.
    """
    config = folder.config
    images, data = _make_ready(config)
    check_images(images, folder.provenance_settings["images"]["sha256"], user=folder.path)
    spec = network_spec(config.network, images)
    network = initial_network(Genotype.parse(run.genotype), spec, run.seed)
    shape = images.train_images.shape[1:]
    storing = Storing(config.states, tensor_table(network))
    network.use_kernels(library_of(config.compute))
    folder.working_folder(run.shard).mkdir(parents=True, exist_ok=True)
    recipe = config.recipe
    if known is not None:
        data, recipe = without_evaluation(data), replace(recipe, evaluate_epochs=())
    with parent_of(folder, run) as parent:
        origin = TRAINED_HERE if parent is None else parent.origin
        about = JournalRun(
            number=run.number,
            genotype=run.genotype,
            seed=run.seed,
            order_seed=run.order_seed,
            plan=folder.plan_id,
            num_parameters=num_parameters(network),
            multiply_accumulates=multiply_accumulates(network, (shape[0], shape[1], shape[2])),
            tensors=storing.tensors,
            origin=origin if known is None else adopted_from(known),
        )
        journal, start = _recovered(folder, run, about, parent, log)
    if journal.is_finished(config.recipe.num_epochs):
        return
    facts = environment(config.compute.device, kernels=kernels_name(config.compute))
    encoder = StateEncoder(folder.moments, journal)
    for finished in train(
        network,
        data,
        recipe,
        seed=run.order_seed,
        state_steps=[moment.step for moment in folder.moments if moment.epoch is None],
        resume=start,
    ):
        if known is not None:
            if finished.epoch > known.num_epochs:
                append_end(folder.journal_file(run), "it ended early")
                break
            _check_same_bits(run, finished, known, facts)
        elif diverged := _not_finite(finished):
            if finished.epoch == 0:
                raise DivergedError(diverged)
            log.warning("diverged: %s", diverged)
            append_end(folder.journal_file(run), diverged)
            break
        yield finished.epoch, _store(folder, run, storing, finished, facts, encoder, known)
    for used in folder.checkpoint_files(run):
        used.unlink()


def _recovered(
    folder: RunFolder, run: PlannedRun, about: JournalRun, parent: Run | None, log: logging.Logger
) -> tuple[Journal, StartingPoint | None]:
    """The run's journal, and the state from which to continue after its last epoch.

    Without a usable checkpoint, the run begins again from its initialisation or its parent.
    """
    journal = open_journal(folder.journal_file(run), about)
    if journal.is_finished(folder.config.recipe.num_epochs):
        return journal, None
    if journal.run.origin != about.origin:  # it was held against another file, or is from now on
        journal.path.unlink()
        journal = open_journal(folder.journal_file(run), about)
    first = folder.config.first_epoch
    num_given = 0 if parent is None else first + 1
    if journal.last_epoch is not None and len(journal.epochs) > num_given:
        try:
            file = folder.checkpoint_file(run, journal.last_epoch)
            checkpoint = Checkpoint.from_bytes(file.read_bytes())
        except (FileNotFoundError, DamagedFileError) as error:
            log.warning("begins again: no checkpoint of epoch %d: %s", journal.last_epoch, error)
        else:
            log.info("goes on after epoch %d", journal.last_epoch)
            return journal, checkpoint
    if len(journal.epochs) < num_given or parent is None:
        journal = cut_journal(journal, num_epochs=0)
    if parent is None:
        return journal, None
    if not journal.epochs:
        journal = append_parent(journal, parent, first)
    return cut_journal(journal, num_epochs=num_given), start_of(parent, first)


def _store(
    folder: RunFolder,
    run: PlannedRun,
    storing: Storing,
    finished: FinishedEpoch,
    facts: Mapping[str, Any],
    encoder: StateEncoder,
    known: Run | None,
) -> Mapping[str, float]:
    """Store an epoch: first its checkpoint, then its record; then remove the last checkpoint.

    So the last epoch of the journal always has its checkpoint.

    Returns:
        the epoch's metrics as they are stored.
    """
    config, epoch = folder.config, finished.epoch
    begin = time.perf_counter()
    state = capture(finished.network)
    momentum = None
    if epoch in config.momentum_epochs:
        momentum = capture_momentum(finished.network, finished.optimizer)
    kept = [encoder.frames(storing.stored(within)) for within in finished.step_states.values()]
    if encoder.keeps(state.num_batches_tracked):
        kept.append(encoder.frames(storing.stored(state), momentum))
    checksum = codec.crc32c(state.values.astype("<f4", copy=False).data)
    seconds = finished.metrics.get("state_seconds", 0.0) + time.perf_counter() - begin
    metrics = {**finished.metrics, "state_seconds": seconds}
    if known is not None:
        metrics, facts = measured(known, epoch), known.environment(epoch=epoch)
    if epoch < config.recipe.num_epochs:
        checkpoint = Checkpoint.capture(finished).to_bytes()
        write_whole(folder.checkpoint_file(run, epoch), checkpoint)
    append_epoch(
        folder.journal_file(run),
        epoch=epoch,
        metrics=metrics,
        environment=facts,
        state_crc32c=checksum,
        moments=kept,
    )
    folder.checkpoint_file(run, epoch - 1).unlink(missing_ok=True)
    return metrics


def _check_same_bits(
    run: PlannedRun, finished: FinishedEpoch, known: Run, facts: Mapping[str, str | int]
) -> None:
    """See that a run that is trained again has the state that it had.

    Raises:
        ContradictionError: it has not.
    """
    values = capture(finished.network).values.astype("<f4", copy=False)
    if codec.crc32c(values.data) != known.state_crc32c(epoch=finished.epoch):
        then = known.environment(epoch=finished.epoch)
        there = {key: value for key, value in then.items() if facts.get(key) != value}
        here = {key: facts.get(key) for key in there}
        raise ContradictionError(
            f"run {run.number} has another state after epoch {finished.epoch} than in "
            f"{known.file}: trained there on {there or 'an equal machine'}, here on "
            f"{here or 'one'}; its states can be widened where it was trained"
        )


def _not_finite(finished: FinishedEpoch) -> str | None:
    """How a training has diverged, or None."""
    bad = {k: v for k, v in finished.metrics.items() if k.endswith("loss") and not math.isfinite(v)}
    return f"epoch {finished.epoch} ended with {bad}" if bad else None


def _make_ready(config: Config) -> tuple[Images, ResidentImages]:
    """Set up torch, and load the images unless this process has them already."""
    set_up_machine(config.compute)
    return _images(config.images, config.compute.device)


@lru_cache(maxsize=1)
def _images(config: ImagesConfig, device: str) -> tuple[Images, ResidentImages]:
    """The images on the device; cached, since a CPU worker trains one run after the other."""
    images, split = load_split_images(config)
    return images, make_resident(images, split, device)


@lru_cache(maxsize=1)
def _finished(studies: tuple[Path, ...]) -> FinishedRuns:
    """The runs of other studies, remembered likewise."""
    return FinishedRuns(studies)


@contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Raise `TimeLimitError` in the body after a number of seconds; needs the main thread."""
    if seconds is None:
        yield
        return

    def expired(_signal: int, _frame: object) -> None:
        raise TimeLimitError(f"took longer than cluster.time_limit = {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _log(path: Path) -> Iterator[logging.Logger]:
    """A logger that appends to a run's log file."""
    log = logging.Logger(path.stem, logging.INFO)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        handler.close()
