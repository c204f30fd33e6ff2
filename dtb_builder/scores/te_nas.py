"""TE-NAS: the condition number of the neural tangent kernel, and the number of linear regions.

Source: Chen et al., Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically
Inspired Perspective, ICLR 2021, and its code, VITA-Group/TENAS.
"""

import numpy as np
import torch
from torch import Tensor, nn

from dtb_builder.errors import DivergedError, SingularKernelError
from dtb_builder.scores.activations import activation_codes
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["crops", "linear_regions", "ntk_condition"]


def ntk_condition(network: nn.Module, images: Tensor) -> float:
    """Minus the largest over the smallest eigenvalue of the neural tangent kernel; at most -1.

    The kernel has the inner products of the images' gradients: an image's gradient is that of its
    summed logits by all parameters named weight, including those of batch norms.

    Args:
        network: maps images to logits; a `probed_copy` of it runs.
        images: normalised, shape (images, channels, height, width); each needs a backward pass.

    Raises:
        SingularKernelError: the kernel is singular.
        DivergedError: a gradient is not finite.
    """
    probed = probed_copy(network)
    weights = [
        parameter.requires_grad_()
        for name, parameter in probed.named_parameters()
        if "weight" in name
    ]
    rows: list[Tensor] = []
    with torch.enable_grad(), full_precision(images.device):
        of_images = probed(images).sum(dim=1)
        for each in of_images:
            parts = torch.autograd.grad(each, weights, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([part.flatten() for part in parts if part is not None]))
    gradients = torch.stack(rows).double()
    kernel = (gradients @ gradients.T).cpu().numpy()
    if not np.isfinite(kernel).all():
        raise DivergedError("a gradient is not finite")
    eigenvalues = np.linalg.eigvalsh(kernel)
    # The rounding error of gradients in float32.
    if eigenvalues[0] <= len(images) * np.finfo(np.float32).eps ** 2 * eigenvalues[-1]:
        raise SingularKernelError(
            f"wanted a tangent kernel that tells {len(images)} images apart, "
            f"got eigenvalues from {eigenvalues[0]:.2g} to {eigenvalues[-1]:.2g}"
        )
    return -float(eigenvalues[-1] / eigenvalues[0])


def linear_regions(network: nn.Module, batches: Tensor) -> int:
    """The number of linear regions of images: the number of their different activation codes.

    Args:
        network: see `activation_codes`, also for the errors.
        batches: usually `crops`, shape (batches, images, channels, height, width); batch norms use
            the statistics of each batch.
    """
    codes: set[bytes] = set()
    for images in batches:
        rows = np.packbits(activation_codes(network, images), axis=1)
        codes |= {row.tobytes() for row in rows}
    return len(codes)


def crops(
    images: Tensor, num_batches: int, batch_size: int, generator: torch.Generator, *, size: int = 3
) -> Tensor:
    """Small random crops, which are in the same linear region more often than whole images.

    Args:
        images: normalised, shape (images, channels, height, width).
        num_batches: the number of batches.
        batch_size: the number of crops in each batch.
        generator: draws each crop's image and corner; on the CPU.
        size: height and width of a crop.

    Returns:
        Shape (num_batches, batch_size, channels, size, size).
    """
    number = num_batches * batch_size
    _, channels, height, width = images.shape
    which = torch.randint(len(images), (number,), generator=generator)
    top, left = (
        torch.randint(side - size + 1, (number,), generator=generator) for side in (height, width)
    )
    places = zip(which.tolist(), top.tolist(), left.tolist(), strict=True)
    cut = torch.stack([images[i, :, y : y + size, x : x + size] for i, y, x in places])
    return cut.reshape(num_batches, batch_size, channels, size, size)
