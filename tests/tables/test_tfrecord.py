import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfrecords import framed

from dtb_builder import errors
from dtb_builder.tables.tfrecord import masked_checksum, read_records


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_records_come_back_in_their_order(records: list[bytes]) -> None:
    assert list(read_records(io.BytesIO(b"".join(map(framed, records))))) == records


def test_the_checksum_is_the_formats() -> None:
    # CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720, B.4).
    assert (
        masked_checksum(bytes(32)) == ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) % 2**32
    )


@given(st.integers(0, 12 + 5 + 4 - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    damaged = bytearray(framed(b"first") + framed(b"second"))
    damaged[position] ^= change
    with pytest.raises(errors.TableError, match="record 0: "):
        list(read_records(io.BytesIO(bytes(damaged))))


@given(st.integers(1, 12 + 6 + 4 - 1))
def test_a_file_that_ends_within_a_record_is_noticed(missing: int) -> None:
    whole = framed(b"first") + framed(b"second")
    records = read_records(io.BytesIO(whole[:-missing]))
    assert next(records) == b"first"
    with pytest.raises(errors.TableError, match="record 1: "):
        next(records)


def test_a_huge_length_costs_no_memory() -> None:
    header = struct.pack("<Q", 2**60)
    file = io.BytesIO(header + struct.pack("<I", masked_checksum(header)))
    with pytest.raises(errors.TableError, match="record 0: wanted a length and its checksum"):
        next(read_records(file))
