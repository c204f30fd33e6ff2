"""Where the time of a training step goes, and how far it is from what the machine could do.

    python benchmarks/profile_step.py

Arithmetic: multiplications and additions of all convolutions, forward and twice backward, at the
rate of torch's own product of large matrices. Memory: every map that a pass is given, read or
written once, at the rate of a large copy.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.training import BATCH, IMAGE_SIZE, RECIPE, SIZES, _images
from dtb_builder.network import NetworkSpec
from dtb_builder.network.built import passes_file
from dtb_builder.network.kernels import Library
from dtb_builder.space import sample_uniform
from dtb_builder.training import environment
from dtb_builder.training.loop import train
from dtb_builder.training.setup import set_up_torch


class TimedLibrary(Library):
    """Passes that add up, by name, their seconds, operations and bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.calls: Counter[str] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.operations: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def run(self, name: str, dtype: torch.dtype, *arguments: Tensor | int | float | None) -> None:
        """Call a pass."""
        begin = time.process_time()
        super().run(name, dtype, *arguments)
        self.seconds[name] += time.process_time() - begin
        self.calls[name] += 1
        self.operations[name] += _operations(name, arguments)
        self.bytes[name] += sum(a.numel() * a.itemsize for a in arguments if isinstance(a, Tensor))


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genotypes", type=int, default=4)
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    set_up_torch(threads=1, deterministic=False)
    print("  ".join(f"{name}={value}" for name, value in environment("cpu").items()))
    rate, bandwidth = _rate(), _bandwidth()
    print(
        f"\none thread: {rate / 1e9:.0f} GFLOP/s in products, {bandwidth / 1e9:.1f} GB/s in copies"
    )
    for size in arguments.sizes:
        _profile(size, arguments.genotypes, rate, bandwidth)


def _profile(size: str, num_genotypes: int, rate: float, bandwidth: float) -> None:
    channels, layers = SIZES[size]
    spec = NetworkSpec(
        channels=channels, layers=layers, num_classes=10, image_size=IMAGE_SIZE, auxiliary=True
    )
    path = passes_file()
    assert path is not None
    library = TimedLibrary(path)
    total, num_steps = 0.0, 2 * num_genotypes
    recipe = replace(RECIPE, drop_path_ramp=False)
    for index in range(num_genotypes):
        network = spec.build(sample_uniform(seed=0, index=index))
        network.use_kernels(Library(path))
        epochs = train(network, _images(2, "cpu"), recipe, seed=0)
        next(epochs)
        next(epochs)  # warms up
        network.use_kernels(library)
        begin = time.process_time()
        next(epochs)
        total += time.process_time() - begin
    step = 1000 / num_steps
    print(
        f"\n{size}, batch {BATCH}, mean of {num_genotypes} genotypes: {step * total:.0f} ms a step"
    )
    print("| pass | calls | ms | share | at the rate of products, ms | of copies, ms |")
    print("|---|---|---|---|---|---|")
    for name, seconds in sorted(library.seconds.items(), key=lambda item: -item[1]):
        floor = library.operations[name] / rate
        traffic = library.bytes[name] / bandwidth
        print(
            f"| {name} | {library.calls[name] / num_steps:.0f} | {step * seconds:.1f} "
            f"| {seconds / total:.0%} | {step * floor:.1f} | {step * traffic:.1f} |"
        )
    passes = sum(library.seconds.values())
    floor, traffic = (
        sum(library.operations.values()) / rate,
        sum(library.bytes.values()) / bandwidth,
    )
    print(
        f"| stem, heads, loss, augmentation, SGD | | {step * (total - passes):.1f} "
        f"| {1 - passes / total:.0%} | | |"
    )
    print(f"| all | | {step * total:.1f} | | {step * floor:.1f} | {step * traffic:.1f} |")


def _operations(name: str, arguments: tuple[Tensor | int | float | None, ...]) -> int:
    """Multiplications and additions of a pass's convolutions, recomputed ones not counted."""
    if name in ("block_forward", "block_backward"):
        first = 4 if name == "block_forward" else 12
        images, height, width, channels, kernel, _, stride = _whole(arguments, first, 7)
        pixels = images * -(-height // stride) * -(-width // stride)
        forward = 2 * pixels * channels * (channels + kernel**2)
    elif name in ("pointwise_forward", "pointwise_backward"):
        first = 2 if name == "pointwise_forward" else 10
        images, height, width, channels, step = _whole(arguments, first, 5)
        (outputs,) = _whole(arguments, first + 7, 1)
        forward = 2 * images * -(-height // step) * -(-width // step) * channels * outputs
    else:
        return 0
    return forward if name.endswith("forward") else 2 * forward


def _whole(arguments: tuple[object, ...], first: int, count: int) -> list[int]:
    some = arguments[first : first + count]
    return [value for value in some if isinstance(value, int)]


def _rate() -> float:
    """Multiplications and additions a second in a product of large matrices."""
    one, two = torch.rand(2, 1024, 1024)
    return 2 * 1024**3 / _fastest(lambda: one @ two)


def _bandwidth() -> float:
    """Bytes a second, read and written together, in a copy of a large tensor."""
    one, two = torch.rand(2, 2**25)
    return 2 * one.numel() * one.itemsize / _fastest(lambda: two.copy_(one))


def _fastest(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(8):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()
