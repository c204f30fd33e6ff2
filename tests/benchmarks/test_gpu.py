"""`make gpu` says what is missing where there is no GPU, and its steps go on after one another."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
SMALLEST = "images=digits images.num_train=64 network.channels=4 network.layers=2"

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


def run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit code, and the rows of the table."""
    command = [sys.executable, str(SCRIPT), "--out", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (folder / "gpu.md").read_text().splitlines()[2:]


@without_gpu
def test_without_a_device_every_step_says_so_and_the_command_fails(tmp_path: Path) -> None:
    code, rows = run(tmp_path)
    assert code == 1
    assert [row.split(" | ")[1] for row in rows] == ["no CUDA device"] * 5
    assert len(list(tmp_path.glob("[1-5]-*.log"))) == 5


@without_gpu
def test_what_is_missing_can_be_allowed(tmp_path: Path) -> None:
    code, rows = run(tmp_path, "--part", "2", "--allow-missing")
    assert code == 0
    assert rows[0].startswith("| 2 tests | no CUDA device |")


def test_a_step_that_fails_does_not_stop_the_next(tmp_path: Path) -> None:
    code, rows = run(tmp_path, "--part", "4", "1", "--device", "cpu", "--images", "images=none")
    assert code == 1
    assert rows[0].startswith("| 4 product | failed (1) |")
    assert rows[1].startswith("| 1 device |")


@pytest.mark.ray
def test_the_product_is_planned_killed_resumed_and_reproduced(tmp_path: Path) -> None:
    """On the CPU, which takes the same way."""
    arguments = ("--part", "4", "--device", "cpu", "--no-limits", "--images", SMALLEST)
    code, _ = run(tmp_path, *arguments)
    log = (tmp_path / "4-product.log").read_text()
    assert code == 0, log
    for said in ("killed after an epoch", "passes off: ", "the same bits", "at once by Ray: "):
        assert said in log
