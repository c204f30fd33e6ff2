import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from suite_zero import column, genotypes

from dtb_builder.network import NetworkSpec
from dtb_builder.scores import (
    Atoms,
    Scale,
    activation_units,
    cell_depth,
    das,
    das3,
    input_edges,
    shipped_references,
    standardised_input_edges,
    z_sum,
)
from dtb_builder.space import NAMED, Genotype
from dtb_builder.statistics import kendall_tau

ACCURACIES = column("nb301_genotypes", "val_accuracy")


def genotype(predecessors: Sequence[int]) -> Genotype:
    """With these predecessors in the normal cell, and other ones in the reduction cell."""
    normal = tuple(("skip_connect", node) for node in predecessors)
    reduce = tuple(("skip_connect", node) for node in (0, 1, 1, 2, 2, 3, 3, 4))
    return Genotype(normal, reduce)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("predecessors", "inputs", "depth"),
    [
        ((0, 1, 0, 1, 0, 1, 0, 1), 8, 1),
        ((0, 1, 1, 2, 2, 3, 3, 4), 3, 4),
        ((0, 1, 0, 2, 0, 3, 0, 4), 5, 4),
        ((0, 1, 0, 1, 2, 3, 0, 1), 6, 2),
        ((0, 1, 0, 2, 1, 2, 1, 3), 5, 3),
    ],
)
def test_input_edges_and_depth_by_hand(
    predecessors: Sequence[int], inputs: int, depth: int
) -> None:
    assert input_edges(genotype(predecessors)) == inputs
    assert cell_depth(genotype(predecessors)) == depth


def test_darts_v2_by_hand() -> None:
    # Nodes 2, 3 and 4 read inputs only, node 5 an input and node 2.
    assert input_edges(NAMED["DARTS_V2"]) == 7
    assert cell_depth(NAMED["DARTS_V2"]) == 2


def test_the_scale_of_input_edges_is_that_of_all_genotypes() -> None:
    pairs = [itertools.combinations(range(2 + node), 2) for node in range(4)]
    cells = [sum(nodes, ()) for nodes in itertools.product(*pairs)]
    scaled = standardised_input_edges([input_edges(genotype(cell)) for cell in cells])
    assert len(cells) == 1 * 3 * 6 * 10
    assert scaled.mean() == pytest.approx(0, abs=1e-12)
    assert scaled.std() == pytest.approx(1)


def test_das3_is_das_and_the_third_atom() -> None:
    reference = shipped_references()["quickstart"]
    atoms = Atoms(np.array([-190.0, -180]), np.array([9000, 8000]), reference.num_images)
    third = np.array([(2 - 77 / 15) / (206 / 225) ** 0.5, 0])
    found = das3(atoms, [2, 77 / 15], reference)
    assert found == pytest.approx(das(atoms, reference) + third)


def test_the_third_atom_is_new_to_wot_and_lifts_das_on_published_genotypes() -> None:
    spec = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
    units = np.array([activation_units(each, spec) for each in genotypes()])
    inputs = np.array([input_edges(each) for each in genotypes()])
    wot = column("nb301_genotypes", "nwot")
    atoms = Atoms(wot - 32 * np.log(units), units, 32)
    two = z_sum(atoms, Scale.of(atoms))
    three = two + (inputs - inputs.mean()) / inputs.std()
    assert round(kendall_tau(inputs, wot), 2) == 0.06
    taus = [kendall_tau(each, ACCURACIES) for each in (inputs, wot, two, three)]
    assert [round(tau, 3) for tau in taus] == [0.318, 0.439, 0.462, 0.537]
