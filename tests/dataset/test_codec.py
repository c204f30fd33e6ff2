from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.dataset import codec
from dtb_builder.dataset.codec import (
    bfloat16,
    decode,
    decode_difference,
    encode,
    encode_difference,
)
from dtb_builder.errors import DamagedFileError


@pytest.fixture(scope="module", autouse=True)
def many_parts() -> Iterator[None]:
    """Short vectors, too, are decoded in several parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_PART", 7)
        yield


bit_patterns = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64).map(
    lambda bits: np.array(bits, "<u4").view("<f4")
)


@given(bit_patterns)
def test_every_bit_pattern_comes_back(values: np.ndarray) -> None:
    decoded = decode(encode(values), num_floats=len(values))
    assert decoded.dtype == np.float32
    assert decoded.tobytes() == values.tobytes()


@given(bit_patterns, st.data())
def test_a_difference_to_any_key_comes_back(values: np.ndarray, data: st.DataObject) -> None:
    bits = st.lists(st.integers(0, 2**32 - 1), min_size=len(values), max_size=len(values))
    key = np.array(data.draw(bits), "<u4").view("<f4")
    decoded = decode_difference(encode_difference(values, key), key)
    assert decoded.dtype == np.float32
    assert decoded.tobytes() == values.tobytes()


def test_neighbours_have_small_codes_whatever_their_signs() -> None:
    key = np.array([1.0, -1.0, 1.0, -1.0], np.float32)
    upwards, downwards = np.float32(np.inf), np.float32(-np.inf)
    values = np.array(
        [
            np.nextafter(key[0], upwards),
            np.nextafter(key[1], upwards),
            np.nextafter(key[2], downwards),
            key[3],
        ],
        np.float32,
    )
    codes = decode(encode_difference(values, key), num_floats=4).view("<u4")
    assert codes.tolist() == [2, 1, 1, 0]


@given(bit_patterns, st.data())
def test_a_flipped_bit_never_gives_other_floats(values: np.ndarray, data: st.DataObject) -> None:
    frame = bytearray(encode(values))
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode(bytes(frame), num_floats=len(values))
    except DamagedFileError:
        return
    assert decoded.tobytes() == values.tobytes()


@given(bit_patterns, st.data())
def test_a_cut_frame_is_refused(values: np.ndarray, data: st.DataObject) -> None:
    frame = encode(values)
    with pytest.raises(DamagedFileError):
        decode(frame[: data.draw(st.integers(0, len(frame) - 1))], num_floats=len(values))


@pytest.mark.parametrize("num_floats", [0, 9, 11, 2**40])
def test_a_frame_of_another_length_is_refused_before_it_takes_memory(num_floats: int) -> None:
    with pytest.raises(DamagedFileError, match="expected a frame of"):
        decode(encode(np.zeros(10, np.float32)), num_floats=num_floats)


def test_the_stock_filters_of_hdf5_read_a_frame(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    with h5py.File(tmp_path / "file.h5", "w") as file:
        dataset = file.create_dataset(
            "values",
            shape=(1, 1000),
            dtype="<f4",
            chunks=(1, 1000),
            shuffle=True,
            **hdf5plugin.Zstd(clevel=1),
        )
        dataset.id.write_direct_chunk((0, 0), encode(values))
    with h5py.File(tmp_path / "file.h5") as file:
        assert np.array_equal(np.asarray(file["values"])[0], values)


def test_weights_shrink() -> None:
    values = (np.random.default_rng(0).standard_normal(100_000) * 0.05).astype(np.float32)
    assert values.nbytes / len(encode(values)) > 1.18


def test_no_single_flipped_bit_of_a_frame_gives_other_floats() -> None:
    values = np.arange(6, dtype=np.float32)
    frame = encode(values)
    refused = 0
    for position in range(8 * len(frame)):
        damaged = bytearray(frame)
        damaged[position // 8] ^= 1 << (position % 8)
        try:
            assert decode(bytes(damaged), num_floats=6).tobytes() == values.tobytes(), position
        except DamagedFileError:
            refused += 1
    assert refused > 0.98 * 8 * len(frame)


def test_bytes_behind_a_frame_are_refused() -> None:
    with pytest.raises(DamagedFileError):
        decode(encode(np.zeros(10, np.float32)) + b"x", num_floats=10)


@pytest.mark.parametrize("num_floats", [0, 1, 2])
def test_what_was_decoded_can_be_written_to(num_floats: int) -> None:
    values = decode(encode(np.zeros(num_floats, np.float32)), num_floats=num_floats)
    values += 1
    assert values.tolist() == [1.0] * num_floats


@given(bit_patterns)
def test_bfloat16_rounds_as_torch_does_and_keeps_nans(values: np.ndarray) -> None:
    expected = torch.from_numpy(values.copy()).bfloat16().float().numpy()
    assert np.array_equal(bfloat16(values), expected, equal_nan=True)
    assert (bfloat16(values).view("<u4") & 0xFFFF == 0).all()


@pytest.mark.parametrize("num_floats", [1, 1000, 100_000])
def test_a_frame_with_something_behind_it_is_refused(num_floats: int) -> None:
    frame = encode(np.random.default_rng(0).standard_normal(num_floats).astype(np.float32))
    for behind in (b"\0", frame, frame[:9]):
        with pytest.raises(DamagedFileError, match="a state's frame of"):
            decode(frame + behind, num_floats=num_floats)


@pytest.mark.parametrize("num_floats", [1, 1000, 100_000, 1_200_000])
def test_a_frame_that_holds_more_or_less_than_it_says_is_refused(
    num_floats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest is beyond zstd's window, so that zstd itself would not notice."""
    monkeypatch.setattr(codec, "_PART", max(codec._PART, num_floats // 9))
    num_others = 2 * num_floats
    other = encode(np.random.default_rng(0).standard_normal(num_others).astype(np.float32))
    one = encode(np.zeros(num_floats, np.float32))
    for header, rest in ((one, other), (other, one)):
        start = zstandard.frame_header_size(header)
        frame = header[:start] + rest[zstandard.frame_header_size(rest) :]
        with pytest.raises(DamagedFileError, match="a state's frame of"):
            decode(frame, num_floats=num_floats if header is one else num_others)
