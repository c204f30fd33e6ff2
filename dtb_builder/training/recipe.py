"""How a network is trained."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Precision", "Recipe"]

Precision = Literal["float32", "bfloat16"]
"""What the forward pass is computed in; weights, gradients and losses are float32 in both."""


_MOST_PADDING = 2**8
"""Pixels on each side; a file may claim any recipe, and images are padded in memory."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """SGD on augmented images with a cosine schedule that is stepped once per epoch.

    Attributes:
        num_epochs: epochs to train; the schedule spans all of them.
        batch_size: images per step; a last batch of a single image is left out.
        learning_rate: during the first epoch.
        min_learning_rate: where the cosine would stand one epoch after the last.
        momentum: of SGD, in [0, 1).
        nesterov: whether the momentum is Nesterov's.
        weight_decay: of SGD, on every parameter.
        gradient_clip: largest norm of the whole gradient, or None for no limit.
        auxiliary_weight: what the auxiliary head's loss counts; 0 ignores the head.
        drop_path_probability: chance that an edge of a cell is dropped for an image, in [0, 1).
        drop_path_ramp: whether that chance grows linearly from 0 instead of being constant.
        crop_padding: black pixels on each side before a random crop; 0 turns cropping off.
        horizontal_flip: whether half of the images are mirrored.
        cutout_length: side, in pixels, of the square that is set to the mean; 0 turns it off.
        mixup_alpha: both parameters of mixup's Beta distribution; 0 turns mixup off.
        precision: what the forward pass is computed in.
    """

    num_epochs: int
    batch_size: int
    learning_rate: float
    min_learning_rate: float
    momentum: float
    nesterov: bool = False
    weight_decay: float
    gradient_clip: float | None
    auxiliary_weight: float
    drop_path_probability: float
    drop_path_ramp: bool
    crop_padding: int
    horizontal_flip: bool
    cutout_length: int
    mixup_alpha: float
    precision: Precision

    def __post_init__(self) -> None:
        # Two images, because batch norm cannot train on one pixel of one image.
        minima = {"num_epochs": 1, "batch_size": 2, "crop_padding": 0, "cutout_length": 0}
        for name, minimum in minima.items():
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise ValueError(f"{name} must be a whole number >= {minimum}, got {value!r}")
        if self.crop_padding > _MOST_PADDING:
            raise ValueError(
                f"crop_padding must be at most {_MOST_PADDING}, got {self.crop_padding}"
            )
        for name in ("nesterov", "drop_path_ramp", "horizontal_flip"):
            value = getattr(self, name)
            if type(value) is not bool:
                raise ValueError(f"{name} must be true or false, got {value!r}")
        for name in ("min_learning_rate", "weight_decay", "auxiliary_weight", "mixup_alpha"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and >= 0, got {value!r}")
        for name in ("momentum", "drop_path_probability"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be finite and > 0, got {self.learning_rate!r}")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate must be at most learning_rate = {self.learning_rate}, "
                f"got {self.min_learning_rate}"
            )
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum > 0, got 0")
        if self.gradient_clip is not None and not 0 < self.gradient_clip < math.inf:
            raise ValueError(
                f"gradient_clip must be finite and > 0, or None, got {self.gradient_clip!r}"
            )
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision must be float32 or bfloat16, got {self.precision!r}")

    def drop_path_at(self, epoch: int) -> float:
        """The chance that an edge is dropped during an epoch, 1 being the first trained one."""
        if not self.drop_path_ramp:
            return self.drop_path_probability
        return self.drop_path_probability * (epoch - 1) / self.num_epochs

    def num_steps(self, num_images: int) -> int:
        """The training steps of an epoch over so many images."""
        whole, rest = divmod(num_images, self.batch_size)
        return whole + (rest > 1)
