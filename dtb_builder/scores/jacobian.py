"""jacob_cov: how different the network's answers to small changes of different images are."""

import numpy as np
import torch
from torch import Tensor, nn

from dtb_builder.errors import DivergedError
from dtb_builder.scores.probed import full_precision, probed_copy

__all__ = ["jacob_cov"]

_OFFSET = 1e-5


def jacob_cov(network: nn.Module, images: Tensor) -> float:
    """Minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of a correlation matrix.

    Correlated are the gradients of the summed logits by each image; k is 1e-5. For n images it is
    at most -n (log(1 + k) + 1 / (1 + k)), when no two gradients are correlated.

    Source: Mellor et al., Neural Architecture Search without Training, first version
    (arXiv:2006.04647v1); the later ones have `wot` instead.

    Args:
        network: maps images to logits; it is left as it is and runs as `probed_copy` has it.
        images: normalised, shape (images, channels, height, width).

    Raises:
        DivergedError: a gradient is not finite.
        ValueError: an image's gradient is constant, so that it has no correlation.
    """
    inputs = images.detach().clone().requires_grad_()
    with torch.enable_grad(), full_precision(images.device):
        (gradients,) = torch.autograd.grad(probed_copy(network)(inputs).sum(), inputs)
    rows = gradients.flatten(1).double().cpu().numpy()
    if not np.isfinite(rows).all():
        raise DivergedError("a gradient by an image is not finite")
    if (rows == rows[:, :1]).all(axis=1).any():
        raise ValueError("the gradient by an image is the same for all its pixels")
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(rows)).clip(min=0)  # no rounding below 0
    return float(-(np.log(eigenvalues + _OFFSET) + 1 / (eigenvalues + _OFFSET)).sum())
