"""Image sets load from the publishers' files, and from nothing else."""

import gzip
import hashlib
import importlib.util
import logging
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtb_builder.errors import ConfigError, ImagesError
from dtb_builder.images import IMAGE_SETS, digits, load_images
from dtb_builder.images.download import download

RNG = np.random.default_rng(0)
CIFAR10_FILES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
CIFAR100_FILES = ["train.bin", "test.bin"]
IDX_FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def cifar_records(labels: list[tuple[int, ...]]) -> tuple[bytes, np.ndarray]:
    pixels = RNG.integers(0, 256, (len(labels), 3, 32, 32)).astype(np.uint8)
    records = zip(labels, pixels, strict=True)
    return b"".join(bytes(label) + image.tobytes() for label, image in records), pixels


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """Twelve images to train on and three to test with."""
    for part, num_images in (("train", 12), ("t10k", 3)):
        images = RNG.integers(0, 256, (num_images, 28, 28))
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(num_images) % 10))
    return tmp_path


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """Two images in each file, of classes 1 and 9."""
    for name in CIFAR10_FILES:
        (tmp_path / name).write_bytes(cifar_records([(1,), (9,)])[0])
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    for name in CIFAR100_FILES:
        (tmp_path / name).write_bytes(cifar_records([(19, 3), (0, 99)])[0])
    return tmp_path


def pack(folder: Path, archive: Path, inside: str) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.glob("*.bin")):
            tar.add(path, f"{inside}/{path.name}")
    return archive


def test_digits_are_those_of_scikit_learn() -> None:
    images = load_images("digits")
    assert images.train_images.shape == (1438, 1, 8, 8)
    assert images.test_images.shape == (359, 1, 8, 8)
    assert images.train_images.max() == 255
    assert set(np.bincount(images.test_labels)) <= {34, 35, 36, 37}
    sklearn = importlib.util.find_spec("sklearn")
    assert sklearn is not None
    assert sklearn.origin is not None
    theirs = Path(sklearn.origin).parent / "datasets" / "data" / "digits.csv.gz"
    assert Path(digits.__file__).with_name(theirs.name).read_bytes() == theirs.read_bytes()


def test_the_digits_and_their_test_images_never_drift() -> None:
    expected = "07d514f5a12b8bc5ba3933a500c80e8e5ae5a071b832525d37f020b6176e95e4"
    assert load_images("digits").sha256 == expected


def test_digits_have_no_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have no root"):
        load_images("digits", tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_real_fashion_mnist_loads() -> None:
    fashion = load_images("fashion_mnist")
    assert fashion.train_images.shape == (60_000, 1, 28, 28)
    assert (np.bincount(fashion.train_labels) == 6000).all()
    assert (np.bincount(fashion.test_labels) == 1000).all()
    # The figures that are in common use.
    assert [*fashion.mean, *fashion.std] == pytest.approx([0.2860, 0.3530], abs=1e-4)


def test_idx_files_load_as_they_are_and_gzipped(fashion: Path) -> None:
    plain = load_images("fashion_mnist", fashion)
    for name in IDX_FILES:
        (fashion / f"{name}.gz").write_bytes(gzip.compress((fashion / name).read_bytes()))
        (fashion / name).unlink()
    assert load_images("fashion_mnist", fashion).sha256 == plain.sha256
    assert plain.train_images.shape == (12, 1, 28, 28)
    assert plain.test_labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", IDX_FILES)
def test_a_missing_idx_file_is_named(fashion: Path, name: str) -> None:
    (fashion / name).unlink()
    with pytest.raises(ImagesError, match=f"{fashion} must have a file {name}"):
        load_images("fashion_mnist", fashion)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "must have .* bytes for shape .*, got"),
        (lambda data: data + b"\0", "must have .* bytes for shape .*, got"),
        (lambda data: data[:6], "must have a header of .* bytes, got 6"),
        (lambda _: b"", "must begin with 00 00 08 0., got nothing"),
        (lambda data: b"\0\0\x0d" + data[3:], "must begin with 00 00 08 0., got 00 00 0d"),
        (lambda _: b"<html>not found</html>", "must begin with"),
        (lambda data: gzip.compress(data)[:-9], "is a damaged gzip file of .* bytes"),
        (lambda data: gzip.compress(data)[:-8] + bytes(8), "is a damaged gzip file"),
        (lambda data: data[:4] + bytes(4) + data[8:], "must hold items of shape"),
        (lambda data: data[:4] + b"\xff" * (len(data) - 4), "must h"),
    ],
)
@pytest.mark.parametrize("name", IDX_FILES)
def test_a_damaged_idx_file_is_named(
    fashion: Path, name: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = fashion / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImagesError, match=f"{path} {message}"):
        load_images("fashion_mnist", fashion)


