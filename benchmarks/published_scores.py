"""The paper's claim, that DAS orders networks better than WOT, on published labels; no training.

    python benchmarks/published_scores.py [--cells 250] [--channels 16] [--pixels 16] [--probes 3]
        [--gradients 0]

NAS-Bench-301: the published WOT of genotypes is split into its atoms by the closed form of N_A.
NAS-Bench-101: our networks of its cells are scored on 32 images of Fashion-MNIST, as CIFAR-10 may
not be at hand. The labels are the rows of tests/data. With --gradients, proxies of so many cells
stand beside the published columns, at 128 channels and 32 x 32 pixels. Five minutes on one core.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from suite_zero import cells, column, genotypes, initialise

from dtb_builder.images import load_images
from dtb_builder.network import NetworkSpec
from dtb_builder.scores import (
    activation_units,
    cell_depth,
    choose_probe,
    distinguishing_ability,
    input_edges,
)
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.gradients import fisher, gradient_norm, grasp, plain, snip
from dtb_builder.scores.graph import Graph
from dtb_builder.scores.jacobian import epe_nas, jacob_cov
from dtb_builder.scores.size import l2_norm, multiply_accumulates, num_parameters
from dtb_builder.scores.synflow import synflow
from dtb_builder.stages.ranking.population import combined
from dtb_builder.stages.ranking.rank import ratio_of
from dtb_builder.statistics import Interval, kendall_tau
from dtb_builder.statistics.resampling import draw_resamples, interval_of, kendall_taus
from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101
from dtb_builder.tables.units101 import activation_units101

NUM_IMAGES = 32
NUM_RESAMPLES = 2000


def main() -> None:
    """Print one table for each published table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genotypes", type=int, help="of NAS-Bench-301's space; all by default")
    parser.add_argument("--cells", type=int, default=250, help="of NAS-Bench-101 to score by WOT")
    parser.add_argument("--channels", type=int, default=16, help="of their first stack")
    parser.add_argument("--pixels", type=int, default=16, help="of a side of their images")
    parser.add_argument("--probes", type=int, default=3, help="draws of images and weights")
    parser.add_argument("--gradients", type=int, default=0, help="cells beside published proxies")
    parser.add_argument("--width", type=int, default=128, help="of the first stack of those cells")
    parser.add_argument("--images", default="fashion_mnist", help="the image set of the probe")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("NAS-Bench-301: genotypes of the DARTS space, a surrogate's accuracies")
    of_genotypes(given.genotypes)
    for seed in range(given.probes):
        print(f"\nNAS-Bench-101: accuracies as trained; images and weights of the seed {seed}")
        images, _ = probe(given.images, given.pixels, seed)
        of_cells(given.cells, given.channels, images, seed)
    if given.gradients:
        print(f"\nProxies of {given.gradients} cells beside the published ones")
        of_proxies(given.gradients, given.images, given.width)


def of_genotypes(num_genotypes: int | None) -> None:
    """The closed form of N_A splits the published WOT; all parameter counts."""
    spec = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
    found = genotypes()[:num_genotypes]
    units = np.array([activation_units(genotype, spec) for genotype in found], float)
    published = slice(len(found))
    wot = column("nb301_genotypes", "nwot")[published]
    columns = {
        "wot": wot,
        "distinguishing_ability": wot - NUM_IMAGES * np.log(units),
        "activation_units": units,
        "num_parameters": column("nb301_genotypes", "params")[published],
        "input_edges": np.array([input_edges(genotype) for genotype in found], float),
        "cell_depth": np.array([cell_depth(genotype) for genotype in found], float),
        "flops": column("nb301_genotypes", "flops")[published],
    }
    table(columns, column("nb301_genotypes", "val_accuracy")[published])
    exact = 0
    for genotype, params in zip(found, columns["num_parameters"], strict=True):
        with torch.device("meta"):
            network = spec.build(genotype)
        inside = sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if "._ops." in name and parameter.ndim == 1
        )
        exact += num_parameters(network) - inside == round(params * 1e6)
    print(f"parameter counts reproduced exactly: {exact} of {len(found)}")


def of_cells(num_cells: int, channels: int, images: torch.Tensor, seed: int) -> None:
    """WOT and its atoms of newly initialised networks, and N_A by the closed form."""
    found = cells()[:num_cells]
    began = time.perf_counter()
    kernels = [network_agreement(network_of(i, channels, seed), images) for i in range(len(found))]
    seconds = time.perf_counter() - began
    units = np.array([kernel.activation_units for kernel in kernels], float)
    abilities = np.array([distinguishing_ability(kernel) for kernel in kernels])
    columns = {
        "wot": abilities + NUM_IMAGES * np.log(units),
        "distinguishing_ability": abilities,
        "activation_units": units,
        "num_parameters": column("nb101_cells", "params")[:num_cells],
        "cell_depth": np.array([depth_of(cell) for cell in found], float),
        "flops": column("nb101_cells", "flops")[:num_cells],
    }
    table(columns, column("nb101_cells", "val_accuracy")[:num_cells])
    closed = [
        activation_units101(cell, channels=channels, image_size=images.shape[-1]) for cell in found
    ]
    exact = int((units == closed).sum())
    print(f"N_A of the closed form is that of hooks: {exact} of {len(found)} cells")
    print(f"{seconds / len(found):.2f} s a cell")


