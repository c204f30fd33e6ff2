"""The random generators of an epoch, which depend only on the run's seed and the epoch's number."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["epoch_rng", "seeded_torch"]


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """The generator for an epoch's order of images and their augmentation."""
    return np.random.default_rng(_sequences(seed, epoch)[0])


@contextmanager
def seeded_torch(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Within, torch's default generators are seeded for an epoch; after it, they are restored.

    Drop-path and dropout use them. Do not yield within, because the caller would draw from them.
    """
    torch_seed = int(_sequences(seed, epoch)[1].generate_state(1, np.uint64)[0] >> 1)
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        # Not torch.manual_seed, which would also seed devices that are not restored.
        torch.default_generator.manual_seed(torch_seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(torch_seed)
        yield


def _sequences(seed: int, epoch: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence([seed, epoch]).spawn(2)