def test_labels_that_do_not_belong_to_the_images_are_refused(fashion: Path) -> None:
    path = fashion / "train-labels-idx1-ubyte"
    path.write_bytes(idx(np.zeros(11)))
    with pytest.raises(ImagesError, match=f"{path} must have a label for each of 12 .* got 11"):
        load_images("fashion_mnist", fashion)
    path.write_bytes(idx(np.full(12, 10)))
    with pytest.raises(ImagesError, match=rf"{path} must have labels in 0\.\.9, got 10"):
        load_images("fashion_mnist", fashion)


def test_black_images_are_refused(fashion: Path) -> None:
    (fashion / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((12, 28, 28))))
    with pytest.raises(ImagesError, match="must differ, got one grey level"):
        load_images("fashion_mnist", fashion)


def test_cifar10_keeps_the_order_of_the_files(tmp_path: Path) -> None:
    expected = []
    for i, name in enumerate(CIFAR10_FILES):
        data, pixels = cifar_records([(i,), (9,)])
        (tmp_path / name).write_bytes(data)
        expected.append(pixels)
    images = load_images("cifar10", tmp_path)
    assert np.array_equal(images.train_images, np.concatenate(expected[:5]))
    assert np.array_equal(images.test_images, expected[5])
    assert images.train_labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
    assert images.test_labels.tolist() == [5, 9]
    assert images.mean.tolist() == [0.49139968, 0.48215827, 0.44653124]


def test_cifar100_has_the_fine_labels(cifar100: Path) -> None:
    images = load_images("cifar100", cifar100)
    assert images.train_labels.tolist() == [3, 99]
    assert images.num_classes == 100


@pytest.mark.parametrize(
    ("name", "inside"), [("cifar10", "cifar-10-batches-bin"), ("cifar100", "cifar-100-binary")]
)
def test_a_folder_and_its_parent_and_its_archive_are_the_same_images(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, inside: str
) -> None:
    files = request.getfixturevalue(name)
    expected = load_images(name, files).sha256
    archive_folder, unpacked = tmp_path / "archive", tmp_path / "unpacked"
    archive_folder.mkdir()
    archive = pack(files, archive_folder / f"{name.replace('r1', 'r-1')}-binary.tar.gz", inside)
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    for root in (unpacked, unpacked / inside, archive_folder, archive):
        assert load_images(name, root).sha256 == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "must be whole records of 3073 bytes, .* got 6145 bytes"),
        (lambda data: data + b"\0", "got 6147 bytes"),
        (lambda _: b"", "got 0 bytes"),
        (lambda data: b"\x0a" + data[1:], r"must have labels in 0\.\.9, got 10"),
    ],
)
@pytest.mark.parametrize("name", CIFAR10_FILES)
def test_a_damaged_cifar_file_is_named(
    cifar10: Path, name: str, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = cifar10 / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImagesError, match=f"{path} .*{message}"):
        load_images("cifar10", cifar10)
    archive = pack(cifar10, cifar10 / "cifar-10-binary.tar.gz", "x")
    with pytest.raises(ImagesError, match=f"{archive}:x/{name} .*{message}"):
        load_images("cifar10", archive)


def test_a_wrong_coarse_label_is_refused(cifar100: Path) -> None:
    (cifar100 / "test.bin").write_bytes(cifar_records([(20, 3)])[0])
    with pytest.raises(ImagesError, match=r"test.bin must have labels in 0\.\.19, got 20"):
        load_images("cifar100", cifar100)


