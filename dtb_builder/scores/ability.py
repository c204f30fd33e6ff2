"""WOT, and the two atoms that it is made of: distinguishing ability D and A = log N_A.

WOT = log det K_H = D + n A holds exactly, for n images and N_A activation units. N_A is known from
the genotype and training does not change it: of the two, D alone depends on the state. Scores of
different n or of different probe images are not comparable.
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

    Source: Mellor et al., ICML 2021; their code sums agreements of all ReLUs, as here.

    Raises:
        SingularKernelError: K_H is singular; its score would be minus infinity.
    """
    _check_regular(kernel)
    return float(np.linalg.slogdet(kernel.counts.astype(np.float64)).logabsdet)


def distinguishing_ability(kernel: Agreement) -> float:
    """D = log det(K_H / N_A): how well a network tells images apart, however many units it has.

    It is at most `max_distinguishing_ability`. Raises as `wot`.
    """
    _check_regular(kernel)
    return float(np.linalg.slogdet(kernel.counts / kernel.activation_units).logabsdet)


def max_distinguishing_ability(num_images: int) -> float:
    """The largest D of so many images: log(n / 2) + (n - 1) log(n / (2 (n - 1))).

    A unit that fires for k of n images agrees for k (k - 1) + (n - k) (n - k - 1) ordered pairs,
    which is least for k = n / 2. So the mean agreement of a pair is at least
    (n / 2 - 1) / (n - 1), and the determinant is largest when all pairs have it.

    >>> max_distinguishing_ability(2)
    0.0
    """
    if num_images < 2:
        raise ValueError(f"num_images must be at least 2, got {num_images}")
    n = num_images
    return math.log(n / 2) + (n - 1) * math.log(n / (2 * (n - 1)))


def mean_hamming_distance(kernel: Agreement) -> float:
    """Share of the units that two images differ in, in [0, 1], as a mean over all pairs."""
    n = kernel.num_images
    differing = n * n * kernel.activation_units - int(kernel.counts.sum())
    return differing / (n * (n - 1) * kernel.activation_units)


def _check_regular(kernel: Agreement) -> None:
    if kernel.singular:
        raise SingularKernelError(
            f"wanted {kernel.num_images} images that {kernel.activation_units} units tell apart, "
            f"got a kernel whose smallest eigenvalue is {kernel.smallest_eigenvalue:.2g} of a "
            "mean of 1"
        )
