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
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

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

    def prepared(
        self, name: str, dtype: torch.dtype, **arguments: Tensor | int | float | None
    ) -> Callable[[], None]:
        """A call of a pass."""
        call = super().prepared(name, dtype, **arguments)
        operations = _operations(name, arguments)
        tensors = (a for a in arguments.values() if isinstance(a, Tensor))
        num_bytes = sum(a.numel() * a.itemsize for a in tensors)

        def timed() -> None:
            begin = time.process_time()
            call()
            self.seconds[name] += time.process_time() - begin
            self.calls[name] += 1
            self.operations[name] += operations
            self.bytes[name] += num_bytes

        return timed


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
    if path is None:
        raise SystemExit("this installation has no compiled passes to profile")
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


def _operations(name: str, p: Mapping[str, Any]) -> int:
    """Multiplications and additions of a pass's convolutions, recomputed ones not counted."""
    if name in ("block_forward", "block_backward"):
        stride, of_pixel = p["s"], p["C"] * (p["C"] + p["k"] ** 2)
    elif name in ("pointwise_forward", "pointwise_backward"):
        stride, of_pixel = p["step"], p["C"] * p["Co"]
    else:
        return 0
    forward = 2 * p["N"] * -(-p["H"] // stride) * -(-p["W"] // stride) * of_pixel
    return forward if name.endswith("forward") else 2 * forward


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
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()
