"""Files of other versions of the schema than this package writes."""

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.salvage import salvage
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError, SchemaVersionError

OWN_MINOR = int(schema.SCHEMA_VERSION.partition(".")[2])
NEWER_MINOR = f"2.{OWN_MINOR + 1}"


def with_version(path: Path, version: str) -> Path:
    """The file, called one of another version, with a column that only that version knows."""
    with h5py.File(path, "r+") as file:
        file.attrs[schema.VERSION_ATTRIBUTE] = version
        file.create_dataset("metrics_of_tomorrow/top5", data=np.zeros(2))
    return path


def test_a_newer_minor_version_is_read_with_a_warning(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        expected = benchmark.run(5).state(step=2)["bn.weight"]
        loss = benchmark.array("valid_loss", epoch=-1)
    with_version(shard, NEWER_MINOR)
    with pytest.warns(UserWarning, match=rf"has schema version {NEWER_MINOR}, newer than"):
        benchmark = Benchmark(shard)
    with benchmark:
        assert benchmark.schema_version == NEWER_MINOR
        assert np.array_equal(benchmark.array("valid_loss", epoch=-1), loss)
        assert np.array_equal(benchmark.run(5).state(step=2)["bn.weight"], expected)
    with pytest.warns(UserWarning, match="newer than"):
        assert [checked for checked in verify(shard) if checked.error] == []


def test_what_a_newer_minor_version_added_is_not_lost_in_a_copy(
    shard: Path, tmp_path: Path
) -> None:
    with_version(shard, NEWER_MINOR)
    with (
        pytest.warns(UserWarning, match="newer than"),
        pytest.raises(SchemaVersionError, match="a copy would lose what the newer version added"),
    ):
        list(merge([shard], tmp_path / "dtb.h5"))
    with (
        pytest.warns(UserWarning, match="newer than"),
        pytest.raises(SchemaVersionError, match="a copy would lose what the newer version added"),
    ):
        list(salvage(shard, tmp_path, plan="plan"))


def test_the_volumes_of_a_newer_minor_version_do_not_warn_again(
    make_shard: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "dtb.h5"
    for _ in merge([make_shard("a", [1, 2])], target, volume_size=1):
        pass
    for path in (target, *tmp_path.glob("states-*.h5")):
        with_version(path, NEWER_MINOR)
    with pytest.warns(UserWarning, match="newer than") as caught:
        benchmark = Benchmark(target)
    assert len(caught) == 1
    with benchmark, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert benchmark.run(2).state(epoch=1)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_a_draft_is_refused_in_one_clear_sentence(version: str, shard: Path) -> None:
    with pytest.raises(
        SchemaVersionError,
        match=rf"shard.h5 has schema version '{version}', a draft in which no benchmark was",
    ):
        Benchmark(with_version(shard, version))


@pytest.mark.parametrize("version", ["3.0", "0.9", "10.1", "20.1", "two"])
def test_another_major_version_is_refused(version: str, shard: Path) -> None:
    with pytest.raises(
        SchemaVersionError, match=f"has schema version '{version}', this dtb_builder"
    ):
        Benchmark(with_version(shard, version))


@pytest.mark.parametrize("version", ["2", "2.x", "2.0.0", "2.0\n", "2.1_0", "2.\u0663", "2. 1"])
def test_a_version_that_is_not_two_numbers_is_damage(version: str, shard: Path) -> None:
    with pytest.raises(DamagedFileError):
        Benchmark(with_version(shard, version))
