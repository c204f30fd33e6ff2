import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dtb_builder import Benchmark
from dtb_builder.dataset import selection
from dtb_builder.errors import NoSuchRunError, StateNotKeptError

MakeShard = Callable[..., Path]


@pytest.mark.parametrize("part_floats", [1, 100, 2**20])
def test_states_come_run_by_run_with_the_bits_of_each(
    part_floats: int, make_shard: MakeShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read together or alone, whole or as differences to a state of another part."""
    monkeypatch.setattr(selection, "_PART_FLOATS", part_floats)
    with Benchmark(make_shard("shard", [5, 3, 8])) as bench:
        states = bench.states()
        expected = [(run.number, moment) for run in bench for moment in run.moments]
        assert any(moment.base is not None for _, moment in expected)
        found = list(states)
        assert [(state.run.number, state.moment) for state in found] == expected
        assert len(states) == len(expected)
        for state, single in zip(found, map(states.__getitem__, range(len(states))), strict=True):
            wanted = state.run.training_state(step=state.step).values
            assert np.array_equal(state.values, wanted)
            assert np.array_equal(single.values, wanted)
            assert state.named().keys() == set(state.run.tensors.names)


def test_runs_epochs_and_steps_are_chosen(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [5, 3, 8])) as bench:
        chosen = bench.states(runs=[bench.run(8), 3], epochs=[0, -1], steps=[5])
        found = [(state.run.number, state.step) for state in chosen]
        assert found == [(number, step) for number in (3, 8) for step in (0, 5, 20)]
        assert len(bench.states(runs=[])) == 0
        assert [state.step for state in chosen[1:3]] == [5, 20]
        with pytest.raises(NoSuchRunError):
            bench.states(runs=[4])
        with pytest.raises(ValueError, match=r"is not of .*shard.h5: give the run's number there"):
            bench.states(runs=[Benchmark.example().run(3)])
        with pytest.raises(StateNotKeptError, match="no state of step 3 was kept"):
            bench.states(steps=[3])


def test_a_run_that_diverged_has_no_later_states(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", [3, 5], diverged={5: 1})) as bench:
        assert [state.run.number for state in bench.states(epochs=[-1])] == [3]


def test_whoever_stops_early_leaves_no_thread_behind(make_shard: MakeShard) -> None:
    with Benchmark(make_shard("shard", range(6))) as bench:
        for state in bench.states():
            assert state.run.number == 0
            break
    assert not [t for t in threading.enumerate() if t.name.startswith("dtb states")]
