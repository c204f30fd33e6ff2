"""Metrics of a generation at the endpoint that Prometheus would read."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

# In a process of its own, so that Ray starts afresh and nothing of it is left.
PROGRAM = """
import sys, time, urllib.request
from pathlib import Path

import ray

from dtb_builder.stages.generation import ray_metrics
from dtb_builder.stages.generation.driver import Progress
from dtb_builder.stages.generation.run_folder import RunFolder

folder, port = RunFolder(Path(sys.argv[1])), int(sys.argv[2])
ray.init(
    address="local", num_cpus=1, include_dashboard=False, _metrics_export_port=port,
    _system_config={"metrics_report_interval_ms": 500},
)
ray_metrics._SECONDS = 0
for _ in ray_metrics.metered(iter([Progress(0)]), folder):
    pass
for _ in range(120):
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        text = ""
    found = [line for line in text.splitlines() if line.startswith("ray_dtb_")]
    if len({line.partition("{")[0] for line in found}) >= 5:
        break
    time.sleep(0.5)
print("\\n".join(found))
"""


def test_rays_endpoint_tells_runs_and_epochs(finished: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(finished), str(port)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    values = {
        line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()
    }
    assert values["ray_dtb_runs_finished"] == 2
    assert values["ray_dtb_epochs"] == 6
    assert values["ray_dtb_runs_given_up"] == 0
    assert f'run_folder="{finished.name}"' in done.stdout
