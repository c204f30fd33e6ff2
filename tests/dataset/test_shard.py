from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset.conftest import fake_moments

from dtb_builder import Benchmark
from dtb_builder.dataset import shard as shard_module
from dtb_builder.dataset.atomic import whole_file
from dtb_builder.dataset.codec import crc32c
from dtb_builder.dataset.journal import Journal
from dtb_builder.dataset.opening import dataset_at
from dtb_builder.dataset.shard import write_shard
from dtb_builder.dataset.states import table_to_array
from dtb_builder.dataset.store import FailedRun
from dtb_builder.errors import DuplicateRunError, UnfinishedError
from dtb_builder.record import METRICS, TensorTable
from dtb_builder.space import sample_uniform

MakeJournal = Callable[..., Journal]
MakeShard = Callable[..., Path]


def test_a_shard_says_what_its_journals_say(
    make_shard: MakeShard, make_journal: MakeJournal
) -> None:
    path = make_shard("shard", [5, 3], kept=(0, 2))
    with Benchmark(path) as benchmark:
        assert benchmark.numbers.tolist() == [3, 5]
        for run in benchmark:
            journal = make_journal(run.number, kept=(0, 2))
            assert run.genotype == sample_uniform(0, run.number)
            assert run.tensors == journal.run.tensors
            assert run.state_epochs == (0, 2)
            for epoch in journal.epochs:
                for name in METRICS:
                    value = run.curve(name)[epoch.epoch]
                    if name in epoch.metrics:
                        assert value == epoch.metrics[name]
                    else:
                        assert value is np.ma.masked
                assert run.environment(epoch=epoch.epoch) == epoch.environment


def test_states_come_back_bit_for_bit(shard: Path) -> None:
    from_seed = np.random.default_rng([5, 1]).standard_normal(30).astype(np.float32)
    with Benchmark(shard) as benchmark:
        run = benchmark.run(5)
        state = run.training_state(epoch=1)
        assert state.values.tobytes() == from_seed.tobytes()
        assert state.num_batches_tracked == 10
        assert run.state_crc32c(epoch=1) == crc32c(from_seed.tobytes())
        assert run.state_crc32c(epoch=2) == crc32c(run.training_state(epoch=-1).values.tobytes())
        named = benchmark.run(5).state(epoch=1)
        assert {name: array.shape for name, array in named.items()} == {
            "stem.weight": (4, 3, 1, 2),
            "bn.weight": (5,),
            "scalar": (),
        }
        assert np.array_equal(named["bn.weight"], from_seed[24:29])


def test_states_of_steps_come_back_bit_for_bit(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(5)
        assert run.state_steps == (2, 5)
        for step in (2, 5):
            expected = np.random.default_rng([5, 1000 + step]).standard_normal(30)
            state = run.training_state(step=step)
            assert state.values.tobytes() == expected.astype(np.float32).tobytes()
            assert state.num_batches_tracked == step
        assert run.state(step=2)["bn.weight"].shape == (5,)
        assert run.training_state(step=20).values.tobytes() == (
            run.training_state(epoch=2).values.tobytes()
        )
        with pytest.raises(KeyError, match="of step 3 was not kept; kept are 0, 2, 5, 10, 20"):
            run.state(step=3)
        with pytest.raises(
            TypeError, match=r"one of epoch and step must be .*, got epoch=1, step=2"
        ):
            run.state(epoch=1, step=2)


def test_a_state_that_is_a_difference_comes_back_bit_for_bit(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [5], differences={1: 0, 2: 0})) as benchmark:
        run = benchmark.run(5)
        assert run.state_epochs == (0, 1, 2)
        for epoch in (0, 1, 2):
            expected = np.random.default_rng([5, epoch]).standard_normal(30).astype(np.float32)
            state = run.training_state(epoch=epoch)
            assert state.values.tobytes() == expected.tobytes()
            assert state.num_batches_tracked == 10 * epoch
        assert run.state(epoch=-1)["bn.weight"].shape == (5,)


def test_momentum_comes_back_bit_for_bit(shard: Path) -> None:
    with Benchmark(shard) as benchmark:
        run = benchmark.run(5)
        assert run.momentum_epochs == (1, 2)
        for epoch in (1, -1):
            number = 2000 + (epoch if epoch > 0 else 2)
            expected = np.random.default_rng([5, number]).standard_normal(30).astype(np.float32)
            named = run.momentum(epoch=epoch)
            assert list(named) == ["stem.weight", "bn.weight", "scalar"]
            assert np.array_equal(named["bn.weight"], expected[24:29])
        with pytest.raises(KeyError, match="the momentum of epoch 0 was not kept; kept are 1 to 2"):
            run.momentum(epoch=0)


def test_a_state_that_the_shard_lacks_may_be_known_by_its_checksum(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [5], kept=(0,), differences={})) as benchmark:
        values = np.random.default_rng([5, 2]).standard_normal(30).astype(np.float32)
        assert benchmark.run(5).state_crc32c(epoch=-1) == crc32c(values.tobytes())


