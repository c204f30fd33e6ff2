"""Encoding a state's floats as bytes that any HDF5 tool with the zstd filter can read.

A frame is what HDF5's shuffle filter and then filter 32015 (zstd) would store for a chunk: plane j
holds byte j of every float, and zstd level 1 compresses the four planes in order. A frame also has
two things that the stock filter leaves out. One is zstd's frame checksum, which every zstd decoder
verifies. The other is a block boundary between planes, because their statistics differ.
"""

import itertools
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import zstandard
from crc32c import crc32c
from numpy.typing import NDArray

from dtb_builder.errors import DamagedFileError

__all__ = [
    "bfloat16",
    "crc32c",
    "decode",
    "decode_difference",
    "encode",
    "encode_difference",
]

_ITEM = np.dtype("<f4").itemsize
_BLOCK_HEADER = 3
_CHECKSUM = 4
_LONG = 2**20
"""A vector of at least this many floats is decoded with a second thread."""

_PART = 2**19
"""Floats that are copied into place at a time."""

_BUFFERS = 4
"""Decoded parts that may wait to be copied; so a long state is not in memory twice."""


def encode(values: NDArray[np.float32]) -> bytes:
    """The frame of a float32 vector of shape (num_floats,).

    >>> state = np.linspace(0, 1, 1000, dtype=np.float32)
    >>> bool((decode(encode(state), num_floats=1000) == state).all())
    True
    """
    items = values.astype("<f4", copy=False).view(np.uint8).reshape(-1, _ITEM)
    compressor = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=items.size)
    parts: list[bytes] = []
    for j in range(_ITEM):
        parts.append(compressor.compress(items[:, j].tobytes()))
        parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH))
    return b"".join(parts)


def encode_difference(values: NDArray[np.float32], key: NDArray[np.float32]) -> bytes:
    """The frame of a vector's difference to a key vector, both of shape (num_floats,).

    The bits of each float are read as an unsigned integer, and the key's are subtracted modulo
    2 ** 32. Zigzag encoding moves the sign to the lowest bit, so that small differences of either
    sign have small codes.

    >>> key = np.linspace(0, 1, 1000, dtype=np.float32)
    >>> frame = encode_difference(key * np.float32(1.01), key)
    >>> bool((decode_difference(frame, key) == key * np.float32(1.01)).all())
    True
    """
    difference = _bits(values) - _bits(key)
    sign = (difference.view("<i4") >> np.int32(31)).view("<u4")
    return encode(((difference << np.uint32(1)) ^ sign).view("<f4"))


def decode_difference(frame: bytes, key: NDArray[np.float32]) -> NDArray[np.float32]:
    """The exact vector of a frame of `encode_difference`; raises what `decode` raises."""
    codes, bits = _bits(decode(frame, num_floats=len(key))), _bits(key)
    for start in range(0, len(codes), _PART):  # in place: states may be long
        part = codes[start : start + _PART]
        folded = np.uint32(0) - (part & np.uint32(1))
        part >>= np.uint32(1)
        part ^= folded
        part += bits[start : start + _PART]
    return codes.view("<f4")


def _bits(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    return values.astype("<f4", copy=False).view("<u4")


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest bfloat16 of every float, ties to even, as float32; NaN stays NaN.

    The lower two of the four byte planes are then zeros, which take almost no room in a frame.

    >>> bfloat16(np.array([1.0, 1.005, 3.14159], np.float32))
    array([1.       , 1.0078125, 3.140625 ], dtype=float32)
    """
    bits = _bits(values)
    halfway = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.where(np.isnan(values), bits | np.uint32(0x400000), bits + halfway)
    return (rounded & np.uint32(0xFFFF0000)).view("<f4")


def decode(frame: bytes, *, num_floats: int) -> NDArray[np.float32]:
    """The vector of shape (num_floats,) that a frame holds.

    Raises:
        DamagedFileError: the frame does not hold ``num_floats`` floats, or its checksum is wrong.
    """
    num_bytes = num_floats * _ITEM
    try:
        content = zstandard.frame_content_size(frame)
        if content != num_bytes:
            raise DamagedFileError(f"expected a frame of {num_bytes} bytes, got one of {content}")
        if num_floats >= _LONG:
            if (length := _frame_length(frame)) != len(frame):
                raise DamagedFileError(
                    f"a state's frame of {len(frame)} bytes should have {length}"
                )
            return _interleaved_beside(frame, num_floats)
        raw = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise DamagedFileError(f"a state's frame of {len(frame)} bytes: {error}") from error
    items = np.empty((num_floats, _ITEM), np.uint8)
    for j, plane in enumerate(np.frombuffer(raw, np.uint8).reshape(_ITEM, num_floats)):
        items[:, j] = plane  # three times as fast as copying the transpose
    return items.view("<f4").reshape(num_floats)


def _interleaved_beside(frame: bytes, num_floats: int) -> NDArray[np.float32]:
    """Decode a long frame; a second thread copies each part while the next is decoded."""
    items = np.empty((num_floats, _ITEM), np.uint8)
    parts = [slice(start, start + _PART) for start in range(0, num_floats, _PART)]
    buffers = np.empty((_BUFFERS, _PART), np.uint8)
    placed: list[Future[None]] = []
    with (
        ThreadPoolExecutor(1) as beside,
        zstandard.ZstdDecompressor().stream_reader(frame) as reader,
    ):
        for i, (j, part) in enumerate(itertools.product(range(_ITEM), parts)):
            if i >= _BUFFERS:
                placed[i - _BUFFERS].result()  # the buffer is free again
            plane = buffers[i % _BUFFERS][: len(items[part])]
            if reader.readinto(plane.data) != len(plane):
                raise DamagedFileError(f"a state's frame of {len(frame)} bytes ends early")
            placed.append(beside.submit(np.copyto, items[part, j], plane))
        if reader.read(1):
            raise DamagedFileError(
                f"a state's frame of {len(frame)} bytes holds more than its header says"
            )
    return items.view("<f4").reshape(num_floats)


def _frame_length(frame: bytes) -> int:
    """A frame's length according to the block headers present (RFC 8878, 3.1.1).

    Decoding in parts would not notice a missing end, or bytes after the end.
    """
    length = zstandard.frame_header_size(frame)
    is_last = False
    while not is_last and length + _BLOCK_HEADER <= len(frame):
        header = int.from_bytes(frame[length : length + _BLOCK_HEADER], "little")
        is_last, is_repeated, size = bool(header & 1), header >> 1 & 3 == 1, header >> 3
        length += _BLOCK_HEADER + (1 if is_repeated else size)
    return length + (_CHECKSUM if zstandard.get_frame_parameters(frame).has_checksum else 0)
