"""The split of an image set into train, valid and test."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Split", "indices_sha256", "stratified_sample", "stratified_split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Which training images are for training and which for validation; an image may be in neither.

    Attributes:
        train: int64 indices, ascending.
        valid: int64 indices, ascending, none of them in train.
        test: int64 indices of test images, ascending; None is all of them.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name, indices in (("train", self.train), ("valid", self.valid), ("test", self.test)):
            if indices is None:
                continue
            if indices.dtype != np.int64 or indices.ndim != 1:
                raise ValueError(
                    f"{name} must be int64 of one dimension, "
                    f"got {indices.dtype} of shape {indices.shape}"
                )
            if (np.diff(indices) <= 0).any():
                raise ValueError(f"{name} indices must ascend")
            if len(indices) == 0:
                raise ValueError(f"{name} must not be empty")
            if indices[0] < 0:
                raise ValueError(f"{name} indices must be at least 0, got {indices[0]}")
        if len(both := np.intersect1d(self.train, self.valid)):
            raise ValueError(f"train and valid must be disjoint, got image {both[0]} in both")

    def test_indices(self, num_images: int) -> NDArray[np.int64]:
        """The indices of the test images, of an image set that has as many; int64, ascending."""
        return np.arange(num_images, dtype=np.int64) if self.test is None else self.test


def stratified_split(
    labels: NDArray[np.integer], num_valid: int, seed: int, *, num_train: int | None = None
) -> Split:
    """Draw a split in which each class has its share of both parts, to within one image.

    Args:
        labels: one class per image, shape (images,).
        num_valid: the number of validation images, at least 1 and fewer than all.
        seed: the same seed gives the same split, on any machine and with any version of numpy.
        num_train: the number of training images, drawn from the others; None takes all of them. It
            does not change which images are for validation.

    Raises:
        ValueError: a number is out of range.

    >>> split = stratified_split(np.arange(60) % 3, 12, 0)
    >>> np.bincount(split.valid % 3).tolist(), len(split.train)
    ([4, 4, 4], 48)
    """
    if not 1 <= num_valid < len(labels):
        raise ValueError(f"num_valid must be in 1..{len(labels) - 1}, got {num_valid}")
    num_left = len(labels) - num_valid
    if num_train is None:
        num_train = num_left
    if not 1 <= num_train <= num_left:
        raise ValueError(f"num_train must be in 1..{num_left}, got {num_train}")
    classes, counts = np.unique(labels, return_counts=True)
    valid_quotas = _quotas(counts, num_valid)
    train_quotas = _quotas(counts - valid_quotas, num_train)

    shuffled = _shuffled(len(labels), seed)
    valid, train = [], []
    for label, num_first, num_next in zip(classes, valid_quotas, train_quotas, strict=True):
        of_class = shuffled[labels[shuffled] == label]
        valid.append(of_class[:num_first])
        train.append(of_class[num_first : num_first + num_next])
    return Split(train=_ascending(train), valid=_ascending(valid))


def stratified_sample(labels: NDArray[np.integer], num: int, seed: int) -> NDArray[np.int64]:
    """The ascending indices of drawn images; each class has its share, to within one image.

    Args:
        labels: one class per image, shape (images,).
        num: the number of images to draw, at least 1.
        seed: the same seed gives the same images, on any machine and with any version of numpy.
    """
    if not 1 <= num <= len(labels):
        raise ValueError(f"num_test must be in 1..{len(labels)}, got {num}")
    classes, counts = np.unique(labels, return_counts=True)
    shuffled = _shuffled(len(labels), seed)
    quotas = _quotas(counts, num)
    return _ascending(
        [
            shuffled[labels[shuffled] == label][:quota]
            for label, quota in zip(classes, quotas, strict=True)
        ]
    )


def _shuffled(num: int, seed: int) -> NDArray[np.int64]:
    """A random order of ``num`` images.

    Published benchmarks depend on these draws, so they are not scikit-learn's, which may change
    between versions. numpy guarantees the same numbers in all versions only for the raw stream.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(num), kind="stable")


def _quotas(counts: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """The number of images of each class, by the largest remainder method in exact integers."""
    quotas, remainders = np.divmod(counts * wanted, counts.sum())
    quotas[np.argsort(-remainders, kind="stable")[: wanted - quotas.sum()]] += 1
    return quotas


def _ascending(drawn: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def indices_sha256(indices: NDArray[np.int64]) -> str:
    """The SHA-256 of indices as little-endian int64, in hexadecimal."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()
