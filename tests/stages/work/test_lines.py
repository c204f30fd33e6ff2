from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtb_builder.stages.work.lines import append_line, open_lines, read_lines, write_lines

LINES = [{"text": "a\r\n\u2028"}, {"number": 0.1, "missing": None}, {"text": "", "yes": True}]


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    assert read_lines(file) == open_lines(file) == []
    for line in LINES:
        append_line(file, line)
    assert read_lines(file) == open_lines(file) == LINES
    write_lines(file, LINES[1:])
    assert read_lines(file) == LINES[1:]


def test_a_file_that_ends_anywhere_has_its_whole_lines_and_goes_on_from_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "lines"
    write_lines(file, LINES)
    data = file.read_bytes()
    for size in range(len(data)):
        file.write_bytes(data[:size])
        whole = data[:size].count(b"\n")
        assert open_lines(file) == LINES[:whole]
        append_line(file, LINES[0])
        assert read_lines(file) == [*LINES[:whole], LINES[0]]


@given(position=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_flipped_bit_ends_the_lines_that_count(
    position: int, bit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("lines") / "lines"
    write_lines(file, LINES)
    data = bytearray(file.read_bytes())
    position %= len(data)
    line = bytes(data[:position]).count(b"\n")
    data[position] ^= 1 << bit
    file.write_bytes(data)
    assert read_lines(file) == LINES[:line]


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    open_lines(tmp_path / "lines")
    with pytest.raises(ValueError, match="not JSON compliant"):
        append_line(tmp_path / "lines", {"number": float("nan")})
    assert read_lines(tmp_path / "lines") == []