@pytest.mark.parametrize("name", CIFAR10_FILES)
def test_a_missing_cifar_file_is_named(cifar10: Path, name: str) -> None:
    (cifar10 / name).unlink()
    archive = pack(cifar10, cifar10 / "cifar-10-binary.tar.gz", "x")
    for root in (cifar10, archive):
        with pytest.raises(ImagesError, match=f"{root} must have a file {name}"):
            load_images("cifar10", root)


@pytest.mark.parametrize("cut", [0, 1, 20, 1000, -1, -8, -9, -40])
def test_a_cut_archive_is_refused(cifar100: Path, cut: int) -> None:
    archive = pack(cifar100, cifar100 / "cifar-100-binary.tar.gz", "x")
    archive.write_bytes(archive.read_bytes()[:cut])
    with pytest.raises(ImagesError, match=str(archive)):
        load_images("cifar100", archive)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_without_a_root_the_publishers_archive_is_downloaded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = request.getfixturevalue(name)
    archive_name = f"{name.replace('r1', 'r-1')}-binary.tar.gz"
    archive = pack(files, tmp_path / "downloaded.tar.gz", "x")
    asked = []

    def fake(url: str, *, md5: str) -> Path:
        asked.append((url, len(md5)))
        return archive

    monkeypatch.setattr("dtb_builder.images.cifar.download", fake)
    assert load_images(name).sha256 == load_images(name, files).sha256
    assert asked == [(f"https://www.cs.toronto.edu/~kriz/{archive_name}", 32)]


def test_without_a_root_and_without_debian_fashion_mnist_is_downloaded(
    fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(url: str, *, md5: str) -> Path:
        assert url.startswith("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/")
        return fashion / url.rsplit("/", 1)[-1].removesuffix(".gz")

    monkeypatch.setattr("dtb_builder.images.fashion_mnist._DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr("dtb_builder.images.fashion_mnist.download", fake)
    assert load_images("fashion_mnist").sha256 == load_images("fashion_mnist", fashion).sha256


def test_an_empty_folder_says_what_it_should_have(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=f"{tmp_path} must be cifar-10-binary.tar.gz or a folder"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize("name", sorted(set(IMAGE_SETS) - {"digits"}))
def test_a_root_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImagesError, match=f"{tmp_path / 'nowhere'} does not exist"):
        load_images(name, tmp_path / "nowhere")


def test_an_unknown_image_set_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"cifar10.*got 'imagenet'"):
        load_images("imagenet")


def test_a_copy_with_fewer_images_is_noted(cifar10: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_images("cifar10", cifar10)
    assert "(50000, 10000) train and test images; this copy has (10, 2)" in caplog.text


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A server of one file on this machine."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file.bin").write_bytes(b"pixels")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_is_kept(website: str, tmp_path: Path) -> None:
    md5 = hashlib.md5(b"pixels").hexdigest()
    path = download(f"{website}/file.bin", md5=md5, folder=tmp_path / "cache")
    assert path.read_bytes() == b"pixels"
    (tmp_path / "served" / "file.bin").unlink()
    assert download(f"{website}/file.bin", md5=md5, folder=tmp_path / "cache") == path


@pytest.mark.parametrize("name", ["file.bin", "nowhere.bin"])
def test_a_download_of_something_else_is_refused(website: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImagesError, match=f"cannot download {website}/{name}.*set root to"):
        download(f"{website}/{name}", md5="0" * 32, folder=tmp_path / "cache")
    assert not (tmp_path / "cache" / name).exists()


def test_an_archive_with_a_link_to_nothing_is_named(cifar10: Path) -> None:
    (cifar10 / CIFAR10_FILES[0]).unlink()
    (cifar10 / CIFAR10_FILES[0]).symlink_to("nowhere")
    archive = pack(cifar10, cifar10 / "cifar-10-binary.tar.gz", "x")
    with pytest.raises(ImagesError, match=f"{archive} must be a whole tar.gz file"):
        load_images("cifar10", archive)
