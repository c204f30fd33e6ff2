"""No forged file makes a reader open a file that is not of the benchmark."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from chaos import reading
from chaos.mutants import Change, seal

from dtb_builder.dataset import schema
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DTBError

_IN_OPEN = 0x20
_LINKED = (
    "metrics/valid_loss",
    "metrics",
    "states",
    "states/00000003",
    "checksums",
    "moments/step",
)


def _link(name: str, to: h5py.ExternalLink | h5py.SoftLink) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = to

    return change


def _through_a_soft_link(file: h5py.File) -> None:
    file["outside"] = h5py.ExternalLink("outside.h5", "/")
    _link("metrics/valid_loss", h5py.SoftLink("/outside/metrics/valid_loss"))(file)


def _external_storage(file: h5py.File) -> None:
    values = dataset_at(file, "metrics/valid_loss")[...]
    del file["metrics/valid_loss"]
    file.create_dataset(
        "metrics/valid_loss", values.shape, "<f8", external=[("outside.h5", 0, values.nbytes)]
    )


def _virtual(file: h5py.File) -> None:
    shape = dataset_at(file, "metrics/valid_loss").shape
    layout = h5py.VirtualLayout(shape, "<f8")
    layout[...] = h5py.VirtualSource("outside.h5", "metrics/valid_loss", shape)
    del file["metrics/valid_loss"]
    file.create_virtual_dataset("metrics/valid_loss", layout)


def _volume(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[schema.VOLUMES]
        file[schema.VOLUMES] = np.array([name.encode()])
        seal(file)

    return change


FORGED: dict[str, Change] = {
    **{f"{name} is a link": _link(name, h5py.ExternalLink("outside.h5", name)) for name in _LINKED},
    "a soft link leads to a link": _through_a_soft_link,
    "external storage": _external_storage,
    "a virtual dataset": _virtual,
    "a volume is a path": _volume("./outside.h5"),
    "a volume is reached through a folder": _volume("sub/../outside.h5"),
}


@contextlib.contextmanager
def watched(file: Path) -> Iterator[list[bytes]]:
    """What the system tells of every opening of a file, by whatever library."""
    library = ctypes.CDLL(None)
    descriptor = library.inotify_init1(os.O_NONBLOCK)
    assert library.inotify_add_watch(descriptor, os.fsencode(file), _IN_OPEN) >= 0
    told: list[bytes] = []
    yield told
    with contextlib.suppress(BlockingIOError):
        told.append(os.read(descriptor, 4096))
    os.close(descriptor)


@pytest.fixture
def outside(shard: Path) -> Path:
    """A sound file beside the one that is forged."""
    file = shard.with_name("outside.h5")
    file.write_bytes(shard.read_bytes())
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="watches with inotify")
@pytest.mark.parametrize("kind", FORGED)
def test_nothing_outside_is_opened(kind: str, shard: Path, outside: Path) -> None:
    with h5py.File(shard, "r+") as file:
        FORGED[kind](file)
    refused = []
    with watched(outside) as told:
        refused += [answer for _, answer in reading.said(shard) if isinstance(answer, DTBError)]
        with contextlib.suppress(DTBError):
            refused += [checked for checked in verify(shard) if checked.error]
    assert refused
    assert not told


@pytest.mark.skipif(sys.platform != "linux", reason="watches with inotify")
def test_the_guard_sees_what_a_plain_reader_opens(shard: Path, outside: Path) -> None:
    with h5py.File(shard, "r+") as file:
        FORGED["metrics is a link"](file)
    with watched(outside) as told, h5py.File(shard) as file:
        assert file["metrics/valid_loss"]
    assert told
