"""A forward pass looks the same whatever the network and the precision."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dtb_builder.training import Precision
from dtb_builder.training.forward import forward


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("auxiliary", [False, True])
def test_logits_are_float32(
    make_network: Callable[..., nn.Module], precision: Precision, auxiliary: bool
) -> None:
    network = make_network(auxiliary=auxiliary).train()
    logits, auxiliary_logits = forward(network, torch.randn(5, 3, 8, 8), precision)
    assert (logits.dtype, logits.shape) == (torch.float32, (5, 4))
    assert (auxiliary_logits is not None) == auxiliary
    if auxiliary_logits is not None:
        assert (auxiliary_logits.dtype, auxiliary_logits.shape) == (torch.float32, (5, 4))


def test_a_network_gets_its_batch_with_the_channels_last() -> None:
    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.is_contiguous(memory_format=torch.channels_last)
            return images.mean((2, 3))

    forward(Spy(), torch.randn(5, 3, 8, 8), "float32")
