"""Benchmarks on a server: in ranges, in few requests, with clear errors."""

import contextlib
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from chaos.reading import said

from dtb_builder import Benchmark
from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.journal import JournalRun, append_epoch, open_journal, read_journal
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.remote import RemoteSource
from dtb_builder.dataset.shard import write_shard
from dtb_builder.errors import DamagedFileError, MissingVolumeError, NotDTBFileError, RemoteError
from dtb_builder.record import TensorTable
from dtb_builder.space import sample_uniform

pytest.importorskip("aiohttp", reason="needs the extra [remote]")

MakeShard = Callable[..., Path]


@dataclass
class Served:
    """A folder on a server, and what was asked of it: method, first byte and bytes sent."""

    url: str
    gives_ranges: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, served: Served, **options: Any) -> None:
        self._served = served
        super().__init__(*args, **options)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the reader has seen enough
            super().handle()

    def log_message(self, *_args: object, **_options: object) -> None: ...

    def do_HEAD(self) -> None:
        self._served.asked.append(("HEAD", 0, 0))
        super().do_HEAD()

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data, status, first = path.read_bytes(), 200, 0
        size = len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is not None and self._served.gives_ranges:
            first, last = map(int, asked.groups())
            data, status = data[first : last + 1], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{size}")
        self.end_headers()
        self._served.asked.append(("GET", first, len(data)))
        self.wfile.write(data)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served("")

    def handler(*args: Any) -> _Handler:
        return _Handler(*args, served=found, directory=str(tmp_path))

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A shard of two runs with states of 0.4 MB in 250 tensors, as a small network's."""
    sizes = np.random.default_rng(0).multinomial(100_000, np.full(250, 1 / 250)).tolist()
    table = TensorTable(tuple(f"cells.{i}.weight" for i in range(250)), tuple((n,) for n in sizes))
    journals = []
    for number in (0, 1):
        path = tmp_path / f"{number}.journal"
        open_journal(path, JournalRun(number, str(sample_uniform(0, number)), 0, "p", 9, table))
        for epoch in range(3):
            state = np.random.default_rng([number, epoch]).standard_normal(100_000) / 30
            append_epoch(
                path,
                epoch=epoch,
                metrics={"valid_accuracy": epoch / 9},
                environment={"device_name": "abacus"},
                num_batches_tracked=epoch,
                frame=codec.encode(state.astype(np.float32)),
            )
        journals.append(read_journal(path))
    write_shard(tmp_path / "large.h5", journals, provenance="{}", num_epochs=2)
    return tmp_path / "large.h5"


@pytest.mark.parametrize("volume_size", [None, 1])
def test_a_remote_benchmark_says_what_the_file_says(
    volume_size: int | None, shard: Path, tmp_path: Path, served: Served
) -> None:
    list(merge([shard], tmp_path / "dtb.h5", volume_size=volume_size))
    assert list(said(f"{served.url}/dtb.h5")) == list(said(tmp_path / "dtb.h5"))


