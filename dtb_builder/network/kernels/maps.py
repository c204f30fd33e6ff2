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
        term: of whose batch norm these are the output, alone or in a sum; or None.
        num_readers: operations of the cell whose gradients are still to come.
    """

    values: Tensor
    stride: int
    gradient: "Maps | None" = field(default=None, repr=False)
    term: "Term | None" = field(default=None, repr=False)
    num_readers: int = 0

    def room(self, channels: int | None = None, *, stride: int = 1) -> "Maps":
        """Room for what an operation makes of these, of as many channels unless told otherwise."""
        images, own, height, width = self.values.shape
        shape = (images, channels or own, -(-height // stride), -(-width // stride))
        like = {"dtype": self.values.dtype, "device": self.values.device}
        values = torch.empty(shape, memory_format=torch.channels_last, **like)
        return Maps(values, shape[1])

    @property
    def num_pixels(self) -> int:
        """Those of all images together."""
        return self.values.numel() // self.channels

    @property
    def shape(self) -> dict[str, int]:
        """The arguments of a pass that say how many images, rows, columns and channels are here."""
        images, channels, height, width = self.values.shape
        return {"N": images, "H": height, "W": width, "C": channels}

    @property
    def flat_shape(self) -> dict[str, int]:
        """The same for a pass to which rows are nothing: images, pixels of each, and channels."""
        images, channels, height, width = self.values.shape
        return {"N": images, "pixels": height * width, "C": channels}

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
        self.num_readers -= 1
        if self.gradient is not None:
            return self.gradient, True
        self.gradient = self.room()
        return self.gradient, False


@dataclass(eq=False)
class Norm:
    """What a batch norm does to the maps of a convolution.

    Attributes:
        scale: per channel, after which comes shift.
        mean: of the batch, float64, in the first element of each row.
        inverse: one over the batch's deviation, float64.
        sums: of norm_sums, once the pass that wrote the gradient has gathered them.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    sums: dict[str, Tensor] | None = None

    @property
    def affine(self) -> dict[str, Tensor]:
        """The arguments of a pass that reads maps through this batch norm."""
        return {"scale": self.scale, "shift": self.shift}


@dataclass(eq=False)
class Term:
    """One edge's share of a node.

    Attributes:
        maps: before the batch norm and drop-path.
        norm: None where the operation ends without one.
        weights: what drop-path multiplies each image with, or None.
        backward: takes the gradient of the share and its weights, and passes it on.
    """

    maps: Maps
    norm: Norm | None
    backward: Callable[[Maps, Tensor | None], None]
    weights: Tensor | None = None
