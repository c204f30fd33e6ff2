"""An append-only file of checksummed lines, which survives kill -9 at any moment.

A line is a CRC-32C in eight hexadecimal digits, a space, and a JSON text. It is valid if its
checksum matches and all lines before it are valid.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dtb_builder.dataset.appended import append, create, cut
from dtb_builder.dataset.atomic import write_whole
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.json_object import json_object

__all__ = ["append_line", "open_lines", "read_lines", "write_lines"]

_PREFIX = 9


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The valid lines of a file, which may be missing; the file is not changed.

    Raises:
        DamagedFileError: a line's checksum holds, but it is no JSON object.
    """
    return _read(path)[0]


def open_lines(path: Path) -> list[dict[str, Any]]:
    """The valid lines of a file; cuts off the rest, and creates a missing file.

    The caller must be the only one who appends to the file.
    """
    lines, num_bytes = _read(path)
    if path.exists():
        cut(path, num_bytes)
    else:
        create(path)
    return lines


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append a line and wait until it is on disk; if that fails, the line is cut off."""
    append(path, _line(value))


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Replace a file by these lines; after a crash there is the old file or the new one."""
    write_whole(path, b"".join(map(_line, values)))


def _line(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, allow_nan=False).encode()
    return b"%08x %s\n" % (crc32c(text), text)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The valid lines, and their size in bytes."""
    lines: list[dict[str, Any]] = []
    num_bytes = 0
    data = path.read_bytes() if path.exists() else b""
    for line in data.splitlines(keepends=True):
        text = line[_PREFIX:-1]
        if not line.endswith(b"\n") or line[:_PREFIX] != b"%08x " % crc32c(text):
            break
        lines.append(json_object(text, path))
        num_bytes += len(line)
    return lines, num_bytes
