"""How fast networks are scored and rankings resampled, beside plain implementations of the same.

    python benchmarks/scores.py FILE [--states 24] [--workers 2]

FILE is a benchmark with training states, such as the quickstart's. The peers are measured in the
same run: a kernel summed as NASWOT's paper writes it, with a product for units that fire and one
for those that do not; the scores of a state one by one, each with its own passes; and a bootstrap
that calls scipy for every resample. Prints medians and ratios, and how many states a minute
`dtb score` scores on so many workers, their start included and without it.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder import Benchmark
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.scores import choose_probe
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.names import ARCHITECTURE_SCORES, SCORES
from dtb_builder.scores.probed import probe_tensor, probed_copy
from dtb_builder.scores.scoring import Probe, score_network
from dtb_builder.stages.scoring.config import ScoreConfig, ScoreLaunch
from dtb_builder.stages.scoring.driver import score
from dtb_builder.stages.scoring.sources import BenchmarkSource
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.statistics.resampling import draw_resamples, kendall_taus
from dtb_builder.training.compute import ComputeConfig

NUM_IMAGES = 128
NUM_NETWORKS = 60
NUM_RESAMPLES = 1000


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--states", type=int, default=24)
    parser.add_argument("--workers", type=int, default=2, help="0: in this process")
    parser.add_argument("--root", help="where the images are")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1), Benchmark(given.file) as benchmark:
        probe = probe_of(benchmark, given.root)
        runs = list(benchmark)
        networks = [
            runs[i % len(runs)].network(epoch=runs[0].state_epochs[-1]) for i in range(given.states)
        ]
        of_kernels(networks, probe)
        of_scores(networks, probe)
    of_bootstraps()
    of_the_command(given.file, given.workers, given.root)


def of_kernels(networks: Sequence[nn.Module], probe: Probe) -> None:
    """The agreement kernel beside the two products of the paper, and their equality."""
    ours, peers = [], []
    for network in networks:
        begin = time.perf_counter()
        counts = network_agreement(network, probe.images).counts
        middle = time.perf_counter()
        plain = plain_kernel(network, probe.images)
        peers.append(time.perf_counter() - middle)
        ours.append(middle - begin)
        assert np.array_equal(counts, plain), "the kernels differ"
    line("agreement kernel, ms", ours, peers, "two products a ReLU")


def plain_kernel(network: nn.Module, images: Tensor) -> np.ndarray:
    """K_H as NASWOT's paper writes it, with hooks on every ReLU."""
    kernel = np.zeros((len(images), len(images)))

    def add(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal kernel
        fires = (output > 0).flatten(1).double()
        kernel = kernel + (fires @ fires.T + (1 - fires) @ (1 - fires).T).numpy()

    probed = probed_copy(network)
    for module in probed.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(add)
    with torch.no_grad():
        probed(images)
    return kernel.astype(np.int64)


def of_scores(networks: Sequence[nn.Module], probe: Probe) -> None:
    """All scores of a state together beside one after the other, and each one's share."""
    of_states = [name for name in SCORES if name not in ARCHITECTURE_SCORES]
    together, apart = [], []
    by_name: dict[str, list[float]] = {name: [] for name in SCORES}
    for network in networks:
        began = time.process_time()
        score_network(network, probe, of_states)
        together.append(time.process_time() - began)
        for name in SCORES:
            began = time.process_time()
            score_network(network, probe, [name])
            by_name[name].append(time.process_time() - began)
        apart.append(sum(by_name[name][-1] for name in of_states))
    line(f"all {len(of_states)} scores of a state, ms of processor time", together, apart, "alone")
    per_minute, alone = (60 / statistics.median(each) for each in (together, apart))
    print(f"states a minute of one core: {per_minute:.1f} together, {alone:.1f} each score alone")
    print("\nmedian ms of processor time of each score on its own")
    for name, seconds in by_name.items():
        once = "  once a run" if name in ARCHITECTURE_SCORES else ""
        print(f"{name:<26}{1000 * statistics.median(seconds):8.1f}{once}")


def of_bootstraps() -> None:
    """An interval of Kendall's tau beside a call of scipy for every resample."""
    rng = np.random.default_rng(0)
    scores, accuracies = rng.standard_normal((2, NUM_NETWORKS))
    ours, peers = [], []
    for _ in range(3):
        begin = time.perf_counter()
        counts = draw_resamples(NUM_NETWORKS, NUM_RESAMPLES, np.random.default_rng(1))
        taus = kendall_taus(scores, accuracies, counts)
        middle = time.perf_counter()
        found = []
        for count in counts.astype(int):
            drawn = np.repeat(np.arange(NUM_NETWORKS), count)
            result: Any = stats.kendalltau(scores[drawn], accuracies[drawn])
            found.append(result.statistic)
        peers.append(time.perf_counter() - middle)
        ours.append(middle - begin)
        assert np.allclose(taus, found), "the taus differ"
    print()
    line(f"{NUM_RESAMPLES} taus of {NUM_NETWORKS} networks, ms", ours, peers, "scipy, one by one")


def of_the_command(file: Path, num_workers: int, root: str | None) -> None:
    """What `dtb score` does in a minute, with its default scores."""
    config = ScoreConfig(
        scores=tuple(SCORES),
        num_images=NUM_IMAGES,
        probe_seed=0,
        num_reference=None,
        compute=ComputeConfig(device="cpu", threads=1, deterministic=True),
    )
    cluster = ClusterConfig(
        engine="ray" if num_workers else "serial",
        address=None,
        num_cpus=num_workers or None,
        gpus_per_run=None,
        max_in_flight=None,
        runs_per_task=1,
        shards=None,
        max_attempts=1,
        time_limit=None,
    )
    launch = ScoreLaunch(cluster=cluster, retry=None, images_root=root)
    with tempfile.TemporaryDirectory() as folder:
        into = Path(folder) / "scores.parquet"
        begin = time.perf_counter()
        first: tuple[float, int] | None = None
        at = None
        for at in score(BenchmarkSource(file.absolute()), into, config, launch, images_sha256=None):
            if first is None and at.num_states:
                first = time.perf_counter(), at.num_states
        end = time.perf_counter()
    assert at is not None
    assert first is not None
    assert not at.num_failed
    whole = 60 * at.num_states / (end - begin)
    steady = 60 * (at.num_states - first[1]) / max(end - first[0], 1e-9)
    print(f"\ndtb score, {num_workers} workers, all {len(SCORES)} scores, n = {NUM_IMAGES}:")
    print(f"{at.num_states} states in {end - begin:.1f} s: {whole:.0f} a minute with Ray's start,")
    print(f"{steady:.0f} a minute after the first states")


def probe_of(benchmark: Benchmark, root: str | None) -> Probe:
    """The probe that `dtb score` would draw."""
    provenance = benchmark.provenance
    settings = parse(ImagesConfig, provenance["config"]["images"] | {"root": root})
    images, split = load_split_images(settings)
    chosen = choose_probe(images.train_images, split.train, NUM_IMAGES, seed=0)
    labels = torch.from_numpy(images.train_labels[chosen.indices])
    layers = provenance["network"]["layers"]
    return Probe(
        probe_tensor(chosen, images.mean, images.std), labels, features=f"cells.{layers - 1}"
    )


def line(what: str, ours: list[float], peers: list[float], peer: str) -> None:
    """Medians and their ratio."""
    one, other = (1000 * statistics.median(seconds) for seconds in (ours, peers))
    print(f"{what:<34}{one:9.1f}   {peer:<22}{other:9.1f}   peer / ours {other / one:6.2f}")


if __name__ == "__main__":
    main()
