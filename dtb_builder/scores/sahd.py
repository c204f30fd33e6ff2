"""SAHD: a kernel of Hamming distances, each as a multiple of what independent codes would have."""

import numpy as np
from torch import Tensor, nn

from dtb_builder.errors import SingularKernelError
from dtb_builder.scores.activations import AgreementCounter, visit_activations

__all__ = ["SparsityAwareCounter", "sahd"]


def sahd(network: nn.Module, images: Tensor) -> float:
    """The log determinant of the mean over ReLUs of N - H / (2 E), shape (images, images).

    N is the number of a ReLU's units, H the Hamming distance of two images' codes, and E the
    distance expected of independent codes in which as many units fire. Made for spiking neurons at
    each time step; here with ReLUs, for one batch.

    Source: Kim et al., Neural Architecture Search for Spiking Neural Networks, ECCV 2022, and its
    code. Arguments and errors are those of `activation_codes`.

    Raises:
        SingularKernelError: the kernel is singular.
    """
    counter = SparsityAwareCounter(len(images))
    visit_activations(network, images, counter)
    return counter.log_determinant()


class SparsityAwareCounter:
    """Sums the kernel over the codes of one ReLU after the other."""

    def __init__(self, num_images: int) -> None:
        self._kernel = np.zeros((num_images, num_images))
        self._num_relus = 0

    def __call__(self, fires: Tensor) -> None:
        """Add the kernel of a ReLU's codes, bool, shape (images, ...)."""
        counter = AgreementCounter(len(fires), fires.device)
        counter(fires)
        agreeing = counter.agreement().counts
        units = agreeing[0, 0]
        share = fires.flatten(1).sum(dim=1).cpu().numpy() / units
        expected = units * (np.outer(share, 1 - share) + np.outer(1 - share, share))
        self._kernel += units - 0.5 / (expected + 1e-3) * (units - agreeing)
        self._num_relus += 1

    def log_determinant(self) -> float:
        """Of the mean kernel so far.

        Raises:
            SingularKernelError: it is singular.
        """
        eigenvalues = np.linalg.eigvalsh(self._kernel / self._num_relus)
        if eigenvalues[0] <= len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues[-1]:
            raise SingularKernelError("the kernel of rescaled distances is singular")
        return float(np.log(eigenvalues).sum())
