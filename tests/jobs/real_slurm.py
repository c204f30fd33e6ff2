"""jobs/slurm/array.sh on a real Slurm: stopped in every way that Slurm knows, equal in the end.

`make slurm-test` runs it, as root on Debian. It installs slurm-wlm and munge where they are
missing, starts a controller and two nodes on loopback, and leaves nothing behind but the packages.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from told import command, say

from dtb_builder import Benchmark
from dtb_builder.record import METRICS

ROOT = Path(__file__).parents[2]
DTB = Path(sys.executable).with_name("dtb")
SETTINGS = [
    "experiment=quickstart",
    "network.channels=4",
    "space.num_genotypes=8",
    "shard_size=2",
    "recipe.num_epochs=12",
    "images.num_train=200",
]


def until(look: Callable[[], Any], what: str, *, seconds: float = 120) -> Any:
    """Wait until something is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise TimeoutError(f"not within {seconds:g} seconds: {what}")


def install() -> None:
    if shutil.which("slurmctld") and shutil.which("slurmd") and shutil.which("munged"):
        return
    say("installing slurm-wlm and munge")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    command("apt-get", "update", "-qq")
    command("apt-get", "install", "-qq", "--no-install-recommends", "slurm-wlm", "munge")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def started(folder: Path) -> Iterator[None]:
    """A munged, a controller and two nodes, all in one folder; SLURM_CONF leads to them."""
    controller, first, second = free_ports(3)
    cgroup = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1"
    (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/{cgroup}\n")
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    # A requeued job waits for as long as a credential lives, 120 seconds unless this says less.
    (folder / "slurm.conf").write_text(f"""\
ClusterName=dtb
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
SlurmdTimeout=10
KillWait=20
ReturnToService=2
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={first} CPUs=1 RealMemory=2000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={second} CPUs=1 RealMemory=2000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
    (folder / "state").mkdir()
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    daemons = [
        [
            *("munged", "--foreground", "--force"),
            f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munge.pid",
            f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        ],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    path = f"/usr/sbin:/sbin:{os.environ['PATH']}"
    try:
        with (folder / "daemons.log").open("wb") as log:
            for daemon in daemons:
                running.append(
                    subprocess.Popen(
                        daemon, stdout=log, stderr=log, env=os.environ | {"PATH": path}
                    )
                )
                if daemon[0] == "munged":
                    until((folder / "munge.socket").exists, "munged listens")
        until(lambda: nodes() == ["idle", "idle"], "two idle nodes", seconds=60)
        yield
    finally:
        for daemon in reversed(running):
            daemon.terminate()
        for daemon in running:
            daemon.wait(timeout=60)
        for process in processes(f"SLURM_CONF={folder}/slurm.conf"):  # of a test that failed
            if process != os.getpid():
                os.kill(process, signal.SIGKILL)


def nodes() -> list[str]:
    with contextlib.suppress(RuntimeError):
        return command("sinfo", "-h", "-N", "-o", "%t").split()
    return []


class Array:
    """A submitted array and its run folder."""

    def __init__(self, folder: Path, run_folder: Path) -> None:
        self._logs = folder
        self._run_folder = run_folder
        self._id = ""

    def submit(self, tasks: str, *options: str, settings: list[str]) -> None:
        os.environ |= {"DTB_RUN_FOLDER": str(self._run_folder), "DTB_SHARDS_PER_TASK": "1"}
        said = command(
            *("sbatch", "--parsable", f"--chdir={self._logs}", f"--array={tasks}", *options),
            *(ROOT / "jobs/slurm/array.sh", *settings),
        )
        self._id = said.strip()
        say(f"sbatch --array={tasks} {' '.join(options)}: job {self._id}")

    def name(self, task: int) -> str:
        return f"{self._id}_{task}"

    def state(self, task: int) -> str:
        """As squeue has it: PD, R, CG; empty when it is gone."""
        found = command("squeue", "-h", "-r", "-t", "all", "-o", "%K %t", "-j", self._id)
        states = dict(line.split() for line in found.splitlines())
        return states.get(str(task), "")

    def exit_code(self, task: int) -> str:
        shown = command("scontrol", "show", "job", self.name(task))
        return next(word for word in shown.split() if word.startswith("ExitCode=")).partition("=")[
            2
        ]

    def log(self, task: int) -> str:
        file = self._logs / f"dtb-{self._id}-{task}.log"
        return file.read_text() if file.exists() else ""

    def wait_until_it_trains(self, task: int) -> None:
        def num_epochs() -> int:
            logs = (self._run_folder / f"logs/run-{2 * task + i:08d}.log" for i in range(2))
            return sum(log.read_text().count("train_loss") for log in logs if log.exists())

        before = num_epochs()
        until(lambda: num_epochs() >= before + 3, f"task {task} trains")

    def wait_until_done(self, task: int) -> None:
        def state() -> str:
            found = self.state(task)
            assert found not in ("F", "NF", "TO"), f"task {task}: {found}\n{self.log(task)}"
            return found if found in ("CD", "") else ""

        until(state, f"task {task} done")
        assert "1 of 1 shards closed" in self.log(task), self.log(task)


def processes(*variables: str) -> list[int]:
    """The processes that have these variables, as NAME=VALUE, in their environment."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
            if set(variables) <= set(environment):
                found.append(int(entry.name))
    return found


def of_job(job: str) -> list[int]:
    """The processes of an array's task."""
    array, _, task = job.partition("_")
    return processes(f"SLURM_ARRAY_JOB_ID={array}", f"SLURM_ARRAY_TASK_ID={task}")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def stepd(job: str) -> int:
    """The slurmstepd of a job: the parent of its batch script."""
    own = of_job(job)
    (above,) = {parent(process) for process in own} - set(own)
    assert "slurmstepd" in Path(f"/proc/{above}/cmdline").read_text()
    return above


def worker(job: str) -> int:
    """The dtb of a job."""
    (found,) = [
        process
        for process in of_job(job)
        if b"generate" in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    ]
    return found


def pause(array: Array, task: int) -> int:
    """Wait until a task trains, and stop its dtb in its tracks; returns the process."""
    array.wait_until_it_trains(task)
    process = worker(array.name(task))
    os.kill(process, signal.SIGSTOP)
    return process


def stop_in_every_way(folder: Path, run_folder: Path) -> None:
    array = Array(folder, run_folder)
    array.submit("0-3", settings=[*SETTINGS, "cluster=serial"])  # two plan the folder at once

    paused = [pause(array, 0), pause(array, 1)]  # so that no task is done before its turn

    # Slurm 22.05 sends it, says that it could not, and tries again for a minute.
    telling = subprocess.Popen(
        ["scancel", "--signal=TERM", "--batch", array.name(0)], stderr=subprocess.DEVNULL
    )
    os.kill(paused[0], signal.SIGCONT)
    until(lambda: array.state(0) == "F", "task 0 over")
    telling.kill()
    telling.wait()
    assert "dtb: told to stop" in array.log(0), array.log(0)
    say(f"TERM to task 0: exit {array.exit_code(0)}, not in the queue again")
    assert array.exit_code(0) == "75:0"

    command("scontrol", "requeue", array.name(1))
    os.kill(paused[1], signal.SIGCONT)
    until(lambda: array.state(1) == "PD", "task 1 in the queue again")
    say("scontrol requeue of task 1: in the queue again")

    paused = [pause(array, 2), pause(array, 3)]
    command("scancel", array.name(2))
    os.kill(paused[0], signal.SIGCONT)
    until(lambda: array.state(2) == "CA", "task 2 cancelled")
    say("scancel of task 2: cancelled, not in the queue again")

    step = stepd(array.name(3))
    for process in [step, *of_job(array.name(3))]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    say("kill -9 of slurmstepd and all of task 3, as when its node dies")

    limited = Array(folder, run_folder)
    limited.submit("2", "--time=1", "--signal=B:USR1@50", settings=["cluster=serial"])
    again = Array(folder, run_folder)
    again.submit("0", settings=["cluster=serial"])
    held = pause(limited, 2)
    until(lambda: "time limit is near" in limited.log(2), "SIGUSR1 by Slurm")
    os.kill(held, signal.SIGCONT)
    # On an idle node it starts, and ends, at once.
    until(
        lambda: limited.state(2) == "PD" or limited.log(2).count("dtb: job") == 2,
        "task 2 in the queue again",
    )
    if limited.state(2) == "PD":
        command("scontrol", "update", f"JobId={limited.name(2)}", "TimeLimit=60")
    say("time limit of task 2: told before, in the queue again")

    array.wait_until_done(1)
    assert array.log(1).count("dtb: job") == 2  # the log of the first try is still there
    say("task 1 done, with the log of both tries")
    array.wait_until_done(3)
    assert array.log(3).count("dtb: job") == 2
    say("task 3 done: Slurm itself had put it back")
    assert [array.state(0), array.state(2)] == ["F", "CA"]
    again.wait_until_done(0)
    limited.wait_until_done(2)
    say("tasks 0 and 2 done")


def compare(one: Path, other: Path) -> None:
    """Both benchmarks have the same runs, metrics and states, seconds apart."""
    num_states = 0
    with Benchmark(one) as left, Benchmark(other) as right:
        assert len(left) == len(right) == 8
        for run in left:
            twin = right.run(run.number)
            assert str(run.genotype) == str(twin.genotype)
            for metric in METRICS:
                if not metric.endswith("_seconds"):
                    np.testing.assert_array_equal(run.curve(metric), twin.curve(metric))
            for epoch in run.state_epochs:
                state, same = run.state(epoch=int(epoch)), twin.state(epoch=int(epoch))
                assert state.keys() == same.keys()
                assert all(np.array_equal(state[name], same[name]) for name in state)
                num_states += 1
    say(f"{num_states} states and all curves equal to a serial run")


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that it cleans up after itself
    install()
    os.environ["PATH"] = f"{DTB.parent}:{os.environ['PATH']}"
    os.environ.pop("DTB_JOBS", None)
    with tempfile.TemporaryDirectory(prefix="dtb-slurm-") as name:
        folder = Path(name)
        os.environ["DTB_JOBS"] = str(ROOT / "jobs")
        serial = subprocess.Popen(
            [DTB, "generate", folder / "serial", *SETTINGS, "cluster=serial"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with started(folder):
            say(f"{command('sinfo', '--version').strip()}, nodes {nodes()}")
            try:
                stop_in_every_way(folder, folder / "array")
            except BaseException:
                print(command("squeue", "-r", "-t", "all"))
                print(command("tail", "-n", "30", *folder.glob("*.log")))
                raise
        assert serial.wait(timeout=300) == 0
        print(command(DTB, "status", folder / "array", "--check"))
        for run_folder in ("array", "serial"):
            command(DTB, "merge", folder / run_folder)
        compare(folder / "array" / "dtb.h5", folder / "serial" / "dtb.h5")
    say("1 passed, 0 failed")


if __name__ == "__main__":
    main()
