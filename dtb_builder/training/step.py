"""One training step on a batch: augmentation, forward pass, backward pass, optimiser step."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from dtb_builder.network.kernels import Library
from dtb_builder.training.augmentation import augment, augment_compiled
from dtb_builder.training.draws import BatchDraws
from dtb_builder.training.forward import forward
from dtb_builder.training.recipe import Recipe
from dtb_builder.training.resident import ResidentImages

__all__ = ["train_on_batch"]


def train_on_batch(
    network: nn.Module,
    data: ResidentImages,
    recipe: Recipe,
    optimizer: Optimizer,
    draws: BatchDraws,
    *,
    kernels: Library | None = None,
) -> Tensor:
    """Train on one batch.

    Args:
        network: in training mode, on the device of the images.
        data: the training images are data.train.
        recipe: how to augment, and how the loss and its gradient are computed.
        optimizer: has the network's parameters.
        draws: the batch.
        kernels: compiled passes that augment the batch, to the same bits; None uses torch.

    Returns:
        The sum of the batch's losses and the number of correct predictions, float64, shape (2,).
    """
    labels = data.train.labels[draws.indices]
    if kernels is None:
        pixels = data.train.images[draws.indices]
        batch = augment(pixels, draws, recipe, mean=data.mean, std=data.std)
    else:
        batch = augment_compiled(kernels, data.train.images, draws, recipe, levels=data.levels)
    logits, auxiliary_logits = forward(network, batch, recipe.precision)
    main_loss = loss = _loss(logits, labels, draws)
    if recipe.auxiliary_weight > 0:
        if auxiliary_logits is None:
            raise ValueError(
                f"auxiliary_weight is {recipe.auxiliary_weight}, so the network must return "
                "a pair (logits, auxiliary_logits) in training mode, got logits only"
            )
        loss = main_loss + recipe.auxiliary_weight * _loss(auxiliary_logits, labels, draws)
    optimizer.zero_grad()
    loss.backward()
    if recipe.gradient_clip is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
    optimizer.step()
    with torch.no_grad():
        return torch.stack([main_loss.double() * len(labels), _num_correct(logits, labels, draws)])


def _loss(logits: Tensor, labels: Tensor, draws: BatchDraws) -> Tensor:
    """The mean cross entropy; with mixup, the weighted mean for both classes of an image."""
    loss = functional.cross_entropy(logits, labels)
    if draws.mixup is None:
        return loss
    partners_loss = functional.cross_entropy(logits, labels[draws.mixup.partners])
    return draws.mixup.share * loss + (1 - draws.mixup.share) * partners_loss


def _num_correct(logits: Tensor, labels: Tensor, draws: BatchDraws) -> Tensor:
    """The number of correct predictions, weighted with mixup's shares; float64, shape ()."""
    predicted = logits.argmax(1)
    num_correct = (predicted == labels).sum().double()
    if draws.mixup is None:
        return num_correct
    num_partners = (predicted == labels[draws.mixup.partners]).sum().double()
    # Not 1 - share: float32 rounds it on the device, but Python does not.
    return num_partners + draws.mixup.share * (num_correct - num_partners)
