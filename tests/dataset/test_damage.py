"""What a reader makes of bytes that are not those that were written."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from chaos.mutants import HOSTILE, seal, seal_columns
from chaos.reading import taking_at_most

from dtb_builder import Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.salvage import LostRun, salvage
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError, DTBError
from dtb_builder.space import sample_uniform

Flip = Callable[..., None]


def damaged_records(path: Path) -> list[str]:
    return [checked.record for checked in verify(path) if checked.error is not None]


def test_a_sound_file_has_no_damage(shard: Path) -> None:
    assert damaged_records(shard) == []


@pytest.mark.parametrize(
    ("change", "record"),
    [
        ("numbers do not increase", "order of runs/number"),
        ("moments do not increase", "table of moments"),
        ("a difference is to itself", "table of moments"),
        ("a truth value is neither", "what was measured"),
        ("a run ends after the last epoch", "what was measured"),
        ("a diverged run goes on", "what was measured"),
        ("the provenance has another checksum", "provenance"),
    ],
)
def test_what_is_out_of_order_is_named(change: str, record: str, shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        HOSTILE[change](file)
    assert record in damaged_records(shard)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("metrics/valid_accuracy", np.inf),
        ("metrics/valid_accuracy", np.nan),
        ("metrics/valid_accuracy", 1.01),
        ("metrics/valid_loss", -0.1),
        ("runs/num_parameters", -1),
    ],
)
def test_a_value_that_cannot_be_is_named(column: str, value: float, shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        dataset_at(file, column)[0] = value
        seal(file)
    assert damaged_records(shard) == ["values"]


def test_a_loss_may_be_no_number(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        dataset_at(file, "metrics/valid_loss")[0, :2] = np.nan, np.inf
        seal(file)
    assert damaged_records(shard) == []


@pytest.mark.parametrize("number", [-1, 7])
@pytest.mark.parametrize("what", ["environment", "origin"])
def test_an_environment_or_origin_that_is_not_there_is_named_and_not_copied(
    what: str, number: int, shard: Path, tmp_path: Path
) -> None:
    with h5py.File(shard, "r+") as file:
        dataset_at(file, f"runs/{what}")[...] = number
        seal(file)
    assert damaged_records(shard) == ["environments and origins"]
    with pytest.raises(DamagedFileError, match=f"refer to {what}s that are missing"):
        list(merge([shard], tmp_path / "merged.h5"))
    (tmp_path / "saved").mkdir()
    assert [type(run) for run in salvage(shard, tmp_path / "saved", plan="")] == [LostRun] * 2


@pytest.mark.parametrize(
    ("texts", "record"),
    [
        ({"provenance": "[1]"}, "provenance"),
        ({"provenance": "nope"}, "provenance"),
        ({"environments": '"5"'}, "environments and origins"),
        ({"origins": "[]"}, "environments and origins"),
    ],
)
def test_a_text_that_is_no_object_is_named(
    texts: dict[str, str], record: str, make_shard: Callable[..., Path]
) -> None:
    shard = make_shard("odd", [3], provenance=texts.get("provenance", "{}"))
    for name in texts.keys() - {"provenance"}:
        with h5py.File(shard, "r+") as file:
            del file[name]
            file[name] = np.array([texts[name].encode()])
            seal(file)
    assert damaged_records(shard) == [record]
    with Benchmark(shard) as benchmark, pytest.raises(DamagedFileError):
        _ = benchmark.provenance, benchmark.environments, benchmark.run(3).origin


def test_a_row_that_its_checksum_does_not_prove_is_named(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        stored = dataset_at(file, "runs/crc32c")
        stored[...] = np.asarray(stored[...]) ^ 1
        seal_columns(file)
    assert "rows of runs/crc32c" in damaged_records(shard)


def test_a_state_that_is_not_the_one_trained_is_named(make_shard: Callable[..., Path]) -> None:
    """Its frame and its row may be sound: somebody stored another state."""
    states = '{"dtype": "float32", "auxiliary_head": true}'
    shard = make_shard("odd", [3], provenance=f'{{"config": {{"states": {states}}}}}')
    assert damaged_records(shard) == []
    with h5py.File(shard, "r+") as file:
        dataset_at(file, "runs/state_crc32c")[0, 2] ^= 1
        seal(file)
    assert damaged_records(shard) == ["run 3 state of epoch 2"]


@pytest.mark.parametrize(
    "column",
    [c.name for c in schema.COLUMNS if not c.name.startswith("failures/")] + list(schema.TEXTS[:3]),
)
def test_a_flipped_bit_in_a_column_is_named(column: str, shard: Path, flip: Flip) -> None:
    with h5py.File(shard) as file:
        offset = file[column].id.get_offset()
    flip(shard, offset, bit=3)
    assert column in damaged_records(shard)


@pytest.mark.parametrize("column", ["metrics/valid_loss", "moments/step", "provenance"])
def test_a_flipped_bit_in_the_checksums_of_a_column_is_named(
    column: str, shard: Path, flip: Flip
) -> None:
    with h5py.File(shard) as file:
        offset = file[schema.checksums_of(column)].id.get_offset()
    flip(shard, offset, bit=3)
    assert column in damaged_records(shard)


def test_a_flipped_bit_in_a_state_or_its_tensor_table_is_named(shard: Path, flip: Flip) -> None:
    with Benchmark(shard) as benchmark:
        index = benchmark._store.index
        step, difference, state = (int(index.column("moments/offset")[1, i]) for i in (1, 3, 4))
        momentum = int(index.column("moments/momentum_offset")[1, 3])
        table = int(index.column("runs/tensors_offset")[0])
    flip(shard, state + 30)
    assert damaged_records(shard) == ["run 5 state of epoch 2"]
    for offset in (step + 30, difference + 30, momentum + 30, table + 5):
        flip(shard, offset)
    assert damaged_records(shard) == [
        "run 3 tensors",
        "run 5 state of step 2",
        "run 5 state of epoch 1",
        "run 5 momentum of epoch 1",
        "run 5 state of epoch 2",
    ]


def test_a_damaged_column_does_not_hide_the_others(shard: Path, flip: Flip) -> None:
    with h5py.File(shard) as file:
        offset = file["metrics/valid_loss"].id.get_offset()
    flip(shard, offset)
    with Benchmark(shard) as benchmark:
        assert benchmark.run(3).metric("valid_accuracy", epoch=0) == 0.03
        assert benchmark.run(3).state(epoch=0)
        with pytest.raises(DamagedFileError, match="metrics/valid_loss: a checksum"):
            benchmark.run(3).metric("valid_loss", epoch=0)


def replaced(path: Path, name: str, **settings: object) -> None:
    """Put another dataset under a column's name; the checksums stay those of the true one."""
    with h5py.File(path, "r+") as file:
        del file[name]
        file.create_dataset(name, **settings)


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


