"""Drop-path, and what a cell does with its edges."""

import pytest
import torch
from torch import nn

from dtb_builder.network.cell import Cell, DropPath
from dtb_builder.space import Edge

SKIPS = tuple(Edge("skip_connect", i % 2) for i in range(8))
POOLS = tuple(Edge("avg_pool_3x3", i % 2) for i in range(8))


def drop_path(probability: float) -> DropPath:
    module = DropPath()
    module.probability = probability
    return module


def cell_of(edges: tuple[Edge, ...]) -> Cell:
    return Cell(edges, (6, 6), 2, reduction=False, after_reduction=False)


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5, 0.9])
def test_drop_path_drops_whole_samples_and_keeps_the_mean(probability: float) -> None:
    samples = drop_path(probability)(torch.ones(20_000, 2, 2, 2)).flatten(1)
    assert torch.equal(samples.amin(dim=1), samples.amax(dim=1))
    assert sorted(samples.unique().tolist()) == pytest.approx([0, 1 / (1 - probability)])
    assert samples.mean().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("probability", "training"), [(0.5, False), (0.0, True)])
def test_drop_path_is_off_outside_training_and_at_probability_zero(
    probability: float, training: bool
) -> None:
    maps = torch.randn(8, 2, 2, 2)
    generator_before = torch.get_rng_state()
    assert drop_path(probability).train(training)(maps) is maps
    assert torch.equal(torch.get_rng_state(), generator_before)


def test_drop_path_draws_from_torchs_default_generator() -> None:
    maps = torch.randn(64, 2, 2, 2)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(drop_path(0.5)(maps))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_drop_path_keeps_the_memory_format_and_the_gradient_of_its_input() -> None:
    maps = torch.ones(8, 4, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    dropped = drop_path(0.5)(maps)
    assert dropped.is_contiguous(memory_format=torch.channels_last)
    dropped.sum().backward()
    assert maps.grad is not None
    assert torch.equal(maps.grad, dropped)


def test_drop_path_has_no_tensors_and_prints_its_probability() -> None:
    assert drop_path(0.2).state_dict() == {}
    assert repr(drop_path(0.2)) == "DropPath(probability=0.2)"


def test_a_skip_is_never_dropped() -> None:
    cell = cell_of(SKIPS)
    maps = torch.randn(8, 6, 4, 4)
    plain = cell(maps, maps)
    cell.drop_path.probability = 0.9
    assert torch.equal(cell(maps, maps), plain)


def test_every_other_edge_is_dropped_by_itself() -> None:
    cell = cell_of(POOLS)
    cell.drop_path.probability = 0.5
    maps = torch.randn(256, 6, 4, 4)
    nodes = cell(maps, maps).unflatten(1, (4, 2))
    lost = (nodes == 0).flatten(2).all(dim=2)  # where both edges of a node were dropped
    assert lost.float().mean().item() == pytest.approx(0.25, abs=0.1)
    assert len(lost.unique(dim=0)) > 4


def test_a_stride_two_skip_is_dropped() -> None:
    cell = Cell(SKIPS, (6, 6), 2, reduction=True, after_reduction=False)
    cell.drop_path.probability = 0.5
    maps = torch.randn(64, 6, 4, 4)
    assert (cell(maps, maps)[:, :2].flatten(1) == 0).all(dim=1).any()


def test_operations_stand_in_the_genotypes_order() -> None:
    edges = (Edge("sep_conv_3x3", 1), Edge("skip_connect", 0), *POOLS[2:])
    operations = list(cell_of(edges)._ops)
    assert isinstance(operations[1], nn.Identity)
    assert all(isinstance(operation, nn.AvgPool2d) for operation in operations[2:])


def test_a_node_may_read_an_earlier_node() -> None:
    edges = (*SKIPS[:2], Edge("skip_connect", 2), Edge("skip_connect", 0), *SKIPS[4:])
    cell = cell_of(edges).eval()
    maps = torch.randn(2, 6, 4, 4)
    older, newer = cell.preprocess0(maps), cell.preprocess1(maps)
    nodes = cell(maps, maps).split(2, dim=1)
    assert torch.equal(nodes[0], older + newer)
    assert torch.equal(nodes[1], nodes[0] + older)
