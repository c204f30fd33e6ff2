"""The number of ReLU units of a network of the DARTS space, computed from its genotype."""

from collections.abc import Sequence

from dtb_builder.network import NetworkSpec
from dtb_builder.space import Edge, Genotype
from dtb_builder.space.cell import NUM_NODES

__all__ = ["activation_units"]

STEM_MULTIPLIER = 3  # that of network.network, which would import torch


def activation_units(genotype: Genotype, spec: NetworkSpec) -> int:
    """N_A, the number of ReLU units for one image, without those of the auxiliary head.

    Training does not change it. `network_agreement` counts the same number on a network; comparing
    the two checks that hooks have seen every ReLU.

    >>> from dtb_builder.space import NAMED
    >>> spec = NetworkSpec(channels=32, layers=8, num_classes=10, image_size=32)
    >>> activation_units(NAMED["DARTS_V2"], spec)
    2572288
    """
    channels, size = spec.channels, spec.image_size
    before_last = last = STEM_MULTIPLIER * channels * size**2
    units = 0
    for i in range(spec.layers):
        units += before_last + last
        if i in spec.reductions:
            channels *= 2
            size_out = -(-size // 2)
            units += _reduction_units(genotype.reduce, channels * size**2, channels * size_out**2)
            size = size_out
        else:
            units += _normal_units(genotype.normal, channels * size**2)
        before_last, last = last, NUM_NODES * channels * size**2
    return units


def _normal_units(edges: Sequence[Edge], values: int) -> int:
    """ReLU units of a normal cell's edges; ``values`` is the number of values of a node's maps."""
    return values * sum(_NUM_RELUS.get(edge.operation, 0) for edge in edges)


def _reduction_units(edges: Sequence[Edge], values_in: int, values: int) -> int:
    """ReLU units of a reduction cell's edges, whose first ReLU may read the larger maps.

    Args:
        edges: the cell's edges.
        values_in: the number of values in the maps of one of the cell's inputs.
        values: the number of values in a node's maps.
    """
    halving = [edge.operation for edge in edges if edge.predecessor < 2]
    extra = (values_in - values) * sum(operation in _NUM_RELUS for operation in halving)
    return _normal_units(edges, values) + extra + values_in * halving.count("skip_connect")


_NUM_RELUS = {"sep_conv_3x3": 2, "sep_conv_5x5": 2, "dil_conv_3x3": 1, "dil_conv_5x5": 1}
"""ReLUs per operation at stride 1; besides these, a skip connection has one at stride 2."""
