"""The journal of a run in progress: one file, appended to, that survives kill -9 at any moment.

A record is a header of 64 bytes (magic, kind, lengths, CRC-32C of the payload, CRC-32C of the
header), then a JSON text, then the states' frames as they will stand in the shard: that of the
epoch, then those of its steps. The first record tells the run; every further one is an epoch. A
record counts only when its checksums hold, and only while every record before it counts.
"""

import json
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dtb_builder.dataset import codec
from dtb_builder.dataset.atomic import sync_folder
from dtb_builder.errors import DamagedFileError
from dtb_builder.record import METRICS, TensorTable

__all__ = [
    "Journal",
    "JournalEpoch",
    "JournalPeek",
    "JournalRun",
    "JournalStep",
    "StepFrame",
    "append_epoch",
    "count_epochs",
    "cut_journal",
    "open_journal",
    "peek_journal",
    "read_journal",
]

_HEADER = struct.Struct("<8sIIQQI24s")
_OWN_CHECKSUM = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _OWN_CHECKSUM.size
assert _HEADER_BYTES == 64
_MAGIC = b"DTBJRNL1"
_RUN, _EPOCH = 1, 2
_MAX_TEXT_BYTES = 2**24
_BLOCK_BYTES = 2**22


@dataclass(frozen=True)
class JournalRun:
    """What a journal's first record says: which run this is.

    Attributes:
        number: the run's number in the plan.
        genotype: its canonical text.
        seed: its seed.
        plan: SHA-256 of the config it was planned under.
        num_parameters: trainable parameters.
        tensors: where each tensor lies in the run's states.
    """

    number: int
    genotype: str
    seed: int
    plan: str
    num_parameters: int
    tensors: TensorTable


class StepFrame(NamedTuple):
    """The state after a step of an epoch, ready to be stored."""

    step: int
    num_batches_tracked: int
    frame: bytes


@dataclass(frozen=True)
class JournalStep:
    """One state after a step, left on disk.

    Attributes:
        step: of the epoch, from 1.
        num_batches_tracked: of the state.
        frame_offset: first byte of its frame in the file.
        frame_length: bytes of the frame.
    """

    step: int
    num_batches_tracked: int
    frame_offset: int
    frame_length: int


@dataclass(frozen=True)
class JournalEpoch:
    """One epoch in a journal, its states left on disk.

    Attributes:
        epoch: 0 is the initialisation.
        metrics: the metrics that were measured.
        environment: the device and software it ran on.
        num_batches_tracked: of the state; None where no state is kept.
        key: the epoch of the state that the frame is a difference to; None where it is whole.
        offset: first byte of the record in the file.
        frame_offset: first byte of the state's frame.
        frame_length: bytes of the frame; 0 where no state is kept.
        steps: the states within the epoch.
    """

    epoch: int
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]
    num_batches_tracked: int | None
    offset: int
    frame_offset: int
    frame_length: int
    key: int | None = None
    steps: tuple[JournalStep, ...] = ()


@dataclass(frozen=True)
class JournalPeek:
    """How far a run is.

    Attributes:
        num_epochs: in its journal, epoch 0 included.
        metrics: of the last of them; empty where there is none.
        environment: of the last of them, likewise.
    """

    num_epochs: int
    metrics: Mapping[str, float]
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Journal:
    """All records of a journal that count.

    Attributes:
        path: the file.
        run: whose journal it is.
        epochs: epoch 0, 1, ... without a hole.
        num_bytes: the file's length up to the last record that counts.
    """

    path: Path
    run: JournalRun
    epochs: tuple[JournalEpoch, ...]
    num_bytes: int

    @property
    def last_epoch(self) -> int | None:
        """The last finished epoch, or None before epoch 0."""
        return self.epochs[-1].epoch if self.epochs else None

    @property
    def steps(self) -> tuple[JournalStep, ...]:
        """The states within epochs."""
        return tuple(step for epoch in self.epochs for step in epoch.steps)

    def step_frames(self) -> Iterator[bytes]:
        """The frame of each of `steps`, one at a time."""
        with self.path.open("rb") as file:
            for step in self.steps:
                file.seek(step.frame_offset)
                yield file.read(step.frame_length)

    @property
    def whole(self) -> tuple[JournalEpoch, ...]:
        """The epochs whose state is kept as it is."""
        return tuple(e for e in self.epochs if e.num_batches_tracked is not None and e.key is None)

    @property
    def keys(self) -> tuple[tuple[int, int], ...]:
        """The epoch of each of `differences`, and of the state that it is a difference to."""
        return tuple((e.epoch, e.key) for e in self.epochs if e.key is not None)

    @property
    def differences(self) -> tuple[JournalEpoch, ...]:
        """The epochs whose state is kept as a difference to another one."""
        return tuple(e for e in self.epochs if e.key is not None)

    def frames(self, epochs: Iterable[JournalEpoch]) -> Iterator[bytes]:
        """The frame of each of some epochs, one at a time."""
        with self.path.open("rb") as file:
            for epoch in epochs:
                file.seek(epoch.frame_offset)
                yield file.read(epoch.frame_length)


