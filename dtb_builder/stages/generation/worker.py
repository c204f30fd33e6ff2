"""The task of a worker: train a run to its end, and store each epoch; without Ray."""

import logging
import math
import signal
import time
from collections.abc import Generator, Iterator, Mapping
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
    peek_journal,
    read_journal,
)
from dtb_builder.dataset.replay import start_of
from dtb_builder.dataset.stored_journal import adopted_from, measured
from dtb_builder.errors import ContradictionError, DamagedFileError, DivergedError, TimeLimitError
from dtb_builder.images.image_set import Images, check_images
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.network.initial import initial_network
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import TRAINED_HERE, TrainingState
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
from dtb_builder.training.loop import StartingPoint, train_in_turns
from dtb_builder.training.machine import set_up_machine
from dtb_builder.training.momentum import capture_momentum
from dtb_builder.training.resident import ResidentImages, make_resident, without_evaluation
from dtb_builder.training.resume import Checkpoint
from dtb_builder.training.start import Start
from dtb_builder.training.turns import on_own_stream

__all__ = ["train_run", "training", "training_in_turns"]


Epoch = tuple[int, Mapping[str, float]]
"""An epoch that is on disk, with its metrics."""


def train_run(
    path: Path, run: PlannedRun, time_limit: float | None, studies: tuple[Path, ...] = ()
) -> Generator[None, None, str | None]:
    """Train a run from its last finished epoch to its end; each epoch is on disk before the next.

    At each yield other runs may go on in this process. Errors are written to the run's log and
    raised.

    Args:
        path: the run folder.
        run: the run.
        time_limit: the seconds that it may take, the turns of other runs included, or None.
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
                check_kernels(
                    folder.config.compute, folder.config.recipe.activations, folder.kernels_folder
                )
                found = _finished(studies).find(folder, run) if studies else None
                known = None if found is None else Run(*found)
                turns = training_in_turns(folder, run, log, known)
                if folder.config.compute.device == "cuda":
                    turns = on_own_stream(turns)
                for turn in _limited(turns, time_limit):
                    if turn is not None:
                        epoch, metrics = turn
                        line = "  ".join(f"{name}={value:.4g}" for name, value in metrics.items())
                        log.info("epoch %d: %s", epoch, line)
                    yield
                journal = read_journal(folder.journal_file(run))
                return None if journal is None else journal.ended
        except Exception:
            log.exception("failed")
            raise


def training(
    folder: RunFolder, run: PlannedRun, log: logging.Logger, known: Run | None = None
) -> Iterator[Epoch]:
    """Train a run and store it; yield each epoch with its metrics once it is on disk.

    See `training_in_turns`.
    """
    return (turn for turn in training_in_turns(folder, run, log, known) if turn is not None)


def training_in_turns(
    folder: RunFolder, run: PlannedRun, log: logging.Logger, known: Run | None = None
) -> Generator[Epoch | None, None, None]:
    """Train a run and store it; yield each epoch as `training`, and None where others may go on.

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
    network.use_kernels(library_of(config.compute, config.recipe.activations))
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
    for finished in train_in_turns(
        network,
        data,
        recipe,
        seed=run.order_seed,
        state_steps=[moment.step for moment in folder.moments if moment.epoch is None],
        resume=start,
    ):
        if finished is None:
            yield None
            continue
        if known is not None:
            if finished.epoch > known.num_epochs:
                append_end(folder.journal_file(run), "it ended early")
                break
        elif diverged := _not_finite(finished):
            if finished.epoch == 0:
                raise DivergedError(
                    f"{diverged}: at its initialisation, which a retry does not change"
                )
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

    Without a usable checkpoint, the run continues from the last epoch whose whole state and
    momentum the journal has, or begins again from its initialisation or its parent.
    """
    file = folder.journal_file(run)
    size, num_epochs = file.stat().st_size if file.exists() else 0, peek_journal(file).num_epochs
    journal = open_journal(file, about)
    if journal.is_finished(folder.config.recipe.num_epochs):
        return journal, None
    if journal.run.origin != about.origin:  # it was held against another file, or is from now on
        journal.path.unlink()
        journal = open_journal(folder.journal_file(run), about)
    first = folder.config.first_epoch
    num_given = 0 if parent is None else first + 1
    damage = None
    if num_epochs > len(journal.epochs):
        damage = f"its journal is damaged in epoch {len(journal.epochs)}"
    if journal.last_epoch is not None and len(journal.epochs) > num_given:
        try:
            checkpoint_file = folder.checkpoint_file(run, journal.last_epoch)
            checkpoint = Checkpoint.from_bytes(checkpoint_file.read_bytes())
        except (FileNotFoundError, DamagedFileError) as error:
            if size > journal.num_bytes:
                damage = f"its journal is damaged in epoch {len(journal.epochs)}"
            damage = damage or f"the checkpoint of epoch {journal.last_epoch} is no use: {error}"
        else:
            log.info("goes on after epoch %d", journal.last_epoch)
            return journal, checkpoint
    start = None if damage is None else _kept_start(folder.config, journal)
    if damage is not None:
        begin = 0 if parent is None else first
        fate = f"goes on from epoch {start.epoch}" if start else f"begins again from epoch {begin}"
        log.warning("%s; it %s", damage, fate)
        folder.add_damage(run, f"{damage}; it {fate}")
    if start is not None:
        return cut_journal(journal, num_epochs=start.epoch + 1), start
    if len(journal.epochs) < num_given or parent is None:
        journal = cut_journal(journal, num_epochs=0)
    if parent is None:
        return journal, None
    if not journal.epochs:
        journal = append_parent(journal, parent, first)
    return cut_journal(journal, num_epochs=num_given), start_of(parent, first)


def _kept_start(config: Config, journal: Journal) -> Start | None:
    """The last epoch trained here whose state and momentum the journal has, if it has them."""
    whole = config.states.auxiliary_head or not config.network.auxiliary
    num_floats = journal.run.tensors.num_floats
    for kept in reversed(journal.moments):
        epoch = kept.moment.epoch
        if epoch is None or epoch <= config.first_epoch or kept.moment.base is not None:
            continue
        if not whole or config.states.dtype != "float32":
            continue
        if kept.momentum[1] or config.recipe.momentum == 0:
            state, momentum = (
                codec.decode(frame, num_floats=num_floats) if frame else None
                for frame in journal.read(kept[1:])
            )
            assert state is not None, "a moment in a journal has a state"
            return Start(epoch, TrainingState(state, kept.moment.step), momentum)
    return None


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

    Raises:
        ContradictionError: the run is known with another state; then nothing is stored.
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
        _check_same_bits(run, epoch, checksum, known, facts)
        metrics, facts = measured(known)[epoch], known.environment(epoch=epoch)
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
    run: PlannedRun, epoch: int, checksum: int, known: Run, facts: Mapping[str, str | int]
) -> None:
    """See that a run that is trained again has the state that it had.

    Raises:
        ContradictionError: it has not.
    """
    if checksum != known.state_crc32c(epoch=epoch):
        then = known.environment(epoch=epoch)
        there = {key: value for key, value in then.items() if facts.get(key) != value}
        here = {key: facts.get(key) for key in there}
        raise ContradictionError(
            f"run {run.number} has another state after epoch {epoch} than in "
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


def _limited(
    turns: Generator[Epoch | None, None, None], seconds: float | None
) -> Iterator[Epoch | None]:
    """Raise `TimeLimitError` in a turn when all took that many seconds; needs the main thread."""
    if seconds is None:
        yield from turns
        return

    def expired(_signal: int, _frame: object) -> None:
        raise TimeLimitError(
            f"took longer than cluster.time_limit = {seconds:g} seconds; retry=failed with a "
            "larger limit goes on after its last epoch"
        )

    end = time.monotonic() + seconds
    while True:
        before = signal.signal(signal.SIGALRM, expired)
        signal.setitimer(signal.ITIMER_REAL, max(end - time.monotonic(), 1e-6))
        try:
            turn = next(turns)
        except StopIteration:
            return
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        yield turn


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
