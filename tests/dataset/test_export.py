import json
import math
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas
import pytest

from dtb_builder import Benchmark
from dtb_builder.cli import main
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import METRICS

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [export]")

from pyarrow import parquet  # noqa: E402 - only where it is installed

from dtb_builder.dataset import export  # noqa: E402 - the same

MakeShard = Callable[..., Path]
WRITERS = {"parquet": export.export_parquet, "csv": export.export_csv}
READERS = {"parquet": pandas.read_parquet, "csv": pandas.read_csv}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("block_runs", [1, 1024])
def test_a_table_has_what_the_benchmark_says(
    kind: str, block_runs: int, shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BLOCK_RUNS", block_runs)
    with Benchmark(shard) as benchmark:
        WRITERS[kind](benchmark, tmp_path / "table")
        expected = benchmark.to_dataframe()
    found = READERS[kind](tmp_path / "table")
    pandas.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=True)


def test_what_was_not_measured_is_null_and_what_is_no_number_is_not(
    make_shard: MakeShard, tmp_path: Path
) -> None:
    def diverged(_number: int, epoch: int) -> dict[str, float]:
        return {"train_loss": math.nan} if epoch else {}

    with Benchmark(make_shard("shard", [1], metrics=diverged)) as benchmark:
        export.export_parquet(benchmark, tmp_path / "table")
    found = parquet.read_table(tmp_path / "table")["train_loss"].to_pylist()
    assert found[0] is None
    assert [math.isnan(value) for value in found[1:]] == [True, True]


def test_a_table_says_where_it_comes_from_and_what_it_means(shard: Path, tmp_path: Path) -> None:
    with Benchmark(shard) as benchmark:
        export.export_parquet(benchmark, tmp_path / "table")
    schema = parquet.read_schema(tmp_path / "table")
    assert schema.metadata[b"dtb_provenance"] == b'{"config": {"plan": "fake"}}'
    for name, meaning in METRICS.items():
        assert schema.field(name).metadata[b"meaning"] == meaning.encode()


@pytest.mark.parametrize("kind", WRITERS)
def test_nothing_is_written_of_a_damaged_benchmark(
    kind: str, shard: Path, tmp_path: Path, flip: Callable
) -> None:
    with h5py.File(shard) as file:
        offset = file["metrics/valid_loss"].id.get_offset()
    flip(shard, offset)
    with Benchmark(shard) as benchmark, pytest.raises(DamagedFileError, match="valid_loss"):
        WRITERS[kind](benchmark, tmp_path / "table")
    assert not list(tmp_path.glob("*table*"))


def test_the_command_writes_both(
    shard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, text = tmp_path / "table.parquet", tmp_path / "table.csv"
    assert main(["export", str(shard), "--parquet", str(table), "--csv", str(text)]) == 0
    assert f"{table}: 6 rows" in capsys.readouterr().out
    assert len(pandas.read_parquet(table)) == len(pandas.read_csv(text)) == 6
    assert main(["export", str(shard)]) == 2
    assert "--parquet TABLE, --csv TABLE or both" in capsys.readouterr().err


def test_xarray_has_metrics_by_run_and_epoch(shard: Path) -> None:
    pytest.importorskip("xarray", reason="needs the extra [export]")
    with Benchmark(shard) as benchmark:
        found = benchmark.to_xarray()
        assert dict(found.sizes) == {"run": 2, "epoch": 3}
        assert set(found.data_vars) == set(METRICS)
        one = found.sel(run=5, epoch=2)
        assert float(one.valid_accuracy) == benchmark.run(5).metric("valid_accuracy", epoch=2)
        assert str(one.genotype.item()) == str(benchmark.run(5).genotype)
        assert np.isnan(found.train_loss.sel(epoch=0)).all()
        assert json.loads(found.attrs["dtb_provenance"]) == benchmark.provenance


def test_arrow_has_null_where_nothing_was_measured(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        table = benchmark.to_arrow()
    assert table.column("train_loss").null_count == 2
    assert table.num_rows == 6
