import numpy as np
import pytest
import torch
from torch import nn

from dtb_builder.errors import SingularKernelError
from dtb_builder.scores.te_nas import crops, linear_regions, ntk_condition


def test_the_tangent_kernel_of_a_linear_network_is_that_of_its_images() -> None:
    images = torch.tensor([[1.0, 0], [1, 1]])
    # The summed logits' gradient by the weights is the image in each of 3 rows.
    eigenvalues = np.linalg.eigvalsh((images @ images.T).numpy())
    found = ntk_condition(nn.Linear(2, 3, bias=False), images)
    assert found == pytest.approx(-eigenvalues[1] / eigenvalues[0], rel=1e-6)
    assert ntk_condition(nn.Linear(2, 3), torch.eye(2)) == pytest.approx(-1)


def test_more_images_than_weights_have_a_singular_kernel() -> None:
    with pytest.raises(SingularKernelError, match="wanted a tangent kernel that tells 3 images"):
        ntk_condition(nn.Linear(2, 3), torch.tensor([[1.0, 0], [0, 1], [1, 1]]))


def test_linear_regions_are_counted_over_all_batches() -> None:
    layer = nn.Linear(1, 2)
    network = nn.Sequential(nn.Flatten(), layer, nn.ReLU())
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0], [1]]))
        layer.bias.copy_(torch.tensor([0.0, -1]))
    # Of a line that two units cut at 0 and at 1: three regions.
    points = torch.tensor([[-2.0, -1, 0.5], [0.25, 3, 7]]).reshape(2, 3, 1, 1, 1)
    assert linear_regions(network, points) == 3
    assert linear_regions(network, points[:1]) == 2


def test_crops_are_parts_of_the_images() -> None:
    images = torch.arange(2 * 25.0).reshape(2, 1, 5, 5)
    drawn = crops(images, 2, 50, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 50, 1, 3, 3)
    corners = drawn[:, :, 0, 0, 0].flatten()
    first = {float(images[i, 0, y, x]) for i in range(2) for y in range(3) for x in range(3)}
    assert set(corners.tolist()) == first
    steps = torch.tensor([0.0, 1, 2, 5, 6, 7, 10, 11, 12])
    assert torch.equal(drawn.reshape(-1, 9), corners[:, None] + steps)
