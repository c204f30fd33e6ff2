"""Where an epoch's randomness comes from: its run's seed and its number, nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["epoch_rng", "seeded_torch"]


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """What decides about an epoch's images."""
    return np.random.default_rng(_sequences(seed, epoch)[0])


@contextmanager
def seeded_torch(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Let drop-path and dropout draw an epoch's numbers, and then forget that they did.

    Not to be held over a yield: the caller's own numbers would become the epoch's.
    """
    torch_seed = int(_sequences(seed, epoch)[1].generate_state(1, np.uint64)[0] >> 1)
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        # Not torch.manual_seed, which would also seed the devices that are not forked.
        torch.default_generator.manual_seed(torch_seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(torch_seed)
        yield


def _sequences(seed: int, epoch: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence([seed, epoch]).spawn(2)
