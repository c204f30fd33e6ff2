"""The random numbers of an epoch, drawn on the CPU so that they are the same on every device."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dtb_builder.training.recipe import Recipe

__all__ = ["BatchDraws", "Mixup", "draw_epoch"]


@dataclass(frozen=True, eq=False)
class Mixup:
    """How mixup blends the images of a batch.

    Attributes:
        partners: which image of the batch is mixed into each, int64, shape (images,).
        share: the image's own weight, in [0, 1]; its partner has 1 - share. A tensor of shape ()
            in a recorded step, which reads it on the device.
    """

    partners: Tensor
    share: float | Tensor


@dataclass(frozen=True, eq=False)
class BatchDraws:
    """The random choices for the images of one batch.

    Attributes:
        indices: the indices of the training images, int64, shape (images,).
        corners: row and column of the crop's corner in the padded image, int64, (images, 2).
        flips: which images are mirrored, bool, (images,).
        centres: row and column of the cutout's centre, int64, (images, 2).
        mixup: how the images are mixed, or None if the recipe has no mixup.
    """

    indices: Tensor
    corners: Tensor
    flips: Tensor
    centres: Tensor
    mixup: Mixup | None

    def __len__(self) -> int:
        return len(self.indices)


def draw_epoch(
    num_images: int,
    recipe: Recipe,
    *,
    size: tuple[int, int],
    rng: np.random.Generator,
    device: torch.device | str = "cpu",
) -> Iterator[BatchDraws]:
    """Draw all batches of an epoch; together they have every training image once.

    A last batch of a single image is left out, because batch norm cannot train on one.

    Args:
        num_images: the number of training images.
        recipe: the batch size, and which random choices are made.
        size: height and width of an image.
        rng: the source of all random numbers.
        device: where the tensors are put.
    """
    whole_epoch = (
        rng.permutation(num_images),
        rng.integers(0, 2 * recipe.crop_padding, (num_images, 2), endpoint=True),
        rng.random(num_images) < (0.5 if recipe.horizontal_flip else 0.0),
        rng.integers(0, size, (num_images, 2)),
    )
    bounds = [*range(0, num_images, recipe.batch_size), num_images]
    sizes = np.diff(bounds)
    if recipe.mixup_alpha > 0:
        shares = rng.beta(recipe.mixup_alpha, recipe.mixup_alpha, len(sizes))
        # Rounded to float32, as in the tensor of a recorded step, so that both have the same bits.
        shares = shares.astype(np.float32).tolist()
        partners = _to(np.concatenate([rng.permutation(size) for size in sizes]), device)
    else:
        shares, partners = [], None

    on_device = [_to(values, device) for values in whole_epoch]
    for i, start in enumerate(bounds[:-1]):
        batch = slice(start, bounds[i + 1])
        if sizes[i] > 1:
            mixup = None if partners is None else Mixup(partners[batch], shares[i])
            yield BatchDraws(*(values[batch] for values in on_device), mixup=mixup)


def _to(values: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(values).to(device)
