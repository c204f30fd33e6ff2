import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtb_builder.dataset import codec
from dtb_builder.dataset.journal import (
    Journal,
    append_epoch,
    count_epochs,
    cut_journal,
    open_journal,
    read_journal,
)
from dtb_builder.errors import DamagedFileError

Make = Callable[..., Journal]


def fake_step_state(number: int, step: int) -> np.ndarray:
    return np.random.default_rng([number, 1000 + step]).standard_normal(30).astype(np.float32)


def values_of(journal: Journal) -> list[tuple[Any, ...]]:
    kept = [epoch for epoch in journal.epochs if epoch.num_batches_tracked is not None]
    frames = dict(zip((epoch.epoch for epoch in kept), journal.frames(kept), strict=True))
    step_frames = journal.step_frames()
    return [
        (
            e.epoch,
            dict(e.metrics),
            e.num_batches_tracked,
            e.key,
            frames.get(e.epoch),
            [(step.step, step.num_batches_tracked, next(step_frames)) for step in e.steps],
        )
        for e in journal.epochs
    ]


def test_what_was_appended_is_read(make_journal: Make) -> None:
    journal = make_journal(7, kept=(0, 2))
    assert journal.run.number == 7
    assert journal.last_epoch == 2
    assert [epoch.num_batches_tracked for epoch in journal.epochs] == [0, None, 20]
    assert [epoch.epoch for epoch in journal.whole] == [0, 2]
    assert count_epochs(journal.path) == 3


def test_the_states_of_steps_come_with_their_epoch(make_journal: Make) -> None:
    journal = make_journal(7, kept=(0, 2), steps=(2, 5))
    expected = [(step, step, codec.encode(fake_step_state(7, step))) for step in (2, 5)]
    assert [values[-1] for values in values_of(journal)] == [[], expected, []]


def test_a_journal_from_before_there_were_steps_or_differences_is_read(make_journal: Make) -> None:
    journal = make_journal(7, steps=(), differences={})
    assert b"steps" not in journal.path.read_bytes()
    assert b"key" not in journal.path.read_bytes()
    assert (journal.steps, journal.differences) == ((), ())


def test_a_difference_names_the_epoch_that_it_is_a_difference_to(make_journal: Make) -> None:
    journal = make_journal(7, differences={1: 0, 2: 0})
    assert [(e.epoch, e.key) for e in journal.differences] == [(1, 0), (2, 0)]
    key, *frames = journal.frames(journal.epochs)
    values = codec.decode(key, num_floats=30)
    for epoch, frame in enumerate(frames, start=1):
        expected = np.random.default_rng([7, epoch]).standard_normal(30).astype(np.float32)
        assert codec.decode_difference(frame, values).tobytes() == expected.tobytes()


def test_a_journal_cut_anywhere_keeps_just_its_whole_records(make_journal: Make) -> None:
    journal = make_journal(1)
    data, whole = journal.path.read_bytes(), values_of(journal)
    ends = [epoch.offset for epoch in journal.epochs[1:]] + [journal.num_bytes]
    for length in range(len(data)):
        journal.path.write_bytes(data[:length])
        read = read_journal(journal.path)
        num_whole = sum(end <= length for end in ends)
        if read is None:
            assert length < journal.epochs[0].offset
        else:
            assert values_of(read) == whole[:num_whole]
        assert count_epochs(journal.path) == num_whole


def test_a_flipped_bit_drops_its_record_and_those_after(make_journal: Make) -> None:
    journal = make_journal(1)
    data, whole = journal.path.read_bytes(), values_of(journal)
    starts = [epoch.offset for epoch in journal.epochs]
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << (position % 8)
        journal.path.write_bytes(damaged)
        read = read_journal(journal.path)
        num_before = sum(start <= position for start in starts) - 1
        assert (read is None) == (num_before < 0)
        if read is not None:
            assert values_of(read) == whole[:num_before]


def test_a_journal_goes_on_after_a_cut(make_journal: Make) -> None:
    journal = make_journal(1)
    whole = values_of(journal)
    last = journal.epochs[-1]
    (frame,) = journal.frames([last])
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    reopened = open_journal(journal.path, journal.run)
    assert reopened.last_epoch == 1
    append_epoch(
        journal.path,
        epoch=2,
        metrics=last.metrics,
        environment=last.environment,
        num_batches_tracked=last.num_batches_tracked,
        frame=frame,
    )
    again = read_journal(journal.path)
    assert again is not None
    assert values_of(again) == whole


def test_a_journal_of_another_run_is_refused(make_journal: Make) -> None:
    journal = make_journal(1)
    for other in (replace(journal.run, seed=9), replace(journal.run, plan="other plan")):
        with pytest.raises(DamagedFileError, match="is the journal of run 1 of plan"):
            open_journal(journal.path, other)


def test_cutting_keeps_the_first_epochs(make_journal: Make) -> None:
    journal = make_journal(1)
    whole = values_of(journal)
    for num_epochs in (2, 0):
        cut = cut_journal(journal, num_epochs=num_epochs)
        read = read_journal(journal.path)
        assert read == cut
        assert values_of(cut) == whole[:num_epochs]


@pytest.mark.parametrize("written", [0, 10, 70, 150])
def test_a_write_that_fails_leaves_the_journal_as_it_was(
    written: int, make_journal: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = make_journal(1, num_epochs=1)
    before = journal.path.read_bytes()
    write = os.write

    def failing(descriptor: int, data: memoryview) -> int:
        if len(data) > written:
            write(descriptor, data[:written])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", failing)
    with pytest.raises(OSError, match="No space left"):
        append_epoch(
            journal.path,
            epoch=2,
            metrics={},
            environment={},
            num_batches_tracked=0,
            frame=codec.encode(codec.decode(next(journal.frames(journal.whole)), num_floats=30)),
        )
    assert journal.path.read_bytes() == before


def test_there_are_no_epochs_where_there_is_no_journal(tmp_path: Path) -> None:
    assert count_epochs(tmp_path / "nothing") == 0


def test_a_metric_that_no_file_has_a_place_for_is_refused(make_journal: Make) -> None:
    journal = make_journal(1)
    with pytest.raises(ValueError, match="unknown metrics top5: metrics are train_loss, "):
        append_epoch(
            journal.path,
            epoch=3,
            metrics={"top5": 0.9},
            environment={},
            num_batches_tracked=None,
            frame=b"",
        )
    assert count_epochs(journal.path) == 3
