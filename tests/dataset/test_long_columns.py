"""Columns too long to be kept are read in part, and each part is proved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from chaos.reading import said
from numpy.typing import NDArray

from dtb_builder import Benchmark
from dtb_builder.dataset import column, index, schema
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.source import FileSource
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError, DTBError

Flip = Callable[..., None]


def column_bytes(path: Path) -> NDArray[np.intp]:
    """Where in the file its columns are."""
    with h5py.File(path) as file:
        found = [
            dataset_at(file, name)
            for column in schema.COLUMNS
            if column.counts_runs
            for name in (column.name, schema.checksums_of(column.name))
        ]
        return np.concatenate([np.arange(one.nbytes) + (one.id.get_offset() or 0) for one in found])


@pytest.fixture
def long_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every column count as long."""
    monkeypatch.setattr(FileSource, "whole_up_to", 0)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks so short that a row, and an entry of it, crosses several."""
    monkeypatch.setattr(column, "BLOCK_BYTES", 12)
    monkeypatch.setattr(schema, "BLOCK_BYTES", 12)


def test_long_columns_say_what_short_ones_say(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = list(said(shard))
    monkeypatch.setattr(FileSource, "whole_up_to", 0)
    assert list(said(shard)) == short


@pytest.mark.usefixtures("blocks", "long_columns")
def test_rows_that_cross_blocks_say_the_same(
    make_shard: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard("blocks", range(7))
    long = list(said(shard))
    monkeypatch.setattr(FileSource, "whole_up_to", 2**24)
    assert list(said(shard)) == long
    assert [checked for checked in verify(shard) if checked.error] == []
    with Benchmark(shard) as benchmark:
        for num_runs in (1, 2, 3, 9):
            blocks = benchmark.streamed(["metrics/valid_loss", "runs/key"], num_runs)
            streamed = np.concatenate([block["metrics/valid_loss"] for block in blocks])
            assert (streamed == benchmark.array("valid_loss").data).all()


@pytest.mark.usefixtures("blocks", "long_columns")
def test_a_damaged_block_hides_only_the_rows_that_touch_it(
    make_shard: Callable[..., Path], flip: Flip
) -> None:
    shard = make_shard("blocks", range(7))
    with h5py.File(shard) as file:
        column = file["metrics/valid_loss"]
        flip(shard, column.id.get_offset() + 2 * 24)  # of the third run
    with Benchmark(shard) as benchmark:
        for run in benchmark:
            if run.number == 2:
                with pytest.raises(DamagedFileError, match="metrics/valid_loss: a checksum"):
                    run.curve("valid_loss")
            else:
                assert run.metric("valid_loss", epoch=0) == 3.0


@pytest.mark.usefixtures("long_columns")
def test_no_flipped_bit_makes_them_say_anything_else(shard: Path) -> None:
    truth, data = dict(said(shard)), shard.read_bytes()
    rng = np.random.default_rng(1)
    num_refused = 0
    for position in rng.choice(column_bytes(shard), 20, replace=False).tolist():
        mutant = bytearray(data)
        mutant[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(mutant)
        for question, answer in said(shard):
            if isinstance(answer, DTBError):
                num_refused += 1
            else:
                assert answer == truth[question], (position, question)
    assert num_refused > 20


@pytest.mark.usefixtures("long_columns")
def test_a_damaged_row_is_not_believed(shard: Path, flip: Flip) -> None:
    with h5py.File(shard) as file:
        offset = file["metrics/valid_loss"].id.get_offset()
    flip(shard, offset)
    with Benchmark(shard) as benchmark:
        for ask in (
            lambda: benchmark.run(3).metric("valid_loss", epoch=0),
            lambda: benchmark.array("valid_loss", epoch=-1),
            lambda: benchmark.top(1, by="valid_loss", epoch=1),
        ):
            with pytest.raises(DamagedFileError, match="checksum"):
                ask()


def test_bytes_that_change_after_they_were_proved_are_noticed(
    shard: Path, flip: Flip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSource, "whole_up_to", 0)
    with h5py.File(shard) as file:
        offset = file["metrics/valid_loss"].id.get_offset()
    with Benchmark(shard) as benchmark:
        assert benchmark.run(3).metric("valid_loss", epoch=0) == 3.0
        flip(shard, offset)
        with pytest.raises(
            DamagedFileError, match="metrics/valid_loss: a checksum of its bytes is wrong"
        ):
            benchmark.run(3).metric("valid_loss", epoch=0)


def test_the_numbers_of_very_many_runs_are_checked_when_they_are_asked_for(
    shard: Path, flip: Flip, monkeypatch: pytest.MonkeyPatch
) -> None:
    with h5py.File(shard) as file:
        offset = file["runs/number"].id.get_offset()
    flip(shard, offset, bit=3)
    with pytest.raises(DamagedFileError, match="runs/number"):
        Benchmark(shard)
    monkeypatch.setattr(index, "_CHECKED_AT_OPENING", -1)
    with Benchmark(shard) as benchmark:
        for ask in (
            lambda: benchmark.numbers,
            lambda: benchmark.run(3),
            lambda: next(iter(benchmark)).number,
        ):
            with pytest.raises(DamagedFileError, match="runs/number"):
                ask()


def test_one_run_of_a_long_benchmark_costs_the_blocks_it_touches(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSource, "whole_up_to", 0)
    lengths: list[int] = []
    read = FileSource.read

    def counted(source: FileSource, offset: int, length: int) -> bytes:
        lengths.append(length)
        return read(source, offset, length)

    monkeypatch.setattr(FileSource, "read", counted)
    with Benchmark(shard) as benchmark:
        run = benchmark.run(5)
        assert benchmark.moments  # once for all runs
        lengths.clear()
        answers: list[Any] = [run.metric("valid_loss", epoch=0), run.seed, run.state_epochs]
    assert answers == [3.0, 0, (0, 1, 2)]
    assert len(lengths) == 2 * 4
    assert max(lengths) <= schema.BLOCK_BYTES
