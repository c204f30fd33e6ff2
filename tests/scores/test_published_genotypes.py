"""Scores beside the published table of genotypes of the DARTS space."""

import numpy as np
import pytest
import torch
from suite_zero import column, genotypes
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.scores import Atoms, Scale, activation_units, z_sum
from dtb_builder.statistics import kendall_tau

ACCURACIES = column("nb301_genotypes", "val_accuracy")
SPEC = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
NUM_IMAGES = 32


def test_published_parameter_counts_are_reproduced() -> None:
    """The published networks' operations had batch norms without scale and shift; no head.

    Every ninth here; `benchmarks/published_scores.py` counts them all.
    """
    counts = []
    for genotype in genotypes()[::9]:
        with torch.device("meta"):
            network = SPEC.build(genotype)
        inside = [
            module.num_features
            for name, module in network.named_modules()
            if isinstance(module, nn.BatchNorm2d) and "._ops." in name
        ]
        total = sum(parameter.numel() for parameter in network.parameters())
        counts.append(total - 2 * sum(inside))
    assert counts == [round(params * 1e6) for params in column("nb301_genotypes", "params")[::9]]


@pytest.mark.parametrize(("name", "tau"), [("params", 0.418), ("nwot", 0.439)])
def test_a_columns_tau_is_the_published_one(name: str, tau: float) -> None:
    assert round(kendall_tau(column("nb301_genotypes", name), ACCURACIES), 3) == tau


def test_the_published_wot_splits_into_atoms_of_which_the_z_sum_ranks_better() -> None:
    units = np.array([activation_units(genotype, SPEC) for genotype in genotypes()])
    abilities = column("nb301_genotypes", "nwot") - NUM_IMAGES * np.log(units)
    atoms = Atoms(abilities, units, NUM_IMAGES)
    scores = [abilities, units, z_sum(atoms, Scale.of(atoms))]
    assert [round(kendall_tau(each, ACCURACIES), 3) for each in scores] == [0.380, 0.423, 0.462]
