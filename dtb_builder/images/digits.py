"""The 1797 small digits that come with scikit-learn."""

import importlib.util
from pathlib import Path

import numpy as np

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.images.image_set import Images, channel_statistics
from dtb_builder.images.splits import stratified_split

__all__ = ["load_digits"]

_FILE = "data/digits.csv.gz"
_NUM_TEST = 359
_TEST_SEED = 1797  # fixed, since it decides the test set


def load_digits(root: Path | None) -> Images:
    """Images of 8 x 8 pixels, a fixed fifth of which is the test set."""
    if root is not None:
        raise ConfigError(f"digits come with scikit-learn and have no root, got {root}")
    package = importlib.util.find_spec("sklearn")  # its import takes two seconds, its file 30 ms
    if package is None or package.origin is None:
        raise ImagesError("digits need scikit-learn: pip install scikit-learn")
    table = np.loadtxt(Path(package.origin).with_name("datasets") / _FILE, delimiter=",")
    # Pixels are 0 to 16.
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    split = stratified_split(labels, _NUM_TEST, _TEST_SEED)
    mean, std = channel_statistics(images[split.train])
    return Images(
        name="digits",
        train_images=images[split.train],
        train_labels=labels[split.train],
        test_images=images[split.valid],
        test_labels=labels[split.valid],
        num_classes=10,
        mean=mean,
        std=std,
    )
