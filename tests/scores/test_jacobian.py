import math

import pytest
import torch
from torch import nn

from dtb_builder import errors
from dtb_builder.scores.graph import Graph
from dtb_builder.scores.jacobian import epe_nas, jacob_cov

K = 1e-5


def term(eigenvalue: float) -> float:
    return -(math.log(eigenvalue + K) + 1 / (eigenvalue + K))


def test_a_linear_network_answers_all_images_alike() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4))
    expected = term(3) + 2 * term(0)
    assert jacob_cov(Graph(network, torch.randn(3, 1, 3, 3))) == pytest.approx(expected, rel=1e-6)


class Square(nn.Module):
    """The sum of the squares of an image's pixels, whose gradient is twice the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).square().sum(dim=1, keepdim=True)


def test_images_that_are_not_correlated_have_the_largest_score() -> None:
    images = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]).reshape(3, 1, 2, 2)
    assert jacob_cov(Graph(Square(), images)) == pytest.approx(3 * term(1), rel=1e-9)


def test_two_images_by_hand() -> None:
    images = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).reshape(2, 1, 1, 3)
    # Each less its mean 1/3: the correlation is -1/2.
    assert jacob_cov(Graph(Square(), images)) == pytest.approx(term(0.5) + term(1.5), rel=1e-6)


def test_a_gradient_without_a_correlation_is_refused() -> None:
    with pytest.raises(ValueError, match="is the same for all its pixels"):
        jacob_cov(Graph(Square(), torch.ones(2, 1, 2, 2)))
    with pytest.raises(errors.DivergedError, match="a gradient by an image is not finite"):
        jacob_cov(Graph(Square(), torch.full((2, 1, 2, 2), float("nan"))))


def test_epe_nas_sums_the_logarithms_of_correlations_within_classes() -> None:
    images = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 2, 0]]).reshape(3, 1, 1, 3)
    of_pair, alone = abs(2 * math.log(1 + K) + 2 * math.log(0.5 + K)), math.log(1 + K)
    graph = Graph(Square(), images, torch.tensor([4, 4, 7]))
    assert epe_nas(graph) == pytest.approx(of_pair + alone, rel=1e-5)


def test_epe_nas_of_many_classes_is_the_mean_difference_between_them() -> None:
    class Many(Square):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images).expand(-1, 101)

    images = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 2, 0]]).reshape(3, 1, 1, 3)
    of_pair, alone = (2 * math.log(1 + K) + 2 * math.log(0.5 + K)) / 2, math.log(1 + K)
    graph = Graph(Many(), images, torch.tensor([4, 4, 7]))
    assert epe_nas(graph) == pytest.approx(2 * abs(of_pair - alone) / 2, rel=1e-5)
