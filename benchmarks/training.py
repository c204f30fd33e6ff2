"""How fast a training step is, beside the reference's own.

    python benchmarks/training.py --reference PATH [--kernels off]
    python benchmarks/training.py --reference PATH --device cuda --steps 260 --packed 1 2 4 8

PATH is a checkout of https://github.com/quark0/darts; nothing of it is copied; without, ours stand
alone. On a GPU, ours is an epoch with whatever it costs to record its graph, so that `--steps`
should be an epoch's; `--modules` times our modules, too, eager and recorded. Runs `--together` are
in this process, on a CUDA stream each. Packed runs have a process each; they share the GPU at once
only under NVIDIA's MPS, which `nvidia-cuda-mps-control -d` starts, and take turns without.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.append(str(Path(__file__).parent.parent))

from benchmarks.reference import Reference
from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import AnyLibrary, find_library
from dtb_builder.network.network import Network
from dtb_builder.space import Genotype
from dtb_builder.space.sampling import sample_uniform
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.training import Recipe, environment, loop
from dtb_builder.training.finished import FinishedEpoch
from dtb_builder.training.loop import train, train_in_turns
from dtb_builder.training.resident import LabelledImages, ResidentImages
from dtb_builder.training.setup import set_up_torch
from dtb_builder.training.turns import on_own_stream

BATCH = 96
IMAGE_SIZE = 32
REFERENCE_STEPS = 40
"""Of a turn at most: the reference does the same in each."""
SIZES = {"C=16 L=8": (16, 8), "C=8 L=5": (8, 5)}
RECIPE = replace(Recipe(**read_conf("recipe/darts")), num_epochs=10_000)


Timing = dict[str, list[float]]
"""Milliseconds per step of one genotype, by side; one entry per turn."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reference", type=Path, help="a checkout of quark0/darts")
    parser.add_argument("--modules", action="store_true", help="on a GPU, time our modules, too")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--genotypes", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first genotype")
    parser.add_argument("--turns", type=int, default=5, help="of each side, A B A B")
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--kernels", choices=("on", "off"), help="compiled passes; on where they can be by default"
    )
    parser.add_argument(
        "--packed", type=int, nargs="*", default=[], help="numbers of runs that share the device"
    )
    parser.add_argument(
        "--together", type=int, nargs="*", default=[], help="numbers of runs in this process"
    )
    parser.add_argument("--packed-seconds", type=float, default=15.0, help="together, too")
    parser.add_argument("--activations", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--plain", action="store_true", help="without the auxiliary head and drop-path"
    )
    arguments = parser.parse_args()
    set_up_torch(threads=1, deterministic=False)
    library = None if arguments.kernels == "off" else find_library(arguments.device)
    if arguments.kernels == "on" and library is None:
        parser.error("--kernels on: this installation has none")
    if library is not None and arguments.activations == "bfloat16":
        library = library.storing_bfloat16()
    facts = environment(arguments.device, kernels=None if library is None else library.name)
    facts["activations"] = arguments.activations
    print("  ".join(f"{name}={value}" for name, value in facts.items()))
    reference = None if arguments.reference is None else Reference(arguments.reference)
    for size in arguments.sizes:
        channels, layers = SIZES[size]
        spec = NetworkSpec(
            channels=channels,
            layers=layers,
            num_classes=10,
            image_size=IMAGE_SIZE,
            auxiliary=not arguments.plain,
        )
        print(f"\n{size}, batch {BATCH}, one thread; ms per step, median of {arguments.turns}")
        timings: list[Timing] = []
        for i in range(arguments.first, arguments.first + arguments.genotypes):
            genotype = sample_uniform(seed=0, index=i)
            timing = _compare(reference, genotype, spec, library, arguments)
            if not timings:
                print(f"| genotype | {' | '.join(timing)} | ratio | ratio of the fastest turns |")
                print("|---" * (len(timing) + 3) + "|")
            timings.append(timing)
            medians = [f"{statistics.median(values):.4g}" for values in timing.values()]
            ratio, fastest = _ratio(timing, statistics.median), _ratio(timing, min)
            print(f"| {i} | {' | '.join(medians)} | {ratio:.2f} | {fastest:.2f} |", flush=True)
        mean = statistics.mean(_ratio(timing, statistics.median) for timing in timings)
        fastest = statistics.mean(_ratio(timing, min) for timing in timings)
        print(f"| mean |{' |' * len(timings[0])} **{mean:.2f}** | {fastest:.2f} |")
        for num_runs in arguments.together:
            ms = _together(num_runs, spec, library, arguments)
            print(f"{num_runs} runs together: {ms:.4g} ms per step of all", flush=True)
        for num_runs in arguments.packed:
            packed = _packed(num_runs, spec, arguments)
            print(f"{num_runs} runs at once: {packed:.4g} ms per step of all together", flush=True)


