"""Probe images, on which networks are scored; only scores on the same probe are comparable."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.images.image_set import normalised
from dtb_builder.remembered import remembered

__all__ = ["ProbeImages", "choose_probe"]


@dataclass(frozen=True, eq=False)
class ProbeImages:
    """Images that are all different; two equal images would make every kernel singular.

    Attributes:
        pixels: uint8, shape (images, channels, height, width).
        indices: the index of each in its image set, int64, shape (images,).

    Raises:
        ValueError: shapes or dtypes are wrong, there are fewer than 2 images, or two are equal.
    """

    pixels: NDArray[np.uint8]
    indices: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or len(self.pixels) < 2:
            raise ValueError(
                "probe pixels must be uint8 of shape (images, channels, height, width), at least "
                f"2 images, got {self.pixels.dtype} of shape {self.pixels.shape}"
            )
        if self.indices.dtype != np.int64 or self.indices.shape != self.pixels.shape[:1]:
            raise ValueError(
                f"probe indices must be int64 of shape ({len(self.pixels)},), "
                f"got {self.indices.dtype} of shape {self.indices.shape}"
            )
        num_different = len({image.tobytes() for image in self.pixels})
        if num_different < len(self.pixels):
            raise ValueError(
                f"probe images must all differ, got {num_different} different ones "
                f"in {len(self.pixels)}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, num_images: int) -> "ProbeImages":
        """The first images, which `choose_probe` would choose for this number of images."""
        return ProbeImages(self.pixels[:num_images], self.indices[:num_images])

    @remembered
    def sha256(self) -> str:
        """The SHA-256 of shape and pixels, in hexadecimal, which identifies the probe."""
        digest = hashlib.sha256(f"{self.pixels.shape} ".encode())
        digest.update(np.ascontiguousarray(self.pixels).data)
        return digest.hexdigest()

    def normalised(
        self, mean: NDArray[np.float64], std: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """The images as input of a network, float32, shape (images, channels, height, width).

        Args:
            mean: mean of each channel with pixels scaled to [0, 1], shape (channels,).
            std: standard deviation of each channel, likewise.
        """
        return normalised(self.pixels, mean, std)


def choose_probe(
    images: NDArray[np.uint8], candidates: NDArray[np.int64], num_images: int, *, seed: int
) -> ProbeImages:
    """Draw different probe images; a copy of an earlier image is skipped.

    Args:
        images: an image set, uint8, shape (all images, channels, height, width).
        candidates: indices to draw from, usually those of the training split.
        num_images: how many images to draw, at least 2.
        seed: the same seed gives the same images, on any machine and with any version of numpy.

    Raises:
        ValueError: fewer than 2 images are asked for, or the candidates have too few different
            ones.
    """
    if num_images < 2:
        raise ValueError(f"num_images must be at least 2, got {num_images}")
    # numpy guarantees the same numbers in all versions only for the raw stream.
    order = np.argsort(np.random.PCG64(seed).random_raw(len(candidates)), kind="stable")
    chosen: dict[bytes, int] = {}
    for index in candidates[order].tolist():
        chosen.setdefault(images[index].tobytes(), index)
        if len(chosen) == num_images:
            indices = np.array(list(chosen.values()), np.int64)
            return ProbeImages(images[indices], indices)
    raise ValueError(
        f"wanted {num_images} different images, got {len(chosen)} among {len(candidates)}"
    )
