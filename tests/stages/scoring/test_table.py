import random
import tracemalloc
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pytest
from pyarrow import parquet

from dtb_builder import errors
from dtb_builder.scores.names import SCORES
from dtb_builder.stages.scoring.table import ScoreTable, read_scores, seconds_name, write_scores

ABOUT = {"source": {"kind": "dtb"}, "probe": {"indices": [3, 1], "sha256": "ab"}}


def row(run: int, **values: Any) -> dict[str, Any]:
    names = [*SCORES, *map(seconds_name, SCORES)]
    empty = dict.fromkeys(
        ["seed", "genotype", "fingerprint", "step", "num_images", "probe_sha256", "singular"]
    ) | dict.fromkeys(["smallest_eigenvalue", "das", "state_seconds", "environment", "errors"])
    return {"run": run, "epoch": 0, **empty, **dict.fromkeys(names), **values}


TABLE = ScoreTable(
    ABOUT,
    [
        row(0, wot=0.1 + 0.2, singular=False, wot_seconds=1e-300, genotype="Genotype(...)"),
        row(7, singular=True, epoch=None, step=3, errors='{"wot": "none"}'),
    ],
)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", TABLE)
    found = read_scores(tmp_path / "scores.parquet")
    assert found.about == TABLE.about
    assert found.rows == TABLE.rows


def test_pandas_reads_it(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.parquet", TABLE)
    frame = pandas.read_parquet(tmp_path / "scores.parquet")
    assert frame["wot"].notna().tolist() == [True, False]
    assert frame["run"].tolist() == [0, 7]


def test_equal_tables_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_scores(tmp_path / name, TABLE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_gives_a_typed_error_or_the_same_scores(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    write_scores(file, TABLE)
    data = file.read_bytes()
    num_refused = 0
    for position in range(0, len(data), 31):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            found = read_scores(file)
        except errors.DTBError:
            num_refused += 1
        else:
            assert (found.about, found.rows) == (TABLE.about, TABLE.rows)
    assert num_refused > len(data) / 31 / 2


def test_a_score_that_somebody_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    write_scores(file, TABLE)
    table = parquet.read_table(file)
    wot = table.schema.get_field_index("wot")
    changed = pyarrow.array([0.5, None], pyarrow.float64())
    parquet.write_table(table.set_column(wot, table.schema.field(wot), changed), file)
    with pytest.raises(errors.DamagedFileError, match="its rows do not have the recorded checksum"):
        read_scores(file)


def test_a_score_that_an_older_version_did_not_know_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scores.parquet"
    with monkeypatch.context() as older:
        older.setattr("dtb_builder.stages.scoring.table.SCORES", SCORES.keys() - {"zen"})
        write_scores(file, ScoreTable(ABOUT, [row(0, wot=0.5)]))
    assert "zen" not in parquet.read_schema(file).names
    assert read_scores(file).rows == [row(0, wot=0.5)]


def test_a_score_of_a_newer_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scores.parquet"
    with monkeypatch.context() as newer:
        newer.setattr("dtb_builder.stages.scoring.table.SCORES", {*SCORES, "zeal"})
        write_scores(file, TABLE)
    with pytest.raises(errors.SchemaVersionError, match="scores 'zeal', 'zeal_seconds', which"):
        read_scores(file)


def test_what_is_no_file_of_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make it with dtb score"):
        read_scores(tmp_path / "missing.parquet")
    (tmp_path / "text").write_text("run,wot")
    with pytest.raises(errors.DamagedFileError, match="is not Parquet"):
        read_scores(tmp_path / "text")
    parquet.write_table(pyarrow.table({"run": [1]}), tmp_path / "other")
    with pytest.raises(errors.NotDTBFileError, match="lacks dtb_scores"):
        read_scores(tmp_path / "other")


def test_rows_take_the_memory_of_the_values_they_have(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    draws = random.Random(0)
    rows = [{"run": i % 7, "state_seconds": draws.random()} for i in range(4_000)]
    write_scores(file, ScoreTable(ABOUT, rows))
    tracemalloc.start()
    found = read_scores(file).rows
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["state_seconds"] for row in found] == [row["state_seconds"] for row in rows]
    assert peak < 500 * len(rows)


def test_a_text_that_swells_is_refused_though_the_file_denies_its_size(tmp_path: Path) -> None:
    file = tmp_path / "scores.parquet"
    write_scores(file, ScoreTable(ABOUT, [row(0, genotype="a" * 2**23)]))
    group = parquet.ParquetFile(file).metadata.row_group(0)
    text = next(i for i in range(group.num_columns) if group.column(i).total_compressed_size > 300)
    data = file.read_bytes()
    for size in (group.total_byte_size, group.column(text).total_uncompressed_size):
        assert len(_varint(size)) == len(_varint(2**20))
        data = _varint(2**20).join(data.rpartition(_varint(size))[::2])
    file.write_bytes(data)
    denied = parquet.ParquetFile(file).metadata.row_group(0)
    assert (denied.total_byte_size, denied.column(text).total_uncompressed_size) == (2**20, 2**20)
    with pytest.raises(errors.DamagedFileError, match=r"of 83[0-9]{5} bytes, in a file of"):
        read_scores(file)


def _varint(number: int) -> bytes:
    places = range(0, (2 * number).bit_length(), 7)
    digits = [(2 * number >> place) % 128 | 128 for place in places]
    return bytes([*digits[:-1], digits[-1] % 128])
