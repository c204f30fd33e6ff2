"""SWAP: how many different patterns units show over the probe images."""

import numpy as np
from torch import Tensor, nn

from dtb_builder.metrics.activations import visit_activations

__all__ = ["swap"]


def swap(network: nn.Module, images: Tensor) -> int:
    """Number of different columns of the activation codes; units with the same one count once.

    Source: Peng et al., SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS, ICLR 2024;
    the score without its regularisation by the number of parameters. Arguments and errors are
    those of `activation_codes`.
    """
    patterns: set[bytes] = set()

    def add(fires: Tensor) -> None:
        # A unit's bits in a few bytes, which sort as one value.
        packed = np.packbits(fires.flatten(1).T.contiguous().cpu().numpy(), axis=1)
        patterns.update(np.unique(packed.view(f"V{packed.shape[1]}")).tolist())

    visit_activations(network, images, add)
    return len(patterns)
