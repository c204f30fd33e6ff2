"""Image sets that stay on the training device."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dtb_builder.images.image_set import Images
from dtb_builder.images.splits import Split
from dtb_builder.remembered import remembered
from dtb_builder.training.augmentation import normalise

__all__ = ["LabelledImages", "ResidentImages", "make_resident", "without_evaluation"]


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images and their classes.

    Attributes:
        images: uint8, shape (images, channels, height, width).
        labels: int64, shape (images,).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ResidentImages:
    """Training, validation and test images on one device; they are disjoint.

    Attributes:
        train: the images to train on.
        valid: validation images, taken from the training images of the image set.
        test: the test images of the image set, or some of them.
        mean: mean of each channel with pixels scaled to [0, 1], float32, shape (channels,).
        std: standard deviation of each channel, likewise.
    """

    train: LabelledImages
    valid: LabelledImages
    test: LabelledImages
    mean: Tensor
    std: Tensor

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.train.images.device

    @remembered
    def levels(self) -> Tensor:
        """The normalised value of each pixel value 0 to 255, float32, shape (channels, 256)."""
        values = torch.arange(256, dtype=torch.uint8, device=self.device)
        values = values.expand(1, len(self.mean), 1, 256)
        return normalise(values, mean=self.mean, std=self.std)[0, :, 0].contiguous()


def make_resident(images: Images, split: Split, device: torch.device | str) -> ResidentImages:
    """Split an image set and copy it to a device.

    Raises:
        ValueError: the split is of more training images than the image set has.
    """
    last = max(split.train[-1], split.valid[-1])
    if last >= len(images.train_images):
        raise ValueError(
            f"split must be of {len(images.train_images)} training images, got an index {last}"
        )

    test = split.test_indices(len(images.test_labels))

    def labelled(images: np.ndarray, labels: np.ndarray) -> LabelledImages:
        return LabelledImages(
            torch.tensor(images, device=device), torch.tensor(labels, device=device)
        )

    return ResidentImages(
        train=labelled(images.train_images[split.train], images.train_labels[split.train]),
        valid=labelled(images.train_images[split.valid], images.train_labels[split.valid]),
        test=labelled(images.test_images[test], images.test_labels[test]),
        mean=torch.tensor(images.mean, dtype=torch.float32, device=device),
        std=torch.tensor(images.std, dtype=torch.float32, device=device),
    )


def without_evaluation(data: ResidentImages) -> ResidentImages:
    """The same to train on, and one image of each other part, since evaluating takes time."""
    one = LabelledImages(data.valid.images[:1], data.valid.labels[:1])
    return replace(data, valid=one, test=one)
