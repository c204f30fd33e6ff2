"""The records of a run that training makes and dataset stores."""

import math
import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dtb_builder.remembered import remembered

__all__ = [
    "HIGHER_IS_BETTER",
    "METRICS",
    "TRAINED_HERE",
    "Moment",
    "TensorTable",
    "TrainingState",
    "is_logarithmic",
    "whole_number",
]

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "train_loss": "mean loss over the epoch's augmented training images, as trained on",
        "train_accuracy": "share of those images classified correctly, in [0, 1]",
        "valid_loss": "mean loss over the valid split after the epoch",
        "valid_accuracy": "share of the valid split classified correctly, in [0, 1]",
        "test_loss": "mean loss over the test split after the epoch",
        "test_accuracy": "share of the test split classified correctly, in [0, 1]",
        "learning_rate": "learning rate during the epoch",
        "train_seconds": "wall-clock seconds of the epoch's training steps",
        "evaluation_seconds": "wall-clock seconds of evaluating valid and test",
        "state_seconds": "wall-clock seconds of capturing and compressing the state",
    }
)
"""Every metric's name and meaning. Epoch 0 has no training metrics, since nothing was trained."""


HIGHER_IS_BETTER: Mapping[str, bool] = MappingProxyType(
    {
        name: name.endswith("accuracy")
        for name in METRICS
        if name.endswith(("accuracy", "loss", "seconds"))
    }
)
"""Whether a larger value is better, for the metrics that can be better or worse."""


def whole_number(name: str, value: SupportsIndex) -> int:
    """A whole number as an int, for an argument called ``name``.

    Raises:
        TypeError: the value is not a whole number; True and 1.0 are refused, too.

    >>> whole_number("epoch", np.int64(3))
    3
    """
    if isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None


TRAINED_HERE: Mapping[str, str] = MappingProxyType({"kind": "trained"})
"""The origin of a run that was trained from its initialisation with its own config."""


def is_logarithmic(epoch: int, num_epochs: int) -> bool:
    """Whether an epoch is one of 0, 1, 2, 4, 8 and so on, or the last.

    >>> [epoch for epoch in range(7) if is_logarithmic(epoch, 6)]
    [0, 1, 2, 4, 6]
    """
    return epoch.bit_count() <= 1 or epoch == num_epochs


class Moment(NamedTuple):
    """A point of a training at which its state is kept.

    Attributes:
        step: the number of training steps before it, over the whole training.
        epoch: the epoch that ends there, 0 for the initialisation; None within an epoch.
        base: the index, in the list of moments, of the whole state to which this one is stored as a
            difference; None if it is stored whole.
    """

    step: int
    epoch: int | None = None
    base: int | None = None

    @property
    def name(self) -> str:
        """The moment in words.

        >>> Moment(20, 2).name, Moment(10).name
        ('epoch 2', 'step 10')
        """
        return f"step {self.step}" if self.epoch is None else f"epoch {self.epoch}"


@dataclass(frozen=True)
class TensorTable:
    """The names and shapes of the tensors in the float vector of a state.

    The vector has the tensors without gaps, in the network's ``state_dict`` order, each in C order.

    Attributes:
        names: the tensors' names, all different.
        shapes: their shapes.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.shapes):
            raise ValueError(f"{len(self.names)} tensor names for {len(self.shapes)} shapes")
        if len(set(self.names)) != len(self.names):
            repeated = sorted(name for name, times in Counter(self.names).items() if times > 1)
            raise ValueError(f"tensor names must differ, got repeated {repeated}")
        if any(size < 0 for shape in self.shapes for size in shape):
            raise ValueError("tensor shapes must not be negative")

    @remembered
    def offsets(self) -> tuple[int, ...]:
        """Each tensor's first position in the vector; the last offset is the vector's length."""
        offsets = [0]
        for shape in self.shapes:
            offsets.append(offsets[-1] + math.prod(shape))
        return tuple(offsets)

    @property
    def num_floats(self) -> int:
        """The vector's length."""
        return self.offsets[-1]

    def pack(self, tensors: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
        """The vector of named tensors, such as a ``state_dict``; batch counters are ignored.

        Raises:
            ValueError: the names or shapes differ from the table's.
        """
        given = {name for name in tensors if not name.endswith("num_batches_tracked")}
        if wrong := sorted(given ^ set(self.names)):
            what = "unknown" if wrong[0] in given else "missing"
            raise ValueError(
                f"expected the {len(self.names)} tensors of a state: {wrong[0]} is {what}"
            )
        values = np.empty(self.num_floats, np.float32)
        for name, view in self.unpack(values).items():
            tensor = np.asarray(tensors[name])
            if tensor.shape != view.shape:
                raise ValueError(f"expected {name} of shape {view.shape}, got {tensor.shape}")
            view[...] = tensor
        return values

    def unpack(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """The named tensors of a state, as views into its vector of shape (num_floats,)."""
        if values.shape != (self.num_floats,):
            raise ValueError(f"expected a vector of {self.num_floats} floats, got {values.shape}")
        spans = zip(self.names, self.shapes, self.offsets, self.offsets[1:], strict=False)
        return {name: values[start:stop].reshape(shape) for name, shape, start, stop in spans}


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A network's parameters and batch-norm statistics at one moment.

    Attributes:
        values: all tensors in one vector, float32, shape (TensorTable.num_floats,).
        num_batches_tracked: the number of batches in the batch-norm statistics.
    """

    values: NDArray[np.float32]
    num_batches_tracked: int

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 1:
            raise ValueError(
                f"expected a float32 vector, got {self.values.dtype} of shape {self.values.shape}"
            )
        if self.num_batches_tracked < 0:
            raise ValueError(f"num_batches_tracked must be >= 0, got {self.num_batches_tracked}")