def test_long_columns_are_read_in_part_from_afar(
    shard: Path, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = list(said(shard))
    monkeypatch.setattr(RemoteSource, "whole_up_to", 0)
    assert list(said(f"{served.url}/shard.h5")) == short


@pytest.mark.parametrize("volume_size", [None, 10**6])
def test_a_state_costs_few_requests_and_little_more_than_its_bytes(
    volume_size: int | None, large: Path, served: Served
) -> None:
    list(merge([large], large.with_name("dtb.h5"), volume_size=volume_size))
    with Benchmark(large) as local, Benchmark(f"{served.url}/dtb.h5") as remote:
        frame = int(local._store.index.column("state_index/length")[1, 2])
        served.asked.clear()
        state = remote.run(1).state(epoch=2)
        assert len(served.asked) <= 4
        assert sum(num_bytes for _, _, num_bytes in served.asked) < 1.1 * frame
        served.asked.clear()
        remote.run(1).training_state(epoch=1)
        assert len(served.asked) == 1
        expected = local.run(1).state(epoch=2)
    assert state.keys() == expected.keys()
    assert all((state[name] == expected[name]).all() for name in state)


def test_opening_costs_few_requests_and_then_metrics_none(shard: Path, served: Served) -> None:
    with Benchmark(f"{served.url}/shard.h5") as remote:
        assert len(served.asked) <= 12
        served.asked.clear()
        assert remote[sample_uniform(0, 5)].metric("valid_accuracy", epoch=0) == 0.05
        assert remote.array("valid_loss", epoch=-1).tolist() == [1.0, 1.0]
        assert served.asked == []


def test_a_server_without_ranges_is_told_from_one_with(large: Path, served: Served) -> None:
    served.gives_ranges = False
    with pytest.raises(RemoteError, match=r"large\.h5: the server does not give ranges of a file"):
        Benchmark(f"{served.url}/large.h5")


def test_what_is_not_on_the_server_is_named(shard: Path, tmp_path: Path, served: Served) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file http.*/missing\.h5"):
        Benchmark(f"{served.url}/missing.h5")
    (tmp_path / "text.h5").write_text("loss 0.5")
    with pytest.raises(NotDTBFileError, match=r"http.*/text\.h5 is not an HDF5 file"):
        Benchmark(f"{served.url}/text.h5")
    list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
    for volume in tmp_path.glob("states-*-00001.h5"):
        volume.unlink()
    with Benchmark(f"{served.url}/dtb.h5") as remote:
        assert remote.run(3).state(epoch=1)
        with pytest.raises(MissingVolumeError, match=r"http.*/states-\w+-00001\.h5 is not there"):
            remote.run(5).state(epoch=1)


def test_a_server_that_is_not_there_is_an_error_of_its_own() -> None:
    with pytest.raises(RemoteError, match=r"127\.0\.0\.1"):
        Benchmark("http://127.0.0.1:9/dtb.h5")
    with pytest.raises(RemoteError, match="nonsense"):
        Benchmark("nonsense://dtb.h5")


def test_damage_on_the_way_is_noticed(shard: Path, served: Served, flip: Callable) -> None:
    with Benchmark(shard) as local, Benchmark(f"{served.url}/shard.h5") as remote:
        flip(shard, int(local._store.index.column("state_index/offset")[1, 2]) + 30)
        with pytest.raises(DamagedFileError, match=r"http.*/shard\.h5: the checksum"):
            remote.run(5).state(epoch=2)
        assert remote.run(5).state(epoch=1)


def test_remote_benchmarks_go_to_threads_and_processes(
    shard: Path, tmp_path: Path, served: Served
) -> None:
    list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
    with Benchmark(shard) as local:
        expected = [float(run.state(epoch=e)["scalar"]) for run in local for e in (0, 1, 2)] * 4
    with Benchmark(f"{served.url}/dtb.h5") as remote:
        asked = [(run, epoch) for run in remote for epoch in (0, 1, 2)] * 4
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda ask: float(ask[0].state(epoch=ask[1])["scalar"]), asked))
        assert found == expected
        code = (
            "import pickle, sys; run = pickle.load(sys.stdin.buffer); "
            "print(float(run.state(epoch=0)['scalar']))"
        )
        command = [sys.executable, "-c", code]
        sent = pickle.dumps(remote.run(3))
        read = subprocess.run(command, input=sent, capture_output=True, check=True)
        assert float(read.stdout) == expected[0]


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


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_benchmark_survives_a_fork(where: str, shard: Path, served: Served) -> None:
    location = str(shard) if where == "here" else f"{served.url}/shard.h5"
    code = f"""
import os, dtb_builder
bench = dtb_builder.Benchmark({location!r})
before = float(bench.run(3).state(epoch=0)["scalar"])
child = os.fork()
same = float(bench.run(3).state(epoch=0)["scalar"]) == before
other = float(bench.run(5).state(epoch=1)["scalar"])
if child == 0:
    os._exit(0 if same else 1)
_, status = os.waitpid(child, 0)
print(same, status)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "0"]


def test_any_file_system_of_fsspec_will_do(shard: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/folder/dtb.h5", shard.read_bytes())
    with Benchmark("memory://folder/dtb.h5") as remote:
        assert remote.run(5).state(epoch=1)["scalar"].shape == ()
        assert repr(remote) == "<Benchmark memory://folder/dtb.h5: 2 runs of 2 epochs>"
