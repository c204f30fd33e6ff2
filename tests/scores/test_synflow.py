import pytest
import torch
from torch import nn

from dtb_builder.scores.synflow import synflow


def test_every_layer_without_bias_passes_the_same_flow() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(2, 3, 3, bias=False), nn.Linear(27, 4, bias=False)
    network = nn.Sequential(first, nn.ReLU(), nn.Flatten(), last)
    with torch.no_grad():
        conv, linear = first.weight.abs().double(), last.weight.abs().double()
        maps = torch.conv2d(torch.ones(1, 2, 5, 5, dtype=torch.float64), conv)
        flow = float((linear @ maps.flatten()).sum())
    # Conservation: each of the two layers' weights has the whole flow.
    assert synflow(network, (2, 5, 5)) == pytest.approx(2 * flow, rel=1e-12)


def test_batch_norms_are_left_out() -> None:
    convolution = nn.Conv2d(1, 2, 1, bias=False)
    norm = nn.BatchNorm2d(2)
    nn.init.constant_(norm.weight, 5)
    rest = [nn.Flatten(), nn.Linear(18, 3)]
    with_norm = nn.Sequential(convolution, norm, *rest)
    without = nn.Sequential(convolution, *rest)
    assert synflow(with_norm, (1, 3, 3)) == synflow(without, (1, 3, 3))


def test_signs_of_weights_say_nothing() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = synflow(network, (1, 2, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.neg_()
    assert synflow(network, (1, 2, 2)) == before


def test_a_deep_wide_networks_flow_is_still_a_number() -> None:
    layers = [nn.Linear(64, 64, bias=False) for _ in range(30)]
    for layer in layers:
        nn.init.ones_(layer.weight)
    assert synflow(nn.Sequential(nn.Flatten(), *layers), (1, 8, 8)) == 30 * 64.0**31
