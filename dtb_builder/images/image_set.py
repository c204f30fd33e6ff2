"""A set of labelled images, as numpy arrays."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import ImagesError
from dtb_builder.remembered import remembered

__all__ = ["Images", "channel_statistics", "check_images", "normalised"]


@dataclass(frozen=True, eq=False)
class Images:
    """The training and the test images of a classification problem.

    Attributes:
        name: the set's name in ``load_images``.
        train_images: uint8, shape (images, channels, height, width).
        train_labels: int64, shape (images,), in 0..num_classes-1.
        test_images: uint8, of the same channels, height and width.
        test_labels: int64, shape (test images,).
        num_classes: the number of classes, including those without an image.
        mean: mean of each channel with pixels scaled to [0, 1], shape (channels,).
        std: standard deviation of each channel, likewise.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    num_classes: int
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check("train", self.train_images, self.train_labels, self.num_classes)
        _check("test", self.test_images, self.test_labels, self.num_classes)
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(
                f"test images must have the train images' shape {self.train_images.shape[1:]}, "
                f"got {self.test_images.shape[1:]}"
            )
        num_channels = self.train_images.shape[1]
        if self.mean.shape != (num_channels,) or self.std.shape != (num_channels,):
            raise ValueError(
                f"mean and std must have shape ({num_channels},), "
                f"got {self.mean.shape} and {self.std.shape}"
            )
        if not np.isfinite(self.mean).all():
            raise ValueError(f"mean must be finite, got {self.mean}")
        if not (np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError(f"std must be finite and > 0, got {self.std}")

    @remembered
    def sha256(self) -> str:
        """The SHA-256 of all pixels, labels and shapes, in hexadecimal.

        >>> from dtb_builder.images import load_images
        >>> load_images("digits").sha256[:8]
        '07d514f5'
        """
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.shape} ".encode())
            digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()

    def pooled(self, side: int) -> Self:
        """The images after average pooling: each pixel is the mean of a square, rounded half up.

        Mean and standard deviation are those of the pooled training images.

        Args:
            side: the side of the squares in pixels; it must divide height and width.

        Raises:
            ValueError: the side does not fit, or the pooled images have only one grey level.

        >>> from dtb_builder.images import load_images
        >>> load_images("digits").pooled(2).train_images.shape
        (1438, 1, 4, 4)
        """
        height, width = self.train_images.shape[2:]
        if side < 2 or height % side or width % side:
            raise ValueError(
                f"pool must be at least 2 and divide {height} x {width} pixels, got {side}"
            )
        train_images, test_images = (
            _pooled(i, side) for i in (self.train_images, self.test_images)
        )
        mean, std = channel_statistics(train_images)
        return replace(self, train_images=train_images, test_images=test_images, mean=mean, std=std)


def channel_statistics(
    images: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, with pixels scaled to [0, 1].

    Args:
        images: shape (images, channels, height, width).
    """
    # From integer counts of the 256 grey levels: exact, and without a float copy of all images.
    means, stds = [], []
    levels = np.arange(256)
    for channel in images.swapaxes(0, 1):
        counts = np.bincount(channel.ravel(), minlength=256)
        total, squares = int(counts @ levels), int(counts @ levels**2)
        means.append(total / (255 * channel.size))
        stds.append(math.sqrt(channel.size * squares - total**2) / (255 * channel.size))
    return np.array(means), np.array(stds)


def normalised(
    pixels: NDArray[np.uint8], mean: NDArray[np.float64], std: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Normalised images, float32, of the same shape, with the same bits as torch on a CPU.

    Args:
        pixels: uint8, shape (images, channels, height, width).
        mean: mean of each channel with pixels scaled to [0, 1], shape (channels,).
        std: standard deviation of each channel, likewise.
    """
    scaled = pixels.astype(np.float32) / np.float32(255)
    middle, spread = (each.astype(np.float32)[:, None, None] for each in (mean, std))
    return (scaled - middle) / spread


def check_images(images: Images, expected_sha256: str, *, user: Path | str) -> None:
    """Check that images are the ones with which a run folder or a file was made.

    Args:
        images: the images of this machine.
        expected_sha256: the hash that the run folder or file has.
        user: the run folder or file, for the message.

    Raises:
        ImagesError: the hashes differ.
    """
    if images.sha256 != expected_sha256:
        raise ImagesError(
            f"{images.name} on this machine is not what {user} was made with: "
            f"SHA-256 {images.sha256[:12]}, expected {expected_sha256[:12]}"
        )


def _pooled(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Average pooling in integers, so that no rounding of floats decides a pixel."""
    number, channels, height, width = images.shape
    sums = np.zeros((number, channels, height // side, width // side), np.uint32)
    for row, column in np.ndindex(side, side):
        sums += images[:, :, row::side, column::side]
    return ((2 * sums + side**2) // (2 * side**2)).astype(np.uint8)


def _check(
    part: str, images: NDArray[np.uint8], labels: NDArray[np.int64], num_classes: int
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(
            f"{part} images must be uint8 of shape (images, channels, height, width) and not "
            f"empty, got {images.dtype} of shape {images.shape}"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{part} labels must be int64 of shape ({len(images)},), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{part} labels must be in 0..{num_classes - 1}, got {labels.min()}..{labels.max()}"
        )
