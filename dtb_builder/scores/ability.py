"""WOT and its two atoms: distinguishing ability D and A = log N_A.

WOT = log det K_H = D + n A holds exactly, for n images and N_A activation units. N_A follows from
the genotype, so only D depends on the network's state. Scores of different n or of different probe
images are not comparable.
"""

import math

import numpy as np

from dtb_builder.errors import SingularKernelError
from dtb_builder.scores.kernel import Agreement

__all__ = [
    "distinguishing_ability",
    "max_distinguishing_ability",
    "mean_hamming_distance",
    "wot",
]


def wot(kernel: Agreement) -> float:
    """Log det K_H, the score of Neural Architecture Search without Training (NASWOT).

    Source: Mellor et al., ICML 2021, and its code, which also sums the agreements of all ReLUs.

    Raises:
        SingularKernelError: K_H is singular, so that its score would be minus infinity.
    """
    _check_regular(kernel)
    return float(np.linalg.slogdet(kernel.counts.astype(np.float64)).logabsdet)


def distinguishing_ability(kernel: Agreement) -> float:
    """D = log det(K_H / N_A): how well a network tells images apart, whatever its number of units.

    It is at most `max_distinguishing_ability`.

    Raises:
        SingularKernelError: K_H is singular.
    """
    _check_regular(kernel)
    return float(np.linalg.slogdet(kernel.counts / kernel.activation_units).logabsdet)


def max_distinguishing_ability(num_images: int) -> float:
    """The largest possible D for n images: log(n / 2) + (n - 1) log(n / (2 (n - 1))).

    A unit that fires for k of n images agrees for k (k - 1) + (n - k) (n - k - 1) ordered pairs,
    which is smallest for k = n / 2. So the mean agreement of a pair is at least
    (n / 2 - 1) / (n - 1), and the determinant is largest when all pairs have this agreement.

    >>> max_distinguishing_ability(2)
    0.0
    """
    if num_images < 2:
        raise ValueError(f"num_images must be at least 2, got {num_images}")
    n = num_images
    return math.log(n / 2) + (n - 1) * math.log(n / (2 * (n - 1)))


def mean_hamming_distance(kernel: Agreement) -> float:
    """The share of units in which two images differ, in [0, 1]: the mean over all pairs."""
    n = kernel.num_images
    differing = n * n * kernel.activation_units - int(kernel.counts.sum())
    return differing / (n * (n - 1) * kernel.activation_units)


def _check_regular(kernel: Agreement) -> None:
    if kernel.singular:
        raise SingularKernelError(
            f"wanted {kernel.num_images} images that {kernel.activation_units} units tell apart, "
            f"got a singular kernel: smallest eigenvalue {kernel.smallest_eigenvalue:.2g}, mean 1"
        )
