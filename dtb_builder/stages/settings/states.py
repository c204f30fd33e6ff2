"""Which training states are kept, as checked settings."""

from dataclasses import dataclass
from typing import Literal

from dtb_builder.record import Moment

__all__ = ["StatesConfig"]


@dataclass(frozen=True, kw_only=True)
class StatesConfig:
    """Which training states are kept.

    Attributes:
        epochs: those after which a state is kept, -1 being the last; or "all"; or "logarithmic":
            0, 1, 2, 4, 8 and so on, and the last.
        steps: those after which a state is kept, too, counted from 1 over the whole training; or
            "logarithmic": 1, 2, 4, 8 and so on.
        auxiliary_head: whether the auxiliary head's tensors are kept.
        dtype: what the floats are rounded to; as float32 they are stored in either case.
        key_every: of so many states at ends of epochs one, the first, is stored as it is, and the
            others as differences to it; 1 stores every state as it is.
        momentum: the kept epochs after which the optimiser's momentum is kept, too, so that a
            training can go on from there: "none", "all", "logarithmic" or a list.
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
                "states.momentum needs states.dtype=float32: nothing goes on from less"
            )

    def keeps(self, epoch: int, num_epochs: int) -> bool:
        """Whether ``epochs`` has an epoch, of a run of so many."""
        return _has(self.epochs, epoch, num_epochs)

    def moments(
        self, num_epochs: int, num_steps: int, *, first: int | None = None
    ) -> tuple[Moment, ...]:
        """The moments at which the states of a run are kept.

        Args:
            num_epochs: of the run.
            num_steps: of each epoch.
            first: of a branch: the epoch from whose end its runs go on, whose state is kept.

        Raises:
            ValueError: there are not so many steps, or a state is not kept whose momentum is.

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
        """The epochs beyond ``first`` after which the momentum is kept, as ``momentum`` says."""
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
        return epoch.bit_count() <= 1 or epoch == num_epochs
    return epoch in {num_epochs if listed == -1 else listed for listed in chosen}
