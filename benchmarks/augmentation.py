"""How fast a batch is augmented, beside a pipeline of PIL images, one at a time.

    python benchmarks/augmentation.py

Both pad, crop, flip, normalise and cut out with the same distribution, on one thread; needs pillow.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from dtb_builder.network import NetworkSpec
from dtb_builder.network.kernels import Library, find_library
from dtb_builder.space import sample_uniform
from dtb_builder.stages.settings.conf import read_conf
from dtb_builder.training import Recipe, environment
from dtb_builder.training.augmentation import augment, augment_compiled
from dtb_builder.training.compute import ComputeConfig
from dtb_builder.training.draws import draw_epoch
from dtb_builder.training.kernels import library_of
from dtb_builder.training.loop import train
from dtb_builder.training.resident import LabelledImages, ResidentImages
from dtb_builder.training.setup import set_up_torch

SIZES = {"C=8 L=5": (8, 5), "C=16 L=8": (16, 8)}
RECIPE = replace(Recipe(**read_conf("recipe/darts")), drop_path_ramp=False)
SIZE = 32


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1920)
    parser.add_argument("--turns", type=int, default=7, help="of each side, A B A B")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=list(SIZES))
    arguments = parser.parse_args()
    set_up_torch(threads=1, deterministic=False)
    print("  ".join(f"{name}={value}" for name, value in environment("cpu").items()))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (arguments.images, 3, SIZE, SIZE), np.uint8)
    sides = {
        "PIL, image by image": pil_epochs(images),
        "ours, in torch": our_epochs(images, None),
    }
    kernels = find_library()
    if isinstance(kernels, Library):
        sides["ours, compiled"] = our_epochs(images, kernels)
    seconds = _timed(
        {name: lambda side=side: next(side) for name, side in sides.items()}, arguments.turns
    )
    per_image = {
        name: statistics.median(times) / arguments.images for name, times in seconds.items()
    }
    slowest = max(per_image.values())
    print(f"\naugmentation, batch {RECIPE.batch_size}, median of {arguments.turns}")
    print("| pipeline | us per image | ratio |\n|---|---|---|")
    for name, value in per_image.items():
        print(f"| {name} | {1e6 * value:.1f} | {slowest / value:.1f} |")
    print("\nshare of a training step that is augmentation")
    print("| network | step, us per image | share |\n|---|---|---|")
    for size in arguments.sizes:
        step = _step_seconds(*SIZES[size])
        print(f"| {size} | {1e6 * step:.0f} | {min(per_image.values()) / step:.2%} |")


def our_epochs(images: np.ndarray, kernels: Library | None) -> Iterator[Tensor]:
    """Epochs as train draws and augments them, channels last; the last batch of each."""
    resident = torch.from_numpy(images)
    part = LabelledImages(resident, torch.zeros(len(images), dtype=torch.int64))
    data = ResidentImages(part, part, part, torch.full((3,), 0.5), torch.full((3,), 0.25))
    for seed in range(10_000):
        batch = torch.empty(0)
        for draws in draw_epoch(
            len(images), RECIPE, size=(SIZE, SIZE), rng=np.random.default_rng(seed)
        ):
            if kernels is None:
                batch = augment(
                    resident[draws.indices], draws, RECIPE, mean=data.mean, std=data.std
                ).contiguous(memory_format=torch.channels_last)
            else:
                batch = augment_compiled(kernels, resident, draws, RECIPE, levels=data.levels)
        yield batch


def pil_epochs(images: np.ndarray) -> Iterator[Tensor]:
    """The same distribution by the usual per-image transforms."""
    pictures = [Image.fromarray(image.transpose(1, 2, 0).copy()) for image in images]
    rng = np.random.default_rng(0)
    while True:
        order, batch = rng.permutation(len(pictures)), torch.empty(0)
        for first in range(0, len(order), RECIPE.batch_size):
            chosen = order[first : first + RECIPE.batch_size]
            batch = torch.from_numpy(np.stack([pil_augment(pictures[i], rng) for i in chosen]))
        yield batch


def pil_augment(picture: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """One image: random crop of a padded image, flip, normalise, cutout."""
    padding, length = RECIPE.crop_padding, RECIPE.cutout_length
    top, left = rng.integers(0, 2 * padding, 2, endpoint=True).tolist()
    picture = ImageOps.expand(picture, padding).crop((left, top, left + SIZE, top + SIZE))
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(picture).transpose(2, 0, 1).astype(np.float32)
    pixels = (pixels / 255 - 0.5) / 0.25
    row, column = (rng.integers(0, SIZE, 2) - length // 2).tolist()
    pixels[:, max(row, 0) : row + length, max(column, 0) : column + length] = 0
    return pixels


def _timed(sides: dict[str, Callable[[], object]], num_turns: int) -> dict[str, list[float]]:
    """Seconds of the process in each turn; the first turn of each, which warms up, is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(num_turns + 1):
        for name, run in sides.items():
            begin = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - begin)
    return seconds


def _step_seconds(channels: int, layers: int) -> float:
    """Of one image in a training step of the first random genotype."""
    spec = NetworkSpec(
        channels=channels, layers=layers, num_classes=10, image_size=SIZE, auxiliary=True
    )
    torch.manual_seed(0)
    network = spec.build(sample_uniform(seed=0, index=0))
    compute = ComputeConfig(device="cpu", threads=1, deterministic=True, kernels="on")
    network.use_kernels(library_of(compute))
    rng, half = np.random.default_rng(0), torch.full((3,), 0.5)

    def part(num_images: int) -> LabelledImages:
        pixels = rng.integers(0, 256, (num_images, 3, SIZE, SIZE), np.uint8)
        return LabelledImages(torch.tensor(pixels), torch.tensor(rng.integers(0, 10, num_images)))

    data = ResidentImages(part(2 * RECIPE.batch_size), part(2), part(2), half, half / 2)
    epochs = train(network, data, RECIPE, seed=0)
    next(epochs)
    seconds = _timed({"train": lambda: next(epochs)}, 3)["train"]
    return statistics.median(seconds) / len(data.train)


if __name__ == "__main__":
    main()
