"""Files with other numbers than were written, whose checksums are right nevertheless."""

from pathlib import Path

import h5py
import numpy as np

from dtb_builder.dataset import schema
from dtb_builder.dataset.column import block_checksums, list_checksum
from dtb_builder.dataset.index import row_checksums

__all__ = ["alter"]


def alter(path: Path, name: str, place: tuple[int, ...], value: float, *, of_row: bool) -> None:
    """Change a number of a column, and its checksums: those of its blocks and maybe of its row."""
    with h5py.File(path, "r+") as file:
        file[name][place] = value  # pyright: ignore[reportIndexIssue]
        changed = [name]
        if of_row:
            covered = (*schema.MOMENTS, *schema.ROW_COLUMNS)
            columns = {column.name: np.asarray(file[column.name]) for column in covered}
            file["runs/crc32c"][...] = row_checksums(columns)  # pyright: ignore[reportIndexIssue]
            changed.append("runs/crc32c")
        for column in changed:
            listed = file[schema.checksums_of(column)]
            assert isinstance(listed, h5py.Dataset)
            found = np.array(block_checksums(np.asarray(file[column]).tobytes()), "<u4")
            listed[...] = found
            checksum = list_checksum(column, found.tobytes())
            listed.attrs[schema.CHECKSUM_ATTRIBUTE] = np.uint32(checksum)
