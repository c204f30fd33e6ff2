"""HDF5's mark of a file that is open for writing; a killed program leaves it behind.

The mark is in the file's first 48 bytes, the superblock. The superblock ends with its checksum: Bob
Jenkins' lookup3, as in HDF5's H5checksum.c. HDF5 refuses to open a marked file.
"""

import struct
from pathlib import Path

__all__ = ["clear_mark", "is_marked"]

_SUPERBLOCK = struct.Struct("<8sBBBB4QI")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ONLY = 2**32 - 1


def is_marked(path: Path) -> bool:
    """Whether a file has an undamaged superblock with the mark."""
    if not path.is_file():  # reading a pipe would block
        return False
    with path.open("rb") as file:
        data = file.read(_SUPERBLOCK.size)
    if len(data) < _SUPERBLOCK.size:
        return False
    signature, version, *sizes, flags = _SUPERBLOCK.unpack(data)[:5]
    is_known = signature == _SIGNATURE and version in (2, 3) and sizes == [8, 8]
    return is_known and bool(flags) and data[-4:] == _checksum(data[:-4])


def clear_mark(path: Path) -> None:
    """Remove the mark of a marked file."""
    with path.open("r+b") as file:
        data = bytearray(file.read(_SUPERBLOCK.size))
        data[_FLAGS_AT] = 0
        data[-4:] = _checksum(data[:-4])
        file.seek(0)
        file.write(data)


_FLAGS_AT = 11


def _checksum(data: bytes | bytearray) -> bytes:
    """The lookup3 hash of some bytes, as stored in the file.

    >>> _checksum(b"Four score and seven years ago").hex()
    '51057717'
    """
    a = b = c = (0xDEADBEEF + len(data)) & _ONLY
    padded = bytes(data) + bytes(-len(data) % 12)
    blocks = list(struct.iter_unpack("<3I", padded))
    for i, (x, y, z) in enumerate(blocks, start=1):
        a, b, c = (a + x) & _ONLY, (b + y) & _ONLY, (c + z) & _ONLY
        if i < len(blocks):
            for turns in ((4, 6, 8), (16, 19, 4)):
                a, c = (a - c & _ONLY) ^ _turned(c, turns[0]), c + b & _ONLY
                b, a = (b - a & _ONLY) ^ _turned(a, turns[1]), a + c & _ONLY
                c, b = (c - b & _ONLY) ^ _turned(b, turns[2]), b + a & _ONLY
    for turns in ((14, 11, 25), (16, 4, 14), (24,)):
        c = (c ^ b) - _turned(b, turns[0]) & _ONLY
        if len(turns) == 3:
            a = (a ^ c) - _turned(c, turns[1]) & _ONLY
            b = (b ^ a) - _turned(a, turns[2]) & _ONLY
    return struct.pack("<I", c)


def _turned(word: int, by: int) -> int:
    return (word << by | word >> 32 - by) & _ONLY
