import pytest
import torch
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.scores.size import multiply_accumulates, num_parameters
from dtb_builder.space import NAMED


def test_frozen_parameters_are_not_counted() -> None:
    linear = nn.Linear(3, 2)
    linear.bias.requires_grad_(False)
    assert num_parameters(linear) == 6


@pytest.mark.parametrize(
    ("layer", "image_shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), (3, 5, 5), 3 * 8 * 9 * 25),
        (nn.Conv2d(4, 4, 5, padding=2, groups=4), (4, 6, 6), 4 * 25 * 36),
        (nn.Conv2d(4, 6, 1, stride=2), (4, 6, 6), 4 * 6 * 9),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 7)), (3, 2, 2), 12 * 7),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4), 0),
    ],
)
def test_layers_by_hand(layer: nn.Module, image_shape: tuple[int, int, int], expected: int) -> None:
    assert multiply_accumulates(layer, image_shape) == expected


def test_an_auxiliary_head_is_a_parameter_but_no_multiplication() -> None:
    counts = []
    for auxiliary in (False, True):
        spec = NetworkSpec(
            channels=36, layers=20, num_classes=10, image_size=32, auxiliary=auxiliary
        )
        with torch.device("meta"):
            network = spec.build(NAMED["DARTS_V2"])
        counts.append((num_parameters(network), multiply_accumulates(network, (3, 32, 32))))
    assert [parameters for parameters, _ in counts] == [3_349_342, 3_825_768]
    assert counts[0][1] == counts[1][1] == 528_359_040
