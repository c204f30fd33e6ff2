"""A range of a plan's shards, for a job that does a part of the work."""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["ShardRange"]

_TEXT = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class ShardRange:
    """Consecutive shards.

    Attributes:
        first: the number of the first shard.
        last: the number of the last shard, inclusive.

    >>> 12 in ShardRange.parse("10-19")
    True
    >>> str(ShardRange.parse("7"))
    '7-7'
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ValueError(f"a range of shards must have 0 <= FIRST <= LAST, got {self}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``FIRST-LAST`` or a single number.

        Raises:
            ValueError: the text has another form.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"a range of shards must be FIRST-LAST, such as 0-9, or a number, got {text!r}"
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