def test_a_compressed_column_is_refused_though_its_values_are_right(shard: Path) -> None:
    """Its size in memory would have nothing to do with its size in the file."""
    with h5py.File(shard) as file:
        values = np.asarray(file["metrics/valid_loss"])
    replaced(shard, "metrics/valid_loss", data=values, compression="gzip")
    with (
        Benchmark(shard) as benchmark,
        pytest.raises(DamagedFileError, match="expected a contiguous dataset"),
    ):
        benchmark.array("valid_loss")


def test_an_absurd_shape_is_refused_before_it_takes_memory(shard: Path) -> None:
    replaced(shard, "failures/attempts", shape=(2**40,), dtype=np.int64)
    with Benchmark(shard) as benchmark, pytest.raises(DamagedFileError, match="bytes in a file of"):
        benchmark.failures  # noqa: B018
    replaced(shard, "runs/number", shape=(2**40,), dtype=np.int64)
    with pytest.raises(DamagedFileError, match="runs/number"):
        Benchmark(shard)


@pytest.mark.parametrize(
    "change",
    [
        "there are no runs and 2**60 epochs",
        "there are no runs and 2**40 epochs",
        "there seem to be 2**40 runs",
        "a state is endless",
        "unknown groups are nested deep",
    ],
)
def test_what_a_file_claims_takes_no_memory(change: str, shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        HOSTILE[change](file)
    with taking_at_most(128):
        with contextlib.suppress(DTBError):
            damaged_records(shard)
        with contextlib.suppress(DTBError), Benchmark(shard) as benchmark:
            benchmark.to_dataframe()


def test_a_column_of_another_sound_file_is_refused(
    shard: Path, make_shard: Callable[..., Path]
) -> None:
    other = make_shard("other", [3, 5], seed=1, genotype=sample_uniform(1, 1))
    for name in ("metrics/valid_accuracy", "runs"):
        with h5py.File(shard, "r+") as file:
            del file[name]
            file[name] = h5py.ExternalLink(other.name, f"/{name}")
        with pytest.raises(DamagedFileError), Benchmark(shard) as benchmark:
            benchmark.array("valid_accuracy", epoch=0)


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


def as_hdf5_reads(path: Path) -> dict[str, bytes]:
    """Every dataset, through the stock filters, without DTB's own checks."""
    assert hdf5plugin.Zstd.filter_id == 32015
    found: dict[str, bytes] = {}

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[...]).tobytes()

    with h5py.File(path) as file:
        file.visititems(read)
    return found


def test_what_is_called_sound_other_readers_read_unchanged(shard: Path) -> None:
    data, expected = shard.read_bytes(), as_hdf5_reads(shard)
    rng = np.random.default_rng(0)
    num_sound = 0
    for position in rng.choice(len(data), 300, replace=False).tolist():
        mutant = bytearray(data)
        mutant[position] ^= 1 << int(rng.integers(8))
        shard.write_bytes(mutant)
        try:
            sound = damaged_records(shard) == []
        except DTBError:
            continue
        if sound:
            num_sound += 1
            assert as_hdf5_reads(shard) == expected, position
    assert 0 < num_sound < 150  # the gaps between HDF5's objects


@pytest.mark.parametrize("name", [schema.WHOLE, schema.DIFFERENCES, schema.MOMENTUM])
def test_states_that_hdf5_finds_elsewhere_than_the_index_are_named(name: str, shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        values = dataset_at(file, f"states/00000003/{name}")
        chunk = values.id.read_direct_chunk((0, 0))[1]
        values.id.write_direct_chunk((0, 0), chunk + b"longer")
    assert damaged_records(shard) == ["run 3 in HDF5"]


def test_a_dataset_beside_the_states_is_named(shard: Path) -> None:
    with h5py.File(shard, "r+") as file:
        file["states/00000003/more"] = np.zeros(3)
    assert damaged_records(shard) == ["run 3 in HDF5"]
