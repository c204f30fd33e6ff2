import pytest
import torch
from torch import nn

from dtb_builder.scores.meco import meco


class Copies(nn.Module):
    """So many copies of its image, each with so much noise of its own."""

    def __init__(self, number: int, noise: float) -> None:
        super().__init__()
        self._number, self._noise = number, noise

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = images.expand(-1, self._number, -1, -1)
        return maps + self._noise * torch.randn(maps.shape)


def of(network: nn.Module) -> float:
    return meco(network, 1, torch.Generator().manual_seed(0))


def test_maps_that_are_copies_have_the_eigenvalue_0_and_unrelated_ones_nearly_1() -> None:
    assert of(Copies(3, 0)) == pytest.approx(0, abs=1e-5)
    assert of(Copies(2, 0.5)) == pytest.approx(1 - 1 / 1.25, abs=0.05)
    assert 0.8 < of(Copies(2, 100)) <= 1


def test_every_module_counts_and_constant_channels_do_not() -> None:
    class Zero(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * 0

    assert of(Zero()) == 0
    one = of(nn.Identity())
    assert one == pytest.approx(1, abs=1e-6)
    assert of(nn.Sequential(nn.Identity(), nn.Identity())) == pytest.approx(3 * one)
