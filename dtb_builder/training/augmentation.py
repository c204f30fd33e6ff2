"""Augment and normalise a batch of images, with random numbers that were drawn before."""

import torch
from torch import Tensor
from torch.nn import functional

from dtb_builder.network.kernels import Library
from dtb_builder.training.draws import BatchDraws, Mixup
from dtb_builder.training.recipe import Recipe

__all__ = ["augment", "augment_compiled", "crop_and_flip", "cut_out", "mix", "normalise"]


def augment(
    images: Tensor, draws: BatchDraws, recipe: Recipe, *, mean: Tensor, std: Tensor
) -> Tensor:
    """Crop, flip, normalise, cut out and mix, in this order, as far as the recipe asks for it.

    Args:
        images: the images of draws.indices, uint8, shape (images, channels, height, width).
        draws: one row per image.
        recipe: which steps are done, and how strongly.
        mean: see ResidentImages.
        std: see ResidentImages.

    Returns:
        float32 of the same shape.
    """
    if recipe.crop_padding > 0 or recipe.horizontal_flip:
        images = crop_and_flip(images, draws.corners, draws.flips, padding=recipe.crop_padding)
    batch = normalise(images, mean=mean, std=std)
    if recipe.cutout_length > 0:
        batch = cut_out(batch, draws.centres, length=recipe.cutout_length)
    if draws.mixup is not None:
        batch = mix(batch, draws.mixup)
    return batch


def augment_compiled(
    kernels: Library, pool: Tensor, draws: BatchDraws, recipe: Recipe, *, levels: Tensor
) -> Tensor:
    """What `augment` returns for pool[draws.indices], bit by bit, in one pass over memory on a CPU.

    Args:
        kernels: the compiled passes.
        pool: all training images, uint8, shape (images, channels, height, width), contiguous.
        draws: one row per image of the batch.
        recipe: which steps are done, and how strongly.
        levels: see ResidentImages.

    Returns:
        float32, shape (batch, channels, height, width), channels last in memory.
    """
    num_images, (channels, height, width) = len(draws.indices), pool.shape[1:]
    pixels = levels.new_empty((num_images, height, width, channels))
    drawn = {name: getattr(draws, name) for name in ("indices", "corners", "flips", "centres")}
    shape = {"N": num_images, "C": channels, "H": height, "W": width}
    sizes = {"padding": recipe.crop_padding, "length": recipe.cutout_length}
    images = {"pool": pool, "levels": levels, "out": pixels}
    kernels.run("augment", levels.dtype, **drawn, **shape, **sizes, **images)
    batch = pixels.permute(0, 3, 1, 2)
    return batch if draws.mixup is None else mix(batch, draws.mixup)


def crop_and_flip(images: Tensor, corners: Tensor, flips: Tensor, *, padding: int) -> Tensor:
    """Pad images with black, take a crop of the original size, and mirror some of the crops.

    Args:
        images: uint8, shape (images, channels, height, width).
        corners: row and column of each crop's corner in its padded image, shape (images, 2).
        flips: which crops are mirrored left to right, shape (images,).
        padding: pixels on each side.
    """
    height, width = images.shape[2:]
    padded = functional.pad(images, (padding,) * 4)
    down = torch.arange(height, device=images.device)
    right = torch.arange(width, device=images.device)
    rows = corners[:, :1] + down
    columns = corners[:, 1:] + torch.where(flips[:, None], right.flip(0), right)
    # One gather over the pixels of each channel; indexing by rows and columns takes four times
    # as long.
    pixels = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    pixels = pixels.flatten(1)[:, None].expand(-1, images.shape[1], -1)
    return padded.flatten(2).gather(2, pixels).view_as(images)


def normalise(images: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels as floats of mean 0 and standard deviation 1.

    Args:
        images: uint8, shape (images, channels, height, width).
        mean: the mean of pixels scaled to [0, 1], shape (channels,).
        std: their standard deviation, shape (channels,).
    """
    return images.float().div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])


def cut_out(images: Tensor, centres: Tensor, *, length: int) -> Tensor:
    """Set a square of each image to 0, the mean of normalised pixels.

    Args:
        images: floats, shape (images, channels, height, width).
        centres: row and column of each square's centre, shape (images, 2); a square is clipped at
            the image's border.
        length: side of the square; an even one begins length / 2 before its centre.
    """
    first = centres - length // 2
    spans = []
    for axis, num_pixels in enumerate(images.shape[2:]):
        offset = torch.arange(num_pixels, device=images.device) - first[:, axis, None]
        spans.append((offset >= 0) & (offset < length))
    rows, columns = spans
    square = rows[:, :, None] & columns[:, None, :]
    return torch.where(square[:, None], 0.0, images)


def mix(images: Tensor, mixup: Mixup) -> Tensor:
    """Blend each image of a batch with its partner."""
    return images[mixup.partners].lerp(images, mixup.share)
