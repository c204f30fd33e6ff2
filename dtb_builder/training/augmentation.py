"""What is done to a batch of images before a network sees it; chance has been drawn before."""

import torch
from torch import Tensor
from torch.nn import functional

from dtb_builder.training.draws import BatchDraws, Mixup
from dtb_builder.training.recipe import Recipe

__all__ = ["augment", "crop_and_flip", "cut_out", "mix", "normalise"]


def augment(
    images: Tensor, draws: BatchDraws, recipe: Recipe, *, mean: Tensor, std: Tensor
) -> Tensor:
    """Crop, flip, normalise, cut out and mix, in this order, as the recipe says.

    Args:
        images: uint8, shape (images, channels, height, width), those of draws.indices.
        draws: one row per image.
        recipe: which of the steps are done, and how strongly.
        mean: see ResidentImages.
        std: see ResidentImages.

    Returns:
        float32 of the same shape, channels last in memory.
    """
    if recipe.crop_padding > 0 or recipe.horizontal_flip:
        images = crop_and_flip(images, draws.corners, draws.flips, padding=recipe.crop_padding)
    batch = normalise(images, mean=mean, std=std)
    if recipe.cutout_length > 0:
        batch = cut_out(batch, draws.centres, length=recipe.cutout_length)
    if draws.mixup is not None:
        batch = mix(batch, draws.mixup)
    return batch


def crop_and_flip(images: Tensor, corners: Tensor, flips: Tensor, *, padding: int) -> Tensor:
    """Surround images with black, cut their size out again elsewhere, mirror some of the cuts.

    Args:
        images: uint8, shape (images, channels, height, width).
        corners: where each crop begins in its padded image, shape (images, 2).
        flips: which crops are mirrored left to right, shape (images,).
        padding: black pixels on each side.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (padding,) * 4)
    down = torch.arange(height, device=images.device)
    right = torch.arange(width, device=images.device)
    rows = corners[:, :1] + down
    columns = corners[:, 1:] + torch.where(flips[:, None], right.flip(0), right)
    image = torch.arange(len(images), device=images.device)
    # Pixels are gathered with their channels, so the channels come last.
    crops = padded.permute(0, 2, 3, 1)[image[:, None, None], rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2)


def normalise(images: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels as floats of mean 0 and deviation 1, channels last in memory.

    Args:
        images: uint8, shape (images, channels, height, width).
        mean: of pixels scaled to [0, 1], shape (channels,).
        std: likewise.
    """
    floats = images.to(torch.float32, memory_format=torch.channels_last)
    return floats.div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])


def cut_out(images: Tensor, centres: Tensor, *, length: int) -> Tensor:
    """Set a square of each image to 0, which after normalising is the mean.

    Args:
        images: floats, shape (images, channels, height, width).
        centres: row and column of each square's centre, shape (images, 2); a square that
            reaches over the border is clipped there.
        length: side of the square; an even one begins length / 2 before its centre.
    """
    first = centres - length // 2
    spans = []
    for axis, num_pixels in enumerate(images.shape[2:]):
        offset = torch.arange(num_pixels, device=images.device) - first[:, axis, None]
        spans.append((offset >= 0) & (offset < length))
    rows, columns = spans
    square = rows[:, :, None] & columns[:, None, :]
    # A clone keeps the channels last; masked_fill of its own does not.
    return images.clone().masked_fill_(square[:, None], 0.0)


def mix(images: Tensor, mixup: Mixup) -> Tensor:
    """Blend each image of a batch with its partner."""
    return mixup.share * images + (1 - mixup.share) * images[mixup.partners]
