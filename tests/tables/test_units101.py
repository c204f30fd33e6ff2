import pytest
import torch
from suite_zero import cells

from dtb_builder.scores.activations import network_agreement
from dtb_builder.tables.cell101 import Cell101
from dtb_builder.tables.network101 import Network101
from dtb_builder.tables.units101 import activation_units101


def test_units_by_hand() -> None:
    # Stem 4 x 8 x 8. A cell: a projection and a 3x3 convolution, each as wide as the cell.
    cell = Cell101(edges=((0, 1), (1, 2)), operations=("conv3x3-bn-relu",))
    stacks = [3 * 2 * width * size**2 for width, size in ((4, 8), (8, 4), (16, 2))]
    assert activation_units101(cell, channels=4, image_size=8) == 4 * 8 * 8 + sum(stacks)


@pytest.mark.parametrize(("channels", "size"), [(4, 8), (5, 9)])
def test_hooks_count_as_many(channels: int, size: int) -> None:
    """Of some cells; `benchmarks/published_scores.py` counts them all."""
    for cell in cells()[::40]:
        network = Network101(cell, channels=channels)
        counted = network_agreement(network, torch.randn(2, 3, size, size)).activation_units
        assert counted == activation_units101(cell, channels=channels, image_size=size)
