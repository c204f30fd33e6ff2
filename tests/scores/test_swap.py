import math
from dataclasses import replace
from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
import torch
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.scores.activations import activation_codes
from dtb_builder.scores.size import num_parameters
from dtb_builder.scores.space_size import parameters_of_space
from dtb_builder.scores.swap import regularised_swap, swap, swap_in_space
from dtb_builder.space import NAMED, Edge, Genotype, sample_uniform
from dtb_builder.space.cell import OPERATIONS


def test_units_that_fire_for_the_same_images_count_once() -> None:
    images = torch.tensor([[1.0, 2, -1, 1], [1, 3, 1, -2]])
    assert swap(nn.ReLU(), images) == 3
    assert swap(nn.Sequential(nn.ReLU(), nn.ReLU()), images) == 3


def test_it_is_the_number_of_different_columns_of_the_codes() -> None:
    spec = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=16)
    network = spec.build(NAMED["DARTS_V2"])
    for num_images in (3, 8, 19):
        images = torch.randn(num_images, 3, 16, 16)
        columns = np.unique(activation_codes(network, images), axis=1).shape[1]
        assert swap(network, images) == columns


def test_regularisation_holds_networks_of_another_size_back() -> None:
    assert regularised_swap(500, 40_000, centre=40, width=9) == 500
    sizes = [regularised_swap(500, size, centre=40, width=9) for size in (37_000, 43_000)]
    assert sizes == pytest.approx([500 * math.exp(-1)] * 2)


@pytest.mark.parametrize("layers", [2, 3])
def test_the_sizes_of_the_space_are_those_of_all_genotypes(layers: int) -> None:
    """Cells are sums over nodes, of which each has few edges that all can be tried."""
    spec = NetworkSpec(channels=2, layers=layers, num_classes=3, image_size=8)

    def count(genotype: Genotype) -> int:
        with torch.device("meta"):
            return num_parameters(spec.build(genotype))

    pools = (Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1)) * 4
    least = count(Genotype(normal=pools, reduce=pools))

    @cache
    def more(cell: str, edge: Edge) -> int:
        other = Edge("max_pool_3x3", int(edge.predecessor != 1))
        edges = (*pools[:2], *sorted([edge, other], key=lambda edge: edge.predecessor), *pools[4:])
        return count(Genotype(**{"normal": pools, "reduce": pools, cell: edges})) - least

    mean, variance = float(least), 0.0
    for cell, num_before in product(("normal", "reduce"), range(2, 6)):
        pairs, choices = combinations(range(num_before), 2), product(OPERATIONS, repeat=2)
        tried = [
            sum(
                more(cell, Edge(*edge))
                for edge in zip(operations, (min(2, i), min(2, j)), strict=True)
            )
            for (i, j), operations in product(pairs, list(choices))
        ]
        mean, variance = mean + np.mean(tried), variance + np.var(tried)
    assert parameters_of_space(spec) == pytest.approx((mean, variance), rel=1e-12)
    drawn = sample_uniform(0, 0)
    cells = {"normal": drawn.normal, "reduce": drawn.reduce}
    edges = [
        (cell, Edge(e.operation, min(2, e.predecessor))) for cell in cells for e in cells[cell]
    ]
    assert count(drawn) == least + sum(more(*edge) for edge in edges)


def test_regularised_swap_is_that_of_the_released_code_for_the_sizes_of_the_space() -> None:
    bare = NetworkSpec(channels=4, layers=4, num_classes=10, image_size=32)
    mean, variance = parameters_of_space(bare)
    for i in range(5):
        network = replace(bare, auxiliary=i % 2 == 0).build(sample_uniform(0, i))
        named = network.named_parameters()
        thousands = sum(p.numel() for name, p in named if "auxiliary" not in name) / 1e3
        factor = torch.exp(-torch.tensor(thousands - mean / 1e3).pow(2) / (2 * variance / 1e6))
        assert swap_in_space(700, network) == pytest.approx(700 * float(factor), rel=1e-6)
