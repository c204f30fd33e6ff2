"""The local images that a file's runs were trained on, verified by the file's hashes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset.opening import damage_is_named
from dtb_builder.errors import ImagesError
from dtb_builder.images.image_set import Images, check_images, normalised
from dtb_builder.images.settings import ImagesConfig, load_split_images
from dtb_builder.images.splits import Split, indices_sha256
from dtb_builder.remembered import remembered

__all__ = ["TrainedImages", "TrainedPart", "images_of", "parts_of"]


@dataclass(frozen=True, eq=False)
class TrainedPart:
    """One part of a benchmark's images.

    Attributes:
        pixels: uint8, shape (images, channels, height, width).
        labels: int64, shape (images,).
        mean: mean of each channel with pixels scaled to [0, 1], shape (channels,).
        std: standard deviation of each channel, in the same scale, shape (channels,).
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)

    @remembered
    def images(self) -> NDArray[np.float32]:
        """The images as networks see them, before augmentation; same shape as the pixels.

        >>> bench.images().valid.images.dtype
        dtype('float32')
        """
        return normalised(self.pixels, self.mean, self.std)


@dataclass(frozen=True, eq=False)
class TrainedImages:
    """The three parts of a benchmark's images, disjoint.

    Attributes:
        train: the images trained on.
        valid: from the image set's training images, but not trained on.
        test: from the image set's test images.

    >>> parts = bench.images()
    >>> len(parts.train), len(parts.valid), len(parts.test)
    (1238, 200, 359)
    """

    train: TrainedPart
    valid: TrainedPart
    test: TrainedPart


def images_of(
    provenance: Mapping[str, Any], root: Path | None, *, user: Path | str
) -> tuple[Images, Split]:
    """The images of a provenance and their split, prepared as for a training.

    Args:
        provenance: the provenance of a file.
        root: the folder of the images, or None for the default.
        user: the file, for errors.

    Raises:
        ImagesError: the images here are not those of the training.
    """
    with damage_is_named(user):
        settings = provenance["config"]["images"] | {"root": None if root is None else str(root)}
        config, stored = ImagesConfig(**settings), provenance["images"]["sha256"]
        divided = {part: split["indices_sha256"] for part, split in provenance["splits"].items()}
    images, split = load_split_images(config)
    check_images(images, stored, user=user)
    test = split.test_indices(len(images.test_labels))
    for part, indices in (("train", split.train), ("valid", split.valid), ("test", test)):
        if indices_sha256(indices) != divided.get(part):
            raise ImagesError(f"{images.name}: the {part} images are not those of {user}")
    return images, split


def parts_of(images: Images, split: Split) -> TrainedImages:
    """An image set divided by a split."""

    def part(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> TrainedPart:
        return TrainedPart(pixels, labels, images.mean, images.std)

    pixels, labels = images.train_images, images.train_labels
    test = split.test_indices(len(images.test_labels))
    return TrainedImages(
        train=part(pixels[split.train], labels[split.train]),
        valid=part(pixels[split.valid], labels[split.valid]),
        test=part(images.test_images[test], images.test_labels[test]),
    )