def _ratio(timing: Timing, of: Callable[[list[float]], float]) -> float:
    """How many steps of the last side fit into one of the first."""
    first, *_, last = timing.values() if len(timing) > 1 else 2 * list(timing.values())
    return of(first) / of(last)


def _compare(
    reference: Reference | None,
    genotype: Genotype,
    spec: NetworkSpec,
    library: AnyLibrary | None,
    arguments: argparse.Namespace,
) -> Timing:
    device = arguments.device
    torch.manual_seed(0)
    first = Network(genotype, spec)
    recipe = replace(RECIPE, drop_path_ramp=False)
    if not spec.auxiliary:
        recipe = replace(recipe, auxiliary_weight=0.0, drop_path_probability=0.0)
    data = _images(arguments.steps, device)
    reference_steps = min(arguments.steps, REFERENCE_STEPS)
    sides: dict[str, tuple[int, Iterator[object]]] = {}
    if reference is not None:
        theirs = reference.build(genotype, spec)
        theirs.load_state_dict(first.state_dict())
        turns = _reference_turns(theirs.to(device), recipe, data, reference_steps)
        sides["reference"] = (reference_steps, turns)

    def ours(library: AnyLibrary | None) -> Iterator[object]:
        network = Network(genotype, spec)
        network.load_state_dict(first.state_dict())
        network.use_kernels(library)
        return _our_turns(network, recipe, data)

    if arguments.modules:
        sides["modules, eager"] = (arguments.steps, _eager(ours(None)))
        sides["modules, recorded"] = (arguments.steps, ours(None))
    sides["ours"] = (arguments.steps, ours(library))
    timing: Timing = {name: [] for name in sides}
    for _ in range(arguments.turns + 1):
        for name, (count, turn) in sides.items():
            begin = _now(data.device)
            next(turn)
            timing[name].append(1000 * (_now(data.device) - begin) / count)
    # The first turn of each warms up.
    return {name: values[1:] for name, values in timing.items()}


def _eager(turns: Iterator[object]) -> Iterator[object]:
    """The same epochs, launched step by step from Python."""
    while True:
        with mock.patch.object(loop, "Recorded", lambda function, _record: function):
            turn = next(turns)
        yield turn


def _together(
    num_runs: int, spec: NetworkSpec, library: AnyLibrary | None, arguments: argparse.Namespace
) -> float:
    """Milliseconds per step of all runs, which take turns in this process."""
    recipe = replace(RECIPE, drop_path_ramp=False)
    data = _images(arguments.steps, arguments.device)
    runs: list[Iterator[FinishedEpoch | None]] = []
    for i in range(num_runs):
        network = spec.build(sample_uniform(0, i))
        network.use_kernels(library)
        turns = train_in_turns(network, data, recipe, seed=0)
        runs.append(on_own_stream(turns) if data.device.type == "cuda" else turns)
    num_done = [-2] * num_runs  # epochs; the initialisation and the first one warm up
    begin = end = time.perf_counter()
    while end - begin < arguments.packed_seconds or sum(num_done) < num_runs:
        for i, turns in enumerate(runs):
            num_done[i] += next(turns) is not None
        end = time.perf_counter()
        if min(num_done) < 0:
            num_done = [min(done, 0) for done in num_done]
            begin = end
    return 1000 * (end - begin) / (sum(num_done) * arguments.steps)


