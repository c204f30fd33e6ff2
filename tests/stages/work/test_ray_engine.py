import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtb_builder.stages.generation.run_folder import RunFolder

pytestmark = pytest.mark.ray


def dtb(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own, so that Ray starts afresh."""
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    return subprocess.run(
        [sys.executable, "-m", "dtb_builder.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )


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


def test_one_worker_and_two_give_the_same_content_as_no_ray_at_all(
    finished: Path, tmp_path: Path, content: Callable[[Path], dict[Any, Any]]
) -> None:
    for num_workers in (1, 2):
        folder = tmp_path / str(num_workers)
        folder.mkdir()
        copy_plan(finished, folder)
        done = dtb("generate", folder, f"cluster.num_cpus={num_workers}")
        assert done.returncode == 0, done.stderr
        assert dtb("merge", folder).returncode == 0
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
    done = dtb("generate", tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    assert dtb("merge", tmp_path).returncode == 0
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


def test_a_local_cluster_without_room_for_a_run_is_refused(tmp_path: Path) -> None:
    assert dtb("plan", tmp_path, "compute.threads=3").returncode == 0
    done = dtb("generate", tmp_path, "cluster.num_cpus=2")
    assert done.returncode == 2
    assert "a run needs {'num_cpus': 3" in done.stderr
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
        cwd=Path(__file__).parents[2],
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
    )
    assert (done.returncode, done.stdout) == (0, "told 1\n"), done.stderr
