"""One forward pass, whatever the precision and whether or not there is an auxiliary head."""

import torch
from torch import Tensor, nn

from dtb_builder.training.recipe import Precision

__all__ = ["forward"]


def forward(
    network: nn.Module, batch: Tensor, precision: Precision
) -> tuple[Tensor, Tensor | None]:
    """The logits and, where the network returns a pair, its auxiliary logits; float32.

    Args:
        network: maps a batch to logits of shape (images, classes), or to a pair of them.
        batch: normalised images, shape (images, channels, height, width).
        precision: bfloat16 runs under autocast.
    """
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        # With the channels last in memory, convolutions of few channels are several times faster.
        output = network(batch.contiguous(memory_format=torch.channels_last))
    logits, auxiliary_logits = output if isinstance(output, tuple) else (output, None)
    return logits.float(), None if auxiliary_logits is None else auxiliary_logits.float()
