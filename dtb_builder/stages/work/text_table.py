"""Print tables as text."""

import shutil
import sys
from collections.abc import Callable, Sequence

from dtb_builder.shown import shown

__all__ = ["print_table"]


def print_table(
    lines: Sequence[Sequence[str]],
    *,
    align: Callable[[str, int], str] = str.ljust,
    num_keys: int = 1,
    wide: bool = False,
) -> None:
    """Print lines in columns.

    On a terminal that is too narrow, the columns are printed in blocks, one below the other.

    Args:
        lines: the cells of each line; the first line has the headings.
        align: how cells are padded.
        num_keys: how many columns say what a line is: every block has them.
        wide: print one block however narrow the terminal is.
    """
    columns = [[shown(cell) for cell in column] for column in zip(*lines, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    is_split = sys.stdout.isatty() and not wide
    space = shutil.get_terminal_size().columns if is_split else sum(widths) + 2 * len(widths)
    keys, rest = list(range(num_keys)), list(range(num_keys, len(columns)))
    while True:
        block = [*keys, *rest[:1]]
        while len(block) < num_keys + len(rest):
            following = rest[len(block) - num_keys]
            if sum(widths[i] + 2 for i in [*block, following]) - 2 > space:
                break
            block.append(following)
        for cells in zip(*(columns[i] for i in block), strict=True):
            print("  ".join(map(align, cells, (widths[i] for i in block))).rstrip())
        rest = rest[len(block) - num_keys :]
        if not rest:
            return
        print()
