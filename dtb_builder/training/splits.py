"""The division of training images into train and valid."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Split", "indices_sha256", "stratified_split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Which training images are trained on, and which validate.

    Attributes:
        train: int64 indices, ascending.
        valid: int64 indices, ascending; together with train they are 0..N-1, each once.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name, indices in (("train", self.train), ("valid", self.valid)):
            if indices.dtype != np.int64 or indices.ndim != 1:
                raise ValueError(
                    f"{name} must be int64 of one dimension, "
                    f"got {indices.dtype} of shape {indices.shape}"
                )
            if (np.diff(indices) <= 0).any():
                raise ValueError(f"{name} indices must ascend")
        together = np.sort(np.concatenate([self.train, self.valid]))
        if not np.array_equal(together, np.arange(len(together))):
            raise ValueError(
                f"train and valid must together be 0..{len(together) - 1}, each index once"
            )


def stratified_split(labels: NDArray[np.integer], num_valid: int, seed: int) -> Split:
    """Draw valid images such that every class has its share, to within one image.

    Args:
        labels: one class per image, shape (images,).
        num_valid: images to draw, at least 1 and fewer than all.
        seed: the same seed gives the same split, on any machine and with any version of numpy.
    """
    if not 1 <= num_valid < len(labels):
        raise ValueError(f"num_valid must be in 1..{len(labels) - 1}, got {num_valid}")
    classes, counts = np.unique(labels, return_counts=True)
    # Largest remainder, in whole numbers: no rounding decides who gets the last image.
    quotas, remainders = np.divmod(counts * num_valid, len(labels))
    quotas[np.argsort(-remainders, kind="stable")[: num_valid - quotas.sum()]] += 1

    # Published benchmarks are compared by this split, so it is not scikit-learn's, whose draws
    # may change between versions. Of numpy only the raw stream is promised never to change.
    shuffled = np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable")
    drawn = [
        shuffled[labels[shuffled] == label][:quota]
        for label, quota in zip(classes, quotas, strict=True)
    ]
    valid = np.sort(np.concatenate(drawn)).astype(np.int64)
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), valid, assume_unique=True)
    return Split(train=train, valid=valid)


def indices_sha256(indices: NDArray[np.int64]) -> str:
    """Hash of indices as little-endian int64, in hexadecimal."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
