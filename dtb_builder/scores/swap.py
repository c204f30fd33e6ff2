"""SWAP: the number of different patterns that units have over the probe images."""

import math

import numpy as np
from torch import Tensor, nn

from dtb_builder.network.network import Network
from dtb_builder.network.spec import AUXILIARY_HEAD
from dtb_builder.scores.activations import visit_activations
from dtb_builder.scores.space_size import parameters_of_space

__all__ = ["PatternCounter", "regularised_swap", "swap", "swap_in_space"]


def swap(network: nn.Module, images: Tensor) -> int:
    """The number of different columns of the activation codes.

    Source: Peng et al., SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS, ICLR 2024;
    here without the regularisation by the number of parameters. Arguments and errors are those of
    `activation_codes`.
    """
    counter = PatternCounter()
    visit_activations(network, images, counter)
    return counter.num_patterns


def regularised_swap(
    num_patterns: float, num_parameters: float, *, centre: float, width: float
) -> float:
    """SWAP times exp(-(p - centre)^2 / width) for p thousand parameters.

    Source: Peng et al., ICLR 2024, and its code, pym1024/SWAP. The user chooses centre, the wanted
    size, and width, which decides how much other sizes are penalised.

    >>> regularised_swap(100, 40_000, centre=40, width=40)
    100.0
    """
    return num_patterns * math.exp(-((num_parameters / 1000 - centre) ** 2) / width)


def swap_in_space(num_patterns: float, network: Network) -> float:
    """The `regularised_swap` of a network of the DARTS space, held to the space's own sizes.

    The centre is the mean number of parameters of all genotypes, the width twice their variance:
    this choice is ours. As in the released code, parameters of an auxiliary head do not count.
    """
    mean, variance = parameters_of_space(network.spec)
    parameters = network.named_parameters()
    own = sum(each.numel() for name, each in parameters if not name.startswith(AUXILIARY_HEAD))
    return regularised_swap(num_patterns, own, centre=mean / 1e3, width=2 * variance / 1e6)


class PatternCounter:
    """Collects the patterns of the codes of one ReLU after the other."""

    def __init__(self) -> None:
        self._patterns: set[bytes] = set()

    def __call__(self, fires: Tensor) -> None:
        """Add the patterns of a ReLU's codes, bool, shape (images, ...)."""
        # A unit's bits in a few bytes, which sort as one value.
        packed = np.packbits(fires.flatten(1).T.contiguous().cpu().numpy(), axis=1)
        self._patterns.update(np.unique(packed.view(f"V{packed.shape[1]}")).tolist())

    @property
    def num_patterns(self) -> int:
        """The number of different patterns so far."""
        return len(self._patterns)
