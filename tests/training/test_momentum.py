import copy

import numpy as np
import torch
from torch import nn
from torch.optim import SGD

from dtb_builder.network.state import tensor_table
from dtb_builder.training.momentum import capture_momentum, restore_momentum


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.LazyLinear(2))
    layers(torch.zeros(1, 2, 5, 5))
    return layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def step(module: nn.Module, optimizer: SGD, seed: int) -> None:
    images = torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    module(images).square().sum().backward()
    optimizer.step()


def test_momentum_lies_where_the_state_has_its_tensor_and_is_zero_elsewhere() -> None:
    module = network()
    optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
    assert not capture_momentum(module, optimizer).any()
    step(module, optimizer, 0)
    named = tensor_table(module).unpack(capture_momentum(module, optimizer))
    for name, parameter in module.named_parameters():
        assert np.array_equal(named[name], optimizer.state[parameter]["momentum_buffer"].numpy())
    assert not named["1.running_mean"].any()


def test_a_training_goes_on_from_restored_momentum_to_the_same_bits() -> None:
    module = network()
    optimizer = SGD(module.parameters(), lr=0.1, momentum=0.9)
    step(module, optimizer, 0)
    twin = copy.deepcopy(module)
    other = SGD(twin.parameters(), lr=0.1, momentum=0.9)
    restore_momentum(twin, other, capture_momentum(module, optimizer))
    for seed in (1, 2):
        step(module, optimizer, seed)
        step(twin, other, seed)
    for mine, its in zip(module.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(mine, its)
