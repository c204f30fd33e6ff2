import math

import numpy as np
import pytest
import torch
from torch import nn

from dtb_builder.network import NetworkSpec
from dtb_builder.scores.activations import activation_codes
from dtb_builder.scores.swap import regularised_swap, swap
from dtb_builder.space import NAMED


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
