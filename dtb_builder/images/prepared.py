"""An image set as a config asks for it: loaded, pooled and divided."""

from pathlib import Path

from dtb_builder.errors import ConfigError
from dtb_builder.images.image_set import Images
from dtb_builder.images.loaders import load_images
from dtb_builder.images.splits import Split, stratified_sample, stratified_split

__all__ = ["load_prepared"]


def load_prepared(
    name: str,
    root: Path | str | None,
    *,
    num_valid: int,
    split_seed: int,
    num_train: int | None = None,
    num_test: int | None = None,
    pool: int | None = None,
) -> tuple[Images, Split]:
    """The images, pooled, and which of them train, validate and test.

    The arguments are the settings of ``conf/images/``.

    Raises:
        ImagesError: they cannot be read.
        ConfigError: there are too few for the split, or they cannot be pooled so.
    """
    images = load_images(name, None if root is None else Path(root))
    try:
        if pool is not None:
            images = images.pooled(pool)
        split = stratified_split(images.train_labels, num_valid, split_seed, num_train=num_train)
        if num_test is None:
            return images, split
        test = stratified_sample(images.test_labels, num_test, split_seed)
        return images, Split(split.train, split.valid, test)
    except ValueError as error:
        raise ConfigError(f"images.{error}") from error
