"""Which images a training uses, as checked settings, and loading them."""

from dataclasses import asdict, dataclass

from dtb_builder.images import Images, Split
from dtb_builder.images.prepared import load_prepared

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
        num_test: test images, of the image set's own; None is all of them.
        pool: side of the squares of pixels of which an image has the means; None leaves it as is.
    """

    name: str
    root: str | None
    num_valid: int
    split_seed: int
    num_train: int | None = None  # files made before it was a setting trained on all
    num_test: int | None = None
    pool: int | None = None


def load_split_images(config: ImagesConfig) -> tuple[Images, Split]:
    """The images of a config and their split; errors as in `load_prepared`."""
    return load_prepared(**asdict(config))
