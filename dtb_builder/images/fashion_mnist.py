"""Fashion-MNIST from its IDX files."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import ImagesError
from dtb_builder.images.download import download
from dtb_builder.images.gzipped import read_gzipped
from dtb_builder.images.image_set import Images, channel_statistics

__all__ = ["load_fashion_mnist", "read_idx"]

_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_MD5 = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
_NUM_CLASSES = 10


def load_fashion_mnist(root: Path | None) -> Images:
    """Fashion-MNIST from a folder's four files; by default those of Debian, else downloaded."""
    if root is None and _DEBIAN_FOLDER.is_dir():
        root = _DEBIAN_FOLDER
    train_images, train_labels = _load_part("train", root)
    test_images, test_labels = _load_part("t10k", root)
    mean, std = channel_statistics(train_images)
    if not std.all():
        raise ImagesError(f"training images in {root} must differ, got one grey level only")
    return Images(
        name="fashion_mnist",
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        num_classes=_NUM_CLASSES,
        mean=mean,
        std=std,
    )


def read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, gzipped or not, shape (items, *item_shape)."""
    data = read_gzipped(path)
    num_dimensions = 1 + len(item_shape)
    magic = bytes([0, 0, 8, num_dimensions])
    if data[:4] != magic:
        raise ImagesError(
            f"{path} must begin with {magic.hex(' ')}, got {data[:4].hex(' ') or 'nothing'}"
        )
    num_header = 4 + 4 * num_dimensions
    if len(data) < num_header:
        raise ImagesError(f"{path} must have a header of {num_header} bytes, got {len(data)}")
    shape = tuple(np.frombuffer(data, ">u4", num_dimensions, 4).tolist())
    if shape[0] == 0 or shape[1:] != item_shape:
        raise ImagesError(f"{path} must hold items of shape {item_shape}, got all of {shape}")
    if len(data) != num_header + math.prod(shape):
        raise ImagesError(
            f"{path} must have {num_header + math.prod(shape)} bytes for shape {shape}, "
            f"got {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=num_header).reshape(shape)


def _load_part(part: str, root: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images_path = _find(f"{part}-images-idx3-ubyte", root)
    labels_path = _find(f"{part}-labels-idx1-ubyte", root)
    images, labels = read_idx(images_path, (28, 28)), read_idx(labels_path, ())
    if len(images) != len(labels):
        raise ImagesError(
            f"{labels_path} must have a label for each of {len(images)} images, got {len(labels)}"
        )
    if labels.max() >= _NUM_CLASSES:
        raise ImagesError(
            f"{labels_path} must have labels in 0..{_NUM_CLASSES - 1}, got {labels.max()}"
        )
    return images[:, None], labels.astype(np.int64)


def _find(name: str, root: Path | None) -> Path:
    if root is None:
        return download(f"{_URL}{name}.gz", md5=_MD5[name])
    for path in (root / f"{name}.gz", root / name):
        if path.is_file():
            return path
    raise ImagesError(f"{root} must have a file {name}.gz or {name}, got neither")
