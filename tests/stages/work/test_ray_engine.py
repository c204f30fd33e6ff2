import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from on_ray import dtb_on_ray

from dtb_builder.cli import main
from dtb_builder.commands.composing import compose, launch_config
from dtb_builder.errors import ConfigError
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.work.engines import open_engine

pytestmark = pytest.mark.ray


def copy_plan(finished: Path, folder: Path) -> None:
    """Plan in another folder what has been trained in one."""
    for name in ("config.yaml", "provenance.json", "plan.csv"):
        (folder / name).write_bytes((finished / name).read_bytes())


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A started Ray cluster whose head does no work, and that has no other node yet."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def test_two_workers_with_the_drivers_package_give_the_same_content_as_no_ray_at_all(
    finished: Path,
    tmp_path: Path,
    content: Callable[[Path], dict[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    copy_plan(finished, folder)
    (tmp_path / "dtb_builder").mkdir()
    (tmp_path / "dtb_builder" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    command = Path(sys.executable).with_name("dtb")  # python -m would itself import from here
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    arguments = [command, "generate", "run", "cluster.num_cpus=2"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("2 runs: ") for line in done.stderr.splitlines()), done.stderr
    assert main(["merge", "run"]) == 0
    assert content(folder / "dtb.h5") == content(finished / "dtb.h5")


def test_a_started_cluster_of_several_nodes_gives_the_same_content(
    finished: Path,
    tmp_path: Path,
    content: Callable[[Path], dict[Any, Any]],
    cluster: Any,
) -> None:
    copy_plan(finished, tmp_path)
    for _ in range(2):
        cluster.add_node(num_cpus=1, num_gpus=8, object_store_memory=80 * 2**20)
    settings = (f"cluster.address={cluster.address}", "cluster.gpus_per_run=0.5")
    done = dtb_on_ray("generate", tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    assert main(["merge", str(tmp_path)]) == 0
    assert content(tmp_path / "dtb.h5") == content(finished / "dtb.h5")


def test_on_a_started_cluster_runs_wait_for_machines_that_join_it(
    finished: Path, tmp_path: Path, cluster: Any
) -> None:
    copy_plan(finished, tmp_path)
    said = tmp_path / "said"
    command = (sys.executable, "-m", "dtb_builder.cli", "generate", str(tmp_path))
    with said.open("w") as opened:
        driver = subprocess.Popen([*command, f"cluster.address={cluster.address}"], stderr=opened)
    end = time.monotonic() + 120
    while "waiting for machines to join" not in said.read_text() and time.monotonic() < end:
        assert driver.poll() is None, said.read_text()
        time.sleep(0.2)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    assert driver.wait(timeout=200) == 0, said.read_text()
    assert "a run needs {'num_cpus': 1, 'num_gpus': 0}, Ray has {}" in said.read_text()
    assert len(RunFolder(tmp_path).shard_files()) == 2


def test_a_local_cluster_without_room_for_a_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(tmp_path), "compute.threads=3"]) == 0
    assert main(["generate", str(tmp_path), "cluster.num_cpus=2"]) == 2
    assert "a run needs {'num_cpus': 3, 'num_gpus': 0}, Ray has {'CPU': 2}" in (
        capsys.readouterr().err
    )
    assert not RunFolder(tmp_path).shard_files()


def test_being_told_to_stop_leaves_all_the_time_that_ending_takes() -> None:
    program = """
import os, signal, time
import yaml
from pathlib import Path
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.training import ComputeConfig
from dtb_builder.stages.work.ray_engine import RayEngine

told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(True))
cluster = parse(ClusterConfig, yaml.safe_load(Path("conf/cluster/local.yaml").read_text()))
compute = parse(ComputeConfig, yaml.safe_load(Path("conf/compute/cpu.yaml").read_text()))
with RayEngine(cluster, compute):
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        time.sleep(0.1)
print("told", len(told))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )
    assert (done.returncode, done.stdout) == (0, "told 1\n"), done.stderr


def test_what_ray_and_its_workers_say_goes_into_a_log(tmp_path: Path) -> None:
    program = """
import sys, yaml
from pathlib import Path
from dtb_builder.stages.settings.cluster import ClusterConfig
from dtb_builder.stages.settings.parsing import parse
from dtb_builder.stages.work.engine import Call
from dtb_builder.stages.work.ray_engine import RayEngine
from dtb_builder.training import ComputeConfig

cluster = parse(ClusterConfig, yaml.safe_load(Path("conf/cluster/local.yaml").read_text()))
compute = parse(ComputeConfig, yaml.safe_load(Path("conf/compute/cpu.yaml").read_text()))
with RayEngine(cluster, compute, Path(sys.argv[1])) as engine:
    engine.submit(Call(0, print, ("a worker's word",), True, "print"))
    assert [end.error for end in engine.wait(seconds=100)] == [None]
    import logging, time
    logging.getLogger("ray").warning("a warning of Ray")
    end = time.monotonic() + 30
    while "word" not in Path(sys.argv[1]).read_text() and time.monotonic() < end:
        time.sleep(0.1)
print("done")
"""
    log = tmp_path / "logs" / "ray.log"
    done = subprocess.run(
        [sys.executable, "-c", program, str(log)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    assert "a warning of Ray" in log.read_text()
    assert "a worker's word" in log.read_text()


def test_a_worker_with_other_files_than_the_drivers_refuses_and_names_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cloudpickle

    import dtb_builder
    from dtb_builder.stages.work.installation import checked_call

    ours = Path(dtb_builder.__file__).parent
    shutil.copytree(ours, tmp_path / "dtb_builder", ignore=shutil.ignore_patterns("*.so"))
    with (tmp_path / "dtb_builder" / "network" / "cell.py").open("a") as opened:
        opened.write("# edited")
    monkeypatch.chdir(ours)
    (tmp_path / "call").write_bytes(cloudpickle.dumps(checked_call()))
    (tmp_path / "work").write_bytes(cloudpickle.dumps((max, (1, 2))))
    program = (
        "import pickle, pathlib; read = lambda n: pathlib.Path(n).read_bytes(); "
        "print(pickle.loads(read('call'))(read('work')))"
    )

    def worker(path: Path) -> str:
        return subprocess.run(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"},
        ).stdout

    assert worker(ours.parent) == "(None, 2)\n"
    refused = worker(tmp_path)
    assert f"has another dtb_builder, in {tmp_path}/dtb_builder, than the driver" in refused
    assert "1 files differ, the first is network/cell.py" in refused


def test_joining_a_cluster_that_does_not_answer_is_said_and_ends_at_once_when_told_to_stop(
    finished: Path, tmp_path: Path
) -> None:
    copy_plan(finished, tmp_path)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "dtb_builder.cli", "generate", str(tmp_path)]
        driver = subprocess.Popen(
            [*command, f"cluster.address={address}"], stderr=subprocess.PIPE, text=True
        )
        assert driver.stderr is not None
        assert "dtb: joining the Ray cluster at " in driver.stderr.readline()
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=60)
    assert "SIGTERM came while joining the Ray cluster" in said
    assert driver.returncode == 75


def test_a_cluster_that_does_not_answer_in_time_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dtb_builder.stages.work import ray_engine

    monkeypatch.setattr(ray_engine, "_JOIN_SECONDS", 1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConfigError, match=r"no Ray answered at .* within 1 seconds"):
        ray_engine._answering(address)


def test_an_address_where_nobody_listens_is_told_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dtb_builder.stages.work import ray_engine

    monkeypatch.setattr(ray_engine, "_REFUSED_SECONDS", 0.2)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConfigError, match=rf"nobody listens at .*:{address.split(':')[1]}"):
        ray_engine._answering(address)
    with pytest.raises(ConfigError, match=r"there is no machine no-such-machine\.invalid: "):
        ray_engine._answering("no-such-machine.invalid:6379")


def test_a_token_that_is_not_the_clusters_is_told_as_that(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(**_: object) -> None:
        os.write(2, b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken\n")
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr("ray.init", refused)
    monkeypatch.setattr("dtb_builder.stages.work.ray_engine._answering", lambda address: address)
    copy_plan(finished, tmp_path)
    assert main(["generate", str(tmp_path), "cluster.address=127.0.0.1:1"]) == 2
    assert "started with a token wants RAY_AUTH_MODE=token here" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_started_cluster_is_joined_with_the_token_that_is_here(
    mode: str | None, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_grpc_client_keepalive_time_ms"):
        monkeypatch.setenv(name, mode or "")  # so that it is put back
    monkeypatch.setenv("RAY_grpc_client_keepalive_timeout_ms", "15000")
    monkeypatch.setenv("HOME", str(tmp_path))
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE")
    cluster = launch_config(compose(["cluster=auto"])).cluster
    compute = RunFolder(finished).config.compute
    open_engine(cluster, compute)
    assert os.environ.get("RAY_AUTH_MODE") == mode
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").touch()
    open_engine(cluster, compute)
    assert os.environ["RAY_AUTH_MODE"] == (mode or "token")


def test_a_ray_that_does_not_come_up_in_time_is_one_line_and_75(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def slow(**_: object) -> None:
        raise Exception("The current node timed out during startup. This could\nhappen because")

    monkeypatch.setattr("ray.init", slow)
    copy_plan(finished, tmp_path)
    assert main(["generate", str(tmp_path)]) == 75
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dtb: Ray did not start: The current node timed out during startup. ")
    assert f"(see {tmp_path}/logs/ray.log)" in line
