"""A person's own score: what it is given, and what it must not do."""

import copy
import math
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dtb_builder.errors import ScoreError
from dtb_builder.network.layout import make_contiguous
from dtb_builder.network.network import Network
from dtb_builder.scores.probed import full_precision
from dtb_builder.scores.scoring import Probe, Scored

__all__ = ["OwnScore", "own_score", "score_own", "training_copy"]

OwnScore = Callable[[nn.Module, Tensor, Tensor], Any]
"""From a network, images and labels to a number, the larger the better."""


def score_own(
    scored: Scored, network: nn.Module, probe: Probe, own: Mapping[str, OwnScore]
) -> None:
    """Add own scores of a network on a probe, each with its seconds or why it has none."""
    for name, score in own.items():
        begin = time.perf_counter()
        try:
            scored.values[name] = own_score(score, network, probe.images, probe.labels)
        except ScoreError as error:
            scored.errors[name] = f"ScoreError: {error}"
        else:
            scored.seconds[name] = time.perf_counter() - begin


def own_score(score: OwnScore, network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """What a score makes of a `training_copy` of a network, and of contiguous images.

    Raises:
        ScoreError: it raises, gives no finite number, changes the network's parameters, or draws
            from a global generator, so that a second call would give another number.
    """
    copied = training_copy(network)
    names = [name for name, _ in copied.named_parameters()]
    images, labels = images.clone(memory_format=torch.contiguous_format), labels.clone()
    with _generators_put_back() as drawn, torch.enable_grad(), full_precision(images.device):
        try:
            value = float(score(copied, images, labels))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise ScoreError(
                f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            ) from error
    if drawn:
        raise ScoreError(f"it draws from the global generator of {drawn[0]}: give it its own")
    before, after = dict(network.named_parameters()), dict(copied.named_parameters())
    for name in names:
        if name not in after or not _same(after[name], before[name]):
            raise ScoreError(f"it changes the parameter {name}: let it change a copy.deepcopy")
    if not math.isfinite(value):
        raise ScoreError(f"it is {value}")
    return value


def training_copy(network: nn.Module) -> nn.Module:
    """A deep copy in training mode that gives logits alone: no auxiliary head, no drop-path.

    So batch norms use their batch's statistics, as in `probed_copy`. Weights and maps are
    contiguous, for hooks that flatten maps by ``view``. The copy has no gradients.
    """
    copied = copy.deepcopy(network).train()
    make_contiguous(copied)
    if isinstance(copied, Network):
        copied.auxiliary_head = None
        copied.set_drop_path(0)
        copied.use_kernels(None)
    copied.zero_grad(set_to_none=True)
    return copied


def _same(found: Tensor, wanted: Tensor) -> bool:
    """Equal numbers, of whatever type; a NaN equals a NaN."""
    if found.shape != wanted.shape:
        return False
    return bool(((found == wanted) | (found.isnan() & wanted.isnan())).all())


@contextmanager
def _generators_put_back() -> Iterator[list[str]]:
    """Leave the global generators as they were; gives the names of those that the body used."""
    before, used = _generators(), []
    try:
        yield used
    finally:
        after = _generators()
        used += [name for name in before if not _same_state(after[name], before[name])]
        torch.set_rng_state(before["torch"])
        np.random.set_state(before["numpy.random"])  # noqa: NPY002 - the global one
        random.setstate(before["random"])
        if "torch.cuda" in before:
            torch.cuda.set_rng_state(before["torch.cuda"])


def _generators() -> dict[str, Any]:
    states = {
        "torch": torch.get_rng_state(),
        "numpy.random": np.random.get_state(),  # noqa: NPY002 - the global one
        "random": random.getstate(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state()
    return states


def _same_state(one: Any, other: Any) -> bool:
    """Of a generator: torch's is a tensor, numpy's a tuple with an array, Python's a tuple."""
    if isinstance(one, tuple):
        return all(map(_same_state, one, other))
    return bool((one == other).all()) if isinstance(one, Tensor | np.ndarray) else one == other
