"""What a device does for each batch and can repeat by itself: recorded once, then replayed."""

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from dtb_builder.training.draws import BatchDraws
from dtb_builder.training.resident import LabelledImages

__all__ = ["Recorded", "Recorder", "record_cuda_graph"]

Batch = TypeVar("Batch", BatchDraws, LabelledImages)
Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Turns a function without arguments into its replay. RuntimeError where it cannot be recorded."""

_LOG = logging.getLogger(__name__)


class Recorded(Generic[Batch]):
    """The same function of a batch; calls with a full batch are replays of one recording.

    A recording holds the host's numbers that the function read, such as an epoch's learning rate:
    make a new one when they change. The function is called as usual for the first batch, so that
    whatever it makes on first use, such as momentum, exists before the recording. If recording
    fails, every batch is computed by a usual call.

    Args:
        function: what to record; all else that it reads of the host must be in its argument.
        record: how.
    """

    def __init__(self, function: Callable[[Batch], Tensor], record: Recorder) -> None:
        self._function = function
        self._record: Recorder | None = record
        self._num_images: int | None = None
        self._inputs: Batch | None = None
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """What the function returns; valid until the next call."""
        if self._num_images is None:
            self._num_images = len(batch)
            return self._function(batch)
        if self._record is None or len(batch) != self._num_images:
            return self._function(batch)
        if self._replay is None or self._inputs is None:
            self._inputs = inputs = _copy_of(batch)
            try:
                self._replay = self._record(lambda: self._function(inputs))
            except RuntimeError as error:
                _LOG.warning("batches are not recorded, so they are slower: %s", error)
                self._record = None
                return self._function(batch)
        _overwrite(self._inputs, batch)
        return self._replay()


def record_cuda_graph(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The kernels that a function launches, as one graph on its device."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def _copy_of(batch: Any) -> Any:
    """The same batch in memory that stays; numbers, too, as tensors."""
    copies: dict[str, Any] = {}
    device = getattr(batch, fields(batch)[0].name).device
    for field in fields(batch):
        match getattr(batch, field.name):
            case Tensor() as value:
                copies[field.name] = value.clone()
            case float() as value:
                copies[field.name] = torch.tensor(value, device=device)
            case value:
                copies[field.name] = None if value is None else _copy_of(value)
    return type(batch)(**copies)


def _overwrite(inputs: Any, batch: Any) -> None:
    for field in fields(batch):
        into, value = getattr(inputs, field.name), getattr(batch, field.name)
        match value:
            case Tensor():
                into.copy_(value)
            case float():
                into.fill_(value)
            case _ if value is not None:
                _overwrite(into, value)
