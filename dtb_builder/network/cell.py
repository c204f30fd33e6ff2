"""A cell, the small graph of operations that a network repeats."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dtb_builder.network.operations import (
    FactorizedReduce,
    make_operation,
    pointwise_convolution,
)
from dtb_builder.space import Edge

__all__ = ["Cell", "DropPath"]


class DropPath(nn.Module):
    """Zeroes whole samples at random in training, and scales the others up to keep the mean.

    The draws come from the default generator of the input's device, as nn.Dropout's do.

    Attributes:
        probability: of zeroing a sample, in [0, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0

    def forward(self, maps: Tensor) -> Tensor:
        """Maps of the same shape (batch, channels, height, width)."""
        if not self.training or self.probability == 0:
            return maps
        kept = 1 - self.probability
        return maps * maps.new_empty((len(maps), 1, 1, 1)).bernoulli_(kept).div_(kept)

    def extra_repr(self) -> str:
        """The arguments in the module's printed form."""
        return f"probability={self.probability}"


class Cell(nn.Module):
    """Four nodes, each the sum of two operations on earlier states; the output concatenates them.

    Args:
        edges: the cell's edges in the genotype's order, which is also the order of the weights.
        channels_in: channels of the two inputs, before_last and last.
        channels: channels of each node.
        reduction: whether the cell halves the resolution.
        after_reduction: whether the last cell does, so that the older input must still be halved.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        channels_in: tuple[int, int],
        channels: int,
        *,
        reduction: bool,
        after_reduction: bool,
    ) -> None:
        super().__init__()
        adapt = FactorizedReduce if after_reduction else pointwise_convolution
        self.preprocess0 = adapt(channels_in[0], channels)
        self.preprocess1 = pointwise_convolution(channels_in[1], channels)
        self._predecessors = tuple(edge.predecessor for edge in edges)
        # The name in published DARTS weights.
        self._ops = nn.ModuleList(
            make_operation(edge.operation, channels, 2 if reduction and edge.predecessor < 2 else 1)
            for edge in edges
        )
        self.drop_path = DropPath()
        self.reduction = reduction
        self.channels_out = len(edges) // 2 * channels

    @property
    def edges(self) -> tuple[tuple[nn.Module, int], ...]:
        """Each edge's operation and the number of the state that it reads; 0 is the older input."""
        return tuple(zip(self._ops, self._predecessors, strict=True))

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        """The concatenated nodes, shape (batch, channels_out, height, width).

        Args:
            before_last: output of the cell before the last, (batch, channels_in[0], ...).
            last: output of the last cell, shape (batch, channels_in[1], height, width).
        """
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for i in range(0, len(self._ops), 2):
            states.append(self._edge(i, states) + self._edge(i + 1, states))
        return torch.cat(states[2:], dim=1)

    def _edge(self, i: int, states: list[Tensor]) -> Tensor:
        operation = self._ops[i]
        maps = operation(states[self._predecessors[i]])
        return maps if isinstance(operation, nn.Identity) else self.drop_path(maps)
