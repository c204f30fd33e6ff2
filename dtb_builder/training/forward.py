"""One forward pass in any precision, with or without an auxiliary head."""

import torch
from torch import Tensor, nn

from dtb_builder.training.recipe import Precision

__all__ = ["forward"]


def forward(
    network: nn.Module, batch: Tensor, precision: Precision
) -> tuple[Tensor, Tensor | None]:
    """The logits and, if the network returns a pair, the auxiliary logits, else None; float32.

    Args:
        network: returns logits of shape (images, classes), or a pair of such logits.
        batch: normalised images, shape (images, channels, height, width).
        precision: bfloat16 runs under autocast.
    """
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        # Channels last makes convolutions of few channels several times faster.
        output = network(batch.contiguous(memory_format=torch.channels_last))
    logits, auxiliary_logits = output if isinstance(output, tuple) else (output, None)
    return logits.float(), None if auxiliary_logits is None else auxiliary_logits.float()
