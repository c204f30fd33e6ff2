"""Generation on a GPU, proven step by step; `make gpu` runs this.

    python benchmarks/gpu.py [--part 1 ...] [--reference PATH] [--allow-missing] [--out FOLDER]

Any machine with CUDA, Python 3.11 and torch will do; the package need not be installed. Each step
has a process and a time limit of its own, all together six minutes, and a step that fails does not
stop the next. FOLDER (by default $OUT, or else gpu/) holds a log per step, written as it comes, and
`gpu.md`: the table, written anew after each step. Exit code 0 if every step passed; with
--allow-missing also where there is no CUDA device.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).absolute().parent.parent

NO_DEVICE = 77
"""Exit code of a step without a device."""

PARTS = ("train_seconds", "evaluation_seconds", "state_seconds")
SETTINGS = ("space.num_genotypes=4", "network.channels=16", "network.layers=8")


@dataclass(frozen=True)
class Step:
    """A step, and the seconds that it may take."""

    name: str
    run: Callable[[argparse.Namespace], None]
    seconds: int


def main() -> int:
    """Run the steps, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, nargs="*", choices=range(1, len(STEPS) + 1))
    parser.add_argument("--reference", type=Path, help="a checkout of quark0/darts")
    parser.add_argument("--images", default="images=digits", help="settings of step 4's images")
    parser.add_argument("--device", default="cuda", help="cpu: try steps 4 and 5 without a GPU")
    parser.add_argument("--no-limits", action="store_true", help="of time, for slow machines")
    parser.add_argument("--allow-missing", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "gpu"))
    parser.add_argument("--step", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        if arguments.device == "cuda" and not torch.cuda.is_available():
            print("no CUDA device")
            return NO_DEVICE
        STEPS[arguments.step - 1].run(arguments)
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    codes: list[int] = []
    with _package() as environ:
        for number in arguments.part or range(1, len(STEPS) + 1):
            code, seconds, last = _run(number, arguments, environ)
            said = {0: "passed", NO_DEVICE: "no CUDA device"}.get(code, f"failed ({code})")
            rows.append(f"| {number} {STEPS[number - 1].name} | {said} | {seconds:.0f} | {last} |")
            codes.append(code)
            print(rows[-1], flush=True)
            table = ["| step | result | seconds | last line |", "|---|---|---|---|", *rows]
            (arguments.out / "gpu.md").write_text("\n".join(table) + "\n")
    print((arguments.out / "gpu.md").read_text())
    passed = {0, NO_DEVICE} if arguments.allow_missing else {0}
    return 0 if set(codes) <= passed else 1


def _run(
    number: int, arguments: argparse.Namespace, environ: dict[str, str]
) -> tuple[int, float, str]:
    """A step in a process of its own: exit code, seconds, and the last line that it wrote."""
    step = STEPS[number - 1]
    log = arguments.out / f"{number}-{step.name.replace(' ', '-')}.log"
    command = [sys.executable, "-u", __file__, "--step", str(number), "--images", arguments.images]
    command += ["--device", arguments.device]
    if arguments.reference is not None:
        command += ["--reference", str(arguments.reference)]
    begin = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, env=environ
        )
        try:
            code = process.wait(None if arguments.no_limits else step.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            file.write(f"stopped after {step.seconds} s\n".encode())
    lines = log.read_text(errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return code, time.perf_counter() - begin, last.replace("|", "/")


@contextlib.contextmanager
def _package() -> Iterator[dict[str, str]]:
    """The environment in which this checkout is the package, laid out as if it were installed."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "dtb_builder"
        package.mkdir()
        for part in (*(ROOT / "dtb_builder").iterdir(), ROOT / "conf"):
            (package / part.name).symlink_to(part)
        paths = [folder, str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(filter(None, paths))
        # A process would otherwise look for packages where it stands first.
        yield {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _device(_: argparse.Namespace) -> None:
    """What is here, what is imported without Ray and Hydra, and whether NVRTC takes passes.cu."""
    from dtb_builder.network.kernels import nvrtc
    from dtb_builder.training.environment import environment

    major, minor = torch.cuda.get_device_capability()
    print("  ".join(f"{name}={value}" for name, value in environment("cuda").items()))
    if shutil.which("nvidia-smi"):
        query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        subprocess.run(["nvidia-smi", *query], check=False)
    for name in ("ray", "hydra", "h5py", "hdf5plugin", "crc32c", "pytest"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
        print(f"{name}: {'here' if name in sys.modules else 'missing'}")
    blocked = "import sys; sys.modules.update(ray=None, hydra=None, omegaconf=None); "
    modules = "dtb_builder.training.loop, dtb_builder.stages.generation.worker"
    subprocess.run([sys.executable, "-c", f"{blocked}import {modules}"], check=True)
    print("imports without Ray and Hydra")
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        begin = time.perf_counter()
        binary = nvrtc.compiled(f"sm_{major}{minor}", dtype)
        print(f"passes.cu for {dtype}: {len(binary)} bytes, {time.perf_counter() - begin:.2f} s")


def _tests(_: argparse.Namespace) -> None:
    """The tests that need a device."""
    folders = [str(ROOT / "tests" / name) for name in ("network", "training")]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    subprocess.run([*command, *folders], check=True, cwd=ROOT)


def _speed(arguments: argparse.Namespace) -> None:
    """Steps of two genotypes beside the reference's; runs together in a process, and packed.

    What is new comes first: this step has a time limit.
    """
    command = [sys.executable, "-u", str(ROOT / "benchmarks" / "training.py"), "--device", "cuda"]
    command += ["--genotypes", "2", "--turns", "2", "--steps", "60", "--modules"]
    if arguments.reference is not None:
        command += ["--reference", str(arguments.reference)]
    subprocess.run(command, check=True)
    one = [*command, "--genotypes", "1", "--turns", "1", "--sizes", "C=16 L=8"]
    one += ["--packed-seconds", "4"]
    numbers = ["1", "2", "4", "8"]
    for activations in ("float32", "bfloat16"):
        together = ["--together", *numbers, "--activations", activations]
        subprocess.run([*one, *together], check=True)
    with _mps():
        subprocess.run([*one, "--packed", *numbers], check=True)
    subprocess.run([*one, "--packed", *numbers], check=True)


@contextlib.contextmanager
def _mps() -> Iterator[None]:
    """NVIDIA's multi-process service, where it can be started."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        print("no nvidia-cuda-mps-control here: nothing is with MPS", flush=True)
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CUDA_MPS_PIPE_DIRECTORY"] = os.environ["CUDA_MPS_LOG_DIRECTORY"] = folder
        started = subprocess.run([control, "-d"], check=False).returncode == 0
        print("with MPS" if started else "MPS did not start: without it", flush=True)
        try:
            yield
        finally:
            if started:
                subprocess.run([control], input=b"quit\n", check=False)


def _product(arguments: argparse.Namespace) -> None:
    """Plan, generate, kill, resume, merge, verify, reproduce, score; with passes and without."""
    compute = f"compute={arguments.device}"
    settings = [
        compute,
        *SETTINGS,
        "recipe.num_epochs=3",
        "shard_size=2",
        *arguments.images.split(),
    ]
    with tempfile.TemporaryDirectory() as name:
        for kernels in ("on", "off"):
            own = [*settings, f"compute.kernels={kernels}", "cluster=serial"]
            _generate(Path(name) / kernels, f"passes {kernels}", *own)
        folder = Path(name) / "killed"
        _dtb("plan", str(folder), *settings, "space.num_genotypes=1", "cluster=serial")
        _kill_after_an_epoch(folder)
        _dtb("generate", str(folder), "cluster=serial")
        _dtb("merge", str(folder))
        file = str(folder / "dtb.h5")
        _dtb("verify", file, "--deep")
        _dtb("reproduce", file, "--run", "0")
        few = ["scores=[wot,num_parameters]", "num_images=16", "num_reference=null"]
        _dtb("score", file, compute, "cluster=serial", *few)
        with contextlib.suppress(ImportError):
            importlib.import_module("ray")
            own = [*settings, "cluster.runs_per_task=2", "cluster.together=2"]
            if arguments.device == "cuda":
                own.append("cluster.gpus_per_run=0.25")
            folder = Path(name) / "ray"
            _generate(folder, "passes on, at once by Ray", *own, apart=True)


def _generate(folder: Path, name: str, *settings: str, apart: bool = False) -> None:
    """Generate and merge, and say what came of the time, to which a start of Ray belongs."""
    from dtb_builder import Benchmark

    begin = time.perf_counter()
    _dtb("generate", str(folder), *settings, apart=apart)
    wall = time.perf_counter() - begin
    _dtb("merge", str(folder))
    with Benchmark(folder / "dtb.h5") as benchmark:
        epochs = sum(run.curve("train_seconds").count() for run in benchmark)
        useful = sum(float(run.curve(part).sum()) for run in benchmark for part in PARTS)
    outside = f"{1 - useful / wall:.0%} of {wall:.1f} s outside training, evaluation and states"
    print(f"{name}: {3600 * epochs / wall:.0f} epochs per hour, {outside}", flush=True)


def _kill_after_an_epoch(folder: Path) -> None:
    """Begin a generation, and kill it without a warning once a journal has grown."""
    process = subprocess.Popen([*_DTB, "generate", str(folder), "cluster=serial"])
    while process.poll() is None and not list(folder.glob("working/*/*.epoch-1.checkpoint")):
        time.sleep(0.02)
    assert process.poll() is None, "the generation ended before it could be killed"
    process.kill()
    process.wait()
    print("killed after an epoch", flush=True)


def _slowest(arguments: argparse.Namespace) -> None:
    """What a step launches, by the time that the device spends on it."""
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.training import RECIPE, SIZES, _images, _our_turns
    from dtb_builder.network import NetworkSpec
    from dtb_builder.network.kernels import find_library
    from dtb_builder.space import sample_uniform
    from dtb_builder.training.setup import set_up_torch

    set_up_torch(threads=1, deterministic=True)
    channels, layers = SIZES["C=16 L=8"]
    spec = NetworkSpec(
        channels=channels, layers=layers, num_classes=10, image_size=32, auxiliary=True
    )
    network = spec.build(sample_uniform(seed=0, index=0))
    network.use_kernels(find_library(arguments.device))
    turns = _our_turns(network, RECIPE, _images(4, arguments.device))
    next(turns)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as profiled:
        next(turns)
        if arguments.device == "cuda":
            torch.cuda.synchronize()
    by = "self_device_time_total" if arguments.device == "cuda" else "self_cpu_time_total"
    print(profiled.key_averages().table(sort_by=by, row_limit=25))


_DTB = (sys.executable, "-m", "dtb_builder.cli")


def _dtb(*arguments: str, apart: bool = False) -> None:
    """Give the command in this process or in another, again where Ray did not start in time."""
    from dtb_builder.cli import main

    print("dtb", *arguments, flush=True)
    code = 75
    for _ in range(3):
        if apart:
            code = subprocess.run([*_DTB, *arguments], check=False).returncode
        else:
            code = main(list(arguments))
        if code != 75:
            break
    if code:
        raise SystemExit(f"dtb {arguments[0]} ended with {code}")


STEPS = (
    Step("device", _device, 40),
    Step("tests", _tests, 70),
    Step("speed", _speed, 140),
    Step("product", _product, 80),
    Step("slowest", _slowest, 30),
)


if __name__ == "__main__":
    raise SystemExit(main())