def read_journal(path: Path) -> Journal | None:
    """The records of a journal that count, or None where not even the first one does.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        records = _records(file)
        first = next(records, None)
        if first is None or first.kind != _RUN:
            return None
        epochs: list[JournalEpoch] = []
        num_bytes = first.end
        for record in records:
            if record.kind != _EPOCH or record.text["epoch"] != len(epochs):
                break
            epochs.append(_parse_epoch(record))
            num_bytes = record.end
    return Journal(path, _parse_run(first.text), tuple(epochs), num_bytes)


def count_epochs(path: Path) -> int:
    """How many epochs a journal holds, from its headers alone; 0 where there is no journal.

    It reads 64 bytes a record, so that watching is cheap; `read_journal` tells what counts.
    """
    try:
        with path.open("rb") as file:
            return sum(header.kind == _EPOCH for header in _headers(file))
    except FileNotFoundError:
        return 0


def peek_journal(path: Path) -> JournalPeek:
    """How far a journal is, from its headers and its last record's text; nothing is checked.

    Where there is no journal, there are no epochs.
    """
    try:
        with path.open("rb") as file:
            epochs = [header for header in _headers(file) if header.kind == _EPOCH]
            if not epochs:
                return JournalPeek(0, {}, {})
            file.seek(epochs[-1].text_offset)
            text = json.loads(file.read(epochs[-1].frame_offset - epochs[-1].text_offset))
    except (FileNotFoundError, ValueError):  # it is gone, or torn just now
        return JournalPeek(0, {}, {})
    return JournalPeek(len(epochs), text["metrics"], text["environment"])


def open_journal(path: Path, run: JournalRun) -> Journal:
    """The journal of a run, made or recovered: what does not count is cut off the file.

    Raises:
        DamagedFileError: the journal belongs to another run.
    """
    journal = read_journal(path) if path.exists() else None
    if journal is None:
        with path.open("wb") as file:
            num_bytes = _append(file.fileno(), _RUN, _run_text(run), b"")
        sync_folder(path.parent)
        return Journal(path, run, (), num_bytes)
    if journal.run != run:
        raise DamagedFileError(
            f"{path} is the journal of run {journal.run.number} of plan {journal.run.plan[:12]}, "
            f"not of run {run.number} of plan {run.plan[:12]}"
        )
    return cut_journal(journal, num_epochs=len(journal.epochs))


def cut_journal(journal: Journal, *, num_epochs: int) -> Journal:
    """The journal with only its first ``num_epochs`` epochs, in the file too."""
    dropped = journal.epochs[num_epochs:]
    num_bytes = dropped[0].offset if dropped else journal.num_bytes
    if journal.path.stat().st_size != num_bytes:
        with journal.path.open("r+b") as file:
            file.truncate(num_bytes)
            os.fsync(file.fileno())
    return Journal(journal.path, journal.run, journal.epochs[:num_epochs], num_bytes)


def append_epoch(
    path: Path,
    *,
    epoch: int,
    metrics: Mapping[str, float],
    environment: Mapping[str, Any],
    num_batches_tracked: int | None,
    frame: bytes,
    key: int | None = None,
    step_frames: Sequence[StepFrame] = (),
) -> None:
    """Add one epoch; it has reached the disk when this returns.

    The caller holds the run: nobody else appends to its journal. A record that could not be
    written whole is cut off again. Arguments as in `JournalEpoch`; ``frame`` is empty where no
    state is kept, and ``step_frames`` are of the states within the epoch.

    Raises:
        ValueError: a metric is unknown, so that no file would have a place for it.
    """
    if unknown := sorted(metrics.keys() - METRICS.keys()):
        raise ValueError(f"unknown metrics {', '.join(unknown)}: metrics are {', '.join(METRICS)}")
    text: dict[str, Any] = {
        "epoch": epoch,
        "metrics": dict(metrics),
        "environment": dict(environment),
        "num_batches_tracked": num_batches_tracked,
    }
    if key is not None:
        text["key"] = key
    if step_frames:
        text["steps"] = [[s.step, s.num_batches_tracked, len(s.frame)] for s in step_frames]
    with path.open("r+b", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            _append(file.fileno(), _EPOCH, text, b"".join((frame, *(s.frame for s in step_frames))))
        except BaseException:
            file.truncate(before)
            raise


def _append(descriptor: int, kind: int, text: Mapping[str, Any], frame: bytes) -> int:
    """Write one record and have it reach the disk; returns its number of bytes."""
    body = json.dumps(text, sort_keys=True).encode()
    checksum = codec.crc32c(frame, codec.crc32c(body))
    header = _HEADER.pack(_MAGIC, kind, 0, len(body), len(frame), checksum, bytes(24))
    header += _OWN_CHECKSUM.pack(codec.crc32c(header))
    data = memoryview(header + body + frame)
    left = data
    while left:
        left = left[os.write(descriptor, left) :]
    os.fdatasync(descriptor)
    return len(data)


class _Header(NamedTuple):
    """What a record's header says, and where the record lies."""

    kind: int
    checksum: int
    offset: int
    text_offset: int
    frame_offset: int
    end: int


