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
    parser.add_argument("--genotypes", type=int, help="of NAS-Bench-301's space; all by default")
    parser.add_argument("--cells", type=int, default=250, help="of NAS-Bench-101 to score by WOT")
    parser.add_argument("--gradients", type=int, default=24, help="of those, by gradients too")
    parser.add_argument("--channels", type=int, default=128, help="of their first stack")
    parser.add_argument("--images", default="fashion_mnist", help="the image set of the probe")
    parser.add_argument("--resamples", type=int, default=1000, help="of the networks, an interval")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = probe(given.images)
    print("NAS-Bench-301: genotypes of the DARTS space, a surrogate's accuracies")
    of_genotypes(given.genotypes, given.resamples)
    print("\nNAS-Bench-101: accuracies as trained")
    of_codes((network_of(i, given.channels) for i in range(given.cells)), images, given.resamples)
    print(f"\nProxies of {given.gradients} cells beside the published ones")
    networks = [network_of(i, given.channels) for i in range(given.gradients)]
    of_proxies(networks, images, labels)


def of_genotypes(num_genotypes: int | None, num_resamples: int) -> None:
    """The closed form of N_A splits the published WOT; all parameter counts."""
    spec = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
    found = genotypes()[:num_genotypes]
    accuracies = column("nb301_genotypes", "val_accuracy")[: len(found)]
    units = np.array([activation_units(genotype, spec) for genotype in found])
    published = column("nb301_genotypes", "nwot")[: len(found)]
    rules(
        Atoms(published - NUM_IMAGES * np.log(units), units, NUM_IMAGES), accuracies, num_resamples
    )
    exact = 0
    params_of_all = column("nb301_genotypes", "params")[: len(found)]
    for genotype, params in zip(found, params_of_all, strict=True):
        with torch.device("meta"):
            network = spec.build(genotype)
        inside = sum(
            parameter.numel()
            for name, parameter in network.named_parameters()
            if "._ops." in name and parameter.ndim == 1
        )
        exact += num_parameters(network) - inside == round(params * 1e6)
    print(f"parameter counts reproduced exactly: {exact} of {len(found)}")


def of_codes(networks: Iterable[Network101], images: torch.Tensor, num_resamples: int) -> None:
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
    rules(atoms, accuracies, num_resamples)
    for name in ("params", "flops"):
        line(name, column("nb101_cells", name)[: len(kernels)], accuracies, num_resamples)
    print(f"{len(kernels)} cells, {seconds / len(kernels):.2f} s each")


def rules(atoms: Atoms, accuracies: NDArray[np.float64], num_resamples: int) -> None:
    """WOT, its atoms and their z-sum, and whether the z-sum is better than WOT."""
    wot, z = linear(atoms, 1), z_sum(atoms, Moments.of(atoms))
    line("WOT", wot, accuracies, num_resamples)
    line("D", atoms.abilities, accuracies, num_resamples)
    line("A", atoms.log_units, accuracies, num_resamples)
    line("z-sum", z, accuracies, num_resamples)
    better = compare(
        kendall_tau, z, wot, accuracies, np.random.default_rng(0), num_resamples=num_resamples
    ).difference
    print(f"{'z-sum - WOT':<14}{better.value:+.3f}  [{better.low:+.3f}, {better.high:+.3f}]")


def line(
    name: str, scores: NDArray[np.float64], accuracies: NDArray[np.float64], num_resamples: int
) -> None:
    """A score's Kendall tau with its interval of 95 %."""
    tau = bootstrap(
        kendall_tau, scores, accuracies, np.random.default_rng(0), num_resamples=num_resamples
    )
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


def probe(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey images, framed to 32 x 32 pixels in three equal channels; their labels."""
    images = load_images(name, None)
    chosen = choose_probe(
        images.train_images, np.arange(len(images.train_labels)), NUM_IMAGES, seed=0
    )
    normalised = torch.from_numpy(chosen.normalised(images.mean, images.std))
    background = float(normalised.min())
    frame = (32 - normalised.shape[-1]) // 2
    framed = torch.nn.functional.pad(normalised, (frame,) * 4, value=background)
    pixels = framed.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    return pixels, torch.from_numpy(images.train_labels[chosen.indices])


if __name__ == "__main__":
    main()
