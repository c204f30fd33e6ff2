import math

import pytest
import torch
from torch import nn

from dtb_builder.scores.az_nas import az_nas, expressivity, trainability


def test_expressivity_is_the_entropy_of_the_principal_axes() -> None:
    equal = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).reshape(4, 2, 1, 1)
    assert expressivity(equal) == pytest.approx(math.log(2), abs=1e-6)
    along_one_axis = equal * torch.tensor([1.0, 0]).reshape(1, 2, 1, 1)
    assert expressivity(along_one_axis) == pytest.approx(0, abs=1e-6)
    assert expressivity(3 * equal + 7) == pytest.approx(expressivity(equal), abs=1e-6)


def test_a_backward_pass_that_keeps_the_size_of_gradients_is_the_most_trainable() -> None:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).reshape(4, 2, 1, 1)
    turned = signs.flip(1)
    assert trainability(signs, turned) == pytest.approx(0, abs=1e-5)
    assert trainability(signs, 2 * turned) == pytest.approx(2 - 2 - 1 / 2, abs=1e-5)
    assert trainability(signs, turned / 2) == pytest.approx(2 - 1 / 2 - 2, abs=1e-5)
    assert trainability(signs, signs) == -math.inf


def test_a_cell_that_halves_the_maps_gives_each_of_their_quarters_a_channel() -> None:
    signs = torch.ones(1, 1, 2, 2)
    back = torch.zeros(1, 1, 4, 4)
    back[:, :, ::2, ::2] = 1
    assert trainability(signs, back) == pytest.approx(0, abs=1e-5)


def test_weights_make_no_difference_and_progressivity_is_the_least_growth() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 1)
    )

    def parts() -> tuple[float, float, float]:
        generator = torch.Generator().manual_seed(4)
        return az_nas(network, (8, 1, 9, 9), generator, modules=["0", "2", "4"])

    before = parts()
    with torch.no_grad():
        network[0].weight.mul_(9)  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert parts() == before
    assert 0 < before[0] <= math.log(3) + 2 * math.log(6)
    assert before[1] <= math.log(6)
