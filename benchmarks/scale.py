"""What a cluster costs: many short stand-in runs on fake nodes that come and go, and huge plans.

    python benchmarks/scale.py runs              # 10,000 runs, 200 shards, 4 nodes x 8 GPUs
    python benchmarks/scale.py plan              # a plan of 1,000,000 runs, and dtb status on it
    python benchmarks/scale.py calibrate         # what dtb plan --calibrate says, and what it takes

The peer of `runs` is Ray alone: the same sleeps as bare tasks, without a journal, a driver or a
shard. All nodes share the cores of this machine, which is not what nodes are for.
"""

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import stand_in
from benchmarks.stand_in import NUM_EPOCHS, RUN_SECONDS, pretend
from dtb_builder import Benchmark
from dtb_builder.cli import main as dtb
from dtb_builder.stages.generation.driver import RunFinished, generate
from dtb_builder.stages.generation.run_folder import PlannedRun, RunFolder
from dtb_builder.stages.settings.launch import LaunchConfig
from dtb_builder.stages.settings.parsing import parse

ROOT = Path(__file__).parent.parent

# Before Ray starts: its processes, and so the workers, take these from here.
os.environ["PYTHONPATH"] = str(ROOT)
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["OMP_NUM_THREADS"] = "1"
# Not 32 idle processes on two cores. Ray spells it so.
os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112

NUM_NODES = 4
GPUS_PER_NODE = 8
PEER_SHARE = 5
"""The peer does a fifth of the runs, and its seconds count five times."""


@contextmanager
def fake_nodes() -> Iterator[Any]:
    """A Ray cluster of a head without GPUs and four nodes with eight, all on this machine."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NUM_NODES):
        add_node(cluster)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def add_node(cluster: Any) -> Any:
    """One more node."""
    return cluster.add_node(
        num_cpus=GPUS_PER_NODE, num_gpus=GPUS_PER_NODE, object_store_memory=80 * 2**20
    )


def disturb(cluster: Any, fraction: float, steps: list[tuple[float, str]]) -> None:
    """Take those steps whose part of the work is done; Ray adds nodes from the main thread only."""
    while steps and fraction >= steps[0][0]:
        _, what = steps.pop(0)
        if what == "add":
            add_node(cluster)
        else:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        print(f"  at {100 * fraction:.0f} %: {what} a node", file=sys.stderr)


def resident_mib() -> float:
    """This process's memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def launch_of(address: str, runs_per_task: int) -> LaunchConfig:
    """One GPU a run on the cluster there."""
    cluster = {
        "engine": "ray",
        "address": address,
        "num_cpus": None,
        "gpus_per_run": 1.0,
        "max_in_flight": None,
        "runs_per_task": runs_per_task,
        "shards": None,
        "max_attempts": 3,
        "time_limit": None,
        "tensorboard": False,
    }
    launch = {"retry": None, "allow_missing": False, "volume_size": None}
    return parse(LaunchConfig, launch | {"cluster": cluster})


def bare_seconds(address: str, num_runs: int, runs_per_task: int) -> float:
    """The peer: Ray's own tasks that only sleep, in a loop like the driver's."""
    import ray

    ray.init(address=address, logging_level=logging.WARNING)

    @ray.remote(num_cpus=1, num_gpus=1, max_calls=1)
    def sleep(count: int) -> None:
        for _ in range(count):
            time.sleep(RUN_SECONDS)

    begin = time.perf_counter()
    left, running = num_runs, []
    while left or running:
        while left and len(running) < 2 * NUM_NODES * GPUS_PER_NODE:
            count = min(left, runs_per_task)
            running.append(sleep.remote(count))
            left -= count
        _, running = ray.wait(running, timeout=1.0)
    seconds = time.perf_counter() - begin
    ray.shutdown()
    return seconds


