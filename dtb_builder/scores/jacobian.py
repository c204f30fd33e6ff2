"""Scores from the gradients of the summed logits by images: jacob_cov and EPE-NAS."""

import numpy as np
from numpy.typing import NDArray

from dtb_builder.scores.graph import Graph

__all__ = ["epe_nas", "jacob_cov"]

_OFFSET = 1e-5
_MANY_CLASSES = 100


def jacob_cov(graph: Graph) -> float:
    """Minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of a correlation matrix.

    The matrix has the correlations between the gradients of the summed logits by each image; k is
    1e-5. For n images the score is at most -n (log(1 + k) + 1 / (1 + k)), without any correlation.

    Source: Mellor et al., Neural Architecture Search without Training, first version
    (arXiv:2006.04647v1); later versions have `wot` instead.

    Raises:
        DivergedError: a gradient is not finite.
        ValueError: an image's gradient is constant, so that it has no correlation.
    """
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(_rows(graph)))
    eigenvalues = eigenvalues.clip(min=0)  # rounding may give values below 0
    return float(-(np.log(eigenvalues + _OFFSET) + 1 / (eigenvalues + _OFFSET)).sum())


def epe_nas(graph: Graph) -> float:
    """Sum over classes of |sum of log(|r| + k)| over the correlations r of a class's gradients.

    The correlations are between the gradients of the summed logits by the images of one class; k is
    1e-5. For more than 100 classes, each sum is divided by its number of images, and the score is
    the mean over the classes of the summed differences to all others.

    Source: Lopes et al., EPE-NAS: Efficient Performance Estimation Without Training for Neural
    Architecture Search, ICANN 2021, and its code, VascoLopes/EPE-NAS.

    Raises:
        DivergedError: a gradient is not finite.
        ValueError: there are no labels, or an image's gradient is constant.
    """
    if graph.labels is None:
        raise ValueError("EPE-NAS needs labels")
    rows, labels = _rows(graph), graph.labels.cpu().numpy()
    many = graph.logits.shape[1] > _MANY_CLASSES
    sums: list[float] = []
    for label in dict.fromkeys(labels.tolist()):
        correlations = np.atleast_2d(np.corrcoef(rows[labels == label]))
        total = float(np.log(np.abs(correlations) + _OFFSET).sum())
        sums.append(total / len(correlations) if many else total)
    if not many:
        return float(np.abs(sums).sum())
    return float(np.abs(np.subtract.outer(sums, sums)).sum() / len(sums))


def _rows(graph: Graph) -> NDArray[np.float64]:
    """The gradients by the images, shape (images, values); raises as `jacob_cov`."""
    rows = graph.image_gradients.numpy()
    if (rows == rows[:, :1]).all(axis=1).any():
        raise ValueError("the gradient by an image is the same for all its pixels")
    return rows
