"""Converting the table of moments to columns of the index, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtb_builder.errors import DamagedFileError
from dtb_builder.record import Moment

__all__ = ["by_record", "moment_columns", "moments_from"]

_NONE = -1


def moment_columns(moments: Sequence[Moment]) -> dict[str, NDArray[Any]]:
    """The columns of shape (moments,)."""
    epochs, bases = ([_NONE if x is None else x for x in (m[i] for m in moments)] for i in (1, 2))
    return {
        "moments/epoch": np.array(epochs, np.int32),
        "moments/step": np.array([moment.step for moment in moments], np.int64),
        "moments/base": np.array(bases, np.int32),
    }


def moments_from(columns: Mapping[str, NDArray[Any]], num_epochs: int) -> tuple[Moment, ...]:
    """The moments in these columns.

    Raises:
        DamagedFileError: the moments do not increase, or a difference is not between ends of
            epochs, or not to an earlier whole state.
    """
    epoch, step, base = (columns[f"moments/{name}"] for name in ("epoch", "step", "base"))
    ends = epoch[epoch != _NONE]
    increase = (np.diff(step, prepend=-1) > 0).all() and (np.diff(ends, prepend=-1) > 0).all()
    if not increase or (ends > num_epochs).any() or ((epoch == 0) != (step == 0)).any():
        raise DamagedFileError(
            f"moments should increase in step and in epoch, from 0 up to {num_epochs}"
        )
    differences = np.flatnonzero(base != _NONE)
    whole = base[differences]
    if (
        ((whole < 0) | (whole >= differences)).any()
        or (base[whole] != _NONE).any()
        or (epoch[whole] == _NONE).any()
        or (epoch[differences] == _NONE).any()
    ):
        raise DamagedFileError(
            "a difference should be between ends of epochs, to an earlier whole state; "
            f"got {whole.tolist()} as bases of {differences.tolist()}"
        )
    rows = zip(step.tolist(), epoch.tolist(), base.tolist(), strict=True)
    return tuple(Moment(s, *(None if x == _NONE else x for x in rest)) for s, *rest in rows)


def by_record(moments: Sequence[Moment], last: int) -> dict[int, list[int]]:
    """For each epoch of a run, the positions of the moments that its journal record gets.

    A file does not say at which steps epochs begin. So a moment within an epoch goes to the next
    epoch whose end is kept.

    Args:
        moments: of the run, in order.
        last: the run's last epoch.

    >>> by_record([Moment(0, 0), Moment(2), Moment(10, 2), Moment(12)], last=3)
    {0: [0], 1: [], 2: [1, 2], 3: [3]}
    """
    found: dict[int, list[int]] = {epoch: [] for epoch in range(last + 1)}
    for position, moment in reversed(list(enumerate(moments))):
        last = last if moment.epoch is None else moment.epoch
        found[last].insert(0, position)
    return found
