"""Evaluate a network on validation or test images."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dtb_builder.training.augmentation import normalise
from dtb_builder.training.forward import forward
from dtb_builder.training.recipe import Precision
from dtb_builder.training.recorded import Recorded, record_cuda_graph
from dtb_builder.training.resident import LabelledImages, ResidentImages

__all__ = ["EVALUATION_BATCH", "LossAndAccuracy", "evaluate"]

EVALUATION_BATCH = 256
"""Images per forward pass. Not a setting, because the batch size decides the last bits."""


@dataclass(frozen=True)
class LossAndAccuracy:
    """A network's loss and accuracy on some images.

    Attributes:
        loss: the mean cross entropy.
        accuracy: the share of correctly classified images, in [0, 1].
    """

    loss: float
    accuracy: float


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    images: LabelledImages,
    data: ResidentImages,
    *,
    precision: Precision = "float32",
) -> LossAndAccuracy:
    """Classify images without augmentation, in evaluation mode; the modules' modes are restored.

    Args:
        network: on the images' device.
        images: usually data.valid or data.test.
        data: its mean and standard deviation normalise the images.
        precision: the precision of the forward pass.
    """
    classify = partial(_classified, network, data, precision)
    if data.device.type == "cuda":
        classify = Recorded(classify, record_cuda_graph)
    totals = torch.zeros(2, dtype=torch.float64, device=data.device)
    with _evaluating(network):
        for pixels, labels in zip(
            images.images.split(EVALUATION_BATCH),
            images.labels.split(EVALUATION_BATCH),
            strict=True,
        ):
            totals += classify(LabelledImages(pixels, labels))
    loss, num_correct = totals.tolist()
    return LossAndAccuracy(loss / len(images), num_correct / len(images))


def _classified(
    network: nn.Module, data: ResidentImages, precision: Precision, batch: LabelledImages
) -> Tensor:
    """The sum of a batch's losses and the number of correct predictions, float64, shape (2,)."""
    pixels = normalise(batch.images, mean=data.mean, std=data.std)
    logits, _ = forward(network, pixels, precision)
    loss = functional.cross_entropy(logits.double(), batch.labels, reduction="sum")
    num_correct = (logits.argmax(1) == batch.labels).sum()
    return torch.stack([loss, num_correct.double()])


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
