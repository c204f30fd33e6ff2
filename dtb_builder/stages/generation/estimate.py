"""Estimate the cost of a plan from a few training steps."""

import itertools
import time
from dataclasses import dataclass
from statistics import mean

import torch
from torch.nn import functional

from dtb_builder.dataset.codec import encode
from dtb_builder.network.kernels import find_library
from dtb_builder.network.network import Network
from dtb_builder.network.state import capture, tensor_table
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.state_frames import Storing
from dtb_builder.stages.settings.config import Config

__all__ = ["Estimate", "RunSeconds", "estimate", "evaluation_hint"]

_BYTES_PER_FLOAT = {"float32": 4 / 1.18, "bfloat16": 4 / 2.9}
"""The bytes of a weight after zstd, measured on trained DARTS networks."""

_BYTES_PER_DIFFERENCE = {"float32": 4 / 1.6, "bfloat16": 4 / 4.4}
"""The bytes of a weight's difference after zstd, with states.key_every=3."""

_FORWARD_SHARE = 1 / 3
"""The forward pass's share of a training step; the backward pass takes twice as long."""

_MUCH_EVALUATION = 0.5
"""From this share of a run's time on, a plan says how to evaluate less."""

_FEW_EVALUATED = 1000
_SAMPLE = 3
_MOST_IMAGES = 32


@dataclass(frozen=True)
class RunSeconds:
    """The seconds that one run takes.

    Attributes:
        training: seconds of its training steps.
        evaluation: seconds of its evaluations.
        storing: seconds of storing states and checkpoints; if they were timed, also of loading
            images and building the network.
    """

    training: float
    evaluation: float
    storing: float

    @property
    def total(self) -> float:
        """The total seconds."""
        return self.training + self.evaluation + self.storing


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a plan.

    Attributes:
        num_runs: the number of runs.
        num_shards: the number of shards.
        num_bytes: the bytes of all shards together.
        run: the mean seconds of a run.
        num_evaluated: the numbers of validation and test images of an evaluation.
        device: the device on which the seconds were measured.
    """

    num_runs: int
    num_shards: int
    num_bytes: int
    run: RunSeconds
    num_evaluated: tuple[int, int]
    device: str

    @property
    def hours(self) -> float:
        """The hours that a single worker takes for the whole plan, on one thread or one GPU."""
        return self.num_runs * self.run.total / 3600


def estimate(folder: RunFolder) -> Estimate:
    """Time a few steps of a plan's first genotypes here; takes seconds and writes nothing.

    Raises:
        ConfigError: the folder is not planned.
    """
    config = folder.config
    spec = folder.network_spec
    device = "cuda" if config.compute.device == "cuda" and torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(config.compute.threads)
    try:
        texts = dict.fromkeys(run.genotype for run in itertools.islice(folder.plan(), _SAMPLE))
        networks = [Network(Genotype.parse(text), spec).to(device) for text in texts]
        kernels = find_library(device) if config.compute.kernels == "on" else None
        for network in networks:
            network.use_kernels(kernels)
        num_images = min(config.recipe.batch_size, _MOST_IMAGES)
        seconds = mean(_step_seconds(network, num_images) for network in networks)
        storing_seconds = mean(map(_storing_seconds, networks))
    finally:
        torch.set_num_threads(threads)
    per_image = seconds / num_images
    num_evaluated = folder.num_evaluated
    num_epochs = config.recipe.num_epochs - config.first_epoch
    num_runs = sum(1 for _ in folder.plan())
    num_differences = sum(moment.base is not None for moment in folder.moments)
    num_whole = len(folder.moments) - num_differences
    num_whole += len(config.momentum_epochs)  # a momentum takes as many bytes as a state
    state_bytes = num_whole * _BYTES_PER_FLOAT[config.states.dtype]
    state_bytes += num_differences * _BYTES_PER_DIFFERENCE[config.states.dtype]
    tables = [Storing(config.states, tensor_table(network)).tensors for network in networks]
    num_floats = sum(table.num_floats for table in tables) / len(tables)
    return Estimate(
        num_runs=num_runs,
        num_shards=-(-num_runs // config.shard_size),
        num_bytes=round(num_runs * num_floats * state_bytes),
        run=RunSeconds(
            training=per_image * num_epochs * folder.num_trained_on,
            evaluation=per_image * _FORWARD_SHARE * sum(num_evaluated) * config.num_evaluations,
            storing=storing_seconds * len(folder.moments),
        ),
        num_evaluated=num_evaluated,
        device=device,
    )


def evaluation_hint(cost: Estimate, config: Config) -> str | None:
    """How to evaluate less, if evaluations take most of a run's time; else None."""
    share = cost.run.evaluation / cost.run.total
    if share < _MUCH_EVALUATION:
        return None
    valid, test = cost.num_evaluated
    less = ["images.num_valid=1000"] if valid > _FEW_EVALUATED else []
    less += ["images.num_test=1000"] if test > _FEW_EVALUATED else []
    less += ["recipe.evaluate_epochs=[0]"] if config.recipe.evaluate_epochs is None else []
    instead = f": {' or '.join(less)} makes it less" if less else ""
    return f"{100 * share:.0f} % evaluates {valid:,} + {test:,} images{instead}"


def _step_seconds(network: Network, num_images: int) -> float:
    """The seconds of a training step on a number of images, after a warm-up step."""
    device = next(network.parameters()).device
    size = network.spec.image_size
    images = torch.zeros(num_images, network.spec.input_channels, size, size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(num_images, dtype=torch.int64, device=device)
    begin = time.perf_counter()
    for _ in range(2):
        begin = time.perf_counter()
        logits = network(images)
        loss = functional.cross_entropy(logits[0] if isinstance(logits, tuple) else logits, labels)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _storing_seconds(network: Network) -> float:
    """The seconds of compressing a state."""
    begin = time.perf_counter()
    encode(capture(network).values)
    return time.perf_counter() - begin
