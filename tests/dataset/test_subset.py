"""Benchmarks of fewer runs or fewer states of another."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from altering import alter

from dtb_builder import Benchmark
from dtb_builder.dataset import codec, schema
from dtb_builder.dataset.kept import Kept
from dtb_builder.dataset.store import FailedRun, Store
from dtb_builder.dataset.subset import States, subset
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError, NoSuchRunError, StateNotKeptError
from dtb_builder.record import METRICS, Moment

MakeShard = Callable[..., Path]
EPOCHS: dict[States, tuple[int, ...]] = {"ends": (0, 2), "logarithmic": (0, 1, 2), "none": ()}


def curves(run: Any) -> list[Any]:
    facts = [run.genotype, run.seed, run.environment(epoch=0), run.state_crc32c(epoch=1)]
    return facts + [run.curve(name).tolist() for name in METRICS]


@pytest.mark.parametrize("volume_size", [None, 1])
def test_fewer_runs_keep_their_numbers_and_their_own_checksums(
    make_shard: MakeShard, failed: FailedRun, tmp_path: Path, volume_size: int | None
) -> None:
    shard = make_shard("shard", [0, 2, 3, 5, 9], [failed])
    into = tmp_path / "cut.h5"
    with Benchmark(shard) as whole:
        subset(whole, [whole.run(9), 2, 4], into=into, volume_size=volume_size)
        with Benchmark(into) as cut:
            assert cut.numbers.tolist() == [2, 9]
            assert cut.failures == (failed,)
            for run in cut:
                other = whole.run(run.number)
                assert curves(run) == curves(other)
                assert (run.crc32c, run.moments) == (other.crc32c, other.moments)
                assert (
                    run.origin["adopted_from"]
                    == cut.provenance["subset_of"][0]["provenance_sha256"]
                )
    assert [checked for checked in verify(into) if checked.error] == []


@pytest.mark.parametrize("states", EPOCHS)
def test_fewer_states_have_the_bits_that_they_had(
    states: States, make_shard: MakeShard, tmp_path: Path
) -> None:
    shard, into = make_shard("shard", [1, 4], diverged={4: 1}), tmp_path / "cut.h5"
    subset(shard, into=into, states=states)
    assert [checked for checked in verify(into) if checked.error] == []
    with Benchmark(shard) as whole, Benchmark(into) as cut:
        assert tuple(m.epoch for m in cut.moments) == EPOCHS[states]
        assert cut.run(4).state_epochs == tuple(e for e in EPOCHS[states] if e <= 1)
        for run in cut:
            other = whole.run(run.number)
            assert curves(run) == curves(other)
            for epoch in run.state_epochs:
                mine, its = (r.training_state(epoch=epoch) for r in (run, other))
                assert mine.values.tobytes() == its.values.tobytes()
            assert run.momentum_epochs == tuple(
                e for e in other.momentum_epochs if e in EPOCHS[states]
            )


def test_a_copy_without_states_has_no_tensor_tables(shard: Path, tmp_path: Path) -> None:
    subset(shard, into=tmp_path / "cut.h5", states="none", volume_size=1)
    assert not list(tmp_path.glob("states-*.h5"))  # it would be empty
    with contextlib.closing(Store(tmp_path / "cut.h5")) as cut, h5py.File(cut.path) as file:
        assert schema.STATES_GROUP not in file
        with contextlib.closing(Store(shard)) as whole:
            for name in ("num_floats", "num_tensors", "tensors_crc32c"):
                column = f"runs/{name}"
                assert cut.index.column(column).tolist() == whole.index.column(column).tolist()
    with (
        Benchmark(tmp_path / "cut.h5") as without,
        pytest.raises(StateNotKeptError, match="was not kept; kept are none"),
    ):
        without.run(3).state(epoch=0)


def test_states_without_a_tensor_table_are_damage(shard: Path) -> None:
    alter(shard, "runs/tensors_offset", (1,), 0, of_row=False)
    (found,) = [checked.error for checked in verify(shard) if checked.error]
    assert "has states, but no tensor table" in found


def test_a_difference_whose_base_goes_is_stored_whole_and_all_else_as_it_is(shard: Path) -> None:
    with contextlib.closing(Store(shard)) as store:
        moments = store.index.moments
        (difference,) = [moment for moment in moments if moment.base is not None]
        kept = Kept(moments, [difference._replace(base=None), moments[-1]])
        places, expected = store.states.places(0), store.states.state(0, moments.index(difference))
        assert kept.rows(places)["whole"] == [0, 1]
        found = kept.frame(store, 0, places, "whole", 0)
        assert codec.decode(found, num_floats=30).tobytes() == expected.values.tobytes()
        stored = store.states.frame(places, "whole", len(moments) - 1)
        assert kept.frame(store, 0, places, "whole", 1) == stored
        with pytest.raises(StateNotKeptError, match="after epochs 9 and steps 7"):
            Kept(moments, [Moment(7), Moment(90, 9)])


def test_a_run_whose_own_checksum_is_wrong_gets_no_new_one(shard: Path, tmp_path: Path) -> None:
    alter(shard, "metrics/valid_loss", (0, 1), 0.25, of_row=False)
    with pytest.raises(DamagedFileError, match="checksum of a run"):
        subset(shard, into=tmp_path / "cut.h5", states="ends")
    assert not list(tmp_path.glob("*cut*"))


def test_a_damaged_frame_leaves_no_file(
    shard: Path, tmp_path: Path, flip: Callable[..., None]
) -> None:
    with contextlib.closing(Store(shard)) as store:
        offset = int(np.asarray(store.index.column("moments/offset"))[1, 0])
    flip(shard, offset + 20)
    with pytest.raises(DamagedFileError, match="checksum"):
        subset(shard, [5], into=tmp_path / "cut.h5", states="ends")
    assert not list(tmp_path.glob("*cut*"))


def test_a_benchmark_is_not_replaced_by_its_subset(shard: Path) -> None:
    before = shard.read_bytes()
    with pytest.raises(ValueError, match="is the benchmark itself"):
        subset(shard, [3], into=shard.parent / "." / shard.name, states="none")
    assert shard.read_bytes() == before


def test_a_run_that_is_not_there_is_named(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchRunError, match="no run 4"):
        subset(shard, [3, 4], into=tmp_path / "cut.h5")
