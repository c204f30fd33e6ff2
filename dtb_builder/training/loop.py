"""The training of a network, as a generator of its epochs."""

import time
from collections.abc import Callable, Collection, Generator
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from dtb_builder.network.kernels import Library
from dtb_builder.network.network import Network
from dtb_builder.network.state import capture
from dtb_builder.record import TrainingState
from dtb_builder.training.draws import BatchDraws, draw_epoch
from dtb_builder.training.evaluation import evaluate
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.optimizer import make_optimizer
from dtb_builder.training.recipe import Recipe
from dtb_builder.training.recorded import Recorded, record_cuda_graph
from dtb_builder.training.resident import ResidentImages
from dtb_builder.training.seeds import epoch_rng, seeded_torch
from dtb_builder.training.step import train_on_batch

__all__ = ["StartingPoint", "train"]

Step = Callable[[BatchDraws], Tensor]
"""Trains on a batch; see train_on_batch."""


class StartingPoint(Protocol):
    """The end of an epoch from which a training continues: a `Checkpoint` or a `Start`."""

    @property
    def epoch(self) -> int:
        """The epoch's number."""
        ...

    def restore(self, network: nn.Module, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        """Set all three to their states at the end of the epoch."""
        ...


def train(
    network: nn.Module,
    data: ResidentImages,
    recipe: Recipe,
    *,
    seed: int,
    state_steps: Collection[int] = (),
    resume: StartingPoint | None = None,
) -> Generator[FinishedEpoch, None, None]:
    """Train a network in place, and yield after each epoch.

    Epoch 0 is the network before training. A loss that is not finite is yielded like any other
    and does not stop the training.

    Args:
        network: returns logits or, in training mode, a pair of logits and the auxiliary head's
            logits. It needs a method ``set_drop_path(probability)`` if the recipe has drop-path.
            It is moved to the images' device.
        data: the images to train on and to evaluate on.
        recipe: how to train.
        seed: seeds the order of the images, their augmentation and drop-path, but not the
            initialisation. The random number generators of the caller are not changed.
        state_steps: the steps, counted over the whole training, after which the network's state is
            captured; it is yielded with the step's epoch.
        resume: the end of an epoch to continue from; it also sets the network's weights.

    Raises:
        ValueError: the network does not support the recipe, `resume` is of a later epoch than the
            recipe's last, or a step is outside the training.
    """
    if len(data.train) < 2:
        raise ValueError(f"at least 2 images must be trained on, got {len(data.train)}")
    if recipe.drop_path_probability > 0 and not _has_drop_path(network):
        raise ValueError(
            f"drop_path_probability is {recipe.drop_path_probability}, so the network must have "
            f"a method set_drop_path, got a {type(network).__name__} without"
        )
    if resume is not None and resume.epoch > recipe.num_epochs:
        raise ValueError(
            f"a checkpoint must be of an epoch in 0..{recipe.num_epochs}, got {resume.epoch}"
        )
    last_step = recipe.num_epochs * recipe.num_steps(len(data.train))
    if outside := [step for step in state_steps if not 1 <= step <= last_step]:
        raise ValueError(f"state_steps must be in 1..{last_step}, got {outside}")
    return _epochs(network, data, recipe, seed, state_steps, resume)


def _epochs(
    network: nn.Module,
    data: ResidentImages,
    recipe: Recipe,
    seed: int,
    state_steps: Collection[int],
    resume: StartingPoint | None,
) -> Generator[FinishedEpoch, None, None]:
    # pyright finds no overload with both arguments; there is one at run time.
    network.to(device=data.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = make_optimizer(network, recipe, data.device)
    scheduler = CosineAnnealingLR(
        optimizer, T_max=recipe.num_epochs, eta_min=recipe.min_learning_rate
    )

    kernels = network.kernels if isinstance(network, Network) else None
    augmenting = kernels if isinstance(kernels, Library) else None  # to the same bits as torch
    step: Step = partial(train_on_batch, network, data, recipe, optimizer, kernels=augmenting)

    def finished(
        epoch: int, trained: dict[str, float], step_states: dict[int, TrainingState]
    ) -> FinishedEpoch:
        metrics = trained | (_evaluated(network, data, recipe) if recipe.evaluates(epoch) else {})
        return FinishedEpoch(epoch, metrics, network, optimizer, scheduler, step_states)

    if resume is None:
        yield finished(0, {}, {})
        first = 1
    else:
        resume.restore(network, optimizer, scheduler)
        first = resume.epoch + 1
    num_steps = recipe.num_steps(len(data.train))
    for epoch in range(first, recipe.num_epochs + 1):
        before = (epoch - 1) * num_steps
        steps = {number - before for number in state_steps}
        trained, within = _trained(network, data, recipe, optimizer, step, seed, epoch, steps)
        scheduler.step()
        yield finished(epoch, trained, {before + number: s for number, s in within.items()})


def _trained(
    network: nn.Module,
    data: ResidentImages,
    recipe: Recipe,
    optimizer: Optimizer,
    step: Step,
    seed: int,
    epoch: int,
    state_steps: Collection[int],
) -> tuple[dict[str, float], dict[int, TrainingState]]:
    """Train for one epoch; return its metrics, and the states after `state_steps` of the epoch."""
    network.train()
    if _has_drop_path(network):
        network.set_drop_path(recipe.drop_path_at(epoch))  # pyright: ignore[reportCallIssue]
    learning_rate = optimizer.param_groups[0]["lr"]
    begin = _now(data.device)
    height, width = data.train.images.shape[2:]
    batches = draw_epoch(
        len(data.train),
        recipe,
        size=(height, width),
        rng=epoch_rng(seed, epoch),
        device=data.device,
    )
    # Loss and correct predictions stay on the device, so that the host waits once per epoch.
    totals = torch.zeros(2, dtype=torch.float64, device=data.device)
    num_seen = 0
    states: dict[int, TrainingState] = {}
    capture_seconds = 0.0
    if data.device.type == "cuda":
        step = Recorded(step, record_cuda_graph)
    repeating = network.repeating_passes() if isinstance(network, Network) else nullcontext()
    with seeded_torch(seed, epoch, data.device), repeating:
        for number, draws in enumerate(batches, start=1):
            totals += step(draws)
            num_seen += len(draws.indices)
            if number in state_steps:
                captured = _now(data.device)
                states[number] = capture(network)
                capture_seconds += _now(data.device) - captured
    loss, num_correct = totals.tolist()
    metrics = {
        "train_loss": loss / num_seen,
        "train_accuracy": num_correct / num_seen,
        "learning_rate": learning_rate,
        "train_seconds": _now(data.device) - begin - capture_seconds,
    }
    if states:
        metrics["state_seconds"] = capture_seconds
    return metrics, states


def _evaluated(network: nn.Module, data: ResidentImages, recipe: Recipe) -> dict[str, float]:
    begin = _now(data.device)
    valid = evaluate(network, data.valid, data, precision=recipe.precision)
    test = evaluate(network, data.test, data, precision=recipe.precision)
    return {
        "valid_loss": valid.loss,
        "valid_accuracy": valid.accuracy,
        "test_loss": test.loss,
        "test_accuracy": test.accuracy,
        "evaluation_seconds": _now(data.device) - begin,
    }


def _now(device: torch.device) -> float:
    """Seconds on a clock, after the device has finished all work so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _has_drop_path(network: nn.Module) -> bool:
    return callable(getattr(network, "set_drop_path", None))
