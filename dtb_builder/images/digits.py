"""The 1797 small digits beside this file, which are scikit-learn's.

They are the test set of UCI's "Optical Recognition of Handwritten Digits" by E. Alpaydin and
C. Kaynak (1998), doi.org/10.24432/C50P49, under CC BY 4.0; the file is scikit-learn's, unchanged.
"""

from pathlib import Path

import numpy as np

from dtb_builder.errors import ConfigError
from dtb_builder.images.image_set import Images, channel_statistics
from dtb_builder.images.splits import stratified_split

__all__ = ["load_digits"]

_NUM_TEST = 359
_TEST_SEED = 1797  # fixed, since it decides the test set


def load_digits(root: Path | None) -> Images:
    """Images of 8 x 8 pixels, a fixed fifth of which is the test set."""
    if root is not None:
        raise ConfigError(f"digits come with this package and have no root, got {root}")
    table = np.loadtxt(Path(__file__).with_name("digits.csv.gz"), delimiter=",")
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
