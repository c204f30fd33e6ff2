"""What a run, a state and a command cost beside their work, in processor seconds.

    python benchmarks/overheads.py [--runs 10000] [--turns 3] [--parts step commands ...]

Each line has a peer or a floor that is measured in the same run, in turns with ours (A B A B): one
forward and backward pass, `cp`, scipy, bare Ray, Python's own start. Prints medians and ratios.
Runs of `files` are stand-ins, which train nothing and write real journals.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import stand_in
from benchmarks.scale import launch_of
from benchmarks.scores import probe_of
from dtb_builder import Benchmark
from dtb_builder.cli import main as dtb
from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import find_library
from dtb_builder.scores.names import ARCHITECTURE_SCORES, KERNEL_SCORES, SCORES
from dtb_builder.scores.scoring import Probe, score_network
from dtb_builder.space import sample_uniform
from dtb_builder.stages.generation.driver import generate
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.ranking.population import Population
from dtb_builder.stages.ranking.rank import rank
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.training import Recipe, environment
from dtb_builder.training.loop import train
from dtb_builder.training.resident import LabelledImages, ResidentImages
from dtb_builder.training.setup import set_up_torch

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "dtb_builder" / "example.h5"
BATCH, STEPS = 64, 20
"""Those of the quickstart."""

Line = tuple[str, Callable[[], float], str, Callable[[], float]]
"""What is measured, ours, the name of the peer, the peer; both return processor seconds."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--runs", type=int, default=10_000, help="stand-in runs of `files`")
    parser.add_argument("--networks", type=int, default=1000, help="networks of `rankings`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    given = parser.parse_args()
    set_up_torch(threads=1, deterministic=True)
    print("  ".join(f"{name}={value}" for name, value in environment("cpu").items()))
    print("\n| what | ours, s | peer | peer, s | ours / peer |\n|---|---|---|---|---|")
    for part in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            for what, ours, peer, theirs in PARTS[part](given, Path(folder)):
                pairs = [(ours(), theirs()) for _ in range(given.turns)]
                one, other = (statistics.median(column) for column in zip(*pairs, strict=True))
                print(
                    f"| {what} | {one:.4g} | {peer} | {other:.4g} | {one / other:.2f} |", flush=True
                )
    print(f"\nload average {os.getloadavg()[1]:.1f}")


def of_steps(_given: argparse.Namespace, _folder: Path) -> Iterator[Line]:
    """A training step of the quickstart, with augmentation, metrics and the optimiser."""
    rng = np.random.default_rng(0)

    def part(num_images: int) -> LabelledImages:
        pixels = rng.integers(0, 256, (num_images, 1, 8, 8), np.uint8)
        return LabelledImages(torch.tensor(pixels), torch.tensor(rng.integers(0, 10, num_images)))

    data = ResidentImages(part(STEPS * BATCH), part(2), part(2), torch.ones(1), torch.ones(1))
    recipe = replace(Recipe(**read_conf("recipe/smoke")), num_epochs=10_000, batch_size=BATCH)
    ours, bare = _quickstart_network(), _quickstart_network()
    epochs = train(ours, data, recipe, seed=0)
    next(epochs)
    images = data.train.images[:BATCH].float().contiguous(memory_format=torch.channels_last)

    def bare_steps() -> None:
        for _ in range(STEPS):
            bare.zero_grad()
            functional.cross_entropy(bare(images), data.train.labels[:BATCH]).backward()

    bare.train()
    yield (
        "a step of the quickstart",
        lambda: _seconds(lambda: next(epochs)) / STEPS,
        "forward and backward pass",
        lambda: _seconds(bare_steps) / STEPS,
    )


def _quickstart_network() -> nn.Module:
    spec = NetworkSpec(channels=8, layers=3, num_classes=10, input_channels=1, image_size=8)
    network = spec.build(sample_uniform(0, 0))
    network.use_kernels(find_library("cpu"))
    return network


def of_processes(_given: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """What a process costs before it trains, and Ray before it calls."""
    settings = "experiment=quickstart space.num_genotypes=1 recipe.num_epochs=1 images.num_train=64"

    def one_run() -> float:
        shutil.rmtree(folder / "run", ignore_errors=True)
        command = ["generate", str(folder / "run"), *settings.split(), "cluster=serial"]
        return _of_command("-m", "dtb_builder.cli", *command)

    start = "import ray, psutil; ray.init({}); ray.get(ray.remote(lambda: 1).remote()); ".format
    count = (
        "me = psutil.Process(); every = [me, *me.children(recursive=True)]; "
        "print(sum(sum(process.cpu_times()[:2]) for process in every))"
    )
    ours = start('address="local", include_dashboard=False, log_to_driver=False')
    yield "generate one run of one step", one_run, "import torch", _of_import("torch")
    yield (
        "Ray's local start, as ours",
        lambda: _printed("-c", ours + count),
        "Ray's own defaults",
        lambda: _printed("-c", start('address="local"') + count),
    )


def of_states(_given: argparse.Namespace, _folder: Path) -> Iterator[Line]:
    """Scoring and deep verification of the states of the example benchmark."""
    with Benchmark(EXAMPLE) as benchmark:
        probe = probe_of(benchmark, None)
        network = next(iter(benchmark)).network(epoch=-1)
    score_network(network, probe, SCORES)  # imports what it needs
    for names in (SCORES.keys() - ARCHITECTURE_SCORES, KERNEL_SCORES):
        yield (
            f"{len(names)} scores of a state",
            lambda names=names: _seconds(lambda: score_network(network, probe, names)),
            "forward and backward pass",
            lambda: _seconds(lambda: _both_passes(network, probe)),
        )
    verify = ("-m", "dtb_builder.cli", "verify", str(EXAMPLE))
    yield (
        "verify --deep of the example",
        lambda: _of_command(*verify, "--deep"),
        "import torch",
        _of_import("torch"),
    )


def _both_passes(network: nn.Module, probe: Probe) -> None:
    functional.cross_entropy(network(probe.images), probe.labels).backward()


def of_files(given: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """The stages of many runs that take no time themselves."""
    run_folder, file = folder / "run", folder / "run" / "dtb.h5"
    stand_in.RUN_SECONDS = 0.0
    launch = launch_of("", 1)
    launch = replace(
        launch, cluster=replace(launch.cluster, engine="serial", address=None, gpus_per_run=None)
    )

    def plan_and_generate() -> float:
        shutil.rmtree(run_folder, ignore_errors=True)
        settings = [f"space.num_genotypes={given.runs}", "shard_size=50", "recipe.num_epochs=1"]
        _of_dtb("plan", str(run_folder), *settings)
        run = lambda: list(generate(RunFolder(run_folder), launch, train=stand_in.pretend))  # noqa: E731
        return _seconds(run)

    def copy(path: Path) -> float:
        begin = _children()
        subprocess.run(["cp", "-r", path, folder / "copy"], check=True)
        seconds = _children() - begin
        subprocess.run(["rm", "-r", folder / "copy"], check=True)
        return seconds

    def merge() -> float:
        file.unlink(missing_ok=True)
        return _of_dtb("merge", str(run_folder))

    of_runs = f"{given.runs:,} runs"
    yield f"generate {of_runs}", plan_and_generate, "cp of the shards", lambda: copy(run_folder)
    yield f"merge {of_runs}", merge, "cp of the shards", lambda: copy(run_folder / "shards")
    for command in ("verify", "info", "query --epoch -1"):
        name, *options = command.split()
        ours = lambda name=name, options=options: _of_dtb(name, str(file), *options)  # noqa: E731
        yield f"{name} {of_runs}", ours, "cp of the file", lambda: copy(file)
    page = folder / "report.html"
    report = lambda: _of_dtb("report", str(file), "--into", str(page))  # noqa: E731
    yield f"report of {of_runs}", report, "cp of the file", lambda: copy(file)
    print(f"| MB of its page | {page.stat().st_size / 1e6:.3g} | | | |")


def of_rankings(given: argparse.Namespace, _folder: Path) -> Iterator[Line]:
    """A ranking with intervals beside scipy's tau of each score, once."""
    rng, size = np.random.default_rng(0), given.networks
    accuracies = rng.random(size)
    populations = [
        Population(
            networks=tuple(map(str, range(size))),
            epoch=epoch,
            step=10 * epoch,
            accuracies=accuracies,
            num_parameters=rng.random(size),
            input_edges=rng.integers(2, 9, size).astype(float),
            scores={name: accuracies * rng.random() + rng.random(size) for name in SCORES},
            train_seconds=2.0 * epoch,
            score_seconds={},
        )
        for epoch in (0, 1)
    ]

    def once() -> None:
        for population in populations:
            for scores in population.scores.values():
                stats.kendalltau(scores, accuracies)

    yield (
        f"rank {size:,} networks, {len(SCORES)} scores, 2 moments, 2,000 resamples",
        lambda: _seconds(lambda: rank(populations, seed=0, num_resamples=2000)),
        "scipy's taus, once",
        lambda: _seconds(once),
    )


def of_commands(_given: argparse.Namespace, folder: Path) -> Iterator[Line]:
    """How long commands take to start."""
    for command in (
        "--help",
        f"plan {folder} recipe.num_epoch=3",
        f"plan {folder} --show",
        f"query {EXAMPLE} --top 3 --by valid_accuracy",
        f"info {EXAMPLE}",
    ):
        yield (
            "dtb " + command.replace(str(EXAMPLE), "FILE").replace(str(folder), "FOLDER"),
            lambda command=command: _of_command("-m", "dtb_builder.cli", *command.split()),
            "Python's start",
            lambda: _of_command("-c", "pass"),
        )


PARTS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Line]]] = {
    "step": of_steps,
    "processes": of_processes,
    "states": of_states,
    "files": of_files,
    "rankings": of_rankings,
    "commands": of_commands,
}


def _seconds(function: Callable[[], object]) -> float:
    """Processor seconds of a call in this process."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def _of_dtb(*command: str) -> float:
    """Processor seconds of a command in this process, without its imports."""

    def run() -> None:
        assert dtb(list(command)) == 0

    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return _seconds(run)


def _of_command(*command: str) -> float:
    """Processor seconds of a Python process; a misspelt setting is no error here."""
    begin = _children()
    subprocess.run([sys.executable, *command], capture_output=True, cwd=ROOT, check=False)
    return _children() - begin


def _of_import(name: str) -> Callable[[], float]:
    return lambda: _of_command("-c", f"import {name}")


def _printed(*command: str) -> float:
    """The number that a Python process prints at last."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
