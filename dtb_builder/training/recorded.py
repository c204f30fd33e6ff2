"""A training step that a device repeats by itself: recorded once, then replayed for each batch."""

import logging
from collections.abc import Callable
from dataclasses import fields

import torch
from torch import Tensor

from dtb_builder.training.draws import BatchDraws, Mixup

__all__ = ["RecordedStep", "Recorder", "Step", "record_cuda_graph"]

Step = Callable[[BatchDraws], Tensor]
"""Trains on a batch; see train_on_batch."""
Recorder = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""Turns a function without arguments into its replay. RuntimeError where it cannot be recorded."""

_LOG = logging.getLogger(__name__)


class RecordedStep:
    """The same steps, of which those of a full batch are replays of one recording.

    To be made anew for each epoch, since a recording keeps the epoch's learning rate and drop-path
    probability. The first batch is trained on as usual, so that whatever is made on the first use,
    such as momentum, is there. Where recording fails, so does nothing else: every batch is then
    trained on as usual.

    Args:
        step: what to record; all it reads of the host must be in its argument.
        record: how.
    """

    def __init__(self, step: Step, record: Recorder) -> None:
        self._step = step
        self._record: Recorder | None = record
        self._num_images: int | None = None
        self._inputs: BatchDraws | None = None
        self._replay: Callable[[], Tensor] | None = None

    def __call__(self, draws: BatchDraws) -> Tensor:
        """What the step returns; valid until the next call."""
        if self._num_images is None:
            self._num_images = len(draws.indices)
            return self._step(draws)
        if self._record is None or len(draws.indices) != self._num_images:
            return self._step(draws)
        if self._replay is None or self._inputs is None:
            self._inputs = _copy_of(draws)
            inputs = self._inputs
            try:
                self._replay = self._record(lambda: self._step(inputs))
            except RuntimeError as error:
                _LOG.warning("steps are not recorded, so they are slower: %s", error)
                self._record = None
                return self._step(draws)
        _overwrite(self._inputs, draws)
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


def _copy_of(draws: BatchDraws) -> BatchDraws:
    """The same draws in memory that stays; the share of a mixup too, as a tensor."""
    mixup = draws.mixup
    return BatchDraws(
        **{name: getattr(draws, name).clone() for name in _tensor_names()},
        mixup=None
        if mixup is None
        else Mixup(mixup.partners.clone(), torch.tensor(mixup.share, device=mixup.partners.device)),
    )


def _overwrite(inputs: BatchDraws, draws: BatchDraws) -> None:
    for name in _tensor_names():
        getattr(inputs, name).copy_(getattr(draws, name))
    if inputs.mixup is not None and draws.mixup is not None:
        inputs.mixup.partners.copy_(draws.mixup.partners)
        assert isinstance(inputs.mixup.share, Tensor)
        inputs.mixup.share.fill_(draws.mixup.share)


def _tensor_names() -> list[str]:
    return [field.name for field in fields(BatchDraws) if field.name != "mixup"]
