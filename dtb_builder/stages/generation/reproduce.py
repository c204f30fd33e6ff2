"""Train or evaluate stored runs again, and compare the results with the file."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtb_builder.dataset import Benchmark, Run
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.dataset.provenance import whole_provenance
from dtb_builder.dataset.replay import claimed_spec, start_of
from dtb_builder.dataset.source import located
from dtb_builder.dataset.trained_images import images_of
from dtb_builder.errors import DTBError
from dtb_builder.images import Images
from dtb_builder.network.initial import initial_network
from dtb_builder.network.kernels import find_library
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.record import TrainingState
from dtb_builder.stages.generation.state_frames import Storing
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.settings.states import StatesConfig
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.environment import environment
from dtb_builder.training.evaluation import evaluate
from dtb_builder.training.kernels import library_of
from dtb_builder.training.loop import train
from dtb_builder.training.machine import set_up_machine
from dtb_builder.training.recipe import Recipe
from dtb_builder.training.resident import ResidentImages, make_resident

__all__ = [
    "Recomputed",
    "agrees",
    "environment_changes",
    "reevaluate",
    "reproduce",
    "tolerances_of",
]

_EVALUATED = ("valid_loss", "valid_accuracy", "test_loss", "test_accuracy")
_LOSS_TOLERANCE = 1e-3
_ACCURACY_TOLERANCE = 0.01
"""How far losses (relative) and accuracies may differ on another machine."""

_ROUNDED_TOLERANCE = 0.03
"""How far rounding to bfloat16 may change a loss (relative) and an accuracy."""

_FEW_IMAGES = 3
"""The number of images that may always be classified differently."""


@dataclass(frozen=True)
class Recomputed:
    """An epoch of a run that was computed again.

    Attributes:
        number: the run's number.
        epoch: the epoch.
        mismatches: texts on values that differ from the stored ones; empty if none does.
    """

    number: int
    epoch: int
    mismatches: tuple[str, ...]


def reproduce(benchmark: Benchmark, number: int, *, root: Path | None) -> Iterator[Recomputed]:
    """Train a run again and compare each epoch bit for bit, except for times.

    The run of a branch is trained from the start of the branch.

    Args:
        benchmark: an open benchmark or shard.
        number: the run's number.
        root: the path of the images; None for the default.

    Raises:
        KeyError: the benchmark has no such run.
        ImagesError: the images are not those of the training.
        ConfigError: this machine does not have the device of the training.
    """
    run = benchmark.run(number)
    images, data = _images(benchmark, root)
    spec = claimed_spec(run, images)
    network = initial_network(run.genotype, spec, run.seed)
    recipe = parse(Recipe, whole_provenance(benchmark)["config"]["recipe"])
    network.use_kernels(library_of(_compute(benchmark), recipe.activations))
    settings = parse(StatesConfig, whole_provenance(benchmark)["config"]["states"])
    storing = Storing(settings, tensor_table(network))
    steps = run.state_steps
    began = run.branch_epoch
    start = None if began is None else start_of(run, began)
    with damage_is_named(run.file):
        epochs = train(network, data, recipe, seed=run.order_seed, state_steps=steps, resume=start)
    for finished in epochs:
        if finished.epoch > run.num_epochs:
            return  # it diverged then
        mismatches = [
            f"{name} {value!r}, stored {run.metric(name, epoch=finished.epoch)!r}"
            for name, value in finished.metrics.items()
            if not name.endswith("seconds") and value != run.metric(name, epoch=finished.epoch)
        ]
        captured = capture(finished.network)
        if crc32c(captured.values.data) != run.state_crc32c(epoch=finished.epoch):
            mismatches.append("the checksum of the state")
        if finished.epoch in run.state_epochs:
            stored = run.training_state(epoch=finished.epoch)
            mismatches += _floats_that_differ(storing.stored(captured), stored, "the state")
        for step, state in finished.step_states.items():
            stored = run.training_state(step=step)
            mismatches += _floats_that_differ(
                storing.stored(state), stored, f"the state of step {step}"
            )
        yield Recomputed(number, finished.epoch, tuple(mismatches))


def reevaluate(benchmark: Benchmark, *, root: Path | None) -> Iterator[Recomputed]:
    """Evaluate every stored state again, and compare the results with its stored metrics.

    States without metrics are left out. With the device and software of the training, the results
    must be the same to the last bit; otherwise losses may differ by 0.1 % and accuracies by 0.01 or
    by three images. For states in bfloat16, which were rounded after their evaluation, losses may
    differ by 3 % and accuracies by 0.03.

    Raises:
        ImagesError: the images are not those of the training.
        ConfigError: this machine does not have the device of the training.
    """
    _, data = _images(benchmark, root)
    precision = whole_provenance(benchmark)["config"]["recipe"]["precision"]
    rounded = _is_rounded(benchmark)
    tolerances = tolerances_of(benchmark)
    for run in benchmark:
        unknown = np.ma.getmaskarray(run.curve("valid_loss"))
        for epoch in (epoch for epoch in run.state_epochs if not unknown[epoch]):
            try:
                network = run.network(epoch=epoch).to(data.device)
            except DTBError as error:
                yield Recomputed(run.number, epoch, (str(error),))
                continue
            valid = evaluate(network, data.valid, data, precision=precision)
            test = evaluate(network, data.test, data, precision=precision)
            found = (valid.loss, valid.accuracy, test.loss, test.accuracy)
            same = not rounded and not environment_changes(run, epoch)
            yield Recomputed(
                run.number,
                epoch,
                tuple(
                    f"{name} {value!r}, stored {stored!r}"
                    for name, value in zip(_EVALUATED, found, strict=True)
                    if not agrees(
                        name,
                        value,
                        stored := run.metric(name, epoch=epoch),
                        0.0 if same else tolerances[name],
                    )
                ),
            )


def tolerances_of(benchmark: Benchmark) -> dict[str, float]:
    """How far each metric may differ from the stored one on another machine; see `agrees`."""
    rounded = _is_rounded(benchmark)
    far = _ROUNDED_TOLERANCE if rounded else _ACCURACY_TOLERANCE
    sizes = {name: split["size"] for name, split in whole_provenance(benchmark)["splits"].items()}
    return {
        name: max(far, _FEW_IMAGES / sizes[name.partition("_")[0]])
        if name.endswith("accuracy")
        else (_ROUNDED_TOLERANCE if rounded else _LOSS_TOLERANCE)
        for name in _EVALUATED
    }


def agrees(name: str, value: float, stored: float, tolerance: float) -> bool:
    """Whether a metric agrees with the stored one; the tolerance of a loss is relative."""
    if tolerance == 0:
        return value == stored
    if name.endswith("accuracy"):
        return math.isclose(value, stored, rel_tol=0, abs_tol=tolerance + 1e-9)
    return math.isclose(value, stored, rel_tol=tolerance)


def environment_changes(run: Run, epoch: int) -> tuple[str, ...]:
    """Texts on the differences between this machine and the one that trained an epoch."""
    stored = run.environment(epoch=epoch)
    device = str(stored.get("device", "cpu"))
    library = find_library(device) if "kernels" in stored else None
    name = None if library is None else library.name
    here: dict[str, Any] = dict(environment(device, kernels=name))
    return tuple(
        f"{key}: {stored.get(key)!r} then, {here.get(key)!r} now"
        for key in sorted(stored.keys() | here.keys())
        if stored.get(key) != here.get(key)
    )


def _is_rounded(benchmark: Benchmark) -> bool:
    return whole_provenance(benchmark)["config"]["states"].get("dtype") == "bfloat16"


def _images(benchmark: Benchmark, root: Path | None) -> tuple[Images, ResidentImages]:
    """Set up torch as for the training; the benchmark's images, here and on its device."""
    images, split = images_of(whole_provenance(benchmark), root, user=located(benchmark.path))
    compute = _compute(benchmark)
    set_up_machine(compute)
    return images, make_resident(images, split, compute.device)


def _compute(benchmark: Benchmark) -> ComputeConfig:
    return parse(ComputeConfig, whole_provenance(benchmark)["config"]["compute"])


def _floats_that_differ(found: TrainingState, stored: TrainingState, name: str) -> list[str]:
    wrong = found.values.view("<u4") != stored.values.view("<u4")
    return [f"{wrong.sum()} of {len(wrong)} floats of {name}"] if wrong.any() else []
