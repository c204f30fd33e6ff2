"""What reading a benchmark from any server is like: tests that those of each server inherit."""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from chaos.reading import said
from dataset.serving import Served

from dtb_builder import Benchmark
from dtb_builder.dataset.merge import merge
from dtb_builder.errors import MissingVolumeError, RemoteError
from dtb_builder.space import sample_uniform

__all__ = ["FromAfar", "assert_survives_fork"]


class FromAfar:
    """The fixture `served` is a server of `tmp_path`."""

    @pytest.mark.parametrize("volume_size", [None, 1])
    def test_a_remote_benchmark_says_what_the_file_says(
        self, volume_size: int | None, shard: Path, tmp_path: Path, served: Served
    ) -> None:
        list(merge([shard], tmp_path / "dtb.h5", volume_size=volume_size))
        served.publish()
        assert list(said(f"{served.url}/dtb.h5")) == list(said(tmp_path / "dtb.h5"))

    @pytest.mark.parametrize("volume_size", [None, 10**6])
    def test_a_state_costs_few_requests_and_little_more_than_its_bytes(
        self, volume_size: int | None, large: Path, served: Served
    ) -> None:
        list(merge([large], large.with_name("dtb.h5"), volume_size=volume_size))
        served.publish()
        with Benchmark(large) as local, Benchmark(f"{served.url}/dtb.h5") as remote:
            frame = int(local._store.index.column("moments/length")[1, 2])
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

    @pytest.mark.usefixtures("shard")
    def test_opening_costs_few_requests_and_then_metrics_none(self, served: Served) -> None:
        served.publish()
        with Benchmark(f"{served.url}/shard.h5") as remote:
            assert 0 < len(served.asked) <= 12
            served.asked.clear()
            assert remote[sample_uniform(0, 5)].metric("valid_accuracy", epoch=0) == 0.05
            assert remote.array("valid_loss", epoch=-1).tolist() == [1.0, 1.0]
            assert served.asked == []

    def test_what_is_not_on_the_server_is_named(
        self, shard: Path, tmp_path: Path, served: Served
    ) -> None:
        list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
        for volume in tmp_path.glob("states-*-00001.h5"):
            volume.unlink()
        served.publish()
        with pytest.raises(FileNotFoundError, match=r"there is no file \w+://.*/missing\.h5"):
            Benchmark(f"{served.url}/missing.h5")
        with Benchmark(f"{served.url}/dtb.h5") as remote:
            assert remote.run(3).state(epoch=1)
            with pytest.raises(MissingVolumeError, match=r"/states-\w+-00001\.h5 is missing"):
                remote.run(5).state(epoch=1)

    def test_what_was_not_there_is_found_once_it_is(
        self, shard: Path, tmp_path: Path, served: Served
    ) -> None:
        served.publish()
        with pytest.raises(FileNotFoundError):
            Benchmark(f"{served.url}/dtb.h5")
        (tmp_path / "dtb.h5").write_bytes(shard.read_bytes())
        served.publish()
        with Benchmark(f"{served.url}/dtb.h5") as remote:
            assert len(remote) == 2

    @pytest.mark.usefixtures("shard")
    @pytest.mark.parametrize("status", [401, 403, 500])
    def test_a_server_that_refuses_is_not_one_without_the_file(
        self, status: int, served: Served
    ) -> None:
        served.publish()
        served.refuses_with = status
        with pytest.raises(RemoteError, match=r"\w+://.*/shard\.h5: \w+: "):
            Benchmark(f"{served.url}/shard.h5")

    def test_a_server_may_refuse_while_a_benchmark_is_open(
        self, shard: Path, tmp_path: Path, served: Served
    ) -> None:
        list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
        served.publish()
        with Benchmark(f"{served.url}/dtb.h5") as remote:
            assert remote.run(3).state(epoch=0)
            served.refuses_with = 403
            for number in (3, 5):  # in a volume that is open, and in one that is not
                with pytest.raises(RemoteError, match=r"\w+://.*/states-\w+-0000\d\.h5: \w+: "):
                    remote.run(number).state(epoch=1)
            served.refuses_with = None
            assert remote.run(5).state(epoch=1)

    def test_remote_benchmarks_go_to_threads_and_processes(
        self, shard: Path, tmp_path: Path, served: Served
    ) -> None:
        list(merge([shard], tmp_path / "dtb.h5", volume_size=1))
        served.publish()
        with Benchmark(shard) as local:
            expected = [float(run.state(epoch=e)["scalar"]) for run in local for e in (0, 1, 2)] * 4
        with Benchmark(f"{served.url}/dtb.h5") as remote:
            asks = [(run, epoch) for run in remote for epoch in (0, 1, 2)] * 4
            with ThreadPoolExecutor(4) as pool:
                found = list(
                    pool.map(lambda ask: float(ask[0].state(epoch=ask[1])["scalar"]), asks)
                )
            assert found == expected
            code = (
                "import pickle, sys; run = pickle.load(sys.stdin.buffer); "
                "print(float(run.state(epoch=0)['scalar']))"
            )
            command = [sys.executable, "-W", "error", "-c", code]
            sent = pickle.dumps(remote.run(3))
            read = subprocess.run(command, input=sent, capture_output=True, check=True)
            assert float(read.stdout) == expected[0]

    @pytest.mark.usefixtures("shard")
    def test_a_benchmark_survives_a_fork(self, served: Served) -> None:
        served.publish()
        assert_survives_fork(f"{served.url}/shard.h5")


def assert_survives_fork(location: str | Path) -> None:
    """See that a benchmark of runs 3 and 5 can be read on after a fork, by parent and child."""
    code = f"""
import os, dtb_builder
bench = dtb_builder.Benchmark({str(location)!r})
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
