"""Maps in memory, as the compiled passes read and write them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Maps", "Norm", "Term"]


@dataclass(eq=False)
class Maps:
    """Some channels of a batch of maps in memory, and the gradient that has come for them so far.

    Attributes:
        values: shape (images, channels, height, width), channels last.
        stride: elements from a pixel to the next.
        gradient: of the same layout, or None before the first has come.
    """

    values: Tensor
    stride: int
    gradient: "Maps | None" = field(default=None, repr=False)

    @classmethod
    def empty(cls, like: Tensor, channels: int, height: int, width: int) -> "Maps":
        """Room for as many images as there are in `like`, of its type."""
        shape = (len(like), channels, height, width)
        values = torch.empty(
            shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
        )
        return cls(values, channels)

    @property
    def size(self) -> tuple[int, int, int]:
        """Images, height and width."""
        images, _, height, width = self.values.shape
        return images, height, width

    @property
    def pixels(self) -> tuple[int, int]:
        """How many images, and how many pixels each has."""
        images, height, width = self.size
        return images, height * width

    @property
    def channels(self) -> int:
        """How many channels these are."""
        return self.values.shape[1]

    def part(self, first: int, channels: int) -> "Maps":
        """Some of the channels, with the same part of the gradient that there is by now."""
        gradient = None if self.gradient is None else self.gradient.part(first, channels)
        return Maps(self.values.narrow(1, first, channels), self.stride, gradient)

    def gradient_to_write(self) -> tuple["Maps", bool]:
        """Where the next gradient goes, and whether it is to be added to what is there."""
        if self.gradient is not None:
            return self.gradient, True
        self.gradient = Maps.empty(self.values, self.channels, *self.values.shape[2:])
        return self.gradient, False


@dataclass(eq=False)
class Norm:
    """What a batch norm does to the maps of a convolution.

    Attributes:
        scale: per channel, after which comes shift.
        mean: of the batch, float64, in the first element of each row; with inverse, one over its
            deviation, for the way back.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor | None = None
    inverse: Tensor | None = None


@dataclass(eq=False)
class Term:
    """One edge's share of a node.

    Attributes:
        maps: before the batch norm and drop-path.
        norm: None where the operation ends without one.
        weights: what drop-path multiplies each image with, or None.
        backward: takes the gradient of the share and its weights, and passes it on; that of a
            block also the sums of norm_sums, where they are known.
    """

    maps: Maps
    norm: Norm | None
    backward: "Callable[..., None]"
    weights: Tensor | None = None
