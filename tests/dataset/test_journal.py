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
    MomentFrames,
    append_end,
    append_epoch,
    cut_journal,
    open_journal,
    peek_journal,
    read_journal,
)
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import Moment

Make = Callable[..., Journal]


def values_of(journal: Journal) -> list[tuple[Any, ...]]:
    frames = journal.read(span for kept in journal.moments for span in kept[1:])
    return [
        (
            epoch.epoch,
            dict(epoch.metrics),
            epoch.state_crc32c,
            [(kept.moment, next(frames), next(frames)) for kept in epoch.moments],
        )
        for epoch in journal.epochs
    ]


def test_what_was_appended_is_read(make_journal: Make) -> None:
    journal = make_journal(7, kept=(0, 2))
    assert journal.run.number == 7
    assert (journal.last_epoch, journal.ended) == (2, None)
    assert [kept.moment for kept in journal.moments] == [
        Moment(0, 0),
        Moment(2),
        Moment(5),
        Moment(20, 2),
    ]
    assert peek_journal(journal.path).num_epochs == 3


def test_a_moment_within_an_epoch_stands_in_the_record_of_its_epoch(make_journal: Make) -> None:
    journal = make_journal(7, steps=(2, 15))
    steps = [[kept.moment.step for kept in epoch.moments] for epoch in journal.epochs]
    assert steps == [[0], [2, 10], [15, 20]]


def test_frames_are_those_that_were_appended(make_journal: Make) -> None:
    journal = make_journal(7, differences={1: 0, 2: 0}, steps=(), momentum=(2,))
    base, *differences = journal.read(kept.frame for kept in journal.moments)
    values = codec.decode(base, num_floats=30)
    for epoch, frame in enumerate(differences, start=1):
        expected = np.random.default_rng([7, epoch]).standard_normal(30).astype(np.float32)
        assert codec.decode_difference(frame, values).tobytes() == expected.tobytes()
    (*_, momentum) = journal.read(kept.momentum for kept in journal.moments)
    expected = np.random.default_rng([7, 2002]).standard_normal(30).astype(np.float32)
    assert codec.decode(momentum, num_floats=30).tobytes() == expected.tobytes()
    assert [kept.momentum[1] > 0 for kept in journal.moments] == [False, False, True]


def test_a_run_that_ended_early_says_why_and_has_no_more_epochs(make_journal: Make) -> None:
    journal = make_journal(1, num_epochs=1, ended="it diverged")
    assert (journal.last_epoch, journal.ended) == (1, "it diverged")
    assert journal.is_finished(2)
    assert not make_journal(2, num_epochs=1).is_finished(2)
    assert peek_journal(journal.path).has_ended
    assert open_journal(journal.path, journal.run) == journal
    append_epoch(journal.path, epoch=2, metrics={}, environment={}, state_crc32c=0)
    assert read_journal(journal.path) == journal


def test_an_end_that_is_torn_is_none(make_journal: Make) -> None:
    journal = make_journal(1, num_epochs=1)
    append_end(journal.path, "it diverged")
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    read = read_journal(journal.path)
    assert read is not None
    assert read.ended is None
    assert read.last_epoch == 1


@pytest.mark.parametrize(
    "text", ["[]", "5", "{}", '{"epoch": 0}', "[" * 100_000, '{"epoch": 0, "moments": 7}', "{]"]
)
def test_a_sound_record_of_other_json_is_damage(text: str, make_journal: Make) -> None:
    """Whoever can write on a shared disk can make checksums right."""
    from dtb_builder.dataset import journal as module

    journal = make_journal(1, num_epochs=0)
    for kind in (module._RUN, module._EPOCH):
        header = module._HEADER
        checksum = codec.crc32c(text.encode())
        packed = header.pack(module._MAGIC, kind, 0, len(text), 0, checksum, bytes(24))
        packed += module._OWN_CHECKSUM.pack(codec.crc32c(packed))
        before = journal.path.read_bytes() if kind == module._EPOCH else b""
        other = journal.path.with_name("other.journal")
        other.write_bytes(before + packed + text.encode())
        with pytest.raises(DamagedFileError, match="a record is not a journal's"):
            read_journal(other)
        assert peek_journal(other).metrics == {}


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
        assert peek_journal(journal.path).num_epochs == num_whole


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
    frames = [MomentFrames(kept.moment, *journal.read(kept[1:])) for kept in last.moments]
    journal.path.write_bytes(journal.path.read_bytes()[:-1])
    reopened = open_journal(journal.path, journal.run)
    assert reopened.last_epoch == 1
    append_epoch(
        journal.path,
        epoch=2,
        metrics=last.metrics,
        environment=last.environment,
        state_crc32c=last.state_crc32c,
        moments=frames,
    )
    again = read_journal(journal.path)
    assert again is not None
    assert values_of(again) == whole


def test_a_journal_of_another_run_is_refused(make_journal: Make) -> None:
    journal = make_journal(1)
    for other in (
        *(replace(journal.run, **{name: 9}) for name in ("seed", "order_seed")),
        replace(journal.run, plan="other plan"),
    ):
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
            state_crc32c=0,
            moments=[MomentFrames(Moment(20, 2), codec.encode(np.zeros(30, np.float32)))],
        )
    assert journal.path.read_bytes() == before


def test_there_are_no_epochs_where_there_is_no_journal(tmp_path: Path) -> None:
    assert peek_journal(tmp_path / "nothing").num_epochs == 0


def test_a_metric_that_no_file_has_a_place_for_is_refused(make_journal: Make) -> None:
    journal = make_journal(1)
    with pytest.raises(ValueError, match="unknown metrics top5: metrics are train_loss, "):
        append_epoch(journal.path, epoch=3, metrics={"top5": 0.9}, environment={}, state_crc32c=0)
    assert peek_journal(journal.path).num_epochs == 3