def measure_runs(folder: RunFolder, num_runs: int, num_shards: int, runs_per_task: int) -> None:
    """Run the stand-ins on nodes that come and go, and print what that cost."""
    settings = [
        f"space.num_genotypes={num_runs}",
        f"shard_size={num_runs // num_shards}",
        f"recipe.num_epochs={NUM_EPOCHS}",
    ]
    assert dtb(["plan", str(folder.path), *settings]) == 0
    with fake_nodes() as cluster:
        peer = PEER_SHARE * bare_seconds(cluster.address, num_runs // PEER_SHARE, runs_per_task)
        memory: list[float] = []
        finished: Counter[int] = Counter()
        steps = [(0.25, "remove"), (0.5, "add"), (0.5, "add"), (0.75, "remove")]
        begin = time.perf_counter()
        for event in generate(folder, launch_of(cluster.address, runs_per_task), train=pretend):
            if isinstance(event, RunFinished):
                finished[event.run.number] += 1
                memory.append(resident_mib())
                disturb(cluster, len(finished) / num_runs, steps)
        seconds = time.perf_counter() - begin
        assert not steps, "the runs ended before nodes came and went"
    assert dtb(["merge", str(folder.path)]) == 0
    with Benchmark(folder.benchmark_file) as benchmark:
        once = benchmark.numbers.tolist() == list(range(num_runs))
    slots = NUM_NODES * GPUS_PER_NODE
    ideal = num_runs * RUN_SECONDS / slots
    of_slot = seconds * slots / num_runs - RUN_SECONDS
    quarter = len(memory) // 4
    early, late = np.median(memory[:quarter]), np.median(memory[-quarter:])
    print(f"load average                         {os.getloadavg()[1]:.1f}")
    print(f"runs, shards, runs a task            {num_runs:,}, {num_shards}, {runs_per_task}")
    print(f"seconds: {slots} slots without any cost   {ideal:.1f}")
    print(f"seconds: Ray alone, nothing written  {peer:.1f}, from a fifth of the runs")
    print(f"seconds: dtb generate                {seconds:.1f}, {seconds / peer:.2f} of Ray alone")
    print(f"overhead a run, wall clock           {1000 * (seconds - ideal) / num_runs:.1f} ms")
    print(f"overhead a run, of its slot          {1000 * of_slot:.1f} ms")
    print(f"driver's memory, first quarter       {early:.1f} MiB")
    print(f"driver's memory, last quarter        {late:.1f} MiB, {late / early:.3f} of the first")
    print(f"every run exactly once in dtb.h5     {once}")
    print(f"most ends told of one run            {max(finished.values())}")


def measure_plan(folder: Path, num_runs: int) -> None:
    """Plan in a process of its own, then ask for its status in others."""
    settings = [f"space.num_genotypes={num_runs}", "recipe.num_epochs=1", "shard_size=100"]
    code = "import sys; from benchmarks import scale; scale.plan_only(sys.argv[1:])"
    _timed("plan", [sys.executable, "-c", code, str(folder), *settings])
    print(f"  plan.csv {(folder / 'plan.csv').stat().st_size / 2**20:.0f} MiB")
    command = [sys.executable, "-m", "dtb_builder.cli", "status", str(folder)]
    _timed("status, nothing begun", command)
    planned = RunFolder(folder)
    num_closed = planned.num_shards // 2
    for shard in range(num_closed):
        planned.shard_file(shard).touch()  # status counts files, and looks into none
    stand_in.RUN_SECONDS = 0
    for shard in range(num_closed, num_closed + 10):
        planned.working_folder(shard).mkdir()
        for i in range(100):
            pretend(folder, PlannedRun(shard * 100 + i, shard, 0, 0, ""), None)
    _timed(f"status, {num_closed:,} shards closed, 1,000 runs in progress", command)


def plan_only(arguments: list[str]) -> None:
    """Plan without the estimate that `dtb plan` prints, which trains a little."""
    from dtb_builder.commands.composing import compose, ensure_planned

    folder = RunFolder(Path(arguments[0]))
    ensure_planned(folder, arguments[1:], compose(arguments[1:]))


def measure_calibration(folder: RunFolder, settings: list[str]) -> None:
    """Compare the costs that `dtb plan` names with those of the same plan carried out."""
    from dtb_builder.stages.generation.calibrate import calibrated, timings
    from dtb_builder.stages.generation.estimate import estimate

    assert dtb(["plan", str(folder.path), *settings]) == 0
    estimates = {
        "--calibrate": calibrated(folder, list(timings(folder))),
        "a few steps": estimate(folder),
    }
    serial = replace(launch_of("none", 1).cluster, engine="serial", gpus_per_run=None)
    begin = time.perf_counter()
    for _ in generate(folder, replace(launch_of("none", 1), cluster=serial)):
        pass
    seconds = time.perf_counter() - begin
    stored = sum(file.stat().st_size for file in folder.shard_files())
    print(f"plan: {' '.join(settings)}")
    print(f"carried out by one worker: {seconds:.1f} s, {stored / 2**20:.2f} MiB of shards")
    for name, cost in estimates.items():
        took, bytes_off = 3600 * cost.hours, cost.num_bytes / stored - 1
        print(
            f"{name}: {took:.1f} s, {100 * (took / seconds - 1):+.0f} %; "
            f"{cost.num_bytes / 2**20:.2f} MiB, {100 * bytes_off:+.0f} %"
        )


def _timed(name: str, command: list[str]) -> None:
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    cpu = usage.ru_utime + usage.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begin
    assert process.returncode == 0, command
    mib = usage.ru_maxrss / 1024
    print(f"{name}: {seconds:.1f} s, {cpu:.1f} s of a core, at most {mib:.0f} MiB", flush=True)


def main() -> None:
    """Measure one of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("runs", "plan", "calibrate"))
    parser.add_argument("--runs", type=int)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--runs-per-task", type=int, default=50)
    parser.add_argument("settings", nargs="*", help="of calibrate: its plan's")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "runs":
            where = RunFolder(Path(folder) / "run")
            measure_runs(where, given.runs or 10_000, given.shards, given.runs_per_task)
        elif given.what == "calibrate":
            where = RunFolder(Path(folder) / "run")
            measure_calibration(where, given.settings or ["experiment=quickstart"])
        else:
            measure_plan(Path(folder) / "run", given.runs or 1_000_000)


if __name__ == "__main__":
    main()