class _Record(NamedTuple):
    """Where a record lies in the file, and its text."""

    kind: int
    text: dict[str, Any]
    offset: int
    frame_offset: int
    end: int


def _headers(file: BinaryIO) -> Iterator[_Header]:
    """Each record's header, up to the first one that is torn or whose record is cut short."""
    size = os.fstat(file.fileno()).st_size
    offset = 0
    while True:
        file.seek(offset)
        header = file.read(_HEADER_BYTES)
        if len(header) < _HEADER_BYTES:
            return
        magic, kind, _, text_bytes, frame_bytes, checksum, _ = _HEADER.unpack_from(header)
        (own,) = _OWN_CHECKSUM.unpack_from(header, _HEADER.size)
        if magic != _MAGIC or own != codec.crc32c(header[: _HEADER.size]):
            return
        text_offset = offset + _HEADER_BYTES
        frame_offset = text_offset + text_bytes
        end = frame_offset + frame_bytes
        if text_bytes > _MAX_TEXT_BYTES or end > size:
            return
        yield _Header(kind, checksum, offset, text_offset, frame_offset, end)
        offset = end


def _records(file: BinaryIO) -> Iterator[_Record]:
    """Each record up to the first bad one."""
    for header in _headers(file):
        file.seek(header.text_offset)
        body = file.read(header.frame_offset - header.text_offset)
        running = codec.crc32c(body)
        for start in range(header.frame_offset, header.end, _BLOCK_BYTES):
            running = codec.crc32c(file.read(min(_BLOCK_BYTES, header.end - start)), running)
        if running != header.checksum:
            return
        yield _Record(header.kind, json.loads(body), header.offset, header.frame_offset, header.end)


def _run_text(run: JournalRun) -> dict[str, Any]:
    return {
        "number": run.number,
        "genotype": run.genotype,
        "seed": run.seed,
        "plan": run.plan,
        "num_parameters": run.num_parameters,
        "names": run.tensors.names,
        "shapes": run.tensors.shapes,
    }


def _parse_epoch(record: _Record) -> JournalEpoch:
    steps: list[JournalStep] = []
    stored = record.text.pop("steps", [])
    offset = record.end - sum(length for _, _, length in stored)
    frame_length = offset - record.frame_offset
    for step, num_batches_tracked, length in stored:
        steps.append(JournalStep(step, num_batches_tracked, offset, length))
        offset += length
    return JournalEpoch(
        **record.text,
        offset=record.offset,
        frame_offset=record.frame_offset,
        frame_length=frame_length,
        steps=tuple(steps),
    )


def _parse_run(text: dict[str, Any]) -> JournalRun:
    names = tuple(text.pop("names"))
    shapes = tuple(tuple(shape) for shape in text.pop("shapes"))
    return JournalRun(**text, tensors=TensorTable(names, shapes))
