"""RBFleX-NAS: how well RBF kernels of activations and of the last maps tell images apart."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dtb_builder.errors import DivergedError, SingularKernelError, UnseenReLUError
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["GAMMA_ACTIVATIONS", "GAMMA_FEATURES", "log_det_kernel", "rbflex"]

GAMMA_ACTIVATIONS = 2.68690173088039e-12
GAMMA_FEATURES = 1.02460061284506e-11
"""The gammas of the released code; its search for gammas does not reproduce them."""


def rbflex(network: nn.Module, images: Tensor) -> float:
    """The sum n (log det K + log det Q) for the kernels exp(-gamma |a - b|^2) of n images.

    K has the outputs a, b of all ReLUs, Q the inputs of the last module; each value is scaled to
    [0, 1] over the images. The released gammas are so small that the determinants equal those of
    the centred Gram matrices up to a constant factor. They are computed so, since the kernels
    themselves are nearly singular.

    Source: Yamasaki et al., RBFleX-NAS: Training-Free Neural Architecture Search Using Radial Basis
    Function Kernel and Hyperparameter Detection, 2025, and its code, tomomasayamasaki/RBFleX-NAS.
    In that code, each image is a batch of its own, so its batch norms use that image's statistics.

    Args:
        network: maps images to logits; a `probed_copy` of it runs.
        images: normalised, shape (images, channels, height, width); more than 16 images may give a
            singular kernel.

    Raises:
        SingularKernelError: a kernel is singular.
        DivergedError: an activation is not finite.
        UnseenReLUError: the network has no ReLU modules.
    """
    probed = probed_copy(network)
    grams = [np.zeros((len(images), len(images))) for _ in range(2)]
    num_relus = 0

    def add_output(_: nn.Module, __: Any, output: Tensor) -> None:
        nonlocal num_relus
        num_relus += 1
        grams[0] += _gram(output.detach())

    def add_input(_: nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        grams[1] += _gram(inputs[0].detach())

    *_, last = probed.modules()
    for module in probed.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(add_output)
    last.register_forward_hook(add_input)
    with torch.no_grad(), full_precision(images.device):
        probed(images)
    if not num_relus:
        raise UnseenReLUError("wanted a network with nn.ReLU modules, got none")
    return len(images) * (
        log_det_kernel(grams[0], GAMMA_ACTIVATIONS) + log_det_kernel(grams[1], GAMMA_FEATURES)
    )


def log_det_kernel(gram: NDArray[np.float64], gamma: float) -> float:
    """Log det of exp(-gamma d), to first order, for the squared distances d of a Gram matrix.

    It is log n + (n - 1) log(2 gamma) + the sum of the logarithms of the Gram matrix's eigenvalues,
    without the eigenvalue 0 that belongs to the centre.

    Args:
        gram: centred, so each row has the sum 0; shape (images, images).
        gamma: above 0, and much smaller than 1 / d.

    Raises:
        DivergedError: a value is not finite.
        SingularKernelError: two images are the same.
    """
    if not np.isfinite(gram).all():
        raise DivergedError("an activation is not finite")
    number = len(gram)
    eigenvalues = np.linalg.eigvalsh(gram)
    noise = number * np.finfo(np.float64).eps * eigenvalues[-1]
    if not eigenvalues[1] > noise:
        raise SingularKernelError(
            f"wanted {number} images that differ, got a singular Gram matrix: second smallest "
            f"eigenvalue {eigenvalues[1]:.2g}, largest {eigenvalues[-1]:.2g}"
        )
    logs = float(np.log(eigenvalues[1:]).sum())
    return math.log(number) + (number - 1) * math.log(2 * gamma) + logs


def _gram(values: Tensor) -> NDArray[np.float64]:
    """The centred Gram matrix, (images, images), of values scaled to [0, 1] over the images."""
    rows = values.flatten(1).double()
    low, high = rows.amin(dim=0), rows.amax(dim=0)
    scaled = (rows - low) / torch.where(high > low, high - low, 1)
    scaled -= scaled.mean(dim=0)
    return (scaled @ scaled.T).cpu().numpy()
