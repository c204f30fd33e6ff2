"""How a network is trained."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Activations", "Precision", "Recipe"]

Precision = Literal["float32", "bfloat16"]
"""The precision of the forward pass; weights, gradients and losses are always float32."""

Activations = Literal["float32", "bfloat16"]
"""What a GPU's compiled passes store maps and their gradients in; they compute in float32."""


_MOST_PADDING = 2**8
"""Pixels on each side; a file may claim any recipe, and images are padded in memory."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """SGD on augmented images, with a cosine schedule that is stepped once per epoch.

    Attributes:
        num_epochs: the number of epochs; the schedule spans all of them.
        batch_size: images per step; a last batch of a single image is left out.
        learning_rate: the learning rate of the first epoch.
        min_learning_rate: the learning rate that the schedule would have one epoch after the last.
        momentum: the momentum of SGD, in [0, 1).
        nesterov: whether the momentum is Nesterov's.
        weight_decay: the weight decay of SGD, on every parameter.
        gradient_clip: the largest norm of the whole gradient, or None for no limit.
        auxiliary_weight: the weight of the auxiliary head's loss; 0 ignores the head.
        drop_path_probability: the probability that an edge is dropped for an image, in [0, 1).
        drop_path_ramp: whether that probability grows linearly from 0 instead of being constant.
        crop_padding: black pixels on each side before a random crop; 0 turns cropping off.
        horizontal_flip: whether half of the images are mirrored.
        cutout_length: the side, in pixels, of the square that is set to the mean; 0 turns it off.
        mixup_alpha: both parameters of mixup's Beta distribution; 0 turns mixup off.
        precision: the precision of the forward pass.
        activations: the type in which compiled passes store maps and their gradients.
        evaluate_epochs: the epochs after which the network is evaluated; the last epoch always is,
            and 0 is the initialisation. None is all epochs.
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
    activations: Activations = "float32"  # files made before it was a setting had this
    evaluate_epochs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        # At least two images, because batch norm cannot train on a single value.
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
        if self.activations not in ("float32", "bfloat16"):
            raise ValueError(f"activations must be float32 or bfloat16, got {self.activations!r}")
        listed = self.evaluate_epochs
        if listed is not None and not all(0 <= epoch <= self.num_epochs for epoch in listed):
            raise ValueError(f"evaluate_epochs must be in 0..{self.num_epochs}, got {listed}")

    def drop_path_at(self, epoch: int) -> float:
        """The probability that an edge is dropped during an epoch; training starts at epoch 1."""
        if not self.drop_path_ramp:
            return self.drop_path_probability
        return self.drop_path_probability * (epoch - 1) / self.num_epochs

    def evaluates(self, epoch: int) -> bool:
        """Whether the network is evaluated after an epoch."""
        listed = self.evaluate_epochs
        return listed is None or epoch in listed or epoch == self.num_epochs

    def num_steps(self, num_images: int) -> int:
        """The number of training steps of an epoch over `num_images` training images."""
        whole, rest = divmod(num_images, self.batch_size)
        return whole + (rest > 1)
