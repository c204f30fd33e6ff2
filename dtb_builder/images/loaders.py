"""Load an image set by its name."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.images.cifar import load_cifar10, load_cifar100
from dtb_builder.images.digits import load_digits
from dtb_builder.images.fashion_mnist import load_fashion_mnist
from dtb_builder.images.image_set import Images
from dtb_builder.meant import did_you_mean

__all__ = ["IMAGE_SETS", "check_image_set", "load_images"]

_LOADERS: Mapping[str, Callable[[Path | None], Images]] = MappingProxyType(
    {
        "cifar10": load_cifar10,
        "cifar100": load_cifar100,
        "digits": load_digits,
        "fashion_mnist": load_fashion_mnist,
    }
)
_PUBLISHED_SIZES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "cifar10": (50_000, 10_000),
        "cifar100": (50_000, 10_000),
        "digits": (1_438, 359),
        "fashion_mnist": (60_000, 10_000),
    }
)
_logger = logging.getLogger(__name__)

IMAGE_SETS: tuple[str, ...] = tuple(_LOADERS)
"""The names that load_images knows."""


def check_image_set(name: str) -> None:
    """Refuse a name that no image set has.

    Raises:
        ConfigError: there is no such image set.
    """
    if name not in _LOADERS:
        raise ConfigError(
            f"image set must be one of {list(IMAGE_SETS)}, got {name!r}"
            + did_you_mean(name, IMAGE_SETS)
        )


def load_images(name: str, root: Path | None = None) -> Images:
    """Load an image set; one that is not on this machine is downloaded and kept in a cache.

    Args:
        name: one of IMAGE_SETS.
        root: a folder with the publisher's files. For CIFAR also the archive, or a folder with the
            archive or with its unpacked folder. A copy with fewer images than published is
            accepted with a warning in the log.

    Raises:
        ConfigError: there is no such image set.
        ImagesError: files are missing, damaged, or not of the image set.

    >>> digits = load_images("digits")
    >>> digits.train_images.shape, digits.num_classes
    ((1438, 1, 8, 8), 10)
    """
    check_image_set(name)
    if root is not None and not root.exists():
        raise ImagesError(f"{name}: {root} does not exist")
    try:
        images = _LOADERS[name](root)
    except OSError as error:
        raise ImagesError(f"{name} cannot be read: {error}") from error
    sizes = (len(images.train_images), len(images.test_images))
    if sizes != _PUBLISHED_SIZES[name]:
        _logger.warning(
            "%s was published with %s train and test images; this copy has %s",
            name,
            _PUBLISHED_SIZES[name],
            sizes,
        )
    return images
