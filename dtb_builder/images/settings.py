"""The images of a training, as settings, and how to load them."""

from dataclasses import dataclass
from pathlib import Path

from dtb_builder.errors import ConfigError
from dtb_builder.images.image_set import Images
from dtb_builder.images.loaders import load_images
from dtb_builder.images.splits import Split, stratified_sample, stratified_split

__all__ = ["ImagesConfig", "load_split_images"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which image set is used, and how its training images are split.

    Attributes:
        name: one of `dtb_builder.images.loaders.IMAGE_SETS`.
        root: the path of a local copy, or None.
        num_valid: the number of training images that are used for validation.
        split_seed: the seed of the split, and of the choice of test images.
        num_train: the number of images to train on, out of the others; None is all of them.
        num_test: the number of test images, out of the image set's own; None is all of them.
        pool: the side, in pixels, of the squares that are averaged into one pixel; None for none.
    """

    name: str
    root: str | None
    num_valid: int
    split_seed: int
    num_train: int | None = None  # older files have no such setting
    num_test: int | None = None
    pool: int | None = None


def load_split_images(config: ImagesConfig) -> tuple[Images, Split]:
    """The images of a config, pooled if it says so, and their split.

    Raises:
        ImagesError: the images cannot be read.
        ConfigError: there are too few images for the split, or they cannot be pooled so.
    """
    images = load_images(config.name, None if config.root is None else Path(config.root))
    try:
        if config.pool is not None:
            images = images.pooled(config.pool)
        split = stratified_split(
            images.train_labels, config.num_valid, config.split_seed, num_train=config.num_train
        )
        if config.num_test is None:
            return images, split
        test = stratified_sample(images.test_labels, config.num_test, config.split_seed)
        return images, Split(split.train, split.valid, test)
    except ValueError as error:
        raise ConfigError(f"images.{error}") from error
