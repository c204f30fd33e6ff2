"""Which images a training uses, as checked settings, and loading them."""

from dataclasses import dataclass
from pathlib import Path

from dtb_builder.errors import ConfigError
from dtb_builder.images import Images, Split, load_images, stratified_split

__all__ = ["ImagesConfig", "load_split_images"]


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which images, and how their training part is divided.

    Attributes:
        name: one of `dtb_builder.images.loaders.IMAGE_SETS`.
        root: a local copy, or None.
        num_valid: images taken from the training part for validation.
        split_seed: of that division.
        num_train: images trained on, of those that are left; None is all of them.
    """

    name: str
    root: str | None
    num_valid: int
    split_seed: int
    num_train: int | None = None  # files made before it was a setting trained on all


def load_split_images(config: ImagesConfig) -> tuple[Images, Split]:
    """The images of a config, and their split into training and validation.

    Raises:
        ImagesError: they cannot be read.
        ConfigError: there are too few for the split.
    """
    images = load_images(config.name, None if config.root is None else Path(config.root))
    try:
        split = stratified_split(
            images.train_labels, config.num_valid, config.split_seed, num_train=config.num_train
        )
    except ValueError as error:
        raise ConfigError(f"images.{error}") from error
    return images, split
