"""CIFAR-10 and CIFAR-100 from the files of their binary version."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import ImagesError
from dtb_builder.images.download import download
from dtb_builder.images.gzipped import read_gzipped
from dtb_builder.images.image_set import Images

__all__ = ["load_cifar10", "load_cifar100"]

_SHAPE = (3, 32, 32)
_NUM_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, kw_only=True)
class _Format:
    """The content of the publisher's archive.

    Attributes:
        label_limits: the number of values of each label byte; the last byte is the class.
    """

    name: str
    archive: str
    md5: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    label_limits: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_CIFAR10 = _Format(
    name="cifar10",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test_file="test_batch.bin",
    label_limits=(10,),
    mean=(0.49139968, 0.48215827, 0.44653124),
    std=(0.24703233, 0.24348505, 0.26158768),
)
_CIFAR100 = _Format(
    name="cifar100",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train_files=("train.bin",),
    test_file="test.bin",
    label_limits=(20, 100),
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


def load_cifar10(root: Path | None) -> Images:
    """CIFAR-10, from a local copy (see load_images) or downloaded."""
    return _load(_CIFAR10, root)


def load_cifar100(root: Path | None) -> Images:
    """CIFAR-100 with its 100 fine labels, from a local copy (see load_images) or downloaded."""
    return _load(_CIFAR100, root)


def _load(form: _Format, root: Path | None) -> Images:
    files = _read_files(form, root)
    parts = {name: _parse(data, place, form) for name, (place, data) in files.items()}
    train = [parts[name] for name in form.train_files]
    test_images, test_labels = parts[form.test_file]
    return Images(
        name=form.name,
        train_images=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test_images=test_images,
        test_labels=test_labels,
        num_classes=form.label_limits[-1],
        mean=np.array(form.mean),
        std=np.array(form.std),
    )


def _parse(data: bytes, place: str, form: _Format) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images of shape (images, 3, 32, 32) and their classes."""
    num_labels = len(form.label_limits)
    num_record = num_labels + _NUM_PIXELS
    if len(data) == 0 or len(data) % num_record:
        raise ImagesError(
            f"{place} must be whole records of {num_record} bytes, at least one, "
            f"got {len(data)} bytes"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, num_record)
    for i, limit in enumerate(form.label_limits):
        if records[:, i].max() >= limit:
            raise ImagesError(
                f"{place} must have labels in 0..{limit - 1}, got {records[:, i].max()}"
            )
    images = records[:, num_labels:].reshape(-1, *_SHAPE)
    return images, records[:, num_labels - 1].astype(np.int64)


def _read_files(form: _Format, root: Path | None) -> dict[str, tuple[str, bytes]]:
    """For each file: its path for error messages, and its bytes."""
    names = (*form.train_files, form.test_file)
    if root is None:
        url = f"https://www.cs.toronto.edu/~kriz/{form.archive}"
        return _read_archive(download(url, md5=form.md5), names)
    if root.is_file():
        return _read_archive(root, names)
    for folder in (root, root / form.folder):
        if any((folder / name).is_file() for name in names):
            return _read_folder(folder, names)
    if (root / form.archive).is_file():
        return _read_archive(root / form.archive, names)
    raise ImagesError(
        f"{root} must be {form.archive} or a folder with {form.archive}, {form.folder}/ "
        f"or {names[0]}"
    )


def _read_folder(folder: Path, names: tuple[str, ...]) -> dict[str, tuple[str, bytes]]:
    for name in names:
        if not (folder / name).is_file():
            raise ImagesError(f"{folder} must have a file {name}, got none")
    return {name: (str(folder / name), (folder / name).read_bytes()) for name in names}


def _read_archive(path: Path, names: tuple[str, ...]) -> dict[str, tuple[str, bytes]]:
    # Unpacked as a whole, since tarfile does not read up to gzip's checksum.
    data = read_gzipped(path)
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                content = archive.extractfile(member) if name in names else None
                if content is not None:
                    files[name] = (f"{path}:{member.name}", content.read())
    except (tarfile.TarError, KeyError) as error:  # KeyError: a link to nothing
        raise ImagesError(
            f"{path} must be a whole tar.gz file, got {len(data)} bytes unpacked: {error}"
        ) from error
    missing = [name for name in names if name not in files]
    if missing:
        raise ImagesError(f"{path} must have a file {missing[0]}, got {sorted(files)}")
    return files
