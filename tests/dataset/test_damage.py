"""What a reader makes of bytes that are not those that were written."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError

Flip = Callable[..., None]


def damaged_records(path: Path) -> list[str]:
    return [checked.record for checked in verify(path) if checked.error is not None]


def test_a_sound_file_has_no_damage(shard: Path) -> None:
    assert damaged_records(shard) == []


@pytest.mark.parametrize(
    "column", [c.name for c in schema.COLUMNS if not c.counts_failures] + list(schema.TEXTS[:3])
)
def test_a_flipped_bit_in_a_column_is_named(column: str, shard: Path, flip: Flip) -> None:
    with h5py.File(shard) as file:
        offset = file[column].id.get_offset()
    flip(shard, offset, bit=3)
    assert column in damaged_records(shard)


def test_a_flipped_bit_in_a_state_or_its_tensor_table_is_named(shard: Path, flip: Flip) -> None:
    with Benchmark(shard) as benchmark:
        index = benchmark._store.index
        state = int(index.column("state_index/offset")[1, 2])
        table = int(index.column("state_index/tensors_offset")[0])
    flip(shard, state + 30)
    assert damaged_records(shard) == ["run 5 state of epoch 2"]
    flip(shard, table + 5)
    assert damaged_records(shard) == [
        *(f"run 3 state of epoch {epoch}" for epoch in range(3)),
        "run 5 state of epoch 2",
    ]


def test_a_damaged_column_does_not_hide_the_others(shard: Path, flip: Flip) -> None:
    with h5py.File(shard) as file:
        offset = file["metrics/valid_loss"].id.get_offset()
    flip(shard, offset)
    with Benchmark(shard) as benchmark:
        assert benchmark.run(3).metric("valid_accuracy", epoch=0) == 0.03
        assert benchmark.run(3).state(epoch=0)
        with pytest.raises(DamagedFileError, match="metrics/valid_loss: its checksum"):
            benchmark.run(3).metric("valid_loss", epoch=0)


def replaced(path: Path, name: str, **settings: object) -> None:
    """Put another dataset under a column's name, with the checksum of the true one."""
    with h5py.File(path, "r+") as file:
        checksum = file[name].attrs["crc32c"]
        del file[name]
        file.create_dataset(name, **settings).attrs["crc32c"] = checksum


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": (2, 3), "dtype": "<f4"},
        {"shape": (3, 2), "dtype": "<f8"},
        {"shape": (2, 3), "dtype": "<f8", "chunks": (2, 3)},
        {"shape": (2, 3), "dtype": h5py.string_dtype()},
        {"shape": (2, 3), "dtype": "<f8", "external": [("/etc/passwd", 0, 48)]},
    ],
)
def test_a_column_of_another_kind_is_refused(settings: dict[str, object], shard: Path) -> None:
    replaced(shard, "metrics/valid_loss", **settings)
    with pytest.raises(DamagedFileError), Benchmark(shard) as benchmark:
        benchmark.array("valid_loss", epoch=0)


def test_an_absurd_shape_is_refused_before_it_takes_memory(shard: Path) -> None:
    replaced(shard, "failures/attempts", shape=(2**40,), dtype=np.int64)
    with Benchmark(shard) as benchmark, pytest.raises(DamagedFileError, match="bytes in a file of"):
        benchmark.failures  # noqa: B018
    replaced(shard, "runs/number", shape=(2**40,), dtype=np.int64)
    with pytest.raises(DamagedFileError, match="runs/number"):
        Benchmark(shard)


def test_a_link_in_place_of_a_column_is_refused(shard: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.zeros((2, 3))
    with h5py.File(shard, "r+") as file:
        del file["metrics/valid_loss"], file["metrics/test_loss"]
        file["metrics/valid_loss"] = h5py.ExternalLink("other.h5", "secret")
        file["metrics/test_loss"] = h5py.SoftLink("/metrics/train_loss")
    with Benchmark(shard) as benchmark:
        for name in ("valid_loss", "test_loss"):
            with pytest.raises(DamagedFileError):
                benchmark.array(name, epoch=0)
