"""The agreement kernel: for how many units two images agree on whether a unit fires."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dtb_builder.remembered import remembered

__all__ = ["Agreement", "agreement"]

_CHUNK = 2**20  # units at a time; float32 counts exactly up to 2**24


@dataclass(frozen=True, eq=False)
class Agreement:
    """The kernel K_H[i, j] = N_A - hamming(c_i, c_j) of the activation codes c of n images.

    Source: Mellor et al., Neural Architecture Search without Training, ICML 2021.

    Attributes:
        counts: K_H, int64, shape (images, images).

    Raises:
        ValueError: ``counts`` is not such a kernel.
    """

    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        counts = self.counts
        if counts.dtype != np.int64 or counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(
                f"counts must be int64 of shape (images, images), "
                f"got {counts.dtype} of shape {counts.shape}"
            )
        if len(counts) < 2:
            raise ValueError(f"an agreement needs at least 2 images, got {len(counts)}")
        units = counts[0, 0]
        if units < 1 or (np.diag(counts) != units).any():
            raise ValueError(
                f"an image must agree with itself on all units, at least 1, "
                f"got {np.unique(np.diag(counts))} on the diagonal"
            )
        if (counts != counts.T).any() or counts.min() < 0 or counts.max() > units:
            raise ValueError(f"counts must be symmetric and in 0..{units}")

    @property
    def num_images(self) -> int:
        """The number n of images."""
        return len(self.counts)

    @property
    def activation_units(self) -> int:
        """The number N_A of units."""
        return int(self.counts[0, 0])

    @property
    def smallest_eigenvalue(self) -> float:
        """The smallest eigenvalue of K_H / N_A, whose mean is 1; about 0 if K_H is singular."""
        return float(self._eigenvalues[0])

    @property
    def singular(self) -> bool:
        """Whether K_H is singular, as with two images that have the same code.

        The smallest eigenvalue is compared with its rounding error, as in numpy's matrix_rank. The
        sign of the determinant or a Cholesky factorisation would not do: with rounding, both may
        miss a singular kernel.
        """
        noise = self.num_images * np.finfo(np.float64).eps * self._eigenvalues[-1]
        return bool(self._eigenvalues[0] <= noise)

    @remembered
    def _eigenvalues(self) -> NDArray[np.floating]:
        """The eigenvalues of K_H / N_A, float64, ascending, shape (images,)."""
        return np.linalg.eigvalsh(self.counts / self.activation_units)


def agreement(codes: NDArray[np.bool_]) -> Agreement:
    """The kernel of activation codes, in exact integers.

    Args:
        codes: which units fire for which image, bool, shape (images, units).

    Raises:
        ValueError: the codes are not bool or not a matrix, or there are fewer than 2 images.

    >>> agreement(np.array([[True, False, True], [True, True, True]])).counts
    array([[3, 2],
           [2, 3]])
    """
    if codes.dtype != np.bool_ or codes.ndim != 2:
        raise ValueError(
            f"codes must be bool of shape (images, units), got {codes.dtype} of shape {codes.shape}"
        )
    num_images, num_units = codes.shape
    products = np.zeros((num_images, num_images), np.int64)
    for start in range(0, num_units, _CHUNK):
        signs = np.where(codes[:, start : start + _CHUNK], np.float32(1), np.float32(-1))
        products += (signs @ signs.T).astype(np.int64)
    # A product of signs sums 1 for each agreement and -1 for each other unit.
    return Agreement((products + num_units) // 2)
