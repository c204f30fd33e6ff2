"""The bytes that a Parquet file unpacks to, counted page by page before any is unpacked.

The sums at a file's end may be false, and asking pyarrow for a forged column's ends the process.
"""

import os
import struct
from typing import Any, BinaryIO

__all__ = ["unpacked_bytes"]

_MAX_DEPTH = 16
_SIZES = {1: 0, 2: 0, 3: 1, 7: 8}
"""Bytes of the values of a fixed size, by their type in Thrift's compact protocol."""

_ROW_GROUPS, _COLUMNS, _COLUMN_METADATA = 4, 1, 3
_PACKED_SIZE, _DATA_OFFSET, _DICTIONARY_OFFSET = 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED = 2, 3


def unpacked_bytes(opened: BinaryIO) -> int:
    """The bytes of all pages of an open Parquet file, as a reader takes memory for them.

    Raises:
        ValueError: its structure is not that of a Parquet file.
    """
    opened.seek(0, os.SEEK_SET)
    data = opened.read()
    try:
        (length,) = struct.unpack_from("<I", data, len(data) - 8)
        end = len(data) - 8 - length
        groups = _struct(data, end)[0].get(_ROW_GROUPS, [])
        columns = [column[_COLUMN_METADATA] for group in groups for column in group[_COLUMNS]]
        if sum(column[_PACKED_SIZE] for column in columns) > end:
            raise ValueError("its columns overlap")
        return sum(_unpacked(data, end, column) for column in columns)
    except (struct.error, LookupError, TypeError) as error:
        raise ValueError(f"its end or its pages are not Parquet's: {error}") from error


def _unpacked(data: bytes, most: int, column: dict[int, Any]) -> int:
    start = column[_DATA_OFFSET]
    first = column.get(_DICTIONARY_OFFSET, start)
    at, end, num_bytes = first, first + column[_PACKED_SIZE], 0
    if not 4 <= at <= start < end <= most:
        raise ValueError(f"a column's bytes are {at} to {end} of {most}")
    while at < end:
        page, at = _struct(data, at)
        if page[_PAGE_UNPACKED] < 0 or page[_PAGE_PACKED] < 0:
            raise ValueError("a page of negative size")
        num_bytes += page[_PAGE_UNPACKED]
        at += page[_PAGE_PACKED]
    return num_bytes


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol by field, and where it ends."""
    fields: dict[int, Any] = {}
    field = 0
    while data[at]:
        step, kind = divmod(data[at], 16)
        if not step or depth > _MAX_DEPTH:  # a field may not come twice: readers would differ
            raise ValueError("fields out of order, or structs nested too deep")
        field += step
        fields[field], at = _value(data, at + 1, kind, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in _SIZES:
        return None, at + _SIZES[kind]
    if kind in (4, 5, 6):
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == 8:
        length, at = _varint(data, at)
        return None, at + length
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind not in (9, 10):
        raise ValueError(f"no field of Parquet has type {kind}")
    size, kind = divmod(data[at], 16)
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    items: list[Any] = []
    for _ in range(size):
        # In a list a truth value takes a byte.
        item, at = (None, at + 1) if kind in (1, 2) else _value(data, at, kind, depth + 1)
        items.append(item)
        if at > len(data):
            raise ValueError("a list beyond the end")
    return items, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place in range(10):
        number |= (data[at + place] & 127) << 7 * place
        if data[at + place] < 128 and number < 2**64:
            return number, at + place + 1
    raise ValueError("a number of more than 64 bits")
