"""Scores computed here beside those that others published, on the tables of tests/data.

    python benchmarks/published_scores.py [--cells 250] [--gradients 24] [--channels 128]

NAS-Bench-101's networks are scored at the published size, of 128 channels and 32 x 32 pixels, on 32
images of Fashion-MNIST, as CIFAR-10 may not be at hand; so scores that look at images are not the
published ones, and are compared by their order. Some minutes on one core.
"""

import argparse
import sys
import time
from collections.abc import Iterable
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
    Agreement,
    Atoms,
    Moments,
    activation_units,
    choose_probe,
    distinguishing_ability,
    linear,
    z_sum,
)
from dtb_builder.scores.activations import network_agreement
from dtb_builder.scores.gradients import gradient_norm, snip
from dtb_builder.scores.jacobian import jacob_cov
from dtb_builder.scores.size import multiply_accumulates, num_parameters
from dtb_builder.scores.synflow import synflow
from dtb_builder.statistics import bootstrap, compare, kendall_tau
from dtb_builder.tables.network101 import Network101

NUM_IMAGES = 32


def main() -> None:
    """Print one table for each published table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=250, help="of NAS-Bench-101 to score by WOT")
    parser.add_argument("--gradients", type=int, default=24, help="of those, by gradients too")
    parser.add_argument("--channels", type=int, default=128, help="of their first stack")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = probe()
    print("NAS-Bench-301: genotypes of the DARTS space, a surrogate's accuracies")
    of_genotypes()
    print("\nNAS-Bench-101: accuracies as trained")
    of_codes((network_of(i, given.channels) for i in range(given.cells)), images)
    print(f"\nProxies of {given.gradients} cells beside the published ones")
    networks = [network_of(i, given.channels) for i in range(given.gradients)]
    of_proxies(networks, images, labels)


def of_genotypes() -> None:
    """The closed form of N_A splits the published WOT; all parameter counts."""
    spec = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
    found = genotypes()
    accuracies = column("nb301_genotypes", "val_accuracy")
    units = np.array([activation_units(genotype, spec) for genotype in found])
    published = column("nb301_genotypes", "nwot")
    rules(Atoms(published - NUM_IMAGES * np.log(units), units, NUM_IMAGES), accuracies)
    exact = 0
    for genotype, params in zip(found, column("nb301_genotypes", "params"), strict=True):
        with torch.device("meta"):
            network = spec.build(genotype)
        inside = sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if "._ops." in name and parameter.ndim == 1
        )
        exact += num_parameters(network) - inside == round(params * 1e6)
    print(f"parameter counts reproduced exactly: {exact} of {len(found)}")


def of_codes(networks: Iterable[Network101], images: torch.Tensor) -> None:
    """WOT and its atoms of newly initialised networks."""
    began = time.perf_counter()
    kernels: list[Agreement] = [network_agreement(network, images) for network in networks]
    seconds = time.perf_counter() - began
    atoms = Atoms(
        np.array([distinguishing_ability(kernel) for kernel in kernels]),
        np.array([kernel.activation_units for kernel in kernels]),
        len(images),
    )
    accuracies = column("nb101_cells", "val_accuracy")[: len(kernels)]
    rules(atoms, accuracies)
    for name in ("params", "flops"):
        line(name, column("nb101_cells", name)[: len(kernels)], accuracies)
    print(f"{len(kernels)} cells, {seconds / len(kernels):.2f} s each")


def rules(atoms: Atoms, accuracies: NDArray[np.float64]) -> None:
    """WOT, its atoms and their z-sum, and whether the z-sum is better than WOT."""
    wot, z = linear(atoms, 1), z_sum(atoms, Moments.of(atoms))
    line("WOT", wot, accuracies)
    line("D", atoms.abilities, accuracies)
    line("A", atoms.log_units, accuracies)
    line("z-sum", z, accuracies)
    better = compare(kendall_tau, z, wot, accuracies, np.random.default_rng(0)).difference
    print(f"{'z-sum - WOT':<14}{better.value:+.3f}  [{better.low:+.3f}, {better.high:+.3f}]")


def line(name: str, scores: NDArray[np.float64], accuracies: NDArray[np.float64]) -> None:
    """A score's Kendall tau with its interval of 95 %."""
    tau = bootstrap(kendall_tau, scores, accuracies, np.random.default_rng(0))
    print(f"{name:<14}{tau.value:+.3f}  [{tau.low:+.3f}, {tau.high:+.3f}]", flush=True)


def of_proxies(networks: list[Network101], images: torch.Tensor, labels: torch.Tensor) -> None:
    """The median ratio to a published column, and the tau between the two."""
    ours = {
        "synflow": [float(np.log(synflow(network, (3, 32, 32)))) for network in networks],
        "grad_norm": [gradient_norm(network, images, labels) for network in networks],
        "snip": [snip(network, images, labels) for network in networks],
        "jacov": [jacob_cov(network, images) for network in networks],
        "l2_norm": [
            sum(float(p.detach().norm()) for p in network.parameters() if p.ndim == 4)
            for network in networks
        ],
        "params": [num_parameters(network) / 1e6 for network in networks],
        "flops": [multiply_accumulates(network, (3, 32, 32)) / 1e6 for network in networks],
    }
    print(f"{'proxy':<14}{'ours / published, median':<28}tau between them")
    for name, values in ours.items():
        published = column("nb101_cells", name)[: len(networks)]
        ratio = np.median(np.array(values) / published)
        print(f"{name:<14}{ratio:<28.3f}{kendall_tau(values, published):.3f}", flush=True)


def network_of(number: int, channels: int) -> Network101:
    """A cell's network as its publishers initialised it, with the cell's number as the seed."""
    torch.manual_seed(number)
    network = Network101(cells()[number], channels=channels)
    initialise(network)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def probe() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of Fashion-MNIST, framed to 32 x 32 pixels in three equal channels; their labels."""
    images = load_images("fashion_mnist", None)
    chosen = choose_probe(
        images.train_images, np.arange(len(images.train_labels)), NUM_IMAGES, seed=0
    )
    normalised = torch.from_numpy(chosen.normalised(images.mean, images.std))
    background = float(normalised.min())
    framed = torch.nn.functional.pad(normalised, (2, 2, 2, 2), value=background)
    pixels = framed.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    return pixels, torch.from_numpy(images.train_labels[chosen.indices])


if __name__ == "__main__":
    main()
