"""Which training states are stored, as checked settings."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.record import Moment, is_logarithmic

__all__ = ["StatesConfig"]


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """Which training states are stored.

    Attributes:
        epochs: the epochs after which a state is stored, where -1 is the last; or "all"; or
            "logarithmic": 0, 1, 2, 4, 8 and so on, and the last.
        steps: the steps after which a state is stored, counted from 1 over the whole training; or
            "logarithmic": 1, 2, 4, 8 and so on.
        auxiliary_head: whether the auxiliary head's tensors are stored.
        dtype: the precision to which values are rounded; they are always stored as float32.
        key_every: of every `key_every` states at ends of epochs, the first is stored whole and the
            others as differences to it; 1 stores every state whole.
        momentum: the epochs whose state is stored together with the optimiser's momentum, so that a
            training can continue from there: "none", "all", "logarithmic" or a list.
    """

    epochs: Literal["all", "logarithmic"] | tuple[int, ...]
    steps: Literal["logarithmic"] | tuple[int, ...] = ()
    auxiliary_head: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    key_every: int = 1
    momentum: Literal["none", "all", "logarithmic"] | tuple[int, ...] = "none"

    def __post_init__(self) -> None:
        if self.key_every < 1:
            raise ValueError(f"states.key_every must be at least 1, got {self.key_every}")
        steps = self.steps if isinstance(self.steps, tuple) else ()
        if list(steps) != sorted(set(steps)) or min(steps, default=1) < 1:
            raise ValueError(f"states.steps must increase from at least 1, got {list(steps)}")
        if self.momentum != "none" and self.dtype != "float32":
            raise ValueError(
                "states.momentum needs states.dtype=float32: a training cannot continue from a "
                "rounded state"
            )

    def keeps(self, epoch: int, num_epochs: int) -> bool:
        """Whether ``epochs`` includes an epoch of a run with ``num_epochs`` epochs."""
        return _has(self.epochs, epoch, num_epochs)

    def moments(
        self, num_epochs: int, num_steps: int, *, first: int | None = None
    ) -> tuple[Moment, ...]:
        """The moments at which the states of a run are stored.

        Args:
            num_epochs: the number of epochs of the run.
            num_steps: the number of steps of an epoch.
            first: for a branch, the epoch from which its runs continue; its state is stored.

        Raises:
            ValueError: a step is beyond the training, or the momentum of a state is to be stored
                without the state.

        >>> StatesConfig(epochs="all", steps=(1, 4), key_every=2).moments(1, num_steps=4)[1:]
        (Moment(step=1, epoch=None, base=None), Moment(step=4, epoch=1, base=0))
        """
        last = num_epochs * num_steps
        powers = tuple(1 << i for i in range(last.bit_length()))
        steps = powers if self.steps == "logarithmic" else self.steps
        assert isinstance(steps, tuple)
        if outside := [step for step in steps if step > last]:
            raise ValueError(
                f"states.steps must be steps of the training, which has {last} in {num_epochs} "
                f"epochs; got {outside}"
            )
        ends = {step // num_steps for step in steps if step % num_steps == 0}
        ends |= {epoch for epoch in range(num_epochs + 1) if self.keeps(epoch, num_epochs)}
        if first is not None:
            steps = tuple(step for step in steps if step > first * num_steps)
            ends = {first} | {epoch for epoch in ends if epoch > first}
        points: dict[int, int | None] = dict.fromkeys(steps)
        points |= {epoch * num_steps: epoch for epoch in ends}
        order = sorted(points)
        whole = sorted(ends)[:: self.key_every]
        moments: list[Moment] = []
        for step in order:
            epoch = points[step]
            if epoch is None or epoch in whole:
                moments.append(Moment(step, epoch))
            else:
                key = max(key for key in whole if key < epoch)
                moments.append(Moment(step, epoch, order.index(key * num_steps)))
        if missing := sorted(self.momentum_epochs(num_epochs, first=first or 0) - ends):
            raise ValueError(
                f"states.momentum must be of epochs whose state is kept, got {missing}"
            )
        return tuple(moments)

    def momentum_epochs(self, num_epochs: int, *, first: int = 0) -> set[int]:
        """The epochs after ``first`` whose momentum is stored."""
        chosen = self.momentum
        if chosen == "none":
            return set()
        every = range(first + 1, num_epochs + 1)
        return {
            epoch
            for epoch in every
            if _has(chosen, epoch, num_epochs)
            and (isinstance(chosen, tuple) or self.keeps(epoch, num_epochs))
        }


def _has(
    chosen: Literal["all", "logarithmic"] | tuple[int, ...], epoch: int, num_epochs: int
) -> bool:
    if chosen == "all":
        return True
    if chosen == "logarithmic":
        return is_logarithmic(epoch, num_epochs)
    return epoch in {num_epochs if listed == -1 else listed for listed in chosen}
