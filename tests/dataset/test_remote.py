"""Benchmarks on a server: in ranges, in few requests, with clear errors."""

import gzip
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos.reading import said
from dataset.from_afar import FromAfar, assert_survives_fork
from dataset.serving import FolderHandler, Served, serving

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.remote import RemoteSource
from dtb_builder.errors import DamagedFileError, NotDTBFileError, RemoteError

pytest.importorskip("aiohttp", reason="needs the extra [remote]")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as found:
        yield found


class TestHTTP(FromAfar):
    """The plainest of servers."""


def test_long_columns_are_read_in_part_from_afar(
    shard: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = list(said(shard))
    monkeypatch.setattr(RemoteSource, "whole_up_to", 0)
    assert list(said(f"{served.url}/shard.h5")) == short


def test_a_server_without_ranges_is_told_from_one_with(large: Path, served: Served) -> None:
    served.gives_ranges = False
    with pytest.raises(RemoteError, match=r"large\.h5: the server does not give ranges of a file"):
        Benchmark(f"{served.url}/large.h5")


def test_what_is_no_benchmark_is_named(tmp_path: Path, served: Served) -> None:
    (tmp_path / "text.h5").write_text("loss 0.5")
    with pytest.raises(NotDTBFileError, match=r"http.*/text\.h5 is not an HDF5 file"):
        Benchmark(f"{served.url}/text.h5")


def test_a_server_that_is_not_there_is_an_error_of_its_own() -> None:
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1"):
        Benchmark("http://127.0.0.1:9/dtb.h5")
    with pytest.raises(RemoteError, match="nonsense"):
        Benchmark("nonsense://dtb.h5")


def test_damage_on_the_way_is_noticed(shard: Path, served: Served, flip: Callable) -> None:
    with Benchmark(shard) as local, Benchmark(f"{served.url}/shard.h5") as remote:
        written = shard.stat().st_mtime
        flip(shard, int(local._store.index.column("moments/offset")[1, 4]) + 30)
        os.utime(shard, (written, written))  # else the server says that the file is another
        with pytest.raises(DamagedFileError, match=r"http.*/shard\.h5: the checksum"):
            remote.run(5).state(epoch=2)
        assert remote.run(5).state(epoch=1)


def test_garbage_of_hdf5_does_not_keep_a_reader_waiting(shard: Path, served: Served) -> None:
    code = f"""
import h5py
from aiohttp import ClientSession
from dtb_builder import Benchmark

files = [h5py.File({str(shard)!r}, "r") for _ in range(50)]
request = ClientSession._request

async def leave_garbage_and_request(*args, **options):
    knot = [files.pop()]
    knot.append(knot)
    del knot
    _ = [[] for _ in range(5000)]  # so many that Python would collect garbage, in fsspec's thread
    return await request(*args, **options)

ClientSession._request = leave_garbage_and_request
with Benchmark("{served.url}/shard.h5") as benchmark:
    print(len(benchmark), benchmark.schema_version, len(files) < 50)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["2", schema.SCHEMA_VERSION, "True"]


def test_a_benchmark_may_be_left_open_at_the_end_of_its_process(
    shard: Path, served: Served
) -> None:
    code = f"""
import ctypes
from dtb_builder import Benchmark

benchmark = Benchmark("{served.url}/shard.h5")
# Python does not free it at its end, as it does not free what a daemon's thread holds.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(benchmark))
print(len(benchmark))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_benchmark_here_survives_a_fork(shard: Path) -> None:
    assert_survives_fork(shard)


def test_any_file_system_of_fsspec_will_do(shard: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/folder/dtb.h5", shard.read_bytes())
    with Benchmark("memory://folder/dtb.h5") as remote:
        assert remote.run(5).state(epoch=1)["scalar"].shape == ()
        assert repr(remote) == "<Benchmark memory://folder/dtb.h5: 2 runs of 2 epochs>"


class _Odd(FolderHandler):
    """Answers in an odd way what is asked of an odd name: endless.h5, slow.h5 and so on."""

    def send_data(
        self, data: bytes, status: int = 200, headers: dict[str, str] | None = None, first: int = 0
    ) -> None:
        how = Path(self.path.partition("?")[0]).stem
        if how not in ("endless", "gzip", "slow", "silent"):
            super().send_data(data, status, headers, first)
            return
        if how == "silent":
            time.sleep(2)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if how == "gzip":
            data = gzip.compress(bytes(2**26), 1)
            self.send_header("Content-Encoding", "gzip")
        if how != "endless":
            self.send_header("Content-Length", str(len(data)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        begun = time.monotonic()
        while time.monotonic() < begun + 5:
            if how == "endless":
                self.wfile.write(bytes(2**20))
            else:
                self.wfile.write(data[: 1 if how == "slow" else None])
                if how == "gzip":
                    return
                time.sleep(0.01)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("endless", "the server sends more than the 8192 bytes asked for"),
        ("gzip", "the server sends gzip, which was not asked for"),
        ("slow", r"\d+ of \d+ bytes in 1 seconds: the server or the network is too slow"),
        ("silent", "no answer in 0 seconds: the server or the network is too slow"),
    ],
)
def test_a_server_cannot_send_more_or_take_longer_than_was_asked(
    how: str, reason: str, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard.rename(tmp_path / f"{how}.h5")
    if how in ("slow", "silent"):
        monkeypatch.setattr("dtb_builder.dataset.http._PATIENCE_SECONDS", 0.3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with serving(tmp_path, _Odd) as served:
        begun = time.monotonic()
        with pytest.raises(RemoteError, match=f"{how}.h5: {reason}"):
            Benchmark(f"{served.url}/{how}.h5")
        assert time.monotonic() < begun + 4
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 64 * 2**10


def test_a_file_that_was_replaced_on_the_server_is_told_from_a_damaged_one(
    shard: Path, make_shard: Callable[..., Path], served: Served
) -> None:
    with Benchmark(f"{served.url}/shard.h5") as remote:
        make_shard("other", [7, 4]).rename(shard)
        os.utime(shard, (0, 0))  # servers tell whole seconds
        with pytest.raises(RemoteError, match=r"shard\.h5 was changed on the server since it was"):
            [remote.run(5).state(epoch=epoch) for epoch in (0, 1, 2)]


def test_secrets_of_a_url_are_used_but_not_shown(shard: Path, served: Served) -> None:
    url = f"{served.url}/{shard.name}?token=SECRET".replace("://", "://me:SECRET@")
    with Benchmark(url) as remote:
        assert remote.path == url
        assert "SECRET" not in f"{remote!r} {remote.run(3)!r}"
        assert remote.file_name == shard.name
        assert len(pickle.loads(pickle.dumps(remote))) == 2
        served.refuses_with = 403
        with pytest.raises(RemoteError) as refused:
            remote.run(5).state(epoch=0)
    with pytest.raises(RemoteError) as unopened:
        Benchmark(url)
    served.refuses_with = None
    with pytest.raises(FileNotFoundError) as missing:
        Benchmark(url.replace("shard", "missing"))
    for raised in (refused, unopened, missing):
        told = [str(raised.value), *getattr(raised.value, "__notes__", ())]
        assert "SECRET" not in " ".join(told)
        assert "?***" in told[0]
