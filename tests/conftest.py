"""What all tests share: no deadline for a single example, and small images."""

import numpy as np
import pytest
from hypothesis import settings

from dtb_builder.images import Images

settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")


@pytest.fixture
def images() -> Images:
    """Small images of noise, brighter for a higher class."""
    rng = np.random.default_rng(0)

    def part(num_images: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 4, num_images)
        pixels = rng.integers(0, 128, (num_images, 3, 8, 8)) + 40 * labels[:, None, None, None]
        return np.minimum(pixels, 255).astype(np.uint8), labels

    train_images, train_labels = part(60)
    test_images, test_labels = part(20)
    return Images(
        name="noise",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=4,
        mean=np.array([0.4, 0.5, 0.6]),
        std=np.array([0.2, 0.3, 0.25]),
    )
