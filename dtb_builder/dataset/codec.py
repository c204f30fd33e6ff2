"""Encoding a state's floats as bytes that any HDF5 tool with the zstd filter can read.

A frame is what HDF5's shuffle filter and then filter 32015 (zstd) would store for a chunk: plane j
holds byte j of every float, and zstd level 1 compresses the four planes in order. A frame also has
two things that the stock filter leaves out. One is zstd's frame checksum, which every zstd decoder
verifies. The other is a block boundary between planes, because their statistics differ.
"""

import itertools

import numpy as np
from backports import zstd
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
_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_PART = 2**15
"""Floats that are converted at a time."""


def encode(values: NDArray[np.float32]) -> bytes:
    """The frame of a float32 vector of shape (num_floats,).

    >>> state = np.linspace(0, 1, 1000, dtype=np.float32)
    >>> bool((decode(encode(state), num_floats=1000) == state).all())
    True
    """
    items = values.astype("<f4", copy=False).view(np.uint8).reshape(-1, _ITEM)
    compressor = zstd.ZstdCompressor(options=_OPTIONS)
    compressor.set_pledged_input_size(items.size)
    planes = [
        compressor.compress(items[:, j].tobytes(), mode=compressor.FLUSH_BLOCK)
        for j in range(_ITEM)
    ]
    return b"".join([*planes, compressor.flush()])


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
        content = zstd.get_frame_info(frame).decompressed_size
        if content != num_bytes:
            raise DamagedFileError(f"expected a frame of {num_bytes} bytes, got one of {content}")
        if (length := zstd.get_frame_size(frame)) != len(frame):
            raise DamagedFileError(f"a state's frame of {len(frame)} bytes should have {length}")
        return _interleaved(frame, num_floats)
    except zstd.ZstdError as error:
        raise DamagedFileError(f"a state's frame of {len(frame)} bytes: {error}") from error


def _interleaved(frame: bytes, num_floats: int) -> NDArray[np.float32]:
    """The floats of a frame, decoded in parts that stay in the processor's cache."""
    items = np.empty((num_floats, _ITEM), np.uint8)
    decompressor = zstd.ZstdDecompressor()
    unread = frame
    for j, start in itertools.product(range(_ITEM), range(0, num_floats, _PART)):
        place = items[start : start + _PART, j]
        part = b"" if decompressor.eof else decompressor.decompress(unread, len(place))
        if len(part) != len(place):
            raise DamagedFileError(f"a state's frame of {len(frame)} bytes ends early")
        place[:] = np.frombuffer(part, np.uint8)
        unread = b""  # the decompressor keeps the rest
    if not decompressor.eof and decompressor.decompress(unread, 1):
        raise DamagedFileError(
            f"a state's frame of {len(frame)} bytes holds more than its header says"
        )
    return items.view("<f4").reshape(num_floats)