def test_a_journal_without_a_moment_that_was_planned_is_refused(
    make_journal: MakeJournal, tmp_path: Path
) -> None:
    options = {"provenance": "{}", "num_epochs": 2}
    planned = fake_moments()
    for number, odd in enumerate(
        ({"steps": (2,)}, {"differences": {2: 0}}, {"kept": (0, 1)}, {"steps": (2, 5, 7)})
    ):
        journal = make_journal(number, **odd)
        with pytest.raises(UnfinishedError, match="does not keep the planned moments"):
            write_shard(tmp_path / "shard.h5", [journal], moments=planned, **options)


def test_a_run_that_diverged_is_whole_up_to_its_last_epoch(
    make_journal: MakeJournal, tmp_path: Path
) -> None:
    path = tmp_path / "shard.h5"
    options = {"provenance": "{}", "num_epochs": 2, "moments": fake_moments()}
    diverged = make_journal(1, num_epochs=1, ended="it diverged")
    write_shard(path, [diverged, make_journal(2)], **options)
    with Benchmark(path) as benchmark:
        assert [run.num_epochs for run in benchmark] == [1, 2]
    lacking = make_journal(3, num_epochs=1, kept=(0, 2), differences={}, ended="it diverged")
    with pytest.raises(UnfinishedError, match=r"it lacks steps \[10, 20\]"):
        write_shard(path, [lacking], **options)


def test_a_shard_may_have_states_of_steps_alone(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("steps", [1], kept=())) as benchmark:
        assert benchmark.run(1).state_epochs == ()
        assert benchmark.run(1).state(step=5)


def test_epochs_that_ran_elsewhere_keep_their_device(make_shard: MakeShard) -> None:
    path = make_shard("shard", [1], device="abacus")
    with Benchmark(path) as benchmark:
        assert benchmark.environments == ({"device_name": "abacus"},)


def test_failures_are_listed(make_shard: MakeShard, failed: FailedRun) -> None:
    with Benchmark(make_shard("shard", [1], [failed])) as benchmark:
        assert benchmark.failures == (failed,)


def test_a_shard_may_hold_failures_or_no_states_alone(
    make_shard: MakeShard, failed: FailedRun
) -> None:
    with Benchmark(make_shard("failures", [], [failed])) as benchmark:
        assert len(benchmark) == 0
        assert benchmark.failures == (failed,)
        assert benchmark.top(3, by="valid_loss", epoch=-1) == ()
    with Benchmark(make_shard("stateless", [1], kept=())) as benchmark:
        assert benchmark.run(1).state_epochs == ()


def test_an_unfinished_journal_is_refused(make_journal: MakeJournal, tmp_path: Path) -> None:
    journal = make_journal(1, num_epochs=1)
    with pytest.raises(UnfinishedError, match="ends at epoch 1/2"):
        write_shard(tmp_path / "shard.h5", [journal], provenance="{}", num_epochs=2)


def test_a_run_that_comes_twice_is_refused(make_journal: MakeJournal, tmp_path: Path) -> None:
    journals = [make_journal(1), make_journal(1, seed=2)]
    with pytest.raises(DuplicateRunError, match=r"\[1\]"):
        write_shard(tmp_path / "shard.h5", journals, provenance="{}", num_epochs=2)


def test_a_shard_is_whole_or_absent(
    make_journal: MakeJournal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make_journal(1)
    monkeypatch.setattr(shard_module, "row_checksums", lambda *_: 1 / 0)
    options = {"provenance": "{}", "num_epochs": 2, "moments": fake_moments()}
    with pytest.raises(ZeroDivisionError):
        write_shard(tmp_path / "shard.h5", [journal], **options)
    assert [path.name for path in tmp_path.iterdir()] == [journal.path.name]


def test_a_name_that_the_schema_has_no_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 64 bytes"):
        table_to_array(TensorTable(("x" * 65,), ((1,),)))
    with pytest.raises(ValueError, match="4 sizes"):
        table_to_array(TensorTable(("x",), ((1, 1, 1, 1, 1),)))


def test_states_that_the_schema_has_no_room_for_are_refused() -> None:
    for shape in ((2**25 + 1,), (0,)):
        with pytest.raises(ValueError, match="a state has 1 to 33554432 floats"):
            table_to_array(TensorTable(("x",), (shape,)))


def test_a_value_that_was_not_measured_is_no_number_to_those_who_overlook_the_mask(
    shard: Path,
) -> None:
    with h5py.File(shard) as file:
        values, measured = (
            np.asarray(file[f"{name}/train_loss"]) for name in ("metrics", "measured")
        )
    assert np.array_equal(np.isnan(values), measured == 0)


def test_a_traceback_of_undecodable_bytes_is_kept(make_shard: MakeShard) -> None:
    message = "OSError: " + b"caf\xe9.png".decode(errors="surrogateescape")
    failure = FailedRun(4, sample_uniform(0, 4), 0, 0, 1, message)
    with Benchmark(make_shard("shard", [1], [failure])) as benchmark:
        assert benchmark.failures[0].message == r"OSError: caf\udce9.png"


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with whole_file(target) as one, whole_file(target) as other:
        one.write_bytes(b"same")
        other.write_bytes(b"same")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"same"


def test_a_file_that_plain_h5py_has_open_is_read(shard: Path) -> None:
    with h5py.File(shard) as file, Benchmark(shard) as benchmark:
        assert len(benchmark) == len(dataset_at(file, "runs/number"))
        with h5py.File(shard) as again:
            assert "runs/number" in again
