"""A range of a plan's shards, for one of several jobs."""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["ShardRange"]

_TEXT = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class ShardRange:
    """Consecutive shards.

    Attributes:
        first: the number of the first.
        last: the number of the last, inclusive.

    >>> 12 in ShardRange.parse("10-19")
    True
    >>> str(ShardRange.parse("7"))
    '7-7'
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"a range of shards must rise from 0 or more, got {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``FIRST-LAST``, or a single number.

        Raises:
            ValueError: it is something else.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"a range of shards is FIRST-LAST, as in 0-9, or one number; got {text!r}"
            )
        first, last = match.groups()
        return cls(int(first), int(last or first))

    def __contains__(self, shard: int) -> bool:
        return self.first <= shard <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def overlaps(self, other: "ShardRange") -> bool:
        """Whether a shard is in both."""
        return self.first <= other.last and other.first <= self.last
