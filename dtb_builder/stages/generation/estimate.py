"""Estimate the cost of a plan from a few training steps."""

import itertools
import time
from dataclasses import dataclass

import torch
from torch.nn import functional

from dtb_builder.images.settings import load_split_images
from dtb_builder.network.kernels import find_library
from dtb_builder.network.network import Network
from dtb_builder.network.state import tensor_table
from dtb_builder.space import Genotype
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.state_frames import Storing
from dtb_builder.stages.settings.network import network_spec

__all__ = ["Estimate", "estimate"]

_BYTES_PER_FLOAT = {"float32": 4 / 1.18, "bfloat16": 4 / 2.9}
"""The bytes of a weight after zstd, measured on trained DARTS networks."""

_BYTES_PER_DIFFERENCE = {"float32": 4 / 1.6, "bfloat16": 4 / 4.4}
"""The bytes of a weight's difference after zstd, with states.key_every=3."""

_FORWARD_SHARE = 1 / 3
"""The forward pass's share of a training step; the backward pass takes twice as long."""

_SAMPLE = 3
_MOST_IMAGES = 32


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a plan.

    Attributes:
        num_runs: the number of runs.
        num_shards: the number of shards.
        num_bytes: the bytes of all shards together.
        hours: the hours that a single worker would need, with the plan's threads or one GPU.
        device: the device on which the hours were measured.
    """

    num_runs: int
    num_shards: int
    num_bytes: int
    hours: float
    device: str


def estimate(folder: RunFolder) -> Estimate:
    """Time a few steps of a plan's first genotypes on this machine; takes seconds, writes nothing.

    Raises:
        ConfigError: the folder is not planned.
    """
    config = folder.config
    images, split = load_split_images(config.images)
    spec = network_spec(config.network, images)
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
        seconds = sum(_step_seconds(network, num_images) for network in networks) / len(networks)
    finally:
        torch.set_num_threads(threads)
    per_image = seconds / num_images
    num_evaluated = len(split.valid) + len(images.test_labels)
    num_epochs = config.recipe.num_epochs - config.first_epoch
    run_seconds = per_image * (
        num_epochs * len(split.train) + (num_epochs + 1) * num_evaluated * _FORWARD_SHARE
    )
    num_runs = sum(1 for _ in folder.plan())
    num_differences = sum(moment.base is not None for moment in folder.moments)
    num_whole = len(folder.moments) - num_differences
    num_whole += len(config.momentum_epochs)  # it takes as much as a state
    state_bytes = num_whole * _BYTES_PER_FLOAT[config.states.dtype]
    state_bytes += num_differences * _BYTES_PER_DIFFERENCE[config.states.dtype]
    tables = [Storing(config.states, tensor_table(network)).tensors for network in networks]
    num_floats = sum(table.num_floats for table in tables) / len(tables)
    return Estimate(
        num_runs=num_runs,
        num_shards=-(-num_runs // config.shard_size),
        num_bytes=round(num_runs * num_floats * state_bytes),
        hours=num_runs * run_seconds / 3600,
        device=device,
    )


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
