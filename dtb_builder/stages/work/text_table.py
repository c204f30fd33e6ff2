"""Print tables as text."""

from collections.abc import Callable, Sequence

from dtb_builder.shown import shown

__all__ = ["print_table"]


def print_table(
    lines: Sequence[Sequence[str]], *, align: Callable[[str, int], str] = str.ljust
) -> None:
    """Print lines in columns; the last column is not padded."""
    lines = [[shown(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join([*map(align, line[:-1], widths), line[-1]]).rstrip())
