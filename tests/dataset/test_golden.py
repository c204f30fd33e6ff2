"""Files of every schema version stay readable, for ever; a failure here is a broken promise."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from dtb_builder import NAMED, Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.verify import verify
from dtb_builder.errors import DamagedFileError

GOLDEN = Path(__file__).parents[1] / "golden"


def test_there_is_a_golden_file_of_this_version() -> None:
    assert (GOLDEN / f"schema-{schema.SCHEMA_VERSION}.h5").exists()


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.h5")), ids=lambda path: path.stem)
def test_a_golden_file_says_what_it_always_said(path: Path) -> None:
    with Benchmark(path) as benchmark:
        assert benchmark.numbers.tolist() == [0, 1]
        assert benchmark.provenance == {"config": {"note": "golden"}}
        run = benchmark[NAMED["DARTS_V2"]]
        assert (run.number, run.seed, run.num_parameters) == (0, 7, 5)
        assert run.curve("valid_accuracy")[:2].tolist() == [0.0, 0.25]
        assert run.curve("train_seconds")[:2].tolist() == [None, 1.5]
        state = benchmark.run(1).state(epoch=1)
        assert state["stem.0.weight"].reshape(-1).tolist() == [10.5, 11.5]
        assert state["classifier.bias"].tolist() == [12.5, 13.5, 14.5]
        assert benchmark.run(1).training_state(epoch=1).num_batches_tracked == 3
        assert benchmark.run(1).environment(epoch=0) == {"device_name": "golden"}
        (failure,) = benchmark.failures
        assert (failure.number, failure.attempts) == (2, 3)
        assert failure.message == "RuntimeError: golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.h5")), ids=lambda path: path.stem)
def test_a_golden_file_is_sound(path: Path) -> None:
    assert [checked for checked in verify(path) if checked.error] == []


def test_states_of_steps_say_what_they_always_said() -> None:
    with Benchmark(GOLDEN / "schema-1.1.h5") as benchmark:
        run = benchmark.run(1)
        assert run.state_steps == (1, 2)
        assert run.state(step=2)["classifier.bias"].tolist() == [192.5, 193.5, 194.5]
        assert run.state(step=1)["classifier.bias"].tolist() == [102.5, 103.5, 104.5]
        assert run.training_state(step=2).num_batches_tracked == 2


def test_a_state_that_is_a_difference_says_what_it_always_said() -> None:
    with Benchmark(GOLDEN / "schema-1.2.h5") as benchmark:
        run = benchmark.run(1)
        assert run.state_epochs == (0, 1, 2)
        assert run.state(epoch=2)["classifier.bias"].tolist() == [22.5, 23.5, 24.5]
        assert run.training_state(epoch=2).num_batches_tracked == 6
        assert run.state(step=2)["classifier.bias"].tolist() == [192.5, 193.5, 194.5]


@pytest.mark.parametrize("minor", [0, 1])
def test_a_file_from_before_there_were_differences_has_whole_states(minor: int) -> None:
    with Benchmark(GOLDEN / f"schema-1.{minor}.h5") as benchmark:
        assert benchmark.run(1).state_epochs == (0, 1)
        assert benchmark._store.differences(1) == {}


def test_a_file_from_before_there_were_states_of_steps_has_none() -> None:
    with Benchmark(GOLDEN / "schema-1.0.h5") as benchmark:
        assert benchmark.run(1).state_steps == ()
        with pytest.raises(KeyError, match="the state of step 2 was not kept; kept are none"):
            benchmark.run(1).state(step=2)


@pytest.mark.parametrize("minor", [0, 1])
def test_an_older_file_is_merged_into_one_of_this_schema(minor: int, tmp_path: Path) -> None:
    target = tmp_path / "dtb.h5"
    for _ in merge([GOLDEN / f"schema-1.{minor}.h5"], target):
        pass
    assert [checked for checked in verify(target) if checked.error] == []
    with Benchmark(target) as benchmark:
        assert benchmark.schema_version == schema.SCHEMA_VERSION
        assert benchmark.run(1).state(epoch=1)["classifier.bias"].tolist() == [12.5, 13.5, 14.5]


@pytest.mark.parametrize(
    ("version", "older", "group"),
    [("1.1", "1.0", "step_index"), ("1.2", "1.1", "difference_index")],
)
def test_a_file_that_calls_itself_older_than_it_is_is_refused(
    version: str, older: str, group: str, tmp_path: Path
) -> None:
    """Some of its states would be overlooked."""
    path = tmp_path / "older.h5"
    path.write_bytes((GOLDEN / f"schema-{version}.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs[schema.VERSION_ATTRIBUTE] = older
    with pytest.raises(DamagedFileError, match=f"version {older} has no {group}"):
        Benchmark(path)


def test_states_have_the_bits_that_were_stored() -> None:
    with Benchmark(GOLDEN / "schema-1.0.h5") as benchmark:
        values = benchmark.run(0).training_state(epoch=0).values
    assert values.tobytes() == np.arange(5, dtype=np.float32).tobytes()
