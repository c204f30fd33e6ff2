"""How much of all cores `dtb generate` turns into training, from its start to its end.

    python benchmarks/utilisation.py [SETTING ...]

Trains a plan in a folder of its own and divides the seconds that its epochs took, evaluation and
states included, by the seconds of all cores. Ray's start-up counts against it, and so does the end,
when fewer runs are left than there are cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder import Benchmark, Run
from dtb_builder.cli import main as dtb
from dtb_builder.training import environment

DEFAULTS = (
    "experiment=quickstart",
    "space.num_genotypes=12",
    "recipe.num_epochs=60",
    "shard_size=2",
)
PARTS = ("train_seconds", "evaluation_seconds", "state_seconds")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", nargs="*", help=f"added to {' '.join(DEFAULTS)}")
    arguments = parser.parse_args()
    print("  ".join(f"{name}={value}" for name, value in environment("cpu").items()))
    num_cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        settings = [*DEFAULTS, *arguments.settings]
        if dtb(["plan", str(folder), *settings]):
            raise SystemExit("dtb plan failed")
        begin = time.time()
        busy_before = _busy()
        command = [sys.executable, "-m", "dtb_builder.cli", "generate", str(folder), *settings]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        first = math.nan
        while process.poll() is None:
            if math.isnan(first) and list(folder.glob("working/*/*")):
                first = time.time() - begin
            time.sleep(0.1)
        wall = time.time() - begin
        busy = _busy() - busy_before
        if process.returncode:
            raise SystemExit(f"dtb generate ended with {process.returncode}")
        runs = []
        for shard in sorted((folder / "shards").iterdir()):
            with Benchmark(shard) as benchmark:
                runs += [_seconds(run) for run in benchmark]
    useful = sum(runs)
    print(f"\n{len(runs)} runs of {useful / len(runs):.1f} s on {num_cores} cores")
    print("| what | seconds | share of all cores |\n|---|---|---|")
    print(f"| from launch to end | {wall:.1f} | |")
    print(f"| from launch to the first file of a run | {first:.1f} | |")
    print(f"| training, evaluation, states | {useful:.1f} | {useful / wall / num_cores:.1%} |")
    print(f"| processors busy | {busy:.1f} | {busy / wall / num_cores:.1%} |")
    print(json.dumps({"settings": settings}))


def _seconds(run: Run) -> float:
    return sum(float(run.curve(part).sum()) for part in PARTS)


def _busy() -> float:
    """Seconds that the processors have been busy, together, since the machine started."""
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
