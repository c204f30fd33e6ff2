"""Which states a copy of a file's runs keeps; frames are re-encoded only if their base changes."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.states import StatePlaces, frame_rows
from dtb_builder.dataset.store import Store
from dtb_builder.errors import StateNotKeptError
from dtb_builder.record import Moment

__all__ = ["Kept", "thinned"]


class Kept:
    """The moments of a file that a copy keeps.

    A frame is copied unchanged, unless its base changes: a difference may become a whole state, the
    reverse, or a difference to another state. It is then encoded again.

    Args:
        old: the moments of the file.
        new: the moments of the copy.
        momentum: the epochs whose momentum is kept; None keeps all.

    Raises:
        StateNotKeptError: the file lacks one of the new moments.
    """

    def __init__(
        self,
        old: Sequence[Moment],
        new: Sequence[Moment],
        *,
        momentum: Collection[int] | None = None,
    ) -> None:
        known = {moment.step: position for position, moment in enumerate(old)}
        if missing := [moment for moment in new if moment.step not in known]:
            raise StateNotKeptError(f"no states are kept after {_named(missing)}")
        self.moments = tuple(new)
        self.is_all = self.moments == tuple(old) and momentum is None
        self._positions = np.array([known[moment.step] for moment in new], np.intp)
        self._is_as_stored = [
            _base_step(old, old[known[moment.step]]) == _base_step(new, moment) for moment in new
        ]
        has_momentum = [momentum is None or moment.epoch in momentum for moment in new]
        self._has_momentum = np.array(has_momentum, np.int64)

    def rows(self, places: StatePlaces) -> dict[str, list[int]]:
        """`frame_rows` of the copy of a run."""
        return frame_rows(self.moments, *self.lengths(places))

    def num_bytes(self, places: StatePlaces) -> int:
        """Stored bytes of a run's frames that the copy keeps."""
        return int(sum(lengths.sum() for lengths in self.lengths(places)))

    def lengths(self, places: StatePlaces) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes of each frame of a run's states and of its momentum; 0 if the copy has none."""
        momentum = places.momentum_length[self._positions] * self._has_momentum
        return places.length[self._positions], momentum

    def frame(self, store: Store, row: int, places: StatePlaces, name: str, position: int) -> bytes:
        """A frame of the copy.

        Args:
            store: the original file.
            row: the run's row in that file.
            places: the run's places in that file.
            name: the dataset of the copy.
            position: the moment's position in the copy.
        """
        if name == schema.MOMENTUM or self._is_as_stored[position]:
            return store.states.frame(places, name, int(self._positions[position]))
        values = self._values(store, row, position)
        base = self.moments[position].base
        if base is None:
            return codec.encode(values)
        return codec.encode_difference(values, self._values(store, row, base))

    def _values(self, store: Store, row: int, position: int) -> NDArray[np.float32]:
        return store.states.state(row, int(self._positions[position])).values


def thinned(moments: Sequence[Moment], epochs: Collection[int]) -> tuple[Moment, ...]:
    """The moments after these epochs; a difference whose base is left out becomes whole.

    >>> thinned([Moment(0, 0), Moment(1), Moment(5, 1, 0), Moment(10, 2, 0)], {1, 2})
    (Moment(step=5, epoch=1, base=None), Moment(step=10, epoch=2, base=None))
    """
    kept = [moment for moment in moments if moment.epoch in epochs]
    place = {moment.step: position for position, moment in enumerate(kept)}
    bases = (_base_step(moments, moment) for moment in kept)
    return tuple(
        moment._replace(base=None if base is None else place.get(base))
        for moment, base in zip(kept, bases, strict=True)
    )


def _base_step(moments: Sequence[Moment], moment: Moment) -> int | None:
    return None if moment.base is None else moments[moment.base].step


def _named(moments: Sequence[Moment]) -> str:
    """Moments as text."""
    epochs = [str(moment.epoch) for moment in moments if moment.epoch is not None]
    steps = [str(moment.step) for moment in moments if moment.epoch is None]
    parts = [f"epochs {', '.join(epochs)}" if epochs else "", f"steps {', '.join(steps)}"]
    return " and ".join(part for part in parts[: 1 + bool(steps)] if part)