def table(columns: Mapping[str, NDArray[np.float64]], accuracies: NDArray[np.float64]) -> None:
    """Kendall's tau of every score and rule, beside that of WOT on the same resamples."""
    rules = combined(columns, NUM_IMAGES)
    shown = dict(columns) | {name: rules[name] for name in _RULES if name in rules}
    rng = np.random.default_rng(0)
    counts = draw_resamples(len(accuracies), NUM_RESAMPLES, rng)
    taus = {name: kendall_taus(values, accuracies, counts) for name, values in shown.items()}
    values = {name: kendall_tau(each, accuracies) for name, each in shown.items()}
    print(f"{'':<24}{'tau':<26}{'less that of WOT':<26}{'as a multiple of it':<24}tau with WOT")
    for name in sorted(shown, key=lambda name: -values[name]):
        tau = text(interval_of(values[name], taus[name]))
        less = text(interval_of(values[name] - values["wot"], taus[name] - taus["wot"]))
        ratio, _ = ratio_of((values[name], taus[name]), (values["wot"], taus["wot"]))
        between = f"{kendall_tau(shown[name], shown['wot']):+.3f}"
        print(f"{_RULES.get(name, name):<24}{tau:<26}{less:<26}{text(ratio):<24}{between}")


def text(interval: Interval) -> str:
    """A number with its interval of 95 %."""
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


_RULES = {
    "z_sum": "DAS = z(D/n) + z(A)",
    "z_sum3": "z(D/n) + z(A) + z(I)",
    "D_params": "z(D/n) + z(log params)",
    "params_I": "z(log params) + z(I)",
    "rank_sum": "rank_sum",
}


def depth_of(cell: Cell101) -> int:
    """Edges on the longest path through a cell."""
    depths = {0: 0}
    for vertex in range(1, cell.output + 1):
        depths[vertex] = 1 + max(depths[i] for i in cell.predecessors(vertex))
    return depths[cell.output]


def of_proxies(num_cells: int, image_set: str, channels: int) -> None:
    """The median ratio to a published column, and the tau between the two."""
    images, labels = probe(image_set, 32, 0)
    networks = [network_of(i, channels, 0) for i in range(num_cells)]
    ours = {
        "synflow": [float(np.log(synflow(network, (3, 32, 32)))) for network in networks],
        "grad_norm": [gradient_norm(Graph(network, images, labels)) for network in networks],
        "snip": [snip(Graph(network, images, labels)) for network in networks],
        "jacov": [jacob_cov(Graph(network, images)) for network in networks],
        "l2_norm": [l2_norm(network) for network in networks],
        "plain": [plain(Graph(network, images, labels)) for network in networks],
        "fisher": [fisher(Graph(network, images, labels)) for network in networks],
        "grasp": [grasp(Graph(network, images, labels, twice=True)) for network in networks],
        "epe_nas": [epe_nas(Graph(network, images, labels)) for network in networks],
        "params": [num_parameters(network) / 1e6 for network in networks],
        "flops": [multiply_accumulates(network, (3, 32, 32)) / 1e6 for network in networks],
    }
    print(f"{'proxy':<14}{'ours / published, median':<28}tau between them")
    for name, values in ours.items():
        published = column("nb101_cells", name)[: len(networks)]
        ratio = np.median(np.array(values) / published)
        print(f"{name:<14}{ratio:<28.3f}{kendall_tau(values, published):.3f}", flush=True)


def network_of(number: int, channels: int, seed: int) -> Network101:
    """A cell's network as its publishers initialised it."""
    torch.manual_seed(number + 1000 * seed)
    network = Network101(cells()[number], channels=channels)
    initialise(network)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def probe(image_set: str, pixels: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of a grey image set in three equal channels, and their labels.

    Smaller ones are means over areas; larger ones have a frame of the background around them.
    """
    images = load_images(image_set, None)
    everyone = np.arange(len(images.train_labels))
    chosen = choose_probe(images.train_images, everyone, NUM_IMAGES, seed=seed)
    normalised = torch.from_numpy(chosen.normalised(images.mean, images.std))
    around = (pixels - normalised.shape[-1]) // 2
    if around < 0:
        resized = torch.nn.functional.interpolate(normalised, size=pixels, mode="area")
    else:
        background = float(normalised.min())
        resized = torch.nn.functional.pad(normalised, (around,) * 4, value=background)
    three = resized.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    return three, torch.from_numpy(images.train_labels[chosen.indices])


if __name__ == "__main__":
    main()
