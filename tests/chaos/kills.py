"""Killing a real generation, on Ray, in every way a cluster knows, and letting it go on."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from on_ray import dtb_on_ray

from dtb_builder.dataset import Benchmark
from dtb_builder.dataset.journal import read_journal
from dtb_builder.dataset.verify import verify
from dtb_builder.record import METRICS
from dtb_builder.stages.generation.run_folder import RunFolder
from dtb_builder.stages.generation.status import status

__all__ = [
    "SCENARIOS",
    "KillReport",
    "content",
    "kill_and_go_on",
    "plan_branch",
    "terminate_while_starting",
    "uninterrupted",
]

NUM_EPOCHS = 16

PLAN = (
    "images.num_valid=800",
    "network.channels=8",
    "network.layers=4",
    f"recipe.num_epochs={NUM_EPOCHS}",
    "space.num_genotypes=2",
    "shard_size=1",
    "states.steps=[2,9]",
    "states.key_every=3",
    "states.momentum=all",
)
"""Two runs of some seconds each, so that there is time to kill them in their midst."""

_DEADLINE = 180.0
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "PYTHONUNBUFFERED": "1",
}


@dataclass
class KillReport:
    """What a kill cost.

    Attributes:
        num_epochs_before: finished epochs when it struck.
        num_left: runs that were not finished then, as far as it is known; workers that outlive
            their driver may finish all.
        num_epochs_after: epochs trained afterwards.
        num_resumed: runs that went on from their middle.
        fewest_after_resume: epochs that the run that was nearest to its end still had to train.
        num_lost: finished epochs that had to be trained again.
        num_wrong: states and metrics that differ from an uninterrupted generation's.
        num_unreadable: damaged records in the merged file.
        notes: what was seen on the way.
    """

    num_epochs_before: int = 0
    num_left: int = 1
    num_epochs_after: int = 0
    num_resumed: int = 0
    fewest_after_resume: int | None = None
    num_lost: int = 0
    num_wrong: int = 0
    num_unreadable: int = 0
    notes: list[str] = field(default_factory=list)


def content(path: Path) -> dict[Any, Any]:
    """Everything a benchmark says that does not depend on the clock."""
    found: dict[Any, Any] = {}
    with Benchmark(path) as benchmark:
        for run in benchmark:
            for name in METRICS:
                if not name.endswith("seconds"):
                    found[run.number, name] = run.curve(name).filled(-1).tobytes()
            for epoch in range(run.num_epochs + 1):
                found[run.number, "checksum", epoch] = run.state_crc32c(epoch=epoch)
            for moment in run.moments:
                state = run.training_state(step=moment.step)
                place = run.number, moment.epoch, moment.step
                found[place] = (state.values.tobytes(), state.num_batches_tracked)
            for epoch in run.momentum_epochs:
                named = run.momentum(epoch=epoch).items()
                found[run.number, "momentum", epoch] = [(k, v.tobytes()) for k, v in named]
    assert found, f"{path} says nothing"
    return found


def uninterrupted(folder: Path) -> dict[Any, Any]:
    """What a planned folder, or a new one, gives when nobody kills anything, without Ray."""
    command = _command("generate", folder, *_settings(folder), "cluster=serial")
    subprocess.run(command, check=True, **_quiet())
    subprocess.run(_command("merge", folder), check=True, **_quiet())
    return content(folder / "dtb.h5")


def plan_branch(parent: Path, folder: Path) -> None:
    """Plan a folder whose runs go on from the middle of a benchmark's."""
    middle = ("--from", str(NUM_EPOCHS // 2 - 2))
    subprocess.run([*_command("branch", parent), str(folder), *middle], check=True, **_quiet())


def kill_and_go_on(scenario: str, folder: Path, expected: dict[Any, Any]) -> KillReport:
    """Start the plan, strike, let it go on to the end, and compare.

    Args:
        scenario: one of SCENARIOS.
        folder: a new run folder, or a planned one.
        expected: what `uninterrupted` gave.
    """
    report = KillReport()
    SCENARIOS[scenario](folder, report)
    _finish(folder, report)
    trained = Counter(_trained(folder))
    report.num_lost += sum(count - 1 for count in trained.values())
    report.num_epochs_after = len(trained) - report.num_epochs_before
    resumed = [NUM_EPOCHS - epoch for epoch in _resumed(folder)]
    report.num_resumed = len(resumed)
    report.fewest_after_resume = min(resumed, default=None)
    report.num_unreadable += sum(c.error is not None for c in verify(folder / "dtb.h5"))
    found = content(folder / "dtb.h5")
    report.num_wrong = sum(
        found.get(key) != expected.get(key) for key in found.keys() | expected.keys()
    )
    return report


def terminate_while_starting(folder: Path, seconds: float) -> tuple[int, float]:
    """Start the plan and tell it to stop so soon after it has begun to listen.

    Returns:
        its exit code, and the seconds it took to end.
    """
    process = _started(folder)
    try:
        _wait_until(lambda: _listens(process.pid))
        time.sleep(seconds)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        return process.returncode, time.monotonic() - begin
    finally:
        _kill_tree(process.pid)
        process.communicate()


def _listens(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM."""
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def _finish(folder: Path, report: KillReport) -> None:
    # With another number of workers than before, which must not matter either.
    done = dtb_on_ray("generate", folder, "cluster.num_cpus=1")
    if done.returncode:
        report.notes.append(f"going on ended with {done.returncode}: {done.stderr[-500:]}")
    subprocess.run(_command("merge", folder), check=True, **_quiet())


def _command(verb: str, folder: Path, *settings: str) -> list[str]:
    return [sys.executable, "-m", "dtb_builder.cli", verb, str(folder), *settings]


def _settings(folder: Path) -> tuple[str, ...]:
    return () if RunFolder(folder).is_planned else PLAN


def _quiet() -> dict[str, Any]:
    return {"env": os.environ | _ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300}


def _started(folder: Path, *settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command("generate", folder, *_settings(folder), *settings),
        env=os.environ | _ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def _running(folder: Path, *settings: str) -> Iterator[subprocess.Popen[str]]:
    """A generation in whose midst every run is: three epochs are finished, one of each run."""
    process = _amidst(folder, *settings)
    try:
        yield process
    finally:
        _kill_tree(process.pid)
        process.communicate()


def _amidst(folder: Path, *settings: str) -> subprocess.Popen[str]:
    """A generation that is in its midst, started again where Ray did not start in time."""
    while True:
        process = _started(folder, *settings)
        try:
            _wait_until(partial(_is_amidst_or_ended, folder, process))
        except TimeoutError:
            _kill_tree(process.pid)
            raise
        if process.poll() != 75:
            return process
        process.communicate()


def _is_amidst_or_ended(folder: Path, process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None or _is_amidst(folder)


def _is_amidst(folder: Path) -> bool:
    return _num_epochs(folder) >= 3 and min(_epochs_of_runs(folder)) >= 1


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing happened for {_DEADLINE} seconds")
        time.sleep(0.05)


def _num_epochs(folder: Path) -> int:
    return status(RunFolder(folder)).num_epochs if RunFolder(folder).is_planned else 0


def _note_epochs(folder: Path, report: KillReport) -> None:
    """Count what was finished, once nobody works on it any more."""
    epochs = list(_epochs_of_runs(folder))
    report.num_epochs_before += sum(epochs)
    report.num_left = sum(each <= NUM_EPOCHS for each in epochs)


def _epochs_of_runs(folder: Path) -> Iterator[int]:
    """How many epochs of each run are finished, epoch 0 included."""
    planned = RunFolder(folder)
    for run in planned.plan():
        file = planned.journal_file(run)
        if planned.shard_file(run.shard).exists():
            yield NUM_EPOCHS + 1
        else:
            journal = read_journal(file) if file.exists() else None
            yield len(journal.epochs) if journal else 0


def _resumed(folder: Path) -> Iterator[int]:
    """The epochs after which runs went on, by their logs."""
    for log in sorted((folder / "logs").glob("*.log")):
        for match in re.finditer(r"goes on after epoch (\d+)", log.read_text()):
            yield int(match[1])


def _trained(folder: Path) -> Iterator[tuple[str, int]]:
    """Every epoch that was trained and stored, as often as it was, by the runs' logs."""
    for log in sorted((folder / "logs").glob("*.log")):
        for match in re.finditer(r" INFO epoch (\d+): ", log.read_text()):
            yield log.stem, int(match[1])


# Processes.


def _processes() -> dict[int, tuple[int, str]]:
    """Every process's parent and command line."""
    found: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, ValueError):
                continue
            found[int(entry.name)] = (parent, command)
    return found


def _tree(root: int) -> list[int]:
    processes = _processes()
    tree = [root]
    for pid in tree:
        tree += [child for child, (parent, _) in processes.items() if parent == pid]
    return tree


def _kill_tree(root: int) -> None:
    for pid in _tree(root):
        _kill(pid)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _workers(root: int | None = None) -> list[int]:
    """The processes that train, of a generation or of any."""
    tree = None if root is None else set(_tree(root))
    return [
        pid
        for pid, (_, command) in _processes().items()
        if command.startswith("ray::train_run") and (tree is None or pid in tree)
    ]


# Scenarios.


def _kill_a_worker(folder: Path, report: KillReport) -> None:
    with _running(folder) as process:
        _wait_until(lambda: bool(_workers(process.pid)))
        report.num_epochs_before = _num_epochs(folder)
        _kill(_workers(process.pid)[0])
        _, _ = process.communicate(timeout=_DEADLINE)
        report.notes.append(f"the generation went on by itself and ended with {process.returncode}")


def _kill_the_driver(folder: Path, report: KillReport) -> None:
    with _running(folder) as process:
        tree = _tree(process.pid)
        _kill(process.pid)
        process.wait()
        _wait_until(lambda: not set(tree) & set(_workers()))
        _note_epochs(folder, report)


def _kill_everything(folder: Path, report: KillReport) -> None:
    with _running(folder) as process:
        _kill_tree(process.pid)
        process.wait()
    _note_epochs(folder, report)


def _terminate(folder: Path, report: KillReport) -> None:
    with _running(folder) as process:
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        seconds = time.monotonic() - begin
        report.notes.append(f"exit code {process.returncode} after {seconds:.1f} s")
        if process.returncode != 75 or seconds > 30:
            report.num_unreadable += 1
            report.notes.append(errors[-500:])
        _note_epochs(folder, report)


def _remove_a_node(folder: Path, report: KillReport) -> None:
    from ray.cluster_utils import Cluster

    os.environ.update(_ENVIRONMENT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "num_gpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        settings = (f"cluster.address={cluster.address}", "cluster.gpus_per_run=1")
        with _running(folder, *settings) as process:
            report.num_epochs_before = _num_epochs(folder)
            cluster.remove_node(nodes[0], allow_graceful=False)
            process.communicate(timeout=_DEADLINE)
            report.notes.append(f"one node left; the generation ended with {process.returncode}")
    finally:
        cluster.shutdown()


def _run_out_of_memory(folder: Path, report: KillReport) -> None:
    """Take so much memory that Ray's monitor kills a worker, then give it back."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = _available_bytes()
    used = 1 - available / total
    threshold = used + 0.12
    monitor = {
        "RAY_memory_usage_threshold": f"{threshold:.3f}",
        "RAY_memory_monitor_refresh_ms": "50",
    }
    os.environ.update(monitor)
    try:
        with _running(folder) as process:
            workers = set(_workers(process.pid))
            report.num_epochs_before = _num_epochs(folder)
            balloon: list[bytearray] = []
            end = time.monotonic() + 60
            while workers <= set(_workers(process.pid)) and time.monotonic() < end:
                if _available_bytes() > (1 - threshold - 0.02) * total:
                    balloon.append(bytearray(b"x" * 2**27))
                else:
                    time.sleep(0.02)
            killed = not workers <= set(_workers(process.pid))
            balloon.clear()
            report.notes.append("Ray killed a worker" if killed else "NO worker was killed")
            report.num_unreadable += not killed
            process.communicate(timeout=_DEADLINE)
            report.notes.append(f"the generation ended with {process.returncode}")
    finally:
        for name in monitor:
            del os.environ[name]


def _available_bytes() -> int:
    line = next(x for x in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in x)
    return int(line.split()[1]) * 1024


SCENARIOS: dict[str, Callable[[Path, KillReport], None]] = {
    "kill -9 of a worker": _kill_a_worker,
    "kill -9 of the driver": _kill_the_driver,
    "kill -9 of every process": _kill_everything,
    "SIGTERM": _terminate,
    "a node removed": _remove_a_node,
    "out of memory": _run_out_of_memory,
}
"""The ways to strike."""
