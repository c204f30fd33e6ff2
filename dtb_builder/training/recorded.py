"""Record the work for one batch, as a CUDA graph, and replay it for the next batches."""

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
"""Records a function without arguments and returns its replay; may raise RuntimeError."""

_LOG = logging.getLogger(__name__)


class Recorded(Generic[Batch]):
    """A function of a batch that is recorded once and replayed for full batches.

    The first batch is an ordinary call, so that what the function creates on first use, such as
    momentum, exists before the recording. The second batch is recorded. Batches of another size,
    and all batches if the recording fails, are ordinary calls.

    A recording keeps the Python numbers that the function read, such as the learning rate: make a
    new Recorded when they change.

    Args:
        function: the function; tensors that change between batches must be in its argument.
        record: how to record, such as record_cuda_graph.
    """

    def __init__(self, function: Callable[[Batch], Tensor], record: Recorder) -> None:
        self._function = function
        self._record: Recorder | None = record
        self._num_images: int | None = None
        self._inputs: Batch | None = None
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, batch: Batch) -> Tensor:
        """The function's result; the next call may overwrite it."""
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
                _LOG.warning("recording failed, so training is slower: %s", error)
                self._record = None
                return self._function(batch)
        _overwrite(self._inputs, batch)
        return self._replay()


def record_cuda_graph(function: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Record the kernels that a function launches as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function()

    def replay() -> Tensor:
        graph.replay()
        return output

    return replay


def _copy_of(batch: Any) -> Any:
    """A copy of a batch that recordings read; its numbers become tensors."""
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
