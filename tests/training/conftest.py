"""Small images and small networks, so that an epoch takes milliseconds."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from recipes import RECIPES
from torch import Tensor, nn
from torch.nn import functional

from dtb_builder.images import Images, Split
from dtb_builder.training import Recipe
from dtb_builder.training.resident import ResidentImages, make_resident


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class SmallNetwork(nn.Module):
    """Has all that may go wrong in a resume: batch norm, dropout, drop-path, a second head."""

    def __init__(self, num_channels: int, num_classes: int, *, auxiliary: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(num_channels, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.edge = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.edge_norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(8, num_classes)
        self.auxiliary_head = nn.Linear(8, num_classes) if auxiliary else None
        self.drop_path = 0.0

    def set_drop_path(self, probability: float) -> None:
        self.drop_path = probability

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = functional.relu(self.stem_norm(self.stem(images)))
        edge = self.edge_norm(self.edge(maps))
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            edge = edge * torch.bernoulli(torch.full_like(edge[:, :1, :1, :1], keep)) / keep
        features = self.dropout(functional.relu(maps + edge).mean((2, 3)))
        logits = self.head(features)
        if self.auxiliary_head is None or not self.training:
            return logits
        return logits, self.auxiliary_head(maps.mean((2, 3)))


@pytest.fixture
def make_network() -> Callable[..., SmallNetwork]:
    """The same weights for the same seed."""

    def make(seed: int = 0, *, auxiliary: bool = False) -> SmallNetwork:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return SmallNetwork(3, 4, auxiliary=auxiliary)

    return make


@pytest.fixture
def recipe() -> Recipe:
    """Four epochs of everything but the auxiliary head, which not every network has."""
    return dataclasses.replace(
        RECIPES["nb301"],
        num_epochs=4,
        batch_size=16,
        auxiliary_weight=0.0,
        drop_path_ramp=True,
        crop_padding=2,
        cutout_length=4,
    )


@pytest.fixture
def data(images: Images) -> ResidentImages:
    """50 images to train on: three whole batches of 16 and one of 2."""
    return make_resident(images, Split(train=np.arange(50), valid=np.arange(50, 60)), "cpu")
