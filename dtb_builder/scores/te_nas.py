"""TE-NAS: the condition of a network's tangent kernel, and its number of linear regions.

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
    """Minus the largest over the smallest eigenvalue of the neural tangent kernel; -1 at best.

    The kernel has the products of the gradients of each image's summed logits by all parameters
    named weight, those of batch norms included.

    Args:
        network: maps images to logits; it is left as it is and runs as `probed_copy` has it.
        images: normalised, shape (images, channels, height, width); each costs a backward pass.

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
            found = torch.autograd.grad(each, weights, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([part.flatten() for part in found if part is not None]))
    gradients = torch.stack(rows).double()
    kernel = (gradients @ gradients.T).cpu().numpy()
    if not np.isfinite(kernel).all():
        raise DivergedError("a gradient is not finite")
    eigenvalues = np.linalg.eigvalsh(kernel)
    # The gradients are float32, and so is their error.
    if eigenvalues[0] <= len(images) * np.finfo(np.float32).eps ** 2 * eigenvalues[-1]:
        raise SingularKernelError(
            f"wanted a tangent kernel that tells {len(images)} images apart, "
            f"got a smallest eigenvalue of {eigenvalues[0]:.2g} beside {eigenvalues[-1]:.2g}"
        )
    return -float(eigenvalues[-1] / eigenvalues[0])


def linear_regions(network: nn.Module, batches: Tensor) -> int:
    """How many different activation codes images have: in how many linear regions they lie.

    Args:
        network: as of `activation_codes`, whose errors it raises.
        batches: commonly `crops`, shape (batches, images, channels, height, width); a batch's
            norms use its statistics.
    """
    codes: set[bytes] = set()
    for images in batches:
        rows = np.packbits(activation_codes(network, images), axis=1)
        codes |= {row.tobytes() for row in rows}
    return len(codes)


def crops(
    images: Tensor, num_batches: int, batch_size: int, generator: torch.Generator, *, size: int = 3
) -> Tensor:
    """Small random crops, which fall into the same region more often than whole images do.

    Args:
        images: normalised, shape (images, channels, height, width).
        num_batches: how many batches.
        batch_size: crops in each.
        generator: draws image and place; on the CPU.
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
    found = torch.stack(
        [
            images[i, :, y : y + size, x : x + size]
            for i, y, x in zip(which.tolist(), top.tolist(), left.tolist(), strict=True)
        ]
    )
    return found.reshape(num_batches, batch_size, channels, size, size)