def _packed(num_runs: int, spec: NetworkSpec, arguments: argparse.Namespace) -> float:
    """Milliseconds per step of all runs together, each of which has a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready, stopped = context.Barrier(num_runs + 1), context.Event()
    counted = context.Queue()
    shared = (spec, arguments.device, arguments.steps, ready, stopped, counted)
    processes = [context.Process(target=_train_until, args=(i, *shared)) for i in range(num_runs)]
    for process in processes:
        process.start()
    ready.wait()
    time.sleep(arguments.packed_seconds)
    stopped.set()
    steps_per_second = sum(counted.get() for _ in processes)
    for process in processes:
        process.join()
    return 1000 / steps_per_second


def _train_until(
    index: int,
    spec: NetworkSpec,
    device: str,
    num_steps: int,
    ready: Barrier,
    stopped: Event,
    counted: "multiprocessing.Queue[float]",
) -> None:
    """Train a random genotype from when all are ready until told to stop; its steps a second."""
    set_up_torch(threads=1, deterministic=False)
    recipe = replace(RECIPE, drop_path_ramp=False)
    network = spec.build(sample_uniform(0, index))
    network.use_kernels(find_library(device))
    turns = _our_turns(network, recipe, _images(num_steps, device))
    next(turns)
    ready.wait()
    begin, num_done = time.perf_counter(), 0
    while not stopped.is_set():
        next(turns)
        num_done += num_steps
    counted.put(num_done / (time.perf_counter() - begin))


def _our_turns(network: nn.Module, recipe: Recipe, data: ResidentImages) -> Iterator[object]:
    """Epochs of train: with its augmentation, its metrics and its evaluation of four images."""
    epochs = train(network, data, recipe, seed=0)
    next(epochs)
    return epochs


def _reference_turns(
    network: nn.Module, recipe: Recipe, data: ResidentImages, num_steps: int
) -> Iterator[None]:
    """Steps of the reference's loop, given batches that are ready: no augmentation."""
    optimizer = torch.optim.SGD(
        network.parameters(),
        recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    network.drop_path_prob = recipe.drop_path_probability  # pyright: ignore[reportArgumentType]
    images = data.train.images.float().div(255).sub(0.5).div(0.25)
    assert recipe.gradient_clip is not None
    while True:
        network.train()
        for i in range(num_steps):
            batch = slice(i * BATCH, (i + 1) * BATCH)
            labels = data.train.labels[batch]
            optimizer.zero_grad()
            logits, auxiliary_logits = network(images[batch])
            loss = functional.cross_entropy(logits, labels)
            if recipe.auxiliary_weight > 0:
                loss = loss + recipe.auxiliary_weight * functional.cross_entropy(
                    auxiliary_logits, labels
                )
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_clip)
            optimizer.step()
            loss.item()
            logits.topk(5).indices.eq(labels[:, None]).float().sum(0).tolist()
        yield


def _images(num_batches: int, device: str) -> ResidentImages:
    """Noise to train on, and two images of it to evaluate with, as little as train accepts."""
    rng = np.random.default_rng(0)

    def part(num_images: int) -> LabelledImages:
        pixels = rng.integers(0, 256, (num_images, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        labels = rng.integers(0, 10, num_images)
        return LabelledImages(torch.tensor(pixels).to(device), torch.tensor(labels).to(device))

    half = torch.full((3,), 0.5, device=device)
    return ResidentImages(part(num_batches * BATCH), part(2), part(2), half, half / 2)


def _now(device: torch.device) -> float:
    """Seconds; on the CPU those that this process was given, so that others' work counts less."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    main()
