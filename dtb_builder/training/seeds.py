"""The random generators of an epoch, which depend only on the run's seed and the epoch's number."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["EpochNumbers", "epoch_rng"]


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """The generator for an epoch's order of images and their augmentation."""
    return np.random.default_rng(_sequences(seed, epoch)[0])


class EpochNumbers:
    """The random numbers that drop-path and dropout draw in an epoch of a run.

    They are torch's own while a part of the epoch is computed, and go on where they were in the
    next part; between them the caller's numbers are torch's, or those of another run.
    """

    def __init__(self, seed: int, epoch: int, device: torch.device) -> None:
        torch_seed = int(_sequences(seed, epoch)[1].generate_state(1, np.uint64)[0] >> 1)
        self._state = torch.Generator().manual_seed(torch_seed).get_state()
        self._of_device: torch.Generator | None = None
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._of_device = torch.cuda.default_generators[index]
            # An object of its own: a CUDA graph draws from the one that it was recorded with.
            self._device_state = self._of_device.clone_state()
            self._device_state.manual_seed(torch_seed)

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Let torch draw from these numbers in the body."""
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self._state)
        device_before = None
        if self._of_device is not None:
            device_before = self._of_device.graphsafe_get_state()
            self._of_device.graphsafe_set_state(self._device_state)
        try:
            yield
        finally:
            self._state = torch.default_generator.get_state()
            torch.default_generator.set_state(before)
            if self._of_device is not None and device_before is not None:
                self._of_device.graphsafe_set_state(device_before)


def _sequences(seed: int, epoch: int) -> list[np.random.SeedSequence]:
    return np.random.SeedSequence([seed, epoch]).spawn(2)
