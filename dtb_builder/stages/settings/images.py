"""The images of a training, as settings, and how to load them."""

from dataclasses import dataclass
from pathlib import Path

from dtb_builder.errors import ConfigError
from dtb_builder.images import Images, Split, load_images, stratified_split

__all__ = ["ImagesConfig", "load_split_images"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which image set is used, and how its training images are split.

    Attributes:
        name: one of `dtb_builder.images.loaders.IMAGE_SETS`.
        root: the path of a local copy, or None.
        num_valid: the number of training images that are used for validation.
        split_seed: the seed of the split.
        num_train: the number of images to train on, out of the others; None is all of them.
    """

    name: str
    root: str | None
    num_valid: int
    split_seed: int
    num_train: int | None = None  # older files have no such setting


def load_split_images(config: ImagesConfig) -> tuple[Images, Split]:
    """The images of a config, and their split into training and validation.

    Raises:
        ImagesError: the images cannot be read.
        ConfigError: there are too few images for the split.
    """
    images = load_images(config.name, None if config.root is None else Path(config.root))
    try:
        split = stratified_split(
            images.train_labels, config.num_valid, config.split_seed, num_train=config.num_train
        )
    except ValueError as error:
        raise ConfigError(f"images.{error}") from error
    return images, split
