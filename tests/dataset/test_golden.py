"""Files of every published schema version stay readable, for ever: a promise."""

from pathlib import Path

import pytest

from dtb_builder import NAMED, Benchmark
from dtb_builder.dataset import schema
from dtb_builder.dataset.merge import merge
from dtb_builder.dataset.verify import verify
from dtb_builder.record import Moment

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.h5"))
every = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)


def test_there_is_a_golden_file_of_this_version() -> None:
    assert f"schema-{schema.SCHEMA_VERSION}" in {path.stem for path in GOLDEN}


@every
def test_a_golden_file_says_what_it_always_said(path: Path) -> None:
    with Benchmark(path) as benchmark:
        assert benchmark.numbers.tolist() == [0, 1, 2]
        assert benchmark.provenance == {"config": {"note": "golden"}}
        run = benchmark[NAMED["DARTS_V2"]]
        assert (run.number, run.seed, run.order_seed) == (0, 7, 8)
        assert (run.num_parameters, run.multiply_accumulates) == (5, 6)
        assert run.origin == {"kind": "trained"}
        assert run.curve("valid_accuracy").tolist() == [0.0, 0.25, 0.5]
        assert run.curve("train_seconds").tolist() == [None, 1.5, 1.5]
        assert run.environment(epoch=0) == {"device_name": "golden"}
        (failure,) = benchmark.failures
        assert (failure.number, failure.seed, failure.order_seed, failure.attempts) == (3, 7, 8, 3)
        assert failure.message == "RuntimeError: golden"


@every
def test_a_golden_files_states_have_the_bits_that_were_stored(path: Path) -> None:
    with Benchmark(path) as benchmark:
        run = benchmark.run(1)
        moments = (Moment(0, 0), Moment(1), Moment(2), Moment(3, 1), Moment(6, 2, base=3))
        assert run.moments == benchmark.moments == moments
        state = run.state(epoch=1)
        assert state["stem.0.weight"].reshape(-1).tolist() == [30.5, 31.5]
        assert state["classifier.bias"].tolist() == [32.5, 33.5, 34.5]
        assert run.state(step=2)["classifier.bias"].tolist() == [22.5, 23.5, 24.5]
        assert run.state(epoch=2)["classifier.bias"].tolist() == [62.5, 63.5, 64.5]
        assert run.training_state(epoch=2).num_batches_tracked == 6
        assert run.momentum_epochs == (2,)
        assert run.momentum(epoch=2)["classifier.bias"].tolist() == [-62.5, -63.5, -64.5]
        assert run.state_crc32c(epoch=2) == 0x4897BE04


@every
def test_a_golden_files_diverged_run_ends_early(path: Path) -> None:
    with Benchmark(path) as benchmark:
        run = benchmark.run(2)
        assert run.num_epochs == 1
        assert run.curve("valid_accuracy").tolist() == [0.25, 0.5, None]
        assert run.state_epochs == (0, 1)


@every
def test_a_golden_file_is_sound_and_can_be_merged_again(path: Path, tmp_path: Path) -> None:
    assert [checked for checked in verify(path) if checked.error] == []
    for _ in merge([path], tmp_path / "dtb.h5"):
        pass
    assert [checked for checked in verify(tmp_path / "dtb.h5") if checked.error] == []
