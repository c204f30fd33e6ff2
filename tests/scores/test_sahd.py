import pytest
import torch

from dtb_builder.errors import SingularKernelError
from dtb_builder.network import NetworkSpec
from dtb_builder.scores.activations import visit_activations
from dtb_builder.scores.sahd import sahd
from dtb_builder.space import sample_uniform

SPEC = NetworkSpec(channels=4, layers=3, num_classes=10, image_size=8)


@pytest.mark.parametrize("number", range(5))
def test_it_is_the_definition_of_the_released_code(number: int) -> None:
    network, images = SPEC.build(sample_uniform(0, number)), torch.randn(6, 3, 8, 8)
    kernels: list[torch.Tensor] = []

    def visit(fires: torch.Tensor) -> None:
        x = fires.flatten(1).double()
        share = x.mean(1, keepdim=True)
        expected = (share @ (1 - share).T + (1 - share) @ share.T) * x.shape[1]
        distances = x @ (1 - x).T + (1 - x) @ x.T
        kernels.append(x.shape[1] - 0.5 / (expected + 1e-3) * distances)

    visit_activations(network, images, visit)
    expected = torch.stack(kernels).mean(0).logdet()
    assert sahd(network, images) == pytest.approx(float(expected), rel=1e-9)


def test_two_images_of_one_code_have_no_score() -> None:
    images = torch.randn(1, 3, 8, 8).repeat(2, 1, 1, 1)
    with pytest.raises(SingularKernelError, match="rescaled distances is singular"):
        sahd(SPEC.build(sample_uniform(0, 0)), images)
