"""What a worker does: train runs to their end, each epoch safe on disk as it ends; knows no Ray."""

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from dtb_builder.dataset import codec
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.journal import (
    Journal,
    JournalRun,
    StepFrame,
    append_epoch,
    cut_journal,
    open_journal,
)
from dtb_builder.errors import DamagedFileError, DivergedError, TimeLimitError
from dtb_builder.images.image_set import Images
from dtb_builder.network.network import Network
from dtb_builder.network.spec import NetworkSpec
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.generation.state_frames import StateEncoder, Storing
from dtb_builder.stages.settings.config import Config
from dtb_builder.stages.settings.images import ImagesConfig, check_images, load_split_images
from dtb_builder.stages.settings.network import network_spec
from dtb_builder.stages.work.disk import storage_is_named
from dtb_builder.training.environment import environment
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.kernels import kernels_name, library_of
from dtb_builder.training.loop import train
from dtb_builder.training.machine import set_up_machine
from dtb_builder.training.resident import ResidentImages, make_resident
from dtb_builder.training.resume import Checkpoint

__all__ = ["initial_network", "train_run", "training"]


def train_run(path: Path, run: PlannedRun, time_limit: float | None) -> None:
    """Train a run from its last finished epoch to its end, each epoch safe on disk as it ends.

    What goes wrong is written to the run's log and raised.

    Args:
        path: the run folder.
        run: which run.
        time_limit: seconds that it may take, or None.

    Raises:
        StorageError: the run folder cannot be written to. That is no fault of the run.
        ImagesError: the images are not here, or not those of the plan. Nor is that.
        ConfigError: this machine cannot do what the plan asks for. Nor is that.
        LockedError: another process trains the run. Nor is that.
        DivergedError: its loss is not a number any more.
        TimeLimitError: it took too long.
    """
    folder = RunFolder(path)
    with storage_is_named(path), _log(folder.log_file(run)) as log:
        try:
            with folder.run_locked(run):
                _make_ready(folder.config)  # takes none of the run's time, and is no fault of it
                with _limited(time_limit):
                    for epoch, metrics in training(folder, run, log):
                        line = "  ".join(f"{name}={value:.4g}" for name, value in metrics.items())
                        log.info("epoch %d: %s", epoch, line)
        except Exception:
            log.exception("failed")
            raise


def initial_network(genotype: Genotype, spec: NetworkSpec, seed: int) -> Network:
    """The network of a run before its training, the same on every device."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return Network(genotype, spec)


def training(
    folder: RunFolder, run: PlannedRun, log: logging.Logger
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """Train a run and store it; each epoch with its metrics, once it is safe on disk.

    The caller holds the run. What goes wrong is raised, and recorded nowhere.
    """
    config = folder.config
    images, data = _make_ready(config)
    check_images(images, folder.provenance_settings["images"]["sha256"], user=folder.path)
    spec = network_spec(config.network, images)
    network = initial_network(Genotype.parse(run.genotype), spec, run.seed)
    network.use_kernels(library_of(config.compute))
    storing = Storing(config.states, tensor_table(network))
    about = JournalRun(
        number=run.number,
        genotype=run.genotype,
        seed=run.seed,
        plan=folder.plan_id,
        num_parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        tensors=storing.tensors,
    )
    folder.working_folder(run.shard).mkdir(parents=True, exist_ok=True)
    journal, checkpoint = _recovered(folder, run, about, log)
    if journal.last_epoch == config.recipe.num_epochs:
        return
    facts = environment(config.compute.device, kernels=kernels_name(config.compute))
    encoder = StateEncoder(config.states, config.recipe.num_epochs, journal)
    for finished in train(
        network,
        data,
        config.recipe,
        seed=run.seed,
        state_steps=config.states.steps,
        resume=checkpoint,
    ):
        _check_finite(finished)
        _store(folder, run, storing, finished, facts, encoder)
        yield finished.epoch, finished.metrics
    for used in folder.checkpoint_files(run):
        used.unlink()


def _recovered(
    folder: RunFolder, run: PlannedRun, about: JournalRun, log: logging.Logger
) -> tuple[Journal, Checkpoint | None]:
    """The run's journal, and the checkpoint to go on from after its last epoch."""
    journal = open_journal(folder.journal_file(run), about)
    if journal.last_epoch is None or journal.last_epoch == folder.config.recipe.num_epochs:
        return journal, None
    file = folder.checkpoint_file(run, journal.last_epoch)
    try:
        checkpoint = Checkpoint.from_bytes(file.read_bytes())
    except (FileNotFoundError, DamagedFileError) as error:
        log.warning("begins again: no checkpoint of epoch %d: %s", journal.last_epoch, error)
        return cut_journal(journal, num_epochs=0), None
    log.info("goes on after epoch %d", journal.last_epoch)
    return journal, checkpoint


def _store(
    folder: RunFolder,
    run: PlannedRun,
    storing: Storing,
    finished: FinishedEpoch,
    facts: dict[str, str | int],
    encoder: StateEncoder,
) -> None:
    """Make an epoch safe: first what follows it needs, then its record, then drop what is older.

    At every moment the epoch that the journal ends with has its checkpoint.
    """
    config, epoch = folder.config, finished.epoch
    begin = time.perf_counter()
    state = (
        storing.stored(capture(finished.network))
        if config.states.keeps(epoch, config.recipe.num_epochs)
        else None
    )
    frame, key = (b"", None) if state is None else encoder.frame(epoch, state.values)
    step_frames = [
        StepFrame(step, within.num_batches_tracked, codec.encode(storing.stored(within).values))
        for step, within in finished.step_states.items()
    ]
    metrics = dict(finished.metrics)
    if state is not None or step_frames:
        seconds = time.perf_counter() - begin
        metrics["state_seconds"] = metrics.get("state_seconds", 0.0) + seconds
    if epoch < config.recipe.num_epochs:
        checkpoint = Checkpoint.capture(finished).to_bytes()
        write_whole(folder.checkpoint_file(run, epoch), checkpoint)
    append_epoch(
        folder.journal_file(run),
        epoch=epoch,
        metrics=metrics,
        environment=facts,
        num_batches_tracked=None if state is None else state.num_batches_tracked,
        frame=frame,
        key=key,
        step_frames=step_frames,
    )
    folder.checkpoint_file(run, epoch - 1).unlink(missing_ok=True)


def _check_finite(finished: FinishedEpoch) -> None:
    """Stop a training that has diverged: its later epochs would be worth nothing."""
    bad = {k: v for k, v in finished.metrics.items() if k.endswith("loss") and not math.isfinite(v)}
    if bad:
        raise DivergedError(f"epoch {finished.epoch} ended with {bad}")


def _make_ready(config: Config) -> tuple[Images, ResidentImages]:
    """Set up torch, and load the images unless this process has them."""
    set_up_machine(config.compute)
    return _images(config.images, config.compute.device)


@lru_cache(maxsize=1)
def _images(config: ImagesConfig, device: str) -> tuple[Images, ResidentImages]:
    """The images on the device; remembered, since a CPU worker trains one run after the other."""
    images, split = load_split_images(config)
    return images, make_resident(images, split, device)


@contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Raise `TimeLimitError` in the body after so many seconds; needs the main thread."""
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
    """A logger that appends to a run's own file."""
    log = logging.Logger(path.stem, logging.INFO)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        handler.close()
