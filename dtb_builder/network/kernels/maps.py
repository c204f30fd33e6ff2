"""Feature maps and their gradients, as the compiled passes read and write them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["Maps", "Norm", "Term"]


@dataclass(eq=False)
class Maps:
    """Feature maps, maybe a range of the channels of a wider tensor, and their gradient.

    Attributes:
        values: shape (images, channels, height, width), channels last.
        stride: elements from a pixel to the next.
        gradient: the sum of the gradients so far, in the same layout; None before the first.
        terms: the terms that these are the sum of; none for the output of an operation.
        num_readers: how many operations of the cell have still to add their gradient.
    """

    values: Tensor
    stride: int
    gradient: "Maps | None" = field(default=None, repr=False)
    terms: "list[Term]" = field(default_factory=list, repr=False)
    num_readers: int = 0

    def new_empty(self, channels: int | None = None, *, stride: int = 1) -> "Maps":
        """Uninitialised maps for an operation's output; by default with as many channels."""
        images, own, height, width = self.values.shape
        shape = (images, channels or own, -(-height // stride), -(-width // stride))
        like = {"dtype": self.values.dtype, "device": self.values.device}
        values = torch.empty(shape, memory_format=torch.channels_last, **like)
        return Maps(values, shape[1])

    @property
    def num_pixels(self) -> int:
        """The number of pixels of all images together."""
        return self.values.numel() // self.channels

    @property
    def shape(self) -> dict[str, int]:
        """The shape as arguments of a pass: images, height, width and channels."""
        images, channels, height, width = self.values.shape
        return {"N": images, "H": height, "W": width, "C": channels}

    @property
    def flat_shape(self) -> dict[str, int]:
        """The shape for a pass that ignores rows: images, pixels of an image, channels."""
        images, channels, height, width = self.values.shape
        return {"N": images, "pixels": height * width, "C": channels}

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.values.shape[1]

    def part(self, first: int, channels: int) -> "Maps":
        """A view of a range of channels, and of the same range of the gradient if there is one."""
        gradient = None if self.gradient is None else self.gradient.part(first, channels)
        return Maps(self.values.narrow(1, first, channels), self.stride, gradient)

    def gradient_to_write(self) -> tuple["Maps", bool]:
        """The buffer of the gradient, and whether to add to it rather than overwrite it."""
        self.num_readers -= 1
        if self.gradient is not None:
            return self.gradient, True
        self.gradient = self.new_empty()
        return self.gradient, False


@dataclass(eq=False)
class Norm:
    """A batch norm with the statistics of a batch: y = scale x + shift, per channel.

    Attributes:
        scale: shape (channels,).
        shift: shape (channels,).
        mean: the batch's mean, float64, in the first element of each channel's row.
        inverse: 1 / sqrt(variance + eps), float64, shape (channels,).
        sums: those of norm_sums, once the pass that writes the gradient has gathered them.
    """

    scale: Tensor
    shift: Tensor
    mean: Tensor
    inverse: Tensor
    sums: dict[str, Tensor] | None = None

    @property
    def affine(self) -> dict[str, Tensor]:
        """The arguments of a pass that applies this batch norm to its input."""
        return {"scale": self.scale, "shift": self.shift}


@dataclass(eq=False)
class Term:
    """The output of one edge, of which a node sums two.

    Attributes:
        maps: the output before batch norm and drop-path.
        norm: the batch norm, or None if the operation does not end with one.
        backward: the backward pass; takes the gradient of the node and `weights`.
        weights: drop-path's factor for each image, or None.
    """

    maps: Maps
    norm: Norm | None
    backward: Callable[[Maps, Tensor | None], None]
    weights: Tensor | None = None
